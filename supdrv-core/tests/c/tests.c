/* SPDX-License-Identifier: GPL-2.0-only OR CDDL-1.0 */
/*
 * Tests of the library from C: what a C driver sees of the core's objects, at the moments when it can look.
 */
#define _GNU_SOURCE
#include "shell.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/*
 * A client.
 */
static int request(uint32_t iFile, uint32_t uCode, void *pvPacket, uint32_t cbIn, uint32_t cbOut)
{
    SUPREQHDR *pHdr = (SUPREQHDR *)pvPacket;
    int rc;
    pHdr->u32Cookie = uCode == SUP_IOCTL_COOKIE ? SUPCOOKIE_INITIAL_COOKIE : BIRD;
    pHdr->u32SessionCookie = BIRD_INV;
    pHdr->cbIn = cbIn;
    pHdr->cbOut = cbOut;
    pHdr->fFlags = SUPREQHDR_FLAGS_DEFAULT;
    pHdr->rc = VERR_INTERNAL_ERROR;
    rc = drvIOCtl(iFile, uCode, (uintptr_t)pvPacket);
    return rc ? rc * 100000 : pHdr->rc;
}

#define REQUEST(iFile, Name, Packet) \
    request(iFile, SUP_IOCTL_##Name, &(Packet), SUP_IOCTL_##Name##_SIZE_IN, SUP_IOCTL_##Name##_SIZE_OUT)

static uint32_t openFile(bool fRestricted)
{
    uint32_t iFile;
    RT_CHECK(drvOpen(fRestricted, &iFile) == 0);
    return iFile;
}

static void loaded(void)
{
    RT_CHECK(drvLoad() == 0);
}

/* Unloads, and nothing may be left. */
static void unloaded(void)
{
    static RTCOUNTS const s_Nothing;
    RT_CHECK(drvUnload() == 0);
    RT_CHECK(memcmp(&g_rtCounts, &s_Nothing, sizeof(s_Nothing)) == 0);
}

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
            RT_CHECK(REQUEST(iFile, GET_PAGING_MODE, Mode) == VINF_SUCCESS && Mode.u.Out.enmMode == SUPPAGINGMODE_AMD64_GLOBAL_NX);
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
 * Images.
 */
static struct
{
    SUPDRVLDRIMAGE *pImage;
    unsigned cOpened, cInits, cTerms, cUnloads, cValidated;
} g_Seen;

static int moduleInit(void *hMod)
{
    SUPDRVLDRIMAGE *pImage = (SUPDRVLDRIMAGE *)hMod;
    RT_CHECK(pImage == g_Seen.pImage && g_DevExt.pLdrInitImage == pImage && g_DevExt.hLdrInitThread == RTThreadNativeSelf());
    RT_CHECK(pImage->uState == SUP_IOCTL_LDR_LOAD && !g_DevExt.pvVMMR0);
    g_Seen.cInits++;
    return 0;
}

static void moduleTerm(void *hMod)
{
    RT_CHECK(hMod == g_Seen.pImage && g_Seen.pImage->pDevExt == &g_DevExt && !g_Seen.cUnloads);
    g_Seen.cTerms++;
}

static void notifyOpened(SUPDRVDEVEXT *pDevExt, SUPDRVLDRIMAGE *pImage)
{
    RT_CHECK(pDevExt == &g_DevExt && pImage->pDevExt == pDevExt && pImage->pvImage && pImage->cUsage == 1);
    RT_CHECK(pImage->uState == SUP_IOCTL_LDR_OPEN && !pImage->cSymbols && !pImage->paSymbols && !pImage->pachStrTab);
    RT_CHECK(!pImage->pfnModuleInit && !pImage->pfnModuleTerm && !pImage->pfnServiceReqHandler);
    if (pImage->fNative)
        RT_CHECK(pImage == g_Seen.pImage);
    else
        RT_CHECK(pImage->pvImageAlloc && pImage->pvImageAlloc <= pImage->pvImage && (uintptr_t)pImage->pvImage % PAGE_SIZE == 0);
    g_Seen.pImage = pImage;
    g_Seen.cOpened++;
}

/* Code of an image: jumps to functions of this program. */
static void putJump(uint8_t *pb, void (*pfn)(void))
{
#ifdef __x86_64__
    pb[0] = 0x48; pb[1] = 0xb8;             /* mov rax, imm64 */
    memcpy(&pb[2], &pfn, 8);
    pb[10] = 0xff; pb[11] = 0xe0;           /* jmp rax */
#else
    pb[0] = 0xb8;                           /* mov eax, imm32 */
    memcpy(&pb[1], &pfn, 4);
    pb[5] = 0xff; pb[6] = 0xe0;             /* jmp eax */
#endif
}

static int service(SUPDRVSESSION *pSession, uint32_t uOperation, uint64_t u64Arg, SUPR0SERVICEREQHDR *pReqHdr)
{
    RT_CHECK(SUP_IS_SESSION_VALID(pSession) && !pReqHdr);
    return (int)(uOperation + u64Arg);
}

static struct { PVM pVM; VMCPUID idCpu; unsigned uOperation, cCalls; } g_Fast;

static int vmmEntryInt(PVM pVM, unsigned uOperation, void *pvArg)
{
    (void)pVM; (void)uOperation; (void)pvArg;
    return 0;
}

static void vmmEntryFast(PVM pVM, VMCPUID idCpu, unsigned uOperation)
{
    g_Fast.pVM = pVM;
    g_Fast.idCpu = idCpu;
    g_Fast.uOperation = uOperation;
    g_Fast.cCalls++;
}

static int vmmEntryEx(PVM pVM, VMCPUID idCpu, unsigned uOperation, SUPVMMR0REQHDR *pReq, uint64_t u64Arg, SUPDRVSESSION *pSession)
{
    RT_CHECK(SUP_IS_SESSION_VALID(pSession) && !pReq);
    return (int)((uintptr_t)pVM + idCpu + uOperation + u64Arg);
}

#define IMAGE_BITS  0x200U
#define IMAGE_TABS  0x40U

static void *openImage(uint32_t iFile, const char *pszName, bool fExpectNative, bool fExpectLoading)
{
    SUPLDROPEN Req;
    memset(&Req, 0, sizeof(Req));
    Req.u.In.cbImageBits = IMAGE_BITS;
    Req.u.In.cbImageWithTabs = IMAGE_BITS + IMAGE_TABS;
    strcpy(Req.u.In.szName, pszName);
    strcpy(Req.u.In.szFilename, "/lib/modules/test.r0");
    RT_CHECK(REQUEST(iFile, LDR_OPEN, Req) == VINF_SUCCESS);
    RT_CHECK(Req.u.Out.fNativeLoader == fExpectNative && Req.u.Out.fNeedsLoading == fExpectLoading);
    return Req.u.Out.pvImageBase;
}

static int loadImage(uint32_t iFile, uint8_t *pbBase, SUPLDRLOADEP enmType)
{
    union { SUPLDRLOAD Req; uint8_t ab[SUP_IOCTL_LDR_LOAD_SIZE_IN(IMAGE_BITS + IMAGE_TABS) + 8]; } u;
    uint8_t *pbBits = &u.Req.u.In.abImage[0];
    memset(&u, 0, sizeof(u));
    putJump(pbBits + 0x00, (void (*)(void))moduleInit);
    putJump(pbBits + 0x20, (void (*)(void))moduleTerm);
    putJump(pbBits + 0x40, (void (*)(void))service);
    putJump(pbBits + 0x60, (void (*)(void))vmmEntryInt);
    putJump(pbBits + 0x80, (void (*)(void))vmmEntryFast);
    putJump(pbBits + 0xa0, (void (*)(void))vmmEntryEx);
    {
        SUPLDRSYM aSyms[2];
        aSyms[0].offName = 0; aSyms[0].offSymbol = 0x20;
        aSyms[1].offName = 5; aSyms[1].offSymbol = 0x40;
        memcpy(pbBits + IMAGE_BITS, aSyms, sizeof(aSyms));
        memcpy(pbBits + IMAGE_BITS + 0x20, "Term\0Service", 13);
    }
    u.Req.u.In.pfnModuleInit = (PFNR0MODULEINIT)(uintptr_t)pbBase;
    u.Req.u.In.pfnModuleTerm = (PFNR0MODULETERM)(uintptr_t)(pbBase + 0x20);
    u.Req.u.In.eEPType = enmType;
    if (enmType == SUPLDRLOADEP_SERVICE)
        u.Req.u.In.EP.Service.pfnServiceReq = (PFNSUPR0SERVICEREQHANDLER)(uintptr_t)(pbBase + 0x40);
    else if (enmType == SUPLDRLOADEP_VMMR0)
    {
        u.Req.u.In.EP.VMMR0.pvVMMR0 = pbBase;
        u.Req.u.In.EP.VMMR0.pvVMMR0EntryInt = pbBase + 0x60;
        u.Req.u.In.EP.VMMR0.pvVMMR0EntryFast = pbBase + 0x80;
        u.Req.u.In.EP.VMMR0.pvVMMR0EntryEx = pbBase + 0xa0;
    }
    u.Req.u.In.pvImageBase = pbBase;
    u.Req.u.In.cbImageBits = IMAGE_BITS;
    u.Req.u.In.cbImageWithTabs = IMAGE_BITS + IMAGE_TABS;
    u.Req.u.In.offSymbols = IMAGE_BITS;
    u.Req.u.In.cSymbols = 2;
    u.Req.u.In.offStrTab = IMAGE_BITS + 0x20;
    u.Req.u.In.cbStrTab = 13;
    return request(iFile, SUP_IOCTL_LDR_LOAD, &u, SUP_IOCTL_LDR_LOAD_SIZE_IN(IMAGE_BITS + IMAGE_TABS), SUP_IOCTL_LDR_LOAD_SIZE_OUT);
}

static int freeImage(uint32_t iFile, void *pvBase)
{
    SUPLDRFREE Req;
    memset(&Req, 0, sizeof(Req));
    Req.u.In.pvImageBase = pvBase;
    return REQUEST(iFile, LDR_FREE, Req);
}

static void *getSymbol(uint32_t iFile, void *pvBase, const char *pszName)
{
    SUPLDRGETSYMBOL Req;
    memset(&Req, 0, sizeof(Req));
    Req.u.In.pvImageBase = pvBase;
    strcpy(Req.u.In.szSymbol, pszName);
    return REQUEST(iFile, LDR_GET_SYMBOL, Req) == 0 ? Req.u.Out.pvSymbol : NULL;
}

static void checkLoadedImage(uint8_t *pbBase)
{
    SUPDRVLDRIMAGE *p = g_Seen.pImage;
    RT_CHECK(p->pvImage == pbBase && p->cbImageBits == IMAGE_BITS && p->cbImageWithTabs == IMAGE_BITS + IMAGE_TABS);
    RT_CHECK(p->uState == SUP_IOCTL_LDR_LOAD && p->cSymbols == 2 && p->cbStrTab == 13 && p->pDevExt == &g_DevExt);
    RT_CHECK(strcmp(p->pachStrTab + p->paSymbols[1].offName, "Service") == 0 && p->paSymbols[1].offSymbol == 0x40);
}

static void resetSeen(void)
{
    memset(&g_Seen, 0, sizeof(g_Seen));
    memset(&g_Hooks, 0, sizeof(g_Hooks));
    g_Hooks.pfnLdrNotifyOpened = notifyOpened;
}

static void testImageFields(void)
{
    uint32_t iFile, iOther;
    uint8_t *pbBase;
    SUPCALLSERVICE Call;
    loaded();
    resetSeen();
    iFile = openFile(false);
    iOther = openFile(false);
    pbBase = (uint8_t *)openImage(iFile, "Svc.r0", false, true);
    RT_CHECK(strcmp(g_Seen.pImage->szName, "Svc.r0") == 0 && !g_Seen.pImage->fNative);
    RT_CHECK(openImage(iOther, "Svc.r0", false, true) == pbBase && g_Seen.pImage->cUsage == 2);
    RT_CHECK(loadImage(iFile, pbBase, SUPLDRLOADEP_SERVICE) == VINF_SUCCESS && g_Seen.cInits == 1);
    checkLoadedImage(pbBase);
    RT_CHECK((uintptr_t)g_Seen.pImage->pfnServiceReqHandler == (uintptr_t)(pbBase + 0x40));
    RT_CHECK((uintptr_t)g_Seen.pImage->pfnModuleInit == (uintptr_t)pbBase);
    RT_CHECK((uintptr_t)g_Seen.pImage->pfnModuleTerm == (uintptr_t)(pbBase + 0x20));
    RT_CHECK(!g_DevExt.pLdrInitImage && g_DevExt.hLdrInitThread == NIL_RTNATIVETHREAD && !g_DevExt.pvVMMR0);
    RT_CHECK(getSymbol(iFile, pbBase, "Service") == pbBase + 0x40 && !getSymbol(iFile, pbBase, "Serv"));
    memset(&Call, 0, sizeof(Call));
    strcpy(Call.u.In.szName, "Svc.r0");
    Call.u.In.uOperation = 40;
    Call.u.In.u64Arg = 2;
    RT_CHECK(request(iFile, SUP_IOCTL_CALL_SERVICE(0), &Call, SUP_IOCTL_CALL_SERVICE_SIZE_IN(0), SUP_IOCTL_CALL_SERVICE_SIZE_OUT(0)) == 42);
    RT_CHECK(freeImage(iFile, pbBase) == 0 && g_Seen.pImage->cUsage == 1 && !g_Seen.cTerms);
    drvClose(iOther);
    RT_CHECK(g_Seen.cTerms == 1 && g_Seen.cOpened == 1 && !g_Seen.cUnloads);
    drvClose(iFile);
    unloaded();
}

static void testVmmEntryPoints(void)
{
    uint32_t iFile;
    uint8_t *pbBase;
    SUPSETVMFORFAST Set;
    SUPCALLVMMR0 Call;
    loaded();
    resetSeen();
    iFile = openFile(false);
    pbBase = (uint8_t *)openImage(iFile, "VMMR0.r0", false, true);
    RT_CHECK(loadImage(iFile, pbBase, SUPLDRLOADEP_VMMR0) == VINF_SUCCESS);
    RT_CHECK(g_DevExt.pvVMMR0 == pbBase && (uintptr_t)g_DevExt.pfnVMMR0EntryInt == (uintptr_t)(pbBase + 0x60));
    RT_CHECK((uintptr_t)g_DevExt.pfnVMMR0EntryFast == (uintptr_t)(pbBase + 0x80));
    RT_CHECK((uintptr_t)g_DevExt.pfnVMMR0EntryEx == (uintptr_t)(pbBase + 0xa0));
    memset(&Call, 0, sizeof(Call));
    Call.u.In.pVMR0 = (PVMR0)100;
    Call.u.In.idCpu = 20;
    Call.u.In.uOperation = 3;
    Call.u.In.u64Arg = 1000;
    RT_CHECK(request(iFile, SUP_IOCTL_CALL_VMMR0(0), &Call, SUP_IOCTL_CALL_VMMR0_SIZE_IN(0), SUP_IOCTL_CALL_VMMR0_SIZE_OUT(0)) == 1123);
    memset(&Set, 0, sizeof(Set));
    RT_CHECK(drvIOCtl(iFile, SUP_IOCTL_FAST_DO_NOP, 7) == VERR_INTERNAL_ERROR);
    Set.u.In.pVMR0 = (PVMR0)0x10000;
    RT_CHECK(REQUEST(iFile, SET_VM_FOR_FAST, Set) == 0 && drvSession(iFile)->Core.pVM == (PVM)0x10000);
    RT_CHECK(drvIOCtl(iFile, SUP_IOCTL_FAST_DO_HM_RUN, 7) == 0);
    RT_CHECK(g_Fast.cCalls == 1 && g_Fast.pVM == (PVM)0x10000 && g_Fast.idCpu == 7 && g_Fast.uOperation == SUP_VMMR0_DO_HM_RUN);
    RT_CHECK(freeImage(iFile, pbBase) == 0);
    RT_CHECK(!g_DevExt.pvVMMR0 && !g_DevExt.pfnVMMR0EntryInt && !g_DevExt.pfnVMMR0EntryFast && !g_DevExt.pfnVMMR0EntryEx);
    RT_CHECK(drvIOCtl(iFile, SUP_IOCTL_FAST_DO_NOP, 7) == VERR_INTERNAL_ERROR && g_Seen.cTerms == 1);
    drvClose(iFile);
    unloaded();
}

/*
 * Images of the system's loader.
 */
static uint8_t *g_pbNative;

static int nativeOpen(SUPDRVDEVEXT *pDevExt, SUPDRVLDRIMAGE *pImage, const char *pszFilename)
{
    (void)pDevExt;
    RT_CHECK(strcmp(pszFilename, "/lib/modules/test.r0") == 0 && !pImage->pvImage && pImage->cbImageBits == IMAGE_BITS);
    if (strcmp(pImage->szName, "broken.r0") == 0)
        return VERR_LDR_GENERAL_FAILURE;
    g_Seen.pImage = pImage;
    pImage->pvImage = g_pbNative;
    pImage->pvImageAlloc = g_pbNative - 16;
    return VINF_SUCCESS;
}

static int nativeValidate(SUPDRVDEVEXT *pDevExt, SUPDRVLDRIMAGE *pImage, void *pv, const uint8_t *pbBits)
{
    (void)pDevExt;
    RT_CHECK(pImage == g_Seen.pImage && pImage->uState == SUP_IOCTL_LDR_OPEN && (uint8_t *)pv - g_pbNative < (ptrdiff_t)IMAGE_BITS);
    RT_CHECK(pbBits[0] != 0);
    g_Seen.cValidated++;
    return VINF_SUCCESS;
}

/* Moves everything by 16 bytes. */
static int nativeLoad(SUPDRVDEVEXT *pDevExt, SUPDRVLDRIMAGE *pImage, const uint8_t *pbBits, SUPLDRLOAD *pReq)
{
    unsigned i;
    RT_CHECK(pDevExt == &g_DevExt && pImage == g_Seen.pImage && pImage->cSymbols == 2 && pReq->u.In.pvImageBase == g_pbNative);
    RT_CHECK(pReq->u.In.eEPType == SUPLDRLOADEP_VMMR0 && pReq->u.In.cbImageBits == IMAGE_BITS && pReq->u.In.cSymbols == 2);
    memcpy(g_pbNative + 16, pbBits, IMAGE_BITS);
    for (i = 0; i < pImage->cSymbols; i++)
        pImage->paSymbols[i].offSymbol += 16;
    pImage->pfnModuleInit = (PFNR0MODULEINIT)(uintptr_t)((uint8_t *)(uintptr_t)pImage->pfnModuleInit + 16);
    pImage->pfnModuleTerm = (PFNR0MODULETERM)(uintptr_t)((uint8_t *)(uintptr_t)pImage->pfnModuleTerm + 16);
    pReq->u.In.EP.VMMR0.pvVMMR0EntryInt = (uint8_t *)pReq->u.In.EP.VMMR0.pvVMMR0EntryInt + 16;
    pReq->u.In.EP.VMMR0.pvVMMR0EntryFast = (uint8_t *)pReq->u.In.EP.VMMR0.pvVMMR0EntryFast + 16;
    pReq->u.In.EP.VMMR0.pvVMMR0EntryEx = (uint8_t *)pReq->u.In.EP.VMMR0.pvVMMR0EntryEx + 16;
    return VINF_SUCCESS;
}

static void nativeUnload(SUPDRVDEVEXT *pDevExt, SUPDRVLDRIMAGE *pImage)
{
    RT_CHECK(pDevExt == &g_DevExt && pImage == g_Seen.pImage && pImage->pvImage == g_pbNative);
    g_Seen.cUnloads++;
}

static void testNativeImages(void)
{
    uint32_t iFile;
    SUPLDROPEN Broken;
    loaded();
    resetSeen();
    g_Hooks.pfnLdrOpen = nativeOpen;
    g_Hooks.pfnLdrValidatePointer = nativeValidate;
    g_Hooks.pfnLdrLoad = nativeLoad;
    g_Hooks.pfnLdrUnload = nativeUnload;
    g_pbNative = (uint8_t *)mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    iFile = openFile(false);
    RT_CHECK(openImage(iFile, "VMMR0.r0", true, true) == g_pbNative);
    RT_CHECK(g_Seen.pImage->fNative && g_Seen.pImage->pvImageAlloc == g_pbNative - 16);
    RT_CHECK(loadImage(iFile, g_pbNative, SUPLDRLOADEP_VMMR0) == VINF_SUCCESS && g_Seen.cInits == 1 && g_Seen.cValidated == 6);
    RT_CHECK(getSymbol(iFile, g_pbNative, "Term") == g_pbNative + 0x30);
    RT_CHECK((uintptr_t)g_DevExt.pfnVMMR0EntryEx == (uintptr_t)(g_pbNative + 0xb0));
    RT_CHECK((uintptr_t)g_Seen.pImage->pfnModuleTerm == (uintptr_t)(g_pbNative + 0x30));
    RT_CHECK(freeImage(iFile, g_pbNative) == 0 && g_Seen.cTerms == 1 && g_Seen.cUnloads == 1);
    /* What the hook refuses is the answer. */
    memset(&Broken, 0, sizeof(Broken));
    Broken.u.In.cbImageBits = IMAGE_BITS;
    Broken.u.In.cbImageWithTabs = IMAGE_BITS + IMAGE_TABS;
    strcpy(Broken.u.In.szName, "broken.r0");
    strcpy(Broken.u.In.szFilename, "/lib/modules/test.r0");
    RT_CHECK(REQUEST(iFile, LDR_OPEN, Broken) == VERR_LDR_GENERAL_FAILURE && g_Seen.cUnloads == 1);
    drvClose(iFile);
    munmap(g_pbNative, PAGE_SIZE);
    resetSeen();
    unloaded();
}

/*
 * Objects: semaphores are some.
 */
static SUPDRVOBJ *g_pObj;

static void initCreator(SUPDRVOBJ *pObj, SUPDRVSESSION *pSession)
{
    RT_CHECK(pObj->u32Magic == SUPDRVOBJ_MAGIC && pObj->enmType == SUPDRVOBJTYPE_SEM_EVENT);
    RT_CHECK(pObj->CreatorUid == pSession->Uid && pObj->CreatorGid == pSession->Gid && pObj->CreatorProcess == pSession->Process);
    RT_CHECK(pObj->cUsage == 1);
    g_pObj = pObj;
}

static void testObjects(void)
{
    uint32_t iFile;
    SUPSEMOP3 Create;
    SUPSEMOP2 Op;
    loaded();
    resetSeen();
    g_Hooks.pfnObjInitCreator = initCreator;
    g_ShellUid = 4711;
    iFile = openFile(false);
    memset(&Create, 0, sizeof(Create));
    Create.u.In.uType = SUP_SEM_TYPE_EVENT;
    Create.u.In.uOp = SUPSEMOP3_CREATE;
    RT_CHECK(REQUEST(iFile, SEM_OP3, Create) == 0 && g_pObj && g_pObj->CreatorUid == 4711 && g_pObj->u32Magic == SUPDRVOBJ_MAGIC);
    memset(&Op, 0, sizeof(Op));
    Op.u.In.uType = SUP_SEM_TYPE_EVENT;
    Op.u.In.hSem = Create.u.Out.hSem;
    Op.u.In.uOp = SUPSEMOP2_SIGNAL;
    RT_CHECK(REQUEST(iFile, SEM_OP2, Op) == 0 && g_pObj->cUsage == 1);
    Op.u.In.uOp = SUPSEMOP2_WAIT_MS_REL;
    Op.u.In.uArg.cRelMsTimeout = 0;
    RT_CHECK(REQUEST(iFile, SEM_OP2, Op) == 0 && REQUEST(iFile, SEM_OP2, Op) == VERR_TIMEOUT);
    Op.u.In.uOp = SUPSEMOP2_WAIT_NS_REL;
    Op.u.In.uArg.cRelNsTimeout = 3000000;
    RT_CHECK(REQUEST(iFile, SEM_OP2, Op) == VERR_TIMEOUT);
    rtSelf()->fInterrupt = true;
    Op.u.In.uArg.cRelNsTimeout = UINT64_C(3600000000000);
    RT_CHECK(REQUEST(iFile, SEM_OP2, Op) == VERR_INTERRUPTED);
    Op.u.In.uOp = SUPSEMOP2_CLOSE;
    RT_CHECK(REQUEST(iFile, SEM_OP2, Op) == VINF_OBJECT_DESTROYED && REQUEST(iFile, SEM_OP2, Op) == VERR_INVALID_HANDLE);
    drvClose(iFile);
    g_ShellUid = 1000;
    resetSeen();
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
    static RTCOUNTS const s_Nothing;
    int iFail;
    resetSeen();
    g_fRtQuiet = true;
    for (iFail = 1;; iFail++)
    {
        bool fDone;
        g_iRtFailNext = iFail;
        fDone = everything();
        RT_CHECK(memcmp(&g_rtCounts, &s_Nothing, sizeof(s_Nothing)) == 0);
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
    { "both nodes shake hands, one may do no more", testHandshake },
    { "pages are the same at both addresses", testMemory },
    { "images are true while hooks and modules look", testImageFields },
    { "VMMR0's entry points come after init and go with the image", testVmmEntryPoints },
    { "the system's loader may correct everything", testNativeImages },
    { "objects tell who made them", testObjects },
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
