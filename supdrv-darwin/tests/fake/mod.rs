//! A Darwin kernel, as far as the driver can tell: the functions that it imports, with their contracts, what the C++ half does with I/O Kit,
//! and the system calls that lead to the driver.
//!
//! There is one machine with four CPUs for each test program; tests use it one after the other ([`boot`]).
#![allow(dead_code, reason = "not every test uses every part of the kernel")]
#![allow(non_upper_case_globals, non_snake_case, reason = "the kernel's names")]
#![allow(clippy::missing_safety_doc, reason = "the contracts are the kernel's")]
#![allow(
    unsafe_op_in_unsafe_fn,
    clippy::undocumented_unsafe_blocks,
    reason = "called by the driver as it calls the kernel"
)]

pub mod base;
pub mod calls;
pub mod cpus;
pub mod devices;
pub mod iokit;
pub mod processes;
pub mod shim;
pub mod waits;

use core::ffi::c_void;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use fakekernel::faults::Faults;
use fakekernel::ledger::Ledger;
use fakekernel::ram::Ram;

/// CPUs of the machine.
pub const CPUS: u32 = 4;

/// What the machine consists of, besides the parts in the modules.
pub struct Machine {
    pub ram: Ram,
    pub ledger: Ledger,
    pub faults: Faults,
    pub log: Mutex<Vec<String>>,
    pub settings: Mutex<Settings>,
}

/// What differs between machines.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The C++ half was built that way.
    pub hardened: bool,
    /// What VMXON answers.
    pub vmxon: i32,
    /// Memory of I/O Kit isn't aligned to pages.
    pub unaligned: bool,
    /// Pages that should be contiguous aren't.
    pub scattered: bool,
}

const USUAL: Settings = Settings { hardened: true, vmxon: 0, unaligned: false, scattered: false };

static MACHINE: LazyLock<Machine> = LazyLock::new(|| Machine {
    ram: Ram::new(),
    ledger: Ledger::new(),
    faults: Faults::new(),
    log: Mutex::default(),
    settings: Mutex::new(USUAL),
});

static TURN: Mutex<()> = Mutex::new(());

pub fn machine() -> &'static Machine {
    &MACHINE
}

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub fn settings() -> Settings {
    *lock(&machine().settings)
}

/// Whether a call must fail.
pub fn must_fail(name: &'static str) -> bool {
    machine().faults.must_fail(name)
}

unsafe extern "C" {
    fn supdrv_darwin_start(kmod: *mut c_void) -> i32;
    fn supdrv_darwin_stop(kmod: *mut c_void) -> i32;
    fn supdrv_darwin_may_terminate(kmod: *mut c_void) -> i32;
    pub fn supdrv_darwin_client_start(client: *mut c_void) -> i32;
    pub fn supdrv_darwin_client_close(client: *mut c_void);
    pub fn SUPDrvDarwinIDC(code: u32, packet: *mut c_void) -> i32;
}

/// `kmod_info`, which is packed: 196 bytes, the reference count at 0x90.
static KMOD: Mutex<[u8; 196]> = Mutex::new([0; 196]);

/// The machine, for one test. When it is dropped, the extension must be gone and nothing of it left.
pub struct Kernel {
    _turn: MutexGuard<'static, ()>,
}

/// Waits for one's turn, and starts from a clean state.
pub fn boot() -> Kernel {
    let turn = lock(&TURN);
    machine().faults.stop();
    *lock(&machine().settings) = USUAL;
    lock(&machine().log).clear();
    Kernel { _turn: turn }
}

impl Kernel {
    /// `kextload`.
    pub fn load(&self) -> i32 {
        // The linker needs a reason to look for the driver.
        let _shim: supdrv_darwin::Darwin = supdrv_darwin::Darwin;
        let failed = unsafe { supdrv_darwin_start(lock(&KMOD).as_mut_ptr().cast()) };
        if failed == 0 {
            // The personality matches, and there is a service.
            processes::publish(true);
        }
        failed
    }

    /// `kextunload`: the service is asked to terminate only if it has no clients; the kernel asks the extension anyway.
    pub fn unload(&self) -> i32 {
        let failed = unsafe { supdrv_darwin_stop(lock(&KMOD).as_mut_ptr().cast()) };
        if failed == 0 {
            processes::publish(false);
        }
        failed
    }

    /// Whether the service lets itself be terminated while so many other extensions are linked against it.
    pub fn may_terminate(&self, references: i32) -> bool {
        let mut kmod = lock(&KMOD);
        kmod[0x90..0x94].copy_from_slice(&references.to_ne_bytes());
        let may = unsafe { supdrv_darwin_may_terminate(kmod.as_mut_ptr().cast()) } != 0;
        kmod[0x90..0x94].fill(0);
        may
    }

    pub fn set(&self, change: impl FnOnce(&mut Settings)) {
        change(&mut lock(&machine().settings));
    }

    /// What is left of the driver.
    pub fn leftovers(&self) -> Vec<(&'static str, i64)> {
        base::wait_for_threads();
        let mut all = machine().ledger.all();
        let pages = machine().ram.in_use();
        if pages != 0 {
            all.push(("pages", pages as i64));
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
