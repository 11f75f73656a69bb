//! Timers: calls of a function by a thread of the kernel, at a time.
//!
//! Neither can a call that is on its way be waited for, nor does the kernel keep two of the same from running at once. So there is never
//! more than one of a timer, *outstanding* from the moment it is entered until it has been cancelled or has done its last under the
//! timer's lock; who starts the timer meanwhile leaves it to that one to enter the next.

use core::ffi::c_void;
use core::ptr::{NonNull, null_mut};
use core::sync::atomic::{AtomicPtr, Ordering};

use supdrv_core::abi::status::{
    Result, VERR_NO_MEMORY, VERR_NOT_SUPPORTED, VERR_TIMER_ACTIVE, VERR_TIMER_SUSPENDED,
};
use supdrv_core::heap::Box;
use supdrv_core::os::{LockClass, OsIdentity, OsTime, OsTimer, TimerCallback, TimerSpec, TimerTarget};
use supdrv_core::sync::IrqSpinLock;

use crate::events::absolute;
use crate::kernel::{self, Opaque};
use crate::os::Darwin;

/// What threads of the kernel are good for.
const GRANULARITY_NS: u32 = 1_000_000;
/// Between two looks at a call that is on its way, in milliseconds.
const POLL_MS: u32 = 1;

#[derive(Default)]
struct Inner {
    interval_ns: u64,
    next_ns: u64,
    tick: u64,
    is_running: bool,
    /// Counts starts.
    run: u64,
    outstanding: bool,
    /// The thread that is in the callback, or 0.
    inside: usize,
    /// Destroyed by its own callback.
    orphan: bool,
}

/// How far the end of a timer is.
enum End {
    /// Nothing is outstanding.
    Over,
    /// The caller is its callback, which frees it when it is done.
    Mine,
    OnItsWay,
}

struct State {
    callback: TimerCallback,
    context: *mut c_void,
    call: AtomicPtr<Opaque>,
    inner: IrqSpinLock<Inner, Darwin>,
}

/// A timer. Dropping it waits for a running callback, but for one that does it itself.
pub struct Timer(NonNull<State>);

// SAFETY: the creator guarantees that context and callback may be used from any context; the rest is under a lock.
unsafe impl Send for Timer {}
// SAFETY: as above.
unsafe impl Sync for Timer {}

impl Inner {
    /// The tick that is due, and the run it belongs to.
    fn take_due(&mut self, now_ns: u64, thread: usize) -> Option<(u64, u64)> {
        if !self.is_running || now_ns < self.next_ns {
            return None;
        }
        self.tick = self.tick.wrapping_add(1);
        self.is_running = self.interval_ns != 0;
        self.inside = thread;
        Some((self.tick, self.run))
    }

    /// The next expiry that isn't over yet.
    fn advance(&mut self, now_ns: u64) {
        self.next_ns = self.next_ns.saturating_add(self.interval_ns);
        if self.next_ns <= now_ns {
            let missed = now_ns.saturating_sub(self.next_ns).checked_div(self.interval_ns).unwrap_or(0);
            self.next_ns =
                self.next_ns.saturating_add(missed.saturating_add(1).saturating_mul(self.interval_ns));
        }
    }
}

impl State {
    fn call(&self) -> *mut Opaque {
        self.call.load(Ordering::Relaxed)
    }

    fn enter(&self, inner: &mut Inner) {
        inner.outstanding = true;
        // SAFETY: the call exists as long as the timer; none is outstanding.
        unsafe { kernel::thread_call_enter1_delayed(self.call(), null_mut(), absolute(inner.next_ns)) };
    }

    /// Takes back a call that isn't on its way yet.
    fn cancel(&self, inner: &mut Inner) {
        // SAFETY: the call exists as long as the timer.
        if inner.outstanding && unsafe { kernel::thread_call_cancel(self.call()) } != 0 {
            inner.outstanding = false;
        }
    }

    /// After a call: enters the next one, or none is outstanding any more; whether this was the timer's end.
    fn settle(&self, due: Option<(u64, u64)>) -> bool {
        let inner = &mut *self.inner.lock();
        inner.inside = 0;
        if inner.is_running && due.is_some_and(|(_, run)| run == inner.run) {
            inner.advance(Darwin.system_nano_ts());
        }
        if inner.is_running {
            self.enter(inner);
        } else {
            inner.outstanding = false;
        }
        inner.orphan
    }

    /// Nothing new begins; how far the end is.
    fn end(&self) -> End {
        let inner = &mut *self.inner.lock();
        inner.is_running = false;
        self.cancel(inner);
        match inner {
            Inner { outstanding: false, .. } => End::Over,
            Inner { inside, .. } if *inside == Darwin.thread_handle() => {
                inner.orphan = true;
                End::Mine
            }
            _ => End::OnItsWay,
        }
    }

    /// Frees it; nothing is outstanding.
    ///
    /// # Safety
    /// Nobody uses the timer any more.
    unsafe fn destroy(state: NonNull<Self>) {
        // SAFETY: from `into_raw` in `timer_create`, given up (condition of the function).
        let state = unsafe { Box::<Self, Darwin>::from_raw(&Darwin, state) };
        let call = state.call();
        // SAFETY: allocated for this timer; nothing is outstanding.
        while !call.is_null() && unsafe { kernel::thread_call_free(call) } == 0 {
            // Still on a queue.
            // SAFETY: it isn't freed yet.
            unsafe { kernel::thread_call_cancel(call) };
            Darwin.sleep_ms(POLL_MS);
        }
    }
}

unsafe extern "C" fn expired(state: *mut c_void, _unused: *mut c_void) {
    let Some(place) = NonNull::new(state.cast::<State>()) else { return };
    // SAFETY: a timer isn't freed while a call of it is outstanding.
    let state = unsafe { place.as_ref() };
    let due = state.inner.lock().take_due(Darwin.system_nano_ts(), Darwin.thread_handle());
    if let Some((tick, _)) = due {
        // SAFETY: the creator vouches for both.
        unsafe { (state.callback)(place.as_ptr().cast(), state.context, tick) };
    }
    if state.settle(due) {
        // SAFETY: an orphan has no other owner, and this was its last call.
        unsafe { State::destroy(place) };
    }
}

impl Timer {
    fn state(&self) -> &State {
        // SAFETY: owned until it is dropped.
        unsafe { self.0.as_ref() }
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        loop {
            match self.state().end() {
                End::Over => break,
                End::Mine => return,
                End::OnItsWay => Darwin.sleep_ms(POLL_MS),
            }
        }
        // SAFETY: the owner gives it up, and nothing is outstanding.
        unsafe { State::destroy(self.0) };
    }
}

impl OsTimer for Darwin {
    type Timer = Timer;

    fn timer_create(&self, spec: &TimerSpec) -> Result<Timer> {
        if spec.target != TimerTarget::Any {
            return Err(VERR_NOT_SUPPORTED);
        }
        let inner = Inner { interval_ns: spec.interval_ns, ..Inner::default() };
        let state = State {
            callback: spec.callback,
            context: spec.context,
            call: AtomicPtr::new(null_mut()),
            inner: IrqSpinLock::new(self, LockClass::ModuleIrqSpin, inner)?,
        };
        let timer = Timer(Box::new(self, state)?.into_raw());
        // SAFETY: the timer outlives its calls.
        let call = unsafe { kernel::thread_call_allocate(expired, timer.0.as_ptr().cast()) };
        timer.state().call.store(call, Ordering::Relaxed);
        if call.is_null() { Err(VERR_NO_MEMORY) } else { Ok(timer) }
    }

    fn timer_start(&self, timer: &Timer, first_ns: u64) -> Result<()> {
        let next_ns = self.system_nano_ts().saturating_add(first_ns);
        let state = timer.state();
        let inner = &mut *state.inner.lock();
        if inner.is_running {
            return Err(VERR_TIMER_ACTIVE);
        }
        inner.is_running = true;
        inner.run = inner.run.wrapping_add(1);
        (inner.tick, inner.next_ns) = (0, next_ns);
        if !inner.outstanding {
            state.enter(inner);
        }
        Ok(())
    }

    fn timer_stop(&self, timer: &Timer) -> Result<()> {
        let state = timer.state();
        let inner = &mut *state.inner.lock();
        if !inner.is_running {
            return Err(VERR_TIMER_SUSPENDED);
        }
        inner.is_running = false;
        state.cancel(inner);
        Ok(())
    }

    fn timer_handle(&self, timer: &Timer) -> usize {
        timer.0.as_ptr() as usize
    }

    fn timer_granularity_ns(&self) -> u32 {
        GRANULARITY_NS
    }
}

impl Darwin {
    /// A new period counts from the next expiry on.
    pub(crate) fn set_interval(&self, timer: &Timer, interval_ns: u64) {
        timer.state().inner.lock().interval_ns = interval_ns;
    }
}
