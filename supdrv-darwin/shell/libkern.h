/*
 * The kernel's C++ runtime, as far as a driver's classes need it: what an object of each class looks like, and the order of the virtual
 * functions. Declared for x86-64 kernels from 10.6 on, in our own words; names, types and order are the kernel's binary interface.
 *
 * How that interface stays the same from 10.6 to 15: a class ends its virtual functions, or a group of them, with reserved ones (RESERVED
 * below). A later kernel that adds a virtual function gives up one of those. The kernel's linker replaces each slot of our tables that we
 * don't fill ourselves by what the running kernel has in that place. So it is the first release's declarations that serve for all: the
 * number and the order of slots must be right, and no slot may be named that the oldest kernel doesn't have. What is virtual only in
 * 32-bit kernels isn't here.
 */
#ifndef SUPDRV_LIBKERN_H
#define SUPDRV_LIBKERN_H

#include <stddef.h>
#include <stdint.h>

class OSDictionary;
class OSMetaClass;
class OSObject;
class OSSerialize;
class OSString;
class OSSymbol;

/* A place in the table of virtual functions that a later kernel may use. */
#define RESERVED(name, index) virtual void _RESERVED##name##index()
#define RESERVED_8(name, a, b, c, d, e, f, g, h)                                                                   \
    RESERVED(name, a);                                                                                              \
    RESERVED(name, b);                                                                                              \
    RESERVED(name, c);                                                                                              \
    RESERVED(name, d);                                                                                              \
    RESERVED(name, e);                                                                                              \
    RESERVED(name, f);                                                                                              \
    RESERVED(name, g);                                                                                              \
    RESERVED(name, h)
#define RESERVED_0_TO_7(name) RESERVED_8(name, 0, 1, 2, 3, 4, 5, 6, 7)
#define RESERVED_8_TO_15(name) RESERVED_8(name, 8, 9, 10, 11, 12, 13, 14, 15)
#define RESERVED_16_TO_23(name) RESERVED_8(name, 16, 17, 18, 19, 20, 21, 22, 23)
#define RESERVED_24_TO_31(name) RESERVED_8(name, 24, 25, 26, 27, 28, 29, 30, 31)
#define RESERVED_32_TO_39(name) RESERVED_8(name, 32, 33, 34, 35, 36, 37, 38, 39)
#define RESERVED_40_TO_47(name) RESERVED_8(name, 40, 41, 42, 43, 44, 45, 46, 47)

class OSMetaClassBase
{
public:
    OSMetaClassBase();
    virtual ~OSMetaClassBase();
    virtual void release(int when_below) const = 0;
    virtual int getRetainCount() const = 0;
    virtual void retain() const = 0;
    virtual void release() const = 0;
    virtual bool serialize(OSSerialize *to) const = 0;
    virtual const OSMetaClass *getMetaClass() const = 0;
    virtual bool isEqualTo(const OSMetaClassBase *other) const;
    virtual void taggedRetain(const void *tag) const = 0;
    virtual void taggedRelease(const void *tag) const = 0;

    /* The object if it is of that class or of one derived from it, else NULL. */
    static OSMetaClassBase *safeMetaCast(const OSMetaClassBase *object, const OSMetaClass *meta);

protected:
    virtual void taggedRelease(const void *tag, const int when_below) const = 0;

private:
    RESERVED(OSMetaClassBase, 3);
    RESERVED(OSMetaClassBase, 4);
    RESERVED(OSMetaClassBase, 5);
    RESERVED(OSMetaClassBase, 6);
    RESERVED(OSMetaClassBase, 7);
};

/* What stands for a class at run time. Its constructor registers the class. */
class OSMetaClass : public OSMetaClassBase
{
protected:
    void retain() const override;
    void release() const override;
    void release(int when_below) const override;
    void taggedRetain(const void *tag) const override;
    void taggedRelease(const void *tag) const override;
    void taggedRelease(const void *tag, const int when_below) const override;
    int getRetainCount() const override;
    const OSMetaClass *getMetaClass() const override;
    OSMetaClass(const char *name, const OSMetaClass *super, unsigned int size);
    ~OSMetaClass() override;
    void operator delete(void *, size_t) {}

public:
    void instanceConstructed() const;
    virtual OSObject *alloc() const = 0;

private:
    bool serialize(OSSerialize *to) const override;
    RESERVED_0_TO_7(OSMetaClass);

    void *expansion;
    const OSMetaClass *super_class;
    const OSSymbol *name;
    unsigned int size;
    unsigned int instances;
};

/* What every class has: its MetaClass, the constructor for derived classes, the destructor. No virtual function of its own. */
#define CLASS_MEMBERS(name)                                                                                         \
private:                                                                                                            \
    static const OSMetaClass *const superClass;                                                                     \
                                                                                                                    \
public:                                                                                                             \
    static const OSMetaClass *const metaClass;                                                                      \
    static class MetaClass : public OSMetaClass                                                                     \
    {                                                                                                               \
    public:                                                                                                         \
        MetaClass();                                                                                                \
        OSObject *alloc() const override;                                                                           \
    } gMetaClass;                                                                                                   \
    friend class name::MetaClass;                                                                                   \
    const OSMetaClass *getMetaClass() const override;                                                               \
                                                                                                                    \
protected:                                                                                                          \
    explicit name(const OSMetaClass *meta);                                                                         \
    ~name() override

/* The definitions of what CLASS_MEMBERS and a default constructor declare. */
#define DEFINE_CLASS(name, super)                                                                                   \
    name::MetaClass name::gMetaClass;                                                                               \
    const OSMetaClass *const name::metaClass = &name::gMetaClass;                                                   \
    const OSMetaClass *const name::superClass = &super::gMetaClass;                                                 \
    name::name(const OSMetaClass *meta) : super(meta) {}                                                            \
    name::~name() {}                                                                                                \
    const OSMetaClass *name::getMetaClass() const { return &gMetaClass; }                                           \
    name::MetaClass::MetaClass() : OSMetaClass(#name, name::superClass, sizeof(name)) {}                            \
    OSObject *name::MetaClass::alloc() const { return new name; }                                                   \
    name::name() : super(&gMetaClass) { gMetaClass.instanceConstructed(); }

class OSObject : public OSMetaClassBase
{
    CLASS_MEMBERS(OSObject);

private:
    mutable int references;

protected:
    void release(int when_below) const override;
    void taggedRelease(const void *tag, const int when_below) const override;
    virtual bool init();
    virtual void free();
    static void operator delete(void *memory, size_t size);

public:
    static void *operator new(size_t size);
    int getRetainCount() const override;
    void retain() const override;
    void release() const override;
    void taggedRetain(const void *tag) const override;
    void taggedRelease(const void *tag) const override;
    bool serialize(OSSerialize *to) const override;

private:
    RESERVED_0_TO_7(OSObject);
    RESERVED_8_TO_15(OSObject);
};

static_assert(sizeof(OSMetaClass) == 40, "as in the kernel");
static_assert(sizeof(OSObject) == 16, "as in the kernel");

#endif
