//! Function codes and constants of the ioctl interface, version 0x001a0007.

use bitflags::bitflags;

use super::layout::c_constants;
use super::requests::HEADER_BYTES;

c_constants! {
    /// `major << 16 | minor` of the interface.
    "SUPDRV_IOC_VERSION" IOC_VERSION: u32 = 0x001a_0007;
    /// Driver cookie of the handshake request ("tori").
    "SUPCOOKIE_INITIAL_COOKIE" INITIAL_COOKIE: u32 = 0x6972_6f74;
    /// Cookie of the device extension ("bird").
    "BIRD" DEVEXT_COOKIE: u32 = 0x6472_6962;
    /// Cookie of a session ("drib").
    "BIRD_INV" SESSION_COOKIE: u32 = 0x6269_7264;
    /// Bits of the header's flags that must be [`FLAGS_MAGIC`].
    "SUPREQHDR_FLAGS_MAGIC_MASK" FLAGS_MAGIC_MASK: u32 = 0xff00_00ff;
    /// See [`FLAGS_MAGIC_MASK`].
    "SUPREQHDR_FLAGS_MAGIC" FLAGS_MAGIC: u32 = 0x4200_0042;
    /// Flags of most requests.
    "SUPREQHDR_FLAGS_DEFAULT" FLAGS_DEFAULT: u32 = FLAGS_MAGIC;
    /// Hint of requests with variable input.
    "SUPREQHDR_FLAGS_EXTRA_IN" FLAGS_EXTRA_IN: u32 = 0x100;
    /// Hint of requests with variable output.
    "SUPREQHDR_FLAGS_EXTRA_OUT" FLAGS_EXTRA_OUT: u32 = 0x200;
    /// Magic of a VMMR0 module's packet.
    "SUPVMMR0REQHDR_MAGIC" VMMR0_REQUEST_MAGIC: u32 = 0x1973_0211;
    /// Magic of a service module's packet.
    "SUPR0SERVICEREQHDR_MAGIC" SERVICE_REQUEST_MAGIC: u32 = 0x1964_0416;
    /// Magic of a live object.
    "SUPDRVOBJ_MAGIC" OBJECT_MAGIC: u32 = 0x1890_0915;
    /// Magic of an object whose last reference is gone.
    "SUPDRVOBJ_MAGIC_DEAD" OBJECT_MAGIC_DEAD: u32 = 0x1976_0112;
    /// Object types are above this one…
    "SUPDRVOBJTYPE_INVALID" OBJECT_TYPE_INVALID: u32 = 0;
    /// Object type of single-release semaphores, and the context of their handles.
    "SUPDRVOBJTYPE_SEM_EVENT" OBJECT_TYPE_SEM_EVENT: u32 = 4;
    /// Object type of multiple-release semaphores, and the context of their handles.
    "SUPDRVOBJTYPE_SEM_EVENT_MULTI" OBJECT_TYPE_SEM_EVENT_MULTI: u32 = 5;
    /// … and below this one.
    "SUPDRVOBJTYPE_END" OBJECT_TYPE_END: u32 = 7;
    /// Image without entry points.
    "SUPLDRLOADEP_NOTHING" LDR_ENTRY_NOTHING: u32 = 0;
    /// The VMMR0 image.
    "SUPLDRLOADEP_VMMR0" LDR_ENTRY_VMMR0: u32 = 1;
    /// A service image.
    "SUPLDRLOADEP_SERVICE" LDR_ENTRY_SERVICE: u32 = 2;
    /// Semaphore types.
    "SUP_SEM_TYPE_EVENT" SEM_TYPE_EVENT: u32 = 0;
    /// See [`SEM_TYPE_EVENT`].
    "SUP_SEM_TYPE_EVENT_MULTI" SEM_TYPE_EVENT_MULTI: u32 = 1;
}

/// The string that the handshake request carries, with its NUL.
#[doc(alias = "SUPCOOKIE_MAGIC")]
pub const COOKIE_MAGIC: [u8; 16] = *b"The Magic Word!\0";
/// Cookie of a session that is gone.
pub const SESSION_COOKIE_DEAD: u32 = 0xdead_7264;

/// Largest packet that a system's shell buffers: 16 MiB.
pub const MAX_REQUEST_BYTES: usize = 0x100_0000;

bitflags! {
    /// CPU capabilities.
    #[doc(alias = "SUPVTCAPS")]
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct VtCaps: u32 {
        /// AMD-V.
        const AMD_V = 1;
        /// VT-x.
        const VT_X = 2;
        /// Nested paging.
        const NESTED_PAGING = 4;
    }
}

/// Set in the function number by drivers and clients of 64-bit architecture.
#[doc(alias = "SUP_IOCTL_FLAG")]
pub const IOCTL_FLAG: u32 = if cfg!(target_pointer_width = "64") { 0x80 } else { 0 };

/// The systems' ways to make a function code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// Linux: 14 bits of size.
    Linux,
    /// FreeBSD and Darwin: 13 bits of size.
    Bsd,
    /// Solaris: always the size of the header.
    Solaris,
    /// Windows: no size; fast requests by method.
    Windows,
    /// OS/2: the function number alone, never with the flag.
    Os2,
}

/// How a request travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// The size of the packet is in the code.
    Sized,
    /// The size of the packet is in its header only.
    Big,
    /// No packet.
    Fast,
}

/// A request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
#[allow(missing_docs, reason = "the requests' own names; described with their packets")]
pub enum Function {
    #[doc(alias = "SUP_IOCTL_COOKIE")]
    Cookie = 1,
    #[doc(alias = "SUP_IOCTL_QUERY_FUNCS")]
    QueryFuncs = 2,
    #[doc(alias = "SUP_IOCTL_LDR_OPEN")]
    LdrOpen = 3,
    #[doc(alias = "SUP_IOCTL_LDR_LOAD")]
    LdrLoad = 4,
    #[doc(alias = "SUP_IOCTL_LDR_FREE")]
    LdrFree = 5,
    #[doc(alias = "SUP_IOCTL_LDR_GET_SYMBOL")]
    LdrGetSymbol = 6,
    #[doc(alias = "SUP_IOCTL_CALL_VMMR0")]
    CallVmmr0 = 7,
    #[doc(alias = "SUP_IOCTL_LOW_ALLOC")]
    LowAlloc = 8,
    #[doc(alias = "SUP_IOCTL_LOW_FREE")]
    LowFree = 9,
    #[doc(alias = "SUP_IOCTL_PAGE_ALLOC_EX")]
    PageAllocEx = 10,
    #[doc(alias = "SUP_IOCTL_PAGE_MAP_KERNEL")]
    PageMapKernel = 11,
    #[doc(alias = "SUP_IOCTL_PAGE_PROTECT")]
    PageProtect = 12,
    #[doc(alias = "SUP_IOCTL_PAGE_FREE")]
    PageFree = 13,
    #[doc(alias = "SUP_IOCTL_PAGE_LOCK")]
    PageLock = 14,
    #[doc(alias = "SUP_IOCTL_PAGE_UNLOCK")]
    PageUnlock = 15,
    #[doc(alias = "SUP_IOCTL_CONT_ALLOC")]
    ContAlloc = 16,
    #[doc(alias = "SUP_IOCTL_CONT_FREE")]
    ContFree = 17,
    #[doc(alias = "SUP_IOCTL_GET_PAGING_MODE")]
    GetPagingMode = 18,
    #[doc(alias = "SUP_IOCTL_SET_VM_FOR_FAST")]
    SetVmForFast = 19,
    #[doc(alias = "SUP_IOCTL_GIP_MAP")]
    GipMap = 20,
    #[doc(alias = "SUP_IOCTL_GIP_UNMAP")]
    GipUnmap = 21,
    #[doc(alias = "SUP_IOCTL_CALL_SERVICE")]
    CallService = 22,
    #[doc(alias = "SUP_IOCTL_LOGGER_SETTINGS")]
    LoggerSettings = 23,
    #[doc(alias = "SUP_IOCTL_SEM_OP2")]
    SemOp2 = 24,
    #[doc(alias = "SUP_IOCTL_SEM_OP3")]
    SemOp3 = 25,
    #[doc(alias = "SUP_IOCTL_VT_CAPS")]
    VtCaps = 26,
    #[doc(alias = "SUP_IOCTL_CALL_VMMR0_BIG")]
    CallVmmr0Big = 27,
    #[doc(alias = "SUP_IOCTL_TRACER_OPEN")]
    TracerOpen = 28,
    #[doc(alias = "SUP_IOCTL_TRACER_CLOSE")]
    TracerClose = 29,
    #[doc(alias = "SUP_IOCTL_TRACER_IOCTL")]
    TracerIoctl = 30,
    #[doc(alias = "SUP_IOCTL_TRACER_UMOD_REG")]
    TracerUmodReg = 31,
    #[doc(alias = "SUP_IOCTL_TRACER_UMOD_DEREG")]
    TracerUmodDereg = 32,
    #[doc(alias = "SUP_IOCTL_TRACER_UMOD_FIRE_PROBE")]
    TracerUmodFireProbe = 33,
    #[doc(alias = "SUP_IOCTL_MSR_PROBER")]
    MsrProber = 34,
    #[doc(alias = "SUP_IOCTL_RESUME_SUSPENDED_KBDS")]
    ResumeSuspendedKbds = 35,
    #[doc(alias = "SUP_IOCTL_FAST_DO_RAW_RUN")]
    FastDoRawRun = 64,
    #[doc(alias = "SUP_IOCTL_FAST_DO_HM_RUN")]
    FastDoHmRun = 65,
    #[doc(alias = "SUP_IOCTL_FAST_DO_NOP")]
    FastDoNop = 66,
}

impl Function {
    /// All requests, by number.
    pub const ALL: &'static [Self] = &[
        Self::Cookie,
        Self::QueryFuncs,
        Self::LdrOpen,
        Self::LdrLoad,
        Self::LdrFree,
        Self::LdrGetSymbol,
        Self::CallVmmr0,
        Self::LowAlloc,
        Self::LowFree,
        Self::PageAllocEx,
        Self::PageMapKernel,
        Self::PageProtect,
        Self::PageFree,
        Self::PageLock,
        Self::PageUnlock,
        Self::ContAlloc,
        Self::ContFree,
        Self::GetPagingMode,
        Self::SetVmForFast,
        Self::GipMap,
        Self::GipUnmap,
        Self::CallService,
        Self::LoggerSettings,
        Self::SemOp2,
        Self::SemOp3,
        Self::VtCaps,
        Self::CallVmmr0Big,
        Self::TracerOpen,
        Self::TracerClose,
        Self::TracerIoctl,
        Self::TracerUmodReg,
        Self::TracerUmodDereg,
        Self::TracerUmodFireProbe,
        Self::MsrProber,
        Self::ResumeSuspendedKbds,
        Self::FastDoRawRun,
        Self::FastDoHmRun,
        Self::FastDoNop,
    ];

    /// How it travels.
    #[must_use]
    pub const fn flavour(self) -> Flavour {
        use Function as F;
        match self {
            F::QueryFuncs | F::LdrLoad | F::LowAlloc | F::PageAllocEx | F::PageLock | F::CallVmmr0Big => {
                Flavour::Big
            }
            F::FastDoRawRun | F::FastDoHmRun | F::FastDoNop => Flavour::Fast,
            _ => Flavour::Sized,
        }
    }

    /// The name of its code in C, without prefix.
    #[must_use]
    pub const fn c_name(self) -> &'static str {
        match self {
            Self::Cookie => "COOKIE",
            Self::QueryFuncs => "QUERY_FUNCS",
            Self::LdrOpen => "LDR_OPEN",
            Self::LdrLoad => "LDR_LOAD",
            Self::LdrFree => "LDR_FREE",
            Self::LdrGetSymbol => "LDR_GET_SYMBOL",
            Self::CallVmmr0 => "CALL_VMMR0",
            Self::LowAlloc => "LOW_ALLOC",
            Self::LowFree => "LOW_FREE",
            Self::PageAllocEx => "PAGE_ALLOC_EX",
            Self::PageMapKernel => "PAGE_MAP_KERNEL",
            Self::PageProtect => "PAGE_PROTECT",
            Self::PageFree => "PAGE_FREE",
            Self::PageLock => "PAGE_LOCK",
            Self::PageUnlock => "PAGE_UNLOCK",
            Self::ContAlloc => "CONT_ALLOC",
            Self::ContFree => "CONT_FREE",
            Self::GetPagingMode => "GET_PAGING_MODE",
            Self::SetVmForFast => "SET_VM_FOR_FAST",
            Self::GipMap => "GIP_MAP",
            Self::GipUnmap => "GIP_UNMAP",
            Self::CallService => "CALL_SERVICE",
            Self::LoggerSettings => "LOGGER_SETTINGS",
            Self::SemOp2 => "SEM_OP2",
            Self::SemOp3 => "SEM_OP3",
            Self::VtCaps => "VT_CAPS",
            Self::CallVmmr0Big => "CALL_VMMR0_BIG",
            Self::TracerOpen => "TRACER_OPEN",
            Self::TracerClose => "TRACER_CLOSE",
            Self::TracerIoctl => "TRACER_IOCTL",
            Self::TracerUmodReg => "TRACER_UMOD_REG",
            Self::TracerUmodDereg => "TRACER_UMOD_DEREG",
            Self::TracerUmodFireProbe => "TRACER_UMOD_FIRE_PROBE",
            Self::MsrProber => "MSR_PROBER",
            Self::ResumeSuspendedKbds => "RESUME_SUSPENDED_KBDS",
            Self::FastDoRawRun => "FAST_DO_RAW_RUN",
            Self::FastDoHmRun => "FAST_DO_HM_RUN",
            Self::FastDoNop => "FAST_DO_NOP",
        }
    }
}

impl Encoding {
    /// The code of a request whose packet has `packet_bytes` (the larger of both directions; ignored where codes hold no size),
    /// for a driver whose function numbers carry `flag` ([`IOCTL_FLAG`] for this host's).
    #[must_use]
    pub const fn code(self, function: Function, packet_bytes: u32, flag: u32) -> u32 {
        let number = function as u32 | flag;
        match (self, function.flavour()) {
            (Self::Linux, Flavour::Sized) => 0xc000_5600 | (packet_bytes << 16) | number,
            (Self::Linux, _) => 0x5600 | number,
            (Self::Bsd, Flavour::Sized) => 0xc000_5600 | (packet_bytes << 16) | number,
            (Self::Bsd, _) | (Self::Solaris, Flavour::Fast) => 0x2000_5600 | number,
            (Self::Solaris, _) => 0xc000_5600 | ((HEADER_BYTES as u32) << 16) | number,
            (Self::Windows, Flavour::Fast) => (0x22 << 16) | (2 << 14) | (number << 2) | 3,
            (Self::Windows, _) => (0x22 << 16) | (2 << 14) | (number << 2),
            (Self::Os2, _) => function as u32,
        }
    }

    /// The code without its size: what requests are told apart by.
    #[must_use]
    pub const fn strip(self, code: u32) -> u32 {
        match self {
            Self::Linux => code & !0x3fff_0000,
            Self::Bsd => code & !0x1fff_0000,
            Self::Solaris | Self::Windows | Self::Os2 => code,
        }
    }

    /// The function number in a code of a driver whose function numbers carry `flag`.
    #[must_use]
    pub const fn number(self, code: u32, flag: u32) -> Option<u32> {
        match self {
            Self::Windows => ((code >> 2) & 0xfff).checked_sub(flag),
            Self::Os2 => Some(code & 0xff),
            _ => (code & 0xff).checked_sub(flag),
        }
    }

    /// The request of a full code, for a driver whose function numbers carry `flag`.
    #[must_use]
    pub fn decode(self, code: u32, flag: u32) -> Option<Function> {
        let function = Function::from_number(self.number(code, flag)?)?;
        (self.strip(code) == self.strip(self.code(function, 0, flag))).then_some(function)
    }

    /// The packet size in a code; 0 where there is none.
    #[must_use]
    pub const fn size_field(self, code: u32) -> u32 {
        match self {
            Self::Linux => (code >> 16) & 0x3fff,
            Self::Bsd | Self::Solaris => (code >> 16) & 0x1fff,
            Self::Windows | Self::Os2 => 0,
        }
    }
}

impl Function {
    /// The request with a number.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        let index = match number {
            1..=35 => number as usize - 1,
            64..=66 => number as usize - 64 + 35,
            _ => return None,
        };
        Self::ALL.get(index).copied()
    }
}
