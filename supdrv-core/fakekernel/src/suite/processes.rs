//! Processes share files, are killed, and end before or after their sessions.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use supctl::client::{Client, EventType};
use supdrv_core::abi::published::SessionView;
use supdrv_core::abi::status::VERR_INTERRUPTED;
use supdrv_core::os::NIL_ID;

use super::{
    ShimUnderTest, client, expected_mappings, hold_everything, loaded, open, root, sessions, unload,
};
use crate::context::Process;
use crate::nodes::Nodes;
use crate::ram::PAGE;

fn client_of<S: ShimUnderTest>(fd: S::Fd, process: &Arc<Process>) -> Client {
    Client::with_device(Nodes::<S>::device(fd, process.clone()), S::ENCODING).expect("a session")
}

pub fn a_session_knows_its_process_and_the_real_ids_of_its_opener<S: ShimUnderTest>() {
    let kernel = loaded::<S>();
    let process = Arc::new(Process::new(0).with_real_ids(1001, 1002));
    let client = client::<S>(&process);
    // SAFETY: the driver published it and keeps it while the session is open.
    let view = unsafe { &*(client.session().session as *const SessionView) };
    let expected = if S::HAS_USERS { (1001, 1002) } else { (NIL_ID, NIL_ID) };
    assert_eq!((view.uid.load(Ordering::Relaxed), view.gid.load(Ordering::Relaxed)), expected);
    assert_eq!(view.process.load(Ordering::Relaxed), process.pid);
    drop(client);
    unload::<S>(kernel);
}

pub fn files_opened_in_parallel_are_all_sessions_of_their_own<S: ShimUnderTest>() {
    let kernel = loaded::<S>();
    let files: Vec<S::Fd> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..8).map(|_| scope.spawn(|| (0..50).map(|_| open::<S>(&root())).collect::<Vec<_>>())).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("a thread")).collect()
    });
    assert_eq!(sessions::<S>(), 400);
    // Every second one first.
    let (mut even, mut odd) = (Vec::new(), Vec::new());
    for (number, file) in files.into_iter().enumerate() {
        if number % 2 == 0 { even.push(file) } else { odd.push(file) }
    }
    drop(even);
    assert_eq!(sessions::<S>(), 200);
    drop(odd);
    assert_eq!(sessions::<S>(), 0);
    unload::<S>(kernel);
}

pub fn a_process_that_is_killed_leaves_nothing<S: ShimUnderTest>() {
    let kernel = loaded::<S>();
    let process = root();
    let client = client::<S>(&process);
    let own = vec![0_u8; 3 * PAGE];
    hold_everything::<S>(&client, &own);
    assert_eq!(S::mappings(&process), expected_mappings::<S>());
    assert_eq!(S::ledger().count(S::LOCKED_PAGES), 1);
    drop(client);
    S::exit(&process);
    assert_eq!(S::mappings(&process), 0);
    assert_eq!(S::ledger().count(S::LOCKED_PAGES), 0);
    unload::<S>(kernel);
}

/// Runs a wait without end in a thread of its process until a signal arrives.
fn interrupted_wait<S: ShimUnderTest>(client: &Client, process: &Arc<Process>) {
    let event = client.sem_create(EventType::Single).expect("a semaphore");
    let interrupted = std::thread::scope(|scope| {
        let waiter = scope.spawn(|| client.sem_wait_ms(EventType::Single, event, u32::MAX));
        while S::ledger().count(S::SLEEPERS) == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        process.signal();
        waiter.join().expect("the waiter")
    });
    process.clear_signal();
    assert_eq!(interrupted.expect_err("no success").status(), Some(VERR_INTERRUPTED));
}

pub fn a_process_that_is_killed_in_a_wait_leaves_nothing<S: ShimUnderTest>() {
    let kernel = loaded::<S>();
    let process = root();
    let client = client::<S>(&process);
    let own = vec![0_u8; 3 * PAGE];
    hold_everything::<S>(&client, &own);
    interrupted_wait::<S>(&client, &process);
    drop(client);
    assert_eq!(sessions::<S>(), 0);
    S::exit(&process);
    assert_eq!(S::mappings(&process), 0);
    unload::<S>(kernel);
}

pub fn a_signal_ends_a_wait_of_its_process<S: ShimUnderTest>() {
    let kernel = loaded::<S>();
    let process = root();
    let client = client::<S>(&process);
    interrupted_wait::<S>(&client, &process);
    // And the session goes on.
    let event = client.sem_create(EventType::Single).expect("a semaphore");
    client.sem_signal(EventType::Single, event).expect("a signal");
    client.sem_wait_ms(EventType::Single, event, u32::MAX).expect("a signalled event");
    drop(client);
    unload::<S>(kernel);
}

pub fn memory_that_the_process_has_unmapped_itself_can_still_be_freed<S: ShimUnderTest>() {
    let kernel = loaded::<S>();
    let process = root();
    let client = client::<S>(&process);
    let pages = client.page_alloc(2, true).expect("pages");
    S::unmap(&process, pages.r3, 2 * PAGE);
    client.page_free(pages.r3).expect("free");
    assert!(client.page_free(pages.r3).is_err());
    drop(client);
    unload::<S>(kernel);
}

pub fn a_file_that_two_processes_share_is_one_session_until_both_have_closed_it<S: ShimUnderTest>() {
    let kernel = loaded::<S>();
    for parent_first in [false, true] {
        let (parent, child) = (root(), root());
        let mine = open::<S>(&parent);
        let inherited = S::inherit(&mine, &child);
        assert_eq!(sessions::<S>(), 1);
        let (first, second) = if parent_first { (mine, inherited) } else { (inherited, mine) };
        drop(first);
        assert_eq!(sessions::<S>(), 1);
        drop(second);
        assert_eq!(sessions::<S>(), 0);
    }
    unload::<S>(kernel);
}

pub fn a_process_can_end_while_another_one_still_has_its_session<S: ShimUnderTest>() {
    let kernel = loaded::<S>();
    let (owner, other) = (root(), root());
    let descriptor = open::<S>(&owner);
    let inherited = S::inherit(&descriptor, &other);
    let client = client_of::<S>(descriptor, &owner);
    let own = vec![0_u8; 3 * PAGE];
    hold_everything::<S>(&client, &own);
    drop(client);
    assert_eq!(sessions::<S>(), 1);
    S::exit(&owner);
    assert_eq!(S::mappings(&owner), 0);
    drop(inherited);
    assert_eq!(S::ledger().count(S::LOCKED_PAGES), 0);
    unload::<S>(kernel);
}

pub fn pages_live_as_long_as_they_are_mapped_even_if_another_process_closes_last<S: ShimUnderTest>() {
    let kernel = loaded::<S>();
    let (owner, other) = (root(), root());
    let descriptor = open::<S>(&owner);
    let inherited = S::inherit(&descriptor, &other);
    let client = client_of::<S>(descriptor, &owner);
    let pages = client.page_alloc(2, true).expect("pages");
    // SAFETY: a page that the process got.
    unsafe { (pages.r3 as *mut u8).write(0x77) };
    // The last reference goes away in a process that never had the mapping.
    drop(client);
    assert_eq!(sessions::<S>(), 1);
    drop(inherited);
    assert_eq!(sessions::<S>(), 0);
    // SAFETY: the mapping is still there, which is what is tested.
    assert_eq!(unsafe { (pages.r3 as *const u8).read() }, 0x77, "the owner still has its page");
    S::unmap(&owner, pages.r3, 2 * PAGE);
    unload::<S>(kernel);
}
