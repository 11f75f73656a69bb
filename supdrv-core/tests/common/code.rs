//! Machine code for test images (x86-64, System V): what a module's functions do, in bytes.
#![allow(dead_code, reason = "not every test needs all of it")]

use std::ffi::c_void;
use std::sync::atomic::AtomicU32;

use supdrv_core::mock::client::Image;

fn absolute(opcode: [u8; 2], value: usize) -> Vec<u8> {
    opcode.into_iter().chain((value as u64).to_le_bytes()).collect()
}

/// `return status`.
pub fn returns(status: i32) -> Vec<u8> {
    [&[0xb8], &status.to_le_bytes()[..], &[0xc3]].concat()
}

/// `counter += 1; return status`.
pub fn counts(counter: &AtomicU32, status: i32) -> Vec<u8> {
    // mov rax, counter; lock inc dword [rax]
    [absolute([0x48, 0xb8], counter.as_ptr() as usize), vec![0xf0, 0xff, 0x00], returns(status)].concat()
}

/// `function(); return status`: there is code of the image left to run when the function returns.
pub fn calls(function: usize, status: i32) -> Vec<u8> {
    // sub rsp, 8; mov rax, function; call rax; add rsp, 8
    let call = absolute([0x48, 0xb8], function);
    [vec![0x48, 0x83, 0xec, 0x08], call, vec![0xff, 0xd0, 0x48, 0x83, 0xc4, 0x08], returns(status)].concat()
}

/// Continues in `function`, with `context` in the register of argument number `place`, 2 or 4 or 5.
pub fn continues(function: usize, place: u8, context: usize) -> Vec<u8> {
    let opcode = match place {
        2 => [0x48, 0xbe],
        4 => [0x48, 0xb9],
        5 => [0x49, 0xb8],
        other => panic!("argument {other}"),
    };
    // mov register, context; mov rax, function; jmp rax
    [absolute(opcode, context), absolute([0x48, 0xb8], function), vec![0xff, 0xe0]].concat()
}

/// EntryEx: `if (request) request[2] += 1; return operation + arg`.
pub const ENTRY_EX: &[u8] = &[
    0x48, 0x85, 0xc9, 0x74, 0x03, // test rcx, rcx; jz +3
    0xff, 0x41, 0x08, // inc dword [rcx + 8]
    0x89, 0xd0, 0x44, 0x01, 0xc0, 0xc3, // mov eax, edx; add eax, r8d; ret
];

/// A service's handler: `if (request) request[2] += 1; return operation`.
pub const SERVICE: &[u8] = &[
    0x48, 0x85, 0xc9, 0x74, 0x03, // test rcx, rcx; jz +3
    0xff, 0x41, 0x08, // inc dword [rcx + 8]
    0x89, 0xf0, 0xc3, // mov eax, esi; ret
];

/// EntryFast: `((u32 *)vm)[operation] += 1`.
pub const ENTRY_FAST: &[u8] = &[0x89, 0xd0, 0xf0, 0xff, 0x04, 0x87, 0xc3];

/// `return`.
pub const NOTHING: &[u8] = &[0xc3];

/// An image in the making: functions one after the other.
pub struct Builder(Image);

impl Builder {
    pub fn new(name: &str) -> Self {
        Self(Image { name: name.into(), ..Default::default() })
    }

    /// Appends a function; returns its offset.
    fn place(&mut self, code: &[u8]) -> u32 {
        let offset = self.0.bits.len() as u32;
        self.0.bits.extend_from_slice(code);
        self.0.bits.resize(self.0.bits.len().next_multiple_of(16), 0xcc);
        offset
    }

    pub fn symbol(mut self, name: &str, code: &[u8]) -> Self {
        let offset = self.place(code);
        self.0.symbols.push((name.into(), offset));
        self
    }

    pub fn init(mut self, code: &[u8]) -> Self {
        self.0.init = Some(self.place(code));
        self
    }

    pub fn term(mut self, code: &[u8]) -> Self {
        self.0.term = Some(self.place(code));
        self
    }

    /// VMMR0 entry points; the image's base is its first function, so that one must be there already.
    pub fn vmmr0(mut self, fast: &[u8], ex: &[u8]) -> Self {
        if self.0.bits.is_empty() {
            self.place(NOTHING);
        }
        let entry_points = [NOTHING, fast, ex].map(|code| self.place(code));
        (self.0.entry_point_type, self.0.entry_points) = (1, entry_points);
        self
    }

    pub fn service(mut self, handler: &[u8]) -> Self {
        let offset = self.place(handler);
        (self.0.entry_point_type, self.0.entry_points) = (2, [offset, 0, 0]);
        self
    }

    pub fn build(mut self) -> Image {
        if self.0.bits.is_empty() {
            self.place(NOTHING);
        }
        self.0
    }
}

/// What happened, in order; written by functions that images continue in.
#[derive(Default)]
pub struct Diary(std::sync::Mutex<Vec<String>>);

/// One line of a diary.
pub struct Line<'a> {
    diary: &'a Diary,
    text: String,
}

impl Diary {
    pub fn line(&self, text: &str) -> Box<Line<'_>> {
        Box::new(Line { diary: self, text: text.into() })
    }

    pub fn write(&self, text: &str) {
        self.0.lock().expect("a diary").push(text.into());
    }

    pub fn read(&self) -> Vec<String> {
        self.0.lock().expect("a diary").clone()
    }
}

unsafe extern "C" fn write_line(_module: *mut c_void, line: *const Line<'_>) -> i32 {
    // SAFETY: the code was made by `writes`, whose line lives as long as the test.
    let line = unsafe { &*line };
    line.diary.write(&line.text);
    0
}

/// Init or term that writes a line.
pub fn writes(line: &Line<'_>) -> Vec<u8> {
    let function: unsafe extern "C" fn(*mut c_void, *const Line<'_>) -> i32 = write_line;
    continues(function as usize, 2, std::ptr::from_ref(line) as usize)
}
