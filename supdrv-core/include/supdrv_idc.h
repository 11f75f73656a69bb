/* SPDX-License-Identifier: GPL-2.0-only OR CDDL-1.0 */
/*
 * Client side of the inter-driver interface: what another driver of the same kernel uses to reach supdrv.
 *
 * Compile supdrv_idc.c into the driver. All functions want a thread that may block, and return status codes: 0 for success,
 * negative for failure. A handle is used by one thread at a time for opening and closing, by any for the rest.
 */
#ifndef SUPDRV_IDC_H
#define SUPDRV_IDC_H

#if defined(__KERNEL__) && defined(__linux__)
# include <linux/types.h>
# include <linux/stddef.h>
#else
# include <stddef.h>
# include <stdint.h>
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* Version of the interface, major << 16 | minor. */
#define SUPDRV_IDC_VERSION                  UINT32_C(0x00010000)
#define SUPDRVIDCREQ_CONNECT_MAGIC_COOKIE   UINT32_C(0x69726f74)
#ifndef UINT32_C
# define UINT32_C(Value)                    Value##U
#endif

/* Request codes. */
#ifdef _WIN32
# define SUPDRV_IDC_REQ(Function)           ((UINT32_C(0x22) << 16) | (2 << 14) | (((Function) + 2542) << 2))
#else
# define SUPDRV_IDC_REQ(Function)           (UINT32_C(0xc0ffee00) | (Function))
#endif
#define SUPDRV_IDC_REQ_CONNECT                      SUPDRV_IDC_REQ(1)
#define SUPDRV_IDC_REQ_DISCONNECT                   SUPDRV_IDC_REQ(2)
#define SUPDRV_IDC_REQ_GET_SYMBOL                   SUPDRV_IDC_REQ(3)
#define SUPDRV_IDC_REQ_COMPONENT_REGISTER_FACTORY   SUPDRV_IDC_REQ(10)
#define SUPDRV_IDC_REQ_COMPONENT_DEREGISTER_FACTORY SUPDRV_IDC_REQ(11)

/* The status codes that the client side itself returns. */
#ifndef VINF_SUCCESS
# define VINF_SUCCESS               0
# define VERR_INVALID_PARAMETER     (-2)
# define VERR_INVALID_HANDLE        (-4)
# define VERR_INVALID_POINTER       (-6)
# define VERR_VERSION_MISMATCH      (-11)
# define VERR_WRONG_ORDER           (-22)
# define VERR_NOT_SUPPORTED         (-37)
#endif

typedef struct SUPDRVSESSION *PSUPDRVSESSION;

/* Begins every packet. */
typedef struct SUPDRVIDCREQHDR
{
    uint32_t        cb;         /* bytes of the whole packet */
    int32_t         rc;         /* status of the request */
    PSUPDRVSESSION  pSession;
#if defined(__i386__) || defined(_M_IX86)
    uint32_t        u32Padding;
#endif
} SUPDRVIDCREQHDR, *PSUPDRVIDCREQHDR;

typedef struct SUPDRVIDCREQCONNECT
{
    SUPDRVIDCREQHDR Hdr;
    union
    {
        struct SUPDRVIDCREQCONNECTIN
        {
            uint32_t        u32MagicCookie;
            uint32_t        uReqVersion;
            uint32_t        uMinVersion;
        } In;
        struct SUPDRVIDCREQCONNECTOUT
        {
            PSUPDRVSESSION  pSession;
            uint32_t        uSessionVersion;
            uint32_t        uDriverVersion;
            uint32_t        uDriverRevision;
        } Out;
    } u;
} SUPDRVIDCREQCONNECT;

typedef struct SUPDRVIDCREQGETSYM
{
    SUPDRVIDCREQHDR Hdr;
    union
    {
        struct SUPDRVIDCREQGETSYMIN
        {
            const char     *pszModule;  /* NULL for the driver itself */
            const char     *pszSymbol;
        } In;
        struct SUPDRVIDCREQGETSYMOUT
        {
            void          (*pfnSymbol)(void);
        } Out;
    } u;
} SUPDRVIDCREQGETSYM;

/* What a driver offers to code that supdrv loads. The record stays valid and unchanged while it is registered. */
typedef struct SUPDRVFACTORY
{
    char            szName[56];
    /* Returns the interface with a UUID (in text form), or NULL. Must not use the registry nor close the connection. */
    void         *(*pfnQueryFactoryInterface)(struct SUPDRVFACTORY const *pSupDrvFactory, PSUPDRVSESSION pSession,
                                              const char *pszInterfaceUuid);
} SUPDRVFACTORY;
typedef SUPDRVFACTORY const *PCSUPDRVFACTORY;

typedef struct SUPDRVIDCREQCOMPREGFACTORY
{
    SUPDRVIDCREQHDR Hdr;
    union
    {
        struct SUPDRVIDCREQCOMPREGFACTORYIN
        {
            PCSUPDRVFACTORY pFactory;
        } In;
    } u;
} SUPDRVIDCREQCOMPREGFACTORY, SUPDRVIDCREQCOMPDEREGFACTORY;

/* A connection: the session first (NULL while closed), the rest belongs to the transport. */
typedef union SUPDRVIDCHANDLE
{
    void           *apvPadding[4];
} SUPDRVIDCHANDLE, *PSUPDRVIDCHANDLE;

/*
 * Connects. Zero for a version means SUPDRV_IDC_VERSION. The last three arguments may be NULL; what they point to is zero on failure.
 * VERR_INVALID_POINTER, VERR_INVALID_PARAMETER (a version of another major), VERR_VERSION_MISMATCH, or what the driver answers.
 */
int SUPR0IdcOpen(PSUPDRVIDCHANDLE pHandle, uint32_t uReqVersion, uint32_t uMinVersion, uint32_t *puSessionVersion,
                 uint32_t *puDriverVersion, uint32_t *puDriverRevision);
/* Disconnects: everything registered through the handle goes. VERR_INVALID_POINTER; VERR_INVALID_HANDLE if it isn't open. */
int SUPR0IdcClose(PSUPDRVIDCHANDLE pHandle);
/* The session, NULL if the handle isn't open. */
PSUPDRVSESSION SUPR0IdcGetSession(PSUPDRVIDCHANDLE pHandle);
/* VERR_INVALID_HANDLE if the handle isn't open, else what the driver answers. */
int SUPR0IdcComponentRegisterFactory(PSUPDRVIDCHANDLE pHandle, PCSUPDRVFACTORY pFactory);
int SUPR0IdcComponentDeregisterFactory(PSUPDRVIDCHANDLE pHandle, PCSUPDRVFACTORY pFactory);
/*
 * Address of an export of the driver (pszModule NULL) or of a loaded image. *ppfn is NULL on failure. VERR_INVALID_HANDLE,
 * VERR_INVALID_POINTER, or what the driver answers; VERR_NOT_SUPPORTED if it answers with NULL.
 */
int supdrvIdcGetSymbol(PSUPDRVIDCHANDLE pHandle, const char *pszModule, const char *pszSymbol, void (**ppfn)(void));

/*
 * The driver's object services. They find the driver's functions through the first handle that was opened, at first use, and fail
 * (NULL, VERR_NOT_SUPPORTED) while there is none or for sessions of other handles.
 */
typedef void FNSUPDRVDESTRUCTOR(void *pvObj, void *pvUser1, void *pvUser2);
void *SUPR0ObjRegister(PSUPDRVSESSION pSession, int enmType, FNSUPDRVDESTRUCTOR *pfnDestructor, void *pvUser1, void *pvUser2);
int SUPR0ObjAddRef(void *pvObj, PSUPDRVSESSION pSession);
int SUPR0ObjRelease(void *pvObj, PSUPDRVSESSION pSession);
int SUPR0ObjVerifyAccess(void *pvObj, PSUPDRVSESSION pSession, const char *pszObjName);

/*
 * The transport, one function per system. With SUPDRV_IDC_ENTRY defined that function is called instead; with SUPDRV_IDC_OWN_TRANSPORT
 * defined the driver provides the three functions itself, as it must on Windows.
 */
#ifndef SUPDRV_IDC_OWN_TRANSPORT
# ifndef SUPDRV_IDC_ENTRY
#  if defined(__linux__)
#   define SUPDRV_IDC_ENTRY SUPDrvLinuxIDC
#  elif defined(__FreeBSD__)
#   define SUPDRV_IDC_ENTRY SUPDrvFreeBSDIDC
#  elif defined(__APPLE__)
#   define SUPDRV_IDC_ENTRY SUPDrvDarwinIDC
#  elif defined(__sun)
#   define SUPDRV_IDC_ENTRY SUPDrvSolarisIDC
#  endif
# endif
# ifdef SUPDRV_IDC_ENTRY
extern int SUPDRV_IDC_ENTRY(uint32_t uReq, PSUPDRVIDCREQHDR pReq);
# endif
#else
/* Each sends a packet and returns the status of the call; 0 if the packet holds the request's own status. */
int supdrvIdcTransportOpen(PSUPDRVIDCHANDLE pHandle, SUPDRVIDCREQCONNECT *pReq);
int supdrvIdcTransportClose(PSUPDRVIDCHANDLE pHandle, PSUPDRVIDCREQHDR pReq);
int supdrvIdcTransportCall(PSUPDRVIDCHANDLE pHandle, uint32_t uReq, PSUPDRVIDCREQHDR pReq);
#endif

#ifdef __cplusplus
}
#endif

#endif /* SUPDRV_IDC_H */
