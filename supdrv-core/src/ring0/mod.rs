//! What loaded modules can link against: the driver's exports by name.
//!
//! The first ten entries are plain numbers that describe the running kernel, in a fixed order. The functions follow, as the
//! system's shim provides them.

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
