//! `RTThread*`.

use std::ffi::{CStr, c_void};
use std::ptr::{null, null_mut};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use supdrv_core::os::ThreadPriority;

use crate::harness::{Machine, ok, replay};
use crate::import;

type Main = unsafe extern "C" fn(usize, *mut c_void) -> i32;
type Hook = unsafe extern "C" fn(u32, *mut c_void);

import! {
    fn RTThreadCreate(out: *mut usize, main: Option<Main>, user: *mut c_void, stack: usize, kind: u32, flags: u32, name: *const i8) -> i32;
    fn RTThreadWait(thread: usize, millis: u32, result: *mut i32) -> i32;
    fn RTThreadWaitNoResume(thread: usize, millis: u32, result: *mut i32) -> i32;
    fn RTThreadSelf() -> usize;
    fn RTThreadSelfName() -> *const i8;
    fn RTThreadGetName(thread: usize) -> *const i8;
    fn RTThreadGetNative(thread: usize) -> usize;
    fn RTThreadGetType(thread: usize) -> u32;
    fn RTThreadUserSignal(thread: usize) -> i32;
    fn RTThreadUserReset(thread: usize) -> i32;
    fn RTThreadUserWait(thread: usize, millis: u32) -> i32;
    fn RTThreadUserWaitNoResume(thread: usize, millis: u32) -> i32;
    fn RTThreadNativeSelf() -> usize;
    fn RTThreadSleep(millis: u32) -> i32;
    fn RTThreadYield() -> bool;
    fn RTThreadIsInInterrupt(thread: usize) -> bool;
    fn RTThreadPreemptDisable(state: *mut [u32; 2]);
    fn RTThreadPreemptRestore(state: *mut [u32; 2]);
    fn RTThreadPreemptIsEnabled(thread: usize) -> bool;
    fn RTThreadPreemptIsPending(thread: usize) -> bool;
    fn RTThreadPreemptIsPendingTrusty() -> bool;
    fn RTThreadPreemptIsPossible() -> bool;
    fn RTThreadCtxHooksCreate(out: *mut usize) -> i32;
    fn RTThreadCtxHooksRetain(hooks: usize) -> u32;
    fn RTThreadCtxHooksRelease(hooks: usize) -> u32;
    fn RTThreadCtxHooksRegister(hooks: usize, callback: Option<Hook>, user: *mut c_void) -> i32;
    fn RTThreadCtxHooksDeregister(hooks: usize) -> i32;
    fn RTThreadCtxHooksAreRegistered(hooks: usize) -> bool;
    fn RTProcSelf() -> u32;
    fn RTR0ProcHandleSelf() -> usize;
}

unsafe extern "C" fn looks_at_itself(thread: usize, user: *mut c_void) -> i32 {
    // SAFETY: the tests pass a place for the native handle.
    unsafe { &*user.cast::<AtomicUsize>() }.store(RTThreadNativeSelf(), Ordering::Relaxed);
    assert_eq!((RTThreadSelf(), RTThreadGetNative(thread)), (thread, RTThreadNativeSelf()));
    // SAFETY: names are C strings.
    assert_eq!(unsafe { CStr::from_ptr(RTThreadSelfName().cast()) }, c"worker");
    assert_eq!(RTThreadUserWait(thread, u32::MAX), 0);
    4711
}

#[test]
fn a_thread_knows_itself_and_is_waited_for() {
    let machine = Machine::new();
    let (native, mut thread, mut result) = (AtomicUsize::new(0), 0, 0);
    let user = std::ptr::from_ref(&native).cast_mut().cast();
    assert_eq!(RTThreadCreate(&raw mut thread, Some(looks_at_itself), user, 0, 10, 1, c"worker".as_ptr()), 0);
    assert_eq!((RTThreadGetType(thread), RTThreadWait(thread, 0, null_mut())), (10, -40));
    // SAFETY: names are C strings.
    assert_eq!(unsafe { CStr::from_ptr(RTThreadGetName(thread).cast()) }, c"worker");
    assert_eq!(RTThreadUserSignal(thread), 0);
    assert_eq!((RTThreadWait(thread, u32::MAX, &raw mut result), result), (0, 4711));
    assert_ne!(native.load(Ordering::Relaxed), 0);
    assert_eq!(machine.join_module_threads(), [("worker".to_owned(), ThreadPriority::Io)]);
}

unsafe extern "C" fn returns(_thread: usize, _user: *mut c_void) -> i32 {
    7
}

#[test]
fn only_waitable_threads_can_be_waited_for() {
    let machine = Machine::new();
    let mut thread = 0;
    assert_eq!(
        RTThreadCreate(
            &raw mut thread,
            Some(looks_at_itself),
            std::ptr::from_ref(&AtomicUsize::new(0)).cast_mut().cast(),
            0,
            4,
            0,
            c"worker".as_ptr()
        ),
        0
    );
    assert_eq!(RTThreadWait(thread, 0, null_mut()), -30);
    RTThreadUserSignal(thread);
    machine.join_module_threads();
    assert_eq!(RTThreadCreate(null_mut(), Some(returns), null_mut(), 0, 4, 0, c"nobody waits".as_ptr()), 0);
    machine.join_module_threads();
}

#[test]
fn arguments_and_handles_are_checked() {
    let _machine = Machine::new();
    let mut thread = 0;
    let mut create =
        |main, flags, name: *const i8| RTThreadCreate(&raw mut thread, main, null_mut(), 0, 4, flags, name);
    assert_eq!(
        (
            create(None, 0, c"x".as_ptr()),
            create(Some(returns), 0, null()),
            create(Some(returns), 0, c"".as_ptr())
        ),
        (-2, -2, -2)
    );
    assert_eq!(
        (create(Some(returns), 2, c"x".as_ptr()), create(Some(returns), 0, c"0123456789abcdef".as_ptr())),
        (-2, -2)
    );
    assert_eq!(
        (RTThreadWait(0, 0, null_mut()), RTThreadWaitNoResume(0, 0, null_mut()), RTThreadUserWait(0, 0)),
        (-4, -4, -4)
    );
    assert_eq!((RTThreadUserSignal(0), RTThreadUserReset(0), RTThreadUserWaitNoResume(0, 0)), (-4, -4, -4));
    assert_eq!((RTThreadSelf(), RTThreadGetType(0), RTThreadGetNative(0)), (0, 0, usize::MAX));
    assert!(RTThreadSelfName().is_null() && RTThreadGetName(0).is_null());
}

#[test]
fn preemption_nests() {
    let machine = Machine::new();
    let (mut outer, mut inner) = ([u32::MAX, 0], [u32::MAX, 0]);
    let mut seen = vec![RTThreadPreemptIsEnabled(usize::MAX)];
    RTThreadPreemptDisable(&raw mut outer);
    seen.push(RTThreadPreemptIsEnabled(0));
    RTThreadPreemptDisable(&raw mut inner);
    RTThreadPreemptRestore(&raw mut inner);
    seen.push(RTThreadPreemptIsEnabled(0));
    RTThreadPreemptRestore(&raw mut outer);
    seen.push(RTThreadPreemptIsEnabled(0));
    assert_eq!(seen, [true, false, false, true]);
    assert!(machine.with_irqs_off(|| !RTThreadPreemptIsEnabled(0)));
    assert!(!RTThreadPreemptIsPending(0) && !RTThreadPreemptIsPendingTrusty() && RTThreadPreemptIsPossible());
    assert!(!RTThreadIsInInterrupt(0));
}

#[test]
fn sleeping_takes_time_and_can_be_interrupted() {
    let machine = Machine::new();
    let before = machine.now_ns();
    assert_eq!((RTThreadSleep(10), RTThreadSleep(0), RTThreadYield()), (0, 0, true));
    assert!(machine.now_ns() - before >= 10_000_000);
    machine.interrupt_next_sleep();
    assert_eq!(RTThreadSleep(10), -39);
}

#[test]
fn the_process_is_the_caller_s() {
    let machine = Machine::new();
    let (process, handle) = (RTProcSelf(), RTR0ProcHandleSelf());
    let other = machine.new_process(1000, 1000);
    machine.run_as(other, || assert!(RTProcSelf() != process && RTR0ProcHandleSelf() != handle));
}

static SWITCHES: Mutex<Vec<(u32, usize)>> = Mutex::new(Vec::new());

unsafe extern "C" fn switched(event: u32, user: *mut c_void) {
    SWITCHES.lock().unwrap().push((event, user as usize));
}

#[test]
fn a_hook_sees_its_thread_go_and_come() {
    let machine = Machine::new();
    let mut hooks = 0;
    assert_eq!(RTThreadCtxHooksCreate(&raw mut hooks), 0);
    assert_eq!((RTThreadCtxHooksRetain(hooks), RTThreadCtxHooksRelease(hooks)), (2, 1));
    assert!(!RTThreadCtxHooksAreRegistered(hooks));
    machine.reschedule();
    assert_eq!(RTThreadCtxHooksRegister(hooks, Some(switched), 5 as *mut c_void), 0);
    assert!(RTThreadCtxHooksAreRegistered(hooks));
    machine.reschedule();
    assert_eq!(std::mem::take(&mut *SWITCHES.lock().unwrap()), [(0, 5), (1, 5)]);
    assert_eq!(RTThreadCtxHooksDeregister(hooks), 0);
    machine.reschedule();
    assert_eq!(*SWITCHES.lock().unwrap(), []);
    assert_eq!((RTThreadCtxHooksRelease(hooks), RTThreadCtxHooksRelease(0)), (0, 0));
}

#[test]
fn without_hooks_everything_says_so() {
    let machine = Machine::new();
    machine.set_preempt_hooks(false);
    let mut hooks = 9;
    assert_eq!((RTThreadCtxHooksCreate(&raw mut hooks), hooks), (-37, 0));
    assert_eq!((RTThreadCtxHooksRetain(0), RTThreadCtxHooksRelease(0)), (u32::MAX, 0));
    assert_eq!(
        (RTThreadCtxHooksRegister(0, Some(switched), null_mut()), RTThreadCtxHooksDeregister(0)),
        (-37, -37)
    );
    assert!(!RTThreadCtxHooksAreRegistered(0));
}

#[test]
fn creation_fails_cleanly() {
    replay(|os| {
        let (mut thread, mut hooks) = (0, 0);
        let result = ok(RTThreadCreate(&raw mut thread, Some(returns), null_mut(), 0, 4, 1, c"t".as_ptr()));
        if thread != 0 {
            assert_eq!(RTThreadWait(thread, u32::MAX, null_mut()), 0);
        }
        let hooked = ok(RTThreadCtxHooksCreate(&raw mut hooks));
        RTThreadCtxHooksRelease(hooks);
        os.join_module_threads();
        result.and(hooked)
    });
}
