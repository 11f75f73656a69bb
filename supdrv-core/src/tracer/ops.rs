//! The registered tracer: its record, read once, as typed callbacks.

use core::ptr::NonNull;

use crate::abi::Status;
use crate::abi::published::SessionView;
use crate::abi::status::{Result, VERR_INVALID_MAGIC, VERR_INVALID_POINTER, VERR_VERSION_MISMATCH};
use crate::abi::tracer::{ProviderCore, TRACER_MAGIC, TRACER_VERSION, TracerReg, UserContext};
use crate::abi::vtg::{NativeLocation, ObjectHeader};
use crate::os::OsArch;

type FireUser = unsafe extern "C" fn(
    *const TracerReg,
    *mut SessionView,
    *const UserContext,
    *const ObjectHeader,
    *const NativeLocation,
);
type Open = unsafe extern "C" fn(*const TracerReg, *mut SessionView, u32, usize, *mut usize) -> i32;
type Ioctl = unsafe extern "C" fn(*const TracerReg, *mut SessionView, usize, usize, usize, *mut i32) -> i32;
type Close = unsafe extern "C" fn(*const TracerReg, *mut SessionView, usize);
type OnProvider = unsafe extern "C" fn(*const TracerReg, *mut ProviderCore) -> i32;

/// What is done with a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProviderCall {
    /// The tracer learns of it.
    Register,
    /// The tracer forgets it, for the first time.
    Deregister,
    /// The tracer forgets it, after it couldn't at first.
    DeregisterZombie,
}

/// A tracer's record and its callbacks, all of them plausible addresses.
#[derive(Clone, Copy)]
pub struct Ops {
    reg: NonNull<TracerReg>,
    fire_kernel: usize,
    fire_user: FireUser,
    open: Open,
    ioctl: Ioctl,
    close: Close,
    register: OnProvider,
    deregister: OnProvider,
    deregister_zombie: OnProvider,
}

// SAFETY: addresses of code, and of a record that stays valid while the tracer is registered; both may be used from any thread.
unsafe impl Send for Ops {}
// SAFETY: as above.
unsafe impl Sync for Ops {}

impl Ops {
    /// Reads a registration record.
    ///
    /// # Errors
    /// `VERR_INVALID_MAGIC`, `VERR_VERSION_MISMATCH` (version or end magic), `VERR_INVALID_POINTER` (a callback).
    ///
    /// # Safety
    /// `reg` points to a record. If its magic, version and end magic are right, its callbacks are what they should be, and stay valid
    /// until the tracer was removed.
    pub unsafe fn read(os: &impl OsArch, reg: NonNull<TracerReg>) -> Result<Self> {
        // SAFETY: readable (condition of the function); it may be anywhere.
        let record = unsafe { reg.as_ptr().read_unaligned() };
        if record.magic != TRACER_MAGIC {
            return Err(VERR_INVALID_MAGIC);
        }
        if record.version != TRACER_VERSION || record.end_magic != TRACER_MAGIC as usize {
            return Err(VERR_VERSION_MISMATCH);
        }
        let callbacks = [
            record.fire_kernel,
            record.fire_user,
            record.open,
            record.ioctl,
            record.close,
            record.provider_register,
            record.provider_deregister,
            record.provider_deregister_zombie,
        ];
        if !callbacks.into_iter().all(|address| os.is_plausible_address(address)) {
            return Err(VERR_INVALID_POINTER);
        }
        let on_provider = |address: usize| {
            // SAFETY: not null, and the address of such a function (condition of the function).
            unsafe { core::mem::transmute::<usize, OnProvider>(address) }
        };
        // SAFETY: not null, and the addresses of such functions (condition of the function).
        let (fire_user, open, ioctl, close) = unsafe {
            (
                core::mem::transmute::<usize, FireUser>(record.fire_user),
                core::mem::transmute::<usize, Open>(record.open),
                core::mem::transmute::<usize, Ioctl>(record.ioctl),
                core::mem::transmute::<usize, Close>(record.close),
            )
        };
        Ok(Self {
            reg,
            fire_kernel: record.fire_kernel,
            fire_user,
            open,
            ioctl,
            close,
            register: on_provider(record.provider_register),
            deregister: on_provider(record.provider_deregister),
            deregister_zombie: on_provider(record.provider_deregister_zombie),
        })
    }

    /// Where kernel probes jump to.
    pub const fn fire_kernel(&self) -> usize {
        self.fire_kernel
    }

    /// Tells the tracer of a fired user-mode probe. Class I.
    ///
    /// # Safety
    /// The tracer isn't removed during the call; all pointers are valid during it.
    pub unsafe fn fire_user(
        &self,
        session: *mut SessionView,
        context: &UserContext,
        header: *const ObjectHeader,
        location: *const NativeLocation,
    ) {
        // SAFETY: conditions of the function.
        unsafe { (self.fire_user)(self.reg.as_ptr(), session, context, header, location) };
    }

    /// Opens the tracer for a session. Class T.
    ///
    /// # Safety
    /// The tracer isn't removed during the call; the session lives.
    pub unsafe fn open(
        &self,
        session: *mut SessionView,
        cookie: u32,
        arg: usize,
        data: &mut usize,
    ) -> Status {
        // SAFETY: conditions of the function.
        Status(unsafe { (self.open)(self.reg.as_ptr(), session, cookie, arg, data) })
    }

    /// Passes a request of a session to the tracer. Class T.
    ///
    /// # Safety
    /// As for [`open`](Self::open).
    pub unsafe fn ioctl(
        &self,
        session: *mut SessionView,
        data: usize,
        command: usize,
        arg: usize,
        result: &mut i32,
    ) -> Status {
        // SAFETY: conditions of the function.
        Status(unsafe { (self.ioctl)(self.reg.as_ptr(), session, data, command, arg, result) })
    }

    /// Closes the tracer for a session. Class T.
    ///
    /// # Safety
    /// As for [`open`](Self::open).
    pub unsafe fn close(&self, session: *mut SessionView, data: usize) {
        // SAFETY: conditions of the function.
        unsafe { (self.close)(self.reg.as_ptr(), session, data) };
    }

    /// Calls the tracer about a provider. Class T, tracer mutex held.
    ///
    /// # Errors
    /// The callback's status.
    ///
    /// # Safety
    /// The tracer isn't removed; the provider core, and what it points to, are valid until the tracer has forgotten it.
    pub unsafe fn provider(&self, call: ProviderCall, core: NonNull<ProviderCore>) -> Result<()> {
        let callback = match call {
            ProviderCall::Register => self.register,
            ProviderCall::Deregister => self.deregister,
            ProviderCall::DeregisterZombie => self.deregister_zombie,
        };
        // SAFETY: conditions of the function.
        Status(unsafe { callback(self.reg.as_ptr(), core.as_ptr()) }).into_result()
    }
}
