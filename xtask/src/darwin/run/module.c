/*
 * The whole extension, Rust and C++: started, used by a client, stopped, on a stand-in for the kernel with one processor. What the kernel has
 * given out is counted: a stop, and a start that fails, must leave nothing.
 */
#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <time.h>

#include "host.h"

/* Places in tables of virtual functions. */
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
typedef int (*int_function)(void *, ...);

/* ---- what is given out, and what may fail ---- */

enum { HEAP, GROUPS, SPINS, MUTEXES, DESCRIPTORS, MAPS, CALLS, NODES, SWITCHES, NOTIFIERS, THREADS, CREDENTIALS, KINDS };
static const char *const kind_names[KINDS] = {
    "heap blocks", "lock groups", "spin locks", "mutexes", "memory descriptors", "mappings",
    "thread calls", "nodes",       "switches",   "notifiers", "threads",          "credentials",
};
static int live[KINDS];
/* The how manieth thing that may fail does; 0: none. */
static int fail_at, seen;
static int failed_now;

static int fails(void)
{
    if (++seen != fail_at)
        return 0;
    failed_now = 1;
    return 1;
}

static void give(int kind)
{
    __atomic_add_fetch(&live[kind], 1, __ATOMIC_SEQ_CST);
}

static void take(int kind)
{
    if (__atomic_sub_fetch(&live[kind], 1, __ATOMIC_SEQ_CST) < 0) {
        printf("more %s than there were: ", kind_names[kind]);
        check(0, "nothing is given back twice");
    }
}

static int leaks(void)
{
    int count = 0;
    for (int kind = 0; kind < KINDS; kind++) {
        if (live[kind] != 0)
            printf("       left: %d %s\n", live[kind], kind_names[kind]);
        count += live[kind];
    }
    return count;
}

/* ---- heap: sizes are checked ---- */

static void *heap(uint64_t bytes, uint64_t align)
{
    if (fails())
        return NULL;
    uint64_t *block = aligned_alloc(align, (bytes + align + align - 1) & -align);
    memset(block, 0xa5, bytes + align);
    give(HEAP);
    *(uint64_t *)((char *)block + align - 8) = bytes;
    return (char *)block + align;
}

static void heap_free(char *block, uint64_t bytes, uint64_t align)
{
    if (*(uint64_t *)(block - 8) != bytes)
        check(0, "blocks are given back with the size they have");
    take(HEAP);
    free(block - align);
}

static void *k_IOMalloc(uint64_t bytes)
{
    return heap(bytes, 16);
}

static void k_IOFree(char *block, uint64_t bytes)
{
    heap_free(block, bytes, 16);
}

static uint64_t last_align;

static void *k_IOMallocAligned(uint64_t bytes, uint64_t align)
{
    if (last_align && last_align != align)
        check(0, "aligned blocks have one alignment only, in this program");
    last_align = align;
    return heap(bytes, align);
}

static void k_IOFreeAligned(char *block, uint64_t bytes)
{
    heap_free(block, bytes, last_align);
}

/* ---- locks ---- */

static void *k_lck_grp_alloc_init(const char *name, void *attributes)
{
    (void)name, (void)attributes;
    if (fails())
        return NULL;
    give(GROUPS);
    return malloc(1);
}

static void k_lck_grp_free(void *group)
{
    take(GROUPS);
    free(group);
}

static void *lock_new(int kind)
{
    if (fails())
        return NULL;
    give(kind);
    pthread_mutex_t *lock = malloc(sizeof *lock);
    pthread_mutex_init(lock, NULL);
    return lock;
}

static void lock_free(void *lock, int kind)
{
    if (pthread_mutex_destroy(lock) != 0)
        check(0, "no lock is freed while somebody has it");
    take(kind);
    free(lock);
}

static void *k_lck_spin_alloc_init(void *group, void *attributes)
{
    (void)group, (void)attributes;
    return lock_new(SPINS);
}

static void *k_lck_mtx_alloc_init(void *group, void *attributes)
{
    (void)group, (void)attributes;
    return lock_new(MUTEXES);
}

static void k_lck_spin_free(void *lock, void *group)
{
    (void)group;
    lock_free(lock, SPINS);
}

static void k_lck_mtx_free(void *lock, void *group)
{
    (void)group;
    lock_free(lock, MUTEXES);
}

static void k_lock(pthread_mutex_t *lock)
{
    pthread_mutex_lock(lock);
}

static void k_unlock(pthread_mutex_t *lock)
{
    pthread_mutex_unlock(lock);
}

/* ---- time and waits ---- */

static pthread_mutex_t wait_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t wait_changed = PTHREAD_COND_INITIALIZER;

static __thread struct wait {
    struct wait *next;
    const void *event;
    uint64_t deadline;
    int result;
} this_wait;
static struct wait *waits;

static uint64_t k_mach_absolute_time(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000ul + now.tv_nsec;
}

static void k_same_time(uint64_t from, uint64_t *to)
{
    *to = from;
}

static void k_clock_get_calendar_nanotime(uint64_t *seconds, uint32_t *rest)
{
    *seconds = 1400000000;
    *rest = 5;
}

static int k_assert_wait_deadline(const void *event, int how, uint64_t deadline)
{
    (void)how;
    pthread_mutex_lock(&wait_lock);
    this_wait = (struct wait){.next = waits, .event = event, .deadline = deadline, .result = -1};
    waits = &this_wait;
    pthread_mutex_unlock(&wait_lock);
    return -1;
}

static int k_assert_wait(const void *event, int how)
{
    return k_assert_wait_deadline(event, how, 0);
}

static int k_thread_block(void *continuation)
{
    (void)continuation;
    pthread_mutex_lock(&wait_lock);
    if (!this_wait.event) {
        pthread_mutex_unlock(&wait_lock);
        return 0;
    }
    while (this_wait.result < 0) {
        if (this_wait.deadline && k_mach_absolute_time() >= this_wait.deadline) {
            this_wait.result = 1;
            break;
        }
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += 1000000;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        pthread_cond_timedwait(&wait_changed, &wait_lock, &until);
    }
    for (struct wait **link = &waits; *link; link = &(*link)->next)
        if (*link == &this_wait) {
            *link = this_wait.next;
            break;
        }
    this_wait.event = NULL;
    int result = this_wait.result;
    pthread_mutex_unlock(&wait_lock);
    return result;
}

static int k_thread_wakeup_prim(const void *event, int one, int result)
{
    pthread_mutex_lock(&wait_lock);
    for (struct wait *wait = waits; wait; wait = wait->next)
        if (wait->event == event && wait->result < 0) {
            wait->result = result;
            if (one)
                break;
        }
    pthread_cond_broadcast(&wait_changed);
    pthread_mutex_unlock(&wait_lock);
    return 0;
}

static void k_IOSleep(uint32_t milliseconds)
{
    (void)milliseconds;
    usleep(1000);
}

static void *k_thread_call_allocate(void *function, void *argument)
{
    (void)function, (void)argument;
    if (fails())
        return NULL;
    give(CALLS);
    return malloc(1);
}

static int k_thread_call_enter1_delayed(void *call, void *argument, uint64_t deadline)
{
    (void)call, (void)argument, (void)deadline;
    return 0;
}

static int k_thread_call_cancel(void *call)
{
    (void)call;
    return 1;
}

static int k_thread_call_free(void *call)
{
    take(CALLS);
    free(call);
    return 1;
}

/* ---- threads and processes ---- */

struct start {
    void (*function)(void *, int);
    void *argument;
};

static void *thread_main(void *pointer)
{
    struct start start = *(struct start *)pointer;
    free(pointer);
    start.function(start.argument, 0);
    return NULL;
}

static int k_kernel_thread_start(void *function, void *argument, void **thread)
{
    if (fails())
        return 6;
    struct start *start = malloc(sizeof *start);
    *start = (struct start){.function = function, .argument = argument};
    pthread_t id;
    give(THREADS);
    pthread_create(&id, NULL, thread_main, start);
    pthread_detach(id);
    *thread = (void *)id;
    return 0;
}

static int k_thread_terminate(void *thread)
{
    (void)thread;
    take(THREADS);
    pthread_exit(NULL);
}

static int k_nothing(void)
{
    return 0;
}

static int pid = 100;

static int k_proc_selfpid(void)
{
    return pid;
}

static int k_proc_pid(int *process)
{
    return *process;
}

static int k_proc_is64bit(void *process)
{
    (void)process;
    return 1;
}

static void *k_current_task(void)
{
    return (void *)(0x7a5c0000ul + pid);
}

static void *k_current_thread(void)
{
    return &this_wait;
}

static void *k_kauth_cred_proc_ref(void *process)
{
    (void)process;
    give(CREDENTIALS);
    return (void *)0xc5ed;
}

static void k_kauth_cred_unref(void **credential)
{
    take(CREDENTIALS);
    *credential = NULL;
}

static int k_real_id(void *credential)
{
    if (credential != (void *)0xc5ed || live[CREDENTIALS] != 1)
        check(0, "credentials are asked while they are held");
    return 501;
}

static int k_own_id(void)
{
    return 501;
}

static int k_copyin(uint64_t from, void *to, uint64_t bytes)
{
    if (from < 4096)
        return EFAULT;
    memcpy(to, (void *)from, bytes);
    return 0;
}

static int k_copyout(const void *from, uint64_t to, uint64_t bytes)
{
    if (to < 4096)
        return EFAULT;
    memcpy((void *)to, from, bytes);
    return 0;
}

/* ---- processors ---- */

static __thread int interrupts = 1;

static int k_ml_set_interrupts_enabled(int on)
{
    int before = interrupts;
    interrupts = on;
    return before;
}

static int k_ml_get_interrupts_enabled(void)
{
    return interrupts;
}

static int k_preemption_enabled(void)
{
    return interrupts;
}

static void k_mp_rendezvous_no_intrs(void (*function)(void *), void *argument)
{
    if (!interrupts)
        check(0, "processors are called with interrupts on");
    interrupts = 0;
    function(argument);
    interrupts = 1;
}

static int k_sysctlbyname(const char *name, int *value, uint64_t *bytes, void *new, uint64_t new_bytes)
{
    (void)new, (void)new_bytes;
    if (strcmp(name, "hw.ncpu") != 0 || *bytes != 4 || fails())
        return ENOENT;
    *value = 1;
    return 0;
}

/* ---- devices and power ---- */

struct cdevsw {
    int (*open)(int, int, int, void *);
    int (*close)(int, int, int, void *);
    void *read, *write;
    int (*ioctl)(int, uint64_t, char *, int, void *);
    void *stop, *reset, *ttys, *select, *mmap, *strategy, *getc, *putc;
    int type;
};

static struct cdevsw *device_switch;
static char node_names[4][20];
static int node_modes[4], node_devs[4], node_owners[4];

static int k_cdevsw_add(int major, struct cdevsw *entry)
{
    if (major != -1 || fails())
        return -1;
    give(SWITCHES);
    device_switch = entry;
    return 33;
}

static int k_cdevsw_remove(int major, struct cdevsw *entry)
{
    if (major != 33 || entry != device_switch)
        check(0, "the switch that was added is removed");
    take(SWITCHES);
    return major;
}

static void *k_devfs_make_node(int dev, int kind, uint32_t uid, uint32_t gid, int mode, const char *format, ...)
{
    if (kind != 0 || fails())
        return NULL;
    va_list arguments;
    va_start(arguments, format);
    int number = live[NODES];
    vsnprintf(node_names[number], sizeof node_names[0], format, arguments);
    va_end(arguments);
    node_devs[number] = dev;
    node_modes[number] = mode;
    node_owners[number] = uid | gid;
    give(NODES);
    return &node_modes[number];
}

static void k_devfs_remove(void *node)
{
    (void)node;
    take(NODES);
}

static void remove_notifier(void *this)
{
    (void)this;
    take(NOTIFIERS);
}

static void *notifier_functions[40] = {[REMOVE] = remove_notifier};
static struct object notifier = {.functions = notifier_functions};
static int (*sleep_handler)(void *, void *, uint32_t, void *, void *, uint64_t);

static void *k_registerPrioritySleepWakeInterest(void *handler, void *target, void *reference)
{
    (void)target, (void)reference;
    if (fails())
        return NULL;
    sleep_handler = handler;
    give(NOTIFIERS);
    return &notifier;
}

/* ---- memory ---- */

struct memory {
    struct object object;
    char *address;
    uint64_t bytes, physical;
    int prepared;
};

static uint64_t next_physical = 0x10000000;
static struct memory *all_memory[1000];

static int memory_prepare(struct memory *memory, uint32_t direction)
{
    (void)direction;
    if (fails())
        return -1;
    memory->prepared++;
    return 0;
}

static int memory_complete(struct memory *memory, uint32_t direction)
{
    (void)direction;
    memory->prepared--;
    return 0;
}

static void memory_release(struct memory *memory)
{
    if (memory->prepared)
        check(0, "memory is unwired before it is given back");
    take(DESCRIPTORS);
    free(memory->address);
    free(memory);
}

static uint64_t memory_segment(struct memory *memory, uint64_t offset, uint64_t *length, uint32_t options)
{
    (void)options;
    *length = offset < memory->bytes ? memory->bytes - offset : 0;
    return memory->physical + offset;
}

static void *memory_functions[70] = {
    [RELEASE] = memory_release,
    [GET_PHYSICAL_SEGMENT] = memory_segment,
    [PREPARE] = memory_prepare,
    [COMPLETE] = memory_complete,
};

static void *k_in_task_with_mask(void *task, uint32_t options, uint64_t bytes, uint64_t mask)
{
    (void)options, (void)mask;
    if (task != *(void **)data("_kernel_task"))
        check(0, "memory is the kernel's");
    if (fails())
        return NULL;
    struct memory *memory = calloc(1, sizeof *memory);
    memory->object.functions = memory_functions;
    memory->bytes = bytes;
    memory->address = aligned_alloc(4096, (bytes + 4095) & -4096ul);
    memory->physical = next_physical;
    next_physical += (bytes + 4095) & -4096ul;
    all_memory[live[DESCRIPTORS]] = memory;
    give(DESCRIPTORS);
    return memory;
}

static void *k_bytes_no_copy(struct memory *memory)
{
    return memory->address;
}

/* ---- the kernel's runtime ---- */

struct meta {
    void **functions;
    void *expansion;
    struct meta *super;
    const char *name;
    uint32_t size, instances;
};

static void k_meta_constructor(struct meta *meta, const char *name, struct meta *super, uint32_t size)
{
    meta->super = super;
    meta->name = name;
    meta->size = size;
}

static void *k_new(uint64_t size)
{
    give(HEAP);
    return calloc(1, size);
}

static void k_delete(void *object, uint64_t size)
{
    (void)size;
    take(HEAP);
    free(object);
}

static void *k_cast(struct object *object, struct meta *wanted)
{
    struct meta *meta = object ? CALL(struct meta * (*)(void *), object, GET_META_CLASS) : NULL;
    while (meta && meta != wanted)
        meta = meta->super;
    return meta ? object : NULL;
}

static int super_terminations;

static int succeed(void)
{
    return 1;
}

static int super_terminate(void)
{
    super_terminations++;
    return 1;
}

static void fill(const char *table)
{
    void **functions = data(table);
    for (int slot = 0; slot < 300; slot++)
        functions[2 + slot] = (void *)succeed;
    functions[2 + TERMINATE] = (void *)super_terminate;
}

static int quiet(const char *format, ...)
{
    (void)format;
    return 0;
}

static void k_panic(const char *format, ...)
{
    printf("FAILED the kernel panics: %s\n", format);
    printf("%d passed, %d failed\n", passed, failed + 1);
    exit(1);
}

static void bind_all(void)
{
#define BIND(name) bind("_" #name, (void *)k_##name)
    BIND(IOMalloc);
    BIND(IOFree);
    BIND(IOMallocAligned);
    BIND(IOFreeAligned);
    BIND(IOSleep);
    BIND(lck_grp_alloc_init);
    BIND(lck_grp_free);
    BIND(lck_spin_alloc_init);
    BIND(lck_spin_free);
    BIND(lck_mtx_alloc_init);
    BIND(lck_mtx_free);
    bind("_lck_spin_lock", k_lock);
    bind("_lck_spin_unlock", k_unlock);
    bind("_lck_mtx_lock", k_lock);
    bind("_lck_mtx_unlock", k_unlock);
    BIND(mach_absolute_time);
    bind("_absolutetime_to_nanoseconds", k_same_time);
    bind("_nanoseconds_to_absolutetime", k_same_time);
    BIND(clock_get_calendar_nanotime);
    BIND(assert_wait);
    BIND(assert_wait_deadline);
    BIND(thread_block);
    BIND(thread_wakeup_prim);
    BIND(thread_call_allocate);
    BIND(thread_call_enter1_delayed);
    BIND(thread_call_cancel);
    BIND(thread_call_free);
    BIND(kernel_thread_start);
    BIND(thread_terminate);
    bind("_thread_deallocate", k_nothing);
    bind("_thread_policy_set", k_nothing);
    BIND(proc_selfpid);
    BIND(proc_pid);
    BIND(proc_is64bit);
    BIND(current_task);
    BIND(current_thread);
    BIND(kauth_cred_proc_ref);
    BIND(kauth_cred_unref);
    bind("_kauth_cred_getruid", k_real_id);
    bind("_kauth_cred_getrgid", k_real_id);
    bind("_kauth_getruid", k_own_id);
    BIND(copyin);
    BIND(copyout);
    BIND(ml_set_interrupts_enabled);
    BIND(ml_get_interrupts_enabled);
    BIND(preemption_enabled);
    bind("_ml_at_interrupt_context", k_nothing);
    bind("_cpu_number", k_nothing);
    BIND(mp_rendezvous_no_intrs);
    BIND(sysctlbyname);
    BIND(cdevsw_add);
    BIND(cdevsw_remove);
    BIND(devfs_make_node);
    BIND(devfs_remove);
    BIND(registerPrioritySleepWakeInterest);
    bind("_vm_protect", k_nothing);
    BIND(panic);
    bind("_printf", quiet);
    bind("_memcpy", memcpy);
    bind("_memmove", memmove);
    bind("_memset", memset);
    bind("_memcmp", memcmp);
    bind("___bzero", bzero);
    bind("_bzero", bzero);
    bind("__ZN24IOBufferMemoryDescriptor22inTaskWithPhysicalMaskEP4taskjyy", k_in_task_with_mask);
    bind("__ZN24IOBufferMemoryDescriptor14getBytesNoCopyEv", k_bytes_no_copy);
    bind("__ZN11OSMetaClassC2EPKcPKS_j", k_meta_constructor);
    bind("__ZN11OSMetaClassD2Ev", k_nothing);
    bind("__ZNK11OSMetaClass19instanceConstructedEv", k_nothing);
    bind("__ZN8OSObjectnwEm", k_new);
    bind("__ZN8OSObjectdlEPvm", k_delete);
    bind("__ZN9IOServiceC2EPK11OSMetaClass", k_nothing);
    bind("__ZN9IOServiceD2Ev", k_nothing);
    bind("__ZN12IOUserClientC2EPK11OSMetaClass", k_nothing);
    bind("__ZN12IOUserClientD2Ev", k_nothing);
    bind("__ZN15OSMetaClassBase12safeMetaCastEPKS_PK11OSMetaClass", k_cast);
    bind("__ZN9IOService15registerServiceEj", k_nothing);
    bind("__ZN9IOService9terminateEj", super_terminate);
    fill("__ZTV9IOService");
    fill("__ZTV12IOUserClient");
    *(int *)data("_version_major") = 13;
    *(void **)data("_kernel_task") = (void *)0x6e1;
    if (data("_kernel_map"))
        *(void **)data("_kernel_map") = (void *)0x6e2;
}

/* ---- the checks ---- */

static struct __attribute__((packed, aligned(4))) {
    char unused[0xb4];
    int (*start)(void *, void *);
    int (*stop)(void *, void *);
} *info;

static int start_module(void)
{
    seen = failed_now = 0;
    return info->start(info, NULL);
}

static void check_failing_starts(void)
{
    int refused = 0, tolerated = 0, wrong = 0, left = 0;
    for (fail_at = 1; fail_at < 1000; fail_at++) {
        int result = start_module();
        if (!failed_now) {
            info->stop(info, NULL);
            break;
        }
        if (result == 5)
            refused++;
        else if (result == 0 && info->stop(info, NULL) == 0)
            tolerated++;
        else
            wrong++;
        left += leaks();
    }
    fail_at = 0;
    printf("       %d failures refused the start, %d didn't matter\n", refused, tolerated);
    check(refused > 10 && wrong == 0, "whatever fails, the start does, or nobody notices");
    check(left == 0, "a start that fails leaves nothing");
}

static struct object *make(const char *class)
{
    char name[100];
    snprintf(name, sizeof name, "__ZN%s10gMetaClassE", class);
    return CALL(struct object * (*)(void *), (struct object *)symbol(name), META_ALLOC);
}

static struct object *service;

static struct object *connect(int *result)
{
    struct object *client = make("27org_virtualbox_SupDrvClient");
    int accepted = CALL(int_function, client, INIT_WITH_TASK, k_current_task(), NULL, 0x64726962) & 0xff;
    *result = accepted && (CALL(int_function, client, START, service) & 0xff);
    return client;
}

static void delete(struct object *client)
{
    CALL(int_function, client, FREE);
    CALL(int_function, client, DELETING_DESTRUCTOR);
}

struct __attribute__((packed)) cookie {
    uint32_t cookie, session_cookie, in, out, flags;
    int32_t rc;
    union {
        struct {
            char magic[16];
            uint32_t version, minimum;
        };
        struct {
            uint32_t new_cookie, new_session_cookie, session_version, driver_version, functions, unused;
            uint64_t session;
        };
    };
};

static int handshake(int dev, struct cookie *packet)
{
    *packet = (struct cookie){.cookie = 0x69726f74, .in = 0x30, .out = 0x38, .flags = 0x42000042, .rc = -1};
    memcpy(packet->magic, "The Magic Word!", 16);
    packet->version = 0x001a0007;
    packet->minimum = 0x001a0000;
    return device_switch->ioctl(dev, 0xc0385681, (char *)packet, 0, &pid);
}

static void check_client(void)
{
    int accepted;
    struct cookie packet;
    int dev = node_devs[0], restricted = node_devs[1];
    check(device_switch->open(dev, 1, 0, &pid) == EACCES, "a process that isn't connected can't open the device");
    struct object *client = connect(&accepted);
    check(accepted, "a process connects");
    check(info->stop(info, NULL) == 5, "a module with a client isn't stopped");
    check(!(CALL(int_function, service, TERMINATE, 0) & 0xff) && super_terminations == 0,
          "a service with a client isn't terminated");
    struct object *second = connect(&accepted);
    check(!accepted, "a process connects once");
    delete(second);
    check(device_switch->ioctl(dev, 0xc0385681, (char *)&packet, 0, &pid) == EINVAL,
          "there are no requests before the device is open");
    check(device_switch->open(dev | 2, 1, 0, &pid) == EACCES, "there is no third device");
    int other = pid + 1;
    check(device_switch->open(dev, 1, 0, &other) == EIO, "a process opens for itself only");
    check(device_switch->open(dev, 1, 0, &pid) == 0, "the process opens the device");
    check(device_switch->open(dev, 1, 0, &pid) == EEXIST, "once");
    check(handshake(dev, &packet) == 0 && packet.rc == 0 && packet.session && packet.functions > 100
              && packet.driver_version >> 16 == 0x1a,
          "the handshake succeeds");
    printf("       driver version %#x, %u functions\n", packet.driver_version, packet.functions);
    uint64_t session = packet.session;
    check(handshake(dev, &packet) == 0 && packet.session == session, "and again, with the same answer");
    check(handshake(restricted, &packet) == EINVAL, "the other device isn't the one that was opened");
    check(device_switch->ioctl(dev, 0xc0375681, (char *)&packet, 0, &pid) == EINVAL, "sizes have to fit");
    check(device_switch->ioctl(dev, 0x40005681, (char *)&packet, 0, &pid) == EINVAL, "directions have to fit");
    uint64_t argument = 8;
    check(device_switch->ioctl(dev, 0x20005682, (char *)&argument, 0, &pid) == EFAULT,
          "a big request with a bad address is refused");
    argument = 0;
    check(device_switch->ioctl(dev, 0x200056c2, (char *)&argument, 0, &pid) == -225,
          "without a virtual machine there is nothing to run");

    uint64_t notification[3] = {0, 99, 0};
    check(sleep_handler(NULL, NULL, 0xe0000280, NULL, notification, 24) == 0 && notification[1] == 0,
          "the driver is ready to sleep at once");
    check(sleep_handler(NULL, NULL, 0xe0000300, NULL, NULL, 0) == 0, "and wakes up");
    check((uint32_t)sleep_handler(NULL, NULL, 0xe0000320, NULL, NULL, 0) == 0xe00002c7, "other messages aren't its own");

    pid = 200;
    check(device_switch->ioctl(dev, 0xc0385681, (char *)&packet, 0, &pid) == EINVAL,
          "another process can't use the session");
    check(CALL(int_function, client, CLIENT_CLOSE) == 0, "another process closes the connection");
    pid = 100;
    check(device_switch->ioctl(dev, 0xc0385681, (char *)&packet, 0, &pid) == EINVAL,
          "the session of the one who connected is gone");
    check(info->stop(info, NULL) == 5, "a module with an open device isn't stopped");
    check(device_switch->close(dev, 1, 0, &pid) == 0, "the device is closed");
    delete(client);

    client = connect(&accepted);
    check(accepted && device_switch->open(restricted, 1, 0, &pid) == 0, "the process connects again, restricted");
    check(handshake(restricted, &packet) == 0 && packet.rc == 0 && packet.functions == 0,
          "who is restricted learns of no functions");
    check(device_switch->close(restricted, 1, 0, &pid) == 0, "the restricted device is closed");
    delete(client);
}

int main(int count, char **arguments)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    load(count, arguments);
    bind_all();
    info = symbol("_kmod_info");
    /* The kernel counts from 0; the number in the file is an invalid one. */
    *(int32_t *)((char *)info + 0x90) = 0;
    call_all("__mod_init_func");
    check_failing_starts();
    check(start_module() == 0, "the module starts");
    check(live[NODES] == 2 && strcmp(node_names[0], "vboxdrv") == 0 && strcmp(node_names[1], "vboxdrvu") == 0
              && node_devs[0] == 33 << 24 && node_devs[1] == (33 << 24 | 1),
          "there are two devices");
    check(node_modes[0] == 0600 && node_modes[1] == 0666 && node_owners[0] == 0 && node_owners[1] == 0,
          "one for root, one for everybody");
    service = make("21org_virtualbox_SupDrv");
    check(CALL(int_function, service, START, NULL) & 0xff, "the service starts");
    check_client();
    check((CALL(int_function, service, TERMINATE, 0) & 0xff) && super_terminations > 0,
          "without clients the service can be terminated");
    CALL(int_function, service, DELETING_DESTRUCTOR);
    check(info->stop(info, NULL) == 0, "the module stops");
    usleep(20000);
    check(leaks() == 0, "nothing is left");
    for (int round = 0; round < 100; round++)
        if (start_module() != 0 || info->stop(info, NULL) != 0)
            check(0, "the module starts and stops again and again");
    check(leaks() == 0, "nothing is left of a hundred lives");
    call_all("__mod_term_func");
    return finish();
}
