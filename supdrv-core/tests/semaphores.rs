//! Semaphores through the requests of ring-3 and through the session's own methods, as modules use them.

use std::time::Duration;

use supdrv_core::abi::ioctl::{Function, SEM_TYPE_EVENT, SEM_TYPE_EVENT_MULTI};
use supdrv_core::abi::requests as r;
use supdrv_core::abi::status::{
    Status, VERR_INTERRUPTED, VERR_INVALID_FUNCTION, VERR_INVALID_HANDLE, VERR_INVALID_PARAMETER,
    VERR_NO_MEMORY, VERR_NO_MORE_HANDLES, VERR_TIMEOUT, VINF_OBJECT_DESTROYED, VINF_SUCCESS,
};
use supdrv_core::mock::packet::zeroed;
use supdrv_core::mock::{Call, Client, Host, Kind, Request, replay};
use supdrv_core::object::Released;
use supdrv_core::os::{EventKind, SessionKind, Timeout, WaitMode};

const WAIT_MS: u32 = 0;
const WAIT_NS_ABS: u32 = 1;
const WAIT_NS_REL: u32 = 2;
const SIGNAL: u32 = 3;
const RESET: u32 = 4;
const CLOSE: u32 = 5;
const CREATE: u32 = 0;
const RESOLUTION: u32 = 1;
const FOREVER_MS: u64 = 0xffff_ffff;
const KINDS: [u32; 2] = [SEM_TYPE_EVENT, SEM_TYPE_EVENT_MULTI];

fn kind(sem_type: u32) -> EventKind {
    if sem_type == SEM_TYPE_EVENT { EventKind::SingleRelease } else { EventKind::MultiRelease }
}

/// A host whose clock moves to the end of a wait by itself.
fn impatient() -> Host {
    let host = Host::new();
    host.os().set_waits_advance_clock(true);
    host
}

fn create(client: &Client<'_>, sem_type: u32) -> u32 {
    client.sem_op3(sem_type, 0, CREATE).expect("a semaphore")
}

/// The status of an operation, success and failure alike.
fn op(client: &Client<'_>, sem_type: u32, handle: u32, operation: u32, arg: u64) -> Status {
    client.sem_op2(sem_type, handle, operation, arg).unwrap_or_else(|status| status)
}

#[test]
fn handles_count_from_one() {
    let host = Host::new();
    let client = host.open();
    assert_eq!(create(&client, SEM_TYPE_EVENT), 1);
    assert_eq!(create(&client, SEM_TYPE_EVENT_MULTI), 2);
    assert_eq!(create(&host.open(), SEM_TYPE_EVENT_MULTI), 1, "each session has its own");
}

#[test]
fn a_single_release_semaphore_remembers_one_signal() {
    let host = impatient();
    let client = host.open();
    let sem = create(&client, SEM_TYPE_EVENT);
    let wait = |ms| op(&client, SEM_TYPE_EVENT, sem, WAIT_MS, ms);
    for ms in [0, 1, 2, 8, 20] {
        let before = host.os().now_ns();
        assert_eq!(wait(ms), VERR_TIMEOUT);
        assert_eq!(host.os().now_ns() - before, ms * 1_000_000, "waited exactly {ms} ms");
    }
    let signal = || assert_eq!(op(&client, SEM_TYPE_EVENT, sem, SIGNAL, 0), VINF_SUCCESS);
    signal();
    assert_eq!(wait(0), VINF_SUCCESS);
    signal();
    signal();
    assert_eq!(wait(0), VINF_SUCCESS);
    assert_eq!(wait(0), VERR_TIMEOUT, "signals don't count");
}

#[test]
fn a_multiple_release_semaphore_stays_signalled_until_it_is_reset() {
    let host = impatient();
    let client = host.open();
    let sem = create(&client, SEM_TYPE_EVENT_MULTI);
    let act = |operation, arg| op(&client, SEM_TYPE_EVENT_MULTI, sem, operation, arg);
    assert_eq!(act(SIGNAL, 0), VINF_SUCCESS);
    for _ in 0..3 {
        assert_eq!(act(WAIT_MS, 0), VINF_SUCCESS);
    }
    assert_eq!(act(RESET, 0), VINF_SUCCESS);
    assert_eq!(act(WAIT_MS, 0), VERR_TIMEOUT);
    assert_eq!(act(SIGNAL, 0), VINF_SUCCESS);
    assert_eq!(act(SIGNAL, 0), VINF_SUCCESS);
    assert_eq!(act(RESET, 0), VINF_SUCCESS);
    assert_eq!(act(WAIT_MS, 1), VERR_TIMEOUT);
}

#[test]
fn a_closed_handle_is_gone() {
    let host = impatient();
    let client = host.open();
    for sem_type in KINDS {
        let sem = create(&client, sem_type);
        assert_eq!(op(&client, sem_type, 0, CLOSE, 0), VINF_SUCCESS, "closing nothing");
        assert_eq!(op(&client, sem_type, sem, CLOSE, 0), VINF_OBJECT_DESTROYED);
        for operation in [WAIT_MS, WAIT_NS_ABS, WAIT_NS_REL, SIGNAL, CLOSE] {
            assert_eq!(
                op(&client, sem_type, sem, operation, 0),
                VERR_INVALID_HANDLE,
                "operation {operation}"
            );
        }
        assert_eq!(host.os().live(Kind::Event), 0);
    }
    assert_eq!(op(&client, SEM_TYPE_EVENT_MULTI, 2, RESET, 0), VERR_INVALID_HANDLE);
}

#[test]
fn wrong_handles_are_refused_by_every_operation() {
    let host = Host::new();
    let (client, stranger) = (host.open(), host.open());
    let single = create(&client, SEM_TYPE_EVENT);
    let multi = create(&client, SEM_TYPE_EVENT_MULTI);
    for operation in [WAIT_MS, WAIT_NS_ABS, WAIT_NS_REL, SIGNAL, CLOSE] {
        assert_eq!(op(&client, SEM_TYPE_EVENT_MULTI, single, operation, 0), VERR_INVALID_HANDLE);
        assert_eq!(op(&client, SEM_TYPE_EVENT, multi, operation, 0), VERR_INVALID_HANDLE);
        assert_eq!(op(&stranger, SEM_TYPE_EVENT, single, operation, 0), VERR_INVALID_HANDLE);
        for handle in [3, 32768, 32769, u32::MAX] {
            assert_eq!(op(&client, SEM_TYPE_EVENT, handle, operation, 0), VERR_INVALID_HANDLE, "{handle}");
        }
        if operation != CLOSE {
            assert_eq!(op(&client, SEM_TYPE_EVENT, 0, operation, 0), VERR_INVALID_HANDLE);
        }
    }
    assert_eq!(op(&client, SEM_TYPE_EVENT_MULTI, single, RESET, 0), VERR_INVALID_HANDLE);
    assert_eq!(op(&client, SEM_TYPE_EVENT, single, CLOSE, 0), VINF_OBJECT_DESTROYED, "it is still good");
}

#[test]
fn unknown_operations_and_types_have_their_statuses() {
    let host = Host::new();
    let client = host.open();
    let single = create(&client, SEM_TYPE_EVENT);
    assert_eq!(op(&client, SEM_TYPE_EVENT, single, RESET, 0), VERR_INVALID_FUNCTION);
    for sem_type in KINDS {
        for operation in [6, 7, u32::MAX] {
            assert_eq!(op(&client, sem_type, single, operation, 0), VERR_INVALID_FUNCTION);
        }
        for operation in [2, u32::MAX] {
            assert_eq!(client.sem_op3(sem_type, 0, operation), Err(VERR_INVALID_FUNCTION));
            assert_eq!(
                client.sem_op3(sem_type, 5, operation),
                Err(VERR_INVALID_FUNCTION),
                "the handle isn't looked at"
            );
        }
    }
    for sem_type in [2, u32::MAX] {
        assert_eq!(op(&client, sem_type, single, 99, 0), VERR_INVALID_PARAMETER);
        assert_eq!(client.sem_op3(sem_type, 5, 99), Err(VERR_INVALID_PARAMETER));
    }
}

#[test]
fn reserved_fields_and_sizes_are_checked() {
    let host = Host::new();
    let client = host.open();
    let op2 = |input: r::SemOp2In| Request::new(Function::SemOp2).input(&input);
    let op3 = |input: r::SemOp3In| Request::new(Function::SemOp3).input(&input).output::<r::SemOp3In>();
    let rejected = [
        op2(r::SemOp2In { reserved: 1, ..zeroed() }),
        op2(zeroed()).out_bytes(0x30),
        op2(zeroed()).in_bytes(0x2c),
        op3(r::SemOp3In { reserved: 1, ..zeroed() }),
        op3(r::SemOp3In { reserved64: 1, ..zeroed() }),
        op3(r::SemOp3In { handle: 5, ..zeroed() }),
        op3(r::SemOp3In { handle: 5, operation: RESOLUTION, ..zeroed() }),
        op3(zeroed()).out_bytes(24),
    ];
    for request in rejected {
        let reply = client.send(&request);
        assert_eq!(
            (reply.call, reply.rc()),
            (Err(VERR_INVALID_PARAMETER), VERR_INVALID_PARAMETER),
            "{request:?}"
        );
    }
    assert_eq!(host.os().live(Kind::Event), 0);
}

#[test]
fn the_resolution_is_the_same_for_both_kinds() {
    let host = Host::new();
    let client = host.open();
    let [single, multi] =
        KINDS.map(|sem_type| client.sem_op3(sem_type, 0, RESOLUTION).expect("a resolution"));
    assert!(single > 0 && single == multi);
}

#[test]
fn deadlines_are_on_the_system_clock() {
    let host = impatient();
    let client = host.open();
    let sem = create(&client, SEM_TYPE_EVENT);
    let now = host.os().now_ns();
    for past in [0, 1, now - 1, now] {
        assert_eq!(op(&client, SEM_TYPE_EVENT, sem, WAIT_NS_ABS, past), VERR_TIMEOUT);
        assert_eq!(host.os().now_ns(), now, "without sleep");
    }
    assert_eq!(op(&client, SEM_TYPE_EVENT, sem, WAIT_NS_ABS, now + 12_345), VERR_TIMEOUT);
    assert_eq!(host.os().now_ns(), now + 12_345);
    assert_eq!(op(&client, SEM_TYPE_EVENT, sem, WAIT_NS_REL, 55), VERR_TIMEOUT);
    assert_eq!(host.os().now_ns(), now + 12_400);
}

#[test]
fn a_signal_wins_over_time_and_interruption() {
    let host = Host::new();
    let client = host.open();
    let sem = create(&client, SEM_TYPE_EVENT);
    for (operation, arg) in [(WAIT_MS, 0), (WAIT_NS_ABS, 1), (WAIT_NS_REL, 0)] {
        op(&client, SEM_TYPE_EVENT, sem, SIGNAL, 0);
        assert_eq!(op(&client, SEM_TYPE_EVENT, sem, operation, arg), VINF_SUCCESS);
    }
    op(&client, SEM_TYPE_EVENT, sem, SIGNAL, 0);
    host.os().interrupt_next_wait();
    assert_eq!(op(&client, SEM_TYPE_EVENT, sem, WAIT_MS, FOREVER_MS), VINF_SUCCESS);
    assert_eq!(
        op(&client, SEM_TYPE_EVENT, sem, WAIT_MS, FOREVER_MS),
        VERR_INTERRUPTED,
        "it was still pending"
    );
}

/// Waits in a thread while `meanwhile` runs; returns what the wait returned.
fn wait_while(
    host: &Host,
    client: &Client<'_>,
    wait: (u32, u32, u32, u64),
    meanwhile: impl FnOnce(),
) -> Status {
    let (sem_type, sem, operation, arg) = wait;
    std::thread::scope(|scope| {
        let waiter = scope.spawn(move || op(client, sem_type, sem, operation, arg));
        host.os().wait_until_waiting(1);
        meanwhile();
        waiter.join().expect("the waiter")
    })
}

/// What never ends by itself: all ones in each form, and what would end after the end of the clock.
#[test]
fn indefinite_waits_end_by_a_signal_only() {
    let host = Host::new();
    let client = host.open();
    let forever = [
        (WAIT_MS, FOREVER_MS),
        (WAIT_MS, 0xdead_0000_ffff_ffff),
        (WAIT_NS_ABS, u64::MAX),
        (WAIT_NS_REL, u64::MAX),
        (WAIT_NS_REL, u64::MAX - 1),
    ];
    for (operation, arg) in forever {
        let sem = create(&client, SEM_TYPE_EVENT);
        let result = wait_while(&host, &client, (SEM_TYPE_EVENT, sem, operation, arg), || {
            host.os().advance(1 << 60);
            assert_eq!(host.os().waiting_threads(), 1, "{operation} {arg:#x}");
            op(&client, SEM_TYPE_EVENT, sem, SIGNAL, 0);
        });
        assert_eq!(result, VINF_SUCCESS);
    }
}

#[test]
fn interrupted_waits_leave_the_semaphore_as_it_is() {
    let host = Host::new();
    let client = host.open();
    for ms in [120_000, FOREVER_MS] {
        let sem = create(&client, SEM_TYPE_EVENT);
        let wait = (SEM_TYPE_EVENT, sem, WAIT_MS, ms);
        assert_eq!(wait_while(&host, &client, wait, || host.os().interrupt_waiting()), VERR_INTERRUPTED);
        op(&client, SEM_TYPE_EVENT, sem, SIGNAL, 0);
        assert_eq!(op(&client, SEM_TYPE_EVENT, sem, WAIT_MS, 0), VINF_SUCCESS, "no signal was swallowed");
        assert_eq!(op(&client, SEM_TYPE_EVENT, sem, CLOSE, 0), VINF_OBJECT_DESTROYED);
    }
}

#[test]
fn closing_does_not_wake_waiters_and_the_last_one_destroys() {
    let host = Host::new();
    let client = host.open();
    for sem_type in KINDS {
        let sem = create(&client, sem_type);
        let result = wait_while(&host, &client, (sem_type, sem, WAIT_MS, 200), || {
            host.os().advance(50_000_000);
            assert_eq!(op(&client, sem_type, sem, CLOSE, 0), VINF_SUCCESS, "somebody still uses it");
            assert_eq!(op(&client, sem_type, sem, SIGNAL, 0), VERR_INVALID_HANDLE);
            assert_eq!((host.os().live(Kind::Event), host.os().waiting_threads()), (1, 1));
            host.os().advance(150_000_000);
        });
        assert_eq!(result, VERR_TIMEOUT);
        assert_eq!(host.os().live(Kind::Event), 0);
    }
}

#[test]
fn a_number_that_is_reused_does_not_reach_old_waiters() {
    let host = Host::new();
    let client = host.open();
    let sem = create(&client, SEM_TYPE_EVENT);
    let result = wait_while(&host, &client, (SEM_TYPE_EVENT, sem, WAIT_MS, 100), || {
        op(&client, SEM_TYPE_EVENT, sem, CLOSE, 0);
        // All other free numbers come first.
        let others: Vec<u32> = (1..2048).map(|_| create(&client, SEM_TYPE_EVENT)).collect();
        assert!(!others.contains(&sem));
        assert_eq!(create(&client, SEM_TYPE_EVENT), sem);
        op(&client, SEM_TYPE_EVENT, sem, SIGNAL, 0);
        assert_eq!(host.os().waiting_threads(), 1);
        host.os().advance(100_000_000);
    });
    assert_eq!(result, VERR_TIMEOUT);
}

#[test]
fn each_signal_wakes_one_waiter_of_a_single_release_semaphore() {
    let host = Host::new();
    let client = host.open();
    let sem = create(&client, SEM_TYPE_EVENT);
    let awake = std::sync::atomic::AtomicUsize::new(0);
    use std::sync::atomic::Ordering::SeqCst;
    std::thread::scope(|scope| {
        for _ in 0..10 {
            scope.spawn(|| {
                assert_eq!(op(&client, SEM_TYPE_EVENT, sem, WAIT_MS, FOREVER_MS), VINF_SUCCESS);
                awake.fetch_add(1, SeqCst);
            });
        }
        host.os().wait_until_waiting(10);
        for woken in 1..=10 {
            op(&client, SEM_TYPE_EVENT, sem, SIGNAL, 0);
            while awake.load(SeqCst) < woken {
                std::thread::sleep(Duration::from_micros(100));
            }
            assert_eq!((awake.load(SeqCst), host.os().waiting_threads()), (woken, 10 - woken));
        }
    });
}

#[test]
fn one_signal_wakes_all_waiters_of_a_multiple_release_semaphore_even_if_a_reset_follows() {
    let host = Host::new();
    let client = host.open();
    let sem = create(&client, SEM_TYPE_EVENT_MULTI);
    std::thread::scope(|scope| {
        let waiters: Vec<_> = (0..10)
            .map(|_| scope.spawn(|| op(&client, SEM_TYPE_EVENT_MULTI, sem, WAIT_MS, FOREVER_MS)))
            .collect();
        host.os().wait_until_waiting(10);
        op(&client, SEM_TYPE_EVENT_MULTI, sem, SIGNAL, 0);
        op(&client, SEM_TYPE_EVENT_MULTI, sem, RESET, 0);
        for waiter in waiters {
            assert_eq!(waiter.join().expect("a waiter"), VINF_SUCCESS);
        }
    });
    assert_eq!(op(&client, SEM_TYPE_EVENT_MULTI, sem, WAIT_MS, 0), VERR_TIMEOUT);
}

/// The process is killed: its waits end, then the last reference to the session goes.
#[test]
fn a_killed_process_leaves_nothing() {
    let host = Host::new();
    for _ in 0..32 {
        let client = host.open();
        let waiters: Vec<_> = KINDS
            .into_iter()
            .flat_map(|sem_type| (0..5).map(move |_| sem_type))
            .flat_map(|sem_type| [(sem_type, 3_600_000_u64), (sem_type, FOREVER_MS)])
            .map(|(sem_type, ms)| {
                let sem = create(&client, sem_type);
                (client.reference(), sem, sem_type, ms)
            })
            .collect();
        client.close();
        std::thread::scope(|scope| {
            let count = waiters.len();
            for (session, sem, sem_type, ms) in waiters {
                scope.spawn(move || {
                    let timeout = supdrv_core::semaphore::timeout_ms(ms as u32);
                    let result = session.sem_wait(sem, kind(sem_type), timeout, WaitMode::Interruptible);
                    assert_eq!(result, Err(VERR_INTERRUPTED));
                });
            }
            host.os().wait_until_waiting(count);
            host.os().interrupt_waiting();
        });
        assert_eq!((host.counters().sessions, host.os().live(Kind::Event)), (0, 0));
    }
}

#[test]
fn a_closing_session_destroys_its_semaphores() {
    let host = Host::new();
    let client = host.open();
    for sem_type in KINDS {
        (0..10).for_each(|_| _ = create(&client, sem_type));
    }
    assert_eq!((host.os().live(Kind::Event), host.counters().objects), (20, 20));
    client.close();
    assert_eq!((host.os().live(Kind::Event), host.counters().objects), (0, 0));
}

#[test]
fn modules_may_wait_uninterruptibly() {
    let host = Host::new();
    let client = host.open();
    let session = client.session();
    let sem = session.sem_create(EventKind::SingleRelease).expect("a semaphore");
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            let timeout = Timeout::RelativeNs(1_000_000);
            session.sem_wait(sem, EventKind::SingleRelease, timeout, WaitMode::Uninterruptible)
        });
        host.os().wait_until_waiting(1);
        host.os().interrupt_waiting();
        assert_eq!(host.os().waiting_threads(), 1);
        host.os().advance(1_000_000);
        assert_eq!(waiter.join().expect("the waiter"), Err(VERR_TIMEOUT));
    });
    assert_eq!(session.sem_close(sem, EventKind::SingleRelease), Ok(Released::Destroyed));
}

/// Lookup, signal and release work with interrupts off: the machine reports what doesn't belong there.
#[test]
fn signals_work_with_interrupts_off() {
    let host = Host::new();
    let client = host.open();
    let single = create(&client, SEM_TYPE_EVENT);
    let multi = create(&client, SEM_TYPE_EVENT_MULTI);
    host.os().with_irqs_off(|| {
        client.session().sem_signal(single, EventKind::SingleRelease).expect("signalled");
        client.session().sem_signal(multi, EventKind::MultiRelease).expect("signalled");
        client.session().sem_reset(multi).expect("reset");
        assert_eq!(client.session().sem_signal(77, EventKind::SingleRelease), Err(VERR_INVALID_HANDLE));
    });
    assert_eq!(op(&client, SEM_TYPE_EVENT, single, WAIT_MS, 0), VINF_SUCCESS);
    assert_eq!(op(&client, SEM_TYPE_EVENT_MULTI, multi, WAIT_MS, 0), VERR_TIMEOUT);
}

// ---------------------------------------------------------------------------------------------- handles

#[test]
fn a_freed_handle_is_the_last_to_come_back() {
    let host = Host::new();
    let client = host.open();
    let first: Vec<u32> = (0..3).map(|_| create(&client, SEM_TYPE_EVENT)).collect();
    assert_eq!(first, [1, 2, 3]);
    op(&client, SEM_TYPE_EVENT, 2, CLOSE, 0);
    assert_eq!(create(&client, SEM_TYPE_EVENT), 4);
    for expected in 5..=2048 {
        assert_eq!(create(&client, SEM_TYPE_EVENT), expected);
    }
    assert_eq!(create(&client, SEM_TYPE_EVENT), 2);
    assert_eq!(create(&client, SEM_TYPE_EVENT), 2049, "a new block");
}

#[test]
fn a_session_has_32768_handles_of_both_kinds_together() {
    let host = Host::new();
    let client = host.open();
    for number in 1..=32768_u32 {
        assert_eq!(create(&client, number % 2), number);
    }
    for sem_type in KINDS {
        let live = host.os().live_all();
        assert_eq!(client.sem_op3(sem_type, 0, CREATE), Err(VERR_NO_MORE_HANDLES));
        assert_eq!(host.os().live_all(), live, "no leak");
    }
    for number in [1, 2, 2048, 2049, 32767, 32768] {
        assert_eq!(op(&client, number % 2, number, SIGNAL, 0), VINF_SUCCESS);
        assert_eq!(op(&client, number % 2, number, WAIT_MS, 0), VINF_SUCCESS);
        assert_eq!(op(&client, 1 - number % 2, number, SIGNAL, 0), VERR_INVALID_HANDLE);
    }
    assert_eq!(op(&client, 1, 20001, CLOSE, 0), VINF_OBJECT_DESTROYED);
    assert_eq!(create(&client, SEM_TYPE_EVENT), 20001, "the only free one");
    assert_eq!(create(&host.open(), SEM_TYPE_EVENT), 1, "other sessions aren't concerned");
}

#[test]
fn a_table_that_can_not_grow_keeps_what_it_has() {
    let host = Host::new();
    let client = host.open();
    for _ in 0..2048 {
        create(&client, SEM_TYPE_EVENT);
    }
    // The semaphore, its object, two nodes and a usage come first, then the block.
    let mut failed_on_block = false;
    for skip in 0..8 {
        let live = host.os().live_all();
        host.os().fail_later(Call::HeapAlloc, skip, VERR_NO_MEMORY);
        match client.sem_op3(SEM_TYPE_EVENT, 0, CREATE) {
            Err(status) => {
                assert_eq!((status, host.os().live_all()), (VERR_NO_MEMORY, live), "allocation {skip}")
            }
            Ok(handle) => {
                assert_eq!(handle, 2049);
                failed_on_block = skip > 3;
                break;
            }
        }
    }
    host.os().cancel_failures();
    assert!(failed_on_block);
    assert_eq!(op(&client, SEM_TYPE_EVENT, 2048, SIGNAL, 0), VINF_SUCCESS);
}

#[test]
fn threads_that_grow_the_table_together_get_different_handles() {
    let host = Host::new();
    let client = host.open();
    let handles: Vec<Vec<u32>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| (0..3000).map(|_| create(&client, SEM_TYPE_EVENT)).collect()))
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("a thread")).collect()
    });
    let mut all: Vec<u32> = handles.into_iter().flatten().collect();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 12000);
    assert!(all.iter().all(|handle| (1..=32768).contains(handle)));
}

// ---------------------------------------------------------------------------------------------- failures, races

#[test]
fn creation_fails_with_the_status_of_what_failed() {
    let host = Host::new();
    let client = host.open();
    let reply = |status| {
        host.os().fail_next(Call::EventCreate, status);
        let request = Request::new(Function::SemOp3).input(&zeroed::<r::SemOp3In>()).output::<r::SemOp3In>();
        client.send(&request)
    };
    let failed = reply(VERR_NO_MEMORY);
    assert_eq!((failed.call, failed.rc()), (Ok(()), VERR_NO_MEMORY));
    assert_eq!({ failed.output::<r::SemOp3Out>().value }, 0);
    assert_eq!(reply(VERR_NO_MORE_HANDLES).rc(), VERR_NO_MORE_HANDLES, "whatever the system says");
    // The object can't be registered: a failure, not a success without a handle.
    for skip in 0..5 {
        let live = host.os().live_all();
        host.os().fail_later(Call::HeapAlloc, skip, VERR_NO_MEMORY);
        assert_eq!(client.sem_op3(SEM_TYPE_EVENT, 0, CREATE), Err(VERR_NO_MEMORY), "allocation {skip}");
        assert_eq!(host.os().live_all(), live);
    }
    assert_eq!(create(&client, SEM_TYPE_EVENT), 1);
}

#[test]
fn every_failure_is_survived() {
    let replayed = replay(|os| {
        os.set_waits_advance_clock(true);
        let host = Host::on(os)?;
        let client = host.step(|| host.open_as(SessionKind::User));
        for sem_type in KINDS {
            let sem = host.step(|| client.sem_op3(sem_type, 0, CREATE));
            host.step(|| client.sem_op2(sem_type, sem, SIGNAL, 0));
            assert_eq!(op(&client, sem_type, sem, WAIT_MS, 5), VINF_SUCCESS);
            assert_eq!(op(&client, sem_type, sem, CLOSE, 0), VINF_OBJECT_DESTROYED);
            host.step(|| client.sem_op3(sem_type, 0, CREATE));
        }
        Ok(())
    });
    assert!(replayed.calls > 20 && replayed.survived > 20, "{replayed:?}");
}

/// Signals, waits and closes of the same handles on many threads; the machine reports use after free and leaks.
#[test]
fn operations_race_with_closing() {
    let host = Host::new();
    let client = host.open();
    for _ in 0..300 {
        for sem_type in KINDS {
            let sem = create(&client, sem_type);
            std::thread::scope(|scope| {
                for operation in [SIGNAL, WAIT_MS, SIGNAL] {
                    let client = &client;
                    scope.spawn(move || {
                        let status = op(client, sem_type, sem, operation, 0);
                        assert!(
                            [VINF_SUCCESS, VERR_INVALID_HANDLE, VERR_TIMEOUT].contains(&status),
                            "{status:?}"
                        );
                    });
                }
                let status = op(&client, sem_type, sem, CLOSE, 0);
                assert!([VINF_SUCCESS, VINF_OBJECT_DESTROYED].contains(&status), "{status:?}");
            });
            assert_eq!(host.os().live(Kind::Event), 0);
        }
    }
}
