//! The tracer's code for 32-bit systems: arguments on the stack, the tracer's record, which the state begins with, first.

use core::arch::global_asm;

global_asm!(
    r"
        .balign 16
        .globl supctl_tracer_start, supctl_tracer_end, supctl_tracer_init, supctl_tracer_fire_kernel, supctl_tracer_fire_user
        .globl supctl_tracer_open, supctl_tracer_ioctl, supctl_tracer_close, supctl_tracer_register, supctl_tracer_deregister
        .globl supctl_tracer_zombie
    supctl_tracer_start:
        .zero 448               # the state

    supctl_tracer_init:         # module +4
        call 3f
    3:  pop ecx
        sub ecx, 448 + 5
        mov edx, [esp + 4]
        lea eax, [ecx + 88]
        sub esp, 12             # compilers want the stack aligned at calls
        push eax
        push ecx
        push 0
        push edx
        call dword ptr [ecx + 80]
        add esp, 28
        ret

    supctl_tracer_fire_kernel:
        ret

    supctl_tracer_fire_user:    # session +8, context +12, header +16, location +20
        push ebx
        mov eax, [esp + 8]
        mov edx, [esp + 12]
        mov [eax + 160], edx
        mov edx, [esp + 20]
        mov [eax + 168], edx
        mov edx, [esp + 24]
        mov [eax + 176], edx
        mov edx, [esp + 16]
        mov ecx, 59
    2:  mov ebx, [edx + ecx * 4]
        mov [eax + ecx * 4 + 208], ebx
        dec ecx
        jns 2b
        lock inc dword ptr [eax + 112]
        pop ebx
        ret

    supctl_tracer_open:         # cookie +12, argument +16, place of the result +20
        mov eax, [esp + 4]
        mov edx, [esp + 12]
        mov [eax + 184], edx
        mov edx, [esp + 16]
        mov [eax + 192], edx
        inc edx
        mov ecx, [esp + 20]
        mov [ecx], edx
        lock inc dword ptr [eax + 116]
        mov eax, [eax + 96]
        ret

    supctl_tracer_ioctl:        # data +12, command +16, argument +20, place of the result +24
        mov ecx, [esp + 4]
        lock inc dword ptr [ecx + 120]
        mov eax, [esp + 12]
        add eax, [esp + 16]
        add eax, [esp + 20]
        mov ecx, [esp + 24]
        mov [ecx], eax
        xor eax, eax
        ret

    supctl_tracer_close:        # data +12
        mov eax, [esp + 4]
        mov edx, [esp + 12]
        mov [eax + 200], edx
        lock inc dword ptr [eax + 124]
        ret

    supctl_tracer_register:     # provider +8
        mov eax, [esp + 4]
        mov edx, [esp + 8]
        mov [eax + 144], edx
        lock inc dword ptr [eax + 128]
        mov eax, [eax + 100]
        ret

    supctl_tracer_deregister:   # provider +8
        mov eax, [esp + 4]
        mov edx, [esp + 8]
        mov [eax + 152], edx
        lock inc dword ptr [eax + 132]
        mov eax, [eax + 104]
        ret

    supctl_tracer_zombie:
        mov eax, [esp + 4]
        lock inc dword ptr [eax + 136]
        mov eax, [eax + 108]
        ret
    supctl_tracer_end:
    "
);
