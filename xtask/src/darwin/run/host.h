/*
 * Loads an extension that is ready to be mapped, and binds what it imports to functions of this program. Whatever isn't bound ends the
 * program when it is called.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

struct entry {
    char kind[8]; /* "thunk", "data", "symbol", "section" */
    char name[200];
    uint64_t address;
    uint64_t size;
};

static struct entry *entries;
static int entry_count;
static int passed, failed;

static inline void check(int condition, const char *what)
{
    printf("%s %s\n", condition ? "ok    " : "FAILED", what);
    *(condition ? &passed : &failed) += 1;
}

static inline int finish(void)
{
    printf("%d passed, %d failed\n", passed, failed);
    return failed != 0;
}

static inline struct entry *find(const char *kind, const char *name)
{
    for (int i = 0; i < entry_count; i++)
        if (strcmp(entries[i].kind, kind) == 0 && strcmp(entries[i].name, name) == 0)
            return &entries[i];
    return NULL;
}

/* Something that the image defines. */
static inline void *symbol(const char *name)
{
    struct entry *entry = find("symbol", name);
    if (!entry) {
        printf("FAILED there is no %s\n", name);
        exit(2);
    }
    return (void *)entry->address;
}

/* A variable of the kernel's; NULL if the image doesn't use it. */
static inline void *data(const char *name)
{
    struct entry *entry = find("data", name);
    return entry ? (void *)entry->address : NULL;
}

/* Binds a function of the kernel; nothing happens if the image doesn't use it. */
static inline void bind(const char *name, void *function)
{
    struct entry *entry = find("thunk", name);
    if (entry)
        *(void **)entry->address = function;
}

static void __attribute__((used)) report_unexpected(uint32_t number)
{
    int seen = 0;
    for (int i = 0; i < entry_count; i++) {
        if (strcmp(entries[i].kind, "thunk") != 0 && strcmp(entries[i].kind, "data") != 0)
            continue;
        if (seen++ == (int)number)
            printf("FAILED unexpected call of %s\n", entries[i].name);
    }
    printf("%d passed, %d failed\n", passed, failed + 1);
    exit(1);
}

static void __attribute__((naked)) unexpected(void)
{
    __asm__("movl %r11d, %edi\n\tandq $-16, %rsp\n\tcall report_unexpected");
}

static inline void load(int count, char **arguments)
{
    if (count != 3)
        exit(2);
    int file = open(arguments[1], O_RDONLY);
    struct stat status;
    if (file < 0 || fstat(file, &status) != 0)
        exit(2);
    FILE *list = fopen(arguments[2], "r");
    char line[400];
    uint64_t base = 0;
    while (list && fgets(line, sizeof line, list)) {
        struct entry entry = {0};
        char rest[300] = "";
        if (sscanf(line, "%7s %lx %299[^\n]", entry.kind, &entry.address, rest) < 2)
            continue;
        if (strcmp(entry.kind, "base") == 0) {
            base = entry.address;
            continue;
        }
        if (strcmp(entry.kind, "section") == 0)
            sscanf(rest, "%lu %199s", &entry.size, entry.name);
        else
            snprintf(entry.name, sizeof entry.name, "%.199s", rest);
        entries = realloc(entries, (entry_count + 1) * sizeof *entries);
        entries[entry_count++] = entry;
    }
    void *place = mmap((void *)base, status.st_size, PROT_READ | PROT_WRITE | PROT_EXEC,
                       MAP_PRIVATE | MAP_FIXED_NOREPLACE, file, 0);
    if (place != (void *)base) {
        printf("FAILED the image can't be mapped at %#lx\n", base);
        exit(2);
    }
    for (int i = 0; i < entry_count; i++)
        if (strcmp(entries[i].kind, "thunk") == 0)
            *(void **)entries[i].address = (void *)unexpected;
}

/* Calls all functions that a section of pointers points to. */
static inline int call_all(const char *name)
{
    struct entry *section = find("section", name);
    int count = section ? (int)(section->size / 8) : 0;
    for (int i = 0; i < count; i++)
        ((void (*)(void))((void **)section->address)[i])();
    return count;
}
