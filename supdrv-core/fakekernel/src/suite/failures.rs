//! Each function of the kernel fails once, wherever the driver calls it; nothing may be left.

use std::collections::BTreeSet;
use std::sync::Arc;

use supctl::client::{Client, EventType, Protection};

use super::{ShimUnderTest, first_page, loaded, root, sessions, try_client, unload};
use crate::context::Process;
use crate::ram::PAGE;

/// More than the registry of objects keeps.
const SPARES: usize = 300;

/// Runs `round` with each of its calls failing once: the names of what failed.
fn each_failure<S: ShimUnderTest>(mut round: impl FnMut()) -> BTreeSet<&'static str> {
    let mut failures = BTreeSet::new();
    for nth in 1.. {
        S::faults().fail_nth(nth);
        round();
        let Some(failed) = S::faults().stop() else { break };
        failures.insert(failed);
    }
    println!("functions that failed: {failures:?}");
    failures
}

/// Asks for one of everything; failures are not looked at, what they leave behind is.
fn try_everything(client: &Client) {
    let own = vec![0_u8; 4 * PAGE];
    let first = first_page(&own);
    if let Ok(pages) = client.page_alloc(3, true) {
        let _ = client.page_map_kernel(pages.r3, 0, PAGE as u32);
        let read_only = Protection { read: true, write: false, execute: false };
        let _ = client.page_protect(pages.r3, 0, 0, PAGE as u32, read_only);
        let _ = client.page_free(pages.r3);
    }
    let _ = client.page_alloc(2, false);
    let _ = client.page_alloc(600, true);
    let _ = client.low_alloc(2);
    let _ = client.cont_alloc(4);
    let _ = client.page_lock(first, 2);
    let _ = client.page_map_kernel(first, PAGE as u32, PAGE as u32);
    let _ = client.gip_map();
    let _ = client.sem_create(EventType::Multi);
}

fn is_gone_with_the_session<S: ShimUnderTest>() {
    assert_eq!(sessions::<S>(), 0);
    for account in S::GONE_WITH_THE_SESSION {
        assert_eq!(
            S::ledger().count(account),
            0,
            "{account}: a closed session leaves nothing to the end of its process"
        );
    }
}

/// A client's whole life.
fn session<S: ShimUnderTest>(process: &Arc<Process>) {
    if let Some(client) = try_client::<S>(process) {
        try_everything(&client);
    }
    is_gone_with_the_session::<S>();
    S::exit(process);
}

/// The driver keeps a bounded number of small blocks for references that must not allocate: afterwards it has all of them.
fn warm_up<S: ShimUnderTest>() {
    let process = root();
    let client = super::client::<S>(&process);
    for _ in 0..=SPARES {
        client.sem_create(EventType::Multi).expect("a semaphore");
    }
    drop(client);
    session::<S>(&process);
}

pub fn no_failure_while_it_loads_leaves_anything_behind<S: ShimUnderTest>() {
    let kernel = S::boot();
    let failures = each_failure::<S>(|| {
        if S::load(&kernel) == 0 {
            assert_eq!(S::unload(&kernel), 0);
        }
        assert_eq!(S::leftovers(&kernel), []);
    });
    assert!(!failures.is_empty());
    // The machine is none the worse for it.
    assert_eq!(S::load(&kernel), 0);
    unload::<S>(kernel);
}

pub fn no_failure_of_an_open_leaves_anything_behind<S: ShimUnderTest>() {
    let kernel = loaded::<S>();
    warm_up::<S>();
    let before = S::leftovers(&kernel);
    let failures = each_failure::<S>(|| {
        let process = root();
        drop(S::open(&process, super::NAME));
        assert_eq!(sessions::<S>(), 0);
        assert_eq!(S::leftovers(&kernel), before);
    });
    assert!(!failures.is_empty());
    unload::<S>(kernel);
}

pub fn no_failure_inside_a_request_leaves_anything_behind<S: ShimUnderTest>() {
    let kernel = loaded::<S>();
    warm_up::<S>();
    let before = S::leftovers(&kernel);
    let failures = each_failure::<S>(|| {
        let process = root();
        // The session itself comes about without failures.
        let injected = S::faults().pause();
        let client = super::client::<S>(&process);
        S::faults().resume(injected);
        try_everything(&client);
        drop(client);
        is_gone_with_the_session::<S>();
        S::exit(&process);
        assert_eq!(S::leftovers(&kernel), before);
    });
    assert!(!failures.is_empty());
    unload::<S>(kernel);
}

pub fn no_failure_while_it_unloads_leaves_anything_behind<S: ShimUnderTest>() {
    let kernel = S::boot();
    each_failure::<S>(|| {
        let injected = S::faults().pause();
        assert_eq!(S::load(&kernel), 0);
        S::faults().resume(injected);
        // An unload may be refused for want of something; it can be asked for again.
        if S::unload(&kernel) != 0 {
            assert_eq!(S::unload(&kernel), 0);
        }
        assert_eq!(S::leftovers(&kernel), []);
    });
}

pub fn every_function_of_the_list_has_failed_once<S: ShimUnderTest>() {
    let kernel = S::boot();
    let failures = each_failure::<S>(|| {
        if S::load(&kernel) == 0 {
            session::<S>(&root());
            assert_eq!(S::unload(&kernel), 0);
        }
        assert_eq!(S::leftovers(&kernel), []);
    });
    for expected in S::MUST_HAVE_FAILED {
        assert!(failures.contains(expected), "{expected} was not tried");
    }
}
