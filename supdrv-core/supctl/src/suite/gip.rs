//! The global info page.

use core::sync::atomic::Ordering::Relaxed;
use core::time::Duration;
use std::collections::BTreeSet;

use supdrv_core::abi::gip::{
    CPU_HZ_UNKNOWN, CPU_ONLINE, GIP_MAGIC, GIP_VERSION, GipCpu, GipHeader, MODE_ASYNC, MODE_SYNC,
};

use super::probe::{Kind, Probe};
use super::{Case, Check, Ctx, Need, case, ensure, fail, not_available, same};
use crate::client::Client;
use crate::gip::Gip;
use crate::pages::PAGE_BYTES;

const GROUP: &str = "gip";

pub(super) const CASES: &[Case] = &[
    case(GROUP, "has its magic, its version and a mode", &[], identity),
    case(GROUP, "is as large as its CPUs need, and zero behind them", &[], size),
    case(GROUP, "is mapped once, however often a session asks", &[], mapped_once),
    case(GROUP, "is unmapped by one request, and then isn't missed", &[], unmap),
    case(GROUP, "is the same page for all sessions", &[], same_for_all),
    case(GROUP, "can't be written by ring-3", &[], read_only),
    case(GROUP, "is where ring-0 has it", &[Need::RunsCode, Need::SharedPages], ring0_has_it),
    case(GROUP, "has an entry for every CPU that is on-line", &[], entries),
    case(GROUP, "has only valid indices for APIC ids", &[], apic_indices),
    case(GROUP, "has an interval that fits its frequency", &[], interval),
    case(GROUP, "is updated while somebody has it", &[], updated),
    case(GROUP, "has CPU frequencies after a few updates", &[], frequencies),
    case(GROUP, "is strictly monotonic over a million readings", &[], monotonic),
    case(GROUP, "is strictly monotonic for several threads", &[], monotonic_threads),
    case(GROUP, "shows the time of the system's clock", &[], shows_the_time),
    case(GROUP, "goes on after nobody had it for a while", &[], starts_again),
    case(GROUP, "is given back by closing", &[], close_gives_back),
];

fn identity(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    let gip = client.gip()?;
    same("magic", gip.header().magic.load(Relaxed), GIP_MAGIC)?;
    same("version", gip.header().version.load(Relaxed), GIP_VERSION)?;
    ensure([MODE_SYNC, MODE_ASYNC].contains(&gip.mode()), || format!("mode {}", gip.mode()))?;
    let at = gip.addresses();
    ensure(at.phys.is_multiple_of(PAGE_BYTES as u64), || format!("physical address {:#x}", at.phys))?;
    ensure(at.phys < 1 << 32, || format!("physical address {:#x}", at.phys))?;
    ensure(at.r3.is_multiple_of(PAGE_BYTES), || format!("ring-3 address {:#x}", at.r3))?;
    ensure(at.r0 != 0 && at.r0.is_multiple_of(PAGE_BYTES), || format!("ring-0 address {:#x}", at.r0))
}

fn size(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    let gip = client.gip()?;
    let cpus = usize::from(gip.header().cpus.load(Relaxed));
    ensure((1..=256).contains(&cpus), || format!("{cpus} CPUs"))?;
    let used = size_of::<GipHeader>() + cpus * size_of::<GipCpu>();
    let pages = usize::from(gip.header().pages.load(Relaxed));
    same("number of pages", pages, used.div_ceil(PAGE_BYTES))?;
    for offset in used..pages * PAGE_BYTES {
        let at = core::ptr::with_exposed_provenance::<u8>(gip.addresses().r3 + offset);
        // SAFETY: inside the pages that the driver has mapped.
        let byte = unsafe { at.read_volatile() };
        ensure(byte == 0, || format!("byte {offset:#x} is {byte:#x}"))?;
    }
    Ok(())
}

fn mapped_once(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    let first = client.gip_map()?;
    for _ in 0..3 {
        same("the mapping", client.gip_map()?, first)?;
    }
    Ok(client.gip_unmap()?)
}

fn unmap(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    client.gip_unmap()?;
    client.gip_map()?;
    client.gip_map()?;
    client.gip_unmap()?;
    if let Some(counters) = ctx.transport.counters() {
        same("the number of users", counters.gip_users, 0)?;
    }
    client.gip_unmap()?;
    client.gip_map()?;
    Ok(client.gip_unmap()?)
}

fn same_for_all(ctx: &Ctx<'_>) -> Check {
    let (one, other) = (ctx.client()?, ctx.client()?);
    let (one, other) = (one.gip_map()?, other.gip_map()?);
    same("physical address", one.phys, other.phys)?;
    same("ring-0 address", one.r0, other.r0)?;
    ensure(one.r3 != other.r3, || "both sessions share one mapping".into())
}

#[cfg(unix)]
fn read_only(ctx: &Ctx<'_>) -> Check {
    if ctx.transport.capabilities().kernel_addresses {
        return not_available("the driver is in this process: its memory has no rings");
    }
    let client = ctx.client()?;
    let gip = client.gip()?;
    let at = core::ptr::with_exposed_provenance_mut(gip.addresses().r3);
    // SAFETY: asks for more rights on a mapping of ours.
    let result = unsafe { libc::mprotect(at, PAGE_BYTES, libc::PROT_READ | libc::PROT_WRITE) };
    ensure(result != 0, || "the mapping can be made writable".into())?;
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let start = format!("{:08x}-", gip.addresses().r3);
    match maps.lines().find(|line| line.starts_with(&start)) {
        Some(line) => ensure(line.contains(" r--"), || format!("mapped as {line}")),
        None => Ok(()),
    }
}

#[cfg(not(unix))]
fn read_only(_: &Ctx<'_>) -> Check {
    not_available("rights of mappings can't be asked for here")
}

fn ring0_has_it(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    let probe = Probe::new(ctx, "gip", Kind::Service)?.load(&client)?;
    let gip = client.gip()?;
    let value = probe.peek(gip.addresses().r0)?;
    same("magic and version", value, u64::from(GIP_MAGIC) | u64::from(GIP_VERSION) << 32)
}

fn entries(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    let gip = client.gip()?;
    let header = gip.header();
    let online: Vec<usize> = (0..256)
        .filter(|index| {
            header.online_set.get(index / 64).is_some_and(|word| word.load(Relaxed) >> (index % 64) & 1 != 0)
        })
        .collect();
    same("number of CPUs on-line", usize::from(header.online_count.load(Relaxed)), online.len())?;
    ensure(!online.is_empty(), || "no CPU is on-line".into())?;
    let mut seen = BTreeSet::new();
    for index in online {
        let slot = header.cpu_from_set_index.get(index).map_or(u16::MAX, |slot| slot.load(Relaxed));
        let Some(entry) = gip.cpus().get(usize::from(slot)) else {
            return fail(format!("CPU {index} has entry {slot}"));
        };
        same("state of an on-line CPU", entry.state.load(Relaxed), CPU_ONLINE)?;
        same("set index of an entry", usize::from(entry.set_index.load(Relaxed)), index)?;
        ensure(seen.insert(slot), || format!("entry {slot} is for two CPUs"))?;
        let apic = usize::from(entry.apic_id.load(Relaxed));
        let back = header.cpu_from_apic_id.get(apic).map(|slot| slot.load(Relaxed));
        // Only with more CPUs than APIC ids can two of them have the same.
        ensure(back == Some(slot) || gip.mode() == MODE_SYNC, || {
            format!("APIC id {apic} leads to entry {back:?}, not {slot}")
        })?;
    }
    Ok(())
}

fn apic_indices(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    let gip = client.gip()?;
    let cpus = gip.cpus().len();
    for (apic, slot) in gip.header().cpu_from_apic_id.iter().enumerate() {
        let slot = usize::from(slot.load(Relaxed));
        ensure(slot < cpus, || format!("APIC id {apic} leads to entry {slot} of {cpus}"))?;
    }
    Ok(())
}

fn interval(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    let gip = client.gip()?;
    let hz = u64::from(gip.header().update_hz.load(Relaxed));
    let ns = u64::from(gip.header().update_interval_ns.load(Relaxed));
    ensure((1..=2000).contains(&hz), || format!("{hz} updates per second"))?;
    let fits = ns > 1_000_000_000 / (hz + 1) && ns <= 1_000_000_000 / hz;
    ensure(fits, || format!("an interval of {ns} ns at {hz} Hz"))
}

fn running(ctx: &Ctx<'_>, gip: &Gip<'_>, updates: u32) -> Check {
    ensure(gip.wait_for_updates(ctx.transport, updates), || "the page isn't updated".into())
}

fn updated(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    let gip = client.gip()?;
    running(ctx, &gip, 3)?;
    for entry in gip.cpus() {
        ensure(entry.interval_tsc.load(Relaxed) != 0, || "an interval of 0 ticks".into())?;
        let deltas: Vec<u32> = entry.history.iter().map(|delta| delta.load(Relaxed)).collect();
        ensure(entry.history_head.load(Relaxed) < 8, || format!("history {deltas:?}"))?;
    }
    Ok(())
}

fn frequencies(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    let gip = client.gip()?;
    running(ctx, &gip, 8)?;
    let in_use = if gip.mode() == MODE_SYNC { 1 } else { gip.cpus().len() };
    let online = gip.cpus().iter().take(in_use).filter(|cpu| cpu.state.load(Relaxed) == CPU_ONLINE);
    for hz in online.map(|cpu| cpu.cpu_hz.load(Relaxed)) {
        ensure(hz != CPU_HZ_UNKNOWN, || "a frequency was never measured".into())?;
        ensure((1_000_000..100_000_000_000).contains(&hz), || format!("a CPU with {hz} Hz"))?;
    }
    Ok(())
}

fn readings(ctx: &Ctx<'_>, gip: &Gip<'_>, count: u32) -> Check {
    let mut last = 0;
    for reading in 0..count {
        let Some(now) = gip.now_ns(ctx.transport) else { return fail("the page can't be read") };
        ensure(now > last, || format!("reading {reading} is {now}, after {last}"))?;
        last = now;
    }
    Ok(())
}

fn monotonic(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    let gip = client.gip()?;
    running(ctx, &gip, 3)?;
    readings(ctx, &gip, 1_000_000)
}

fn monotonic_threads(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    let gip = client.gip()?;
    running(ctx, &gip, 3)?;
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..4).map(|_| scope.spawn(|| readings(ctx, &gip, 50_000))).collect();
        readers.into_iter().try_for_each(|reader| super::joined(reader.join())?)
    })
}

/// Tries until a reading is near the clock: anybody can be interrupted between the two.
fn near_the_clock(ctx: &Ctx<'_>, gip: &Gip<'_>) -> Check {
    let interval = u64::from(gip.header().update_interval_ns.load(Relaxed));
    let mut closest = u64::MAX;
    for _ in 0..500 {
        let before = ctx.transport.monotonic_ns();
        let Some(now) = gip.now_ns(ctx.transport) else { return fail("the page can't be read") };
        let after = ctx.transport.monotonic_ns();
        let distance = before.saturating_sub(now).max(now.saturating_sub(after));
        closest = closest.min(distance);
        if distance <= 2 * interval {
            return Ok(());
        }
        ctx.transport.pass_time(Duration::from_millis(2));
    }
    fail(format!("never nearer to the clock than {closest} ns, with an interval of {interval} ns"))
}

fn shows_the_time(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    let gip = client.gip()?;
    running(ctx, &gip, 3)?;
    for _ in 0..5 {
        near_the_clock(ctx, &gip)?;
        ctx.transport.pass_time(Duration::from_millis(20));
    }
    Ok(())
}

fn starts_again(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    let gip = client.gip()?;
    running(ctx, &gip, 3)?;
    let before = gip.now_ns(ctx.transport);
    drop(gip);
    ctx.transport.pass_time(Duration::from_millis(50));
    let gip = client.gip()?;
    running(ctx, &gip, 3)?;
    near_the_clock(ctx, &gip)?;
    ensure(gip.now_ns(ctx.transport) > before, || "time went back".into())
}

fn close_gives_back(ctx: &Ctx<'_>) -> Check {
    let users = || ctx.transport.counters().map(|counters| counters.gip_users);
    if users().is_none() {
        return not_available("the driver's counters can't be seen");
    }
    let clients = [ctx.client()?, ctx.client()?];
    for client in &clients {
        client.gip_map()?;
        client.gip_map()?;
    }
    same("users", users(), Some(2))?;
    let [first, second]: [Client; 2] = clients;
    drop(first);
    ensure(ctx.until(|| users() == Some(1)), || format!("{:?} users", users()))?;
    second.gip_map()?;
    drop(second);
    ensure(ctx.until(|| users() == Some(0)), || format!("{:?} users", users()))
}
