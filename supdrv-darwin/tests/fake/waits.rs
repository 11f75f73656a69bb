//! Waits on addresses.

use core::cell::RefCell;
use core::ffi::{c_int, c_uint, c_void};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use fakekernel::{context, ticker, violation};

use super::base::host_ns;
use super::{lock, machine};

const THREAD_UNINT: c_int = 0;
const THREAD_ABORTSAFE: c_int = 2;
const THREAD_WAITING: c_int = -1;
const THREAD_AWAKENED: c_int = 0;
const THREAD_TIMED_OUT: c_int = 1;
const THREAD_INTERRUPTED: c_int = 2;
/// How often a waiter looks for what happened to its process.
const SLICE: Duration = Duration::from_millis(2);

#[derive(Default)]
struct Waiter {
    result: Mutex<Option<c_int>>,
    changed: Condvar,
}

static QUEUES: LazyLock<Mutex<HashMap<usize, VecDeque<Arc<Waiter>>>>> = LazyLock::new(Mutex::default);

/// What the current thread is about to wait for.
struct Pending {
    event: usize,
    waiter: Arc<Waiter>,
    interruptible: bool,
    deadline_ns: Option<u64>,
}

thread_local! {
    static PENDING: RefCell<Option<Pending>> = const { RefCell::new(None) };
}

fn assert_wait(event: *const c_void, how: c_int, deadline_ns: Option<u64>) -> c_int {
    assert!(matches!(how, THREAD_UNINT | THREAD_ABORTSAFE) && !event.is_null());
    if context::is_interrupt() {
        violation("an interrupt asserts a wait");
    }
    let interruptible = how == THREAD_ABORTSAFE;
    if interruptible && context::process().has_signal() {
        return THREAD_INTERRUPTED;
    }
    let waiter = Arc::new(Waiter::default());
    lock(&QUEUES).entry(event as usize).or_default().push_back(waiter.clone());
    let pending = Pending { event: event as usize, waiter, interruptible, deadline_ns };
    if PENDING.replace(Some(pending)).is_some() {
        violation("a thread that waits already asserts a wait");
    }
    machine().ledger.add("sleepers", 1);
    THREAD_WAITING
}

#[unsafe(no_mangle)]
pub extern "C" fn darwin_assert_wait(event: *const c_void, how: c_int) -> c_int {
    assert_wait(event, how, None)
}

#[unsafe(no_mangle)]
pub extern "C" fn darwin_assert_wait_deadline(event: *const c_void, how: c_int, deadline: u64) -> c_int {
    assert_wait(event, how, Some(host_ns(deadline)))
}

#[unsafe(no_mangle)]
pub extern "C" fn darwin_thread_block(continuation: *const c_void) -> c_int {
    context::may_sleep("thread_block");
    assert!(continuation.is_null(), "a continuation is another way of life");
    let Some(pending) = PENDING.take() else {
        std::thread::yield_now();
        return THREAD_AWAKENED;
    };
    let result = block(&pending);
    machine().ledger.add("sleepers", -1);
    result
}

fn block(pending: &Pending) -> c_int {
    let mut result = lock(&pending.waiter.result);
    loop {
        if let Some(result) = *result {
            return result;
        }
        let now = ticker::now_ns();
        let expired = pending.deadline_ns.is_some_and(|deadline| deadline <= now);
        let aborted = pending.interruptible && context::process().has_signal();
        if expired || aborted {
            drop(result);
            return leave(pending, if expired { THREAD_TIMED_OUT } else { THREAD_INTERRUPTED });
        }
        let rest =
            pending.deadline_ns.map_or(SLICE, |deadline| Duration::from_nanos(deadline - now).min(SLICE));
        result = pending.waiter.changed.wait_timeout(result, rest).unwrap_or_else(PoisonError::into_inner).0;
    }
}

/// A wake-up that was first, counts.
fn leave(pending: &Pending, result: c_int) -> c_int {
    let mut queues = lock(&QUEUES);
    if let Some(queue) = queues.get_mut(&pending.event) {
        queue.retain(|waiter| !Arc::ptr_eq(waiter, &pending.waiter));
        if queue.is_empty() {
            queues.remove(&pending.event);
        }
    }
    lock(&pending.waiter.result).unwrap_or(result)
}

#[unsafe(no_mangle)]
pub extern "C" fn darwin_thread_wakeup_prim(event: *const c_void, one: c_int, result: c_int) -> c_int {
    assert_eq!(result, THREAD_AWAKENED);
    let mut queues = lock(&QUEUES);
    let Some(queue) = queues.get_mut(&(event as usize)) else { return 12 };
    let most = if one != 0 { 1 } else { queue.len() };
    for waiter in queue.drain(..most.min(queue.len())) {
        *lock(&waiter.result) = Some(result);
        waiter.changed.notify_all();
    }
    if queue.is_empty() {
        queues.remove(&(event as usize));
    }
    0
}

#[unsafe(no_mangle)]
pub extern "C" fn darwin_IOSleep(milliseconds: c_uint) {
    context::may_sleep("IOSleep");
    std::thread::sleep(Duration::from_millis(milliseconds.into()));
}
