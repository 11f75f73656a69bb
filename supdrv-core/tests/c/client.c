/* SPDX-License-Identifier: GPL-2.0-only OR CDDL-1.0 */
/* What all tests need: a client of the shell, and the driver's life. */
#include "client.h"

#include <string.h>

int request(uint32_t iFile, uint32_t uCode, void *pvPacket, uint32_t cbIn, uint32_t cbOut)
{
    SUPREQHDR *pHdr = (SUPREQHDR *)pvPacket;
    int rc;
    pHdr->u32Cookie = uCode == SUP_IOCTL_COOKIE ? SUPCOOKIE_INITIAL_COOKIE : BIRD;
    pHdr->u32SessionCookie = BIRD_INV;
    pHdr->cbIn = cbIn;
    pHdr->cbOut = cbOut;
    pHdr->fFlags = SUPREQHDR_FLAGS_DEFAULT;
    pHdr->rc = VERR_INTERNAL_ERROR;
    rc = drvIOCtl(iFile, uCode, (uintptr_t)pvPacket);
    return rc ? rc * 100000 : pHdr->rc;
}

uint32_t openFile(bool fRestricted)
{
    uint32_t iFile;
    RT_CHECK(drvOpen(fRestricted, &iFile) == 0);
    return iFile;
}

void loaded(void)
{
    RT_CHECK(drvLoad() == 0);
}

void unloaded(void)
{
    RT_CHECK(drvUnload() == 0);
    RT_CHECK(rtNothingLeft());
}
