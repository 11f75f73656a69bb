/* SPDX-License-Identifier: GPL-2.0-only OR CDDL-1.0 */
/*
 * The target's headers, or what illumos.h says of them.
 */
#ifndef SUPDRV_SYSTEM_H
#define	SUPDRV_SYSTEM_H

#ifdef SUPDRV_SYSTEM_HEADERS
#include <sys/types.h>
#include <sys/param.h>
#include <sys/systm.h>
#include <sys/cpuvar.h>
#include <sys/ddi.h>
#include <sys/disp.h>
#include <sys/kmem.h>
#include <sys/mman.h>
#include <sys/proc.h>
#include <sys/sunddi.h>
#include <sys/thread.h>
#include <sys/vmsystm.h>
#include <vm/as.h>
#include <vm/hat.h>
#include <vm/seg.h>
#else
#include "illumos.h"
#endif

#endif
