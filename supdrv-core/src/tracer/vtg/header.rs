//! The header of an object.

use core::ops::Range;

use crate::abi::Status;
use crate::abi::status::{
    Result, VERR_SUPDRV_TRACER_TOO_LARGE, VERR_SUPDRV_VTG_BAD_HDR_MISC, VERR_SUPDRV_VTG_BAD_HDR_NOT_MULTIPLE,
    VERR_SUPDRV_VTG_BAD_HDR_OFF, VERR_SUPDRV_VTG_BAD_HDR_PTR, VERR_SUPDRV_VTG_BAD_HDR_TOO_FEW,
    VERR_SUPDRV_VTG_BAD_HDR_TOO_MUCH, VERR_SUPDRV_VTG_BITS, VERR_SUPDRV_VTG_MAGIC,
};
use crate::abi::vtg::{
    ArgListHeader, END_ARG_LISTS_BYTES, END_COUNTERS_BYTES, END_KERNEL_LOCATIONS, END_PROBES_BYTES,
    END_PROVIDERS_BYTES, END_USER_LOCATIONS, Location32, Location64, MAX_OBJECT_BYTES, MIN_STRINGS_BYTES,
    OBJECT_MAGIC, ObjectHeader, ProbeDesc, ProviderDesc,
};

/// Bytes of a header.
const HEADER_BYTES: u32 = size_of::<ObjectHeader>() as u32;
/// Link-time addresses on Darwin stay below this, and run-time addresses don't.
const LINK_TIME_END: u64 = 4 << 20;

/// Bitness of code; decides the size of location records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bitness {
    /// 32-bit.
    Bits32,
    /// 64-bit.
    Bits64,
}

impl Bitness {
    /// That of this kernel.
    pub const NATIVE: Self = if usize::BITS == 64 { Self::Bits64 } else { Self::Bits32 };

    const fn of(bits: u32) -> Option<Self> {
        match bits {
            32 => Some(Self::Bits32),
            64 => Some(Self::Bits64),
            _ => None,
        }
    }

    /// As a number.
    #[must_use]
    pub const fn bits(self) -> u8 {
        match self {
            Self::Bits32 => 32,
            Self::Bits64 => 64,
        }
    }

    /// Bytes of a location record.
    #[must_use]
    pub const fn location_bytes(self) -> u32 {
        match self {
            Self::Bits32 => size_of::<Location32>() as u32,
            Self::Bits64 => size_of::<Location64>() as u32,
        }
    }
}

/// What is known of the memory around an object.
#[derive(Clone, Copy, Debug)]
pub enum Bounds<P> {
    /// It is all of this: object, locations, names of functions.
    Within {
        /// Its first address.
        base: u64,
        /// The first address behind it.
        end: u64,
    },
    /// Nothing; this decides whether a value can be a kernel address at all.
    Plausible(P),
}

impl<P: Fn(u64) -> bool> Bounds<P> {
    /// Whether a byte can be there.
    fn contains(&self, address: u64) -> bool {
        match self {
            Self::Within { base, end } => (*base..*end).contains(&address),
            Self::Plausible(plausible) => plausible(address),
        }
    }

    /// Whether something that is inside can end there.
    fn can_end_at(&self, address: u64) -> bool {
        match self {
            Self::Within { base, end } => (*base..=*end).contains(&address),
            Self::Plausible(plausible) => plausible(address),
        }
    }

    /// Whether `bytes` from `address` are inside, as far as that is known.
    fn contains_range(&self, address: u64, bytes: u64) -> bool {
        match self {
            Self::Within { base, end } => {
                address >= *base && address.checked_add(bytes).is_some_and(|last| last <= *end)
            }
            Self::Plausible(_) => true,
        }
    }
}

/// Where an object comes from.
#[derive(Clone, Copy, Debug)]
pub enum Origin<P> {
    /// Code of the kernel, used in place.
    Kernel(Bounds<P>),
    /// A module of a process; nothing but the header is looked at in place.
    User,
}

/// What objects are read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Host {
    /// Bitness of the kernel.
    pub bitness: Bitness,
    /// Whether the system's loader may leave link-time addresses in objects (Darwin).
    pub keeps_link_addresses: bool,
}

/// Part of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Area {
    /// From the header.
    pub offset: u32,
    /// Its size.
    pub bytes: u32,
}

impl Area {
    /// As a range of offsets.
    #[must_use]
    pub fn range(self) -> Range<usize> {
        let start = self.offset as usize;
        start..start.saturating_add(self.bytes as usize)
    }

    fn end(self) -> u64 {
        u64::from(self.offset) + u64::from(self.bytes)
    }
}

/// What an area must be.
struct AreaRule {
    area: Area,
    align: u32,
    min: u32,
    end: u32,
    unit: u32,
}

impl AreaRule {
    fn check(&self, object_bytes: u32) -> Result<()> {
        let Area { offset, bytes } = self.area;
        let fits = bytes < object_bytes && offset <= object_bytes - bytes;
        if !fits || !offset.is_multiple_of(self.align) {
            return Err(VERR_SUPDRV_VTG_BAD_HDR_OFF);
        }
        check_size(bytes, self.min, self.end, self.unit)
    }
}

fn check_size(bytes: u32, min: u32, end: u32, unit: u32) -> Result<()> {
    if bytes < min {
        return Err(VERR_SUPDRV_VTG_BAD_HDR_TOO_FEW);
    }
    if bytes >= end {
        return Err(VERR_SUPDRV_VTG_BAD_HDR_TOO_MUCH);
    }
    if !bytes.is_multiple_of(unit) {
        return Err(VERR_SUPDRV_VTG_BAD_HDR_NOT_MULTIPLE);
    }
    Ok(())
}

fn check(condition: bool, failure: Status) -> Result<()> {
    if condition { Ok(()) } else { Err(failure) }
}

/// A header whose numbers hold together.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    raw: ObjectHeader,
    address: u64,
    bitness: Bitness,
    /// What to add to link-time addresses, if there may be any.
    link_delta: Option<u64>,
}

impl Header {
    /// H0, before the header is read: whether an object can be at this address.
    ///
    /// # Errors
    /// `VERR_SUPDRV_VTG_BAD_HDR_PTR`.
    pub fn check_place(read_from: u64, origin: &Origin<impl Fn(u64) -> bool>) -> Result<()> {
        let inside = match origin {
            Origin::Kernel(bounds) => bounds.contains_range(read_from, u64::from(HEADER_BYTES)),
            Origin::User => true,
        };
        check(inside && read_from.is_multiple_of(4), VERR_SUPDRV_VTG_BAD_HDR_PTR)
    }

    /// Reads a header. `address` is where it is for the code that it describes, which need not be where it was read from.
    ///
    /// # Errors
    /// `VERR_SUPDRV_VTG_MAGIC`, `_BITS`, `_BAD_HDR_MISC`, `_BAD_HDR_OFF`, `_BAD_HDR_PTR`, `_BAD_HDR_TOO_FEW`,
    /// `_BAD_HDR_TOO_MUCH`, `_BAD_HDR_NOT_MULTIPLE`, `VERR_SUPDRV_TRACER_TOO_LARGE`.
    pub fn parse(
        raw: &ObjectHeader,
        address: u64,
        origin: &Origin<impl Fn(u64) -> bool>,
        host: Host,
    ) -> Result<Self> {
        let mut raw = *raw;
        // H1, H2
        if let Origin::Kernel(bounds) = origin {
            let inside = match bounds {
                Bounds::Within { .. } => bounds.contains(address),
                Bounds::Plausible(_) => true,
            };
            let inside = inside && bounds.contains_range(address, u64::from(raw.object_bytes));
            check(inside, VERR_SUPDRV_VTG_BAD_HDR_PTR)?;
        }
        check(raw.object_bytes <= MAX_OBJECT_BYTES, VERR_SUPDRV_TRACER_TOO_LARGE)?;
        let link_delta = link_delta(&raw, address, origin, host);
        // H3
        if raw.locations_offset == 0 {
            locate(&mut raw, address, link_delta)?;
        }
        // H4, H5, H6
        check(raw.magic == OBJECT_MAGIC, VERR_SUPDRV_VTG_MAGIC)?;
        let bitness = Bitness::of(raw.bits).ok_or(VERR_SUPDRV_VTG_BITS)?;
        check(matches!(origin, Origin::User) || bitness == host.bitness, VERR_SUPDRV_VTG_BITS)?;
        check(raw.reserved == [0; 2] && raw.uuid != [0; 16], VERR_SUPDRV_VTG_BAD_HDR_MISC)?;
        let header = Self { raw, address, bitness, link_delta };
        header.check_areas()?;
        header.check_locations(origin)?;
        header.check_order()?;
        Ok(header)
    }

    /// H7.
    fn check_areas(&self) -> Result<()> {
        let rules = [
            AreaRule {
                area: self.strings(),
                align: 1,
                min: MIN_STRINGS_BYTES,
                end: MAX_OBJECT_BYTES,
                unit: 1,
            },
            AreaRule {
                area: self.arg_lists(),
                align: 4,
                min: size_of::<ArgListHeader>() as u32,
                end: END_ARG_LISTS_BYTES,
                unit: size_of::<ArgListHeader>() as u32,
            },
            AreaRule {
                area: self.probes(),
                align: 4,
                min: size_of::<ProbeDesc>() as u32,
                end: END_PROBES_BYTES,
                unit: size_of::<ProbeDesc>() as u32,
            },
            AreaRule {
                area: self.providers(),
                align: 4,
                min: size_of::<ProviderDesc>() as u32,
                end: END_PROVIDERS_BYTES,
                unit: size_of::<ProviderDesc>() as u32,
            },
            AreaRule {
                area: self.counters(),
                align: 4,
                min: size_of::<u32>() as u32,
                end: END_COUNTERS_BYTES,
                unit: size_of::<u32>() as u32,
            },
        ];
        rules.iter().try_for_each(|rule| rule.check(self.raw.object_bytes))
    }

    /// H8, H9.
    fn check_locations(&self, origin: &Origin<impl Fn(u64) -> bool>) -> Result<()> {
        let (first, end) = (self.raw.locations, self.raw.locations_end);
        let limit = match origin {
            Origin::Kernel(bounds) => {
                check(bounds.contains(first) && bounds.can_end_at(end), VERR_SUPDRV_VTG_BAD_HDR_PTR)?;
                END_KERNEL_LOCATIONS
            }
            Origin::User => END_USER_LOCATIONS,
        };
        let record = self.bitness.location_bytes();
        check_size(self.raw.locations_bytes, record, limit * record, record)?;
        let consistent = end.wrapping_sub(first) == u64::from(self.raw.locations_bytes)
            && first.wrapping_sub(self.address) == i64::from(self.raw.locations_offset).cast_unsigned();
        check(consistent, VERR_SUPDRV_VTG_BAD_HDR_MISC)
    }

    /// H10 to H13.
    fn check_order(&self) -> Result<()> {
        let areas = [self.strings(), self.arg_lists(), self.probes(), self.providers(), self.counters()];
        let mut free_from = u64::from(HEADER_BYTES);
        let mut ascending = true;
        for area in areas {
            ascending &= u64::from(area.offset) >= free_from;
            free_from = area.end();
        }
        let locations = i64::from(self.raw.locations_offset);
        let apart = match u64::try_from(locations) {
            Ok(offset) => offset >= free_from,
            Err(_) => locations.unsigned_abs() >= u64::from(self.raw.locations_bytes),
        };
        let counted = self.probes().bytes / size_of::<ProbeDesc>() as u32
            == self.counters().bytes / size_of::<u32>() as u32;
        let whole = u64::from(self.raw.object_bytes) == self.counters().end();
        check(counted && ascending && apart && whole, VERR_SUPDRV_VTG_BAD_HDR_MISC)?;
        check(locations.rem_euclid(4) == 0, VERR_SUPDRV_VTG_BAD_HDR_OFF)
    }

    /// The header itself, with place and size of the locations filled in.
    #[must_use]
    pub const fn raw(&self) -> &ObjectHeader {
        &self.raw
    }

    /// Where it is for the code that it describes.
    #[must_use]
    pub const fn address(&self) -> u64 {
        self.address
    }

    /// Bitness of that code.
    #[must_use]
    pub const fn bitness(&self) -> Bitness {
        self.bitness
    }

    /// Bytes of the object, without the locations.
    #[must_use]
    pub const fn object_bytes(&self) -> u32 {
        self.raw.object_bytes
    }

    /// The string table.
    #[must_use]
    pub const fn strings(&self) -> Area {
        Area { offset: self.raw.strings_offset, bytes: self.raw.strings_bytes }
    }

    /// The argument lists.
    #[must_use]
    pub const fn arg_lists(&self) -> Area {
        Area { offset: self.raw.arg_lists_offset, bytes: self.raw.arg_lists_bytes }
    }

    /// The probes.
    #[must_use]
    pub const fn probes(&self) -> Area {
        Area { offset: self.raw.probes_offset, bytes: self.raw.probes_bytes }
    }

    /// The providers.
    #[must_use]
    pub const fn providers(&self) -> Area {
        Area { offset: self.raw.providers_offset, bytes: self.raw.providers_bytes }
    }

    /// The enabled counters.
    #[must_use]
    pub const fn counters(&self) -> Area {
        Area { offset: self.raw.counters_offset, bytes: self.raw.counters_bytes }
    }

    /// Number of probes, and of enabled counters.
    #[must_use]
    pub const fn probe_count(&self) -> u32 {
        self.raw.counters_bytes / size_of::<u32>() as u32
    }

    /// Number of providers.
    #[must_use]
    pub const fn provider_count(&self) -> usize {
        self.raw.providers_bytes as usize / size_of::<ProviderDesc>()
    }

    /// Bytes from the header to the locations.
    #[must_use]
    pub const fn locations_offset(&self) -> i32 {
        self.raw.locations_offset
    }

    /// Bytes of all locations.
    #[must_use]
    pub const fn locations_bytes(&self) -> u32 {
        self.raw.locations_bytes
    }

    /// Number of locations.
    #[must_use]
    pub const fn location_count(&self) -> u32 {
        self.raw.locations_bytes / self.bitness.location_bytes()
    }

    /// The probe and function addresses of a location, with what the linker left corrected by what the loader should have done.
    #[must_use]
    pub fn relocated(&self, probe: u64, function: u64) -> (u64, u64) {
        let Some(delta) = self.link_delta else { return (probe, function) };
        let probes = self.address.wrapping_add(u64::from(self.raw.probes_offset));
        if probe.wrapping_sub(probes) < u64::from(self.raw.probes_bytes) || probe >= LINK_TIME_END {
            return (probe, function);
        }
        let function = if function < LINK_TIME_END { function.wrapping_add(delta) } else { function };
        (probe.wrapping_add(delta), function)
    }
}

/// What to add to link-time addresses in an object that is used in place; `None` where there are none.
fn link_delta<P>(raw: &ObjectHeader, address: u64, origin: &Origin<P>, host: Host) -> Option<u64> {
    let in_place = matches!(origin, Origin::Kernel(_));
    let section = raw.section_start;
    (in_place && host.keeps_link_addresses && section != address && section < LINK_TIME_END)
        .then(|| address.wrapping_sub(section))
}

/// H3: computes the place of the locations from their addresses.
fn locate(raw: &mut ObjectHeader, address: u64, link_delta: Option<u64>) -> Result<()> {
    let bytes = u32::try_from(raw.locations_end.wrapping_sub(raw.locations)).unwrap_or(u32::MAX);
    check(bytes < u32::MAX, VERR_SUPDRV_VTG_BAD_HDR_TOO_MUCH)?;
    let offset = |locations: u64| i32::try_from(locations.wrapping_sub(address).cast_signed()).ok();
    if let (None, Some(delta)) = (offset(raw.locations), link_delta)
        && raw.locations_end < LINK_TIME_END
    {
        raw.locations = raw.locations.wrapping_add(delta);
        raw.locations_end = raw.locations_end.wrapping_add(delta);
    }
    raw.locations_bytes = bytes;
    raw.locations_offset = offset(raw.locations).ok_or(VERR_SUPDRV_VTG_BAD_HDR_PTR)?;
    Ok(())
}
