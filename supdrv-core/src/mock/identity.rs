//! Processes, users and threads that tests play.

use core::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use std::vec::Vec;

use super::{Call, Class, Codes, Kind, Machine, MockOs, locked, schedule};
use crate::abi::status::{Result, VERR_NO_MEMORY};
use crate::os::{OsIdentity, PreemptState, SessionKind};

/// A process of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Process(pub(super) usize);

impl Process {
    /// The process that all threads belong to at first: pid 1000, user and group 1000.
    pub const FIRST: Self = Self(0);
}

#[derive(Clone, Copy, Debug)]
struct Ids {
    pid: u32,
    uid: u32,
    gid: u32,
}

pub(super) struct Identities {
    processes: Vec<Ids>,
}

impl Default for Identities {
    fn default() -> Self {
        Self { processes: std::vec![Ids { pid: 1000, uid: 1000, gid: 1000 }] }
    }
}

impl Machine {
    /// Creates a process of a user; its pid is new.
    pub fn new_process(&self, uid: u32, gid: u32) -> Process {
        let mut identities = locked(&self.identity);
        let index = identities.processes.len();
        identities.processes.push(Ids { pid: 1000 + index as u32, uid, gid });
        Process(index)
    }

    fn ids(&self) -> Ids {
        let process = self.current_process().0;
        locked(&self.identity).processes[process]
    }

    /// The process that this thread belongs to.
    #[must_use]
    pub fn current_process(&self) -> Process {
        Process(self.context(|context| context.process))
    }

    /// Runs `f` as a thread of another process.
    pub fn run_as<T>(&self, process: Process, f: impl FnOnce() -> T) -> T {
        self.scoped(|context| context.process = process.0, f)
    }

    /// Makes this host thread a thread of a process for good.
    pub fn become_process(&self, process: Process) {
        self.context(|context| context.process = process.0);
    }

    /// Runs `f` as another thread of the same process, so that one host thread can play several.
    pub fn as_thread<T>(&self, thread: usize, f: impl FnOnce() -> T) -> T {
        self.scoped(|context| context.thread = thread, f)
    }

    /// The identity of the calling thread.
    #[must_use]
    pub fn thread(&self) -> usize {
        match self.context(|context| context.thread) {
            0 => host_thread(),
            played => played,
        }
    }
}

/// A number for every host thread, or task of a model.
pub(super) fn host_thread() -> usize {
    if let Some(task) = schedule::task() {
        return 0x100_0000 + task * 0x10;
    }
    static NEXT: AtomicUsize = AtomicUsize::new(0x1_0000);
    std::thread_local! {
        static ME: usize = NEXT.fetch_add(0x10, Ordering::Relaxed);
    }
    ME.with(|me| *me)
}

/// What the system keeps for a session.
#[derive(Debug)]
pub struct SessionExt {
    machine: Arc<Machine>,
    /// The opener.
    pub process: Process,
    /// How it was opened.
    pub kind: SessionKind,
}

impl Drop for SessionExt {
    fn drop(&mut self) {
        self.machine.require(Class::T, Call::SessionExtDestroy);
        self.machine.account.gone(Kind::SessionExt);
    }
}

impl<E: Codes> OsIdentity for MockOs<E> {
    type SessionExt = SessionExt;

    fn session_ext_create(&self, kind: SessionKind) -> Result<SessionExt> {
        self.require(Class::T, Call::SessionExtCreate);
        self.fallible(Call::SessionExtCreate, VERR_NO_MEMORY)?;
        self.account.made(Kind::SessionExt);
        Ok(SessionExt { machine: self.machine().clone(), process: self.current_process(), kind })
    }

    fn real_uid(&self) -> u32 {
        self.ids().uid
    }

    fn real_gid(&self) -> u32 {
        self.ids().gid
    }

    fn process_id(&self) -> u32 {
        self.ids().pid
    }

    fn process_handle(&self) -> usize {
        self.current_process().handle()
    }

    fn thread_handle(&self) -> usize {
        self.thread()
    }

    fn preempt_disable(&self) -> PreemptState {
        self.require(Class::D, Call::PreemptDisable);
        PreemptState(self.context(|context| {
            context.preempt_depth += 1;
            context.preempt_depth - 1
        }))
    }

    unsafe fn preempt_restore(&self, state: PreemptState) {
        let depth = self.context(|context| {
            context.preempt_depth = context.preempt_depth.saturating_sub(1);
            context.preempt_depth
        });
        if depth != state.0 {
            self.violation("preemption is restored out of order");
        }
    }
}

impl Process {
    /// Its identity for the kernel.
    #[must_use]
    pub const fn handle(self) -> usize {
        0x5000_0000 + self.0 * 0x100
    }
}
