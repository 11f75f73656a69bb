//! Who runs where, and what it may do: the execution context of each host thread on each machine.
//!
//! Every host thread plays one kernel thread: it has a CPU, a process, an identity, a preemption count, an interrupt flag and the
//! locks that it holds. Callbacks (timers, cross calls, CPU events) run on the host thread that causes them, in a fresh context
//! with interrupts off, as if they had interrupted somebody else.

use std::cell::RefCell;
use std::vec::Vec;

use super::{Call, Machine, schedule};
use crate::os::LockClass;

/// The seam's context classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Thread: may block.
    T,
    /// Dispatch: no blocking.
    D,
    /// Interrupt: interrupts off.
    I,
}

/// A lock that the thread holds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    pub class: LockClass,
    pub lock: usize,
}

/// One thread's state on one machine.
#[derive(Clone, Debug, Default)]
pub(super) struct Context {
    /// Set index of the CPU; `None` is the lowest on-line one.
    pub cpu: Option<usize>,
    /// Index of the process.
    pub process: usize,
    /// Thread identity; 0 is the host thread's own.
    pub thread: usize,
    pub preempt_depth: usize,
    pub irqs_off: bool,
    pub in_callback: bool,
    pub held: Vec<Held>,
}

impl Context {
    fn class(&self) -> Class {
        if self.irqs_off {
            Class::I
        } else if self.preempt_depth != 0 || self.in_callback {
            Class::D
        } else {
            Class::T
        }
    }
}

std::thread_local! {
    /// By machine, and by task if this host thread runs several.
    static CONTEXTS: RefCell<Vec<((u64, usize), Context)>> = const { RefCell::new(Vec::new()) };
}

/// Drops this thread's state on a machine that is gone.
pub(super) fn forget(machine: u64) {
    let _ = CONTEXTS.try_with(|contexts| contexts.borrow_mut().retain(|((id, _), _)| *id != machine));
}

/// Restores a context, also when a test fails in between.
struct Restore<'a> {
    machine: &'a Machine,
    saved: Option<Context>,
}

impl Drop for Restore<'_> {
    fn drop(&mut self) {
        if let Some(saved) = self.saved.take() {
            self.machine.context(|context| *context = saved);
        }
    }
}

impl Machine {
    /// This thread's state.
    pub(super) fn context<T>(&self, f: impl FnOnce(&mut Context) -> T) -> T {
        let key = (self.id, schedule::task().unwrap_or(0));
        CONTEXTS.with(|contexts| {
            let mut contexts = contexts.borrow_mut();
            if let Some((_, context)) = contexts.iter_mut().find(|(found, _)| *found == key) {
                return f(context);
            }
            contexts.push((key, Context::default()));
            match contexts.last_mut() {
                Some((_, context)) => f(context),
                None => unreachable!("just pushed"),
            }
        })
    }

    /// Runs `f` with a changed context, then restores the old one.
    pub(super) fn scoped<T>(&self, change: impl FnOnce(&mut Context), f: impl FnOnce() -> T) -> T {
        let saved = self.context(|context| {
            let saved = context.clone();
            change(context);
            saved
        });
        let _restore = Restore { machine: self, saved: Some(saved) };
        f()
    }

    /// Runs a callback on a CPU as an interrupt does.
    pub(super) fn interrupt<T>(&self, cpu: usize, f: impl FnOnce() -> T) -> T {
        self.scoped(
            |context| {
                *context = Context {
                    cpu: Some(cpu),
                    thread: context.thread,
                    process: context.process,
                    irqs_off: true,
                    in_callback: true,
                    ..Default::default()
                };
            },
            f,
        )
    }

    /// Runs `f` on a virtual CPU.
    pub fn on_cpu<T>(&self, index: usize, f: impl FnOnce() -> T) -> T {
        self.scoped(|context| context.cpu = Some(index), f)
    }

    /// Runs `f` with interrupts off, as code in a module may.
    pub fn with_irqs_off<T>(&self, f: impl FnOnce() -> T) -> T {
        self.scoped(|context| context.irqs_off = true, f)
    }

    /// Runs `f` with preemption off.
    pub fn with_preemption_off<T>(&self, f: impl FnOnce() -> T) -> T {
        self.scoped(|context| context.preempt_depth += 1, f)
    }

    /// The class of the context that this thread is in.
    #[must_use]
    pub fn current_class(&self) -> Class {
        self.context(|context| context.class())
    }

    /// Whether this thread could be preempted now.
    #[must_use]
    pub fn preemption_is_enabled(&self) -> bool {
        self.current_class() == Class::T
    }

    /// Checks that a service may be called here.
    pub(super) fn require(&self, allowed: Class, call: Call) {
        let (class, locks) = self.context(|context| {
            let class = context.class();
            (class, if class > allowed { context.held.clone() } else { Vec::new() })
        });
        if class > allowed {
            self.violation(&std::format!(
                "{call:?} is class {allowed:?}, called in {class:?} holding {locks:?}"
            ));
        }
        self.account.note(call);
        schedule::point();
    }

    /// Checks the lock order before the thread waits for a lock. Locks of modules have an order of their own.
    pub(super) fn check_lock_order(&self, class: LockClass) {
        let wrong = |held: &LockClass| held.is_ordered() && class.is_ordered() && *held >= class;
        if let Some(held) = self.held_locks().into_iter().find(wrong) {
            self.violation(&std::format!("lock order: {class:?} is taken while {held:?} is held"));
        }
    }

    /// Notes that a lock is held.
    pub(super) fn lock_taken(&self, held: Held) {
        self.context(|context| context.held.push(held));
    }

    /// Notes that a lock is released.
    pub(super) fn lock_released(&self, lock: usize) {
        let known = self.context(|context| {
            let position = context.held.iter().rposition(|held| held.lock == lock);
            position.map(|position| context.held.remove(position)).is_some()
        });
        if !known {
            self.violation("a lock is released by a thread that doesn't hold it");
        }
    }

    /// Locks that this thread holds.
    #[must_use]
    pub fn held_locks(&self) -> Vec<LockClass> {
        self.context(|context| context.held.iter().map(|held| held.class).collect())
    }
}
