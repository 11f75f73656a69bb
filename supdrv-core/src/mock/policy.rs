//! Policy hooks, VT-x arbitration and the log.

use core::ptr::NonNull;
use std::borrow::ToOwned;
use std::string::String;
use std::vec::Vec;

use super::{Call, Class, Codes, Kind, Machine, MockOs, locked};
use crate::abi::Status;
use crate::abi::ioctl::Encoding;
use crate::abi::published::{DevExtView, ObjectView};
use crate::abi::status::{Result, VERR_NOT_IMPLEMENTED, VERR_NOT_SUPPORTED};
use crate::abi::tracer::TracerReg;
use crate::os::{ObjectCreator, OsHwVirt, OsLog, OsPolicy};
use crate::ring0::Export;
use crate::tracer::TracerGlobals;

/// What the hooks answer.
pub(super) struct Policy {
    exports: &'static [Export],
    tracer_globals: Option<TracerGlobals>,
    native_tracer: usize,
    gip: usize,
    access: Option<Status>,
    asked: Vec<(ObjectCreator, Option<String>)>,
    forced_async: bool,
    no_uploads: bool,
    keyboards: Status,
    kernel_vtx: Option<Status>,
    vtx_suspended: usize,
    log: Vec<String>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            exports: &[],
            tracer_globals: None,
            native_tracer: 0,
            gip: 0,
            access: None,
            asked: Vec::new(),
            forced_async: false,
            no_uploads: false,
            keyboards: VERR_NOT_IMPLEMENTED,
            kernel_vtx: None,
            vtx_suspended: 0,
            log: Vec::new(),
        }
    }
}

impl Machine {
    /// Sets the functions that modules can link against; none at first.
    pub fn set_exports(&self, exports: &'static [Export]) {
        locked(&self.policy).exports = exports;
    }

    /// Gives the driver the global variables of tracepoints; it has none at first.
    pub fn set_tracer_globals(&self, globals: TracerGlobals) {
        locked(&self.policy).tracer_globals = Some(globals);
    }

    /// Gives the system a tracer of its own, by the address of its record; 0, at first, for none.
    pub fn set_native_tracer(&self, record: usize) {
        locked(&self.policy).native_tracer = record;
    }

    /// Where the driver said that the GIP is; 0 for nowhere.
    #[must_use]
    pub fn published_gip(&self) -> usize {
        locked(&self.policy).gip
    }

    /// Sets what the system says about access to objects; `None`, at first, leaves it to the core.
    pub fn set_access_policy(&self, answer: Option<Status>) {
        locked(&self.policy).access = answer;
    }

    /// Whose objects, and under which names, the system was asked about.
    #[must_use]
    pub fn access_questions(&self) -> Vec<(ObjectCreator, Option<String>)> {
        locked(&self.policy).asked.clone()
    }

    /// Sets whether the administrator forces the GIP into asynchronous mode.
    pub fn set_forced_async_tsc(&self, forced: bool) {
        locked(&self.policy).forced_async = forced;
    }

    /// Sets whether the administrator forbids images that ring-3 uploads.
    pub fn set_refuses_uploaded_code(&self, refused: bool) {
        locked(&self.policy).no_uploads = refused;
    }

    /// Sets what waking up keyboards returns; "not implemented" at first.
    pub fn set_keyboards(&self, result: Status) {
        locked(&self.policy).keyboards = result;
    }

    /// Lets the kernel manage VT-x and answer with this status; at first it doesn't.
    pub fn set_kernel_vtx(&self, answer: Option<Status>) {
        locked(&self.policy).kernel_vtx = answer;
    }

    /// Lines that the driver logged.
    #[must_use]
    pub fn log(&self) -> Vec<String> {
        locked(&self.policy).log.clone()
    }
}

impl<E: Codes> OsPolicy for MockOs<E> {
    const ENCODING: Encoding = E::ENCODING;

    fn tracer_globals(&self) -> Option<TracerGlobals> {
        locked(&self.policy).tracer_globals
    }

    fn native_tracer(&self) -> Option<NonNull<TracerReg>> {
        NonNull::new(core::ptr::with_exposed_provenance_mut(locked(&self.policy).native_tracer))
    }

    fn ring0_exports(&self) -> &'static [Export] {
        self.require(Class::T, Call::Ring0Exports);
        locked(&self.policy).exports
    }

    fn gip_published(&self, address: usize) {
        self.require(Class::T, Call::GipPublished);
        locked(&self.policy).gip = address;
    }

    fn obj_init_creator(&self, _object: &mut ObjectView, _session: &Self::SessionExt) {
        self.require(Class::T, Call::ObjInitCreator);
        if !self.held_locks().is_empty() {
            self.violation("obj_init_creator is called with a lock held");
        }
    }

    fn obj_can_access(
        &self,
        object: &ObjectView,
        _session: &Self::SessionExt,
        name: Option<&core::ffi::CStr>,
    ) -> Option<Status> {
        self.require(Class::I, Call::ObjCanAccess);
        let creator = ObjectCreator {
            uid: object.creator_uid,
            gid: object.creator_gid,
            process: object.creator_process,
        };
        let mut policy = locked(&self.policy);
        policy.asked.push((creator, name.map(|name| name.to_string_lossy().into_owned())));
        policy.access
    }

    fn forced_async_tsc_mode(&self, _dev_ext: &DevExtView) -> bool {
        locked(&self.policy).forced_async
    }

    fn refuses_uploaded_code(&self) -> bool {
        locked(&self.policy).no_uploads
    }

    fn resume_suspended_keyboards(&self) -> Result<()> {
        self.require(Class::T, Call::ResumeSuspendedKeyboards);
        locked(&self.policy).keyboards.into_result()
    }
}

impl<E: Codes> OsHwVirt for MockOs<E> {
    fn enable_vtx(&self, enable: bool) -> Result<()> {
        self.require(Class::T, Call::EnableVtX);
        let answer = locked(&self.policy).kernel_vtx.unwrap_or(VERR_NOT_SUPPORTED);
        answer.into_result()?;
        if enable {
            self.account.made(Kind::VtX);
        } else {
            self.account.gone(Kind::VtX);
        }
        Ok(())
    }

    fn suspend_vtx_on_cpu(&self) -> bool {
        let mut policy = locked(&self.policy);
        let managed = policy.kernel_vtx.is_some();
        policy.vtx_suspended += usize::from(managed);
        managed
    }

    fn resume_vtx_on_cpu(&self, suspended: bool) {
        let mut policy = locked(&self.policy);
        policy.vtx_suspended = policy.vtx_suspended.saturating_sub(usize::from(suspended));
    }
}

impl<E: Codes> OsLog for MockOs<E> {
    fn log_write(&self, text: &[u8]) {
        locked(&self.policy).log.push(String::from_utf8_lossy(text).into_owned().trim_end().to_owned());
    }
}
