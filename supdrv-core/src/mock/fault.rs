//! Failures on demand.
//!
//! Calls that may fail on a real system are counted. One of them, by number or by kind, can be told to fail, once, with the status
//! that this service typically fails with or with any other one.

use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::Mutex;
use std::vec::Vec;

use super::{Machine, locked};
use crate::abi::Status;
use crate::abi::status::Result;

/// The services of the seam, as traces and failures name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names of the seam's methods; dropping a handle is …Destroy")]
pub enum Call {
    HeapAlloc,
    HeapFree,
    SpinlockCreate,
    SpinlockDestroy,
    SpinlockAcquire,
    MutexCreate,
    MutexDestroy,
    MutexAcquire,
    MemAlloc,
    MemLockUser,
    MemMapKernel,
    MemMapUser,
    MemProtect,
    MemFree,
    MemEnterPhys,
    UserCopyFrom,
    UserCopyTo,
    SleepMs,
    TimerCreate,
    TimerDestroy,
    TimerStart,
    TimerStop,
    TimerRequestGranularity,
    TimerReleaseGranularity,
    EventCreate,
    EventDestroy,
    EventSignal,
    EventReset,
    EventWait,
    MpOnAll,
    MpOnCpu,
    MpRegister,
    MpDeregister,
    SessionExtCreate,
    SessionExtDestroy,
    PreemptDisable,
    ExecAlloc,
    ExecLoad,
    ExecFree,
    NativeOpen,
    NativeValidate,
    NativeLoad,
    NativeUnload,
    ImageOpened,
    EnableVtX,
    ObjInitCreator,
    ObjCanAccess,
    Ring0Exports,
    GipPublished,
    KernelCopy,
    WallClock,
    TimerChangeInterval,
    MpPoke,
    ThreadSpawn,
    PreemptHookCreate,
    PreemptHookDestroy,
    ResumeSuspendedKeyboards,
}

#[derive(Default)]
pub(super) struct Faults {
    /// Fallible calls so far.
    count: AtomicU64,
    /// The number of the one that fails, 0 for none.
    fail_at: AtomicU64,
    /// With which status, 0 for the typical one.
    status: AtomicI32,
    any_targeted: AtomicBool,
    targeted: Mutex<Vec<Targeted>>,
}

struct Targeted {
    call: Call,
    skip: u64,
    status: Status,
}

impl Machine {
    /// Makes the `n`-th fallible call from now fail (1 is the next one), with the status that is typical for it. Once.
    pub fn fail_nth(&self, n: u64) {
        self.fail_nth_with(n, Status(0));
    }

    /// Makes the `n`-th fallible call from now fail with `status`. Calls without a status (the heap) just fail. Once.
    pub fn fail_nth_with(&self, n: u64, status: Status) {
        self.faults.status.store(status.0, Ordering::Relaxed);
        let at = if n == 0 { 0 } else { self.fallible_calls() + n };
        self.faults.fail_at.store(at, Ordering::Relaxed);
    }

    /// Makes the next call of one service fail with `status`. Once.
    pub fn fail_next(&self, call: Call, status: Status) {
        self.fail_later(call, 0, status);
    }

    /// Makes a later call of one service fail with `status`, after `skip` good ones. Once.
    pub fn fail_later(&self, call: Call, skip: u64, status: Status) {
        locked(&self.faults.targeted).push(Targeted { call, skip, status });
        self.faults.any_targeted.store(true, Ordering::Relaxed);
    }

    /// Takes back all failures that didn't happen yet; returns how many.
    pub fn cancel_failures(&self) -> usize {
        let numbered = self.faults.fail_at.swap(0, Ordering::Relaxed) > self.fallible_calls();
        self.faults.any_targeted.store(false, Ordering::Relaxed);
        let targeted = core::mem::take(&mut *locked(&self.faults.targeted)).len();
        targeted + usize::from(numbered)
    }

    /// Number of fallible calls so far.
    #[must_use]
    pub fn fallible_calls(&self) -> u64 {
        self.faults.count.load(Ordering::Relaxed)
    }

    fn targeted_failure(&self, call: Call) -> Option<Status> {
        if !self.faults.any_targeted.load(Ordering::Relaxed) {
            return None;
        }
        let mut targeted = locked(&self.faults.targeted);
        let position = targeted.iter().position(|failure| failure.call == call)?;
        let failure = targeted.get_mut(position)?;
        if failure.skip == 0 {
            return Some(targeted.remove(position).status);
        }
        failure.skip -= 1;
        None
    }

    /// Counts a call that may fail; the injected failure if it is this one's turn.
    pub(super) fn fallible(&self, call: Call, typical: Status) -> Result<()> {
        let number = self.faults.count.fetch_add(1, Ordering::Relaxed) + 1;
        if let Some(status) = self.targeted_failure(call) {
            return Err(status);
        }
        if number == self.faults.fail_at.load(Ordering::Relaxed) {
            let status = self.faults.status.load(Ordering::Relaxed);
            return Err(if status == 0 { typical } else { Status(status) });
        }
        Ok(())
    }

    /// A call that fails only when it is told to by name.
    pub(super) fn fails_if_targeted(&self, call: Call) -> Result<()> {
        self.targeted_failure(call).map_or(Ok(()), Err)
    }
}
