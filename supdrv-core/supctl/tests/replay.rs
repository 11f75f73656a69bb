//! The conformance suite with every call of the system failing once: each case is run again with the first call that may fail failing, then with
//! the second one, and so on. The case may fail then; but whatever it had begun is undone when its client is gone, and the
//! driver works on.
//!
//! Cases with very many calls are replayed for the first ones, and for others all over the rest.

mod common;

use std::sync::Mutex;
use std::time::{Duration, Instant};

use common::InProcess;
use supctl::client::Client;
use supctl::suite::{self, Case, Outcome};
use supctl::transport::Node;
use supdrv_core::mock::{LinuxCodes, MockOs};
use supdrv_core::ring0::{Ring0, events};

/// Calls that fail one by one, from the first on.
const ALL_UP_TO: u64 = 1_000;
/// Calls beyond that fail at so many places, evenly.
const SAMPLES: u64 = 20;

/// The calls of a case that are made to fail.
fn places(calls: u64) -> impl Iterator<Item = u64> {
    let rest = calls.saturating_sub(ALL_UP_TO);
    let step = (rest / SAMPLES).max(1);
    (1..=calls.min(ALL_UP_TO)).chain((1..=rest).step_by(step as usize).map(|n| ALL_UP_TO + n))
}

/// The driver is as it was before, and a client can use it.
fn works_on(transport: &InProcess<LinuxCodes>, before: &supdrv_core::driver::Counters) -> Result<(), String> {
    let deadline = Instant::now() + Duration::from_secs(10);
    // Threads of a case that failed may still be on their way out.
    while transport.host.counters() != *before {
        if Instant::now() > deadline {
            return Err(format!("left behind: {:?}, was {before:?}", transport.host.counters()));
        }
        transport.host.os().advance(1_000_000);
        std::thread::sleep(Duration::from_millis(1));
    }
    let client = Client::open(transport, Node::Unrestricted).map_err(|error| error.to_string())?;
    let pages = client.page_alloc(1, true).map_err(|error| error.to_string())?;
    client.page_free(pages.r3).map_err(|error| error.to_string())
}

mod exports {
    supdrv_core::ring0_exports!(supdrv_core::mock::MockOs, super::current(), private);
}

/// The machine that functions for modules are of: they know no other.
static CURRENT: Mutex<Option<MockOs>> = Mutex::new(None);

fn current() -> MockOs {
    CURRENT.lock().unwrap().clone().expect("a machine is current")
}

/// What a case runs on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Functions {
    /// Images can't call the driver.
    None,
    /// They can. One test only, as there is one current machine.
    All,
}

/// A machine for one run of a case.
struct Machine(MockOs);

impl Machine {
    fn new(functions: Functions) -> Self {
        let os = MockOs::with_codes(2);
        if functions == Functions::All {
            os.set_exports(exports::EXPORTS);
            os.set_tracer_globals(<exports::Runtime as Ring0>::tracer_globals());
            *CURRENT.lock().unwrap() = Some(os.clone());
        }
        Self(os)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if CURRENT.lock().unwrap().as_ref().is_some_and(|current| self.0.is_same(current)) {
            // What the end of a driver does.
            events::gip_published::<exports::Runtime>(0);
            *CURRENT.lock().unwrap() = None;
        }
    }
}

/// How many calls of a case failed in turn; `None` if the case isn't for this way.
fn replay(case: &Case, functions: Functions) -> Option<u64> {
    let machine = Machine::new(functions);
    let os = &machine.0;
    let transport = InProcess::new(os);
    let begin = os.fallible_calls();
    match case.run(&transport) {
        Outcome::Pass => {}
        Outcome::NotAvailable(_) => return None,
        Outcome::Fail(reason) => panic!("{}: {reason}", case.title()),
    }
    let calls = os.fallible_calls() - begin;
    drop(transport);
    drop(machine);
    for n in places(calls) {
        let machine = Machine::new(functions);
        let os = &machine.0;
        let transport = InProcess::new(os);
        let before = transport.host.counters();
        os.fail_nth(n);
        let outcome = case.run(&transport);
        os.fail_nth(0);
        if let Err(reason) = works_on(&transport, &before) {
            panic!("{}, call {n} of {calls} failed ({outcome:?}): {reason}", case.title());
        }
        // The end of the driver checks that nothing is left in the system, and the end of the machine that no rule was broken.
    }
    Some(calls)
}

/// Replays the cases of some groups.
fn replay_groups(groups: &[&str]) {
    replay_groups_with(groups, Functions::None);
}

fn replay_groups_with(groups: &[&str], functions: Functions) {
    let (mut cases, mut calls) = (0, 0);
    for case in suite::cases().filter(|case| groups.contains(&case.group)) {
        let start = Instant::now();
        if let Some(failed) = replay(case, functions) {
            println!("{:>6} calls  {:>6} ms  {}", failed, start.elapsed().as_millis(), case.title());
            cases += 1;
            calls += places(failed).count();
        }
    }
    println!("{cases} cases, {calls} failures");
    assert!(cases > 0 && calls > 0, "nothing was replayed");
}

#[test]
fn handshakes_and_malformed_requests() {
    replay_groups(&["handshake", "malformed", "restricted", "others"]);
}

#[test]
fn memory() {
    replay_groups(&["memory"]);
}

#[test]
fn the_time_page() {
    replay_groups(&["gip"]);
}

#[test]
fn semaphores() {
    replay_groups(&["semaphores"]);
}

#[test]
fn images_and_calls_into_them() {
    replay_groups(&["images", "fast calls"]);
}

#[test]
fn tracepoints() {
    replay_groups_with(&["tracer"], Functions::All);
}

#[test]
fn processes() {
    replay_groups(&["processes"]);
}
