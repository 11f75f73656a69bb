//! What `shell/` offers, by the context class that it may be called in. A function is safe if nothing else can be wrong with a call of it; the others
//! want pointers to be valid, objects to be of the kind in their names, and callbacks to bear what they are called with.

use core::ffi::{c_int, c_void};

use supdrv_core::os::{MpEventCallback, MpWorker, TimerCallback};

/// A kernel object that only C knows.
#[repr(C)]
pub struct Opaque {
    _private: [u8; 0],
}

unsafe extern "C" {
    // Class T.
    pub safe fn supdrv_glue_alloc(bytes: usize) -> *mut u8;
    pub fn supdrv_glue_free(memory: *mut u8);
    pub safe fn supdrv_glue_spinlock_new(class: u32) -> *mut Opaque;
    pub safe fn supdrv_glue_mutex_new(class: u32) -> *mut Opaque;
    pub fn supdrv_glue_mutex_lock(mutex: *mut Opaque);
    pub fn supdrv_glue_mutex_unlock(mutex: *mut Opaque);
    pub safe fn supdrv_glue_sleep_ms(millis: u32);
    pub safe fn supdrv_glue_process_get() -> *mut Opaque;
    pub fn supdrv_glue_process_put(process: *mut Opaque);
    pub safe fn supdrv_glue_uid() -> u32;
    pub safe fn supdrv_glue_gid() -> u32;
    pub fn supdrv_glue_copy_from_user(to: *mut u8, from: usize, bytes: usize) -> c_int;
    pub fn supdrv_glue_copy_to_user(to: usize, from: *const u8, bytes: usize) -> c_int;
    pub fn supdrv_glue_timer_new(
        interval_ns: u64,
        target: u32,
        callback: TimerCallback,
        context: *mut c_void,
    ) -> *mut Opaque;
    pub fn supdrv_glue_timer_start(timer: *mut Opaque, first_ns: u64) -> c_int;
    pub fn supdrv_glue_timer_stop(timer: *mut Opaque) -> c_int;
    pub fn supdrv_glue_timer_free(timer: *mut Opaque);
    pub safe fn supdrv_glue_event_new(multi: bool) -> *mut Opaque;
    pub fn supdrv_glue_event_free(event: *mut Opaque);
    pub fn supdrv_glue_event_wait(event: *mut Opaque, deadline_ns: u64, interruptible: bool) -> c_int;
    pub fn supdrv_glue_on_all(worker: MpWorker, context: *mut c_void) -> c_int;
    pub fn supdrv_glue_on_cpu(cpu: u32, worker: MpWorker, context: *mut c_void) -> c_int;
    pub fn supdrv_glue_cpu_events_add(callback: MpEventCallback, context: *mut c_void) -> *mut Opaque;
    pub fn supdrv_glue_cpu_events_remove(registration: *mut Opaque);
    pub safe fn supdrv_glue_enable_vtx(enable: bool) -> c_int;
    pub safe fn supdrv_glue_tsc_trusted() -> c_int;
    pub safe fn supdrv_glue_force_async_tsc() -> c_int;
    pub fn supdrv_glue_mem_alloc(kind: u32, bytes: usize, prot: u32, object: *mut *mut Opaque) -> c_int;
    pub fn supdrv_glue_mem_lock(address: usize, bytes: usize, write: bool, object: *mut *mut Opaque)
    -> c_int;
    pub fn supdrv_glue_mem_map_kernel(
        parent: *mut Opaque,
        offset: usize,
        bytes: usize,
        object: *mut *mut Opaque,
    ) -> c_int;
    pub fn supdrv_glue_mem_map_user(parent: *mut Opaque, prot: u32, object: *mut *mut Opaque) -> c_int;
    pub fn supdrv_glue_mem_free(object: *mut Opaque);
    pub safe fn supdrv_glue_exec_alloc(bytes: usize) -> *mut u8;
    pub fn supdrv_glue_exec_load(memory: *mut u8, bytes: usize, bits: *const u8, bit_bytes: usize) -> c_int;
    pub fn supdrv_glue_exec_free(memory: *mut u8, bytes: usize);
    // Class D.
    pub fn supdrv_glue_spin_lock(lock: *mut Opaque);
    pub fn supdrv_glue_spin_unlock(lock: *mut Opaque);
    pub safe fn supdrv_glue_preempt_disable();
    pub fn supdrv_glue_preempt_enable();
    // Class I.
    pub fn supdrv_glue_spin_lock_irq(lock: *mut Opaque) -> usize;
    pub fn supdrv_glue_spin_unlock_irq(lock: *mut Opaque, flags: usize);
    pub safe fn supdrv_glue_irq_save() -> usize;
    pub fn supdrv_glue_irq_restore(flags: usize);
    pub safe fn supdrv_glue_nano_ts() -> u64;
    pub safe fn supdrv_glue_tgid() -> u32;
    pub safe fn supdrv_glue_process() -> usize;
    pub safe fn supdrv_glue_thread() -> usize;
    pub fn supdrv_glue_log(text: *const u8, bytes: usize);
    pub fn supdrv_glue_event_signal(event: *mut Opaque);
    pub fn supdrv_glue_event_reset(event: *mut Opaque);
    pub safe fn supdrv_glue_cpu_id() -> u32;
    pub safe fn supdrv_glue_cpu_ids() -> u32;
    pub safe fn supdrv_glue_cpu_present_count() -> u32;
    pub fn supdrv_glue_cpu_set(online: bool, set: *mut u64);
    pub safe fn supdrv_glue_timer_granularity_ns() -> u32;
    pub fn supdrv_glue_mem_address(object: *const Opaque) -> usize;
    pub fn supdrv_glue_mem_address_user(object: *const Opaque) -> usize;
    pub fn supdrv_glue_mem_size(object: *const Opaque) -> usize;
    pub fn supdrv_glue_mem_phys(object: *const Opaque, index: usize) -> u64;
}
