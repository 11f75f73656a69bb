//! LDR_LOAD: uploading the bits, publishing entry points, running ModuleInit.

use core::ffi::c_void;
use core::sync::atomic::Ordering;

use super::image::{Image, Placement, State, Tables};
use super::{Images, Loader};
use crate::abi::Status;
use crate::abi::ioctl::{LDR_ENTRY_NOTHING, LDR_ENTRY_SERVICE, LDR_ENTRY_VMMR0};
use crate::abi::published::{DevExtView, ImageView};
use crate::abi::status::{
    Result, VERR_ALREADY_LOADED, VERR_INVALID_HANDLE, VERR_INVALID_PARAMETER, VERR_PERMISSION_DENIED,
};
use crate::os::{NIL_HANDLE, NativeEntryPoints, SupdrvOs};
use crate::session::Session;

/// Called once when an image has been loaded, with its handle; a failure undoes the load. Class T, loader mutex held.
pub type ModuleInit = unsafe extern "C" fn(module: *mut c_void) -> i32;
/// Called once before a loaded image goes, with its handle. Class T, loader mutex held.
pub type ModuleTerm = unsafe extern "C" fn(module: *mut c_void);

/// An upload whose format was validated: tables inside the image, names terminated.
#[derive(Clone, Copy, Debug)]
pub struct LoadRequest<'a> {
    /// Base address that the open returned.
    pub base: usize,
    /// Bytes of bits, as in the open.
    pub image_bytes: u32,
    /// ModuleInit or 0.
    pub init: usize,
    /// ModuleTerm or 0.
    pub term: usize,
    /// Kind of entry points.
    pub entry_point_type: u32,
    /// VMMR0: base and its three entry points. Service: handler and three zeros.
    pub entry_points: [usize; 4],
    /// The image with its tables.
    pub image: &'a [u8],
    /// Its symbol table.
    pub symbols: &'a [u8],
    /// Its string table.
    pub strings: &'a [u8],
}

impl<O: SupdrvOs> Session<O> {
    /// Loads an image that this session opened. Returns what ModuleInit returned, or success without one.
    ///
    /// # Errors
    /// `VERR_INVALID_HANDLE` (not opened here, or other sizes), `VERR_ALREADY_LOADED`, `VERR_INVALID_PARAMETER` (entry points),
    /// `VERR_PERMISSION_DENIED` (the administrator allows only what the system's loader placed), `VERR_INTERNAL_ERROR_3`, `_4` (no memory), what the system's loader or ModuleInit fails with. The image is then as it was.
    #[doc(alias = "SUP_IOCTL_LDR_LOAD")]
    pub fn ldr_load(&self, request: &LoadRequest<'_>) -> Result<Status> {
        self.driver().loader().load(self, request)
    }
}

impl<O: SupdrvOs> Loader<O> {
    fn load(&self, session: &Session<O>, request: &LoadRequest<'_>) -> Result<Status> {
        let mut images = self.images.lock();
        images.usage(&(session.key(), request.base)).ok_or(VERR_INVALID_HANDLE)?;
        let image = images.at(request.base).ok_or(VERR_INVALID_HANDLE)?;
        let sizes = (image.view.image_bytes_with_tables as usize, image.view.image_bytes);
        if sizes != (request.image.len(), request.image_bytes) {
            return Err(VERR_INVALID_HANDLE);
        }
        if image.state != State::Open {
            return Err(VERR_ALREADY_LOADED);
        }
        if !image.is_native() && self.os.refuses_uploaded_code() {
            return Err(VERR_PERMISSION_DENIED);
        }
        self.check_entry_points(image, request)?;
        let tables = Tables::new(&self.os, request.symbols, request.strings)?;
        let result = self.run(&mut images, session, request, tables);
        if result.is_err() {
            if let Some(image) = images.at(request.base) {
                session.driver().tracer().module_unloading(image.handle() as usize);
            }
            self.roll_back(&mut images, request.base);
        }
        result
    }

    fn check_entry_points(&self, image: &Image<O>, request: &LoadRequest<'_>) -> Result<()> {
        let bits = request.image.get(..request.image_bytes as usize).ok_or(VERR_INVALID_PARAMETER)?;
        let required = |address: usize| {
            if !image.contains(address) {
                return Err(VERR_INVALID_PARAMETER);
            }
            match &image.placement {
                Placement::Exec(_) => Ok(()),
                Placement::Native(native) => self.os.native_validate(native, &image.view, address, bits),
            }
        };
        let [first, rest @ ..] = request.entry_points;
        match request.entry_point_type {
            LDR_ENTRY_NOTHING => {}
            LDR_ENTRY_VMMR0 => {
                // Who owns the entry points is recognised by this being the base.
                if first != image.base {
                    return Err(VERR_INVALID_PARAMETER);
                }
                required(first)?;
                rest.into_iter().try_for_each(required)?;
            }
            LDR_ENTRY_SERVICE => {
                required(first)?;
                if rest != [0; 3] {
                    return Err(VERR_INVALID_PARAMETER);
                }
            }
            _ => return Err(VERR_INVALID_PARAMETER),
        }
        [request.init, request.term].into_iter().filter(|address| *address != 0).try_for_each(required)
    }

    /// Everything that [`roll_back`](Self::roll_back) undoes.
    fn run(
        &self,
        images: &mut Images<O>,
        session: &Session<O>,
        request: &LoadRequest<'_>,
        tables: Tables<O>,
    ) -> Result<Status> {
        let view = session.driver().published();
        let image = images.at_mut(request.base).ok_or(VERR_INVALID_HANDLE)?;
        let bits = request.image.get(..request.image_bytes as usize).ok_or(VERR_INVALID_PARAMETER)?;
        let mut entry = NativeEntryPoints { init: request.init, term: request.term, ..Default::default() };
        let [first, rest @ ..] = request.entry_points;
        match request.entry_point_type {
            LDR_ENTRY_VMMR0 => entry.vmmr0 = rest,
            LDR_ENTRY_SERVICE => entry.service = first,
            _ => {}
        }
        // The system's loader sees the tables, and may correct them and the callbacks.
        image.set_state(State::Loaded, tables, entry.init, entry.term);
        match &image.placement {
            Placement::Exec(memory) => self.os.exec_load(memory, bits)?,
            Placement::Native(native) => self.os.native_load(native, &image.view, bits, &mut entry)?,
        }
        image.view.module_init.store(entry.init, Ordering::Relaxed);
        image.view.module_term.store(entry.term, Ordering::Relaxed);
        let is_vmmr0 = request.entry_point_type == LDR_ENTRY_VMMR0;
        if is_vmmr0 && !vmmr0_free_for(view, request.base, entry.vmmr0) {
            return Err(VERR_INVALID_PARAMETER);
        }
        let status = init(view, image, session, entry.init)?;
        // Only now may anybody enter the module.
        image.view.service.store(entry.service, Ordering::Release);
        if is_vmmr0 {
            publish_vmmr0(view, request.base, entry.vmmr0);
        }
        Ok(status)
    }

    /// Back to opened, with nothing published.
    fn roll_back(&self, images: &mut Images<O>, base: usize) {
        if let (Some(image), Ok(empty)) = (images.at_mut(base), Tables::empty(&self.os)) {
            image.set_state(State::Open, empty, 0, 0);
        }
    }
}

/// Runs ModuleInit inside the window in which modules may register tracepoints.
fn init<O: SupdrvOs>(
    view: &DevExtView,
    image: &Image<O>,
    session: &Session<O>,
    address: usize,
) -> Result<Status> {
    if address == 0 {
        return Ok(crate::abi::status::VINF_SUCCESS);
    }
    view.init_image.store(image.handle() as usize, Ordering::Relaxed);
    view.init_thread.store(session.driver().os().thread_handle(), Ordering::Relaxed);
    // SAFETY: the address is inside the image, whose bits have just been loaded.
    let init: ModuleInit = unsafe { core::mem::transmute(address) };
    // SAFETY: class T, loader mutex held, as modules know it.
    let status = Status(unsafe { init(image.handle().cast_mut().cast::<ImageView>().cast()) });
    view.init_image.store(0, Ordering::Relaxed);
    view.init_thread.store(NIL_HANDLE, Ordering::Relaxed);
    status.into_result().map(|()| status)
}

fn vmmr0_slots(view: &DevExtView) -> [&core::sync::atomic::AtomicUsize; 3] {
    [&view.vmmr0_entry_int, &view.vmmr0_entry_fast, &view.vmmr0_entry_ex]
}

fn vmmr0_free_for(view: &DevExtView, base: usize, entry_points: [usize; 3]) -> bool {
    match view.vmmr0.load(Ordering::Relaxed) {
        0 => true,
        owner => owner == base && vmmr0_slots(view).map(|slot| slot.load(Ordering::Relaxed)) == entry_points,
    }
}

fn publish_vmmr0(view: &DevExtView, base: usize, entry_points: [usize; 3]) {
    view.vmmr0.store(base, Ordering::Relaxed);
    for (slot, address) in vmmr0_slots(view).into_iter().zip(entry_points) {
        slot.store(address, Ordering::Release);
    }
}

/// Withdraws the VMMR0 entry points.
pub fn clear_vmmr0(view: &DevExtView) {
    for slot in vmmr0_slots(view) {
        slot.store(0, Ordering::SeqCst);
    }
    view.vmmr0.store(0, Ordering::SeqCst);
}
