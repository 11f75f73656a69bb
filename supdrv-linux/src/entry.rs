//! What the C half calls: the module's life and its file operations.

use core::ffi::{c_int, c_void};
use core::ptr::NonNull;

use supdrv_core::abi::idc::IdcHeader;
use supdrv_core::abi::published::SessionView;
use supdrv_core::abi::status::{VERR_INTERNAL_ERROR, VERR_INVALID_PARAMETER, VINF_SUCCESS};
use supdrv_core::dispatch;
use supdrv_core::driver::{Driver, DriverSlot};
use supdrv_core::idc;
use supdrv_core::os::SessionKind;
use supdrv_core::session::{Session, SessionRef};

use crate::Linux;

/// The driver of this module; it exists from init to exit.
static DRIVER: DriverSlot<Linux> = DriverSlot::new();

fn driver() -> Option<&'static Driver<Linux>> {
    // SAFETY: C calls nothing but init before the driver exists, and exit only when all files are closed.
    unsafe { DRIVER.get() }
}

/// Builds the driver. Class T, once.
#[unsafe(no_mangle)]
extern "C" fn supdrv_rust_init() -> c_int {
    DRIVER.build(&Linux, size_of::<SessionView>()).map_or_else(|status| status.0, |()| VINF_SUCCESS.0)
}

/// Takes the driver down: all files are closed by now. Class T, once.
#[unsafe(no_mangle)]
extern "C" fn supdrv_rust_exit() {
    // A failure is in the log, and nobody could do anything about it.
    let _leaked = DRIVER.delete(&Linux);
}

/// Opens a session for the calling process. Class T.
///
/// # Safety
/// `session` is writable.
#[unsafe(no_mangle)]
unsafe extern "C" fn supdrv_rust_open(unrestricted: bool, session: *mut *mut c_void) -> c_int {
    let kind = if unrestricted { SessionKind::User } else { SessionKind::UserRestricted };
    let Some(driver) = driver() else { return VERR_INTERNAL_ERROR.0 };
    match driver.create_session(kind) {
        Ok(created) => {
            // SAFETY: writable (condition of the function).
            unsafe { session.write(created.into_raw().as_ptr().cast()) };
            VINF_SUCCESS.0
        }
        Err(status) => status.0,
    }
}

/// Closes the session of a file. Class T, any process.
///
/// # Safety
/// `session` came from open, and the file is gone.
#[unsafe(no_mangle)]
unsafe extern "C" fn supdrv_rust_close(session: *mut c_void) {
    if let Some(session) = NonNull::new(session.cast()) {
        // SAFETY: open gave this reference to the file.
        drop(unsafe { SessionRef::<Linux>::from_raw(session) });
    }
}

/// The session of an open file.
///
/// # Safety
/// `session` came from open, and the file is open during the use of the result.
unsafe fn session_of<'a>(session: *mut c_void) -> &'a Session<Linux> {
    // SAFETY: open made it of a session, which the open file keeps alive.
    unsafe { &*session.cast() }
}

/// Handles a request in a kernel buffer. Class T. 0: copy back what the header says.
///
/// # Safety
/// As for [`session_of`]; `buffer` has `bytes` bytes that nobody else uses.
#[unsafe(no_mangle)]
unsafe extern "C" fn supdrv_rust_ioctl(
    session: *mut c_void,
    code: u32,
    buffer: *mut u8,
    bytes: usize,
) -> c_int {
    // SAFETY: condition of the function.
    let session = unsafe { session_of(session) };
    // SAFETY: condition of the function.
    let packet = unsafe { core::slice::from_raw_parts_mut(buffer, bytes) };
    dispatch::ioctl(session, code, packet).map_or_else(|status| status.0, |()| VINF_SUCCESS.0)
}

/// A fast call. Class T on entry.
///
/// # Safety
/// As for [`session_of`].
#[unsafe(no_mangle)]
unsafe extern "C" fn supdrv_rust_ioctl_fast(session: *mut c_void, code: u32, cpu: u32) -> c_int {
    // SAFETY: condition of the function.
    let session = unsafe { session_of(session) };
    dispatch::ioctl_fast(session, code, cpu).map_or_else(|status| status.0, |()| VINF_SUCCESS.0)
}

/// A request of a sibling driver. Class T. 0: the packet holds the request's own status.
///
/// # Safety
/// As for [`idc::entry`].
#[unsafe(no_mangle)]
unsafe extern "C" fn supdrv_rust_idc(code: u32, packet: *mut IdcHeader) -> c_int {
    let Some(driver) = driver() else { return VERR_INVALID_PARAMETER.0 };
    // SAFETY: condition of the function.
    unsafe { idc::entry(driver, code, packet) }.0
}

/// The machine woke up. Class T.
#[unsafe(no_mangle)]
extern "C" fn supdrv_rust_resumed() {
    if let Some(driver) = driver() {
        driver.gip().resumed();
    }
}

/// Fills in what exists now. Class T.
///
/// # Safety
/// `counters` has room for six numbers.
#[unsafe(no_mangle)]
unsafe extern "C" fn supdrv_rust_counters(counters: *mut [u64; 6]) {
    let Some(driver) = driver() else { return };
    let c = driver.counters();
    let values = [c.sessions, c.objects, c.memory_refs, c.images, c.factories, c.gip_users].map(|n| n as u64);
    // SAFETY: condition of the function.
    unsafe { counters.write(values) };
}
