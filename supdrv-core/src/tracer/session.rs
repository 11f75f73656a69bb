//! A session and the tracer: open, close, requests; and the end of a session.

use core::sync::atomic::{AtomicUsize, Ordering};

use super::provider::Owner;
use super::state::TracerOwner;
use super::umod::Slots;
use super::{StateGuard, Tracer};
use crate::abi::Status;
use crate::abi::status::{
    Result, VERR_SUPDRV_TRACER_ALREADY_OPENED, VERR_SUPDRV_TRACER_CANNOT_OPEN_SELF,
    VERR_SUPDRV_TRACER_NOT_OPENED, VERR_SUPDRV_TRACER_NOT_PRESENT, VERR_SUPDRV_TRACER_SESSION_BUSY,
    VERR_SUPDRV_TRACER_UNLOADING,
};
use crate::os::{NIL_HANDLE, SupdrvOs};
use crate::session::Session;
use crate::tracer::ops::Ops;

/// An open whose tracer gave it no data, or has not yet.
const NO_DATA: usize = usize::MAX;

/// What the tracer's part of the driver keeps in each session. Under the tracer mutex, but for the slots.
pub struct TracerSession<O: SupdrvOs> {
    /// What the tracer gave this session when it was opened; 0 if it isn't open.
    data: AtomicUsize,
    /// The thread that is inside the tracer for this session, [`NIL_HANDLE`] for none.
    caller: AtomicUsize,
    pub(super) slots: Slots<O>,
}

impl<O: SupdrvOs> TracerSession<O> {
    /// Makes one in a session, without a copy on the stack.
    ///
    /// # Safety
    /// The place is valid for writes, and nobody else knows it yet.
    pub(crate) unsafe fn init(place: *mut Self) {
        // SAFETY: condition of the function.
        unsafe {
            (&raw mut (*place).data).write(AtomicUsize::new(0));
            (&raw mut (*place).caller).write(AtomicUsize::new(NIL_HANDLE));
            Slots::init(&raw mut (*place).slots);
        }
    }

    fn data(&self) -> usize {
        self.data.load(Ordering::Relaxed)
    }

    fn is_busy(&self) -> bool {
        self.caller.load(Ordering::Relaxed) != NIL_HANDLE
    }
}

/// Stores what the tracer gave a session, also where C code looks.
fn set_data<O: SupdrvOs>(session: &Session<O>, data: usize) {
    session.tracer.data.store(data, Ordering::Relaxed);
    session.published().tracer_data.store(data, Ordering::Relaxed);
}

impl<O: SupdrvOs> Tracer<O> {
    /// Runs `call` without the mutex, as the one thread that is inside the tracer for this session.
    fn call<'a, T>(
        &'a self,
        state: StateGuard<'a, O>,
        session: &Session<O>,
        call: impl FnOnce() -> T,
    ) -> (StateGuard<'a, O>, T) {
        session.tracer.caller.store(self.os.thread_handle(), Ordering::Relaxed);
        drop(state);
        let result = call();
        let state = self.state.lock();
        session.tracer.caller.store(NIL_HANDLE, Ordering::Relaxed);
        (state, result)
    }

    fn open(&self, session: &Session<O>, cookie: u32, arg: usize) -> Result<Status> {
        let mut state = self.state.lock();
        if session.tracer.data() != 0 {
            return Err(VERR_SUPDRV_TRACER_ALREADY_OPENED);
        }
        let tracer = state.tracer.as_ref().ok_or(VERR_SUPDRV_TRACER_NOT_PRESENT)?;
        if tracer.owner == TracerOwner::Session(session.key()) {
            return Err(VERR_SUPDRV_TRACER_CANNOT_OPEN_SELF);
        }
        let ops = *tracer.ops;
        if state.unloading {
            return Err(VERR_SUPDRV_TRACER_UNLOADING);
        }
        if session.tracer.is_busy() {
            return Err(VERR_SUPDRV_TRACER_SESSION_BUSY);
        }
        state.add_open();
        set_data(session, NO_DATA);
        let (mut state, (status, data)) = self.call(state, session, || {
            let mut data = NO_DATA;
            // SAFETY: the open that was counted keeps the tracer; the caller has a reference to the session.
            let status = unsafe { ops.open(session.view().as_ptr(), cookie, arg, &mut data) };
            (status, data)
        });
        if status.is_failure() {
            set_data(session, 0);
            state.drop_open();
        } else {
            // A tracer that stores nothing must not make the session look closed.
            set_data(session, if data == 0 { NO_DATA } else { data });
        }
        Ok(status)
    }

    fn close(&self, session: &Session<O>) -> Result<()> {
        let mut state = self.state.lock();
        let data = session.tracer.data();
        if data == 0 {
            return Err(VERR_SUPDRV_TRACER_NOT_OPENED);
        }
        let Some(ops) = state.ops() else {
            set_data(session, 0);
            state.drop_open();
            return Err(VERR_SUPDRV_TRACER_NOT_PRESENT);
        };
        if session.tracer.is_busy() {
            return Err(VERR_SUPDRV_TRACER_SESSION_BUSY);
        }
        set_data(session, 0);
        let (mut state, ()) = self.call(state, session, || {
            // SAFETY: the open that ends here keeps the tracer; the caller has a reference to the session.
            unsafe { ops.close(session.view().as_ptr(), data) };
        });
        state.drop_open();
        Ok(())
    }

    /// What a request needs: the tracer, and the session's data.
    fn opened(&self, state: &StateGuard<'_, O>, session: &Session<O>) -> Result<(Ops, usize)> {
        let data = session.tracer.data();
        if data == 0 {
            return Err(VERR_SUPDRV_TRACER_NOT_OPENED);
        }
        let ops = state.ops().ok_or(VERR_SUPDRV_TRACER_NOT_PRESENT)?;
        if state.unloading {
            return Err(VERR_SUPDRV_TRACER_UNLOADING);
        }
        if session.tracer.is_busy() {
            return Err(VERR_SUPDRV_TRACER_SESSION_BUSY);
        }
        Ok((ops, data))
    }

    fn ioctl(&self, session: &Session<O>, command: usize, arg: usize) -> Result<(Status, i32)> {
        let mut state = self.state.lock();
        let (ops, data) = self.opened(&state, session)?;
        state.add_open();
        let (mut state, result) = self.call(state, session, || {
            let mut value = 0;
            // SAFETY: the request that was counted keeps the tracer; the caller has a reference to the session.
            let status = unsafe { ops.ioctl(session.view().as_ptr(), data, command, arg, &mut value) };
            (status, value)
        });
        state.drop_open();
        Ok(result)
    }

    /// Ends everything that a dying session has with tracepoints: its providers, its open, its tracer, its user-mode modules. Class T.
    #[doc(alias = "supdrvTracerCleanupSession")]
    pub(crate) fn session_closing(&self, session: &Session<O>) {
        self.state.lock().deregister_owner(Owner::Session(session.key()));
        let _not_open = self.close(session);
        if session.owner().kind.is_user() {
            self.drop_umods(session);
        } else {
            let _not_a_tracer = self.remove(TracerOwner::Session(session.key()));
        }
    }
}

/// Tracer services for ring-3. Class T, may block.
impl<O: SupdrvOs> Session<O> {
    /// Opens the tracer for this session; returns what the tracer returned.
    ///
    /// # Errors
    /// `VERR_SUPDRV_TRACER_ALREADY_OPENED`, `_NOT_PRESENT`, `_CANNOT_OPEN_SELF`, `_UNLOADING`, `_SESSION_BUSY`.
    #[doc(alias = "SUP_IOCTL_TRACER_OPEN")]
    pub fn tracer_open(&self, cookie: u32, arg: usize) -> Result<Status> {
        self.driver().tracer().open(self, cookie, arg)
    }

    /// Closes it; allowed while the tracer is being removed.
    ///
    /// # Errors
    /// `VERR_SUPDRV_TRACER_NOT_OPENED`, `_NOT_PRESENT` (it is closed all the same), `_SESSION_BUSY`.
    #[doc(alias = "SUP_IOCTL_TRACER_CLOSE")]
    pub fn tracer_close(&self) -> Result<()> {
        self.driver().tracer().close(self)
    }

    /// Passes a request to the tracer; returns its status and its value.
    ///
    /// # Errors
    /// `VERR_SUPDRV_TRACER_NOT_OPENED`, `_NOT_PRESENT`, `_UNLOADING`, `_SESSION_BUSY`.
    #[doc(alias = "SUP_IOCTL_TRACER_IOCTL")]
    pub fn tracer_ioctl(&self, command: usize, arg: usize) -> Result<(Status, i32)> {
        self.driver().tracer().ioctl(self, command, arg)
    }
}
