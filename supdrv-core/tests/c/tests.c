/* SPDX-License-Identifier: GPL-2.0-only OR CDDL-1.0 */
/*
 * Tests of the library from C: what a C driver sees of the core's objects, at the moments when it can look.
 */
#define _GNU_SOURCE
#include "client.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/*
 * Device extension and sessions.
 */
static void testDeviceExtension(void)
{
    SUPDRVSESSION *pSession = (SUPDRVSESSION *)1;
    memset(&g_DevExt, 0, sizeof(g_DevExt));
    RT_CHECK(supdrvCreateSession(&g_DevExt, true, true, &pSession) == VERR_INVALID_PARAMETER && !pSession);
    loaded();
    RT_CHECK(SUP_IS_DEVEXT_VALID(&g_DevExt) && g_DevExt.cbSession == sizeof(SHELLSESSION));
    RT_CHECK(g_DevExt.Spinlock && g_DevExt.mtxLdr && g_DevExt.mtxGip && g_DevExt.hGipSpinlock && g_DevExt.mtxComponentFactory);
    RT_CHECK(g_DevExt.pGip && g_DevExt.pGip->u32Magic == SUPGLOBALINFOPAGE_MAGIC && g_DevExt.pGipTimer);
    RT_CHECK(g_DevExt.HCPhysGip != NIL_RTHCPHYS && g_DevExt.HCPhysGip % PAGE_SIZE == 0 && g_DevExt.cGipUsers == 0);
    RT_CHECK(g_DevExt.idGipMaster == 0);
    RT_CHECK(!g_DevExt.pvVMMR0 && !g_DevExt.pfnVMMR0EntryInt && !g_DevExt.pfnVMMR0EntryFast && !g_DevExt.pfnVMMR0EntryEx);
    RT_CHECK(!g_DevExt.pLdrInitImage && g_DevExt.hLdrInitThread == NIL_RTNATIVETHREAD);
    RT_CHECK(!g_DevExt.cTracerOpens && !g_DevExt.fTracerUnloading);
    /* The mutexes and spinlocks are the shell's as well. */
    RT_CHECK(RTSemFastMutexRequest(g_DevExt.mtxLdr) == 0 && RTSemFastMutexRelease(g_DevExt.mtxLdr) == 0);
    RTSpinlockAcquire(g_DevExt.hGipSpinlock);
    RTSpinlockRelease(g_DevExt.hGipSpinlock);
    unloaded();
    RT_CHECK(!SUP_IS_DEVEXT_VALID(&g_DevExt) && !g_DevExt.pGip && !g_DevExt.pGipTimer && !g_DevExt.mtxGip);
    RT_CHECK(g_DevExt.HCPhysGip == NIL_RTHCPHYS && g_DevExt.idGipMaster == NIL_RTCPUID);
}

static void testSessionFields(void)
{
    uint32_t iFile, iOther;
    SHELLSESSION *pShell;
    loaded();
    iFile = openFile(false);
    iOther = openFile(true);
    pShell = drvSession(iFile);
    RT_CHECK(pShell->Core.pDevExt == &g_DevExt && SUP_IS_SESSION_VALID(&pShell->Core) && pShell->Core.fUnrestricted);
    RT_CHECK(pShell->Core.cRefs == 1 && pShell->Core.Process == RTProcSelf() && pShell->Core.R0Process == RTR0ProcHandleSelf());
    RT_CHECK(pShell->Core.uTracerData == 0 && pShell->Core.hTracerCaller == NIL_RTNATIVETHREAD && !pShell->Core.pVM);
    RT_CHECK(pShell->Core.Uid == 1000 && pShell->Core.Gid == 100);
    RT_CHECK(!drvSession(iOther)->Core.fUnrestricted);
    RT_CHECK(supdrvSessionRetain(&pShell->Core) == 2 && pShell->Core.cRefs == 2);
    RT_CHECK(supdrvSessionRelease(&pShell->Core) == 1 && pShell->Core.cRefs == 1);
    RT_CHECK(supdrvSessionRetain(NULL) == UINT32_MAX && supdrvSessionRelease(NULL) == UINT32_MAX);
    RT_CHECK(drvUnload() == -EBUSY);
    RT_CHECK(drvClose(iFile) == 0 && drvClose(iFile) == -EBADF && drvClose(iOther) == 0);
    unloaded();
}

/* A close does not take the session from a request that is inside. */
static void testReferencesOutliveClose(void)
{
    uint32_t iFile;
    SHELLSESSION *pShell;
    loaded();
    iFile = openFile(false);
    pShell = drvSession(iFile);
    supdrvSessionRetain(&pShell->Core);
    RT_CHECK(drvClose(iFile) == 0);
    RT_CHECK(SUP_IS_SESSION_VALID(&pShell->Core) && pShell->Core.cRefs == 1);
    RT_CHECK(supdrvSessionRelease(&pShell->Core) == 0);
    unloaded();
}

/* Some shells open sessions for others, and say so afterwards. */
static void testCorrectedOwner(void)
{
    uint32_t iFile;
    SHELLSESSION *pShell;
    SUPCONTALLOC Cont;
    loaded();
    iFile = openFile(false);
    pShell = drvSession(iFile);
    pShell->Core.R0Process = 4711;
    memset(&Cont, 0, sizeof(Cont));
    Cont.u.In.cPages = 1;
    RT_CHECK(REQUEST(iFile, CONT_ALLOC, Cont) == VERR_ACCESS_DENIED);
    rtSelf()->hProcess = 4711;
    Cont.u.In.cPages = 1;
    RT_CHECK(REQUEST(iFile, CONT_ALLOC, Cont) == VINF_SUCCESS);
    drvClose(iFile);
    rtSelf()->hProcess = (RTR0PROCESS)rtSelf()->idProcess;
    unloaded();
}

static void testHandshake(void)
{
    uint32_t iFile;
    int iRestricted;
    loaded();
    for (iRestricted = 0; iRestricted <= 1; iRestricted++)
    {
        SUPCOOKIE Req;
        SUPGETPAGINGMODE Mode;
        SUPVTCAPS Caps;
        iFile = openFile(iRestricted);
        memset(&Req, 0, sizeof(Req));
        memcpy(Req.u.In.szMagic, SUPCOOKIE_MAGIC, sizeof(SUPCOOKIE_MAGIC));
        Req.u.In.u32ReqVersion = Req.u.In.u32MinVersion = SUPDRV_IOC_VERSION;
        RT_CHECK(REQUEST(iFile, COOKIE, Req) == VINF_SUCCESS);
        RT_CHECK(Req.u.Out.u32Cookie == BIRD && Req.u.Out.u32SessionCookie == BIRD_INV);
        RT_CHECK(Req.u.Out.pSession == &drvSession(iFile)->Core);
        RT_CHECK((Req.u.Out.cFunctions == 0) == (iRestricted != 0));
        memset(&Mode, 0, sizeof(Mode));
        if (iRestricted)
            RT_CHECK(REQUEST(iFile, GET_PAGING_MODE, Mode) == -EINVAL * 100000);
        else
            RT_CHECK(REQUEST(iFile, GET_PAGING_MODE, Mode) == VINF_SUCCESS && Mode.u.Out.enmMode == RT_TEST_PAGING_MODE);
        /* Ours or not, both nodes may ask. */
        REQUEST(iFile, VT_CAPS, Caps);
        RT_CHECK(Caps.Hdr.rc != VERR_INTERNAL_ERROR);
        RT_CHECK(drvIOCtl(iFile, SUP_IOCTL_FAST_DO_NOP, 0) != 0);
        drvClose(iFile);
    }
    unloaded();
}

/*
 * Memory.
 */
static void testMemory(void)
{
    uint32_t iFile;
    union
    {
        SUPPAGEALLOCEX Req;
        uint8_t ab[SUP_IOCTL_PAGE_ALLOC_EX_SIZE(16)];
    } Alloc;
    SUPPAGEFREE Free;
    SUPCONTALLOC Cont;
    int iKernel;
    loaded();
    iFile = openFile(false);
    for (iKernel = 0; iKernel <= 1; iKernel++)
    {
        memset(&Alloc, 0, sizeof(Alloc));
        Alloc.Req.u.In.cPages = 16;
        Alloc.Req.u.In.fUserMapping = true;
        Alloc.Req.u.In.fKernelMapping = iKernel;
        RT_CHECK(request(iFile, SUP_IOCTL_PAGE_ALLOC_EX, &Alloc, SUP_IOCTL_PAGE_ALLOC_EX_SIZE_IN, SUP_IOCTL_PAGE_ALLOC_EX_SIZE_OUT(16)) == 0);
        {
            uint8_t *pbUser = (uint8_t *)Alloc.Req.u.Out.pvR3;
            unsigned i;
            for (i = 0; i < 16 * PAGE_SIZE; i++)
                RT_CHECK(pbUser[i] == 0);
            memset(pbUser, 0x77, PAGE_SIZE);
            if (iKernel)
                RT_CHECK(((uint8_t *)Alloc.Req.u.Out.pvR0)[17] == 0x77 && (uintptr_t)Alloc.Req.u.Out.pvR0 != Alloc.Req.u.Out.pvR3);
            RT_CHECK(Alloc.Req.u.Out.aPages[0] + PAGE_SIZE == (&Alloc.Req.u.Out.aPages[0])[1]);
            memset(&Free, 0, sizeof(Free));
            Free.u.In.pvR3 = (RTR3PTR)pbUser;
            RT_CHECK(REQUEST(iFile, PAGE_FREE, Free) == VINF_SUCCESS && REQUEST(iFile, PAGE_FREE, Free) == VERR_INVALID_PARAMETER);
        }
    }
    memset(&Cont, 0, sizeof(Cont));
    Cont.u.In.cPages = 2;
    RT_CHECK(REQUEST(iFile, CONT_ALLOC, Cont) == VINF_SUCCESS);
    *(uint32_t *)Cont.u.Out.pvR3 = 0x12345678;
    RT_CHECK(*(uint32_t *)Cont.u.Out.pvR0 == 0x12345678 && Cont.u.Out.HCPhys < UINT64_C(0x100000000));
    /* Left to the close. */
    drvClose(iFile);
    unloaded();
}

/*
 * The page.
 */
static uint64_t waitForTicks(SUPGLOBALINFOPAGE const *pGip, uint32_t cTicks)
{
    uint32_t const idStart = pGip->aCPUs[0].u32TransactionId;
    uint64_t const uEnd = RTTimeSystemNanoTS() + UINT64_C(20000000000);
    while (pGip->aCPUs[0].u32TransactionId - idStart < cTicks * 2)
    {
        RT_CHECK(RTTimeSystemNanoTS() < uEnd);
        RTThreadSleep(1);
    }
    return pGip->aCPUs[0].u64NanoTS;
}

static bool isStanding(SUPGLOBALINFOPAGE const *pGip)
{
    uint32_t const idStart = pGip->aCPUs[0].u32TransactionId;
    RTThreadSleep(50);
    return pGip->aCPUs[0].u32TransactionId == idStart;
}

static void testGip(void)
{
    uint32_t iFile, iOther;
    SUPGIPMAP Map, OtherMap;
    SUPGIPUNMAP Unmap;
    SUPGLOBALINFOPAGE const *pUser;
    loaded();
    iFile = openFile(false);
    iOther = openFile(false);
    memset(&Map, 0, sizeof(Map));
    RT_CHECK(REQUEST(iFile, GIP_MAP, Map) == 0 && g_DevExt.cGipUsers == 1);
    RT_CHECK(Map.u.Out.HCPhysGip == g_DevExt.HCPhysGip && Map.u.Out.pGipR0 == g_DevExt.pGip && Map.u.Out.pGipR3);
    RT_CHECK(g_DevExt.u32SystemTimerGranularityGrant == 1000000);
    pUser = (SUPGLOBALINFOPAGE const *)Map.u.Out.pGipR3;
    RT_CHECK(pUser != g_DevExt.pGip && pUser->u32Magic == SUPGLOBALINFOPAGE_MAGIC && pUser->cCpus == RT_TEST_CPUS);
    waitForTicks(pUser, 3);
    RT_CHECK(REQUEST(iOther, GIP_MAP, OtherMap) == 0 && g_DevExt.cGipUsers == 2);
    /* The host sleeps: the shell stops the timer itself. */
    drvSuspend();
    RTThreadSleep(5);
    RT_CHECK(isStanding(pUser) && !(pUser->aCPUs[0].u32TransactionId & 1));
    drvResume();
    waitForTicks(pUser, 2);
    /* It sleeps, and the last user goes before it wakes up. */
    drvSuspend();
    drvClose(iOther);
    RT_CHECK(REQUEST(iFile, GIP_UNMAP, Unmap) == 0 && g_DevExt.cGipUsers == 0 && !g_DevExt.u32SystemTimerGranularityGrant);
    drvResume();
    RT_CHECK(isStanding(g_DevExt.pGip));
    RT_CHECK(REQUEST(iFile, GIP_MAP, Map) == 0 && g_DevExt.cGipUsers == 1);
    waitForTicks(g_DevExt.pGip, 2);
    drvClose(iFile);
    RT_CHECK(g_DevExt.cGipUsers == 0);
    unloaded();
}

static void testCpuEvents(void)
{
    loaded();
    RT_CHECK(g_DevExt.pGip->cOnlineCpus == RT_TEST_CPUS && g_DevExt.pGip->OnlineCpuSet.bmSet[0] == 0xf);
    rtSetCpuOnline(0, false);
    RT_CHECK(g_DevExt.idGipMaster == 2 && g_DevExt.pGip->OnlineCpuSet.bmSet[0] == 0xe);
    rtSetCpuOnline(0, true);
    RT_CHECK(g_DevExt.idGipMaster == 2 && g_DevExt.pGip->OnlineCpuSet.bmSet[0] == 0xf);
    RT_CHECK(g_DevExt.pGip->aCPUs[g_DevExt.pGip->aiCpuFromCpuSetIdx[3]].idCpu == 6);
    unloaded();
}

/*
 * Sibling drivers.
 */
static void testIdc(void)
{
    SUPDRVIDCREQCONNECT Connect;
    SUPDRVIDCREQHDR Disconnect;
    SUPDRVSESSION *pSession;
    loaded();
    memset(&Connect, 0, sizeof(Connect));
    Connect.Hdr.cb = sizeof(Connect);
    Connect.Hdr.rc = VERR_WRONG_ORDER;
    Connect.u.In.u32MagicCookie = SUPDRVIDCREQ_CONNECT_MAGIC_COOKIE;
    Connect.u.In.uMinVersion = Connect.u.In.uReqVersion = SUPDRV_IDC_VERSION;
    RT_CHECK(drvIDC(SUPDRV_IDC_REQ_CONNECT, &Connect.Hdr) == 0 && Connect.Hdr.rc == 0);
    pSession = Connect.Hdr.pSession;
    RT_CHECK(pSession && pSession == Connect.u.Out.pSession && Connect.u.Out.uSessionVersion == SUPDRV_IDC_VERSION);
    RT_CHECK(SUP_IS_SESSION_VALID(pSession) && pSession->fUnrestricted && pSession->Process == NIL_RTPROCESS);
    RT_CHECK(pSession->R0Process == NIL_RTR0PROCESS && pSession->Uid == NIL_RTUID && pSession->cRefs == 1);
    memset(&Disconnect, 0, sizeof(Disconnect));
    Disconnect.cb = sizeof(Disconnect);
    Disconnect.pSession = pSession;
    RT_CHECK(drvIDC(SUPDRV_IDC_REQ_DISCONNECT, &Disconnect) == 0 && Disconnect.rc == 0);
    RT_CHECK(drvIDC(SUPDRV_IDC_REQ_DISCONNECT, &Disconnect) == VERR_INVALID_PARAMETER);
    unloaded();
}

/*
 * Failures: everything, with every call of the runtime failing once.
 */
static bool everything(void)
{
    uint32_t iFile;
    bool fDone = false;
    if (drvLoad() != 0)
        return false;
    if (drvOpen(false, &iFile) == 0)
    {
        SUPCONTALLOC Cont;
        SUPSEMOP3 Create;
        SUPGIPMAP Map;
        SUPLDROPEN Open;
        memset(&Cont, 0, sizeof(Cont));
        Cont.u.In.cPages = 1;
        memset(&Create, 0, sizeof(Create));
        Create.u.In.uOp = SUPSEMOP3_CREATE;
        memset(&Open, 0, sizeof(Open));
        Open.u.In.cbImageBits = IMAGE_BITS;
        Open.u.In.cbImageWithTabs = IMAGE_BITS + IMAGE_TABS;
        strcpy(Open.u.In.szName, "x.r0");
        fDone = REQUEST(iFile, CONT_ALLOC, Cont) == 0;
        fDone = REQUEST(iFile, SEM_OP3, Create) == 0 && fDone;
        fDone = REQUEST(iFile, GIP_MAP, Map) == 0 && fDone;
        if (REQUEST(iFile, LDR_OPEN, Open) == 0)
            fDone = loadImage(iFile, (uint8_t *)Open.u.Out.pvImageBase, SUPLDRLOADEP_NOTHING) == 0 && fDone;
        else
            fDone = false;
        drvClose(iFile);
    }
    RT_CHECK(drvUnload() == 0);
    return fDone;
}

static void testFailures(void)
{
    int iFail;
    resetSeen();
    g_fRtQuiet = true;
    for (iFail = 1;; iFail++)
    {
        bool fDone;
        g_iRtFailNext = iFail;
        fDone = everything();
        RT_CHECK(rtNothingLeft());
        if (g_iRtFailNext > 0)
        {
            RT_CHECK(fDone);
            break;
        }
        /* The timer's failing granularity requests and cross calls are survived; all else is told. */
    }
    g_iRtFailNext = 0;
    g_fRtQuiet = false;
    RT_CHECK(iFail > 40);
    printf("  %d failures\n", iFail - 1);
}

/*
 * Threads.
 */
static void *hammer(void *pvSeed)
{
    unsigned uSeed = (unsigned)(uintptr_t)pvSeed, i;
    rtSelf()->idCpu = (uSeed % RT_TEST_CPUS) * 2;
    for (i = 0; i < 200; i++)
    {
        uint32_t iFile = openFile(false);
        SUPCONTALLOC Cont;
        SUPGIPMAP Map;
        SUPSEMOP3 Create;
        memset(&Cont, 0, sizeof(Cont));
        Cont.u.In.cPages = 1 + i % 3;
        RT_CHECK(REQUEST(iFile, CONT_ALLOC, Cont) == 0);
        if ((i + uSeed) % 5 == 0)
            RT_CHECK(REQUEST(iFile, GIP_MAP, Map) == 0);
        memset(&Create, 0, sizeof(Create));
        Create.u.In.uOp = SUPSEMOP3_CREATE;
        Create.u.In.uType = i % 2;
        RT_CHECK(REQUEST(iFile, SEM_OP3, Create) == 0);
        RT_CHECK(drvClose(iFile) == 0);
    }
    return NULL;
}

static void testThreads(void)
{
    pthread_t ahThreads[4];
    unsigned i;
    loaded();
    for (i = 0; i < 4; i++)
        RT_CHECK(pthread_create(&ahThreads[i], NULL, hammer, (void *)(uintptr_t)i) == 0);
    for (i = 0; i < 4; i++)
        pthread_join(ahThreads[i], NULL);
    unloaded();
}

static const struct
{
    const char *pszName;
    void (*pfn)(void);
} g_aTests[] =
{
    { "the device extension is true from init to delete", testDeviceExtension },
    { "sessions have the fields that shells read and write", testSessionFields },
    { "references outlive close", testReferencesOutliveClose },
    { "shells may correct whose a session is", testCorrectedOwner },
    { "both nodes shake hands, one may do no more", testHandshake },
    { "pages are the same at both addresses", testMemory },
    { "images are true while hooks and modules look", testImageFields },
    { "VMMR0's entry points come after init and go with the image", testVmmEntryPoints },
    { "the system's loader may correct everything", testNativeImages },
    { "objects tell who made them", testObjects },
    { "object services ask the hooks and run destructors", testObjectServices },
    { "memory and semaphore services are symbols of the library", testMemoryServices },
    { "modules link against the core and the C runtime itself", testExports },
    { "components live as long as their driver's session", testComponents },
    { "the page follows its users, and shells may stop its timer", testGip },
    { "CPUs come and go", testCpuEvents },
    { "sibling drivers connect", testIdc },
    { "every failure of the runtime is survived without a leak", testFailures },
    { "threads don't get in each other's way", testThreads },
};

int main(int argc, char **argv)
{
    size_t i;
    rtArchInit();
    for (i = 0; i < sizeof(g_aTests) / sizeof(g_aTests[0]); i++)
    {
        if (argc > 1 && !strstr(g_aTests[i].pszName, argv[1]))
            continue;
        printf("%s ...\n", g_aTests[i].pszName);
        fflush(stdout);
        g_aTests[i].pfn();
    }
    printf("all passed\n");
    return 0;
}
