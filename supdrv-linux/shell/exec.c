// SPDX-License-Identifier: GPL-2.0-only OR CDDL-1.0
/*
 * Memory for ring-0 images. The kernel exports nothing that gives executable memory, so that page table entries are changed here.
 *
 * Images hold 32-bit references to what the driver exports and must be near it: they live in an arena in the module's own data,
 * laid out by pages, first fit. Every page of it is mapped by an entry of its own.
 */
#include <linux/bitmap.h>
#include <linux/cpu.h>
#include <linux/kernel.h>
#include <linux/mm.h>
#include <linux/moduleparam.h>
#include <linux/mutex.h>
#include <linux/security.h>
#include <linux/smp.h>
#include <linux/string.h>
#include <asm/cpufeature.h>
#include <asm/msr.h>
#include <asm/pgtable.h>

#include "glue.h"

#ifndef SUPDRV_EXEC_ARENA_BYTES
# define SUPDRV_EXEC_ARENA_BYTES (8ul << 20)
#endif
#define ARENA_PAGES (SUPDRV_EXEC_ARENA_BYTES >> PAGE_SHIFT)

static char *ibt = "auto";
module_param(ibt, charp, 0444);
MODULE_PARM_DESC(ibt, "with indirect branch tracking: auto (default) refuses images, disable switches it off while any is loaded");
static char *lockdown = "ignore";
module_param(lockdown, charp, 0444);
MODULE_PARM_DESC(lockdown, "in a locked down kernel: ignore (default) loads images, refuse doesn't");

static u8 arena[SUPDRV_EXEC_ARENA_BYTES] __aligned(PAGE_SIZE);
static DECLARE_BITMAP(used, ARENA_PAGES);
static DEFINE_MUTEX(arena_mutex);
/* Entries are changed by one thread at a time. */
static DEFINE_MUTEX(entries_mutex);
atomic64_t supdrv_exec_pages;

void *supdrv_glue_exec_alloc(size_t bytes);
int supdrv_glue_exec_load(void *memory, size_t bytes, const void *bits, size_t bit_bytes);
void supdrv_glue_exec_free(void *memory, size_t bytes);

/* ---- what the machine's owner wants ---- */

static bool ibt_disable, lockdown_refuse;

int supdrv_choice(const char *name, const char *value, const char *no, const char *yes, bool *result)
{
	*result = !strcmp(value, yes);
	if (*result || !strcmp(value, no))
		return 0;
	pr_err("supdrv: parameter %s is %s or %s, not %s\n", name, no, yes, value);
	return -EINVAL;
}

int supdrv_exec_init(void)
{
	return supdrv_choice("ibt", ibt, "auto", "disable", &ibt_disable) ?:
	       supdrv_choice("lockdown", lockdown, "ignore", "refuse", &lockdown_refuse);
}

/*
 * Images add code to the kernel, which is what module signatures are to prevent. On Xen PV nothing can be writable and executable.
 */
static bool may_execute(void)
{
	if (lockdown_refuse && security_locked_down(LOCKDOWN_MODULE_SIGNATURE)) {
		pr_err_once("supdrv: no ring-0 images in a locked down kernel; lockdown=ignore allows them\n");
		return false;
	}
	if (cpu_feature_enabled(X86_FEATURE_XENPV)) {
		pr_err_once("supdrv: no ring-0 images on Xen PV\n");
		return false;
	}
	return true;
}

/* ---- indirect branch tracking ---- */

/*
 * Images of this era weren't compiled for it: the first indirect call into one would be a fatal exception, and so would those inside of one and
 * between them. Calls may block and go on on another CPU, so that it is off everywhere while any image is there, or images are refused.
 */
#if defined(X86_FEATURE_IBT) && defined(CONFIG_X86_KERNEL_IBT)
# ifndef rdmsrq
#  define rdmsrq rdmsrl
#  define wrmsrq wrmsrl
# endif

static bool tracking_is_off; /* written under the CPU hotplug lock */

static bool is_tracked(void)
{
	return cpu_feature_enabled(X86_FEATURE_IBT);
}

/* On this CPU. */
static void apply_tracking(void *unused)
{
	u64 value;

	rdmsrq(MSR_IA32_S_CET, value);
	value = READ_ONCE(tracking_is_off) ? value & ~CET_ENDBR_EN : value | CET_ENDBR_EN;
	wrmsrq(MSR_IA32_S_CET, value);
}

/* The arena mutex is held. CPUs that come later are told by supdrv_exec_cpu_online. */
static void set_tracking(bool off)
{
	if (!is_tracked())
		return;
	cpus_read_lock();
	WRITE_ONCE(tracking_is_off, off);
	on_each_cpu(apply_tracking, NULL, 1);
	cpus_read_unlock();
	pr_info("supdrv: indirect branch tracking is %s\n", off ? "off while ring-0 images are loaded" : "on again");
}

void supdrv_exec_cpu_online(void)
{
	if (READ_ONCE(tracking_is_off))
		apply_tracking(NULL);
}

/* The kernel has switched it on again. */
void supdrv_exec_resumed(void)
{
	if (READ_ONCE(tracking_is_off))
		on_each_cpu(apply_tracking, NULL, 1);
}
#else
static bool is_tracked(void)
{
	return false;
}

static void set_tracking(bool off)
{
}

void supdrv_exec_cpu_online(void)
{
}

void supdrv_exec_resumed(void)
{
}
#endif

/* ---- page table entries ---- */

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

	if (exec && !may_execute())
		return SUPDRV_NO_EXEC_MEMORY;
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

/* ---- the arena ---- */

static size_t pages_of(size_t bytes)
{
	return (bytes + PAGE_SIZE - 1) >> PAGE_SHIFT;
}

static bool is_possible(void)
{
	if (is_tracked() && !ibt_disable) {
		pr_err_once("supdrv: no ring-0 images with indirect branch tracking; boot with ibt=off, or load the driver with ibt=disable\n");
		return false;
	}
	return may_execute();
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
	if (bitmap_empty(used, ARENA_PAGES))
		set_tracking(true);
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
	if (bitmap_empty(used, ARENA_PAGES))
		set_tracking(false);
	mutex_unlock(&arena_mutex);
}
