/* SPDX-License-Identifier: GPL-2.0-only OR CDDL-1.0 */
/*
 * Imports the driver's runtime and uses it, inside the kernel. Functions that stop the machine, or that need another machine, CPU or
 * user to tell anything, are only imported.
 */
#include "checks.h"
#include <stdarg.h>

typedef void *handle;
extern u32 *g_pSUPGlobalInfoPage;
extern char SUPR0AbsIs64bit[], SUPR0AbsKernelCS[];
u32 *SUPGetGIP(void);
u32 SUPR0GetPagingMode(void);
int SUPR0Printf(const char *format, ...);
int SUPR0ContAlloc(handle session, u32 pages, void **r0, usize *r3, u64 *phys), SUPR0ContFree(handle session, usize at);
int SUPR0LowAlloc(handle session, u32 pages, void **r0, usize *r3, u64 *phys), SUPR0LowFree(handle session, usize at);
int SUPR0MemAlloc(handle session, u32 bytes, void **r0, usize *r3), SUPR0MemFree(handle session, usize at);
int SUPR0PageAllocEx(handle session, u32 pages, u32 flags, usize *r3, void **r0, u64 *phys), SUPR0PageFree(handle session, usize at);
handle SUPR0ObjRegister(handle session, u32 type, void (*destructor)(handle, void *, void *), void *one, void *two);
int SUPR0ObjAddRef(handle object, handle session), SUPR0ObjRelease(handle object, handle session);
int SUPR0ObjVerifyAccess(handle object, handle session, const char *name);
int SUPSemEventCreate(handle session, handle *event), SUPSemEventClose(handle session, handle event);
int SUPSemEventSignal(handle session, handle event), SUPSemEventWaitNoResume(handle session, handle event, u32 ms);
int SUPSemEventMultiCreate(handle session, handle *event), SUPSemEventMultiClose(handle session, handle event);
int SUPSemEventMultiSignal(handle session, handle event), SUPSemEventMultiReset(handle session, handle event);
int SUPSemEventMultiWaitNsRelIntr(handle session, handle event, u64 ns);
u32 SUPSemEventGetResolution(handle session);
u32 RTCrc32(const void *bytes, usize count), RTCrc32Start(void), RTCrc32Finish(u32 crc);
u32 RTCrc32Process(u32 crc, const void *bytes, usize count);
int RTHandleTableCreateEx(handle *table, u32 flags, u32 base, u32 most, void *retain, void *user), RTHandleTableDestroy(handle table, void *callback, void *user);
int RTHandleTableAllocWithCtx(handle table, void *object, void *context, u32 *number);
void *RTHandleTableLookupWithCtx(handle table, u32 number, void *context);
void *RTHandleTableFreeWithCtx(handle table, u32 number, void *context);
void *RTMemAllocTag(usize bytes, const char *tag), *RTMemAllocZTag(usize bytes, const char *tag);
void *RTMemReallocTag(void *old, usize bytes, const char *tag), *RTMemDupTag(const void *from, usize bytes, const char *tag);
void RTMemFree(void *memory);
u32 RTMpCpuId(void), RTMpGetCount(void), RTMpGetOnlineCount(void), RTMpGetMaxCpuId(void), RTMpGetArraySize(void);
int RTMpCpuIdToSetIndex(u32 cpu);
u32 RTMpCpuIdFromSetIndex(int index);
bool RTMpIsCpuOnline(u32 cpu), RTMpIsCpuPossible(u32 cpu);
int RTMpOnAll(void (*worker)(u32, void *, void *), void *one, void *two);
int RTMpOnOthers(void (*worker)(u32, void *, void *), void *one, void *two);
int RTMpOnSpecific(u32 cpu, void (*worker)(u32, void *, void *), void *one, void *two);
u32 RTNetIPv4AddDataChecksum(const void *data, usize bytes, u32 sum, bool *odd);
u16 RTNetIPv4FinalizeChecksum(u32 sum);
u32 RTProcSelf(void);
handle RTR0ProcHandleSelf(void);
bool RTR0MemKernelIsValidAddr(void *at), RTR0MemUserIsValidAddr(usize at), RTR0MemAreKrnlAndUsrDifferent(void);
int RTR0MemKernelCopyTo(void *to, const void *from, usize bytes), RTR0MemUserCopyTo(usize to, const void *from, usize bytes);
int RTR0MemKernelCopyFrom(void *to, const void *from, usize bytes), RTR0MemUserCopyFrom(void *to, usize from, usize bytes);
int RTR0MemUserCopyTo(usize to, const void *from, usize bytes);
int RTR0MemObjAllocPageTag(handle *object, usize bytes, bool execute, const char *tag);
int RTR0MemObjAllocLowTag(handle *object, usize bytes, bool execute, const char *tag);
int RTR0MemObjAllocContTag(handle *object, usize bytes, bool execute, const char *tag);
int RTR0MemObjAllocPhysExTag(handle *object, usize bytes, u64 highest, usize align, const char *tag);
int RTR0MemObjAllocPhysNCTag(handle *object, usize bytes, u64 highest, const char *tag);
int RTR0MemObjEnterPhysTag(handle *object, u64 phys, usize bytes, u32 cache, const char *tag);
int RTR0MemObjMapKernelTag(handle *map, handle object, void *fixed, usize align, u32 prot, const char *tag);
int RTR0MemObjMapUserTag(handle *map, handle object, usize fixed, usize align, u32 prot, handle process, const char *tag);
int RTR0MemObjFree(handle object, bool mappings);
void *RTR0MemObjAddress(handle object);
usize RTR0MemObjAddressR3(handle object), RTR0MemObjSize(handle object);
u64 RTR0MemObjGetPagePhysAddr(handle object, usize page);
bool RTR0MemObjIsMapping(handle object);
int RTSemEventCreate(handle *event), RTSemEventDestroy(handle event), RTSemEventSignal(handle event), RTSemEventWait(handle event, u32 ms);
int RTSemEventMultiCreate(handle *event), RTSemEventMultiDestroy(handle event), RTSemEventMultiSignal(handle event);
int RTSemEventMultiReset(handle event), RTSemEventMultiWait(handle event, u32 ms);
int RTSemFastMutexCreate(handle *mutex), RTSemFastMutexDestroy(handle mutex), RTSemFastMutexRequest(handle mutex), RTSemFastMutexRelease(handle mutex);
int RTSemMutexCreate(handle *mutex), RTSemMutexDestroy(handle mutex), RTSemMutexRequest(handle mutex, u32 ms), RTSemMutexRelease(handle mutex);
int RTSpinlockCreate(handle *lock, u32 flags, const char *name), RTSpinlockDestroy(handle lock);
void RTSpinlockAcquire(handle lock), RTSpinlockRelease(handle lock);
int RTStrCopy(char *to, usize bytes, const char *from), RTStrNCmp(const char *one, const char *two, usize most);
char *RTStrDupTag(const char *text, const char *tag);
void RTStrFree(char *text);
usize RTStrPrintf(char *to, usize bytes, const char *format, ...), RTStrPrintfV(char *to, usize bytes, const char *format, va_list args);
int RTThreadCreate(handle *thread, int (*function)(handle, void *), void *user, usize stack, u32 type, u32 flags, const char *name);
int RTThreadWait(handle thread, u32 ms, int *result), RTThreadUserSignal(handle thread), RTThreadUserWait(handle thread, u32 ms);
int RTThreadSleep(u32 ms);
usize RTThreadNativeSelf(void);
bool RTThreadYield(void), RTThreadPreemptIsEnabled(handle thread), RTThreadIsInInterrupt(handle thread);
struct preempt { u32 cpu, reserved; };
void RTThreadPreemptDisable(struct preempt *state), RTThreadPreemptRestore(struct preempt *state);
u64 RTTimeNanoTS(void), RTTimeMilliTS(void), RTTimeSystemNanoTS(void), RTTimeSystemMilliTS(void);
struct timespec { long long ns; };
struct timespec *RTTimeNow(struct timespec *time);
u32 RTTimerGetSystemGranularity(void);
int RTTimerCreateEx(handle *timer, u64 interval_ns, u32 flags, void (*callback)(handle, void *, u64), void *user);
int RTTimerStart(handle timer, u64 first_ns), RTTimerStop(handle timer), RTTimerDestroy(handle timer);
struct uuid { u8 bytes[16]; };
int RTUuidFromStr(struct uuid *uuid, const char *text), RTUuidCompare(const struct uuid *one, const struct uuid *two);
int RTUuidCompareStr(const struct uuid *uuid, const char *text);
bool RTAssertSetQuiet(bool quiet), RTAssertAreQuiet(void), RTAssertSetMayPanic(bool may), RTAssertMayPanic(void);
int RTErrConvertFromErrno(u32 number), RTErrConvertToErrno(int status);
handle RTLogDefaultInstance(void), RTLogRelDefaultInstance(void);
/* Imported only. */
void RTR0AssertPanicSystem(void);
int RTMpPokeCpu(u32 cpu);

#define INVALID_PARAMETER (-2)
#define INVALID_HANDLE (-4)
#define TIMEOUT (-40)
#define DESTROYED 85
#define READ_WRITE 3
#define PAGE 4096

CHECK(numbers) { WANT((usize)SUPR0AbsIs64bit == (sizeof(void *) == 8)); WANT((usize)SUPR0AbsKernelCS != 0); return 0; }

CHECK(page_of_the_time)
{
    WANT(SUPGetGIP() && SUPGetGIP() == g_pSUPGlobalInfoPage);
    WANT(SUPGetGIP()[0] == 0x19590106 && SUPGetGIP()[1] == 0x00030000);
    return 0;
}

CHECK(cpu_modes)
{
    u32 mode = SUPR0GetPagingMode();
    WANT(sizeof(void *) == 8 ? mode >= 7 && mode <= 10 : mode >= 1 && mode <= 6);
    return 0;
}

CHECK(printing) { SUPR0Printf("supdrv: exports.c prints %s, %d and %#x\n", "text", -5, 0x1234); return 0; }

CHECK(session_memory)
{
    void *r0 = NULL;
    usize r3 = 0;
    u64 phys[4] = { 0 };
    WANT(SUPR0ContAlloc(session, 2, &r0, &r3, phys) == 0 && r0 && r3 && phys[0] && phys[0] < (1ull << 32));
    *(u32 *)r0 = 0x1234;
    u32 seen = 0;
    WANT(RTR0MemUserCopyFrom(&seen, r3, sizeof(seen)) == 0 && seen == 0x1234);
    seen = 0x5678;
    WANT(RTR0MemUserCopyTo(r3 + 4, &seen, sizeof(seen)) == 0 && ((u32 *)r0)[1] == 0x5678);
    WANT(SUPR0ContFree(session, r3) == 0 && SUPR0ContFree(session, r3) == INVALID_PARAMETER);
    WANT(SUPR0LowAlloc(session, 2, &r0, &r3, phys) == 0 && phys[0] != phys[1] && phys[1] < (1ull << 32));
    WANT(SUPR0LowFree(session, (usize)r0) == 0);
    WANT(SUPR0MemAlloc(session, 5000, &r0, &r3) == 0 && SUPR0MemFree(session, r3) == 0);
    WANT(SUPR0PageAllocEx(session, 3, 0, &r3, &r0, phys) == 0 && phys[2] && SUPR0PageFree(session, r3) == 0);
    WANT(SUPR0PageAllocEx(session, 0, 0, &r3, &r0, phys) == -84);
    return 0;
}

static u32 destroyed;
static void destructor(handle object, void *one, void *two) { destroyed += (usize)one + (usize)two; }

CHECK(objects)
{
    destroyed = 0;
    handle object = SUPR0ObjRegister(session, 6, destructor, (void *)1, (void *)2);
    WANT(object);
    WANT(SUPR0ObjAddRef(object, session) == 0 && SUPR0ObjVerifyAccess(object, session, "mine") == 0);
    WANT(SUPR0ObjRelease(object, session) == 0 && destroyed == 0);
    WANT(SUPR0ObjRelease(object, session) == DESTROYED && destroyed == 3);
    return 0;
}

CHECK(session_events)
{
    handle event = NULL;
    WANT(SUPSemEventCreate(session, &event) == 0 && event);
    WANT(SUPSemEventWaitNoResume(session, event, 0) == TIMEOUT);
    WANT(SUPSemEventSignal(session, event) == 0 && SUPSemEventWaitNoResume(session, event, 0) == 0);
    WANT(SUPSemEventMultiSignal(session, event) == INVALID_HANDLE);
    WANT(SUPSemEventClose(session, event) == DESTROYED && SUPSemEventClose(session, event) == INVALID_HANDLE);
    WANT(SUPSemEventMultiCreate(session, &event) == 0);
    WANT(SUPSemEventMultiSignal(session, event) == 0 && SUPSemEventMultiWaitNsRelIntr(session, event, 0) == 0);
    WANT(SUPSemEventMultiReset(session, event) == 0 && SUPSemEventMultiWaitNsRelIntr(session, event, 0) == TIMEOUT);
    WANT(SUPSemEventMultiClose(session, event) == DESTROYED && SUPSemEventGetResolution(session) > 0);
    return 0;
}

CHECK(checksums)
{
    bool odd = 0;
    static const u8 bytes[] = { 0x45, 0x00, 0x00, 0x3c };
    WANT(RTCrc32("123456789", 9) == 0xcbf43926);
    WANT(RTCrc32Finish(RTCrc32Process(RTCrc32Process(RTCrc32Start(), "1234", 4), "56789", 5)) == 0xcbf43926);
    u16 sum = RTNetIPv4FinalizeChecksum(RTNetIPv4AddDataChecksum(bytes, sizeof(bytes), 0, &odd));
    u16 must_be = (u16)~(0x0045 + 0x3c00);
    WANT(sum == must_be);
    return 0;
}

CHECK(handle_tables)
{
    handle table = NULL;
    u32 number = 0;
    /* Flag 1: handles have a context. */
    WANT(RTHandleTableCreateEx(&table, 1, 1, 2048, NULL, NULL) == 0 && table);
    WANT(RTHandleTableAllocWithCtx(table, &number, NULL, &number) == 0 && number);
    WANT(RTHandleTableLookupWithCtx(table, number, NULL) == &number);
    WANT(RTHandleTableFreeWithCtx(table, number, NULL) == &number && !RTHandleTableLookupWithCtx(table, number, NULL));
    WANT(RTHandleTableDestroy(table, NULL, NULL) == 0);
    return 0;
}

CHECK(heap)
{
    u8 *memory = RTMemAllocZTag(1000, "exports.c");
    WANT(memory && memory[0] == 0 && memory[999] == 0);
    memory[0] = 7;
    memory = RTMemReallocTag(memory, 5000, "exports.c");
    WANT(memory && memory[0] == 7);
    u8 *copy = RTMemDupTag(memory, 1, "exports.c");
    WANT(copy && copy[0] == 7);
    RTMemFree(copy);
    RTMemFree(memory);
    RTMemFree(NULL);
    memory = RTMemAllocTag(1, NULL);
    WANT(memory);
    RTMemFree(memory);
    return 0;
}

static void count_cpus(u32 cpu, void *one, void *two) { __atomic_add_fetch((u32 *)one, 1, __ATOMIC_SEQ_CST); *(u32 *)two = cpu; }

CHECK(cpus)
{
    u32 online = RTMpGetOnlineCount(), cpu = RTMpCpuId(), count = 0, last = ~0u;
    WANT(online >= 1 && RTMpGetCount() >= online && RTMpGetArraySize() >= online && RTMpGetMaxCpuId() + 1 >= online);
    WANT(RTMpIsCpuOnline(cpu) && RTMpIsCpuPossible(cpu) && RTMpCpuIdFromSetIndex(RTMpCpuIdToSetIndex(cpu)) == cpu);
    WANT(RTMpOnAll(count_cpus, &count, &last) == 0 && count == online);
    count = 0;
    WANT(RTMpOnOthers(count_cpus, &count, &last) == 0 && count == online - 1);
    count = 0;
    WANT(RTMpOnSpecific(cpu, count_cpus, &count, &last) == 0 && count == 1 && last == cpu);
    return 0;
}

CHECK(identity)
{
    WANT(RTProcSelf() != 0 && RTR0ProcHandleSelf() != (handle)-1 && RTThreadNativeSelf() != (usize)-1);
    return 0;
}

CHECK(addresses)
{
    u64 one = 1, two = 0;
    WANT(RTR0MemKernelIsValidAddr(&one));
    WANT(RTR0MemKernelCopyFrom(&two, &one, sizeof(one)) == 0 && two == 1);
    WANT(RTR0MemUserCopyFrom(&two, 0x10, sizeof(two)) != 0 && RTR0MemUserCopyTo(0x10, &two, sizeof(two)) != 0);
    one = 3;
    int result = RTR0MemKernelCopyTo(&two, &one, sizeof(two));
    WANT(result == -37 || (result == 0 && two == 3 && RTR0MemKernelCopyTo((void *)0x10, &one, sizeof(one)) != 0));
    RTR0MemUserIsValidAddr(0x10);
    RTR0MemAreKrnlAndUsrDifferent();
    return 0;
}

CHECK(memory_objects)
{
    handle object = NULL, map = NULL;
    int (*const allocators[])(handle *, usize, bool, const char *) = { RTR0MemObjAllocPageTag, RTR0MemObjAllocLowTag, RTR0MemObjAllocContTag };
    for (u32 i = 0; i < COUNT(allocators); i++) {
        WANT(allocators[i](&object, 2 * PAGE, 0, "exports.c") == 0 && RTR0MemObjSize(object) == 2 * PAGE);
        u32 *at = RTR0MemObjAddress(object);
        WANT(at && !RTR0MemObjIsMapping(object) && RTR0MemObjGetPagePhysAddr(object, 1) % PAGE == 0);
        at[0] = 0xabcd;
        WANT(RTR0MemObjMapUserTag(&map, object, ~(usize)0, 0, READ_WRITE, RTR0ProcHandleSelf(), "exports.c") == 0);
        u32 seen = 0;
        WANT(RTR0MemObjIsMapping(map) && RTR0MemUserCopyFrom(&seen, RTR0MemObjAddressR3(map), 4) == 0 && seen == 0xabcd);
        WANT(RTR0MemObjFree(object, 0) == -67 && RTR0MemObjFree(object, 1) == 0);
    }
    WANT(RTR0MemObjAllocPageTag(&object, PAGE, 0, "exports.c") == 0);
    int result = RTR0MemObjMapKernelTag(&map, object, (void *)~(usize)0, 0, READ_WRITE, "exports.c");
    WANT(result == 0 || result == -37);
    WANT(RTR0MemObjFree(object, 1) == 0);
    return 0;
}

CHECK(physical_memory)
{
    handle block = NULL, entered = NULL, map = NULL;
    int result = RTR0MemObjAllocPhysExTag(&block, 2 * PAGE, 0xffffffff, PAGE, "exports.c");
    if (result == -37)
        return 0;
    WANT(result == 0);
    u64 phys = RTR0MemObjGetPagePhysAddr(block, 0);
    WANT(phys + 2 * PAGE <= 0x100000000 && RTR0MemObjGetPagePhysAddr(block, 1) == phys + PAGE && !RTR0MemObjAddress(block));
    WANT(RTR0MemObjMapUserTag(&map, block, ~(usize)0, 0, READ_WRITE, RTR0ProcHandleSelf(), "exports.c") == 0);
    u32 value = 0x5eed, seen = 0;
    WANT(RTR0MemUserCopyTo(RTR0MemObjAddressR3(map) + PAGE, &value, 4) == 0);
    result = RTR0MemObjEnterPhysTag(&entered, phys + PAGE, PAGE, 0, "exports.c");
    if (result != -37) {
        WANT(result == 0 && RTR0MemObjGetPagePhysAddr(entered, 0) == phys + PAGE && !RTR0MemObjAddress(entered));
        WANT(RTR0MemObjMapKernelTag(&map, entered, (void *)~(usize)0, 0, READ_WRITE, "exports.c") == 0);
        WANT(*(u32 *)RTR0MemObjAddress(map) == 0x5eed);
        WANT(RTR0MemObjMapUserTag(&map, entered, ~(usize)0, 0, READ_WRITE, RTR0ProcHandleSelf(), "exports.c") == 0);
        WANT(RTR0MemUserCopyFrom(&seen, RTR0MemObjAddressR3(map), 4) == 0 && seen == 0x5eed);
        WANT(RTR0MemObjFree(entered, 1) == 0);
        WANT(RTR0MemObjEnterPhysTag(&entered, ~0ull - 2 * PAGE + 1, PAGE, 0, "exports.c") == -74);
    }
    WANT(RTR0MemObjFree(block, 1) == 0);
    WANT(RTR0MemObjAllocPhysNCTag(&block, 3 * PAGE, ~0ull, "exports.c") == 0 && RTR0MemObjSize(block) == 3 * PAGE);
    WANT(RTR0MemObjFree(block, 0) == 0);
    return 0;
}

CHECK(events)
{
    handle event = NULL;
    WANT(RTSemEventCreate(&event) == 0 && RTSemEventWait(event, 0) == TIMEOUT);
    WANT(RTSemEventSignal(event) == 0 && RTSemEventWait(event, 0) == 0 && RTSemEventDestroy(event) == 0);
    WANT(RTSemEventMultiCreate(&event) == 0 && RTSemEventMultiSignal(event) == 0 && RTSemEventMultiWait(event, 0) == 0);
    WANT(RTSemEventMultiReset(event) == 0 && RTSemEventMultiWait(event, 0) == TIMEOUT && RTSemEventMultiDestroy(event) == 0);
    return 0;
}

CHECK(mutexes)
{
    handle mutex = NULL;
    WANT(RTSemFastMutexCreate(&mutex) == 0 && RTSemFastMutexRequest(mutex) == 0 && RTSemFastMutexRelease(mutex) == 0);
    WANT(RTSemFastMutexDestroy(mutex) == 0);
    WANT(RTSemMutexCreate(&mutex) == 0 && RTSemMutexRequest(mutex, 10) == 0 && RTSemMutexRequest(mutex, 0) == 0);
    WANT(RTSemMutexRelease(mutex) == 0 && RTSemMutexRelease(mutex) == 0 && RTSemMutexDestroy(mutex) == 0);
    return 0;
}

CHECK(spinlocks)
{
    handle lock = NULL;
    /* Flag 2: interrupts are off while it is held; flag 4: they aren't. */
    for (u32 flags = 2; flags <= 4; flags += 2) {
        WANT(RTSpinlockCreate(&lock, flags, "exports.c") == 0 && lock);
        RTSpinlockAcquire(lock);
        RTSpinlockRelease(lock);
        WANT(RTSpinlockDestroy(lock) == 0);
    }
    return 0;
}

static usize print(char *to, usize bytes, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    usize length = RTStrPrintfV(to, bytes, format, args);
    va_end(args);
    return length;
}

CHECK(strings)
{
    char text[64];
    WANT(RTStrPrintf(text, sizeof(text), "%s|%5d|%-4x|%c|%RX64", "abc", -42, 0xbe, 'z', 0x123456789abcdefull) == 32);
    WANT(RTStrNCmp(text, "abc|  -42|be  |z|123456789abcdef", 64) == 0);
    WANT(print(text, sizeof(text), "%u and %llu", 7, 1234567890123ull) == 19 && RTStrNCmp(text, "7 and 1234567890123", 64) == 0);
    WANT(RTStrCopy(text, 4, "abc") == 0 && RTStrCopy(text, 3, "abc") == -41 && RTStrNCmp(text, "abd", 3) != 0);
    char *copy = RTStrDupTag("copy", "exports.c");
    WANT(copy && RTStrNCmp(copy, "copy", 5) == 0);
    RTStrFree(copy);
    return 0;
}

static int thread(handle self, void *user)
{
    *(u32 *)user = 99;
    RTThreadUserSignal(self);
    return 42;
}

CHECK(threads)
{
    handle self = NULL;
    u32 seen = 0;
    int result = 0;
    /* Type 3: default; flag 1: can be waited for. */
    WANT(RTThreadCreate(&self, thread, &seen, 0, 3, 1, "exports") == 0);
    WANT(RTThreadUserWait(self, 10000) == 0 && seen == 99);
    WANT(RTThreadWait(self, 10000, &result) == 0 && result == 42);
    RTThreadYield();
    return 0;
}

CHECK(preemption)
{
    struct preempt state = { ~0u, 0 };
    WANT(!RTThreadIsInInterrupt(NULL) && RTThreadPreemptIsEnabled(NULL));
    RTThreadPreemptDisable(&state);
    bool enabled = RTThreadPreemptIsEnabled(NULL);
    RTThreadPreemptRestore(&state);
    WANT(!enabled && RTThreadPreemptIsEnabled(NULL));
    return 0;
}

CHECK(clocks)
{
    struct timespec now = { 0 };
    u64 first = RTTimeSystemNanoTS();
    WANT(first && RTTimeSystemNanoTS() >= first && RTTimeSystemMilliTS() >= first / 1000000);
    WANT(RTTimeNanoTS() && RTTimeMilliTS() && RTTimeNow(&now) == &now && now.ns > 0);
    WANT(RTThreadSleep(2) == 0 && RTTimeSystemNanoTS() >= first);
    return 0;
}

static u32 ticks;
static void tick(handle timer, void *user, u64 number) { __atomic_add_fetch((u32 *)user, 1, __ATOMIC_SEQ_CST); }

CHECK(timers)
{
    handle timer = NULL;
    ticks = 0;
    WANT(RTTimerGetSystemGranularity() > 0);
    WANT(RTTimerCreateEx(&timer, 10000000, 0, tick, &ticks) == 0 && RTTimerStart(timer, 0) == 0);
    for (u32 i = 0; i < 500 && __atomic_load_n(&ticks, __ATOMIC_SEQ_CST) < 3; i++)
        RTThreadSleep(5);
    int stopped = RTTimerStop(timer), gone = RTTimerDestroy(timer);
    WANT(ticks >= 3 && stopped == 0 && gone == 0);
    return 0;
}

CHECK(uuids)
{
    struct uuid one, two;
    WANT(RTUuidFromStr(&one, "00112233-4455-6677-8899-aabbccddeeff") == 0 && RTUuidFromStr(&two, "garbage") == -49);
    WANT(RTUuidCompareStr(&one, "00112233-4455-6677-8899-AABBCCDDEEFF") == 0);
    two = one;
    WANT(RTUuidCompare(&one, &two) == 0);
    two.bytes[15] ^= 1;
    WANT(RTUuidCompare(&one, &two) != 0);
    return 0;
}

CHECK(assertions)
{
    bool quiet = RTAssertSetQuiet(1);
    WANT(RTAssertAreQuiet());
    RTAssertSetQuiet(quiet);
    bool may = RTAssertSetMayPanic(0);
    WANT(!RTAssertMayPanic());
    RTAssertSetMayPanic(may);
    return 0;
}

CHECK(errors) { WANT(RTErrConvertFromErrno(12) == -8 && RTErrConvertToErrno(-8) == 12 && RTErrConvertFromErrno(0) == 0); return 0; }
CHECK(loggers) { RTLogDefaultInstance(); RTLogRelDefaultInstance(); return 0; }

/* What is too dangerous, or says nothing: it must be there. */
void *const only_imported[] = { RTR0AssertPanicSystem, RTMpPokeCpu };
CHECK(the_rest) { for (u32 i = 0; i < COUNT(only_imported); i++) WANT(only_imported[i]); return 0; }

static const struct check checks[] = {
    { "numbers that describe the kernel", numbers }, { "the global info page", page_of_the_time }, { "paging mode", cpu_modes },
    { "printing", printing }, { "memory of the session", session_memory }, { "objects", objects },
    { "semaphores of the session", session_events }, { "checksums", checksums }, { "handle tables", handle_tables }, { "heap", heap },
    { "CPUs and cross calls", cpus }, { "process and thread", identity }, { "addresses and copies", addresses },
    { "memory objects", memory_objects }, { "physical memory", physical_memory }, { "events", events }, { "mutexes", mutexes }, { "spinlocks", spinlocks },
    { "strings and formatting", strings }, { "threads", threads }, { "preemption", preemption }, { "clocks", clocks },
    { "timers", timers }, { "UUIDs", uuids }, { "assertions", assertions }, { "error numbers", errors }, { "loggers", loggers },
    { "what is only imported", the_rest },
};

static u32 initialised;
int ModuleInit(void *image) { initialised = image != NULL; return initialised ? 0 : INVALID_PARAMETER; }
void ModuleTerm(void *image) { initialised = 0; }

int CheckService(void *session, u32 operation, u64 arg, struct packet *packet)
{
    return initialised ? run_check(checks, COUNT(checks), session, operation, arg, packet) : -22;
}
