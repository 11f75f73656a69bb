/* SPDX-License-Identifier: GPL-2.0-only OR CDDL-1.0 */
/*
 * What the two halves of the Solaris shim call of each other.
 *
 * Rust calls the kernel's functions itself. C exists for what only the target's headers know: the current thread and CPU, and
 * the private structures behind mappings in user processes (address spaces, segments).
 */
#ifndef SUPDRV_GLUE_H
#define	SUPDRV_GLUE_H

/* A user mapping that the kernel has let go of; `context` is what it was made with, and comes once. */
void	supdrv_solaris_segment_gone(void *context);

void	*supdrv_glue_thread(void);
void	*supdrv_glue_cpu(void);
uint32_t	supdrv_glue_cpu_id(void);
void	supdrv_glue_preempt_disable(void);
void	supdrv_glue_preempt_enable(void);

/* instructions.c. The context is 0 if preemption and interrupts are on. Only the latter are seen where headers are missing. */
uint32_t	supdrv_glue_context(void);
void	supdrv_glue_cpuid(uint32_t leaf, uint32_t subleaf, uint32_t registers[4]);
uint64_t	supdrv_glue_rdmsr(uint32_t msr);
uintptr_t	supdrv_glue_cr0(void);
uintptr_t	supdrv_glue_cr4(void);

/* Page frames; PFN_INVALID: none. */
uint64_t	supdrv_glue_kernel_page(uintptr_t address);
uint64_t	supdrv_glue_user_page(uintptr_t address);
void	supdrv_glue_kernel_load(uintptr_t address, const uint64_t *pages, size_t count);
void	supdrv_glue_kernel_unload(uintptr_t address, size_t count);

/* Maps pages into the calling process; an errno. On success `pages` stays valid until `context` is gone. */
int	supdrv_glue_map_user(const uint64_t *pages, size_t count, uint32_t prot, void *context, uintptr_t *address);
/* In the process of the mapping, which still exists. */
int	supdrv_glue_unmap_user(uintptr_t address, size_t count);

#endif
