//! What loaded modules may ask for, and the table of what they can import.

use core::alloc::Layout;
use core::ffi::{CStr, c_void};
use core::ptr::NonNull;

use supdrv_core::abi::status::{Result, VERR_NO_MEMORY, VERR_NOT_SUPPORTED};
use supdrv_core::os::{CachePolicy, Errno, OsArch, OsModule, ThreadEntry, ThreadPriority};

use crate::memory::MemObj;
use crate::os::{Os2, is_interrupt_time, is_unpinned, is_yield_wanted, stop_machine};
use crate::timers::Timer;
use crate::{heap, memory, time};

// The functions themselves; the kernel's linker knows none of them, modules get them from the driver.
supdrv_core::ring0_exports!(Os2, Os2, private);

/// IF in EFLAGS.
const INTERRUPTS: usize = 0x200;

impl OsModule for Os2 {
    const ERRNO: Errno = Errno::CRuntime;

    fn heap_alloc_any_context(&self, layout: Layout) -> Result<NonNull<u8>> {
        heap::alloc_from_chunks(layout).ok_or(VERR_NO_MEMORY)
    }

    unsafe fn heap_free_any_context(&self, ptr: NonNull<u8>, _layout: Layout) {
        // SAFETY: condition of the function.
        let _stays_here = unsafe { heap::free_to_chunks(ptr) };
    }

    fn mem_alloc_phys(&self, size_bytes: usize, highest: u64, align_bytes: usize) -> Result<MemObj> {
        MemObj::contiguous(size_bytes, highest, align_bytes)
    }

    fn mem_enter_phys(&self, phys: u64, size_bytes: usize, _cache: CachePolicy) -> Result<MemObj> {
        MemObj::of_phys(phys, size_bytes)
    }

    fn is_user_address(&self, address: usize) -> bool {
        memory::is_user_address(address)
    }

    fn is_kernel_address(&self, address: usize) -> bool {
        memory::is_kernel_address(address)
    }

    /// Processes reach up to where the kernel has long begun.
    fn kernel_and_user_differ(&self) -> bool {
        false
    }

    fn wall_clock_ns(&self) -> i64 {
        time::wall_clock_ns()
    }

    fn timer_change_interval(&self, timer: &Timer, interval_ns: u64) -> Result<()> {
        timer.set_interval(interval_ns);
        Ok(())
    }

    fn sleep_interruptible_ms(&self, millis: u32) -> Result<()> {
        time::sleep_interruptible_ms(millis)
    }

    fn preempt_is_enabled(&self) -> bool {
        let flags = self.irq_save();
        // SAFETY: what was saved just before.
        unsafe { self.irq_restore(flags) };
        flags & INTERRUPTS != 0 && is_unpinned()
    }

    fn preempt_is_pending(&self) -> bool {
        is_yield_wanted()
    }

    fn preempt_is_pending_trusty(&self) -> bool {
        true
    }

    fn preempt_is_possible(&self) -> bool {
        false
    }

    fn is_in_interrupt(&self) -> bool {
        is_interrupt_time()
    }

    /// The kernel makes no threads for drivers.
    unsafe fn thread_spawn(
        &self,
        _entry: ThreadEntry,
        _context: *mut c_void,
        _priority: ThreadPriority,
        _name: &CStr,
    ) -> Result<()> {
        Err(VERR_NOT_SUPPORTED)
    }

    fn panic_system(&self) {
        stop_machine(b"supdrv: assertion of a module");
    }
}
