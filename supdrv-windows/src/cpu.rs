//! Processors, of all groups. A CPU's id is its index over all groups, which is also its set index.

use core::ffi::c_void;

use supdrv_core::abi::status::{
    Result, VERR_CPU_NOT_FOUND, VERR_CPU_OFFLINE, VERR_NO_MEMORY, VERR_NOT_SUPPORTED,
};
use supdrv_core::heap::Box;
use supdrv_core::os::{CpuSet, MAX_CPUS, MpEvent, MpEventCallback, MpWorker, OsCpu, OsIdentity};

use crate::Windows;
use crate::kernel;
use crate::nt::sys;
use crate::nt::{DISPATCH_LEVEL, GroupAffinity, KDpc, NtStatus, ProcessorChange, ProcessorNumber, hw};

const ALL_GROUPS: u16 = 0xffff;

fn online_count() -> u32 {
    match kernel::ke_query_active_processor_count_ex() {
        // SAFETY: any IRQL.
        Some(count) => unsafe { count(ALL_GROUPS) },
        // SAFETY: any IRQL.
        None => unsafe { sys::KeQueryActiveProcessors() }.count_ones(),
    }
    .max(1)
}

fn possible_count() -> u32 {
    match kernel::ke_query_maximum_processor_count_ex() {
        // SAFETY: any IRQL.
        Some(count) => unsafe { count(ALL_GROUPS) },
        None => online_count(),
    }
    .max(online_count())
}

fn first(count: u32) -> CpuSet {
    let mut set = CpuSet::default();
    for index in 0..(count as usize).min(MAX_CPUS) {
        set.insert(index);
    }
    set
}

/// Group and number of a processor; the index itself where there are no groups.
pub(crate) fn processor_number(cpu_id: u32) -> Option<ProcessorNumber> {
    let mut number = ProcessorNumber::default();
    match kernel::ke_get_processor_number_from_index() {
        // SAFETY: any IRQL; the result is ours.
        Some(look_up) => unsafe { look_up(cpu_id, &raw mut number) }.is_ok().then_some(number),
        None => {
            number.number = u8::try_from(cpu_id).ok().filter(|number| u32::from(*number) < usize::BITS)?;
            Some(number)
        }
    }
}

/// The calling thread on another processor, until dropped. PASSIVE or APC.
enum Moved {
    Group(GroupAffinity),
    Mask(usize),
    Plain,
}

impl Moved {
    fn to(cpu_id: u32) -> Option<Self> {
        let number = processor_number(cpu_id)?;
        let mask = 1_usize.checked_shl(number.number.into())?;
        if let (Some(set), Some(_)) =
            (kernel::ke_set_system_group_affinity_thread(), kernel::ke_revert_to_user_group_affinity_thread())
        {
            let wanted = GroupAffinity { mask, group: number.group, reserved: [0; 3] };
            let mut before = GroupAffinity::default();
            // SAFETY: below DISPATCH; both structures are ours.
            unsafe { set(&raw const wanted, &raw mut before) };
            return Some(Self::Group(before));
        }
        if number.group != 0 {
            return None;
        }
        if let (Some(set), Some(_)) =
            (kernel::ke_set_system_affinity_thread_ex(), kernel::ke_revert_to_user_affinity_thread_ex())
        {
            // SAFETY: below DISPATCH.
            return Some(Self::Mask(unsafe { set(mask) }));
        }
        // SAFETY: below DISPATCH.
        unsafe { sys::KeSetSystemAffinityThread(mask) };
        Some(Self::Plain)
    }
}

impl Drop for Moved {
    fn drop(&mut self) {
        match self {
            Self::Group(before) => {
                if let Some(revert) = kernel::ke_revert_to_user_group_affinity_thread() {
                    // SAFETY: what the matching call returned.
                    unsafe { revert(&raw const *before) };
                }
            }
            Self::Mask(before) => {
                if let Some(revert) = kernel::ke_revert_to_user_affinity_thread_ex() {
                    // SAFETY: what the matching call returned.
                    unsafe { revert(*before) };
                }
            }
            // SAFETY: below DISPATCH.
            Self::Plain => unsafe { sys::KeRevertToUserAffinityThread() },
        }
    }
}

/// One cross call.
struct Call {
    worker: MpWorker,
    context: *mut c_void,
    /// The only CPU that is meant, or all.
    only: Option<u32>,
}

impl Call {
    fn here(&self) {
        let cpu_id = Windows.cpu_id();
        if self.only.is_none_or(|only| only == cpu_id) {
            // SAFETY: the caller of the cross call vouches for worker and context until it returns.
            unsafe { (self.worker)(cpu_id, self.context) };
        }
    }

    fn address(&self) -> usize {
        core::ptr::from_ref(self) as usize
    }

    /// All at once, at IPI level.
    fn broadcast(&self) -> Result<()> {
        let call = kernel::ke_ipi_generic_call().ok_or(VERR_NOT_SUPPORTED)?;
        // SAFETY: below IPI level; `self` lives until the call returns.
        unsafe { call(on_ipi, self.address()) };
        Ok(())
    }
}

unsafe extern "system" fn on_ipi(call: usize) -> usize {
    // SAFETY: the `Call` of a broadcast that hasn't returned.
    unsafe { &*(call as *const Call) }.here();
    0
}

unsafe extern "system" fn on_dpc(_dpc: *mut KDpc, call: *mut c_void, done: *mut c_void, _sync: *mut c_void) {
    // SAFETY: the `Call` of a generic call that hasn't returned.
    unsafe { &*call.cast::<Call>() }.here();
    if let Some(signal) = kernel::ke_signal_call_dpc_done() {
        // SAFETY: the argument that this routine got for it.
        unsafe { signal(done) };
    }
}

/// A registration for CPU events.
pub struct MpRegistration {
    handle: *mut c_void,
    _registered: Box<Registered, Windows>,
}

// SAFETY: a handle of the kernel's, for any thread.
unsafe impl Send for MpRegistration {}
// SAFETY: as above.
unsafe impl Sync for MpRegistration {}

struct Registered {
    callback: MpEventCallback,
    context: *mut c_void,
}

unsafe extern "C" fn on_new_cpu(cpu_id: u32, registered: *mut c_void) {
    // SAFETY: the registration, which the kernel ends before it is freed.
    let registered = unsafe { &*registered.cast::<Registered>() };
    // SAFETY: the registrant vouches for both until the registration is dropped.
    unsafe { (registered.callback)(MpEvent::Online, cpu_id, registered.context) };
}

unsafe extern "system" fn on_change(
    context: *mut c_void,
    change: *const ProcessorChange,
    _status: *mut NtStatus,
) {
    const ADDED: u32 = 1;
    // SAFETY: the kernel passes a valid change.
    let change = unsafe { &*change };
    if change.state == ADDED {
        // SAFETY: the registration is there as long as this callback can run.
        let delivered = unsafe { Windows.mp_on_cpu(change.nt_number, on_new_cpu, context) };
        debug_assert!(delivered.is_ok());
    }
}

impl Drop for MpRegistration {
    fn drop(&mut self) {
        if let Some(deregister) = kernel::ke_deregister_processor_change_callback()
            && !self.handle.is_null()
        {
            // SAFETY: the handle of the registration; waits for running callbacks.
            unsafe { deregister(self.handle) };
        }
    }
}

impl OsCpu for Windows {
    type MpRegistration = MpRegistration;

    fn cpu_id(&self) -> u32 {
        match kernel::ke_get_current_processor_number_ex() {
            // SAFETY: any IRQL; no structure wanted.
            Some(current) => unsafe { current(core::ptr::null_mut()) },
            None => hw::processor_number(),
        }
    }

    fn cpu_set_index(&self, cpu_id: u32) -> Option<usize> {
        Some(cpu_id as usize).filter(|index| *index < MAX_CPUS)
    }

    fn cpu_id_from_index(&self, index: usize) -> Option<u32> {
        u32::try_from(index).ok().filter(|id| *id < possible_count())
    }

    fn cpu_max_id(&self) -> u32 {
        possible_count() - 1
    }

    fn cpu_array_size(&self) -> usize {
        possible_count() as usize
    }

    fn cpu_present_count(&self) -> usize {
        online_count() as usize
    }

    fn cpu_possible_set(&self) -> CpuSet {
        first(possible_count())
    }

    fn cpu_online_set(&self) -> CpuSet {
        first(online_count())
    }

    unsafe fn mp_on_all(&self, worker: MpWorker, context: *mut c_void) -> Result<()> {
        let call = Call { worker, context, only: None };
        if hw::irql() >= DISPATCH_LEVEL {
            return call.broadcast();
        }
        if let (Some(run), Some(_)) = (kernel::ke_generic_call_dpc(), kernel::ke_signal_call_dpc_done())
            // An emulated kernel doesn't tie the routines to processors.
            && !kernel::is_emulated()
        {
            // SAFETY: below DISPATCH; `call` lives until it returns.
            unsafe { run(on_dpc, call.address() as *mut c_void) };
            return Ok(());
        }
        for cpu_id in 0..online_count() {
            // SAFETY: conditions of the function.
            unsafe { self.mp_on_cpu(cpu_id, worker, context) }?;
        }
        Ok(())
    }

    unsafe fn mp_on_cpu(&self, cpu_id: u32, worker: MpWorker, context: *mut c_void) -> Result<()> {
        if cpu_id >= possible_count() {
            return Err(VERR_CPU_NOT_FOUND);
        }
        if cpu_id >= online_count() {
            return Err(VERR_CPU_OFFLINE);
        }
        if hw::irql() >= DISPATCH_LEVEL {
            let call = Call { worker, context, only: Some(cpu_id) };
            if self.cpu_id() == cpu_id {
                call.here();
                return Ok(());
            }
            return call.broadcast();
        }
        let _moved = Moved::to(cpu_id).ok_or(VERR_NOT_SUPPORTED)?;
        let pinned = self.preempt_disable();
        // SAFETY: conditions of the function; this is the processor.
        unsafe { worker(cpu_id, context) };
        // SAFETY: the matching disable, LIFO.
        unsafe { self.preempt_restore(pinned) };
        Ok(())
    }

    unsafe fn mp_register(&self, callback: MpEventCallback, context: *mut c_void) -> Result<MpRegistration> {
        let registered = Box::new(self, Registered { callback, context })?;
        let handle = match (
            kernel::ke_register_processor_change_callback(),
            kernel::ke_deregister_processor_change_callback(),
        ) {
            (Some(register), Some(_)) => {
                // SAFETY: PASSIVE (class T); the context lives as long as the registration.
                let handle = unsafe { register(on_change, registered.as_ptr().as_ptr().cast(), 0) };
                if handle.is_null() {
                    return Err(VERR_NO_MEMORY);
                }
                handle
            }
            _ => core::ptr::null_mut(),
        };
        Ok(MpRegistration { handle, _registered: registered })
    }
}
