//! Kernel threads: `RTThread*` for threads made by `RTThreadCreate`.
//!
//! A thread's object is owned by the thread until its function has returned, and, if it is waitable, by its handle until somebody has waited for
//! it. Both share a user event. The runtime knows its threads by their native identity, for `RTThreadSelf`.

use core::ffi::{CStr, c_char, c_void};
use core::ptr::null;
use core::sync::atomic::{AtomicI32, AtomicU32, AtomicUsize, Ordering};

use super::event::Event;
use super::handle::{self, Kind};
use super::runtime::{Ring0, State, rc};
use super::types::ThreadMain;
use crate::abi::status::{
    Result, VERR_INVALID_HANDLE, VERR_INVALID_PARAMETER, VERR_NO_TMP_MEMORY, VERR_THREAD_NOT_WAITABLE,
};
use crate::os::{LockClass, NIL_HANDLE, OsIdentity, OsModule, SupdrvOs, ThreadPriority, WaitMode};
use crate::semaphore::timeout_ms;
use crate::sync::IrqSpinLock;
use crate::tree::{Node, Tree};

/// `RTTHREADFLAGS_WAITABLE`.
const WAITABLE: u32 = 1;
const MAX_NAME_BYTES: usize = 15;

struct Thread<R: Ring0> {
    main: ThreadMain,
    user: *mut c_void,
    kind: u32,
    name: [u8; MAX_NAME_BYTES + 1],
    native: AtomicUsize,
    result: AtomicI32,
    /// The thread, its handle if it is waitable, and everybody who waits.
    references: AtomicU32,
    waitable: bool,
    ended: Event<R::Os, true>,
    user_event: Event<R::Os, true>,
}

impl<R: Ring0> Kind for Thread<R> {
    const MAGIC: u32 = 0x7468_7264;
}

/// The threads of a runtime by native identity.
pub(super) struct Threads<O: SupdrvOs>(IrqSpinLock<Tree<usize, usize, O>, O>);

impl<O: SupdrvOs> Threads<O> {
    pub(super) fn new(os: &O) -> Result<Self> {
        Ok(Self(IrqSpinLock::new(os, LockClass::ModuleIrqSpin, Tree::new())?))
    }
}

/// What a new thread gets: its object, and the memory to be found by.
struct Start<R: Ring0> {
    handle: usize,
    node: Option<Node<usize, usize, R::Os>>,
}

impl<R: Ring0> Thread<R> {
    /// Gives up a reference. Class T.
    ///
    /// # Safety
    /// The caller has one; `self` is the value of an object.
    unsafe fn release(&self, os: &R::Os) {
        if self.references.fetch_sub(1, Ordering::AcqRel) == 1 {
            // SAFETY: that was the last reference.
            unsafe { handle::free(os, self) };
        }
    }
}

fn threads_of<O: SupdrvOs + OsModule>(state: &'static State<O>) -> Option<&'static Threads<O>> {
    Some(&state.existing()?.threads)
}

unsafe extern "C" fn entry<R: Ring0>(start: *mut c_void) {
    let os = R::os();
    let Some(start) = core::ptr::NonNull::new(start.cast::<Start<R>>()) else { return };
    // SAFETY: `spawn` gave this up.
    let mut start = unsafe { crate::heap::Box::<Start<R>, R::Os>::from_raw(&os, start) };
    let me = os.thread_handle();
    // SAFETY: the thread has a reference to its object.
    let Ok(thread) = (unsafe { handle::get::<Thread<R>>(start.handle) }) else { return };
    thread.native.store(me, Ordering::Release);
    if let (Some(threads), Some(mut node)) = (threads_of(R::state()), start.node.take()) {
        node.set_key(me);
        let unique = threads.0.lock().insert(node).is_ok();
        debug_assert!(unique);
    }
    // SAFETY: the module promised that its function may be called so.
    let result = unsafe { (thread.main)(start.handle, thread.user) };
    thread.result.store(result, Ordering::Release);
    if let Some(threads) = threads_of(R::state()) {
        let node = threads.0.lock().remove(&me);
        drop(node);
    }
    thread.ended.signal(&os);
    if !thread.waitable {
        // SAFETY: as above: nobody can wait for it, and its handle ends with it.
        let _ended_once = unsafe { handle::end::<Thread<R>>(start.handle) };
    }
    drop(start);
    // SAFETY: the thread's own reference.
    unsafe { thread.release(&os) };
}

fn priority(kind: u32) -> ThreadPriority {
    match kind {
        1 => ThreadPriority::InfrequentPoller,
        3 => ThreadPriority::Emulation,
        9 => ThreadPriority::MessagePump,
        10 => ThreadPriority::Io,
        11 => ThreadPriority::Timer,
        _ => ThreadPriority::Default,
    }
}

fn spawn<R: Ring0>(main: ThreadMain, user: *mut c_void, kind: u32, flags: u32, name: &CStr) -> Result<usize> {
    let os = &R::os();
    R::state().shared(os).map_err(|_| VERR_NO_TMP_MEMORY)?;
    let mut name_bytes = [0; MAX_NAME_BYTES + 1];
    for (to, from) in name_bytes.iter_mut().zip(name.to_bytes()) {
        *to = *from;
    }
    let waitable = flags & WAITABLE != 0;
    let new = || {
        let thread = Thread::<R> {
            main,
            user,
            kind,
            name: name_bytes,
            native: AtomicUsize::new(NIL_HANDLE),
            result: AtomicI32::new(0),
            references: AtomicU32::new(1 + u32::from(waitable)),
            waitable,
            ended: Event::new(os)?,
            user_event: Event::new(os)?,
        };
        let thread = handle::create(os, thread)?;
        let start = Start::<R> { handle: 0, node: Some(Node::new(os, 0, 0)?) };
        Ok((thread, crate::heap::Box::new(os, start)?))
    };
    let (thread, mut start) = new().map_err(|_: crate::abi::Status| VERR_NO_TMP_MEMORY)?;
    let handle = handle::publish(thread);
    start.handle = handle;
    if let Some(node) = &mut start.node {
        *node.value_mut() = handle;
    }
    let start = start.into_raw();
    // SAFETY: the context is owned by the entry from now on, if there is a thread.
    let spawned = unsafe { os.thread_spawn(entry::<R>, start.as_ptr().cast(), priority(kind), name) };
    spawned.map(|()| handle).inspect_err(|_| {
        // SAFETY: there is no thread: both are still this function's.
        unsafe {
            drop(crate::heap::Box::<Start<R>, R::Os>::from_raw(os, start));
            drop(handle::take::<Thread<R>, _>(os, handle));
        }
    })
}

/// Creates a thread. `handle` may be null; flags: waitable 1; the name has 1 to 15 bytes; the stack's size is the system's. Class T. 0,
/// `VERR_INVALID_PARAMETER`, `VERR_NO_TMP_MEMORY`, `VERR_NOT_IMPLEMENTED`, or the system's.
pub unsafe fn create<R: Ring0>(
    out: *mut usize,
    main: Option<ThreadMain>,
    user: *mut c_void,
    _stack_bytes: usize,
    kind: u32,
    flags: u32,
    name: *const c_char,
) -> i32 {
    let (Some(main), false) = (main, name.is_null()) else { return VERR_INVALID_PARAMETER.0 };
    // SAFETY: the caller keeps the contract of the C function.
    let name = unsafe { CStr::from_ptr(name) };
    if name.is_empty() || name.count_bytes() > MAX_NAME_BYTES || flags & !WAITABLE != 0 {
        return VERR_INVALID_PARAMETER.0;
    }
    let result = spawn::<R>(main, user, kind, flags, name);
    // SAFETY: the caller keeps the contract of the C function.
    if let (Some(out), Ok(handle)) = (unsafe { out.as_mut() }, result) {
        *out = handle;
    }
    rc(result.map(drop))
}

unsafe fn wait_with<R: Ring0>(thread: usize, millis: u32, out: *mut i32, mode: WaitMode) -> i32 {
    let os = &R::os();
    // SAFETY: the caller keeps the contract of the C function.
    let object = match unsafe { handle::get::<Thread<R>>(thread) } {
        Ok(object) if object.waitable => object,
        Ok(_) => return VERR_THREAD_NOT_WAITABLE.0,
        Err(status) => return status.0,
    };
    object.references.fetch_add(1, Ordering::Relaxed);
    let mut result = object.ended.wait_raw(os, timeout_ms(millis), mode);
    if result.is_ok() {
        // SAFETY: this waiter has a reference. The first one ends the handle.
        if unsafe { handle::end::<Thread<R>>(thread) }.is_ok() {
            // SAFETY: the caller keeps the contract of the C function.
            if let Some(out) = unsafe { out.as_mut() } {
                *out = object.result.load(Ordering::Acquire);
            }
            // SAFETY: the handle's reference.
            unsafe { object.release(os) };
        } else {
            result = Err(VERR_INVALID_HANDLE);
        }
    }
    // SAFETY: this waiter's reference.
    unsafe { object.release(os) };
    rc(result)
}

/// Waits for the end of a waitable thread and frees its handle; `result` may be null. Class T. 0, `VERR_TIMEOUT`, `VERR_INVALID_HANDLE`,
/// `VERR_THREAD_NOT_WAITABLE`.
pub unsafe fn wait<R: Ring0>(thread: usize, millis: u32, result: *mut i32) -> i32 {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { wait_with::<R>(thread, millis, result, WaitMode::Uninterruptible) }
}

/// As [`wait`], interruptibly: also `VERR_INTERRUPTED`.
pub unsafe fn wait_no_resume<R: Ring0>(thread: usize, millis: u32, result: *mut i32) -> i32 {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { wait_with::<R>(thread, millis, result, WaitMode::Interruptible) }
}

/// The caller's handle, 0 if the runtime didn't make the thread. Class I.
pub unsafe fn self_handle<R: Ring0>() -> usize {
    let me = R::os().thread_handle();
    threads_of(R::state()).and_then(|threads| threads.0.lock().get(&me).copied()).unwrap_or(0)
}

/// A thread's name, null for NIL and foreign threads. Class I.
pub unsafe fn get_name<R: Ring0>(thread: usize) -> *const c_char {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { handle::get::<Thread<R>>(thread) }.map_or(null(), |thread| thread.name.as_ptr().cast())
}

/// The caller's name. Class I.
pub unsafe fn self_name<R: Ring0>() -> *const c_char {
    // SAFETY: the handle is the caller's own, or 0.
    unsafe { get_name::<R>(self_handle::<R>()) }
}

/// A thread's native identity, all ones for bad handles and before it runs. Class I.
pub unsafe fn get_native<R: Ring0>(thread: usize) -> usize {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { handle::get::<Thread<R>>(thread) }
        .map_or(NIL_HANDLE, |thread| thread.native.load(Ordering::Acquire))
}

/// A thread's type, 0 for bad handles. Class I.
pub unsafe fn get_type<R: Ring0>(thread: usize) -> u32 {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { handle::get::<Thread<R>>(thread) }.map_or(0, |thread| thread.kind)
}

/// Signals a thread's user event. Class D. 0, `VERR_INVALID_HANDLE`.
pub unsafe fn user_signal<R: Ring0>(thread: usize) -> i32 {
    // SAFETY: the caller keeps the contract of the C function.
    rc(unsafe { handle::get::<Thread<R>>(thread) }.map(|thread| thread.user_event.signal(&R::os())))
}

/// Clears a thread's user event. Class D. 0, `VERR_INVALID_HANDLE`.
pub unsafe fn user_reset<R: Ring0>(thread: usize) -> i32 {
    // SAFETY: the caller keeps the contract of the C function.
    rc(unsafe { handle::get::<Thread<R>>(thread) }.map(|thread| thread.user_event.reset(&R::os())))
}

unsafe fn user_wait_with<R: Ring0>(thread: usize, millis: u32, mode: WaitMode) -> i32 {
    let os = &R::os();
    // SAFETY: the caller keeps the contract of the C function.
    rc(unsafe { handle::get::<Thread<R>>(thread) }.and_then(|thread| {
        thread.references.fetch_add(1, Ordering::Relaxed);
        let result = thread.user_event.wait_raw(os, timeout_ms(millis), mode);
        // SAFETY: this waiter's reference.
        unsafe { thread.release(os) };
        result
    }))
}

/// Waits for a thread's user event. Class T. 0, `VERR_TIMEOUT`, `VERR_INVALID_HANDLE`.
pub unsafe fn user_wait<R: Ring0>(thread: usize, millis: u32) -> i32 {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { user_wait_with::<R>(thread, millis, WaitMode::Uninterruptible) }
}

/// As [`user_wait`], interruptibly: also `VERR_INTERRUPTED`.
pub unsafe fn user_wait_no_resume<R: Ring0>(thread: usize, millis: u32) -> i32 {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { user_wait_with::<R>(thread, millis, WaitMode::Interruptible) }
}
