; Entries from the kernel in ring 0, and how they get to Rust and back.

segment CODE32
        extern  _supdrv_os2_init, _supdrv_os2_strategy, _supdrv_os2_tick, _supdrv_os2_idc
        extern  KernThunkStackTo16, KernThunkStackTo32, KernSelToFlat
        import  KernThunkStackTo16 KEE 40
        import  KernThunkStackTo32 KEE 41
        import  KernSelToFlat KEE 66

; From 16-bit code: the next instruction is 32-bit code at %1. The kernel's thunk wants the upper halves of these two clear.
%macro go_to_32 1
        movzx   esp, sp
        movzx   ebp, bp
        jmp     dword CODE32:%1
%endmacro

; From 32-bit code: the next instruction is 16-bit code at %1, on the 16-bit view of the same stack. Loses EAX and EBP.
%macro go_to_16 1
        call    KernThunkStackTo16
        jmp     word CODE16_GROUP:%1
%endmacro

segment CODE16

; Strategy routine of header 1. ES:BX is the request packet, DS the driver's data. Only SP has to be kept.
strategy_1:
        mov     al, [es:bx + PACKET_COMMAND]
        cmp     byte [state], STATE_READY
        je      .serve
        cmp     al, COMMAND_INIT
        je      .init
        cmp     al, COMMAND_OPEN
        jne     refuse
        mov     dx, INIT_FAILED
        cmp     byte [state], STATE_NEW
        jne     answer
        cmp     dword [devhlp_entry], 0
        je      answer

        ; The first one ever, made by header 2's INIT: ring 0 is set up before it is served.
        mov     byte [state], STATE_FAILED
        push    es
        push    bx
        push    dword [arguments]
        go_to_32 first_32
.serve:
        push    es
        push    bx
        go_to_32 serve_32
.init:
        cmp     byte [init_done], 0
        je      near init_1

refuse:
        mov     dx, UNKNOWN_COMMAND
; Ends a request with the status in DX.
answer:
        mov     [es:bx + PACKET_STATUS], dx
        retf

; Strategy routine of header 2, which is there for its INIT alone.
strategy_2:
        cmp     byte [es:bx + PACKET_COMMAND], COMMAND_INIT
        jne     refuse
        cmp     byte [init_done], 0
        jne     refuse
        jmp     near init_2

; On the stack: what Rust said (the status, and whether the driver is ready from now on), and where the packet is.
served:
        pop     edx
        pop     bx
        pop     es
        test    edx, BECAME_READY
        jz      answer
        push    word DATA16_GROUP
        pop     ds
        mov     byte [state], STATE_READY
        jmp     answer

BECAME_READY    equ 0x10000

segment CODE32

; 32-bit data segments and stack. Loses EAX and EDX.
enter_32:
        mov     ax, DATA32
        mov     ds, ax
        mov     es, ax
        cld
        call    KernThunkStackTo32
        ret

; On the stack: 16:16 address of the packet.
serve_32:
        call    enter_32
        call    call_strategy
        movzx   eax, ax
        push    eax
        go_to_16 served

; On the stack: 16:16 addresses of the arguments and, above, of the packet.
first_32:
        call    enter_32
        call    initialise
        add     esp, 4
        test    eax, eax
        mov     eax, INIT_FAILED
        jnz     .answer
        call    call_strategy
        movzx   eax, ax
        or      eax, BECAME_READY
.answer:
        push    eax
        go_to_16 served

; AX = status of serving the packet at the 16:16 address above the return address.
call_strategy:
        push    ebp
        mov     ebp, esp
        push    dword [ebp + 8]
        call    KernSelToFlat
        ; Compilers expect stacks that are aligned, which 16-bit ones aren't.
        and     esp, -16
        sub     esp, 12
        push    eax
        call    _supdrv_os2_strategy
        mov     esp, ebp
        pop     ebp
        ret

; EAX = 0 if ring 0 could be set up; the 16:16 address of the arguments is above the return address.
initialise:
        push    ebp
        mov     ebp, esp
        sub     esp, 8
        lea     eax, [ebp - 4]
        push    eax
        push    dword [ebp + 8]
        call    _supdrv_devhlp_virt_to_lin
        add     esp, 8
        test    eax, eax
        jnz     .end
        lea     eax, [ebp - 8]
        push    eax
        push    word DATA16_GROUP
        push    word message wrt DATA16_GROUP
        call    _supdrv_devhlp_virt_to_lin
        add     esp, 8
        test    eax, eax
        jnz     .end
        mov     eax, [ebp - 4]
        mov     ecx, [ebp - 8]
        and     esp, -16
        sub     esp, 4
        push    dword MESSAGE_BYTES
        push    ecx
        push    eax
        call    _supdrv_os2_init
.end:
        mov     esp, ebp
        pop     ebp
        ret

segment CODE16

; Each clock tick, at interrupt time: nothing of the interrupted code may change.
tick_entry:
        pushad
        push    ds
        push    es
        go_to_32 tick_32
ticked:
        pop     es
        pop     ds
        popad
        retf

segment CODE32
tick_32:
        call    enter_32
        mov     ebp, esp
        and     esp, -16
        call    _supdrv_os2_tick
        mov     esp, ebp
        go_to_16 ticked

segment CODE16

; What other drivers find with AttachDD: a 16-bit C function that fills in the block of 20 bytes at its 16:16 argument. The caller has loaded our DS.
;
; The block: version, session, flat address of the 32-bit function, 16-bit C function, 16-bit register function. All zero until ring 0 is set up.
IDC_VERSION     equ 0x00010000

idc_entry:
        push    bp
        mov     bp, sp
        push    es
        push    di
        les     di, [bp + 6]
        xor     eax, eax
        cld
        mov     cx, 5
        push    di
        rep     stosd
        pop     di
        cmp     byte [state], STATE_READY
        jne     .end
        mov     dword [es:di], IDC_VERSION
        mov     eax, [idc_function]
        mov     [es:di + 8], eax
.end:
        xor     ax, ax
        pop     di
        pop     es
        pop     bp
        retf

segment DATA16
idc_function:
        dd      _supdrv_os2_idc wrt FLAT
