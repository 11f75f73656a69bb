//! Pages of sections: for kernels that emulate NT in a process of their own.
//!
//! The driver's view is its *kernel* address; clients get views of the same section, which the emulation can make in any process. Such
//! pages have no physical addresses. The numbers that stand in for them are below 4 GiB, consecutive inside an object and unique among
//! the objects of a driver, as those of low and contiguous memory would be; nothing can reach memory through them.

use core::ffi::c_void;
use core::sync::atomic::{AtomicU32, Ordering};

use supdrv_core::abi::status::{Result, VERR_MAP_FAILED, VERR_NO_MEMORY};
use supdrv_core::heap::Arc;
use supdrv_core::os::{AllocKind, MemProt, PAGE_SHIFT};

use super::{Backing, MemObj};
use crate::Windows;
use crate::nt::sys;
use crate::nt::{CURRENT_PROCESS, Handle, KERNEL_MODE, OBJ_KERNEL_HANDLE, ObjectAttributes};
use crate::os::Process;

const SECTION_ALL_ACCESS: u32 = 0xf_001f;
const SEC_COMMIT: u32 = 0x0800_0000;
const PAGE_READONLY: u32 = 2;
const PAGE_READWRITE: u32 = 4;
const VIEW_UNMAP: u32 = 2;
/// To operate on the address space of a process: query, and map.
const PROCESS_ACCESS: u32 = 0x0408;

static NEXT_FRAME: AtomicU32 = AtomicU32::new(0x1_0000);

/// A handle that is closed when it is dropped.
struct Owned(Handle);

impl Drop for Owned {
    fn drop(&mut self) {
        // SAFETY: our own handle.
        unsafe { sys::ZwClose(self.0) };
    }
}

// SAFETY: handles of the kernel are for any thread.
unsafe impl Send for Owned {}
// SAFETY: as above.
unsafe impl Sync for Owned {}

/// A section: it lives as long as one of its views.
struct Shared {
    handle: Owned,
    frame: u32,
}

/// A view in some process.
struct Mapping {
    section: Arc<Shared, Windows>,
    address: usize,
    process: Option<Owned>,
}

impl Mapping {
    fn new(
        section: &Arc<Shared, Windows>,
        process: Option<Owned>,
        bytes: usize,
        protection: u32,
    ) -> Result<Self> {
        let mut base: *mut c_void = core::ptr::null_mut();
        let mut size = bytes;
        let target = process.as_ref().map_or(CURRENT_PROCESS, |process| process.0);
        // SAFETY: the results are ours; the handles are valid.
        let status = unsafe {
            sys::ZwMapViewOfSection(
                section.handle.0,
                target,
                &raw mut base,
                0,
                0,
                core::ptr::null_mut(),
                &raw mut size,
                VIEW_UNMAP,
                0,
                protection,
            )
        };
        status.ok().map_err(|_| VERR_MAP_FAILED)?;
        Ok(Self { section: section.clone(), address: base as usize, process })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        let target = self.process.as_ref().map_or(CURRENT_PROCESS, |process| process.0);
        // Fails if the process is gone, and its views with it.
        // SAFETY: the view that `new` made.
        unsafe { sys::ZwUnmapViewOfSection(target, self.address as *mut c_void) };
    }
}

/// The whole of a section, as the driver sees it.
pub struct Section(Mapping);

/// A view of part of it.
pub struct View {
    mapping: Option<Mapping>,
    section: Arc<Shared, Windows>,
    first_page: usize,
}

/// Allocates zeroed pages. PASSIVE.
///
/// # Errors
/// `VERR_NO_MEMORY`.
pub fn alloc(kind: AllocKind, bytes: usize) -> Result<MemObj> {
    let size = bytes as u64;
    let attributes = ObjectAttributes::new(core::ptr::null(), OBJ_KERNEL_HANDLE);
    let mut handle: Handle = core::ptr::null_mut();
    // SAFETY: PASSIVE; everything passed is ours.
    let status = unsafe {
        sys::ZwCreateSection(
            &raw mut handle,
            SECTION_ALL_ACCESS,
            &raw const attributes,
            &raw const size,
            PAGE_READWRITE,
            SEC_COMMIT,
            core::ptr::null_mut(),
        )
    };
    status.ok().map_err(|_| VERR_NO_MEMORY)?;
    let handle = Owned(handle);
    let pages = (bytes >> PAGE_SHIFT) as u32;
    let section = Arc::new(&Windows, Shared { handle, frame: frames(pages) })?;
    let mapping = Mapping::new(&section, None, bytes, PAGE_READWRITE).map_err(|_| VERR_NO_MEMORY)?;
    // The driver's view is there in any case; unmapped memory doesn't tell.
    let kernel = if kind == AllocKind::Unmapped { 0 } else { mapping.address };
    Ok(MemObj::new(Backing::Section(Section(mapping)), bytes, kernel, 0))
}

/// The next free numbers; they start over when the 4 GiB are used up.
fn frames(pages: u32) -> u32 {
    const FIRST: u32 = 0x1_0000;
    const END: u32 = 1 << 20;
    let claim = |next: u32| {
        let end = next.checked_add(pages).filter(|end| *end <= END);
        Some(end.unwrap_or(FIRST.saturating_add(pages)))
    };
    let before = NEXT_FRAME.fetch_update(Ordering::Relaxed, Ordering::Relaxed, claim).unwrap_or(FIRST);
    if before.saturating_add(pages) <= END { before } else { FIRST }
}

fn phys(section: &Shared, index: usize) -> u64 {
    (u64::from(section.frame) + index as u64) << PAGE_SHIFT
}

impl Section {
    pub(super) fn phys(&self, index: usize) -> u64 {
        phys(&self.0.section, index)
    }

    /// The driver's own view covers it all, writable.
    pub(super) fn map_kernel(&self, offset: usize, bytes: usize) -> Result<MemObj> {
        let view = View { mapping: None, section: self.0.section.clone(), first_page: offset >> PAGE_SHIFT };
        Ok(MemObj::new(Backing::View(view), bytes, self.0.address + offset, 0))
    }

    pub(super) fn map_user(&self, bytes: usize, prot: MemProt, process: Process) -> Result<MemObj> {
        let mut handle: Handle = core::ptr::null_mut();
        // SAFETY: a referenced process; the result is ours.
        let status = unsafe {
            sys::ObOpenObjectByPointer(
                process.as_ptr(),
                OBJ_KERNEL_HANDLE,
                core::ptr::null_mut(),
                PROCESS_ACCESS,
                core::ptr::null_mut(),
                KERNEL_MODE,
                &raw mut handle,
            )
        };
        status.ok().map_err(|_| VERR_MAP_FAILED)?;
        let protection = if prot.contains(MemProt::WRITE) { PAGE_READWRITE } else { PAGE_READONLY };
        let section = &self.0.section;
        let mapping = Mapping::new(section, Some(Owned(handle)), bytes, protection)?;
        let user = mapping.address;
        let view = View { section: section.clone(), mapping: Some(mapping), first_page: 0 };
        Ok(MemObj::new(Backing::View(view), bytes, 0, user))
    }
}

impl View {
    pub(super) fn phys(&self, index: usize) -> u64 {
        debug_assert!(self.mapping.is_none() || self.first_page == 0);
        phys(&self.section, self.first_page + index)
    }
}
