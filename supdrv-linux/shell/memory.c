// SPDX-License-Identifier: GPL-2.0-only OR CDDL-1.0
/*
 * Memory objects: pages of our own, pinned user pages, physical memory that was there before, and mappings of all of them.
 *
 * User mappings belong to files of a private pseudo file system, one file per mapping, so that they can be torn down from any
 * process: unmap_mapping_range() empties them wherever they are, and only then are the pages freed. Whoever touches an emptied
 * mapping gets SIGBUS.
 */
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/gfp.h>
#include <linux/io.h>
#include <linux/mm.h>
#include <linux/mman.h>
#include <linux/module.h>
#include <linux/mount.h>
#include <linux/pseudo_fs.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/version.h>
#include <linux/vmalloc.h>

#include "glue.h"

static atomic64_t object_count, owned_count, pinned_count;
extern atomic64_t supdrv_exec_pages;

enum kind { OWNED, PINNED, ENTERED, KERNEL_MAP, USER_MAP };

struct memobj {
	enum kind kind;
	unsigned long count; /* pages */
	struct page **pages; /* of the parent, in mappings; NULL for entered memory */
	u64 phys; /* of entered memory and its mappings */
	bool device; /* entered memory: not cached */
	void *kernel;
	unsigned long user;
	bool exec;
	struct mm_struct *mm; /* USER_MAP: grabbed, only compared; PINNED: for accounting */
	struct inode *inode; /* USER_MAP */
	u32 prot;
};

int supdrv_glue_mem_alloc(u32 kind, size_t bytes, u32 prot, struct memobj **object);
int supdrv_glue_mem_alloc_phys(size_t bytes, u64 highest, size_t align, bool contiguous, struct memobj **object);
int supdrv_glue_mem_enter_phys(u64 phys, size_t bytes, bool device, struct memobj **object);
int supdrv_glue_mem_lock(unsigned long address, size_t bytes, bool write, struct memobj **object);
int supdrv_glue_mem_map_kernel(struct memobj *parent, size_t offset, size_t bytes, struct memobj **object);
int supdrv_glue_mem_map_user(struct memobj *parent, u32 prot, struct memobj **object);
void supdrv_glue_mem_free(struct memobj *object);
unsigned long supdrv_glue_mem_address(const struct memobj *object);
unsigned long supdrv_glue_mem_address_user(const struct memobj *object);
size_t supdrv_glue_mem_size(const struct memobj *object);
u64 supdrv_glue_mem_phys(const struct memobj *object, size_t index);

static struct memobj *new_object(enum kind kind, unsigned long count)
{
	struct memobj *object = kzalloc(sizeof(*object), GFP_KERNEL_ACCOUNT);

	if (!object)
		return NULL;
	object->kind = kind;
	object->count = count;
	if (kind == OWNED || kind == PINNED) {
		object->pages = kvcalloc(count, sizeof(*object->pages), GFP_KERNEL_ACCOUNT | __GFP_NOWARN);
		if (!object->pages) {
			kfree(object);
			return NULL;
		}
	}
	atomic64_inc(&object_count);
	return object;
}

static void free_object(struct memobj *object)
{
	if (object->kind == OWNED || object->kind == PINNED)
		kvfree(object->pages);
	kfree(object);
	atomic64_dec(&object_count);
}

static void free_pages_of(struct memobj *object)
{
	unsigned long i;

	for (i = 0; i < object->count && object->pages[i]; i++) {
		__free_page(object->pages[i]);
		atomic64_dec(&owned_count);
	}
}

/* One block, aligned to a power of two: blocks of the page allocator are aligned to their size. */
static bool alloc_block(struct memobj *object, gfp_t zone, size_t align)
{
	unsigned int order = get_order(max_t(size_t, object->count << PAGE_SHIFT, align));
	struct page *block = alloc_pages(GFP_KERNEL | (zone & ~__GFP_HIGHMEM) | __GFP_ZERO | __GFP_NOWARN, order);
	unsigned long i;

	if (!block)
		return false;
	split_page(block, order);
	for (i = object->count; i < 1ul << order; i++)
		__free_page(block + i);
	for (i = 0; i < object->count; i++)
		object->pages[i] = block + i;
	atomic64_add(object->count, &owned_count);
	return true;
}

static bool alloc_single(struct memobj *object, gfp_t zone)
{
	/* No storm of the out-of-memory killer for what a client asks. */
	gfp_t flags = GFP_KERNEL_ACCOUNT | zone | __GFP_ZERO | __GFP_NOWARN | __GFP_NORETRY;
	unsigned long i;

	for (i = 0; i < object->count; i++) {
		object->pages[i] = alloc_page(flags);
		if (!object->pages[i])
			return false;
		atomic64_inc(&owned_count);
		if (i % 512 == 511)
			cond_resched();
	}
	return true;
}

/* vmap() with execution made possible afterwards: the kernel has no call for it. */
static void *map_pages(struct page **pages, unsigned long count, bool exec)
{
	void *address = vmap(pages, count, VM_MAP, PAGE_KERNEL);

	if (address && exec && supdrv_set_exec((unsigned long)address, count, true)) {
		/* A kernel that forbids it keeps the data; only images insist on execution. */
		pr_info_once("supdrv: kernel mappings are not executable here\n");
	}
	return address;
}

int supdrv_glue_mem_alloc(u32 kind, size_t bytes, u32 prot, struct memobj **out)
{
	struct memobj *object = new_object(OWNED, bytes >> PAGE_SHIFT);
	bool ok;
	int rc;

	if (!object)
		return SUPDRV_NO_MEMORY;
	switch (kind) {
	case SUPDRV_MEM_CONT:
		ok = alloc_block(object, GFP_DMA32, PAGE_SIZE);
		rc = SUPDRV_NO_CONT_MEMORY;
		break;
	case SUPDRV_MEM_LOW:
		ok = alloc_single(object, GFP_DMA32);
		rc = SUPDRV_NO_LOW_MEMORY;
		break;
	default:
		ok = alloc_single(object, __GFP_HIGHMEM);
		rc = SUPDRV_NO_MEMORY;
	}
	if (ok && kind != SUPDRV_MEM_UNMAPPED) {
		object->kernel = map_pages(object->pages, object->count, prot & SUPDRV_PROT_EXEC);
		ok = object->kernel;
		rc = SUPDRV_NO_MEMORY;
	}
	if (!ok) {
		free_pages_of(object);
		free_object(object);
		return rc;
	}
	*out = object;
	return SUPDRV_OK;
}

/* The zone whose pages are likely to be below a limit; what comes from it is checked. */
static gfp_t zone_below(u64 highest)
{
	return highest >= 1ull << 40 ? __GFP_HIGHMEM : highest >= U32_MAX ? GFP_DMA32 : GFP_DMA;
}

static bool all_below(const struct memobj *object, u64 highest)
{
	unsigned long i;

	for (i = 0; i < object->count; i++)
		if (((u64)page_to_pfn(object->pages[i]) << PAGE_SHIFT) + PAGE_SIZE - 1 > highest)
			return false;
	return true;
}

/* Pages without a kernel mapping, each at or below a limit. */
int supdrv_glue_mem_alloc_phys(size_t bytes, u64 highest, size_t align, bool contiguous, struct memobj **out)
{
	struct memobj *object = new_object(OWNED, bytes >> PAGE_SHIFT);
	gfp_t zone = zone_below(highest);

	if (!object)
		return SUPDRV_NO_MEMORY;
	if (!(contiguous ? alloc_block(object, zone, align) : alloc_single(object, zone)) ||
	    !all_below(object, highest)) {
		free_pages_of(object);
		free_object(object);
		return SUPDRV_NO_PHYS_MEMORY;
	}
	*out = object;
	return SUPDRV_OK;
}

/* Memory or a device that is there already: the caller knows that it stays. */
int supdrv_glue_mem_enter_phys(u64 phys, size_t bytes, bool device, struct memobj **out)
{
	struct memobj *object;

	if ((phys + bytes - 1) >> boot_cpu_data.x86_phys_bits)
		return SUPDRV_ADDRESS_TOO_BIG;
	object = new_object(ENTERED, bytes >> PAGE_SHIFT);
	if (!object)
		return SUPDRV_NO_MEMORY;
	object->phys = phys;
	object->device = device;
	*out = object;
	return SUPDRV_OK;
}

/* What a mapping shows. */
static void show_parent(struct memobj *object, const struct memobj *parent, size_t offset)
{
	if (parent->pages)
		object->pages = parent->pages + (offset >> PAGE_SHIFT);
	object->phys = parent->phys + offset;
	object->device = parent->device;
}

static void *map_entered(const struct memobj *object)
{
	size_t bytes = object->count << PAGE_SHIFT;

	return object->device ? (void __force *)ioremap(object->phys, bytes) : memremap(object->phys, bytes, MEMREMAP_WB);
}

static void unmap_kernel(const struct memobj *object)
{
	if (object->pages)
		vunmap(object->kernel);
	else if (object->device)
		iounmap((void __iomem __force *)object->kernel);
	else
		memunmap(object->kernel);
}

int supdrv_glue_mem_lock(unsigned long address, size_t bytes, bool write, struct memobj **out)
{
	unsigned int flags = FOLL_LONGTERM | (write ? FOLL_WRITE : 0);
	struct memobj *object;
	unsigned long done = 0;
	int rc = SUPDRV_OK;

	if (bytes >> PAGE_SHIFT > INT_MAX)
		return -54;
	object = new_object(PINNED, bytes >> PAGE_SHIFT);
	if (!object)
		return SUPDRV_NO_MEMORY;
	while (done < object->count) {
		int got = pin_user_pages_fast(address + (done << PAGE_SHIFT), object->count - done, flags, object->pages + done);

		if (got <= 0) {
			rc = SUPDRV_LOCK_FAILED;
			break;
		}
		done += got;
	}
	if (rc) {
		unpin_user_pages(object->pages, done);
		free_object(object);
		return rc;
	}
	/* Shown, never limited: installations never raised the limit. */
	object->mm = current->mm;
	mmgrab(object->mm);
	mmap_write_lock(object->mm);
	__account_locked_vm(object->mm, object->count, true, current, true);
	mmap_write_unlock(object->mm);
	object->user = address;
	object->prot = write ? SUPDRV_PROT_WRITE : 0;
	atomic64_add(object->count, &pinned_count);
	*out = object;
	return SUPDRV_OK;
}

int supdrv_glue_mem_map_kernel(struct memobj *parent, size_t offset, size_t bytes, struct memobj **out)
{
	struct memobj *object = new_object(KERNEL_MAP, bytes >> PAGE_SHIFT);

	if (!object)
		return SUPDRV_NO_MEMORY;
	show_parent(object, parent, offset);
	object->kernel = object->pages ? map_pages(object->pages, object->count, false) : map_entered(object);
	if (!object->kernel) {
		free_object(object);
		return SUPDRV_MAP_FAILED;
	}
	*out = object;
	return SUPDRV_OK;
}

/* ---- user mappings ---- */

static int maps_fs_init(struct fs_context *context)
{
	return init_pseudo(context, 0x53555044) ? 0 : -ENOMEM;
}

/* No owner: the files hold references to the module while mappings exist. */
static struct file_system_type maps_fs = {
	.name = "supdrv",
	.init_fs_context = maps_fs_init,
	.kill_sb = kill_anon_super,
};

static struct vfsmount *maps_mount;

int supdrv_maps_init(void)
{
	maps_mount = kern_mount(&maps_fs);
	return PTR_ERR_OR_ZERO(maps_mount);
}

void supdrv_maps_exit(void)
{
	kern_unmount(maps_mount);
}

static int map_file_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct memobj *object = file->private_data;
	unsigned long count = vma_pages(vma);

	/* Only the one call of map_user() gets here with an object: it takes it away again. */
	if (!object || count != object->count || vma->vm_pgoff)
		return -ENODEV;
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 3, 0)
	vm_flags_set(vma, VM_DONTCOPY | VM_DONTEXPAND | VM_DONTDUMP);
	if (!(object->prot & SUPDRV_PROT_WRITE))
		vm_flags_clear(vma, VM_MAYWRITE);
#else
	vma->vm_flags |= VM_DONTCOPY | VM_DONTEXPAND | VM_DONTDUMP;
	if (!(object->prot & SUPDRV_PROT_WRITE))
		vma->vm_flags &= ~VM_MAYWRITE;
#endif
	if (object->pages)
		return vm_insert_pages(vma, vma->vm_start, object->pages, &count);
	if (object->device)
		vma->vm_page_prot = pgprot_noncached(vma->vm_page_prot);
	return remap_pfn_range(vma, vma->vm_start, object->phys >> PAGE_SHIFT, count << PAGE_SHIFT, vma->vm_page_prot);
}

static const struct file_operations map_fops = {
	.owner = THIS_MODULE,
	.mmap = map_file_mmap,
};

static unsigned long mmap_prot(u32 prot)
{
	return PROT_READ | (prot & SUPDRV_PROT_WRITE ? PROT_WRITE : 0) | (prot & SUPDRV_PROT_EXEC ? PROT_EXEC : 0);
}

static int map_object(struct memobj *object, struct file *file)
{
	unsigned long bytes = object->count << PAGE_SHIFT;
	unsigned long address = vm_mmap(file, 0, bytes, mmap_prot(object->prot), MAP_SHARED, 0);

	if (IS_ERR_VALUE(address) && object->prot & SUPDRV_PROT_EXEC) {
		/* A policy against writable and executable memory. */
		object->prot &= ~SUPDRV_PROT_EXEC;
		address = vm_mmap(file, 0, bytes, mmap_prot(object->prot), MAP_SHARED, 0);
	}
	if (IS_ERR_VALUE(address))
		return (long)address == -ENOMEM ? SUPDRV_NO_MEMORY : SUPDRV_MAP_FAILED;
	object->user = address;
	return SUPDRV_OK;
}

int supdrv_glue_mem_map_user(struct memobj *parent, u32 prot, struct memobj **out)
{
	struct memobj *object = new_object(USER_MAP, parent->count);
	struct file *file;
	int rc = SUPDRV_NO_MEMORY;

	if (!object)
		return rc;
	show_parent(object, parent, 0);
	object->prot = prot;
	object->inode = alloc_anon_inode(maps_mount->mnt_sb);
	if (IS_ERR(object->inode))
		goto no_inode;
	/* The final fput drops a reference to the module that the allocation doesn't take. */
	__module_get(THIS_MODULE);
	ihold(object->inode);
	file = alloc_file_pseudo(object->inode, maps_mount, "supdrv", O_RDWR, &map_fops);
	if (IS_ERR(file)) {
		iput(object->inode);
		module_put(THIS_MODULE);
		goto no_file;
	}
	file->private_data = object;
	rc = map_object(object, file);
	file->private_data = NULL;
	fput(file);
	if (rc)
		goto no_file;
	object->mm = current->mm;
	mmgrab(object->mm);
	*out = object;
	return SUPDRV_OK;

no_file:
	iput(object->inode);
no_inode:
	free_object(object);
	return rc;
}

/* Whether the address space still has our mapping where we put it. */
static bool is_mapped_here(const struct memobj *object)
{
	struct vm_area_struct *vma;
	bool here;

	mmap_read_lock(object->mm);
	vma = find_vma(object->mm, object->user);
	here = vma && vma->vm_start == object->user && vma_pages(vma) == object->count && vma->vm_file &&
	       file_inode(vma->vm_file) == object->inode;
	mmap_read_unlock(object->mm);
	return here;
}

static void unmap_user(struct memobj *object)
{
	loff_t bytes = (loff_t)object->count << PAGE_SHIFT;

	unmap_mapping_range(object->inode->i_mapping, 0, bytes, 1);
	/* Gives the address space back where that is possible. */
	if (current->mm == object->mm && is_mapped_here(object))
		vm_munmap(object->user, bytes);
	iput(object->inode);
	mmdrop(object->mm);
}

static void unpin(struct memobj *object)
{
	unpin_user_pages_dirty_lock(object->pages, object->count, object->prot & SUPDRV_PROT_WRITE);
	atomic64_sub(object->count, &pinned_count);
	if (mmget_not_zero(object->mm)) {
		mmap_write_lock(object->mm);
		__account_locked_vm(object->mm, object->count, false, current, true);
		mmap_write_unlock(object->mm);
		mmput(object->mm);
	}
	mmdrop(object->mm);
}

void supdrv_glue_mem_free(struct memobj *object)
{
	if (object->kernel)
		unmap_kernel(object);
	switch (object->kind) {
	case OWNED:
		free_pages_of(object);
		break;
	case PINNED:
		unpin(object);
		break;
	case USER_MAP:
		unmap_user(object);
		break;
	case ENTERED:
	case KERNEL_MAP:
		break;
	}
	free_object(object);
}

unsigned long supdrv_glue_mem_address(const struct memobj *object)
{
	return (unsigned long)object->kernel;
}

unsigned long supdrv_glue_mem_address_user(const struct memobj *object)
{
	return object->user;
}

size_t supdrv_glue_mem_size(const struct memobj *object)
{
	return object->count << PAGE_SHIFT;
}

/* All ones beyond the end. */
u64 supdrv_glue_mem_phys(const struct memobj *object, size_t index)
{
	if (index >= object->count)
		return U64_MAX;
	return object->pages ? (u64)page_to_pfn(object->pages[index]) << PAGE_SHIFT : object->phys + (index << PAGE_SHIFT);
}

void supdrv_memory_counters(u64 counters[4])
{
	counters[0] = atomic64_read(&object_count);
	counters[1] = atomic64_read(&owned_count);
	counters[2] = atomic64_read(&pinned_count);
	counters[3] = atomic64_read(&supdrv_exec_pages);
}
