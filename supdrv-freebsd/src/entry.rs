//! The module's life and its device nodes.
//!
//! The nodes are the last that appears and the first that goes. An open file is a user of the module, from open to the destructor of its
//! private data.

use core::ffi::{CStr, c_int, c_void};
use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, Ordering};

use supdrv_core::abi::idc::IdcHeader;
use supdrv_core::abi::ioctl::Encoding;
use supdrv_core::abi::published::SessionView;
use supdrv_core::abi::requests::HEADER_BYTES;
use supdrv_core::abi::status::VERR_INVALID_PARAMETER;
use supdrv_core::dispatch;
use supdrv_core::dispatch::user::{self, Failure};
use supdrv_core::driver::{Counters, Driver, DriverSlot};
use supdrv_core::idc;
use supdrv_core::os::SessionKind;
use supdrv_core::session::Session;
use supdrv_core::shim::gate::Gate;
use supdrv_core::shim::nodes::{self, ErrorNumbers, NODES};
use supdrv_core::shim::power;

use crate::glue::{self, Caller};
use crate::kernel::{self, IoctlCode, Opaque};
use crate::module::{self, Runtime};
use crate::os::FreeBsd;

/// Lowest priority number that the kernel's event handlers have: any.
const EVENTHANDLER_PRI_ANY: c_int = 10000;
const FREAD_FWRITE: c_int = 3;
const IOC_DIRECTION: u32 = 0xe000_0000;
const IOC_VOID: u32 = 0x2000_0000;
const IOC_INOUT: u32 = 0xc000_0000;

/// An event of the kernel that the driver handles.
struct PowerEvent {
    name: &'static CStr,
    handler: unsafe extern "C" fn(*mut c_void),
}

const POWER_EVENTS: [PowerEvent; 2] = [
    PowerEvent { name: c"power_suspend", handler: suspending },
    PowerEvent { name: c"power_resume", handler: resumed },
];

/// What exists while the module is loaded.
struct Module {
    driver: DriverSlot<FreeBsd>,
    nodes: [AtomicPtr<Opaque>; NODES.len()],
    power_tags: [AtomicPtr<Opaque>; POWER_EVENTS.len()],
    /// Open files.
    users: Gate,
}

const ERRORS: ErrorNumbers = ErrorNumbers {
    illegal_sequence: kernel::EILSEQ,
    no_locks: kernel::ENOLCK,
    no_function: kernel::ENOSYS,
    not_supported: kernel::EOPNOTSUPP,
};

static MODULE: Module = Module {
    driver: DriverSlot::new(),
    nodes: [const { AtomicPtr::new(null_mut()) }; NODES.len()],
    power_tags: [const { AtomicPtr::new(null_mut()) }; POWER_EVENTS.len()],
    users: Gate::new(),
};

impl Module {
    fn driver(&self) -> Option<&'static Driver<FreeBsd>> {
        // The driver exists longer than the nodes and every open file do.
        // SAFETY: nobody is inside of an entry point any more when the driver goes.
        unsafe { self.driver.get() }
    }

    fn is_busy(&self) -> bool {
        self.users.is_used() || self.driver().is_some_and(|driver| driver.session_count() != 0)
    }

    fn make_nodes(&self) -> c_int {
        let hardened = glue::supdrv_glue_hardened() != 0;
        for (unit, (node, place)) in NODES.iter().zip(&self.nodes).enumerate() {
            let mode = node.mode(hardened).cast_signed();
            let mut made = null_mut();
            // SAFETY: a constant name; the result is ours.
            let failed = unsafe {
                glue::supdrv_glue_make_node(node.name.as_ptr(), unit as c_int, mode, &raw mut made)
            };
            if failed != 0 {
                self.destroy_nodes();
                return failed;
            }
            place.store(made, Ordering::Relaxed);
        }
        0
    }

    /// Waits for everybody inside of the entry points, destructors of open files included.
    fn destroy_nodes(&self) {
        for place in self.nodes.iter().rev() {
            let node = place.swap(null_mut(), Ordering::Relaxed);
            if !node.is_null() {
                // SAFETY: made by `supdrv_glue_make_node`, given up here.
                unsafe { kernel::destroy_dev(node) };
            }
        }
    }

    fn watch_power(&self) {
        for (event, tag) in POWER_EVENTS.iter().zip(&self.power_tags) {
            // SAFETY: constant names; the handler lives until it is deregistered.
            let registered = unsafe {
                let (name, function) = (event.name.as_ptr(), event.handler);
                kernel::eventhandler_register(null_mut(), name, function, null_mut(), EVENTHANDLER_PRI_ANY)
            };
            tag.store(registered, Ordering::Relaxed);
        }
    }

    fn unwatch_power(&self) {
        for (event, tag) in POWER_EVENTS.iter().zip(&self.power_tags) {
            let tag = tag.swap(null_mut(), Ordering::Relaxed);
            // SAFETY: a constant name.
            let list = unsafe { kernel::eventhandler_find_list(event.name.as_ptr()) };
            if !tag.is_null() && !list.is_null() {
                // SAFETY: registered in this list, given up here.
                unsafe { kernel::eventhandler_deregister(list, tag) };
            }
        }
    }
}

/// Module event LOAD. Class T.
#[unsafe(no_mangle)]
extern "C" fn supdrv_freebsd_load() -> c_int {
    MODULE.users.reopen();
    if let Err(status) = MODULE.driver.build(&FreeBsd, size_of::<SessionView>()) {
        return ERRORS.of(status);
    }
    MODULE.watch_power();
    let failed = MODULE.make_nodes();
    if failed != 0 {
        MODULE.unwatch_power();
        let _unused = MODULE.driver.delete(&FreeBsd);
    }
    failed
}

/// Module event QUIESCE: whether an unload would do. Class T.
#[unsafe(no_mangle)]
extern "C" fn supdrv_freebsd_quiesce() -> c_int {
    if MODULE.is_busy() { kernel::EBUSY } else { 0 }
}

/// Module event UNLOAD. Class T.
#[unsafe(no_mangle)]
extern "C" fn supdrv_freebsd_unload() -> c_int {
    if !MODULE.users.close() {
        return kernel::EBUSY;
    }
    // Sibling drivers are sessions without open files.
    if MODULE.is_busy() {
        MODULE.users.reopen();
        return kernel::EBUSY;
    }
    MODULE.destroy_nodes();
    MODULE.unwatch_power();
    module::THREADS.wait(&FreeBsd);
    // Refused only if somebody is in there after all; the driver is leaked then.
    let _said_in_the_log = MODULE.driver.delete(&FreeBsd);
    0
}

/// The machine goes to sleep. Class T; returns when all modules know.
unsafe extern "C" fn suspending(_argument: *mut c_void) {
    power::suspending::<Runtime>();
}

/// The machine woke up. Class T.
unsafe extern "C" fn resumed(_argument: *mut c_void) {
    power::resumed::<Runtime, _>(MODULE.driver());
}

/// `d_open` of the cdevsw. Class T.
///
/// # Safety
/// Called by the kernel for a node of this module, in the context of `thread`.
#[unsafe(no_mangle)]
unsafe extern "C" fn supdrv_freebsd_open(
    node: *mut Opaque,
    flags: c_int,
    _kind: c_int,
    thread: *mut Opaque,
) -> c_int {
    if flags & FREAD_FWRITE != FREAD_FWRITE {
        return kernel::EINVAL;
    }
    // SAFETY: the node that the kernel passed.
    let unit = usize::try_from(unsafe { glue::supdrv_glue_unit(node) }).unwrap_or(usize::MAX);
    let Some(node) = NODES.get(unit) else { return kernel::ENXIO };
    let mut caller = Caller::default();
    // SAFETY: the thread that the kernel passed; the result is ours.
    unsafe { glue::supdrv_glue_caller(thread, &raw mut caller) };
    let hardened = glue::supdrv_glue_hardened() != 0;
    if node.is_private(hardened) && (caller.effective_uid != 0 || caller.jailed != 0) {
        return kernel::EPERM;
    }
    if !MODULE.users.enter() {
        return kernel::ENXIO;
    }
    let failed = open_session(node.kind);
    if failed != 0 {
        MODULE.users.leave();
    }
    failed
}

fn open_session(kind: SessionKind) -> c_int {
    let Some(driver) = MODULE.driver() else { return kernel::ENXIO };
    let session = match nodes::open(driver, kind) {
        Ok(session) => session,
        Err(status) => return ERRORS.of(status),
    };
    // SAFETY: the session's reference goes with the file, if this succeeds.
    let failed = unsafe { kernel::devfs_set_cdevpriv(session.as_ptr().cast(), close) };
    if failed != 0 {
        // SAFETY: from `nodes::open`, and no file has it.
        unsafe { nodes::close::<FreeBsd>(session.as_ptr()) };
    }
    failed
}

/// The last reference to an open file is gone. Class T, any process, or a thread of the kernel.
///
/// # Safety
/// Called by the kernel, once for each open that succeeded.
unsafe extern "C" fn close(session: *mut c_void) {
    // SAFETY: what the file was given, once.
    unsafe { nodes::close::<FreeBsd>(session.cast()) };
    MODULE.users.leave();
}

/// `d_ioctl` of the cdevsw. Class T.
///
/// For codes with a size the kernel has copied the packet to `data`, and copies all of it back if the result is 0; for codes
/// without one, `data` points to the caller's argument.
///
/// # Safety
/// Called by the kernel for a node of this module, in the context of `thread`.
#[unsafe(no_mangle)]
unsafe extern "C" fn supdrv_freebsd_ioctl(
    _node: *mut Opaque,
    code: IoctlCode,
    data: *mut u8,
    _flags: c_int,
    thread: *mut Opaque,
) -> c_int {
    // SAFETY: the thread that the kernel passed.
    if unsafe { glue::supdrv_glue_is_32bit(thread) } != 0 {
        return kernel::ENOTTY;
    }
    let mut private = null_mut();
    // SAFETY: the result is ours.
    let failed = unsafe { kernel::devfs_get_cdevpriv(&raw mut private) };
    if failed != 0 {
        return failed;
    }
    // The open file owns a reference.
    // SAFETY: what the current file was given; the kernel keeps the file during the call.
    let Some(session) = (unsafe { Session::<FreeBsd>::from_view(private.cast(), None) }) else {
        return kernel::EINVAL;
    };
    let code = code as u32;
    let bytes = Encoding::Bsd.size_field(code) as usize;
    match (code & IOC_DIRECTION, bytes) {
        (IOC_INOUT, HEADER_BYTES..) => {
            // SAFETY: the kernel's copy of the packet has as many bytes as the code says, and is this call's.
            let packet = unsafe { core::slice::from_raw_parts_mut(data, bytes) };
            errno(user::ioctl_buffered(session, code, packet))
        }
        (IOC_VOID, 0) => {
            // SAFETY: for codes without a size the kernel stores the caller's argument there.
            let argument = unsafe { data.cast::<usize>().read() };
            if session.is_unrestricted() && dispatch::is_fast::<FreeBsd>(code) {
                fast(session, code, argument as u32)
            } else {
                errno(user::ioctl_at(session, code, argument))
            }
        }
        _ => kernel::EINVAL,
    }
}

/// The error number is the status without its sign: negative ones mean something else to the kernel.
fn fast(session: &Session<FreeBsd>, code: u32, cpu_id: u32) -> c_int {
    match dispatch::ioctl_fast(session, code, cpu_id) {
        Ok(()) => 0,
        Err(status) => status.0.saturating_abs(),
    }
}

fn errno(result: Result<(), Failure>) -> c_int {
    result.map_or_else(Failure::errno, |()| 0)
}

/// The entry of sibling drivers. Class T.
///
/// # Safety
/// As for [`idc::entry`].
#[unsafe(no_mangle)]
unsafe extern "C" fn SUPDrvFreeBSDIDC(code: u32, packet: *mut IdcHeader) -> c_int {
    let Some(driver) = MODULE.driver() else { return VERR_INVALID_PARAMETER.0 };
    // SAFETY: conditions of the function.
    unsafe { idc::entry(driver, code, packet) }.0
}

/// What exists in the loaded driver. Class I.
#[must_use]
pub fn counters() -> Option<Counters> {
    MODULE.driver().map(Driver::counters)
}
