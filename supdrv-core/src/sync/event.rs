//! The state of an event, for systems whose kernel has queues of waiters but no events.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::os::EventKind;

/// Whether an event is signalled, and who has been released by it.
///
/// All methods but [`new`](Self::new) and [`kind`](Self::kind) are called with the lock of the system's queue held. A wait calls
/// [`arrive`](Self::arrive) once, and [`take`](Self::take) then and after each wake-up, however it came about.
#[derive(Debug)]
pub struct EventState {
    kind: EventKind,
    signalled: AtomicBool,
    /// Signals of a multi-release event so far: whoever saw fewer has been released, even if it was reset since.
    signals: AtomicU64,
}

/// What a waiter found when it came.
#[derive(Clone, Copy, Debug)]
pub struct Arrival(u64);

impl EventState {
    /// An event that isn't signalled.
    #[must_use]
    pub const fn new(kind: EventKind) -> Self {
        Self { kind, signalled: AtomicBool::new(false), signals: AtomicU64::new(0) }
    }

    /// Its kind: a signal of a multi-release event wakes all waiters, of a single-release one the first.
    #[must_use]
    pub const fn kind(&self) -> EventKind {
        self.kind
    }

    /// A signal; the waiters are woken afterwards.
    pub fn signal(&self) {
        self.signalled.store(true, Ordering::Relaxed);
        self.signals.fetch_add(1, Ordering::Relaxed);
    }

    /// The end of a signal.
    pub fn reset(&self) {
        self.signalled.store(false, Ordering::Relaxed);
    }

    /// A waiter comes.
    pub fn arrive(&self) -> Arrival {
        Arrival(self.signals.load(Ordering::Relaxed))
    }

    /// Whether the waiter may go; takes the signal of a single-release event.
    pub fn take(&self, arrival: Arrival) -> bool {
        match self.kind {
            EventKind::SingleRelease => self.signalled.swap(false, Ordering::Relaxed),
            EventKind::MultiRelease => {
                self.signalled.load(Ordering::Relaxed) || self.signals.load(Ordering::Relaxed) != arrival.0
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_signal_of_a_single_release_event_releases_one_waiter() {
        let event = EventState::new(EventKind::SingleRelease);
        let (first, second) = (event.arrive(), event.arrive());
        event.signal();
        assert!(event.take(second) && !event.take(first));
        event.signal();
        event.reset();
        assert!(!event.take(first));
    }

    #[test]
    fn a_multi_release_event_releases_who_waited_even_if_it_is_reset_before_they_look() {
        let event = EventState::new(EventKind::MultiRelease);
        let early = event.arrive();
        event.signal();
        event.reset();
        let late = event.arrive();
        assert!(event.take(early) && !event.take(late));
        event.signal();
        assert!(event.take(late) && event.take(event.arrive()));
    }
}
