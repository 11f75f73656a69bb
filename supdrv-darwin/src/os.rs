//! Heap, locks, CPUs, identity, instructions, VT-x, policy and log.

use core::alloc::Layout;
use core::ffi::{c_int, c_void};
use core::ptr::{NonNull, null_mut};
use core::sync::atomic::{AtomicBool, Ordering};

use supdrv_core::abi::ioctl::Encoding;
use supdrv_core::abi::status::{
    Result, VERR_CPU_NOT_FOUND, VERR_NO_MEMORY, VERR_NOT_SUPPORTED, VERR_UNRESOLVED_ERROR,
    VERR_VMX_IN_VMX_ROOT_MODE, VERR_VMX_NO_VMX,
};
use supdrv_core::os::{
    CpuSet, IrqState, LockClass, MAX_CPUS, MpEventCallback, MpWorker, NIL_ID, OsArch, OsCpu, OsHeap,
    OsHwVirt, OsIdentity, OsLock, OsLog, OsPolicy, PAGE_SIZE, PreemptState, SessionKind,
};
use supdrv_core::shim::calls::CrossCall;

use crate::base;
use crate::kernel::{self, Opaque};

/// The kernel. Everything it needs to know it asks the kernel.
#[derive(Clone, Copy, Debug, Default)]
pub struct Darwin;

/// No allocation can be larger: the kernel panics over sizes that it can't believe.
const MAX_ALLOCATION: usize = 1 << 30;
/// Larger ones are made of whole pages.
const LARGE: usize = 4 << 20;
/// The alignment that every allocation has.
const ALIGN: usize = 16;

/// Where a block comes from: the alignment to ask for, or none in particular.
fn aligned(layout: Layout) -> Option<usize> {
    let align = if layout.size() > LARGE { PAGE_SIZE } else { layout.align() };
    (align > ALIGN).then_some(align)
}

impl OsHeap for Darwin {
    fn heap_alloc_zeroed(&self, layout: Layout) -> Option<NonNull<u8>> {
        if layout.size() > MAX_ALLOCATION {
            return None;
        }
        let memory = match aligned(layout) {
            // SAFETY: a size that isn't 0, and a power of two.
            Some(align) => unsafe { kernel::IOMallocAligned(layout.size(), align) },
            // SAFETY: a size that isn't 0.
            None => unsafe { kernel::IOMalloc(layout.size()) },
        };
        let memory = NonNull::new(memory.cast::<u8>())?;
        // SAFETY: fresh memory of that size.
        unsafe { memory.write_bytes(0, layout.size()) };
        Some(memory)
    }

    unsafe fn heap_free(&self, ptr: NonNull<u8>, layout: Layout) {
        let (memory, bytes) = (ptr.as_ptr().cast(), layout.size());
        match aligned(layout) {
            // SAFETY: allocated like this for the same layout (condition of the function).
            Some(_) => unsafe { kernel::IOFreeAligned(memory, bytes) },
            // SAFETY: as above.
            None => unsafe { kernel::IOFree(memory, bytes) },
        }
    }
}

/// A spin lock.
pub struct SpinLock(NonNull<Opaque>);

// SAFETY: a lock is for sharing.
unsafe impl Send for SpinLock {}
// SAFETY: as above.
unsafe impl Sync for SpinLock {}

impl Drop for SpinLock {
    fn drop(&mut self) {
        // SAFETY: made in `spinlock_create`; nobody holds it.
        unsafe { kernel::lck_spin_free(self.0.as_ptr(), base::group()) };
    }
}

/// A sleeping lock.
pub struct Mutex(NonNull<Opaque>);

// SAFETY: a lock is for sharing.
unsafe impl Send for Mutex {}
// SAFETY: as above.
unsafe impl Sync for Mutex {}

impl Drop for Mutex {
    fn drop(&mut self) {
        // SAFETY: made in `mutex_create`; nobody holds it.
        unsafe { kernel::lck_mtx_free(self.0.as_ptr(), base::group()) };
    }
}

impl OsLock for Darwin {
    type SpinLock = SpinLock;
    type Mutex = Mutex;

    fn spinlock_create(&self, _class: LockClass) -> Result<SpinLock> {
        base::new_spin_lock().map(SpinLock)
    }

    fn spinlock_acquire(&self, lock: &SpinLock) {
        // SAFETY: made in `spinlock_create`.
        unsafe { kernel::lck_spin_lock(lock.0.as_ptr()) };
    }

    unsafe fn spinlock_release(&self, lock: &SpinLock) {
        // SAFETY: condition of the function.
        unsafe { kernel::lck_spin_unlock(lock.0.as_ptr()) };
    }

    fn spinlock_acquire_irq(&self, lock: &SpinLock) -> IrqState {
        let were_on = base::interrupts_off();
        self.spinlock_acquire(lock);
        IrqState(were_on)
    }

    unsafe fn spinlock_release_irq(&self, lock: &SpinLock, state: IrqState) {
        // SAFETY: condition of the function.
        unsafe { self.spinlock_release(lock) };
        base::interrupts_restore(state.0);
    }

    fn spinlock_handle(&self, lock: &SpinLock) -> usize {
        lock.0.as_ptr() as usize
    }

    fn mutex_create(&self, _class: LockClass) -> Result<Mutex> {
        // SAFETY: the group exists from start to stop; default attributes.
        let mutex = unsafe { kernel::lck_mtx_alloc_init(base::group(), null_mut()) };
        NonNull::new(mutex).map(Mutex).ok_or(VERR_NO_MEMORY)
    }

    fn mutex_acquire(&self, mutex: &Mutex) {
        // SAFETY: made in `mutex_create`.
        unsafe { kernel::lck_mtx_lock(mutex.0.as_ptr()) };
    }

    unsafe fn mutex_release(&self, mutex: &Mutex) {
        // SAFETY: condition of the function.
        unsafe { kernel::lck_mtx_unlock(mutex.0.as_ptr()) };
    }

    fn mutex_handle(&self, mutex: &Mutex) -> usize {
        mutex.0.as_ptr() as usize
    }
}

/// The kernel doesn't tell about CPUs that come and go: there is nothing to register for.
pub struct NoCpuEvents;

/// A call that is for one CPU and goes to all: nothing else can be had.
struct DirectedCall {
    call: CrossCall,
    cpu_id: u32,
    arrived: AtomicBool,
}

unsafe extern "C" fn cross_called(call: *mut c_void) {
    // SAFETY: the argument of a call that waits for this.
    unsafe { CrossCall::run(call, Darwin.cpu_id()) };
}

unsafe extern "C" fn perhaps_called(directed: *mut c_void) {
    // SAFETY: the caller waits for this.
    let directed = unsafe { &*directed.cast::<DirectedCall>() };
    if directed.cpu_id == Darwin.cpu_id() {
        directed.arrived.store(true, Ordering::Relaxed);
        // SAFETY: its own argument; the caller waits for this.
        unsafe { CrossCall::run(directed.call.argument(), directed.cpu_id) };
    }
}

impl OsCpu for Darwin {
    type MpRegistration = NoCpuEvents;

    fn cpu_id(&self) -> u32 {
        kernel::cpu_number().cast_unsigned()
    }

    fn cpu_max_id(&self) -> u32 {
        base::cpu_count().saturating_sub(1)
    }

    fn cpu_present_count(&self) -> usize {
        base::cpu_count() as usize
    }

    fn cpu_possible_set(&self) -> CpuSet {
        self.cpu_online_set()
    }

    fn cpu_online_set(&self) -> CpuSet {
        let mut set = CpuSet::default();
        (0..self.cpu_present_count()).take(MAX_CPUS).for_each(|index| set.insert(index));
        set
    }

    unsafe fn mp_on_all(&self, worker: MpWorker, context: *mut c_void) -> Result<()> {
        let call = CrossCall::new(worker, context);
        // SAFETY: the call outlives the rendezvous, which waits.
        unsafe { kernel::mp_rendezvous_no_intrs(cross_called, call.argument()) };
        Ok(())
    }

    unsafe fn mp_on_cpu(&self, cpu_id: u32, worker: MpWorker, context: *mut c_void) -> Result<()> {
        if cpu_id > self.cpu_max_id() {
            return Err(VERR_CPU_NOT_FOUND);
        }
        let were_on = base::interrupts_off();
        let here = self.cpu_id() == cpu_id;
        if here {
            // SAFETY: the worker may be called with the context (condition of the function).
            unsafe { worker(cpu_id, context) };
        }
        base::interrupts_restore(were_on);
        if here {
            return Ok(());
        }
        let directed =
            DirectedCall { call: CrossCall::new(worker, context), cpu_id, arrived: AtomicBool::new(false) };
        let argument = core::ptr::from_ref(&directed).cast_mut().cast();
        // SAFETY: as in `mp_on_all`.
        unsafe { kernel::mp_rendezvous_no_intrs(perhaps_called, argument) };
        if directed.arrived.load(Ordering::Relaxed) { Ok(()) } else { Err(VERR_CPU_NOT_FOUND) }
    }

    unsafe fn mp_register(&self, _callback: MpEventCallback, _context: *mut c_void) -> Result<NoCpuEvents> {
        Ok(NoCpuEvents)
    }
}

impl OsArch for Darwin {
    #[cfg(not(target_os = "macos"))]
    supdrv_core::glue_arch!(crate::glue);

    fn irq_save(&self) -> usize {
        base::interrupts_off()
    }

    unsafe fn irq_restore(&self, flags: usize) {
        base::interrupts_restore(flags);
    }
}

impl OsIdentity for Darwin {
    /// Sessions need nothing: they end before their process does.
    type SessionExt = ();

    fn session_ext_create(&self, _kind: SessionKind) -> Result<()> {
        Ok(())
    }

    fn real_uid(&self) -> u32 {
        kernel::kauth_getruid()
    }

    /// The kernel only tells for a process structure: whoever opens a session has one and corrects it.
    fn real_gid(&self) -> u32 {
        NIL_ID
    }

    fn process_id(&self) -> u32 {
        kernel::proc_selfpid().cast_unsigned()
    }

    fn process_handle(&self) -> usize {
        kernel::current_task() as usize
    }

    fn thread_handle(&self) -> usize {
        kernel::current_thread() as usize
    }

    fn preempt_disable(&self) -> PreemptState {
        base::pin();
        PreemptState(0)
    }

    unsafe fn preempt_restore(&self, _state: PreemptState) {
        base::unpin();
    }
}

/// The first release with a manager of VT-x: 10.6.
const FIRST_WITH_VMX: c_int = 10;

impl OsHwVirt for Darwin {
    /// The kernel owns VMX operation, on all CPUs at once, and counts its users.
    fn enable_vtx(&self, enable: bool) -> Result<()> {
        if kernel::version_major < FIRST_WITH_VMX {
            return Err(VERR_NOT_SUPPORTED);
        }
        if !enable {
            kernel::host_vmxoff();
            return Ok(());
        }
        match kernel::host_vmxon(0) {
            0 => Ok(()),
            1 => Err(VERR_VMX_NO_VMX),
            2 => Err(VERR_VMX_IN_VMX_ROOT_MODE),
            _ => Err(VERR_UNRESOLVED_ERROR),
        }
    }
}

impl Darwin {
    /// Whether preemption and interrupts are on.
    pub(crate) fn is_preemptible(&self) -> bool {
        kernel::preemption_enabled() != 0 && kernel::ml_get_interrupts_enabled() != 0
    }
}

impl OsLog for Darwin {
    fn log_write(&self, text: &[u8]) {
        // Output takes locks of the kernel.
        if !self.is_preemptible() {
            return;
        }
        let end = if text.ends_with(b"\n") { c"" } else { c"\n" };
        let bytes = c_int::try_from(text.len()).unwrap_or(c_int::MAX);
        // SAFETY: constant formats; the text has that many bytes.
        unsafe { kernel::printf(c"%.*s%s".as_ptr(), bytes, text.as_ptr(), end.as_ptr()) };
    }
}

impl OsPolicy for Darwin {
    const ENCODING: Encoding = Encoding::Bsd;
    const KEEPS_LINK_ADDRESSES: bool = true;

    supdrv_core::ring0_policy!(crate::module);

    /// The drivers of the keyboards that need it are private, and gone from later systems; clients hear of success in any case.
    fn resume_suspended_keyboards(&self) -> Result<()> {
        Ok(())
    }
}
