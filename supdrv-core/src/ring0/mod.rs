//! What loaded modules can link against: the driver's exports by name.
//!
//! The first ten entries are plain numbers that describe the running kernel, in a fixed order. The functions follow in the order of the
//! [`catalogue`]; one module for each family implements them over the seam, generic over [`Ring0`]. [`ring0_exports!`](crate::ring0_exports!)
//! makes them real for a system.
//!
//! # Rules of all functions
//!
//! They are called by C, through pointers, by code that the driver has loaded and cannot distrust: a module in the kernel can do
//! everything anyway. So the contract of each is that of the C function: pointers are null or good, handles are 0 or were handed out here, and what
//! is passed stays valid as long as the function's description says. That is the one reason for every `unsafe fn` of the families, and what their
//! `SAFETY` comments mean by "the contract of the C function". Handles that are wrong are still noticed where that costs nothing (`handle`).
//! Results are status codes, or what the description says. Context classes are those of [`crate::os`].
#![allow(
    clippy::missing_safety_doc,
    reason = "one contract for all families, given in the module's documentation"
)]
#![allow(clippy::too_many_arguments, reason = "the C functions' own")]

pub mod access;
pub mod assert;
pub mod catalogue;
pub mod crc;
pub mod errno;
pub mod event;
pub mod fast_mutex;
pub mod format;
mod handle;
pub mod handle_table;
pub mod heap;
pub mod log;
pub mod memobj;
pub mod mp;
pub mod mutex;
pub mod net;
pub mod notify;
mod probe;
pub mod process;
mod runtime;
pub mod sched;
pub mod spinlock;
pub mod string;
pub mod supr0;
pub mod supsem;
pub mod thread;
pub mod thread_ctx;
mod thunk;
pub mod time;
pub mod timer;
pub mod tracer;
pub mod types;
pub mod uuid;
pub mod va;

pub use runtime::{Ring0, State, events};

use crate::abi::requests::Function;
use crate::abi::status::Result;
use crate::heap::Array;
use crate::os::SupdrvOs;

/// A function or variable that modules may import.
#[derive(Clone, Copy, Debug)]
pub struct Export {
    name: &'static str,
    address: *const (),
}

// SAFETY: an address that nobody here follows.
unsafe impl Send for Export {}
// SAFETY: as above.
unsafe impl Sync for Export {}

impl Export {
    /// An entry; the name has at most 31 bytes.
    #[must_use]
    pub const fn new(name: &'static str, address: *const ()) -> Self {
        assert!(name.len() <= 31 && !address.is_null());
        Self { name, address }
    }

    /// Its name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Its address.
    #[must_use]
    pub fn address(&self) -> usize {
        self.address as usize
    }
}

fn entry(name: &str, address: usize) -> Function {
    let mut entry = Function { name: [0; 32], address };
    let mut to = entry.name;
    for (to, from) in to.iter_mut().zip(name.bytes().take(31)) {
        *to = from;
    }
    entry.name = to;
    entry
}

/// The table that QUERY_FUNCS hands out. Class T.
///
/// # Errors
/// `VERR_NO_MEMORY`.
pub fn table<O: SupdrvOs>(os: &O, functions: &[Export]) -> Result<Array<Function, O>> {
    let s = os.segment_selectors();
    let is_64bit = cfg!(target_pointer_width = "64");
    let only_64 = |selector: u16| if is_64bit { usize::from(selector) } else { 0 };
    // On 64-bit kernels the data segment registers hold leftovers of the loading process: not worth telling.
    let only_32 = |selector: u16| if is_64bit { 0 } else { usize::from(selector) };
    let numbers = [
        ("SUPR0AbsIs64bit", usize::from(is_64bit)),
        ("SUPR0Abs64bitKernelCS", only_64(s.cs)),
        ("SUPR0Abs64bitKernelSS", only_64(s.ss)),
        ("SUPR0Abs64bitKernelDS", only_64(s.ds)),
        ("SUPR0AbsKernelCS", usize::from(s.cs)),
        ("SUPR0AbsKernelSS", usize::from(s.ss)),
        ("SUPR0AbsKernelDS", only_32(s.ds)),
        ("SUPR0AbsKernelES", only_32(s.es)),
        ("SUPR0AbsKernelFS", only_32(s.fs)),
        ("SUPR0AbsKernelGS", only_32(s.gs)),
    ];
    let mut table = Array::new_zeroed(os, numbers.len() + functions.len())?;
    let entries = numbers.into_iter().chain(functions.iter().map(|export| (export.name, export.address())));
    for (to, (name, address)) in table.iter_mut().zip(entries) {
        *to = entry(name, address);
    }
    Ok(table)
}
