//! Threads of modules: their start, and the wait for their end before the driver's code goes.

use core::ffi::c_void;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicUsize, Ordering};

use crate::abi::status::Result;
use crate::heap::Box;
use crate::os::{OsHeap, OsTime, ThreadEntry};

/// What a new thread is to do.
struct Start {
    entry: ThreadEntry,
    context: *mut c_void,
}

/// Threads that have not left the driver's code yet.
#[derive(Debug, Default)]
pub struct Threads(AtomicUsize);

/// Between two looks, in milliseconds.
const POLL_MS: u32 = 10;
/// What the last thread gets to reach the kernel's own code, in milliseconds.
const EXIT_MS: u32 = 50;

impl Threads {
    /// None.
    #[must_use]
    pub const fn new() -> Self {
        Self(AtomicUsize::new(0))
    }

    /// Starts a thread: `create` hands the system the argument of its function, which calls [`run`](Self::run) with it, and
    /// says whether there is a thread. Class T.
    ///
    /// # Errors
    /// VERR_NO_MEMORY, or what `create` fails with: there is no thread then.
    pub fn spawn<O: OsHeap + Clone>(
        &self,
        os: &O,
        entry: ThreadEntry,
        context: *mut c_void,
        create: impl FnOnce(*mut c_void) -> Result<()>,
    ) -> Result<()> {
        let start = Box::new(os, Start { entry, context })?.into_raw();
        self.0.fetch_add(1, Ordering::Relaxed);
        let created = create(start.as_ptr().cast());
        if created.is_err() {
            self.0.fetch_sub(1, Ordering::Relaxed);
            // SAFETY: from above; no thread has it.
            drop(unsafe { Box::from_raw(os, start) });
        }
        created
    }

    /// What the new thread does; it ends afterwards, without anything of the driver in between.
    ///
    /// # Safety
    /// `start` is the argument that `create` got, used once.
    pub unsafe fn run<O: OsHeap + Clone>(&self, os: &O, start: *mut c_void) {
        let Some(start) = NonNull::new(start.cast::<Start>()) else { return };
        // SAFETY: the spawner gave it away.
        let start = unsafe { Box::from_raw(os, start) };
        let (entry, context) = (start.entry, start.context);
        drop(start);
        // SAFETY: what the spawner asked for.
        unsafe { entry(context) };
        self.0.fetch_sub(1, Ordering::Release);
    }

    /// Waits until no thread runs the driver's code any more. Class T, at unload.
    pub fn wait<O: OsTime>(&self, os: &O) {
        if self.0.load(Ordering::Acquire) == 0 {
            return;
        }
        while self.0.load(Ordering::Acquire) != 0 {
            os.sleep_ms(POLL_MS);
        }
        os.sleep_ms(EXIT_MS);
    }
}
