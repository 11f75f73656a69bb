//! Types that modules registered for `%R[name]`.

use core::ffi::{CStr, c_char, c_void};
use core::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use super::super::runtime::{Ring0, rc};
use super::super::types::StrFormatType;
use crate::abi::status::{
    Result, VERR_ALREADY_EXISTS, VERR_INVALID_PARAMETER, VERR_INVALID_POINTER, VERR_NOT_FOUND,
    VERR_OUT_OF_RESOURCES,
};

/// Types that can be registered at a time.
const SLOTS: usize = 64;
/// Longest name.
const MAX_NAME_BYTES: usize = 47;

/// A type; it is free while its handler is 0. The formatter reads without a lock, in any context.
struct Slot {
    name: [AtomicU8; MAX_NAME_BYTES + 1],
    handler: AtomicUsize,
    user: AtomicUsize,
}

/// All types.
pub struct Types {
    slots: [Slot; SLOTS],
    /// Writers exclude each other; they are in class T.
    writers: spin::Mutex<()>,
}

impl Slot {
    const fn new() -> Self {
        Self {
            name: [const { AtomicU8::new(0) }; MAX_NAME_BYTES + 1],
            handler: AtomicUsize::new(0),
            user: AtomicUsize::new(0),
        }
    }

    fn is_named(&self, name: &[u8]) -> bool {
        self.handler.load(Ordering::Acquire) != 0
            && name.len() <= MAX_NAME_BYTES
            && self.name.iter().zip(name.iter().chain([&0])).all(|(a, b)| a.load(Ordering::Relaxed) == *b)
    }
}

impl Types {
    pub const fn new() -> Self {
        Self { slots: [const { Slot::new() }; SLOTS], writers: spin::Mutex::new(()) }
    }

    fn find(&self, name: &[u8]) -> Option<&Slot> {
        self.slots.iter().find(|slot| slot.is_named(name))
    }

    /// The handler of a type, with its argument.
    pub fn handler(&self, name: &[u8]) -> Option<(StrFormatType, *mut c_void)> {
        let slot = self.find(name)?;
        let handler = slot.handler.load(Ordering::Acquire);
        if handler == 0 {
            return None;
        }
        // SAFETY: the only values but 0 that are stored are handlers.
        let handler = unsafe { core::mem::transmute::<usize, StrFormatType>(handler) };
        Some((handler, slot.user.load(Ordering::Relaxed) as *mut c_void))
    }

    fn register(&self, name: &[u8], handler: StrFormatType, user: *mut c_void) -> Result<()> {
        if name.is_empty() || name.len() > MAX_NAME_BYTES {
            return Err(VERR_INVALID_PARAMETER);
        }
        let _writer = self.writers.lock();
        if self.find(name).is_some() {
            return Err(VERR_ALREADY_EXISTS);
        }
        let free = self.slots.iter().find(|slot| slot.handler.load(Ordering::Relaxed) == 0);
        let slot = free.ok_or(VERR_OUT_OF_RESOURCES)?;
        for (to, from) in slot.name.iter().zip(name.iter().chain([&0])) {
            to.store(*from, Ordering::Relaxed);
        }
        slot.user.store(user as usize, Ordering::Relaxed);
        slot.handler.store(handler as usize, Ordering::Release);
        Ok(())
    }

    /// Forgets all types.
    pub fn clear(&self) {
        for slot in &self.slots {
            slot.handler.store(0, Ordering::Release);
        }
    }
}

/// # Safety
/// `name` is null or a C string.
unsafe fn name_of<'a>(name: *const c_char) -> Result<&'a [u8]> {
    if name.is_null() {
        return Err(VERR_INVALID_POINTER);
    }
    // SAFETY: condition of the function.
    Ok(unsafe { CStr::from_ptr(name) }.to_bytes())
}

/// Adds a type: at most 64, names of at most 47 bytes. Class T. 0, `VERR_INVALID_POINTER`, `VERR_INVALID_PARAMETER`, `VERR_ALREADY_EXISTS`,
/// `VERR_OUT_OF_RESOURCES`.
pub unsafe fn format_type_register<R: Ring0>(
    name: *const c_char,
    handler: Option<StrFormatType>,
    user: *mut c_void,
) -> i32 {
    let Some(handler) = handler else { return VERR_INVALID_POINTER.0 };
    // SAFETY: the caller keeps the contract of the C function.
    rc(unsafe { name_of(name) }.and_then(|name| R::state().types.register(name, handler, user)))
}

/// Removes a type, which nobody formats any more. Class T. 0, `VERR_INVALID_POINTER`, `VERR_NOT_FOUND`.
pub unsafe fn format_type_deregister<R: Ring0>(name: *const c_char) -> i32 {
    let types = &R::state().types;
    let _writer = types.writers.lock();
    // SAFETY: the caller keeps the contract of the C function.
    rc(unsafe { name_of(name) }.and_then(|name| {
        let slot = types.find(name).ok_or(VERR_NOT_FOUND)?;
        slot.handler.store(0, Ordering::Release);
        Ok(())
    }))
}

/// Changes a type's argument. Class T. 0, `VERR_INVALID_POINTER`, `VERR_NOT_FOUND`.
pub unsafe fn format_type_set_user<R: Ring0>(name: *const c_char, user: *mut c_void) -> i32 {
    let types = &R::state().types;
    let _writer = types.writers.lock();
    // SAFETY: the caller keeps the contract of the C function.
    rc(unsafe { name_of(name) }.and_then(|name| {
        let slot = types.find(name).ok_or(VERR_NOT_FOUND)?;
        slot.user.store(user as usize, Ordering::Relaxed);
        Ok(())
    }))
}
