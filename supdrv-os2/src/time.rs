//! Clocks, sleeps and events. Everything that sleeps does so in KernBlock, on an address.

use core::ptr::null_mut;

use supdrv_core::abi::status::{Result, VERR_INTERRUPTED};
use supdrv_core::heap::Box;
use supdrv_core::os::{EventKind, OsEvent, OsTime, Timeout, WaitMode};
use supdrv_core::shim::wait::{self, LockedQueue};
use supdrv_core::sync::event::EventState;

use crate::clock::Clock;
use crate::devhlp;
use crate::kernel;
use crate::os::{Os2, is_yield_wanted};
use crate::spin::{Guarded, KernelLock};

const NS_PER_MS: u64 = 1_000_000;
/// A tick of the kernel, as far as anybody can rely on it.
pub const TICK_NS: u32 = 32_000_000;

static CLOCK: Guarded<Clock> = Guarded::new(Clock::new());

/// A clock that hasn't been read. Class T, once.
pub fn init() {
    CLOCK.init();
    CLOCK.with(|clock| *clock = Clock::new());
}

/// Class T; it isn't used any more.
pub fn deinit() {
    CLOCK.deinit();
}

/// Nanoseconds since 1970, UTC. Class T.
pub fn wall_clock_ns() -> i64 {
    const UNKNOWN: i16 = -1;
    let info = kernel::global_info();
    // SAFETY: the kernel's segment, always mapped; it changes at any time.
    let seconds = || unsafe { (&raw const (*info).seconds).read_volatile() };
    let mut now = seconds();
    let (hundredths, time_zone) = loop {
        // SAFETY: as above.
        let hundredths = unsafe { (&raw const (*info).hundredths).read_volatile() };
        // SAFETY: as above.
        let time_zone = unsafe { (&raw const (*info).time_zone).read_volatile() };
        let again = seconds();
        if again == now {
            break (hundredths, time_zone);
        }
        now = again;
    };
    let west_minutes = if time_zone == UNKNOWN { 0 } else { i64::from(time_zone) };
    (i64::from(now) + west_minutes * 60) * 1_000_000_000 + i64::from(hundredths) * 10_000_000
}

/// Sleeps, on an address that nobody wakes; whether it was interrupted. Class T.
fn sleep(millis: u32, flags: u32) -> bool {
    let mut nobody = 0_u32;
    let id = (&raw mut nobody) as usize;
    // SAFETY: the address is this call's, so that nobody wakes it; no lock is given up.
    let woken = unsafe { kernel::KernBlock(id, millis, flags, null_mut(), &raw mut nobody) };
    woken == kernel::ERROR_INTERRUPT
}

/// Sleeps until the time is over or the process is killed. Class T.
pub fn sleep_interruptible_ms(millis: u32) -> Result<()> {
    if sleep(millis, 0) { Err(VERR_INTERRUPTED) } else { Ok(()) }
}

impl OsTime for Os2 {
    fn system_nano_ts(&self) -> u64 {
        CLOCK.with(|clock| {
            clock
                // SAFETY: the kernel's segment, always mapped.
                .nanoseconds(|| unsafe { (&raw const (*kernel::global_info()).milliseconds).read_volatile() })
        })
    }

    fn sleep_ms(&self, millis: u32) {
        if millis != 0 {
            sleep(millis, kernel::BLOCK_UNINTERRUPTIBLE);
        } else if is_yield_wanted() {
            // SAFETY: class T, no lock held.
            unsafe { devhlp::supdrv_devhlp_yield() };
        }
    }
}

struct State {
    lock: KernelLock,
    event: EventState,
}

/// An event; its state is used under its lock.
pub struct Event(Box<State, Os2>);

/// The lock of an event, held, and how its waiter sleeps.
struct Locked<'a>(&'a Event, WaitMode);

impl Event {
    /// What waiters sleep on.
    fn id(&self) -> usize {
        self.0.as_ptr().as_ptr() as usize
    }

    fn lock(&self, mode: WaitMode) -> Locked<'_> {
        self.0.lock.acquire();
        Locked(self, mode)
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        self.0.lock.deinit();
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        // SAFETY: this guard acquired it.
        unsafe { self.0.0.lock.release() };
    }
}

/// Milliseconds, rounded up, so that nobody sleeps for no time again and again; for ever if there are too many.
fn millis(ns: u64) -> u32 {
    u32::try_from(ns.div_ceil(NS_PER_MS).max(1)).unwrap_or(kernel::FOR_EVER)
}

impl LockedQueue for Locked<'_> {
    fn sleep(self, deadline_ns: Option<u64>) -> (Self, bool) {
        let event = self.0;
        let rest_ns = deadline_ns.map(|deadline| deadline.saturating_sub(Os2.system_nano_ts()));
        let timeout_ms = rest_ns.map_or(kernel::FOR_EVER, millis);
        let uninterruptible = self.1 == WaitMode::Uninterruptible;
        let flags = kernel::BLOCK_SPINLOCK | if uninterruptible { kernel::BLOCK_UNINTERRUPTIBLE } else { 0 };
        let mut data = 0;
        // The lock is given up, and held again on return.
        let woken = event
            .0
            .lock
            // SAFETY: the lock is held, and the only one; the event outlives its waiters.
            .asleep(|lock| unsafe { kernel::KernBlock(event.id(), timeout_ms, flags, lock, &raw mut data) });
        (self, woken == kernel::ERROR_INTERRUPT)
    }
}

impl OsEvent for Os2 {
    type Event = Event;

    fn event_create(&self, kind: EventKind) -> Result<Event> {
        let state = State { lock: KernelLock::new(), event: EventState::new(kind) };
        let event = Event(Box::new(self, state)?);
        event.0.lock.init();
        Ok(event)
    }

    fn event_signal(&self, event: &Event) {
        let one = if event.0.event.kind() == EventKind::MultiRelease { 0 } else { kernel::WAKEUP_ONE };
        let id = event.id();
        let locked = event.lock(WaitMode::Uninterruptible);
        event.0.event.signal();
        drop(locked);
        // A waiter may have freed the event by now: only its address is used, and who is woken for nothing sleeps on.
        let mut woken = 0;
        // SAFETY: only the address is used.
        unsafe { kernel::KernWakeup(id, one | kernel::WAKEUP_BOOST, &raw mut woken, 0) };
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
        TICK_NS
    }
}
