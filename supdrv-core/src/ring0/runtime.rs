//! What the ring-0 runtime keeps for all modules of a driver, and how its functions find it.
//!
//! Modules call plain C functions that know no driver. [`ring0_exports!`](crate::ring0_exports!) therefore makes one static [`State`] per
//! instantiation and a type that leads to it, [`Ring0`]; every function of the runtime is generic over that type.

use core::ptr::{NonNull, null_mut};
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};

use super::format::Types;
use super::log::ThreadLoggers;
use super::notify::Notifiers;
use super::thread::Threads;
use crate::abi::Status;
use crate::abi::status::Result;
use crate::heap::Box;
use crate::os::{OsModule, SupdrvOs};
use crate::tracer::TracerGlobals;

/// An instantiation of the ring-0 runtime for a system.
pub trait Ring0: 'static {
    /// The system.
    type Os: SupdrvOs + OsModule;

    /// The system's value.
    fn os() -> Self::Os;

    /// The instantiation's state.
    fn state() -> &'static State<Self::Os>;

    /// `g_pSUPGlobalInfoPage`, the variable.
    fn gip() -> &'static AtomicUsize;

    /// The variables of tracepoints; the shim's [`OsPolicy::tracer_globals`](crate::os::OsPolicy::tracer_globals) passes them on.
    fn tracer_globals() -> TracerGlobals;
}

/// What is needed from the first use of it on.
pub struct Shared<O: SupdrvOs + OsModule> {
    pub notifiers: Notifiers<O>,
    pub threads: Threads<O>,
}

/// The state of an instantiation. It lives as long as the driver's binary.
pub struct State<O: SupdrvOs + OsModule> {
    /// Assertions print nothing.
    pub(super) quiet: AtomicBool,
    /// A failed assertion may stop the machine.
    pub(super) may_panic: AtomicBool,
    pub(super) types: Types,
    pub(super) loggers: ThreadLoggers,
    shared: AtomicPtr<Shared<O>>,
}

impl<O: SupdrvOs + OsModule> State<O> {
    /// The state before any module was loaded.
    #[must_use]
    #[allow(clippy::new_without_default, reason = "only ever a static")]
    pub const fn new() -> Self {
        Self {
            quiet: AtomicBool::new(false),
            may_panic: AtomicBool::new(false),
            types: Types::new(),
            loggers: ThreadLoggers::new(),
            shared: AtomicPtr::new(null_mut()),
        }
    }

    /// What is made on first use. Class T if it may be the first one.
    ///
    /// # Errors
    /// `VERR_NO_MEMORY`.
    pub(super) fn shared(&self, os: &O) -> Result<&Shared<O>> {
        if let Some(shared) = self.existing() {
            return Ok(shared);
        }
        let new = Box::new(os, Shared { notifiers: Notifiers::new(os)?, threads: Threads::new(os)? })?;
        let address = new.as_ptr().as_ptr();
        if self.shared.compare_exchange(null_mut(), address, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            let _owned_by_runtime = new.into_raw();
        }
        self.existing().ok_or(crate::abi::status::VERR_NO_MEMORY)
    }

    /// What was made on first use, if there was one. Class I.
    pub(super) fn existing(&self) -> Option<&Shared<O>> {
        // SAFETY: set once by `shared`, and freed by `stop` only, when no module is left to use it.
        unsafe { self.shared.load(Ordering::Acquire).as_ref() }
    }

    /// Frees what modules left behind, for the end of the driver. Class T; no module is left.
    pub fn stop(&self, os: &O) {
        self.loggers.clear();
        self.types.clear();
        if let Some(shared) = NonNull::new(self.shared.swap(null_mut(), Ordering::AcqRel)) {
            // SAFETY: it came from `into_raw` in `shared`, and nobody uses it any more (condition of the function).
            drop(unsafe { Box::from_raw(os, shared) });
        }
    }
}

/// A C result.
pub(super) fn rc(result: Result<()>) -> i32 {
    Status::of(result).0
}

/// A new handle in its out pointer, 0 on failure; the C result.
///
/// # Safety
/// `out` is null or writable.
pub(super) unsafe fn rc_handle(out: *mut usize, create: impl FnOnce() -> Result<usize>) -> i32 {
    if out.is_null() {
        return crate::abi::status::VERR_INVALID_POINTER.0;
    }
    let result = create();
    // SAFETY: writable (condition of the function).
    unsafe { out.write(*result.as_ref().unwrap_or(&0)) };
    rc(result.map(drop))
}

/// What a shim tells the runtime.
pub mod events {
    use core::sync::atomic::Ordering;

    use super::Ring0;

    /// For [`OsPolicy::gip_published`](crate::os::OsPolicy::gip_published). Class T.
    pub fn gip_published<R: Ring0>(address: usize) {
        R::gip().store(address, Ordering::Release);
        if address == 0 {
            R::state().stop(&R::os());
        }
    }

    /// For [`OsPolicy::session_closing`](crate::os::OsPolicy::session_closing). Class T.
    pub fn session_closing<R: Ring0>(session: usize) {
        R::state().loggers.forget_key(session);
    }

    pub use super::super::notify::power_event;
}
