// SPDX-License-Identifier: GPL-2.0-only OR CDDL-1.0
/* Heap, locks, identity, user memory, log: one kernel macro or inline function each. */
#include <linux/cred.h>
#include <linux/delay.h>
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/pid.h>
#include <linux/printk.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/timekeeping.h>
#include <linux/uaccess.h>

#include "glue.h"

void *supdrv_glue_alloc(size_t bytes);
void supdrv_glue_free(void *memory);
void *supdrv_glue_spinlock_new(u32 class);
void supdrv_glue_spin_lock(raw_spinlock_t *lock);
void supdrv_glue_spin_unlock(raw_spinlock_t *lock);
unsigned long supdrv_glue_spin_lock_irq(raw_spinlock_t *lock);
void supdrv_glue_spin_unlock_irq(raw_spinlock_t *lock, unsigned long flags);
void *supdrv_glue_mutex_new(u32 class);
void supdrv_glue_mutex_lock(struct mutex *mutex);
void supdrv_glue_mutex_unlock(struct mutex *mutex);
u64 supdrv_glue_nano_ts(void);
void supdrv_glue_sleep_ms(u32 millis);
unsigned long supdrv_glue_irq_save(void);
void supdrv_glue_irq_restore(unsigned long flags);
u32 supdrv_glue_uid(void);
u32 supdrv_glue_gid(void);
u32 supdrv_glue_tgid(void);
void *supdrv_glue_process(void);
void *supdrv_glue_process_get(void);
void supdrv_glue_process_put(struct pid *pid);
void *supdrv_glue_thread(void);
int supdrv_glue_copy_from_user(void *to, unsigned long from, size_t bytes);
int supdrv_glue_copy_to_user(unsigned long to, const void *from, size_t bytes);
void supdrv_glue_log(const char *text, size_t bytes);

/* Zeroed; a multiple of the slab alignment, up to vmalloc sizes. */
void *supdrv_glue_alloc(size_t bytes)
{
	return kvzalloc(bytes, GFP_KERNEL_ACCOUNT | __GFP_NOWARN);
}

void supdrv_glue_free(void *memory)
{
	kvfree(memory);
}

/* One lock debugger class for each class of the core. */
#ifdef CONFIG_LOCKDEP
static struct lock_class_key lock_keys[16];
# define set_class(lock, class) lockdep_set_class(lock, &lock_keys[(class) % ARRAY_SIZE(lock_keys)])
#else
# define set_class(lock, class) ((void)(class))
#endif

void *supdrv_glue_spinlock_new(u32 class)
{
	/* Raw: an ordinary spinlock sleeps on real-time kernels. */
	raw_spinlock_t *lock = kzalloc(sizeof(*lock), GFP_KERNEL);

	if (lock) {
		raw_spin_lock_init(lock);
		set_class(lock, class);
	}
	return lock;
}

void supdrv_glue_spin_lock(raw_spinlock_t *lock)
{
	raw_spin_lock(lock);
}

void supdrv_glue_spin_unlock(raw_spinlock_t *lock)
{
	raw_spin_unlock(lock);
}

unsigned long supdrv_glue_spin_lock_irq(raw_spinlock_t *lock)
{
	unsigned long flags;

	raw_spin_lock_irqsave(lock, flags);
	return flags;
}

void supdrv_glue_spin_unlock_irq(raw_spinlock_t *lock, unsigned long flags)
{
	raw_spin_unlock_irqrestore(lock, flags);
}

void *supdrv_glue_mutex_new(u32 class)
{
	struct mutex *mutex = kzalloc(sizeof(*mutex), GFP_KERNEL);

	if (mutex) {
		mutex_init(mutex);
		set_class(mutex, class);
	}
	return mutex;
}

void supdrv_glue_mutex_lock(struct mutex *mutex)
{
	mutex_lock(mutex);
}

void supdrv_glue_mutex_unlock(struct mutex *mutex)
{
	mutex_unlock(mutex);
}

u64 supdrv_glue_nano_ts(void)
{
	return ktime_get_ns();
}

void supdrv_glue_sleep_ms(u32 millis)
{
	if (millis)
		msleep(millis);
	else
		yield();
}

unsigned long supdrv_glue_irq_save(void)
{
	unsigned long flags;

	local_irq_save(flags);
	return flags;
}

void supdrv_glue_irq_restore(unsigned long flags)
{
	local_irq_restore(flags);
}

u32 supdrv_glue_uid(void)
{
	return from_kuid(&init_user_ns, current_uid());
}

u32 supdrv_glue_gid(void)
{
	return from_kgid(&init_user_ns, current_gid());
}

u32 supdrv_glue_tgid(void)
{
	return task_tgid_nr(current);
}

void *supdrv_glue_process(void)
{
	return task_tgid(current);
}

void *supdrv_glue_process_get(void)
{
	return get_pid(task_tgid(current));
}

void supdrv_glue_process_put(struct pid *pid)
{
	put_pid(pid);
}

void *supdrv_glue_thread(void)
{
	return current;
}

int supdrv_glue_copy_from_user(void *to, unsigned long from, size_t bytes)
{
	return copy_from_user(to, (const void __user *)from, bytes) ? SUPDRV_ACCESS_DENIED : SUPDRV_OK;
}

int supdrv_glue_copy_to_user(unsigned long to, const void *from, size_t bytes)
{
	return copy_to_user((void __user *)to, from, bytes) ? SUPDRV_ACCESS_DENIED : SUPDRV_OK;
}

void supdrv_glue_log(const char *text, size_t bytes)
{
	pr_info("%.*s", (int)min_t(size_t, bytes, 512), text);
}
