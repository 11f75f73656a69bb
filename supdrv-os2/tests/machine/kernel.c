/* The stand-in for OS/2's kernel: one process, one thread, memory without paging, and what drivers call. */
#include "machine.h"

u32 unclean_thunk, unclean_direction;
struct state state;
struct driver current;
static u8 gdt[0x800] __attribute__((aligned(8)));
struct __attribute__((packed)) { u16 limit; void *base; } gdt_descriptor = { sizeof gdt - 1, gdt };

static u8 idt[32 * 8] __attribute__((aligned(8)));
struct __attribute__((packed)) { u16 limit; void *base; } idt_descriptor = { sizeof idt - 1, idt };

/* 16-bit entries, in start.asm. */
void devhlp_16(void);
void KernThunkStackTo16(void);
void KernThunkStackTo32(void);

/* As the info segments begin. */
static struct { u32 seconds, milliseconds; u8 time[4]; short zone; u8 rest[64]; } global_info = { .seconds = 1000000, .zone = -1 };
static struct { u16 pid, parent, priority, tid; u8 rest[32]; } local_info = { .pid = 10, .tid = 1 };
static int interrupt_level = -1;
/* Of GetDOSVar. */
static struct { u8 yield_flag, total_cpus; } variables = { 0, 1 };

static u8 in_byte(u16 port)
{
    u8 value;
    __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

static void out_byte(u16 port, u8 value)
{
    __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

void print(const char *text)
{
    for (; *text; text++) {
        while (!(in_byte(0x3fd) & 0x20))
            ;
        out_byte(0x3f8, *text);
    }
}

void print_number(u32 number)
{
    char digits[9];
    for (int at = 7; at >= 0; at--, number >>= 4)
        digits[at] = "0123456789abcdef"[number & 15];
    digits[8] = 0;
    print(digits);
}

/* Ends the emulator. */
void leave(void)
{
    out_byte(0xf4, 0);
    for (;;)
        __asm__ volatile("hlt");
}

void set_selector(u16 selector, u32 base, u32 limit, u8 access, u8 width)
{
    u8 *entry = gdt + (selector & ~7);
    entry[0] = limit;
    entry[1] = limit >> 8;
    entry[2] = base;
    entry[3] = base >> 8;
    entry[4] = base >> 16;
    entry[5] = access;
    entry[6] = width | (limit >> 16 & 15);
    entry[7] = base >> 24;
}

void set_up(void)
{
    extern u8 exception_entries[];
    for (u32 vector = 0; vector < 32; vector++) {
        u32 entry = (u32)exception_entries + vector * 8;
        u8 *gate = idt + vector * 8;
        gate[0] = entry;
        gate[1] = entry >> 8;
        gate[2] = FLAT_CODE & 0xff;
        gate[3] = FLAT_CODE >> 8;
        gate[4] = 0;
        gate[5] = 0x8e;
        gate[6] = entry >> 16;
        gate[7] = entry >> 24;
    }
    set_selector(FLAT_CODE, 0, 0xfffff, CODE_ACCESS, WIDE);
    set_selector(FLAT_DATA, 0, 0xfffff, DATA_ACCESS, WIDE);
    set_selector(STACK16, stack_base, 0xffff, DATA_ACCESS, 0);
    set_selector(CODE16, (u32)code16, 0xffff, CODE_ACCESS, 0);
    set_selector(VARIABLES, (u32)&variables, sizeof variables - 1, DATA_ACCESS, 0);
}

void *flat(u16 selector, u16 offset)
{
    const u8 *entry = gdt + (selector & ~7);
    return (void *)((entry[2] | entry[3] << 8 | entry[4] << 16 | (u32)entry[7] << 24) + offset);
}

/* Never returns. Some vectors have an error code, then the place is one word further. */
void exception(u32 vector, u32 first, u32 second, u32 third)
{
    print("exception ");
    print_number(vector);
    print(": ");
    print_number(first);
    print(" ");
    print_number(second);
    print(" ");
    print_number(third);
    print("\n");
    leave();
}

/* Fills what is below the caller's stack, so that it shows what is used. */
void fill_stack(void)
{
    for (u8 *at = stack_area; at < (u8 *)__builtin_frame_address(0) - 256; at++)
        *(volatile u8 *)at = 0xa5;
}

/* Bytes below the caller that were used since. */
u32 used_stack(void)
{
    u8 *at = stack_area;
    while (*at == 0xa5)
        at++;
    return (u8 *)__builtin_frame_address(0) - at;
}

struct registers call(struct registers with)
{
    registers = with;
    call_16();
    return registers;
}

/* Calls a strategy routine as the kernel does; what it may change is overwritten before. The packet's status. */
u16 request(u16 header_offset, void *packet)
{
    u8 *header = flat(current.selector[0], header_offset);
    u32 outer = (u32)flat(PACKET, 0);
    set_selector(PACKET, (u32)packet & ~15, 0xffff, DATA_ACCESS, 0);
    call((struct registers) { .eax = 0xabad0001, .ebx = 0xabad0000 | ((u32)packet & 15), .ecx = 0xabad0002,
                              .edx = 0xabad0003, .esi = 0xabad0000 | header_offset, .edi = 0xabad0004,
                              .ebp = 0xabad0005, .ds = current.selector[0], .es = PACKET,
                              .ip = word_at(header + 6), .cs = current.selector[1] });
    /* A request may be made while another is served. */
    set_selector(PACKET, outer, 0xffff, DATA_ACCESS, 0);
    return word_at((u8 *)packet + 3);
}

void reset_state(void)
{
    set_memory(&state, 0, sizeof state);
    state.next_sfn = 0x77;
}

void advance_clock(u32 milliseconds)
{
    global_info.milliseconds += milliseconds;
}

/* 1 if the service failed: the carry flag. */
u32 devhlp_service(struct frame *frame)
{
    state.devhlp_calls++;
    state.last_devhlp = frame->edx & 0xff;
    state.frame = *frame;
    if (state.fail_devhlp) {
        frame->eax = state.fail_devhlp;
        return 1;
    }
    switch (frame->edx & 0xff) {
    case 0x02: /* Yield */
        return 0;
    case 0x15: /* PhysToVirt */
        if ((frame->edx >> 8 & 0xff) != 1)
            return 1;
        set_selector(PHYSICAL, (frame->eax << 16 | (frame->ebx & 0xffff)), (frame->ecx & 0xffff) - 1, DATA_ACCESS, 0);
        frame->es = PHYSICAL;
        frame->edi = frame->edi & 0xffff0000;
        return 0;
    case 0x1d: /* SetTimer */
        if (frame->ds != current.selector[0])
            return 1;
        state.timer = frame->eax;
        return 0;
    case 0x1e: /* ResetTimer */
        if (state.timer != (u16)frame->eax)
            return 1;
        state.timer = 0;
        return 0;
    case 0x24: /* GetDOSVar */
        {
            u8 index = frame->eax, *variable = index == 7 ? &variables.yield_flag : &variables.total_cpus;
            if ((index != 7 && index != 0x14) || (u16)frame->ecx)
                return 1;
            frame->eax = (frame->eax & 0xffff0000) | VARIABLES;
            frame->ebx = (frame->ebx & 0xffff0000) | (variable - (u8 *)&variables);
            return 0;
        }
    case 0x2b: /* InternalError */
        return 0;
    case 0x58: /* VMFree */
        return 0;
    case 0x5a: /* VMGlobalToProcess: processes see what the kernel sees. */
        frame->eax = frame->ebx;
        return 0;
    case 0x5b: /* VirtToLin */
        if (state.fail_virt_to_lin) {
            frame->eax = 6;
            return 1;
        }
        frame->eax = (u32)flat(frame->eax, 0) + frame->esi;
        return 0;
    }
    print("an unknown DevHlp\n");
    return 1;
}

static void *far_argument(const u8 *at)
{
    return flat(word_at(at + 2), word_at(at));
}

/* Arguments are the last one first, as Pascal has them on the stack. */
u32 dos_service(u32 number, const u8 *arguments)
{
    switch (number) {
    case 70: { /* DosOpen: only one device is there. */
        static const char name[] = "\\DEV\\vboxdrv$";
        const char *wanted = far_argument(arguments + 22);
        u8 packet[15] = { 15, 0, 0x0d };
        for (u32 at = 0; at < sizeof name; at++)
            if (wanted[at] != name[at])
                return 110;
        if (word_at(arguments + 4) != 0x40 || word_at(arguments + 6) != 1)
            return 87;
        copy_memory(packet + 13, &state.next_sfn, 2);
        state.opens++;
        if (request(0, packet) & 0x8000)
            return 31;
        *(u16 *)far_argument(arguments + 18) = state.next_sfn;
        return 0;
    }
    case 59: {
        u8 packet[15] = { 15, 0, 0x0e };
        copy_memory(packet + 13, arguments, 2);
        state.closes++;
        return request(0, packet) & 0x8000 ? 6 : 0;
    }
    case 138: {
        u16 count = word_at(arguments + 4);
        if (word_at(arguments + 10) != 1 || state.screen_bytes + count > sizeof state.screen)
            return 6;
        copy_memory(state.screen + state.screen_bytes, far_argument(arguments + 6), count);
        state.screen_bytes += count;
        *(u16 *)far_argument(arguments) = count;
        return 0;
    }
    }
    return 1;
}

/* The 32-bit services. Memory is handed out in pages and never comes back. */
static u32 next_page = 0x28000000;

static u32 lock_spin(u32 *lock)
{
    u32 flags;
    __asm__ volatile("pushfl; popl %0" : "=r"(flags));
    if (flags & 0x400)
        unclean_direction++;
    if (*lock)
        print("a spinlock that is held already\n");
    *lock = 1;
    __asm__ volatile("cli");
    return 0;
}

static u32 unlock_spin(u32 *lock)
{
    if (!*lock)
        print("a spinlock that isn't held\n");
    *lock = 0;
    return 0;
}

static u32 clear_4(u32 *lock) { *lock = 0; return 0; }
static u32 clear_8(u32 *lock) { lock[0] = lock[1] = 0; return 0; }
static u32 nothing(void) { return 0; }

/* Nobody else is there to wake anybody: every wait ends by its time. */
static u32 block(u32 id, u32 milliseconds, u32 flags, u32 *lock, u32 *data)
{
    (void)id, (void)flags, (void)lock, (void)data;
    if (milliseconds == 0xffffffff) {
        print("a wait without end\n");
        leave();
    }
    advance_clock(milliseconds);
    return 640;
}

static u32 wake(u32 id, u32 flags, u32 *count, u32 data)
{
    (void)id, (void)flags, (void)data;
    if (count)
        *count = 0;
    return 0;
}

static u32 copy(void *to, const void *from, u32 bytes)
{
    copy_memory(to, from, bytes);
    return 0;
}

static u32 vm_alloc(u32 bytes, u32 flags, u32 *linear, u32 *physical, u32 *reserved)
{
    (void)reserved;
    if (state.fail_memory)
        return 8;
    if (flags & 0x10) {
        *linear = *physical;
        return 0;
    }
    *linear = next_page;
    if (physical && physical != (u32 *)-1)
        *physical = next_page;
    next_page += (bytes + 4095) & -4096;
    return next_page > 0x30000000 ? 8 : 0;
}

struct run { u32 address, size; };

static u32 page_list(u32 linear, u32 bytes, struct run *list, u32 *count)
{
    if (list) {
        list->address = linear;
        list->size = bytes;
    }
    if (count)
        *count = 1;
    return 0;
}

static u32 vm_lock(u32 flags, u32 linear, u32 bytes, u32 *handle, struct run *list, u32 *count)
{
    (void)flags;
    handle[0] = linear;
    return page_list(linear, bytes, list, count);
}

u32 kernel_ordinal(u16 ordinal)
{
    switch (ordinal) {
    case 10: return (u32)clear_4;
    case 11: return (u32)nothing;
    case 12: return (u32)lock_spin;
    case 13: return (u32)unlock_spin;
    case 20: return (u32)clear_8;
    case 21: case 25: case 26: case 42: case 43: case 61: case 63: return (u32)nothing;
    case 30: return (u32)block;
    case 31: return (u32)wake;
    case 40: return (u32)KernThunkStackTo16;
    case 41: return (u32)KernThunkStackTo32;
    case 50: case 51: return (u32)copy;
    case 60: return (u32)vm_alloc;
    case 62: return (u32)vm_lock;
    case 64: return (u32)page_list;
    case 66: {
        /* The 16:16 address is one argument. */
        extern void *sel_to_flat(u32 far);
        return (u32)sel_to_flat;
    }
    case 90: return (u32)&global_info;
    case 91: return (u32)&local_info;
    case 92: return (u32)&interrupt_level;
    case 94: return 0x00010002;
    }
    return 0;
}

void *sel_to_flat(u32 far)
{
    return flat(far >> 16, far);
}

/* Multiboot: the modules are the driver and the probe. */
void main(u32 *information)
{
    u32 *module = (u32 *)information[6];
    if (!(information[0] & 8) || information[5] != 2) {
        print("there is no driver\n");
        leave();
    }
    run_tests((u8 *)module[0], module[1] - module[0], (u8 *)module[4], module[5] - module[4]);
    leave();
}
