/* Memory descriptors and notifiers: objects of the kernel whose functions are virtual, for Rust. */
#include "iokit.h"

#include "supdrv_darwin.h"

extern "C" task_t kernel_task;

/* kIOMemoryMapperNone: addresses of memory, not of a bus behind an IOMMU. */
static const uint32_t NO_MAPPER = 0x800;

static IOMemoryDescriptor *descriptor(void *pointer)
{
    return static_cast<IOMemoryDescriptor *>(pointer);
}

/* Wires the memory; releases the descriptor if it can't. */
static IOMemoryDescriptor *prepared(IOMemoryDescriptor *memory)
{
    if (memory && memory->prepare(0) != 0) {
        memory->release();
        return nullptr;
    }
    return memory;
}

void *supdrv_glue_alloc(uint32_t options, uint64_t bytes, uint64_t mask, uintptr_t *address)
{
    IOBufferMemoryDescriptor *memory =
        IOBufferMemoryDescriptor::inTaskWithPhysicalMask(kernel_task, options, bytes, mask);
    if (!prepared(memory))
        return nullptr;
    *address = reinterpret_cast<uintptr_t>(memory->getBytesNoCopy());
    return static_cast<IOMemoryDescriptor *>(memory);
}

void *supdrv_glue_describe(void *task, uint64_t address, uint64_t bytes, uint32_t options)
{
    return prepared(IOMemoryDescriptor::withAddressRange(address, bytes, options, static_cast<task_t>(task)));
}

uint64_t supdrv_glue_phys(void *memory, uint64_t offset)
{
    byte_count_t length = 0;
    uint64_t address = descriptor(memory)->getPhysicalSegment(offset, &length, NO_MAPPER);
    return length ? address : 0;
}

void supdrv_glue_free(void *memory)
{
    descriptor(memory)->complete(0);
    descriptor(memory)->release();
}

void *supdrv_glue_map(
    void *memory, void *task, uint32_t options, uint64_t offset, uint64_t bytes, uintptr_t *address)
{
    IOMemoryMap *map = descriptor(memory)->createMappingInTask(static_cast<task_t>(task), 0, options, offset, bytes);
    if (!map)
        return nullptr;
    *address = map->getVirtualAddress();
    return map;
}

void supdrv_glue_unmap(void *map)
{
    static_cast<IOMemoryMap *>(map)->release();
}

void supdrv_glue_remove_notifier(void *notifier)
{
    static_cast<IONotifier *>(notifier)->remove();
}

int supdrv_glue_hardened(void)
{
#ifdef SUPDRV_NOT_HARDENED
    return 0;
#else
    return 1;
#endif
}
