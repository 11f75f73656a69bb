//! The 32-bit services of the kernel (KEE), imported by ordinal.
//!
//! An `APIRET` is 0 or an error. What is an `ULONG` but holds an address is a `usize` here: tests run with 64-bit addresses too.

use core::ffi::c_void;

macro_rules! kernel {
    ($($(#[$meta:meta])* $vis:vis fn $name:ident($($parameters:tt)*) $(-> $result:ty)?;)*) => {
        #[allow(non_snake_case, reason = "the kernel's names")]
        unsafe extern "C" {
            $(
                $(#[$meta])*
                #[cfg_attr(not(target_os = "none"), link_name = concat!("os2_", stringify!($name)))]
                $vis fn $name($($parameters)*) $(-> $result)?;
            )*
        }
    };
}

/// Variables of the kernel, as functions that return their addresses. A fake kernel has such functions itself: what is a variable to this
/// kernel, which changes it with the thread, can't be one in a process.
macro_rules! variables {
    ($($(#[$meta:meta])* $function:ident: $name:ident: $type:ty;)*) => {
        $(
            $(#[$meta])*
            pub fn $function() -> *const $type {
                #[cfg(target_os = "none")]
                {
                    unsafe extern "C" {
                        static $name: $type;
                    }
                    &raw const $name
                }
                #[cfg(not(target_os = "none"))]
                {
                    unsafe extern "C" {
                        #[link_name = concat!("os2_", stringify!($name))]
                        fn address() -> *const $type;
                    }
                    // SAFETY: it only tells where the variable is.
                    unsafe { address() }
                }
            }
        )*
    };
}

/// A spinlock of the kernel: 4 bytes.
pub type SpinWord = usize;
/// A mutex of the kernel: 8 bytes.
pub type MutexWords = [usize; 2];

/// `KernPageList_t`: a physically contiguous run of pages.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct PageRun {
    pub phys: u32,
    pub bytes: u32,
}

/// `KernVMLock_t`.
pub type LockHandle = [u32; 3];

/// The global info segment, as far as it is used.
#[repr(C)]
#[derive(Debug, Default)]
pub struct GlobalInfo {
    /// Since 1970, in local time.
    pub seconds: u32,
    /// Since boot.
    pub milliseconds: u32,
    pub hour: u8,
    pub minute: u8,
    pub second: u8,
    pub hundredths: u8,
    /// Minutes west of UTC; -1 is unknown.
    pub time_zone: i16,
}

/// The local info segment, as far as it is used.
#[repr(C)]
#[derive(Debug, Default)]
pub struct LocalInfo {
    pub pid: u16,
    pub parent_pid: u16,
    pub priority: u16,
    pub tid: u16,
}

pub const ERROR_INTERRUPT: u32 = 95;
/// The range is a fixed mapping already.
pub const ERROR_UVIRTLOCK: u32 = 32801;

/// KernBlock and KernWakeup.
pub const BLOCK_UNINTERRUPTIBLE: u32 = 1;
pub const BLOCK_SPINLOCK: u32 = 2;
pub const WAKEUP_ONE: u32 = 1;
pub const WAKEUP_BOOST: u32 = 4;
/// A timeout without end.
pub const FOR_EVER: u32 = u32::MAX;

/// KernVMAlloc.
pub const VMDHA_16M: u32 = 1;
pub const VMDHA_FIXED: u32 = 2;
pub const VMDHA_CONTIG: u32 = 8;
pub const VMDHA_PHYS: u32 = 0x10;
/// Of the physical address: nobody wants to know.
pub const ANY_PHYS: *mut *mut c_void = core::ptr::without_provenance_mut(usize::MAX);

/// KernVMLock.
pub const VMDHL_WRITE: u32 = 8;
pub const VMDHL_LONG: u32 = 0x10;

// Locks. Spinlocks: any context; interrupts are off while one is held, and may be on after the release. Mutexes: task time.
kernel! {
    pub fn KernAllocSpinLock(lock: *mut SpinWord);
    pub fn KernFreeSpinLock(lock: *mut SpinWord);
    pub fn KernAcquireSpinLock(lock: *mut SpinWord);
    pub fn KernReleaseSpinLock(lock: *mut SpinWord);
    pub fn KernAllocMutexLock(lock: *mut MutexWords);
    pub fn KernFreeMutexLock(lock: *mut MutexWords);
    pub fn KernRequestExclusiveMutex(lock: *mut MutexWords);
    pub fn KernReleaseExclusiveMutex(lock: *mut MutexWords);
}

// Sleeping. A block needs task time, and no lock but the named one, which is held again afterwards; a wake-up is for any context.
kernel! {
    pub fn KernBlock(id: usize, timeout_ms: u32, flags: u32, lock: *mut SpinWord, data: *mut u32) -> u32;
    pub fn KernWakeup(id: usize, flags: u32, count: *mut u32, data: u32) -> u32;
}

// Memory. Task time, no spinlock.
kernel! {
    pub fn KernCopyIn(to: *mut c_void, user: *const c_void, bytes: usize) -> u32;
    pub fn KernCopyOut(user: *mut c_void, from: *const c_void, bytes: usize) -> u32;
    pub fn KernVMAlloc(bytes: usize, flags: u32, linear: *mut *mut c_void, phys: *mut *mut c_void, reserved: *mut *mut c_void) -> u32;
    pub fn KernVMFree(linear: *mut c_void) -> u32;
    pub fn KernVMLock(flags: u32, linear: *mut c_void, bytes: usize, lock: *mut LockHandle, list: *mut PageRun, count: *mut u32) -> u32;
    pub fn KernVMUnlock(lock: *mut LockHandle) -> u32;
    pub fn KernLinToPageList(linear: *mut c_void, bytes: usize, list: *mut PageRun, count: *mut u32) -> u32;
}

variables! {
    /// Time.
    global_info: KernSISData: GlobalInfo;
    /// The current process and thread.
    local_info: KernLISData: LocalInfo;
    /// -1 at task time.
    interrupt_level: KernInterruptLevel: i32;
}
