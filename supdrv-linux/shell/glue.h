/* SPDX-License-Identifier: GPL-2.0-only OR CDDL-1.0 */
/*
 * What the two halves of the Linux shim call of each other.
 *
 * C exists here for macros, inline functions and structures whose layout depends on the kernel's configuration. All function
 * pointers that the kernel calls point to C; C calls Rust by name, or through the two callback types below.
 */
#ifndef SUPDRV_GLUE_H
#define SUPDRV_GLUE_H

#include <linux/types.h>

typedef void (*supdrv_timer_fn)(void *timer, void *context, u64 tick);
typedef void (*supdrv_worker_fn)(u32 cpu, void *context);
typedef void (*supdrv_cpu_event_fn)(u32 event, u32 cpu, void *context);

/* Rust, called by C. Status codes are the driver's, 0 for success. */
int supdrv_rust_init(void);
void supdrv_rust_exit(void);
int supdrv_rust_open(bool unrestricted, void **session);
void supdrv_rust_close(void *session);
int supdrv_rust_ioctl(void *session, u32 code, void *buffer, size_t bytes);
int supdrv_rust_ioctl_fast(void *session, u32 code, u32 cpu);
int supdrv_rust_idc(u32 code, void *packet);
void supdrv_rust_resumed(void);
void supdrv_rust_power_event(u32 event);
void supdrv_rust_counters(u64 counters[6]);

/* Life cycle of the C half, called by its own module code. */
int supdrv_cpus_init(void);
void supdrv_cpus_exit(void);
int supdrv_maps_init(void);
void supdrv_maps_exit(void);
/* A parameter that is one of two words; -EINVAL if it is neither. */
int supdrv_choice(const char *name, const char *value, const char *no, const char *yes, bool *result);
int supdrv_exec_init(void);
int supdrv_vtx_init(void);
void supdrv_vtx_exit(void);
/* Runs on a CPU that has come. */
void supdrv_exec_cpu_online(void);
/* The machine woke up. */
void supdrv_exec_resumed(void);
void supdrv_memory_counters(u64 counters[4]);

/* A CPU comes or goes: the timers that fire on all CPUs follow. Runs on that CPU. */
void supdrv_timers_cpu_event(bool online, unsigned int cpu);

/* Numbers that both sides know. */
#define SUPDRV_OK 0
#define SUPDRV_INVALID_PARAMETER (-2)
#define SUPDRV_LOCK_FAILED (-5)
#define SUPDRV_NO_MEMORY (-8)
#define SUPDRV_UNRESOLVED_ERROR (-35)
#define SUPDRV_NOT_SUPPORTED (-37)
#define SUPDRV_ACCESS_DENIED (-38)
#define SUPDRV_INTERRUPTED (-39)
#define SUPDRV_TIMEOUT (-40)
#define SUPDRV_NO_CONT_MEMORY (-26)
#define SUPDRV_TIMER_ACTIVE (-68)
#define SUPDRV_TIMER_SUSPENDED (-69)
#define SUPDRV_NO_LOW_MEMORY (-72)
#define SUPDRV_NO_PHYS_MEMORY (-73)
#define SUPDRV_ADDRESS_TOO_BIG (-74)
#define SUPDRV_MAP_FAILED (-75)
#define SUPDRV_NO_EXEC_MEMORY (-96)
#define SUPDRV_CPU_OFFLINE (-800)
#define SUPDRV_CPU_NOT_FOUND (-801)
#define SUPDRV_VMX_IN_VMX_ROOT_MODE (-4011)

enum supdrv_mem_kind { SUPDRV_MEM_PAGE, SUPDRV_MEM_LOW, SUPDRV_MEM_CONT, SUPDRV_MEM_UNMAPPED };

#define SUPDRV_PROT_READ 1u
#define SUPDRV_PROT_WRITE 2u
#define SUPDRV_PROT_EXEC 4u

/* Makes pages of the kernel's half executable or not, on all CPUs. May block. */
int supdrv_set_exec(unsigned long address, size_t pages, bool exec);

#endif
