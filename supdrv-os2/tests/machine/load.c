/* Loads a driver as OS/2 does: objects to where there is room, 16-bit ones with selectors of their own, fixups applied. */
#include "machine.h"

/* DOSCALLS, in start.asm. */
void dos_59(void);
void dos_70(void);
void dos_138(void);

#define OBJECT_WRITABLE 2
#define OBJECT_EXECUTABLE 4
#define OBJECT_ALIAS 0x1000
#define OBJECT_BIG 0x2000

static u32 dos_entry(u16 ordinal)
{
    switch (ordinal) {
    case 59: return (u32)dos_59;
    case 70: return (u32)dos_70;
    case 138: return (u32)dos_138;
    }
    return 0;
}

/* Where an import is: flat, or an offset in the 16-bit code of the stand-in. 0 if there is none. */
static u32 import(const u8 *library, u16 ordinal, u16 *selector)
{
    u32 place;
    *selector = FLAT_CODE;
    if (library[0] == 3 && library[1] == 'K' && library[2] == 'E' && library[3] == 'E')
        return kernel_ordinal(ordinal);
    if (library[0] != 8 || library[1] != 'D' || library[8] != 'S')
        return 0;
    place = dos_entry(ordinal);
    *selector = CODE16;
    return place ? place - (u32)code16 : 0;
}

/* Applies the fixup at `record` to the page at `page`, of which `bytes` are there; its bytes, or 0 if it isn't understood. */
static u32 fix(struct driver *driver, u32 page, const u8 *record, const u8 *libraries, const u32 *flags)
{
    u8 source = record[0], kind = record[1], bytes[6];
    short within = word_at(record + 2);
    u32 used, offset, flat_target, size, place = page + within;
    u16 selector;

    if (kind & 0xc0)
        return 0;
    if ((kind & 3) == 0) {
        u32 object = record[4] - 1;
        if (object >= driver->objects)
            return 0;
        used = 5;
        offset = 0;
        if ((source & 0xf) != 2) {
            offset = kind & 0x10 ? dword_at(record + 5) : word_at(record + 5);
            used += kind & 0x10 ? 4 : 2;
        }
        flat_target = driver->base[object] + offset;
        selector = source & 0x10 ? driver->selector[object] : flags[object] & OBJECT_EXECUTABLE ? FLAT_CODE : FLAT_DATA;
        if (source & 0x10 && !(flags[object] & OBJECT_ALIAS))
            return 0;
    } else if ((kind & 3) == 1) {
        const u8 *library = libraries;
        for (u32 number = record[4]; number > 1; number--)
            library += library[0] + 1;
        flat_target = offset = import(library, word_at(record + 5), &selector);
        if (!flat_target) {
            print("a missing import: ");
            print_number(word_at(record + 5));
            print("\n");
            return 0;
        }
        used = 7;
        if (kind & 4) {
            flat_target += kind & 0x20 ? dword_at(record + 7) : word_at(record + 7);
            used += kind & 0x20 ? 4 : 2;
        }
    } else {
        return 0;
    }
    switch (source & 0xf) {
    case 2: size = 2; copy_memory(bytes, &selector, 2); break;
    case 3: size = 4; copy_memory(bytes, &offset, 2); copy_memory(bytes + 2, &selector, 2); break;
    case 6: size = 6; copy_memory(bytes, &flat_target, 4); copy_memory(bytes + 4, &selector, 2); break;
    case 7: size = 4; copy_memory(bytes, &flat_target, 4); break;
    case 8: size = 4; flat_target -= place + 4; copy_memory(bytes, &flat_target, 4); break;
    default: return 0;
    }
    for (u32 at = 0; at < size; at++)
        if (place + at >= page && place + at < page + 4096)
            *(u8 *)(place + at) = bytes[at];
    return used;
}

/* 1 if the driver was loaded. */
int load_driver(const u8 *file, u32 bytes, const u32 *bases, struct driver *driver)
{
    const u8 *lx = file + dword_at(file + 0x3c), *object, *libraries = lx + dword_at(lx + 0x70);
    u32 flags[8];

    if (bytes < 0x200 || lx[0] != 'L' || lx[1] != 'X' || dword_at(lx + 0x10) != 0x20000 || dword_at(lx + 0x44) > 8)
        return 0;
    driver->objects = dword_at(lx + 0x44);
    for (u32 number = 0; number < driver->objects; number++) {
        object = lx + dword_at(lx + 0x40) + number * 24;
        driver->base[number] = bases[number];
        driver->size[number] = dword_at(object);
        driver->selector[number] = 0;
        flags[number] = dword_at(object + 8);
        set_memory((void *)bases[number], 0, (driver->size[number] + 4095) & -4096);
        for (u32 page = 0; page < dword_at(object + 16); page++) {
            const u8 *entry = lx + dword_at(lx + 0x48) + (dword_at(object + 12) + page - 1) * 8;
            copy_memory((u8 *)bases[number] + page * 4096,
                        file + dword_at(lx + 0x80) + (dword_at(entry) << dword_at(lx + 0x2c)), word_at(entry + 4));
        }
        if (flags[number] & OBJECT_ALIAS) {
            u8 access = flags[number] & OBJECT_EXECUTABLE ? CODE_ACCESS : DATA_ACCESS;
            driver->selector[number] = FIRST_OBJECT + 8 * number;
            /* Just as long as it is: whoever reaches further faults. */
            set_selector(driver->selector[number], bases[number], driver->size[number] - 1, access, 0);
        }
    }
    for (u32 number = 0; number < driver->objects; number++) {
        object = lx + dword_at(lx + 0x40) + number * 24;
        for (u32 page = 0; page < dword_at(object + 16); page++) {
            const u8 *index = lx + dword_at(lx + 0x68) + (dword_at(object + 12) + page - 1) * 4;
            const u8 *records = lx + dword_at(lx + 0x6c);
            u32 at = dword_at(index);
            while (at < dword_at(index + 4)) {
                u32 used = fix(driver, bases[number] + page * 4096, records + at, libraries, flags);
                if (!used)
                    return 0;
                at += used;
            }
        }
    }
    return 1;
}
