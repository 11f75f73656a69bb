//! The C half: `shell/*.c`, see `shell/glue.h`. Functions without a remark may be called in any context.

use core::ffi::{c_int, c_void};

pub const CONTEXT_PINNED: u32 = 1;
pub const CONTEXT_IRQS_OFF: u32 = 2;
pub const CONTEXT_INTERRUPT: u32 = 4;
/// No page frame.
pub const PFN_INVALID: u64 = u64::MAX;

unsafe extern "C" {
    pub safe fn supdrv_glue_thread() -> *mut c_void;
    pub safe fn supdrv_glue_cpu() -> *mut c_void;
    pub safe fn supdrv_glue_cpu_id() -> u32;
    pub safe fn supdrv_glue_context() -> u32;
    pub safe fn supdrv_glue_preempt_disable();
    pub safe fn supdrv_glue_preempt_enable();
    pub fn supdrv_glue_cpuid(leaf: u32, subleaf: u32, registers: *mut [u32; 4]);
    pub fn supdrv_glue_rdmsr(msr: u32) -> u64;
    pub fn supdrv_glue_cr0() -> usize;
    pub fn supdrv_glue_cr4() -> usize;
    pub safe fn supdrv_glue_kernel_page(address: usize) -> u64;
    /// Of the calling process.
    pub safe fn supdrv_glue_user_page(address: usize) -> u64;
    /// May sleep.
    pub fn supdrv_glue_kernel_load(address: usize, pages: *const u64, count: usize);
    /// May sleep.
    pub fn supdrv_glue_kernel_unload(address: usize, count: usize);
    /// May sleep; an errno. `pages` and `context` must be good until `supdrv_solaris_segment_gone(context)`.
    pub fn supdrv_glue_map_user(
        pages: *const u64,
        count: usize,
        prot: u32,
        context: *mut c_void,
        address: *mut usize,
    ) -> c_int;
    /// May sleep.
    pub fn supdrv_glue_unmap_user(address: usize, count: usize) -> c_int;
}
