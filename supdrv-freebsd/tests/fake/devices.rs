//! Device nodes, the private data of open files, copies.

use core::cell::Cell;
use core::ffi::{CStr, c_char, c_int, c_ulong, c_void};
use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, PoisonError};

use fakekernel::{context, user, violation};

use super::{EBUSY, EEXIST, EFAULT, ENOENT, lock, machine};

const EBADF: c_int = 9;

/// A node in /dev.
pub struct Node {
    pub name: String,
    pub unit: c_int,
    pub mode: c_int,
    /// The driver's entry points; not for other drivers' nodes.
    pub devsw: Option<&'static Cdevsw>,
    /// Threads inside of its entry points.
    pub inside: u32,
    /// Being removed.
    pub gone: bool,
}

type Destructor = unsafe extern "C" fn(*mut c_void);

/// Private data of an open file.
pub struct Private {
    node: usize,
    data: usize,
    destructor: Destructor,
}

#[derive(Default)]
pub struct Devices {
    pub nodes: BTreeMap<usize, Node>,
    /// By open file.
    private: BTreeMap<usize, Private>,
}

static DEVICES: Mutex<Devices> = Mutex::new(Devices { nodes: BTreeMap::new(), private: BTreeMap::new() });
static LEFT: Condvar = Condvar::new();

pub fn devices() -> std::sync::MutexGuard<'static, Devices> {
    lock(&DEVICES)
}

thread_local! {
    /// The open file and the node that the current system call is about.
    static CURRENT: Cell<Option<(usize, usize)>> = const { Cell::new(None) };
}

/// Runs an entry point of the cdevsw; `None` if the node is gone.
pub fn enter<R>(node: usize, file: usize, run: impl FnOnce(&Cdevsw, *mut c_void) -> R) -> Option<R> {
    let devsw = {
        let mut devices = devices();
        let node = devices.nodes.get_mut(&node).filter(|node| !node.gone)?;
        node.inside += 1;
        node.devsw?
    };
    let before = CURRENT.replace(Some((file, node)));
    let result = run(devsw, core::ptr::without_provenance_mut(node));
    CURRENT.set(before);
    if let Some(node) = devices().nodes.get_mut(&node) {
        node.inside -= 1;
    }
    LEFT.notify_all();
    Some(result)
}

/// The last reference to an open file goes.
pub fn drop_private(file: usize) {
    let private = devices().private.remove(&file);
    if let Some(private) = private {
        context::may_sleep("the destructor of private data");
        unsafe { (private.destructor)(private.data as *mut c_void) };
    }
}

/// `struct cdevsw`, as in `freebsd-standin.h`.
#[repr(C)]
pub struct Cdevsw {
    version: c_int,
    name: *const c_char,
    pub open: unsafe extern "C" fn(*mut c_void, c_int, c_int, *mut c_void) -> c_int,
    pub ioctl: unsafe extern "C" fn(*mut c_void, c_ulong, *mut u8, c_int, *mut c_void) -> c_int,
}

/// `struct make_dev_args`.
#[repr(C)]
pub struct MakeDevArgs {
    size: usize,
    flags: c_int,
    devsw: *const Cdevsw,
    uid: u32,
    gid: u32,
    mode: c_int,
    unit: c_int,
}

// SAFETY: never changes.
unsafe impl Sync for Cdevsw {}

const MAKEDEV_WAITOK_CHECKNAME: c_int = 0x28;
const D_VERSION: c_int = 0x1712_2009;

#[unsafe(no_mangle)]
pub unsafe extern "C" fn freebsd_make_dev_s(
    args: *const MakeDevArgs,
    node: *mut *mut c_void,
    format: *const c_char,
    name: *const c_char,
) -> c_int {
    context::may_sleep("make_dev_s");
    let args = &*args;
    assert_eq!((args.size, args.flags), (size_of::<MakeDevArgs>(), MAKEDEV_WAITOK_CHECKNAME));
    assert_eq!((args.uid, args.gid, CStr::from_ptr(format)), (0, 0, c"%s"));
    let devsw: &'static Cdevsw = &*args.devsw;
    assert_eq!((devsw.version, CStr::from_ptr(devsw.name)), (D_VERSION, c"vboxdrv"));
    let name = CStr::from_ptr(name).to_string_lossy().into_owned();
    let mut devices = devices();
    if machine().faults.must_fail("make_dev_s") || devices.nodes.values().any(|node| node.name == name) {
        return EEXIST;
    }
    let address = devices.nodes.keys().max().copied().unwrap_or(0xffff_f800_0300_0000) + 0x200;
    let (unit, mode) = (args.unit, args.mode);
    devices.nodes.insert(address, Node { name, unit, mode, devsw: Some(devsw), inside: 0, gone: false });
    machine().ledger.add("device nodes", 1);
    node.write(core::ptr::without_provenance_mut(address));
    0
}

/// Another driver's node, in the way.
pub fn occupy(name: &str) {
    devices()
        .nodes
        .insert(1, Node { name: name.into(), unit: 0, mode: 0, devsw: None, inside: 0, gone: false });
}

pub fn vacate() {
    devices().nodes.remove(&1);
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn freebsd_dev2unit(node: *mut c_void) -> c_int {
    devices()
        .nodes
        .get(&(node as usize))
        .map_or_else(|| violation("a node that doesn't exist"), |node| node.unit)
}

/// Waits for everybody inside, and ends the private data of all files that are open.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn freebsd_destroy_dev(node: *mut c_void) {
    context::may_sleep("destroy_dev");
    let node = node as usize;
    let mut guard = devices();
    match guard.nodes.get_mut(&node) {
        Some(node) => node.gone = true,
        None => violation("a node is destroyed twice"),
    }
    while guard.nodes.get(&node).is_some_and(|node| node.inside != 0) {
        guard = LEFT.wait(guard).unwrap_or_else(PoisonError::into_inner);
    }
    let open: Vec<usize> =
        guard.private.iter().filter(|(_, private)| private.node == node).map(|(file, _)| *file).collect();
    drop(guard);
    open.into_iter().for_each(drop_private);
    devices().nodes.remove(&node);
    machine().ledger.add("device nodes", -1);
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn freebsd_devfs_set_cdevpriv(data: *mut c_void, destructor: Destructor) -> c_int {
    context::may_sleep("devfs_set_cdevpriv");
    let Some((file, node)) = CURRENT.get() else { return ENOENT };
    if machine().faults.must_fail("devfs_set_cdevpriv") {
        return ENOENT;
    }
    let mut devices = devices();
    if devices.private.contains_key(&file) {
        return EBUSY;
    }
    devices.private.insert(file, Private { node, data: data as usize, destructor });
    0
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn freebsd_devfs_get_cdevpriv(data: *mut *mut c_void) -> c_int {
    let Some((file, _)) = CURRENT.get() else { return EBADF };
    if machine().faults.must_fail("devfs_get_cdevpriv") {
        return EBADF;
    }
    let devices = devices();
    let Some(private) = devices.private.get(&file) else { return ENOENT };
    data.write(private.data as *mut c_void);
    0
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn freebsd_copyin(from: usize, to: *mut u8, bytes: usize) -> c_int {
    context::may_sleep("copyin");
    if machine().faults.must_fail("copyin") || !user::copy_in(to, from, bytes) { EFAULT } else { 0 }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn freebsd_copyout(from: *const u8, to: usize, bytes: usize) -> c_int {
    context::may_sleep("copyout");
    if machine().faults.must_fail("copyout") || !user::copy_out(to, from, bytes) { EFAULT } else { 0 }
}
