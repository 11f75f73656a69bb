//! The global info page (GIP), version 3.0: a read-only page in every client, and in the kernel.
//!
//! Its layout is the same for 64-bit and 32-bit clients. Everything is an atomic: the page is read by others while it changes.

use core::sync::atomic::{AtomicU16, AtomicU32, AtomicU64};

use zerocopy::FromZeros;

use super::layout::{StructLayout, c_constants, layout_struct, parts};

c_constants! {
    /// Magic of a live page.
    "SUPGLOBALINFOPAGE_MAGIC" GIP_MAGIC: u32 = 0x1959_0106;
    /// Version of the page.
    "SUPGLOBALINFOPAGE_VERSION" GIP_VERSION: u32 = 0x0003_0000;
    /// TSCs run in step: entry 0 is for all.
    "SUPGIPMODE_SYNC_TSC" MODE_SYNC: u32 = 1;
    /// Each CPU has an entry of its own.
    "SUPGIPMODE_ASYNC_TSC" MODE_ASYNC: u32 = 2;
    /// The entry was never used.
    "SUPGIPCPUSTATE_INVALID" CPU_INVALID: u32 = 0;
    /// The CPU is off-line.
    "SUPGIPCPUSTATE_OFFLINE" CPU_OFFLINE: u32 = 2;
    /// The CPU is on-line.
    "SUPGIPCPUSTATE_ONLINE" CPU_ONLINE: u32 = 3;
}

/// `u64CpuHz` of a CPU that was not measured yet.
pub const CPU_HZ_UNKNOWN: u64 = 0x1_0000_0001;
/// Transaction id of a new entry.
pub const INITIAL_TRANSACTION_ID: u32 = 2;

layout_struct! {
    /// One CPU.
    #[derive(Debug, FromZeros)]
    #[repr(C)]
    GipCpu: "SUPGIPCPU" "" [0x80, 0x80] {
        /// Even: stable; odd: being updated; +2 per update.
        transaction_id: AtomicU32 = "u32TransactionId" [0x0, 0x0],
        /// TSC ticks of an interval, plus slack; never 0 in use.
        interval_tsc: AtomicU32 = "u32UpdateIntervalTSC" [0x4, 0x4],
        /// Monotonic time of the last update, in nanoseconds.
        nano_ts: AtomicU64 = "u64NanoTS" [0x8, 0x8],
        /// TSC at that time.
        tsc: AtomicU64 = "u64TSC" [0x10, 0x10],
        /// Frequency of the TSC.
        cpu_hz: AtomicU64 = "u64CpuHz" [0x18, 0x18],
        /// Anomalies.
        errors: AtomicU32 = "cErrors" [0x20, 0x20],
        /// Newest element of the history.
        history_head: AtomicU32 = "iTSCHistoryHead" [0x24, 0x24],
        /// The last TSC deltas.
        history: [AtomicU32; 8] = "au32TSCHistory" [0x28, 0x28],
        /// The last interval, in nanoseconds, low half.
        prev_interval_ns: AtomicU32 = "u32PrevUpdateIntervalNS" [0x48, 0x48],
        /// Zero.
        reserved: [u32; 10] = "au32Reserved" [0x4c, 0x4c],
        /// State of the CPU.
        state: AtomicU32 = "enmState" [0x74, 0x74],
        /// Id of the CPU; all ones for a free entry.
        cpu_id: AtomicU32 = "idCpu" [0x78, 0x78],
        /// Set index of the CPU; all ones for none.
        set_index: AtomicU16 = "iCpuSet" [0x7c, 0x7c],
        /// Initial APIC id of the CPU; all ones for none.
        apic_id: AtomicU16 = "idApic" [0x7e, 0x7e],
    }
}

layout_struct! {
    /// The page's header; `cCpus` entries follow it.
    #[derive(Debug, FromZeros)]
    #[repr(C)]
    GipHeader: "SUPGLOBALINFOPAGE" "" [0x500, 0x500] {
        /// [`GIP_MAGIC`]; 0 when the page is gone.
        magic: AtomicU32 = "u32Magic" [0x0, 0x0],
        /// [`GIP_VERSION`].
        version: AtomicU32 = "u32Version" [0x4, 0x4],
        /// [`MODE_SYNC`] or [`MODE_ASYNC`].
        mode: AtomicU32 = "u32Mode" [0x8, 0x8],
        /// Number of entries.
        cpus: AtomicU16 = "cCpus" [0xc, 0xc],
        /// Number of pages.
        pages: AtomicU16 = "cPages" [0xe, 0xe],
        /// Updates per second.
        update_hz: AtomicU32 = "u32UpdateHz" [0x10, 0x10],
        /// Time between updates.
        update_interval_ns: AtomicU32 = "u32UpdateIntervalNS" [0x14, 0x14],
        /// When the running measurement of the frequency began; 0 for none.
        last_update_hz_nano_ts: AtomicU64 = "u64NanoTSLastUpdateHz" [0x18, 0x18],
        /// On-line CPUs by set index.
        online_set: [AtomicU64; 4] = "OnlineCpuSet" [0x20, 0x20],
        /// CPUs that have been on-line.
        present_set: [AtomicU64; 4] = "PresentCpuSet" [0x40, 0x40],
        /// CPUs that may come on-line.
        possible_set: [AtomicU64; 4] = "PossibleCpuSet" [0x60, 0x60],
        /// On-line CPUs.
        online_count: AtomicU16 = "cOnlineCpus" [0x80, 0x80],
        /// Present CPUs.
        present_count: AtomicU16 = "cPresentCpus" [0x82, 0x82],
        /// Possible CPUs.
        possible_count: AtomicU16 = "cPossibleCpus" [0x84, 0x84],
        /// Zero.
        padding0: u16 = "u16Padding0" [0x86, 0x86],
        /// Highest CPU id.
        max_cpu_id: AtomicU32 = "idCpuMax" [0x88, 0x88],
        /// Zero.
        padding1: [u32; 29] = "au32Padding1" [0x8c, 0x8c],
        /// Entry of an initial APIC id; 0 for unused ones: readers use it unchecked.
        cpu_from_apic_id: [AtomicU16; 256] = "aiCpuFromApicId" [0x100, 0x100],
        /// Entry of a set index; all ones for unused ones.
        cpu_from_set_index: [AtomicU16; 256] = "aiCpuFromCpuSetIdx" [0x300, 0x300],
    }
}

layout_struct! {
    /// A set of CPUs, by set index.
    #[derive(Debug, FromZeros)]
    #[repr(C)]
    GipCpuSet: "RTCPUSET" "" [0x20, 0x20] {
        /// One bit per index.
        bits: [AtomicU64; 4] = "bmSet" [0x0, 0x0],
    }
}

parts! {
    "SUPGLOBALINFOPAGE" {
        "OnlineCpuSet.bmSet": [AtomicU64; 4] [0x20, 0x20],
        "PresentCpuSet.bmSet": [AtomicU64; 4] [0x40, 0x40],
        "PossibleCpuSet.bmSet": [AtomicU64; 4] [0x60, 0x60],
        "aCPUs": [GipCpu; 1] [0x500, 0x500],
    }
}

/// Layouts of all types of this module.
pub const LAYOUTS: &[StructLayout] = &[GipCpu::LAYOUT, GipHeader::LAYOUT, GipCpuSet::LAYOUT];
