/*
 * The interface between the two halves of the kernel extension: Rust (../src) decides, the shell (this folder) is what only C++ can be.
 * Everything may block and runs in ordinary threads, unless said otherwise.
 */
#ifndef SUPDRV_DARWIN_H
#define SUPDRV_DARWIN_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Rust, called by the shell ---- */

/* Module start, with the kmod_info: the driver, its character devices and the sleep notifications. 0, or 5 (nothing is left then). */
int supdrv_darwin_start(void *kmod);
/* Module stop. 0, or 5 while a client, an open node or a sibling driver uses it (nothing has changed then). */
int supdrv_darwin_stop(void *kmod);
/* IOUserClient::start, in the opening process: reserves the process for this client. 0, or an error number: refused. */
int supdrv_darwin_client_start(void *client);
/* IOUserClient::clientClose: ends the client's session. Any process, any thread, any number of times. */
void supdrv_darwin_client_close(void *client);
/* IOService::terminate asks: 0 refuses. */
int supdrv_darwin_may_terminate(void *kmod);
/* For sibling drivers. */
int SUPDrvDarwinIDC(uint32_t code, void *packet);

/* ---- the shell, called by Rust ---- */

/*
 * IOBufferMemoryDescriptor::inTaskWithPhysicalMask(kernel_task, options, bytes, mask), prepare(), getBytesNoCopy().
 * The descriptor, or NULL with nothing left behind; the kernel address in *address.
 */
void *supdrv_glue_alloc(uint32_t options, uint64_t bytes, uint64_t mask, uintptr_t *address);
/* IOMemoryDescriptor::withAddressRange(address, bytes, options, task), prepare(). task NULL: physical. The descriptor, or NULL. */
void *supdrv_glue_describe(void *task, uint64_t address, uint64_t bytes, uint32_t options);
/* getPhysicalSegment(offset, &length, kIOMemoryMapperNone); 0: there is none. Doesn't block. */
uint64_t supdrv_glue_phys(void *descriptor, uint64_t offset);
/* complete() and release(), of what the two functions above returned. Any thread. */
void supdrv_glue_free(void *descriptor);
/* createMappingInTask(task, 0, options, offset, bytes), getVirtualAddress(). The IOMemoryMap, or NULL. */
void *supdrv_glue_map(void *descriptor, void *task, uint32_t options, uint64_t offset, uint64_t bytes, uintptr_t *address);
/* release() of an IOMemoryMap. Any thread, any process. */
void supdrv_glue_unmap(void *map);
/* IONotifier::remove(), of what registerPrioritySleepWakeInterest returned. */
void supdrv_glue_remove_notifier(void *notifier);
/* Whether only the superuser may open the unrestricted node: a property of the build. Doesn't block. */
int supdrv_glue_hardened(void);

#ifdef __cplusplus
}
#endif

#endif
