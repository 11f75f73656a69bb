//! What exists from start to stop, before the driver and after it: the lock group, the number of CPUs, the locks that pin.
//!
//! Preemption is off while a spin lock is held, and there is no other way to turn it off: each CPU has a lock for that, taken by the first
//! one who pins himself there.

use core::ptr::{NonNull, null_mut};
use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use supdrv_core::abi::status::{Result, VERR_GENERAL_FAILURE, VERR_NO_MEMORY};
use supdrv_core::os::MAX_CPUS;

use crate::kernel::{self, Opaque};

struct Pin {
    lock: AtomicPtr<Opaque>,
    /// Changed by its own CPU only, with interrupts off.
    depth: AtomicU32,
}

static GROUP: AtomicPtr<Opaque> = AtomicPtr::new(null_mut());
static CPUS: AtomicU32 = AtomicU32::new(0);
static PINS: [Pin; MAX_CPUS] =
    [const { Pin { lock: AtomicPtr::new(null_mut()), depth: AtomicU32::new(0) } }; MAX_CPUS];

/// How many CPUs there are. Class I.
pub(crate) fn cpu_count() -> u32 {
    CPUS.load(Ordering::Relaxed)
}

/// The group of all locks. Class I.
pub(crate) fn group() -> *mut Opaque {
    GROUP.load(Ordering::Relaxed)
}

/// A new spin lock. Class T.
pub(crate) fn new_spin_lock() -> Result<NonNull<Opaque>> {
    // SAFETY: the group exists from start to stop; default attributes.
    NonNull::new(unsafe { kernel::lck_spin_alloc_init(group(), null_mut()) }).ok_or(VERR_NO_MEMORY)
}

/// Turns interrupts off; whether they were on. Class I.
pub(crate) fn interrupts_off() -> usize {
    usize::from(kernel::ml_set_interrupts_enabled(0) != 0)
}

/// Turns them on again, if they were on. Class I.
pub(crate) fn interrupts_restore(were_on: usize) {
    let _off = kernel::ml_set_interrupts_enabled((were_on != 0).into());
}

fn ask_cpu_count() -> Result<u32> {
    let (mut count, mut bytes) = (0_i32, size_of::<i32>());
    // SAFETY: the buffer and its size are ours, and a sysctl of this name is an int.
    let failed = unsafe {
        let (place, size) = ((&raw mut count).cast(), &raw mut bytes);
        kernel::sysctlbyname(c"hw.ncpu".as_ptr(), place, size, null_mut(), 0)
    };
    u32::try_from(count).ok().filter(|count| failed == 0 && *count != 0).ok_or(VERR_GENERAL_FAILURE)
}

/// Makes everything. Class T.
///
/// # Errors
/// VERR_NO_MEMORY; VERR_GENERAL_FAILURE: the kernel doesn't say how many CPUs there are. Nothing is left then.
pub(crate) fn start() -> Result<()> {
    // SAFETY: a constant name; default attributes.
    let group = unsafe { kernel::lck_grp_alloc_init(c"supdrv".as_ptr(), null_mut()) };
    if group.is_null() {
        return Err(VERR_NO_MEMORY);
    }
    GROUP.store(group, Ordering::Relaxed);
    let made = ask_cpu_count().and_then(|count| {
        CPUS.store(count, Ordering::Relaxed);
        PINS.iter().take(count as usize).try_for_each(|pin| {
            pin.lock.store(new_spin_lock()?.as_ptr(), Ordering::Relaxed);
            Ok(())
        })
    });
    if made.is_err() {
        stop();
    }
    made
}

/// Frees everything; no lock is left. Class T.
pub(crate) fn stop() {
    let group = group();
    for pin in &PINS {
        let lock = pin.lock.swap(null_mut(), Ordering::Relaxed);
        if !lock.is_null() {
            // SAFETY: made in `start`; nobody holds it.
            unsafe { kernel::lck_spin_free(lock, group) };
        }
    }
    GROUP.store(null_mut(), Ordering::Relaxed);
    if !group.is_null() {
        // SAFETY: made in `start`; no lock of it is left.
        unsafe { kernel::lck_grp_free(group) };
    }
}

fn current_pin() -> Option<&'static Pin> {
    let cpu = usize::try_from(kernel::cpu_number()).ok()?;
    PINS.get(cpu).filter(|pin| !pin.lock.load(Ordering::Relaxed).is_null())
}

/// Pins the caller to its CPU. Nests. Class D.
pub(crate) fn pin() {
    let were_on = interrupts_off();
    if let Some(pin) = current_pin()
        && pin.depth.fetch_add(1, Ordering::Relaxed) == 0
    {
        // SAFETY: it exists as long as the driver; no other CPU takes this CPU's lock, and this one doesn't hold it.
        unsafe { kernel::lck_spin_lock(pin.lock.load(Ordering::Relaxed)) };
    }
    interrupts_restore(were_on);
}

/// Undoes it. Class D, same CPU.
pub(crate) fn unpin() {
    // An interrupt between the two halves would find the lock held and wait for ever.
    let were_on = interrupts_off();
    if let Some(pin) = current_pin()
        && pin.depth.fetch_sub(1, Ordering::Relaxed) == 1
    {
        // SAFETY: taken by the first of this CPU's pins; this was the last.
        unsafe { kernel::lck_spin_unlock(pin.lock.load(Ordering::Relaxed)) };
    }
    interrupts_restore(were_on);
}
