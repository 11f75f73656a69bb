//! Packets of sibling drivers: bytes to typed requests, and answers back into bytes.
//!
//! What the pointers in a request point to isn't looked at here; see [`crate::idc`].

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::abi::Status;
use crate::abi::idc::{
    CONNECT_MAGIC, ConnectIn, ConnectOut, FactoryIn, GetSymbolIn, GetSymbolOut, IDC_VERSION, IdcHeader,
    IdcRequest, NO_VERSION,
};
use crate::dispatch::{MALFORMED, Reject};

/// Build number of this driver: none.
const REVISION: u32 = 0;

/// A request whose packet was well formed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// Connect, if the versions fit.
    Connect {
        /// Whether this driver can speak the client's version.
        accepted: bool,
    },
    /// Disconnect.
    Disconnect,
    /// Look a symbol up; both are addresses of strings.
    GetSymbol {
        /// Module, or 0.
        module: usize,
        /// Symbol.
        symbol: usize,
    },
    /// Register the factory record at this address.
    RegisterFactory(usize),
    /// Deregister the factory record at this address.
    DeregisterFactory(usize),
}

fn input<T: FromBytes + KnownLayout + Immutable>(packet: &[u8]) -> Result<T, Reject> {
    T::read_from_bytes(packet).map_err(|_| MALFORMED)
}

/// Changes the answer in a packet, which may be at any address.
fn answer<T: FromBytes + IntoBytes + Immutable>(packet: &mut [u8], change: impl FnOnce(&mut T)) {
    if let Ok((mut out, _)) = T::read_from_prefix(packet) {
        change(&mut out);
        let written = out.write_to_prefix(packet);
        debug_assert!(written.is_ok());
    }
}

/// Reads a packet once. `has_session`: the caller came with a session.
///
/// # Errors
/// The packet is malformed; see [`Reject`].
pub fn decode(request: IdcRequest, has_session: bool, packet: &[u8]) -> Result<Decoded, Reject> {
    Ok(match request {
        IdcRequest::Connect => connect(&input(packet)?, has_session)?,
        IdcRequest::Disconnect => {
            input::<IdcHeader>(packet)?;
            Decoded::Disconnect
        }
        IdcRequest::GetSymbol => {
            let GetSymbolIn { module, symbol, .. } = input(packet)?;
            Decoded::GetSymbol { module, symbol }
        }
        IdcRequest::RegisterFactory => Decoded::RegisterFactory(input::<FactoryIn>(packet)?.factory),
        IdcRequest::DeregisterFactory => Decoded::DeregisterFactory(input::<FactoryIn>(packet)?.factory),
    })
}

fn connect(input: &ConnectIn, has_session: bool) -> Result<Decoded, Reject> {
    let (wanted, least) = (input.wanted_version, input.min_version);
    let session = input.hdr.session;
    if session != 0 || input.magic != CONNECT_MAGIC || least > wanted || least >> 16 != wanted >> 16 {
        return Err(MALFORMED);
    }
    if has_session {
        return Err(MALFORMED);
    }
    Ok(Decoded::Connect { accepted: least <= IDC_VERSION && least >> 16 == IDC_VERSION >> 16 })
}

/// Stores the status of a request.
pub fn set_status(packet: &mut [u8], status: Status) {
    answer(packet, |header: &mut IdcHeader| header.rc = status.0);
}

/// Answers a connect request: with the session's address, or without one and whether the versions were why.
pub fn answer_connect(packet: &mut [u8], accepted: bool, session: Option<usize>) {
    answer(packet, |out: &mut ConnectOut| {
        out.session = session.unwrap_or(0);
        out.session_version = if accepted { IDC_VERSION } else { NO_VERSION };
        out.driver_version = IDC_VERSION;
        out.driver_revision = REVISION;
        if let Some(session) = session {
            out.hdr.session = session;
        }
    });
}

/// Answers a symbol request; 0 for none.
pub fn answer_symbol(packet: &mut [u8], address: usize) {
    answer(packet, |out: &mut GetSymbolOut| out.address = address);
}
