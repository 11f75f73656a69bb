//! What the driver keeps for each open file, in its file object, from create to close.
//!
//! The last *handle* of a file may go while another thread of the process is inside a request: cleanup only says so, and whoever is the
//! last one inside releases the session. The record itself stays until the file object goes.
//!
//! ```text
//!   state = number of requests inside, plus one for the handle; CLOSING once that one is gone
//!   create ──► 1 ──begin/end──► … ──cleanup──► CLOSING | n ──last end──► session released ──close──► freed
//! ```

use core::ptr::NonNull;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicUsize, Ordering};

use supdrv_core::abi::published::SessionView;
use supdrv_core::abi::status::Result;
use supdrv_core::heap::Box;
use supdrv_core::os::NIL_HANDLE;
use supdrv_core::session::{Session, SessionRef};

use crate::Windows;
use crate::nt::FileObject;

const CLOSING: u32 = 1 << 31;
/// The file object is gone: the last request inside frees the record.
const ORPHAN: u32 = 1 << 30;
const COUNT: u32 = ORPHAN - 1;

/// No sibling is connected.
const NOT_CONNECTED: usize = 0;
/// A sibling is just connecting or disconnecting.
const CHANGING: usize = 1;

/// An open file.
pub struct Record {
    state: AtomicU32,
    process: usize,
    /// Of a client; null for files of the kernel, and once it was released.
    session: AtomicPtr<SessionView>,
    /// Of a sibling driver: the session's address, or one of the numbers above.
    sibling: AtomicUsize,
}

/// A request inside a file: keeps record and session.
pub struct Inside(NonNull<Record>);

// SAFETY: a counted reference to atomics.
unsafe impl Send for Inside {}

impl Record {
    /// A record for a client's session, or for a file of the kernel.
    ///
    /// # Errors
    /// `VERR_NO_MEMORY`; the session is released then.
    pub fn new(session: Option<SessionRef<Windows>>) -> Result<Box<Self, Windows>> {
        let record = Self {
            state: AtomicU32::new(1),
            process: session.as_ref().map_or(NIL_HANDLE, |session| session.process_handle()),
            session: AtomicPtr::new(core::ptr::null_mut()),
            sibling: AtomicUsize::new(NOT_CONNECTED),
        };
        let record = Box::new(&Windows, record)?;
        if let Some(session) = session {
            record.session.store(session.into_view().as_ptr(), Ordering::Release);
        }
        Ok(record)
    }

    /// The record of a file object.
    ///
    /// # Safety
    /// The file is one of this driver's, and stays during the use of the result.
    pub unsafe fn of<'a>(file: *mut FileObject) -> Option<&'a Self> {
        // SAFETY: condition of the function; only create and close write the field.
        unsafe { file.as_ref()?.fs_context.cast::<Self>().as_ref() }
    }

    /// The process of a client.
    pub const fn process(&self) -> usize {
        self.process
    }

    /// Enters, unless the last handle is gone.
    pub fn begin(&self) -> Option<Inside> {
        let enter = |state: u32| (state & CLOSING == 0).then(|| state + 1);
        self.state.fetch_update(Ordering::Acquire, Ordering::Relaxed, enter).ok()?;
        Some(Inside(NonNull::from(self)))
    }

    /// The last handle is gone, or the process that opened the file is. More than once is the same as once.
    pub fn cleanup(&self) {
        if self.state.fetch_or(CLOSING, Ordering::AcqRel) & CLOSING == 0 {
            self.leave();
        }
    }

    /// Whether the last handle is gone.
    pub fn is_closing(&self) -> bool {
        self.state.load(Ordering::Relaxed) & CLOSING != 0
    }

    /// The client's session.
    pub fn session(&self) -> Option<&Session<Windows>> {
        let view = self.session.load(Ordering::Acquire);
        // SAFETY: null or the view of a session, which the record has a reference to until it is released.
        unsafe { Session::from_view(view, None) }
    }

    /// Gives up one count. The last one releases the session, and frees the record if the file object is gone too.
    fn leave(&self) {
        let mut state = self.state.load(Ordering::Acquire);
        loop {
            if state & COUNT == 1 && state & CLOSING != 0 {
                // Nobody enters any more; only close may come in between, and find it done.
                self.release_session();
            }
            match self.state.compare_exchange(state, state - 1, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => break,
                Err(now) => state = now,
            }
        }
        if (state - 1) & (COUNT | ORPHAN) == ORPHAN {
            // SAFETY: the file object is gone, and nobody is inside: this was the last reference.
            drop(unsafe { Box::from_raw(&Windows, NonNull::from(self)) });
        }
    }

    /// A reference that keeps the record, whatever its state.
    ///
    /// # Safety
    /// The record is alive, and isn't closed during this call.
    pub unsafe fn hold(record: NonNull<Self>) -> Inside {
        // SAFETY: condition of the function.
        unsafe { record.as_ref() }.state.fetch_add(1, Ordering::Relaxed);
        Inside(record)
    }

    /// The file object goes. The record is freed now, or with the last request inside.
    pub fn close(record: NonNull<Self>) {
        // SAFETY: the file object's reference keeps it until ORPHAN is set below, and this one until the end.
        let this = unsafe { Self::hold(record) };
        this.release_sibling();
        this.cleanup();
        this.state.fetch_or(ORPHAN, Ordering::AcqRel);
    }

    /// Releases the client's session, in the process that it belongs to.
    fn release_session(&self) {
        let view = self.session.swap(core::ptr::null_mut(), Ordering::AcqRel);
        // SAFETY: the record owned this reference.
        let Ok(session) = (unsafe { SessionRef::<Windows>::from_view(view) }) else { return };
        match session.ext().process().map(crate::os::Process::another) {
            Some(process) => process.attached(|| drop(session)),
            None => drop(session),
        }
    }

    /// Claims the right to connect a sibling; `false` if one is connected or connecting.
    pub fn sibling_connecting(&self) -> bool {
        let (from, to) = (NOT_CONNECTED, CHANGING);
        self.sibling.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Claims the right to disconnect this sibling's session; `false` if it isn't connected.
    pub fn sibling_disconnecting(&self, session: usize) -> bool {
        self.sibling.compare_exchange(session, CHANGING, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Ends one of the two claims: with the session that is connected now, or 0.
    pub fn sibling_is(&self, session: usize) {
        self.sibling.store(session, Ordering::Release);
    }

    /// The connected sibling's session.
    pub fn sibling(&self) -> Option<usize> {
        Some(self.sibling.load(Ordering::Acquire)).filter(|session| *session > CHANGING)
    }

    fn release_sibling(&self) {
        let session = self.sibling.swap(NOT_CONNECTED, Ordering::AcqRel);
        if session > CHANGING {
            crate::idc::disconnect(session);
        }
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        // SAFETY: this reference kept the record until here.
        unsafe { self.0.as_ref() }.leave();
    }
}

impl core::ops::Deref for Inside {
    type Target = Record;

    fn deref(&self) -> &Record {
        // SAFETY: this reference keeps the record.
        unsafe { self.0.as_ref() }
    }
}
