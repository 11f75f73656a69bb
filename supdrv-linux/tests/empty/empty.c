// SPDX-License-Identifier: GPL-2.0-only OR CDDL-1.0
/* A device whose ioctl does nothing: what the cost of the driver's requests is measured against. */
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>

static long empty_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	return 0;
}

static const struct file_operations empty_fops = {
	.owner = THIS_MODULE,
	.unlocked_ioctl = empty_ioctl,
};

static struct miscdevice empty = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "supdrv_empty",
	.fops = &empty_fops,
	.mode = 0600,
};

module_misc_device(empty);
MODULE_LICENSE("GPL");
MODULE_AUTHOR("The supdrv authors");
MODULE_DESCRIPTION("A device whose ioctl does nothing");
