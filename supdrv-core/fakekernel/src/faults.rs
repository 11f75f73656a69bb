//! Failure injection.

use std::sync::Mutex;

/// An injection that is under way.
#[derive(Default)]
pub struct State {
    /// Calls until the failure; 0: none is wanted.
    countdown: u64,
    hit: Option<&'static str>,
    /// Only calls of this name count.
    only: Option<&'static str>,
}

/// Lets one call fail.
#[derive(Default)]
pub struct Faults(Mutex<State>);

impl Faults {
    /// No failures.
    #[must_use]
    pub const fn new() -> Self {
        Self(Mutex::new(State { countdown: 0, hit: None, only: None }))
    }

    /// The `nth` call from now on fails, 1 being the next one.
    pub fn fail_nth(&self, nth: u64) {
        *self.lock() = State { countdown: nth, hit: None, only: None };
    }

    /// The `nth` call of this name fails.
    pub fn fail_nth_of(&self, name: &'static str, nth: u64) {
        *self.lock() = State { countdown: nth, hit: None, only: Some(name) };
    }

    /// Ends the injection; returns the call that failed.
    pub fn stop(&self) -> Option<&'static str> {
        std::mem::take(&mut *self.lock()).hit
    }

    /// Nothing fails and nothing is counted until [`Faults::resume`].
    #[must_use]
    pub fn pause(&self) -> State {
        std::mem::take(&mut *self.lock())
    }

    /// Goes on where it was paused.
    pub fn resume(&self, state: State) {
        *self.lock() = state;
    }

    /// Called by everything that may fail: whether it must.
    pub fn must_fail(&self, name: &'static str) -> bool {
        let mut state = self.lock();
        if state.countdown == 0 || state.only.is_some_and(|only| only != name) {
            return false;
        }
        state.countdown -= 1;
        if state.countdown == 0 {
            state.hit = Some(name);
        }
        state.countdown == 0
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
