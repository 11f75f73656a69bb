//! Clocks and events.

use core::cell::UnsafeCell;
use core::ffi::c_void;
use core::sync::atomic::{AtomicBool, Ordering};

use supdrv_core::abi::status::{Result, VERR_INTERNAL_ERROR_4, VERR_INTERRUPTED, VERR_TIMEOUT};
use supdrv_core::heap::Box;
use supdrv_core::os::{EventKind, OsEvent, OsTime, OsTimer, Timeout, WaitMode};

use crate::Windows;
use crate::kernel;
use crate::nt::sys;
use crate::nt::{DISPATCH_LEVEL, KDpc, KERNEL_MODE, KEvent, NtStatus, USER_MODE, hw};
use crate::os::{NOTIFICATION_EVENT, SYNCHRONIZATION_EVENT};
use crate::pending;

/// Nanoseconds in the kernel's unit of time.
pub(crate) const UNIT_NS: u64 = 100;
const EXECUTIVE: u32 = 0;
const NO_BOOST: u8 = 0;

impl OsTime for Windows {
    fn system_nano_ts(&self) -> u64 {
        hw::interrupt_time().wrapping_mul(UNIT_NS)
    }

    fn sleep_ms(&self, millis: u32) {
        if millis == 0 {
            // SAFETY: PASSIVE (class T).
            unsafe { sys::ZwYieldExecution() };
            return;
        }
        let interval = relative(u64::from(millis) * 1_000_000);
        // SAFETY: PASSIVE (class T).
        unsafe { sys::KeDelayExecutionThread(KERNEL_MODE, 0, &raw const interval) };
    }
}

/// A relative due time, never earlier than asked for.
pub(crate) fn relative(nanos: u64) -> i64 {
    -i64::try_from(nanos.div_ceil(UNIT_NS)).unwrap_or(i64::MAX)
}

/// An event: the kernel's, and what it takes to signal it where the kernel's can't be.
pub struct Event(Box<Inner, Windows>);

struct Inner {
    event: UnsafeCell<KEvent>,
    /// Sets the event for callers with interrupts off.
    dpc: UnsafeCell<KDpc>,
    dpc_used: AtomicBool,
}

// SAFETY: the kernel's own objects, made for several threads.
unsafe impl Send for Event {}
// SAFETY: as above.
unsafe impl Sync for Event {}

unsafe extern "system" fn set_event(
    _dpc: *mut KDpc,
    event: *mut c_void,
    _argument1: *mut c_void,
    _argument2: *mut c_void,
) {
    // SAFETY: the event's owner flushes the queue before it frees the event.
    unsafe { sys::KeSetEvent(event.cast(), 1, NO_BOOST) };
}

impl Drop for Event {
    fn drop(&mut self) {
        if self.0.dpc_used.load(Ordering::Relaxed) {
            kernel::flush_dpcs();
        }
    }
}

impl Event {
    /// One wait for at most `due` (negative: relative), for ever without.
    fn wait_once(&self, due: Option<i64>, mode: WaitMode) -> NtStatus {
        let interruptible = mode == WaitMode::Interruptible;
        let timeout = due.as_ref().map_or(core::ptr::null(), core::ptr::from_ref);
        // SAFETY: PASSIVE or APC (class T); the event is initialised and stays, on the heap, during the wait.
        unsafe {
            sys::KeWaitForSingleObject(
                self.0.event.get().cast(),
                EXECUTIVE,
                if interruptible { USER_MODE } else { KERNEL_MODE },
                u8::from(interruptible),
                timeout,
            )
        }
    }

    /// As [`wait_once`](Self::wait_once), but gives up when the client of a deferred request does: such a request has no thread
    /// that the kernel could interrupt.
    fn wait(&self, deadline: Option<u64>, mode: WaitMode) -> NtStatus {
        const SLICE: u64 = 500_000;
        let client = if mode == WaitMode::Interruptible { pending::current() } else { None };
        loop {
            let left = deadline.map(|deadline| deadline.saturating_sub(hw::interrupt_time()));
            let slice = match client {
                Some(_) => Some(left.unwrap_or(SLICE).min(SLICE)),
                None => left,
            };
            let due = slice.map(|units| -i64::try_from(units).unwrap_or(i64::MAX));
            let status = self.wait_once(due, mode);
            let over = status != NtStatus::TIMEOUT || slice == left;
            if over {
                return status;
            }
            if client.as_ref().is_some_and(pending::Client::is_gone) {
                return NtStatus::ALERTED;
            }
        }
    }
}

impl OsEvent for Windows {
    type Event = Event;

    fn event_create(&self, kind: EventKind) -> Result<Event> {
        let event = Box::new(
            self,
            Inner {
                event: UnsafeCell::new(KEvent::NEW),
                dpc: UnsafeCell::new(KDpc::NEW),
                dpc_used: AtomicBool::new(false),
            },
        )?;
        let kind = match kind {
            EventKind::SingleRelease => SYNCHRONIZATION_EVENT,
            EventKind::MultiRelease => NOTIFICATION_EVENT,
        };
        // SAFETY: fresh storage, at its final place.
        unsafe {
            sys::KeInitializeEvent(event.event.get(), kind, 0);
            sys::KeInitializeDpc(event.dpc.get(), set_event, event.event.get().cast());
        }
        Ok(Event(event))
    }

    fn event_signal(&self, event: &Event) {
        if hw::interrupts_enabled() && hw::irql() <= DISPATCH_LEVEL {
            // SAFETY: at most DISPATCH.
            unsafe { sys::KeSetEvent(event.0.event.get(), 1, NO_BOOST) };
            return;
        }
        event.0.dpc_used.store(true, Ordering::Relaxed);
        // SAFETY: any IRQL; dropping the event waits for the DPC. One that is queued already does what this one would.
        unsafe { sys::KeInsertQueueDpc(event.0.dpc.get(), core::ptr::null_mut(), core::ptr::null_mut()) };
    }

    fn event_reset(&self, event: &Event) {
        // SAFETY: a store to the event, at any IRQL.
        unsafe { sys::KeClearEvent(event.0.event.get()) };
    }

    fn event_wait(&self, event: &Event, timeout: Timeout, mode: WaitMode) -> Result<()> {
        let now = hw::interrupt_time();
        let deadline = match timeout {
            Timeout::Forever => None,
            Timeout::RelativeNs(nanos) => Some(now.saturating_add(nanos.div_ceil(UNIT_NS))),
            Timeout::DeadlineNs(nanos) => Some(nanos.div_ceil(UNIT_NS)),
        }
        // What a signed number can't hold is further away than anybody waits.
        .filter(|deadline| i64::try_from(*deadline).is_ok());
        let mut status = event.wait(deadline, mode);
        if status == NtStatus::ALERTED || status == NtStatus::USER_APC {
            // A signal wins over the interruption, and so does a deadline that has passed.
            status = match event.wait_once(Some(0), WaitMode::Uninterruptible) {
                NtStatus::SUCCESS => NtStatus::SUCCESS,
                _ if deadline.is_some_and(|deadline| deadline <= hw::interrupt_time()) => NtStatus::TIMEOUT,
                _ => NtStatus::ALERTED,
            };
        }
        match status {
            NtStatus::SUCCESS => Ok(()),
            NtStatus::TIMEOUT => Err(VERR_TIMEOUT),
            NtStatus::ALERTED => Err(VERR_INTERRUPTED),
            _ => Err(VERR_INTERNAL_ERROR_4),
        }
    }

    fn event_resolution_ns(&self) -> u32 {
        self.timer_granularity_ns()
    }
}
