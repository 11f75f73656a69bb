//! Locks, events, timers, DPCs.

use core::ffi::c_void;
use std::boxed::Box;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, Once, PoisonError};
use std::time::{Duration, Instant};
use std::vec::Vec;

use super::exports::CPU;
use super::{CRITICAL, INTERRUPTS, IRQL, at_most, bug_check, with};
use crate::kernel::FineCallback;
use crate::nt::sys::DpcRoutine;
use crate::nt::{
    APC_LEVEL, DISPATCH_LEVEL, FastMutex, Irql, KDpc, KEvent, KTimer, NtStatus, PASSIVE_LEVEL, USER_MODE,
};

/// Guards all events and fast mutexes; who waits for events that release one waiter.
static OBJECTS: Mutex<BTreeMap<usize, Waiters>> = Mutex::new(BTreeMap::new());

/// Those who wait for an event, and how many of them a signal has released that don't know yet.
#[derive(Default)]
struct Waiters {
    waiting: usize,
    released: usize,
}
static CHANGED: Condvar = Condvar::new();

/// Timers: due, timer, DPC, period in milliseconds.
static TIMERS: Mutex<Vec<(Instant, usize, usize, u64)>> = Mutex::new(Vec::new());
static ARMED: Condvar = Condvar::new();
/// Held while a DPC runs.
static RUNNING: Mutex<()> = Mutex::new(());
static TIMER_THREAD: Once = Once::new();
/// DPCs that wait for a processor.
static QUEUE: Mutex<Vec<(usize, usize, usize)>> = Mutex::new(Vec::new());

fn run_dpc(dpc: usize, argument1: usize, argument2: usize) {
    let [routine, context, target, ..] = unsafe { (*(dpc as *const KDpc)).0 };
    let routine: DpcRoutine = unsafe { core::mem::transmute(routine) };
    let irql = IRQL.replace(DISPATCH_LEVEL);
    let cpu = CPU.get();
    if target != 0 {
        CPU.set(target as u32 - 1);
    }
    unsafe {
        routine(dpc as *mut KDpc, context as *mut c_void, argument1 as *mut c_void, argument2 as *mut c_void)
    };
    if IRQL.get() != DISPATCH_LEVEL {
        bug_check!("a DPC came back at IRQL {}", IRQL.get());
    }
    CPU.set(cpu);
    IRQL.set(irql);
}

/// Runs what is queued, if this processor may.
pub fn drain() {
    if IRQL.get() >= DISPATCH_LEVEL || !INTERRUPTS.get() {
        return;
    }
    let queued = core::mem::take(&mut *QUEUE.lock().unwrap_or_else(PoisonError::into_inner));
    for (dpc, argument1, argument2) in queued {
        let _running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        run_dpc(dpc, argument1, argument2);
    }
}

fn timer_thread() {
    let mut timers = TIMERS.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        let now = Instant::now();
        if let Some(at) = timers.iter().position(|timer| timer.0 <= now) {
            // Taken before the timer leaves the list, so that a flush after a cancel waits for it.
            let running = RUNNING.try_lock();
            if running.is_ok() {
                let (due, timer, dpc, period) = timers.swap_remove(at);
                if period != 0 {
                    timers.push((due + Duration::from_millis(period), timer, dpc, period));
                }
                drop(timers);
                match dpc {
                    HIGH_RESOLUTION_TIMER => run_callback(timer),
                    dpc => run_dpc(dpc, 0, 0),
                }
                drop(running);
                // What a callback queued.
                drain();
                timers = TIMERS.lock().unwrap_or_else(PoisonError::into_inner);
                continue;
            }
        }
        let next = timers.iter().map(|timer| timer.0.saturating_duration_since(now)).min();
        let wait = next.unwrap_or(Duration::from_secs(1)).max(Duration::from_micros(50));
        timers = ARMED.wait_timeout(timers, wait).unwrap_or_else(PoisonError::into_inner).0;
    }
}

/// In place of a DPC.
const HIGH_RESOLUTION_TIMER: usize = 0;

fn start_timer_thread() {
    TIMER_THREAD.call_once(|| {
        std::thread::spawn(timer_thread);
    });
}

fn arm(timer: usize, dpc: usize, due: i64, period_ms: u64) {
    if due >= 0 {
        bug_check!("an absolute due time {due}");
    }
    let due = Instant::now() + Duration::from_nanos(due.unsigned_abs().saturating_mul(100));
    let mut timers = TIMERS.lock().unwrap_or_else(PoisonError::into_inner);
    timers.retain(|armed| armed.1 != timer);
    timers.push((due, timer, dpc, period_ms));
    ARMED.notify_all();
}

fn disarm(timer: usize) {
    TIMERS.lock().unwrap_or_else(PoisonError::into_inner).retain(|armed| armed.1 != timer);
}

fn check_timer(timer: usize) {
    if !with(|state| state.account.fine_timers.contains_key(&timer)) {
        bug_check!("a timer that isn't one");
    }
}

fn run_callback(timer: usize) {
    let Some((callback, context)) = with(|state| state.account.fine_timers.get(&timer).copied()) else {
        return;
    };
    let callback: FineCallback = unsafe { core::mem::transmute(callback) };
    let irql = IRQL.replace(DISPATCH_LEVEL);
    unsafe { callback(timer as *mut c_void, context as *mut c_void) };
    IRQL.set(irql);
}

pub extern "system" fn allocate_timer(
    callback: FineCallback,
    context: *mut c_void,
    attributes: u32,
) -> *mut c_void {
    at_most(DISPATCH_LEVEL, "ExAllocateTimer");
    if attributes != 4 {
        bug_check!("a timer with attributes {attributes:#x}");
    }
    if super::fails() {
        return core::ptr::null_mut();
    }
    start_timer_thread();
    let timer = Box::into_raw(Box::new(0_u64));
    let what = (callback as *const () as usize, context as usize);
    with(|state| state.account.fine_timers.insert(timer as usize, what));
    timer.cast()
}

pub extern "system" fn set_timer(timer: *mut c_void, due: i64, period: i64, _more: *mut c_void) -> u8 {
    at_most(DISPATCH_LEVEL, "ExSetTimer");
    check_timer(timer as usize);
    if period != 0 {
        bug_check!("a timer with a period of its own");
    }
    arm(timer as usize, HIGH_RESOLUTION_TIMER, due, 0);
    0
}

pub extern "system" fn cancel_timer(timer: *mut c_void, _more: *mut c_void) -> u8 {
    at_most(DISPATCH_LEVEL, "ExCancelTimer");
    check_timer(timer as usize);
    disarm(timer as usize);
    1
}

pub extern "system" fn delete_timer(timer: *mut c_void, cancel: u8, wait: u8, _more: *mut c_void) -> u8 {
    at_most(APC_LEVEL, "ExDeleteTimer");
    check_timer(timer as usize);
    if (cancel, wait) != (1, 1) {
        bug_check!("a timer is deleted whose callback may run");
    }
    disarm(timer as usize);
    let running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    with(|state| state.account.fine_timers.remove(&(timer as usize)));
    drop(running);
    drop(unsafe { Box::from_raw(timer.cast::<u64>()) });
    1
}

#[unsafe(no_mangle)]
extern "system" fn KeInitializeTimerEx(timer: *mut KTimer, _kind: u32) {
    unsafe { *timer = KTimer::NEW };
    start_timer_thread();
}

#[unsafe(no_mangle)]
extern "system" fn KeSetTimerEx(timer: *mut KTimer, due: i64, period_ms: i32, dpc: *mut KDpc) -> u8 {
    at_most(DISPATCH_LEVEL, "KeSetTimerEx");
    arm(timer as usize, dpc as usize, due, u64::from(period_ms.unsigned_abs()));
    0
}

#[unsafe(no_mangle)]
extern "system" fn KeCancelTimer(timer: *mut KTimer) -> u8 {
    at_most(DISPATCH_LEVEL, "KeCancelTimer");
    disarm(timer as usize);
    1
}

#[unsafe(no_mangle)]
extern "system" fn KeInitializeDpc(dpc: *mut KDpc, routine: DpcRoutine, context: *mut c_void) {
    unsafe {
        *dpc = KDpc::NEW;
        (*dpc).0[0] = routine as *const () as usize;
        (*dpc).0[1] = context as usize;
    }
}

#[unsafe(no_mangle)]
extern "system" fn KeSetTargetProcessorDpc(dpc: *mut KDpc, number: i8) {
    unsafe { set_target(dpc, number as u32) };
}

/// Where a DPC keeps its processor, plus one.
const TARGET: usize = 2;

/// Ties a DPC to a processor.
pub unsafe fn set_target(dpc: *mut KDpc, index: u32) {
    unsafe { (&mut (*dpc).0)[TARGET] = index as usize + 1 };
}

#[unsafe(no_mangle)]
extern "system" fn KeSetImportanceDpc(dpc: *mut KDpc, importance: u32) {
    unsafe { (&mut (*dpc).0)[IMPORTANCE] = importance as usize };
}

/// Where it keeps its importance.
const IMPORTANCE: usize = 3;
const HIGH: usize = 2;

#[unsafe(no_mangle)]
extern "system" fn KeInsertQueueDpc(dpc: *mut KDpc, argument1: *mut c_void, argument2: *mut c_void) -> u8 {
    let mut queue = QUEUE.lock().unwrap_or_else(PoisonError::into_inner);
    if queue.iter().any(|queued| queued.0 == dpc as usize) {
        return 0;
    }
    queue.push((dpc as usize, argument1 as usize, argument2 as usize));
    let [_, _, target, importance, ..] = unsafe { (*dpc).0 };
    // What isn't urgent waits for the processor's next interrupt, and a processor needs none to look at its own queue.
    if importance == HIGH && target != 0 && target as u32 - 1 != CPU.get() {
        with(|state| state.interrupts.push(target as u32 - 1));
    }
    1
}

/// Whoever waits looks again.
pub fn wake_all() {
    let _objects = OBJECTS.lock().unwrap_or_else(PoisonError::into_inner);
    CHANGED.notify_all();
}

pub extern "system" fn flush_queued_dpcs() {
    at_most(PASSIVE_LEVEL, "KeFlushQueuedDpcs");
    drain();
    drop(RUNNING.lock().unwrap_or_else(PoisonError::into_inner));
}

#[unsafe(no_mangle)]
extern "system" fn KeInitializeEvent(event: *mut KEvent, kind: u32, signalled: u8) {
    unsafe { (*event).0 = [kind as usize, signalled.into(), EVENT_MAGIC] };
}

const EVENT_MAGIC: usize = 0x6576_656e;

#[unsafe(no_mangle)]
extern "system" fn KeSetEvent(event: *mut KEvent, _increment: i32, _wait: u8) -> i32 {
    at_most(DISPATCH_LEVEL, "KeSetEvent");
    let mut objects = OBJECTS.lock().unwrap_or_else(PoisonError::into_inner);
    let address = event as usize;
    let event = unsafe { &mut (*event).0 };
    if event[2] != EVENT_MAGIC {
        bug_check!("KeSetEvent for something else");
    }
    let before = event[1];
    let waits = objects.get_mut(&address).filter(|waiters| waiters.released < waiters.waiting);
    if event[0] & 1 == 0 {
        event[1] = 1;
        // Whoever waits now is released, whatever happens to the event until it runs.
        event[0] += 2;
    } else if let Some(waiters) = waits {
        // One who waits takes the signal: it isn't there for anybody else.
        waiters.released += 1;
    } else {
        event[1] = 1;
    }
    CHANGED.notify_all();
    before as i32
}

#[unsafe(no_mangle)]
extern "system" fn KeClearEvent(event: *mut KEvent) {
    let _objects = OBJECTS.lock().unwrap_or_else(PoisonError::into_inner);
    unsafe { (*event).0[1] = 0 };
}

#[unsafe(no_mangle)]
extern "system" fn KeWaitForSingleObject(
    object: *mut c_void,
    _reason: u32,
    mode: i8,
    alertable: u8,
    timeout: *const i64,
) -> NtStatus {
    let timeout = unsafe { timeout.as_ref() };
    at_most(if timeout == Some(&0) { DISPATCH_LEVEL } else { APC_LEVEL }, "KeWaitForSingleObject");
    drain();
    let deadline =
        timeout.map(|due| Instant::now() + Duration::from_nanos(due.unsigned_abs().saturating_mul(100)));
    let mut objects = OBJECTS.lock().unwrap_or_else(PoisonError::into_inner);
    let address = object as usize;
    let event = object.cast::<KEvent>();
    let single = unsafe { (*event).0[0] } & 1 == 1;
    if single {
        objects.entry(address).or_default().waiting += 1;
    }
    let signals = unsafe { (*event).0[0] };
    let status = loop {
        let words = unsafe { &mut (*event).0 };
        let released = objects.get_mut(&address).filter(|waiters| single && waiters.released > 0);
        if let Some(waiters) = released {
            waiters.released -= 1;
            break NtStatus::SUCCESS;
        }
        if words[1] != 0 || words[0] != signals {
            if single {
                words[1] = 0;
            }
            break NtStatus::SUCCESS;
        }
        // The end of a thread is an APC for ring-3.
        if mode == USER_MODE && alertable != 0 && is_ending() {
            break NtStatus::USER_APC;
        }
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if left == Some(Duration::ZERO) {
            break NtStatus::TIMEOUT;
        }
        let slice = left.unwrap_or(Duration::from_millis(20)).min(Duration::from_millis(20));
        objects = CHANGED.wait_timeout(objects, slice).unwrap_or_else(PoisonError::into_inner).0;
    };
    if let Some(waiters) = objects.get_mut(&address).filter(|_| single) {
        waiters.waiting -= 1;
        if waiters.waiting == 0 {
            objects.remove(&address);
        }
    }
    status
}

/// Whether somebody ends the calling thread.
fn is_ending() -> bool {
    let me = super::exports::thread() as usize;
    with(|state| state.ending.contains(&me))
}

#[unsafe(no_mangle)]
extern "system" fn KeDelayExecutionThread(_mode: i8, _alertable: u8, interval: *const i64) -> NtStatus {
    at_most(APC_LEVEL, "KeDelayExecutionThread");
    std::thread::sleep(Duration::from_nanos(unsafe { *interval }.unsigned_abs().saturating_mul(100)));
    NtStatus::SUCCESS
}

#[unsafe(no_mangle)]
extern "system" fn ZwYieldExecution() -> NtStatus {
    std::thread::yield_now();
    NtStatus::NO_YIELD_PERFORMED
}

#[unsafe(no_mangle)]
extern "system" fn KeAcquireSpinLockRaiseToDpc(lock: *mut usize) -> Irql {
    at_most(DISPATCH_LEVEL, "KeAcquireSpinLockRaiseToDpc");
    let before = IRQL.replace(DISPATCH_LEVEL);
    let lock = unsafe { AtomicUsize::from_ptr(lock) };
    while lock.swap(1, Ordering::Acquire) != 0 {
        std::thread::yield_now();
    }
    before
}

#[unsafe(no_mangle)]
extern "system" fn KeReleaseSpinLock(lock: *mut usize, irql: Irql) {
    let lock = unsafe { AtomicUsize::from_ptr(lock) };
    if IRQL.get() != DISPATCH_LEVEL || lock.swap(0, Ordering::Release) != 1 {
        bug_check!("release of a spinlock at IRQL {}, or that nobody holds", IRQL.get());
    }
    IRQL.set(irql);
}

#[unsafe(no_mangle)]
extern "system" fn KfRaiseIrql(irql: Irql) -> Irql {
    if irql < IRQL.get() {
        bug_check!("KfRaiseIrql lowers");
    }
    IRQL.replace(irql)
}

#[unsafe(no_mangle)]
extern "system" fn KeLowerIrql(irql: Irql) {
    if irql > IRQL.get() || !INTERRUPTS.get() {
        bug_check!("KeLowerIrql raises, or with interrupts off");
    }
    IRQL.set(irql);
}

#[unsafe(no_mangle)]
extern "system" fn KeEnterCriticalRegion() {
    CRITICAL.set(CRITICAL.get() + 1);
}

#[unsafe(no_mangle)]
extern "system" fn KeLeaveCriticalRegion() {
    match CRITICAL.get().checked_sub(1) {
        Some(depth) => CRITICAL.set(depth),
        None => bug_check!("KeLeaveCriticalRegion outside of one"),
    }
}

#[unsafe(no_mangle)]
extern "system" fn ExAcquireFastMutexUnsafe(mutex: *mut FastMutex) {
    at_most(APC_LEVEL, "ExAcquireFastMutexUnsafe");
    if CRITICAL.get() == 0 {
        bug_check!("ExAcquireFastMutexUnsafe outside of a critical region");
    }
    let me = super::exports::thread();
    let mut objects = OBJECTS.lock().unwrap_or_else(PoisonError::into_inner);
    if unsafe { (*mutex).owner } == me {
        bug_check!("a fast mutex isn't recursive");
    }
    while unsafe { (&raw const (*mutex).count).read_volatile() } != 1 {
        let slice = Duration::from_millis(5);
        objects = CHANGED.wait_timeout(objects, slice).unwrap_or_else(PoisonError::into_inner).0;
    }
    let mutex = unsafe { &mut *mutex };
    mutex.count = 0;
    mutex.owner = me;
}

#[unsafe(no_mangle)]
extern "system" fn ExReleaseFastMutexUnsafe(mutex: *mut FastMutex) {
    let _objects = OBJECTS.lock().unwrap_or_else(PoisonError::into_inner);
    let mutex = unsafe { &mut *mutex };
    if mutex.count != 0 || mutex.owner != super::exports::thread() {
        bug_check!("release of a fast mutex by another thread");
    }
    mutex.owner = core::ptr::null_mut();
    mutex.count = 1;
    CHANGED.notify_all();
}
