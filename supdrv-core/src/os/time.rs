//! Clocks, timers and events.

use core::ffi::c_void;

use crate::abi::status::{Result, VERR_NOT_SUPPORTED};

/// Clocks.
pub trait OsTime {
    /// Monotonic time in nanoseconds: the clock that ring-3 reads as its monotonic clock, that event deadlines are
    /// in, and that the GIP publishes. Never goes backwards on any CPU. Class I.
    fn system_nano_ts(&self) -> u64;

    /// Sleeps for about `millis`; 0 yields the CPU. Class T.
    fn sleep_ms(&self, millis: u32);
}

/// Which CPUs a timer fires on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimerTarget {
    /// Any CPU, one callback at a time.
    Any,
    /// The CPU with this id.
    Cpu(u32),
    /// Every on-line CPU, once per interval each; the tick number is per CPU and restarts at 1 on a CPU that comes on-line.
    All,
}

/// Called on expiry with the native timer handle, the context of [`TimerSpec`] and the tick number: 1 on the first call
/// after each start, then counting calls. Class D or I; never blocks; calls on one CPU never overlap.
pub type TimerCallback = unsafe extern "C" fn(timer: *mut c_void, context: *mut c_void, tick: u64);

/// What to create.
#[derive(Clone, Copy, Debug)]
pub struct TimerSpec {
    /// Period in nanoseconds; 0 for one shot.
    pub interval_ns: u64,
    /// Where it fires.
    pub target: TimerTarget,
    /// What is called.
    pub callback: TimerCallback,
    /// Passed to the callback. The creator guarantees that it is valid until the timer is destroyed.
    pub context: *mut c_void,
}

/// Timers.
///
/// Dropping a handle destroys the timer (class T): when the drop returns no callback is running on any CPU.
pub trait OsTimer {
    /// A timer.
    type Timer: Send + Sync;

    /// Creates a stopped timer. Class T.
    ///
    /// # Errors
    /// `VERR_NOT_SUPPORTED` (no timers of this target: the GIP falls back to [`TimerTarget::Any`]), `VERR_CPU_NOT_FOUND`,
    /// `VERR_NO_MEMORY`.
    fn timer_create(&self, spec: &TimerSpec) -> Result<Self::Timer>;

    /// Starts it; first expiry in `first_ns`. Periodic expiries are aimed at fixed points and don't drift; missed ones
    /// are skipped. Class T.
    ///
    /// # Errors
    /// `VERR_TIMER_ACTIVE`, `VERR_CPU_OFFLINE`.
    fn timer_start(&self, timer: &Self::Timer, first_ns: u64) -> Result<()>;

    /// Stops it: no new callback starts, one may still be running. Class T.
    ///
    /// # Errors
    /// `VERR_TIMER_SUSPENDED` if it isn't running.
    fn timer_stop(&self, timer: &Self::Timer) -> Result<()>;

    /// The native handle, for the published view (the seed's `PRTTIMER`). Class I.
    fn timer_handle(&self, timer: &Self::Timer) -> usize;

    /// Granularity of the system's timers in nanoseconds. Class I.
    fn timer_granularity_ns(&self) -> u32;

    /// Asks the system for finer timers. Class T.
    ///
    /// # Errors
    /// `VERR_NOT_SUPPORTED`.
    fn timer_request_granularity(&self, _wanted_ns: u32) -> Result<u32> {
        Err(VERR_NOT_SUPPORTED)
    }

    /// Gives back what was granted. Class T.
    fn timer_release_granularity(&self, _granted_ns: u32) {}
}

/// How an event behaves when it is signalled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// One signal releases one waiter (or the next one, if nobody waits); signals don't count.
    SingleRelease,
    /// A signal releases all waiters and stays until it is reset.
    MultiRelease,
}

/// How long to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timeout {
    /// Without limit.
    Forever,
    /// At most this long from now; 0 polls.
    RelativeNs(u64),
    /// Until [`OsTime::system_nano_ts`] reaches this; one in the past polls.
    DeadlineNs(u64),
}

/// Whether signals, alerts or APCs end a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitMode {
    /// They do, with `VERR_INTERRUPTED`. Killing the process always must.
    Interruptible,
    /// They don't. Never reachable from ring-3.
    Uninterruptible,
}

/// Events. Dropping a handle destroys the event (class T); nobody waits for it then.
pub trait OsEvent {
    /// An event.
    type Event: Send + Sync;

    /// Creates an event that isn't signalled. Class T.
    ///
    /// # Errors
    /// `VERR_NO_MEMORY`.
    fn event_create(&self, kind: EventKind) -> Result<Self::Event>;

    /// Signals. Class D, class I where the system can.
    fn event_signal(&self, event: &Self::Event);

    /// Clears a multi-release event. Waiters that a signal has already released still return success. Class D, class I
    /// where the system can.
    fn event_reset(&self, event: &Self::Event);

    /// Waits. Class T, blocks. When several outcomes hold at once, signalled wins over timed out over interrupted. A
    /// success of a single-release event consumes exactly one signal, a failure none.
    ///
    /// # Errors
    /// `VERR_TIMEOUT`, `VERR_INTERRUPTED`.
    fn event_wait(&self, event: &Self::Event, timeout: Timeout, mode: WaitMode) -> Result<()>;

    /// Best granularity of waits in nanoseconds, never 0. Class I.
    fn event_resolution_ns(&self) -> u32;
}
