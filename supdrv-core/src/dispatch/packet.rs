//! A request packet: bytes with a header, read and written as typed values.

use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use crate::abi::Status;
use crate::abi::requests::{HEADER_BYTES, RequestHeader};
use crate::dispatch::{MALFORMED, Reject};

/// A packet of at least a header, 4-byte aligned.
pub struct Packet<'a> {
    bytes: &'a mut [u8],
}

impl<'a> Packet<'a> {
    /// `None` if there is no room for a header, or the memory isn't aligned.
    pub fn new(bytes: &'a mut [u8]) -> Option<Self> {
        RequestHeader::ref_from_prefix(bytes).ok()?;
        Some(Self { bytes })
    }

    /// The header as it is now.
    #[must_use]
    pub fn header(&self) -> RequestHeader {
        RequestHeader::read_from_prefix(self.bytes)
            .map_or_else(|_| RequestHeader::new_zeroed(), |(header, _)| header)
    }

    fn header_mut(&mut self) -> Option<&mut RequestHeader> {
        RequestHeader::mut_from_prefix(self.bytes).ok().map(|(header, _)| header)
    }

    /// Whether a size in the header can be true.
    #[must_use]
    pub fn may_have(&self, bytes: u32) -> bool {
        // One comparison: what is less than a header wraps to something huge. The packet itself never is.
        bytes.wrapping_sub(HEADER_BYTES as u32) as usize <= self.bytes.len().wrapping_sub(HEADER_BYTES)
    }

    /// Stores the status of the request.
    pub fn set_status(&mut self, status: Status) {
        if let Some(header) = self.header_mut() {
            header.rc = status.0;
        }
    }

    /// Lets only the header travel back.
    pub fn cut_output(&mut self) {
        if let Some(header) = self.header_mut() {
            header.out_bytes = HEADER_BYTES as u32;
        }
    }

    /// The fixed part of the input, copied out.
    ///
    /// # Errors
    /// The packet is shorter than that.
    pub fn input<T: FromBytes + KnownLayout + Immutable>(&self) -> Result<T, Reject> {
        T::read_from_prefix(self.bytes).map(|(input, _)| input).map_err(|_| MALFORMED)
    }

    /// The fixed part of the output, in place.
    ///
    /// # Errors
    /// The packet is shorter than that.
    pub fn output<T: FromBytes + IntoBytes + KnownLayout + Immutable>(&mut self) -> Result<&mut T, Reject> {
        T::mut_from_prefix(self.bytes).map(|(output, _)| output).map_err(|_| MALFORMED)
    }

    /// The variable part after a fixed part `T`, up to the end of the input.
    ///
    /// # Errors
    /// The packet is shorter than that.
    pub fn input_tail<T>(&self) -> Result<&[u8], Reject> {
        let end = self.header().in_bytes as usize;
        self.bytes.get(size_of::<T>()..end).ok_or(MALFORMED)
    }

    /// The variable part after a fixed part `T`, to be filled, `items` of `U`.
    ///
    /// # Errors
    /// The packet is shorter than that.
    pub fn output_tail<T, U: FromBytes + IntoBytes + KnownLayout + Immutable>(
        &mut self,
        items: usize,
    ) -> Result<(&mut T, &mut [U]), Reject>
    where
        T: FromBytes + IntoBytes + KnownLayout + Immutable,
    {
        let (fixed, tail) = T::mut_from_prefix(self.bytes).map_err(|_| MALFORMED)?;
        let (items, _) = <[U]>::mut_from_prefix_with_elems(tail, items).map_err(|_| MALFORMED)?;
        Ok((fixed, items))
    }

    /// The variable part after a fixed part `T`, for a module to work on in place; up to the end of the packet.
    ///
    /// # Errors
    /// The packet is shorter than that.
    pub fn tail_mut<T>(&mut self) -> Result<&mut [u8], Reject> {
        self.bytes.get_mut(size_of::<T>()..).ok_or(MALFORMED)
    }
}
