/* SPDX-License-Identifier: GPL-2.0-only OR CDDL-1.0 */
/*
 * What the C half needs of an illumos kernel for amd64, in our own words: for builds without that kernel's headers. On the target,
 * compile with -DSUPDRV_SYSTEM_HEADERS instead.
 *
 * Facts that must hold: the order of the members of struct seg and of struct seg_ops, the places of a_hat in struct as and of
 * p_as in struct proc, the numbers of the flags, and what GS points to. The driver checks the last one when it is loaded.
 */
#ifndef SUPDRV_ILLUMOS_H
#define	SUPDRV_ILLUMOS_H

typedef unsigned char uchar_t;
typedef unsigned int uint_t;
typedef unsigned long ulong_t;
typedef unsigned long size_t;
typedef unsigned long uintptr_t;
typedef unsigned int uint32_t;
typedef unsigned long uint64_t;
typedef char *caddr_t;
typedef long offset_t;
typedef long off_t;
typedef ulong_t pfn_t;
typedef int faultcode_t;
typedef int processorid_t;
typedef struct { ulong_t opaque; } kmutex_t;
#define	NULL ((void *)0)

enum fault_type { F_INVAL, F_PROT, F_SOFTLOCK, F_SOFTUNLOCK };
enum seg_rw { S_OTHER, S_READ, S_WRITE, S_EXEC, S_CREATE, S_READ_NOCOW };
typedef enum { SEGP_FAIL, SEGP_INCLUDED } segcapability_t;
typedef enum { LGRP_MEM_POLICY_DEFAULT } lgrp_mem_policy_t;
typedef struct lgrp_mem_policy_info lgrp_mem_policy_info_t;
typedef struct memid { uint64_t val[2]; } memid_t;

struct hat;
struct page;
struct vnode;
struct seg;

struct as {
	kmutex_t a_contents;
	uchar_t a_flags;
	uchar_t a_vbits;
	unsigned short a_cv;
	struct hat *a_hat;
};

struct avl_node { void *avl_child[2]; uintptr_t avl_pcb; };

struct seg_ops;

struct seg {
	caddr_t s_base;
	size_t s_size;
	uint_t s_szc;
	uint_t s_flags;
	struct as *s_as;
	struct avl_node s_tree;
	const struct seg_ops *s_ops;
	void *s_data;
};

struct seg_ops {
	int (*dup)(struct seg *, struct seg *);
	int (*unmap)(struct seg *, caddr_t, size_t);
	void (*free)(struct seg *);
	faultcode_t (*fault)(struct hat *, struct seg *, caddr_t, size_t, enum fault_type, enum seg_rw);
	faultcode_t (*faulta)(struct seg *, caddr_t);
	int (*setprot)(struct seg *, caddr_t, size_t, uint_t);
	int (*checkprot)(struct seg *, caddr_t, size_t, uint_t);
	int (*kluster)(struct seg *, caddr_t, long);
	size_t (*swapout)(struct seg *);
	int (*sync)(struct seg *, caddr_t, size_t, int, uint_t);
	size_t (*incore)(struct seg *, caddr_t, size_t, char *);
	int (*lockop)(struct seg *, caddr_t, size_t, int, int, ulong_t *, size_t);
	int (*getprot)(struct seg *, caddr_t, size_t, uint_t *);
	off_t (*getoffset)(struct seg *, caddr_t);
	int (*gettype)(struct seg *, caddr_t);
	int (*getvp)(struct seg *, caddr_t, struct vnode **);
	int (*advise)(struct seg *, caddr_t, size_t, uint_t);
	void (*dump)(struct seg *);
	int (*pagelock)(struct seg *, caddr_t, size_t, struct page ***, int, enum seg_rw);
	int (*setpagesize)(struct seg *, caddr_t, size_t, uint_t);
	int (*getmemid)(struct seg *, caddr_t, memid_t *);
	lgrp_mem_policy_info_t *(*getpolicy)(struct seg *, caddr_t);
	int (*capable)(struct seg *, segcapability_t);
	int (*inherit)(struct seg *, caddr_t, size_t, uint_t);
};

/* exec, then as: the first two members of struct proc. */
struct proc { struct vnode *p_exec; struct as *p_as; };
typedef struct proc proc_t;
#define	UPROCP 2

#define	PROT_READ 1
#define	PROT_WRITE 2
#define	PROT_EXEC 4
#define	PROT_USER 8
#define	MAP_SHARED 1
#define	PAGESIZE 4096
#define	HAT_LOAD_LOCK 0x01
#define	HAT_UNLOAD_UNLOCK 0x04
#define	PFN_INVALID ((pfn_t)-1)
#define	FC_NOMAP 0x2
#define	FC_PROT 0x3
#define	EACCES 13
#define	ENODEV 19
#define	EINVAL 22
#define	ENOTSUP 48
#define	KM_SLEEP 0

extern struct as kas;

int	drv_getparm(unsigned int, void *);
void	*kmem_zalloc(size_t, int);
void	kmem_free(void *, size_t);
int	as_map(struct as *, caddr_t, size_t, int (*)(struct seg *, void *), void *);
int	as_unmap(struct as *, caddr_t, size_t);
void	seg_free(struct seg *);
void	as_rangelock(struct as *);
void	as_rangeunlock(struct as *);
void	map_addr(caddr_t *, size_t, offset_t, int, uint_t);
void	hat_devload(struct hat *, caddr_t, size_t, pfn_t, uint_t, int);
void	hat_unload(struct hat *, caddr_t, size_t, uint_t);
pfn_t	hat_getpfnum(struct hat *, caddr_t);
void	kpreempt_disable(void);
void	kpreempt_enable(void);

/* GS points to the CPU's structure: cpu_id at 0, cpu_self at 0x10, cpu_thread at 0x18. */
struct cpu { processorid_t cpu_id; };

static inline struct cpu *
supdrv_cpu(void)
{
	struct cpu *cpu;

	__asm__ volatile("movq %%gs:0x10, %0" : "=r"(cpu));
	return (cpu);
}

static inline void *
supdrv_curthread(void)
{
	void *thread;

	__asm__ volatile("movq %%gs:0x18, %0" : "=r"(thread));
	return (thread);
}

#define	CPU supdrv_cpu()
#define	curthread supdrv_curthread()

#endif
