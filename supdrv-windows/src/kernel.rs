//! What is known about the running kernel: its version, and the routines that not every version has.
//!
//! Everything is found out once, by [`init`] at load time, and only read afterwards.

use core::ffi::c_void;
use core::sync::atomic::{AtomicU8, AtomicU32, AtomicUsize, Ordering};

use crate::nt::sys::{self, DpcRoutine};
use crate::nt::{GroupAffinity, Mdl, NtStatus, ProcessorChange, ProcessorNumber, UnicodeString, VersionInfo};
use crate::unicode;

/// A cross-call worker of the kernel's.
pub type IpiWorker = unsafe extern "system" fn(usize) -> usize;
/// Called when a high-resolution timer is due: the timer, and the context. At DISPATCH.
pub type FineCallback = unsafe extern "system" fn(*mut c_void, *mut c_void);
/// A processor-change callback: context, change, status of the operation (may be null).
pub type ProcessorCallback = unsafe extern "system" fn(*mut c_void, *const ProcessorChange, *mut NtStatus);

macro_rules! routines {
    ($($(#[$doc:meta])* $name:ident: $symbol:literal ($($argument:ty),*) -> $result:ty;)*) => {
        /// Routines that the kernel may have.
        #[derive(Default)]
        struct Routines {
            $($name: AtomicUsize,)*
        }

        impl Routines {
            const fn none() -> Self {
                Self { $($name: AtomicUsize::new(0),)* }
            }

            fn resolve(&self) {
                $(self.$name.store(lookup(unicode!($symbol)), Ordering::Relaxed);)*
            }
        }

        $($(#[$doc])*
        #[must_use]
        pub fn $name() -> Option<unsafe extern "system" fn($($argument),*) -> $result> {
            let address = ROUTINES.$name.load(Ordering::Relaxed);
            // SAFETY: the kernel said that the routine with this name, which has this prototype, is at that address.
            (address != 0).then(|| unsafe { core::mem::transmute(address) })
        }

        )*
        /// Names of all routines that are looked up.
        pub const LOOKED_UP: &[&str] = &[$($symbol,)* WINE];
    };
}

routines! {
    /// Runs a function on all processors at once, interrupts off. IRQL below IPI level.
    ke_ipi_generic_call: "KeIpiGenericCall" (IpiWorker, usize) -> usize;
    /// Runs a DPC on every processor and waits. Below DISPATCH.
    ke_generic_call_dpc: "KeGenericCallDpc" (DpcRoutine, *mut c_void) -> ();
    /// Ends the part of one processor in [`ke_generic_call_dpc`].
    ke_signal_call_dpc_done: "KeSignalCallDpcDone" (*mut c_void) -> ();
    /// Notifications of new processors.
    ke_register_processor_change_callback: "KeRegisterProcessorChangeCallback" (ProcessorCallback, *mut c_void, u32) -> *mut c_void;
    /// Ends them and waits for running ones.
    ke_deregister_processor_change_callback: "KeDeregisterProcessorChangeCallback" (*mut c_void) -> ();
    /// Index of the current processor, over all groups.
    ke_get_current_processor_number_ex: "KeGetCurrentProcessorNumberEx" (*mut ProcessorNumber) -> u32;
    /// Group and number of an index.
    ke_get_processor_number_from_index: "KeGetProcessorNumberFromIndex" (u32, *mut ProcessorNumber) -> NtStatus;
    /// How many processors there can be; group 0xffff is all.
    ke_query_maximum_processor_count_ex: "KeQueryMaximumProcessorCountEx" (u16) -> u32;
    /// How many processors there are; group 0xffff is all.
    ke_query_active_processor_count_ex: "KeQueryActiveProcessorCountEx" (u16) -> u32;
    /// Where a DPC runs, over all groups.
    ke_set_target_processor_dpc_ex: "KeSetTargetProcessorDpcEx" (*mut crate::nt::KDpc, *const ProcessorNumber) -> NtStatus;
    /// Moves the thread, over all groups.
    ke_set_system_group_affinity_thread: "KeSetSystemGroupAffinityThread" (*const GroupAffinity, *mut GroupAffinity) -> ();
    /// Moves it back.
    ke_revert_to_user_group_affinity_thread: "KeRevertToUserGroupAffinityThread" (*const GroupAffinity) -> ();
    /// Moves the thread within its group.
    ke_set_system_affinity_thread_ex: "KeSetSystemAffinityThreadEx" (usize) -> usize;
    /// Moves it back.
    ke_revert_to_user_affinity_thread_ex: "KeRevertToUserAffinityThreadEx" (usize) -> ();
    /// Allocates pages with flags.
    mm_allocate_pages_for_mdl_ex: "MmAllocatePagesForMdlEx" (u64, u64, u64, usize, u32, u32) -> *mut Mdl;
    /// Changes the protection of a kernel mapping.
    mm_protect_mdl_system_address: "MmProtectMdlSystemAddress" (*mut Mdl, u32) -> NtStatus;
    /// Copies from addresses that may be bad.
    mm_copy_memory: "MmCopyMemory" (*mut c_void, usize, usize, u32, *mut usize) -> NtStatus;
    /// The current timer resolution.
    ex_query_timer_resolution: "ExQueryTimerResolution" (*mut u32, *mut u32, *mut u32) -> ();
    /// Makes a timer, with attributes. At most DISPATCH.
    ex_allocate_timer: "ExAllocateTimer" (FineCallback, *mut c_void, u32) -> *mut c_void;
    /// Arms it: due time, period, parameters. At most DISPATCH.
    ex_set_timer: "ExSetTimer" (*mut c_void, i64, i64, *mut c_void) -> u8;
    /// Disarms it. At most DISPATCH.
    ex_cancel_timer: "ExCancelTimer" (*mut c_void, *mut c_void) -> u8;
    /// Frees it; may cancel it, and wait for its callback. At most APC if it waits.
    ex_delete_timer: "ExDeleteTimer" (*mut c_void, u8, u8, *mut c_void) -> u8;
    /// The interrupt time with a finer grain.
    ke_query_interrupt_time_precise: "KeQueryInterruptTimePrecise" (*mut u64) -> u64;
    /// Whether the scheduler wants this processor.
    ke_should_yield_processor: "KeShouldYieldProcessor" () -> u8;
    /// Waits for DPCs that are queued or running on any processor. PASSIVE.
    ke_flush_queued_dpcs: "KeFlushQueuedDpcs" () -> ();
}

/// Wine's kernel host has a routine by this name, and no other kernel.
const WINE: &str = "wine_ntoskrnl_main_loop";

static ROUTINES: Routines = Routines::none();
static VERSION: AtomicU32 = AtomicU32::new(0);
static EMULATED: AtomicU8 = AtomicU8::new(0);

fn lookup(name: &UnicodeString) -> usize {
    // SAFETY: PASSIVE (condition of `init`); a valid string.
    unsafe { sys::MmGetSystemRoutineAddress(name) as usize }
}

/// Looks at the kernel. PASSIVE, before anything else of this driver.
pub fn init() {
    ROUTINES.resolve();
    EMULATED.store(u8::from(lookup(unicode!(WINE)) != 0), Ordering::Relaxed);
    let mut info = VersionInfo {
        size: size_of::<VersionInfo>() as u32,
        major: 0,
        minor: 0,
        build: 0,
        platform: 0,
        service_pack: [0; 128],
    };
    // SAFETY: the structure has the size that it says.
    let status = unsafe { sys::RtlGetVersion(&raw mut info) };
    let version = if status.is_ok() { info.major << 8 | (info.minor & 0xff) } else { 0x500 };
    VERSION.store(version, Ordering::Relaxed);
}

/// Whether the kernel is at least of that version.
#[must_use]
pub fn at_least(major: u32, minor: u32) -> bool {
    VERSION.load(Ordering::Relaxed) >= major << 8 | minor
}

/// Whether the kernel has memory that isn't executable, and mappings that aren't writable: Windows 8.
#[must_use]
pub fn has_nx_pool() -> bool {
    at_least(6, 2) && !is_emulated()
}

/// Whether this is an emulated kernel: a process of its own that can't see its clients' memory, with one thread for all requests.
#[must_use]
pub fn is_emulated() -> bool {
    EMULATED.load(Ordering::Relaxed) != 0
}

/// Waits for DPCs that are queued or running. PASSIVE.
pub fn flush_dpcs() {
    if let Some(flush) = ke_flush_queued_dpcs() {
        // SAFETY: PASSIVE.
        unsafe { flush() };
    }
}
