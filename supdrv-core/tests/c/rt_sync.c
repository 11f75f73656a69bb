/* SPDX-License-Identifier: GPL-2.0-only OR CDDL-1.0 */
/* Heap, spinlocks, mutexes, events. */
#define _GNU_SOURCE
#include "runtime.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

void *RTMemAllocTag(size_t cb, const char *pszTag)
{
    void *pv;
    RT_CHECK(pszTag && rtMayBlock());
    pv = rtFail() ? NULL : malloc(cb);
    if (pv)
    {
        memset(pv, 0xa5, cb);
        __sync_add_and_fetch(&g_rtCounts.heap, 1);
    }
    return pv;
}

void *RTMemAllocZTag(size_t cb, const char *pszTag)
{
    void *pv = RTMemAllocTag(cb, pszTag);
    return pv ? memset(pv, 0, cb) : NULL;
}

void RTMemFree(void *pv)
{
    RT_CHECK(rtMayBlock());
    if (pv)
        __sync_sub_and_fetch(&g_rtCounts.heap, 1);
    free(pv);
}

struct RTSPINLOCKINTERNAL
{
    pthread_mutex_t Mutex;
    pthread_t       hOwner;
    bool volatile   fOwned;
    uint32_t        fFlags;
};

int RTSpinlockCreate(RTSPINLOCK *phSpinlock, uint32_t fFlags, const char *pszName)
{
    RTSPINLOCK p;
    if (fFlags != 2 && fFlags != 4)
        return VERR_INVALID_PARAMETER;
    RT_CHECK(pszName && *pszName && rtMayBlock());
    p = rtFail() ? NULL : (RTSPINLOCK)calloc(1, sizeof(*p));
    if (!p)
        return VERR_NO_MEMORY;
    pthread_mutex_init(&p->Mutex, NULL);
    p->fFlags = fFlags;
    __sync_add_and_fetch(&g_rtCounts.spinlocks, 1);
    *phSpinlock = p;
    return VINF_SUCCESS;
}

int RTSpinlockDestroy(RTSPINLOCK hSpinlock)
{
    RT_CHECK(hSpinlock && !hSpinlock->fOwned && rtMayBlock());
    pthread_mutex_destroy(&hSpinlock->Mutex);
    free(hSpinlock);
    __sync_sub_and_fetch(&g_rtCounts.spinlocks, 1);
    return VINF_SUCCESS;
}

void RTSpinlockAcquire(RTSPINLOCK hSpinlock)
{
    RT_CHECK(!hSpinlock->fOwned || !pthread_equal(hSpinlock->hOwner, pthread_self()));
    /* Who holds an IRQ-safe lock has interrupts off and must not wait for somebody who hasn't. */
    RT_CHECK(hSpinlock->fFlags == 2 || !rtSelf()->cIrqSpinlocks || rtSelf()->cSpinlocks);
    pthread_mutex_lock(&hSpinlock->Mutex);
    hSpinlock->hOwner = pthread_self();
    hSpinlock->fOwned = true;
    rtSelf()->cSpinlocks++;
    rtSelf()->cIrqSpinlocks += hSpinlock->fFlags == 2;
}

void RTSpinlockRelease(RTSPINLOCK hSpinlock)
{
    RT_CHECK(hSpinlock->fOwned && pthread_equal(hSpinlock->hOwner, pthread_self()) && rtSelf()->cSpinlocks);
    rtSelf()->cSpinlocks--;
    rtSelf()->cIrqSpinlocks -= hSpinlock->fFlags == 2;
    hSpinlock->fOwned = false;
    pthread_mutex_unlock(&hSpinlock->Mutex);
}

struct RTSEMFASTMUTEXINTERNAL
{
    pthread_mutex_t Mutex;
    pthread_t       hOwner;
    bool volatile   fOwned;
};

int RTSemFastMutexCreate(RTSEMFASTMUTEX *phMutex)
{
    RTSEMFASTMUTEX p;
    RT_CHECK(rtMayBlock());
    p = rtFail() ? NULL : (RTSEMFASTMUTEX)calloc(1, sizeof(*p));
    if (!p)
        return VERR_NO_MEMORY;
    pthread_mutex_init(&p->Mutex, NULL);
    __sync_add_and_fetch(&g_rtCounts.mutexes, 1);
    *phMutex = p;
    return VINF_SUCCESS;
}

int RTSemFastMutexDestroy(RTSEMFASTMUTEX hMutex)
{
    RT_CHECK(hMutex && !hMutex->fOwned && rtMayBlock());
    pthread_mutex_destroy(&hMutex->Mutex);
    free(hMutex);
    __sync_sub_and_fetch(&g_rtCounts.mutexes, 1);
    return VINF_SUCCESS;
}

int RTSemFastMutexRequest(RTSEMFASTMUTEX hMutex)
{
    RT_CHECK(rtMayBlock());
    RT_CHECK(!hMutex->fOwned || !pthread_equal(hMutex->hOwner, pthread_self()));
    pthread_mutex_lock(&hMutex->Mutex);
    hMutex->hOwner = pthread_self();
    hMutex->fOwned = true;
    return VINF_SUCCESS;
}

int RTSemFastMutexRelease(RTSEMFASTMUTEX hMutex)
{
    RT_CHECK(hMutex->fOwned && pthread_equal(hMutex->hOwner, pthread_self()));
    hMutex->fOwned = false;
    pthread_mutex_unlock(&hMutex->Mutex);
    return VINF_SUCCESS;
}

struct RTSEMEVENTINTERNAL
{
    pthread_mutex_t Mutex;
    pthread_cond_t  Cond;
    bool            fMulti;
    bool            fSignalled;
    uint64_t        cResets;    /* waiters of before a reset are free, whatever happens after their signal */
    uint32_t        cWaiters;
};

static int rtEventCreate(struct RTSEMEVENTINTERNAL **phEvent, bool fMulti)
{
    pthread_condattr_t Attr;
    struct RTSEMEVENTINTERNAL *p;
    RT_CHECK(rtMayBlock());
    p = rtFail() ? NULL : (struct RTSEMEVENTINTERNAL *)calloc(1, sizeof(*p));
    if (!p)
        return VERR_NO_MEMORY;
    p->fMulti = fMulti;
    pthread_mutex_init(&p->Mutex, NULL);
    pthread_condattr_init(&Attr);
    pthread_condattr_setclock(&Attr, CLOCK_MONOTONIC);
    pthread_cond_init(&p->Cond, &Attr);
    pthread_condattr_destroy(&Attr);
    __sync_add_and_fetch(&g_rtCounts.events, 1);
    *phEvent = p;
    return VINF_SUCCESS;
}

static int rtEventDestroy(struct RTSEMEVENTINTERNAL *pEvent)
{
    RT_CHECK(rtMayBlock());
    /* The core keeps an event while somebody waits. */
    RT_CHECK(!pEvent->cWaiters);
    pthread_cond_destroy(&pEvent->Cond);
    pthread_mutex_destroy(&pEvent->Mutex);
    free(pEvent);
    __sync_sub_and_fetch(&g_rtCounts.events, 1);
    return VINF_SUCCESS;
}

static int rtEventSignal(struct RTSEMEVENTINTERNAL *pEvent)
{
    pthread_mutex_lock(&pEvent->Mutex);
    pEvent->fSignalled = true;
    if (pEvent->fMulti)
    {
        pEvent->cResets++;
        pthread_cond_broadcast(&pEvent->Cond);
    }
    else
        pthread_cond_signal(&pEvent->Cond);
    pthread_mutex_unlock(&pEvent->Mutex);
    return VINF_SUCCESS;
}

static int rtEventWait(struct RTSEMEVENTINTERNAL *pEvent, uint32_t fFlags, uint64_t uTimeout)
{
    uint64_t const uNow = RTTimeSystemNanoTS();
    bool const fForever = (fFlags & 0x10) || uTimeout == UINT64_MAX;
    bool const fInterruptible = (fFlags & 0x20) != 0;
    uint64_t const cNs = (fFlags & 0x08) ? uTimeout * 1000000 : uTimeout;
    uint64_t const uDeadline = (fFlags & 0x01) ? uNow + cNs < uNow ? UINT64_MAX : uNow + cNs : cNs;
    uint64_t cResets;
    int rc = VERR_TIMEOUT;
    RT_CHECK(rtMayBlock());
    if ((fFlags & ~0x7fU) || !(fFlags & 0x60) || (fFlags & 0x60) == 0x60)
        return VERR_INVALID_PARAMETER;
    if (!(fFlags & 0x10) && ((fFlags & 3) == 0 || (fFlags & 3) == 3 || (fFlags & 12) == 0 || (fFlags & 12) == 12))
        return VERR_INVALID_PARAMETER;
    pthread_mutex_lock(&pEvent->Mutex);
    cResets = pEvent->cResets;
    pEvent->cWaiters++;
    for (;;)
    {
        struct timespec Ts;
        uint64_t uSlice;
        if (pEvent->fSignalled || pEvent->cResets != cResets)
        {
            if (!pEvent->fMulti)
                pEvent->fSignalled = false;
            rc = VINF_SUCCESS;
            break;
        }
        if (!fForever && RTTimeSystemNanoTS() >= uDeadline)
            break;
        if (fInterruptible && rtSelf()->fInterrupt)
        {
            rtSelf()->fInterrupt = false;
            rc = VERR_INTERRUPTED;
            break;
        }
        /* Slices: an interruption is a flag that somebody sets. */
        uSlice = RTTimeSystemNanoTS() + 5000000;
        if (!fForever && uDeadline < uSlice)
            uSlice = uDeadline;
        Ts.tv_sec = (time_t)(uSlice / 1000000000);
        Ts.tv_nsec = (long)(uSlice % 1000000000);
        pthread_cond_timedwait(&pEvent->Cond, &pEvent->Mutex, &Ts);
    }
    pEvent->cWaiters--;
    pthread_mutex_unlock(&pEvent->Mutex);
    return rc;
}

int RTSemEventCreate(RTSEMEVENT *phEvent)
{
    return rtEventCreate(phEvent, false);
}

int RTSemEventDestroy(RTSEMEVENT hEvent)
{
    return rtEventDestroy(hEvent);
}

int RTSemEventSignal(RTSEMEVENT hEvent)
{
    return rtEventSignal(hEvent);
}

int RTSemEventWaitEx(RTSEMEVENT hEvent, uint32_t fFlags, uint64_t uTimeout)
{
    RT_CHECK(!hEvent->fMulti);
    return rtEventWait(hEvent, fFlags, uTimeout);
}

uint32_t RTSemEventGetResolution(void)
{
    return 50000;
}

int RTSemEventMultiCreate(RTSEMEVENTMULTI *phEvent)
{
    return rtEventCreate(phEvent, true);
}

int RTSemEventMultiDestroy(RTSEMEVENTMULTI hEvent)
{
    return rtEventDestroy(hEvent);
}

int RTSemEventMultiSignal(RTSEMEVENTMULTI hEvent)
{
    return rtEventSignal(hEvent);
}

int RTSemEventMultiReset(RTSEMEVENTMULTI hEvent)
{
    pthread_mutex_lock(&hEvent->Mutex);
    hEvent->fSignalled = false;
    pthread_mutex_unlock(&hEvent->Mutex);
    return VINF_SUCCESS;
}

int RTSemEventMultiWaitEx(RTSEMEVENTMULTI hEvent, uint32_t fFlags, uint64_t uTimeout)
{
    RT_CHECK(hEvent->fMulti);
    return rtEventWait(hEvent, fFlags, uTimeout);
}
