//! Who goes on: the host's scheduler, or a model checker.
//!
//! A checker runs the threads of a test as tasks of one host thread. It is asked at every call of the system and after every release of a
//! lock, which is where what one thread does can become visible to another; the mock itself keeps no lock there. Waiting is
//! asking again until it is over.

use core::cell::Cell;

/// Runs the tasks of a model.
pub trait Scheduler {
    /// The number of the running task.
    fn task(&self) -> usize;

    /// Another task may go on here.
    fn point(&self);

    /// The running task can't go on before another one did something.
    fn pause(&self);
}

std::thread_local! {
    static SCHEDULER: Cell<Option<&'static dyn Scheduler>> = const { Cell::new(None) };
}

/// Lets a checker decide on this host thread from now on; `None` ends it.
pub fn set_scheduler(scheduler: Option<&'static dyn Scheduler>) {
    SCHEDULER.set(scheduler);
}

/// The checker's task, if there is a checker.
pub(super) fn task() -> Option<usize> {
    SCHEDULER.get().map(Scheduler::task)
}

/// Another thread may go on here.
pub(super) fn point() {
    if let Some(scheduler) = SCHEDULER.get() {
        scheduler.point();
    }
}

/// Lets other threads go on, for somebody who waits.
pub(super) fn pause() {
    match SCHEDULER.get() {
        Some(scheduler) => scheduler.pause(),
        None => std::thread::yield_now(),
    }
}
