//! Decisions that a system may take instead of the core's defaults.

use crate::abi::Status;
use crate::abi::ioctl::Encoding;
use crate::abi::status::{Result, VERR_NOT_IMPLEMENTED};
use crate::ring0::Export;

/// Who registered an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectCreator {
    /// Real user id.
    pub uid: u32,
    /// Real group id.
    pub gid: u32,
    /// Process id.
    pub process: u32,
}

/// What differs between systems without being a service, and the policy hooks of the seed. The hooks' defaults have no opinion.
pub trait OsPolicy: super::OsIdentity {
    /// How the system makes the function codes of requests.
    const ENCODING: Encoding;

    /// Whether the system's loader may leave link-time addresses in the tracepoints of modules (Darwin).
    const KEEPS_LINK_ADDRESSES: bool = false;

    /// The global variables of tracepoints, as [`Ring0::tracer_globals`](crate::ring0::Ring0::tracer_globals) has them; without them, kernel
    /// probes never fire. Class T.
    fn tracer_globals(&self) -> Option<crate::tracer::TracerGlobals> {
        None
    }

    /// The system's own tracer, which then is the only one; a record that is always valid. Class T.
    #[doc(alias = "supdrvDTraceInit")]
    fn native_tracer(&self) -> Option<core::ptr::NonNull<crate::abi::tracer::TracerReg>> {
        None
    }

    /// What loaded modules can link against, besides the numbers that the core knows itself. Class T.
    fn ring0_exports(&self) -> &'static [Export] {
        &[]
    }

    /// The GIP is at this address from now on; 0: there is none any more, and no module is left. The variable that modules import follows, and
    /// with 0 the ring-0 runtime frees what modules left behind. Class T.
    fn gip_published(&self, _address: usize) {}

    /// A session is about to be cleaned up; its address is what modules use as the key of their loggers. Class T.
    fn session_closing(&self, _session: usize) {}

    /// May note more about the creator of an object; seed hook `supdrvOSObjInitCreator`. Class T, no locks held.
    #[doc(alias = "supdrvOSObjInitCreator")]
    fn obj_init_creator(&self, _object: &mut crate::abi::published::ObjectView, _session: &Self::SessionExt) {
    }

    /// Decides whether a session may use an object, which tells who created it: `None` leaves it to the default policy (same user id), `Some` is the
    /// answer; seed hook `supdrvOSObjCanAccess`. `name` is for messages. Class of the caller.
    #[doc(alias = "supdrvOSObjCanAccess")]
    fn obj_can_access(
        &self,
        _object: &crate::abi::published::ObjectView,
        _session: &Self::SessionExt,
        _name: Option<&core::ffi::CStr>,
    ) -> Option<Status> {
        None
    }

    /// Whether the administrator forces the GIP into asynchronous mode; seed hook `supdrvOSGetForcedAsyncTscMode`. Class T.
    /// The device extension is not complete yet.
    #[doc(alias = "supdrvOSGetForcedAsyncTscMode")]
    fn forced_async_tsc_mode(&self, _dev_ext: &crate::abi::published::DevExtView) -> bool {
        false
    }

    /// Whether the administrator forbids images that ring-3 relocated and uploaded, so that only the system's loader brings code
    /// into the kernel. Class T.
    fn refuses_uploaded_code(&self) -> bool {
        false
    }

    /// Wakes keyboards that sleep after a host suspend; only Darwin has that. Class T.
    ///
    /// # Errors
    /// `VERR_NOT_IMPLEMENTED` everywhere else.
    #[doc(alias = "supdrvDarwinResumeSuspendedKbds")]
    fn resume_suspended_keyboards(&self) -> Result<()> {
        Err(VERR_NOT_IMPLEMENTED)
    }
}
