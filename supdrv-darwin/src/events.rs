//! Clocks and events.
//!
//! An event is an address that threads wait on, and its state belongs to a spin lock: it may be signalled with interrupts off.

use core::ffi::{c_int, c_void};
use core::ptr::null;

use supdrv_core::abi::status::{Result, VERR_INTERRUPTED};
use supdrv_core::heap::Box;
use supdrv_core::os::{EventKind, IrqState, LockClass, OsEvent, OsLock, OsTime, Timeout, WaitMode};
use supdrv_core::shim::wait::{self, LockedQueue};
use supdrv_core::sync::event::EventState;

use crate::kernel;
use crate::os::{Darwin, SpinLock};

const NS_PER_MS: u64 = 1_000_000;

/// A moment on the clock of [`OsTime::system_nano_ts`] as the kernel's waits want it.
pub(crate) fn absolute(ns: u64) -> u64 {
    let mut time = 0;
    // SAFETY: the result is ours.
    unsafe { kernel::nanoseconds_to_absolutetime(ns, &raw mut time) };
    time
}

fn nanoseconds(time: u64) -> u64 {
    let mut ns = 0;
    // SAFETY: the result is ours.
    unsafe { kernel::absolutetime_to_nanoseconds(time, &raw mut ns) };
    ns
}

/// Asserts a wait and, with nothing held any more, sleeps: how it ended.
fn block(channel: *const c_void, how: c_int, deadline_ns: Option<u64>, unlock: impl FnOnce()) -> c_int {
    let waiting = match deadline_ns {
        // SAFETY: any address does; the wait ends in `thread_block`, or has ended.
        Some(deadline) => unsafe { kernel::assert_wait_deadline(channel, how, absolute(deadline)) },
        // SAFETY: as above.
        None => unsafe { kernel::assert_wait(channel, how) },
    };
    unlock();
    // A thread that is being aborted already doesn't wait.
    // SAFETY: nothing is to be continued with; class T, no lock held.
    if waiting == kernel::THREAD_WAITING { unsafe { kernel::thread_block(null()) } } else { waiting }
}

impl OsTime for Darwin {
    fn system_nano_ts(&self) -> u64 {
        nanoseconds(kernel::mach_absolute_time())
    }

    fn sleep_ms(&self, millis: u32) {
        if millis == 0 {
            // SAFETY: nothing is to be continued with; class T.
            let _yielded = unsafe { kernel::thread_block(null()) };
        } else {
            kernel::IOSleep(millis);
        }
    }
}

impl Darwin {
    /// Sleeps unless something happens to the process. Class T.
    pub(crate) fn sleep_interruptible(&self, millis: u32) -> Result<()> {
        let deadline = self.system_nano_ts().saturating_add(u64::from(millis).saturating_mul(NS_PER_MS));
        // An address that nobody else knows.
        let channel = (&raw const deadline).cast();
        match block(channel, kernel::THREAD_ABORTSAFE, Some(deadline), || {}) {
            kernel::THREAD_INTERRUPTED => Err(VERR_INTERRUPTED),
            _ => Ok(()),
        }
    }
}

struct State {
    event: EventState,
    lock: SpinLock,
}

/// An event.
pub struct Event(Box<State, Darwin>);

/// The lock of an event, held, and how its waiter sleeps.
struct Locked<'a> {
    event: &'a Event,
    mode: WaitMode,
    irqs: IrqState,
}

impl Event {
    fn channel(&self) -> *const c_void {
        self.0.as_ptr().as_ptr() as *const c_void
    }

    fn lock(&self, mode: WaitMode) -> Locked<'_> {
        Locked { event: self, mode, irqs: Darwin.spinlock_acquire_irq(&self.0.lock) }
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        // SAFETY: this guard acquired it.
        unsafe { Darwin.spinlock_release_irq(&self.event.0.lock, self.irqs) };
    }
}

impl LockedQueue for Locked<'_> {
    fn sleep(self, deadline_ns: Option<u64>) -> (Self, bool) {
        let (event, mode) = (self.event, self.mode);
        let how = match mode {
            WaitMode::Interruptible => kernel::THREAD_ABORTSAFE,
            WaitMode::Uninterruptible => kernel::THREAD_UNINT,
        };
        let result = block(event.channel(), how, deadline_ns, || drop(self));
        (event.lock(mode), result == kernel::THREAD_INTERRUPTED)
    }
}

impl OsEvent for Darwin {
    type Event = Event;

    fn event_create(&self, kind: EventKind) -> Result<Event> {
        let lock = self.spinlock_create(LockClass::ModuleIrqSpin)?;
        Ok(Event(Box::new(self, State { event: EventState::new(kind), lock })?))
    }

    fn event_signal(&self, event: &Event) {
        // A waiter may free the event as soon as it is unlocked: that is the last that is done to it.
        let _locked = event.lock(WaitMode::Uninterruptible);
        event.0.event.signal();
        let one = event.0.event.kind() == EventKind::SingleRelease;
        // SAFETY: any address does.
        unsafe { kernel::thread_wakeup_prim(event.channel(), one.into(), kernel::THREAD_AWAKENED) };
    }

    fn event_reset(&self, event: &Event) {
        let _locked = event.lock(WaitMode::Uninterruptible);
        event.0.event.reset();
    }

    fn event_wait(&self, event: &Event, timeout: Timeout, mode: WaitMode) -> Result<()> {
        let deadline_ns = wait::deadline(self, timeout);
        wait::wait(self, &event.0.event, event.lock(mode), deadline_ns)
    }

    fn event_resolution_ns(&self) -> u32 {
        u32::try_from(nanoseconds(1)).unwrap_or(u32::MAX).max(1)
    }
}
