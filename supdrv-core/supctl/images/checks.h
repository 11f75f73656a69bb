/* SPDX-License-Identifier: GPL-2.0-only OR CDDL-1.0 */
/*
 * A ring-0 image that checks things and says what came out, one check per call: a service whose operation 0 is the number of checks, and
 * whose operation 1 runs the one in the argument, puts its name into the packet, and returns 0 or the line of what was wrong.
 */
#ifndef CHECKS_H
#define CHECKS_H

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef __SIZE_TYPE__ usize;
typedef _Bool bool;
#define NULL ((void *)0)

struct packet { u32 magic, bytes; char text[]; };
struct check { const char *name; int (*run)(void *session); };

#define CHECK(function) static int function(void *session)
/* Whether something is so; the line is the check's result if not. */
#define WANT(condition) do { if (!(condition)) return __LINE__; } while (0)
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static int run_check(const struct check *checks, u32 count, void *session, u32 operation, u64 arg, struct packet *packet)
{
    if (operation == 0)
        return (int)count;
    if (operation != 1 || arg >= count)
        return -36;
    const struct check *check = &checks[arg];
    if (packet)
        for (u32 i = 0; i + 8 < packet->bytes && check->name[i]; i++)
            packet->text[i] = check->name[i];
    return check->run(session);
}

#endif
