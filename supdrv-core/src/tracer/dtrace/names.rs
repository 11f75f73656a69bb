//! Names as the host wants them.

use core::ffi::CStr;

/// Bytes of a name of the host, with its NUL.
pub const NAME_BYTES: usize = 128;

/// Text of the host, terminated and cut where it must be.
pub struct Text {
    bytes: [u8; NAME_BYTES],
    len: usize,
}

impl Text {
    pub fn new(text: &[u8], max: usize) -> Self {
        let mut new = Self { bytes: [0; NAME_BYTES], len: 0 };
        text.iter().take(max).for_each(|byte| new.push(*byte));
        new
    }

    pub fn push(&mut self, byte: u8) {
        // The last byte stays the NUL.
        if self.len + 1 < NAME_BYTES
            && let Some(place) = self.bytes.get_mut(self.len)
        {
            *place = byte;
            self.len += 1;
        }
    }

    pub fn push_number(&mut self, number: u32) {
        self.push(b'-');
        let mut divisor = 1_000_000_000;
        while divisor > 1 && number < divisor {
            divisor /= 10;
        }
        while divisor > 0 {
            self.push(b'0' + (number / divisor % 10) as u8);
            divisor /= 10;
        }
    }

    pub fn as_c(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.bytes).unwrap_or_default()
    }
}

/// The name of a function in what the compiler said of it: `int Class::method(int)` is `Class::method`.
pub fn function_name(text: &[u8]) -> &[u8] {
    let Some(end) = text.iter().position(|byte| *byte == b'(') else { return text };
    let head = text.get(..end).unwrap_or(&[]);
    let last = head.iter().rposition(|byte| !matches!(byte, b' ' | b'\t')).map_or(0, |last| last + 1);
    let head = head.get(..last).unwrap_or(&[]);
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':');
    let start = head.iter().rposition(|byte| !is_name(byte)).map_or(0, |before| before + 1);
    match head.get(start..) {
        None | Some([]) => b"unknown",
        Some(name) => name,
    }
}
