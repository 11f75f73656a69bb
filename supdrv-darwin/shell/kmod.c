/* The extension's description, and its entry points. Constructors of C++ objects have run when the first one is called. */
#include "kmod.h"

#include "supdrv_darwin.h"

_Static_assert(sizeof(struct kmod_info) == 0xc4, "as in the kernel");
_Static_assert(__builtin_offsetof(struct kmod_info, reference_count) == 0x90, "as in the kernel");
_Static_assert(__builtin_offsetof(struct kmod_info, start) == 0xb4, "as in the kernel");

static int _start(struct kmod_info *info, void *data)
{
    (void)data;
    return supdrv_darwin_start(info);
}

static int _stop(struct kmod_info *info, void *data)
{
    (void)data;
    return supdrv_darwin_stop(info);
}

struct kmod_info kmod_info = {
    .info_version = 1,
    .id = (uint32_t)-1,
    .name = SUPDRV_IDENTIFIER,
    .version = SUPDRV_VERSION,
    .reference_count = -1,
    .start = _start,
    .stop = _stop,
};
