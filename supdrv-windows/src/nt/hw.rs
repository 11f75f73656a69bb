//! Instructions, and memory at fixed addresses: what no exported function gives access to on x64.
//!
//! On the development host a fake kernel stands in for all of it.
#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "one reason for all: ring-0 may execute these; see each function"
)]

use super::types::{Irql, PASSIVE_LEVEL};
use crate::kernel::is_emulated;

#[cfg(all(target_os = "windows", target_arch = "x86_64"))]
mod real {
    use super::Irql;
    use core::arch::asm;

    const SHARED_USER_DATA: usize = 0xffff_f780_0000_0000;
    const INTERRUPT_TIME: usize = SHARED_USER_DATA + 8;
    const SYSTEM_TIME: usize = SHARED_USER_DATA + 0x14;

    pub fn irql() -> Irql {
        let value: u64;
        unsafe { asm!("mov {}, cr8", out(reg) value, options(nomem, nostack, preserves_flags)) };
        value as Irql
    }

    pub fn flags() -> usize {
        let flags: usize;
        unsafe { asm!("pushfq", "pop {}", out(reg) flags, options(preserves_flags)) };
        flags
    }

    pub fn irq_save() -> usize {
        let flags = flags();
        unsafe { asm!("cli", options(nostack)) };
        flags
    }

    pub unsafe fn irq_restore(flags: usize) {
        unsafe { asm!("push {}", "popfq", in(reg) flags) };
    }

    /// A plain move: emulated kernels decode nothing else at that address.
    fn shared(address: usize) -> u32 {
        let value: u32;
        unsafe {
            asm!("mov {0:e}, dword ptr [{1}]", out(reg) value, in(reg) address, options(nostack, readonly, preserves_flags));
        }
        value
    }

    fn shared_time(address: usize) -> u64 {
        loop {
            let high = shared(address + 4);
            let low = shared(address);
            if high == shared(address + 8) {
                return u64::from(high) << 32 | u64::from(low);
            }
            core::hint::spin_loop();
        }
    }

    pub fn interrupt_time() -> u64 {
        shared_time(INTERRUPT_TIME)
    }

    pub fn system_time() -> u64 {
        shared_time(SYSTEM_TIME)
    }

    pub fn processor_number() -> u32 {
        let number: u32;
        unsafe { asm!("mov {:e}, gs:[0x184]", out(reg) number, options(nostack, readonly, preserves_flags)) };
        number
    }

    pub unsafe fn rdmsr(msr: u32) -> u64 {
        let (low, high): (u32, u32);
        unsafe {
            asm!("rdmsr", in("ecx") msr, out("eax") low, out("edx") high, options(nomem, nostack, preserves_flags));
        }
        u64::from(high) << 32 | u64::from(low)
    }

    pub fn cr0() -> usize {
        let value;
        unsafe { asm!("mov {}, cr0", out(reg) value, options(nomem, nostack, preserves_flags)) };
        value
    }

    pub fn cr4() -> usize {
        let value;
        unsafe { asm!("mov {}, cr4", out(reg) value, options(nomem, nostack, preserves_flags)) };
        value
    }

    // Calls a function of C with up to six arguments and catches the exceptions that it raises.
    core::arch::global_asm!(
        ".text",
        ".globl supdrv_guarded_call",
        ".seh_proc supdrv_guarded_call",
        "supdrv_guarded_call:",
        "push rbx",
        ".seh_pushreg rbx",
        "sub rsp, 64",
        ".seh_stackalloc 64",
        ".seh_endprologue",
        "mov rbx, r8",
        "mov rax, rcx",
        "mov r10, rdx",
        "mov rcx, [r10]",
        "mov rdx, [r10 + 8]",
        "mov r8, [r10 + 16]",
        "mov r9, [r10 + 24]",
        "mov r11, [r10 + 32]",
        "mov [rsp + 32], r11",
        "mov r11, [r10 + 40]",
        "mov [rsp + 40], r11",
        ".Lguarded_begin:",
        "call rax",
        "nop",
        ".Lguarded_end:",
        "mov [rbx], rax",
        "xor eax, eax",
        ".Lguarded_out:",
        "add rsp, 64",
        "pop rbx",
        "ret",
        ".Lguarded_caught:",
        // The exception's code; emulated kernels leave nothing here.
        "test eax, eax",
        "jnz .Lguarded_out",
        "mov eax, 0xC0000005",
        "jmp .Lguarded_out",
        ".seh_handler __C_specific_handler, @except, @unwind",
        ".seh_handlerdata",
        ".long 1",
        ".long .Lguarded_begin@IMGREL, .Lguarded_end@IMGREL, 1, .Lguarded_caught@IMGREL",
        ".text",
        ".seh_endproc",
        // Copies r8 bytes from rdx to rcx. A leaf: it may fault anywhere.
        ".globl supdrv_plain_copy",
        "supdrv_plain_copy:",
        "test r8, r8",
        "jz 3f",
        "2: mov al, [rdx]",
        "mov [rcx], al",
        "inc rcx",
        "inc rdx",
        "dec r8",
        "jnz 2b",
        "3: ret",
    );

    unsafe extern "system" {
        pub fn supdrv_guarded_call(function: usize, arguments: *const [usize; 6], result: *mut usize) -> u32;
        /// Copies bytes; one that can't be reached raises an exception.
        pub fn supdrv_plain_copy(to: *mut u8, from: *const u8, bytes: usize);
    }
}

#[cfg(not(target_os = "windows"))]
mod real {
    use super::Irql;

    unsafe extern "Rust" {
        pub safe fn supdrv_fake_irql() -> Irql;
        pub safe fn supdrv_fake_flags() -> usize;
        pub safe fn supdrv_fake_irq_save() -> usize;
        pub safe fn supdrv_fake_irq_restore(flags: usize);
        pub safe fn supdrv_fake_interrupt_time() -> u64;
        pub safe fn supdrv_fake_system_time() -> u64;
        pub safe fn supdrv_fake_processor_number() -> u32;
        pub safe fn supdrv_fake_rdmsr(msr: u32) -> u64;
        pub safe fn supdrv_fake_control_register(number: u32) -> usize;
    }

    unsafe extern "system" {
        pub fn supdrv_guarded_call(function: usize, arguments: *const [usize; 6], result: *mut usize) -> u32;
        /// Copies bytes; one that can't be reached raises an exception.
        pub fn supdrv_plain_copy(to: *mut u8, from: *const u8, bytes: usize);
    }

    pub use supdrv_fake_flags as flags;
    pub use supdrv_fake_interrupt_time as interrupt_time;
    pub use supdrv_fake_irq_save as irq_save;
    pub use supdrv_fake_irql as irql;
    pub use supdrv_fake_processor_number as processor_number;
    pub use supdrv_fake_system_time as system_time;

    pub unsafe fn irq_restore(flags: usize) {
        supdrv_fake_irq_restore(flags);
    }

    pub unsafe fn rdmsr(msr: u32) -> u64 {
        supdrv_fake_rdmsr(msr)
    }

    pub fn cr0() -> usize {
        supdrv_fake_control_register(0)
    }

    pub fn cr4() -> usize {
        supdrv_fake_control_register(4)
    }
}

pub use real::supdrv_plain_copy;

/// IRQL of this processor. Emulated kernels have none: they would fault, decode the instruction, and answer 0.
#[must_use]
pub fn irql() -> Irql {
    if is_emulated() { PASSIVE_LEVEL } else { real::irql() }
}

/// Whether interrupts are enabled on this processor.
#[must_use]
pub fn interrupts_enabled() -> bool {
    const IF: usize = 1 << 9;
    real::flags() & IF != 0
}

/// Disables interrupts; returns the flags before.
#[must_use]
pub fn irq_save() -> usize {
    // Emulated kernels have no interrupts to disable.
    if is_emulated() { real::flags() } else { real::irq_save() }
}

/// Restores flags.
///
/// # Safety
/// They are what the matching [`irq_save`] returned, on this processor; LIFO.
pub unsafe fn irq_restore(flags: usize) {
    unsafe { real::irq_restore(flags) };
}

/// Time since the start of the system in units of 100 ns.
#[must_use]
pub fn interrupt_time() -> u64 {
    real::interrupt_time()
}

/// Time since 1601 in units of 100 ns.
#[must_use]
pub fn system_time() -> u64 {
    real::system_time()
}

/// This processor's number in its group, from the processor block.
#[must_use]
pub fn processor_number() -> u32 {
    real::processor_number()
}

/// Reads a model-specific register.
///
/// # Safety
/// It exists on this processor.
#[must_use]
pub unsafe fn rdmsr(msr: u32) -> u64 {
    unsafe { real::rdmsr(msr) }
}

/// CR0.
#[must_use]
pub fn cr0() -> usize {
    real::cr0()
}

/// CR4.
#[must_use]
pub fn cr4() -> usize {
    real::cr4()
}

/// Calls a function of the kernel that may raise an exception; unused arguments are 0.
///
/// # Errors
/// The exception's code.
///
/// # Safety
/// `function` is the address of a function of C with at most six arguments of pointer size or less; all else as it says.
pub unsafe fn guarded_call(function: usize, arguments: [usize; 6]) -> Result<usize, super::NtStatus> {
    let mut result = 0;
    let status = unsafe { real::supdrv_guarded_call(function, &raw const arguments, &raw mut result) };
    if status == 0 { Ok(result) } else { Err(super::NtStatus(status)) }
}
