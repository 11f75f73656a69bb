; The stand-in for OS/2's kernel: start, the way between 16- and 32-bit code, and the 16-bit entries that drivers call.
;
; All of it runs in ring 0 without paging. What the kernel's thunks may lose is overwritten here, so that nobody relies on it.

        bits    32

FLAT_DATA       equ 0x168
FLAT_CODE       equ 0x170
STACK16         equ 0x30
CODE16          equ 0x40

; Stacks are within reach of 16-bit code: their selector's base is an odd place, as in the real one.
STACK_BYTES     equ 0x4000
STACK_OFFSET    equ 0x1002

        section .multiboot
        dd      0x1badb002, 0, -0x1badb002

        section .bss
        resb    1024
fault_stack:
        global  stack_base, stack_area
stack_area:
        resb    STACK_OFFSET + STACK_BYTES
stack_top:
stack_base:
        resd    1
        global  registers
; What call_16 loads and stores: EAX EBX ECX EDX ESI EDI EBP, DS ES, IP CS; the layout of struct registers.
registers:
        resd    10
carry:
        resd    1
dos_frame:
        resd    1

        section .text
        extern  exception
; What would be the end of the machine is told first: vector and place.
        global  exception_entries
exception_entries:
%assign vector 0
%rep 32
        push    byte vector
        jmp     near faulted
        align   8
%assign vector vector + 1
%endrep
faulted:
        mov     ax, FLAT_DATA
        mov     ds, ax
        mov     es, ax
        ; On whatever stack that was: the frame is read through its selector, of 16-bit ones by the lower half of ESP.
        mov     ax, ss
        cmp     ax, STACK16
        jne     .is_32_bit
        movzx   esp, sp
.is_32_bit:
        mov     eax, [ss:esp + 4]
        mov     ebx, [ss:esp + 8]
        mov     ecx, [ss:esp + 12]
        mov     edx, [ss:esp]
        mov     ss, [flat_data]
        mov     esp, fault_stack
        push    ecx
        push    ebx
        push    eax
        push    edx
        call    exception
flat_data:
        dw      FLAT_DATA

        extern  main, gdt_descriptor, idt_descriptor, set_up, devhlp_service, dos_service, unclean_thunk
        global  _start
_start:
        cli
        mov     dword [stack_base], stack_area
        mov     esp, stack_top
        push    ebx
        call    set_up
        lgdt    [gdt_descriptor]
        lidt    [idt_descriptor]
        jmp     FLAT_CODE:.flat
.flat:
        mov     ax, FLAT_DATA
        mov     ds, ax
        mov     es, ax
        mov     fs, ax
        mov     gs, ax
        mov     ss, ax
        call    main
.end:
        hlt
        jmp     .end

; The kernel's own thunks.
        global  KernThunkStackTo16, KernThunkStackTo32
KernThunkStackTo16:
        sub     esp, [stack_base]
        sub     ebp, [stack_base]
        or      esp, 0x0bad0000
        mov     eax, STACK16
        mov     ss, ax
        mov     eax, 0xdead0016
        ret

KernThunkStackTo32:
        test    esp, 0xffff0000
        jnz     .unclean
        test    ebp, 0xffff0000
        jnz     .unclean
.to_32:
        add     esp, [stack_base]
        add     ebp, [stack_base]
        mov     eax, FLAT_DATA
        mov     ss, ax
        mov     eax, 0xdead0032
        mov     edx, 0xdead0033
        ret
.unclean:
        inc     dword [unclean_thunk]
        movzx   esp, sp
        movzx   ebp, bp
        jmp     .to_32

%macro to_16 1
        call    KernThunkStackTo16
        jmp     word CODE16:%1 - code16
%endmacro

%macro to_32 1
        movzx   esp, sp
        movzx   ebp, bp
        jmp     dword FLAT_CODE:%1
%endmacro

; Data segments and stack of 32-bit code.
enter_32:
        mov     ax, FLAT_DATA
        mov     ds, ax
        mov     es, ax
        cld
        call    KernThunkStackTo32
        ret

; Calls 16-bit code with the registers in `registers`, and stores what it returns there.
        global  call_16
call_16:
        pushad
        to_16   .in_16
.in_32:
        call    enter_32
        popad
        ret

        section .text16
        bits    16
        global  code16
code16:
call_16.in_16:
        mov     eax, [gs:dword registers]
        mov     ebx, [gs:dword registers + 4]
        mov     ecx, [gs:dword registers + 8]
        mov     edx, [gs:dword registers + 12]
        mov     esi, [gs:dword registers + 16]
        mov     edi, [gs:dword registers + 20]
        mov     ebp, [gs:dword registers + 24]
        mov     ds, [gs:dword registers + 28]
        mov     es, [gs:dword registers + 30]
        ; Drivers may find the upper half of ESP and the direction in any state.
        std
        push    dword [gs:dword registers + 36]
        call    far [gs:dword registers + 32]
        mov     [gs:dword registers], eax
        mov     [gs:dword registers + 4], ebx
        mov     [gs:dword registers + 8], ecx
        mov     [gs:dword registers + 12], edx
        mov     [gs:dword registers + 16], esi
        mov     [gs:dword registers + 20], edi
        mov     [gs:dword registers + 24], ebp
        mov     [gs:dword registers + 28], ds
        mov     [gs:dword registers + 30], es
        lea     sp, [esp + 4]
        cld
        to_32   call_16.in_32

; The DevHlp entry.
        global  devhlp_16
devhlp_16:
        push    ds
        push    es
        pushad
        to_32   devhlp_32
devhlp_back:
        popad
        pop     es
        pop     ds
        bt      dword [gs:dword carry], 0
        retf

; Entries of DOSCALLS: number, bytes of arguments, which the callee removes.
%macro dos_entry 2
        global  dos_%1
dos_%1:
        push    bp
        mov     bp, sp
        push    ds
        push    es
        pushad
        movzx   eax, bp
        mov     [gs:dword dos_frame], eax
        mov     bx, %1
        to_32   dos_32
        global  dos_back_%1
dos_back_%1:
        popad
        pop     es
        pop     ds
        pop     bp
        retf    %2
%endmacro

        dos_entry 59, 2
        dos_entry 70, 26
        dos_entry 138, 12

        section .text
        bits    32
devhlp_32:
        call    enter_32
        push    esp
        call    devhlp_service
        add     esp, 4
        mov     [carry], eax
        to_16   devhlp_back

dos_32:
        call    enter_32
        movzx   ebx, bx
        mov     eax, [dos_frame]
        add     eax, [stack_base]
        add     eax, 6
        push    eax
        push    ebx
        call    dos_service
        add     esp, 8
        mov     [esp + 28], eax
        cmp     ebx, 59
        je      .close
        cmp     ebx, 70
        je      .open
        to_16   dos_back_138
.close:
        to_16   dos_back_59
.open:
        to_16   dos_back_70
