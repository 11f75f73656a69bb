/* SPDX-License-Identifier: GPL-2.0-only OR CDDL-1.0 */
/*
 * The shell: device nodes, buffering of requests, sessions by process and file in a hash of its own, a node for everybody, the entry point
 * for sibling drivers, sleep of the host. Written like the era's shells, against supdrv.h alone.
 */
#include "shell.h"

#include <errno.h>
#include <string.h>

/* The device extension and what the shell keeps behind it. */
static struct
{
    SUPDRVDEVEXT Core;
    uint64_t     u64Tail;
} g_Ext;
SUPDRVDEVEXT * const g_pDevExt = &g_Ext.Core;
SHELLHOOKS   g_Hooks;
RTUID        g_ShellUid = 1000;
RTGID        g_ShellGid = 100;

#define HASH_SIZE 17
static SHELLSESSION *g_apHash[HASH_SIZE];
static RTSPINLOCK    g_hHashLock;
static uint32_t      g_iNextFile;
static int           g_cOpen;
static bool          g_fTimerStopped;

static unsigned shellHash(RTPROCESS idProcess, uint32_t iFile)
{
    return (idProcess + iFile) % HASH_SIZE;
}

int drvLoad(void)
{
    int rc = RTSpinlockCreate(&g_hHashLock, 2 /* interrupt safe */, "ShellHash");
    if (rc < 0)
        return -ENOMEM;
    g_Ext.u64Tail = UINT64_C(0x1122334455667788);
    rc = supdrvInitDevExt(&g_DevExt, sizeof(SHELLSESSION));
    if (rc < 0)
    {
        RTSpinlockDestroy(g_hHashLock);
        return rc == VERR_NO_MEMORY ? -ENOMEM : -EIO;
    }
    return 0;
}

int drvUnload(void)
{
    if (g_cOpen)
        return -EBUSY;
    supdrvDeleteDevExt(&g_DevExt);
    RT_CHECK(g_Ext.u64Tail == UINT64_C(0x1122334455667788));
    RTSpinlockDestroy(g_hHashLock);
    return 0;
}

int drvOpen(bool fRestricted, uint32_t *piFile)
{
    SUPDRVSESSION *pSession;
    SHELLSESSION *pShell;
    unsigned iHash;
    int rc = supdrvCreateSession(&g_DevExt, true /*fUser*/, !fRestricted, &pSession);
    if (rc < 0)
        return rc == VERR_NO_MEMORY ? -ENOMEM : -EIO;
    pSession->Uid = g_ShellUid;
    pSession->Gid = g_ShellGid;
    pShell = (SHELLSESSION *)pSession;
    RT_CHECK(!pShell->pNextHash && !pShell->iFile && !pShell->fInHash);
    pShell->iFile = __sync_add_and_fetch(&g_iNextFile, 1);
    iHash = shellHash(pSession->Process, pShell->iFile);
    RTSpinlockAcquire(g_hHashLock);
    pShell->pNextHash = g_apHash[iHash];
    g_apHash[iHash] = pShell;
    pShell->fInHash = true;
    RTSpinlockRelease(g_hHashLock);
    __sync_add_and_fetch(&g_cOpen, 1);
    *piFile = pShell->iFile;
    return 0;
}

static SHELLSESSION *shellFind(uint32_t iFile, bool fRetain, bool fRemove)
{
    SHELLSESSION **pp, *p;
    RTSpinlockAcquire(g_hHashLock);
    for (pp = &g_apHash[shellHash(RTProcSelf(), iFile)]; *pp; pp = &(*pp)->pNextHash)
        if ((*pp)->iFile == iFile && (*pp)->Core.Process == RTProcSelf())
            break;
    p = *pp;
    if (p && fRetain)
        RT_CHECK(supdrvSessionRetain(&p->Core) > 1);
    if (p && fRemove)
    {
        *pp = p->pNextHash;
        p->pNextHash = NULL;
        p->fInHash = false;
    }
    RTSpinlockRelease(g_hHashLock);
    return p;
}

SHELLSESSION *drvSession(uint32_t iFile)
{
    return shellFind(iFile, false, false);
}

int drvClose(uint32_t iFile)
{
    SHELLSESSION *pShell = shellFind(iFile, false, true);
    if (!pShell)
        return -EBADF;
    supdrvSessionRelease(&pShell->Core);
    __sync_sub_and_fetch(&g_cOpen, 1);
    return 0;
}

void drvCounters(uint32_t acObjects[6])
{
    acObjects[0] = (uint32_t)g_cOpen;
    acObjects[1] = (uint32_t)g_rtCounts.events;
    acObjects[2] = (uint32_t)g_rtCounts.memobjs - 1;
    acObjects[3] = (uint32_t)g_rtCounts.exec;
    acObjects[4] = 0;
    acObjects[5] = g_DevExt.cGipUsers;
}

int drvOpenCount(void)
{
    return g_cOpen;
}

static int shellRequest(SHELLSESSION *pShell, uint32_t uCode, RTR3PTR R3Ptr)
{
    uint64_t abStack[64 / 8];
    SUPREQHDR Hdr, *pHdr = (SUPREQHDR *)(void *)abStack;
    uint32_t cb, cbCode = (uCode >> 16) & 0x3fff;
    int rc;
    if (RTR0MemUserCopyFrom(&Hdr, R3Ptr, sizeof(Hdr)) < 0)
        return -EFAULT;
    if ((Hdr.fFlags & SUPREQHDR_FLAGS_MAGIC_MASK) != SUPREQHDR_FLAGS_MAGIC)
        return -EINVAL;
    cb = Hdr.cbIn > Hdr.cbOut ? Hdr.cbIn : Hdr.cbOut;
    if (cb > 0x1000000)
        return -E2BIG;
    if (Hdr.cbIn < sizeof(Hdr) || Hdr.cbOut < sizeof(Hdr) || (cbCode && cbCode != cb))
        return -EINVAL;
    if (cb > sizeof(abStack))
        pHdr = (SUPREQHDR *)RTMemAllocTag(cb, "request");
    if (!pHdr)
        return -ENOMEM;
    rc = -EFAULT;
    if (RTR0MemUserCopyFrom(pHdr, R3Ptr, Hdr.cbIn) >= 0)
    {
        memset((uint8_t *)pHdr + Hdr.cbIn, 0, cb - Hdr.cbIn);
        *pHdr = Hdr;
        rc = supdrvIOCtl(uCode, &g_DevExt, &pShell->Core, pHdr);
        if (rc == 0)
            rc = RTR0MemUserCopyTo(R3Ptr, pHdr, pHdr->cbOut < cb ? pHdr->cbOut : cb) < 0 ? -EFAULT : 0;
        else
            rc = -EINVAL;
    }
    if ((void *)pHdr != (void *)abStack)
        RTMemFree(pHdr);
    return rc;
}

int drvIOCtlFrom(RTPROCESS idProcess, uint32_t iFile, uint32_t uCode, uintptr_t uArg)
{
    RTTHREADSTATE const Old = *rtSelf();
    SHELLSESSION *pShell = shellFind(iFile, true, false);
    int rc;
    if (!pShell)
        return -EBADF;
    rtSelf()->idProcess = idProcess;
    rtSelf()->hProcess = (RTR0PROCESS)idProcess;
    rc = shellRequest(pShell, uCode, uArg);
    *rtSelf() = Old;
    supdrvSessionRelease(&pShell->Core);
    return rc;
}

int drvIOCtl(uint32_t iFile, uint32_t uCode, uintptr_t uArg)
{
    int rc;
    SHELLSESSION *pShell = shellFind(iFile, true, false);
    if (!pShell)
        return -EBADF;
    if (   pShell->Core.fUnrestricted
        && (uCode == SUP_IOCTL_FAST_DO_RAW_RUN || uCode == SUP_IOCTL_FAST_DO_HM_RUN || uCode == SUP_IOCTL_FAST_DO_NOP))
        rc = supdrvIOCtlFast(uCode, (VMCPUID)uArg, &g_DevExt, &pShell->Core);
    else
        rc = shellRequest(pShell, uCode, uArg);
    supdrvSessionRelease(&pShell->Core);
    return rc;
}

int drvIDC(uint32_t uReq, SUPDRVIDCREQHDR *pReq)
{
    SUPDRVSESSION *pSession;
    if (!pReq)
        return VERR_INVALID_POINTER;
    pSession = pReq->pSession;
    if (!pSession && uReq != SUPDRV_IDC_REQ_CONNECT)
        return VERR_INVALID_PARAMETER;
    return supdrvIDC(uReq, &g_DevExt, pSession, pReq);
}

void drvSuspend(void)
{
    RTSemFastMutexRequest(g_DevExt.mtxGip);
    if (g_DevExt.pGipTimer && g_DevExt.cGipUsers > 0)
        g_fTimerStopped = RTTimerStop(g_DevExt.pGipTimer) == 0;
    RTSemFastMutexRelease(g_DevExt.mtxGip);
}

void drvResume(void)
{
    RTSemFastMutexRequest(g_DevExt.mtxGip);
    if (g_DevExt.pGipTimer && g_DevExt.cGipUsers > 0 && g_fTimerStopped)
        RTTimerStart(g_DevExt.pGipTimer, 0);
    g_fTimerStopped = false;
    RTSemFastMutexRelease(g_DevExt.mtxGip);
}

/*
 * The hooks.
 */
void VBOXCALL supdrvOSObjInitCreator(SUPDRVOBJ *pObj, SUPDRVSESSION *pSession)
{
    RT_CHECK(SUP_IS_SESSION_VALID(pSession));
    if (g_Hooks.pfnObjInitCreator)
        g_Hooks.pfnObjInitCreator(pObj, pSession);
}

bool VBOXCALL supdrvOSObjCanAccess(SUPDRVOBJ *pObj, SUPDRVSESSION *pSession, const char *pszObjName, int *prc)
{
    RT_CHECK(SUP_IS_SESSION_VALID(pSession) && *prc == VERR_INTERNAL_ERROR);
    return g_Hooks.pfnObjCanAccess && g_Hooks.pfnObjCanAccess(pObj, pSession, pszObjName, prc);
}

bool VBOXCALL supdrvOSGetForcedAsyncTscMode(SUPDRVDEVEXT *pDevExt)
{
    RT_CHECK(pDevExt == &g_DevExt);
    return g_Hooks.fForcedAsyncTsc;
}

int VBOXCALL supdrvOSEnableVTx(bool fEnabled)
{
    (void)fEnabled;
    return VERR_NOT_SUPPORTED;
}

bool VBOXCALL supdrvOSSuspendVTxOnCpu(void)
{
    return false;
}

void VBOXCALL supdrvOSResumeVTxOnCpu(bool fSuspended)
{
    RT_CHECK(!fSuspended);
}

int VBOXCALL supdrvOSLdrOpen(SUPDRVDEVEXT *pDevExt, SUPDRVLDRIMAGE *pImage, const char *pszFilename)
{
    RT_CHECK(pDevExt == &g_DevExt && pImage->pDevExt == pDevExt);
    return g_Hooks.pfnLdrOpen ? g_Hooks.pfnLdrOpen(pDevExt, pImage, pszFilename) : VERR_NOT_SUPPORTED;
}

void VBOXCALL supdrvOSLdrNotifyOpened(SUPDRVDEVEXT *pDevExt, SUPDRVLDRIMAGE *pImage)
{
    if (g_Hooks.pfnLdrNotifyOpened)
        g_Hooks.pfnLdrNotifyOpened(pDevExt, pImage);
}

int VBOXCALL supdrvOSLdrValidatePointer(SUPDRVDEVEXT *pDevExt, SUPDRVLDRIMAGE *pImage, void *pv, const uint8_t *pbImageBits)
{
    return g_Hooks.pfnLdrValidatePointer ? g_Hooks.pfnLdrValidatePointer(pDevExt, pImage, pv, pbImageBits) : VERR_NOT_SUPPORTED;
}

int VBOXCALL supdrvOSLdrLoad(SUPDRVDEVEXT *pDevExt, SUPDRVLDRIMAGE *pImage, const uint8_t *pbImageBits, SUPLDRLOAD *pReq)
{
    return g_Hooks.pfnLdrLoad ? g_Hooks.pfnLdrLoad(pDevExt, pImage, pbImageBits, pReq) : VERR_NOT_SUPPORTED;
}

void VBOXCALL supdrvOSLdrUnload(SUPDRVDEVEXT *pDevExt, SUPDRVLDRIMAGE *pImage)
{
    if (g_Hooks.pfnLdrUnload)
        g_Hooks.pfnLdrUnload(pDevExt, pImage);
}
