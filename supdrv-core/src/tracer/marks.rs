//! What a tracer writes while a provider is registered with it: ids, enabled flags, counters.
//!
//! It is all memory that others write at the same time: the tracer, the probed code, the process. Each word is read or written once, as
//! an atomic; indices that come out of it are checked again.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU8, AtomicU32, AtomicUsize, Ordering};

use memoffset::offset_of;

use crate::abi::tracer::{LocationState, ProbeState};
use crate::abi::vtg::{LOCATION_ENABLED, NativeLocation, ProbeDesc};

/// Records of locations or counters, at an address: the word at an offset in each can be read and written.
#[derive(Clone, Copy, Debug)]
pub struct Words {
    base: NonNull<u8>,
    stride: usize,
    count: usize,
}

impl Words {
    /// # Safety
    /// 1. `base` is 4-byte aligned, `stride` is a multiple of 4, and `count` records are readable and writable from there on, for as long
    ///    as the result or a copy of it is used.
    /// 2. Nobody but C code and code that uses atomics accesses them meanwhile.
    pub const unsafe fn new(base: NonNull<u8>, stride: usize, count: usize) -> Self {
        Self { base, stride, count }
    }

    /// Number of records.
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Address of record `index`.
    pub fn record(&self, index: usize) -> Option<NonNull<u8>> {
        if index >= self.count {
            return None;
        }
        // SAFETY: inside the records (condition 1 of `new`).
        Some(unsafe { self.base.add(index * self.stride) })
    }

    /// The 32-bit word at a byte offset of record `index`.
    pub fn word(&self, index: usize, offset: usize) -> Option<&AtomicU32> {
        if offset + size_of::<u32>() > self.stride || !offset.is_multiple_of(4) {
            return None;
        }
        let record = self.record(index)?;
        // SAFETY: inside the record, aligned, valid and accessed by atomics only (conditions 1 and 2 of `new`).
        Some(unsafe { AtomicU32::from_ptr(record.as_ptr().add(offset).cast()) })
    }

    /// Writes a word, if it exists.
    pub fn set(&self, index: usize, offset: usize, value: u32) {
        if let Some(word) = self.word(index, offset) {
            word.store(value, Ordering::Relaxed);
        }
    }

    /// Clears bits of a word, if it exists.
    pub fn clear_bits(&self, index: usize, offset: usize, bits: u32) {
        if let Some(word) = self.word(index, offset) {
            word.fetch_and(!bits, Ordering::Relaxed);
        }
    }
}

/// Offset of the line and of the enabled flag in a location of either bitness.
pub const LINE_OFFSET: usize = 0;
/// Offset of the id in a location of either bitness.
pub const ID_OFFSET: usize = 4;

/// Native locations and the probes that they point to; both stay where they are.
#[derive(Clone, Copy, Debug)]
pub struct Map {
    locations: Words,
    probes: NonNull<ProbeDesc>,
    probe_count: usize,
}

impl Map {
    /// # Safety
    /// 1. `locations` are native ones.
    /// 2. `probe_count` probe descriptors are readable at `probes`, aligned to 4 bytes, for as long as the result is used.
    pub const unsafe fn new(locations: Words, probes: NonNull<ProbeDesc>, probe_count: usize) -> Self {
        Self { locations, probes, probe_count }
    }

    /// The locations.
    pub const fn locations(&self) -> &Words {
        &self.locations
    }

    /// Number of the probe that a location belongs to.
    fn probe_of(&self, location: usize) -> Option<usize> {
        let record = self.locations.record(location)?;
        // SAFETY: the record is a native location (condition 1 of `new`): pointer-aligned or not, its probe pointer is inside.
        let probe = unsafe { record.as_ptr().add(offset_of!(NativeLocation, probe)).cast::<usize>() };
        let probe = if probe.is_aligned() {
            // SAFETY: aligned, valid (condition 1 of `Words::new`).
            unsafe { AtomicUsize::from_ptr(probe) }.load(Ordering::Relaxed)
        } else {
            // SAFETY: valid (condition 1 of `Words::new`); nobody writes it after the object was built.
            unsafe { probe.read_unaligned() }
        };
        let index = probe.wrapping_sub(self.probes.as_ptr() as usize) / size_of::<ProbeDesc>();
        (index < self.probe_count).then_some(index)
    }

    /// Number of the provider that a probe belongs to.
    fn provider_of(&self, probe: usize) -> Option<u16> {
        if probe >= self.probe_count {
            return None;
        }
        // SAFETY: inside the probes, which are readable (condition 2 of `new`).
        Some(unsafe { (&raw const (*self.probes.as_ptr().add(probe)).provider).read_unaligned() })
    }

    /// The locations of a provider, each with its probe.
    fn of_provider(&self, provider: u16) -> impl Iterator<Item = (usize, usize)> + '_ {
        (0..self.locations.len()).filter_map(move |location| {
            let probe = self.probe_of(location)?;
            (self.provider_of(probe) == Some(provider)).then_some((location, probe))
        })
    }
}

/// Where a tracer leaves its marks.
#[derive(Clone, Copy, Debug)]
pub enum Marks {
    /// In the object itself.
    Kernel {
        /// Its locations, which are also written.
        map: Map,
        /// Its counters.
        counters: Words,
    },
    /// In arrays of the driver, and as hints in the memory of the process.
    User {
        /// The driver's copy, which is not written.
        map: Map,
        /// What counts, by location.
        locations: Words,
        /// What counts, by probe.
        probes: Words,
        /// The process's locations.
        user_locations: Words,
        /// The process's counters.
        user_counters: Words,
    },
}

impl Marks {
    /// Clears all marks of one provider of the object: nothing is enabled, nothing has an id.
    pub fn clear(&self, provider: u16) {
        match self {
            Self::Kernel { map, counters } => {
                for (location, probe) in map.of_provider(provider) {
                    map.locations().clear_bits(location, LINE_OFFSET, LOCATION_ENABLED);
                    map.locations().set(location, ID_OFFSET, 0);
                    counters.set(probe, 0, 0);
                }
            }
            Self::User { map, locations, probes, user_locations, user_counters } => {
                for (location, probe) in map.of_provider(provider) {
                    locations.set(location, offset_of!(LocationState, enabled), 0);
                    locations.set(location, offset_of!(LocationState, id), 0);
                    probes.set(probe, offset_of!(ProbeState, enabled), 0);
                    user_locations.clear_bits(location, LINE_OFFSET, LOCATION_ENABLED);
                    user_counters.set(probe, 0, 0);
                }
            }
        }
    }
}

// SAFETY: plain addresses of memory that is shared with C code on any CPU; all accesses are atomic.
unsafe impl Send for Words {}
// SAFETY: as above.
unsafe impl Sync for Words {}
// SAFETY: as above; probe descriptors are only read.
unsafe impl Send for Map {}
// SAFETY: as above.
unsafe impl Sync for Map {}

const _: () = assert!(size_of::<AtomicU8>() == 1 && offset_of!(LocationState, enabled) == 4);
