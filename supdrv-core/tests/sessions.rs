//! The driver's life, and sessions': creation, references, close and its order.

use core::sync::atomic::Ordering;
use std::sync::atomic::AtomicUsize;

use supdrv_core::abi::ioctl::{DEVEXT_COOKIE, SESSION_COOKIE, SESSION_COOKIE_DEAD};
use supdrv_core::abi::status::*;
use supdrv_core::capi;
use supdrv_core::mock::{Call, Host, KINDS, Kind, MockOs, replay};
use supdrv_core::object::Registration;
use supdrv_core::os::{NIL_HANDLE, NIL_ID, SessionKind};

// The driver

#[test]
fn a_driver_is_published_when_it_is_complete() {
    let host = Host::new();
    let view = host.view();
    assert_eq!(view.cookie.load(Ordering::Relaxed), DEVEXT_COOKIE);
    assert_eq!(view.session_bytes.load(Ordering::Relaxed) as usize, host.driver().session_bytes());
    for (name, handle) in [
        ("device lock", &view.spinlock),
        ("loader mutex", &view.loader_mutex),
        ("component mutex", &view.component_mutex),
        ("GIP mutex", &view.gip_mutex),
        ("GIP lock", &view.gip_spinlock),
        ("GIP", &view.gip),
        ("GIP timer", &view.gip_timer),
    ] {
        assert_ne!(handle.load(Ordering::Relaxed), 0, "{name}");
    }
    assert_eq!(view.init_image.load(Ordering::Relaxed), 0);
    assert_eq!(view.init_thread.load(Ordering::Relaxed), NIL_HANDLE);
    assert_eq!(host.counters(), Default::default());
}

#[test]
fn nothing_is_left_of_a_deleted_driver() {
    let os = MockOs::new();
    let mut host = Host::on(&os).unwrap();
    host.delete().unwrap();
    assert_eq!(os.live_all(), [0; KINDS.len()]);
    let view = host.view();
    assert_eq!(view.cookie.load(Ordering::Relaxed), 0);
    for handle in [&view.spinlock, &view.loader_mutex, &view.component_mutex, &view.gip_mutex, &view.gip] {
        assert_eq!(handle.load(Ordering::Relaxed), 0);
    }
}

#[test]
fn a_driver_survives_any_failure_while_it_is_built() {
    let replayed = replay(|os| {
        let mut host = Host::on(os)?;
        assert_eq!(host.view().cookie.load(Ordering::Relaxed), DEVEXT_COOKIE);
        host.delete()
    });
    assert!(replayed.calls >= 12, "{replayed:?}");
}

#[test]
fn a_failed_driver_can_be_built_again_in_the_same_place() {
    let os = MockOs::new();
    let calls = {
        let before = os.fallible_calls();
        drop(Host::on(&os).unwrap());
        os.fallible_calls() - before
    };
    let mut storage = zeroed_view();
    let view = &raw mut *storage;
    for n in 1..=calls {
        os.fail_nth(n);
        // SAFETY: the storage stays where it is, and nobody else uses it.
        let status = unsafe { capi::init_dev_ext(&os, view, 0) };
        os.cancel_failures();
        // SAFETY: as above.
        let cookie = unsafe { (*view).cookie.load(Ordering::Relaxed) };
        if status != 0 {
            assert_eq!((cookie, os.live_all()), (0, [0; KINDS.len()]), "call {n}");
            // SAFETY: as above.
            assert_eq!(unsafe { capi::init_dev_ext(&os, view, 0) }, 0, "call {n}");
        }
        // SAFETY: as above; no session exists.
        unsafe { capi::delete_dev_ext::<MockOs>(view) };
        assert_eq!(os.live_all(), [0; KINDS.len()], "call {n}");
    }
}

fn zeroed_view() -> Box<supdrv_core::abi::published::DevExtView> {
    Box::new(supdrv_core::mock::packet::zeroed())
}

#[test]
fn a_driver_stays_while_sessions_exist() {
    let os = MockOs::new();
    let host = std::cell::RefCell::new(Host::on(&os).unwrap());
    let session = host.borrow().driver().create_session(SessionKind::User).unwrap();
    assert_eq!(host.borrow_mut().delete(), Err(VERR_RESOURCE_BUSY));
    assert_eq!(host.borrow().view().cookie.load(Ordering::Relaxed), DEVEXT_COOKIE);
    drop(session);
    assert_eq!(host.borrow_mut().delete(), Ok(()));
}

#[test]
fn callbacks_end_before_the_locks_they_use() {
    let os = MockOs::new();
    let mut host = Host::on(&os).unwrap();
    os.start_trace();
    host.delete().unwrap();
    let trace = os.take_trace();
    let first = |call| trace.iter().position(|other| *other == call).unwrap();
    assert!(first(Call::MpDeregister) < first(Call::SpinlockDestroy), "{trace:?}");
    assert!(first(Call::TimerDestroy) < first(Call::SpinlockDestroy), "{trace:?}");
    assert!(first(Call::TimerDestroy) < first(Call::MemFree), "{trace:?}");
    assert!(first(Call::MemFree) < first(Call::MutexDestroy), "{trace:?}");
}

#[test]
fn a_hundred_drivers_live_side_by_side() {
    let hosts: Vec<Host> = (0..100).map(|_| Host::new()).collect();
    let clients: Vec<_> = hosts.iter().map(Host::open).collect();
    for client in &clients {
        client.page_alloc(1, true).unwrap();
    }
    assert!(hosts.iter().all(|host| host.counters().memory_refs == 1));
}

// Sessions

#[test]
fn a_session_tells_who_opened_it() {
    let host = Host::new();
    let process = host.os().new_process(501, 20);
    host.os().run_as(process, || {
        for client in [host.open(), host.open_restricted()] {
            // SAFETY: the session lives.
            let view = unsafe { client.session().view().as_ref() };
            assert_eq!(view.cookie.load(Ordering::Relaxed), SESSION_COOKIE);
            assert_eq!(view.dev_ext.load(Ordering::Relaxed), host.driver().view().as_ptr());
            assert_eq!(view.refs.load(Ordering::Relaxed), 1);
            assert_eq!(view.uid.load(Ordering::Relaxed), 501);
            assert_eq!(view.gid.load(Ordering::Relaxed), 20);
            assert_eq!(view.process.load(Ordering::Relaxed), 1001);
            assert_eq!(view.r0_process.load(Ordering::Relaxed), process.handle());
            assert_eq!(view.unrestricted != 0, client.session().is_unrestricted());
            assert_eq!(view.tracer_caller, NIL_HANDLE);
            assert_ne!(view.spinlock, 0);
        }
    });
}

#[test]
fn a_kernel_session_belongs_to_nobody() {
    let host = Host::new();
    let client = host.open_as(SessionKind::Kernel).unwrap();
    // SAFETY: the session lives.
    let view = unsafe { client.session().view().as_ref() };
    assert_eq!(view.process.load(Ordering::Relaxed), NIL_ID);
    assert_eq!(view.r0_process.load(Ordering::Relaxed), NIL_HANDLE);
    assert_eq!(view.uid.load(Ordering::Relaxed), NIL_ID);
    assert_eq!(view.unrestricted, 1);
}

#[test]
fn session_addresses_are_unique_and_aligned() {
    let host = Host::new();
    let clients: Vec<_> = (0..50).map(|_| host.open()).collect();
    let mut keys: Vec<usize> = clients.iter().map(|client| client.session().key()).collect();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), 50);
    assert!(keys.iter().all(|key| key.is_multiple_of(4)));
    assert_eq!(host.counters().sessions, 50);
}

#[test]
fn the_shell_gets_a_zeroed_tail_behind_the_view() {
    use supdrv_core::abi::published::SessionView;
    let os = MockOs::new();
    let tail = 1000;
    let host = Host::with_session_bytes(&os, size_of::<SessionView>() + tail).unwrap();
    let client = host.open();
    let behind = client.session().view().as_ptr().wrapping_add(1).cast::<u8>();
    // SAFETY: the shell asked for so many bytes behind the view.
    let bytes = unsafe { std::slice::from_raw_parts_mut(behind, tail) };
    assert!(bytes.iter().all(|byte| *byte == 0));
    bytes.fill(0xaa);
    assert_eq!(client.page_alloc(1, true).map(|memory| memory.phys.len()), Ok(1));
}

#[test]
fn the_last_release_closes() {
    let host = Host::new();
    let session = host.driver().create_session(SessionKind::User).unwrap();
    let view = session.into_view().as_ptr();
    // SAFETY: each release gives up one of the references taken here.
    unsafe {
        assert_eq!(capi::session_retain::<MockOs>(view), 2);
        assert_eq!(capi::session_release::<MockOs>(view), 1);
        assert_eq!(host.counters().sessions, 1);
        assert_eq!(capi::session_release::<MockOs>(view), 0);
    }
    assert_eq!(host.counters().sessions, 0);
    assert_eq!(host.os().live(Kind::SessionExt), 0);
}

#[test]
fn what_is_no_session_is_told_so() {
    let host = Host::new();
    // SAFETY: null, and readable memory that doesn't look like a session.
    unsafe {
        assert_eq!(capi::session_retain::<MockOs>(core::ptr::null_mut()), u32::MAX);
        assert_eq!(capi::session_release::<MockOs>(core::ptr::null_mut()), u32::MAX);
        let mut other: Box<supdrv_core::abi::published::SessionView> =
            Box::new(supdrv_core::mock::packet::zeroed());
        other.cookie = SESSION_COOKIE_DEAD.into();
        assert_eq!(capi::session_retain::<MockOs>(&raw mut *other), u32::MAX);
        let mut dead = zeroed_view();
        let mut session = core::ptr::dangling_mut();
        let status = capi::create_session::<MockOs>(&raw mut *dead, true, true, &raw mut session);
        assert_eq!((status, session), (VERR_INVALID_PARAMETER.0, core::ptr::null_mut()));
        let status = capi::create_session::<MockOs>(core::ptr::null_mut(), true, true, &raw mut session);
        assert_eq!(status, VERR_INVALID_PARAMETER.0);
    }
    assert_eq!(host.counters().sessions, 0);
}

#[test]
fn a_freed_session_does_not_look_like_one() {
    // The machine fills freed blocks: what a close leaves must be dead even before that.
    let host = Host::new();
    let client = host.open();
    let view = client.session().view();
    let extra = client.reference();
    client.close();
    // SAFETY: the extra reference keeps it alive.
    assert_eq!(unsafe { view.as_ref() }.cookie.load(Ordering::Relaxed), SESSION_COOKIE);
    drop(extra);
    assert_eq!(host.counters().sessions, 0);
}

#[test]
fn opening_survives_every_failure() {
    let replayed = replay(|os| {
        let host = Host::on(os)?;
        for kind in [SessionKind::User, SessionKind::UserRestricted, SessionKind::Kernel] {
            let client = host.step(|| host.open_as(kind));
            assert_eq!(host.counters().sessions, 1);
            client.close();
            assert_eq!(host.counters().sessions, 0);
        }
        Ok(())
    });
    assert!(replayed.calls >= 12 + 3 * 4, "{replayed:?}");
}

#[test]
fn failures_of_opening_are_reported_as_they_are() {
    let host = Host::new();
    for call in [Call::SessionExtCreate, Call::SpinlockCreate] {
        host.os().fail_next(call, VERR_OUT_OF_RANGE);
        assert_eq!(host.open_as(SessionKind::User).map(|_| ()), Err(VERR_OUT_OF_RANGE), "{call:?}");
    }
    host.os().fail_next(Call::HeapAlloc, VERR_OUT_OF_RANGE);
    assert_eq!(host.open_as(SessionKind::User).map(|_| ()), Err(VERR_NO_MEMORY));
    assert_eq!(host.counters().sessions, 0);
}

#[test]
fn requests_keep_their_session_alive() {
    let host = Host::new();
    for _ in 0..100 {
        let client = host.open();
        let reference = client.reference();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                assert!(reference.mem_alloc(1).is_ok());
                drop(reference);
            });
            client.close();
        });
        assert_eq!(host.counters(), Default::default());
    }
}

#[test]
fn sessions_come_and_go_on_all_threads() {
    let host = Host::new();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..50 {
                    let client = host.open();
                    client.page_alloc(1, true).unwrap();
                    client.sem_op3(0, 0, 0).unwrap();
                    client.gip_map().unwrap();
                }
            });
        }
    });
    assert_eq!(host.counters(), Default::default());
}

#[test]
fn a_session_that_is_being_closed_cannot_be_kept() {
    unsafe extern "C" fn keep(
        _: *mut core::ffi::c_void,
        session: *mut core::ffi::c_void,
        seen: *mut core::ffi::c_void,
    ) {
        // SAFETY: registered with the view of the closing session, and the test's variable.
        unsafe { *seen.cast::<u32>() = capi::session_retain::<MockOs>(session.cast()) };
    }
    let mut seen = 0u32;
    let host = Host::new();
    let client = host.open();
    let session = client.session();
    let what = Registration {
        object_type: 1,
        destructor: keep,
        user1: session.view().as_ptr().cast(),
        user2: (&raw mut seen).cast(),
    };
    host.driver().objects().register(session.key(), &session.creator(), session.ext(), &what).unwrap();
    client.close();
    assert_eq!(seen, u32::MAX);
}

// Order of close

static DESTROYED_AT: AtomicUsize = AtomicUsize::new(0);

#[test]
fn close_goes_from_handles_to_the_gip() {
    unsafe extern "C" fn destructor(
        _: *mut core::ffi::c_void,
        os: *mut core::ffi::c_void,
        _: *mut core::ffi::c_void,
    ) {
        // SAFETY: the test passes its machine, which outlives the session.
        let os = unsafe { &*os.cast::<MockOs>() };
        let so_far = os.take_trace();
        // The semaphore is gone by now; memory and image are there.
        let gone = so_far.iter().filter(|call| **call == Call::EventDestroy).count();
        assert_eq!(gone, 1);
        assert!(!so_far.contains(&Call::MemFree) && !so_far.contains(&Call::ExecFree));
        DESTROYED_AT.store(1, Ordering::SeqCst);
    }
    let host = Host::new();
    let client = host.open();
    let image = supdrv_core::mock::client::Image::new("module", &[0xc3; 64]);
    client.load(&image).unwrap();
    client.gip_map().unwrap();
    client.cont_alloc(1).unwrap();
    client.sem_op3(0, 0, 0).unwrap();
    let session = client.session();
    let os: *const MockOs = host.os();
    let registration = Registration {
        object_type: 1,
        destructor,
        user1: os.cast_mut().cast(),
        user2: core::ptr::null_mut(),
    };
    host.driver()
        .objects()
        .register(session.key(), &session.creator(), session.ext(), &registration)
        .unwrap();
    host.os().start_trace();
    client.close();
    assert_eq!(DESTROYED_AT.load(Ordering::SeqCst), 1, "the destructor ran");
    let trace = host.os().take_trace();
    let first = |call| trace.iter().position(|other| *other == call).unwrap_or_else(|| panic!("no {call:?}"));
    let last = |call| trace.iter().rposition(|other| *other == call).unwrap_or_else(|| panic!("no {call:?}"));
    // Memory, then images, then the GIP (its user mapping is the last memory object), then the session.
    assert!(first(Call::MemFree) < first(Call::ExecFree), "{trace:?}");
    assert!(first(Call::ExecFree) < last(Call::MemFree), "{trace:?}");
    assert!(last(Call::MemFree) < first(Call::TimerStop), "{trace:?}");
    assert!(first(Call::TimerStop) < first(Call::SpinlockDestroy), "{trace:?}");
}
