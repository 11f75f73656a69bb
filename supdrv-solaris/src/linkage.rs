//! The tables that the kernel finds the driver by, and the three functions that it looks for by name.
//!
//! Layouts are those of the kernel for amd64, asserted below. The kernel counts references in one of them: all of them are in
//! writable memory.

use core::cell::UnsafeCell;
use core::ffi::{c_int, c_void};
use core::mem::offset_of;

use crate::entry;
use crate::kernel::{self, Opaque};

/// An address in a table.
#[repr(transparent)]
#[derive(Clone, Copy)]
struct Pointer(*const c_void);

const NULL: Pointer = Pointer(core::ptr::null());

macro_rules! to {
    ($function:expr) => {
        Pointer($function as *const c_void)
    };
}

/// A table in writable memory.
#[repr(transparent)]
struct Table<T>(UnsafeCell<T>);

// SAFETY: only the kernel touches the tables, under its own locks.
unsafe impl<T> Sync for Table<T> {}

impl<T> Table<T> {
    const fn new(table: T) -> Self {
        Self(UnsafeCell::new(table))
    }

    const fn address(&self) -> Pointer {
        Pointer(self.0.get().cast_const().cast())
    }
}

/// `struct cb_ops`.
#[repr(C)]
struct CbOps {
    open: Pointer,
    close: Pointer,
    strategy: Pointer,
    print: Pointer,
    dump: Pointer,
    read: Pointer,
    write: Pointer,
    ioctl: Pointer,
    devmap: Pointer,
    mmap: Pointer,
    segmap: Pointer,
    chpoll: Pointer,
    prop_op: Pointer,
    stream: Pointer,
    flags: c_int,
    revision: c_int,
    aread: Pointer,
    awrite: Pointer,
}

const _: () = assert!(size_of::<CbOps>() == 136 && offset_of!(CbOps, flags) == 112);

/// `struct dev_ops`.
#[repr(C)]
struct DevOps {
    revision: c_int,
    references: c_int,
    getinfo: Pointer,
    identify: Pointer,
    probe: Pointer,
    attach: Pointer,
    detach: Pointer,
    reset: Pointer,
    cb_ops: Pointer,
    bus_ops: Pointer,
    power: Pointer,
    quiesce: Pointer,
}

const _: () = assert!(size_of::<DevOps>() == 88 && offset_of!(DevOps, quiesce) == 80);

/// `struct modldrv`.
#[repr(C)]
struct Modldrv {
    operations: Pointer,
    description: Pointer,
    dev_ops: Pointer,
}

const _: () = assert!(size_of::<Modldrv>() == 24);

/// `struct modlinkage`.
#[repr(C)]
struct Modlinkage {
    revision: c_int,
    linkage: [Pointer; 7],
}

const _: () = assert!(size_of::<Modlinkage>() == 64 && offset_of!(Modlinkage, linkage) == 8);

const D_MP: c_int = 0x20;
const CB_REV: c_int = 1;
const DEVO_REV: c_int = 4;
const MODREV_1: c_int = 1;

static CB_OPS: Table<CbOps> = Table::new(CbOps {
    open: to!(entry::open),
    close: to!(entry::close),
    strategy: to!(kernel::nodev),
    print: to!(kernel::nodev),
    dump: to!(kernel::nodev),
    read: to!(entry::nothing_transferred),
    write: to!(entry::nothing_transferred),
    ioctl: to!(entry::ioctl),
    devmap: to!(kernel::nodev),
    mmap: to!(kernel::nodev),
    segmap: to!(kernel::nodev),
    chpoll: to!(kernel::nochpoll),
    prop_op: to!(kernel::ddi_prop_op),
    stream: NULL,
    flags: D_MP,
    revision: CB_REV,
    aread: to!(kernel::nodev),
    awrite: to!(kernel::nodev),
});

static DEV_OPS: Table<DevOps> = Table::new(DevOps {
    revision: DEVO_REV,
    references: 0,
    getinfo: to!(kernel::nodev),
    identify: to!(kernel::nulldev),
    probe: to!(kernel::nulldev),
    attach: to!(entry::attach),
    detach: to!(entry::detach),
    reset: to!(kernel::nodev),
    cb_ops: CB_OPS.address(),
    bus_ops: NULL,
    power: to!(kernel::nodev),
    quiesce: to!(entry::quiesce),
});

static MODLDRV: Table<Modldrv> = Table::new(Modldrv {
    operations: Pointer((&raw const kernel::mod_driverops).cast()),
    description: Pointer(c"Host support driver".as_ptr().cast()),
    dev_ops: DEV_OPS.address(),
});

static MODLINKAGE: Table<Modlinkage> = Table::new(Modlinkage {
    revision: MODREV_1,
    linkage: [MODLDRV.address(), NULL, NULL, NULL, NULL, NULL, NULL],
});

/// Loads the module. Class T.
#[cfg_attr(target_os = "none", unsafe(export_name = "_init"))]
#[cfg_attr(not(target_os = "none"), unsafe(export_name = "solaris_module_init"))]
extern "C" fn init() -> c_int {
    let failed = entry::start();
    if failed != 0 {
        return failed;
    }
    // SAFETY: the table is complete, and stays.
    let failed = unsafe { kernel::mod_install(MODLINKAGE.address().0) };
    if failed != 0 {
        entry::stop();
    }
    failed
}

/// Unloads it, if nobody uses it. Class T.
#[cfg_attr(target_os = "none", unsafe(export_name = "_fini"))]
#[cfg_attr(not(target_os = "none"), unsafe(export_name = "solaris_module_fini"))]
extern "C" fn fini() -> c_int {
    if entry::is_busy() {
        return kernel::EBUSY;
    }
    // SAFETY: what was installed.
    let failed = unsafe { kernel::mod_remove(MODLINKAGE.address().0) };
    if failed == 0 {
        entry::stop();
    }
    failed
}

/// Tells about it. Class T.
#[cfg_attr(target_os = "none", unsafe(export_name = "_info"))]
#[cfg_attr(not(target_os = "none"), unsafe(export_name = "solaris_module_info"))]
extern "C" fn info(info: *mut Opaque) -> c_int {
    // SAFETY: the kernel's own structure.
    unsafe { kernel::mod_info(MODLINKAGE.address().0, info) }
}
