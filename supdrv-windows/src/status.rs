//! Status codes of the core as statuses of the kernel, for load and open. Requests carry the core's codes themselves.

use supdrv_core::abi::Status;
use supdrv_core::abi::status as s;

use crate::nt::NtStatus;

/// What a failed load or open returns.
#[must_use]
pub const fn to_nt(status: Status) -> NtStatus {
    match status {
        s::VINF_SUCCESS => NtStatus::SUCCESS,
        s::VERR_GENERAL_FAILURE => NtStatus::NOT_SUPPORTED,
        s::VERR_INVALID_PARAMETER => NtStatus::INVALID_PARAMETER,
        s::VERR_INVALID_MAGIC => NtStatus::UNKNOWN_REVISION,
        s::VERR_INVALID_HANDLE => NtStatus::INVALID_HANDLE,
        s::VERR_INVALID_POINTER => NtStatus::INVALID_ADDRESS,
        s::VERR_LOCK_FAILED => NtStatus::NOT_LOCKED,
        s::VERR_ALREADY_LOADED => NtStatus::IMAGE_ALREADY_LOADED,
        s::VERR_PERMISSION_DENIED | s::VERR_ACCESS_DENIED => NtStatus::ACCESS_DENIED,
        s::VERR_VERSION_MISMATCH => NtStatus::REVISION_MISMATCH,
        s::VERR_NO_MEMORY => NtStatus::INSUFFICIENT_RESOURCES,
        _ => NtStatus::UNSUCCESSFUL,
    }
}
