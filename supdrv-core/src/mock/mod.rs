//! An operating system for tests: every service of the seam, in one process, without privileges, and deterministic.
//!
//! A [`MockOs`] is a whole machine of its own: virtual clock, virtual CPUs, processes with page tables, physical memory. A hundred
//! of them can live in one test process. What it adds to a real system:
//!
//! | concern | module | what tests can do |
//! | --- | --- | --- |
//! | context | [`context`] | play CPU, process and thread; each service checks its context class and the lock order |
//! | failures | [`fault`] | make the n-th fallible call, or the n-th of one kind, fail |
//! | accounting | [`account`] | count live objects of each kind; leaks and misuse fail the test |
//! | time | [`clock`] | move the clock; due timers fire in order, on their virtual CPUs |
//! | waiting | [`event`] | know that threads wait, interrupt them |
//! | CPUs | [`cpu`] | take CPUs on-line and off-line; set TSC, CPUID, MSRs, control registers |
//! | memory | [`memory`], [`user`] | real pages at a ring-3 and a ring-0 address at once; protection; faults; physical addresses |
//! | images | [`image`] | run machine code from image memory; play a native loader |
//! | policy | [`policy`] | answer the policy hooks; read the log |
//! | modules | [`module`] | threads, preemption hooks and what else only loaded modules ask for |
//!
//! [`client`] drives a driver through its dispatcher as ring-3 does, [`mod@replay`] repeats a scenario with every call failing once.
//!
//! A rule that is broken (a call outside its context class, locks out of order, a free with the wrong layout) is printed at once with
//! a backtrace, and fails the test when the machine's owner, the value that [`MockOs::new`] returned, is dropped: a panic in the
//! middle of a callback from C would take all tests down. So does everything that is still alive then.

pub mod account;
pub mod client;
pub mod clock;
pub mod context;
pub mod cpu;
pub mod event;
pub mod fault;
pub mod heap;
pub mod identity;
pub mod image;
pub mod lock;
pub mod memory;
pub mod module;
pub mod packet;
pub mod policy;
pub mod replay;
pub mod schedule;
pub mod seen;
pub mod user;

use core::fmt;
use core::marker::PhantomData;
use core::ops::Deref;
use core::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::abi::ioctl::Encoding;

pub use account::{KINDS, Kind};
pub use client::{Client, Host};
pub use context::Class;
pub use fault::Call;
pub use identity::Process;
pub use packet::{Reply, Request};
pub use replay::replay;
pub use user::UserMemory;

/// Whose function codes a machine speaks: [`OsPolicy::ENCODING`](crate::os::OsPolicy::ENCODING) is a constant, hence a type.
pub trait Codes: Send + Sync + 'static {
    /// The encoding.
    const ENCODING: Encoding;
}

macro_rules! codes {
    ($($name:ident: $encoding:ident),*) => {
        $(
            #[doc = concat!("Function codes of [`Encoding::", stringify!($encoding), "`].")]
            #[derive(Debug)]
            pub struct $name;

            impl Codes for $name {
                const ENCODING: Encoding = Encoding::$encoding;
            }
        )*
    };
}

codes! { LinuxCodes: Linux, BsdCodes: Bsd, SolarisCodes: Solaris, WindowsCodes: Windows, Os2Codes: Os2 }

/// The state of one machine, and what tests can do with it. Reached through [`MockOs`], which derefs to it.
pub struct Machine {
    id: u64,
    account: account::Account,
    faults: fault::Faults,
    clock: clock::Clock,
    waits: event::Waits,
    cpus: Mutex<cpu::Cpus>,
    registrations: Mutex<cpu::Registrations>,
    memory: Mutex<memory::Memory>,
    identity: Mutex<identity::Identities>,
    images: Mutex<image::Images>,
    policy: Mutex<policy::Policy>,
    modules: Mutex<module::Modules>,
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Machine").field("id", &self.id).finish_non_exhaustive()
    }
}

/// A machine. Clones are further handles to the same one; the first value is its *owner*, whose drop checks the rules.
#[derive(Debug)]
pub struct MockOs<E = LinuxCodes> {
    machine: Arc<Machine>,
    is_owner: bool,
    codes: PhantomData<fn() -> E>,
}

impl MockOs {
    /// A machine with two on-line CPUs and Linux function codes.
    #[must_use]
    pub fn new() -> Self {
        Self::with_codes(2)
    }

    /// A machine with that many on-line CPUs, 1 to 256, and Linux function codes.
    #[must_use]
    pub fn with_cpus(cpus: usize) -> Self {
        Self::with_codes(cpus)
    }
}

impl Default for MockOs {
    fn default() -> Self {
        Self::new()
    }
}

impl<E: Codes> MockOs<E> {
    /// A machine that speaks the function codes of `E`, with that many on-line CPUs, 1 to 256.
    ///
    /// # Panics
    /// If the host has no memory files.
    #[must_use]
    pub fn with_codes(cpus: usize) -> Self {
        static NEXT_ID: AtomicU64 = AtomicU64::new(1);
        let machine = Machine {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            account: Default::default(),
            faults: Default::default(),
            clock: Default::default(),
            waits: Default::default(),
            cpus: Mutex::new(cpu::Cpus::new(cpus)),
            registrations: Default::default(),
            memory: Mutex::new(memory::Memory::new()),
            identity: Default::default(),
            images: Default::default(),
            policy: Default::default(),
            modules: Default::default(),
        };
        Self { machine: Arc::new(machine), is_owner: true, codes: PhantomData }
    }

    /// Whether both are handles to the same machine.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.machine, &other.machine)
    }

    /// The shared state, for objects that must find it again.
    pub(crate) const fn machine(&self) -> &Arc<Machine> {
        &self.machine
    }
}

impl<E> Deref for MockOs<E> {
    type Target = Machine;

    fn deref(&self) -> &Machine {
        &self.machine
    }
}

impl<E> Clone for MockOs<E> {
    fn clone(&self) -> Self {
        Self { machine: self.machine.clone(), is_owner: false, codes: PhantomData }
    }
}

impl<E> Drop for MockOs<E> {
    fn drop(&mut self) {
        if self.is_owner && !std::thread::panicking() {
            self.machine.assert_nothing_leaked();
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        context::forget(self.id);
    }
}

/// Locks a host mutex that may have been left by a failed test.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A raw pointer that other threads may use; the seam's contracts say so.
#[derive(Clone, Copy, Debug)]
struct Shared<T>(T);

// SAFETY: the creator of the pointer promised the seam that it may be used on any CPU until its registration ends.
unsafe impl<T> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Shared<T> {}
