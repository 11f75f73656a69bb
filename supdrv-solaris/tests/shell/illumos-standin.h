/* SPDX-License-Identifier: GPL-2.0-only OR CDDL-1.0 */
/*
 * STAND-INS, not the system's headers: compiling with -DSUPDRV_SYSTEM_HEADERS against them, under the names that system.h includes,
 * proves that these branches are well-formed. What the headers of a target say is not known here.
 */
#ifndef ILLUMOS_STANDIN_H
#define	ILLUMOS_STANDIN_H

#include "../../shell/illumos.h"

struct standin_thread { signed char t_preempt; };
int	servicing_interrupt(void);

#undef	curthread
#define	curthread ((struct standin_thread *)supdrv_curthread())

#endif
