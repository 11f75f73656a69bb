/* What the driver does when it is really there: loaded, entered through its 16-bit headers, with its own thunks. */
#include "machine.h"

#define DONE 0x0100
#define UNKNOWN_COMMAND 0x8103
#define GENERAL_FAILURE 0x810c
#define INIT_FAILED 0x810f
#define INIT_FAILED_QUIETLY 0x8115

#define TIME_PAGE_CPUS 0x500
#define HEADER_1 0x00
#define HEADER_2 0x20

static u32 passed, failed;
/* Packets lie within one selector; users' memory is below the kernel's. */
static u8 packet[64] __attribute__((aligned(16)));
static u8 *const user = (u8 *)0x00900000;
static const u8 *file;
static u32 file_bytes;

static void check(const char *what, int as_it_should)
{
    print(as_it_should ? "ok     " : "FAILED ");
    print(what);
    print("\n");
    if (as_it_should)
        passed++;
    else
        failed++;
}

static void new_packet(u8 command, u8 bytes)
{
    set_memory(packet, 0xee, sizeof packet);
    set_memory(packet, 0, 13);
    packet[0] = bytes;
    packet[2] = command;
    /* Stale, and of no meaning. */
    packet[3] = 0x5a;
}

static void put_word(void *to, u16 value) { copy_memory(to, &value, 2); }
static void put_dword(void *to, u32 value) { copy_memory(to, &value, 4); }

static u16 command(u16 header, u8 number)
{
    new_packet(number, 13);
    return request(header, packet);
}

static u16 with_sfn(u8 number, u16 sfn)
{
    new_packet(number, 15);
    put_word(packet + 13, sfn);
    return request(HEADER_1, packet);
}

static u16 init(u16 header)
{
    extern void devhlp_16(void);
    static char arguments[] = "C:\\VBOXDRV.SYS /option";
    new_packet(0, 30);
    put_word(packet + 14, (u32)devhlp_16 - (u32)code16);
    put_word(packet + 16, CODE16);
    set_selector(USER, (u32)arguments, 0xffff, DATA_ACCESS, 0);
    put_word(packet + 18, 0);
    put_word(packet + 20, USER);
    return request(header, packet);
}

static u16 ioctl(u16 sfn, u8 category, u8 function, u32 parameter, u16 bytes)
{
    new_packet(0x10, 0x1d);
    packet[13] = category;
    packet[14] = function;
    put_dword(packet + 15, parameter);
    put_dword(packet + 19, 0);
    put_word(packet + 23, sfn);
    put_word(packet + 25, bytes);
    put_word(packet + 27, 0);
    return request(HEADER_1, packet);
}

/* A handshake in a user's memory; its 16:16 address. */
static u32 handshake(void)
{
    static const char magic[16] = "The Magic Word!";
    set_memory(user, 0, 4096);
    put_dword(user, 0x69726f74);
    put_dword(user + 8, 0x30);
    put_dword(user + 12, 0x30);
    put_dword(user + 16, 0x42000042);
    put_dword(user + 20, 0xffffffff);
    copy_memory(user + 24, magic, 16);
    put_dword(user + 40, 0x001a0007);
    put_dword(user + 44, 0x001a0000);
    set_selector(USER, (u32)user, 0xffff, DATA_ACCESS, 0);
    return USER << 16;
}

static int load(const u32 *bases)
{
    reset_state();
    unclean_thunk = 0;
    return load_driver(file, file_bytes, bases, &current);
}

static int is_zero(const u8 *bytes, u32 count)
{
    while (count--)
        if (*bytes++)
            return 0;
    return 1;
}

static int is_same(const void *left, const void *right, u32 count)
{
    for (u32 at = 0; at < count; at++)
        if (((const u8 *)left)[at] != ((const u8 *)right)[at])
            return 0;
    return 1;
}

static void failed_start(void)
{
    static const u32 bases[8] = { 0x20030000, 0x20010000, 0x21000000, 0x20070000 };
    check("the image can be loaded", load(bases));
    check("an open before INIT fails, and nothing is begun", with_sfn(0x0d, 5) == INIT_FAILED && !state.devhlp_calls);
    check("header 1's INIT succeeds by itself", init(HEADER_1) == DONE && state.opens == 0);
    state.fail_virt_to_lin = 1;
    check("header 2's INIT fails without a word if ring 0 isn't to be had", init(HEADER_2) == INIT_FAILED);
    check("it said so in no message, and gives its memory back", !state.screen_bytes && is_zero(packet + 14, 4));
    check("ring 0 was asked once", state.opens == 1 && state.closes == 0);
    state.fail_virt_to_lin = 0;
    check("later opens fail", with_sfn(0x0d, 6) == INIT_FAILED);
    check("other requests aren't known", command(HEADER_1, 0x1c) == UNKNOWN_COMMAND);
    check("a second INIT isn't known", init(HEADER_1) == UNKNOWN_COMMAND && init(HEADER_2) == UNKNOWN_COMMAND);
    check("no clock ticks are wanted", state.timer == 0);
}

static void start_without_memory(void)
{
    static const u32 bases[8] = { 0x20110000, 0x20350000, 0x20c00000, 0x20d00000 };
    static const char begin[] = "VBoxDrv.sys: not loaded, status -";
    check("the image can be loaded once more", load(bases) && init(HEADER_1) == DONE);
    state.fail_memory = 1;
    check("header 2's INIT fails without memory, without a prompt", init(HEADER_2) == INIT_FAILED_QUIETLY);
    check("it says why", state.screen_bytes > sizeof begin && is_same(state.screen, begin, sizeof begin - 1));
    check("nothing of the driver stays", is_zero(packet + 14, 4) && state.timer == 0);
    check("and it can't be opened", with_sfn(0x0d, 6) == INIT_FAILED);
}

static void headers(void)
{
    u8 *first = flat(current.selector[0], HEADER_1), *second;
    check("header 1 is at the start of the data, and leads to header 2",
          word_at(first) == HEADER_2 && word_at(first + 2) == current.selector[0]);
    second = flat(word_at(first + 2), word_at(first));
    check("header 2 is the last", dword_at(second) == 0xffffffff);
}

static void print_decimal(u32 number);

/* Kernel stacks are a few KiB, and interrupts are served on them too: requests may take some of that, ticks next to nothing. */
#define REQUEST_STACK 2048
#define TICK_STACK 512
#define START_STACK 4096

static void stack(const char *what, u32 limit)
{
    u32 used = used_stack();
    print("       ");
    print(what);
    print(": ");
    print_decimal(used);
    print(" bytes of stack\n");
    check("which is within its limit", used > 64 && used < limit);
}

static void start(void)
{
    u16 code_end, data_end;
    /* Elsewhere, in another order. */
    static const u32 bases[8] = { 0x20510000, 0x20220000, 0x20800000, 0x20400000 };
    check("the image can be loaded elsewhere", load(bases));
    headers();
    check("header 2 knows INIT alone", command(HEADER_2, 0x0d) == UNKNOWN_COMMAND && state.opens == 0);
    check("header 1's INIT succeeds", init(HEADER_1) == DONE);
    code_end = word_at(packet + 14);
    data_end = word_at(packet + 16);
    fill_stack();
    check("header 2's INIT succeeds", init(HEADER_2) == DONE);
    stack("initialisation, with the stand-in's own", START_STACK);
    check("both say the same of what stays", word_at(packet + 14) == code_end && word_at(packet + 16) == data_end);
    check("less than what is there stays",
          code_end && code_end < current.size[1] && data_end >= HEADER_2 + 0x1e && data_end < current.size[0]);
    check("it opened and closed the device once", state.opens == 1 && state.closes == 1);
    check("it printed a line", state.screen_bytes > 10 && state.screen[state.screen_bytes - 1] == '\n');
    check("it counted one CPU",
          !state.screen[state.screen_bytes] && state.screen[state.screen_bytes - 4] == ' '
          && state.screen[state.screen_bytes - 3] == '1');
    print("       ");
    print(state.screen);
    check("there is no unit", packet[13] == 0);
    /* What INIT said isn't needed any more, isn't there any more. */
    set_selector(current.selector[0], current.base[0], data_end - 1, DATA_ACCESS, 0);
    set_selector(current.selector[1], current.base[1], code_end - 1, CODE_ACCESS, 0);
    set_memory((u8 *)current.base[0] + data_end, 0xcc, current.size[0] - data_end);
    set_memory((u8 *)current.base[1] + code_end, 0xcc, current.size[1] - code_end);
    check("a second INIT isn't known", init(HEADER_1) == UNKNOWN_COMMAND && init(HEADER_2) == UNKNOWN_COMMAND);
}

static void requests(void)
{
    u32 address;
    check("the device can be opened", with_sfn(0x0d, 5) == DONE);
    address = handshake();
    check("a handshake succeeds", ioctl(5, 0xc0, 1, address, 24) == DONE && dword_at(user + 20) == 0);
    check("its answer is in the user's memory", dword_at(user + 24) != 0 && dword_at(user + 0x20) == 0x001a0007
          && dword_at(user + 0x2c) >= 0x20000000);
    check("the packet says how long it is", word_at(packet + 25) == 24 && word_at(packet + 27) == 0);
    handshake();
    check("a parameter packet of another size is refused", ioctl(5, 0xc0, 1, address, 25) == GENERAL_FAILURE);
    check("a null pointer is refused", ioctl(5, 0xc0, 1, 0x00030000, 24) == GENERAL_FAILURE);
    check("another file has no session", ioctl(6, 0xc0, 1, address, 24) == GENERAL_FAILURE);
    check("another category isn't known", ioctl(5, 0x85, 1, address, 24) == UNKNOWN_COMMAND);
    check("a fast request without a machine fails", ioctl(5, 0xc1, 0x42, 0, 0) == GENERAL_FAILURE);
    state.fail_virt_to_lin = 1;
    check("a pointer that the kernel can't resolve is refused", ioctl(5, 0xc0, 1, address, 24) == GENERAL_FAILURE);
    state.fail_virt_to_lin = 0;
    check("writes aren't known", command(HEADER_1, 0x08) == UNKNOWN_COMMAND);
    check("the device can be closed", with_sfn(0x0e, 5) == DONE);
    check("then it has no session", ioctl(5, 0xc0, 1, address, 24) == GENERAL_FAILURE);
}

/* A request without input, with the cookies of the handshake; its status. */
static u32 simple(u8 function, const u32 *cookies, u32 out_bytes)
{
    set_memory(user, 0, 4096);
    copy_memory(user, cookies, 8);
    put_dword(user + 8, 24);
    put_dword(user + 12, out_bytes);
    put_dword(user + 16, 0x42000042);
    put_dword(user + 20, 0xffffffff);
    return ioctl(5, 0xc0, function, USER << 16, 24) == DONE ? dword_at(user + 20) : 1;
}

/* The page that shows processes the time, which ticks keep up to date. */
static void time_page(void)
{
    u32 cookies[2];
    u8 *page, *cpu;
    u32 id, nanoseconds;
    check("the device can be opened again", with_sfn(0x0d, 5) == DONE);
    ioctl(5, 0xc0, 1, handshake(), 24);
    copy_memory(cookies, user + 24, 8);
    check("the time page can be mapped", simple(20, cookies, 0x28) == 0);
    check("by VMGlobalToProcess, not to be written", state.last_devhlp == 0x5a && !(state.frame.eax & 1));
    page = (u8 *)dword_at(user + 0x20);
    check("it is a time page", dword_at(page) == 0x19590106 && dword_at(page + 4) == 0x00030000);
    cpu = page + TIME_PAGE_CPUS;
    id = dword_at(cpu);
    nanoseconds = dword_at(cpu + 8);
    for (u32 tick = 0; tick < 10; tick++) {
        advance_clock(32);
        call((struct registers) { .ds = current.selector[0], .es = VARIABLES, .ip = state.timer, .cs = current.selector[1] });
    }
    check("ten ticks are up to ten updates", dword_at(cpu) >= id + 16 && dword_at(cpu) <= id + 20 && !(dword_at(cpu) & 1));
    check("in which time went on", dword_at(cpu + 8) - nanoseconds >= 256000000 && dword_at(cpu + 8) - nanoseconds <= 352000000);
    check("it can be unmapped", simple(21, cookies, 24) == 0);
    check("by VMFree", state.last_devhlp == 0x58 && state.frame.eax == (u32)page);
    check("and the device closed", with_sfn(0x0e, 5) == DONE);
}

/* The log goes to a physical address, by way of a selector that is just long enough. */
static u16 read_log(u8 *buffer, u16 room)
{
    new_packet(0x04, 24);
    packet[13] = 0;
    put_dword(packet + 14, (u32)buffer);
    put_word(packet + 18, room);
    put_dword(packet + 20, 0);
    put_word(packet + 22, 5);
    set_memory(buffer, 0xaa, room + 1);
    check("the log can be read", request(HEADER_1, packet) == DONE);
    check("no more than was asked for was written", word_at(packet + 18) <= room && buffer[room] == 0xaa);
    return word_at(packet + 18);
}

static void reads(int (*printf)(const char *format, ...))
{
    u8 *buffer = user + 0x2345;
    u16 count;
    while (read_log(buffer, 500) == 500)
        ;
    printf("%d and %s\n", 42, "text");
    count = read_log(buffer, 500);
    check("what a sibling printed is in the log", count == 12 && is_same(buffer, "42 and text\n", 12) && buffer[12] == 0xaa);
    printf("012345678\n");
    check("short buffers get the beginning", read_log(buffer, 4) == 4 && is_same(buffer, "0123", 4));
    check("and then the rest", read_log(buffer, 20) == 6 && is_same(buffer, "45678\n", 6));
    check("then there is no more", read_log(buffer, 20) == 0);
}

static void ticks(void)
{
    struct registers before = { .eax = 0x11112222, .ebx = 0x33334444, .ecx = 0x55556666, .edx = 0x77778888,
                                .esi = 0x9999aaaa, .edi = 0xbbbbcccc, .ebp = 0xddddeeee, .es = VARIABLES };
    struct registers after;
    int same = 1;
    check("clock ticks are wanted", state.timer != 0);
    before.ds = PACKET;
    before.ip = state.timer;
    before.cs = current.selector[1];
    for (u32 tick = 0; tick < 100; tick++) {
        advance_clock(32);
        after = call(before);
        for (u32 at = 0; at < sizeof before; at++)
            same &= ((u8 *)&before)[at] == ((u8 *)&after)[at];
    }
    check("100 ticks later all registers are what they were", same);
}

static void siblings(void)
{
    u8 block[32], *header = flat(current.selector[0], HEADER_1);
    u8 connect[0x20];
    int (*idc)(u32 code, void *packet), (*printf)(const char *format, ...);
    struct registers with = { .ds = current.selector[0], .cs = current.selector[1], .ip = word_at(header + 8) };

    check("header 1 has an entry for siblings", (word_at(header + 4) & 0x4000) && with.ip);
    set_memory(block, 0xee, sizeof block);
    set_selector(IDC_BLOCK, (u32)block, sizeof block - 1, DATA_ACCESS, 0);
    with.argument = IDC_BLOCK << 16;
    call(with);
    check("it fills in its version and its function",
          dword_at(block) == 0x00010000 && dword_at(block + 4) == 0 && dword_at(block + 8) >= current.base[2]
          && dword_at(block + 8) < current.base[2] + current.size[2]);
    check("20 bytes and no more", is_zero(block + 12, 8) && block[20] == 0xee);
    idc = (void *)dword_at(block + 8);
    set_memory(connect, 0, sizeof connect);
    put_dword(connect, 0x20);
    put_dword(connect + 0x10, 0x69726f74);
    put_dword(connect + 0x14, 0x00010000);
    put_dword(connect + 0x18, 0x00010000);
    check("a sibling can connect", idc(0xc0ffee01, connect) == 0 && dword_at(connect + 4) == 0
          && dword_at(connect + 8) != 0 && dword_at(connect + 8) == dword_at(connect + 0x10));
    put_dword(connect, 0x18);
    put_dword(connect + 0x10, 0);
    put_dword(connect + 0x14, (u32)"SUPR0Printf");
    check("it can ask for a function", idc(0xc0ffee03, connect) == 0 && dword_at(connect + 4) == 0);
    printf = (void *)dword_at(connect + 0x10);
    check("which is in the driver's code",
          (u32)printf >= current.base[2] && (u32)printf < current.base[2] + current.size[2]);
    reads(printf);
    put_dword(connect, 0x10);
    check("and disconnect", idc(0xc0ffee02, connect) == 0);
    put_dword(connect + 8, 0);
    check("others than it are refused", idc(0xc0ffee03, connect) == -2);
}

static void stacks(void)
{
    u32 address;
    fill_stack();
    with_sfn(0x0d, 5);
    stack("open", REQUEST_STACK);
    address = handshake();
    fill_stack();
    ioctl(5, 0xc0, 1, address, 24);
    stack("handshake", REQUEST_STACK);
    fill_stack();
    call((struct registers) { .ds = current.selector[0], .es = VARIABLES, .ip = state.timer, .cs = current.selector[1] });
    stack("clock tick", TICK_STACK);
    fill_stack();
    with_sfn(0x0e, 5);
    stack("close", REQUEST_STACK);
}

/* One of the probe's services; the packet has what came of it. */
static u32 service(u8 number, u32 first, u32 second, u32 third, u32 fourth)
{
    u32 arguments[] = { first, second, third, fourth };
    new_packet(0x10, 47);
    packet[14] = number;
    copy_memory(packet + 15, arguments, sizeof arguments);
    if (request(HEADER_1, packet) != DONE)
        return 0xffffffff;
    check("C's registers are kept, and its stack is aligned", dword_at(packet + 35) == 1 && !dword_at(packet + 43));
    return dword_at(packet + 31);
}

#define CALLED(number) (state.last_devhlp == (number))

/* The shell with a probe instead of the Rust half: each service by itself, and what the kernel is given for it. */
static void services(const u8 *probe, u32 bytes)
{
    static const u32 bases[8] = { 0x20100000, 0x20330000, 0x20900000, 0x20a00000 };
    static const char text[] = "the end";
    u32 result = 0, driver_data = 0;

    reset_state();
    check("the probe can be loaded", load_driver(probe, bytes, bases, &current));
    check("it starts", init(HEADER_1) == DONE && init(HEADER_2) == DONE);
    check("what Rust has to say is printed", is_same(state.screen, "probe: ready\r\n", state.screen_bytes) && state.screen_bytes == 14);
    driver_data = current.selector[0];

    check("VirtToLin succeeds", service(0, USER << 16 | 0x1234, (u32)&result, 0, 0) == 0);
    check("with selector and offset", CALLED(0x5b) && (u16)state.frame.eax == USER && state.frame.esi == 0x1234);
    check("and the result is stored", result == (u32)flat(USER, 0x1234));

    set_memory(user, 0xaa, 16);
    check("copies to physical memory succeed", service(1, (u32)user + 1, (u32)text, 7, 0) == 0);
    check("with the address, its length, and a result in ES", CALLED(0x15) && (state.frame.edx >> 8 & 0xff) == 1
          && (u16)state.frame.eax == (u32)user >> 16 && (u16)state.frame.ebx == ((u32)user & 0xffff) + 1 && (u16)state.frame.ecx == 7);
    check("and the bytes are there", user[0] == 0xaa && is_same(user + 1, text, 7) && user[8] == 0xaa);
    state.devhlp_calls = 0;
    check("copies of nothing are no work", service(1, (u32)user, 0, 0, 0) == 0 && !state.devhlp_calls);
    check("copies that no selector reaches are refused", service(1, (u32)user, (u32)text, 0x10000, 0) == 87 && !state.devhlp_calls);

    check("VMGlobalToProcess succeeds", service(2, 1, 0x28001000, 0x3000, (u32)&result) == 0);
    check("with flags, address and length", CALLED(0x5a) && state.frame.eax == 1 && state.frame.ebx == 0x28001000 && state.frame.ecx == 0x3000);
    check("and the result is stored", result == 0x28001000);

    check("VMFree succeeds", service(3, 0x12345000, 0, 0, 0) == 0);
    check("with the address", CALLED(0x58) && state.frame.eax == 0x12345000);

    check("SetTimer succeeds", service(4, 1, 0, 0, 0) == 0 && CALLED(0x1d) && state.timer);
    call((struct registers) { .ds = driver_data, .es = VARIABLES, .ip = state.timer, .cs = current.selector[1] });
    call((struct registers) { .ds = driver_data, .es = VARIABLES, .ip = state.timer, .cs = current.selector[1] });
    check("ticks arrive", service(6, 0, 0, 0, 0) == 0 && dword_at(packet + 39) == 2);
    check("which was a yield", CALLED(0x02));
    check("ResetTimer succeeds", service(4, 0, 0, 0, 0) == 0 && CALLED(0x1e) && !state.timer);

    check("GetDOSVar succeeds", service(5, 0x14, 0, (u32)&result, 0) == 0);
    check("with index and member", CALLED(0x24) && (state.frame.eax & 0xff) == 0x14 && (u16)state.frame.ecx == 0);
    check("and the variable can be read", *(u8 *)result == 1);
    check("a variable that isn't there is an error", service(5, 0x15, 0, (u32)&result, 0) != 0);

    service(7, (u32)text, sizeof text - 1, 0, 0);
    check("InternalError is told the text, in the driver's data", CALLED(0x2b) && state.frame.ds == driver_data
          && (u16)state.frame.edi == 7 && is_same(flat(driver_data, state.frame.esi), text, 7));
    set_memory(user, 'x', 0x3000);
    service(7, (u32)user, 0x3000, 0, 0);
    check("or as much of it as there is room for", (u16)state.frame.edi == 2048);

    state.fail_devhlp = 0xdead0008;
    result = 0x5555;
    check("errors are 16 bits", service(0, USER << 16, (u32)&result, 0, 0) == 8 && service(2, 0, 0, 0, (u32)&result) == 8
          && service(3, 0, 0, 0, 0) == 8 && service(4, 1, 0, 0, 0) == 8 && service(6, 0, 0, 0, 0) == 8
          && service(5, 7, 0, (u32)&result, 0) == 8 && service(1, (u32)user, (u32)text, 7, 0) == 8);
    check("and nothing is stored", result == 0x5555);
    state.fail_devhlp = 0xdead0000;
    check("an error without a number is one nevertheless", service(3, 0, 0, 0, 0) == 31);
}

static void print_decimal(u32 number)
{
    if (number >= 10)
        print_decimal(number / 10);
    print((char[]) { '0' + number % 10, 0 });
}

void run_tests(const u8 *driver, u32 bytes, const u8 *probe, u32 probe_bytes)
{
    file = driver;
    file_bytes = bytes;
    failed_start();
    start_without_memory();
    start();
    requests();
    time_page();
    ticks();
    siblings();
    stacks();
    check("the machine can go down", command(HEADER_1, 0x1c) == DONE);
    services(probe, probe_bytes);
    check("stack pointers were always clean for the kernel's thunks", unclean_thunk == 0);
    check("the direction flag was clear whenever 32-bit services were called", !unclean_direction);
    print_decimal(passed);
    print(" passed, ");
    print_decimal(failed);
    print(" failed\n");
}
