//! A provider and its object, as the bridge looks at them.

use core::ffi::{CStr, c_char, c_void};
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, Ordering};

use zerocopy::FromBytes;

use crate::abi::tracer::{LocationState, ProbeState, ProviderCore};
use crate::abi::vtg::{
    ArgDesc, ArgListHeader, LOCATION_ENABLED, MAX_ARGS, NativeLocation, ObjectHeader, ProbeDesc, ProviderDesc,
};

/// A provider whose object is there.
pub struct Provider {
    pub core: ProviderCore,
    pub header: ObjectHeader,
    pub index: u16,
}

/// A location of a provider.
pub struct Location {
    pub record: NativeLocation,
    pub probe: ProbeDesc,
    pub probe_index: usize,
}

impl Provider {
    /// # Safety
    /// The core of a registered provider that isn't gone, as long as the result is used.
    pub unsafe fn new(core: *mut c_void) -> Option<Self> {
        // SAFETY: the driver's fields don't change while the provider is registered (condition of the function).
        let core = unsafe { core.cast::<ProviderCore>().read_volatile() };
        let header = NonNull::new(core::ptr::with_exposed_provenance_mut::<ObjectHeader>(core.header))?;
        // SAFETY: a validated object's header (condition of the function).
        let header = unsafe { header.read_unaligned() };
        let offset = core.desc.wrapping_sub(core.header).wrapping_sub(header.providers_offset as usize);
        Some(Self { core, header, index: (offset / size_of::<ProviderDesc>()) as u16 })
    }

    pub fn record<T: FromBytes>(&self, offset: u32, index: usize) -> Option<T> {
        let at = self.core.header.checked_add(offset as usize)?.checked_add(index * size_of::<T>())?;
        let at = core::ptr::with_exposed_provenance::<T>(at);
        // SAFETY: callers stay inside areas of a validated object (condition of `new`).
        Some(unsafe { at.read_unaligned() })
    }

    /// A string of the object; validated, thus terminated.
    pub fn string(&self, offset: u32) -> &CStr {
        let at = self.core.header + self.header.strings_offset as usize + offset as usize;
        // SAFETY: inside the string table of a validated object (condition of `new`).
        unsafe { CStr::from_ptr(core::ptr::with_exposed_provenance::<c_char>(at)) }
    }

    pub fn name(&self, address: usize) -> &CStr {
        // SAFETY: a name in the core, or of a function of a validated object: terminated (condition of `new`).
        unsafe { CStr::from_ptr(core::ptr::with_exposed_provenance::<c_char>(address)) }
    }

    pub fn location_count(&self) -> usize {
        self.header.locations_bytes as usize / size_of::<NativeLocation>()
    }

    /// A location, if it belongs to this provider.
    pub fn location(&self, index: usize) -> Option<Location> {
        if index >= self.location_count() {
            return None;
        }
        let at = self.core.locations + index * size_of::<NativeLocation>();
        let at = core::ptr::with_exposed_provenance::<NativeLocation>(at);
        // SAFETY: inside the locations of a validated object (condition of `new`).
        let record = unsafe { at.read_unaligned() };
        let first = self.core.header + self.header.probes_offset as usize;
        let probe_index = record.probe.wrapping_sub(first) / size_of::<ProbeDesc>();
        if probe_index >= self.header.probes_bytes as usize / size_of::<ProbeDesc>() {
            return None;
        }
        let probe: ProbeDesc = self.record(self.header.probes_offset, probe_index)?;
        (probe.provider == self.index).then_some(Location { record, probe, probe_index })
    }

    pub fn word(&self, address: usize) -> &AtomicU32 {
        // SAFETY: an aligned word of a location or counter of a validated object, which is written by atomics (condition of `new`).
        unsafe { AtomicU32::from_ptr(core::ptr::with_exposed_provenance_mut(address)) }
    }

    /// First word of the record whose flag the probed code looks at.
    pub fn flag(&self, index: usize) -> &AtomicU32 {
        self.word(self.core.locations_enable + index * usize::from(self.core.enable_location_bytes))
    }

    pub fn state(&self, index: usize) -> Option<&LocationState> {
        let states =
            NonNull::new(core::ptr::with_exposed_provenance_mut::<LocationState>(self.core.location_states))?;
        // SAFETY: user-mode modules have one per location (condition of `new`).
        Some(unsafe { states.add(index).as_ref() })
    }

    pub fn probe_state(&self, index: usize) -> Option<&ProbeState> {
        let states =
            NonNull::new(core::ptr::with_exposed_provenance_mut::<ProbeState>(self.core.probe_states))?;
        // SAFETY: user-mode modules have one per probe (condition of `new`).
        Some(unsafe { states.add(index).as_ref() })
    }

    /// Where the host's id of a location is kept.
    pub fn id(&self, index: usize) -> &AtomicU32 {
        match self.state(index) {
            Some(state) => &state.id,
            None => self.word(self.core.locations + index * size_of::<NativeLocation>() + 4),
        }
    }

    /// Enables or disables a location.
    pub fn set_enabled(&self, index: usize, enabled: bool) {
        let Some(location) = self.location(index) else { return };
        let counter = self.word(self.core.counters + 4 * location.probe_index);
        let mark = |flag: &AtomicU32| {
            let old = if enabled {
                flag.fetch_or(LOCATION_ENABLED, Ordering::AcqRel)
            } else {
                flag.fetch_and(!LOCATION_ENABLED, Ordering::AcqRel)
            };
            (old & LOCATION_ENABLED != 0) != enabled
        };
        let step = |count: &AtomicU32| {
            if enabled {
                count.fetch_add(1, Ordering::AcqRel);
            } else {
                count.fetch_sub(1, Ordering::AcqRel);
            }
        };
        let (Some(state), Some(probe)) = (self.state(index), self.probe_state(location.probe_index)) else {
            if mark(self.flag(index)) {
                step(counter);
            }
            return;
        };
        if (state.enabled.swap(u8::from(enabled), Ordering::AcqRel) != 0) != enabled {
            step(&probe.enabled);
        }
        // The process gets hints, whatever it had made of the old ones.
        mark(self.flag(index));
        counter.store(probe.enabled.load(Ordering::Acquire), Ordering::Release);
    }

    /// An argument of a location's probe.
    pub fn argument(&self, location: &Location, number: usize) -> Option<ArgDesc> {
        let header = core::ptr::with_exposed_provenance(self.core.header);
        // SAFETY: a validated object and one of its probes (condition of `new`).
        unsafe { argument_of(header, &self.header, location.probe_index, number) }
    }
}

/// An argument of a probe, if it has so many.
///
/// # Safety
/// The header of a validated object, what is in it, and the index of one of its probes.
pub unsafe fn argument_of(
    header: *const ObjectHeader,
    raw: &ObjectHeader,
    probe: usize,
    number: usize,
) -> Option<ArgDesc> {
    let bytes = header.cast::<u8>();
    let probe = bytes.wrapping_add(raw.probes_offset as usize + probe * size_of::<ProbeDesc>());
    // SAFETY: a probe of the object (condition of the function).
    let probe = unsafe { probe.cast::<ProbeDesc>().read_unaligned() };
    let list = bytes.wrapping_add(raw.arg_lists_offset as usize + probe.arg_list as usize);
    // SAFETY: a validated probe's list is inside the object.
    let head = unsafe { list.cast::<ArgListHeader>().read_unaligned() };
    if number >= usize::from(head.count.min(MAX_ARGS)) {
        return None;
    }
    let argument = list.wrapping_add(size_of::<ArgListHeader>() + number * size_of::<ArgDesc>());
    // SAFETY: as above: the list has more arguments than that.
    Some(unsafe { argument.cast::<ArgDesc>().read_unaligned() })
}
