//! Heap and locks.

use core::alloc::Layout;
use core::ffi::c_void;
use core::ptr::{NonNull, null_mut};

use super::ffi::{self, TAG};
use super::{Legacy, created};
use crate::abi::status::Result;
use crate::os::{IrqState, LockClass, LockKind, OsHeap, OsLock};

/// What the runtime's heap aligns everything to, at least.
const HEAP_ALIGN: usize = size_of::<usize>();

/// Bytes to ask the heap for, so that an aligned block with a note of its true start before it fits.
fn padded(layout: Layout) -> Option<usize> {
    layout.size().checked_add(layout.align())?.checked_add(size_of::<usize>())
}

impl OsHeap for Legacy {
    fn heap_alloc_zeroed(&self, layout: Layout) -> Option<NonNull<u8>> {
        if layout.align() <= HEAP_ALIGN {
            return NonNull::new(ffi::RTMemAllocZTag(layout.size(), TAG).cast());
        }
        let start = NonNull::new(ffi::RTMemAllocZTag(padded(layout)?, TAG))?.cast::<u8>();
        // SAFETY: the allocation has room for a word, the alignment and the block.
        let behind_note = unsafe { start.add(size_of::<usize>()) };
        // SAFETY: less than the alignment further, which was asked for besides.
        let block = unsafe { behind_note.add(behind_note.align_offset(layout.align())) };
        // SAFETY: at least one word before the block belongs to the allocation.
        unsafe { block.cast::<NonNull<u8>>().sub(1).write_unaligned(start) };
        Some(block)
    }

    unsafe fn heap_free(&self, ptr: NonNull<u8>, layout: Layout) {
        let start = if layout.align() <= HEAP_ALIGN {
            ptr
        } else {
            // SAFETY: `heap_alloc_zeroed` noted the start there, for the same layout.
            unsafe { ptr.cast::<NonNull<u8>>().sub(1).read_unaligned() }
        };
        // SAFETY: the start of an allocation of `heap_alloc_zeroed`, which nobody uses any more (condition of the function).
        unsafe { ffi::RTMemFree(start.as_ptr().cast()) };
    }
}

/// Interrupts off while it is held.
const IRQ_SAFE: u32 = 2;
/// Interrupts as they are.
const IRQ_UNSAFE: u32 = 4;

/// An `RTSPINLOCK`.
pub struct SpinLock(NonNull<c_void>);

// SAFETY: the runtime's locks are made to be used by all threads.
unsafe impl Send for SpinLock {}
// SAFETY: as above.
unsafe impl Sync for SpinLock {}

impl Drop for SpinLock {
    fn drop(&mut self) {
        // SAFETY: the handle is this value's, and nobody can use it any more.
        let _status = unsafe { ffi::RTSpinlockDestroy(self.0.as_ptr()) };
    }
}

/// An `RTSEMFASTMUTEX`, or an `RTSEMMUTEX` where shells of the system use that.
pub struct Mutex {
    handle: NonNull<c_void>,
    #[cfg_attr(not(feature = "legacy-windows"), allow(dead_code, reason = "all are fast elsewhere"))]
    fast: bool,
}

// SAFETY: the runtime's mutexes are made to be used by all threads.
unsafe impl Send for Mutex {}
// SAFETY: as above.
unsafe impl Sync for Mutex {}

#[cfg(feature = "legacy-windows")]
mod slow {
    //! Mutexes that don't change the IRQL: module code runs, and files are read, while the loader's and the GIP's are held.
    pub use super::ffi::{
        RTSemMutexCreate as create, RTSemMutexDestroy as destroy, RTSemMutexRelease as release,
    };

    /// Waits without limit.
    ///
    /// # Safety
    /// The mutex lives.
    pub unsafe fn request(mutex: super::ffi::Handle) -> core::ffi::c_int {
        // SAFETY: condition of the function.
        unsafe { super::ffi::RTSemMutexRequest(mutex, u32::MAX) }
    }
}
#[cfg(not(feature = "legacy-windows"))]
mod slow {
    //! All mutexes are fast ones.
    pub use super::ffi::{
        RTSemFastMutexCreate as create, RTSemFastMutexDestroy as destroy, RTSemFastMutexRelease as release,
        RTSemFastMutexRequest as request,
    };
}

/// Classes whose mutex is a fast one everywhere.
const fn is_fast(class: LockClass) -> bool {
    !matches!(class, LockClass::Loader | LockClass::Gip)
}

impl Drop for Mutex {
    fn drop(&mut self) {
        let handle = self.handle.as_ptr();
        // SAFETY: the handle is this value's and of the kind that `fast` says; nobody can use it any more.
        let _status =
            unsafe { if self.fast { ffi::RTSemFastMutexDestroy(handle) } else { slow::destroy(handle) } };
    }
}

impl OsLock for Legacy {
    type SpinLock = SpinLock;
    type Mutex = Mutex;

    fn spinlock_create(&self, class: LockClass) -> Result<SpinLock> {
        let flags = if class.kind() == LockKind::IrqSpin { IRQ_SAFE } else { IRQ_UNSAFE };
        let mut handle = null_mut();
        // SAFETY: the name is a C string that lives for ever.
        let status = unsafe { ffi::RTSpinlockCreate(&raw mut handle, flags, c_name(class).as_ptr()) };
        created(status, handle).map(SpinLock)
    }

    fn spinlock_acquire(&self, lock: &SpinLock) {
        // SAFETY: the handle lives as long as the lock.
        unsafe { ffi::RTSpinlockAcquire(lock.0.as_ptr()) };
    }

    unsafe fn spinlock_release(&self, lock: &SpinLock) {
        // SAFETY: the handle lives as long as the lock; this thread holds it (condition of the function).
        unsafe { ffi::RTSpinlockRelease(lock.0.as_ptr()) };
    }

    /// The runtime keeps the interrupt state in the lock.
    fn spinlock_acquire_irq(&self, lock: &SpinLock) -> IrqState {
        // SAFETY: the handle lives as long as the lock.
        unsafe { ffi::RTSpinlockAcquire(lock.0.as_ptr()) };
        IrqState(0)
    }

    unsafe fn spinlock_release_irq(&self, lock: &SpinLock, _state: IrqState) {
        // SAFETY: the handle lives as long as the lock; this thread holds it (condition of the function).
        unsafe { ffi::RTSpinlockRelease(lock.0.as_ptr()) };
    }

    fn spinlock_handle(&self, lock: &SpinLock) -> usize {
        lock.0.as_ptr() as usize
    }

    fn mutex_create(&self, class: LockClass) -> Result<Mutex> {
        let fast = is_fast(class);
        let mut handle = null_mut();
        let status = if fast { ffi::RTSemFastMutexCreate(&mut handle) } else { slow::create(&mut handle) };
        Ok(Mutex { handle: created(status, handle)?, fast })
    }

    fn mutex_acquire(&self, mutex: &Mutex) {
        let handle = mutex.handle.as_ptr();
        // SAFETY: the handle lives as long as the mutex, and is of the kind that `fast` says.
        let request =
            || unsafe { if mutex.fast { ffi::RTSemFastMutexRequest(handle) } else { slow::request(handle) } };
        // It can't fail for a mutex that lives; a runtime that refuses would leave the data unprotected: wait for better times.
        while request() < 0 {
            let _status = ffi::RTThreadSleep(1);
        }
    }

    unsafe fn mutex_release(&self, mutex: &Mutex) {
        let handle = mutex.handle.as_ptr();
        // SAFETY: the handle lives as long as the mutex, and is of the kind that `fast` says; this thread holds it (condition of the function).
        let _status =
            unsafe { if mutex.fast { ffi::RTSemFastMutexRelease(handle) } else { slow::release(handle) } };
    }

    fn mutex_handle(&self, mutex: &Mutex) -> usize {
        mutex.handle.as_ptr() as usize
    }
}

/// The name of a spinlock, for lock debuggers of the runtime. The runtime may keep the pointer.
const fn c_name(class: LockClass) -> &'static core::ffi::CStr {
    match class {
        LockClass::HandleTable => c"SUPDrvHandles",
        LockClass::Sessions => c"SUPDrvSessions",
        LockClass::Device => c"SUPDrvDevExt",
        LockClass::GipEntries => c"SUPDrvGip",
        LockClass::Session => c"SUPDrvSession",
        _ => c"SUPDrv",
    }
}
