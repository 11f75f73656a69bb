//! The host whose functions have the names of DTrace and are found by the kernel's linker: Solaris and FreeBSD.

use core::ffi::{CStr, c_char, c_int, c_void};
use core::marker::PhantomData;
use core::ptr::{NonNull, null_mut};
use core::sync::atomic::AtomicUsize;

use super::{DtraceHost, HostAttribute, ProviderOps};
use crate::abi::status::Result;
use crate::os::{Errno, OsIdentity, SupdrvOs};

/// What such a kernel has besides DTrace.
pub trait Kernel: 'static {
    /// The shim's type.
    type Os: SupdrvOs;
    /// Its `errno` numbers.
    const ERRNO: Errno;

    /// The shim.
    fn os() -> Self::Os;

    /// As [`DtraceHost::stack_end`].
    fn stack_end(from: usize) -> usize;
}

/// DTrace in such a kernel.
#[derive(Debug)]
pub struct Linked<K>(PhantomData<K>);

/// There is one DTrace in a kernel, and one bridge to it.
static LOCK: spin::Mutex<()> = spin::Mutex::new(());

/// The privilege that tracing the kernel takes.
const PRIV_KERNEL: u32 = 1;

unsafe extern "C" {
    fn dtrace_register(
        name: *const c_char,
        attributes: *const HostAttribute,
        privilege: u32,
        credentials: *mut c_void,
        ops: *const ProviderOps,
        arg: *mut c_void,
        id: *mut usize,
    ) -> c_int;
    fn dtrace_invalidate(id: usize);
    fn dtrace_unregister(id: usize) -> c_int;
    fn dtrace_probe_create(
        provider: usize,
        module: *const c_char,
        function: *const c_char,
        name: *const c_char,
        frames: c_int,
        arg: *mut c_void,
    ) -> u32;
    fn dtrace_probe_lookup(
        provider: usize,
        module: *const c_char,
        function: *const c_char,
        name: *const c_char,
    ) -> u32;
    fn dtrace_probe(id: u32, a0: u64, a1: u64, a2: u64, a3: u64, a4: u64);
}

// SAFETY: the functions of these names are DTrace's.
unsafe impl<K: Kernel> DtraceHost for Linked<K> {
    fn locked(what: impl FnOnce()) {
        let os = K::os();
        // Whoever holds the lock goes on running; what is done under it is short and calls nobody.
        let state = os.preempt_disable();
        {
            let _lock = LOCK.lock();
            what();
        }
        // SAFETY: disabled above, by this thread.
        unsafe { os.preempt_restore(state) };
    }

    fn stack_end(from: usize) -> usize {
        K::stack_end(from)
    }

    fn register(
        name: &CStr,
        attributes: &[HostAttribute; 5],
        ops: &'static ProviderOps,
        arg: NonNull<c_void>,
        id: &AtomicUsize,
    ) -> Result<()> {
        let (name, attributes, id) = (name.as_ptr(), attributes.as_ptr(), id.as_ptr());
        // SAFETY: a string, five attributes, a table and a provider that outlive the registration; the id goes where the provider keeps it.
        let errno =
            unsafe { dtrace_register(name, attributes, PRIV_KERNEL, null_mut(), ops, arg.as_ptr(), id) };
        match errno {
            0 => Ok(()),
            errno => Err(crate::ring0::errno::status_of(K::ERRNO, errno.unsigned_abs())),
        }
    }

    fn invalidate(id: usize) {
        // SAFETY: a provider that was registered.
        unsafe { dtrace_invalidate(id) };
    }

    fn unregister(id: usize) -> bool {
        // SAFETY: a provider that was registered.
        unsafe { dtrace_unregister(id) == 0 }
    }

    fn probe_create(
        provider: usize,
        module: &CStr,
        function: &CStr,
        name: &CStr,
        frames: c_int,
        arg: usize,
    ) -> u32 {
        let arg = null_mut::<c_void>().with_addr(arg);
        // SAFETY: strings; a provider that was registered.
        unsafe {
            dtrace_probe_create(provider, module.as_ptr(), function.as_ptr(), name.as_ptr(), frames, arg)
        }
    }

    fn probe_lookup(provider: usize, module: &CStr, function: &CStr, name: &CStr) -> u32 {
        // SAFETY: strings; a provider that was registered.
        unsafe { dtrace_probe_lookup(provider, module.as_ptr(), function.as_ptr(), name.as_ptr()) }
    }

    unsafe extern "C" fn probe(id: u32, a0: u64, a1: u64, a2: u64, a3: u64, a4: u64) {
        // SAFETY: condition of the function.
        unsafe { dtrace_probe(id, a0, a1, a2, a3, a4) };
    }
}
