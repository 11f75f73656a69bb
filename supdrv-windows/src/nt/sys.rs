//! Functions that the image imports from `ntoskrnl.exe`.
//!
//! Each exists since Windows 2000 or XP; what came later is looked up at run time ([`crate::kernel`]). The comments name the context
//! class (see [`supdrv_core::os`]) and the highest IRQL.
#![allow(missing_docs, reason = "documented by the DDK")]

use core::ffi::c_void;

use super::types::*;

/// A deferred routine: the DPC, its context, and the two arguments of the insertion.
pub type DpcRoutine = unsafe extern "system" fn(*mut KDpc, *mut c_void, *mut c_void, *mut c_void);
/// A power or other system callback.
pub type CallbackFunction = unsafe extern "system" fn(*mut c_void, *mut c_void, *mut c_void);
/// A process starts (1) or ends (0); parent's id, then its own.
pub type ProcessNotify = unsafe extern "system" fn(Handle, Handle, u8);
/// A work item's routine.
pub type WorkRoutine = unsafe extern "system" fn(*mut DeviceObject, *mut c_void);
/// A system thread.
pub type StartRoutine = unsafe extern "system" fn(*mut c_void);

#[cfg_attr(target_os = "windows", link(name = "ntoskrnl"))]
unsafe extern "system" {
    // Any IRQL.
    pub fn KeBugCheckEx(code: u32, p1: usize, p2: usize, p3: usize, p4: usize) -> !;
    pub fn PsGetCurrentProcessId() -> Handle;
    pub fn IoGetCurrentProcess() -> *mut c_void;
    pub fn PsGetCurrentThread() -> *mut c_void;
    pub fn KeInsertQueueDpc(dpc: *mut KDpc, argument1: *mut c_void, argument2: *mut c_void) -> u8;
    pub fn KeQueryTimeIncrement() -> u32;

    // PASSIVE: start and stop.
    pub fn MmGetSystemRoutineAddress(name: *const UnicodeString) -> *mut c_void;
    pub fn RtlGetVersion(info: *mut VersionInfo) -> NtStatus;
    pub fn IoCreateDevice(
        driver: *mut DriverObject,
        extension_bytes: u32,
        name: *const UnicodeString,
        device_type: u32,
        characteristics: u32,
        exclusive: u8,
        device: *mut *mut DeviceObject,
    ) -> NtStatus;
    pub fn IoDeleteDevice(device: *mut DeviceObject);
    pub fn IoCreateSymbolicLink(link: *const UnicodeString, target: *const UnicodeString) -> NtStatus;
    pub fn IoDeleteSymbolicLink(link: *const UnicodeString) -> NtStatus;
    pub fn ObOpenObjectByPointer(
        object: *mut c_void,
        attributes: u32,
        access_state: *mut c_void,
        access: u32,
        object_type: *mut c_void,
        mode: Mode,
        handle: *mut Handle,
    ) -> NtStatus;
    pub fn ZwSetSecurityObject(object: Handle, information: u32, descriptor: *const c_void) -> NtStatus;
    pub fn ZwOpenKey(key: *mut Handle, access: u32, attributes: *const ObjectAttributes) -> NtStatus;
    pub fn ZwQueryValueKey(
        key: Handle,
        name: *const UnicodeString,
        class: u32,
        information: *mut c_void,
        bytes: u32,
        needed: *mut u32,
    ) -> NtStatus;
    pub fn ZwClose(handle: Handle) -> NtStatus;
    pub fn ExCreateCallback(
        callback: *mut *mut c_void,
        attributes: *const ObjectAttributes,
        create: u8,
        multiple: u8,
    ) -> NtStatus;
    pub fn ExRegisterCallback(
        callback: *mut c_void,
        function: CallbackFunction,
        context: *mut c_void,
    ) -> *mut c_void;
    pub fn ExUnregisterCallback(registration: *mut c_void);
    pub fn PsSetCreateProcessNotifyRoutine(routine: ProcessNotify, remove: u8) -> NtStatus;

    // Requests.
    pub fn IofCompleteRequest(irp: *mut Irp, boost: i8);
    pub fn IoIs32bitProcess(irp: *mut Irp) -> u8;
    pub fn IoAllocateWorkItem(device: *mut DeviceObject) -> *mut c_void;
    pub fn IoQueueWorkItem(item: *mut c_void, routine: WorkRoutine, queue: u32, context: *mut c_void);
    pub fn IoFreeWorkItem(item: *mut c_void);

    // Locks and IRQL.
    pub fn KeAcquireSpinLockRaiseToDpc(lock: *mut usize) -> Irql;
    pub fn KeReleaseSpinLock(lock: *mut usize, irql: Irql);
    pub fn KfRaiseIrql(irql: Irql) -> Irql;
    pub fn KeLowerIrql(irql: Irql);
    pub fn KeEnterCriticalRegion();
    pub fn KeLeaveCriticalRegion();
    pub fn ExAcquireFastMutexUnsafe(mutex: *mut FastMutex);
    pub fn ExReleaseFastMutexUnsafe(mutex: *mut FastMutex);

    // Events, timers, threads.
    pub fn KeInitializeEvent(event: *mut KEvent, kind: u32, signalled: u8);
    pub fn KeSetEvent(event: *mut KEvent, increment: i32, wait: u8) -> i32;
    pub fn KeClearEvent(event: *mut KEvent);
    pub fn KeWaitForSingleObject(
        object: *mut c_void,
        reason: u32,
        mode: Mode,
        alertable: u8,
        timeout: *const i64,
    ) -> NtStatus;
    pub fn KeDelayExecutionThread(mode: Mode, alertable: u8, interval: *const i64) -> NtStatus;
    pub fn ZwYieldExecution() -> NtStatus;
    pub fn KeInitializeTimerEx(timer: *mut KTimer, kind: u32);
    pub fn KeSetTimerEx(timer: *mut KTimer, due: i64, period_ms: i32, dpc: *mut KDpc) -> u8;
    pub fn KeCancelTimer(timer: *mut KTimer) -> u8;
    pub fn KeInitializeDpc(dpc: *mut KDpc, routine: DpcRoutine, context: *mut c_void);
    pub fn KeSetTargetProcessorDpc(dpc: *mut KDpc, number: i8);
    pub fn KeSetImportanceDpc(dpc: *mut KDpc, importance: u32);
    pub fn ExSetTimerResolution(desired: u32, set: u8) -> u32;
    pub fn PsCreateSystemThread(
        thread: *mut Handle,
        access: u32,
        attributes: *const ObjectAttributes,
        process: Handle,
        client_id: *mut c_void,
        start: StartRoutine,
        context: *mut c_void,
    ) -> NtStatus;

    // Processors.
    pub fn KeQueryActiveProcessors() -> usize;
    pub fn KeSetSystemAffinityThread(affinity: usize);
    pub fn KeRevertToUserAffinityThread();

    // Processes.
    pub fn ObfReferenceObject(object: *mut c_void) -> isize;
    pub fn ObfDereferenceObject(object: *mut c_void) -> isize;
    pub fn KeStackAttachProcess(process: *mut c_void, state: *mut KApcState);
    pub fn KeUnstackDetachProcess(state: *mut KApcState);

    // Memory.
    pub fn ExAllocatePoolWithTag(pool: u32, bytes: usize, tag: u32) -> *mut c_void;
    pub fn ExFreePoolWithTag(memory: *mut c_void, tag: u32);
    pub fn IoAllocateMdl(
        address: *mut c_void,
        bytes: u32,
        secondary: u8,
        charge_quota: u8,
        irp: *mut Irp,
    ) -> *mut Mdl;
    pub fn IoFreeMdl(mdl: *mut Mdl);
    pub fn IoBuildPartialMdl(source: *mut Mdl, target: *mut Mdl, address: *mut c_void, bytes: u32);
    pub fn MmBuildMdlForNonPagedPool(mdl: *mut Mdl);
    pub fn MmAllocatePagesForMdl(low: u64, high: u64, skip: u64, bytes: usize) -> *mut Mdl;
    pub fn MmFreePagesFromMdl(mdl: *mut Mdl);
    pub fn MmMapLockedPagesSpecifyCache(
        mdl: *mut Mdl,
        mode: Mode,
        cache: u32,
        address: *mut c_void,
        bug_check: u32,
        priority: u32,
    ) -> *mut c_void;
    pub fn MmUnmapLockedPages(address: *mut c_void, mdl: *mut Mdl);
    pub fn MmProbeAndLockPages(mdl: *mut Mdl, mode: Mode, operation: u32);
    pub fn MmUnlockPages(mdl: *mut Mdl);
    pub fn MmSecureVirtualMemory(address: *mut c_void, bytes: usize, probe: u32) -> Handle;
    pub fn MmUnsecureVirtualMemory(secured: Handle);
    pub fn MmAllocateContiguousMemorySpecifyCache(
        bytes: usize,
        low: u64,
        high: u64,
        boundary: u64,
        cache: u32,
    ) -> *mut c_void;
    pub fn MmFreeContiguousMemory(memory: *mut c_void);
    pub fn MmMapIoSpace(phys: u64, bytes: usize, cache: u32) -> *mut c_void;
    pub fn MmUnmapIoSpace(address: *mut c_void, bytes: usize);
    pub fn ZwCreateSection(
        section: *mut Handle,
        access: u32,
        attributes: *const ObjectAttributes,
        size: *const u64,
        protection: u32,
        allocation: u32,
        file: Handle,
    ) -> NtStatus;
    pub fn ZwMapViewOfSection(
        section: Handle,
        process: Handle,
        base: *mut *mut c_void,
        zero_bits: usize,
        commit: usize,
        offset: *mut u64,
        size: *mut usize,
        inherit: u32,
        allocation: u32,
        protection: u32,
    ) -> NtStatus;
    pub fn ZwUnmapViewOfSection(process: Handle, base: *mut c_void) -> NtStatus;
    pub fn ZwSetSystemInformation(class: u32, information: *mut c_void, bytes: u32) -> NtStatus;
}

unsafe extern "C" {
    /// Any IRQL. Variadic in C; this driver passes one argument for the format `%s`.
    pub fn DbgPrintEx(component: u32, level: u32, format: *const u8, text: *const u8) -> u32;
}
