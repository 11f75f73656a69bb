//! Processors: interrupts, groups, and those that are added.

use super::*;
use std::ffi::c_void;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use supdrv_core::abi::status::{VERR_CPU_NOT_FOUND, VERR_CPU_OFFLINE};
use supdrv_core::os::{OsCpu, OsModule, OsTimer, TimerSpec, TimerTarget};
use supdrv_windows::Windows;

/// How often something ran on each processor.
struct Seen([AtomicU32; 96]);

impl Seen {
    const fn new() -> Self {
        Self([const { AtomicU32::new(0) }; 96])
    }

    fn note(&self) {
        self.0[Windows.cpu_id() as usize].fetch_add(1, Ordering::SeqCst);
    }

    fn count(&self, cpu: usize) -> u32 {
        self.0[cpu].load(Ordering::SeqCst)
    }

    fn context(&self) -> *mut c_void {
        std::ptr::from_ref(self).cast_mut().cast()
    }
}

unsafe extern "C" fn note(_cpu: u32, seen: *mut c_void) {
    // SAFETY: the tests pass one that outlives the call.
    unsafe { &*seen.cast::<Seen>() }.note();
}

unsafe extern "C" fn tick(_timer: *mut c_void, seen: *mut c_void, _tick: u64) {
    // SAFETY: the tests pass one that outlives the timer.
    unsafe { &*seen.cast::<Seen>() }.note();
}

fn with_processors(processors: u32, test: impl FnOnce(&Machine)) {
    let machine = Machine::new(Config { processors, ..Config::default() });
    let driver = machine.load().unwrap();
    test(&machine);
    driver.unload();
    assert_clean(&machine);
}

#[test]
fn others_are_interrupted_one_by_one_and_strangers_are_not() {
    with_processors(80, |machine| {
        for _ in 0..2 {
            for cpu in (0..80).chain(0..80) {
                assert_eq!(Windows.mp_poke(cpu), Ok(()), "{cpu}");
            }
            // The second interrupt is the first one, which is still on its way; the caller's processor needs none.
            assert_eq!(machine.take_interrupts(), Vec::from_iter(1..80));
            machine.run_dpcs();
        }
        assert_eq!(Windows.mp_poke(5_000), Err(VERR_CPU_NOT_FOUND));
        for (irql, interrupts) in [(2, true), (13, true), (2, false)] {
            machine.set_context(irql, interrupts);
            assert_eq!(Windows.mp_poke(70), Ok(()));
            machine.set_context(0, true);
            assert_eq!(machine.take_interrupts(), [70], "at any level");
            machine.run_dpcs();
        }
    });
}

#[test]
fn of_all_groups_are_reached() {
    with_processors(80, |_| {
        let seen = Seen::new();
        assert_eq!((Windows.cpu_present_count(), Windows.cpu_online_set().count()), (80, 80));
        // SAFETY: the worker takes a `Seen`.
        unsafe { Windows.mp_on_all(note, seen.context()) }.unwrap();
        assert!((0..80).all(|cpu| seen.count(cpu) == 1));
        // SAFETY: as above.
        unsafe { Windows.mp_on_cpu(70, note, seen.context()) }.unwrap();
        assert_eq!((seen.count(70), seen.count(6)), (2, 1), "in the second group");
        // SAFETY: as above.
        let (offline, unknown) = unsafe {
            (Windows.mp_on_cpu(81, note, seen.context()), Windows.mp_on_cpu(90, note, seen.context()))
        };
        assert_eq!((offline, unknown), (Err(VERR_CPU_OFFLINE), Err(VERR_CPU_NOT_FOUND)));
    });
}

#[test]
fn that_are_added_get_their_ticks_of_running_timers() {
    with_processors(64, |machine| {
        let seen = Seen::new();
        let until = |cpu: usize, more: u32| {
            let (begin, start) = (seen.count(cpu), Instant::now());
            while seen.count(cpu) < begin + more {
                assert!(start.elapsed() < Duration::from_secs(20), "no ticks on processor {cpu}");
                std::thread::sleep(Duration::from_millis(1));
            }
        };
        let spec = TimerSpec {
            target: TimerTarget::All,
            interval_ns: 2_000_000,
            callback: tick,
            context: seen.context(),
        };
        let timer = Windows.timer_create(&spec).unwrap();
        machine.add_processor();
        assert_eq!(seen.count(64), 0, "it doesn't run");
        Windows.timer_start(&timer, 0).unwrap();
        until(0, 3);
        until(64, 3);
        // The first one of the second group was there at the start, this one wasn't.
        machine.add_processor();
        until(65, 3);
        Windows.timer_stop(&timer).unwrap();
        drop(timer);
        machine.add_processor();
    });
}
