// SPDX-License-Identifier: GPL-2.0-only OR CDDL-1.0
/* What only loaded modules ask for: threads, preemption, pokes, doubtful addresses, the wall clock. */
#include <linux/hardirq.h>
#include <linux/kernel.h>
#include <linux/kthread.h>
#include <linux/module.h>
#include <linux/percpu.h>
#include <linux/preempt.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/smp.h>
#include <linux/timekeeping.h>
#include <linux/uaccess.h>
#include <linux/version.h>

#include "glue.h"

#define VERR_GENERAL_FAILURE (-1)

typedef void (*supdrv_thread_fn)(void *context);
typedef void (*supdrv_preempt_fn)(u32 event, void *context);

void *supdrv_glue_alloc_atomic(size_t bytes);
void supdrv_glue_free_atomic(void *memory);
int supdrv_glue_kernel_copy_from(void *to, unsigned long from, size_t bytes);
int supdrv_glue_kernel_copy_to(unsigned long to, const u8 *from, size_t bytes);
bool supdrv_glue_is_user_address(unsigned long address);
s64 supdrv_glue_wall_clock_ns(void);
int supdrv_glue_poke(u32 cpu);
int supdrv_glue_sleep_interruptible_ms(u32 millis);
void supdrv_glue_preempt_disable(void);
void supdrv_glue_preempt_enable(void);
bool supdrv_glue_preempt_is_enabled(void);
bool supdrv_glue_preempt_is_pending(void);
bool supdrv_glue_preempt_is_possible(void);
bool supdrv_glue_is_in_interrupt(void);
int supdrv_glue_thread_spawn(supdrv_thread_fn entry, void *context, u32 priority, const char *name);
void *supdrv_glue_preempt_hook_new(supdrv_preempt_fn callback, void *context, int *status);
void supdrv_glue_preempt_hook_enable(void *hook);
void supdrv_glue_preempt_hook_disable(void *hook);
void supdrv_glue_preempt_hook_free(void *hook);
void supdrv_glue_panic(void);

void *supdrv_glue_alloc_atomic(size_t bytes)
{
	return kzalloc(bytes, GFP_ATOMIC | __GFP_NOWARN);
}

void supdrv_glue_free_atomic(void *memory)
{
	kfree(memory);
}

int supdrv_glue_kernel_copy_from(void *to, unsigned long from, size_t bytes)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(5, 8, 0)
	return copy_from_kernel_nofault(to, (const void *)from, bytes) ? SUPDRV_ACCESS_DENIED : SUPDRV_OK;
#else
	return probe_kernel_read(to, (const void *)from, bytes) ? SUPDRV_ACCESS_DENIED : SUPDRV_OK;
#endif
}

/* The kernel's own function isn't for modules, what it is made of is. */
int supdrv_glue_kernel_copy_to(unsigned long to, const u8 *from, size_t bytes)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(5, 10, 0)
	if (to < TASK_SIZE_MAX)
		return SUPDRV_ACCESS_DENIED;
	pagefault_disable();
	for (; bytes; to++, from++, bytes--)
		__put_kernel_nofault((u8 *)to, from, u8, fault);
	pagefault_enable();
	return SUPDRV_OK;
fault:
	pagefault_enable();
	return SUPDRV_ACCESS_DENIED;
#else
	return SUPDRV_NOT_SUPPORTED;
#endif
}

bool supdrv_glue_is_user_address(unsigned long address)
{
	return address < TASK_SIZE_MAX;
}

s64 supdrv_glue_wall_clock_ns(void)
{
	return ktime_get_real_ns();
}

static void poked(void *unused)
{
}

static DEFINE_PER_CPU(call_single_data_t, poke);

/* A poke that is still on its way is as good as another one. */
int supdrv_glue_poke(u32 cpu)
{
	call_single_data_t *call;
	int rc;

	if (cpu >= nr_cpu_ids || !cpu_possible(cpu))
		return SUPDRV_CPU_NOT_FOUND;
	call = per_cpu_ptr(&poke, cpu);
	call->func = poked;
	preempt_disable();
	rc = smp_call_function_single_async(cpu, call);
	preempt_enable();
	return rc == 0 || rc == -EBUSY ? SUPDRV_OK : SUPDRV_CPU_OFFLINE;
}

int supdrv_glue_sleep_interruptible_ms(u32 millis)
{
	unsigned long left = msecs_to_jiffies(millis) + 1;

	while (left && !signal_pending(current))
		left = schedule_timeout_interruptible(left);
	return left ? SUPDRV_INTERRUPTED : SUPDRV_OK;
}

#ifdef CONFIG_PREEMPT_COUNT
void supdrv_glue_preempt_disable(void)
{
	preempt_disable();
}

void supdrv_glue_preempt_enable(void)
{
	preempt_enable();
}

bool supdrv_glue_preempt_is_enabled(void)
{
	return preemptible();
}
#else
/* The kernel doesn't count, since it only switches where code asks for it: how often this driver's callers on a CPU don't want that. */
static DEFINE_PER_CPU(unsigned int, preempt_disabled);

void supdrv_glue_preempt_disable(void)
{
	preempt_disable();
	this_cpu_inc(preempt_disabled);
}

void supdrv_glue_preempt_enable(void)
{
	this_cpu_dec(preempt_disabled);
	preempt_enable();
}

bool supdrv_glue_preempt_is_enabled(void)
{
	return !this_cpu_read(preempt_disabled) && !irqs_disabled() && !in_interrupt();
}
#endif

bool supdrv_glue_preempt_is_pending(void)
{
	return need_resched();
}

bool supdrv_glue_preempt_is_possible(void)
{
	return IS_ENABLED(CONFIG_PREEMPTION);
}

bool supdrv_glue_is_in_interrupt(void)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(5, 11, 0)
	return in_hardirq() || in_serving_softirq() || in_nmi();
#else
	return in_irq() || in_serving_softirq() || in_nmi();
#endif
}

/* ---- threads ---- */

struct start {
	supdrv_thread_fn entry;
	void *context;
	u32 priority;
};

/* The numbers are those of ThreadPriority. */
static void set_priority(u32 priority)
{
	static const int nice[] = { 10, 0, 0, -5 };

	if (priority < ARRAY_SIZE(nice))
		sched_set_normal(current, nice[priority]);
	else if (priority == ARRAY_SIZE(nice))
		sched_set_fifo_low(current);
	else
		sched_set_fifo(current);
}

static int thread_main(void *data)
{
	struct start start = *(struct start *)data;

	kfree(data);
	set_priority(start.priority);
	start.entry(start.context);
	/* From here on nothing of this module runs. */
#ifdef module_put_and_kthread_exit
	module_put_and_kthread_exit(0);
#else
	module_put_and_exit(0);
#endif
	return 0;
}

int supdrv_glue_thread_spawn(supdrv_thread_fn entry, void *context, u32 priority, const char *name)
{
	struct start *start = kzalloc(sizeof(*start), GFP_KERNEL);
	struct task_struct *task;

	if (!start)
		return SUPDRV_NO_MEMORY;
	start->entry = entry;
	start->context = context;
	start->priority = priority;
	__module_get(THIS_MODULE);
	task = kthread_run(thread_main, start, "%s", name);
	if (!IS_ERR(task))
		return SUPDRV_OK;
	module_put(THIS_MODULE);
	kfree(start);
	return PTR_ERR(task) == -ENOMEM ? SUPDRV_NO_MEMORY : VERR_GENERAL_FAILURE;
}

/* ---- preemption hooks: kernels that can run guests have them ---- */

#ifdef CONFIG_PREEMPT_NOTIFIERS

#define EVENT_PREEMPTING 0
#define EVENT_RESUMED 1

struct hook {
	struct preempt_notifier notifier;
	supdrv_preempt_fn callback;
	void *context;
};

static void scheduled_in(struct preempt_notifier *notifier, int cpu)
{
	struct hook *hook = container_of(notifier, struct hook, notifier);

	hook->callback(EVENT_RESUMED, hook->context);
}

static void scheduled_out(struct preempt_notifier *notifier, struct task_struct *next)
{
	struct hook *hook = container_of(notifier, struct hook, notifier);

	hook->callback(EVENT_PREEMPTING, hook->context);
}

static struct preempt_ops hook_ops = {
	.sched_in = scheduled_in,
	.sched_out = scheduled_out,
};

void *supdrv_glue_preempt_hook_new(supdrv_preempt_fn callback, void *context, int *status)
{
	struct hook *hook = kzalloc(sizeof(*hook), GFP_KERNEL);

	*status = hook ? SUPDRV_OK : SUPDRV_NO_MEMORY;
	if (!hook)
		return NULL;
	hook->callback = callback;
	hook->context = context;
	preempt_notifier_init(&hook->notifier, &hook_ops);
	preempt_notifier_inc();
	return hook;
}

void supdrv_glue_preempt_hook_enable(void *hook)
{
	preempt_notifier_register(&((struct hook *)hook)->notifier);
}

void supdrv_glue_preempt_hook_disable(void *hook)
{
	preempt_notifier_unregister(&((struct hook *)hook)->notifier);
}

void supdrv_glue_preempt_hook_free(void *hook)
{
	preempt_notifier_dec();
	kfree(hook);
}

#else

void *supdrv_glue_preempt_hook_new(supdrv_preempt_fn callback, void *context, int *status)
{
	*status = SUPDRV_NOT_SUPPORTED;
	return NULL;
}

void supdrv_glue_preempt_hook_enable(void *hook)
{
}

void supdrv_glue_preempt_hook_disable(void *hook)
{
}

void supdrv_glue_preempt_hook_free(void *hook)
{
}

#endif

void supdrv_glue_panic(void)
{
	panic("supdrv: an assertion of a loaded module failed");
}
