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
use supdrv_core::abi::status::{Result, VERR_NO_MEMORY};
use supdrv_core::heap::Box;
use supdrv_core::os::OsIdentity;
use supdrv_core::tree::{Node, Tree};
use zerocopy::FromBytes;

use crate::Windows;
use crate::irp::{Control, complete};
use crate::kernel;
use crate::nt::NtStatus;
use crate::record::Inside;
use crate::state;
use crate::work::{Routine, WorkItem};

/// Deferred requests by the thread that handles them.
pub type Waiting = Tree<usize, Client, Windows>;

/// A request on its way.
struct Request {
    control: Control,
    inside: Inside,
}

/// What its handler needs.
struct Deferred {
    request: Request,
    node: Node<usize, Client, Windows>,
    item: WorkItem,
}

/// Who waits for the request that this thread handles.
#[derive(Clone, Copy)]
pub struct Client(NonNull<Request>);

// SAFETY: followed by the handling thread only.
unsafe impl Send for Client {}

impl Client {
    /// Whether nobody waits for the answer any more.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        // SAFETY: the request is handled by this thread, which is inside a wait.
        let request = unsafe { self.0.as_ref() };
        request.inside.is_closing() || request.control.is_cancelled()
    }
}

/// The client of the deferred request that the calling thread handles. At most DISPATCH.
#[must_use]
pub fn current() -> Option<Client> {
    if !kernel::is_emulated() {
        return None;
    }
    let state = state::get()?;
    state.waiting.lock().get(&Windows.thread_handle()).copied()
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
/// Gives the request back when there is no memory. Waiting on the thread that it came on would keep everybody else waiting.
pub fn defer(control: Control, inside: Inside) -> core::result::Result<NtStatus, (Control, Inside)> {
    let Ok((mut place, node, item)) = prepare() else { return Err((control, inside)) };
    control.mark_pending();
    *place = Some(Deferred { request: Request { control, inside }, node, item });
    let place = place.into_raw();
    // SAFETY: nobody else has it yet.
    if let Some(deferred) = unsafe { place.as_ref() } {
        // SAFETY: a fresh item. Its routine takes everything over, and may have completed the request when this returns.
        unsafe { deferred.item.queue::<Deferred>(place.as_ptr().cast()) };
    }
    Ok(NtStatus::PENDING)
}

type Prepared = (Box<Option<Deferred>, Windows>, Node<usize, Client, Windows>, WorkItem);

fn prepare() -> Result<Prepared> {
    let state = state::get().ok_or(VERR_NO_MEMORY)?;
    let node = Node::new(&Windows, 0, Client(NonNull::dangling()))?;
    let place = Box::new(&Windows, None)?;
    Ok((place, node, WorkItem::new(state.device)?))
}

impl Routine for Deferred {
    unsafe fn run(place: *mut c_void) {
        let Some(place) = NonNull::new(place.cast::<Option<Self>>()) else { return };
        // SAFETY: `defer` gave it up for this routine.
        let Some(deferred) = unsafe { Box::from_raw(&Windows, place) }.into_inner() else { return };
        let Self { request, mut node, item } = deferred;
        let thread = Windows.thread_handle();
        node.set_key(thread);
        *node.value_mut() = Client(NonNull::from(&request));
        if let Some(state) = state::get() {
            let new = state.waiting.lock().insert(node).is_ok();
            debug_assert!(new);
        }
        let result = request.control.handle(&request.inside);
        if let Some(state) = state::get() {
            let node = state.waiting.lock().remove(&thread);
            drop(node);
        }
        let irp = request.control.irp();
        // The file may go as soon as the request is completed.
        drop(request);
        complete(irp, result);
        drop(item);
    }
}
