// SPDX-License-Identifier: GPL-2.0-only OR CDDL-1.0
/*
 * Timers on hrtimers, and events with waiters of their own: kernel wait queues use locks that sleep on real-time kernels.
 */
#include <linux/cpu.h>
#include <linux/hrtimer.h>
#include <linux/list.h>
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/smp.h>
#include <linux/spinlock.h>
#include <linux/version.h>

#include "glue.h"

/* ---- timers ---- */

#define TARGET_ANY 0xffffffffu
#define TARGET_ALL 0xfffffffeu

struct supdrv_timer;

struct one_timer {
	struct hrtimer hrtimer;
	struct supdrv_timer *owner;
	u64 tick;
	unsigned int cpu;
};

struct supdrv_timer {
	struct list_head list; /* all timers of target ALL, under timers_mutex */
	supdrv_timer_fn callback;
	void *context;
	u64 interval_ns;
	u32 target;
	u32 count;
	raw_spinlock_t lock;
	bool active; /* under lock, of target ALL under timers_mutex as well; read by callbacks */
	struct one_timer one[];
};

static DEFINE_MUTEX(timers_mutex);
static LIST_HEAD(timers_on_all);

void *supdrv_glue_timer_new(u64 interval_ns, u32 target, supdrv_timer_fn callback, void *context);
int supdrv_glue_timer_start(struct supdrv_timer *timer, u64 first_ns);
int supdrv_glue_timer_stop(struct supdrv_timer *timer);
void supdrv_glue_timer_free(struct supdrv_timer *timer);
int supdrv_glue_timer_change_interval(struct supdrv_timer *timer, u64 interval_ns);
u32 supdrv_glue_timer_granularity_ns(void);

static enum hrtimer_restart expired(struct hrtimer *hrtimer)
{
	struct one_timer *one = container_of(hrtimer, struct one_timer, hrtimer);
	struct supdrv_timer *timer = one->owner;
	u64 interval_ns;

	/* A timer that was migrated off its dying CPU waits for that one to come back. */
	if (!READ_ONCE(timer->active) || (timer->target != TARGET_ANY && smp_processor_id() != one->cpu))
		return HRTIMER_NORESTART;
	interval_ns = READ_ONCE(timer->interval_ns);
	if (!interval_ns)
		/* A one-shot is stopped before its callback runs, which may start it again. */
		WRITE_ONCE(timer->active, false);
	timer->callback(timer, timer->context, ++one->tick);
	/* Stopped, and perhaps started again, in the callback or meanwhile. */
	if (!interval_ns || !READ_ONCE(timer->active) || hrtimer_is_queued(hrtimer))
		return HRTIMER_NORESTART;
	hrtimer_forward_now(hrtimer, ns_to_ktime(interval_ns));
	return HRTIMER_RESTART;
}

static void setup_one(struct one_timer *one, enum hrtimer_mode mode)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 13, 0)
	hrtimer_setup(&one->hrtimer, expired, CLOCK_MONOTONIC, mode);
#else
	hrtimer_init(&one->hrtimer, CLOCK_MONOTONIC, mode);
	one->hrtimer.function = expired;
#endif
}

static enum hrtimer_mode mode_of(const struct supdrv_timer *timer)
{
	return timer->target == TARGET_ANY ? HRTIMER_MODE_ABS_HARD : HRTIMER_MODE_ABS_PINNED_HARD;
}

void *supdrv_glue_timer_new(u64 interval_ns, u32 target, supdrv_timer_fn callback, void *context)
{
	u32 i, count = target == TARGET_ALL ? nr_cpu_ids : 1;
	struct supdrv_timer *timer = kvzalloc(struct_size(timer, one, count), GFP_KERNEL);

	if (!timer)
		return NULL;
	INIT_LIST_HEAD(&timer->list);
	raw_spin_lock_init(&timer->lock);
	timer->callback = callback;
	timer->context = context;
	timer->interval_ns = interval_ns;
	timer->target = target;
	timer->count = count;
	for (i = 0; i < count; i++) {
		timer->one[i].owner = timer;
		timer->one[i].cpu = target == TARGET_ALL ? i : target;
		setup_one(&timer->one[i], mode_of(timer));
	}
	if (target == TARGET_ALL) {
		mutex_lock(&timers_mutex);
		list_add(&timer->list, &timers_on_all);
		mutex_unlock(&timers_mutex);
	}
	return timer;
}

struct start {
	struct supdrv_timer *timer;
	u64 first_ns;
};

static void start_one(struct one_timer *one, u64 first_ns)
{
	one->tick = 0;
	hrtimer_start(&one->hrtimer, ktime_add_ns(ktime_get(), first_ns), mode_of(one->owner));
}

static void start_here(void *info)
{
	struct start *start = info;
	struct supdrv_timer *timer = start->timer;

	start_one(&timer->one[timer->target == TARGET_ALL ? smp_processor_id() : 0], start->first_ns);
}

/* Whether the state was another one; every change goes through here. */
static bool set_active(struct supdrv_timer *timer, bool active)
{
	unsigned long flags;
	bool changed;

	raw_spin_lock_irqsave(&timer->lock, flags);
	changed = timer->active != active;
	WRITE_ONCE(timer->active, active);
	raw_spin_unlock_irqrestore(&timer->lock, flags);
	return changed;
}

static int start_all(struct supdrv_timer *timer, struct start *start)
{
	int rc = SUPDRV_OK;

	cpus_read_lock();
	mutex_lock(&timers_mutex);
	if (set_active(timer, true))
		on_each_cpu(start_here, start, 1);
	else
		rc = SUPDRV_TIMER_ACTIVE;
	mutex_unlock(&timers_mutex);
	cpus_read_unlock();
	return rc;
}

/* Timers of one CPU or any can be started with preemption off; those of any CPU also in callbacks. */
int supdrv_glue_timer_start(struct supdrv_timer *timer, u64 first_ns)
{
	struct start start = { timer, first_ns };
	int rc = SUPDRV_OK;

	if (timer->target == TARGET_ALL)
		return start_all(timer, &start);
	if (!set_active(timer, true))
		return SUPDRV_TIMER_ACTIVE;
	preempt_disable();
	if (timer->target == TARGET_ANY || timer->target == smp_processor_id())
		start_one(&timer->one[0], first_ns);
	else if (smp_call_function_single(timer->target, start_here, &start, 1))
		rc = SUPDRV_CPU_OFFLINE;
	preempt_enable();
	if (rc)
		set_active(timer, false);
	return rc;
}

static void cancel(struct supdrv_timer *timer)
{
	u32 i;

	for (i = 0; i < timer->count; i++)
		hrtimer_cancel(&timer->one[i].hrtimer);
}

/* Doesn't wait for a callback that is running, except with target ALL: callbacks may call this for the other targets. */
int supdrv_glue_timer_stop(struct supdrv_timer *timer)
{
	int rc = SUPDRV_OK;

	if (timer->target == TARGET_ALL) {
		mutex_lock(&timers_mutex);
		if (set_active(timer, false))
			cancel(timer);
		else
			rc = SUPDRV_TIMER_SUSPENDED;
		mutex_unlock(&timers_mutex);
		return rc;
	}
	if (!set_active(timer, false))
		return SUPDRV_TIMER_SUSPENDED;
	hrtimer_try_to_cancel(&timer->one[0].hrtimer);
	return SUPDRV_OK;
}

void supdrv_glue_timer_free(struct supdrv_timer *timer)
{
	mutex_lock(&timers_mutex);
	set_active(timer, false);
	cancel(timer);
	list_del(&timer->list);
	mutex_unlock(&timers_mutex);
	kvfree(timer);
}

/* From the next expiry on. */
int supdrv_glue_timer_change_interval(struct supdrv_timer *timer, u64 interval_ns)
{
	if (timer->target == TARGET_ALL)
		return SUPDRV_NOT_SUPPORTED;
	WRITE_ONCE(timer->interval_ns, interval_ns);
	return SUPDRV_OK;
}

u32 supdrv_glue_timer_granularity_ns(void)
{
	return NSEC_PER_SEC / HZ;
}

void supdrv_timers_cpu_event(bool online, unsigned int cpu)
{
	struct supdrv_timer *timer;

	mutex_lock(&timers_mutex);
	list_for_each_entry(timer, &timers_on_all, list) {
		if (!online)
			hrtimer_cancel(&timer->one[cpu].hrtimer);
		else if (timer->active)
			start_one(&timer->one[cpu], 0);
	}
	mutex_unlock(&timers_mutex);
}

/* ---- events ---- */

struct waiter {
	struct list_head list;
	struct task_struct *task;
	bool released;
};

struct supdrv_event {
	raw_spinlock_t lock;
	struct list_head waiters; /* first come, first served */
	bool multi, signalled;
};

void *supdrv_glue_event_new(bool multi);
void supdrv_glue_event_free(struct supdrv_event *event);
void supdrv_glue_event_signal(struct supdrv_event *event);
void supdrv_glue_event_reset(struct supdrv_event *event);
int supdrv_glue_event_wait(struct supdrv_event *event, u64 deadline_ns, bool interruptible);

void *supdrv_glue_event_new(bool multi)
{
	struct supdrv_event *event = kzalloc(sizeof(*event), GFP_KERNEL_ACCOUNT);

	if (event) {
		raw_spin_lock_init(&event->lock);
		INIT_LIST_HEAD(&event->waiters);
		event->multi = multi;
	}
	return event;
}

void supdrv_glue_event_free(struct supdrv_event *event)
{
	kfree(event);
}

/* Under the lock: the waiter is off the list, and may be gone as soon as the lock is released. */
static void release(struct waiter *waiter)
{
	list_del_init(&waiter->list);
	WRITE_ONCE(waiter->released, true);
	wake_up_process(waiter->task);
}

void supdrv_glue_event_signal(struct supdrv_event *event)
{
	struct waiter *waiter, *next;
	unsigned long flags;

	raw_spin_lock_irqsave(&event->lock, flags);
	if (event->multi) {
		event->signalled = true;
		list_for_each_entry_safe(waiter, next, &event->waiters, list)
			release(waiter);
	} else {
		waiter = list_first_entry_or_null(&event->waiters, struct waiter, list);
		if (waiter)
			release(waiter);
		else
			event->signalled = true;
	}
	raw_spin_unlock_irqrestore(&event->lock, flags);
}

void supdrv_glue_event_reset(struct supdrv_event *event)
{
	unsigned long flags;

	raw_spin_lock_irqsave(&event->lock, flags);
	event->signalled = false;
	raw_spin_unlock_irqrestore(&event->lock, flags);
}

static bool expired_at(u64 deadline_ns)
{
	return deadline_ns != U64_MAX && ktime_get_ns() >= deadline_ns;
}

/* Until the deadline on the monotonic clock; all ones waits for ever. */
int supdrv_glue_event_wait(struct supdrv_event *event, u64 deadline_ns, bool interruptible)
{
	/* A long wait that nothing ends isn't a hung task. */
	long state = interruptible ? TASK_INTERRUPTIBLE : TASK_IDLE;
	struct waiter waiter = { .task = current };
	ktime_t expires = ns_to_ktime(min_t(u64, deadline_ns, KTIME_MAX));
	unsigned long flags;
	int rc;

	INIT_LIST_HEAD(&waiter.list);
	raw_spin_lock_irqsave(&event->lock, flags);
	if (event->signalled) {
		event->signalled = event->multi;
		raw_spin_unlock_irqrestore(&event->lock, flags);
		return SUPDRV_OK;
	}
	if (expired_at(deadline_ns)) {
		raw_spin_unlock_irqrestore(&event->lock, flags);
		return SUPDRV_TIMEOUT;
	}
	list_add_tail(&waiter.list, &event->waiters);
	raw_spin_unlock_irqrestore(&event->lock, flags);
	for (;;) {
		set_current_state(state);
		rc = expired_at(deadline_ns) ? SUPDRV_TIMEOUT :
		     interruptible && signal_pending(current) ? SUPDRV_INTERRUPTED : SUPDRV_OK;
		if (rc || READ_ONCE(waiter.released))
			break;
		if (deadline_ns == U64_MAX)
			schedule();
		else
			schedule_hrtimeout_range(&expires, 50000, HRTIMER_MODE_ABS);
	}
	__set_current_state(TASK_RUNNING);
	/* Signalled wins: a release that came with the timeout must not be lost. */
	raw_spin_lock_irqsave(&event->lock, flags);
	if (waiter.released)
		rc = SUPDRV_OK;
	else
		list_del(&waiter.list);
	raw_spin_unlock_irqrestore(&event->lock, flags);
	return rc;
}
