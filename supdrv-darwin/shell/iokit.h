/*
 * IOKit's classes that this driver derives from or calls; see libkern.h about what is declared how. Integers of IOKit's own names are
 * written as what they are on x86-64: IOReturn is int, IOOptionBits and UInt32 are uint32_t, power flags and state numbers unsigned long,
 * byte counts and addresses of any task unsigned long long.
 */
#ifndef SUPDRV_IOKIT_H
#define SUPDRV_IOKIT_H

#include "libkern.h"

class IODeviceMemory;
class IOMapper;
class IOMemoryDescriptor;
class IOMemoryMap;
class IONotifier;
class IOPowerConnection;
class IORegistryEntry;
class IORegistryPlane;
class IOService;
class IOUserClient;
class IOWorkLoop;
class OSArray;
class OSCollection;
class OSIterator;
struct IOExternalAsyncMethod;
struct IOExternalMethod;
struct IOExternalMethodArguments;
struct IOExternalMethodDispatch;
struct IOExternalTrap;
struct IOPMPowerState;
struct ipc_port;
struct task;

typedef struct task *task_t;
typedef struct ipc_port *mach_port_t;
typedef unsigned long long byte_count_t;

typedef void (*IOInterruptAction)(OSObject *target, void *reference, IOService *nub, int source);
typedef int (*IOServiceInterestHandler)(
    void *target, void *reference, uint32_t message, IOService *provider, void *argument, unsigned long size);
typedef void (*IOServiceApplierFunction)(IOService *service, void *context);
typedef void (*OSObjectApplierFunction)(OSObject *object, void *context);
typedef void (*IORegistryEntryApplierFunction)(IORegistryEntry *entry, void *context);

class IORegistryEntry : public OSObject
{
    CLASS_MEMBERS(IORegistryEntry);

private:
    void *expansion;
    OSDictionary *registry_table;
    OSDictionary *property_table;

public:
    typedef int (*Action)(OSObject *target, void *, void *, void *, void *);

    virtual OSObject *copyProperty(const char *key, const IORegistryPlane *, uint32_t) const;
    virtual OSObject *copyProperty(const OSString *key, const IORegistryPlane *, uint32_t) const;
    virtual OSObject *copyProperty(const OSSymbol *key, const IORegistryPlane *, uint32_t) const;
    virtual IORegistryEntry *copyParentEntry(const IORegistryPlane *) const;
    virtual IORegistryEntry *copyChildEntry(const IORegistryPlane *) const;
    virtual int runPropertyAction(Action, OSObject *target, void *, void *, void *, void *);

private:
    RESERVED_0_TO_7(IORegistryEntry);
    RESERVED_8_TO_15(IORegistryEntry);
    RESERVED_16_TO_23(IORegistryEntry);
    RESERVED_24_TO_31(IORegistryEntry);

public:
    using OSObject::init;
    virtual bool init(OSDictionary *properties);
    void free() override;
    virtual void setPropertyTable(OSDictionary *);
    virtual bool setProperty(const OSSymbol *key, OSObject *);
    virtual bool setProperty(const OSString *key, OSObject *);
    virtual bool setProperty(const char *key, OSObject *);
    virtual bool setProperty(const char *key, const char *);
    virtual bool setProperty(const char *key, bool);
    virtual bool setProperty(const char *key, unsigned long long value, unsigned int bits);
    virtual bool setProperty(const char *key, void *bytes, unsigned int length);
    virtual void removeProperty(const OSSymbol *key);
    virtual void removeProperty(const OSString *key);
    virtual void removeProperty(const char *key);
    virtual OSObject *getProperty(const OSSymbol *key) const;
    virtual OSObject *getProperty(const OSString *key) const;
    virtual OSObject *getProperty(const char *key) const;
    virtual OSObject *getProperty(const OSSymbol *key, const IORegistryPlane *, uint32_t) const;
    virtual OSObject *getProperty(const OSString *key, const IORegistryPlane *, uint32_t) const;
    virtual OSObject *getProperty(const char *key, const IORegistryPlane *, uint32_t) const;
    virtual OSObject *copyProperty(const OSSymbol *key) const;
    virtual OSObject *copyProperty(const OSString *key) const;
    virtual OSObject *copyProperty(const char *key) const;
    virtual OSDictionary *dictionaryWithProperties() const;
    virtual bool serializeProperties(OSSerialize *) const;
    virtual int setProperties(OSObject *);
    virtual OSIterator *getParentIterator(const IORegistryPlane *) const;
    virtual void applyToParents(IORegistryEntryApplierFunction, void *, const IORegistryPlane *) const;
    virtual IORegistryEntry *getParentEntry(const IORegistryPlane *) const;
    virtual OSIterator *getChildIterator(const IORegistryPlane *) const;
    virtual void applyToChildren(IORegistryEntryApplierFunction, void *, const IORegistryPlane *) const;
    virtual IORegistryEntry *getChildEntry(const IORegistryPlane *) const;
    virtual bool isChild(IORegistryEntry *, const IORegistryPlane *, bool only) const;
    virtual bool isParent(IORegistryEntry *, const IORegistryPlane *, bool only) const;
    virtual bool inPlane(const IORegistryPlane *) const;
    virtual unsigned int getDepth(const IORegistryPlane *) const;
    virtual bool attachToParent(IORegistryEntry *, const IORegistryPlane *);
    virtual void detachFromParent(IORegistryEntry *, const IORegistryPlane *);
    virtual bool attachToChild(IORegistryEntry *, const IORegistryPlane *);
    virtual void detachFromChild(IORegistryEntry *, const IORegistryPlane *);
    virtual void detachAbove(const IORegistryPlane *);
    virtual void detachAll(const IORegistryPlane *);
    virtual const char *getName(const IORegistryPlane *) const;
    virtual const OSSymbol *copyName(const IORegistryPlane *) const;
    virtual bool compareNames(OSObject *name, OSString **matched) const;
    virtual bool compareName(OSString *name, OSString **matched) const;
    virtual void setName(const OSSymbol *, const IORegistryPlane *);
    virtual void setName(const char *, const IORegistryPlane *);
    virtual const char *getLocation(const IORegistryPlane *) const;
    virtual const OSSymbol *copyLocation(const IORegistryPlane *) const;
    virtual void setLocation(const OSSymbol *, const IORegistryPlane *);
    virtual void setLocation(const char *, const IORegistryPlane *);
    virtual bool getPath(char *path, int *length, const IORegistryPlane *) const;
    virtual bool getPathComponent(char *path, int *length, const IORegistryPlane *) const;
    virtual IORegistryEntry *childFromPath(const char *path, const IORegistryPlane *, char *rest, int *length);
    virtual bool init(IORegistryEntry *from, const IORegistryPlane *);
};

class IOService : public IORegistryEntry
{
    CLASS_MEMBERS(IOService);

private:
    void *expansion;
    IOService *provider;
    int32_t provider_generation;
    IOService *owner;
    uint32_t state[2];
    uint64_t time_busy;
    uint64_t total_busy;
    void *power;

protected:
    bool power_initialized;

public:
    void *unused_power;

    virtual bool requestTerminate(IOService *, uint32_t options);
    virtual bool willTerminate(IOService *, uint32_t options);
    virtual bool didTerminate(IOService *, uint32_t options, bool *defer);
    virtual int32_t nextIdleTimeout(unsigned long long now, unsigned long long last, unsigned int state);
    virtual void systemWillShutdown(uint32_t specifier);
    virtual IOService *copyClientWithCategory(const OSSymbol *);

private:
    /* The first two are configureReport and updateReport since 10.9. */
    RESERVED_0_TO_7(IOService);
    RESERVED_8_TO_15(IOService);
    RESERVED_16_TO_23(IOService);
    RESERVED_24_TO_31(IOService);
    RESERVED_32_TO_39(IOService);
    RESERVED_40_TO_47(IOService);

public:
    virtual uint32_t getState() const;
    virtual void registerService(uint32_t options);
    virtual IOService *probe(IOService *provider, int32_t *score);
    virtual bool start(IOService *provider);
    virtual void stop(IOService *provider);
    virtual bool open(IOService *client, uint32_t options, void *);
    virtual void close(IOService *client, uint32_t options);
    virtual bool isOpen(const IOService *client) const;
    virtual bool handleOpen(IOService *client, uint32_t options, void *);
    virtual void handleClose(IOService *client, uint32_t options);
    virtual bool handleIsOpen(const IOService *client) const;
    virtual bool terminate(uint32_t options);
    virtual bool finalize(uint32_t options);
    using OSObject::init;
    bool init(OSDictionary *properties) override;
    bool init(IORegistryEntry *from, const IORegistryPlane *) override;
    void free() override;
    virtual bool lockForArbitration(bool must);
    virtual void unlockForArbitration();
    virtual bool terminateClient(IOService *client, uint32_t options);
    virtual uint32_t getBusyState();
    virtual void adjustBusy(int32_t delta);
    virtual bool matchPropertyTable(OSDictionary *, int32_t *score);
    virtual bool matchPropertyTable(OSDictionary *);
    virtual IOService *matchLocation(IOService *client);
    virtual bool addNeededResource(const char *key);
    virtual bool compareProperty(OSDictionary *, const char *key);
    virtual bool compareProperty(OSDictionary *, const OSString *key);
    virtual bool compareProperties(OSDictionary *, OSCollection *keys);
    virtual bool attach(IOService *provider);
    virtual void detach(IOService *provider);
    virtual IOService *getProvider() const;
    virtual IOWorkLoop *getWorkLoop() const;
    virtual OSIterator *getProviderIterator() const;
    virtual OSIterator *getOpenProviderIterator() const;
    virtual IOService *getClient() const;
    virtual OSIterator *getClientIterator() const;
    virtual OSIterator *getOpenClientIterator() const;
    virtual int callPlatformFunction(const OSSymbol *name, bool wait, void *, void *, void *, void *);
    virtual int callPlatformFunction(const char *name, bool wait, void *, void *, void *, void *);
    virtual int getResources();
    virtual uint32_t getDeviceMemoryCount();
    virtual IODeviceMemory *getDeviceMemoryWithIndex(unsigned int);
    virtual IOMemoryMap *mapDeviceMemoryWithIndex(unsigned int, uint32_t options);
    virtual OSArray *getDeviceMemory();
    virtual void setDeviceMemory(OSArray *);
    virtual int registerInterrupt(int source, OSObject *target, IOInterruptAction, void *reference);
    virtual int unregisterInterrupt(int source);
    virtual int getInterruptType(int source, int *type);
    virtual int enableInterrupt(int source);
    virtual int disableInterrupt(int source);
    virtual int causeInterrupt(int source);
    virtual int requestProbe(uint32_t options);
    virtual int message(uint32_t type, IOService *provider, void *argument);
    virtual int messageClient(uint32_t type, OSObject *client, void *argument, unsigned long size);
    virtual int messageClients(uint32_t type, void *argument, unsigned long size);
    virtual IONotifier *registerInterest(const OSSymbol *, IOServiceInterestHandler, void *, void *);
    virtual void applyToProviders(IOServiceApplierFunction, void *);
    virtual void applyToClients(IOServiceApplierFunction, void *);
    virtual void applyToInterested(const OSSymbol *, OSObjectApplierFunction, void *);
    virtual int acknowledgeNotification(void *notification, uint32_t response);
    virtual int newUserClient(task_t, void *security, uint32_t type, OSDictionary *, IOUserClient **);
    virtual int newUserClient(task_t, void *security, uint32_t type, IOUserClient **);
    virtual const char *stringFromReturn(int);
    virtual int errnoFromReturn(int);
    bool serializeProperties(OSSerialize *) const override;
    virtual void PMinit();
    virtual void PMstop();
    virtual void joinPMtree(IOService *driver);
    virtual int registerPowerDriver(IOService *driver, IOPMPowerState *, unsigned long count);
    virtual int requestPowerDomainState(unsigned long state, IOPowerConnection *, unsigned long flags);
    virtual bool activityTickle(unsigned long type, unsigned long state);
    virtual int setAggressiveness(unsigned long type, unsigned long level);
    virtual int getAggressiveness(unsigned long type, unsigned long *level);
    virtual int addPowerChild(IOService *);
    virtual int removePowerChild(IOPowerConnection *);
    virtual int setIdleTimerPeriod(unsigned long seconds);
    virtual int setPowerState(unsigned long state, IOService *device);
    virtual unsigned long maxCapabilityForDomainState(unsigned long flags);
    virtual unsigned long initialPowerStateForDomainState(unsigned long flags);
    virtual unsigned long powerStateForDomainState(unsigned long flags);
    virtual int powerStateWillChangeTo(unsigned long flags, unsigned long state, IOService *device);
    virtual int powerStateDidChangeTo(unsigned long flags, unsigned long state, IOService *device);
    virtual bool askChangeDown(unsigned long state);
    virtual bool tellChangeDown(unsigned long state);
    virtual void tellNoChangeDown(unsigned long state);
    virtual void tellChangeUp(unsigned long state);
    virtual int allowPowerChange(unsigned long reference);
    virtual int cancelPowerChange(unsigned long reference);

protected:
    virtual void powerChangeDone(unsigned long state);

private:
    int interrupt_sources;
    void *interrupt_source_table;
};

class IOUserClient : public IOService
{
    CLASS_MEMBERS(IOUserClient);

private:
    void *expansion;
    void *internals[9];

public:
    virtual int externalMethod(
        uint32_t selector, IOExternalMethodArguments *, IOExternalMethodDispatch *, OSObject *target, void *);
    virtual int registerNotificationPort(mach_port_t, uint32_t type, unsigned long long reference);

private:
    RESERVED_0_TO_7(IOUserClient);
    RESERVED_8_TO_15(IOUserClient);

public:
    bool init() override;
    bool init(OSDictionary *properties) override;
    using IOService::init;
    virtual bool initWithTask(task_t, void *security, uint32_t type, OSDictionary *properties);
    virtual bool initWithTask(task_t, void *security, uint32_t type);
    void free() override;
    virtual int clientClose();
    virtual int clientDied();
    virtual IOService *getService();
    virtual int registerNotificationPort(mach_port_t, uint32_t type, uint32_t reference);
    virtual int getNotificationSemaphore(uint32_t type, mach_port_t *);
    virtual int connectClient(IOUserClient *);
    virtual int clientMemoryForType(uint32_t type, uint32_t *options, IOMemoryDescriptor **);
    virtual int exportObjectToClient(task_t, OSObject *, OSObject **);
    virtual IOExternalMethod *getExternalMethodForIndex(uint32_t);
    virtual IOExternalAsyncMethod *getExternalAsyncMethodForIndex(uint32_t);
    virtual IOExternalMethod *getTargetAndMethodForIndex(IOService **, uint32_t);
    virtual IOExternalAsyncMethod *getAsyncTargetAndMethodForIndex(IOService **, uint32_t);
    virtual IOExternalTrap *getExternalTrapForIndex(uint32_t);
    virtual IOExternalTrap *getTargetAndTrapForIndex(IOService **, uint32_t);
};

static_assert(sizeof(IORegistryEntry) == 40, "as in the kernel");
static_assert(sizeof(IOService) == 0x88, "as in the kernel");
static_assert(sizeof(IOUserClient) == 0xd8, "as in the kernel");

/* Only called, never derived from: nothing after the last virtual function that is needed. */
class IOMemoryDescriptor : public OSObject
{
public:
    /* task NULL: physical addresses. */
    static IOMemoryDescriptor *withAddressRange(
        unsigned long long address, unsigned long long bytes, uint32_t options, task_t);
    IOMemoryMap *createMappingInTask(
        task_t, unsigned long long address, uint32_t options, unsigned long long offset, unsigned long long bytes);

    virtual bool initWithOptions(void *, uint32_t, uint32_t, task_t, uint32_t options, IOMapper *);
    virtual int setPurgeable(uint32_t state, uint32_t *old);
    virtual int performOperation(uint32_t options, byte_count_t offset, byte_count_t bytes);
    virtual int dmaCommandOperation(uint32_t, void *, unsigned int) const;
    virtual unsigned long long getPhysicalSegment(byte_count_t offset, byte_count_t *bytes, uint32_t options) = 0;

private:
    /* The first one is getPreparationID since 10.7, and others are taken later. */
    RESERVED_0_TO_7(IOMemoryDescriptor);
    RESERVED_8_TO_15(IOMemoryDescriptor);

public:
    virtual uint32_t getDirection() const;
    virtual byte_count_t getLength() const;
    virtual void setTag(uint32_t);
    virtual uint32_t getTag();
    virtual byte_count_t readBytes(byte_count_t offset, void *, byte_count_t bytes);
    virtual byte_count_t writeBytes(byte_count_t offset, const void *, byte_count_t bytes);
    virtual int prepare(uint32_t direction) = 0;
    virtual int complete(uint32_t direction) = 0;
};

/* Derived from IOMemoryDescriptor through another class, which adds no data that matters here. */
class IOBufferMemoryDescriptor : public IOMemoryDescriptor
{
public:
    static IOBufferMemoryDescriptor *inTaskWithPhysicalMask(
        task_t, uint32_t options, unsigned long long bytes, unsigned long long mask);
    void *getBytesNoCopy();
};

class IOMemoryMap : public OSObject
{
public:
    /* Virtual in the kernel, which has no class derived from this one: called by name. */
    unsigned long long getVirtualAddress();
};

class IONotifier : public OSObject
{
public:
    virtual void remove() = 0;
};

#endif
