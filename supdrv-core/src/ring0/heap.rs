//! Heap: `RTMem*`.
//!
//! Modules free without saying how much: a header before each block knows. It also says where the block came from, since the three kinds of
//! memory (ordinary, from any context, executable) go back to different places.

use core::alloc::Layout;
use core::ffi::{c_char, c_void};
use core::ptr::{NonNull, null_mut};

use super::runtime::{Ring0, rc};
use crate::abi::status::{
    Result, VERR_INVALID_PARAMETER, VERR_INVALID_POINTER, VERR_NO_EXEC_MEMORY, VERR_NO_MEMORY,
    VERR_NOT_SUPPORTED, VERR_UNSUPPORTED_ALIGNMENT,
};
use crate::os::{OsHeap, OsImage, OsLog, OsModule};

/// Modules that were compiled with SSE expect this.
const ALIGN: usize = 16;
/// Blocks of this many bytes too much are kept by a reallocation.
const KEEP_SLACK_BYTES: usize = 128;

const ORDINARY: u32 = 0x6d65_6d31;
const ANY_CONTEXT: u32 = 0x6d65_6d32;
const EXECUTABLE: u32 = 0x6d65_6d33;
const FREED: u32 = 0x6d65_6d64;

mod flags {
    pub const ZEROED: u32 = 1;
    pub const EXEC: u32 = 2;
    pub const ANY_CTX_ALLOC: u32 = 4;
    pub const ANY_CTX_FREE: u32 = 8;
    pub const ALL: u32 = 0xf;
}

/// Directly before each block.
#[repr(C, align(16))]
struct Header {
    magic: u32,
    size: usize,
}

const HEADER_BYTES: usize = size_of::<Header>();
const _: () = assert!(HEADER_BYTES.is_multiple_of(ALIGN));

fn layout(bytes: usize) -> Result<Layout> {
    let bytes = bytes.checked_add(HEADER_BYTES).ok_or(VERR_NO_MEMORY)?;
    Layout::from_size_align(bytes, ALIGN).map_err(|_| VERR_NO_MEMORY)
}

/// Writes the header of a block; the block.
///
/// # Safety
/// `memory` has room for a header and `size` bytes.
unsafe fn with_header(memory: NonNull<u8>, magic: u32, size: usize) -> NonNull<u8> {
    // SAFETY: condition of the function; the memory is aligned to `ALIGN`.
    unsafe {
        memory.cast::<Header>().write(Header { magic, size });
        memory.add(HEADER_BYTES)
    }
}

/// The header of a block.
///
/// # Safety
/// `block` came from one of the allocations here.
unsafe fn header_of<'a>(block: NonNull<u8>) -> &'a mut Header {
    // SAFETY: a header is before each block (condition of the function).
    unsafe { block.sub(HEADER_BYTES).cast::<Header>().as_mut() }
}

/// Zero-filled.
pub(super) fn allocate<R: Ring0>(bytes: usize) -> Option<NonNull<u8>> {
    let memory = R::os().heap_alloc_zeroed(layout(bytes).ok()?)?;
    // SAFETY: the layout has room for both.
    Some(unsafe { with_header(memory, ORDINARY, bytes) })
}

fn allocate_any_context<R: Ring0>(bytes: usize) -> Result<NonNull<u8>> {
    let memory = R::os().heap_alloc_any_context(layout(bytes)?)?;
    // SAFETY: the layout has room for both.
    Ok(unsafe { with_header(memory, ANY_CONTEXT, bytes) })
}

type ExecMem<R> = <<R as Ring0>::Os as OsImage>::ExecMem;

/// Bytes before an executable block: its owner, and its header.
const fn exec_prefix<R: Ring0>() -> usize {
    size_of::<ExecMem<R>>().next_multiple_of(ALIGN) + HEADER_BYTES
}

fn allocate_exec<R: Ring0>(bytes: usize) -> Result<NonNull<u8>> {
    let os = R::os();
    let total = bytes.checked_add(exec_prefix::<R>()).ok_or(VERR_NO_EXEC_MEMORY)?;
    let memory = os.exec_alloc(total).map_err(|_| VERR_NO_EXEC_MEMORY)?;
    os.exec_load(&memory, &[]).map_err(|_| VERR_NO_EXEC_MEMORY)?;
    let base = os.exec_base(&memory);
    // SAFETY: image memory stays writable, begins with room for its owner, and is aligned to a page.
    unsafe {
        base.cast::<ExecMem<R>>().write(memory);
        Ok(with_header(base.add(exec_prefix::<R>() - HEADER_BYTES), EXECUTABLE, bytes))
    }
}

/// Frees a block of any kind.
///
/// # Safety
/// As for the C functions: a live block, or null.
pub(super) unsafe fn release<R: Ring0>(block: *mut c_void) {
    let Some(block) = NonNull::new(block.cast::<u8>()) else { return };
    let os = R::os();
    // SAFETY: condition of the function.
    let header = unsafe { header_of(block) };
    let (magic, size) = (header.magic, header.size);
    let Ok(layout) = layout(size) else { return };
    match magic {
        ORDINARY | ANY_CONTEXT => {
            header.magic = FREED;
            // SAFETY: the header is the start of what was allocated with this layout; the caller gives it up.
            unsafe {
                let memory = block.sub(HEADER_BYTES);
                if magic == ORDINARY {
                    os.heap_free(memory, layout);
                } else {
                    os.heap_free_any_context(memory, layout);
                }
            }
        }
        EXECUTABLE => {
            header.magic = FREED;
            // SAFETY: the owner was moved to the start of its own memory; it is moved out again before it frees that.
            drop(unsafe { block.sub(exec_prefix::<R>()).cast::<ExecMem<R>>().read() });
        }
        _ => os.log_write(b"supdrv: a module frees what isn't a heap block\n"),
    }
}

fn as_c(block: Option<NonNull<u8>>) -> *mut c_void {
    block.map_or(null_mut(), |block| block.as_ptr().cast())
}

/// A block of `bytes`, 0 included. Class T. Null: no memory.
pub unsafe fn alloc_tag<R: Ring0>(bytes: usize, _tag: *const c_char) -> *mut c_void {
    as_c(allocate::<R>(bytes))
}

/// As [`alloc_tag`], filled with zeros.
pub unsafe fn alloc_z_tag<R: Ring0>(bytes: usize, _tag: *const c_char) -> *mut c_void {
    as_c(allocate::<R>(bytes))
}

/// Sizes that differ a little become equal: multiples of 16, of a pointer's size if they are small.
fn rounded(bytes: usize) -> usize {
    let unit = if bytes >= 16 { 16 } else { size_of::<usize>() };
    bytes.checked_next_multiple_of(unit).unwrap_or(usize::MAX)
}

/// As [`alloc_tag`], with the size rounded up.
pub unsafe fn alloc_var_tag<R: Ring0>(bytes: usize, _tag: *const c_char) -> *mut c_void {
    as_c(allocate::<R>(rounded(bytes)))
}

/// As [`alloc_var_tag`], filled with zeros.
pub unsafe fn alloc_z_var_tag<R: Ring0>(bytes: usize, _tag: *const c_char) -> *mut c_void {
    as_c(allocate::<R>(rounded(bytes)))
}

fn allocate_ex<R: Ring0>(bytes: usize, align: usize, wanted: u32) -> Result<NonNull<u8>> {
    if align > size_of::<usize>() {
        return Err(VERR_UNSUPPORTED_ALIGNMENT);
    }
    if wanted & !flags::ALL != 0 {
        return Err(VERR_INVALID_PARAMETER);
    }
    let any_context = wanted & (flags::ANY_CTX_ALLOC | flags::ANY_CTX_FREE) != 0;
    match (wanted & flags::EXEC != 0, any_context) {
        (true, true) => Err(VERR_NOT_SUPPORTED),
        (true, false) => allocate_exec::<R>(bytes),
        (false, true) => allocate_any_context::<R>(bytes),
        (false, false) => allocate::<R>(bytes).ok_or(VERR_NO_MEMORY),
    }
}

/// A block with requirements: zeroed 1, executable 2, allocated in any context 4, freed in any context 8. Class T, class I with 4.
/// 0, `VERR_UNSUPPORTED_ALIGNMENT` (more than a pointer's size), `VERR_INVALID_PARAMETER` (flags), `VERR_NOT_SUPPORTED`, `VERR_NO_MEMORY`,
/// `VERR_NO_EXEC_MEMORY`.
pub unsafe fn alloc_ex_tag<R: Ring0>(
    bytes: usize,
    align: usize,
    wanted: u32,
    _tag: *const c_char,
    out: *mut *mut c_void,
) -> i32 {
    const { assert!(flags::ZEROED == 1) };
    if out.is_null() {
        return VERR_INVALID_POINTER.0;
    }
    let result = allocate_ex::<R>(bytes, align, wanted);
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { out.write(as_c(result.ok())) };
    rc(result.map(drop))
}

/// Frees a block; null is fine. Class T.
pub unsafe fn free<R: Ring0>(block: *mut c_void) {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { release::<R>(block) };
}

/// Frees a block of [`alloc_ex_tag`]. Class T, class I if it was allocated with flag 8.
pub unsafe fn free_ex<R: Ring0>(block: *mut c_void, _bytes: usize) {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { release::<R>(block) };
}

/// A copy of `bytes` at `source`, followed by `extra` zeros. Class T. Null: no memory.
pub unsafe fn dup_ex_tag<R: Ring0>(
    source: *const c_void,
    bytes: usize,
    extra: usize,
    _tag: *const c_char,
) -> *mut c_void {
    let block = bytes.checked_add(extra).and_then(allocate::<R>);
    if let Some(block) = block {
        // SAFETY: the caller vouches for the source; the block is large enough and fresh.
        unsafe { core::ptr::copy_nonoverlapping(source.cast(), block.as_ptr(), bytes) };
    }
    as_c(block)
}

/// A copy of `bytes` at `source`. Class T. Null: no memory.
pub unsafe fn dup_tag<R: Ring0>(source: *const c_void, bytes: usize, tag: *const c_char) -> *mut c_void {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { dup_ex_tag::<R>(source, bytes, 0, tag) }
}

/// Changes the size of a block; null allocates, 0 frees and returns null. Class T. Null otherwise: no memory, the old block stays.
pub unsafe fn realloc_tag<R: Ring0>(old: *mut c_void, bytes: usize, _tag: *const c_char) -> *mut c_void {
    let Some(block) = NonNull::new(old.cast::<u8>()) else { return as_c(allocate::<R>(bytes)) };
    if bytes == 0 {
        // SAFETY: the caller keeps the contract of the C function.
        unsafe { release::<R>(old) };
        return null_mut();
    }
    // SAFETY: the caller keeps the contract of the C function.
    let old_bytes = unsafe { header_of(block) }.size;
    if bytes <= old_bytes && old_bytes - bytes <= KEEP_SLACK_BYTES {
        return old;
    }
    let new = allocate::<R>(bytes);
    if let Some(new) = new {
        // SAFETY: both blocks are that large; the new one is fresh.
        unsafe {
            core::ptr::copy_nonoverlapping(block.as_ptr(), new.as_ptr(), old_bytes.min(bytes));
            release::<R>(old);
        }
    }
    as_c(new)
}
