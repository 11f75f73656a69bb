/* SPDX-License-Identifier: GPL-2.0-only OR CDDL-1.0 */
/* What all tests need: a client of the shell, and the driver's life. */
#ifndef SUPDRV_TEST_CLIENT_H
#define SUPDRV_TEST_CLIENT_H

#include "shell.h"

/* Makes a request with a correct header; its status, or the errno of the call times 100000. */
int request(uint32_t iFile, uint32_t uCode, void *pvPacket, uint32_t cbIn, uint32_t cbOut);

#define REQUEST(iFile, Name, Packet) \
    request(iFile, SUP_IOCTL_##Name, &(Packet), SUP_IOCTL_##Name##_SIZE_IN, SUP_IOCTL_##Name##_SIZE_OUT)

uint32_t openFile(bool fRestricted);
/* Loads the driver. */
void loaded(void);
/* Unloads it, and nothing may be left. */
void unloaded(void);

/* Images: 0x200 bytes of code that jumps into the test program, and two symbols. */
#define IMAGE_BITS  0x200U
#define IMAGE_TABS  0x40U
int  loadImage(uint32_t iFile, uint8_t *pbBase, SUPLDRLOADEP enmType);
/* No hooks, nothing seen. */
void resetSeen(void);

void testImageFields(void);
void testVmmEntryPoints(void);
void testNativeImages(void);
void testObjects(void);
void testObjectServices(void);
void testMemoryServices(void);
void testExports(void);
void testComponents(void);

#endif
