//! Races of whole requests, by a model checker: the real driver on the mock system, whose every call and every released lock is a place where another
//! thread may go on. Each model runs under many schedules; a schedule that fails is printed and can be replayed.
//!
//! At the end of each run the driver is taken down, and the machine checks that nothing is left and that no rule was broken.
#![cfg(target_arch = "x86_64")]

#[path = "common/code.rs"]
mod code;
mod tracer_support;
mod vtg_samples;

use std::ffi::c_void;
use std::ptr::null_mut;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use code::{Builder, ENTRY_EX, calls};
use shuttle::scheduler::RandomScheduler;
use shuttle::{Config, MaxSteps, Runner, thread};
use supdrv_core::abi::idc::{CONNECT_MAGIC, ConnectIn, GetSymbolIn, IDC_VERSION, IdcHeader, IdcRequest};
use supdrv_core::abi::ioctl::{Encoding, Function};
use supdrv_core::abi::status::*;
use supdrv_core::capi;
use supdrv_core::mock::packet::zeroed;
use supdrv_core::mock::schedule::{Scheduler, set_scheduler};
use supdrv_core::mock::{Client, Host, Kind, MockOs};
use supdrv_core::object::{Destructor, ObjectId, Registration, Released};
use supdrv_core::os::EventKind;
use tracer_support::{Event, FakeTracer, UserModule, context};
use vtg_samples::named;

/// The mock's scheduling, by the checker.
struct Checker;

impl Scheduler for Checker {
    fn task(&self) -> usize {
        shuttle::current::me().into()
    }

    fn point(&self) {
        thread::yield_now();
    }

    fn pause(&self) {
        thread::yield_now();
    }
}

/// Takes the checker away from the thread, also when a model fails.
struct Ended;

impl Drop for Ended {
    fn drop(&mut self) {
        set_scheduler(None);
    }
}

fn explore(schedules: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut config = Config::new();
    config.stack_size = 1 << 20;
    // Whoever waits for ever has lost.
    config.max_steps = MaxSteps::FailAfter(20_000);
    Runner::new(RandomScheduler::new(schedules), config).run(move || {
        set_scheduler(Some(&Checker));
        let _ended = Ended;
        model();
    });
}

#[test]
fn a_session_lives_until_its_last_reference_is_dropped() {
    explore(1_000, || {
        let host = Host::new();
        let client = host.open();
        let view = client.session().view().as_ptr();
        let send = |client: &Client<'_>| assert!(client.cookie().is_ok());
        thread::scope(|scope| {
            for _ in 0..2 {
                // What a shell does under the lock of its table: the session is open, so it can be retained.
                // SAFETY: an open session.
                assert!(unsafe { capi::session_retain::<MockOs>(view) } > 1);
                let client = &client;
                scope.spawn(move || {
                    send(client);
                    let view = client.session().view().as_ptr();
                    // SAFETY: the reference from above; its session is open at least as long.
                    assert_ne!(unsafe { capi::session_release::<MockOs>(view) }, u32::MAX);
                });
            }
            send(&client);
        });
        client.close();
    });
}

/// A pointer that threads may share.
#[derive(Clone, Copy)]
struct Address(usize);

#[test]
fn whoever_releases_last_also_cleans_up_after_a_session() {
    explore(1_000, || {
        let host = Host::new();
        let mut view = null_mut();
        // SAFETY: the driver's own device extension.
        let status = unsafe {
            let dev_ext = core::ptr::from_ref(host.view()).cast_mut();
            capi::create_session::<MockOs>(dev_ext, true, true, &raw mut view)
        };
        assert_eq!(status, 0);
        // SAFETY: an open session.
        assert_eq!(unsafe { capi::session_retain::<MockOs>(view) }, 2);
        let address = Address(view as usize);
        let release = move || {
            let Address(view) = address;
            // SAFETY: each thread has one of the two references.
            unsafe { capi::session_release::<MockOs>(view as *mut _) }
        };
        let other = thread::spawn(release);
        let mine = release();
        let mut counts = [mine, other.join().unwrap()];
        counts.sort_unstable();
        assert_eq!(counts, [0, 1], "one of them was the last");
        assert_eq!(host.counters().sessions, 0);
    });
}

/// A request of a sibling driver; the call's status, and the packet's.
fn idc<T>(host: &Host, request: IdcRequest, packet: &mut T) -> (Status, Status) {
    let packet = core::ptr::from_mut(packet).cast::<IdcHeader>();
    // SAFETY: packets of these models are as large as they say.
    unsafe {
        let call = supdrv_core::idc::entry(host.driver(), request.code(Encoding::Linux), packet);
        (call, Status((*packet).rc))
    }
}

#[test]
fn a_sibling_that_disconnects_is_gone_for_its_other_threads() {
    explore(1_000, || {
        let host = Host::new();
        let header = |bytes: usize, session| IdcHeader { bytes: bytes as u32, rc: 0, session, ..zeroed() };
        let mut connect = ConnectIn {
            hdr: header(size_of::<ConnectIn>(), 0),
            magic: CONNECT_MAGIC,
            wanted_version: IDC_VERSION,
            min_version: IDC_VERSION,
            ..zeroed()
        };
        assert_eq!(idc(&host, IdcRequest::Connect, &mut connect), (VINF_SUCCESS, VINF_SUCCESS));
        let session = connect.hdr.session;
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let name = c"SUPR0AbsIs64bit".as_ptr() as usize;
                    let mut packet = GetSymbolIn {
                        hdr: header(size_of::<GetSymbolIn>(), session),
                        module: 0,
                        symbol: name,
                    };
                    let (call, rc) = idc(&host, IdcRequest::GetSymbol, &mut packet);
                    let found = call == VINF_SUCCESS && rc == VINF_SUCCESS;
                    assert!(found || call == VERR_INVALID_PARAMETER, "{call:?} {rc:?}");
                });
            }
            scope.spawn(|| {
                let mut packet = header(size_of::<IdcHeader>(), session);
                assert_eq!(idc(&host, IdcRequest::Disconnect, &mut packet).0, VINF_SUCCESS);
            });
        });
        assert_eq!(host.counters(), Default::default());
    });
}

unsafe extern "C" fn destroyed(_object: *mut c_void, destroyed: *mut c_void, _user2: *mut c_void) {
    // SAFETY: the model's own counter.
    unsafe { &*destroyed.cast::<AtomicU32>() }.fetch_add(1, Ordering::SeqCst);
}

/// An object of a session; its counter counts destructions.
fn object(client: &Client<'_>, counter: &AtomicU32) -> ObjectId {
    let session = client.session();
    let what = Registration {
        object_type: 1,
        destructor: destroyed,
        user1: core::ptr::from_ref(counter).cast_mut().cast(),
        user2: null_mut(),
    };
    let objects = client.host().driver().objects();
    objects.register(session.key(), &session.creator(), session.ext(), &what).unwrap()
}

#[test]
fn an_object_is_destroyed_once_by_whoever_releases_last() {
    explore(1_000, || {
        let counter = AtomicU32::new(0);
        let host = Host::new();
        let (first, second) = (host.open(), host.open());
        let id = object(&first, &counter);
        let objects = host.driver().objects();
        // SAFETY: the first session's reference keeps it.
        unsafe { objects.add_ref(second.session().key(), id) }.unwrap();
        let destroyed: usize = thread::scope(|scope| {
            let threads = [&first, &second].map(|client| {
                scope.spawn(move || {
                    let key = client.session().key();
                    let objects = client.host().driver().objects();
                    // With interrupts off, as a module may, while there is a reference of this session.
                    // SAFETY: this session's reference keeps the object.
                    let more =
                        client.host().os().with_irqs_off(|| unsafe { objects.add_ref_no_block(key, id) });
                    assert_eq!(more, Ok(()));
                    // SAFETY: this session's two references.
                    let released = [(); 2].map(|()| unsafe { objects.release(key, id) }.unwrap());
                    released.into_iter().filter(|released| *released == Released::Destroyed).count()
                })
            });
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!((destroyed, counter.load(Ordering::SeqCst), objects.count()), (1, 1, 0));
        first.close();
        second.close();
    });
}

#[test]
fn a_session_that_closes_releases_beside_one_that_adds() {
    explore(1_000, || {
        let counter = AtomicU32::new(0);
        let host = Host::new();
        let (first, second) = (host.open(), host.open());
        let id = object(&first, &counter);
        // SAFETY: the first session's reference keeps it.
        unsafe { host.driver().objects().add_ref(second.session().key(), id) }.unwrap();
        thread::scope(|scope| {
            scope.spawn(|| first.close());
            scope.spawn(|| {
                let objects = second.host().driver().objects();
                let key = second.session().key();
                // SAFETY: this session's reference keeps the object.
                unsafe { objects.add_ref(key, id) }.unwrap();
                // SAFETY: as above.
                assert_eq!(unsafe { objects.release(key, id) }, Ok(Released::Alive));
            });
        });
        assert_eq!(counter.load(Ordering::SeqCst), 0, "the second session still has it");
        second.close();
        assert_eq!(counter.load(Ordering::SeqCst), 1);
    });
}

const EVENT: u32 = 0;
const WAIT_MS: u32 = 0;
const SIGNAL: u32 = 3;
const CLOSE: u32 = 5;

#[test]
fn a_semaphore_that_is_closed_under_a_waiter_goes_with_the_waiter() {
    explore(1_000, || {
        let host = Host::new();
        let client = host.open();
        let handle = client.sem_op3(EVENT, 0, 0).unwrap();
        thread::scope(|scope| {
            let waiter = scope.spawn(|| client.sem_op2(EVENT, handle, WAIT_MS, u64::from(u32::MAX)));
            let signaller = scope.spawn(|| {
                (client.sem_op2(EVENT, handle, SIGNAL, 0), client.sem_op2(EVENT, handle, CLOSE, 0))
            });
            let (signalled, closed) = signaller.join().unwrap();
            assert!(signalled.is_ok());
            let waited = waiter.join().unwrap();
            match waited {
                Ok(status) => assert_eq!(status, VINF_SUCCESS, "{closed:?}"),
                Err(status) => assert_eq!(status, VERR_INVALID_HANDLE, "it came too late"),
            }
        });
        assert_eq!(client.sem_op2(EVENT, handle, SIGNAL, 0), Err(VERR_INVALID_HANDLE));
        assert_eq!(host.driver().objects().count(), 0);
        client.close();
    });
}

#[test]
fn of_two_who_close_a_semaphore_one_succeeds() {
    explore(1_000, || {
        let host = Host::new();
        let client = host.open();
        let handle = client.sem_op3(EVENT, 0, 0).unwrap();
        thread::scope(|scope| {
            let closers = [(); 2].map(|()| scope.spawn(|| client.sem_op2(EVENT, handle, CLOSE, 0).is_ok()));
            let closed = closers.map(|closer| closer.join().unwrap());
            assert!(closed[0] != closed[1], "{closed:?}");
        });
        assert_eq!(host.driver().objects().count(), 0);
        client.close();
    });
}

#[test]
fn a_signal_with_interrupts_off_destroys_nothing() {
    explore(1_000, || {
        let host = Host::new();
        let client = host.open();
        let session = client.session();
        let handle = session.sem_create(EventKind::SingleRelease).unwrap();
        thread::scope(|scope| {
            scope.spawn(|| {
                let signalled =
                    host.os().with_irqs_off(|| session.sem_signal(handle, EventKind::SingleRelease));
                assert!(matches!(signalled, Ok(()) | Err(VERR_INVALID_HANDLE)), "{signalled:?}");
            });
            scope.spawn(|| session.sem_close(handle, EventKind::SingleRelease).unwrap());
        });
        // The next request takes away what the signal couldn't.
        let other = client.sem_op3(EVENT, 0, 0).unwrap();
        assert_eq!(host.os().live(Kind::Event), 1);
        client.sem_op2(EVENT, other, CLOSE, 0).unwrap();
        client.close();
    });
}

#[test]
fn code_stays_while_a_destructor_in_it_runs() {
    explore(1_000, || {
        let host = Host::new();
        let (first, second) = (host.open(), host.open());
        let image =
            Builder::new("destructor.r0").symbol("destroy", &calls(elsewhere as *const () as usize, 0));
        let base = second.load(&image.build()).unwrap();
        let destroy = second.ldr_get_symbol(base, "destroy").unwrap();
        let session = first.session();
        let what = Registration {
            object_type: 1,
            // SAFETY: code of the image, with this signature.
            destructor: unsafe { core::mem::transmute::<usize, Destructor>(destroy) },
            user1: null_mut(),
            user2: null_mut(),
        };
        let id = host
            .driver()
            .objects()
            .register(session.key(), &session.creator(), session.ext(), &what)
            .unwrap();
        thread::scope(|scope| {
            // SAFETY: the session's reference.
            scope.spawn(|| unsafe { host.driver().objects().release(session.key(), id) }.unwrap());
            scope.spawn(|| {
                second.ldr_free(base).unwrap();
                second.close();
            });
        });
        assert_eq!((host.counters().images, host.counters().objects), (0, 0));
        first.close();
    });
}

/// Lets other threads do whole requests.
fn linger() {
    (0..100).for_each(|_| thread::yield_now());
}

/// What code of an image calls: the image may be freed meanwhile.
unsafe extern "C" fn elsewhere() {
    INSIDE.fetch_add(1, Ordering::SeqCst);
    linger();
}

static INSIDE: AtomicU32 = AtomicU32::new(0);

#[test]
fn code_of_an_image_stays_while_it_is_called() {
    explore(1_000, || {
        let host = Host::new();
        let (first, second) = (host.open(), host.open());
        let image =
            Builder::new("VMMR0.r0").vmmr0(&calls(elsewhere as *const () as usize, 0), ENTRY_EX).build();
        let base = first.load(&image).unwrap();
        assert_eq!(second.load(&image), Ok(base));
        let vm = first.page_alloc(1, true).unwrap().r0;
        first.set_vm(vm).unwrap();
        thread::scope(|scope| {
            let caller = scope.spawn(|| [(); 2].map(|()| first.fast(Function::FastDoNop, 0)));
            scope.spawn(|| second.ldr_free(base).unwrap());
            scope.spawn(|| first.ldr_free(base).unwrap());
            for result in caller.join().unwrap() {
                assert!(matches!(result, Ok(()) | Err(VERR_INTERNAL_ERROR)), "{result:?}");
            }
        });
        assert_eq!(host.counters().images, 0);
        first.close();
        second.close();
    });
    assert_ne!(INSIDE.load(Ordering::SeqCst), 0, "no schedule got inside");
}

#[test]
fn a_probe_does_not_fire_into_a_module_that_was_taken_away() {
    explore(1_000, || {
        let tracer = FakeTracer::new();
        let os = MockOs::new();
        os.set_native_tracer(tracer.address());
        let host = Host::on(&os).unwrap();
        let client = host.open();
        let module = UserModule::place(&os, &named("u64-valid"));
        module.register(&client).unwrap();
        tracer_support::enable(tracer.seen(0).address, 1, 1);
        tracer.take_events();
        // A tracer takes its time over a probe, and whatever the probe is made of must be there as long.
        let inside = Arc::new(AtomicBool::new(false));
        let in_tracer = inside.clone();
        tracer.play().on_fire = Some(Box::new(move || {
            in_tracer.store(true, Ordering::SeqCst);
            linger();
            in_tracer.store(false, Ordering::SeqCst);
        }));
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| client.session().tracer_umod_fire(&mut context(1, 64)));
            }
            scope.spawn(|| {
                module.deregister(&client).unwrap();
                assert!(!inside.load(Ordering::SeqCst), "the module is gone, and its probe still fires");
            });
        });
        let events = tracer.take_events();
        let gone = events.iter().position(|event| matches!(event, Event::Deregister(_))).unwrap();
        assert!(
            events[gone..].iter().all(|event| !matches!(event, Event::Fire { .. })),
            "fired after the tracer forgot the provider: {events:?}"
        );
        client.close();
    });
}

#[test]
fn the_time_page_is_on_exactly_while_somebody_maps_it() {
    explore(1_000, || {
        let host = Host::new();
        let clients = [host.open(), host.open()];
        thread::scope(|scope| {
            for client in &clients {
                scope.spawn(move || {
                    let mapped = client.gip_map().unwrap();
                    assert_ne!(mapped.user, 0);
                    client.gip_unmap().unwrap();
                });
            }
            // Sleep and wake-up of the machine in between.
            scope.spawn(|| host.driver().gip().resumed());
        });
        assert_eq!(host.counters().gip_users, 0);
        assert_eq!(host.os().running_timers(), 0, "nobody uses the page, nothing updates it");
        let [first, second] = clients;
        first.gip_map().unwrap();
        thread::scope(|scope| {
            // One goes with its mapping while the other maps.
            scope.spawn(|| first.close());
            scope.spawn(|| second.gip_map().unwrap());
        });
        assert_eq!((host.counters().gip_users, host.os().running_timers() > 0), (1, true));
        second.close();
        assert_eq!((host.counters().gip_users, host.os().running_timers()), (0, 0));
    });
}
