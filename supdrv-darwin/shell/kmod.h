/* What the kernel reads of a loaded extension: kmod_info, in the layout of 64-bit kernels. */
#ifndef SUPDRV_KMOD_H
#define SUPDRV_KMOD_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#pragma pack(push, 4)
struct kmod_info {
    struct kmod_info *next;
    int32_t info_version;
    uint32_t id;
    char name[64];
    char version[64];
    /* How many other extensions are linked against this one. */
    int32_t reference_count;
    void *reference_list;
    /* Where the kernel has loaded it: filled in by the kernel. */
    uint64_t address;
    uint64_t size;
    uint64_t hdr_size;
    int (*start)(struct kmod_info *info, void *data);
    int (*stop)(struct kmod_info *info, void *data);
};
#pragma pack(pop)

extern struct kmod_info kmod_info;

#ifdef __cplusplus
}
#endif

#endif
