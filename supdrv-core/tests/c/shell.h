/* SPDX-License-Identifier: GPL-2.0-only OR CDDL-1.0 */
/* A C driver shell of the era over libsupdrv_core.a. */
#ifndef SUPDRV_TEST_SHELL_H
#define SUPDRV_TEST_SHELL_H

#include "runtime.h"

/* A session with what the shell keeps in it. */
typedef struct SHELLSESSION
{
    SUPDRVSESSION           Core;
    struct SHELLSESSION    *pNextHash;
    uint32_t                iFile;
    bool                    fInHash;
} SHELLSESSION;

/* What the hooks of a test do; NULL: what most systems do. */
typedef struct SHELLHOOKS
{
    void (*pfnObjInitCreator)(SUPDRVOBJ *pObj, SUPDRVSESSION *pSession);
    bool (*pfnObjCanAccess)(SUPDRVOBJ *pObj, SUPDRVSESSION *pSession, const char *pszName, int *prc);
    int  (*pfnLdrOpen)(SUPDRVDEVEXT *pDevExt, SUPDRVLDRIMAGE *pImage, const char *pszFilename);
    void (*pfnLdrNotifyOpened)(SUPDRVDEVEXT *pDevExt, SUPDRVLDRIMAGE *pImage);
    int  (*pfnLdrValidatePointer)(SUPDRVDEVEXT *pDevExt, SUPDRVLDRIMAGE *pImage, void *pv, const uint8_t *pbBits);
    int  (*pfnLdrLoad)(SUPDRVDEVEXT *pDevExt, SUPDRVLDRIMAGE *pImage, const uint8_t *pbBits, SUPLDRLOAD *pReq);
    void (*pfnLdrUnload)(SUPDRVDEVEXT *pDevExt, SUPDRVLDRIMAGE *pImage);
    bool fForcedAsyncTsc;
} SHELLHOOKS;

extern SHELLHOOKS   g_Hooks;
extern SUPDRVDEVEXT * const g_pDevExt;
#define g_DevExt (*g_pDevExt)

/* Module load and unload; the latter is refused (-16, EBUSY) while somebody has the device open. */
int  drvLoad(void);
int  drvUnload(void);
/* System calls of the calling process: 0 or a negative errno. */
int  drvOpen(bool fRestricted, uint32_t *piFile);
int  drvClose(uint32_t iFile);
int  drvIOCtl(uint32_t iFile, uint32_t uCode, uintptr_t uArg);
/* As another process that has inherited the file. */
int  drvIOCtlFrom(RTPROCESS idProcess, uint32_t iFile, uint32_t uCode, uintptr_t uArg);
/* What sibling drivers call. */
int  drvIDC(uint32_t uReq, SUPDRVIDCREQHDR *pReq);
/* The system goes to sleep and wakes up. */
void drvSuspend(void);
void drvResume(void);
/* The session of an open file, without a reference. */
SHELLSESSION *drvSession(uint32_t iFile);
/* Users of new sessions. */
extern RTUID g_ShellUid;
extern RTGID g_ShellGid;
/* What exists: open files, semaphores, memory objects but mappings and the page, images, factories (not known), users of the page. */
void drvCounters(uint32_t acObjects[6]);
/* Open files. */
int  drvOpenCount(void);

#endif
