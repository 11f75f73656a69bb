//! Request packets as a client builds them, right ones and wrong ones.

use std::vec::Vec;

use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

use crate::abi::Status;
use crate::abi::ioctl::{
    DEVEXT_COOKIE, Encoding, FLAGS_DEFAULT, Function, INITIAL_COOKIE, IOCTL_FLAG, SESSION_COOKIE,
};
use crate::abi::requests::{HEADER_BYTES, RequestHeader};
use crate::abi::status::Result;

/// A packet in the making. What isn't said otherwise is right.
///
/// ```
/// use supdrv_core::abi::ioctl::Function;
/// use supdrv_core::abi::requests::{PageFreeIn, RequestHeader};
/// use supdrv_core::mock::{Request, packet::zeroed};
///
/// let request = Request::new(Function::PageFree).input(&PageFreeIn { r3: 0x1000, ..zeroed() });
/// assert_eq!(request.header().in_bytes as usize, size_of::<PageFreeIn>());
/// assert_eq!(request.header().out_bytes as usize, size_of::<RequestHeader>());
/// ```
#[derive(Clone, Debug)]
pub struct Request {
    function: Function,
    code: Option<u32>,
    header: RequestHeader,
    body: Vec<u8>,
    buffer_bytes: Option<usize>,
}

/// A packet type with all bytes zero, for `..zeroed()`.
#[must_use]
pub fn zeroed<T: FromZeros>() -> T {
    T::new_zeroed()
}

impl Request {
    /// A packet that is only a header, both ways.
    #[must_use]
    pub fn new(function: Function) -> Self {
        let handshake = function == Function::Cookie;
        let header = RequestHeader {
            cookie: if handshake { INITIAL_COOKIE } else { DEVEXT_COOKIE },
            session_cookie: if handshake { 0 } else { SESSION_COOKIE },
            in_bytes: HEADER_BYTES as u32,
            out_bytes: HEADER_BYTES as u32,
            flags: FLAGS_DEFAULT,
            rc: i32::from_ne_bytes([0x5a; 4]),
        };
        Self { function, code: None, header, body: Vec::new(), buffer_bytes: None }
    }

    /// Sets the fixed part of the input, and the input's size to that. The header inside `input` is ignored.
    #[must_use]
    pub fn input<T: IntoBytes + Immutable>(mut self, input: &T) -> Self {
        self.body = input.as_bytes()[HEADER_BYTES..].to_vec();
        self.header.in_bytes = size_of::<T>() as u32;
        self
    }

    /// Appends a variable part to the input.
    #[must_use]
    pub fn tail(mut self, bytes: &[u8]) -> Self {
        self.body.extend_from_slice(bytes);
        self.header.in_bytes += bytes.len() as u32;
        self
    }

    /// Makes room for an output of a type.
    #[must_use]
    pub const fn output<T>(self) -> Self {
        self.out_bytes(size_of::<T>() as u32)
    }

    /// Makes room for an output of a type with `items` of another one behind it.
    #[must_use]
    pub const fn output_with<T, U>(self, items: usize) -> Self {
        self.out_bytes((size_of::<T>() + items * size_of::<U>()) as u32)
    }

    /// Sets the size of the input in the header.
    #[must_use]
    pub const fn in_bytes(mut self, bytes: u32) -> Self {
        self.header.in_bytes = bytes;
        self
    }

    /// Sets the size of the output in the header.
    #[must_use]
    pub const fn out_bytes(mut self, bytes: u32) -> Self {
        self.header.out_bytes = bytes;
        self
    }

    /// Sets the flags in the header.
    #[must_use]
    pub const fn flags(mut self, flags: u32) -> Self {
        self.header.flags = flags;
        self
    }

    /// Sets the cookies in the header.
    #[must_use]
    pub const fn cookies(mut self, cookie: u32, session_cookie: u32) -> Self {
        (self.header.cookie, self.header.session_cookie) = (cookie, session_cookie);
        self
    }

    /// Sends another code than the function's.
    #[must_use]
    pub const fn code(mut self, code: u32) -> Self {
        self.code = Some(code);
        self
    }

    /// Makes the buffer of another size than the header says.
    #[must_use]
    pub const fn buffer_bytes(mut self, bytes: usize) -> Self {
        self.buffer_bytes = Some(bytes);
        self
    }

    /// The header as it will be sent.
    #[must_use]
    pub const fn header(&self) -> &RequestHeader {
        &self.header
    }

    /// Its function.
    #[must_use]
    pub const fn function(&self) -> Function {
        self.function
    }

    /// The code that it is sent with.
    #[must_use]
    pub fn code_for(&self, encoding: Encoding) -> u32 {
        let bytes = self.header.in_bytes.max(self.header.out_bytes);
        self.code.unwrap_or_else(|| encoding.code(self.function, bytes, IOCTL_FLAG))
    }

    /// The packet in a buffer, as words for its alignment, and its size in bytes.
    #[must_use]
    pub fn buffer(&self) -> (Vec<u64>, usize) {
        let said = self.header.in_bytes.max(self.header.out_bytes) as usize;
        let bytes = self.buffer_bytes.unwrap_or(said.max(HEADER_BYTES));
        let mut words = std::vec![0; bytes.div_ceil(8)];
        let content: Vec<u8> = self.header.as_bytes().iter().chain(&self.body).copied().collect();
        let used = content.len().min(bytes);
        words.as_mut_bytes()[..used].copy_from_slice(&content[..used]);
        (words, bytes)
    }
}

/// What came of a packet.
#[derive(Clone, Debug)]
pub struct Reply {
    /// What the call returned. If it is an error, nothing travels back to a client.
    pub call: Result<()>,
    bytes: Vec<u64>,
}

impl Reply {
    /// A packet after the driver had it.
    #[must_use]
    pub const fn new(call: Result<()>, bytes: Vec<u64>) -> Self {
        Self { call, bytes }
    }

    /// The header as the driver left it.
    #[must_use]
    pub fn header(&self) -> RequestHeader {
        self.output()
    }

    /// The status in the header.
    #[must_use]
    pub fn rc(&self) -> Status {
        Status(self.header().rc)
    }

    /// The status of the request: of the call if that failed, else of the header.
    ///
    /// # Errors
    /// If it is a failure.
    pub fn status(&self) -> Result<Status> {
        self.call?;
        let rc = self.rc();
        if rc.is_failure() { Err(rc) } else { Ok(rc) }
    }

    /// Bytes that travel back.
    #[must_use]
    pub fn out_bytes(&self) -> usize {
        self.header().out_bytes as usize
    }

    /// The fixed part of the output.
    ///
    /// # Panics
    /// If the packet is too small for it.
    #[must_use]
    pub fn output<T: FromBytes>(&self) -> T {
        T::read_from_prefix(self.bytes.as_bytes()).expect("the packet has room for the output").0
    }

    /// The items behind a fixed part `T`, as many as travel back.
    #[must_use]
    pub fn items<T, U: FromBytes>(&self) -> Vec<U> {
        let end = self.out_bytes().min(size_of_val(&*self.bytes));
        let bytes = self.bytes.as_bytes().get(size_of::<T>()..end).unwrap_or(&[]);
        bytes.chunks_exact(size_of::<U>()).filter_map(|item| U::read_from_bytes(item).ok()).collect()
    }

    /// The whole packet, padded to words.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.bytes.as_bytes()
    }
}
