//! Memory objects, user memory, image memory.
//!
//! A block of pages lives by its references: the memory object has one, and so has every mapping in a process. The kernel tells when a
//! segment of a process is gone, and only then goes its reference: pages live until the last mapping is gone, whoever frees what, and
//! from where.
//!
//! Locked memory is different: its pages belong to the process, and the kernel wants them back when the process ends. It calls
//! [`cleanup`] then, which takes our own mappings of them away first.

use core::ffi::c_void;
use core::ptr::{NonNull, null_mut};
use core::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

use supdrv_core::abi::Status;
use supdrv_core::abi::status::{
    Result, VERR_ACCESS_DENIED, VERR_INTERNAL_ERROR, VERR_INVALID_PARAMETER, VERR_LOCK_FAILED,
    VERR_MAP_FAILED, VERR_NO_CONT_MEMORY, VERR_NO_EXEC_MEMORY, VERR_NO_LOW_MEMORY, VERR_NO_MEMORY,
    VERR_NO_PHYS_MEMORY, VERR_NOT_SUPPORTED,
};
use supdrv_core::heap::{Arc, Array, Box};
use supdrv_core::os::{
    AllocKind, MemProt, OsIdentity, OsImage, OsMemory, OsUserCopy, PAGE_SHIFT, PAGE_SIZE, ProcessHandle,
};
use supdrv_core::shim::image::{FlatImage, FlatMemory, Never};

use crate::glue;
use crate::kernel::{self, Cookie, DmaAttr, Kmutex, UmemCallbacks};
use crate::os::{Solaris, current_process};

const BELOW_4G: u64 = u32::MAX as u64;
/// Larger blocks may fail rather than wait.
const PATIENT_BYTES: usize = 64 << 20;

/// Page frame numbers.
type Pages = Array<u64, Solaris>;

/// Where the pages of a block come from.
#[derive(Clone, Copy)]
enum Source {
    /// The kernel's memory for mappings: any pages.
    Umem(Cookie),
    /// Contiguous ones.
    Contiguous,
}

/// Pages of our own, with a kernel address.
struct Block {
    source: Source,
    address: NonNull<u8>,
    pages: Pages,
}

// SAFETY: memory and a handle of the kernel, which may be used from any thread.
unsafe impl Send for Block {}
// SAFETY: as above.
unsafe impl Sync for Block {}

impl Block {
    /// Zeroed pages, of which the list is filled in afterwards.
    fn new(
        source: impl FnOnce() -> Option<(Source, NonNull<u8>)>,
        bytes: usize,
    ) -> Result<Arc<Self, Solaris>> {
        let pages = Pages::new_zeroed(&Solaris, bytes >> PAGE_SHIFT)?;
        let (source, address) = source().ok_or(VERR_NO_MEMORY)?;
        let mut block = Self { source, address, pages };
        // SAFETY: fresh memory of that size.
        unsafe { address.as_ptr().write_bytes(0, bytes) };
        let first = address.as_ptr() as usize;
        for (index, page) in block.pages.iter_mut().enumerate() {
            *page = glue::supdrv_glue_kernel_page(first.wrapping_add(index << PAGE_SHIFT));
        }
        Arc::new(&Solaris, block)
    }

    fn any(bytes: usize) -> Result<Arc<Self, Solaris>> {
        let patience = if bytes <= PATIENT_BYTES { kernel::DDI_UMEM_SLEEP } else { kernel::DDI_UMEM_NOSLEEP };
        let source = || {
            let mut cookie = null_mut();
            // SAFETY: the result is ours.
            let memory = unsafe { kernel::ddi_umem_alloc(bytes, patience, &raw mut cookie) };
            Some((Source::Umem(cookie), NonNull::new(memory.cast())?))
        };
        Self::new(source, bytes)
    }

    fn contiguous(bytes: usize, highest: u64, align: usize) -> Result<Arc<Self, Solaris>> {
        let mut attributes = DmaAttr {
            version: 0,
            address_low: 0,
            address_high: highest,
            count_max: u64::MAX,
            align: align as u64,
            burst_sizes: 1,
            min_transfer: 1,
            max_transfer: u64::MAX,
            segment: u64::MAX,
            list_length: 1,
            granularity: 1,
            flags: 0,
        };
        let source = || {
            // SAFETY: the attributes are ours, and may be changed.
            let memory = unsafe { kernel::contig_alloc(bytes, &raw mut attributes, align, 1) };
            Some((Source::Contiguous, NonNull::new(memory.cast())?))
        };
        Self::new(source, bytes)
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        match self.source {
            // SAFETY: allocated with this cookie, given up here.
            Source::Umem(cookie) => unsafe { kernel::ddi_umem_free(cookie) },
            // SAFETY: allocated by `contig_alloc` with this size, given up here.
            Source::Contiguous => unsafe {
                kernel::contig_free(self.address.as_ptr().cast(), self.pages.len() << PAGE_SHIFT);
            },
        }
    }
}

/// A mapping in a process. The memory object has a reference to it, and the segment has one, in a box whose address the kernel keeps.
struct UserMapping {
    block: Arc<Block, Solaris>,
    process: ProcessHandle,
    gone: AtomicBool,
}

type UserMappingRef = Arc<UserMapping, Solaris>;

/// The kernel let go of a segment. Class T, any process.
///
/// # Safety
/// `context` is what the segment was made with; the segment is gone.
#[unsafe(no_mangle)]
unsafe extern "C" fn supdrv_solaris_segment_gone(context: *mut c_void) {
    let Some(context) = NonNull::new(context.cast::<UserMappingRef>()) else { return };
    // SAFETY: made for this segment, which is gone (conditions of the function).
    let mapping = unsafe { Box::from_raw(&Solaris, context) };
    mapping.gone.store(true, Ordering::Release);
}

/// All locked memory, and our mappings of it, are under this lock.
struct Registry {
    mutex: Kmutex,
    first: AtomicPtr<Locked>,
}

static LOCKED: Registry = Registry { mutex: Kmutex::new(), first: AtomicPtr::new(null_mut()) };

/// Makes the lock of locked memory. Class T, before the driver is built.
pub(crate) fn start() {
    let name = c"SUPDrvLocked".as_ptr();
    // SAFETY: static storage, once.
    unsafe { kernel::mutex_init(LOCKED.mutex.get(), name, kernel::MUTEX_DRIVER, null_mut()) };
}

/// After the driver is gone.
pub(crate) fn stop() {
    // SAFETY: initialised; no memory is locked any more.
    unsafe { kernel::mutex_destroy(LOCKED.mutex.get()) };
}

struct RegistryGuard;

impl RegistryGuard {
    fn acquire() -> Self {
        // SAFETY: initialised by `start`.
        unsafe { kernel::mutex_enter(LOCKED.mutex.get()) };
        Self
    }
}

impl Drop for RegistryGuard {
    fn drop(&mut self) {
        // SAFETY: this guard acquired it.
        unsafe { kernel::mutex_exit(LOCKED.mutex.get()) };
    }
}

/// Pinned pages of a process.
struct Locked {
    cookie: Cookie,
    address: usize,
    pages: Pages,
    /// Until the process ends, or we let go.
    alive: AtomicBool,
    next: AtomicPtr<Locked>,
    ranges: AtomicPtr<KernelRange>,
}

static CALLBACKS: UmemCallbacks = UmemCallbacks { version: kernel::UMEM_CALLBACK_VERSION, cleanup };

/// The process of locked memory ends: everything of ours that shows it goes, and then the lock. Class T.
unsafe extern "C" fn cleanup(cookie: Cookie) {
    let guard = RegistryGuard::acquire();
    let mut at = LOCKED.first.load(Ordering::Relaxed);
    // SAFETY: members leave the list, under its lock, before they are freed.
    while let Some(locked) = unsafe { at.as_ref() } {
        if locked.cookie == cookie && locked.alive.swap(false, Ordering::AcqRel) {
            locked.unload_ranges();
            drop(guard);
            // SAFETY: locked with this cookie, and taken over from its owner.
            unsafe { kernel::ddi_umem_unlock(cookie) };
            return;
        }
        at = locked.next.load(Ordering::Relaxed);
    }
}

impl Locked {
    /// With the registry locked.
    fn unload_ranges(&self) {
        let mut at = self.ranges.load(Ordering::Relaxed);
        // SAFETY: members leave the list, under its lock, before they are freed.
        while let Some(range) = unsafe { at.as_ref() } {
            range.unload();
            at = range.next.load(Ordering::Relaxed);
        }
    }

    fn register(this: &Box<Self, Solaris>) {
        let _guard = RegistryGuard::acquire();
        this.next.store(LOCKED.first.load(Ordering::Relaxed), Ordering::Relaxed);
        LOCKED.first.store(this.as_ptr().as_ptr(), Ordering::Relaxed);
    }
}

/// Takes an item out of a singly linked list, if it is in there.
fn unlink<T>(first: &AtomicPtr<T>, item: *mut T, next: impl Fn(&T) -> &AtomicPtr<T>) {
    let mut link = first;
    // SAFETY: members of a list are alive while it is locked.
    while let Some(at) = unsafe { link.load(Ordering::Relaxed).as_ref() } {
        if core::ptr::eq(at, item) {
            link.store(next(at).load(Ordering::Relaxed), Ordering::Relaxed);
            return;
        }
        link = next(at);
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        let guard = RegistryGuard::acquire();
        unlink(&LOCKED.first, &raw mut *self, |locked| &locked.next);
        let alive = self.alive.swap(false, Ordering::AcqRel);
        drop(guard);
        if alive {
            // SAFETY: locked with this cookie; the callback didn't come first.
            unsafe { kernel::ddi_umem_unlock(self.cookie) };
        }
    }
}

/// A kernel mapping of pages.
struct KernelRange {
    address: usize,
    pages: Pages,
    loaded: AtomicBool,
    /// The locked memory that it shows, which outlives it.
    of: *const Locked,
    next: AtomicPtr<KernelRange>,
}

impl KernelRange {
    fn new(pages: Pages, of: *const Locked) -> Result<Box<Self, Solaris>> {
        let bytes = pages.len() << PAGE_SHIFT;
        let range =
            Self { address: 0, pages, loaded: AtomicBool::new(false), of, next: AtomicPtr::new(null_mut()) };
        let mut range = Box::new(&Solaris, range)?;
        // SAFETY: a size that isn't 0.
        let memory = unsafe { kernel::vmem_alloc(kernel::heap_arena, bytes, kernel::VM_SLEEP) };
        range.address = NonNull::new(memory).ok_or(VERR_MAP_FAILED)?.as_ptr() as usize;
        // SAFETY: the parent lives as long as its mappings.
        let Some(locked) = (unsafe { of.as_ref() }) else {
            range.load();
            return Ok(range);
        };
        let guard = RegistryGuard::acquire();
        if locked.alive.load(Ordering::Acquire) {
            range.load();
            range.next.store(locked.ranges.load(Ordering::Relaxed), Ordering::Relaxed);
            locked.ranges.store(range.as_ptr().as_ptr(), Ordering::Relaxed);
        }
        drop(guard);
        if range.loaded.load(Ordering::Relaxed) { Ok(range) } else { Err(VERR_MAP_FAILED) }
    }

    fn load(&self) {
        let (list, count) = (self.pages.as_ptr(), self.pages.len());
        // SAFETY: the range is ours, and as large as the list.
        unsafe { glue::supdrv_glue_kernel_load(self.address, list, count) };
        self.loaded.store(true, Ordering::Relaxed);
    }

    fn unload(&self) {
        if self.loaded.swap(false, Ordering::Relaxed) {
            // SAFETY: loaded with as many pages.
            unsafe { glue::supdrv_glue_kernel_unload(self.address, self.pages.len()) };
        }
    }
}

impl Drop for KernelRange {
    fn drop(&mut self) {
        // SAFETY: the parent lives as long as its mappings.
        match unsafe { self.of.as_ref() } {
            Some(locked) => {
                let _guard = RegistryGuard::acquire();
                unlink(&locked.ranges, &raw mut *self, |range| &range.next);
                self.unload();
            }
            None => self.unload(),
        }
        if self.address != 0 {
            let bytes = self.pages.len() << PAGE_SHIFT;
            // SAFETY: from this arena, with this size, given up here.
            unsafe { kernel::vmem_free(kernel::heap_arena, self.address as *mut c_void, bytes) };
        }
    }
}

enum Kind {
    Owned { block: Arc<Block, Solaris>, mapped: bool },
    Locked(Box<Locked, Solaris>),
    KernelMap(Box<KernelRange, Solaris>),
    UserMap { mapping: UserMappingRef, address: usize },
}

/// A memory object.
pub struct MemObj(Box<Kind, Solaris>);

// SAFETY: addresses and structures of the kernel, which may be used from any thread.
unsafe impl Send for MemObj {}
// SAFETY: as above.
unsafe impl Sync for MemObj {}

impl MemObj {
    fn new(kind: Kind) -> Result<Self> {
        Ok(Self(Box::new(&Solaris, kind)?))
    }

    fn pages(&self) -> &[u64] {
        match &*self.0 {
            Kind::Owned { block, .. } => &block.pages,
            Kind::Locked(locked) => &locked.pages,
            Kind::KernelMap(range) => &range.pages,
            Kind::UserMap { mapping, .. } => &mapping.block.pages,
        }
    }
}

impl Drop for Kind {
    fn drop(&mut self) {
        let Self::UserMap { mapping, address } = self else { return };
        // In any other process the mapping keeps its pages until that process gives it up.
        if !mapping.gone.load(Ordering::Acquire) && Solaris.process_handle() == mapping.process {
            // SAFETY: mapped by `supdrv_glue_map_user` in this process; any other range is an error.
            let _busy = unsafe { glue::supdrv_glue_unmap_user(*address, mapping.block.pages.len()) };
        }
    }
}

fn owned(block: Arc<Block, Solaris>, mapped: bool) -> Result<MemObj> {
    MemObj::new(Kind::Owned { block, mapped })
}

impl OsMemory for Solaris {
    type MemObj = MemObj;

    fn mem_alloc(&self, kind: AllocKind, size_bytes: usize, _prot: MemProt) -> Result<MemObj> {
        let contiguous = |failure| Block::contiguous(size_bytes, BELOW_4G, PAGE_SIZE).map_err(|_| failure);
        match kind {
            AllocKind::Page => owned(Block::any(size_bytes)?, true),
            AllocKind::Unmapped => owned(Block::any(size_bytes)?, false),
            // The kernel has no call for scattered low pages.
            AllocKind::Low => owned(contiguous(VERR_NO_LOW_MEMORY)?, true),
            AllocKind::Contiguous => owned(contiguous(VERR_NO_CONT_MEMORY)?, true),
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
        address.checked_add(size_bytes).ok_or(VERR_LOCK_FAILED)?;
        let locked = Locked {
            cookie: null_mut(),
            address,
            pages: Pages::new_zeroed(self, size_bytes >> PAGE_SHIFT)?,
            alive: AtomicBool::new(false),
            next: AtomicPtr::new(null_mut()),
            ranges: AtomicPtr::new(null_mut()),
        };
        let mut locked = Box::new(self, locked)?;
        let write = if access.contains(MemProt::WRITE) { kernel::DDI_UMEMLOCK_WRITE } else { 0 };
        let flags = kernel::DDI_UMEMLOCK_LONGTERM | kernel::DDI_UMEMLOCK_READ | write;
        // SAFETY: the cookie is ours; the callbacks live as long as the driver, which unlocks everything before it goes.
        let failed = unsafe {
            let (memory, cookie) = (address as *mut c_void, &raw mut locked.cookie);
            let process = current_process();
            kernel::umem_lockmemory(memory, size_bytes, flags, cookie, &raw const CALLBACKS, process)
        };
        if failed != 0 {
            return Err(VERR_LOCK_FAILED);
        }
        locked.alive.store(true, Ordering::Release);
        for (index, page) in locked.pages.iter_mut().enumerate() {
            *page = glue::supdrv_glue_user_page(address.wrapping_add(index << PAGE_SHIFT));
        }
        if locked.pages.contains(&glue::PFN_INVALID) {
            return Err(VERR_INTERNAL_ERROR);
        }
        Locked::register(&locked);
        MemObj::new(Kind::Locked(locked))
    }

    fn mem_map_kernel(
        &self,
        parent: &MemObj,
        offset_bytes: usize,
        size_bytes: usize,
        _prot: MemProt,
    ) -> Result<MemObj> {
        let (first, count) = (offset_bytes >> PAGE_SHIFT, size_bytes >> PAGE_SHIFT);
        let end = first.checked_add(count).ok_or(VERR_INVALID_PARAMETER)?;
        let slice = parent.pages().get(first..end).ok_or(VERR_INVALID_PARAMETER)?;
        let of = match &*parent.0 {
            Kind::Locked(locked) => locked.as_ptr().as_ptr(),
            _ => null_mut(),
        };
        MemObj::new(Kind::KernelMap(KernelRange::new(Pages::copy_of(self, slice)?, of)?))
    }

    fn mem_map_user(&self, parent: &MemObj, prot: MemProt, process: ProcessHandle) -> Result<MemObj> {
        let Kind::Owned { block, .. } = &*parent.0 else { return Err(VERR_NOT_SUPPORTED) };
        if process != self.process_handle() {
            return Err(VERR_NOT_SUPPORTED);
        }
        let mapping = UserMapping { block: block.clone(), process, gone: AtomicBool::new(true) };
        let mapping = Arc::new(self, mapping)?;
        let of_segment = Box::new(self, mapping.clone())?;
        let mut object = MemObj::new(Kind::UserMap { mapping, address: 0 })?;
        let Kind::UserMap { mapping, address } = &mut *object.0 else { return Err(VERR_INTERNAL_ERROR) };
        mapping.gone.store(false, Ordering::Release);
        // SAFETY: the list has as many pages; the context belongs to the segment, if this succeeds.
        let failed = unsafe {
            let (list, count) = (mapping.block.pages.as_ptr(), mapping.block.pages.len());
            let context = of_segment.as_ptr().as_ptr().cast();
            glue::supdrv_glue_map_user(list, count, prot.bits(), context, &raw mut *address)
        };
        if failed != 0 {
            mapping.gone.store(true, Ordering::Release);
            return Err(VERR_MAP_FAILED);
        }
        // The segment's from here on.
        let _owned_by_kernel = of_segment.into_raw();
        Ok(object)
    }

    fn mem_protect(&self, _object: &MemObj, _offset: usize, _size: usize, _prot: MemProt) -> Result<()> {
        Err(VERR_NOT_SUPPORTED)
    }

    fn mem_free(&self, object: MemObj) -> core::result::Result<(), (MemObj, Status)> {
        drop(object);
        Ok(())
    }

    fn mem_address(&self, object: &MemObj) -> usize {
        match &*object.0 {
            Kind::Owned { block, mapped: true } => block.address.as_ptr() as usize,
            Kind::KernelMap(range) => range.address,
            Kind::Owned { .. } | Kind::Locked(_) | Kind::UserMap { .. } => 0,
        }
    }

    fn mem_address_user(&self, object: &MemObj) -> usize {
        match &*object.0 {
            Kind::Locked(locked) => locked.address,
            Kind::UserMap { address, .. } => *address,
            Kind::Owned { .. } | Kind::KernelMap(_) => 0,
        }
    }

    fn mem_size(&self, object: &MemObj) -> usize {
        object.pages().len() << PAGE_SHIFT
    }

    fn mem_page_phys(&self, object: &MemObj, index: usize) -> Option<u64> {
        object.pages().get(index).map(|page| page << PAGE_SHIFT)
    }

    fn mem_handle(&self, object: &MemObj) -> usize {
        object.0.as_ptr().as_ptr() as usize
    }
}

impl Solaris {
    /// One contiguous block up to `highest`.
    pub(crate) fn alloc_phys(&self, size_bytes: usize, highest: u64, align_bytes: usize) -> Result<MemObj> {
        let block = Block::contiguous(size_bytes, highest, align_bytes).map_err(|_| VERR_NO_PHYS_MEMORY)?;
        owned(block, false)
    }
}

impl OsUserCopy for Solaris {
    fn user_copy_from(&self, to: &mut [u8], from: usize) -> Result<()> {
        let (user, kernel) = (from as *const c_void, to.as_mut_ptr().cast());
        // SAFETY: `to` has that many bytes; the source is checked by the kernel.
        let failed = unsafe { kernel::ddi_copyin(user, kernel, to.len(), 0) };
        if failed == 0 { Ok(()) } else { Err(VERR_ACCESS_DENIED) }
    }

    fn user_copy_to(&self, to: usize, from: &[u8]) -> Result<()> {
        let (kernel, user) = (from.as_ptr().cast(), to as *mut c_void);
        // SAFETY: `from` has that many bytes; the destination is checked by the kernel.
        let failed = unsafe { kernel::ddi_copyout(kernel, user, from.len(), 0) };
        if failed == 0 { Ok(()) } else { Err(VERR_ACCESS_DENIED) }
    }
}

/// Memory for an image, where the kernel puts its own modules: executable, and within reach of 32-bit references.
pub struct ImageMemory;

impl FlatMemory for ImageMemory {
    unsafe fn free(base: NonNull<u8>, bytes: usize) {
        // SAFETY: from this arena, with this size, given up (condition of the function).
        unsafe { kernel::segkmem_free(kernel::heaptext_arena, base.as_ptr().cast(), bytes) };
    }
}

impl OsImage for Solaris {
    type ExecMem = FlatImage<ImageMemory>;
    /// Images aren't kernel modules.
    type Native = Never;

    fn exec_alloc(&self, size_bytes: usize) -> Result<Self::ExecMem> {
        let bytes = size_bytes.checked_next_multiple_of(PAGE_SIZE).ok_or(VERR_NO_EXEC_MEMORY)?;
        // SAFETY: a size that isn't 0.
        let memory = unsafe { kernel::segkmem_alloc(kernel::heaptext_arena, bytes, kernel::KM_SLEEP) };
        let base = NonNull::new(memory.cast::<u8>()).ok_or(VERR_NO_EXEC_MEMORY)?;
        // SAFETY: fresh memory of that size.
        unsafe { base.as_ptr().write_bytes(0, bytes) };
        // SAFETY: as above; `free` gives it back.
        Ok(unsafe { FlatImage::new(base, bytes) })
    }

    fn exec_base(&self, memory: &Self::ExecMem) -> NonNull<u8> {
        memory.base()
    }

    fn exec_load(&self, memory: &Self::ExecMem, bits: &[u8]) -> Result<()> {
        memory.load(bits)
    }
}
