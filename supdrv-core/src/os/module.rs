//! What loaded modules may ask for and the core itself doesn't need.
//!
//! The core builds and runs without this trait; [`ring0`](crate::ring0) needs it. Handles, reference counts, argument checks, recursive
//! mutexes, thread objects and notification lists are made there, once for all systems, from the seam's other traits: what is left here is
//! what only the system can do. A method with a default may stay as it is on a system that can't: the default is the answer that modules
//! know from the original for that case.

use core::alloc::Layout;
use core::ffi::{CStr, c_void};
use core::ptr::NonNull;

use crate::abi::status::{Result, VERR_NOT_IMPLEMENTED, VERR_NOT_SUPPORTED};
use crate::os::{AllocKind, MemProt, OsCpu, OsHeap, OsLog, OsMemory, OsTime, OsTimer};

/// Whose numbers `errno` values are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Errno {
    /// Linux.
    Linux,
    /// FreeBSD.
    FreeBsd,
    /// Darwin.
    Darwin,
    /// Solaris and illumos.
    Solaris,
    /// The system's kernel has no such numbers: the C runtime's are used (Windows, OS/2).
    CRuntime,
}

/// How [`OsModule::mem_enter_phys`] pages are cached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CachePolicy {
    /// As the system does it for this range.
    Default,
    /// Uncached, for device memory.
    Mmio,
}

/// How urgent a thread is, in rising order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ThreadPriority {
    /// Polls now and then.
    InfrequentPoller,
    /// Emulates something.
    Emulation,
    /// Everything else.
    Default,
    /// Waits for messages.
    MessagePump,
    /// Does I/O.
    Io,
    /// Keeps time.
    Timer,
}

/// The body of a thread. Class T.
pub type ThreadEntry = unsafe extern "C" fn(context: *mut c_void);

/// What happens to a thread with a preemption hook; the numbers are those of the ring-0 API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum PreemptEvent {
    /// It is about to be switched out, on the old CPU. Class I.
    Preempting = 0,
    /// It was switched in, perhaps on another CPU. Class D, or I.
    Resumed = 1,
}

/// Called by the scheduler for the thread that enabled the hook.
pub type PreemptCallback = unsafe extern "C" fn(event: PreemptEvent, context: *mut c_void);

/// A preemption hook of the system; what the number means is the system's business.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PreemptHook(pub usize);

/// Services for loaded modules only.
pub trait OsModule: OsHeap + OsMemory + OsTime + OsTimer + OsCpu + OsLog {
    /// Whose `errno` numbers the kernel uses.
    const ERRNO: Errno;

    // ---- heap ----

    /// As [`heap_alloc_zeroed`](OsHeap::heap_alloc_zeroed), but class I: never blocks, and fails rather soon.
    ///
    /// # Errors
    /// `VERR_NOT_SUPPORTED`: not on this system. `VERR_NO_MEMORY`.
    fn heap_alloc_any_context(&self, _layout: Layout) -> Result<NonNull<u8>> {
        Err(VERR_NOT_SUPPORTED)
    }

    /// Returns such memory. Class I.
    ///
    /// # Safety
    /// As for [`heap_free`](OsHeap::heap_free), for memory of [`heap_alloc_any_context`](Self::heap_alloc_any_context).
    unsafe fn heap_free_any_context(&self, ptr: NonNull<u8>, layout: Layout) {
        // SAFETY: conditions of the function.
        unsafe { self.heap_free(ptr, layout) };
    }

    // ---- memory objects and addresses ----

    /// Allocates one physically contiguous, zero-filled block that ends at or below `highest`, at a multiple of `align_bytes` (a power of two,
    /// at least a page). It needs no kernel mapping. Class T, may block.
    ///
    /// # Errors
    /// `VERR_NO_PHYS_MEMORY`, `VERR_NO_MEMORY`, `VERR_NOT_SUPPORTED`.
    fn mem_alloc_phys(&self, _size_bytes: usize, _highest: u64, _align_bytes: usize) -> Result<Self::MemObj> {
        Err(VERR_NOT_SUPPORTED)
    }

    /// Allocates zero-filled pages at or below `highest` each (all ones: anywhere), without a kernel mapping. Class T, may block.
    ///
    /// # Errors
    /// `VERR_NO_PHYS_MEMORY`, `VERR_NO_MEMORY`, `VERR_NOT_SUPPORTED`.
    fn mem_alloc_phys_nc(&self, size_bytes: usize, highest: u64) -> Result<Self::MemObj> {
        if highest != u64::MAX {
            return Err(VERR_NOT_SUPPORTED);
        }
        self.mem_alloc(AllocKind::Unmapped, size_bytes, MemProt::READ | MemProt::WRITE)
    }

    /// Makes an object of physical memory that exists already, memory or device. Class T.
    ///
    /// # Errors
    /// `VERR_ADDRESS_TOO_BIG`, `VERR_NO_MEMORY`, `VERR_NOT_SUPPORTED`.
    fn mem_enter_phys(&self, _phys: u64, _size_bytes: usize, _cache: CachePolicy) -> Result<Self::MemObj> {
        Err(VERR_NOT_SUPPORTED)
    }

    /// Copies from a kernel address that may be bad. Class D, doesn't fault or block.
    ///
    /// # Errors
    /// `VERR_ACCESS_DENIED`; `to` may then be partly written. `VERR_NOT_SUPPORTED`.
    fn kernel_copy_from(&self, _to: &mut [u8], _from: usize) -> Result<()> {
        Err(VERR_NOT_SUPPORTED)
    }

    /// Copies to a kernel address that may be bad. Class D, doesn't fault or block.
    ///
    /// # Errors
    /// As for [`kernel_copy_from`](Self::kernel_copy_from).
    fn kernel_copy_to(&self, _to: usize, _from: &[u8]) -> Result<()> {
        Err(VERR_NOT_SUPPORTED)
    }

    /// Whether the address lies where processes live; it says nothing about being mapped. Class I.
    fn is_user_address(&self, address: usize) -> bool {
        address.cast_signed() >= 0
    }

    /// Whether the address lies where the kernel lives; it says nothing about being mapped. Class I.
    fn is_kernel_address(&self, address: usize) -> bool {
        !self.is_user_address(address)
    }

    /// Whether the two ranges have nothing in common. Class I.
    fn kernel_and_user_differ(&self) -> bool {
        true
    }

    // ---- time and timers ----

    /// Nanoseconds since 1970-01-01 UTC. Class T.
    fn wall_clock_ns(&self) -> i64;

    /// Changes the period of a timer, not 0, running or not. Class T.
    ///
    /// # Errors
    /// `VERR_NOT_SUPPORTED`.
    fn timer_change_interval(&self, _timer: &Self::Timer, _interval_ns: u64) -> Result<()> {
        Err(VERR_NOT_SUPPORTED)
    }

    /// Whether the system grants finer ticks at all. Class I.
    fn timer_grants_granularity(&self) -> bool {
        false
    }

    /// Whether timers are finer than [`timer_granularity_ns`](OsTimer::timer_granularity_ns). Class I.
    fn timer_is_high_resolution(&self) -> bool {
        false
    }

    // ---- CPUs ----

    /// Interrupts a CPU without waiting; it exists and is on-line. Class D, interrupts on.
    ///
    /// # Errors
    /// `VERR_NOT_SUPPORTED`; `VERR_CPU_OFFLINE` if it went off-line in the meantime.
    fn mp_poke(&self, _cpu_id: u32) -> Result<()> {
        Err(VERR_NOT_SUPPORTED)
    }

    // ---- scheduling ----

    /// Sleeps for about `millis`, not 0. Class T.
    ///
    /// # Errors
    /// `VERR_INTERRUPTED` where sleeps are interruptible.
    fn sleep_interruptible_ms(&self, millis: u32) -> Result<()> {
        self.sleep_ms(millis);
        Ok(())
    }

    /// Whether preemption and interrupts are on and no spinlock is held. Class I.
    fn preempt_is_enabled(&self) -> bool;

    /// Whether the caller, who holds preemption off, should let go soon; false negatives unless
    /// [`preempt_is_pending_trusty`](Self::preempt_is_pending_trusty). Class I.
    fn preempt_is_pending(&self) -> bool {
        false
    }

    /// Whether [`preempt_is_pending`](Self::preempt_is_pending) never misses. Class I.
    fn preempt_is_pending_trusty(&self) -> bool {
        false
    }

    /// Whether the kernel preempts kernel code at all. Class I.
    fn preempt_is_possible(&self) -> bool {
        true
    }

    /// Whether the caller is in interrupt context, as the system sees it. Class I.
    fn is_in_interrupt(&self) -> bool;

    // ---- threads ----

    /// Starts a kernel thread. The driver stays loaded until `entry` has returned. A priority that can't be had is ignored. `name` is at most 15
    /// bytes long. Class T.
    ///
    /// # Errors
    /// `VERR_NOT_IMPLEMENTED` (no threads here), or the system's.
    ///
    /// # Safety
    /// `entry` may be called with `context` on another thread.
    unsafe fn thread_spawn(
        &self,
        _entry: ThreadEntry,
        _context: *mut c_void,
        _priority: ThreadPriority,
        _name: &CStr,
    ) -> Result<()> {
        Err(VERR_NOT_IMPLEMENTED)
    }

    /// Creates a preemption hook, disabled. Class T.
    ///
    /// # Errors
    /// `VERR_NOT_SUPPORTED`: callers then keep preemption off. `VERR_NO_MEMORY`.
    ///
    /// # Safety
    /// `callback` may be called with `context` until the hook is destroyed.
    unsafe fn preempt_hook_create(
        &self,
        _callback: PreemptCallback,
        _context: *mut c_void,
    ) -> Result<PreemptHook> {
        Err(VERR_NOT_SUPPORTED)
    }

    /// Enables a disabled hook for the calling thread. Class D.
    fn preempt_hook_enable(&self, _hook: PreemptHook) {}

    /// Disables an enabled hook; called by the thread that enabled it. Class D.
    fn preempt_hook_disable(&self, _hook: PreemptHook) {}

    /// Destroys a disabled hook. Class T.
    fn preempt_hook_destroy(&self, _hook: PreemptHook) {}

    // ---- the end ----

    /// Stops the machine, as the system does it when it is broken; after an assertion only. Class I. Doesn't return normally.
    fn panic_system(&self);
}
