// SPDX-License-Identifier: GPL-2.0-only OR CDDL-1.0
/*
 * A sibling driver: connects to the support driver, uses every inter-driver service, and prints one line per check. Refuses to
 * load if a check fails, so that the status of insmod is the result. While it is loaded it stays connected, with a factory
 * registered: the support driver must refuse to unload then, and its counters show one session and one factory.
 */
#include <linux/ktime.h>
#include <linux/module.h>
#include <linux/string.h>

#include "supdrv_idc.h"
#include "supdrv_idc.c"

#define VINF_OBJECT_DESTROYED		85
#define VERR_ALREADY_EXISTS		(-105)
#define VERR_NOT_FOUND			(-78)
#define VERR_SYMBOL_NOT_FOUND		(-609)
#define VERR_MODULE_NOT_FOUND		(-610)
#define VERR_SUPDRV_COMPONENT_NOT_FOUND	(-3700)
#define VERR_SUPDRV_INTERFACE_NOT_SUPPORTED	(-3701)
#define OBJECT_TYPE_INTERNAL_NETWORK	2

#define UUID_KNOWN "de504d93-1d1e-4781-8b73-6ea39a0e36a2"
#define UUID_UNKNOWN "00000000-0000-0000-0000-000000000000"

static int vtx = VERR_NOT_SUPPORTED;
module_param(vtx, int, 0444);
MODULE_PARM_DESC(vtx, "status that switching on hardware virtualisation must end with; while this module is loaded it is on if that is 0");

static SUPDRVIDCHANDLE connection;
static int failures;
static int destroyed;
static int an_interface;

static void check_int(const char *what, long got, long wanted)
{
	pr_info("supdrv-idc-test: %s %s: %ld\n", got == wanted ? "ok" : "FAILED", what, got);
	if (got == wanted)
		return;
	pr_err("supdrv-idc-test: expected %ld\n", wanted);
	failures++;
}

static void *query_interface(struct SUPDRVFACTORY const *factory, PSUPDRVSESSION session, const char *uuid)
{
	return session && !strcmp(uuid, UUID_KNOWN) ? &an_interface : NULL;
}

static const SUPDRVFACTORY factory = { "SupdrvIdcTest", query_interface };

static void destructor(void *object, void *user1, void *user2)
{
	destroyed += user1 == &destroyed && user2 == &failures;
}

static void check_symbols(PSUPDRVSESSION session)
{
	static const char * const needed[] = {
		"SUPR0ObjRegister", "SUPR0ObjAddRef", "SUPR0ObjRelease", "SUPR0ObjVerifyAccess", "SUPR0ComponentQueryFactory",
	};
	int (*query)(PSUPDRVSESSION, const char *, const char *, void **);
	void *interface = NULL;
	void (*pfn)(void), (*again)(void);
	size_t i;

	for (i = 0; i < ARRAY_SIZE(needed); i++) {
		check_int(needed[i], supdrvIdcGetSymbol(&connection, NULL, needed[i], &pfn), VINF_SUCCESS);
		check_int("  by the driver's name", supdrvIdcGetSymbol(&connection, "SupDrv", needed[i], &again), VINF_SUCCESS);
		check_int("  is the same", pfn == again && pfn, 1);
	}
	check_int("an unknown symbol", supdrvIdcGetSymbol(&connection, NULL, "NoSuchThing", &again), VERR_SYMBOL_NOT_FOUND);
	check_int("an unknown module", supdrvIdcGetSymbol(&connection, "nope", "x", &again), VERR_MODULE_NOT_FOUND);
	query = (void *)pfn;
	if (!query)
		return;
	check_int("query", query(session, "SupdrvIdcTest", UUID_KNOWN, &interface), VINF_SUCCESS);
	check_int("  its interface", interface == &an_interface, 1);
	check_int("query, declined", query(session, "SupdrvIdcTest", UUID_UNKNOWN, &interface),
		  VERR_SUPDRV_INTERFACE_NOT_SUPPORTED);
	check_int("query, unknown name", query(session, "SupdrvIdc", UUID_KNOWN, &interface),
		  VERR_SUPDRV_COMPONENT_NOT_FOUND);
}

int SUPR0EnableVTx(bool enable);

/* The runtime under its kernel names. The driver's own headers have no prototypes for these. */
u64 VBoxHost_RTTimeSystemNanoTS(void);
void *VBoxHost_RTMemAllocZTag(size_t bytes, const char *tag);
void VBoxHost_RTMemFree(void *memory);

static void check_kernel_symbols(void)
{
	u64 before = ktime_get_ns(), now = VBoxHost_RTTimeSystemNanoTS(), after = ktime_get_ns();
	u8 *memory = VBoxHost_RTMemAllocZTag(64, "test");

	check_int("the runtime's clock is the kernel's", before <= now && now <= after, 1);
	check_int("the runtime's memory is there, and zero", memory && !memchr_inv(memory, 0, 64), 1);
	VBoxHost_RTMemFree(memory);
}

static void check_vtx(void)
{
	check_int("virtualisation, on", SUPR0EnableVTx(true), vtx);
	check_int("virtualisation, on twice", SUPR0EnableVTx(true), vtx);
	check_int("virtualisation, off once", SUPR0EnableVTx(false), vtx);
}

static void check_objects(PSUPDRVSESSION session)
{
	void *object = SUPR0ObjRegister(session, OBJECT_TYPE_INTERNAL_NETWORK, destructor, &destroyed, &failures);

	check_int("object registered", object != NULL, 1);
	if (!object)
		return;
	check_int("object access", SUPR0ObjVerifyAccess(object, session, "test"), VINF_SUCCESS);
	check_int("object reference", SUPR0ObjAddRef(object, session), VINF_SUCCESS);
	check_int("object release", SUPR0ObjRelease(object, session), VINF_SUCCESS);
	check_int("object's last release", SUPR0ObjRelease(object, session), VINF_OBJECT_DESTROYED);
	check_int("object destroyed once", destroyed, 1);
}

static void check_second_connection(void)
{
	SUPDRVIDCHANDLE second;
	SUPDRVIDCREQHDR stale;

	check_int("second connection", SUPR0IdcOpen(&second, 0, 0, NULL, NULL, NULL), VINF_SUCCESS);
	check_int("the first one's factory isn't its own", SUPR0IdcComponentDeregisterFactory(&second, &factory), VERR_NOT_FOUND);
	stale.cb = sizeof(stale);
	stale.rc = 0;
	stale.pSession = SUPR0IdcGetSession(&second);
	check_int("second close", SUPR0IdcClose(&second), VINF_SUCCESS);
	check_int("close twice", SUPR0IdcClose(&second), VERR_INVALID_HANDLE);
	check_int("disconnect twice", SUPDrvLinuxIDC(SUPDRV_IDC_REQ_DISCONNECT, &stale), VERR_INVALID_PARAMETER);
}

static int __init idc_test_init(void)
{
	u32 version = 0, driver = 0, revision = 0;
	PSUPDRVSESSION session;
	int rc;

	check_int("foreign version", SUPR0IdcOpen(&connection, 0x00020000, 0, NULL, NULL, NULL), VERR_INVALID_PARAMETER);
	check_int("too new", SUPR0IdcOpen(&connection, 0x00010001, 0x00010001, NULL, NULL, NULL), VERR_VERSION_MISMATCH);
	rc = SUPR0IdcOpen(&connection, 0, 0, &version, &driver, &revision);
	check_int("open", rc, VINF_SUCCESS);
	if (rc)
		return -ENODEV;
	check_int("session version", version, SUPDRV_IDC_VERSION);
	check_int("driver version", driver, SUPDRV_IDC_VERSION);
	session = SUPR0IdcGetSession(&connection);
	check_int("session", session != NULL, 1);

	check_int("register", SUPR0IdcComponentRegisterFactory(&connection, &factory), VINF_SUCCESS);
	check_int("register twice", SUPR0IdcComponentRegisterFactory(&connection, &factory), VERR_ALREADY_EXISTS);
	check_symbols(session);
	check_kernel_symbols();
	check_vtx();
	check_objects(session);
	check_second_connection();
	check_int("deregister", SUPR0IdcComponentDeregisterFactory(&connection, &factory), VINF_SUCCESS);
	check_int("deregister twice", SUPR0IdcComponentDeregisterFactory(&connection, &factory), VERR_NOT_FOUND);
	check_int("register again", SUPR0IdcComponentRegisterFactory(&connection, &factory), VINF_SUCCESS);
	pr_info("supdrv-idc-test: %d failures\n", failures);
	if (!failures)
		return 0;
	SUPR0IdcClose(&connection);
	return -EINVAL;
}

static void __exit idc_test_exit(void)
{
	int rc = SUPR0IdcComponentDeregisterFactory(&connection, &factory);

	SUPR0EnableVTx(false);
	pr_info("supdrv-idc-test: deregister at unload: %d\n", rc);
	/* Nothing is left of a registration that the connection owns. */
	rc = SUPR0IdcClose(&connection);
	pr_info("supdrv-idc-test: close at unload: %d\n", rc);
}

module_init(idc_test_init);
module_exit(idc_test_exit);
MODULE_LICENSE("GPL");
MODULE_AUTHOR("The supdrv authors");
MODULE_DESCRIPTION("Test of the support driver's inter-driver interface");
