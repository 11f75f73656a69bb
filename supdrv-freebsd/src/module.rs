//! What loaded modules may ask for, and the table of what they can import.

use core::alloc::Layout;
use core::ffi::{CStr, c_void};
use core::ptr::{NonNull, null_mut};

use supdrv_core::abi::status::{Result, VERR_NO_MEMORY};
use supdrv_core::os::{CachePolicy, Errno, OsModule, ThreadEntry, ThreadPriority};
use supdrv_core::shim::threads::Threads;

use crate::events::nanoseconds;
use crate::glue;
use crate::kernel;
use crate::memory::MemObj;
use crate::os::{FreeBsd, padded};
use crate::timers::Timer;

// The functions themselves; the kernel's linker knows none of them, modules get them from the driver.
supdrv_core::ring0_exports!(FreeBsd, FreeBsd, private);

/// Threads of modules.
pub(crate) static THREADS: Threads = Threads::new();

unsafe extern "C" fn thread_main(start: *mut c_void) {
    // SAFETY: what `spawn` passed, once; the thread ends here.
    unsafe {
        THREADS.run(&FreeBsd, start);
        kernel::kthread_exit();
    }
}

impl FreeBsd {
    fn has(&self, context: u32) -> bool {
        glue::supdrv_glue_context() & context != 0
    }
}

impl OsModule for FreeBsd {
    const ERRNO: Errno = Errno::FreeBsd;

    fn heap_alloc_any_context(&self, layout: Layout) -> Result<NonNull<u8>> {
        let bytes = padded(layout).ok_or(VERR_NO_MEMORY)?;
        let flags = kernel::M_NOWAIT | kernel::M_ZERO;
        // SAFETY: the kernel's own type of memory, which is the driver's.
        let memory = unsafe { kernel::malloc(bytes, &raw mut glue::M_SUPDRV, flags) };
        NonNull::new(memory.cast()).ok_or(VERR_NO_MEMORY)
    }

    fn mem_alloc_phys(&self, size_bytes: usize, highest: u64, align_bytes: usize) -> Result<MemObj> {
        self.alloc_phys(size_bytes, highest, align_bytes)
    }

    fn mem_alloc_phys_nc(&self, size_bytes: usize, highest: u64) -> Result<MemObj> {
        self.alloc_phys_nc(size_bytes, highest)
    }

    fn mem_enter_phys(&self, phys: u64, size_bytes: usize, cache: CachePolicy) -> Result<MemObj> {
        self.enter_phys(phys, size_bytes, cache)
    }

    #[cfg(not(target_os = "none"))]
    fn is_kernel_address(&self, address: usize) -> bool {
        // A fake kernel lives in a process.
        address != 0
    }

    fn wall_clock_ns(&self) -> i64 {
        nanoseconds(kernel::nanotime)
    }

    fn timer_change_interval(&self, timer: &Timer, interval_ns: u64) -> Result<()> {
        self.set_interval(timer, interval_ns);
        Ok(())
    }

    fn timer_is_high_resolution(&self) -> bool {
        true
    }

    fn mp_poke(&self, cpu_id: u32) -> Result<()> {
        // SAFETY: interrupts are on and no spin lock is held (class of the method); the function needs no argument.
        unsafe { glue::supdrv_glue_run_on(cpu_id, kernel::smp_no_rendezvous_barrier, null_mut()) };
        Ok(())
    }

    fn preempt_is_enabled(&self) -> bool {
        !self.has(glue::CONTEXT_PINNED | glue::CONTEXT_IRQS_OFF)
    }

    fn preempt_is_pending(&self) -> bool {
        self.has(glue::CONTEXT_PREEMPT)
    }

    fn preempt_is_pending_trusty(&self) -> bool {
        true
    }

    fn is_in_interrupt(&self) -> bool {
        self.has(glue::CONTEXT_INTERRUPT)
    }

    unsafe fn thread_spawn(
        &self,
        entry: ThreadEntry,
        context: *mut c_void,
        _priority: ThreadPriority,
        name: &CStr,
    ) -> Result<()> {
        THREADS.spawn(self, entry, context, |argument| {
            let mut thread = null_mut();
            // SAFETY: constant format, a name that ends, a result that is ours; the argument is for one thread.
            let failed = unsafe {
                let (format, place) = (c"%s".as_ptr(), &raw mut thread);
                kernel::kthread_add(thread_main, argument, null_mut(), place, 0, 0, format, name.as_ptr())
            };
            if failed == 0 { Ok(()) } else { Err(VERR_NO_MEMORY) }
        })
    }

    fn panic_system(&self) {
        // SAFETY: a constant message.
        unsafe { kernel::panic(c"supdrv: assertion of a module".as_ptr()) };
    }
}
