//! Objects that modules share between sessions: references, destruction, access.

use core::ffi::c_void;
use core::ptr::null_mut;
use std::sync::Mutex;

use supdrv_core::abi::Status;
use supdrv_core::abi::ioctl::{OBJECT_MAGIC, OBJECT_MAGIC_DEAD};
use supdrv_core::abi::status::*;
use supdrv_core::mock::{Client, Host, Kind, MockOs, replay};
use supdrv_core::object::{ObjectId, Objects, Registration, Released};
use supdrv_core::os::SessionKind;

/// What destructors of one test saw, in order. Destructors get its address as their first argument, so that it must outlive the host.
#[derive(Default)]
struct Deaths(Mutex<Vec<(ObjectId, usize)>>);

impl Deaths {
    fn list(&self) -> Vec<usize> {
        self.0.lock().unwrap().iter().map(|(_, number)| *number).collect()
    }

    fn ids(&self) -> Vec<ObjectId> {
        self.0.lock().unwrap().iter().map(|(id, _)| *id).collect()
    }
}

unsafe extern "C" fn note_death(object: *mut c_void, deaths: *mut c_void, number: *mut c_void) {
    // SAFETY: registered with the address of the test's record.
    let deaths = unsafe { &*deaths.cast::<Deaths>() };
    let id = ObjectId(core::ptr::NonNull::new(object.cast()).unwrap());
    deaths.0.lock().unwrap().push((id, number as usize));
}

fn registration(deaths: &Deaths, number: usize) -> Registration {
    Registration {
        object_type: 1,
        destructor: note_death,
        user1: core::ptr::from_ref(deaths).cast_mut().cast(),
        user2: number as *mut c_void,
    }
}

fn objects<'h>(client: &Client<'h>) -> &'h Objects<MockOs> {
    client.host().driver().objects()
}

fn register_as(client: &Client<'_>, what: &Registration) -> Result<ObjectId> {
    let session = client.session();
    objects(client).register(session.key(), &session.creator(), session.ext(), what)
}

fn register(client: &Client<'_>, deaths: &Deaths, number: usize) -> ObjectId {
    register_as(client, &registration(deaths, number)).unwrap()
}

fn add_ref(client: &Client<'_>, id: ObjectId) -> Result<()> {
    // SAFETY: the tests keep the objects alive, or know that the machine's heap still has them.
    unsafe { objects(client).add_ref(client.session().key(), id) }
}

fn add_ref_no_block(client: &Client<'_>, id: ObjectId) -> Result<()> {
    // SAFETY: as above.
    unsafe { objects(client).add_ref_no_block(client.session().key(), id) }
}

fn release(client: &Client<'_>, id: ObjectId) -> Result<Released> {
    // SAFETY: as above.
    unsafe { objects(client).release(client.session().key(), id) }
}

fn verify(client: &Client<'_>, id: ObjectId, name: Option<&core::ffi::CStr>) -> Result<()> {
    let session = client.session();
    // SAFETY: as above.
    unsafe { objects(client).verify_access(session.uid(), session.ext(), id, name) }
}

fn total_usage(id: ObjectId) -> u32 {
    // SAFETY: the object lives.
    unsafe { id.0.as_ref() }.usage.load(std::sync::atomic::Ordering::Relaxed)
}

#[test]
fn an_object_dies_with_its_last_reference() {
    let deaths = Deaths::default();
    let host = Host::new();
    let client = host.open();
    let id = register(&client, &deaths, 7);
    // SAFETY: the object lives.
    let view = unsafe { id.0.as_ref() };
    assert_eq!(view.magic.load(std::sync::atomic::Ordering::Relaxed), OBJECT_MAGIC);
    assert_eq!((view.object_type, total_usage(id)), (1, 1));
    assert_eq!((view.creator_uid, view.creator_gid, view.creator_process), (1000, 1000, 1000));
    add_ref(&client, id).unwrap();
    assert_eq!(total_usage(id), 2);
    assert_eq!(release(&client, id), Ok(Released::Alive));
    assert_eq!(deaths.list(), []);
    assert_eq!(release(&client, id), Ok(Released::Destroyed));
    assert_eq!((deaths.list(), deaths.ids()), (vec![7], vec![id]));
    assert_eq!(host.counters().objects, 0);
}

#[test]
fn only_known_types_are_registered() {
    let deaths = Deaths::default();
    let host = Host::new();
    let client = host.open();
    for object_type in [0, 7, 8, u32::MAX] {
        let what = Registration { object_type, ..registration(&deaths, 0) };
        assert_eq!(register_as(&client, &what), Err(VERR_INVALID_PARAMETER), "{object_type}");
    }
    for object_type in 1..7 {
        let what = Registration { object_type, ..registration(&deaths, 0) };
        assert!(register_as(&client, &what).is_ok(), "{object_type}");
    }
    assert_eq!(host.counters().objects, 6);
}

#[test]
fn an_object_outlives_the_session_that_registered_it() {
    let deaths = Deaths::default();
    let host = Host::new();
    let (first, second) = (host.open(), host.open());
    let id = register(&first, &deaths, 1);
    add_ref(&second, id).unwrap();
    first.close();
    assert_eq!((deaths.list(), total_usage(id)), (vec![], 1));
    second.close();
    assert_eq!(deaths.list(), [1]);
}

#[test]
fn a_session_needs_a_reference_to_release() {
    let deaths = Deaths::default();
    let host = Host::new();
    let (owner, stranger) = (host.open(), host.open());
    let id = register(&owner, &deaths, 1);
    assert_eq!(release(&stranger, id), Err(VERR_INVALID_PARAMETER));
    add_ref(&stranger, id).unwrap();
    assert_eq!(release(&stranger, id), Ok(Released::Alive));
    assert_eq!(release(&stranger, id), Err(VERR_INVALID_PARAMETER));
    assert_eq!(total_usage(id), 1);
}

#[test]
fn what_is_no_object_is_refused() {
    let host = Host::new();
    let client = host.open();
    let mut other: Box<supdrv_core::abi::published::ObjectView> =
        Box::new(supdrv_core::mock::packet::zeroed());
    other.magic = 0x1234.into();
    let id = ObjectId(core::ptr::NonNull::from(&mut *other));
    assert_eq!(add_ref(&client, id), Err(VERR_INVALID_PARAMETER));
    assert_eq!(release(&client, id), Err(VERR_INVALID_PARAMETER));
    assert_eq!(verify(&client, id, None), Err(VERR_INVALID_PARAMETER));
    other.magic = OBJECT_MAGIC_DEAD.into();
    assert_eq!(add_ref(&client, id), Err(VERR_WRONG_ORDER));
    assert_eq!(release(&client, id), Err(VERR_INVALID_PARAMETER));
    assert_eq!(verify(&client, id, None), Err(VERR_INVALID_PARAMETER));
}

#[test]
fn first_references_without_blocking_need_a_spare() {
    let deaths = Deaths::default();
    let host = Host::new();
    let (owner, other) = (host.open(), host.open());
    let id = register(&owner, &deaths, 1);
    host.os().with_irqs_off(|| {
        assert_eq!(add_ref_no_block(&owner, id), Ok(()), "the session has the object already");
        assert_eq!(add_ref_no_block(&other, id), Err(VERR_TRY_AGAIN));
        assert_eq!(release(&owner, id), Ok(Released::Alive));
    });
    assert_eq!(total_usage(id), 1, "a failed attempt changes nothing");
    let spare = register(&owner, &deaths, 2);
    release(&owner, spare).unwrap();
    host.os().with_irqs_off(|| {
        assert_eq!(add_ref_no_block(&other, id), Ok(()));
        assert_eq!(total_usage(id), 2);
        assert_eq!(release(&other, id), Ok(Released::Alive));
    });
}

#[test]
fn spares_are_bounded() {
    let deaths = Deaths::default();
    let host = Host::new();
    let client = host.open();
    let ids: Vec<ObjectId> = (0..2000).map(|number| register(&client, &deaths, number)).collect();
    let before = host.os().live(Kind::Heap);
    for id in ids {
        release(&client, id).unwrap();
    }
    // An object, its node, and a usage of two nodes each; at most 256 usages are kept.
    assert!(host.os().live(Kind::Heap) <= before - 2000 * 4 + 2 * 257, "{}", host.os().live(Kind::Heap));
    assert_eq!(deaths.list().len(), 2000);
}

#[test]
fn spares_of_releases_that_may_not_free_are_freed_later() {
    let deaths = Deaths::default();
    let host = Host::new();
    let (owner, other) = (host.open(), host.open());
    let ids: Vec<ObjectId> = (0..2000).map(|number| register(&owner, &deaths, number)).collect();
    let before = host.os().live(Kind::Heap);
    for id in &ids {
        add_ref(&other, *id).unwrap();
    }
    host.os().with_irqs_off(|| {
        for id in &ids {
            assert_eq!(release(&other, *id), Ok(Released::Alive));
        }
    });
    assert_eq!(host.os().live(Kind::Heap), before + 2 * 2000, "nothing could be freed");
    for id in ids {
        release(&owner, id).unwrap();
    }
    assert!(host.os().live(Kind::Heap) <= before - 2000 * 4 + 2 * 257, "{}", host.os().live(Kind::Heap));
}

#[test]
fn the_system_notes_creators_of_registered_objects_only() {
    use supdrv_core::mock::Call;
    let deaths = Deaths::default();
    let host = Host::new();
    let client = host.open();
    host.os().start_trace();
    for failing in 0..4 {
        host.os().fail_later(Call::HeapAlloc, failing, VERR_NO_MEMORY);
        assert_eq!(register_as(&client, &registration(&deaths, 0)), Err(VERR_NO_MEMORY));
    }
    assert!(!host.os().take_trace().contains(&Call::ObjInitCreator));
    register(&client, &deaths, 0);
    assert!(host.os().take_trace().contains(&Call::ObjInitCreator));
}

/// What a destructor did with its own object.
#[derive(Default)]
struct Inside {
    results: Mutex<Vec<Status>>,
    host: usize,
    session: usize,
}

unsafe extern "C" fn use_itself(object: *mut c_void, inside: *mut c_void, _: *mut c_void) {
    // SAFETY: registered with the address of the test's record, whose host and session live.
    unsafe {
        let inside = &*inside.cast::<Inside>();
        let objects = (*(inside.host as *const Host)).driver().objects();
        let client = &*(inside.session as *const Client<'_>);
        let session = client.session();
        let id = ObjectId(core::ptr::NonNull::new(object.cast()).unwrap());
        let results = [
            Status::of(objects.add_ref(session.key(), id)),
            Status::of(objects.add_ref_no_block(session.key(), id)),
            Status::of(objects.verify_access(session.uid(), session.ext(), id, None)),
            Status::of(objects.release(session.key(), id).map(|_| ())),
        ];
        assert!(client.host().os().held_locks().is_empty());
        inside.results.lock().unwrap().extend(results);
    }
}

#[test]
fn a_dying_object_cannot_be_used() {
    let host = Host::new();
    let client = host.open();
    let inside = Inside {
        host: core::ptr::from_ref(&host) as usize,
        session: core::ptr::from_ref(&client) as usize,
        ..Default::default()
    };
    let what = Registration {
        object_type: 1,
        destructor: use_itself,
        user1: core::ptr::from_ref(&inside).cast_mut().cast(),
        user2: null_mut(),
    };
    let id = register_as(&client, &what).unwrap();
    assert_eq!(release(&client, id), Ok(Released::Destroyed));
    let expected = [VERR_WRONG_ORDER, VERR_WRONG_ORDER, VERR_INVALID_PARAMETER, VERR_INVALID_PARAMETER];
    assert_eq!(*inside.results.lock().unwrap(), expected);
}

#[test]
fn access_is_for_the_creators_user_unless_the_system_knows_better() {
    let deaths = Deaths::default();
    let host = Host::new();
    let os = host.os();
    let owner = host.open();
    let id = register(&owner, &deaths, 1);
    let same = os.run_as(os.new_process(1000, 5), || host.open());
    let other = os.run_as(os.new_process(1001, 1000), || host.open());
    assert_eq!(verify(&owner, id, None), Ok(()));
    assert_eq!(verify(&same, id, None), Ok(()));
    assert_eq!(verify(&other, id, Some(c"net")), Err(VERR_PERMISSION_DENIED));
    let (creator, name) = os.access_questions().pop().unwrap();
    assert_eq!((creator.uid, name.as_deref()), (1000, Some("net")));
    os.set_access_policy(Some(VERR_ACCESS_DENIED));
    assert_eq!(verify(&owner, id, None), Err(VERR_ACCESS_DENIED));
    os.set_access_policy(Some(VINF_SUCCESS));
    assert_eq!(verify(&other, id, None), Ok(()));
    os.set_access_policy(Some(VERR_INTERNAL_ERROR));
    assert_eq!(verify(&owner, id, None), Err(VERR_INTERNAL_ERROR));
}

#[test]
fn verifying_works_with_interrupts_off() {
    let deaths = Deaths::default();
    let host = Host::new();
    let client = host.open();
    let id = register(&client, &deaths, 1);
    host.os().with_irqs_off(|| assert_eq!(verify(&client, id, None), Ok(())));
}

#[test]
fn a_closing_session_drops_its_newest_objects_first() {
    let deaths = Deaths::default();
    let host = Host::new();
    let client = host.open();
    let ids: Vec<ObjectId> = (0..5).map(|number| register(&client, &deaths, number)).collect();
    // A second reference doesn't make an object newer; a first one after a release does.
    add_ref(&client, ids[0]).unwrap();
    let other = host.open();
    add_ref(&other, ids[1]).unwrap();
    release(&client, ids[1]).unwrap();
    add_ref(&client, ids[1]).unwrap();
    other.close();
    client.close();
    assert_eq!(deaths.list(), [1, 4, 3, 2, 0]);
}

#[test]
fn a_closing_session_drops_all_of_its_references_at_once() {
    let deaths = Deaths::default();
    let host = Host::new();
    let (first, second) = (host.open(), host.open());
    let id = register(&first, &deaths, 1);
    for _ in 0..9 {
        add_ref(&first, id).unwrap();
    }
    add_ref(&second, id).unwrap();
    first.close();
    assert_eq!(total_usage(id), 1);
    assert_eq!(release(&second, id), Ok(Released::Destroyed));
}

unsafe extern "C" fn release_another(_: *mut c_void, client: *mut c_void, other: *mut c_void) {
    // SAFETY: registered with a session's key and registry that live; the other object is alive.
    unsafe {
        let (objects, key) = *client.cast::<(*const Objects<MockOs>, usize)>();
        let other = ObjectId(core::ptr::NonNull::new(other.cast()).unwrap());
        assert_eq!((*objects).release(key, other), Ok(Released::Destroyed));
    }
}

#[test]
fn a_destructor_may_release_other_objects_of_a_closing_session() {
    let deaths = Deaths::default();
    let host = Host::new();
    let client = host.open();
    let mut where_to: (*const Objects<MockOs>, usize) = (objects(&client), client.session().key());
    let leaf = register(&client, &deaths, 1);
    let bottom = register(&client, &deaths, 0);
    let what = Registration {
        object_type: 2,
        destructor: release_another,
        user1: (&raw mut where_to).cast(),
        user2: leaf.0.as_ptr().cast(),
    };
    register_as(&client, &what).unwrap();
    let _ = bottom;
    client.close();
    assert_eq!(deaths.list(), [1, 0], "each died once");
    assert_eq!(host.counters().objects, 0);
}

#[test]
fn destructors_of_unloaded_code_are_not_called() {
    let deaths = Deaths::default();
    let host = Host::new();
    let client = host.open();
    let ids: Vec<ObjectId> = (0..3).map(|number| register(&client, &deaths, number)).collect();
    let code = note_death as *const () as usize;
    let registry = objects(&client);
    assert!(registry.has_destructor_in(code, 1, None));
    assert!(registry.has_destructor_in(code - 100, 101, Some(client.session().key())));
    assert!(!registry.has_destructor_in(code - 100, 100, None));
    assert!(!registry.has_destructor_in(code + 1, 100, None));
    assert!(!registry.has_destructor_in(code, 1, Some(host.open().session().key())));
    assert_eq!(registry.clear_destructors_in(code, 1), 3);
    assert_eq!(registry.clear_destructors_in(code, 1), 0);
    assert!(!registry.has_destructor_in(code, 1, None));
    assert_eq!(host.counters().objects, 3, "they stay registered");
    assert_eq!(release(&client, ids[0]), Ok(Released::Destroyed));
    client.close();
    assert_eq!((deaths.list(), host.counters().objects), (vec![], 0));
}

#[test]
fn objects_left_at_unload_are_freed_without_destructors() {
    let deaths = Deaths::default();
    let os = MockOs::new();
    let mut host = Host::on(&os).unwrap();
    let what = registration(&deaths, 1);
    {
        // A session that is no session's: what a forced unload may find.
        let client = host.open();
        let session = client.session();
        host.driver().objects().register(0x1000, &session.creator(), session.ext(), &what).unwrap();
    }
    assert_eq!(host.counters().objects, 1);
    host.delete().unwrap();
    assert_eq!(deaths.list(), []);
}

#[test]
fn registering_and_referencing_survive_every_failure() {
    let deaths = Deaths::default();
    let replayed = replay(|os| {
        let host = Host::on(os)?;
        let owner = host.open_as(SessionKind::User)?;
        let other = host.open_as(SessionKind::User)?;
        let id = host.step(|| register_as(&owner, &registration(&deaths, 0)));
        host.step(|| add_ref(&other, id));
        host.step(|| add_ref(&owner, id));
        assert_eq!(total_usage(id), 3);
        release(&owner, id).and(release(&owner, id)).and(release(&other, id))?;
        assert_eq!(host.counters().objects, 0);
        Ok(())
    });
    assert!(replayed.calls > 25, "{replayed:?}");
}

#[test]
fn usage_is_always_the_sum_over_all_sessions() {
    let deaths = Deaths::default();
    const SESSIONS: usize = 3;
    const OBJECTS: usize = 5;
    let host = Host::new();
    let clients: Vec<_> = (0..SESSIONS).map(|_| host.open()).collect();
    let ids: Vec<ObjectId> = (0..OBJECTS).map(|number| register(&clients[0], &deaths, number)).collect();
    let mut model = [[0u32; OBJECTS]; SESSIONS];
    model[0] = [1; OBJECTS];
    let mut dead = [false; OBJECTS];
    let mut random = 99u64;
    for _ in 0..5000 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (session, object) = ((random >> 33) as usize % SESSIONS, (random >> 40) as usize % OBJECTS);
        if dead[object] {
            continue;
        }
        let (client, id) = (&clients[session], ids[object]);
        let total: u32 = model.iter().map(|counts| counts[object]).sum();
        if random & (1 << 50) == 0 {
            let result =
                if random & (1 << 51) == 0 { add_ref(client, id) } else { add_ref_no_block(client, id) };
            match result {
                Ok(()) => model[session][object] += 1,
                Err(status) => {
                    assert_eq!((status, model[session][object]), (VERR_TRY_AGAIN, 0));
                }
            }
        } else if model[session][object] == 0 {
            assert_eq!(release(client, id), Err(VERR_INVALID_PARAMETER));
        } else {
            model[session][object] -= 1;
            dead[object] = total == 1;
            let expected = if dead[object] { Released::Destroyed } else { Released::Alive };
            assert_eq!(release(client, id), Ok(expected));
        }
        for (object, id) in ids.iter().enumerate().filter(|(object, _)| !dead[*object]) {
            assert_eq!(total_usage(*id), model.iter().map(|counts| counts[object]).sum::<u32>());
        }
    }
    let died = dead.iter().filter(|dead| **dead).count();
    assert_eq!((deaths.list().len(), host.counters().objects), (died, OBJECTS - died));
}

#[test]
fn threads_that_reference_and_release_agree_on_the_end() {
    let deaths = Deaths::default();
    let host = Host::new();
    for round in 0..50 {
        let owner = host.open();
        let id = register(&owner, &deaths, round);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                let client = host.open();
                add_ref(&client, id).unwrap();
                scope.spawn(move || {
                    for _ in 0..20 {
                        add_ref(&client, id).unwrap();
                        assert_eq!(release(&client, id), Ok(Released::Alive));
                    }
                    client.close();
                });
            }
            owner.close();
        });
        assert_eq!(deaths.list().len(), round + 1);
    }
}
