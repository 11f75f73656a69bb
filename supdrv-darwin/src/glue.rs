//! The C++ half: `shell/*.cpp`, see `shell/supdrv_darwin.h`. Functions without a remark may sleep.

use core::ffi::{c_int, c_void};

use crate::kernel::Opaque;

unsafe extern "C" {
    /// Null: no memory.
    pub fn supdrv_glue_alloc(options: u32, bytes: u64, mask: u64, address: *mut usize) -> *mut Opaque;
    /// Wires what it describes. Null: it can't.
    pub fn supdrv_glue_describe(task: *mut Opaque, address: u64, bytes: u64, options: u32) -> *mut Opaque;
    /// 0: none. Any context.
    pub fn supdrv_glue_phys(descriptor: *mut Opaque, offset: u64) -> u64;
    pub fn supdrv_glue_free(descriptor: *mut Opaque);
    /// Null: it can't.
    pub fn supdrv_glue_map(
        descriptor: *mut Opaque,
        task: *mut Opaque,
        options: u32,
        offset: u64,
        bytes: u64,
        address: *mut usize,
    ) -> *mut Opaque;
    pub fn supdrv_glue_unmap(map: *mut Opaque);
    pub fn supdrv_glue_remove_notifier(notifier: *mut c_void);
    /// Any context.
    pub safe fn supdrv_glue_hardened() -> c_int;
}

// A fake kernel stands in for instructions. Any context.
#[cfg(not(target_os = "macos"))]
unsafe extern "C" {
    pub fn supdrv_glue_cpuid(leaf: u32, subleaf: u32, registers: *mut [u32; 4]);
    pub fn supdrv_glue_rdmsr(msr: u32) -> u64;
    pub fn supdrv_glue_cr0() -> usize;
    pub fn supdrv_glue_cr4() -> usize;
}
