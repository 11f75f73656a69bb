// SPDX-License-Identifier: GPL-2.0-only OR CDDL-1.0
/* CPUs: masks, cross calls, hotplug. */
#include <linux/cpu.h>
#include <linux/cpumask.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/slab.h>
#include <linux/smp.h>
#include <linux/version.h>
#include <asm/tsc.h>

#include "glue.h"

#define MAX_CPUS 256
#define EVENT_ONLINE 1
#define EVENT_OFFLINE 2

u32 supdrv_glue_cpu_id(void);
u32 supdrv_glue_cpu_ids(void);
u32 supdrv_glue_cpu_present_count(void);
void supdrv_glue_cpu_set(bool online, u64 set[MAX_CPUS / 64]);
int supdrv_glue_on_all(supdrv_worker_fn worker, void *context);
int supdrv_glue_on_cpu(u32 cpu, supdrv_worker_fn worker, void *context);
void *supdrv_glue_cpu_events_add(supdrv_cpu_event_fn callback, void *context);
void supdrv_glue_cpu_events_remove(void *registration);
int supdrv_glue_tsc_trusted(void);

u32 supdrv_glue_cpu_id(void)
{
	return raw_smp_processor_id();
}

/* One more than the highest id that can exist: not the compile-time maximum. */
u32 supdrv_glue_cpu_ids(void)
{
	return nr_cpu_ids;
}

u32 supdrv_glue_cpu_present_count(void)
{
	return num_present_cpus();
}

void supdrv_glue_cpu_set(bool online, u64 set[MAX_CPUS / 64])
{
	unsigned int cpu;

	for_each_cpu(cpu, online ? cpu_online_mask : cpu_possible_mask)
		if (cpu < MAX_CPUS)
			set[cpu / 64] |= 1ull << (cpu % 64);
}

struct call {
	supdrv_worker_fn worker;
	void *context;
};

static void run(void *info)
{
	struct call *call = info;

	call->worker(smp_processor_id(), call->context);
}

int supdrv_glue_on_all(supdrv_worker_fn worker, void *context)
{
	struct call call = { worker, context };

	on_each_cpu(run, &call, 1);
	return SUPDRV_OK;
}

int supdrv_glue_on_cpu(u32 cpu, supdrv_worker_fn worker, void *context)
{
	struct call call = { worker, context };

	if (cpu >= nr_cpu_ids || !cpu_possible(cpu))
		return SUPDRV_CPU_NOT_FOUND;
	return smp_call_function_single(cpu, run, &call, 1) ? SUPDRV_CPU_OFFLINE : SUPDRV_OK;
}

struct registration {
	struct list_head list;
	supdrv_cpu_event_fn callback;
	void *context;
};

static DEFINE_MUTEX(events_mutex);
static LIST_HEAD(registrations); /* under events_mutex */
static int hotplug_state;

void *supdrv_glue_cpu_events_add(supdrv_cpu_event_fn callback, void *context)
{
	struct registration *registration = kzalloc(sizeof(*registration), GFP_KERNEL);

	if (!registration)
		return NULL;
	registration->callback = callback;
	registration->context = context;
	mutex_lock(&events_mutex);
	list_add_tail(&registration->list, &registrations);
	mutex_unlock(&events_mutex);
	return registration;
}

/* Waits for a running callback. */
void supdrv_glue_cpu_events_remove(void *registration)
{
	mutex_lock(&events_mutex);
	list_del(&((struct registration *)registration)->list);
	mutex_unlock(&events_mutex);
	kfree(registration);
}

static void deliver(u32 event, unsigned int cpu)
{
	struct registration *registration;

	mutex_lock(&events_mutex);
	list_for_each_entry(registration, &registrations, list) {
		preempt_disable();
		registration->callback(event, cpu, registration->context);
		preempt_enable();
	}
	mutex_unlock(&events_mutex);
}

static int cpu_up_event(unsigned int cpu)
{
	supdrv_exec_cpu_online();
	deliver(EVENT_ONLINE, cpu);
	supdrv_timers_cpu_event(true, cpu);
	return 0;
}

static int cpu_down_event(unsigned int cpu)
{
	supdrv_timers_cpu_event(false, cpu);
	deliver(EVENT_OFFLINE, cpu);
	return 0;
}

int supdrv_cpus_init(void)
{
	int rc = cpuhp_setup_state_nocalls(CPUHP_AP_ONLINE_DYN, "supdrv:online", cpu_up_event, cpu_down_event);

	if (rc < 0)
		return rc;
	hotplug_state = rc;
	return 0;
}

void supdrv_cpus_exit(void)
{
	cpuhp_remove_state_nocalls(hotplug_state);
}

/* Whether the kernel itself trusts the TSC: 1 yes, 0 no. */
int supdrv_glue_tsc_trusted(void)
{
	return !check_tsc_unstable() && boot_cpu_has(X86_FEATURE_NONSTOP_TSC);
}
