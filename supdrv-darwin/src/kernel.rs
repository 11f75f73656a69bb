//! The kernel's functions and variables, all of them in the programming interfaces that kernel extensions may link against.
//!
//! Contracts are those of the kernel's headers; what matters here is said at each group.

use core::ffi::{c_char, c_int, c_uint, c_ulong, c_void};

macro_rules! kernel {
    ($($(#[$meta:meta])* $vis:vis $safety:ident fn $name:ident($($parameters:tt)*) $(-> $result:ty)?;)*) => {
        unsafe extern "C" {
            $(
                $(#[$meta])*
                #[cfg_attr(not(target_os = "macos"), link_name = concat!("darwin_", stringify!($name)))]
                $vis $safety fn $name($($parameters)*) $(-> $result)?;
            )*
        }
    };
}

/// A structure of the kernel that is only pointed to.
#[repr(C)]
pub struct Opaque {
    _bytes: [u8; 0],
}

/// An entry of a device switch that takes no part: called with any arguments.
pub type NoEntry = unsafe extern "C" fn() -> c_int;
/// A number of a device: the major one in the upper 8 bits, the minor one in the lower 24.
pub type Dev = c_int;

/// `struct cdevsw`.
#[repr(C)]
pub struct Cdevsw {
    pub open: unsafe extern "C" fn(Dev, c_int, c_int, *mut Opaque) -> c_int,
    pub close: unsafe extern "C" fn(Dev, c_int, c_int, *mut Opaque) -> c_int,
    pub read: NoEntry,
    pub write: NoEntry,
    pub ioctl: unsafe extern "C" fn(Dev, c_ulong, *mut u8, c_int, *mut Opaque) -> c_int,
    pub stop: NoEntry,
    pub reset: NoEntry,
    /// No terminals.
    pub ttys: usize,
    pub select: NoEntry,
    pub mmap: NoEntry,
    pub strategy: unsafe extern "C" fn(),
    pub reserved: [NoEntry; 2],
    pub kind: c_int,
}

/// `IOServiceInterestHandler`: target, reference, message, provider, argument, size of the argument.
pub type SleepHandler =
    unsafe extern "C" fn(*mut c_void, *mut c_void, u32, *mut Opaque, *mut c_void, usize) -> u32;

pub const KERN_SUCCESS: c_int = 0;
pub const KERN_INVALID_ADDRESS: c_int = 1;
pub const KERN_PROTECTION_FAILURE: c_int = 2;
pub const KERN_NO_SPACE: c_int = 3;
pub const KERN_INVALID_ARGUMENT: c_int = 4;

pub const THREAD_UNINT: c_int = 0;
pub const THREAD_ABORTSAFE: c_int = 2;
pub const THREAD_WAITING: c_int = -1;
pub const THREAD_AWAKENED: c_int = 0;
pub const THREAD_INTERRUPTED: c_int = 2;
pub const THREAD_PRECEDENCE_POLICY: c_int = 3;

pub const DEVFS_CHAR: c_int = 0;

pub const EIO: c_int = 5;
pub const ENXIO: c_int = 6;
pub const EACCES: c_int = 13;
pub const EINVAL: c_int = 22;
pub const EOPNOTSUPP: c_int = 45;
pub const ENOLCK: c_int = 77;
pub const ENOSYS: c_int = 78;
pub const EILSEQ: c_int = 92;

unsafe extern "C" {
    /// Darwin's major version: 10 for the first one with 64 bits.
    #[cfg_attr(not(target_os = "macos"), link_name = "darwin_version_major")]
    pub safe static version_major: c_int;
    /// The task of the kernel.
    #[cfg_attr(not(target_os = "macos"), link_name = "darwin_kernel_task")]
    pub safe static kernel_task: *mut Opaque;
    /// Its address space.
    #[cfg_attr(not(target_os = "macos"), link_name = "darwin_kernel_map")]
    pub safe static kernel_map: *mut Opaque;
}

// Devices, power. All may sleep.
kernel! {
    pub unsafe fn cdevsw_add(major: c_int, switch: *const Cdevsw) -> c_int;
    pub unsafe fn cdevsw_remove(major: c_int, switch: *const Cdevsw) -> c_int;
    pub unsafe fn devfs_make_node(dev: Dev, kind: c_int, uid: u32, gid: u32, mode: c_int, format: *const c_char, ...) -> *mut c_void;
    pub unsafe fn devfs_remove(node: *mut c_void);
    pub unsafe fn enodev() -> c_int;
    pub unsafe fn enodev_strat();
    pub unsafe fn registerPrioritySleepWakeInterest(handler: SleepHandler, target: *mut c_void, reference: *mut c_void) -> *mut c_void;
    pub unsafe fn sysctlbyname(name: *const c_char, old: *mut c_void, old_bytes: *mut usize, new: *mut c_void, new_bytes: usize) -> c_int;
}

// Processes: any context. Credentials and copies may sleep.
kernel! {
    pub unsafe fn proc_pid(process: *mut Opaque) -> c_int;
    pub safe fn proc_selfpid() -> c_int;
    pub unsafe fn proc_is64bit(process: *mut Opaque) -> c_int;
    pub safe fn current_task() -> *mut Opaque;
    pub safe fn current_thread() -> *mut Opaque;
    pub unsafe fn get_task_map(task: *mut Opaque) -> *mut Opaque;
    pub unsafe fn kauth_cred_proc_ref(process: *mut Opaque) -> *mut Opaque;
    pub unsafe fn kauth_cred_unref(credential: *mut *mut Opaque);
    pub unsafe fn kauth_cred_getruid(credential: *mut Opaque) -> u32;
    pub unsafe fn kauth_cred_getrgid(credential: *mut Opaque) -> u32;
    pub safe fn kauth_getruid() -> u32;
    pub unsafe fn copyin(user: u64, kernel: *mut c_void, bytes: usize) -> c_int;
    pub unsafe fn copyout(kernel: *const c_void, user: u64, bytes: usize) -> c_int;
}

// Heap and address spaces. All may sleep.
kernel! {
    pub unsafe fn IOMalloc(bytes: usize) -> *mut c_void;
    pub unsafe fn IOFree(memory: *mut c_void, bytes: usize);
    pub unsafe fn IOMallocAligned(bytes: usize, align: usize) -> *mut c_void;
    pub unsafe fn IOFreeAligned(memory: *mut c_void, bytes: usize);
    pub unsafe fn vm_protect(map: *mut Opaque, address: usize, bytes: usize, set_maximum: c_int, protection: c_int) -> c_int;
}

// Locks. Making, freeing and taking mutexes may sleep; spin locks turn preemption off.
kernel! {
    pub unsafe fn lck_grp_alloc_init(name: *const c_char, attributes: *mut Opaque) -> *mut Opaque;
    pub unsafe fn lck_grp_free(group: *mut Opaque);
    pub unsafe fn lck_spin_alloc_init(group: *mut Opaque, attributes: *mut Opaque) -> *mut Opaque;
    pub unsafe fn lck_spin_free(lock: *mut Opaque, group: *mut Opaque);
    pub unsafe fn lck_spin_lock(lock: *mut Opaque);
    pub unsafe fn lck_spin_unlock(lock: *mut Opaque);
    pub unsafe fn lck_mtx_alloc_init(group: *mut Opaque, attributes: *mut Opaque) -> *mut Opaque;
    pub unsafe fn lck_mtx_free(lock: *mut Opaque, group: *mut Opaque);
    pub unsafe fn lck_mtx_lock(lock: *mut Opaque);
    pub unsafe fn lck_mtx_unlock(lock: *mut Opaque);
}

// Waits. Only `thread_block` and `IOSleep` sleep; the others are for any context, but a wait is asserted by a thread.
kernel! {
    pub unsafe fn assert_wait(event: *const c_void, how: c_int) -> c_int;
    pub unsafe fn assert_wait_deadline(event: *const c_void, how: c_int, deadline: u64) -> c_int;
    pub unsafe fn thread_block(continuation: *const c_void) -> c_int;
    pub unsafe fn thread_wakeup_prim(event: *const c_void, one: c_int, result: c_int) -> c_int;
    pub safe fn IOSleep(milliseconds: c_uint);
}

// Clocks, and timers: calls of a function by a thread of the kernel. Any context but where memory is had or given back.
kernel! {
    pub safe fn mach_absolute_time() -> u64;
    pub unsafe fn absolutetime_to_nanoseconds(time: u64, nanoseconds: *mut u64);
    pub unsafe fn nanoseconds_to_absolutetime(nanoseconds: u64, time: *mut u64);
    pub unsafe fn clock_get_calendar_nanotime(seconds: *mut c_ulong, nanoseconds: *mut c_uint);
    pub unsafe fn thread_call_allocate(function: unsafe extern "C" fn(*mut c_void, *mut c_void), argument: *mut c_void) -> *mut Opaque;
    pub unsafe fn thread_call_enter1_delayed(call: *mut Opaque, argument: *mut c_void, deadline: u64) -> c_int;
    pub unsafe fn thread_call_cancel(call: *mut Opaque) -> c_int;
    pub unsafe fn thread_call_free(call: *mut Opaque) -> c_int;
}

// CPUs: any context, but the rendezvous needs interrupts on and no spin lock held. VT-x may sleep.
kernel! {
    pub safe fn cpu_number() -> c_int;
    pub safe fn preemption_enabled() -> c_int;
    pub safe fn ml_get_interrupts_enabled() -> c_int;
    pub safe fn ml_set_interrupts_enabled(enable: c_int) -> c_int;
    pub safe fn ml_at_interrupt_context() -> c_int;
    pub unsafe fn mp_rendezvous_no_intrs(action: unsafe extern "C" fn(*mut c_void), argument: *mut c_void);
    pub safe fn host_vmxon(exclusive: c_int) -> c_int;
    pub safe fn host_vmxoff();
}

// Threads. All may sleep.
kernel! {
    pub unsafe fn kernel_thread_start(function: unsafe extern "C" fn(*mut c_void, c_int), argument: *mut c_void, thread: *mut *mut Opaque) -> c_int;
    pub unsafe fn thread_deallocate(thread: *mut Opaque);
    pub unsafe fn thread_policy_set(thread: *mut Opaque, flavor: c_int, policy: *mut c_int, words: c_uint) -> c_int;
    /// Doesn't return for the current thread.
    pub unsafe fn thread_terminate(thread: *mut Opaque) -> c_int;
}

// Output; no spin lock held.
kernel! {
    pub unsafe fn printf(format: *const c_char, ...) -> c_int;
    pub unsafe fn panic(format: *const c_char, ...) -> !;
}
