/* SPDX-License-Identifier: GPL-2.0-only OR CDDL-1.0 */
/* The clock, and timers: one thread each. */
#define _GNU_SOURCE
#include "runtime.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

uint64_t RTTimeSystemNanoTS(void)
{
    struct timespec Ts;
    clock_gettime(CLOCK_MONOTONIC, &Ts);
    return (uint64_t)Ts.tv_sec * 1000000000 + (uint64_t)Ts.tv_nsec;
}

int RTThreadSleep(uint32_t cMillies)
{
    struct timespec Ts;
    RT_CHECK(rtMayBlock());
    Ts.tv_sec = cMillies / 1000;
    Ts.tv_nsec = (long)(cMillies % 1000) * 1000000;
    nanosleep(&Ts, NULL);
    return VINF_SUCCESS;
}

struct RTTIMER
{
    pthread_mutex_t Mutex;
    pthread_cond_t  Cond;
    pthread_t       hThread;
    PFNRTTIMER      pfnTimer;
    void           *pvUser;
    uint64_t        cNsInterval;
    uint64_t        uNext;
    uint64_t        iTick;
    bool            fRunning, fInCallback, fDestroy;
};

static void *rtTimerThread(void *pvTimer)
{
    PRTTIMER pTimer = (PRTTIMER)pvTimer;
    pthread_mutex_lock(&pTimer->Mutex);
    while (!pTimer->fDestroy)
    {
        uint64_t const uNow = RTTimeSystemNanoTS();
        if (!pTimer->fRunning)
            pthread_cond_wait(&pTimer->Cond, &pTimer->Mutex);
        else if (uNow < pTimer->uNext)
        {
            struct timespec Ts;
            Ts.tv_sec = (time_t)(pTimer->uNext / 1000000000);
            Ts.tv_nsec = (long)(pTimer->uNext % 1000000000);
            pthread_cond_timedwait(&pTimer->Cond, &pTimer->Mutex, &Ts);
        }
        else
        {
            uint64_t const iTick = ++pTimer->iTick;
            do
                pTimer->uNext += pTimer->cNsInterval ? pTimer->cNsInterval : 1;
            while (pTimer->cNsInterval && pTimer->uNext <= uNow);
            pTimer->fRunning = pTimer->cNsInterval != 0;
            pTimer->fInCallback = true;
            pthread_mutex_unlock(&pTimer->Mutex);
            rtSelf()->cPreemptDisabled++;
            pTimer->pfnTimer(pTimer, pTimer->pvUser, iTick);
            rtSelf()->cPreemptDisabled--;
            pthread_mutex_lock(&pTimer->Mutex);
            pTimer->fInCallback = false;
        }
    }
    pthread_mutex_unlock(&pTimer->Mutex);
    return NULL;
}

int RTTimerCreateEx(PRTTIMER *ppTimer, uint64_t cNsInterval, uint32_t fFlags, PFNRTTIMER pfnTimer, void *pvUser)
{
    pthread_condattr_t Attr;
    PRTTIMER pTimer;
    RT_CHECK(rtMayBlock());
    *ppTimer = NULL;
    if (fFlags & ~0x3ffU)
        return VERR_INVALID_PARAMETER;
    if (fFlags & 0x100)
        return VERR_NOT_SUPPORTED;  /* timers of CPUs */
    pTimer = rtFail() ? NULL : (PRTTIMER)calloc(1, sizeof(*pTimer));
    if (!pTimer)
        return VERR_NO_MEMORY;
    pTimer->pfnTimer = pfnTimer;
    pTimer->pvUser = pvUser;
    pTimer->cNsInterval = cNsInterval;
    pthread_mutex_init(&pTimer->Mutex, NULL);
    pthread_condattr_init(&Attr);
    pthread_condattr_setclock(&Attr, CLOCK_MONOTONIC);
    pthread_cond_init(&pTimer->Cond, &Attr);
    pthread_condattr_destroy(&Attr);
    RT_CHECK(pthread_create(&pTimer->hThread, NULL, rtTimerThread, pTimer) == 0);
    __sync_add_and_fetch(&g_rtCounts.timers, 1);
    *ppTimer = pTimer;
    return VINF_SUCCESS;
}

int RTTimerDestroy(PRTTIMER pTimer)
{
    RT_CHECK(rtMayBlock());
    pthread_mutex_lock(&pTimer->Mutex);
    pTimer->fDestroy = true;
    pthread_cond_broadcast(&pTimer->Cond);
    pthread_mutex_unlock(&pTimer->Mutex);
    pthread_join(pTimer->hThread, NULL);
    pthread_cond_destroy(&pTimer->Cond);
    pthread_mutex_destroy(&pTimer->Mutex);
    free(pTimer);
    __sync_sub_and_fetch(&g_rtCounts.timers, 1);
    return VINF_SUCCESS;
}

int RTTimerStart(PRTTIMER pTimer, uint64_t cNsFirst)
{
    int rc = VERR_TIMER_ACTIVE;
    if (rtFail())
        return VERR_CPU_OFFLINE;
    pthread_mutex_lock(&pTimer->Mutex);
    if (!pTimer->fRunning)
    {
        pTimer->fRunning = true;
        pTimer->iTick = 0;
        pTimer->uNext = RTTimeSystemNanoTS() + cNsFirst;
        pthread_cond_broadcast(&pTimer->Cond);
        rc = VINF_SUCCESS;
    }
    pthread_mutex_unlock(&pTimer->Mutex);
    return rc;
}

int RTTimerStop(PRTTIMER pTimer)
{
    int rc = VERR_TIMER_SUSPENDED;
    pthread_mutex_lock(&pTimer->Mutex);
    if (pTimer->fRunning)
    {
        pTimer->fRunning = false;
        rc = VINF_SUCCESS;
    }
    pthread_mutex_unlock(&pTimer->Mutex);
    return rc;
}

uint32_t RTTimerGetSystemGranularity(void)
{
    return 4000000;
}

int RTTimerRequestSystemGranularity(uint32_t cNsRequest, uint32_t *pcNsGranted)
{
    if (cNsRequest < 1000000)
        return VERR_NOT_SUPPORTED;
    *pcNsGranted = cNsRequest;
    return VINF_SUCCESS;
}

int RTTimerReleaseSystemGranularity(uint32_t cNsGranted)
{
    RT_CHECK(cNsGranted == 1000000);
    return VINF_SUCCESS;
}
