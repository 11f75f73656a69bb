//! What exists, what happened, and which rules were broken.

use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::backtrace::Backtrace;
use std::borrow::ToOwned;
use std::string::String;
use std::sync::Mutex;
use std::vec::Vec;

use super::{Call, Machine, locked};

/// Kinds of objects that somebody must give back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
#[allow(missing_docs, reason = "the names of the seam's objects")]
pub enum Kind {
    Heap,
    SpinLock,
    Mutex,
    /// Memory objects with pages of their own, or locked ones.
    Memory,
    /// Mappings of memory objects, to ring-0 or ring-3.
    Mapping,
    Timer,
    Event,
    MpRegistration,
    SessionExt,
    ExecMemory,
    NativeImage,
    /// Granted timer granularities.
    Granularity,
    /// VT-x taken from the kernel.
    VtX,
    PreemptHook,
}

/// All kinds.
pub const KINDS: [Kind; 14] = [
    Kind::Heap,
    Kind::SpinLock,
    Kind::Mutex,
    Kind::Memory,
    Kind::Mapping,
    Kind::Timer,
    Kind::Event,
    Kind::MpRegistration,
    Kind::SessionExt,
    Kind::ExecMemory,
    Kind::NativeImage,
    Kind::Granularity,
    Kind::VtX,
    Kind::PreemptHook,
];

/// Live objects of each kind, in the order of [`KINDS`].
pub type Live = [usize; KINDS.len()];

#[derive(Default)]
pub(super) struct Account {
    live: [AtomicUsize; KINDS.len()],
    forgiven: [AtomicUsize; KINDS.len()],
    made: [AtomicUsize; KINDS.len()],
    tracing: AtomicBool,
    trace: Mutex<Vec<Call>>,
    /// What must not be in heap blocks that are freed.
    secret: Mutex<Vec<u8>>,
    violations: Mutex<Vec<String>>,
}

impl Account {
    pub fn made(&self, kind: Kind) {
        self.live[kind as usize].fetch_add(1, Ordering::Relaxed);
        self.made[kind as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub fn gone(&self, kind: Kind) {
        self.live[kind as usize].fetch_sub(1, Ordering::Relaxed);
    }

    pub fn note(&self, call: Call) {
        if self.tracing.load(Ordering::Relaxed) {
            locked(&self.trace).push(call);
        }
    }
}

impl Machine {
    /// Live objects of a kind.
    #[must_use]
    pub fn live(&self, kind: Kind) -> usize {
        self.account.live[kind as usize].load(Ordering::Relaxed)
    }

    /// Live objects of all kinds.
    #[must_use]
    pub fn live_all(&self) -> Live {
        KINDS.map(|kind| self.live(kind))
    }

    /// Objects of a kind that were ever made: `made(Kind::Heap)` counts allocations.
    #[must_use]
    pub fn made(&self, kind: Kind) -> usize {
        self.account.made[kind as usize].load(Ordering::Relaxed)
    }

    /// Says that `count` objects of a kind stay behind on purpose.
    pub fn forgive(&self, kind: Kind, count: usize) {
        self.account.forgiven[kind as usize].fetch_add(count, Ordering::Relaxed);
    }

    /// Begins to record which services are called.
    pub fn start_trace(&self) {
        self.account.tracing.store(true, Ordering::Relaxed);
    }

    /// The services called since tracing began or since the last call of this.
    pub fn take_trace(&self) -> Vec<Call> {
        core::mem::take(&mut *locked(&self.account.trace))
    }

    /// From now on, freeing a heap block that holds these bytes breaks a rule.
    pub fn keep_secret(&self, bytes: &[u8]) {
        *locked(&self.account.secret) = bytes.to_vec();
    }

    /// Looks at a block that is about to be freed.
    pub(super) fn check_secret(&self, block: &[u8]) {
        let secret = locked(&self.account.secret);
        if !secret.is_empty() && block.windows(secret.len()).any(|window| window == *secret) {
            drop(secret);
            self.violation("a freed block holds a secret");
        }
    }

    /// Reports a broken rule: now on stderr, and in the end by failing the test.
    pub(super) fn violation(&self, what: &str) {
        if !std::thread::panicking() {
            std::eprintln!("mock system: {what}\n{}", Backtrace::force_capture());
        }
        locked(&self.account.violations).push(what.to_owned());
    }

    /// The rules broken so far, which are forgotten: for tests of the mock itself.
    pub fn take_violations(&self) -> Vec<String> {
        core::mem::take(&mut *locked(&self.account.violations))
    }

    /// Fails if a rule was broken, or if anything that was made was not given back.
    ///
    /// # Panics
    /// Then.
    pub fn assert_nothing_leaked(&self) {
        let violations = locked(&self.account.violations).clone();
        assert!(violations.is_empty(), "rules broken: {violations:#?}");
        let leaks: Vec<(Kind, usize)> = KINDS
            .iter()
            .map(|kind| {
                let forgiven = self.account.forgiven[*kind as usize].load(Ordering::Relaxed);
                (*kind, self.live(*kind).saturating_sub(forgiven))
            })
            .filter(|(_, count)| *count != 0)
            .collect();
        assert!(leaks.is_empty(), "leaked: {leaks:?}");
    }
}
