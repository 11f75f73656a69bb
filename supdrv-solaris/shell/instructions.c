/* SPDX-License-Identifier: GPL-2.0-only OR CDDL-1.0 */
/*
 * Instructions that only a kernel may execute, apart from the rest of the C half: a fake kernel stands in for them.
 */
#include "system.h"
#include "glue.h"

uint32_t
supdrv_glue_context(void)
{
	ulong_t flags;

	__asm__ volatile("pushfq; popq %0" : "=r"(flags));
#ifdef SUPDRV_SYSTEM_HEADERS
	return ((curthread->t_preempt != 0 ? 1 : 0) | ((flags & 0x200) == 0 ? 2 : 0) | (servicing_interrupt() ? 4 : 0));
#else
	return ((flags & 0x200) == 0 ? 2 : 0);
#endif
}

void
supdrv_glue_cpuid(uint32_t leaf, uint32_t subleaf, uint32_t registers[4])
{
	__asm__ volatile("cpuid" : "=a"(registers[0]), "=b"(registers[1]), "=c"(registers[2]), "=d"(registers[3]) :
	    "a"(leaf), "c"(subleaf));
}

uint64_t
supdrv_glue_rdmsr(uint32_t msr)
{
	uint32_t low, high;

	__asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr));
	return ((uint64_t)high << 32 | low);
}

uintptr_t
supdrv_glue_cr0(void)
{
	uintptr_t value;

	__asm__ volatile("movq %%cr0, %0" : "=r"(value));
	return (value);
}

uintptr_t
supdrv_glue_cr4(void)
{
	uintptr_t value;

	__asm__ volatile("movq %%cr4, %0" : "=r"(value));
	return (value);
}
