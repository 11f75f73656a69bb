//! CPUs that come and go: which CPU has which entry of the page.

use core::ffi::c_void;
use core::sync::atomic::Ordering;

use super::Shared;
use super::arith::Sample;
use crate::abi::gip::{CPU_OFFLINE, CPU_ONLINE, GipCpu, GipHeader, MODE_SYNC};
use crate::os::{CpuSet, MAX_CPUS, MpEvent, NIL_CPU_ID, SupdrvOs};
use crate::sync::IrqOff;

/// Marks an entry as nobody's.
pub(super) fn clear_entry(entry: &GipCpu) {
    entry.cpu_id.store(NIL_CPU_ID, Ordering::Relaxed);
    entry.set_index.store(u16::MAX, Ordering::Relaxed);
    entry.apic_id.store(u16::MAX, Ordering::Relaxed);
}

fn set_bit(set: &[core::sync::atomic::AtomicU64; 4], index: usize, on: bool) {
    let Some(word) = set.get(index / 64) else { return };
    let bit = 1 << (index % 64);
    if on {
        word.fetch_or(bit, Ordering::Relaxed);
    } else {
        word.fetch_and(!bit, Ordering::Relaxed);
    }
}

fn count(header: &GipHeader) -> u16 {
    let words = header.online_set.iter().map(|word| word.load(Ordering::Relaxed).count_ones());
    words.sum::<u32>() as u16
}

/// # Safety
/// `context` is the `Shared` of a GIP that ends its registration before it goes away.
pub(super) unsafe extern "C" fn on_event<O: SupdrvOs>(event: MpEvent, cpu_id: u32, context: *mut c_void) {
    // SAFETY: condition of the function.
    let shared = unsafe { &*context.cast::<Shared<O>>() };
    match event {
        MpEvent::Online => shared.cpu_online(),
        MpEvent::Offline => shared.cpu_offline(cpu_id),
    }
}

/// # Safety
/// `context` is a `Shared` that lives until the cross call returns.
pub(super) unsafe extern "C" fn on_cpu_at_creation<O: SupdrvOs>(_cpu_id: u32, context: *mut c_void) {
    // SAFETY: condition of the function.
    unsafe { &*context.cast::<Shared<O>>() }.cpu_online();
}

/// A moment to seed entries with.
pub(super) struct Seed<'a, O: SupdrvOs> {
    pub shared: &'a Shared<O>,
    pub now_ns: u64,
}

impl<O: SupdrvOs> Seed<'_, O> {
    /// Seeds one entry with this CPU's TSC.
    pub fn seed_entry(&self, index: usize) {
        let Some((header, entries)) = self.shared.page() else { return };
        let _irqs_off = crate::sync::IrqsOff::new(&self.shared.os);
        if let (Some(entry), Some(clock)) = (entries.get(index), self.shared.clocks.get(index)) {
            let now = Sample { now_ns: self.now_ns, tsc: self.shared.os.tsc() };
            clock.lock().seed(entry, header.update_interval_ns.load(Ordering::Relaxed), now);
        }
    }
}

/// # Safety
/// `context` is a `Seed` that lives until the cross call returns.
pub(super) unsafe extern "C" fn seed_own<O: SupdrvOs>(_cpu_id: u32, context: *mut c_void) {
    // SAFETY: condition of the function.
    let seed = unsafe { &*context.cast::<Seed<'_, O>>() };
    let Some((header, entries)) = seed.shared.page() else { return };
    if let Some((index, _)) = seed.shared.own_entry(header, entries) {
        seed.seed_entry(index);
    }
}

impl<O: SupdrvOs> Shared<O> {
    /// The current CPU is on-line: gives it an entry. Runs on that CPU, pinned.
    fn cpu_online(&self) {
        let Some((header, entries)) = self.page() else { return };
        let guard = self.assignment.lock();
        self.assign(header, entries, guard.irq_off());
        drop(guard);
        let id = self.os.cpu_id();
        let took_over =
            self.master.compare_exchange(NIL_CPU_ID, id, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if took_over {
            self.set_master(id);
            header.last_update_hz_nano_ts.store(0, Ordering::Relaxed);
        }
    }

    fn assign(&self, header: &GipHeader, entries: &[GipCpu], _irq_off: IrqOff<'_>) {
        let cpu_id = self.os.cpu_id();
        let set_index = self.os.cpu_set_index(cpu_id).filter(|index| *index < MAX_CPUS);
        if let Some(index) = set_index {
            set_bit(&header.online_set, index, true);
            set_bit(&header.present_set, index, true);
        }
        header
            .present_count
            .store(self.os.cpu_present_count().min(u16::MAX.into()) as u16, Ordering::Relaxed);
        header.online_count.store(count(header), Ordering::Relaxed);
        let has = |id: u32| entries.iter().position(|entry| entry.cpu_id.load(Ordering::Relaxed) == id);
        let Some(index) = has(cpu_id).or_else(|| has(NIL_CPU_ID)) else {
            crate::log::log(&self.os, &[b"supdrv: a CPU has no entry in the GIP"]);
            return;
        };
        let Some((entry, clock)) = entries.get(index).zip(self.clocks.get(index)) else { return };
        let sync = header.mode.load(Ordering::Relaxed) == MODE_SYNC;
        let running = self.running.load(Ordering::Relaxed);
        // Entry 0 is everybody's clock while a synchronous page runs.
        if !(sync && running) {
            let interval = u64::from(header.update_interval_ns.load(Ordering::Relaxed));
            let mut now = self.sample();
            if !running {
                now.now_ns = now.now_ns.wrapping_sub(interval);
            }
            clock.lock().reset(entry, header.update_hz.load(Ordering::Relaxed), now);
        }
        let apic_id = self.apic_id();
        entry.apic_id.store(apic_id.into(), Ordering::Relaxed);
        entry.set_index.store(set_index.map_or(u16::MAX, |index| index as u16), Ordering::Relaxed);
        entry.cpu_id.store(cpu_id, Ordering::Relaxed);
        if let Some(slot) = header.cpu_from_apic_id.get(usize::from(apic_id)) {
            slot.store(index as u16, Ordering::Relaxed);
        }
        if let Some(slot) = set_index.and_then(|index| header.cpu_from_set_index.get(index)) {
            slot.store(index as u16, Ordering::Relaxed);
        }
        entry.state.store(CPU_ONLINE, Ordering::Release);
    }

    /// A tick came before the notification that its CPU is on-line. Interrupts are off.
    pub(super) fn cpu_ticks_before_online(&self, _header: &GipHeader, entries: &[GipCpu]) {
        let id = self.os.cpu_id();
        let known = entries.iter().find(|entry| entry.cpu_id.load(Ordering::Relaxed) == id);
        if known.is_none_or(|entry| entry.state.load(Ordering::Relaxed) == CPU_OFFLINE) {
            self.cpu_online();
        }
    }

    fn cpu_offline(&self, cpu_id: u32) {
        let Some((header, entries)) = self.page() else { return };
        {
            let _guard = self.assignment.lock();
            let set_index = self.os.cpu_set_index(cpu_id);
            let slot = set_index.and_then(|index| header.cpu_from_set_index.get(index));
            let entry = slot.and_then(|slot| entries.get(usize::from(slot.load(Ordering::Relaxed))));
            if let (Some(index), Some(entry)) = (set_index, entry)
                && entry.cpu_id.load(Ordering::Relaxed) == cpu_id
            {
                set_bit(&header.online_set, index, false);
                header.online_count.store(count(header), Ordering::Relaxed);
                entry.state.store(CPU_OFFLINE, Ordering::Relaxed);
            }
        }
        if self.master.load(Ordering::Relaxed) == cpu_id {
            self.choose_master(header, cpu_id);
        }
    }

    /// The lowest on-line CPU but one becomes the master; measuring starts over.
    fn choose_master(&self, header: &GipHeader, leaving: u32) {
        let mut online = CpuSet::default();
        for (to, from) in online.0.iter_mut().zip(&header.online_set) {
            *to = from.load(Ordering::Relaxed);
        }
        let next =
            online.iter().filter_map(|index| self.os.cpu_id_from_index(index)).find(|id| *id != leaving);
        self.set_master(next.unwrap_or(NIL_CPU_ID));
        header.last_update_hz_nano_ts.store(0, Ordering::Relaxed);
    }
}
