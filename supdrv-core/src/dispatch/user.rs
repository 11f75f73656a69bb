//! Requests in the caller's memory, for shells whose system doesn't buffer them: in, dispatched, out.

use zerocopy::{FromBytes, FromZeros, IntoBytes};

use crate::abi::Status;
use crate::abi::ioctl::{FLAGS_MAGIC, FLAGS_MAGIC_MASK, MAX_REQUEST_BYTES};
use crate::abi::requests::{HEADER_BYTES, RequestHeader};
use crate::heap::Array;
use crate::os::SupdrvOs;
use crate::session::Session;

/// Packets up to this size stay on the stack.
const SMALL_BYTES: usize = 256;

/// Why a request failed before, in or after the dispatcher. Nothing was copied back, but for a fault in the middle of the way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The caller's memory isn't there.
    Fault,
    /// The header contradicts itself, or the packet is too large.
    Malformed,
    /// No memory for the packet.
    NoMemory,
    /// The dispatcher's status.
    Refused(Status),
}

impl Failure {
    /// The error number, for systems of the Unix family: they agree on these.
    #[must_use]
    pub const fn errno(self) -> i32 {
        match self {
            Self::Fault => 14,
            Self::NoMemory => 12,
            Self::Malformed | Self::Refused(_) => 22,
        }
    }
}

/// What the header of a request claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Bytes that travel in, at least a header.
    pub in_bytes: usize,
    /// Size of the whole packet: the larger of both directions, at most [`MAX_REQUEST_BYTES`].
    pub packet_bytes: usize,
}

impl Claim {
    /// Checks the magic and the sizes of a header, which is read once; `None` if it contradicts itself.
    #[must_use]
    pub fn of(header: &RequestHeader) -> Option<Self> {
        let (in_bytes, out_bytes) = (header.in_bytes as usize, header.out_bytes as usize);
        let packet_bytes = in_bytes.max(out_bytes);
        let plausible = header.flags & FLAGS_MAGIC_MASK == FLAGS_MAGIC
            && in_bytes.min(out_bytes) >= HEADER_BYTES
            && packet_bytes <= MAX_REQUEST_BYTES;
        plausible.then_some(Self { in_bytes, packet_bytes })
    }
}

/// Handles a request packet that the system has copied in whole, and copies back whole: what the caller didn't send is zero in it. Class T.
///
/// # Errors
/// [`Failure::Malformed`] unless the packet has exactly as many bytes as its header claims; [`Failure::Refused`].
pub fn ioctl_buffered<O: SupdrvOs>(
    session: &Session<O>,
    code: u32,
    packet: &mut [u8],
) -> Result<(), Failure> {
    let claim = super::Packet::new(packet).and_then(|packet| Claim::of(&packet.header()));
    let claim = claim.filter(|claim| claim.packet_bytes == packet.len()).ok_or(Failure::Malformed)?;
    if let Some(rest) = packet.get_mut(claim.in_bytes..) {
        rest.fill(0);
    }
    super::ioctl(session, code, packet).map_err(Failure::Refused)
}

/// Handles a request packet at an address of the calling process. Class T.
///
/// The header is read once. What the caller didn't send of the packet is zero. On success, as many bytes as the answer's header says
/// travel back, never more than the packet has.
///
/// # Errors
/// See [`Failure`].
pub fn ioctl_at<O: SupdrvOs>(session: &Session<O>, code: u32, address: usize) -> Result<(), Failure> {
    let os = session.driver().os();
    let mut header = RequestHeader::new_zeroed();
    os.user_copy_from(header.as_mut_bytes(), address).map_err(|_| Failure::Fault)?;
    let claim = Claim::of(&header).ok_or(Failure::Malformed)?;
    if claim.packet_bytes <= SMALL_BYTES {
        let mut words = [0_u64; SMALL_BYTES / 8];
        return buffered(session, code, address, &header, claim, words.as_mut_bytes());
    }
    let mut words =
        Array::<u64, O>::new_zeroed(os, claim.packet_bytes.div_ceil(8)).map_err(|_| Failure::NoMemory)?;
    buffered(session, code, address, &header, claim, words.as_mut_bytes())
}

fn buffered<O: SupdrvOs>(
    session: &Session<O>,
    code: u32,
    address: usize,
    header: &RequestHeader,
    claim: Claim,
    buffer: &mut [u8],
) -> Result<(), Failure> {
    let os = session.driver().os();
    let packet = buffer.get_mut(..claim.packet_bytes).ok_or(Failure::Malformed)?;
    let input = packet.get_mut(..claim.in_bytes).ok_or(Failure::Malformed)?;
    let (first, rest) = input.split_at_mut_checked(HEADER_BYTES).ok_or(Failure::Malformed)?;
    header.write_to(first).map_err(|_| Failure::Malformed)?;
    let rest_address = address.checked_add(HEADER_BYTES).ok_or(Failure::Fault)?;
    os.user_copy_from(rest, rest_address).map_err(|_| Failure::Fault)?;
    super::ioctl(session, code, packet).map_err(Failure::Refused)?;
    let answer = RequestHeader::read_from_prefix(packet).map_or(0, |(header, _)| header.out_bytes as usize);
    let output = packet.get(..answer).unwrap_or(packet);
    os.user_copy_to(address, output).map_err(|_| Failure::Fault)
}
