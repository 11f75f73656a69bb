/* SPDX-License-Identifier: GPL-2.0-only OR CDDL-1.0 */
/* Memory objects: pages of an anonymous file, mapped once for ring-0 and once more for ring-3. */
#define _GNU_SOURCE
#include "runtime.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

enum { KIND_PAGE, KIND_LOW, KIND_CONT, KIND_PHYS_NC, KIND_LOCK, KIND_MAP_KERNEL, KIND_MAP_USER };

struct RTR0MEMOBJINTERNAL
{
    int         iKind;
    int         fd;             /* -1 for locked memory and what maps it */
    size_t      cb;
    void       *pv;             /* ring-0 address */
    RTR3PTR     R3Ptr;
    RTHCPHYS    Phys;           /* of the first page; they follow each other */
    RTR0MEMOBJ  hParent;
    unsigned    cMappings;
};

static uint64_t g_uNextLow  = UINT64_C(0x01000000);
static uint64_t g_uNextHigh = UINT64_C(0x100000000);

static RTR0MEMOBJ rtNew(int iKind, size_t cb)
{
    RTR0MEMOBJ p = rtFail() ? NULL : (RTR0MEMOBJ)calloc(1, sizeof(*p));
    RT_CHECK(rtMayBlock());
    if (p)
    {
        p->iKind = iKind;
        p->fd = -1;
        p->cb = cb;
        __sync_add_and_fetch(iKind < KIND_MAP_KERNEL ? &g_rtCounts.memobjs : &g_rtCounts.mappings, 1);
    }
    return p;
}

static int rtDelete(RTR0MEMOBJ p, int rc)
{
    if (p->fd >= 0 && !p->hParent)
        close(p->fd);
    __sync_sub_and_fetch(p->iKind < KIND_MAP_KERNEL ? &g_rtCounts.memobjs : &g_rtCounts.mappings, 1);
    free(p);
    return rc;
}

static int rtProt(unsigned fProt)
{
    return (fProt & RTMEM_PROT_READ ? PROT_READ : 0) | (fProt & RTMEM_PROT_WRITE ? PROT_WRITE : 0)
         | (fProt & RTMEM_PROT_EXEC ? PROT_EXEC : 0);
}

static int rtAlloc(RTR0MEMOBJ *ph, int iKind, size_t cb, int rcFailure)
{
    RTR0MEMOBJ p;
    *ph = NULL;
    if (!cb || cb % PAGE_SIZE)
        return VERR_INVALID_PARAMETER;
    p = rtNew(iKind, cb);
    if (!p)
        return rcFailure;
    p->fd = memfd_create("memobj", MFD_CLOEXEC);
    if (p->fd < 0 || ftruncate(p->fd, (off_t)cb) != 0)
        return rtDelete(p, rcFailure);
    if (iKind != KIND_PHYS_NC)
    {
        p->pv = mmap(NULL, cb, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_SHARED, p->fd, 0);
        if (p->pv == MAP_FAILED)
            return rtDelete(p, rcFailure);
        /* The core may not rely on zeroes. */
        memset(p->pv, 0x5a, cb);
    }
    p->Phys = __sync_fetch_and_add(iKind == KIND_LOW || iKind == KIND_CONT ? &g_uNextLow : &g_uNextHigh, (uint64_t)cb);
    *ph = p;
    return VINF_SUCCESS;
}

int RTR0MemObjAllocPageTag(RTR0MEMOBJ *ph, size_t cb, bool fExec, const char *pszTag)
{
    (void)fExec; (void)pszTag;
    return rtAlloc(ph, KIND_PAGE, cb, VERR_NO_MEMORY);
}

int RTR0MemObjAllocLowTag(RTR0MEMOBJ *ph, size_t cb, bool fExec, const char *pszTag)
{
    (void)fExec; (void)pszTag;
    return rtAlloc(ph, KIND_LOW, cb, VERR_NO_LOW_MEMORY);
}

int RTR0MemObjAllocContTag(RTR0MEMOBJ *ph, size_t cb, bool fExec, const char *pszTag)
{
    (void)fExec; (void)pszTag;
    return rtAlloc(ph, KIND_CONT, cb, VERR_NO_CONT_MEMORY);
}

int RTR0MemObjAllocPhysNCTag(RTR0MEMOBJ *ph, size_t cb, RTHCPHYS PhysHighest, const char *pszTag)
{
    (void)pszTag;
    RT_CHECK(PhysHighest == NIL_RTHCPHYS);
    return rtAlloc(ph, KIND_PHYS_NC, cb, VERR_NO_PHYS_MEMORY);
}

/* Whether the process has pages there that allow such access. */
static bool rtIsMapped(RTR3PTR R3Ptr, size_t cb, bool fWrite)
{
    size_t off;
    for (off = 0; off < cb; off += PAGE_SIZE)
    {
        uint8_t b;
        if (RTR0MemUserCopyFrom(&b, R3Ptr + off, 1) != 0 || (fWrite && RTR0MemUserCopyTo(R3Ptr + off, &b, 1) != 0))
            return false;
    }
    return true;
}

int RTR0MemObjLockUserTag(RTR0MEMOBJ *ph, RTR3PTR R3Ptr, size_t cb, uint32_t fAccess, RTR0PROCESS hProcess, const char *pszTag)
{
    RTR0MEMOBJ p;
    (void)pszTag;
    *ph = NULL;
    RT_CHECK(cb && cb % PAGE_SIZE == 0 && R3Ptr % PAGE_SIZE == 0 && (fAccess & ~3U) == 0 && fAccess);
    if (hProcess != NIL_RTR0PROCESS && hProcess != RTR0ProcHandleSelf())
        return VERR_NOT_SUPPORTED;
    if (!rtIsMapped(R3Ptr, cb, (fAccess & RTMEM_PROT_WRITE) != 0))
        return VERR_LOCK_FAILED;
    p = rtNew(KIND_LOCK, cb);
    if (!p)
        return VERR_NO_MEMORY;
    p->R3Ptr = R3Ptr;
    p->Phys = UINT64_C(0x4000000000) + R3Ptr;
    *ph = p;
    return VINF_SUCCESS;
}

int RTR0MemObjMapKernelExTag(RTR0MEMOBJ *ph, RTR0MEMOBJ hParent, void *pvFixed, size_t uAlign, unsigned fProt, size_t offSub,
                             size_t cbSub, const char *pszTag)
{
    RTR0MEMOBJ p;
    (void)pszTag; (void)uAlign;
    *ph = NULL;
    RT_CHECK(pvFixed == (void *)UINTPTR_MAX && fProt != 0);
    RT_CHECK(offSub % PAGE_SIZE == 0 && cbSub % PAGE_SIZE == 0 && cbSub && offSub + cbSub <= hParent->cb);
    p = rtNew(KIND_MAP_KERNEL, cbSub);
    if (!p)
        return VERR_MAP_FAILED;
    p->hParent = hParent;
    p->fd = hParent->fd;
    p->Phys = hParent->Phys + offSub;
    if (hParent->iKind == KIND_LOCK)
        /* One address space: ring-0 sees ring-3's pages where ring-3 does. */
        p->pv = (void *)(hParent->R3Ptr + offSub);
    else
    {
        p->pv = mmap(NULL, cbSub, rtProt(fProt), MAP_SHARED, p->fd, (off_t)offSub);
        if (p->pv == MAP_FAILED)
            return rtDelete(p, VERR_MAP_FAILED);
    }
    hParent->cMappings++;
    *ph = p;
    return VINF_SUCCESS;
}

int RTR0MemObjMapKernelTag(RTR0MEMOBJ *ph, RTR0MEMOBJ hParent, void *pvFixed, size_t uAlign, unsigned fProt, const char *pszTag)
{
    return RTR0MemObjMapKernelExTag(ph, hParent, pvFixed, uAlign, fProt, 0, hParent->cb, pszTag);
}

int RTR0MemObjMapUserTag(RTR0MEMOBJ *ph, RTR0MEMOBJ hParent, RTR3PTR R3Fixed, size_t uAlign, unsigned fProt, RTR0PROCESS hProcess,
                         const char *pszTag)
{
    RTR0MEMOBJ p;
    void *pv;
    (void)pszTag; (void)uAlign;
    *ph = NULL;
    RT_CHECK(R3Fixed == UINTPTR_MAX && hParent->fd >= 0);
    if (hProcess != RTR0ProcHandleSelf())
        return VERR_NOT_SUPPORTED;
    p = rtNew(KIND_MAP_USER, hParent->cb);
    if (!p)
        return VERR_MAP_FAILED;
    pv = mmap(NULL, hParent->cb, rtProt(fProt), MAP_SHARED, hParent->fd, 0);
    p->hParent = hParent;
    if (pv == MAP_FAILED)
        return rtDelete(p, VERR_MAP_FAILED);
    madvise(pv, hParent->cb, MADV_DONTFORK);
    p->fd = hParent->fd;
    p->Phys = hParent->Phys;
    p->R3Ptr = (RTR3PTR)pv;
    hParent->cMappings++;
    *ph = p;
    return VINF_SUCCESS;
}

int RTR0MemObjProtect(RTR0MEMOBJ hMemObj, size_t offSub, size_t cbSub, uint32_t fProt)
{
    uint8_t *pb = hMemObj->iKind == KIND_MAP_USER ? (uint8_t *)hMemObj->R3Ptr : (uint8_t *)hMemObj->pv;
    RT_CHECK(rtMayBlock() && offSub + cbSub <= hMemObj->cb);
    if (hMemObj->iKind == KIND_LOCK || !pb)
        return VERR_INVALID_PARAMETER;
    return mprotect(pb + offSub, cbSub, rtProt(fProt)) == 0 ? VINF_SUCCESS : VERR_ACCESS_DENIED;
}

int RTR0MemObjFree(RTR0MEMOBJ hMemObj, bool fFreeMappings)
{
    RT_CHECK(rtMayBlock());
    if (!hMemObj)
        return VINF_SUCCESS;
    if (hMemObj->cMappings)
    {
        RT_CHECK(!fFreeMappings);
        return VERR_MEMORY_BUSY;
    }
    if (hMemObj->iKind == KIND_MAP_USER)
        munmap((void *)hMemObj->R3Ptr, hMemObj->cb);
    else if (hMemObj->pv && hMemObj->fd >= 0)
        munmap(hMemObj->pv, hMemObj->cb);
    if (hMemObj->hParent)
        hMemObj->hParent->cMappings--;
    return rtDelete(hMemObj, VINF_SUCCESS);
}

void *RTR0MemObjAddress(RTR0MEMOBJ hMemObj)
{
    return hMemObj->pv;
}

RTR3PTR RTR0MemObjAddressR3(RTR0MEMOBJ hMemObj)
{
    return hMemObj->R3Ptr;
}

size_t RTR0MemObjSize(RTR0MEMOBJ hMemObj)
{
    return hMemObj->cb;
}

RTHCPHYS RTR0MemObjGetPagePhysAddr(RTR0MEMOBJ hMemObj, size_t iPage)
{
    return iPage < hMemObj->cb / PAGE_SIZE ? hMemObj->Phys + (RTHCPHYS)iPage * PAGE_SIZE : NIL_RTHCPHYS;
}

/* The kernel copies, so that nothing faults here. */
static int rtCopy(void *pvOwn, RTR3PTR R3Ptr, size_t cb, bool fWrite)
{
    struct iovec Own, User;
    ssize_t cbDone;
    RT_CHECK(!rtSelf()->cSpinlocks);
    Own.iov_base = pvOwn;
    Own.iov_len = cb;
    User.iov_base = (void *)R3Ptr;
    User.iov_len = cb;
    cbDone = fWrite ? process_vm_writev(getpid(), &Own, 1, &User, 1, 0) : process_vm_readv(getpid(), &Own, 1, &User, 1, 0);
    return cbDone == (ssize_t)cb ? VINF_SUCCESS : VERR_ACCESS_DENIED;
}

int RTR0MemUserCopyFrom(void *pvDst, RTR3PTR R3Src, size_t cb)
{
    return rtCopy(pvDst, R3Src, cb, false);
}

int RTR0MemUserCopyTo(RTR3PTR R3Dst, const void *pvSrc, size_t cb)
{
    return rtCopy((void *)(uintptr_t)pvSrc, R3Dst, cb, true);
}

void *RTMemExecAllocTag(size_t cb, const char *pszTag)
{
    void *pv;
    (void)pszTag;
    RT_CHECK(cb && rtMayBlock());
    /* Not at a page's beginning, like memory from a heap. In reach of 32-bit references to a program at low addresses. */
    pv = rtFail() ? MAP_FAILED : mmap(NULL, cb + 64, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS
#ifdef MAP_32BIT
                                      | MAP_32BIT
#endif
                                      , -1, 0);
    if (pv == MAP_FAILED)
        return NULL;
    __sync_add_and_fetch(&g_rtCounts.exec, 1);
    memset(pv, 0xcc, cb + 64);
    return (uint8_t *)pv + 64;
}

void RTMemExecFree(void *pv, size_t cb)
{
    RT_CHECK(rtMayBlock());
    RT_CHECK(munmap((uint8_t *)pv - 64, cb + 64) == 0);
    __sync_sub_and_fetch(&g_rtCounts.exec, 1);
}
