//! The device switch, nodes in /dev, notifications of sleep.

use core::ffi::{CStr, c_char, c_int, c_ulong, c_void};
use std::sync::{Arc, Mutex, MutexGuard};

use fakekernel::context::Process;
use fakekernel::{context, violation};

use super::processes::{ENXIO, current_proc};
use super::{lock, machine, must_fail};

type NoEntry = unsafe extern "C" fn() -> c_int;

/// `struct cdevsw`: 14 members.
#[repr(C)]
pub struct Cdevsw {
    pub open: unsafe extern "C" fn(c_int, c_int, c_int, *mut c_void) -> c_int,
    pub close: unsafe extern "C" fn(c_int, c_int, c_int, *mut c_void) -> c_int,
    pub read: NoEntry,
    pub write: NoEntry,
    pub ioctl: unsafe extern "C" fn(c_int, c_ulong, *mut u8, c_int, *mut c_void) -> c_int,
    pub stop: NoEntry,
    pub reset: NoEntry,
    pub ttys: usize,
    pub select: NoEntry,
    pub mmap: NoEntry,
    pub strategy: unsafe extern "C" fn(),
    pub getc: NoEntry,
    pub putc: NoEntry,
    pub kind: c_int,
}

const _: () = assert!(size_of::<Cdevsw>() == 14 * 8);

const MAJOR: c_int = 37;
const ENODEV: c_int = 19;
const S_IFCHR: c_int = 0x2000;
const FREAD_FWRITE: c_int = 3;

/// A node, and its vnode, which all opens share.
#[derive(Clone, Debug)]
pub struct Node {
    pub name: String,
    pub dev: c_int,
    pub uid: u32,
    pub gid: u32,
    pub mode: c_int,
    handle: usize,
}

#[derive(Default)]
struct Devices {
    switch: Option<usize>,
    nodes: Vec<Node>,
    last_handle: usize,
}

static DEVICES: Mutex<Devices> = Mutex::new(Devices { switch: None, nodes: Vec::new(), last_handle: 0 });

/// Open files by minor number. Held during opens and closes, which the kernel does one after the other.
static OPEN: Mutex<[u32; 2]> = Mutex::new([0; 2]);

fn switch() -> Option<&'static Cdevsw> {
    // SAFETY: a static of the driver.
    lock(&DEVICES).switch.map(|switch| unsafe { &*(switch as *const Cdevsw) })
}

#[unsafe(no_mangle)]
pub extern "C" fn darwin_enodev() -> c_int {
    ENODEV
}

#[unsafe(no_mangle)]
pub extern "C" fn darwin_enodev_strat() {}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn darwin_cdevsw_add(major: c_int, new: *const Cdevsw) -> c_int {
    context::may_sleep("cdevsw_add");
    assert_eq!(major, -1);
    let (entries, nothing) = (&*new, darwin_enodev as *const () as usize);
    for entry in [entries.read, entries.write, entries.stop, entries.reset, entries.select, entries.mmap] {
        assert_eq!(entry as *const () as usize, nothing);
    }
    let rest = [entries.getc as *const () as usize, entries.putc as *const () as usize];
    assert_eq!((rest, entries.ttys, entries.kind), ([nothing; 2], 0, 0));
    assert_eq!(entries.strategy as *const () as usize, darwin_enodev_strat as *const () as usize);
    if must_fail("cdevsw_add") {
        return -1;
    }
    let old = lock(&DEVICES).switch.replace(new as usize);
    assert_eq!(old, None, "the switch is added twice");
    machine().ledger.add("device switches", 1);
    MAJOR
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn darwin_cdevsw_remove(major: c_int, old: *const Cdevsw) -> c_int {
    context::may_sleep("cdevsw_remove");
    let mut devices = lock(&DEVICES);
    assert_eq!((major, devices.switch.take()), (MAJOR, Some(old as usize)));
    assert!(devices.nodes.is_empty(), "nodes go before the switch");
    machine().ledger.add("device switches", -1);
    MAJOR
}

/// The variable argument is on the stack, where a seventh one is.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn darwin_devfs_make_node(
    dev: c_int,
    kind: c_int,
    uid: u32,
    gid: u32,
    mode: c_int,
    format: *const c_char,
    name: *const c_char,
) -> *mut c_void {
    context::may_sleep("devfs_make_node");
    assert_eq!((kind, CStr::from_ptr(format)), (0, c"%s"));
    if must_fail("devfs_make_node") {
        return core::ptr::null_mut();
    }
    let mut devices = lock(&DEVICES);
    assert!(devices.switch.is_some() && dev >> 24 == MAJOR, "a node without a driver");
    devices.last_handle += 0x40;
    let (handle, name) = (devices.last_handle, CStr::from_ptr(name).to_string_lossy().into_owned());
    devices.nodes.push(Node { name, dev, uid, gid, mode, handle });
    machine().ledger.add("device nodes", 1);
    core::ptr::without_provenance_mut(handle)
}

#[unsafe(no_mangle)]
pub extern "C" fn darwin_devfs_remove(handle: *mut c_void) {
    context::may_sleep("devfs_remove");
    let mut devices = lock(&DEVICES);
    let before = devices.nodes.len();
    devices.nodes.retain(|node| node.handle != handle as usize);
    assert_eq!(devices.nodes.len() + 1, before, "a node is removed twice");
    machine().ledger.add("device nodes", -1);
}

/// All nodes there are.
pub fn nodes() -> Vec<Node> {
    lock(&DEVICES).nodes.clone()
}

fn open_files(dev: c_int, open: &mut MutexGuard<'_, [u32; 2]>, by: i32) -> u32 {
    let Some(count) = open.get_mut((dev & 0xff_ffff) as usize) else { return 0 };
    *count = count.checked_add_signed(by).expect("a file");
    *count
}

/// The device's open, in the current process; its error number.
pub fn open(dev: c_int) -> c_int {
    let mut open = lock(&OPEN);
    let Some(switch) = switch() else { return ENXIO };
    let error = unsafe { (switch.open)(dev, FREAD_FWRITE, S_IFCHR, current_proc()) };
    if error == 0 {
        open_files(dev, &mut open, 1);
    }
    error
}

/// The device's open, in a process that says it is another one; its error number.
pub fn open_for(process: &Arc<Process>, other: &Arc<Process>) -> c_int {
    let (switch, proc) = (switch().expect("a driver"), context::in_process(other, current_proc));
    let dev = MAJOR << 24;
    context::in_process(process, || unsafe { (switch.open)(dev, FREAD_FWRITE, S_IFCHR, proc) })
}

/// The device's close, in the current process, if this was the last open file of all.
pub fn close(dev: c_int) {
    let mut open = lock(&OPEN);
    if open_files(dev, &mut open, -1) == 0
        && let Some(switch) = switch()
    {
        let error = unsafe { (switch.close)(dev, FREAD_FWRITE, S_IFCHR, current_proc()) };
        assert_eq!(error, 0, "a close that fails helps nobody");
    }
}

/// The device's ioctl.
pub fn ioctl(dev: c_int, code: c_ulong, data: *mut u8) -> c_int {
    switch().map_or(ENXIO, |switch| unsafe { (switch.ioctl)(dev, code, data, FREAD_FWRITE, current_proc()) })
}

// ---- sleep ----

type SleepHandler =
    unsafe extern "C" fn(*mut c_void, *mut c_void, u32, *mut c_void, *mut c_void, usize) -> u32;

static HANDLER: Mutex<Option<SleepHandler>> = Mutex::new(None);
const NOTIFIER: usize = 0x5000;

#[unsafe(no_mangle)]
pub extern "C" fn darwin_registerPrioritySleepWakeInterest(
    handler: SleepHandler,
    _target: *mut c_void,
    _reference: *mut c_void,
) -> *mut c_void {
    context::may_sleep("registerPrioritySleepWakeInterest");
    if must_fail("registerPrioritySleepWakeInterest") {
        return core::ptr::null_mut();
    }
    assert!(lock(&HANDLER).replace(handler).is_none());
    machine().ledger.add("notifiers", 1);
    core::ptr::without_provenance_mut(NOTIFIER)
}

#[unsafe(no_mangle)]
pub extern "C" fn supdrv_glue_remove_notifier(notifier: *mut c_void) {
    context::may_sleep("IONotifier::remove");
    assert!(notifier as usize == NOTIFIER && lock(&HANDLER).take().is_some());
    machine().ledger.add("notifiers", -1);
}

/// Tells about sleep or wake-up: the handler's result, and how long it wants the machine to wait.
pub fn notify(message: u32) -> (u32, usize) {
    let Some(handler) = *lock(&HANDLER) else { violation("nobody wants to know") };
    // `IOPowerStateChangeNotification`: reference, how long to wait, state number, flags.
    let mut notification = [0x77_usize, 15_000_000, 1, 2];
    let (null, argument) = (core::ptr::null_mut(), notification.as_mut_ptr().cast());
    let result = unsafe { handler(null, null, message, null, argument, size_of_val(&notification)) };
    (result, notification[1])
}
