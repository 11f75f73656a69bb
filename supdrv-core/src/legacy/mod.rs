//! An operating system made of C symbols: what a C driver of the era brings along.
//!
//! A platform's C shell links the library that this module makes instead of its old core. The library calls what the old core
//! called: the seed's `supdrvOS*` hooks, and the C runtime's `RT*` services ([`ffi`]). Nothing else is undefined in it.
//! Everything that a C function can answer is asked there each time; [`Legacy`] itself is empty.
//!
//! The platforms of the era differ in three things that a symbol can't tell. Features choose:
//!
//! | feature | function codes | loader and GIP mutex | image has two words more |
//! | --- | --- | --- | --- |
//! | `legacy` alone (Linux) | Linux | fast mutex | no |
//! | `legacy-bsd` (FreeBSD, Darwin) | BSD | fast mutex | no |
//! | `legacy-darwin` (and `legacy-bsd`) | BSD; resumes suspended keyboards | fast mutex | no |
//! | `legacy-solaris` | Solaris | fast mutex | with `legacy-image-words` |
//! | `legacy-windows` | Windows | recursive mutex, which leaves the IRQL alone | with `legacy-image-words` |
//! | `legacy-os2` | OS/2 | fast mutex | no |
//!
//! Reasons for calls of C functions take the era's contracts as given: the C runtime keeps what the methods of the seam promise.
#![allow(
    clashing_extern_declarations,
    reason = "the export table takes addresses only, of functions that others call"
)]

mod cpu;
#[cfg(all(feature = "legacy-dtrace", target_arch = "x86_64"))]
mod dtrace;
mod exports;
mod ffi;
mod image;
mod memory;
mod module;
mod sync;
mod time;

use core::ptr::{NonNull, null};
use core::sync::atomic::{AtomicPtr, Ordering};

use crate::abi::Status;
use crate::abi::ioctl::Encoding;
use crate::abi::published::{DevExtView, ObjectView, SessionView};
use crate::abi::status::{Result, VERR_INTERNAL_ERROR};
use crate::os::{NIL_ID, OsArch, OsHwVirt, OsIdentity, OsLog, OsPolicy, PreemptState, SessionKind};

/// The system behind the C symbols.
#[derive(Clone, Copy, Debug, Default)]
pub struct Legacy;

/// A status as C returns it.
fn check(status: core::ffi::c_int) -> Result<()> {
    Status(status).into_result()
}

/// A handle that a creating function stored, if it says so.
fn created(status: core::ffi::c_int, handle: ffi::Handle) -> Result<NonNull<core::ffi::c_void>> {
    check(status)?;
    NonNull::new(handle).ok_or(VERR_INTERNAL_ERROR)
}

/// What the hooks know a session by.
#[derive(Debug, Default)]
pub struct SessionExt {
    view: AtomicPtr<SessionView>,
}

impl OsArch for Legacy {}

impl OsIdentity for Legacy {
    type SessionExt = SessionExt;

    fn session_ext_create(&self, _kind: SessionKind) -> Result<SessionExt> {
        Ok(SessionExt::default())
    }

    fn session_published(&self, session: &SessionExt, view: NonNull<SessionView>) {
        session.view.store(view.as_ptr(), Ordering::Relaxed);
    }

    /// Shells write the ids of the opener into the session after it was created.
    fn real_uid(&self) -> u32 {
        NIL_ID
    }

    fn real_gid(&self) -> u32 {
        NIL_ID
    }

    fn process_id(&self) -> u32 {
        ffi::RTProcSelf()
    }

    fn process_handle(&self) -> usize {
        ffi::RTR0ProcHandleSelf()
    }

    fn thread_handle(&self) -> usize {
        ffi::RTThreadNativeSelf()
    }

    fn preempt_disable(&self) -> PreemptState {
        let mut state = ffi::PreemptState::NEW;
        ffi::RTThreadPreemptDisable(&mut state);
        PreemptState(state.pack())
    }

    unsafe fn preempt_restore(&self, state: PreemptState) {
        let mut state = ffi::PreemptState::unpack(state.0);
        // SAFETY: the state of a disable on this thread, which is restored once (condition of the function).
        unsafe { ffi::RTThreadPreemptRestore(&raw mut state) };
    }
}

impl OsHwVirt for Legacy {
    fn enable_vtx(&self, enable: bool) -> Result<()> {
        check(ffi::supdrvOSEnableVTx(enable))
    }

    fn suspend_vtx_on_cpu(&self) -> bool {
        ffi::supdrvOSSuspendVTxOnCpu()
    }

    fn resume_vtx_on_cpu(&self, suspended: bool) {
        ffi::supdrvOSResumeVTxOnCpu(suspended);
    }
}

impl OsLog for Legacy {
    fn log_write(&self, text: &[u8]) {
        let length = core::ffi::c_int::try_from(text.len()).unwrap_or(0);
        // SAFETY: the format takes a length and that many bytes, which are there.
        unsafe { ffi::SUPR0Printf(c"%.*s\n".as_ptr(), length, text.as_ptr()) };
    }
}

impl OsPolicy for Legacy {
    const ENCODING: Encoding = if cfg!(feature = "legacy-windows") {
        Encoding::Windows
    } else if cfg!(feature = "legacy-bsd") {
        Encoding::Bsd
    } else if cfg!(feature = "legacy-solaris") {
        Encoding::Solaris
    } else if cfg!(feature = "legacy-os2") {
        Encoding::Os2
    } else {
        Encoding::Linux
    };

    fn ring0_exports(&self) -> &'static [crate::ring0::Export] {
        exports::EXPORTS
    }

    fn tracer_globals(&self) -> Option<crate::tracer::TracerGlobals> {
        Some(<exports::Runtime as crate::ring0::Ring0>::tracer_globals())
    }

    #[cfg(all(feature = "legacy-dtrace", target_arch = "x86_64"))]
    fn native_tracer(&self) -> Option<NonNull<crate::abi::tracer::TracerReg>> {
        Some(dtrace::native_tracer())
    }

    fn gip_published(&self, address: usize) {
        crate::ring0::events::gip_published::<exports::Runtime>(address);
    }

    /// Loggers live in memory of the session: threads must not find them any more.
    fn session_closing(&self, session: usize) {
        // SAFETY: no logger is set; the key is only compared.
        let _status = unsafe { ffi::RTLogSetDefaultInstanceThread(core::ptr::null_mut(), session) };
    }

    fn obj_init_creator(&self, object: &mut ObjectView, session: &SessionExt) {
        // SAFETY: the object is the caller's alone; the view of a session that is in use lives.
        unsafe { ffi::supdrvOSObjInitCreator(object, session.view.load(Ordering::Relaxed)) };
    }

    fn obj_can_access(
        &self,
        object: &ObjectView,
        session: &SessionExt,
        name: Option<&core::ffi::CStr>,
    ) -> Option<Status> {
        let object = core::ptr::from_ref(object).cast_mut();
        let session = session.view.load(Ordering::Relaxed);
        // A hook that decides without saying what gets an error of its own.
        let mut status = VERR_INTERNAL_ERROR.0;
        let name = name.map_or(null(), core::ffi::CStr::as_ptr);
        // SAFETY: object and session are in use, so that their views live; the name is a C string or null.
        let decided = unsafe { ffi::supdrvOSObjCanAccess(object, session, name, &raw mut status) };
        decided.then_some(Status(status))
    }

    fn forced_async_tsc_mode(&self, dev_ext: &DevExtView) -> bool {
        // SAFETY: the view lives as long as the device; the hook reads it.
        unsafe { ffi::supdrvOSGetForcedAsyncTscMode(core::ptr::from_ref(dev_ext).cast_mut()) }
    }

    #[cfg(feature = "legacy-darwin")]
    fn resume_suspended_keyboards(&self) -> Result<()> {
        check(ffi::supdrvDarwinResumeSuspendedKbds())
    }
}

crate::capi!(Legacy, Legacy);
