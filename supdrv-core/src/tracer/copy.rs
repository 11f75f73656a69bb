//! The driver's own copy of a user-mode module's object: native locations, addresses of its own, out of the process's reach.
//!
//! ```text
//!   header │ rest of the object │ pad to 8 │ native locations │ names of functions │ NUL
//! ```
//!
//! Copies of equal content are shared: by UUID, which anybody can choose, **and** content, so that no process decides under which names
//! another one is traced.

use core::ops::Range;
use core::ptr::NonNull;

use zerocopy::{FromBytes, IntoBytes};

use super::marks::{Map, Words};
use super::vtg::{Bitness, Bounds, Header, Host, Object, Origin};
use crate::abi::status::{
    Result, VERR_NO_MEMORY, VERR_SUPDRV_TRACER_UMOD_STRTAB_OFF_BAD, VERR_SUPDRV_VTG_BAD_HDR_PTR,
};
use crate::abi::vtg::{LOCATION_ENABLED, MAX_STRING, NativeLocation, ObjectHeader, ProbeDesc};
use crate::heap::Array;
use crate::os::SupdrvOs;

/// Bytes of a header.
const HEADER_BYTES: usize = size_of::<ObjectHeader>();
/// Bytes of a native location.
const LOCATION_BYTES: usize = size_of::<NativeLocation>();

/// Where a process has what is to be copied.
#[derive(Clone, Copy, Debug)]
pub struct Source {
    /// The object.
    pub header_r3: usize,
    /// The names of functions.
    pub strings_r3: usize,
    /// Their size in bytes.
    pub strings_bytes: u32,
    /// Kind of the module.
    pub flags: u32,
}

/// What copies are found by: UUID, hash of the content, address.
pub type CopyKey = ([u8; 16], u64, usize);

/// A copy. Never changes.
pub struct VtgCopy<O: SupdrvOs> {
    block: Array<u64, O>,
    object: Object,
    flags: u32,
    strings: Range<usize>,
    hash: u64,
}

/// The places of the parts in a block.
struct Plan {
    locations_at: usize,
    strings: Range<usize>,
    total: usize,
}

impl Plan {
    fn new(header: &Header, strings_bytes: u32) -> Self {
        // All of it is a few MiB at most.
        let locations_at = (header.object_bytes() as usize).next_multiple_of(8);
        let strings_at = locations_at + header.location_count() as usize * LOCATION_BYTES;
        let strings = strings_at..strings_at + strings_bytes as usize;
        let total = strings.end + 1;
        Self { locations_at, strings, total }
    }
}

impl<O: SupdrvOs> VtgCopy<O> {
    /// Copies a module's object. `header` was validated; `locations` are the process's, through a kernel mapping. Class T.
    ///
    /// # Errors
    /// `VERR_NO_MEMORY`, `VERR_ACCESS_DENIED` (user memory), `VERR_SUPDRV_TRACER_UMOD_STRTAB_OFF_BAD`, or what is wrong with the object.
    pub fn build(os: &O, header: &Header, locations: &Words, source: &Source) -> Result<Self> {
        let plan = Plan::new(header, source.strings_bytes);
        let mut block = Array::<u64, O>::new_zeroed(os, plan.total.div_ceil(8))?;
        let address = block.as_ptr() as u64;
        let bytes = (*block).as_mut_bytes();
        // The header was read before; what it says now doesn't matter.
        let rest = bytes.get_mut(HEADER_BYTES..header.object_bytes() as usize).ok_or(VERR_NO_MEMORY)?;
        os.user_copy_from(rest, source.header_r3.wrapping_add(HEADER_BYTES))?;
        let strings = bytes.get_mut(plan.strings.clone()).ok_or(VERR_NO_MEMORY)?;
        os.user_copy_from(strings, source.strings_r3)?;
        let raw = native_header(header, address, &plan);
        raw.write_to_prefix(bytes).map_err(|_| VERR_NO_MEMORY)?;
        let converted = bytes.get_mut(plan.locations_at..plan.strings.start).ok_or(VERR_NO_MEMORY)?;
        let base = Bases {
            probes: address.wrapping_sub(header.address()),
            strings: address + plan.strings.start as u64,
            strings_bytes: source.strings_bytes,
        };
        for (index, to) in converted.chunks_exact_mut(LOCATION_BYTES).enumerate() {
            let location = convert(header.bitness(), locations, index, &base)?;
            location.write_to(to).map_err(|_| VERR_NO_MEMORY)?;
        }
        let object = validate(bytes, address, &plan)?;
        let mut copy = Self { block, object, flags: source.flags, strings: plan.strings, hash: 0 };
        copy.hash = copy.content_hash();
        Ok(copy)
    }

    fn bytes(&self) -> &[u8] {
        (*self.block).as_bytes()
    }

    /// The object, as it is in the copy.
    pub const fn object(&self) -> &Object {
        &self.object
    }

    /// Address of the header.
    pub fn address(&self) -> usize {
        self.block.as_ptr() as usize
    }

    /// The header.
    pub fn header(&self) -> *const ObjectHeader {
        self.block.as_ptr().cast()
    }

    /// Part of the object, by offsets from the header.
    pub fn part(&self, range: Range<usize>) -> &[u8] {
        self.bytes().get(range).unwrap_or(&[])
    }

    /// The native location of a number.
    pub fn location(&self, index: usize) -> Option<*const NativeLocation> {
        let at = self.locations_range().start + index.checked_mul(LOCATION_BYTES)?;
        let record = self.part(self.locations_range()).get(at - self.locations_range().start..)?;
        (record.len() >= LOCATION_BYTES).then(|| record.as_ptr().cast())
    }

    /// The native locations, and which probes they belong to.
    pub fn map(&self) -> Option<Map> {
        let header = self.object.header();
        let locations = NonNull::new(self.part(self.locations_range()).as_ptr().cast_mut())?;
        let probes = NonNull::new(self.part(header.probes().range()).as_ptr().cast_mut())?;
        let count = header.location_count() as usize;
        // SAFETY: both are inside the block, which doesn't move or change while the copy lives; locations begin at a multiple of 8, probes
        // at a multiple of 4. The owner of the copy keeps it for as long as it uses the map.
        Some(unsafe {
            Map::new(
                Words::new(locations, LOCATION_BYTES, count),
                probes.cast::<ProbeDesc>(),
                header.probe_count() as usize,
            )
        })
    }

    fn locations_range(&self) -> Range<usize> {
        // Behind the object: never negative in a copy.
        let start = self.object.header().locations_offset().unsigned_abs() as usize;
        start..self.strings.start
    }

    /// The locations without the addresses that differ from copy to copy.
    fn locations(&self) -> impl Iterator<Item = [usize; 3]> + '_ {
        let (probes, strings) = (self.address(), self.address().wrapping_add(self.strings.start));
        self.part(self.locations_range()).as_chunks::<LOCATION_BYTES>().0.iter().map(move |record| {
            let location = NativeLocation::read_from_bytes(record).unwrap_or_default();
            let (function, probe) = (location.function, location.probe);
            [location.line as usize, function.wrapping_sub(strings), probe.wrapping_sub(probes)]
        })
    }

    /// Everything in the object but the header, whose numbers follow from the rest and the places.
    fn body(&self) -> &[u8] {
        self.part(HEADER_BYTES..self.object.header().object_bytes() as usize)
    }

    fn areas(&self) -> [super::vtg::Area; 5] {
        let header = self.object.header();
        [header.strings(), header.arg_lists(), header.probes(), header.providers(), header.counters()]
    }

    fn content_hash(&self) -> u64 {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        let mut add = |word: u64| hash = (hash ^ word).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23);
        add(u64::from(self.flags));
        for bytes in [self.body(), self.part(self.strings.clone())] {
            add(bytes.len() as u64);
            for chunk in bytes.chunks(8) {
                let mut word = [0; 8];
                for (to, from) in word.iter_mut().zip(chunk) {
                    *to = *from;
                }
                add(u64::from_le_bytes(word));
            }
        }
        for words in self.locations() {
            words.into_iter().for_each(|word| add(word as u64));
        }
        hash
    }

    /// What it is found by.
    pub fn key(&self) -> CopyKey {
        (self.object.header().raw().uuid, self.hash, self.address())
    }

    /// Whether both are copies of the same thing, wherever they are.
    pub fn is_same(&self, other: &Self) -> bool {
        self.hash == other.hash
            && self.flags == other.flags
            && self.object.header().raw().uuid == other.object.header().raw().uuid
            && self.areas() == other.areas()
            && self.body() == other.body()
            && self.part(self.strings.clone()) == other.part(other.strings.clone())
            && self.locations().eq(other.locations())
    }
}

/// The header of a copy: what the module's says, with the copy's own locations.
fn native_header(header: &Header, address: u64, plan: &Plan) -> ObjectHeader {
    let mut raw = *header.raw();
    raw.bits = u32::from(Bitness::NATIVE.bits());
    raw.locations_offset = plan.locations_at as i32;
    raw.locations_bytes = (plan.strings.start - plan.locations_at) as u32;
    raw.locations = address + plan.locations_at as u64;
    raw.locations_end = address + plan.strings.start as u64;
    raw
}

/// What turns the addresses in a process's locations into those of the copy.
struct Bases {
    /// Added to probe addresses.
    probes: u64,
    /// Added to offsets of function names.
    strings: u64,
    strings_bytes: u32,
}

/// Reads a location of the process, each word once.
fn convert(bitness: Bitness, locations: &Words, index: usize, bases: &Bases) -> Result<NativeLocation> {
    let word = |offset: usize| {
        let word = locations.word(index, offset).ok_or(VERR_SUPDRV_VTG_BAD_HDR_PTR)?;
        Ok(u64::from(word.load(core::sync::atomic::Ordering::Relaxed)))
    };
    let (function, probe) = match bitness {
        Bitness::Bits32 => (word(8)?, word(12)?),
        Bitness::Bits64 => (word(8)? | word(12)? << 32, word(16)? | word(20)? << 32),
    };
    if function > u64::from(bases.strings_bytes) {
        return Err(VERR_SUPDRV_TRACER_UMOD_STRTAB_OFF_BAD);
    }
    // Addresses that no native word can hold become 0, which is no probe.
    let native = |address: u64| usize::try_from(address).unwrap_or(0);
    Ok(NativeLocation {
        line: word(0)? as u32,
        id: word(4)? as u32,
        function: native(bases.strings + function),
        probe: native(probe.wrapping_add(bases.probes)),
        ..Default::default()
    })
}

/// Validates a complete copy as an object of the kernel, bounded by the copy.
fn validate(bytes: &[u8], address: u64, plan: &Plan) -> Result<Object> {
    let end = address + plan.total as u64;
    let origin: Origin<fn(u64) -> bool> = Origin::Kernel(Bounds::Within { base: address, end });
    let host = Host { bitness: Bitness::NATIVE, keeps_link_addresses: false };
    let (raw, _) = ObjectHeader::read_from_prefix(bytes).map_err(|_| VERR_SUPDRV_VTG_BAD_HDR_PTR)?;
    let header = Header::parse(&raw, address, &origin, host)?;
    let locations = bytes.get(plan.locations_at..plan.strings.start).ok_or(VERR_SUPDRV_VTG_BAD_HDR_PTR)?;
    let name = |function: u64| {
        let at = usize::try_from(function.wrapping_sub(address)).unwrap_or(usize::MAX);
        let rest = if at >= plan.strings.start { bytes.get(at..plan.total) } else { None };
        rest.is_some_and(|rest| rest.iter().take(MAX_STRING + 1).any(|byte| *byte == 0))
    };
    Object::parse(header, bytes, locations, name)
}

const _: () = assert!(LOCATION_ENABLED == 1 << 31);
