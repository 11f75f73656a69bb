//! What is behind the header.

use zerocopy::{FromBytes, Immutable, KnownLayout};

use super::header::{Bitness, Header};
use crate::abi::Status;
use crate::abi::status::{
    Result, VERR_SUPDRV_TRACER_BAD_ARG_FLAGS, VERR_SUPDRV_VTG_BAD_ARGLIST, VERR_SUPDRV_VTG_BAD_ATTR,
    VERR_SUPDRV_VTG_BAD_HDR_PTR, VERR_SUPDRV_VTG_BAD_PROBE, VERR_SUPDRV_VTG_BAD_PROBE_ENABLED,
    VERR_SUPDRV_VTG_BAD_PROBE_LOC, VERR_SUPDRV_VTG_BAD_PROVIDER, VERR_SUPDRV_VTG_BAD_STRING,
    VERR_SUPDRV_VTG_STRING_TOO_LONG, VERR_SUPDRV_VTG_STRTAB_OFF,
};
use crate::abi::vtg::{
    ArgDesc, ArgFlags, ArgListHeader, Attribute, CLASS_END, CLASS_INVALID, END_LINE, LOCATION_ENABLED,
    Location32, Location64, MAX_ARGS, MAX_PROVIDERS, MAX_STRING, ProbeDesc, ProviderDesc, STABILITY_END,
    STABILITY_INVALID,
};

/// A provider of a validated object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Provider {
    /// Its descriptor, from the header.
    pub offset: u32,
    /// Its name, from the header.
    pub name_offset: u32,
    /// Characters of the name.
    pub name_len: u16,
    /// Its first probe.
    pub first_probe: u16,
    /// Its number of probes.
    pub probes: u16,
}

/// An object that holds together.
#[derive(Clone, Copy, Debug)]
pub struct Object {
    header: Header,
    providers: [Provider; MAX_PROVIDERS],
}

impl Object {
    /// Reads what is behind a header. `object` are the bytes of the object, header included; `locations` those of the locations.
    /// `is_function_name` decides whether there is a name at an address, terminated and of at most 4095 characters.
    ///
    /// # Errors
    /// `VERR_SUPDRV_VTG_STRTAB_OFF`, `_BAD_STRING`, `_STRING_TOO_LONG`, `_BAD_ATTR`, `_BAD_PROVIDER`, `_BAD_PROBE`, `_BAD_ARGLIST`,
    /// `_BAD_PROBE_ENABLED`, `_BAD_PROBE_LOC`, `VERR_SUPDRV_TRACER_BAD_ARG_FLAGS`; `_BAD_HDR_PTR` if fewer bytes are given than
    /// the header says.
    // Not inlined, and not copied on the way: kernel stacks are small.
    #[inline(never)]
    pub fn parse(
        header: Header,
        object: &[u8],
        locations: &[u8],
        is_function_name: impl Fn(u64) -> bool,
    ) -> Result<Self> {
        let part = |area: super::Area| object.get(area.range()).ok_or(VERR_SUPDRV_VTG_BAD_HDR_PTR);
        let reader = Reader {
            header: &header,
            strings: part(header.strings())?,
            arg_lists: part(header.arg_lists())?,
            probes: part(header.probes())?,
            providers: part(header.providers())?,
        };
        let counters = part(header.counters())?;
        let locations =
            locations.get(..header.locations_bytes() as usize).ok_or(VERR_SUPDRV_VTG_BAD_HDR_PTR)?;
        let providers = reader.read_providers()?;
        for index in (0..header.probe_count()).rev() {
            reader.check_probe(index)?;
        }
        check(counters.iter().all(|byte| *byte == 0), VERR_SUPDRV_VTG_BAD_PROBE_ENABLED)?;
        for record in locations.chunks_exact(header.bitness().location_bytes() as usize).rev() {
            reader.check_location(record, &is_function_name)?;
        }
        Ok(Self { header, providers })
    }

    /// The header.
    #[must_use]
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// The providers.
    #[must_use]
    pub fn providers(&self) -> &[Provider] {
        self.providers.get(..self.header.provider_count()).unwrap_or(&[])
    }
}

fn check(condition: bool, failure: Status) -> Result<()> {
    if condition { Ok(()) } else { Err(failure) }
}

/// Record `index` of an area.
fn record<T: FromBytes + KnownLayout + Immutable>(area: &[u8], index: usize) -> Option<T> {
    let at = index.checked_mul(size_of::<T>())?;
    T::read_from_prefix(area.get(at..)?).ok().map(|(record, _)| record)
}

/// The areas of an object.
struct Reader<'a> {
    header: &'a Header,
    strings: &'a [u8],
    arg_lists: &'a [u8],
    probes: &'a [u8],
    providers: &'a [u8],
}

/// Characters that names may have.
const fn is_name_char(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b' ' | b'_' | b'-' | b'(' | b')' | b',' | b'*' | b'&')
}

impl Reader<'_> {
    /// Characters of the string at an offset.
    fn string(&self, offset: u32) -> Result<usize> {
        let rest = self.strings.get(offset as usize..).filter(|rest| !rest.is_empty());
        for (len, byte) in rest.ok_or(VERR_SUPDRV_VTG_STRTAB_OFF)?.iter().enumerate() {
            if *byte == 0 {
                return Ok(len);
            }
            check(is_name_char(*byte), VERR_SUPDRV_VTG_BAD_STRING)?;
            check(len < MAX_STRING, VERR_SUPDRV_VTG_STRING_TOO_LONG)?;
        }
        Err(VERR_SUPDRV_VTG_BAD_STRING)
    }

    /// B1.
    fn read_providers(&self) -> Result<[Provider; MAX_PROVIDERS]> {
        let mut providers = [Provider::default(); MAX_PROVIDERS];
        let count = self.header.provider_count();
        let slots = providers.get_mut(..count).ok_or(VERR_SUPDRV_VTG_BAD_PROVIDER)?;
        for (index, slot) in slots.iter_mut().enumerate().rev() {
            *slot = self.read_provider(index)?;
        }
        Ok(providers)
    }

    fn read_provider(&self, index: usize) -> Result<Provider> {
        let desc: ProviderDesc = record(self.providers, index).ok_or(VERR_SUPDRV_VTG_BAD_PROVIDER)?;
        let name_len = self.string(desc.name)?;
        let (first, count, all) =
            (u32::from(desc.first_probe), u32::from(desc.probes), self.header.probe_count());
        check(first < all && first + count <= all, VERR_SUPDRV_VTG_BAD_PROVIDER)?;
        let attributes =
            [desc.attr_self, desc.attr_modules, desc.attr_functions, desc.attr_names, desc.attr_args];
        check(attributes.into_iter().all(is_attribute), VERR_SUPDRV_VTG_BAD_ATTR)?;
        check(desc.reserved == 0, VERR_SUPDRV_VTG_BAD_PROVIDER)?;
        // All offsets are inside the object, which has at most 1 MiB; names have at most 4095 characters.
        Ok(Provider {
            offset: self.header.providers().offset + (index * size_of::<ProviderDesc>()) as u32,
            name_offset: self.header.strings().offset + desc.name,
            name_len: name_len as u16,
            first_probe: desc.first_probe,
            probes: desc.probes,
        })
    }

    /// B2.
    fn check_probe(&self, index: u32) -> Result<()> {
        let probe: ProbeDesc = record(self.probes, index as usize).ok_or(VERR_SUPDRV_VTG_BAD_PROBE)?;
        self.string(probe.name)?;
        let list = self.arg_lists.get(probe.arg_list as usize..).filter(|rest| !rest.is_empty());
        let list = list.ok_or(VERR_SUPDRV_VTG_BAD_PROBE)?;
        check(probe.arg_list.is_multiple_of(4), VERR_SUPDRV_VTG_BAD_PROBE)?;
        check(u32::from(probe.counter) == index, VERR_SUPDRV_VTG_BAD_PROBE)?;
        let provider: ProviderDesc =
            record(self.providers, usize::from(probe.provider)).ok_or(VERR_SUPDRV_VTG_BAD_PROBE)?;
        let first = u32::from(provider.first_probe);
        let mine = (first..first + u32::from(provider.probes)).contains(&index);
        check(mine, VERR_SUPDRV_VTG_BAD_PROBE)?;
        let here = u64::from(self.header.probes().offset) + u64::from(index) * size_of::<ProbeDesc>() as u64;
        check(i64::from(probe.header).unsigned_abs() == here && probe.header < 0, VERR_SUPDRV_VTG_BAD_PROBE)?;
        self.check_arg_list(list)
    }

    fn check_arg_list(&self, list: &[u8]) -> Result<()> {
        let head: ArgListHeader = record(list, 0).ok_or(VERR_SUPDRV_VTG_BAD_ARGLIST)?;
        check(head.count <= MAX_ARGS, VERR_SUPDRV_VTG_BAD_ARGLIST)?;
        let bytes = usize::from(head.count) * size_of::<ArgDesc>();
        let args = list.get(size_of::<ArgListHeader>()..).and_then(|args| args.get(..bytes));
        let args = args.ok_or(VERR_SUPDRV_VTG_BAD_ARGLIST)?;
        check(head.have_large <= 1 && head.reserved == [0; 2], VERR_SUPDRV_VTG_BAD_ARGLIST)?;
        let mut have_large = false;
        for index in (0..usize::from(head.count)).rev() {
            let arg: ArgDesc = record(args, index).ok_or(VERR_SUPDRV_VTG_BAD_ARGLIST)?;
            have_large |= is_large(arg.flags).ok_or(VERR_SUPDRV_TRACER_BAD_ARG_FLAGS)?;
            self.string(arg.type_name)?;
        }
        check(have_large == (head.have_large == 1), VERR_SUPDRV_VTG_BAD_PROBE)
    }

    /// B4.
    fn check_location(&self, record: &[u8], is_function_name: impl Fn(u64) -> bool) -> Result<()> {
        let location = read_location(self.header.bitness(), record).ok_or(VERR_SUPDRV_VTG_BAD_PROBE_LOC)?;
        let (probe, function) = self.header.relocated(location.probe, location.function);
        let probes = self.header.address().wrapping_add(u64::from(self.header.probes().offset));
        let offset = probe.wrapping_sub(probes);
        let good = location.line & !LOCATION_ENABLED < END_LINE
            && location.line & LOCATION_ENABLED == 0
            && location.id == 0
            && offset < u64::from(self.header.probes().bytes)
            && offset.is_multiple_of(size_of::<ProbeDesc>() as u64)
            && is_function_name(function);
        check(good, VERR_SUPDRV_VTG_BAD_PROBE_LOC)
    }
}

fn is_attribute(attribute: Attribute) -> bool {
    let stability = |value: u8| value > STABILITY_INVALID && value < STABILITY_END;
    stability(attribute.code)
        && stability(attribute.data)
        && attribute.class > CLASS_INVALID
        && attribute.class < CLASS_END
}

/// Whether an argument takes two words in 32-bit code; `None` if its flags make no sense.
fn is_large(flags: u32) -> Option<bool> {
    let bytes = flags & ArgFlags::SIZE.bits();
    let fixed = ArgFlags::from_bits(flags)?.contains(ArgFlags::FIXED_SIZED);
    if !matches!(bytes, 0 | 1 | 2 | 4 | 8) || (fixed && bytes == 0) {
        return None;
    }
    Some(fixed && bytes > 4)
}

/// A location of either bitness.
fn read_location(bitness: Bitness, record: &[u8]) -> Option<Location64> {
    match bitness {
        Bitness::Bits64 => Location64::read_from_bytes(record).ok(),
        Bitness::Bits32 => {
            let Location32 { line, id, function, probe } = Location32::read_from_bytes(record).ok()?;
            Some(Location64 { line, id, function: function.into(), probe: probe.into(), pad0: 0 })
        }
    }
}
