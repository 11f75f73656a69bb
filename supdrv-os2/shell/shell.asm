; The 16-bit half of the OS/2 driver: device headers, entries from the kernel, and the way to its 16-bit services.
;
;       nasm -f obj -i shell/ -o shell.obj shell/shell.asm
;
; It has to come first in the link. OS/2 calls drivers with 16-bit code and stacks; everything that isn't about that is done in Rust,
; in 32-bit code. The layout below is what the kernel expects: headers first, resident parts, then what INIT cuts off.

        cpu     586

segment DATA16          public align=4 class=FAR_DATA use16
segment DATA16_INIT     public align=4 class=FAR_DATA use16
group   DATA16_GROUP    DATA16 DATA16_INIT
segment CODE16          public align=4 class=FAR_CODE use16
segment CODE16_INIT     public align=4 class=FAR_CODE use16
group   CODE16_GROUP    CODE16 CODE16_INIT
segment CODE32          public align=16 class=CODE use32 flat
segment DATA32          public align=16 class=DATA use32 flat
segment BSS32           public align=16 class=BSS use32 flat

; Request packets.
PACKET_COMMAND          equ 0x02
PACKET_STATUS           equ 0x03
INIT_DEVHLP             equ 0x0e        ; in: 16:16
INIT_ARGUMENTS          equ 0x12        ; in: 16:16
INIT_UNITS              equ 0x0d        ; out
INIT_CODE_END           equ 0x0e        ; out
INIT_DATA_END           equ 0x10        ; out

COMMAND_INIT            equ 0x00
COMMAND_OPEN            equ 0x0d

DONE                    equ 0x0100
UNKNOWN_COMMAND         equ 0x8103
INIT_FAILED             equ 0x810f
INIT_FAILED_QUIETLY     equ 0x8115      ; the reason was printed

; The driver's state.
STATE_NEW               equ 0           ; ring 0 hasn't been entered
STATE_READY             equ 1
STATE_FAILED            equ 0xff

; Device headers. The offsets are of the kernel's design; it fills in the selectors.
ATTRIBUTES              equ 0x8980      ; character device, open and close, level 3
ATTRIBUTE_IDC           equ 0x4000
CAPABILITIES            equ 3           ; lengths in ioctl packets and shutdown calls; buffers above 16 MiB

segment DATA16
header_1:
        dw      header_2, DATA16_GROUP
        dw      ATTRIBUTES | ATTRIBUTE_IDC
        dw      strategy_1, idc_entry
        db      'vboxdrv$'
        times 4 dw 0
        dd      CAPABILITIES
        align   4
header_2:
        dd      0xffffffff
        dw      ATTRIBUTES
        dw      strategy_2, 0
        db      'vboxdr1$'
        times 4 dw 0
        dd      CAPABILITIES
        align   4

devhlp_entry:
        dd      0                       ; 16:16, from the INIT packet
state:
        db      STATE_NEW
init_done:
        db      0                       ; what INIT needs is cut off
        align   4

%include "entries.asm"
%include "devhlp.asm"
%include "init.asm"
