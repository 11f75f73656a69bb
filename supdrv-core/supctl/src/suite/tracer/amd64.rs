//! The tracer's code for 64-bit systems.

use core::arch::global_asm;

/// Brings the arguments of a callback into the same registers on all systems: the tracer's record, which the state begins with, r10; and
/// then, as the callback has them, session r11, context rdx, header r9, location r8.
#[cfg(not(windows))]
macro_rules! fire_arguments {
    () => {
        "mov r10, rdi\n mov r11, rsi\n mov r9, rcx\n"
    };
}
#[cfg(windows)]
macro_rules! fire_arguments {
    () => {
        "mov r10, rcx\n mov r11, rdx\n mov rdx, r8\n mov r8, [rsp + 40]\n"
    };
}
/// Cookie edx, argument r9, place of the result r8.
#[cfg(not(windows))]
macro_rules! open_arguments {
    () => {
        "mov r10, rdi\n mov r9, rcx\n"
    };
}
#[cfg(windows)]
macro_rules! open_arguments {
    () => {
        "mov r10, rcx\n mov edx, r8d\n mov r8, [rsp + 40]\n"
    };
}
/// The session's data r11, command rdx, argument r8, place of the result r9.
#[cfg(not(windows))]
macro_rules! ioctl_arguments {
    () => {
        "mov r10, rdi\n mov r11, rdx\n mov rdx, rcx\n"
    };
}
#[cfg(windows)]
macro_rules! ioctl_arguments {
    () => {
        "mov r10, rcx\n mov r11, r8\n mov rdx, r9\n mov r8, [rsp + 40]\n mov r9, [rsp + 48]\n"
    };
}
/// The session's data r11.
#[cfg(not(windows))]
macro_rules! close_arguments {
    () => {
        "mov r10, rdi\n mov r11, rdx\n"
    };
}
#[cfg(windows)]
macro_rules! close_arguments {
    () => {
        "mov r10, rcx\n mov r11, r8\n"
    };
}
/// The provider r11.
#[cfg(not(windows))]
macro_rules! provider_arguments {
    () => {
        "mov r10, rdi\n mov r11, rsi\n"
    };
}
#[cfg(windows)]
macro_rules! provider_arguments {
    () => {
        "mov r10, rcx\n mov r11, rdx\n"
    };
}
/// The module is the first argument already; no session, record rax, place for the helpers r11.
#[cfg(not(windows))]
macro_rules! register_arguments {
    () => {
        "xor esi, esi\n mov rdx, rax\n mov rcx, r11\n"
    };
}
#[cfg(windows)]
macro_rules! register_arguments {
    () => {
        "xor edx, edx\n mov r8, rax\n mov r9, r11\n"
    };
}

global_asm!(concat!(
    r"
        .balign 16
        .globl supctl_tracer_start, supctl_tracer_end, supctl_tracer_init, supctl_tracer_fire_kernel, supctl_tracer_fire_user
        .globl supctl_tracer_open, supctl_tracer_ioctl, supctl_tracer_close, supctl_tracer_register, supctl_tracer_deregister
        .globl supctl_tracer_zombie
    supctl_tracer_start:
    111:
        .zero 448               # the state

    supctl_tracer_init:
        endbr64
        lea rax, [rip + 111b]
        lea r11, [rax + 88]
        mov r10, [rax + 80]
        ",
    register_arguments!(),
    r"
        jmp r10

    supctl_tracer_fire_kernel:
        endbr64
        ret

    supctl_tracer_fire_user:
        endbr64
        ",
    fire_arguments!(),
    r"
        mov [r10 + 160], r11
        mov [r10 + 168], r9
        mov [r10 + 176], r8
        mov ecx, 29
    2:  mov rax, [rdx + rcx * 8]
        mov [r10 + rcx * 8 + 208], rax
        dec ecx
        jns 2b
        lock inc dword ptr [r10 + 112]
        ret

    supctl_tracer_open:
        endbr64
        ",
    open_arguments!(),
    r"
        mov dword ptr [r10 + 184], edx
        mov [r10 + 192], r9
        lea rax, [r9 + 1]
        mov [r8], rax
        lock inc dword ptr [r10 + 116]
        mov eax, [r10 + 96]
        ret

    supctl_tracer_ioctl:
        endbr64
        ",
    ioctl_arguments!(),
    r"
        lea eax, [r11 + rdx]
        add eax, r8d
        mov [r9], eax
        lock inc dword ptr [r10 + 120]
        xor eax, eax
        ret

    supctl_tracer_close:
        endbr64
        ",
    close_arguments!(),
    r"
        mov [r10 + 200], r11
        lock inc dword ptr [r10 + 124]
        ret

    supctl_tracer_register:
        endbr64
        ",
    provider_arguments!(),
    r"
        mov [r10 + 144], r11
        lock inc dword ptr [r10 + 128]
        mov eax, [r10 + 100]
        ret

    supctl_tracer_deregister:
        endbr64
        ",
    provider_arguments!(),
    r"
        mov [r10 + 152], r11
        lock inc dword ptr [r10 + 132]
        mov eax, [r10 + 104]
        ret

    supctl_tracer_zombie:
        endbr64
        ",
    provider_arguments!(),
    r"
        lock inc dword ptr [r10 + 136]
        mov eax, [r10 + 108]
        ret
    supctl_tracer_end:
        "
));
