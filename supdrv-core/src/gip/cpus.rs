//! CPUs that come and go: which CPU has which entry of the page.

use core::ffi::c_void;
use core::sync::atomic::{AtomicU64, Ordering};

use super::Shared;
use super::arith::{Clock, Sample};
use crate::abi::gip::{CPU_OFFLINE, CPU_ONLINE, GipCpu, GipHeader, MODE_SYNC};
use crate::os::{CpuSet, MAX_CPUS, MpEvent, NIL_CPU_ID, SupdrvOs};
use crate::sync::{IrqOff, IrqsOff};

/// Marks an entry as nobody's.
pub(super) fn clear_entry(entry: &GipCpu) {
    entry.cpu_id.store(NIL_CPU_ID, Ordering::Relaxed);
    entry.set_index.store(u16::MAX, Ordering::Relaxed);
    entry.apic_id.store(u16::MAX, Ordering::Relaxed);
}

fn set_bit(set: &[AtomicU64; 4], index: usize, on: bool) {
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

/// The moment before updates start.
pub(super) struct Restart<'a, O: SupdrvOs> {
    shared: &'a Shared<O>,
    now_ns: u64,
    /// Entries that were brought up to date.
    done: [AtomicU64; MAX_CPUS / 64],
}

impl<'a, O: SupdrvOs> Restart<'a, O> {
    pub fn new(shared: &'a Shared<O>) -> Self {
        Self { shared, now_ns: shared.os.system_nano_ts(), done: Default::default() }
    }

    /// Brings one entry up to date with this CPU's TSC.
    pub fn entry(&self, index: usize) {
        let Some((header, entries)) = self.shared.page() else { return };
        let _irqs_off = IrqsOff::new(&self.shared.os);
        if let (Some(entry), Some(clock)) = (entries.get(index), self.shared.clocks.get(index)) {
            let now = Sample { now_ns: self.now_ns, tsc: self.shared.os.tsc() };
            clock.lock().restart(entry, header.update_interval_ns.load(Ordering::Relaxed), now);
            set_bit(&self.done, index, true);
        }
    }

    /// Lets measurements begin anew in all other entries, too.
    pub fn realign_others(&self, entries: &[GipCpu]) {
        for (index, (entry, clock)) in entries.iter().zip(self.shared.clocks.iter()).enumerate() {
            let done = self.done.get(index / 64).map_or(0, |word| word.load(Ordering::Relaxed));
            if done >> (index % 64) & 1 == 0 {
                let _irqs_off = IrqsOff::new(&self.shared.os);
                clock.lock().realign(entry);
            }
        }
    }
}

/// # Safety
/// `context` is a `Restart` that lives until the cross call returns.
pub(super) unsafe extern "C" fn restart_own<O: SupdrvOs>(_cpu_id: u32, context: *mut c_void) {
    // SAFETY: condition of the function.
    let restart = unsafe { &*context.cast::<Restart<'_, O>>() };
    let Some((header, entries)) = restart.shared.page() else { return };
    if let Some((index, _)) = restart.shared.own_entry(header, entries) {
        restart.entry(index);
    }
}

impl<O: SupdrvOs> Shared<O> {
    /// The current CPU is on-line: gives it an entry. Runs on that CPU, pinned.
    fn cpu_online(&self) {
        let Some((header, entries)) = self.page() else { return };
        let guard = self.assignment.lock();
        self.assign(header, entries, guard.irq_off());
        if self.master.load(Ordering::Relaxed) == NIL_CPU_ID {
            self.change_master(header, self.os.cpu_id(), guard.irq_off());
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
        // Where there are more CPUs than entries, the entries are for those that the tables can name.
        let may_claim = set_index.is_some() || self.os.cpu_array_size() <= MAX_CPUS;
        let Some(index) = has(cpu_id).or_else(|| has(NIL_CPU_ID).filter(|_| may_claim)) else {
            crate::log::log(&self.os, &[b"supdrv: a CPU has no entry in the GIP"]);
            return;
        };
        let Some((entry, clock)) = entries.get(index).zip(self.clocks.get(index)) else { return };
        self.reset(header, entry, &mut clock.lock());
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

    /// Makes an entry's clock start over, unless it is the one that everybody reads: entry 0 of a synchronous page that runs.
    fn reset(&self, header: &GipHeader, entry: &GipCpu, clock: &mut Clock) {
        let sync = header.mode.load(Ordering::Relaxed) == MODE_SYNC;
        // Under the clock's lock: starting sets this first and then takes the lock, so that it either is seen here, or comes later
        // and brings the entry up to date.
        let running = self.running.load(Ordering::SeqCst);
        if sync && running {
            return;
        }
        let mut now = self.sample();
        if !running {
            now.now_ns = now.now_ns.wrapping_sub(header.update_interval_ns.load(Ordering::Relaxed).into());
        }
        clock.reset(entry, header.update_hz.load(Ordering::Relaxed), now);
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
        let guard = self.assignment.lock();
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
        if self.master.load(Ordering::Relaxed) == cpu_id {
            let next = self.lowest_online(header, cpu_id).unwrap_or(NIL_CPU_ID);
            self.change_master(header, next, guard.irq_off());
        }
    }

    /// The lowest on-line CPU but one.
    fn lowest_online(&self, header: &GipHeader, leaving: u32) -> Option<u32> {
        let mut online = CpuSet::default();
        for (to, from) in online.0.iter_mut().zip(&header.online_set) {
            *to = from.load(Ordering::Relaxed);
        }
        online.iter().filter_map(|index| self.os.cpu_id_from_index(index)).find(|id| *id != leaving)
    }

    /// Another CPU measures the update frequency from now on, and starts over. Under the assignment lock.
    fn change_master(&self, header: &GipHeader, cpu_id: u32, _irq_off: IrqOff<'_>) {
        self.set_master(cpu_id);
        header.last_update_hz_nano_ts.store(0, Ordering::Relaxed);
    }
}
