//! The code for 32-bit systems: arguments on the stack, data by their distance from the beginning.

use core::arch::global_asm;

global_asm!(
    r#"
        .balign 16
        .globl supctl_probe_start, supctl_probe_end, supctl_probe_init, supctl_probe_term, supctl_probe_service
        .globl supctl_probe_int, supctl_probe_fast, supctl_probe_ex, supctl_probe_result, supctl_probe_data
    supctl_probe_start:
    supctl_probe_data:
        .ascii "supctl probe\0\0\0\0"
    supctl_probe_result:
        .long 0                 # 16: result of init
        .long 0                 # 20: runs of init
        .quad 0                 # 24: where term leaves its mark
        .quad 0, 0, 0, 0        # 32: last fast call: VM, CPU, operation, count

    107:                        # ecx = where the image begins, 64 bytes before this
        call 3f
    3:  pop ecx
        sub ecx, 64 + 5
        ret

    supctl_probe_init:
        call 107b
        inc dword ptr [ecx + 20]
        mov eax, [ecx + 16]
        ret

    supctl_probe_term:
        call 107b
        mov ecx, [ecx + 24]
        test ecx, ecx
        jz 3f
        mov dword ptr [ecx], 0x6d726574
        mov dword ptr [ecx + 4], 0x6d726574
    3:  ret

    supctl_probe_service:       # session +4, operation +8, argument +12, packet +20
        mov eax, [esp + 8]
        mov edx, [esp + 20]
        cmp eax, 0
        jne 3f
        mov eax, 85
        ret
    3:  cmp eax, 1
        jne 3f
        mov eax, [esp + 12]
        ret
    3:  cmp eax, 2
        je 104f
        cmp eax, 3
        jne 3f
        mov ecx, [esp + 12]
        mov eax, [ecx]
        mov [edx + 8], eax
        mov eax, [ecx + 4]
        mov [edx + 12], eax
        xor eax, eax
        ret
    3:  cmp eax, 4
        jne 3f
        mov ecx, [esp + 12]
        mov eax, [edx + 8]
        mov [ecx], eax
        mov eax, [edx + 12]
        mov [ecx + 4], eax
        xor eax, eax
        ret
    3:  cmp eax, 5
        jne 3f
        call 107b
        mov eax, [ecx + 20]
        ret
    3:  cmp eax, 6
        jne 3f
        mov eax, [esp + 4]
        mov [edx + 8], eax
        mov dword ptr [edx + 12], 0
        xor eax, eax
        ret
    3:  cmp eax, 7
        jne 3f
        mov eax, [esp + 12]
        call 107b
        mov [ecx + 24], eax
        xor eax, eax
        ret
    3:  cmp eax, 8
        je 105f
        cmp eax, 9
        jne 3f
        mov ecx, [esp + 12]
    2:  dec ecx
        jg 2b
        xor eax, eax
        ret
    3:  cmp eax, 10
        jne 106f
        jmp dword ptr [esp + 12]

    104:                        # inverts the payload of the packet at edx
        mov ecx, [edx + 4]
        sub ecx, 8
        jbe 3f
    2:  not byte ptr [edx + ecx + 7]
        dec ecx
        jnz 2b
    3:  xor eax, eax
        ret

    105:                        # is there no packet at edx?
        xor eax, eax
        test edx, edx
        sete al
        ret

    106:
        mov eax, -36
        ret

    supctl_probe_int:
        xor eax, eax
        ret

    supctl_probe_fast:          # VM +4, CPU +8, operation +12
        call 107b
        mov eax, [esp + 4]
        mov [ecx + 32], eax
        mov eax, [esp + 8]
        mov [ecx + 40], eax
        mov eax, [esp + 12]
        mov [ecx + 48], eax
        inc dword ptr [ecx + 56]
        ret

    supctl_probe_ex:            # VM +4, CPU +8, operation +12, packet +16, argument +20, session +28
        mov eax, [esp + 12]
        mov edx, [esp + 16]
        cmp eax, 0
        jne 3f
        mov eax, 1234
        ret
    3:  cmp eax, 1
        jne 3f
        push esi
        push edi
        call 107b
        lea esi, [ecx + 32]
        lea edi, [edx + 8]
        mov ecx, 8
        cld
        rep movsd
        pop edi
        pop esi
        xor eax, eax
        ret
    3:  cmp eax, 2
        je 104b
        cmp eax, 3
        jne 3f
        mov eax, [esp + 4]
        mov [edx + 8], eax
        mov dword ptr [edx + 12], 0
        mov eax, [esp + 8]
        mov [edx + 16], eax
        mov eax, [esp + 12]
        mov [edx + 20], eax
        mov eax, [esp + 20]
        mov [edx + 24], eax
        mov eax, [esp + 24]
        mov [edx + 28], eax
        mov eax, [esp + 28]
        mov [edx + 32], eax
        mov dword ptr [edx + 36], 0
        xor eax, eax
        ret
    3:  cmp eax, 4
        je 105b
        jmp 106b
    supctl_probe_end:
    "#
);
