/* SPDX-License-Identifier: GPL-2.0-only OR CDDL-1.0 */
/*
 * Client side of the inter-driver interface. See supdrv_idc.h.
 */
#include "supdrv_idc.h"

#ifdef _MSC_VER
# include <intrin.h>
#endif

/* The handle that the object services use: the first one that was opened and isn't closed. */
static PSUPDRVIDCHANDLE volatile g_pMainHandle;

/* Whether a kernel address can be one: the interface's test, without the part that depends on the processor. */
static int supdrvIdcIsPlausible(const volatile void *pv)
{
    return (uintptr_t)pv + 0x1000 >= 0x2000;
}

static PSUPDRVIDCHANDLE supdrvIdcExchangeMain(PSUPDRVIDCHANDLE pNew, PSUPDRVIDCHANDLE pOld)
{
#ifdef _MSC_VER
    return (PSUPDRVIDCHANDLE)_InterlockedCompareExchangePointer((void * volatile *)&g_pMainHandle, pNew, pOld);
#else
    __atomic_compare_exchange_n(&g_pMainHandle, &pOld, pNew, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    return pOld;
#endif
}

/*
 * The transport.
 */
#ifndef SUPDRV_IDC_OWN_TRANSPORT
static int supdrvIdcTransportCall(PSUPDRVIDCHANDLE pHandle, uint32_t uReq, PSUPDRVIDCREQHDR pReq)
{
    (void)pHandle;
# ifdef SUPDRV_IDC_ENTRY
    return SUPDRV_IDC_ENTRY(uReq, pReq);
# else
    (void)uReq;
    (void)pReq;
    return VERR_NOT_SUPPORTED;
# endif
}

static int supdrvIdcTransportOpen(PSUPDRVIDCHANDLE pHandle, SUPDRVIDCREQCONNECT *pReq)
{
    return supdrvIdcTransportCall(pHandle, SUPDRV_IDC_REQ_CONNECT, &pReq->Hdr);
}

static int supdrvIdcTransportClose(PSUPDRVIDCHANDLE pHandle, PSUPDRVIDCREQHDR pReq)
{
    return supdrvIdcTransportCall(pHandle, SUPDRV_IDC_REQ_DISCONNECT, pReq);
}
#endif

static void supdrvIdcInitHeader(PSUPDRVIDCREQHDR pHdr, size_t cb, PSUPDRVIDCHANDLE pHandle)
{
    pHdr->cb = (uint32_t)cb;
    pHdr->rc = VERR_WRONG_ORDER;
    pHdr->pSession = (PSUPDRVSESSION)pHandle->apvPadding[0];
#if defined(__i386__) || defined(_M_IX86)
    pHdr->u32Padding = 0;
#endif
}

static int supdrvIdcIsOpen(PSUPDRVIDCHANDLE pHandle)
{
    return supdrvIdcIsPlausible(pHandle) && supdrvIdcIsPlausible(pHandle->apvPadding[0]);
}

static int supdrvIdcResult(int rcCall, PSUPDRVIDCREQHDR pHdr)
{
    return rcCall < 0 ? rcCall : pHdr->rc;
}

int SUPR0IdcOpen(PSUPDRVIDCHANDLE pHandle, uint32_t uReqVersion, uint32_t uMinVersion, uint32_t *puSessionVersion,
                 uint32_t *puDriverVersion, uint32_t *puDriverRevision)
{
    uint32_t * const apuOut[3] = { puSessionVersion, puDriverVersion, puDriverRevision };
    SUPDRVIDCREQCONNECT Req;
    unsigned i;
    int rc;

    if (!supdrvIdcIsPlausible(pHandle))
        return VERR_INVALID_POINTER;
    for (i = 0; i < 4; i++)
        pHandle->apvPadding[i] = NULL;
    for (i = 0; i < 3; i++)
        if (apuOut[i])
        {
            if (!supdrvIdcIsPlausible(apuOut[i]))
                return VERR_INVALID_POINTER;
            *apuOut[i] = 0;
        }
    if (   (uMinVersion && uMinVersion >> 16 != SUPDRV_IDC_VERSION >> 16)
        || (uReqVersion && uReqVersion >> 16 != SUPDRV_IDC_VERSION >> 16))
        return VERR_INVALID_PARAMETER;
    if (uMinVersion < SUPDRV_IDC_VERSION)
        uMinVersion = SUPDRV_IDC_VERSION;
    if (uReqVersion < SUPDRV_IDC_VERSION)
        uReqVersion = SUPDRV_IDC_VERSION;

    supdrvIdcInitHeader(&Req.Hdr, sizeof(Req), pHandle);
    Req.u.In.u32MagicCookie = SUPDRVIDCREQ_CONNECT_MAGIC_COOKIE;
    Req.u.In.uReqVersion = uReqVersion;
    Req.u.In.uMinVersion = uMinVersion;
    rc = supdrvIdcResult(supdrvIdcTransportOpen(pHandle, &Req), &Req.Hdr);
    if (rc < 0)
        return rc;

    pHandle->apvPadding[0] = Req.u.Out.pSession;
    if (   !supdrvIdcIsPlausible(Req.u.Out.pSession)
        || Req.u.Out.uSessionVersion < uMinVersion
        || Req.u.Out.uSessionVersion >> 16 != SUPDRV_IDC_VERSION >> 16)
    {
        SUPR0IdcClose(pHandle);
        return VERR_VERSION_MISMATCH;
    }
    if (puSessionVersion)
        *puSessionVersion = Req.u.Out.uSessionVersion;
    if (puDriverVersion)
        *puDriverVersion = Req.u.Out.uDriverVersion;
    if (puDriverRevision)
        *puDriverRevision = Req.u.Out.uDriverRevision;
    supdrvIdcExchangeMain(pHandle, NULL);
    return rc;
}

int SUPR0IdcClose(PSUPDRVIDCHANDLE pHandle)
{
    SUPDRVIDCREQHDR Req;
    int rc;

    if (!supdrvIdcIsPlausible(pHandle))
        return VERR_INVALID_POINTER;
    if (!supdrvIdcIsOpen(pHandle))
        return VERR_INVALID_HANDLE;
    supdrvIdcInitHeader(&Req, sizeof(Req), pHandle);
    rc = supdrvIdcResult(supdrvIdcTransportClose(pHandle, &Req), &Req);
    if (rc >= 0)
    {
        pHandle->apvPadding[0] = NULL;
        supdrvIdcExchangeMain(NULL, pHandle);
    }
    return rc;
}

PSUPDRVSESSION SUPR0IdcGetSession(PSUPDRVIDCHANDLE pHandle)
{
    return supdrvIdcIsOpen(pHandle) ? (PSUPDRVSESSION)pHandle->apvPadding[0] : NULL;
}

static int supdrvIdcFactory(PSUPDRVIDCHANDLE pHandle, uint32_t uReq, PCSUPDRVFACTORY pFactory)
{
    SUPDRVIDCREQCOMPREGFACTORY Req;

    if (!supdrvIdcIsOpen(pHandle))
        return VERR_INVALID_HANDLE;
    supdrvIdcInitHeader(&Req.Hdr, sizeof(Req), pHandle);
    Req.u.In.pFactory = pFactory;
    return supdrvIdcResult(supdrvIdcTransportCall(pHandle, uReq, &Req.Hdr), &Req.Hdr);
}

int SUPR0IdcComponentRegisterFactory(PSUPDRVIDCHANDLE pHandle, PCSUPDRVFACTORY pFactory)
{
    return supdrvIdcFactory(pHandle, SUPDRV_IDC_REQ_COMPONENT_REGISTER_FACTORY, pFactory);
}

int SUPR0IdcComponentDeregisterFactory(PSUPDRVIDCHANDLE pHandle, PCSUPDRVFACTORY pFactory)
{
    return supdrvIdcFactory(pHandle, SUPDRV_IDC_REQ_COMPONENT_DEREGISTER_FACTORY, pFactory);
}

int supdrvIdcGetSymbol(PSUPDRVIDCHANDLE pHandle, const char *pszModule, const char *pszSymbol, void (**ppfn)(void))
{
    SUPDRVIDCREQGETSYM Req;
    int rc;

    if (!supdrvIdcIsPlausible(ppfn))
        return VERR_INVALID_POINTER;
    *ppfn = NULL;
    if (!supdrvIdcIsOpen(pHandle))
        return VERR_INVALID_HANDLE;
    supdrvIdcInitHeader(&Req.Hdr, sizeof(Req), pHandle);
    Req.u.In.pszModule = pszModule;
    Req.u.In.pszSymbol = pszSymbol;
    rc = supdrvIdcResult(supdrvIdcTransportCall(pHandle, SUPDRV_IDC_REQ_GET_SYMBOL, &Req.Hdr), &Req.Hdr);
    if (rc < 0)
        return rc;
    if (!Req.u.Out.pfnSymbol)
        return VERR_NOT_SUPPORTED;
    *ppfn = Req.u.Out.pfnSymbol;
    return rc;
}

/* The driver's function of a name, for callers whose session is that of the main handle; remembered once it was found. */
static void (*supdrvIdcResolve(void (* volatile *ppfnCache)(void), PSUPDRVSESSION pSession, const char *pszSymbol))(void)
{
    void (*pfn)(void) = *ppfnCache;
    PSUPDRVIDCHANDLE pHandle = g_pMainHandle;

    if (!pfn && pHandle && pSession && SUPR0IdcGetSession(pHandle) == pSession)
        if (supdrvIdcGetSymbol(pHandle, NULL, pszSymbol, &pfn) >= 0)
            *ppfnCache = pfn;
    return pfn;
}

void *SUPR0ObjRegister(PSUPDRVSESSION pSession, int enmType, FNSUPDRVDESTRUCTOR *pfnDestructor, void *pvUser1, void *pvUser2)
{
    static void (* volatile s_pfn)(void);
    void (*pfn)(void) = supdrvIdcResolve(&s_pfn, pSession, "SUPR0ObjRegister");

    if (!pfn)
        return NULL;
    return ((void *(*)(PSUPDRVSESSION, int, FNSUPDRVDESTRUCTOR *, void *, void *))pfn)(pSession, enmType, pfnDestructor, pvUser1,
                                                                                       pvUser2);
}

int SUPR0ObjAddRef(void *pvObj, PSUPDRVSESSION pSession)
{
    static void (* volatile s_pfn)(void);
    void (*pfn)(void) = supdrvIdcResolve(&s_pfn, pSession, "SUPR0ObjAddRef");

    return pfn ? ((int (*)(void *, PSUPDRVSESSION))pfn)(pvObj, pSession) : VERR_NOT_SUPPORTED;
}

int SUPR0ObjRelease(void *pvObj, PSUPDRVSESSION pSession)
{
    static void (* volatile s_pfn)(void);
    void (*pfn)(void) = supdrvIdcResolve(&s_pfn, pSession, "SUPR0ObjRelease");

    return pfn ? ((int (*)(void *, PSUPDRVSESSION))pfn)(pvObj, pSession) : VERR_NOT_SUPPORTED;
}

int SUPR0ObjVerifyAccess(void *pvObj, PSUPDRVSESSION pSession, const char *pszObjName)
{
    static void (* volatile s_pfn)(void);
    void (*pfn)(void) = supdrvIdcResolve(&s_pfn, pSession, "SUPR0ObjVerifyAccess");

    return pfn ? ((int (*)(void *, PSUPDRVSESSION, const char *))pfn)(pvObj, pSession, pszObjName) : VERR_NOT_SUPPORTED;
}
