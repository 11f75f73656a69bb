//! Memory objects (pages with a life cycle of their own) and copies from and to the calling process.

use bitflags::bitflags;

use crate::abi::status::Result;

/// log2 of [`PAGE_SIZE`].
pub const PAGE_SHIFT: u32 = 12;
/// Page size of the ABI, in bytes.
pub const PAGE_SIZE: usize = 1 << PAGE_SHIFT;

/// Identity of a process as the kernel sees it (the seed's `RTR0PROCESS`); only ever compared.
pub type ProcessHandle = usize;

bitflags! {
    /// Page protection, with the numbers of the wire ABI.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct MemProt: u32 {
        /// Readable.
        const READ = 1;
        /// Writable.
        const WRITE = 2;
        /// Executable.
        const EXEC = 4;
    }
}

/// What kind of pages [`OsMemory::mem_alloc`] is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AllocKind {
    /// Any pages, mapped into the kernel.
    Page,
    /// Pages below 4 GiB each, mapped into the kernel. Typical failure: `VERR_NO_LOW_MEMORY`.
    Low,
    /// One physically contiguous block below 4 GiB, mapped into the kernel. Typical failure: `VERR_NO_CONT_MEMORY`.
    Contiguous,
    /// Any pages without a kernel mapping. `VERR_NOT_SUPPORTED` where the system can't; clients expect that answer.
    Unmapped,
}

/// Memory objects.
///
/// A *primary* object owns or pins pages; a *mapping* object shows the pages of a primary one at another address. The
/// core frees mappings before their parent and keeps the parent alive meanwhile, so that an implementation need not
/// track them. **The pages of an object must outlive every user-space mapping of them**, also when the object is freed
/// from another process than the one that has the mapping, or from none (last close by a kernel thread).
///
/// Sizes are multiples of [`PAGE_SIZE`] and not zero. All pages that [`mem_alloc`](Self::mem_alloc) returns are zero-filled.
pub trait OsMemory {
    /// A primary or mapping object.
    type MemObj: Send + Sync;

    /// Allocates zero-filled, resident pages. Class T, may block.
    ///
    /// `prot` is the protection of the kernel mapping; where the kernel forbids writable-and-executable memory the
    /// mapping may lack `EXEC`.
    ///
    /// # Errors
    /// `VERR_NO_MEMORY`, `VERR_NO_LOW_MEMORY`, `VERR_NO_CONT_MEMORY`, `VERR_NO_PAGE_MEMORY`, `VERR_OUT_OF_RANGE`,
    /// `VERR_NOT_SUPPORTED` (only for [`AllocKind::Unmapped`]).
    fn mem_alloc(&self, kind: AllocKind, size_bytes: usize, prot: MemProt) -> Result<Self::MemObj>;

    /// Pins `size_bytes` of the calling process at page-aligned `address`; with `WRITE` the pages are made writable
    /// first. Class T, may block and fault. `process` is the calling process.
    ///
    /// # Errors
    /// `VERR_LOCK_FAILED` (hole, or no such access), `VERR_NO_MEMORY`, `VERR_NOT_SUPPORTED` (another process),
    /// `VERR_OUT_OF_RANGE`.
    fn mem_lock_user(
        &self,
        address: usize,
        size_bytes: usize,
        access: MemProt,
        process: ProcessHandle,
    ) -> Result<Self::MemObj>;

    /// Maps a page-aligned part of a primary object into the kernel. Class T, may block.
    ///
    /// # Errors
    /// `VERR_NOT_SUPPORTED` (partial mappings, or mappings of locked memory, where the system can't), `VERR_MAP_FAILED`,
    /// `VERR_NO_MEMORY`.
    fn mem_map_kernel(
        &self,
        parent: &Self::MemObj,
        offset_bytes: usize,
        size_bytes: usize,
        prot: MemProt,
    ) -> Result<Self::MemObj>;

    /// Maps a whole primary object into the calling process, at an address of the system's choice. Class T, may block.
    ///
    /// The mapping is not inherited by fork, not dumped, not expandable, and can't be made more permissive by the
    /// process. `EXEC` may be dropped where the system refuses it.
    ///
    /// # Errors
    /// `VERR_MAP_FAILED`, `VERR_NO_MEMORY`, `VERR_NOT_SUPPORTED` (another process than the calling one).
    fn mem_map_user(
        &self,
        parent: &Self::MemObj,
        prot: MemProt,
        process: ProcessHandle,
    ) -> Result<Self::MemObj>;

    /// Changes the protection of a page-aligned part of a kernel-mapped primary object or of a mapping. Class T.
    ///
    /// # Errors
    /// `VERR_NOT_SUPPORTED` where the system can't (clients ignore that), or the system's error.
    fn mem_protect(
        &self,
        object: &Self::MemObj,
        offset_bytes: usize,
        size_bytes: usize,
        prot: MemProt,
    ) -> Result<()>;

    /// Releases a mapping, or a primary object without mappings. Class T, may block; any process, or none.
    ///
    /// # Errors
    /// The object is given back if it could not be released. Its pages must not be returned to the allocator while a
    /// process can still reach them; the core then leaks the object and logs it.
    fn mem_free(&self, object: Self::MemObj) -> core::result::Result<(), (Self::MemObj, crate::abi::Status)>;

    /// Kernel address of the object itself, or 0 if it has none. Class I.
    fn mem_address(&self, object: &Self::MemObj) -> usize;

    /// User address of a user mapping or of locked user memory, else 0. Class I.
    fn mem_address_user(&self, object: &Self::MemObj) -> usize;

    /// Size in bytes. Class I.
    fn mem_size(&self, object: &Self::MemObj) -> usize;

    /// Physical address of page `index`; `None` beyond the end. Class I.
    fn mem_page_phys(&self, object: &Self::MemObj, index: usize) -> Option<u64>;

    /// The native handle, for the published view (the seed's `RTR0MEMOBJ`). Class I.
    fn mem_handle(&self, object: &Self::MemObj) -> usize;
}

/// Copies between kernel memory and the calling process. The only way the core touches user memory.
pub trait OsUserCopy {
    /// Copies from the calling process. Class T, no spinlock held, may fault. An empty `to` succeeds.
    ///
    /// # Errors
    /// `VERR_ACCESS_DENIED` if any byte is unreadable, outside user space, or the range wraps; `to` may then be partly
    /// written.
    fn user_copy_from(&self, to: &mut [u8], from: usize) -> Result<()>;

    /// Copies into the calling process. Class T, no spinlock held, may fault. An empty `from` succeeds.
    ///
    /// # Errors
    /// `VERR_ACCESS_DENIED` as for [`user_copy_from`](Self::user_copy_from).
    fn user_copy_to(&self, to: usize, from: &[u8]) -> Result<()>;
}
