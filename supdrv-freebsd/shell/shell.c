/* SPDX-License-Identifier: GPL-2.0-only OR CDDL-1.0 */
/*
 * The module's metadata, its cdevsw and tunables: linker sets and versioned structures, which only the target's headers can
 * make. Below them, functions around macros and fields of structures.
 */
#include <sys/param.h>
#include <sys/systm.h>
#include <sys/conf.h>
#include <sys/fcntl.h>
#include <sys/ioccom.h>
#include <sys/kernel.h>
#include <sys/module.h>
#include <sys/malloc.h>
#include <sys/lock.h>
#include <sys/mutex.h>
#include <sys/sx.h>
#include <sys/proc.h>
#include <sys/ucred.h>
#include <sys/jail.h>
#include <sys/smp.h>
#include <sys/callout.h>
#include <sys/sleepqueue.h>
#include <sys/sysctl.h>
#include <sys/sysent.h>
#include <sys/eventhandler.h>
#include <vm/vm.h>
#include <vm/pmap.h>
#include <machine/cpufunc.h>
#include <machine/md_var.h>
#include <machine/psl.h>

#include "glue.h"

/* What Rust takes for granted. */
#define	HOLDS(condition)	_Static_assert(condition, #condition)
HOLDS(sizeof(struct mtx) <= 64 && offsetof(struct mtx, mtx_lock) == 24);
HOLDS(sizeof(struct sx) <= 64);
HOLDS(sizeof(struct callout) <= 128);
HOLDS(sizeof(struct timespec) == 16 && sizeof(long) == 8);
HOLDS(MTX_SPIN == 1 && MTX_NOWITNESS == 8 && SX_DUPOK == 1);
HOLDS(M_NOWAIT == 1 && M_WAITOK == 2 && M_ZERO == 0x100);
HOLDS(SLEEPQ_CONDVAR == 1 && SLEEPQ_INTERRUPTIBLE == 0x100);
HOLDS(C_ABSOLUTE == 0x200 && C_DIRECT_EXEC == 1);
HOLDS(FREAD == 1 && FWRITE == 2);
HOLDS(IOC_VOID == 0x20000000ul && IOC_INOUT == 0xc0000000ul && IOCPARM_MASK == 0x1fff);
HOLDS(EPERM == 1 && ENXIO == 6 && ENOMEM == 12 && EACCES == 13 && EFAULT == 14 && EBUSY == 16 && EEXIST == 17 && EINVAL == 22 &&
    ENOTTY == 25 && EWOULDBLOCK == 35 && EOPNOTSUPP == 45 && ENOLCK == 77 && ENOSYS == 78 && EILSEQ == 86);
HOLDS(PRI_USER == -2);

MALLOC_DEFINE(M_SUPDRV, "supdrv", "host support driver");

static int hardened = 1;
static int force_async_tsc;

SYSCTL_NODE(_hw, OID_AUTO, vboxdrv, CTLFLAG_RD | CTLFLAG_MPSAFE, NULL, "Host support driver");
SYSCTL_INT(_hw_vboxdrv, OID_AUTO, hardened, CTLFLAG_RDTUN, &hardened, 0,
    "Only root outside of jails opens the unrestricted node");
SYSCTL_INT(_hw_vboxdrv, OID_AUTO, force_async_tsc, CTLFLAG_RDTUN, &force_async_tsc, 0,
    "The time page works in asynchronous mode");

static struct cdevsw supdrv_cdevsw = {
	.d_version = D_VERSION,
	.d_name = "vboxdrv",
	.d_open = supdrv_freebsd_open,
	.d_ioctl = supdrv_freebsd_ioctl,
};

static int
supdrv_event(module_t module, int event, void *unused)
{
	switch (event) {
	case MOD_LOAD:
		/* Tunables may be fetched before or after this, depending on the release. */
		TUNABLE_INT_FETCH("hw.vboxdrv.hardened", &hardened);
		TUNABLE_INT_FETCH("hw.vboxdrv.force_async_tsc", &force_async_tsc);
		return (supdrv_freebsd_load());
	case MOD_UNLOAD:
		return (supdrv_freebsd_unload());
	case MOD_QUIESCE:
		return (supdrv_freebsd_quiesce());
	default:
		return (EOPNOTSUPP);
	}
}

static moduledata_t supdrv_module = { "vboxdrv", supdrv_event, NULL };

DECLARE_MODULE(vboxdrv, supdrv_module, SI_SUB_PSEUDO, SI_ORDER_ANY);
MODULE_VERSION(vboxdrv, 1);

int
supdrv_glue_make_node(const char *name, int unit, int mode, struct cdev **node)
{
	struct make_dev_args args;

	make_dev_args_init(&args);
	args.mda_flags = MAKEDEV_CHECKNAME | MAKEDEV_WAITOK;
	args.mda_devsw = &supdrv_cdevsw;
	args.mda_uid = UID_ROOT;
	args.mda_gid = GID_WHEEL;
	args.mda_mode = mode;
	args.mda_unit = unit;
	return (make_dev_s(&args, node, "%s", name));
}

int
supdrv_glue_unit(struct cdev *node)
{
	return (dev2unit(node));
}

int
supdrv_glue_hardened(void)
{
	return (hardened != 0);
}

int
supdrv_glue_force_async_tsc(void)
{
	return (force_async_tsc != 0);
}

void
supdrv_glue_caller(struct thread *thread, struct supdrv_caller *caller)
{
	struct ucred *cred = (thread != NULL ? thread : curthread)->td_ucred;

	caller->euid = cred->cr_uid;
	caller->ruid = cred->cr_ruid;
	caller->rgid = cred->cr_rgid;
	caller->jailed = jailed(cred) != 0;
}

int
supdrv_glue_is_32bit(struct thread *thread)
{
	return ((thread->td_proc->p_sysent->sv_flags & SV_ILP32) != 0);
}

void *
supdrv_glue_thread(void)
{
	return (curthread);
}

void *
supdrv_glue_process(void)
{
	return (curproc);
}

uint32_t
supdrv_glue_pid(void)
{
	return (curproc->p_pid);
}

uint32_t
supdrv_glue_context(void)
{
	struct thread *td = curthread;

	return ((td->td_critnest != 0 ? SUPDRV_CONTEXT_PINNED : 0) |
	    ((read_rflags() & PSL_I) == 0 ? SUPDRV_CONTEXT_IRQS_OFF : 0) |
	    (td->td_intr_nesting_level != 0 ? SUPDRV_CONTEXT_INTERRUPT : 0) |
	    (td->td_owepreempt != 0 ? SUPDRV_CONTEXT_PREEMPT : 0));
}

uint32_t
supdrv_glue_cpu(void)
{
	return (curcpu);
}

int
supdrv_glue_cpu_absent(uint32_t cpu)
{
	return (cpu > mp_maxid || CPU_ABSENT(cpu));
}

/* The set travels by value, and its size depends on the release. */
void
supdrv_glue_run_on(uint32_t cpu, void (*action)(void *), void *context)
{
	cpuset_t set;

	CPU_SETOF(cpu, &set);
	smp_rendezvous_cpus(set, smp_no_rendezvous_barrier, action, smp_no_rendezvous_barrier, context);
}

unsigned long
supdrv_glue_irq_save(void)
{
	return (intr_disable());
}

void
supdrv_glue_irq_restore(unsigned long flags)
{
	intr_restore(flags);
}

uint64_t
supdrv_glue_rdmsr(uint32_t msr)
{
	return (rdmsr(msr));
}

unsigned long
supdrv_glue_cr0(void)
{
	return (rcr0());
}

unsigned long
supdrv_glue_cr4(void)
{
	return (rcr4());
}

void
supdrv_glue_cpuid(uint32_t leaf, uint32_t subleaf, uint32_t registers[4])
{
	cpuid_count(leaf, subleaf, registers);
}

/* Called with the channel's queue locked; leaves it unlocked. */
void
supdrv_glue_sleepq_wake(const void *channel, int all)
{
#if __FreeBSD_version < 1500022
	int kick;

	/* Older releases took the channel as a pointer to something mutable. */
	kick = all ? sleepq_broadcast(__DECONST(void *, channel), SLEEPQ_CONDVAR, 0, 0) :
	    sleepq_signal(__DECONST(void *, channel), SLEEPQ_CONDVAR, 0, 0);
	sleepq_release(__DECONST(void *, channel));
	if (kick)
		kick_proc0();
#else
	if (all)
		sleepq_broadcast(channel, SLEEPQ_CONDVAR, 0, 0);
	else
		sleepq_signal(channel, SLEEPQ_CONDVAR, 0, 0);
	sleepq_release(channel);
#endif
}

int
supdrv_glue_callout_stop(void *callout)
{
	return (callout_stop((struct callout *)callout));
}

int
supdrv_glue_callout_drain(void *callout)
{
	return (callout_drain((struct callout *)callout));
}
