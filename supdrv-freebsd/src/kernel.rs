//! The kernel's functions and variables that have the same shape in all supported releases.
//!
//! Contracts are those of the kernel's section 9 manual pages; what matters here is said at each group.

use core::ffi::{c_char, c_int, c_long, c_uint, c_ulong, c_void};

macro_rules! kernel {
    ($($(#[$meta:meta])* $vis:vis $safety:ident fn $name:ident($($parameters:tt)*) $(-> $result:ty)?;)*) => {
        unsafe extern "C" {
            $(
                $(#[$meta])*
                #[cfg_attr(not(target_os = "none"), link_name = concat!("freebsd_", stringify!($name)))]
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

/// `struct malloc_type`.
pub type MallocType = Opaque;

/// Time since boot or since 1970.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Timespec {
    pub seconds: i64,
    pub nanoseconds: c_long,
}

impl Timespec {
    /// None.
    pub const ZERO: Self = Self { seconds: 0, nanoseconds: 0 };
}

/// Fixed point seconds: 2^-32 s.
pub type Sbintime = i64;

pub const M_NOWAIT: c_int = 1;
pub const M_WAITOK: c_int = 2;
pub const M_ZERO: c_int = 0x100;
pub const MTX_SPIN: c_int = 1;
pub const MTX_NOWITNESS: c_int = 8;
pub const SX_DUPOK: c_int = 1;
pub const SLEEPQ_CONDVAR: c_int = 1;
pub const SLEEPQ_INTERRUPTIBLE: c_int = 0x100;
pub const C_DIRECT_EXEC: c_int = 1;
pub const C_ABSOLUTE: c_int = 0x200;
pub const PRI_USER: c_int = -2;
pub const VM_PROT_ALL: c_int = 7;
pub const VMFS_ANY_SPACE: c_int = 1;
pub const MAP_DISABLE_COREDUMP: c_int = 0x100;
pub const VM_INHERIT_NONE: c_int = 2;
pub const VM_MAP_WIRE_SYSTEM: c_int = 0;
pub const VM_MAP_WIRE_HOLESOK: c_int = 2;
pub const VM_MAP_WIRE_WRITE: c_int = 4;

pub const EPERM: c_int = 1;
pub const ENXIO: c_int = 6;
pub const EBUSY: c_int = 16;
pub const EINVAL: c_int = 22;
pub const ENOTTY: c_int = 25;
pub const EWOULDBLOCK: c_int = 35;
pub const EOPNOTSUPP: c_int = 45;
pub const ENOLCK: c_int = 77;
pub const ENOSYS: c_int = 78;
pub const EILSEQ: c_int = 86;

unsafe extern "C" {
    /// Ticks in a second.
    #[cfg_attr(not(target_os = "none"), link_name = "freebsd_hz")]
    pub safe static hz: c_int;
    /// Highest CPU id.
    #[cfg_attr(not(target_os = "none"), link_name = "freebsd_mp_maxid")]
    pub safe static mp_maxid: c_uint;
    /// Number of CPUs.
    #[cfg_attr(not(target_os = "none"), link_name = "freebsd_mp_ncpus")]
    pub safe static mp_ncpus: c_int;
    /// Frequency of the TSC, 0 if the kernel doesn't use it.
    #[cfg_attr(not(target_os = "none"), link_name = "freebsd_tsc_freq")]
    pub safe static tsc_freq: u64;
}

// Devices and user memory. All may sleep.
kernel! {
    pub unsafe fn destroy_dev(node: *mut Opaque);
    pub unsafe fn devfs_set_cdevpriv(private: *mut c_void, destructor: unsafe extern "C" fn(*mut c_void)) -> c_int;
    pub unsafe fn devfs_get_cdevpriv(private: *mut *mut c_void) -> c_int;
    pub unsafe fn copyin(user: *const c_void, kernel: *mut c_void, bytes: usize) -> c_int;
    pub unsafe fn copyout(kernel: *const c_void, user: *mut c_void, bytes: usize) -> c_int;
    pub unsafe fn eventhandler_register(list: *mut Opaque, name: *const c_char, function: unsafe extern "C" fn(*mut c_void), argument: *mut c_void, priority: c_int) -> *mut Opaque;
    pub unsafe fn eventhandler_deregister(list: *mut Opaque, tag: *mut Opaque);
    pub unsafe fn eventhandler_find_list(name: *const c_char) -> *mut Opaque;
}

// Heap. With M_WAITOK it may sleep; with M_NOWAIT it still takes sleepable locks.
kernel! {
    pub unsafe fn malloc(bytes: usize, kind: *mut MallocType, flags: c_int) -> *mut c_void;
    pub unsafe fn free(memory: *mut c_void, kind: *mut MallocType);
}

// Locks. `lock` points to the lock word, which is inside of the mutex.
kernel! {
    pub unsafe fn _mtx_init(lock: *mut usize, name: *const c_char, kind: *const c_char, options: c_int);
    pub unsafe fn _mtx_destroy(lock: *mut usize);
    pub unsafe fn __mtx_lock_spin_flags(lock: *mut usize, options: c_int, file: *const c_char, line: c_int);
    pub unsafe fn __mtx_unlock_spin_flags(lock: *mut usize, options: c_int, file: *const c_char, line: c_int);
    pub unsafe fn sx_init_flags(sx: *mut c_void, name: *const c_char, options: c_int);
    pub unsafe fn sx_destroy(sx: *mut c_void);
    pub unsafe fn _sx_xlock(sx: *mut c_void, options: c_int, file: *const c_char, line: c_int) -> c_int;
    pub unsafe fn _sx_xunlock(sx: *mut c_void, file: *const c_char, line: c_int);
}

// Sleep queues: only spin locks are taken; the four waits sleep, are entered with the queue locked and leave it unlocked.
kernel! {
    pub unsafe fn sleepq_lock(channel: *const c_void);
    pub unsafe fn sleepq_release(channel: *const c_void);
    pub unsafe fn sleepq_add(channel: *const c_void, lock: *mut Opaque, message: *const c_char, flags: c_int, queue: c_int);
    pub unsafe fn sleepq_set_timeout_sbt(channel: *const c_void, deadline: Sbintime, precision: Sbintime, flags: c_int);
    pub unsafe fn sleepq_wait(channel: *const c_void, priority: c_int);
    pub unsafe fn sleepq_wait_sig(channel: *const c_void, priority: c_int) -> c_int;
    pub unsafe fn sleepq_timedwait(channel: *const c_void, priority: c_int) -> c_int;
    pub unsafe fn sleepq_timedwait_sig(channel: *const c_void, priority: c_int) -> c_int;
    pub unsafe fn pause_sbt(message: *const c_char, time: Sbintime, precision: Sbintime, flags: c_int) -> c_int;
    pub safe fn kern_yield(priority: c_int);
}

// Timers and clocks. Any context.
kernel! {
    pub unsafe fn callout_init(callout: *mut c_void, mpsafe: c_int);
    pub unsafe fn callout_reset_sbt_on(callout: *mut c_void, deadline: Sbintime, precision: Sbintime, function: unsafe extern "C" fn(*mut c_void), argument: *mut c_void, cpu: c_int, flags: c_int) -> c_int;
    pub unsafe fn nanouptime(time: *mut Timespec);
    pub unsafe fn nanotime(time: *mut Timespec);
}

// CPUs and threads. The rendezvous needs interrupts on and no spin lock held.
kernel! {
    pub unsafe fn smp_rendezvous(setup: unsafe extern "C" fn(*mut c_void), action: unsafe extern "C" fn(*mut c_void), teardown: unsafe extern "C" fn(*mut c_void), argument: *mut c_void);
    pub unsafe fn smp_no_rendezvous_barrier(argument: *mut c_void);
    pub safe fn critical_enter_KBI();
    pub safe fn critical_exit_KBI();
    pub unsafe fn kthread_add(function: unsafe extern "C" fn(*mut c_void), argument: *mut c_void, process: *mut Opaque, thread: *mut *mut Opaque, flags: c_int, pages: c_int, format: *const c_char, ...) -> c_int;
    pub safe fn kthread_exit() -> !;
}

// Virtual memory. All may sleep, but the two of pmap that enter and remove.
kernel! {
    pub safe fn kva_alloc(bytes: usize) -> usize;
    pub unsafe fn kva_free(address: usize, bytes: usize);
    pub unsafe fn pmap_qenter(address: usize, pages: *const *mut Opaque, count: c_int);
    pub unsafe fn pmap_qremove(address: usize, count: c_int);
    pub unsafe fn vm_object_reference(object: *mut Opaque);
    pub unsafe fn vm_object_deallocate(object: *mut Opaque);
    pub unsafe fn vm_map_find(map: *mut Opaque, object: *mut Opaque, offset: i64, address: *mut usize, bytes: usize, max_address: usize, find_space: c_int, protection: c_int, max_protection: c_int, flags: c_int) -> c_int;
    pub unsafe fn vm_map_remove(map: *mut Opaque, start: usize, end: usize) -> c_int;
    pub unsafe fn vm_map_inherit(map: *mut Opaque, start: usize, end: usize, inheritance: c_int) -> c_int;
    pub unsafe fn vm_map_wire(map: *mut Opaque, start: usize, end: usize, flags: c_int) -> c_int;
    pub unsafe fn vm_map_unwire(map: *mut Opaque, start: usize, end: usize, flags: c_int) -> c_int;
    pub unsafe fn vm_fault_quick_hold_pages(map: *mut Opaque, address: usize, bytes: usize, protection: c_int, pages: *mut *mut Opaque, max_count: c_int) -> c_int;
    pub unsafe fn vm_page_unhold_pages(pages: *mut *mut Opaque, count: c_int);
}

// Output.
kernel! {
    /// `last` is a `struct timeval`, which looks the same. Whether another event of this second is within the limit.
    pub unsafe fn ppsratecheck(last: *mut Timespec, events: *mut c_int, most: c_int) -> c_int;
    pub unsafe fn printf(format: *const c_char, ...) -> c_int;
    pub unsafe fn panic(format: *const c_char, ...) -> !;
}

/// Codes of ioctl, of which 32 bits count.
pub type IoctlCode = c_ulong;
