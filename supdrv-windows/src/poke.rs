//! Interrupting another processor, for nothing but the interrupt.
//!
//! A DPC of high importance that is tied to another processor makes the kernel interrupt that processor at once. There is one for each
//! processor, which does nothing; while it is queued the interrupt is on its way anyway.

use core::cell::UnsafeCell;
use core::ffi::c_void;
use core::sync::atomic::{AtomicU8, Ordering};

use supdrv_core::abi::status::{Result, VERR_CPU_NOT_FOUND};
use supdrv_core::os::MAX_CPUS;

use crate::nt::{KDpc, sys};
use crate::timer::set_target;

const NEW: u8 = 0;
/// Somebody prepares it, and is going to queue it.
const BEGUN: u8 = 1;
const READY: u8 = 2;

struct Poke {
    state: AtomicU8,
    dpc: UnsafeCell<KDpc>,
}

// SAFETY: the DPC is written by whoever made the state BEGUN; then it is the kernel's, whose functions may be called by all.
unsafe impl Sync for Poke {}

static POKES: [Poke; MAX_CPUS] =
    [const { Poke { state: AtomicU8::new(NEW), dpc: UnsafeCell::new(KDpc::NEW) } }; MAX_CPUS];

unsafe extern "system" fn nothing(
    _dpc: *mut KDpc,
    _context: *mut c_void,
    _argument1: *mut c_void,
    _argument2: *mut c_void,
) {
}

/// Interrupts a processor. At most DISPATCH.
///
/// # Errors
/// `VERR_CPU_NOT_FOUND`, `VERR_NOT_SUPPORTED` (in another group, on a kernel that can't tie DPCs to it).
pub fn poke(cpu_id: u32) -> Result<()> {
    let slot = POKES.get(cpu_id as usize).ok_or(VERR_CPU_NOT_FOUND)?;
    let dpc = slot.dpc.get();
    match slot.state.compare_exchange(NEW, BEGUN, Ordering::Acquire, Ordering::Acquire) {
        Ok(_) => {
            // SAFETY: nobody else touches it before it is ready.
            unsafe { sys::KeInitializeDpc(dpc, nothing, core::ptr::null_mut()) };
            if let Err(status) = set_target(dpc, cpu_id) {
                slot.state.store(NEW, Ordering::Release);
                return Err(status);
            }
            slot.state.store(READY, Ordering::Release);
        }
        Err(READY) => {}
        Err(_) => return Ok(()),
    }
    // SAFETY: ready. Unloading flushes DPCs before the code goes.
    unsafe { sys::KeInsertQueueDpc(dpc, core::ptr::null_mut(), core::ptr::null_mut()) };
    Ok(())
}
