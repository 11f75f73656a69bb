; INIT of both headers, in ring 3; the kernel discards all of this when it's done.
;
; Ring 0 can't be entered from here but through a device that the kernel knows already: header 2's INIT opens header 1's device, and
; that request, which arrives in ring 0, sets everything up.

MESSAGE_BYTES           equ 512
STANDARD_OUTPUT         equ 1
OPEN_EXISTING           equ 1
OPEN_DENY_NONE          equ 0x40        ; for reading

segment DATA16_INIT
data_end:
device_name:
        db      '\DEV\vboxdrv$', 0
        align   4
arguments:
        dd      0                       ; 16:16, from the INIT packet
handle:
        dw      0
action:
        dw      0                       ; what DosOpen did, then what DosWrite wrote
; What Rust has to say to the user while the system boots; ends with a zero.
message:
        times MESSAGE_BYTES db 0

segment CODE16_INIT
code_end:
        extern  DosOpen, DosClose, DosWrite
        import  DosOpen DOSCALLS 70
        import  DosClose DOSCALLS 59
        import  DosWrite DOSCALLS 138

; Header 1: everything is left to header 2.
init_1:
        mov     byte [es:bx + INIT_UNITS], 0
        mov     word [es:bx + INIT_CODE_END], code_end
        mov     word [es:bx + INIT_DATA_END], data_end
        mov     dx, DONE
        jmp     near answer

init_2:
        push    es
        push    bx
        mov     eax, [es:bx + INIT_DEVHLP]
        mov     [devhlp_entry], eax
        mov     eax, [es:bx + INIT_ARGUMENTS]
        mov     [arguments], eax
        call    open_device
        call    print_message
        mov     byte [init_done], 1
        pop     bx
        pop     es
        mov     byte [es:bx + INIT_UNITS], 0
        cmp     byte [state], STATE_READY
        jne     .failed
        mov     word [es:bx + INIT_CODE_END], code_end
        mov     word [es:bx + INIT_DATA_END], data_end
        mov     dx, DONE
        jmp     near answer
.failed:
        mov     dword [es:bx + INIT_CODE_END], 0        ; and INIT_DATA_END
        mov     dx, INIT_FAILED
        cmp     byte [message], 0
        je      .answer
        mov     dx, INIT_FAILED_QUIETLY
.answer:
        jmp     near answer

; Opens and closes the device: see above.
open_device:
        push    ds
        push    word device_name
        push    ds
        push    word handle
        push    ds
        push    word action
        push    dword 0                 ; size
        push    word 0                  ; attributes
        push    word OPEN_EXISTING
        push    word OPEN_DENY_NONE
        push    dword 0                 ; reserved
        call    far DosOpen
        test    ax, ax
        jnz     .end
        push    word [handle]
        call    far DosClose
.end:
        ret

print_message:
        mov     byte [message + MESSAGE_BYTES - 1], 0
        mov     si, message
        xor     cx, cx
.count:
        cmp     byte [si], 0
        je      .counted
        inc     si
        inc     cx
        jmp     .count
.counted:
        jcxz    .end
        push    word STANDARD_OUTPUT
        push    ds
        push    word message
        push    cx
        push    ds
        push    word action
        call    far DosWrite
.end:
        ret
