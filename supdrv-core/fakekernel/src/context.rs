//! The execution state of threads, and processes.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

/// A process of the fake kernel. All of them share the address space of the test program.
#[derive(Debug)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// Effective user.
    pub effective_uid: u32,
    /// Real user.
    pub real_uid: u32,
    /// Real group.
    pub real_gid: u32,
    /// Inside of a jail or a zone.
    pub jailed: bool,
    /// Runs a 32-bit program.
    pub is_32bit: bool,
    /// Its structure in the kernel; processes that died may have had the same.
    pub structure: usize,
    signal: AtomicBool,
}

static NEXT_PID: AtomicU32 = AtomicU32::new(1000);
static NEXT_STRUCTURE: AtomicUsize = AtomicUsize::new(0);

/// Where process structures are.
const STRUCTURES: usize = 0xffff_f800_0100_0000_u64 as usize;
const STRUCTURE_BYTES: usize = 0x800;

impl Process {
    /// A new process of a user.
    #[must_use]
    pub fn new(uid: u32) -> Self {
        let number = NEXT_STRUCTURE.fetch_add(1, Ordering::Relaxed) % 0x1000;
        Self {
            pid: NEXT_PID.fetch_add(1, Ordering::Relaxed),
            effective_uid: uid,
            real_uid: uid,
            real_gid: uid,
            jailed: false,
            is_32bit: false,
            structure: STRUCTURES + number * STRUCTURE_BYTES,
            signal: AtomicBool::new(false),
        }
    }

    /// The same process in a jail, or a zone.
    #[must_use]
    pub fn jailed(self) -> Self {
        Self { jailed: true, ..self }
    }

    /// The same process with a 32-bit program.
    #[must_use]
    pub fn with_32bit_program(self) -> Self {
        Self { is_32bit: true, ..self }
    }

    /// The same process with other real ids than effective ones.
    #[must_use]
    pub fn with_real_ids(self, uid: u32, gid: u32) -> Self {
        Self { real_uid: uid, real_gid: gid, ..self }
    }

    /// Sends a signal: waits that can be interrupted end.
    pub fn signal(&self) {
        self.signal.store(true, Ordering::Release);
    }

    /// Handles the signal.
    pub fn clear_signal(&self) {
        self.signal.store(false, Ordering::Release);
    }

    /// Whether a signal is pending.
    #[must_use]
    pub fn has_signal(&self) -> bool {
        self.signal.load(Ordering::Acquire)
    }
}

struct Thread {
    id: usize,
    process: RefCell<Arc<Process>>,
    cpu: Cell<u32>,
    pins: Cell<u32>,
    irqs_off: Cell<u32>,
    spinlocks: Cell<u32>,
    interrupts: Cell<u32>,
}

static NEXT_THREAD: AtomicUsize = AtomicUsize::new(1);

thread_local! {
    static KERNEL_PROCESS: Arc<Process> = Arc::new(Process { pid: 0, ..Process::new(0) });
    static THREAD: Thread = Thread {
        id: NEXT_THREAD.fetch_add(1, Ordering::Relaxed),
        process: RefCell::new(KERNEL_PROCESS.with(Arc::clone)),
        cpu: const { Cell::new(0) },
        pins: const { Cell::new(0) },
        irqs_off: const { Cell::new(0) },
        spinlocks: const { Cell::new(0) },
        interrupts: const { Cell::new(0) },
    };
}

fn change(cell: impl Fn(&Thread) -> &Cell<u32>, by: i32, what: &str) {
    THREAD.with(|thread| {
        let cell = cell(thread);
        match cell.get().checked_add_signed(by) {
            Some(value) => cell.set(value),
            None => crate::violation(&format!("{what} ended that didn't begin")),
        }
    });
}

fn get(cell: impl Fn(&Thread) -> u32) -> u32 {
    THREAD.with(cell)
}

/// A number for the current thread, never 0.
#[must_use]
pub fn thread_id() -> usize {
    THREAD.with(|thread| thread.id)
}

/// The process of the current thread; the kernel's own has id 0.
#[must_use]
pub fn process() -> Arc<Process> {
    THREAD.with(|thread| thread.process.borrow().clone())
}

/// Runs code in a process.
pub fn in_process<R>(process: &Arc<Process>, run: impl FnOnce() -> R) -> R {
    let before = THREAD.with(|thread| thread.process.replace(process.clone()));
    let result = run();
    THREAD.with(|thread| *thread.process.borrow_mut() = before);
    result
}

/// The current CPU.
#[must_use]
pub fn cpu() -> u32 {
    get(|thread| thread.cpu.get())
}

/// Runs code on a CPU, as an interrupt there: it may not sleep.
pub fn in_interrupt<R>(cpu: u32, run: impl FnOnce() -> R) -> R {
    let before = THREAD.with(|thread| thread.cpu.replace(cpu));
    change(|thread| &thread.interrupts, 1, "an interrupt");
    change(|thread| &thread.irqs_off, 1, "interrupts off");
    let result = run();
    change(|thread| &thread.irqs_off, -1, "interrupts off");
    change(|thread| &thread.interrupts, -1, "an interrupt");
    THREAD.with(|thread| thread.cpu.set(before));
    result
}

/// Preemption goes off, or on again with -1.
pub fn pin(by: i32) {
    change(|thread| &thread.pins, by, "a critical section");
}

/// Interrupts go off, or on again with -1.
pub fn irqs_off(by: i32) {
    change(|thread| &thread.irqs_off, by, "interrupts off");
}

/// A spinlock is held, or given up with -1.
pub fn spinlock(by: i32) {
    change(|thread| &thread.spinlocks, by, "a spinlock");
}

/// Whether preemption is off.
#[must_use]
pub fn is_pinned() -> bool {
    get(|thread| thread.pins.get() + thread.spinlocks.get()) != 0
}

/// Whether interrupts are off.
#[must_use]
pub fn are_irqs_off() -> bool {
    get(|thread| thread.irqs_off.get()) != 0
}

/// Whether an interrupt is being handled.
#[must_use]
pub fn is_interrupt() -> bool {
    get(|thread| thread.interrupts.get()) != 0
}

/// How many spinlocks the current thread holds.
#[must_use]
pub fn spinlocks() -> u32 {
    get(|thread| thread.spinlocks.get())
}

/// Ends the test if the current thread may not sleep.
pub fn may_sleep(what: &str) {
    if is_pinned() || are_irqs_off() || is_interrupt() {
        crate::violation(&format!(
            "{what} may sleep, but pinned: {}, interrupts off: {}, in an interrupt: {}",
            is_pinned(),
            are_irqs_off(),
            is_interrupt()
        ));
    }
}

/// Ends the test if the current thread may not take adaptive locks: it may be pinned, but not hold spinlocks or have interrupts off.
pub fn may_take_locks(what: &str) {
    if spinlocks() != 0 || are_irqs_off() || is_interrupt() {
        crate::violation(&format!("{what} takes locks of the kernel, which can't be done here"));
    }
}
