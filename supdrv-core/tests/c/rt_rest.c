/* SPDX-License-Identifier: GPL-2.0-only OR CDDL-1.0 */
/*
 * The rest of the runtime: what modules may import and the core doesn't call, except for five small ones. Its addresses must be in the
 * export table; whoever calls one here stops the program, by its name.
 */
#include "runtime.h"

#include <stdlib.h>
#include <time.h>

int64_t *RTTimeNow(int64_t *pTime);
int64_t *RTTimeNow(int64_t *pTime)
{
    struct timespec Ts;
    clock_gettime(CLOCK_REALTIME, &Ts);
    *pTime = (int64_t)Ts.tv_sec * 1000000000 + Ts.tv_nsec;
    return pTime;
}

bool RTThreadPreemptIsEnabled(void *hThread);
bool RTThreadPreemptIsEnabled(void *hThread)
{
    return !hThread && rtMayBlock();
}

bool RTThreadIsInInterrupt(void *hThread);
bool RTThreadIsInInterrupt(void *hThread)
{
    return hThread != NULL;
}

void RTR0AssertPanicSystem(void);
void RTR0AssertPanicSystem(void)
{
    rtPanic("RTR0AssertPanicSystem", __FILE__, __LINE__);
}

unsigned volatile g_cRtLoggerResets;

int RTLogSetDefaultInstanceThread(void *pLogger, uintptr_t uKey);
int RTLogSetDefaultInstanceThread(void *pLogger, uintptr_t uKey)
{
    RT_CHECK(!pLogger && uKey);
    __sync_add_and_fetch(&g_cRtLoggerResets, 1);
    return VINF_SUCCESS;
}

#define RT_ABSENT(Name) \
    void Name(void); \
    void Name(void) { rtPanic("nobody should call " #Name, __FILE__, __LINE__); } \
    extern int g_rtAbsent##Name

RT_ABSENT(RTAssertAreQuiet);
RT_ABSENT(RTAssertMayPanic);
RT_ABSENT(RTAssertMsg1);
RT_ABSENT(RTAssertMsg2AddV);
RT_ABSENT(RTAssertMsg2V);
RT_ABSENT(RTAssertSetMayPanic);
RT_ABSENT(RTAssertSetQuiet);
RT_ABSENT(RTCrc32);
RT_ABSENT(RTCrc32Finish);
RT_ABSENT(RTCrc32Process);
RT_ABSENT(RTCrc32Start);
RT_ABSENT(RTErrConvertFromErrno);
RT_ABSENT(RTErrConvertToErrno);
RT_ABSENT(RTHandleTableAllocWithCtx);
RT_ABSENT(RTHandleTableCreate);
RT_ABSENT(RTHandleTableCreateEx);
RT_ABSENT(RTHandleTableDestroy);
RT_ABSENT(RTHandleTableFreeWithCtx);
RT_ABSENT(RTHandleTableLookupWithCtx);
RT_ABSENT(RTLogDefaultInstance);
RT_ABSENT(RTLogLoggerExV);
RT_ABSENT(RTLogPrintfV);
RT_ABSENT(RTLogRelDefaultInstance);
RT_ABSENT(RTMemAllocExTag);
RT_ABSENT(RTMemAllocVarTag);
RT_ABSENT(RTMemAllocZVarTag);
RT_ABSENT(RTMemDupExTag);
RT_ABSENT(RTMemDupTag);
RT_ABSENT(RTMemFreeEx);
RT_ABSENT(RTMemReallocTag);
RT_ABSENT(RTMpGetCount);
RT_ABSENT(RTMpGetOnlineCount);
RT_ABSENT(RTMpIsCpuOnline);
RT_ABSENT(RTMpIsCpuPossible);
RT_ABSENT(RTMpIsCpuWorkPending);
RT_ABSENT(RTMpOnOthers);
RT_ABSENT(RTMpPokeCpu);
RT_ABSENT(RTNetIPv4AddDataChecksum);
RT_ABSENT(RTNetIPv4AddTCPChecksum);
RT_ABSENT(RTNetIPv4AddUDPChecksum);
RT_ABSENT(RTNetIPv4FinalizeChecksum);
RT_ABSENT(RTNetIPv4HdrChecksum);
RT_ABSENT(RTNetIPv4IsDHCPValid);
RT_ABSENT(RTNetIPv4IsHdrValid);
RT_ABSENT(RTNetIPv4IsTCPSizeValid);
RT_ABSENT(RTNetIPv4IsTCPValid);
RT_ABSENT(RTNetIPv4IsUDPSizeValid);
RT_ABSENT(RTNetIPv4IsUDPValid);
RT_ABSENT(RTNetIPv4PseudoChecksum);
RT_ABSENT(RTNetIPv4PseudoChecksumBits);
RT_ABSENT(RTNetIPv4TCPChecksum);
RT_ABSENT(RTNetIPv4UDPChecksum);
RT_ABSENT(RTNetIPv6PseudoChecksum);
RT_ABSENT(RTNetIPv6PseudoChecksumBits);
RT_ABSENT(RTNetIPv6PseudoChecksumEx);
RT_ABSENT(RTNetTCPChecksum);
RT_ABSENT(RTNetUDPChecksum);
RT_ABSENT(RTPowerNotificationDeregister);
RT_ABSENT(RTPowerNotificationRegister);
RT_ABSENT(RTR0MemAreKrnlAndUsrDifferent);
RT_ABSENT(RTR0MemKernelIsValidAddr);
RT_ABSENT(RTR0MemKernelCopyFrom);
RT_ABSENT(RTR0MemKernelCopyTo);
RT_ABSENT(RTR0MemObjAllocPhysExTag);
RT_ABSENT(RTR0MemObjAllocPhysTag);
RT_ABSENT(RTR0MemObjEnterPhysTag);
RT_ABSENT(RTR0MemObjIsMapping);
RT_ABSENT(RTR0MemUserIsValidAddr);
RT_ABSENT(RTSemEventMultiGetResolution);
RT_ABSENT(RTSemEventMultiWait);
RT_ABSENT(RTSemEventMultiWaitExDebug);
RT_ABSENT(RTSemEventMultiWaitNoResume);
RT_ABSENT(RTSemEventWait);
RT_ABSENT(RTSemEventWaitExDebug);
RT_ABSENT(RTSemEventWaitNoResume);
RT_ABSENT(RTSemMutexCreate);
RT_ABSENT(RTSemMutexDestroy);
RT_ABSENT(RTSemMutexRelease);
RT_ABSENT(RTSemMutexRequest);
RT_ABSENT(RTSemMutexRequestDebug);
RT_ABSENT(RTSemMutexRequestNoResume);
RT_ABSENT(RTSemMutexRequestNoResumeDebug);
RT_ABSENT(RTSpinlockReleaseNoInts);
RT_ABSENT(RTStrCopy);
RT_ABSENT(RTStrDupTag);
RT_ABSENT(RTStrFormat);
RT_ABSENT(RTStrFormatNumber);
RT_ABSENT(RTStrFormatTypeDeregister);
RT_ABSENT(RTStrFormatTypeRegister);
RT_ABSENT(RTStrFormatTypeSetUser);
RT_ABSENT(RTStrFormatV);
RT_ABSENT(RTStrFree);
RT_ABSENT(RTStrNCmp);
RT_ABSENT(RTStrPrintf);
RT_ABSENT(RTStrPrintfEx);
RT_ABSENT(RTStrPrintfExV);
RT_ABSENT(RTStrPrintfV);
RT_ABSENT(RTThreadCreate);
RT_ABSENT(RTThreadCtxHooksAreRegistered);
RT_ABSENT(RTThreadCtxHooksCreate);
RT_ABSENT(RTThreadCtxHooksDeregister);
RT_ABSENT(RTThreadCtxHooksRegister);
RT_ABSENT(RTThreadCtxHooksRelease);
RT_ABSENT(RTThreadCtxHooksRetain);
RT_ABSENT(RTThreadGetName);
RT_ABSENT(RTThreadGetNative);
RT_ABSENT(RTThreadGetType);
RT_ABSENT(RTThreadPreemptIsPending);
RT_ABSENT(RTThreadPreemptIsPendingTrusty);
RT_ABSENT(RTThreadPreemptIsPossible);
RT_ABSENT(RTThreadSelf);
RT_ABSENT(RTThreadSelfName);
RT_ABSENT(RTThreadUserReset);
RT_ABSENT(RTThreadUserSignal);
RT_ABSENT(RTThreadUserWait);
RT_ABSENT(RTThreadUserWaitNoResume);
RT_ABSENT(RTThreadWait);
RT_ABSENT(RTThreadWaitNoResume);
RT_ABSENT(RTThreadYield);
RT_ABSENT(RTTimeMilliTS);
RT_ABSENT(RTTimeNanoTS);
RT_ABSENT(RTTimerCanDoHighResolution);
RT_ABSENT(RTTimerChangeInterval);
RT_ABSENT(RTTimerCreate);
RT_ABSENT(RTTimeSystemMilliTS);
RT_ABSENT(RTUuidCompare);
RT_ABSENT(RTUuidCompareStr);
RT_ABSENT(RTUuidFromStr);
RT_ABSENT(RTUuidIsNull);
RT_ABSENT(RTAssertShouldPanic);
RT_ABSENT(RTAssertMsg1Weak);
RT_ABSENT(RTLogCreate);
RT_ABSENT(RTLogDestroy);
RT_ABSENT(RTLogFlags);
RT_ABSENT(RTLogGroupSettings);
RT_ABSENT(RTLogSetDefaultInstance);
RT_ABSENT(RTLogRelSetDefaultInstance);
