//! The driver: everything that exists once, from load to unload.
//!
//! C code knows the driver as the device extension, a [`DevExtView`] in storage that belongs to the system's shell. The core's
//! own state is a [`Driver`] on the heap; the view holds its address in a field that is the core's. The cookie of the view is
//! written last on the way up and cleared first on the way down, so that nobody can open a half-built driver.
//!
//! ```text
//!   init: device lock ► session list ► loader ► components ► GIP ► tracer ► cookie        delete: the same backwards
//! ```

use core::ptr::NonNull;
use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use zerocopy::FromZeros;

use crate::abi::ioctl::DEVEXT_COOKIE;
use crate::abi::published::{DevExtView, SessionView};
use crate::abi::requests::Function;
use crate::abi::status::{Result, VERR_INVALID_PARAMETER, VERR_RESOURCE_BUSY};
use crate::component::Components;
use crate::gip::Gip;
use crate::heap::{Array, Box};
use crate::loader::Loader;
use crate::object::{Objects, Registry, SessionKey};
use crate::os::{LockClass, SessionKind, SupdrvOs};
use crate::session::{Session, SessionRef};
use crate::sync::IrqSpinLock;
use crate::tracer::Tracer;
use crate::tree::{Node, Tree};

/// What exists in a driver at some moment; all zero when the last client is gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Sessions.
    pub sessions: usize,
    /// Registered objects.
    pub objects: usize,
    /// Memory references of all sessions.
    pub memory_refs: usize,
    /// Images.
    pub images: usize,
    /// Component factories.
    pub factories: usize,
    /// Sessions that use the GIP.
    pub gip_users: usize,
}

/// The driver's state.
pub struct Driver<O: SupdrvOs> {
    os: O,
    view: NonNull<DevExtView>,
    session_bytes: usize,
    objects: Objects<O>,
    sessions: IrqSpinLock<Tree<SessionKey, SessionPtr<O>, O>, O>,
    pub(crate) memory_refs: AtomicUsize,
    loader: Loader<O>,
    components: Components<O>,
    gip: Gip<O>,
    tracer: Tracer<O>,
    functions: Array<Function, O>,
}

/// A session in the list of live ones.
struct SessionPtr<O: SupdrvOs>(NonNull<Session<O>>);

// SAFETY: a pointer to a Sync type; it is only followed under the lock of the list, while the session is in it.
unsafe impl<O: SupdrvOs> Send for SessionPtr<O> {}

// SAFETY: the view consists of atomics, as far as it changes after init; everything else is Sync by its own type.
unsafe impl<O: SupdrvOs> Sync for Driver<O> {}
// SAFETY: as above.
unsafe impl<O: SupdrvOs> Send for Driver<O> {}

impl<O: SupdrvOs> Driver<O> {
    /// Builds a driver around a device extension. Class T, may block; nothing else uses `view` meanwhile.
    ///
    /// `session_bytes` is what C code wants to find at a session's address: the view and its own tail; less than a view is
    /// taken as a view.
    ///
    /// # Errors
    /// `VERR_NO_MEMORY`, or what creating the GIP fails with. Nothing is left behind then.
    ///
    /// # Safety
    /// `view` points to a device extension, zeroed or deleted, that stays where it is until [`delete`](Self::delete).
    pub unsafe fn init(os: &O, view: NonNull<DevExtView>, session_bytes: usize) -> Result<Box<Self, O>> {
        let objects = IrqSpinLock::new(os, LockClass::Device, Registry::new())?;
        let driver = Self {
            os: os.clone(),
            view,
            session_bytes: session_bytes.max(size_of::<SessionView>()),
            objects: Objects::new(os.clone(), objects),
            sessions: IrqSpinLock::new(os, LockClass::Sessions, Tree::new())?,
            memory_refs: AtomicUsize::new(0),
            loader: Loader::new(os)?,
            components: Components::new(os)?,
            gip: Gip::new(os)?,
            tracer: Tracer::new(os)?,
            functions: crate::ring0::table(os, os.ring0_exports())?,
        };
        let driver = Box::new(os, driver)?;
        // The GIP's callbacks point into the driver: it is started when the driver has its final place.
        // SAFETY: the view is valid (condition of the function).
        driver.gip.create(unsafe { view.as_ref() })?;
        // SAFETY: as above; the view stays until the driver is deleted.
        if let Err(status) = unsafe { driver.tracer.start(view) } {
            driver.gip.destroy(driver.published());
            return Err(status);
        }
        driver.publish();
        Ok(driver)
    }

    fn publish(&self) {
        let view = self.published();
        view.spinlock.store(self.objects.lock_handle(), Ordering::Relaxed);
        view.loader_mutex.store(self.loader.mutex_handle(), Ordering::Relaxed);
        view.component_mutex.store(self.components.mutex_handle(), Ordering::Relaxed);
        view.init_thread.store(crate::os::NIL_HANDLE, Ordering::Relaxed);
        view.session_bytes.store(u32::try_from(self.session_bytes).unwrap_or(u32::MAX), Ordering::Relaxed);
        view.objects.store(core::ptr::from_ref(self) as usize, Ordering::Relaxed);
        self.os.gip_published(view.gip.load(Ordering::Relaxed));
        view.cookie.store(DEVEXT_COOKIE, Ordering::Release);
    }

    /// Takes the driver down. Class T, may block.
    ///
    /// # Errors
    /// Gives the driver back, unchanged, with `VERR_RESOURCE_BUSY` while sessions exist.
    pub fn delete(driver: Box<Self, O>) -> core::result::Result<(), (Box<Self, O>, crate::abi::Status)> {
        if driver.session_count() != 0 {
            return Err((driver, VERR_RESOURCE_BUSY));
        }
        let view = driver.published();
        view.cookie.store(0, Ordering::Release);
        view.objects.store(0, Ordering::Relaxed);
        driver.os.gip_published(0);
        driver.tracer.stop(view);
        driver.gip.destroy(view);
        driver.loader.clear();
        driver.objects.clear();
        for handle in
            [&view.spinlock, &view.loader_mutex, &view.component_mutex, &view.gip_mutex, &view.gip_spinlock]
        {
            handle.store(0, Ordering::Relaxed);
        }
        drop(driver);
        Ok(())
    }

    /// The driver of a device extension.
    ///
    /// # Safety
    /// `view` is null or points to a device extension; while its cookie is right, a driver of this system type is behind it, and
    /// it isn't deleted during the use of the result.
    pub unsafe fn from_view<'a>(view: *const DevExtView) -> Option<&'a Self> {
        // SAFETY: null or valid (condition of the function).
        let published = unsafe { view.as_ref() }?;
        if published.cookie.load(Ordering::Acquire) != DEVEXT_COOKIE {
            return None;
        }
        let driver = published.objects.load(Ordering::Relaxed) as *const Self;
        // SAFETY: the cookie says that `publish` stored this driver's address.
        unsafe { driver.as_ref() }
    }

    /// The system.
    pub const fn os(&self) -> &O {
        &self.os
    }

    /// The device extension's address.
    pub const fn view(&self) -> NonNull<DevExtView> {
        self.view
    }

    /// The device extension.
    pub fn published(&self) -> &DevExtView {
        // SAFETY: it stays where it is until the driver is deleted (condition of `init`).
        unsafe { self.view.as_ref() }
    }

    /// Bytes that C code finds at a session's address.
    pub const fn session_bytes(&self) -> usize {
        self.session_bytes
    }

    /// The object registry.
    pub const fn objects(&self) -> &Objects<O> {
        &self.objects
    }

    /// The image loader.
    pub const fn loader(&self) -> &Loader<O> {
        &self.loader
    }

    /// The component registry.
    pub const fn components(&self) -> &Components<O> {
        &self.components
    }

    /// The global info page.
    pub const fn gip(&self) -> &Gip<O> {
        &self.gip
    }

    /// Tracepoints and their consumer.
    pub const fn tracer(&self) -> &Tracer<O> {
        &self.tracer
    }

    /// What modules can link against.
    pub fn functions(&self) -> &[Function] {
        &self.functions
    }

    /// Address, or value, of one of [`functions`](Self::functions). Class I.
    pub fn function(&self, name: &[u8]) -> Option<usize> {
        let is_it = |entry: &&Function| entry.name.split(|byte| *byte == 0).next() == Some(name);
        self.functions.iter().find(is_it).map(|entry| entry.address)
    }

    /// Opens a session. Class T, may block.
    ///
    /// # Errors
    /// `VERR_NO_MEMORY`.
    pub fn create_session(&self, kind: SessionKind) -> Result<SessionRef<O>> {
        let mut node = Node::new(&self.os, 0, SessionPtr(NonNull::dangling()))?;
        let session = Session::create(self, kind)?;
        node.set_key(session.key());
        *node.value_mut() = SessionPtr(NonNull::from(&*session));
        let listed = self.sessions.lock().insert(node).is_ok();
        debug_assert!(listed);
        Ok(session)
    }

    /// A live kernel session by the address that a sibling driver knows; its reference belongs to the caller. Class I.
    ///
    /// # Errors
    /// `VERR_INVALID_PARAMETER`: there is none.
    pub fn kernel_session(&self, key: SessionKey) -> Result<SessionRef<O>> {
        let sessions = self.sessions.lock();
        let session = sessions.get(&key).ok_or(VERR_INVALID_PARAMETER)?;
        // SAFETY: sessions leave the list, under this lock, before they are freed.
        let session = unsafe { session.0.as_ref() };
        if session.is_connected() { session.try_retain() } else { Err(VERR_INVALID_PARAMETER) }
    }

    /// Takes a dying session off the list.
    pub(crate) fn session_gone(&self, key: SessionKey) {
        let node = self.sessions.lock().remove(&key);
        debug_assert!(node.is_some());
    }

    /// Number of sessions. Class I.
    pub fn session_count(&self) -> usize {
        self.sessions.lock().len()
    }

    /// What exists now. Class I; consistent only when nothing else happens.
    pub fn counters(&self) -> Counters {
        Counters {
            sessions: self.session_count(),
            objects: self.objects.count(),
            memory_refs: self.memory_refs.load(Ordering::Relaxed),
            images: self.loader.image_count(),
            factories: self.components.count(),
            gip_users: self.published().gip_users.load(Ordering::Relaxed) as usize,
        }
    }
}

/// The driver of a kernel module: a static that holds it from load to unload, with the device extension that belongs to it.
pub struct DriverSlot<O: SupdrvOs>(AtomicPtr<Driver<O>>);

impl<O: SupdrvOs> Default for DriverSlot<O> {
    fn default() -> Self {
        Self::new()
    }
}

impl<O: SupdrvOs> DriverSlot<O> {
    /// Without a driver.
    #[must_use]
    pub const fn new() -> Self {
        Self(AtomicPtr::new(core::ptr::null_mut()))
    }

    /// The driver, while there is one. Class I.
    ///
    /// # Safety
    /// The result isn't used after [`delete`](Self::delete) began: whoever asks is kept from outliving the driver by the system, which
    /// waits for entry points and closes files before it unloads.
    pub unsafe fn get(&self) -> Option<&'static Driver<O>> {
        // SAFETY: set while the driver exists (condition of the function).
        unsafe { self.0.load(Ordering::Acquire).as_ref() }
    }

    /// Builds the driver with a device extension on the heap. Class T, may block; once between two deletions.
    ///
    /// # Errors
    /// As for [`Driver::init`].
    pub fn build(&self, os: &O, session_bytes: usize) -> Result<()> {
        let view = Box::<DevExtView, O>::new(os, FromZeros::new_zeroed())?.into_raw();
        // SAFETY: zeroed, and it stays until `delete`.
        match unsafe { Driver::init(os, view, session_bytes) } {
            Ok(driver) => {
                self.0.store(driver.into_raw().as_ptr(), Ordering::Release);
                Ok(())
            }
            Err(status) => {
                // SAFETY: it came from `into_raw` above, and nobody uses it.
                drop(unsafe { Box::from_raw(os, view) });
                Err(status)
            }
        }
    }

    /// Deletes the driver, if there is one. Class T, may block; nobody uses it any more.
    ///
    /// # Errors
    /// `VERR_RESOURCE_BUSY`: there are sessions, which the system said there aren't; the driver is leaked, and said so in the log.
    pub fn delete(&self, os: &O) -> Result<()> {
        let Some(raw) = NonNull::new(self.0.swap(core::ptr::null_mut(), Ordering::AcqRel)) else {
            return Ok(());
        };
        // SAFETY: it came from `into_raw` in `build`.
        let driver = unsafe { Box::from_raw(os, raw) };
        let view = driver.view();
        match Driver::delete(driver) {
            Ok(()) => {
                // SAFETY: it came from `into_raw` in `build`, and the driver is gone.
                drop(unsafe { Box::from_raw(os, view) });
                Ok(())
            }
            Err((driver, busy)) => {
                crate::log::log(os, &[b"supdrv: sessions at unload; leaking the driver"]);
                let _leaked = driver.into_raw();
                Err(busy)
            }
        }
    }
}
