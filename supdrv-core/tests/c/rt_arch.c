/* SPDX-License-Identifier: GPL-2.0-only OR CDDL-1.0 */
/*
 * Instructions of ring-0 in user mode: they fault, and are done here.
 */
#define _GNU_SOURCE
#include "runtime.h"

#include <signal.h>
#include <string.h>
#include <ucontext.h>

uint64_t g_uRtMsrFeatureControl = 5;

static greg_t *rtReg(ucontext_t *pCtx, unsigned iReg)
{
#ifdef __x86_64__
    static const int s_aiRegs[16] = { REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                      REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15 };
#else
    static const int s_aiRegs[8] = { REG_EAX, REG_ECX, REG_EDX, REG_EBX, REG_ESP, REG_EBP, REG_ESI, REG_EDI };
#endif
    return &pCtx->uc_mcontext.gregs[s_aiRegs[iReg]];
}

static uint64_t rtMsr(uint32_t idMsr)
{
    switch (idMsr)
    {
        case 0xc0000080: return SUPDRV_HOST_BITS == 64 ? 0xd01 : 0x800; /* EFER: long mode, NX */
        case 0x3a:       return g_uRtMsrFeatureControl;
        default:         return 0;
    }
}

/* Length of the instruction if it was done. */
static unsigned rtDo(ucontext_t *pCtx, const uint8_t *pb)
{
    unsigned cbPrefix = 0, fHigh = 0;
    if (pb[0] == 0xfa || pb[0] == 0xfb)     /* cli, sti */
        return 1;
#ifdef __x86_64__
    if ((pb[0] & 0xf0) == 0x40)
    {
        fHigh = pb[0] & 1 ? 8 : 0;
        cbPrefix = 1;
        pb++;
    }
#endif
    if (pb[0] != 0x0f)
        return 0;
    if (pb[1] == 0x32)                      /* rdmsr */
    {
        uint64_t const uValue = rtMsr((uint32_t)*rtReg(pCtx, 1));
        *rtReg(pCtx, 0) = (greg_t)(uint32_t)uValue;
        *rtReg(pCtx, 2) = (greg_t)(uint32_t)(uValue >> 32);
        return cbPrefix + 2;
    }
    if (pb[1] == 0x20)                      /* mov reg, crN */
    {
        unsigned const iCr = (pb[2] >> 3) & 7;
        *rtReg(pCtx, (pb[2] & 7U) | fHigh) = iCr == 0 ? (greg_t)0x80050033U : iCr == 4 ? (greg_t)0x6a0 : 0;
        return cbPrefix + 3;
    }
    return 0;
}

static void rtFault(int iSignal, siginfo_t *pInfo, void *pvCtx)
{
    ucontext_t *pCtx = (ucontext_t *)pvCtx;
#ifdef __x86_64__
    greg_t *puPc = &pCtx->uc_mcontext.gregs[REG_RIP];
#else
    greg_t *puPc = &pCtx->uc_mcontext.gregs[REG_EIP];
#endif
    /* A general protection fault has no address. */
    unsigned const cb = pInfo->si_code == SI_KERNEL ? rtDo(pCtx, (const uint8_t *)*puPc) : 0;
    if (cb)
        *puPc += cb;
    else
        signal(iSignal, SIG_DFL);           /* happens again, and ends the program */
}

void rtArchInit(void)
{
    struct sigaction Action;
    memset(&Action, 0, sizeof(Action));
    Action.sa_sigaction = rtFault;
    Action.sa_flags = SA_SIGINFO | SA_NODEFER;
    RT_CHECK(sigaction(SIGSEGV, &Action, NULL) == 0);
}
