//! A kernel of illumos, as far as the driver can tell: the functions that it imports, with their contracts, and the device framework
//! that calls it through its tables.
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
mod cpus;
mod framework;
mod shim;
mod space;
mod vm;

use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use fakekernel::faults::Faults;
use fakekernel::ledger::Ledger;
use fakekernel::ram::Ram;
use fakekernel::ticker::Ticker;

pub use cpus::set_online;
pub use framework::{
    EACCES, EBUSY, EFAULT, EINVAL, ENOENT, ENOTTY, ENXIO, EPERM, Fd, SUPDrvSolarisIDC, exit, resume, suspend,
};
pub use shim::{Calls, Nodes};
pub use space::{check_mapping, mapping_count, munmap};

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

/// Properties of driver.conf, and what the kernel has.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub hardened: bool,
    pub allow_zones: bool,
    /// The kernel arbitrates VT-x; somebody else has it.
    pub arbitration: bool,
    pub vtx_is_taken: bool,
}

const DEFAULTS: Settings =
    Settings { hardened: true, allow_zones: false, arbitration: true, vtx_is_taken: false };

static MACHINE: LazyLock<Machine> = LazyLock::new(|| Machine {
    ram: Ram::new(),
    ledger: Ledger::new(),
    faults: Faults::new(),
    ticker: Ticker::new(CPUS),
    log: Mutex::default(),
    settings: Mutex::new(DEFAULTS),
});

static TURN: Mutex<()> = Mutex::new(());

pub fn machine() -> &'static Machine {
    &MACHINE
}

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The machine, for one test. When it is dropped, the module must be gone and nothing of it left.
pub struct Kernel {
    _turn: MutexGuard<'static, ()>,
}

/// Waits for one's turn, and starts from a clean state.
pub fn boot() -> Kernel {
    let turn = lock(&TURN);
    machine().faults.stop();
    *lock(&machine().settings) = DEFAULTS;
    lock(&machine().log).clear();
    // The linker needs a reason to look for the driver.
    let _shim: supdrv_solaris::Solaris = supdrv_solaris::Solaris;
    use solaris_shell as _;
    Kernel { _turn: turn }
}

impl Kernel {
    /// `modload`, and attach: the error number; a driver that doesn't attach is unloaded again.
    pub fn load(&self) -> i32 {
        framework::load()
    }

    /// `modunload`.
    pub fn unload(&self) -> i32 {
        framework::unload()
    }

    pub fn set(&self, change: impl FnOnce(&mut Settings)) {
        change(&mut lock(&machine().settings));
    }

    /// What is left of the driver.
    pub fn leftovers(&self) -> Vec<(&'static str, i64)> {
        let mut all = machine().ledger.all();
        for (kind, count) in [("pages", machine().ram.in_use()), ("armed timers", machine().ticker.active())]
        {
            if count != 0 {
                all.push((kind, count as i64));
            }
        }
        all
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
