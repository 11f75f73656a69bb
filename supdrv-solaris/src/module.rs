//! What loaded modules may ask for, and the table of what they can import.

use core::alloc::Layout;
use core::ffi::{CStr, c_int, c_void};
use core::ptr::{NonNull, null_mut};

use supdrv_core::abi::status::{Result, VERR_INTERRUPTED, VERR_NO_MEMORY};
use supdrv_core::os::{Errno, OsModule, ThreadEntry, ThreadPriority};
use supdrv_core::shim::threads::Threads;

use crate::events::ticks;
use crate::glue;
use crate::kernel::{self, Timespec};
use crate::memory::MemObj;
use crate::os::{Solaris, padded};

// The functions themselves; the kernel's linker knows none of them, modules get them from the driver.
supdrv_core::ring0_exports!(Solaris, Solaris, private);

/// Threads of modules.
pub(crate) static THREADS: Threads = Threads::new();

/// Runnable from the start.
const TS_RUN: c_int = 2;

unsafe extern "C" fn thread_main(start: *mut c_void) {
    // SAFETY: what `spawn` passed, once; the thread ends here.
    unsafe {
        THREADS.run(&Solaris, start);
        kernel::thread_exit();
    }
}

fn has(context: u32) -> bool {
    glue::supdrv_glue_context() & context != 0
}

impl OsModule for Solaris {
    const ERRNO: Errno = Errno::Solaris;

    fn heap_alloc_any_context(&self, layout: Layout) -> Result<NonNull<u8>> {
        let bytes = padded(layout).ok_or(VERR_NO_MEMORY)?;
        // SAFETY: a size that isn't 0.
        let memory = unsafe { kernel::kmem_zalloc(bytes, kernel::KM_NOSLEEP) };
        NonNull::new(memory.cast()).ok_or(VERR_NO_MEMORY)
    }

    fn mem_alloc_phys(&self, size_bytes: usize, highest: u64, align_bytes: usize) -> Result<MemObj> {
        self.alloc_phys(size_bytes, highest, align_bytes)
    }

    #[cfg(not(target_os = "none"))]
    fn is_kernel_address(&self, address: usize) -> bool {
        // A fake kernel lives in a process.
        address != 0
    }

    fn wall_clock_ns(&self) -> i64 {
        let mut time = Timespec::default();
        // SAFETY: the result is ours.
        unsafe { kernel::gethrestime(&raw mut time) };
        time.seconds.saturating_mul(1_000_000_000).saturating_add(time.nanoseconds)
    }

    fn mp_poke(&self, cpu_id: u32) -> Result<()> {
        // SAFETY: the CPU exists and is on-line (contract of the method).
        unsafe { kernel::poke_cpu(cpu_id.cast_signed()) };
        Ok(())
    }

    fn sleep_interruptible_ms(&self, millis: u32) -> Result<()> {
        let interrupted = kernel::delay_sig(ticks(millis));
        if interrupted == 0 { Ok(()) } else { Err(VERR_INTERRUPTED) }
    }

    fn preempt_is_enabled(&self) -> bool {
        !has(glue::CONTEXT_PINNED | glue::CONTEXT_IRQS_OFF)
    }

    fn is_in_interrupt(&self) -> bool {
        has(glue::CONTEXT_INTERRUPT)
    }

    unsafe fn thread_spawn(
        &self,
        entry: ThreadEntry,
        context: *mut c_void,
        _priority: ThreadPriority,
        _name: &CStr,
    ) -> Result<()> {
        THREADS.spawn(self, entry, context, |argument| {
            // SAFETY: the argument is for one thread; its process is the kernel's own.
            let thread = unsafe {
                let (owner, priority) = (&raw const kernel::p0, kernel::minclsyspri);
                kernel::thread_create(null_mut(), 0, thread_main, argument, 0, owner, TS_RUN, priority)
            };
            if thread.is_null() { Err(VERR_NO_MEMORY) } else { Ok(()) }
        })
    }

    fn panic_system(&self) {
        // SAFETY: a constant message.
        unsafe { kernel::cmn_err(kernel::CE_PANIC, c"supdrv: assertion of a module".as_ptr()) };
    }
}
