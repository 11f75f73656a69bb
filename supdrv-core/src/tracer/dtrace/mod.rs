//! A host's own DTrace as the tracer: every provider becomes a provider of the host's kernel.
//!
//! The bridge is a tracer like any other: [`Registration`] is its record, which a system offers as
//! [`OsPolicy::native_tracer`](crate::os::OsPolicy::native_tracer). The host's functions are a [`DtraceHost`]; its calls into the bridge are the functions of
//! [`ProviderOps`].
//!
//! # Locks
//!
//! The host holds locks of its own around its calls, and takes the same ones when it is called: none of the callbacks may take the tracer
//! mutex. One word in the tracer's part of a provider, the *gone* flag, keeps them away from objects that are about to go: it is set, under a
//! lock of the bridge's own that is never held across a call of the host, **before** the host is asked to unregister.
//!
//! # Hosts
//!
//! The bridge is for 64-bit kernels with the System V calling convention. [`linked`] is the host whose functions the kernel's linker finds; others
//! implement [`DtraceHost`] by themselves.

mod fire;
pub mod linked;
mod names;
mod provider;

use core::ffi::{CStr, c_int, c_void};
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU8, AtomicU32, AtomicUsize, Ordering};

use fire::{fire_kernel, fire_user};
use names::{NAME_BYTES, Text, function_name};
use provider::Provider;

use crate::abi::published::SessionView;
use crate::abi::status::{Result, VERR_INTERNAL_ERROR_3, VERR_NOT_SUPPORTED, VERR_TRY_AGAIN, VINF_SUCCESS};
use crate::abi::tracer::{ProviderCore, TRACER_MAGIC, TRACER_VERSION, TracerReg};
use crate::abi::vtg::{Attribute, LOCATION_ENABLED, ProviderDesc};

/// Bytes of a function's name that leave room for a suffix.
const FUNCTION_BYTES: usize = NAME_BYTES - 1 - 16;
/// Frames between a probed function and the host: the routine that fires, if [`DtraceHost::probe`] has none.
const FRAMES: c_int = 1;
/// Attempts to find a name that isn't taken.
const MAX_DUPLICATES: u32 = 127;

/// Stability of something, as the host numbers it: name, data, class.
pub type HostAttribute = [u8; 3];

/// Describes an argument to the host.
#[derive(Debug)]
#[repr(C)]
pub struct ArgDescription {
    /// The probe.
    pub id: u32,
    /// Number of the argument; −1 if there is none.
    pub index: c_int,
    /// Not used.
    pub mapping: c_int,
    /// Name of its type.
    pub native: [u8; NAME_BYTES],
    /// Not used.
    pub translated: [u8; NAME_BYTES],
}

/// What the host calls, in its order. `null` entries are left out.
#[derive(Debug)]
#[repr(C)]
pub struct ProviderOps {
    /// Asks for probes; class T.
    pub provide: Option<unsafe extern "C" fn(*mut c_void, *const c_void)>,
    /// Not used.
    pub provide_module: usize,
    /// Enables a probe; class T.
    pub enable: Option<unsafe extern "C" fn(*mut c_void, u32, *mut c_void) -> c_int>,
    /// Disables it; class T.
    pub disable: Option<unsafe extern "C" fn(*mut c_void, u32, *mut c_void)>,
    /// Not used.
    pub suspend: usize,
    /// Not used.
    pub resume: usize,
    /// Describes an argument; class T.
    pub arg_description: Option<unsafe extern "C" fn(*mut c_void, u32, *mut c_void, *mut ArgDescription)>,
    /// Value of an argument beyond the fifth; class I.
    pub arg_value: Option<unsafe extern "C" fn(*mut c_void, u32, *mut c_void, c_int, c_int) -> u64>,
    /// Not used.
    pub user_mode: usize,
    /// A probe goes; class T.
    pub destroy: Option<unsafe extern "C" fn(*mut c_void, u32, *mut c_void)>,
}

/// The host's functions; they are global in its kernel.
///
/// # Safety
/// They do what the functions of these names do in DTrace, and call the table's functions with the arguments that they were given.
pub unsafe trait DtraceHost: 'static {
    /// Does something under a lock of the bridge for this host, which is short and calls nobody. Class T.
    fn locked(what: impl FnOnce());

    /// The address behind the current stack, in which `from` is; if the stack isn't known, one up to which memory is certainly there, such as the
    /// end of the page. Class I.
    fn stack_end(from: usize) -> usize;

    /// `dtrace_register`, for the kernel's privilege and nobody's credentials. The id must be stored before `provide` can be called.
    ///
    /// # Errors
    /// The status of the host's errno.
    fn register(
        name: &CStr,
        attributes: &[HostAttribute; 5],
        ops: &'static ProviderOps,
        arg: NonNull<c_void>,
        id: &AtomicUsize,
    ) -> Result<()>;

    /// `dtrace_invalidate`.
    fn invalidate(id: usize);

    /// `dtrace_unregister`; `false` if a probe is enabled.
    fn unregister(id: usize) -> bool;

    /// `dtrace_probe_create`.
    fn probe_create(
        provider: usize,
        module: &CStr,
        function: &CStr,
        name: &CStr,
        frames: c_int,
        arg: usize,
    ) -> u32;

    /// `dtrace_probe_lookup`; 0 if there is none.
    fn probe_lookup(provider: usize, module: &CStr, function: &CStr, name: &CStr) -> u32;

    /// `dtrace_probe`; without a frame of its own, thus a jump. Class I.
    ///
    /// # Safety
    /// The id of a probe that the host made.
    unsafe extern "C" fn probe(id: u32, a0: u64, a1: u64, a2: u64, a3: u64, a4: u64);
}

/// The bridge's part of a provider core.
#[repr(C)]
struct Data {
    id: AtomicUsize,
    probes: AtomicU32,
    gone: AtomicU8,
}

const _: () = assert!(size_of::<Data>() <= size_of::<crate::abi::tracer::TracerData>());

/// The record of the bridge to a host, for the system to keep in a static: a [`TracerReg`] made of pointers.
#[derive(Debug)]
#[repr(C)]
pub struct Registration {
    magic: u32,
    version: u32,
    functions: [*const (); 8],
    end_magic: usize,
}

// SAFETY: pointers to functions, which never change.
unsafe impl Sync for Registration {}

const _: () = assert!(
    size_of::<Registration>() == size_of::<TracerReg>()
        && core::mem::offset_of!(TracerReg, fire_kernel) == core::mem::offset_of!(Registration, functions)
        && core::mem::offset_of!(TracerReg, end_magic) == core::mem::offset_of!(Registration, end_magic)
);

impl Registration {
    /// The bridge to a host.
    #[must_use]
    pub const fn new<H: DtraceHost>() -> Self {
        let functions = [
            fire_kernel::<H> as *const (),
            fire_user::<H> as *const (),
            open as *const (),
            ioctl as *const (),
            close as *const (),
            provider_register::<H> as *const (),
            provider_deregister::<H> as *const (),
            provider_deregister_zombie::<H> as *const (),
        ];
        Self { magic: TRACER_MAGIC, version: TRACER_VERSION, functions, end_magic: TRACER_MAGIC as usize }
    }

    /// As [`OsPolicy::native_tracer`](crate::os::OsPolicy::native_tracer) returns it.
    #[must_use]
    pub fn as_tracer(&'static self) -> NonNull<TracerReg> {
        NonNull::from(self).cast()
    }
}

struct Table<H>(core::marker::PhantomData<H>);

impl<H: DtraceHost> Table<H> {
    const OPS: &'static ProviderOps = &ProviderOps {
        provide: Some(provide::<H>),
        provide_module: 0,
        enable: Some(enable::<H>),
        disable: Some(disable::<H>),
        suspend: 0,
        resume: 0,
        arg_description: Some(arg_description::<H>),
        arg_value: Some(arg_value::<H>),
        user_mode: 0,
        destroy: Some(destroy::<H>),
    };
}

fn data<'a>(core: *mut c_void) -> &'a Data {
    // SAFETY: a provider's core, whose first part is the tracer's own; it was zero when the bridge got it.
    unsafe { &*core.cast::<Data>() }
}

fn attribute(attribute: Attribute) -> HostAttribute {
    [attribute.code, attribute.data, attribute.class].map(|value| value.wrapping_sub(1))
}

fn rc(result: Result<()>) -> i32 {
    crate::abi::Status::of(result).0
}

unsafe extern "C" fn open(
    _reg: *const TracerReg,
    _session: *mut SessionView,
    _cookie: u32,
    _arg: usize,
    data: *mut usize,
) -> i32 {
    // SAFETY: the driver's variable.
    unsafe { data.write(0) };
    VERR_NOT_SUPPORTED.0
}

unsafe extern "C" fn ioctl(
    _reg: *const TracerReg,
    _session: *mut SessionView,
    _data: usize,
    _command: usize,
    _arg: usize,
    _result: *mut i32,
) -> i32 {
    VERR_NOT_SUPPORTED.0
}

unsafe extern "C" fn close(_reg: *const TracerReg, _session: *mut SessionView, _data: usize) {}

unsafe extern "C" fn provider_register<H: DtraceHost>(
    _reg: *const TracerReg,
    core: *mut ProviderCore,
) -> i32 {
    let Some(arg) = NonNull::new(core.cast::<c_void>()) else { return VERR_INTERNAL_ERROR_3.0 };
    // SAFETY: the driver registers a provider whose object is there.
    let Some(provider) = (unsafe { Provider::new(arg.as_ptr()) }) else { return VERR_INTERNAL_ERROR_3.0 };
    let data = data(arg.as_ptr());
    let desc: Option<ProviderDesc> = provider.record(provider.header.providers_offset, provider.index.into());
    let (Some(desc), 0) = (desc, data.id.load(Ordering::Acquire)) else { return VERR_INTERNAL_ERROR_3.0 };
    let attributes =
        [desc.attr_self, desc.attr_modules, desc.attr_functions, desc.attr_names, desc.attr_args];
    let result = H::register(
        provider.name(provider.core.name),
        &attributes.map(attribute),
        Table::<H>::OPS,
        arg,
        &data.id,
    );
    if result.is_err() {
        data.id.store(0, Ordering::Release);
    }
    rc(result)
}

fn forget<H: DtraceHost>(core: *mut ProviderCore, invalidate: bool) -> i32 {
    let data = data(core.cast());
    let id = data.id.load(Ordering::Acquire);
    if id == 0 {
        return VERR_INTERNAL_ERROR_3.0;
    }
    // Whoever holds the lock still has the object; nobody gets at it afterwards.
    H::locked(|| data.gone.store(1, Ordering::Release));
    if invalidate {
        H::invalidate(id);
    }
    if !H::unregister(id) {
        return VERR_TRY_AGAIN.0;
    }
    data.id.store(0, Ordering::Release);
    data.gone.store(0, Ordering::Release);
    VINF_SUCCESS.0
}

unsafe extern "C" fn provider_deregister<H: DtraceHost>(
    _reg: *const TracerReg,
    core: *mut ProviderCore,
) -> i32 {
    forget::<H>(core, true)
}

unsafe extern "C" fn provider_deregister_zombie<H: DtraceHost>(
    _reg: *const TracerReg,
    core: *mut ProviderCore,
) -> i32 {
    forget::<H>(core, false)
}

unsafe extern "C" fn provide<H: DtraceHost>(arg: *mut c_void, desc: *const c_void) {
    let data = data(arg);
    // The host serialises this with unregistering by its provider lock, which is asked for after the flag was set.
    if !desc.is_null() || data.gone.load(Ordering::Acquire) != 0 {
        return;
    }
    // SAFETY: registered, and not gone.
    let Some(provider) = (unsafe { Provider::new(arg) }) else { return };
    let id = data.id.load(Ordering::Acquire);
    let module = provider.name(provider.core.module_name);
    for index in 0..provider.location_count() {
        let Some(location) = provider.location(index) else { continue };
        if provider.id(index).load(Ordering::Acquire) != 0 {
            continue;
        }
        let name = provider.string(location.probe.name);
        let base = function_name(provider.name(location.record.function).to_bytes());
        let free = (0..=MAX_DUPLICATES).find_map(|attempt| {
            let mut text = Text::new(base, FUNCTION_BYTES);
            if attempt > 0 {
                text.push_number(location.record.line & !LOCATION_ENABLED);
            }
            if attempt > 1 {
                text.push_number(attempt);
            }
            (H::probe_lookup(id, module, text.as_c(), name) == 0).then_some(text)
        });
        let Some(function) = free else { continue };
        let probe = H::probe_create(id, module, function.as_c(), name, FRAMES, index);
        provider.id(index).store(probe, Ordering::Release);
        data.probes.fetch_add(1, Ordering::AcqRel);
    }
}

/// Does something with a provider that isn't gone, and can't go meanwhile.
fn with_object<H: DtraceHost>(arg: *mut c_void, what: impl FnOnce(&Provider)) {
    H::locked(|| {
        if data(arg).gone.load(Ordering::Acquire) != 0 {
            return;
        }
        // SAFETY: registered, and not gone while the lock is held.
        if let Some(provider) = unsafe { Provider::new(arg) } {
            what(&provider);
        }
    });
}

unsafe extern "C" fn enable<H: DtraceHost>(arg: *mut c_void, _id: u32, index: *mut c_void) -> c_int {
    with_object::<H>(arg, |provider| provider.set_enabled(index as usize, true));
    0
}

unsafe extern "C" fn disable<H: DtraceHost>(arg: *mut c_void, _id: u32, index: *mut c_void) {
    with_object::<H>(arg, |provider| provider.set_enabled(index as usize, false));
}

unsafe extern "C" fn arg_description<H: DtraceHost>(
    arg: *mut c_void,
    _id: u32,
    index: *mut c_void,
    description: *mut ArgDescription,
) {
    // SAFETY: the host's own.
    let description = unsafe { &mut *description };
    let number = usize::try_from(description.index).ok();
    let wanted = description.index;
    description.index = -1;
    with_object::<H>(arg, |provider| {
        let Some(location) = provider.location(index as usize) else { return };
        let argument = number.and_then(|number| provider.argument(&location, number));
        let Some(argument) = argument else { return };
        let text = provider.string(argument.type_name).to_bytes_with_nul();
        if let Some(to) = description.native.get_mut(..text.len()) {
            for (to, from) in to.iter_mut().zip(text) {
                *to = *from;
            }
            description.index = wanted;
        }
    });
}

unsafe extern "C" fn arg_value<H: DtraceHost>(
    arg: *mut c_void,
    _id: u32,
    _index: *mut c_void,
    number: c_int,
    _frames: c_int,
) -> u64 {
    if data(arg).gone.load(Ordering::Acquire) != 0 {
        return u64::MAX;
    }
    usize::try_from(number).ok().and_then(fire::argument::<H>).unwrap_or(u64::MAX)
}

unsafe extern "C" fn destroy<H: DtraceHost>(arg: *mut c_void, _id: u32, index: *mut c_void) {
    data(arg).probes.fetch_sub(1, Ordering::AcqRel);
    with_object::<H>(arg, |provider| {
        if provider.location(index as usize).is_some() {
            provider.id(index as usize).store(0, Ordering::Release);
        }
    });
}
