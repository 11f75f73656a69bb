//! The parts of the header that have no counterpart in Rust.

/// Up to the constants.
pub const PROLOGUE: &str = r#"/* SPDX-License-Identifier: GPL-2.0-only OR CDDL-1.0 */
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
"#;

/// Macros beside the constants.
pub const CONSTANTS: &str = r"
/* Whether a pointer is one to a live session or device extension; it must point to readable memory. */
#define SUP_IS_SESSION_VALID(pSession) ((pSession) != NULL && (pSession)->u32Cookie == BIRD_INV)
#define SUP_IS_DEVEXT_VALID(pDevExt)   ((pDevExt) != NULL && (pDevExt)->u32Cookie == BIRD)
";

/// Types of callbacks.
pub const CALLBACKS: &str = r"typedef RTLISTNODE RTLISTANCHOR;

/*
 * Callbacks.
 */
typedef int (*PFNR0MODULEINIT)(void *hMod);
typedef void (*PFNR0MODULETERM)(void *hMod);
typedef int (*PFNSUPR0SERVICEREQHANDLER)(SUPDRVSESSION *pSession, uint32_t uOperation, uint64_t u64Arg, SUPR0SERVICEREQHDR *pReqHdr);
typedef void (*PFNSUPDRVDESTRUCTOR)(void *pvObj, void *pvUser1, void *pvUser2);
";

/// How systems make function codes.
pub const ENCODINGS: &str = r"
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

";

/// Members of the systems at the end of a structure.
pub fn tail_of(name: &str) -> &'static str {
    match name {
        "SUPDRVSESSION" => {
            r"#ifndef SUPDRV_AGNOSTIC
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
"
        }
        "SUPDRVDEVEXT" => {
            r"#ifndef SUPDRV_AGNOSTIC
# ifdef RT_OS_WINDOWS
    void *pObjPowerCallback;
    void *hPowerCallback;
# endif
#endif
"
        }
        _ => "",
    }
}

/// Members of the systems before a member.
pub fn before(c_struct: &str, member: &str) -> &'static str {
    match (c_struct, member) {
        ("SUPDRVLDRIMAGE", "fNative") => {
            r"#ifdef RT_OS_WINDOWS
    void *pvNtSectionObj;
    RTR0MEMOBJ hMemLock;
#endif
#if defined(RT_OS_SOLARIS) && defined(VBOX_WITH_NATIVE_SOLARIS_LOADING)
    int idSolMod;
    struct modctl *pSolModCtl;
#endif
"
        }
        _ => "",
    }
}

/// The functions.
pub const FUNCTIONS: &str = r"
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
";
