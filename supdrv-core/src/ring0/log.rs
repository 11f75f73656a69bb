//! Loggers: `RTLog*`.
//!
//! A logger belongs to the module that made it, and only its own code knows how to write to it. The driver remembers which one a thread wants, so
//! that modules find it, and has none of its own.

use core::ffi::{c_char, c_void};
use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use super::runtime::Ring0;
use super::types::VaList;
use crate::abi::status::VERR_BUFFER_OVERFLOW;
use crate::os::{NIL_HANDLE, OsIdentity};

/// Threads with a logger of their own.
const SLOTS: usize = 8;

/// A thread's wish; the thread is written last and claims the slot.
struct Slot {
    thread: AtomicUsize,
    logger: AtomicPtr<c_void>,
    key: AtomicUsize,
}

/// The wishes of all threads.
pub(super) struct ThreadLoggers([Slot; SLOTS]);

impl ThreadLoggers {
    pub(super) const fn new() -> Self {
        Self(
            [const {
                Slot {
                    thread: AtomicUsize::new(NIL_HANDLE),
                    logger: AtomicPtr::new(null_mut()),
                    key: AtomicUsize::new(0),
                }
            }; SLOTS],
        )
    }

    fn of(&self, thread: usize) -> Option<&Slot> {
        self.0.iter().find(|slot| slot.thread.load(Ordering::Acquire) == thread)
    }

    fn claim(&self, thread: usize) -> Option<&Slot> {
        self.0.iter().find(|slot| {
            slot.thread.compare_exchange(NIL_HANDLE, thread, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        })
    }

    fn set(&self, thread: usize, logger: *mut c_void, key: usize) -> bool {
        let Some(slot) = self.of(thread).or_else(|| self.claim(thread)) else { return false };
        slot.key.store(key, Ordering::Relaxed);
        slot.logger.store(logger, Ordering::Release);
        true
    }

    fn forget(&self, matches: impl Fn(&Slot) -> bool) {
        for slot in self.0.iter().filter(|slot| matches(slot)) {
            slot.logger.store(null_mut(), Ordering::Relaxed);
            slot.key.store(0, Ordering::Relaxed);
            slot.thread.store(NIL_HANDLE, Ordering::Release);
        }
    }

    /// Forgets all.
    pub(super) fn clear(&self) {
        self.forget(|_| true);
    }

    /// Forgets those with a key: a session that goes away takes its loggers along.
    pub(super) fn forget_key(&self, key: usize) {
        self.forget(|slot| {
            slot.thread.load(Ordering::Acquire) != NIL_HANDLE && slot.key.load(Ordering::Relaxed) == key
        });
    }
}

/// The calling thread's logger, null if it has none. Class I.
pub unsafe fn default_instance<R: Ring0>() -> *mut c_void {
    let slot = R::state().loggers.of(R::os().thread_handle());
    slot.map_or(null_mut(), |slot| slot.logger.load(Ordering::Acquire))
}

/// The logger of releases: the driver has none. Class I. Null.
pub unsafe fn rel_default_instance<R: Ring0>() -> *mut c_void {
    null_mut()
}

/// Sets the calling thread's logger; null takes away those of this thread and of this key. Class I. 0, `VERR_BUFFER_OVERFLOW` (8 threads have
/// one).
pub unsafe fn set_default_instance_thread<R: Ring0>(logger: *mut c_void, key: usize) -> i32 {
    let (loggers, me) = (&R::state().loggers, R::os().thread_handle());
    if logger.is_null() {
        loggers.forget(|slot| slot.thread.load(Ordering::Acquire) == me);
        loggers.forget_key(key);
        return 0;
    }
    if loggers.set(me, logger, key) { 0 } else { VERR_BUFFER_OVERFLOW.0 }
}

/// Writes to a logger: the driver writes to none. Class I.
pub unsafe fn logger_ex_v<R: Ring0>(
    _logger: *mut c_void,
    _flags: u32,
    _group: u32,
    _format: *const c_char,
    _args: VaList,
) {
}

/// Writes to the driver's default logger, of which there is none. Class I.
pub unsafe fn printf_v<R: Ring0>(_format: *const c_char, _args: VaList) {}
