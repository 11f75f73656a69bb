//! VTG objects: the static tracepoints of one binary, as its build emitted them.
//!
//! An object begins with a [`ObjectHeader`]; five areas follow it in a fixed order, all found by offsets from the header: strings,
//! argument lists, probes, providers and one enabled counter per probe. The probe locations are an array of their own, found by
//! address. Only locations depend on the bitness of the binary.

use bitflags::bitflags;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::layout::{CSize, StructLayout, c_constants, layout_struct, pad, parts};

/// Text that begins an object of the one format revision there is.
#[doc(alias = "VTGOBJHDR_MAGIC")]
pub const OBJECT_MAGIC: [u8; 24] = *b"VTG Object Header v1.5\0\0";

/// Most bytes of an object.
pub const MAX_OBJECT_BYTES: u32 = 0x10_0000;
/// Fewest bytes of the string table.
pub const MIN_STRINGS_BYTES: u32 = 4;
/// Bytes that the argument lists stay below.
pub const END_ARG_LISTS_BYTES: u32 = 0x2_0000;
/// Bytes that the probes stay below.
pub const END_PROBES_BYTES: u32 = 0x8_0000;
/// Bytes that the providers stay below.
pub const END_PROVIDERS_BYTES: u32 = 0x180;
/// Bytes that the enabled counters stay below.
pub const END_COUNTERS_BYTES: u32 = 0x2_0000;
/// Most providers of an object, which follows from [`END_PROVIDERS_BYTES`].
pub const MAX_PROVIDERS: usize = 15;
/// Locations that a kernel object stays below.
pub const END_KERNEL_LOCATIONS: u32 = 131_072;
/// Locations that a user-mode module stays below.
pub const END_USER_LOCATIONS: u32 = 8192;
/// Most arguments of a probe.
pub const MAX_ARGS: u8 = 16;
/// Most characters of a name, without its NUL.
pub const MAX_STRING: usize = 4095;
/// Source lines stay below.
pub const END_LINE: u32 = 1 << 30;
/// Bit of the first word of a location: the probe is enabled there. The other bits are the line.
pub const LOCATION_ENABLED: u32 = 1 << 31;

bitflags! {
    /// Type of a probe argument. The low eight bits are its size in bytes.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct ArgFlags: u32 {
        /// Where the size is: 0, 1, 2, 4 or 8.
        const SIZE = 0x0000_00ff;
        /// The size applies.
        const FIXED_SIZED = 0x0000_0100;
        /// Pointer of the firing context's size.
        const POINTER = 0x0000_0200;
        /// Pointer of the context that the `CTX_` flags name.
        const CTX_POINTER = 0x0000_0400;
        /// As large as a word of the host.
        const HC_ARCH_SIZED = 0x0000_0800;
        /// Ring-3.
        const CTX_R3 = 0x0100_0000;
        /// Ring-0.
        const CTX_R0 = 0x0200_0000;
        /// Raw-mode context.
        const CTX_RC = 0x0400_0000;
        /// Guest.
        const CTX_GST = 0x0800_0000;
        /// Converted to a ring-0 pointer by the producer.
        const AUTO_CONV_PTR = 0x1000_0000;
        /// Physical address.
        const PHYS = 0x2000_0000;
        /// Unsigned.
        const UNSIGNED = 0x4000_0000;
        /// Signed.
        const SIGNED = 0x8000_0000;
    }
}

c_constants! {
    /// Where the size is.
    "VTG_TYPE_SIZE_MASK" ARG_SIZE_MASK: u32 = ArgFlags::SIZE.bits();
    /// The size applies.
    "VTG_TYPE_FIXED_SIZED" ARG_FIXED_SIZED: u32 = ArgFlags::FIXED_SIZED.bits();
    /// Pointer of the firing context's size.
    "VTG_TYPE_POINTER" ARG_POINTER: u32 = ArgFlags::POINTER.bits();
    /// Pointer of a named context.
    "VTG_TYPE_CTX_POINTER" ARG_CTX_POINTER: u32 = ArgFlags::CTX_POINTER.bits();
    /// As large as a word of the host.
    "VTG_TYPE_HC_ARCH_SIZED" ARG_HC_ARCH_SIZED: u32 = ArgFlags::HC_ARCH_SIZED.bits();
    /// Ring-3.
    "VTG_TYPE_CTX_R3" ARG_CTX_R3: u32 = ArgFlags::CTX_R3.bits();
    /// Ring-0.
    "VTG_TYPE_CTX_R0" ARG_CTX_R0: u32 = ArgFlags::CTX_R0.bits();
    /// Raw-mode context.
    "VTG_TYPE_CTX_RC" ARG_CTX_RC: u32 = ArgFlags::CTX_RC.bits();
    /// Guest.
    "VTG_TYPE_CTX_GST" ARG_CTX_GST: u32 = ArgFlags::CTX_GST.bits();
    /// All contexts.
    "VTG_TYPE_CTX_MASK" ARG_CTX_MASK: u32 = 0x0f00_0000;
    /// Converted to a ring-0 pointer by the producer.
    "VTG_TYPE_AUTO_CONV_PTR" ARG_AUTO_CONV_PTR: u32 = ArgFlags::AUTO_CONV_PTR.bits();
    /// Physical address.
    "VTG_TYPE_PHYS" ARG_PHYS: u32 = ArgFlags::PHYS.bits();
    /// Unsigned.
    "VTG_TYPE_UNSIGNED" ARG_UNSIGNED: u32 = ArgFlags::UNSIGNED.bits();
    /// Signed.
    "VTG_TYPE_SIGNED" ARG_SIGNED: u32 = ArgFlags::SIGNED.bits();
    /// All flags there are.
    "VTG_TYPE_VALID_MASK" ARG_VALID_MASK: u32 = ArgFlags::all().bits();
    /// No stability.
    "kVTGStability_Invalid" STABILITY_INVALID: u8 = 0;
    /// Private to the product's build.
    "kVTGStability_Internal" STABILITY_INTERNAL: u8 = 1;
    /// Private to the product.
    "kVTGStability_Private" STABILITY_PRIVATE: u8 = 2;
    /// About to go.
    "kVTGStability_Obsolete" STABILITY_OBSOLETE: u8 = 3;
    /// Somebody else's.
    "kVTGStability_External" STABILITY_EXTERNAL: u8 = 4;
    /// May change at any time.
    "kVTGStability_Unstable" STABILITY_UNSTABLE: u8 = 5;
    /// May change with a release.
    "kVTGStability_Evolving" STABILITY_EVOLVING: u8 = 6;
    /// Changes with a major release only.
    "kVTGStability_Stable" STABILITY_STABLE: u8 = 7;
    /// Follows a standard.
    "kVTGStability_Standard" STABILITY_STANDARD: u8 = 8;
    /// End of the stabilities.
    "kVTGStability_End" STABILITY_END: u8 = 9;
    /// No class.
    "kVTGClass_Invalid" CLASS_INVALID: u8 = 0;
    /// Not known to depend on anything.
    "kVTGClass_Unknown" CLASS_UNKNOWN: u8 = 1;
    /// Depends on the CPU model.
    "kVTGClass_Cpu" CLASS_CPU: u8 = 2;
    /// Depends on the platform.
    "kVTGClass_Platform" CLASS_PLATFORM: u8 = 3;
    /// Depends on the group of platforms.
    "kVTGClass_Group" CLASS_GROUP: u8 = 4;
    /// Depends on the instruction set.
    "kVTGClass_Isa" CLASS_ISA: u8 = 5;
    /// The same everywhere.
    "kVTGClass_Common" CLASS_COMMON: u8 = 6;
    /// End of the classes.
    "kVTGClass_End" CLASS_END: u8 = 7;
}

macro_rules! plain {
    ($($(#[$attr:meta])* $name:ident: $($rest:tt)*)*) => {
        layout_struct! {
            $($(#[$attr])*
            #[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
            #[repr(C, packed(4))]
            $name: $($rest)*)*
        }
    };
}

plain! {
    /// Begins an object. All offsets are from its own address.
    ObjectHeader: "VTGOBJHDR" "" [0x80, 0x80] {
        /// [`OBJECT_MAGIC`].
        magic: [u8; 24] = "szMagic" [0x0, 0x0],
        /// Bitness of the binary, 32 or 64.
        bits: u32 = "cBits" [0x18, 0x18],
        /// Bytes of the object, header included, locations excluded.
        object_bytes: u32 = "cbObj" [0x1c, 0x1c],
        /// Strings.
        strings_offset: u32 = "offStrTab" [0x20, 0x20],
        /// Their size in bytes.
        strings_bytes: u32 = "cbStrTab" [0x24, 0x24],
        /// Argument lists.
        arg_lists_offset: u32 = "offArgLists" [0x28, 0x28],
        /// Their size in bytes.
        arg_lists_bytes: u32 = "cbArgLists" [0x2c, 0x2c],
        /// Probes.
        probes_offset: u32 = "offProbes" [0x30, 0x30],
        /// Their size in bytes.
        probes_bytes: u32 = "cbProbes" [0x34, 0x34],
        /// Providers.
        providers_offset: u32 = "offProviders" [0x38, 0x38],
        /// Their size in bytes.
        providers_bytes: u32 = "cbProviders" [0x3c, 0x3c],
        /// Enabled counters.
        counters_offset: u32 = "offProbeEnabled" [0x40, 0x40],
        /// Their size in bytes.
        counters_bytes: u32 = "cbProbeEnabled" [0x44, 0x44],
        /// Locations; they may be in front of the header. Emitted as 0 and computed by the first who reads the object.
        locations_offset: i32 = "offProbeLocs" [0x48, 0x48],
        /// Their size in bytes, likewise.
        locations_bytes: u32 = "cbProbeLocs" [0x4c, 0x4c],
        /// Address of the locations.
        locations: u64 = "uProbeLocs" [0x50, 0x50],
        /// Address of the first byte after them.
        locations_end: u64 = "uProbeLocsEnd" [0x58, 0x58],
        /// Random per build.
        uuid: [u8; 16] = "Uuid" [0x60, 0x60],
        /// Link-time address of the section that holds the object; Darwin only.
        section_start: u64 = "u64VtgObjSectionStart" [0x70, 0x70],
        /// Zero.
        reserved: [u32; 2] = "au32Reserved1" [0x78, 0x78],
    }
}

plain! {
    /// Three stability numbers.
    Attribute: "VTGDESCATTR" "" [0x3, 0x3] {
        /// Of the name.
        code: u8 = "u8Code" [0x0, 0x0],
        /// Of the data.
        data: u8 = "u8Data" [0x1, 0x1],
        /// Class that the data depends on.
        class: u8 = "u8DataDep" [0x2, 0x2],
    }
}

plain! {
    /// A provider.
    ProviderDesc: "VTGDESCPROVIDER" "" [0x18, 0x18] {
        /// Its name, a string offset.
        name: u32 = "offName" [0x0, 0x0],
        /// Its first probe.
        first_probe: u16 = "iFirstProbe" [0x4, 0x4],
        /// Its number of probes.
        probes: u16 = "cProbes" [0x6, 0x6],
        /// Stability of the provider.
        attr_self: Attribute = "AttrSelf" [0x8, 0x8],
        /// Stability of module names.
        attr_modules: Attribute = "AttrModules" [0xb, 0xb],
        /// Stability of function names.
        attr_functions: Attribute = "AttrFunctions" [0xe, 0xe],
        /// Stability of probe names.
        attr_names: Attribute = "AttrNames" [0x11, 0x11],
        /// Stability of arguments.
        attr_args: Attribute = "AttrArguments" [0x14, 0x14],
        /// Zero.
        reserved: u8 = "bReserved" [0x17, 0x17],
    }
}

plain! {
    /// A probe.
    ProbeDesc: "VTGDESCPROBE" "" [0x10, 0x10] {
        /// Its name, a string offset.
        name: u32 = "offName" [0x0, 0x0],
        /// Its argument list, from the start of their area.
        arg_list: u32 = "offArgList" [0x4, 0x4],
        /// Its enabled counter, which has the number of the probe itself.
        counter: u16 = "idxEnabled" [0x8, 0x8],
        /// Its provider.
        provider: u16 = "idxProvider" [0xa, 0xa],
        /// Address of the header minus address of this record.
        header: i32 = "offObjHdr" [0xc, 0xc],
    }
}

plain! {
    /// Begins an argument list; `count` times [`ArgDesc`] follow.
    ArgListHeader: "VTGDESCARGLIST" "" [0x4, 0x4] {
        /// Number of arguments.
        count: u8 = "cArgs" [0x0, 0x0],
        /// Whether any is [large](ArgDesc::flags).
        have_large: u8 = "fHaveLargeArgs" [0x1, 0x1],
        /// Zero.
        reserved: [u8; 2] = "abReserved" [0x2, 0x2],
    }
}

plain! {
    /// An argument.
    ArgDesc: "VTGDESCARG" "" [0x8, 0x8] {
        /// Name of its type, a string offset.
        type_name: u32 = "offType" [0x0, 0x0],
        /// [`ArgFlags`]. It is *large* if it has a fixed size of more than 4 bytes: 32-bit code fires it as two words.
        flags: u32 = "fType" [0x4, 0x4],
    }
}

plain! {
    /// A location in 32-bit code.
    Location32: "VTGPROBELOC32" "" [0x10, 0x10] {
        /// Source line, and [`LOCATION_ENABLED`].
        line: u32 = "uLine" [0x0, 0x0],
        /// Id that the consumer gave the probe.
        id: u32 = "idProbe" [0x4, 0x4],
        /// Address of the function's name; an offset into a separate table while a user-mode module is registered.
        function: u32 = "pszFunction" [0x8, 0x8],
        /// Address of the probe.
        probe: u32 = "pProbe" [0xc, 0xc],
    }
}

plain! {
    /// A location in 64-bit code.
    Location64: "VTGPROBELOC64" "" [0x20, 0x20] {
        /// Source line, and [`LOCATION_ENABLED`].
        line: u32 = "uLine" [0x0, 0x0],
        /// Id that the consumer gave the probe.
        id: u32 = "idProbe" [0x4, 0x4],
        /// Address of the function's name; an offset into a separate table while a user-mode module is registered.
        function: u64 = "pszFunction" [0x8, 0x8],
        /// Address of the probe.
        probe: u64 = "pProbe" [0x10, 0x10],
        /// Anything.
        pad0: u64 = "uAlignment" [0x18, 0x18],
    }
}

/// Padding of a [`NativeLocation`], which 32-bit hosts don't have.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct LocationPadding(pub [u8; pad(8, 0)]);

impl CSize for LocationPadding {
    const BYTES: [usize; 2] = [8, 0];
}

layout_struct! {
    /// A location in code of the kernel's own bitness.
    #[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
    #[repr(C)]
    NativeLocation: "VTGPROBELOC" "" [0x20, 0x10] {
        /// Source line, and [`LOCATION_ENABLED`].
        line: u32 = "uLine" [0x0, 0x0],
        /// Id that the consumer gave the probe.
        id: u32 = "idProbe" [0x4, 0x4],
        /// Address of the function's name.
        function: usize = "pszFunction" [0x8, 0x8],
        /// Address of the probe.
        probe: usize = "pProbe" [0x10, 0xc],
        /// Anything.
        pad0: LocationPadding = "uAlignment" [0x18, 0x10],
    }
}

parts! {
    "VTGPROBELOC" { "fEnabled": u32 [0x0, 0x0], }
    "VTGPROBELOC32" { "fEnabled": u32 [0x0, 0x0], }
    "VTGPROBELOC64" { "fEnabled": u32 [0x0, 0x0], }
    "VTGDESCARGLIST" { "aArgs": [ArgDesc; 1] [0x4, 0x4], }
    "VTGOBJHDR" {
        "uProbeLocs.p": usize [0x50, 0x50],
        "uProbeLocs.uPtr": usize [0x50, 0x50],
        "uProbeLocs.u32": u32 [0x50, 0x50],
        "uProbeLocs.u64": u64 [0x50, 0x50],
        "uProbeLocsEnd.p": usize [0x58, 0x58],
        "uProbeLocsEnd.uPtr": usize [0x58, 0x58],
        "uProbeLocsEnd.u32": u32 [0x58, 0x58],
        "uProbeLocsEnd.u64": u64 [0x58, 0x58],
        "Uuid.au8": [u8; 16] [0x60, 0x60],
        "Uuid.au16": [u16; 8] [0x60, 0x60],
        "Uuid.au32": [u32; 4] [0x60, 0x60],
        "Uuid.au64": [u64; 2] [0x60, 0x60],
        "Uuid.Gen.u32TimeLow": u32 [0x60, 0x60],
        "Uuid.Gen.u16TimeMid": u16 [0x64, 0x64],
        "Uuid.Gen.u16TimeHiAndVersion": u16 [0x66, 0x66],
        "Uuid.Gen.u8ClockSeqHiAndReserved": u8 [0x68, 0x68],
        "Uuid.Gen.u8ClockSeqLow": u8 [0x69, 0x69],
        "Uuid.Gen.au8Node": [u8; 6] [0x6a, 0x6a],
    }
}

/// Layouts of all types of this module.
pub const LAYOUTS: &[StructLayout] = &[
    ObjectHeader::LAYOUT,
    Attribute::LAYOUT,
    ProviderDesc::LAYOUT,
    ProbeDesc::LAYOUT,
    ArgListHeader::LAYOUT,
    ArgDesc::LAYOUT,
    Location32::LAYOUT,
    Location64::LAYOUT,
    NativeLocation::LAYOUT,
];
