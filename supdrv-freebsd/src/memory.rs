//! Memory objects, user memory, image memory.
//!
//! Pages of our own belong to a VM object of type "phys". A user mapping has a reference of its own to that object: its pages live until
//! the last mapping is gone, whoever frees what, and from where.

use core::ffi::{c_int, c_ulong, c_void};
use core::ptr::NonNull;

use supdrv_core::abi::Status;
use supdrv_core::abi::status::{
    Result, VERR_ACCESS_DENIED, VERR_INVALID_PARAMETER, VERR_LOCK_FAILED, VERR_MAP_FAILED,
    VERR_NO_CONT_MEMORY, VERR_NO_EXEC_MEMORY, VERR_NO_LOW_MEMORY, VERR_NO_MEMORY, VERR_NO_PHYS_MEMORY,
    VERR_NOT_SUPPORTED, VERR_OUT_OF_RANGE,
};
use supdrv_core::heap::{Array, Box};
use supdrv_core::os::{
    AllocKind, CachePolicy, MemProt, OsIdentity, OsImage, OsMemory, OsUserCopy, PAGE_SHIFT, PAGE_SIZE,
    ProcessHandle,
};
use supdrv_core::shim::image::{FlatImage, FlatMemory, Never};

use crate::glue;
use crate::kernel::{self, Opaque};
use crate::os::FreeBsd;

const BELOW_4G: u64 = u32::MAX as u64;
const ANYWHERE: u64 = u64::MAX;

/// Pointers to the kernel's page structures, as integers: the heap's arrays hold plain data.
type Pages = Array<usize, FreeBsd>;

fn page_list(pages: &[usize]) -> *mut *mut Opaque {
    pages.as_ptr().cast_mut().cast()
}

fn page_count(pages: &[usize]) -> Result<c_int> {
    c_int::try_from(pages.len()).map_err(|_| VERR_OUT_OF_RANGE)
}

fn kernel_prot(prot: MemProt) -> c_int {
    // The same numbers.
    prot.bits().cast_signed() & kernel::VM_PROT_ALL
}

/// A kernel mapping of pages.
struct KernelRange {
    address: usize,
    pages: c_int,
}

impl KernelRange {
    fn new(pages: &[usize]) -> Result<Self> {
        let count = page_count(pages)?;
        let bytes = pages.len() << PAGE_SHIFT;
        let address = kernel::kva_alloc(bytes);
        if address == 0 {
            return Err(VERR_NO_MEMORY);
        }
        // SAFETY: a fresh range of that many pages, which the caller keeps as long as the mapping.
        unsafe { kernel::pmap_qenter(address, page_list(pages), count) };
        Ok(Self { address, pages: count })
    }
}

impl Drop for KernelRange {
    fn drop(&mut self) {
        // SAFETY: entered in `new`, over this range; its owner gives it up.
        unsafe {
            kernel::pmap_qremove(self.address, self.pages);
            kernel::kva_free(self.address, (self.pages as usize) << PAGE_SHIFT);
        }
    }
}

/// A VM object with all its pages.
struct Owned {
    object: NonNull<Opaque>,
    /// As many as are there already, while it is being filled.
    filled: usize,
    pages: Pages,
}

impl Owned {
    /// `run` pages at a time are contiguous.
    fn new(bytes: usize, run: usize, high: u64, align: usize) -> Result<Self> {
        let pages = Pages::new_zeroed(&FreeBsd, bytes >> PAGE_SHIFT)?;
        page_count(&pages)?;
        // SAFETY: the size isn't 0.
        let object = NonNull::new(unsafe { glue::supdrv_glue_object_new(bytes) }).ok_or(VERR_NO_MEMORY)?;
        let mut owned = Self { object, filled: 0, pages };
        let count = owned.pages.len();
        let Self { pages, filled, .. } = &mut owned;
        for chunk in pages.chunks_mut(run.max(1)) {
            let (first, len) = (*filled as c_ulong, chunk.len() as c_ulong);
            let list = chunk.as_mut_ptr().cast();
            // SAFETY: the object is ours; the list has room for that many pages.
            let got = unsafe {
                glue::supdrv_glue_pages_alloc(object.as_ptr(), first, len, high, align as c_ulong, list)
            };
            if got == 0 {
                break;
            }
            *filled += chunk.len();
        }
        if owned.filled == count { Ok(owned) } else { Err(VERR_NO_MEMORY) }
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        let filled = self.filled as c_ulong;
        // SAFETY: the object and its pages are ours, given up here.
        unsafe { glue::supdrv_glue_object_free(self.object.as_ptr(), page_list(&self.pages), filled) };
    }
}

/// A user mapping. The kernel drops the reference of the map entry when the entry goes.
struct UserRange {
    /// Only compared: the map entry has a reference, and our parent has one as long as we exist.
    object: NonNull<Opaque>,
    address: usize,
    bytes: usize,
    process: ProcessHandle,
}

impl Drop for UserRange {
    fn drop(&mut self) {
        // In any other process the mapping keeps its pages until that process gives it up.
        if FreeBsd.process_handle() != self.process {
            return;
        }
        let end = self.address.saturating_add(self.bytes);
        let mut hint = 0;
        // SAFETY: the map of the current process, and only what our object is mapped at in it.
        unsafe {
            let map = glue::supdrv_glue_user_map(&raw mut hint);
            if glue::supdrv_glue_maps_object(map, self.address, end, self.object.as_ptr()) != 0 {
                kernel::vm_map_remove(map, self.address, end);
            }
        }
    }
}

/// Pinned pages of a process.
struct Locked {
    address: usize,
    map: *mut Opaque,
    process: ProcessHandle,
    pages: Pages,
}

impl Drop for Locked {
    fn drop(&mut self) {
        let count = c_int::try_from(self.pages.len()).unwrap_or(0);
        // SAFETY: held when this was made, given up here.
        unsafe { kernel::vm_page_unhold_pages(page_list(&self.pages), count) };
        let mut hint = 0;
        // SAFETY: the result is ours.
        let map = unsafe { glue::supdrv_glue_user_map(&raw mut hint) };
        // The wiring of any other address space goes with it.
        if FreeBsd.process_handle() == self.process && map == self.map {
            unwire(map, self.address, self.pages.len());
        }
    }
}

fn unwire(map: *mut Opaque, address: usize, pages: usize) {
    let end = address.saturating_add(pages << PAGE_SHIFT);
    let flags = kernel::VM_MAP_WIRE_SYSTEM | kernel::VM_MAP_WIRE_HOLESOK;
    // SAFETY: the range was wired in this map when this was made.
    unsafe { kernel::vm_map_unwire(map, address, end, flags) };
}

/// Physical memory that somebody else owns, mapped by the kernel as device memory.
struct Device {
    address: NonNull<c_void>,
    bytes: usize,
}

impl Drop for Device {
    fn drop(&mut self) {
        // SAFETY: mapped by `supdrv_glue_map_device`, given up here.
        unsafe { glue::supdrv_glue_unmap_device(self.address.as_ptr(), self.bytes) };
    }
}

enum Kind {
    /// The mapping goes before the pages.
    Owned {
        mapping: Option<KernelRange>,
        memory: Owned,
    },
    Locked(Locked),
    Phys {
        phys: u64,
        bytes: usize,
        cache: CachePolicy,
    },
    KernelMap {
        mapping: KernelRange,
        pages: Pages,
    },
    UserMap {
        mapping: UserRange,
        pages: Pages,
    },
    DeviceMap {
        mapping: Device,
        phys: u64,
    },
}

/// A memory object.
pub struct MemObj(Box<Kind, FreeBsd>);

// SAFETY: addresses and structures of the kernel, which may be used from any thread.
unsafe impl Send for MemObj {}
// SAFETY: as above.
unsafe impl Sync for MemObj {}

impl MemObj {
    fn new(kind: Kind) -> Result<Self> {
        Ok(Self(Box::new(&FreeBsd, kind)?))
    }

    fn pages(&self) -> &[usize] {
        match &*self.0 {
            Kind::Owned { memory, .. } => &memory.pages,
            Kind::Locked(locked) => &locked.pages,
            Kind::KernelMap { pages, .. } | Kind::UserMap { pages, .. } => pages,
            Kind::Phys { .. } | Kind::DeviceMap { .. } => &[],
        }
    }

    /// Of pages without page structures.
    fn device_range(&self) -> Option<(u64, usize)> {
        match &*self.0 {
            Kind::Phys { phys, bytes, .. } => Some((*phys, *bytes)),
            Kind::DeviceMap { phys, mapping } => Some((*phys, mapping.bytes)),
            _ => None,
        }
    }
}

fn alloc(bytes: usize, run: usize, high: u64, align: usize, mapped: bool) -> Result<MemObj> {
    let memory = Owned::new(bytes, run, high, align)?;
    let mapping = if mapped { Some(KernelRange::new(&memory.pages)?) } else { None };
    MemObj::new(Kind::Owned { mapping, memory })
}

impl OsMemory for FreeBsd {
    type MemObj = MemObj;

    fn mem_alloc(&self, kind: AllocKind, size_bytes: usize, _prot: MemProt) -> Result<MemObj> {
        let all = size_bytes >> PAGE_SHIFT;
        match kind {
            AllocKind::Page => alloc(size_bytes, 1, ANYWHERE, PAGE_SIZE, true),
            AllocKind::Unmapped => alloc(size_bytes, 1, ANYWHERE, PAGE_SIZE, false),
            AllocKind::Low => alloc(size_bytes, 1, BELOW_4G, PAGE_SIZE, true).map_err(|_| VERR_NO_LOW_MEMORY),
            AllocKind::Contiguous => {
                alloc(size_bytes, all, BELOW_4G, PAGE_SIZE, true).map_err(|_| VERR_NO_CONT_MEMORY)
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
        let end = address.checked_add(size_bytes).ok_or(VERR_LOCK_FAILED)?;
        let mut pages = Pages::new_zeroed(self, size_bytes >> PAGE_SHIFT)?;
        let count = page_count(&pages)?;
        let mut hint = 0;
        // SAFETY: the result is ours.
        let map = unsafe { glue::supdrv_glue_user_map(&raw mut hint) };
        let write = if access.contains(MemProt::WRITE) { kernel::VM_MAP_WIRE_WRITE } else { 0 };
        // Wired by the system, so that the user's own limit doesn't count.
        // SAFETY: any range may be asked for in the current process's map.
        let wired = unsafe { kernel::vm_map_wire(map, address, end, kernel::VM_MAP_WIRE_SYSTEM | write) };
        if wired != 0 {
            return Err(VERR_LOCK_FAILED);
        }
        let prot = kernel_prot(access | MemProt::READ);
        let list = pages.as_mut_ptr().cast();
        // SAFETY: the list has room for that many pages.
        let held = unsafe { kernel::vm_fault_quick_hold_pages(map, address, size_bytes, prot, list, count) };
        if held != count {
            if held > 0 {
                // SAFETY: the first pages of the list are held, given up here.
                unsafe { kernel::vm_page_unhold_pages(list, held) };
            }
            unwire(map, address, pages.len());
            return Err(VERR_LOCK_FAILED);
        }
        MemObj::new(Kind::Locked(Locked { address, map, process, pages }))
    }

    fn mem_map_kernel(
        &self,
        parent: &MemObj,
        offset_bytes: usize,
        size_bytes: usize,
        _prot: MemProt,
    ) -> Result<MemObj> {
        if let Kind::Phys { phys, cache, .. } = *parent.0 {
            let phys = phys.saturating_add(offset_bytes as u64);
            let uncached = c_int::from(cache == CachePolicy::Mmio);
            // SAFETY: any physical range may be mapped; nothing is accessed.
            let address = unsafe { glue::supdrv_glue_map_device(phys, size_bytes, uncached) };
            let address = NonNull::new(address).ok_or(VERR_MAP_FAILED)?;
            return MemObj::new(Kind::DeviceMap { mapping: Device { address, bytes: size_bytes }, phys });
        }
        let (first, count) = (offset_bytes >> PAGE_SHIFT, size_bytes >> PAGE_SHIFT);
        let end = first.checked_add(count).ok_or(VERR_INVALID_PARAMETER)?;
        let slice = parent.pages().get(first..end).ok_or(VERR_INVALID_PARAMETER)?;
        let pages = Pages::copy_of(self, slice)?;
        MemObj::new(Kind::KernelMap { mapping: KernelRange::new(&pages)?, pages })
    }

    fn mem_map_user(&self, parent: &MemObj, prot: MemProt, process: ProcessHandle) -> Result<MemObj> {
        let Kind::Owned { memory, .. } = &*parent.0 else { return Err(VERR_NOT_SUPPORTED) };
        if process != self.process_handle() {
            return Err(VERR_NOT_SUPPORTED);
        }
        let pages = Pages::copy_of(self, &memory.pages)?;
        let (object, bytes) = (memory.object, pages.len() << PAGE_SHIFT);
        let mut address = 0;
        // SAFETY: the result is ours.
        let map = unsafe { glue::supdrv_glue_user_map(&raw mut address) };
        let prot = kernel_prot(prot);
        // SAFETY: the object is alive: the parent has it.
        unsafe { kernel::vm_object_reference(object.as_ptr()) };
        let (space, flags) = (kernel::VMFS_ANY_SPACE, kernel::MAP_DISABLE_COREDUMP);
        // SAFETY: the map of the current process; the reference from above goes to the map entry.
        let mapped = unsafe {
            let place = &raw mut address;
            kernel::vm_map_find(map, object.as_ptr(), 0, place, bytes, 0, space, prot, prot, flags)
        };
        if mapped != 0 {
            // SAFETY: the reference from above, which no map entry has.
            unsafe { kernel::vm_object_deallocate(object.as_ptr()) };
            return Err(VERR_MAP_FAILED);
        }
        // From here on, dropping the range unmaps it.
        let mapping = UserRange { object, address, bytes, process };
        let end = address.saturating_add(bytes);
        // SAFETY: the range was just mapped in this map.
        if unsafe { kernel::vm_map_inherit(map, address, end, kernel::VM_INHERIT_NONE) } != 0 {
            return Err(VERR_MAP_FAILED);
        }
        MemObj::new(Kind::UserMap { mapping, pages })
    }

    fn mem_protect(
        &self,
        object: &MemObj,
        offset_bytes: usize,
        size_bytes: usize,
        prot: MemProt,
    ) -> Result<()> {
        let wanted = kernel_prot(prot);
        match &*object.0 {
            Kind::Owned { mapping: Some(mapping), .. } | Kind::KernelMap { mapping, .. } => {
                let start = mapping.address.saturating_add(offset_bytes);
                let (first, count) = (offset_bytes >> PAGE_SHIFT, size_bytes >> PAGE_SHIFT);
                let end = first.saturating_add(count);
                let slice = object.pages().get(first..end).ok_or(VERR_INVALID_PARAMETER)?;
                let count = page_count(slice)?;
                // The kernel only takes rights away: entered anew, the pages have all there are.
                // SAFETY: pages of this object, at the addresses where they are mapped already.
                unsafe { kernel::pmap_qenter(start, page_list(slice), count) };
                if !prot.contains(MemProt::WRITE) {
                    let end = start.saturating_add(size_bytes);
                    // SAFETY: a kernel mapping of this object.
                    unsafe { glue::supdrv_glue_kernel_protect(start, end, wanted) };
                }
                Ok(())
            }
            Kind::UserMap { mapping, .. } if mapping.process == self.process_handle() => {
                let start = mapping.address.saturating_add(offset_bytes);
                let end = start.saturating_add(size_bytes);
                let mut hint = 0;
                // SAFETY: the result is ours.
                let map = unsafe { glue::supdrv_glue_user_map(&raw mut hint) };
                // SAFETY: a mapping of ours in the current process's map.
                let done = unsafe { glue::supdrv_glue_protect(map, start, end, wanted) };
                if done == 0 { Ok(()) } else { Err(VERR_NOT_SUPPORTED) }
            }
            _ => Err(VERR_NOT_SUPPORTED),
        }
    }

    fn mem_free(&self, object: MemObj) -> core::result::Result<(), (MemObj, Status)> {
        drop(object);
        Ok(())
    }

    fn mem_address(&self, object: &MemObj) -> usize {
        match &*object.0 {
            Kind::Owned { mapping: Some(mapping), .. } | Kind::KernelMap { mapping, .. } => mapping.address,
            Kind::DeviceMap { mapping, .. } => mapping.address.as_ptr() as usize,
            Kind::Owned { .. } | Kind::Locked(_) | Kind::Phys { .. } | Kind::UserMap { .. } => 0,
        }
    }

    fn mem_address_user(&self, object: &MemObj) -> usize {
        match &*object.0 {
            Kind::Locked(locked) => locked.address,
            Kind::UserMap { mapping, .. } => mapping.address,
            _ => 0,
        }
    }

    fn mem_size(&self, object: &MemObj) -> usize {
        object.device_range().map_or_else(|| object.pages().len() << PAGE_SHIFT, |(_, bytes)| bytes)
    }

    fn mem_page_phys(&self, object: &MemObj, index: usize) -> Option<u64> {
        if let Some((phys, bytes)) = object.device_range() {
            return (index < bytes >> PAGE_SHIFT).then(|| phys + ((index as u64) << PAGE_SHIFT));
        }
        let page = *object.pages().get(index)?;
        // SAFETY: a page of this object.
        Some(unsafe { glue::supdrv_glue_page_phys(page as *mut Opaque) })
    }

    fn mem_handle(&self, object: &MemObj) -> usize {
        object.0.as_ptr().as_ptr() as usize
    }
}

impl FreeBsd {
    /// One contiguous block up to `highest`, without a kernel mapping.
    pub(crate) fn alloc_phys(&self, size_bytes: usize, highest: u64, align_bytes: usize) -> Result<MemObj> {
        let all = size_bytes >> PAGE_SHIFT;
        alloc(size_bytes, all, highest, align_bytes, false).map_err(|_| VERR_NO_PHYS_MEMORY)
    }

    /// Pages up to `highest`, without a kernel mapping.
    pub(crate) fn alloc_phys_nc(&self, size_bytes: usize, highest: u64) -> Result<MemObj> {
        alloc(size_bytes, 1, highest, PAGE_SIZE, false).map_err(|_| VERR_NO_PHYS_MEMORY)
    }

    /// Memory that exists already.
    pub(crate) fn enter_phys(&self, phys: u64, bytes: usize, cache: CachePolicy) -> Result<MemObj> {
        MemObj::new(Kind::Phys { phys, bytes, cache })
    }
}

impl OsUserCopy for FreeBsd {
    fn user_copy_from(&self, to: &mut [u8], from: usize) -> Result<()> {
        // SAFETY: `to` has that many bytes; the source is checked by the kernel.
        let failed = unsafe { kernel::copyin(from as *const c_void, to.as_mut_ptr().cast(), to.len()) };
        if failed == 0 { Ok(()) } else { Err(VERR_ACCESS_DENIED) }
    }

    fn user_copy_to(&self, to: usize, from: &[u8]) -> Result<()> {
        // SAFETY: `from` has that many bytes; the destination is checked by the kernel.
        let failed = unsafe { kernel::copyout(from.as_ptr().cast(), to as *mut c_void, from.len()) };
        if failed == 0 { Ok(()) } else { Err(VERR_ACCESS_DENIED) }
    }
}

/// Memory for an image, where the kernel puts its own modules: within reach of 32-bit references.
pub struct ImageMemory;

impl FlatMemory for ImageMemory {
    unsafe fn free(base: NonNull<u8>, bytes: usize) {
        let start = base.as_ptr() as usize;
        let mut first = 0;
        // SAFETY: mapped by `exec_alloc` in this map, given up (condition of the function).
        unsafe {
            let map = glue::supdrv_glue_kernel_map(&raw mut first);
            kernel::vm_map_remove(map, start, start.saturating_add(bytes));
        }
    }
}

impl OsImage for FreeBsd {
    type ExecMem = FlatImage<ImageMemory>;
    /// Images aren't kernel modules.
    type Native = Never;

    fn exec_alloc(&self, size_bytes: usize) -> Result<Self::ExecMem> {
        let bytes = size_bytes.checked_next_multiple_of(PAGE_SIZE).ok_or(VERR_NO_EXEC_MEMORY)?;
        // SAFETY: the size isn't 0.
        let object = NonNull::new(unsafe { glue::supdrv_glue_object_new(bytes) });
        let object = object.ok_or(VERR_NO_EXEC_MEMORY)?.as_ptr();
        let mut address = 0;
        // SAFETY: the result is ours.
        let map = unsafe { glue::supdrv_glue_kernel_map(&raw mut address) };
        let (space, all) = (kernel::VMFS_ANY_SPACE, kernel::VM_PROT_ALL);
        let mapped =
            // SAFETY: the object is ours; its reference goes to the map entry.
            unsafe { kernel::vm_map_find(map, object, 0, &raw mut address, bytes, 0, space, all, all, 0) };
        let base = NonNull::new(address as *mut u8);
        let Some(base) = base.filter(|_| mapped == 0) else {
            // SAFETY: ours still: there is no map entry.
            unsafe { kernel::vm_object_deallocate(object) };
            return Err(VERR_NO_EXEC_MEMORY);
        };
        // From here on, dropping the memory unmaps it, and the object goes with the map entry.
        // SAFETY: mapped just now, writable, in pages of its own; `free` unmaps it.
        let memory = unsafe { FlatImage::new(base, bytes) };
        let end = address.saturating_add(bytes);
        // The kernel fills the pages with zeroes.
        // SAFETY: the range was just mapped in this map.
        let wired = unsafe { kernel::vm_map_wire(map, address, end, kernel::VM_MAP_WIRE_SYSTEM) };
        if wired == 0 { Ok(memory) } else { Err(VERR_NO_EXEC_MEMORY) }
    }

    fn exec_base(&self, memory: &Self::ExecMem) -> NonNull<u8> {
        memory.base()
    }

    fn exec_load(&self, memory: &Self::ExecMem, bits: &[u8]) -> Result<()> {
        memory.load(bits)
    }
}
