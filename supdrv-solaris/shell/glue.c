/* SPDX-License-Identifier: GPL-2.0-only OR CDDL-1.0 */
/*
 * The current thread and CPU, translations, and a segment driver for mappings in user processes: private structures and macros,
 * which only the target's headers know.
 */
#include "system.h"
#include "glue.h"

void *
supdrv_glue_thread(void)
{
	return (curthread);
}

void *
supdrv_glue_cpu(void)
{
	return (CPU);
}

uint32_t
supdrv_glue_cpu_id(void)
{
	return (CPU->cpu_id);
}

void
supdrv_glue_preempt_disable(void)
{
	kpreempt_disable();
}

void
supdrv_glue_preempt_enable(void)
{
	kpreempt_enable();
}

static struct as *
current_as(void)
{
	proc_t *process = NULL;

	if (drv_getparm(UPROCP, &process) != 0 || process == NULL)
		return (NULL);
	return (process->p_as);
}

uint64_t
supdrv_glue_kernel_page(uintptr_t address)
{
	return (hat_getpfnum(kas.a_hat, (caddr_t)address));
}

uint64_t
supdrv_glue_user_page(uintptr_t address)
{
	struct as *as = current_as();

	return (as == NULL ? PFN_INVALID : hat_getpfnum(as->a_hat, (caddr_t)address));
}

static void
load(struct hat *hat, caddr_t address, const uint64_t *pages, size_t count, uint_t prot)
{
	size_t i;

	for (i = 0; i < count; i++)
		hat_devload(hat, address + i * PAGESIZE, PAGESIZE, pages[i], prot, HAT_LOAD_LOCK);
}

void
supdrv_glue_kernel_load(uintptr_t address, const uint64_t *pages, size_t count)
{
	load(kas.a_hat, (caddr_t)address, pages, count, PROT_READ | PROT_WRITE);
}

void
supdrv_glue_kernel_unload(uintptr_t address, size_t count)
{
	hat_unload(kas.a_hat, (caddr_t)address, count * PAGESIZE, HAT_UNLOAD_UNLOCK);
}

/*
 * A segment of pages that are loaded and locked as long as it exists. A child of fork gets the segment without pages: touching it
 * is a fault.
 */
struct mapping {
	const uint64_t *pages;	/* NULL in a child */
	size_t count;
	uint_t prot;
	void *context;
};

static const struct seg_ops mapping_ops;

static int
mapping_create(struct seg *seg, void *data)
{
	struct mapping *mapping = data;

	seg->s_ops = &mapping_ops;
	seg->s_data = mapping;
	load(seg->s_as->a_hat, seg->s_base, mapping->pages, mapping->count, mapping->prot | PROT_USER);
	return (0);
}

static int
mapping_dup(struct seg *seg, struct seg *child)
{
	struct mapping *of_parent = seg->s_data, *mapping = kmem_zalloc(sizeof (*mapping), KM_SLEEP);

	mapping->count = of_parent->count;
	mapping->prot = of_parent->prot;
	child->s_ops = &mapping_ops;
	child->s_data = mapping;
	return (0);
}

static int
mapping_unmap(struct seg *seg, caddr_t address, size_t bytes)
{
	if (address != seg->s_base || bytes != seg->s_size)
		return (EINVAL);
	/* Takes the segment out of its address space, and calls mapping_free. */
	seg_free(seg);
	return (0);
}

static void
mapping_free(struct seg *seg)
{
	struct mapping *mapping = seg->s_data;

	if (mapping->pages != NULL) {
		hat_unload(seg->s_as->a_hat, seg->s_base, seg->s_size, HAT_UNLOAD_UNLOCK);
		supdrv_solaris_segment_gone(mapping->context);
	}
	kmem_free(mapping, sizeof (*mapping));
	seg->s_data = NULL;
}

static faultcode_t
mapping_fault(struct hat *hat, struct seg *seg, caddr_t address, size_t bytes, enum fault_type type, enum seg_rw rw)
{
	struct mapping *mapping = seg->s_data;

	if (mapping->pages == NULL)
		return (FC_NOMAP);
	if (type == F_PROT || (rw == S_WRITE && (mapping->prot & PROT_WRITE) == 0))
		return (FC_PROT);
	return (0);
}

static faultcode_t
mapping_faulta(struct seg *seg, caddr_t address)
{
	return (0);
}

static int
mapping_setprot(struct seg *seg, caddr_t address, size_t bytes, uint_t prot)
{
	return (EACCES);
}

static int
mapping_checkprot(struct seg *seg, caddr_t address, size_t bytes, uint_t prot)
{
	struct mapping *mapping = seg->s_data;

	return ((prot & ~mapping->prot & (PROT_READ | PROT_WRITE | PROT_EXEC)) != 0 ? EACCES : 0);
}

static int
mapping_kluster(struct seg *seg, caddr_t address, long delta)
{
	return (-1);
}

#ifndef SUPDRV_NO_SEG_SWAPOUT
static size_t
mapping_swapout(struct seg *seg)
{
	return (0);
}
#endif

static int
mapping_sync(struct seg *seg, caddr_t address, size_t bytes, int attr, uint_t flags)
{
	return (0);
}

static size_t
mapping_incore(struct seg *seg, caddr_t address, size_t bytes, char *vector)
{
	size_t done;

	for (done = 0; done < bytes; done += PAGESIZE)
		*vector++ = 1;
	return (bytes);
}

static int
mapping_lockop(struct seg *seg, caddr_t address, size_t bytes, int attr, int op, ulong_t *bitmap, size_t position)
{
	return (0);
}

static int
mapping_getprot(struct seg *seg, caddr_t address, size_t bytes, uint_t *protections)
{
	struct mapping *mapping = seg->s_data;
	size_t i;

	for (i = 0; i < bytes / PAGESIZE; i++)
		protections[i] = mapping->prot;
	return (0);
}

static off_t
mapping_getoffset(struct seg *seg, caddr_t address)
{
	return (0);
}

static int
mapping_gettype(struct seg *seg, caddr_t address)
{
	return (MAP_SHARED);
}

static int
mapping_getvp(struct seg *seg, caddr_t address, struct vnode **vnode)
{
	*vnode = NULL;
	return (-1);
}

static int
mapping_advise(struct seg *seg, caddr_t address, size_t bytes, uint_t behaviour)
{
	return (0);
}

static void
mapping_dump(struct seg *seg)
{
}

static int
mapping_pagelock(struct seg *seg, caddr_t address, size_t bytes, struct page ***pages, int type, enum seg_rw rw)
{
	return (ENOTSUP);
}

static int
mapping_setpagesize(struct seg *seg, caddr_t address, size_t bytes, uint_t code)
{
	return (ENOTSUP);
}

static int
mapping_getmemid(struct seg *seg, caddr_t address, memid_t *id)
{
	return (ENODEV);
}

static lgrp_mem_policy_info_t *
mapping_getpolicy(struct seg *seg, caddr_t address)
{
	return (NULL);
}

static int
mapping_capable(struct seg *seg, segcapability_t capability)
{
	return (0);
}

/* Members that a release doesn't have, or has in addition, are its headers' business: all are set by name. */
static const struct seg_ops mapping_ops = {
	.dup = mapping_dup,
	.unmap = mapping_unmap,
	.free = mapping_free,
	.fault = mapping_fault,
	.faulta = mapping_faulta,
	.setprot = mapping_setprot,
	.checkprot = mapping_checkprot,
	.kluster = mapping_kluster,
#ifndef SUPDRV_NO_SEG_SWAPOUT
	.swapout = mapping_swapout,
#endif
	.sync = mapping_sync,
	.incore = mapping_incore,
	.lockop = mapping_lockop,
	.getprot = mapping_getprot,
	.getoffset = mapping_getoffset,
	.gettype = mapping_gettype,
	.getvp = mapping_getvp,
	.advise = mapping_advise,
	.dump = mapping_dump,
	.pagelock = mapping_pagelock,
	.setpagesize = mapping_setpagesize,
	.getmemid = mapping_getmemid,
	.getpolicy = mapping_getpolicy,
	.capable = mapping_capable,
};

int
supdrv_glue_map_user(const uint64_t *pages, size_t count, uint32_t prot, void *context, uintptr_t *address)
{
	struct as *as = current_as();
	struct mapping *mapping;
	caddr_t place = NULL;
	int error;

	if (as == NULL)
		return (EINVAL);
	mapping = kmem_zalloc(sizeof (*mapping), KM_SLEEP);
	mapping->pages = pages;
	mapping->count = count;
	mapping->prot = prot;
	mapping->context = context;
	as_rangelock(as);
	map_addr(&place, count * PAGESIZE, 0, 1, MAP_SHARED);
	error = place == NULL ? EINVAL : as_map(as, place, count * PAGESIZE, mapping_create, mapping);
	as_rangeunlock(as);
	if (error != 0) {
		kmem_free(mapping, sizeof (*mapping));
		return (error);
	}
	*address = (uintptr_t)place;
	return (0);
}

int
supdrv_glue_unmap_user(uintptr_t address, size_t count)
{
	struct as *as = current_as();

	return (as == NULL ? EINVAL : as_unmap(as, (caddr_t)address, count * PAGESIZE));
}
