//! Locks. The RAII faces over these are in [`crate::sync`]; nothing else in the core calls them.

use crate::abi::status::Result;

/// What kind of lock a [`LockClass`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockKind {
    /// Sleeping lock, not recursive, uninterruptible. Taking it must not change what the holder may call: module
    /// callbacks run while it is held (on Windows a fast mutex would raise the IRQL: use another kind).
    Mutex,
    /// Spinlock that leaves the interrupt state alone. Never taken from interrupt context.
    Spin,
    /// Spinlock that disables interrupts while it is held.
    IrqSpin,
}

/// The purpose of a lock: decides its kind, its name, and its place in the lock order.
///
/// **The lock order of the driver is the order of this enum**: while a lock is held, only locks of *later* classes
/// may be taken. The mock system checks that in every test. The classes of modules at its end are outside of that order
/// ([`LockClass::is_ordered`]): only their owners know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum LockClass {
    /// Images, usage counts of images, the VMMR0 entry points. Held while module init and term callbacks run.
    Loader,
    /// Component factories. Held while factories are queried.
    Component,
    /// Tracer registration, providers, user modules.
    Tracer,
    /// Mapping and unmapping of the GIP, its timer.
    Gip,
    /// A session's handle table. Semaphores are signalled with interrupts off.
    HandleTable,
    /// The list of live sessions.
    Sessions,
    /// Object registry and object usage of all sessions.
    Device,
    /// Assignment of GIP entries to CPUs. Taken in CPU on-line and off-line notifications.
    GipEntries,
    /// A session's memory references. Leaf: nothing is called under it but memory-object queries.
    Session,
    /// A mutex of a loaded module.
    ModuleMutex,
    /// A spinlock of a loaded module, or of the ring-0 runtime for its objects.
    ModuleSpin,
    /// An IRQ-safe spinlock of a loaded module, or of the ring-0 runtime for its objects.
    ModuleIrqSpin,
}

impl LockClass {
    /// The kind of lock to create for this class.
    #[must_use]
    pub const fn kind(self) -> LockKind {
        match self {
            Self::Loader | Self::Component | Self::Tracer | Self::Gip | Self::ModuleMutex => LockKind::Mutex,
            Self::HandleTable | Self::Sessions | Self::Device | Self::GipEntries | Self::ModuleIrqSpin => {
                LockKind::IrqSpin
            }
            Self::Session | Self::ModuleSpin => LockKind::Spin,
        }
    }

    /// A name for lock debuggers, as C code wants it; the seed's where it has one.
    #[must_use]
    pub const fn c_name(self) -> &'static core::ffi::CStr {
        match self {
            Self::Loader => c"SUPDrvLdr",
            Self::Component => c"SUPDrvComponent",
            Self::Tracer => c"SUPDrvTracer",
            Self::Gip => c"SUPDrvGipMtx",
            Self::HandleTable => c"SUPDrvHandles",
            Self::Sessions => c"SUPDrvSessions",
            Self::Device => c"SUPDrvDevExt",
            Self::GipEntries => c"SUPDrvGip",
            Self::Session => c"SUPDrvSession",
            Self::ModuleMutex => c"SUPDrvModMtx",
            Self::ModuleSpin => c"SUPDrvModSpin",
            Self::ModuleIrqSpin => c"SUPDrvModIrq",
        }
    }

    /// The name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self.c_name().to_str() {
            Ok(name) => name,
            Err(_) => "",
        }
    }

    /// Whether the class has a place in the lock order. Locks of modules nest in each other and around the core's in ways that only
    /// their owners know.
    #[must_use]
    pub const fn is_ordered(self) -> bool {
        !matches!(self, Self::ModuleMutex | Self::ModuleSpin | Self::ModuleIrqSpin)
    }
}

/// The interrupt state that an IRQ-safe acquire found, for the matching release. Its content belongs to the system.
#[derive(Clone, Copy, Debug)]
pub struct IrqState(pub usize);

/// Locks of the three kinds. Dropping a handle destroys the lock (class T; nobody holds or waits for it).
pub trait OsLock {
    /// A spinlock of either kind.
    type SpinLock: Send + Sync;
    /// A sleeping lock.
    type Mutex: Send + Sync;

    /// Creates a spinlock of [`LockClass::kind`] `Spin` or `IrqSpin`. Class T.
    ///
    /// # Errors
    /// `VERR_NO_MEMORY`.
    fn spinlock_create(&self, class: LockClass) -> Result<Self::SpinLock>;

    /// Acquires a `Spin` lock: preemption off on return, interrupts as before. Class D.
    fn spinlock_acquire(&self, lock: &Self::SpinLock);

    /// Releases what [`spinlock_acquire`](Self::spinlock_acquire) acquired, on the same CPU.
    ///
    /// # Safety
    /// The caller holds the lock and gives it up.
    unsafe fn spinlock_release(&self, lock: &Self::SpinLock);

    /// Acquires an `IrqSpin` lock: interrupts and preemption off on return. Class I.
    ///
    /// The returned state is read after the lock is owned and belongs to the caller, never to the lock.
    fn spinlock_acquire_irq(&self, lock: &Self::SpinLock) -> IrqState;

    /// Releases what [`spinlock_acquire_irq`](Self::spinlock_acquire_irq) acquired and restores the interrupt state.
    ///
    /// # Safety
    /// The caller holds the lock and gives it up; `state` is what this acquire returned; locks nest LIFO.
    unsafe fn spinlock_release_irq(&self, lock: &Self::SpinLock, state: IrqState);

    /// The native handle, for the published view (the seed's `RTSPINLOCK`). Any context.
    fn spinlock_handle(&self, lock: &Self::SpinLock) -> usize;

    /// Creates a sleeping lock. Class T.
    ///
    /// # Errors
    /// `VERR_NO_MEMORY`.
    fn mutex_create(&self, class: LockClass) -> Result<Self::Mutex>;

    /// Acquires, uninterruptibly. Class T, blocks.
    fn mutex_acquire(&self, mutex: &Self::Mutex);

    /// Releases, by the thread that acquired. Class T.
    ///
    /// # Safety
    /// The calling thread holds the mutex and gives it up.
    unsafe fn mutex_release(&self, mutex: &Self::Mutex);

    /// The native handle, for the published view (the seed's `RTSEMMUTEX` or `RTSEMFASTMUTEX`). Any context.
    fn mutex_handle(&self, mutex: &Self::Mutex) -> usize;
}
