//! CPUs: enumeration, cross calls, on-line and off-line notifications.

use core::ffi::c_void;

use crate::abi::status::Result;

/// No CPU.
pub const NIL_CPU_ID: u32 = u32::MAX;
/// CPU set indices of this interface generation: 0 to 255.
pub const MAX_CPUS: usize = 256;

/// A set of CPU set indices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuSet(pub [u64; MAX_CPUS / 64]);

impl CpuSet {
    /// Adds an index; one beyond [`MAX_CPUS`] is ignored.
    pub fn insert(&mut self, index: usize) {
        if let Some(word) = self.0.get_mut(index / 64) {
            *word |= 1 << (index % 64);
        }
    }

    /// Removes an index.
    pub fn remove(&mut self, index: usize) {
        if let Some(word) = self.0.get_mut(index / 64) {
            *word &= !(1 << (index % 64));
        }
    }

    /// Whether the index is in the set.
    #[must_use]
    pub fn contains(&self, index: usize) -> bool {
        self.0.get(index / 64).is_some_and(|word| word & (1 << (index % 64)) != 0)
    }

    /// Number of indices in the set.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// The indices in the set, ascending.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        (0..MAX_CPUS).filter(|&index| self.contains(index))
    }
}

/// Runs on a CPU for a cross call: class I at worst, never blocks, never cross-calls.
pub type MpWorker = unsafe extern "C" fn(cpu_id: u32, context: *mut c_void);

/// What happened to a CPU; the numbers are those of the ring-0 API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum MpEvent {
    /// It came on-line. Delivered **on** that CPU, with preemption off.
    Online = 1,
    /// It is going off-line. Delivered anywhere, with preemption off, as early as the system tells.
    Offline = 2,
}

/// Called once per event, class I. A failed off-line attempt is delivered as [`MpEvent::Online`].
pub type MpEventCallback = unsafe extern "C" fn(event: MpEvent, cpu_id: u32, context: *mut c_void);

/// Processors.
///
/// A CPU *id* is the system's own number; its *set index* is its place in a [`CpuSet`]. Ids stay the same while a CPU
/// goes off-line and comes back.
pub trait OsCpu {
    /// A registration for CPU events. Dropping it ends the registration and waits for running callbacks (class T).
    type MpRegistration: Send + Sync;

    /// Id of the current CPU; meaningful only while pinned. Class I.
    fn cpu_id(&self) -> u32;

    /// Set index of a CPU; `None` if it has none below [`MAX_CPUS`]. Class I.
    ///
    /// By default the index is the id.
    fn cpu_set_index(&self, cpu_id: u32) -> Option<usize> {
        Some(cpu_id as usize).filter(|index| *index < MAX_CPUS)
    }

    /// Id of the CPU at a set index. Class I.
    fn cpu_id_from_index(&self, index: usize) -> Option<u32> {
        u32::try_from(index).ok().filter(|id| *id <= self.cpu_max_id())
    }

    /// Highest id that can ever exist. Class I.
    fn cpu_max_id(&self) -> u32;

    /// Size of the index space: highest possible index + 1, at least the number of CPUs. May exceed [`MAX_CPUS`]. Class I.
    fn cpu_array_size(&self) -> usize {
        (self.cpu_max_id() as usize).saturating_add(1)
    }

    /// Number of CPUs that are present, as the system counts them. Class I.
    fn cpu_present_count(&self) -> usize;

    /// CPUs that can ever come on-line. Class I.
    fn cpu_possible_set(&self) -> CpuSet;

    /// CPUs that are on-line now. Class I.
    fn cpu_online_set(&self) -> CpuSet;

    /// Runs `worker` once on every on-line CPU, this one included, and waits. Class T, interrupts on.
    ///
    /// A single-CPU system without cross calls runs it here with preemption off.
    ///
    /// # Errors
    /// `VERR_NOT_SUPPORTED`, `VERR_NO_MEMORY`. The GIP takes every failure as fatal.
    ///
    /// # Safety
    /// `worker` may be called with `context` on any CPU until this returns.
    unsafe fn mp_on_all(&self, worker: MpWorker, context: *mut c_void) -> Result<()>;

    /// Runs `worker` on one CPU and waits; directly, with preemption off, if it is the current one. Class T, interrupts on.
    ///
    /// # Errors
    /// `VERR_CPU_NOT_FOUND`, `VERR_CPU_OFFLINE`, `VERR_NOT_SUPPORTED`.
    ///
    /// # Safety
    /// `worker` may be called with `context` on that CPU until this returns.
    unsafe fn mp_on_cpu(&self, cpu_id: u32, worker: MpWorker, context: *mut c_void) -> Result<()>;

    /// Registers for CPU events; a system without them succeeds and never calls. Class T.
    ///
    /// # Errors
    /// `VERR_NO_MEMORY`.
    ///
    /// # Safety
    /// `callback` may be called with `context` on any CPU until the registration is dropped.
    unsafe fn mp_register(
        &self,
        callback: MpEventCallback,
        context: *mut c_void,
    ) -> Result<Self::MpRegistration>;

    /// Whether the kernel itself found the TSC fit (`Some(true)`) or unfit (`Some(false)`) as a clock. Class T.
    fn tsc_trusted(&self) -> Option<bool> {
        None
    }
}
