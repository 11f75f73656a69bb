//! Events: real threads wait on them, with deadlines on the virtual clock.
//!
//! A test that lets a thread wait needs to know when it does: [`Machine::wait_until_waiting`]. A test without a second thread can let
//! waits with a deadline move the clock themselves: [`Machine::set_waits_advance_clock`].

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::time::Duration;
use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::{Call, Class, Codes, Kind, Machine, MockOs, locked, schedule};
use crate::abi::status::{Result, VERR_INTERRUPTED, VERR_NO_MEMORY, VERR_TIMEOUT};
use crate::os::{EventKind, OsEvent, Timeout, WaitMode};

/// How long the host waits for a test that forgot to wake somebody up, before it gives up.
const HANG: Duration = Duration::from_secs(120);

/// All waiting on a machine goes through one condition.
#[derive(Default)]
pub(super) struct Waits {
    state: Mutex<State>,
    changed: Condvar,
    next_waiter: AtomicU64,
    advance_clock: AtomicBool,
}

#[derive(Default)]
struct State {
    /// Threads that wait now.
    waiting: VecDeque<usize>,
    /// Threads whose interruptible waits end.
    interrupted: HashSet<usize>,
}

impl Waits {
    /// Wakes everybody up to look at the clock.
    pub fn clock_moved(&self) {
        let _state = locked(&self.state);
        self.changed.notify_all();
    }

    fn block<'a>(&'a self, guard: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        if schedule::task().is_some() {
            drop(guard);
            schedule::pause();
            return locked(&self.state);
        }
        let (guard, timeout) = self.changed.wait_timeout(guard, HANG).unwrap_or_else(PoisonError::into_inner);
        assert!(!timeout.timed_out(), "a thread waits, and nobody signals or moves the clock");
        guard
    }
}

#[derive(Debug)]
struct Signals {
    signalled: bool,
    waiters: VecDeque<u64>,
    released: HashSet<u64>,
}

/// An event.
#[derive(Debug)]
pub struct Event {
    machine: Arc<Machine>,
    kind: EventKind,
    signals: Mutex<Signals>,
}

impl Event {
    /// Takes a signal that is there already.
    fn poll(&self, signals: &mut Signals) -> bool {
        match self.kind {
            EventKind::SingleRelease => core::mem::replace(&mut signals.signalled, false),
            EventKind::MultiRelease => signals.signalled,
        }
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        self.machine.require(Class::T, Call::EventDestroy);
        self.machine.account.gone(Kind::Event);
        if !locked(&self.signals).waiters.is_empty() {
            self.machine.violation("an event is destroyed while a thread waits for it");
        }
    }
}

impl Machine {
    /// Number of threads that wait for events now.
    #[must_use]
    pub fn waiting_threads(&self) -> usize {
        locked(&self.waits.state).waiting.len()
    }

    /// Blocks the test until that many threads wait for events.
    pub fn wait_until_waiting(&self, count: usize) {
        let mut state = locked(&self.waits.state);
        while state.waiting.len() < count {
            state = self.waits.block(state);
        }
    }

    /// Interrupts the waiting threads, as a signal to their process does.
    pub fn interrupt_waiting(&self) {
        let mut state = locked(&self.waits.state);
        let waiting = state.waiting.clone();
        state.interrupted.extend(waiting);
        self.waits.changed.notify_all();
    }

    /// Makes the next interruptible wait of the calling thread end at once unless it needn't wait: a signal is pending.
    pub fn interrupt_next_wait(&self) {
        let thread = self.thread();
        locked(&self.waits.state).interrupted.insert(thread);
    }

    /// Lets a wait with a deadline move the clock to it, instead of blocking until somebody else does.
    pub fn set_waits_advance_clock(&self, on: bool) {
        self.waits.advance_clock.store(on, Ordering::Relaxed);
    }

    fn deadline(&self, timeout: Timeout) -> Option<u64> {
        match timeout {
            Timeout::Forever => None,
            Timeout::RelativeNs(ns) => Some(self.now_ns().saturating_add(ns)),
            Timeout::DeadlineNs(at) => Some(at),
        }
    }

    /// Waits for a signal of `event` that isn't there yet.
    fn wait_for(&self, event: &Event, me: u64, deadline: Option<u64>, mode: WaitMode) -> Result<()> {
        let thread = self.thread();
        let mut state = locked(&self.waits.state);
        state.waiting.push_back(thread);
        self.waits.changed.notify_all();
        let result = loop {
            let mut signals = locked(&event.signals);
            if signals.released.remove(&me) {
                break Ok(());
            }
            let timed_out = deadline.is_some_and(|at| self.now_ns() >= at);
            let interrupted = mode == WaitMode::Interruptible && state.interrupted.contains(&thread);
            if timed_out || interrupted {
                signals.waiters.retain(|waiter| *waiter != me);
                break Err(if timed_out { VERR_TIMEOUT } else { VERR_INTERRUPTED });
            }
            drop(signals);
            state = self.waits.block(state);
        };
        if result == Err(VERR_INTERRUPTED) {
            state.interrupted.remove(&thread);
        }
        if let Some(position) = state.waiting.iter().position(|waiting| *waiting == thread) {
            state.waiting.remove(position);
        }
        result
    }
}

impl<E: Codes> OsEvent for MockOs<E> {
    type Event = Event;

    fn event_create(&self, kind: EventKind) -> Result<Event> {
        self.require(Class::T, Call::EventCreate);
        self.fallible(Call::EventCreate, VERR_NO_MEMORY)?;
        self.account.made(Kind::Event);
        let signals = Signals { signalled: false, waiters: VecDeque::new(), released: HashSet::new() };
        Ok(Event { machine: self.machine().clone(), kind, signals: Mutex::new(signals) })
    }

    fn event_signal(&self, event: &Event) {
        self.require(Class::I, Call::EventSignal);
        let _state = locked(&self.waits.state);
        let mut guard = locked(&event.signals);
        let signals = &mut *guard;
        match event.kind {
            EventKind::SingleRelease => match signals.waiters.pop_front() {
                Some(waiter) => _ = signals.released.insert(waiter),
                None => signals.signalled = true,
            },
            EventKind::MultiRelease => {
                signals.signalled = true;
                signals.released.extend(signals.waiters.drain(..));
            }
        }
        drop(guard);
        self.waits.changed.notify_all();
    }

    fn event_reset(&self, event: &Event) {
        self.require(Class::I, Call::EventReset);
        locked(&event.signals).signalled = false;
    }

    fn event_wait(&self, event: &Event, timeout: Timeout, mode: WaitMode) -> Result<()> {
        self.require(Class::T, Call::EventWait);
        self.fails_if_targeted(Call::EventWait)?;
        let deadline = self.deadline(timeout);
        let me = self.waits.next_waiter.fetch_add(1, Ordering::Relaxed);
        {
            let mut signals = locked(&event.signals);
            if event.poll(&mut signals) {
                return Ok(());
            }
            if deadline.is_some_and(|at| self.now_ns() >= at) {
                return Err(VERR_TIMEOUT);
            }
            signals.waiters.push_back(me);
        }
        if let Some(at) = deadline
            && self.waits.advance_clock.load(Ordering::Relaxed)
        {
            self.advance_to(at);
        }
        self.wait_for(event, me, deadline, mode)
    }

    fn event_resolution_ns(&self) -> u32 {
        1000
    }
}
