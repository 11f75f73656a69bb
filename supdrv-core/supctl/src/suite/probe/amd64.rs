//! The code for 64-bit systems. It has a result of the init function in it, which can be changed before it is uploaded.

use core::arch::global_asm;

/// Brings the arguments of a service handler into the same registers on all systems: operation eax, session r8,
/// argument r10, packet r11.
#[cfg(not(windows))]
macro_rules! service_arguments {
    () => {
        "mov eax, esi\n mov r10, rdx\n mov r11, rcx\n mov r8, rdi\n"
    };
}
#[cfg(windows)]
macro_rules! service_arguments {
    () => {
        "mov eax, edx\n mov r10, r8\n mov r11, r9\n mov r8, rcx\n"
    };
}
/// The same for a fast call: VM r10, CPU r11d, operation eax.
#[cfg(not(windows))]
macro_rules! fast_arguments {
    () => {
        "mov r10, rdi\n mov r11d, esi\n mov eax, edx\n"
    };
}
#[cfg(windows)]
macro_rules! fast_arguments {
    () => {
        "mov r10, rcx\n mov r11d, edx\n mov eax, r8d\n"
    };
}
/// The same for a VMMR0 call: VM r10, CPU edx, operation eax, packet r11, argument r8, session r9.
#[cfg(not(windows))]
macro_rules! vmmr0_arguments {
    () => {
        "mov eax, edx\n mov edx, esi\n mov r10, rdi\n mov r11, rcx\n"
    };
}
#[cfg(windows)]
macro_rules! vmmr0_arguments {
    () => {
        "mov eax, r8d\n mov r10, rcx\n mov r11, r9\n mov r8, [rsp + 40]\n mov r9, [rsp + 48]\n"
    };
}

global_asm!(concat!(
    r#"
        .balign 16
        .globl supctl_probe_start, supctl_probe_end, supctl_probe_init, supctl_probe_term, supctl_probe_service
        .globl supctl_probe_int, supctl_probe_fast, supctl_probe_ex, supctl_probe_result, supctl_probe_data
    supctl_probe_start:
    supctl_probe_data:
        .ascii "supctl probe\0\0\0\0"
    supctl_probe_result:
        .long 0
    101:
        .long 0                 # runs of init
    102:
        .quad 0                 # where term leaves its mark
    103:
        .quad 0, 0, 0, 0        # last fast call: VM, CPU, operation, count

    supctl_probe_init:
        endbr64
        inc dword ptr [rip + 101b]
        mov eax, dword ptr [rip + supctl_probe_result]
        ret

    supctl_probe_term:
        endbr64
        mov rcx, qword ptr [rip + 102b]
        test rcx, rcx
        jz 3f
        mov rax, 0x6d7265746d726574
        mov qword ptr [rcx], rax
    3:  ret

    supctl_probe_service:
        endbr64
        "#,
    service_arguments!(),
    r"
        cmp eax, 0
        jne 3f
        mov eax, 85
        ret
    3:  cmp eax, 1
        jne 3f
        mov eax, r10d
        ret
    3:  cmp eax, 2
        je 104f
        cmp eax, 3
        jne 3f
        mov rax, qword ptr [r10]
        mov qword ptr [r11 + 8], rax
        xor eax, eax
        ret
    3:  cmp eax, 4
        jne 3f
        mov rax, qword ptr [r11 + 8]
        mov qword ptr [r10], rax
        xor eax, eax
        ret
    3:  cmp eax, 5
        jne 3f
        mov eax, dword ptr [rip + 101b]
        ret
    3:  cmp eax, 6
        jne 3f
        mov qword ptr [r11 + 8], r8
        xor eax, eax
        ret
    3:  cmp eax, 7
        jne 3f
        mov qword ptr [rip + 102b], r10
        xor eax, eax
        ret
    3:  cmp eax, 8
        je 105f
        cmp eax, 9
        jne 3f
    2:  dec r10
        jg 2b
        xor eax, eax
        ret
    3:  cmp eax, 10
        jne 106f
        sub rsp, 40
        call r10
        add rsp, 40
        ret

    104:                        # inverts the payload of the packet at r11
        mov ecx, dword ptr [r11 + 4]
        sub ecx, 8
        jbe 3f
    2:  not byte ptr [r11 + rcx + 7]
        dec ecx
        jnz 2b
    3:  xor eax, eax
        ret

    105:                        # is there no packet at r11?
        xor eax, eax
        test r11, r11
        sete al
        ret

    106:
        mov eax, -36
        ret

    supctl_probe_int:
        endbr64
        xor eax, eax
        ret

    supctl_probe_fast:
        endbr64
        ",
    fast_arguments!(),
    r"
        mov qword ptr [rip + 103b], r10
        mov qword ptr [rip + 103b + 8], r11
        mov qword ptr [rip + 103b + 16], rax
        inc qword ptr [rip + 103b + 24]
        ret

    supctl_probe_ex:
        endbr64
        ",
    vmmr0_arguments!(),
    r"
        cmp eax, 0
        jne 3f
        mov eax, 1234
        ret
    3:  cmp eax, 1
        jne 3f
        mov rax, qword ptr [rip + 103b]
        mov qword ptr [r11 + 8], rax
        mov rax, qword ptr [rip + 103b + 8]
        mov qword ptr [r11 + 16], rax
        mov rax, qword ptr [rip + 103b + 16]
        mov qword ptr [r11 + 24], rax
        mov rax, qword ptr [rip + 103b + 24]
        mov qword ptr [r11 + 32], rax
        xor eax, eax
        ret
    3:  cmp eax, 2
        je 104b
        cmp eax, 3
        jne 3f
        mov qword ptr [r11 + 8], r10
        mov dword ptr [r11 + 16], edx
        mov dword ptr [r11 + 20], eax
        mov qword ptr [r11 + 24], r8
        mov qword ptr [r11 + 32], r9
        xor eax, eax
        ret
    3:  cmp eax, 4
        je 105b
        jmp 106b
    supctl_probe_end:
        "
));
