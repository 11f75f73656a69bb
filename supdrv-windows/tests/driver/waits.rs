//! Waits, and what ends them.

use super::*;
use std::thread::{Scope, ScopedJoinHandle, sleep};
use std::time::Duration;

const INTERRUPTED: i32 = -39;
const TIMEOUT: i32 = -40;
const SIGNAL: u32 = 3;

type Wait<'scope> = (ScopedJoinHandle<'scope, Result<i32, NtStatus>>, usize);

/// Threads that wait for one semaphore, as the kernel knows them.
fn wait_all<'scope, 'env, const N: usize>(
    scope: &'scope Scope<'scope, 'env>,
    file: &'env File,
    cookies: &'env CookieOut,
    handle: u32,
) -> [Wait<'scope>; N] {
    let threads = [(); N].map(|()| {
        let (sender, thread) = std::sync::mpsc::channel();
        let wait = scope.spawn(move || {
            sender.send(Machine::thread()).unwrap();
            wait(file, cookies, handle)
        });
        (wait, thread.recv().unwrap())
    });
    sleep(Duration::from_millis(50));
    assert!(threads.iter().all(|(wait, _)| !wait.is_finished()), "nobody signals");
    threads
}

#[test]
fn of_a_thread_that_is_ended_are_over_and_those_of_others_are_not() {
    with_driver(|machine, driver| {
        let file = driver.open(SYS).unwrap();
        let cookies = shake_hands(&file).unwrap();
        let handle = semaphore(&file, &cookies);
        std::thread::scope(|scope| {
            let [first, second, third] = wait_all(scope, &file, &cookies, handle);
            machine.end_thread(second.1);
            assert_eq!(second.0.join().unwrap(), Ok(INTERRUPTED));
            sleep(Duration::from_millis(50));
            assert!(!first.0.is_finished() && !third.0.is_finished(), "nobody signals");
            // Each signal is for one of them, however fast they come.
            for _ in 0..2 {
                assert_eq!(operation(&file, &cookies, handle, SIGNAL, 0), Ok(0));
            }
            for (wait, _) in [first, third] {
                assert_eq!(wait.join().unwrap(), Ok(0));
            }
        });
    });
}

#[test]
fn of_a_killed_client_are_over_and_leave_nothing() {
    with_driver(|machine, driver| {
        let file = driver.open(SYS).unwrap();
        let cookies = shake_hands(&file).unwrap();
        let handle = semaphore(&file, &cookies);
        std::thread::scope(|scope| {
            let waits: [_; 4] = wait_all(scope, &file, &cookies, handle);
            // Its threads end one by one, while its address space and its handles go.
            machine.end_thread(waits[0].1);
            machine.process_exits();
            file.cleanup();
            waits[1..].iter().for_each(|(_, thread)| machine.end_thread(*thread));
            for (wait, _) in waits {
                assert_eq!(wait.join().unwrap(), Ok(INTERRUPTED));
            }
        });
        assert!(shake_hands(&file).is_err());
    });
}

#[test]
fn go_on_when_another_thread_closes_the_last_handle_and_the_session_ends_after_them() {
    const WAIT_MS: u32 = 0;
    with_driver(|machine, driver| {
        let file = driver.open(SYS).unwrap();
        let cookies = shake_hands(&file).unwrap();
        let handle = semaphore(&file, &cookies);
        std::thread::scope(|scope| {
            let wait = scope.spawn(|| operation(&file, &cookies, handle, WAIT_MS, 200));
            sleep(Duration::from_millis(50));
            file.cleanup();
            let of_session = |machine: &Machine| {
                machine.account(|account| account.references.values().filter(|count| **count > 0).count())
            };
            let before = of_session(machine);
            assert_eq!(wait.join().unwrap(), Ok(TIMEOUT));
            assert_eq!(of_session(machine) + 1, before, "the session's reference to its process");
        });
    });
}

#[test]
fn that_can_not_be_put_off_for_want_of_memory_fail_and_keep_nobody_waiting() {
    const NO_MEMORY: i32 = -8;
    let machine = emulated();
    let driver = machine.load().unwrap();
    let file = driver.open(SYS).unwrap();
    let cookies = shake_hands(&file).unwrap();
    let handle = semaphore(&file, &cookies);
    // Two blocks and the work item.
    for nth in 1..=3 {
        machine.fail(nth);
        assert_eq!(wait(&file, &cookies, handle), Ok(NO_MEMORY), "call {nth}");
        machine.fail(0);
    }
    assert_eq!(operation(&file, &cookies, handle, SIGNAL, 0), Ok(0));
    assert_eq!(wait(&file, &cookies, handle), Ok(0));
    drop(file);
    driver.unload();
    assert_clean(&machine);
}
