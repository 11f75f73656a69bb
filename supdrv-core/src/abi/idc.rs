//! The packets of the inter-driver interface (IDC), version 0x00010000.
//!
//! Sibling drivers hand packets over in kernel memory, by a direct call (or, on Windows, an internal device control). Every
//! packet begins with an [`IdcHeader`]; input and output share the bytes behind it. Pointers in packets are kernel addresses.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::ioctl::Encoding;
use super::layout::{ABSENT, StructLayout, c_constants, layout_struct, pad, parts};
use super::requests::plain;

c_constants! {
    /// `major << 16 | minor` of the interface.
    "SUPDRV_IDC_VERSION" IDC_VERSION: u32 = 0x0001_0000;
    /// Magic of a connect request ("tori").
    "SUPDRVIDCREQ_CONNECT_MAGIC_COOKIE" CONNECT_MAGIC: u32 = 0x6972_6f74;
}

/// The session version that a refused connect request reports.
pub const NO_VERSION: u32 = u32::MAX;
/// Most bytes of a symbol's name, with its NUL.
pub const MAX_SYMBOL_BYTES: usize = 512;
/// Most bytes of a module's name, with its NUL.
pub const MAX_MODULE_BYTES: usize = 64;
/// The driver's own name as a module.
pub const OWN_MODULE: &[u8] = b"SupDrv";

/// A request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
#[allow(missing_docs, reason = "the requests' own names; described with their packets")]
pub enum IdcRequest {
    #[doc(alias = "SUPDRV_IDC_REQ_CONNECT")]
    Connect = 1,
    #[doc(alias = "SUPDRV_IDC_REQ_DISCONNECT")]
    Disconnect = 2,
    #[doc(alias = "SUPDRV_IDC_REQ_GET_SYMBOL")]
    GetSymbol = 3,
    #[doc(alias = "SUPDRV_IDC_REQ_COMPONENT_REGISTER_FACTORY")]
    RegisterFactory = 10,
    #[doc(alias = "SUPDRV_IDC_REQ_COMPONENT_DEREGISTER_FACTORY")]
    DeregisterFactory = 11,
}

impl IdcRequest {
    /// All of them.
    pub const ALL: &'static [Self] =
        &[Self::Connect, Self::Disconnect, Self::GetSymbol, Self::RegisterFactory, Self::DeregisterFactory];

    /// The code of a request on a system.
    #[must_use]
    pub const fn code(self, encoding: Encoding) -> u32 {
        match encoding {
            Encoding::Windows => (0x22 << 16) | (2 << 14) | ((self as u32 + 2542) << 2),
            _ => 0xc0ff_ee00 | self as u32,
        }
    }

    /// The request of a code.
    #[must_use]
    pub fn decode(encoding: Encoding, code: u32) -> Option<Self> {
        Self::ALL.iter().copied().find(|request| request.code(encoding) == code)
    }

    /// Exact size of its packet in bytes.
    #[must_use]
    pub const fn packet_bytes(self) -> usize {
        match self {
            Self::Connect => size_of::<ConnectIn>(),
            Self::Disconnect => size_of::<IdcHeader>(),
            Self::GetSymbol => size_of::<GetSymbolIn>(),
            Self::RegisterFactory | Self::DeregisterFactory => size_of::<FactoryIn>(),
        }
    }
}

plain! {
    /// Begins every packet.
    IdcHeader: "SUPDRVIDCREQHDR" "" [0x10, 0x10] {
        /// Bytes of the whole packet.
        bytes: u32 = "cb" [0x0, 0x0],
        /// Status of the request.
        rc: i32 = "rc" [0x4, 0x4],
        /// The session that connecting returned; null to connect.
        session: usize = "pSession" [0x8, 0x8],
        /// Padding.
        pad0: [u8; pad(0, 4)],
    }
}

plain! {
    /// `SUPDRVIDCREQCONNECT`, what the client sends.
    ConnectIn: "SUPDRVIDCREQCONNECT" "u.In." [0x28, 0x20] {
        /// Common header.
        hdr: IdcHeader = "^Hdr" [0x0, 0x0],
        /// [`CONNECT_MAGIC`].
        magic: u32 = "u32MagicCookie" [0x10, 0x10],
        /// Version it wants.
        wanted_version: u32 = "uReqVersion" [0x14, 0x14],
        /// Version it needs.
        min_version: u32 = "uMinVersion" [0x18, 0x18],
        /// Padding.
        pad0: [u8; pad(12, 4)],
    }
}

plain! {
    /// `SUPDRVIDCREQCONNECT`, what it receives.
    ConnectOut: "SUPDRVIDCREQCONNECT" "u.Out." [0x28, 0x20] {
        /// Common header.
        hdr: IdcHeader = "^Hdr" [0x0, 0x0],
        /// The session, or null.
        session: usize = "pSession" [0x10, 0x10],
        /// Version of the session, or [`NO_VERSION`].
        session_version: u32 = "uSessionVersion" [0x18, 0x14],
        /// [`IDC_VERSION`].
        driver_version: u32 = "uDriverVersion" [0x1c, 0x18],
        /// Build of the driver, 0 if unknown.
        driver_revision: u32 = "uDriverRevision" [0x20, 0x1c],
        /// Padding.
        pad0: [u8; pad(4, 0)],
    }
}

plain! {
    /// `SUPDRVIDCREQGETSYM`, what the client sends.
    GetSymbolIn: "SUPDRVIDCREQGETSYM" "u.In." [0x20, 0x18] {
        /// Common header.
        hdr: IdcHeader = "^Hdr" [0x0, 0x0],
        /// Name of an image; null or [`OWN_MODULE`] for the driver itself.
        module: usize = "pszModule" [0x10, 0x10],
        /// Name of the symbol.
        symbol: usize = "pszSymbol" [0x18, 0x14],
    }
}

plain! {
    /// `SUPDRVIDCREQGETSYM`, what it receives.
    GetSymbolOut: "SUPDRVIDCREQGETSYM" "u.Out." [0x20, 0x18] {
        /// Common header.
        hdr: IdcHeader = "^Hdr" [0x0, 0x0],
        /// Address of the symbol, or null.
        address: usize = "pfnSymbol" [0x10, 0x10],
        /// Padding.
        pad0: [u8; pad(8, 4)],
    }
}

plain! {
    /// `SUPDRVIDCREQCOMPREGFACTORY`.
    FactoryIn: "SUPDRVIDCREQCOMPREGFACTORY" "u.In." [0x18, 0x14] {
        /// Common header.
        hdr: IdcHeader = "^Hdr" [0x0, 0x0],
        /// The factory record.
        factory: usize = "pFactory" [0x10, 0x10],
    }
}

/// `SUPDRVIDCREQCOMPDEREGFACTORY`, which is the same.
pub type DeregFactoryIn = FactoryIn;

layout_struct! {
    /// What a client keeps of its connection: the session first, then what the transport needs.
    #[derive(Clone, Copy, Debug, Default)]
    #[repr(C)]
    IdcHandle: "SUPDRVIDCHANDLE" "" [0x20, 0x10] {
        /// The session, 0 while closed; the rest is the transport's.
        words: [usize; 4] = "apvPadding" [0x0, 0x0],
    }
}

parts! {
    "SUPDRVIDCREQHDR" {
        "u32Padding": u32 [ABSENT, 0xc],
    }
    "SUPDRVIDCREQCOMPDEREGFACTORY" {
        "Hdr": IdcHeader [0x0, 0x0],
        "u.In.pFactory": usize [0x10, 0x10],
    }
    "SUPDRVIDCREQCOMPDEREGFACTORYIN" { "pFactory": usize [0x0, 0x0], }
    "SUPDRVIDCREQCOMPREGFACTORYIN" { "pFactory": usize [0x0, 0x0], }
    "SUPDRVIDCREQCONNECTIN" {
        "u32MagicCookie": u32 [0x0, 0x0],
        "uReqVersion": u32 [0x4, 0x4],
        "uMinVersion": u32 [0x8, 0x8],
    }
    "SUPDRVIDCREQCONNECTOUT" {
        "pSession": usize [0x0, 0x0],
        "uSessionVersion": u32 [0x8, 0x4],
        "uDriverVersion": u32 [0xc, 0x8],
        "uDriverRevision": u32 [0x10, 0xc],
    }
    "SUPDRVIDCREQGETSYMIN" { "pszModule": usize [0x0, 0x0], "pszSymbol": usize [0x8, 0x4], }
    "SUPDRVIDCREQGETSYMOUT" { "pfnSymbol": usize [0x0, 0x0], }
}

/// Layouts of all types of this module.
pub const LAYOUTS: &[StructLayout] = &[
    IdcHeader::LAYOUT,
    ConnectIn::LAYOUT,
    ConnectOut::LAYOUT,
    GetSymbolIn::LAYOUT,
    GetSymbolOut::LAYOUT,
    FactoryIn::LAYOUT,
    IdcHandle::LAYOUT,
];
