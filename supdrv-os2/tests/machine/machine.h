/* The stand-in for OS/2's kernel, as its parts see each other. */
#ifndef MACHINE_H
#define MACHINE_H

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;

/* What 16-bit code is called with, and what it leaves. */
struct registers {
    u32 eax, ebx, ecx, edx, esi, edi, ebp;
    u16 ds, es;
    u16 ip, cs;
    u32 argument;           /* on the stack, as C has it */
};

/* A loaded driver. */
struct driver {
    u32 objects;
    u32 base[8], size[8];
    u16 selector[8];
};

/* start.asm */
extern struct registers registers;
extern u32 stack_base;
extern u8 code16[], stack_area[];
void call_16(void);

/* Registers as the 16-bit entry of the services saved them. */
struct frame {
    u32 edi, esi, ebp, esp, ebx, edx, ecx, eax;
    u16 es, ds;
};

/* kernel.c */
extern u32 unclean_thunk, unclean_direction;
extern struct state {
    u32 devhlp_calls, last_devhlp;
    int fail_memory;
    struct frame frame;     /* at the last DevHlp call */
    u32 fail_devhlp;        /* EAX at the end of all of them, which fail; 0 if they don't */
    u16 timer;              /* offset of the tick handler, 0 if none */
    int fail_virt_to_lin;   /* this one alone */
    char screen[1024];
    u32 screen_bytes;
    u32 opens, closes;
    u16 next_sfn;
} state;
void reset_state(void);
extern struct driver current;
struct registers call(struct registers with);
u16 request(u16 header_offset, void *packet);
void set_selector(u16 selector, u32 base, u32 limit, u8 access, u8 width);
void *flat(u16 selector, u16 offset);
void print(const char *text);
void print_number(u32 number);
void fill_stack(void);
u32 used_stack(void);
void advance_clock(u32 milliseconds);
void leave(void) __attribute__((noreturn));

/* load.c */
int load_driver(const u8 *file, u32 bytes, const u32 *bases, struct driver *driver);
u32 kernel_ordinal(u16 ordinal);

/* tests.c */
void run_tests(const u8 *driver, u32 bytes, const u8 *probe, u32 probe_bytes);

#define FLAT_DATA 0x168
#define FLAT_CODE 0x170
#define CODE16 0x40
#define STACK16 0x30
#define PACKET 0x50         /* request packets */
#define USER 0x60           /* memory of a process */
#define PHYSICAL 0x58       /* what PhysToVirt shows */
#define VARIABLES 0x68      /* of GetDOSVar */
#define IDC_BLOCK 0x78
#define FIRST_OBJECT 0x400  /* 16-bit selectors of the driver's objects */

#define CODE_ACCESS 0x9b
#define DATA_ACCESS 0x93
#define WIDE 0xc0           /* 32-bit, in pages */

static inline void *set_memory(void *to, int byte, u32 bytes)
{
    for (u32 at = 0; at < bytes; at++)
        ((volatile u8 *)to)[at] = byte;
    return to;
}

static inline void copy_memory(void *to, const void *from, u32 bytes)
{
    for (u32 at = 0; at < bytes; at++)
        ((volatile u8 *)to)[at] = ((const u8 *)from)[at];
}

static inline u16 word_at(const void *at)
{
    const u8 *bytes = at;
    return bytes[0] | bytes[1] << 8;
}

static inline u32 dword_at(const void *at)
{
    return word_at(at) | (u32)word_at((const u8 *)at + 2) << 16;
}

#endif
