//! Heap, locks, CPUs, identity, instructions, policy and log.

use core::alloc::Layout;
use core::ffi::c_void;
use core::ptr::NonNull;

use supdrv_core::abi::Status;
use supdrv_core::abi::ioctl::Encoding;
use supdrv_core::abi::published::DevExtView;
use supdrv_core::abi::status::{Result, VERR_NO_MEMORY};
use supdrv_core::os::{
    CpuSet, IrqState, LockClass, MAX_CPUS, MpEventCallback, MpWorker, OsArch, OsCpu, OsHeap, OsHwVirt,
    OsIdentity, OsLock, OsLog, OsPolicy, PreemptState, SessionKind,
};
use supdrv_core::ring0::{Export, Ring0, events};
use supdrv_core::tracer::TracerGlobals;

use crate::glue::{self, Opaque};
use crate::module::exports;

/// The kernel. Everything it needs to know it asks the kernel.
#[derive(Clone, Copy, Debug, Default)]
pub struct Linux;

/// A status as C returns it.
pub(crate) fn check(status: core::ffi::c_int) -> Result<()> {
    Status(status).into_result()
}

/// A kernel object of this crate: freed by the function it was created with.
pub struct Handle {
    object: NonNull<Opaque>,
    free: unsafe fn(*mut Opaque),
}

// SAFETY: kernel objects may be used from any thread.
unsafe impl Send for Handle {}
// SAFETY: as above.
unsafe impl Sync for Handle {}

impl Handle {
    /// Takes ownership; null means that there was no memory.
    pub(crate) fn new(object: *mut Opaque, free: unsafe fn(*mut Opaque)) -> Result<Self> {
        let object = NonNull::new(object).ok_or(VERR_NO_MEMORY)?;
        Ok(Self { object, free })
    }

    pub(crate) fn raw(&self) -> *mut Opaque {
        self.object.as_ptr()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: the object is ours, and the function is the one for its kind.
        unsafe { (self.free)(self.object.as_ptr()) };
    }
}

unsafe fn free_memory(object: *mut Opaque) {
    // SAFETY: a `Handle` of memory passes it once, when it is dropped.
    unsafe { glue::supdrv_glue_free(object.cast()) };
}

impl OsHeap for Linux {
    fn heap_alloc_zeroed(&self, layout: Layout) -> Option<NonNull<u8>> {
        // The slab aligns powers of two to themselves, and everything else to 8 at least.
        let bytes =
            if layout.align() > 8 { layout.size().checked_next_power_of_two()? } else { layout.size() };
        NonNull::new(glue::supdrv_glue_alloc(bytes.max(layout.align())))
    }

    unsafe fn heap_free(&self, ptr: NonNull<u8>, _layout: Layout) {
        // SAFETY: memory of `heap_alloc_zeroed` (condition of the method).
        unsafe { glue::supdrv_glue_free(ptr.as_ptr()) };
    }
}

impl OsLock for Linux {
    type SpinLock = Handle;
    type Mutex = Handle;

    fn spinlock_create(&self, class: LockClass) -> Result<Handle> {
        Handle::new(glue::supdrv_glue_spinlock_new(class as u32), free_memory)
    }

    fn spinlock_acquire(&self, lock: &Handle) {
        // SAFETY: a spinlock, of `spinlock_create`.
        unsafe { glue::supdrv_glue_spin_lock(lock.raw()) };
    }

    unsafe fn spinlock_release(&self, lock: &Handle) {
        // SAFETY: a spinlock, which the caller holds (condition of the method).
        unsafe { glue::supdrv_glue_spin_unlock(lock.raw()) };
    }

    fn spinlock_acquire_irq(&self, lock: &Handle) -> IrqState {
        // SAFETY: a spinlock, of `spinlock_create`.
        IrqState(unsafe { glue::supdrv_glue_spin_lock_irq(lock.raw()) })
    }

    unsafe fn spinlock_release_irq(&self, lock: &Handle, state: IrqState) {
        // SAFETY: a spinlock, which the caller holds, with the state of its acquisition (condition of the method).
        unsafe { glue::supdrv_glue_spin_unlock_irq(lock.raw(), state.0) };
    }

    fn spinlock_handle(&self, lock: &Handle) -> usize {
        lock.raw() as usize
    }

    fn mutex_create(&self, class: LockClass) -> Result<Handle> {
        Handle::new(glue::supdrv_glue_mutex_new(class as u32), free_memory)
    }

    fn mutex_acquire(&self, mutex: &Handle) {
        // SAFETY: a mutex, of `mutex_create`.
        unsafe { glue::supdrv_glue_mutex_lock(mutex.raw()) };
    }

    unsafe fn mutex_release(&self, mutex: &Handle) {
        // SAFETY: a mutex, which the caller holds (condition of the method).
        unsafe { glue::supdrv_glue_mutex_unlock(mutex.raw()) };
    }

    fn mutex_handle(&self, mutex: &Handle) -> usize {
        mutex.raw() as usize
    }
}

unsafe fn remove_cpu_events(registration: *mut Opaque) {
    // SAFETY: a `Handle` of `mp_register` passes it once, when it is dropped.
    unsafe { glue::supdrv_glue_cpu_events_remove(registration) };
}

impl OsCpu for Linux {
    type MpRegistration = Handle;

    fn cpu_id(&self) -> u32 {
        glue::supdrv_glue_cpu_id()
    }

    fn cpu_set_index(&self, cpu_id: u32) -> Option<usize> {
        Some(cpu_id as usize).filter(|index| *index < MAX_CPUS)
    }

    fn cpu_id_from_index(&self, index: usize) -> Option<u32> {
        u32::try_from(index).ok().filter(|id| *id < glue::supdrv_glue_cpu_ids())
    }

    fn cpu_max_id(&self) -> u32 {
        glue::supdrv_glue_cpu_ids().saturating_sub(1)
    }

    fn cpu_array_size(&self) -> usize {
        glue::supdrv_glue_cpu_ids() as usize
    }

    fn cpu_present_count(&self) -> usize {
        glue::supdrv_glue_cpu_present_count() as usize
    }

    fn cpu_possible_set(&self) -> CpuSet {
        let mut set = CpuSet::default();
        // SAFETY: the set has room for `MAX_CPUS` bits.
        unsafe { glue::supdrv_glue_cpu_set(false, set.0.as_mut_ptr()) };
        set
    }

    fn cpu_online_set(&self) -> CpuSet {
        let mut set = CpuSet::default();
        // SAFETY: the set has room for `MAX_CPUS` bits.
        unsafe { glue::supdrv_glue_cpu_set(true, set.0.as_mut_ptr()) };
        set
    }

    unsafe fn mp_on_all(&self, worker: MpWorker, context: *mut c_void) -> Result<()> {
        // SAFETY: the worker may be called with the context (condition of the method).
        check(unsafe { glue::supdrv_glue_on_all(worker, context) })
    }

    unsafe fn mp_on_cpu(&self, cpu_id: u32, worker: MpWorker, context: *mut c_void) -> Result<()> {
        // SAFETY: the worker may be called with the context (condition of the method).
        check(unsafe { glue::supdrv_glue_on_cpu(cpu_id, worker, context) })
    }

    unsafe fn mp_register(&self, callback: MpEventCallback, context: *mut c_void) -> Result<Handle> {
        // SAFETY: the callback may be called with the context until the handle is dropped (condition of the method), and with the two numbers of
        // `MpEvent`: C delivers no other.
        Handle::new(unsafe { glue::supdrv_glue_cpu_events_add(callback, context) }, remove_cpu_events)
    }

    fn tsc_trusted(&self) -> Option<bool> {
        Some(glue::supdrv_glue_tsc_trusted() != 0)
    }
}

impl OsArch for Linux {
    fn irq_save(&self) -> usize {
        glue::supdrv_glue_irq_save()
    }

    unsafe fn irq_restore(&self, flags: usize) {
        // SAFETY: flags of `irq_save` on this CPU (condition of the method).
        unsafe { glue::supdrv_glue_irq_restore(flags) };
    }
}

/// A counted reference to the process that opened the session: its identity isn't given to another process meanwhile.
pub struct SessionExt(Option<Handle>);

unsafe fn put_process(process: *mut Opaque) {
    // SAFETY: a `Handle` of `session_ext_create` passes its reference once, when it is dropped.
    unsafe { glue::supdrv_glue_process_put(process) };
}

impl SessionExt {
    /// Whether the session belongs to a process.
    #[must_use]
    pub const fn has_process(&self) -> bool {
        self.0.is_some()
    }
}

impl OsIdentity for Linux {
    type SessionExt = SessionExt;

    fn session_ext_create(&self, kind: SessionKind) -> Result<SessionExt> {
        if !kind.is_user() {
            return Ok(SessionExt(None));
        }
        Handle::new(glue::supdrv_glue_process_get(), put_process).map(|process| SessionExt(Some(process)))
    }

    fn real_uid(&self) -> u32 {
        glue::supdrv_glue_uid()
    }

    fn real_gid(&self) -> u32 {
        glue::supdrv_glue_gid()
    }

    fn process_id(&self) -> u32 {
        glue::supdrv_glue_tgid()
    }

    fn process_handle(&self) -> usize {
        glue::supdrv_glue_process()
    }

    fn thread_handle(&self) -> usize {
        glue::supdrv_glue_thread()
    }

    fn preempt_disable(&self) -> PreemptState {
        glue::supdrv_glue_preempt_disable();
        PreemptState(0)
    }

    unsafe fn preempt_restore(&self, _state: PreemptState) {
        // SAFETY: the counterpart of `preempt_disable` (condition of the method).
        unsafe { glue::supdrv_glue_preempt_enable() };
    }
}

impl OsHwVirt for Linux {
    fn enable_vtx(&self, enable: bool) -> Result<()> {
        check(glue::supdrv_glue_enable_vtx(enable))
    }
}

impl OsLog for Linux {
    fn log_write(&self, text: &[u8]) {
        // SAFETY: a readable text of that length.
        unsafe { glue::supdrv_glue_log(text.as_ptr(), text.len()) };
    }
}

impl OsPolicy for Linux {
    const ENCODING: Encoding = Encoding::Linux;

    fn ring0_exports(&self) -> &'static [Export] {
        exports::EXPORTS
    }

    fn tracer_globals(&self) -> Option<TracerGlobals> {
        Some(<exports::Runtime as Ring0>::tracer_globals())
    }

    fn gip_published(&self, address: usize) {
        events::gip_published::<exports::Runtime>(address);
    }

    fn session_closing(&self, session: usize) {
        events::session_closing::<exports::Runtime>(session);
    }

    fn forced_async_tsc_mode(&self, _dev_ext: &DevExtView) -> bool {
        glue::supdrv_glue_force_async_tsc() != 0
    }
}
