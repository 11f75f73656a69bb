/* Takes the Rust half's place in a driver whose only purpose is to call each of the shell's services as a request says. */
#include "machine.h"

u32 supdrv_devhlp_virt_to_lin(u32 far, u32 *flat);
u32 supdrv_devhlp_copy_to_phys(u32 phys, const void *from, u32 bytes);
u32 supdrv_devhlp_vm_global_to_process(u32 flags, u32 linear, u32 bytes, u32 *process);
u32 supdrv_devhlp_vm_free(u32 linear);
u32 supdrv_devhlp_set_timer(u32 on);
u32 supdrv_devhlp_get_dos_var(u32 index, u32 member, u32 *flat);
u32 supdrv_devhlp_yield(void);
void supdrv_devhlp_internal_error(const void *text, u32 bytes);

static u32 ticks, misaligned;

/* The stack at a call is at a multiple of 16, behind which are the return address and the frame pointer. */
#define CHECK_STACK() (misaligned += ((u32)__builtin_frame_address(0) + 8) % 16 != 0)

static const void *const services[] = {
    supdrv_devhlp_virt_to_lin, supdrv_devhlp_copy_to_phys, supdrv_devhlp_vm_global_to_process,
    supdrv_devhlp_vm_free, supdrv_devhlp_set_timer, supdrv_devhlp_get_dos_var, supdrv_devhlp_yield,
    supdrv_devhlp_internal_error,
};

/* Calls with four arguments; what C functions have to keep is looked at. 1 in *kept if it was. */
static u32 call_service(const void *service, const u32 *arguments, u32 *kept)
{
    u32 result, difference;
    __asm__ volatile(
        "pushl %%ebp\n\t"
        "pushl 12(%%ecx)\n\tpushl 8(%%ecx)\n\tpushl 4(%%ecx)\n\tpushl (%%ecx)\n\t"
        "movl $0x11111111, %%ebx\n\tmovl $0x22222222, %%esi\n\tmovl $0x33333333, %%edi\n\tmovl $0x44444444, %%ebp\n\t"
        "call *%%eax\n\t"
        "xorl $0x11111111, %%ebx\n\txorl $0x22222222, %%esi\n\txorl $0x33333333, %%edi\n\txorl $0x44444444, %%ebp\n\t"
        "orl %%ebx, %%esi\n\torl %%edi, %%esi\n\torl %%ebp, %%esi\n\t"
        "addl $16, %%esp\n\t"
        "popl %%ebp\n\t"
        "movl %%esi, %%edx\n\t"
        : "=a"(result), "=d"(difference), "+c"(arguments)
        : "0"(service)
        : "ebx", "esi", "edi", "memory", "cc");
    *kept = !difference;
    return result;
}

u32 supdrv_os2_init(const char *arguments, char *message, u32 message_bytes)
{
    static const char text[] = "probe: ready\r\n";
    CHECK_STACK();
    if (arguments[0] != 'C' || message_bytes < sizeof text)
        return 1;
    copy_memory(message, text, sizeof text);
    return 0;
}

/* Function, four arguments; then what came of it: result, whether all was kept, ticks and misaligned stacks so far. */
u32 supdrv_os2_strategy(u8 *packet)
{
    u32 arguments[4], kept, result;
    CHECK_STACK();
    if (packet[2] != 0x10)
        return 0xbeef0100;
    copy_memory(arguments, packet + 15, 16);
    result = call_service(services[packet[14]], arguments, &kept);
    copy_memory(packet + 31, &result, 4);
    copy_memory(packet + 35, &kept, 4);
    copy_memory(packet + 39, &ticks, 4);
    copy_memory(packet + 43, &misaligned, 4);
    /* Only the lower half is the status. */
    return 0xbeef0100;
}

void supdrv_os2_tick(void)
{
    CHECK_STACK();
    ticks++;
}

int supdrv_os2_idc(u32 code, void *packet)
{
    (void)code, (void)packet;
    return -1;
}
