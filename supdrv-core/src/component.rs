//! Component factories: how sibling drivers offer interfaces to code that the driver loads.
//!
//! A factory is a record that its driver owns; the registry stores its address. Queries ask the factories of a name in the
//! order of their registration, with the component mutex held: when deregistration returns, no query is inside the factory.

use core::ffi::{CStr, c_char, c_void};
use core::ops::Bound;
use core::ptr::NonNull;

use crate::abi::published::{Factory, SessionView};
use crate::abi::status::{
    Result, VERR_ACCESS_DENIED, VERR_ALREADY_EXISTS, VERR_INVALID_PARAMETER, VERR_INVALID_POINTER,
    VERR_NOT_FOUND, VERR_SUPDRV_COMPONENT_NOT_FOUND, VERR_SUPDRV_INTERFACE_NOT_SUPPORTED,
};
use crate::object::SessionKey;
use crate::os::{LockClass, SupdrvOs};
use crate::session::Session;
use crate::sync::Mutex;
use crate::tree::{Node, Tree};

/// Bytes of a factory's name field.
pub const FACTORY_NAME_BYTES: usize = 56;
/// Most bytes of an interface's UUID in text form, with its NUL.
pub const MAX_UUID_BYTES: usize = 37;

/// Asks a factory for an interface; null declines. Class T; must not use the registry.
pub type QueryInterface = unsafe extern "C" fn(
    factory: *const Factory,
    session: *mut SessionView,
    uuid: *const c_char,
) -> *mut c_void;

/// A factory record that stays valid and unchanged while it is registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct FactoryId(NonNull<Factory>);

// SAFETY: the address of a record that its owner promised not to change; only read.
unsafe impl Send for FactoryId {}

struct Registration {
    owner: SessionKey,
    number: u64,
}

struct Registry<O: SupdrvOs> {
    by_record: Tree<FactoryId, Registration, O>,
    /// In the order of registration.
    by_number: Tree<u64, FactoryId, O>,
    by_owner: Tree<(SessionKey, u64), FactoryId, O>,
    last: u64,
}

impl<O: SupdrvOs> Registry<O> {
    fn remove(&mut self, id: FactoryId) -> Option<impl Sized + use<O>> {
        let node = self.by_record.remove(&id)?;
        let number = node.value().number;
        let owner = node.value().owner;
        Some((node, self.by_number.remove(&number), self.by_owner.remove(&(owner, number))))
    }
}

/// The registry of a driver.
pub struct Components<O: SupdrvOs> {
    os: O,
    registry: Mutex<Registry<O>, O>,
}

impl<O: SupdrvOs> Components<O> {
    pub(crate) fn new(os: &O) -> Result<Self> {
        let registry =
            Registry { by_record: Tree::new(), by_number: Tree::new(), by_owner: Tree::new(), last: 0 };
        Ok(Self { os: os.clone(), registry: Mutex::new(os, LockClass::Component, registry)? })
    }

    pub(crate) fn mutex_handle(&self) -> usize {
        self.registry.handle()
    }

    /// Number of factories. Class T.
    pub fn count(&self) -> usize {
        self.registry.lock().by_record.len()
    }

    /// The record at an address, for a session that may register records.
    fn record(&self, session: &Session<O>, factory: *mut Factory) -> Result<NonNull<Factory>> {
        if session.owner().kind.is_user() {
            return Err(VERR_ACCESS_DENIED);
        }
        let plausible = self.os.is_plausible_address(factory as usize);
        NonNull::new(factory).filter(|_| plausible).ok_or(VERR_INVALID_POINTER)
    }

    /// Registers a factory; equal names are allowed. Class T, may block.
    ///
    /// # Errors
    /// `VERR_ACCESS_DENIED` (not a kernel session), `VERR_INVALID_POINTER` (the record's address, or that of its callback, can't be
    /// one), `VERR_INVALID_PARAMETER` (name not terminated), `VERR_NO_MEMORY`, `VERR_ALREADY_EXISTS` (the same record).
    ///
    /// # Safety
    /// If its address is plausible, the record stays valid and unchanged, and its callback stays callable, until it is deregistered
    /// or the session is closed.
    #[doc(alias = "SUPR0ComponentRegisterFactory")]
    pub unsafe fn register(&self, session: &Session<O>, factory: *mut Factory) -> Result<()> {
        let factory = self.record(session, factory)?;
        // SAFETY: the record is valid (condition of the function).
        let record = unsafe { factory.as_ref() };
        if !self.os.is_plausible_address(record.query) {
            return Err(VERR_INVALID_POINTER);
        }
        if !record.name.contains(&0) {
            return Err(VERR_INVALID_PARAMETER);
        }
        let (id, owner) = (FactoryId(factory), session.key());
        let mut by_record = Node::new(&self.os, id, Registration { owner, number: 0 })?;
        let mut by_number = Node::new(&self.os, 0, id)?;
        let mut by_owner = Node::new(&self.os, (owner, 0), id)?;
        let mut registry = self.registry.lock();
        if registry.by_record.get(&id).is_some() {
            return Err(VERR_ALREADY_EXISTS);
        }
        registry.last = registry.last.wrapping_add(1);
        let number = registry.last;
        by_record.value_mut().number = number;
        by_number.set_key(number);
        by_owner.set_key((owner, number));
        let unique = registry.by_record.insert(by_record).is_ok()
            && registry.by_number.insert(by_number).is_ok()
            && registry.by_owner.insert(by_owner).is_ok();
        debug_assert!(unique);
        Ok(())
    }

    /// Deregisters a factory of this session; no query is inside it when this returns. Class T, may block.
    ///
    /// # Errors
    /// `VERR_ACCESS_DENIED` (not a kernel session), `VERR_INVALID_POINTER` (the address can't be one), `VERR_NOT_FOUND` (not
    /// registered, or by somebody else).
    #[doc(alias = "SUPR0ComponentDeregisterFactory")]
    pub fn deregister(&self, session: &Session<O>, factory: *mut Factory) -> Result<()> {
        let id = FactoryId(self.record(session, factory)?);
        let mut registry = self.registry.lock();
        let owner = registry.by_record.get(&id).ok_or(VERR_NOT_FOUND)?.owner;
        if owner != session.key() {
            return Err(VERR_NOT_FOUND);
        }
        let removed = registry.remove(id);
        drop(registry);
        removed.map(drop).ok_or(VERR_NOT_FOUND)
    }

    /// Asks the factories of this name for an interface. Class T, may block.
    ///
    /// # Errors
    /// `VERR_INVALID_PARAMETER` (name or UUID too long), `VERR_SUPDRV_COMPONENT_NOT_FOUND` (no factory of that name),
    /// `VERR_SUPDRV_INTERFACE_NOT_SUPPORTED` (all of them declined).
    #[doc(alias = "SUPR0ComponentQueryFactory")]
    pub fn query(&self, session: &Session<O>, name: &CStr, uuid: &CStr) -> Result<NonNull<c_void>> {
        let name = name.to_bytes_with_nul();
        if name.len() > FACTORY_NAME_BYTES || uuid.to_bytes_with_nul().len() > MAX_UUID_BYTES {
            return Err(VERR_INVALID_PARAMETER);
        }
        let registry = self.registry.lock();
        let mut status = VERR_SUPDRV_COMPONENT_NOT_FOUND;
        for (_, id) in registry.by_number.iter() {
            // SAFETY: registered records stay valid (condition of `register`).
            let factory = unsafe { id.0.as_ref() };
            if !factory.name.starts_with(name) {
                continue;
            }
            // SAFETY: the record's callback is one (condition of `register`).
            let query = unsafe { core::mem::transmute::<usize, QueryInterface>(factory.query) };
            // SAFETY: class T; all three arguments are valid during the call.
            let interface = unsafe { query(id.0.as_ptr(), session.view().as_ptr(), uuid.as_ptr()) };
            match NonNull::new(interface) {
                Some(interface) => return Ok(interface),
                None => status = VERR_SUPDRV_INTERFACE_NOT_SUPPORTED,
            }
        }
        Err(status)
    }

    /// Removes a session's factories.
    pub(crate) fn session_closing(&self, owner: SessionKey) {
        loop {
            let mut registry = self.registry.lock();
            let first = registry.by_owner.lower_bound(Bound::Included(&(owner, 0)));
            let Some((_, &id)) = first.filter(|((found, _), _)| *found == owner) else { return };
            let removed = registry.remove(id);
            drop(registry);
            drop(removed);
        }
    }

    /// Removes factories whose record or callback is inside an image that goes away; returns how many.
    pub(crate) fn image_closing(&self, base: usize, size_bytes: usize) -> usize {
        let inside = |address: usize| address.wrapping_sub(base) < size_bytes;
        let mut removed = 0;
        loop {
            let mut registry = self.registry.lock();
            let found = registry.by_number.iter().map(|(_, id)| *id).find(|id| {
                // SAFETY: registered records stay valid (condition of `register`).
                inside(id.0.as_ptr() as usize) || inside(unsafe { id.0.as_ref() }.query)
            });
            let Some(id) = found else { return removed };
            let node = registry.remove(id);
            drop(registry);
            drop(node);
            removed += 1;
        }
    }
}
