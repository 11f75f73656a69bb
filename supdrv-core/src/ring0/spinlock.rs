//! Spinlocks: `RTSpinlock*`.

use core::cell::UnsafeCell;
use core::ffi::c_char;

use super::handle::{self, Kind};
use super::runtime::{Ring0, rc, rc_handle};
use crate::abi::status::VERR_INVALID_PARAMETER;
use crate::os::{IrqState, LockClass, OsLock, OsLog, SupdrvOs};

/// The lock disables interrupts.
const IRQ_SAFE: u32 = 2;
/// It doesn't.
const IRQ_UNSAFE: u32 = 4;

struct SpinLock<O: SupdrvOs> {
    lock: O::SpinLock,
    /// For IRQ-safe locks: what the owner's acquire found. Only the owner touches it.
    found: Option<UnsafeCell<IrqState>>,
}

impl<O: SupdrvOs> Kind for SpinLock<O> {
    const MAGIC: u32 = 0x7370_696e;
}

/// Creates a spinlock, IRQ-safe (flag 2) or not (flag 4). Class T. 0, `VERR_INVALID_PARAMETER`, `VERR_INVALID_POINTER`, `VERR_NO_MEMORY`.
pub unsafe fn create<R: Ring0>(out: *mut usize, flags: u32, _name: *const c_char) -> i32 {
    let class = match flags {
        IRQ_SAFE => LockClass::ModuleIrqSpin,
        IRQ_UNSAFE => LockClass::ModuleSpin,
        _ => return VERR_INVALID_PARAMETER.0,
    };
    let os = &R::os();
    let new = || {
        let found = (flags == IRQ_SAFE).then(|| UnsafeCell::new(IrqState(0)));
        let lock = SpinLock::<R::Os> { lock: os.spinlock_create(class)?, found };
        handle::create(os, lock).map(handle::publish)
    };
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { rc_handle(out, new) }
}

/// Destroys a spinlock that nobody holds. Class T. 0, `VERR_INVALID_PARAMETER` (NIL or dead).
pub unsafe fn destroy<R: Ring0>(lock: usize) -> i32 {
    // SAFETY: the caller keeps the contract of the C function.
    let lock = unsafe { handle::take::<SpinLock<R::Os>, _>(&R::os(), lock) };
    rc(lock.map(drop).map_err(|_| VERR_INVALID_PARAMETER))
}

/// Acquires it. Class I for the IRQ-safe kind, else class D.
pub unsafe fn acquire<R: Ring0>(lock: usize) {
    // SAFETY: the caller keeps the contract of the C function.
    let Ok(lock) = (unsafe { handle::get::<SpinLock<R::Os>>(lock) }) else { return };
    match &lock.found {
        Some(found) => {
            let state = R::os().spinlock_acquire_irq(&lock.lock);
            // SAFETY: the lock is owned, and only its owner touches the state.
            unsafe { *found.get() = state };
        }
        None => R::os().spinlock_acquire(&lock.lock),
    }
}

/// Releases it, on the same CPU; restores the interrupt state that the acquire found. Class as the acquire.
pub unsafe fn release<R: Ring0>(lock: usize) {
    // SAFETY: the caller keeps the contract of the C function.
    let Ok(lock) = (unsafe { handle::get::<SpinLock<R::Os>>(lock) }) else { return };
    match &lock.found {
        // SAFETY: the caller holds the lock: the state is its own, and is read before the lock is given up.
        Some(found) => unsafe {
            let state = *found.get();
            R::os().spinlock_release_irq(&lock.lock, state);
        },
        // SAFETY: the caller holds the lock.
        None => unsafe { R::os().spinlock_release(&lock.lock) },
    }
}

/// As [`release`]; complains if the lock isn't IRQ-safe.
pub unsafe fn release_no_ints<R: Ring0>(lock: usize) {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe {
        if handle::get::<SpinLock<R::Os>>(lock).is_ok_and(|lock| lock.found.is_none()) {
            R::os().log_write(b"supdrv: RTSpinlockReleaseNoInts of a lock that isn't IRQ-safe\n");
        }
        release::<R>(lock);
    }
}
