//! Heap, locks, identity, instructions, policy and log.

use core::alloc::Layout;
use core::cell::UnsafeCell;
use core::ffi::c_void;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicUsize, Ordering};

use supdrv_core::abi::ioctl::Encoding;
use supdrv_core::abi::status::Result;
use supdrv_core::heap::Box;
use supdrv_core::os::{
    IrqState, LockClass, LockKind, NIL_ID, OsArch, OsHeap, OsHwVirt, OsIdentity, OsLock, OsLog, OsPolicy,
    PreemptState, SessionKind,
};

use crate::kernel;
use crate::nt::sys;
use crate::nt::{DISPATCH_LEVEL, FastMutex, Irql, KEvent, hw};

/// The NT kernel. Everything it needs to know it asks the kernel.
#[derive(Clone, Copy, Debug, Default)]
pub struct Windows;

/// Marks the driver's memory for leak checks: `SUPd`.
pub const POOL_TAG: u32 = u32::from_le_bytes(*b"SUPd");
const NON_PAGED_POOL: u32 = 0;
const NON_PAGED_POOL_NX: u32 = 512;

/// Allocates resident memory, executable only where the kernel has no other. At most DISPATCH.
pub(crate) fn pool_alloc(bytes: usize) -> Option<NonNull<u8>> {
    let pool = if kernel::has_nx_pool() { NON_PAGED_POOL_NX } else { NON_PAGED_POOL };
    // SAFETY: at most DISPATCH; these pools return null when there is no memory.
    NonNull::new(unsafe { sys::ExAllocatePoolWithTag(pool, bytes.max(1), POOL_TAG) }.cast())
}

/// Allocates resident executable memory. At most DISPATCH.
pub(crate) fn pool_alloc_exec(bytes: usize) -> Option<NonNull<u8>> {
    // SAFETY: as above.
    NonNull::new(unsafe { sys::ExAllocatePoolWithTag(NON_PAGED_POOL, bytes.max(1), POOL_TAG) }.cast())
}

/// # Safety
/// `memory` came from one of the functions above and isn't used any more.
pub(crate) unsafe fn pool_free(memory: NonNull<u8>) {
    // SAFETY: conditions of the function.
    unsafe { sys::ExFreePoolWithTag(memory.as_ptr().cast(), POOL_TAG) };
}

/// What pool memory is aligned to.
const POOL_ALIGN: usize = 2 * size_of::<usize>();

impl OsHeap for Windows {
    fn heap_alloc_zeroed(&self, layout: Layout) -> Option<NonNull<u8>> {
        // Larger alignments pay for themselves: the distance to the start of the block is noted right before the memory.
        let extra = if layout.align() > POOL_ALIGN { layout.align() } else { 0 };
        let bytes = layout.size().checked_add(extra).filter(|bytes| isize::try_from(*bytes).is_ok())?;
        let block = pool_alloc(bytes)?;
        // SAFETY: the block has that many bytes.
        unsafe { block.write_bytes(0, bytes) };
        if extra == 0 {
            return Some(block);
        }
        let shift = layout.align() - block.as_ptr() as usize % layout.align();
        // SAFETY: 0 < shift <= extra, a multiple of the pool's alignment, so that the note fits between block and memory.
        unsafe {
            let memory = block.add(shift);
            memory.cast::<usize>().sub(1).write(shift);
            Some(memory)
        }
    }

    unsafe fn heap_free(&self, ptr: NonNull<u8>, layout: Layout) {
        let block = if layout.align() > POOL_ALIGN {
            // SAFETY: such memory has its distance from the block right before it.
            unsafe { ptr.sub(ptr.cast::<usize>().sub(1).read()) }
        } else {
            ptr
        };
        // SAFETY: the block came from the pool, and nobody uses it (conditions of the function).
        unsafe { pool_free(block) };
    }
}

/// A spinlock of either kind.
///
/// Ordinary ones are the kernel's, so that its verifier can check them. IRQ-safe ones are a plain word: no function of the kernel
/// may be called while interrupts are off.
pub struct SpinLock {
    word: Box<AtomicUsize, Windows>,
    /// IRQL before the acquisition; the holder's.
    irql: UnsafeCell<Irql>,
}

// SAFETY: the IRQL is touched by the holder only.
unsafe impl Sync for SpinLock {}

/// Interrupt flag and IRQL, as [`IrqState`] carries them.
const IRQL_SHIFT: u32 = usize::BITS - 8;
const FLAGS_MASK: usize = (1 << IRQL_SHIFT) - 1;
/// The IRQL wasn't touched.
const SAME_IRQL: usize = 0xff;

/// A sleeping lock: it leaves the IRQL alone, since whoever holds it loads images and waits for DPCs.
pub struct Mutex(Box<UnsafeCell<FastMutex>, Windows>);

// SAFETY: the kernel's own object, made for several threads.
unsafe impl Send for Mutex {}
// SAFETY: as above.
unsafe impl Sync for Mutex {}

impl OsLock for Windows {
    type SpinLock = SpinLock;
    type Mutex = Mutex;

    fn spinlock_create(&self, class: LockClass) -> Result<SpinLock> {
        debug_assert!(class.kind() != LockKind::Mutex);
        Ok(SpinLock { word: Box::new(self, AtomicUsize::new(0))?, irql: UnsafeCell::new(0) })
    }

    fn spinlock_acquire(&self, lock: &SpinLock) {
        // SAFETY: at most DISPATCH (class D); the word is resident.
        let irql = unsafe { sys::KeAcquireSpinLockRaiseToDpc(lock.word.as_ptr().as_ptr().cast()) };
        // SAFETY: the holder's.
        unsafe { *lock.irql.get() = irql };
    }

    unsafe fn spinlock_release(&self, lock: &SpinLock) {
        // SAFETY: still the holder's.
        let irql = unsafe { *lock.irql.get() };
        // SAFETY: the caller holds the lock; the IRQL is what acquiring returned.
        unsafe { sys::KeReleaseSpinLock(lock.word.as_ptr().as_ptr().cast(), irql) };
    }

    fn spinlock_acquire_irq(&self, lock: &SpinLock) -> IrqState {
        // With interrupts off the IRQL stays: lowering it again could run software interrupts.
        let irql = if hw::interrupts_enabled() && hw::irql() < DISPATCH_LEVEL {
            // SAFETY: raises.
            usize::from(unsafe { sys::KfRaiseIrql(DISPATCH_LEVEL) })
        } else {
            SAME_IRQL
        };
        let flags = hw::irq_save();
        while lock.word.compare_exchange_weak(0, 1, Ordering::Acquire, Ordering::Relaxed).is_err() {
            core::hint::spin_loop();
        }
        IrqState(irql << IRQL_SHIFT | (flags & FLAGS_MASK))
    }

    unsafe fn spinlock_release_irq(&self, lock: &SpinLock, state: IrqState) {
        lock.word.store(0, Ordering::Release);
        // SAFETY: the flags of the matching acquisition.
        unsafe { hw::irq_restore(state.0 & FLAGS_MASK) };
        let irql = state.0 >> IRQL_SHIFT;
        if irql != SAME_IRQL {
            // SAFETY: the IRQL of the matching acquisition, which raised it.
            unsafe { sys::KeLowerIrql(irql as Irql) };
        }
    }

    fn spinlock_handle(&self, lock: &SpinLock) -> usize {
        lock.word.as_ptr().as_ptr() as usize
    }

    fn mutex_create(&self, _class: LockClass) -> Result<Mutex> {
        let new = FastMutex {
            count: 1,
            owner: core::ptr::null_mut(),
            contention: 0,
            event: KEvent::NEW,
            old_irql: 0,
        };
        let mutex = Box::new(self, UnsafeCell::new(new))?;
        // SAFETY: the event is where it stays.
        unsafe { sys::KeInitializeEvent(&raw mut (*mutex.get()).event, SYNCHRONIZATION_EVENT, 0) };
        Ok(Mutex(mutex))
    }

    fn mutex_acquire(&self, mutex: &Mutex) {
        // The critical region keeps the holder from being suspended; I/O of the kernel's loader still completes.
        // SAFETY: below DISPATCH (class T); the mutex is initialised.
        unsafe {
            sys::KeEnterCriticalRegion();
            sys::ExAcquireFastMutexUnsafe(mutex.0.get());
        }
    }

    unsafe fn mutex_release(&self, mutex: &Mutex) {
        // SAFETY: the caller holds it.
        unsafe {
            sys::ExReleaseFastMutexUnsafe(mutex.0.get());
            sys::KeLeaveCriticalRegion();
        }
    }

    fn mutex_handle(&self, mutex: &Mutex) -> usize {
        mutex.0.get() as usize
    }
}

/// The kind of event that releases one waiter.
pub(crate) const SYNCHRONIZATION_EVENT: u32 = 1;
/// The kind of event that stays signalled.
pub(crate) const NOTIFICATION_EVENT: u32 = 0;

/// A counted reference to a process: its address isn't given to another process meanwhile.
pub struct Process(NonNull<c_void>);

// SAFETY: objects of the kernel may be used from any thread.
unsafe impl Send for Process {}
// SAFETY: as above.
unsafe impl Sync for Process {}

impl Process {
    /// The calling process. At most DISPATCH.
    pub(crate) fn current() -> Option<Self> {
        // SAFETY: always there.
        let process = NonNull::new(unsafe { sys::IoGetCurrentProcess() })?;
        // SAFETY: an object that is alive while its thread runs.
        unsafe { sys::ObfReferenceObject(process.as_ptr()) };
        Some(Self(process))
    }

    /// One more reference to the same process.
    pub(crate) fn another(&self) -> Self {
        // SAFETY: alive by this reference.
        unsafe { sys::ObfReferenceObject(self.as_ptr()) };
        Self(self.0)
    }

    pub(crate) const fn as_ptr(&self) -> *mut c_void {
        self.0.as_ptr()
    }

    /// Calls `function` in the address space of this process. At most APC.
    pub(crate) fn attached<R>(&self, function: impl FnOnce() -> R) -> R {
        // SAFETY: always there.
        if kernel::is_emulated() || unsafe { sys::IoGetCurrentProcess() } == self.as_ptr() {
            return function();
        }
        let mut state = crate::nt::KApcState::NEW;
        // SAFETY: the reference keeps the process; the state is undone below, in the same thread.
        unsafe { sys::KeStackAttachProcess(self.as_ptr(), &raw mut state) };
        let result = function();
        // SAFETY: as above.
        unsafe { sys::KeUnstackDetachProcess(&raw mut state) };
        result
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // SAFETY: gives up the reference that `current` took.
        unsafe { sys::ObfDereferenceObject(self.as_ptr()) };
    }
}

/// What a session keeps: its process.
pub struct SessionExt(Option<Process>);

impl SessionExt {
    /// The process; kernel sessions have none.
    #[must_use]
    pub const fn process(&self) -> Option<&Process> {
        self.0.as_ref()
    }
}

impl OsIdentity for Windows {
    type SessionExt = SessionExt;

    fn session_ext_create(&self, kind: SessionKind) -> Result<SessionExt> {
        Ok(SessionExt(if kind.is_user() { Process::current() } else { None }))
    }

    fn real_uid(&self) -> u32 {
        NIL_ID
    }

    fn real_gid(&self) -> u32 {
        NIL_ID
    }

    fn process_id(&self) -> u32 {
        // SAFETY: always there.
        unsafe { sys::PsGetCurrentProcessId() as usize as u32 }
    }

    fn process_handle(&self) -> usize {
        // SAFETY: always there.
        unsafe { sys::IoGetCurrentProcess() as usize }
    }

    fn thread_handle(&self) -> usize {
        // SAFETY: always there.
        unsafe { sys::PsGetCurrentThread() as usize }
    }

    fn preempt_disable(&self) -> PreemptState {
        if hw::irql() >= DISPATCH_LEVEL {
            return PreemptState(SAME_IRQL);
        }
        // SAFETY: raises.
        PreemptState(usize::from(unsafe { sys::KfRaiseIrql(DISPATCH_LEVEL) }))
    }

    unsafe fn preempt_restore(&self, state: PreemptState) {
        if state.0 != SAME_IRQL {
            // SAFETY: the IRQL before the matching disable, which raised it.
            unsafe { sys::KeLowerIrql(state.0 as Irql) };
        }
    }
}

impl OsArch for Windows {
    unsafe fn rdmsr(&self, msr: u32) -> u64 {
        // SAFETY: condition of the function.
        unsafe { hw::rdmsr(msr) }
    }

    fn cr0(&self) -> usize {
        hw::cr0()
    }

    fn cr4(&self) -> usize {
        hw::cr4()
    }

    fn irq_save(&self) -> usize {
        hw::irq_save()
    }

    unsafe fn irq_restore(&self, flags: usize) {
        // SAFETY: condition of the function.
        unsafe { hw::irq_restore(flags) };
    }
}

/// The defaults hold: the kernel doesn't manage VT-x.
impl OsHwVirt for Windows {}

impl OsLog for Windows {
    fn log_write(&self, text: &[u8]) {
        const IHVDRIVER: u32 = 77;
        const ERROR_LEVEL: u32 = 0;
        // No call of the kernel while interrupts are off.
        if !hw::interrupts_enabled() {
            return;
        }
        let mut line = [0; 512];
        let room = line.len() - 1;
        for (to, from) in line.iter_mut().take(room).zip(text) {
            *to = *from;
        }
        // SAFETY: a format with one string, and a string that ends.
        unsafe { sys::DbgPrintEx(IHVDRIVER, ERROR_LEVEL, c"%s".as_ptr().cast(), line.as_ptr()) };
    }
}

impl OsPolicy for Windows {
    const ENCODING: Encoding = Encoding::Windows;

    supdrv_core::ring0_policy!(crate::module);
}
