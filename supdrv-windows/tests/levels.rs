//! Locks, events and preemption: what they do to IRQL and interrupt flag, and where they may be used.

use std::cell::UnsafeCell;

use supdrv_core::abi::status::{VERR_INTERRUPTED, VERR_TIMEOUT};
use supdrv_core::os::{
    EventKind, LockClass, OsEvent, OsIdentity, OsLock, OsModule, OsTime, Timeout, WaitMode,
};
use supdrv_windows::Windows;
use supdrv_windows::fake::{Account, Config, Machine};

fn with_driver(test: impl FnOnce(&Machine)) {
    let machine = Machine::new(Config::default());
    let driver = machine.load().unwrap();
    test(&machine);
    driver.unload();
    assert_eq!(machine.account(Account::left), "");
    assert_eq!(machine.context(), (0, true));
}

#[test]
fn an_irq_safe_lock_raises_and_disables_only_where_interrupts_are_on() {
    with_driver(|machine| {
        let lock = Windows.spinlock_create(LockClass::ModuleIrqSpin).unwrap();
        for (before, inside) in [
            ((0, true), (2, false)),
            ((1, true), (2, false)),
            ((2, true), (2, false)),
            ((13, true), (13, false)),
            ((0, false), (0, false)),
            ((2, false), (2, false)),
        ] {
            machine.set_context(before.0, before.1);
            let state = Windows.spinlock_acquire_irq(&lock);
            assert_eq!(machine.context(), inside, "from {before:?}");
            // SAFETY: acquired above.
            unsafe { Windows.spinlock_release_irq(&lock, state) };
            assert_eq!(machine.context(), before);
        }
        machine.set_context(0, true);
    });
}

#[test]
fn locks_nest_and_each_restores_what_it_found() {
    with_driver(|machine| {
        let outer = Windows.spinlock_create(LockClass::ModuleSpin).unwrap();
        let inner = Windows.spinlock_create(LockClass::ModuleIrqSpin).unwrap();
        for irql in [0, 2] {
            machine.set_context(irql, true);
            Windows.spinlock_acquire(&outer);
            assert_eq!(machine.context(), (2, true));
            let state = Windows.spinlock_acquire_irq(&inner);
            assert_eq!(machine.context(), (2, false));
            // SAFETY: acquired above, in this order.
            unsafe { Windows.spinlock_release_irq(&inner, state) };
            assert_eq!(machine.context(), (2, true));
            // SAFETY: as above.
            unsafe { Windows.spinlock_release(&outer) };
            assert_eq!(machine.context(), (irql, true));
        }
        machine.set_context(0, true);
    });
}

/// A number that nothing but a lock protects.
struct Counter(UnsafeCell<u64>);

// SAFETY: the tests change it under a lock.
unsafe impl Sync for Counter {}

#[test]
fn locks_of_all_kinds_keep_others_out() {
    const ROUNDS: u64 = 20_000;
    with_driver(|_| {
        let spin = Windows.spinlock_create(LockClass::ModuleSpin).unwrap();
        let irq = Windows.spinlock_create(LockClass::ModuleIrqSpin).unwrap();
        let mutex = Windows.mutex_create(LockClass::ModuleMutex).unwrap();
        let counters = [const { Counter(UnsafeCell::new(0)) }; 3];
        // SAFETY: under the lock of the counter.
        let count = |at: usize| unsafe { *counters[at].0.get() += 1 };
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..ROUNDS {
                        Windows.spinlock_acquire(&spin);
                        count(0);
                        // SAFETY: acquired above.
                        unsafe { Windows.spinlock_release(&spin) };
                        let state = Windows.spinlock_acquire_irq(&irq);
                        count(1);
                        // SAFETY: acquired above.
                        unsafe { Windows.spinlock_release_irq(&irq, state) };
                        Windows.mutex_acquire(&mutex);
                        count(2);
                        // SAFETY: acquired above.
                        unsafe { Windows.mutex_release(&mutex) };
                    }
                });
            }
        });
        assert_eq!(counters.map(|counter| counter.0.into_inner()), [2 * ROUNDS; 3]);
    });
}

#[test]
fn a_mutex_leaves_the_level_alone() {
    with_driver(|machine| {
        let mutex = Windows.mutex_create(LockClass::ModuleMutex).unwrap();
        Windows.mutex_acquire(&mutex);
        assert_eq!(machine.context(), (0, true));
        Windows.sleep_ms(1);
        // SAFETY: acquired above.
        unsafe { Windows.mutex_release(&mutex) };
    });
}

#[test]
fn an_event_can_be_signalled_at_any_level_and_polled_at_dispatch() {
    with_driver(|machine| {
        let event = Windows.event_create(EventKind::SingleRelease).unwrap();
        let poll = || Windows.event_wait(&event, Timeout::RelativeNs(0), WaitMode::Uninterruptible);
        for (irql, interrupts) in [(0, true), (2, true), (13, true), (0, false), (2, false)] {
            machine.set_context(irql, interrupts);
            Windows.event_signal(&event);
            machine.set_context(0, true);
            machine.run_dpcs();
            machine.set_context(2, true);
            assert_eq!((poll(), poll()), (Ok(()), Err(VERR_TIMEOUT)), "{irql} {interrupts}");
            machine.set_context(0, true);
        }
    });
}

#[test]
fn the_end_of_a_thread_interrupts_only_waits_that_allow_it_and_a_signal_wins() {
    with_driver(|machine| {
        let event = Windows.event_create(EventKind::SingleRelease).unwrap();
        let wait = |mode| Windows.event_wait(&event, Timeout::RelativeNs(2_000_000), mode);
        machine.end_thread(Machine::thread());
        assert_eq!(wait(WaitMode::Uninterruptible), Err(VERR_TIMEOUT));
        assert_eq!(wait(WaitMode::Interruptible), Err(VERR_INTERRUPTED));
        Windows.event_signal(&event);
        assert_eq!(wait(WaitMode::Interruptible), Ok(()));
        let past = Timeout::DeadlineNs(Windows.system_nano_ts());
        assert_eq!(Windows.event_wait(&event, past, WaitMode::Interruptible), Err(VERR_TIMEOUT));
    });
}

#[test]
fn preemption_is_off_until_the_last_one_who_wanted_that_is_done() {
    with_driver(|machine| {
        assert!(Windows.preempt_is_enabled());
        let outer = Windows.preempt_disable();
        let inner = Windows.preempt_disable();
        assert!(!Windows.preempt_is_enabled());
        // SAFETY: the matching disable.
        unsafe { Windows.preempt_restore(inner) };
        assert!(!Windows.preempt_is_enabled() && machine.context() == (2, true));
        // SAFETY: the matching disable.
        unsafe { Windows.preempt_restore(outer) };
        assert!(Windows.preempt_is_enabled());
        for (irql, interrupt) in [(0, false), (1, false), (2, false), (13, true)] {
            machine.set_context(irql, true);
            assert_eq!(Windows.is_in_interrupt(), interrupt, "{irql}");
        }
        machine.set_context(0, false);
        assert!(!Windows.preempt_is_enabled());
        machine.set_context(0, true);
    });
}
