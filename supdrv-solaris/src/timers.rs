//! Timers: cyclics of the kernel, which run at the interrupt level of its locks.
//!
//! A cyclic exists while the timer runs: starting adds it, stopping removes it and waits for its handler, both under the kernel's lock
//! of CPU states.

use core::ffi::c_void;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use supdrv_core::abi::status::{
    Result, VERR_CPU_NOT_FOUND, VERR_CPU_OFFLINE, VERR_NOT_SUPPORTED, VERR_TIMER_ACTIVE, VERR_TIMER_SUSPENDED,
};
use supdrv_core::heap::{Array, Box};
use supdrv_core::os::{OsCpu, OsTime, OsTimer, TimerCallback, TimerSpec, TimerTarget};

use crate::glue;
use crate::kernel::{self, CycHandler, CycOmniHandler, CycTime, Hrtime, Opaque};
use crate::os::{CpuLock, Solaris};

/// "As soon as possible" as the kernel takes it.
const SOON_NS: u64 = 10_000;

/// A timer. Dropping it waits for running callbacks.
pub struct Timer(Box<State, Solaris>);

struct State {
    callback: TimerCallback,
    context: *mut c_void,
    interval_ns: u64,
    target: TimerTarget,
    /// The cyclic, or CYCLIC_NONE; changed under the kernel's lock.
    cyclic: AtomicUsize,
    /// A one-shot timer that hasn't fired yet, or a periodic one between start and stop.
    running: AtomicBool,
    first_ns: AtomicU64,
    /// By CPU for timers that fire on all of them, else one.
    ticks: Array<u64, Solaris>,
}

// SAFETY: the creator guarantees that context and callback may be used from any context; the rest is atomics and the kernel's.
unsafe impl Send for Timer {}
// SAFETY: as above.
unsafe impl Sync for Timer {}

impl State {
    fn tick_of(&self, cpu_id: u32) -> Option<&AtomicU64> {
        let index = if self.target == TimerTarget::All { cpu_id as usize } else { 0 };
        let tick = self.ticks.get(index)?;
        // SAFETY: as large and as aligned, and never used in another way.
        Some(unsafe { &*core::ptr::from_ref(tick).cast::<AtomicU64>() })
    }

    fn reset_tick(&self, cpu_id: u32) {
        if let Some(tick) = self.tick_of(cpu_id) {
            tick.store(0, Ordering::Relaxed);
        }
    }

    fn when(&self, earliest_ns: u64) -> CycTime {
        let first_ns = self.first_ns.load(Ordering::Relaxed).max(earliest_ns);
        let interval = match self.interval_ns {
            0 => kernel::CY_INFINITY,
            ns => Hrtime::try_from(ns).unwrap_or(kernel::CY_INFINITY),
        };
        // The kernel aims expiries at when + n * interval.
        CycTime { when: Hrtime::try_from(first_ns).unwrap_or(kernel::CY_INFINITY), interval }
    }

    fn handler(&self) -> CycHandler {
        let argument = core::ptr::from_ref(self).cast_mut().cast();
        CycHandler { function: fired, argument, level: kernel::CY_LOCK_LEVEL }
    }

    fn add(&self, lock: &CpuLock) -> Result<usize> {
        if self.target == TimerTarget::All {
            let argument = core::ptr::from_ref(self).cast_mut().cast();
            let mut omni = CycOmniHandler { online: cpu_online, offline: cpu_offline, argument };
            // SAFETY: `cpu_lock` is held; the handlers' arguments live until the cyclic is removed.
            return Ok(unsafe { kernel::cyclic_add_omni(&raw mut omni) });
        }
        let cpu = match self.target {
            TimerTarget::Cpu(id) if !lock.is_online(id) => return Err(VERR_CPU_OFFLINE),
            TimerTarget::Cpu(id) => lock.cpu(id),
            TimerTarget::Any | TimerTarget::All => None,
        };
        self.reset_tick(0);
        let (mut handler, mut when) = (self.handler(), self.when(0));
        // SAFETY: as above; the times are read.
        let cyclic = unsafe { kernel::cyclic_add(&raw mut handler, &raw mut when) };
        if let Some(cpu) = cpu {
            // SAFETY: as above: the CPU stays.
            unsafe { kernel::cyclic_bind(cyclic, cpu.as_ptr(), null_mut()) };
        }
        Ok(cyclic)
    }

    /// Removes the cyclic, if there is one; none of its handlers runs afterwards.
    fn remove(&self, _lock: &CpuLock) {
        let cyclic = self.cyclic.swap(kernel::CYCLIC_NONE, Ordering::AcqRel);
        if cyclic != kernel::CYCLIC_NONE {
            // SAFETY: `cpu_lock` is held; from `cyclic_add`, given up here.
            unsafe { kernel::cyclic_remove(cyclic) };
        }
    }
}

/// A CPU gets its share of a timer that fires on all of them; also called for those that are there at the start.
unsafe extern "C" fn cpu_online(
    state: *mut c_void,
    cpu: *mut Opaque,
    handler: *mut CycHandler,
    when: *mut CycTime,
) {
    // SAFETY: the timer outlives its cyclic.
    let state = unsafe { &*state.cast::<State>() };
    // The id is the first member of the structure.
    // SAFETY: the kernel's structure of a CPU, which begins with a 32-bit id.
    let id = unsafe { cpu.cast::<u32>().read() };
    state.reset_tick(id);
    let soon_ns = Solaris.system_nano_ts().saturating_add(SOON_NS);
    // SAFETY: the results are the kernel's, and to be filled in.
    unsafe {
        handler.write(state.handler());
        when.write(state.when(soon_ns));
    }
}

unsafe extern "C" fn cpu_offline(_state: *mut c_void, _cpu: *mut Opaque, _cookie: *mut c_void) {}

unsafe extern "C" fn fired(state: *mut c_void) {
    // SAFETY: the timer outlives its cyclic.
    let state = unsafe { &*state.cast::<State>() };
    if !state.running.load(Ordering::Acquire) {
        return;
    }
    if state.interval_ns == 0 {
        state.running.store(false, Ordering::Release);
    }
    let Some(tick) = state.tick_of(glue::supdrv_glue_cpu_id()) else { return };
    let tick = tick.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
    let handle = core::ptr::from_ref(state).cast_mut().cast();
    // SAFETY: the creator vouches for both.
    unsafe { (state.callback)(handle, state.context, tick) };
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.0.running.store(false, Ordering::Release);
        self.0.remove(&CpuLock::acquire());
    }
}

impl OsTimer for Solaris {
    type Timer = Timer;

    fn timer_create(&self, spec: &TimerSpec) -> Result<Timer> {
        let exists = |id: u32| self.cpu_possible_set().contains(id as usize);
        match spec.target {
            TimerTarget::All if spec.interval_ns == 0 => return Err(VERR_NOT_SUPPORTED),
            TimerTarget::Cpu(id) if !exists(id) => return Err(VERR_CPU_NOT_FOUND),
            _ => {}
        }
        let counters = if spec.target == TimerTarget::All { self.cpu_array_size() } else { 1 };
        let state = State {
            callback: spec.callback,
            context: spec.context,
            interval_ns: spec.interval_ns,
            target: spec.target,
            cyclic: AtomicUsize::new(kernel::CYCLIC_NONE),
            running: AtomicBool::new(false),
            first_ns: AtomicU64::new(0),
            ticks: Array::new_zeroed(self, counters)?,
        };
        Ok(Timer(Box::new(self, state)?))
    }

    fn timer_start(&self, timer: &Timer, first_ns: u64) -> Result<()> {
        let state = &timer.0;
        let lock = CpuLock::acquire();
        if state.running.load(Ordering::Acquire) {
            return Err(VERR_TIMER_ACTIVE);
        }
        // A one-shot timer that has fired leaves its cyclic behind.
        state.remove(&lock);
        let first_ns = self.system_nano_ts().saturating_add(first_ns.max(SOON_NS));
        state.first_ns.store(first_ns, Ordering::Relaxed);
        state.running.store(true, Ordering::Release);
        match state.add(&lock) {
            Ok(cyclic) => {
                state.cyclic.store(cyclic, Ordering::Release);
                Ok(())
            }
            Err(status) => {
                state.running.store(false, Ordering::Release);
                Err(status)
            }
        }
    }

    fn timer_stop(&self, timer: &Timer) -> Result<()> {
        let lock = CpuLock::acquire();
        let was_running = timer.0.running.swap(false, Ordering::AcqRel);
        timer.0.remove(&lock);
        if was_running { Ok(()) } else { Err(VERR_TIMER_SUSPENDED) }
    }

    fn timer_handle(&self, timer: &Timer) -> usize {
        timer.0.as_ptr().as_ptr() as usize
    }

    fn timer_granularity_ns(&self) -> u32 {
        u32::try_from(kernel::nsec_per_tick).unwrap_or(10_000_000)
    }
}
