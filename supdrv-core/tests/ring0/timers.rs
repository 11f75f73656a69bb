//! `RTTimer*` and `RTTime*`.

use std::ffi::c_void;
use std::ptr::null_mut;
use std::sync::Mutex;

use crate::harness::{Machine, current, ok, replay};
use crate::import;

type Callback = unsafe extern "C" fn(usize, *mut c_void, u64);

import! {
    fn RTTimerCreate(out: *mut usize, interval_ms: u32, callback: Option<Callback>, user: *mut c_void) -> i32;
    fn RTTimerCreateEx(out: *mut usize, interval_ns: u64, flags: u32, callback: Option<Callback>, user: *mut c_void) -> i32;
    fn RTTimerDestroy(timer: usize) -> i32;
    fn RTTimerStart(timer: usize, first_ns: u64) -> i32;
    fn RTTimerStop(timer: usize) -> i32;
    fn RTTimerChangeInterval(timer: usize, interval_ns: u64) -> i32;
    fn RTTimerCanDoHighResolution() -> bool;
    fn RTTimerGetSystemGranularity() -> u32;
    fn RTTimerRequestSystemGranularity(wanted: u32, granted: *mut u32) -> i32;
    fn RTTimerReleaseSystemGranularity(granted: u32) -> i32;
    fn RTTimeNanoTS() -> u64;
    fn RTTimeMilliTS() -> u64;
    fn RTTimeSystemNanoTS() -> u64;
    fn RTTimeSystemMilliTS() -> u64;
    fn RTTimeNow(time: *mut i64) -> *mut i64;
}

const MS: u64 = 1_000_000;

/// Ticks, with the timer and the CPU that they came with.
#[derive(Default)]
struct Seen(Mutex<Vec<(usize, u64, usize)>>);

impl Seen {
    fn user(&self) -> *mut c_void {
        std::ptr::from_ref(self).cast_mut().cast()
    }

    fn ticks(&self) -> Vec<u64> {
        self.0.lock().unwrap().iter().map(|(_, tick, _)| *tick).collect()
    }
}

unsafe extern "C" fn tick(timer: usize, seen: *mut c_void, tick: u64) {
    // SAFETY: the timers of these tests get a Seen.
    let seen = unsafe { &*seen.cast::<Seen>() };
    seen.0.lock().unwrap().push((timer, tick, current().current_cpu()));
}

fn timer(interval_ns: u64, flags: u32, seen: &Seen) -> usize {
    let mut timer = 0;
    assert_eq!(RTTimerCreateEx(&raw mut timer, interval_ns, flags, Some(tick), seen.user()), 0);
    timer
}

#[test]
fn flags_and_pointers_are_checked() {
    let _machine = Machine::new();
    let (mut timer, user) = (7, null_mut());
    let mut create = |interval, flags| RTTimerCreateEx(&raw mut timer, interval, flags, Some(tick), user);
    assert_eq!((create(MS, 0x400), create(MS, 1), create(MS, 0x105), create(0, 0x1ff)), (-2, -2, -801, -37));
    assert_eq!(timer, 0);
    assert_eq!(RTTimerCreateEx(null_mut(), MS, 0, Some(tick), user), -6);
    assert_eq!(RTTimerCreateEx(&raw mut timer, MS, 0, None, user), -6);
    assert_eq!(
        (RTTimerDestroy(0), RTTimerStart(0, 0), RTTimerStop(0), RTTimerChangeInterval(0, 5)),
        (0, -4, -4, -4)
    );
}

#[test]
fn a_timer_starts_stops_and_starts_again() {
    let machine = Machine::new();
    let seen = Seen::default();
    let timer = timer(10 * MS, 0, &seen);
    assert_eq!(RTTimerStop(timer), -69);
    assert_eq!((RTTimerStart(timer, 10 * MS), RTTimerStart(timer, 0)), (0, -68));
    machine.advance(35 * MS);
    assert_eq!(seen.ticks(), [1, 2, 3]);
    assert!(
        seen.0.lock().unwrap().iter().all(|(from, ..)| *from == timer),
        "the callback gets the module's handle"
    );
    assert_eq!((RTTimerStop(timer), RTTimerStop(timer)), (0, -69));
    machine.advance(100 * MS);
    assert_eq!(RTTimerStart(timer, 0), 0);
    machine.advance(MS);
    assert_eq!(seen.ticks(), [1, 2, 3, 1]);
    assert_eq!(RTTimerDestroy(timer), 0);
    machine.advance(100 * MS);
    assert_eq!(seen.ticks().len(), 4);
    assert_eq!(RTTimerDestroy(timer), -4);
}

#[test]
fn a_timer_in_ms_runs_at_once() {
    let machine = Machine::new();
    let (seen, mut timer) = (Seen::default(), 0);
    assert_eq!(RTTimerCreate(&raw mut timer, 10, Some(tick), seen.user()), 0);
    machine.advance(1000 * MS);
    let ticks = seen.ticks();
    assert!((98..=101).contains(&ticks.len()));
    assert_eq!(ticks.last().copied(), Some(ticks.len() as u64));
    RTTimerDestroy(timer);
}

unsafe extern "C" fn stop_itself(timer: usize, seen: *mut c_void, number: u64) {
    // SAFETY: as for tick.
    unsafe { tick(timer, seen, number) };
    assert_eq!((RTTimerStop(timer), RTTimerStop(timer)), (0, -69));
}

#[test]
fn a_timer_can_be_stopped_in_its_callback() {
    let machine = Machine::new();
    let (seen, mut timer) = (Seen::default(), 0);
    RTTimerCreateEx(&raw mut timer, MS, 0, Some(stop_itself), seen.user());
    assert_eq!(RTTimerStart(timer, MS), 0);
    machine.advance(50 * MS);
    assert_eq!(seen.ticks(), [1]);
    assert_eq!(RTTimerStart(timer, MS), 0, "it is stopped, whatever the system's timer is");
    machine.advance(50 * MS);
    assert_eq!(seen.ticks(), [1, 1]);
    RTTimerDestroy(timer);
}

#[test]
fn a_one_shot_is_stopped_when_it_fires() {
    let machine = Machine::new();
    let seen = Seen::default();
    let timer = timer(0, 0, &seen);
    RTTimerStart(timer, 5 * MS);
    machine.advance(50 * MS);
    assert_eq!((seen.ticks(), RTTimerStop(timer)), (vec![1], -69));
    assert_eq!(RTTimerStart(timer, 5 * MS), 0);
    machine.advance(50 * MS);
    assert_eq!((seen.ticks(), RTTimerChangeInterval(timer, MS)), (vec![1, 1], -37));
    RTTimerDestroy(timer);
}

#[test]
fn timers_fire_on_the_cpus_that_were_asked_for() {
    let machine = Machine::with_cpus(4);
    let (one, all) = (Seen::default(), Seen::default());
    let (specific, omni) = (timer(10 * MS, 0x102, &one), timer(10 * MS, 0x1ff, &all));
    assert_eq!((RTTimerStart(specific, MS), RTTimerStart(omni, MS)), (0, 0));
    machine.advance(5 * MS);
    assert_eq!(one.0.lock().unwrap()[0].2, 2);
    let mut cpus: Vec<usize> = all.0.lock().unwrap().iter().map(|(.., cpu)| *cpu).collect();
    cpus.sort_unstable();
    assert_eq!(cpus, [0, 1, 2, 3]);
    RTTimerDestroy(omni);
    RTTimerDestroy(specific);
    machine.set_online(3, false);
    let offline = timer(MS, 0x103, &one);
    assert_eq!((RTTimerStart(offline, 0), RTTimerStop(offline)), (-800, -69));
    RTTimerDestroy(offline);
}

#[test]
fn the_interval_can_be_changed() {
    let machine = Machine::new();
    let seen = Seen::default();
    let timer = timer(100 * MS, 0, &seen);
    assert_eq!((RTTimerChangeInterval(timer, 0), RTTimerChangeInterval(timer, 10 * MS)), (-2, 0));
    RTTimerStart(timer, 10 * MS);
    machine.advance(50 * MS);
    assert!(seen.ticks().len() >= 4, "{:?}", seen.ticks());
    RTTimerDestroy(timer);
}

#[test]
fn granularity_is_asked_for_and_given_back() {
    let machine = Machine::new();
    assert!(!RTTimerCanDoHighResolution() && RTTimerGetSystemGranularity() > 0);
    machine.set_timer_granularity_ns(10_000_000, 1_000_000);
    let mut granted = 0;
    assert_eq!(RTTimerRequestSystemGranularity(1_000_000, &raw mut granted), 0);
    assert_eq!((granted, RTTimerReleaseSystemGranularity(granted)), (1_000_000, 0));
}

#[test]
fn clocks_agree() {
    let machine = Machine::new();
    machine.advance(7_654_321_000);
    let now = RTTimeNanoTS();
    assert!(
        RTTimeSystemNanoTS() >= now && RTTimeMilliTS() >= now / MS && RTTimeSystemMilliTS() - now / MS <= 1
    );
    let mut wall = 0;
    assert_eq!(RTTimeNow(&raw mut wall), &raw mut wall);
    assert!(wall > 1_300_000_000_000_000_000);
}

#[test]
fn creation_fails_cleanly() {
    replay(|_| {
        let mut timer = 0;
        let result = ok(RTTimerCreate(&raw mut timer, 10, Some(tick), null_mut()));
        assert_eq!(result.is_ok(), timer != 0);
        RTTimerDestroy(timer);
        result
    });
}
