//! Tracepoints: who has them, who listens, and what happens when either side goes away.
//!
//! | word | meaning |
//! | --- | --- |
//! | tracer | the one component that consumes probes: a module, a sibling driver, or the system's own |
//! | provider | a named group of probes, found in a VTG object ([`vtg`]) |
//! | probe | a named event; a *location* is a place in code that fires it |
//! | user-mode module | an object in the memory of a process; it describes code of that process, or raw-mode code |
//! | zombie | a provider whose object is gone, and which the tracer couldn't forget yet |
//!
//! ```text
//!              register             tracer told             dereg: done
//!   (object) ───────────► Unknown ─────────────► Registered ───────────► freed
//!                            ▲                      │ dereg: busy
//!                            │ tracer goes: done    ▼
//!                            └──────────────────── Busy ──object goes──► zombie ──dereg: done──► freed
//! ```
//!
//! All state is under the tracer mutex, which is held while the tracer is told of providers, and never while it is opened, closed or asked
//! for anything, while user memory is touched, or while somebody waits. The order is loader mutex, tracer mutex, the tracer's own locks.
//!
//! **Firing takes no lock**, since it happens with interrupts off. Kernel probes jump through a variable straight into the tracer
//! ([`TracerGlobals`]); user-mode probes go through two gates ([`Gate`]), one for the module and one for the tracer. Whoever takes a module
//! or the tracer away closes its gate first and waits until it is idle.

mod copy;
#[cfg(all(feature = "dtrace", target_arch = "x86_64", not(windows)))]
pub mod dtrace;
mod marks;
mod ops;
mod place;
mod provider;
mod session;
mod state;
mod umod;
pub mod vtg;

use core::ffi::c_void;
use core::ptr::{NonNull, null_mut};
use core::sync::atomic::{AtomicPtr, Ordering};

use self::ops::Ops;
use self::place::{ImageBits, PlacedObject};
use self::provider::{Owner, Parts};
use self::state::{Registered, State, TracerOwner};
use self::vtg::Bitness;
use crate::abi::published::{DevExtView, ImageView};
use crate::abi::status::{
    Result, VERR_INVALID_HANDLE, VERR_INVALID_PARAMETER, VERR_INVALID_POINTER,
    VERR_SUPDRV_TRACER_ALREADY_REGISTERED, VERR_SUPDRV_TRACER_NOT_REGISTERED,
    VERR_SUPDRV_VTG_ALREADY_REGISTERED, VERR_WRONG_ORDER,
};
use crate::abi::tracer::{HELPERS_VERSION, TracerHelpers, TracerReg};
use crate::driver::Driver;
use crate::heap::Box;
use crate::log::log;
use crate::os::{LockClass, NIL_HANDLE, SupdrvOs};
use crate::session::Session;
use crate::sync::{Gate, Mutex};

pub use self::session::TracerSession;
pub use self::umod::UmodRequest;

/// Milliseconds between two looks at a tracer that can't go yet.
const BUSY_WAIT_MS: u32 = 1000;
/// Rounds of waiting between two messages about it.
const ROUNDS_PER_MESSAGE: u32 = 16;
/// Milliseconds between two looks at somebody else's removal of a tracer.
const REMOVAL_WAIT_MS: u32 = 10;
/// Milliseconds in which every CPU goes through its scheduler.
const QUIESCE_MS: u32 = 20;

/// What C knows of tracepoints without naming a driver: global variables, wherever they are.
#[derive(Clone, Copy, Debug)]
pub struct TracerGlobals {
    /// What kernel probes jump through: `g_pfnSupdrvProbeFireKernel`.
    pub fire_kernel: &'static AtomicPtr<()>,
    /// The code that does nothing, which it points to while there is no tracer: `supdrvTracerProbeFireStub`.
    pub stub: unsafe extern "C" fn(),
    /// The driver, for modules that name only themselves.
    pub dev_ext: &'static AtomicPtr<DevExtView>,
}

impl TracerGlobals {
    fn set(&self, callback: Option<usize>) {
        let callback = callback.map(core::ptr::with_exposed_provenance_mut);
        let stub = self.stub as *const () as *mut ();
        self.fire_kernel.store(callback.unwrap_or(stub), Ordering::Release);
    }
}

/// Who asks for a change of the tracer: a module from its ModuleInit or ModuleTerm, or a sibling driver.
#[derive(Clone, Copy)]
pub enum Registrant<'a, O: SupdrvOs> {
    /// A module, by its handle.
    Module(usize),
    /// A sibling driver, by its session.
    Driver(&'a Session<O>),
}

/// The tracepoints of a driver.
pub struct Tracer<O: SupdrvOs> {
    os: O,
    /// Open while a tracer may be called for user-mode probes.
    gate: Gate<Ops>,
    state: Mutex<State<O>, O>,
}

/// What exists in a tracer; all zero when nobody uses it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TracerCounters {
    /// Providers.
    pub providers: usize,
    /// Providers whose object is gone.
    pub zombies: usize,
    /// Copies of user-mode modules.
    pub copies: usize,
    /// Opens and requests in progress.
    pub opens: usize,
}

impl<O: SupdrvOs> Tracer<O> {
    /// No tracer, no providers. Class T.
    ///
    /// # Errors
    /// `VERR_NO_MEMORY`.
    pub(crate) fn new(os: &O) -> Result<Self> {
        let state = Mutex::new(os, LockClass::Tracer, State::new(os))?;
        Ok(Self { os: os.clone(), gate: Gate::default(), state })
    }

    /// Publishes what C code sees, and takes the system's own tracer if it has one. Class T.
    ///
    /// # Errors
    /// `VERR_NO_MEMORY`; what is wrong with the system's tracer is logged and no error.
    ///
    /// # Safety
    /// The view outlives the tracer.
    pub(crate) unsafe fn start(&self, view: NonNull<DevExtView>) -> Result<()> {
        let mut state = self.state.lock();
        // SAFETY: condition of the function.
        let published = unsafe {
            state.set_view(view);
            view.as_ref()
        };
        published.tracer_mutex.store(self.state.handle(), Ordering::Relaxed);
        published.tracer_helpers.iter().for_each(|word| word.store(HELPERS_VERSION, Ordering::Relaxed));
        state.globals = self.os.tracer_globals();
        if let Some(globals) = &state.globals {
            globals.set(None);
            globals.dev_ext.store(view.as_ptr(), Ordering::Release);
        }
        let Some(reg) = self.os.native_tracer() else { return Ok(()) };
        // SAFETY: a system offers a good record that is always there.
        match unsafe { Ops::read(&self.os, reg) } {
            Ok(ops) => {
                let ops = Box::new(&self.os, ops)?;
                self.gate.open(ops.as_ptr());
                if let Some(globals) = &state.globals {
                    globals.set(Some(ops.fire_kernel()));
                }
                state.tracer = Some(Registered { ops, owner: TracerOwner::Native });
            }
            Err(_) => log(&self.os, &[b"supdrv: the system's tracer is no good"]),
        }
        Ok(())
    }

    /// Deregisters everything, and waits for the tracer as long as it takes. Class T; no session is left.
    pub(crate) fn stop(&self, view: &DevExtView) {
        let mut state = self.state.lock();
        self.gate.close();
        if let Some(globals) = state.globals.take() {
            globals.set(None);
            globals.dev_ext.store(null_mut(), Ordering::Release);
        }
        if state.tracer.is_some() {
            state.set_unloading(true);
        }
        state.deregister_all();
        for round in 0_u32.. {
            let busy = state.process_zombies() != 0 || state.opens() != 0 || !self.gate.is_idle();
            if !busy {
                break;
            }
            state = self.wait_busy(state, round);
        }
        state.tracer = None;
        state.set_unloading(false);
        drop(state);
        view.tracer_mutex.store(0, Ordering::Relaxed);
        view.tracer_helpers.iter().for_each(|word| word.store(0, Ordering::Relaxed));
    }

    /// Lets time pass without the mutex.
    fn wait_busy<'a>(&'a self, state: StateGuard<'a, O>, round: u32) -> StateGuard<'a, O> {
        if round.is_multiple_of(ROUNDS_PER_MESSAGE) {
            log(&self.os, &[b"supdrv: waiting for the tracer: it is open, called, or has busy providers"]);
        }
        drop(state);
        self.os.sleep_ms(BUSY_WAIT_MS);
        self.state.lock()
    }

    /// What exists now. Class T.
    pub fn counters(&self) -> TracerCounters {
        let state = self.state.lock();
        let (providers, zombies) = state.counts();
        TracerCounters { providers, zombies, copies: state.copy_count(), opens: state.opens() as usize }
    }

    /// Whether there is a tracer. Class T.
    pub fn is_present(&self) -> bool {
        self.state.lock().tracer.is_some()
    }

    /// Registers the tracepoints of a sibling driver. Class T.
    ///
    /// # Errors
    /// `VERR_INVALID_PARAMETER` (not a sibling driver's session), `VERR_INVALID_POINTER`, what is wrong with the object,
    /// `VERR_SUPDRV_VTG_ALREADY_REGISTERED`, `VERR_NO_MEMORY`, or the tracer's.
    ///
    /// # Safety
    /// The conditions of an object in place: it is there, nobody else writes it during the call, and it stays until it is deregistered or the
    /// session is closed.
    #[doc(alias = "SUPR0TracerRegisterDrv")]
    pub unsafe fn register_driver(&self, session: &Session<O>, header: usize, name: &[u8]) -> Result<()> {
        if !self.os.is_plausible_address(header) {
            return Err(VERR_INVALID_POINTER);
        }
        if session.owner().kind.is_user() {
            return Err(VERR_INVALID_PARAMETER);
        }
        // SAFETY: conditions of the function.
        unsafe { self.register_object(header, None, Owner::Session(session.key()), name) }
    }

    /// Deregisters the tracepoints of a sibling driver, if it has any. Class T.
    #[doc(alias = "SUPR0TracerDeregisterDrv")]
    pub fn deregister_driver(&self, session: &Session<O>) {
        if session.owner().kind.is_user() {
            return;
        }
        let mut state = self.state.lock();
        state.deregister_owner(Owner::Session(session.key()));
        state.process_zombies();
    }

    /// Registers the tracepoints of a module, from its ModuleInit. Class T, loader mutex held by the calling thread.
    ///
    /// # Errors
    /// `VERR_INVALID_HANDLE`, `VERR_INVALID_POINTER` (implausible handle or header), `VERR_WRONG_ORDER` (not the module that is
    /// being initialised, or not the thread), `VERR_INVALID_PARAMETER` (header outside the image), what is wrong with the object,
    /// `VERR_SUPDRV_VTG_ALREADY_REGISTERED`, `VERR_SUPDRV_VTG_ONLY_ONCE_PER_SESSION`, `VERR_NO_MEMORY`, or the tracer's.
    #[doc(alias = "SUPR0TracerRegisterModule")]
    pub fn register_module(&self, view: &DevExtView, module: usize, header: usize) -> Result<()> {
        if !self.os.is_plausible_address(module) {
            return Err(VERR_INVALID_HANDLE);
        }
        if !self.os.is_plausible_address(header) {
            return Err(VERR_INVALID_POINTER);
        }
        let image = self.image_in_init(view, module)?;
        let bits = ImageBits { base: image.base.load(Ordering::Relaxed), bytes: image.image_bytes as usize };
        if header.wrapping_sub(bits.base) >= bits.bytes {
            return Err(VERR_INVALID_PARAMETER);
        }
        let name = image.name.split(|byte| *byte == 0).next().unwrap_or(&[]);
        // SAFETY: the image is loaded, its code runs on this thread, and unloading it deregisters first.
        unsafe { self.register_object(header, Some(bits), Owner::Image(module), name) }
    }

    /// The image that is being initialised by the calling thread, if it is this one.
    fn image_in_init(&self, view: &DevExtView, module: usize) -> Result<&ImageView> {
        let in_window = view.init_image.load(Ordering::Relaxed) == module
            && view.init_thread.load(Ordering::Relaxed) == self.os.thread_handle();
        let image = core::ptr::with_exposed_provenance::<ImageView>(module);
        if !in_window || self.os.thread_handle() == NIL_HANDLE {
            return Err(VERR_WRONG_ORDER);
        }
        // SAFETY: the loader named it in the window that this thread is in, so that it is an image, and stays.
        unsafe { image.as_ref() }.ok_or(VERR_WRONG_ORDER)
    }

    /// # Safety
    /// As for [`PlacedObject::read`]; the object stays until its owner has deregistered it.
    unsafe fn register_object(
        &self,
        header: usize,
        image: Option<ImageBits>,
        owner: Owner,
        module: &[u8],
    ) -> Result<()> {
        // Of an object that is registered already, the tracer may have set counters: that must be found out first.
        let mut state = self.state.lock();
        let unique = state.check_unique(header, owner);
        if unique == Err(VERR_SUPDRV_VTG_ALREADY_REGISTERED) {
            return unique;
        }
        // SAFETY: conditions of the function.
        let placed = unsafe { PlacedObject::read(&self.os, header, image) }?;
        unique?;
        let parts = |index: usize| {
            let provider = placed.object().providers().get(index)?;
            let raw = placed.object().header();
            let name = vtg::Area { offset: provider.name_offset, bytes: provider.name_len.into() };
            let locations = placed.locations().record(0)?.as_ptr() as usize;
            Some(Parts {
                // SAFETY: names aren't written by anybody (condition of the function).
                name: unsafe { placed.bytes(name) },
                process: None,
                module,
                header,
                desc: placed.at(provider.offset),
                index: index as u16,
                owner,
                shape: (raw.bitness().location_bytes() as u8, Bitness::NATIVE.bits(), false),
                places: [locations, locations, placed.at(raw.counters().offset)],
                states: [0, 0],
                marks: placed.marks(),
            })
        };
        let result = state.register(placed.object().providers().len(), parts);
        state.process_zombies();
        result.map(drop)
    }

    /// Whether this registrant is what it has to be at all, and who it then is.
    fn identify(&self, registrant: &Registrant<'_, O>) -> Result<TracerOwner> {
        match registrant {
            Registrant::Module(module) if self.os.is_plausible_address(*module) => {
                Ok(TracerOwner::Image(*module))
            }
            Registrant::Module(_) => Err(VERR_INVALID_POINTER),
            Registrant::Driver(session) if session.owner().kind.is_user() => Err(VERR_INVALID_PARAMETER),
            Registrant::Driver(session) => Ok(TracerOwner::Session(session.key())),
        }
    }

    /// Registers a tracer, and presents all providers to it. Class T; a module does it from its ModuleInit.
    ///
    /// # Errors
    /// `VERR_INVALID_HANDLE` (implausible record), `VERR_INVALID_POINTER` (implausible module or callback), `VERR_WRONG_ORDER` (a module
    /// outside its ModuleInit), `VERR_INVALID_PARAMETER` (not a sibling driver's session), `VERR_INVALID_MAGIC`,
    /// `VERR_VERSION_MISMATCH`, `VERR_SUPDRV_TRACER_ALREADY_REGISTERED`, `VERR_NO_MEMORY`.
    ///
    /// # Safety
    /// `reg` is implausible or points to a record, which is a tracer's if it looks like one and stays valid until it is removed.
    #[doc(alias = "SUPR0TracerRegisterImpl")]
    pub unsafe fn register_tracer(
        &self,
        view: &DevExtView,
        registrant: Registrant<'_, O>,
        reg: usize,
    ) -> Result<NonNull<TracerHelpers>> {
        let record = core::ptr::with_exposed_provenance_mut::<TracerReg>(reg);
        let record = NonNull::new(record).filter(|_| self.os.is_plausible_address(reg));
        let record = record.ok_or(VERR_INVALID_HANDLE)?;
        let owner = self.identify(&registrant)?;
        if let Registrant::Module(module) = registrant {
            self.image_in_init(view, module)?;
        }
        // SAFETY: condition of the function.
        let ops = Box::new(&self.os, unsafe { Ops::read(&self.os, record) }?)?;
        let mut state = self.state.lock();
        if state.tracer.is_some() {
            return Err(VERR_SUPDRV_TRACER_ALREADY_REGISTERED);
        }
        let (callbacks, address) = (*ops, ops.as_ptr());
        state.tracer = Some(Registered { ops, owner });
        state.present_all(&callbacks);
        // Last: from here on probes fire into the tracer.
        self.gate.open(address);
        if let Some(globals) = &state.globals {
            globals.set(Some(callbacks.fire_kernel()));
        }
        Ok(NonNull::from(&view.tracer_helpers).cast())
    }

    /// Removes a tracer. Class T; waits until nobody has it open, nobody is inside, and it has forgotten all providers.
    ///
    /// # Errors
    /// `VERR_INVALID_POINTER` (implausible module), `VERR_INVALID_PARAMETER` (not a sibling driver's session),
    /// `VERR_SUPDRV_TRACER_NOT_REGISTERED` (by this one).
    #[doc(alias = "SUPR0TracerDeregisterImpl")]
    pub fn deregister_tracer(&self, registrant: Registrant<'_, O>) -> Result<()> {
        self.remove(self.identify(&registrant)?)
    }

    /// Removes the tracer of an owner.
    fn remove(&self, owner: TracerOwner) -> Result<()> {
        let mut state = self.state.lock();
        loop {
            if state.tracer.as_ref().is_none_or(|tracer| tracer.owner != owner) {
                return Err(VERR_SUPDRV_TRACER_NOT_REGISTERED);
            }
            if !state.unloading {
                break;
            }
            // Somebody else is at it: by the time it is done, there is nothing left to remove.
            drop(state);
            self.os.sleep_ms(REMOVAL_WAIT_MS);
            state = self.state.lock();
        }
        state.set_unloading(true);
        self.gate.close();
        if let Some(globals) = &state.globals {
            globals.set(None);
        }
        drop(state);
        self.quiesce();
        let mut state = self.state.lock();
        for round in 0_u32.. {
            let providers = state.withdraw_all() + state.process_zombies();
            if providers == 0 && state.opens() == 0 && self.gate.is_idle() {
                break;
            }
            state = self.wait_busy(state, round);
        }
        let removed = state.tracer.take();
        state.set_unloading(false);
        drop(state);
        drop(removed);
        Ok(())
    }

    /// Waits until no CPU is inside the tracer's callback for kernel probes any more. They are reached by a jump, so that nobody counts
    /// them; but they don't sleep, so that a CPU that went through its scheduler is out of them.
    fn quiesce(&self) {
        unsafe extern "C" fn nothing(_cpu_id: u32, _context: *mut c_void) {}
        for pause_ms in [QUIESCE_MS, 0] {
            // SAFETY: the worker does nothing. A system without cross calls has one CPU, on which this code runs.
            let _one_cpu = unsafe { self.os.mp_on_all(nothing, null_mut()) };
            self.os.sleep_ms(pause_ms);
        }
    }

    /// A module goes away, or its ModuleInit failed: its tracer and its tracepoints go first. Class T, loader mutex held; the module's
    /// memory is still there.
    #[doc(alias = "supdrvTracerModuleUnloading")]
    pub(crate) fn module_unloading(&self, module: usize) {
        let _not_a_tracer = self.remove(TracerOwner::Image(module));
        let mut state = self.state.lock();
        state.deregister_owner(Owner::Image(module));
        state.process_zombies();
    }
}

/// The state, locked.
type StateGuard<'a, O> = crate::sync::MutexGuard<'a, State<O>, O>;

/// What a device extension's tracer is reached by.
impl<O: SupdrvOs> Driver<O> {
    /// Registers the tracepoints of a module; see [`Tracer::register_module`].
    ///
    /// # Errors
    /// As there.
    pub fn tracer_register_module(&self, module: usize, header: usize) -> Result<()> {
        self.tracer().register_module(self.published(), module, header)
    }

    /// A module goes away: takes its tracer and its tracepoints along. Class T, the module's memory is still there.
    #[doc(alias = "supdrvTracerModuleUnloading")]
    pub fn tracer_module_unloading(&self, module: usize) {
        self.tracer().module_unloading(module);
    }
}
