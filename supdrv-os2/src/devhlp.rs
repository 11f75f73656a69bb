//! DevHlp services: functions of the assembly half in `shell/`, one for each service that the driver uses.
//!
//! The services are 16-bit far calls with arguments in registers, which the assembly half makes. Each function takes flat pointers by the
//! 32-bit C convention, and returns 0 or the error of the DevHlp; results are written in the case of success only. Functions without a
//! remark need task time and no spinlock.

unsafe extern "C" {
    /// VirtToLin: the flat address of a 16:16 pointer, selector in the upper half. Any context.
    pub fn supdrv_devhlp_virt_to_lin(far: u32, flat: *mut usize) -> u32;
    /// PhysToVirt, and a copy of at most 65535 bytes to there. Any context.
    pub fn supdrv_devhlp_copy_to_phys(phys: u32, from: *const u8, bytes: u32) -> u32;
    /// VMGlobalToProcess: shows memory of the kernel to the current process. Flags: [`VMGP_WRITE`] or 0.
    pub fn supdrv_devhlp_vm_global_to_process(
        flags: u32,
        linear: usize,
        bytes: usize,
        process_linear: *mut usize,
    ) -> u32;
    /// VMFree, of what VMGlobalToProcess made, in the same process.
    pub fn supdrv_devhlp_vm_free(linear: usize) -> u32;
    /// SetTimer for 1, ResetTimer for 0, of the assembly half's handler, which calls `supdrv_os2_tick`.
    pub fn supdrv_devhlp_set_timer(on: u32) -> u32;
    /// GetDOSVar: the flat address of the variable, made from the pointer in AX:BX.
    pub fn supdrv_devhlp_get_dos_var(index: u32, member: u32, flat: *mut usize) -> u32;
    /// Yield.
    pub fn supdrv_devhlp_yield() -> u32;
    /// InternalError: stops the machine with a message, which needs no NUL. Any context; returns only if the kernel does.
    pub fn supdrv_devhlp_internal_error(text: *const u8, bytes: u32);
}

/// The process may write.
pub const VMGP_WRITE: u32 = 1;

/// Variables of GetDOSVar: the byte that says whether somebody waits for the CPU.
pub const VAR_YIELD_FLAG: u32 = 7;
/// The number of CPUs.
pub const VAR_TOTAL_CPUS: u32 = 0x14;
