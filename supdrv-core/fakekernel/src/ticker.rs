//! Timer interrupts: one thread for each CPU, which runs what is due there.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::context;

/// What is due, and when.
#[derive(Clone, Copy)]
struct Armed {
    deadline_ns: u64,
    cpu: u32,
    function: unsafe extern "C" fn(*mut core::ffi::c_void),
    argument: usize,
}

#[derive(Default)]
struct State {
    armed: HashMap<usize, Armed>,
    /// Timers whose functions run now, and on which thread.
    running: HashMap<usize, usize>,
    stopping: bool,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

/// Nothing that isn't urgent interrupts an interrupt, as far as the host grants that: clocks that are read one after the other with
/// interrupts off are otherwise not read together.
fn urgent() -> bool {
    // SAFETY: asks for a policy for the calling thread; a refusal changes nothing.
    unsafe {
        let mut parameters: libc::sched_param = core::mem::zeroed();
        parameters.sched_priority = 1;
        libc::pthread_setschedparam(libc::pthread_self(), libc::SCHED_FIFO, &raw const parameters) == 0
    }
}

/// The timers of a machine, by the addresses of their structures.
pub struct Ticker {
    shared: Arc<Shared>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

/// Monotonic time of the host.
#[must_use]
pub fn now_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes a timespec.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>, duration: Duration) -> MutexGuard<'a, State> {
        self.changed.wait_timeout(state, duration).unwrap_or_else(PoisonError::into_inner).0
    }

    fn run(&self, cpu: u32) {
        let mut state = self.lock();
        while !state.stopping {
            let mine = state
                .armed
                .iter()
                .filter(|(timer, armed)| armed.cpu == cpu && !state.running.contains_key(timer));
            let next = mine.min_by_key(|(_, armed)| armed.deadline_ns).map(|(timer, armed)| (*timer, *armed));
            let Some((timer, armed)) = next else {
                state = self.wait(state, Duration::from_millis(200));
                continue;
            };
            let now = now_ns();
            if armed.deadline_ns > now {
                state = self.wait(state, Duration::from_nanos(armed.deadline_ns - now));
                continue;
            }
            state.armed.remove(&timer);
            state.running.insert(timer, context::thread_id());
            drop(state);
            // SAFETY: whoever armed the timer promised that its function may be called until it is stopped and drained.
            context::in_interrupt(cpu, || unsafe { (armed.function)(armed.argument as *mut _) });
            state = self.lock();
            state.running.remove(&timer);
            self.changed.notify_all();
        }
    }
}

impl Ticker {
    /// A machine with `cpus` CPUs.
    #[must_use]
    pub fn new(cpus: u32) -> Self {
        let shared = Arc::new(Shared { state: Mutex::default(), changed: Condvar::new() });
        let threads = (0..cpus)
            .map(|cpu| {
                let shared = shared.clone();
                std::thread::spawn(move || {
                    urgent();
                    shared.run(cpu);
                })
            })
            .collect();
        Self { shared, threads }
    }

    /// Calls `function` at a time, on a CPU, once; replaces what was armed for this timer. Returns whether something was.
    pub fn arm(
        &self,
        timer: usize,
        deadline_ns: u64,
        cpu: u32,
        function: unsafe extern "C" fn(*mut core::ffi::c_void),
        argument: usize,
    ) -> bool {
        let armed = Armed { deadline_ns, cpu, function, argument };
        let old = self.shared.lock().armed.insert(timer, armed);
        self.shared.changed.notify_all();
        old.is_some()
    }

    /// Disarms, and doesn't wait. Returns whether it was armed.
    pub fn disarm(&self, timer: usize) -> bool {
        self.shared.lock().armed.remove(&timer).is_some()
    }

    /// Disarms, and waits until the timer's function isn't running, unless the caller is that function. Returns whether it was armed.
    pub fn drain(&self, timer: usize) -> bool {
        let mut state = self.shared.lock();
        let mut was_armed = state.armed.remove(&timer).is_some();
        while state.running.get(&timer).is_some_and(|thread| *thread != context::thread_id()) {
            state = self.shared.wait(state, Duration::from_millis(50));
            was_armed |= state.armed.remove(&timer).is_some();
        }
        was_armed
    }

    /// How many timers are armed or running.
    #[must_use]
    pub fn active(&self) -> usize {
        let state = self.shared.lock();
        state.armed.len() + state.running.len()
    }

    /// Whether a timer whose structure is in a range of addresses is armed, or its function runs.
    #[must_use]
    pub fn is_active_in(&self, addresses: core::ops::Range<usize>) -> bool {
        let state = self.shared.lock();
        state.armed.keys().chain(state.running.keys()).any(|timer| addresses.contains(timer))
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.lock().stopping = true;
        self.shared.changed.notify_all();
        for thread in self.threads.drain(..) {
            let _ended = thread.join();
        }
    }
}
