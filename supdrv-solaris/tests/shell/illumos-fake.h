/* SPDX-License-Identifier: GPL-2.0-only OR CDDL-1.0 */
/*
 * shell/illumos.h with the names of the fake kernel, included before everything else: the structures are those of the real build
 * without headers, the functions are the fake's. The current CPU and thread aren't behind GS in a process.
 */
#define	kas	solaris_kas
#define	drv_getparm	solaris_drv_getparm
#define	kmem_zalloc	solaris_kmem_zalloc
#define	kmem_free	solaris_kmem_free
#define	as_map	solaris_as_map
#define	as_unmap	solaris_as_unmap
#define	seg_free	solaris_seg_free
#define	as_rangelock	solaris_as_rangelock
#define	as_rangeunlock	solaris_as_rangeunlock
#define	map_addr	solaris_map_addr
#define	hat_devload	solaris_hat_devload
#define	hat_unload	solaris_hat_unload
#define	hat_getpfnum	solaris_hat_getpfnum
#define	kpreempt_disable	solaris_kpreempt_disable
#define	kpreempt_enable	solaris_kpreempt_enable

#include "../../shell/illumos.h"

void	*solaris_fake_cpu(void);
void	*solaris_fake_thread(void);

#undef	CPU
#undef	curthread
#define	CPU ((struct cpu *)solaris_fake_cpu())
#define	curthread (solaris_fake_thread())
