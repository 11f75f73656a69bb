//! An OS/2 kernel, as far as the driver can tell: the 32-bit services that it imports and the functions of the assembly half, with their
//! contracts, and the strategy requests that lead to it.
//!
//! There is one machine for each test program; tests use it one after the other ([`boot`]). The assembly half itself isn't in it: its part
//! of the initialisation, and 16:16 pointers, are acted out here.
#![allow(dead_code, unused_imports, reason = "each test program uses its own part of the kernel")]
#![allow(non_upper_case_globals, non_snake_case, reason = "the kernel's names")]
#![allow(clippy::missing_safety_doc, reason = "the contracts are the kernel's")]
#![allow(
    unsafe_op_in_unsafe_fn,
    clippy::undocumented_unsafe_blocks,
    reason = "called by the driver as it calls the kernel"
)]

pub mod base;
pub mod calls;
pub mod devhlp;
pub mod memory;
pub mod shell;
pub mod sleep;
pub mod tick;

use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use fakekernel::faults::Faults;
use fakekernel::ledger::Ledger;
use fakekernel::ram::Ram;

pub use calls::Calls;

/// What the machine consists of, besides the parts in the modules.
pub struct Machine {
    pub ram: Ram,
    pub ledger: Ledger,
    pub faults: Faults,
}

static MACHINE: LazyLock<Machine> =
    LazyLock::new(|| Machine { ram: Ram::new(), ledger: Ledger::new(), faults: Faults::new() });

static TURN: Mutex<()> = Mutex::new(());

pub fn machine() -> &'static Machine {
    &MACHINE
}

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The machine, for one test. When it is dropped, the driver must be gone and nothing of it left.
pub struct Kernel {
    _turn: MutexGuard<'static, ()>,
}

/// Waits for one's turn, and starts from a clean state.
pub fn boot() -> Kernel {
    let turn = lock(&TURN);
    machine().faults.stop();
    base::set_cpus(1);
    base::set_yield_flag(0);
    tick::start();
    Kernel { _turn: turn }
}

impl Kernel {
    /// The system starts the driver: 0 or the status of the second header's INIT.
    pub fn load(&self) -> i32 {
        shell::start()
    }

    /// The machine goes off; refused while there are sessions.
    pub fn unload(&self) -> i32 {
        shell::power_off()
    }

    /// What is left of the driver. While it is there, what its heap has got isn't: blocks are counted instead.
    pub fn leftovers(&self) -> Vec<(&'static str, i64)> {
        let (blocks, chunks) = if shell::is_running() { supdrv_os2::heap_use() } else { (0, 0) };
        let mut all = machine().ledger.all();
        for (kind, count) in &mut all {
            if *kind == memory::KERNEL_MEMORY {
                *count -= chunks as i64;
            }
        }
        all.retain(|(_, count)| *count != 0);
        if blocks != 0 {
            all.push(("heap blocks", blocks as i64));
        }
        let pages = memory::pages_but_for(chunks);
        if pages != 0 {
            all.push(("pages", pages));
        }
        all
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
