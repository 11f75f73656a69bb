//! Clocks and events.
//!
//! An event is a channel of the kernel's sleep queues, and its state belongs to the lock of that queue: only spin locks are taken, so
//! that it may be signalled from a direct timer callback.

use core::ffi::{c_int, c_void};

use supdrv_core::abi::status::Result;
use supdrv_core::heap::Box;
use supdrv_core::os::{EventKind, OsEvent, OsTime, Timeout, WaitMode};
use supdrv_core::shim::wait::{self, LockedQueue};
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
    // SAFETY: the result is ours.
    unsafe { read(&raw mut time) };
    time.seconds.saturating_mul(NS_PER_SECOND as i64).saturating_add(time.nanoseconds)
}

impl OsTime for FreeBsd {
    fn system_nano_ts(&self) -> u64 {
        nanoseconds(kernel::nanouptime).cast_unsigned()
    }

    fn sleep_ms(&self, millis: u32) {
        if millis == 0 {
            kernel::kern_yield(kernel::PRI_USER);
            return;
        }
        let time = sbintime(u64::from(millis).saturating_mul(1_000_000));
        let precision = sbintime(RESOLUTION_NS.into());
        // SAFETY: a constant message; class T, no lock held.
        let _expired = unsafe { kernel::pause_sbt(c"supdrv".as_ptr(), time, precision, 0) };
    }
}

/// An event; its state is used with the queue of [`Event::channel`] locked.
pub struct Event(Box<EventState, FreeBsd>);

/// The queue of an event, locked, and how its waiter sleeps.
struct Locked<'a>(&'a Event, WaitMode);

impl Event {
    fn channel(&self) -> *const c_void {
        self.0.as_ptr().as_ptr() as *const c_void
    }

    fn lock(&self, mode: WaitMode) -> Locked<'_> {
        // SAFETY: any address does.
        unsafe { kernel::sleepq_lock(self.channel()) };
        Locked(self, mode)
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        // SAFETY: this guard locked it.
        unsafe { kernel::sleepq_release(self.0.channel()) };
    }
}

impl LockedQueue for Locked<'_> {
    fn sleep(self, deadline_ns: Option<u64>) -> (Self, bool) {
        let (event, mode, channel) = (self.0, self.1, self.0.channel());
        let interruptible = mode == WaitMode::Interruptible;
        let flags = kernel::SLEEPQ_CONDVAR | if interruptible { kernel::SLEEPQ_INTERRUPTIBLE } else { 0 };
        // SAFETY: the queue is locked; there is no lock to give up.
        unsafe { kernel::sleepq_add(channel, core::ptr::null_mut(), c"supdrv".as_ptr(), flags, 0) };
        if let Some(deadline_ns) = deadline_ns {
            let (deadline, precision) = (sbintime(deadline_ns), sbintime(RESOLUTION_NS.into()));
            // SAFETY: the queue is locked, and this thread is in it.
            unsafe { kernel::sleepq_set_timeout_sbt(channel, deadline, precision, kernel::C_ABSOLUTE) };
        }
        // The sleep unlocks.
        core::mem::forget(self);
        let woken = match (deadline_ns.is_some(), interruptible) {
            // SAFETY: as above: the wait unlocks the queue.
            (true, true) => unsafe { kernel::sleepq_timedwait_sig(channel, 0) },
            // SAFETY: as above.
            (true, false) => unsafe { kernel::sleepq_timedwait(channel, 0) },
            // SAFETY: as above.
            (false, true) => unsafe { kernel::sleepq_wait_sig(channel, 0) },
            (false, false) => {
                // SAFETY: as above.
                unsafe { kernel::sleepq_wait(channel, 0) };
                0
            }
        };
        (event.lock(mode), !matches!(woken, 0 | kernel::EWOULDBLOCK))
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
        core::mem::forget(event.lock(WaitMode::Uninterruptible));
        event.0.signal();
        // Unlocks; a waiter may free the event as soon as it has: from here on only the address is used.
        // SAFETY: the queue is locked, and is unlocked by this.
        unsafe { crate::glue::supdrv_glue_sleepq_wake(channel, c_int::from(all)) };
    }

    fn event_reset(&self, event: &Event) {
        let _locked = event.lock(WaitMode::Uninterruptible);
        event.0.reset();
    }

    fn event_wait(&self, event: &Event, timeout: Timeout, mode: WaitMode) -> Result<()> {
        let deadline_ns = wait::deadline(self, timeout);
        wait::wait(self, &event.0, event.lock(mode), deadline_ns)
    }

    fn event_resolution_ns(&self) -> u32 {
        RESOLUTION_NS
    }
}
