//! Spinlocks of the kernel, and what they guard.

use core::cell::UnsafeCell;

use supdrv_core::os::OsArch;

use crate::kernel::{self, SpinWord};
use crate::os::Os2;

/// A spinlock, in its final place, whose kernel part was made by [`KernelLock::init`].
///
/// The kernel turns interrupts off while it is held, and may turn them on afterwards: so the state from before is restored.
pub struct KernelLock {
    word: UnsafeCell<SpinWord>,
    /// The holder's.
    flags: UnsafeCell<usize>,
}

// SAFETY: a lock is for sharing; its parts are the kernel's and the holder's.
unsafe impl Sync for KernelLock {}
// SAFETY: nothing in it belongs to a thread while it isn't held.
unsafe impl Send for KernelLock {}

impl KernelLock {
    /// To be initialised.
    pub const fn new() -> Self {
        Self { word: UnsafeCell::new(0), flags: UnsafeCell::new(0) }
    }

    /// Class T, once, in its final place.
    pub fn init(&self) {
        // SAFETY: nobody else knows the lock yet.
        unsafe { kernel::KernAllocSpinLock(self.word()) };
    }

    /// Class T; it isn't used any more.
    pub fn deinit(&self) {
        // SAFETY: made by `init`, and nobody holds it.
        unsafe { kernel::KernFreeSpinLock(self.word()) };
    }

    /// The kernel's part.
    pub const fn word(&self) -> *mut SpinWord {
        self.word.get()
    }

    /// Class I.
    pub fn acquire(&self) {
        let flags = Os2.irq_save();
        // SAFETY: initialised; not held by this CPU, which is the caller's lock order.
        unsafe { kernel::KernAcquireSpinLock(self.word()) };
        // SAFETY: the holder's field.
        unsafe { self.flags.get().write(flags) };
    }

    /// Sleeps, while somebody else may have the lock: `block` gives the kernel's part up and has it again afterwards. The state to restore
    /// stays the holder's own.
    pub fn asleep<R>(&self, block: impl FnOnce(*mut SpinWord) -> R) -> R {
        // SAFETY: the holder's field, before and after.
        let flags = unsafe { self.flags.get().read() };
        let result = block(self.word());
        // SAFETY: as above.
        unsafe { self.flags.get().write(flags) };
        result
    }

    /// # Safety
    /// The caller holds it and gives it up.
    pub unsafe fn release(&self) {
        // SAFETY: still the holder's field; afterwards the lock is given up, and the flags are those of its acquisition.
        unsafe {
            let flags = self.flags.get().read();
            kernel::KernReleaseSpinLock(self.word());
            Os2.irq_restore(flags);
        }
    }
}

/// Data of the driver that lives as long as the driver's code, under a spinlock.
pub struct Guarded<T> {
    lock: KernelLock,
    data: UnsafeCell<T>,
}

// SAFETY: one holder at a time has the data.
unsafe impl<T: Send> Sync for Guarded<T> {}

impl<T> Guarded<T> {
    pub const fn new(data: T) -> Self {
        Self { lock: KernelLock::new(), data: UnsafeCell::new(data) }
    }

    /// Class T, once.
    pub fn init(&self) {
        self.lock.init();
    }

    /// Class T; it isn't used any more, or initialised again.
    pub fn deinit(&self) {
        self.lock.deinit();
    }

    /// Class I. `run` neither allocates, blocks nor calls out.
    pub fn with<R>(&self, run: impl FnOnce(&mut T) -> R) -> R {
        self.lock.acquire();
        // SAFETY: the lock is held.
        let result = run(unsafe { &mut *self.data.get() });
        // SAFETY: acquired above.
        unsafe { self.lock.release() };
        result
    }
}
