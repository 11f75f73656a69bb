//! Calls of functions by threads of the kernel, at a time.
//!
//! There are two threads for it, so that a call that is entered again while it runs may run twice at once.

use core::ffi::{c_int, c_void};
use std::collections::HashMap;
use std::sync::{Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fakekernel::{context, ticker, violation};

use super::base::host_ns;
use super::{lock, machine, must_fail};

const THREADS: u32 = 2;

type Function = unsafe extern "C" fn(*mut c_void, *mut c_void);

struct Call {
    function: Function,
    argument: usize,
    deadline_ns: Option<u64>,
    running: u32,
    freed: bool,
}

#[derive(Default)]
struct Calls {
    all: HashMap<usize, Call>,
    last: usize,
}

static CALLS: LazyLock<Mutex<Calls>> = LazyLock::new(|| {
    for _ in 0..THREADS {
        std::thread::spawn(run);
    }
    Mutex::default()
});
static CHANGED: Condvar = Condvar::new();

/// Nothing that isn't urgent comes in between, as far as the host grants that.
fn urgent() {
    // SAFETY: asks for a policy for the calling thread; a refusal changes nothing.
    unsafe {
        let mut parameters: libc::sched_param = core::mem::zeroed();
        parameters.sched_priority = 1;
        libc::pthread_setschedparam(libc::pthread_self(), libc::SCHED_FIFO, &raw const parameters);
    }
}

fn wait(calls: MutexGuard<'static, Calls>, ns: u64) -> MutexGuard<'static, Calls> {
    CHANGED.wait_timeout(calls, Duration::from_nanos(ns)).unwrap_or_else(PoisonError::into_inner).0
}

fn run() {
    urgent();
    let mut calls = lock(&CALLS);
    loop {
        let queued = calls.all.iter().filter_map(|(call, state)| Some((state.deadline_ns?, *call)));
        let Some((deadline_ns, call)) = queued.min() else {
            calls = wait(calls, 200_000_000);
            continue;
        };
        let now = ticker::now_ns();
        if deadline_ns > now {
            calls = wait(calls, deadline_ns - now);
            continue;
        }
        let state = calls.get(call);
        state.deadline_ns = None;
        state.running += 1;
        let (function, argument) = (state.function, state.argument);
        drop(calls);
        unsafe { function(argument as *mut c_void, core::ptr::null_mut()) };
        context::may_sleep("the end of a thread call");
        calls = lock(&CALLS);
        let state = calls.get(call);
        state.running -= 1;
        if state.freed && state.running == 0 {
            calls.all.remove(&call);
            machine().ledger.add("thread calls", -1);
        }
    }
}

impl Calls {
    fn get(&mut self, call: usize) -> &mut Call {
        self.all.get_mut(&call).unwrap_or_else(|| violation("a thread call that doesn't exist"))
    }

    fn live(&mut self, call: *mut c_void) -> &mut Call {
        let state = self.get(call as usize);
        if state.freed {
            violation("a freed thread call is used");
        }
        state
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn darwin_thread_call_allocate(function: Function, argument: *mut c_void) -> *mut c_void {
    context::may_sleep("thread_call_allocate");
    if must_fail("thread_call_allocate") {
        return core::ptr::null_mut();
    }
    let mut calls = lock(&CALLS);
    calls.last += 0x100;
    let call = calls.last;
    let state = Call { function, argument: argument as usize, deadline_ns: None, running: 0, freed: false };
    calls.all.insert(call, state);
    machine().ledger.add("thread calls", 1);
    core::ptr::without_provenance_mut(call)
}

#[unsafe(no_mangle)]
pub extern "C" fn darwin_thread_call_enter1_delayed(
    call: *mut c_void,
    _argument: *mut c_void,
    deadline: u64,
) -> c_int {
    let was_queued = lock(&CALLS).live(call).deadline_ns.replace(host_ns(deadline)).is_some();
    CHANGED.notify_all();
    was_queued.into()
}

#[unsafe(no_mangle)]
pub extern "C" fn darwin_thread_call_cancel(call: *mut c_void) -> c_int {
    lock(&CALLS).live(call).deadline_ns.take().is_some().into()
}

/// One that runs is freed when it has run.
#[unsafe(no_mangle)]
pub extern "C" fn darwin_thread_call_free(call: *mut c_void) -> c_int {
    context::may_sleep("thread_call_free");
    let mut calls = lock(&CALLS);
    let state = calls.live(call);
    if state.deadline_ns.is_some() {
        return 0;
    }
    state.freed = true;
    if state.running == 0 {
        calls.all.remove(&(call as usize));
        machine().ledger.add("thread calls", -1);
    }
    1
}
