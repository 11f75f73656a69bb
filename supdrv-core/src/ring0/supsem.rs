//! Semaphores behind handles of a session: `SUPSem*`.

use super::runtime::{Ring0, rc};
use super::supr0::{released, session};
use super::types::SessionView;
use crate::abi::status::{Result, VERR_INVALID_HANDLE, VERR_INVALID_POINTER};
use crate::os::{EventKind, OsArch, OsEvent, Timeout, WaitMode};
use crate::semaphore::{deadline_ns, timeout_ms, timeout_ns};

/// The 32-bit number that a handle is.
fn number(handle: usize) -> Result<u32> {
    u32::try_from(handle).map_err(|_| VERR_INVALID_HANDLE)
}

unsafe fn create<R: Ring0>(owner: *mut SessionView, out: *mut usize, kind: EventKind) -> i32 {
    // SAFETY: the caller keeps the contract of the C function.
    rc(unsafe { session::<R>(owner) }.and_then(|owner| {
        if !R::os().is_plausible_address(out as usize) {
            return Err(VERR_INVALID_POINTER);
        }
        let handle = owner.sem_create(kind)?;
        // SAFETY: as above.
        unsafe { out.write(handle as usize) };
        Ok(())
    }))
}

unsafe fn close<R: Ring0>(owner: *mut SessionView, handle: usize, kind: EventKind) -> i32 {
    // SAFETY: the caller keeps the contract of the C function.
    released(unsafe { session::<R>(owner) }.and_then(|owner| owner.sem_close(number(handle)?, kind)))
}

unsafe fn signal<R: Ring0>(owner: *mut SessionView, handle: usize, kind: EventKind) -> i32 {
    // SAFETY: the caller keeps the contract of the C function.
    rc(unsafe { session::<R>(owner) }.and_then(|owner| owner.sem_signal(number(handle)?, kind)))
}

unsafe fn wait<R: Ring0>(
    owner: *mut SessionView,
    handle: usize,
    kind: EventKind,
    timeout: Timeout,
    mode: WaitMode,
) -> i32 {
    // SAFETY: the caller keeps the contract of the C function.
    rc(unsafe { session::<R>(owner) }.and_then(|owner| owner.sem_wait(number(handle)?, kind, timeout, mode)))
}

macro_rules! sem_functions {
    ($kind:ident: $create:ident, $close:ident, $signal:ident, $resolution:ident, $wait:ident, $wait_no_resume:ident, $wait_abs:ident, $wait_rel:ident) => {
        /// Creates a semaphore and a handle for the session. Class T. 0, `VERR_INVALID_PARAMETER`, `VERR_INVALID_POINTER`, `VERR_NO_MEMORY`,
        /// `VERR_NO_MORE_HANDLES`.
        pub unsafe fn $create<R: Ring0>(owner: *mut SessionView, handle: *mut usize) -> i32 {
            // SAFETY: the caller keeps the contract of the C function.
            unsafe { create::<R>(owner, handle, EventKind::$kind) }
        }

        /// Closes a handle; waiters stay. Class T. 0, `VINF_OBJECT_DESTROYED`, `VERR_INVALID_PARAMETER`, `VERR_INVALID_HANDLE`.
        pub unsafe fn $close<R: Ring0>(owner: *mut SessionView, handle: usize) -> i32 {
            // SAFETY: the caller keeps the contract of the C function.
            unsafe { close::<R>(owner, handle, EventKind::$kind) }
        }

        /// Signals. Class D, class I where the system can. 0, `VERR_INVALID_PARAMETER`, `VERR_INVALID_HANDLE`.
        pub unsafe fn $signal<R: Ring0>(owner: *mut SessionView, handle: usize) -> i32 {
            // SAFETY: the caller keeps the contract of the C function.
            unsafe { signal::<R>(owner, handle, EventKind::$kind) }
        }

        /// Granularity of waits, in ns. Class I.
        pub unsafe fn $resolution<R: Ring0>(_owner: *mut SessionView) -> u32 {
            R::os().event_resolution_ns()
        }

        /// Waits uninterruptibly, ms. Class T. 0, `VERR_TIMEOUT`, `VERR_INVALID_PARAMETER`, `VERR_INVALID_HANDLE`.
        pub unsafe fn $wait<R: Ring0>(owner: *mut SessionView, handle: usize, millis: u32) -> i32 {
            // SAFETY: the caller keeps the contract of the C function.
            unsafe {
                wait::<R>(owner, handle, EventKind::$kind, timeout_ms(millis), WaitMode::Uninterruptible)
            }
        }

        /// Waits interruptibly, ms. Class T. As the uninterruptible form, and `VERR_INTERRUPTED`.
        pub unsafe fn $wait_no_resume<R: Ring0>(owner: *mut SessionView, handle: usize, millis: u32) -> i32 {
            // SAFETY: the caller keeps the contract of the C function.
            unsafe { wait::<R>(owner, handle, EventKind::$kind, timeout_ms(millis), WaitMode::Interruptible) }
        }

        /// Waits interruptibly until a time of the system clock, ns. Class T. As the form in ms.
        pub unsafe fn $wait_abs<R: Ring0>(owner: *mut SessionView, handle: usize, deadline: u64) -> i32 {
            // SAFETY: the caller keeps the contract of the C function.
            unsafe {
                wait::<R>(owner, handle, EventKind::$kind, deadline_ns(deadline), WaitMode::Interruptible)
            }
        }

        /// Waits interruptibly, ns. Class T. As the form in ms.
        pub unsafe fn $wait_rel<R: Ring0>(owner: *mut SessionView, handle: usize, nanos: u64) -> i32 {
            // SAFETY: the caller keeps the contract of the C function.
            unsafe { wait::<R>(owner, handle, EventKind::$kind, timeout_ns(nanos), WaitMode::Interruptible) }
        }
    };
}

sem_functions! { SingleRelease: event_create, event_close, event_signal, event_get_resolution, event_wait, event_wait_no_resume, event_wait_ns_abs_intr, event_wait_ns_rel_intr }
sem_functions! { MultiRelease: event_multi_create, event_multi_close, event_multi_signal, event_multi_get_resolution, event_multi_wait, event_multi_wait_no_resume, event_multi_wait_ns_abs_intr, event_multi_wait_ns_rel_intr }

/// Clears a multiple-release semaphore. Class D, class I where the system can. 0, `VERR_INVALID_PARAMETER`, `VERR_INVALID_HANDLE`.
pub unsafe fn event_multi_reset<R: Ring0>(owner: *mut SessionView, handle: usize) -> i32 {
    // SAFETY: the caller keeps the contract of the C function.
    rc(unsafe { session::<R>(owner) }.and_then(|owner| owner.sem_reset(number(handle)?)))
}
