/* SPDX-License-Identifier: GPL-2.0-only OR CDDL-1.0 */
/*
 * STAND-INS, not FreeBSD's headers: just what shell/ uses, written from the manual pages of section 9, for
 *  - the fake kernel of the tests, whose functions have the prefix freebsd_;
 *  - compiling the branches for releases whose headers can't be had.
 * Structures have the members that shell/ uses and no others: their offsets mean nothing, and what shell/ asserts of them is asserted
 * of these. The same sources are compiled against the real headers of later releases, which is the check that this file doesn't diverge.
 */
#ifndef FREEBSD_STANDIN_H
#define	FREEBSD_STANDIN_H

typedef unsigned char uint8_t;
typedef unsigned int uint32_t, u_int;
typedef unsigned long uint64_t, size_t, u_long, vm_offset_t, vm_size_t, vm_paddr_t, vm_pindex_t, register_t;
typedef long int64_t, sbintime_t, vm_ooffset_t;
typedef int boolean_t;
typedef _Bool bool;
#define	NULL			((void *)0)
#define	FALSE			0
#define	offsetof(type, member)	__builtin_offsetof(type, member)
#define	__DECONST(type, value)	((type)(unsigned long)(const void *)(value))
#define	memset			__builtin_memset

/* errno.h, fcntl.h, ioccom.h */
enum { EPERM = 1, ENXIO = 6, ENOMEM = 12, EACCES = 13, EFAULT = 14, EBUSY = 16, EEXIST = 17, EINVAL = 22, ENOTTY = 25,
	EWOULDBLOCK = 35, EOPNOTSUPP = 45, ENOLCK = 77, ENOSYS = 78, EILSEQ = 86 };
#define	FREAD			1
#define	FWRITE			2
#define	IOCPARM_MASK		0x1fff
#define	IOC_VOID		0x20000000ul
#define	IOC_INOUT		0xc0000000ul

/* Locks, heap, sleep queues, callouts. */
struct lock_object { void *words[3]; };
struct mtx { struct lock_object lock_object; volatile unsigned long mtx_lock; };
struct sx { struct lock_object lock_object; volatile unsigned long sx_lock; };
struct timespec { long tv_sec, tv_nsec; };
struct callout { void *words[8]; };
struct malloc_type { const char *ks_shortdesc, *ks_longdesc; };
#define	MTX_SPIN		1
#define	MTX_NOWITNESS		8
#define	SX_DUPOK		1
#define	M_NOWAIT		1
#define	M_WAITOK		2
#define	M_ZERO			0x100
#define	MALLOC_DEFINE(type, name, text) struct malloc_type type[1] = { { name, text } }
#define	SLEEPQ_CONDVAR		1
#define	SLEEPQ_INTERRUPTIBLE	0x100
#define	C_DIRECT_EXEC		1
#define	C_ABSOLUTE		0x200
#define	PRI_USER		(-2)
#if __FreeBSD_version < 1500022
int	freebsd_sleepq_broadcast(void *channel, int flags, int priority, int queue);
int	freebsd_sleepq_signal(void *channel, int flags, int priority, int queue);
void	freebsd_sleepq_release(void *channel);
void	freebsd_kick_proc0(void);
#define	kick_proc0		freebsd_kick_proc0
#else
void	freebsd_sleepq_broadcast(const void *channel, int flags, int priority, int queue);
void	freebsd_sleepq_signal(const void *channel, int flags, int priority, int queue);
void	freebsd_sleepq_release(const void *channel);
#endif
#define	sleepq_broadcast	freebsd_sleepq_broadcast
#define	sleepq_signal		freebsd_sleepq_signal
#define	sleepq_release		freebsd_sleepq_release
int	freebsd_callout_stop(struct callout *callout);
int	freebsd_callout_drain(struct callout *callout);
#define	callout_stop		freebsd_callout_stop
#define	callout_drain		freebsd_callout_drain

/* Processes. */
struct vm_map;
struct vmspace { char *vm_daddr; struct vm_map { long words[4]; } vm_map; };
struct sysentvec { u_int sv_flags; };
struct ucred { uint32_t cr_uid, cr_ruid, cr_rgid; int in_jail; };
struct proc { int p_pid; struct vmspace *p_vmspace; struct sysentvec *p_sysent; };
struct thread { struct ucred *td_ucred; struct proc *td_proc; u_int td_critnest; int td_intr_nesting_level; unsigned char td_owepreempt; };
#define	SV_ILP32		0x000100
struct thread *freebsd_curthread(void);
#define	curthread		(freebsd_curthread())
#define	curproc			(curthread->td_proc)
static inline bool jailed(struct ucred *cred) { return (cred->in_jail != 0); }

/* Devices and modules. */
struct cdev;
typedef int d_open_t(struct cdev *node, int flags, int type, struct thread *thread);
typedef int d_ioctl_t(struct cdev *node, u_long command, char *data, int flags, struct thread *thread);
#define	D_VERSION		0x17122009
struct cdevsw { int d_version; const char *d_name; d_open_t *d_open; d_ioctl_t *d_ioctl; };
struct make_dev_args { size_t mda_size; int mda_flags; struct cdevsw *mda_devsw; uint32_t mda_uid, mda_gid; int mda_mode, mda_unit; };
#define	MAKEDEV_WAITOK		0x08
#define	MAKEDEV_CHECKNAME	0x20
#define	UID_ROOT		0
#define	GID_WHEEL		0
static inline void make_dev_args_init(struct make_dev_args *args) { memset(args, 0, sizeof(*args)); args->mda_size = sizeof(*args); }
int	freebsd_make_dev_s(struct make_dev_args *args, struct cdev **node, const char *format, const char *name);
int	freebsd_dev2unit(struct cdev *node);
#define	make_dev_s		freebsd_make_dev_s
#define	dev2unit		freebsd_dev2unit

typedef struct module *module_t;
typedef struct moduledata { const char *name; int (*evhand)(module_t module, int event, void *data); void *priv; } moduledata_t;
enum { MOD_LOAD, MOD_UNLOAD, MOD_SHUTDOWN, MOD_QUIESCE };
#define	SI_SUB_PSEUDO		0x7000000
#define	SI_ORDER_ANY		0xfffffff
#define	DECLARE_MODULE(name, data, subsystem, order) \
	_Static_assert((subsystem) > 0 && (order) > 0, "a place in the order"); \
	const moduledata_t *const freebsd_module_##name = &data
#define	MODULE_VERSION(name, number)	_Static_assert((number) > 0, "a version")
#define	CTLFLAG_RD		0x80000000
#define	CTLFLAG_RDTUN		(CTLFLAG_RD | 0x00080000)
#define	CTLFLAG_MPSAFE		0x00040000
#define	OID_AUTO		(-1)
#define	SYSCTL_NODE(parent, number, name, access, handler, text)	_Static_assert(((access) & CTLFLAG_MPSAFE) != 0, text)
#define	SYSCTL_INT(parent, number, name, access, variable, value, text)	_Static_assert(sizeof(*(variable)) == sizeof(int), text)
void	freebsd_tunable_int_fetch(const char *name, int *value);
#define	TUNABLE_INT_FETCH	freebsd_tunable_int_fetch

/* CPUs. */
typedef struct { long bits[16]; } cpuset_t;
#define	CPU_SETOF(number, set)	(memset(set, 0, sizeof(*(set))), (set)->bits[(number) / 64] = 1l << ((number) % 64))
extern u_int freebsd_mp_maxid;
#define	mp_maxid		freebsd_mp_maxid
int	freebsd_cpu_absent(u_int cpu);
#define	CPU_ABSENT		freebsd_cpu_absent
u_int	freebsd_curcpu(void);
#define	curcpu			(freebsd_curcpu())
void	freebsd_smp_no_rendezvous_barrier(void *unused);
void	freebsd_smp_rendezvous_cpus(cpuset_t set, void (*setup)(void *), void (*action)(void *), void (*teardown)(void *), void *argument);
#define	smp_no_rendezvous_barrier freebsd_smp_no_rendezvous_barrier
#define	smp_rendezvous_cpus	freebsd_smp_rendezvous_cpus
#define	PSL_I			0x200
register_t freebsd_read_rflags(void);
register_t freebsd_intr_disable(void);
void	freebsd_intr_restore(register_t flags);
uint64_t freebsd_rdmsr(u_int msr);
u_long	freebsd_rcr0(void), freebsd_rcr4(void);
void	freebsd_cpuid_count(u_int leaf, u_int subleaf, u_int *registers);
#define	read_rflags		freebsd_read_rflags
#define	intr_disable		freebsd_intr_disable
#define	intr_restore		freebsd_intr_restore
#define	rdmsr			freebsd_rdmsr
#define	rcr0			freebsd_rcr0
#define	rcr4			freebsd_rcr4
#define	cpuid_count		freebsd_cpuid_count

/* Virtual memory. */
typedef int vm_prot_t, vm_memattr_t;
typedef struct vm_object *vm_object_t;
typedef struct vm_map *vm_map_t;
typedef struct vm_page { uint8_t valid; long words[12]; } *vm_page_t;
typedef struct vm_map_entry { vm_offset_t start, end; u_int eflags; union { vm_object_t vm_object; } object; } *vm_map_entry_t;
typedef struct pmap *pmap_t;
#define	PAGE_SIZE		4096ul
#define	round_page(address)	(((address) + PAGE_SIZE - 1) & ~(PAGE_SIZE - 1))
#define	MAXDSIZ			(32768ul << 20)
#define	KERNBASE		0xffffffff80000000ul
#define	KERN_SUCCESS		0
#define	VM_PROT_READ		1
#define	VM_PROT_WRITE		2
#define	VM_PROT_EXECUTE		4
#define	VM_PROT_ALL		7
#define	VMFS_ANY_SPACE		1
#define	MAP_DISABLE_COREDUMP	0x100
#define	MAP_ENTRY_IS_SUB_MAP	2
#define	VM_INHERIT_NONE		2
#define	VM_MAP_WIRE_SYSTEM	0
#define	VM_MAP_WIRE_NOHOLES	0
#define	VM_MAP_WIRE_HOLESOK	2
#define	VM_MAP_WIRE_WRITE	4
#define	VM_MAP_PROTECT_SET_PROT	1
#define	VM_ALLOC_NORMAL		0
#define	VM_ALLOC_WIRED		0x20
#define	VM_PAGE_BITS_ALL	0xff
#define	VM_MEMATTR_DEFAULT	6
#define	VM_MEMATTR_UNCACHEABLE	0
#define	OBJT_PHYS		4
vm_object_t freebsd_vm_pager_allocate(int type, void *handle, vm_ooffset_t bytes, vm_prot_t prot, vm_ooffset_t offset, struct ucred *cred);
void	freebsd_vm_object_lock(vm_object_t object, int by);
void	freebsd_vm_object_deallocate(vm_object_t object);
vm_page_t freebsd_vm_page_alloc_contig(vm_object_t object, vm_pindex_t first, int request, u_long count, vm_paddr_t low, vm_paddr_t high,
	    u_long align, vm_paddr_t boundary, vm_memattr_t attribute);
#if __FreeBSD_version >= 1500000
int	freebsd_vm_page_reclaim_contig(int request, u_long count, vm_paddr_t low, vm_paddr_t high, u_long align, vm_paddr_t boundary);
#else
bool	freebsd_vm_page_reclaim_contig(int request, u_long count, vm_paddr_t low, vm_paddr_t high, u_long align, vm_paddr_t boundary);
#endif
#if __FreeBSD_version >= 1300063
void	freebsd_vm_page_valid(vm_page_t page);
#define	vm_page_valid		freebsd_vm_page_valid
#endif
void	freebsd_vm_page_xunbusy(vm_page_t page);
bool	freebsd_vm_page_unwire_noq(vm_page_t page);
vm_paddr_t freebsd_vm_page_to_phys(vm_page_t page);
void	freebsd_pmap_zero_page(vm_page_t page);
vm_map_t freebsd_kernel_map(void);
void	freebsd_vm_map_lock_read(vm_map_t map, int by);
boolean_t freebsd_vm_map_lookup_entry(vm_map_t map, vm_offset_t address, vm_map_entry_t *entry);
#if __FreeBSD_version >= 1300135
int	freebsd_vm_map_protect(vm_map_t map, vm_offset_t start, vm_offset_t end, vm_prot_t prot, vm_prot_t max, int flags);
#else
int	freebsd_vm_map_protect(vm_map_t map, vm_offset_t start, vm_offset_t end, vm_prot_t prot, boolean_t set_max);
#endif
void	freebsd_pmap_protect(pmap_t pmap, vm_offset_t start, vm_offset_t end, vm_prot_t prot);
void	*freebsd_pmap_mapdev_attr(vm_paddr_t phys, vm_size_t bytes, int attribute);
#if __FreeBSD_version >= 1400070
void	freebsd_pmap_unmapdev(void *address, vm_size_t bytes);
#else
void	freebsd_pmap_unmapdev(vm_offset_t address, vm_size_t bytes);
#endif
#define	vm_pager_allocate	freebsd_vm_pager_allocate
#define	VM_OBJECT_WLOCK(object)	freebsd_vm_object_lock(object, 1)
#define	VM_OBJECT_WUNLOCK(object) freebsd_vm_object_lock(object, -1)
#define	vm_object_deallocate	freebsd_vm_object_deallocate
#define	vm_page_alloc_contig	freebsd_vm_page_alloc_contig
#define	vm_page_reclaim_contig	freebsd_vm_page_reclaim_contig
#define	vm_page_xunbusy		freebsd_vm_page_xunbusy
#define	vm_page_unwire_noq	freebsd_vm_page_unwire_noq
#define	VM_PAGE_TO_PHYS		freebsd_vm_page_to_phys
#define	pmap_zero_page		freebsd_pmap_zero_page
#define	kernel_map		(freebsd_kernel_map())
#define	kernel_pmap		((pmap_t)0)
#define	vm_map_lock_read(map)	freebsd_vm_map_lock_read(map, 1)
#define	vm_map_unlock_read(map)	freebsd_vm_map_lock_read(map, -1)
#define	vm_map_lookup_entry	freebsd_vm_map_lookup_entry
#define	vm_map_protect		freebsd_vm_map_protect
#define	pmap_protect		freebsd_pmap_protect
#define	pmap_mapdev_attr	freebsd_pmap_mapdev_attr
#define	pmap_unmapdev		freebsd_pmap_unmapdev

#endif
