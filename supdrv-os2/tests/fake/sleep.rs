//! KernBlock and KernWakeup: queues of sleepers, by the number that they sleep on.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use fakekernel::locks::Word;
use fakekernel::{context, ticker, violation};

use super::base::{os2_KernAcquireSpinLock, os2_KernReleaseSpinLock};
use super::{lock, machine};

const UNINTERRUPTIBLE: u32 = 1;
const SPINLOCK: u32 = 2;
const WAKEUP_ONE: u32 = 1;
const WAKEUP_BOOST: u32 = 4;
const ERROR_INTERRUPT: u32 = 95;
const ERROR_TIMEOUT: u32 = 640;
/// How often a sleeper looks for signals.
const SLICE: Duration = Duration::from_millis(2);

#[derive(Default)]
struct Waiter {
    woken: Mutex<bool>,
    changed: Condvar,
}

type Queues = HashMap<usize, VecDeque<Arc<Waiter>>>;
static QUEUES: LazyLock<Mutex<Queues>> = LazyLock::new(Mutex::default);

#[unsafe(no_mangle)]
pub unsafe extern "C" fn os2_KernBlock(
    id: usize,
    timeout_ms: u32,
    flags: u32,
    named: *mut usize,
    data: *mut u32,
) -> u32 {
    assert!(id != 0 && !data.is_null() && flags & !(UNINTERRUPTIBLE | SPINLOCK) == 0);
    assert_ne!(timeout_ms, 0, "a sleep of no time");
    assert_eq!(flags & SPINLOCK != 0, !named.is_null(), "a lock is named, or not");
    if !named.is_null() && !Word::at(named).is_mine() {
        violation("a sleeper doesn't hold the lock that it names");
    }
    let waiter = Arc::new(Waiter::default());
    lock(&QUEUES).entry(id).or_default().push_back(waiter.clone());
    if !named.is_null() {
        os2_KernReleaseSpinLock(named);
    }
    context::may_sleep("KernBlock");
    machine().ledger.add("sleepers", 1);
    let result = block(id, &waiter, timeout_ms, flags & UNINTERRUPTIBLE == 0);
    machine().ledger.add("sleepers", -1);
    if !named.is_null() {
        os2_KernAcquireSpinLock(named);
    }
    result
}

fn block(id: usize, waiter: &Arc<Waiter>, timeout_ms: u32, interruptible: bool) -> u32 {
    let timeout_ns = u64::from(timeout_ms) * 1_000_000;
    let deadline = (timeout_ms != u32::MAX).then(|| ticker::now_ns() + timeout_ns);
    let mut woken = lock(&waiter.woken);
    loop {
        if *woken {
            return 0;
        }
        let now = ticker::now_ns();
        let expired = deadline.is_some_and(|deadline| deadline <= now);
        let signal = interruptible && context::process().has_signal();
        if expired || signal {
            drop(woken);
            return leave(id, waiter, if expired { ERROR_TIMEOUT } else { ERROR_INTERRUPT });
        }
        let rest = deadline.map_or(SLICE, |deadline| Duration::from_nanos(deadline - now).min(SLICE));
        woken = waiter.changed.wait_timeout(woken, rest).unwrap_or_else(PoisonError::into_inner).0;
    }
}

/// A wake-up that was first, counts.
fn leave(id: usize, waiter: &Arc<Waiter>, result: u32) -> u32 {
    let mut queues = lock(&QUEUES);
    if let Some(queue) = queues.get_mut(&id) {
        queue.retain(|other| !Arc::ptr_eq(other, waiter));
        if queue.is_empty() {
            queues.remove(&id);
        }
    }
    if *lock(&waiter.woken) { 0 } else { result }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn os2_KernWakeup(id: usize, flags: u32, count: *mut u32, _data: u32) -> u32 {
    assert!(flags & !(WAKEUP_ONE | WAKEUP_BOOST) == 0 && !count.is_null());
    let most = if flags & WAKEUP_ONE != 0 { 1 } else { usize::MAX };
    let mut woken = 0;
    let mut queues = lock(&QUEUES);
    if let Some(queue) = queues.get_mut(&id) {
        for waiter in queue.drain(..most.min(queue.len())) {
            *lock(&waiter.woken) = true;
            waiter.changed.notify_all();
            woken += 1;
        }
        if queue.is_empty() {
            queues.remove(&id);
        }
    }
    count.write(woken);
    0
}
