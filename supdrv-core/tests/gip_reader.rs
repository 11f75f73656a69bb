//! Reading the time page: never torn, never backwards, never ahead of the true time by more than an interval.
//!
//! The two algorithms that matter, the version protocol of an entry and the readers' claim of a time, are generic over their memory,
//! and a model checker runs them here under every interleaving and every reordering that the memory model allows.

#[path = "common/gip_page.rs"]
mod gip_page;

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{self, Relaxed};

use gip_page::page;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, AtomicU64};
use supdrv_core::abi::gip::{CPU_HZ_UNKNOWN, GipCpu, GipHeader};
use supdrv_core::gip::arith::{Clock, Sample, Tick};
use supdrv_core::gip::protocol::{self, Versioned};
use supdrv_core::gip::reader::{Latest, Reader, Snapshot, claim, snapshot};
use supdrv_core::mock::{Host, MockOs};
use zerocopy::FromZeros;

struct ModelEntry {
    id: AtomicU32,
    nano_ts: AtomicU64,
    tsc: AtomicU64,
}

impl ModelEntry {
    fn new() -> Self {
        Self { id: AtomicU32::new(2), nano_ts: AtomicU64::new(0), tsc: AtomicU64::new(0) }
    }

    /// What belongs together is equal.
    fn update(&self, id: u32, value: u64) {
        protocol::write(self, id | 1, id + 2, || {
            self.nano_ts.store(value, Relaxed);
            self.tsc.store(value, Relaxed);
        });
    }

    fn look(&self) -> Option<(u64, u64)> {
        protocol::read(self, || (self.nano_ts.load(Relaxed), self.tsc.load(Relaxed)))
    }
}

impl Versioned for ModelEntry {
    fn id(&self, order: Ordering) -> u32 {
        self.id.load(order)
    }

    fn set_id(&self, id: u32, order: Ordering) {
        self.id.store(id, order);
    }

    fn fence(order: Ordering) {
        loom::sync::atomic::fence(order);
    }
}

/// A writer on one thread, looks on another: every interleaving and every reordering.
fn model_looks(updates: u32, looks: usize) {
    loom::model(move || {
        let entry = Arc::new(ModelEntry::new());
        let writer = {
            let entry = entry.clone();
            loom::thread::spawn(move || (1..=updates).for_each(|n| entry.update(2 * n, n.into())))
        };
        let mut last = 0;
        for _ in 0..looks {
            if let Some((nano_ts, tsc)) = entry.look() {
                assert_eq!(nano_ts, tsc, "torn");
                assert!(nano_ts >= last, "backwards");
                last = nano_ts;
            }
        }
        writer.join().expect("the writer");
        assert_eq!(entry.look(), Some((updates.into(), updates.into())), "an entry at rest can be read");
    });
}

#[test]
fn model_a_look_is_never_torn() {
    model_looks(2, 1);
}

#[test]
fn model_looks_do_not_go_backwards() {
    model_looks(1, 2);
}

struct ModelLatest(AtomicU64);

impl Latest for ModelLatest {
    fn load(&self) -> u64 {
        self.0.load(Relaxed)
    }

    fn exchange(&self, old: u64, new: u64) -> Result<u64, u64> {
        self.0.compare_exchange(old, new, Relaxed, Relaxed)
    }

    fn advance(&self, to: u64) -> u64 {
        if self.0.fetch_max(to, Relaxed) < to { to } else { self.0.fetch_add(1, Relaxed) + 1 }
    }
}

/// Several threads, a page that stands still, one that moves: no two readings are the same, and each thread's increase.
#[test]
fn model_times_are_unique_and_increase() {
    loom::model(|| {
        let latest = Arc::new(ModelLatest(AtomicU64::new(999)));
        let readers: Vec<_> = [[1000, 1000], [1000, 1003]]
            .into_iter()
            .map(|page_times| {
                let latest = latest.clone();
                loom::thread::spawn(move || page_times.map(|time| claim(&*latest, time, 10).time))
            })
            .collect();
        let mut all = Vec::new();
        for reader in readers {
            let times = reader.join().expect("a reader");
            assert!(times[0] < times[1], "{times:?}");
            all.extend(times);
        }
        all.sort_unstable();
        let count = all.len();
        all.dedup();
        assert_eq!(all.len(), count, "{all:?}");
        assert_eq!(latest.load(), all[count - 1], "the last one is remembered");
    });
}

#[test]
fn a_reader_that_loses_25_races_takes_what_comes_next() {
    struct Busy(std::sync::atomic::AtomicU64);
    impl Latest for Busy {
        fn load(&self) -> u64 {
            self.0.load(Relaxed)
        }

        fn exchange(&self, _old: u64, _new: u64) -> Result<u64, u64> {
            Err(self.0.fetch_add(1, Relaxed) + 1)
        }

        fn advance(&self, to: u64) -> u64 {
            Latest::advance(&self.0, to)
        }
    }
    // The others are behind the page, and ahead of it.
    for (others, expected) in [(100, 1000), (990, 1016)] {
        let busy = Busy(others.into());
        let claimed = claim(&busy, 1000, 10);
        assert_eq!((claimed.time, claimed.races), (expected, 25));
        assert_eq!(busy.load(), expected, "nobody else gets it");
    }
}

/// A small generator: tests must repeat.
struct Random(u64);

impl Random {
    fn next(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }
}

const INTERVAL_NS: u64 = 10_000_000;

struct Simulation {
    header: Box<GipHeader>,
    entry: GipCpu,
    clock: Clock,
    hz: u64,
    now_ns: u64,
    tick: u64,
}

impl Simulation {
    fn new(hz: u64) -> Self {
        let header = Box::new(GipHeader::new_zeroed());
        header.magic.store(supdrv_core::abi::gip::GIP_MAGIC, Relaxed);
        header.mode.store(supdrv_core::abi::gip::MODE_SYNC, Relaxed);
        header.update_hz.store(100, Relaxed);
        header.update_interval_ns.store(INTERVAL_NS as u32, Relaxed);
        let mut simulation = Self {
            header,
            entry: GipCpu::new_zeroed(),
            clock: Clock::NEW,
            hz,
            now_ns: 1_000_000_000,
            tick: 0,
        };
        let sample = simulation.sample();
        simulation.clock.reset(&simulation.entry, 100, sample);
        simulation.clock.restart(&simulation.entry, INTERVAL_NS as u32, sample);
        simulation
    }

    fn tsc(&self) -> u64 {
        (u128::from(self.now_ns) * u128::from(self.hz) / 1_000_000_000) as u64
    }

    fn sample(&self) -> Sample {
        Sample { now_ns: self.now_ns, tsc: self.tsc() }
    }

    fn update(&mut self) {
        self.tick += 1;
        let tick = Tick { number: self.tick, measures: true };
        let sample = self.sample();
        self.clock.update(&self.header, &self.entry, sample, tick);
    }

    fn read(&self, reader: &Reader) -> u64 {
        let entries = std::slice::from_ref(&self.entry);
        reader.now_ns(&self.header, entries, || 0, || self.tsc()).expect("a page")
    }
}

/// Ticks that are late, early, missing; readers anywhere between them.
#[test]
fn readings_increase_and_stay_close_to_the_true_time_on_any_schedule() {
    for seed in 1..=50 {
        let mut random = Random(seed * 0x9e37_79b9);
        let mut simulation = Simulation::new(1_000_000_000 + random.next(4_000_000_000));
        let reader = Reader::new();
        let mut last = 0;
        for _ in 0..400 {
            let missed = if random.next(20) == 0 { 1 + random.next(4) } else { 1 };
            let step = missed * INTERVAL_NS + random.next(200_000) - 100_000;
            let mut waited = 0;
            while waited < step {
                let pause = (1 + random.next(INTERVAL_NS / 3)).min(step - waited);
                waited += pause;
                simulation.now_ns += pause;
                let time = simulation.read(&reader);
                assert!(time > last, "seed {seed}: {time} after {last}");
                if simulation.tick > 3 {
                    assert!(time <= simulation.now_ns + INTERVAL_NS, "seed {seed}: ahead of the time");
                }
                last = time;
            }
            simulation.update();
            assert_ne!(simulation.entry.interval_tsc.load(Relaxed), 0, "seed {seed}");
            assert_eq!(simulation.entry.transaction_id.load(Relaxed) & 1, 0, "seed {seed}");
        }
    }
}

#[test]
fn the_frequency_is_right_within_a_percent_after_three_regular_intervals() {
    for seed in 1..=50 {
        let mut random = Random(seed * 0x51ed_270b);
        let hz = 500_000_000 + random.next(4_500_000_000);
        let mut simulation = Simulation::new(hz);
        let mut regular = 0;
        for _ in 0..500 {
            let is_regular = random.next(4) != 0;
            regular = if is_regular { regular + 1 } else { 0 };
            simulation.now_ns += if is_regular { INTERVAL_NS } else { 1 + random.next(5 * INTERVAL_NS) };
            simulation.update();
            let told = simulation.entry.cpu_hz.load(Relaxed);
            assert_ne!(told, 0);
            if regular >= 3 && told != CPU_HZ_UNKNOWN {
                assert!(told.abs_diff(hz) * 100 <= hz, "seed {seed}: {told} instead of {hz}");
            }
        }
    }
}

/// The fourth update is the first one that may be late without being taken for a slower clock.
#[test]
fn a_lost_tick_is_divided_out_as_soon_as_there_is_a_history() {
    let mut simulation = Simulation::new(2_400_000_000);
    for intervals in [1, 1, 1, 2, 1] {
        simulation.now_ns += intervals * INTERVAL_NS;
        simulation.update();
    }
    assert_eq!(simulation.entry.cpu_hz.load(Relaxed), 2_400_000_000);
    assert_eq!(simulation.entry.history[4].load(Relaxed), 24_000_000);
}

/// Wild TSCs: nothing may divide by zero, and the page stays readable.
#[test]
fn no_tsc_makes_the_page_unreadable() {
    let mut random = Random(42);
    let mut simulation = Simulation::new(2_000_000_000);
    for number in 1..=5000 {
        let wild = [0, 1, u64::MAX, 1 << 32, (1 << 32) - 1, random.next(u64::MAX)][random.next(6) as usize];
        simulation.now_ns += random.next(3 * INTERVAL_NS);
        let sample = Sample { now_ns: simulation.now_ns, tsc: wild };
        let (header, entry) = (&simulation.header, &simulation.entry);
        simulation.clock.update(header, entry, sample, Tick { number, measures: true });
        assert_ne!(entry.interval_tsc.load(Relaxed), 0);
        assert_ne!(entry.cpu_hz.load(Relaxed), 0);
        let (look, _) = snapshot(header, entry, || wild);
        assert_eq!((look.nano_ts, look.tsc), (sample.now_ns, wild));
    }
}

#[test]
fn readers_on_other_threads_never_see_a_torn_update() {
    let mut simulation = Simulation::new(3_000_000_000);
    let ended = AtomicBool::new(false);
    // The writer keeps an invariant that a torn look breaks: the TSC follows from the time.
    let (hz, header, entry) = (simulation.hz, &*simulation.header, &simulation.entry);
    let looks = std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut looks = 0_u64;
                    while !ended.load(Relaxed) {
                        let (look, _) = snapshot(header, entry, || 0);
                        let tsc = (u128::from(look.nano_ts) * u128::from(hz) / 1_000_000_000) as u64;
                        // The first pair is seeded from estimates.
                        assert!(
                            looks == 0 || look.tsc == tsc || look.nano_ts < 1_000_000_000,
                            "torn: {look:?}"
                        );
                        looks += 1;
                    }
                    looks
                })
            })
            .collect();
        let mut now_ns = simulation.now_ns;
        for number in 1..=200_000 {
            now_ns += INTERVAL_NS;
            let tsc = (u128::from(now_ns) * u128::from(hz) / 1_000_000_000) as u64;
            simulation.clock.update(header, entry, Sample { now_ns, tsc }, Tick { number, measures: false });
        }
        ended.store(true, Relaxed);
        readers.into_iter().map(|reader| reader.join().expect("a reader")).sum::<u64>()
    });
    assert!(looks > 0);
}

#[test]
fn readers_of_a_driver_see_its_clock() {
    for forced_async in [false, true] {
        let os = MockOs::with_cpus(2);
        os.set_forced_async_tsc(forced_async);
        let host = Host::on(&os).expect("a driver");
        let client = host.open();
        client.gip_map().expect("a mapping");
        let reader = Reader::new();
        let mut last = 0;
        for step in 0..2000_u64 {
            os.advance(1_700_000);
            let cpu = (step % 2) as usize;
            let (header, entries) = page(&host);
            let time = os.on_cpu(cpu, || {
                use supdrv_core::os::OsArch;
                reader
                    .now_ns(header, entries, || (os.cpuid(1, 0).ebx >> 24) as u8, || os.tsc())
                    .expect("a page")
            });
            assert!(time > last);
            assert!(step < 20 || os.now_ns().abs_diff(time) < INTERVAL_NS, "{time} at {}", os.now_ns());
            last = time;
        }
        assert_eq!(reader.statistics().bad_previous, 0);
    }
}

/// Its look is old by then, but what the others have read is no garbage for that.
#[test]
fn a_reader_that_is_interrupted_after_its_look_does_not_go_backwards() {
    let simulation = Simulation::new(1_000_000_000);
    let entries = std::slice::from_ref(&simulation.entry);
    let reader = Reader::continuing(simulation.now_ns);
    let others = Snapshot {
        nano_ts: simulation.now_ns + 10 * INTERVAL_NS,
        tsc: 0,
        interval_tsc: 1_000_000,
        interval_ns: INTERVAL_NS as u32,
    };
    let meanwhile = std::cell::Cell::new(0);
    let time = reader.now_ns(
        &simulation.header,
        entries,
        || 0,
        || {
            meanwhile.set(reader.advance(&others, 0));
            simulation.tsc()
        },
    );
    assert!(time.is_some_and(|time| time > meanwhile.get()), "{time:?}, after {}", meanwhile.get());
    assert_eq!(reader.statistics().bad_previous, 0);
}

#[test]
fn a_dead_or_unknown_page_is_not_read() {
    let simulation = Simulation::new(1_000_000_000);
    let entries = std::slice::from_ref(&simulation.entry);
    let reader = Reader::new();
    assert!(reader.now_ns(&simulation.header, entries, || 0, || 0).is_some());
    simulation.header.mode.store(3, Relaxed);
    assert_eq!(reader.now_ns(&simulation.header, entries, || 0, || 0), None);
    simulation.header.mode.store(1, Relaxed);
    simulation.header.magic.store(0, Relaxed);
    assert_eq!(reader.now_ns(&simulation.header, entries, || 0, || 0), None);
}
