/* SPDX-License-Identifier: GPL-2.0-only OR CDDL-1.0 */
/*
 * A C runtime of the era in user mode: what libsupdrv_core.a asks its C drivers for, on pthreads and mmap.
 *
 * Pages are real: what "ring-3" writes at its address, "ring-0" reads at another one. CPUs, processes and physical addresses are
 * numbers that tests set. Every service checks that it may be called where it is: blocking ones stop the program when a spinlock is
 * held or preemption is off. Everything allocated is counted.
 */
#ifndef SUPDRV_TEST_RUNTIME_H
#define SUPDRV_TEST_RUNTIME_H

#include "supdrv.h"

/* What exists now. */
typedef struct RTCOUNTS
{
    int heap, exec, memobjs, mappings, spinlocks, mutexes, events, timers, notifications;
} RTCOUNTS;

extern RTCOUNTS g_rtCounts;
bool rtNothingLeft(void);

/* Stops the program, saying why. */
void rtPanic(const char *pszWhat, const char *pszFile, int iLine) __attribute__((__noreturn__));
#define RT_CHECK(expr) do { if (!(expr)) rtPanic(#expr, __FILE__, __LINE__); } while (0)

/* Context of the calling thread. */
typedef struct RTTHREADSTATE
{
    RTCPUID     idCpu;
    RTPROCESS   idProcess;
    RTR0PROCESS hProcess;
    unsigned    cPreemptDisabled;
    unsigned    cSpinlocks;
    unsigned    cIrqSpinlocks;
    volatile bool fInterrupt;   /* the next interruptible wait ends */
} RTTHREADSTATE;

RTTHREADSTATE *rtSelf(void);
/* Whether the thread may block: RT_CHECK(rtMayBlock()). */
bool rtMayBlock(void);

/* What tests set. */
#define RT_TEST_CPUS 4
extern volatile int g_iRtFailNext;     /* > 0: the n-th fallible call from now fails; counts down */
bool rtFail(void);
void rtSetCpuOnline(RTCPUID idCpu, bool fOnline);
extern unsigned volatile g_cRtLoggerResets;
extern bool g_fRtQuiet;
extern char g_szRtLastPrint[1024];

/* Lets ring-0 instructions run in user mode: reads of control registers and MSRs, cli, sti. */
void rtArchInit(void);
extern uint64_t g_uRtMsrFeatureControl;
/* What that amounts to; with PAE nobody tells about NX. */
#define RT_TEST_PAGING_MODE (SUPDRV_HOST_BITS == 64 ? SUPPAGINGMODE_AMD64_GLOBAL_NX : SUPPAGINGMODE_PAE_GLOBAL)

/* The services, as far as the shell and the tests call them themselves. */
void    *RTMemAllocTag(size_t cb, const char *pszTag);
void    *RTMemAllocZTag(size_t cb, const char *pszTag);
void     RTMemFree(void *pv);
void    *RTMemExecAllocTag(size_t cb, const char *pszTag);
void     RTMemExecFree(void *pv, size_t cb);
int      RTSpinlockCreate(RTSPINLOCK *phSpinlock, uint32_t fFlags, const char *pszName);
int      RTSpinlockDestroy(RTSPINLOCK hSpinlock);
void     RTSpinlockAcquire(RTSPINLOCK hSpinlock);
void     RTSpinlockRelease(RTSPINLOCK hSpinlock);
int      RTSemFastMutexCreate(RTSEMFASTMUTEX *phMutex);
int      RTSemFastMutexDestroy(RTSEMFASTMUTEX hMutex);
int      RTSemFastMutexRequest(RTSEMFASTMUTEX hMutex);
int      RTSemFastMutexRelease(RTSEMFASTMUTEX hMutex);
typedef struct RTSEMEVENTINTERNAL *RTSEMEVENT;
typedef struct RTSEMEVENTINTERNAL *RTSEMEVENTMULTI;
int      RTSemEventCreate(RTSEMEVENT *phEvent);
int      RTSemEventDestroy(RTSEMEVENT hEvent);
int      RTSemEventSignal(RTSEMEVENT hEvent);
int      RTSemEventWaitEx(RTSEMEVENT hEvent, uint32_t fFlags, uint64_t uTimeout);
uint32_t RTSemEventGetResolution(void);
int      RTSemEventMultiCreate(RTSEMEVENTMULTI *phEvent);
int      RTSemEventMultiDestroy(RTSEMEVENTMULTI hEvent);
int      RTSemEventMultiSignal(RTSEMEVENTMULTI hEvent);
int      RTSemEventMultiReset(RTSEMEVENTMULTI hEvent);
int      RTSemEventMultiWaitEx(RTSEMEVENTMULTI hEvent, uint32_t fFlags, uint64_t uTimeout);
int      RTR0MemObjAllocPageTag(RTR0MEMOBJ *ph, size_t cb, bool fExec, const char *pszTag);
int      RTR0MemObjAllocLowTag(RTR0MEMOBJ *ph, size_t cb, bool fExec, const char *pszTag);
int      RTR0MemObjAllocContTag(RTR0MEMOBJ *ph, size_t cb, bool fExec, const char *pszTag);
int      RTR0MemObjAllocPhysNCTag(RTR0MEMOBJ *ph, size_t cb, RTHCPHYS PhysHighest, const char *pszTag);
int      RTR0MemObjLockUserTag(RTR0MEMOBJ *ph, RTR3PTR R3Ptr, size_t cb, uint32_t fAccess, RTR0PROCESS hProcess, const char *pszTag);
int      RTR0MemObjMapKernelTag(RTR0MEMOBJ *ph, RTR0MEMOBJ hParent, void *pvFixed, size_t uAlign, unsigned fProt, const char *pszTag);
int      RTR0MemObjMapKernelExTag(RTR0MEMOBJ *ph, RTR0MEMOBJ hParent, void *pvFixed, size_t uAlign, unsigned fProt, size_t offSub,
                                  size_t cbSub, const char *pszTag);
int      RTR0MemObjMapUserTag(RTR0MEMOBJ *ph, RTR0MEMOBJ hParent, RTR3PTR R3Fixed, size_t uAlign, unsigned fProt,
                              RTR0PROCESS hProcess, const char *pszTag);
int      RTR0MemObjProtect(RTR0MEMOBJ hMemObj, size_t offSub, size_t cbSub, uint32_t fProt);
int      RTR0MemObjFree(RTR0MEMOBJ hMemObj, bool fFreeMappings);
void    *RTR0MemObjAddress(RTR0MEMOBJ hMemObj);
RTR3PTR  RTR0MemObjAddressR3(RTR0MEMOBJ hMemObj);
size_t   RTR0MemObjSize(RTR0MEMOBJ hMemObj);
RTHCPHYS RTR0MemObjGetPagePhysAddr(RTR0MEMOBJ hMemObj, size_t iPage);
int      RTR0MemUserCopyFrom(void *pvDst, RTR3PTR R3Src, size_t cb);
int      RTR0MemUserCopyTo(RTR3PTR R3Dst, const void *pvSrc, size_t cb);
uint64_t RTTimeSystemNanoTS(void);
int      RTThreadSleep(uint32_t cMillies);
typedef void (*PFNRTTIMER)(PRTTIMER pTimer, void *pvUser, uint64_t iTick);
int      RTTimerCreateEx(PRTTIMER *ppTimer, uint64_t cNsInterval, uint32_t fFlags, PFNRTTIMER pfnTimer, void *pvUser);
int      RTTimerDestroy(PRTTIMER pTimer);
int      RTTimerStart(PRTTIMER pTimer, uint64_t cNsFirst);
int      RTTimerStop(PRTTIMER pTimer);
uint32_t RTTimerGetSystemGranularity(void);
int      RTTimerRequestSystemGranularity(uint32_t cNsRequest, uint32_t *pcNsGranted);
int      RTTimerReleaseSystemGranularity(uint32_t cNsGranted);
RTCPUID  RTMpCpuId(void);
int      RTMpCpuIdToSetIndex(RTCPUID idCpu);
RTCPUID  RTMpCpuIdFromSetIndex(int iCpu);
RTCPUID  RTMpGetMaxCpuId(void);
uint32_t RTMpGetArraySize(void);
RTCPUID  RTMpGetPresentCount(void);
PRTCPUSET RTMpGetSet(PRTCPUSET pSet);
PRTCPUSET RTMpGetOnlineSet(PRTCPUSET pSet);
typedef void (*PFNRTMPWORKER)(RTCPUID idCpu, void *pvUser1, void *pvUser2);
int      RTMpOnAll(PFNRTMPWORKER pfnWorker, void *pvUser1, void *pvUser2);
int      RTMpOnSpecific(RTCPUID idCpu, PFNRTMPWORKER pfnWorker, void *pvUser1, void *pvUser2);
typedef void (*PFNRTMPNOTIFICATION)(uint32_t enmEvent, RTCPUID idCpu, void *pvUser);
int      RTMpNotificationRegister(PFNRTMPNOTIFICATION pfnCallback, void *pvUser);
int      RTMpNotificationDeregister(PFNRTMPNOTIFICATION pfnCallback, void *pvUser);
RTPROCESS RTProcSelf(void);
RTR0PROCESS RTR0ProcHandleSelf(void);
RTNATIVETHREAD RTThreadNativeSelf(void);
typedef struct RTTHREADPREEMPTSTATE
{
    RTCPUID  idCpu;
    uint32_t u32Reserved;
} RTTHREADPREEMPTSTATE;
void     RTThreadPreemptDisable(RTTHREADPREEMPTSTATE *pState);
void     RTThreadPreemptRestore(RTTHREADPREEMPTSTATE *pState);
int      SUPR0Printf(const char *pszFormat, ...);

#endif
