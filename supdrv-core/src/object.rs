//! The registry of reference-counted objects that modules share between sessions.
//!
//! An *object* is what a module registered: a type, a destructor and two arguments for it. A *usage* says how often one
//! session references one object; the object lives as long as any session has a usage.
//!
//! ```text
//!   register ──► live ──last usage gone──► dying (destructor runs, no lock held) ──► freed
//! ```
//!
//! C code sees an object as an [`ObjectView`] with a magic; its address is the object's id. A dying object answers new
//! references with `VERR_WRONG_ORDER`.
//!
//! All state is in one [`Registry`] under the device lock, which is IRQ-safe: references to an object that the session has
//! already, and releases that aren't the last, work with interrupts off. What needs memory gets it before the lock is taken.

use core::ffi::c_void;
use core::ops::Bound;
use core::ptr::NonNull;
use core::sync::atomic::Ordering;

use crate::abi::ioctl::{OBJECT_MAGIC, OBJECT_MAGIC_DEAD, OBJECT_TYPE_END, OBJECT_TYPE_INVALID};
use crate::abi::published::ObjectView;
use crate::abi::status::{
    Result, VERR_INVALID_PARAMETER, VERR_PERMISSION_DENIED, VERR_TRY_AGAIN, VERR_WRONG_ORDER,
};
use crate::heap::Box;
use crate::os::{ObjectCreator, OsHeap, SupdrvOs};
use crate::sync::IrqSpinLock;
use crate::tree::{Node, Tree};

/// Called once when the last reference to an object is gone: class T, no locks held, may block and may release other
/// objects. The arguments are the object's id and the two values it was registered with.
pub type Destructor = unsafe extern "C" fn(object: *mut c_void, user1: *mut c_void, user2: *mut c_void);

/// The id of an object: the address of its published view.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(transparent)]
pub struct ObjectId(pub NonNull<ObjectView>);

/// A session as the registry knows it: by the address of its published view.
pub type SessionKey = usize;

/// What a release did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Released {
    /// Other references remain.
    Alive,
    /// It was the last reference; the destructor ran.
    Destroyed,
}

/// What a module registers.
#[derive(Clone, Copy, Debug)]
pub struct Registration {
    /// One of the seed's object types.
    pub object_type: u32,
    /// What to call in the end.
    pub destructor: Destructor,
    /// First argument for it.
    pub user1: *mut c_void,
    /// Second argument for it.
    pub user2: *mut c_void,
}

struct Usage {
    count: u32,
    /// Position of the session's first reference in its history.
    first: u64,
}

type UsageNode<O> = Node<(SessionKey, ObjectId), Usage, O>;
type HistoryNode<O> = Node<(SessionKey, u64), ObjectId, O>;

/// Memory for one usage, ready to be filled in.
struct SpareUsage<O: OsHeap>(UsageNode<O>, HistoryNode<O>);

impl<O: OsHeap + Clone> SpareUsage<O> {
    fn new(os: &O, object: ObjectId) -> Result<Self> {
        let usage = Node::new(os, (0, object), Usage { count: 0, first: 0 })?;
        Ok(Self(usage, Node::new(os, (0, 0), object)?))
    }
}

/// Objects and usages; the data of the device lock.
pub struct Registry<O: OsHeap> {
    /// By destructor address first, so that the destructors inside an image are found as a range.
    objects: Tree<(usize, ObjectId), (), O>,
    usages: Tree<(SessionKey, ObjectId), Usage, O>,
    history: Tree<(SessionKey, u64), ObjectId, O>,
    spare_usages: Tree<(SessionKey, ObjectId), Usage, O>,
    spare_history: Tree<(SessionKey, u64), ObjectId, O>,
    clock: u64,
}

/// Spare usages kept for references that must not block.
const MAX_SPARES: usize = 256;

impl<O: OsHeap> Default for Registry<O> {
    fn default() -> Self {
        Self::new()
    }
}

impl<O: OsHeap> Registry<O> {
    /// An empty registry.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            objects: Tree::new(),
            usages: Tree::new(),
            history: Tree::new(),
            spare_usages: Tree::new(),
            spare_history: Tree::new(),
            clock: 0,
        }
    }

    /// Number of registered objects.
    #[must_use]
    pub const fn object_count(&self) -> usize {
        self.objects.len()
    }

    fn tick(&mut self) -> u64 {
        self.clock = self.clock.wrapping_add(1);
        self.clock
    }

    fn use_spare(&mut self, session: SessionKey, id: ObjectId, spare: SpareUsage<O>) {
        let first = self.tick();
        let SpareUsage(mut usage, mut history) = spare;
        usage.set_key((session, id));
        *usage.value_mut() = Usage { count: 1, first };
        history.set_key((session, first));
        *history.value_mut() = id;
        let unique = self.usages.insert(usage).is_ok() && self.history.insert(history).is_ok();
        debug_assert!(unique);
    }

    fn take_spare(&mut self) -> Option<SpareUsage<O>> {
        Some(SpareUsage(self.spare_usages.pop_first()?, self.spare_history.pop_first()?))
    }

    fn keep_spare(&mut self, spare: SpareUsage<O>) {
        let SpareUsage(mut usage, mut history) = spare;
        let number = self.tick();
        usage.set_key((number as usize, *history.value()));
        history.set_key((0, number));
        let unique = self.spare_usages.insert(usage).is_ok() && self.spare_history.insert(history).is_ok();
        debug_assert!(unique);
    }

    /// A spare beyond [`MAX_SPARES`], for a caller that may free it.
    fn surplus(&mut self) -> Option<SpareUsage<O>> {
        if self.spare_usages.len() > MAX_SPARES { self.take_spare() } else { None }
    }

    /// Removes a usage record.
    fn forget(&mut self, session: SessionKey, id: ObjectId) -> Option<SpareUsage<O>> {
        let usage = self.usages.remove(&(session, id))?;
        let history = self.history.remove(&(session, usage.value().first))?;
        Some(SpareUsage(usage, history))
    }

    /// The destructors inside `[base, base + size)`, each with its object.
    fn next_in_image(
        &self,
        base: usize,
        size: usize,
        after: Option<(usize, ObjectId)>,
    ) -> Option<(usize, ObjectId)> {
        let start = (base, ObjectId(NonNull::dangling()));
        let bound = match &after {
            Some(key) => Bound::Excluded(key),
            None => Bound::Included(&start),
        };
        let (key, ()) = self.objects.lower_bound(bound)?;
        (key.0.wrapping_sub(base) < size).then_some(*key)
    }
}

fn new_view(what: &Registration, creator: &ObjectCreator) -> ObjectView {
    ObjectView {
        magic: OBJECT_MAGIC.into(),
        object_type: what.object_type,
        next: 0,
        destructor: (what.destructor as usize).into(),
        user1: what.user1 as usize,
        user2: what.user2 as usize,
        usage: 1.into(),
        creator_uid: creator.uid,
        creator_gid: creator.gid,
        creator_process: creator.process,
    }
}

fn creator_of(object: &ObjectView) -> ObjectCreator {
    ObjectCreator { uid: object.creator_uid, gid: object.creator_gid, process: object.creator_process }
}

fn is_type(object_type: u32) -> bool {
    object_type > OBJECT_TYPE_INVALID && object_type < OBJECT_TYPE_END
}

/// The object registry of a driver.
pub struct Objects<O: SupdrvOs> {
    os: O,
    registry: IrqSpinLock<Registry<O>, O>,
}

impl<O: SupdrvOs> Objects<O> {
    /// Wraps the device lock and what it protects.
    pub const fn new(os: O, registry: IrqSpinLock<Registry<O>, O>) -> Self {
        Self { os, registry }
    }

    /// The device lock's native handle, for the published view.
    pub fn lock_handle(&self) -> usize {
        self.registry.handle()
    }

    /// Number of registered objects.
    pub fn count(&self) -> usize {
        self.registry.lock().object_count()
    }

    /// Registers an object; the session gets the first reference. Class T, may block.
    ///
    /// # Errors
    /// `VERR_INVALID_PARAMETER` (type), `VERR_NO_MEMORY`.
    pub fn register(
        &self,
        session: SessionKey,
        creator: &ObjectCreator,
        ext: &O::SessionExt,
        what: &Registration,
    ) -> Result<ObjectId> {
        if !is_type(what.object_type) {
            return Err(VERR_INVALID_PARAMETER);
        }
        let mut object = Box::new(&self.os, new_view(what, creator))?;
        let id = ObjectId(object.as_ptr());
        let node = Node::new(&self.os, (what.destructor as usize, id), ())?;
        let spare = SpareUsage::new(&self.os, id)?;
        // Last: nothing undoes what the system notes.
        self.os.obj_init_creator(&mut object, ext);
        let mut registry = self.registry.lock();
        let unique = registry.objects.insert(node).is_ok();
        debug_assert!(unique);
        registry.use_spare(session, id, spare);
        drop(registry);
        let _owned_by_registry = object.into_raw();
        Ok(id)
    }

    /// Adds a reference of a session. Class T, may block.
    ///
    /// # Errors
    /// `VERR_INVALID_PARAMETER` (not an object), `VERR_WRONG_ORDER` (dying), `VERR_NO_MEMORY`.
    ///
    /// # Safety
    /// The caller holds something that keeps the memory of `id` alive.
    pub unsafe fn add_ref(&self, session: SessionKey, id: ObjectId) -> Result<()> {
        // SAFETY: the caller keeps the memory alive.
        match unsafe { self.add_ref_no_block(session, id) } {
            Err(VERR_TRY_AGAIN) => {}
            other => return other,
        }
        let spare = SpareUsage::new(&self.os, id)?;
        let mut registry = self.registry.lock();
        registry.keep_spare(spare);
        // SAFETY: as above.
        let result = unsafe { Self::add_ref_locked(&mut registry, session, id) };
        drop(registry);
        self.trim();
        result
    }

    /// Adds a reference without allocating: for callers with interrupts off. Class I.
    ///
    /// It always works if the session references the object already, and practically always otherwise.
    ///
    /// # Errors
    /// `VERR_INVALID_PARAMETER`, `VERR_WRONG_ORDER` as for [`add_ref`](Self::add_ref); `VERR_TRY_AGAIN` when memory would be
    /// needed.
    ///
    /// # Safety
    /// As for [`add_ref`](Self::add_ref).
    pub unsafe fn add_ref_no_block(&self, session: SessionKey, id: ObjectId) -> Result<()> {
        let mut registry = self.registry.lock();
        // SAFETY: the caller keeps the memory alive.
        unsafe { Self::add_ref_locked(&mut registry, session, id) }
    }

    /// Uses one of the registry's spares if the session has no usage yet.
    ///
    /// # Safety
    /// As for [`add_ref`](Self::add_ref).
    unsafe fn add_ref_locked(registry: &mut Registry<O>, session: SessionKey, id: ObjectId) -> Result<()> {
        // SAFETY: the caller keeps the memory alive; all fields that change are atomics.
        let object = unsafe { id.0.as_ref() };
        match object.magic.load(Ordering::Relaxed) {
            OBJECT_MAGIC => {}
            OBJECT_MAGIC_DEAD => return Err(VERR_WRONG_ORDER),
            _ => return Err(VERR_INVALID_PARAMETER),
        }
        if let Some(usage) = registry.usages.get_mut(&(session, id)) {
            usage.count = usage.count.checked_add(1).ok_or(VERR_TRY_AGAIN)?;
        } else {
            let spare = registry.take_spare().ok_or(VERR_TRY_AGAIN)?;
            registry.use_spare(session, id, spare);
        }
        object.usage.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Drops a reference of a session. Class I if it can't be the last reference to the object, else class T.
    ///
    /// # Errors
    /// `VERR_INVALID_PARAMETER`: not a live object, or the session has no reference to it.
    ///
    /// # Safety
    /// As for [`add_ref`](Self::add_ref).
    pub unsafe fn release(&self, session: SessionKey, id: ObjectId) -> Result<Released> {
        // SAFETY: condition of the function.
        let released = unsafe { self.release_then(session, id, |_| None) }?;
        if released == Released::Destroyed {
            self.trim();
        }
        Ok(released)
    }

    /// Frees a few spares beyond [`MAX_SPARES`]: releases that may not free leave one each, so that a few at a time catch up. Class T.
    fn trim(&self) {
        for _ in 0..4 {
            let surplus = self.registry.lock().surplus();
            if surplus.is_none() {
                return;
            }
        }
    }

    /// Undoes a registration that nobody else has seen: like [`release`](Self::release), but keeps no memory for later. Class T.
    ///
    /// # Safety
    /// As for [`add_ref`](Self::add_ref).
    pub(crate) unsafe fn unregister(&self, session: SessionKey, id: ObjectId) {
        // SAFETY: condition of the function.
        let released = unsafe { self.release_then(session, id, Registry::take_spare) };
        debug_assert!(released == Ok(Released::Destroyed));
    }

    /// As [`release`](Self::release); `free` takes a spare out that is freed with the object.
    ///
    /// # Safety
    /// As for [`add_ref`](Self::add_ref).
    unsafe fn release_then(
        &self,
        session: SessionKey,
        id: ObjectId,
        free: impl FnOnce(&mut Registry<O>) -> Option<SpareUsage<O>>,
    ) -> Result<Released> {
        let mut registry = self.registry.lock();
        // SAFETY: the caller keeps the memory alive.
        let object = unsafe { id.0.as_ref() };
        if object.magic.load(Ordering::Relaxed) != OBJECT_MAGIC {
            return Err(VERR_INVALID_PARAMETER);
        }
        let usage = registry.usages.get_mut(&(session, id)).ok_or(VERR_INVALID_PARAMETER)?;
        usage.count -= 1;
        if usage.count == 0
            && let Some(spare) = registry.forget(session, id)
        {
            registry.keep_spare(spare);
        }
        if object.usage.fetch_sub(1, Ordering::Relaxed) > 1 {
            return Ok(Released::Alive);
        }
        let node = Self::kill(&mut registry, id);
        let spare = free(&mut registry);
        drop(registry);
        drop((node, spare));
        // SAFETY: the object was just taken out of the registry, by nobody else: its magic was live.
        unsafe { self.destroy(id) };
        Ok(Released::Destroyed)
    }

    /// Marks an object dying and takes it out of the registry.
    fn kill(registry: &mut Registry<O>, id: ObjectId) -> Option<Node<(usize, ObjectId), (), O>> {
        // SAFETY: the object is registered, hence alive; the registry is locked.
        let object = unsafe { id.0.as_ref() };
        object.magic.store(OBJECT_MAGIC_DEAD, Ordering::Relaxed);
        registry.objects.remove(&(object.destructor.load(Ordering::Relaxed), id))
    }

    /// Runs the destructor and frees the object.
    ///
    /// # Safety
    /// The caller took the object out of the registry with [`kill`](Self::kill), when its last usage was gone.
    unsafe fn destroy(&self, id: ObjectId) {
        // SAFETY: the caller owns the object now.
        let object = unsafe { Box::from_raw(&self.os, id.0) };
        let destructor = object.destructor.load(Ordering::Relaxed);
        if destructor != 0 {
            // SAFETY: the only non-zero value ever stored is a Destructor, and unloading its image would have cleared it.
            let destructor: Destructor = unsafe { core::mem::transmute(destructor) };
            // SAFETY: this is the one call that the registration promised: class T, no locks, both arguments as given.
            unsafe {
                destructor(id.0.as_ptr().cast(), object.user1 as *mut c_void, object.user2 as *mut c_void)
            };
        }
    }

    /// Whether a session may use an object: asks the system, else requires the creator's user id. Class of the caller.
    ///
    /// # Errors
    /// `VERR_INVALID_PARAMETER` (not a live object), `VERR_PERMISSION_DENIED`, or what the system's policy says.
    ///
    /// # Safety
    /// The caller has a reference to the object.
    pub unsafe fn verify_access(
        &self,
        session_uid: u32,
        ext: &O::SessionExt,
        id: ObjectId,
        name: Option<&core::ffi::CStr>,
    ) -> Result<()> {
        // SAFETY: the caller has a reference.
        let object = unsafe { id.0.as_ref() };
        if object.magic.load(Ordering::Relaxed) != OBJECT_MAGIC {
            return Err(VERR_INVALID_PARAMETER);
        }
        let creator = creator_of(object);
        match self.os.obj_can_access(object, ext, name) {
            Some(status) => status.into_result(),
            None if creator.uid == session_uid => Ok(()),
            None => Err(VERR_PERMISSION_DENIED),
        }
    }

    /// Drops all references of a session, most recently first referenced first. Class T.
    pub fn release_session(&self, session: SessionKey) {
        loop {
            let mut registry = self.registry.lock();
            let last = registry.history.upper_bound(Bound::Included(&(session, u64::MAX)));
            let Some((&(owner, _), &id)) = last else { return };
            if owner != session {
                return;
            }
            let Some(record) = registry.forget(session, id) else { return };
            let count = record.0.value().count;
            // SAFETY: the session references the object, so it is alive; the registry is locked.
            let object = unsafe { id.0.as_ref() };
            let was_last = object.usage.fetch_sub(count, Ordering::Relaxed) == count;
            let node = if was_last { Self::kill(&mut registry, id) } else { None };
            drop(registry);
            drop((record, node));
            if was_last {
                // SAFETY: just killed under the lock.
                unsafe { self.destroy(id) };
            }
        }
    }

    /// Whether an object with a destructor inside `[base, base + size_bytes)` exists; with `session`, one that this session
    /// references. Class I; the lock is taken anew for every object, so that interrupts aren't off for long.
    pub fn has_destructor_in(&self, base: usize, size_bytes: usize, session: Option<SessionKey>) -> bool {
        let mut after = None;
        loop {
            let registry = self.registry.lock();
            let Some(key) = registry.next_in_image(base, size_bytes, after) else { return false };
            if session.is_none_or(|session| registry.usages.get(&(session, key.1)).is_some()) {
                return true;
            }
            after = Some(key);
        }
    }

    /// Clears every destructor inside `[base, base + size_bytes)`, because that code is going away; returns how many. Class T.
    pub fn clear_destructors_in(&self, base: usize, size_bytes: usize) -> usize {
        let mut cleared = 0;
        loop {
            let mut registry = self.registry.lock();
            let Some(key) = registry.next_in_image(base, size_bytes, None) else { return cleared };
            let Some(mut node) = registry.objects.remove(&key) else { return cleared };
            // SAFETY: registered objects are alive; the registry is locked.
            unsafe { key.1.0.as_ref() }.destructor.store(0, Ordering::Relaxed);
            node.set_key((0, key.1));
            let unique = registry.objects.insert(node).is_ok();
            debug_assert!(unique);
            cleared += 1;
        }
    }

    /// Frees what is left when the driver goes away, without calling destructors: their owners are gone. Class T.
    pub fn clear(&self) {
        loop {
            let node = self.registry.lock().objects.pop_first();
            let Some(node) = node else { break };
            // SAFETY: registered objects are owned by the registry, which has just given this one up.
            drop(unsafe { Box::from_raw(&self.os, node.key().1.0) });
        }
        let mut registry = self.registry.lock();
        let trees = (
            core::mem::take(&mut registry.usages),
            core::mem::take(&mut registry.history),
            core::mem::take(&mut registry.spare_usages),
            core::mem::take(&mut registry.spare_history),
        );
        drop(registry);
        drop(trees);
    }
}

// The raw pointers in the registry are objects that the registry owns and accesses under its lock only.
// SAFETY: `ObjectId` is an address; what it points to is `Sync` (atomics and values that never change).
unsafe impl Send for ObjectId {}
// SAFETY: as above.
unsafe impl Sync for ObjectId {}
