/* SPDX-License-Identifier: GPL-2.0-only OR CDDL-1.0 */
/*
 * A 32-bit client. The structures differ in layout between the widths, so that a 64-bit driver must refuse all its requests with ENOTTY,
 * whatever their codes, and not touch them. The exit status says whether it does.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* The handshake. It begins with the header that all requests have; its output is the largest thing here. */
struct cookie
{
    uint32_t cookie, session_cookie, in_bytes, out_bytes, flags;
    int32_t rc;
    char magic[16];
    uint32_t wanted_version, min_version;
};

static const struct cookie request = {
    0x69726f74, 0, 0x30, 0x30, 0x42000042, -1, "The Magic Word!", 0x001a0007, 0x001a0007
};

int main(void)
{
    static const char *const nodes[] = { "/dev/vboxdrv", "/dev/vboxdrvu" };
    /* The handshake of a 32-bit driver and of a 64-bit one; without a size; fast calls of both; of nobody. */
    static const unsigned long codes[] = { 0xc0305601, 0xc0305681, 0x5681, 0x5640, 0x56c0, 0x56c2, 0xc0305699 };
    int failures = 0;

    for (unsigned n = 0; n < sizeof(nodes) / sizeof(nodes[0]); n++)
    {
        int fd = open(nodes[n], O_RDWR);
        if (fd < 0)
        {
            printf("FAILED %s can't be opened: %s\n", nodes[n], strerror(errno));
            return 1;
        }
        for (unsigned c = 0; c < sizeof(codes) / sizeof(codes[0]); c++)
        {
            struct cookie packet = request;
            int rc = ioctl(fd, codes[c], &packet), error = rc ? errno : 0;
            int is_right = error == ENOTTY && !memcmp(&packet, &request, sizeof(packet));
            printf("%s %s, code %#lx: %s\n", is_right ? "ok    " : "FAILED", nodes[n], codes[c], strerror(error));
            failures += !is_right;
        }
        close(fd);
    }
    return failures != 0;
}
