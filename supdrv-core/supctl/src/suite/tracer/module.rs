//! A user-mode module with tracepoints in memory of this process: one provider, two probes, three locations, as a build would emit them for
//! code of either width.

use supdrv_core::abi::tracer::MAX_UMODS;
use supdrv_core::abi::vtg::{
    ARG_FIXED_SIZED, ARG_POINTER, ARG_UNSIGNED, ArgDesc, ArgListHeader, Attribute, CLASS_COMMON,
    CLASS_UNKNOWN, LOCATION_ENABLED, Location32, Location64, OBJECT_MAGIC, ObjectHeader, ProbeDesc,
    ProviderDesc, STABILITY_EVOLVING, STABILITY_PRIVATE,
};
use zerocopy::{FromZeros, Immutable, IntoBytes};

use super::super::{Check, Ctx};
use crate::client::{Client, UserModule};
use crate::error::Result;
use crate::pages::Pages;

/// Name of the provider, without the process id that the driver adds.
pub const PROVIDER: &str = "sctrace";
/// Name of the module.
pub const NAME: &str = "scmodule.so";
/// Line and function of each location.
pub const LOCATIONS: [(u32, &str); 3] =
    [(100, "first_function"), (200, "int Some::second_function(int)"), (300, "first_function")];
/// Number of probes. The first location fires probe 0, the others fire probe 1.
pub const PROBES: usize = 2;

const STRINGS: &[u8] = b"sctrace\0probe-one\0probe-two\0uint32_t\0void *\0uint64_t\0";
/// Where the parts of the object are, counted from its header.
const STRINGS_AT: usize = 0x80;
const ARG_LISTS_AT: usize = 0xc0;
const ARG_LISTS_BYTES: usize = 32;
const PROBES_AT: usize = 0xe0;
const PROVIDERS_AT: usize = 0x100;
const COUNTERS_AT: usize = 0x120;
const LOCATIONS_AT: usize = 0x140;
/// Where things are in the page: header, names of functions.
const HEADER_IN_PAGE: usize = 0x20;
const NAMES_IN_PAGE: usize = 0x800;
/// Where 32-bit code is linked: it isn't where this process has it.
const ADDRESS_32: u64 = 0x2000_0020;

/// The module, unregistered.
pub struct Module {
    pages: Pages,
    /// Width of its code, 32 or 64.
    pub bits: u8,
    names_bytes: usize,
}

impl Module {
    /// `bits` is the width of its code.
    pub fn new(ctx: &Ctx<'_>, bits: u8) -> Check<Self> {
        let mut module = Self { pages: ctx.user_pages(1)?, bits, names_bytes: 0 };
        module.write_object();
        module.write_locations();
        Ok(module)
    }

    /// Size of a location in bytes.
    pub const fn location_bytes(&self) -> usize {
        if self.bits == 32 { size_of::<Location32>() } else { size_of::<Location64>() }
    }

    /// Where the header is in this process.
    pub fn header_r3(&self) -> usize {
        self.pages.address() + HEADER_IN_PAGE
    }

    /// Where the header is for the module's code.
    fn header_address(&self) -> u64 {
        if self.bits == 32 { ADDRESS_32 } else { self.header_r3() as u64 }
    }

    fn write(&self, offset: usize, part: &(impl IntoBytes + Immutable + ?Sized)) {
        self.pages.write(HEADER_IN_PAGE + offset, part.as_bytes());
    }

    fn write_object(&self) {
        let locations = self.header_address() + LOCATIONS_AT as u64;
        let locations_bytes = LOCATIONS.len() * self.location_bytes();
        let header = ObjectHeader {
            magic: OBJECT_MAGIC,
            bits: self.bits.into(),
            object_bytes: COUNTERS_AT as u32 + 8,
            strings_offset: STRINGS_AT as u32,
            strings_bytes: STRINGS.len() as u32,
            arg_lists_offset: ARG_LISTS_AT as u32,
            arg_lists_bytes: ARG_LISTS_BYTES as u32,
            probes_offset: PROBES_AT as u32,
            probes_bytes: (PROBES * size_of::<ProbeDesc>()) as u32,
            providers_offset: PROVIDERS_AT as u32,
            providers_bytes: size_of::<ProviderDesc>() as u32,
            counters_offset: COUNTERS_AT as u32,
            counters_bytes: 4 * PROBES as u32,
            locations,
            locations_end: locations + locations_bytes as u64,
            uuid: *b"supctl suite VTG",
            ..ObjectHeader::new_zeroed()
        };
        self.write(0, &header);
        self.write(STRINGS_AT, STRINGS);
        self.write_arg_lists();
        for (index, (name, arg_list)) in [(8, 0), (18, 12)].into_iter().enumerate() {
            let at = PROBES_AT + index * size_of::<ProbeDesc>();
            let probe =
                ProbeDesc { name, arg_list, counter: index as u16, provider: 0, header: -(at as i32) };
            self.write(at, &probe);
        }
        let open = Attribute { code: STABILITY_EVOLVING, data: STABILITY_EVOLVING, class: CLASS_COMMON };
        let closed = Attribute { code: STABILITY_PRIVATE, data: STABILITY_PRIVATE, class: CLASS_UNKNOWN };
        let provider = ProviderDesc {
            name: 0,
            first_probe: 0,
            probes: PROBES as u16,
            attr_self: open,
            attr_modules: closed,
            attr_functions: closed,
            attr_names: open,
            attr_args: open,
            reserved: 0,
        };
        self.write(PROVIDERS_AT, &provider);
    }

    fn write_arg_lists(&self) {
        let u32_type = ArgDesc { type_name: 28, flags: ARG_FIXED_SIZED | ARG_UNSIGNED | 4 };
        let pointer = ArgDesc { type_name: 37, flags: ARG_POINTER };
        let u64_type = ArgDesc { type_name: 44, flags: ARG_FIXED_SIZED | ARG_UNSIGNED | 8 };
        self.write(ARG_LISTS_AT, &ArgListHeader { count: 1, have_large: 0, reserved: [0; 2] });
        self.write(ARG_LISTS_AT + 4, &u32_type);
        self.write(ARG_LISTS_AT + 12, &ArgListHeader { count: 2, have_large: 1, reserved: [0; 2] });
        self.write(ARG_LISTS_AT + 16, &pointer);
        self.write(ARG_LISTS_AT + 24, &u64_type);
    }

    /// Locations, and the names of their functions.
    fn write_locations(&mut self) {
        for (index, (line, function)) in LOCATIONS.into_iter().enumerate() {
            let at = LOCATIONS_AT + index * self.location_bytes();
            let probe = self.header_address() + (PROBES_AT + index.min(1) * size_of::<ProbeDesc>()) as u64;
            let name = self.names_bytes;
            if self.bits == 32 {
                let (function, probe) = (name as u32, probe as u32);
                self.write(at, &Location32 { line, id: 0, function, probe });
            } else {
                self.write(at, &Location64 { line, id: 0, function: name as u64, probe, pad0: 0 });
            }
            self.pages.write(NAMES_IN_PAGE + name, function.as_bytes());
            self.names_bytes += function.len() + 1;
        }
    }

    /// Registers it.
    pub fn register(&self, client: &Client) -> Result<()> {
        client.tracer_register(&UserModule {
            name: NAME,
            header_address: self.header_address(),
            header_r3: self.header_r3(),
            strings_r3: self.pages.address() + NAMES_IN_PAGE,
            strings_bytes: self.names_bytes as u32,
            shared: true,
        })
    }

    fn word(&self, offset: usize) -> u32 {
        let mut bytes = [0; 4];
        self.pages.read(HEADER_IN_PAGE + offset, &mut bytes);
        u32::from_le_bytes(bytes)
    }

    /// The ids that the driver has written.
    pub fn ids(&self) -> [u32; LOCATIONS.len()] {
        core::array::from_fn(|index| self.word(LOCATIONS_AT + index * self.location_bytes() + 4))
    }

    /// Which locations the process believes to be enabled.
    pub fn enabled(&self) -> [bool; LOCATIONS.len()] {
        core::array::from_fn(|index| {
            self.word(LOCATIONS_AT + index * self.location_bytes()) & LOCATION_ENABLED != 0
        })
    }

    /// How often the process believes each probe to be enabled.
    pub fn counters(&self) -> [u32; PROBES] {
        core::array::from_fn(|index| self.word(COUNTERS_AT + 4 * index))
    }
}

/// The ids of a module in a slot.
pub fn ids_in_slot(slot: usize) -> [u32; LOCATIONS.len()] {
    debug_assert!(slot < MAX_UMODS);
    core::array::from_fn(|index| (slot << 24 | index) as u32)
}
