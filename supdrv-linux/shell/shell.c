// SPDX-License-Identifier: GPL-2.0-only OR CDDL-1.0
/*
 * The module: parameters, device nodes, file operations, power events. Requests are copied in and out here, because the user
 * access helpers are inline; what they mean is decided in Rust.
 */
#include <linux/cred.h>
#include <linux/debugfs.h>
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/platform_device.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/suspend.h>
#include <linux/uaccess.h>

#include "glue.h"

static int force_async_tsc;
module_param(force_async_tsc, int, 0444);
MODULE_PARM_DESC(force_async_tsc, "non-zero: the time page works in asynchronous mode");
static bool hardened = true;
module_param(hardened, bool, 0444);
MODULE_PARM_DESC(hardened, "only root opens the unrestricted node (default: yes)");

int supdrv_glue_force_async_tsc(void);
int supdrv_glue_force_async_tsc(void)
{
	return force_async_tsc;
}

/* The header of a request; the rest is Rust's business. */
struct request_header {
	u32 cookie, session_cookie, in_bytes, out_bytes, flags;
	s32 rc;
};

#define HEADER_BYTES sizeof(struct request_header)
#define MAX_REQUEST_BYTES 0x1000000u
/* The largest request of a restricted session is the handshake. */
#define MAX_RESTRICTED_BYTES 0x1000u
#define FLAGS_MAGIC_MASK 0xff0000ffu
#define FLAGS_MAGIC 0x42000042u
#define SMALL_BYTES 256u

static inline bool is_fast(unsigned int cmd)
{
	return cmd - 0x56c0u < 3;
}

/*
 * Copies of a few words: cheaper than the out-of-line copies. Sizes of requests are multiples of four, and nearly always of eight. The
 * index counts up to zero: that makes the shortest loop.
 */
#define COPY_SMALL(move)                                     \
	do {                                                 \
		long words = bytes & ~7ul, i;                \
                                                             \
		to += words;                                 \
		from += words;                               \
		for (i = -words; i; i += 8)                  \
			move(u64, i);                        \
		i = 0;                                       \
		if (bytes & 4) {                             \
			move(u32, 0);                        \
			i = 4;                               \
		}                                            \
		for (; unlikely(i < (long)(bytes & 7)); i++) \
			move(u8, i);                         \
	} while (0)

/* A header at least. */
static __always_inline bool copy_out_small(u8 __user *to, const u8 *from, size_t bytes)
{
#define MOVE(type, at) unsafe_put_user(*(const type *)(from + (at)), (type __user *)(to + (at)), fault)
	if (!user_write_access_begin(to, bytes))
		return false;
	MOVE(u64, 0);
	MOVE(u64, 8);
	MOVE(u64, 16);
	to += HEADER_BYTES;
	from += HEADER_BYTES;
	bytes -= HEADER_BYTES;
	COPY_SMALL(MOVE);
	user_write_access_end();
	return true;
fault:
	user_write_access_end();
	return false;
#undef MOVE
}

/* Clears from `in` to the next multiple of eight at least: the buffer has room for that. */
static __always_inline void clear_rest(u64 *buffer, size_t in, size_t bytes)
{
	size_t i;

	if (in % 8)
		memset((u8 *)buffer + in, 0, 8 - in % 8);
	/* A plain loop: it is nearly always one word, which isn't worth the call that the compiler would make of it. */
	for (i = (in + 7) / 8; i < (bytes + 7) / 8; i++)
		WRITE_ONCE(buffer[i], 0);
}

/* The first thing that is wrong with a header, or 0. `size` is that of the function code. */
static int check_header(const struct request_header *header, size_t size, size_t limit)
{
	u32 in = header->in_bytes, out = header->out_bytes;

	if ((header->flags & FLAGS_MAGIC_MASK) != FLAGS_MAGIC)
		return -EINVAL;
	if (max(in, out) > limit)
		return -E2BIG;
	if ((size && size != max(in, out)) || min(in, out) < HEADER_BYTES)
		return -EINVAL;
	return 0;
}

/* A packet in memory of its own. The header is read once, into the buffer: nothing is read twice. */
static noinline long ioctl_large(struct file *file, unsigned int cmd, u8 __user *user, size_t limit)
{
	struct request_header header;
	size_t bytes, in;
	u8 *buffer;
	long rc;

	if (copy_from_user(&header, user, HEADER_BYTES))
		return -EFAULT;
	rc = check_header(&header, _IOC_SIZE(cmd), limit);
	if (rc)
		return rc;
	in = header.in_bytes;
	bytes = max_t(size_t, in, header.out_bytes);
	buffer = kvmalloc(bytes, GFP_KERNEL_ACCOUNT | __GFP_NOWARN);
	if (!buffer)
		return -ENOMEM;
	memcpy(buffer, &header, HEADER_BYTES);
	rc = -EFAULT;
	if (copy_from_user(buffer + HEADER_BYTES, user + HEADER_BYTES, in - HEADER_BYTES))
		goto out;
	memset(buffer + in, 0, bytes - in);
	rc = -EINVAL;
	if (supdrv_rust_ioctl(file->private_data, cmd, buffer, bytes))
		goto out;
	rc = copy_to_user(user, buffer, min_t(size_t, ((struct request_header *)buffer)->out_bytes, bytes)) ? -EFAULT : 0;
out:
	kvfree(buffer);
	return rc;
}

/* A packet on the stack: its size is that of the function code, and small. One access to user memory in each direction. */
static __always_inline long ioctl_small(struct file *file, unsigned int cmd, u8 __user *user, size_t size, size_t limit)
{
	/* Every byte that is used is written first; clearing all of it would cost more than a small request. */
	u64 buffer[SMALL_BYTES / 8] __attribute__((__uninitialized__));
	struct request_header *header = (struct request_header *)buffer;
	u32 in, out;

	BUILD_BUG_ON(HEADER_BYTES != 24);
	if (!user_read_access_begin(user, size))
		return -EFAULT;
	unsafe_get_user(buffer[0], (const u64 __user *)user, fault);
	unsafe_get_user(buffer[1], (const u64 __user *)user + 1, fault);
	unsafe_get_user(buffer[2], (const u64 __user *)user + 2, fault);
	in = header->in_bytes;
	out = header->out_bytes;
	if ((header->flags & FLAGS_MAGIC_MASK) != FLAGS_MAGIC || max(in, out) != size || min(in, out) < HEADER_BYTES) {
		user_read_access_end();
		return check_header(header, size, limit);
	}
	if (in > HEADER_BYTES) {
		u8 *to = (u8 *)buffer + HEADER_BYTES;
		const u8 __user *from = user + HEADER_BYTES;
		size_t bytes = in - HEADER_BYTES;

#define MOVE(type, at) unsafe_get_user(*(type *)(to + (at)), (const type __user *)(from + (at)), fault)
		COPY_SMALL(MOVE);
#undef MOVE
	}
	user_read_access_end();
	clear_rest(buffer, in, size);
	if (supdrv_rust_ioctl(file->private_data, cmd, buffer, size))
		return -EINVAL;
	/* The core only ever lowers it, to a header at least. */
	out = header->out_bytes;
	if (unlikely(out - (u32)HEADER_BYTES > size - HEADER_BYTES))
		return -EINVAL;
	return copy_out_small(user, (u8 *)buffer, out) ? 0 : -EFAULT;
fault:
	user_read_access_end();
	return -EFAULT;
}

static __always_inline long ioctl_packet(struct file *file, unsigned int cmd, unsigned long arg, size_t limit)
{
	u8 __user *user = (u8 __user *)arg;
	size_t size = _IOC_SIZE(cmd);

	if (likely(size - HEADER_BYTES <= SMALL_BYTES - HEADER_BYTES))
		return ioctl_small(file, cmd, user, size, limit);
	return ioctl_large(file, cmd, user, limit);
}

/*
 * No stack protector for these two: the only array is written with sizes that were just checked, and the protector would be a noticeable
 * part of a small request.
 */
#ifndef __no_stack_protector
# define __no_stack_protector
#endif

static __no_stack_protector long supdrv_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	if (is_fast(cmd))
		return supdrv_rust_ioctl_fast(file->private_data, cmd, (u32)arg);
	return ioctl_packet(file, cmd, arg, MAX_REQUEST_BYTES);
}

static __no_stack_protector long supdrv_ioctl_restricted(struct file *file, unsigned int cmd, unsigned long arg)
{
	return ioctl_packet(file, cmd, arg, MAX_RESTRICTED_BYTES);
}

static int to_errno(int status)
{
	switch (status) {
	case SUPDRV_OK:
		return 0;
	case -1:
		return -EACCES;
	case SUPDRV_INVALID_PARAMETER:
		return -EINVAL;
	case -3:
		return -EILSEQ;
	case -4:
		return -ENXIO;
	case SUPDRV_LOCK_FAILED:
		return -ENOLCK;
	case -6:
		return -EFAULT;
	case SUPDRV_NO_MEMORY:
		return -ENOMEM;
	case -9:
		return -EEXIST;
	case -11:
		return -ENOSYS;
	default:
		return -EPERM;
	}
}

static int supdrv_open(struct inode *inode, struct file *file)
{
	/* Root of the machine, not of some user namespace. */
	if (hardened && !uid_eq(current_euid(), GLOBAL_ROOT_UID))
		return -EPERM;
	return to_errno(supdrv_rust_open(true, &file->private_data));
}

static int supdrv_open_restricted(struct inode *inode, struct file *file)
{
	return to_errno(supdrv_rust_open(false, &file->private_data));
}

static int supdrv_release(struct inode *inode, struct file *file)
{
	supdrv_rust_close(file->private_data);
	return 0;
}

static const struct file_operations unrestricted_fops = {
	.owner = THIS_MODULE,
	.open = supdrv_open,
	.release = supdrv_release,
	.unlocked_ioctl = supdrv_ioctl,
};

static const struct file_operations restricted_fops = {
	.owner = THIS_MODULE,
	.open = supdrv_open_restricted,
	.release = supdrv_release,
	.unlocked_ioctl = supdrv_ioctl_restricted,
};

static struct miscdevice unrestricted = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "vboxdrv",
	.fops = &unrestricted_fops,
	.mode = 0600,
};

static struct miscdevice restricted = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "vboxdrvu",
	.fops = &restricted_fops,
	.mode = 0666,
};

/* The entry of sibling drivers; they link against it, which keeps this module loaded. */
int SUPDrvLinuxIDC(u32 request, void *header);
int SUPDrvLinuxIDC(u32 request, void *header)
{
	return supdrv_rust_idc(request, header);
}
EXPORT_SYMBOL(SUPDrvLinuxIDC);

static int counters_show(struct seq_file *file, void *unused)
{
	static const char *const names[] = {
		"sessions", "objects", "memory_refs", "images", "factories", "gip_users",
		"memory_objects", "pages", "pinned_pages", "exec_pages",
	};
	u64 values[10] = {};
	int i;

	supdrv_rust_counters(values);
	supdrv_memory_counters(values + 6);
	for (i = 0; i < 10; i++)
		seq_printf(file, "%s=%llu\n", names[i], values[i]);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(counters);

static struct dentry *debugfs;
static struct platform_device *power_device;

#define POWER_SUSPEND 1
#define POWER_RESUME 2

/* The transition waits until all modules know. */
static int supdrv_suspend(struct device *device)
{
	supdrv_rust_power_event(POWER_SUSPEND);
	return 0;
}

static int supdrv_resume(struct device *device)
{
	supdrv_exec_resumed();
	supdrv_rust_resumed();
	supdrv_rust_power_event(POWER_RESUME);
	return 0;
}

static const struct dev_pm_ops power_ops = {
	.suspend = supdrv_suspend,
	.freeze = supdrv_suspend,
	.poweroff = supdrv_suspend,
	.resume = supdrv_resume,
	.thaw = supdrv_resume,
	.restore = supdrv_resume,
};

static struct platform_driver power_driver = {
	.driver = { .name = "vboxdrv", .pm = &power_ops },
};

static int power_init(void)
{
	int rc = platform_driver_register(&power_driver);

	if (rc)
		return rc;
	power_device = platform_device_register_simple("vboxdrv", -1, NULL, 0);
	if (!IS_ERR(power_device))
		return 0;
	platform_driver_unregister(&power_driver);
	return PTR_ERR(power_device);
}

static void power_exit(void)
{
	platform_device_unregister(power_device);
	platform_driver_unregister(&power_driver);
}

/* Devices come last: whoever can open one finds a complete driver. */
static int __init supdrv_init(void)
{
	int rc = supdrv_exec_init() ?: supdrv_vtx_init() ?: supdrv_maps_init();

	if (rc)
		return rc;
	rc = supdrv_cpus_init();
	if (rc)
		goto no_cpus;
	rc = to_errno(supdrv_rust_init());
	if (rc)
		goto no_core;
	rc = power_init();
	if (rc)
		goto no_power;
	rc = misc_register(&restricted);
	if (rc)
		goto no_restricted;
	rc = misc_register(&unrestricted);
	if (rc)
		goto no_unrestricted;
	debugfs = debugfs_create_dir("vboxdrv", NULL);
	debugfs_create_file("counters", 0400, debugfs, NULL, &counters_fops);
	pr_info("supdrv: interface 0x001a0007 loaded\n");
	return 0;

no_unrestricted:
	misc_deregister(&restricted);
no_restricted:
	power_exit();
no_power:
	supdrv_rust_exit();
no_core:
	supdrv_cpus_exit();
no_cpus:
	supdrv_maps_exit();
	return rc;
}

static void __exit supdrv_exit(void)
{
	debugfs_remove_recursive(debugfs);
	misc_deregister(&unrestricted);
	misc_deregister(&restricted);
	power_exit();
	supdrv_rust_exit();
	supdrv_vtx_exit();
	supdrv_cpus_exit();
	supdrv_maps_exit();
}

module_init(supdrv_init);
module_exit(supdrv_exit);
MODULE_LICENSE("GPL");
MODULE_AUTHOR("The supdrv authors");
MODULE_DESCRIPTION("Host support driver");
MODULE_VERSION("0.1.0 (0x001a0007)");
