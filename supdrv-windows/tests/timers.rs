//! Timers, on kernels that have those of high resolution and on those that don't.

use std::collections::BTreeSet;
use std::ffi::c_void;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use supdrv_core::abi::status::{VERR_TIMER_ACTIVE, VERR_TIMER_SUSPENDED};
use supdrv_core::os::{OsCpu, OsTimer, TimerSpec, TimerTarget};
use supdrv_windows::Windows;
use supdrv_windows::fake::{Account, Config, Machine};

/// Processors and tick numbers of the calls.
type Calls = Mutex<Vec<(u32, u64)>>;

unsafe extern "C" fn tick(_timer: *mut c_void, calls: *mut c_void, tick: u64) {
    // SAFETY: the tests pass one that outlives the timer.
    unsafe { &*calls.cast::<Calls>() }.lock().unwrap().push((Windows.cpu_id(), tick));
}

fn spec(target: TimerTarget, interval_ns: u64, calls: &Calls) -> TimerSpec {
    TimerSpec { interval_ns, target, callback: tick, context: std::ptr::from_ref(calls).cast_mut().cast() }
}

/// Waits for some number of calls.
fn until(calls: &Calls, count: usize) {
    let start = Instant::now();
    while calls.lock().unwrap().len() < count {
        assert!(start.elapsed() < Duration::from_secs(20), "the timer stands still");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn fine_timers(machine: &Machine) -> usize {
    machine.account(|account| account.fine_timers.len())
}

/// On a kernel with timers of high resolution, and on one without.
fn on_both(test: impl Fn(&Machine, bool)) {
    for fine in [true, false] {
        let missing: BTreeSet<_> = if fine { BTreeSet::new() } else { BTreeSet::from(["ExAllocateTimer"]) };
        let machine = Machine::new(Config { missing, ..Config::default() });
        let driver = machine.load().unwrap();
        test(&machine, fine);
        driver.unload();
        assert_eq!(machine.account(Account::left), "");
        assert_eq!(machine.context(), (0, true));
    }
}

#[test]
fn a_timer_is_of_high_resolution_where_the_kernel_has_such() {
    on_both(|machine, fine| {
        let before = fine_timers(machine);
        let calls = Calls::default();
        let timer = Windows.timer_create(&spec(TimerTarget::Any, 500_000, &calls)).unwrap();
        assert_eq!(fine_timers(machine) - before, usize::from(fine));
        Windows.timer_start(&timer, 0).unwrap();
        assert_eq!(Windows.timer_start(&timer, 0), Err(VERR_TIMER_ACTIVE));
        until(&calls, 5);
        Windows.timer_stop(&timer).unwrap();
        assert_eq!(Windows.timer_stop(&timer), Err(VERR_TIMER_SUSPENDED));
        drop(timer);
        assert_eq!(fine_timers(machine), before);
        let ticks: Vec<u64> = calls.lock().unwrap().iter().map(|(_, tick)| *tick).collect();
        assert!(ticks.iter().copied().eq(1..=ticks.len() as u64), "{ticks:?}");
        std::thread::sleep(Duration::from_millis(5));
        assert_eq!(calls.lock().unwrap().len(), ticks.len(), "it is gone");
    });
}

#[test]
fn a_timer_of_each_processor_runs_there_and_counts_for_itself() {
    on_both(|machine, fine| {
        let before = fine_timers(machine);
        let calls = Calls::default();
        let timer = Windows.timer_create(&spec(TimerTarget::All, 1_000_000, &calls)).unwrap();
        assert_eq!(fine_timers(machine) > before, fine);
        for _ in 0..2 {
            calls.lock().unwrap().clear();
            Windows.timer_start(&timer, 1_000_000).unwrap();
            until(&calls, 10);
            Windows.timer_stop(&timer).unwrap();
            for cpu in 0..Windows.cpu_present_count() as u32 {
                let calls = calls.lock().unwrap();
                let ticks: Vec<u64> = calls.iter().filter(|call| call.0 == cpu).map(|call| call.1).collect();
                assert!(
                    ticks.len() > 1 && ticks.iter().copied().eq(1..=ticks.len() as u64),
                    "{cpu}: {ticks:?}"
                );
            }
        }
    });
}

#[test]
fn a_one_shot_timer_expires_once_for_each_start() {
    on_both(|_, _| {
        let calls = Calls::default();
        let timer = Windows.timer_create(&spec(TimerTarget::Cpu(1), 0, &calls)).unwrap();
        for starts in 1..4 {
            Windows.timer_start(&timer, 200_000).unwrap();
            until(&calls, starts);
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(*calls.lock().unwrap(), [(1, 1); 3]);
    });
}

#[test]
fn timers_that_are_destroyed_while_they_run_never_call_again() {
    on_both(|_, _| {
        for _ in 0..30 {
            let calls = Calls::default();
            let timer = Windows.timer_create(&spec(TimerTarget::All, 100_000, &calls)).unwrap();
            Windows.timer_start(&timer, 0).unwrap();
            until(&calls, 2);
            drop(timer);
            let count = calls.lock().unwrap().len();
            std::thread::sleep(Duration::from_millis(1));
            assert_eq!(calls.lock().unwrap().len(), count);
        }
    });
}

#[test]
fn without_memory_for_one_of_high_resolution_an_ordinary_one_serves() {
    let machine = Machine::new(Config::default());
    let driver = machine.load().unwrap();
    let before = fine_timers(&machine);
    let calls = Calls::default();
    // Two blocks of the heap come first.
    machine.fail(3);
    let timer = Windows.timer_create(&spec(TimerTarget::Any, 1_000_000, &calls)).unwrap();
    machine.fail(0);
    assert_eq!(fine_timers(&machine), before);
    Windows.timer_start(&timer, 0).unwrap();
    until(&calls, 3);
    drop(timer);
    driver.unload();
    assert_eq!(machine.account(Account::left), "");
}
