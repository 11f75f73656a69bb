//! The kernel heap: host memory with a header before each block, so that a wrong free is noticed.

use core::alloc::Layout;
use core::ptr::NonNull;

use super::{Call, Class, Codes, Kind, Machine, MockOs};
use crate::abi::status::VERR_NO_MEMORY;
use crate::os::OsHeap;

/// Room before each block; also the largest alignment that the seam allows.
const HEADER_BYTES: usize = 64;
const LIVE: u64 = 0x6c69_7665_6865_6170;
const FREED: u64 = 0x6672_6565_6865_6170;
/// What freed blocks are filled with.
const POISON: u8 = 0xdd;

#[repr(C)]
struct Header {
    state: u64,
    machine: u64,
    size: usize,
    align: usize,
}

fn host_layout(layout: Layout) -> Option<Layout> {
    Layout::from_size_align(layout.size().checked_add(HEADER_BYTES)?, HEADER_BYTES).ok()
}

impl Machine {
    /// Compares a block's header with how it is freed.
    fn check_block(&self, header: &Header, layout: Layout) -> bool {
        let wrong = match header.state {
            LIVE if header.machine != self.id => "a block is freed on another machine",
            LIVE if (header.size, header.align) != (layout.size(), layout.align()) => {
                "a block is freed with another layout than it was allocated with"
            }
            LIVE => return true,
            FREED => "a block is freed twice",
            _ => "something is freed that isn't a block",
        };
        self.violation(wrong);
        false
    }
}

impl<E: Codes> MockOs<E> {
    /// A zeroed block, in any context.
    pub(super) fn heap_block(&self, layout: Layout) -> Option<NonNull<u8>> {
        if layout.size() == 0 || layout.align() > HEADER_BYTES {
            self.violation("the heap is asked for an impossible layout");
            return None;
        }
        let host = host_layout(layout)?;
        // SAFETY: the layout isn't empty.
        let base = NonNull::new(unsafe { std::alloc::alloc_zeroed(host) })?;
        let header = Header { state: LIVE, machine: self.id, size: layout.size(), align: layout.align() };
        // SAFETY: the block begins with room for a header.
        unsafe { base.cast::<Header>().write(header) };
        self.account.made(Kind::Heap);
        // SAFETY: the block is larger than its header.
        Some(unsafe { base.add(HEADER_BYTES) })
    }

    /// Frees a block, in any context.
    ///
    /// # Safety
    /// As for [`heap_free`](OsHeap::heap_free).
    pub(super) unsafe fn heap_unblock(&self, ptr: NonNull<u8>, layout: Layout) {
        // SAFETY: condition of the function: a block has its header before it.
        let base = unsafe { ptr.sub(HEADER_BYTES) };
        let mut header = base.cast::<Header>();
        // SAFETY: as above.
        if !self.check_block(unsafe { header.as_ref() }, layout) {
            return;
        }
        let Some(host) = host_layout(layout) else { return };
        self.account.gone(Kind::Heap);
        // SAFETY: nobody uses the block any more (condition of the function).
        self.check_secret(unsafe { core::slice::from_raw_parts(ptr.as_ptr(), layout.size()) });
        // SAFETY: as above; it was allocated with this layout.
        unsafe {
            header.as_mut().state = FREED;
            ptr.write_bytes(POISON, layout.size());
            std::alloc::dealloc(base.as_ptr(), host);
        }
    }
}

impl<E: Codes> OsHeap for MockOs<E> {
    fn heap_alloc_zeroed(&self, layout: Layout) -> Option<NonNull<u8>> {
        self.require(Class::T, Call::HeapAlloc);
        self.fallible(Call::HeapAlloc, VERR_NO_MEMORY).ok()?;
        self.heap_block(layout)
    }

    unsafe fn heap_free(&self, ptr: NonNull<u8>, layout: Layout) {
        self.require(Class::T, Call::HeapFree);
        // SAFETY: conditions of the function.
        unsafe { self.heap_unblock(ptr, layout) };
    }
}
