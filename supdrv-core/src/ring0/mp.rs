//! CPUs: `RTMp*`. Notifications are in [`super::notify`].

use core::ffi::c_void;
use core::sync::atomic::{AtomicU32, Ordering};

use super::runtime::{Ring0, rc};
use super::types::{CpuSet, CpuWorker};
use crate::abi::Status;
use crate::abi::status::{Result, VERR_CPU_NOT_FOUND, VERR_CPU_OFFLINE, VERR_INVALID_POINTER, VINF_SUCCESS};
use crate::os::{NIL_CPU_ID, OsCpu, OsModule};
use crate::sync::Pinned;

/// Id of the current CPU; means something only while pinned. Class I.
pub unsafe fn cpu_id<R: Ring0>() -> u32 {
    R::os().cpu_id()
}

/// The CPU at a set index, all ones if there is none. Class I.
pub unsafe fn cpu_id_from_set_index<R: Ring0>(index: i32) -> u32 {
    usize::try_from(index).ok().and_then(|index| R::os().cpu_id_from_index(index)).unwrap_or(NIL_CPU_ID)
}

/// The set index of a CPU, -1 if it has none. Class I.
pub unsafe fn cpu_id_to_set_index<R: Ring0>(cpu_id: u32) -> i32 {
    R::os().cpu_set_index(cpu_id).and_then(|index| i32::try_from(index).ok()).unwrap_or(-1)
}

/// Elements that an array by set index needs. Class I.
pub unsafe fn get_array_size<R: Ring0>() -> u32 {
    R::os().cpu_array_size() as u32
}

/// Number of CPUs that can exist. Class I.
pub unsafe fn get_count<R: Ring0>() -> u32 {
    R::os().cpu_possible_set().count() as u32
}

/// Highest id. Class I.
pub unsafe fn get_max_cpu_id<R: Ring0>() -> u32 {
    R::os().cpu_max_id()
}

/// Number of on-line CPUs. Class I.
pub unsafe fn get_online_count<R: Ring0>() -> u32 {
    R::os().cpu_online_set().count() as u32
}

/// Fills in the on-line CPUs; the argument. Class I.
pub unsafe fn get_online_set<R: Ring0>(set: *mut CpuSet) -> *mut CpuSet {
    // SAFETY: the caller keeps the contract of the C function.
    if let Some(set) = unsafe { set.as_mut() } {
        *set = R::os().cpu_online_set();
    }
    set
}

/// Fills in the CPUs that can exist; the argument. Class I.
pub unsafe fn get_set<R: Ring0>(set: *mut CpuSet) -> *mut CpuSet {
    // SAFETY: the caller keeps the contract of the C function.
    if let Some(set) = unsafe { set.as_mut() } {
        *set = R::os().cpu_possible_set();
    }
    set
}

fn is_online(os: &impl OsCpu, cpu_id: u32) -> bool {
    os.cpu_set_index(cpu_id).is_some_and(|index| os.cpu_online_set().contains(index))
}

fn is_possible(os: &impl OsCpu, cpu_id: u32) -> bool {
    os.cpu_set_index(cpu_id).is_some_and(|index| os.cpu_possible_set().contains(index))
}

/// Whether a CPU is on-line. Class I.
pub unsafe fn is_cpu_online<R: Ring0>(cpu_id: u32) -> bool {
    is_online(&R::os(), cpu_id)
}

/// Whether a CPU can exist. Class I.
pub unsafe fn is_cpu_possible<R: Ring0>(cpu_id: u32) -> bool {
    is_possible(&R::os(), cpu_id)
}

/// Whether deferred work waits on this CPU: no system of this generation tells. Class I.
pub unsafe fn is_cpu_work_pending<R: Ring0>() -> bool {
    false
}

/// A module's worker and what it wants, during one cross call.
struct Work {
    worker: CpuWorker,
    user1: *mut c_void,
    user2: *mut c_void,
    /// A CPU that doesn't run it.
    except: u32,
    runs: AtomicU32,
}

impl Work {
    fn new(worker: CpuWorker, user1: *mut c_void, user2: *mut c_void, except: u32) -> Self {
        Self { worker, user1, user2, except, runs: AtomicU32::new(0) }
    }

    fn context(&self) -> *mut c_void {
        core::ptr::from_ref(self).cast_mut().cast()
    }
}

unsafe extern "C" fn run(cpu_id: u32, work: *mut c_void) {
    // SAFETY: the context of a cross call is a Work that lives until the call returns.
    let work = unsafe { &*work.cast::<Work>() };
    if cpu_id != work.except {
        work.runs.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the module promised that its worker may be called so.
        unsafe { (work.worker)(cpu_id, work.user1, work.user2) };
    }
}

/// Runs a worker on every on-line CPU and waits. Class T. 0, `VERR_NOT_SUPPORTED`, `VERR_NO_MEMORY`, `VERR_INVALID_POINTER`.
pub unsafe fn on_all<R: Ring0>(worker: Option<CpuWorker>, user1: *mut c_void, user2: *mut c_void) -> i32 {
    let Some(worker) = worker else { return VERR_INVALID_POINTER.0 };
    let work = Work::new(worker, user1, user2, NIL_CPU_ID);
    // SAFETY: the worker may run on any CPU; the work lives until then.
    rc(unsafe { R::os().mp_on_all(run, work.context()) })
}

/// Runs a worker on every other on-line CPU and waits. Class T, or with preemption off. As [`on_all`]; no other CPU: 0.
pub unsafe fn on_others<R: Ring0>(worker: Option<CpuWorker>, user1: *mut c_void, user2: *mut c_void) -> i32 {
    let Some(worker) = worker else { return VERR_INVALID_POINTER.0 };
    let os = R::os();
    if os.cpu_online_set().count() <= 1 {
        return VINF_SUCCESS.0;
    }
    let work = Work::new(worker, user1, user2, os.cpu_id());
    // SAFETY: as in `on_all`.
    rc(unsafe { os.mp_on_all(run, work.context()) })
}

fn on_one<O: OsCpu + crate::os::OsIdentity>(os: &O, cpu_id: u32, work: &Work) -> Result<()> {
    if !is_possible(os, cpu_id) {
        return Err(VERR_CPU_NOT_FOUND);
    }
    if !is_online(os, cpu_id) {
        return Err(VERR_CPU_OFFLINE);
    }
    // SAFETY: as in `on_all`.
    unsafe { os.mp_on_cpu(cpu_id, run, work.context()) }
}

/// Runs a worker on one CPU and waits; directly if it is this one. Class D, interrupts on. 0, `VERR_CPU_NOT_FOUND`, `VERR_CPU_OFFLINE`,
/// `VERR_NOT_SUPPORTED`, `VERR_INVALID_POINTER`.
pub unsafe fn on_specific<R: Ring0>(
    cpu_id: u32,
    worker: Option<CpuWorker>,
    user1: *mut c_void,
    user2: *mut c_void,
) -> i32 {
    let Some(worker) = worker else { return VERR_INVALID_POINTER.0 };
    let os = R::os();
    let work = Work::new(worker, user1, user2, NIL_CPU_ID);
    {
        let _pinned = Pinned::new(&os);
        if os.cpu_id() == cpu_id {
            // SAFETY: the module promised that its worker may be called so.
            unsafe { run(cpu_id, work.context()) };
            return VINF_SUCCESS.0;
        }
    }
    rc(on_one(&os, cpu_id, &work))
}

/// Interrupts a CPU without waiting. Class D, interrupts on. 0, `VERR_CPU_NOT_FOUND`, `VERR_CPU_OFFLINE`, `VERR_NOT_SUPPORTED`.
pub unsafe fn poke_cpu<R: Ring0>(cpu_id: u32) -> i32 {
    let os = R::os();
    let status: Status = if !is_possible(&os, cpu_id) {
        VERR_CPU_NOT_FOUND
    } else if !is_online(&os, cpu_id) {
        VERR_CPU_OFFLINE
    } else {
        return rc(os.mp_poke(cpu_id));
    };
    status.0
}
