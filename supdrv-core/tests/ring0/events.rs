//! `RTSemEvent*` and `RTSemEventMulti*`.

use std::ptr::null;
use std::thread;

use crate::harness::{Machine, ok, replay};
use crate::import;

import! {
    fn RTSemEventCreate(out: *mut usize) -> i32;
    fn RTSemEventDestroy(event: usize) -> i32;
    fn RTSemEventSignal(event: usize) -> i32;
    fn RTSemEventWait(event: usize, millis: u32) -> i32;
    fn RTSemEventWaitNoResume(event: usize, millis: u32) -> i32;
    fn RTSemEventWaitEx(event: usize, flags: u32, timeout: u64) -> i32;
    fn RTSemEventWaitExDebug(event: usize, flags: u32, timeout: u64, id: usize, file: *const i8, line: u32, function: *const i8) -> i32;
    fn RTSemEventGetResolution() -> u32;
    fn RTSemEventMultiCreate(out: *mut usize) -> i32;
    fn RTSemEventMultiDestroy(event: usize) -> i32;
    fn RTSemEventMultiSignal(event: usize) -> i32;
    fn RTSemEventMultiReset(event: usize) -> i32;
    fn RTSemEventMultiWait(event: usize, millis: u32) -> i32;
    fn RTSemEventMultiWaitNoResume(event: usize, millis: u32) -> i32;
    fn RTSemEventMultiWaitEx(event: usize, flags: u32, timeout: u64) -> i32;
    fn RTSemEventMultiWaitExDebug(event: usize, flags: u32, timeout: u64, id: usize, file: *const i8, line: u32, function: *const i8) -> i32;
    fn RTSemEventMultiGetResolution() -> u32;
}

fn event() -> usize {
    let mut event = 0;
    assert_eq!(RTSemEventCreate(&raw mut event), 0);
    event
}

fn multi() -> usize {
    let mut event = 0;
    assert_eq!(RTSemEventMultiCreate(&raw mut event), 0);
    event
}

#[test]
fn one_signal_releases_one_wait_and_signals_do_not_count() {
    let _machine = Machine::new();
    let event = event();
    assert_eq!(RTSemEventWait(event, 0), -40);
    assert_eq!((RTSemEventSignal(event), RTSemEventSignal(event)), (0, 0));
    assert_eq!((RTSemEventWait(event, 0), RTSemEventWait(event, 0)), (0, -40));
    assert_eq!(RTSemEventDestroy(event), 0);
}

#[test]
fn a_multiple_release_event_stays_signalled_until_it_is_reset() {
    let _machine = Machine::new();
    let event = multi();
    assert_eq!(RTSemEventMultiSignal(event), 0);
    assert!((0..3).all(|_| RTSemEventMultiWait(event, 0) == 0));
    assert_eq!((RTSemEventMultiReset(event), RTSemEventMultiWaitNoResume(event, 0)), (0, -40));
    assert_eq!(RTSemEventMultiDestroy(event), 0);
}

#[test]
fn handles_are_checked() {
    let _machine = Machine::new();
    assert_eq!((RTSemEventDestroy(0), RTSemEventMultiDestroy(0)), (0, 0));
    assert_eq!((RTSemEventSignal(0), RTSemEventWait(0, 0), RTSemEventMultiReset(0)), (-4, -2, -4));
    let event = event();
    assert_eq!((RTSemEventMultiSignal(event), RTSemEventMultiDestroy(event)), (-4, -4));
    assert_eq!(RTSemEventDestroy(event), 0);
    assert_eq!(RTSemEventCreate(std::ptr::null_mut()), -6);
    assert!(RTSemEventGetResolution() > 0 && RTSemEventMultiGetResolution() == RTSemEventGetResolution());
}

#[test]
fn wait_flags_are_checked() {
    let machine = Machine::new();
    machine.set_waits_advance_clock(true);
    let event = event();
    // Relative, ns, uninterruptible; absolute, ms, interruptible; indefinite needs no clock.
    for good in [0x45, 0x46, 0x49, 0x25, 0x2a] {
        assert_eq!(RTSemEventWaitEx(event, good, 1), -40, "{good:#x}");
        assert_eq!(RTSemEventWaitExDebug(event, good, 1, 0, null(), 0, null()), -40, "{good:#x}");
    }
    for bad in [0, 0x05, 0x65, 0x47, 0x4d, 0x44, 0x41, 0x85, 0x10] {
        assert_eq!(RTSemEventWaitEx(event, bad, 1), -2, "{bad:#x}");
    }
    RTSemEventSignal(event);
    assert_eq!(RTSemEventWaitEx(event, 0x50, 0), 0);
    RTSemEventDestroy(event);
    let multi = multi();
    assert_eq!((RTSemEventMultiWaitEx(multi, 0x25, 9), RTSemEventMultiWaitEx(multi, 0x80, 9)), (-40, -2));
    assert_eq!(RTSemEventMultiWaitExDebug(multi, 0x29, u64::MAX / 1_000_000, 0, null(), 0, null()), -40);
    RTSemEventMultiDestroy(multi);
}

#[test]
fn only_interruptible_waits_are_interrupted() {
    let machine = Machine::new();
    let event = event();
    machine.interrupt_next_wait();
    assert_eq!(RTSemEventWaitNoResume(event, u32::MAX), -39);
    RTSemEventDestroy(event);
}

#[test]
fn destruction_wakes_all_waiters_with_an_error() {
    let machine = Machine::new();
    let (single, multi) = (event(), multi());
    thread::scope(|scope| {
        let waiters: Vec<_> = (0..3)
            .flat_map(|_| {
                [
                    scope.spawn(move || RTSemEventWait(single, u32::MAX)),
                    scope.spawn(move || RTSemEventMultiWait(multi, u32::MAX)),
                ]
            })
            .collect();
        machine.wait_until_waiting(6);
        assert_eq!((RTSemEventDestroy(single), RTSemEventMultiDestroy(multi)), (0, 0));
        for waiter in waiters {
            assert_eq!(waiter.join().unwrap(), -363);
        }
    });
}

#[test]
fn signals_wake_one_waiter_or_all() {
    let machine = Machine::new();
    let (single, multi) = (event(), multi());
    thread::scope(|scope| {
        let waiters: Vec<_> = (0..4).map(|_| scope.spawn(move || RTSemEventWait(single, u32::MAX))).collect();
        machine.wait_until_waiting(4);
        for left in (0..4).rev() {
            RTSemEventSignal(single);
            while machine.waiting_threads() != left {
                thread::yield_now();
            }
        }
        assert!(waiters.into_iter().all(|waiter| waiter.join().unwrap() == 0));
        let waiters: Vec<_> =
            (0..4).map(|_| scope.spawn(move || RTSemEventMultiWait(multi, u32::MAX))).collect();
        machine.wait_until_waiting(4);
        RTSemEventMultiSignal(multi);
        RTSemEventMultiReset(multi);
        assert!(waiters.into_iter().all(|waiter| waiter.join().unwrap() == 0));
    });
    RTSemEventDestroy(single);
    RTSemEventMultiDestroy(multi);
}

#[test]
fn signalling_works_with_preemption_off() {
    let machine = Machine::new();
    let event = event();
    machine.with_preemption_off(|| assert_eq!(RTSemEventSignal(event), 0));
    assert_eq!(RTSemEventWait(event, 0), 0);
    RTSemEventDestroy(event);
}

#[test]
fn creation_fails_cleanly() {
    replay(|_| {
        let (mut single, mut multi) = (77, 77);
        let result =
            ok(RTSemEventCreate(&raw mut single)).and_then(|()| ok(RTSemEventMultiCreate(&raw mut multi)));
        assert!(result.is_ok() || single == 0 || multi == 0);
        RTSemEventDestroy(if single == 77 { 0 } else { single });
        RTSemEventMultiDestroy(if multi == 77 { 0 } else { multi });
        result
    });
}
