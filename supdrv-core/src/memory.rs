//! Memory of a session: locked user pages, and pages allocated for ring-3 and ring-0 together.
//!
//! A *reference* is what one successful request made: the pages, their user mapping, and any kernel mappings made later. It is
//! found again by its kind and either of its addresses. All lookups cost O(log n), whatever the session holds.
//!
//! ```text
//!   nodes allocated ──► pages ──► user mapping ──► inserted ──► removed by its address ──► freed
//! ```
//!
//! The nodes come first: nothing can fail any more once ring-3 has a mapping. A reference is counted, so that a request that
//! works on it keeps it alive while another thread frees it; the last owner releases the user mapping first, then the kernel
//! mappings, then the pages. Only the process that opened the session may use these services.

use core::ops::Bound;
use core::ptr::{NonNull, null_mut};
use core::sync::atomic::{AtomicPtr, Ordering};

use zerocopy::native_endian::U64;

use crate::abi::status::{
    Result, VERR_ACCESS_DENIED, VERR_INTERNAL_ERROR, VERR_INVALID_PARAMETER, VERR_PAGE_COUNT_OUT_OF_RANGE,
};
use crate::heap::{Arc, Box};
use crate::os::{AllocKind, MemProt, PAGE_SHIFT, PAGE_SIZE, SupdrvOs};
use crate::session::Session;
use crate::tree::{Node, Tree};

/// A physical address in a request's output, at any alignment.
pub type PhysAddr = U64;

/// Most pages of one page allocation: 256 MiB.
pub const MAX_PAGE_ALLOC_PAGES: u32 = 65536;
/// Most pages of one low or contiguous allocation.
pub const MAX_LOW_PAGES: u32 = 255;
/// Most bytes of one [`Session::mem_alloc`].
pub const MAX_MEM_ALLOC_BYTES: usize = 0x3f_ffff;

/// The kind of a reference; the numbers are the seed's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub enum MemKind {
    /// User memory, locked.
    Locked = 1,
    /// One contiguous block.
    Contiguous = 2,
    /// Pages below 4 GiB.
    Low = 3,
    /// Kernel memory shown to the user, for modules.
    Mem = 4,
    /// Pages, with or without a kernel mapping.
    Page = 5,
}

/// Pages, a user mapping, or a kernel mapping. Must be freed with [`free`](Self::free) before it is dropped.
pub(crate) struct OwnedObject<O: SupdrvOs>(pub(crate) Option<O::MemObj>);

impl<O: SupdrvOs> OwnedObject<O> {
    /// Frees the object; `false` if the system couldn't, and it is leaked: its pages may still be reachable.
    pub(crate) fn free(&mut self, os: &O) -> bool {
        let Some(object) = self.0.take() else { return true };
        match os.mem_free(object) {
            Ok(()) => true,
            Err((object, _status)) => {
                core::mem::forget(object);
                os.log_write(b"supdrv: a memory object could not be freed and is leaked\n");
                false
            }
        }
    }
}

/// A kernel mapping of part of a reference, in the list that its reference owns.
struct KernelMap<O: SupdrvOs> {
    object: OwnedObject<O>,
    next: Option<NonNull<KernelMap<O>>>,
}

/// What one successful request made.
pub struct MemRef<O: SupdrvOs> {
    os: O,
    kind: MemKind,
    pages: OwnedObject<O>,
    user_map: Option<OwnedObject<O>>,
    /// Newest first; only ever grows until the reference dies.
    kernel_maps: AtomicPtr<KernelMap<O>>,
}

impl<O: SupdrvOs> MemRef<O> {
    fn new(os: &O, kind: MemKind, object: O::MemObj) -> Result<Arc<Self, O>> {
        Arc::new(
            os,
            Self {
                os: os.clone(),
                kind,
                pages: OwnedObject(Some(object)),
                user_map: None,
                kernel_maps: AtomicPtr::new(null_mut()),
            },
        )
    }

    fn object(&self) -> Result<&O::MemObj> {
        self.pages.0.as_ref().ok_or(VERR_INTERNAL_ERROR)
    }

    fn user_object(&self) -> Option<&O::MemObj> {
        self.user_map.as_ref()?.0.as_ref()
    }

    fn user_address(&self) -> usize {
        let object = self.user_object().or(self.pages.0.as_ref());
        object.map_or(0, |object| self.os.mem_address_user(object))
    }

    fn kernel_address(&self) -> usize {
        self.pages.0.as_ref().map_or(0, |object| self.os.mem_address(object))
    }

    fn size_bytes(&self) -> usize {
        self.pages.0.as_ref().map_or(0, |object| self.os.mem_size(object))
    }

    fn page_phys(&self, index: usize) -> Result<u64> {
        self.os.mem_page_phys(self.object()?, index).ok_or(VERR_INTERNAL_ERROR)
    }

    fn add_kernel_map(&self, mut map: Box<KernelMap<O>, O>) {
        let mut head = self.kernel_maps.load(Ordering::Relaxed);
        loop {
            map.next = NonNull::new(head);
            let new = map.as_ptr().as_ptr();
            match self.kernel_maps.compare_exchange_weak(head, new, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => break,
                Err(now) => head = now,
            }
        }
        let _owned_by_list = map.into_raw();
    }
}

impl<O: SupdrvOs> Drop for MemRef<O> {
    fn drop(&mut self) {
        let os = &self.os;
        let mut unmapped = self.user_map.as_mut().is_none_or(|map| map.free(os));
        let mut next = NonNull::new(*self.kernel_maps.get_mut());
        while let Some(map) = next {
            // SAFETY: the list owns its nodes, which came from into_raw; each is taken back once, here.
            let mut map = unsafe { Box::from_raw(os, map) };
            unmapped &= map.object.free(os);
            next = map.next;
        }
        if unmapped {
            self.pages.free(os);
        } else {
            core::mem::forget(self.pages.0.take());
        }
    }
}

// SAFETY: the list of kernel mappings is owned by the reference and only grows, atomically; everything else is Sync.
unsafe impl<O: SupdrvOs> Send for MemRef<O> {}
// SAFETY: as above.
unsafe impl<O: SupdrvOs> Sync for MemRef<O> {}

type AddressKey = (MemKind, usize, u64);

/// The references of a session; the data of the session lock.
pub struct MemoryRefs<O: SupdrvOs> {
    refs: Tree<u64, Option<Arc<MemRef<O>, O>>, O>,
    by_kernel: Tree<AddressKey, (), O>,
    by_user: Tree<AddressKey, (), O>,
    last: u64,
}

/// Everything that tracking a reference takes, allocated before the memory is.
struct Slot<O: SupdrvOs> {
    reference: Node<u64, Option<Arc<MemRef<O>, O>>, O>,
    by_kernel: Node<AddressKey, (), O>,
    by_user: Node<AddressKey, (), O>,
}

impl<O: SupdrvOs> Slot<O> {
    fn new(os: &O, kind: MemKind) -> Result<Self> {
        Ok(Self {
            reference: Node::new(os, 0, None)?,
            by_kernel: Node::new(os, (kind, 0, 0), ())?,
            by_user: Node::new(os, (kind, 0, 0), ())?,
        })
    }
}

impl<O: SupdrvOs> Default for MemoryRefs<O> {
    fn default() -> Self {
        Self::new()
    }
}

impl<O: SupdrvOs> MemoryRefs<O> {
    /// No references.
    #[must_use]
    pub const fn new() -> Self {
        Self { refs: Tree::new(), by_kernel: Tree::new(), by_user: Tree::new(), last: 0 }
    }

    fn insert(&mut self, mut slot: Slot<O>, reference: Arc<MemRef<O>, O>) {
        self.last = self.last.wrapping_add(1);
        let id = self.last;
        slot.by_kernel.set_key((reference.kind, reference.kernel_address(), id));
        slot.by_user.set_key((reference.kind, reference.user_address(), id));
        slot.reference.set_key(id);
        *slot.reference.value_mut() = Some(reference);
        let unique = self.refs.insert(slot.reference).is_ok()
            && self.by_kernel.insert(slot.by_kernel).is_ok()
            && self.by_user.insert(slot.by_user).is_ok();
        debug_assert!(unique);
    }

    fn oldest(tree: &Tree<AddressKey, (), O>, kind: MemKind, address: usize) -> Option<u64> {
        let ((found_kind, found, id), ()) = tree.lower_bound(Bound::Included(&(kind, address, 0)))?;
        (*found_kind == kind && *found == address).then_some(*id)
    }

    /// The oldest reference of a kind at a user address.
    fn at_user(&self, kind: MemKind, address: usize) -> Option<&Arc<MemRef<O>, O>> {
        self.refs.get(&Self::oldest(&self.by_user, kind, address)?)?.as_ref()
    }

    /// The oldest reference of a kind at a kernel address.
    fn at_kernel(&self, kind: MemKind, address: usize) -> Option<&Arc<MemRef<O>, O>> {
        self.refs.get(&Self::oldest(&self.by_kernel, kind, address)?)?.as_ref()
    }

    /// Takes out the oldest reference of a kind at either address. What is returned is dropped without the lock.
    fn remove(&mut self, kind: MemKind, address: usize) -> Option<Slot<O>> {
        let ids = [Self::oldest(&self.by_kernel, kind, address), Self::oldest(&self.by_user, kind, address)];
        self.remove_id(ids.into_iter().flatten().min()?)
    }

    fn remove_id(&mut self, id: u64) -> Option<Slot<O>> {
        let reference = self.refs.remove(&id)?;
        let memory = reference.value().as_ref()?;
        Some(Slot {
            by_kernel: self.by_kernel.remove(&(memory.kind, memory.kernel_address(), id))?,
            by_user: self.by_user.remove(&(memory.kind, memory.user_address(), id))?,
            reference,
        })
    }
}

/// Addresses of an allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// In the calling process; 0 without a user mapping.
    pub user: usize,
    /// In the kernel; 0 without a kernel mapping.
    pub kernel: usize,
}

/// Which mappings a page allocation gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageMappings {
    /// Ring-3 only. Not every system can.
    User,
    /// Ring-0 only; ring-0 callers.
    Kernel,
    /// Both.
    UserAndKernel,
}

fn check_sub_range(offset_bytes: usize, size_bytes: usize, of_bytes: usize) -> Result<()> {
    let inside =
        offset_bytes < of_bytes && offset_bytes.checked_add(size_bytes).is_some_and(|end| end <= of_bytes);
    if inside { Ok(()) } else { Err(VERR_INVALID_PARAMETER) }
}

fn check_sub_format(offset_bytes: usize, size_bytes: usize) -> Result<()> {
    let aligned = (offset_bytes | size_bytes).is_multiple_of(PAGE_SIZE) && size_bytes != 0;
    if aligned { Ok(()) } else { Err(VERR_INVALID_PARAMETER) }
}

fn pages_to_bytes(pages: usize) -> Result<usize> {
    pages.checked_mul(PAGE_SIZE).ok_or(VERR_INVALID_PARAMETER)
}

/// Memory services. All are class T and may block. A failing one leaves nothing allocated, mapped or tracked. All but closing
/// fail with `VERR_ACCESS_DENIED` when a user session is used by another process than its opener.
impl<O: SupdrvOs> Session<O> {
    /// The process whose memory is meant.
    pub(crate) fn process(&self) -> Result<usize> {
        let current = self.driver().os().process_handle();
        if self.owner().kind.is_user() && self.process_handle() != current {
            return Err(VERR_ACCESS_DENIED);
        }
        Ok(current)
    }

    /// Maps the pages to the user if wanted, reports physical addresses and tracks the reference. `phys` is written on success only.
    fn finish(
        &self,
        slot: Slot<O>,
        mut reference: Arc<MemRef<O>, O>,
        user: Option<usize>,
        phys: &mut [PhysAddr],
    ) -> Result<Addresses> {
        let os = self.driver().os();
        for index in 0..phys.len() {
            reference.page_phys(index)?;
        }
        if let Some(process) = user {
            let map = os.mem_map_user(reference.object()?, MemProt::all(), process)?;
            let Some(inner) = reference.get_mut() else { return Err(VERR_INTERNAL_ERROR) };
            inner.user_map = Some(OwnedObject(Some(map)));
        }
        for (index, to) in phys.iter_mut().enumerate() {
            to.set(reference.page_phys(index)?);
        }
        let addresses = Addresses { user: reference.user_address(), kernel: reference.kernel_address() };
        self.driver().memory_refs.fetch_add(1, Ordering::Relaxed);
        self.memory.lock().insert(slot, reference);
        Ok(addresses)
    }

    fn allocate(
        &self,
        kind: MemKind,
        pages: AllocKind,
        size_bytes: usize,
        map_user: bool,
        phys: &mut [PhysAddr],
    ) -> Result<Addresses> {
        let process = self.process()?;
        let os = self.driver().os();
        let slot = Slot::new(os, kind)?;
        let reference = MemRef::new(os, kind, os.mem_alloc(pages, size_bytes, MemProt::all())?)?;
        self.finish(slot, reference, map_user.then_some(process), phys)
    }

    /// Locks user memory at `address` for reading and writing; as many pages as `phys` has room for.
    ///
    /// # Errors
    /// `VERR_INVALID_PARAMETER` (0 pages, not page-aligned, wraps), `VERR_LOCK_FAILED`, `VERR_NO_MEMORY`,
    /// `VERR_INTERNAL_ERROR` (a page without physical address).
    #[doc(alias = "SUPR0LockMem")]
    pub fn mem_lock(&self, address: usize, phys: &mut [PhysAddr]) -> Result<()> {
        let process = self.process()?;
        if address == 0 || !address.is_multiple_of(PAGE_SIZE) || phys.is_empty() {
            return Err(VERR_INVALID_PARAMETER);
        }
        let size_bytes = pages_to_bytes(phys.len())?;
        address.checked_add(size_bytes).ok_or(VERR_INVALID_PARAMETER)?;
        let os = self.driver().os();
        let slot = Slot::new(os, MemKind::Locked)?;
        let object = os.mem_lock_user(address, size_bytes, MemProt::READ | MemProt::WRITE, process)?;
        self.finish(slot, MemRef::new(os, MemKind::Locked, object)?, None, phys)?;
        Ok(())
    }

    /// Allocates 1 to [`MAX_LOW_PAGES`] contiguous pages below 4 GiB, mapped to both; returns the addresses and the
    /// physical address of the first page.
    ///
    /// # Errors
    /// `VERR_PAGE_COUNT_OUT_OF_RANGE`, `VERR_NO_CONT_MEMORY`, `VERR_NO_MEMORY`, `VERR_MAP_FAILED`.
    #[doc(alias = "SUPR0ContAlloc")]
    pub fn mem_alloc_contiguous(&self, pages: u32) -> Result<(Addresses, u64)> {
        if pages == 0 || pages > MAX_LOW_PAGES {
            return Err(VERR_PAGE_COUNT_OUT_OF_RANGE);
        }
        let mut first = [PhysAddr::new(0)];
        let size_bytes = pages_to_bytes(pages as usize)?;
        let addresses =
            self.allocate(MemKind::Contiguous, AllocKind::Contiguous, size_bytes, true, &mut first)?;
        let [first] = first;
        Ok((addresses, first.get()))
    }

    /// Allocates 1 to [`MAX_LOW_PAGES`] pages below 4 GiB each, mapped to both; as many as `phys` has room for.
    ///
    /// # Errors
    /// `VERR_PAGE_COUNT_OUT_OF_RANGE`, `VERR_NO_LOW_MEMORY`, `VERR_NO_MEMORY`, `VERR_MAP_FAILED`.
    #[doc(alias = "SUPR0LowAlloc")]
    pub fn mem_alloc_low(&self, phys: &mut [PhysAddr]) -> Result<Addresses> {
        if phys.is_empty() || phys.len() > MAX_LOW_PAGES as usize {
            return Err(VERR_PAGE_COUNT_OUT_OF_RANGE);
        }
        self.allocate(MemKind::Low, AllocKind::Low, pages_to_bytes(phys.len())?, true, phys)
    }

    /// Allocates 1 to [`MAX_MEM_ALLOC_BYTES`] bytes, rounded up to pages, mapped to both. For modules.
    ///
    /// # Errors
    /// `VERR_INVALID_PARAMETER` (size), `VERR_NO_MEMORY`, `VERR_MAP_FAILED`.
    #[doc(alias = "SUPR0MemAlloc")]
    pub fn mem_alloc(&self, size_bytes: usize) -> Result<Addresses> {
        if size_bytes == 0 || size_bytes > MAX_MEM_ALLOC_BYTES {
            return Err(VERR_INVALID_PARAMETER);
        }
        let size_bytes = size_bytes.next_multiple_of(PAGE_SIZE);
        self.allocate(MemKind::Mem, AllocKind::Page, size_bytes, true, &mut [])
    }

    /// Calls `visit` with the physical address of every page of a [`mem_alloc`](Self::mem_alloc) at `address` (either one).
    ///
    /// # Errors
    /// `VERR_INVALID_PARAMETER`: no such memory.
    #[doc(alias = "SUPR0MemGetPhys")]
    pub fn mem_get_phys(&self, address: usize, mut visit: impl FnMut(usize, u64)) -> Result<()> {
        self.process()?;
        if address == 0 {
            return Err(VERR_INVALID_PARAMETER);
        }
        let found = {
            let refs = self.memory.lock();
            refs.at_kernel(MemKind::Mem, address).or_else(|| refs.at_user(MemKind::Mem, address)).cloned()
        };
        let reference = found.ok_or(VERR_INVALID_PARAMETER)?;
        let object = reference.object()?;
        for index in 0..reference.size_bytes() >> PAGE_SHIFT {
            visit(index, self.driver().os().mem_page_phys(object, index).ok_or(VERR_INTERNAL_ERROR)?);
        }
        Ok(())
    }

    /// Allocates 1 to [`MAX_PAGE_ALLOC_PAGES`] pages. `phys` is empty or has room for all.
    ///
    /// # Errors
    /// `VERR_PAGE_COUNT_OUT_OF_RANGE`, `VERR_NOT_SUPPORTED` (no kernel mapping wanted, and the system can't: clients then
    /// lock memory of their own), `VERR_NO_MEMORY`, `VERR_MAP_FAILED`.
    #[doc(alias = "SUPR0PageAllocEx")]
    pub fn page_alloc(&self, pages: u32, mappings: PageMappings, phys: &mut [PhysAddr]) -> Result<Addresses> {
        if pages == 0 || pages > MAX_PAGE_ALLOC_PAGES {
            return Err(VERR_PAGE_COUNT_OUT_OF_RANGE);
        }
        let (kind, map_user) = match mappings {
            PageMappings::User => (AllocKind::Unmapped, true),
            PageMappings::Kernel => (AllocKind::Page, false),
            PageMappings::UserAndKernel => (AllocKind::Page, true),
        };
        self.allocate(MemKind::Page, kind, pages_to_bytes(pages as usize)?, map_user, phys)
    }

    /// Maps part of a page allocation or of locked memory, found by its user address, into the kernel. The mapping lives as
    /// long as the memory.
    ///
    /// # Errors
    /// `VERR_INVALID_PARAMETER` (not page multiples, empty, no such memory, beyond its end), `VERR_NOT_SUPPORTED`,
    /// `VERR_MAP_FAILED`, `VERR_NO_MEMORY`.
    #[doc(alias = "SUPR0PageMapKernel")]
    pub fn page_map_kernel(&self, user: usize, offset_bytes: usize, size_bytes: usize) -> Result<usize> {
        self.process()?;
        check_sub_format(offset_bytes, size_bytes)?;
        if user == 0 {
            return Err(VERR_INVALID_PARAMETER);
        }
        let found = {
            let refs = self.memory.lock();
            refs.at_user(MemKind::Page, user).or_else(|| refs.at_user(MemKind::Locked, user)).cloned()
        };
        let reference = found.ok_or(VERR_INVALID_PARAMETER)?;
        check_sub_range(offset_bytes, size_bytes, reference.size_bytes())?;
        let os = self.driver().os();
        let mut map = Box::new(os, KernelMap { object: OwnedObject(None), next: None })?;
        let object =
            os.mem_map_kernel(reference.object()?, offset_bytes, size_bytes, MemProt::READ | MemProt::WRITE)?;
        let address = os.mem_address(&object);
        map.object = OwnedObject(Some(object));
        reference.add_kernel_map(map);
        Ok(address)
    }

    /// Changes the protection of part of a page allocation: of its user mapping if `user` is not 0, then of its kernel mapping if
    /// `kernel` is not 0. Both must be the same allocation's.
    ///
    /// # Errors
    /// `VERR_INVALID_PARAMETER` (not page multiples, empty, no such memory, beyond its end), `VERR_NOT_SUPPORTED`.
    #[doc(alias = "SUPR0PageProtect")]
    pub fn page_protect(
        &self,
        at: Addresses,
        offset_bytes: usize,
        size_bytes: usize,
        prot: MemProt,
    ) -> Result<()> {
        self.process()?;
        check_sub_format(offset_bytes, size_bytes)?;
        let reference = self.find_pages(at).ok_or(VERR_INVALID_PARAMETER)?;
        check_sub_range(offset_bytes, size_bytes, reference.size_bytes())?;
        let os = self.driver().os();
        if at.user != 0 {
            let map = reference.user_object().ok_or(VERR_INVALID_PARAMETER)?;
            os.mem_protect(map, offset_bytes, size_bytes, prot)?;
        }
        if at.kernel != 0 {
            os.mem_protect(reference.object()?, offset_bytes, size_bytes, prot)?;
        }
        Ok(())
    }

    fn find_pages(&self, at: Addresses) -> Option<Arc<MemRef<O>, O>> {
        let refs = self.memory.lock();
        let found = match (at.user, at.kernel) {
            (0, 0) => return None,
            (0, kernel) => refs.at_kernel(MemKind::Page, kernel)?,
            (user, kernel) => {
                let found = refs.at_user(MemKind::Page, user)?;
                if kernel != 0 && found.kernel_address() != kernel {
                    return None;
                }
                found
            }
        };
        Some(found.clone())
    }

    /// Frees the oldest memory of a kind at `address`, its user or kernel address.
    ///
    /// # Errors
    /// `VERR_INVALID_PARAMETER`: there is none. Clients rely on exactly this status.
    #[doc(alias = "SUPR0PageFree")]
    #[doc(alias = "SUPR0UnlockMem")]
    #[doc(alias = "SUPR0ContFree")]
    #[doc(alias = "SUPR0LowFree")]
    #[doc(alias = "SUPR0MemFree")]
    pub fn mem_free(&self, kind: MemKind, address: usize) -> Result<()> {
        self.process()?;
        if address == 0 {
            return Err(VERR_INVALID_PARAMETER);
        }
        let slot = self.memory.lock().remove(kind, address);
        self.forget(slot).ok_or(VERR_INVALID_PARAMETER)
    }

    /// Drops what left the table, without the lock.
    fn forget(&self, slot: Option<Slot<O>>) -> Option<()> {
        drop(slot?);
        self.driver().memory_refs.fetch_sub(1, Ordering::Relaxed);
        Some(())
    }

    /// Frees everything, oldest first, for session close.
    pub(crate) fn free_all_memory(&self) {
        loop {
            let slot = {
                let mut refs = self.memory.lock();
                let first = refs.refs.lower_bound(Bound::Unbounded).map(|(id, _)| *id);
                first.and_then(|id| refs.remove_id(id))
            };
            if self.forget(slot).is_none() {
                return;
            }
        }
    }
}
