//! The core for C code: the seed's shared functions.
//!
//! The functions of this module are generic over the system and keep the seed's contracts: pointers that may be wrong are checked as
//! far as the seed's are, results are status codes. [`capi!`](crate::capi!) instantiates them for one system under their C names.
//! `include/supdrv.h` declares them; it is printed from the layouts in [`crate::abi`] by `header`.
//!
//! | C name | context |
//! | --- | --- |
//! | `supdrvInitDevExt`, `supdrvDeleteDevExt`, `supdrvCreateSession` | class T, may block |
//! | `supdrvSessionRetain` | class I |
//! | `supdrvSessionRelease` | class T if it may be the last one, else class I |
//! | `supdrvIOCtl`, `supdrvIOCtlSized`, `supdrvIOCtlFast`, `supdrvIDC` | class T, may block |
//! | `supdrvTracer…`, `supdrvIOCtl_Tracer…`: see [`tracer`] | class T, may block; firing class I |

#[cfg(any(test, feature = "mock"))]
pub mod header;
pub mod tracer;

use core::ptr::NonNull;
use core::sync::atomic::Ordering;

use crate::abi::idc::IdcHeader;
use crate::abi::ioctl::DEVEXT_COOKIE;
use crate::abi::published::{DevExtView, SessionView};
use crate::abi::requests::{HEADER_BYTES, RequestHeader};
use crate::abi::status::{VERR_INTERNAL_ERROR, VERR_INVALID_PARAMETER, VINF_SUCCESS};
use crate::dispatch;
use crate::driver::Driver;
use crate::heap::Box;
use crate::os::{SessionKind, SupdrvOs};
use crate::session::{Session, SessionRef};

/// What retain and release return for something that isn't a session.
const NOT_A_SESSION: u32 = u32::MAX;

/// `supdrvInitDevExt`: builds the driver around a device extension.
///
/// Returns 0, `VERR_INVALID_PARAMETER` (null), `VERR_NO_MEMORY`, or what creating the GIP fails with.
///
/// # Safety
/// `dev_ext` is null or points to a device extension that stays where it is until it is deleted, and that nobody else uses
/// meanwhile.
pub unsafe fn init_dev_ext<O: SupdrvOs>(os: &O, dev_ext: *mut DevExtView, session_bytes: usize) -> i32 {
    let Some(view) = NonNull::new(dev_ext) else { return VERR_INVALID_PARAMETER.0 };
    // The seed's contract: everything but the system's tail starts as zero, whatever was there.
    // SAFETY: the caller owns the storage; zeros are a valid device extension.
    unsafe { view.write_bytes(0, 1) };
    // SAFETY: conditions of the function.
    match unsafe { Driver::init(os, view, session_bytes) } {
        Ok(driver) => {
            let _owned_by_view = driver.into_raw();
            VINF_SUCCESS.0
        }
        Err(status) => status.0,
    }
}

/// `supdrvDeleteDevExt`: takes the driver down. Does nothing while sessions exist, which the shell must prevent.
///
/// # Safety
/// `dev_ext` is null or was given to [`init_dev_ext`] of the same system; nobody uses it any more.
pub unsafe fn delete_dev_ext<O: SupdrvOs>(dev_ext: *mut DevExtView) {
    // SAFETY: conditions of the function.
    let Some(driver) = (unsafe { Driver::<O>::from_view(dev_ext) }) else { return };
    let os = driver.os().clone();
    // SAFETY: `init_dev_ext` turned this box into a pointer.
    let driver = unsafe { Box::from_raw(&os, NonNull::from(driver)) };
    if let Err((driver, _busy)) = Driver::delete(driver) {
        os.log_write(b"supdrv: sessions exist, the driver stays\n");
        let _owned_by_view = driver.into_raw();
    }
}

/// `supdrvCreateSession`: opens a session.
///
/// Returns 0, `VERR_INVALID_PARAMETER` (no device extension), `VERR_NO_MEMORY`. `*session` is written in any case: null on failure.
///
/// # Safety
/// `dev_ext` is null or a device extension of this system, `session` points to a writable pointer.
pub unsafe fn create_session<O: SupdrvOs>(
    dev_ext: *mut DevExtView,
    user: bool,
    unrestricted: bool,
    session: *mut *mut SessionView,
) -> i32 {
    let kind = match (user, unrestricted) {
        (true, true) => SessionKind::User,
        (true, false) => SessionKind::UserRestricted,
        (false, _) => SessionKind::Kernel,
    };
    // SAFETY: conditions of the function.
    let driver = unsafe { Driver::<O>::from_view(dev_ext) };
    let result = driver.ok_or(VERR_INVALID_PARAMETER).and_then(|driver| driver.create_session(kind));
    let (status, view) = match result {
        Ok(created) => (VINF_SUCCESS, created.into_view().as_ptr()),
        Err(status) => (status, core::ptr::null_mut()),
    };
    // SAFETY: writable (condition of the function).
    unsafe { session.write(view) };
    status.0
}

/// `supdrvSessionRetain`: returns the new number of references, or all ones for something that isn't a session, or is about to be freed.
///
/// # Safety
/// `session` is null or points to readable memory; if it looks like a session, it is one of this system.
pub unsafe fn session_retain<O: SupdrvOs>(session: *mut SessionView) -> u32 {
    // SAFETY: condition of the function.
    unsafe { Session::<O>::from_view(session, None) }.and_then(Session::retain).unwrap_or(NOT_A_SESSION)
}

/// `supdrvSessionRelease`: returns the new number of references, or all ones for something that isn't a session.
///
/// # Safety
/// As for [`session_retain`], and the caller owns a reference.
pub unsafe fn session_release<O: SupdrvOs>(session: *mut SessionView) -> u32 {
    // SAFETY: conditions of the function.
    unsafe { SessionRef::<O>::from_view(session) }.map_or(NOT_A_SESSION, SessionRef::release)
}

/// A session and its device extension, as C code names them together.
///
/// # Safety
/// Both are null or readable; what looks like one of them is one, of this system, and lives during the use of the result.
unsafe fn session_of<'a, O: SupdrvOs>(
    dev_ext: *mut DevExtView,
    session: *mut SessionView,
) -> Option<&'a Session<O>> {
    let dev_ext = NonNull::new(dev_ext)?;
    // SAFETY: readable (condition of the function).
    if unsafe { dev_ext.as_ref() }.cookie.load(Ordering::Relaxed) != DEVEXT_COOKIE {
        return None;
    }
    // SAFETY: conditions of the function.
    unsafe { Session::from_view(session, Some(dev_ext)) }
}

/// `supdrvIOCtlSized`: handles a request packet in a buffer of `buffer_bytes`. The buffer must not be reachable for the client.
///
/// Returns 0 when the packet is to travel back (its own status is in the header), else the status of the call.
///
/// # Safety
/// As for [`session_retain`] for both objects; `packet` is null or points to `buffer_bytes` of memory that nobody else uses.
pub unsafe fn ioctl_sized<O: SupdrvOs>(
    code: usize,
    dev_ext: *mut DevExtView,
    session: *mut SessionView,
    packet: *mut RequestHeader,
    buffer_bytes: usize,
) -> i32 {
    // SAFETY: conditions of the function.
    let session = unsafe { session_of::<O>(dev_ext, session) };
    let (Some(session), Some(packet)) = (session, NonNull::new(packet)) else {
        return VERR_INVALID_PARAMETER.0;
    };
    // SAFETY: the caller owns that many bytes.
    let bytes = unsafe { core::slice::from_raw_parts_mut(packet.as_ptr().cast::<u8>(), buffer_bytes) };
    match dispatch::ioctl(session, code as u32, bytes) {
        Ok(()) => VINF_SUCCESS.0,
        Err(status) => status.0,
    }
}

/// `supdrvIOCtl`: as [`ioctl_sized`], for a buffer that is as large as the header says: the larger of both directions, which is what
/// shells of the era allocate.
///
/// # Safety
/// As for [`ioctl_sized`], with the larger of the header's `cbIn` and `cbOut` as the size, at least that of the header.
pub unsafe fn ioctl<O: SupdrvOs>(
    code: usize,
    dev_ext: *mut DevExtView,
    session: *mut SessionView,
    packet: *mut RequestHeader,
) -> i32 {
    // SAFETY: null or at least a header (condition of the function).
    let Some(header) = (unsafe { packet.as_ref() }) else { return VERR_INVALID_PARAMETER.0 };
    let bytes = (header.in_bytes.max(header.out_bytes) as usize).max(HEADER_BYTES);
    // SAFETY: conditions of the function.
    unsafe { ioctl_sized::<O>(code, dev_ext, session, packet, bytes) }
}

/// `supdrvIOCtlFast`: a fast call. Returns 0 or `VERR_INTERNAL_ERROR`.
///
/// # Safety
/// As for [`session_retain`] for both objects.
pub unsafe fn ioctl_fast<O: SupdrvOs>(
    code: usize,
    cpu_id: u32,
    dev_ext: *mut DevExtView,
    session: *mut SessionView,
) -> i32 {
    // SAFETY: conditions of the function.
    let Some(session) = (unsafe { session_of::<O>(dev_ext, session) }) else { return VERR_INTERNAL_ERROR.0 };
    dispatch::ioctl_fast(session, code as u32, cpu_id).map_or_else(|status| status.0, |()| VINF_SUCCESS.0)
}

/// `supdrvIDC`: handles a request of a sibling driver; see [`idc::call`](crate::idc::call). Returns 0 when the packet holds the request's own
/// status.
///
/// # Safety
/// `dev_ext` is null or readable; if it looks like a device extension, it is one of this system. All else as for [`idc::call`](crate::idc::call).
pub unsafe fn idc<O: SupdrvOs>(
    code: usize,
    dev_ext: *mut DevExtView,
    session: *mut SessionView,
    packet: *mut IdcHeader,
) -> i32 {
    // SAFETY: conditions of the function.
    let Some(driver) = (unsafe { Driver::<O>::from_view(dev_ext) }) else { return VERR_INVALID_PARAMETER.0 };
    // SAFETY: conditions of the function.
    unsafe { crate::idc::call(driver, code as u32, session, packet) }.0
}

/// Instantiates the C entry points for one system: `capi!(Linux, Linux::new())`.
///
/// The second argument is an expression that makes the system's value; it is evaluated when a device extension is initialised.
#[macro_export]
macro_rules! capi {
    ($os:ty, $value:expr) => {
        const _: () = {
            use $crate::abi::idc::IdcHeader;
            use $crate::abi::published::{DevExtView, SessionView};
            use $crate::abi::requests::RequestHeader;

            /// See [`init_dev_ext`]($crate::capi::init_dev_ext).
            #[unsafe(no_mangle)]
            unsafe extern "C" fn supdrvInitDevExt(dev_ext: *mut DevExtView, session_bytes: usize) -> i32 {
                let os: $os = $value;
                // SAFETY: the caller keeps the contract of the C function, which is the same.
                unsafe { $crate::capi::init_dev_ext::<$os>(&os, dev_ext, session_bytes) }
            }

            /// See [`delete_dev_ext`]($crate::capi::delete_dev_ext).
            #[unsafe(no_mangle)]
            unsafe extern "C" fn supdrvDeleteDevExt(dev_ext: *mut DevExtView) {
                // SAFETY: the caller keeps the contract of the C function, which is the same.
                unsafe { $crate::capi::delete_dev_ext::<$os>(dev_ext) }
            }

            /// See [`create_session`]($crate::capi::create_session).
            #[unsafe(no_mangle)]
            unsafe extern "C" fn supdrvCreateSession(
                dev_ext: *mut DevExtView,
                user: bool,
                unrestricted: bool,
                session: *mut *mut SessionView,
            ) -> i32 {
                // SAFETY: the caller keeps the contract of the C function, which is the same.
                unsafe { $crate::capi::create_session::<$os>(dev_ext, user, unrestricted, session) }
            }

            /// See [`session_retain`]($crate::capi::session_retain).
            #[unsafe(no_mangle)]
            unsafe extern "C" fn supdrvSessionRetain(session: *mut SessionView) -> u32 {
                // SAFETY: the caller keeps the contract of the C function, which is the same.
                unsafe { $crate::capi::session_retain::<$os>(session) }
            }

            /// See [`session_release`]($crate::capi::session_release).
            #[unsafe(no_mangle)]
            unsafe extern "C" fn supdrvSessionRelease(session: *mut SessionView) -> u32 {
                // SAFETY: the caller keeps the contract of the C function, which is the same.
                unsafe { $crate::capi::session_release::<$os>(session) }
            }

            /// See [`ioctl`]($crate::capi::ioctl).
            #[unsafe(no_mangle)]
            unsafe extern "C" fn supdrvIOCtl(
                code: usize,
                dev_ext: *mut DevExtView,
                session: *mut SessionView,
                packet: *mut RequestHeader,
            ) -> i32 {
                // SAFETY: the caller keeps the contract of the C function, which is the same.
                unsafe { $crate::capi::ioctl::<$os>(code, dev_ext, session, packet) }
            }

            /// See [`ioctl_sized`]($crate::capi::ioctl_sized).
            #[unsafe(no_mangle)]
            unsafe extern "C" fn supdrvIOCtlSized(
                code: usize,
                dev_ext: *mut DevExtView,
                session: *mut SessionView,
                packet: *mut RequestHeader,
                buffer_bytes: usize,
            ) -> i32 {
                // SAFETY: the caller keeps the contract of the C function, which is the same.
                unsafe { $crate::capi::ioctl_sized::<$os>(code, dev_ext, session, packet, buffer_bytes) }
            }

            /// See [`idc`]($crate::capi::idc).
            #[unsafe(no_mangle)]
            unsafe extern "C" fn supdrvIDC(
                code: usize,
                dev_ext: *mut DevExtView,
                session: *mut SessionView,
                packet: *mut IdcHeader,
            ) -> i32 {
                // SAFETY: the caller keeps the contract of the C function, which is the same.
                unsafe { $crate::capi::idc::<$os>(code, dev_ext, session, packet) }
            }

            /// See [`ioctl_fast`]($crate::capi::ioctl_fast).
            #[unsafe(no_mangle)]
            unsafe extern "C" fn supdrvIOCtlFast(
                code: usize,
                cpu_id: u32,
                dev_ext: *mut DevExtView,
                session: *mut SessionView,
            ) -> i32 {
                // SAFETY: the caller keeps the contract of the C function, which is the same.
                unsafe { $crate::capi::ioctl_fast::<$os>(code, cpu_id, dev_ext, session) }
            }
        };

        $crate::__capi_tracer!($os);
    };
}
