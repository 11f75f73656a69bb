//! Heap, locks, CPUs, identity, instructions, policy and log.

use core::alloc::Layout;
use core::cell::UnsafeCell;
use core::ffi::c_void;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use supdrv_core::abi::ioctl::Encoding;
use supdrv_core::abi::published::DevExtView;
use supdrv_core::abi::status::{Result, VERR_CPU_NOT_FOUND};
use supdrv_core::heap::Box;
use supdrv_core::os::{
    CpuSet, CpuidResult, IrqState, LockClass, MpEventCallback, MpWorker, NIL_ID, OsArch, OsCpu, OsHeap,
    OsHwVirt, OsIdentity, OsLock, OsLog, OsPolicy, PreemptState, SessionKind,
};

use crate::devhlp;
use crate::kernel::{self, MutexWords};
use crate::spin::KernelLock;
use crate::{heap, ring};

/// The kernel.
#[derive(Clone, Copy, Debug, Default)]
pub struct Os2;

/// What is asked once, at initialisation.
struct Facts {
    cpus: AtomicU32,
    /// The byte that says whether somebody waits for the CPU.
    yield_flag: AtomicPtr<u8>,
}

static FACTS: Facts = Facts { cpus: AtomicU32::new(1), yield_flag: AtomicPtr::new(core::ptr::null_mut()) };

/// Where a variable of the kernel is.
fn dos_variable(index: u32) -> Option<NonNull<u8>> {
    let mut flat = 0;
    // SAFETY: the result is ours.
    let failed = unsafe { devhlp::supdrv_devhlp_get_dos_var(index, 0, &raw mut flat) };
    NonNull::new(flat as *mut u8).filter(|_| failed == 0)
}

/// Asks for what doesn't change. Class T. What a kernel doesn't tell is as on a machine with one CPU.
pub fn learn() {
    // A count that fits a byte, however wide the variable is.
    // SAFETY: the kernel's variable is a byte, and always there.
    let cpus = dos_variable(devhlp::VAR_TOTAL_CPUS).map_or(1, |count| unsafe { count.read() });
    FACTS.cpus.store(u32::from(cpus).max(1), Ordering::Relaxed);
    let yield_flag = dos_variable(devhlp::VAR_YIELD_FLAG).map_or(core::ptr::null_mut(), NonNull::as_ptr);
    FACTS.yield_flag.store(yield_flag, Ordering::Relaxed);
}

/// CPUs of the machine. The driver only ever uses one.
pub fn cpus() -> u32 {
    FACTS.cpus.load(Ordering::Relaxed)
}

/// Whether somebody waits for the CPU. Class I.
pub fn is_yield_wanted() -> bool {
    let flag = FACTS.yield_flag.load(Ordering::Relaxed);
    // SAFETY: as above; the kernel changes it at any time.
    !flag.is_null() && unsafe { flag.read_volatile() } != 0
}

/// Whether an interrupt is being handled. Class I.
pub fn is_interrupt_time() -> bool {
    // SAFETY: the kernel's own variable.
    unsafe { kernel::interrupt_level().read_volatile() != -1 }
}

/// Stops the machine, as far as the kernel does. Class I.
pub fn stop_machine(text: &[u8]) {
    let bytes = u32::try_from(text.len()).unwrap_or(0);
    // SAFETY: the text has that many bytes.
    unsafe { devhlp::supdrv_devhlp_internal_error(text.as_ptr(), bytes) };
}

impl OsHeap for Os2 {
    fn heap_alloc_zeroed(&self, layout: Layout) -> Option<NonNull<u8>> {
        heap::alloc(layout)
    }

    unsafe fn heap_free(&self, ptr: NonNull<u8>, _layout: Layout) {
        // SAFETY: condition of the function.
        unsafe { heap::free(ptr) };
    }
}

/// A spinlock. It turns interrupts off for both kinds of the core's spinlocks: the kernel has no others.
pub struct SpinLock(Box<KernelLock, Os2>);

impl Drop for SpinLock {
    fn drop(&mut self) {
        self.0.deinit();
    }
}

/// A sleeping lock.
pub struct Mutex(Box<UnsafeCell<MutexWords>, Os2>);

// SAFETY: a lock is for sharing.
unsafe impl Send for Mutex {}
// SAFETY: as above.
unsafe impl Sync for Mutex {}

impl Drop for Mutex {
    fn drop(&mut self) {
        // SAFETY: made in `mutex_create`; nobody holds it.
        unsafe { kernel::KernFreeMutexLock(self.0.get()) };
    }
}

impl OsLock for Os2 {
    type SpinLock = SpinLock;
    type Mutex = Mutex;

    fn spinlock_create(&self, _class: LockClass) -> Result<SpinLock> {
        let lock = SpinLock(Box::new(self, KernelLock::new())?);
        lock.0.init();
        Ok(lock)
    }

    fn spinlock_acquire(&self, lock: &SpinLock) {
        lock.0.acquire();
    }

    unsafe fn spinlock_release(&self, lock: &SpinLock) {
        // SAFETY: condition of the function.
        unsafe { lock.0.release() };
    }

    fn spinlock_acquire_irq(&self, lock: &SpinLock) -> IrqState {
        lock.0.acquire();
        // The lock keeps the state for its holder: it is read after it is owned, and before it is given up.
        IrqState(0)
    }

    unsafe fn spinlock_release_irq(&self, lock: &SpinLock, _state: IrqState) {
        // SAFETY: condition of the function; the state is in the lock.
        unsafe { lock.0.release() };
    }

    fn spinlock_handle(&self, lock: &SpinLock) -> usize {
        lock.0.word() as usize
    }

    fn mutex_create(&self, _class: LockClass) -> Result<Mutex> {
        let mutex = Mutex(Box::new(self, UnsafeCell::new([0; 2]))?);
        // SAFETY: fresh storage, at its final place.
        unsafe { kernel::KernAllocMutexLock(mutex.0.get()) };
        Ok(mutex)
    }

    fn mutex_acquire(&self, mutex: &Mutex) {
        // SAFETY: made in `mutex_create`.
        unsafe { kernel::KernRequestExclusiveMutex(mutex.0.get()) };
    }

    unsafe fn mutex_release(&self, mutex: &Mutex) {
        // SAFETY: condition of the function.
        unsafe { kernel::KernReleaseExclusiveMutex(mutex.0.get()) };
    }

    fn mutex_handle(&self, mutex: &Mutex) -> usize {
        mutex.0.get() as usize
    }
}

/// CPUs never change: there is nothing to register for.
pub struct NoCpuEvents;

impl OsCpu for Os2 {
    type MpRegistration = NoCpuEvents;

    fn cpu_id(&self) -> u32 {
        0
    }

    fn cpu_max_id(&self) -> u32 {
        0
    }

    fn cpu_present_count(&self) -> usize {
        cpus() as usize
    }

    fn cpu_possible_set(&self) -> CpuSet {
        self.cpu_online_set()
    }

    /// The kernel runs nothing on a CPU of the caller's choice: as far as this driver goes, there is one.
    fn cpu_online_set(&self) -> CpuSet {
        let mut set = CpuSet::default();
        set.insert(0);
        set
    }

    unsafe fn mp_on_all(&self, worker: MpWorker, context: *mut c_void) -> Result<()> {
        // SAFETY: conditions of the function.
        unsafe { self.mp_on_cpu(0, worker, context) }
    }

    unsafe fn mp_on_cpu(&self, cpu_id: u32, worker: MpWorker, context: *mut c_void) -> Result<()> {
        if cpu_id != 0 {
            return Err(VERR_CPU_NOT_FOUND);
        }
        let pinned = self.preempt_disable();
        // SAFETY: the worker may be called with the context (condition of the function); the state is this function's.
        unsafe {
            worker(cpu_id, context);
            self.preempt_restore(pinned);
        }
        Ok(())
    }

    unsafe fn mp_register(&self, _callback: MpEventCallback, _context: *mut c_void) -> Result<NoCpuEvents> {
        Ok(NoCpuEvents)
    }

    fn tsc_trusted(&self) -> Option<bool> {
        (cpus() > 1).then_some(false)
    }
}

/// Instructions that a fake kernel stands in for.
#[cfg(not(target_os = "none"))]
mod instructions {
    use core::ffi::c_ulong;

    unsafe extern "C" {
        pub fn supdrv_glue_cpuid(leaf: u32, subleaf: u32, registers: *mut [u32; 4]);
        pub fn supdrv_glue_rdmsr(msr: u32) -> u64;
        pub fn supdrv_glue_cr0() -> c_ulong;
        pub fn supdrv_glue_cr4() -> c_ulong;
        pub fn supdrv_glue_irq_save() -> usize;
        pub fn supdrv_glue_irq_restore(flags: usize);
    }
}

/// Virtualisation is switched on for each CPU, which can't be done here on a machine with several: so no CPU of such a machine has it.
fn without_virtualisation(leaf: u32, ecx: u32) -> u32 {
    const VMX: u32 = 1 << 5;
    const SVM: u32 = 1 << 2;
    match leaf {
        1 => ecx & !VMX,
        0x8000_0001 => ecx & !SVM,
        _ => ecx,
    }
}

/// The instruction itself, or what stands in for it.
struct Processor;

impl OsArch for Processor {
    #[cfg(not(target_os = "none"))]
    supdrv_core::glue_arch!(instructions);
}

impl OsArch for Os2 {
    fn cpuid(&self, leaf: u32, subleaf: u32) -> CpuidResult {
        let mut result = Processor.cpuid(leaf, subleaf);
        if cpus() > 1 {
            result.ecx = without_virtualisation(leaf, result.ecx);
        }
        result
    }

    #[cfg(not(target_os = "none"))]
    unsafe fn rdmsr(&self, msr: u32) -> u64 {
        // SAFETY: conditions of the function.
        unsafe { Processor.rdmsr(msr) }
    }

    #[cfg(not(target_os = "none"))]
    fn cr0(&self) -> usize {
        Processor.cr0()
    }

    #[cfg(not(target_os = "none"))]
    fn cr4(&self) -> usize {
        Processor.cr4()
    }

    #[cfg(not(target_os = "none"))]
    fn irq_save(&self) -> usize {
        // SAFETY: a fake kernel's flags.
        unsafe { instructions::supdrv_glue_irq_save() }
    }

    #[cfg(not(target_os = "none"))]
    unsafe fn irq_restore(&self, flags: usize) {
        // SAFETY: condition of the function.
        unsafe { instructions::supdrv_glue_irq_restore(flags) };
    }
}

/// APIC ids have 8 bits.
const PIN_COUNTS: usize = 256;

/// Ring 0 isn't preempted anyway: these only tell modules what they asked for.
static PINS: [AtomicU32; PIN_COUNTS] = [const { AtomicU32::new(0) }; PIN_COUNTS];

fn pins() -> &'static AtomicU32 {
    let [first, ..] = &PINS;
    if cpus() == 1 {
        return first;
    }
    PINS.get((Processor.cpuid(1, 0).ebx >> 24) as usize).unwrap_or(first)
}

/// Whether nobody has switched preemption off on this CPU. Class I.
pub fn is_unpinned() -> bool {
    pins().load(Ordering::Relaxed) == 0
}

impl OsIdentity for Os2 {
    /// Sessions need nothing.
    type SessionExt = ();

    fn session_ext_create(&self, _kind: SessionKind) -> Result<()> {
        Ok(())
    }

    /// There are no users.
    fn real_uid(&self) -> u32 {
        NIL_ID
    }

    fn real_gid(&self) -> u32 {
        NIL_ID
    }

    fn process_id(&self) -> u32 {
        // SAFETY: the kernel's segment of the current process, always mapped.
        u32::from(unsafe { (&raw const (*kernel::local_info()).pid).read_volatile() })
    }

    fn process_handle(&self) -> usize {
        self.process_id() as usize
    }

    fn thread_handle(&self) -> usize {
        // SAFETY: as in `process_id`.
        let tid = unsafe { (&raw const (*kernel::local_info()).tid).read_volatile() };
        (self.process_handle() << 16) | usize::from(tid)
    }

    fn preempt_disable(&self) -> PreemptState {
        pins().fetch_add(1, Ordering::Relaxed);
        PreemptState(0)
    }

    unsafe fn preempt_restore(&self, _state: PreemptState) {
        pins().fetch_sub(1, Ordering::Relaxed);
    }
}

impl OsHwVirt for Os2 {}

impl OsLog for Os2 {
    fn log_write(&self, text: &[u8]) {
        ring::write(text);
    }
}

impl OsPolicy for Os2 {
    const ENCODING: Encoding = Encoding::Os2;

    supdrv_core::ring0_policy!(crate::module);

    fn forced_async_tsc_mode(&self, _dev_ext: &DevExtView) -> bool {
        cpus() > 1
    }
}
