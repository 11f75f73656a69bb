//! Integers as text.

use core::ffi::c_char;

use super::{Sink, Spec, flags};

/// 64 binary digits and what may be between and before them.
const MAX_DIGITS: usize = 96;

/// Digits, written from the end.
struct Digits {
    text: [u8; MAX_DIGITS],
    start: usize,
}

impl Digits {
    fn new() -> Self {
        Self { text: [b'0'; MAX_DIGITS], start: MAX_DIGITS }
    }

    fn push(&mut self, byte: u8) {
        if let Some(start) = self.start.checked_sub(1)
            && let Some(place) = self.text.get_mut(start)
        {
            *place = byte;
            self.start = start;
        }
    }

    fn as_bytes(&self) -> &[u8] {
        self.text.get(self.start..).unwrap_or(&[])
    }
}

fn digits(value: u64, base: u32, capital: bool, group: bool) -> Digits {
    let mut digits = Digits::new();
    // Callers check it; said here so that no division can fail.
    let base = u64::from(base.max(2));
    let (mut rest, mut count) = (value, 0);
    loop {
        let digit = (rest % base) as u8;
        let letter = if capital { b'A' } else { b'a' };
        if group && count != 0 && count % 3 == 0 {
            digits.push(b' ');
        }
        digits.push(if digit < 10 { b'0' + digit } else { letter + digit - 10 });
        rest /= base;
        count += 1;
        if rest == 0 {
            return digits;
        }
    }
}

/// A number, taken apart.
struct Parts {
    prefix: &'static [u8],
    /// Zeros before the digits.
    zeros: usize,
    digits: Digits,
    /// Spaces before and after.
    before: usize,
    after: usize,
}

/// The value of the low `bytes`, and its sign if it is signed.
fn magnitude(value: u64, bytes: usize, signed: bool) -> (u64, bool) {
    let unused = 64u32.saturating_sub(bytes as u32 * 8).min(63);
    let cut = value << unused;
    if signed {
        let value = cut.cast_signed() >> unused;
        (value.unsigned_abs(), value < 0)
    } else {
        (cut >> unused, false)
    }
}

fn parts(value: u64, negative: bool, base: u32, spec: &Spec) -> Parts {
    let has = |flag: u32| spec.flags & flag != 0;
    let capital = has(flags::CAPITAL);
    let digits = digits(value, base, capital, has(flags::THOUSANDS) && base == 10);
    let prefix: &'static [u8] = match (base, has(flags::SPECIAL)) {
        (16, true) if capital => b"0X",
        (16, true) => b"0x",
        (8, true) => b"0",
        _ if negative => b"-",
        _ if has(flags::SIGNED) && has(flags::PLUS) => b"+",
        _ if has(flags::SIGNED) && has(flags::BLANK) => b" ",
        _ => b"",
    };
    let length = digits.as_bytes().len();
    let mut zeros = spec.precision.unwrap_or(0).saturating_sub(length);
    let room = spec.width.saturating_sub(prefix.len() + zeros + length);
    let (mut before, mut after) = (0, 0);
    if has(flags::LEFT) {
        after = room;
    } else if has(flags::ZERO_PAD) && spec.precision.is_none() {
        zeros += room;
    } else {
        before = room;
    }
    Parts { prefix, zeros, digits, before, after }
}

fn put(sink: &mut Sink, parts: &Parts) {
    sink.pad(b' ', parts.before);
    sink.put(parts.prefix);
    sink.pad(b'0', parts.zeros);
    sink.put(parts.digits.as_bytes());
    sink.pad(b' ', parts.after);
}

/// An integer of `bytes`, by its specifier.
pub(super) fn put_integer(sink: &mut Sink, spec: &Spec, specifier: u8, value: u64, bytes: usize) {
    let mut spec = *spec;
    let base = match specifier {
        b'x' | b'X' => 16,
        b'o' => 8,
        _ => 10,
    };
    if specifier == b'X' {
        spec.flags |= flags::CAPITAL;
    }
    let signed = matches!(specifier, b'd' | b'i');
    if signed {
        spec.flags |= flags::SIGNED;
    }
    spec.precision = spec.precision.map(|precision| precision.min(super::MAX_FIELD));
    let (value, negative) = magnitude(value, bytes, signed);
    put(sink, &parts(value, negative, base, &spec));
}

/// An address of `bytes`: all of its digits, without a prefix unless it is asked for.
pub(super) fn put_pointer(sink: &mut Sink, spec: &Spec, value: u64, bytes: usize) {
    let mut spec = Spec { precision: Some(bytes * 2), ..*spec };
    spec.flags &= flags::LEFT | flags::SPECIAL;
    let (value, _) = magnitude(value, bytes, false);
    put(sink, &parts(value, false, 16, &spec));
}

/// `RTStrFormatNumber`: writes a number, terminated; its length. The buffer has room for the larger of 64 bytes, width + 1 and precision + 4.
/// Any context.
pub unsafe fn format_number(
    to: *mut c_char,
    value: u64,
    base: u32,
    width: i32,
    precision: i32,
    number_flags: u32,
) -> i32 {
    if to.is_null() || !(2..=36).contains(&base) {
        return 0;
    }
    let bytes = match number_flags & (flags::BITS_8 | flags::BITS_16 | flags::BITS_32 | flags::BITS_64) {
        flags::BITS_8 => 1,
        flags::BITS_16 => 2,
        flags::BITS_32 => 4,
        _ => 8,
    };
    let field = |value: i32| usize::try_from(value).ok().map(|value| value.min(super::MAX_FIELD));
    let spec = Spec {
        flags: number_flags,
        width: field(width).unwrap_or(0),
        precision: field(precision).filter(|_| number_flags & flags::PRECISION != 0 || precision > 0),
        size: 0,
    };
    let (value, negative) = magnitude(value, bytes, number_flags & flags::SIGNED != 0);
    let parts = parts(value, negative, base, &spec);
    let mut length = 0;
    let mut write = |byte: u8| {
        // SAFETY: the caller keeps the contract of the C function.
        unsafe { to.add(length).write(byte.cast_signed() as c_char) };
        length += 1;
    };
    (0..parts.before).for_each(|_| write(b' '));
    parts.prefix.iter().for_each(|byte| write(*byte));
    (0..parts.zeros).for_each(|_| write(b'0'));
    parts.digits.as_bytes().iter().for_each(|byte| write(*byte));
    (0..parts.after).for_each(|_| write(b' '));
    write(0);
    i32::try_from(length - 1).unwrap_or(i32::MAX)
}
