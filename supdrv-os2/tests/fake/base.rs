//! Interrupts, locks, who is running, instructions.

use core::cell::{Cell, UnsafeCell};
use core::ffi::c_ulong;
use std::sync::atomic::{AtomicU8, Ordering};

use fakekernel::locks::Word;
use fakekernel::{context, violation};

use super::machine;

thread_local! {
    /// IF. Interrupt handlers start with it too: the kernel turns interrupts on for them.
    static INTERRUPTS: Cell<bool> = const { Cell::new(true) };
    static LOCAL_INFO: UnsafeCell<[u16; 4]> = const { UnsafeCell::new([0; 4]) };
    static LEVEL: Cell<i32> = const { Cell::new(-1) };
}

const IF: usize = 0x200;

/// Whether interrupts are on for the current thread.
pub fn are_interrupts_on() -> bool {
    INTERRUPTS.get()
}

pub fn set_interrupts(on: bool) {
    if INTERRUPTS.replace(on) != on {
        context::irqs_off(if on { -1 } else { 1 });
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn supdrv_glue_irq_save() -> usize {
    let before = INTERRUPTS.get();
    set_interrupts(false);
    if before { IF } else { 0 }
}

#[unsafe(no_mangle)]
pub extern "C" fn supdrv_glue_irq_restore(flags: usize) {
    set_interrupts(flags & IF != 0);
}

// ---- spinlocks ----

#[unsafe(no_mangle)]
pub unsafe extern "C" fn os2_KernAllocSpinLock(lock: *mut usize) {
    context::may_sleep("KernAllocSpinLock");
    assert_eq!(lock.read(), 0, "a spinlock is made where there is none");
    machine().ledger.enter("spinlocks", lock as usize, 4);
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn os2_KernFreeSpinLock(lock: *mut usize) {
    context::may_sleep("KernFreeSpinLock");
    machine().ledger.leave("spinlocks", lock as usize);
    if Word::at(lock).is_held() {
        violation("a held spinlock is destroyed");
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn os2_KernAcquireSpinLock(lock: *mut usize) {
    if !machine().ledger.has("spinlocks", lock as usize) {
        violation("a spinlock is taken that doesn't exist");
    }
    set_interrupts(false);
    Word::at(lock).acquire();
    context::spinlock(1);
}

/// The kernel makes no promise about interrupts here: this one turns them on.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn os2_KernReleaseSpinLock(lock: *mut usize) {
    Word::at(lock).release();
    context::spinlock(-1);
    set_interrupts(true);
}

// ---- mutexes ----

#[unsafe(no_mangle)]
pub unsafe extern "C" fn os2_KernAllocMutexLock(lock: *mut [usize; 2]) {
    context::may_sleep("KernAllocMutexLock");
    assert_eq!(lock.read(), [0; 2], "a mutex is made where there is none");
    machine().ledger.enter("mutexes", lock as usize, 8);
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn os2_KernFreeMutexLock(lock: *mut [usize; 2]) {
    machine().ledger.leave("mutexes", lock as usize);
    if Word::at(lock.cast()).is_held() {
        violation("a held mutex is destroyed");
    }
}

/// Recursive for the owner: the second word counts.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn os2_KernRequestExclusiveMutex(lock: *mut [usize; 2]) {
    context::may_sleep("KernRequestExclusiveMutex");
    if !machine().ledger.has("mutexes", lock as usize) {
        violation("a mutex is taken that doesn't exist");
    }
    let word = Word::at(lock.cast());
    if !word.is_mine() {
        word.acquire();
    }
    (*lock)[1] += 1;
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn os2_KernReleaseExclusiveMutex(lock: *mut [usize; 2]) {
    context::may_sleep("KernReleaseExclusiveMutex");
    let word = Word::at(lock.cast());
    if !word.is_mine() {
        violation("a mutex is released by somebody who doesn't hold it");
    }
    (*lock)[1] -= 1;
    if (*lock)[1] == 0 {
        word.release();
    }
}

// ---- who is running ----

/// Process, its parent, priority, thread.
#[unsafe(no_mangle)]
pub extern "C" fn os2_KernLISData() -> *const u16 {
    let (pid, tid) = (context::process().pid as u16, context::thread_id() as u16);
    LOCAL_INFO.with(|info| unsafe {
        info.get().write([pid, 0, 0, tid]);
        info.get().cast_const().cast()
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn os2_KernInterruptLevel() -> *const i32 {
    LEVEL.set(if context::is_interrupt() { 0 } else { -1 });
    LEVEL.with(|level| level.as_ptr().cast_const())
}

// ---- variables ----

static CPUS: AtomicU8 = AtomicU8::new(1);
static YIELD_FLAG: AtomicU8 = AtomicU8::new(0);

/// For the next start of the driver.
pub fn set_cpus(cpus: u8) {
    CPUS.store(cpus, Ordering::Relaxed);
}

pub fn set_yield_flag(flag: u8) {
    YIELD_FLAG.store(flag, Ordering::Relaxed);
}

/// Where GetDOSVar says that a variable is.
pub fn variable(index: u32) -> Option<usize> {
    match index {
        7 => Some(YIELD_FLAG.as_ptr() as usize),
        0x14 => Some(CPUS.as_ptr() as usize),
        _ => None,
    }
}

// ---- instructions ----

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

/// Protected mode with paging.
#[unsafe(no_mangle)]
pub extern "C" fn supdrv_glue_cr0() -> c_ulong {
    0x8000_0013
}

/// VME and global pages, without PAE; but a test of 64 bits runs in long mode.
#[unsafe(no_mangle)]
pub extern "C" fn supdrv_glue_cr4() -> c_ulong {
    if cfg!(target_pointer_width = "64") { 0xb1 } else { 0x91 }
}

#[cfg(target_arch = "x86")]
use core::arch::x86::__cpuid_count;
#[cfg(target_arch = "x86_64")]
use core::arch::x86_64::__cpuid_count;

/// The host's, but for the APIC id, and with virtualisation.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn supdrv_glue_cpuid(leaf: u32, subleaf: u32, registers: *mut [u32; 4]) {
    let real = __cpuid_count(leaf, subleaf);
    let (ebx, ecx) = match leaf {
        1 => (real.ebx & 0x00ff_ffff | context::cpu() << 24, real.ecx | 1 << 5),
        0x8000_0001 => (real.ebx, real.ecx | 1 << 2),
        _ => (real.ebx, real.ecx),
    };
    registers.write([real.eax, ebx, ecx, real.edx]);
}

#[unsafe(no_mangle)]
pub extern "C" fn os2_refuses_block() -> bool {
    context::may_sleep("an allocation");
    machine().faults.must_fail("a heap block")
}
