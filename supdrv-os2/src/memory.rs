//! Memory objects, user memory, image memory.
//!
//! The kernel tells physical addresses as runs, which are expanded once, when an object is made. It allocates memory fixed and mapped, and
//! always executable; shown to a process is the kernel's own mapping.

use core::ffi::c_void;
use core::ptr::{NonNull, null_mut};

use supdrv_core::abi::Status;
use supdrv_core::abi::status::{
    Result, VERR_ACCESS_DENIED, VERR_ADDRESS_TOO_BIG, VERR_INVALID_PARAMETER, VERR_LOCK_FAILED,
    VERR_MAP_FAILED, VERR_NO_CONT_MEMORY, VERR_NO_EXEC_MEMORY, VERR_NO_LOW_MEMORY, VERR_NO_MEMORY,
    VERR_NO_PHYS_MEMORY, VERR_NOT_SUPPORTED, VERR_WRONG_ORDER,
};
use supdrv_core::heap::{Array, Box};
use supdrv_core::os::{
    AllocKind, MemProt, OsIdentity, OsImage, OsMemory, OsUserCopy, PAGE_SHIFT, PAGE_SIZE, ProcessHandle,
};
use supdrv_core::shim::image::{FlatImage, FlatMemory, Never};

use crate::devhlp;
use crate::kernel::{self, LockHandle, PageRun};
use crate::os::Os2;

/// Where processes end, and where the kernel begins: both at most, so that they overlap.
#[cfg(target_os = "none")]
const USER_END: usize = 0xc000_0000;
#[cfg(target_os = "none")]
const KERNEL_START: usize = 0x2000_0000;
/// A fake kernel lives in a process.
#[cfg(not(target_os = "none"))]
const USER_END: usize = (if usize::BITS == 64 { usize::MAX >> 17 } else { usize::MAX }) & !(PAGE_SIZE - 1);
#[cfg(not(target_os = "none"))]
const KERNEL_START: usize = 1;

/// Whether a process may be there.
pub const fn is_user_address(address: usize) -> bool {
    address < USER_END
}

/// Whether the kernel may be there.
pub const fn is_kernel_address(address: usize) -> bool {
    address >= KERNEL_START
}

fn is_user_range(address: usize, bytes: usize) -> bool {
    address.checked_add(bytes).is_some_and(|end| end <= USER_END)
}

/// Fixed memory of the kernel, with whatever is in it.
pub fn alloc_pages(bytes: usize, flags: u32) -> Result<NonNull<c_void>> {
    let mut linear = null_mut();
    // SAFETY: the result is ours; without physical addresses nothing else is written.
    let failed = unsafe { kernel::KernVMAlloc(bytes, flags, &raw mut linear, kernel::ANY_PHYS, null_mut()) };
    NonNull::new(linear).filter(|_| failed == 0).ok_or(VERR_NO_MEMORY)
}

/// Memory of the kernel, or a mapping of its own. Dropping it gives it back.
struct Range {
    address: NonNull<c_void>,
    bytes: usize,
}

impl Range {
    /// Zeroed memory.
    fn alloc(bytes: usize, flags: u32) -> Result<Self> {
        let address = alloc_pages(bytes, flags | kernel::VMDHA_FIXED)?;
        // SAFETY: fresh memory of that size, fixed and mapped.
        unsafe { address.cast::<u8>().write_bytes(0, bytes) };
        Ok(Self { address, bytes })
    }

    /// Physical memory that is somebody else's.
    fn of_phys(phys: u32, bytes: usize) -> Result<Self> {
        let mut linear = null_mut();
        let mut phys: *mut c_void = core::ptr::without_provenance_mut(phys as usize);
        // SAFETY: as above; the physical address is read.
        let failed = unsafe {
            let flags = kernel::VMDHA_PHYS;
            kernel::KernVMAlloc(bytes, flags, &raw mut linear, &raw mut phys, null_mut())
        };
        let address = NonNull::new(linear).filter(|_| failed == 0).ok_or(VERR_MAP_FAILED)?;
        Ok(Self { address, bytes })
    }

    fn at(&self, offset: usize) -> usize {
        (self.address.as_ptr() as usize).saturating_add(offset)
    }
}

impl Drop for Range {
    fn drop(&mut self) {
        // SAFETY: from KernVMAlloc; its owner gives it up.
        unsafe { kernel::KernVMFree(self.address.as_ptr()) };
    }
}

/// Physical addresses of pages; all memory is below 4 GiB.
type Pages = Array<u32, Os2>;
/// Runs as the kernel tells them: words, two for each run.
type Runs = Array<u64, Os2>;

fn run_list(runs: &mut Runs) -> *mut PageRun {
    runs.as_mut_ptr().cast()
}

/// The pages of the first `count` runs; as many as the range has, or it isn't what the kernel says it is.
fn expand(runs: &Runs, count: u32, bytes: usize) -> Result<Pages> {
    let mut pages = Pages::new_zeroed(&Os2, bytes >> PAGE_SHIFT)?;
    let mut places = pages.iter_mut();
    for word in runs.iter().take(count as usize) {
        // SAFETY: a run is two 32-bit words: any bits of the list's word are one.
        let run: PageRun = unsafe { core::ptr::from_ref(word).cast::<PageRun>().read() };
        let mut page = run.phys & !(PAGE_SIZE as u32 - 1);
        for _ in 0..run.bytes >> PAGE_SHIFT {
            *places.next().ok_or(VERR_LOCK_FAILED)? = page;
            page = page.wrapping_add(PAGE_SIZE as u32);
        }
    }
    if places.next().is_none() { Ok(pages) } else { Err(VERR_LOCK_FAILED) }
}

fn runs_for(bytes: usize) -> Result<(Runs, u32)> {
    let count = bytes >> PAGE_SHIFT;
    Ok((Runs::new_zeroed(&Os2, count)?, u32::try_from(count).map_err(|_| VERR_NO_MEMORY)?))
}

/// The pages of fixed memory of the kernel, or of the current process.
fn pages_of(address: *mut c_void, bytes: usize) -> Result<Pages> {
    let (mut runs, mut count) = runs_for(bytes)?;
    let list = run_list(&mut runs);
    // SAFETY: the list has room for a run of each page.
    let failed = unsafe { kernel::KernLinToPageList(address, bytes, list, &raw mut count) };
    if failed == 0 { expand(&runs, count, bytes) } else { Err(VERR_NO_MEMORY) }
}

/// Pinned pages of a process. The kernel keeps the handle's address.
struct UserLock {
    handle: Option<Box<LockHandle, Os2>>,
    address: usize,
}

impl UserLock {
    fn new(address: usize, bytes: usize, write: bool) -> Result<(Self, Pages)> {
        let (mut runs, mut count) = runs_for(bytes)?;
        let handle = Box::<LockHandle, Os2>::new(&Os2, [0; 3])?;
        let flags = kernel::VMDHL_LONG | if write { kernel::VMDHL_WRITE } else { 0 };
        let linear = address as *mut c_void;
        // SAFETY: the handle stays where it is until it is unlocked; the list has room for a run of each page.
        let failed = unsafe {
            let (lock, list) = (handle.as_ptr().as_ptr(), run_list(&mut runs));
            kernel::KernVMLock(flags, linear, bytes, lock, list, &raw mut count)
        };
        match failed {
            0 => {
                // From here on, dropping the lock unlocks.
                let lock = Self { handle: Some(handle), address };
                Ok((lock, expand(&runs, count, bytes)?))
            }
            kernel::ERROR_UVIRTLOCK => {
                Ok((Self { handle: None, address }, pages_of(linear, bytes).map_err(|_| VERR_LOCK_FAILED)?))
            }
            _ => Err(VERR_LOCK_FAILED),
        }
    }
}

impl Drop for UserLock {
    fn drop(&mut self) {
        if let Some(handle) = &self.handle {
            // SAFETY: locked with this handle, once.
            unsafe { kernel::KernVMUnlock(handle.as_ptr().as_ptr()) };
        }
    }
}

enum Kind {
    Owned(Range),
    Locked(UserLock),
    /// Somebody else's, without a mapping.
    Phys,
    /// A mapping of its own of such memory.
    PhysMap(Range),
    /// A part of the memory of the parent, at the parent's own address.
    View(usize),
    /// Shown to a process.
    User {
        address: usize,
        process: ProcessHandle,
    },
}

struct Object {
    kind: Kind,
    /// Of all kinds but the two of foreign memory.
    pages: Pages,
    /// Of foreign memory.
    phys: u32,
    bytes: usize,
}

/// A memory object.
pub struct MemObj(Box<Object, Os2>);

// SAFETY: addresses and handles of the kernel, which may be used from any thread.
unsafe impl Send for MemObj {}
// SAFETY: as above.
unsafe impl Sync for MemObj {}

impl MemObj {
    fn new(kind: Kind, pages: Pages) -> Result<Self> {
        let bytes = pages.len() << PAGE_SHIFT;
        Ok(Self(Box::new(&Os2, Object { kind, pages, phys: 0, bytes })?))
    }

    fn foreign(kind: Kind, phys: u32, bytes: usize) -> Result<Self> {
        let pages = Pages::new_zeroed(&Os2, 0)?;
        Ok(Self(Box::new(&Os2, Object { kind, pages, phys, bytes })?))
    }

    fn alloc(bytes: usize, flags: u32) -> Result<Self> {
        let range = Range::alloc(bytes, flags)?;
        let pages = pages_of(range.address.as_ptr(), bytes)?;
        Self::new(Kind::Owned(range), pages)
    }

    /// One contiguous block up to `highest`, aligned if the kernel happens to do so.
    pub fn contiguous(bytes: usize, highest: u64, align: usize) -> Result<Self> {
        const LAST_BELOW_16M: u64 = (16 << 20) - 1;
        let low = if highest <= LAST_BELOW_16M { kernel::VMDHA_16M } else { 0 };
        let object = Self::alloc(bytes, kernel::VMDHA_CONTIG | low).map_err(|_| VERR_NO_PHYS_MEMORY)?;
        let first = object.0.pages.first().map_or(0, |page| u64::from(*page));
        let last = first.saturating_add(bytes as u64).saturating_sub(1);
        let aligned = first & (align as u64).saturating_sub(1) == 0;
        if last <= highest && aligned { Ok(object) } else { Err(VERR_NO_PHYS_MEMORY) }
    }

    /// Memory that exists already.
    pub fn of_phys(phys: u64, bytes: usize) -> Result<Self> {
        let last = phys.saturating_add(bytes as u64).saturating_sub(1);
        let phys = u32::try_from(phys).map_err(|_| VERR_ADDRESS_TOO_BIG)?;
        u32::try_from(last).map_err(|_| VERR_ADDRESS_TOO_BIG)?;
        Self::foreign(Kind::Phys, phys, bytes)
    }
}

impl OsMemory for Os2 {
    type MemObj = MemObj;

    fn mem_alloc(&self, kind: AllocKind, size_bytes: usize, _prot: MemProt) -> Result<MemObj> {
        match kind {
            AllocKind::Page => MemObj::alloc(size_bytes, 0),
            AllocKind::Unmapped => Err(VERR_NOT_SUPPORTED),
            AllocKind::Low => MemObj::alloc(size_bytes, 0).map_err(|_| VERR_NO_LOW_MEMORY),
            AllocKind::Contiguous => {
                MemObj::alloc(size_bytes, kernel::VMDHA_CONTIG).map_err(|_| VERR_NO_CONT_MEMORY)
            }
        }
    }

    fn mem_lock_user(
        &self,
        address: usize,
        size_bytes: usize,
        access: MemProt,
        process: ProcessHandle,
    ) -> Result<MemObj> {
        if process != self.process_handle() {
            return Err(VERR_NOT_SUPPORTED);
        }
        if !is_user_range(address, size_bytes) {
            return Err(VERR_LOCK_FAILED);
        }
        let (lock, pages) = UserLock::new(address, size_bytes, access.contains(MemProt::WRITE))?;
        MemObj::new(Kind::Locked(lock), pages)
    }

    /// Scattered pages of a process can't be shown to the kernel; memory of the kernel is mapped already.
    fn mem_map_kernel(
        &self,
        parent: &MemObj,
        offset_bytes: usize,
        size_bytes: usize,
        _prot: MemProt,
    ) -> Result<MemObj> {
        let object = &*parent.0;
        let end = offset_bytes.checked_add(size_bytes).filter(|end| *end <= object.bytes);
        let end = end.ok_or(VERR_INVALID_PARAMETER)?;
        match &object.kind {
            Kind::Owned(range) => {
                let slice = object.pages.get(offset_bytes >> PAGE_SHIFT..end >> PAGE_SHIFT);
                let pages = Pages::copy_of(self, slice.ok_or(VERR_INVALID_PARAMETER)?)?;
                MemObj::new(Kind::View(range.at(offset_bytes)), pages)
            }
            Kind::Phys => {
                let offset = u32::try_from(offset_bytes).map_err(|_| VERR_INVALID_PARAMETER)?;
                let phys = object.phys.saturating_add(offset);
                MemObj::foreign(Kind::PhysMap(Range::of_phys(phys, size_bytes)?), phys, size_bytes)
            }
            _ => Err(VERR_NOT_SUPPORTED),
        }
    }

    fn mem_map_user(&self, parent: &MemObj, prot: MemProt, process: ProcessHandle) -> Result<MemObj> {
        let Kind::Owned(range) = &parent.0.kind else { return Err(VERR_NOT_SUPPORTED) };
        if process != self.process_handle() {
            return Err(VERR_NOT_SUPPORTED);
        }
        let pages = Pages::copy_of(self, &parent.0.pages)?;
        // Made first, so that nothing can fail once the process sees the memory.
        let mut object = MemObj::new(Kind::Phys, pages)?;
        let flags = if prot.contains(MemProt::WRITE) { devhlp::VMGP_WRITE } else { 0 };
        let mut address = 0;
        // SAFETY: the range is fixed memory of the kernel; the result is ours.
        let failed = unsafe {
            devhlp::supdrv_devhlp_vm_global_to_process(flags, range.at(0), range.bytes, &raw mut address)
        };
        if failed != 0 || address == 0 {
            return Err(VERR_MAP_FAILED);
        }
        object.0.kind = Kind::User { address, process };
        Ok(object)
    }

    /// The kernel protects nothing but whole mappings, when they are made.
    fn mem_protect(
        &self,
        _object: &MemObj,
        _offset_bytes: usize,
        _size_bytes: usize,
        _prot: MemProt,
    ) -> Result<()> {
        Err(VERR_NOT_SUPPORTED)
    }

    fn mem_free(&self, object: MemObj) -> core::result::Result<(), (MemObj, Status)> {
        if let Kind::User { address, process } = object.0.kind {
            // Only its own process can give it up, and whether that still lives nobody tells.
            if process != self.process_handle() {
                return Err((object, VERR_WRONG_ORDER));
            }
            // An error: the process has given it up itself.
            // SAFETY: from the call above in this process; any other address is an error.
            let _gone = unsafe { devhlp::supdrv_devhlp_vm_free(address) };
        }
        drop(object);
        Ok(())
    }

    fn mem_address(&self, object: &MemObj) -> usize {
        match &object.0.kind {
            Kind::Owned(range) | Kind::PhysMap(range) => range.at(0),
            Kind::View(address) => *address,
            Kind::Locked(_) | Kind::Phys | Kind::User { .. } => 0,
        }
    }

    fn mem_address_user(&self, object: &MemObj) -> usize {
        match &object.0.kind {
            Kind::Locked(lock) => lock.address,
            Kind::User { address, .. } => *address,
            _ => 0,
        }
    }

    fn mem_size(&self, object: &MemObj) -> usize {
        object.0.bytes
    }

    fn mem_page_phys(&self, object: &MemObj, index: usize) -> Option<u64> {
        let object = &*object.0;
        if let Kind::Phys | Kind::PhysMap(_) = object.kind {
            let offset = index.checked_mul(PAGE_SIZE).filter(|offset| *offset < object.bytes)?;
            return Some(u64::from(object.phys) + offset as u64);
        }
        object.pages.get(index).map(|page| u64::from(*page))
    }

    fn mem_handle(&self, object: &MemObj) -> usize {
        object.0.as_ptr().as_ptr() as usize
    }
}

impl OsUserCopy for Os2 {
    fn user_copy_from(&self, to: &mut [u8], from: usize) -> Result<()> {
        if to.is_empty() {
            return Ok(());
        }
        let fine = is_user_range(from, to.len())
            // SAFETY: `to` has that many bytes; the source is checked by the kernel.
            && unsafe { kernel::KernCopyIn(to.as_mut_ptr().cast(), from as *const c_void, to.len()) == 0 };
        if fine { Ok(()) } else { Err(VERR_ACCESS_DENIED) }
    }

    fn user_copy_to(&self, to: usize, from: &[u8]) -> Result<()> {
        if from.is_empty() {
            return Ok(());
        }
        let fine = is_user_range(to, from.len())
            // SAFETY: `from` has that many bytes; the destination is checked by the kernel.
            && unsafe { kernel::KernCopyOut(to as *mut c_void, from.as_ptr().cast(), from.len()) == 0 };
        if fine { Ok(()) } else { Err(VERR_ACCESS_DENIED) }
    }
}

/// Memory for an image: like all memory of the kernel, it can be executed.
pub struct ImageMemory;

impl FlatMemory for ImageMemory {
    unsafe fn free(base: NonNull<u8>, bytes: usize) {
        // SAFETY: condition of the function: nobody uses the block any more.
        unsafe { base.write_bytes(0, bytes) };
        drop(Range { address: base.cast(), bytes });
    }
}

impl OsImage for Os2 {
    type ExecMem = FlatImage<ImageMemory>;
    /// Images aren't drivers of the kernel.
    type Native = Never;

    fn exec_alloc(&self, size_bytes: usize) -> Result<Self::ExecMem> {
        let bytes = size_bytes.checked_next_multiple_of(PAGE_SIZE).ok_or(VERR_NO_EXEC_MEMORY)?;
        let range = Range::alloc(bytes, 0).map_err(|_| VERR_NO_EXEC_MEMORY)?;
        let base = range.address.cast();
        // The image owns it from here on.
        core::mem::forget(range);
        // SAFETY: fresh memory of that size, which `free` gives back.
        Ok(unsafe { FlatImage::new(base, bytes) })
    }

    fn exec_base(&self, memory: &Self::ExecMem) -> NonNull<u8> {
        memory.base()
    }

    fn exec_load(&self, memory: &Self::ExecMem, bits: &[u8]) -> Result<()> {
        memory.load(bits)
    }
}
