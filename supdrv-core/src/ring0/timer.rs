//! Timers: `RTTimer*`.
//!
//! A timer of the system calls back through here, so that modules see their own handle and can stop a timer where the system can't: in its own
//! callback, or with preemption off. Such a stop is *logical*: the callback isn't called any more, and the system's timer is stopped by the next
//! start or by destruction.

use core::ffi::c_void;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::handle::{self, Kind};
use super::runtime::{Ring0, rc};
use crate::abi::status::{
    Result, VERR_CPU_NOT_FOUND, VERR_INVALID_HANDLE, VERR_INVALID_PARAMETER, VERR_INVALID_POINTER,
    VERR_NOT_SUPPORTED, VERR_TIMER_ACTIVE, VERR_TIMER_SUSPENDED,
};
use crate::os::{OsCpu, OsModule, OsTimer, SupdrvOs, TimerSpec, TimerTarget};
use crate::ring0::types::TimerMain;

/// Bits of the creation flags.
mod flags {
    pub const CPU_MASK: u32 = 0xff;
    pub const CPU_SPECIFIC: u32 = 1 << 8;
    pub const HIGH_RESOLUTION: u32 = 1 << 9;
    pub const ALL: u32 = CPU_MASK | CPU_SPECIFIC | HIGH_RESOLUTION;
    /// Every CPU.
    pub const CPU_ALL: u32 = CPU_MASK | CPU_SPECIFIC;
}

const NS_PER_MS: u64 = 1_000_000;

struct Timer<O: SupdrvOs> {
    /// First: destroying it ends the callbacks. `None` while it is being created.
    timer: Option<O::Timer>,
    callback: TimerMain,
    user: *mut c_void,
    one_shot: bool,
    /// What modules think.
    running: AtomicBool,
    /// The handle, as the callback gets it.
    handle: AtomicUsize,
}

impl<O: SupdrvOs> Kind for Timer<O> {
    const MAGIC: u32 = 0x7469_6d72;
}

unsafe extern "C" fn expired<O: SupdrvOs>(_native: *mut c_void, timer: *mut c_void, tick: u64) {
    // SAFETY: the context is the timer's object, which outlives the system's timer.
    let timer = unsafe { &*timer.cast::<handle::Object<Timer<O>>>() };
    let timer = &timer.value;
    let call = if timer.one_shot {
        timer.running.swap(false, Ordering::AcqRel)
    } else {
        timer.running.load(Ordering::Acquire)
    };
    if call {
        let handle = timer.handle.load(Ordering::Relaxed) as *mut c_void;
        // SAFETY: the module promised that its callback may be called so.
        unsafe { (timer.callback)(handle, timer.user, tick) };
    }
}

impl<O: SupdrvOs + OsModule> Timer<O> {
    fn native(&self) -> Result<&O::Timer> {
        self.timer.as_ref().ok_or(VERR_INVALID_HANDLE)
    }

    fn start(&self, os: &O, first_ns: u64) -> Result<()> {
        let native = self.native()?;
        if self.running.swap(true, Ordering::AcqRel) {
            return Err(VERR_TIMER_ACTIVE);
        }
        let mut result = os.timer_start(native, first_ns);
        if result == Err(VERR_TIMER_ACTIVE) {
            // Stopped logically, or a one-shot that the system doesn't know to be over.
            let _was_active = os.timer_stop(native);
            result = os.timer_start(native, first_ns);
        }
        result.inspect_err(|_| self.running.store(false, Ordering::Release))
    }

    fn stop(&self, os: &O) -> Result<()> {
        let native = self.native()?;
        if !self.running.swap(false, Ordering::AcqRel) {
            return Err(VERR_TIMER_SUSPENDED);
        }
        if os.preempt_is_enabled() {
            let _may_have_expired = os.timer_stop(native);
        }
        Ok(())
    }
}

fn target(os: &impl OsCpu, flags: u32, interval_ns: u64) -> Result<TimerTarget> {
    let index = flags & flags::CPU_MASK;
    if flags & !flags::ALL != 0 || (index != 0 && flags & flags::CPU_SPECIFIC == 0) {
        return Err(VERR_INVALID_PARAMETER);
    }
    match flags & flags::CPU_ALL {
        flags::CPU_ALL if interval_ns == 0 => Err(VERR_NOT_SUPPORTED),
        flags::CPU_ALL => Ok(TimerTarget::All),
        _ if flags & flags::CPU_SPECIFIC == 0 => Ok(TimerTarget::Any),
        _ => {
            let index = index as usize;
            let possible = os.cpu_possible_set().contains(index);
            let id = os.cpu_id_from_index(index).filter(|_| possible).ok_or(VERR_CPU_NOT_FOUND)?;
            Ok(TimerTarget::Cpu(id))
        }
    }
}

fn new_timer<O: SupdrvOs>(
    os: &O,
    interval_ns: u64,
    flags: u32,
    callback: TimerMain,
    user: *mut c_void,
) -> Result<usize> {
    let target = target(os, flags, interval_ns)?;
    let timer = Timer::<O> {
        timer: None,
        callback,
        user,
        one_shot: interval_ns == 0,
        running: AtomicBool::new(false),
        handle: AtomicUsize::new(0),
    };
    let mut timer = handle::create(os, timer)?;
    let object = timer.as_ptr().as_ptr();
    timer.value.handle.store(object as usize, Ordering::Relaxed);
    let spec = TimerSpec { interval_ns, target, callback: expired::<O>, context: object.cast() };
    timer.value.timer = Some(os.timer_create(&spec)?);
    Ok(handle::publish(timer))
}

/// Creates a stopped timer; interval in ns, 0 for one shot; flags: CPU index 0 to 255, CPU specific 0x100 (0x1ff: all CPUs), high resolution
/// 0x200. Class T. 0, `VERR_INVALID_POINTER`, `VERR_INVALID_PARAMETER` (flags), `VERR_CPU_NOT_FOUND`, `VERR_NOT_SUPPORTED`, `VERR_NO_MEMORY`.
pub unsafe fn create_ex<R: Ring0>(
    out: *mut usize,
    interval_ns: u64,
    flags: u32,
    callback: Option<TimerMain>,
    user: *mut c_void,
) -> i32 {
    let (false, Some(callback)) = (out.is_null(), callback) else { return VERR_INVALID_POINTER.0 };
    let result = new_timer(&R::os(), interval_ns, flags, callback, user);
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { out.write(result.unwrap_or(0)) };
    rc(result.map(drop))
}

/// Creates and starts a periodic timer; interval in ms. Class T. As [`create_ex`] and [`start`].
pub unsafe fn create<R: Ring0>(
    out: *mut usize,
    interval_ms: u32,
    callback: Option<TimerMain>,
    user: *mut c_void,
) -> i32 {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe {
        let mut status = create_ex::<R>(out, u64::from(interval_ms) * NS_PER_MS, 0, callback, user);
        if status == 0 {
            status = start::<R>(out.read(), 0);
            if status != 0 {
                destroy::<R>(out.read());
                out.write(0);
            }
        }
        status
    }
}

/// Stops and destroys a timer; no callback runs when this returns. Not from the callback. Class T. 0 (also for null), `VERR_INVALID_HANDLE`.
pub unsafe fn destroy<R: Ring0>(timer: usize) -> i32 {
    if timer == 0 {
        return 0;
    }
    let os = &R::os();
    // SAFETY: the caller keeps the contract of the C function.
    rc(unsafe { handle::take::<Timer<R::Os>, _>(os, timer) }.map(|timer| {
        timer.value.running.store(false, Ordering::Release);
        if let Some(native) = &timer.value.timer {
            let _was_active = os.timer_stop(native);
        }
    }))
}

/// Starts a stopped timer; first expiry in `first_ns`. Class T, class D where the system can. 0, `VERR_TIMER_ACTIVE`, `VERR_CPU_OFFLINE`,
/// `VERR_INVALID_HANDLE`.
pub unsafe fn start<R: Ring0>(timer: usize, first_ns: u64) -> i32 {
    // SAFETY: the caller keeps the contract of the C function.
    rc(unsafe { handle::get::<Timer<R::Os>>(timer) }.and_then(|timer| timer.start(&R::os(), first_ns)))
}

/// Stops a running timer, also in its callback. Class I. 0, `VERR_TIMER_SUSPENDED`, `VERR_INVALID_HANDLE`.
pub unsafe fn stop<R: Ring0>(timer: usize) -> i32 {
    // SAFETY: the caller keeps the contract of the C function.
    rc(unsafe { handle::get::<Timer<R::Os>>(timer) }.and_then(|timer| timer.stop(&R::os())))
}

/// Changes the period of a timer, in ns. Class T. 0, `VERR_INVALID_PARAMETER` (0 ns), `VERR_NOT_SUPPORTED`, `VERR_INVALID_HANDLE`.
pub unsafe fn change_interval<R: Ring0>(timer: usize, interval_ns: u64) -> i32 {
    // SAFETY: the caller keeps the contract of the C function.
    rc(unsafe { handle::get::<Timer<R::Os>>(timer) }.and_then(|timer| match interval_ns {
        0 => Err(VERR_INVALID_PARAMETER),
        _ if timer.one_shot => Err(VERR_NOT_SUPPORTED),
        _ => R::os().timer_change_interval(timer.native()?, interval_ns),
    }))
}

/// Whether timers are finer than the system's tick. Class I.
pub unsafe fn can_do_high_resolution<R: Ring0>() -> bool {
    R::os().timer_is_high_resolution()
}

/// The system's tick, in ns. Class I.
pub unsafe fn get_system_granularity<R: Ring0>() -> u32 {
    R::os().timer_granularity_ns()
}

/// Asks for a finer tick; `granted` (may be null) is what came of it. Class T. 0, `VERR_NOT_SUPPORTED`.
pub unsafe fn request_system_granularity<R: Ring0>(wanted_ns: u32, granted: *mut u32) -> i32 {
    let result = R::os().timer_request_granularity(wanted_ns);
    // SAFETY: the caller keeps the contract of the C function.
    if let (Ok(granted_ns), Some(granted)) = (result, unsafe { granted.as_mut() }) {
        *granted = granted_ns;
    }
    rc(result.map(drop))
}

/// Gives a grant back. Class T. 0, `VERR_NOT_SUPPORTED` (systems that grant nothing).
pub unsafe fn release_system_granularity<R: Ring0>(granted_ns: u32) -> i32 {
    let os = R::os();
    if !os.timer_grants_granularity() {
        return VERR_NOT_SUPPORTED.0;
    }
    os.timer_release_granularity(granted_ns);
    0
}
