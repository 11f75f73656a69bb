//! A FreeBSD kernel, as far as the driver can tell: the functions that it imports, with their contracts, and the system calls that lead
//! to it.
//!
//! There is one machine with four CPUs for each test program; tests use it one after the other ([`boot`]).
#![allow(dead_code, unused_imports, reason = "each test program uses its own part of the kernel")]
#![allow(non_upper_case_globals, non_snake_case, reason = "the kernel's names")]
#![allow(clippy::missing_safety_doc, reason = "the contracts are the kernel's")]
#![allow(
    unsafe_op_in_unsafe_fn,
    clippy::undocumented_unsafe_blocks,
    reason = "called by the driver as it calls the kernel"
)]

mod base;
mod devices;
mod glue;
mod nodes;
mod sleep;
mod syscalls;
mod vm;

use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use fakekernel::faults::Faults;
use fakekernel::ledger::Ledger;
use fakekernel::ram::Ram;
use fakekernel::ticker::Ticker;

pub use base::next_second;
pub use devices::{occupy, vacate};
pub use nodes::{Calls, Nodes};
pub use syscalls::{
    EACCES, EBUSY, EEXIST, EFAULT, EINVAL, ENOENT, ENOMEM, ENOTTY, ENXIO, EPERM, Fd, RDWR, exit,
};
pub use vm::{has_inherited_mappings, mapping_count, munmap};

/// CPUs of the machine.
pub const CPUS: u32 = 4;

/// What the machine consists of, besides the parts in the modules.
pub struct Machine {
    pub ram: Ram,
    pub ledger: Ledger,
    pub faults: Faults,
    pub ticker: Ticker,
    pub log: Mutex<Vec<String>>,
    pub settings: Mutex<Settings>,
}

/// Tunables.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub hardened: bool,
    pub force_async_tsc: bool,
}

static MACHINE: LazyLock<Machine> = LazyLock::new(|| Machine {
    ram: Ram::new(),
    ledger: Ledger::new(),
    faults: Faults::new(),
    ticker: Ticker::new(CPUS),
    log: Mutex::default(),
    settings: Mutex::new(Settings { hardened: true, force_async_tsc: false }),
});

static TURN: Mutex<()> = Mutex::new(());

pub fn machine() -> &'static Machine {
    &MACHINE
}

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `moduledata_t`.
#[repr(C)]
struct ModuleData {
    name: *const core::ffi::c_char,
    event: unsafe extern "C" fn(*mut core::ffi::c_void, i32, *mut core::ffi::c_void) -> i32,
    private: *mut core::ffi::c_void,
}

const MOD_LOAD: i32 = 0;
const MOD_UNLOAD: i32 = 1;
const MOD_SHUTDOWN: i32 = 2;
const MOD_QUIESCE: i32 = 3;
const EOPNOTSUPP: i32 = 45;

/// Sends the module an event, as the kernel's linker does.
fn module_event(event: i32) -> i32 {
    unsafe {
        let module = freebsd_module_vboxdrv;
        (module.event)(core::ptr::null_mut(), event, module.private)
    }
}

unsafe extern "C" {
    /// Made by DECLARE_MODULE of the C half.
    static freebsd_module_vboxdrv: &'static ModuleData;
    pub fn SUPDrvFreeBSDIDC(code: u32, packet: *mut core::ffi::c_void) -> i32;
}

/// The machine, for one test. When it is dropped, the module must be gone and nothing of it left.
pub struct Kernel {
    _turn: MutexGuard<'static, ()>,
}

/// Waits for one's turn, and starts from a clean state.
pub fn boot() -> Kernel {
    let turn = lock(&TURN);
    machine().faults.stop();
    *lock(&machine().settings) = Settings { hardened: true, force_async_tsc: false };
    lock(&machine().log).clear();
    Kernel { _turn: turn }
}

/// The linker needs a reason to look for the driver.
pub fn link() {
    let _shim: supdrv_freebsd::FreeBsd = supdrv_freebsd::FreeBsd;
    use freebsd_shell as _;
}

impl Kernel {
    /// `kldload`: the error number.
    pub fn load(&self) -> i32 {
        link();
        module_event(MOD_LOAD)
    }

    /// `kldunload`, without force: asks first.
    pub fn unload(&self) -> i32 {
        match module_event(MOD_QUIESCE) {
            0 => module_event(MOD_UNLOAD),
            refused => refused,
        }
    }

    /// `kldunload -f`: doesn't ask.
    pub fn unload_forced(&self) -> i32 {
        module_event(MOD_UNLOAD)
    }

    /// The system shuts down, which modules of this kind aren't asked about: the error number.
    pub fn shutdown(&self) -> i32 {
        module_event(MOD_SHUTDOWN)
    }

    pub fn set(&self, change: impl FnOnce(&mut Settings)) {
        change(&mut lock(&machine().settings));
    }

    /// What is left of the driver.
    pub fn leftovers(&self) -> Vec<(&'static str, i64)> {
        let mut all = machine().ledger.all();
        let pages = machine().ram.in_use();
        if pages != 0 {
            all.push(("pages", pages as i64));
        }
        let timers = machine().ticker.active();
        if timers != 0 {
            all.push(("armed timers", timers as i64));
        }
        all
    }

    /// The system wakes up.
    pub fn resume(&self) {
        base::run_handlers("power_resume");
    }

    pub fn log_text(&self) -> String {
        lock(&machine().log).concat()
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        machine().faults.stop();
        assert_eq!(self.leftovers(), [], "the driver left something behind");
    }
}
