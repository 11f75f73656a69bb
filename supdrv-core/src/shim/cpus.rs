//! A set of CPUs that changes while it is read.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::os::{CpuSet, MAX_CPUS};

const WORDS: usize = MAX_CPUS / 64;

/// CPUs by index; each of them comes and goes atomically, the set as a whole is read word by word.
#[derive(Debug)]
pub struct AtomicCpuSet([AtomicU64; WORDS]);

impl AtomicCpuSet {
    /// No CPUs.
    #[must_use]
    pub const fn new() -> Self {
        Self([const { AtomicU64::new(0) }; WORDS])
    }

    /// A CPU comes or goes; those beyond [`MAX_CPUS`] are left out. Class I.
    pub fn set(&self, index: usize, present: bool) {
        let Some(word) = self.0.get(index / 64) else { return };
        let bit = 1 << (index % 64);
        if present {
            word.fetch_or(bit, Ordering::AcqRel);
        } else {
            word.fetch_and(!bit, Ordering::AcqRel);
        }
    }

    /// As it is now. Class I.
    #[must_use]
    pub fn load(&self) -> CpuSet {
        let mut set = CpuSet::default();
        for (to, from) in set.0.iter_mut().zip(&self.0) {
            *to = from.load(Ordering::Acquire);
        }
        set
    }
}

impl Default for AtomicCpuSet {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_come_and_go_and_those_beyond_the_set_are_left_out() {
        let set = AtomicCpuSet::new();
        for index in [0, 64, MAX_CPUS - 1, MAX_CPUS] {
            set.set(index, true);
        }
        assert!(set.load().iter().eq([0, 64, MAX_CPUS - 1]));
        set.set(64, false);
        assert!(set.load().iter().eq([0, MAX_CPUS - 1]));
    }
}
