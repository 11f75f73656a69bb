//! The protocol between the one writer of an entry and its readers: a version number that is odd while the entry changes.
//!
//! Readers never wait for locks and never write. A look at the entry counts only if the number was even and the same before and
//! after it. The writer makes every change under a new even number; where it must come back to an old one (a new entry starts at
//! 2 again), nobody has the page yet, or readers retry because of what they compare.
//!
//! It is generic over the memory that the number is in, so that a model checker can run it.

use core::sync::atomic::{Ordering, fence};

use crate::abi::gip::GipCpu;

/// Where an entry's version number is.
pub trait Versioned {
    /// The number.
    fn id(&self, order: Ordering) -> u32;
    /// Changes the number.
    fn set_id(&self, id: u32, order: Ordering);
    /// A fence of the memory that this is in.
    fn fence(order: Ordering) {
        fence(order);
    }
}

impl Versioned for GipCpu {
    fn id(&self, order: Ordering) -> u32 {
        self.transaction_id.load(order)
    }

    fn set_id(&self, id: u32, order: Ordering) {
        self.transaction_id.store(id, order);
    }
}

/// One change: `open` is odd, `close` is even; `fields` stores, relaxed, what belongs together.
pub fn write<V: Versioned>(entry: &V, open: u32, close: u32, fields: impl FnOnce()) {
    entry.set_id(open, Ordering::Relaxed);
    // Whoever sees one of the stores to come sees the odd number too.
    V::fence(Ordering::Release);
    fields();
    entry.set_id(close, Ordering::Release);
}

/// One attempt to look: `fields` loads, relaxed; `None` if the entry changed meanwhile.
pub fn read<V: Versioned, T>(entry: &V, fields: impl FnOnce() -> T) -> Option<T> {
    let id = entry.id(Ordering::Acquire);
    let seen = fields();
    V::fence(Ordering::Acquire);
    (id & 1 == 0 && entry.id(Ordering::Relaxed) == id).then_some(seen)
}
