//! The kernel's functions, variables and structures.
//!
//! Contracts are those of the kernel's section 9F manual pages, or of its sources for the private ones; what matters here is said at
//! each group.

use core::ffi::{c_char, c_int, c_long, c_uint, c_ulong, c_void};
use core::sync::atomic::AtomicU64;

macro_rules! kernel {
    ($($(#[$meta:meta])* $vis:vis $safety:ident fn $name:ident($($parameters:tt)*) $(-> $result:ty)?;)*) => {
        unsafe extern "C" {
            $(
                $(#[$meta])*
                #[cfg_attr(not(target_os = "none"), link_name = concat!("solaris_", stringify!($name)))]
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

/// Nanoseconds.
pub type Hrtime = i64;
/// Device number: major in the upper half.
pub type Dev = u64;
pub type Cookie = *mut Opaque;

/// `kmutex_t`.
#[repr(C)]
#[derive(Default)]
pub struct Kmutex(AtomicU64);

impl Kmutex {
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    pub fn get(&self) -> *mut Self {
        core::ptr::from_ref(self).cast_mut()
    }
}

/// `kcondvar_t`: two bytes, in a place of its own.
#[repr(C)]
#[derive(Default)]
pub struct Kcondvar(AtomicU64);

impl Kcondvar {
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    pub fn get(&self) -> *mut Self {
        core::ptr::from_ref(self).cast_mut()
    }
}

/// `cyc_handler_t`.
#[repr(C)]
pub struct CycHandler {
    pub function: unsafe extern "C" fn(*mut c_void),
    pub argument: *mut c_void,
    pub level: u16,
}

/// `cyc_time_t`.
#[repr(C)]
pub struct CycTime {
    pub when: Hrtime,
    pub interval: Hrtime,
}

/// `cyc_omni_handler_t`.
#[repr(C)]
pub struct CycOmniHandler {
    pub online: unsafe extern "C" fn(*mut c_void, *mut Opaque, *mut CycHandler, *mut CycTime),
    pub offline: unsafe extern "C" fn(*mut c_void, *mut Opaque, *mut c_void),
    pub argument: *mut c_void,
}

/// `ddi_dma_attr_t`.
#[repr(C)]
pub struct DmaAttr {
    pub version: c_uint,
    pub address_low: u64,
    pub address_high: u64,
    pub count_max: u64,
    pub align: u64,
    pub burst_sizes: c_uint,
    pub min_transfer: u32,
    pub max_transfer: u64,
    pub segment: u64,
    pub list_length: c_int,
    pub granularity: u32,
    pub flags: c_uint,
}

const _: () = assert!(size_of::<DmaAttr>() == 80);

/// `struct umem_callback_ops`.
#[repr(C)]
pub struct UmemCallbacks {
    pub version: c_int,
    pub cleanup: unsafe extern "C" fn(Cookie),
}

/// Time since 1970.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Timespec {
    pub seconds: i64,
    pub nanoseconds: c_long,
}

pub const KM_SLEEP: c_int = 0;
pub const KM_NOSLEEP: c_int = 1;
pub const MUTEX_SPIN: c_int = 1;
pub const MUTEX_DRIVER: c_int = 4;
pub const CV_DRIVER: c_int = 1;
/// The interrupt level of the dispatcher's lock: mutexes up to here are adaptive.
pub const LOCK_LEVEL: c_int = 10;
/// Nothing interrupts this level.
pub const PIL_MAX: c_int = 15;
pub const CALLOUT_FLAG_ABSOLUTE: c_int = 2;
pub const CY_LOCK_LEVEL: u16 = 1;
pub const CY_INFINITY: Hrtime = i64::MAX;
pub const CYCLIC_NONE: usize = 0;
pub const VM_SLEEP: c_int = 0;
pub const DDI_UMEM_SLEEP: c_int = 0;
pub const DDI_UMEM_NOSLEEP: c_int = 1;
pub const DDI_UMEMLOCK_READ: c_int = 1;
pub const DDI_UMEMLOCK_WRITE: c_int = 2;
pub const DDI_UMEMLOCK_LONGTERM: c_int = 4;
pub const UMEM_CALLBACK_VERSION: c_int = 1;
pub const UPROCP: c_uint = 2;
pub const CPU_ON: c_int = 3;
pub const CPU_OFF: c_int = 4;
pub const CE_CONT: c_int = 0;
pub const CE_PANIC: c_int = 3;

pub const DDI_SUCCESS: c_int = 0;
pub const DDI_FAILURE: c_int = -1;
pub const DDI_ATTACH: c_int = 0;
pub const DDI_DETACH: c_int = 0;
pub const DDI_RESUME: c_int = 1;
pub const DDI_SUSPEND: c_int = 1;
pub const DDI_DEV_T_NONE: Dev = u64::MAX;
pub const DDI_DEV_T_ANY: Dev = u64::MAX - 1;
pub const DDI_PROP_DONTPASS: c_uint = 1;
pub const OTYP_CHR: c_int = 2;
pub const S_IFCHR: c_int = 0x2000;
pub const FKIOCTL: c_int = 0x8000_0000_u32.cast_signed();
pub const DDI_MODEL_MASK: c_uint = 0x0ff0_0000;
pub const DDI_MODEL_ILP32: c_uint = 0x0010_0000;
pub const GLOBAL_ZONEID: c_int = 0;

pub const EPERM: c_int = 1;
pub const ENXIO: c_int = 6;
pub const ENOMEM: c_int = 12;
pub const EFAULT: c_int = 14;
pub const EBUSY: c_int = 16;
pub const EINVAL: c_int = 22;
pub const ENOTTY: c_int = 25;
pub const ENOLCK: c_int = 46;
pub const ENOTSUP: c_int = 48;
pub const EILSEQ: c_int = 88;
pub const ENOSYS: c_int = 89;

unsafe extern "C" {
    #[cfg_attr(not(target_os = "none"), link_name = "solaris_mod_driverops")]
    pub static mod_driverops: Opaque;
    #[cfg_attr(not(target_os = "none"), link_name = "solaris_ncpus")]
    pub static ncpus: c_int;
    #[cfg_attr(not(target_os = "none"), link_name = "solaris_max_cpuid")]
    pub safe static max_cpuid: c_int;
    #[cfg_attr(not(target_os = "none"), link_name = "solaris_cpu_lock")]
    pub static cpu_lock: Kmutex;
    #[cfg_attr(not(target_os = "none"), link_name = "solaris_nsec_per_tick")]
    pub safe static nsec_per_tick: c_int;
    #[cfg_attr(not(target_os = "none"), link_name = "solaris_heap_arena")]
    pub safe static heap_arena: *mut Opaque;
    #[cfg_attr(not(target_os = "none"), link_name = "solaris_heaptext_arena")]
    pub safe static heaptext_arena: *mut Opaque;
    #[cfg_attr(not(target_os = "none"), link_name = "solaris_p0")]
    pub static p0: Opaque;
    #[cfg_attr(not(target_os = "none"), link_name = "solaris_minclsyspri")]
    pub safe static minclsyspri: i16;
}

// Modules and devices. All may sleep.
kernel! {
    pub unsafe fn mod_install(linkage: *const c_void) -> c_int;
    pub unsafe fn mod_remove(linkage: *const c_void) -> c_int;
    pub unsafe fn mod_info(linkage: *const c_void, info: *mut Opaque) -> c_int;
    pub unsafe fn modgetsymvalue(name: *const c_char, kmem: c_int) -> usize;
    pub unsafe fn nulldev() -> c_int;
    pub unsafe fn nodev() -> c_int;
    pub unsafe fn nochpoll() -> c_int;
    pub unsafe fn ddi_prop_op() -> c_int;
    pub unsafe fn ddi_create_priv_minor_node(dip: *mut Opaque, name: *const c_char, kind: c_int, minor: u32, node_type: *const c_char, flag: c_int, read_privilege: *const c_char, write_privilege: *const c_char, mode: c_uint) -> c_int;
    pub unsafe fn ddi_remove_minor_node(dip: *mut Opaque, name: *const c_char);
    pub unsafe fn ddi_report_dev(dip: *mut Opaque);
    pub unsafe fn ddi_prop_update_string(dev: Dev, dip: *mut Opaque, name: *const c_char, value: *const c_char) -> c_int;
    pub unsafe fn ddi_prop_remove(dev: Dev, dip: *mut Opaque, name: *const c_char) -> c_int;
    pub unsafe fn ddi_prop_get_int(dev: Dev, dip: *mut Opaque, flags: c_uint, name: *const c_char, default: c_int) -> c_int;
    pub unsafe fn ddi_get_instance(dip: *mut Opaque) -> c_int;
    pub unsafe fn id_space_create(name: *const c_char, low: c_int, high: c_int) -> *mut Opaque;
    pub unsafe fn id_space_destroy(space: *mut Opaque);
    pub unsafe fn id_alloc_nosleep(space: *mut Opaque) -> c_int;
    pub unsafe fn id_free(space: *mut Opaque, id: c_int);
    pub safe fn getminor(dev: Dev) -> u32;
    pub safe fn getmajor(dev: Dev) -> u32;
    pub safe fn makedevice(major: u32, minor: u32) -> Dev;
    pub safe fn ddi_model_convert_from(model: c_uint) -> c_uint;
}

// Who is calling. Any context.
kernel! {
    pub unsafe fn crgetruid(cred: *const Opaque) -> u32;
    pub unsafe fn crgetrgid(cred: *const Opaque) -> u32;
    pub unsafe fn drv_priv(cred: *mut Opaque) -> c_int;
    pub safe fn getzoneid() -> c_int;
    pub safe fn ddi_get_pid() -> u32;
    pub unsafe fn drv_getparm(parameter: c_uint, value: *mut c_void) -> c_int;
}

// User memory: of the calling process. May sleep.
kernel! {
    pub unsafe fn ddi_copyin(user: *const c_void, kernel: *mut c_void, bytes: usize, mode: c_int) -> c_int;
    pub unsafe fn ddi_copyout(kernel: *const c_void, user: *mut c_void, bytes: usize, mode: c_int) -> c_int;
}

// Heap. KM_SLEEP may sleep; both take locks. Frees need the exact size.
kernel! {
    pub unsafe fn kmem_zalloc(bytes: usize, flags: c_int) -> *mut c_void;
    pub unsafe fn kmem_free(memory: *mut c_void, bytes: usize);
}

// Locks. A mutex with a cookie above LOCK_LEVEL spins, at that interrupt level.
kernel! {
    pub unsafe fn mutex_init(mutex: *mut Kmutex, name: *const c_char, kind: c_int, cookie: *mut c_void);
    pub unsafe fn mutex_destroy(mutex: *mut Kmutex);
    pub unsafe fn mutex_enter(mutex: *mut Kmutex);
    pub unsafe fn mutex_exit(mutex: *mut Kmutex);
    pub safe fn ipltospl(level: c_int) -> c_int;
    pub safe fn intr_clear() -> c_ulong;
    pub unsafe fn intr_restore(flags: c_ulong);
}

// Condition variables. Waits sleep; -1 is the end of the time, 0 a signal of the process.
kernel! {
    pub unsafe fn cv_init(condition: *mut Kcondvar, name: *const c_char, kind: c_int, argument: *mut c_void);
    pub unsafe fn cv_destroy(condition: *mut Kcondvar);
    pub unsafe fn cv_wait(condition: *mut Kcondvar, mutex: *mut Kmutex);
    pub unsafe fn cv_wait_sig(condition: *mut Kcondvar, mutex: *mut Kmutex) -> c_int;
    pub unsafe fn cv_signal(condition: *mut Kcondvar);
    pub unsafe fn cv_broadcast(condition: *mut Kcondvar);
    pub unsafe fn cv_timedwait_hires(condition: *mut Kcondvar, mutex: *mut Kmutex, time: Hrtime, resolution: Hrtime, flags: c_int) -> c_long;
    pub unsafe fn cv_timedwait_sig_hrtime(condition: *mut Kcondvar, mutex: *mut Kmutex, deadline: Hrtime) -> c_int;
}

// Clocks: any context. `delay` sleeps.
kernel! {
    pub safe fn gethrtime() -> Hrtime;
    pub unsafe fn gethrestime(time: *mut Timespec);
    pub safe fn drv_usectohz(microseconds: c_long) -> c_long;
    pub safe fn delay(ticks: c_long);
    pub safe fn delay_sig(ticks: c_long) -> c_int;
}

// Cyclics: under cpu_lock, never from a handler.
kernel! {
    pub unsafe fn cyclic_add(handler: *mut CycHandler, when: *mut CycTime) -> usize;
    pub unsafe fn cyclic_add_omni(handler: *mut CycOmniHandler) -> usize;
    pub unsafe fn cyclic_remove(cyclic: usize);
    pub unsafe fn cyclic_bind(cyclic: usize, cpu: *mut Opaque, partition: *mut Opaque);
}

// CPUs. The first three under cpu_lock.
kernel! {
    pub unsafe fn cpu_get(id: c_int) -> *mut Opaque;
    pub unsafe fn cpu_is_online(cpu: *mut Opaque) -> c_int;
    pub unsafe fn register_cpu_setup_func(function: unsafe extern "C" fn(c_int, c_int, *mut c_void) -> c_int, argument: *mut c_void);
    pub unsafe fn unregister_cpu_setup_func(function: unsafe extern "C" fn(c_int, c_int, *mut c_void) -> c_int, argument: *mut c_void);
    /// Interrupts on, below the level of cross calls; pinned by the caller.
    pub unsafe fn xc_call(first: usize, second: usize, third: usize, set: *mut c_ulong, function: unsafe extern "C" fn(usize, usize, usize) -> c_int);
    pub unsafe fn poke_cpu(id: c_int);
}

// Threads.
kernel! {
    pub unsafe fn thread_create(stack: *mut c_void, stack_bytes: usize, function: unsafe extern "C" fn(*mut c_void), argument: *mut c_void, length: usize, process: *const Opaque, state: c_int, priority: i16) -> *mut Opaque;
    pub safe fn thread_exit() -> !;
}

// Memory. All may sleep.
kernel! {
    pub unsafe fn ddi_umem_alloc(bytes: usize, flags: c_int, cookie: *mut Cookie) -> *mut c_void;
    pub unsafe fn ddi_umem_free(cookie: Cookie);
    pub unsafe fn umem_lockmemory(address: *mut c_void, bytes: usize, flags: c_int, cookie: *mut Cookie, callbacks: *const UmemCallbacks, process: *mut Opaque) -> c_int;
    pub unsafe fn ddi_umem_unlock(cookie: Cookie);
    pub unsafe fn contig_alloc(bytes: usize, attributes: *mut DmaAttr, align: usize, can_sleep: c_int) -> *mut c_void;
    pub unsafe fn contig_free(memory: *mut c_void, bytes: usize);
    pub unsafe fn vmem_alloc(arena: *mut Opaque, bytes: usize, flags: c_int) -> *mut c_void;
    pub unsafe fn vmem_free(arena: *mut Opaque, memory: *mut c_void, bytes: usize);
    pub unsafe fn segkmem_alloc(arena: *mut Opaque, bytes: usize, flags: c_int) -> *mut c_void;
    pub unsafe fn segkmem_free(arena: *mut Opaque, memory: *mut c_void, bytes: usize);
}

// Output. Any context.
kernel! {
    pub unsafe fn cmn_err(level: c_int, format: *const c_char, ...);
}
