//! What shims have in common, driven as native shells drive it: the driver's slot, nodes, buffered requests, waits, threads, sleep.

use core::ffi::c_void;
use core::ptr::{NonNull, null_mut};
use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use zerocopy::{FromBytes, IntoBytes};

use supdrv_core::abi::ioctl::{Encoding, Function, MAX_REQUEST_BYTES};
use supdrv_core::abi::requests::{ContAllocIn, ContAllocOut, GetPagingModeOut, RequestHeader};
use supdrv_core::abi::status::*;
use supdrv_core::dispatch::user::{Failure, ioctl_buffered};
use supdrv_core::driver::{Driver, DriverSlot};
use supdrv_core::heap::Box;
use supdrv_core::mock::packet::zeroed;
use supdrv_core::mock::{Host, Kind, MockOs, Request, replay};
use supdrv_core::os::{EventKind, OsTime, SessionKind, Timeout};
use supdrv_core::session::SessionRef;
use supdrv_core::shim::nodes;
use supdrv_core::shim::threads::Threads;
use supdrv_core::shim::wait::{LockedQueue, deadline, wait};
use supdrv_core::sync::event::EventState;

// The driver of a module

#[test]
fn a_slot_holds_a_driver_from_load_to_unload_and_can_be_filled_again() {
    let os = MockOs::new();
    let slot = DriverSlot::<MockOs>::new();
    let driver = || {
        // SAFETY: it isn't used after `delete`.
        unsafe { slot.get() }
    };
    for _ in 0..3 {
        assert!(driver().is_none());
        slot.build(&os, 0x1000).unwrap();
        assert_eq!(driver().unwrap().session_bytes(), 0x1000);
        assert_eq!(slot.delete(&os), Ok(()));
    }
    assert_eq!(slot.delete(&os), Ok(()), "there is nothing to delete");
}

#[test]
fn no_failure_while_a_slot_is_filled_leaves_anything_in_it() {
    replay(|os| {
        let slot = DriverSlot::<MockOs>::default();
        let built = slot.build(os, 0);
        // SAFETY: it is only looked at.
        assert_eq!(unsafe { slot.get() }.is_some(), built.is_ok());
        built?;
        slot.delete(os)
    });
}

#[test]
fn a_driver_that_still_has_sessions_is_left_to_them() {
    let os = MockOs::new();
    let slot = DriverSlot::<MockOs>::new();
    slot.build(&os, 0).unwrap();
    // SAFETY: the driver is leaked below, not deleted.
    let driver = unsafe { slot.get() }.unwrap();
    let view = nodes::open(driver, SessionKind::User).unwrap();
    assert_eq!(slot.delete(&os), Err(VERR_RESOURCE_BUSY));
    // SAFETY: as above.
    assert!(unsafe { slot.get() }.is_none(), "nobody new finds it");
    // SAFETY: from `open`, given up here.
    unsafe { nodes::close::<MockOs>(view.as_ptr()) };
    assert_eq!(driver.session_count(), 0, "the session could still be closed");
    assert!(os.log().iter().any(|line| line.contains("sessions at unload")));
    // What was leaked, for the machine's accounts.
    let published = driver.view();
    // SAFETY: `build` made both, `delete` forgot both, and nobody uses them any more.
    let (driver, published) =
        unsafe { (Box::from_raw(&os, NonNull::from(driver)), Box::from_raw(&os, published)) };
    assert!(Driver::delete(driver).is_ok());
    drop(published);
}

// Sessions of open files

#[test]
fn an_open_file_is_a_session_until_it_is_closed_and_closing_nothing_is_nothing() {
    let host = Host::new();
    for node in &nodes::NODES {
        let view = nodes::open(host.driver(), node.kind).unwrap();
        assert_eq!(host.counters().sessions, 1);
        // SAFETY: it is open.
        let session = unsafe { SessionRef::<MockOs>::from_view(view.as_ptr()) }.unwrap();
        assert_eq!(session.is_unrestricted(), node.kind.is_unrestricted());
        // The reference that the file has is kept.
        core::mem::forget(session);
        // SAFETY: from `open`, given up here.
        unsafe { nodes::close::<MockOs>(view.as_ptr()) };
        assert_eq!(host.counters().sessions, 0);
    }
    // SAFETY: null is allowed.
    unsafe { nodes::close::<MockOs>(null_mut()) };
}

// Requests that the system buffers

#[test]
fn a_buffered_request_is_answered_in_its_own_buffer_and_sees_nothing_that_was_not_sent() {
    let host = Host::new();
    let client = host.open();
    let request = Request::new(Function::GetPagingMode).output::<GetPagingModeOut>();
    let code = request.code_for(Encoding::Linux);
    let (mut words, bytes) = request.buffer();
    words.as_mut_bytes()[24..].fill(0xcc);
    assert_eq!(ioctl_buffered(client.session(), code, &mut words.as_mut_bytes()[..bytes]), Ok(()));
    let answer = GetPagingModeOut::read_from_prefix(words.as_bytes()).unwrap().0;
    assert_eq!(({ answer.mode }, { answer.hdr.rc }), (10, 0));

    let none = Request::new(Function::ContAlloc)
        .input(&ContAllocIn { pages: 0, ..zeroed() })
        .output::<ContAllocOut>();
    let (mut words, bytes) = none.buffer();
    words.as_mut_bytes()[size_of::<ContAllocIn>()..].fill(0xcc);
    let call =
        ioctl_buffered(client.session(), none.code_for(Encoding::Linux), &mut words.as_mut_bytes()[..bytes]);
    assert_eq!(call, Ok(()), "the packet says how it failed");
    assert!(
        words.as_bytes()[size_of::<ContAllocIn>()..].iter().all(|byte| *byte == 0),
        "what was there before travels back"
    );

    let refused = request.clone().cookies(1, 2);
    let (mut words, bytes) = refused.buffer();
    assert_eq!(
        ioctl_buffered(client.session(), code, &mut words.as_mut_bytes()[..bytes]),
        Err(Failure::Refused(VERR_INVALID_PARAMETER))
    );
}

#[test]
fn a_buffer_that_is_not_what_its_header_says_is_malformed_and_stays_as_it_is() {
    let host = Host::new();
    let client = host.open();
    let request = Request::new(Function::GetPagingMode).output::<GetPagingModeOut>();
    let code = request.code_for(Encoding::Linux);
    let (words, bytes) = request.buffer();
    let good = &words.as_bytes()[..bytes];
    let with_header = |change: fn(&mut RequestHeader)| {
        let mut header = RequestHeader::read_from_prefix(good).unwrap().0;
        change(&mut header);
        let mut packet = good.to_vec();
        packet[..24].copy_from_slice(header.as_bytes());
        packet
    };
    let longer = [good, &[0; 4]].concat();
    for mut packet in [
        Vec::new(),
        good[..23].to_vec(),
        good[..bytes - 1].to_vec(),
        longer,
        with_header(|header| header.flags ^= 1),
        with_header(|header| header.in_bytes = 23),
        with_header(|header| header.out_bytes = 23),
        with_header(|header| header.out_bytes = MAX_REQUEST_BYTES as u32 + 1),
        with_header(|header| header.in_bytes = u32::MAX),
    ] {
        let before = packet.clone();
        assert_eq!(ioctl_buffered(client.session(), code, &mut packet), Err(Failure::Malformed));
        assert_eq!(packet, before);
    }
}

#[test]
fn failures_have_the_error_numbers_that_all_systems_of_the_family_share() {
    let failures =
        [Failure::Fault, Failure::NoMemory, Failure::Malformed, Failure::Refused(VERR_GENERAL_FAILURE)];
    assert_eq!(failures.map(Failure::errno), [14, 12, 22, 22]);
}

// Waits

/// A queue whose sleeps end as the test says: signalled, past the deadline, by a signal of the process, or for no reason.
struct Script<'a> {
    os: &'a MockOs,
    event: &'a EventState,
    sleeps: &'a RefCell<Vec<End>>,
}

#[derive(Clone, Copy)]
enum End {
    Spurious,
    Signalled,
    SignalledThenReset,
    Later(u64),
    Interrupted,
    InterruptedWhenSignalled,
}

impl LockedQueue for Script<'_> {
    fn sleep(self, deadline_ns: Option<u64>) -> (Self, bool) {
        let next = self.sleeps.borrow_mut().pop().expect("the wait sleeps no more often");
        match next {
            End::Spurious | End::Interrupted => {}
            End::Signalled | End::InterruptedWhenSignalled => self.event.signal(),
            End::SignalledThenReset => {
                self.event.signal();
                self.event.reset();
            }
            End::Later(ns) => {
                assert!(deadline_ns.is_some(), "a wait without a limit doesn't time out");
                self.os.jump(ns);
            }
        }
        let interrupted = matches!(next, End::Interrupted | End::InterruptedWhenSignalled);
        (self, interrupted)
    }
}

/// What a wait gives whose sleeps end like this; all of them have happened afterwards.
fn waited(kind: EventKind, timeout: Timeout, ends: &[End]) -> Result<()> {
    let os = MockOs::new();
    let event = EventState::new(kind);
    let sleeps = RefCell::new(ends.iter().rev().copied().collect());
    let queue = Script { os: &os, event: &event, sleeps: &sleeps };
    let result = wait(&os, &event, queue, deadline(&os, timeout));
    assert!(sleeps.borrow().is_empty(), "the wait ended too soon");
    result
}

#[test]
fn a_wait_sleeps_until_something_happens_that_is_its_business() {
    use End::{Interrupted, InterruptedWhenSignalled, Later, Signalled, SignalledThenReset, Spurious};
    let ms = 1_000_000;
    for kind in [EventKind::SingleRelease, EventKind::MultiRelease] {
        let waited = |timeout, ends: &[End]| waited(kind, timeout, ends);
        assert_eq!(waited(Timeout::Forever, &[Spurious, Spurious, Signalled]), Ok(()));
        assert_eq!(waited(Timeout::RelativeNs(0), &[]), Err(VERR_TIMEOUT), "a poll doesn't sleep");
        assert_eq!(waited(Timeout::DeadlineNs(0), &[]), Err(VERR_TIMEOUT));
        let limit = Timeout::RelativeNs(3 * ms);
        assert_eq!(waited(limit, &[Later(ms), Later(ms), Later(2 * ms)]), Err(VERR_TIMEOUT));
        assert_eq!(waited(limit, &[Later(ms), Signalled]), Ok(()));
        assert_eq!(waited(Timeout::Forever, &[Spurious, Interrupted]), Err(VERR_INTERRUPTED));
        assert_eq!(waited(Timeout::Forever, &[InterruptedWhenSignalled]), Ok(()), "the signal wins");
        assert_eq!(
            waited(Timeout::RelativeNs(u64::MAX), &[Spurious, Signalled]),
            Ok(()),
            "as good as for ever"
        );
    }
    let pulse = [SignalledThenReset];
    assert_eq!(waited(EventKind::MultiRelease, Timeout::Forever, &pulse), Ok(()), "it was released before");
}

#[test]
fn a_signal_that_came_before_the_wait_is_taken_without_sleeping() {
    let os = MockOs::new();
    let event = EventState::new(EventKind::SingleRelease);
    event.signal();
    let sleeps = RefCell::new(Vec::new());
    let queue = || Script { os: &os, event: &event, sleeps: &sleeps };
    assert_eq!(wait(&os, &event, queue(), None), Ok(()));
    assert_eq!(wait(&os, &event, queue(), Some(0)), Err(VERR_TIMEOUT), "it was the only one");
}

#[test]
fn deadlines_are_on_the_systems_clock() {
    let os = MockOs::new();
    os.set_clock_step_ns(0);
    let now = os.system_nano_ts();
    assert_eq!(deadline(&os, Timeout::RelativeNs(5)), Some(now + 5));
    assert_eq!(deadline(&os, Timeout::DeadlineNs(7)), Some(7));
    assert_eq!(deadline(&os, Timeout::RelativeNs(0)), Some(0), "polls don't read the clock");
    assert_eq!(deadline(&os, Timeout::RelativeNs(u64::MAX)), None);
    assert_eq!(deadline(&os, Timeout::Forever), None);
}

// Threads of modules

static RAN: AtomicUsize = AtomicUsize::new(0);

unsafe extern "C" fn body(context: *mut c_void) {
    // SAFETY: the tests pass a receiver that outlives the thread.
    let go = unsafe { &*context.cast::<mpsc::Receiver<()>>() };
    go.recv().expect("the test says when");
    RAN.fetch_add(1, Ordering::SeqCst);
}

/// An argument on its way to another thread.
struct Argument(*mut c_void);
// SAFETY: the tests hand it to one thread.
unsafe impl Send for Argument {}

#[test]
fn an_unload_waits_for_the_threads_of_modules() {
    let os = MockOs::new();
    let threads = Threads::new();
    let (start, go) = mpsc::channel();
    let waited = AtomicBool::new(false);
    let before = RAN.load(Ordering::SeqCst);
    threads.wait(&os);
    thread::scope(|scope| {
        let create = |argument| {
            let argument = Argument(argument);
            let (threads, os) = (&threads, &os);
            scope.spawn(move || {
                let argument = argument;
                // SAFETY: what `create` got, once.
                unsafe { threads.run(os, argument.0) }
            });
            Ok(())
        };
        threads.spawn(&os, body, (&raw const go).cast_mut().cast(), create).unwrap();
        scope.spawn(|| {
            threads.wait(&os);
            waited.store(true, Ordering::SeqCst);
        });
        thread::sleep(Duration::from_millis(30));
        assert!(!waited.load(Ordering::SeqCst), "the thread still runs");
        start.send(()).unwrap();
    });
    assert!(waited.load(Ordering::SeqCst));
    assert_eq!(RAN.load(Ordering::SeqCst), before + 1);
    assert_eq!(os.live(Kind::Heap), 0);
}

#[test]
fn a_thread_that_cannot_be_started_leaves_nothing_and_nobody_to_wait_for() {
    let os = MockOs::new();
    let threads = Threads::default();
    let refused = threads.spawn(&os, body, null_mut(), |_| Err(VERR_NO_MEMORY));
    assert_eq!(refused, Err(VERR_NO_MEMORY));
    threads.wait(&os);
    assert_eq!(os.live(Kind::Heap), 0);
    // SAFETY: no argument is no thread.
    unsafe { threads.run(&os, null_mut()) };
    threads.wait(&os);
    unsafe extern "C" fn at_once(_context: *mut c_void) {}
    replay(|os| {
        let threads = Threads::new();
        // The system may run it before it says that there is a thread.
        let create = |argument| {
            // SAFETY: what `create` got, once.
            unsafe { threads.run(os, argument) };
            Ok(())
        };
        threads.spawn(os, at_once, null_mut(), create)
    });
}
