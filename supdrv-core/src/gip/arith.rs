//! The arithmetic of the time page: what one timer tick makes of an entry. No system calls, no page layout decisions.
//!
//! An update is prepared from private state and published at the end: readers find the entry unstable (odd transaction id) for
//! six stores. The private state of an entry is a [`Clock`] behind a lock word that an update only ever *tries* to take: a tick
//! that comes while another one works on the same entry counts an error and does nothing.

use core::sync::atomic::{AtomicU32, Ordering};

use super::protocol;
use crate::abi::gip::{CPU_HZ_UNKNOWN, GipCpu, GipHeader, INITIAL_TRANSACTION_ID};

/// Shortest update interval that a timer granularity is rounded up to.
pub const MIN_INTERVAL_NS: u32 = 10_000_000;
const MAX_INTERVAL_NS: u32 = 1_000_000_000;
const NS_PER_S: u64 = 1_000_000_000;
/// Updates per measurement of the update frequency.
const RECALC_UPDATES: u64 = 2048;
/// Measured update frequencies beyond this are not believed.
const PLAUSIBLE_HZ: core::ops::RangeInclusive<u64> = 30..=2000;
const HISTORY: usize = 8;

/// The update interval for a timer granularity: its smallest multiple that is at least 10 ms, at most 1 s.
#[must_use]
pub const fn interval_ns(granularity_ns: u32) -> u32 {
    if granularity_ns == 0 {
        return MIN_INTERVAL_NS;
    }
    let multiple = MIN_INTERVAL_NS.div_ceil(granularity_ns).saturating_mul(granularity_ns);
    if multiple > MAX_INTERVAL_NS { MAX_INTERVAL_NS } else { multiple }
}

/// Updates per second of an interval, rounded down.
#[must_use]
pub const fn update_hz(interval_ns: u32) -> u32 {
    if interval_ns == 0 { 0 } else { (NS_PER_S / interval_ns as u64) as u32 }
}

/// TSC ticks per interval that a new entry claims, until it is measured: as if the CPU ran at 2^32 Hz.
#[must_use]
pub const fn initial_interval_tsc(update_hz: u32) -> u32 {
    if update_hz == 0 { u32::MAX } else { ((1 << 32) / update_hz as u64) as u32 }
}

/// A simultaneous reading of both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Monotonic time in nanoseconds.
    pub now_ns: u64,
    /// TSC.
    pub tsc: u64,
}

/// Which update this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tick {
    /// Number of the timer callback since the timer was started.
    pub number: u64,
    /// Whether this entry measures the update frequency for all.
    pub measures: bool,
}

/// The private state of an entry.
#[derive(Clone, Debug)]
pub struct Clock {
    sample: Sample,
    history: [u32; HISTORY],
    head: usize,
    errors: u32,
    interval_tsc: u32,
    cpu_hz: u64,
    prev_interval_ns: u32,
    /// When this entry began the running measurement of the update frequency; 0 if it didn't.
    measures_since_ns: u64,
}

fn bump(counter: &mut u32) {
    *counter = counter.wrapping_add(1);
}

impl Clock {
    /// Nothing known; [`reset`](Self::reset) comes first.
    pub const NEW: Self = Self {
        sample: Sample { now_ns: 0, tsc: 0 },
        history: [0; HISTORY],
        head: 0,
        errors: 0,
        interval_tsc: 0,
        cpu_hz: 0,
        prev_interval_ns: 0,
        measures_since_ns: 0,
    };

    fn newest(&self) -> u32 {
        self.history.get(self.head).copied().unwrap_or(0)
    }

    /// Starts over with claims instead of measurements. Errors, head and previous interval stay.
    pub fn reset(&mut self, entry: &GipCpu, update_hz: u32, sample: Sample) {
        let interval = initial_interval_tsc(update_hz);
        self.history = [interval; HISTORY];
        self.interval_tsc = interval;
        self.cpu_hz = CPU_HZ_UNKNOWN;
        self.sample = sample;
        // Updates are counted from here again: half a measurement is none.
        self.measures_since_ns = 0;
        let open = entry.transaction_id.load(Ordering::Relaxed) | 1;
        self.publish(entry, open, INITIAL_TRANSACTION_ID, || {});
    }

    /// Before updates start: moves the entry's time to one interval before the first tick, and its transaction id to where
    /// measurements begin.
    pub fn restart(&mut self, entry: &GipCpu, interval_ns: u32, now: Sample) {
        self.sample = Sample {
            now_ns: now.now_ns.wrapping_sub(interval_ns.into()),
            tsc: now.tsc.wrapping_sub(self.newest().into()),
        };
        let id = entry.transaction_id.load(Ordering::Relaxed);
        self.publish(entry, id | 1, aligned_transaction_id(id), || {});
    }

    /// What [`restart`](Self::restart) does to the transaction id alone, for an entry whose CPU can't be asked for its TSC.
    pub fn realign(&mut self, entry: &GipCpu) {
        let id = entry.transaction_id.load(Ordering::Relaxed);
        entry.transaction_id.store(aligned_transaction_id(id), Ordering::Release);
    }

    /// Counts a tick that came while another one was at work.
    pub fn count_collision(errors: &AtomicU32) {
        errors.fetch_add(1, Ordering::Relaxed);
    }

    /// One update of the entry, and of the header if the tick measures.
    pub fn update(&mut self, header: &GipHeader, entry: &GipCpu, now: Sample, tick: Tick) {
        let id = entry.transaction_id.load(Ordering::Relaxed);
        // Collisions are counted in the page by whoever finds the clock busy.
        self.errors = entry.errors.load(Ordering::Relaxed);
        let open = if id & 1 == 0 {
            id.wrapping_add(1)
        } else {
            bump(&mut self.errors);
            id
        };
        let measured =
            if tick.measures && open & 0xffe == 0 { self.measure(header, now.now_ns) } else { None };
        let update_hz = measured.map_or_else(|| header.update_hz.load(Ordering::Relaxed), |(hz, _)| hz);
        let interval_ns =
            measured.map_or_else(|| header.update_interval_ns.load(Ordering::Relaxed), |(_, ns)| ns);
        let last = core::mem::replace(&mut self.sample, now);
        let delta_ns = now.now_ns.wrapping_sub(last.now_ns);
        self.prev_interval_ns = delta_ns as u32;
        // The first interval after a start means nothing.
        if open != 3 && tick.number != 1 {
            let delta = self.delta(open, delta_ns, now.tsc.wrapping_sub(last.tsc), interval_ns);
            self.average(delta, update_hz, interval_ns);
        }
        self.publish(entry, open, open.wrapping_add(1), || {
            if let Some((hz, ns)) = measured {
                header.update_hz.store(hz, Ordering::Relaxed);
                header.update_interval_ns.store(ns, Ordering::Relaxed);
            }
        });
    }

    /// Ends one measurement of the update frequency and begins the next; returns frequency and interval if they are plausible.
    ///
    /// A measurement counts only if this entry began it, and nobody has called it off since by clearing its beginning in the page:
    /// updates of different entries don't make one measurement.
    fn measure(&mut self, header: &GipHeader, now_ns: u64) -> Option<(u32, u32)> {
        let base = header.last_update_hz_nano_ts.swap(now_ns, Ordering::Relaxed);
        let begun = core::mem::replace(&mut self.measures_since_ns, now_ns);
        let delta = now_ns.wrapping_sub(base);
        let hz = (RECALC_UPDATES * NS_PER_S).checked_div(delta)?;
        if base == 0 || base != begun || !PLAUSIBLE_HZ.contains(&hz) {
            return None;
        }
        Some((hz as u32, (delta / RECALC_UPDATES) as u32))
    }

    /// The TSC ticks of this interval, if they make sense; enters them in the history.
    fn delta(&mut self, open: u32, delta_ns: u64, delta_tsc: u64, interval_ns: u32) -> u32 {
        let newest = self.newest();
        let mut delta = u32::try_from(delta_tsc).unwrap_or(0);
        if delta == 0 {
            bump(&mut self.errors);
            delta = newest;
        }
        if open > 7 {
            delta /= missed_ticks(delta_ns, interval_ns.into(), delta.into(), newest.into());
        } else if open == 5 || open == 7 {
            // What the history was initialised with is fiction; these intervals are the first real ones.
            self.history = [delta; HISTORY];
        }
        self.head = (self.head + 1) % HISTORY;
        if let Some(slot) = self.history.get_mut(self.head) {
            *slot = delta;
        }
        delta
    }

    /// Interval and frequency from the history; the faster the updates, the more samples and the less slack.
    fn average(&mut self, delta: u32, update_hz: u32, interval_ns: u32) {
        let previous = (self.head + HISTORY - 1) % HISTORY;
        let previous = u64::from(self.history.get(previous).copied().unwrap_or(delta));
        let (average, slack_shift) = match update_hz {
            1000.. => {
                let quarter = |half: &[u32]| half.iter().map(|delta| u64::from(*delta)).sum::<u64>() / 4;
                let (low, high) = self.history.split_at(HISTORY / 2);
                ((quarter(low) + quarter(high)) / 2, 14)
            }
            90.. => (u64::midpoint(delta.into(), previous), 7),
            _ => (u64::from(delta), 6),
        };
        let interval = (average + (average >> slack_shift)).clamp(1, u32::MAX.into());
        self.interval_tsc = interval as u32;
        self.cpu_hz = (average * NS_PER_S).checked_div(interval_ns.into()).unwrap_or(CPU_HZ_UNKNOWN);
    }

    /// Writes the entry inside a transaction that ends with `close`; `more` belongs to it.
    fn publish(&self, entry: &GipCpu, open: u32, close: u32, more: impl FnOnce()) {
        protocol::write(entry, open, close, || {
            more();
            entry.interval_tsc.store(self.interval_tsc, Ordering::Relaxed);
            entry.nano_ts.store(self.sample.now_ns, Ordering::Relaxed);
            entry.tsc.store(self.sample.tsc, Ordering::Relaxed);
            entry.cpu_hz.store(self.cpu_hz, Ordering::Relaxed);
        });
        // No reader's time depends on the rest.
        entry.errors.store(self.errors, Ordering::Relaxed);
        entry.history_head.store(self.head as u32, Ordering::Relaxed);
        for (to, from) in entry.history.iter().zip(self.history) {
            to.store(from, Ordering::Relaxed);
        }
        entry.prev_interval_ns.store(self.prev_interval_ns, Ordering::Relaxed);
    }
}

/// How many intervals passed in one, if both clocks say the same; else 1.
fn missed_ticks(delta_ns: u64, interval_ns: u64, delta_tsc: u64, newest: u64) -> u32 {
    let rounded = |delta: u64, unit: u64| delta.saturating_add(unit / 2).checked_div(unit);
    match (rounded(delta_ns, interval_ns), rounded(delta_tsc, newest)) {
        (Some(by_ns), Some(by_tsc)) if by_ns == by_tsc && by_ns >= 2 => u32::try_from(by_ns).unwrap_or(1),
        _ => 1,
    }
}

/// The transaction id that an entry continues with after a pause: the next multiple of 4096, where measurements begin. One that
/// was never updated keeps its own, because its first updates are known by it.
#[must_use]
pub const fn aligned_transaction_id(id: u32) -> u32 {
    if id == INITIAL_TRANSACTION_ID { id } else { id.wrapping_add(0x1000) & !0xfff }
}
