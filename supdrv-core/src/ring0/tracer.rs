//! Trace points: `SUPR0Tracer*`.

use core::ffi::{c_char, c_void};

use super::runtime::Ring0;
use super::types::SessionView;
use crate::abi::status::VERR_NOT_SUPPORTED;

/// Registers the trace points of a driver. Class T.
pub unsafe fn register_drv<R: Ring0>(
    _session: *mut SessionView,
    _header: *mut c_void,
    _name: *const c_char,
) -> i32 {
    VERR_NOT_SUPPORTED.0
}

/// Deregisters them. Class T.
pub unsafe fn deregister_drv<R: Ring0>(_session: *mut SessionView) {}

/// Registers the trace points of a module, in its ModuleInit. Class T.
pub unsafe fn register_module<R: Ring0>(_module: *mut c_void, _header: *mut c_void) -> i32 {
    VERR_NOT_SUPPORTED.0
}

/// Registers the tracer. Class T.
pub unsafe fn register_impl<R: Ring0>(
    _module: *mut c_void,
    _session: *mut SessionView,
    _registration: *const c_void,
    _helpers: *mut *const c_void,
) -> i32 {
    VERR_NOT_SUPPORTED.0
}

/// Deregisters it. Class T.
pub unsafe fn deregister_impl<R: Ring0>(_module: *mut c_void, _session: *mut SessionView) -> i32 {
    VERR_NOT_SUPPORTED.0
}

/// Fires a probe. Class I.
pub unsafe fn fire_probe<R: Ring0>(
    _location: *mut c_void,
    _arg0: usize,
    _arg1: usize,
    _arg2: usize,
    _arg3: usize,
    _arg4: usize,
) {
}

/// Fires a probe of a user module. Class T.
pub unsafe fn umod_probe_fire<R: Ring0>(_session: *mut SessionView, _context: *mut c_void) {}
