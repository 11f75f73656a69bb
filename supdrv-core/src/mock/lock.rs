//! Locks: real ones, that several host threads can contend for, with checks of order, owner and context.

use core::sync::atomic::{AtomicUsize, Ordering};
use std::boxed::Box;
use std::sync::{Arc, Condvar};

use super::context::Held;
use super::{Call, Class, Codes, Kind, Machine, MockOs, locked, schedule};
use crate::abi::status::{Result, VERR_NO_MEMORY};
use crate::os::{IrqState, LockClass, LockKind, OsIdentity, OsLock};

const FREE: usize = 0;

/// What both kinds have. Boxed: its address is the native handle.
#[derive(Debug)]
struct Lock {
    machine: Arc<Machine>,
    class: LockClass,
    /// The thread that holds it.
    owner: AtomicUsize,
}

/// A spinlock.
#[derive(Debug)]
pub struct SpinLock(Box<Lock>);

/// A sleeping lock.
#[derive(Debug)]
pub struct Mutex {
    lock: Box<Lock>,
    freed: Box<(std::sync::Mutex<()>, Condvar)>,
}

impl Lock {
    fn new(machine: &Arc<Machine>, class: LockClass) -> Box<Self> {
        Box::new(Self { machine: machine.clone(), class, owner: AtomicUsize::new(FREE) })
    }

    fn handle(&self) -> usize {
        core::ptr::from_ref(self) as usize
    }

    fn try_acquire(&self, thread: usize) -> bool {
        self.owner.compare_exchange(FREE, thread, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// Checks what must hold before waiting for the lock.
    fn before(&self, thread: usize) {
        // Waiting would never end.
        assert!(
            self.owner.load(Ordering::Relaxed) != thread,
            "{:?} is taken twice by one thread",
            self.class
        );
        self.machine.check_lock_order(self.class);
    }

    fn acquired(&self) {
        self.machine.lock_taken(Held { class: self.class, lock: self.handle() });
    }

    fn release(&self) {
        self.machine.lock_released(self.handle());
        self.owner.store(FREE, Ordering::Release);
    }

    fn destroyed(&self, kind: Kind, call: Call) {
        self.machine.require(Class::T, call);
        self.machine.account.gone(kind);
        if self.owner.load(Ordering::Relaxed) != FREE {
            self.machine.violation("a lock is destroyed while it is held");
        }
    }
}

impl Drop for SpinLock {
    fn drop(&mut self) {
        self.0.destroyed(Kind::SpinLock, Call::SpinlockDestroy);
    }
}

impl Drop for Mutex {
    fn drop(&mut self) {
        self.lock.destroyed(Kind::Mutex, Call::MutexDestroy);
    }
}

impl<E: Codes> MockOs<E> {
    fn spin(&self, lock: &SpinLock, kind: LockKind) {
        if lock.0.class.kind() != kind {
            self.violation("a spinlock is taken in the way of another kind");
        }
        let thread = self.thread_handle();
        lock.0.before(thread);
        schedule::point();
        while !lock.0.try_acquire(thread) {
            schedule::pause();
        }
        lock.0.acquired();
    }
}

impl<E: Codes> OsLock for MockOs<E> {
    type SpinLock = SpinLock;
    type Mutex = Mutex;

    fn spinlock_create(&self, class: LockClass) -> Result<SpinLock> {
        self.require(Class::T, Call::SpinlockCreate);
        self.fallible(Call::SpinlockCreate, VERR_NO_MEMORY)?;
        if class.kind() == LockKind::Mutex {
            self.violation("a spinlock of a mutex class");
        }
        self.account.made(Kind::SpinLock);
        Ok(SpinLock(Lock::new(self.machine(), class)))
    }

    fn spinlock_acquire(&self, lock: &SpinLock) {
        self.require(Class::D, Call::SpinlockAcquire);
        self.context(|context| context.preempt_depth += 1);
        self.spin(lock, LockKind::Spin);
    }

    unsafe fn spinlock_release(&self, lock: &SpinLock) {
        lock.0.release();
        self.context(|context| context.preempt_depth = context.preempt_depth.saturating_sub(1));
        schedule::point();
    }

    fn spinlock_acquire_irq(&self, lock: &SpinLock) -> IrqState {
        self.account.note(Call::SpinlockAcquire);
        let were_off = self.context(|context| core::mem::replace(&mut context.irqs_off, true));
        self.spin(lock, LockKind::IrqSpin);
        IrqState(usize::from(were_off))
    }

    unsafe fn spinlock_release_irq(&self, lock: &SpinLock, state: IrqState) {
        let newest = self.context(|context| {
            let mut spinlocks = context.held.iter().filter(|held| held.class.kind() != LockKind::Mutex);
            spinlocks.next_back().map(|held| held.lock)
        });
        if newest != Some(lock.0.handle()) {
            self.violation("spinlocks are not released in the reverse order");
        }
        lock.0.release();
        self.context(|context| context.irqs_off = state.0 != 0);
        schedule::point();
    }

    fn spinlock_handle(&self, lock: &SpinLock) -> usize {
        lock.0.handle()
    }

    fn mutex_create(&self, class: LockClass) -> Result<Mutex> {
        self.require(Class::T, Call::MutexCreate);
        self.fallible(Call::MutexCreate, VERR_NO_MEMORY)?;
        if class.kind() != LockKind::Mutex {
            self.violation("a mutex of a spinlock class");
        }
        self.account.made(Kind::Mutex);
        Ok(Mutex { lock: Lock::new(self.machine(), class), freed: Default::default() })
    }

    fn mutex_acquire(&self, mutex: &Mutex) {
        self.require(Class::T, Call::MutexAcquire);
        let thread = self.thread_handle();
        mutex.lock.before(thread);
        let (gate, freed) = &*mutex.freed;
        let mut guard = locked(gate);
        while !mutex.lock.try_acquire(thread) {
            if schedule::task().is_some() {
                drop(guard);
                schedule::pause();
                guard = locked(gate);
            } else {
                guard = freed.wait(guard).unwrap_or_else(std::sync::PoisonError::into_inner);
            }
        }
        drop(guard);
        mutex.lock.acquired();
    }

    unsafe fn mutex_release(&self, mutex: &Mutex) {
        let (gate, freed) = &*mutex.freed;
        let guard = locked(gate);
        mutex.lock.release();
        drop(guard);
        freed.notify_one();
        schedule::point();
    }

    fn mutex_handle(&self, mutex: &Mutex) -> usize {
        mutex.lock.handle()
    }
}
