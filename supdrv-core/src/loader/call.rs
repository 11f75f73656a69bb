//! Calling into images: CALL_VMMR0, fast calls and CALL_SERVICE.
//!
//! The fast calls are the hottest path of the driver, so that they take no lock: see `inside`.

use core::ffi::{c_int, c_uint, c_void};
use core::sync::atomic::Ordering;

use super::Loader;
use super::image::normalised;
use crate::abi::Status;
use crate::abi::published::SessionView;
use crate::abi::requests::{ServiceRequestHeader, Vmmr0RequestHeader};
use crate::abi::status::{Result, VERR_INTERNAL_ERROR, VERR_SUPDRV_SERVICE_NOT_FOUND, VERR_WRONG_ORDER};
use crate::os::SupdrvOs;
use crate::session::Session;

type EntryFast = unsafe extern "C" fn(vm: *mut c_void, cpu_id: u32, operation: c_uint);
type EntryEx = unsafe extern "C" fn(
    vm: *mut c_void,
    cpu_id: u32,
    operation: c_uint,
    request: *mut Vmmr0RequestHeader,
    arg: u64,
    session: *mut SessionView,
) -> c_int;
type ServiceHandler = unsafe extern "C" fn(
    session: *mut SessionView,
    operation: u32,
    arg: u64,
    request: *mut ServiceRequestHeader,
) -> c_int;

/// The arguments of CALL_VMMR0 that the driver passes on without looking at them.
#[derive(Clone, Copy, Debug)]
pub struct Vmmr0Call {
    /// The VM's ring-0 handle.
    pub vm: usize,
    /// Virtual CPU.
    pub cpu_id: u32,
    /// Operation.
    pub operation: u32,
    /// Argument.
    pub arg: u64,
}

/// A call of this session that is inside the VMMR0 image.
struct Inside<'a, O: SupdrvOs>(&'a Session<O>);

impl<'a, O: SupdrvOs> Inside<'a, O> {
    /// `None` if the session has no usage of a VMMR0 image.
    fn enter(session: &'a Session<O>) -> Option<Self> {
        let allowed = session.loader.calls.enter();
        let inside = Self(session);
        if allowed || session.driver().loader().may_enter_vmmr0(session) { Some(inside) } else { None }
    }
}

impl<O: SupdrvOs> Drop for Inside<'_, O> {
    fn drop(&mut self) {
        if self.0.loader.calls.leave() {
            self.0.driver().loader().finish_vmmr0(self.0);
        }
    }
}

impl<O: SupdrvOs> Loader<O> {
    /// The slow half of entering: the session's first call since it, or somebody else, loaded the image.
    fn may_enter_vmmr0(&self, session: &Session<O>) -> bool {
        let mut images = self.images.lock();
        let base = session.driver().published().vmmr0.load(Ordering::Relaxed);
        if base == 0 || images.usage(&(session.key(), base)).is_none() {
            return false;
        }
        session.loader.calls.allow();
        true
    }

    /// The last call is out: frees the VMMR0 image if that was put off.
    fn finish_vmmr0(&self, session: &Session<O>) {
        let base = session.driver().published().vmmr0.load(Ordering::Relaxed);
        self.drop_usage_when_idle(session, base, |images| {
            let doomed = images.usages.get(&(session.key(), base)).is_some_and(|usage| usage.doomed);
            doomed && !session.loader.calls.any_inside()
        });
    }

    fn enter_service(&self, session: &Session<O>, name: &[u8]) -> Result<(usize, ServiceHandler)> {
        let mut images = self.images.lock();
        let image = images.by_name.get(&normalised(name)).ok_or(VERR_SUPDRV_SERVICE_NOT_FOUND)?;
        let (base, handler) = (image.base, image.view.service.load(Ordering::Acquire));
        let usage = images.usage(&(session.key(), base)).filter(|_| handler != 0);
        usage.ok_or(VERR_SUPDRV_SERVICE_NOT_FOUND)?.calls += 1;
        // SAFETY: the address was checked to be inside the image when it was loaded; the usage keeps the image.
        Ok((base, unsafe { core::mem::transmute::<usize, ServiceHandler>(handler) }))
    }

    fn leave_service(&self, session: &Session<O>, base: usize) {
        let key = (session.key(), base);
        if let Some(usage) = self.images.lock().usages.get_mut(&key) {
            usage.calls -= 1;
            if !usage.doomed {
                return;
            }
        }
        self.drop_usage_when_idle(session, base, |images| {
            images.usages.get(&key).is_some_and(|usage| usage.doomed && usage.calls == 0)
        });
    }
}

impl<O: SupdrvOs> Session<O> {
    /// Calls the VMMR0 image's extended entry point; its status is passed on verbatim. Class T.
    ///
    /// # Errors
    /// `VERR_WRONG_ORDER`: no VMMR0 image, or this session has none of its own references to it.
    #[doc(alias = "SUP_IOCTL_CALL_VMMR0")]
    pub fn call_vmmr0(&self, call: Vmmr0Call, packet: Option<&mut [u8]>) -> Result<Status> {
        let _inside = Inside::enter(self).ok_or(VERR_WRONG_ORDER)?;
        let entry = self.driver().published().vmmr0_entry_ex.load(Ordering::Acquire);
        if entry == 0 {
            return Err(VERR_WRONG_ORDER);
        }
        // SAFETY: the address is inside the VMMR0 image, which `_inside` keeps.
        let entry: EntryEx = unsafe { core::mem::transmute(entry) };
        let packet = packet.map_or(core::ptr::null_mut(), |packet| packet.as_mut_ptr().cast());
        let session = self.view().as_ptr();
        // SAFETY: class T; the packet and the session are valid during the call. All else is between the client and its module.
        let status =
            unsafe { entry(call.vm as *mut c_void, call.cpu_id, call.operation, packet, call.arg, session) };
        Ok(Status(status))
    }

    /// A fast call: enters the VMMR0 image for the session's VM. No lock, no allocation, no log. Class T on entry.
    ///
    /// # Errors
    /// `VERR_INTERNAL_ERROR`: restricted session, no VM set, or no VMMR0 image of this session.
    #[doc(alias = "supdrvIOCtlFast")]
    pub fn call_fast(&self, operation: u32, cpu_id: u32) -> Result<()> {
        let vm = self.vm();
        if vm == 0 || !self.is_unrestricted() {
            return Err(VERR_INTERNAL_ERROR);
        }
        let _inside = Inside::enter(self).ok_or(VERR_INTERNAL_ERROR)?;
        let entry = self.driver().published().vmmr0_entry_fast.load(Ordering::Acquire);
        if entry == 0 {
            return Err(VERR_INTERNAL_ERROR);
        }
        // SAFETY: the address is inside the VMMR0 image, which `_inside` keeps.
        let entry: EntryFast = unsafe { core::mem::transmute(entry) };
        // SAFETY: class T; the VM is the module's own business.
        unsafe { entry(vm as *mut c_void, cpu_id, operation) };
        Ok(())
    }

    /// Calls a service image that this session has loaded; its status is passed on verbatim. Class T.
    ///
    /// # Errors
    /// `VERR_SUPDRV_SERVICE_NOT_FOUND`.
    #[doc(alias = "SUP_IOCTL_CALL_SERVICE")]
    pub fn call_service(
        &self,
        name: &[u8],
        operation: u32,
        arg: u64,
        packet: Option<&mut [u8]>,
    ) -> Result<Status> {
        let loader = self.driver().loader();
        let (base, handler) = loader.enter_service(self, name)?;
        let packet = packet.map_or(core::ptr::null_mut(), |packet| packet.as_mut_ptr().cast());
        // SAFETY: class T, no locks; the packet and the session are valid during the call.
        let status = Status(unsafe { handler(self.view().as_ptr(), operation, arg, packet) });
        loader.leave_service(self, base);
        Ok(status)
    }
}
