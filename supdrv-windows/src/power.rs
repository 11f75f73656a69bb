//! Suspend and resume.

use supdrv_core::ring0::events::power_event;

use crate::module::Runtime;
use crate::state::State;

const SUSPEND: u32 = 1;
const RESUME: u32 = 2;

/// The system is about to sleep. At most DISPATCH.
pub fn suspending(_state: &State) {
    power_event::<Runtime>(SUSPEND);
}

/// The system is back. At most DISPATCH.
pub fn resumed(state: &State) {
    state.driver.gip().resumed();
    power_event::<Runtime>(RESUME);
}
