//! Freeing the VMMR0 image while calls are inside or on their way: every interleaving, by a model checker.
//!
//! The source file of the counting is compiled here once more, with the checker's atomics. The loader mutex and what is under it are played:
//! what the driver does in `loader/mod.rs` and `loader/call.rs`, step by step.

/// The checker takes operations in the total order for merely acquiring and releasing ones; with fences around them they are what
/// they are on a real machine.
mod atomics {
    pub use loom::sync::atomic::Ordering;
    use loom::sync::atomic::fence;

    fn ordered<T>(operation: impl FnOnce() -> T) -> T {
        fence(Ordering::SeqCst);
        let result = operation();
        fence(Ordering::SeqCst);
        result
    }

    #[derive(Default)]
    pub struct AtomicBool(loom::sync::atomic::AtomicBool);

    impl AtomicBool {
        pub fn load(&self, order: Ordering) -> bool {
            ordered(|| self.0.load(order))
        }

        pub fn store(&self, value: bool, order: Ordering) {
            ordered(|| self.0.store(value, order));
        }
    }

    #[derive(Default)]
    pub struct AtomicU32(loom::sync::atomic::AtomicU32);

    impl AtomicU32 {
        pub fn load(&self, order: Ordering) -> u32 {
            ordered(|| self.0.load(order))
        }

        pub fn fetch_add(&self, value: u32, order: Ordering) -> u32 {
            ordered(|| self.0.fetch_add(value, order))
        }

        pub fn fetch_sub(&self, value: u32, order: Ordering) -> u32 {
            ordered(|| self.0.fetch_sub(value, order))
        }
    }
}

#[path = "../src/loader/inside.rs"]
mod inside;

use inside::Calls;
use loom::cell::UnsafeCell;
use loom::sync::{Arc, Mutex};
use loom::thread;

/// What is under the loader mutex: the session's usage of the image.
#[derive(Default)]
struct Usage {
    exists: bool,
    doomed: bool,
    frees: u32,
}

struct Session {
    calls: Calls,
    usage: Mutex<Usage>,
    /// The code: freeing it while a call runs it is a race, which the checker reports.
    code: UnsafeCell<bool>,
}

impl Session {
    fn with_image() -> Arc<Self> {
        let usage = Usage { exists: true, ..Usage::default() };
        let session = Self { calls: Calls::default(), usage: Mutex::new(usage), code: UnsafeCell::new(true) };
        session.calls.allow();
        Arc::new(session)
    }

    fn may_enter(&self) -> bool {
        let usage = self.usage.lock().unwrap();
        let allowed = usage.exists && !usage.doomed;
        if allowed {
            self.calls.allow();
        }
        allowed
    }

    fn destroy(&self, usage: &mut Usage) {
        (usage.exists, usage.doomed) = (false, false);
        usage.frees += 1;
        // SAFETY: the checker finds out whether somebody runs it meanwhile.
        self.code.with_mut(|code| unsafe { *code = false });
    }

    fn call(&self) -> bool {
        let entered = self.calls.enter() || self.may_enter();
        if entered {
            // SAFETY: the checker finds out whether somebody frees it meanwhile.
            self.code.with(|code| assert!(unsafe { *code }, "a call runs freed code"));
        }
        if self.calls.leave() {
            let mut usage = self.usage.lock().unwrap();
            if usage.doomed && !self.calls.any_inside() {
                self.calls.freed();
                self.destroy(&mut usage);
            }
        }
        entered
    }

    fn free(&self) {
        let mut usage = self.usage.lock().unwrap();
        if !usage.exists || usage.doomed {
            return;
        }
        self.calls.withdraw();
        if self.calls.any_inside() {
            usage.doomed = true;
        } else {
            self.calls.freed();
            self.destroy(&mut usage);
        }
    }

    /// LDR_OPEN of an image that the session has given up, but that isn't gone.
    fn reopen(&self) {
        self.usage.lock().unwrap().doomed = false;
    }
}

#[test]
fn code_is_freed_once_and_never_under_a_call() {
    let mut bounded = loom::model::Builder::new();
    bounded.preemption_bound = Some(3);
    bounded.check(|| {
        let session = Session::with_image();
        let callers: Vec<_> = (0..2)
            .map(|_| {
                let session = session.clone();
                thread::spawn(move || session.call())
            })
            .collect();
        session.free();
        for caller in callers {
            caller.join().unwrap();
        }
        let usage = session.usage.lock().unwrap();
        assert_eq!((usage.exists, usage.frees), (false, 1), "the last one out frees");
    });
}

#[test]
fn an_image_that_is_opened_again_in_time_stays() {
    let mut bounded = loom::model::Builder::new();
    bounded.preemption_bound = Some(3);
    bounded.check(|| {
        let session = Session::with_image();
        let caller = {
            let session = session.clone();
            thread::spawn(move || session.call())
        };
        session.free();
        session.reopen();
        caller.join().unwrap();
        let still_there = session.usage.lock().unwrap().exists;
        assert_eq!(session.call(), still_there);
        session.free();
        let usage = session.usage.lock().unwrap();
        assert_eq!((usage.exists, usage.frees), (false, 1));
    });
}
