//! Time since boot.
//!
//! The kernel counts milliseconds in 32 bits, which wrap after 49.7 days. The extension finds a wrap when the counter is behind
//! its last reading, so that somebody has to read it more often than it wraps.

/// Nanoseconds of a millisecond.
const NS_PER_MS: u64 = 1_000_000;

/// The last reading, to be kept under a spinlock: two readers would each see the other's wrap.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock {
    wraps: u32,
    last_ms: u32,
}

impl Clock {
    /// A clock that hasn't been read.
    #[must_use]
    pub const fn new() -> Self {
        Self { wraps: 0, last_ms: 0 }
    }

    /// Nanoseconds since boot; `read` gives the kernel's counter in milliseconds. Never less than before. Class I.
    ///
    /// The counter is read here, and thus under the lock: readings that arrive in another order than they were taken in look like a wrap.
    pub fn nanoseconds(&mut self, read: impl FnOnce() -> u32) -> u64 {
        let now_ms = read();
        if now_ms < self.last_ms {
            self.wraps = self.wraps.saturating_add(1);
        }
        self.last_ms = now_ms;
        ((u64::from(self.wraps) << 32) | u64::from(now_ms)).saturating_mul(NS_PER_MS)
    }
}
