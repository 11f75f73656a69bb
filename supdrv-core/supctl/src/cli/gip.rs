//! `supctl gip`.

use core::sync::atomic::Ordering::Relaxed;
use core::time::Duration;

use supctl::gip::Gip;
use supctl::transport::Transport;
use supdrv_core::abi::gip::{CPU_HZ_UNKNOWN, CPU_OFFLINE, CPU_ONLINE, MODE_SYNC};

use super::{Failure, Result, Words, open};

const PAUSE: Duration = Duration::from_millis(200);

fn frequency(hz: u64) -> String {
    match hz {
        CPU_HZ_UNKNOWN => "not measured yet".into(),
        hz => format!("{}.{:06} MHz", hz / 1_000_000, hz % 1_000_000),
    }
}

fn print_page(gip: &Gip<'_>) {
    let header = gip.header();
    let at = gip.addresses();
    println!(
        "version {:#010x}, {}, {} pages at {:#x} (ring-3), {:#x} (ring-0), {:#x} (physical)",
        header.version.load(Relaxed),
        gip.mode_name(),
        header.pages.load(Relaxed),
        at.r3,
        at.r0,
        at.phys
    );
    println!(
        "updated {} times per second, every {} ns; CPUs: {} on-line, {} present, {} possible",
        header.update_hz.load(Relaxed),
        header.update_interval_ns.load(Relaxed),
        header.online_count.load(Relaxed),
        header.present_count.load(Relaxed),
        header.possible_count.load(Relaxed)
    );
    for (index, cpu) in gip.cpus().iter().enumerate() {
        let state = match cpu.state.load(Relaxed) {
            CPU_ONLINE => "on-line",
            CPU_OFFLINE => "off-line",
            _ => continue,
        };
        let hz = if index == 0 || gip.mode() != MODE_SYNC {
            frequency(cpu.cpu_hz.load(Relaxed))
        } else {
            "as entry 0".into()
        };
        println!(
            "entry {index}: CPU {}, APIC id {}, {state}, {hz}, {} errors",
            cpu.cpu_id.load(Relaxed),
            cpu.apic_id.load(Relaxed),
            cpu.errors.load(Relaxed)
        );
    }
}

/// The page's time, the clock's time just before and after it, as close together as can be had in a few tries.
fn sample(gip: &Gip<'_>, transport: &dyn Transport) -> Result<(u64, u64)> {
    let mut best: Option<(u64, u64, u64)> = None;
    for _ in 0..20 {
        let before = transport.monotonic_ns();
        let page = gip.now_ns(transport).ok_or_else(|| Failure::Failed("the page is gone".into()))?;
        let after = transport.monotonic_ns();
        let width = after.saturating_sub(before);
        if best.is_none_or(|(_, _, narrowest)| width < narrowest) {
            best = Some((page, before + width / 2, width));
        }
    }
    best.map(|(page, clock, _)| (page, clock)).ok_or_else(|| Failure::Failed("no sample".into()))
}

pub fn run(transport: &dyn Transport, mut words: Words) -> Result {
    let count = words.number("--count")?;
    words.end()?;
    let client = open(transport)?;
    let gip = client.gip()?;
    if !gip.wait_for_updates(transport, 4) {
        return Err(Failure::Failed("the page isn't updated".into()));
    }
    print_page(&gip);
    println!(
        "{:>18} {:>18} {:>12} {:>12} {:>10}  frequency",
        "page ns", "clock ns", "offset ns", "drift ppm", "updates"
    );
    let mut first: Option<(i128, i128)> = None;
    for _ in 0..count.unwrap_or(u64::MAX) {
        let (page, clock) = sample(&gip, transport)?;
        let offset = i128::from(page) - i128::from(clock);
        let (start, start_offset) = *first.get_or_insert((i128::from(clock), offset));
        let elapsed = i128::from(clock) - start;
        let drift = if elapsed > 0 { (offset - start_offset) as f64 * 1e6 / elapsed as f64 } else { 0.0 };
        let entry = gip.cpus().first();
        let updates = entry.map_or(0, |cpu| cpu.transaction_id.load(Relaxed) / 2);
        let hz = entry.map_or(CPU_HZ_UNKNOWN, |cpu| cpu.cpu_hz.load(Relaxed));
        println!("{page:>18} {clock:>18} {offset:>12} {drift:>12.3} {updates:>10}  {}", frequency(hz));
        transport.pass_time(PAUSE);
    }
    let seen = gip.statistics();
    println!(
        "steps of 1 ns: {}, late updates: {}, lost races: {}, times that made no sense: {}",
        seen.one_ns_steps, seen.expired, seen.races, seen.bad_previous
    );
    Ok(())
}
