//! Constants that C code knows by names for which the core has no use, or that it spells as a type.
//!
//! The core's own constants are next to what they belong to and have their C names there.

use super::layout::Constant;

const fn both(c_name: &'static str, value: u64) -> Constant {
    Constant { c_name, value: [value, value] }
}

const fn by_width(c_name: &'static str, value64: u64, value32: u64) -> Constant {
    Constant { c_name, value: [value64, value32] }
}

/// The constants.
#[rustfmt::skip]
pub const CONSTANTS: &[Constant] = &[
    // No thing of its kind.
    both("NIL_RTCPUID", 0xffffffff),
    both("NIL_RTGID", 0xffffffff),
    both("NIL_RTHANDLETABLE", 0),
    both("NIL_RTHCPHYS", 0xffffffffffffffff),
    by_width("NIL_RTNATIVETHREAD", 0xffffffffffffffff, 0xffffffff),
    both("NIL_RTPROCESS", 0xffffffff),
    both("NIL_RTR0MEMOBJ", 0),
    by_width("NIL_RTR0PROCESS", 0xffffffffffffffff, 0xffffffff),
    both("NIL_RTR0PTR", 0),
    both("NIL_RTR3PTR", 0),
    both("NIL_RTSEMFASTMUTEX", 0),
    both("NIL_RTSEMMUTEX", 0),
    both("NIL_RTSPINLOCK", 0),
    both("NIL_RTUID", 0xffffffff),
    both("NIL_SUPSEMEVENT", 0),
    both("NIL_SUPSEMEVENTMULTI", 0),
    both("NIL_VMCPUID", 0xfffffffd),
    // Pages.
    both("PAGE_OFFSET_MASK", 0xfff),
    both("PAGE_SHIFT", 12),
    both("PAGE_SIZE", 0x1000),
    both("VBOX_MAX_ALLOC_PAGE_COUNT", 0x10000),
    // Page protection.
    both("RTMEM_PROT_EXEC", 4),
    both("RTMEM_PROT_NONE", 0),
    both("RTMEM_PROT_READ", 1),
    both("RTMEM_PROT_WRITE", 2),
    // CPU sets, UUIDs, timeouts.
    both("RTCPUSET_MAX_CPUS", 0x100),
    both("RTUUID_STR_LENGTH", 0x25),
    both("RT_INDEFINITE_WAIT", 0xffffffff),
    // Kinds of memory references.
    both("MEMREF_TYPE_32BIT_HACK", 0x7fffffff),
    both("MEMREF_TYPE_CONT", 2),
    both("MEMREF_TYPE_LOCKED", 1),
    both("MEMREF_TYPE_LOW", 3),
    both("MEMREF_TYPE_MEM", 4),
    both("MEMREF_TYPE_PAGE", 5),
    both("MEMREF_TYPE_UNUSED", 0),
    // Types of objects, and the contexts of handles.
    both("SUPDRVOBJTYPE_32_BIT_HACK", 0x7ffffff),
    both("SUPDRVOBJTYPE_INTERNAL_NETWORK", 2),
    both("SUPDRVOBJTYPE_INTERNAL_NETWORK_INTERFACE", 3),
    both("SUPDRVOBJTYPE_RAW_PCI_DEVICE", 6),
    both("SUPDRVOBJTYPE_VM", 1),
    both("SUPDRV_HANDLE_CTX_EVENT", 4),
    both("SUPDRV_HANDLE_CTX_EVENT_MULTI", 5),
    // The GIP.
    both("SUPGIPCPUSTATE_32_BIT_HACK", 0x7fffffff),
    both("SUPGIPCPUSTATE_ABSENT", 1),
    both("SUPGIPMODE_32BIT_HACK", 0x7fffffff),
    both("SUPGIPMODE_INVALID", 0),
    // Images.
    both("SUPLDRLOADEP_32BIT_HACK", 0x7fffffff),
    // Logger settings.
    both("SUPLOGGERSETTINGS_WHAT_CREATE", 1),
    both("SUPLOGGERSETTINGS_WHAT_DESTROY", 2),
    both("SUPLOGGERSETTINGS_WHAT_SETTINGS", 0),
    both("SUPLOGGERSETTINGS_WHICH_DEBUG", 0),
    both("SUPLOGGERSETTINGS_WHICH_RELEASE", 1),
    // Machine-specific registers.
    both("SUPMSRPROBEROP_32BIT_HACK", 0x7fffffff),
    both("SUPMSRPROBEROP_END", 5),
    both("SUPMSRPROBEROP_INVALID", 0),
    both("SUPMSRPROBEROP_MODIFY", 3),
    both("SUPMSRPROBEROP_MODIFY_FASTER", 4),
    both("SUPMSRPROBEROP_READ", 1),
    both("SUPMSRPROBEROP_WRITE", 2),
    // Paging modes.
    both("SUPPAGINGMODE_32_BIT", 1),
    both("SUPPAGINGMODE_32_BIT_GLOBAL", 2),
    both("SUPPAGINGMODE_AMD64", 7),
    both("SUPPAGINGMODE_AMD64_GLOBAL", 8),
    both("SUPPAGINGMODE_AMD64_GLOBAL_NX", 10),
    both("SUPPAGINGMODE_AMD64_NX", 9),
    both("SUPPAGINGMODE_INVALID", 0),
    both("SUPPAGINGMODE_PAE", 3),
    both("SUPPAGINGMODE_PAE_GLOBAL", 4),
    both("SUPPAGINGMODE_PAE_GLOBAL_NX", 6),
    both("SUPPAGINGMODE_PAE_NX", 5),
    // Header flags.
    both("SUPREQHDR_FLAGS_GEN_MASK", 0xff00),
    both("SUPREQHDR_FLAGS_REQ_MASK", 0xff0000),
    // Semaphore operations.
    both("SUPSEMOP2_CLOSE", 5),
    both("SUPSEMOP2_RESET", 4),
    both("SUPSEMOP2_SIGNAL", 3),
    both("SUPSEMOP2_WAIT_MS_REL", 0),
    both("SUPSEMOP2_WAIT_NS_ABS", 1),
    both("SUPSEMOP2_WAIT_NS_REL", 2),
    both("SUPSEMOP3_CREATE", 0),
    both("SUPSEMOP3_GET_RESOLUTION", 1),
    // CPU capabilities.
    both("SUPVTCAPS_AMD_V", 1),
    both("SUPVTCAPS_NESTED_PAGING", 4),
    both("SUPVTCAPS_VT_X", 2),
    // Operations of fast requests.
    both("SUP_VMMR0_DO_HM_RUN", 1),
    both("SUP_VMMR0_DO_HWACC_RUN", 1),
    both("SUP_VMMR0_DO_NOP", 2),
    both("SUP_VMMR0_DO_RAW_RUN", 0),
    // Function codes.
    both("SUP_CTL_CATEGORY", 0xc0),
    both("SUP_CTL_CATEGORY_FAST", 0xc1),
    both("SUP_DARWIN_IOSERVICE_COOKIE", 0x64726962),
    by_width("SUP_IOCTL_FLAG", 0x80, 0),
];
