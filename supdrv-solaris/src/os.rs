//! Heap, locks, CPUs, identity, instructions, hardware virtualisation, policy and log.

use core::alloc::Layout;
use core::ffi::{c_char, c_int, c_ulong, c_void};
use core::ptr::{NonNull, null_mut};
use core::sync::atomic::{AtomicI32, AtomicPtr, AtomicUsize, Ordering};

use supdrv_core::abi::ioctl::Encoding;
use supdrv_core::abi::published::DevExtView;
use supdrv_core::abi::status::{
    Result, VERR_CPU_NOT_FOUND, VERR_CPU_OFFLINE, VERR_NOT_SUPPORTED, VERR_VMX_IN_VMX_ROOT_MODE,
    VERR_VMX_NO_VMX,
};
use supdrv_core::heap::Box;
use supdrv_core::os::{
    CpuSet, IrqState, LockClass, MAX_CPUS, MpEvent, MpEventCallback, MpWorker, NIL_ID, OsArch, OsCpu, OsHeap,
    OsHwVirt, OsIdentity, OsLock, OsLog, OsPolicy, PreemptState, SessionKind,
};
use supdrv_core::shim::calls::CrossCall;
use supdrv_core::shim::cpus::AtomicCpuSet;

use crate::glue;
use crate::kernel::{self, Kmutex, Opaque};

/// The kernel. Everything it needs to know it asks the kernel.
#[derive(Clone, Copy, Debug, Default)]
pub struct Solaris;

/// Larger allocations may fail rather than wait.
const PATIENT_BYTES: usize = 1 << 20;
/// No allocation can be larger; the kernel's own arithmetic on sizes stays far from its limits.
const MAX_ALLOCATION: usize = 1 << 40;

/// What is asked of the kernel for a layout: it aligns multiples of 64 to 64, and everything else to 8 at least.
pub(crate) fn padded(layout: Layout) -> Option<usize> {
    let bytes = if layout.align() > 8 { layout.size().checked_next_multiple_of(64)? } else { layout.size() };
    Some(bytes).filter(|bytes| *bytes <= MAX_ALLOCATION)
}

impl OsHeap for Solaris {
    fn heap_alloc_zeroed(&self, layout: Layout) -> Option<NonNull<u8>> {
        let bytes = padded(layout)?;
        let patience = if bytes < PATIENT_BYTES { kernel::KM_SLEEP } else { kernel::KM_NOSLEEP };
        // SAFETY: a size that isn't 0.
        NonNull::new(unsafe { kernel::kmem_zalloc(bytes, patience) }.cast())
    }

    unsafe fn heap_free(&self, ptr: NonNull<u8>, layout: Layout) {
        let bytes = padded(layout).unwrap_or(layout.size());
        // SAFETY: allocated like this with this size, given up (conditions of the function).
        unsafe { kernel::kmem_free(ptr.as_ptr().cast(), bytes) };
    }
}

/// A mutex of the kernel, at its final place.
pub struct Lock(Box<Kmutex, Solaris>);

impl Lock {
    fn new(class: LockClass, kind: c_int, cookie: *mut c_void) -> Result<Self> {
        let lock = Self(Box::new(&Solaris, Kmutex::new())?);
        // SAFETY: fresh storage, at its final place; a constant name.
        unsafe { kernel::mutex_init(lock.0.get(), class.c_name().as_ptr(), kind, cookie) };
        Ok(lock)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // SAFETY: initialised; nobody holds it.
        unsafe { kernel::mutex_destroy(self.0.get()) };
    }
}

/// The level of an interrupt as a mutex wants to know it.
pub(crate) fn level_cookie(level: c_int) -> *mut c_void {
    kernel::ipltospl(level) as usize as *mut c_void
}

impl OsLock for Solaris {
    type SpinLock = Lock;
    type Mutex = Lock;

    /// Both kinds keep all interrupts out.
    fn spinlock_create(&self, class: LockClass) -> Result<Lock> {
        Lock::new(class, kernel::MUTEX_SPIN, level_cookie(kernel::PIL_MAX))
    }

    fn spinlock_acquire(&self, lock: &Lock) {
        // SAFETY: initialised, at an address that doesn't change.
        unsafe { kernel::mutex_enter(lock.0.get()) };
    }

    unsafe fn spinlock_release(&self, lock: &Lock) {
        // SAFETY: condition of the function.
        unsafe { kernel::mutex_exit(lock.0.get()) };
    }

    fn spinlock_acquire_irq(&self, lock: &Lock) -> IrqState {
        let flags = kernel::intr_clear();
        // SAFETY: initialised, at an address that doesn't change.
        unsafe { kernel::mutex_enter(lock.0.get()) };
        // Waiting for a lock may have turned them on.
        let _off_again = kernel::intr_clear();
        IrqState(flags as usize)
    }

    unsafe fn spinlock_release_irq(&self, lock: &Lock, state: IrqState) {
        // SAFETY: condition of the function.
        unsafe { kernel::mutex_exit(lock.0.get()) };
        // SAFETY: what the matching acquire found (condition of the function).
        unsafe { kernel::intr_restore(state.0 as c_ulong) };
    }

    fn spinlock_handle(&self, lock: &Lock) -> usize {
        lock.0.get() as usize
    }

    fn mutex_create(&self, class: LockClass) -> Result<Lock> {
        Lock::new(class, kernel::MUTEX_DRIVER, null_mut())
    }

    fn mutex_acquire(&self, mutex: &Lock) {
        // SAFETY: initialised, at an address that doesn't change.
        unsafe { kernel::mutex_enter(mutex.0.get()) };
    }

    unsafe fn mutex_release(&self, mutex: &Lock) {
        // SAFETY: condition of the function.
        unsafe { kernel::mutex_exit(mutex.0.get()) };
    }

    fn mutex_handle(&self, mutex: &Lock) -> usize {
        mutex.0.get() as usize
    }
}

/// Holds the kernel's lock of CPU states, which cyclics need too.
pub(crate) struct CpuLock;

impl CpuLock {
    pub(crate) fn acquire() -> Self {
        // SAFETY: the kernel's own lock; class T.
        unsafe { kernel::mutex_enter(kernel::cpu_lock.get()) };
        Self
    }

    /// The structure of a CPU that exists.
    pub(crate) fn cpu(&self, id: u32) -> Option<NonNull<Opaque>> {
        // SAFETY: `cpu_lock` is held.
        NonNull::new(unsafe { kernel::cpu_get(c_int::try_from(id).ok()?) })
    }

    pub(crate) fn is_online(&self, id: u32) -> bool {
        // SAFETY: `cpu_lock` is held, so that the CPU stays.
        self.cpu(id).is_some_and(|cpu| unsafe { kernel::cpu_is_online(cpu.as_ptr()) != 0 })
    }
}

impl Drop for CpuLock {
    fn drop(&mut self) {
        // SAFETY: this guard acquired it.
        unsafe { kernel::mutex_exit(kernel::cpu_lock.get()) };
    }
}

/// CPUs that exist, and that are on-line, as the last event said: the kernel's own state can't be asked for everywhere.
static POSSIBLE: AtomicCpuSet = AtomicCpuSet::new();
static ONLINE: AtomicCpuSet = AtomicCpuSet::new();

impl Solaris {
    /// Learns which CPUs there are, and follows their comings and goings. Class T, once, before the driver is built.
    ///
    /// Whether the current CPU's structure is where the driver looks for it is checked on this occasion.
    pub(crate) fn watch_cpus(&self) -> bool {
        let lock = CpuLock::acquire();
        // SAFETY: `cpu_lock` is held; the function stays until it is unregistered.
        unsafe { kernel::register_cpu_setup_func(cpu_state_changed, null_mut()) };
        for id in (0..=self.cpu_max_id()).take(MAX_CPUS) {
            POSSIBLE.set(id as usize, lock.cpu(id).is_some());
            ONLINE.set(id as usize, lock.is_online(id));
        }
        let pinned = self.preempt_disable();
        let here = glue::supdrv_glue_cpu();
        let known = lock.cpu(self.cpu_id()).is_some_and(|cpu| cpu.as_ptr().cast() == here);
        // SAFETY: disabled above.
        unsafe { self.preempt_restore(pinned) };
        drop(lock);
        if !known {
            self.unwatch_cpus();
        }
        known
    }

    pub(crate) fn unwatch_cpus(&self) {
        let _lock = CpuLock::acquire();
        // SAFETY: `cpu_lock` is held.
        unsafe { kernel::unregister_cpu_setup_func(cpu_state_changed, null_mut()) };
    }
}

/// Called by the kernel with `cpu_lock` held.
unsafe extern "C" fn cpu_state_changed(what: c_int, id: c_int, _argument: *mut c_void) -> c_int {
    if let (Ok(id), kernel::CPU_ON | kernel::CPU_OFF) = (u32::try_from(id), what) {
        POSSIBLE.set(id as usize, true);
        ONLINE.set(id as usize, what == kernel::CPU_ON);
    }
    0
}

unsafe extern "C" fn cross_called(call: usize, _second: usize, _third: usize) -> c_int {
    // SAFETY: the argument of a call that waits for this.
    unsafe { CrossCall::run(call as *mut c_void, glue::supdrv_glue_cpu_id()) };
    0
}

/// Calls on all CPUs of a set, pinned by the caller.
fn cross_call(set: CpuSet, call: &CrossCall) {
    let mut words = set.0;
    // SAFETY: the set has room for all CPUs; the call outlives this, which waits.
    unsafe {
        let call = call.argument() as usize;
        kernel::xc_call(call, 0, 0, words.as_mut_ptr().cast(), cross_called);
    }
}

fn only(cpu_id: u32) -> CpuSet {
    let mut set = CpuSet::default();
    set.insert(cpu_id as usize);
    set
}

/// A registration for CPU events.
pub struct MpRegistration(Box<Registered, Solaris>);

struct Registered {
    callback: MpEventCallback,
    context: *mut c_void,
}

// SAFETY: the registrant promised that its callback may be called on any CPU.
unsafe impl Send for MpRegistration {}
// SAFETY: as above.
unsafe impl Sync for MpRegistration {}

unsafe extern "C" fn on_cpu_online(registered: usize, _second: usize, _third: usize) -> c_int {
    // SAFETY: the registration lives until it is taken back, under the lock that the caller holds.
    let registered = unsafe { &*(registered as *const Registered) };
    let id = glue::supdrv_glue_cpu_id();
    // SAFETY: the registrant vouches for both.
    unsafe { (registered.callback)(MpEvent::Online, id, registered.context) };
    0
}

/// Called by the kernel with `cpu_lock` held, after [`cpu_state_changed`], which was registered before.
unsafe extern "C" fn on_cpu_event(what: c_int, id: c_int, argument: *mut c_void) -> c_int {
    let Ok(id) = u32::try_from(id) else { return 0 };
    // SAFETY: as in `on_cpu_online`.
    let registered = unsafe { &*argument.cast::<Registered>() };
    let event = match what {
        kernel::CPU_ON => MpEvent::Online,
        kernel::CPU_OFF => MpEvent::Offline,
        _ => return 0,
    };
    let pinned = Solaris.preempt_disable();
    match event {
        MpEvent::Online => {
            let mut words = only(id).0;
            // SAFETY: the set has room for all CPUs; the registration outlives the call, which waits.
            unsafe { kernel::xc_call(argument as usize, 0, 0, words.as_mut_ptr().cast(), on_cpu_online) };
        }
        // SAFETY: the registrant vouches for both.
        MpEvent::Offline => unsafe { (registered.callback)(event, id, registered.context) },
    }
    // SAFETY: disabled above.
    unsafe { Solaris.preempt_restore(pinned) };
    0
}

impl Drop for MpRegistration {
    fn drop(&mut self) {
        // Callbacks run under the lock: none is left then.
        let _lock = CpuLock::acquire();
        let argument = self.0.as_ptr().as_ptr().cast();
        // SAFETY: `cpu_lock` is held.
        unsafe { kernel::unregister_cpu_setup_func(on_cpu_event, argument) };
    }
}

impl OsCpu for Solaris {
    type MpRegistration = MpRegistration;

    fn cpu_id(&self) -> u32 {
        glue::supdrv_glue_cpu_id()
    }

    fn cpu_max_id(&self) -> u32 {
        u32::try_from(kernel::max_cpuid).unwrap_or(0)
    }

    fn cpu_present_count(&self) -> usize {
        // SAFETY: the kernel's own variable, which changes as a whole.
        let count = unsafe { (&raw const kernel::ncpus).read_volatile() };
        usize::try_from(count).unwrap_or(1)
    }

    fn cpu_possible_set(&self) -> CpuSet {
        POSSIBLE.load()
    }

    fn cpu_online_set(&self) -> CpuSet {
        ONLINE.load()
    }

    unsafe fn mp_on_all(&self, worker: MpWorker, context: *mut c_void) -> Result<()> {
        let pinned = self.preempt_disable();
        cross_call(self.cpu_online_set(), &CrossCall::new(worker, context));
        // SAFETY: disabled above.
        unsafe { self.preempt_restore(pinned) };
        Ok(())
    }

    unsafe fn mp_on_cpu(&self, cpu_id: u32, worker: MpWorker, context: *mut c_void) -> Result<()> {
        if !self.cpu_possible_set().contains(cpu_id as usize) {
            return Err(VERR_CPU_NOT_FOUND);
        }
        let pinned = self.preempt_disable();
        let online = self.cpu_online_set().contains(cpu_id as usize);
        if self.cpu_id() == cpu_id {
            // SAFETY: the worker may be called with the context (condition of the function).
            unsafe { worker(cpu_id, context) };
        } else if online {
            cross_call(only(cpu_id), &CrossCall::new(worker, context));
        }
        // SAFETY: disabled above.
        unsafe { self.preempt_restore(pinned) };
        if online { Ok(()) } else { Err(VERR_CPU_OFFLINE) }
    }

    unsafe fn mp_register(&self, callback: MpEventCallback, context: *mut c_void) -> Result<MpRegistration> {
        let registered = Box::new(self, Registered { callback, context })?;
        let _lock = CpuLock::acquire();
        let argument = registered.as_ptr().as_ptr().cast();
        // SAFETY: `cpu_lock` is held; the registration takes it back before it goes.
        unsafe { kernel::register_cpu_setup_func(on_cpu_event, argument) };
        Ok(MpRegistration(registered))
    }
}

impl OsArch for Solaris {
    supdrv_core::glue_arch!(crate::glue);

    fn irq_save(&self) -> usize {
        kernel::intr_clear() as usize
    }

    unsafe fn irq_restore(&self, flags: usize) {
        // SAFETY: condition of the function.
        unsafe { kernel::intr_restore(flags as c_ulong) };
    }
}

/// Bits of a process id.
const PID_BITS: u32 = 20;
/// Low bits of a process structure's address that are 0.
const PROCESS_ALIGN_BITS: u32 = 3;

/// The process structure of the caller.
pub(crate) fn current_process() -> *mut Opaque {
    let mut process = null_mut::<Opaque>();
    // SAFETY: the parameter is a pointer, and the result is ours.
    let failed = unsafe { kernel::drv_getparm(kernel::UPROCP, (&raw mut process).cast()) };
    if failed == 0 { process } else { null_mut() }
}

impl OsIdentity for Solaris {
    /// Sessions need nothing: processes aren't referenced, their identity includes the process id.
    type SessionExt = ();

    fn session_ext_create(&self, _kind: SessionKind) -> Result<()> {
        Ok(())
    }

    /// The opener's credentials come with the call: open puts them into the session.
    fn real_uid(&self) -> u32 {
        NIL_ID
    }

    fn real_gid(&self) -> u32 {
        NIL_ID
    }

    fn process_id(&self) -> u32 {
        kernel::ddi_get_pid()
    }

    /// The kernel recycles process structures: the address alone could be a later process. The upper bits of a kernel address are all
    /// ones and its lowest ones are 0: they make room for the id.
    fn process_handle(&self) -> usize {
        let process = current_process() as usize >> PROCESS_ALIGN_BITS;
        (process << PID_BITS) | (self.process_id() as usize & ((1 << PID_BITS) - 1))
    }

    fn thread_handle(&self) -> usize {
        glue::supdrv_glue_thread() as usize
    }

    fn preempt_disable(&self) -> PreemptState {
        glue::supdrv_glue_preempt_disable();
        PreemptState(0)
    }

    unsafe fn preempt_restore(&self, _state: PreemptState) {
        glue::supdrv_glue_preempt_enable();
    }
}

/// Users of VT-x among our modules, and the kernel's registration for all of them.
static VTX_USERS: AtomicUsize = AtomicUsize::new(0);
static VTX_REGISTRATION: AtomicPtr<Opaque> = AtomicPtr::new(null_mut());

type Register = unsafe extern "C" fn(*const c_char) -> *mut Opaque;
type Unregister = unsafe extern "C" fn(*mut Opaque);

/// The two functions of illumos' hypervisor arbitration, where the kernel has them.
fn arbitration() -> Option<(Register, Unregister)> {
    // SAFETY: a constant name.
    let find = |name: &core::ffi::CStr| unsafe { kernel::modgetsymvalue(name.as_ptr(), 0) };
    let (register, unregister) = (find(c"hma_register_exclusive"), find(c"hma_unregister"));
    if register == 0 || unregister == 0 {
        return None;
    }
    // SAFETY: kernel functions of these names have these types.
    Some(unsafe {
        (
            core::mem::transmute::<usize, Register>(register),
            core::mem::transmute::<usize, Unregister>(unregister),
        )
    })
}

impl OsHwVirt for Solaris {
    /// The kernel has VT-x switched on since boot, and gives it to one hypervisor at a time.
    fn enable_vtx(&self, enable: bool) -> Result<()> {
        const ECX_VMX: u32 = 1 << 5;
        let (register, unregister) = arbitration().ok_or(VERR_NOT_SUPPORTED)?;
        if !enable {
            if VTX_USERS.load(Ordering::Acquire) != 0 && VTX_USERS.fetch_sub(1, Ordering::AcqRel) == 1 {
                let registration = VTX_REGISTRATION.swap(null_mut(), Ordering::AcqRel);
                // SAFETY: from `register`, given up here.
                unsafe { unregister(registration) };
            }
            return Ok(());
        }
        if self.cpuid(1, 0).ecx & ECX_VMX == 0 {
            return Err(VERR_VMX_NO_VMX);
        }
        if VTX_USERS.load(Ordering::Acquire) == 0 {
            // SAFETY: a constant name.
            let registration = unsafe { register(c"supdrv".as_ptr()) };
            if registration.is_null() {
                return Err(VERR_VMX_IN_VMX_ROOT_MODE);
            }
            VTX_REGISTRATION.store(registration, Ordering::Release);
        }
        VTX_USERS.fetch_add(1, Ordering::AcqRel);
        Ok(())
    }
}

/// Longest message, with its end.
const MESSAGE_BYTES: usize = 512;

impl OsLog for Solaris {
    fn log_write(&self, text: &[u8]) {
        let mut message = [0_u8; MESSAGE_BYTES];
        let text = text.strip_suffix(b"\n").unwrap_or(text);
        for (to, from) in message.iter_mut().take(MESSAGE_BYTES - 1).zip(text) {
            *to = *from;
        }
        // SAFETY: constant format, a message that ends.
        unsafe { kernel::cmn_err(kernel::CE_CONT, c"%s\n".as_ptr(), message.as_ptr()) };
    }
}

/// Set in /etc/system: `set vboxdrv:supdrv_force_async_tsc = 1`. The kernel writes it before the module's `_init` runs.
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals, reason = "the name that administrators use")]
static supdrv_force_async_tsc: AtomicI32 = AtomicI32::new(0);

impl OsPolicy for Solaris {
    const ENCODING: Encoding = Encoding::Solaris;

    supdrv_core::ring0_policy!(crate::module);

    fn forced_async_tsc_mode(&self, _dev_ext: &DevExtView) -> bool {
        supdrv_force_async_tsc.load(Ordering::Relaxed) != 0
    }
}
