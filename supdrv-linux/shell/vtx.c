// SPDX-License-Identifier: GPL-2.0-only OR CDDL-1.0
/*
 * Who switches hardware virtualisation on. By default the driver's clients do it themselves, which fails while KVM has it. With vtx=kvm it stays on
 * under KVM's ownership: the driver holds an empty guest as long as any client wants it.
 */
#include <linux/err.h>
#include <linux/fdtable.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/kvm.h>
#include <linux/moduleparam.h>
#include <linux/mutex.h>
#include <linux/sched.h>
#include <linux/version.h>
#include <asm/cpufeature.h>
#include <asm/msr.h>
#include <asm/special_insns.h>

#include "glue.h"

#ifndef rdmsrq
# define rdmsrq_safe rdmsrl_safe
#endif

static char *vtx = "client";
module_param(vtx, charp, 0444);
MODULE_PARM_DESC(vtx, "hardware virtualisation is switched on by: client (default), kvm");

static bool by_kvm;
static DEFINE_MUTEX(vtx_mutex);
/* Under the mutex: how many want it, and the guest that is held if any does. */
static unsigned long users;
static struct file *guest;

int supdrv_glue_enable_vtx(bool enable);

int supdrv_vtx_init(void)
{
	return supdrv_choice("vtx", vtx, "client", "kvm", &by_kvm);
}

static void close_descriptor(int fd)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(5, 10, 220)
	close_fd(fd);
#else
	__close_fd(current->files, fd);
#endif
}

static int to_status(long error)
{
	switch (error) {
	case -ENOMEM:
		return SUPDRV_NO_MEMORY;
	case -EBUSY:
		return SUPDRV_VMX_IN_VMX_ROOT_MODE;
	default:
		return SUPDRV_UNRESOLVED_ERROR;
	}
}

/* KVM hands out a guest as a descriptor of the calling process only, which doesn't keep it. */
static int make_guest(void)
{
	struct file *kvm;
	long fd;

	if (!current->mm)
		return SUPDRV_NOT_SUPPORTED;
	kvm = filp_open("/dev/kvm", O_RDWR, 0);
	if (IS_ERR(kvm))
		return SUPDRV_NOT_SUPPORTED;
	fd = vfs_ioctl(kvm, KVM_CREATE_VM, 0);
	fput(kvm);
	if (fd < 0)
		return to_status(fd);
	guest = fget(fd);
	close_descriptor(fd);
	return guest ? SUPDRV_OK : SUPDRV_UNRESOLVED_ERROR;
}

/* The client is about to find out that it can't have it; it won't know why. */
static void tell_who_has_it(void)
{
	u64 efer = 0;
	bool in_use = native_read_cr4() & X86_CR4_VMXE;

	if (boot_cpu_has(X86_FEATURE_SVM))
		in_use = !rdmsrq_safe(MSR_EFER, &efer) && (efer & EFER_SVME);
	if (in_use)
		pr_info_once("supdrv: hardware virtualisation is in use, probably by KVM: stop its guests, unload kvm_intel or kvm_amd, boot with kvm.enable_virt_at_load=0, or load the driver with vtx=kvm\n");
}

int supdrv_glue_enable_vtx(bool enable)
{
	int rc = SUPDRV_OK;

	if (!by_kvm) {
		tell_who_has_it();
		return SUPDRV_NOT_SUPPORTED;
	}
	mutex_lock(&vtx_mutex);
	if (enable) {
		rc = users ? SUPDRV_OK : make_guest();
		users += rc == SUPDRV_OK;
	} else if (users && !--users) {
		fput(guest);
	}
	mutex_unlock(&vtx_mutex);
	return rc;
}

void supdrv_vtx_exit(void)
{
	if (users)
		fput(guest);
}
