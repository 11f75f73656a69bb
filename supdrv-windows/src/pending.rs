//! Waits that don't block the thread they came on.
//!
//! On NT a request runs on its client's thread: it may wait there, and ending the thread ends the wait. A kernel that emulates NT has one
//! thread for all requests of all clients. There a request that waits is marked pending, handled by a work item, and completed when the
//! wait is over. Its client can't be reached through the thread, so the wait looks now and then whether the request was cancelled or its
//! file closed ([`current`], [`Client::is_gone`]).

use core::ffi::c_void;
use core::ptr::NonNull;

use supdrv_core::abi::ioctl::{Encoding, Function, IOCTL_FLAG};
use supdrv_core::abi::requests::SemOp2In;
use supdrv_core::abi::status::Result;
use supdrv_core::heap::Box;
use supdrv_core::os::OsIdentity;
use supdrv_core::tree::{Node, Tree};
use zerocopy::FromBytes;

use crate::Windows;
use crate::irp::{Control, complete};
use crate::kernel;
use crate::nt::sys;
use crate::nt::{DELAYED_QUEUE, DeviceObject, NtStatus};
use crate::record::Inside;
use crate::state;

/// Deferred requests by the thread that handles them.
pub type Waiting = Tree<usize, NonNullDeferred, Windows>;

/// A deferred request, which its handler owns.
#[derive(Clone, Copy)]
pub struct NonNullDeferred(NonNull<Deferred>);

// SAFETY: followed by the handling thread only.
unsafe impl Send for NonNullDeferred {}

/// A request on its way.
pub struct Deferred {
    control: Control,
    inside: Option<Inside>,
    node: Option<Node<usize, NonNullDeferred, Windows>>,
    item: *mut c_void,
}

/// Who waits for the request that this thread handles.
#[derive(Clone, Copy)]
pub struct Client(NonNull<Deferred>);

impl Client {
    /// Whether nobody waits for the answer any more.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        // SAFETY: the request is handled by this thread, which is inside a wait.
        let deferred = unsafe { self.0.as_ref() };
        let closing = deferred.inside.as_ref().is_some_and(|inside| inside.is_closing());
        closing || deferred.control.is_cancelled()
    }
}

/// The client of the deferred request that the calling thread handles. At most DISPATCH.
#[must_use]
pub fn current() -> Option<Client> {
    if !kernel::is_emulated() {
        return None;
    }
    let state = state::get()?;
    state.waiting.lock().get(&Windows.thread_handle()).map(|deferred| Client(deferred.0))
}

/// Whether a request may take long, and must not do so on its thread.
#[must_use]
pub fn must_defer(control: &Control) -> bool {
    const WAITS: core::ops::RangeInclusive<u32> = 0..=2;
    if !kernel::is_emulated() || Encoding::Windows.decode(control.code, IOCTL_FLAG) != Some(Function::SemOp2)
    {
        return false;
    }
    SemOp2In::read_from_prefix(control.input()).is_ok_and(|(request, _)| WAITS.contains(&request.operation))
}

/// Hands a request to a work item.
///
/// # Errors
/// Gives the request back, for the caller to handle, when there is no memory.
pub fn defer(control: Control, inside: Inside) -> core::result::Result<NtStatus, (Control, Inside)> {
    let Ok((mut deferred, item)) = prepare() else { return Err((control, inside)) };
    control.mark_pending();
    let address = deferred.as_ptr();
    deferred.item = item;
    if let Some(node) = &mut deferred.node {
        *node.value_mut() = NonNullDeferred(address);
    }
    deferred.control = control;
    deferred.inside = Some(inside);
    let _owned_by_item = deferred.into_raw();
    // SAFETY: the item is fresh; the routine takes the request over, and may have completed it already when this returns.
    unsafe { sys::IoQueueWorkItem(item, handle, DELAYED_QUEUE, address.as_ptr().cast()) };
    Ok(NtStatus::PENDING)
}

fn prepare() -> Result<(Box<Deferred, Windows>, *mut c_void)> {
    let no_memory = supdrv_core::abi::status::VERR_NO_MEMORY;
    let state = state::get().ok_or(no_memory)?;
    let node = Node::new(&Windows, 0, NonNullDeferred(NonNull::dangling()))?;
    let deferred =
        Deferred { control: Control::NONE, inside: None, node: Some(node), item: core::ptr::null_mut() };
    let deferred = Box::new(&Windows, deferred)?;
    // SAFETY: the device exists while the driver is loaded.
    let item = unsafe { sys::IoAllocateWorkItem(state.device.as_ptr()) };
    if item.is_null() { Err(no_memory) } else { Ok((deferred, item)) }
}

/// The work item. PASSIVE, on a thread of the system's.
unsafe extern "system" fn handle(_device: *mut DeviceObject, deferred: *mut c_void) {
    let (Some(state), Some(deferred)) = (state::get(), NonNull::new(deferred.cast::<Deferred>())) else {
        return;
    };
    // SAFETY: `defer` gave it up for this routine.
    let mut deferred = unsafe { Box::from_raw(&Windows, deferred) };
    let thread = Windows.thread_handle();
    if let Some(mut node) = deferred.node.take() {
        node.set_key(thread);
        let new = state.waiting.lock().insert(node).is_ok();
        debug_assert!(new);
    }
    let result = match &deferred.inside {
        Some(inside) => deferred.control.handle(inside),
        None => Err(NtStatus::INVALID_PARAMETER),
    };
    let node = state.waiting.lock().remove(&thread);
    drop(node);
    drop(deferred.inside.take());
    let (irp, item) = (deferred.control.irp(), deferred.item);
    drop(deferred);
    complete(irp, result);
    // SAFETY: the item that runs; the kernel doesn't need it any more.
    unsafe { sys::IoFreeWorkItem(item) };
}
