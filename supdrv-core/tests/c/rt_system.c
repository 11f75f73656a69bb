/* SPDX-License-Identifier: GPL-2.0-only OR CDDL-1.0 */
/* Threads, processes, CPUs, the log. */
#define _GNU_SOURCE
#include "runtime.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

RTCOUNTS g_rtCounts;
volatile int g_iRtFailNext;
bool g_fRtQuiet;
char g_szRtLastPrint[1024];

static __thread RTTHREADSTATE t_Self;

void rtPanic(const char *pszWhat, const char *pszFile, int iLine)
{
    fprintf(stderr, "%s:%d: failed: %s\n", pszFile, iLine, pszWhat);
    abort();
}

bool rtNothingLeft(void)
{
    static RTCOUNTS const s_Nothing;
    return memcmp(&g_rtCounts, &s_Nothing, sizeof(s_Nothing)) == 0;
}

RTTHREADSTATE *rtSelf(void)
{
    if (!t_Self.idProcess)
    {
        t_Self.idProcess = (RTPROCESS)getpid();
        t_Self.hProcess  = (RTR0PROCESS)getpid();
    }
    return &t_Self;
}

bool rtMayBlock(void)
{
    RTTHREADSTATE *pSelf = rtSelf();
    return !pSelf->cPreemptDisabled && !pSelf->cSpinlocks;
}

bool rtFail(void)
{
    /* Whoever brings the counter to zero fails; below it nothing does. */
    return g_iRtFailNext > 0 && __sync_sub_and_fetch(&g_iRtFailNext, 1) == 0;
}

int SUPR0Printf(const char *pszFormat, ...)
{
    char szText[sizeof(g_szRtLastPrint)];
    va_list va;
    va_start(va, pszFormat);
    vsnprintf(szText, sizeof(szText), pszFormat, va);
    va_end(va);
    memcpy(g_szRtLastPrint, szText, sizeof(szText));
    if (!g_fRtQuiet)
        fputs(szText, stderr);
    return 0;
}

RTPROCESS RTProcSelf(void)
{
    return rtSelf()->idProcess;
}

RTR0PROCESS RTR0ProcHandleSelf(void)
{
    return rtSelf()->hProcess;
}

RTNATIVETHREAD RTThreadNativeSelf(void)
{
    return (RTNATIVETHREAD)pthread_self();
}

void RTThreadPreemptDisable(RTTHREADPREEMPTSTATE *pState)
{
    RT_CHECK(pState->idCpu == UINT32_MAX && pState->u32Reserved == 0);
    pState->idCpu = rtSelf()->idCpu;
    pState->u32Reserved = ++rtSelf()->cPreemptDisabled;
}

void RTThreadPreemptRestore(RTTHREADPREEMPTSTATE *pState)
{
    RT_CHECK(pState->idCpu == rtSelf()->idCpu);
    RT_CHECK(pState->u32Reserved == rtSelf()->cPreemptDisabled);
    rtSelf()->cPreemptDisabled--;
}

/*
 * CPUs: their ids are their set indices times two, so that nobody can take one for the other.
 */
static bool volatile g_afOffline[RT_TEST_CPUS];
static pthread_mutex_t g_MpMutex = PTHREAD_MUTEX_INITIALIZER;
static struct { PFNRTMPNOTIFICATION pfnCallback; void *pvUser; } g_aListeners[8];

RTCPUID RTMpCpuId(void)
{
    return rtSelf()->idCpu;
}

int RTMpCpuIdToSetIndex(RTCPUID idCpu)
{
    return idCpu % 2 == 0 && idCpu / 2 < RT_TEST_CPUS ? (int)(idCpu / 2) : -1;
}

RTCPUID RTMpCpuIdFromSetIndex(int iCpu)
{
    return iCpu >= 0 && iCpu < RT_TEST_CPUS ? (RTCPUID)iCpu * 2 : NIL_RTCPUID;
}

RTCPUID RTMpGetMaxCpuId(void)
{
    return (RT_TEST_CPUS - 1) * 2;
}

uint32_t RTMpGetArraySize(void)
{
    return RT_TEST_CPUS;
}

RTCPUID RTMpGetPresentCount(void)
{
    return RT_TEST_CPUS;
}

PRTCPUSET RTMpGetSet(PRTCPUSET pSet)
{
    memset(pSet, 0, sizeof(*pSet));
    pSet->bmSet[0] = (1U << RT_TEST_CPUS) - 1;
    return pSet;
}

PRTCPUSET RTMpGetOnlineSet(PRTCPUSET pSet)
{
    unsigned i;
    memset(pSet, 0, sizeof(*pSet));
    for (i = 0; i < RT_TEST_CPUS; i++)
        if (!g_afOffline[i])
            pSet->bmSet[0] |= UINT64_C(1) << i;
    return pSet;
}

/* Runs something as if on another CPU. */
static void rtOnCpu(RTCPUID idCpu, PFNRTMPWORKER pfnWorker, void *pvUser1, void *pvUser2)
{
    RTTHREADSTATE *pSelf = rtSelf();
    RTCPUID const idOld = pSelf->idCpu;
    pSelf->idCpu = idCpu;
    pSelf->cPreemptDisabled++;
    pfnWorker(idCpu, pvUser1, pvUser2);
    pSelf->cPreemptDisabled--;
    pSelf->idCpu = idOld;
}

int RTMpOnAll(PFNRTMPWORKER pfnWorker, void *pvUser1, void *pvUser2)
{
    unsigned i;
    RT_CHECK(rtMayBlock());
    if (rtFail())
        return VERR_NO_MEMORY;
    for (i = 0; i < RT_TEST_CPUS; i++)
        if (!g_afOffline[i])
            rtOnCpu(i * 2, pfnWorker, pvUser1, pvUser2);
    return VINF_SUCCESS;
}

int RTMpOnSpecific(RTCPUID idCpu, PFNRTMPWORKER pfnWorker, void *pvUser1, void *pvUser2)
{
    int const iCpu = RTMpCpuIdToSetIndex(idCpu);
    RT_CHECK(!rtSelf()->cSpinlocks);
    if (iCpu < 0)
        return VERR_CPU_NOT_FOUND;
    if (g_afOffline[iCpu])
        return VERR_CPU_OFFLINE;
    rtOnCpu(idCpu, pfnWorker, pvUser1, pvUser2);
    return VINF_SUCCESS;
}

int RTMpNotificationRegister(PFNRTMPNOTIFICATION pfnCallback, void *pvUser)
{
    unsigned i;
    RT_CHECK(rtMayBlock());
    if (rtFail())
        return VERR_NO_MEMORY;
    pthread_mutex_lock(&g_MpMutex);
    for (i = 0; i < 8 && g_aListeners[i].pfnCallback; i++)
        RT_CHECK(g_aListeners[i].pfnCallback != pfnCallback || g_aListeners[i].pvUser != pvUser);
    RT_CHECK(i < 8);
    g_aListeners[i].pfnCallback = pfnCallback;
    g_aListeners[i].pvUser = pvUser;
    g_rtCounts.notifications++;
    pthread_mutex_unlock(&g_MpMutex);
    return VINF_SUCCESS;
}

int RTMpNotificationDeregister(PFNRTMPNOTIFICATION pfnCallback, void *pvUser)
{
    unsigned i;
    int rc = VERR_NOT_FOUND;
    RT_CHECK(rtMayBlock());
    pthread_mutex_lock(&g_MpMutex);
    for (i = 0; i < 8; i++)
        if (g_aListeners[i].pfnCallback == pfnCallback && g_aListeners[i].pvUser == pvUser)
        {
            g_aListeners[i].pfnCallback = NULL;
            g_rtCounts.notifications--;
            rc = VINF_SUCCESS;
        }
    pthread_mutex_unlock(&g_MpMutex);
    return rc;
}

typedef struct RTMPEVENT
{
    uint32_t enmEvent;
    RTCPUID  idCpu;     /* which one it is about: who comes on-line tells so itself, who goes away may let others tell */
} RTMPEVENT;

static void rtNotify(RTCPUID idCpu, void *pvUser1, void *pvUser2)
{
    RTMPEVENT const *pEvent = (RTMPEVENT const *)pvUser1;
    unsigned i;
    (void)pvUser2;
    (void)idCpu;
    for (i = 0; i < 8; i++)
        if (g_aListeners[i].pfnCallback)
            g_aListeners[i].pfnCallback(pEvent->enmEvent, pEvent->idCpu, g_aListeners[i].pvUser);
}

void rtSetCpuOnline(RTCPUID idCpu, bool fOnline)
{
    RTMPEVENT Event;
    int const iCpu = RTMpCpuIdToSetIndex(idCpu);
    RT_CHECK(iCpu >= 0);
    Event.enmEvent = fOnline ? 1 : 2;
    Event.idCpu = idCpu;
    pthread_mutex_lock(&g_MpMutex);
    g_afOffline[iCpu] = !fOnline;
    rtOnCpu(idCpu, rtNotify, &Event, NULL);
    pthread_mutex_unlock(&g_MpMutex);
}
