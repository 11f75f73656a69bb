//! What only loaded modules ask for, and the ring-0 runtime made for this system.

use core::alloc::Layout;
use core::ffi::{CStr, c_char, c_int, c_void};
use core::ptr::NonNull;

use supdrv_core::abi::status::{Result, VERR_NO_MEMORY, VERR_NOT_SUPPORTED};
use supdrv_core::os::{
    CachePolicy, Errno, OsModule, PreemptCallback, PreemptEvent, PreemptHook, ThreadEntry, ThreadPriority,
};
use supdrv_core::ring0::events;

use crate::glue::Opaque;
use crate::memory::created;
use crate::os::{Handle, Linux, check};

unsafe extern "C" {
    // Class T.
    safe fn supdrv_glue_wall_clock_ns() -> i64;
    fn supdrv_glue_timer_change_interval(timer: *mut Opaque, interval_ns: u64) -> c_int;
    fn supdrv_glue_mem_alloc_phys(
        bytes: usize,
        highest: u64,
        align: usize,
        contiguous: bool,
        object: *mut *mut Opaque,
    ) -> c_int;
    fn supdrv_glue_mem_enter_phys(phys: u64, bytes: usize, device: bool, object: *mut *mut Opaque) -> c_int;
    safe fn supdrv_glue_sleep_interruptible_ms(millis: u32) -> c_int;
    fn supdrv_glue_thread_spawn(
        entry: ThreadEntry,
        context: *mut c_void,
        priority: u32,
        name: *const c_char,
    ) -> c_int;
    fn supdrv_glue_preempt_hook_new(
        callback: unsafe extern "C" fn(u32, *mut c_void),
        context: *mut c_void,
        status: *mut c_int,
    ) -> *mut Hooked;
    fn supdrv_glue_preempt_hook_free(hook: *mut Hooked);
    // Class D.
    fn supdrv_glue_kernel_copy_from(to: *mut u8, from: usize, bytes: usize) -> c_int;
    fn supdrv_glue_kernel_copy_to(to: usize, from: *const u8, bytes: usize) -> c_int;
    safe fn supdrv_glue_poke(cpu: u32) -> c_int;
    fn supdrv_glue_preempt_hook_enable(hook: *mut Hooked);
    fn supdrv_glue_preempt_hook_disable(hook: *mut Hooked);
    // Class I.
    safe fn supdrv_glue_alloc_atomic(bytes: usize) -> *mut u8;
    fn supdrv_glue_free_atomic(memory: *mut u8);
    safe fn supdrv_glue_is_user_address(address: usize) -> bool;
    safe fn supdrv_glue_preempt_is_enabled() -> bool;
    safe fn supdrv_glue_preempt_is_pending() -> bool;
    safe fn supdrv_glue_preempt_is_possible() -> bool;
    safe fn supdrv_glue_is_in_interrupt() -> bool;
    safe fn supdrv_glue_panic();
}

/// A preemption hook of the kernel.
#[repr(C)]
struct Hooked {
    _private: [u8; 0],
}

/// What a hook calls, where C finds it.
struct HookTarget {
    hook: *mut Hooked,
    callback: PreemptCallback,
    context: *mut c_void,
}

unsafe extern "C" fn on_switch(event: u32, target: *mut c_void) {
    // SAFETY: a hook calls with the target that it was made with, which lives as long as the hook.
    let target = unsafe { &*target.cast::<HookTarget>() };
    let event = if event == 0 { PreemptEvent::Preempting } else { PreemptEvent::Resumed };
    // SAFETY: the callback may be called with its context while the hook exists (condition of `preempt_hook_create`).
    unsafe { (target.callback)(event, target.context) };
}

/// The target behind the number that the core knows a hook by.
unsafe fn target_of<'a>(hook: PreemptHook) -> Option<&'a mut HookTarget> {
    // SAFETY: condition of the function.
    unsafe { (hook.0 as *mut HookTarget).as_mut() }
}

impl OsModule for Linux {
    const ERRNO: Errno = Errno::Linux;

    fn heap_alloc_any_context(&self, layout: Layout) -> Result<NonNull<u8>> {
        // The slab aligns powers of two to themselves.
        let bytes = layout.size().checked_next_power_of_two().ok_or(VERR_NO_MEMORY)?;
        NonNull::new(supdrv_glue_alloc_atomic(bytes.max(layout.align()))).ok_or(VERR_NO_MEMORY)
    }

    unsafe fn heap_free_any_context(&self, ptr: NonNull<u8>, _layout: Layout) {
        // SAFETY: memory of `heap_alloc_any_context` (condition of the method).
        unsafe { supdrv_glue_free_atomic(ptr.as_ptr()) };
    }

    fn mem_alloc_phys(&self, size_bytes: usize, highest: u64, align_bytes: usize) -> Result<Handle> {
        // SAFETY: `created` has a place for the object.
        created(|object| unsafe {
            supdrv_glue_mem_alloc_phys(size_bytes, highest, align_bytes, true, object)
        })
    }

    fn mem_alloc_phys_nc(&self, size_bytes: usize, highest: u64) -> Result<Handle> {
        // SAFETY: `created` has a place for the object.
        created(|object| unsafe { supdrv_glue_mem_alloc_phys(size_bytes, highest, 0, false, object) })
    }

    fn mem_enter_phys(&self, phys: u64, size_bytes: usize, cache: CachePolicy) -> Result<Handle> {
        let device = cache == CachePolicy::Mmio;
        // SAFETY: `created` has a place for the object.
        created(|object| unsafe { supdrv_glue_mem_enter_phys(phys, size_bytes, device, object) })
    }

    fn kernel_copy_from(&self, to: &mut [u8], from: usize) -> Result<()> {
        // SAFETY: `to` is writable for its length; C takes any address.
        check(unsafe { supdrv_glue_kernel_copy_from(to.as_mut_ptr(), from, to.len()) })
    }

    fn kernel_copy_to(&self, to: usize, from: &[u8]) -> Result<()> {
        // SAFETY: `from` is readable for its length; C takes any address.
        check(unsafe { supdrv_glue_kernel_copy_to(to, from.as_ptr(), from.len()) })
    }

    fn is_user_address(&self, address: usize) -> bool {
        supdrv_glue_is_user_address(address)
    }

    fn is_kernel_address(&self, address: usize) -> bool {
        address.cast_signed() < 0
    }

    fn wall_clock_ns(&self) -> i64 {
        supdrv_glue_wall_clock_ns()
    }

    fn timer_change_interval(&self, timer: &Handle, interval_ns: u64) -> Result<()> {
        // SAFETY: a timer, of `timer_create`.
        check(unsafe { supdrv_glue_timer_change_interval(timer.raw(), interval_ns) })
    }

    fn timer_is_high_resolution(&self) -> bool {
        true
    }

    fn mp_poke(&self, cpu_id: u32) -> Result<()> {
        check(supdrv_glue_poke(cpu_id))
    }

    fn sleep_interruptible_ms(&self, millis: u32) -> Result<()> {
        check(supdrv_glue_sleep_interruptible_ms(millis))
    }

    fn preempt_is_enabled(&self) -> bool {
        supdrv_glue_preempt_is_enabled()
    }

    fn preempt_is_pending(&self) -> bool {
        supdrv_glue_preempt_is_pending()
    }

    fn preempt_is_pending_trusty(&self) -> bool {
        true
    }

    fn preempt_is_possible(&self) -> bool {
        supdrv_glue_preempt_is_possible()
    }

    fn is_in_interrupt(&self) -> bool {
        supdrv_glue_is_in_interrupt()
    }

    unsafe fn thread_spawn(
        &self,
        entry: ThreadEntry,
        context: *mut c_void,
        priority: ThreadPriority,
        name: &CStr,
    ) -> Result<()> {
        // SAFETY: the entry may be called once with the context (condition of the method); C copies the name.
        check(unsafe { supdrv_glue_thread_spawn(entry, context, priority as u32, name.as_ptr()) })
    }

    unsafe fn preempt_hook_create(
        &self,
        callback: PreemptCallback,
        context: *mut c_void,
    ) -> Result<PreemptHook> {
        let target = HookTarget { hook: core::ptr::null_mut(), callback, context };
        let mut target = supdrv_core::heap::Box::new(self, target)?;
        let mut status = VERR_NOT_SUPPORTED.0;
        let at = target.as_ptr().as_ptr();
        // SAFETY: the target stays where it is until the hook is destroyed; `status` is writable.
        target.hook = unsafe { supdrv_glue_preempt_hook_new(on_switch, at.cast(), &raw mut status) };
        check(status)?;
        Ok(PreemptHook(target.into_raw().as_ptr() as usize))
    }

    fn preempt_hook_enable(&self, hook: PreemptHook) {
        // SAFETY: the hook exists: it is what `preempt_hook_create` returned.
        if let Some(target) = unsafe { target_of(hook) } {
            // SAFETY: a hook of C, not enabled.
            unsafe { supdrv_glue_preempt_hook_enable(target.hook) };
        }
    }

    fn preempt_hook_disable(&self, hook: PreemptHook) {
        // SAFETY: the hook exists: it is what `preempt_hook_create` returned.
        if let Some(target) = unsafe { target_of(hook) } {
            // SAFETY: a hook of C, enabled.
            unsafe { supdrv_glue_preempt_hook_disable(target.hook) };
        }
    }

    fn preempt_hook_destroy(&self, hook: PreemptHook) {
        if let Some(target) = NonNull::new(hook.0 as *mut HookTarget) {
            // SAFETY: `preempt_hook_create` made the number of it, and it is destroyed once.
            let target = unsafe { supdrv_core::heap::Box::from_raw(self, target) };
            // SAFETY: a hook of C, not enabled, which nobody has any more.
            unsafe { supdrv_glue_preempt_hook_free(target.hook) };
        }
    }

    fn panic_system(&self) {
        supdrv_glue_panic();
    }
}

/// The runtime. Its functions have their C names: the module exports them to its siblings.
pub mod exports {
    supdrv_core::ring0_exports!(crate::Linux, crate::Linux);
}

/// The machine suspends (1) or resumed (2). Class T; returns when all modules know.
#[unsafe(no_mangle)]
extern "C" fn supdrv_rust_power_event(event: u32) {
    events::power_event::<exports::Runtime>(event);
}
