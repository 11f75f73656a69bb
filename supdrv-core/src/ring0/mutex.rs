//! Recursive mutexes with timeouts: `RTSemMutex*`.
//!
//! Made of a spinlock, which guards who owns it, and a single-release event, which wakes one waiter. A release leaves the mutex free and signals;
//! whoever comes first takes it. A signal that finds nobody stays, and costs the next waiter one more look, so that none is ever lost: neither to a
//! waiter that times out, nor to one that is interrupted.

use core::ffi::c_char;
use core::sync::atomic::{AtomicU32, Ordering};

use super::handle::{self, Kind};
use super::runtime::{Ring0, rc, rc_handle};
use crate::abi::status::{
    Result, VERR_INVALID_HANDLE, VERR_NOT_OWNER, VERR_OUT_OF_RANGE, VERR_SEM_DESTROYED, VERR_TIMEOUT,
};
use crate::os::{EventKind, LockClass, NIL_HANDLE, SupdrvOs, Timeout, WaitMode};
use crate::semaphore::timeout_ms;
use crate::sync::IrqSpinLock;

/// Requests of one owner.
const MAX_RECURSION: u32 = 256;

struct State {
    owner: usize,
    recursion: u32,
    waiters: u32,
    dead: bool,
}

struct Mutex<O: SupdrvOs> {
    state: IrqSpinLock<State, O>,
    freed: O::Event,
    /// Releases that still have to signal: whoever frees the mutex waits for them.
    signallers: AtomicU32,
}

impl<O: SupdrvOs> Kind for Mutex<O> {
    const MAGIC: u32 = 0x726d_7478;
}

impl<O: SupdrvOs> Mutex<O> {
    fn new(os: &O) -> Result<Self> {
        let state = State { owner: NIL_HANDLE, recursion: 0, waiters: 0, dead: false };
        Ok(Self {
            state: IrqSpinLock::new(os, LockClass::ModuleIrqSpin, state)?,
            freed: os.event_create(EventKind::SingleRelease)?,
            signallers: AtomicU32::new(0),
        })
    }

    /// Takes the mutex if that is possible now; else the caller is a waiter, unless it only polls.
    fn try_request(&self, me: usize, poll: bool) -> Result<bool> {
        let mut state = self.state.lock();
        if state.owner == me {
            if state.recursion >= MAX_RECURSION {
                return Err(VERR_OUT_OF_RANGE);
            }
            state.recursion += 1;
            return Ok(true);
        }
        if state.owner == NIL_HANDLE {
            (state.owner, state.recursion) = (me, 1);
            return Ok(true);
        }
        if poll {
            return Err(VERR_TIMEOUT);
        }
        state.waiters += 1;
        Ok(false)
    }

    /// After a wait: whether the mutex is the caller's, the wait goes on, or it ends with `waited`.
    fn retry(&self, me: usize, waited: Result<()>) -> Result<bool> {
        let mut state = self.state.lock();
        let result = if state.dead {
            Err(VERR_SEM_DESTROYED)
        } else if state.owner == NIL_HANDLE {
            (state.owner, state.recursion) = (me, 1);
            Ok(true)
        } else {
            waited.map(|()| false)
        };
        if result != Ok(false) {
            state.waiters = state.waiters.saturating_sub(1);
        }
        result
    }

    fn request(&self, os: &O, timeout: Timeout, mode: WaitMode) -> Result<()> {
        let me = os.thread_handle();
        if self.try_request(me, timeout == Timeout::RelativeNs(0))? {
            return Ok(());
        }
        let timeout = match timeout {
            Timeout::RelativeNs(ns) => Timeout::DeadlineNs(os.system_nano_ts().saturating_add(ns)),
            other => other,
        };
        while !self.retry(me, os.event_wait(&self.freed, timeout, mode))? {}
        Ok(())
    }

    fn release(&self, os: &O) -> Result<()> {
        let mut state = self.state.lock();
        if state.owner != os.thread_handle() {
            return Err(VERR_NOT_OWNER);
        }
        state.recursion -= 1;
        if state.recursion != 0 {
            return Ok(());
        }
        state.owner = NIL_HANDLE;
        if state.waiters != 0 {
            // Counted under the lock: whoever takes the mutex now and destroys it can't overtake the signal.
            self.signallers.fetch_add(1, Ordering::Relaxed);
            drop(state);
            os.event_signal(&self.freed);
            self.signallers.fetch_sub(1, Ordering::Release);
        }
        Ok(())
    }

    /// Wakes the waiters, one by one, and waits until they have left.
    fn evict(&self, os: &O) {
        self.state.lock().dead = true;
        while self.state.lock().waiters != 0 {
            os.event_signal(&self.freed);
            os.sleep_ms(0);
        }
        while self.signallers.load(Ordering::Acquire) != 0 {
            os.sleep_ms(0);
        }
    }
}

unsafe fn request_with<R: Ring0>(mutex: usize, millis: u32, mode: WaitMode) -> i32 {
    // SAFETY: condition of the function.
    rc(unsafe { handle::get::<Mutex<R::Os>>(mutex) }
        .and_then(|mutex| mutex.request(&R::os(), timeout_ms(millis), mode)))
}

/// Creates a mutex. Class T. 0, `VERR_INVALID_POINTER`, `VERR_NO_MEMORY`.
pub unsafe fn create<R: Ring0>(out: *mut usize) -> i32 {
    let os = &R::os();
    let new = || handle::create(os, Mutex::new(os)?).map(handle::publish);
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { rc_handle(out, new) }
}

/// Destroys it; its waiters get `VERR_SEM_DESTROYED`. Class T. 0 (also for NIL), `VERR_INVALID_HANDLE`.
pub unsafe fn destroy<R: Ring0>(mutex: usize) -> i32 {
    if mutex == 0 {
        return 0;
    }
    let os = &R::os();
    // SAFETY: the caller keeps the contract of the C function.
    match unsafe { handle::take::<Mutex<R::Os>, _>(os, mutex) } {
        Ok(mutex) => {
            mutex.value.evict(os);
            0
        }
        Err(_) => VERR_INVALID_HANDLE.0,
    }
}

/// Releases one level. Class T. 0, `VERR_NOT_OWNER`, `VERR_INVALID_HANDLE`.
pub unsafe fn release<R: Ring0>(mutex: usize) -> i32 {
    // SAFETY: the caller keeps the contract of the C function.
    rc(unsafe { handle::get::<Mutex<R::Os>>(mutex) }.and_then(|mutex| mutex.release(&R::os())))
}

/// Acquires it, or another level of it, uninterruptibly. Class T. 0, `VERR_TIMEOUT`, `VERR_SEM_DESTROYED`, `VERR_INVALID_HANDLE`.
pub unsafe fn request<R: Ring0>(mutex: usize, millis: u32) -> i32 {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { request_with::<R>(mutex, millis, WaitMode::Uninterruptible) }
}

/// As the other form, interruptibly: also `VERR_INTERRUPTED`.
pub unsafe fn request_no_resume<R: Ring0>(mutex: usize, millis: u32) -> i32 {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { request_with::<R>(mutex, millis, WaitMode::Interruptible) }
}

/// As without "debug": the place of the call is for lock validators.
pub unsafe fn request_debug<R: Ring0>(
    mutex: usize,
    millis: u32,
    _id: usize,
    _file: *const c_char,
    _line: u32,
    _function: *const c_char,
) -> i32 {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { request::<R>(mutex, millis) }
}

/// As without "debug": the place of the call is for lock validators.
pub unsafe fn request_no_resume_debug<R: Ring0>(
    mutex: usize,
    millis: u32,
    _id: usize,
    _file: *const c_char,
    _line: u32,
    _function: *const c_char,
) -> i32 {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { request_no_resume::<R>(mutex, millis) }
}
