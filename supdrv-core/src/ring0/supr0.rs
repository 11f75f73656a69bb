//! The driver's own services: `SUPR0*` without the tracer.
//!
//! The work is done in the core's modules; here pointers are checked and results turned into C's. A session is checked before anything else.

use core::ffi::{CStr, c_char, c_void};
use core::ptr::{NonNull, null_mut};
use core::sync::atomic::Ordering;

use super::runtime::{Ring0, rc};
use super::types::{CBool, Destructor, Factory, Page, SessionView};
use crate::abi::published::ObjectView;
use crate::abi::status::{
    Result, VERR_INVALID_PARAMETER, VERR_INVALID_POINTER, VERR_PAGE_COUNT_OUT_OF_RANGE,
    VINF_OBJECT_DESTROYED, VINF_SUCCESS,
};
use crate::hwvirt;
use crate::memory::{MAX_LOW_PAGES, MAX_PAGE_ALLOC_PAGES, MemKind, PageMappings, PhysAddr};
use crate::object::{ObjectId, Registration, Released};
use crate::os::{OsArch, OsHwVirt};
use crate::session::Session;

/// The session behind the pointer that modules have.
///
/// # Errors
/// `VERR_INVALID_PARAMETER`.
///
/// # Safety
/// A plausible pointer is readable; if it looks like a session, it is one of this system, and lives during the use of the result.
pub(super) unsafe fn session<'a, R: Ring0>(session: *mut SessionView) -> Result<&'a Session<R::Os>> {
    if !R::os().is_plausible_address(session as usize) {
        return Err(VERR_INVALID_PARAMETER);
    }
    // SAFETY: conditions of the function.
    unsafe { Session::from_view(session, None) }.ok_or(VERR_INVALID_PARAMETER)
}

/// A pointer that may be read or written.
fn pointer<R: Ring0, T>(pointer: *mut T) -> Result<NonNull<T>> {
    let plausible = R::os().is_plausible_address(pointer as usize);
    NonNull::new(pointer).filter(|_| plausible).ok_or(VERR_INVALID_POINTER)
}

/// A C string of at most `max` bytes with its NUL.
///
/// # Errors
/// `VERR_INVALID_POINTER`; `VERR_INVALID_PARAMETER` if it is longer.
///
/// # Safety
/// A plausible pointer is readable up to its NUL, or for `max` bytes.
pub(super) unsafe fn text<'a, R: Ring0>(text: *const c_char, max: usize) -> Result<&'a CStr> {
    let text = pointer::<R, _>(text.cast_mut())?.cast::<u8>();
    // SAFETY: condition of the function; reading stops at the NUL.
    let length =
        (0..max).find(|&index| unsafe { text.add(index).read() } == 0).ok_or(VERR_INVALID_PARAMETER)?;
    // SAFETY: just read.
    let bytes = unsafe { core::slice::from_raw_parts(text.as_ptr(), length + 1) };
    CStr::from_bytes_with_nul(bytes).map_err(|_| VERR_INVALID_PARAMETER)
}

/// The address of the GIP, 0 if there is none. Class I.
pub unsafe fn get_gip<R: Ring0>() -> usize {
    R::gip().load(Ordering::Acquire)
}

/// Registers a component factory of a kernel session. Class T. 0, `VERR_INVALID_PARAMETER`, `VERR_ACCESS_DENIED`, `VERR_INVALID_POINTER`,
/// `VERR_ALREADY_EXISTS`, `VERR_NO_MEMORY`.
pub unsafe fn component_register_factory<R: Ring0>(owner: *mut SessionView, factory: *mut Factory) -> i32 {
    // SAFETY: the caller keeps the contract of the C function.
    rc(unsafe { session::<R>(owner) }.and_then(|owner| {
        // SAFETY: the record stays valid while it is registered, as the C contract says.
        unsafe { owner.driver().components().register(owner, factory) }
    }))
}

/// Deregisters it. Class T. 0, `VERR_INVALID_PARAMETER`, `VERR_ACCESS_DENIED`, `VERR_INVALID_POINTER`, `VERR_NOT_FOUND`.
pub unsafe fn component_deregister_factory<R: Ring0>(owner: *mut SessionView, factory: *mut Factory) -> i32 {
    // SAFETY: the caller keeps the contract of the C function.
    rc(unsafe { session::<R>(owner) }
        .and_then(|owner| owner.driver().components().deregister(owner, factory)))
}

/// Asks the factories of a name for an interface. Class T. 0, `VERR_INVALID_PARAMETER`, `VERR_INVALID_POINTER`,
/// `VERR_SUPDRV_COMPONENT_NOT_FOUND`, `VERR_SUPDRV_INTERFACE_NOT_SUPPORTED`.
pub unsafe fn component_query_factory<R: Ring0>(
    asker: *mut SessionView,
    name: *const c_char,
    uuid: *const c_char,
    interface: *mut *mut c_void,
) -> i32 {
    // SAFETY: the caller keeps the contract of the C function.
    rc(unsafe { session::<R>(asker) }.and_then(|asker| {
        // SAFETY: as above.
        let name = unsafe { text::<R>(name, crate::component::FACTORY_NAME_BYTES)? };
        // SAFETY: as above.
        let uuid = unsafe { text::<R>(uuid, crate::component::MAX_UUID_BYTES)? };
        let interface = pointer::<R, _>(interface)?;
        let found = asker.driver().components().query(asker, name, uuid);
        // SAFETY: as above.
        unsafe { interface.write(found.map_or(null_mut(), NonNull::as_ptr)) };
        found.map(drop)
    }))
}

/// Takes VT-x from the system, or gives it back. Class T. 0, `VERR_NOT_SUPPORTED` (the caller manages it), or the system's.
pub unsafe fn enable_vtx<R: Ring0>(enable: CBool) -> i32 {
    rc(R::os().enable_vtx(enable != 0))
}

/// Leaves VMX operation on this CPU if the system is in it; whether it was. Class I.
pub unsafe fn suspend_vtx_on_cpu<R: Ring0>() -> bool {
    R::os().suspend_vtx_on_cpu()
}

/// Undoes [`suspend_vtx_on_cpu`]. Class I.
pub unsafe fn resume_vtx_on_cpu<R: Ring0>(suspended: CBool) {
    R::os().resume_vtx_on_cpu(suspended != 0);
}

/// The paging mode of this CPU. Class I.
pub unsafe fn get_paging_mode<R: Ring0>() -> u32 {
    hwvirt::paging_mode(&R::os())
}

/// An array of physical addresses that the caller gave.
///
/// # Safety
/// `array` is valid for `pages` addresses.
unsafe fn phys<'a>(array: *mut u64, pages: u32) -> &'a mut [PhysAddr] {
    // SAFETY: condition of the function; a PhysAddr has the bytes of a u64 at any alignment.
    unsafe { core::slice::from_raw_parts_mut(array.cast(), pages as usize) }
}

/// Pins memory of the calling process for reading and writing. Class T. 0, `VERR_INVALID_PARAMETER`, `VERR_LOCK_FAILED`, `VERR_NO_MEMORY`,
/// `VERR_ACCESS_DENIED`.
pub unsafe fn lock_mem<R: Ring0>(
    owner: *mut SessionView,
    address: usize,
    pages: u32,
    array: *mut u64,
) -> i32 {
    // SAFETY: the caller keeps the contract of the C function.
    rc(unsafe { session::<R>(owner) }.and_then(|owner| {
        let array = pointer::<R, _>(array).map_err(|_| VERR_INVALID_PARAMETER)?;
        // SAFETY: as above.
        owner.mem_lock(address, unsafe { phys(array.as_ptr(), pages) })
    }))
}

unsafe fn free_memory<R: Ring0>(owner: *mut SessionView, kind: MemKind, address: usize) -> i32 {
    // SAFETY: the caller keeps the contract of the C function.
    rc(unsafe { session::<R>(owner) }.and_then(|owner| owner.mem_free(kind, address)))
}

/// Undoes [`lock_mem`]. Class T. 0, `VERR_INVALID_PARAMETER`.
pub unsafe fn unlock_mem<R: Ring0>(owner: *mut SessionView, address: usize) -> i32 {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { free_memory::<R>(owner, MemKind::Locked, address) }
}

/// One block below 4 GiB for both rings. Class T. 0, `VERR_INVALID_PARAMETER`, `VERR_PAGE_COUNT_OUT_OF_RANGE`, `VERR_NO_CONT_MEMORY`,
/// `VERR_MAP_FAILED`, `VERR_NO_MEMORY`.
pub unsafe fn cont_alloc<R: Ring0>(
    owner: *mut SessionView,
    pages: u32,
    kernel: *mut usize,
    user: *mut usize,
    phys: *mut u64,
) -> i32 {
    // SAFETY: the caller keeps the contract of the C function.
    rc(unsafe { session::<R>(owner) }.and_then(|owner| {
        if kernel.is_null() || user.is_null() || phys.is_null() {
            return Err(VERR_INVALID_PARAMETER);
        }
        let (addresses, first) = owner.mem_alloc_contiguous(pages)?;
        // SAFETY: as above.
        unsafe {
            kernel.write(addresses.kernel);
            user.write(addresses.user);
            phys.write(first);
        }
        Ok(())
    }))
}

/// Frees [`cont_alloc`] memory by either address. Class T. 0, `VERR_INVALID_PARAMETER`.
pub unsafe fn cont_free<R: Ring0>(owner: *mut SessionView, address: usize) -> i32 {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { free_memory::<R>(owner, MemKind::Contiguous, address) }
}

/// Pages below 4 GiB for both rings. Class T. As [`cont_alloc`], and `VERR_NO_LOW_MEMORY`.
pub unsafe fn low_alloc<R: Ring0>(
    owner: *mut SessionView,
    pages: u32,
    kernel: *mut usize,
    user: *mut usize,
    array: *mut u64,
) -> i32 {
    // SAFETY: the caller keeps the contract of the C function.
    rc(unsafe { session::<R>(owner) }.and_then(|owner| {
        if kernel.is_null() || user.is_null() || array.is_null() {
            return Err(VERR_INVALID_PARAMETER);
        }
        if pages == 0 || pages > MAX_LOW_PAGES {
            return Err(VERR_PAGE_COUNT_OUT_OF_RANGE);
        }
        // SAFETY: as above.
        let addresses = owner.mem_alloc_low(unsafe { phys(array, pages) })?;
        // SAFETY: as above.
        unsafe {
            kernel.write(addresses.kernel);
            user.write(addresses.user);
        }
        Ok(())
    }))
}

/// Frees [`low_alloc`] memory by either address. Class T. 0, `VERR_INVALID_PARAMETER`.
pub unsafe fn low_free<R: Ring0>(owner: *mut SessionView, address: usize) -> i32 {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { free_memory::<R>(owner, MemKind::Low, address) }
}

/// Memory for both rings, 1 byte to 4 MiB less one. Class T. 0, `VERR_INVALID_POINTER`, `VERR_INVALID_PARAMETER`, `VERR_NO_MEMORY`,
/// `VERR_MAP_FAILED`.
pub unsafe fn mem_alloc<R: Ring0>(
    owner: *mut SessionView,
    bytes: u32,
    kernel: *mut usize,
    user: *mut usize,
) -> i32 {
    // SAFETY: the caller keeps the contract of the C function.
    rc(unsafe { session::<R>(owner) }.and_then(|owner| {
        let (kernel, user) = (pointer::<R, _>(kernel)?, pointer::<R, _>(user)?);
        let addresses = owner.mem_alloc(bytes as usize)?;
        // SAFETY: as above.
        unsafe {
            kernel.write(addresses.kernel);
            user.write(addresses.user);
        }
        Ok(())
    }))
}

/// Frees [`mem_alloc`] memory by either address. Class T. 0, `VERR_INVALID_PARAMETER`.
pub unsafe fn mem_free<R: Ring0>(owner: *mut SessionView, address: usize) -> i32 {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { free_memory::<R>(owner, MemKind::Mem, address) }
}

/// The physical addresses of [`mem_alloc`] memory, of all its pages. Class T. 0, `VERR_INVALID_POINTER`, `VERR_INVALID_PARAMETER`.
pub unsafe fn mem_get_phys<R: Ring0>(owner: *mut SessionView, address: usize, pages: *mut Page) -> i32 {
    // SAFETY: the caller keeps the contract of the C function.
    rc(unsafe { session::<R>(owner) }.and_then(|owner| {
        let pages = pointer::<R, _>(pages)?;
        owner.mem_get_phys(address, |index, phys| {
            let page = Page { phys: [phys as u32, (phys >> 32) as u32], reserved: 0 };
            // SAFETY: as above: there is room for all pages of the object.
            unsafe { pages.add(index).write_unaligned(page) };
        })
    }))
}

/// Pages for ring-3, ring-0 or both; unwanted addresses and the array may be null. Class T. 0, `VERR_INVALID_POINTER`,
/// `VERR_INVALID_PARAMETER`, `VERR_PAGE_COUNT_OUT_OF_RANGE`, `VERR_NOT_SUPPORTED`, `VERR_NO_MEMORY`, `VERR_MAP_FAILED`.
pub unsafe fn page_alloc_ex<R: Ring0>(
    owner: *mut SessionView,
    pages: u32,
    flags: u32,
    user: *mut usize,
    kernel: *mut usize,
    array: *mut u64,
) -> i32 {
    // SAFETY: the caller keeps the contract of the C function.
    rc(unsafe { session::<R>(owner) }.and_then(|owner| {
        for out in [user, kernel] {
            if !out.is_null() {
                pointer::<R, _>(out)?;
            }
        }
        let mappings = match (user.is_null(), kernel.is_null()) {
            (true, true) => return Err(VERR_INVALID_PARAMETER),
            (true, false) => PageMappings::Kernel,
            (false, true) => PageMappings::User,
            (false, false) => PageMappings::UserAndKernel,
        };
        if flags != 0 {
            return Err(VERR_INVALID_PARAMETER);
        }
        if pages == 0 || pages > MAX_PAGE_ALLOC_PAGES {
            return Err(VERR_PAGE_COUNT_OUT_OF_RANGE);
        }
        // SAFETY: as above.
        let phys = if array.is_null() { &mut [] } else { unsafe { phys(array, pages) } };
        let addresses = owner.page_alloc(pages, mappings, phys)?;
        // SAFETY: as above.
        unsafe {
            if let Some(user) = user.as_mut() {
                *user = addresses.user;
            }
            if let Some(kernel) = kernel.as_mut() {
                *kernel = addresses.kernel;
            }
        }
        Ok(())
    }))
}

/// Frees [`page_alloc_ex`] memory by either address. Class T. 0, `VERR_INVALID_PARAMETER`.
pub unsafe fn page_free<R: Ring0>(owner: *mut SessionView, address: usize) -> i32 {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { free_memory::<R>(owner, MemKind::Page, address) }
}

/// Registers an object; its id, null for bad arguments or no memory. Class T.
pub unsafe fn obj_register<R: Ring0>(
    owner: *mut SessionView,
    object_type: u32,
    destructor: Option<Destructor>,
    user1: *mut c_void,
    user2: *mut c_void,
) -> *mut c_void {
    // SAFETY: the caller keeps the contract of the C function.
    let result = unsafe { session::<R>(owner) }.and_then(|owner| {
        let destructor = destructor.ok_or(VERR_INVALID_POINTER)?;
        pointer::<R, _>(destructor as *mut c_void)?;
        let what = Registration { object_type, destructor, user1, user2 };
        owner.driver().objects().register(owner.key(), &owner.creator(), owner.ext(), &what)
    });
    result.map_or(null_mut(), |id| id.0.as_ptr().cast())
}

/// Adds a reference of a session. Class T. 0, `VERR_INVALID_PARAMETER`, `VERR_INVALID_POINTER`, `VERR_WRONG_ORDER`, `VERR_NO_MEMORY`.
pub unsafe fn obj_add_ref<R: Ring0>(object: *mut c_void, owner: *mut SessionView) -> i32 {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { obj_add_ref_ex::<R>(object, owner, 0) }
}

/// As [`obj_add_ref`]; class I with `no_blocking`, and then also `VERR_TRY_AGAIN`.
pub unsafe fn obj_add_ref_ex<R: Ring0>(
    object: *mut c_void,
    owner: *mut SessionView,
    no_blocking: CBool,
) -> i32 {
    // SAFETY: the caller keeps the contract of the C function.
    rc(unsafe { session::<R>(owner) }.and_then(|owner| {
        let id = ObjectId(pointer::<R, _>(object.cast::<ObjectView>())?);
        let objects = owner.driver().objects();
        // SAFETY: as above: the caller keeps the object's memory alive.
        unsafe {
            if no_blocking != 0 {
                objects.add_ref_no_block(owner.key(), id)
            } else {
                objects.add_ref(owner.key(), id)
            }
        }
    }))
}

/// Drops a reference of a session. Class T if it may be the last one, else class I. 0, `VINF_OBJECT_DESTROYED`, `VERR_INVALID_PARAMETER`.
pub unsafe fn obj_release<R: Ring0>(object: *mut c_void, owner: *mut SessionView) -> i32 {
    // SAFETY: the caller keeps the contract of the C function.
    let result = unsafe { session::<R>(owner) }.and_then(|owner| {
        let object = pointer::<R, _>(object.cast::<ObjectView>()).map_err(|_| VERR_INVALID_PARAMETER)?;
        // SAFETY: as above.
        unsafe { owner.driver().objects().release(owner.key(), ObjectId(object)) }
    });
    released(result)
}

/// The C result of a release.
pub(super) fn released(result: Result<Released>) -> i32 {
    match result {
        Ok(Released::Alive) => VINF_SUCCESS.0,
        Ok(Released::Destroyed) => VINF_OBJECT_DESTROYED.0,
        Err(status) => status.0,
    }
}

/// Whether a session may use an object; the name (may be null) is for the policy. Class of the caller. 0, `VERR_INVALID_PARAMETER`,
/// `VERR_PERMISSION_DENIED`, or the policy's.
pub unsafe fn obj_verify_access<R: Ring0>(
    object: *mut c_void,
    owner: *mut SessionView,
    name: *const c_char,
) -> i32 {
    // SAFETY: the caller keeps the contract of the C function.
    rc(unsafe { session::<R>(owner) }.and_then(|owner| {
        let object = pointer::<R, _>(object.cast::<ObjectView>()).map_err(|_| VERR_INVALID_PARAMETER)?;
        // SAFETY: as above.
        unsafe {
            let name = (!name.is_null()).then(|| CStr::from_ptr(name));
            let objects = owner.driver().objects();
            objects.verify_access(owner.uid(), owner.ext(), ObjectId(object), name)
        }
    }))
}
