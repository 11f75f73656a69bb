//! Suspend and resume.
//!
//! The kernel may tell at DISPATCH. Modules are told at once, in any case: before the machine sleeps, and in the order of the events. The
//! time page takes a lock that may block; from DISPATCH a work item restarts it, which is allocated when the driver loads.

use core::ffi::c_void;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, Ordering};

use supdrv_core::abi::status::Result;
use supdrv_core::ring0::events::power_event;
use supdrv_core::shim::power;

use crate::module::Runtime;
use crate::nt::{DISPATCH_LEVEL, DeviceObject, hw};
use crate::state::{self, State};
use crate::work::{Routine, WorkItem};

const RESUME: u32 = 2;

/// The restart of the time page.
pub struct Restart {
    item: WorkItem,
    queued: AtomicBool,
}

impl Restart {
    /// # Errors
    /// `VERR_NO_MEMORY`.
    pub fn new(device: NonNull<DeviceObject>) -> Result<Self> {
        Ok(Self { item: WorkItem::new(device)?, queued: AtomicBool::new(false) })
    }
}

/// The system is about to sleep. At most DISPATCH: what modules do with it mustn't wait.
pub fn suspending() {
    power::suspending::<Runtime>();
}

/// The system is back. At most DISPATCH.
pub fn resumed(state: &State) {
    if hw::irql() < DISPATCH_LEVEL {
        power::resumed::<Runtime, _>(Some(&state.driver));
        return;
    }
    power_event::<Runtime>(RESUME);
    if !state.restart.queued.swap(true, Ordering::AcqRel) {
        // SAFETY: not queued, as the flag was clear; the state stays until the routine has run.
        unsafe { state.restart.item.queue::<Restart>(state::NO_CONTEXT) };
    }
}

impl Routine for Restart {
    unsafe fn run(_context: *mut c_void) {
        if let Some(state) = state::get() {
            // From now on the item may be queued again.
            state.restart.queued.store(false, Ordering::Release);
            state.driver.gip().resumed();
        }
    }
}
