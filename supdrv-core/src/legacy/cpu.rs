//! CPUs.

use core::ffi::{c_int, c_void};
use core::ptr::null_mut;

use super::{Legacy, check, ffi};
use crate::abi::status::Result;
use crate::heap::Box;
use crate::os::{CpuSet, MAX_CPUS, MpEvent, MpEventCallback, MpWorker, NIL_CPU_ID, OsCpu};

/// What a cross call runs.
struct Call {
    worker: MpWorker,
    context: *mut c_void,
}

/// # Safety
/// `call` is a [`Call`] whose worker may be called on this CPU.
unsafe extern "C" fn run_call(cpu: u32, call: *mut c_void, _unused: *mut c_void) {
    // SAFETY: condition of the function.
    let call = unsafe { &*call.cast::<Call>() };
    // SAFETY: condition of the function.
    unsafe { (call.worker)(cpu, call.context) };
}

/// What a notification calls.
struct Listener {
    callback: MpEventCallback,
    context: *mut c_void,
}

/// # Safety
/// `listener` is the [`Listener`] of a registration that lives.
unsafe extern "C" fn on_event(event: u32, cpu: u32, listener: *mut c_void) {
    let event = match event {
        1 => MpEvent::Online,
        2 => MpEvent::Offline,
        _ => return,
    };
    // SAFETY: condition of the function.
    let listener = unsafe { &*listener.cast::<Listener>() };
    // SAFETY: whoever registered promised that.
    unsafe { (listener.callback)(event, cpu, listener.context) };
}

/// A registration for CPU events.
pub struct MpRegistration(Box<Listener, Legacy>);

// SAFETY: the listener is only read, by callbacks on any CPU; whoever registered promised that its context allows that.
unsafe impl Send for MpRegistration {}
// SAFETY: as above.
unsafe impl Sync for MpRegistration {}

impl Drop for MpRegistration {
    fn drop(&mut self) {
        let listener = self.0.as_ptr().as_ptr().cast();
        // SAFETY: the pair that was registered, once; when it returns no callback runs any more, and the listener is freed after it.
        let _status = unsafe { ffi::RTMpNotificationDeregister(on_event, listener) };
    }
}

fn set_of(get: extern "C" fn(&mut ffi::CpuSet) -> *mut ffi::CpuSet) -> CpuSet {
    let mut set = ffi::CpuSet([0; MAX_CPUS / 64]);
    get(&mut set);
    CpuSet(set.0)
}

impl OsCpu for Legacy {
    type MpRegistration = MpRegistration;

    fn cpu_id(&self) -> u32 {
        ffi::RTMpCpuId()
    }

    fn cpu_set_index(&self, cpu_id: u32) -> Option<usize> {
        let index = usize::try_from(ffi::RTMpCpuIdToSetIndex(cpu_id)).ok()?;
        (index < MAX_CPUS).then_some(index)
    }

    fn cpu_id_from_index(&self, index: usize) -> Option<u32> {
        let index = c_int::try_from(index).ok()?;
        let id = ffi::RTMpCpuIdFromSetIndex(index);
        (id != NIL_CPU_ID).then_some(id)
    }

    fn cpu_max_id(&self) -> u32 {
        ffi::RTMpGetMaxCpuId()
    }

    fn cpu_array_size(&self) -> usize {
        ffi::RTMpGetArraySize() as usize
    }

    fn cpu_present_count(&self) -> usize {
        ffi::RTMpGetPresentCount() as usize
    }

    fn cpu_possible_set(&self) -> CpuSet {
        set_of(ffi::RTMpGetSet)
    }

    fn cpu_online_set(&self) -> CpuSet {
        set_of(ffi::RTMpGetOnlineSet)
    }

    unsafe fn mp_on_all(&self, worker: MpWorker, context: *mut c_void) -> Result<()> {
        let mut call = Call { worker, context };
        // SAFETY: the worker may run anywhere (condition of the function); the call returns when all runs ended, so that `call` outlives them.
        check(unsafe { ffi::RTMpOnAll(run_call, (&raw mut call).cast(), null_mut()) })
    }

    unsafe fn mp_on_cpu(&self, cpu_id: u32, worker: MpWorker, context: *mut c_void) -> Result<()> {
        let mut call = Call { worker, context };
        // SAFETY: as for `mp_on_all`.
        check(unsafe { ffi::RTMpOnSpecific(cpu_id, run_call, (&raw mut call).cast(), null_mut()) })
    }

    unsafe fn mp_register(&self, callback: MpEventCallback, context: *mut c_void) -> Result<MpRegistration> {
        let listener = Box::new(self, Listener { callback, context })?;
        // SAFETY: the listener is on the heap, and the registration that owns it is ended before it is freed.
        check(unsafe { ffi::RTMpNotificationRegister(on_event, listener.as_ptr().as_ptr().cast()) })?;
        Ok(MpRegistration(listener))
    }
}
