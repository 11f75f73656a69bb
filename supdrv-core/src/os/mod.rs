//! The seam: everything the core needs from an operating system, as one family of traits.
//!
//! A port implements the traits of this module for one type, usually a zero-sized one, and gets
//! [`SupdrvOs`] for free. The core is generic over it and statically dispatched; nothing else in the core
//! knows which system it runs on.
//!
//! # Context classes
//!
//! Every method names the class of context it may be called from. A method of a *later* class may also be
//! called from the earlier ones.
//!
//! | class | meaning |
//! | --- | --- |
//! | **T** (thread) | ordinary thread, preemption and interrupts on; may block |
//! | **D** (dispatch) | preemption may be off or a spinlock may be held; never blocks |
//! | **I** (interrupt) | interrupts may be off too; never blocks, never allocates, touches resident memory only |
//!
//! An implementation must not repair a wrong context behind the caller's back (lower the IRQL, enable
//! interrupts): calling outside the class is a bug of the core, and the mock system reports it as one.
//!
//! # Failure rules
//!
//! - Status codes cross the seam unchanged. A failing method leaves nothing behind.
//! - [`VERR_NOT_SUPPORTED`](crate::abi::status::VERR_NOT_SUPPORTED) means "this system can't do that at all";
//!   the core has a specified answer for it wherever a method documents it.
//! - Handles are owned values. Dropping one releases the thing behind it; where that may block, the core only
//!   drops it in class T. Releases that can fail take the handle by value and give it back with the status.
//!
//! # What a port must provide, and what it may leave out
//!
//! [`OsHwVirt`], [`OsPolicy`] and the native-loader half of [`OsImage`] have defaults that mean "not on this
//! system". Everything else is required. [`OsArch`] has defaults that execute the instructions themselves; only
//! test doubles replace them.
//!
//! [`OsModule`] isn't part of the family: a port implements it to offer the ring-0 runtime to loaded modules ([`crate::ring0`]).

mod arch;
mod cpu;
mod heap;
mod hwvirt;
mod identity;
mod image;
mod lock;
mod log;
mod memory;
mod module;
mod policy;
mod time;

pub use arch::{CpuidResult, OsArch, SegmentSelectors};
pub use cpu::{CpuSet, MAX_CPUS, MpEvent, MpEventCallback, MpWorker, NIL_CPU_ID, OsCpu};
pub use heap::OsHeap;
pub use hwvirt::OsHwVirt;
pub use identity::{NIL_HANDLE, NIL_ID, OsIdentity, PreemptState, SessionKind};
pub use image::{NativeEntryPoints, NativeImage, OsImage};
pub use lock::{IrqState, LockClass, LockKind, OsLock};
pub use log::OsLog;
pub use memory::{AllocKind, MemProt, OsMemory, OsUserCopy, PAGE_SHIFT, PAGE_SIZE, ProcessHandle};
pub use module::{
    CachePolicy, Errno, OsModule, PreemptCallback, PreemptEvent, PreemptHook, ThreadEntry, ThreadPriority,
};
pub use policy::{ObjectCreator, OsPolicy};
pub use time::{
    EventKind, OsEvent, OsTime, OsTimer, Timeout, TimerCallback, TimerSpec, TimerTarget, WaitMode,
};

/// All services of one operating system.
///
/// The value is cheap to clone: zero-sized in a kernel, a reference-counted handle in the mock, so that many
/// independent drivers can live in one test process.
pub trait SupdrvOs:
    OsHeap
    + OsLock
    + OsMemory
    + OsUserCopy
    + OsTime
    + OsTimer
    + OsEvent
    + OsCpu
    + OsArch
    + OsIdentity
    + OsImage
    + OsHwVirt
    + OsLog
    + OsPolicy
    + Clone
    + Send
    + Sync
    + 'static
{
}

impl<T> SupdrvOs for T where
    T: OsHeap
        + OsLock
        + OsMemory
        + OsUserCopy
        + OsTime
        + OsTimer
        + OsEvent
        + OsCpu
        + OsArch
        + OsIdentity
        + OsImage
        + OsHwVirt
        + OsLog
        + OsPolicy
        + Clone
        + Send
        + Sync
        + 'static
{
}
