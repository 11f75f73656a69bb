/* How IOKit starts and stops the service and its clients. All decisions are Rust's. */
#include "client.h"

#include "kmod.h"
#include "supdrv_darwin.h"

extern "C" task_t current_task(void);
extern "C" int printf(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* What a client says when it opens the service: "drib". */
static const uint32_t COOKIE = 0x64726962;

DEFINE_CLASS(org_virtualbox_SupDrv, IOService)
DEFINE_CLASS(org_virtualbox_SupDrvClient, IOUserClient)

bool org_virtualbox_SupDrv::start(IOService *provider)
{
    if (!IOService::start(provider))
        return false;
    registerService(0);
    return true;
}

bool org_virtualbox_SupDrv::terminate(uint32_t options)
{
    if (!supdrv_darwin_may_terminate(&kmod_info)) {
        printf("VBoxDrv: in use, not terminated\n");
        return false;
    }
    return IOService::terminate(options);
}

/* In the thread that opens the service. Only the task that opens may use the connection: it is the one whose death ends it. */
bool org_virtualbox_SupDrvClient::initWithTask(task_t task, void *security, uint32_t type)
{
    if (!task || type != COOKIE || task != current_task()) {
        printf("VBoxDrv: refused a client: task %p, type %#x\n", static_cast<void *>(task), type);
        return false;
    }
    return IOUserClient::initWithTask(task, security, type);
}

bool org_virtualbox_SupDrvClient::start(IOService *provider)
{
    if (!OSMetaClassBase::safeMetaCast(provider, org_virtualbox_SupDrv::metaClass))
        return false;
    if (!IOUserClient::start(provider))
        return false;
    int refused = supdrv_darwin_client_start(this);
    if (refused) {
        printf("VBoxDrv: refused a client: error %d\n", refused);
        IOUserClient::stop(provider);
        return false;
    }
    return true;
}

/*
 * Any task that has the connection's port may cause this, any number of times on older kernels. The session must be gone when it returns:
 * later is too late for a process that dies, whose memory can't be unmapped before it is unlocked.
 */
int org_virtualbox_SupDrvClient::clientClose()
{
    supdrv_darwin_client_close(this);
    terminate(0);
    return 0;
}

/* Nothing may be left under a pointer that another client will have. */
void org_virtualbox_SupDrvClient::free()
{
    supdrv_darwin_client_close(this);
    IOUserClient::free();
}
