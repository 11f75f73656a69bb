//! The machine sleeps and wakes up.

use crate::driver::Driver;
use crate::os::SupdrvOs;
use crate::ring0::{Ring0, events};

/// The ring-0 API's numbers.
const SUSPEND: u32 = 1;
const RESUME: u32 = 2;

/// It goes to sleep: modules are told. Class T; returns when all of them know.
pub fn suspending<R: Ring0>() {
    events::power_event::<R>(SUSPEND);
}

/// It woke up: the time page starts anew, and modules are told. Class T.
pub fn resumed<R: Ring0, O: SupdrvOs>(driver: Option<&Driver<O>>) {
    if let Some(driver) = driver {
        driver.gip().resumed();
    }
    events::power_event::<R>(RESUME);
}
