//! What only loaded modules ask for.
//!
//! Ring-0 addresses of this machine lie among the host's user addresses; a user address is what the current process has in its page
//! table, every other one is a kernel address.

use core::alloc::Layout;
use core::ffi::{CStr, c_void};
use core::ptr::NonNull;
use std::borrow::ToOwned;
use std::string::String;
use std::thread;
use std::vec::Vec;

use super::{Call, Class, Codes, Kind, Machine, MockOs, Shared, locked};
use crate::abi::status::{
    Result, VERR_ACCESS_DENIED, VERR_CPU_OFFLINE, VERR_INTERRUPTED, VERR_NO_MEMORY, VERR_NOT_SUPPORTED,
};
use crate::os::{
    CachePolicy, Errno, OsModule, OsTime, PreemptCallback, PreemptEvent, PreemptHook, ThreadEntry,
    ThreadPriority,
};

/// Threads, hooks and what else modules started.
#[derive(Default)]
pub(super) struct Modules {
    threads: Vec<(String, ThreadPriority, thread::JoinHandle<()>)>,
    hooks: Vec<Option<Hook>>,
    pokes: Vec<u32>,
    no_hooks: bool,
    interrupt_sleep: bool,
}

#[derive(Clone, Copy)]
struct Hook {
    callback: PreemptCallback,
    context: Shared<*mut c_void>,
    /// The thread that it is enabled for.
    thread: Option<usize>,
}

impl Machine {
    /// Waits for the threads that modules started; their names and priorities in order of creation.
    ///
    /// # Panics
    /// If one of them did.
    pub fn join_module_threads(&self) -> Vec<(String, ThreadPriority)> {
        let threads = core::mem::take(&mut locked(&self.modules).threads);
        let join = |(name, priority, thread): (String, ThreadPriority, thread::JoinHandle<()>)| {
            thread.join().expect("a module's thread ends well");
            (name, priority)
        };
        threads.into_iter().map(join).collect()
    }

    /// CPUs that were poked.
    #[must_use]
    pub fn pokes(&self) -> Vec<u32> {
        locked(&self.modules).pokes.clone()
    }

    /// Whether there are preemption hooks, as there are at first.
    pub fn set_preempt_hooks(&self, supported: bool) {
        locked(&self.modules).no_hooks = !supported;
    }

    /// Ends the next interruptible sleep early.
    pub fn interrupt_next_sleep(&self) {
        locked(&self.modules).interrupt_sleep = true;
    }

    /// Switches the calling thread out and in again: its hooks are called.
    pub fn reschedule(&self) {
        let thread = self.thread();
        let hooks: Vec<Hook> = locked(&self.modules).hooks.iter().flatten().copied().collect();
        let cpu = self.current_cpu();
        for event in [PreemptEvent::Preempting, PreemptEvent::Resumed] {
            for hook in hooks.iter().filter(|hook| hook.thread == Some(thread)) {
                // SAFETY: the hook exists, hence its context is valid (contract of its creator).
                self.interrupt(cpu, || unsafe { (hook.callback)(event, hook.context.0) });
            }
        }
    }

    fn edit_hook(&self, hook: PreemptHook, edit: impl FnOnce(&mut Option<Hook>)) {
        match locked(&self.modules).hooks.get_mut(hook.0) {
            Some(found @ Some(_)) => edit(found),
            _ => self.violation("a preemption hook that doesn't exist is used"),
        }
    }
}

/// Copies within the host process without faulting.
fn copy_checked(to: usize, from: usize, bytes: usize, read: bool) -> Result<()> {
    let (local, remote) = if read { (to, from) } else { (from, to) };
    let local = libc::iovec { iov_base: local as *mut c_void, iov_len: bytes };
    let remote = libc::iovec { iov_base: remote as *mut c_void, iov_len: bytes };
    // SAFETY: the local side is a slice of the caller; the kernel checks the other one.
    let done = unsafe {
        let pid = libc::getpid();
        if read {
            libc::process_vm_readv(pid, &raw const local, 1, &raw const remote, 1, 0)
        } else {
            libc::process_vm_writev(pid, &raw const local, 1, &raw const remote, 1, 0)
        }
    };
    if usize::try_from(done) == Ok(bytes) { Ok(()) } else { Err(VERR_ACCESS_DENIED) }
}

impl<E: Codes> OsModule for MockOs<E> {
    const ERRNO: Errno = Errno::Linux;

    fn heap_alloc_any_context(&self, layout: Layout) -> Result<NonNull<u8>> {
        self.fallible(Call::HeapAlloc, VERR_NO_MEMORY)?;
        self.heap_block(layout).ok_or(VERR_NO_MEMORY)
    }

    unsafe fn heap_free_any_context(&self, ptr: NonNull<u8>, layout: Layout) {
        // SAFETY: conditions of the function.
        unsafe { self.heap_unblock(ptr, layout) };
    }

    fn mem_alloc_phys(&self, size_bytes: usize, highest: u64, align_bytes: usize) -> Result<Self::MemObj> {
        self.alloc_phys(size_bytes, highest, align_bytes)
    }

    fn mem_alloc_phys_nc(&self, size_bytes: usize, highest: u64) -> Result<Self::MemObj> {
        self.alloc_phys_nc(size_bytes, highest)
    }

    fn mem_enter_phys(&self, phys: u64, size_bytes: usize, _cache: CachePolicy) -> Result<Self::MemObj> {
        self.enter_phys(phys, size_bytes)
    }

    fn kernel_copy_from(&self, to: &mut [u8], from: usize) -> Result<()> {
        self.require(Class::D, Call::KernelCopy);
        copy_checked(to.as_mut_ptr() as usize, from, to.len(), true)
    }

    fn kernel_copy_to(&self, to: usize, from: &[u8]) -> Result<()> {
        self.require(Class::D, Call::KernelCopy);
        copy_checked(to, from.as_ptr() as usize, from.len(), false)
    }

    fn is_user_address(&self, address: usize) -> bool {
        self.user_protection(address).is_some()
    }

    fn wall_clock_ns(&self) -> i64 {
        self.require(Class::T, Call::WallClock);
        1_400_000_000_000_000_000 + self.now_ns().cast_signed()
    }

    fn timer_change_interval(&self, timer: &Self::Timer, interval_ns: u64) -> Result<()> {
        self.require(Class::T, Call::TimerChangeInterval);
        timer.set_interval_ns(interval_ns);
        Ok(())
    }

    fn timer_grants_granularity(&self) -> bool {
        true
    }

    fn mp_poke(&self, cpu_id: u32) -> Result<()> {
        self.require(Class::D, Call::MpPoke);
        let online = self.index_of_cpu(cpu_id).is_some_and(|index| self.online_cpus().contains(&index));
        if !online {
            return Err(VERR_CPU_OFFLINE);
        }
        locked(&self.modules).pokes.push(cpu_id);
        Ok(())
    }

    fn sleep_interruptible_ms(&self, millis: u32) -> Result<()> {
        if core::mem::take(&mut locked(&self.modules).interrupt_sleep) {
            return Err(VERR_INTERRUPTED);
        }
        self.sleep_ms(millis);
        Ok(())
    }

    fn preempt_is_enabled(&self) -> bool {
        self.preemption_is_enabled()
    }

    fn is_in_interrupt(&self) -> bool {
        self.context(|context| context.in_callback)
    }

    unsafe fn thread_spawn(
        &self,
        entry: ThreadEntry,
        context: *mut c_void,
        priority: ThreadPriority,
        name: &CStr,
    ) -> Result<()> {
        self.require(Class::T, Call::ThreadSpawn);
        self.fallible(Call::ThreadSpawn, VERR_NO_MEMORY)?;
        let name = name.to_string_lossy().into_owned();
        let context = Shared(context);
        let body = move || {
            // The whole wrapper moves to the thread, not just the pointer in it.
            let context: Shared<*mut c_void> = context;
            // SAFETY: condition of the function.
            unsafe { entry(context.0) }
        };
        let thread = thread::Builder::new().name(name.to_owned()).spawn(body).map_err(|_| VERR_NO_MEMORY)?;
        locked(&self.modules).threads.push((name, priority, thread));
        Ok(())
    }

    unsafe fn preempt_hook_create(
        &self,
        callback: PreemptCallback,
        context: *mut c_void,
    ) -> Result<PreemptHook> {
        self.require(Class::T, Call::PreemptHookCreate);
        self.fallible(Call::PreemptHookCreate, VERR_NO_MEMORY)?;
        let mut modules = locked(&self.modules);
        if modules.no_hooks {
            return Err(VERR_NOT_SUPPORTED);
        }
        modules.hooks.push(Some(Hook { callback, context: Shared(context), thread: None }));
        self.account.made(Kind::PreemptHook);
        Ok(PreemptHook(modules.hooks.len() - 1))
    }

    fn preempt_hook_enable(&self, hook: PreemptHook) {
        let me = self.thread();
        self.edit_hook(hook, |hook| {
            if let Some(hook) = hook {
                hook.thread = Some(me);
            }
        });
    }

    fn preempt_hook_disable(&self, hook: PreemptHook) {
        self.edit_hook(hook, |hook| {
            if let Some(hook) = hook {
                hook.thread = None;
            }
        });
    }

    fn preempt_hook_destroy(&self, hook: PreemptHook) {
        self.require(Class::T, Call::PreemptHookDestroy);
        self.edit_hook(hook, |hook| *hook = None);
        self.account.gone(Kind::PreemptHook);
    }

    fn panic_system(&self) {
        self.violation("the system was told to stop");
    }
}
