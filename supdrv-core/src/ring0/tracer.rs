//! Tracepoints: `SUPR0Tracer*`. The work is done in [`crate::tracer`]; here pointers are checked and results turned into C's.
//!
//! `SUPR0TracerFireProbe` is assembly, see `probe`.

use core::ffi::{c_char, c_void};
use core::sync::atomic::Ordering;

use super::runtime::{Ring0, rc};
use super::supr0::{session, text};
use super::types::SessionView;
use crate::abi::status::{Result, VERR_INVALID_HANDLE, VERR_INVALID_PARAMETER, VERR_INVALID_POINTER};
use crate::abi::tracer::UserContext;
use crate::driver::Driver;
use crate::os::OsArch;
use crate::session::Session;
use crate::tracer::Registrant;

/// Most bytes of a driver's name, with its NUL.
const MAX_NAME_BYTES: usize = 4096;

fn is_pointer<R: Ring0, T>(pointer: *const T) -> bool {
    R::os().is_plausible_address(pointer as usize)
}

/// The driver that modules belong to.
fn driver<'a, R: Ring0>() -> Result<&'a Driver<R::Os>> {
    let dev_ext = R::tracer_globals().dev_ext.load(Ordering::Acquire);
    // SAFETY: the driver stores it while it is there, and no module is left when it goes.
    unsafe { Driver::from_view(dev_ext) }.ok_or(VERR_INVALID_POINTER)
}

/// A kernel session.
///
/// # Safety
/// As for [`session`].
unsafe fn kernel_session<'a, R: Ring0>(view: *mut SessionView) -> Result<&'a Session<R::Os>> {
    // SAFETY: condition of the function.
    let session = unsafe { session::<R>(view) }?;
    if session.owner().kind.is_user() { Err(VERR_INVALID_PARAMETER) } else { Ok(session) }
}

/// A driver, and who asks it.
type Asked<'a, O> = (&'a Driver<O>, Registrant<'a, O>);

/// Who asks, a module or a session, and its driver.
///
/// # Safety
/// As for [`session`].
unsafe fn registrant<'a, R: Ring0>(module: *mut c_void, view: *mut SessionView) -> Result<Asked<'a, R::Os>> {
    if module.is_null() {
        // SAFETY: condition of the function.
        let session = unsafe { kernel_session::<R>(view) }?;
        return Ok((session.driver(), Registrant::Driver(session)));
    }
    if !is_pointer::<R, _>(module) {
        return Err(VERR_INVALID_POINTER);
    }
    if !view.is_null() {
        return Err(VERR_INVALID_PARAMETER);
    }
    Ok((driver::<R>()?, Registrant::Module(module as usize)))
}

/// Registers the tracepoints of a driver. Class T. 0, `VERR_INVALID_PARAMETER` (session), `VERR_INVALID_POINTER`, what is wrong with the
/// object, `VERR_SUPDRV_VTG_ALREADY_REGISTERED`, `VERR_NO_MEMORY`, or the tracer's.
pub unsafe fn register_drv<R: Ring0>(
    owner: *mut SessionView,
    header: *mut c_void,
    name: *const c_char,
) -> i32 {
    // SAFETY: the caller keeps the contract of the C function.
    rc(unsafe { session::<R>(owner) }.and_then(|owner| {
        // SAFETY: a plausible name is a string, as the C contract says.
        let name = unsafe { text::<R>(name, MAX_NAME_BYTES) }?;
        // SAFETY: the object stays while it is registered, as the C contract says.
        unsafe { owner.driver().tracer().register_driver(owner, header as usize, name.to_bytes()) }
    }))
}

/// Deregisters them, if there are any. Class T.
pub unsafe fn deregister_drv<R: Ring0>(owner: *mut SessionView) {
    // SAFETY: the caller keeps the contract of the C function.
    if let Ok(owner) = unsafe { session::<R>(owner) } {
        owner.driver().tracer().deregister_driver(owner);
    }
}

/// Registers the tracepoints of a module, in its ModuleInit. Class T. 0, `VERR_INVALID_HANDLE`, `VERR_INVALID_POINTER`,
/// `VERR_WRONG_ORDER`, `VERR_INVALID_PARAMETER` (outside the image), what is wrong with the object,
/// `VERR_SUPDRV_VTG_ALREADY_REGISTERED`, `VERR_SUPDRV_VTG_ONLY_ONCE_PER_SESSION`, `VERR_NO_MEMORY`, or the tracer's.
pub unsafe fn register_module<R: Ring0>(module: *mut c_void, header: *mut c_void) -> i32 {
    if !is_pointer::<R, _>(module) {
        return VERR_INVALID_HANDLE.0;
    }
    if !is_pointer::<R, _>(header) {
        return VERR_INVALID_POINTER.0;
    }
    rc(driver::<R>().and_then(|driver| driver.tracer_register_module(module as usize, header as usize)))
}

/// Registers the tracer, of a module or of a kernel session; its helpers in `*helpers`, null on failure. Class T. 0,
/// `VERR_INVALID_POINTER`, `VERR_INVALID_HANDLE` (record), `VERR_INVALID_PARAMETER`, `VERR_WRONG_ORDER`, `VERR_INVALID_MAGIC`,
/// `VERR_VERSION_MISMATCH`, `VERR_SUPDRV_TRACER_ALREADY_REGISTERED`, `VERR_NO_MEMORY`.
pub unsafe fn register_impl<R: Ring0>(
    module: *mut c_void,
    owner: *mut SessionView,
    registration: *const c_void,
    helpers: *mut *const c_void,
) -> i32 {
    if !is_pointer::<R, _>(helpers) {
        return VERR_INVALID_POINTER.0;
    }
    // SAFETY: a plausible out pointer is writable, as the C contract says.
    unsafe { helpers.write(core::ptr::null()) };
    if !is_pointer::<R, _>(registration) {
        return VERR_INVALID_HANDLE.0;
    }
    // SAFETY: the caller keeps the contract of the C function.
    rc(unsafe { registrant::<R>(module, owner) }.and_then(|(driver, registrant)| {
        // SAFETY: a record stays valid while it is registered, as the C contract says.
        let result = unsafe {
            driver.tracer().register_tracer(driver.published(), registrant, registration.expose_provenance())
        }?;
        // SAFETY: as above.
        unsafe { helpers.write(result.as_ptr().cast()) };
        Ok(())
    }))
}

/// Removes it; waits until nobody uses it. Class T. 0, `VERR_INVALID_POINTER`, `VERR_INVALID_PARAMETER`,
/// `VERR_SUPDRV_TRACER_NOT_REGISTERED`.
pub unsafe fn deregister_impl<R: Ring0>(module: *mut c_void, owner: *mut SessionView) -> i32 {
    // SAFETY: the caller keeps the contract of the C function.
    rc(unsafe { registrant::<R>(module, owner) }
        .and_then(|(driver, registrant)| driver.tracer().deregister_tracer(registrant)))
}

/// Fires a probe of a user-mode module on behalf of ring-0 code; the id in the context becomes the tracer's. Class I.
pub unsafe fn umod_probe_fire<R: Ring0>(owner: *mut SessionView, context: *mut c_void) {
    // SAFETY: the caller keeps the contract of the C function.
    let Ok(owner) = (unsafe { session::<R>(owner) }) else { return };
    if is_pointer::<R, _>(context) {
        // SAFETY: a plausible context is one, and the caller's, as the C contract says.
        owner.tracer_umod_fire(unsafe { &mut *context.cast::<UserContext>() });
    }
}
