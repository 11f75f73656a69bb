//! The time page's arithmetic against golden vectors: what each tick, start, stop and CPU event makes of an entry.
//!
//! Every sequence runs against the arithmetic alone; those whose interval a timer granularity can give run against a whole driver as
//! well, with the clock, the TSCs and the timer of its machine in the hand of the test.

use serde_json::Value;
use supdrv_core::abi::gip::{GipCpu, GipHeader};
use supdrv_core::gip::arith::{
    Clock, MIN_INTERVAL_NS, Sample, Tick, initial_interval_tsc, interval_ns, update_hz,
};
use supdrv_core::gip::mode::{Facts, Measurement, decide};
use supdrv_core::gip::page_bytes;
use supdrv_core::gip::reader::{Reader, Snapshot};
use supdrv_core::mock::{Client, Host, MockOs};
use supdrv_core::os::{CpuidResult, NIL_CPU_ID, PAGE_SIZE};
use zerocopy::FromZeros;

use std::sync::atomic::Ordering::Relaxed;

fn vectors() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/gip-vectors.json");
    let text = std::fs::read_to_string(path).expect("the vectors are there");
    serde_json::from_str(&text).expect("the vectors are JSON")
}

fn list(value: &Value) -> &[Value] {
    value.as_array().expect("a list")
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no number"))
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a string")
}

/// Where a sequence is played.
trait Stage {
    fn online(&mut self, cpu: usize, now_ns: u64, tsc: u64);
    fn offline(&mut self, cpu: usize);
    fn start(&mut self, now_ns: u64, tsc: &[u64]);
    fn stop(&mut self);
    fn tick(&mut self, cpu: usize, number: u64, now_ns: u64, tsc: u64);
    fn page(&self) -> (&GipHeader, &[GipCpu]);
    /// What is added to the vectors' times here.
    fn epoch_ns(&self) -> u64;
}

/// The arithmetic alone, driven as the driver drives it.
struct Arithmetic {
    header: Box<GipHeader>,
    entries: Vec<GipCpu>,
    clocks: Vec<Clock>,
    sync: bool,
    running: bool,
    online: Vec<bool>,
    master: usize,
}

impl Arithmetic {
    fn new(sequence: &Value) -> Self {
        let cpus = number(&sequence["cpus"]) as usize;
        let interval = number(&sequence["interval_ns"]) as u32;
        let header = Box::new(GipHeader::new_zeroed());
        header.update_hz.store(update_hz(interval), Relaxed);
        header.update_interval_ns.store(interval, Relaxed);
        let entries: Vec<GipCpu> = (0..cpus).map(|_| GipCpu::new_zeroed()).collect();
        let mut clocks = vec![Clock::NEW; cpus];
        for ((clock, entry), tsc) in clocks.iter_mut().zip(&entries).zip(list(&sequence["create_tsc"])) {
            let sample = Sample { now_ns: number(&sequence["create_ns"]), tsc: number(tsc) };
            clock.reset(entry, update_hz(interval), sample);
        }
        let sync = text(&sequence["mode"]) == "sync";
        Self { header, entries, clocks, sync, running: false, online: vec![false; cpus], master: 0 }
    }

    fn interval(&self) -> u32 {
        self.header.update_interval_ns.load(Relaxed)
    }
}

impl Stage for Arithmetic {
    fn online(&mut self, cpu: usize, now_ns: u64, tsc: u64) {
        self.online[cpu] = true;
        if self.sync && self.running {
            return;
        }
        let back = if self.running { 0 } else { u64::from(self.interval()) };
        let hz = self.header.update_hz.load(Relaxed);
        self.clocks[cpu].reset(&self.entries[cpu], hz, Sample { now_ns: now_ns - back, tsc });
    }

    fn offline(&mut self, cpu: usize) {
        self.online[cpu] = false;
        if self.master == cpu {
            self.master = self.online.iter().position(|online| *online).unwrap_or(usize::MAX);
            self.header.last_update_hz_nano_ts.store(0, Relaxed);
        }
    }

    fn start(&mut self, now_ns: u64, tsc: &[u64]) {
        self.running = true;
        self.header.last_update_hz_nano_ts.store(0, Relaxed);
        let interval = self.interval();
        for (cpu, tsc) in tsc.iter().enumerate() {
            if self.online[cpu] || self.sync {
                self.clocks[cpu].restart(&self.entries[cpu], interval, Sample { now_ns, tsc: *tsc });
            } else {
                self.clocks[cpu].realign(&self.entries[cpu]);
            }
        }
    }

    fn stop(&mut self) {
        self.running = false;
    }

    fn tick(&mut self, cpu: usize, number: u64, now_ns: u64, tsc: u64) {
        let measures = self.sync || self.master == cpu;
        let tick = Tick { number, measures };
        self.clocks[cpu].update(&self.header, &self.entries[cpu], Sample { now_ns, tsc }, tick);
    }

    fn page(&self) -> (&GipHeader, &[GipCpu]) {
        (&self.header, &self.entries)
    }

    fn epoch_ns(&self) -> u64 {
        0
    }
}

/// A driver on a machine.
struct Driven<'h> {
    host: &'h Host,
    user: Option<Client<'h>>,
    epoch_ns: u64,
    sync: bool,
    /// The next tick number of each CPU's timer.
    next_tick: Vec<u64>,
}

fn machine(sequence: &Value) -> MockOs {
    let cpus = number(&sequence["cpus"]) as usize;
    let os = MockOs::with_cpus(cpus);
    os.set_timer_granularity_ns(number(&sequence["interval_ns"]) as u32, 0);
    os.set_forced_async_tsc(text(&sequence["mode"]) == "async");
    os.set_tsc_trusted(Some(true));
    for (cpu, tsc) in list(&sequence["create_tsc"]).iter().enumerate() {
        let is_online = list(&sequence["steps"])
            .iter()
            .take_while(|step| step["op"] == "online")
            .any(|step| number(&step["cpu"]) as usize == cpu);
        os.edit_cpu(cpu, |c| (c.tsc_frozen, c.online) = (Some(number(tsc)), is_online));
    }
    os
}

impl<'h> Driven<'h> {
    fn new(sequence: &Value, host: &'h Host) -> Self {
        let epoch_ns = host.os().now_ns() - number(&sequence["create_ns"]);
        let cpus = number(&sequence["cpus"]) as usize;
        let sync = text(&sequence["mode"]) == "sync";
        Self { host, user: None, epoch_ns, sync, next_tick: vec![1; cpus] }
    }

    fn set(&self, cpu: usize, tsc: u64) {
        self.host.os().edit_cpu(cpu, |c| c.tsc_frozen = Some(tsc));
    }

    fn at(&self, now_ns: u64) {
        let wanted = now_ns + self.epoch_ns;
        self.host.os().jump(wanted - self.host.os().now_ns());
    }
}

impl Stage for Driven<'_> {
    fn online(&mut self, cpu: usize, now_ns: u64, tsc: u64) {
        self.at(now_ns);
        self.set(cpu, tsc);
        // Those that were on-line when the driver came had their event then.
        self.host.os().set_online(cpu, true);
        if !self.sync {
            self.next_tick[cpu] = 1;
        }
    }

    fn offline(&mut self, cpu: usize) {
        self.host.os().set_online(cpu, false);
    }

    fn start(&mut self, now_ns: u64, tsc: &[u64]) {
        self.at(now_ns);
        for (cpu, tsc) in tsc.iter().enumerate() {
            self.set(cpu, *tsc);
        }
        let user = self.host.open();
        user.gip_map().expect("a user");
        self.user = Some(user);
        self.next_tick.fill(1);
    }

    fn stop(&mut self) {
        self.user = None;
    }

    fn tick(&mut self, cpu: usize, number: u64, now_ns: u64, tsc: u64) {
        self.at(now_ns);
        self.set(cpu, tsc);
        assert_eq!(self.next_tick[cpu], number, "the vectors count ticks as timers do");
        self.next_tick[cpu] += 1;
        self.host.os().fire_timers_on(cpu);
    }

    fn page(&self) -> (&GipHeader, &[GipCpu]) {
        let address = self.host.driver().gip().address();
        // SAFETY: the driver's page is there as long as the driver, with as many entries as its header says.
        unsafe {
            let header = &*(address as *const GipHeader);
            let entries = (address as *const GipHeader).add(1).cast::<GipCpu>();
            (header, std::slice::from_raw_parts(entries, header.cpus.load(Relaxed).into()))
        }
    }

    fn epoch_ns(&self) -> u64 {
        self.epoch_ns
    }
}

fn check(what: &str, expected: &Value, stage: &impl Stage) {
    let expected = if expected["both"].is_object() { &expected["both"] } else { &expected["refined"] };
    let (header, entries) = stage.page();
    let shifted = |ns: u64| if ns == 0 { 0 } else { ns + stage.epoch_ns() };
    let mut wrong = Vec::new();
    let mut compare = |name: &str, found: u64, wanted: u64| {
        if found != wanted {
            wrong.push(format!("{name} is {found}, should be {wanted}"));
        }
    };
    compare("u32UpdateHz", header.update_hz.load(Relaxed).into(), number(&expected["u32UpdateHz"]));
    compare(
        "u32UpdateIntervalNS",
        header.update_interval_ns.load(Relaxed).into(),
        number(&expected["u32UpdateIntervalNS"]),
    );
    compare(
        "u64NanoTSLastUpdateHz",
        header.last_update_hz_nano_ts.load(Relaxed),
        shifted(number(&expected["u64NanoTSLastUpdateHz"])),
    );
    for (cpu, wanted) in expected["cpu"].as_object().expect("entries") {
        let entry = &entries[cpu.parse::<usize>().expect("a number")];
        let mut field =
            |name: &str, found: u64| compare(&format!("{cpu}: {name}"), found, number(&wanted[name]));
        field("u32TransactionId", entry.transaction_id.load(Relaxed).into());
        field("u32UpdateIntervalTSC", entry.interval_tsc.load(Relaxed).into());
        // In a driver, an entry that no CPU has got yet was initialised with the TSC of whichever CPU created the page.
        if entry.cpu_id.load(Relaxed) != NIL_CPU_ID {
            field("u64TSC", entry.tsc.load(Relaxed));
        }
        field("u64CpuHz", entry.cpu_hz.load(Relaxed));
        field("cErrors", entry.errors.load(Relaxed).into());
        field("iTSCHistoryHead", entry.history_head.load(Relaxed).into());
        field("u32PrevUpdateIntervalNS", entry.prev_interval_ns.load(Relaxed).into());
        for (index, element) in list(&wanted["au32TSCHistory"]).iter().enumerate() {
            let found = entry.history[index].load(Relaxed).into();
            compare(&format!("{cpu}: au32TSCHistory[{index}]"), found, number(element));
        }
        let wanted = number(&wanted["u64NanoTS"]) + stage.epoch_ns();
        compare(&format!("{cpu}: u64NanoTS"), entry.nano_ts.load(Relaxed), wanted);
    }
    assert!(wrong.is_empty(), "{what}:\n  {}", wrong.join("\n  "));
}

fn play(sequence: &Value, stage: &mut impl Stage) {
    for (number_of_step, step) in list(&sequence["steps"]).iter().enumerate() {
        let get = |name: &str| number(&step[name]);
        let cpu = step["cpu"].as_u64().unwrap_or(0) as usize;
        match text(&step["op"]) {
            "online" => stage.online(cpu, get("now_ns"), get("tsc")),
            "offline" => stage.offline(cpu),
            "start" => {
                let tsc: Vec<u64> = list(&step["tsc"]).iter().map(number).collect();
                stage.start(get("now_ns"), &tsc);
            }
            "stop" => stage.stop(),
            "tick" => stage.tick(cpu, get("tick"), get("now_ns"), get("tsc")),
            "run" => {
                let (count, d_ns, d_tsc) = (get("count"), get("d_ns"), get("d_tsc"));
                for nth in 1..=count {
                    let before_end = count - nth;
                    stage.tick(
                        cpu,
                        get("first_tick") + nth - 1,
                        get("end_now_ns") - before_end * d_ns,
                        get("end_tsc") - before_end * d_tsc,
                    );
                }
            }
            "set_tx" => stage.page().1[cpu].transaction_id.store(get("value") as u32, Relaxed),
            other => panic!("what is {other}?"),
        }
        check(&format!("{} step {number_of_step}: {step}", sequence["name"]), &step["expect"], stage);
    }
}

#[test]
fn the_arithmetic_gives_the_golden_numbers_in_every_sequence() {
    let vectors = vectors();
    let sequences = list(&vectors["sequences"]);
    assert_eq!(sequences.len(), 27);
    for sequence in sequences {
        let mut stage = Arithmetic::new(sequence);
        check(&format!("{} created", sequence["name"]), &sequence["expect_created"], &stage);
        play(sequence, &mut stage);
    }
}

#[test]
fn a_driver_publishes_the_golden_numbers_in_every_sequence_that_its_timers_can_play() {
    let vectors = vectors();
    let (mut played, mut too_fast) = (0, 0);
    for sequence in list(&vectors["sequences"]) {
        if number(&sequence["interval_ns"]) < u64::from(MIN_INTERVAL_NS) {
            // No granularity makes a driver tick that fast; the arithmetic of these is covered above.
            too_fast += 1;
            continue;
        }
        let os = machine(sequence);
        let host = Host::on(&os).expect("a driver");
        play(sequence, &mut Driven::new(sequence, &host));
        played += 1;
    }
    assert_eq!((played, too_fast), (23, 4), "sequences played and left out");
}

#[test]
fn intervals_and_frequencies_follow_from_the_granularity() {
    for vector in list(&vectors()["interval_vectors"]) {
        let granularity = number(&vector["system_granularity_ns"]) as u32;
        let interval = interval_ns(granularity);
        assert_eq!(u64::from(interval), number(&vector["interval_ns"]), "{vector}");
        assert_eq!(u64::from(update_hz(interval)), number(&vector["u32UpdateHz"]), "{vector}");
        assert_eq!(
            u64::from(initial_interval_tsc(update_hz(interval))),
            number(&vector["initial_u32UpdateIntervalTSC"]),
            "{vector}"
        );
        let os = MockOs::new();
        os.set_timer_granularity_ns(granularity, 0);
        let host = Host::on(&os).expect("a driver");
        // SAFETY: the driver's page is there as long as the driver.
        let header = unsafe { &*(host.driver().gip().address() as *const GipHeader) };
        assert_eq!(u64::from(header.update_hz.load(Relaxed)), number(&vector["u32UpdateHz"]), "{vector}");
        assert_eq!(
            u64::from(header.update_interval_ns.load(Relaxed)),
            number(&vector["u32UpdateIntervalNS_refined"]),
            "{vector}"
        );
        let (hz, ns) = (u64::from(update_hz(interval)), u64::from(interval));
        assert!(ns <= 1_000_000_000 / hz && ns > 1_000_000_000 / (hz + 1), "{vector}: consistent");
    }
}

#[test]
fn extreme_granularities_still_give_an_interval() {
    assert_eq!(interval_ns(0), 10_000_000);
    assert_eq!(interval_ns(1), 10_000_000);
    assert_eq!(interval_ns(u32::MAX), 1_000_000_000);
    assert_eq!(interval_ns(1_500_000_000), 1_000_000_000);
}

#[test]
fn the_page_has_the_golden_size() {
    for vector in list(&vectors()["size_vectors"]) {
        let cpus = number(&vector["cCpus"]) as usize;
        let bytes = size_of::<GipHeader>() + cpus * size_of::<GipCpu>();
        assert_eq!(bytes as u64, number(&vector["bytes"]), "{vector}");
        assert_eq!((page_bytes(cpus) / PAGE_SIZE) as u64, number(&vector["cPages"]), "{vector}");
        let host: Host = Host::with_codes(cpus);
        // SAFETY: the driver's page is there as long as the driver.
        let header = unsafe { &*(host.driver().gip().address() as *const GipHeader) };
        assert_eq!(usize::from(header.cpus.load(Relaxed)), cpus);
        assert_eq!(u64::from(header.pages.load(Relaxed)), number(&vector["cPages"]), "{vector}");
    }
}

fn mode_number(name: &Value) -> u32 {
    match text(name) {
        "sync" => 1,
        "async" => 2,
        other => panic!("what is {other}?"),
    }
}

fn vendor(name: &str, max_leaf: u32) -> CpuidResult {
    let word = |at: usize| u32::from_le_bytes(name.as_bytes()[at..at + 4].try_into().expect("four bytes"));
    CpuidResult { eax: max_leaf, ebx: word(0), edx: word(4), ecx: word(8) }
}

#[test]
fn the_mode_is_decided_as_the_vectors_say() {
    for vector in list(&vectors()["mode_vectors"]) {
        let measurement = match text(&vector["tsc_measurement"]) {
            "increasing" => Measurement::Increasing,
            "nonincreasing" => Measurement::NonIncreasing,
            "not_supported" => Measurement::Inconclusive,
            other => panic!("what is {other}?"),
        };
        let cpuid = vendor(text(&vector["vendor"]), number(&vector["cpuid0_max"]) as u32);
        let facts = Facts {
            cpus: number(&vector["cpu_count"]) as usize,
            forced_async: vector["forced_async"] == true,
            measurement,
            vendor: cpuid,
            max_extended_leaf: number(&vector["cpuid_ext_max"]) as u32,
            power_edx: number(&vector["cpuid_80000007_edx"]) as u32,
        };
        assert_eq!(decide(&facts), mode_number(&vector["expect_determined"]), "{vector}");

        let os = MockOs::with_cpus(facts.cpus);
        os.set_forced_async_tsc(facts.forced_async);
        os.set_cpuid(0, 0, cpuid);
        os.set_cpuid(0x8000_0000, 0, CpuidResult { eax: facts.max_extended_leaf, ..Default::default() });
        os.set_cpuid(0x8000_0007, 0, CpuidResult { edx: facts.power_edx, ..Default::default() });
        os.set_cpu_timers(vector["omni_timer_supported"] == true);
        match measurement {
            Measurement::Increasing => {}
            Measurement::NonIncreasing => os.edit_cpu(facts.cpus - 1, |cpu| cpu.tsc_frozen = Some(7)),
            Measurement::Inconclusive => {
                // One service alone: a driver needs cross calls to all CPUs.
                let unsupported = supdrv_core::abi::status::VERR_NOT_SUPPORTED;
                os.fail_next(supdrv_core::mock::Call::MpOnCpu, unsupported);
            }
        }
        let host = Host::on(&os).expect("a driver");
        os.cancel_failures();
        // SAFETY: the driver's page is there as long as the driver.
        let header = unsafe { &*(host.driver().gip().address() as *const GipHeader) };
        assert_eq!(header.mode.load(Relaxed), mode_number(&vector["expect_final"]), "{vector}");
    }
}

#[test]
fn readers_get_the_golden_times() {
    let vectors = vectors();
    let all = list(&vectors["reader_vectors"]);
    assert_eq!(all.len(), 15);
    for vector in all {
        let page = &vector["page"];
        let snapshot = Snapshot {
            nano_ts: number(&page["u64NanoTS"]),
            tsc: number(&page["u64TSC"]),
            interval_tsc: number(&page["u32UpdateIntervalTSC"]) as u32,
            interval_ns: number(&page["u32UpdateIntervalNS"]) as u32,
        };
        let reader = Reader::continuing(number(&vector["prev"]));
        let expected = &vector["expect"];
        assert_eq!(
            reader.advance(&snapshot, number(&vector["tsc"])),
            number(&expected["result"]),
            "{vector}"
        );
        assert_eq!(reader.latest(), number(&expected["new_prev"]), "{vector}");
        let statistics = reader.statistics();
        let counted = [statistics.expired, statistics.one_ns_steps, statistics.bad_previous];
        assert_eq!(counted, ["expired", "steps", "bad"].map(|name| number(&expected[name])), "{vector}");
    }
}
