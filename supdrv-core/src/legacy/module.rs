//! What only modules ask for, as far as the core's own services need it. Everything else modules get from the C runtime directly
//! ([`super::exports`]), and never through here.

use super::{Legacy, ffi};
use crate::os::{Errno, OsModule};

impl OsModule for Legacy {
    /// Not used: modules convert numbers with the C runtime's own functions.
    const ERRNO: Errno = Errno::CRuntime;

    fn wall_clock_ns(&self) -> i64 {
        let mut now = 0;
        ffi::RTTimeNow(&mut now);
        now
    }

    fn preempt_is_enabled(&self) -> bool {
        // SAFETY: the nil handle means the calling thread.
        unsafe { ffi::RTThreadPreemptIsEnabled(core::ptr::null_mut()) }
    }

    fn is_in_interrupt(&self) -> bool {
        // SAFETY: the nil handle means the calling thread.
        unsafe { ffi::RTThreadIsInInterrupt(core::ptr::null_mut()) }
    }

    fn panic_system(&self) {
        ffi::RTR0AssertPanicSystem();
    }
}
