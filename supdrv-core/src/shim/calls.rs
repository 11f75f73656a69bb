//! A cross call as one pointer, for kernels that hand one argument over.

use core::ffi::c_void;

use crate::os::MpWorker;

/// A worker and its argument; lives on the caller's stack until all CPUs have answered.
pub struct CrossCall {
    worker: MpWorker,
    context: *mut c_void,
}

impl CrossCall {
    /// Of a worker.
    #[must_use]
    pub const fn new(worker: MpWorker, context: *mut c_void) -> Self {
        Self { worker, context }
    }

    /// The argument for the kernel.
    #[must_use]
    pub fn argument(&self) -> *mut c_void {
        core::ptr::from_ref(self).cast_mut().cast()
    }

    /// Runs it on the current CPU. Class I.
    ///
    /// # Safety
    /// `call` is the [argument](Self::argument) of a call that still waits; `cpu_id` is the current CPU.
    pub unsafe fn run(call: *mut c_void, cpu_id: u32) {
        // SAFETY: as above.
        let call = unsafe { &*call.cast::<Self>() };
        // SAFETY: whoever asked for the call guarantees that it may run on any CPU.
        unsafe { (call.worker)(cpu_id, call.context) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    unsafe extern "C" fn note(cpu_id: u32, seen: *mut c_void) {
        // SAFETY: the test's own.
        unsafe { seen.cast::<u32>().write(cpu_id) };
    }

    #[test]
    fn a_worker_gets_the_cpu_and_its_argument() {
        let mut seen = 0_u32;
        let call = CrossCall::new(note, (&raw mut seen).cast());
        // SAFETY: on the stack, and one CPU is as good as any here.
        unsafe { CrossCall::run(call.argument(), 3) };
        assert_eq!(seen, 3);
    }
}
