//! Timers: a kernel timer and its DPC for each processor that is served.
//!
//! The kernel's periodic timers count whole milliseconds. These are one-shot ones that their own DPC starts again, aimed at the
//! points of an ideal schedule, so that the mean rate is exact; points that were missed are skipped. Where the kernel has timers of high
//! resolution, those take the place of the others.
//!
//! ```text
//!   stopped ──start──► armed ──due──► DPC: callback, armed again ──► …          stop: no callback starts any more
//! ```

use core::cell::UnsafeCell;
use core::ffi::c_void;
use core::ptr::{NonNull, null_mut};
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};

use supdrv_core::abi::status::{
    Result, VERR_CPU_NOT_FOUND, VERR_CPU_OFFLINE, VERR_NOT_SUPPORTED, VERR_TIMER_ACTIVE, VERR_TIMER_SUSPENDED,
};
use supdrv_core::heap::{Array, Box};
use supdrv_core::os::{MAX_CPUS, MpEvent, OsCpu, OsTime, OsTimer, TimerSpec, TimerTarget};

use crate::Windows;
use crate::cpu::processor_number;
use crate::kernel;
use crate::nt::sys;
use crate::nt::{KDpc, KTimer};
use crate::time::{UNIT_NS, relative};

const NOTIFICATION_TIMER: u32 = 0;
const HIGH_IMPORTANCE: u32 = 2;

/// A timer of the kernel's that doesn't wait for the clock's next tick: Windows 8.1. When it is due, it queues the slot's DPC.
///
/// Its owner deletes it.
#[derive(Clone, Copy)]
struct FineTimer(NonNull<c_void>);

impl FineTimer {
    /// For a slot; `None` if there are none, or no memory.
    fn new(slot: *mut Slot) -> Option<Self> {
        const HIGH_RESOLUTION: u32 = 4;
        let (_set, _cancel, _delete) =
            (kernel::ex_set_timer()?, kernel::ex_cancel_timer()?, kernel::ex_delete_timer()?);
        let allocate = kernel::ex_allocate_timer().filter(|_| !kernel::is_emulated())?;
        // SAFETY: the slot outlives its timer.
        NonNull::new(unsafe { allocate(on_fine, slot.cast(), HIGH_RESOLUTION) }).map(Self)
    }

    /// At most DISPATCH. `due` is relative, in the kernel's units.
    fn set(&self, due: i64) {
        if let Some(set) = kernel::ex_set_timer() {
            // SAFETY: it exists until it is deleted.
            unsafe { set(self.0.as_ptr(), due, 0, null_mut()) };
        }
    }

    /// At most DISPATCH.
    fn cancel(&self) {
        if let Some(cancel) = kernel::ex_cancel_timer() {
            // SAFETY: as above.
            unsafe { cancel(self.0.as_ptr(), null_mut()) };
        }
    }

    /// PASSIVE; waits for the callback. Nobody uses it afterwards.
    fn delete(self) {
        if let Some(delete) = kernel::ex_delete_timer() {
            // SAFETY: nobody uses it any more.
            unsafe { delete(self.0.as_ptr(), 1, 1, null_mut()) };
        }
    }
}

unsafe extern "system" fn on_fine(_timer: *mut c_void, slot: *mut c_void) {
    // SAFETY: the slot outlives its timer; its DPC is initialised.
    unsafe { sys::KeInsertQueueDpc((*slot.cast::<Slot>()).dpc.get(), null_mut(), null_mut()) };
}

/// What all processors of a timer share.
struct Shared {
    spec: TimerSpec,
    interval_ns: AtomicU64,
    running: AtomicBool,
    /// The slots, for a processor that is added.
    slots: AtomicPtr<Slot>,
    slot_count: AtomicUsize,
}

/// The timer of one processor.
struct Slot {
    timer: UnsafeCell<KTimer>,
    /// In its place, if there is one.
    fine: Option<FineTimer>,
    dpc: UnsafeCell<KDpc>,
    shared: *const Shared,
    /// The point of the schedule that the timer is armed for, in nanoseconds.
    next_ns: AtomicU64,
    tick: AtomicU64,
    /// The DPC runs: a late one of an earlier start keeps out.
    busy: AtomicBool,
}

/// A timer.
pub struct Timer {
    /// Serves processors that are added. First: it ends before there are no slots any more.
    follows: Option<<Windows as OsCpu>::MpRegistration>,
    slots: Array<Slot, Windows>,
    shared: Box<Shared, Windows>,
}

// SAFETY: kernel objects and atomics; the creator vouches for callback and context.
unsafe impl Send for Timer {}
// SAFETY: as above.
unsafe impl Sync for Timer {}

impl Slot {
    fn arm(&self, now_ns: u64, next_ns: u64) {
        self.next_ns.store(next_ns, Ordering::Relaxed);
        let due = relative(next_ns.saturating_sub(now_ns).max(UNIT_NS));
        match &self.fine {
            Some(fine) => fine.set(due),
            // SAFETY: at most DISPATCH; timer and DPC are initialised and stay until the queue was flushed.
            None => _ = unsafe { sys::KeSetTimerEx(self.timer.get(), due, self.period_ms(), self.dpc.get()) },
        }
    }

    /// The period that the kernel is told. An emulated one holds a lock while it cancels a timer and waits for its DPC: there a
    /// DPC can't arm the timer again, and the kernel's own rounding has to do.
    fn period_ms(&self) -> i32 {
        if !kernel::is_emulated() {
            return 0;
        }
        // SAFETY: the timer outlives its slots.
        let interval = unsafe { &*self.shared }.interval_ns.load(Ordering::Relaxed);
        let millis = if interval == 0 { 0 } else { (interval / 1_000_000).max(1) };
        i32::try_from(millis).unwrap_or(i32::MAX)
    }

    /// Runs on expiry, at DISPATCH.
    fn expired(&self) {
        // SAFETY: the timer outlives its slots' DPCs.
        let shared = unsafe { &*self.shared };
        if !shared.running.load(Ordering::Acquire) || self.busy.swap(true, Ordering::Acquire) {
            return;
        }
        let interval = shared.interval_ns.load(Ordering::Relaxed);
        if interval == 0 {
            shared.running.store(false, Ordering::Release);
        }
        let tick = self.tick.fetch_add(1, Ordering::Relaxed) + 1;
        let handle = core::ptr::from_ref(shared).cast_mut().cast();
        // SAFETY: the creator vouches for both until the timer is destroyed.
        unsafe { (shared.spec.callback)(handle, shared.spec.context, tick) };
        if interval != 0 && !kernel::is_emulated() && shared.running.load(Ordering::Acquire) {
            let now = Windows.system_nano_ts();
            let next = self.next_ns.load(Ordering::Relaxed).saturating_add(interval);
            let missed = now.saturating_sub(next).div_ceil(interval);
            self.arm(now, next.saturating_add(missed.saturating_mul(interval)));
        }
        self.busy.store(false, Ordering::Release);
    }

    fn cancel(&self) {
        match &self.fine {
            Some(fine) => fine.cancel(),
            // SAFETY: at most DISPATCH; initialised.
            None => _ = unsafe { sys::KeCancelTimer(self.timer.get()) },
        }
    }
}

unsafe extern "system" fn on_dpc(
    _dpc: *mut KDpc,
    slot: *mut c_void,
    _argument1: *mut c_void,
    _argument2: *mut c_void,
) {
    // SAFETY: the queue is flushed before the slot is freed.
    unsafe { &*slot.cast::<Slot>() }.expired();
}

/// A processor was added, on which this runs: a timer for all of them serves it from now on. DISPATCH.
unsafe extern "C" fn on_processor(event: MpEvent, cpu_id: u32, shared: *mut c_void) {
    // SAFETY: the timer outlives its registration.
    let shared = unsafe { &*shared.cast::<Shared>() };
    let count = shared.slot_count.load(Ordering::Acquire);
    if event != MpEvent::Online || cpu_id as usize >= count || !shared.running.load(Ordering::Acquire) {
        return;
    }
    // SAFETY: as many slots are there as long as the timer.
    let slot = unsafe { &*shared.slots.load(Ordering::Acquire).add(cpu_id as usize) };
    let now = Windows.system_nano_ts();
    slot.tick.store(0, Ordering::Relaxed);
    slot.arm(now, now.saturating_add(shared.interval_ns.load(Ordering::Relaxed)));
}

impl Timer {
    fn is_running(&self) -> bool {
        self.shared.running.load(Ordering::Acquire)
    }

    /// Changes the period from the next expiry on.
    pub(crate) fn set_interval(&self, interval_ns: u64) -> Result<()> {
        if self.shared.spec.interval_ns == 0 {
            return Err(VERR_NOT_SUPPORTED);
        }
        self.shared.interval_ns.store(interval_ns, Ordering::Relaxed);
        Ok(())
    }

    fn stop(&self) {
        self.shared.running.store(false, Ordering::Release);
        for slot in self.slots.iter() {
            slot.cancel();
        }
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        drop(self.follows.take());
        self.stop();
        kernel::flush_dpcs();
        // A DPC that was past its check when the timer stopped may have armed it once more.
        self.stop();
        // What is due already may still queue its DPC, which then finds that the timer doesn't run.
        self.slots.iter_mut().filter_map(|slot| slot.fine.take()).for_each(FineTimer::delete);
        kernel::flush_dpcs();
    }
}

/// Ties a DPC to a processor.
pub(crate) fn set_target(dpc: *mut KDpc, cpu_id: u32) -> Result<()> {
    let number = processor_number(cpu_id).ok_or(VERR_CPU_NOT_FOUND)?;
    // SAFETY: an initialised DPC that isn't queued.
    unsafe { sys::KeSetImportanceDpc(dpc, HIGH_IMPORTANCE) };
    match kernel::ke_set_target_processor_dpc_ex() {
        // SAFETY: as above.
        Some(set) => unsafe { set(dpc, &raw const number) }.ok().map_err(|_| VERR_CPU_NOT_FOUND),
        None if number.group == 0 => {
            // SAFETY: as above.
            unsafe { sys::KeSetTargetProcessorDpc(dpc, number.number.cast_signed()) };
            Ok(())
        }
        None => Err(VERR_NOT_SUPPORTED),
    }
}

impl OsTimer for Windows {
    type Timer = Timer;

    fn timer_create(&self, spec: &TimerSpec) -> Result<Timer> {
        // An emulated kernel ties no DPC to a processor; a one-shot timer for all processors has no single end.
        let count = match spec.target {
            TimerTarget::Any => 1,
            _ if kernel::is_emulated() => return Err(VERR_NOT_SUPPORTED),
            TimerTarget::All if spec.interval_ns == 0 => return Err(VERR_NOT_SUPPORTED),
            TimerTarget::All => self.cpu_array_size().min(MAX_CPUS),
            TimerTarget::Cpu(id) if id > self.cpu_max_id() => return Err(VERR_CPU_NOT_FOUND),
            TimerTarget::Cpu(_) => 1,
        };
        let shared = Box::new(
            self,
            Shared {
                spec: *spec,
                interval_ns: AtomicU64::new(spec.interval_ns),
                running: AtomicBool::new(false),
                slots: AtomicPtr::new(null_mut()),
                slot_count: AtomicUsize::new(0),
            },
        )?;
        let shared_address = shared.as_ptr().as_ptr().cast_const();
        let slots = Array::from_fn(self, count, |_| Slot {
            timer: UnsafeCell::new(KTimer::NEW),
            fine: None,
            dpc: UnsafeCell::new(KDpc::NEW),
            shared: shared_address,
            next_ns: AtomicU64::new(0),
            tick: AtomicU64::new(0),
            busy: AtomicBool::new(false),
        })?;
        for slot in slots.iter() {
            // SAFETY: fresh storage, at its final place.
            unsafe {
                sys::KeInitializeTimerEx(slot.timer.get(), NOTIFICATION_TIMER);
                sys::KeInitializeDpc(slot.dpc.get(), on_dpc, core::ptr::from_ref(slot).cast_mut().cast());
            }
        }
        // From here on, dropping it undoes everything.
        let mut timer = Timer { follows: None, slots, shared };
        for (index, slot) in timer.slots.iter_mut().enumerate() {
            match spec.target {
                TimerTarget::Any => {}
                TimerTarget::Cpu(id) => set_target(slot.dpc.get(), id)?,
                TimerTarget::All => set_target(slot.dpc.get(), index as u32)?,
            }
            slot.fine = FineTimer::new(slot);
        }
        if spec.target == TimerTarget::All {
            timer.shared.slots.store(timer.slots.as_ptr().cast_mut(), Ordering::Release);
            timer.shared.slot_count.store(timer.slots.len(), Ordering::Release);
            // SAFETY: the timer ends the registration before it goes itself.
            timer.follows =
                Some(unsafe { self.mp_register(on_processor, shared_address.cast_mut().cast()) }?);
        }
        Ok(timer)
    }

    fn timer_start(&self, timer: &Timer, first_ns: u64) -> Result<()> {
        let shared = &timer.shared;
        if let TimerTarget::Cpu(id) = shared.spec.target
            && id as usize >= self.cpu_present_count()
        {
            return Err(VERR_CPU_OFFLINE);
        }
        if shared.running.swap(true, Ordering::AcqRel) {
            return Err(VERR_TIMER_ACTIVE);
        }
        let now = self.system_nano_ts();
        let online = self.cpu_online_set();
        let all = shared.spec.target == TimerTarget::All;
        for (index, slot) in timer.slots.iter().enumerate() {
            if all && !online.contains(index) {
                continue;
            }
            slot.tick.store(0, Ordering::Relaxed);
            slot.arm(now, now.saturating_add(first_ns));
        }
        Ok(())
    }

    fn timer_stop(&self, timer: &Timer) -> Result<()> {
        if !timer.is_running() {
            return Err(VERR_TIMER_SUSPENDED);
        }
        timer.stop();
        Ok(())
    }

    fn timer_handle(&self, timer: &Timer) -> usize {
        timer.shared.as_ptr().as_ptr() as usize
    }

    fn timer_granularity_ns(&self) -> u32 {
        let units = match kernel::ex_query_timer_resolution() {
            Some(query) => {
                let (mut coarsest, mut finest, mut current) = (0, 0, 0);
                // SAFETY: the results are ours.
                unsafe { query(&raw mut coarsest, &raw mut finest, &raw mut current) };
                current
            }
            // SAFETY: any IRQL.
            None => unsafe { sys::KeQueryTimeIncrement() },
        };
        units.saturating_mul(UNIT_NS as u32).max(1)
    }

    fn timer_request_granularity(&self, wanted_ns: u32) -> Result<u32> {
        // SAFETY: at most APC (class T).
        let granted = unsafe { sys::ExSetTimerResolution(wanted_ns / UNIT_NS as u32, 1) };
        Ok(granted.saturating_mul(UNIT_NS as u32))
    }

    fn timer_release_granularity(&self, _granted_ns: u32) {
        // SAFETY: at most APC (class T); undoes the matching request.
        unsafe { sys::ExSetTimerResolution(0, 0) };
    }
}
