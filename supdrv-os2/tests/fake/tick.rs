//! The clock: the global info segment, and the tick that advances it.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use fakekernel::{context, ticker, violation};

use super::{lock, machine};

/// The start of the segment.
#[repr(C)]
#[derive(Default)]
pub struct GlobalInfo {
    pub seconds: AtomicU32,
    pub milliseconds: AtomicU32,
    pub hour: AtomicU8,
    pub minute: AtomicU8,
    pub second: AtomicU8,
    pub hundredths: AtomicU8,
    pub time_zone: AtomicU16,
}

static INFO: GlobalInfo = GlobalInfo {
    seconds: AtomicU32::new(0),
    milliseconds: AtomicU32::new(0),
    hour: AtomicU8::new(0),
    minute: AtomicU8::new(0),
    second: AtomicU8::new(0),
    hundredths: AtomicU8::new(0),
    time_zone: AtomicU16::new(0xffff),
};

/// Nanoseconds of a tick: 32 in a second.
const TICK_NS: u64 = 31_250_000;

static IS_STOPPED: AtomicBool = AtomicBool::new(false);
static IS_ARMED: AtomicBool = AtomicBool::new(false);
static TICKS: AtomicU64 = AtomicU64::new(0);
/// Held while the handler runs.
static HANDLER: Mutex<()> = Mutex::new(());
static THREAD: OnceLock<()> = OnceLock::new();

#[unsafe(no_mangle)]
pub extern "C" fn os2_KernSISData() -> *const GlobalInfo {
    &raw const INFO
}

pub fn info() -> &'static GlobalInfo {
    &INFO
}

unsafe extern "C" {
    fn supdrv_os2_tick();
}

/// The clock goes as it should.
pub fn start() {
    THREAD.get_or_init(|| {
        std::thread::spawn(run);
    });
    let _between = lock(&HANDLER);
    IS_STOPPED.store(false, Ordering::Relaxed);
    set_time();
    INFO.time_zone.store(0xffff, Ordering::Relaxed);
}

/// The clock stands still, for a test that sets it itself.
pub fn stop() {
    let _between = lock(&HANDLER);
    IS_STOPPED.store(true, Ordering::Relaxed);
}

/// Ticks so far that the driver heard of.
pub fn ticks() -> u64 {
    TICKS.load(Ordering::Relaxed)
}

fn run() {
    let mut next = ticker::now_ns();
    loop {
        next += TICK_NS;
        while let Some(rest) = next.checked_sub(ticker::now_ns()).filter(|rest| *rest != 0) {
            std::thread::sleep(Duration::from_nanos(rest));
        }
        let _handler = lock(&HANDLER);
        if !IS_STOPPED.load(Ordering::Relaxed) {
            set_time();
            call_handler();
        }
    }
}

fn set_time() {
    INFO.milliseconds.store((ticker::now_ns() / 1_000_000) as u32, Ordering::Relaxed);
}

fn call_handler() {
    if IS_ARMED.load(Ordering::Relaxed) {
        context::in_interrupt(0, || unsafe { supdrv_os2_tick() });
        TICKS.fetch_add(1, Ordering::Relaxed);
    }
}

/// A tick while the clock stands still, so many milliseconds after the last one.
pub fn advance(milliseconds: u32) {
    let _handler = lock(&HANDLER);
    assert!(IS_STOPPED.load(Ordering::Relaxed));
    INFO.milliseconds.fetch_add(milliseconds, Ordering::Relaxed);
    call_handler();
}

/// SetTimer, ResetTimer.
pub fn arm(on: bool) -> u32 {
    const ERROR_TOO_MANY_HANDLERS: u32 = 1;
    context::may_sleep("SetTimer");
    if on && machine().faults.must_fail("SetTimer") {
        return ERROR_TOO_MANY_HANDLERS;
    }
    let _between = lock(&HANDLER);
    if IS_ARMED.swap(on, Ordering::Relaxed) == on && on {
        violation("a second tick handler of the same driver");
    }
    0
}

pub fn is_armed() -> bool {
    IS_ARMED.load(Ordering::Relaxed)
}
