//! Suspend and resume.
//!
//! The kernel may tell at DISPATCH. The time page and the modules that want to know take locks that may block: then a work item tells
//! them, which for a machine that goes to sleep may be after it has slept.

use core::ffi::c_void;

use supdrv_core::ring0::events::power_event;

use crate::module::Runtime;
use crate::nt::sys;
use crate::nt::{DELAYED_QUEUE, DISPATCH_LEVEL, DeviceObject, hw};
use crate::state::{self, State};

const SUSPEND: u32 = 1;
const RESUME: u32 = 2;

/// The system is about to sleep. At most DISPATCH.
pub fn suspending(state: &State) {
    tell::<SUSPEND>(state);
}

/// The system is back. At most DISPATCH.
pub fn resumed(state: &State) {
    tell::<RESUME>(state);
}

fn tell<const EVENT: u32>(state: &State) {
    if hw::irql() < DISPATCH_LEVEL {
        handle::<EVENT>(state);
        return;
    }
    // SAFETY: at most DISPATCH; the device exists while the driver is loaded.
    let item = unsafe { sys::IoAllocateWorkItem(state.device.as_ptr()) };
    if !item.is_null() {
        // SAFETY: the item is fresh, and the routine frees it; the kernel keeps the driver until that has returned.
        unsafe { sys::IoQueueWorkItem(item, on_work::<EVENT>, DELAYED_QUEUE, item) };
    }
}

/// PASSIVE.
fn handle<const EVENT: u32>(state: &State) {
    if EVENT == RESUME {
        state.driver.gip().resumed();
    }
    power_event::<Runtime>(EVENT);
}

unsafe extern "system" fn on_work<const EVENT: u32>(_device: *mut DeviceObject, item: *mut c_void) {
    if let Some(state) = state::get() {
        handle::<EVENT>(state);
    }
    // SAFETY: the item that runs; the kernel doesn't need it any more.
    unsafe { sys::IoFreeWorkItem(item) };
}
