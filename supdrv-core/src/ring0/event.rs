//! Events: `RTSemEvent*` (single release) and `RTSemEventMulti*` (multiple release).
//!
//! The system's events know no destruction under waiters; this one does. It counts who is inside: the handle and every waiter own a reference,
//! and the last one out, which is always in class T, frees. Signallers don't own one, since they may not free; whoever frees waits for them.
//!
//! ```text
//!   created ──destroy──► dead: waiters are woken, one after the other or all at once ──last one out──► freed
//! ```

use core::ffi::c_char;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::handle::{self, Kind};
use super::runtime::{Ring0, rc, rc_handle};
use crate::abi::status::{Result, VERR_INVALID_PARAMETER, VERR_SEM_DESTROYED};
use crate::os::{EventKind, OsEvent, SupdrvOs, Timeout, WaitMode};
use crate::semaphore::{deadline_ns, timeout_ms, timeout_ns};

/// An event of either kind.
pub(super) struct Event<O: SupdrvOs, const MULTI: bool> {
    event: O::Event,
    dead: AtomicBool,
    /// The handle and the waiters.
    references: AtomicU32,
    signallers: AtomicU32,
}

impl<O: SupdrvOs, const MULTI: bool> Kind for Event<O, MULTI> {
    const MAGIC: u32 = if MULTI { 0x6576_746d } else { 0x6576_7473 };
}

/// Bits of the wait flags.
mod flags {
    pub const RELATIVE: u32 = 0x01;
    pub const ABSOLUTE: u32 = 0x02;
    pub const NANOSECS: u32 = 0x04;
    pub const MILLISECS: u32 = 0x08;
    pub const INDEFINITE: u32 = 0x10;
    pub const INTERRUPTIBLE: u32 = 0x20;
    pub const UNINTERRUPTIBLE: u32 = 0x40;
    pub const ALL: u32 = 0x7f;
}

/// What wait flags and a timeout ask for.
///
/// # Errors
/// `VERR_INVALID_PARAMETER`: an impossible combination.
pub(super) fn parse_wait(wait: u32, timeout: u64) -> Result<(Timeout, WaitMode)> {
    let exactly_one = |a: u32, b: u32| (wait & a != 0) != (wait & b != 0);
    let indefinite = wait & flags::INDEFINITE != 0;
    let valid = wait & !flags::ALL == 0
        && exactly_one(flags::INTERRUPTIBLE, flags::UNINTERRUPTIBLE)
        && (indefinite
            || exactly_one(flags::RELATIVE, flags::ABSOLUTE)
                && exactly_one(flags::NANOSECS, flags::MILLISECS));
    if !valid {
        return Err(VERR_INVALID_PARAMETER);
    }
    let ns = if wait & flags::MILLISECS != 0 { timeout.saturating_mul(1_000_000) } else { timeout };
    let timeout = if indefinite {
        Timeout::Forever
    } else if wait & flags::ABSOLUTE != 0 {
        deadline_ns(ns)
    } else {
        timeout_ns(ns)
    };
    let interruptible = wait & flags::INTERRUPTIBLE != 0;
    Ok((timeout, if interruptible { WaitMode::Interruptible } else { WaitMode::Uninterruptible }))
}

impl<O: SupdrvOs, const MULTI: bool> Event<O, MULTI> {
    pub(super) fn new(os: &O) -> Result<Self> {
        let kind = if MULTI { EventKind::MultiRelease } else { EventKind::SingleRelease };
        Ok(Self {
            event: os.event_create(kind)?,
            dead: AtomicBool::new(false),
            references: AtomicU32::new(1),
            signallers: AtomicU32::new(0),
        })
    }

    pub(super) fn signal(&self, os: &O) {
        self.signallers.fetch_add(1, Ordering::Relaxed);
        os.event_signal(&self.event);
        self.signallers.fetch_sub(1, Ordering::Release);
    }

    pub(super) fn reset(&self, os: &O) {
        self.signallers.fetch_add(1, Ordering::Relaxed);
        os.event_reset(&self.event);
        self.signallers.fetch_sub(1, Ordering::Release);
    }

    /// Waits for an event that isn't destroyed under its waiters.
    pub(super) fn wait_raw(&self, os: &O, timeout: Timeout, mode: WaitMode) -> Result<()> {
        os.event_wait(&self.event, timeout, mode)
    }

    /// Waits; destroyed wins over every other outcome.
    fn wait(&self, os: &O, timeout: Timeout, mode: WaitMode) -> Result<()> {
        let result = os.event_wait(&self.event, timeout, mode);
        if !self.dead.load(Ordering::Acquire) {
            return result;
        }
        if !MULTI {
            // One signal wakes one waiter: it wakes the next one.
            os.event_signal(&self.event);
        }
        Err(VERR_SEM_DESTROYED)
    }

    /// Gives up a reference of the handle or of a waiter. Class T.
    ///
    /// # Safety
    /// The caller has one; `self` is the value of an object.
    unsafe fn release(&self, os: &O) {
        if self.references.fetch_sub(1, Ordering::AcqRel) != 1 {
            return;
        }
        while self.signallers.load(Ordering::Acquire) != 0 {
            os.sleep_ms(0);
        }
        // SAFETY: that was the last reference, and no signaller is inside.
        unsafe { handle::free(os, self) };
    }
}

unsafe fn create<R: Ring0, const MULTI: bool>(out: *mut usize) -> i32 {
    let os = &R::os();
    let new = || handle::create(os, Event::<R::Os, MULTI>::new(os)?).map(handle::publish);
    // SAFETY: condition of the function.
    unsafe { rc_handle(out, new) }
}

unsafe fn destroy<R: Ring0, const MULTI: bool>(event: usize) -> i32 {
    if event == 0 {
        return 0;
    }
    let os = &R::os();
    // SAFETY: condition of the function.
    match unsafe { handle::end::<Event<R::Os, MULTI>>(event) } {
        Ok(event) => {
            event.dead.store(true, Ordering::Release);
            event.signal(os);
            // SAFETY: the handle's reference.
            unsafe { event.release(os) };
            0
        }
        Err(status) => status.0,
    }
}

unsafe fn signal<R: Ring0, const MULTI: bool>(event: usize) -> i32 {
    // SAFETY: condition of the function.
    rc(unsafe { handle::get::<Event<R::Os, MULTI>>(event) }.map(|event| event.signal(&R::os())))
}

unsafe fn wait<R: Ring0, const MULTI: bool>(event: usize, timeout: Timeout, mode: WaitMode) -> i32 {
    let os = &R::os();
    // SAFETY: condition of the function.
    let Ok(event) = (unsafe { handle::get::<Event<R::Os, MULTI>>(event) }) else {
        return VERR_INVALID_PARAMETER.0;
    };
    event.references.fetch_add(1, Ordering::Relaxed);
    let result = event.wait(os, timeout, mode);
    // SAFETY: this waiter's reference.
    unsafe { event.release(os) };
    rc(result)
}

unsafe fn wait_ex<R: Ring0, const MULTI: bool>(event: usize, flags: u32, timeout: u64) -> i32 {
    match parse_wait(flags, timeout) {
        // SAFETY: condition of the function.
        Ok((timeout, mode)) => unsafe { wait::<R, MULTI>(event, timeout, mode) },
        Err(status) => status.0,
    }
}

macro_rules! event_functions {
    ($multi:literal: $create:ident, $destroy:ident, $signal:ident, $wait:ident, $wait_no_resume:ident, $wait_ex:ident, $wait_ex_debug:ident, $resolution:ident) => {
        /// Creates an event. Class T. 0, `VERR_INVALID_POINTER`, `VERR_NO_MEMORY`.
        pub unsafe fn $create<R: Ring0>(out: *mut usize) -> i32 {
            // SAFETY: the caller keeps the contract of the C function.
            unsafe { create::<R, $multi>(out) }
        }

        /// Destroys it; its waiters get `VERR_SEM_DESTROYED`. Class T. 0 (also for NIL), `VERR_INVALID_HANDLE`.
        pub unsafe fn $destroy<R: Ring0>(event: usize) -> i32 {
            // SAFETY: the caller keeps the contract of the C function.
            unsafe { destroy::<R, $multi>(event) }
        }

        /// Signals. Class D, class I where the system can. 0, `VERR_INVALID_HANDLE`.
        pub unsafe fn $signal<R: Ring0>(event: usize) -> i32 {
            // SAFETY: the caller keeps the contract of the C function.
            unsafe { signal::<R, $multi>(event) }
        }

        /// Waits uninterruptibly. Class T. 0, `VERR_TIMEOUT`, `VERR_SEM_DESTROYED`, `VERR_INVALID_PARAMETER` (handle).
        pub unsafe fn $wait<R: Ring0>(event: usize, millis: u32) -> i32 {
            // SAFETY: the caller keeps the contract of the C function.
            unsafe { wait::<R, $multi>(event, timeout_ms(millis), WaitMode::Uninterruptible) }
        }

        /// Waits interruptibly. Class T. As the uninterruptible form, and `VERR_INTERRUPTED`.
        pub unsafe fn $wait_no_resume<R: Ring0>(event: usize, millis: u32) -> i32 {
            // SAFETY: the caller keeps the contract of the C function.
            unsafe { wait::<R, $multi>(event, timeout_ms(millis), WaitMode::Interruptible) }
        }

        /// Waits as the flags say. Class T. As the other forms; `VERR_INVALID_PARAMETER` also for bad flags.
        pub unsafe fn $wait_ex<R: Ring0>(event: usize, flags: u32, timeout: u64) -> i32 {
            // SAFETY: the caller keeps the contract of the C function.
            unsafe { wait_ex::<R, $multi>(event, flags, timeout) }
        }

        /// As without "debug": the place of the call is for lock validators.
        pub unsafe fn $wait_ex_debug<R: Ring0>(
            event: usize,
            flags: u32,
            timeout: u64,
            _id: usize,
            _file: *const c_char,
            _line: u32,
            _function: *const c_char,
        ) -> i32 {
            // SAFETY: the caller keeps the contract of the C function.
            unsafe { wait_ex::<R, $multi>(event, flags, timeout) }
        }

        /// Granularity of waits, in ns. Class I.
        pub unsafe fn $resolution<R: Ring0>() -> u32 {
            R::os().event_resolution_ns()
        }
    };
}

event_functions! { false: event_create, event_destroy, event_signal, event_wait, event_wait_no_resume, event_wait_ex, event_wait_ex_debug, event_get_resolution }
event_functions! { true: event_multi_create, event_multi_destroy, event_multi_signal, event_multi_wait, event_multi_wait_no_resume, event_multi_wait_ex, event_multi_wait_ex_debug, event_multi_get_resolution }

/// Clears a multiple-release event. Class D, class I where the system can. 0, `VERR_INVALID_HANDLE`.
pub unsafe fn event_multi_reset<R: Ring0>(event: usize) -> i32 {
    // SAFETY: the caller keeps the contract of the C function.
    rc(unsafe { handle::get::<Event<R::Os, true>>(event) }.map(|event| event.reset(&R::os())))
}
