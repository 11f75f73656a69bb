//! Work items: calls at PASSIVE, on a thread of the system's. Unloading waits for them.

use core::ffi::c_void;
use core::ptr::NonNull;

use supdrv_core::abi::status::{Result, VERR_NO_MEMORY};
use supdrv_core::os::OsTime;
use supdrv_core::shim::gate::Gate;

use crate::Windows;
use crate::nt::sys;
use crate::nt::{DELAYED_QUEUE, DeviceObject};

/// What an item does.
pub trait Routine {
    /// Runs at PASSIVE.
    ///
    /// # Safety
    /// Once for each time that an item was [queued](WorkItem::queue) with this context.
    unsafe fn run(context: *mut c_void);
}

/// A work item.
pub struct WorkItem(NonNull<c_void>);

// SAFETY: an object of the kernel, for any thread.
unsafe impl Send for WorkItem {}
// SAFETY: as above.
unsafe impl Sync for WorkItem {}

/// Routines that are queued or run.
static USERS: Gate = Gate::new();

unsafe extern "system" fn run<R: Routine>(_device: *mut DeviceObject, context: *mut c_void) {
    // SAFETY: the item was queued with it.
    unsafe { R::run(context) };
    // The kernel keeps the device until this function has returned, and with it the driver's code.
    USERS.leave();
}

impl WorkItem {
    /// At most DISPATCH.
    ///
    /// # Errors
    /// `VERR_NO_MEMORY`.
    pub fn new(device: NonNull<DeviceObject>) -> Result<Self> {
        // SAFETY: the device exists while the driver is loaded.
        let item = unsafe { sys::IoAllocateWorkItem(device.as_ptr()) };
        NonNull::new(item).map(Self).ok_or(VERR_NO_MEMORY)
    }

    /// Has the routine called. At most DISPATCH.
    ///
    /// # Safety
    /// The routine may be called with `context`; the item isn't queued, and isn't freed nor queued again before the routine has begun.
    pub unsafe fn queue<R: Routine>(&self, context: *mut c_void) {
        let entered = USERS.enter();
        debug_assert!(entered);
        // SAFETY: not queued (condition of the function).
        unsafe { sys::IoQueueWorkItem(self.0.as_ptr(), run::<R>, DELAYED_QUEUE, context) };
    }
}

impl Drop for WorkItem {
    fn drop(&mut self) {
        // SAFETY: not queued; the kernel doesn't need an item whose routine runs.
        unsafe { sys::IoFreeWorkItem(self.0.as_ptr()) };
    }
}

/// Waits for all routines. PASSIVE; nobody queues any more.
pub fn wait() {
    while USERS.is_used() {
        Windows.sleep_ms(1);
    }
}
