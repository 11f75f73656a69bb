//! Event semaphores behind handles.
//!
//! A semaphore is a registered object whose first argument is the system's event. The handle owns the registration's reference;
//! every operation adds one of its own while it works, so that a semaphore that is closed while somebody waits goes away with the
//! last waiter, who is not woken. A signal may come with interrupts off: if it turns out to be the last, the semaphore is destroyed at
//! the registry's next chance.
//!
//! ```text
//!   create ──► handle ──close──► no handle, waiters inside ──last one leaves──► destroyed
//! ```

use core::ffi::c_void;
use core::marker::PhantomData;
use core::ptr::NonNull;

use crate::abi::ioctl::{OBJECT_TYPE_SEM_EVENT, OBJECT_TYPE_SEM_EVENT_MULTI};
use crate::abi::published::ObjectView;
use crate::abi::status::{Result, VERR_INVALID_HANDLE};
use crate::handle_table;
use crate::heap::Box;
use crate::object::{ObjectId, Registration, Released};
use crate::os::{EventKind, SupdrvOs, Timeout, WaitMode};
use crate::session::Session;

/// Milliseconds that mean "for ever".
pub const INDEFINITE_MS: u32 = u32::MAX;

/// The object type, and the context of handles.
const fn context(kind: EventKind) -> u32 {
    match kind {
        EventKind::SingleRelease => OBJECT_TYPE_SEM_EVENT,
        EventKind::MultiRelease => OBJECT_TYPE_SEM_EVENT_MULTI,
    }
}

/// A wait of `millis`, for ever if that is [`INDEFINITE_MS`].
#[must_use]
pub fn timeout_ms(millis: u32) -> Timeout {
    if millis == INDEFINITE_MS {
        Timeout::Forever
    } else {
        Timeout::RelativeNs(u64::from(millis) * 1_000_000)
    }
}

/// A wait of `nanos`, for ever if that is all ones.
#[must_use]
pub fn timeout_ns(nanos: u64) -> Timeout {
    if nanos == u64::MAX { Timeout::Forever } else { Timeout::RelativeNs(nanos) }
}

/// A wait until `deadline_ns` of the system clock, for ever if that is all ones.
#[must_use]
pub fn deadline_ns(deadline_ns: u64) -> Timeout {
    if deadline_ns == u64::MAX { Timeout::Forever } else { Timeout::DeadlineNs(deadline_ns) }
}

struct Semaphore<O: SupdrvOs> {
    event: O::Event,
    os: O,
}

unsafe extern "C" fn destroy<O: SupdrvOs>(_object: *mut c_void, semaphore: *mut c_void, _user2: *mut c_void) {
    if let Some(semaphore) = NonNull::new(semaphore.cast::<Semaphore<O>>()) {
        // SAFETY: the registration owned the semaphore, and its destructor runs once.
        let os = unsafe { semaphore.as_ref() }.os.clone();
        // SAFETY: as above; it came from into_raw.
        drop(unsafe { Box::from_raw(&os, semaphore) });
    }
}

/// A semaphore with a reference of the session, for the time of one operation.
struct Held<'a, O: SupdrvOs> {
    session: &'a Session<O>,
    id: ObjectId,
    semaphore: NonNull<Semaphore<O>>,
    /// The reference may be dropped where nothing can be destroyed.
    in_any_context: bool,
    _shared: PhantomData<&'a Semaphore<O>>,
}

impl<'a, O: SupdrvOs> Held<'a, O> {
    fn new(session: &'a Session<O>, id: ObjectId) -> Option<Self> {
        // SAFETY: the caller has just added a reference to the object.
        let semaphore = NonNull::new(unsafe { id.0.as_ref() }.user1 as *mut Semaphore<O>)?;
        Some(Self { session, id, semaphore, in_any_context: false, _shared: PhantomData })
    }

    fn event(&self) -> &O::Event {
        // SAFETY: the object owns the semaphore, and `self` has a reference to the object.
        &unsafe { self.semaphore.as_ref() }.event
    }

    fn release(self) -> Result<Released> {
        let (session, id) = (self.session, self.id);
        core::mem::forget(self);
        // SAFETY: `self` had a reference to the object.
        unsafe { session.driver().objects().release(session.key(), id) }
    }
}

impl<O: SupdrvOs> Drop for Held<'_, O> {
    fn drop(&mut self) {
        let (objects, key) = (self.session.driver().objects(), self.session.key());
        // SAFETY: `self` had a reference to the object.
        let released = unsafe {
            if self.in_any_context {
                objects.release_no_block(key, self.id)
            } else {
                objects.release(key, self.id)
            }
        };
        debug_assert!(released.is_ok());
    }
}

/// Semaphore services.
impl<O: SupdrvOs> Session<O> {
    /// Creates a semaphore that isn't signalled; returns its handle. Class T, may block.
    ///
    /// # Errors
    /// `VERR_NO_MEMORY`, `VERR_NO_MORE_HANDLES`.
    #[doc(alias("SUPSemEventCreate", "SUPSemEventMultiCreate"))]
    pub fn sem_create(&self, kind: EventKind) -> Result<u32> {
        let driver = self.driver();
        let os = driver.os();
        let semaphore = Box::new(os, Semaphore { event: os.event_create(kind)?, os: os.clone() })?;
        let registration = Registration {
            object_type: context(kind),
            destructor: destroy::<O>,
            user1: semaphore.as_ptr().as_ptr().cast(),
            user2: core::ptr::null_mut(),
        };
        let id = driver.objects().register(self.key(), &self.creator(), self.ext(), &registration)?;
        let _owned_by_object = semaphore.into_raw();
        let object = id.0.as_ptr() as usize;
        handle_table::allocate(&self.handles, os, object, context(kind)).inspect_err(|_| {
            // SAFETY: the registration's reference is ours as long as no handle owns it.
            unsafe { driver.objects().unregister(self.key(), id) };
        })
    }

    /// The semaphore of a handle, with one more reference. Class I.
    fn sem_hold(&self, handle: u32, kind: EventKind) -> Result<Held<'_, O>> {
        let mut entries = self.handles.lock();
        let object = entries.lookup(handle, context(kind)).ok_or(VERR_INVALID_HANDLE)?;
        let id = NonNull::new(object as *mut ObjectView).map(ObjectId).ok_or(VERR_INVALID_HANDLE)?;
        // SAFETY: the handle's reference keeps the object while the table is locked.
        unsafe { self.driver().objects().add_ref_no_block(self.key(), id) }
            .map_err(|_| VERR_INVALID_HANDLE)?;
        drop(entries);
        Held::new(self, id).ok_or(VERR_INVALID_HANDLE)
    }

    /// Closes a handle; handle 0 is fine. Class T.
    ///
    /// # Errors
    /// `VERR_INVALID_HANDLE`.
    #[doc(alias("SUPSemEventClose", "SUPSemEventMultiClose"))]
    pub fn sem_close(&self, handle: u32, kind: EventKind) -> Result<Released> {
        if handle == 0 {
            return Ok(Released::Alive);
        }
        let object = self.handles.lock().remove(handle, context(kind)).ok_or(VERR_INVALID_HANDLE)?;
        let id = NonNull::new(object as *mut ObjectView).map(ObjectId).ok_or(VERR_INVALID_HANDLE)?;
        // The handle's own reference is now this function's.
        Held::new(self, id).ok_or(VERR_INVALID_HANDLE)?.release()
    }

    /// Signals. Class D, class I where the system can.
    ///
    /// # Errors
    /// `VERR_INVALID_HANDLE`.
    #[doc(alias("SUPSemEventSignal", "SUPSemEventMultiSignal"))]
    pub fn sem_signal(&self, handle: u32, kind: EventKind) -> Result<()> {
        let mut held = self.sem_hold(handle, kind)?;
        held.in_any_context = true;
        self.driver().os().event_signal(held.event());
        Ok(())
    }

    /// Clears a multiple-release semaphore. Class D, class I where the system can.
    ///
    /// # Errors
    /// `VERR_INVALID_HANDLE`.
    #[doc(alias = "SUPSemEventMultiReset")]
    pub fn sem_reset(&self, handle: u32) -> Result<()> {
        let mut held = self.sem_hold(handle, EventKind::MultiRelease)?;
        held.in_any_context = true;
        self.driver().os().event_reset(held.event());
        Ok(())
    }

    /// Waits. Class T, blocks.
    ///
    /// # Errors
    /// `VERR_INVALID_HANDLE`, `VERR_TIMEOUT`, `VERR_INTERRUPTED`.
    #[doc(alias("SUPSemEventWaitNoResume", "SUPSemEventMultiWaitNoResume"))]
    pub fn sem_wait(&self, handle: u32, kind: EventKind, timeout: Timeout, mode: WaitMode) -> Result<()> {
        let held = self.sem_hold(handle, kind)?;
        let os = self.driver().os();
        // A wait that ends after the end of the clock doesn't end.
        let timeout = match timeout {
            Timeout::RelativeNs(ns) if os.system_nano_ts().checked_add(ns).is_none() => Timeout::Forever,
            other => other,
        };
        os.event_wait(held.event(), timeout, mode)
    }
}
