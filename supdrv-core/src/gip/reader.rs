//! Reading the time from the page, as clients do it: without a system call, from any CPU.

use core::sync::atomic::{AtomicU64, Ordering};

use super::protocol;
use crate::abi::gip::{GIP_MAGIC, GipCpu, GipHeader, MODE_ASYNC, MODE_SYNC};

/// A gap above which the last time read is taken for garbage: a day, about.
const BAD_GAP_NS: u64 = 86_000_000_000_000;
const MAX_RACES: u32 = 25;

/// What a client remembers between readings, shared by its threads.
#[derive(Debug, Default)]
pub struct Reader {
    previous: AtomicU64,
    one_ns_steps: AtomicU64,
    expired: AtomicU64,
    bad_previous: AtomicU64,
    races: AtomicU64,
}

/// How often something happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// The page's time stood still, so that the clock made a step of 1 ns.
    pub one_ns_steps: u64,
    /// The last update was longer ago than an interval.
    pub expired: u64,
    /// The previous time made no sense.
    pub bad_previous: u64,
    /// Another thread was faster.
    pub races: u64,
}

/// A consistent look at an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Time of the last update.
    pub nano_ts: u64,
    /// TSC of the last update.
    pub tsc: u64,
    /// TSC ticks of an interval.
    pub interval_tsc: u32,
    /// Nanoseconds of an interval.
    pub interval_ns: u32,
}

impl Snapshot {
    /// The time at a TSC, and whether the interval had expired.
    #[must_use]
    pub fn time_at(&self, tsc: u64) -> (u64, bool) {
        let delta = tsc.wrapping_sub(self.tsc);
        let expired = delta > self.interval_tsc.into();
        let delta = delta.min(self.interval_tsc.into());
        let ns = (delta * u64::from(self.interval_ns)).checked_div(self.interval_tsc.into()).unwrap_or(0);
        (self.nano_ts.wrapping_add(ns), expired)
    }
}

/// Looks at an entry and calls `tsc` inside the window in which it was stable.
pub fn snapshot(header: &GipHeader, entry: &GipCpu, tsc: impl Fn() -> u64) -> (Snapshot, u64) {
    loop {
        let seen = protocol::read(entry, || {
            let snapshot = Snapshot {
                interval_tsc: entry.interval_tsc.load(Ordering::Relaxed),
                nano_ts: entry.nano_ts.load(Ordering::Relaxed),
                tsc: entry.tsc.load(Ordering::Relaxed),
                interval_ns: header.update_interval_ns.load(Ordering::Relaxed),
            };
            (snapshot, tsc())
        });
        match seen {
            Some(seen) => return seen,
            None => core::hint::spin_loop(),
        }
    }
}

impl Reader {
    /// Nothing read yet.
    #[must_use]
    pub const fn new() -> Self {
        Self::continuing(0)
    }

    /// Continues after a time.
    #[must_use]
    pub const fn continuing(latest: u64) -> Self {
        Self {
            previous: AtomicU64::new(latest),
            one_ns_steps: AtomicU64::new(0),
            expired: AtomicU64::new(0),
            bad_previous: AtomicU64::new(0),
            races: AtomicU64::new(0),
        }
    }

    /// The last time that was read; 0 for none.
    #[must_use]
    pub fn latest(&self) -> u64 {
        self.previous.load(Ordering::Relaxed)
    }

    /// How often what happened.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Statistics {
            one_ns_steps: get(&self.one_ns_steps),
            expired: get(&self.expired),
            bad_previous: get(&self.bad_previous),
            races: get(&self.races),
        }
    }

    /// The time now; `None` if the page is gone or its mode isn't known, when the client asks its system instead.
    ///
    /// `apic_id` gives the initial APIC id of the current CPU, `tsc` its TSC.
    pub fn now_ns(
        &self,
        header: &GipHeader,
        entries: &[GipCpu],
        apic_id: impl Fn() -> u8,
        tsc: impl Fn() -> u64,
    ) -> Option<u64> {
        if header.magic.load(Ordering::Relaxed) != GIP_MAGIC {
            return None;
        }
        // Before the page: a reader that is interrupted after its look must not take what others have read since for garbage.
        let previous = self.previous.load(Ordering::Acquire);
        let (look, tsc) = match header.mode.load(Ordering::Relaxed) {
            MODE_SYNC => snapshot(header, entries.first()?, tsc),
            MODE_ASYNC => loop {
                let apic = apic_id();
                let index = header.cpu_from_apic_id.get(usize::from(apic))?.load(Ordering::Relaxed);
                let found = snapshot(header, entries.get(usize::from(index))?, &tsc);
                if apic_id() == apic {
                    break found;
                }
            },
            _ => return None,
        };
        Some(self.advance_after(previous, &look, tsc))
    }

    /// Turns a look at the page, that nobody has come after, into a time that is after every time returned before.
    pub fn advance(&self, snapshot: &Snapshot, tsc: u64) -> u64 {
        self.advance_after(self.latest(), snapshot, tsc)
    }

    fn advance_after(&self, previous: u64, snapshot: &Snapshot, tsc: u64) -> u64 {
        let (page_time, expired) = snapshot.time_at(tsc);
        let claim = claim_after(&self.previous, previous, page_time, snapshot.interval_ns);
        let count = |counter: &AtomicU64, by: u64| {
            if by != 0 {
                counter.fetch_add(by, Ordering::Relaxed);
            }
        };
        count(&self.expired, expired.into());
        count(&self.one_ns_steps, claim.was_behind.into());
        count(&self.bad_previous, claim.was_garbage.into());
        count(&self.races, claim.races.into());
        claim.time
    }
}

/// Where the last time that anybody read is.
pub trait Latest {
    /// What it is now.
    fn load(&self) -> u64;

    /// Replaces it if it is `old`.
    ///
    /// # Errors
    /// What it is instead.
    fn exchange(&self, old: u64, new: u64) -> Result<u64, u64>;

    /// Advances to a time, or by 1 ns if that isn't later; the new time.
    fn advance(&self, to: u64) -> u64;
}

impl Latest for AtomicU64 {
    fn load(&self) -> u64 {
        self.load(Ordering::Relaxed)
    }

    fn exchange(&self, old: u64, new: u64) -> Result<u64, u64> {
        self.compare_exchange(old, new, Ordering::Relaxed, Ordering::Relaxed)
    }

    fn advance(&self, to: u64) -> u64 {
        if self.fetch_max(to, Ordering::Relaxed) < to {
            return to;
        }
        self.fetch_add(1, Ordering::Relaxed).wrapping_add(1)
    }
}

/// A time that a reader has for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The time.
    pub time: u64,
    /// The page's time wasn't after the last one, so that this is 1 ns after it.
    pub was_behind: bool,
    /// The last time was too far away to be true.
    pub was_garbage: bool,
    /// How often another reader was faster.
    pub races: u32,
}

/// Claims a time for a reader that the page told `page_time`. No other reader gets the same, as long as the last time makes sense. Whoever
/// loses 25 races doesn't try again, but takes what comes next.
pub fn claim(latest: &impl Latest, page_time: u64, interval_ns: u32) -> Claim {
    claim_after(latest, latest.load(), page_time, interval_ns)
}

/// As [`claim`], for a reader that saw the last time `previous` before it looked at the page. Whatever others have claimed since is
/// after the page's time without being wrong.
fn claim_after(latest: &impl Latest, mut previous: u64, page_time: u64, interval_ns: u32) -> Claim {
    let mut claim = Claim { time: page_time, was_behind: false, was_garbage: false, races: 0 };
    let gap = page_time.wrapping_sub(previous);
    if gap == 0 || gap >= BAD_GAP_NS {
        if previous.wrapping_sub(page_time) <= 2 * u64::from(interval_ns) {
            claim.time = previous.wrapping_add(1);
            claim.was_behind = true;
        } else {
            claim.was_garbage = previous != 0;
        }
    }
    while let Err(now) = latest.exchange(previous, claim.time) {
        claim.races += 1;
        if claim.races == MAX_RACES {
            if !claim.was_garbage {
                claim.time = latest.advance(claim.time);
            }
            break;
        }
        previous = now;
        if now >= claim.time {
            claim.time = now.wrapping_add(1);
        }
    }
    claim
}
