//! Objects that modules know by a pointer.
//!
//! Every kind has a magic of its own, first in the object, so that a handle of another kind, or of an object that is gone, is noticed where the
//! memory can still be read. An object dies once: whoever turns its magic owns it.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, Ordering};

use crate::abi::status::{Result, VERR_INVALID_HANDLE};
use crate::heap::Box;
use crate::os::{OsHeap, SupdrvOs};

/// What every dead object has for a magic.
const DEAD: u32 = 0x6465_6164;

/// A kind of object.
pub trait Kind {
    /// Its magic.
    const MAGIC: u32;
}

/// An object.
#[repr(C)]
pub struct Object<T> {
    magic: AtomicU32,
    pub value: T,
}

/// Whether a handle can be the address of an object.
fn looks_like_object(handle: usize) -> bool {
    handle >= 0x1000 && handle.is_multiple_of(align_of::<AtomicU32>()) && handle < usize::MAX - 0x1000
}

/// Makes an object; its address is its handle.
///
/// # Errors
/// `VERR_NO_MEMORY`; the value is dropped then.
pub fn create<T: Kind, O: SupdrvOs>(os: &O, value: T) -> Result<Box<Object<T>, O>> {
    Box::new(os, Object { magic: AtomicU32::new(T::MAGIC), value })
}

/// Gives an object to the module; the handle.
pub fn publish<T, O: OsHeap + Clone>(object: Box<Object<T>, O>) -> usize {
    object.into_raw().as_ptr() as usize
}

/// The object of a handle.
///
/// # Errors
/// `VERR_INVALID_HANDLE`.
///
/// # Safety
/// A handle that isn't 0 points to readable memory; an object that has this kind's magic stays alive during the use of the result.
pub unsafe fn get<'a, T: Kind>(handle: usize) -> Result<&'a T> {
    if !looks_like_object(handle) {
        return Err(VERR_INVALID_HANDLE);
    }
    // SAFETY: readable (condition of the function); only the magic is read as long as it may be something else.
    let magic = unsafe { &*(handle as *const AtomicU32) };
    if magic.load(Ordering::Relaxed) != T::MAGIC {
        return Err(VERR_INVALID_HANDLE);
    }
    // SAFETY: the magic says that it is an object of this kind.
    Ok(&unsafe { &*(handle as *const Object<T>) }.value)
}

/// Ends an object: its owner is the caller from now on.
///
/// # Errors
/// `VERR_INVALID_HANDLE`, also if somebody else has ended it.
///
/// # Safety
/// As for [`get`].
pub unsafe fn take<T: Kind, O: SupdrvOs>(os: &O, handle: usize) -> Result<Box<Object<T>, O>> {
    // SAFETY: conditions of the function.
    unsafe { end::<T>(handle)? };
    // SAFETY: `publish` made the handle of a Box, and only the one who turns the magic takes it back.
    NonNull::new(handle as *mut Object<T>)
        .map(|object| unsafe { Box::from_raw(os, object) })
        .ok_or(VERR_INVALID_HANDLE)
}

/// Makes a handle invalid; the object lives on until [`free`].
///
/// # Errors
/// As for [`take`].
///
/// # Safety
/// As for [`get`].
pub unsafe fn end<'a, T: Kind>(handle: usize) -> Result<&'a T> {
    // SAFETY: conditions of the function.
    unsafe { get::<T>(handle)? };
    // SAFETY: as in `get`: it was an object of this kind a moment ago.
    let object = unsafe { &*(handle as *const Object<T>) };
    let turned = object.magic.compare_exchange(T::MAGIC, DEAD, Ordering::Relaxed, Ordering::Relaxed);
    turned.map(|_| &object.value).map_err(|_| VERR_INVALID_HANDLE)
}

/// Makes the handle of an object valid again that [`take`] ended, and that could not be done away with.
pub fn revive<T: Kind, O: OsHeap>(object: &Box<Object<T>, O>) {
    object.magic.store(T::MAGIC, Ordering::Relaxed);
}

/// Frees an object that [`end`] made invalid.
///
/// # Safety
/// `value` is the value of such an object; nobody uses it any more.
pub unsafe fn free<T, O: SupdrvOs>(os: &O, value: &T) {
    // SAFETY: the value is inside an object of its type.
    let object = unsafe { NonNull::from(value).byte_sub(core::mem::offset_of!(Object<T>, value)).cast() };
    // SAFETY: it came from `publish`, and this is the one time that it is taken back (condition of the function).
    drop(unsafe { Box::<Object<T>, O>::from_raw(os, object) });
}
