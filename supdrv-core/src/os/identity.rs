//! Who is calling: process, thread, user; and pinning to a CPU.

use crate::abi::status::Result;

/// No user, group or process id.
pub const NIL_ID: u32 = u32::MAX;
/// No process handle, no thread handle.
pub const NIL_HANDLE: usize = usize::MAX;

/// Who a session belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionKind {
    /// The calling process, through the unrestricted device node.
    User,
    /// The calling process, through the restricted device node.
    UserRestricted,
    /// A sibling driver, through IDC.
    Kernel,
}

impl SessionKind {
    /// Whether the session belongs to a process.
    #[must_use]
    pub const fn is_user(self) -> bool {
        !matches!(self, Self::Kernel)
    }

    /// Whether the session may use everything.
    #[must_use]
    pub const fn is_unrestricted(self) -> bool {
        !matches!(self, Self::UserRestricted)
    }
}

/// What [`OsIdentity::preempt_disable`] found. Its content belongs to the system.
#[derive(Clone, Copy, Debug)]
pub struct PreemptState(pub usize);

/// Identity and execution state of the caller.
pub trait OsIdentity {
    /// What the system keeps for each session, for instance a counted reference to the process.
    ///
    /// Created with the session and dropped when it is freed (class T).
    type SessionExt: Send + Sync;

    /// Creates the system's part of a new session, in the context of its opener. Class T.
    ///
    /// # Errors
    /// `VERR_NO_MEMORY`.
    fn session_ext_create(&self, kind: SessionKind) -> Result<Self::SessionExt>;

    /// Tells where the published view of a new session is, which is what others know it by. Called once, before anybody else
    /// can. Class T.
    fn session_published(
        &self,
        _session: &Self::SessionExt,
        _view: core::ptr::NonNull<crate::abi::published::SessionView>,
    ) {
    }

    /// Real user id of the calling process, [`NIL_ID`] where the system has none. Class T.
    fn real_uid(&self) -> u32;

    /// Real group id of the calling process, [`NIL_ID`] where the system has none. Class T.
    fn real_gid(&self) -> u32;

    /// Process id of the caller. Class I.
    fn process_id(&self) -> u32;

    /// Identity of the calling process: unique while the process lives. Class I.
    fn process_handle(&self) -> usize;

    /// Identity of the calling thread: unique while it lives, never [`NIL_HANDLE`]. Class I.
    fn thread_handle(&self) -> usize;

    /// Pins the caller to its CPU. Nests, LIFO. Class D.
    fn preempt_disable(&self) -> PreemptState;

    /// Undoes [`preempt_disable`](Self::preempt_disable). Class D, same CPU.
    ///
    /// # Safety
    /// `state` is what the matching disable returned.
    unsafe fn preempt_restore(&self, state: PreemptState);
}
