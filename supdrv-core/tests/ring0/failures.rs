//! Every call of the system fails once, below every service that the system has a part in: the caller gets a status, and nothing stays behind.

use std::ffi::{c_char, c_void};
use std::ptr::{null, null_mut};

use supdrv_core::abi::published::SessionView;
use supdrv_core::abi::status::{Result, VERR_NO_MEMORY};
use supdrv_core::mock::{Host, MockOs};
use supdrv_core::os::SessionKind;

use crate::harness::{ok, replay};
use crate::import;

type Session = *mut SessionView;
type Worker = unsafe extern "C" fn(u32, *mut c_void, *mut c_void);
type Callback = unsafe extern "C" fn(usize, *mut c_void, u64);
type Destructor = unsafe extern "C" fn(*mut c_void, *mut c_void, *mut c_void);

import! {
    fn RTMemAllocTag(bytes: usize, tag: *const i8) -> *mut u8;
    fn RTMemAllocZTag(bytes: usize, tag: *const i8) -> *mut u8;
    fn RTMemAllocVarTag(bytes: usize, tag: *const i8) -> *mut u8;
    fn RTMemAllocZVarTag(bytes: usize, tag: *const i8) -> *mut u8;
    fn RTMemReallocTag(old: *mut u8, bytes: usize, tag: *const i8) -> *mut u8;
    fn RTMemFree(block: *mut u8);
    fn RTMemAllocExTag(bytes: usize, align: usize, flags: u32, tag: *const i8, out: *mut *mut u8) -> i32;
    fn RTMemFreeEx(block: *mut u8, bytes: usize);
    fn RTMemDupTag(source: *const u8, bytes: usize, tag: *const i8) -> *mut u8;
    fn RTMemDupExTag(source: *const u8, bytes: usize, extra: usize, tag: *const i8) -> *mut u8;
    fn RTStrDupTag(text: *const c_char, tag: *const i8) -> *mut u8;
    fn RTStrFree(text: *mut u8);
    fn RTR0MemObjAllocLowTag(out: *mut usize, bytes: usize, executable: bool, tag: *const i8) -> i32;
    fn RTR0MemObjAllocContTag(out: *mut usize, bytes: usize, executable: bool, tag: *const i8) -> i32;
    fn RTR0MemObjAllocPhysExTag(out: *mut usize, bytes: usize, highest: u64, align: usize, tag: *const i8) -> i32;
    fn RTR0MemObjLockUserTag(out: *mut usize, address: usize, bytes: usize, access: u32, process: usize, tag: *const i8) -> i32;
    fn RTR0MemObjMapKernelExTag(out: *mut usize, parent: usize, fixed: usize, align: usize, prot: u32, offset: usize, bytes: usize, tag: *const i8) -> i32;
    fn RTR0MemObjProtect(object: usize, offset: usize, bytes: usize, prot: u32) -> i32;
    fn RTR0MemObjFree(object: usize, mappings: bool) -> i32;
    fn RTMpOnAll(worker: Worker, user1: *mut c_void, user2: *mut c_void) -> i32;
    fn RTMpOnOthers(worker: Worker, user1: *mut c_void, user2: *mut c_void) -> i32;
    fn RTMpOnSpecific(cpu_id: u32, worker: Worker, user1: *mut c_void, user2: *mut c_void) -> i32;
    fn RTMpCpuId() -> u32;
    fn RTTimerCreateEx(out: *mut usize, interval_ns: u64, flags: u32, callback: Callback, user: *mut c_void) -> i32;
    fn RTTimerStart(timer: usize, first_ns: u64) -> i32;
    fn RTTimerStop(timer: usize) -> i32;
    fn RTTimerChangeInterval(timer: usize, interval_ns: u64) -> i32;
    fn RTTimerDestroy(timer: usize) -> i32;
    fn RTTimerRequestSystemGranularity(wanted: u32, granted: *mut u32) -> i32;
    fn RTTimerReleaseSystemGranularity(granted: u32) -> i32;
    fn SUPR0ContAlloc(session: Session, pages: u32, kernel: *mut usize, user: *mut usize, phys: *mut u64) -> i32;
    fn SUPR0ContFree(session: Session, address: usize) -> i32;
    fn SUPR0LowAlloc(session: Session, pages: u32, kernel: *mut usize, user: *mut usize, phys: *mut u64) -> i32;
    fn SUPR0LowFree(session: Session, address: usize) -> i32;
    fn SUPR0MemAlloc(session: Session, bytes: u32, kernel: *mut usize, user: *mut usize) -> i32;
    fn SUPR0MemFree(session: Session, address: usize) -> i32;
    fn SUPR0PageAllocEx(session: Session, pages: u32, flags: u32, user: *mut usize, kernel: *mut usize, phys: *mut u64) -> i32;
    fn SUPR0PageFree(session: Session, address: usize) -> i32;
    fn SUPR0LockMem(session: Session, address: usize, pages: u32, phys: *mut u64) -> i32;
    fn SUPR0UnlockMem(session: Session, address: usize) -> i32;
    fn SUPR0ObjRegister(session: Session, kind: u32, destructor: Destructor, user1: *mut c_void, user2: *mut c_void) -> *mut c_void;
    fn SUPR0ObjAddRef(object: *mut c_void, session: Session) -> i32;
    fn SUPR0ObjRelease(object: *mut c_void, session: Session) -> i32;
    fn SUPSemEventCreate(session: Session, out: *mut usize) -> i32;
    fn SUPSemEventSignal(session: Session, handle: usize) -> i32;
    fn SUPSemEventWait(session: Session, handle: usize, millis: u32) -> i32;
    fn SUPSemEventClose(session: Session, handle: usize) -> i32;
    fn SUPSemEventMultiCreate(session: Session, out: *mut usize) -> i32;
    fn SUPSemEventMultiSignal(session: Session, handle: usize) -> i32;
    fn SUPSemEventMultiReset(session: Session, handle: usize) -> i32;
    fn SUPSemEventMultiClose(session: Session, handle: usize) -> i32;
}

const PAGE: usize = 0x1000;
const ANY: usize = usize::MAX;

unsafe extern "C" fn work(_cpu: u32, _user1: *mut c_void, _user2: *mut c_void) {}
unsafe extern "C" fn tick(_timer: usize, _user: *mut c_void, _tick: u64) {}
unsafe extern "C" fn destroyed(_object: *mut c_void, _user1: *mut c_void, _user2: *mut c_void) {}

/// The first failure of several steps that are all taken.
fn first(results: &[i32]) -> Result<()> {
    results.iter().try_for_each(|status| ok(*status))
}

/// A status of something that comes as a pointer.
fn got<T>(pointer: *const T) -> i32 {
    if pointer.is_null() { VERR_NO_MEMORY.0 } else { 0 }
}

#[test]
fn of_the_heap() {
    replay(|_| {
        let blocks = [
            RTMemAllocTag(100, null()),
            RTMemAllocZTag(100, null()),
            RTMemAllocVarTag(100, null()),
            RTMemAllocZVarTag(100, null()),
            RTMemDupTag([1u8; 8].as_ptr(), 8, null()),
            RTMemDupExTag([1u8; 8].as_ptr(), 8, 8, null()),
        ];
        let text = RTStrDupTag(c"text".as_ptr(), null());
        let grown = RTMemReallocTag(blocks[0], 5000, null());
        // The old block is still there if it can't be moved.
        RTMemFree(if grown.is_null() { blocks[0] } else { grown });
        blocks[1..].iter().for_each(|block| RTMemFree(*block));
        RTStrFree(text);
        let mut any_context = null_mut();
        let status = RTMemAllocExTag(64, 0, 0b1101, null(), &raw mut any_context);
        assert_eq!(status == 0, !any_context.is_null());
        if status == 0 {
            RTMemFreeEx(any_context, 64);
        }
        let pointers = blocks.map(|block| got(block));
        first(&[&pointers[..], &[got(text), got(grown), status]].concat())
    });
}

fn free_object(object: usize) {
    if RTR0MemObjFree(object, true) != 0 {
        assert_eq!(RTR0MemObjFree(object, true), 0);
    }
}

#[test]
fn of_memory_objects() {
    replay(|os| {
        let memory = os.user_memory(2);
        let (mut low, mut block, mut aligned, mut locked, mut map) = (0, 0, 0, 0, 0);
        let created = [
            RTR0MemObjAllocLowTag(&raw mut low, 2 * PAGE, true, null()),
            RTR0MemObjAllocContTag(&raw mut block, 2 * PAGE, false, null()),
            RTR0MemObjAllocPhysExTag(&raw mut aligned, PAGE, u64::MAX, 0x20_0000, null()),
            RTR0MemObjLockUserTag(&raw mut locked, memory.address(), 2 * PAGE, 3, usize::MAX, null()),
        ];
        assert_eq!(
            created.map(|status| status == 0),
            [low, block, aligned, locked].map(|object| object != 0)
        );
        let mapped = match low {
            0 => created[0],
            _ => RTR0MemObjMapKernelExTag(&raw mut map, low, ANY, 0, 3, PAGE, PAGE, null()),
        };
        let protected = if block == 0 { created[1] } else { RTR0MemObjProtect(block, 0, PAGE, 1) };
        [low, block, aligned, locked].into_iter().for_each(free_object);
        first(&created).and(first(&[mapped, protected]))
    });
}

#[test]
fn of_timers_and_calls_on_other_cpus() {
    replay(|os| {
        os.set_timer_granularity_ns(10_000_000, 1_000_000);
        let (mut timer, mut granted) = (0, 0);
        let mut results = vec![
            RTTimerRequestSystemGranularity(1_000_000, &raw mut granted),
            RTTimerCreateEx(&raw mut timer, 1_000_000, 0, tick, null_mut()),
            RTMpOnAll(work, null_mut(), null_mut()),
            RTMpOnOthers(work, null_mut(), null_mut()),
            RTMpOnSpecific(RTMpCpuId(), work, null_mut(), null_mut()),
        ];
        if timer != 0 {
            let started = RTTimerStart(timer, 0);
            results.push(started);
            if started == 0 {
                results.extend([RTTimerChangeInterval(timer, 2_000_000), RTTimerStop(timer)]);
            }
            assert_eq!(RTTimerDestroy(timer), 0);
        }
        if results[0] == 0 {
            assert_eq!(RTTimerReleaseSystemGranularity(granted), 0);
        }
        first(&results)
    });
}

/// Replays what a module does in a user's session.
fn in_a_session(module: impl Fn(&MockOs, Session) -> Result<()>) {
    let replayed = replay(|os| {
        let host = Host::on(os)?;
        let client = host.open_as(SessionKind::User)?;
        let result = module(os, client.session().view().as_ptr());
        client.close();
        result
    });
    assert!(replayed.calls > 20, "the driver, the session and the module call the system");
}

#[test]
fn of_memory_of_a_session() {
    in_a_session(|os, session| {
        let memory = os.user_memory(2);
        let (mut kernel, mut user, mut phys) = (0, 0, [0u64; 4]);
        let mut results = vec![SUPR0ContAlloc(session, 2, &raw mut kernel, &raw mut user, phys.as_mut_ptr())];
        if results[0] == 0 {
            results.push(SUPR0ContFree(session, user));
        }
        let low = SUPR0LowAlloc(session, 2, &raw mut kernel, &raw mut user, phys.as_mut_ptr());
        results.push(if low == 0 { SUPR0LowFree(session, kernel) } else { low });
        let fixed = SUPR0MemAlloc(session, 64, &raw mut kernel, &raw mut user);
        results.push(if fixed == 0 { SUPR0MemFree(session, user) } else { fixed });
        let pages = SUPR0PageAllocEx(session, 2, 0, &raw mut user, &raw mut kernel, phys.as_mut_ptr());
        results.push(if pages == 0 { SUPR0PageFree(session, user) } else { pages });
        let locked = SUPR0LockMem(session, memory.address(), 2, phys.as_mut_ptr());
        results.push(if locked == 0 { SUPR0UnlockMem(session, memory.address()) } else { locked });
        first(&results)
    });
}

#[test]
fn of_objects_and_semaphores_of_a_session() {
    in_a_session(|_, session| {
        let object = SUPR0ObjRegister(session, 1, destroyed, null_mut(), null_mut());
        let mut results = vec![got(object)];
        if !object.is_null() {
            let again = SUPR0ObjAddRef(object, session);
            results.push(again);
            if again == 0 {
                assert_eq!(SUPR0ObjRelease(object, session), 0);
            }
            assert!(SUPR0ObjRelease(object, session) >= 0);
        }
        let (mut event, mut multi) = (0, 0);
        let created = SUPSemEventCreate(session, &raw mut event);
        results.push(created);
        if created == 0 {
            results.extend([SUPSemEventSignal(session, event), SUPSemEventWait(session, event, 0)]);
            assert!(SUPSemEventClose(session, event) >= 0);
        }
        let created = SUPSemEventMultiCreate(session, &raw mut multi);
        results.push(created);
        if created == 0 {
            results.extend([SUPSemEventMultiSignal(session, multi), SUPSemEventMultiReset(session, multi)]);
            assert!(SUPSemEventMultiClose(session, multi) >= 0);
        }
        first(&results)
    });
}
