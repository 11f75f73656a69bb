//! The C half: `shell/*.c`, see `shell/glue.h`. Functions without a remark may be called in any context.

use core::ffi::{c_char, c_int, c_ulong, c_void};

use crate::kernel::{MallocType, Opaque};

/// `struct supdrv_caller`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Caller {
    pub effective_uid: u32,
    pub real_uid: u32,
    pub real_gid: u32,
    pub jailed: u32,
}

pub const CONTEXT_PINNED: u32 = 1;
pub const CONTEXT_IRQS_OFF: u32 = 2;
pub const CONTEXT_INTERRUPT: u32 = 4;
pub const CONTEXT_PREEMPT: u32 = 8;

unsafe extern "C" {
    pub static mut M_SUPDRV: MallocType;

    /// May sleep. The result is an errno.
    pub fn supdrv_glue_make_node(
        name: *const c_char,
        unit: c_int,
        mode: c_int,
        node: *mut *mut Opaque,
    ) -> c_int;
    pub fn supdrv_glue_unit(node: *mut Opaque) -> c_int;
    pub safe fn supdrv_glue_hardened() -> c_int;
    pub safe fn supdrv_glue_force_async_tsc() -> c_int;
    /// Null: the current thread.
    pub fn supdrv_glue_caller(thread: *mut Opaque, caller: *mut Caller);
    pub fn supdrv_glue_is_32bit(thread: *mut Opaque) -> c_int;
    pub safe fn supdrv_glue_thread() -> *mut Opaque;
    pub safe fn supdrv_glue_process() -> *mut Opaque;
    pub safe fn supdrv_glue_pid() -> u32;
    pub safe fn supdrv_glue_context() -> u32;
    pub safe fn supdrv_glue_cpu() -> u32;
    pub safe fn supdrv_glue_cpu_absent(cpu: u32) -> c_int;
    /// Interrupts on, no spin lock held.
    pub fn supdrv_glue_run_on(cpu: u32, action: unsafe extern "C" fn(*mut c_void), context: *mut c_void);
    pub safe fn supdrv_glue_irq_save() -> c_ulong;
    pub fn supdrv_glue_irq_restore(flags: c_ulong);
    pub fn supdrv_glue_rdmsr(msr: u32) -> u64;
    pub fn supdrv_glue_cr0() -> c_ulong;
    pub fn supdrv_glue_cr4() -> c_ulong;
    pub fn supdrv_glue_cpuid(leaf: u32, subleaf: u32, registers: *mut [u32; 4]);
    /// The channel's queue is locked; unlocks it.
    pub fn supdrv_glue_sleepq_wake(channel: *const c_void, all: c_int);
    pub fn supdrv_glue_callout_stop(callout: *mut c_void) -> c_int;
    /// May sleep.
    pub fn supdrv_glue_callout_drain(callout: *mut c_void) -> c_int;

    /// May sleep. Null: no memory.
    pub fn supdrv_glue_object_new(bytes: usize) -> *mut Opaque;
    /// May sleep. 0: no memory.
    pub fn supdrv_glue_pages_alloc(
        object: *mut Opaque,
        first: c_ulong,
        count: c_ulong,
        high: u64,
        align: c_ulong,
        pages: *mut *mut Opaque,
    ) -> c_int;
    /// May sleep.
    pub fn supdrv_glue_object_free(object: *mut Opaque, pages: *mut *mut Opaque, count: c_ulong);
    pub fn supdrv_glue_page_phys(page: *mut Opaque) -> u64;
    pub fn supdrv_glue_kernel_map(first: *mut usize) -> *mut Opaque;
    pub fn supdrv_glue_user_map(hint: *mut usize) -> *mut Opaque;
    /// May sleep.
    pub fn supdrv_glue_maps_object(map: *mut Opaque, start: usize, end: usize, object: *mut Opaque) -> c_int;
    /// May sleep. 0: success.
    pub fn supdrv_glue_protect(map: *mut Opaque, start: usize, end: usize, protection: c_int) -> c_int;
    pub fn supdrv_glue_kernel_protect(start: usize, end: usize, protection: c_int);
    /// May sleep.
    pub fn supdrv_glue_map_device(phys: u64, bytes: usize, uncached: c_int) -> *mut c_void;
    /// May sleep.
    pub fn supdrv_glue_unmap_device(address: *mut c_void, bytes: usize);
}
