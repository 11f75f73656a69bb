//! Request packets, as they travel.
//!
//! [`Packet`] is a buffer that is as large as the larger of both directions, with a header in front and the function code that
//! belongs to it. The typed client makes well-formed ones; tests bend header, code and bytes as they like.

use supdrv_core::abi::Status;
use supdrv_core::abi::ioctl::{
    DEVEXT_COOKIE, Encoding, FLAGS_DEFAULT, Flavour, Function, INITIAL_COOKIE, IOCTL_FLAG, SESSION_COOKIE,
};
use supdrv_core::abi::requests::{HEADER_BYTES, RequestHeader};
use supdrv_core::abi::status::VERR_INTERNAL_ERROR;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use crate::transport::{Device, Refused};

/// Largest packet whose size travels in its function code on every system: above, requests have a "big" flavour.
pub const MAX_SIZED_BYTES: usize = 4095;

/// A request packet.
#[derive(Clone, Debug)]
pub struct Packet {
    function: Function,
    encoding: Encoding,
    code: Option<u32>,
    words: Vec<u64>,
    bytes: usize,
}

impl Packet {
    /// A packet with `input` (whose header is overwritten) and what follows it, for an answer of `out_bytes`.
    #[must_use]
    pub fn new<T: IntoBytes + Immutable>(
        encoding: Encoding,
        function: Function,
        input: &T,
        tail: &[u8],
        out_bytes: usize,
    ) -> Self {
        let in_bytes = size_of::<T>() + tail.len();
        let bytes = in_bytes.max(out_bytes).max(HEADER_BYTES);
        let mut packet = Self { function, encoding, code: None, words: vec![0; bytes.div_ceil(8)], bytes };
        let fixed = input.as_bytes();
        packet.put(0, fixed);
        packet.put(fixed.len(), tail);
        let cookie = if function == Function::Cookie { INITIAL_COOKIE } else { DEVEXT_COOKIE };
        *packet.header_mut() = RequestHeader {
            cookie,
            session_cookie: SESSION_COOKIE,
            in_bytes: u32::try_from(in_bytes).unwrap_or(u32::MAX),
            out_bytes: u32::try_from(out_bytes).unwrap_or(u32::MAX),
            flags: FLAGS_DEFAULT,
            rc: VERR_INTERNAL_ERROR.0,
        };
        packet
    }

    /// A packet that is nothing but a header, for an answer of `out_bytes`.
    #[must_use]
    pub fn bare(encoding: Encoding, function: Function, out_bytes: usize) -> Self {
        Self::new(encoding, function, &RequestHeader::new_zeroed(), &[], out_bytes)
    }

    /// The request.
    #[must_use]
    pub const fn function(&self) -> Function {
        self.function
    }

    /// All bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        let bytes = self.words.as_bytes();
        bytes.get(..self.bytes).unwrap_or(bytes)
    }

    /// All bytes, to be changed.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        let end = self.bytes;
        match self.words.as_mut_bytes().get_mut(..end) {
            Some(bytes) => bytes,
            None => &mut [],
        }
    }

    /// Makes the packet longer (with zeros) or shorter, without touching the header's sizes.
    pub fn resize(&mut self, bytes: usize) {
        self.words.resize(bytes.max(HEADER_BYTES).div_ceil(8), 0);
        self.bytes = bytes.max(HEADER_BYTES);
    }

    /// Stores bytes at an offset, as far as they fit.
    pub fn put(&mut self, offset: usize, bytes: &[u8]) {
        let room = self.bytes_mut().get_mut(offset..).unwrap_or_default();
        for (to, from) in room.iter_mut().zip(bytes) {
            *to = *from;
        }
    }

    /// The header.
    #[must_use]
    pub fn header(&self) -> RequestHeader {
        RequestHeader::read_from_prefix(self.bytes()).map_or_else(|_| RequestHeader::new_zeroed(), |(h, _)| h)
    }

    /// The header, to be changed.
    ///
    /// # Panics
    /// Never: a packet has room for a header.
    pub fn header_mut(&mut self) -> &mut RequestHeader {
        let (header, _) = RequestHeader::mut_from_prefix(self.bytes_mut()).expect("room for a header");
        header
    }

    /// A typed view of the packet from its beginning; zeros if it is shorter than that.
    #[must_use]
    pub fn view<T: FromBytes + KnownLayout + Immutable>(&self) -> T {
        T::read_from_prefix(self.bytes()).map_or_else(|_| T::new_zeroed(), |(view, _)| view)
    }

    /// What follows a fixed part `T`.
    #[must_use]
    pub fn tail<T>(&self) -> &[u8] {
        self.bytes().get(size_of::<T>()..).unwrap_or_default()
    }

    /// The status in the header.
    #[must_use]
    pub fn status(&self) -> Status {
        Status(self.header().rc)
    }

    /// The function code that the packet is sent with: its own, for the sizes in the header, unless another one was set.
    #[must_use]
    pub fn code(&self) -> u32 {
        let header = self.header();
        let size = match self.function.flavour() {
            Flavour::Sized => header.in_bytes.max(header.out_bytes),
            _ => 0,
        };
        // A size that has no room in the code must not spill into the rest of it.
        self.code.unwrap_or_else(|| self.encoding.code(self.function, size & 0x1fff, IOCTL_FLAG))
    }

    /// Sends the packet with another function code.
    pub fn set_code(&mut self, code: u32) {
        self.code = Some(code);
    }

    /// Sends it.
    ///
    /// # Errors
    /// The system call failed; the packet is as it was.
    pub fn send(&mut self, device: &dyn Device) -> Result<Status, Refused> {
        let code = self.code();
        device.ioctl(code, self.bytes_mut())?;
        Ok(self.status())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use supdrv_core::abi::requests::{CookieIn, CookieOut};

    #[test]
    fn the_code_follows_the_sizes_in_the_header() {
        let input = CookieIn::new_zeroed();
        let mut packet = Packet::new(Encoding::Linux, Function::Cookie, &input, &[], size_of::<CookieOut>());
        assert_eq!(packet.code(), if cfg!(target_pointer_width = "64") { 0xc038_5681 } else { 0xc030_5601 });
        packet.header_mut().out_bytes = 0x40;
        assert_eq!(packet.code() >> 16, 0xc040);
        packet.set_code(7);
        assert_eq!(packet.code(), 7);
    }
}
