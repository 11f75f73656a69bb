//! Timers: one callout of the kernel for each CPU that fires, executed directly in the timer interrupt.
//!
//! A run is the time between a start and a stop. Every callout knows the run it was armed for, so that one that is late for a stop
//! finds out that its run is over. A start waits for such late ones before it arms the callouts again.

use core::cell::UnsafeCell;
use core::ffi::{c_int, c_void};
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};

use supdrv_core::abi::status::{
    Result, VERR_CPU_NOT_FOUND, VERR_NOT_SUPPORTED, VERR_TIMER_ACTIVE, VERR_TIMER_SUSPENDED,
};
use supdrv_core::heap::{Array, Box};
use supdrv_core::os::{MAX_CPUS, OsCpu, OsTime, OsTimer, TimerCallback, TimerSpec, TimerTarget};

use crate::events::sbintime;
use crate::glue;
use crate::kernel;
use crate::os::FreeBsd;

/// Slack of timers: none worth having for the global info page.
const PRECISION_NS: u64 = 10_000;
const ANY_CPU: c_int = -1;

/// A callout, and what its function wants to know.
#[repr(C, align(8))]
struct Slot {
    callout: UnsafeCell<[u64; 16]>,
    timer: *const State,
    cpu: c_int,
    /// Written before the callout is armed, then by its function only.
    run: AtomicU64,
    next_ns: AtomicU64,
    ticks: AtomicU64,
}

struct State {
    /// Odd while it runs.
    run: AtomicU64,
    interval_ns: AtomicU64,
    callback: TimerCallback,
    context: *mut c_void,
    slots: NonNull<Slot>,
    slot_count: usize,
}

const SLOT_WORDS: usize = size_of::<Slot>() / size_of::<u64>();
const _: () = assert!(SLOT_WORDS * size_of::<u64>() == size_of::<Slot>());

/// A timer. Dropping it waits for running callbacks.
pub struct Timer {
    state: Box<State, FreeBsd>,
    /// Where the slots are.
    _memory: Array<[u64; SLOT_WORDS], FreeBsd>,
}

// SAFETY: the creator guarantees that context and callback may be used from any context; the rest is atomics and the kernel's.
unsafe impl Send for Timer {}
// SAFETY: as above.
unsafe impl Sync for Timer {}

impl State {
    fn slots(&self) -> &[Slot] {
        // SAFETY: as many slots were written when the timer was made, in memory that it owns.
        unsafe { core::slice::from_raw_parts(self.slots.as_ptr(), self.slot_count) }
    }

    fn is_running(run: u64) -> bool {
        run & 1 != 0
    }

    /// Ends a run if it is still the current one.
    fn end(&self, run: u64) -> bool {
        self.run.compare_exchange(run, run.wrapping_add(1), Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    fn drain(&self) {
        for slot in self.slots() {
            // SAFETY: the callout is initialised.
            unsafe { glue::supdrv_glue_callout_drain(slot.callout.get().cast()) };
        }
    }
}

impl Slot {
    fn arm(&self) {
        let deadline = sbintime(self.next_ns.load(Ordering::Relaxed));
        let flags = kernel::C_ABSOLUTE | kernel::C_DIRECT_EXEC;
        let this = core::ptr::from_ref(self).cast_mut().cast();
        let callout = self.callout.get().cast();
        let precision = sbintime(PRECISION_NS);
        // SAFETY: the callout is initialised, and is drained before the slot goes.
        unsafe {
            kernel::callout_reset_sbt_on(callout, deadline, precision, expired, this, self.cpu, flags);
        }
    }

    /// The next expiry that isn't over yet.
    fn advance(&self, interval_ns: u64, now_ns: u64) {
        let mut next_ns = self.next_ns.load(Ordering::Relaxed).saturating_add(interval_ns);
        if next_ns <= now_ns {
            let missed = now_ns.saturating_sub(next_ns).checked_div(interval_ns).unwrap_or(0);
            next_ns = next_ns.saturating_add(missed.saturating_add(1).saturating_mul(interval_ns));
        }
        self.next_ns.store(next_ns, Ordering::Relaxed);
    }
}

unsafe extern "C" fn expired(slot: *mut c_void) {
    // SAFETY: the callout is drained before the slot goes.
    let slot = unsafe { &*slot.cast::<Slot>() };
    // SAFETY: the timer outlives its slots.
    let timer = unsafe { &*slot.timer };
    let run = slot.run.load(Ordering::Acquire);
    if timer.run.load(Ordering::Acquire) != run {
        return;
    }
    let one_shot = timer.interval_ns.load(Ordering::Relaxed) == 0;
    if one_shot && !timer.end(run) {
        return;
    }
    let tick = slot.ticks.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
    // SAFETY: the creator vouches for both.
    unsafe { (timer.callback)(slot.timer.cast_mut().cast(), timer.context, tick) };
    if !one_shot && timer.run.load(Ordering::Acquire) == run {
        slot.advance(timer.interval_ns.load(Ordering::Relaxed), FreeBsd.system_nano_ts());
        slot.arm();
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        let run = self.state.run.load(Ordering::Acquire);
        if State::is_running(run) {
            self.state.end(run);
        }
        self.state.drain();
    }
}

impl FreeBsd {
    /// The CPUs that a timer fires on, as callouts name them.
    fn timer_cpus(&self, target: TimerTarget) -> Result<impl Iterator<Item = c_int> + Clone + use<>> {
        let every = matches!(target, TimerTarget::All);
        let one = match target {
            TimerTarget::Cpu(id) if !self.cpu_exists(id) => return Err(VERR_CPU_NOT_FOUND),
            TimerTarget::Cpu(id) => c_int::try_from(id).map_err(|_| VERR_CPU_NOT_FOUND)?,
            TimerTarget::Any | TimerTarget::All => ANY_CPU,
        };
        let all = (0..=self.cpu_max_id()).take(MAX_CPUS).filter(|id| FreeBsd.cpu_exists(*id));
        let all = all.filter_map(|id| c_int::try_from(id).ok());
        Ok(all.filter(move |_| every).chain((!every).then_some(one)))
    }
}

impl OsTimer for FreeBsd {
    type Timer = Timer;

    fn timer_create(&self, spec: &TimerSpec) -> Result<Timer> {
        if spec.target == TimerTarget::All && spec.interval_ns == 0 {
            return Err(VERR_NOT_SUPPORTED);
        }
        let cpus = self.timer_cpus(spec.target)?;
        let mut memory = Array::<[u64; SLOT_WORDS], Self>::new_zeroed(self, cpus.clone().count())?;
        let state = Box::new(
            self,
            State {
                run: AtomicU64::new(0),
                interval_ns: AtomicU64::new(spec.interval_ns),
                callback: spec.callback,
                context: spec.context,
                slots: NonNull::from(&mut *memory).cast(),
                slot_count: memory.len(),
            },
        )?;
        for (index, cpu) in cpus.enumerate().take(memory.len()) {
            let slot = state.slots.as_ptr().wrapping_add(index);
            let callout = UnsafeCell::new([0; 16]);
            let (run, next_ns, ticks) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
            // SAFETY: a place in the timer's own memory, once.
            unsafe {
                slot.write(Slot { callout, timer: state.as_ptr().as_ptr(), cpu, run, next_ns, ticks });
                kernel::callout_init((*slot).callout.get().cast(), 1);
            }
        }
        Ok(Timer { state, _memory: memory })
    }

    fn timer_start(&self, timer: &Timer, first_ns: u64) -> Result<()> {
        let state = &timer.state;
        let before = state.run.load(Ordering::Acquire);
        if State::is_running(before) {
            return Err(VERR_TIMER_ACTIVE);
        }
        state.drain();
        if !state.end(before) {
            return Err(VERR_TIMER_ACTIVE);
        }
        let first_ns = self.system_nano_ts().saturating_add(first_ns);
        for slot in state.slots() {
            slot.next_ns.store(first_ns, Ordering::Relaxed);
            slot.ticks.store(0, Ordering::Relaxed);
            slot.run.store(before.wrapping_add(1), Ordering::Release);
            slot.arm();
        }
        Ok(())
    }

    fn timer_stop(&self, timer: &Timer) -> Result<()> {
        let run = timer.state.run.load(Ordering::Acquire);
        if !State::is_running(run) || !timer.state.end(run) {
            return Err(VERR_TIMER_SUSPENDED);
        }
        for slot in timer.state.slots() {
            // SAFETY: the callout is initialised.
            unsafe { glue::supdrv_glue_callout_stop(slot.callout.get().cast()) };
        }
        Ok(())
    }

    fn timer_handle(&self, timer: &Timer) -> usize {
        timer.state.as_ptr().as_ptr() as usize
    }

    fn timer_granularity_ns(&self) -> u32 {
        let hz = u32::try_from(kernel::hz).unwrap_or(1000);
        1_000_000_000_u32.checked_div(hz).unwrap_or(1_000_000)
    }
}

impl FreeBsd {
    /// A new period counts from the next expiry on.
    pub(crate) fn set_interval(&self, timer: &Timer, interval_ns: u64) {
        timer.state.interval_ns.store(interval_ns, Ordering::Relaxed);
    }
}
