//! Users of a module against its unload.

use core::sync::atomic::{AtomicU32, Ordering};

/// Counts users; once closed it lets nobody in. Count and closure are one atomic number, so that nobody slips in between the check of
/// an unload and what it takes down.
#[derive(Debug, Default)]
pub struct Gate(AtomicU32);

/// Nobody becomes a user any more.
const CLOSED: u32 = 1 << 31;

impl Gate {
    /// Open, without users.
    #[must_use]
    pub const fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// Becomes a user; whether that was possible. Class I.
    pub fn enter(&self) -> bool {
        let more = |users: u32| (users < CLOSED - 1).then(|| users.wrapping_add(1));
        self.0.fetch_update(Ordering::AcqRel, Ordering::Relaxed, more).is_ok()
    }

    /// A user who [entered](Self::enter) goes. Class I.
    pub fn leave(&self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }

    /// Keeps new users out, if there are none; whether it is closed now, by this call. Class I.
    pub fn close(&self) -> bool {
        self.0.compare_exchange(0, CLOSED, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Lets users in; for whoever closed it, or before anybody knows it. Class I.
    pub fn reopen(&self) {
        self.0.store(0, Ordering::Release);
    }

    /// Whether there are users. Class I.
    #[must_use]
    pub fn is_used(&self) -> bool {
        self.0.load(Ordering::Acquire) & !CLOSED != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_closes_only_behind_the_last_user_and_lets_nobody_in_afterwards() {
        let gate = Gate::new();
        assert!(gate.enter() && gate.enter());
        gate.leave();
        assert!(gate.is_used() && !gate.close());
        gate.leave();
        assert!(gate.close() && !gate.close());
        assert!(!gate.enter() && !gate.is_used());
        gate.reopen();
        assert!(gate.enter());
    }
}
