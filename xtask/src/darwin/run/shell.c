/* The C++ half by itself: its classes, on stand-ins for the classes above them and for the Rust half. */
#include "host.h"

/* Places in the tables of virtual functions. */
enum {
    DELETING_DESTRUCTOR = 1,
    RELEASE = 5,
    GET_META_CLASS = 7,
    META_ALLOC = 17,
    FREE = 18,
    REMOVE = 35,
    GET_PHYSICAL_SEGMENT = 39,
    PREPARE = 62,
    COMPLETE = 63,
    START = 184,
    STOP = 185,
    TERMINATE = 192,
    INIT_WITH_TASK = 285,
    CLIENT_CLOSE = 286,
};

struct object {
    void **functions;
    uint64_t rest[40];
};

#define CALL(type, object, slot, ...) ((type)((object)->functions[slot]))(object, ##__VA_ARGS__)
typedef int (*bool_function)(void *, ...);

/* ---- the kernel's runtime ---- */

struct meta {
    void **functions;
    void *expansion;
    struct meta *super;
    const char *name;
    uint32_t size, instances;
};

static int registered, unregistered, out_of_memory, allocated;
static uint64_t deleted_size;

static void meta_constructor(struct meta *meta, const char *name, struct meta *super, uint32_t size)
{
    meta->super = super;
    meta->name = name;
    meta->size = size;
    registered++;
}

static void meta_destructor(struct meta *meta)
{
    (void)meta;
    unregistered++;
}

static void instance_constructed(struct meta *meta)
{
    meta->instances++;
}

static void *new_object(uint64_t size)
{
    if (out_of_memory)
        return NULL;
    allocated++;
    return calloc(1, size);
}

static void delete_object(void *object, uint64_t size)
{
    allocated--;
    deleted_size = size;
    free(object);
}

static void super_constructor(struct object *object, struct meta *meta)
{
    (void)meta;
    object->rest[0] = 1;
}

static void super_destructor(struct object *object)
{
    (void)object;
}

static void *safe_meta_cast(struct object *object, struct meta *wanted)
{
    struct meta *meta = object ? CALL(struct meta * (*)(void *), object, GET_META_CLASS) : NULL;
    while (meta && meta != wanted)
        meta = meta->super;
    return meta ? object : NULL;
}

/* ---- the classes above ---- */

static int super_start_result, super_starts, super_stops, registrations, super_terminations, super_inits, super_frees;
static uint32_t terminate_options;
static void *init_task, *init_security;
static uint32_t init_type;

static int super_start(void *this, void *provider)
{
    (void)this, (void)provider;
    super_starts++;
    return super_start_result;
}

static void super_stop(void *this, void *provider)
{
    (void)this, (void)provider;
    super_stops++;
}

static int super_terminate(void *this, uint32_t options)
{
    (void)this;
    super_terminations++;
    terminate_options = options;
    return 1;
}

static int super_init_with_task(void *this, void *task, void *security, uint32_t type)
{
    (void)this;
    super_inits++;
    init_task = task;
    init_security = security;
    init_type = type;
    return 1;
}

static void super_free(void *this)
{
    (void)this;
    super_frees++;
}

static void register_service(void *this, uint32_t options)
{
    (void)this, (void)options;
    registrations++;
}

static int wrong_slot(void)
{
    check(0, "no other function of a class above is called");
    return 0;
}

static void fill(const char *table, int slots)
{
    void **functions = data(table);
    for (int i = 2; i < slots + 2; i++)
        functions[i] = (void *)wrong_slot;
    functions[2 + START] = (void *)super_start;
    functions[2 + STOP] = (void *)super_stop;
    functions[2 + TERMINATE] = (void *)super_terminate;
    functions[2 + FREE] = (void *)super_free;
    if (slots > INIT_WITH_TASK)
        functions[2 + INIT_WITH_TASK] = (void *)super_init_with_task;
}

/* ---- the Rust half ---- */

static int may_terminate, client_start_result, client_starts, client_closes, starts, stops;
static void *client_seen, *kmod_seen;

static int rust_start(void *kmod)
{
    starts++;
    kmod_seen = kmod;
    return 5;
}

static int rust_stop(void *kmod)
{
    stops++;
    kmod_seen = kmod;
    return 0;
}

static int rust_may_terminate(void *kmod)
{
    kmod_seen = kmod;
    return may_terminate;
}

static int rust_client_start(void *client)
{
    client_starts++;
    client_seen = client;
    return client_start_result;
}

static void rust_client_close(void *client)
{
    client_closes++;
    client_seen = client;
}

static struct object *my_task = (void *)0x7a5c;

static void *current_task(void)
{
    return my_task;
}

static int kernel_printf(const char *format, ...)
{
    (void)format;
    return 0;
}

/* ---- the checks ---- */

static struct object *make(const char *class, struct meta **meta)
{
    char name[100];
    snprintf(name, sizeof name, "__ZN%s10gMetaClassE", class);
    *meta = symbol(name);
    return CALL(struct object * (*)(void *), *meta, META_ALLOC);
}

static void check_service(void)
{
    struct meta *meta;
    struct object *service = make("21org_virtualbox_SupDrv", &meta);
    check(strcmp(meta->name, "org_virtualbox_SupDrv") == 0 && meta->super == data("__ZN9IOService10gMetaClassE")
              && meta->size == 0x88,
          "the service's class is registered with its name, size and class above");
    check(service && meta->instances == 1 && service->functions == (void **)symbol("__ZTV21org_virtualbox_SupDrv") + 2,
          "an instance has the class's functions");
    super_start_result = 0;
    check(!(CALL(bool_function, service, START, NULL) & 0xff) && registrations == 0,
          "the service isn't published if it can't start");
    super_start_result = 1;
    check((CALL(bool_function, service, START, NULL) & 0xff) && registrations == 1,
          "the service is published when it starts");
    may_terminate = 0;
    check(!(CALL(bool_function, service, TERMINATE, 7) & 0xff) && super_terminations == 0,
          "a service in use isn't terminated");
    check(kmod_seen == symbol("_kmod_info"), "the module's description is passed along");
    may_terminate = 1;
    check((CALL(bool_function, service, TERMINATE, 7) & 0xff) && super_terminations == 1 && terminate_options == 7,
          "a service that isn't in use is terminated");
    CALL(void (*)(void *), service, DELETING_DESTRUCTOR);
    check(allocated == 0 && deleted_size == 0x88, "a deleted service gives back its memory");
    out_of_memory = 1;
    check(CALL(struct object * (*)(void *), meta, META_ALLOC) == NULL && meta->instances == 1,
          "without memory there is no instance");
    out_of_memory = 0;
    super_terminations = super_starts = 0;
}

static int initialise(struct object *client, void *task, uint32_t type)
{
    return CALL(bool_function, client, INIT_WITH_TASK, task, (void *)0x5ec, type) & 0xff;
}

static void check_client(void)
{
    struct meta *meta, *service_meta;
    struct object *service = make("21org_virtualbox_SupDrv", &service_meta);
    struct object *client = make("27org_virtualbox_SupDrvClient", &meta);
    check(strcmp(meta->name, "org_virtualbox_SupDrvClient") == 0
              && meta->super == data("__ZN12IOUserClient10gMetaClassE") && meta->size == 0xd8,
          "the client's class is registered with its name, size and class above");
    check(!initialise(client, NULL, 0x64726962), "a client without a task is refused");
    check(!initialise(client, my_task, 0), "a client that doesn't know the cookie is refused");
    check(!initialise(client, (void *)0x1234, 0x64726962), "a client for another task is refused");
    check(super_inits == 0, "refused clients aren't initialised");
    check(initialise(client, my_task, 0x64726962) && super_inits == 1 && init_task == my_task
              && init_security == (void *)0x5ec && init_type == 0x64726962,
          "a client with cookie is initialised with what it came with");
    check(client_starts == 0, "no process is reserved before the client starts");

    check(!(CALL(bool_function, client, START, client) & 0xff) && super_starts == 0,
          "a client of another service is refused");
    super_start_result = 0;
    check(!(CALL(bool_function, client, START, service) & 0xff) && client_starts == 0,
          "a client that IOKit can't start reserves nothing");
    super_start_result = 1;
    client_start_result = 17;
    check(!(CALL(bool_function, client, START, service) & 0xff) && client_starts == 1 && super_stops == 1,
          "a client that is refused is stopped again");
    client_start_result = 0;
    check((CALL(bool_function, client, START, service) & 0xff) && client_seen == client && super_stops == 1,
          "a client starts, and is known by its address");

    super_terminations = 0;
    check(CALL(bool_function, client, CLIENT_CLOSE) == 0 && client_closes == 1 && client_seen == client
              && super_terminations == 1,
          "closing ends the session at once, then the client");
    check(CALL(bool_function, client, CLIENT_CLOSE) == 0 && client_closes == 2, "closing may be repeated");
    CALL(void (*)(void *), client, FREE);
    check(client_closes == 3 && super_frees == 1, "a client that goes leaves nothing under its address");
    CALL(void (*)(void *), client, DELETING_DESTRUCTOR);
    CALL(void (*)(void *), service, DELETING_DESTRUCTOR);
    check(allocated == 0, "deleted clients give back their memory");
}

/* ---- memory ---- */

static int prepares, completes, releases, removes, prepare_result;
static uint64_t segment_length;
static struct {
    uint64_t address, bytes, offset;
    void *task;
    uint32_t options;
} asked;

static int prepare(void *this, uint32_t direction)
{
    (void)this, (void)direction;
    prepares++;
    return prepare_result;
}

static int complete(void *this, uint32_t direction)
{
    (void)this, (void)direction;
    completes++;
    return 0;
}

static void release(void *this)
{
    (void)this;
    releases++;
}

static void remove_notifier(void *this)
{
    (void)this;
    removes++;
}

static uint64_t physical_segment(void *this, uint64_t offset, uint64_t *length, uint32_t options)
{
    (void)this;
    asked.offset = offset;
    asked.options = options;
    *length = segment_length;
    return 0x12345000 + offset;
}

static void *descriptor_functions[70];
static struct object descriptor = {.functions = descriptor_functions};

static void *buffer(void *task, uint32_t options, uint64_t bytes, uint64_t mask)
{
    asked.task = task;
    asked.options = options;
    asked.bytes = bytes;
    asked.address = mask;
    return bytes ? &descriptor : NULL;
}

static void *bytes_of(void *this)
{
    (void)this;
    return (void *)0xffffff8012345000;
}

static void *range(uint64_t address, uint64_t bytes, uint32_t options, void *task)
{
    asked.task = task;
    asked.options = options;
    asked.bytes = bytes;
    asked.address = address;
    return &descriptor;
}

static void *mapping(void *this, void *task, uint64_t address, uint32_t options, uint64_t offset, uint64_t bytes)
{
    (void)this, (void)address;
    asked.task = task;
    asked.options = options;
    asked.offset = offset;
    asked.bytes = bytes;
    return bytes ? &descriptor : NULL;
}

static void check_memory(void)
{
    void *(*allocate)(uint32_t, uint64_t, uint64_t, uint64_t *) = symbol("_supdrv_glue_alloc");
    void *(*describe)(void *, uint64_t, uint64_t, uint32_t) = symbol("_supdrv_glue_describe");
    uint64_t (*phys)(void *, uint64_t) = symbol("_supdrv_glue_phys");
    void (*give_back)(void *) = symbol("_supdrv_glue_free");
    void *(*map)(void *, void *, uint32_t, uint64_t, uint64_t, uint64_t *) = symbol("_supdrv_glue_map");
    void (*unmap)(void *) = symbol("_supdrv_glue_unmap");
    void (*remove)(void *) = symbol("_supdrv_glue_remove_notifier");
    uint64_t address = 0;
    *(void **)data("_kernel_task") = (void *)0x6e1;
    for (int i = 0; i < 70; i++)
        descriptor_functions[i] = (void *)wrong_slot;
    descriptor_functions[RELEASE] = (void *)release;
    descriptor_functions[PREPARE] = (void *)prepare;
    descriptor_functions[COMPLETE] = (void *)complete;
    descriptor_functions[GET_PHYSICAL_SEGMENT] = (void *)physical_segment;

    check(allocate(0x10813, 8192, 0xfffff000, &address) == &descriptor && address == 0xffffff8012345000
              && asked.task == (void *)0x6e1 && asked.options == 0x10813 && asked.bytes == 8192
              && asked.address == 0xfffff000 && prepares == 1 && releases == 0,
          "memory is allocated as asked for, and prepared");
    check(allocate(0, 0, 0, &address) == NULL && prepares == 1, "no memory, no descriptor");
    prepare_result = -1;
    check(allocate(0, 4096, 0, &address) == NULL && prepares == 2 && releases == 1,
          "memory that can't be prepared is given back");
    check(describe((void *)0x99, 0x7000, 4096, 3) == NULL && releases == 2 && asked.task == (void *)0x99
              && asked.address == 0x7000 && asked.bytes == 4096 && asked.options == 3,
          "a range that can't be wired is given back");
    prepare_result = 0;
    check(describe(NULL, 0xfee00000, 4096, 3) == &descriptor && releases == 2, "a range is wired");
    segment_length = 4096;
    check(phys(&descriptor, 0x3000) == 0x12348000 && asked.offset == 0x3000 && asked.options == 0x800,
          "physical addresses are memory's own");
    segment_length = 0;
    check(phys(&descriptor, 0x4000) == 0, "behind the end there is no physical address");
    give_back(&descriptor);
    check(completes == 1 && releases == 3, "memory is unwired, then given back");
    check(map(&descriptor, (void *)0x99, 0x1001, 4096, 8192, &address) == &descriptor && asked.offset == 4096
              && asked.bytes == 8192 && asked.options == 0x1001 && asked.task == (void *)0x99
              && address == 0x7fff1000,
          "a part is mapped into a task");
    check(map(&descriptor, NULL, 0, 0, 0, &address) == NULL, "what can't be mapped isn't");
    unmap(&descriptor);
    check(releases == 4, "a mapping is given back");
    descriptor_functions[REMOVE] = (void *)remove_notifier;
    remove(&descriptor);
    check(removes == 1, "a notifier is removed");
}

static uint64_t map_address(void *this)
{
    (void)this;
    return 0x7fff1000;
}

static void check_module(void)
{
    struct __attribute__((packed, aligned(4))) {
        char unused[0xb4];
        int (*start)(void *, void *);
        int (*stop)(void *, void *);
    } *info = symbol("_kmod_info");
    check(info->start(info, NULL) == 5 && starts == 1 && kmod_seen == info, "what start says is what the kernel hears");
    check(info->stop(info, NULL) == 0 && stops == 1, "what stop says is what the kernel hears");
}

int main(int count, char **arguments)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    load(count, arguments);
    bind("__ZN11OSMetaClassC2EPKcPKS_j", meta_constructor);
    bind("__ZN11OSMetaClassD2Ev", meta_destructor);
    bind("__ZNK11OSMetaClass19instanceConstructedEv", instance_constructed);
    bind("__ZN8OSObjectnwEm", new_object);
    bind("__ZN8OSObjectdlEPvm", delete_object);
    bind("__ZN9IOServiceC2EPK11OSMetaClass", super_constructor);
    bind("__ZN9IOServiceD2Ev", super_destructor);
    bind("__ZN12IOUserClientC2EPK11OSMetaClass", super_constructor);
    bind("__ZN12IOUserClientD2Ev", super_destructor);
    bind("__ZN15OSMetaClassBase12safeMetaCastEPKS_PK11OSMetaClass", safe_meta_cast);
    bind("__ZN9IOService15registerServiceEj", register_service);
    bind("__ZN9IOService9terminateEj", super_terminate);
    bind("_current_task", current_task);
    bind("_printf", kernel_printf);
    bind("_supdrv_darwin_start", rust_start);
    bind("_supdrv_darwin_stop", rust_stop);
    bind("_supdrv_darwin_may_terminate", rust_may_terminate);
    bind("_supdrv_darwin_client_start", rust_client_start);
    bind("_supdrv_darwin_client_close", rust_client_close);
    bind("__ZN24IOBufferMemoryDescriptor22inTaskWithPhysicalMaskEP4taskjyy", buffer);
    bind("__ZN24IOBufferMemoryDescriptor14getBytesNoCopyEv", bytes_of);
    bind("__ZN18IOMemoryDescriptor16withAddressRangeEyyjP4task", range);
    bind("__ZN18IOMemoryDescriptor19createMappingInTaskEP4taskyjyy", mapping);
    bind("__ZN11IOMemoryMap17getVirtualAddressEv", map_address);
    fill("__ZTV9IOService", 266);
    fill("__ZTV12IOUserClient", 300);

    check(call_all("__mod_init_func") == 1 && registered == 2, "loading registers two classes");
    check_service();
    check_client();
    check_memory();
    check_module();
    check(call_all("__mod_term_func") == 1 && unregistered == 2, "unloading removes them");
    return finish();
}
