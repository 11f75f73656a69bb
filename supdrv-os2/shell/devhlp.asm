; The kernel's 16-bit services for 32-bit code: C functions that return 0, or the service's error. src/devhlp.rs declares them.

DEVHLP_YIELD                    equ 0x02
DEVHLP_PHYS_TO_VIRT             equ 0x15
DEVHLP_SET_TIMER                equ 0x1d
DEVHLP_RESET_TIMER              equ 0x1e
DEVHLP_GET_DOS_VAR              equ 0x24
DEVHLP_INTERNAL_ERROR           equ 0x2b
DEVHLP_VM_FREE                  equ 0x58
DEVHLP_VM_GLOBAL_TO_PROCESS     equ 0x5a
DEVHLP_VIRT_TO_LIN              equ 0x5b

RESULT_IN_ES                    equ 0x0100      ; in DH: PhysToVirt's result is in ES:DI

GENERAL_FAILURE                 equ 31          ; for a service that failed without saying why
INVALID_PARAMETER               equ 87

PANIC_BYTES                     equ 2048

segment DATA16
; The kernel prints what is in this segment only.
panic_text:
        times PANIC_BYTES db 0

segment CODE32

; Begins a C function: its parameters are at [ebp + 8] and up.
%macro enter_service 0
        push    ebp
        mov     ebp, esp
        push    ebx
        push    esi
        push    edi
%endmacro

; Ends one: with the error in AX if carry is set, else with the result in EAX stored at the address in the parameter %1.
%macro store_and_leave 1
        jc      near failed
        mov     ecx, [ebp + %1]
        mov     [ecx], eax
        jmp     near succeeded
%endmacro

; Calls the service DL with the other registers as they are; afterwards registers and carry flag are as the service left them.
;
; Registers and flags go over the stack, because the thunks lose some of them: the stack's contents stay where they are.
call_devhlp:
        push    ebp
        pushad
        go_to_16 .in_16
segment CODE16
.in_16:
        popad
        push    word DATA16_GROUP
        pop     ds
        call    far [devhlp_entry]
served_by_devhlp:
        pushfd
        pushad
        go_to_32 back_from_devhlp
segment CODE32
back_from_devhlp:
        call    enter_32
        popad
        popfd
        cld
        pop     ebp
        ret

; Ends of all services.
failed:
        movzx   eax, ax
        test    eax, eax
        jnz     leave_service
        mov     eax, GENERAL_FAILURE
        jmp     leave_service
succeeded_unless_carry:
        jc      failed
succeeded:
        xor     eax, eax
leave_service:
        pop     edi
        pop     esi
        pop     ebx
        pop     ebp
        ret

; (far, *flat)
        global  _supdrv_devhlp_virt_to_lin
_supdrv_devhlp_virt_to_lin:
        enter_service
        movzx   eax, word [ebp + 10]
        movzx   esi, word [ebp + 8]
        mov     dl, DEVHLP_VIRT_TO_LIN
        call    call_devhlp
        store_and_leave 12

; (phys, *from, bytes)
        global  _supdrv_devhlp_copy_to_phys
_supdrv_devhlp_copy_to_phys:
        enter_service
        mov     ecx, [ebp + 16]
        jecxz   succeeded
        mov     eax, INVALID_PARAMETER
        cmp     ecx, 0xffff
        ja      leave_service
        movzx   eax, word [ebp + 10]
        movzx   ebx, word [ebp + 8]
        mov     esi, [ebp + 12]
        mov     dx, RESULT_IN_ES | DEVHLP_PHYS_TO_VIRT
        call    .map_and_copy
        jmp     succeeded_unless_carry
; What the service maps is 16-bit, and only there for a moment: the copy is made before the way back.
.map_and_copy:
        push    ebp
        pushad
        go_to_16 .in_16
segment CODE16
.in_16:
        popad
        push    word DATA16_GROUP
        pop     ds
        push    ecx
        push    esi
        call    far [devhlp_entry]
        pop     esi
        pop     ecx
        jc      served_by_devhlp
        movzx   edi, di
        mov     ax, DATA32
        mov     ds, ax
        cld
        a32 rep movsb
        clc
        jmp     served_by_devhlp
segment CODE32

; (flags, linear, bytes, *process_linear)
        global  _supdrv_devhlp_vm_global_to_process
_supdrv_devhlp_vm_global_to_process:
        enter_service
        mov     eax, [ebp + 8]
        mov     ebx, [ebp + 12]
        mov     ecx, [ebp + 16]
        mov     dl, DEVHLP_VM_GLOBAL_TO_PROCESS
        call    call_devhlp
        store_and_leave 20

; (linear)
        global  _supdrv_devhlp_vm_free
_supdrv_devhlp_vm_free:
        enter_service
        mov     eax, [ebp + 8]
        mov     dl, DEVHLP_VM_FREE
        call    call_devhlp
        jmp     succeeded_unless_carry

; (on)
        global  _supdrv_devhlp_set_timer
_supdrv_devhlp_set_timer:
        enter_service
        mov     ax, tick_entry
        mov     dl, DEVHLP_RESET_TIMER
        cmp     dword [ebp + 8], 0
        je      .call
        mov     dl, DEVHLP_SET_TIMER
.call:
        call    call_devhlp
        jmp     succeeded_unless_carry

; (index, member, *flat)
        global  _supdrv_devhlp_get_dos_var
_supdrv_devhlp_get_dos_var:
        enter_service
        mov     eax, [ebp + 8]
        mov     ecx, [ebp + 12]
        mov     dl, DEVHLP_GET_DOS_VAR
        call    call_devhlp
        jc      near failed
        push    ax
        push    bx
        call    KernSelToFlat
        add     esp, 4
        mov     ecx, [ebp + 16]
        mov     [ecx], eax
        jmp     succeeded

; ()
        global  _supdrv_devhlp_yield
_supdrv_devhlp_yield:
        enter_service
        mov     dl, DEVHLP_YIELD
        call    call_devhlp
        jmp     succeeded_unless_carry

; (*text, bytes)
        global  _supdrv_devhlp_internal_error
_supdrv_devhlp_internal_error:
        enter_service
        mov     ecx, [ebp + 12]
        cmp     ecx, PANIC_BYTES
        jbe     .fits
        mov     ecx, PANIC_BYTES
.fits:
        mov     ebx, ecx
        mov     esi, [ebp + 8]
        mov     di, panic_text
        movzx   edi, di
        mov     ax, DATA16_GROUP
        push    es
        mov     es, ax
        rep     movsb
        pop     es
        mov     si, panic_text
        mov     edi, ebx
        mov     dl, DEVHLP_INTERNAL_ERROR
        call    call_devhlp
        jmp     succeeded
