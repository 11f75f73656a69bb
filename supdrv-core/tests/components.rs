//! Component factories: registering, asking, and their end.

use std::ffi::{CStr, CString, c_char, c_void};
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Condvar, Mutex};

use supdrv_core::abi::published::{Factory, SessionView};
use supdrv_core::abi::status::{
    Result, VERR_ACCESS_DENIED, VERR_ALREADY_EXISTS, VERR_INVALID_PARAMETER, VERR_INVALID_POINTER,
    VERR_NOT_FOUND, VERR_SUPDRV_COMPONENT_NOT_FOUND, VERR_SUPDRV_INTERFACE_NOT_SUPPORTED,
};
use supdrv_core::component::QueryInterface;
use supdrv_core::mock::{Client, Host, MockOs, replay};
use supdrv_core::os::SessionKind;

const UUID: &CStr = c"de504d93-1d1e-4781-8b73-6ea39a0e36a2";

unsafe extern "C" fn declines(_: *const Factory, _: *mut SessionView, _: *const c_char) -> *mut c_void {
    std::ptr::null_mut()
}

/// Answers with the factory's own address.
unsafe extern "C" fn answers(factory: *const Factory, _: *mut SessionView, _: *const c_char) -> *mut c_void {
    factory.cast_mut().cast()
}

fn factory(name: &[u8], query: QueryInterface) -> Box<Factory> {
    let mut field = [0; 56];
    field[..name.len()].copy_from_slice(name);
    Box::new(Factory { name: field, query: query as usize })
}

fn kernel(host: &Host) -> Client<'_> {
    host.open_as(SessionKind::Kernel).expect("a session")
}

fn register(client: &Client<'_>, factory: &Factory) -> Result<()> {
    let record = std::ptr::from_ref(factory).cast_mut();
    // SAFETY: the tests keep their factories until they are deregistered or the session is closed.
    unsafe { client.host().driver().components().register(client.session(), record) }
}

fn deregister(client: &Client<'_>, factory: &Factory) -> Result<()> {
    client.host().driver().components().deregister(client.session(), std::ptr::from_ref(factory).cast_mut())
}

fn query(client: &Client<'_>, name: &str) -> Result<usize> {
    let name = CString::new(name).expect("a name");
    let found = client.host().driver().components().query(client.session(), &name, UUID);
    found.map(|interface| interface.as_ptr() as usize)
}

fn address(factory: &Factory) -> usize {
    std::ptr::from_ref(factory) as usize
}

#[test]
fn only_kernel_sessions_register() {
    let host = Host::new();
    let record = factory(b"X", answers);
    for client in [host.open(), host.open_restricted()] {
        assert_eq!(register(&client, &record), Err(VERR_ACCESS_DENIED));
        assert_eq!(deregister(&client, &record), Err(VERR_ACCESS_DENIED));
    }
}

#[test]
fn records_are_checked_in_order() {
    let host = Host::new();
    let (user, client) = (host.open(), kernel(&host));
    let components = host.driver().components();
    let implausible =
        [0, 0xfff, usize::MAX, 0x8000_0000_0000_0000].map(|address: usize| address as *mut Factory);
    for record in implausible {
        // SAFETY: the addresses aren't plausible.
        let results = unsafe {
            [components.register(client.session(), record), components.register(user.session(), record)]
        };
        assert_eq!(results, [Err(VERR_INVALID_POINTER), Err(VERR_ACCESS_DENIED)]);
        assert_eq!(components.deregister(client.session(), record), Err(VERR_INVALID_POINTER));
    }
    let mut record = factory(&[b'n'; 56], answers);
    assert_eq!(register(&client, &record), Err(VERR_INVALID_PARAMETER), "no NUL");
    record.query = 0;
    assert_eq!(register(&client, &record), Err(VERR_INVALID_POINTER), "the callback comes first");
    assert_eq!(host.counters().factories, 0);
    let longest = factory(&[b'n'; 55], answers);
    assert_eq!(register(&client, &longest), Ok(()));
    assert_eq!(host.counters().factories, 1);
    client.close();
}

#[test]
fn a_record_is_registered_once() {
    let host = Host::new();
    let (client, other) = (kernel(&host), kernel(&host));
    let record = factory(b"X", answers);
    assert_eq!(register(&client, &record), Ok(()));
    assert_eq!(register(&client, &record), Err(VERR_ALREADY_EXISTS));
    assert_eq!(register(&other, &record), Err(VERR_ALREADY_EXISTS));
    assert_eq!(deregister(&other, &record), Err(VERR_NOT_FOUND), "it belongs to somebody else");
    assert_eq!(deregister(&client, &record), Ok(()));
    assert_eq!(deregister(&client, &record), Err(VERR_NOT_FOUND));
    assert_eq!(register(&other, &record), Ok(()), "at once");
}

#[test]
fn queries_find_exact_names() {
    let host = Host::new();
    let (client, asker) = (kernel(&host), host.open());
    let records = [factory(b"VBoxNet", answers), factory(b"VBoxNetFlt", answers), factory(b"", answers)];
    records.iter().for_each(|record| register(&client, record).expect("registered"));
    for (name, record) in ["VBoxNet", "VBoxNetFlt", ""].iter().zip(&records) {
        assert_eq!(query(&asker, name), Ok(address(record)), "{name:?}");
    }
    for unknown in ["VBoxNe", "VBoxNetF", "VBoxNetFlt2", "vboxnet"] {
        assert_eq!(query(&asker, unknown), Err(VERR_SUPDRV_COMPONENT_NOT_FOUND), "{unknown:?}");
    }
}

#[test]
fn factories_of_a_name_are_asked_in_the_order_of_their_registration() {
    let host = Host::new();
    let (client, asker) = (kernel(&host), host.open());
    let (first, second, third) = (factory(b"X", declines), factory(b"X", answers), factory(b"X", answers));
    register(&client, &first).expect("registered");
    assert_eq!(query(&asker, "X"), Err(VERR_SUPDRV_INTERFACE_NOT_SUPPORTED));
    register(&client, &second).expect("registered");
    register(&client, &third).expect("registered");
    assert_eq!(query(&asker, "X"), Ok(address(&second)));
    deregister(&client, &second).expect("deregistered");
    assert_eq!(query(&asker, "X"), Ok(address(&third)));
    register(&client, &second).expect("registered at the tail");
    assert_eq!(query(&asker, "X"), Ok(address(&third)));
}

#[test]
fn names_and_uuids_have_their_limits() {
    let host = Host::new();
    let client = kernel(&host);
    let components = host.driver().components();
    let text = |length: usize| CString::new(vec![b'u'; length]).expect("text");
    let ask = |name: &CStr, uuid: &CStr| components.query(client.session(), name, uuid).map(drop);
    assert_eq!(ask(&text(55), &text(36)), Err(VERR_SUPDRV_COMPONENT_NOT_FOUND));
    assert_eq!(ask(&text(56), &text(36)), Err(VERR_INVALID_PARAMETER));
    assert_eq!(ask(&text(55), &text(37)), Err(VERR_INVALID_PARAMETER));
}

unsafe extern "C" fn checks_arguments(
    _: *const Factory,
    session: *mut SessionView,
    uuid: *const c_char,
) -> *mut c_void {
    // SAFETY: the driver passes a string.
    let right = unsafe { CStr::from_ptr(uuid) } == UUID;
    if right { session.cast() } else { std::ptr::null_mut() }
}

#[test]
fn the_factory_sees_the_askers_session_and_the_uuid() {
    let host = Host::new();
    let (client, asker) = (kernel(&host), host.open());
    let record = factory(b"X", checks_arguments);
    register(&client, &record).expect("registered");
    assert_eq!(query(&asker, "X"), Ok(asker.session().key()));
}

#[test]
fn factories_go_with_their_session() {
    let host = Host::new();
    let (owner, other, asker) = (kernel(&host), kernel(&host), host.open());
    let records: Vec<_> = (0..10).map(|_| factory(b"X", answers)).collect();
    records.iter().for_each(|record| register(&owner, record).expect("registered"));
    let kept = factory(b"Y", answers);
    register(&other, &kept).expect("registered");
    assert_eq!(host.counters().factories, 11);
    owner.close();
    assert_eq!(host.counters().factories, 1);
    assert_eq!(query(&asker, "X"), Err(VERR_SUPDRV_COMPONENT_NOT_FOUND));
    assert_eq!(query(&asker, "Y"), Ok(address(&kept)));
}

#[test]
fn registration_survives_every_failure() {
    let replayed = replay(|os| {
        let host = Host::on(os)?;
        let record = factory(b"X", answers);
        let client = host.step(|| host.open_as(SessionKind::Kernel));
        host.step(|| register(&client, &record));
        assert_eq!(query(&client, "X"), Ok(address(&record)));
        host.step(|| deregister(&client, &record));
        host.step(|| register(&client, &record));
        Ok(())
    });
    assert!(replayed.survived > 6, "{replayed:?}");
}

/// A factory that stays inside its callback until it is told to leave.
struct Slow {
    factory: Factory,
    inside: Mutex<bool>,
    changed: Condvar,
    may_leave: AtomicBool,
}

unsafe extern "C" fn is_slow(factory: *const Factory, _: *mut SessionView, _: *const c_char) -> *mut c_void {
    // SAFETY: only `Slow` factories have this callback; the record is their first member.
    let slow = unsafe { &*factory.cast::<Slow>() };
    *slow.inside.lock().expect("a lock") = true;
    slow.changed.notify_all();
    while !slow.may_leave.load(SeqCst) {
        std::thread::yield_now();
    }
    *slow.inside.lock().expect("a lock") = false;
    factory.cast_mut().cast()
}

#[test]
fn when_deregistration_returns_no_query_is_inside() {
    let host = Host::new();
    let (client, asker) = (kernel(&host), host.open());
    let slow = Box::new(Slow {
        factory: Factory { name: factory(b"S", answers).name, query: is_slow as *const () as usize },
        inside: Mutex::new(false),
        changed: Condvar::new(),
        may_leave: AtomicBool::new(false),
    });
    // The whole of it is behind the address.
    let record = std::ptr::from_ref(&*slow).cast::<Factory>().cast_mut();
    let components = host.driver().components();
    // SAFETY: it lives until the end of the test.
    unsafe { components.register(client.session(), record) }.expect("registered");
    let at = record as usize;
    assert_eq!(address(&slow.factory), at);
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| query(&asker, "S"));
        let mut inside = slow.inside.lock().expect("a lock");
        while !*inside {
            inside = slow.changed.wait(inside).expect("a lock");
        }
        drop(inside);
        let leaving = scope.spawn(|| {
            let result = components.deregister(client.session(), at as *mut Factory);
            assert!(!*slow.inside.lock().expect("a lock"), "the query is over");
            result
        });
        // However long it takes: deregistration waits.
        for _ in 0..1000 {
            std::thread::yield_now();
        }
        assert!(!leaving.is_finished());
        slow.may_leave.store(true, SeqCst);
        assert_eq!(leaving.join().expect("no panic"), Ok(()));
        assert_eq!(asking.join().expect("no panic"), Ok(at));
    });
}

static QUERIES_OF_DEAD_RECORDS: AtomicUsize = AtomicUsize::new(0);

unsafe extern "C" fn must_be_alive(
    factory: *const Factory,
    _: *mut SessionView,
    _: *const c_char,
) -> *mut c_void {
    // SAFETY: the driver calls only registered factories, whose records are valid.
    if unsafe { (*factory).name[1] } != b'!' {
        QUERIES_OF_DEAD_RECORDS.fetch_add(1, Relaxed);
    }
    std::ptr::null_mut()
}

#[test]
fn queries_race_with_factories_that_come_and_go() {
    let host = Host::new();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let asker = host.open();
                while !stop.load(Relaxed) {
                    let result = query(&asker, "X!");
                    let expected = [VERR_SUPDRV_COMPONENT_NOT_FOUND, VERR_SUPDRV_INTERFACE_NOT_SUPPORTED];
                    assert!(result.is_err_and(|status| expected.contains(&status)));
                }
            });
        }
        for round in 0..1000 {
            let client = kernel(&host);
            let mut record = factory(b"X!", must_be_alive);
            register(&client, &record).expect("registered");
            if round % 2 == 0 {
                deregister(&client, &record).expect("deregistered");
            } else {
                client.close();
            }
            // From here on nobody may look at it.
            record.name[1] = b'?';
        }
        stop.store(true, Relaxed);
    });
    assert_eq!(QUERIES_OF_DEAD_RECORDS.load(Relaxed), 0);
}

/// A factory whose record or callback is in an image goes with the image: the next query would run freed code.
#[test]
fn factories_inside_an_image_go_with_it() {
    use supdrv_core::mock::client::Image;
    let os = MockOs::new();
    let host = Host::on(&os).expect("a driver");
    let (client, owner) = (kernel(&host), host.open());
    // xor eax, eax; ret
    let base = owner.load(&Image::new("a", &[0x31, 0xc0, 0xc3, 0, 0, 0, 0, 0])).expect("loaded");
    let mut record = factory(b"X", answers);
    record.query = base;
    register(&client, &record).expect("registered");
    assert_eq!(query(&client, "X"), Err(VERR_SUPDRV_INTERFACE_NOT_SUPPORTED), "its code runs");
    owner.ldr_free(base).expect("freed");
    assert_eq!(query(&client, "X"), Err(VERR_SUPDRV_COMPONENT_NOT_FOUND));
    assert!(os.log().iter().any(|line| line.contains("factories")), "{:?}", os.log());
    assert_eq!(deregister(&client, &record), Err(VERR_NOT_FOUND));
}
