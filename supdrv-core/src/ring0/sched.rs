//! The calling thread: preemption, sleeping, identity.

use super::runtime::{Ring0, rc};
use super::types::PreemptStateView;
use crate::os::{OsCpu, OsIdentity, OsModule, OsTime, PreemptState};

/// Its identity, unique while it lives. Class I.
pub unsafe fn native_self<R: Ring0>() -> usize {
    R::os().thread_handle()
}

/// Whether the caller is in interrupt context. Class I.
pub unsafe fn is_in_interrupt<R: Ring0>(_thread: usize) -> bool {
    R::os().is_in_interrupt()
}

/// Pins the caller to its CPU. Nests, LIFO. Class I, class D on Windows.
pub unsafe fn preempt_disable<R: Ring0>(state: *mut PreemptStateView) {
    let os = R::os();
    let found = os.preempt_disable();
    // SAFETY: the caller keeps the contract of the C function.
    if let Some(state) = unsafe { state.as_mut() } {
        // What systems keep there is an interrupt level or nothing: it fits.
        *state = PreemptStateView { cpu_id: os.cpu_id(), state: found.0 as u32 };
    }
}

/// Undoes [`preempt_disable`], on the same CPU.
pub unsafe fn preempt_restore<R: Ring0>(state: *mut PreemptStateView) {
    // SAFETY: the caller keeps the contract of the C function.
    let Some(state) = (unsafe { state.as_mut() }) else { return };
    // SAFETY: the state is what the matching disable returned, which the caller kept.
    unsafe { R::os().preempt_restore(PreemptState(state.state as usize)) };
    state.cpu_id = u32::MAX;
}

/// Whether preemption and interrupts are on. Class I.
pub unsafe fn preempt_is_enabled<R: Ring0>(_thread: usize) -> bool {
    R::os().preempt_is_enabled()
}

/// Whether the caller should let go of the CPU soon. Class D.
pub unsafe fn preempt_is_pending<R: Ring0>(_thread: usize) -> bool {
    R::os().preempt_is_pending()
}

/// Whether [`preempt_is_pending`] never misses. Class I.
pub unsafe fn preempt_is_pending_trusty<R: Ring0>() -> bool {
    R::os().preempt_is_pending_trusty()
}

/// Whether the kernel preempts kernel code. Class I.
pub unsafe fn preempt_is_possible<R: Ring0>() -> bool {
    R::os().preempt_is_possible()
}

/// Sleeps; 0 yields. Class T. 0, `VERR_INTERRUPTED`.
pub unsafe fn sleep<R: Ring0>(millis: u32) -> i32 {
    let os = R::os();
    if millis == 0 {
        os.sleep_ms(0);
        return 0;
    }
    rc(os.sleep_interruptible_ms(millis))
}

/// Yields the CPU; whether it perhaps did. Class T.
pub unsafe fn yield_now<R: Ring0>() -> bool {
    R::os().sleep_ms(0);
    true
}
