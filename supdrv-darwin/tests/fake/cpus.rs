//! CPUs: who can't be preempted has one for himself.

use core::cell::Cell;
use core::ffi::{c_int, c_void};

use fakekernel::locks::Word;
use fakekernel::{context, violation};

use super::CPUS;

/// Held by whoever can't be preempted there.
static OWNED: [Word; CPUS as usize] = [const { Word::new() }; CPUS as usize];
/// Held while interrupts are off there.
static IRQS_OFF: [Word; CPUS as usize] = [const { Word::new() }; CPUS as usize];

thread_local! {
    /// The CPU that the thread can't be taken from, and whether it is in an interrupt there.
    static PLACE: Cell<Option<(u32, bool)>> = const { Cell::new(None) };
}

/// The current CPU; any, if the thread may be preempted.
pub fn current() -> u32 {
    PLACE.get().map_or(context::thread_id() as u32 % CPUS, |(cpu, _)| cpu)
}

/// The thread can't be preempted from here on.
fn occupy() -> u32 {
    if let Some((cpu, _)) = PLACE.get() {
        return cpu;
    }
    let first = context::thread_id() as u32;
    loop {
        if let Some(cpu) =
            (first..first + CPUS).map(|n| n % CPUS).find(|cpu| OWNED[*cpu as usize].try_acquire())
        {
            PLACE.set(Some((cpu, false)));
            return cpu;
        }
        std::thread::yield_now();
    }
}

/// It can, if nothing is in the way.
fn leave() {
    if let Some((cpu, false)) = PLACE.get()
        && !context::are_irqs_off()
        && context::spinlocks() == 0
    {
        PLACE.set(None);
        OWNED[cpu as usize].release();
    }
}

/// A spin lock is about to be taken.
pub fn before_spin_lock() {
    occupy();
}

/// A spin lock was given up.
pub fn after_spin_lock() {
    leave();
}

#[unsafe(no_mangle)]
pub extern "C" fn darwin_cpu_number() -> c_int {
    current().cast_signed()
}

#[unsafe(no_mangle)]
pub extern "C" fn darwin_preemption_enabled() -> c_int {
    (!context::is_pinned() && !context::is_interrupt()).into()
}

#[unsafe(no_mangle)]
pub extern "C" fn darwin_ml_get_interrupts_enabled() -> c_int {
    (!context::are_irqs_off()).into()
}

#[unsafe(no_mangle)]
pub extern "C" fn darwin_ml_set_interrupts_enabled(enable: c_int) -> c_int {
    let were_on = !context::are_irqs_off();
    match (were_on, enable != 0) {
        (true, false) => {
            let cpu = occupy();
            IRQS_OFF[cpu as usize].acquire();
            context::irqs_off(1);
        }
        (false, true) => {
            if context::is_interrupt() {
                violation("interrupts are turned on inside of an interrupt");
            }
            context::irqs_off(-1);
            IRQS_OFF[current() as usize].release();
            leave();
        }
        _ => {}
    }
    were_on.into()
}

#[unsafe(no_mangle)]
pub extern "C" fn darwin_ml_at_interrupt_context() -> c_int {
    context::is_interrupt().into()
}

/// Runs code on a CPU, in an interrupt: as soon as interrupts are on there.
fn interrupt(cpu: u32, run: impl FnOnce()) {
    IRQS_OFF[cpu as usize].acquire();
    let before = PLACE.replace(Some((cpu, true)));
    context::in_interrupt(cpu, run);
    PLACE.set(before);
    IRQS_OFF[cpu as usize].release();
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn darwin_mp_rendezvous_no_intrs(
    action: unsafe extern "C" fn(*mut c_void),
    argument: *mut c_void,
) {
    if context::spinlocks() != 0 || context::are_irqs_off() || context::is_interrupt() {
        violation("a rendezvous with interrupts off or a spin lock held hangs the machine");
    }
    for cpu in 0..CPUS {
        interrupt(cpu, || action(argument));
    }
}

// Instructions.

#[unsafe(no_mangle)]
pub extern "C" fn supdrv_glue_rdmsr(msr: u32) -> u64 {
    match msr {
        0xc000_0080 => 0xd01,
        0x3a => 5,
        0xc001_0114 => 0,
        0x480..=0x491 => u64::MAX,
        other => violation(&format!("the register {other:#x} doesn't exist")),
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn supdrv_glue_cr0() -> usize {
    0x8005_0033
}

/// With VMXE, which the kernel turns on for itself.
#[unsafe(no_mangle)]
pub extern "C" fn supdrv_glue_cr4() -> usize {
    0x0006_26f0
}

/// The host's, but for the APIC id: CPU n has id n.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn supdrv_glue_cpuid(leaf: u32, subleaf: u32, registers: *mut [u32; 4]) {
    let real = core::arch::x86_64::__cpuid_count(leaf, subleaf);
    let ebx = if leaf == 1 { real.ebx & 0x00ff_ffff | current() << 24 } else { real.ebx };
    registers.write([real.eax, ebx, real.ecx, real.edx]);
}
