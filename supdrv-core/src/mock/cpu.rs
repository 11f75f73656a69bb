//! Virtual CPUs: on-line and off-line, cross calls, and what the instructions of each return.

use core::ffi::c_void;
use core::sync::atomic::{AtomicUsize, Ordering};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::vec::Vec;

use super::{Call, Class, Codes, Kind, Machine, MockOs, Shared, locked, schedule};
use crate::abi::Status;
use crate::abi::status::{Result, VERR_CPU_NOT_FOUND, VERR_CPU_OFFLINE, VERR_NO_MEMORY, VERR_NOT_SUPPORTED};
use crate::os::{
    CpuSet, CpuidResult, MAX_CPUS, MpEvent, MpEventCallback, MpWorker, NIL_CPU_ID, OsArch, OsCpu,
    SegmentSelectors,
};

/// What can be set of one CPU.
#[derive(Clone, Debug)]
pub struct Cpu {
    /// The system's number for it.
    pub id: u32,
    /// Initial APIC id, as CPUID 1 tells.
    pub apic_id: u8,
    /// Whether it is on-line; change it with [`Machine::set_online`] to deliver events.
    pub online: bool,
    /// TSC frequency in Hz.
    pub tsc_hz: u64,
    /// Added to what the frequency gives.
    pub tsc_offset: i64,
    /// If set, the TSC stands still here.
    pub tsc_frozen: Option<u64>,
    /// Model-specific registers; reading another one breaks a rule (a real CPU faults).
    pub msrs: BTreeMap<u32, u64>,
    /// CR0.
    pub cr0: usize,
    /// CR4.
    pub cr4: usize,
}

/// All CPUs of a machine.
#[derive(Debug)]
pub(super) struct Cpus {
    /// By set index.
    list: Vec<Cpu>,
    leaves: HashMap<(u32, u32), CpuidResult>,
    selectors: SegmentSelectors,
    /// Every reading of a TSC moves all of them by so much.
    tsc_step: u64,
    tsc_readings: u64,
    present: Option<usize>,
    array_size: Option<usize>,
    tsc_trusted: Option<bool>,
    cross_calls: Option<Status>,
}

fn text(bytes: [u8; 4]) -> u32 {
    u32::from_le_bytes(bytes)
}

fn intel_leaves() -> HashMap<(u32, u32), CpuidResult> {
    let leaf = |eax, ebx, ecx, edx| CpuidResult { eax, ebx, ecx, edx };
    HashMap::from([
        ((0, 0), leaf(0xd, text(*b"Genu"), text(*b"ntel"), text(*b"ineI"))),
        // VMX; TSC, MSR, APIC, FXSR.
        ((1, 0), leaf(0x306c3, 0, 1 << 5, (1 << 4) | (1 << 5) | (1 << 9) | (1 << 24))),
        ((0x8000_0000, 0), leaf(0x8000_0008, 0, 0, 0)),
        // NX and long mode.
        ((0x8000_0001, 0), leaf(0, 0, 0, (1 << 20) | (1 << 29))),
        // Invariant TSC.
        ((0x8000_0007, 0), leaf(0, 0, 0, 1 << 8)),
    ])
}

fn intel_msrs() -> BTreeMap<u32, u64> {
    BTreeMap::from([
        (0x3a, 0b101),
        (0x482, 1 << 63),
        (0x48b, 1 << 33),
        // EFER: long mode enabled and active, NX enabled.
        (0xc000_0080, (1 << 8) | (1 << 10) | (1 << 11)),
    ])
}

impl Cpus {
    pub fn new(count: usize) -> Self {
        assert!((1..=MAX_CPUS).contains(&count), "a machine has 1 to {MAX_CPUS} CPUs");
        let cpu = |index: usize| Cpu {
            id: index as u32,
            apic_id: index as u8,
            online: true,
            tsc_hz: 2_000_000_000,
            tsc_offset: 0,
            tsc_frozen: None,
            msrs: intel_msrs(),
            cr0: (1 << 31) | 1,
            cr4: (1 << 5) | (1 << 7),
        };
        Self {
            list: (0..count).map(cpu).collect(),
            leaves: intel_leaves(),
            selectors: SegmentSelectors { cs: 0x10, ss: 0x18, ..Default::default() },
            tsc_step: 40,
            tsc_readings: 0,
            present: None,
            array_size: None,
            tsc_trusted: None,
            cross_calls: None,
        }
    }
}

/// Whoever wants to know about CPU events, in order of registration.
#[derive(Default)]
pub(super) struct Registrations {
    list: Vec<Arc<Registered>>,
}

#[derive(Debug)]
struct Registered {
    callback: MpEventCallback,
    context: Shared<*mut c_void>,
    running: AtomicUsize,
}

/// A registration for CPU events.
#[derive(Debug)]
pub struct MpRegistration {
    machine: Arc<Machine>,
    registered: Arc<Registered>,
}

impl Drop for MpRegistration {
    fn drop(&mut self) {
        self.machine.require(Class::T, Call::MpDeregister);
        let mut registrations = locked(&self.machine.registrations);
        registrations.list.retain(|registered| !Arc::ptr_eq(registered, &self.registered));
        drop(registrations);
        while self.registered.running.load(Ordering::SeqCst) != 0 {
            schedule::pause();
        }
        self.machine.account.gone(Kind::MpRegistration);
    }
}

impl Machine {
    /// Changes a CPU's registers and numbers.
    pub fn edit_cpu(&self, index: usize, edit: impl FnOnce(&mut Cpu)) {
        edit(locked(&self.cpus).list.get_mut(index).expect("no such CPU"));
    }

    /// Changes all CPUs.
    pub fn edit_cpus(&self, edit: impl FnMut(&mut Cpu)) {
        locked(&self.cpus).list.iter_mut().for_each(edit);
    }

    /// Sets what CPUID returns, on all CPUs. The APIC id in leaf 1 is each CPU's own.
    pub fn set_cpuid(&self, leaf: u32, subleaf: u32, result: CpuidResult) {
        locked(&self.cpus).leaves.insert((leaf, subleaf), result);
    }

    /// Makes all CPUs AMD ones with SVM and nested paging.
    pub fn set_amd(&self) {
        let leaf = |eax, ebx, ecx, edx| CpuidResult { eax, ebx, ecx, edx };
        self.set_cpuid(0, 0, leaf(0xd, text(*b"Auth"), text(*b"cAMD"), text(*b"enti")));
        self.set_cpuid(1, 0, leaf(0x60_0f20, 0, 0, (1 << 4) | (1 << 5) | (1 << 9) | (1 << 24)));
        self.set_cpuid(0x8000_0000, 0, leaf(0x8000_001e, 0, 0, 0));
        self.set_cpuid(0x8000_0001, 0, leaf(0, 0, 1 << 2, (1 << 20) | (1 << 29)));
        self.set_cpuid(0x8000_000a, 0, leaf(1, 8, 0, 1));
        self.edit_cpus(|cpu| _ = cpu.msrs.insert(0xc001_0114, 0));
    }

    /// Sets the selectors of all CPUs.
    pub fn set_selectors(&self, selectors: SegmentSelectors) {
        locked(&self.cpus).selectors = selectors;
    }

    /// Sets by how many ticks each reading of a TSC moves it; 40 at first, 0 for exact arithmetic.
    pub fn set_tsc_step(&self, ticks: u64) {
        locked(&self.cpus).tsc_step = ticks;
    }

    /// Sets how many CPUs the system says are present; the number of CPUs at first.
    pub fn set_present_count(&self, count: usize) {
        locked(&self.cpus).present = Some(count);
    }

    /// Sets the size of the index space; the number of CPUs at first.
    pub fn set_cpu_array_size(&self, size: usize) {
        locked(&self.cpus).array_size = Some(size);
    }

    /// Sets what the kernel thinks of the TSC; nothing at first.
    pub fn set_tsc_trusted(&self, trusted: Option<bool>) {
        locked(&self.cpus).tsc_trusted = trusted;
    }

    /// Makes all cross calls fail with a status, or work.
    pub fn set_cross_calls(&self, result: Result<()>) {
        locked(&self.cpus).cross_calls = result.err();
    }

    /// Set indices of the on-line CPUs.
    #[must_use]
    pub fn online_cpus(&self) -> Vec<usize> {
        let cpus = locked(&self.cpus);
        cpus.list.iter().enumerate().filter(|(_, cpu)| cpu.online).map(|(index, _)| index).collect()
    }

    /// Set index of a CPU id.
    #[must_use]
    pub fn index_of_cpu(&self, id: u32) -> Option<usize> {
        locked(&self.cpus).list.iter().position(|cpu| cpu.id == id)
    }

    /// Set index of the CPU that this thread runs on.
    #[must_use]
    pub fn current_cpu(&self) -> usize {
        let chosen = self.context(|context| context.cpu);
        chosen.or_else(|| self.online_cpus().first().copied()).unwrap_or(0)
    }

    fn cpu<T>(&self, index: usize, f: impl FnOnce(&Cpu) -> T) -> Option<T> {
        locked(&self.cpus).list.get(index).map(f)
    }

    /// Takes a CPU on-line or off-line, with the events that belong to it. Nothing happens if it is so already.
    pub fn set_online(&self, index: usize, online: bool) {
        let Some((id, was)) = self.cpu(index, |cpu| (cpu.id, cpu.online)) else { return };
        if was == online {
            return;
        }
        if online {
            self.edit_cpu(index, |cpu| cpu.online = true);
            self.restart_ticks(index);
            self.deliver(MpEvent::Online, id, index);
        } else {
            self.deliver(MpEvent::Offline, id, index);
            self.edit_cpu(index, |cpu| cpu.online = false);
        }
    }

    /// Delivers an event without a change, as for a failed attempt to take a CPU off-line.
    pub fn deliver_event(&self, event: MpEvent, index: usize) {
        if let Some(id) = self.cpu(index, |cpu| cpu.id) {
            self.deliver(event, id, index);
        }
    }

    fn deliver(&self, event: MpEvent, id: u32, index: usize) {
        let list = locked(&self.registrations).list.clone();
        for registered in list {
            registered.running.fetch_add(1, Ordering::SeqCst);
            let Registered { callback, context, .. } = *registered;
            // SAFETY: the registration lasts while a callback is counted as running (see its drop).
            self.interrupt(index, || unsafe { callback(event, id, context.0) });
            registered.running.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

impl<E: Codes> OsCpu for MockOs<E> {
    type MpRegistration = MpRegistration;

    fn cpu_id(&self) -> u32 {
        self.cpu(self.current_cpu(), |cpu| cpu.id).unwrap_or(NIL_CPU_ID)
    }

    fn cpu_set_index(&self, cpu_id: u32) -> Option<usize> {
        self.index_of_cpu(cpu_id)
    }

    fn cpu_id_from_index(&self, index: usize) -> Option<u32> {
        self.cpu(index, |cpu| cpu.id)
    }

    fn cpu_max_id(&self) -> u32 {
        locked(&self.cpus).list.iter().map(|cpu| cpu.id).max().unwrap_or(0)
    }

    fn cpu_array_size(&self) -> usize {
        let cpus = locked(&self.cpus);
        cpus.array_size.unwrap_or(cpus.list.len())
    }

    fn cpu_present_count(&self) -> usize {
        let cpus = locked(&self.cpus);
        cpus.present.unwrap_or(cpus.list.len())
    }

    fn cpu_possible_set(&self) -> CpuSet {
        let mut set = CpuSet::default();
        (0..locked(&self.cpus).list.len()).for_each(|index| set.insert(index));
        set
    }

    fn cpu_online_set(&self) -> CpuSet {
        let mut set = CpuSet::default();
        self.online_cpus().into_iter().for_each(|index| set.insert(index));
        set
    }

    unsafe fn mp_on_all(&self, worker: MpWorker, context: *mut c_void) -> Result<()> {
        self.require(Class::T, Call::MpOnAll);
        self.fallible(Call::MpOnAll, VERR_NOT_SUPPORTED)?;
        locked(&self.cpus).cross_calls.map_or(Ok(()), Err)?;
        for index in self.online_cpus() {
            let id = self.cpu(index, |cpu| cpu.id).unwrap_or(NIL_CPU_ID);
            // SAFETY: condition of the function.
            self.interrupt(index, || unsafe { worker(id, context) });
        }
        Ok(())
    }

    unsafe fn mp_on_cpu(&self, cpu_id: u32, worker: MpWorker, context: *mut c_void) -> Result<()> {
        self.require(Class::T, Call::MpOnCpu);
        self.fallible(Call::MpOnCpu, VERR_NOT_SUPPORTED)?;
        locked(&self.cpus).cross_calls.map_or(Ok(()), Err)?;
        let index = self.index_of_cpu(cpu_id).ok_or(VERR_CPU_NOT_FOUND)?;
        if !self.cpu(index, |cpu| cpu.online).unwrap_or(false) {
            return Err(VERR_CPU_OFFLINE);
        }
        // SAFETY: condition of the function.
        self.interrupt(index, || unsafe { worker(cpu_id, context) });
        Ok(())
    }

    unsafe fn mp_register(&self, callback: MpEventCallback, context: *mut c_void) -> Result<MpRegistration> {
        self.require(Class::T, Call::MpRegister);
        self.fallible(Call::MpRegister, VERR_NO_MEMORY)?;
        let registered =
            Arc::new(Registered { callback, context: Shared(context), running: AtomicUsize::new(0) });
        locked(&self.registrations).list.push(registered.clone());
        self.account.made(Kind::MpRegistration);
        Ok(MpRegistration { machine: self.machine().clone(), registered })
    }

    fn tsc_trusted(&self) -> Option<bool> {
        locked(&self.cpus).tsc_trusted
    }
}

impl<E: Codes> OsArch for MockOs<E> {
    fn cpuid(&self, leaf: u32, subleaf: u32) -> CpuidResult {
        let current = self.current_cpu();
        let cpus = locked(&self.cpus);
        let mut result = cpus.leaves.get(&(leaf, subleaf)).copied().unwrap_or_default();
        if leaf == 1 {
            let apic_id = cpus.list.get(current).map_or(0, |cpu| cpu.apic_id);
            result.ebx = (result.ebx & 0x00ff_ffff) | (u32::from(apic_id) << 24);
        }
        result
    }

    fn tsc(&self) -> u64 {
        let current = self.current_cpu();
        let now_ns = u128::from(self.now_ns());
        let mut cpus = locked(&self.cpus);
        cpus.tsc_readings += 1;
        let stepped = cpus.tsc_readings.wrapping_mul(cpus.tsc_step);
        let Some(cpu) = cpus.list.get(current) else { return 0 };
        cpu.tsc_frozen.unwrap_or_else(|| {
            let ticks = (now_ns * u128::from(cpu.tsc_hz) / 1_000_000_000) as u64;
            ticks.wrapping_add(stepped).wrapping_add_signed(cpu.tsc_offset)
        })
    }

    unsafe fn rdmsr(&self, msr: u32) -> u64 {
        let value = self.cpu(self.current_cpu(), |cpu| cpu.msrs.get(&msr).copied()).flatten();
        value.unwrap_or_else(|| {
            self.violation(&std::format!("RDMSR of {msr:#x}, which this CPU doesn't have"));
            0
        })
    }

    fn cr0(&self) -> usize {
        self.cpu(self.current_cpu(), |cpu| cpu.cr0).unwrap_or(0)
    }

    fn cr4(&self) -> usize {
        self.cpu(self.current_cpu(), |cpu| cpu.cr4).unwrap_or(0)
    }

    fn segment_selectors(&self) -> SegmentSelectors {
        locked(&self.cpus).selectors
    }

    fn irq_save(&self) -> usize {
        usize::from(self.context(|context| core::mem::replace(&mut context.irqs_off, true)))
    }

    unsafe fn irq_restore(&self, flags: usize) {
        self.context(|context| context.irqs_off = flags != 0);
    }
}
