//! Arbitration of VT-x with the kernel. The defaults say "the kernel doesn't manage it".

use crate::abi::status::{Result, VERR_NOT_SUPPORTED};

/// Hardware virtualisation hooks.
pub trait OsHwVirt {
    /// Reserves VT-x for this driver, or gives it back; seed hook `supdrvOSEnableVTx`. Class T, may cross-call.
    ///
    /// # Errors
    /// `VERR_NOT_SUPPORTED`: the caller manages VT-x itself. `VERR_VMX_NO_VMX`, `VERR_VMX_IN_VMX_ROOT_MODE`,
    /// `VERR_UNRESOLVED_ERROR`.
    #[doc(alias = "supdrvOSEnableVTx")]
    fn enable_vtx(&self, _enable: bool) -> Result<()> {
        Err(VERR_NOT_SUPPORTED)
    }

    /// Leaves VMX operation on this CPU if the kernel is in it; seed hook `supdrvOSSuspendVTxOnCpu`. Class I.
    #[doc(alias = "supdrvOSSuspendVTxOnCpu")]
    fn suspend_vtx_on_cpu(&self) -> bool {
        false
    }

    /// Re-enters VMX operation if the matching suspend returned `true`; seed hook `supdrvOSResumeVTxOnCpu`. Class I.
    #[doc(alias = "supdrvOSResumeVTxOnCpu")]
    fn resume_vtx_on_cpu(&self, _suspended: bool) {}
}
