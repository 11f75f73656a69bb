/* SPDX-License-Identifier: GPL-2.0-only OR CDDL-1.0 */
/** @file
 * supdrv-core for C and C++. Printed from the Rust definitions (supdrv-core/src/capi/header): do not edit.
 *
 * What the era's drivers include instead of the internal header of their old core. Structures are views: the core keeps true
 * what C code may read, and honours what C code may write (docs: "Moving a C driver to supdrv-core"); all other members are
 * reserved to it.
 *
 *  RT_OS_LINUX, RT_OS_WINDOWS, RT_OS_DARWIN, RT_OS_FREEBSD, RT_OS_SOLARIS, RT_OS_OS2
 *      which system's function codes, and which members at the ends of structures; without any: Linux codes, no members
 *  SUPDRV_AGNOSTIC
 *      no system's members at the ends of structures
 *  SUPDRV_WITH_RUNTIME_TYPES
 *      the RT* types come from the driver's own runtime headers, included before this one
 */
#ifndef SUPDRV_H
#define SUPDRV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(_WIN64) || defined(__LP64__) || defined(_LP64) || UINTPTR_MAX > 0xffffffffU
# define SUPDRV_HOST_BITS 64
#else
# define SUPDRV_HOST_BITS 32
#endif

/* All arguments on the stack on 32-bit hosts, removed by the caller; else the system's only convention. */
#ifndef VBOXCALL
# if defined(__GNUC__) && SUPDRV_HOST_BITS == 32
#  define VBOXCALL __attribute__((__cdecl__, __regparm__(0)))
# elif defined(_MSC_VER)
#  define VBOXCALL __cdecl
# else
#  define VBOXCALL
# endif
#endif

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Types of the runtime.
 */
#ifndef SUPDRV_WITH_RUNTIME_TYPES
typedef struct RTSPINLOCKINTERNAL *RTSPINLOCK;
typedef struct RTSEMMUTEXINTERNAL *RTSEMMUTEX;
typedef struct RTSEMFASTMUTEXINTERNAL *RTSEMFASTMUTEX;
typedef struct RTR0MEMOBJINTERNAL *RTR0MEMOBJ;
typedef struct RTHANDLETABLEINT *RTHANDLETABLE;
typedef struct RTTIMER *PRTTIMER;
typedef uint64_t  RTHCPHYS;
typedef uint64_t  RTUINTPTR;
typedef uintptr_t RTR3PTR;
typedef void     *RTR0PTR;
typedef uintptr_t RTR0PROCESS;
typedef uintptr_t RTNATIVETHREAD;
typedef uint32_t  RTPROCESS;
typedef uint32_t  RTUID;
typedef uint32_t  RTGID;
typedef uint32_t  RTCPUID;
typedef uint32_t  VMCPUID;
typedef struct VM *PVM;
typedef void     *PVMR0;
typedef void (*PFNRT)(void);
#endif

/* A mutex that leaves the execution level alone; on Windows a fast one doesn't. */
#ifdef RT_OS_WINDOWS
typedef RTSEMMUTEX     SUPDRVLDRMUTEX;
typedef RTSEMMUTEX     SUPDRVGIPMUTEX;
#else
typedef RTSEMFASTMUTEX SUPDRVLDRMUTEX;
typedef RTSEMFASTMUTEX SUPDRVGIPMUTEX;
#endif

/*
 * Status codes: negative for failures.
 */
#define VINF_SUCCESS (0)
#define VINF_OBJECT_DESTROYED (85)
#define VERR_GENERAL_FAILURE (-1)
#define VERR_INVALID_PARAMETER (-2)
#define VERR_INVALID_MAGIC (-3)
#define VERR_INVALID_HANDLE (-4)
#define VERR_LOCK_FAILED (-5)
#define VERR_INVALID_POINTER (-6)
#define VERR_IDT_FAILED (-7)
#define VERR_NO_MEMORY (-8)
#define VERR_ALREADY_LOADED (-9)
#define VERR_PERMISSION_DENIED (-10)
#define VERR_VERSION_MISMATCH (-11)
#define VERR_NOT_IMPLEMENTED (-12)
#define VERR_NO_TMP_MEMORY (-20)
#define VERR_WRONG_ORDER (-22)
#define VERR_NO_CONT_MEMORY (-26)
#define VERR_NO_PAGE_MEMORY (-27)
#define VERR_INVALID_CONTEXT (-32)
#define VERR_UNRESOLVED_ERROR (-35)
#define VERR_INVALID_FUNCTION (-36)
#define VERR_NOT_SUPPORTED (-37)
#define VERR_ACCESS_DENIED (-38)
#define VERR_INTERRUPTED (-39)
#define VERR_TIMEOUT (-40)
#define VERR_TOO_MUCH_DATA (-42)
#define VERR_TRY_AGAIN (-52)
#define VERR_OUT_OF_RANGE (-54)
#define VERR_NO_STR_MEMORY (-64)
#define VERR_MEMORY_BUSY (-67)
#define VERR_TIMER_BUSY (-33)
#define VERR_TIMER_ACTIVE (-68)
#define VERR_TIMER_SUSPENDED (-69)
#define VERR_NO_LOW_MEMORY (-72)
#define VERR_NO_PHYS_MEMORY (-73)
#define VERR_ADDRESS_TOO_BIG (-74)
#define VERR_MAP_FAILED (-75)
#define VERR_NOT_FOUND (-78)
#define VERR_INVALID_STATE (-79)
#define VERR_OUT_OF_RESOURCES (-80)
#define VERR_NO_MORE_HANDLES (-81)
#define VERR_PAGE_COUNT_OUT_OF_RANGE (-84)
#define VERR_DANGLING_OBJECTS (-86)
#define VERR_NO_EXEC_MEMORY (-96)
#define VERR_UNSUPPORTED_ALIGNMENT (-97)
#define VERR_DUPLICATE (-98)
#define VERR_FILE_NOT_FOUND (-102)
#define VERR_ALREADY_EXISTS (-105)
#define VERR_FILENAME_TOO_LONG (-120)
#define VERR_RESOURCE_BUSY (-138)
#define VERR_INTERNAL_ERROR (-225)
#define VERR_INTERNAL_ERROR_2 (-226)
#define VERR_INTERNAL_ERROR_3 (-227)
#define VERR_INTERNAL_ERROR_4 (-228)
#define VERR_INTERNAL_ERROR_5 (-229)
#define VERR_DEV_IO_ERROR (-250)
#define VERR_RESOURCE_IN_USE (-552)
#define VERR_NOT_AVAILABLE (-22403)
#define VERR_NOT_OWNER (-355)
#define VERR_SEM_BUSY (-360)
#define VERR_SEM_DESTROYED (-363)
#define VERR_SEM_NESTED (-364)
#define VERR_DEADLOCK (-365)
#define VERR_SEM_BAD_CONTEXT (-367)
#define VERR_BAD_EXE_FORMAT (-608)
#define VERR_SYMBOL_NOT_FOUND (-609)
#define VERR_MODULE_NOT_FOUND (-610)
#define VERR_LDR_ARCH_MISMATCH (-615)
#define VERR_LDR_MISMATCH_NATIVE (-616)
#define VERR_LDR_IMPORTED_SYMBOL_NOT_FOUND (-617)
#define VERR_LDR_GENERAL_FAILURE (-618)
#define VERR_LDR_IMAGE_HASH (-619)
#define VERR_CPU_OFFLINE (-800)
#define VERR_CPU_NOT_FOUND (-801)
#define VERR_UNSUPPORTED_CPU (-1002)
#define VERR_INVALID_CPU_ID (-1018)
#define VERR_TOO_MANY_CPUS (-1019)
#define VERR_VMX_NO_VMX (-4009)
#define VERR_VMX_IN_VMX_ROOT_MODE (-4011)
#define VERR_VMX_MSR_LOCKED_OR_DISABLED (-4013)
#define VERR_VMX_MSR_ALL_VMXON_DISABLED (-4028)
#define VERR_VMX_MSR_VMXON_DISABLED (-4029)
#define VERR_SVM_NO_SVM (-4052)
#define VERR_SVM_DISABLED (-4053)
#define VERR_SUPDRV_COMPONENT_NOT_FOUND (-3700)
#define VERR_SUPDRV_INTERFACE_NOT_SUPPORTED (-3701)
#define VERR_SUPDRV_SERVICE_NOT_FOUND (-3702)
#define VERR_SUPDRV_KERNEL_TOO_OLD_FOR_VTX (-3703)
#define VERR_SUPDRV_VTG_MAGIC (-3704)
#define VERR_SUPDRV_VTG_BITS (-3705)
#define VERR_SUPDRV_VTG_BAD_HDR_MISC (-3706)
#define VERR_SUPDRV_VTG_BAD_HDR_OFF (-3707)
#define VERR_SUPDRV_VTG_BAD_HDR_PTR (-3708)
#define VERR_SUPDRV_VTG_BAD_HDR_TOO_FEW (-3709)
#define VERR_SUPDRV_VTG_BAD_HDR_TOO_MUCH (-3710)
#define VERR_SUPDRV_VTG_BAD_HDR_NOT_MULTIPLE (-3711)
#define VERR_SUPDRV_VTG_STRTAB_OFF (-3712)
#define VERR_SUPDRV_VTG_BAD_STRING (-3713)
#define VERR_SUPDRV_VTG_STRING_TOO_LONG (-3714)
#define VERR_SUPDRV_VTG_BAD_ATTR (-3715)
#define VERR_SUPDRV_VTG_BAD_PROVIDER (-3716)
#define VERR_SUPDRV_VTG_BAD_PROBE (-3717)
#define VERR_SUPDRV_VTG_BAD_ARGLIST (-3718)
#define VERR_SUPDRV_VTG_BAD_PROBE_ENABLED (-3719)
#define VERR_SUPDRV_VTG_BAD_PROBE_LOC (-3720)
#define VERR_SUPDRV_VTG_ALREADY_REGISTERED (-3721)
#define VERR_SUPDRV_VTG_ONLY_ONCE_PER_SESSION (-3722)
#define VERR_SUPDRV_TRACER_ALREADY_REGISTERED (-3723)
#define VERR_SUPDRV_TRACER_NOT_REGISTERED (-3724)
#define VERR_SUPDRV_TRACER_ALREADY_OPENED (-3725)
#define VERR_SUPDRV_TRACER_NOT_OPENED (-3726)
#define VERR_SUPDRV_TRACER_NOT_PRESENT (-3727)
#define VERR_SUPDRV_TRACER_UNLOADING (-3728)
#define VERR_SUPDRV_TRACER_SESSION_BUSY (-3729)
#define VERR_SUPDRV_TRACER_CANNOT_OPEN_SELF (-3730)
#define VERR_SUPDRV_TRACER_BAD_ARG_FLAGS (-3731)
#define VERR_SUPDRV_TRACER_TOO_MANY_PROVIDERS (-3732)
#define VERR_SUPDRV_TRACER_TOO_LARGE (-3733)
#define VERR_SUPDRV_TRACER_UMOD_NOT_ADJACENT (-3734)
#define VERR_SUPDRV_TRACER_UMOD_TOO_MANY_PROBES (-3735)
#define VERR_SUPDRV_TRACER_UMOD_STRTAB_TOO_BIG (-3736)
#define VERR_SUPDRV_TRACER_UMOD_STRTAB_OFF_BAD (-3737)
#define VERR_VM_DRIVER_NOT_INSTALLED (-1908)
#define VERR_VM_DRIVER_NOT_ACCESSIBLE (-1909)
#define VERR_VM_DRIVER_LOAD_ERROR (-1910)
#define VERR_VM_DRIVER_OPEN_ERROR (-1911)
#define VERR_VM_DRIVER_VERSION_MISMATCH (-1912)
#define VERR_PROCESS_NOT_FOUND (-50)
#define VERR_NOT_A_DIRECTORY (-126)
#define VERR_IS_A_DIRECTORY (-127)
#define VERR_SHARING_VIOLATION (-114)
#define VERR_DISK_FULL (-152)
#define VERR_WRITE_PROTECT (-113)
#define VERR_FILE_LOCK_FAILED (-115)
#define VERR_TOO_MANY_SYMLINKS (-156)
#define VERR_NO_TRANSLATION (-58)
#define VERR_MEDIA_NOT_RECOGNIZED (-122)
#define VERR_NET_NO_NETWORK (-405)
#define VERR_NET_IN_PROGRESS (-436)
#define VERR_NET_NOT_SOCKET (-438)
#define VERR_NET_MSG_SIZE (-440)
#define VERR_NET_PROTOCOL_NOT_AVAILABLE (-442)
#define VERR_NET_SOCKET_TYPE_NOT_SUPPORTED (-444)
#define VERR_NET_PROTOCOL_FAMILY_NOT_SUPPORTED (-446)
#define VERR_NET_ADDRESS_IN_USE (-448)
#define VERR_NET_DOWN (-450)
#define VERR_NET_CONNECTION_RESET (-452)
#define VERR_NET_CONNECTION_RESET_BY_PEER (-454)
#define VERR_NET_ALREADY_CONNECTED (-456)
#define VERR_NET_SHUTDOWN (-458)
#define VERR_NET_CONNECTION_REFUSED (-461)
#define VERR_NET_HOST_UNREACHABLE (-465)
#define VERR_NOT_SAME_DEVICE (-119)
#define VERR_PATH_NOT_FOUND (-103)
#define VERR_TOO_MANY_OPEN_FILES (-106)
#define VERR_FILE_TOO_BIG (-128)
#define VERR_SEEK_ON_DEVICE (-109)
#define VERR_BROKEN_PIPE (-301)
#define VERR_DIR_NOT_EMPTY (-125)
#define VERR_NO_DATA (-304)
#define VERR_MEDIA_NOT_PRESENT (-121)
#define VERR_MAX_PROCS_REACHED (-44)
#define VERR_NET_NOT_UNIQUE_NAME (-406)
#define VERR_NET_ALREADY_IN_PROGRESS (-437)
#define VERR_NET_DEST_ADDRESS_REQUIRED (-439)
#define VERR_NET_PROTOCOL_TYPE (-441)
#define VERR_NET_PROTOCOL_NOT_SUPPORTED (-443)
#define VERR_NET_OPERATION_NOT_SUPPORTED (-445)
#define VERR_NET_ADDRESS_FAMILY_NOT_SUPPORTED (-447)
#define VERR_NET_ADDRESS_NOT_AVAILABLE (-449)
#define VERR_NET_UNREACHABLE (-451)
#define VERR_NET_CONNECTION_ABORTED (-453)
#define VERR_NET_NO_BUFFER_SPACE (-455)
#define VERR_NET_NOT_CONNECTED (-457)
#define VERR_NET_TOO_MANY_REFERENCES (-459)
#define VERR_NET_HOST_DOWN (-464)
#define VERR_NET_PROTOCOL_ERROR (-466)
#define VERR_THREAD_IS_DEAD (-29)
#define VERR_THREAD_NOT_WAITABLE (-30)
#define VERR_MEMOBJ_INIT_FAILED (-71)
#define VERR_BUFFER_OVERFLOW (-41)
#define VERR_INVALID_UUID_FORMAT (-49)
#define VERR_SVM_IN_USE (-4054)

/*
 * Constants.
 */
typedef enum SUPDRVMEMREFTYPE
{
    MEMREF_TYPE_UNUSED = 0x0,
    MEMREF_TYPE_LOCKED = 0x1,
    MEMREF_TYPE_CONT = 0x2,
    MEMREF_TYPE_LOW = 0x3,
    MEMREF_TYPE_MEM = 0x4,
    MEMREF_TYPE_PAGE = 0x5,
    MEMREF_TYPE_32BIT_HACK = 0x7fffffff
} SUPDRVMEMREFTYPE;
typedef enum SUPDRVOBJTYPE
{
    SUPDRVOBJTYPE_INVALID = 0x0,
    SUPDRVOBJTYPE_VM = 0x1,
    SUPDRVOBJTYPE_INTERNAL_NETWORK = 0x2,
    SUPDRVOBJTYPE_INTERNAL_NETWORK_INTERFACE = 0x3,
    SUPDRVOBJTYPE_SEM_EVENT = 0x4,
    SUPDRVOBJTYPE_SEM_EVENT_MULTI = 0x5,
    SUPDRVOBJTYPE_RAW_PCI_DEVICE = 0x6,
    SUPDRVOBJTYPE_END = 0x7,
    SUPDRVOBJTYPE_32_BIT_HACK = 0x7ffffff
} SUPDRVOBJTYPE;
typedef enum SUPGIPCPUSTATE
{
    SUPGIPCPUSTATE_INVALID = 0x0,
    SUPGIPCPUSTATE_ABSENT = 0x1,
    SUPGIPCPUSTATE_OFFLINE = 0x2,
    SUPGIPCPUSTATE_ONLINE = 0x3,
    SUPGIPCPUSTATE_32_BIT_HACK = 0x7fffffff
} SUPGIPCPUSTATE;
typedef enum SUPGIPMODE
{
    SUPGIPMODE_INVALID = 0x0,
    SUPGIPMODE_SYNC_TSC = 0x1,
    SUPGIPMODE_ASYNC_TSC = 0x2,
    SUPGIPMODE_32BIT_HACK = 0x7fffffff
} SUPGIPMODE;
typedef enum SUPLDRLOADEP
{
    SUPLDRLOADEP_NOTHING = 0x0,
    SUPLDRLOADEP_VMMR0 = 0x1,
    SUPLDRLOADEP_SERVICE = 0x2,
    SUPLDRLOADEP_32BIT_HACK = 0x7fffffff
} SUPLDRLOADEP;
typedef enum SUPMSRPROBEROP
{
    SUPMSRPROBEROP_INVALID = 0x0,
    SUPMSRPROBEROP_READ = 0x1,
    SUPMSRPROBEROP_WRITE = 0x2,
    SUPMSRPROBEROP_MODIFY = 0x3,
    SUPMSRPROBEROP_MODIFY_FASTER = 0x4,
    SUPMSRPROBEROP_END = 0x5,
    SUPMSRPROBEROP_32BIT_HACK = 0x7fffffff
} SUPMSRPROBEROP;
typedef enum SUPPAGINGMODE
{
    SUPPAGINGMODE_INVALID = 0x0,
    SUPPAGINGMODE_32_BIT = 0x1,
    SUPPAGINGMODE_32_BIT_GLOBAL = 0x2,
    SUPPAGINGMODE_PAE = 0x3,
    SUPPAGINGMODE_PAE_GLOBAL = 0x4,
    SUPPAGINGMODE_PAE_NX = 0x5,
    SUPPAGINGMODE_PAE_GLOBAL_NX = 0x6,
    SUPPAGINGMODE_AMD64 = 0x7,
    SUPPAGINGMODE_AMD64_GLOBAL = 0x8,
    SUPPAGINGMODE_AMD64_NX = 0x9,
    SUPPAGINGMODE_AMD64_GLOBAL_NX = 0xa
} SUPPAGINGMODE;
typedef enum kVTGClass
{
    kVTGClass_Invalid = 0x0,
    kVTGClass_Unknown = 0x1,
    kVTGClass_Cpu = 0x2,
    kVTGClass_Platform = 0x3,
    kVTGClass_Group = 0x4,
    kVTGClass_Isa = 0x5,
    kVTGClass_Common = 0x6,
    kVTGClass_End = 0x7
} kVTGClass;
typedef enum kVTGStability
{
    kVTGStability_Invalid = 0x0,
    kVTGStability_Internal = 0x1,
    kVTGStability_Private = 0x2,
    kVTGStability_Obsolete = 0x3,
    kVTGStability_External = 0x4,
    kVTGStability_Unstable = 0x5,
    kVTGStability_Evolving = 0x6,
    kVTGStability_Stable = 0x7,
    kVTGStability_Standard = 0x8,
    kVTGStability_End = 0x9
} kVTGStability;
#define SUPDRV_IOC_VERSION 0x1a0007
#define SUPCOOKIE_INITIAL_COOKIE 0x69726f74
#define BIRD 0x64726962
#define BIRD_INV 0x62697264
#define SUPREQHDR_FLAGS_MAGIC_MASK UINT32_C(0xff0000ff)
#define SUPREQHDR_FLAGS_MAGIC 0x42000042
#define SUPREQHDR_FLAGS_DEFAULT 0x42000042
#define SUPREQHDR_FLAGS_EXTRA_IN 0x100
#define SUPREQHDR_FLAGS_EXTRA_OUT 0x200
#define SUPVMMR0REQHDR_MAGIC 0x19730211
#define SUPR0SERVICEREQHDR_MAGIC 0x19640416
#define SUPDRVOBJ_MAGIC 0x18900915
#define SUPDRVOBJ_MAGIC_DEAD 0x19760112
#define SUP_SEM_TYPE_EVENT 0
#define SUP_SEM_TYPE_EVENT_MULTI 1
#define SUPGLOBALINFOPAGE_MAGIC 0x19590106
#define SUPGLOBALINFOPAGE_VERSION 0x30000
#define SUPDRV_IDC_VERSION 0x10000
#define SUPDRVIDCREQ_CONNECT_MAGIC_COOKIE 0x69726f74
#define SUPDRVTRACERREG_MAGIC 0x19601009
#define SUPDRVTRACERREG_VERSION 0x10000
#define SUPDRVTRACERHLP_VERSION 0x10000
#define SUP_TRACER_UMOD_FLAGS_EXE 1
#define SUP_TRACER_UMOD_FLAGS_SHARED 2
#define SUP_TRACER_UMOD_FLAGS_TYPE_MASK 3
#define VTG_TYPE_SIZE_MASK 0xff
#define VTG_TYPE_FIXED_SIZED 0x100
#define VTG_TYPE_POINTER 0x200
#define VTG_TYPE_CTX_POINTER 0x400
#define VTG_TYPE_HC_ARCH_SIZED 0x800
#define VTG_TYPE_CTX_R3 0x1000000
#define VTG_TYPE_CTX_R0 0x2000000
#define VTG_TYPE_CTX_RC 0x4000000
#define VTG_TYPE_CTX_GST 0x8000000
#define VTG_TYPE_CTX_MASK 0xf000000
#define VTG_TYPE_AUTO_CONV_PTR 0x10000000
#define VTG_TYPE_PHYS 0x20000000
#define VTG_TYPE_UNSIGNED 0x40000000
#define VTG_TYPE_SIGNED UINT32_C(0x80000000)
#define VTG_TYPE_VALID_MASK UINT32_C(0xff000fff)
#define NIL_RTCPUID UINT32_C(0xffffffff)
#define NIL_RTGID UINT32_C(0xffffffff)
#define NIL_RTHANDLETABLE 0
#define NIL_RTHCPHYS UINT64_C(0xffffffffffffffff)
#if SUPDRV_HOST_BITS == 64
# define NIL_RTNATIVETHREAD UINT64_C(0xffffffffffffffff)
#else
# define NIL_RTNATIVETHREAD UINT32_C(0xffffffff)
#endif
#define NIL_RTPROCESS UINT32_C(0xffffffff)
#define NIL_RTR0MEMOBJ 0
#if SUPDRV_HOST_BITS == 64
# define NIL_RTR0PROCESS UINT64_C(0xffffffffffffffff)
#else
# define NIL_RTR0PROCESS UINT32_C(0xffffffff)
#endif
#define NIL_RTR0PTR 0
#define NIL_RTR3PTR 0
#define NIL_RTSEMFASTMUTEX 0
#define NIL_RTSEMMUTEX 0
#define NIL_RTSPINLOCK 0
#define NIL_RTUID UINT32_C(0xffffffff)
#define NIL_SUPSEMEVENT 0
#define NIL_SUPSEMEVENTMULTI 0
#define NIL_VMCPUID UINT32_C(0xfffffffd)
#define PAGE_OFFSET_MASK 0xfff
#define PAGE_SHIFT 0xc
#define PAGE_SIZE 0x1000
#define VBOX_MAX_ALLOC_PAGE_COUNT 0x10000
#define RTMEM_PROT_EXEC 4
#define RTMEM_PROT_NONE 0
#define RTMEM_PROT_READ 1
#define RTMEM_PROT_WRITE 2
#define RTCPUSET_MAX_CPUS 0x100
#define RTUUID_STR_LENGTH 0x25
#define RT_INDEFINITE_WAIT UINT32_C(0xffffffff)
#define SUPDRV_HANDLE_CTX_EVENT 4
#define SUPDRV_HANDLE_CTX_EVENT_MULTI 5
#define SUPLOGGERSETTINGS_WHAT_CREATE 1
#define SUPLOGGERSETTINGS_WHAT_DESTROY 2
#define SUPLOGGERSETTINGS_WHAT_SETTINGS 0
#define SUPLOGGERSETTINGS_WHICH_DEBUG 0
#define SUPLOGGERSETTINGS_WHICH_RELEASE 1
#define SUPREQHDR_FLAGS_GEN_MASK 0xff00
#define SUPREQHDR_FLAGS_REQ_MASK 0xff0000
#define SUPSEMOP2_CLOSE 5
#define SUPSEMOP2_RESET 4
#define SUPSEMOP2_SIGNAL 3
#define SUPSEMOP2_WAIT_MS_REL 0
#define SUPSEMOP2_WAIT_NS_ABS 1
#define SUPSEMOP2_WAIT_NS_REL 2
#define SUPSEMOP3_CREATE 0
#define SUPSEMOP3_GET_RESOLUTION 1
#define SUPVTCAPS_AMD_V 1
#define SUPVTCAPS_NESTED_PAGING 4
#define SUPVTCAPS_VT_X 2
#define SUP_VMMR0_DO_HM_RUN 1
#define SUP_VMMR0_DO_HWACC_RUN 1
#define SUP_VMMR0_DO_NOP 2
#define SUP_VMMR0_DO_RAW_RUN 0
#define SUP_CTL_CATEGORY 0xc0
#define SUP_CTL_CATEGORY_FAST 0xc1
#define SUP_DARWIN_IOSERVICE_COOKIE 0x64726962
#if SUPDRV_HOST_BITS == 64
# define SUP_IOCTL_FLAG 0x80
#else
# define SUP_IOCTL_FLAG 0
#endif
#define SUPCOOKIE_MAGIC "The Magic Word!"
#define SUPDRV_SESSION_COOKIE_DEAD UINT32_C(0xdead7264)

/* Whether a pointer is one to a live session or device extension; it must point to readable memory. */
#define SUP_IS_SESSION_VALID(pSession) ((pSession) != NULL && (pSession)->u32Cookie == BIRD_INV)
#define SUP_IS_DEVEXT_VALID(pDevExt)   ((pDevExt) != NULL && (pDevExt)->u32Cookie == BIRD)

/*
 * Names of structures, and pointers to them.
 */
typedef struct RTCPUSET RTCPUSET;
typedef RTCPUSET *PRTCPUSET;
typedef const RTCPUSET *PCRTCPUSET;
typedef struct RTLISTNODE RTLISTNODE;
typedef RTLISTNODE *PRTLISTNODE;
typedef const RTLISTNODE *PCRTLISTNODE;
typedef union RTUUID RTUUID;
typedef RTUUID *PRTUUID;
typedef const RTUUID *PCRTUUID;
typedef struct SUPCALLSERVICE SUPCALLSERVICE;
typedef SUPCALLSERVICE *PSUPCALLSERVICE;
typedef const SUPCALLSERVICE *PCSUPCALLSERVICE;
typedef struct SUPCALLVMMR0 SUPCALLVMMR0;
typedef SUPCALLVMMR0 *PSUPCALLVMMR0;
typedef const SUPCALLVMMR0 *PCSUPCALLVMMR0;
typedef struct SUPCONTALLOC SUPCONTALLOC;
typedef SUPCONTALLOC *PSUPCONTALLOC;
typedef const SUPCONTALLOC *PCSUPCONTALLOC;
typedef struct SUPCONTFREE SUPCONTFREE;
typedef SUPCONTFREE *PSUPCONTFREE;
typedef const SUPCONTFREE *PCSUPCONTFREE;
typedef struct SUPCOOKIE SUPCOOKIE;
typedef SUPCOOKIE *PSUPCOOKIE;
typedef const SUPCOOKIE *PCSUPCOOKIE;
typedef struct SUPDRVBUNDLE SUPDRVBUNDLE;
typedef SUPDRVBUNDLE *PSUPDRVBUNDLE;
typedef const SUPDRVBUNDLE *PCSUPDRVBUNDLE;
typedef struct SUPDRVDEVEXT SUPDRVDEVEXT;
typedef SUPDRVDEVEXT *PSUPDRVDEVEXT;
typedef const SUPDRVDEVEXT *PCSUPDRVDEVEXT;
typedef struct SUPDRVFACTORY SUPDRVFACTORY;
typedef SUPDRVFACTORY *PSUPDRVFACTORY;
typedef const SUPDRVFACTORY *PCSUPDRVFACTORY;
typedef struct SUPDRVFACTORYREG SUPDRVFACTORYREG;
typedef SUPDRVFACTORYREG *PSUPDRVFACTORYREG;
typedef const SUPDRVFACTORYREG *PCSUPDRVFACTORYREG;
typedef struct SUPDRVIDCHANDLE SUPDRVIDCHANDLE;
typedef SUPDRVIDCHANDLE *PSUPDRVIDCHANDLE;
typedef const SUPDRVIDCHANDLE *PCSUPDRVIDCHANDLE;
typedef struct SUPDRVIDCREQCOMPDEREGFACTORY SUPDRVIDCREQCOMPDEREGFACTORY;
typedef SUPDRVIDCREQCOMPDEREGFACTORY *PSUPDRVIDCREQCOMPDEREGFACTORY;
typedef const SUPDRVIDCREQCOMPDEREGFACTORY *PCSUPDRVIDCREQCOMPDEREGFACTORY;
typedef struct SUPDRVIDCREQCOMPDEREGFACTORYIN SUPDRVIDCREQCOMPDEREGFACTORYIN;
typedef SUPDRVIDCREQCOMPDEREGFACTORYIN *PSUPDRVIDCREQCOMPDEREGFACTORYIN;
typedef const SUPDRVIDCREQCOMPDEREGFACTORYIN *PCSUPDRVIDCREQCOMPDEREGFACTORYIN;
typedef struct SUPDRVIDCREQCOMPREGFACTORY SUPDRVIDCREQCOMPREGFACTORY;
typedef SUPDRVIDCREQCOMPREGFACTORY *PSUPDRVIDCREQCOMPREGFACTORY;
typedef const SUPDRVIDCREQCOMPREGFACTORY *PCSUPDRVIDCREQCOMPREGFACTORY;
typedef struct SUPDRVIDCREQCOMPREGFACTORYIN SUPDRVIDCREQCOMPREGFACTORYIN;
typedef SUPDRVIDCREQCOMPREGFACTORYIN *PSUPDRVIDCREQCOMPREGFACTORYIN;
typedef const SUPDRVIDCREQCOMPREGFACTORYIN *PCSUPDRVIDCREQCOMPREGFACTORYIN;
typedef struct SUPDRVIDCREQCONNECT SUPDRVIDCREQCONNECT;
typedef SUPDRVIDCREQCONNECT *PSUPDRVIDCREQCONNECT;
typedef const SUPDRVIDCREQCONNECT *PCSUPDRVIDCREQCONNECT;
typedef struct SUPDRVIDCREQCONNECTIN SUPDRVIDCREQCONNECTIN;
typedef SUPDRVIDCREQCONNECTIN *PSUPDRVIDCREQCONNECTIN;
typedef const SUPDRVIDCREQCONNECTIN *PCSUPDRVIDCREQCONNECTIN;
typedef struct SUPDRVIDCREQCONNECTOUT SUPDRVIDCREQCONNECTOUT;
typedef SUPDRVIDCREQCONNECTOUT *PSUPDRVIDCREQCONNECTOUT;
typedef const SUPDRVIDCREQCONNECTOUT *PCSUPDRVIDCREQCONNECTOUT;
typedef struct SUPDRVIDCREQGETSYM SUPDRVIDCREQGETSYM;
typedef SUPDRVIDCREQGETSYM *PSUPDRVIDCREQGETSYM;
typedef const SUPDRVIDCREQGETSYM *PCSUPDRVIDCREQGETSYM;
typedef struct SUPDRVIDCREQGETSYMIN SUPDRVIDCREQGETSYMIN;
typedef SUPDRVIDCREQGETSYMIN *PSUPDRVIDCREQGETSYMIN;
typedef const SUPDRVIDCREQGETSYMIN *PCSUPDRVIDCREQGETSYMIN;
typedef struct SUPDRVIDCREQGETSYMOUT SUPDRVIDCREQGETSYMOUT;
typedef SUPDRVIDCREQGETSYMOUT *PSUPDRVIDCREQGETSYMOUT;
typedef const SUPDRVIDCREQGETSYMOUT *PCSUPDRVIDCREQGETSYMOUT;
typedef struct SUPDRVIDCREQHDR SUPDRVIDCREQHDR;
typedef SUPDRVIDCREQHDR *PSUPDRVIDCREQHDR;
typedef const SUPDRVIDCREQHDR *PCSUPDRVIDCREQHDR;
typedef struct SUPDRVLDRIMAGE SUPDRVLDRIMAGE;
typedef SUPDRVLDRIMAGE *PSUPDRVLDRIMAGE;
typedef const SUPDRVLDRIMAGE *PCSUPDRVLDRIMAGE;
typedef struct SUPDRVLDRUSAGE SUPDRVLDRUSAGE;
typedef SUPDRVLDRUSAGE *PSUPDRVLDRUSAGE;
typedef const SUPDRVLDRUSAGE *PCSUPDRVLDRUSAGE;
typedef struct SUPDRVMEMREF SUPDRVMEMREF;
typedef SUPDRVMEMREF *PSUPDRVMEMREF;
typedef const SUPDRVMEMREF *PCSUPDRVMEMREF;
typedef struct SUPDRVOBJ SUPDRVOBJ;
typedef SUPDRVOBJ *PSUPDRVOBJ;
typedef const SUPDRVOBJ *PCSUPDRVOBJ;
typedef struct SUPDRVPROBEINFO SUPDRVPROBEINFO;
typedef SUPDRVPROBEINFO *PSUPDRVPROBEINFO;
typedef const SUPDRVPROBEINFO *PCSUPDRVPROBEINFO;
typedef struct SUPDRVPROBELOC SUPDRVPROBELOC;
typedef SUPDRVPROBELOC *PSUPDRVPROBELOC;
typedef const SUPDRVPROBELOC *PCSUPDRVPROBELOC;
typedef struct SUPDRVSESSION SUPDRVSESSION;
typedef SUPDRVSESSION *PSUPDRVSESSION;
typedef const SUPDRVSESSION *PCSUPDRVSESSION;
typedef union SUPDRVTRACERDATA SUPDRVTRACERDATA;
typedef SUPDRVTRACERDATA *PSUPDRVTRACERDATA;
typedef const SUPDRVTRACERDATA *PCSUPDRVTRACERDATA;
typedef struct SUPDRVTRACERHLP SUPDRVTRACERHLP;
typedef SUPDRVTRACERHLP *PSUPDRVTRACERHLP;
typedef const SUPDRVTRACERHLP *PCSUPDRVTRACERHLP;
typedef struct SUPDRVTRACERREG SUPDRVTRACERREG;
typedef SUPDRVTRACERREG *PSUPDRVTRACERREG;
typedef const SUPDRVTRACERREG *PCSUPDRVTRACERREG;
typedef struct SUPDRVTRACERUSRCTX SUPDRVTRACERUSRCTX;
typedef SUPDRVTRACERUSRCTX *PSUPDRVTRACERUSRCTX;
typedef const SUPDRVTRACERUSRCTX *PCSUPDRVTRACERUSRCTX;
typedef struct SUPDRVUSAGE SUPDRVUSAGE;
typedef SUPDRVUSAGE *PSUPDRVUSAGE;
typedef const SUPDRVUSAGE *PCSUPDRVUSAGE;
typedef struct SUPDRVVDTPROVIDERCORE SUPDRVVDTPROVIDERCORE;
typedef SUPDRVVDTPROVIDERCORE *PSUPDRVVDTPROVIDERCORE;
typedef const SUPDRVVDTPROVIDERCORE *PCSUPDRVVDTPROVIDERCORE;
typedef struct SUPFUNC SUPFUNC;
typedef SUPFUNC *PSUPFUNC;
typedef const SUPFUNC *PCSUPFUNC;
typedef struct SUPGETPAGINGMODE SUPGETPAGINGMODE;
typedef SUPGETPAGINGMODE *PSUPGETPAGINGMODE;
typedef const SUPGETPAGINGMODE *PCSUPGETPAGINGMODE;
typedef struct SUPGIPCPU SUPGIPCPU;
typedef SUPGIPCPU *PSUPGIPCPU;
typedef const SUPGIPCPU *PCSUPGIPCPU;
typedef struct SUPGIPMAP SUPGIPMAP;
typedef SUPGIPMAP *PSUPGIPMAP;
typedef const SUPGIPMAP *PCSUPGIPMAP;
typedef struct SUPGIPUNMAP SUPGIPUNMAP;
typedef SUPGIPUNMAP *PSUPGIPUNMAP;
typedef const SUPGIPUNMAP *PCSUPGIPUNMAP;
typedef struct SUPGLOBALINFOPAGE SUPGLOBALINFOPAGE;
typedef SUPGLOBALINFOPAGE *PSUPGLOBALINFOPAGE;
typedef const SUPGLOBALINFOPAGE *PCSUPGLOBALINFOPAGE;
typedef struct SUPLDRFREE SUPLDRFREE;
typedef SUPLDRFREE *PSUPLDRFREE;
typedef const SUPLDRFREE *PCSUPLDRFREE;
typedef struct SUPLDRGETSYMBOL SUPLDRGETSYMBOL;
typedef SUPLDRGETSYMBOL *PSUPLDRGETSYMBOL;
typedef const SUPLDRGETSYMBOL *PCSUPLDRGETSYMBOL;
typedef struct SUPLDRLOAD SUPLDRLOAD;
typedef SUPLDRLOAD *PSUPLDRLOAD;
typedef const SUPLDRLOAD *PCSUPLDRLOAD;
typedef struct SUPLDROPEN SUPLDROPEN;
typedef SUPLDROPEN *PSUPLDROPEN;
typedef const SUPLDROPEN *PCSUPLDROPEN;
typedef struct SUPLDRSYM SUPLDRSYM;
typedef SUPLDRSYM *PSUPLDRSYM;
typedef const SUPLDRSYM *PCSUPLDRSYM;
typedef struct SUPLOGGERSETTINGS SUPLOGGERSETTINGS;
typedef SUPLOGGERSETTINGS *PSUPLOGGERSETTINGS;
typedef const SUPLOGGERSETTINGS *PCSUPLOGGERSETTINGS;
typedef struct SUPLOWALLOC SUPLOWALLOC;
typedef SUPLOWALLOC *PSUPLOWALLOC;
typedef const SUPLOWALLOC *PCSUPLOWALLOC;
typedef struct SUPLOWFREE SUPLOWFREE;
typedef SUPLOWFREE *PSUPLOWFREE;
typedef const SUPLOWFREE *PCSUPLOWFREE;
typedef struct SUPMSRPROBER SUPMSRPROBER;
typedef SUPMSRPROBER *PSUPMSRPROBER;
typedef const SUPMSRPROBER *PCSUPMSRPROBER;
typedef struct SUPMSRPROBERMODIFYRESULT SUPMSRPROBERMODIFYRESULT;
typedef SUPMSRPROBERMODIFYRESULT *PSUPMSRPROBERMODIFYRESULT;
typedef const SUPMSRPROBERMODIFYRESULT *PCSUPMSRPROBERMODIFYRESULT;
typedef struct SUPPAGE SUPPAGE;
typedef SUPPAGE *PSUPPAGE;
typedef const SUPPAGE *PCSUPPAGE;
typedef struct SUPPAGEALLOCEX SUPPAGEALLOCEX;
typedef SUPPAGEALLOCEX *PSUPPAGEALLOCEX;
typedef const SUPPAGEALLOCEX *PCSUPPAGEALLOCEX;
typedef struct SUPPAGEFREE SUPPAGEFREE;
typedef SUPPAGEFREE *PSUPPAGEFREE;
typedef const SUPPAGEFREE *PCSUPPAGEFREE;
typedef struct SUPPAGELOCK SUPPAGELOCK;
typedef SUPPAGELOCK *PSUPPAGELOCK;
typedef const SUPPAGELOCK *PCSUPPAGELOCK;
typedef struct SUPPAGEMAPKERNEL SUPPAGEMAPKERNEL;
typedef SUPPAGEMAPKERNEL *PSUPPAGEMAPKERNEL;
typedef const SUPPAGEMAPKERNEL *PCSUPPAGEMAPKERNEL;
typedef struct SUPPAGEPROTECT SUPPAGEPROTECT;
typedef SUPPAGEPROTECT *PSUPPAGEPROTECT;
typedef const SUPPAGEPROTECT *PCSUPPAGEPROTECT;
typedef struct SUPPAGEUNLOCK SUPPAGEUNLOCK;
typedef SUPPAGEUNLOCK *PSUPPAGEUNLOCK;
typedef const SUPPAGEUNLOCK *PCSUPPAGEUNLOCK;
typedef struct SUPQUERYFUNCS SUPQUERYFUNCS;
typedef SUPQUERYFUNCS *PSUPQUERYFUNCS;
typedef const SUPQUERYFUNCS *PCSUPQUERYFUNCS;
typedef struct SUPR0SERVICEREQHDR SUPR0SERVICEREQHDR;
typedef SUPR0SERVICEREQHDR *PSUPR0SERVICEREQHDR;
typedef const SUPR0SERVICEREQHDR *PCSUPR0SERVICEREQHDR;
typedef struct SUPREQHDR SUPREQHDR;
typedef SUPREQHDR *PSUPREQHDR;
typedef const SUPREQHDR *PCSUPREQHDR;
typedef struct SUPSEMOP2 SUPSEMOP2;
typedef SUPSEMOP2 *PSUPSEMOP2;
typedef const SUPSEMOP2 *PCSUPSEMOP2;
typedef struct SUPSEMOP3 SUPSEMOP3;
typedef SUPSEMOP3 *PSUPSEMOP3;
typedef const SUPSEMOP3 *PCSUPSEMOP3;
typedef struct SUPSETVMFORFAST SUPSETVMFORFAST;
typedef SUPSETVMFORFAST *PSUPSETVMFORFAST;
typedef const SUPSETVMFORFAST *PCSUPSETVMFORFAST;
typedef struct SUPTRACERIOCTL SUPTRACERIOCTL;
typedef SUPTRACERIOCTL *PSUPTRACERIOCTL;
typedef const SUPTRACERIOCTL *PCSUPTRACERIOCTL;
typedef struct SUPTRACEROPEN SUPTRACEROPEN;
typedef SUPTRACEROPEN *PSUPTRACEROPEN;
typedef const SUPTRACEROPEN *PCSUPTRACEROPEN;
typedef struct SUPTRACERUMODDEREG SUPTRACERUMODDEREG;
typedef SUPTRACERUMODDEREG *PSUPTRACERUMODDEREG;
typedef const SUPTRACERUMODDEREG *PCSUPTRACERUMODDEREG;
typedef struct SUPTRACERUMODFIREPROBE SUPTRACERUMODFIREPROBE;
typedef SUPTRACERUMODFIREPROBE *PSUPTRACERUMODFIREPROBE;
typedef const SUPTRACERUMODFIREPROBE *PCSUPTRACERUMODFIREPROBE;
typedef struct SUPTRACERUMODREG SUPTRACERUMODREG;
typedef SUPTRACERUMODREG *PSUPTRACERUMODREG;
typedef const SUPTRACERUMODREG *PCSUPTRACERUMODREG;
typedef struct SUPVMMR0REQHDR SUPVMMR0REQHDR;
typedef SUPVMMR0REQHDR *PSUPVMMR0REQHDR;
typedef const SUPVMMR0REQHDR *PCSUPVMMR0REQHDR;
typedef struct SUPVTCAPS SUPVTCAPS;
typedef SUPVTCAPS *PSUPVTCAPS;
typedef const SUPVTCAPS *PCSUPVTCAPS;
typedef struct VTGDESCARG VTGDESCARG;
typedef VTGDESCARG *PVTGDESCARG;
typedef const VTGDESCARG *PCVTGDESCARG;
typedef struct VTGDESCARGLIST VTGDESCARGLIST;
typedef VTGDESCARGLIST *PVTGDESCARGLIST;
typedef const VTGDESCARGLIST *PCVTGDESCARGLIST;
typedef struct VTGDESCATTR VTGDESCATTR;
typedef VTGDESCATTR *PVTGDESCATTR;
typedef const VTGDESCATTR *PCVTGDESCATTR;
typedef struct VTGDESCPROBE VTGDESCPROBE;
typedef VTGDESCPROBE *PVTGDESCPROBE;
typedef const VTGDESCPROBE *PCVTGDESCPROBE;
typedef struct VTGDESCPROVIDER VTGDESCPROVIDER;
typedef VTGDESCPROVIDER *PVTGDESCPROVIDER;
typedef const VTGDESCPROVIDER *PCVTGDESCPROVIDER;
typedef struct VTGOBJHDR VTGOBJHDR;
typedef VTGOBJHDR *PVTGOBJHDR;
typedef const VTGOBJHDR *PCVTGOBJHDR;
typedef struct VTGPROBELOC VTGPROBELOC;
typedef VTGPROBELOC *PVTGPROBELOC;
typedef const VTGPROBELOC *PCVTGPROBELOC;
typedef struct VTGPROBELOC32 VTGPROBELOC32;
typedef VTGPROBELOC32 *PVTGPROBELOC32;
typedef const VTGPROBELOC32 *PCVTGPROBELOC32;
typedef struct VTGPROBELOC64 VTGPROBELOC64;
typedef VTGPROBELOC64 *PVTGPROBELOC64;
typedef const VTGPROBELOC64 *PCVTGPROBELOC64;
typedef RTLISTNODE RTLISTANCHOR;

/*
 * Callbacks.
 */
typedef int (*PFNR0MODULEINIT)(void *hMod);
typedef void (*PFNR0MODULETERM)(void *hMod);
typedef int (*PFNSUPR0SERVICEREQHANDLER)(SUPDRVSESSION *pSession, uint32_t uOperation, uint64_t u64Arg, SUPR0SERVICEREQHDR *pReqHdr);
typedef void (*PFNSUPDRVDESTRUCTOR)(void *pvObj, void *pvUser1, void *pvUser2);

/*
 * Structures.
 */
#if SUPDRV_HOST_BITS == 64
# pragma pack(push, 8)
#else
# pragma pack(push, 4)
#endif
struct RTCPUSET
{
    uint64_t bmSet[4];
};

struct RTLISTNODE
{
    struct RTLISTNODE *pNext;
    struct RTLISTNODE *pPrev;
};

union RTUUID
{
    struct
    {
        uint32_t u32TimeLow;
        uint16_t u16TimeMid;
        uint16_t u16TimeHiAndVersion;
        uint8_t u8ClockSeqHiAndReserved;
        uint8_t u8ClockSeqLow;
        uint8_t au8Node[6];
    } Gen;
    uint16_t au16[8];
    uint32_t au32[4];
    uint64_t au64[2];
    uint8_t au8[16];
};

struct SUPREQHDR
{
    uint32_t u32Cookie;
    uint32_t u32SessionCookie;
    uint32_t cbIn;
    uint32_t cbOut;
    uint32_t fFlags;
    int32_t rc;
};

struct SUPCALLSERVICE
{
    SUPREQHDR Hdr;
    union
    {
        struct
        {
            char szName[28];
            uint32_t uOperation;
            uint64_t u64Arg;
        } In;
    } u;
    uint8_t abReqPkt[1];
};

struct SUPCALLVMMR0
{
    SUPREQHDR Hdr;
    union
    {
        struct
        {
            PVMR0 pVMR0;
            uint32_t idCpu;
            uint32_t uOperation;
            uint64_t u64Arg;
        } In;
    } u;
    uint8_t abReqPkt[1];
};

struct SUPCONTALLOC
{
    SUPREQHDR Hdr;
    union
    {
        struct
        {
            uint32_t cPages;
        } In;
        struct
        {
            void *pvR0;
            RTR3PTR pvR3;
            RTHCPHYS HCPhys;
        } Out;
    } u;
};

struct SUPCONTFREE
{
    SUPREQHDR Hdr;
    union
    {
        struct
        {
            RTR3PTR pvR3;
        } In;
    } u;
};

struct SUPCOOKIE
{
    SUPREQHDR Hdr;
    union
    {
        struct
        {
            char szMagic[16];
            uint32_t u32ReqVersion;
            uint32_t u32MinVersion;
        } In;
        struct
        {
            uint32_t u32Cookie;
            uint32_t u32SessionCookie;
            uint32_t u32SessionVersion;
            uint32_t u32DriverVersion;
            uint32_t cFunctions;
            SUPDRVSESSION *pSession;
        } Out;
    } u;
};

struct SUPDRVMEMREF
{
    RTR0MEMOBJ MemObj;
    RTR0MEMOBJ MapObjR3;
    SUPDRVMEMREFTYPE eType;
};

struct SUPDRVBUNDLE
{
    struct SUPDRVBUNDLE * volatile pNext;
    SUPDRVMEMREF aMem[64];
    uint32_t volatile cUsed;
};

struct SUPDRVTRACERHLP
{
    uintptr_t uVersion;
    uintptr_t uEndVersion;
};

struct SUPDRVDEVEXT
{
    uint32_t u32Cookie;
    uint32_t cbSession;
    RTSPINLOCK Spinlock;
    SUPDRVOBJ * volatile pObjs;
    SUPDRVUSAGE * volatile pUsageFree;
    SUPDRVLDRMUTEX mtxLdr;
    void * volatile pvVMMR0;
    int (*pfnVMMR0EntryInt)(PVM pVM, unsigned uOperation, void *pvArg);
    void (*pfnVMMR0EntryFast)(PVM pVM, VMCPUID idCpu, unsigned uOperation);
    int (*pfnVMMR0EntryEx)(PVM pVM, VMCPUID idCpu, unsigned uOperation, SUPVMMR0REQHDR *pReq, uint64_t u64Arg, SUPDRVSESSION *pSession);
    SUPDRVLDRIMAGE * volatile pLdrImages;
    SUPDRVLDRIMAGE * volatile pLdrInitImage;
    RTNATIVETHREAD volatile hLdrInitThread;
    SUPDRVGIPMUTEX mtxGip;
    RTSPINLOCK hGipSpinlock;
    SUPGLOBALINFOPAGE *pGip;
    RTHCPHYS HCPhysGip;
    uint32_t volatile cGipUsers;
    RTR0MEMOBJ GipMemObj;
    PRTTIMER pGipTimer;
    uint32_t u32SystemTimerGranularityGrant;
    RTCPUID volatile idGipMaster;
    RTSEMFASTMUTEX mtxComponentFactory;
    SUPDRVFACTORYREG *pComponentFactoryHead;
    RTSEMFASTMUTEX mtxTracer;
    RTLISTANCHOR TracerProviderList;
    RTLISTANCHOR TracerProviderZombieList;
    const SUPDRVTRACERREG *pTracerOps;
    SUPDRVSESSION *pTracerSession;
    SUPDRVLDRIMAGE *pTracerImage;
    SUPDRVTRACERHLP TracerHlp;
    uint32_t cTracerOpens;
    uint32_t volatile cTracerCallers;
    bool fTracerUnloading;
    RTLISTANCHOR aTrackerUmodHash[128];
#ifndef SUPDRV_AGNOSTIC
# ifdef RT_OS_WINDOWS
    void *pObjPowerCallback;
    void *hPowerCallback;
# endif
#endif
};

struct SUPDRVFACTORY
{
    char szName[56];
    void *(*pfnQueryFactoryInterface)(const SUPDRVFACTORY *pSupDrvFactory, SUPDRVSESSION *pSession, const char *pszInterfaceUuid);
};

struct SUPDRVFACTORYREG
{
    struct SUPDRVFACTORYREG *pNext;
    const SUPDRVFACTORY *pFactory;
    SUPDRVSESSION *pSession;
    size_t cchName;
};

struct SUPDRVIDCHANDLE
{
    void *apvPadding[4];
};

struct SUPDRVIDCREQHDR
{
    uint32_t cb;
    int32_t rc;
    SUPDRVSESSION *pSession;
#if SUPDRV_HOST_BITS == 32
    uint32_t u32Padding;
#endif
};

struct SUPDRVIDCREQCOMPREGFACTORY
{
    SUPDRVIDCREQHDR Hdr;
    union
    {
        struct
        {
            const SUPDRVFACTORY *pFactory;
        } In;
    } u;
};

struct SUPDRVIDCREQCONNECT
{
    SUPDRVIDCREQHDR Hdr;
    union
    {
        struct
        {
            uint32_t u32MagicCookie;
            uint32_t uReqVersion;
            uint32_t uMinVersion;
        } In;
        struct
        {
            SUPDRVSESSION *pSession;
            uint32_t uSessionVersion;
            uint32_t uDriverVersion;
            uint32_t uDriverRevision;
        } Out;
    } u;
};

struct SUPDRVIDCREQGETSYM
{
    SUPDRVIDCREQHDR Hdr;
    union
    {
        struct
        {
            const char *pszModule;
            const char *pszSymbol;
        } In;
        struct
        {
            PFNRT pfnSymbol;
        } Out;
    } u;
};

struct SUPDRVLDRIMAGE
{
    struct SUPDRVLDRIMAGE * volatile pNext;
    void *pvImage;
    void *pvImageAlloc;
    uint32_t cbImageWithTabs;
    uint32_t cbImageBits;
    uint32_t cSymbols;
    SUPLDRSYM *paSymbols;
    char *pachStrTab;
    uint32_t cbStrTab;
    PFNR0MODULEINIT pfnModuleInit;
    PFNR0MODULETERM pfnModuleTerm;
    PFNSUPR0SERVICEREQHANDLER pfnServiceReqHandler;
    uint32_t uState;
    uint32_t volatile cUsage;
    SUPDRVDEVEXT *pDevExt;
#ifdef RT_OS_WINDOWS
    void *pvNtSectionObj;
    RTR0MEMOBJ hMemLock;
#endif
#if defined(RT_OS_SOLARIS) && defined(VBOX_WITH_NATIVE_SOLARIS_LOADING)
    int idSolMod;
    struct modctl *pSolModCtl;
#endif
    bool fNative;
    char szName[32];
};

struct SUPDRVLDRUSAGE
{
    struct SUPDRVLDRUSAGE * volatile pNext;
    SUPDRVLDRIMAGE *pImage;
    uint32_t volatile cUsage;
};

struct SUPDRVOBJ
{
    uint32_t u32Magic;
    SUPDRVOBJTYPE enmType;
    struct SUPDRVOBJ * volatile pNext;
    PFNSUPDRVDESTRUCTOR pfnDestructor;
    void *pvUser1;
    void *pvUser2;
    uint32_t volatile cUsage;
    RTUID CreatorUid;
    RTGID CreatorGid;
    RTPROCESS CreatorProcess;
};

struct SUPDRVPROBEINFO
{
    uint32_t cEnabled;
};

struct SUPDRVPROBELOC
{
    uint32_t idProbe;
    bool fEnabled;
};

struct SUPDRVSESSION
{
    SUPDRVDEVEXT *pDevExt;
    uint32_t u32Cookie;
    bool fUnrestricted;
    uint32_t volatile cRefs;
    PVM pVM;
    RTHANDLETABLE hHandleTable;
    SUPDRVLDRUSAGE * volatile pLdrUsage;
    RTSPINLOCK Spinlock;
    RTR0MEMOBJ GipMapObjR3;
    uint32_t fGipReferenced;
    SUPDRVBUNDLE Bundle;
    SUPDRVUSAGE * volatile pUsage;
    RTUID Uid;
    RTGID Gid;
    RTPROCESS Process;
    RTR0PROCESS R0Process;
    uintptr_t uTracerData;
    RTNATIVETHREAD hTracerCaller;
    RTLISTANCHOR TpProviders;
    uint32_t cTpProviders;
    uint32_t volatile cTpProbesFiring;
    RTLISTANCHOR TpUmods;
    struct SUPDRVTRACERUMOD *apTpLookupTable[32];
#ifndef SUPDRV_AGNOSTIC
# ifdef RT_OS_DARWIN
    void *pvSupDrvClient;
    bool fOpened;
# endif
# ifdef RT_OS_OS2
    uint16_t sfn;
    uint16_t Alignment;
# endif
# if defined(RT_OS_DARWIN) || defined(RT_OS_OS2) || defined(RT_OS_SOLARIS)
    SUPDRVSESSION *pNextHash;
# endif
#endif
};

union SUPDRVTRACERDATA
{
    struct
    {
        uintptr_t idProvider;
        uint32_t cProvidedProbes;
        bool fZombie;
    } DTrace;
    uint64_t au64[2];
};

struct SUPDRVTRACERREG
{
    uint32_t u32Magic;
    uint32_t u32Version;
    void (*pfnProbeFireKernel)(VTGPROBELOC *pVtgProbeLoc, uintptr_t uArg0, uintptr_t uArg1, uintptr_t uArg2, uintptr_t uArg3, uintptr_t uArg4);
    void (*pfnProbeFireUser)(const SUPDRVTRACERREG *pThis, SUPDRVSESSION *pSession, const SUPDRVTRACERUSRCTX *pCtx, const VTGOBJHDR *pVtgHdr, const VTGPROBELOC *pProbeLocRO);
    int (*pfnTracerOpen)(const SUPDRVTRACERREG *pThis, SUPDRVSESSION *pSession, uint32_t uCookie, uintptr_t uArg, uintptr_t *puSessionData);
    int (*pfnTracerIoCtl)(const SUPDRVTRACERREG *pThis, SUPDRVSESSION *pSession, uintptr_t uSessionData, uintptr_t uCmd, uintptr_t uArg, int32_t *piRetVal);
    void (*pfnTracerClose)(const SUPDRVTRACERREG *pThis, SUPDRVSESSION *pSession, uintptr_t uSessionData);
    int (*pfnProviderRegister)(const SUPDRVTRACERREG *pThis, SUPDRVVDTPROVIDERCORE *pCore);
    int (*pfnProviderDeregister)(const SUPDRVTRACERREG *pThis, SUPDRVVDTPROVIDERCORE *pCore);
    int (*pfnProviderDeregisterZombie)(const SUPDRVTRACERREG *pThis, SUPDRVVDTPROVIDERCORE *pCore);
    uintptr_t uEndMagic;
};

struct SUPDRVTRACERUSRCTX
{
    uint32_t idProbe;
    uint8_t cBits;
    uint8_t abReserved[3];
    union
    {
        struct
        {
            uint64_t uVtgProbeLoc;
            uint64_t aArgs[10];
            uint64_t rip;
            uint64_t rflags;
            uint64_t rax;
            uint64_t rcx;
            uint64_t rdx;
            uint64_t rbx;
            uint64_t rsp;
            uint64_t rbp;
            uint64_t rsi;
            uint64_t rdi;
            uint64_t r8;
            uint64_t r9;
            uint64_t r10;
            uint64_t r11;
            uint64_t r12;
            uint64_t r13;
            uint64_t r14;
            uint64_t r15;
        } Amd64;
        struct
        {
            uint32_t uVtgProbeLoc;
            uint32_t aArgs[20];
            uint32_t eip;
            uint32_t eflags;
            uint32_t eax;
            uint32_t ecx;
            uint32_t edx;
            uint32_t ebx;
            uint32_t esp;
            uint32_t ebp;
            uint32_t esi;
            uint32_t edi;
            uint16_t cs;
            uint16_t ss;
            uint16_t ds;
            uint16_t es;
            uint16_t fs;
            uint16_t gs;
        } X86;
    } u;
};

struct SUPDRVUSAGE
{
    struct SUPDRVUSAGE * volatile pNext;
    SUPDRVOBJ *pObj;
    uint32_t volatile cUsage;
};

struct SUPDRVVDTPROVIDERCORE
{
    SUPDRVTRACERDATA TracerData;
    const char *pszName;
    const char *pszModName;
    const VTGDESCPROVIDER *pDesc;
    const VTGOBJHDR *pHdr;
    uint8_t cbProbeLocsEn;
    uint8_t cBits;
    bool fUmod;
    uint8_t abAlignment[sizeof(void *) - 3];
    const VTGPROBELOC *paProbeLocsRO;
    void *pvProbeLocsEn;
    uint32_t *pacProbeEnabled;
    SUPDRVPROBELOC *paR0ProbeLocs;
    SUPDRVPROBEINFO *paR0Probes;
};

struct SUPFUNC
{
    char szName[32];
    PFNRT pfn;
};

struct SUPGETPAGINGMODE
{
    SUPREQHDR Hdr;
    union
    {
        struct
        {
            SUPPAGINGMODE enmMode;
        } Out;
    } u;
};

struct SUPGIPCPU
{
    uint32_t volatile u32TransactionId;
    uint32_t volatile u32UpdateIntervalTSC;
    uint64_t volatile u64NanoTS;
    uint64_t volatile u64TSC;
    uint64_t volatile u64CpuHz;
    uint32_t volatile cErrors;
    uint32_t iTSCHistoryHead;
    uint32_t au32TSCHistory[8];
    uint32_t u32PrevUpdateIntervalNS;
    uint32_t au32Reserved[10];
    SUPGIPCPUSTATE enmState;
    uint32_t idCpu;
    int16_t iCpuSet;
    uint16_t idApic;
};

struct SUPGIPMAP
{
    SUPREQHDR Hdr;
    union
    {
        struct
        {
            RTHCPHYS HCPhysGip;
            RTR3PTR pGipR3;
            SUPGLOBALINFOPAGE *pGipR0;
        } Out;
    } u;
};

struct SUPGIPUNMAP
{
    SUPREQHDR Hdr;
};

struct SUPGLOBALINFOPAGE
{
    uint32_t u32Magic;
    uint32_t u32Version;
    uint32_t u32Mode;
    uint16_t cCpus;
    uint16_t cPages;
    uint32_t u32UpdateHz;
    uint32_t u32UpdateIntervalNS;
    uint64_t u64NanoTSLastUpdateHz;
    RTCPUSET OnlineCpuSet;
    RTCPUSET PresentCpuSet;
    RTCPUSET PossibleCpuSet;
    uint16_t cOnlineCpus;
    uint16_t cPresentCpus;
    uint16_t cPossibleCpus;
    uint16_t u16Padding0;
    uint32_t idCpuMax;
    uint32_t au32Padding1[29];
    uint16_t aiCpuFromApicId[256];
    uint16_t aiCpuFromCpuSetIdx[256];
    SUPGIPCPU aCPUs[1];
};

struct SUPLDRFREE
{
    SUPREQHDR Hdr;
    union
    {
        struct
        {
            void *pvImageBase;
        } In;
    } u;
};

struct SUPLDRGETSYMBOL
{
    SUPREQHDR Hdr;
    union
    {
        struct
        {
            void *pvImageBase;
            char szSymbol[64];
        } In;
        struct
        {
            void *pvSymbol;
        } Out;
    } u;
};

struct SUPLDRLOAD
{
    SUPREQHDR Hdr;
    union
    {
        struct
        {
            PFNR0MODULEINIT pfnModuleInit;
            PFNR0MODULETERM pfnModuleTerm;
            union
            {
                struct
                {
                    PFNSUPR0SERVICEREQHANDLER pfnServiceReq;
                    void *apvReserved[3];
                } Service;
                struct
                {
                    void *pvVMMR0;
                    void *pvVMMR0EntryInt;
                    void *pvVMMR0EntryFast;
                    void *pvVMMR0EntryEx;
                } VMMR0;
            } EP;
            void *pvImageBase;
            SUPLDRLOADEP eEPType;
            uint32_t cbImageBits;
            uint32_t offSymbols;
            uint32_t cSymbols;
            uint32_t offStrTab;
            uint32_t cbStrTab;
            uint32_t cbImageWithTabs;
            uint8_t abImage[1];
        } In;
    } u;
};

struct SUPLDROPEN
{
    SUPREQHDR Hdr;
    union
    {
        struct
        {
            uint32_t cbImageWithTabs;
            uint32_t cbImageBits;
            char szName[32];
            char szFilename[260];
        } In;
        struct
        {
            void *pvImageBase;
            bool fNeedsLoading;
            bool fNativeLoader;
        } Out;
    } u;
};

struct SUPLDRSYM
{
    uint32_t offName;
    uint32_t offSymbol;
};

struct SUPLOGGERSETTINGS
{
    SUPREQHDR Hdr;
    union
    {
        struct
        {
            uint32_t fWhich;
            uint32_t fWhat;
            uint32_t offFlags;
            uint32_t offGroups;
            uint32_t offDestination;
            char szStrings[1];
        } In;
    } u;
};

struct SUPLOWALLOC
{
    SUPREQHDR Hdr;
    union
    {
        struct
        {
            uint32_t cPages;
        } In;
        struct
        {
            RTR3PTR pvR3;
            void *pvR0;
            RTHCPHYS aPages[1];
        } Out;
    } u;
};

struct SUPLOWFREE
{
    SUPREQHDR Hdr;
    union
    {
        struct
        {
            RTR3PTR pvR3;
        } In;
    } u;
};

struct SUPMSRPROBER
{
    SUPREQHDR Hdr;
    union
    {
        struct
        {
            SUPMSRPROBEROP enmOp;
            uint32_t uMsr;
            uint32_t idCpu;
            uint32_t u32Padding;
            union
            {
                struct
                {
                    uint64_t fAndMask;
                    uint64_t fOrMask;
                } Modify;
                struct
                {
                    uint64_t uToWrite;
                } Write;
                uint64_t auPadding[3];
            } uArgs;
        } In;
        struct
        {
            union
            {
                struct
                {
                    uint64_t uBefore;
                    uint64_t uWritten;
                    uint64_t uAfter;
                    bool fBeforeGp;
                    bool fModifyGp;
                    bool fAfterGp;
                    bool fRestoreGp;
                    bool afReserved[4];
                } Modify;
                struct
                {
                    uint64_t uValue;
                    bool fGp;
                } Read;
                struct
                {
                    bool fGp;
                } Write;
                uint64_t auPadding[5];
            } uResults;
        } Out;
    } u;
};

struct SUPMSRPROBERMODIFYRESULT
{
    uint64_t uBefore;
    uint64_t uWritten;
    uint64_t uAfter;
    bool fBeforeGp;
    bool fModifyGp;
    bool fAfterGp;
    bool fRestoreGp;
    bool afReserved[4];
};

#pragma pack(push, 4)
struct SUPPAGE
{
    RTHCPHYS Phys;
    uintptr_t uReserved;
};
#pragma pack(pop)

struct SUPPAGEALLOCEX
{
    SUPREQHDR Hdr;
    union
    {
        struct
        {
            uint32_t cPages;
            bool fKernelMapping;
            bool fUserMapping;
            bool fReserved0;
            bool fReserved1;
        } In;
        struct
        {
            RTR3PTR pvR3;
            void *pvR0;
            RTHCPHYS aPages[1];
        } Out;
    } u;
};

struct SUPPAGEFREE
{
    SUPREQHDR Hdr;
    union
    {
        struct
        {
            RTR3PTR pvR3;
        } In;
    } u;
};

struct SUPPAGELOCK
{
    SUPREQHDR Hdr;
    union
    {
        struct
        {
            RTR3PTR pvR3;
            uint32_t cPages;
        } In;
        struct
        {
            RTHCPHYS aPages[1];
        } Out;
    } u;
};

struct SUPPAGEMAPKERNEL
{
    SUPREQHDR Hdr;
    union
    {
        struct
        {
            RTR3PTR pvR3;
            uint32_t offSub;
            uint32_t cbSub;
            uint32_t fFlags;
        } In;
        struct
        {
            void *pvR0;
        } Out;
    } u;
};

struct SUPPAGEPROTECT
{
    SUPREQHDR Hdr;
    union
    {
        struct
        {
            RTR3PTR pvR3;
            void *pvR0;
            uint32_t offSub;
            uint32_t cbSub;
            uint32_t fProt;
        } In;
    } u;
};

struct SUPPAGEUNLOCK
{
    SUPREQHDR Hdr;
    union
    {
        struct
        {
            RTR3PTR pvR3;
        } In;
    } u;
};

struct SUPQUERYFUNCS
{
    SUPREQHDR Hdr;
    union
    {
        struct
        {
            uint32_t cFunctions;
            SUPFUNC aFunctions[1];
        } Out;
    } u;
};

struct SUPR0SERVICEREQHDR
{
    uint32_t u32Magic;
    uint32_t cbReq;
};

struct SUPSEMOP2
{
    SUPREQHDR Hdr;
    union
    {
        struct
        {
            uint32_t uType;
            uint32_t hSem;
            uint32_t uOp;
            uint32_t uReserved;
            union
            {
                uint32_t cRelMsTimeout;
                uint64_t cRelNsTimeout;
                uint64_t u64;
                uint64_t uAbsNsTimeout;
            } uArg;
        } In;
    } u;
};

struct SUPSEMOP3
{
    SUPREQHDR Hdr;
    union
    {
        struct
        {
            uint32_t uType;
            uint32_t hSem;
            uint32_t uOp;
            uint32_t u32Reserved;
            uint64_t u64Reserved;
        } In;
        union
        {
            uint32_t cNsResolution;
            uint32_t hSem;
            uint32_t u32;
            uint64_t u64Reserved;
        } Out;
    } u;
};

struct SUPSETVMFORFAST
{
    SUPREQHDR Hdr;
    union
    {
        struct
        {
            PVMR0 pVMR0;
        } In;
    } u;
};

struct SUPTRACERIOCTL
{
    SUPREQHDR Hdr;
    union
    {
        struct
        {
            uintptr_t uCmd;
            uintptr_t uArg;
        } In;
        struct
        {
            int32_t iRetVal;
        } Out;
    } u;
};

struct SUPTRACEROPEN
{
    SUPREQHDR Hdr;
    union
    {
        struct
        {
            uint32_t uCookie;
            uintptr_t uArg;
        } In;
    } u;
};

struct SUPTRACERUMODDEREG
{
    SUPREQHDR Hdr;
    union
    {
        struct
        {
            RTR3PTR pVtgHdr;
        } In;
    } u;
};

struct SUPTRACERUMODFIREPROBE
{
    SUPREQHDR Hdr;
    union
    {
        SUPDRVTRACERUSRCTX In;
    } u;
};

struct SUPTRACERUMODREG
{
    SUPREQHDR Hdr;
    union
    {
        struct
        {
            RTUINTPTR uVtgHdrAddr;
            RTR3PTR R3PtrVtgHdr;
            RTR3PTR R3PtrStrTab;
            uint32_t cbStrTab;
            uint32_t fFlags;
            char szName[64];
        } In;
    } u;
};

struct SUPVMMR0REQHDR
{
    uint32_t u32Magic;
    uint32_t cbReq;
};

struct SUPVTCAPS
{
    SUPREQHDR Hdr;
    union
    {
        struct
        {
            uint32_t Caps;
        } Out;
    } u;
};

struct VTGDESCARG
{
    uint32_t offType;
    uint32_t fType;
};

struct VTGDESCARGLIST
{
    uint8_t cArgs;
    bool fHaveLargeArgs;
    uint8_t abReserved[2];
    VTGDESCARG aArgs[1];
};

struct VTGDESCATTR
{
    uint8_t u8Code;
    uint8_t u8Data;
    uint8_t u8DataDep;
};

struct VTGDESCPROBE
{
    uint32_t offName;
    uint32_t offArgList;
    uint16_t idxEnabled;
    uint16_t idxProvider;
    int32_t offObjHdr;
};

struct VTGDESCPROVIDER
{
    uint32_t offName;
    uint16_t iFirstProbe;
    uint16_t cProbes;
    VTGDESCATTR AttrSelf;
    VTGDESCATTR AttrModules;
    VTGDESCATTR AttrFunctions;
    VTGDESCATTR AttrNames;
    VTGDESCATTR AttrArguments;
    uint8_t bReserved;
};

struct VTGOBJHDR
{
    char szMagic[24];
    uint32_t cBits;
    uint32_t cbObj;
    uint32_t offStrTab;
    uint32_t cbStrTab;
    uint32_t offArgLists;
    uint32_t cbArgLists;
    uint32_t offProbes;
    uint32_t cbProbes;
    uint32_t offProviders;
    uint32_t cbProviders;
    uint32_t offProbeEnabled;
    uint32_t cbProbeEnabled;
    int32_t offProbeLocs;
    uint32_t cbProbeLocs;
    union
    {
        void *p;
        uint32_t u32;
        uint64_t u64;
        uintptr_t uPtr;
    } uProbeLocs;
    union
    {
        void *p;
        uint32_t u32;
        uint64_t u64;
        uintptr_t uPtr;
    } uProbeLocsEnd;
    RTUUID Uuid;
    uint64_t u64VtgObjSectionStart;
    uint32_t au32Reserved1[2];
};

struct VTGPROBELOC
{
    uint32_t uLine : 31;
    uint32_t fEnabled : 1;
    uint32_t idProbe;
    const char *pszFunction;
    VTGDESCPROBE *pProbe;
#if SUPDRV_HOST_BITS == 64
    uint64_t uAlignment;
#endif
};

struct VTGPROBELOC32
{
    uint32_t uLine : 31;
    uint32_t fEnabled : 1;
    uint32_t idProbe;
    uint32_t pszFunction;
    uint32_t pProbe;
};

struct VTGPROBELOC64
{
    uint32_t uLine : 31;
    uint32_t fEnabled : 1;
    uint32_t idProbe;
    uint64_t pszFunction;
    uint64_t pProbe;
    uint64_t uAlignment;
};

struct SUPDRVIDCREQCOMPDEREGFACTORY
{
    SUPDRVIDCREQHDR Hdr;
    union
    {
        struct
        {
            const SUPDRVFACTORY *pFactory;
        } In;
    } u;
};

struct SUPDRVIDCREQCOMPDEREGFACTORYIN
{
    const SUPDRVFACTORY *pFactory;
};

struct SUPDRVIDCREQCOMPREGFACTORYIN
{
    const SUPDRVFACTORY *pFactory;
};

struct SUPDRVIDCREQCONNECTIN
{
    uint32_t u32MagicCookie;
    uint32_t uReqVersion;
    uint32_t uMinVersion;
};

struct SUPDRVIDCREQCONNECTOUT
{
    SUPDRVSESSION *pSession;
    uint32_t uSessionVersion;
    uint32_t uDriverVersion;
    uint32_t uDriverRevision;
};

struct SUPDRVIDCREQGETSYMIN
{
    const char *pszModule;
    const char *pszSymbol;
};

struct SUPDRVIDCREQGETSYMOUT
{
    PFNRT pfnSymbol;
};

#pragma pack(pop)

/*
 * A compiler that lays out structures differently stops here.
 */
typedef char supdrv_check_RTLISTNODE[sizeof(RTLISTNODE) == (SUPDRV_HOST_BITS == 64 ? 16 : 8) ? 1 : -1];
typedef char supdrv_check_SUPDRVMEMREF[sizeof(SUPDRVMEMREF) == (SUPDRV_HOST_BITS == 64 ? 24 : 12) ? 1 : -1];
typedef char supdrv_check_SUPDRVBUNDLE[sizeof(SUPDRVBUNDLE) == (SUPDRV_HOST_BITS == 64 ? 1552 : 776) ? 1 : -1];
typedef char supdrv_check_SUPDRVOBJ[sizeof(SUPDRVOBJ) == (SUPDRV_HOST_BITS == 64 ? 56 : 40) ? 1 : -1];
typedef char supdrv_check_SUPDRVLDRUSAGE[sizeof(SUPDRVLDRUSAGE) == (SUPDRV_HOST_BITS == 64 ? 24 : 12) ? 1 : -1];
typedef char supdrv_check_SUPDRVUSAGE[sizeof(SUPDRVUSAGE) == (SUPDRV_HOST_BITS == 64 ? 24 : 12) ? 1 : -1];
typedef char supdrv_check_SUPDRVFACTORYREG[sizeof(SUPDRVFACTORYREG) == (SUPDRV_HOST_BITS == 64 ? 32 : 16) ? 1 : -1];
typedef char supdrv_check_SUPDRVFACTORY[sizeof(SUPDRVFACTORY) == (SUPDRV_HOST_BITS == 64 ? 64 : 60) ? 1 : -1];
typedef char supdrv_check_SUPPAGE[sizeof(SUPPAGE) == (SUPDRV_HOST_BITS == 64 ? 16 : 12) ? 1 : -1];
typedef char supdrv_check_SUPREQHDR[sizeof(SUPREQHDR) == (SUPDRV_HOST_BITS == 64 ? 24 : 24) ? 1 : -1];
typedef char supdrv_check_SUPVMMR0REQHDR[sizeof(SUPVMMR0REQHDR) == (SUPDRV_HOST_BITS == 64 ? 8 : 8) ? 1 : -1];
typedef char supdrv_check_SUPR0SERVICEREQHDR[sizeof(SUPR0SERVICEREQHDR) == (SUPDRV_HOST_BITS == 64 ? 8 : 8) ? 1 : -1];
typedef char supdrv_check_SUPLDRSYM[sizeof(SUPLDRSYM) == (SUPDRV_HOST_BITS == 64 ? 8 : 8) ? 1 : -1];
typedef char supdrv_check_SUPFUNC[sizeof(SUPFUNC) == (SUPDRV_HOST_BITS == 64 ? 40 : 36) ? 1 : -1];
typedef char supdrv_check_SUPMSRPROBERMODIFYRESULT[sizeof(SUPMSRPROBERMODIFYRESULT) == (SUPDRV_HOST_BITS == 64 ? 32 : 32) ? 1 : -1];
typedef char supdrv_check_SUPGIPCPU[sizeof(SUPGIPCPU) == (SUPDRV_HOST_BITS == 64 ? 128 : 128) ? 1 : -1];
typedef char supdrv_check_RTCPUSET[sizeof(RTCPUSET) == (SUPDRV_HOST_BITS == 64 ? 32 : 32) ? 1 : -1];
typedef char supdrv_check_SUPDRVIDCHANDLE[sizeof(SUPDRVIDCHANDLE) == (SUPDRV_HOST_BITS == 64 ? 32 : 16) ? 1 : -1];
typedef char supdrv_check_SUPDRVTRACERREG[sizeof(SUPDRVTRACERREG) == (SUPDRV_HOST_BITS == 64 ? 80 : 44) ? 1 : -1];
typedef char supdrv_check_SUPDRVTRACERHLP[sizeof(SUPDRVTRACERHLP) == (SUPDRV_HOST_BITS == 64 ? 16 : 8) ? 1 : -1];
typedef char supdrv_check_SUPDRVPROBELOC[sizeof(SUPDRVPROBELOC) == (SUPDRV_HOST_BITS == 64 ? 8 : 8) ? 1 : -1];
typedef char supdrv_check_SUPDRVPROBEINFO[sizeof(SUPDRVPROBEINFO) == (SUPDRV_HOST_BITS == 64 ? 4 : 4) ? 1 : -1];
typedef char supdrv_check_SUPDRVTRACERUSRCTX[sizeof(SUPDRVTRACERUSRCTX) == (SUPDRV_HOST_BITS == 64 ? 240 : 240) ? 1 : -1];
typedef char supdrv_check_VTGDESCATTR[sizeof(VTGDESCATTR) == (SUPDRV_HOST_BITS == 64 ? 3 : 3) ? 1 : -1];
typedef char supdrv_check_VTGDESCPROVIDER[sizeof(VTGDESCPROVIDER) == (SUPDRV_HOST_BITS == 64 ? 24 : 24) ? 1 : -1];
typedef char supdrv_check_VTGDESCPROBE[sizeof(VTGDESCPROBE) == (SUPDRV_HOST_BITS == 64 ? 16 : 16) ? 1 : -1];
typedef char supdrv_check_VTGDESCARG[sizeof(VTGDESCARG) == (SUPDRV_HOST_BITS == 64 ? 8 : 8) ? 1 : -1];

/*
 * Requests: sizes of the packets, and function codes.
 */
#define SUP_IOCTL_COOKIE_SIZE_IN 48
#if SUPDRV_HOST_BITS == 64
# define SUP_IOCTL_COOKIE_SIZE_OUT 56
#else
# define SUP_IOCTL_COOKIE_SIZE_OUT 48
#endif
#if SUPDRV_HOST_BITS == 64
# define SUP_IOCTL_COOKIE_SIZE 56
#else
# define SUP_IOCTL_COOKIE_SIZE 48
#endif
#define SUP_IOCTL_QUERY_FUNCS_SIZE_IN 24
#if SUPDRV_HOST_BITS == 64
# define SUP_IOCTL_QUERY_FUNCS_SIZE_OUT(cUnits) (32 + 40 * (cUnits))
#else
# define SUP_IOCTL_QUERY_FUNCS_SIZE_OUT(cUnits) (28 + 36 * (cUnits))
#endif
#if SUPDRV_HOST_BITS == 64
# define SUP_IOCTL_QUERY_FUNCS_SIZE(cUnits) (32 + 40 * (cUnits))
#else
# define SUP_IOCTL_QUERY_FUNCS_SIZE(cUnits) (28 + 36 * (cUnits))
#endif
#if SUPDRV_HOST_BITS == 64
# define SUP_IOCTL_LDR_OPEN_SIZE_IN 328
#else
# define SUP_IOCTL_LDR_OPEN_SIZE_IN 324
#endif
#if SUPDRV_HOST_BITS == 64
# define SUP_IOCTL_LDR_OPEN_SIZE_OUT 40
#else
# define SUP_IOCTL_LDR_OPEN_SIZE_OUT 32
#endif
#if SUPDRV_HOST_BITS == 64
# define SUP_IOCTL_LDR_OPEN_SIZE 328
#else
# define SUP_IOCTL_LDR_OPEN_SIZE 324
#endif
#if SUPDRV_HOST_BITS == 64
# define SUP_IOCTL_LDR_LOAD_SIZE_IN(cUnits) (108 + 1 * (cUnits))
#else
# define SUP_IOCTL_LDR_LOAD_SIZE_IN(cUnits) (80 + 1 * (cUnits))
#endif
#define SUP_IOCTL_LDR_LOAD_SIZE_OUT 24
#if SUPDRV_HOST_BITS == 64
# define SUP_IOCTL_LDR_LOAD_SIZE(cUnits) (108 + 1 * (cUnits))
#else
# define SUP_IOCTL_LDR_LOAD_SIZE(cUnits) (80 + 1 * (cUnits))
#endif
#if SUPDRV_HOST_BITS == 64
# define SUP_IOCTL_LDR_FREE_SIZE_IN 32
#else
# define SUP_IOCTL_LDR_FREE_SIZE_IN 28
#endif
#define SUP_IOCTL_LDR_FREE_SIZE_OUT 24
#if SUPDRV_HOST_BITS == 64
# define SUP_IOCTL_LDR_FREE_SIZE 32
#else
# define SUP_IOCTL_LDR_FREE_SIZE 28
#endif
#if SUPDRV_HOST_BITS == 64
# define SUP_IOCTL_LDR_GET_SYMBOL_SIZE_IN 96
#else
# define SUP_IOCTL_LDR_GET_SYMBOL_SIZE_IN 92
#endif
#if SUPDRV_HOST_BITS == 64
# define SUP_IOCTL_LDR_GET_SYMBOL_SIZE_OUT 32
#else
# define SUP_IOCTL_LDR_GET_SYMBOL_SIZE_OUT 28
#endif
#if SUPDRV_HOST_BITS == 64
# define SUP_IOCTL_LDR_GET_SYMBOL_SIZE 96
#else
# define SUP_IOCTL_LDR_GET_SYMBOL_SIZE 92
#endif
#if SUPDRV_HOST_BITS == 64
# define SUP_IOCTL_CALL_VMMR0_SIZE_IN(cUnits) (48 + 1 * (cUnits))
#else
# define SUP_IOCTL_CALL_VMMR0_SIZE_IN(cUnits) (44 + 1 * (cUnits))
#endif
#if SUPDRV_HOST_BITS == 64
# define SUP_IOCTL_CALL_VMMR0_SIZE_OUT(cUnits) (48 + 1 * (cUnits))
#else
# define SUP_IOCTL_CALL_VMMR0_SIZE_OUT(cUnits) (44 + 1 * (cUnits))
#endif
#if SUPDRV_HOST_BITS == 64
# define SUP_IOCTL_CALL_VMMR0_SIZE(cUnits) (48 + 1 * (cUnits))
#else
# define SUP_IOCTL_CALL_VMMR0_SIZE(cUnits) (44 + 1 * (cUnits))
#endif
#define SUP_IOCTL_LOW_ALLOC_SIZE_IN 28
#if SUPDRV_HOST_BITS == 64
# define SUP_IOCTL_LOW_ALLOC_SIZE_OUT(cUnits) (40 + 8 * (cUnits))
#else
# define SUP_IOCTL_LOW_ALLOC_SIZE_OUT(cUnits) (32 + 8 * (cUnits))
#endif
#if SUPDRV_HOST_BITS == 64
# define SUP_IOCTL_LOW_ALLOC_SIZE(cUnits) (40 + 8 * (cUnits))
#else
# define SUP_IOCTL_LOW_ALLOC_SIZE(cUnits) (32 + 8 * (cUnits))
#endif
#if SUPDRV_HOST_BITS == 64
# define SUP_IOCTL_LOW_FREE_SIZE_IN 32
#else
# define SUP_IOCTL_LOW_FREE_SIZE_IN 28
#endif
#define SUP_IOCTL_LOW_FREE_SIZE_OUT 24
#if SUPDRV_HOST_BITS == 64
# define SUP_IOCTL_LOW_FREE_SIZE 32
#else
# define SUP_IOCTL_LOW_FREE_SIZE 28
#endif
#define SUP_IOCTL_PAGE_ALLOC_EX_SIZE_IN 32
#if SUPDRV_HOST_BITS == 64
# define SUP_IOCTL_PAGE_ALLOC_EX_SIZE_OUT(cUnits) (40 + 8 * (cUnits))
#else
# define SUP_IOCTL_PAGE_ALLOC_EX_SIZE_OUT(cUnits) (32 + 8 * (cUnits))
#endif
#if SUPDRV_HOST_BITS == 64
# define SUP_IOCTL_PAGE_ALLOC_EX_SIZE(cUnits) (40 + 8 * (cUnits))
#else
# define SUP_IOCTL_PAGE_ALLOC_EX_SIZE(cUnits) (32 + 8 * (cUnits))
#endif
#if SUPDRV_HOST_BITS == 64
# define SUP_IOCTL_PAGE_MAP_KERNEL_SIZE_IN 48
#else
# define SUP_IOCTL_PAGE_MAP_KERNEL_SIZE_IN 40
#endif
#if SUPDRV_HOST_BITS == 64
# define SUP_IOCTL_PAGE_MAP_KERNEL_SIZE_OUT 48
#else
# define SUP_IOCTL_PAGE_MAP_KERNEL_SIZE_OUT 40
#endif
#if SUPDRV_HOST_BITS == 64
# define SUP_IOCTL_PAGE_MAP_KERNEL_SIZE 48
#else
# define SUP_IOCTL_PAGE_MAP_KERNEL_SIZE 40
#endif
#if SUPDRV_HOST_BITS == 64
# define SUP_IOCTL_PAGE_PROTECT_SIZE_IN 56
#else
# define SUP_IOCTL_PAGE_PROTECT_SIZE_IN 44
#endif
#if SUPDRV_HOST_BITS == 64
# define SUP_IOCTL_PAGE_PROTECT_SIZE_OUT 56
#else
# define SUP_IOCTL_PAGE_PROTECT_SIZE_OUT 44
#endif
#if SUPDRV_HOST_BITS == 64
# define SUP_IOCTL_PAGE_PROTECT_SIZE 56
#else
# define SUP_IOCTL_PAGE_PROTECT_SIZE 44
#endif
#if SUPDRV_HOST_BITS == 64
# define SUP_IOCTL_PAGE_FREE_SIZE_IN 32
#else
# define SUP_IOCTL_PAGE_FREE_SIZE_IN 28
#endif
#define SUP_IOCTL_PAGE_FREE_SIZE_OUT 24
#if SUPDRV_HOST_BITS == 64
# define SUP_IOCTL_PAGE_FREE_SIZE 32
#else
# define SUP_IOCTL_PAGE_FREE_SIZE 28
#endif
#if SUPDRV_HOST_BITS == 64
# define SUP_IOCTL_PAGE_LOCK_SIZE_IN 40
#else
# define SUP_IOCTL_PAGE_LOCK_SIZE_IN 32
#endif
#define SUP_IOCTL_PAGE_LOCK_SIZE_OUT(cUnits) (24 + 8 * (cUnits))
#if SUPDRV_HOST_BITS == 64
# define SUP_IOCTL_PAGE_LOCK_SIZE(cUnits) (40 > (24 + 8 * (cUnits)) ? 40 : (24 + 8 * (cUnits)))
#else
# define SUP_IOCTL_PAGE_LOCK_SIZE(cUnits) (32 > (24 + 8 * (cUnits)) ? 32 : (24 + 8 * (cUnits)))
#endif
#if SUPDRV_HOST_BITS == 64
# define SUP_IOCTL_PAGE_UNLOCK_SIZE_IN 32
#else
# define SUP_IOCTL_PAGE_UNLOCK_SIZE_IN 28
#endif
#define SUP_IOCTL_PAGE_UNLOCK_SIZE_OUT 24
#if SUPDRV_HOST_BITS == 64
# define SUP_IOCTL_PAGE_UNLOCK_SIZE 32
#else
# define SUP_IOCTL_PAGE_UNLOCK_SIZE 28
#endif
#define SUP_IOCTL_CONT_ALLOC_SIZE_IN 28
#if SUPDRV_HOST_BITS == 64
# define SUP_IOCTL_CONT_ALLOC_SIZE_OUT 48
#else
# define SUP_IOCTL_CONT_ALLOC_SIZE_OUT 40
#endif
#if SUPDRV_HOST_BITS == 64
# define SUP_IOCTL_CONT_ALLOC_SIZE 48
#else
# define SUP_IOCTL_CONT_ALLOC_SIZE 40
#endif
#if SUPDRV_HOST_BITS == 64
# define SUP_IOCTL_CONT_FREE_SIZE_IN 32
#else
# define SUP_IOCTL_CONT_FREE_SIZE_IN 28
#endif
#define SUP_IOCTL_CONT_FREE_SIZE_OUT 24
#if SUPDRV_HOST_BITS == 64
# define SUP_IOCTL_CONT_FREE_SIZE 32
#else
# define SUP_IOCTL_CONT_FREE_SIZE 28
#endif
#define SUP_IOCTL_GET_PAGING_MODE_SIZE_IN 24
#define SUP_IOCTL_GET_PAGING_MODE_SIZE_OUT 28
#define SUP_IOCTL_GET_PAGING_MODE_SIZE 28
#if SUPDRV_HOST_BITS == 64
# define SUP_IOCTL_SET_VM_FOR_FAST_SIZE_IN 32
#else
# define SUP_IOCTL_SET_VM_FOR_FAST_SIZE_IN 28
#endif
#define SUP_IOCTL_SET_VM_FOR_FAST_SIZE_OUT 24
#if SUPDRV_HOST_BITS == 64
# define SUP_IOCTL_SET_VM_FOR_FAST_SIZE 32
#else
# define SUP_IOCTL_SET_VM_FOR_FAST_SIZE 28
#endif
#define SUP_IOCTL_GIP_MAP_SIZE_IN 24
#if SUPDRV_HOST_BITS == 64
# define SUP_IOCTL_GIP_MAP_SIZE_OUT 48
#else
# define SUP_IOCTL_GIP_MAP_SIZE_OUT 40
#endif
#if SUPDRV_HOST_BITS == 64
# define SUP_IOCTL_GIP_MAP_SIZE 48
#else
# define SUP_IOCTL_GIP_MAP_SIZE 40
#endif
#define SUP_IOCTL_GIP_UNMAP_SIZE_IN 24
#define SUP_IOCTL_GIP_UNMAP_SIZE_OUT 24
#define SUP_IOCTL_GIP_UNMAP_SIZE 24
#define SUP_IOCTL_CALL_SERVICE_SIZE_IN(cUnits) (64 + 1 * (cUnits))
#define SUP_IOCTL_CALL_SERVICE_SIZE_OUT(cUnits) (64 + 1 * (cUnits))
#define SUP_IOCTL_CALL_SERVICE_SIZE(cUnits) (64 + 1 * (cUnits))
#define SUP_IOCTL_LOGGER_SETTINGS_SIZE_IN(cUnits) (44 + 1 * (cUnits))
#define SUP_IOCTL_LOGGER_SETTINGS_SIZE_OUT 24
#define SUP_IOCTL_LOGGER_SETTINGS_SIZE(cUnits) (44 + 1 * (cUnits))
#define SUP_IOCTL_SEM_OP2_SIZE_IN 48
#define SUP_IOCTL_SEM_OP2_SIZE_OUT 24
#define SUP_IOCTL_SEM_OP2_SIZE 48
#define SUP_IOCTL_SEM_OP3_SIZE_IN 48
#define SUP_IOCTL_SEM_OP3_SIZE_OUT 48
#define SUP_IOCTL_SEM_OP3_SIZE 48
#define SUP_IOCTL_VT_CAPS_SIZE_IN 24
#define SUP_IOCTL_VT_CAPS_SIZE_OUT 28
#define SUP_IOCTL_VT_CAPS_SIZE 28
#if SUPDRV_HOST_BITS == 64
# define SUP_IOCTL_CALL_VMMR0_BIG_SIZE_IN(cUnits) (48 + 1 * (cUnits))
#else
# define SUP_IOCTL_CALL_VMMR0_BIG_SIZE_IN(cUnits) (44 + 1 * (cUnits))
#endif
#if SUPDRV_HOST_BITS == 64
# define SUP_IOCTL_CALL_VMMR0_BIG_SIZE_OUT(cUnits) (48 + 1 * (cUnits))
#else
# define SUP_IOCTL_CALL_VMMR0_BIG_SIZE_OUT(cUnits) (44 + 1 * (cUnits))
#endif
#if SUPDRV_HOST_BITS == 64
# define SUP_IOCTL_CALL_VMMR0_BIG_SIZE(cUnits) (48 + 1 * (cUnits))
#else
# define SUP_IOCTL_CALL_VMMR0_BIG_SIZE(cUnits) (44 + 1 * (cUnits))
#endif
#if SUPDRV_HOST_BITS == 64
# define SUP_IOCTL_TRACER_OPEN_SIZE_IN 40
#else
# define SUP_IOCTL_TRACER_OPEN_SIZE_IN 32
#endif
#define SUP_IOCTL_TRACER_OPEN_SIZE_OUT 24
#if SUPDRV_HOST_BITS == 64
# define SUP_IOCTL_TRACER_OPEN_SIZE 40
#else
# define SUP_IOCTL_TRACER_OPEN_SIZE 32
#endif
#define SUP_IOCTL_TRACER_CLOSE_SIZE_IN 24
#define SUP_IOCTL_TRACER_CLOSE_SIZE_OUT 24
#define SUP_IOCTL_TRACER_CLOSE_SIZE 24
#if SUPDRV_HOST_BITS == 64
# define SUP_IOCTL_TRACER_IOCTL_SIZE_IN 40
#else
# define SUP_IOCTL_TRACER_IOCTL_SIZE_IN 32
#endif
#define SUP_IOCTL_TRACER_IOCTL_SIZE_OUT 28
#if SUPDRV_HOST_BITS == 64
# define SUP_IOCTL_TRACER_IOCTL_SIZE 40
#else
# define SUP_IOCTL_TRACER_IOCTL_SIZE 32
#endif
#if SUPDRV_HOST_BITS == 64
# define SUP_IOCTL_TRACER_UMOD_REG_SIZE_IN 120
#else
# define SUP_IOCTL_TRACER_UMOD_REG_SIZE_IN 112
#endif
#define SUP_IOCTL_TRACER_UMOD_REG_SIZE_OUT 24
#if SUPDRV_HOST_BITS == 64
# define SUP_IOCTL_TRACER_UMOD_REG_SIZE 120
#else
# define SUP_IOCTL_TRACER_UMOD_REG_SIZE 112
#endif
#if SUPDRV_HOST_BITS == 64
# define SUP_IOCTL_TRACER_UMOD_DEREG_SIZE_IN 32
#else
# define SUP_IOCTL_TRACER_UMOD_DEREG_SIZE_IN 28
#endif
#define SUP_IOCTL_TRACER_UMOD_DEREG_SIZE_OUT 24
#if SUPDRV_HOST_BITS == 64
# define SUP_IOCTL_TRACER_UMOD_DEREG_SIZE 32
#else
# define SUP_IOCTL_TRACER_UMOD_DEREG_SIZE 28
#endif
#define SUP_IOCTL_TRACER_UMOD_FIRE_PROBE_SIZE_IN 264
#define SUP_IOCTL_TRACER_UMOD_FIRE_PROBE_SIZE_OUT 24
#define SUP_IOCTL_TRACER_UMOD_FIRE_PROBE_SIZE 264
#define SUP_IOCTL_MSR_PROBER_SIZE_IN 64
#define SUP_IOCTL_MSR_PROBER_SIZE_OUT 64
#define SUP_IOCTL_MSR_PROBER_SIZE 64
#define SUP_IOCTL_RESUME_SUSPENDED_KBDS_SIZE_IN 24
#define SUP_IOCTL_RESUME_SUSPENDED_KBDS_SIZE_OUT 24
#define SUP_IOCTL_RESUME_SUSPENDED_KBDS_SIZE 24

#if defined(RT_OS_WINDOWS)
# define SUP_CTL_CODE_SIZE(Function, Size) ((0x22U << 16) | (2U << 14) | (((Function) | SUP_IOCTL_FLAG) << 2))
# define SUP_CTL_CODE_BIG(Function)        SUP_CTL_CODE_SIZE(Function, 0)
# define SUP_CTL_CODE_FAST(Function)       (SUP_CTL_CODE_SIZE(Function, 0) | 3U)
# define SUP_CTL_CODE_NO_SIZE(uIOCtl)      (uIOCtl)
# define SUP_IDC_CODE(Function)            ((0x22U << 16) | (2U << 14) | (((Function) + 2542U) << 2))
#elif defined(RT_OS_SOLARIS)
# define SUP_CTL_CODE_SIZE(Function, Size) (0xc0185600U | (Function) | SUP_IOCTL_FLAG)
# define SUP_CTL_CODE_BIG(Function)        SUP_CTL_CODE_SIZE(Function, 0)
# define SUP_CTL_CODE_FAST(Function)       (0x20005600U | (Function) | SUP_IOCTL_FLAG)
# define SUP_CTL_CODE_NO_SIZE(uIOCtl)      (uIOCtl)
# define SUP_IDC_CODE(Function)            (0xc0ffee00U | (Function))
#elif defined(RT_OS_OS2)
# define SUP_CTL_CODE_SIZE(Function, Size) ((unsigned)(Function))
# define SUP_CTL_CODE_BIG(Function)        ((unsigned)(Function))
# define SUP_CTL_CODE_FAST(Function)       ((unsigned)(Function))
# define SUP_CTL_CODE_NO_SIZE(uIOCtl)      (uIOCtl)
# define SUP_IDC_CODE(Function)            (0xc0ffee00U | (Function))
#elif defined(RT_OS_DARWIN) || defined(RT_OS_FREEBSD)
# define SUP_CTL_CODE_SIZE(Function, Size) (0xc0005600U | (((unsigned)(Size)) << 16) | (Function) | SUP_IOCTL_FLAG)
# define SUP_CTL_CODE_BIG(Function)        (0x20005600U | (Function) | SUP_IOCTL_FLAG)
# define SUP_CTL_CODE_FAST(Function)       (0x20005600U | (Function) | SUP_IOCTL_FLAG)
# define SUP_CTL_CODE_NO_SIZE(uIOCtl)      ((uIOCtl) & ~0x1fff0000U)
# define SUP_IDC_CODE(Function)            (0xc0ffee00U | (Function))
#else
# define SUP_CTL_CODE_SIZE(Function, Size) (0xc0005600U | (((unsigned)(Size)) << 16) | (Function) | SUP_IOCTL_FLAG)
# define SUP_CTL_CODE_BIG(Function)        (0x5600U | (Function) | SUP_IOCTL_FLAG)
# define SUP_CTL_CODE_FAST(Function)       (0x5600U | (Function) | SUP_IOCTL_FLAG)
# define SUP_CTL_CODE_NO_SIZE(uIOCtl)      ((uIOCtl) & ~0x3fff0000U)
# define SUP_IDC_CODE(Function)            (0xc0ffee00U | (Function))
#endif

#define SUP_IOCTL_COOKIE SUP_CTL_CODE_SIZE(1, SUP_IOCTL_COOKIE_SIZE)
#define SUP_IOCTL_QUERY_FUNCS SUP_CTL_CODE_BIG(2)
#define SUP_IOCTL_LDR_OPEN SUP_CTL_CODE_SIZE(3, SUP_IOCTL_LDR_OPEN_SIZE)
#define SUP_IOCTL_LDR_LOAD SUP_CTL_CODE_BIG(4)
#define SUP_IOCTL_LDR_FREE SUP_CTL_CODE_SIZE(5, SUP_IOCTL_LDR_FREE_SIZE)
#define SUP_IOCTL_LDR_GET_SYMBOL SUP_CTL_CODE_SIZE(6, SUP_IOCTL_LDR_GET_SYMBOL_SIZE)
#define SUP_IOCTL_CALL_VMMR0(cUnits) SUP_CTL_CODE_SIZE(7, SUP_IOCTL_CALL_VMMR0_SIZE(cUnits))
#define SUP_IOCTL_LOW_ALLOC SUP_CTL_CODE_BIG(8)
#define SUP_IOCTL_LOW_FREE SUP_CTL_CODE_SIZE(9, SUP_IOCTL_LOW_FREE_SIZE)
#define SUP_IOCTL_PAGE_ALLOC_EX SUP_CTL_CODE_BIG(10)
#define SUP_IOCTL_PAGE_MAP_KERNEL SUP_CTL_CODE_SIZE(11, SUP_IOCTL_PAGE_MAP_KERNEL_SIZE)
#define SUP_IOCTL_PAGE_PROTECT SUP_CTL_CODE_SIZE(12, SUP_IOCTL_PAGE_PROTECT_SIZE)
#define SUP_IOCTL_PAGE_FREE SUP_CTL_CODE_SIZE(13, SUP_IOCTL_PAGE_FREE_SIZE)
#define SUP_IOCTL_PAGE_LOCK SUP_CTL_CODE_BIG(14)
#define SUP_IOCTL_PAGE_UNLOCK SUP_CTL_CODE_SIZE(15, SUP_IOCTL_PAGE_UNLOCK_SIZE)
#define SUP_IOCTL_CONT_ALLOC SUP_CTL_CODE_SIZE(16, SUP_IOCTL_CONT_ALLOC_SIZE)
#define SUP_IOCTL_CONT_FREE SUP_CTL_CODE_SIZE(17, SUP_IOCTL_CONT_FREE_SIZE)
#define SUP_IOCTL_GET_PAGING_MODE SUP_CTL_CODE_SIZE(18, SUP_IOCTL_GET_PAGING_MODE_SIZE)
#define SUP_IOCTL_SET_VM_FOR_FAST SUP_CTL_CODE_SIZE(19, SUP_IOCTL_SET_VM_FOR_FAST_SIZE)
#define SUP_IOCTL_GIP_MAP SUP_CTL_CODE_SIZE(20, SUP_IOCTL_GIP_MAP_SIZE)
#define SUP_IOCTL_GIP_UNMAP SUP_CTL_CODE_SIZE(21, SUP_IOCTL_GIP_UNMAP_SIZE)
#define SUP_IOCTL_CALL_SERVICE(cUnits) SUP_CTL_CODE_SIZE(22, SUP_IOCTL_CALL_SERVICE_SIZE(cUnits))
#define SUP_IOCTL_LOGGER_SETTINGS(cUnits) SUP_CTL_CODE_SIZE(23, SUP_IOCTL_LOGGER_SETTINGS_SIZE(cUnits))
#define SUP_IOCTL_SEM_OP2 SUP_CTL_CODE_SIZE(24, SUP_IOCTL_SEM_OP2_SIZE)
#define SUP_IOCTL_SEM_OP3 SUP_CTL_CODE_SIZE(25, SUP_IOCTL_SEM_OP3_SIZE)
#define SUP_IOCTL_VT_CAPS SUP_CTL_CODE_SIZE(26, SUP_IOCTL_VT_CAPS_SIZE)
#define SUP_IOCTL_CALL_VMMR0_BIG SUP_CTL_CODE_BIG(27)
#define SUP_IOCTL_TRACER_OPEN SUP_CTL_CODE_SIZE(28, SUP_IOCTL_TRACER_OPEN_SIZE)
#define SUP_IOCTL_TRACER_CLOSE SUP_CTL_CODE_SIZE(29, SUP_IOCTL_TRACER_CLOSE_SIZE)
#define SUP_IOCTL_TRACER_IOCTL SUP_CTL_CODE_SIZE(30, SUP_IOCTL_TRACER_IOCTL_SIZE)
#define SUP_IOCTL_TRACER_UMOD_REG SUP_CTL_CODE_SIZE(31, SUP_IOCTL_TRACER_UMOD_REG_SIZE)
#define SUP_IOCTL_TRACER_UMOD_DEREG SUP_CTL_CODE_SIZE(32, SUP_IOCTL_TRACER_UMOD_DEREG_SIZE)
#define SUP_IOCTL_TRACER_UMOD_FIRE_PROBE SUP_CTL_CODE_SIZE(33, SUP_IOCTL_TRACER_UMOD_FIRE_PROBE_SIZE)
#define SUP_IOCTL_MSR_PROBER SUP_CTL_CODE_SIZE(34, SUP_IOCTL_MSR_PROBER_SIZE)
#define SUP_IOCTL_RESUME_SUSPENDED_KBDS SUP_CTL_CODE_SIZE(35, SUP_IOCTL_RESUME_SUSPENDED_KBDS_SIZE)
#define SUP_IOCTL_FAST_DO_RAW_RUN SUP_CTL_CODE_FAST(64)
#define SUP_IOCTL_FAST_DO_HM_RUN SUP_CTL_CODE_FAST(65)
#define SUP_IOCTL_FAST_DO_NOP SUP_CTL_CODE_FAST(66)
#define SUP_IOCTL_FAST_DO_HWACC_RUN SUP_IOCTL_FAST_DO_HM_RUN
#define SUPDRV_IDC_REQ_CONNECT SUP_IDC_CODE(1)
#define SUPDRV_IDC_REQ_DISCONNECT SUP_IDC_CODE(2)
#define SUPDRV_IDC_REQ_GET_SYMBOL SUP_IDC_CODE(3)
#define SUPDRV_IDC_REQ_COMPONENT_REGISTER_FACTORY SUP_IDC_CODE(10)
#define SUPDRV_IDC_REQ_COMPONENT_DEREGISTER_FACTORY SUP_IDC_CODE(11)

/*
 * Entry points of the core.
 *
 * Context: T = an ordinary thread, may block; I = anywhere, also with interrupts off.
 */
/* T: builds the driver around zeroed storage that stays where it is; cbSession is the size of a session with the system's members. */
int      VBOXCALL supdrvInitDevExt(SUPDRVDEVEXT *pDevExt, size_t cbSession);
/* T: no session may exist. */
void     VBOXCALL supdrvDeleteDevExt(SUPDRVDEVEXT *pDevExt);
/* T: in the context of the opener; *ppSession is NULL on failure. */
int      VBOXCALL supdrvCreateSession(SUPDRVDEVEXT *pDevExt, bool fUser, bool fUnrestricted, SUPDRVSESSION **ppSession);
/* I: the new number of references, UINT32_MAX for something else than a session. */
uint32_t VBOXCALL supdrvSessionRetain(SUPDRVSESSION *pSession);
/* T if it may be the last reference, else I. */
uint32_t VBOXCALL supdrvSessionRelease(SUPDRVSESSION *pSession);
/* T: the buffer is as large as the larger of cbIn and cbOut in the header, which the caller has checked. */
int      VBOXCALL supdrvIOCtl(uintptr_t uIOCtl, SUPDRVDEVEXT *pDevExt, SUPDRVSESSION *pSession, SUPREQHDR *pReqHdr);
/* T: the same with the true size of the buffer. */
int      VBOXCALL supdrvIOCtlSized(uintptr_t uIOCtl, SUPDRVDEVEXT *pDevExt, SUPDRVSESSION *pSession, SUPREQHDR *pReqHdr, size_t cbReq);
/* T: for unrestricted sessions; the result is the status. */
int      VBOXCALL supdrvIOCtlFast(uintptr_t uIOCtl, VMCPUID idCpu, SUPDRVDEVEXT *pDevExt, SUPDRVSESSION *pSession);
/* T: pSession is NULL for CONNECT. */
int      VBOXCALL supdrvIDC(uintptr_t uIOCtl, SUPDRVDEVEXT *pDevExt, SUPDRVSESSION *pSession, SUPDRVIDCREQHDR *pReqHdr);

/* Tracepoints. supdrvInitDevExt and supdrvDeleteDevExt start and stop them. T, but ...ProbeFire: I. */
int      VBOXCALL supdrvTracerInit(SUPDRVDEVEXT *pDevExt);
void     VBOXCALL supdrvTracerTerm(SUPDRVDEVEXT *pDevExt);
void     VBOXCALL supdrvTracerModuleUnloading(SUPDRVDEVEXT *pDevExt, SUPDRVLDRIMAGE *pImage);
void     VBOXCALL supdrvTracerCleanupSession(SUPDRVDEVEXT *pDevExt, SUPDRVSESSION *pSession);
int      VBOXCALL supdrvIOCtl_TracerUmodRegister(SUPDRVDEVEXT *pDevExt, SUPDRVSESSION *pSession, RTR3PTR R3PtrVtgHdr,
                                                 RTUINTPTR uVtgHdrAddr, RTR3PTR R3PtrStrTab, uint32_t cbStrTab,
                                                 const char *pszModName, uint32_t fFlags);
int      VBOXCALL supdrvIOCtl_TracerUmodDeregister(SUPDRVDEVEXT *pDevExt, SUPDRVSESSION *pSession, RTR3PTR R3PtrVtgHdr);
void     VBOXCALL supdrvIOCtl_TracerUmodProbeFire(SUPDRVDEVEXT *pDevExt, SUPDRVSESSION *pSession, SUPDRVTRACERUSRCTX *pCtx);
int      VBOXCALL supdrvIOCtl_TracerOpen(SUPDRVDEVEXT *pDevExt, SUPDRVSESSION *pSession, uint32_t uCookie, uintptr_t uArg);
int      VBOXCALL supdrvIOCtl_TracerClose(SUPDRVDEVEXT *pDevExt, SUPDRVSESSION *pSession);
int      VBOXCALL supdrvIOCtl_TracerIOCtl(SUPDRVDEVEXT *pDevExt, SUPDRVSESSION *pSession, uintptr_t uCmd, uintptr_t uArg,
                                          int32_t *piRetVal);
extern PFNRT g_pfnSupdrvProbeFireKernel;
void     VBOXCALL supdrvTracerProbeFireStub(void);

/*
 * Services of the core, for loaded modules and for the driver itself: its export table has these and the runtime's.
 */
#ifndef SUPDRV_WITH_RUNTIME_TYPES
typedef RTR0PTR  *PRTR0PTR;
typedef RTR3PTR  *PRTR3PTR;
typedef RTHCPHYS *PRTHCPHYS;
typedef uintptr_t RTHCUINTPTR;
#endif
typedef struct SUPSEMEVENTHANDLE *SUPSEMEVENT, **PSUPSEMEVENT;
typedef struct SUPSEMEVENTMULTIHANDLE *SUPSEMEVENTMULTI, **PSUPSEMEVENTMULTI;
extern SUPGLOBALINFOPAGE *g_pSUPGlobalInfoPage;
SUPGLOBALINFOPAGE *VBOXCALL SUPGetGIP(void);
int VBOXCALL SUPR0ComponentDeregisterFactory(SUPDRVSESSION *pSession, const SUPDRVFACTORY *pFactory);
int VBOXCALL SUPR0ComponentQueryFactory(SUPDRVSESSION *pSession, const char *pszName, const char *pszInterfaceUuid, void **ppvFactoryIf);
int VBOXCALL SUPR0ComponentRegisterFactory(SUPDRVSESSION *pSession, const SUPDRVFACTORY *pFactory);
int VBOXCALL SUPR0ContAlloc(SUPDRVSESSION *pSession, uint32_t cPages, PRTR0PTR ppvR0, PRTR3PTR ppvR3, PRTHCPHYS pHCPhys);
int VBOXCALL SUPR0ContFree(SUPDRVSESSION *pSession, RTHCUINTPTR uPtr);
int VBOXCALL SUPR0EnableVTx(bool fEnable);
bool VBOXCALL SUPR0SuspendVTxOnCpu(void);
void VBOXCALL SUPR0ResumeVTxOnCpu(bool fSuspended);
SUPPAGINGMODE VBOXCALL SUPR0GetPagingMode(void);
int VBOXCALL SUPR0LockMem(SUPDRVSESSION *pSession, RTR3PTR pvR3, uint32_t cPages, PRTHCPHYS paPages);
int VBOXCALL SUPR0LowAlloc(SUPDRVSESSION *pSession, uint32_t cPages, PRTR0PTR ppvR0, PRTR3PTR ppvR3, PRTHCPHYS paPages);
int VBOXCALL SUPR0LowFree(SUPDRVSESSION *pSession, RTHCUINTPTR uPtr);
int VBOXCALL SUPR0MemAlloc(SUPDRVSESSION *pSession, uint32_t cb, PRTR0PTR ppvR0, PRTR3PTR ppvR3);
int VBOXCALL SUPR0MemFree(SUPDRVSESSION *pSession, RTHCUINTPTR uPtr);
int VBOXCALL SUPR0MemGetPhys(SUPDRVSESSION *pSession, RTHCUINTPTR uPtr, SUPPAGE *paPages);
int VBOXCALL SUPR0ObjAddRef(void *pvObj, SUPDRVSESSION *pSession);
int VBOXCALL SUPR0ObjAddRefEx(void *pvObj, SUPDRVSESSION *pSession, bool fNoBlocking);
void *VBOXCALL SUPR0ObjRegister(SUPDRVSESSION *pSession, SUPDRVOBJTYPE enmType, PFNSUPDRVDESTRUCTOR pfnDestructor, void *pvUser1, void *pvUser2);
int VBOXCALL SUPR0ObjRelease(void *pvObj, SUPDRVSESSION *pSession);
int VBOXCALL SUPR0ObjVerifyAccess(void *pvObj, SUPDRVSESSION *pSession, const char *pszObjName);
int VBOXCALL SUPR0PageAllocEx(SUPDRVSESSION *pSession, uint32_t cPages, uint32_t fFlags, PRTR3PTR ppvR3, PRTR0PTR ppvR0, PRTHCPHYS paPages);
int VBOXCALL SUPR0PageFree(SUPDRVSESSION *pSession, RTR3PTR pvR3);
void VBOXCALL SUPR0TracerDeregisterDrv(SUPDRVSESSION *pSession);
int VBOXCALL SUPR0TracerDeregisterImpl(void *hMod, SUPDRVSESSION *pSession);
void VBOXCALL SUPR0TracerFireProbe(VTGPROBELOC *pVtgProbeLoc, uintptr_t uArg0, uintptr_t uArg1, uintptr_t uArg2, uintptr_t uArg3, uintptr_t uArg4);
int VBOXCALL SUPR0TracerRegisterDrv(SUPDRVSESSION *pSession, VTGOBJHDR *pVtgHdr, const char *pszName);
int VBOXCALL SUPR0TracerRegisterImpl(void *hMod, SUPDRVSESSION *pSession, const SUPDRVTRACERREG *pReg, const SUPDRVTRACERHLP **ppHlp);
int VBOXCALL SUPR0TracerRegisterModule(void *hMod, VTGOBJHDR *pVtgHdr);
void VBOXCALL SUPR0TracerUmodProbeFire(SUPDRVSESSION *pSession, SUPDRVTRACERUSRCTX *pCtx);
int VBOXCALL SUPR0UnlockMem(SUPDRVSESSION *pSession, RTR3PTR pvR3);
int VBOXCALL SUPSemEventClose(SUPDRVSESSION *pSession, SUPSEMEVENT hEvent);
int VBOXCALL SUPSemEventCreate(SUPDRVSESSION *pSession, PSUPSEMEVENT phEvent);
uint32_t VBOXCALL SUPSemEventGetResolution(SUPDRVSESSION *pSession);
int VBOXCALL SUPSemEventMultiClose(SUPDRVSESSION *pSession, SUPSEMEVENTMULTI hEventMulti);
int VBOXCALL SUPSemEventMultiCreate(SUPDRVSESSION *pSession, PSUPSEMEVENTMULTI phEventMulti);
uint32_t VBOXCALL SUPSemEventMultiGetResolution(SUPDRVSESSION *pSession);
int VBOXCALL SUPSemEventMultiReset(SUPDRVSESSION *pSession, SUPSEMEVENTMULTI hEventMulti);
int VBOXCALL SUPSemEventMultiSignal(SUPDRVSESSION *pSession, SUPSEMEVENTMULTI hEventMulti);
int VBOXCALL SUPSemEventMultiWait(SUPDRVSESSION *pSession, SUPSEMEVENTMULTI hEventMulti, uint32_t cMillies);
int VBOXCALL SUPSemEventMultiWaitNoResume(SUPDRVSESSION *pSession, SUPSEMEVENTMULTI hEventMulti, uint32_t cMillies);
int VBOXCALL SUPSemEventMultiWaitNsAbsIntr(SUPDRVSESSION *pSession, SUPSEMEVENTMULTI hEventMulti, uint64_t uNsTimeout);
int VBOXCALL SUPSemEventMultiWaitNsRelIntr(SUPDRVSESSION *pSession, SUPSEMEVENTMULTI hEventMulti, uint64_t cNsTimeout);
int VBOXCALL SUPSemEventSignal(SUPDRVSESSION *pSession, SUPSEMEVENT hEvent);
int VBOXCALL SUPSemEventWait(SUPDRVSESSION *pSession, SUPSEMEVENT hEvent, uint32_t cMillies);
int VBOXCALL SUPSemEventWaitNoResume(SUPDRVSESSION *pSession, SUPSEMEVENT hEvent, uint32_t cMillies);
int VBOXCALL SUPSemEventWaitNsAbsIntr(SUPDRVSESSION *pSession, SUPSEMEVENT hEvent, uint64_t uNsTimeout);
int VBOXCALL SUPSemEventWaitNsRelIntr(SUPDRVSESSION *pSession, SUPSEMEVENT hEvent, uint64_t cNsTimeout);

/*
 * Hooks that the driver provides. All are called in context T, except the last two of VT-x: I. The loader's are called with its mutex held.
 */
void VBOXCALL supdrvOSObjInitCreator(SUPDRVOBJ *pObj, SUPDRVSESSION *pSession);
/* true: decided, *prc is the answer; false: the default policy decides. */
bool VBOXCALL supdrvOSObjCanAccess(SUPDRVOBJ *pObj, SUPDRVSESSION *pSession, const char *pszObjName, int *prc);
bool VBOXCALL supdrvOSGetForcedAsyncTscMode(SUPDRVDEVEXT *pDevExt);
int  VBOXCALL supdrvOSEnableVTx(bool fEnabled);
bool VBOXCALL supdrvOSSuspendVTxOnCpu(void);
void VBOXCALL supdrvOSResumeVTxOnCpu(bool fSuspended);
/* VERR_NOT_SUPPORTED: the core places the image. Success: pImage->pvImage is set, pvImageAlloc may be. */
int  VBOXCALL supdrvOSLdrOpen(SUPDRVDEVEXT *pDevExt, SUPDRVLDRIMAGE *pImage, const char *pszFilename);
void VBOXCALL supdrvOSLdrNotifyOpened(SUPDRVDEVEXT *pDevExt, SUPDRVLDRIMAGE *pImage);
int  VBOXCALL supdrvOSLdrValidatePointer(SUPDRVDEVEXT *pDevExt, SUPDRVLDRIMAGE *pImage, void *pv, const uint8_t *pbImageBits);
/* May correct pfnModuleInit, pfnModuleTerm and symbols of the image, and the entry points in the request, whose abImage isn't there. */
int  VBOXCALL supdrvOSLdrLoad(SUPDRVDEVEXT *pDevExt, SUPDRVLDRIMAGE *pImage, const uint8_t *pbImageBits, SUPLDRLOAD *pReq);
void VBOXCALL supdrvOSLdrUnload(SUPDRVDEVEXT *pDevExt, SUPDRVLDRIMAGE *pImage);
#ifdef RT_OS_DARWIN
int  VBOXCALL supdrvDarwinResumeSuspendedKbds(void);
#endif

#ifdef __cplusplus
}
#endif

#endif /* SUPDRV_H */
