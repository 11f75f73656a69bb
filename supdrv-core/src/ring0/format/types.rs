//! The runtime's own types, `%R…`.
//!
//! | type | argument and text |
//! | --- | --- |
//! | `RI8` … `RI64`, `RU8` …, `RX8` … | integer of that many bits, signed, unsigned, hexadecimal |
//! | `Rrc` `Rrs` `Rrf` `Rra` | status code by name; `a` and `f` with the number; unknown ones by number |
//! | `Rhxs` `Rhxd` | memory: bytes in one line; a dump. The precision is the number of bytes, 16 without one |
//! | `Rfn` `Rbn` | function name without its arguments; file name without its path |
//! | `RGv` `RGp` `RGr`, `RHv` `RHp` `RHr`, `RCv` `RRv` | addresses and registers of guest, host and raw-mode context, all digits |
//! | `RGi` `RGu` `RGx`, `RHi` …, `RCi` … | integers of those sizes |
//! | `RTbool` `RTptr` `RTsel` `RTiop` `RTmac` `RTnaipv4` `RTnaipv6` `RTuuid` … | the type of that name |

use super::super::runtime::Ring0;
use super::super::types::Uuid;
use super::super::va::Args;
use super::{Formatter, Reader, Sink, Spec, flags, integer_argument, number};
use crate::abi::Status;

/// How a value of a type is shown.
#[derive(Clone, Copy)]
enum Shape {
    Signed,
    Unsigned,
    Hex,
    /// Hexadecimal, all digits.
    Address,
    /// Hexadecimal, that many digits.
    Digits(usize),
    Bool,
    Mac,
    Ipv4,
    Ipv6,
    Uuid,
}

const POINTER: usize = size_of::<usize>();

/// Names, sizes in bytes, shapes. Longer names come before their beginnings.
const TYPES: &[(&[u8], usize, Shape)] = &[
    (b"I8", 1, Shape::Signed),
    (b"I16", 2, Shape::Signed),
    (b"I32", 4, Shape::Signed),
    (b"I64", 8, Shape::Signed),
    (b"U8", 1, Shape::Unsigned),
    (b"U16", 2, Shape::Unsigned),
    (b"U32", 4, Shape::Unsigned),
    (b"U64", 8, Shape::Unsigned),
    (b"X8", 1, Shape::Hex),
    (b"X16", 2, Shape::Hex),
    (b"X32", 4, Shape::Hex),
    (b"X64", 8, Shape::Hex),
    (b"Gi", 8, Shape::Signed),
    (b"Gp", 8, Shape::Address),
    (b"Gr", 8, Shape::Address),
    (b"Gu", 8, Shape::Unsigned),
    (b"Gv", 8, Shape::Address),
    (b"Gx", 8, Shape::Hex),
    (b"Hi", POINTER, Shape::Signed),
    (b"Hp", 8, Shape::Address),
    (b"Hr", POINTER, Shape::Address),
    (b"Hu", POINTER, Shape::Unsigned),
    (b"Hv", POINTER, Shape::Address),
    (b"Hx", POINTER, Shape::Hex),
    (b"Ci", 4, Shape::Signed),
    (b"Cp", 8, Shape::Address),
    (b"Cr", 4, Shape::Address),
    (b"Cu", 4, Shape::Unsigned),
    (b"Cv", 4, Shape::Address),
    (b"Cx", 4, Shape::Hex),
    (b"Rv", 4, Shape::Address),
    (b"Tbool", 1, Shape::Bool),
    (b"Tfile", POINTER, Shape::Address),
    (b"Tfmode", 4, Shape::Digits(8)),
    (b"Tfoff", 8, Shape::Signed),
    (b"Tgid", 4, Shape::Signed),
    (b"Tino", 8, Shape::Digits(16)),
    (b"Tint", POINTER, Shape::Signed),
    (b"Tiop", 2, Shape::Digits(4)),
    (b"Tldrm", POINTER, Shape::Address),
    (b"Tmac", POINTER, Shape::Mac),
    (b"Tmsinterval", 4, Shape::Unsigned),
    (b"Tnaipv4", 4, Shape::Ipv4),
    (b"Tnaipv6", POINTER, Shape::Ipv6),
    (b"Tnthrd", POINTER, Shape::Address),
    (b"Tproc", 4, Shape::Digits(8)),
    (b"Tptr", POINTER, Shape::Address),
    (b"Treg", 8, Shape::Address),
    (b"Tsel", 2, Shape::Digits(4)),
    (b"Tsem", POINTER, Shape::Address),
    (b"Tsock", POINTER, Shape::Address),
    (b"Tthrd", POINTER, Shape::Address),
    (b"Tuid", 4, Shape::Signed),
    (b"Tuint", POINTER, Shape::Unsigned),
    (b"Tunicp", 4, Shape::Digits(4)),
    (b"Tutf16", 2, Shape::Digits(4)),
    (b"Tuuid", POINTER, Shape::Uuid),
    (b"Txint", POINTER, Shape::Hex),
];

/// Most bytes of one dump.
const MAX_DUMP_BYTES: usize = 4096;
const DUMP_LINE_BYTES: usize = 16;

/// A short line that is being written.
struct Line {
    text: [u8; 48],
    used: usize,
}

impl Line {
    fn new() -> Self {
        Self { text: [0; 48], used: 0 }
    }

    fn push(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if let Some(place) = self.text.get_mut(self.used) {
                *place = *byte;
                self.used += 1;
            }
        }
    }

    fn hex(&mut self, byte: u8) {
        let digit = |nibble: u8| if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 };
        self.push(&[digit(byte >> 4), digit(byte & 15)]);
    }

    /// Without leading zeros.
    fn hex_word(&mut self, word: u16) {
        let digits = (1..4).rev().find(|&digit| word >> (digit * 4) != 0).unwrap_or(0);
        for digit in (0..=digits).rev() {
            let nibble = (word >> (digit * 4) & 15) as u8;
            self.push(&[if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 }]);
        }
    }

    fn decimal(&mut self, byte: u8) {
        if byte >= 100 {
            self.push(&[b'0' + byte / 100]);
        }
        if byte >= 10 {
            self.push(&[b'0' + byte / 10 % 10]);
        }
        self.push(&[b'0' + byte % 10]);
    }

    fn as_bytes(&self) -> &[u8] {
        self.text.get(..self.used).unwrap_or(&[])
    }
}

fn ipv6(line: &mut Line, address: &[u8]) {
    let mut groups = [0u16; 8];
    for (group, bytes) in groups.iter_mut().zip(address.chunks_exact(2)) {
        *group = bytes.iter().fold(0, |word, byte| word << 8 | u16::from(*byte));
    }
    // The first of the longest runs of at least two zero groups is left out.
    let run_at = |start: usize| groups.iter().skip(start).take_while(|group| **group == 0).count();
    let longest = (0..8).map(run_at).max().filter(|length| *length >= 2).unwrap_or(0);
    let skipped = (0..8).find(|&start| longest != 0 && run_at(start) == longest);
    let mut index = 0;
    while let Some(group) = groups.get(index) {
        if skipped == Some(index) {
            line.push(b"::");
            index += longest;
            continue;
        }
        if index != 0 && skipped.is_none_or(|start| start + longest != index) {
            line.push(b":");
        }
        line.hex_word(*group);
        index += 1;
    }
}

fn hex_line(sink: &mut Sink, bytes: &[u8]) {
    for (index, byte) in bytes.iter().enumerate() {
        let mut text = Line::new();
        text.push(if index == 0 { b"" } else { b" " });
        text.hex(*byte);
        sink.put(text.as_bytes());
    }
}

fn hex_dump(sink: &mut Sink, address: usize, bytes: &[u8]) {
    for (index, line) in bytes.chunks(DUMP_LINE_BYTES).enumerate() {
        if index != 0 {
            sink.put(b"\n");
        }
        let offset = index * DUMP_LINE_BYTES;
        let pointer = Spec::default();
        number::put_pointer(sink, &pointer, address.wrapping_add(offset) as u64, POINTER);
        sink.put(b"/");
        number::put_pointer(sink, &pointer, offset as u64, 2);
        sink.put(b":");
        for place in 0..DUMP_LINE_BYTES {
            let mut text = Line::new();
            text.push(if place == DUMP_LINE_BYTES / 2 { b"-" } else { b" " });
            match line.get(place) {
                Some(byte) => text.hex(*byte),
                None => text.push(b"  "),
            }
            sink.put(text.as_bytes());
        }
        sink.put(b" ");
        for byte in line {
            sink.put(&[if (0x20..0x7f).contains(byte) { *byte } else { b'.' }]);
        }
    }
}

impl<R: Ring0> Formatter<'_, R> {
    /// A type after `%R`.
    ///
    /// # Safety
    /// As for [`run`](Self::run).
    pub(super) unsafe fn runtime_type(&mut self, reader: &mut Reader, spec: &Spec, args: &mut Args) {
        // SAFETY: condition of the function, here and below.
        unsafe {
            if reader.accept(b'[') {
                self.registered_type(reader, spec, args);
            } else if reader.accept_word(b"rc") || reader.accept_word(b"rs") {
                let status = Status(args.word() as i32);
                self.status(spec, status, false);
            } else if reader.accept_word(b"ra") || reader.accept_word(b"rf") {
                let status = Status(args.word() as i32);
                self.status(spec, status, true);
            } else if reader.accept_word(b"hxs") {
                self.memory(spec, args, false);
            } else if reader.accept_word(b"hxd") {
                self.memory(spec, args, true);
            } else if reader.accept_word(b"fn") {
                self.name(spec, args, |name| name.split(|byte| *byte == b'(').next().unwrap_or(name));
            } else if reader.accept_word(b"bn") {
                self.name(spec, args, |name| {
                    name.rsplit(|byte| matches!(byte, b'/' | b'\\' | b':')).next().unwrap_or(name)
                });
            } else if let Some((_, bytes, shape)) = TYPES.iter().find(|(name, ..)| reader.accept_word(name)) {
                let value = integer_argument(args, *bytes);
                self.value(spec, value, *bytes, *shape);
            } else {
                self.sink.put(b"%R");
            }
        }
    }

    fn status(&mut self, spec: &Spec, status: Status, with_number: bool) {
        let number = u64::from(status.0.cast_unsigned());
        let Some(name) = status.name() else {
            number::put_integer(self.sink, spec, b'd', number, 4);
            return;
        };
        spec.text(self.sink, name.as_bytes());
        if with_number {
            self.sink.put(b" (");
            number::put_integer(self.sink, &Spec::default(), b'd', number, 4);
            self.sink.put(b")");
        }
    }

    unsafe fn memory(&mut self, spec: &Spec, args: &mut Args, dump: bool) {
        // SAFETY: condition of the caller.
        let memory = unsafe { args.pointer::<u8>() };
        if memory.is_null() {
            self.sink.put(b"<null>");
            return;
        }
        let count = spec.precision.unwrap_or(DUMP_LINE_BYTES).min(MAX_DUMP_BYTES);
        // SAFETY: condition of the caller: that many bytes are there.
        let bytes = unsafe { core::slice::from_raw_parts(memory, count) };
        if dump {
            hex_dump(self.sink, memory as usize, bytes);
        } else {
            hex_line(self.sink, bytes);
        }
    }

    unsafe fn name(&mut self, spec: &Spec, args: &mut Args, part: impl Fn(&[u8]) -> &[u8]) {
        // SAFETY: condition of the caller.
        let name = unsafe { args.pointer::<core::ffi::c_char>() };
        if name.is_null() {
            spec.text(self.sink, b"<null>");
            return;
        }
        // SAFETY: condition of the caller.
        let name = unsafe { core::ffi::CStr::from_ptr(name) }.to_bytes();
        spec.text(self.sink, part(name));
    }

    /// `%R[name]`.
    unsafe fn registered_type(&mut self, reader: &mut Reader, spec: &Spec, args: &mut Args) {
        let mut name = [0u8; 48];
        let mut length = 0;
        while !matches!(reader.peek(), 0 | b']') {
            if let Some(place) = name.get_mut(length) {
                *place = reader.peek();
            }
            length += 1;
            reader.skip(1);
        }
        reader.accept(b']');
        // SAFETY: condition of the caller.
        let value = unsafe { args.pointer::<core::ffi::c_void>() };
        // The last byte stays for the NUL.
        let handler = name
            .get(..length)
            .filter(|_| length < name.len())
            .and_then(|name| R::state().types.handler(name));
        let Some((handler, user)) = handler else {
            self.sink.put(b"<unknown:");
            self.sink.put(name.get(..length.min(name.len())).unwrap_or(&[]));
            self.sink.put(b">");
            return;
        };
        let width = if spec.flags & flags::WIDTH != 0 { spec.width as i32 } else { -1 };
        let precision = spec.precision.map_or(-1, |precision| i32::try_from(precision).unwrap_or(i32::MAX));
        let (output, arg) = (self.sink.output, self.sink.arg);
        // SAFETY: the module promised that its handler may be called so.
        self.sink.written +=
            unsafe { handler(output, arg, name.as_ptr().cast(), value, width, precision, spec.flags, user) };
    }

    fn value(&mut self, spec: &Spec, value: u64, bytes: usize, shape: Shape) {
        match shape {
            Shape::Signed => number::put_integer(self.sink, spec, b'd', value, bytes),
            Shape::Unsigned => number::put_integer(self.sink, spec, b'u', value, bytes),
            Shape::Hex => number::put_integer(self.sink, spec, b'x', value, bytes),
            Shape::Address => number::put_pointer(self.sink, spec, value, bytes),
            Shape::Digits(digits) => {
                let spec = Spec { precision: Some(digits), ..*spec };
                number::put_integer(self.sink, &spec, b'x', value, bytes);
            }
            Shape::Bool => spec.text(self.sink, if value & 0xff != 0 { b"true" } else { b"false" }),
            Shape::Ipv4 => {
                let mut line = Line::new();
                // The address is in network order: its first byte comes first in memory.
                for (index, byte) in (value as u32).to_ne_bytes().into_iter().enumerate() {
                    line.push(if index == 0 { b"" } else { b"." });
                    line.decimal(byte);
                }
                spec.text(self.sink, line.as_bytes());
            }
            Shape::Mac | Shape::Ipv6 | Shape::Uuid => self.object(spec, value as usize, shape),
        }
    }

    /// What the argument points to.
    fn object(&mut self, spec: &Spec, address: usize, shape: Shape) {
        let pointer = address as *const [u8; 16];
        if pointer.is_null() {
            spec.text(self.sink, b"<null>");
            return;
        }
        let mut line = Line::new();
        match shape {
            Shape::Mac => {
                // SAFETY: the format says that a MAC address is there.
                let address = unsafe { pointer.cast::<[u8; 6]>().read_unaligned() };
                for (index, byte) in address.into_iter().enumerate() {
                    line.push(if index == 0 { b"" } else { b":" });
                    line.hex(byte);
                }
            }
            Shape::Ipv6 => {
                // SAFETY: the format says that an address is there.
                ipv6(&mut line, &unsafe { pointer.read_unaligned() });
            }
            _ => {
                // SAFETY: the format says that a UUID is there.
                line.push(&Uuid(unsafe { pointer.read_unaligned() }).text());
            }
        }
        spec.text(self.sink, line.as_bytes());
    }
}
