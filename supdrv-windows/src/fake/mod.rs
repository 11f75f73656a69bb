//! An NT kernel for tests.
//!
//! It defines what [`crate::nt::sys`] and [`crate::nt::hw`] declare, keeps account of everything that is given out, and checks the rules: IRQL, one
//! completion for each request, pairs of lock and unlock, map and unmap. A broken rule is a *bug check*: the process ends with a
//! message. Calls that may fail can be made to fail, the n-th of them. There is one kernel per process; a [`Machine`] has it for itself.
#![allow(missing_docs, reason = "the kernel's own names")]
#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "a test double: the driver under test keeps the kernel's contracts"
)]
#![allow(clippy::missing_safety_doc, reason = "as above")]
#![allow(clippy::missing_panics_doc, reason = "a test double")]

mod exports;
mod io;
mod memory;
mod waits;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::string::String;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

pub use io::{File, Loaded, Refusal};

use crate::nt::{Irql, Mode, NtStatus};

/// Ends the process: a rule of the kernel was broken.
macro_rules! bug_check {
    ($($text:tt)*) => {{
        std::eprintln!("BUG CHECK: {}", std::format!($($text)*));
        std::process::abort()
    }};
}
pub(crate) use bug_check;

/// Everything that is given out and must come back.
#[derive(Debug, Default)]
pub struct Account {
    /// Pool blocks: address and size.
    pub pool: BTreeMap<usize, usize>,
    /// MDLs of `IoAllocateMdl`, by address.
    pub mdls: BTreeSet<usize>,
    /// Page allocations by MDL, and whether the pages are freed.
    pub pages: BTreeMap<usize, memory::PagesOf>,
    /// Contiguous blocks: address and size.
    pub contiguous: BTreeMap<usize, usize>,
    /// Mappings: MDL, address, mode and process.
    pub mappings: std::vec::Vec<(usize, usize, Mode, usize)>,
    /// Locked MDLs.
    pub locked: BTreeSet<usize>,
    /// Secured ranges.
    pub secured: BTreeSet<usize>,
    /// Handles: sections and others.
    pub handles: BTreeMap<usize, usize>,
    /// Views of sections: address and size.
    pub views: BTreeMap<usize, usize>,
    /// Objects and how many references the driver has.
    pub references: BTreeMap<usize, i64>,
    /// Devices by name.
    pub devices: BTreeMap<String, usize>,
    /// Symbolic links.
    pub links: BTreeMap<String, String>,
    /// Registered callbacks.
    pub callbacks: BTreeMap<usize, usize>,
    /// The process notification.
    pub process_notify: Option<usize>,
    /// Requests on their way, and how often each was completed.
    pub irps: BTreeMap<usize, u32>,
    /// Timer resolution requests.
    pub resolution: i64,
    /// Native images: section to address.
    pub images: BTreeMap<usize, usize>,
    /// Mapped device memory.
    pub io: BTreeMap<usize, usize>,
    /// Timers of high resolution: callback and context.
    pub fine_timers: BTreeMap<usize, (usize, usize)>,
    /// Work items, and whether they are queued.
    pub work: BTreeMap<usize, bool>,
    /// Notifications of new processors: function and context.
    pub processor_changes: BTreeMap<usize, (usize, usize)>,
}

impl Account {
    /// What is left, in words; empty if nothing is.
    #[must_use]
    pub fn left(&self) -> String {
        let mut left = String::new();
        let mut note = |what: &str, count: usize| {
            if count != 0 {
                left += &std::format!("{count} {what}; ");
            }
        };
        note("pool blocks", self.pool.len());
        note("MDLs", self.mdls.len());
        note("page allocations", self.pages.len());
        note("contiguous blocks", self.contiguous.len());
        note("mappings", self.mappings.len());
        note("locked MDLs", self.locked.len());
        note("secured ranges", self.secured.len());
        note("handles", self.handles.len());
        note("views", self.views.len());
        note("references", self.references.values().filter(|count| **count != 0).count());
        note("devices", self.devices.len());
        note("links", self.links.len());
        note("callbacks", self.callbacks.len() + usize::from(self.process_notify.is_some()));
        note("requests", self.irps.len());
        note("timer resolutions", self.resolution.unsigned_abs() as usize);
        note("native images", self.images.len());
        note("device mappings", self.io.len());
        note("work items", self.work.len());
        note("timers of high resolution", self.fine_timers.len());
        note("notifications of processors", self.processor_changes.len());
        left
    }
}

/// What a native image load does.
#[derive(Clone, Debug)]
pub struct NativeLoad {
    pub status: NtStatus,
    pub address: usize,
    pub section: usize,
    pub length: u32,
}

/// How the machine behaves.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// An emulated kernel: no pages, no mappings, one thread for requests.
    pub emulated: bool,
    /// Routines that this version doesn't have.
    pub missing: BTreeSet<&'static str>,
    /// What the next native image load does; without: the class doesn't exist.
    pub native: Option<NativeLoad>,
    /// How many processors there are, at least 2; groups have 64.
    pub processors: u32,
    /// Requests come from a 32-bit process.
    pub from_32bit: bool,
    /// How long a work item waits for its thread.
    pub work_delay: core::time::Duration,
    /// Value of `Parameters\SysSecurity`.
    pub security: Option<std::vec::Vec<u8>>,
}

#[derive(Default)]
struct State {
    account: Account,
    config: Config,
    /// Threads that are about to end.
    ending: BTreeSet<usize>,
    /// Interrupts that processors got from others, in order.
    interrupts: std::vec::Vec<u32>,
    work_done: u32,
    native_path: std::vec::Vec<u16>,
    unloads: u32,
    registrations: usize,
    /// Partial MDLs, and where their pages are.
    partial: BTreeMap<usize, usize>,
    log: String,
    security: std::vec::Vec<std::vec::Vec<u8>>,
}

static STATE: Mutex<Option<State>> = Mutex::new(None);
static OWNER: Mutex<()> = Mutex::new(());
/// Counts down; the call that takes it to zero fails.
static FAIL: AtomicI64 = AtomicI64::new(0);
static FALLIBLE: AtomicU64 = AtomicU64::new(0);

fn with<R>(function: impl FnOnce(&mut State) -> R) -> R {
    let mut state = STATE.lock().unwrap_or_else(PoisonError::into_inner);
    function(state.get_or_insert_with(State::default))
}

/// Whether this call is the one that is to fail.
fn fails() -> bool {
    FALLIBLE.fetch_add(1, Ordering::Relaxed);
    FAIL.fetch_sub(1, Ordering::Relaxed) == 1
}

std::thread_local! {
    static IRQL: Cell<Irql> = const { Cell::new(0) };
    static INTERRUPTS: Cell<bool> = const { Cell::new(true) };
    static PROCESS: Cell<usize> = const { Cell::new(FIRST_PROCESS) };
    static CRITICAL: Cell<u32> = const { Cell::new(0) };
    /// Depth of guarded calls, and the exception that was raised inside.
    static GUARDS: Cell<u32> = const { Cell::new(0) };
    static EXCEPTION: Cell<u32> = const { Cell::new(0) };
}

/// Address of the first process; the others follow.
const FIRST_PROCESS: usize = 0xffff_9000_0000_0000_u64 as usize;

fn at_most(irql: Irql, what: &str) {
    let (now, interrupts) = (IRQL.get(), INTERRUPTS.get());
    if now > irql || !interrupts {
        bug_check!("{what} at IRQL {now}, interrupts {}", if interrupts { "on" } else { "off" });
    }
}

/// Raises an exception of the kernel's: only guarded calls may.
fn raise(status: NtStatus) {
    if GUARDS.get() == 0 {
        bug_check!("an exception {status:?} that nobody catches");
    }
    EXCEPTION.set(status.0);
}

/// The kernel, for one test at a time.
pub struct Machine {
    _owner: MutexGuard<'static, ()>,
}

impl Machine {
    /// Boots.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let owner = OWNER.lock().unwrap_or_else(PoisonError::into_inner);
        *STATE.lock().unwrap_or_else(PoisonError::into_inner) = Some(State { config, ..State::default() });
        FAIL.store(0, Ordering::Relaxed);
        PROCESS.set(FIRST_PROCESS);
        Self { _owner: owner }
    }

    /// Makes the n-th fallible call from now on fail; 0 for none.
    pub fn fail(&self, nth: i64) {
        FALLIBLE.store(0, Ordering::Relaxed);
        FAIL.store(nth, Ordering::Relaxed);
    }

    /// Fallible calls since [`fail`](Self::fail).
    #[must_use]
    pub fn fallible_calls(&self) -> u64 {
        FALLIBLE.load(Ordering::Relaxed)
    }

    /// Looks at the account.
    pub fn account<R>(&self, look: impl FnOnce(&Account) -> R) -> R {
        with(|state| look(&state.account))
    }

    /// Changes the machine's behaviour.
    pub fn configure(&self, change: impl FnOnce(&mut Config)) {
        with(|state| change(&mut state.config));
    }

    /// The last path that the loader got, and how many images it unloaded.
    #[must_use]
    pub fn native_loader(&self) -> (String, u32) {
        with(|state| (String::from_utf16_lossy(&state.native_path), state.unloads))
    }

    /// What the driver logged.
    #[must_use]
    pub fn log(&self) -> String {
        with(|state| state.log.clone())
    }

    /// The descriptors that were applied to devices.
    #[must_use]
    pub fn security(&self) -> std::vec::Vec<std::vec::Vec<u8>> {
        with(|state| state.security.clone())
    }

    /// The calling thread.
    #[must_use]
    pub fn thread() -> usize {
        exports::thread() as usize
    }

    /// Somebody ends a thread: its waits for ring-3 are over.
    pub fn end_thread(&self, thread: usize) {
        with(|state| state.ending.insert(thread));
        waits::wake_all();
    }

    /// The processors that others interrupted since this was called, in order.
    #[must_use]
    pub fn take_interrupts(&self) -> std::vec::Vec<u32> {
        with(|state| core::mem::take(&mut state.interrupts))
    }

    /// Runs the DPCs that are queued.
    pub fn run_dpcs(&self) {
        waits::drain();
    }

    /// How many work items have run.
    #[must_use]
    pub fn work_done(&self) -> u32 {
        with(|state| state.work_done)
    }

    /// The calling thread belongs to another process from now on; 0 is the first one.
    pub fn switch_to(&self, process: usize) {
        PROCESS.set(FIRST_PROCESS + process * 0x1000);
    }

    /// IRQL and interrupt state of the calling thread's processor.
    pub fn set_context(&self, irql: Irql, interrupts: bool) {
        IRQL.set(irql);
        INTERRUPTS.set(interrupts);
    }

    /// The same, to look at.
    #[must_use]
    pub fn context(&self) -> (Irql, bool) {
        (IRQL.get(), INTERRUPTS.get())
    }

    /// The power callback, as the kernel calls it.
    pub fn power(&self, what: usize, entering: usize) {
        let functions: std::vec::Vec<usize> =
            with(|state| state.account.callbacks.values().copied().collect());
        for function in functions {
            let function: crate::nt::sys::CallbackFunction = unsafe { core::mem::transmute(function) };
            unsafe { function(core::ptr::null_mut(), what as *mut _, entering as *mut _) };
        }
    }

    /// A processor is added, and runs.
    pub fn add_processor(&self) {
        exports::add_processor();
    }

    /// The calling process exits: the driver is told.
    pub fn process_exits(&self) {
        if let Some(function) = with(|state| state.account.process_notify) {
            let function: crate::nt::sys::ProcessNotify = unsafe { core::mem::transmute(function) };
            unsafe { function(core::ptr::null_mut(), core::ptr::null_mut(), 0) };
        }
    }

    /// Loads the driver.
    ///
    /// # Errors
    /// What its entry point returns.
    pub fn load(&self) -> Result<Loaded, NtStatus> {
        Loaded::new()
    }
}
