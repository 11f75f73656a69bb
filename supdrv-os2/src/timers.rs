//! Timers, driven by the kernel's clock tick.
//!
//! The assembly half registers one handler for ticks, at initialisation and for good: besides timers, the clock needs somebody who reads it
//! before it wraps. Running timers are in one list, under a spinlock; a tick calls those that are due, without the lock. A timer whose
//! callback runs is marked, so that a nested tick leaves it alone and its destruction waits.

use core::cell::UnsafeCell;
use core::ffi::c_void;
use core::ptr::null_mut;

use supdrv_core::abi::status::{Result, VERR_NOT_SUPPORTED, VERR_TIMER_ACTIVE, VERR_TIMER_SUSPENDED};
use supdrv_core::heap::Box;
use supdrv_core::os::{OsTime, OsTimer, TimerCallback, TimerSpec, TimerTarget};

use crate::os::Os2;
use crate::spin::Guarded;
use crate::time::TICK_NS;

/// What changes, under the lock of the list.
struct Run {
    next: *mut State,
    is_active: bool,
    is_called: bool,
    interval_ns: u64,
    due_ns: u64,
    ticks: u64,
}

struct State {
    callback: TimerCallback,
    context: *mut c_void,
    run: UnsafeCell<Run>,
}

struct Active(*mut State);

// SAFETY: timers are used from any context, under the lock.
unsafe impl Send for Active {}

static ACTIVE: Guarded<Active> = Guarded::new(Active(null_mut()));

/// No timers. Class T, once.
pub fn init() {
    ACTIVE.init();
}

/// Class T; there are no timers any more.
pub fn deinit() {
    ACTIVE.deinit();
}

/// A timer. Dropping it waits for its callback.
pub struct Timer(Box<State, Os2>);

// SAFETY: the creator guarantees that context and callback may be used from any context; the rest is under the lock.
unsafe impl Send for Timer {}
// SAFETY: as above.
unsafe impl Sync for Timer {}

/// What a tick has to do next.
struct Due {
    timer: *mut State,
    callback: TimerCallback,
    context: *mut c_void,
    tick: u64,
}

impl Active {
    /// # Safety
    /// The timer exists, and the list is locked.
    unsafe fn run<'a>(timer: *mut State) -> &'a mut Run {
        // SAFETY: under the list's lock, which the caller holds, this is the only reference.
        unsafe { &mut *(*timer).run.get() }
    }

    fn insert(&mut self, timer: *mut State) {
        // SAFETY: the list is locked, and the timer is its owner's.
        unsafe { Self::run(timer) }.next = self.0;
        self.0 = timer;
    }

    /// Whether it was in the list.
    fn remove(&mut self, timer: *mut State) -> bool {
        let mut link = &raw mut self.0;
        // SAFETY: timers leave the list, under its lock, before they are freed.
        unsafe {
            while !(*link).is_null() {
                let run = Self::run(*link);
                if *link == timer {
                    *link = run.next;
                    run.is_active = false;
                    return true;
                }
                link = &raw mut run.next;
            }
        }
        false
    }

    /// A timer that is due, marked as called, with its next time set; a one-shot one isn't active any more.
    fn take_due(&mut self, now_ns: u64) -> Option<Due> {
        let mut timer = self.0;
        while !timer.is_null() {
            // SAFETY: as in `remove`.
            let run = unsafe { Self::run(timer) };
            if run.due_ns <= now_ns && !run.is_called {
                run.is_called = true;
                run.ticks = run.ticks.wrapping_add(1);
                let tick = run.ticks;
                match run.interval_ns {
                    0 => {
                        self.remove(timer);
                    }
                    // Missed ones are skipped.
                    interval => {
                        let missed = now_ns.saturating_sub(run.due_ns).checked_div(interval).unwrap_or(0);
                        let step = missed.saturating_add(1).saturating_mul(interval);
                        run.due_ns = run.due_ns.saturating_add(step);
                    }
                }
                // SAFETY: fixed when the timer was made.
                let (callback, context) = unsafe { ((*timer).callback, (*timer).context) };
                return Some(Due { timer, callback, context, tick });
            }
            timer = run.next;
        }
        None
    }
}

/// The kernel's clock ticked. Class I.
pub fn tick() {
    let now_ns = Os2.system_nano_ts();
    while let Some(due) = ACTIVE.with(|active| active.take_due(now_ns)) {
        // SAFETY: the creator vouches for both; the mark keeps the timer from being freed.
        unsafe { (due.callback)(due.timer.cast(), due.context, due.tick) };
        // SAFETY: marked as called, so that it isn't freed yet; the list is locked.
        ACTIVE.with(|_| unsafe { Active::run(due.timer) }.is_called = false);
    }
}

impl Timer {
    fn state(&self) -> *mut State {
        self.0.as_ptr().as_ptr()
    }

    /// A new period counts from the next expiry on.
    pub fn set_interval(&self, interval_ns: u64) {
        // SAFETY: the timer is the caller's; the list is locked.
        ACTIVE.with(|_| unsafe { Active::run(self.state()) }.interval_ns = interval_ns);
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        ACTIVE.with(|active| active.remove(self.state()));
        // Only another CPU can be inside.
        // SAFETY: as in `set_interval`.
        while ACTIVE.with(|_| unsafe { Active::run(self.state()) }.is_called) {
            Os2.sleep_ms(1);
        }
    }
}

impl OsTimer for Os2 {
    type Timer = Timer;

    fn timer_create(&self, spec: &TimerSpec) -> Result<Timer> {
        if spec.target != TimerTarget::Any {
            return Err(VERR_NOT_SUPPORTED);
        }
        let (interval_ns, callback, context) = (spec.interval_ns, spec.callback, spec.context);
        let run =
            Run { next: null_mut(), is_active: false, is_called: false, interval_ns, due_ns: 0, ticks: 0 };
        Ok(Timer(Box::new(self, State { callback, context, run: UnsafeCell::new(run) })?))
    }

    fn timer_start(&self, timer: &Timer, first_ns: u64) -> Result<()> {
        let due_ns = self.system_nano_ts().saturating_add(first_ns);
        ACTIVE.with(|active| {
            // SAFETY: as in `set_interval`.
            let run = unsafe { Active::run(timer.state()) };
            if run.is_active {
                return Err(VERR_TIMER_ACTIVE);
            }
            (run.is_active, run.due_ns, run.ticks) = (true, due_ns, 0);
            active.insert(timer.state());
            Ok(())
        })
    }

    fn timer_stop(&self, timer: &Timer) -> Result<()> {
        let was_active = ACTIVE.with(|active| active.remove(timer.state()));
        if was_active { Ok(()) } else { Err(VERR_TIMER_SUSPENDED) }
    }

    fn timer_handle(&self, timer: &Timer) -> usize {
        timer.state() as usize
    }

    fn timer_granularity_ns(&self) -> u32 {
        TICK_NS
    }
}
