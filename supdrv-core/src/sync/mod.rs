//! RAII locks over the seam.
//!
//! Each lock owns the data it protects. The order in which locks may be nested is the order of
//! [`LockClass`], written there and nowhere else:
//!
//! loader → component → tracer → GIP (mutexes, may block) → handle table → device → GIP entries (interrupts off) →
//! session (preemption off).
//!
//! Under a spinlock the core allocates nothing, frees nothing and calls nobody: what must be freed is moved out of the
//! guarded data and dropped after the guard.

mod gate;

/// What is modelled is also compiled with a model checker's atomics, in its test.
pub(crate) mod atomics {
    pub use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, Ordering, fence};
}

pub use gate::{Gate, Pass};

pub mod event;

use core::cell::UnsafeCell;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};

use crate::abi::status::Result;
use crate::os::{IrqState, LockClass, LockKind, OsLock, PreemptState};

/// Guards must be released by the thread and CPU that acquired them.
type NotSend = PhantomData<*mut ()>;

/// Proof that interrupts are off on this CPU for `'a`. Only an IRQ-safe guard or [`IrqsOff`] can produce it.
#[derive(Clone, Copy)]
pub struct IrqOff<'a>(PhantomData<(&'a (), *mut ())>);

/// Interrupts off on this CPU without a lock, until dropped.
pub struct IrqsOff<'a, O: crate::os::OsArch> {
    os: &'a O,
    flags: usize,
    _not_send: NotSend,
}

impl<'a, O: crate::os::OsArch> IrqsOff<'a, O> {
    /// Disables interrupts. Class I.
    pub fn new(os: &'a O) -> Self {
        Self { os, flags: os.irq_save(), _not_send: PhantomData }
    }

    /// The proof.
    pub fn token(&self) -> IrqOff<'_> {
        IrqOff(PhantomData)
    }
}

impl<O: crate::os::OsArch> Drop for IrqsOff<'_, O> {
    fn drop(&mut self) {
        // SAFETY: restores what `new` saved; the guard isn't Send, so this is the same CPU, and scopes nest.
        unsafe { self.os.irq_restore(self.flags) };
    }
}

/// The caller is pinned to its CPU until this is dropped.
pub struct Pinned<'a, O: crate::os::OsIdentity> {
    os: &'a O,
    state: PreemptState,
    _not_send: NotSend,
}

impl<'a, O: crate::os::OsIdentity> Pinned<'a, O> {
    /// Pins the caller. Class D.
    pub fn new(os: &'a O) -> Self {
        Self { os, state: os.preempt_disable(), _not_send: PhantomData }
    }
}

impl<O: crate::os::OsIdentity> Drop for Pinned<'_, O> {
    fn drop(&mut self) {
        // SAFETY: restores what `new` got; the guard isn't Send and scopes nest.
        unsafe { self.os.preempt_restore(self.state) };
    }
}

macro_rules! lock_type {
    ($(#[$doc:meta])* $lock:ident, $guard:ident, $raw:ident, $kind:pat, $create:ident, $handle:ident, $state:ty,
     |$acquire_os:ident, $acquire_raw:ident| $acquire:expr, |$release_os:ident, $release_raw:ident, $release_state:ident| $release:expr) => {
        $(#[$doc])*
        pub struct $lock<T, O: OsLock> {
            os: O,
            raw: O::$raw,
            data: UnsafeCell<T>,
        }

        // SAFETY: the lock gives one holder at a time exclusive access to the data.
        unsafe impl<T: Send, O: OsLock + Send> Send for $lock<T, O> {}
        // SAFETY: as above.
        unsafe impl<T: Send, O: OsLock + Sync> Sync for $lock<T, O> {}

        impl<T, O: OsLock + Clone> $lock<T, O> {
            /// Creates a lock of a class of this kind. Class T.
            ///
            /// # Errors
            /// `VERR_NO_MEMORY`; the data is dropped then.
            pub fn new(os: &O, class: LockClass, data: T) -> Result<Self> {
                debug_assert!(matches!(class.kind(), $kind));
                Ok(Self { os: os.clone(), raw: os.$create(class)?, data: UnsafeCell::new(data) })
            }
        }

        impl<T, O: OsLock> $lock<T, O> {
            /// Acquires the lock.
            pub fn lock(&self) -> $guard<'_, T, O> {
                let ($acquire_os, $acquire_raw) = (&self.os, &self.raw);
                let state = $acquire;
                $guard { lock: self, state, _not_send: PhantomData }
            }

            /// The native handle, for the published view.
            pub fn handle(&self) -> usize {
                self.os.$handle(&self.raw)
            }

            /// The data, without locking: nobody else can have it.
            pub fn get_mut(&mut self) -> &mut T {
                self.data.get_mut()
            }
        }

        /// Holds the lock; releases it when dropped.
        pub struct $guard<'a, T, O: OsLock> {
            lock: &'a $lock<T, O>,
            #[allow(dead_code, reason = "only the IRQ-safe kind has a state")]
            state: $state,
            _not_send: NotSend,
        }

        impl<T, O: OsLock> Deref for $guard<'_, T, O> {
            type Target = T;

            fn deref(&self) -> &T {
                // SAFETY: the guard proves that the lock is held.
                unsafe { &*self.lock.data.get() }
            }
        }

        impl<T, O: OsLock> DerefMut for $guard<'_, T, O> {
            fn deref_mut(&mut self) -> &mut T {
                // SAFETY: the guard proves that the lock is held, and is borrowed exclusively.
                unsafe { &mut *self.lock.data.get() }
            }
        }

        impl<T, O: OsLock> Drop for $guard<'_, T, O> {
            fn drop(&mut self) {
                let ($release_os, $release_raw, $release_state) = (&self.lock.os, &self.lock.raw, self.state);
                // SAFETY: this guard holds the lock (it isn't Send, so the same thread and CPU), and gives it up here.
                unsafe { $release };
            }
        }
    };
}

lock_type! {
    /// A sleeping lock. Class T, blocks. Not recursive.
    Mutex, MutexGuard, Mutex, LockKind::Mutex, mutex_create, mutex_handle, (),
    |os, raw| os.mutex_acquire(raw), |os, raw, _state| os.mutex_release(raw)
}

lock_type! {
    /// A spinlock that turns preemption off. Class D.
    SpinLock, SpinGuard, SpinLock, LockKind::Spin, spinlock_create, spinlock_handle, (),
    |os, raw| os.spinlock_acquire(raw), |os, raw, _state| os.spinlock_release(raw)
}

lock_type! {
    /// A spinlock that turns interrupts off. Class I.
    IrqSpinLock, IrqSpinGuard, SpinLock, LockKind::IrqSpin, spinlock_create, spinlock_handle, IrqState,
    |os, raw| os.spinlock_acquire_irq(raw), |os, raw, state| os.spinlock_release_irq(raw, state)
}

impl<T, O: OsLock> IrqSpinGuard<'_, T, O> {
    /// Proof that interrupts are off while this guard lives.
    pub fn irq_off(&self) -> IrqOff<'_> {
        IrqOff(PhantomData)
    }
}
