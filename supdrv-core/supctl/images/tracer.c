/* SPDX-License-Identifier: GPL-2.0-only OR CDDL-1.0 */
/*
 * A tracer with a tracepoint of its own: registers both from ModuleInit, fires the probe, and looks at what arrives. The tracepoint object is
 * written by hand here; a build tool makes it elsewhere.
 */
#include "checks.h"

typedef void *handle;
struct location { u32 line_enabled, id; const char *function; const void *probe; u64 padding; };
struct object_header
{
    char magic[24];
    u32 bits, object_bytes, strings[2], arg_lists[2], probes[2], providers[2], counters[2];
    int locations_offset;
    u32 locations_bytes;
    const struct location *locations, *locations_end;
    u8 uuid[16];
    u64 section_start;
    u32 reserved[2];
};
struct probe { u32 name, arg_list; unsigned short counter, provider; int header; };
struct provider { u32 name; unsigned short first, count; u8 attributes[15], reserved; };
struct core { u64 data[2]; const char *name, *module; const void *desc; const struct object_header *header; };
struct user_context { u32 id; u8 bits, reserved[3]; u64 registers[29]; };
struct tracer
{
    u32 magic, version;
    void (*fire_kernel)(struct location *, usize, usize, usize, usize, usize, usize, usize);
    void (*fire_user)(const struct tracer *, handle, const struct user_context *, const struct object_header *, const struct location *);
    int (*open)(const struct tracer *, handle, u32, usize, usize *);
    int (*ioctl)(const struct tracer *, handle, usize, usize, usize, int *);
    void (*close)(const struct tracer *, handle, usize);
    int (*provider_register)(const struct tracer *, struct core *);
    int (*provider_deregister)(const struct tracer *, struct core *);
    int (*provider_deregister_zombie)(const struct tracer *, struct core *);
    usize end_magic;
};

int SUPR0TracerRegisterImpl(handle module, handle session, const struct tracer *tracer, const usize **helpers);
int SUPR0TracerDeregisterImpl(handle module, handle session);
int SUPR0TracerRegisterModule(handle module, struct object_header *header);
int SUPR0TracerRegisterDrv(handle session, struct object_header *header, const char *name);
void SUPR0TracerUmodProbeFire(handle session, struct user_context *context);
void SUPR0TracerFireProbe(struct location *location, usize a0, usize a1, usize a2, usize a3, usize a4, usize a5, usize a6);

#define AREA(member) { __builtin_offsetof(struct object, member), sizeof(((struct object *)0)->member) }
struct object
{
    struct object_header header;
    char strings[32];
    u32 arg_list[3];
    u32 gap;
    struct probe probes[1];
    struct provider providers[1];
    u32 counters[1];
};
extern struct location locations[2];
extern struct object object;

struct object object = {
    .header = {
        .magic = "VTG Object Header v1.5",
        .bits = 64,
        .object_bytes = __builtin_offsetof(struct object, counters) + sizeof(u32),
        .strings = AREA(strings),
        .arg_lists = AREA(arg_list),
        .probes = AREA(probes),
        .providers = AREA(providers),
        .counters = AREA(counters),
        .locations = &locations[0],
        .locations_end = &locations[2],
        .uuid = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16 },
    },
    .strings = "tracertest\0a-probe\0uint32_t",
    .arg_list = { 1, 19, 0x40000104 },
    .probes = { { .name = 11, .header = -(int)__builtin_offsetof(struct object, probes) } },
    .providers = { { .count = 1, .attributes = { 6, 6, 6, 2, 2, 1, 2, 2, 1, 6, 6, 6, 6, 6, 6 } } },
};
struct location locations[2] = {
    { .line_enabled = 10, .function = "first_function", .probe = &object.probes[0] },
    { .line_enabled = 20, .function = "second_function", .probe = &object.probes[0] },
};

static struct { struct location *location; usize args[7]; u32 count; } fired;
static u32 user_probes, providers_known;
static const char *provider_name;

static void fire_kernel(struct location *location, usize a0, usize a1, usize a2, usize a3, usize a4, usize a5, usize a6)
{
    const usize args[7] = { a0, a1, a2, a3, a4, a5, a6 };
    for (u32 i = 0; i < 7; i++)
        fired.args[i] = args[i];
    fired.location = location;
    fired.count++;
}

static void fire_user(const struct tracer *tracer, handle session, const struct user_context *context,
                      const struct object_header *header, const struct location *location)
{
    user_probes++;
}

static int open(const struct tracer *tracer, handle session, u32 cookie, usize arg, usize *data)
{
    if (cookie != 0x7e57)
        return -2;
    *data = arg | 1;
    return 0;
}

static int ioctl(const struct tracer *tracer, handle session, usize data, usize command, usize arg, int *result)
{
    *result = (int)(data + command + arg);
    return 0;
}

static void close(const struct tracer *tracer, handle session, usize data) { }

static int provider_register(const struct tracer *tracer, struct core *core)
{
    providers_known++;
    provider_name = core->name;
    return 0;
}

static int provider_deregister(const struct tracer *tracer, struct core *core)
{
    providers_known--;
    return 0;
}

static const struct tracer tracer = {
    0x19601009, 0x00010000, fire_kernel, fire_user, open, ioctl, close,
    provider_register, provider_deregister, provider_deregister, 0x19601009,
};

static handle self;
static const usize *helpers;
static int tracer_status = 1, second_status = 1, object_status = 1, again_status = 1;

static bool same(const char *one, const char *two)
{
    while (*one && *one == *two)
        one++, two++;
    return *one == *two;
}

CHECK(tracer_is_taken) { WANT(tracer_status == 0 && helpers && helpers[0] == 0x10000 && helpers[1] == 0x10000); return 0; }
CHECK(one_tracer) { WANT(second_status == -3723); return 0; }
CHECK(object_is_taken) { WANT(object_status == 0 && again_status == -3721); return 0; }

CHECK(object_is_completed)
{
    WANT((usize)&object + object.header.locations_offset == (usize)locations);
    WANT(object.header.locations_bytes == sizeof(locations));
    return 0;
}

CHECK(provider_is_presented) { WANT(providers_known == 1 && same(provider_name, "tracertest")); return 0; }

CHECK(only_in_module_init)
{
    const usize *unused;
    WANT(SUPR0TracerRegisterModule(self, &object.header) == -22);
    WANT(SUPR0TracerRegisterImpl(self, NULL, &tracer, &unused) == -22 && unused == NULL);
    WANT(SUPR0TracerRegisterDrv(session, &object.header, "user") == -2);
    WANT(SUPR0TracerDeregisterImpl(NULL, session) == -2);
    return 0;
}

CHECK(kernel_probe)
{
    u32 before = fired.count;
    SUPR0TracerFireProbe(&locations[1], 11, 22, 33, 44, 55, 66, 77);
    WANT(fired.count == before + 1 && fired.location == &locations[1]);
    for (u32 i = 0; i < 7; i++)
        WANT(fired.args[i] == 11 * (i + 1));
    return 0;
}

CHECK(unknown_user_probe)
{
    struct user_context context = { .id = 31u << 24, .bits = 64 };
    SUPR0TracerUmodProbeFire(session, &context);
    SUPR0TracerUmodProbeFire(NULL, &context);
    SUPR0TracerUmodProbeFire(session, NULL);
    WANT(user_probes == 0 && context.id == 31u << 24);
    return 0;
}

static const struct check checks[] = {
    { "a tracer is registered in ModuleInit", tracer_is_taken }, { "there is one tracer", one_tracer },
    { "tracepoints are registered in ModuleInit", object_is_taken }, { "the place of the locations is filled in", object_is_completed },
    { "the provider is presented to the tracer", provider_is_presented }, { "afterwards nothing is registered", only_in_module_init },
    { "a kernel probe arrives with all arguments", kernel_probe }, { "a user probe that nobody registered doesn't", unknown_user_probe },
};

int ModuleInit(void *image)
{
    const usize *unused;
    self = image;
    tracer_status = SUPR0TracerRegisterImpl(image, NULL, &tracer, &helpers);
    second_status = SUPR0TracerRegisterImpl(image, NULL, &tracer, &unused);
    object_status = SUPR0TracerRegisterModule(image, &object.header);
    again_status = SUPR0TracerRegisterModule(image, &object.header);
    return 0;
}

int CheckService(void *session, u32 operation, u64 arg, struct packet *packet)
{
    return run_check(checks, COUNT(checks), session, operation, arg, packet);
}
