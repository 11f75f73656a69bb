//! The request packets of the ioctl interface.
//!
//! Every packet begins with a [`RequestHeader`]; what follows is input on the way in and output on the way out, in the same
//! bytes. Both are described here as types of their own, `…In` and `…Out`, for the native pointer width. A variable part (an
//! image, page addresses, the packet of a module) begins where the type ends.
//!
//! All types can be read from and written to untrusted bytes at any 4-byte alignment. Numbers that name variants stay
//! integers; bytes that C calls `bool` stay bytes.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::layout::{StructLayout, pad, parts};

macro_rules! plain {
    ($($(#[$attr:meta])* $name:ident: $($rest:tt)*)*) => {
        $crate::abi::layout::layout_struct! {
            $($(#[$attr])*
            #[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
            #[repr(C, packed(4))]
            $name: $($rest)*)*
        }
    };
}
pub(super) use plain;

plain! {
    /// Begins every packet.
    RequestHeader: "SUPREQHDR" "" [0x18, 0x18] {
        /// Driver cookie; [`INITIAL_COOKIE`](super::ioctl::INITIAL_COOKIE) in the handshake. Never written by the driver.
        cookie: u32 = "u32Cookie" [0x0, 0x0],
        /// Session cookie; anything in the handshake. Never written by the driver.
        session_cookie: u32 = "u32SessionCookie" [0x4, 0x4],
        /// Bytes of input, header included.
        in_bytes: u32 = "cbIn" [0x8, 0x8],
        /// Bytes of output that the client can take, header included; on return the bytes that travel back.
        out_bytes: u32 = "cbOut" [0xc, 0xc],
        /// Magic and flags.
        flags: u32 = "fFlags" [0x10, 0x10],
        /// Status of the request; ignored on input.
        rc: i32 = "rc" [0x14, 0x14],
    }
}

/// Size of [`RequestHeader`] in bytes: the smallest packet.
pub const HEADER_BYTES: usize = size_of::<RequestHeader>();

plain! {
    /// Begins a packet for a VMMR0 module, inside the packet of the request.
    Vmmr0RequestHeader: "SUPVMMR0REQHDR" "" [0x8, 0x8] {
        /// [`VMMR0_REQUEST_MAGIC`](super::ioctl::VMMR0_REQUEST_MAGIC).
        magic: u32 = "u32Magic" [0x0, 0x0],
        /// Bytes of the module's packet, this header included.
        bytes: u32 = "cbReq" [0x4, 0x4],
    }
}

plain! {
    /// Begins a packet for a service module, inside the packet of the request.
    ServiceRequestHeader: "SUPR0SERVICEREQHDR" "" [0x8, 0x8] {
        /// [`SERVICE_REQUEST_MAGIC`](super::ioctl::SERVICE_REQUEST_MAGIC).
        magic: u32 = "u32Magic" [0x0, 0x0],
        /// Bytes of the module's packet, this header included.
        bytes: u32 = "cbReq" [0x4, 0x4],
    }
}

plain! {
    /// A symbol of an uploaded image.
    LdrSymbol: "SUPLDRSYM" "" [0x8, 0x8] {
        /// Offset of the name in the string table.
        name_offset: u32 = "offName" [0x0, 0x0],
        /// Offset from the image base.
        symbol_offset: u32 = "offSymbol" [0x4, 0x4],
    }
}

plain! {
    /// An entry of the function table that clients link modules against.
    Function: "SUPFUNC" "" [0x28, 0x24] {
        /// NUL-padded name.
        name: [u8; 32] = "szName" [0x0, 0x0],
        /// Kernel address, or a plain number for the first ten entries.
        address: usize = "pfn" [0x20, 0x20],
    }
}

plain! {
    /// `SUPCOOKIE`, what the client sends.
    CookieIn: "SUPCOOKIE" "u.In." [0x30, 0x30] {
        /// Common header.
        hdr: RequestHeader = "^Hdr" [0x0, 0x0],
        /// The 16-byte magic string.
        magic: [u8; 16] = "szMagic" [0x18, 0x18],
        /// Requested version.
        requested_version: u32 = "u32ReqVersion" [0x28, 0x28],
        /// Minimum version.
        min_version: u32 = "u32MinVersion" [0x2c, 0x2c],
    }
}

plain! {
    /// `SUPCOOKIE`, what it receives.
    CookieOut: "SUPCOOKIE" "u.Out." [0x38, 0x30] {
        /// Common header.
        hdr: RequestHeader = "^Hdr" [0x0, 0x0],
        /// Driver cookie.
        cookie: u32 = "u32Cookie" [0x18, 0x18],
        /// Session cookie.
        session_cookie: u32 = "u32SessionCookie" [0x1c, 0x1c],
        /// Version of this session.
        session_version: u32 = "u32SessionVersion" [0x20, 0x20],
        /// Driver's version.
        driver_version: u32 = "u32DriverVersion" [0x24, 0x24],
        /// Number of exports (0 for restricted).
        function_count: u32 = "cFunctions" [0x28, 0x28],
        /// Padding.
        pad0: [u8; pad(4, 0)],
        /// Session pointer, an opaque handle for the client.
        session: usize = "pSession" [0x30, 0x2c],
    }
}

plain! {
    /// `SUPQUERYFUNCS`, what it receives. The variable part, `aFunctions`, follows.
    QueryFuncsOut: "SUPQUERYFUNCS" "u.Out." [0x20, 0x1c] {
        /// Common header.
        hdr: RequestHeader = "^Hdr" [0x0, 0x0],
        /// Number of entries that follow.
        function_count: u32 = "cFunctions" [0x18, 0x18],
        /// Padding.
        pad0: [u8; pad(4, 0)],
    }
}

plain! {
    /// `SUPLDROPEN`, what the client sends.
    LdrOpenIn: "SUPLDROPEN" "u.In." [0x148, 0x144] {
        /// Common header.
        hdr: RequestHeader = "^Hdr" [0x0, 0x0],
        /// Image size including symbol and string tables.
        image_bytes_with_tables: u32 = "cbImageWithTabs" [0x18, 0x18],
        /// Size of the image proper.
        image_bytes: u32 = "cbImageBits" [0x1c, 0x1c],
        /// Image name (sharing key).
        name: [u8; 32] = "szName" [0x20, 0x20],
        /// Absolute file name, for native loaders.
        file_name: [u8; 260] = "szFilename" [0x40, 0x40],
        /// Padding.
        pad0: [u8; pad(4, 0)],
    }
}

plain! {
    /// `SUPLDROPEN`, what it receives.
    LdrOpenOut: "SUPLDROPEN" "u.Out." [0x28, 0x20] {
        /// Common header.
        hdr: RequestHeader = "^Hdr" [0x0, 0x0],
        /// Kernel address of the image.
        image_base: usize = "pvImageBase" [0x18, 0x18],
        /// 1: client must do request 4.
        needs_loading: u8 = "fNeedsLoading" [0x20, 0x1c],
        /// 1: OS loader placed the image.
        native_loader: u8 = "fNativeLoader" [0x21, 0x1d],
        /// Padding.
        pad0: [u8; pad(6, 2)],
    }
}

plain! {
    /// `SUPLDRLOAD`, what the client sends. The variable part, `abImage`, follows.
    LdrLoadIn: "SUPLDRLOAD" "u.In." [0x6c, 0x50] {
        /// Common header.
        hdr: RequestHeader = "^Hdr" [0x0, 0x0],
        /// Kernel address of the init function or 0.
        module_init: usize = "pfnModuleInit" [0x18, 0x18],
        /// Kernel address of the term function or 0.
        module_term: usize = "pfnModuleTerm" [0x20, 0x1c],
        /// VMMR0: base, EntryInt, EntryFast, EntryEx; service: handler and three zeros.
        entry_points: [usize; 4] = "EP" [0x28, 0x20],
        /// Base returned by request 3.
        image_base: usize = "pvImageBase" [0x48, 0x30],
        /// Entry point type.
        entry_point_type: u32 = "eEPType" [0x50, 0x34],
        /// Must equal request 3's.
        image_bytes: u32 = "cbImageBits" [0x54, 0x38],
        /// Offset of the symbol table in `abImage`.
        symbols_offset: u32 = "offSymbols" [0x58, 0x3c],
        /// Number of symbols.
        symbol_count: u32 = "cSymbols" [0x5c, 0x40],
        /// Offset of the string table.
        strings_offset: u32 = "offStrTab" [0x60, 0x44],
        /// Its size.
        strings_bytes: u32 = "cbStrTab" [0x64, 0x48],
        /// Bytes in `abImage`, must equal request 3's.
        image_bytes_with_tables: u32 = "cbImageWithTabs" [0x68, 0x4c],
    }
}

plain! {
    /// `SUPLDRFREE`, what the client sends.
    LdrFreeIn: "SUPLDRFREE" "u.In." [0x20, 0x1c] {
        /// Common header.
        hdr: RequestHeader = "^Hdr" [0x0, 0x0],
        /// Base from request 3.
        image_base: usize = "pvImageBase" [0x18, 0x18],
    }
}

plain! {
    /// `SUPLDRGETSYMBOL`, what the client sends.
    LdrGetSymbolIn: "SUPLDRGETSYMBOL" "u.In." [0x60, 0x5c] {
        /// Common header.
        hdr: RequestHeader = "^Hdr" [0x0, 0x0],
        /// Base from request 3.
        image_base: usize = "pvImageBase" [0x18, 0x18],
        /// Symbol name.
        symbol: [u8; 64] = "szSymbol" [0x20, 0x1c],
    }
}

plain! {
    /// `SUPLDRGETSYMBOL`, what it receives.
    LdrGetSymbolOut: "SUPLDRGETSYMBOL" "u.Out." [0x20, 0x1c] {
        /// Common header.
        hdr: RequestHeader = "^Hdr" [0x0, 0x0],
        /// Kernel address.
        address: usize = "pvSymbol" [0x18, 0x18],
    }
}

plain! {
    /// `SUPCALLVMMR0`, what the client sends. The variable part, `abReqPkt`, follows.
    CallVmmr0In: "SUPCALLVMMR0" "u.In." [0x30, 0x2c] {
        /// Common header.
        hdr: RequestHeader = "^Hdr" [0x0, 0x0],
        /// VM handle (kernel pointer), not checked by the driver.
        vm: usize = "pVMR0" [0x18, 0x18],
        /// VCPU id, not checked.
        cpu_id: u32 = "idCpu" [0x20, 0x1c],
        /// Operation, not checked.
        operation: u32 = "uOperation" [0x24, 0x20],
        /// Argument.
        arg: u64 = "u64Arg" [0x28, 0x24],
    }
}

plain! {
    /// `SUPLOWALLOC`, what the client sends.
    LowAllocIn: "SUPLOWALLOC" "u.In." [0x1c, 0x1c] {
        /// Common header.
        hdr: RequestHeader = "^Hdr" [0x0, 0x0],
        /// Pages.
        pages: u32 = "cPages" [0x18, 0x18],
    }
}

plain! {
    /// `SUPLOWALLOC`, what it receives. The variable part, `aPages`, follows.
    LowAllocOut: "SUPLOWALLOC" "u.Out." [0x28, 0x20] {
        /// Common header.
        hdr: RequestHeader = "^Hdr" [0x0, 0x0],
        /// Ring-3 mapping.
        r3: usize = "pvR3" [0x18, 0x18],
        /// Kernel mapping.
        r0: usize = "pvR0" [0x20, 0x1c],
    }
}

plain! {
    /// `SUPLOWFREE`, what the client sends.
    LowFreeIn: "SUPLOWFREE" "u.In." [0x20, 0x1c] {
        /// Common header.
        hdr: RequestHeader = "^Hdr" [0x0, 0x0],
        /// Address from request 8.
        r3: usize = "pvR3" [0x18, 0x18],
    }
}

plain! {
    /// `SUPPAGEALLOCEX`, what the client sends.
    PageAllocExIn: "SUPPAGEALLOCEX" "u.In." [0x20, 0x20] {
        /// Common header.
        hdr: RequestHeader = "^Hdr" [0x0, 0x0],
        /// Pages.
        pages: u32 = "cPages" [0x18, 0x18],
        /// Want a kernel mapping.
        kernel_mapping: u8 = "fKernelMapping" [0x1c, 0x1c],
        /// Want a ring-3 mapping (must be set).
        user_mapping: u8 = "fUserMapping" [0x1d, 0x1d],
        /// Must be 0.
        reserved0: u8 = "fReserved0" [0x1e, 0x1e],
        /// Must be 0.
        reserved1: u8 = "fReserved1" [0x1f, 0x1f],
    }
}

plain! {
    /// `SUPPAGEALLOCEX`, what it receives. The variable part, `aPages`, follows.
    PageAllocExOut: "SUPPAGEALLOCEX" "u.Out." [0x28, 0x20] {
        /// Common header.
        hdr: RequestHeader = "^Hdr" [0x0, 0x0],
        /// Ring-3 mapping.
        r3: usize = "pvR3" [0x18, 0x18],
        /// Kernel mapping, if requested.
        r0: usize = "pvR0" [0x20, 0x1c],
    }
}

plain! {
    /// `SUPPAGEMAPKERNEL`, what the client sends.
    PageMapKernelIn: "SUPPAGEMAPKERNEL" "u.In." [0x30, 0x28] {
        /// Common header.
        hdr: RequestHeader = "^Hdr" [0x0, 0x0],
        /// Start of an allocation (request 10) or locked range (14).
        r3: usize = "pvR3" [0x18, 0x18],
        /// First byte, page aligned.
        offset_bytes: u32 = "offSub" [0x20, 0x1c],
        /// Bytes, page aligned, not 0.
        size_bytes: u32 = "cbSub" [0x24, 0x20],
        /// Must be 0.
        flags: u32 = "fFlags" [0x28, 0x24],
        /// Padding.
        pad0: [u8; pad(4, 0)],
    }
}

plain! {
    /// `SUPPAGEMAPKERNEL`, what it receives.
    PageMapKernelOut: "SUPPAGEMAPKERNEL" "u.Out." [0x30, 0x28] {
        /// Common header.
        hdr: RequestHeader = "^Hdr" [0x0, 0x0],
        /// Kernel address of `pvR3 + offSub`.
        r0: usize = "pvR0" [0x18, 0x18],
        /// Padding.
        pad0: [u8; pad(16, 12)],
    }
}

plain! {
    /// `SUPPAGEPROTECT`, what the client sends.
    PageProtectIn: "SUPPAGEPROTECT" "u.In." [0x38, 0x2c] {
        /// Common header.
        hdr: RequestHeader = "^Hdr" [0x0, 0x0],
        /// Ring-3 address of a page allocation, 0 = leave ring-3 mapping alone.
        r3: usize = "pvR3" [0x18, 0x18],
        /// Kernel address, 0 = leave kernel mapping alone.
        r0: usize = "pvR0" [0x20, 0x1c],
        /// Page aligned.
        offset_bytes: u32 = "offSub" [0x28, 0x20],
        /// Page aligned, not 0.
        size_bytes: u32 = "cbSub" [0x2c, 0x24],
        /// Any combination of 1, 2, 4.
        prot: u32 = "fProt" [0x30, 0x28],
        /// Padding.
        pad0: [u8; pad(4, 0)],
    }
}

plain! {
    /// `SUPPAGEFREE`, what the client sends.
    PageFreeIn: "SUPPAGEFREE" "u.In." [0x20, 0x1c] {
        /// Common header.
        hdr: RequestHeader = "^Hdr" [0x0, 0x0],
        /// Address from request 10.
        r3: usize = "pvR3" [0x18, 0x18],
    }
}

plain! {
    /// `SUPPAGELOCK`, what the client sends.
    PageLockIn: "SUPPAGELOCK" "u.In." [0x28, 0x20] {
        /// Common header.
        hdr: RequestHeader = "^Hdr" [0x0, 0x0],
        /// Start, page aligned.
        r3: usize = "pvR3" [0x18, 0x18],
        /// Pages.
        pages: u32 = "cPages" [0x20, 0x1c],
        /// Padding.
        pad0: [u8; pad(4, 0)],
    }
}

plain! {
    /// `SUPPAGELOCK`, what it receives. The variable part, `aPages`, follows.
    PageLockOut: "SUPPAGELOCK" "u.Out." [0x18, 0x18] {
        /// Common header.
        hdr: RequestHeader = "^Hdr" [0x0, 0x0],
    }
}

plain! {
    /// `SUPPAGEUNLOCK`, what the client sends.
    PageUnlockIn: "SUPPAGEUNLOCK" "u.In." [0x20, 0x1c] {
        /// Common header.
        hdr: RequestHeader = "^Hdr" [0x0, 0x0],
        /// Start of a locked range.
        r3: usize = "pvR3" [0x18, 0x18],
    }
}

plain! {
    /// `SUPCONTALLOC`, what the client sends.
    ContAllocIn: "SUPCONTALLOC" "u.In." [0x1c, 0x1c] {
        /// Common header.
        hdr: RequestHeader = "^Hdr" [0x0, 0x0],
        /// Pages.
        pages: u32 = "cPages" [0x18, 0x18],
    }
}

plain! {
    /// `SUPCONTALLOC`, what it receives.
    ContAllocOut: "SUPCONTALLOC" "u.Out." [0x30, 0x28] {
        /// Common header.
        hdr: RequestHeader = "^Hdr" [0x0, 0x0],
        /// Kernel mapping (note: kernel first here).
        r0: usize = "pvR0" [0x18, 0x18],
        /// Ring-3 mapping.
        r3: usize = "pvR3" [0x20, 0x1c],
        /// Physical address of the first page.
        phys: u64 = "HCPhys" [0x28, 0x20],
    }
}

plain! {
    /// `SUPCONTFREE`, what the client sends.
    ContFreeIn: "SUPCONTFREE" "u.In." [0x20, 0x1c] {
        /// Common header.
        hdr: RequestHeader = "^Hdr" [0x0, 0x0],
        /// Address from request 16.
        r3: usize = "pvR3" [0x18, 0x18],
    }
}

plain! {
    /// `SUPGETPAGINGMODE`, what it receives.
    GetPagingModeOut: "SUPGETPAGINGMODE" "u.Out." [0x1c, 0x1c] {
        /// Common header.
        hdr: RequestHeader = "^Hdr" [0x0, 0x0],
        /// Paging mode of the current CPU.
        mode: u32 = "enmMode" [0x18, 0x18],
    }
}

plain! {
    /// `SUPSETVMFORFAST`, what the client sends.
    SetVmForFastIn: "SUPSETVMFORFAST" "u.In." [0x20, 0x1c] {
        /// Common header.
        hdr: RequestHeader = "^Hdr" [0x0, 0x0],
        /// VM handle (kernel pointer) or 0.
        vm: usize = "pVMR0" [0x18, 0x18],
    }
}

plain! {
    /// `SUPGIPMAP`, what it receives.
    GipMapOut: "SUPGIPMAP" "u.Out." [0x30, 0x28] {
        /// Common header.
        hdr: RequestHeader = "^Hdr" [0x0, 0x0],
        /// Physical address of the GIP.
        phys: u64 = "HCPhysGip" [0x18, 0x18],
        /// Read-only ring-3 mapping.
        r3: usize = "pGipR3" [0x20, 0x20],
        /// Kernel address.
        r0: usize = "pGipR0" [0x28, 0x24],
    }
}

plain! {
    /// `SUPGIPUNMAP`: a header only.
    GipUnmap: "SUPGIPUNMAP" "u." [0x18, 0x18] {
        /// Common header.
        hdr: RequestHeader = "^Hdr" [0x0, 0x0],
    }
}

plain! {
    /// `SUPCALLSERVICE`, what the client sends. The variable part, `abReqPkt`, follows.
    CallServiceIn: "SUPCALLSERVICE" "u.In." [0x40, 0x40] {
        /// Common header.
        hdr: RequestHeader = "^Hdr" [0x0, 0x0],
        /// Image name of the service module.
        name: [u8; 28] = "szName" [0x18, 0x18],
        /// Operation.
        operation: u32 = "uOperation" [0x34, 0x34],
        /// Argument.
        arg: u64 = "u64Arg" [0x38, 0x38],
    }
}

plain! {
    /// `SUPLOGGERSETTINGS`, what the client sends. The variable part, `szStrings`, follows.
    LoggerSettingsIn: "SUPLOGGERSETTINGS" "u.In." [0x2c, 0x2c] {
        /// Common header.
        hdr: RequestHeader = "^Hdr" [0x0, 0x0],
        /// Debug / release logger.
        which: u32 = "fWhich" [0x18, 0x18],
        /// Settings / create / destroy.
        what: u32 = "fWhat" [0x1c, 0x1c],
        /// Offset of the flags string in the table.
        flags_offset: u32 = "offFlags" [0x20, 0x20],
        /// Offset of the groups string.
        groups_offset: u32 = "offGroups" [0x24, 0x24],
        /// Offset of the destination string (accepted, unused).
        destination_offset: u32 = "offDestination" [0x28, 0x28],
    }
}

plain! {
    /// `SUPSEMOP2`, what the client sends.
    SemOp2In: "SUPSEMOP2" "u.In." [0x30, 0x30] {
        /// Common header.
        hdr: RequestHeader = "^Hdr" [0x0, 0x0],
        /// Semaphore type.
        sem_type: u32 = "uType" [0x18, 0x18],
        /// Handle (1..32768).
        handle: u32 = "hSem" [0x1c, 0x1c],
        /// Operation.
        operation: u32 = "uOp" [0x20, 0x20],
        /// Must be 0.
        reserved: u32 = "uReserved" [0x24, 0x24],
        /// UArg.
        arg: u64 = "uArg" [0x28, 0x28],
    }
}

plain! {
    /// `SUPSEMOP3`, what the client sends.
    SemOp3In: "SUPSEMOP3" "u.In." [0x30, 0x30] {
        /// Common header.
        hdr: RequestHeader = "^Hdr" [0x0, 0x0],
        /// Semaphore type.
        sem_type: u32 = "uType" [0x18, 0x18],
        /// Must be 0 for both operations.
        handle: u32 = "hSem" [0x1c, 0x1c],
        /// Operation.
        operation: u32 = "uOp" [0x20, 0x20],
        /// Must be 0.
        reserved: u32 = "u32Reserved" [0x24, 0x24],
        /// Must be 0.
        reserved64: u64 = "u64Reserved" [0x28, 0x28],
    }
}

plain! {
    /// `SUPSEMOP3`, what it receives.
    SemOp3Out: "SUPSEMOP3" "u.Out." [0x30, 0x30] {
        /// Common header.
        hdr: RequestHeader = "^Hdr" [0x0, 0x0],
        /// CREATE: the new handle; GET_RESOLUTION: nanoseconds.
        value: u32 = "u32" [0x18, 0x18],
        /// Padding.
        pad0: [u8; pad(20, 20)],
    }
}

plain! {
    /// `SUPVTCAPS`, what it receives.
    VtCapsOut: "SUPVTCAPS" "u.Out." [0x1c, 0x1c] {
        /// Common header.
        hdr: RequestHeader = "^Hdr" [0x0, 0x0],
        /// Capability bits.
        caps: u32 = "Caps" [0x18, 0x18],
    }
}

plain! {
    /// `SUPTRACEROPEN`, what the client sends.
    TracerOpenIn: "SUPTRACEROPEN" "u.In." [0x28, 0x20] {
        /// Common header.
        hdr: RequestHeader = "^Hdr" [0x0, 0x0],
        /// Tracer cookie, passed on.
        cookie: u32 = "uCookie" [0x18, 0x18],
        /// Padding.
        pad0: [u8; pad(4, 0)],
        /// Tracer argument, passed on.
        arg: usize = "uArg" [0x20, 0x1c],
    }
}

plain! {
    /// `SUPTRACERIOCTL`, what the client sends.
    TracerIoctlIn: "SUPTRACERIOCTL" "u.In." [0x28, 0x20] {
        /// Common header.
        hdr: RequestHeader = "^Hdr" [0x0, 0x0],
        /// Tracer command.
        command: usize = "uCmd" [0x18, 0x18],
        /// Tracer argument.
        arg: usize = "uArg" [0x20, 0x1c],
    }
}

plain! {
    /// `SUPTRACERIOCTL`, what it receives.
    TracerIoctlOut: "SUPTRACERIOCTL" "u.Out." [0x1c, 0x1c] {
        /// Common header.
        hdr: RequestHeader = "^Hdr" [0x0, 0x0],
        /// Tracer's return value; set to 0 before anything else (overlaps `uCmd`: read it first).
        return_value: i32 = "iRetVal" [0x18, 0x18],
    }
}

plain! {
    /// `SUPTRACERUMODREG`, what the client sends.
    TracerUmodRegIn: "SUPTRACERUMODREG" "u.In." [0x78, 0x70] {
        /// Common header.
        hdr: RequestHeader = "^Hdr" [0x0, 0x0],
        /// Address the VTG header is linked/loaded at (64-bit on both).
        header_address: u64 = "uVtgHdrAddr" [0x18, 0x18],
        /// Ring-3 address of the VTG header.
        header_r3: usize = "R3PtrVtgHdr" [0x20, 0x20],
        /// Ring-3 address of the function-name string table.
        strings_r3: usize = "R3PtrStrTab" [0x28, 0x24],
        /// Its size.
        strings_bytes: u32 = "cbStrTab" [0x30, 0x28],
        /// Module type, 1 or 2.
        flags: u32 = "fFlags" [0x34, 0x2c],
        /// Module name.
        name: [u8; 64] = "szName" [0x38, 0x30],
    }
}

plain! {
    /// `SUPTRACERUMODDEREG`, what the client sends.
    TracerUmodDeregIn: "SUPTRACERUMODDEREG" "u.In." [0x20, 0x1c] {
        /// Common header.
        hdr: RequestHeader = "^Hdr" [0x0, 0x0],
        /// Address given as `R3PtrVtgHdr` in 31.
        header_r3: usize = "pVtgHdr" [0x18, 0x18],
    }
}

plain! {
    /// `SUPMSRPROBER`, what the client sends.
    MsrProberIn: "SUPMSRPROBER" "u.In." [0x40, 0x40] {
        /// Common header.
        hdr: RequestHeader = "^Hdr" [0x0, 0x0],
        /// Operation.
        operation: u32 = "enmOp" [0x18, 0x18],
        /// MSR number.
        msr: u32 = "uMsr" [0x1c, 0x1c],
        /// CPU, 0xffffffff = any.
        cpu_id: u32 = "idCpu" [0x20, 0x20],
        /// Ignored.
        padding: u32 = "u32Padding" [0x24, 0x24],
        /// WRITE: value; MODIFY: AND mask, OR mask.
        args: [u64; 3] = "uArgs" [0x28, 0x28],
    }
}

plain! {
    /// `SUPMSRPROBER`, what it receives.
    MsrProberOut: "SUPMSRPROBER" "u.Out." [0x40, 0x40] {
        /// Common header.
        hdr: RequestHeader = "^Hdr" [0x0, 0x0],
        /// READ: value, faulted; WRITE: faulted; MODIFY: before, written, after, four flag bytes.
        results: [u64; 5] = "uResults" [0x18, 0x18],
    }
}

plain! {
    /// What the MSR prober says about a modification.
    MsrModifyResult: "SUPMSRPROBERMODIFYRESULT" "" [0x20, 0x20] {
        /// The value that was there.
        before: u64 = "uBefore" [0x0, 0x0],
        /// The value that was written.
        written: u64 = "uWritten" [0x8, 0x8],
        /// The value that is there now.
        after: u64 = "uAfter" [0x10, 0x10],
        /// Whether the first read faulted.
        before_faulted: u8 = "fBeforeGp" [0x18, 0x18],
        /// Whether the write faulted.
        modify_faulted: u8 = "fModifyGp" [0x19, 0x19],
        /// Whether the second read faulted.
        after_faulted: u8 = "fAfterGp" [0x1a, 0x1a],
        /// Whether writing the first value back faulted.
        restore_faulted: u8 = "fRestoreGp" [0x1b, 0x1b],
        /// Zero.
        reserved: [u8; 4] = "afReserved" [0x1c, 0x1c],
    }
}

parts! {
    "SUPLDRLOAD" {
        "u.In.EP.VMMR0.pvVMMR0": usize [0x28, 0x20],
        "u.In.EP.VMMR0.pvVMMR0EntryInt": usize [0x30, 0x24],
        "u.In.EP.VMMR0.pvVMMR0EntryFast": usize [0x38, 0x28],
        "u.In.EP.VMMR0.pvVMMR0EntryEx": usize [0x40, 0x2c],
        "u.In.EP.Service.pfnServiceReq": usize [0x28, 0x20],
        "u.In.EP.Service.apvReserved": [usize; 3] [0x30, 0x24],
        "u.In.abImage": [u8; 1] [0x6c, 0x50],
    }
    "SUPQUERYFUNCS" {
        "u.Out.aFunctions": [Function; 1] [0x20, 0x1c],
    }
    "SUPCALLVMMR0" {
        "abReqPkt": [u8; 1] [0x30, 0x2c],
    }
    "SUPCALLSERVICE" {
        "abReqPkt": [u8; 1] [0x40, 0x40],
    }
    "SUPLOWALLOC" {
        "u.Out.aPages": [u64; 1] [0x28, 0x20],
    }
    "SUPPAGEALLOCEX" {
        "u.Out.aPages": [u64; 1] [0x28, 0x20],
    }
    "SUPPAGELOCK" {
        "u.Out.aPages": [u64; 1] [0x18, 0x18],
    }
    "SUPLOGGERSETTINGS" {
        "u.In.szStrings": [u8; 1] [0x2c, 0x2c],
    }
    "SUPSEMOP2" {
        "u.In.uArg.uAbsNsTimeout": u64 [0x28, 0x28],
        "u.In.uArg.cRelNsTimeout": u64 [0x28, 0x28],
        "u.In.uArg.cRelMsTimeout": u32 [0x28, 0x28],
        "u.In.uArg.u64": u64 [0x28, 0x28],
    }
    "SUPSEMOP3" {
        "u.Out.hSem": u32 [0x18, 0x18],
        "u.Out.cNsResolution": u32 [0x18, 0x18],
        "u.Out.u64Reserved": u64 [0x18, 0x18],
    }
    "SUPMSRPROBER" {
        "u.In.uArgs.Write.uToWrite": u64 [0x28, 0x28],
        "u.In.uArgs.Modify.fAndMask": u64 [0x28, 0x28],
        "u.In.uArgs.Modify.fOrMask": u64 [0x30, 0x30],
        "u.In.uArgs.auPadding": [u64; 3] [0x28, 0x28],
        "u.Out.uResults.Read.uValue": u64 [0x18, 0x18],
        "u.Out.uResults.Read.fGp": u8 [0x20, 0x20],
        "u.Out.uResults.Write.fGp": u8 [0x18, 0x18],
        "u.Out.uResults.Modify.uBefore": u64 [0x18, 0x18],
        "u.Out.uResults.Modify.uWritten": u64 [0x20, 0x20],
        "u.Out.uResults.Modify.uAfter": u64 [0x28, 0x28],
        "u.Out.uResults.Modify.fBeforeGp": u8 [0x30, 0x30],
        "u.Out.uResults.Modify.fModifyGp": u8 [0x31, 0x31],
        "u.Out.uResults.Modify.fAfterGp": u8 [0x32, 0x32],
        "u.Out.uResults.Modify.fRestoreGp": u8 [0x33, 0x33],
        "u.Out.uResults.Modify.afReserved": [u8; 4] [0x34, 0x34],
        "u.Out.uResults.auPadding": [u64; 5] [0x18, 0x18],
    }
}

/// Layouts of all types of this module.
pub const LAYOUTS: &[StructLayout] = &[
    RequestHeader::LAYOUT,
    Vmmr0RequestHeader::LAYOUT,
    ServiceRequestHeader::LAYOUT,
    LdrSymbol::LAYOUT,
    Function::LAYOUT,
    CookieIn::LAYOUT,
    CookieOut::LAYOUT,
    QueryFuncsOut::LAYOUT,
    LdrOpenIn::LAYOUT,
    LdrOpenOut::LAYOUT,
    LdrLoadIn::LAYOUT,
    LdrFreeIn::LAYOUT,
    LdrGetSymbolIn::LAYOUT,
    LdrGetSymbolOut::LAYOUT,
    CallVmmr0In::LAYOUT,
    LowAllocIn::LAYOUT,
    LowAllocOut::LAYOUT,
    LowFreeIn::LAYOUT,
    PageAllocExIn::LAYOUT,
    PageAllocExOut::LAYOUT,
    PageMapKernelIn::LAYOUT,
    PageMapKernelOut::LAYOUT,
    PageProtectIn::LAYOUT,
    PageFreeIn::LAYOUT,
    PageLockIn::LAYOUT,
    PageLockOut::LAYOUT,
    PageUnlockIn::LAYOUT,
    ContAllocIn::LAYOUT,
    ContAllocOut::LAYOUT,
    ContFreeIn::LAYOUT,
    GetPagingModeOut::LAYOUT,
    SetVmForFastIn::LAYOUT,
    GipMapOut::LAYOUT,
    GipUnmap::LAYOUT,
    CallServiceIn::LAYOUT,
    LoggerSettingsIn::LAYOUT,
    SemOp2In::LAYOUT,
    SemOp3In::LAYOUT,
    SemOp3Out::LAYOUT,
    VtCapsOut::LAYOUT,
    TracerOpenIn::LAYOUT,
    TracerIoctlIn::LAYOUT,
    TracerIoctlOut::LAYOUT,
    TracerUmodRegIn::LAYOUT,
    TracerUmodDeregIn::LAYOUT,
    MsrProberIn::LAYOUT,
    MsrProberOut::LAYOUT,
    MsrModifyResult::LAYOUT,
];
