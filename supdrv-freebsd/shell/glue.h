/* SPDX-License-Identifier: GPL-2.0-only OR CDDL-1.0 */
/*
 * What the two halves of the FreeBSD shim call of each other.
 *
 * Rust calls the kernel's functions itself. C exists for what has no symbol or no fixed shape: module metadata and the cdevsw,
 * macros and inline functions, fields of structures, sets of CPUs that are passed by value, functions that changed between
 * releases. No decision is taken here.
 */
#ifndef SUPDRV_GLUE_H
#define	SUPDRV_GLUE_H

/* Rust, called by C or by the kernel through C's tables. The results are errno values. */
int	supdrv_freebsd_load(void);
int	supdrv_freebsd_unload(void);
int	supdrv_freebsd_quiesce(void);
d_open_t	supdrv_freebsd_open;
d_ioctl_t	supdrv_freebsd_ioctl;

/* Who is calling. */
struct supdrv_caller {
	uint32_t euid, ruid, rgid;
	uint32_t jailed;
};

/* What runs here; bits of supdrv_glue_context(). */
#define	SUPDRV_CONTEXT_PINNED	1u	/* in a critical section */
#define	SUPDRV_CONTEXT_IRQS_OFF	2u
#define	SUPDRV_CONTEXT_INTERRUPT 4u
#define	SUPDRV_CONTEXT_PREEMPT	8u	/* should leave its critical section soon */

/* shell.c */
int	supdrv_glue_make_node(const char *name, int unit, int mode, struct cdev **node);
int	supdrv_glue_unit(struct cdev *node);
int	supdrv_glue_hardened(void);
int	supdrv_glue_force_async_tsc(void);
void	supdrv_glue_caller(struct thread *thread, struct supdrv_caller *caller);
int	supdrv_glue_is_32bit(struct thread *thread);
void	*supdrv_glue_thread(void);
void	*supdrv_glue_process(void);
uint32_t	supdrv_glue_pid(void);
uint32_t	supdrv_glue_context(void);
uint32_t	supdrv_glue_cpu(void);
int	supdrv_glue_cpu_absent(uint32_t cpu);
void	supdrv_glue_run_on(uint32_t cpu, void (*action)(void *), void *context);
unsigned long	supdrv_glue_irq_save(void);
void	supdrv_glue_irq_restore(unsigned long flags);
uint64_t	supdrv_glue_rdmsr(uint32_t msr);
unsigned long	supdrv_glue_cr0(void);
unsigned long	supdrv_glue_cr4(void);
void	supdrv_glue_cpuid(uint32_t leaf, uint32_t subleaf, uint32_t registers[4]);
void	supdrv_glue_sleepq_wake(const void *channel, int all);
int	supdrv_glue_callout_stop(void *callout);
int	supdrv_glue_callout_drain(void *callout);

/* memory.c */
vm_object_t	supdrv_glue_object_new(size_t bytes);
int	supdrv_glue_pages_alloc(vm_object_t object, u_long first, u_long count, uint64_t high, u_long align, vm_page_t *pages);
void	supdrv_glue_object_free(vm_object_t object, vm_page_t *pages, u_long count);
uint64_t	supdrv_glue_page_phys(vm_page_t page);
vm_map_t	supdrv_glue_kernel_map(vm_offset_t *first);
vm_map_t	supdrv_glue_user_map(vm_offset_t *hint);
int	supdrv_glue_maps_object(vm_map_t map, vm_offset_t address, vm_offset_t end, vm_object_t object);
int	supdrv_glue_protect(vm_map_t map, vm_offset_t start, vm_offset_t end, int protection);
void	supdrv_glue_kernel_protect(vm_offset_t start, vm_offset_t end, int protection);
void	*supdrv_glue_map_device(uint64_t phys, size_t bytes, int uncached);
void	supdrv_glue_unmap_device(void *address, size_t bytes);

#endif
