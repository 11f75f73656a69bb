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
        Self {
            previous: AtomicU64::new(0),
            one_ns_steps: AtomicU64::new(0),
            expired: AtomicU64::new(0),
            bad_previous: AtomicU64::new(0),
            races: AtomicU64::new(0),
        }
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
        Some(self.advance(&look, tsc))
    }

    /// Turns a look at the page into a time that is after every time returned before.
    pub fn advance(&self, snapshot: &Snapshot, tsc: u64) -> u64 {
        let count = |counter: &AtomicU64| counter.fetch_add(1, Ordering::Relaxed);
        let (page_time, expired) = snapshot.time_at(tsc);
        if expired {
            count(&self.expired);
        }
        let mut previous = self.previous.load(Ordering::Relaxed);
        let mut time = page_time;
        let gap = page_time.wrapping_sub(previous);
        if gap == 0 || gap >= BAD_GAP_NS {
            let behind = previous.wrapping_sub(page_time);
            if behind <= 2 * u64::from(snapshot.interval_ns) {
                time = previous.wrapping_add(1);
                count(&self.one_ns_steps);
            } else if previous != 0 {
                count(&self.bad_previous);
            }
        }
        for _ in 0..MAX_RACES {
            match self.previous.compare_exchange(previous, time, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return time,
                Err(now) => {
                    count(&self.races);
                    previous = now;
                    if now >= time {
                        time = now.wrapping_add(1);
                    }
                }
            }
        }
        time
    }
}
