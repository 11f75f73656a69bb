//! What isn't paid for: functions that work on something allocate nothing.

use std::ffi::c_void;
use std::ptr::{null, null_mut};

use supdrv_core::mock::Kind;

use crate::harness::Machine;
use crate::import;

type Callback = unsafe extern "C" fn(usize, *mut c_void, u64);
type Worker = unsafe extern "C" fn(u32, *mut c_void, *mut c_void);

import! {
    fn RTSpinlockCreate(out: *mut usize, flags: u32, name: *const i8) -> i32;
    fn RTSpinlockAcquire(lock: usize);
    fn RTSpinlockRelease(lock: usize);
    fn RTSpinlockDestroy(lock: usize) -> i32;
    fn RTSemMutexCreate(out: *mut usize) -> i32;
    fn RTSemMutexRequest(mutex: usize, millis: u32) -> i32;
    fn RTSemMutexRelease(mutex: usize) -> i32;
    fn RTSemMutexDestroy(mutex: usize) -> i32;
    fn RTSemFastMutexCreate(out: *mut usize) -> i32;
    fn RTSemFastMutexRequest(mutex: usize) -> i32;
    fn RTSemFastMutexRelease(mutex: usize) -> i32;
    fn RTSemFastMutexDestroy(mutex: usize) -> i32;
    fn RTSemEventCreate(out: *mut usize) -> i32;
    fn RTSemEventSignal(event: usize) -> i32;
    fn RTSemEventWait(event: usize, millis: u32) -> i32;
    fn RTSemEventDestroy(event: usize) -> i32;
    fn RTSemEventMultiCreate(out: *mut usize) -> i32;
    fn RTSemEventMultiSignal(event: usize) -> i32;
    fn RTSemEventMultiReset(event: usize) -> i32;
    fn RTSemEventMultiWait(event: usize, millis: u32) -> i32;
    fn RTSemEventMultiDestroy(event: usize) -> i32;
    fn RTTimerCreateEx(out: *mut usize, interval_ns: u64, flags: u32, callback: Option<Callback>, user: *mut c_void) -> i32;
    fn RTTimerStart(timer: usize, first_ns: u64) -> i32;
    fn RTTimerStop(timer: usize) -> i32;
    fn RTTimerDestroy(timer: usize) -> i32;
    fn RTHandleTableCreateEx(out: *mut usize, flags: u32, base: u32, max: u32, retain: Option<Worker>, user: *mut c_void) -> i32;
    fn RTHandleTableAllocWithCtx(table: usize, object: *mut c_void, context: *mut c_void, out: *mut u32) -> i32;
    fn RTHandleTableLookupWithCtx(table: usize, handle: u32, context: *mut c_void) -> *mut c_void;
    fn RTHandleTableFreeWithCtx(table: usize, handle: u32, context: *mut c_void) -> *mut c_void;
    fn RTHandleTableDestroy(table: usize, delete: Option<Callback>, user: *mut c_void) -> i32;
    fn RTR0MemObjAllocPageTag(out: *mut usize, bytes: usize, executable: bool, tag: *const i8) -> i32;
    fn RTR0MemObjAddress(object: usize) -> *mut u8;
    fn RTR0MemObjSize(object: usize) -> usize;
    fn RTR0MemObjGetPagePhysAddr(object: usize, index: usize) -> u64;
    fn RTR0MemObjFree(object: usize, mappings: bool) -> i32;
    fn RTMpOnAll(worker: Worker, user1: *mut c_void, user2: *mut c_void) -> i32;
    fn RTMpCpuId() -> u32;
    fn RTThreadPreemptIsEnabled(thread: usize) -> bool;
    fn RTTimeNanoTS() -> u64;
}

unsafe extern "C" fn tick(_timer: usize, _user: *mut c_void, _tick: u64) {}
unsafe extern "C" fn work(_cpu: u32, _user1: *mut c_void, _user2: *mut c_void) {}

/// Creates something through an out pointer.
fn new(create: impl FnOnce(*mut usize) -> i32) -> usize {
    let mut handle = 0;
    assert_eq!(create(&raw mut handle), 0);
    handle
}

#[test]
fn what_works_on_a_handle_allocates_nothing() {
    let machine = Machine::new();
    let locks = [2, 4].map(|flags| new(|out| RTSpinlockCreate(out, flags, null())));
    let mutex = new(RTSemMutexCreate);
    let fast = new(RTSemFastMutexCreate);
    let event = new(RTSemEventCreate);
    let multi = new(RTSemEventMultiCreate);
    let timer = new(|out| RTTimerCreateEx(out, 1_000_000, 0, Some(tick), null_mut()));
    let table = new(|out| RTHandleTableCreateEx(out, 1, 1, 64, None, null_mut()));
    let object = new(|out| RTR0MemObjAllocPageTag(out, 0x1000, false, null()));
    let mut handle = 0;
    assert_eq!(RTHandleTableAllocWithCtx(table, 64 as *mut c_void, null_mut(), &raw mut handle), 0);

    let before = machine.made(Kind::Heap);
    for lock in locks {
        RTSpinlockAcquire(lock);
        RTSpinlockRelease(lock);
    }
    assert_eq!((RTSemMutexRequest(mutex, 5), RTSemMutexRequest(mutex, 0)), (0, 0));
    assert_eq!((RTSemMutexRelease(mutex), RTSemMutexRelease(mutex)), (0, 0));
    assert_eq!((RTSemFastMutexRequest(fast), RTSemFastMutexRelease(fast)), (0, 0));
    assert_eq!((RTSemEventSignal(event), RTSemEventWait(event, 5), RTSemEventWait(event, 0)), (0, 0, -40));
    assert_eq!((RTSemEventMultiSignal(multi), RTSemEventMultiWait(multi, 5)), (0, 0));
    assert_eq!(RTSemEventMultiReset(multi), 0);
    assert_eq!((RTTimerStart(timer, 0), RTTimerStop(timer)), (0, 0));
    assert!(!RTHandleTableLookupWithCtx(table, handle, null_mut()).is_null());
    assert!(!RTR0MemObjAddress(object).is_null() && RTR0MemObjSize(object) == 0x1000);
    assert_ne!(RTR0MemObjGetPagePhysAddr(object, 0), u64::MAX);
    assert_eq!(RTMpOnAll(work, null_mut(), null_mut()), 0);
    assert!(RTMpCpuId() != u32::MAX && RTThreadPreemptIsEnabled(usize::MAX));
    RTTimeNanoTS();
    assert_eq!(machine.made(Kind::Heap), before, "something was allocated");

    assert!(!RTHandleTableFreeWithCtx(table, handle, null_mut()).is_null());
    assert_eq!(RTHandleTableDestroy(table, None, null_mut()), 0);
    assert_eq!(locks.map(RTSpinlockDestroy), [0, 0]);
    assert_eq!((RTSemMutexDestroy(mutex), RTSemFastMutexDestroy(fast)), (0, 0));
    assert_eq!((RTSemEventDestroy(event), RTSemEventMultiDestroy(multi)), (0, 0));
    assert_eq!((RTTimerDestroy(timer), RTR0MemObjFree(object, false)), (0, 0));
}
