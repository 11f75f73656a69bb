//! From untrusted bytes to typed requests, and back.
//!
//! [`ioctl`] checks what is common to all requests, in the order that clients can observe; one constant table says which sizes a
//! request must have and who may use it; a handler reads its input once, calls a service and writes its output. Nothing in here
//! is `unsafe`, and no handler sees more bytes than the packet has.
//!
//! A request ends in one of three ways, which is what [`Reject`] and the `Ok` side of a handler stand for:
//!
//! | way | the call returns | `Hdr.rc` |
//! | --- | --- | --- |
//! | [`Reject::Request`] | the status | untouched |
//! | [`Reject::Packet`] | the status | the status |
//! | `Ok(status)` | success | the status |
#![forbid(unsafe_code)]

mod handlers;
pub mod idc;
mod packet;
mod table;
pub mod user;

use crate::abi::Status;
use crate::abi::ioctl::{DEVEXT_COOKIE, FLAGS_MAGIC, FLAGS_MAGIC_MASK, SESSION_COOKIE};
use crate::abi::ioctl::{Function, INITIAL_COOKIE, IOCTL_FLAG};
use crate::abi::requests::{CookieOut, HEADER_BYTES};
use crate::abi::status::{VERR_GENERAL_FAILURE, VERR_INTERNAL_ERROR, VERR_INVALID_PARAMETER};
use crate::os::{OsPolicy, SupdrvOs};
use crate::session::Session;

pub use packet::Packet;

/// A packet that isn't worth an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reject {
    /// Nothing is written.
    Request(Status),
    /// The status is written to the header too.
    Packet(Status),
}

/// What every handler returns; the status may be a failure or an informational one.
type Handled = Result<Status, Reject>;

const MALFORMED: Reject = Reject::Packet(VERR_INVALID_PARAMETER);

/// Handles one request packet in place. Class T; may block for as long as the service does.
///
/// `code` is the full function code as the client gave it; `bytes` is the whole packet, as large as the larger of both
/// directions, in memory that the client can't reach. On success the header says how many bytes travel back.
///
/// # Errors
/// The status that makes the system call itself fail; nothing travels back then. The status of the service is in the header, and
/// not an error here.
pub fn ioctl<O: SupdrvOs>(
    session: &Session<O>,
    code: u32,
    bytes: &mut [u8],
) -> crate::abi::status::Result<()> {
    let mut packet = Packet::new(bytes).ok_or(VERR_INVALID_PARAMETER)?;
    match run(session, code, &mut packet) {
        Ok(status) => {
            packet.set_status(status);
            Ok(())
        }
        Err(Reject::Packet(status)) => {
            packet.set_status(status);
            Err(status)
        }
        Err(Reject::Request(status)) => Err(status),
    }
}

/// Inlined: it has one caller, and small requests feel the difference.
#[inline(always)]
fn run<O: SupdrvOs>(session: &Session<O>, code: u32, packet: &mut Packet<'_>) -> Handled {
    let header = packet.header();
    let plausible = header.flags & FLAGS_MAGIC_MASK == FLAGS_MAGIC
        && packet.may_have(header.in_bytes)
        && packet.may_have(header.out_bytes);
    let encoding = <O as OsPolicy>::ENCODING;
    let handshake = encoding.code(Function::Cookie, size_of::<CookieOut>() as u32, IOCTL_FLAG);
    let cookies = if code == handshake {
        header.cookie == INITIAL_COOKIE
    } else {
        header.cookie == DEVEXT_COOKIE && header.session_cookie == SESSION_COOKIE
    };
    if !plausible || !cookies {
        return Err(Reject::Request(VERR_INVALID_PARAMETER));
    }
    let unknown = Reject::Request(VERR_GENERAL_FAILURE);
    let rule = table::rule::<O>(code).ok_or(unknown)?;
    if !rule.restricted && !session.is_unrestricted() {
        return Err(unknown);
    }
    if !rule.input.allows(header.in_bytes) || !rule.output.allows(header.out_bytes) {
        return Err(MALFORMED);
    }
    handlers::handle(session, rule.function, packet)
}

/// Handles a fast call: no packet, no header, no cookies. Class T on entry; never allocates.
///
/// # Errors
/// `VERR_INTERNAL_ERROR`: not a fast code, a restricted session, no VM, no VMMR0 image of this session.
pub fn ioctl_fast<O: SupdrvOs>(
    session: &Session<O>,
    code: u32,
    cpu_id: u32,
) -> crate::abi::status::Result<()> {
    let operation = match <O as OsPolicy>::ENCODING.decode(code, IOCTL_FLAG) {
        Some(Function::FastDoRawRun) => 0,
        Some(Function::FastDoHmRun) => 1,
        Some(Function::FastDoNop) => 2,
        _ => return Err(VERR_INTERNAL_ERROR),
    };
    session.call_fast(operation, cpu_id)
}

/// Whether a code is one of the fast ones. Shells ask before they look for a packet.
#[must_use]
pub fn is_fast<O: SupdrvOs>(code: u32) -> bool {
    matches!(
        <O as OsPolicy>::ENCODING.decode(code, IOCTL_FLAG),
        Some(Function::FastDoRawRun | Function::FastDoHmRun | Function::FastDoNop)
    )
}

const _: () = assert!(HEADER_BYTES == 24);
