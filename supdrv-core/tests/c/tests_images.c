/* SPDX-License-Identifier: GPL-2.0-only OR CDDL-1.0 */
/* Images, placed by the core and by the system's loader, as hooks and modules see them. */
#define _GNU_SOURCE
#include "client.h"

#include <string.h>
#include <sys/mman.h>

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

int loadImage(uint32_t iFile, uint8_t *pbBase, SUPLDRLOADEP enmType)
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

void resetSeen(void)
{
    memset(&g_Seen, 0, sizeof(g_Seen));
    memset(&g_Hooks, 0, sizeof(g_Hooks));
    g_Hooks.pfnLdrNotifyOpened = notifyOpened;
}

void testImageFields(void)
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

void testVmmEntryPoints(void)
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

void testNativeImages(void)
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
