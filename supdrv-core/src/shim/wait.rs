//! Waiting on an event that a kernel's queue and an [`EventState`] make together.

use crate::abi::status::{Result, VERR_INTERRUPTED, VERR_TIMEOUT};
use crate::os::{OsTime, Timeout};
use crate::sync::event::EventState;

/// The lock of an event's queue, held, and the way to sleep on it. Dropping it unlocks.
pub trait LockedQueue: Sized {
    /// Sleeps until woken, for no reason sometimes, or until the deadline on the system's clock. The lock is given up meanwhile and
    /// held again afterwards. Returns whether something else than a wake-up or the deadline ended it: a signal of the process.
    fn sleep(self, deadline_ns: Option<u64>) -> (Self, bool);
}

/// The deadline of a timeout; `None`: for ever.
pub fn deadline<O: OsTime>(os: &O, timeout: Timeout) -> Option<u64> {
    match timeout {
        Timeout::Forever => None,
        Timeout::DeadlineNs(deadline) => Some(deadline),
        Timeout::RelativeNs(0) => Some(0),
        Timeout::RelativeNs(relative) => os.system_nano_ts().checked_add(relative),
    }
}

/// Waits. Signalled wins over timed out wins over interrupted. Class T.
///
/// # Errors
/// VERR_TIMEOUT; VERR_INTERRUPTED. No signal is consumed then.
pub fn wait<O: OsTime, Q: LockedQueue>(
    os: &O,
    event: &EventState,
    lock: Q,
    deadline_ns: Option<u64>,
) -> Result<()> {
    let mut locked = lock;
    let arrival = event.arrive();
    let mut interrupted = false;
    loop {
        if event.take(arrival) {
            return Ok(());
        }
        if deadline_ns.is_some_and(|deadline| os.system_nano_ts() >= deadline) {
            return Err(VERR_TIMEOUT);
        }
        if interrupted {
            return Err(VERR_INTERRUPTED);
        }
        (locked, interrupted) = locked.sleep(deadline_ns);
    }
}
