//! The registry of reference-counted objects that modules share between sessions.
//!
//! An *object* is what a module registered: a type, a destructor and two arguments for it. A *usage* says how often one
//! session references one object; the object lives as long as any session has a usage.
//!
//! ```text
//!   register ──► live ──last usage gone──► dying (destructor runs, no lock held) ──► freed
//!                             └── in a context that may not run destructors ──► dead ──next chance──► dying
//! ```
//!
//! C code sees an object as an [`ObjectView`] with a magic; its address is the object's id. A dying object answers new
//! references with `VERR_WRONG_ORDER`.
//!
//! A destructor is code in an image. While one runs the registry knows it, with its thread; whoever wants to unload code
//! [bars](Objects::bar) it first: that fails while a destructor of it runs, and none begins any more once it has succeeded.
//!
//! All state is in one [`Registry`] under the device lock, which is IRQ-safe: references to an object that the session has
//! already, and releases that aren't the last, work with interrupts off. What needs memory gets it before the lock is taken.

use core::ffi::c_void;
use core::ops::Bound;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, Ordering};

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

/// An object, found by its destructor's address.
type DestructorKey = (usize, ObjectId);
/// Who runs a destructor; 0 for nobody.
type Thread = usize;
type ObjectNode<O> = Node<DestructorKey, Thread, O>;
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
    objects: Tree<DestructorKey, Thread, O>,
    /// Objects whose destructor runs, and in which thread.
    running: Tree<DestructorKey, Thread, O>,
    /// Objects whose last reference went where destructors can't run.
    dead: Tree<DestructorKey, Thread, O>,
    /// Code that is about to go, first address and size: destructors in it aren't called any more.
    barred: (usize, usize),
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
            running: Tree::new(),
            dead: Tree::new(),
            barred: (0, 0),
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

    /// Whether a destructor inside `[base, base + size)` runs, in another thread than `thread`, or is still to be run.
    fn is_busy(&self, base: usize, size: usize, thread: Thread) -> bool {
        let mut after = None;
        while let Some((key, runner)) = next_inside(&self.running, base, size, after) {
            if runner != thread {
                return true;
            }
            after = Some(key);
        }
        next_inside(&self.dead, base, size, None).is_some()
    }

    /// Marks an object dying and takes it out of the registry. Its destructor is kept out of code that is about to go.
    fn kill(&mut self, id: ObjectId) -> Option<ObjectNode<O>> {
        // SAFETY: the object is registered, hence alive; the registry is locked.
        let object = unsafe { id.0.as_ref() };
        object.magic.store(OBJECT_MAGIC_DEAD, Ordering::Relaxed);
        let destructor = object.destructor.load(Ordering::Relaxed);
        let mut node = self.objects.remove(&(destructor, id))?;
        let (base, size) = self.barred;
        if destructor.wrapping_sub(base) < size {
            object.destructor.store(0, Ordering::Relaxed);
            node.set_key((0, id));
        }
        Some(node)
    }

    /// Makes it known that the destructor of a killed object runs from now on, in a thread.
    fn run(&mut self, mut node: ObjectNode<O>, thread: Thread) -> Dying<O> {
        let key = *node.key();
        if key.0 == 0 {
            return Dying { key, node: Some(node) };
        }
        *node.value_mut() = thread;
        let unique = self.running.insert(node).is_ok();
        debug_assert!(unique);
        Dying { key, node: None }
    }
}

/// An object that is out of the registry, and whose destructor, if it has one, is among those that run.
struct Dying<O: OsHeap> {
    key: DestructorKey,
    /// To be freed without the lock.
    node: Option<ObjectNode<O>>,
}

/// The first destructor inside `[base, base + size)`, or the first one after another, and what its node has.
fn next_inside<O: OsHeap>(
    tree: &Tree<DestructorKey, Thread, O>,
    base: usize,
    size: usize,
    after: Option<DestructorKey>,
) -> Option<(DestructorKey, Thread)> {
    let start = (base, ObjectId(NonNull::dangling()));
    let bound = match &after {
        Some(key) => Bound::Excluded(key),
        None => Bound::Included(&start),
    };
    let (key, thread) = tree.lower_bound(bound)?;
    (key.0.wrapping_sub(base) < size).then_some((*key, *thread))
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
    /// There may be dead objects; spares a look under the lock.
    any_dead: AtomicBool,
}

impl<O: SupdrvOs> Objects<O> {
    /// Wraps the device lock and what it protects.
    pub const fn new(os: O, registry: IrqSpinLock<Registry<O>, O>) -> Self {
        Self { os, registry, any_dead: AtomicBool::new(false) }
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
        let node = Node::new(&self.os, (what.destructor as usize, id), 0)?;
        let spare = SpareUsage::new(&self.os, id)?;
        // Last: nothing undoes what the system notes.
        self.os.obj_init_creator(&mut object, ext);
        let mut registry = self.registry.lock();
        let unique = registry.objects.insert(node).is_ok();
        debug_assert!(unique);
        registry.use_spare(session, id, spare);
        drop(registry);
        let _owned_by_registry = object.into_raw();
        self.bury();
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
            self.bury();
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

    /// Drops a reference of a session; whether it was the object's last one.
    ///
    /// # Safety
    /// As for [`add_ref`](Self::add_ref).
    unsafe fn drop_reference(registry: &mut Registry<O>, session: SessionKey, id: ObjectId) -> Result<bool> {
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
        Ok(object.usage.fetch_sub(1, Ordering::Relaxed) <= 1)
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
        // SAFETY: condition of the function.
        if !unsafe { Self::drop_reference(&mut registry, session, id) }? {
            return Ok(Released::Alive);
        }
        let dying = registry.kill(id).map(|node| registry.run(node, self.os.thread_handle()));
        let spare = free(&mut registry);
        drop(registry);
        drop(spare);
        if let Some(dying) = dying {
            self.destroy(dying);
        }
        Ok(Released::Destroyed)
    }

    /// As [`release`](Self::release), where it may be the last reference and destructors can't run: the object then waits for the next chance.
    /// Class I.
    ///
    /// # Errors
    /// As for [`release`](Self::release).
    ///
    /// # Safety
    /// As for [`add_ref`](Self::add_ref).
    pub(crate) unsafe fn release_no_block(&self, session: SessionKey, id: ObjectId) -> Result<Released> {
        let mut registry = self.registry.lock();
        // SAFETY: condition of the function.
        if !unsafe { Self::drop_reference(&mut registry, session, id) }? {
            return Ok(Released::Alive);
        }
        if let Some(node) = registry.kill(id) {
            let unique = registry.dead.insert(node).is_ok();
            debug_assert!(unique);
            self.any_dead.store(true, Ordering::Relaxed);
        }
        Ok(Released::Destroyed)
    }

    /// Destroys what died where that wasn't possible. Class T.
    pub(crate) fn bury(&self) {
        while self.any_dead.load(Ordering::Relaxed) {
            let mut registry = self.registry.lock();
            let node = registry.dead.pop_first();
            self.any_dead.store(node.is_some(), Ordering::Relaxed);
            let dying = node.map(|node| registry.run(node, self.os.thread_handle()));
            drop(registry);
            if let Some(dying) = dying {
                self.destroy(dying);
            }
        }
    }

    /// Runs the destructor of a dying object, and frees the object. Class T.
    fn destroy(&self, dying: Dying<O>) {
        let Dying { key: (destructor, id), node } = dying;
        drop(node);
        // SAFETY: whoever takes an object out of the registry owns it.
        let object = unsafe { Box::from_raw(&self.os, id.0) };
        if destructor == 0 {
            return;
        }
        // SAFETY: the only non-zero value ever stored is a Destructor, and its code stays while it is known to run.
        let call: Destructor = unsafe { core::mem::transmute(destructor) };
        // SAFETY: this is the one call that the registration promised: class T, no locks, both arguments as given.
        unsafe { call(id.0.as_ptr().cast(), object.user1 as *mut c_void, object.user2 as *mut c_void) };
        let node = self.registry.lock().running.remove(&(destructor, id));
        drop(node);
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
        self.bury();
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
            let node = if was_last { registry.kill(id) } else { None };
            let dying = node.map(|node| registry.run(node, self.os.thread_handle()));
            drop(registry);
            drop(record);
            if let Some(dying) = dying {
                self.destroy(dying);
            }
        }
    }

    /// Whether an object with a destructor inside `[base, base + size_bytes)` exists; with `session`, one that this session
    /// references. Class I; the lock is taken anew for every object, so that interrupts aren't off for long.
    pub fn has_destructor_in(&self, base: usize, size_bytes: usize, session: Option<SessionKey>) -> bool {
        let mut after = None;
        loop {
            let registry = self.registry.lock();
            let Some((key, _)) = next_inside(&registry.objects, base, size_bytes, after) else {
                return false;
            };
            if session.is_none_or(|session| registry.usages.get(&(session, key.1)).is_some()) {
                return true;
            }
            after = Some(key);
        }
    }

    /// Bars `[base, base + size_bytes)`: until [`unbar`](Self::unbar), no destructor inside begins; objects with such ones die without. One area at a
    /// time. `false`, and nothing happens, while a destructor inside runs in another thread, or is still to be called. Class T.
    #[must_use]
    pub fn bar(&self, base: usize, size_bytes: usize) -> bool {
        let thread = self.os.thread_handle();
        let mut registry = self.registry.lock();
        if registry.is_busy(base, size_bytes, thread) {
            return false;
        }
        registry.barred = (base, size_bytes);
        true
    }

    /// Ends [`bar`](Self::bar). Class I.
    pub fn unbar(&self) {
        self.registry.lock().barred = (0, 0);
    }

    /// Clears every destructor inside `[base, base + size_bytes)`, because that code is going away; returns how many. Class T.
    pub fn clear_destructors_in(&self, base: usize, size_bytes: usize) -> usize {
        let mut cleared = 0;
        loop {
            let mut registry = self.registry.lock();
            let Some((key, _)) = next_inside(&registry.objects, base, size_bytes, None) else {
                return cleared;
            };
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
        self.bury();
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
