//! Clocks and events.
//!
//! An event is a channel of the kernel's sleep queues, and its state belongs to the lock of that queue: only spin locks are taken, so
//! that it may be signalled from a direct timer callback.
#![allow(clippy::undocumented_unsafe_blocks, reason = "as in os.rs: one reason for all calls of the kernel")]

use core::ffi::{c_int, c_void};

use supdrv_core::abi::status::{Result, VERR_INTERRUPTED, VERR_TIMEOUT};
use supdrv_core::heap::Box;
use supdrv_core::os::{EventKind, OsEvent, OsTime, Timeout, WaitMode};
use supdrv_core::sync::event::EventState;

use crate::kernel::{self, Sbintime, Timespec};
use crate::os::FreeBsd;

/// Slack of waits, which is their resolution as well.
const RESOLUTION_NS: u32 = 50_000;
const NS_PER_SECOND: u64 = 1_000_000_000;

/// Nanoseconds as the kernel's fixed point seconds, rounded up.
pub(crate) fn sbintime(ns: u64) -> Sbintime {
    let (seconds, rest) = (ns / NS_PER_SECOND, ns % NS_PER_SECOND);
    // 2^31 seconds after boot is for ever.
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX).min(i64::from(i32::MAX));
    let fraction = ((rest << 32) / NS_PER_SECOND + 1).cast_signed();
    (seconds << 32).saturating_add(fraction)
}

pub(crate) fn nanoseconds(read: unsafe extern "C" fn(*mut Timespec)) -> i64 {
    let mut time = Timespec::default();
    unsafe { read(&raw mut time) };
    time.seconds.saturating_mul(NS_PER_SECOND as i64).saturating_add(time.nanoseconds)
}

impl OsTime for FreeBsd {
    fn system_nano_ts(&self) -> u64 {
        nanoseconds(kernel::nanouptime).cast_unsigned()
    }

    fn sleep_ms(&self, millis: u32) {
        if millis == 0 {
            unsafe { kernel::kern_yield(kernel::PRI_USER) };
            return;
        }
        let time = sbintime(u64::from(millis).saturating_mul(1_000_000));
        let precision = sbintime(RESOLUTION_NS.into());
        let _expired = unsafe { kernel::pause_sbt(c"supdrv".as_ptr(), time, precision, 0) };
    }
}

/// An event; its state is used with the queue of [`Event::channel`] locked.
pub struct Event(Box<EventState, FreeBsd>);

/// The queue of an event, locked.
struct Locked<'a>(&'a Event);

impl Event {
    fn channel(&self) -> *const c_void {
        self.0.as_ptr().as_ptr() as *const c_void
    }

    fn lock(&self) -> Locked<'_> {
        unsafe { kernel::sleepq_lock(self.channel()) };
        Locked(self)
    }
}

impl Locked<'_> {
    fn unlock(self) {
        unsafe { kernel::sleepq_release(self.0.channel()) };
    }

    /// Sleeps until woken, until the deadline, or until a signal of the process; unlocks.
    fn sleep(self, deadline_ns: Option<u64>, mode: WaitMode) -> c_int {
        let channel = self.0.channel();
        let interruptible = mode == WaitMode::Interruptible;
        let flags = kernel::SLEEPQ_CONDVAR | if interruptible { kernel::SLEEPQ_INTERRUPTIBLE } else { 0 };
        unsafe { kernel::sleepq_add(channel, core::ptr::null_mut(), c"supdrv".as_ptr(), flags, 0) };
        if let Some(deadline_ns) = deadline_ns {
            let (deadline, precision) = (sbintime(deadline_ns), sbintime(RESOLUTION_NS.into()));
            unsafe { kernel::sleepq_set_timeout_sbt(channel, deadline, precision, kernel::C_ABSOLUTE) };
        }
        match (deadline_ns.is_some(), interruptible) {
            (true, true) => unsafe { kernel::sleepq_timedwait_sig(channel, 0) },
            (true, false) => unsafe { kernel::sleepq_timedwait(channel, 0) },
            (false, true) => unsafe { kernel::sleepq_wait_sig(channel, 0) },
            (false, false) => {
                unsafe { kernel::sleepq_wait(channel, 0) };
                0
            }
        }
    }
}

impl OsEvent for FreeBsd {
    type Event = Event;

    fn event_create(&self, kind: EventKind) -> Result<Event> {
        Ok(Event(Box::new(self, EventState::new(kind))?))
    }

    fn event_signal(&self, event: &Event) {
        let all = event.0.kind() == EventKind::MultiRelease;
        let channel = event.channel();
        let _locked = event.lock();
        event.0.signal();
        // Unlocks; a waiter may free the event as soon as it has: from here on only the address is used.
        unsafe { crate::glue::supdrv_glue_sleepq_wake(channel, c_int::from(all)) };
    }

    fn event_reset(&self, event: &Event) {
        let locked = event.lock();
        event.0.reset();
        locked.unlock();
    }

    fn event_wait(&self, event: &Event, timeout: Timeout, mode: WaitMode) -> Result<()> {
        let deadline_ns = match timeout {
            Timeout::Forever => None,
            Timeout::DeadlineNs(deadline) => Some(deadline),
            Timeout::RelativeNs(0) => Some(0),
            Timeout::RelativeNs(relative) => self.system_nano_ts().checked_add(relative),
        };
        let mut locked = event.lock();
        let arrival = event.0.arrive();
        let mut interrupted = false;
        loop {
            let taken = event.0.take(arrival);
            let expired = deadline_ns.is_some_and(|deadline| self.system_nano_ts() >= deadline);
            if taken || expired || interrupted {
                locked.unlock();
                return match (taken, expired) {
                    (true, _) => Ok(()),
                    (false, true) => Err(VERR_TIMEOUT),
                    (false, false) => Err(VERR_INTERRUPTED),
                };
            }
            let woken = locked.sleep(deadline_ns, mode);
            interrupted = !matches!(woken, 0 | kernel::EWOULDBLOCK);
            locked = event.lock();
        }
    }

    fn event_resolution_ns(&self) -> u32 {
        RESOLUTION_NS
    }
}
