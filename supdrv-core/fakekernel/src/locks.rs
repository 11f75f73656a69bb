//! Locks in memory of the driver: a word that names the owner.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::context;

/// A lock word; 0 is free.
#[repr(transparent)]
pub struct Word(AtomicUsize);

impl Default for Word {
    fn default() -> Self {
        Self::new()
    }
}

impl Word {
    /// A free lock.
    #[must_use]
    pub const fn new() -> Self {
        Self(AtomicUsize::new(0))
    }

    /// The word at an address.
    ///
    /// # Safety
    /// An aligned word is there, which is used in no other way, for as long as the result is used.
    pub unsafe fn at<'a>(address: *mut usize) -> &'a Self {
        // SAFETY: the caller's promise.
        unsafe { &*address.cast::<Self>() }
    }

    /// Whether the current thread holds it.
    #[must_use]
    pub fn is_mine(&self) -> bool {
        self.0.load(Ordering::Relaxed) == context::thread_id()
    }

    /// Whether anybody holds it.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.0.load(Ordering::Relaxed) != 0
    }

    /// Acquires; a second time by the same thread is a dead-lock, and a violation.
    pub fn acquire(&self) {
        let me = context::thread_id();
        if self.is_mine() {
            crate::violation("a lock is acquired twice");
        }
        let mut attempts = 0_u32;
        while self.0.compare_exchange(0, me, Ordering::Acquire, Ordering::Relaxed).is_err() {
            attempts += 1;
            if attempts < 100 {
                std::thread::yield_now();
            } else {
                std::thread::sleep(Duration::from_micros(50));
            }
        }
    }

    /// Acquires if it is free.
    pub fn try_acquire(&self) -> bool {
        self.0.compare_exchange(0, context::thread_id(), Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// Releases, by the owner.
    pub fn release(&self) {
        if !self.is_mine() {
            crate::violation("a lock is released by somebody who doesn't hold it");
        }
        self.0.store(0, Ordering::Release);
    }
}
