//! What the driver and a tracer module know of each other: records in ring-0 memory that both sides read and write.
//!
//! Pointers are plain numbers here. Whatever a tracer may change at any time is an atomic.

use core::sync::atomic::{AtomicU8, AtomicU32};

use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use super::layout::{CSize, StructLayout, c_constants, layout_struct, pad, parts};
use super::requests::RequestHeader;

c_constants! {
    /// Magic at both ends of a [`TracerReg`].
    "SUPDRVTRACERREG_MAGIC" TRACER_MAGIC: u32 = 0x1960_1009;
    /// Version of [`TracerReg`].
    "SUPDRVTRACERREG_VERSION" TRACER_VERSION: u32 = 0x0001_0000;
    /// Version of [`TracerHelpers`].
    "SUPDRVTRACERHLP_VERSION" HELPERS_VERSION: usize = 0x0001_0000;
    /// The user-mode module is an executable.
    "SUP_TRACER_UMOD_FLAGS_EXE" UMOD_EXE: u32 = 1;
    /// The user-mode module is a shared library.
    "SUP_TRACER_UMOD_FLAGS_SHARED" UMOD_SHARED: u32 = 2;
    /// Both.
    "SUP_TRACER_UMOD_FLAGS_TYPE_MASK" UMOD_TYPE_MASK: u32 = 3;
}

/// User-mode modules of one session.
pub const MAX_UMODS: usize = 32;
/// A session with this many providers registers no further user-mode module.
pub const MAX_SESSION_PROVIDERS: u32 = 32;
/// Providers of one user-mode module.
pub const MAX_UMOD_PROVIDERS: usize = 2;
/// Bytes between the enabled counters and the locations of a user-mode module.
pub const MAX_UMOD_GAP: u32 = 128;
/// Bytes of a user-mode module's memory that are locked: from the page of its counters to the end of its locations.
pub const MAX_UMOD_LOCK_BYTES: u32 = 0x1_0000;
/// Fewest bytes of a user-mode module's table of function names.
pub const MIN_UMOD_STRINGS_BYTES: u32 = 2;
/// Most bytes of it.
pub const MAX_UMOD_STRINGS_BYTES: u32 = 0x10_0000;

layout_struct! {
    /// How a tracer introduces itself.
    #[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
    #[repr(C)]
    TracerReg: "SUPDRVTRACERREG" "" [0x50, 0x2c] {
        /// [`TRACER_MAGIC`].
        magic: u32 = "u32Magic" [0x0, 0x0],
        /// [`TRACER_VERSION`].
        version: u32 = "u32Version" [0x4, 0x4],
        /// Gets the location and the arguments of a kernel probe by tail jump, in any context.
        fire_kernel: usize = "pfnProbeFireKernel" [0x8, 0x8],
        /// `void (reg, session, context, header, location)`, in any context.
        fire_user: usize = "pfnProbeFireUser" [0x10, 0xc],
        /// `int (reg, session, u32 cookie, arg, usize *data)`, class T.
        open: usize = "pfnTracerOpen" [0x18, 0x10],
        /// `int (reg, session, data, command, arg, i32 *result)`, class T.
        ioctl: usize = "pfnTracerIoCtl" [0x20, 0x14],
        /// `void (reg, session, data)`, class T.
        close: usize = "pfnTracerClose" [0x28, 0x18],
        /// `int (reg, provider)`, class T, tracer mutex held.
        provider_register: usize = "pfnProviderRegister" [0x30, 0x1c],
        /// `int (reg, provider)`, class T, tracer mutex held.
        provider_deregister: usize = "pfnProviderDeregister" [0x38, 0x20],
        /// `int (reg, provider)`, class T, tracer mutex held.
        provider_deregister_zombie: usize = "pfnProviderDeregisterZombie" [0x40, 0x24],
        /// [`TRACER_MAGIC`].
        end_magic: usize = "uEndMagic" [0x48, 0x28],
    }
}

layout_struct! {
    /// What a tracer gets back: no functions in this era.
    #[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
    #[repr(C)]
    TracerHelpers: "SUPDRVTRACERHLP" "" [0x10, 0x8] {
        /// [`HELPERS_VERSION`].
        version: usize = "uVersion" [0x0, 0x0],
        /// [`HELPERS_VERSION`].
        end_version: usize = "uEndVersion" [0x8, 0x4],
    }
}

layout_struct! {
    /// The tracer's own part of a provider.
    #[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
    #[repr(C)]
    TracerData: "SUPDRVTRACERDATA" "" [0x10, 0x10] {
        /// Anything; zero before the provider is registered with a tracer.
        words: [u64; 2] = "au64" [0x0, 0x0],
    }
}

/// Padding of a [`ProviderCore`], named in C.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct CorePadding(pub [u8; pad(5, 1)]);

impl CSize for CorePadding {
    const BYTES: [usize; 2] = [5, 1];
}

layout_struct! {
    /// A provider, as the tracer sees it.
    #[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
    #[repr(C)]
    ProviderCore: "SUPDRVVDTPROVIDERCORE" "" [0x60, 0x38] {
        /// The tracer's.
        data: TracerData = "TracerData" [0x0, 0x0],
        /// NUL-terminated name; that of a user-mode module ends with the process id.
        name: usize = "pszName" [0x10, 0x10],
        /// NUL-terminated name of its module.
        module_name: usize = "pszModName" [0x18, 0x14],
        /// Its [`ProviderDesc`](super::vtg::ProviderDesc).
        desc: usize = "pDesc" [0x20, 0x18],
        /// Its [`ObjectHeader`](super::vtg::ObjectHeader).
        header: usize = "pHdr" [0x28, 0x1c],
        /// Bytes of one record at `locations_enable`.
        enable_location_bytes: u8 = "cbProbeLocsEn" [0x30, 0x20],
        /// Bitness of the module.
        bits: u8 = "cBits" [0x31, 0x21],
        /// Whether it is a user-mode module.
        is_umod: u8 = "fUmod" [0x32, 0x22],
        /// Padding.
        pad0: CorePadding = "abAlignment" [0x33, 0x23],
        /// Native locations, to read.
        locations: usize = "paProbeLocsRO" [0x38, 0x24],
        /// Locations whose enabled flag is to be written.
        locations_enable: usize = "pvProbeLocsEn" [0x40, 0x28],
        /// One counter per probe, to be written.
        counters: usize = "pacProbeEnabled" [0x48, 0x2c],
        /// User-mode modules: [`LocationState`] per location.
        location_states: usize = "paR0ProbeLocs" [0x50, 0x30],
        /// User-mode modules: [`ProbeState`] per probe.
        probe_states: usize = "paR0Probes" [0x58, 0x34],
    }
}

layout_struct! {
    /// What a tracer knows of a location of a user-mode module. The process can't reach it.
    #[derive(Debug, FromZeros)]
    #[repr(C)]
    LocationState: "SUPDRVPROBELOC" "" [0x8, 0x8] {
        /// The tracer's id.
        id: AtomicU32 = "idProbe" [0x0, 0x0],
        /// Whether it fires.
        enabled: AtomicU8 = "fEnabled" [0x4, 0x4],
        /// Padding.
        pad0: [AtomicU8; 3],
    }
}

layout_struct! {
    /// What a tracer knows of a probe of a user-mode module.
    #[derive(Debug, FromZeros)]
    #[repr(C)]
    ProbeState: "SUPDRVPROBEINFO" "" [0x4, 0x4] {
        /// Enabled locations.
        enabled: AtomicU32 = "cEnabled" [0x0, 0x0],
    }
}

layout_struct! {
    /// What fires a user-mode probe. All of it is a claim of the process.
    #[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
    #[repr(C)]
    UserContext: "SUPDRVTRACERUSRCTX" "" [0xf0, 0xf0] {
        /// Slot of the module in the top 8 bits, number of the location below; the tracer gets its own id here.
        id: u32 = "idProbe" [0x0, 0x0],
        /// 32 or 64: which of [`UserContext32`] and [`UserContext64`] this is.
        bits: u8 = "cBits" [0x4, 0x4],
        /// Anything.
        reserved: [u8; 3] = "abReserved" [0x5, 0x5],
        /// Location, arguments and registers.
        registers: [u64; 29] = "u" [0x8, 0x8],
    }
}

layout_struct! {
    /// A [`UserContext`] of 32-bit code.
    #[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
    #[repr(C)]
    UserContext32: "SUPDRVTRACERUSRCTX" "u.X86." [0xf0, 0xf0] {
        /// As in [`UserContext`].
        id: u32,
        /// 32.
        bits: u8,
        /// Anything.
        reserved: [u8; 3],
        /// Address of the location.
        location: u32 = "uVtgProbeLoc" [0x8, 0x8],
        /// Arguments, as raw words.
        args: [u32; 20] = "aArgs" [0xc, 0xc],
        /// EIP.
        eip: u32 = "eip" [0x5c, 0x5c],
        /// EFLAGS.
        eflags: u32 = "eflags" [0x60, 0x60],
        /// EAX.
        eax: u32 = "eax" [0x64, 0x64],
        /// ECX.
        ecx: u32 = "ecx" [0x68, 0x68],
        /// EDX.
        edx: u32 = "edx" [0x6c, 0x6c],
        /// EBX.
        ebx: u32 = "ebx" [0x70, 0x70],
        /// ESP.
        esp: u32 = "esp" [0x74, 0x74],
        /// EBP.
        ebp: u32 = "ebp" [0x78, 0x78],
        /// ESI.
        esi: u32 = "esi" [0x7c, 0x7c],
        /// EDI.
        edi: u32 = "edi" [0x80, 0x80],
        /// CS; usually not filled in.
        cs: u16 = "cs" [0x84, 0x84],
        /// SS; usually not filled in.
        ss: u16 = "ss" [0x86, 0x86],
        /// DS; usually not filled in.
        ds: u16 = "ds" [0x88, 0x88],
        /// ES; usually not filled in.
        es: u16 = "es" [0x8a, 0x8a],
        /// FS; usually not filled in.
        fs: u16 = "fs" [0x8c, 0x8c],
        /// GS; usually not filled in.
        gs: u16 = "gs" [0x8e, 0x8e],
        /// Padding.
        pad0: [u8; 96],
    }
}

layout_struct! {
    /// A [`UserContext`] of 64-bit code.
    #[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
    #[repr(C)]
    UserContext64: "SUPDRVTRACERUSRCTX" "u.Amd64." [0xf0, 0xf0] {
        /// As in [`UserContext`].
        id: u32,
        /// 64.
        bits: u8,
        /// Anything.
        reserved: [u8; 3],
        /// Address of the location.
        location: u64 = "uVtgProbeLoc" [0x8, 0x8],
        /// Arguments.
        args: [u64; 10] = "aArgs" [0x10, 0x10],
        /// RIP.
        rip: u64 = "rip" [0x60, 0x60],
        /// RFLAGS.
        rflags: u64 = "rflags" [0x68, 0x68],
        /// RAX.
        rax: u64 = "rax" [0x70, 0x70],
        /// RCX.
        rcx: u64 = "rcx" [0x78, 0x78],
        /// RDX.
        rdx: u64 = "rdx" [0x80, 0x80],
        /// RBX.
        rbx: u64 = "rbx" [0x88, 0x88],
        /// RSP.
        rsp: u64 = "rsp" [0x90, 0x90],
        /// RBP.
        rbp: u64 = "rbp" [0x98, 0x98],
        /// RSI.
        rsi: u64 = "rsi" [0xa0, 0xa0],
        /// RDI.
        rdi: u64 = "rdi" [0xa8, 0xa8],
        /// R8.
        r8: u64 = "r8" [0xb0, 0xb0],
        /// R9.
        r9: u64 = "r9" [0xb8, 0xb8],
        /// R10.
        r10: u64 = "r10" [0xc0, 0xc0],
        /// R11.
        r11: u64 = "r11" [0xc8, 0xc8],
        /// R12.
        r12: u64 = "r12" [0xd0, 0xd0],
        /// R13.
        r13: u64 = "r13" [0xd8, 0xd8],
        /// R14.
        r14: u64 = "r14" [0xe0, 0xe0],
        /// R15.
        r15: u64 = "r15" [0xe8, 0xe8],
    }
}

layout_struct! {
    /// `SUPTRACERUMODFIREPROBE`, what the client sends.
    #[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
    #[repr(C)]
    TracerUmodFireProbeIn: "SUPTRACERUMODFIREPROBE" "u." [0x108, 0x108] {
        /// Common header.
        hdr: RequestHeader = "^Hdr" [0x0, 0x0],
        /// The probe.
        context: UserContext = "In" [0x18, 0x18],
    }
}

parts! {
    "SUPDRVTRACERDATA" {
        "DTrace.idProvider": usize [0x0, 0x0],
        "DTrace.cProvidedProbes": u32 [0x8, 0x4],
        "DTrace.fZombie": u8 [0xc, 0x8],
    }
    "SUPDRVVDTPROVIDERCORE" { "TracerData.DTrace.idProvider": usize [0x0, 0x0], }
    "SUPTRACERUMODFIREPROBE" {
        "u.In.u.X86.uVtgProbeLoc": u32 [0x20, 0x20],
        "u.In.u.Amd64.uVtgProbeLoc": u64 [0x20, 0x20],
    }
}

/// Layouts of all types of this module.
pub const LAYOUTS: &[StructLayout] = &[
    TracerReg::LAYOUT,
    TracerHelpers::LAYOUT,
    TracerData::LAYOUT,
    ProviderCore::LAYOUT,
    LocationState::LAYOUT,
    ProbeState::LAYOUT,
    UserContext::LAYOUT,
    UserContext32::LAYOUT,
    UserContext64::LAYOUT,
    TracerUmodFireProbeIn::LAYOUT,
];
