/* SPDX-License-Identifier: GPL-2.0-only OR CDDL-1.0 */
/* The client library with an entry point that a test provides. */
#include "supdrv_idc.h"

int (*g_pfnEntry)(uint32_t uReq, PSUPDRVIDCREQHDR pReq);

int supdrvTestIdcEntry(uint32_t uReq, PSUPDRVIDCREQHDR pReq)
{
    return g_pfnEntry(uReq, pReq);
}

#include "../../include/supdrv_idc.c"

/* The layouts that the driver has, on this host. */
_Static_assert(sizeof(SUPDRVIDCREQHDR) == 0x10, "header");
_Static_assert(sizeof(SUPDRVIDCREQCONNECT) == (sizeof(void *) == 8 ? 0x28 : 0x20), "connect");
_Static_assert(sizeof(SUPDRVIDCREQGETSYM) == (sizeof(void *) == 8 ? 0x20 : 0x18), "symbol");
_Static_assert(sizeof(SUPDRVIDCREQCOMPREGFACTORY) == (sizeof(void *) == 8 ? 0x18 : 0x14), "factory request");
_Static_assert(sizeof(SUPDRVFACTORY) == (sizeof(void *) == 8 ? 64 : 60), "factory");
_Static_assert(sizeof(SUPDRVIDCHANDLE) == 4 * sizeof(void *), "handle");
