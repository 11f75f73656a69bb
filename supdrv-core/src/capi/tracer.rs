//! The seed's shared functions for tracepoints.
//!
//! The driver starts and stops its tracepoints by itself, tells them of modules and sessions that go away, and dispatches the requests:
//! these are for C code that does so too. All of them are class T but the one that fires.

use core::ffi::{CStr, c_char, c_void};

use super::session_of;
use crate::abi::Status;
use crate::abi::published::{DevExtView, SessionView};
use crate::abi::status::{Result, VERR_INVALID_PARAMETER, VINF_SUCCESS};
use crate::abi::tracer::UserContext;
use crate::driver::Driver;
use crate::os::SupdrvOs;
use crate::session::Session;
use crate::tracer::UmodRequest;

fn code(result: Result<Status>) -> i32 {
    result.unwrap_or_else(|status| status).0
}

/// Calls a service of a session.
///
/// # Safety
/// As for [`session_retain`](super::session_retain) for both objects.
unsafe fn with<O: SupdrvOs>(
    dev_ext: *mut DevExtView,
    session: *mut SessionView,
    service: impl FnOnce(&Session<O>) -> Result<Status>,
) -> i32 {
    // SAFETY: conditions of the function.
    let session = unsafe { session_of::<O>(dev_ext, session) };
    code(session.ok_or(VERR_INVALID_PARAMETER).and_then(service))
}

/// `supdrvTracerInit`: part of initialising the device extension. Returns 0, or `VERR_INVALID_PARAMETER` if that wasn't done.
///
/// # Safety
/// `dev_ext` is null or a device extension of this system.
pub unsafe fn init<O: SupdrvOs>(dev_ext: *mut DevExtView) -> i32 {
    // SAFETY: condition of the function.
    code(unsafe { Driver::<O>::from_view(dev_ext) }.map(|_| VINF_SUCCESS).ok_or(VERR_INVALID_PARAMETER))
}

/// `supdrvTracerModuleUnloading`: takes the tracer and the tracepoints of an image along. What isn't an image of this device extension is
/// ignored.
///
/// # Safety
/// `dev_ext` is null or a device extension of this system.
pub unsafe fn module_unloading<O: SupdrvOs>(dev_ext: *mut DevExtView, image: *mut c_void) {
    // SAFETY: condition of the function.
    if let Some(driver) = unsafe { Driver::<O>::from_view(dev_ext) } {
        driver.tracer_module_unloading(image as usize);
    }
}

/// `supdrvTracerCleanupSession`: ends everything that a session has with tracepoints.
///
/// # Safety
/// As for [`session_retain`](super::session_retain) for both objects; no other thread uses the session.
pub unsafe fn cleanup_session<O: SupdrvOs>(dev_ext: *mut DevExtView, session: *mut SessionView) {
    // SAFETY: conditions of the function.
    if let Some(session) = unsafe { session_of::<O>(dev_ext, session) } {
        session.driver().tracer().session_closing(session);
    }
}

/// What `supdrvIOCtl_TracerUmodRegister` is given, besides the session.
#[derive(Clone, Copy, Debug)]
pub struct UmodRegister {
    /// Ring-3 address of the header.
    pub header_r3: usize,
    /// Address of the header for its code.
    pub header_address: u64,
    /// Ring-3 address of the names of functions.
    pub strings_r3: usize,
    /// Their size in bytes.
    pub strings_bytes: u32,
    /// Name of the module, in kernel memory.
    pub name: *const c_char,
    /// Kind of the module.
    pub flags: u32,
}

/// `supdrvIOCtl_TracerUmodRegister`; see [`Session::tracer_umod_register`].
///
/// # Safety
/// As for [`session_retain`](super::session_retain) for both objects; the name is null or a string.
pub unsafe fn umod_register<O: SupdrvOs>(
    dev_ext: *mut DevExtView,
    session: *mut SessionView,
    module: &UmodRegister,
) -> i32 {
    let service = |session: &Session<O>| {
        if module.name.is_null() {
            return Err(VERR_INVALID_PARAMETER);
        }
        // SAFETY: a string (condition of the function).
        let name = unsafe { CStr::from_ptr(module.name) }.to_bytes();
        let request = UmodRequest {
            header_r3: module.header_r3,
            header_address: module.header_address,
            strings_r3: module.strings_r3,
            strings_bytes: module.strings_bytes,
            name,
            flags: module.flags,
        };
        session.tracer_umod_register(&request).map(|()| VINF_SUCCESS)
    };
    // SAFETY: conditions of the function.
    unsafe { with(dev_ext, session, service) }
}

/// `supdrvIOCtl_TracerUmodDeregister`; see [`Session::tracer_umod_deregister`].
///
/// # Safety
/// As for [`session_retain`](super::session_retain) for both objects.
pub unsafe fn umod_deregister<O: SupdrvOs>(
    dev_ext: *mut DevExtView,
    session: *mut SessionView,
    header_r3: usize,
) -> i32 {
    let service = |session: &Session<O>| session.tracer_umod_deregister(header_r3).map(|()| VINF_SUCCESS);
    // SAFETY: conditions of the function.
    unsafe { with(dev_ext, session, service) }
}

/// `supdrvIOCtl_TracerUmodProbeFire`; see [`Session::tracer_umod_fire`]. Class I.
///
/// # Safety
/// As for [`session_retain`](super::session_retain) for both objects; the context is null or one, and the caller's.
pub unsafe fn umod_probe_fire<O: SupdrvOs>(
    dev_ext: *mut DevExtView,
    session: *mut SessionView,
    context: *mut UserContext,
) {
    // SAFETY: conditions of the function.
    let (session, context) = unsafe { (session_of::<O>(dev_ext, session), context.as_mut()) };
    if let (Some(session), Some(context)) = (session, context) {
        session.tracer_umod_fire(context);
    }
}

/// `supdrvIOCtl_TracerOpen`; see [`Session::tracer_open`].
///
/// # Safety
/// As for [`session_retain`](super::session_retain) for both objects.
pub unsafe fn open<O: SupdrvOs>(
    dev_ext: *mut DevExtView,
    session: *mut SessionView,
    cookie: u32,
    arg: usize,
) -> i32 {
    // SAFETY: conditions of the function.
    unsafe { with(dev_ext, session, |session: &Session<O>| session.tracer_open(cookie, arg)) }
}

/// `supdrvIOCtl_TracerClose`; see [`Session::tracer_close`].
///
/// # Safety
/// As for [`session_retain`](super::session_retain) for both objects.
pub unsafe fn close<O: SupdrvOs>(dev_ext: *mut DevExtView, session: *mut SessionView) -> i32 {
    let service = |session: &Session<O>| session.tracer_close().map(|()| VINF_SUCCESS);
    // SAFETY: conditions of the function.
    unsafe { with(dev_ext, session, service) }
}

/// `supdrvIOCtl_TracerIOCtl`; see [`Session::tracer_ioctl`]. `*result` is 0 on failure.
///
/// # Safety
/// As for [`session_retain`](super::session_retain) for both objects; `result` is null or writable.
pub unsafe fn ioctl<O: SupdrvOs>(
    dev_ext: *mut DevExtView,
    session: *mut SessionView,
    command: usize,
    arg: usize,
    result: *mut i32,
) -> i32 {
    let mut value = 0;
    let service = |session: &Session<O>| {
        let (status, from_tracer) = session.tracer_ioctl(command, arg)?;
        value = from_tracer;
        Ok(status)
    };
    // SAFETY: conditions of the function.
    let status = unsafe { with(dev_ext, session, service) };
    // SAFETY: null or writable (condition of the function).
    if let Some(result) = unsafe { result.as_mut() } {
        *result = value;
    }
    status
}

/// Instantiates the functions of this module for one system; part of [`capi!`](crate::capi!).
#[doc(hidden)]
#[macro_export]
macro_rules! __capi_tracer {
    ($os:ty) => {
        const _: () = {
            use ::core::ffi::{c_char, c_void};
            use $crate::abi::published::{DevExtView, SessionView};
            use $crate::abi::tracer::UserContext;
            use $crate::capi::tracer;

            /// See [`init`](tracer::init).
            #[unsafe(no_mangle)]
            unsafe extern "C" fn supdrvTracerInit(dev_ext: *mut DevExtView) -> i32 {
                // SAFETY: the caller keeps the contract of the C function, which is the same.
                unsafe { tracer::init::<$os>(dev_ext) }
            }

            /// Part of deleting the device extension.
            #[unsafe(no_mangle)]
            unsafe extern "C" fn supdrvTracerTerm(_dev_ext: *mut DevExtView) {}

            /// See [`module_unloading`](tracer::module_unloading).
            #[unsafe(no_mangle)]
            unsafe extern "C" fn supdrvTracerModuleUnloading(dev_ext: *mut DevExtView, image: *mut c_void) {
                // SAFETY: the caller keeps the contract of the C function, which is the same.
                unsafe { tracer::module_unloading::<$os>(dev_ext, image) }
            }

            /// See [`cleanup_session`](tracer::cleanup_session).
            #[unsafe(no_mangle)]
            unsafe extern "C" fn supdrvTracerCleanupSession(
                dev_ext: *mut DevExtView,
                session: *mut SessionView,
            ) {
                // SAFETY: the caller keeps the contract of the C function, which is the same.
                unsafe { tracer::cleanup_session::<$os>(dev_ext, session) }
            }

            /// See [`umod_register`](tracer::umod_register).
            #[unsafe(no_mangle)]
            #[allow(clippy::too_many_arguments, reason = "as the C function")]
            unsafe extern "C" fn supdrvIOCtl_TracerUmodRegister(
                dev_ext: *mut DevExtView,
                session: *mut SessionView,
                header_r3: usize,
                header_address: u64,
                strings_r3: usize,
                strings_bytes: u32,
                name: *const c_char,
                flags: u32,
            ) -> i32 {
                let module = tracer::UmodRegister {
                    header_r3,
                    header_address,
                    strings_r3,
                    strings_bytes,
                    name,
                    flags,
                };
                // SAFETY: the caller keeps the contract of the C function, which is the same.
                unsafe { tracer::umod_register::<$os>(dev_ext, session, &module) }
            }

            /// See [`umod_deregister`](tracer::umod_deregister).
            #[unsafe(no_mangle)]
            unsafe extern "C" fn supdrvIOCtl_TracerUmodDeregister(
                dev_ext: *mut DevExtView,
                session: *mut SessionView,
                header_r3: usize,
            ) -> i32 {
                // SAFETY: the caller keeps the contract of the C function, which is the same.
                unsafe { tracer::umod_deregister::<$os>(dev_ext, session, header_r3) }
            }

            /// See [`umod_probe_fire`](tracer::umod_probe_fire).
            #[unsafe(no_mangle)]
            unsafe extern "C" fn supdrvIOCtl_TracerUmodProbeFire(
                dev_ext: *mut DevExtView,
                session: *mut SessionView,
                context: *mut UserContext,
            ) {
                // SAFETY: the caller keeps the contract of the C function, which is the same.
                unsafe { tracer::umod_probe_fire::<$os>(dev_ext, session, context) }
            }

            /// See [`open`](tracer::open).
            #[unsafe(no_mangle)]
            unsafe extern "C" fn supdrvIOCtl_TracerOpen(
                dev_ext: *mut DevExtView,
                session: *mut SessionView,
                cookie: u32,
                arg: usize,
            ) -> i32 {
                // SAFETY: the caller keeps the contract of the C function, which is the same.
                unsafe { tracer::open::<$os>(dev_ext, session, cookie, arg) }
            }

            /// See [`close`](tracer::close).
            #[unsafe(no_mangle)]
            unsafe extern "C" fn supdrvIOCtl_TracerClose(
                dev_ext: *mut DevExtView,
                session: *mut SessionView,
            ) -> i32 {
                // SAFETY: the caller keeps the contract of the C function, which is the same.
                unsafe { tracer::close::<$os>(dev_ext, session) }
            }

            /// See [`ioctl`](tracer::ioctl).
            #[unsafe(no_mangle)]
            unsafe extern "C" fn supdrvIOCtl_TracerIOCtl(
                dev_ext: *mut DevExtView,
                session: *mut SessionView,
                command: usize,
                arg: usize,
                result: *mut i32,
            ) -> i32 {
                // SAFETY: the caller keeps the contract of the C function, which is the same.
                unsafe { tracer::ioctl::<$os>(dev_ext, session, command, arg, result) }
            }
        };
    };
}
