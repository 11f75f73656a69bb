//! Preemption hooks: `RTThreadCtxHooks*`.

use core::ffi::c_void;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use super::handle::{self, Kind};
use super::runtime::{Ring0, rc, rc_handle};
use super::types::ThreadCtxHook;
use crate::abi::status::{
    Result, VERR_ALREADY_EXISTS, VERR_INVALID_HANDLE, VERR_INVALID_POINTER, VERR_INVALID_STATE,
    VERR_NOT_SUPPORTED,
};
use crate::os::{OsIdentity, OsModule, PreemptEvent, PreemptHook, SupdrvOs};

/// What retain and release return for a bad handle, or where there are no hooks.
const NO_COUNT: u32 = u32::MAX;

struct Hooks {
    hook: PreemptHook,
    references: AtomicU32,
    /// The thread that may register.
    owner: usize,
    /// The module's callback, 0 while none is registered.
    callback: AtomicUsize,
    user: AtomicUsize,
}

impl Kind for Hooks {
    const MAGIC: u32 = 0x7468_636b;
}

unsafe extern "C" fn switched(event: PreemptEvent, hooks: *mut c_void) {
    // SAFETY: the context is the object, which outlives the system's hook.
    let hooks = &unsafe { &*hooks.cast::<handle::Object<Hooks>>() }.value;
    let callback = hooks.callback.load(Ordering::Acquire);
    if callback != 0 {
        // SAFETY: the only non-zero values that are stored are callbacks.
        let callback = unsafe { core::mem::transmute::<usize, ThreadCtxHook>(callback) };
        // SAFETY: the module promised that it may be called so.
        unsafe { callback(event as u32, hooks.user.load(Ordering::Relaxed) as *mut c_void) };
    }
}

fn new_hooks<O: SupdrvOs + OsModule>(os: &O) -> Result<usize> {
    let hooks = Hooks {
        hook: PreemptHook(0),
        references: AtomicU32::new(1),
        owner: os.thread_handle(),
        callback: AtomicUsize::new(0),
        user: AtomicUsize::new(0),
    };
    let mut object = handle::create(os, hooks)?;
    let context = object.as_ptr().as_ptr().cast();
    // SAFETY: the object lives until the hook is destroyed.
    object.value.hook = unsafe { os.preempt_hook_create(switched, context)? };
    Ok(handle::publish(object))
}

/// Creates hooks for the calling thread. Class T. 0, `VERR_NOT_SUPPORTED`, `VERR_NO_MEMORY`, `VERR_INVALID_POINTER`.
pub unsafe fn create<R: Ring0>(out: *mut usize) -> i32 {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { rc_handle(out, || new_hooks(&R::os())) }
}

/// Adds a reference; the new count, all ones for a bad handle. Class I.
pub unsafe fn retain<R: Ring0>(hooks: usize) -> u32 {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { handle::get::<Hooks>(hooks) }
        .map_or(NO_COUNT, |hooks| hooks.references.fetch_add(1, Ordering::Relaxed).wrapping_add(1))
}

/// Drops a reference; the new count, 0 for NIL, all ones for a bad handle. The last one follows deregistration. Class T if it may be that.
pub unsafe fn release<R: Ring0>(hooks: usize) -> u32 {
    if hooks == 0 {
        return 0;
    }
    let os = &R::os();
    // SAFETY: the caller keeps the contract of the C function.
    let Ok(object) = (unsafe { handle::get::<Hooks>(hooks) }) else { return NO_COUNT };
    let left = object.references.fetch_sub(1, Ordering::AcqRel).wrapping_sub(1);
    if left == 0 {
        // SAFETY: as above; that was the last reference.
        if let Ok(object) = unsafe { handle::take::<Hooks, _>(os, hooks) } {
            os.preempt_hook_destroy(object.value.hook);
        }
    }
    left
}

/// Registers a callback for the calling thread, the hooks' owner. Class D. 0, `VERR_INVALID_HANDLE`, `VERR_INVALID_POINTER`,
/// `VERR_INVALID_STATE` (another thread), `VERR_ALREADY_EXISTS`, `VERR_NOT_SUPPORTED`.
pub unsafe fn register<R: Ring0>(hooks: usize, callback: Option<ThreadCtxHook>, user: *mut c_void) -> i32 {
    if hooks == 0 {
        return VERR_NOT_SUPPORTED.0;
    }
    let os = R::os();
    // SAFETY: the caller keeps the contract of the C function.
    let hooks = match unsafe { handle::get::<Hooks>(hooks) } {
        Ok(hooks) if hooks.owner == os.thread_handle() => hooks,
        Ok(_) => return VERR_INVALID_STATE.0,
        Err(status) => return status.0,
    };
    let Some(callback) = callback else { return VERR_INVALID_POINTER.0 };
    if hooks.callback.load(Ordering::Relaxed) != 0 {
        return VERR_ALREADY_EXISTS.0;
    }
    hooks.user.store(user as usize, Ordering::Relaxed);
    hooks.callback.store(callback as usize, Ordering::Release);
    os.preempt_hook_enable(hooks.hook);
    0
}

/// Takes the callback back, by the thread that registered it. Class D. 0, `VERR_INVALID_HANDLE`, `VERR_INVALID_STATE`, `VERR_NOT_SUPPORTED`.
pub unsafe fn deregister<R: Ring0>(hooks: usize) -> i32 {
    if hooks == 0 {
        return VERR_NOT_SUPPORTED.0;
    }
    let os = R::os();
    // SAFETY: the caller keeps the contract of the C function.
    match unsafe { handle::get::<Hooks>(hooks) } {
        Ok(hooks) if hooks.owner == os.thread_handle() && hooks.callback.load(Ordering::Relaxed) != 0 => {
            os.preempt_hook_disable(hooks.hook);
            hooks.callback.store(0, Ordering::Release);
            0
        }
        Ok(_) => VERR_INVALID_STATE.0,
        Err(_) => rc(Err(VERR_INVALID_HANDLE)),
    }
}

/// Whether a callback is registered. Class I.
pub unsafe fn are_registered<R: Ring0>(hooks: usize) -> bool {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { handle::get::<Hooks>(hooks) }.is_ok_and(|hooks| hooks.callback.load(Ordering::Acquire) != 0)
}
