//! The device nodes, and sessions as opens and closes of the system see them.

use core::ffi::CStr;
use core::ptr::NonNull;

use crate::abi::Status;
use crate::abi::published::SessionView;
use crate::abi::status::Result;
use crate::driver::Driver;
use crate::os::{SessionKind, SupdrvOs};
use crate::session::SessionRef;

/// A device node. Its place in [`NODES`] is its unit, or minor number.
#[derive(Debug)]
pub struct Node {
    /// Under the system's folder of devices.
    pub name: &'static CStr,
    /// What an open of it makes.
    pub kind: SessionKind,
}

/// The two nodes.
pub static NODES: [Node; 2] = [
    Node { name: c"vboxdrv", kind: SessionKind::User },
    Node { name: c"vboxdrvu", kind: SessionKind::UserRestricted },
];

impl Node {
    /// Whether only the superuser may open it.
    #[must_use]
    pub const fn is_private(&self, hardened: bool) -> bool {
        hardened && self.kind.is_unrestricted()
    }

    /// Its mode.
    #[must_use]
    pub const fn mode(&self, hardened: bool) -> u32 {
        if self.is_private(hardened) { 0o600 } else { 0o666 }
    }
}

/// Makes a session of the current process whose reference belongs to an open file. Class T.
///
/// # Errors
/// Those of [`Driver::create_session`].
pub fn open<O: SupdrvOs>(driver: &Driver<O>, kind: SessionKind) -> Result<NonNull<SessionView>> {
    Ok(driver.create_session(kind)?.into_view())
}

/// Gives the reference of an open file back. Class T, any process.
///
/// # Safety
/// `session` is null or came from [`open`], and is given up.
pub unsafe fn close<O: SupdrvOs>(session: *mut SessionView) {
    // SAFETY: as above; anything that is no session is refused.
    if let Ok(session) = unsafe { SessionRef::<O>::from_view(session) } {
        drop(session);
    }
}

/// Error numbers in which systems of the Unix family differ.
#[derive(Clone, Copy, Debug)]
pub struct ErrorNumbers {
    /// EILSEQ: a wrong magic.
    pub illegal_sequence: i32,
    /// ENOLCK: a stale handle.
    pub no_locks: i32,
    /// ENOSYS: a version that isn't known.
    pub no_function: i32,
    /// EOPNOTSUPP or ENOTSUP.
    pub not_supported: i32,
}

impl ErrorNumbers {
    /// What a load or an open fails with; 0 for success.
    #[must_use]
    pub const fn of(&self, status: Status) -> i32 {
        const EPERM: i32 = 1;
        const ENXIO: i32 = 6;
        const ENOMEM: i32 = 12;
        const EACCES: i32 = 13;
        const EFAULT: i32 = 14;
        const EBUSY: i32 = 16;
        const EEXIST: i32 = 17;
        const EINVAL: i32 = 22;
        match status.0 {
            0 => 0,
            -1 => EACCES,
            -2 => EINVAL,
            -3 => self.illegal_sequence,
            -4 => ENXIO,
            -5 => self.no_locks,
            -6 => EFAULT,
            -8 => ENOMEM,
            -9 => EEXIST,
            -11 => self.no_function,
            -37 => self.not_supported,
            -138 => EBUSY,
            _ => EPERM,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_unrestricted_node_of_a_hardened_driver_is_private() {
        let modes = |hardened| NODES.each_ref().map(|node| node.mode(hardened));
        assert_eq!((modes(true), modes(false)), ([0o600, 0o666], [0o666, 0o666]));
    }

    #[test]
    fn error_numbers_are_those_of_the_system_and_eperm_for_anything_without_one() {
        let numbers = ErrorNumbers { illegal_sequence: 86, no_locks: 77, no_function: 78, not_supported: 45 };
        let of = |status| numbers.of(Status(status));
        assert_eq!([0, -1, -2, -3, -4, -5, -6].map(of), [0, 13, 22, 86, 6, 77, 14]);
        assert_eq!([-8, -9, -11, -37, -138, -225, 1].map(of), [12, 17, 78, 45, 16, 1, 1]);
    }
}
