//! Accounts: what exists, by kind, and blocks of memory by address.

use std::collections::BTreeMap;
use std::sync::Mutex;

#[derive(Default)]
struct State {
    counts: BTreeMap<&'static str, i64>,
    blocks: BTreeMap<(&'static str, usize), usize>,
}

/// The accounts of a kernel.
#[derive(Default)]
pub struct Ledger(Mutex<State>);

impl Ledger {
    /// Nothing exists.
    #[must_use]
    pub const fn new() -> Self {
        Self(Mutex::new(State { counts: BTreeMap::new(), blocks: BTreeMap::new() }))
    }

    /// More, or less, of a kind.
    pub fn add(&self, kind: &'static str, number: i64) {
        let mut state = self.lock();
        let count = state.counts.entry(kind).or_default();
        *count += number;
        if *count < 0 {
            crate::violation(&format!("more {kind} given back than there were"));
        }
    }

    /// A block at an address comes into being.
    pub fn enter(&self, kind: &'static str, address: usize, bytes: usize) {
        let old = self.lock().blocks.insert((kind, address), bytes);
        if old.is_some() {
            crate::violation(&format!("{kind} {address:#x} exists already"));
        }
        self.add(kind, 1);
    }

    /// A block goes; returns its size.
    pub fn leave(&self, kind: &'static str, address: usize) -> usize {
        let Some(bytes) = self.lock().blocks.remove(&(kind, address)) else {
            crate::violation(&format!("{kind} {address:#x} doesn't exist"));
        };
        self.add(kind, -1);
        bytes
    }

    /// Whether a block is there.
    #[must_use]
    pub fn has(&self, kind: &'static str, address: usize) -> bool {
        self.lock().blocks.contains_key(&(kind, address))
    }

    /// How many of a kind there are.
    #[must_use]
    pub fn count(&self, kind: &'static str) -> i64 {
        self.lock().counts.get(kind).copied().unwrap_or(0)
    }

    /// Everything there is.
    #[must_use]
    pub fn all(&self) -> Vec<(&'static str, i64)> {
        self.lock()
            .counts
            .iter()
            .filter(|(_, count)| **count != 0)
            .map(|(kind, count)| (*kind, *count))
            .collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
