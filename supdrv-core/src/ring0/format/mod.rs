//! Formatting: `RTStrFormat*`, `RTStrPrintf*`, and the text of `SUPR0Printf` and assertions.
//!
//! ```text
//!   % [flags: - + space # 0 '] [width: n or *] [.precision: n or *] [size: h hh l ll L q j z t I I32 I64] specifier
//! ```
//!
//! | specifier | argument |
//! | --- | --- |
//! | `d` `i` `u` `x` `X` `o` | integer of the size; `'` groups decimal digits by spaces |
//! | `p` | pointer, as many hexadecimal digits as it has |
//! | `c` `s` `ls` `Ls` | character, UTF-8, UTF-16 and UTF-32 string; null is `<NULL>` |
//! | `M` | format, which takes the arguments that follow |
//! | `N` | format and `va_list *` |
//! | `R…` | the runtime's own types, see `types`; `R[name]` those that modules registered |
//!
//! Floating point doesn't exist in a kernel. What isn't known is offered to the caller's extension, or printed as it stands.

mod number;
mod registry;
mod types;

use core::ffi::{c_char, c_void};
use core::ptr::null;

use super::runtime::Ring0;
use super::types::{StrFormatExtension, StrOutput};
use super::va::{Args, Copied, VaList};
use crate::os::OsLog;

pub use number::format_number;
pub(super) use registry::Types;
pub use registry::{format_type_deregister, format_type_register, format_type_set_user};

/// Flags, as extensions and type handlers get them.
pub mod flags {
    #![allow(missing_docs, reason = "the names of the C constants")]
    pub const CAPITAL: u32 = 0x0001;
    pub const LEFT: u32 = 0x0002;
    pub const ZERO_PAD: u32 = 0x0004;
    pub const SPECIAL: u32 = 0x0008;
    pub const SIGNED: u32 = 0x0010;
    pub const PLUS: u32 = 0x0020;
    pub const BLANK: u32 = 0x0040;
    pub const WIDTH: u32 = 0x0080;
    pub const PRECISION: u32 = 0x0100;
    pub const THOUSANDS: u32 = 0x0200;
    pub const BITS_8: u32 = 0x0800;
    pub const BITS_16: u32 = 0x1000;
    pub const BITS_32: u32 = 0x2000;
    pub const BITS_64: u32 = 0x4000;
}

/// Formats in formats in formats end here.
const MAX_NESTING: u32 = 4;

/// Where characters go.
pub(super) struct Sink {
    output: StrOutput,
    arg: *mut c_void,
    written: usize,
}

impl Sink {
    /// # Safety
    /// `output` may be called with `arg`.
    unsafe fn new(output: StrOutput, arg: *mut c_void) -> Self {
        Self { output, arg, written: 0 }
    }

    fn put(&mut self, text: &[u8]) {
        if !text.is_empty() {
            // SAFETY: condition of `new`.
            self.written += unsafe { (self.output)(self.arg, text.as_ptr().cast(), text.len()) };
        }
    }

    fn pad(&mut self, byte: u8, count: usize) {
        let (block, mut left) = ([byte; 16], count);
        while left != 0 {
            let now = left.min(block.len());
            self.put(block.get(..now).unwrap_or(&[]));
            left -= now;
        }
    }

    /// Tells the output that this was all.
    fn finish(&mut self) {
        // SAFETY: condition of `new`; this is how the end is told.
        self.written += unsafe { (self.output)(self.arg, null(), 0) };
    }
}

/// What is between the percent sign and the specifier.
#[derive(Clone, Copy, Debug, Default)]
struct Spec {
    flags: u32,
    width: usize,
    precision: Option<usize>,
    size: u8,
}

impl Spec {
    /// Text in its field, cut at the precision.
    fn text(&self, sink: &mut Sink, text: &[u8]) {
        let text = text.get(..self.precision.unwrap_or(text.len())).unwrap_or(text);
        let padding = self.width.saturating_sub(text.len());
        let left = self.flags & flags::LEFT != 0;
        sink.pad(b' ', if left { 0 } else { padding });
        sink.put(text);
        sink.pad(b' ', if left { padding } else { 0 });
    }

    /// Bytes of an integer argument of this size.
    fn int_bytes(&self) -> usize {
        match self.size {
            b'H' => 1,
            b'h' => 2,
            b'l' | b'z' | b't' | b'I' => size_of::<usize>(),
            b'L' | b'j' | b'q' | b'6' => 8,
            _ => 4,
        }
    }
}

/// Reads a format.
struct Reader(*const u8);

impl Reader {
    fn peek(&self) -> u8 {
        // SAFETY: the format is readable up to its NUL, which the reader never passes.
        unsafe { self.0.read() }
    }

    fn skip(&mut self, count: usize) {
        // SAFETY: the caller has seen that many bytes that aren't NUL.
        self.0 = unsafe { self.0.add(count) };
    }

    fn accept(&mut self, byte: u8) -> bool {
        let found = self.peek() == byte;
        if found {
            self.skip(1);
        }
        found
    }

    /// Everything up to the next percent sign or the end.
    fn literal<'a>(&mut self) -> &'a [u8] {
        let start = self.0;
        let mut length = 0;
        while !matches!(self.peek(), 0 | b'%') {
            self.skip(1);
            length += 1;
        }
        // SAFETY: just read.
        unsafe { core::slice::from_raw_parts(start, length) }
    }

    fn number(&mut self) -> Option<usize> {
        let mut number = None;
        while let digit @ b'0'..=b'9' = self.peek() {
            number =
                Some(number.unwrap_or(0usize).saturating_mul(10).saturating_add(usize::from(digit - b'0')));
            self.skip(1);
        }
        number
    }

    /// Skips a word if it comes next.
    fn accept_word(&mut self, word: &[u8]) -> bool {
        for (index, byte) in word.iter().enumerate() {
            // SAFETY: the bytes before this one matched, thus weren't NUL.
            if unsafe { self.0.add(index).read() } != *byte {
                return false;
            }
        }
        self.skip(word.len());
        true
    }

    fn size(&mut self) -> u8 {
        for (word, size) in [
            (&b"ll"[..], b'L'),
            (b"hh", b'H'),
            (b"I64", b'6'),
            (b"I32", b'3'),
            (b"l", b'l'),
            (b"h", b'h'),
            (b"L", b'L'),
            (b"q", b'q'),
            (b"j", b'j'),
            (b"z", b'z'),
            (b"t", b't'),
            (b"I", b'I'),
        ] {
            if self.accept_word(word) {
                return size;
            }
        }
        0
    }
}

/// The widest field: a foreign number must not keep the machine busy.
const MAX_FIELD: usize = 4096;

/// One call of the formatter.
struct Formatter<'a, R: Ring0> {
    sink: &'a mut Sink,
    extension: Option<(StrFormatExtension, *mut c_void)>,
    nesting: u32,
    _runtime: core::marker::PhantomData<R>,
}

impl<R: Ring0> Formatter<'_, R> {
    /// # Safety
    /// The format is a C string, and its arguments are there.
    unsafe fn run(&mut self, format: *const c_char, args: &mut Args) {
        let mut reader = Reader(format.cast());
        loop {
            let literal = reader.literal();
            self.sink.put(literal);
            if !reader.accept(b'%') {
                return;
            }
            if reader.accept(b'%') {
                self.sink.put(b"%");
                continue;
            }
            // SAFETY: condition of the function.
            unsafe {
                let spec = Self::spec(&mut reader, args);
                self.specifier(&mut reader, &spec, args);
            }
        }
    }

    unsafe fn field(reader: &mut Reader, args: &mut Args) -> Option<i32> {
        if reader.accept(b'*') {
            // SAFETY: the format says that there is an int.
            return Some(unsafe { args.word() } as i32);
        }
        reader.number().map(|number| i32::try_from(number).unwrap_or(i32::MAX))
    }

    unsafe fn spec(reader: &mut Reader, args: &mut Args) -> Spec {
        let mut spec = Spec::default();
        loop {
            spec.flags |= match reader.peek() {
                b'-' => flags::LEFT,
                b'+' => flags::PLUS,
                b' ' => flags::BLANK,
                b'#' => flags::SPECIAL,
                b'0' => flags::ZERO_PAD,
                b'\'' => flags::THOUSANDS,
                _ => break,
            };
            reader.skip(1);
        }
        // SAFETY: condition of the caller.
        if let Some(width) = unsafe { Self::field(reader, args) } {
            spec.flags |= flags::WIDTH | if width < 0 { flags::LEFT } else { 0 };
            spec.width = (width.unsigned_abs() as usize).min(MAX_FIELD);
        }
        if reader.accept(b'.') {
            // SAFETY: condition of the caller.
            let precision = unsafe { Self::field(reader, args) }.unwrap_or(0);
            if let Ok(precision) = usize::try_from(precision) {
                spec.flags |= flags::PRECISION;
                spec.precision = Some(precision);
            }
        }
        spec.size = reader.size();
        spec
    }

    /// # Safety
    /// As for [`run`](Self::run).
    unsafe fn specifier(&mut self, reader: &mut Reader, spec: &Spec, args: &mut Args) {
        let specifier = reader.peek();
        // SAFETY: condition of the function.
        unsafe {
            match specifier {
                0 => return,
                b'd' | b'i' | b'u' | b'x' | b'X' | b'o' => {
                    let value = integer_argument(args, spec.int_bytes());
                    number::put_integer(self.sink, spec, specifier, value, spec.int_bytes());
                }
                b'p' => {
                    let value = args.word() as u64;
                    number::put_pointer(self.sink, spec, value, size_of::<usize>());
                }
                b'c' => {
                    let character = args.word() as u8;
                    spec.text(self.sink, &[character]);
                }
                b's' => self.string(spec, args),
                b'M' => {
                    let nested = args.pointer();
                    self.nested(nested, args);
                }
                b'N' => {
                    let (nested, list) = (args.pointer(), args.pointer::<c_void>());
                    if !list.is_null() {
                        let mut storage = Copied::default();
                        self.nested(nested, &mut Args::of_pointer(list.cast_mut(), &mut storage));
                    }
                }
                b'R' => {
                    reader.skip(1);
                    self.runtime_type(reader, spec, args);
                    return;
                }
                _ => {
                    self.unknown(reader, spec, args);
                    return;
                }
            }
        }
        reader.skip(1);
    }

    unsafe fn nested(&mut self, format: *const c_char, args: &mut Args) {
        if format.is_null() || self.nesting == MAX_NESTING {
            self.sink.put(b"<NULL>");
            return;
        }
        self.nesting += 1;
        // SAFETY: condition of the caller.
        unsafe { self.run(format, args) };
        self.nesting -= 1;
    }

    unsafe fn string(&mut self, spec: &Spec, args: &mut Args) {
        // SAFETY: condition of the caller, here and below: strings end with a NUL or at the precision.
        let text = unsafe { args.pointer::<u8>() };
        if text.is_null() {
            spec.text(self.sink, b"<NULL>");
            return;
        }
        let max = spec.precision.unwrap_or(usize::MAX);
        match spec.size {
            // SAFETY: as above.
            b'l' => self.wide(
                spec,
                |index| u32::from(unsafe { text.cast::<u16>().add(index).read_unaligned() }),
                max,
            ),
            // SAFETY: as above.
            b'L' => self.wide(spec, |index| unsafe { text.cast::<u32>().add(index).read_unaligned() }, max),
            _ => {
                // SAFETY: as above.
                let length = (0..max).find(|&index| unsafe { text.add(index).read() } == 0).unwrap_or(max);
                // SAFETY: just read.
                spec.text(self.sink, unsafe { core::slice::from_raw_parts(text, length) });
            }
        }
    }

    /// A string of larger units, up to its NUL or `max` characters.
    fn wide(&mut self, spec: &Spec, unit: impl Fn(usize) -> u32, max: usize) {
        let characters = || WideChars { unit: &unit, next: 0 }.take(max);
        let padding = spec.width.saturating_sub(characters().count());
        let left = spec.flags & flags::LEFT != 0;
        self.sink.pad(b' ', if left { 0 } else { padding });
        for character in characters() {
            self.sink.put(character.encode_utf8(&mut [0; 4]).as_bytes());
        }
        self.sink.pad(b' ', if left { padding } else { 0 });
    }

    /// A specifier that only the caller may know.
    unsafe fn unknown(&mut self, reader: &mut Reader, spec: &Spec, args: &mut Args) {
        let Some((extension, arg)) = self.extension else {
            self.sink.put(&[b'%', reader.peek()]);
            reader.skip(1);
            return;
        };
        let mut format = reader.0.cast::<c_char>();
        let width = if spec.flags & flags::WIDTH != 0 { spec.width as i32 } else { -1 };
        let precision = spec.precision.map_or(-1, |precision| i32::try_from(precision).unwrap_or(i32::MAX));
        // SAFETY: the caller promised that its extension may be called so.
        self.sink.written += unsafe {
            extension(
                arg,
                self.sink.output,
                self.sink.arg,
                &raw mut format,
                args.as_va_list_pointer(),
                width,
                precision,
                spec.flags,
                spec.size.cast_signed() as c_char,
            )
        };
        if format.cast() == reader.0 {
            // One that doesn't move on would be asked for ever.
            reader.skip(1);
        } else {
            reader.0 = format.cast();
        }
    }
}

/// The characters of a UTF-16 or UTF-32 string; what isn't one becomes U+FFFD.
struct WideChars<F> {
    unit: F,
    next: usize,
}

impl<F: Fn(usize) -> u32> Iterator for WideChars<F> {
    type Item = char;

    fn next(&mut self) -> Option<char> {
        let unit = (self.unit)(self.next);
        if unit == 0 {
            return None;
        }
        self.next += 1;
        if (0xd800..0xdc00).contains(&unit) {
            let low = (self.unit)(self.next);
            if (0xdc00..0xe000).contains(&low) {
                self.next += 1;
                return char::from_u32(0x1_0000 + ((unit - 0xd800) << 10) + (low - 0xdc00));
            }
        }
        Some(char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER))
    }
}

/// # Safety
/// There is an integer of that many bytes.
unsafe fn integer_argument(args: &mut Args, bytes: usize) -> u64 {
    // SAFETY: condition of the function.
    unsafe { if bytes > size_of::<usize>() { args.long() } else { args.word() as u64 } }
}

/// # Safety
/// As for the C functions.
unsafe fn format_into<R: Ring0>(
    sink: &mut Sink,
    extension: Option<(StrFormatExtension, *mut c_void)>,
    format: *const c_char,
    args: VaList,
) -> usize {
    let _runtime = core::marker::PhantomData;
    let mut formatter = Formatter::<'_, R> { sink: &mut *sink, extension, nesting: 0, _runtime };
    if !format.is_null() {
        // SAFETY: conditions of the function.
        unsafe { formatter.run(format, &mut Args::new(args)) };
    }
    sink.finish();
    sink.written
}

/// Formats into output callbacks; characters written. Class of the callbacks.
pub unsafe fn format_v<R: Ring0>(
    output: Option<StrOutput>,
    output_arg: *mut c_void,
    extension: Option<StrFormatExtension>,
    extension_arg: *mut c_void,
    format: *const c_char,
    args: VaList,
) -> usize {
    let Some(output) = output else { return 0 };
    let extension = extension.map(|extension| (extension, extension_arg));
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { format_into::<R>(&mut Sink::new(output, output_arg), extension, format, args) }
}

/// A buffer that is being filled.
struct Buffer {
    at: *mut c_char,
    /// Without the terminator.
    room: usize,
}

unsafe extern "C" fn into_buffer(buffer: *mut c_void, text: *const c_char, count: usize) -> usize {
    // SAFETY: the argument of this output is always a Buffer.
    let buffer = unsafe { &mut *buffer.cast::<Buffer>() };
    let count = count.min(buffer.room);
    if count != 0 {
        // SAFETY: there is room for that many.
        unsafe {
            core::ptr::copy_nonoverlapping(text, buffer.at, count);
            buffer.at = buffer.at.add(count);
        }
        buffer.room -= count;
    }
    count
}

/// Formats into a buffer of `bytes`, always terminated unless `bytes` is 0; characters written. Class I.
pub unsafe fn printf_ex_v<R: Ring0>(
    extension: Option<StrFormatExtension>,
    extension_arg: *mut c_void,
    buffer: *mut c_char,
    bytes: usize,
    format: *const c_char,
    args: VaList,
) -> usize {
    let Some(room) = bytes.checked_sub(1) else { return 0 };
    let mut to = Buffer { at: buffer, room };
    let extension = extension.map(|extension| (extension, extension_arg));
    // SAFETY: the caller keeps the contract of the C function.
    unsafe {
        let mut sink = Sink::new(into_buffer, (&raw mut to).cast());
        let written = format_into::<R>(&mut sink, extension, format, args);
        to.at.write(0);
        written
    }
}

/// As [`printf_ex_v`] without an extension.
pub unsafe fn printf_v<R: Ring0>(
    buffer: *mut c_char,
    bytes: usize,
    format: *const c_char,
    args: VaList,
) -> usize {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { printf_ex_v::<R>(None, core::ptr::null_mut(), buffer, bytes, format, args) }
}

/// One message for the kernel log.
const MAX_MESSAGE_BYTES: usize = 512;

/// # Safety
/// As for the C functions.
pub(super) unsafe fn print_to_log<R: Ring0>(format: *const c_char, args: VaList) {
    let mut message = [0u8; MAX_MESSAGE_BYTES];
    // SAFETY: conditions of the function; the buffer is that large.
    let written = unsafe { printf_v::<R>(message.as_mut_ptr().cast(), MAX_MESSAGE_BYTES, format, args) };
    R::os().log_write(message.get(..written).unwrap_or(&message));
}

/// `SUPR0Printf`: a message for the kernel log, cut at 511 bytes. Class I where the system can print there. 0.
pub unsafe fn supr0_printf_v<R: Ring0>(format: *const c_char, args: VaList) -> i32 {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { print_to_log::<R>(format, args) };
    0
}
