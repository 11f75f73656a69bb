//! Clocks, timers and events.

use core::ffi::c_void;
use core::ptr::{NonNull, null_mut};

use super::{Legacy, check, created, ffi};
use crate::abi::status::{Result, VERR_CPU_NOT_FOUND};
use crate::os::{EventKind, OsCpu, OsEvent, OsTime, OsTimer, Timeout, TimerSpec, TimerTarget, WaitMode};

impl OsTime for Legacy {
    fn system_nano_ts(&self) -> u64 {
        ffi::RTTimeSystemNanoTS()
    }

    fn sleep_ms(&self, millis: u32) {
        let _status = ffi::RTThreadSleep(millis);
    }
}

/// One CPU: its set index is in the low byte.
const TIMER_CPU: u32 = 0x100;
/// Every CPU.
const TIMER_ALL: u32 = 0x1ff;

/// A `PRTTIMER`.
pub struct Timer(NonNull<c_void>);

// SAFETY: the runtime's timers may be used from any thread.
unsafe impl Send for Timer {}
// SAFETY: as above.
unsafe impl Sync for Timer {}

impl Drop for Timer {
    fn drop(&mut self) {
        // SAFETY: the handle is this value's, and nobody can use it any more.
        let _status = unsafe { ffi::RTTimerDestroy(self.0.as_ptr()) };
    }
}

impl OsTimer for Legacy {
    type Timer = Timer;

    fn timer_create(&self, spec: &TimerSpec) -> Result<Timer> {
        let flags = match spec.target {
            TimerTarget::Any => 0,
            TimerTarget::All => TIMER_ALL,
            TimerTarget::Cpu(id) => {
                let index = self.cpu_set_index(id).and_then(|index| u32::try_from(index).ok());
                TIMER_CPU | index.filter(|index| *index < 0xff).ok_or(VERR_CPU_NOT_FOUND)?
            }
        };
        let mut handle = null_mut();
        // SAFETY: whoever made the spec promised that the callback may be called with its context until the timer is dropped.
        let status = unsafe {
            ffi::RTTimerCreateEx(&raw mut handle, spec.interval_ns, flags, spec.callback, spec.context)
        };
        created(status, handle).map(Timer)
    }

    fn timer_start(&self, timer: &Timer, first_ns: u64) -> Result<()> {
        // SAFETY: the handle lives as long as the timer.
        check(unsafe { ffi::RTTimerStart(timer.0.as_ptr(), first_ns) })
    }

    fn timer_stop(&self, timer: &Timer) -> Result<()> {
        // SAFETY: the handle lives as long as the timer.
        check(unsafe { ffi::RTTimerStop(timer.0.as_ptr()) })
    }

    fn timer_handle(&self, timer: &Timer) -> usize {
        timer.0.as_ptr() as usize
    }

    fn timer_granularity_ns(&self) -> u32 {
        ffi::RTTimerGetSystemGranularity()
    }

    fn timer_request_granularity(&self, wanted_ns: u32) -> Result<u32> {
        let mut granted = 0;
        check(ffi::RTTimerRequestSystemGranularity(wanted_ns, &mut granted))?;
        Ok(granted)
    }

    fn timer_release_granularity(&self, granted_ns: u32) {
        let _status = ffi::RTTimerReleaseSystemGranularity(granted_ns);
    }
}

/// An `RTSEMEVENT` or `RTSEMEVENTMULTI`.
pub struct Event {
    handle: NonNull<c_void>,
    kind: EventKind,
}

// SAFETY: the runtime's events may be used from any thread.
unsafe impl Send for Event {}
// SAFETY: as above.
unsafe impl Sync for Event {}

impl Drop for Event {
    fn drop(&mut self) {
        let handle = self.handle.as_ptr();
        let _status = match self.kind {
            // SAFETY: the handle is this value's and of this kind; nobody can use it any more.
            EventKind::SingleRelease => unsafe { ffi::RTSemEventDestroy(handle) },
            // SAFETY: as above.
            EventKind::MultiRelease => unsafe { ffi::RTSemEventMultiDestroy(handle) },
        };
    }
}

/// Flags of a wait.
mod wait {
    pub const RELATIVE: u32 = 0x01;
    pub const ABSOLUTE: u32 = 0x02;
    pub const NANOSECONDS: u32 = 0x04;
    pub const INDEFINITE: u32 = 0x10;
    pub const INTERRUPTIBLE: u32 = 0x20;
    pub const UNINTERRUPTIBLE: u32 = 0x40;
}

impl OsEvent for Legacy {
    type Event = Event;

    fn event_create(&self, kind: EventKind) -> Result<Event> {
        let mut handle = null_mut();
        let status = match kind {
            EventKind::SingleRelease => ffi::RTSemEventCreate(&mut handle),
            EventKind::MultiRelease => ffi::RTSemEventMultiCreate(&mut handle),
        };
        Ok(Event { handle: created(status, handle)?, kind })
    }

    fn event_signal(&self, event: &Event) {
        let handle = event.handle.as_ptr();
        let _status = match event.kind {
            // SAFETY: the handle lives as long as the event, and is of this kind.
            EventKind::SingleRelease => unsafe { ffi::RTSemEventSignal(handle) },
            // SAFETY: as above.
            EventKind::MultiRelease => unsafe { ffi::RTSemEventMultiSignal(handle) },
        };
    }

    fn event_reset(&self, event: &Event) {
        if event.kind == EventKind::MultiRelease {
            // SAFETY: the handle lives as long as the event, and is of this kind.
            let _status = unsafe { ffi::RTSemEventMultiReset(event.handle.as_ptr()) };
        }
    }

    fn event_wait(&self, event: &Event, timeout: Timeout, mode: WaitMode) -> Result<()> {
        let (how, timeout) = match timeout {
            Timeout::Forever => (wait::INDEFINITE, 0),
            Timeout::RelativeNs(ns) => (wait::RELATIVE | wait::NANOSECONDS, ns),
            Timeout::DeadlineNs(ns) => (wait::ABSOLUTE | wait::NANOSECONDS, ns),
        };
        let flags = how
            | match mode {
                WaitMode::Interruptible => wait::INTERRUPTIBLE,
                WaitMode::Uninterruptible => wait::UNINTERRUPTIBLE,
            };
        let handle = event.handle.as_ptr();
        check(match event.kind {
            // SAFETY: the handle lives as long as the event, and is of this kind.
            EventKind::SingleRelease => unsafe { ffi::RTSemEventWaitEx(handle, flags, timeout) },
            // SAFETY: as above.
            EventKind::MultiRelease => unsafe { ffi::RTSemEventMultiWaitEx(handle, flags, timeout) },
        })
    }

    fn event_resolution_ns(&self) -> u32 {
        ffi::RTSemEventGetResolution().max(1)
    }
}
