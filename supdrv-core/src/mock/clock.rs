//! The virtual clock and what follows it: timers.
//!
//! Time stands still unless a test moves it ([`Machine::advance`]) or somebody sleeps. While it moves, due timers fire one after the
//! other, in the order of their expiries and of their creation, on the host thread that moves the clock.

use core::ffi::c_void;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::vec::Vec;

use super::{Call, Class, Codes, Kind, Machine, MockOs, Shared, identity::host_thread, locked, schedule};
use crate::abi::status::{
    Result, VERR_CPU_NOT_FOUND, VERR_CPU_OFFLINE, VERR_NO_MEMORY, VERR_NOT_SUPPORTED, VERR_TIMER_ACTIVE,
    VERR_TIMER_SUSPENDED,
};
use crate::os::{MAX_CPUS, OsTime, OsTimer, TimerSpec, TimerTarget};

/// Where the clock starts: a machine has been up for a while.
pub const BOOT_NS: u64 = 1_000_000_000_000;

pub(super) struct Clock {
    now_ns: AtomicU64,
    /// Added by every reading.
    step_ns: AtomicU64,
    /// Serialises those who move the clock.
    mover: Mutex<()>,
    timers: Mutex<Vec<Arc<State>>>,
    granularity_ns: AtomicU32,
    /// Finest granularity that is granted; 0 for none.
    grantable_ns: AtomicU32,
    only_plain_timers: AtomicBool,
}

impl Default for Clock {
    fn default() -> Self {
        Self {
            now_ns: BOOT_NS.into(),
            step_ns: 0.into(),
            mover: Mutex::new(()),
            timers: Mutex::new(Vec::new()),
            granularity_ns: 1_000_000.into(),
            grantable_ns: 0.into(),
            only_plain_timers: false.into(),
        }
    }
}

#[derive(Debug)]
struct Schedule {
    running: bool,
    interval_ns: u64,
    next_ns: u64,
    /// Tick numbers per CPU.
    ticks: Vec<u64>,
}

#[derive(Debug)]
struct State {
    spec: Shared<TimerSpec>,
    schedule: Mutex<Schedule>,
    callbacks: AtomicUsize,
    /// The host thread that runs a callback of it.
    runner: Mutex<Option<usize>>,
}

/// A timer.
#[derive(Debug)]
pub struct Timer {
    machine: Arc<Machine>,
    state: Arc<State>,
}

impl State {
    fn handle(&self) -> *mut c_void {
        core::ptr::from_ref(self).cast_mut().cast()
    }

    /// When it is due, if it runs.
    fn due_ns(&self) -> Option<u64> {
        let schedule = locked(&self.schedule);
        schedule.running.then_some(schedule.next_ns)
    }

    /// The number of the callback that begins on a CPU now.
    fn begin_tick(&self, cpu: usize) -> u64 {
        let mut schedule = locked(&self.schedule);
        let ticks = &mut schedule.ticks[cpu];
        *ticks += 1;
        *ticks
    }

    fn call(&self, machine: &Machine, cpu: usize) {
        let tick = self.begin_tick(cpu);
        self.callbacks.fetch_add(1, Ordering::SeqCst);
        *locked(&self.runner) = Some(host_thread());
        let TimerSpec { callback, context, .. } = self.spec.0;
        // SAFETY: the timer exists, hence the context is valid (contract of its creator); interrupts are off.
        machine.interrupt(cpu, || unsafe { callback(self.handle(), context, tick) });
        *locked(&self.runner) = None;
        self.callbacks.fetch_sub(1, Ordering::SeqCst);
    }

    fn fire(&self, machine: &Machine, now_ns: u64) {
        {
            let mut schedule = locked(&self.schedule);
            let interval = schedule.interval_ns;
            // Fixed points; those that were missed are skipped.
            match now_ns.saturating_sub(schedule.next_ns).checked_div(interval) {
                Some(missed) => schedule.next_ns += (missed + 1) * interval,
                None => schedule.running = false,
            }
        }
        let online = machine.online_cpus();
        match self.spec.0.target {
            TimerTarget::Any => online.first().into_iter().for_each(|cpu| self.call(machine, *cpu)),
            TimerTarget::All => online.iter().for_each(|cpu| self.call(machine, *cpu)),
            TimerTarget::Cpu(id) => {
                let index = machine.index_of_cpu(id).filter(|index| online.contains(index));
                index.into_iter().for_each(|cpu| self.call(machine, cpu));
            }
        }
    }
}

impl Machine {
    /// The time in nanoseconds, without the side effects of reading it.
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        self.clock.now_ns.load(Ordering::SeqCst)
    }

    fn next_due(&self, until_ns: u64) -> Option<(u64, Arc<State>)> {
        let timers = locked(&self.clock.timers);
        let due = timers.iter().filter_map(|timer| Some((timer.due_ns()?, timer.clone())));
        // The first of several equal minima is the oldest timer.
        due.filter(|(at, _)| *at <= until_ns).min_by_key(|(at, _)| *at)
    }

    fn set_now(&self, now_ns: u64) {
        self.clock.now_ns.fetch_max(now_ns, Ordering::SeqCst);
        self.waits.clock_moved();
    }

    /// Moves the clock by `ns`: timers fire, waits whose deadline passes end.
    pub fn advance(&self, ns: u64) {
        self.advance_to(self.now_ns() + ns);
    }

    /// Moves the clock to `until_ns`; nothing happens if that has passed.
    pub fn advance_to(&self, until_ns: u64) {
        let _mover = locked(&self.clock.mover);
        while let Some((at, timer)) = self.next_due(until_ns) {
            self.set_now(at);
            timer.fire(self, self.now_ns());
        }
        self.set_now(until_ns);
    }

    /// Moves the clock by `ns` without firing timers, as if interrupts had been off for so long.
    pub fn jump(&self, ns: u64) {
        let _mover = locked(&self.clock.mover);
        self.set_now(self.now_ns() + ns);
    }

    /// Lets running timers that fire on one CPU, or on any, do so there: once, now, whatever their schedules say.
    pub fn fire_timers_on(&self, cpu: usize) {
        let _mover = locked(&self.clock.mover);
        let running: Vec<_> =
            locked(&self.clock.timers).iter().filter(|timer| timer.due_ns().is_some()).cloned().collect();
        for timer in running {
            let fires_here = match timer.spec.0.target {
                TimerTarget::Any | TimerTarget::All => true,
                TimerTarget::Cpu(id) => self.index_of_cpu(id) == Some(cpu),
            };
            if fires_here {
                timer.call(self, cpu);
            }
        }
    }

    /// Lets every reading of the clock move it by so much (timers don't fire): for code that polls.
    pub fn set_clock_step_ns(&self, step_ns: u64) {
        self.clock.step_ns.store(step_ns, Ordering::Relaxed);
    }

    /// Sets the timers' granularity, 1 ms at first, and the finest one that is granted on request (0: none, at first).
    pub fn set_timer_granularity_ns(&self, system_ns: u32, grantable_ns: u32) {
        self.clock.granularity_ns.store(system_ns, Ordering::Relaxed);
        self.clock.grantable_ns.store(grantable_ns, Ordering::Relaxed);
    }

    /// Whether the system has timers for all or specific CPUs, as it has at first.
    pub fn set_cpu_timers(&self, supported: bool) {
        self.clock.only_plain_timers.store(!supported, Ordering::Relaxed);
    }

    /// Number of running timers.
    #[must_use]
    pub fn running_timers(&self) -> usize {
        locked(&self.clock.timers).iter().filter(|timer| timer.due_ns().is_some()).count()
    }

    /// Tick numbers start over on a CPU that comes on-line.
    pub(super) fn restart_ticks(&self, cpu: usize) {
        for timer in locked(&self.clock.timers).iter() {
            if timer.spec.0.target == TimerTarget::All {
                locked(&timer.schedule).ticks[cpu] = 0;
            }
        }
    }
}

impl<E: Codes> OsTime for MockOs<E> {
    fn system_nano_ts(&self) -> u64 {
        let step = self.clock.step_ns.load(Ordering::Relaxed);
        self.clock.now_ns.fetch_add(step, Ordering::SeqCst) + step
    }

    fn sleep_ms(&self, millis: u32) {
        self.require(Class::T, Call::SleepMs);
        if millis != 0 {
            self.advance(u64::from(millis) * 1_000_000);
        }
        schedule::pause();
    }
}

impl Timer {
    /// Changes the period from the next expiry on.
    pub(super) fn set_interval_ns(&self, interval_ns: u64) {
        locked(&self.state.schedule).interval_ns = interval_ns;
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.machine.require(Class::T, Call::TimerDestroy);
        locked(&self.machine.clock.timers).retain(|timer| !Arc::ptr_eq(timer, &self.state));
        locked(&self.state.schedule).running = false;
        if *locked(&self.state.runner) == Some(host_thread()) {
            self.machine.violation("a timer is destroyed by its own callback");
        } else {
            while self.state.callbacks.load(Ordering::SeqCst) != 0 {
                schedule::pause();
            }
        }
        self.machine.account.gone(Kind::Timer);
    }
}

impl<E: Codes> OsTimer for MockOs<E> {
    type Timer = Timer;

    fn timer_create(&self, spec: &TimerSpec) -> Result<Timer> {
        self.require(Class::T, Call::TimerCreate);
        self.fallible(Call::TimerCreate, VERR_NO_MEMORY)?;
        if spec.target != TimerTarget::Any && self.clock.only_plain_timers.load(Ordering::Relaxed) {
            return Err(VERR_NOT_SUPPORTED);
        }
        match spec.target {
            TimerTarget::All if spec.interval_ns == 0 => return Err(VERR_NOT_SUPPORTED),
            TimerTarget::Cpu(id) if self.index_of_cpu(id).is_none() => return Err(VERR_CPU_NOT_FOUND),
            _ => {}
        }
        let interval_ns = spec.interval_ns;
        let schedule = Schedule { running: false, interval_ns, next_ns: 0, ticks: std::vec![0; MAX_CPUS] };
        let state = Arc::new(State {
            spec: Shared(*spec),
            schedule: Mutex::new(schedule),
            callbacks: AtomicUsize::new(0),
            runner: Mutex::new(None),
        });
        locked(&self.clock.timers).push(state.clone());
        self.account.made(Kind::Timer);
        Ok(Timer { machine: self.machine().clone(), state })
    }

    fn timer_start(&self, timer: &Timer, first_ns: u64) -> Result<()> {
        self.require(Class::T, Call::TimerStart);
        self.fallible(Call::TimerStart, VERR_CPU_OFFLINE)?;
        if let TimerTarget::Cpu(id) = timer.state.spec.0.target
            && !self.index_of_cpu(id).is_some_and(|index| self.online_cpus().contains(&index))
        {
            return Err(VERR_CPU_OFFLINE);
        }
        let mut schedule = locked(&timer.state.schedule);
        if schedule.running {
            return Err(VERR_TIMER_ACTIVE);
        }
        schedule.running = true;
        schedule.next_ns = self.now_ns() + first_ns;
        schedule.ticks.fill(0);
        Ok(())
    }

    fn timer_stop(&self, timer: &Timer) -> Result<()> {
        self.require(Class::T, Call::TimerStop);
        let mut schedule = locked(&timer.state.schedule);
        if core::mem::replace(&mut schedule.running, false) { Ok(()) } else { Err(VERR_TIMER_SUSPENDED) }
    }

    fn timer_handle(&self, timer: &Timer) -> usize {
        timer.state.handle() as usize
    }

    fn timer_granularity_ns(&self) -> u32 {
        self.clock.granularity_ns.load(Ordering::Relaxed)
    }

    fn timer_request_granularity(&self, wanted_ns: u32) -> Result<u32> {
        self.require(Class::T, Call::TimerRequestGranularity);
        self.fallible(Call::TimerRequestGranularity, VERR_NOT_SUPPORTED)?;
        match self.clock.grantable_ns.load(Ordering::Relaxed) {
            0 => Err(VERR_NOT_SUPPORTED),
            finest => {
                self.account.made(Kind::Granularity);
                Ok(wanted_ns.max(finest))
            }
        }
    }

    fn timer_release_granularity(&self, _granted_ns: u32) {
        self.require(Class::T, Call::TimerReleaseGranularity);
        self.account.gone(Kind::Granularity);
    }
}
