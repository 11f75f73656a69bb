//! Sessions: one per open of a device node, one per connected sibling driver.
//!
//! A session is one allocation: the core's own state, then the published view that C code sees, then the tail that belongs to
//! the system's shell. Its address, as everybody outside knows it, is the address of the view.
//!
//! It lives by its reference count. The opener has the first reference; the system's shell takes another one wherever close
//! could overtake a request. The last release cleans up, in the order of `clean_up`, which matters:
//!
//! ```text
//!   create ──► in use ──last release──► handles ► objects ► tracer ► memory ► factories ► images ► GIP ──► freed
//! ```
//!
//! Destructors of objects are code in images and may use memory of the session, thus objects go before both; terminating
//! images may still read the GIP, thus it goes last.

use core::alloc::Layout;
use core::mem::offset_of;
use core::ops::Deref;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

use crate::abi::ioctl::{SESSION_COOKIE, SESSION_COOKIE_DEAD};
use crate::abi::published::{DevExtView, SessionView};
use crate::abi::status::{Result, VERR_INVALID_PARAMETER, VERR_NO_MEMORY};
use crate::driver::Driver;
use crate::handle_table::Entries;
use crate::memory::MemoryRefs;
use crate::object::{ObjectId, SessionKey};
use crate::os::{LockClass, NIL_HANDLE, NIL_ID, ObjectCreator, SessionKind, SupdrvOs};
use crate::sync::{IrqSpinLock, SpinLock};
use crate::tracer::TracerSession;

/// Counts at or above this are corruption, not use.
const MAX_REFERENCES: u32 = 1 << 20;

/// Who the session belongs to; fixed when it is created. Which process that is, the published view says: shells that open sessions in
/// another context than the client's correct it there.
#[derive(Clone, Copy, Debug)]
pub struct Owner {
    /// How it was opened.
    pub kind: SessionKind,
}

/// A session.
#[repr(C)]
pub struct Session<O: SupdrvOs> {
    driver: NonNull<Driver<O>>,
    bytes: usize,
    owner: Owner,
    ext: O::SessionExt,
    pub(crate) handles: IrqSpinLock<Entries<O>, O>,
    pub(crate) memory: SpinLock<MemoryRefs<O>, O>,
    pub(crate) gip: crate::gip::GipSession,
    pub(crate) loader: crate::loader::LoaderSession,
    pub(crate) tracer: TracerSession<O>,
    /// A kernel session whose sibling driver hasn't disconnected.
    connected: AtomicBool,
    /// Last: the system's tail follows it.
    view: SessionView,
}

// SAFETY: the raw pointers in it are to the driver, which outlives every session and is Sync, and in the view, which C code
// owns; the rest is Sync by its own types.
unsafe impl<O: SupdrvOs> Sync for Session<O> {}
// SAFETY: as above.
unsafe impl<O: SupdrvOs> Send for Session<O> {}

impl<O: SupdrvOs> Session<O> {
    fn layout(session_bytes: usize) -> Result<Layout> {
        let bytes = offset_of!(Self, view).checked_add(session_bytes.max(size_of::<SessionView>()));
        let layout = bytes.and_then(|bytes| Layout::from_size_align(bytes, align_of::<Self>()).ok());
        layout.map(|layout| layout.pad_to_align()).ok_or(VERR_NO_MEMORY)
    }

    /// Creates a session with one reference. Class T, may block.
    ///
    /// # Errors
    /// `VERR_NO_MEMORY`, or what the system's part fails with.
    pub(crate) fn create(driver: &Driver<O>, kind: SessionKind) -> Result<SessionRef<O>> {
        let os = driver.os();
        let layout = Self::layout(driver.session_bytes())?;
        let (process, process_handle, uid, gid) = if kind.is_user() {
            (os.process_id(), os.process_handle(), os.real_uid(), os.real_gid())
        } else {
            (NIL_ID, NIL_HANDLE, NIL_ID, NIL_ID)
        };
        let ext = os.session_ext_create(kind)?;
        let memory = SpinLock::new(os, LockClass::Session, MemoryRefs::new())?;
        let handles = IrqSpinLock::new(os, LockClass::HandleTable, Entries::new())?;
        let place = os.heap_alloc_zeroed(layout).ok_or(VERR_NO_MEMORY)?.cast::<Self>();
        let session = place.as_ptr();
        // Field by field: kernel stacks have no room for a whole session.
        // SAFETY: the memory is fresh and at least as large as a Session, and all fields are written but the view, for which zeros are a
        // value; what follows it stays zero.
        unsafe {
            (&raw mut (*session).driver).write(NonNull::from(driver));
            (&raw mut (*session).bytes).write(layout.size());
            (&raw mut (*session).owner).write(Owner { kind });
            (&raw mut (*session).ext).write(ext);
            (&raw mut (*session).handles).write(handles);
            (&raw mut (*session).memory).write(memory);
            (&raw mut (*session).gip).write(Default::default());
            (&raw mut (*session).loader).write(Default::default());
            TracerSession::init(&raw mut (*session).tracer);
            (&raw mut (*session).connected).write(AtomicBool::new(!kind.is_user()));
        }
        // SAFETY: as above; nobody else knows it yet.
        let view = unsafe { &mut (*session).view };
        view.dev_ext = AtomicPtr::new(driver.view().as_ptr());
        view.cookie = SESSION_COOKIE.into();
        view.unrestricted = u8::from(kind.is_unrestricted());
        view.refs = 1.into();
        (view.uid, view.gid, view.process) = (uid.into(), gid.into(), process.into());
        view.r0_process = process_handle.into();
        view.tracer_caller = NIL_HANDLE;
        // SAFETY: the field was written above.
        view.spinlock = unsafe { (*session).memory.handle() };
        let session = SessionRef(place);
        os.session_published(session.ext(), session.view());
        Ok(session)
    }

    /// The driver.
    #[must_use]
    pub fn driver(&self) -> &Driver<O> {
        // SAFETY: the driver refuses to go away while sessions exist.
        unsafe { self.driver.as_ref() }
    }

    /// The system's part.
    #[must_use]
    pub const fn ext(&self) -> &O::SessionExt {
        &self.ext
    }

    /// Who it belongs to.
    #[must_use]
    pub const fn owner(&self) -> &Owner {
        &self.owner
    }

    /// The published view: the session's address for everybody outside the core.
    #[must_use]
    pub fn view(&self) -> NonNull<SessionView> {
        // Derived from the whole session, so that the way back from the view is a way within the same object.
        // SAFETY: the offset is inside the session.
        unsafe { NonNull::from(self).byte_add(offset_of!(Self, view)).cast() }
    }

    /// The published view, to read and write what is kept true.
    pub(crate) const fn published(&self) -> &SessionView {
        &self.view
    }

    /// The session's name in the core's tables.
    #[must_use]
    pub fn key(&self) -> SessionKey {
        self.view().as_ptr() as usize
    }

    /// Process id of the opener, [`NIL_ID`] for kernel sessions; C shells may have corrected it after creation.
    #[must_use]
    pub fn process_id(&self) -> u32 {
        self.view.process.load(Ordering::Relaxed)
    }

    /// Process identity of the opener, [`NIL_HANDLE`] for kernel sessions; C shells may have corrected it after creation.
    #[must_use]
    pub fn process_handle(&self) -> usize {
        self.view.r0_process.load(Ordering::Relaxed)
    }

    /// Real user id of the opener; C shells may have corrected it after creation.
    #[must_use]
    pub fn uid(&self) -> u32 {
        self.view.uid.load(Ordering::Relaxed)
    }

    /// Whether it may use everything.
    #[must_use]
    pub const fn is_unrestricted(&self) -> bool {
        self.owner.kind.is_unrestricted()
    }

    /// The VM of the fast calls, 0 for none.
    pub(crate) fn vm(&self) -> usize {
        self.view.vm.load(Ordering::Acquire)
    }

    /// Sets the VM of the fast calls.
    pub(crate) fn set_vm(&self, vm: usize) {
        self.view.vm.store(vm, Ordering::Release);
    }

    /// Who registers an object in this session.
    #[must_use]
    pub fn creator(&self) -> ObjectCreator {
        ObjectCreator {
            uid: self.uid(),
            gid: self.view.gid.load(Ordering::Relaxed),
            process: self.process_id(),
        }
    }

    /// Finds the session behind a published view.
    ///
    /// # Safety
    /// `view` is null, or points to readable memory of the size of a view that stays allocated during the call; if its cookie
    /// and device extension are right, it is the view of a live session of this system type.
    pub unsafe fn from_view<'a>(
        view: *const SessionView,
        dev_ext: Option<NonNull<DevExtView>>,
    ) -> Option<&'a Self> {
        let view = NonNull::new(view.cast_mut())?;
        // SAFETY: readable (condition of the function).
        let published = unsafe { view.as_ref() };
        if published.cookie.load(Ordering::Relaxed) != SESSION_COOKIE
            || dev_ext.is_some_and(|ext| ext.as_ptr() != published.dev_ext.load(Ordering::Relaxed))
        {
            return None;
        }
        // SAFETY: it is the view inside a Session (condition of the function).
        Some(unsafe { view.byte_sub(offset_of!(Self, view)).cast::<Self>().as_ref() })
    }

    /// Adds a reference; returns the new count, or `None` if the last one is gone: destructors may ask while the session is cleaned up.
    /// Class I.
    pub fn retain(&self) -> Option<u32> {
        let more = |count: u32| (count != 0).then(|| count.wrapping_add(1));
        let count =
            self.view.refs.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok().and_then(more);
        debug_assert!(count.is_none_or(|count| count < MAX_REFERENCES));
        count
    }

    /// A reference of its own, unless the last one is gone already.
    ///
    /// # Errors
    /// `VERR_INVALID_PARAMETER`.
    pub(crate) fn try_retain(&self) -> Result<SessionRef<O>> {
        self.retain().map(|_| SessionRef(NonNull::from(self))).ok_or(VERR_INVALID_PARAMETER)
    }

    /// Whether a sibling driver may still use the session. Class I.
    pub(crate) fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }

    /// Ends a sibling driver's use of its session: drops the reference that connecting gave it. Class T if the caller's own
    /// reference isn't dropped later in class T.
    ///
    /// # Errors
    /// `VERR_INVALID_PARAMETER`: not a sibling's session, or ended already.
    pub(crate) fn disconnect(&self) -> Result<()> {
        if !self.connected.swap(false, Ordering::Relaxed) {
            return Err(VERR_INVALID_PARAMETER);
        }
        drop(SessionRef(NonNull::from(self)));
        Ok(())
    }

    /// Everything the session holds, in the order of the module's documentation.
    fn clean_up(&self) {
        let driver = self.driver();
        driver.os().session_closing(self.key());
        self.drain_handles();
        driver.objects().release_session(self.key());
        driver.tracer().session_closing(self);
        self.free_all_memory();
        driver.components().session_closing(self.key());
        driver.loader().session_closing(self);
        driver.gip().session_closing(self);
    }

    /// Drops the reference that each live handle owns, in ascending order of handles.
    fn drain_handles(&self) {
        let mut from = 0;
        loop {
            let next = self.handles.lock().drain_next(&mut from);
            let Some((object, _context)) = next else { return };
            if let Some(id) = NonNull::new(object as *mut _).map(ObjectId) {
                // SAFETY: the handle owned a reference, which kept the object alive.
                let released = unsafe { self.driver().objects().release(self.key(), id) };
                debug_assert!(released.is_ok());
            }
        }
    }
}

/// An owned reference to a session.
///
/// Dropping it releases the reference: class T if it may be the last one, which should then happen in the context of the
/// owning process, but need not.
pub struct SessionRef<O: SupdrvOs>(NonNull<Session<O>>);

// SAFETY: as a reference to a Sync type with an atomic count; the last drop may happen on any thread.
unsafe impl<O: SupdrvOs> Send for SessionRef<O> {}
// SAFETY: as above.
unsafe impl<O: SupdrvOs> Sync for SessionRef<O> {}

impl<O: SupdrvOs> Deref for SessionRef<O> {
    type Target = Session<O>;

    fn deref(&self) -> &Session<O> {
        // SAFETY: the reference keeps the session alive.
        unsafe { self.0.as_ref() }
    }
}

impl<O: SupdrvOs> SessionRef<O> {
    /// Gives the reference to C code, which knows the session by its view.
    #[must_use]
    pub fn into_view(self) -> NonNull<SessionView> {
        let view = self.view();
        core::mem::forget(self);
        view
    }

    /// Gives up the reference for a pointer to the session, which nobody but this crate's users can have.
    #[must_use]
    pub fn into_raw(self) -> NonNull<Session<O>> {
        let session = self.0;
        core::mem::forget(self);
        session
    }

    /// Takes the reference back.
    ///
    /// # Safety
    /// `session` came from [`into_raw`](Self::into_raw), and is given back once.
    #[must_use]
    pub const unsafe fn from_raw(session: NonNull<Session<O>>) -> Self {
        Self(session)
    }

    /// Takes a reference back from C code.
    ///
    /// # Errors
    /// `VERR_INVALID_PARAMETER`: not a session of this driver.
    ///
    /// # Safety
    /// As for [`Session::from_view`]; and the caller owns a reference, which it gives up.
    pub unsafe fn from_view(view: *const SessionView) -> Result<Self> {
        // SAFETY: condition of the function.
        let session = unsafe { Session::from_view(view, None) };
        session.map(|session| Self(NonNull::from(session))).ok_or(VERR_INVALID_PARAMETER)
    }

    /// Releases the reference; returns the new count.
    pub fn release(self) -> u32 {
        let session = self.0;
        core::mem::forget(self);
        // SAFETY: the reference kept the session alive until here.
        unsafe { release(session) }
    }
}

impl<O: SupdrvOs> Clone for SessionRef<O> {
    fn clone(&self) -> Self {
        let retained = self.retain();
        debug_assert!(retained.is_some());
        Self(self.0)
    }
}

impl<O: SupdrvOs> Drop for SessionRef<O> {
    fn drop(&mut self) {
        // SAFETY: this value owned a reference.
        unsafe { release(self.0) };
    }
}

/// Drops one reference.
///
/// # Safety
/// The caller owns a reference and gives it up.
unsafe fn release<O: SupdrvOs>(session: NonNull<Session<O>>) -> u32 {
    // SAFETY: alive by the caller's reference.
    let count = unsafe { session.as_ref() }.view.refs.fetch_sub(1, Ordering::AcqRel).wrapping_sub(1);
    debug_assert!(count < MAX_REFERENCES);
    if count == 0 {
        // SAFETY: that was the last reference: nobody else can reach the session any more.
        unsafe { destroy(session) };
    }
    count
}

/// Cleans up and frees.
///
/// # Safety
/// No reference is left.
unsafe fn destroy<O: SupdrvOs>(session: NonNull<Session<O>>) {
    // SAFETY: nobody else can reach it, so it stays valid and unaliased until it is freed below.
    let (driver, bytes) = unsafe {
        let session = session.as_ref();
        session.clean_up();
        (session.driver, session.bytes)
    };
    // SAFETY: the driver outlives its sessions.
    let driver = unsafe { driver.as_ref() };
    let os = driver.os().clone();
    // The driver may be deleted as soon as this session isn't counted any more: it isn't touched below.
    // SAFETY: as above.
    driver.session_gone(unsafe { session.as_ref() }.key());
    // SAFETY: unaliased, see above. Whoever still looks at the freed view must not take it for a session.
    unsafe {
        session.as_ref().view.cookie.store(SESSION_COOKIE_DEAD, Ordering::Relaxed);
        session.as_ref().view.dev_ext.store(core::ptr::null_mut(), Ordering::Relaxed);
        session.drop_in_place();
    }
    if let Ok(layout) = Layout::from_size_align(bytes, align_of::<Session<O>>()) {
        // SAFETY: allocated in `create` with this layout.
        unsafe { os.heap_free(session.cast(), layout) };
    }
}
