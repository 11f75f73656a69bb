//! Do the TSCs of this machine run in step?

use core::ffi::c_void;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::abi::gip::{MODE_ASYNC, MODE_SYNC};
use crate::abi::published::DevExtView;
use crate::abi::status::{VERR_CPU_NOT_FOUND, VERR_CPU_OFFLINE};
use crate::log::log;
use crate::os::{CpuidResult, MAX_CPUS, SupdrvOs};

/// In EDX of CPUID 0x80000007: the TSC runs at a fixed rate in all states of the CPU.
const INVARIANT_TSC: u32 = 1 << 8;

/// What comparing the TSCs of all CPUs showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measurement {
    /// Every reading was above the one before.
    Increasing,
    /// Some weren't.
    NonIncreasing,
    /// The system can't make a given CPU read its TSC.
    Inconclusive,
}

/// What the decision depends on.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// CPUs, as the system counts them.
    pub cpus: usize,
    /// The administrator wants asynchronous mode.
    pub forced_async: bool,
    /// What measuring showed.
    pub measurement: Measurement,
    /// CPUID leaf 0.
    pub vendor: CpuidResult,
    /// Highest extended CPUID leaf.
    pub max_extended_leaf: u32,
    /// EDX of CPUID 0x80000007, if there is such a leaf.
    pub power_edx: u32,
}

/// The mode that the facts ask for, whatever timers there are.
#[must_use]
pub fn decide(facts: &Facts) -> u32 {
    /// Features that change the frequency: FID, VID, THERMTRIP, TM, STC.
    const UNSTEADY: u32 = 0x3e;
    if facts.cpus <= 1 {
        return MODE_SYNC;
    }
    if facts.forced_async || facts.measurement == Measurement::NonIncreasing {
        return MODE_ASYNC;
    }
    let v = facts.vendor;
    let amd =
        (v.ebx.to_le_bytes(), v.edx.to_le_bytes(), v.ecx.to_le_bytes()) == (*b"Auth", *b"enti", *b"cAMD");
    let unsteady = amd
        && v.eax >= 1
        && facts.max_extended_leaf >= 0x8000_0007
        && facts.power_edx & INVARIANT_TSC == 0
        && facts.power_edx & UNSTEADY != 0;
    if unsteady { MODE_ASYNC } else { MODE_SYNC }
}

/// Reads the TSC on this CPU.
///
/// # Safety
/// `context` is a `Reading` of the same system that lives until the cross call returns.
unsafe extern "C" fn read_tsc<O: SupdrvOs>(_cpu_id: u32, context: *mut c_void) {
    // SAFETY: condition of the function.
    let reading = unsafe { &*context.cast::<Reading<O>>() };
    reading.tsc.store(reading.os.tsc(), Ordering::Relaxed);
}

struct Reading<O> {
    os: O,
    tsc: AtomicU64,
}

/// Compares the TSCs of all CPUs. Class T.
pub fn measure<O: SupdrvOs>(os: &O) -> Measurement {
    const ROUNDS: usize = 8;
    let reading = Reading { os: os.clone(), tsc: AtomicU64::new(0) };
    let mut last = os.tsc();
    for index in (0..ROUNDS).flat_map(|_| 0..os.cpu_array_size().min(MAX_CPUS)) {
        let Some(cpu_id) = os.cpu_id_from_index(index) else { continue };
        let context = (&raw const reading).cast_mut().cast();
        // SAFETY: `reading` lives until the call returns.
        match unsafe { os.mp_on_cpu(cpu_id, read_tsc::<O>, context) } {
            Ok(()) => {}
            Err(VERR_CPU_OFFLINE | VERR_CPU_NOT_FOUND) => continue,
            Err(_) => return Measurement::Inconclusive,
        }
        let now = reading.tsc.load(Ordering::Relaxed);
        if now <= last {
            return Measurement::NonIncreasing;
        }
        last = now;
    }
    Measurement::Increasing
}

/// What the kernel, or else comparing them, says about the TSCs. Class T.
fn judge<O: SupdrvOs>(os: &O, power_edx: u32) -> Measurement {
    // The kernel has watched the TSCs for longer than this driver can.
    match os.tsc_trusted() {
        Some(true) if power_edx & INVARIANT_TSC != 0 => Measurement::Inconclusive,
        Some(false) => Measurement::NonIncreasing,
        _ => measure(os),
    }
}

/// Initial APIC ids seen so far.
struct ApicIds<O> {
    os: O,
    seen: [AtomicU64; 4],
    collide: AtomicBool,
}

/// Notes the APIC id of this CPU.
///
/// # Safety
/// `context` is an `ApicIds` of the same system that lives until the cross call returns.
unsafe extern "C" fn note_apic_id<O: SupdrvOs>(_cpu_id: u32, context: *mut c_void) {
    // SAFETY: condition of the function.
    let ids = unsafe { &*context.cast::<ApicIds<O>>() };
    let id = ids.os.cpuid(1, 0).ebx >> 24;
    let bit = 1 << (id % 64);
    let word = ids.seen.get((id / 64) as usize);
    if word.is_some_and(|word| word.fetch_or(bit, Ordering::Relaxed) & bit != 0) {
        ids.collide.store(true, Ordering::Relaxed);
    }
}

/// Whether two CPUs have the same 8-bit APIC id, by which readers of an asynchronous page find their entries. Class T.
fn apic_ids_collide<O: SupdrvOs>(os: &O) -> bool {
    let ids = ApicIds { os: os.clone(), seen: Default::default(), collide: AtomicBool::new(false) };
    // SAFETY: `ids` lives until the call returns. Where nothing can be found out, nothing is held against the mode.
    let _ = unsafe { os.mp_on_all(note_apic_id::<O>, (&raw const ids).cast_mut().cast()) };
    ids.collide.load(Ordering::Relaxed)
}

/// The mode for this machine, whatever timers there are. Class T.
pub fn determine<O: SupdrvOs>(os: &O, dev_ext: &DevExtView) -> u32 {
    let max_extended_leaf = os.cpuid(0x8000_0000, 0).eax;
    let power_edx = if max_extended_leaf >= 0x8000_0007 { os.cpuid(0x8000_0007, 0).edx } else { 0 };
    let cpus = os.cpu_present_count();
    let forced_async = os.forced_async_tsc_mode(dev_ext);
    let measurement =
        if cpus <= 1 || forced_async { Measurement::Inconclusive } else { judge(os, power_edx) };
    let mode = decide(&Facts {
        cpus,
        forced_async,
        measurement,
        vendor: os.cpuid(0, 0),
        max_extended_leaf,
        power_edx,
    });
    if mode == MODE_ASYNC && apic_ids_collide(os) {
        log(os, &[b"supdrv: CPUs share APIC ids: the GIP is synchronous"]);
        return MODE_SYNC;
    }
    mode
}
