//! Pages that MDLs describe: what NT itself works with.

use core::ffi::c_void;
use core::ptr::NonNull;

use supdrv_core::abi::Status;
use supdrv_core::abi::status::{
    Result, VERR_INTERNAL_ERROR, VERR_LOCK_FAILED, VERR_MAP_FAILED, VERR_NO_CONT_MEMORY, VERR_NO_LOW_MEMORY,
    VERR_NO_MEMORY, VERR_NO_PHYS_MEMORY, VERR_NOT_SUPPORTED,
};
use supdrv_core::heap::Array;
use supdrv_core::os::{AllocKind, MemProt, PAGE_SHIFT, PAGE_SIZE};

use super::{Backing, MemObj, is_user_range};
use crate::Windows;
use crate::kernel;
use crate::nt::sys;
use crate::nt::{
    Handle, KERNEL_MODE, MDL_MAPPED_TO_SYSTEM_VA, MDL_PAGES_LOCKED, MDL_SOURCE_IS_NONPAGED_POOL, Mdl, Mode,
    USER_MODE, hw,
};
use crate::os::Process;

const LOW_LIMIT: u64 = 0xffff_ffff;
const CACHED: u32 = 1;
const FULLY_REQUIRED: u32 = 4;
const NORMAL_PRIORITY: u32 = 16;
const MAPPING_NO_WRITE: u32 = 0x8000_0000;
const MAPPING_NO_EXECUTE: u32 = 0x4000_0000;
const PAGE_READONLY: u32 = 2;
const PAGE_READWRITE: u32 = 4;
const PAGE_EXECUTE_READ: u32 = 0x20;
const PAGE_EXECUTE_READWRITE: u32 = 0x40;
const READ_ACCESS: u32 = 0;
const MODIFY_ACCESS: u32 = 2;
/// Most bytes that one MDL can lock on old kernels.
pub const LOCK_CHUNK_BYTES: usize = if usize::BITS == 64 { 24 << 20 } else { 32 << 20 };

fn page_protection(prot: MemProt) -> u32 {
    match (prot.contains(MemProt::WRITE), prot.contains(MemProt::EXEC)) {
        (false, false) => PAGE_READONLY,
        (true, false) => PAGE_READWRITE,
        (false, true) => PAGE_EXECUTE_READ,
        (true, true) => PAGE_EXECUTE_READWRITE,
    }
}

/// Frame number of a page of an MDL.
///
/// # Safety
/// `mdl` describes locked pages, more than `index` of them.
unsafe fn frame(mdl: NonNull<Mdl>, index: usize) -> u64 {
    // SAFETY: the frame numbers follow the structure (condition of the function).
    unsafe { mdl.add(1).cast::<usize>().add(index).read() as u64 }
}

fn phys_of(mdl: NonNull<Mdl>, index: usize) -> Option<u64> {
    // SAFETY: every MDL in this module describes locked pages while it exists.
    let pages = unsafe { mdl.as_ref() }.byte_count as usize >> PAGE_SHIFT;
    // SAFETY: as above, and the page exists.
    (index < pages).then(|| unsafe { frame(mdl, index) } << PAGE_SHIFT)
}

/// Maps an MDL; `None` if the kernel can't.
fn map(mdl: NonNull<Mdl>, mode: Mode, prot: MemProt) -> Option<usize> {
    let mut priority = NORMAL_PRIORITY;
    if kernel::has_nx_pool() {
        if !prot.contains(MemProt::EXEC) {
            priority |= MAPPING_NO_EXECUTE;
        }
        if !prot.contains(MemProt::WRITE) {
            priority |= MAPPING_NO_WRITE;
        }
    }
    let arguments =
        [mdl.as_ptr() as usize, mode.cast_unsigned().into(), CACHED as usize, 0, 0, priority as usize];
    let function = sys::MmMapLockedPagesSpecifyCache as *const () as usize;
    // SAFETY: at most APC; the pages are locked. User mappings raise an exception when they fail.
    unsafe { hw::guarded_call(function, arguments) }.ok().filter(|address| *address != 0)
}

/// Pages of the driver's own, described by one MDL.
pub struct Pages {
    mdl: NonNull<Mdl>,
    kernel: usize,
    contiguous: bool,
}

// SAFETY: objects of the kernel, for any thread.
unsafe impl Send for Pages {}
// SAFETY: as above.
unsafe impl Sync for Pages {}

impl Drop for Pages {
    fn drop(&mut self) {
        let mdl = self.mdl.as_ptr();
        // SAFETY: made by `alloc`, with no mapping left (the core frees those first).
        unsafe {
            if self.contiguous {
                sys::IoFreeMdl(mdl);
                sys::MmFreeContiguousMemory(self.kernel as *mut c_void);
                return;
            }
            if self.kernel != 0 {
                sys::MmUnmapLockedPages(self.kernel as *mut c_void, mdl);
            }
            sys::MmFreePagesFromMdl(mdl);
            sys::ExFreePoolWithTag(mdl.cast(), 0);
        }
    }
}

/// Allocates zeroed pages. PASSIVE.
///
/// # Errors
/// `VERR_NO_MEMORY`, `VERR_NO_LOW_MEMORY`, `VERR_NO_CONT_MEMORY`.
pub fn alloc(kind: AllocKind, bytes: usize, prot: MemProt) -> Result<MemObj> {
    let (limit, failure) = match kind {
        AllocKind::Contiguous => return alloc_contiguous(bytes),
        AllocKind::Low => (LOW_LIMIT, VERR_NO_LOW_MEMORY),
        _ => (u64::MAX, VERR_NO_MEMORY),
    };
    let mut pages = alloc_pages(bytes, limit, failure)?;
    if kind != AllocKind::Unmapped {
        pages.kernel = map(pages.mdl, KERNEL_MODE, MemProt::READ | MemProt::WRITE).ok_or(failure)?;
        if prot.contains(MemProt::EXEC) {
            // Where the kernel forbids it the mapping stays without.
            let _refused = pages.protect(prot);
        }
    }
    let kernel = pages.kernel;
    Ok(MemObj::new(Backing::Pages(pages), bytes, kernel, 0))
}

/// Allocates zeroed pages at or below `limit` each, without a mapping. PASSIVE.
///
/// # Errors
/// `VERR_NO_PHYS_MEMORY`.
pub fn alloc_phys_nc(bytes: usize, limit: u64) -> Result<MemObj> {
    let pages = alloc_pages(bytes, limit, VERR_NO_PHYS_MEMORY)?;
    Ok(MemObj::new(Backing::Pages(pages), bytes, 0, 0))
}

/// Allocates a zeroed block at or below `limit`. PASSIVE.
///
/// # Errors
/// `VERR_NO_PHYS_MEMORY`, `VERR_NO_MEMORY`.
pub fn alloc_phys(bytes: usize, limit: u64) -> Result<MemObj> {
    let pages = alloc_block(bytes, limit, VERR_NO_PHYS_MEMORY)?;
    Ok(MemObj::new(Backing::Pages(pages), bytes, 0, 0))
}

/// Pages without a mapping; all of them, or none.
fn alloc_pages(bytes: usize, limit: u64, failure: Status) -> Result<Pages> {
    let mdl = match kernel::mm_allocate_pages_for_mdl_ex() {
        // SAFETY: PASSIVE (class T).
        Some(allocate) => unsafe { allocate(0, limit, 0, bytes, CACHED, FULLY_REQUIRED) },
        // SAFETY: PASSIVE (class T).
        None => unsafe { sys::MmAllocatePagesForMdl(0, limit, 0, bytes) },
    };
    let pages = Pages { mdl: NonNull::new(mdl).ok_or(failure)?, kernel: 0, contiguous: false };
    // SAFETY: the kernel's own MDL.
    if (unsafe { pages.mdl.as_ref() }.byte_count as usize) < bytes { Err(failure) } else { Ok(pages) }
}

fn alloc_contiguous(bytes: usize) -> Result<MemObj> {
    let pages = alloc_block(bytes, LOW_LIMIT, VERR_NO_CONT_MEMORY)?;
    let kernel = pages.kernel;
    Ok(MemObj::new(Backing::Pages(pages), bytes, kernel, 0))
}

/// One block, which always has a mapping.
fn alloc_block(bytes: usize, limit: u64, failure: Status) -> Result<Pages> {
    let length = u32::try_from(bytes).map_err(|_| failure)?;
    // SAFETY: PASSIVE (class T).
    let memory = unsafe { sys::MmAllocateContiguousMemorySpecifyCache(bytes, 0, limit, 0, CACHED) };
    if memory.is_null() {
        return Err(failure);
    }
    // SAFETY: fresh memory of that size.
    unsafe { memory.cast::<u8>().write_bytes(0, bytes) };
    // SAFETY: resident memory of that size.
    let Some(mdl) = NonNull::new(unsafe { sys::IoAllocateMdl(memory, length, 0, 0, core::ptr::null_mut()) })
    else {
        // SAFETY: nobody uses it.
        unsafe { sys::MmFreeContiguousMemory(memory) };
        return Err(VERR_NO_MEMORY);
    };
    // SAFETY: the MDL describes resident memory of the kernel.
    unsafe { sys::MmBuildMdlForNonPagedPool(mdl.as_ptr()) };
    Ok(Pages { mdl, kernel: memory as usize, contiguous: true })
}

impl Pages {
    pub(super) fn phys(&self, index: usize) -> Option<u64> {
        phys_of(self.mdl, index)
    }

    pub(super) fn protect(&self, prot: MemProt) -> Result<()> {
        protect(self.mdl, prot)
    }

    pub(super) fn map_kernel(&self, offset: usize, bytes: usize, prot: MemProt) -> Result<MemObj> {
        map_part(self.mdl, offset, bytes, prot)
    }

    pub(super) fn map_user(&self, bytes: usize, prot: MemProt, process: Process) -> Result<MemObj> {
        let user = map(self.mdl, USER_MODE, prot).ok_or(VERR_MAP_FAILED)?;
        let mapped = Mapped { mdl: self.mdl, owns_mdl: false, address: user, process: Some(process) };
        Ok(MemObj::new(Backing::Mapped(mapped), bytes, 0, user))
    }
}

fn protect(mdl: NonNull<Mdl>, prot: MemProt) -> Result<()> {
    let protect = kernel::mm_protect_mdl_system_address().ok_or(VERR_NOT_SUPPORTED)?;
    // SAFETY: PASSIVE (class T); the MDL has a kernel mapping of ours.
    unsafe { protect(mdl.as_ptr(), page_protection(prot)) }.ok().map_err(|_| VERR_NOT_SUPPORTED)
}

/// Maps part of the pages of an MDL into the kernel, with an MDL of its own: each can have one kernel mapping.
fn map_part(source: NonNull<Mdl>, offset: usize, bytes: usize, prot: MemProt) -> Result<MemObj> {
    // SAFETY: an MDL of this module.
    let whole = unsafe { source.as_ref() };
    let start = whole.start_va as usize + whole.byte_offset as usize + offset;
    let length = u32::try_from(bytes).map_err(|_| VERR_MAP_FAILED)?;
    // SAFETY: only describes.
    let mdl = unsafe { sys::IoAllocateMdl(start as *mut c_void, length, 0, 0, core::ptr::null_mut()) };
    let mdl = NonNull::new(mdl).ok_or(VERR_NO_MEMORY)?;
    let mut mapped = Mapped { mdl, owns_mdl: true, address: 0, process: None };
    // SAFETY: the part is inside the source (checked by the caller).
    unsafe { sys::IoBuildPartialMdl(source.as_ptr(), mdl.as_ptr(), start as *mut c_void, length) };
    // SAFETY: ours.
    let part = unsafe { mdl.as_ref() };
    let has_address = part.flags & (MDL_MAPPED_TO_SYSTEM_VA | MDL_SOURCE_IS_NONPAGED_POOL) != 0;
    let address = if has_address {
        // The source's own mapping covers it, and outlives this one; there is nothing to unmap.
        part.mapped_system_va as usize
    } else {
        let address = map(mdl, KERNEL_MODE, prot).ok_or(VERR_MAP_FAILED)?;
        mapped.address = address;
        address
    };
    Ok(MemObj::new(Backing::Mapped(mapped), bytes, address, 0))
}

/// A mapping.
pub struct Mapped {
    mdl: NonNull<Mdl>,
    owns_mdl: bool,
    /// What is to be unmapped, or 0.
    address: usize,
    /// Who has it, if it is a process.
    process: Option<Process>,
}

// SAFETY: objects of the kernel, for any thread.
unsafe impl Send for Mapped {}
// SAFETY: as above.
unsafe impl Sync for Mapped {}

impl Mapped {
    pub(super) fn phys(&self, index: usize) -> Option<u64> {
        phys_of(self.mdl, index)
    }

    pub(super) fn protect(&self, prot: MemProt) -> Result<()> {
        if self.address == 0 { Err(VERR_NOT_SUPPORTED) } else { protect(self.mdl, prot) }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        let (mdl, address) = (self.mdl.as_ptr(), self.address as *mut c_void);
        if !address.is_null() {
            // SAFETY: the mapping of this MDL that `map` made, in the process that has it.
            let unmap = || unsafe { sys::MmUnmapLockedPages(address, mdl) };
            match &self.process {
                Some(process) => process.attached(unmap),
                None => unmap(),
            }
        }
        if self.owns_mdl {
            // SAFETY: made by `map_part`.
            unsafe { sys::IoFreeMdl(mdl) };
        }
    }
}

/// One MDL of a locked range.
struct Chunk {
    mdl: Option<NonNull<Mdl>>,
    secured: Handle,
}

/// Pinned memory of a process.
pub struct Locked {
    chunks: Array<Chunk, Windows>,
    process: Process,
}

// SAFETY: objects of the kernel, for any thread.
unsafe impl Send for Locked {}
// SAFETY: as above.
unsafe impl Sync for Locked {}

impl Chunk {
    /// Locks one part; nothing is left behind on failure.
    fn lock(address: usize, bytes: usize, write: bool) -> Result<Self> {
        let length = u32::try_from(bytes).map_err(|_| VERR_NO_MEMORY)?;
        // SAFETY: only describes.
        let mdl = unsafe { sys::IoAllocateMdl(address as *mut c_void, length, 0, 0, core::ptr::null_mut()) };
        let mdl = NonNull::new(mdl).ok_or(VERR_NO_MEMORY)?;
        let operation = if write { MODIFY_ACCESS } else { READ_ACCESS };
        let function = sys::MmProbeAndLockPages as *const () as usize;
        let arguments =
            [mdl.as_ptr() as usize, USER_MODE.cast_unsigned().into(), operation as usize, 0, 0, 0];
        // SAFETY: at most APC (class T), in the process; what can't be locked is an exception.
        let locked = unsafe { hw::guarded_call(function, arguments) };
        // SAFETY: ours.
        let is_locked = unsafe { mdl.as_ref() }.flags & MDL_PAGES_LOCKED != 0;
        if locked.is_err() || !is_locked {
            // SAFETY: nothing is locked.
            unsafe { sys::IoFreeMdl(mdl.as_ptr()) };
            return Err(VERR_LOCK_FAILED);
        }
        let mut chunk = Self { mdl: Some(mdl), secured: core::ptr::null_mut() };
        let protection = if write { PAGE_READWRITE } else { PAGE_READONLY };
        // SAFETY: PASSIVE (class T), in the process.
        chunk.secured = unsafe { sys::MmSecureVirtualMemory(address as *mut c_void, bytes, protection) };
        if chunk.secured.is_null() {
            chunk.release();
            return Err(VERR_LOCK_FAILED);
        }
        Ok(chunk)
    }

    /// In the process.
    fn release(&self) {
        let Some(mdl) = self.mdl else { return };
        // SAFETY: secured and locked by `lock`.
        unsafe {
            if !self.secured.is_null() {
                sys::MmUnsecureVirtualMemory(self.secured);
            }
            sys::MmUnlockPages(mdl.as_ptr());
            sys::IoFreeMdl(mdl.as_ptr());
        }
    }
}

/// Pins memory of the calling process. PASSIVE.
///
/// # Errors
/// `VERR_LOCK_FAILED`, `VERR_NO_MEMORY`.
pub fn lock_user(address: usize, bytes: usize, access: MemProt) -> Result<MemObj> {
    if !is_user_range(address, bytes) {
        return Err(VERR_LOCK_FAILED);
    }
    let process = Process::current().ok_or(VERR_LOCK_FAILED)?;
    let count = bytes.div_ceil(LOCK_CHUNK_BYTES);
    let chunks = Array::from_fn(&Windows, count, |_| Chunk { mdl: None, secured: core::ptr::null_mut() })?;
    // Dropped with whatever is locked by then if a chunk fails.
    let mut locked = Locked { chunks, process };
    let write = access.contains(MemProt::WRITE);
    for (index, chunk) in locked.chunks.iter_mut().enumerate() {
        let offset = index * LOCK_CHUNK_BYTES;
        *chunk = Chunk::lock(address + offset, (bytes - offset).min(LOCK_CHUNK_BYTES), write)?;
    }
    Ok(MemObj::new(Backing::Locked(locked), bytes, 0, address))
}

impl Locked {
    pub(super) fn phys(&self, index: usize) -> Option<u64> {
        const PAGES: usize = LOCK_CHUNK_BYTES / PAGE_SIZE;
        phys_of(self.chunks.get(index / PAGES)?.mdl?, index % PAGES)
    }

    pub(super) fn map_kernel(&self, offset: usize, bytes: usize, prot: MemProt) -> Result<MemObj> {
        match &self.chunks[..] {
            [Chunk { mdl: Some(mdl), .. }] => map_part(*mdl, offset, bytes, prot),
            [] => Err(VERR_INTERNAL_ERROR),
            _ => Err(VERR_NOT_SUPPORTED),
        }
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        let Self { chunks, process } = self;
        process.attached(|| chunks.iter().for_each(Chunk::release));
    }
}
