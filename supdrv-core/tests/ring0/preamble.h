/* SPDX-License-Identifier: GPL-2.0-only OR CDDL-1.0 */
/** @file
 * What ring-0 modules can import from the driver. Printed by supdrv-core/tests/ring0/c.rs: do not edit.
 *
 * Names ending in "Tag" take an allocation's origin, or NULL; names ending in "Debug" the place of the call, which is ignored. What each
 * function does, and where it may be called: docs, "The ring-0 runtime".
 */
#ifndef SUPDRV_RING0_H
#define SUPDRV_RING0_H

#include <stdarg.h>
#include "supdrv.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Handles.
 */
typedef RTSPINLOCK *PRTSPINLOCK;
typedef RTSEMMUTEX *PRTSEMMUTEX;
typedef RTSEMFASTMUTEX *PRTSEMFASTMUTEX;
typedef RTR0MEMOBJ *PRTR0MEMOBJ;
typedef RTHANDLETABLE *PRTHANDLETABLE;
typedef struct RTSEMEVENTINTERNAL *RTSEMEVENT;
typedef RTSEMEVENT *PRTSEMEVENT;
typedef struct RTSEMEVENTMULTIINTERNAL *RTSEMEVENTMULTI;
typedef RTSEMEVENTMULTI *PRTSEMEVENTMULTI;
typedef struct RTTHREADINT *RTTHREAD;
typedef RTTHREAD *PRTTHREAD;
typedef struct RTTHREADCTXINT *RTTHREADCTX;
typedef RTTHREADCTX *PRTTHREADCTX;
typedef struct SUPSEMEVENTHANDLE *SUPSEMEVENT;
typedef SUPSEMEVENT *PSUPSEMEVENT;
typedef struct SUPSEMEVENTMULTIHANDLE *SUPSEMEVENTMULTI;
typedef SUPSEMEVENTMULTI *PSUPSEMEVENTMULTI;
typedef struct RTLOGGER *PRTLOGGER;

/*
 * Plain types.
 */
typedef RTR0PTR *PRTR0PTR;
typedef RTR3PTR *PRTR3PTR;
typedef RTHCPHYS *PRTHCPHYS;
typedef uintptr_t RTHCUINTPTR;
typedef uint32_t RTMSINTERVAL;
typedef uint32_t RTTHREADTYPE;
typedef struct RTTIMESPEC { int64_t i64NanosecondsRelativeToUnixEpoch; } RTTIMESPEC, *PRTTIMESPEC;
typedef struct RTTHREADPREEMPTSTATE { uint32_t idCpu; uint32_t u32Reserved; } RTTHREADPREEMPTSTATE, *PRTTHREADPREEMPTSTATE;
#define RTTHREADPREEMPTSTATE_INITIALIZER { 0xffffffffU, 0 }
typedef union RTNETADDRIPV4 { uint32_t u; uint8_t au8[4]; } RTNETADDRIPV4;
typedef union RTNETADDRIPV6 { uint8_t au8[16]; } RTNETADDRIPV6;
typedef const RTNETADDRIPV6 *PCRTNETADDRIPV6;
/* Headers of packets, as they travel. */
typedef const struct RTNETIPV4 *PCRTNETIPV4;
typedef const struct RTNETIPV6 *PCRTNETIPV6;
typedef const struct RTNETTCP *PCRTNETTCP;
typedef const struct RTNETUDP *PCRTNETUDP;
typedef const struct RTNETBOOTP *PCRTNETBOOTP;

/*
 * Callbacks.
 */
typedef void (VBOXCALL *PFNRTMPWORKER)(RTCPUID idCpu, void *pvUser1, void *pvUser2);
typedef enum RTMPEVENT { RTMPEVENT_ONLINE = 1, RTMPEVENT_OFFLINE } RTMPEVENT;
typedef void (VBOXCALL *PFNRTMPNOTIFICATION)(RTMPEVENT enmEvent, RTCPUID idCpu, void *pvUser);
typedef enum RTPOWEREVENT { RTPOWEREVENT_SUSPEND = 1, RTPOWEREVENT_RESUME } RTPOWEREVENT;
typedef void (VBOXCALL *PFNRTPOWERNOTIFICATION)(RTPOWEREVENT enmEvent, void *pvUser);
typedef void (VBOXCALL *PFNRTTIMER)(PRTTIMER pTimer, void *pvUser, uint64_t iTick);
typedef int (VBOXCALL *PFNRTTHREAD)(RTTHREAD hThread, void *pvUser);
typedef enum RTTHREADCTXEVENT { RTTHREADCTXEVENT_PREEMPTING = 0, RTTHREADCTXEVENT_RESUMED } RTTHREADCTXEVENT;
typedef void (VBOXCALL *PFNRTTHREADCTXHOOK)(RTTHREADCTXEVENT enmEvent, void *pvUser);
typedef int (VBOXCALL *PFNRTHANDLETABLERETAIN)(RTHANDLETABLE hHandleTable, void *pvObj, void *pvCtx, void *pvUser);
typedef void (VBOXCALL *PFNRTHANDLETABLEDELETE)(RTHANDLETABLE hHandleTable, uint32_t h, void *pvObj, void *pvCtx, void *pvUser);
typedef size_t (VBOXCALL *PFNRTSTROUTPUT)(void *pvArg, const char *pachChars, size_t cbChars);
typedef size_t (VBOXCALL *PFNSTRFORMAT)(void *pvArg, PFNRTSTROUTPUT pfnOutput, void *pvArgOutput, const char **ppszFormat,
                                        va_list *pArgs, int cchWidth, int cchPrecision, unsigned fFlags, char chArgSize);
typedef size_t (VBOXCALL *PFNRTSTRFORMATTYPE)(PFNRTSTROUTPUT pfnOutput, void *pvArgOutput, const char *pszType, const void *pvValue,
                                              int cchWidth, int cchPrecision, unsigned fFlags, void *pvUser);

/*
 * Flags.
 */
#define RTSPINLOCK_FLAGS_INTERRUPT_SAFE     0x00000002
#define RTSPINLOCK_FLAGS_INTERRUPT_UNSAFE   0x00000004
#define RTSEMWAIT_FLAGS_RELATIVE            0x00000001
#define RTSEMWAIT_FLAGS_ABSOLUTE            0x00000002
#define RTSEMWAIT_FLAGS_NANOSECS            0x00000004
#define RTSEMWAIT_FLAGS_MILLISECS           0x00000008
#define RTSEMWAIT_FLAGS_INDEFINITE          0x00000010
#define RTSEMWAIT_FLAGS_INTERRUPTIBLE       0x00000020
#define RTSEMWAIT_FLAGS_UNINTERRUPTIBLE     0x00000040
#define RTMEMALLOCEX_FLAGS_ZEROED           0x00000001
#define RTMEMALLOCEX_FLAGS_EXEC             0x00000002
#define RTMEMALLOCEX_FLAGS_ANY_CTX_ALLOC    0x00000004
#define RTMEMALLOCEX_FLAGS_ANY_CTX_FREE     0x00000008
#define RTHANDLETABLE_FLAGS_CONTEXT         0x00000001
#define RTHANDLETABLE_FLAGS_LOCKED          0x00000002
#define RTHANDLETABLE_FLAGS_LOCKED_IRQ_SAFE 0x00000004
#define RTTIMER_FLAGS_CPU_SPECIFIC          0x00000100
#define RTTIMER_FLAGS_HIGH_RES              0x00000200
#define RTTIMER_FLAGS_CPU_ALL               0x000001ff
#define RTTHREADFLAGS_WAITABLE              0x00000001

