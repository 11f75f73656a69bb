//! Memory objects, user memory, image memory.
//!
//! All of it is I/O Kit's memory descriptors, which keep their pages as long as a mapping of them exists, whoever frees what, and from where.
//! Physical addresses are asked for once, when an object is made.

use core::ffi::{c_int, c_void};
use core::ptr::NonNull;

use supdrv_core::abi::Status;
use supdrv_core::abi::status::{
    Result, VERR_ACCESS_DENIED, VERR_INVALID_PARAMETER, VERR_INVALID_POINTER, VERR_LOCK_FAILED,
    VERR_MAP_FAILED, VERR_NO_CONT_MEMORY, VERR_NO_EXEC_MEMORY, VERR_NO_LOW_MEMORY, VERR_NO_MEMORY,
    VERR_NO_PHYS_MEMORY, VERR_NOT_SUPPORTED, VERR_UNRESOLVED_ERROR,
};
use supdrv_core::heap::{Array, Box};
use supdrv_core::os::{
    AllocKind, CachePolicy, EventKind, MemProt, OsEvent, OsIdentity, OsImage, OsMemory, OsUserCopy,
    PAGE_SHIFT, PAGE_SIZE, ProcessHandle, Timeout, WaitMode,
};
use supdrv_core::shim::image::Never;

use crate::events::Event;
use crate::glue;
use crate::kernel::{self, Opaque};
use crate::module;
use crate::os::Darwin;

const DIRECTION_OUT: u32 = 2;
const DIRECTION_IN_OUT: u32 = 3;
const CONTIGUOUS: u32 = 0x10;
const MAPPER_NONE: u32 = 0x800;
const KERNEL_USER_SHARED: u32 = 0x1_0000;

const MAP_ANYWHERE: u32 = 1;
const MAP_INHIBIT_CACHE: u32 = 0x100;
const MAP_READ_ONLY: u32 = 0x1000;
/// A mapping of one's own, instead of a reference to one that the task has already.
const MAP_UNIQUE: u32 = 0x0400_0000;

/// Physical addresses have 52 bits.
const ANYWHERE: u64 = (1 << 52) - 1;
const BELOW_4G: u64 = u32::MAX as u64;
const PAGE_MASK: u64 = PAGE_SIZE as u64 - 1;

/// Physical addresses of pages.
type Pages = Array<u64, Darwin>;

/// A memory descriptor whose pages are wired.
struct Descriptor {
    descriptor: NonNull<Opaque>,
    /// Where its first page begins, in bytes.
    skip: u64,
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        // SAFETY: made and wired by the glue; its owner gives it up.
        unsafe { glue::supdrv_glue_free(self.descriptor.as_ptr()) };
    }
}

impl Descriptor {
    fn of_task(task: *mut Opaque, address: usize, bytes: usize, direction: u32) -> Option<Self> {
        let (address, bytes) = (address as u64, bytes as u64);
        // SAFETY: the task is alive: the current one, or none for physical memory.
        let descriptor = unsafe { glue::supdrv_glue_describe(task, address, bytes, direction) };
        Some(Self { descriptor: NonNull::new(descriptor)?, skip: 0 })
    }

    fn pages(&self, bytes: usize) -> Result<Pages> {
        let mut pages = Pages::new_zeroed(&Darwin, bytes >> PAGE_SHIFT)?;
        for (page, offset) in pages.iter_mut().zip((self.skip..).step_by(PAGE_SIZE)) {
            // SAFETY: the descriptor is this value's.
            *page = unsafe { glue::supdrv_glue_phys(self.descriptor.as_ptr(), offset) };
        }
        Ok(pages)
    }

    fn map(&self, task: *mut Opaque, options: u32, offset: usize, bytes: usize) -> Result<Map> {
        let offset = self.skip.saturating_add(offset as u64);
        let options = options | MAP_ANYWHERE | MAP_UNIQUE;
        let mut address = 0;
        // SAFETY: the descriptor is this value's, the task is alive, and the result is ours.
        let map = unsafe {
            let place = &raw mut address;
            glue::supdrv_glue_map(self.descriptor.as_ptr(), task, options, offset, bytes as u64, place)
        };
        let map = Map { map: NonNull::new(map).ok_or(VERR_MAP_FAILED)?, address };
        if address != 0 && address.is_multiple_of(PAGE_SIZE) { Ok(map) } else { Err(VERR_MAP_FAILED) }
    }
}

/// Memory of our own, which the kernel sees.
struct Block {
    descriptor: Descriptor,
    address: usize,
    bytes: usize,
}

/// What a block is asked to be.
#[derive(Clone, Copy)]
struct Wanted {
    bytes: usize,
    highest: u64,
    align: usize,
    contiguous: bool,
    executable: bool,
}

impl Wanted {
    const fn pages(bytes: usize, highest: u64, contiguous: bool, executable: bool) -> Self {
        Self { bytes, highest, align: PAGE_SIZE, contiguous, executable }
    }
}

impl Block {
    /// Somewhere in `room` bytes, which early kernels don't align.
    fn within(wanted: &Wanted, room: usize) -> Result<Self> {
        let contiguous = if wanted.contiguous { CONTIGUOUS } else { 0 };
        let options = DIRECTION_IN_OUT | KERNEL_USER_SHARED | MAPPER_NONE | contiguous;
        // Bits of the limit that aren't followed by zeroes, and those of the alignment.
        let limit = match wanted.highest.checked_add(1) {
            Some(end) if !end.is_power_of_two() => (1 << end.ilog2()) - 1,
            _ => wanted.highest,
        };
        let mask = limit & ANYWHERE & !(wanted.align as u64 - 1);
        let mut start = 0;
        // SAFETY: the result is ours.
        let descriptor = unsafe { glue::supdrv_glue_alloc(options, room as u64, mask, &raw mut start) };
        let mut descriptor =
            Descriptor { descriptor: NonNull::new(descriptor).ok_or(VERR_NO_MEMORY)?, skip: 0 };
        let address = start.checked_next_multiple_of(PAGE_SIZE).ok_or(VERR_NO_MEMORY)?;
        let skip = address.saturating_sub(start);
        if start == 0 || skip.saturating_add(wanted.bytes) > room {
            return Err(VERR_NO_MEMORY);
        }
        descriptor.skip = skip as u64;
        Ok(Self { descriptor, address, bytes: wanted.bytes })
    }

    fn new(wanted: &Wanted) -> Result<(Self, Pages)> {
        let with_spare = wanted.bytes.checked_add(PAGE_SIZE).ok_or(VERR_NO_MEMORY)?;
        let block = Self::within(wanted, wanted.bytes).or_else(|_| Self::within(wanted, with_spare))?;
        let pages = block.descriptor.pages(wanted.bytes)?;
        let first = pages.first().copied().unwrap_or(0);
        let follows = |(place, page): (u64, &u64)| *page == first.wrapping_add(place);
        let fits = pages
            .iter()
            .all(|page| *page != 0 && page & PAGE_MASK == 0 && *page <= wanted.highest & !PAGE_MASK)
            && first.is_multiple_of(wanted.align as u64)
            && (!wanted.contiguous || (0..).step_by(PAGE_SIZE).zip(&*pages).all(follows));
        if !fits {
            return Err(VERR_NO_MEMORY);
        }
        if wanted.executable {
            protect(kernel::kernel_map, block.address, wanted.bytes, MemProt::all())?;
        }
        block.clear();
        Ok((block, pages))
    }

    /// Fills it with zeroes, which touches every page.
    fn clear(&self) {
        // SAFETY: the block's own memory, mapped for writing.
        unsafe { (self.address as *mut u8).write_bytes(0, self.bytes) };
    }
}

/// A mapping; the kernel takes it out of its task wherever this is dropped.
struct Map {
    map: NonNull<Opaque>,
    address: usize,
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: made by the glue; its owner gives it up.
        unsafe { glue::supdrv_glue_unmap(self.map.as_ptr()) };
    }
}

fn protect(map: *mut Opaque, address: usize, bytes: usize, prot: MemProt) -> Result<()> {
    // The same numbers.
    let wanted = prot.bits().cast_signed();
    // SAFETY: the range is a mapping of ours, in a map that exists.
    match unsafe { kernel::vm_protect(map, address, bytes, 0, wanted) } {
        kernel::KERN_SUCCESS => Ok(()),
        kernel::KERN_INVALID_ADDRESS => Err(VERR_INVALID_POINTER),
        kernel::KERN_PROTECTION_FAILURE => Err(VERR_ACCESS_DENIED),
        kernel::KERN_NO_SPACE => Err(VERR_NO_MEMORY),
        kernel::KERN_INVALID_ARGUMENT => Err(VERR_INVALID_PARAMETER),
        _ => Err(VERR_UNRESOLVED_ERROR),
    }
}

/// A block that a thread of the kernel makes: executable pages that are touched in the context of a process whose code must be signed are
/// taken for its code.
struct Errand {
    wanted: Wanted,
    made: Result<(Block, Pages)>,
    done: Event,
}

unsafe extern "C" fn run_errand(errand: *mut c_void) {
    // SAFETY: the waiter keeps it until it is signalled, and doesn't look at it meanwhile.
    let errand = unsafe { &mut *errand.cast::<Errand>() };
    errand.made = Block::new(&errand.wanted);
    // From here on it belongs to the waiter.
    Darwin.event_signal(&errand.done);
}

fn alloc(wanted: Wanted) -> Result<(Block, Pages)> {
    if !wanted.executable {
        return Block::new(&wanted);
    }
    let done = Darwin.event_create(EventKind::SingleRelease)?;
    let mut errand = Errand { wanted, made: Err(VERR_NO_MEMORY), done };
    // SAFETY: the errand stays here until the thread has signalled.
    unsafe { module::start_thread(run_errand, (&raw mut errand).cast()) }?;
    // Neither a timeout nor an interruption: it ends with the signal.
    let _signalled = Darwin.event_wait(&errand.done, Timeout::Forever, WaitMode::Uninterruptible);
    errand.made
}

enum Kind {
    Owned(Block),
    Locked { descriptor: Descriptor, address: usize },
    Phys { descriptor: Descriptor, cache: CachePolicy },
    KernelMap(Map),
    UserMap { map: Map, process: ProcessHandle },
}

struct Object {
    kind: Kind,
    pages: Pages,
}

/// A memory object.
pub struct MemObj(Box<Object, Darwin>);

// SAFETY: addresses and structures of the kernel, which may be used from any thread.
unsafe impl Send for MemObj {}
// SAFETY: as above.
unsafe impl Sync for MemObj {}

impl MemObj {
    fn new(kind: Kind, pages: Pages) -> Result<Self> {
        Ok(Self(Box::new(&Darwin, Object { kind, pages })?))
    }

    fn owned(wanted: Wanted) -> Result<Self> {
        let (block, pages) = alloc(wanted)?;
        Self::new(Kind::Owned(block), pages)
    }

    /// What mappings are made from, and their cache option.
    fn source(&self) -> Option<(&Descriptor, u32)> {
        match &self.0.kind {
            Kind::Owned(block) => Some((&block.descriptor, 0)),
            Kind::Locked { descriptor, .. } => Some((descriptor, 0)),
            Kind::Phys { descriptor, cache: CachePolicy::Mmio } => Some((descriptor, MAP_INHIBIT_CACHE)),
            Kind::Phys { descriptor, cache: CachePolicy::Default } => Some((descriptor, 0)),
            Kind::KernelMap(_) | Kind::UserMap { .. } => None,
        }
    }

    fn map(&self, task: *mut Opaque, offset: usize, bytes: usize, prot: MemProt) -> Result<(Map, Pages)> {
        let (descriptor, cache) = self.source().ok_or(VERR_NOT_SUPPORTED)?;
        let (first, count) = (offset >> PAGE_SHIFT, bytes >> PAGE_SHIFT);
        let end = first.checked_add(count).ok_or(VERR_INVALID_PARAMETER)?;
        let pages = Pages::copy_of(&Darwin, self.0.pages.get(first..end).ok_or(VERR_INVALID_PARAMETER)?)?;
        let read_only = if prot.contains(MemProt::WRITE) { 0 } else { MAP_READ_ONLY };
        Ok((descriptor.map(task, cache | read_only, offset, bytes)?, pages))
    }
}

impl OsMemory for Darwin {
    type MemObj = MemObj;

    fn mem_alloc(&self, kind: AllocKind, size_bytes: usize, prot: MemProt) -> Result<MemObj> {
        let executable = prot.contains(MemProt::EXEC);
        let wanted = |highest, contiguous| Wanted::pages(size_bytes, highest, contiguous, executable);
        match kind {
            AllocKind::Page => MemObj::owned(wanted(ANYWHERE, false)),
            AllocKind::Low => MemObj::owned(wanted(BELOW_4G, false)).map_err(|_| VERR_NO_LOW_MEMORY),
            AllocKind::Contiguous => MemObj::owned(wanted(BELOW_4G, true)).map_err(|_| VERR_NO_CONT_MEMORY),
            AllocKind::Unmapped => Err(VERR_NOT_SUPPORTED),
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
        // As seen from a device.
        let direction = if access.contains(MemProt::WRITE) { DIRECTION_IN_OUT } else { DIRECTION_OUT };
        let task = kernel::current_task();
        let descriptor = Descriptor::of_task(task, address, size_bytes, direction).ok_or(VERR_LOCK_FAILED)?;
        let pages = descriptor.pages(size_bytes)?;
        if pages.contains(&0) {
            return Err(VERR_LOCK_FAILED);
        }
        MemObj::new(Kind::Locked { descriptor, address }, pages)
    }

    fn mem_map_kernel(
        &self,
        parent: &MemObj,
        offset_bytes: usize,
        size_bytes: usize,
        prot: MemProt,
    ) -> Result<MemObj> {
        let (map, pages) = parent.map(kernel::kernel_task, offset_bytes, size_bytes, prot)?;
        MemObj::new(Kind::KernelMap(map), pages)
    }

    fn mem_map_user(&self, parent: &MemObj, prot: MemProt, process: ProcessHandle) -> Result<MemObj> {
        if process != self.process_handle() {
            return Err(VERR_NOT_SUPPORTED);
        }
        let task = kernel::current_task();
        let (map, pages) = parent.map(task, 0, self.mem_size(parent), prot)?;
        MemObj::new(Kind::UserMap { map, process }, pages)
    }

    fn mem_protect(
        &self,
        object: &MemObj,
        offset_bytes: usize,
        size_bytes: usize,
        prot: MemProt,
    ) -> Result<()> {
        let (map, address) = match &object.0.kind {
            Kind::Owned(block) => (kernel::kernel_map, block.address),
            Kind::KernelMap(map) => (kernel::kernel_map, map.address),
            Kind::UserMap { map, process } if *process == self.process_handle() => {
                // SAFETY: the current task has a map.
                (unsafe { kernel::get_task_map(kernel::current_task()) }, map.address)
            }
            _ => return Err(VERR_NOT_SUPPORTED),
        };
        let start = address.saturating_add(offset_bytes);
        protect(map, start, size_bytes, prot)?;
        if prot.contains(MemProt::READ) && !matches!(object.0.kind, Kind::UserMap { .. }) {
            // The kernel enters pages anew when they are touched, which mustn't happen where faults can't be had.
            for page in (start..start.saturating_add(size_bytes)).step_by(PAGE_SIZE) {
                // SAFETY: memory of ours that was made readable.
                let _content = unsafe { (page as *const u8).read_volatile() };
            }
        }
        Ok(())
    }

    fn mem_free(&self, object: MemObj) -> core::result::Result<(), (MemObj, Status)> {
        drop(object);
        Ok(())
    }

    fn mem_address(&self, object: &MemObj) -> usize {
        match &object.0.kind {
            Kind::Owned(block) => block.address,
            Kind::KernelMap(map) => map.address,
            Kind::Locked { .. } | Kind::Phys { .. } | Kind::UserMap { .. } => 0,
        }
    }

    fn mem_address_user(&self, object: &MemObj) -> usize {
        match &object.0.kind {
            Kind::Locked { address, .. } => *address,
            Kind::UserMap { map, .. } => map.address,
            Kind::Owned(_) | Kind::Phys { .. } | Kind::KernelMap(_) => 0,
        }
    }

    fn mem_size(&self, object: &MemObj) -> usize {
        object.0.pages.len() << PAGE_SHIFT
    }

    fn mem_page_phys(&self, object: &MemObj, index: usize) -> Option<u64> {
        object.0.pages.get(index).copied()
    }

    fn mem_handle(&self, object: &MemObj) -> usize {
        object.0.as_ptr().as_ptr() as usize
    }
}

impl Darwin {
    /// One contiguous block up to `highest`.
    pub(crate) fn alloc_phys(&self, size_bytes: usize, highest: u64, align_bytes: usize) -> Result<MemObj> {
        let wanted =
            Wanted { align: align_bytes.max(PAGE_SIZE), ..Wanted::pages(size_bytes, highest, true, false) };
        MemObj::owned(wanted).map_err(|_| VERR_NO_PHYS_MEMORY)
    }

    /// Memory that exists already.
    pub(crate) fn enter_phys(&self, phys: u64, bytes: usize, cache: CachePolicy) -> Result<MemObj> {
        let mut pages = Pages::new_zeroed(self, bytes >> PAGE_SHIFT)?;
        for (page, address) in pages.iter_mut().zip((phys..).step_by(PAGE_SIZE)) {
            *page = address;
        }
        let task = core::ptr::null_mut();
        let address = usize::try_from(phys).map_err(|_| VERR_INVALID_PARAMETER)?;
        let descriptor = Descriptor::of_task(task, address, bytes, DIRECTION_IN_OUT).ok_or(VERR_NO_MEMORY)?;
        MemObj::new(Kind::Phys { descriptor, cache }, pages)
    }
}

impl OsUserCopy for Darwin {
    fn user_copy_from(&self, to: &mut [u8], from: usize) -> Result<()> {
        // SAFETY: `to` has that many bytes; the source is checked by the kernel.
        let failed = unsafe { kernel::copyin(from as u64, to.as_mut_ptr().cast(), to.len()) };
        if to.is_empty() || failed == 0 { Ok(()) } else { Err(VERR_ACCESS_DENIED) }
    }

    fn user_copy_to(&self, to: usize, from: &[u8]) -> Result<()> {
        // SAFETY: `from` has that many bytes; the destination is checked by the kernel.
        let failed: c_int = unsafe { kernel::copyout(from.as_ptr().cast(), to as u64, from.len()) };
        if from.is_empty() || failed == 0 { Ok(()) } else { Err(VERR_ACCESS_DENIED) }
    }
}

/// Memory for an image. Freeing it takes it out of the kernel's address space, and there is nothing left in it then.
pub struct ImageMemory(Block);

// SAFETY: addresses and structures of the kernel, which may be used from any thread.
unsafe impl Send for ImageMemory {}
// SAFETY: as above.
unsafe impl Sync for ImageMemory {}

impl Drop for ImageMemory {
    fn drop(&mut self) {
        self.0.clear();
    }
}

impl OsImage for Darwin {
    type ExecMem = ImageMemory;
    /// Images aren't kernel extensions.
    type Native = Never;

    fn exec_alloc(&self, size_bytes: usize) -> Result<ImageMemory> {
        let bytes = size_bytes.checked_next_multiple_of(PAGE_SIZE).ok_or(VERR_NO_EXEC_MEMORY)?;
        let wanted = Wanted::pages(bytes, ANYWHERE, false, true);
        alloc(wanted).map(|(block, _)| ImageMemory(block)).map_err(|_| VERR_NO_EXEC_MEMORY)
    }

    fn exec_base(&self, memory: &ImageMemory) -> NonNull<u8> {
        NonNull::new(memory.0.address as *mut u8).unwrap_or(NonNull::dangling())
    }

    fn exec_load(&self, memory: &ImageMemory, bits: &[u8]) -> Result<()> {
        if bits.len() > memory.0.bytes {
            return Err(VERR_INVALID_PARAMETER);
        }
        let place = memory.0.address as *mut u8;
        // SAFETY: within the block, which is ours; nothing executes it yet.
        unsafe { place.copy_from_nonoverlapping(bits.as_ptr(), bits.len()) };
        Ok(())
    }
}
