//! Sessions by system file number.
//!
//! A system file number stands for an open file of one process. It may be used again after a close that never came, or came from another
//! process: then the new owner's open buries what is left.

use supdrv_core::abi::status::{Result, VERR_INVALID_HANDLE};
use supdrv_core::driver::Driver;
use supdrv_core::os::{LockClass, OsIdentity, SessionKind};
use supdrv_core::session::SessionRef;
use supdrv_core::sync::IrqSpinLock;
use supdrv_core::tree::{Node, Tree};

use crate::os::Os2;

/// An open file's session, by the process that opened it.
struct Open {
    process: usize,
    session: SessionRef<Os2>,
}

/// All open files.
pub struct Files(IrqSpinLock<Tree<u16, Open, Os2>, Os2>);

impl Files {
    /// None. Class T.
    pub fn new() -> Result<Self> {
        IrqSpinLock::new(&Os2, LockClass::Sessions, Tree::new()).map(Self)
    }

    /// The current process opened a file. Class T.
    ///
    /// # Errors
    /// VERR_NO_MEMORY.
    pub fn open(&self, driver: &Driver<Os2>, sfn: u16) -> Result<()> {
        // There is one device, and what it gives isn't restricted.
        let session = driver.create_session(SessionKind::User)?;
        let mut node = Node::new(&Os2, sfn, Open { process: Os2.process_handle(), session })?;
        loop {
            let mut files = self.0.lock();
            let lost = files.remove(&sfn);
            let inserted = files.insert(node);
            drop(files);
            // What is dropped here may be the end of a session.
            drop(lost);
            match inserted {
                Ok(()) => return Ok(()),
                Err(again) => node = again,
            }
        }
    }

    /// A file was closed: its session goes if the current process opened it. Class T.
    pub fn close(&self, sfn: u16) {
        let process = Os2.process_handle();
        let mut files = self.0.lock();
        let is_owner = files.get(&sfn).is_some_and(|file| file.process == process);
        let closed = if is_owner { files.remove(&sfn) } else { None };
        drop(files);
        drop(closed);
    }

    /// The session of a file of the current process, with a reference of its own. Class I; dropping the reference is class T.
    ///
    /// # Errors
    /// VERR_INVALID_HANDLE.
    pub fn session(&self, sfn: u16) -> Result<SessionRef<Os2>> {
        let process = Os2.process_handle();
        let files = self.0.lock();
        let file = files.get(&sfn).filter(|file| file.process == process);
        file.map(|file| file.session.clone()).ok_or(VERR_INVALID_HANDLE)
    }
}
