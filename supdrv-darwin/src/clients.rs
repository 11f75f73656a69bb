//! Processes with an I/O Kit connection, and their sessions.
//!
//! A process first connects, which reserves its id, and then opens a node, which gives it a session; it has one connection, and one
//! session. Either side may end first, in any context: a close of the connection, or the last close of the node. Whoever takes the entry out
//! of the table ends the session; the other one finds nothing.

use supdrv_core::abi::status::{Result, VERR_ALREADY_LOADED, VERR_GENERAL_FAILURE};
use supdrv_core::os::{LockClass, SessionKind};
use supdrv_core::session::SessionRef;
use supdrv_core::sync::IrqSpinLock;
use supdrv_core::tree::{Node, Tree};

use crate::os::Darwin;

/// A connected process.
struct Entry {
    client: usize,
    session: Option<SessionRef<Darwin>>,
}

impl Entry {
    fn has(&self, kind: SessionKind) -> bool {
        self.session.as_ref().is_some_and(|session| session.owner().kind == kind)
    }
}

struct Tables {
    by_process: Tree<u32, Entry, Darwin>,
    /// The process of a connection.
    by_client: Tree<usize, u32, Darwin>,
}

/// What was in the table, to be dropped without its lock: class T.
type Removed = (Option<Node<u32, Entry, Darwin>>, Option<Node<usize, u32, Darwin>>);

impl Tables {
    fn remove(&mut self, process: u32) -> Removed {
        let entry = self.by_process.remove(&process);
        let client = entry.as_ref().and_then(|entry| self.by_client.remove(&entry.value().client));
        (entry, client)
    }
}

/// All connected processes.
pub(crate) struct Clients(IrqSpinLock<Tables, Darwin>);

impl Clients {
    /// None. Class T.
    ///
    /// # Errors
    /// VERR_NO_MEMORY.
    pub(crate) fn new() -> Result<Self> {
        let tables = Tables { by_process: Tree::new(), by_client: Tree::new() };
        IrqSpinLock::new(&Darwin, LockClass::Sessions, tables).map(Self)
    }

    /// Whether there is none. Class I.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.lock().by_process.is_empty()
    }

    /// A process connects. Class T.
    ///
    /// # Errors
    /// VERR_ALREADY_LOADED: it is connected, or the connection is known. VERR_NO_MEMORY.
    pub(crate) fn connect(&self, process: u32, client: usize) -> Result<()> {
        let entry = Node::new(&Darwin, process, Entry { client, session: None })?;
        let back = Node::new(&Darwin, client, process)?;
        let mut tables = self.0.lock();
        let refused = match tables.by_process.insert(entry) {
            Err(entry) => Some((entry, back)),
            Ok(()) => match tables.by_client.insert(back) {
                Err(back) => tables.by_process.remove(&process).map(|entry| (entry, back)),
                Ok(()) => None,
            },
        };
        drop(tables);
        if refused.is_some() { Err(VERR_ALREADY_LOADED) } else { Ok(()) }
    }

    /// A connected process opened a node. Class T: the session is dropped if it can't have it.
    ///
    /// # Errors
    /// VERR_GENERAL_FAILURE: it isn't connected. VERR_ALREADY_LOADED: it has a session.
    pub(crate) fn open(&self, process: u32, session: SessionRef<Darwin>) -> Result<()> {
        let mut tables = self.0.lock();
        let status = match tables.by_process.get_mut(&process) {
            None => VERR_GENERAL_FAILURE,
            Some(Entry { session: Some(_), .. }) => VERR_ALREADY_LOADED,
            Some(entry) => {
                entry.session = Some(session);
                return Ok(());
            }
        };
        drop(tables);
        drop(session);
        Err(status)
    }

    /// The session of a process that opened this kind of node. Class I.
    pub(crate) fn session(&self, process: u32, kind: SessionKind) -> Option<SessionRef<Darwin>> {
        let tables = self.0.lock();
        tables
            .by_process
            .get(&process)
            .filter(|entry| entry.has(kind))
            .and_then(|entry| entry.session.clone())
    }

    /// A process closed this kind of node for the last time: if it has a session there, session and connection end. Class T.
    pub(crate) fn close(&self, process: u32, kind: SessionKind) {
        let mut tables = self.0.lock();
        let has_it = tables.by_process.get(&process).is_some_and(|entry| entry.has(kind));
        let removed = if has_it { Some(tables.remove(process)) } else { None };
        drop(tables);
        drop(removed);
    }

    /// A connection ends, and the session with it. Class T, any process; nothing if it has ended already.
    pub(crate) fn disconnect(&self, client: usize) {
        let mut tables = self.0.lock();
        let process = tables.by_client.get(&client).copied();
        let removed = process.map(|process| tables.remove(process));
        drop(tables);
        drop(removed);
    }
}
