//! The seed's C structures, as C code sees them.
//!
//! These are *views*: C shells read, and in places write, the fields marked "kept true"; the core keeps its own state elsewhere and
//! everything else in here is reserved to it. Whatever both sides may touch at once is an atomic.

use core::sync::atomic::{AtomicPtr, AtomicU8, AtomicU32, AtomicUsize};

use zerocopy::FromZeros;

use super::layout::{StructLayout, layout_struct, pad, parts};

layout_struct! {
    /// The seed's session; the system's tail follows it. "Kept true" fields are what C code may look at, all others are the core's.
    #[derive(Debug, FromZeros)]
    #[repr(C)]
    SessionView: "SUPDRVSESSION" "" [0x7b0, 0x3e4] {
        /// The device extension. Kept true.
        dev_ext: AtomicPtr<DevExtView> = "pDevExt" [0x0, 0x0],
        /// Session cookie. Kept true.
        cookie: AtomicU32 = "u32Cookie" [0x8, 0x4],
        /// Whether the session may use everything. Kept true.
        unrestricted: u8 = "fUnrestricted" [0xc, 0x8],
        /// Padding.
        pad0: [u8; 3],
        /// References to the session. Kept true.
        refs: AtomicU32 = "cRefs" [0x10, 0xc],
        /// Padding.
        pad1: [u8; pad(4, 0)],
        /// The VM of fast calls.
        vm: AtomicUsize = "pVM" [0x18, 0x10],
        /// Reserved.
        handle_table: usize = "hHandleTable" [0x20, 0x14],
        /// Reserved.
        ldr_usage: usize = "pLdrUsage" [0x28, 0x18],
        /// The session lock's handle.
        spinlock: usize = "Spinlock" [0x30, 0x1c],
        /// Reserved.
        gip_map: usize = "GipMapObjR3" [0x38, 0x20],
        /// Reserved.
        gip_referenced: u32 = "fGipReferenced" [0x40, 0x24],
        /// Padding.
        pad2: [u8; pad(4, 0)],
        /// Reserved.
        bundle: BundleView = "Bundle" [0x48, 0x28],
        /// Reserved.
        usage: usize = "pUsage" [0x658, 0x330],
        /// Real user id; the shell may set it. Kept true.
        uid: AtomicU32 = "Uid" [0x660, 0x334],
        /// Real group id; the shell may set it. Kept true.
        gid: AtomicU32 = "Gid" [0x664, 0x338],
        /// Process id. Kept true.
        process: AtomicU32 = "Process" [0x668, 0x33c],
        /// Padding.
        pad3: [u8; pad(4, 0)],
        /// Process identity. Kept true.
        r0_process: AtomicUsize = "R0Process" [0x670, 0x340],
        /// For the tracer. Kept true.
        tracer_data: AtomicUsize = "uTracerData" [0x678, 0x344],
        /// Reserved.
        tracer_caller: usize = "hTracerCaller" [0x680, 0x348],
        /// Reserved.
        tracepoint_providers: ListNode = "TpProviders" [0x688, 0x34c],
        /// Reserved.
        tracepoint_provider_count: u32 = "cTpProviders" [0x698, 0x354],
        /// Reserved.
        tracepoint_probes_firing: u32 = "cTpProbesFiring" [0x69c, 0x358],
        /// Reserved.
        tracepoint_umods: ListNode = "TpUmods" [0x6a0, 0x35c],
        /// Reserved.
        tracepoint_lookup: [usize; 32] = "apTpLookupTable" [0x6b0, 0x364],
    }
}

layout_struct! {
    /// A node, or the anchor, of a list of the seed. Reserved.
    #[derive(Debug, FromZeros)]
    #[repr(C)]
    ListNode: "RTLISTNODE" "" [0x10, 0x8] {
        /// Reserved.
        next: usize = "pNext" [0x0, 0x0],
        /// Reserved.
        prev: usize = "pPrev" [0x8, 0x4],
    }
}

layout_struct! {
    /// The seed's memory reference. Reserved.
    #[derive(Debug, FromZeros)]
    #[repr(C)]
    MemRefView: "SUPDRVMEMREF" "" [0x18, 0xc] {
        /// Reserved.
        object: usize = "MemObj" [0x0, 0x0],
        /// Reserved.
        user_map: usize = "MapObjR3" [0x8, 0x4],
        /// Reserved.
        kind: u32 = "eType" [0x10, 0x8],
        /// Padding.
        pad0: [u8; pad(4, 0)],
    }
}

layout_struct! {
    /// The seed's bundle of memory references. Reserved.
    #[derive(Debug, FromZeros)]
    #[repr(C)]
    BundleView: "SUPDRVBUNDLE" "" [0x610, 0x308] {
        /// Reserved.
        next: usize = "pNext" [0x0, 0x0],
        /// Reserved.
        references: [MemRefView; 64] = "aMem" [0x8, 0x4],
        /// Reserved.
        used: u32 = "cUsed" [0x608, 0x304],
        /// Padding.
        pad0: [u8; pad(4, 0)],
    }
}

layout_struct! {
    /// The seed's device extension; the system's tail follows it. "Kept true" fields are what C code may look at, all others are the core's.
    #[derive(Debug, FromZeros)]
    #[repr(C)]
    DevExtView: "SUPDRVDEVEXT" "" [0x910, 0x498] {
        /// Cookie; written last on the way up, cleared first on the way down. Kept true.
        cookie: AtomicU32 = "u32Cookie" [0x0, 0x0],
        /// Bytes of a session, view and tail. Kept true.
        session_bytes: AtomicU32 = "cbSession" [0x4, 0x4],
        /// The device lock's handle.
        spinlock: AtomicUsize = "Spinlock" [0x8, 0x8],
        /// The core's state.
        objects: AtomicUsize = "pObjs" [0x10, 0xc],
        /// Reserved.
        free_usages: usize = "pUsageFree" [0x18, 0x10],
        /// The loader mutex's handle.
        loader_mutex: AtomicUsize = "mtxLdr" [0x20, 0x14],
        /// Base of the VMMR0 image, 0 without one. Kept true.
        vmmr0: AtomicUsize = "pvVMMR0" [0x28, 0x18],
        /// Its first entry point. Kept true.
        vmmr0_entry_int: AtomicUsize = "pfnVMMR0EntryInt" [0x30, 0x1c],
        /// Its entry point for fast calls. Kept true.
        vmmr0_entry_fast: AtomicUsize = "pfnVMMR0EntryFast" [0x38, 0x20],
        /// Its entry point for calls with a packet. Kept true.
        vmmr0_entry_ex: AtomicUsize = "pfnVMMR0EntryEx" [0x40, 0x24],
        /// Reserved.
        images: usize = "pLdrImages" [0x48, 0x28],
        /// The image that runs its ModuleInit. Kept true.
        init_image: AtomicUsize = "pLdrInitImage" [0x50, 0x2c],
        /// The thread that runs it. Kept true.
        init_thread: AtomicUsize = "hLdrInitThread" [0x58, 0x30],
        /// The GIP mutex's handle. Kept true.
        gip_mutex: AtomicUsize = "mtxGip" [0x60, 0x34],
        /// The GIP spinlock's handle. Kept true.
        gip_spinlock: AtomicUsize = "hGipSpinlock" [0x68, 0x38],
        /// The GIP. Kept true.
        gip: AtomicUsize = "pGip" [0x70, 0x3c],
        /// Its physical address, low half first. Kept true.
        gip_phys: [AtomicU32; 2] = "HCPhysGip" [0x78, 0x40],
        /// Sessions that use it. Kept true.
        gip_users: AtomicU32 = "cGipUsers" [0x80, 0x48],
        /// Padding.
        pad1: [u8; pad(4, 0)],
        /// Reserved.
        gip_object: usize = "GipMemObj" [0x88, 0x4c],
        /// Its timer's handle. Kept true.
        gip_timer: AtomicUsize = "pGipTimer" [0x90, 0x50],
        /// Granted timer granularity, 0 for none. Kept true.
        timer_granularity_grant: AtomicU32 = "u32SystemTimerGranularityGrant" [0x98, 0x54],
        /// The CPU that updates what all share. Kept true.
        gip_master: AtomicU32 = "idGipMaster" [0x9c, 0x58],
        /// The component mutex's handle.
        component_mutex: AtomicUsize = "mtxComponentFactory" [0xa0, 0x5c],
        /// Reserved.
        components: usize = "pComponentFactoryHead" [0xa8, 0x60],
        /// The tracer mutex's handle.
        tracer_mutex: AtomicUsize = "mtxTracer" [0xb0, 0x64],
        /// Reserved.
        tracer_providers: ListNode = "TracerProviderList" [0xb8, 0x68],
        /// Reserved.
        tracer_zombies: ListNode = "TracerProviderZombieList" [0xc8, 0x70],
        /// Reserved.
        tracer: usize = "pTracerOps" [0xd8, 0x78],
        /// Reserved.
        tracer_session: usize = "pTracerSession" [0xe0, 0x7c],
        /// Reserved.
        tracer_image: usize = "pTracerImage" [0xe8, 0x80],
        /// Version of the tracer helpers, twice.
        tracer_helpers: [AtomicUsize; 2] = "TracerHlp" [0xf0, 0x84],
        /// Sessions that have the tracer open. Kept true.
        tracer_opens: AtomicU32 = "cTracerOpens" [0x100, 0x8c],
        /// Threads inside the tracer.
        tracer_callers: AtomicU32 = "cTracerCallers" [0x104, 0x90],
        /// Whether the tracer goes away. Kept true.
        tracer_unloading: AtomicU8 = "fTracerUnloading" [0x108, 0x94],
        /// Padding.
        pad2: [u8; pad(7, 3)],
        /// Reserved.
        tracer_umods: [ListNode; 128] = "aTrackerUmodHash" [0x110, 0x98],
    }
}

layout_struct! {
    /// The seed's registered object.
    #[derive(Debug, FromZeros)]
    #[repr(C)]
    ObjectView: "SUPDRVOBJ" "" [0x38, 0x28] {
        /// Live or dead. Kept true.
        magic: AtomicU32 = "u32Magic" [0x0, 0x0],
        /// Its type. Kept true.
        object_type: u32 = "enmType" [0x4, 0x4],
        /// Reserved.
        next: usize = "pNext" [0x8, 0x8],
        /// The destructor, 0 when its image is gone.
        destructor: AtomicUsize = "pfnDestructor" [0x10, 0xc],
        /// First argument for it.
        user1: usize = "pvUser1" [0x18, 0x10],
        /// Second argument for it.
        user2: usize = "pvUser2" [0x20, 0x14],
        /// References of all sessions. Kept true.
        usage: AtomicU32 = "cUsage" [0x28, 0x18],
        /// Who registered it. Kept true.
        creator_uid: u32 = "CreatorUid" [0x2c, 0x1c],
        /// Who registered it. Kept true.
        creator_gid: u32 = "CreatorGid" [0x30, 0x20],
        /// Who registered it. Kept true.
        creator_process: u32 = "CreatorProcess" [0x34, 0x24],
    }
}

/// The image has two words that belong to the system in it on Windows (section object, memory lock) and on Solaris (module id,
/// module control structure).
macro_rules! image_view {
    ([$size64:literal, $size32:literal] { $($words:tt)* } $native:literal [$native64:literal, $native32:literal]
     $name:literal [$name64:literal, $name32:literal]) => {
layout_struct! {
    /// The seed's loaded image.
    #[derive(Debug, FromZeros)]
    #[repr(C)]
    ImageView: "SUPDRVLDRIMAGE" "" [$size64, $size32] {
        /// Reserved.
        next: usize = "pNext" [0x0, 0x0],
        /// Load address. Kept true.
        base: AtomicUsize = "pvImage" [0x8, 0x4],
        /// What was allocated for it, 0 for native images. Kept true.
        allocation: AtomicUsize = "pvImageAlloc" [0x10, 0x8],
        /// Size with tables. Kept true.
        image_bytes_with_tables: u32 = "cbImageWithTabs" [0x18, 0xc],
        /// Size. Kept true.
        image_bytes: u32 = "cbImageBits" [0x1c, 0x10],
        /// Symbols. Kept true.
        symbol_count: AtomicU32 = "cSymbols" [0x20, 0x14],
        /// Padding.
        pad0: [u8; pad(4, 0)],
        /// The symbol table. Kept true.
        symbols: AtomicUsize = "paSymbols" [0x28, 0x18],
        /// The string table. Kept true.
        strings: AtomicUsize = "pachStrTab" [0x30, 0x1c],
        /// Its size. Kept true.
        strings_bytes: AtomicU32 = "cbStrTab" [0x38, 0x20],
        /// Padding.
        pad1: [u8; pad(4, 0)],
        /// ModuleInit or 0. Kept true.
        module_init: AtomicUsize = "pfnModuleInit" [0x40, 0x24],
        /// ModuleTerm or 0. Kept true.
        module_term: AtomicUsize = "pfnModuleTerm" [0x48, 0x28],
        /// Service request handler or 0. Kept true.
        service: AtomicUsize = "pfnServiceReqHandler" [0x50, 0x2c],
        /// Function code of the last operation. Kept true.
        state: AtomicU32 = "uState" [0x58, 0x30],
        /// References of all sessions. Kept true.
        usage: AtomicU32 = "cUsage" [0x5c, 0x34],
        /// The device extension. Kept true.
        dev_ext: AtomicPtr<DevExtView> = "pDevExt" [0x60, 0x38],
        $($words)*
        /// Whether the system's loader placed it. Kept true.
        native: AtomicU8 = $native [$native64, $native32],
        /// Its name. Kept true.
        name: [u8; 32] = $name [$name64, $name32],
        /// Padding.
        pad2: [u8; pad(7, 3)],
    }
}
    };
}

#[cfg(not(feature = "legacy-image-words"))]
image_view!([0x90, 0x60] {} "fNative" [0x68, 0x3c] "szName" [0x69, 0x3d]);
#[cfg(feature = "legacy-image-words")]
image_view!([0xa0, 0x68] {
    /// The system's.
    system: [AtomicUsize; 2] = "apvSystem" [0x68, 0x3c],
} "fNative" [0x78, 0x44] "szName" [0x79, 0x45]);

layout_struct! {
    /// The seed's image usage. Reserved.
    #[derive(Debug, FromZeros)]
    #[repr(C)]
    LdrUsageView: "SUPDRVLDRUSAGE" "" [0x18, 0xc] {
        /// Reserved.
        next: usize = "pNext" [0x0, 0x0],
        /// Reserved.
        image: usize = "pImage" [0x8, 0x4],
        /// Reserved.
        usage: u32 = "cUsage" [0x10, 0x8],
        /// Padding.
        pad0: [u8; pad(4, 0)],
    }
}

layout_struct! {
    /// The seed's object usage. Reserved.
    #[derive(Debug, FromZeros)]
    #[repr(C)]
    UsageView: "SUPDRVUSAGE" "" [0x18, 0xc] {
        /// Reserved.
        next: usize = "pNext" [0x0, 0x0],
        /// Reserved.
        object: usize = "pObj" [0x8, 0x4],
        /// Reserved.
        usage: u32 = "cUsage" [0x10, 0x8],
        /// Padding.
        pad0: [u8; pad(4, 0)],
    }
}

layout_struct! {
    /// The seed's factory registration. Reserved.
    #[derive(Debug, FromZeros)]
    #[repr(C)]
    FactoryRegView: "SUPDRVFACTORYREG" "" [0x20, 0x10] {
        /// Reserved.
        next: usize = "pNext" [0x0, 0x0],
        /// Reserved.
        factory: usize = "pFactory" [0x8, 0x4],
        /// Reserved.
        session: usize = "pSession" [0x10, 0x8],
        /// Reserved.
        name_bytes: usize = "cchName" [0x18, 0xc],
    }
}

layout_struct! {
    /// A component factory, owned by the driver that registers it.
    #[derive(Debug, FromZeros)]
    #[repr(C)]
    Factory: "SUPDRVFACTORY" "" [0x40, 0x3c] {
        /// NUL-terminated name.
        name: [u8; 56] = "szName" [0x0, 0x0],
        /// Called to get an interface.
        query: usize = "pfnQueryFactoryInterface" [0x38, 0x38],
    }
}

layout_struct! {
    /// A page's physical address, for modules.
    #[derive(Debug, FromZeros)]
    #[repr(C, packed(4))]
    Page: "SUPPAGE" "" [0x10, 0xc] {
        /// Physical address, low half first.
        phys: [u32; 2] = "Phys" [0x0, 0x0],
        /// Zero.
        reserved: usize = "uReserved" [0x8, 0x8],
    }
}

layout_struct! {
    /// A UUID.
    #[derive(Clone, Copy, Debug, FromZeros)]
    #[repr(C, align(8))]
    Uuid: "RTUUID" "" [0x10, 0x10] {
        /// Its bytes.
        bytes: [u8; 16] = "au8" [0x0, 0x0],
    }
}

parts! {
    "SUPDRVDEVEXT" {
        "TracerHlp.uVersion": usize [0xf0, 0x84],
        "TracerHlp.uEndVersion": usize [0xf8, 0x88],
    }
    "RTUUID" {
        "au16": [u16; 8] [0x0, 0x0],
        "au32": [u32; 4] [0x0, 0x0],
        "au64": [u64; 2] [0x0, 0x0],
        "Gen.u32TimeLow": u32 [0x0, 0x0],
        "Gen.u16TimeMid": u16 [0x4, 0x4],
        "Gen.u16TimeHiAndVersion": u16 [0x6, 0x6],
        "Gen.u8ClockSeqHiAndReserved": u8 [0x8, 0x8],
        "Gen.u8ClockSeqLow": u8 [0x9, 0x9],
        "Gen.au8Node": [u8; 6] [0xa, 0xa],
    }
}

/// Layouts of all types of this module.
pub const LAYOUTS: &[StructLayout] = &[
    ListNode::LAYOUT,
    Uuid::LAYOUT,
    SessionView::LAYOUT,
    MemRefView::LAYOUT,
    BundleView::LAYOUT,
    DevExtView::LAYOUT,
    ObjectView::LAYOUT,
    ImageView::LAYOUT,
    LdrUsageView::LAYOUT,
    UsageView::LAYOUT,
    FactoryRegView::LAYOUT,
    Factory::LAYOUT,
    Page::LAYOUT,
];
