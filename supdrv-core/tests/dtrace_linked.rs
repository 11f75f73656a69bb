//! The bridge to a DTrace that the linker finds: the six functions get what DTrace's own prototypes say.

mod tracer_support;
mod vtg_samples;

use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr::null;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use supdrv_core::abi::status::*;
use supdrv_core::mock::{Host, MockOs};
use supdrv_core::os::{Errno, SessionKind};
use supdrv_core::tracer::dtrace::linked::{Kernel, Linked};
use supdrv_core::tracer::dtrace::{HostAttribute, ProviderOps, Registration};
use tracer_support::KernelObject;
use vtg_samples::named;

/// One at a time: DTrace is global.
static ALONE: Mutex<()> = Mutex::new(());
/// The machine whose preemption the bridge's lock disables.
static MACHINE: Mutex<Option<MockOs>> = Mutex::new(None);
static CALLS: Mutex<Vec<String>> = Mutex::new(Vec::new());
/// What the next registration answers.
static ERRNO: AtomicI32 = AtomicI32::new(0);
/// Refusals of the next attempts to unregister.
static BUSY: AtomicI32 = AtomicI32::new(0);
static OPS: AtomicUsize = AtomicUsize::new(0);
static ARG: AtomicUsize = AtomicUsize::new(0);

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn told(call: String) {
    locked(&CALLS).push(call);
}

fn calls() -> Vec<String> {
    std::mem::take(&mut *locked(&CALLS))
}

unsafe fn text(text: *const c_char) -> String {
    // SAFETY: DTrace's arguments are strings.
    unsafe { CStr::from_ptr(text) }.to_str().unwrap().to_owned()
}

#[unsafe(no_mangle)]
unsafe extern "C" fn dtrace_register(
    name: *const c_char,
    attributes: *const [HostAttribute; 5],
    privilege: u32,
    credentials: *mut c_void,
    ops: *const ProviderOps,
    arg: *mut c_void,
    id: *mut usize,
) -> c_int {
    assert!(credentials.is_null());
    // SAFETY: as DTrace gets them.
    unsafe { told(format!("register {} {:?} {privilege}", text(name), *attributes)) };
    let errno = ERRNO.swap(0, Ordering::SeqCst);
    if errno == 0 {
        OPS.store(ops as usize, Ordering::SeqCst);
        ARG.store(arg as usize, Ordering::SeqCst);
        // SAFETY: writable.
        unsafe { id.write(0x77) };
    }
    errno
}

#[unsafe(no_mangle)]
extern "C" fn dtrace_invalidate(id: usize) {
    told(format!("invalidate {id:#x}"));
}

#[unsafe(no_mangle)]
extern "C" fn dtrace_unregister(id: usize) -> c_int {
    told(format!("unregister {id:#x}"));
    if BUSY.load(Ordering::SeqCst) > 0 {
        BUSY.fetch_sub(1, Ordering::SeqCst);
        return 16;
    }
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn dtrace_probe_create(
    provider: usize,
    module: *const c_char,
    function: *const c_char,
    name: *const c_char,
    frames: c_int,
    arg: *mut c_void,
) -> u32 {
    // SAFETY: as DTrace gets them.
    unsafe {
        told(format!(
            "create {provider:#x} {}:{}:{} {frames} {arg:?}",
            text(module),
            text(function),
            text(name)
        ));
    }
    5 + arg as u32
}

#[unsafe(no_mangle)]
extern "C" fn dtrace_probe_lookup(
    _provider: usize,
    _module: *const c_char,
    _function: *const c_char,
    _name: *const c_char,
) -> u32 {
    0
}

#[unsafe(no_mangle)]
extern "C" fn dtrace_probe(id: u32, a0: u64, a1: u64, a2: u64, a3: u64, a4: u64) {
    told(format!("probe {id} {:?}", [a0, a1, a2, a3, a4]));
}

struct Host64;

impl Kernel for Host64 {
    type Os = MockOs;
    const ERRNO: Errno = Errno::Solaris;

    fn os() -> MockOs {
        locked(&MACHINE).clone().unwrap()
    }

    fn stack_end(from: usize) -> usize {
        from.next_multiple_of(4096)
    }
}

static BRIDGE: Registration = Registration::new::<Linked<Host64>>();

struct Setup {
    os: MockOs,
    _alone: MutexGuard<'static, ()>,
}

impl Setup {
    fn new() -> Self {
        let alone = locked(&ALONE);
        let os = MockOs::new();
        os.set_native_tracer(BRIDGE.as_tracer().as_ptr() as usize);
        *locked(&MACHINE) = Some(os.clone());
        calls();
        Self { os, _alone: alone }
    }
}

impl Drop for Setup {
    fn drop(&mut self) {
        *locked(&MACHINE) = None;
    }
}

#[test]
fn a_provider_lives_in_dtrace() {
    let setup = Setup::new();
    let host = Host::on(&setup.os).unwrap();
    let driver = host.open_as(SessionKind::Kernel).unwrap();
    let object = KernelObject::place(&named("k64-valid"));
    object.register_driver(&driver).unwrap();
    let attributes = "[[5, 5, 5], [1, 1, 0], [1, 1, 0], [5, 5, 5], [5, 5, 5]]";
    assert_eq!(calls(), [format!("register vbxtest {attributes} 1")]);
    // SAFETY: the table that was registered.
    let ops = unsafe { &*(OPS.load(Ordering::SeqCst) as *const ProviderOps) };
    let arg = ARG.load(Ordering::SeqCst) as *mut c_void;
    // SAFETY: as DTrace calls them.
    unsafe {
        ops.provide.unwrap()(arg, null());
        assert_eq!(ops.enable.unwrap()(arg, 6, std::ptr::without_provenance_mut(1)), 0);
    }
    assert_eq!(
        calls(),
        [
            "create 0x77 smpmod.r0:MyFuncOne:probe-one 1 0x0",
            "create 0x77 smpmod.r0:SomeClass::myFuncTwo:probe-two 1 0x1",
            "create 0x77 smpmod.r0:MyFuncOne:probe-two 1 0x2"
        ]
    );
    assert_eq!(object.word(0x124), 1, "enabled");
    // SAFETY: the tracer's callback, a location and its arguments.
    unsafe {
        let fire = std::mem::transmute::<usize, unsafe extern "C" fn(usize, u64, u64, u64, u64, u64)>(
            BRIDGE.as_tracer().as_ref().fire_kernel,
        );
        fire(object.header + 0x160, 1, 2, 3, 4, 5);
    }
    assert_eq!(calls(), ["probe 6 [1, 2, 3, 4, 5]"]);
    // Busy twice: when it is deregistered, and right after.
    BUSY.store(2, Ordering::SeqCst);
    host.driver().tracer().deregister_driver(driver.session());
    assert_eq!(calls(), ["invalidate 0x77", "unregister 0x77", "unregister 0x77"]);
    assert_eq!(host.driver().tracer().counters().zombies, 1);
    driver.close();
    drop(host);
    assert_eq!(calls(), ["unregister 0x77"], "the last chance is the driver's end");
}

#[test]
fn what_dtrace_refuses_is_told_by_its_errno() {
    let setup = Setup::new();
    let host = Host::on(&setup.os).unwrap();
    let driver = host.open_as(SessionKind::Kernel).unwrap();
    let object = KernelObject::place(&named("k64-valid"));
    for (errno, status) in [
        (22, VERR_INVALID_PARAMETER),
        (12, VERR_NO_MEMORY),
        (16, VERR_RESOURCE_BUSY),
        (17, VERR_ALREADY_EXISTS),
        (9999, VERR_UNRESOLVED_ERROR),
    ] {
        ERRNO.store(errno, Ordering::SeqCst);
        assert_eq!(object.register_driver(&driver), Err(status), "errno {errno}");
    }
    assert!(host.driver().tracer().counters().providers == 0);
}
