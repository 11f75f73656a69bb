//! The C half: what `shell/shell.c` answers from macros and fields.

use core::ffi::{c_int, c_ulong, c_void};

use fakekernel::context;

use super::{CPUS, lock, machine};

#[repr(C)]
pub struct Caller {
    effective_uid: u32,
    real_uid: u32,
    real_gid: u32,
    jailed: u32,
}

/// The `struct thread` that system calls pass: its own address.
pub fn current_thread() -> *mut c_void {
    core::ptr::without_provenance_mut(0xffff_f800_0200_0000 + context::thread_id() * 0x400)
}

#[unsafe(no_mangle)]
pub extern "C" fn supdrv_glue_hardened() -> c_int {
    lock(&machine().settings).hardened.into()
}

#[unsafe(no_mangle)]
pub extern "C" fn supdrv_glue_force_async_tsc() -> c_int {
    lock(&machine().settings).force_async_tsc.into()
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn supdrv_glue_caller(thread: *mut c_void, caller: *mut Caller) {
    assert!(thread.is_null() || thread == current_thread());
    let process = context::process();
    caller.write(Caller {
        effective_uid: process.effective_uid,
        real_uid: process.real_uid,
        real_gid: process.real_gid,
        jailed: process.jailed.into(),
    });
}

#[unsafe(no_mangle)]
pub extern "C" fn supdrv_glue_is_32bit(thread: *mut c_void) -> c_int {
    assert_eq!(thread, current_thread());
    context::process().is_32bit.into()
}

#[unsafe(no_mangle)]
pub extern "C" fn supdrv_glue_thread() -> *mut c_void {
    current_thread()
}

#[unsafe(no_mangle)]
pub extern "C" fn supdrv_glue_process() -> *mut c_void {
    core::ptr::without_provenance_mut(context::process().structure)
}

#[unsafe(no_mangle)]
pub extern "C" fn supdrv_glue_pid() -> u32 {
    context::process().pid
}

#[unsafe(no_mangle)]
pub extern "C" fn supdrv_glue_context() -> u32 {
    u32::from(context::is_pinned())
        | u32::from(context::are_irqs_off()) << 1
        | u32::from(context::is_interrupt()) << 2
}

#[unsafe(no_mangle)]
pub extern "C" fn supdrv_glue_cpu() -> u32 {
    context::cpu()
}

#[unsafe(no_mangle)]
pub extern "C" fn supdrv_glue_cpu_absent(cpu: u32) -> c_int {
    (cpu >= CPUS).into()
}

#[unsafe(no_mangle)]
pub extern "C" fn supdrv_glue_irq_save() -> c_ulong {
    let before = !context::are_irqs_off();
    context::irqs_off(1);
    c_ulong::from(before) << 9
}

#[unsafe(no_mangle)]
pub extern "C" fn supdrv_glue_irq_restore(flags: c_ulong) {
    context::irqs_off(-1);
    assert_eq!(flags != 0, !context::are_irqs_off(), "interrupt states nest");
}

#[unsafe(no_mangle)]
pub extern "C" fn supdrv_glue_rdmsr(msr: u32) -> u64 {
    match msr {
        0xc000_0080 => 0xd01,
        0x3a => 5,
        0xc001_0114 => 0,
        0x480..=0x491 => u64::MAX,
        other => fakekernel::violation(&format!("the register {other:#x} doesn't exist")),
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn supdrv_glue_cr0() -> c_ulong {
    0x8005_0033
}

#[unsafe(no_mangle)]
pub extern "C" fn supdrv_glue_cr4() -> c_ulong {
    0x0006_06f0
}

/// The host's, but for the APIC id: CPU n has id n.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn supdrv_glue_cpuid(leaf: u32, subleaf: u32, registers: *mut [u32; 4]) {
    let real = core::arch::x86_64::__cpuid_count(leaf, subleaf);
    let ebx = if leaf == 1 { real.ebx & 0x00ff_ffff | context::cpu() << 24 } else { real.ebx };
    registers.write([real.eax, ebx, real.ecx, real.edx]);
}
