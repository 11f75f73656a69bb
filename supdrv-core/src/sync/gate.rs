//! A pointer that any context may use while it is published, and whose owner can wait until nobody does.
//!
//! Users count themselves first and look at the pointer then; the owner withdraws the pointer first and looks at the count then. Each
//! has a full fence between the two, so that one of them sees the other: whoever got the pointer is counted until it is done with it.

use core::ptr::{NonNull, null_mut};

use super::atomics::{AtomicPtr, AtomicU32, Ordering, fence};

/// The gate. Closed at first.
pub struct Gate<T> {
    target: AtomicPtr<T>,
    inside: AtomicU32,
}

impl<T> Default for Gate<T> {
    fn default() -> Self {
        Self { target: AtomicPtr::new(null_mut()), inside: AtomicU32::new(0) }
    }
}

impl<T> Gate<T> {
    /// Lets users in to `target`, which stays valid until the gate was closed and found [idle](Self::is_idle). Class I.
    pub fn open(&self, target: NonNull<T>) {
        self.target.store(target.as_ptr(), Ordering::Release);
    }

    /// Lets nobody in any more; returns the target, if it was open. Class I.
    pub fn close(&self) -> Option<NonNull<T>> {
        let target = NonNull::new(self.target.swap(null_mut(), Ordering::AcqRel));
        fence(Ordering::SeqCst);
        target
    }

    /// Whether users are let in. Class I.
    pub fn is_open(&self) -> bool {
        !self.target.load(Ordering::Relaxed).is_null()
    }

    /// Whether nobody is inside. Once this is true of a closed gate, nobody uses what its target was. Class I.
    pub fn is_idle(&self) -> bool {
        self.inside.load(Ordering::Acquire) == 0
    }

    /// Goes in, if it is open. Class I: never waits. A closed gate isn't even counted at, so that attempts can't keep its owner waiting.
    pub fn enter(&self) -> Option<Pass<'_, T>> {
        if !self.is_open() {
            return None;
        }
        self.inside.fetch_add(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let pass = Pass { gate: self, target: self.target.load(Ordering::Acquire) };
        // A null one is dropped here, and thereby leaves.
        if pass.target.is_null() { None } else { Some(pass) }
    }
}

/// The right to use a gate's target, until it is dropped.
pub struct Pass<'a, T> {
    gate: &'a Gate<T>,
    target: *mut T,
}

impl<T> Pass<'_, T> {
    /// The target: valid, if whoever opened the gate kept the promise of [`Gate::open`].
    pub fn target(&self) -> *mut T {
        self.target
    }
}

impl<T> Drop for Pass<'_, T> {
    fn drop(&mut self) {
        self.gate.inside.fetch_sub(1, Ordering::Release);
    }
}
