//! What loaded modules may ask for, and the table of what they can import.

use core::ffi::{CStr, c_int, c_uint, c_ulong, c_void};
use core::ptr::null_mut;

use supdrv_core::abi::status::{Result, VERR_NO_MEMORY};
use supdrv_core::os::{CachePolicy, Errno, OsModule, ThreadEntry, ThreadPriority};
use supdrv_core::shim::threads::Threads;

use crate::kernel;
use crate::memory::MemObj;
use crate::os::Darwin;
use crate::timers::Timer;

// Sibling extensions link against the functions by name.
supdrv_core::ring0_exports!(Darwin, Darwin);

/// Threads of modules, and our own.
pub(crate) static THREADS: Threads = Threads::new();

unsafe extern "C" fn thread_main(start: *mut c_void, _result: c_int) {
    // SAFETY: what `spawn` passed, once.
    unsafe { THREADS.run(&Darwin, start) };
    loop {
        // SAFETY: the thread ends itself.
        unsafe { kernel::thread_terminate(kernel::current_thread()) };
    }
}

/// How much more important than other threads of the kernel.
const fn importance(priority: ThreadPriority) -> c_int {
    match priority {
        ThreadPriority::InfrequentPoller => -8,
        ThreadPriority::Emulation => -4,
        ThreadPriority::Default => 0,
        ThreadPriority::MessagePump => 2,
        ThreadPriority::Io => 4,
        ThreadPriority::Timer => 8,
    }
}

/// # Safety
/// `entry` may be called with `context` on another thread.
unsafe fn spawn(entry: ThreadEntry, context: *mut c_void, priority: ThreadPriority) -> Result<()> {
    THREADS.spawn(&Darwin, entry, context, |argument| {
        let mut thread = null_mut();
        // SAFETY: the argument is for one thread; the result is ours.
        if unsafe { kernel::kernel_thread_start(thread_main, argument, &raw mut thread) } != 0 {
            return Err(VERR_NO_MEMORY);
        }
        let mut policy = importance(priority);
        // SAFETY: the new thread's reference, which is given up here; a policy of one word.
        unsafe {
            if policy != 0 {
                // If it can't be had, the thread has the default one.
                kernel::thread_policy_set(thread, kernel::THREAD_PRECEDENCE_POLICY, &raw mut policy, 1);
            }
            kernel::thread_deallocate(thread);
        }
        Ok(())
    })
}

/// Starts a thread of the kernel. Class T.
///
/// # Safety
/// `entry` may be called with `context` on another thread.
pub(crate) unsafe fn start_thread(entry: ThreadEntry, context: *mut c_void) -> Result<()> {
    // SAFETY: condition of the function.
    unsafe { spawn(entry, context, ThreadPriority::Default) }
}

/// Processes live below.
#[cfg(target_os = "macos")]
const USER_END: usize = 0x7fff_ffe0_0000;
/// The kernel lives here and above.
#[cfg(target_os = "macos")]
const KERNEL_START: usize = 0xffff_ff80_0000_0000;

impl OsModule for Darwin {
    const ERRNO: Errno = Errno::Darwin;

    fn mem_alloc_phys(&self, size_bytes: usize, highest: u64, align_bytes: usize) -> Result<MemObj> {
        self.alloc_phys(size_bytes, highest, align_bytes)
    }

    fn mem_enter_phys(&self, phys: u64, size_bytes: usize, cache: CachePolicy) -> Result<MemObj> {
        self.enter_phys(phys, size_bytes, cache)
    }

    #[cfg(target_os = "macos")]
    fn is_user_address(&self, address: usize) -> bool {
        address < USER_END
    }

    #[cfg(target_os = "macos")]
    fn is_kernel_address(&self, address: usize) -> bool {
        address >= KERNEL_START
    }

    #[cfg(not(target_os = "macos"))]
    fn is_kernel_address(&self, address: usize) -> bool {
        // A fake kernel lives in a process.
        address != 0
    }

    fn wall_clock_ns(&self) -> i64 {
        let (mut seconds, mut rest): (c_ulong, c_uint) = (0, 0);
        // SAFETY: the results are ours.
        unsafe { kernel::clock_get_calendar_nanotime(&raw mut seconds, &raw mut rest) };
        let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
        seconds.saturating_mul(1_000_000_000).saturating_add(rest.into())
    }

    fn timer_change_interval(&self, timer: &Timer, interval_ns: u64) -> Result<()> {
        self.set_interval(timer, interval_ns);
        Ok(())
    }

    fn sleep_interruptible_ms(&self, millis: u32) -> Result<()> {
        self.sleep_interruptible(millis)
    }

    fn preempt_is_enabled(&self) -> bool {
        self.is_preemptible()
    }

    fn is_in_interrupt(&self) -> bool {
        kernel::ml_at_interrupt_context() != 0
    }

    unsafe fn thread_spawn(
        &self,
        entry: ThreadEntry,
        context: *mut c_void,
        priority: ThreadPriority,
        _name: &CStr,
    ) -> Result<()> {
        // SAFETY: conditions of the function.
        unsafe { spawn(entry, context, priority) }
    }

    fn panic_system(&self) {
        // SAFETY: a constant message.
        unsafe { kernel::panic(c"supdrv: assertion of a module".as_ptr()) };
    }
}
