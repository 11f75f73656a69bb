//! Sleep queues, pauses.

use core::ffi::{c_char, c_int, c_void};
use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use fakekernel::locks::Word;
use fakekernel::{context, ticker, violation};

use super::base::sbt_ns;
use super::{lock, machine};

const SLEEPQ_CONDVAR: c_int = 1;
const SLEEPQ_INTERRUPTIBLE: c_int = 0x100;
const C_ABSOLUTE: c_int = 0x200;
const EINTR: c_int = 4;
const EWOULDBLOCK: c_int = 35;
/// How often a sleeper looks for signals.
const SLICE: Duration = Duration::from_millis(2);

/// Locks of the chains; channels share them by hash.
static CHAINS: [Word; 64] = [const { Word::new() }; 64];

#[derive(Default)]
struct Waiter {
    woken: Mutex<bool>,
    changed: Condvar,
}

type Queues = HashMap<usize, VecDeque<Arc<Waiter>>>;
static QUEUES: LazyLock<Mutex<Queues>> = LazyLock::new(Mutex::default);

/// What the current thread is about to do.
struct Pending {
    channel: usize,
    waiter: Arc<Waiter>,
    interruptible: bool,
    deadline_ns: Option<u64>,
}

thread_local! {
    static PENDING: RefCell<Option<Pending>> = const { RefCell::new(None) };
}

fn chain(channel: *const c_void) -> &'static Word {
    &CHAINS[(channel as usize >> 6) % CHAINS.len()]
}

fn check_locked(channel: *const c_void) {
    if !chain(channel).is_mine() {
        violation("the queue of a channel is used without its lock");
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn freebsd_sleepq_lock(channel: *const c_void) {
    context::irqs_off(1);
    chain(channel).acquire();
    context::spinlock(1);
}

#[unsafe(no_mangle)]
pub extern "C" fn freebsd_sleepq_release(channel: *const c_void) {
    chain(channel).release();
    context::spinlock(-1);
    context::irqs_off(-1);
}

#[unsafe(no_mangle)]
pub extern "C" fn freebsd_sleepq_add(
    channel: *const c_void,
    interlock: *mut c_void,
    _message: *const c_char,
    flags: c_int,
    queue: c_int,
) {
    check_locked(channel);
    assert!(interlock.is_null() && queue == 0 && flags & !SLEEPQ_INTERRUPTIBLE == SLEEPQ_CONDVAR);
    let waiter = Arc::new(Waiter::default());
    lock(&QUEUES).entry(channel as usize).or_default().push_back(waiter.clone());
    let interruptible = flags & SLEEPQ_INTERRUPTIBLE != 0;
    let pending = Pending { channel: channel as usize, waiter, interruptible, deadline_ns: None };
    let old = PENDING.replace(Some(pending));
    assert!(old.is_none(), "a thread sleeps on one channel");
    machine().ledger.add("sleepers", 1);
}

#[unsafe(no_mangle)]
pub extern "C" fn freebsd_sleepq_set_timeout_sbt(
    channel: *const c_void,
    deadline: i64,
    precision: i64,
    flags: c_int,
) {
    check_locked(channel);
    assert!(flags == C_ABSOLUTE && precision > 0);
    PENDING.with_borrow_mut(|pending| {
        let pending = pending.as_mut().expect("a thread on the queue");
        assert_eq!(pending.channel, channel as usize);
        pending.deadline_ns = Some(sbt_ns(deadline));
    });
}

fn sleep(channel: *const c_void, timed: bool, interruptible: bool) -> c_int {
    check_locked(channel);
    let pending = PENDING.take().expect("a thread on the queue");
    assert_eq!(pending.channel, channel as usize);
    assert_eq!(
        (pending.deadline_ns.is_some(), pending.interruptible),
        (timed, interruptible),
        "the wait that was prepared"
    );
    freebsd_sleepq_release(channel);
    context::may_sleep("sleepq_wait");
    let result = block(&pending);
    machine().ledger.add("sleepers", -1);
    result
}

fn block(pending: &Pending) -> c_int {
    let mut woken = lock(&pending.waiter.woken);
    loop {
        if *woken {
            return 0;
        }
        let now = ticker::now_ns();
        let expired = pending.deadline_ns.is_some_and(|deadline| deadline <= now);
        let signal = pending.interruptible && context::process().has_signal();
        if expired || signal {
            drop(woken);
            return leave(pending, if expired { EWOULDBLOCK } else { EINTR });
        }
        let rest =
            pending.deadline_ns.map_or(SLICE, |deadline| Duration::from_nanos(deadline - now).min(SLICE));
        woken = pending.waiter.changed.wait_timeout(woken, rest).unwrap_or_else(PoisonError::into_inner).0;
    }
}

/// A wake-up that was first, counts.
fn leave(pending: &Pending, result: c_int) -> c_int {
    let mut queues = lock(&QUEUES);
    if let Some(queue) = queues.get_mut(&pending.channel) {
        queue.retain(|waiter| !Arc::ptr_eq(waiter, &pending.waiter));
        if queue.is_empty() {
            queues.remove(&pending.channel);
        }
    }
    if *lock(&pending.waiter.woken) { 0 } else { result }
}

#[unsafe(no_mangle)]
pub extern "C" fn freebsd_sleepq_wait(channel: *const c_void, _priority: c_int) {
    sleep(channel, false, false);
}

#[unsafe(no_mangle)]
pub extern "C" fn freebsd_sleepq_wait_sig(channel: *const c_void, _priority: c_int) -> c_int {
    sleep(channel, false, true)
}

#[unsafe(no_mangle)]
pub extern "C" fn freebsd_sleepq_timedwait(channel: *const c_void, _priority: c_int) -> c_int {
    sleep(channel, true, false)
}

#[unsafe(no_mangle)]
pub extern "C" fn freebsd_sleepq_timedwait_sig(channel: *const c_void, _priority: c_int) -> c_int {
    sleep(channel, true, true)
}

fn wake(channel: *const c_void, most: usize) {
    check_locked(channel);
    let mut queues = lock(&QUEUES);
    if let Some(queue) = queues.get_mut(&(channel as usize)) {
        for waiter in queue.drain(..most.min(queue.len())) {
            *lock(&waiter.woken) = true;
            waiter.changed.notify_all();
        }
        if queue.is_empty() {
            queues.remove(&(channel as usize));
        }
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn freebsd_sleepq_broadcast(
    channel: *const c_void,
    flags: c_int,
    priority: c_int,
    queue: c_int,
) {
    assert_eq!((flags, priority, queue), (SLEEPQ_CONDVAR, 0, 0));
    wake(channel, usize::MAX);
}

#[unsafe(no_mangle)]
pub extern "C" fn freebsd_sleepq_signal(channel: *const c_void, flags: c_int, priority: c_int, queue: c_int) {
    assert_eq!((flags, priority, queue), (SLEEPQ_CONDVAR, 0, 0));
    wake(channel, 1);
}

#[unsafe(no_mangle)]
pub extern "C" fn freebsd_pause_sbt(
    _message: *const c_char,
    time: i64,
    _precision: i64,
    flags: c_int,
) -> c_int {
    context::may_sleep("pause_sbt");
    assert_eq!(flags, 0);
    std::thread::sleep(Duration::from_nanos(sbt_ns(time)));
    EWOULDBLOCK
}

#[unsafe(no_mangle)]
pub extern "C" fn freebsd_kern_yield(priority: c_int) {
    context::may_sleep("kern_yield");
    assert_eq!(priority, -2);
    std::thread::yield_now();
}
