//! The life of the kernel extension, and its device nodes.
//!
//! The nodes are the last that appears and the first that goes. Everybody inside of an entry point is a user of the extension; a stop first
//! makes sure that there is no one, and lets nobody in any more.

use core::ffi::{c_int, c_ulong, c_void};
use core::ptr::null_mut;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, Ordering};

use supdrv_core::abi::idc::IdcHeader;
use supdrv_core::abi::ioctl::Encoding;
use supdrv_core::abi::published::SessionView;
use supdrv_core::abi::requests::HEADER_BYTES;
use supdrv_core::abi::status::{Result, VERR_GENERAL_FAILURE, VERR_INVALID_PARAMETER, VERR_NO_MEMORY};
use supdrv_core::dispatch;
use supdrv_core::dispatch::user::{self, Failure};
use supdrv_core::driver::{Counters, Driver, DriverSlot};
use supdrv_core::heap::Box;
use supdrv_core::idc;
use supdrv_core::os::{OsIdentity, OsLog, OsTime};
use supdrv_core::session::Session;
use supdrv_core::shim::gate::Gate;
use supdrv_core::shim::nodes::{ErrorNumbers, NODES, Node};
use supdrv_core::shim::power;

use crate::base;
use crate::clients::Clients;
use crate::glue;
use crate::kernel::{self, Cdevsw, Dev, Opaque};
use crate::module::{self, Runtime};
use crate::os::Darwin;

/// A module start or stop that didn't happen.
const KMOD_RETURN_FAILURE: c_int = 5;
/// Where the reference count in a `kmod_info` is, which is packed.
const KMOD_REFERENCES: usize = 0x90;

const IOC_DIRECTION: u32 = 0xe000_0000;
const IOC_VOID: u32 = 0x2000_0000;
const IOC_INOUT: u32 = 0xc000_0000;

const SYSTEM_WILL_SLEEP: u32 = 0xe000_0280;
const SYSTEM_HAS_POWERED_ON: u32 = 0xe000_0300;
const RETURN_SUCCESS: u32 = 0;
const RETURN_UNSUPPORTED: u32 = 0xe000_02c7;

const NO_MAJOR: c_int = -1;
const MINOR_BITS: u32 = 24;
/// What a thread that has done its last in here gets to reach the kernel's own code, in milliseconds.
const EXIT_MS: u32 = 10;

const ERRORS: ErrorNumbers = ErrorNumbers {
    illegal_sequence: kernel::EILSEQ,
    no_locks: kernel::ENOLCK,
    no_function: kernel::ENOSYS,
    not_supported: kernel::EOPNOTSUPP,
};

static SWITCH: Cdevsw = Cdevsw {
    open,
    close,
    read: kernel::enodev,
    write: kernel::enodev,
    ioctl,
    stop: kernel::enodev,
    reset: kernel::enodev,
    ttys: 0,
    select: kernel::enodev,
    mmap: kernel::enodev,
    strategy: kernel::enodev_strat,
    reserved: [kernel::enodev; 2],
    kind: 0,
};

/// What exists while the extension is loaded.
struct Module {
    driver: DriverSlot<Darwin>,
    clients: AtomicPtr<Clients>,
    major: AtomicI32,
    nodes: [AtomicPtr<c_void>; NODES.len()],
    /// Nodes that somebody has open: the kernel only tells of the last close.
    open: [AtomicBool; NODES.len()],
    notifier: AtomicPtr<c_void>,
    /// Threads inside of entry points.
    users: Gate,
}

static MODULE: Module = Module {
    driver: DriverSlot::new(),
    clients: AtomicPtr::new(null_mut()),
    major: AtomicI32::new(NO_MAJOR),
    nodes: [const { AtomicPtr::new(null_mut()) }; NODES.len()],
    open: [const { AtomicBool::new(false) }; NODES.len()],
    notifier: AtomicPtr::new(null_mut()),
    users: Gate::new(),
};

/// A thread inside of an entry point: what is there stays there until this is dropped.
struct Inside {
    driver: &'static Driver<Darwin>,
    clients: &'static Clients,
}

impl Inside {
    fn enter() -> Option<Self> {
        if !MODULE.users.enter() {
            return None;
        }
        if let (Some(driver), Some(clients)) = (MODULE.driver(), MODULE.clients()) {
            return Some(Self { driver, clients });
        }
        MODULE.users.leave();
        None
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        MODULE.users.leave();
    }
}

impl Module {
    fn driver(&self) -> Option<&'static Driver<Darwin>> {
        // Nobody is inside of an entry point any more when the driver goes.
        // SAFETY: nobody is inside of an entry point any more when the driver goes.
        unsafe { self.driver.get() }
    }

    fn clients(&self) -> Option<&'static Clients> {
        // As above.
        // SAFETY: as above.
        unsafe { self.clients.load(Ordering::Acquire).as_ref() }
    }

    /// Whether anybody has it open, or is connected. Asked from the inside, or with nobody inside.
    fn is_busy(&self) -> bool {
        self.driver().is_some_and(|driver| driver.session_count() != 0)
            || self.clients().is_some_and(|clients| !clients.is_empty())
            || self.open.iter().any(|node| node.load(Ordering::Acquire))
    }

    fn make_clients(&self) -> Result<()> {
        let clients = Box::new(&Darwin, Clients::new()?)?;
        self.clients.store(clients.into_raw().as_ptr(), Ordering::Release);
        Ok(())
    }

    fn make_nodes(&self) -> Result<()> {
        // SAFETY: the table lives as long as the extension, which takes it back before it goes.
        let major = unsafe { kernel::cdevsw_add(NO_MAJOR, &raw const SWITCH) };
        if major < 0 {
            return Err(VERR_GENERAL_FAILURE);
        }
        self.major.store(major, Ordering::Relaxed);
        let hardened = glue::supdrv_glue_hardened() != 0;
        for (minor, (node, place)) in (0..).zip(NODES.iter().zip(&self.nodes)) {
            let (dev, mode) = (major << MINOR_BITS | minor, node.mode(hardened).cast_signed());
            let (format, name) = (c"%s".as_ptr(), node.name.as_ptr());
            // SAFETY: constant strings, one for the one conversion.
            let made = unsafe { kernel::devfs_make_node(dev, kernel::DEVFS_CHAR, 0, 0, mode, format, name) };
            if made.is_null() {
                return Err(VERR_NO_MEMORY);
            }
            place.store(made, Ordering::Relaxed);
        }
        Ok(())
    }

    fn watch_sleep(&self) {
        let notifier =
            // SAFETY: the handler lives as long as the extension, which ends its notifications before it goes.
            unsafe { kernel::registerPrioritySleepWakeInterest(sleep_or_wake, null_mut(), null_mut()) };
        if notifier.is_null() {
            Darwin.log_write(b"supdrv: no notifications of sleep and wake-up");
        }
        self.notifier.store(notifier, Ordering::Relaxed);
    }

    fn make(&self) -> Result<()> {
        base::start()?;
        self.driver.build(&Darwin, size_of::<SessionView>())?;
        self.make_clients()?;
        self.make_nodes()?;
        self.watch_sleep();
        Ok(())
    }

    /// Takes down what there is of it, backwards. Nobody is inside, and nobody is let in.
    fn take_down(&self) {
        let notifier = self.notifier.swap(null_mut(), Ordering::Relaxed);
        if !notifier.is_null() {
            // SAFETY: from `watch_sleep`, given up here.
            unsafe { glue::supdrv_glue_remove_notifier(notifier) };
        }
        for place in self.nodes.iter().rev() {
            let node = place.swap(null_mut(), Ordering::Relaxed);
            if !node.is_null() {
                // SAFETY: from `make_nodes`, given up here.
                unsafe { kernel::devfs_remove(node) };
            }
        }
        let major = self.major.swap(NO_MAJOR, Ordering::Relaxed);
        if major >= 0 {
            // SAFETY: what `make_nodes` added.
            unsafe { kernel::cdevsw_remove(major, &raw const SWITCH) };
        }
        if let Some(clients) = core::ptr::NonNull::new(self.clients.swap(null_mut(), Ordering::AcqRel)) {
            // SAFETY: from `make_clients`; nobody is inside.
            drop(unsafe { Box::from_raw(&Darwin, clients) });
        }
        module::THREADS.wait(&Darwin);
        // Refused only if somebody is in there after all; the driver is leaked then.
        if self.driver.delete(&Darwin).is_ok() {
            base::stop();
        }
        Darwin.sleep_ms(EXIT_MS);
    }
}

/// Module start. Class T. 0, or 5, and then nothing is left.
#[unsafe(no_mangle)]
extern "C" fn supdrv_darwin_start(_kmod: *mut c_void) -> c_int {
    // Somebody may come as soon as there is a node.
    MODULE.users.reopen();
    if MODULE.make().is_ok() {
        return 0;
    }
    // Nobody could connect yet: whoever is inside is being refused.
    while !MODULE.users.close() {
        Darwin.sleep_ms(1);
    }
    MODULE.take_down();
    KMOD_RETURN_FAILURE
}

/// Module stop. Class T. 0, or 5 while it is in use, and then nothing has changed.
#[unsafe(no_mangle)]
extern "C" fn supdrv_darwin_stop(_kmod: *mut c_void) -> c_int {
    // Asked first without closing the gate: a stop that is refused disturbs nobody.
    if is_in_use() || !MODULE.users.close() {
        return KMOD_RETURN_FAILURE;
    }
    if MODULE.is_busy() {
        MODULE.users.reopen();
        return KMOD_RETURN_FAILURE;
    }
    MODULE.take_down();
    0
}

fn is_in_use() -> bool {
    Inside::enter().is_some_and(|_inside| MODULE.is_busy())
}

/// Whether the service may go: 0 while it is in use. Class T.
///
/// # Safety
/// `kmod` is null or the extension's `kmod_info`.
#[unsafe(no_mangle)]
unsafe extern "C" fn supdrv_darwin_may_terminate(kmod: *mut c_void) -> c_int {
    let references = if kmod.is_null() {
        0
    } else {
        // SAFETY: the extension's description has this field (condition of the function).
        unsafe { kmod.byte_add(KMOD_REFERENCES).cast::<i32>().read_unaligned() }
    };
    (references == 0 && !is_in_use()).into()
}

/// A process connects. Class T, in that process. 0, or an error number.
#[unsafe(no_mangle)]
extern "C" fn supdrv_darwin_client_start(client: *mut c_void) -> c_int {
    let Some(inside) = Inside::enter() else { return kernel::ENXIO };
    let connected = inside.clients.connect(Darwin.process_id(), client as usize);
    connected.map_or_else(|status| ERRORS.of(status), |()| 0)
}

/// A connection ends. Class T, any process, as often as it pleases.
#[unsafe(no_mangle)]
extern "C" fn supdrv_darwin_client_close(client: *mut c_void) {
    // Where nobody is let in, there are no connections.
    if let Some(inside) = Inside::enter() {
        inside.clients.disconnect(client as usize);
    }
}

/// The machine sleeps or wakes up. Class T; returns when all modules know.
///
/// # Safety
/// `argument` is null or the notification, whose second word is the time that the handler wants.
unsafe extern "C" fn sleep_or_wake(
    _target: *mut c_void,
    _reference: *mut c_void,
    message: u32,
    _provider: *mut Opaque,
    argument: *mut c_void,
    _bytes: usize,
) -> u32 {
    match message {
        SYSTEM_WILL_SLEEP => power::suspending::<Runtime>(),
        SYSTEM_HAS_POWERED_ON => power::resumed::<Runtime, _>(MODULE.driver()),
        _ => return RETURN_UNSUPPORTED,
    }
    if !argument.is_null() {
        // Done already.
        // SAFETY: the notification's second word is the handler's to write (condition of the function).
        unsafe { argument.cast::<usize>().add(1).write(0) };
    }
    RETURN_SUCCESS
}

fn node_of(dev: Dev) -> Option<(usize, &'static Node)> {
    let minor = (dev & ((1 << MINOR_BITS) - 1)) as usize;
    NODES.get(minor).map(|node| (minor, node))
}

/// Real user and group of a process.
fn real_ids(process: *mut Opaque) -> (u32, u32) {
    // SAFETY: the process that the kernel passed; the credential is released again.
    unsafe {
        let mut credential = kernel::kauth_cred_proc_ref(process);
        let ids = (kernel::kauth_cred_getruid(credential), kernel::kauth_cred_getrgid(credential));
        kernel::kauth_cred_unref(&raw mut credential);
        ids
    }
}

/// `d_open` of the cdevsw. Class T.
unsafe extern "C" fn open(dev: Dev, _flags: c_int, _kind: c_int, process: *mut Opaque) -> c_int {
    let Some((minor, node)) = node_of(dev) else { return kernel::EACCES };
    // SAFETY: the process that the kernel passed.
    if unsafe { kernel::proc_pid(process) != kernel::proc_selfpid() } {
        return kernel::EIO;
    }
    let Some(inside) = Inside::enter() else { return kernel::ENXIO };
    match open_session(&inside, node, process) {
        Ok(()) => {
            MODULE.open.get(minor).inspect(|open| open.store(true, Ordering::Release));
            0
        }
        Err(status) => ERRORS.of(status),
    }
}

fn open_session(inside: &Inside, node: &Node, process: *mut Opaque) -> Result<()> {
    let (uid, gid) = real_ids(process);
    let session = inside.driver.create_session(node.kind)?;
    // Nobody else knows the session yet.
    // SAFETY: a live session's view.
    let view = unsafe { session.view().as_ref() };
    view.uid.store(uid, Ordering::Relaxed);
    view.gid.store(gid, Ordering::Relaxed);
    inside.clients.open(Darwin.process_id(), session)
}

/// `d_close` of the cdevsw: the last of all open files of the node is gone. Class T, in the process that had it.
unsafe extern "C" fn close(dev: Dev, _flags: c_int, _kind: c_int, _process: *mut Opaque) -> c_int {
    if let Some(inside) = Inside::enter()
        && let Some((minor, node)) = node_of(dev)
    {
        inside.clients.close(Darwin.process_id(), node.kind);
        MODULE.open.get(minor).inspect(|open| open.store(false, Ordering::Release));
    }
    0
}

/// `d_ioctl` of the cdevsw. Class T.
///
/// For codes with a size the kernel has copied the packet to `data`, and copies all of it back if the result is 0; for codes
/// without one, `data` points to the caller's argument.
unsafe extern "C" fn ioctl(
    dev: Dev,
    code: c_ulong,
    data: *mut u8,
    _flags: c_int,
    process: *mut Opaque,
) -> c_int {
    // Their arguments have 4 bytes, and what is behind them is left over from somebody else.
    // SAFETY: the process that the kernel passed.
    if unsafe { kernel::proc_is64bit(process) } == 0 {
        return kernel::EINVAL;
    }
    let Some(inside) = Inside::enter() else { return kernel::ENXIO };
    let session = node_of(dev).and_then(|(_, node)| inside.clients.session(Darwin.process_id(), node.kind));
    let Some(session) = session else { return kernel::EINVAL };
    let code = code as u32;
    let bytes = Encoding::Bsd.size_field(code) as usize;
    match (code & IOC_DIRECTION, bytes) {
        (IOC_INOUT, HEADER_BYTES..) => {
            // SAFETY: the kernel's copy of the packet has as many bytes as the code says, and is this call's.
            let packet = unsafe { core::slice::from_raw_parts_mut(data, bytes) };
            errno(user::ioctl_buffered(&session, code, packet))
        }
        (IOC_VOID, 0) => {
            // SAFETY: for codes without a size the kernel stores the caller's argument there.
            let argument = unsafe { data.cast::<usize>().read_unaligned() };
            if dispatch::is_fast::<Darwin>(code) {
                fast(&session, code, argument as u32)
            } else {
                errno(user::ioctl_at(&session, code, argument))
            }
        }
        _ => kernel::EINVAL,
    }
}

/// The error number is the status as it is: clients of this system expect it to be negative.
fn fast(session: &Session<Darwin>, code: u32, cpu_id: u32) -> c_int {
    if !session.is_unrestricted() {
        return kernel::EINVAL;
    }
    match dispatch::ioctl_fast(session, code, cpu_id) {
        Ok(()) => 0,
        Err(status) => status.0,
    }
}

fn errno(result: core::result::Result<(), Failure>) -> c_int {
    result.map_or_else(Failure::errno, |()| 0)
}

/// The entry of sibling drivers. Class T.
///
/// # Safety
/// As for [`idc::entry`].
#[unsafe(no_mangle)]
unsafe extern "C" fn SUPDrvDarwinIDC(code: u32, packet: *mut IdcHeader) -> c_int {
    let Some(inside) = Inside::enter() else { return VERR_INVALID_PARAMETER.0 };
    // SAFETY: conditions of the function.
    unsafe { idc::entry(inside.driver, code, packet) }.0
}

/// What exists in the loaded driver. Class I.
#[must_use]
pub fn counters() -> Option<Counters> {
    MODULE.driver().map(Driver::counters)
}
