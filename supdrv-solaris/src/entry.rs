//! The driver's life and its device nodes.
//!
//! Every open gets a minor number of its own, and with it a place in the table of sessions: the kernel then knows each open file as a
//! device of its own, and closes it once.

use core::ffi::{CStr, c_int, c_uint};
use core::ptr::null_mut;
use core::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

use supdrv_core::abi::idc::IdcHeader;
use supdrv_core::abi::published::SessionView;
use supdrv_core::abi::requests::HEADER_BYTES;
use supdrv_core::abi::status::VERR_INVALID_PARAMETER;
use supdrv_core::dispatch;
use supdrv_core::dispatch::user::{self, Failure};
use supdrv_core::driver::{Counters, Driver, DriverSlot};
use supdrv_core::idc;
use supdrv_core::os::{OsLog, SessionKind};
use supdrv_core::session::Session;
use supdrv_core::shim::nodes::{self, ErrorNumbers, NODES, Node};
use supdrv_core::shim::power;

use crate::kernel::{self, Dev, Opaque};
use crate::memory;
use crate::module::{self, Runtime};
use crate::os::Solaris;

/// Sessions that can be open at a time.
const MAX_SESSIONS: usize = 4096;
/// Minor numbers of open files begin behind those of the nodes.
const FIRST_CLONE: usize = NODES.len();
const POWER_STATE: &CStr = c"pm-hardware-state";

/// What exists while the module is loaded.
struct Module {
    driver: DriverSlot<Solaris>,
    /// Minor numbers of open files.
    minors: AtomicPtr<Opaque>,
    sessions: [AtomicPtr<SessionView>; MAX_SESSIONS],
    hardened: AtomicBool,
    allows_zones: AtomicBool,
}

static MODULE: Module = Module {
    driver: DriverSlot::new(),
    minors: AtomicPtr::new(null_mut()),
    sessions: [const { AtomicPtr::new(null_mut()) }; MAX_SESSIONS],
    hardened: AtomicBool::new(true),
    allows_zones: AtomicBool::new(false),
};

impl Module {
    fn driver(&self) -> Option<&'static Driver<Solaris>> {
        // The driver exists longer than the kernel has our tables.
        // SAFETY: nobody is inside of an entry point any more when the driver goes.
        unsafe { self.driver.get() }
    }

    /// The place of an open file.
    fn place(&self, dev: Dev) -> Option<&AtomicPtr<SessionView>> {
        let minor = kernel::getminor(dev) as usize;
        self.sessions.get(minor.checked_sub(FIRST_CLONE)?)
    }
}

const ERRORS: ErrorNumbers = ErrorNumbers {
    illegal_sequence: kernel::EILSEQ,
    no_locks: kernel::ENOLCK,
    no_function: kernel::ENOSYS,
    not_supported: kernel::ENOTSUP,
};

/// Builds everything that doesn't need a device. Class T; the result is an errno.
pub(crate) fn start() -> c_int {
    if !Solaris.watch_cpus() {
        Solaris.log_write(b"supdrv: built for another kernel: the CPU's structure isn't where it should be");
        return kernel::ENOTSUP;
    }
    memory::start();
    let failed = build();
    if failed != 0 {
        memory::stop();
        Solaris.unwatch_cpus();
    }
    failed
}

fn build() -> c_int {
    let (first, end) = (FIRST_CLONE as c_int, (FIRST_CLONE + MAX_SESSIONS) as c_int);
    // SAFETY: a constant name.
    let minors = unsafe { kernel::id_space_create(c"vboxdrv_minors".as_ptr(), first, end) };
    if minors.is_null() {
        return kernel::ENOMEM;
    }
    MODULE.minors.store(minors, Ordering::Release);
    match MODULE.driver.build(&Solaris, size_of::<SessionView>()) {
        Ok(()) => 0,
        Err(status) => {
            free_minors();
            ERRORS.of(status)
        }
    }
}

fn free_minors() {
    let minors = MODULE.minors.swap(null_mut(), Ordering::AcqRel);
    if !minors.is_null() {
        // SAFETY: made by `id_space_create`; no minor number is in use.
        unsafe { kernel::id_space_destroy(minors) };
    }
}

/// Undoes [`start`]. Class T; the kernel has forgotten our tables.
pub(crate) fn stop() {
    module::THREADS.wait(&Solaris);
    // Refused only if somebody is in there after all; the driver is leaked then.
    let _said_in_the_log = MODULE.driver.delete(&Solaris);
    free_minors();
    memory::stop();
    Solaris.unwatch_cpus();
}

/// Whether somebody has a session, which may be a sibling driver.
pub(crate) fn is_busy() -> bool {
    MODULE.driver().is_some_and(|driver| driver.session_count() != 0)
}

fn property(dip: *mut Opaque, name: &CStr, default: bool) -> bool {
    let (any, own) = (kernel::DDI_DEV_T_ANY, kernel::DDI_PROP_DONTPASS);
    // SAFETY: the instance that the kernel passed; a constant name.
    unsafe { kernel::ddi_prop_get_int(any, dip, own, name.as_ptr(), default.into()) != 0 }
}

fn remove_nodes(dip: *mut Opaque) {
    // SAFETY: the instance that the kernel passed; no name means all nodes.
    unsafe {
        kernel::ddi_remove_minor_node(dip, core::ptr::null());
        let _may_be_missing = kernel::ddi_prop_remove(kernel::DDI_DEV_T_NONE, dip, POWER_STATE.as_ptr());
    }
}

fn make_nodes(dip: *mut Opaque) -> bool {
    let hardened = property(dip, c"hardened", true);
    MODULE.hardened.store(hardened, Ordering::Release);
    MODULE.allows_zones.store(property(dip, c"allow-zones", false), Ordering::Release);
    // Without it nobody tells a device like this one that the machine goes to sleep; not worth failing for.
    let value = c"needs-suspend-resume".as_ptr();
    let _best_effort =
        // SAFETY: the instance that the kernel passed; constant strings.
        unsafe { kernel::ddi_prop_update_string(kernel::DDI_DEV_T_NONE, dip, POWER_STATE.as_ptr(), value) };
    NODES.iter().enumerate().all(|(minor, node)| {
        let mode = node.mode(hardened);
        let (kind, none) = (c"ddi_pseudo".as_ptr(), c"none".as_ptr());
        // SAFETY: the instance that the kernel passed; constant strings.
        let made = unsafe {
            let name = node.name.as_ptr();
            let minor = minor as u32;
            kernel::ddi_create_priv_minor_node(dip, name, kernel::S_IFCHR, minor, kind, 0, none, none, mode)
        };
        made == kernel::DDI_SUCCESS
    })
}

/// `devo_attach`. Class T.
pub(crate) unsafe extern "C" fn attach(dip: *mut Opaque, command: c_int) -> c_int {
    match command {
        kernel::DDI_ATTACH => {
            // SAFETY: the instance that the kernel passed.
            if unsafe { kernel::ddi_get_instance(dip) } != 0 {
                return kernel::DDI_FAILURE;
            }
            if !make_nodes(dip) {
                remove_nodes(dip);
                return kernel::DDI_FAILURE;
            }
            // SAFETY: the instance that the kernel passed.
            unsafe { kernel::ddi_report_dev(dip) };
            kernel::DDI_SUCCESS
        }
        kernel::DDI_RESUME => {
            power::resumed::<Runtime, _>(MODULE.driver());
            kernel::DDI_SUCCESS
        }
        _ => kernel::DDI_FAILURE,
    }
}

/// `devo_detach`. Class T.
pub(crate) unsafe extern "C" fn detach(dip: *mut Opaque, command: c_int) -> c_int {
    match command {
        kernel::DDI_DETACH => {
            if is_busy() {
                Solaris.log_write(b"supdrv: in use, not detached");
                return kernel::DDI_FAILURE;
            }
            remove_nodes(dip);
            kernel::DDI_SUCCESS
        }
        kernel::DDI_SUSPEND => {
            power::suspending::<Runtime>();
            kernel::DDI_SUCCESS
        }
        _ => kernel::DDI_FAILURE,
    }
}

/// `devo_quiesce`: nothing of ours runs after a reboot. Class I.
pub(crate) unsafe extern "C" fn quiesce(_dip: *mut Opaque) -> c_int {
    kernel::DDI_SUCCESS
}

/// `cb_read` and `cb_write`: there is nothing to read.
pub(crate) unsafe extern "C" fn nothing_transferred(
    _dev: Dev,
    _uio: *mut Opaque,
    _cred: *mut Opaque,
) -> c_int {
    0
}

fn may_open(node: &Node, cred: *mut Opaque) -> bool {
    if !node.is_private(MODULE.hardened.load(Ordering::Acquire)) {
        return true;
    }
    let global = kernel::getzoneid() == kernel::GLOBAL_ZONEID;
    // SAFETY: the credential that the kernel passed.
    (global || MODULE.allows_zones.load(Ordering::Acquire)) && unsafe { kernel::drv_priv(cred) } == 0
}

/// `cb_open`. Class T.
///
/// # Safety
/// Called by the kernel.
pub(crate) unsafe extern "C" fn open(dev: *mut Dev, _flags: c_int, kind: c_int, cred: *mut Opaque) -> c_int {
    if kind != kernel::OTYP_CHR {
        return kernel::EINVAL;
    }
    // SAFETY: the kernel's device number of this open (condition of the function).
    let base = unsafe { dev.read() };
    let minor = kernel::getminor(base) as usize;
    let Some(node) = NODES.get(minor) else { return kernel::EINVAL };
    if !may_open(node, cred) {
        return kernel::EPERM;
    }
    let minors = MODULE.minors.load(Ordering::Acquire);
    // SAFETY: the space exists while the driver is attached.
    let Ok(clone) = u32::try_from(unsafe { kernel::id_alloc_nosleep(minors) }) else { return kernel::ENXIO };
    let own = kernel::makedevice(kernel::getmajor(base), clone);
    match open_session(node.kind, own, cred) {
        0 => {
            // SAFETY: as above; it is the open's own.
            unsafe { dev.write(own) };
            0
        }
        failed => {
            // SAFETY: from `id_alloc_nosleep`, given up here.
            unsafe { kernel::id_free(minors, clone.cast_signed()) };
            failed
        }
    }
}

fn open_session(kind: SessionKind, dev: Dev, cred: *mut Opaque) -> c_int {
    let (Some(driver), Some(place)) = (MODULE.driver(), MODULE.place(dev)) else { return kernel::ENXIO };
    let session = match nodes::open(driver, kind) {
        Ok(session) => session,
        Err(status) => return ERRORS.of(status),
    };
    // Nobody else knows the session yet.
    // SAFETY: a session that nobody else knows yet.
    let view = unsafe { session.as_ref() };
    // SAFETY: the credential that the kernel passed.
    view.uid.store(unsafe { kernel::crgetruid(cred) }, Ordering::Relaxed);
    // SAFETY: the credential that the kernel passed.
    view.gid.store(unsafe { kernel::crgetrgid(cred) }, Ordering::Relaxed);
    place.store(session.as_ptr(), Ordering::Release);
    0
}

/// `cb_close`: the last reference to an open file is gone. Class T, any process.
///
/// # Safety
/// Called by the kernel, once for each open that succeeded.
pub(crate) unsafe extern "C" fn close(dev: Dev, _flags: c_int, _kind: c_int, _cred: *mut Opaque) -> c_int {
    let session = MODULE.place(dev).map_or(null_mut(), |place| place.swap(null_mut(), Ordering::AcqRel));
    if session.is_null() {
        return kernel::EFAULT;
    }
    // SAFETY: what this minor number's open got, once.
    unsafe { nodes::close::<Solaris>(session) };
    let minors = MODULE.minors.load(Ordering::Acquire);
    // SAFETY: from `id_alloc_nosleep`, given up here.
    unsafe { kernel::id_free(minors, kernel::getminor(dev).cast_signed()) };
    0
}

/// `cb_ioctl`. Class T.
///
/// # Safety
/// Called by the kernel for an open file.
pub(crate) unsafe extern "C" fn ioctl(
    dev: Dev,
    code: c_int,
    argument: isize,
    mode: c_int,
    _cred: *mut Opaque,
    value: *mut c_int,
) -> c_int {
    let Some(place) = MODULE.place(dev) else { return kernel::EINVAL };
    // Addresses of a kernel caller are not what this is made for.
    if mode & kernel::FKIOCTL != 0 {
        return kernel::EPERM;
    }
    let model = mode.cast_unsigned() & kernel::DDI_MODEL_MASK;
    if kernel::ddi_model_convert_from(model) == kernel::DDI_MODEL_ILP32 {
        return kernel::ENOTTY;
    }
    // The open file owns a reference.
    let view = place.load(Ordering::Acquire);
    // SAFETY: what this minor number's open got; the kernel keeps it open during the call.
    let Some(session) = (unsafe { Session::<Solaris>::from_view(view, None) }) else { return kernel::EINVAL };
    let code = code.cast_unsigned();
    if session.is_unrestricted() && dispatch::is_fast::<Solaris>(code) {
        let status = dispatch::ioctl_fast(session, code, argument as u32);
        // SAFETY: the kernel's place for the result (condition of the function).
        unsafe { value.write(status.map_or_else(|status| status.0, |()| 0)) };
        return 0;
    }
    if size_field(code) != HEADER_BYTES {
        return kernel::EINVAL;
    }
    user::ioctl_at(session, code, argument.cast_unsigned()).map_or_else(Failure::errno, |()| 0)
}

/// Eight bits of the code.
const fn size_field(code: c_uint) -> usize {
    (code >> 16 & 0xff) as usize
}

/// The entry of sibling drivers. Class T.
///
/// # Safety
/// As for [`idc::entry`].
#[unsafe(no_mangle)]
unsafe extern "C" fn SUPDrvSolarisIDC(code: u32, packet: *mut IdcHeader) -> c_int {
    let Some(driver) = MODULE.driver() else { return VERR_INVALID_PARAMETER.0 };
    // SAFETY: conditions of the function.
    unsafe { idc::entry(driver, code, packet) }.0
}

/// What exists in the loaded driver. Class I.
#[must_use]
pub fn counters() -> Option<Counters> {
    MODULE.driver().map(Driver::counters)
}
