/* The driver's two classes: the service that clients look for, and the connection of one client. */
#ifndef SUPDRV_CLIENT_H
#define SUPDRV_CLIENT_H

#include "iokit.h"

class org_virtualbox_SupDrv : public IOService
{
    CLASS_MEMBERS(org_virtualbox_SupDrv);

public:
    org_virtualbox_SupDrv();
    bool start(IOService *provider) override;
    bool terminate(uint32_t options) override;
};

class org_virtualbox_SupDrvClient : public IOUserClient
{
    CLASS_MEMBERS(org_virtualbox_SupDrvClient);

public:
    org_virtualbox_SupDrvClient();
    using IOUserClient::initWithTask;
    bool initWithTask(task_t task, void *security, uint32_t type) override;
    bool start(IOService *provider) override;
    int clientClose() override;
    void free() override;
};

/* No data of their own: whatever a class above them has, it is in front of where ours would be. */
static_assert(sizeof(org_virtualbox_SupDrv) == sizeof(IOService), "no data");
static_assert(sizeof(org_virtualbox_SupDrvClient) == sizeof(IOUserClient), "no data");

#endif
