//! Heap, locks, CPUs, identity, instructions, policy and log.

use core::alloc::Layout;
use core::cell::UnsafeCell;
use core::ffi::{c_int, c_void};
use core::ptr::NonNull;

use supdrv_core::abi::ioctl::Encoding;
use supdrv_core::abi::published::DevExtView;
use supdrv_core::abi::status::{Result, VERR_CPU_NOT_FOUND};
use supdrv_core::heap::Box;
use supdrv_core::os::{
    CpuSet, IrqState, LockClass, MAX_CPUS, MpEventCallback, MpWorker, OsArch, OsCpu, OsHeap, OsHwVirt,
    OsIdentity, OsLock, OsLog, OsPolicy, PreemptState, SessionKind,
};
use supdrv_core::shim::calls::CrossCall;

use crate::glue::{self, Caller};
use crate::kernel;

/// The kernel. Everything it needs to know it asks the kernel.
#[derive(Clone, Copy, Debug, Default)]
pub struct FreeBsd;

/// Larger allocations may fail rather than wait.
const PATIENT_BYTES: usize = 1 << 20;
/// No allocation can be larger; the kernel's own arithmetic on sizes stays far from its limits.
const MAX_ALLOCATION: usize = 1 << 40;

/// The kernel aligns powers of two to themselves, and everything else to 8 at least.
pub(crate) fn padded(layout: Layout) -> Option<usize> {
    let bytes = if layout.align() > 8 { layout.size().checked_next_power_of_two()? } else { layout.size() };
    Some(bytes.max(layout.align())).filter(|bytes| *bytes <= MAX_ALLOCATION)
}

impl OsHeap for FreeBsd {
    fn heap_alloc_zeroed(&self, layout: Layout) -> Option<NonNull<u8>> {
        let bytes = padded(layout)?;
        let patience = if bytes < PATIENT_BYTES { kernel::M_WAITOK } else { kernel::M_NOWAIT };
        // SAFETY: the driver's type of memory.
        let memory = unsafe { kernel::malloc(bytes, &raw mut glue::M_SUPDRV, patience | kernel::M_ZERO) };
        NonNull::new(memory.cast())
    }

    unsafe fn heap_free(&self, ptr: NonNull<u8>, _layout: Layout) {
        // SAFETY: allocated like this, given up (conditions of the function).
        unsafe { kernel::free(ptr.as_ptr().cast(), &raw mut glue::M_SUPDRV) };
    }
}

/// Room for a lock of the kernel, in its final place.
type LockWords = UnsafeCell<[usize; 8]>;
/// Where in a `struct mtx` the lock word is.
const LOCK_WORD: usize = 3;

/// A spin mutex. It turns interrupts off for both kinds of the core's spinlocks: sections are short.
pub struct SpinLock(Box<LockWords, FreeBsd>);

// SAFETY: a lock is for sharing.
unsafe impl Send for SpinLock {}
// SAFETY: as above.
unsafe impl Sync for SpinLock {}

impl SpinLock {
    fn word(&self) -> *mut usize {
        // Derived from the whole lock: the kernel finds the rest of it before the word.
        self.0.get().cast::<usize>().wrapping_add(LOCK_WORD)
    }

    fn lock(&self) {
        // SAFETY: initialised, at an address that doesn't change.
        unsafe { kernel::__mtx_lock_spin_flags(self.word(), 0, c"supdrv".as_ptr(), 0) };
    }

    unsafe fn unlock(&self) {
        // SAFETY: the caller holds it (condition of the function).
        unsafe { kernel::__mtx_unlock_spin_flags(self.word(), 0, c"supdrv".as_ptr(), 0) };
    }
}

impl Drop for SpinLock {
    fn drop(&mut self) {
        // SAFETY: initialised; nobody holds it.
        unsafe { kernel::_mtx_destroy(self.word()) };
    }
}

/// A sleeping lock.
pub struct Mutex(Box<LockWords, FreeBsd>);

// SAFETY: a lock is for sharing.
unsafe impl Send for Mutex {}
// SAFETY: as above.
unsafe impl Sync for Mutex {}

impl Mutex {
    fn sx(&self) -> *mut c_void {
        self.0.get().cast()
    }
}

impl Drop for Mutex {
    fn drop(&mut self) {
        // SAFETY: initialised; nobody holds it.
        unsafe { kernel::sx_destroy(self.sx()) };
    }
}

impl OsLock for FreeBsd {
    type SpinLock = SpinLock;
    type Mutex = Mutex;

    fn spinlock_create(&self, class: LockClass) -> Result<SpinLock> {
        let lock = SpinLock(Box::new(self, UnsafeCell::new([0; 8]))?);
        // The order of spin locks that the kernel checks is a table in the kernel.
        let options = kernel::MTX_SPIN | kernel::MTX_NOWITNESS;
        // SAFETY: fresh storage, at its final place; a constant name.
        unsafe { kernel::_mtx_init(lock.word(), class.c_name().as_ptr(), core::ptr::null(), options) };
        Ok(lock)
    }

    fn spinlock_acquire(&self, lock: &SpinLock) {
        lock.lock();
    }

    unsafe fn spinlock_release(&self, lock: &SpinLock) {
        // SAFETY: condition of the function.
        unsafe { lock.unlock() };
    }

    fn spinlock_acquire_irq(&self, lock: &SpinLock) -> IrqState {
        lock.lock();
        // The kernel keeps the state in the thread, for nested locks too.
        IrqState(0)
    }

    unsafe fn spinlock_release_irq(&self, lock: &SpinLock, _state: IrqState) {
        // SAFETY: condition of the function.
        unsafe { lock.unlock() };
    }

    fn spinlock_handle(&self, lock: &SpinLock) -> usize {
        lock.0.get() as usize
    }

    fn mutex_create(&self, class: LockClass) -> Result<Mutex> {
        let mutex = Mutex(Box::new(self, UnsafeCell::new([0; 8]))?);
        // SAFETY: fresh storage, at its final place; a constant name.
        unsafe { kernel::sx_init_flags(mutex.sx(), class.c_name().as_ptr(), kernel::SX_DUPOK) };
        Ok(mutex)
    }

    fn mutex_acquire(&self, mutex: &Mutex) {
        // Without the flag for signals it doesn't fail.
        // SAFETY: initialised, at an address that doesn't change.
        let _always_0 = unsafe { kernel::_sx_xlock(mutex.sx(), 0, c"supdrv".as_ptr(), 0) };
    }

    unsafe fn mutex_release(&self, mutex: &Mutex) {
        // SAFETY: condition of the function.
        unsafe { kernel::_sx_xunlock(mutex.sx(), c"supdrv".as_ptr(), 0) };
    }

    fn mutex_handle(&self, mutex: &Mutex) -> usize {
        mutex.sx() as usize
    }
}

/// CPUs never change after boot: there is nothing to register for.
pub struct NoCpuEvents;

unsafe extern "C" fn cross_called(call: *mut c_void) {
    // SAFETY: the argument of a call that waits for this.
    unsafe { CrossCall::run(call, glue::supdrv_glue_cpu()) };
}

impl FreeBsd {
    pub(crate) fn cpu_exists(&self, cpu_id: u32) -> bool {
        glue::supdrv_glue_cpu_absent(cpu_id) == 0
    }
}

impl OsCpu for FreeBsd {
    type MpRegistration = NoCpuEvents;

    fn cpu_id(&self) -> u32 {
        glue::supdrv_glue_cpu()
    }

    fn cpu_max_id(&self) -> u32 {
        kernel::mp_maxid
    }

    fn cpu_present_count(&self) -> usize {
        usize::try_from(kernel::mp_ncpus).unwrap_or(1)
    }

    fn cpu_possible_set(&self) -> CpuSet {
        self.cpu_online_set()
    }

    fn cpu_online_set(&self) -> CpuSet {
        let mut set = CpuSet::default();
        for id in (0..=self.cpu_max_id()).take(MAX_CPUS).filter(|id| self.cpu_exists(*id)) {
            set.insert(id as usize);
        }
        set
    }

    unsafe fn mp_on_all(&self, worker: MpWorker, context: *mut c_void) -> Result<()> {
        let call = CrossCall::new(worker, context);
        let barrier = kernel::smp_no_rendezvous_barrier;
        // SAFETY: the call outlives the rendezvous, which waits.
        unsafe { kernel::smp_rendezvous(barrier, cross_called, barrier, call.argument()) };
        Ok(())
    }

    unsafe fn mp_on_cpu(&self, cpu_id: u32, worker: MpWorker, context: *mut c_void) -> Result<()> {
        if !self.cpu_exists(cpu_id) {
            return Err(VERR_CPU_NOT_FOUND);
        }
        let pinned = self.preempt_disable();
        let here = self.cpu_id() == cpu_id;
        if here {
            // SAFETY: the worker may be called with the context (condition of the function).
            unsafe { worker(cpu_id, context) };
        }
        // SAFETY: disabled above.
        unsafe { self.preempt_restore(pinned) };
        if !here {
            let call = CrossCall::new(worker, context);
            // SAFETY: the call outlives this, which waits.
            unsafe { glue::supdrv_glue_run_on(cpu_id, cross_called, call.argument()) };
        }
        Ok(())
    }

    unsafe fn mp_register(&self, _callback: MpEventCallback, _context: *mut c_void) -> Result<NoCpuEvents> {
        Ok(NoCpuEvents)
    }

    fn tsc_trusted(&self) -> Option<bool> {
        (kernel::tsc_freq == 0).then_some(false)
    }
}

impl OsArch for FreeBsd {
    supdrv_core::glue_arch!(crate::glue);

    fn irq_save(&self) -> usize {
        glue::supdrv_glue_irq_save() as usize
    }

    unsafe fn irq_restore(&self, flags: usize) {
        // SAFETY: condition of the function.
        unsafe { glue::supdrv_glue_irq_restore(flags as core::ffi::c_ulong) };
    }
}

/// The credentials of the current thread.
pub(crate) fn caller() -> Caller {
    let mut caller = Caller::default();
    // SAFETY: the current thread; the result is ours.
    unsafe { glue::supdrv_glue_caller(core::ptr::null_mut(), &raw mut caller) };
    caller
}

/// Bits of a process id.
const PID_BITS: u32 = 17;

impl OsIdentity for FreeBsd {
    /// Sessions need nothing: processes aren't referenced, their identity includes the process id.
    type SessionExt = ();

    fn session_ext_create(&self, _kind: SessionKind) -> Result<()> {
        Ok(())
    }

    fn real_uid(&self) -> u32 {
        caller().real_uid
    }

    fn real_gid(&self) -> u32 {
        caller().real_gid
    }

    fn process_id(&self) -> u32 {
        glue::supdrv_glue_pid()
    }

    /// The kernel recycles process structures: the address alone could be a later process. The upper bits of a kernel address are all
    /// ones and make room for the id.
    fn process_handle(&self) -> usize {
        let process = glue::supdrv_glue_process() as usize;
        (process << PID_BITS) | (self.process_id() as usize & ((1 << PID_BITS) - 1))
    }

    fn thread_handle(&self) -> usize {
        glue::supdrv_glue_thread() as usize
    }

    fn preempt_disable(&self) -> PreemptState {
        kernel::critical_enter_KBI();
        PreemptState(0)
    }

    unsafe fn preempt_restore(&self, _state: PreemptState) {
        kernel::critical_exit_KBI();
    }
}

impl OsHwVirt for FreeBsd {}

/// Lines of the log in a second; what is beyond goes nowhere: the console may be a serial line.
const LINES_PER_SECOND: c_int = 100;

/// The state of the limit, which is the kernel's business; when two CPUs write it at once, a line more or less is written.
struct Lines {
    second: UnsafeCell<kernel::Timespec>,
    count: UnsafeCell<c_int>,
}

// SAFETY: only the kernel looks into it.
unsafe impl Sync for Lines {}

static LINES: Lines = Lines { second: UnsafeCell::new(kernel::Timespec::ZERO), count: UnsafeCell::new(0) };

impl OsLog for FreeBsd {
    fn log_write(&self, text: &[u8]) {
        // SAFETY: the state lives as long as the driver; a race costs a line.
        let within = unsafe { kernel::ppsratecheck(LINES.second.get(), LINES.count.get(), LINES_PER_SECOND) };
        if within == 0 {
            return;
        }
        let end = if text.ends_with(b"\n") { c"" } else { c"\n" };
        let bytes = c_int::try_from(text.len()).unwrap_or(c_int::MAX);
        // SAFETY: constant formats; the text has that many bytes.
        unsafe { kernel::printf(c"%.*s%s".as_ptr(), bytes, text.as_ptr(), end.as_ptr()) };
    }
}

impl OsPolicy for FreeBsd {
    const ENCODING: Encoding = Encoding::Bsd;

    supdrv_core::ring0_policy!(crate::module);

    fn forced_async_tsc_mode(&self, _dev_ext: &DevExtView) -> bool {
        glue::supdrv_glue_force_async_tsc() != 0
    }
}
