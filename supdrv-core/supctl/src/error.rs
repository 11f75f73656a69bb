//! What can go wrong, in words.

use core::fmt;

use supdrv_core::abi::Status;
use supdrv_core::abi::ioctl::Function;
use supdrv_core::abi::status as s;

use crate::transport::{OpenError, Refused};

/// Why a client's call failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The device can't be opened.
    Open(OpenError),
    /// The driver didn't accept the packet: the system call failed.
    Refused {
        /// The request.
        request: Function,
        /// What is known about the reason.
        refused: Refused,
    },
    /// The request was carried out, without success.
    Failed {
        /// The request.
        request: Function,
        /// Its status.
        status: Status,
    },
    /// The arguments can't be put into a packet, or the answer makes no sense.
    Invalid {
        /// The request.
        request: Function,
        /// What is wrong.
        reason: String,
    },
}

/// What client calls return.
pub type Result<T> = core::result::Result<T, Error>;

impl Error {
    /// The status of the request, or of the refusal where it is known.
    #[must_use]
    pub fn status(&self) -> Option<Status> {
        match self {
            Self::Failed { status, .. } | Self::Refused { refused: Refused::Status(status), .. } => {
                Some(*status)
            }
            _ => None,
        }
    }

    pub(crate) fn invalid(request: Function, reason: impl Into<String>) -> Self {
        Self::Invalid { request, reason: reason.into() }
    }
}

impl From<OpenError> for Error {
    fn from(error: OpenError) -> Self {
        Self::Open(error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(error) => error.fmt(f),
            Self::Refused { request, refused } => {
                write!(f, "{}: {refused}", request.c_name())?;
                match refused {
                    Refused::Status(status) => write_meaning(f, *status),
                    Refused::Os(_) => Ok(()),
                }
            }
            Self::Failed { request, status } => {
                write!(f, "{}: {status}", request.c_name())?;
                write_meaning(f, *status)
            }
            Self::Invalid { request, reason } => write!(f, "{}: {reason}", request.c_name()),
        }
    }
}

fn write_meaning(f: &mut fmt::Formatter<'_>, status: Status) -> fmt::Result {
    match meaning(status) {
        Some(text) => write!(f, ": {text}"),
        None => Ok(()),
    }
}

impl std::error::Error for Error {}

/// What a status means to a client; `None` for codes that modules make up themselves.
///
/// ```
/// use supdrv_core::abi::status::VERR_TIMEOUT;
/// assert_eq!(supctl::error::meaning(VERR_TIMEOUT), Some("the wait ended by its deadline"));
/// ```
#[must_use]
pub fn meaning(status: Status) -> Option<&'static str> {
    Some(match status {
        s::VINF_SUCCESS => "success",
        s::VINF_OBJECT_DESTROYED => "closed, and the object is gone",
        s::VERR_GENERAL_FAILURE => "unknown or forbidden request, or no such symbol",
        s::VERR_INVALID_PARAMETER => "an argument isn't acceptable, or there is no such block",
        s::VERR_INVALID_MAGIC => "a magic number or string doesn't match",
        s::VERR_INVALID_HANDLE => "no such handle or image in this session",
        s::VERR_LOCK_FAILED => "the pages can't be locked",
        s::VERR_INVALID_POINTER => "the memory isn't accessible",
        s::VERR_NO_MEMORY => "out of memory",
        s::VERR_ALREADY_LOADED => "the image is loaded already, or isn't loaded yet",
        s::VERR_PERMISSION_DENIED => "the caller may not use the object",
        s::VERR_VERSION_MISMATCH => "client and driver speak different versions",
        s::VERR_NOT_IMPLEMENTED => "this driver doesn't have that",
        s::VERR_WRONG_ORDER => "the call comes at the wrong time",
        s::VERR_NO_CONT_MEMORY => "no physically contiguous memory",
        s::VERR_NO_PAGE_MEMORY => "no pages left",
        s::VERR_INVALID_FUNCTION => "no such operation",
        s::VERR_NOT_SUPPORTED => "not supported on this system",
        s::VERR_ACCESS_DENIED => "refused by policy",
        s::VERR_INTERRUPTED => "the wait was interrupted",
        s::VERR_TIMEOUT => "the wait ended by its deadline",
        s::VERR_OUT_OF_RANGE => "a number is too large",
        s::VERR_MEMORY_BUSY => "the memory is still mapped",
        s::VERR_NO_LOW_MEMORY => "no memory below 4 GiB",
        s::VERR_NO_PHYS_MEMORY => "no suitable pages",
        s::VERR_MAP_FAILED => "the pages can't be mapped",
        s::VERR_NO_MORE_HANDLES => "the session's handles are used up",
        s::VERR_PAGE_COUNT_OUT_OF_RANGE => "too few or too many pages",
        s::VERR_INTERNAL_ERROR => "the driver's own failure",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_the_request_the_status_and_its_meaning() {
        let error = Error::Failed { request: Function::LowFree, status: s::VERR_INVALID_PARAMETER };
        let text = error.to_string();
        assert!(text.contains("LOW_FREE") && text.contains("VERR_INVALID_PARAMETER (-2)"), "{text}");
        assert!(text.contains("no such block"), "{text}");
    }
}
