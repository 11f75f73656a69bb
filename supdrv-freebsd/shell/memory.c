/* SPDX-License-Identifier: GPL-2.0-only OR CDDL-1.0 */
/*
 * Around the macros, inline functions and structures of the virtual memory system.
 */
#include <sys/param.h>
#include <sys/systm.h>
#include <sys/conf.h>
#include <sys/kernel.h>
#include <sys/lock.h>
#include <sys/mutex.h>
#include <sys/proc.h>
#include <sys/rwlock.h>
#include <vm/vm.h>
#include <vm/vm_param.h>
#include <vm/pmap.h>
#include <vm/vm_extern.h>
#include <vm/vm_kern.h>
#include <vm/vm_map.h>
#include <vm/vm_object.h>
#include <vm/vm_page.h>
#include <vm/vm_pager.h>
#include <machine/vmparam.h>

#include "glue.h"

#define	HOLDS(condition)	_Static_assert(condition, #condition)
HOLDS(VM_PROT_READ == 1 && VM_PROT_WRITE == 2 && VM_PROT_EXECUTE == 4);
HOLDS(VMFS_ANY_SPACE == 1 && MAP_DISABLE_COREDUMP == 0x100 && VM_INHERIT_NONE == 2);
HOLDS(VM_MAP_WIRE_SYSTEM == 0 && VM_MAP_WIRE_NOHOLES == 0 && VM_MAP_WIRE_HOLESOK == 2 && VM_MAP_WIRE_WRITE == 4);
HOLDS(KERN_SUCCESS == 0 && PAGE_SIZE == 4096);

vm_object_t
supdrv_glue_object_new(size_t bytes)
{
	return (vm_pager_allocate(OBJT_PHYS, NULL, bytes, VM_PROT_ALL, 0, NULL));
}

/*
 * Fills a range of an object with zeroed, wired pages, physically contiguous and below `high`. Memory that lies in the way is
 * moved out of it, a few times. May sleep.
 */
int
supdrv_glue_pages_alloc(vm_object_t object, u_long first, u_long count, uint64_t high, u_long align, vm_page_t *pages)
{
	const int request = VM_ALLOC_NORMAL | VM_ALLOC_WIRED;
	vm_page_t run;
	u_long i;
	int attempt;

	for (attempt = 0;; attempt++) {
		VM_OBJECT_WLOCK(object);
		run = vm_page_alloc_contig(object, first, request, count, 0, high, align, 0, VM_MEMATTR_DEFAULT);
		VM_OBJECT_WUNLOCK(object);
		if (run != NULL)
			break;
		if (attempt == 3)
			return (0);
		(void)vm_page_reclaim_contig(VM_ALLOC_NORMAL, count, 0, high, align, 0);
	}
	for (i = 0; i < count; i++)
		pmap_zero_page(&run[i]);
	VM_OBJECT_WLOCK(object);
	for (i = 0; i < count; i++) {
#if __FreeBSD_version >= 1300063
		vm_page_valid(&run[i]);
#else
		run[i].valid = VM_PAGE_BITS_ALL;
#endif
		vm_page_xunbusy(&run[i]);
		pages[i] = &run[i];
	}
	VM_OBJECT_WUNLOCK(object);
	return (1);
}

/* The pages go with the last reference to the object: a user mapping has one of its own. */
void
supdrv_glue_object_free(vm_object_t object, vm_page_t *pages, u_long count)
{
	u_long i;

	VM_OBJECT_WLOCK(object);
	for (i = 0; i < count; i++)
		(void)vm_page_unwire_noq(pages[i]);
	VM_OBJECT_WUNLOCK(object);
	vm_object_deallocate(object);
}

uint64_t
supdrv_glue_page_phys(vm_page_t page)
{
	return (VM_PAGE_TO_PHYS(page));
}

vm_map_t
supdrv_glue_kernel_map(vm_offset_t *first)
{
	*first = KERNBASE;
	return (kernel_map);
}

/* The hint is behind the place where the heap of the process may grow to. */
vm_map_t
supdrv_glue_user_map(vm_offset_t *hint)
{
	struct vmspace *space = curproc->p_vmspace;

	*hint = round_page((vm_offset_t)space->vm_daddr + MAXDSIZ);
	return (&space->vm_map);
}

/* Whether all of the range is one mapping of the object. */
int
supdrv_glue_maps_object(vm_map_t map, vm_offset_t start, vm_offset_t end, vm_object_t object)
{
	vm_map_entry_t entry;
	int maps;

	vm_map_lock_read(map);
	maps = vm_map_lookup_entry(map, start, &entry) && entry->start == start && entry->end == end &&
	    (entry->eflags & MAP_ENTRY_IS_SUB_MAP) == 0 && entry->object.vm_object == object;
	vm_map_unlock_read(map);
	return (maps);
}

int
supdrv_glue_protect(vm_map_t map, vm_offset_t start, vm_offset_t end, int protection)
{
#if __FreeBSD_version >= 1300135
	return (vm_map_protect(map, start, end, protection, 0, VM_MAP_PROTECT_SET_PROT));
#else
	return (vm_map_protect(map, start, end, protection, FALSE));
#endif
}

void
supdrv_glue_kernel_protect(vm_offset_t start, vm_offset_t end, int protection)
{
	pmap_protect(kernel_pmap, start, end, protection);
}

void *
supdrv_glue_map_device(uint64_t phys, size_t bytes, int uncached)
{
	return (pmap_mapdev_attr(phys, bytes, uncached ? VM_MEMATTR_UNCACHEABLE : VM_MEMATTR_DEFAULT));
}

void
supdrv_glue_unmap_device(void *address, size_t bytes)
{
#if __FreeBSD_version >= 1400070
	pmap_unmapdev(address, bytes);
#else
	pmap_unmapdev((vm_offset_t)address, bytes);
#endif
}
