//! Repeating a scenario with every call failing once.

use super::{LinuxCodes, MockOs};
use crate::abi::Status;
use crate::abi::status::{Result, VERR_GENERAL_FAILURE};

/// What a replay went through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replayed {
    /// Fallible calls of the scenario, each of which failed once.
    pub calls: u64,
    /// Failures that the scenario survived.
    pub survived: u64,
}

/// Runs a scenario once undisturbed, to count its fallible calls; then again with the first one failing, the second one, and so on,
/// each with the status that is typical for it and with one that nobody expects. Each run has a machine of its own.
///
/// The scenario returns the status that it failed with, or uses [`Host::step`](super::Host::step) to fail, check, and go on. After each
/// run nothing may be left behind.
///
/// # Panics
/// If the undisturbed run fails, if a failure isn't a known status, or if anything is left behind.
pub fn replay(scenario: impl Fn(&MockOs<LinuxCodes>) -> Result<()>) -> Replayed {
    replay_on(MockOs::new, scenario)
}

/// As [`replay`], on machines that `prepare` makes.
///
/// # Panics
/// As [`replay`].
pub fn replay_on(
    prepare: impl Fn() -> MockOs<LinuxCodes>,
    scenario: impl Fn(&MockOs<LinuxCodes>) -> Result<()>,
) -> Replayed {
    let os = prepare();
    let before = os.fallible_calls();
    scenario(&os).expect("the scenario works when nothing fails");
    let calls = os.fallible_calls() - before;
    drop(os);
    let mut survived = 0;
    for status in [Status(0), VERR_GENERAL_FAILURE] {
        for n in 1..=calls {
            let os = prepare();
            os.fail_nth_with(n, status);
            match scenario(&os) {
                Ok(()) => survived += 1,
                Err(status) => assert!(
                    status.is_failure() && status.name().is_some(),
                    "call {n} of {calls}: {status:?} is no proper error"
                ),
            }
            std::println!("call {n} of {calls} failed with {status:?}: fine");
        }
    }
    Replayed { calls, survived }
}
