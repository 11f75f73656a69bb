//! Memory objects, user memory.
//!
//! There are two back ends. On NT pages are described by MDLs ([`mdl`]). A kernel that emulates NT in a process has no physical
//! pages and can't map any into a client, but it has sections, which it can ([`section`]). [`init`] finds out once, by trying, which one
//! works; an object remembers how it was made. Memory that is named by its physical address is a matter of its own ([`entered`]).
//!
//! User mappings are removed in the process that has them, which the object holds a reference to.

pub mod entered;
pub mod mdl;
pub mod section;

use core::sync::atomic::{AtomicBool, Ordering};

use supdrv_core::abi::Status;
use supdrv_core::abi::status::{
    Result, VERR_ACCESS_DENIED, VERR_INTERNAL_ERROR, VERR_MAP_FAILED, VERR_NO_MEMORY, VERR_NOT_SUPPORTED,
    VERR_OUT_OF_RANGE,
};
use supdrv_core::os::{AllocKind, MemProt, OsIdentity, OsMemory, OsUserCopy, PAGE_SIZE, ProcessHandle};

use crate::Windows;
use crate::kernel;
use crate::nt::hw;
use crate::os::Process;

/// Largest object: 1 GiB.
const MAX_BYTES: usize = 1 << 30;

static SECTIONS: AtomicBool = AtomicBool::new(false);

/// How an object was made, and what it takes to undo that.
pub enum Backing {
    /// Pages of the kernel's, or of the pool.
    Pages(mdl::Pages),
    /// Pinned pages of a process.
    Locked(mdl::Locked),
    /// A mapping of one of these.
    Mapped(mdl::Mapped),
    /// A section with a view of the kernel's.
    Section(section::Section),
    /// A view of part of a section.
    View(section::View),
    /// Physical memory that was there before.
    Entered(entered::Entered),
    /// A kernel mapping of that.
    EnteredMap(entered::Mapped),
}

/// A memory object.
pub struct MemObj {
    backing: Backing,
    bytes: usize,
    /// Kernel address or 0.
    kernel: usize,
    /// User address or 0.
    user: usize,
}

impl MemObj {
    pub(crate) const fn new(backing: Backing, bytes: usize, kernel: usize, user: usize) -> Self {
        Self { backing, bytes, kernel, user }
    }
}

/// Whether objects are sections.
#[must_use]
pub fn uses_sections() -> bool {
    SECTIONS.load(Ordering::Relaxed)
}

/// Chooses the back end. PASSIVE, at load time.
///
/// # Errors
/// `VERR_NO_MEMORY`: neither works.
pub fn init() -> Result<()> {
    let prot = MemProt::READ | MemProt::WRITE;
    let sections = if mdl::alloc(AllocKind::Page, PAGE_SIZE, prot).is_ok() {
        false
    } else if kernel::is_emulated() && section::alloc(AllocKind::Page, PAGE_SIZE).is_ok() {
        true
    } else {
        return Err(VERR_NO_MEMORY);
    };
    SECTIONS.store(sections, Ordering::Relaxed);
    Ok(())
}

/// Refuses sizes above the kernel's limit.
pub(crate) fn check_size(size_bytes: usize) -> Result<()> {
    if size_bytes <= MAX_BYTES { Ok(()) } else { Err(VERR_OUT_OF_RANGE) }
}

impl OsMemory for Windows {
    type MemObj = MemObj;

    fn mem_alloc(&self, kind: AllocKind, size_bytes: usize, prot: MemProt) -> Result<MemObj> {
        check_size(size_bytes)?;
        if uses_sections() { section::alloc(kind, size_bytes) } else { mdl::alloc(kind, size_bytes, prot) }
    }

    fn mem_lock_user(
        &self,
        address: usize,
        size_bytes: usize,
        access: MemProt,
        process: ProcessHandle,
    ) -> Result<MemObj> {
        check_size(size_bytes)?;
        // A kernel that is a process of its own doesn't see the client's pages.
        if uses_sections() || process != self.process_handle() {
            return Err(VERR_NOT_SUPPORTED);
        }
        mdl::lock_user(address, size_bytes, access)
    }

    fn mem_map_kernel(
        &self,
        parent: &MemObj,
        offset_bytes: usize,
        size_bytes: usize,
        prot: MemProt,
    ) -> Result<MemObj> {
        let inside = offset_bytes.checked_add(size_bytes).is_some_and(|end| end <= parent.bytes);
        if !inside {
            return Err(VERR_MAP_FAILED);
        }
        match &parent.backing {
            Backing::Pages(pages) => pages.map_kernel(offset_bytes, size_bytes, prot),
            Backing::Locked(locked) => locked.map_kernel(offset_bytes, size_bytes, prot),
            Backing::Section(section) => section.map_kernel(offset_bytes, size_bytes),
            Backing::Entered(entered) => entered.map_kernel(offset_bytes, size_bytes),
            Backing::Mapped(_) | Backing::View(_) | Backing::EnteredMap(_) => Err(VERR_INTERNAL_ERROR),
        }
    }

    fn mem_map_user(&self, parent: &MemObj, prot: MemProt, process: ProcessHandle) -> Result<MemObj> {
        if process != self.process_handle() {
            return Err(VERR_NOT_SUPPORTED);
        }
        let process = Process::current().ok_or(VERR_MAP_FAILED)?;
        match &parent.backing {
            Backing::Pages(pages) => pages.map_user(parent.bytes, prot, process),
            Backing::Section(section) => section.map_user(parent.bytes, prot, process),
            Backing::Locked(_) | Backing::Entered(_) => Err(VERR_NOT_SUPPORTED),
            Backing::Mapped(_) | Backing::View(_) | Backing::EnteredMap(_) => Err(VERR_INTERNAL_ERROR),
        }
    }

    fn mem_protect(
        &self,
        object: &MemObj,
        offset_bytes: usize,
        size_bytes: usize,
        prot: MemProt,
    ) -> Result<()> {
        // The kernel changes whole mappings only.
        if offset_bytes != 0 || size_bytes != object.bytes || object.kernel == 0 {
            return Err(VERR_NOT_SUPPORTED);
        }
        match &object.backing {
            Backing::Pages(pages) => pages.protect(prot),
            Backing::Mapped(mapped) => mapped.protect(prot),
            _ => Err(VERR_NOT_SUPPORTED),
        }
    }

    fn mem_free(&self, object: MemObj) -> core::result::Result<(), (MemObj, Status)> {
        // Dropping the backing undoes it; none of the kernel's functions for that can fail.
        drop(object);
        Ok(())
    }

    fn mem_address(&self, object: &MemObj) -> usize {
        object.kernel
    }

    fn mem_address_user(&self, object: &MemObj) -> usize {
        object.user
    }

    fn mem_size(&self, object: &MemObj) -> usize {
        object.bytes
    }

    fn mem_page_phys(&self, object: &MemObj, index: usize) -> Option<u64> {
        if index >= object.bytes / PAGE_SIZE {
            return None;
        }
        match &object.backing {
            Backing::Pages(pages) => pages.phys(index),
            Backing::Locked(locked) => locked.phys(index),
            Backing::Mapped(mapped) => mapped.phys(index),
            Backing::Section(section) => Some(section.phys(index)),
            Backing::View(view) => Some(view.phys(index)),
            Backing::Entered(entered) => Some(entered.phys(index)),
            Backing::EnteredMap(mapped) => Some(mapped.phys(index)),
        }
    }

    fn mem_handle(&self, object: &MemObj) -> usize {
        core::ptr::from_ref(object) as usize
    }
}

/// The first address that no process has; the kernel's own limit is a little below, and its probe finds what is in between.
const USER_END: usize = if usize::BITS == 64 { 0x7fff_ffff_0000 } else { 0x7fff_0000 };

/// Whether the range is where processes live.
pub(crate) fn is_user_range(address: usize, bytes: usize) -> bool {
    address != 0 && address.checked_add(bytes).is_some_and(|end| end <= USER_END)
}

/// Copies with both ends checked by the caller; what can't be reached ends the copy.
fn guarded_copy(to: *mut u8, from: *const u8, bytes: usize) -> Result<()> {
    let copy = hw::supdrv_plain_copy as *const () as usize;
    // SAFETY: the kernel's end is valid, the user's is inside user space, where every fault is an exception.
    let copied = unsafe { hw::guarded_call(copy, [to as usize, from as usize, bytes, 0, 0, 0]) };
    copied.map(drop).map_err(|_| VERR_ACCESS_DENIED)
}

impl OsUserCopy for Windows {
    fn user_copy_from(&self, to: &mut [u8], from: usize) -> Result<()> {
        if to.is_empty() {
            return Ok(());
        }
        // An emulated kernel has other memory at the client's addresses.
        if kernel::is_emulated() || !is_user_range(from, to.len()) {
            return Err(VERR_ACCESS_DENIED);
        }
        guarded_copy(to.as_mut_ptr(), from as *const u8, to.len())
    }

    fn user_copy_to(&self, to: usize, from: &[u8]) -> Result<()> {
        if from.is_empty() {
            return Ok(());
        }
        if kernel::is_emulated() || !is_user_range(to, from.len()) {
            return Err(VERR_ACCESS_DENIED);
        }
        guarded_copy(to as *mut u8, from.as_ptr(), from.len())
    }
}
