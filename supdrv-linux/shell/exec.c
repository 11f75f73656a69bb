// SPDX-License-Identifier: GPL-2.0-only OR CDDL-1.0
/*
 * Memory for ring-0 images. The kernel exports nothing that gives executable memory, so that page table entries are changed here.
 *
 * Images hold 32-bit references to what the driver exports and must be near it: they live in an arena in the module's own data,
 * laid out by pages, first fit. Every page of it is mapped by an entry of its own.
 */
#include <linux/bitmap.h>
#include <linux/kernel.h>
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/smp.h>
#include <linux/string.h>
#include <asm/cpufeature.h>
#include <asm/pgtable.h>

#include "glue.h"

#ifndef SUPDRV_EXEC_ARENA_BYTES
# define SUPDRV_EXEC_ARENA_BYTES (8ul << 20)
#endif
#define ARENA_PAGES (SUPDRV_EXEC_ARENA_BYTES >> PAGE_SHIFT)

static u8 arena[SUPDRV_EXEC_ARENA_BYTES] __aligned(PAGE_SIZE);
static DECLARE_BITMAP(used, ARENA_PAGES);
static DEFINE_MUTEX(arena_mutex);
/* Entries are changed by one thread at a time. */
static DEFINE_MUTEX(entries_mutex);
atomic64_t supdrv_exec_pages;

void *supdrv_glue_exec_alloc(size_t bytes);
int supdrv_glue_exec_load(void *memory, size_t bytes, const void *bits, size_t bit_bytes);
void supdrv_glue_exec_free(void *memory, size_t bytes);

struct flush_range {
	unsigned long address;
	size_t pages;
};

static void flush(void *info)
{
	const struct flush_range *range = info;
	size_t i;

	for (i = 0; i < range->pages; i++)
		asm volatile("invlpg (%0)" : : "r"(range->address + (i << PAGE_SHIFT)) : "memory");
}

int supdrv_set_exec(unsigned long address, size_t pages, bool exec)
{
	struct flush_range range = { address, pages };
	unsigned int level;
	pte_t *entry;
	size_t i;

	mutex_lock(&entries_mutex);
	for (i = 0; i < pages; i++) {
		entry = lookup_address(address + (i << PAGE_SHIFT), &level);
		if (!entry || level != PG_LEVEL_4K) {
			mutex_unlock(&entries_mutex);
			return SUPDRV_NO_EXEC_MEMORY;
		}
	}
	for (i = 0; i < pages; i++) {
		entry = lookup_address(address + (i << PAGE_SHIFT), &level);
		set_pte(entry, exec ? pte_mkexec(*entry) : pte_set_flags(*entry, _PAGE_NX));
	}
	mutex_unlock(&entries_mutex);
	on_each_cpu(flush, &range, 1);
	return SUPDRV_OK;
}

static size_t pages_of(size_t bytes)
{
	return (bytes + PAGE_SIZE - 1) >> PAGE_SHIFT;
}

/*
 * Images are not compiled for indirect branch tracking: the first indirect call into one would be a fatal exception. On Xen PV
 * nothing can be writable and executable.
 */
static bool is_possible(void)
{
#ifdef X86_FEATURE_IBT
	if (IS_ENABLED(CONFIG_X86_KERNEL_IBT) && cpu_feature_enabled(X86_FEATURE_IBT)) {
		pr_err_once("supdrv: no ring-0 images with indirect branch tracking; boot with ibt=off to use them\n");
		return false;
	}
#endif
	if (cpu_feature_enabled(X86_FEATURE_XENPV)) {
		pr_err_once("supdrv: no ring-0 images on Xen PV\n");
		return false;
	}
	return true;
}

void *supdrv_glue_exec_alloc(size_t bytes)
{
	size_t pages = pages_of(bytes);
	unsigned long first;

	if (!is_possible())
		return NULL;
	mutex_lock(&arena_mutex);
	first = bitmap_find_next_zero_area(used, ARENA_PAGES, 0, pages, 0);
	if (first >= ARENA_PAGES) {
		mutex_unlock(&arena_mutex);
		return NULL;
	}
	bitmap_set(used, first, pages);
	mutex_unlock(&arena_mutex);
	atomic64_add(pages, &supdrv_exec_pages);
	return arena + (first << PAGE_SHIFT);
}

/* Data follows code in one blob: the pages stay writable. */
int supdrv_glue_exec_load(void *memory, size_t bytes, const void *bits, size_t bit_bytes)
{
	memcpy(memory, bits, bit_bytes);
	return supdrv_set_exec((unsigned long)memory, pages_of(bytes), true);
}

void supdrv_glue_exec_free(void *memory, size_t bytes)
{
	size_t pages = pages_of(bytes);

	supdrv_set_exec((unsigned long)memory, pages, false);
	/* Nothing of an image survives it. */
	memset(memory, 0, pages << PAGE_SHIFT);
	atomic64_sub(pages, &supdrv_exec_pages);
	mutex_lock(&arena_mutex);
	bitmap_clear(used, ((u8 *)memory - arena) >> PAGE_SHIFT, pages);
	mutex_unlock(&arena_mutex);
}
