//! Fast mutexes: `RTSemFastMutex*`. Not recursive, no timeout, uninterruptible: the system's own sleeping lock.

use super::handle::{self, Kind};
use super::runtime::{Ring0, rc, rc_handle};
use crate::os::{LockClass, OsLock, SupdrvOs};

struct FastMutex<O: SupdrvOs>(O::Mutex);

impl<O: SupdrvOs> Kind for FastMutex<O> {
    const MAGIC: u32 = 0x666d_7478;
}

/// Creates a mutex. Class T. 0, `VERR_INVALID_POINTER`, `VERR_NO_MEMORY`.
pub unsafe fn create<R: Ring0>(out: *mut usize) -> i32 {
    let os = &R::os();
    let new = || {
        let mutex = FastMutex::<R::Os>(os.mutex_create(LockClass::ModuleMutex)?);
        handle::create(os, mutex).map(handle::publish)
    };
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { rc_handle(out, new) }
}

/// Destroys it. Class T. 0 (also for NIL), `VERR_INVALID_HANDLE`.
pub unsafe fn destroy<R: Ring0>(mutex: usize) -> i32 {
    if mutex == 0 {
        return 0;
    }
    // SAFETY: the caller keeps the contract of the C function.
    rc(unsafe { handle::take::<FastMutex<R::Os>, _>(&R::os(), mutex) }.map(drop))
}

/// Acquires it. Class T, blocks. 0, `VERR_INVALID_HANDLE`.
pub unsafe fn request<R: Ring0>(mutex: usize) -> i32 {
    // SAFETY: the caller keeps the contract of the C function.
    rc(unsafe { handle::get::<FastMutex<R::Os>>(mutex) }.map(|mutex| R::os().mutex_acquire(&mutex.0)))
}

/// Releases it, by its owner. Class T. 0, `VERR_INVALID_HANDLE`.
pub unsafe fn release<R: Ring0>(mutex: usize) -> i32 {
    // SAFETY: the caller keeps the contract of the C function: it is the owner.
    rc(unsafe { handle::get::<FastMutex<R::Os>>(mutex).map(|mutex| R::os().mutex_release(&mutex.0)) })
}
