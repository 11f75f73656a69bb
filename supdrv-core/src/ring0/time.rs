//! Clocks: `RTTime*`.

use super::runtime::Ring0;
use crate::os::{OsModule, OsTime};

const NS_PER_MS: u64 = 1_000_000;

/// Monotonic ns: the clock of event deadlines and of the GIP. Class I.
pub unsafe fn nano_ts<R: Ring0>() -> u64 {
    R::os().system_nano_ts()
}

/// Monotonic ms. Class I.
pub unsafe fn milli_ts<R: Ring0>() -> u64 {
    R::os().system_nano_ts() / NS_PER_MS
}

/// As [`nano_ts`].
pub unsafe fn system_nano_ts<R: Ring0>() -> u64 {
    R::os().system_nano_ts()
}

/// As [`milli_ts`].
pub unsafe fn system_milli_ts<R: Ring0>() -> u64 {
    R::os().system_nano_ts() / NS_PER_MS
}

/// Fills in the ns since 1970-01-01 UTC; the argument. Class T.
pub unsafe fn now<R: Ring0>(time: *mut i64) -> *mut i64 {
    // SAFETY: the caller keeps the contract of the C function; null is tolerated.
    if let Some(time) = unsafe { time.as_mut() } {
        *time = R::os().wall_clock_ns();
    }
    time
}
