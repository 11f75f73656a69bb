//! Kernel heap.

use core::alloc::Layout;
use core::ptr::NonNull;

/// Resident kernel memory in small pieces.
pub trait OsHeap {
    /// Allocates zero-filled memory, or returns `None`. Class T, may block.
    ///
    /// `layout` never has size zero, and its alignment is at most 64. The memory must be accessible in class I.
    /// A size that can't be had must fail, never wrap.
    fn heap_alloc_zeroed(&self, layout: Layout) -> Option<NonNull<u8>>;

    /// Returns memory to the heap. Class T.
    ///
    /// # Safety
    /// 1. `ptr` came from [`heap_alloc_zeroed`](Self::heap_alloc_zeroed) of the same system with the same `layout`.
    /// 2. Nobody uses the memory any more.
    unsafe fn heap_free(&self, ptr: NonNull<u8>, layout: Layout);
}
