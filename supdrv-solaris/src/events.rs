//! Clocks and events.
//!
//! An event is a mutex of the kernel, adaptive and legal up to the interrupt level at which timers run, with a condition variable.

use supdrv_core::abi::status::Result;
use supdrv_core::heap::Box;
use supdrv_core::os::{EventKind, OsEvent, OsTime, Timeout, WaitMode};
use supdrv_core::shim::wait::{self, LockedQueue};
use supdrv_core::sync::event::EventState;

use crate::kernel::{self, Kcondvar, Kmutex};
use crate::os::{Solaris, level_cookie};

/// Slack of waits, which is their resolution as well.
const RESOLUTION_NS: u32 = 50_000;

/// Ticks of at least this many milliseconds.
pub(crate) fn ticks(millis: u32) -> core::ffi::c_long {
    kernel::drv_usectohz(i64::from(millis).saturating_mul(1000))
}

impl OsTime for Solaris {
    fn system_nano_ts(&self) -> u64 {
        kernel::gethrtime().cast_unsigned()
    }

    fn sleep_ms(&self, millis: u32) {
        // A tick is the shortest sleep, and does for a yield.
        kernel::delay(ticks(millis.max(1)));
    }
}

struct State {
    mutex: Kmutex,
    condition: Kcondvar,
    /// Under the mutex.
    event: EventState,
}

/// An event.
pub struct Event(Box<State, Solaris>);

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: initialised in `event_create`; nobody waits any more.
        unsafe {
            // Whoever signalled last may still be inside.
            kernel::mutex_enter(self.0.mutex.get());
            kernel::mutex_exit(self.0.mutex.get());
            kernel::cv_destroy(self.0.condition.get());
            kernel::mutex_destroy(self.0.mutex.get());
        }
    }
}

/// The state, locked, and how its waiter sleeps.
struct Locked<'a>(&'a State, WaitMode);

impl<'a> Locked<'a> {
    fn new(event: &'a Event, mode: WaitMode) -> Self {
        // SAFETY: initialised, at an address that doesn't change.
        unsafe { kernel::mutex_enter(event.0.mutex.get()) };
        Self(&event.0, mode)
    }
}

impl LockedQueue for Locked<'_> {
    fn sleep(self, deadline_ns: Option<u64>) -> (Self, bool) {
        let (condition, mutex) = (self.0.condition.get(), self.0.mutex.get());
        let deadline = deadline_ns.map(|ns| i64::try_from(ns).unwrap_or(i64::MAX));
        let interrupted = match (deadline, self.1) {
            // SAFETY: the mutex is held, and both are initialised; class T.
            (None, WaitMode::Interruptible) => unsafe { kernel::cv_wait_sig(condition, mutex) == 0 },
            (None, WaitMode::Uninterruptible) => {
                // SAFETY: as above.
                unsafe { kernel::cv_wait(condition, mutex) };
                false
            }
            // SAFETY: as above.
            (Some(deadline), WaitMode::Interruptible) => unsafe {
                kernel::cv_timedwait_sig_hrtime(condition, mutex, deadline) == 0
            },
            (Some(deadline), WaitMode::Uninterruptible) => {
                let flags = kernel::CALLOUT_FLAG_ABSOLUTE;
                let resolution = i64::from(RESOLUTION_NS);
                // SAFETY: as above.
                unsafe { kernel::cv_timedwait_hires(condition, mutex, deadline, resolution, flags) };
                false
            }
        };
        (self, interrupted)
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        // SAFETY: this guard acquired it.
        unsafe { kernel::mutex_exit(self.0.mutex.get()) };
    }
}

impl OsEvent for Solaris {
    type Event = Event;

    fn event_create(&self, kind: EventKind) -> Result<Event> {
        let (mutex, condition) = (Kmutex::new(), Kcondvar::new());
        let event = Event(Box::new(self, State { mutex, condition, event: EventState::new(kind) })?);
        // SAFETY: fresh storage, at its final place; a constant name.
        unsafe {
            let name = c"SUPDrvEvent".as_ptr();
            let cookie = level_cookie(kernel::LOCK_LEVEL);
            kernel::mutex_init(event.0.mutex.get(), name, kernel::MUTEX_DRIVER, cookie);
            kernel::cv_init(event.0.condition.get(), name, kernel::CV_DRIVER, core::ptr::null_mut());
        }
        Ok(event)
    }

    fn event_signal(&self, event: &Event) {
        let locked = Locked::new(event, WaitMode::Uninterruptible);
        locked.0.event.signal();
        let condition = locked.0.condition.get();
        match locked.0.event.kind() {
            // SAFETY: initialised; the mutex is held.
            EventKind::SingleRelease => unsafe { kernel::cv_signal(condition) },
            // SAFETY: as above.
            EventKind::MultiRelease => unsafe { kernel::cv_broadcast(condition) },
        }
    }

    fn event_reset(&self, event: &Event) {
        Locked::new(event, WaitMode::Uninterruptible).0.event.reset();
    }

    fn event_wait(&self, event: &Event, timeout: Timeout, mode: WaitMode) -> Result<()> {
        let deadline_ns = wait::deadline(self, timeout);
        wait::wait(self, &event.0.event, Locked::new(event, mode), deadline_ns)
    }

    fn event_resolution_ns(&self) -> u32 {
        RESOLUTION_NS
    }
}
