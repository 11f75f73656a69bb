//! `SUPR0*`, `SUPSem*`, assertions, loggers, strings.

use std::ffi::{CStr, c_char, c_void};
use std::ptr::{null, null_mut};
use std::sync::Mutex;

use supdrv_core::abi::published::{Factory, SessionView};
use supdrv_core::abi::status::{VERR_NOT_SUPPORTED, VINF_SUCCESS};
use supdrv_core::mock::Host;
use supdrv_core::os::SessionKind;
use supdrv_core::ring0::events;

use crate::harness::{Machine, exports::Runtime, ok, replay};
use crate::import;

type Session = *mut SessionView;
type Destructor = unsafe extern "C" fn(*mut c_void, *mut c_void, *mut c_void);

import! {
    fn SUPGetGIP() -> usize;
    fn SUPR0ComponentRegisterFactory(session: Session, factory: *const Factory) -> i32;
    fn SUPR0ComponentDeregisterFactory(session: Session, factory: *const Factory) -> i32;
    fn SUPR0ComponentQueryFactory(session: Session, name: *const i8, uuid: *const i8, interface: *mut *mut c_void) -> i32;
    fn SUPR0ContAlloc(session: Session, pages: u32, kernel: *mut usize, user: *mut usize, phys: *mut u64) -> i32;
    fn SUPR0ContFree(session: Session, address: usize) -> i32;
    fn SUPR0LowAlloc(session: Session, pages: u32, kernel: *mut usize, user: *mut usize, phys: *mut u64) -> i32;
    fn SUPR0LowFree(session: Session, address: usize) -> i32;
    fn SUPR0MemAlloc(session: Session, bytes: u32, kernel: *mut usize, user: *mut usize) -> i32;
    fn SUPR0MemFree(session: Session, address: usize) -> i32;
    fn SUPR0MemGetPhys(session: Session, address: usize, pages: *mut [u64; 2]) -> i32;
    fn SUPR0PageAllocEx(session: Session, pages: u32, flags: u32, user: *mut usize, kernel: *mut usize, phys: *mut u64) -> i32;
    fn SUPR0PageFree(session: Session, address: usize) -> i32;
    fn SUPR0LockMem(session: Session, address: usize, pages: u32, phys: *mut u64) -> i32;
    fn SUPR0UnlockMem(session: Session, address: usize) -> i32;
    fn SUPR0ObjRegister(session: Session, kind: u32, destructor: Option<Destructor>, user1: *mut c_void, user2: *mut c_void) -> *mut c_void;
    fn SUPR0ObjAddRef(object: *mut c_void, session: Session) -> i32;
    fn SUPR0ObjAddRefEx(object: *mut c_void, session: Session, no_blocking: bool) -> i32;
    fn SUPR0ObjRelease(object: *mut c_void, session: Session) -> i32;
    fn SUPR0ObjVerifyAccess(object: *mut c_void, session: Session, name: *const i8) -> i32;
    fn SUPR0EnableVTx(enable: bool) -> i32;
    fn SUPR0SuspendVTxOnCpu() -> bool;
    fn SUPR0ResumeVTxOnCpu(suspended: bool);
    fn SUPR0GetPagingMode() -> u32;
    fn SUPSemEventCreate(session: Session, out: *mut usize) -> i32;
    fn SUPSemEventClose(session: Session, handle: usize) -> i32;
    fn SUPSemEventSignal(session: Session, handle: usize) -> i32;
    fn SUPSemEventWait(session: Session, handle: usize, millis: u32) -> i32;
    fn SUPSemEventWaitNoResume(session: Session, handle: usize, millis: u32) -> i32;
    fn SUPSemEventWaitNsAbsIntr(session: Session, handle: usize, deadline: u64) -> i32;
    fn SUPSemEventWaitNsRelIntr(session: Session, handle: usize, nanos: u64) -> i32;
    fn SUPSemEventGetResolution(session: Session) -> u32;
    fn SUPSemEventMultiCreate(session: Session, out: *mut usize) -> i32;
    fn SUPSemEventMultiClose(session: Session, handle: usize) -> i32;
    fn SUPSemEventMultiSignal(session: Session, handle: usize) -> i32;
    fn SUPSemEventMultiReset(session: Session, handle: usize) -> i32;
    fn SUPSemEventMultiWait(session: Session, handle: usize, millis: u32) -> i32;
    fn SUPSemEventMultiWaitNoResume(session: Session, handle: usize, millis: u32) -> i32;
    fn SUPSemEventMultiWaitNsAbsIntr(session: Session, handle: usize, deadline: u64) -> i32;
    fn SUPSemEventMultiWaitNsRelIntr(session: Session, handle: usize, nanos: u64) -> i32;
    fn SUPSemEventMultiGetResolution(session: Session) -> u32;
    fn RTAssertAreQuiet() -> bool;
    fn RTAssertSetQuiet(quiet: bool) -> bool;
    fn RTAssertMayPanic() -> bool;
    fn RTAssertSetMayPanic(may_panic: bool) -> bool;
    fn RTAssertMsg1(expression: *const i8, line: u32, file: *const i8, function: *const i8);
    fn RTR0AssertPanicSystem();
    fn RTErrConvertFromErrno(native: u32) -> i32;
    fn RTErrConvertToErrno(status: i32) -> i32;
    fn RTLogDefaultInstance() -> *mut c_void;
    fn RTLogRelDefaultInstance() -> *mut c_void;
    fn RTLogSetDefaultInstanceThread(logger: *mut c_void, key: usize) -> i32;
    fn RTStrDupTag(text: *const c_char, tag: *const i8) -> *mut c_char;
    fn RTStrFree(text: *mut c_char);
}

/// A driver with a session; the session's address is what modules have.
fn with_session(kind: SessionKind, test: impl FnOnce(&Machine, &Host, Session)) {
    let machine = Machine::new();
    let host = Host::on(&machine).expect("a driver can be initialised");
    let client = host.open_as(kind).expect("a session can be opened");
    test(&machine, &host, client.session().view().as_ptr());
    client.close();
}

#[test]
fn what_is_not_a_session_is_refused() {
    let _machine = Machine::new();
    let mut zero = [0u64; 512];
    for bad in [null_mut(), 0x10 as Session, zero.as_mut_ptr().cast()] {
        assert_eq!(
            (SUPR0MemFree(bad, 1), SUPR0ObjRelease(null_mut(), bad), SUPSemEventSignal(bad, 1)),
            (-2, -2, -2)
        );
        assert!(SUPR0ObjRegister(bad, 1, None, null_mut(), null_mut()).is_null());
    }
}

#[test]
fn memory_for_both_rings() {
    with_session(SessionKind::User, |machine, host, session| {
        let (mut kernel, mut user, mut phys) = (0, 0, [0u64; 1024]);
        assert_eq!(SUPR0ContAlloc(session, 2, &raw mut kernel, &raw mut user, null_mut()), -2);
        assert_eq!(
            (SUPR0ContAlloc(session, 256, &raw mut kernel, &raw mut user, phys.as_mut_ptr()), kernel),
            (-84, 0)
        );
        assert_eq!(SUPR0ContAlloc(session, 2, &raw mut kernel, &raw mut user, phys.as_mut_ptr()), 0);
        assert!(phys[0] != 0 && phys[0] < 1 << 32 && machine.user_protection(user).is_some());
        assert_eq!((SUPR0LowFree(session, kernel), SUPR0ContFree(session, kernel)), (-2, 0));

        assert_eq!(SUPR0LowAlloc(session, 255, &raw mut kernel, &raw mut user, phys.as_mut_ptr()), 0);
        assert!(phys[..255].iter().all(|phys| *phys <= 0xffff_f000 && phys % 0x1000 == 0));
        assert_eq!(SUPR0LowFree(session, user), 0);

        assert_eq!(SUPR0MemAlloc(session, 0, &raw mut kernel, &raw mut user), -2);
        assert_eq!(
            (
                SUPR0MemAlloc(session, 8, null_mut(), &raw mut user),
                SUPR0MemAlloc(session, 0x40_0000, &raw mut kernel, &raw mut user)
            ),
            (-6, -2)
        );
        assert_eq!(SUPR0MemAlloc(session, 0x2fff, &raw mut kernel, &raw mut user), 0);
        let mut pages = [[7u64; 2]; 3];
        assert_eq!(SUPR0MemGetPhys(session, user, pages.as_mut_ptr()), 0);
        assert!(pages.iter().all(|[phys, reserved]| phys % 0x1000 == 0 && *reserved == 0));
        assert_eq!(
            (SUPR0MemGetPhys(session, kernel, null_mut()), SUPR0MemGetPhys(session, 5, pages.as_mut_ptr())),
            (-6, -2)
        );
        assert_eq!(SUPR0MemFree(session, kernel), 0);

        let page_alloc =
            |pages, flags, user, kernel| SUPR0PageAllocEx(session, pages, flags, user, kernel, null_mut());
        assert_eq!(page_alloc(1, 0, null_mut(), null_mut()), -2);
        assert_eq!(
            (
                page_alloc(1, 1, &raw mut user, null_mut()),
                page_alloc(65537, 0, &raw mut user, null_mut()),
                page_alloc(0, 0, &raw mut user, null_mut())
            ),
            (-2, -84, -84)
        );
        assert_eq!(SUPR0PageAllocEx(session, 3, 0, null_mut(), &raw mut kernel, phys.as_mut_ptr()), 0);
        assert!(phys[..3].iter().all(|phys| *phys != u64::MAX && phys % 0x1000 == 0));
        assert_eq!((SUPR0PageFree(session, kernel), SUPR0PageFree(session, kernel)), (0, -2));

        let memory = machine.user_memory(2);
        assert_eq!(
            (
                SUPR0LockMem(session, memory.address() + 1, 2, phys.as_mut_ptr()),
                SUPR0LockMem(session, memory.address(), 2, null_mut())
            ),
            (-2, -2)
        );
        assert_eq!(
            (SUPR0LockMem(session, memory.address(), 2, phys.as_mut_ptr()), phys[..2].to_vec()),
            (0, memory.physical())
        );
        assert_eq!((SUPR0UnlockMem(session, memory.address()), SUPR0UnlockMem(session, 0)), (0, -2));
        assert_eq!(host.counters().memory_refs, 0);
    });
}

static DESTROYED: Mutex<Vec<(usize, usize)>> = Mutex::new(Vec::new());

unsafe extern "C" fn destroyed(_object: *mut c_void, user1: *mut c_void, user2: *mut c_void) {
    DESTROYED.lock().unwrap().push((user1 as usize, user2 as usize));
}

#[test]
fn objects_are_counted_and_destroyed() {
    with_session(SessionKind::User, |_, host, session| {
        let register = |kind, destructor| {
            let user = core::ptr::without_provenance_mut::<c_void>;
            SUPR0ObjRegister(session, kind, destructor, user(1), user(2))
        };
        assert!(
            register(0, Some(destroyed as Destructor)).is_null()
                && register(7, Some(destroyed)).is_null()
                && register(1, None).is_null()
        );
        let object = register(1, Some(destroyed));
        assert_eq!((SUPR0ObjAddRef(object, session), SUPR0ObjAddRefEx(object, session, true)), (0, 0));
        assert_eq!(SUPR0ObjVerifyAccess(object, session, c"name".as_ptr()), 0);
        let other = host.open();
        let stranger = other.session().view().as_ptr();
        assert_eq!((SUPR0ObjRelease(object, stranger), SUPR0ObjAddRefEx(object, stranger, true)), (-2, -52));
        other.close();
        assert_eq!((SUPR0ObjRelease(object, session), SUPR0ObjRelease(object, session)), (0, 0));
        assert_eq!(
            (SUPR0ObjRelease(object, session), std::mem::take(&mut *DESTROYED.lock().unwrap())),
            (85, vec![(1, 2)])
        );
        assert_eq!(
            (
                SUPR0ObjAddRef(null_mut(), session),
                SUPR0ObjRelease(null_mut(), session),
                SUPR0ObjVerifyAccess(null_mut(), session, null())
            ),
            (-6, -2, -2)
        );
    });
}

unsafe extern "C" fn answers(
    _factory: *const Factory,
    _session: Session,
    uuid: *const c_char,
) -> *mut c_void {
    // SAFETY: the registry passes a C string.
    if unsafe { CStr::from_ptr(uuid) } == c"de504d93-1d1e-4781-8b73-6ea39a0e36a2" {
        0x1234 as *mut c_void
    } else {
        null_mut()
    }
}

#[test]
fn factories_are_asked_by_name() {
    let mut name = [0; 56];
    name[..4].copy_from_slice(b"fact");
    let factory = Factory { name, query: answers as *const () as usize };
    with_session(SessionKind::User, |_, host, user| {
        let client = host.open_as(SessionKind::Kernel).unwrap();
        let kernel = client.session().view().as_ptr();
        assert_eq!(
            (
                SUPR0ComponentRegisterFactory(user, &raw const factory),
                SUPR0ComponentRegisterFactory(kernel, null())
            ),
            (-38, -6)
        );
        assert_eq!(
            (
                SUPR0ComponentRegisterFactory(kernel, &raw const factory),
                SUPR0ComponentRegisterFactory(kernel, &raw const factory)
            ),
            (0, -105)
        );
        let mut interface = 5 as *mut c_void;
        let mut query = |name: &CStr, uuid: &CStr| {
            SUPR0ComponentQueryFactory(user, name.as_ptr(), uuid.as_ptr(), &raw mut interface)
        };
        assert_eq!((query(c"fac", c"x"), query(c"fact", c"x")), (-3700, -3701));
        assert_eq!(query(c"fact", c"0123456789012345678901234567890123456"), -2);
        assert_eq!(
            (query(c"fact", c"de504d93-1d1e-4781-8b73-6ea39a0e36a2"), interface as usize),
            (0, 0x1234)
        );
        assert_eq!(SUPR0ComponentQueryFactory(user, null(), c"x".as_ptr(), &raw mut interface), -6);
        assert_eq!(SUPR0ComponentQueryFactory(user, c"fact".as_ptr(), c"x".as_ptr(), null_mut()), -6);
        assert_eq!(
            (
                SUPR0ComponentDeregisterFactory(kernel, &raw const factory),
                SUPR0ComponentDeregisterFactory(kernel, &raw const factory)
            ),
            (0, -78)
        );
        client.close();
    });
}

#[test]
fn semaphores_of_a_session() {
    with_session(SessionKind::User, |machine, _, session| {
        machine.set_waits_advance_clock(true);
        let (mut event, mut multi) = (0, 0);
        assert_eq!(
            (SUPSemEventCreate(session, &raw mut event), SUPSemEventMultiCreate(session, &raw mut multi)),
            (0, 0)
        );
        assert_eq!((event, multi, SUPSemEventCreate(session, null_mut())), (1, 2, -6));
        assert_eq!(
            (
                SUPSemEventSignal(session, event),
                SUPSemEventWait(session, event, 0),
                SUPSemEventWait(session, event, 1)
            ),
            (0, 0, -40)
        );
        assert_eq!(
            (
                SUPSemEventWaitNoResume(session, event, 0),
                SUPSemEventWaitNsAbsIntr(session, event, 1),
                SUPSemEventWaitNsRelIntr(session, event, 1)
            ),
            (-40, -40, -40)
        );
        assert_eq!(
            (
                SUPSemEventMultiSignal(session, multi),
                SUPSemEventMultiWait(session, multi, 0),
                SUPSemEventMultiWaitNoResume(session, multi, 0)
            ),
            (0, 0, 0)
        );
        assert_eq!(
            (
                SUPSemEventMultiWaitNsAbsIntr(session, multi, 0),
                SUPSemEventMultiReset(session, multi),
                SUPSemEventMultiWaitNsRelIntr(session, multi, 5)
            ),
            (0, 0, -40)
        );
        assert_eq!((SUPSemEventMultiSignal(session, event), SUPSemEventWait(session, multi, 0)), (-4, -4));
        assert_eq!((SUPSemEventSignal(session, 0x1_0000_0001), SUPSemEventWait(session, 0, 0)), (-4, -4));
        assert!(
            SUPSemEventGetResolution(session) > 0
                && SUPSemEventGetResolution(session) == SUPSemEventMultiGetResolution(session)
        );
        assert_eq!(
            (
                SUPSemEventClose(session, event),
                SUPSemEventMultiClose(session, multi),
                SUPSemEventClose(session, event),
                SUPSemEventClose(session, 0)
            ),
            (85, 85, -4, 0)
        );
    });
}

#[test]
fn vtx_and_paging_mode() {
    let machine = Machine::new();
    assert_eq!((SUPR0EnableVTx(true), SUPR0SuspendVTxOnCpu()), (VERR_NOT_SUPPORTED.0, false));
    SUPR0ResumeVTxOnCpu(false);
    machine.set_kernel_vtx(Some(VINF_SUCCESS));
    assert_eq!((SUPR0EnableVTx(true), SUPR0EnableVTx(false)), (0, 0));
    assert!((7..=10).contains(&SUPR0GetPagingMode()));
}

#[test]
fn the_gip_is_where_the_variable_says() {
    let _machine = Machine::new();
    assert_eq!(SUPGetGIP(), 0);
    events::gip_published::<Runtime>(0x1000);
    let variable = crate::harness::address("g_pSUPGlobalInfoPage") as *const usize;
    // SAFETY: the export is the address of the variable.
    let value = unsafe { *variable };
    assert_eq!((SUPGetGIP(), value), (0x1000, 0x1000));
    events::gip_published::<Runtime>(0);
    assert_eq!(SUPGetGIP(), 0);
}

#[test]
fn assertions_are_printed_unless_they_are_quiet() {
    let machine = Machine::new();
    assert_eq!(
        (RTAssertAreQuiet(), RTAssertMayPanic(), RTAssertSetMayPanic(true), RTAssertSetMayPanic(false)),
        (false, false, false, true)
    );
    RTAssertMsg1(c"a == b".as_ptr(), 4294967295, c"file.c".as_ptr(), null());
    assert_eq!(
        machine.log().iter().map(|line| line.trim_end()).collect::<Vec<_>>(),
        ["!!Assertion Failed!!", "Expression: a == b", "Location  : file.c(4294967295) <null>"]
    );
    assert_eq!((RTAssertSetQuiet(true), RTAssertAreQuiet()), (false, true));
    RTAssertMsg1(c"c".as_ptr(), 1, null(), null());
    assert_eq!((machine.log().len(), RTAssertSetQuiet(false)), (3, true));
    RTR0AssertPanicSystem();
    assert_eq!(machine.take_violations(), ["the system was told to stop"]);
}

#[test]
fn errno_and_back() {
    assert_eq!(
        (
            RTErrConvertFromErrno(0),
            RTErrConvertFromErrno(2),
            RTErrConvertFromErrno(7),
            RTErrConvertFromErrno(1000)
        ),
        (0, -102, -42, -35)
    );
    assert_eq!((RTErrConvertToErrno(-8), RTErrConvertToErrno(-22), RTErrConvertToErrno(85)), (12, 71, 0));
}

#[test]
fn threads_and_sessions_have_loggers_of_their_own() {
    let machine = Machine::new();
    let logger = |number: usize| number as *mut c_void;
    assert!(RTLogDefaultInstance().is_null() && RTLogRelDefaultInstance().is_null());
    for thread in 1..=8 {
        machine
            .as_thread(thread, || assert_eq!(RTLogSetDefaultInstanceThread(logger(thread), thread % 2), 0));
    }
    machine.as_thread(9, || assert_eq!(RTLogSetDefaultInstanceThread(logger(9), 1), -41));
    machine.as_thread(3, || {
        assert_eq!(
            (RTLogDefaultInstance(), RTLogSetDefaultInstanceThread(logger(33), 1), RTLogDefaultInstance()),
            (logger(3), 0, logger(33))
        )
    });
    machine.as_thread(2, || assert_eq!(RTLogSetDefaultInstanceThread(null_mut(), 1), 0));
    for (thread, expected) in [(1, 0), (2, 0), (3, 0), (4, 4)] {
        machine.as_thread(thread, || assert_eq!(RTLogDefaultInstance(), logger(expected)));
    }
    events::session_closing::<Runtime>(0);
    machine.as_thread(4, || assert!(RTLogDefaultInstance().is_null()));
}

#[test]
fn strings_are_copied_to_the_heap() {
    replay(|_| {
        let copy = RTStrDupTag(c"text".as_ptr(), null());
        if copy.is_null() {
            return ok(-8);
        }
        // SAFETY: a copy of a C string.
        assert_eq!(unsafe { CStr::from_ptr(copy) }, c"text");
        RTStrFree(copy);
        RTStrFree(null_mut());
        assert!(RTStrDupTag(null(), null()).is_null());
        Ok(())
    });
}
