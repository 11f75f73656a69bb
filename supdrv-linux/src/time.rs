//! Clocks, timers, events.

use supdrv_core::abi::status::{Result, VERR_CPU_NOT_FOUND, VERR_NOT_SUPPORTED};
use supdrv_core::os::{
    EventKind, OsCpu, OsEvent, OsTime, OsTimer, Timeout, TimerSpec, TimerTarget, WaitMode,
};

use crate::glue::{self, Opaque};
use crate::os::{Handle, Linux, check};

/// Slack of precise waits, as C passes it to the kernel.
const WAIT_RESOLUTION_NS: u32 = 50_000;
const TARGET_ANY: u32 = u32::MAX;
const TARGET_ALL: u32 = u32::MAX - 1;

impl OsTime for Linux {
    fn system_nano_ts(&self) -> u64 {
        glue::supdrv_glue_nano_ts()
    }

    fn sleep_ms(&self, millis: u32) {
        glue::supdrv_glue_sleep_ms(millis);
    }
}

unsafe fn free_timer(timer: *mut Opaque) {
    // SAFETY: a `Handle` of `timer_create` passes it once, when it is dropped.
    unsafe { glue::supdrv_glue_timer_free(timer) };
}

impl OsTimer for Linux {
    type Timer = Handle;

    fn timer_create(&self, spec: &TimerSpec) -> Result<Handle> {
        let target = match spec.target {
            TimerTarget::Any => TARGET_ANY,
            TimerTarget::All if spec.interval_ns == 0 => return Err(VERR_NOT_SUPPORTED),
            TimerTarget::All => TARGET_ALL,
            TimerTarget::Cpu(id) if id > self.cpu_max_id() => return Err(VERR_CPU_NOT_FOUND),
            TimerTarget::Cpu(id) => id,
        };
        // SAFETY: the callback may be called with the context until the timer is destroyed, as `TimerSpec` says.
        let timer =
            unsafe { glue::supdrv_glue_timer_new(spec.interval_ns, target, spec.callback, spec.context) };
        Handle::new(timer, free_timer)
    }

    fn timer_start(&self, timer: &Handle, first_ns: u64) -> Result<()> {
        // SAFETY: a timer, of `timer_create`.
        check(unsafe { glue::supdrv_glue_timer_start(timer.raw(), first_ns) })
    }

    fn timer_stop(&self, timer: &Handle) -> Result<()> {
        // SAFETY: a timer, of `timer_create`.
        check(unsafe { glue::supdrv_glue_timer_stop(timer.raw()) })
    }

    fn timer_handle(&self, timer: &Handle) -> usize {
        timer.raw() as usize
    }

    fn timer_granularity_ns(&self) -> u32 {
        glue::supdrv_glue_timer_granularity_ns()
    }

    fn timer_request_granularity(&self, _wanted_ns: u32) -> Result<u32> {
        Err(VERR_NOT_SUPPORTED)
    }

    fn timer_release_granularity(&self, _granted_ns: u32) {}
}

unsafe fn free_event(event: *mut Opaque) {
    // SAFETY: a `Handle` of `event_create` passes it once, when it is dropped.
    unsafe { glue::supdrv_glue_event_free(event) };
}

impl OsEvent for Linux {
    type Event = Handle;

    fn event_create(&self, kind: EventKind) -> Result<Handle> {
        Handle::new(glue::supdrv_glue_event_new(kind == EventKind::MultiRelease), free_event)
    }

    fn event_signal(&self, event: &Handle) {
        // SAFETY: an event, of `event_create`.
        unsafe { glue::supdrv_glue_event_signal(event.raw()) };
    }

    fn event_reset(&self, event: &Handle) {
        // SAFETY: an event, of `event_create`.
        unsafe { glue::supdrv_glue_event_reset(event.raw()) };
    }

    fn event_wait(&self, event: &Handle, timeout: Timeout, mode: WaitMode) -> Result<()> {
        let deadline_ns = match timeout {
            Timeout::Forever => u64::MAX,
            Timeout::DeadlineNs(deadline) => deadline,
            Timeout::RelativeNs(0) => 0,
            Timeout::RelativeNs(relative) => self.system_nano_ts().saturating_add(relative),
        };
        let interruptible = mode == WaitMode::Interruptible;
        // SAFETY: an event, of `event_create`, whose users keep it while they wait.
        check(unsafe { glue::supdrv_glue_event_wait(event.raw(), deadline_ns, interruptible) })
    }

    fn event_resolution_ns(&self) -> u32 {
        WAIT_RESOLUTION_NS
    }
}
