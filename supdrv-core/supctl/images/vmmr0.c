/* SPDX-License-Identifier: GPL-2.0-only OR CDDL-1.0 */
/*
 * Stands in for VMMR0: the three entry points, and nothing behind them. The extended entry runs checks as a service does (checks.h); fast
 * calls are remembered.
 */
#include "checks.h"

static struct { void *vm; u32 cpu, operation, calls; } last;

int VMMR0EntryInt(void *vm, u32 operation, void *arg) { return operation == 5 ? 1234 : -36; }

void VMMR0EntryFast(void *vm, u32 cpu, u32 operation)
{
    last.vm = vm;
    last.cpu = cpu;
    last.operation = operation;
    last.calls++;
}

CHECK(internal_entry) { WANT(VMMR0EntryInt(NULL, 5, NULL) == 1234); return 0; }
CHECK(session_is_there) { WANT(session); return 0; }
/* The caller has made the three fast calls before, for virtual CPU 9. */
CHECK(fast_calls) { WANT(last.calls == 3 && last.vm && last.cpu == 9 && last.operation == 2); return 0; }

static const struct check checks[] = {
    { "the internal entry", internal_entry }, { "the session", session_is_there }, { "the fast entry", fast_calls },
};

int VMMR0EntryEx(void *vm, u32 cpu, u32 operation, struct packet *packet, u64 arg, void *session)
{
    return run_check(checks, COUNT(checks), session, operation, arg, packet);
}
