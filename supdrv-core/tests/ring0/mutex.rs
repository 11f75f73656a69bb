//! `RTSemMutex*`, `RTSemFastMutex*`, `RTSpinlock*`.

use std::cell::UnsafeCell;
use std::ptr::null;
use std::thread;

use crate::harness::{Machine, ok, replay};
use crate::import;

import! {
    fn RTSemMutexCreate(out: *mut usize) -> i32;
    fn RTSemMutexDestroy(mutex: usize) -> i32;
    fn RTSemMutexRelease(mutex: usize) -> i32;
    fn RTSemMutexRequest(mutex: usize, millis: u32) -> i32;
    fn RTSemMutexRequestNoResume(mutex: usize, millis: u32) -> i32;
    fn RTSemMutexRequestDebug(mutex: usize, millis: u32, id: usize, file: *const i8, line: u32, function: *const i8) -> i32;
    fn RTSemMutexRequestNoResumeDebug(mutex: usize, millis: u32, id: usize, file: *const i8, line: u32, function: *const i8) -> i32;
    fn RTSemFastMutexCreate(out: *mut usize) -> i32;
    fn RTSemFastMutexDestroy(mutex: usize) -> i32;
    fn RTSemFastMutexRequest(mutex: usize) -> i32;
    fn RTSemFastMutexRelease(mutex: usize) -> i32;
    fn RTSpinlockCreate(out: *mut usize, flags: u32, name: *const i8) -> i32;
    fn RTSpinlockDestroy(lock: usize) -> i32;
    fn RTSpinlockAcquire(lock: usize);
    fn RTSpinlockRelease(lock: usize);
    fn RTSpinlockReleaseNoInts(lock: usize);
}

fn mutex() -> usize {
    let mut mutex = 0;
    assert_eq!(RTSemMutexCreate(&raw mut mutex), 0);
    mutex
}

fn fast_mutex() -> usize {
    let mut mutex = 0;
    assert_eq!(RTSemFastMutexCreate(&raw mut mutex), 0);
    mutex
}

fn spinlock(flags: u32) -> usize {
    let mut lock = 0;
    assert_eq!(RTSpinlockCreate(&raw mut lock, flags, c"test".as_ptr()), 0);
    lock
}

/// Something that only a lock protects.
struct Counter(UnsafeCell<u64>);
// SAFETY: the tests hold a lock when they touch it.
unsafe impl Sync for Counter {}

fn count_with(lock: impl Fn() + Sync, unlock: impl Fn() + Sync) {
    const ROUNDS: u64 = 2_000;
    let counter = Counter(UnsafeCell::new(0));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let counter = &counter;
                for _ in 0..ROUNDS {
                    lock();
                    // SAFETY: the lock is held.
                    unsafe { *counter.0.get() += 1 };
                    unlock();
                }
            });
        }
    });
    assert_eq!(counter.0.into_inner(), 4 * ROUNDS);
}

#[test]
fn a_mutex_is_recursive_and_belongs_to_its_owner() {
    let _machine = Machine::new();
    let mutex = mutex();
    assert_eq!((RTSemMutexRequest(mutex, 0), RTSemMutexRequest(mutex, u32::MAX)), (0, 0));
    assert_eq!(RTSemMutexRequestDebug(mutex, 5, 0, null(), 0, null()), 0);
    thread::scope(|scope| {
        scope.spawn(|| {
            assert_eq!((RTSemMutexRequest(mutex, 0), RTSemMutexRelease(mutex)), (-40, -355));
        });
    });
    assert!((0..3).all(|_| RTSemMutexRelease(mutex) == 0));
    assert_eq!(RTSemMutexRelease(mutex), -355);
    assert_eq!(RTSemMutexDestroy(mutex), 0);
    assert_eq!((RTSemMutexDestroy(0), RTSemMutexRequest(0, 0), RTSemMutexRelease(0)), (0, -4, -4));
}

#[test]
fn a_waiter_gets_the_mutex_times_out_or_is_interrupted() {
    let machine = Machine::new();
    let mutex = mutex();
    RTSemMutexRequest(mutex, 0);
    thread::scope(|scope| {
        let waiter = scope.spawn(|| (RTSemMutexRequest(mutex, u32::MAX), RTSemMutexRelease(mutex)));
        machine.wait_until_waiting(1);
        assert_eq!(RTSemMutexRelease(mutex), 0);
        assert_eq!(waiter.join().unwrap(), (0, 0));
        RTSemMutexRequest(mutex, 0);
        let waiter = scope.spawn(|| RTSemMutexRequestNoResume(mutex, 5));
        machine.wait_until_waiting(1);
        machine.advance(5_000_000);
        assert_eq!(waiter.join().unwrap(), -40);
        let waiter = scope.spawn(|| RTSemMutexRequestNoResumeDebug(mutex, u32::MAX, 0, null(), 0, null()));
        machine.wait_until_waiting(1);
        machine.interrupt_waiting();
        assert_eq!(waiter.join().unwrap(), -39);
    });
    RTSemMutexRelease(mutex);
    assert_eq!(RTSemMutexDestroy(mutex), 0);
}

#[test]
fn destroying_a_mutex_wakes_its_waiters_with_an_error() {
    let machine = Machine::new();
    let mutex = mutex();
    RTSemMutexRequest(mutex, 0);
    thread::scope(|scope| {
        let waiters: Vec<_> = (0..3).map(|_| scope.spawn(|| RTSemMutexRequest(mutex, u32::MAX))).collect();
        machine.wait_until_waiting(3);
        assert_eq!(RTSemMutexDestroy(mutex), 0);
        assert!(waiters.into_iter().all(|waiter| waiter.join().unwrap() == -363));
    });
}

#[test]
fn mutexes_and_spinlocks_exclude_threads() {
    let _machine = Machine::new();
    let (recursive, fast, plain, irq_safe) = (mutex(), fast_mutex(), spinlock(4), spinlock(2));
    count_with(
        || assert_eq!(RTSemMutexRequest(recursive, u32::MAX), 0),
        || assert_eq!(RTSemMutexRelease(recursive), 0),
    );
    count_with(|| assert_eq!(RTSemFastMutexRequest(fast), 0), || assert_eq!(RTSemFastMutexRelease(fast), 0));
    count_with(|| RTSpinlockAcquire(plain), || RTSpinlockRelease(plain));
    count_with(|| RTSpinlockAcquire(irq_safe), || RTSpinlockReleaseNoInts(irq_safe));
    assert_eq!((RTSemMutexDestroy(recursive), RTSemFastMutexDestroy(fast)), (0, 0));
    assert_eq!((RTSpinlockDestroy(plain), RTSpinlockDestroy(irq_safe)), (0, 0));
}

#[test]
fn handles_of_fast_mutexes_are_checked() {
    let _machine = Machine::new();
    assert_eq!((RTSemFastMutexDestroy(0), RTSemFastMutexRequest(0), RTSemFastMutexRelease(0)), (0, -4, -4));
    let recursive = mutex();
    assert_eq!((RTSemFastMutexRequest(recursive), RTSemFastMutexDestroy(recursive)), (-4, -4));
    RTSemMutexDestroy(recursive);
}

#[test]
fn a_spinlock_needs_exactly_one_kind() {
    let _machine = Machine::new();
    for flags in [0, 1, 6, 8] {
        let mut lock = 0;
        assert_eq!(RTSpinlockCreate(&raw mut lock, flags, null()), -2, "{flags}");
    }
    assert_eq!(RTSpinlockDestroy(0), -2);
}

#[test]
fn nested_irq_safe_locks_restore_what_they_found() {
    let machine = Machine::new();
    let (outer, inner) = (spinlock(2), spinlock(2));
    let irqs_on = || machine.current_class() == supdrv_core::mock::Class::T;
    RTSpinlockAcquire(outer);
    RTSpinlockAcquire(inner);
    assert!(!irqs_on());
    RTSpinlockRelease(inner);
    assert!(!irqs_on());
    RTSpinlockRelease(outer);
    assert!(irqs_on());
    RTSpinlockDestroy(inner);
    RTSpinlockDestroy(outer);
}

#[test]
fn releasing_a_plain_lock_as_irq_safe_is_reported() {
    let machine = Machine::new();
    let lock = spinlock(4);
    RTSpinlockAcquire(lock);
    RTSpinlockReleaseNoInts(lock);
    assert!(machine.log().iter().any(|line| line.contains("isn't IRQ-safe")));
    RTSpinlockDestroy(lock);
}

#[test]
fn creation_fails_cleanly() {
    replay(|_| {
        let (mut recursive, mut fast, mut lock) = (0, 0, 0);
        let result = ok(RTSemMutexCreate(&raw mut recursive))
            .and_then(|()| ok(RTSemFastMutexCreate(&raw mut fast)))
            .and_then(|()| ok(RTSpinlockCreate(&raw mut lock, 2, null())));
        RTSemMutexDestroy(recursive);
        RTSemFastMutexDestroy(fast);
        RTSpinlockDestroy(lock);
        result
    });
}
