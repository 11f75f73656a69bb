//! The C symbols, with their prototypes of the era.
//!
//! Functions are `safe` here where the types leave no argument that could be wrong: numbers, which the runtime checks itself, what a reference
//! lets it write, and [`Tag`]. Where they may be called from is said by the methods of the seam that call them.
//!
//! Calling convention: plain C; on 32-bit hosts all arguments are on the stack and the caller removes them.
#![allow(missing_docs, reason = "the C runtime documents its own functions")]

use core::ffi::{c_char, c_int, c_uint, c_void};

use crate::abi::published::{DevExtView, ImageView, ObjectView, SessionView};
use crate::abi::requests::LdrLoadIn;

/// Whatever the runtime gives for a handle.
pub type Handle = *mut c_void;
/// `RTR0MEMOBJ`
pub type MemObj = Handle;

/// What the runtime may print with memory: which code allocated it. Always a string that lives for ever.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub struct Tag(*const c_char);

/// This library's.
pub const TAG: Tag = Tag(c"supdrv-core".as_ptr());

/// `RTTHREADPREEMPTSTATE`: the runtime's between disable and restore.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct PreemptState {
    cpu: u32,
    system: u32,
}

impl PreemptState {
    /// As its initialiser makes it. The second word is the old IRQL (255) on Windows and the old priority level (all ones) on
    /// Solaris; zero elsewhere.
    pub const NEW: Self = Self {
        cpu: u32::MAX,
        system: if cfg!(feature = "legacy-windows") {
            255
        } else if cfg!(feature = "legacy-solaris") {
            u32::MAX
        } else {
            0
        },
    };

    /// As one word. A 32-bit word has no room for the CPU; it is the one to which the caller is pinned until the restore.
    pub const fn pack(self) -> usize {
        (self.system as usize) | ((self.cpu as u64) << 32) as usize
    }

    /// Back from one word.
    pub fn unpack(word: usize) -> Self {
        let word = word as u64;
        let cpu = if usize::BITS == 64 { (word >> 32) as u32 } else { RTMpCpuId() };
        Self { cpu, system: word as u32 }
    }
}

/// `RTCPUSET`
#[repr(C)]
pub struct CpuSet(pub [u64; 4]);

pub type PfnTimer = unsafe extern "C" fn(timer: *mut c_void, user: *mut c_void, tick: u64);
pub type PfnMpWorker = unsafe extern "C" fn(cpu: u32, user1: *mut c_void, user2: *mut c_void);
pub type PfnMpNotification = unsafe extern "C" fn(event: u32, cpu: u32, user: *mut c_void);

unsafe extern "C" {
    pub fn SUPR0Printf(format: *const c_char, ...) -> c_int;

    pub safe fn RTMemAllocZTag(bytes: usize, tag: Tag) -> *mut c_void;
    pub fn RTMemFree(memory: *mut c_void);
    pub safe fn RTMemExecAllocTag(bytes: usize, tag: Tag) -> *mut c_void;
    pub fn RTMemExecFree(memory: *mut c_void, bytes: usize);

    pub fn RTSpinlockCreate(lock: *mut Handle, flags: u32, name: *const c_char) -> c_int;
    pub fn RTSpinlockDestroy(lock: Handle) -> c_int;
    pub fn RTSpinlockAcquire(lock: Handle);
    pub fn RTSpinlockRelease(lock: Handle);
    pub safe fn RTSemFastMutexCreate(mutex: &mut Handle) -> c_int;
    pub fn RTSemFastMutexDestroy(mutex: Handle) -> c_int;
    pub fn RTSemFastMutexRequest(mutex: Handle) -> c_int;
    pub fn RTSemFastMutexRelease(mutex: Handle) -> c_int;
    #[cfg(feature = "legacy-windows")]
    pub safe fn RTSemMutexCreate(mutex: &mut Handle) -> c_int;
    #[cfg(feature = "legacy-windows")]
    pub fn RTSemMutexDestroy(mutex: Handle) -> c_int;
    #[cfg(feature = "legacy-windows")]
    pub fn RTSemMutexRequest(mutex: Handle, millis: u32) -> c_int;
    #[cfg(feature = "legacy-windows")]
    pub fn RTSemMutexRelease(mutex: Handle) -> c_int;

    pub safe fn RTSemEventCreate(event: &mut Handle) -> c_int;
    pub fn RTSemEventDestroy(event: Handle) -> c_int;
    pub fn RTSemEventSignal(event: Handle) -> c_int;
    pub fn RTSemEventWaitEx(event: Handle, flags: u32, timeout: u64) -> c_int;
    pub safe fn RTSemEventGetResolution() -> u32;
    pub safe fn RTSemEventMultiCreate(event: &mut Handle) -> c_int;
    pub fn RTSemEventMultiDestroy(event: Handle) -> c_int;
    pub fn RTSemEventMultiSignal(event: Handle) -> c_int;
    pub fn RTSemEventMultiReset(event: Handle) -> c_int;
    pub fn RTSemEventMultiWaitEx(event: Handle, flags: u32, timeout: u64) -> c_int;

    pub safe fn RTR0MemObjAllocPageTag(object: &mut MemObj, bytes: usize, exec: bool, tag: Tag) -> c_int;
    pub safe fn RTR0MemObjAllocLowTag(object: &mut MemObj, bytes: usize, exec: bool, tag: Tag) -> c_int;
    pub safe fn RTR0MemObjAllocContTag(object: &mut MemObj, bytes: usize, exec: bool, tag: Tag) -> c_int;
    pub safe fn RTR0MemObjAllocPhysNCTag(object: &mut MemObj, bytes: usize, highest: u64, tag: Tag) -> c_int;
    pub fn RTR0MemObjLockUserTag(
        object: *mut MemObj,
        address: usize,
        bytes: usize,
        access: u32,
        process: usize,
        tag: Tag,
    ) -> c_int;
    pub fn RTR0MemObjMapKernelTag(
        object: *mut MemObj,
        parent: MemObj,
        fixed: *mut c_void,
        alignment: usize,
        prot: c_uint,
        tag: Tag,
    ) -> c_int;
    pub fn RTR0MemObjMapKernelExTag(
        object: *mut MemObj,
        parent: MemObj,
        fixed: *mut c_void,
        alignment: usize,
        prot: c_uint,
        offset: usize,
        bytes: usize,
        tag: Tag,
    ) -> c_int;
    pub fn RTR0MemObjMapUserTag(
        object: *mut MemObj,
        parent: MemObj,
        fixed: usize,
        alignment: usize,
        prot: c_uint,
        process: usize,
        tag: Tag,
    ) -> c_int;
    pub fn RTR0MemObjProtect(object: MemObj, offset: usize, bytes: usize, prot: u32) -> c_int;
    pub fn RTR0MemObjFree(object: MemObj, free_mappings: bool) -> c_int;
    pub fn RTR0MemObjAddress(object: MemObj) -> *mut c_void;
    pub fn RTR0MemObjAddressR3(object: MemObj) -> usize;
    pub fn RTR0MemObjSize(object: MemObj) -> usize;
    pub fn RTR0MemObjGetPagePhysAddr(object: MemObj, page: usize) -> u64;
    pub fn RTR0MemUserCopyFrom(to: *mut c_void, from: usize, bytes: usize) -> c_int;
    pub fn RTR0MemUserCopyTo(to: usize, from: *const c_void, bytes: usize) -> c_int;

    pub safe fn RTTimeSystemNanoTS() -> u64;
    pub safe fn RTThreadSleep(millis: u32) -> c_int;
    pub fn RTTimerCreateEx(
        timer: *mut Handle,
        interval_ns: u64,
        flags: u32,
        callback: PfnTimer,
        user: *mut c_void,
    ) -> c_int;
    pub fn RTTimerDestroy(timer: Handle) -> c_int;
    pub fn RTTimerStart(timer: Handle, first_ns: u64) -> c_int;
    pub fn RTTimerStop(timer: Handle) -> c_int;
    pub safe fn RTTimerGetSystemGranularity() -> u32;
    pub safe fn RTTimerRequestSystemGranularity(wanted_ns: u32, granted_ns: &mut u32) -> c_int;
    pub safe fn RTTimerReleaseSystemGranularity(granted_ns: u32) -> c_int;

    pub safe fn RTMpCpuId() -> u32;
    pub safe fn RTMpCpuIdToSetIndex(cpu: u32) -> c_int;
    pub safe fn RTMpCpuIdFromSetIndex(index: c_int) -> u32;
    pub safe fn RTMpGetMaxCpuId() -> u32;
    pub safe fn RTMpGetArraySize() -> u32;
    pub safe fn RTMpGetPresentCount() -> u32;
    pub safe fn RTMpGetSet(set: &mut CpuSet) -> *mut CpuSet;
    pub safe fn RTMpGetOnlineSet(set: &mut CpuSet) -> *mut CpuSet;
    pub fn RTMpOnAll(worker: PfnMpWorker, user1: *mut c_void, user2: *mut c_void) -> c_int;
    pub fn RTMpOnSpecific(cpu: u32, worker: PfnMpWorker, user1: *mut c_void, user2: *mut c_void) -> c_int;
    pub fn RTMpNotificationRegister(callback: PfnMpNotification, user: *mut c_void) -> c_int;
    pub fn RTMpNotificationDeregister(callback: PfnMpNotification, user: *mut c_void) -> c_int;

    pub safe fn RTTimeNow(time: &mut i64) -> *mut i64;
    pub fn RTThreadPreemptIsEnabled(thread: Handle) -> bool;
    pub fn RTThreadIsInInterrupt(thread: Handle) -> bool;
    pub safe fn RTR0AssertPanicSystem();
    pub fn RTLogSetDefaultInstanceThread(logger: *mut c_void, key: usize) -> c_int;
    pub safe fn RTProcSelf() -> u32;
    pub safe fn RTR0ProcHandleSelf() -> usize;
    pub safe fn RTThreadNativeSelf() -> usize;
    pub safe fn RTThreadPreemptDisable(state: &mut PreemptState);
    pub fn RTThreadPreemptRestore(state: *mut PreemptState);

    pub fn supdrvOSObjInitCreator(object: *mut ObjectView, session: *mut SessionView);
    pub fn supdrvOSObjCanAccess(
        object: *mut ObjectView,
        session: *mut SessionView,
        name: *const c_char,
        status: *mut c_int,
    ) -> bool;
    pub fn supdrvOSGetForcedAsyncTscMode(dev_ext: *mut DevExtView) -> bool;
    pub safe fn supdrvOSEnableVTx(enable: bool) -> c_int;
    pub safe fn supdrvOSSuspendVTxOnCpu() -> bool;
    pub safe fn supdrvOSResumeVTxOnCpu(suspended: bool);
    pub fn supdrvOSLdrOpen(
        dev_ext: *mut DevExtView,
        image: *mut ImageView,
        file_name: *const c_char,
    ) -> c_int;
    pub fn supdrvOSLdrNotifyOpened(dev_ext: *mut DevExtView, image: *mut ImageView);
    pub fn supdrvOSLdrValidatePointer(
        dev_ext: *mut DevExtView,
        image: *mut ImageView,
        address: *mut c_void,
        bits: *const u8,
    ) -> c_int;
    pub fn supdrvOSLdrLoad(
        dev_ext: *mut DevExtView,
        image: *mut ImageView,
        bits: *const u8,
        request: *mut LdrLoadIn,
    ) -> c_int;
    pub fn supdrvOSLdrUnload(dev_ext: *mut DevExtView, image: *mut ImageView);
    #[cfg(feature = "legacy-darwin")]
    pub safe fn supdrvDarwinResumeSuspendedKbds() -> c_int;
}
