//! The heap: the kernel allocates pages only, so small blocks are cut out of chunks of them.
//!
//! Free blocks are in one list, in the order of their addresses, and are joined with their neighbours in the same chunk when they come
//! back. A chunk that is all free goes back to the kernel, unless it is the last one.
//!
//! ```text
//!   chunk:  │ header │ payload … │ header │ free …            │        header: bytes of the block, flags, next free block
//! ```

use core::alloc::Layout;
use core::ffi::c_void;
use core::ptr::{NonNull, null_mut};

use crate::kernel;
use crate::memory::alloc_pages;
use crate::spin::Guarded;

/// What the heap grows by, unless a single block needs more.
const CHUNK_BYTES: usize = 64 << 10;
/// No allocation can be larger; sizes are far from wrapping.
const MAX_BYTES: usize = 1 << 28;

/// Before each block. Sizes are multiples of [`UNIT`], so that there is room for flags.
#[repr(C)]
struct Header {
    bytes_and_flags: usize,
    next: *mut Header,
}

const UNIT: usize = size_of::<Header>();
const FIRST: usize = 1;
const LAST: usize = 2;
const FLAGS: usize = FIRST | LAST;
const _: () = assert!(UNIT >= 8 && UNIT.is_power_of_two());

type Block = *mut Header;

/// # Safety
/// The block is one, and the heap is locked, or the block is the caller's.
unsafe fn size(block: Block) -> usize {
    // SAFETY: as above.
    unsafe { (*block).bytes_and_flags & !FLAGS }
}

/// # Safety
/// As for [`size`].
unsafe fn flags(block: Block) -> usize {
    // SAFETY: as above.
    unsafe { (*block).bytes_and_flags & FLAGS }
}

/// # Safety
/// As for [`size`].
unsafe fn end(block: Block) -> usize {
    // SAFETY: as above.
    block as usize + unsafe { size(block) }
}

/// # Safety
/// As for [`size`]: `first` ends where `second`, of the same chunk, begins.
unsafe fn join(first: Block, second: Block) {
    // SAFETY: as above.
    unsafe {
        let flags = flags(first) & FIRST | flags(second) & LAST;
        (*first).bytes_and_flags = (size(first) + size(second)) | flags;
    }
}

/// Cuts a block in two; the second one, of what is behind the first `bytes`, isn't in any list.
///
/// # Safety
/// As for [`size`]; `bytes` is a multiple of the unit, and the block is larger.
unsafe fn split(block: Block, bytes: usize) -> Block {
    // SAFETY: the second part is inside of the block.
    unsafe {
        let rest = block.byte_add(bytes);
        let header =
            Header { bytes_and_flags: (size(block) - bytes) | flags(block) & LAST, next: null_mut() };
        rest.write(header);
        (*block).bytes_and_flags = bytes | flags(block) & FIRST;
        rest
    }
}

struct Heap {
    free: Block,
    chunks: usize,
    /// Blocks that are in use.
    blocks: usize,
}

// SAFETY: memory of the kernel, which any thread may use under the lock.
unsafe impl Send for Heap {}

static HEAP: Guarded<Heap> = Guarded::new(Heap { free: null_mut(), chunks: 0, blocks: 0 });

/// What a block of a layout needs: bytes of payload, and its alignment.
fn demand(layout: Layout) -> Option<(usize, usize)> {
    let bytes = layout.size().checked_next_multiple_of(UNIT)?.max(UNIT);
    (bytes <= MAX_BYTES).then_some((bytes, layout.align().max(UNIT)))
}

impl Heap {
    /// Takes the first free block that is large enough; its payload.
    fn take(&mut self, bytes: usize, align: usize) -> Option<NonNull<u8>> {
        let mut link: *mut Block = &raw mut self.free;
        // SAFETY: the list consists of free blocks, which are the heap's, and the heap is locked.
        unsafe {
            while !(*link).is_null() {
                let block = *link;
                let payload = (block as usize + UNIT).next_multiple_of(align);
                if payload + bytes <= end(block) {
                    self.blocks += 1;
                    let gap = payload - UNIT - block as usize;
                    return NonNull::new(Self::cut(link, gap, UNIT + bytes).add(1).cast());
                }
                link = &raw mut (*block).next;
            }
        }
        None
    }

    /// Takes `bytes` after a gap out of the free block at a link; the gap and the rest stay free.
    ///
    /// # Safety
    /// The heap is locked; the block is that large; all are multiples of the unit.
    unsafe fn cut(link: *mut Block, gap: usize, bytes: usize) -> Block {
        // SAFETY: as above.
        unsafe {
            let (whole, mut taken, mut link) = (*link, *link, link);
            let next = (*whole).next;
            if gap != 0 {
                taken = split(whole, gap);
                link = &raw mut (*whole).next;
            }
            *link = next;
            if size(taken) > bytes {
                let rest = split(taken, bytes);
                (*rest).next = next;
                *link = rest;
            }
            taken
        }
    }

    /// Puts a block among the free ones; whether that makes a whole chunk.
    ///
    /// # Safety
    /// The block is the heap's, and nobody uses it.
    unsafe fn put(&mut self, block: Block) -> bool {
        let (mut link, mut before): (*mut Block, Block) = (&raw mut self.free, null_mut());
        // SAFETY: as in `take`.
        unsafe {
            while !(*link).is_null() && (*link as usize) < block as usize {
                before = *link;
                link = &raw mut (*before).next;
            }
            let after = *link;
            (*block).next = after;
            *link = block;
            if flags(block) & LAST == 0 && end(block) == after as usize {
                (*block).next = (*after).next;
                join(block, after);
            }
            if !before.is_null() && flags(block) & FIRST == 0 && end(before) == block as usize {
                (*before).next = (*block).next;
                join(before, block);
                return flags(before) == FLAGS;
            }
            flags(block) == FLAGS
        }
    }

    /// Takes a chunk that is all free out of the list, if there are more than `kept`.
    fn spare_chunk(&mut self, kept: usize) -> Option<NonNull<c_void>> {
        let mut link: *mut Block = &raw mut self.free;
        // SAFETY: as in `take`.
        unsafe {
            while self.chunks > kept && !(*link).is_null() {
                let block = *link;
                if flags(block) == FLAGS {
                    *link = (*block).next;
                    self.chunks -= 1;
                    return NonNull::new(block.cast());
                }
                link = &raw mut (*block).next;
            }
        }
        None
    }
}

/// Initialises the empty heap. Class T, once.
pub fn init() {
    HEAP.init();
}

/// Gives everything back; whoever still has a block is left without. Class T.
pub fn deinit() {
    trim(0);
    HEAP.deinit();
}

fn trim(kept: usize) {
    while let Some(chunk) = HEAP.with(|heap| heap.spare_chunk(kept)) {
        // SAFETY: from `alloc_pages`; no block of it is in use.
        unsafe { kernel::KernVMFree(chunk.as_ptr()) };
    }
}

/// Zeroed memory out of what the heap has. Class I.
pub fn alloc_from_chunks(layout: Layout) -> Option<NonNull<u8>> {
    let (bytes, align) = demand(layout)?;
    let memory = HEAP.with(|heap| heap.take(bytes, align))?;
    // SAFETY: the block has this many bytes and is the caller's.
    unsafe { memory.write_bytes(0, bytes) };
    Some(memory)
}

/// Whether a fake kernel has no memory for this block: the real one would be asked only now and then.
fn is_refused() -> bool {
    #[cfg(target_os = "none")]
    return false;
    #[cfg(not(target_os = "none"))]
    {
        unsafe extern "C" {
            fn os2_refuses_block() -> bool;
        }
        // SAFETY: asks the fake kernel.
        unsafe { os2_refuses_block() }
    }
}

/// Blocks in use, and chunks, for the accounts of tests.
#[cfg(not(target_os = "none"))]
#[must_use]
pub fn heap_use() -> (usize, usize) {
    HEAP.with(|heap| (heap.blocks, heap.chunks))
}

/// Zeroed memory. Class T, may block.
pub fn alloc(layout: Layout) -> Option<NonNull<u8>> {
    let (bytes, align) = demand(layout)?;
    if is_refused() {
        return None;
    }
    loop {
        if let Some(memory) = alloc_from_chunks(layout) {
            return Some(memory);
        }
        let chunk_bytes = (bytes + align + UNIT).next_multiple_of(CHUNK_BYTES);
        let chunk: Block = alloc_pages(chunk_bytes, kernel::VMDHA_FIXED).ok()?.as_ptr().cast();
        HEAP.with(|heap| {
            heap.chunks += 1;
            // SAFETY: fresh memory of this size; it is the heap's from here on.
            unsafe {
                chunk.write(Header { bytes_and_flags: chunk_bytes | FLAGS, next: null_mut() });
                heap.put(chunk);
            }
        });
    }
}

/// Gives a block back, without giving anything to the kernel; whether that makes a whole chunk. Class I.
///
/// # Safety
/// It came from here, and nobody uses it.
pub unsafe fn free_to_chunks(memory: NonNull<u8>) -> bool {
    HEAP.with(|heap| {
        heap.blocks = heap.blocks.saturating_sub(1);
        // SAFETY: the block's header is before its payload; it is the heap's again.
        unsafe { heap.put(memory.as_ptr().cast::<Header>().sub(1)) }
    })
}

/// Gives a block back. Class T.
///
/// # Safety
/// As for [`free_to_chunks`].
pub unsafe fn free(memory: NonNull<u8>) {
    // SAFETY: as above.
    if unsafe { free_to_chunks(memory) } {
        trim(1);
    }
}
