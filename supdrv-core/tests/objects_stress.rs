//! Objects under load: thousands of them, from many threads, with interrupts off, and while they die.

use std::ffi::c_void;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;

use supdrv_core::abi::status::{Status, VERR_INVALID_PARAMETER, VERR_WRONG_ORDER};
use supdrv_core::mock::{Client, Host};
use supdrv_core::object::{Destructor, ObjectId, Registration, Released};

type Result<T> = std::result::Result<T, Status>;

unsafe extern "C" fn count(_object: *mut c_void, counter: *mut c_void, _user2: *mut c_void) {
    if !counter.is_null() {
        // SAFETY: the tests register counters that outlive their objects.
        unsafe { &*counter.cast::<AtomicU32>() }.fetch_add(1, Relaxed);
    }
}

fn register_with(
    client: &Client<'_>,
    destructor: Destructor,
    user1: *const c_void,
    user2: *const c_void,
) -> Result<ObjectId> {
    let what = Registration { object_type: 2, destructor, user1: user1.cast_mut(), user2: user2.cast_mut() };
    let session = client.session();
    let objects = client.host().driver().objects();
    objects.register(session.key(), &session.creator(), session.ext(), &what)
}

fn register(client: &Client<'_>, counter: &AtomicU32) -> ObjectId {
    register_with(client, count, std::ptr::from_ref(counter).cast(), std::ptr::null()).expect("registered")
}

fn add_ref(client: &Client<'_>, object: ObjectId) -> Result<()> {
    // SAFETY: the tests keep the object's memory, or say why not.
    unsafe { client.host().driver().objects().add_ref(client.session().key(), object) }
}

fn add_ref_no_block(client: &Client<'_>, object: ObjectId) -> Result<()> {
    // SAFETY: as above.
    unsafe { client.host().driver().objects().add_ref_no_block(client.session().key(), object) }
}

fn release(client: &Client<'_>, object: ObjectId) -> Result<Released> {
    // SAFETY: as above.
    unsafe { client.host().driver().objects().release(client.session().key(), object) }
}

fn verify(client: &Client<'_>, object: ObjectId) -> Result<()> {
    let session = client.session();
    // SAFETY: as above.
    unsafe { client.host().driver().objects().verify_access(session.uid(), session.ext(), object, None) }
}

fn usage(object: ObjectId) -> u32 {
    // SAFETY: the tests ask while the object is alive.
    unsafe { object.0.as_ref() }.usage.load(Relaxed)
}

/// What adding a reference, verifying access and releasing said.
type Answers = (Result<()>, Result<()>, Result<Released>);

struct Dying<'a> {
    client: &'a Client<'a>,
    results: std::sync::Mutex<Vec<Answers>>,
}

unsafe extern "C" fn use_oneself(object: *mut c_void, dying: *mut c_void, user2: *mut c_void) {
    assert_eq!(user2 as usize, 0x1234);
    // SAFETY: the test registered this context.
    let dying = unsafe { &*dying.cast::<Dying<'_>>() };
    let object = ObjectId(std::ptr::NonNull::new(object.cast()).expect("an id"));
    assert!(dying.client.host().os().held_locks().is_empty(), "destructors run without locks");
    let results =
        (add_ref(dying.client, object), verify(dying.client, object), release(dying.client, object));
    dying.results.lock().expect("results").push(results);
}

#[test]
fn a_dying_object_takes_no_references() {
    let host = Host::new();
    let client = host.open();
    let dying = Dying { client: &client, results: Default::default() };
    let register = || {
        let context = std::ptr::from_ref(&dying).cast();
        register_with(&client, use_oneself, context, 0x1234 as *const c_void).expect("registered")
    };
    assert_eq!(release(&client, register()), Ok(Released::Destroyed));
    // The same when it is the end of a session that destroys it.
    register();
    host.driver().objects().release_session(client.session().key());
    let expected = (Err(VERR_WRONG_ORDER), Err(VERR_INVALID_PARAMETER), Err(VERR_INVALID_PARAMETER));
    assert_eq!(*dying.results.lock().expect("results"), [expected, expected]);
}

#[test]
fn ten_thousand_objects_of_many_sessions_end_well() {
    let host = Host::new();
    let destroyed = AtomicU32::new(0);
    let clients: Vec<Client<'_>> = (0..10).map(|_| host.open()).collect();
    let objects: Vec<ObjectId> =
        (0..10_000).map(|number| register(&clients[number % 10], &destroyed)).collect();
    for (number, object) in objects.iter().enumerate() {
        add_ref(&clients[(number + 1) % 10], *object).expect("a reference");
    }
    assert_eq!(host.counters().objects, 10_000);
    drop(clients);
    assert_eq!((destroyed.load(Relaxed), host.counters().objects), (10_000, 0));
}

/// Threads of several sessions add and release, some with interrupts off, while sessions come and go. The machine reports a lock out
/// of order, memory used in the wrong context, and leaks.
#[test]
fn references_race_on_many_threads() {
    let host = Host::new();
    let destroyed = AtomicU32::new(0);
    let owner = host.open();
    let shared: Vec<ObjectId> = (0..8).map(|_| register(&owner, &destroyed)).collect();
    std::thread::scope(|scope| {
        for thread in 0..4_usize {
            let (host, shared) = (&host, &shared);
            scope.spawn(move || {
                for round in 0..200_usize {
                    let client = host.open();
                    let object = shared[(round + thread) % shared.len()];
                    add_ref(&client, object).expect("a reference");
                    for _ in 0..10 {
                        host.os().with_irqs_off(|| add_ref_no_block(&client, object).expect("a reference"));
                    }
                    for _ in 0..10 {
                        host.os().with_irqs_off(|| assert_eq!(release(&client, object), Ok(Released::Alive)));
                    }
                    if round % 2 == 0 {
                        assert_eq!(release(&client, object), Ok(Released::Alive));
                    }
                }
            });
        }
    });
    assert!(shared.iter().all(|object| usage(*object) == 1));
    owner.close();
    assert_eq!((destroyed.load(Relaxed), host.counters().objects), (8, 0));
}

/// Two sessions drop the last references of the same object at once: one destroys it, once.
#[test]
fn one_of_two_last_releases_destroys() {
    let host = Host::new();
    let (first, second) = (host.open(), host.open());
    for _ in 0..2000 {
        let destroyed = AtomicU32::new(0);
        let object = register(&first, &destroyed);
        add_ref(&second, object).expect("a reference");
        let results = std::thread::scope(|scope| {
            let other = scope.spawn(|| release(&second, object));
            [release(&first, object), other.join().expect("a thread")]
        });
        assert_eq!(results.iter().filter(|result| **result == Ok(Released::Destroyed)).count(), 1);
        assert_eq!(destroyed.load(Relaxed), 1);
    }
}
