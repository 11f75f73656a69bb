/* SPDX-License-Identifier: GPL-2.0-only OR CDDL-1.0 */
/* Services that the core offers to C: objects, semaphores, memory, components, the export table. */
#define _GNU_SOURCE
#include "client.h"

#include <stdlib.h>
#include <string.h>

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
    /* Hooks may know better. */
    pObj->CreatorGid = 77;
}

void testObjects(void)
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
    RT_CHECK(REQUEST(iFile, SEM_OP3, Create) == 0 && g_pObj && g_pObj->CreatorUid == 4711 && g_pObj->CreatorGid == 77 && g_pObj->u32Magic == SUPDRVOBJ_MAGIC);
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
 * Objects by their services.
 */
static unsigned g_cDestroyed;

static void destructor(void *pvObj, void *pvUser1, void *pvUser2)
{
    SUPDRVOBJ *pObj = (SUPDRVOBJ *)pvObj;
    RT_CHECK(pObj->u32Magic == SUPDRVOBJ_MAGIC_DEAD && pvUser1 == (void *)1 && pvUser2 == (void *)2 && rtMayBlock());
    g_cDestroyed++;
}

static bool canAccess(SUPDRVOBJ *pObj, SUPDRVSESSION *pSession, const char *pszName, int *prc)
{
    RT_CHECK(pObj->u32Magic == SUPDRVOBJ_MAGIC && pSession->Uid != pObj->CreatorUid);
    if (strcmp(pszName, "undecided") == 0)
        return false;
    if (strcmp(pszName, "yes") == 0)
        *prc = VINF_SUCCESS;
    return true;    /* with what the core made of it, for any other name */
}

void testObjectServices(void)
{
    uint32_t iFile, iOther;
    SUPDRVSESSION *pSession, *pOther;
    SUPDRVOBJ *pObj;
    loaded();
    resetSeen();
    g_cDestroyed = 0;
    iFile = openFile(false);
    g_ShellUid = 2000;
    iOther = openFile(false);
    g_ShellUid = 1000;
    pSession = &drvSession(iFile)->Core;
    pOther = &drvSession(iOther)->Core;
    pObj = (SUPDRVOBJ *)SUPR0ObjRegister(pSession, SUPDRVOBJTYPE_VM, destructor, (void *)1, (void *)2);
    RT_CHECK(pObj && pObj->enmType == SUPDRVOBJTYPE_VM && pObj->cUsage == 1 && pObj->pfnDestructor == destructor);
    RT_CHECK(!SUPR0ObjRegister(pSession, SUPDRVOBJTYPE_END, destructor, NULL, NULL));
    RT_CHECK(!SUPR0ObjRegister(NULL, SUPDRVOBJTYPE_VM, destructor, NULL, NULL));
    RT_CHECK(SUPR0ObjVerifyAccess(pObj, pSession, NULL) == VINF_SUCCESS);
    RT_CHECK(SUPR0ObjVerifyAccess(pObj, pOther, NULL) == VERR_PERMISSION_DENIED);
    g_Hooks.pfnObjCanAccess = canAccess;
    RT_CHECK(SUPR0ObjVerifyAccess(pObj, pOther, "undecided") == VERR_PERMISSION_DENIED);
    RT_CHECK(SUPR0ObjVerifyAccess(pObj, pOther, "yes") == VINF_SUCCESS);
    RT_CHECK(SUPR0ObjVerifyAccess(pObj, pOther, "forgetful") == VERR_INTERNAL_ERROR);
    /* The shell may correct who the user is at any time. */
    pOther->Uid = 1000;
    g_Hooks.pfnObjCanAccess = NULL;
    RT_CHECK(SUPR0ObjVerifyAccess(pObj, pOther, NULL) == VINF_SUCCESS);
    RT_CHECK(SUPR0ObjAddRef(pObj, pOther) == VINF_SUCCESS && pObj->cUsage == 2);
    RT_CHECK(SUPR0ObjRelease(pObj, pSession) == VINF_SUCCESS && pObj->cUsage == 1 && !g_cDestroyed);
    RT_CHECK(SUPR0ObjRelease(pObj, pSession) == VERR_INVALID_PARAMETER);
    drvClose(iOther);
    RT_CHECK(g_cDestroyed == 1);
    drvClose(iFile);
    unloaded();
}

void testMemoryServices(void)
{
    uint32_t iFile;
    SUPDRVSESSION *pSession;
    RTR0PTR pvR0;
    RTR3PTR R3Ptr;
    RTHCPHYS HCPhys, aPhys[3];
    SUPSEMEVENT hEvent;
    loaded();
    iFile = openFile(false);
    pSession = &drvSession(iFile)->Core;
    RT_CHECK(SUPR0ContAlloc(pSession, 3, &pvR0, &R3Ptr, &HCPhys) == VINF_SUCCESS && pvR0 && R3Ptr);
    *(uint64_t *)R3Ptr = 42;
    RT_CHECK(*(uint64_t *)pvR0 == 42 && HCPhys % PAGE_SIZE == 0);
    RT_CHECK(SUPR0ContFree(pSession, R3Ptr) == VINF_SUCCESS && SUPR0ContFree(pSession, R3Ptr) == VERR_INVALID_PARAMETER);
    RT_CHECK(SUPR0LowAlloc(pSession, 3, &pvR0, &R3Ptr, aPhys) == VINF_SUCCESS && aPhys[2] == aPhys[0] + 2 * PAGE_SIZE);
    RT_CHECK(SUPR0LowFree(pSession, (RTHCUINTPTR)pvR0) == VINF_SUCCESS);
    RT_CHECK(SUPR0ContAlloc(NULL, 3, &pvR0, &R3Ptr, &HCPhys) == VERR_INVALID_PARAMETER);
    RT_CHECK(SUPSemEventCreate(pSession, &hEvent) == VINF_SUCCESS);
    RT_CHECK(SUPSemEventWaitNoResume(pSession, hEvent, 1) == VERR_TIMEOUT);
    RT_CHECK(SUPSemEventSignal(pSession, hEvent) == VINF_SUCCESS && SUPSemEventWait(pSession, hEvent, 1) == VINF_SUCCESS);
    RT_CHECK(SUPSemEventClose(pSession, hEvent) == VINF_OBJECT_DESTROYED);
    RT_CHECK(SUPGetGIP() == g_DevExt.pGip && g_pSUPGlobalInfoPage == g_DevExt.pGip);
    RT_CHECK(SUPR0GetPagingMode() == RT_TEST_PAGING_MODE && SUPR0EnableVTx(true) == VERR_NOT_SUPPORTED);
    drvClose(iFile);
    RT_CHECK(g_cRtLoggerResets > 0);
    unloaded();
    RT_CHECK(!SUPGetGIP() && !g_pSUPGlobalInfoPage);
}

/*
 * What modules link against: the core's services, and the runtime's own functions.
 */
void testExports(void)
{
    uint32_t iFile, iFunction, cRuntime = 0;
    SUPCOOKIE Cookie;
    SUPQUERYFUNCS *pFuncs;
    uint32_t cb;
    loaded();
    iFile = openFile(false);
    memset(&Cookie, 0, sizeof(Cookie));
    memcpy(Cookie.u.In.szMagic, SUPCOOKIE_MAGIC, sizeof(SUPCOOKIE_MAGIC));
    Cookie.u.In.u32ReqVersion = Cookie.u.In.u32MinVersion = SUPDRV_IOC_VERSION;
    RT_CHECK(REQUEST(iFile, COOKIE, Cookie) == VINF_SUCCESS && Cookie.u.Out.cFunctions == 255);
    cb = SUP_IOCTL_QUERY_FUNCS_SIZE_OUT(255);
    pFuncs = (SUPQUERYFUNCS *)calloc(1, cb);
    RT_CHECK(request(iFile, SUP_IOCTL_QUERY_FUNCS, pFuncs, SUP_IOCTL_QUERY_FUNCS_SIZE_IN, cb) == VINF_SUCCESS);
    RT_CHECK(strcmp(pFuncs->u.Out.aFunctions[0].szName, "SUPR0AbsIs64bit") == 0);
    for (iFunction = 10; iFunction < 255; iFunction++)
    {
        SUPFUNC const *pFunc = &pFuncs->u.Out.aFunctions[0] + iFunction;
        uintptr_t const uAddress = (uintptr_t)pFunc->pfn;
        RT_CHECK(uAddress);
        cRuntime += strncmp(pFunc->szName, "RT", 2) == 0;
        if (strcmp(pFunc->szName, "RTMemAllocTag") == 0)
            RT_CHECK(uAddress == (uintptr_t)RTMemAllocTag);
        if (strcmp(pFunc->szName, "RTSpinlockAcquire") == 0)
            RT_CHECK(uAddress == (uintptr_t)RTSpinlockAcquire);
        if (strcmp(pFunc->szName, "SUPR0Printf") == 0)
            RT_CHECK(uAddress == (uintptr_t)SUPR0Printf);
        if (strcmp(pFunc->szName, "SUPR0ObjRegister") == 0)
            RT_CHECK(uAddress == (uintptr_t)SUPR0ObjRegister);
        if (strcmp(pFunc->szName, "g_pSUPGlobalInfoPage") == 0)
            RT_CHECK(uAddress == (uintptr_t)&g_pSUPGlobalInfoPage);
    }
    RT_CHECK(cRuntime == 195);
    free(pFuncs);
    drvClose(iFile);
    unloaded();
}

/*
 * Components of sibling drivers.
 */
static void *queryInterface(const SUPDRVFACTORY *pFactory, SUPDRVSESSION *pSession, const char *pszUuid)
{
    RT_CHECK(SUP_IS_SESSION_VALID(pSession) && strcmp(pFactory->szName, "Net") == 0);
    return strcmp(pszUuid, "known") == 0 ? (void *)0x1234 : NULL;
}

static SUPDRVSESSION *connectIdc(void)
{
    SUPDRVIDCREQCONNECT Connect;
    memset(&Connect, 0, sizeof(Connect));
    Connect.Hdr.cb = sizeof(Connect);
    Connect.u.In.u32MagicCookie = SUPDRVIDCREQ_CONNECT_MAGIC_COOKIE;
    Connect.u.In.uMinVersion = Connect.u.In.uReqVersion = SUPDRV_IDC_VERSION;
    RT_CHECK(drvIDC(SUPDRV_IDC_REQ_CONNECT, &Connect.Hdr) == 0 && Connect.Hdr.rc == 0);
    return Connect.Hdr.pSession;
}

void testComponents(void)
{
    static SUPDRVFACTORY s_Factory;
    SUPDRVIDCREQCOMPREGFACTORY Register;
    SUPDRVIDCREQGETSYM GetSym;
    SUPDRVIDCREQHDR Disconnect;
    SUPDRVSESSION *pSession;
    void *pvInterface = NULL;
    uint32_t iFile;
    loaded();
    iFile = openFile(false);
    pSession = connectIdc();
    strcpy(s_Factory.szName, "Net");
    s_Factory.pfnQueryFactoryInterface = queryInterface;
    memset(&Register, 0, sizeof(Register));
    Register.Hdr.cb = sizeof(Register);
    Register.Hdr.pSession = pSession;
    Register.u.In.pFactory = &s_Factory;
    RT_CHECK(drvIDC(SUPDRV_IDC_REQ_COMPONENT_REGISTER_FACTORY, &Register.Hdr) == 0 && Register.Hdr.rc == 0);
    RT_CHECK(drvIDC(SUPDRV_IDC_REQ_COMPONENT_REGISTER_FACTORY, &Register.Hdr) == 0 && Register.Hdr.rc == VERR_ALREADY_EXISTS);
    RT_CHECK(SUPR0ComponentQueryFactory(&drvSession(iFile)->Core, "Net", "known", &pvInterface) == 0 && pvInterface == (void *)0x1234);
    RT_CHECK(SUPR0ComponentQueryFactory(&drvSession(iFile)->Core, "Net", "other", &pvInterface) != 0 && !pvInterface);
    memset(&GetSym, 0, sizeof(GetSym));
    GetSym.Hdr.cb = sizeof(GetSym);
    GetSym.Hdr.pSession = pSession;
    GetSym.u.In.pszSymbol = "SUPR0ObjRegister";
    RT_CHECK(drvIDC(SUPDRV_IDC_REQ_GET_SYMBOL, &GetSym.Hdr) == 0 && GetSym.Hdr.rc == 0);
    RT_CHECK((uintptr_t)GetSym.u.Out.pfnSymbol == (uintptr_t)SUPR0ObjRegister);
    /* The factory goes with its session. */
    memset(&Disconnect, 0, sizeof(Disconnect));
    Disconnect.cb = sizeof(Disconnect);
    Disconnect.pSession = pSession;
    RT_CHECK(drvIDC(SUPDRV_IDC_REQ_DISCONNECT, &Disconnect) == 0);
    RT_CHECK(SUPR0ComponentQueryFactory(&drvSession(iFile)->Core, "Net", "known", &pvInterface) == VERR_SUPDRV_COMPONENT_NOT_FOUND);
    drvClose(iFile);
    unloaded();
}
