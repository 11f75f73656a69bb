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

/*
 * Numbers: the address of the symbol is the value.
 */
extern const char SUPR0AbsIs64bit[];
extern const char SUPR0Abs64bitKernelCS[];
extern const char SUPR0Abs64bitKernelSS[];
extern const char SUPR0Abs64bitKernelDS[];
extern const char SUPR0AbsKernelCS[];
extern const char SUPR0AbsKernelSS[];
extern const char SUPR0AbsKernelDS[];
extern const char SUPR0AbsKernelES[];
extern const char SUPR0AbsKernelFS[];
extern const char SUPR0AbsKernelGS[];

/*
 * Functions, and the address of the global info page.
 */
extern PSUPGLOBALINFOPAGE g_pSUPGlobalInfoPage;
PSUPGLOBALINFOPAGE VBOXCALL SUPGetGIP(void);
int VBOXCALL SUPR0ComponentDeregisterFactory(PSUPDRVSESSION pSession, PCSUPDRVFACTORY pFactory);
int VBOXCALL SUPR0ComponentQueryFactory(PSUPDRVSESSION pSession, const char *pszName, const char *pszInterfaceUuid, void **ppvFactoryIf);
int VBOXCALL SUPR0ComponentRegisterFactory(PSUPDRVSESSION pSession, PCSUPDRVFACTORY pFactory);
int VBOXCALL SUPR0ContAlloc(PSUPDRVSESSION pSession, uint32_t cPages, PRTR0PTR ppvR0, PRTR3PTR ppvR3, PRTHCPHYS pHCPhys);
int VBOXCALL SUPR0ContFree(PSUPDRVSESSION pSession, RTHCUINTPTR uPtr);
int VBOXCALL SUPR0EnableVTx(bool fEnable);
bool VBOXCALL SUPR0SuspendVTxOnCpu(void);
void VBOXCALL SUPR0ResumeVTxOnCpu(bool fSuspended);
SUPPAGINGMODE VBOXCALL SUPR0GetPagingMode(void);
int VBOXCALL SUPR0LockMem(PSUPDRVSESSION pSession, RTR3PTR pvR3, uint32_t cPages, PRTHCPHYS paPages);
int VBOXCALL SUPR0LowAlloc(PSUPDRVSESSION pSession, uint32_t cPages, PRTR0PTR ppvR0, PRTR3PTR ppvR3, PRTHCPHYS paPages);
int VBOXCALL SUPR0LowFree(PSUPDRVSESSION pSession, RTHCUINTPTR uPtr);
int VBOXCALL SUPR0MemAlloc(PSUPDRVSESSION pSession, uint32_t cb, PRTR0PTR ppvR0, PRTR3PTR ppvR3);
int VBOXCALL SUPR0MemFree(PSUPDRVSESSION pSession, RTHCUINTPTR uPtr);
int VBOXCALL SUPR0MemGetPhys(PSUPDRVSESSION pSession, RTHCUINTPTR uPtr, PSUPPAGE paPages);
int VBOXCALL SUPR0ObjAddRef(void *pvObj, PSUPDRVSESSION pSession);
int VBOXCALL SUPR0ObjAddRefEx(void *pvObj, PSUPDRVSESSION pSession, bool fNoBlocking);
void * VBOXCALL SUPR0ObjRegister(PSUPDRVSESSION pSession, SUPDRVOBJTYPE enmType, PFNSUPDRVDESTRUCTOR pfnDestructor, void *pvUser1, void *pvUser2);
int VBOXCALL SUPR0ObjRelease(void *pvObj, PSUPDRVSESSION pSession);
int VBOXCALL SUPR0ObjVerifyAccess(void *pvObj, PSUPDRVSESSION pSession, const char *pszObjName);
int VBOXCALL SUPR0PageAllocEx(PSUPDRVSESSION pSession, uint32_t cPages, uint32_t fFlags, PRTR3PTR ppvR3, PRTR0PTR ppvR0, PRTHCPHYS paPages);
int VBOXCALL SUPR0PageFree(PSUPDRVSESSION pSession, RTR3PTR pvR3);
int VBOXCALL SUPR0Printf(const char *pszFormat, ...);
void VBOXCALL SUPR0TracerDeregisterDrv(PSUPDRVSESSION pSession);
int VBOXCALL SUPR0TracerDeregisterImpl(void *hMod, PSUPDRVSESSION pSession);
void VBOXCALL SUPR0TracerFireProbe(struct VTGPROBELOC *pVtgProbeLoc, uintptr_t uArg0, uintptr_t uArg1, uintptr_t uArg2, uintptr_t uArg3, uintptr_t uArg4);
int VBOXCALL SUPR0TracerRegisterDrv(PSUPDRVSESSION pSession, struct VTGOBJHDR *pVtgHdr, const char *pszName);
int VBOXCALL SUPR0TracerRegisterImpl(void *hMod, PSUPDRVSESSION pSession, PCSUPDRVTRACERREG pReg, PCSUPDRVTRACERHLP *ppHlp);
int VBOXCALL SUPR0TracerRegisterModule(void *hMod, struct VTGOBJHDR *pVtgHdr);
void VBOXCALL SUPR0TracerUmodProbeFire(PSUPDRVSESSION pSession, PSUPDRVTRACERUSRCTX pCtx);
int VBOXCALL SUPR0UnlockMem(PSUPDRVSESSION pSession, RTR3PTR pvR3);
int VBOXCALL SUPSemEventClose(PSUPDRVSESSION pSession, SUPSEMEVENT hEvent);
int VBOXCALL SUPSemEventCreate(PSUPDRVSESSION pSession, PSUPSEMEVENT phEvent);
uint32_t VBOXCALL SUPSemEventGetResolution(PSUPDRVSESSION pSession);
int VBOXCALL SUPSemEventMultiClose(PSUPDRVSESSION pSession, SUPSEMEVENTMULTI hEventMulti);
int VBOXCALL SUPSemEventMultiCreate(PSUPDRVSESSION pSession, PSUPSEMEVENTMULTI phEventMulti);
uint32_t VBOXCALL SUPSemEventMultiGetResolution(PSUPDRVSESSION pSession);
int VBOXCALL SUPSemEventMultiReset(PSUPDRVSESSION pSession, SUPSEMEVENTMULTI hEventMulti);
int VBOXCALL SUPSemEventMultiSignal(PSUPDRVSESSION pSession, SUPSEMEVENTMULTI hEventMulti);
int VBOXCALL SUPSemEventMultiWait(PSUPDRVSESSION pSession, SUPSEMEVENTMULTI hEventMulti, uint32_t cMillies);
int VBOXCALL SUPSemEventMultiWaitNoResume(PSUPDRVSESSION pSession, SUPSEMEVENTMULTI hEventMulti, uint32_t cMillies);
int VBOXCALL SUPSemEventMultiWaitNsAbsIntr(PSUPDRVSESSION pSession, SUPSEMEVENTMULTI hEventMulti, uint64_t uNsTimeout);
int VBOXCALL SUPSemEventMultiWaitNsRelIntr(PSUPDRVSESSION pSession, SUPSEMEVENTMULTI hEventMulti, uint64_t cNsTimeout);
int VBOXCALL SUPSemEventSignal(PSUPDRVSESSION pSession, SUPSEMEVENT hEvent);
int VBOXCALL SUPSemEventWait(PSUPDRVSESSION pSession, SUPSEMEVENT hEvent, uint32_t cMillies);
int VBOXCALL SUPSemEventWaitNoResume(PSUPDRVSESSION pSession, SUPSEMEVENT hEvent, uint32_t cMillies);
int VBOXCALL SUPSemEventWaitNsAbsIntr(PSUPDRVSESSION pSession, SUPSEMEVENT hEvent, uint64_t uNsTimeout);
int VBOXCALL SUPSemEventWaitNsRelIntr(PSUPDRVSESSION pSession, SUPSEMEVENT hEvent, uint64_t cNsTimeout);
bool VBOXCALL RTAssertAreQuiet(void);
bool VBOXCALL RTAssertMayPanic(void);
void VBOXCALL RTAssertMsg1(const char *pszExpr, unsigned uLine, const char *pszFile, const char *pszFunction);
void VBOXCALL RTAssertMsg2AddV(const char *pszFormat, va_list va);
void VBOXCALL RTAssertMsg2V(const char *pszFormat, va_list va);
bool VBOXCALL RTAssertSetMayPanic(bool fPanic);
bool VBOXCALL RTAssertSetQuiet(bool fQuiet);
uint32_t VBOXCALL RTCrc32(const void *pv, size_t cb);
uint32_t VBOXCALL RTCrc32Finish(uint32_t uCRC32);
uint32_t VBOXCALL RTCrc32Process(uint32_t uCRC32, const void *pv, size_t cb);
uint32_t VBOXCALL RTCrc32Start(void);
int VBOXCALL RTErrConvertFromErrno(unsigned uNativeCode);
int VBOXCALL RTErrConvertToErrno(int iErr);
int VBOXCALL RTHandleTableAllocWithCtx(RTHANDLETABLE hHandleTable, void *pvObj, void *pvCtx, uint32_t *ph);
int VBOXCALL RTHandleTableCreate(PRTHANDLETABLE phHandleTable);
int VBOXCALL RTHandleTableCreateEx(PRTHANDLETABLE phHandleTable, uint32_t fFlags, uint32_t uBase, uint32_t cMax, PFNRTHANDLETABLERETAIN pfnRetain, void *pvUser);
int VBOXCALL RTHandleTableDestroy(RTHANDLETABLE hHandleTable, PFNRTHANDLETABLEDELETE pfnDelete, void *pvUser);
void * VBOXCALL RTHandleTableFreeWithCtx(RTHANDLETABLE hHandleTable, uint32_t h, void *pvCtx);
void * VBOXCALL RTHandleTableLookupWithCtx(RTHANDLETABLE hHandleTable, uint32_t h, void *pvCtx);
PRTLOGGER VBOXCALL RTLogDefaultInstance(void);
void VBOXCALL RTLogLoggerExV(PRTLOGGER pLogger, unsigned fFlags, unsigned iGroup, const char *pszFormat, va_list args);
void VBOXCALL RTLogPrintfV(const char *pszFormat, va_list args);
PRTLOGGER VBOXCALL RTLogRelDefaultInstance(void);
int VBOXCALL RTLogSetDefaultInstanceThread(PRTLOGGER pLogger, uintptr_t uKey);
int VBOXCALL RTMemAllocExTag(size_t cb, size_t cbAlignment, uint32_t fFlags, const char *pszTag, void **ppv);
void * VBOXCALL RTMemAllocTag(size_t cb, const char *pszTag);
void * VBOXCALL RTMemAllocVarTag(size_t cbUnaligned, const char *pszTag);
void * VBOXCALL RTMemAllocZTag(size_t cb, const char *pszTag);
void * VBOXCALL RTMemAllocZVarTag(size_t cbUnaligned, const char *pszTag);
void * VBOXCALL RTMemDupExTag(const void *pvSrc, size_t cbSrc, size_t cbExtra, const char *pszTag);
void * VBOXCALL RTMemDupTag(const void *pvSrc, size_t cb, const char *pszTag);
void VBOXCALL RTMemFree(void *pv);
void VBOXCALL RTMemFreeEx(void *pv, size_t cb);
void * VBOXCALL RTMemReallocTag(void *pvOld, size_t cbNew, const char *pszTag);
RTCPUID VBOXCALL RTMpCpuId(void);
RTCPUID VBOXCALL RTMpCpuIdFromSetIndex(int iCpu);
int VBOXCALL RTMpCpuIdToSetIndex(RTCPUID idCpu);
uint32_t VBOXCALL RTMpGetArraySize(void);
RTCPUID VBOXCALL RTMpGetCount(void);
RTCPUID VBOXCALL RTMpGetMaxCpuId(void);
RTCPUID VBOXCALL RTMpGetOnlineCount(void);
PRTCPUSET VBOXCALL RTMpGetOnlineSet(PRTCPUSET pSet);
PRTCPUSET VBOXCALL RTMpGetSet(PRTCPUSET pSet);
bool VBOXCALL RTMpIsCpuOnline(RTCPUID idCpu);
bool VBOXCALL RTMpIsCpuPossible(RTCPUID idCpu);
bool VBOXCALL RTMpIsCpuWorkPending(void);
int VBOXCALL RTMpNotificationDeregister(PFNRTMPNOTIFICATION pfnCallback, void *pvUser);
int VBOXCALL RTMpNotificationRegister(PFNRTMPNOTIFICATION pfnCallback, void *pvUser);
int VBOXCALL RTMpOnAll(PFNRTMPWORKER pfnWorker, void *pvUser1, void *pvUser2);
int VBOXCALL RTMpOnOthers(PFNRTMPWORKER pfnWorker, void *pvUser1, void *pvUser2);
int VBOXCALL RTMpOnSpecific(RTCPUID idCpu, PFNRTMPWORKER pfnWorker, void *pvUser1, void *pvUser2);
int VBOXCALL RTMpPokeCpu(RTCPUID idCpu);
uint32_t VBOXCALL RTNetIPv4AddDataChecksum(void const *pvData, size_t cbData, uint32_t u32Sum, bool *pfOdd);
uint32_t VBOXCALL RTNetIPv4AddTCPChecksum(PCRTNETTCP pTcpHdr, uint32_t u32Sum);
uint32_t VBOXCALL RTNetIPv4AddUDPChecksum(PCRTNETUDP pUdpHdr, uint32_t u32Sum);
uint16_t VBOXCALL RTNetIPv4FinalizeChecksum(uint32_t u32Sum);
uint16_t VBOXCALL RTNetIPv4HdrChecksum(PCRTNETIPV4 pIpHdr);
bool VBOXCALL RTNetIPv4IsDHCPValid(PCRTNETUDP pUdpHdr, PCRTNETBOOTP pDhcp, size_t cbDhcp, uint8_t *pMsgType);
bool VBOXCALL RTNetIPv4IsHdrValid(PCRTNETIPV4 pIpHdr, size_t cbHdrMax, size_t cbPktMax, bool fChecksum);
bool VBOXCALL RTNetIPv4IsTCPSizeValid(PCRTNETIPV4 pIpHdr, PCRTNETTCP pTcpHdr, size_t cbHdrMax, size_t cbPktMax);
bool VBOXCALL RTNetIPv4IsTCPValid(PCRTNETIPV4 pIpHdr, PCRTNETTCP pTcpHdr, size_t cbHdrMax, void const *pvData, size_t cbPktMax, bool fChecksum);
bool VBOXCALL RTNetIPv4IsUDPSizeValid(PCRTNETIPV4 pIpHdr, PCRTNETUDP pUdpHdr, size_t cbPktMax);
bool VBOXCALL RTNetIPv4IsUDPValid(PCRTNETIPV4 pIpHdr, PCRTNETUDP pUdpHdr, void const *pvData, size_t cbPktMax, bool fChecksum);
uint32_t VBOXCALL RTNetIPv4PseudoChecksum(PCRTNETIPV4 pIpHdr);
uint32_t VBOXCALL RTNetIPv4PseudoChecksumBits(RTNETADDRIPV4 SrcAddr, RTNETADDRIPV4 DstAddr, uint8_t bProtocol, uint16_t cbPkt);
uint16_t VBOXCALL RTNetIPv4TCPChecksum(PCRTNETIPV4 pIpHdr, PCRTNETTCP pTcpHdr, void const *pvData);
uint16_t VBOXCALL RTNetIPv4UDPChecksum(PCRTNETIPV4 pIpHdr, PCRTNETUDP pUdpHdr, void const *pvData);
uint32_t VBOXCALL RTNetIPv6PseudoChecksum(PCRTNETIPV6 pIpHdr);
uint32_t VBOXCALL RTNetIPv6PseudoChecksumBits(PCRTNETADDRIPV6 pSrcAddr, PCRTNETADDRIPV6 pDstAddr, uint8_t bProtocol, uint16_t cbPkt);
uint32_t VBOXCALL RTNetIPv6PseudoChecksumEx(PCRTNETIPV6 pIpHdr, uint8_t bProtocol, uint16_t cbPkt);
uint16_t VBOXCALL RTNetTCPChecksum(uint32_t u32Sum, PCRTNETTCP pTcpHdr, void const *pvData, size_t cbData);
uint16_t VBOXCALL RTNetUDPChecksum(uint32_t u32Sum, PCRTNETUDP pUdpHdr);
int VBOXCALL RTPowerNotificationDeregister(PFNRTPOWERNOTIFICATION pfnCallback, void *pvUser);
int VBOXCALL RTPowerNotificationRegister(PFNRTPOWERNOTIFICATION pfnCallback, void *pvUser);
RTPROCESS VBOXCALL RTProcSelf(void);
void VBOXCALL RTR0AssertPanicSystem(void);
bool VBOXCALL RTR0MemAreKrnlAndUsrDifferent(void);
bool VBOXCALL RTR0MemKernelIsValidAddr(void *pv);
int VBOXCALL RTR0MemKernelCopyFrom(void *pvDst, void const *pvSrc, size_t cb);
int VBOXCALL RTR0MemKernelCopyTo(void *pvDst, void const *pvSrc, size_t cb);
void * VBOXCALL RTR0MemObjAddress(RTR0MEMOBJ MemObj);
RTR3PTR VBOXCALL RTR0MemObjAddressR3(RTR0MEMOBJ MemObj);
int VBOXCALL RTR0MemObjAllocContTag(PRTR0MEMOBJ pMemObj, size_t cb, bool fExecutable, const char *pszTag);
int VBOXCALL RTR0MemObjAllocLowTag(PRTR0MEMOBJ pMemObj, size_t cb, bool fExecutable, const char *pszTag);
int VBOXCALL RTR0MemObjAllocPageTag(PRTR0MEMOBJ pMemObj, size_t cb, bool fExecutable, const char *pszTag);
int VBOXCALL RTR0MemObjAllocPhysExTag(PRTR0MEMOBJ pMemObj, size_t cb, RTHCPHYS PhysHighest, size_t uAlignment, const char *pszTag);
int VBOXCALL RTR0MemObjAllocPhysNCTag(PRTR0MEMOBJ pMemObj, size_t cb, RTHCPHYS PhysHighest, const char *pszTag);
int VBOXCALL RTR0MemObjAllocPhysTag(PRTR0MEMOBJ pMemObj, size_t cb, RTHCPHYS PhysHighest, const char *pszTag);
int VBOXCALL RTR0MemObjEnterPhysTag(PRTR0MEMOBJ pMemObj, RTHCPHYS Phys, size_t cb, uint32_t uCachePolicy, const char *pszTag);
int VBOXCALL RTR0MemObjFree(RTR0MEMOBJ MemObj, bool fFreeMappings);
RTHCPHYS VBOXCALL RTR0MemObjGetPagePhysAddr(RTR0MEMOBJ MemObj, size_t iPage);
bool VBOXCALL RTR0MemObjIsMapping(RTR0MEMOBJ MemObj);
int VBOXCALL RTR0MemObjLockUserTag(PRTR0MEMOBJ pMemObj, RTR3PTR R3Ptr, size_t cb, uint32_t fAccess, RTR0PROCESS R0Process, const char *pszTag);
int VBOXCALL RTR0MemObjMapKernelExTag(PRTR0MEMOBJ pMemObj, RTR0MEMOBJ MemObjToMap, void *pvFixed, size_t uAlignment, unsigned fProt, size_t offSub, size_t cbSub, const char *pszTag);
int VBOXCALL RTR0MemObjMapKernelTag(PRTR0MEMOBJ pMemObj, RTR0MEMOBJ MemObjToMap, void *pvFixed, size_t uAlignment, unsigned fProt, const char *pszTag);
int VBOXCALL RTR0MemObjMapUserTag(PRTR0MEMOBJ pMemObj, RTR0MEMOBJ MemObjToMap, RTR3PTR R3PtrFixed, size_t uAlignment, unsigned fProt, RTR0PROCESS R0Process, const char *pszTag);
int VBOXCALL RTR0MemObjProtect(RTR0MEMOBJ hMemObj, size_t offSub, size_t cbSub, uint32_t fProt);
size_t VBOXCALL RTR0MemObjSize(RTR0MEMOBJ MemObj);
int VBOXCALL RTR0MemUserCopyFrom(void *pvDst, RTR3PTR R3PtrSrc, size_t cb);
int VBOXCALL RTR0MemUserCopyTo(RTR3PTR R3PtrDst, void const *pvSrc, size_t cb);
bool VBOXCALL RTR0MemUserIsValidAddr(RTR3PTR R3Ptr);
RTR0PROCESS VBOXCALL RTR0ProcHandleSelf(void);
int VBOXCALL RTSemEventCreate(PRTSEMEVENT phEventSem);
int VBOXCALL RTSemEventDestroy(RTSEMEVENT hEventSem);
uint32_t VBOXCALL RTSemEventGetResolution(void);
int VBOXCALL RTSemEventMultiCreate(PRTSEMEVENTMULTI phEventMultiSem);
int VBOXCALL RTSemEventMultiDestroy(RTSEMEVENTMULTI hEventMultiSem);
uint32_t VBOXCALL RTSemEventMultiGetResolution(void);
int VBOXCALL RTSemEventMultiReset(RTSEMEVENTMULTI hEventMultiSem);
int VBOXCALL RTSemEventMultiSignal(RTSEMEVENTMULTI hEventMultiSem);
int VBOXCALL RTSemEventMultiWait(RTSEMEVENTMULTI hEventMultiSem, RTMSINTERVAL cMillies);
int VBOXCALL RTSemEventMultiWaitEx(RTSEMEVENTMULTI hEventMultiSem, uint32_t fFlags, uint64_t uTimeout);
int VBOXCALL RTSemEventMultiWaitExDebug(RTSEMEVENTMULTI hEventMultiSem, uint32_t fFlags, uint64_t uTimeout, RTHCUINTPTR uId, const char *pszFile, unsigned iLine, const char *pszFunction);
int VBOXCALL RTSemEventMultiWaitNoResume(RTSEMEVENTMULTI hEventMultiSem, RTMSINTERVAL cMillies);
int VBOXCALL RTSemEventSignal(RTSEMEVENT hEventSem);
int VBOXCALL RTSemEventWait(RTSEMEVENT hEventSem, RTMSINTERVAL cMillies);
int VBOXCALL RTSemEventWaitEx(RTSEMEVENT hEventSem, uint32_t fFlags, uint64_t uTimeout);
int VBOXCALL RTSemEventWaitExDebug(RTSEMEVENT hEventSem, uint32_t fFlags, uint64_t uTimeout, RTHCUINTPTR uId, const char *pszFile, unsigned iLine, const char *pszFunction);
int VBOXCALL RTSemEventWaitNoResume(RTSEMEVENT hEventSem, RTMSINTERVAL cMillies);
int VBOXCALL RTSemFastMutexCreate(PRTSEMFASTMUTEX phFastMtx);
int VBOXCALL RTSemFastMutexDestroy(RTSEMFASTMUTEX hFastMtx);
int VBOXCALL RTSemFastMutexRelease(RTSEMFASTMUTEX hFastMtx);
int VBOXCALL RTSemFastMutexRequest(RTSEMFASTMUTEX hFastMtx);
int VBOXCALL RTSemMutexCreate(PRTSEMMUTEX phMutexSem);
int VBOXCALL RTSemMutexDestroy(RTSEMMUTEX hMutexSem);
int VBOXCALL RTSemMutexRelease(RTSEMMUTEX hMutexSem);
int VBOXCALL RTSemMutexRequest(RTSEMMUTEX hMutexSem, RTMSINTERVAL cMillies);
int VBOXCALL RTSemMutexRequestDebug(RTSEMMUTEX hMutexSem, RTMSINTERVAL cMillies, RTHCUINTPTR uId, const char *pszFile, unsigned iLine, const char *pszFunction);
int VBOXCALL RTSemMutexRequestNoResume(RTSEMMUTEX hMutexSem, RTMSINTERVAL cMillies);
int VBOXCALL RTSemMutexRequestNoResumeDebug(RTSEMMUTEX hMutexSem, RTMSINTERVAL cMillies, RTHCUINTPTR uId, const char *pszFile, unsigned iLine, const char *pszFunction);
void VBOXCALL RTSpinlockAcquire(RTSPINLOCK Spinlock);
int VBOXCALL RTSpinlockCreate(PRTSPINLOCK pSpinlock, uint32_t fFlags, const char *pszName);
int VBOXCALL RTSpinlockDestroy(RTSPINLOCK Spinlock);
void VBOXCALL RTSpinlockRelease(RTSPINLOCK Spinlock);
void VBOXCALL RTSpinlockReleaseNoInts(RTSPINLOCK Spinlock);
int VBOXCALL RTStrCopy(char *pszDst, size_t cbDst, const char *pszSrc);
char * VBOXCALL RTStrDupTag(const char *pszString, const char *pszTag);
size_t VBOXCALL RTStrFormat(PFNRTSTROUTPUT pfnOutput, void *pvArgOutput, PFNSTRFORMAT pfnFormat, void *pvArgFormat, const char *pszFormat, ...);
int VBOXCALL RTStrFormatNumber(char *psz, uint64_t u64Value, unsigned int uiBase, signed int cchWidth, signed int cchPrecision, unsigned int fFlags);
int VBOXCALL RTStrFormatTypeDeregister(const char *pszType);
int VBOXCALL RTStrFormatTypeRegister(const char *pszType, PFNRTSTRFORMATTYPE pfnHandler, void *pvUser);
int VBOXCALL RTStrFormatTypeSetUser(const char *pszType, void *pvUser);
size_t VBOXCALL RTStrFormatV(PFNRTSTROUTPUT pfnOutput, void *pvArgOutput, PFNSTRFORMAT pfnFormat, void *pvArgFormat, const char *pszFormat, va_list InArgs);
void VBOXCALL RTStrFree(char *pszString);
int VBOXCALL RTStrNCmp(const char *psz1, const char *psz2, size_t cchMax);
size_t VBOXCALL RTStrPrintf(char *pszBuffer, size_t cchBuffer, const char *pszFormat, ...);
size_t VBOXCALL RTStrPrintfEx(PFNSTRFORMAT pfnFormat, void *pvArg, char *pszBuffer, size_t cchBuffer, const char *pszFormat, ...);
size_t VBOXCALL RTStrPrintfExV(PFNSTRFORMAT pfnFormat, void *pvArg, char *pszBuffer, size_t cchBuffer, const char *pszFormat, va_list args);
size_t VBOXCALL RTStrPrintfV(char *pszBuffer, size_t cchBuffer, const char *pszFormat, va_list args);
int VBOXCALL RTThreadCreate(PRTTHREAD pThread, PFNRTTHREAD pfnThread, void *pvUser, size_t cbStack, RTTHREADTYPE enmType, unsigned fFlags, const char *pszName);
bool VBOXCALL RTThreadCtxHooksAreRegistered(RTTHREADCTX hThreadCtx);
int VBOXCALL RTThreadCtxHooksCreate(PRTTHREADCTX phThreadCtx);
int VBOXCALL RTThreadCtxHooksDeregister(RTTHREADCTX hThreadCtx);
int VBOXCALL RTThreadCtxHooksRegister(RTTHREADCTX hThreadCtx, PFNRTTHREADCTXHOOK pfnThreadHook, void *pvUser);
uint32_t VBOXCALL RTThreadCtxHooksRelease(RTTHREADCTX hThreadCtx);
uint32_t VBOXCALL RTThreadCtxHooksRetain(RTTHREADCTX hThreadCtx);
const char * VBOXCALL RTThreadGetName(RTTHREAD Thread);
RTNATIVETHREAD VBOXCALL RTThreadGetNative(RTTHREAD Thread);
RTTHREADTYPE VBOXCALL RTThreadGetType(RTTHREAD Thread);
bool VBOXCALL RTThreadIsInInterrupt(RTTHREAD hThread);
RTNATIVETHREAD VBOXCALL RTThreadNativeSelf(void);
void VBOXCALL RTThreadPreemptDisable(PRTTHREADPREEMPTSTATE pState);
bool VBOXCALL RTThreadPreemptIsEnabled(RTTHREAD hThread);
bool VBOXCALL RTThreadPreemptIsPending(RTTHREAD hThread);
bool VBOXCALL RTThreadPreemptIsPendingTrusty(void);
bool VBOXCALL RTThreadPreemptIsPossible(void);
void VBOXCALL RTThreadPreemptRestore(PRTTHREADPREEMPTSTATE pState);
RTTHREAD VBOXCALL RTThreadSelf(void);
const char * VBOXCALL RTThreadSelfName(void);
int VBOXCALL RTThreadSleep(RTMSINTERVAL cMillies);
int VBOXCALL RTThreadUserReset(RTTHREAD Thread);
int VBOXCALL RTThreadUserSignal(RTTHREAD Thread);
int VBOXCALL RTThreadUserWait(RTTHREAD Thread, RTMSINTERVAL cMillies);
int VBOXCALL RTThreadUserWaitNoResume(RTTHREAD Thread, RTMSINTERVAL cMillies);
int VBOXCALL RTThreadWait(RTTHREAD Thread, RTMSINTERVAL cMillies, int *prc);
int VBOXCALL RTThreadWaitNoResume(RTTHREAD Thread, RTMSINTERVAL cMillies, int *prc);
bool VBOXCALL RTThreadYield(void);
uint64_t VBOXCALL RTTimeMilliTS(void);
uint64_t VBOXCALL RTTimeNanoTS(void);
PRTTIMESPEC VBOXCALL RTTimeNow(PRTTIMESPEC pTime);
bool VBOXCALL RTTimerCanDoHighResolution(void);
int VBOXCALL RTTimerChangeInterval(PRTTIMER pTimer, uint64_t u64NanoInterval);
int VBOXCALL RTTimerCreate(PRTTIMER *ppTimer, unsigned uMilliesInterval, PFNRTTIMER pfnTimer, void *pvUser);
int VBOXCALL RTTimerCreateEx(PRTTIMER *ppTimer, uint64_t u64NanoInterval, uint32_t fFlags, PFNRTTIMER pfnTimer, void *pvUser);
int VBOXCALL RTTimerDestroy(PRTTIMER pTimer);
uint32_t VBOXCALL RTTimerGetSystemGranularity(void);
int VBOXCALL RTTimerReleaseSystemGranularity(uint32_t u32Granted);
int VBOXCALL RTTimerRequestSystemGranularity(uint32_t u32Request, uint32_t *pu32Granted);
int VBOXCALL RTTimerStart(PRTTIMER pTimer, uint64_t u64First);
int VBOXCALL RTTimerStop(PRTTIMER pTimer);
uint64_t VBOXCALL RTTimeSystemMilliTS(void);
uint64_t VBOXCALL RTTimeSystemNanoTS(void);
int VBOXCALL RTUuidCompare(PCRTUUID pUuid1, PCRTUUID pUuid2);
int VBOXCALL RTUuidCompareStr(PCRTUUID pUuid1, const char *pszString2);
int VBOXCALL RTUuidFromStr(PRTUUID pUuid, const char *pszString);

#ifdef __cplusplus
}
#endif

#endif
