//! Memory objects: `RTR0MemObj*`.
//!
//! A *primary* object has pages; a *mapping* shows pages of its parent. The seam wants mappings to go before their parent: the objects here keep
//! the list of a parent's mappings, in the order of their creation, and refuse to free a parent that has some, or free them first, as the caller
//! says.

use core::ffi::{c_char, c_void};
use core::ops::Bound;
use core::ptr::null_mut;

use super::handle::{self, Kind as Tagged};
use super::runtime::{Ring0, rc, rc_handle};
use super::types::CBool;
use crate::abi::Status;
use crate::abi::status::{
    Result, VERR_INVALID_HANDLE, VERR_INVALID_PARAMETER, VERR_MEMORY_BUSY, VERR_NOT_SUPPORTED,
};
use crate::os::{
    AllocKind, CachePolicy, LockClass, MemProt, NIL_HANDLE, OsIdentity, OsMemory, OsModule, PAGE_SIZE,
    SupdrvOs,
};
use crate::sync::SpinLock;
use crate::tree::{Node, Tree};

/// What `pvFixed` and `R3PtrFixed` are when any address will do.
const ANY_ADDRESS: usize = usize::MAX;
/// No physical address; no limit for one.
const NIL_PHYS: u64 = u64::MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sort {
    /// Kernel-mapped pages of its own.
    Mapped,
    /// Pages of its own without a kernel mapping.
    Physical,
    /// Pinned memory of a process.
    Locked,
    /// A kernel or user mapping of another object.
    Mapping,
}

/// The mappings of a primary object by number; the handles are those of the mappings.
struct Mappings<O: SupdrvOs> {
    list: Tree<u64, usize, O>,
    last: u64,
}

struct MemObj<O: SupdrvOs> {
    /// `None` only in between.
    object: Option<O::MemObj>,
    sort: Sort,
    mappings: SpinLock<Mappings<O>, O>,
    /// For a mapping: its parent's handle, and its number there.
    parent: usize,
    number: u64,
}

impl<O: SupdrvOs> Tagged for MemObj<O> {
    const MAGIC: u32 = 0x6d6f_626a;
}

type Owned<O> = crate::heap::Box<handle::Object<MemObj<O>>, O>;

impl<O: SupdrvOs> MemObj<O> {
    /// An object without pages yet: nothing can fail once there are some.
    fn prepare(os: &O, sort: Sort) -> Result<Owned<O>> {
        let mappings = Mappings { list: Tree::new(), last: 0 };
        let mappings = SpinLock::new(os, LockClass::ModuleSpin, mappings)?;
        handle::create(os, Self { object: None, sort, mappings, parent: 0, number: 0 })
    }

    fn object(&self) -> Result<&O::MemObj> {
        self.object.as_ref().ok_or(VERR_INVALID_HANDLE)
    }
}

/// Rounds a size up to pages.
fn pages(bytes: usize) -> Result<usize> {
    bytes.checked_next_multiple_of(PAGE_SIZE).filter(|bytes| *bytes != 0).ok_or(VERR_INVALID_PARAMETER)
}

fn new_primary<R: Ring0>(
    sort: Sort,
    make: impl FnOnce(&R::Os) -> Result<<R::Os as OsMemory>::MemObj>,
) -> Result<usize> {
    let os = &R::os();
    let mut new = MemObj::prepare(os, sort)?;
    new.value.object = Some(make(os)?);
    Ok(handle::publish(new))
}

/// Protection of a kernel mapping. `CBool`: whether it is to be executable.
fn kernel_prot(executable: CBool) -> MemProt {
    let prot = MemProt::READ | MemProt::WRITE;
    if executable != 0 { prot | MemProt::EXEC } else { prot }
}

unsafe fn alloc<R: Ring0>(out: *mut usize, bytes: usize, executable: CBool, kind: AllocKind) -> i32 {
    let new = || {
        let bytes = pages(bytes)?;
        new_primary::<R>(Sort::Mapped, |os| os.mem_alloc(kind, bytes, kernel_prot(executable)))
    };
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { rc_handle(out, new) }
}

/// Pages, kernel-mapped. Class T. 0, `VERR_INVALID_POINTER`, `VERR_INVALID_PARAMETER` (size), `VERR_NO_MEMORY`.
pub unsafe fn alloc_page_tag<R: Ring0>(
    out: *mut usize,
    bytes: usize,
    executable: CBool,
    _tag: *const c_char,
) -> i32 {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { alloc::<R>(out, bytes, executable, AllocKind::Page) }
}

/// Pages below 4 GiB each, kernel-mapped. Class T. As [`alloc_page_tag`], and `VERR_NO_LOW_MEMORY`.
pub unsafe fn alloc_low_tag<R: Ring0>(
    out: *mut usize,
    bytes: usize,
    executable: CBool,
    _tag: *const c_char,
) -> i32 {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { alloc::<R>(out, bytes, executable, AllocKind::Low) }
}

/// One block below 4 GiB, kernel-mapped. Class T. As [`alloc_page_tag`], and `VERR_NO_CONT_MEMORY`.
pub unsafe fn alloc_cont_tag<R: Ring0>(
    out: *mut usize,
    bytes: usize,
    executable: CBool,
    _tag: *const c_char,
) -> i32 {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { alloc::<R>(out, bytes, executable, AllocKind::Contiguous) }
}

/// One physical block at or below `highest`, aligned to 0 (a page), 4 KiB, 2 MiB, 4 MiB or 1 GiB. Class T. 0, `VERR_INVALID_POINTER`,
/// `VERR_INVALID_PARAMETER`, `VERR_NO_PHYS_MEMORY`, `VERR_NO_MEMORY`, `VERR_NOT_SUPPORTED`.
pub unsafe fn alloc_phys_ex_tag<R: Ring0>(
    out: *mut usize,
    bytes: usize,
    highest: u64,
    align: usize,
    _tag: *const c_char,
) -> i32 {
    let new = || {
        let bytes = pages(bytes)?;
        let align = match align {
            0 => PAGE_SIZE,
            PAGE_SIZE | 0x20_0000 | 0x40_0000 | 0x4000_0000 => align,
            _ => return Err(VERR_INVALID_PARAMETER),
        };
        if highest < bytes as u64 {
            return Err(VERR_INVALID_PARAMETER);
        }
        if align > PAGE_SIZE && size_of::<usize>() < 8 {
            return Err(VERR_NOT_SUPPORTED);
        }
        new_primary::<R>(Sort::Physical, |os| os.mem_alloc_phys(bytes, highest, align))
    };
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { rc_handle(out, new) }
}

/// As [`alloc_phys_ex_tag`] with page alignment.
pub unsafe fn alloc_phys_tag<R: Ring0>(
    out: *mut usize,
    bytes: usize,
    highest: u64,
    tag: *const c_char,
) -> i32 {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { alloc_phys_ex_tag::<R>(out, bytes, highest, PAGE_SIZE, tag) }
}

/// Physical pages at or below `highest` each. Class T. As [`alloc_phys_ex_tag`].
pub unsafe fn alloc_phys_nc_tag<R: Ring0>(
    out: *mut usize,
    bytes: usize,
    highest: u64,
    _tag: *const c_char,
) -> i32 {
    let new = || {
        let bytes = pages(bytes)?;
        if highest < bytes as u64 {
            return Err(VERR_INVALID_PARAMETER);
        }
        new_primary::<R>(Sort::Physical, |os| os.mem_alloc_phys_nc(bytes, highest))
    };
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { rc_handle(out, new) }
}

/// An object for physical memory that exists; cache policy 0 (default) or 1 (device). Class T. 0, `VERR_INVALID_POINTER`,
/// `VERR_INVALID_PARAMETER`, `VERR_ADDRESS_TOO_BIG`, `VERR_NOT_SUPPORTED`, `VERR_NO_MEMORY`.
pub unsafe fn enter_phys_tag<R: Ring0>(
    out: *mut usize,
    phys: u64,
    bytes: usize,
    cache: u32,
    _tag: *const c_char,
) -> i32 {
    let new = || {
        // The range is rounded outward to pages.
        let offset = (phys % PAGE_SIZE as u64) as usize;
        let bytes = pages(bytes.checked_add(offset).ok_or(VERR_INVALID_PARAMETER)?)?;
        let cache = match cache {
            0 => CachePolicy::Default,
            1 => CachePolicy::Mmio,
            _ => return Err(VERR_INVALID_PARAMETER),
        };
        let start = phys - offset as u64;
        if phys == NIL_PHYS || bytes == offset || start.checked_add(bytes as u64 - 1).is_none() {
            return Err(VERR_INVALID_PARAMETER);
        }
        new_primary::<R>(Sort::Physical, |os| os.mem_enter_phys(start, bytes, cache))
    };
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { rc_handle(out, new) }
}

/// The process that a call means: its own, or none.
fn process_of<R: Ring0>(process: usize) -> usize {
    if process == NIL_HANDLE { R::os().process_handle() } else { process }
}

/// Pins memory of a process, for reading (1), writing (2) or both; the range is rounded outward to pages. NIL process: the calling one. Class T.
/// 0, `VERR_INVALID_POINTER`, `VERR_INVALID_PARAMETER`, `VERR_LOCK_FAILED`, `VERR_NOT_SUPPORTED` (another process), `VERR_NO_MEMORY`.
pub unsafe fn lock_user_tag<R: Ring0>(
    out: *mut usize,
    address: usize,
    bytes: usize,
    access: u32,
    process: usize,
    _tag: *const c_char,
) -> i32 {
    let new = || {
        let access = MemProt::from_bits(access)
            .filter(|access| !access.is_empty() && !access.contains(MemProt::EXEC))
            .ok_or(VERR_INVALID_PARAMETER)?;
        let offset = address % PAGE_SIZE;
        let start = address - offset;
        if bytes == 0 {
            return Err(VERR_INVALID_PARAMETER);
        }
        let bytes = pages(bytes.checked_add(offset).ok_or(VERR_INVALID_PARAMETER)?)?;
        start.checked_add(bytes).ok_or(VERR_INVALID_PARAMETER)?;
        let process = process_of::<R>(process);
        new_primary::<R>(Sort::Locked, |os| os.mem_lock_user(start, bytes, access, process))
    };
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { rc_handle(out, new) }
}

/// Makes a mapping of the object `parent`.
///
/// # Safety
/// As for the C functions.
unsafe fn map<R: Ring0>(
    parent: usize,
    make: impl FnOnce(&R::Os, &<R::Os as OsMemory>::MemObj) -> Result<<R::Os as OsMemory>::MemObj>,
) -> Result<usize> {
    let os = &R::os();
    // SAFETY: condition of the function.
    let primary = unsafe { handle::get::<MemObj<R::Os>>(parent)? };
    if primary.sort == Sort::Mapping {
        return Err(VERR_INVALID_PARAMETER);
    }
    let mut new = MemObj::prepare(os, Sort::Mapping)?;
    let mut node = Node::new(os, 0, new.as_ptr().as_ptr() as usize)?;
    new.value.object = Some(make(os, primary.object()?)?);
    new.value.parent = parent;
    let mut mappings = primary.mappings.lock();
    mappings.last += 1;
    new.value.number = mappings.last;
    node.set_key(mappings.last);
    let unique = mappings.list.insert(node).is_ok();
    debug_assert!(unique);
    drop(mappings);
    Ok(handle::publish(new))
}

fn check_map(fixed: usize, align: usize, prot: u32) -> Result<MemProt> {
    let prot = MemProt::from_bits(prot).filter(|prot| !prot.is_empty()).ok_or(VERR_INVALID_PARAMETER)?;
    match align {
        0 | PAGE_SIZE => {}
        0x20_0000 | 0x40_0000 => return Err(VERR_NOT_SUPPORTED),
        _ => return Err(VERR_INVALID_PARAMETER),
    }
    if fixed == ANY_ADDRESS {
        Ok(prot)
    } else if fixed.is_multiple_of(PAGE_SIZE) {
        Err(VERR_NOT_SUPPORTED)
    } else {
        Err(VERR_INVALID_PARAMETER)
    }
}

/// Maps a page-aligned part of an object (size 0: all of it) into the kernel, at any address (all ones). Class T. 0, `VERR_INVALID_POINTER`,
/// `VERR_INVALID_PARAMETER`, `VERR_INVALID_HANDLE`, `VERR_NOT_SUPPORTED` (fixed addresses, larger alignments, or the system can't),
/// `VERR_MAP_FAILED`, `VERR_NO_MEMORY`.
pub unsafe fn map_kernel_ex_tag<R: Ring0>(
    out: *mut usize,
    parent: usize,
    fixed: *mut c_void,
    align: usize,
    prot: u32,
    offset: usize,
    bytes: usize,
    _tag: *const c_char,
) -> i32 {
    let new = || {
        let prot = check_map(fixed as usize, align, prot)?;
        if !(offset | bytes).is_multiple_of(PAGE_SIZE) {
            return Err(VERR_INVALID_PARAMETER);
        }
        let make = |os: &R::Os, parent: &_| {
            let total = os.mem_size(parent);
            let bytes = if bytes == 0 { total.saturating_sub(offset) } else { bytes };
            let inside = bytes != 0 && offset.checked_add(bytes).is_some_and(|end| end <= total);
            if !inside {
                return Err(VERR_INVALID_PARAMETER);
            }
            os.mem_map_kernel(parent, offset, bytes, prot)
        };
        // SAFETY: the caller keeps the contract of the C function.
        unsafe { map::<R>(parent, make) }
    };
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { rc_handle(out, new) }
}

/// As [`map_kernel_ex_tag`], for a whole object.
pub unsafe fn map_kernel_tag<R: Ring0>(
    out: *mut usize,
    parent: usize,
    fixed: *mut c_void,
    align: usize,
    prot: u32,
    tag: *const c_char,
) -> i32 {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { map_kernel_ex_tag::<R>(out, parent, fixed, align, prot, 0, 0, tag) }
}

/// Maps an object into a process (NIL: the calling one), at any address (all ones). Class T. As [`map_kernel_ex_tag`].
pub unsafe fn map_user_tag<R: Ring0>(
    out: *mut usize,
    parent: usize,
    fixed: usize,
    align: usize,
    prot: u32,
    process: usize,
    _tag: *const c_char,
) -> i32 {
    let new = || {
        let prot = check_map(fixed, align, prot)?;
        let process = process_of::<R>(process);
        // SAFETY: the caller keeps the contract of the C function.
        unsafe { map::<R>(parent, |os, parent| os.mem_map_user(parent, prot, process)) }
    };
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { rc_handle(out, new) }
}

/// Frees the pages or the mapping behind an object, which it gives back if that fails.
fn release<O: SupdrvOs>(os: &O, mut object: Owned<O>) -> core::result::Result<(), (Owned<O>, Status)> {
    match object.value.object.take().map_or(Ok(()), |pages| os.mem_free(pages)) {
        Ok(()) => Ok(()),
        Err((pages, status)) => {
            object.value.object = Some(pages);
            Err((object, status))
        }
    }
}

/// Brings a handle back to life whose object could not be freed.
fn revive<O: SupdrvOs>(object: Owned<O>) {
    handle::revive(&object);
    let _still_alive = handle::publish(object);
}

unsafe fn free_mapping<O: SupdrvOs>(os: &O, object: Owned<O>) -> Result<()> {
    let (parent, number) = (object.value.parent, object.value.number);
    release(os, object).map_err(|(object, status)| {
        revive(object);
        status
    })?;
    // SAFETY: a parent outlives its mappings.
    let node = unsafe { handle::get::<MemObj<O>>(parent) }
        .ok()
        .and_then(|parent| parent.mappings.lock().list.remove(&number));
    drop(node);
    Ok(())
}

/// Frees the mappings of an object, latest first; stops at the first that can't be freed.
unsafe fn free_mappings<O: SupdrvOs>(os: &O, primary: &MemObj<O>) -> Result<()> {
    loop {
        let last = primary.mappings.lock().list.upper_bound(Bound::Unbounded).map(|(_, handle)| *handle);
        let Some(mapping) = last else { return Ok(()) };
        // SAFETY: mappings in the list are alive; this ends them.
        unsafe { free_mapping(os, handle::take::<MemObj<O>, O>(os, mapping)?)? };
    }
}

unsafe fn free_object<R: Ring0>(object: usize, with_mappings: bool) -> Result<()> {
    let os = &R::os();
    // SAFETY: condition of the function.
    let value = unsafe { handle::get::<MemObj<R::Os>>(object)? };
    if value.sort == Sort::Mapping {
        // SAFETY: as above.
        return unsafe { free_mapping(os, handle::take::<MemObj<R::Os>, _>(os, object)?) };
    }
    if with_mappings {
        // SAFETY: as above.
        unsafe { free_mappings(os, value)? };
    }
    if !value.mappings.lock().list.is_empty() {
        return Err(VERR_MEMORY_BUSY);
    }
    // SAFETY: as above.
    release(os, unsafe { handle::take::<MemObj<R::Os>, _>(os, object)? }).map_err(|(object, status)| {
        revive(object);
        status
    })
}

/// Frees an object, with its mappings if that is wanted. Class T. 0 (also for NIL), `VERR_INVALID_HANDLE`, `VERR_MEMORY_BUSY` (it has mappings),
/// or the system's: the object stays then.
pub unsafe fn free<R: Ring0>(object: usize, with_mappings: CBool) -> i32 {
    if object == 0 {
        return 0;
    }
    // SAFETY: the caller keeps the contract of the C function.
    rc(unsafe { free_object::<R>(object, with_mappings != 0) })
}

/// Changes the protection of a page-aligned part of an object (size 0: the rest). Class T. 0, `VERR_INVALID_PARAMETER`, `VERR_INVALID_HANDLE`,
/// `VERR_NOT_SUPPORTED`.
pub unsafe fn protect<R: Ring0>(object: usize, offset: usize, bytes: usize, prot: u32) -> i32 {
    let os = &R::os();
    // SAFETY: the caller keeps the contract of the C function.
    rc(unsafe { handle::get::<MemObj<R::Os>>(object) }.and_then(|value| {
        let prot = MemProt::from_bits(prot).ok_or(VERR_INVALID_PARAMETER)?;
        let native = value.object()?;
        let total = os.mem_size(native);
        let bytes = if bytes == 0 { total.saturating_sub(offset) } else { bytes };
        let inside = bytes != 0 && offset.checked_add(bytes).is_some_and(|end| end <= total);
        let aligned = (offset | bytes).is_multiple_of(PAGE_SIZE);
        let protectable = matches!(value.sort, Sort::Mapped | Sort::Mapping);
        if !inside || !aligned || !protectable {
            return Err(VERR_INVALID_PARAMETER);
        }
        os.mem_protect(native, offset, bytes, prot)
    }))
}

unsafe fn query<R: Ring0, T>(
    object: usize,
    otherwise: T,
    ask: impl FnOnce(&R::Os, &<R::Os as OsMemory>::MemObj) -> T,
) -> T {
    // SAFETY: the caller keeps the contract of the C function.
    match unsafe { handle::get::<MemObj<R::Os>>(object) }.and_then(MemObj::object) {
        Ok(native) => ask(&R::os(), native),
        Err(_) => otherwise,
    }
}

/// Kernel address, null if it has none. Class I.
pub unsafe fn address<R: Ring0>(object: usize) -> *mut c_void {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { query::<R, _>(object, null_mut(), |os, native| os.mem_address(native) as *mut c_void) }
}

/// User address, 0 if it has none. Class I.
pub unsafe fn address_r3<R: Ring0>(object: usize) -> usize {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { query::<R, _>(object, 0, OsMemory::mem_address_user) }
}

/// Size in bytes, 0 for NIL. Class I.
pub unsafe fn size<R: Ring0>(object: usize) -> usize {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { query::<R, _>(object, 0, OsMemory::mem_size) }
}

/// Physical address of a page, all ones if there is none. Class I.
pub unsafe fn get_page_phys_addr<R: Ring0>(object: usize, index: usize) -> u64 {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe {
        query::<R, _>(object, NIL_PHYS, |os, native| os.mem_page_phys(native, index).unwrap_or(NIL_PHYS))
    }
}

/// Whether it is a mapping. Class I.
pub unsafe fn is_mapping<R: Ring0>(object: usize) -> bool {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { handle::get::<MemObj<R::Os>>(object) }.is_ok_and(|object| object.sort == Sort::Mapping)
}
