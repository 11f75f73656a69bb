//! The inter-driver interface: how sibling drivers of the same kernel use this one.
//!
//! A sibling connects and gets a *kernel session*, unrestricted and without a process; everything it registers belongs to that
//! session and goes with it.
//!
//! ```text
//!   CONNECT ──► connected ──DISCONNECT──► (calls inside finish) ──► cleaned up, freed
//! ```
//!
//! The session that a caller names is only an address until it was found among the driver's live kernel sessions: a stale one,
//! or a client's, is refused without being touched. A call holds a reference on its session, and once one DISCONNECT
//! has come, the session refuses all new calls.
//!
//! There are two ways in: [`entry`] for systems whose siblings call a function, where the packet's header names the session, and
//! [`call`] for shells that know the session otherwise. Both are class T and may block.

use core::ffi::CStr;

use crate::abi::Status;
use crate::abi::idc::{IdcHeader, IdcRequest, MAX_MODULE_BYTES, MAX_SYMBOL_BYTES, OWN_MODULE};
use crate::abi::published::SessionView;
use crate::abi::status::{
    Result, VERR_INVALID_PARAMETER, VERR_INVALID_POINTER, VERR_MODULE_NOT_FOUND, VERR_NOT_SUPPORTED,
    VERR_SYMBOL_NOT_FOUND, VERR_VERSION_MISMATCH, VINF_SUCCESS,
};
use crate::dispatch::Reject;
use crate::dispatch::idc::{self as wire, Decoded};
use crate::driver::Driver;
use crate::loader::{Name, normalised};
use crate::os::{OsArch, OsPolicy, SessionKind, SupdrvOs};
use crate::session::{Session, SessionRef};

/// Handles a request whose session is named by the packet's header. Class T, may block.
///
/// Returns 0 when the packet holds the request's own status, else the status of the call: `VERR_INVALID_POINTER` (the packet can't be
/// one), and what [`call`] returns.
///
/// # Safety
/// As for [`call`].
#[doc(alias("SUPDrvLinuxIDC", "SUPDrvFreeBSDIDC", "SUPDrvDarwinIDC", "SUPDrvSolarisIDC"))]
pub unsafe fn entry<O: SupdrvOs>(driver: &Driver<O>, code: u32, packet: *mut IdcHeader) -> Status {
    if !driver.os().is_plausible_address(packet as usize) {
        return VERR_INVALID_POINTER;
    }
    // SAFETY: plausible, hence a packet (condition of the function).
    let session = unsafe { packet.read_unaligned() }.session;
    // SAFETY: conditions of the function.
    unsafe { call(driver, code, session as *const SessionView, packet) }
}

/// Handles a request of a session, null to connect. Class T, may block.
///
/// Returns 0 when the packet holds the request's own status. Else nothing was done: `VERR_INVALID_PARAMETER` (no such kernel session,
/// none for a request that needs one, or a malformed packet), `VERR_INVALID_POINTER`, `VERR_NOT_SUPPORTED` (unknown code).
///
/// # Safety
/// 1. If the packet's address is plausible, it is one: memory of the size that its header tells, at least a header, which nobody else
///    uses meanwhile and which isn't part of a session.
/// 2. Strings and factory records that it points to are readable if their addresses are plausible; a record that is registered
///    keeps the contract of [`Components::register`](crate::component::Components::register).
/// 3. After DISCONNECT the client uses nothing that it got through the session.
#[doc(alias = "supdrvIDC")]
pub unsafe fn call<O: SupdrvOs>(
    driver: &Driver<O>,
    code: u32,
    session: *const SessionView,
    packet: *mut IdcHeader,
) -> Status {
    if !driver.os().is_plausible_address(packet as usize) {
        return VERR_INVALID_POINTER;
    }
    let session =
        if session.is_null() { Ok(None) } else { driver.kernel_session(session as usize).map(Some) };
    let request = IdcRequest::decode(<O as OsPolicy>::ENCODING, code);
    let (session, request) = match (session, request) {
        (Err(status), _) => return status,
        (Ok(None), request) if request != Some(IdcRequest::Connect) => return VERR_INVALID_PARAMETER,
        (_, None) => return VERR_NOT_SUPPORTED,
        (Ok(session), Some(request)) => (session, request),
    };
    // SAFETY: at least a header (condition 1).
    if unsafe { packet.read_unaligned() }.bytes as usize != request.packet_bytes() {
        // SAFETY: as above.
        unsafe { (&raw mut (*packet).rc).write_unaligned(VERR_INVALID_PARAMETER.0) };
        return VERR_INVALID_PARAMETER;
    }
    // SAFETY: the header told this size; nobody else uses the packet (condition 1).
    let bytes = unsafe { core::slice::from_raw_parts_mut(packet.cast::<u8>(), request.packet_bytes()) };
    let result = wire::decode(request, session.is_some(), bytes)
        // SAFETY: conditions 2 and 3.
        .and_then(|decoded| unsafe { serve(driver, session, decoded, bytes) });
    match result {
        Ok(status) => {
            wire::set_status(bytes, status);
            VINF_SUCCESS
        }
        Err(Reject::Packet(status)) => {
            wire::set_status(bytes, status);
            status
        }
        Err(Reject::Request(status)) => status,
    }
}

/// # Safety
/// Conditions 2 and 3 of [`call`].
unsafe fn serve<O: SupdrvOs>(
    driver: &Driver<O>,
    session: Option<SessionRef<O>>,
    request: Decoded,
    packet: &mut [u8],
) -> core::result::Result<Status, Reject> {
    if let Decoded::Connect { accepted } = request {
        return Ok(connect(driver, accepted, packet));
    }
    let session = session.ok_or(Reject::Request(VERR_INVALID_PARAMETER))?;
    let components = driver.components();
    Ok(match request {
        Decoded::Connect { .. } => VERR_INVALID_PARAMETER,
        Decoded::Disconnect => {
            session.disconnect().map_err(Reject::Request)?;
            // If no other call is inside, this ends the session.
            drop(session);
            VINF_SUCCESS
        }
        Decoded::GetSymbol { module, symbol } => {
            // SAFETY: condition 2.
            let found = unsafe { find(&session, module, symbol) };
            wire::answer_symbol(packet, found.unwrap_or(0));
            Status::of(found.map(drop))
        }
        Decoded::RegisterFactory(factory) => {
            // SAFETY: condition 2.
            Status::of(unsafe { components.register(&session, factory as *mut _) })
        }
        Decoded::DeregisterFactory(factory) => Status::of(components.deregister(&session, factory as *mut _)),
    })
}

fn connect<O: SupdrvOs>(driver: &Driver<O>, accepted: bool, packet: &mut [u8]) -> Status {
    let session =
        if accepted { driver.create_session(SessionKind::Kernel) } else { Err(VERR_VERSION_MISMATCH) };
    let (status, session) = match session {
        // The client owns the reference from here on.
        Ok(session) => (VINF_SUCCESS, Some(session.into_view().as_ptr() as usize)),
        Err(status) => (status, None),
    };
    wire::answer_connect(packet, accepted, session);
    status
}

/// Address of a symbol of the driver itself or of a loaded image.
///
/// # Safety
/// What the addresses point to is readable if they are plausible.
unsafe fn find<O: SupdrvOs>(session: &Session<O>, module: usize, symbol: usize) -> Result<usize> {
    let driver = session.driver();
    // SAFETY: condition of the function.
    let symbol = unsafe { string(driver.os(), symbol, MAX_SYMBOL_BYTES) }?.to_bytes();
    if module == 0 {
        return driver.function(symbol).ok_or(VERR_SYMBOL_NOT_FOUND);
    }
    // SAFETY: condition of the function.
    let module = unsafe { string(driver.os(), module, MAX_MODULE_BYTES) }?.to_bytes();
    if module == OWN_MODULE {
        return driver.function(symbol).ok_or(VERR_SYMBOL_NOT_FOUND);
    }
    if module.len() >= size_of::<Name>() {
        return Err(VERR_MODULE_NOT_FOUND);
    }
    driver.loader().symbol_for_sibling(session, &normalised(module), symbol)
}

/// A string at a kernel address, of at most `max_bytes` with its NUL.
///
/// # Safety
/// What the address points to is readable, up to its NUL, if it is plausible; it doesn't change during the use of the result.
unsafe fn string<'a>(os: &impl OsArch, address: usize, max_bytes: usize) -> Result<&'a CStr> {
    if !os.is_plausible_address(address) {
        return Err(VERR_INVALID_POINTER);
    }
    let start = address as *const u8;
    for length in 0..max_bytes {
        // SAFETY: no NUL so far, hence still inside the string (condition of the function).
        if unsafe { start.add(length).read() } == 0 {
            // SAFETY: these bytes were just read.
            let bytes = unsafe { core::slice::from_raw_parts(start, length + 1) };
            return CStr::from_bytes_with_nul(bytes).map_err(|_| VERR_INVALID_PARAMETER);
        }
    }
    Err(VERR_INVALID_PARAMETER)
}
