//! What loaded modules may ask for, and the table of what they can import.

use core::alloc::Layout;
use core::ffi::{CStr, c_void};
use core::ptr::NonNull;

use supdrv_core::abi::status::{
    Result, VERR_ACCESS_DENIED, VERR_INTERRUPTED, VERR_INVALID_PARAMETER, VERR_NO_MEMORY, VERR_NOT_SUPPORTED,
};
use supdrv_core::os::{CachePolicy, Errno, OsCpu, OsHeap, OsModule, PAGE_SIZE, ThreadEntry, ThreadPriority};
use supdrv_core::shim::threads::Threads;

use crate::Windows;
use crate::kernel;
use crate::memory;
use crate::nt::sys;
use crate::nt::{
    CURRENT_PROCESS, DISPATCH_LEVEL, Handle, KERNEL_MODE, NtStatus, OBJ_KERNEL_HANDLE, ObjectAttributes, hw,
};
use crate::time::relative;
use crate::timer::Timer;

// Modules link against the image's export table; on a development host the names belong to others.
#[cfg(target_os = "windows")]
supdrv_core::ring0_exports!(Windows, Windows);
#[cfg(not(target_os = "windows"))]
supdrv_core::ring0_exports!(Windows, Windows, private);

/// 1970 in the kernel's time, which starts in 1601.
const UNIX_EPOCH: u64 = 116_444_736_000_000_000;

/// Threads of modules.
pub(crate) static THREADS: Threads = Threads::new();

/// The body of a thread; the kernel ends it when this returns.
unsafe extern "system" fn thread_main(start: *mut c_void) {
    // SAFETY: the argument that `thread_spawn` made for this thread.
    unsafe { THREADS.run(&Windows, start) };
}

/// Copies at addresses of the kernel that may be bad.
fn kernel_copy(to: usize, from: usize, bytes: usize) -> Result<()> {
    const VIRTUAL: u32 = 2;
    if bytes == 0 {
        return Ok(());
    }
    let copy = kernel::mm_copy_memory().ok_or(VERR_NOT_SUPPORTED)?;
    let mut done = 0;
    // SAFETY: the function checks the source; the target is the caller's own.
    let status = unsafe { copy(to as *mut c_void, from, bytes, VIRTUAL, &raw mut done) };
    if status.is_ok() && done == bytes { Ok(()) } else { Err(VERR_ACCESS_DENIED) }
}

impl OsModule for Windows {
    const ERRNO: Errno = Errno::CRuntime;

    fn heap_alloc_any_context(&self, layout: Layout) -> Result<NonNull<u8>> {
        // The pool may be used up to DISPATCH; nothing may with interrupts off.
        if !hw::interrupts_enabled() || hw::irql() > DISPATCH_LEVEL {
            return Err(VERR_NO_MEMORY);
        }
        self.heap_alloc_zeroed(layout).ok_or(VERR_NO_MEMORY)
    }

    fn mem_alloc_phys(&self, size_bytes: usize, highest: u64, align_bytes: usize) -> Result<Self::MemObj> {
        memory::check_size(size_bytes)?;
        if memory::uses_sections() || align_bytes > PAGE_SIZE {
            return Err(VERR_NOT_SUPPORTED);
        }
        memory::mdl::alloc_phys(size_bytes, highest)
    }

    fn mem_alloc_phys_nc(&self, size_bytes: usize, highest: u64) -> Result<Self::MemObj> {
        memory::check_size(size_bytes)?;
        if memory::uses_sections() {
            return Err(VERR_NOT_SUPPORTED);
        }
        memory::mdl::alloc_phys_nc(size_bytes, highest)
    }

    fn mem_enter_phys(&self, phys: u64, size_bytes: usize, cache: CachePolicy) -> Result<Self::MemObj> {
        memory::check_size(size_bytes)?;
        if memory::uses_sections() {
            return Err(VERR_NOT_SUPPORTED);
        }
        memory::entered::enter(phys, size_bytes, cache)
    }

    fn kernel_copy_from(&self, to: &mut [u8], from: usize) -> Result<()> {
        kernel_copy(to.as_mut_ptr() as usize, from, to.len())
    }

    #[cfg(not(target_os = "windows"))]
    fn is_kernel_address(&self, address: usize) -> bool {
        // A fake kernel lives in a process.
        address != 0
    }

    fn wall_clock_ns(&self) -> i64 {
        let units = hw::system_time().saturating_sub(UNIX_EPOCH);
        i64::try_from(units).unwrap_or(i64::MAX).saturating_mul(100)
    }

    fn timer_change_interval(&self, timer: &Timer, interval_ns: u64) -> Result<()> {
        if interval_ns == 0 { Err(VERR_INVALID_PARAMETER) } else { timer.set_interval(interval_ns) }
    }

    fn mp_poke(&self, cpu_id: u32) -> Result<()> {
        if cpu_id == self.cpu_id() { Ok(()) } else { crate::poke::poke(cpu_id) }
    }

    fn sleep_interruptible_ms(&self, millis: u32) -> Result<()> {
        let interval = relative(u64::from(millis) * 1_000_000);
        // SAFETY: PASSIVE (class T).
        match unsafe { sys::KeDelayExecutionThread(KERNEL_MODE, 1, &raw const interval) } {
            NtStatus::ALERTED | NtStatus::USER_APC => Err(VERR_INTERRUPTED),
            _ => Ok(()),
        }
    }

    fn preempt_is_enabled(&self) -> bool {
        hw::irql() < DISPATCH_LEVEL && hw::interrupts_enabled()
    }

    fn preempt_is_pending(&self) -> bool {
        // SAFETY: any IRQL.
        kernel::ke_should_yield_processor().is_some_and(|should| unsafe { should() } != 0)
    }

    fn is_in_interrupt(&self) -> bool {
        hw::irql() > DISPATCH_LEVEL
    }

    unsafe fn thread_spawn(
        &self,
        entry: ThreadEntry,
        context: *mut c_void,
        _priority: ThreadPriority,
        _name: &CStr,
    ) -> Result<()> {
        const SYNCHRONIZE: u32 = 0x10_0000;
        THREADS.spawn(self, entry, context, |start| {
            let attributes = ObjectAttributes::new(core::ptr::null(), OBJ_KERNEL_HANDLE);
            let mut thread: Handle = core::ptr::null_mut();
            let null = core::ptr::null_mut();
            // SAFETY: PASSIVE (class T); the routine takes `start` over.
            let status = unsafe {
                sys::PsCreateSystemThread(
                    &raw mut thread,
                    SYNCHRONIZE,
                    &raw const attributes,
                    null,
                    null,
                    thread_main,
                    start,
                )
            };
            status.ok().map_err(|_| VERR_NO_MEMORY)?;
            debug_assert!(thread != CURRENT_PROCESS);
            // SAFETY: our own handle; the thread runs on.
            unsafe { sys::ZwClose(thread) };
            Ok(())
        })
    }

    fn panic_system(&self) {
        /// `SUPa`: an assertion.
        const CODE: u32 = 0x5355_5061;
        // SAFETY: stops the machine.
        unsafe { sys::KeBugCheckEx(CODE, 0, 0, 0, 0) }
    }
}
