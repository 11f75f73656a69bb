//! What the C half asks the kernel for: the current thread and its process, CPUs, registers.
//!
//! Structures are those of `tests/shell/freebsd-standin.h`.

use core::cell::UnsafeCell;
use core::ffi::{c_char, c_int, c_long, c_uint, c_ulong, c_void};
use core::ptr::null_mut;
use std::collections::BTreeMap;
use std::ffi::CStr;
use std::sync::Mutex;

use fakekernel::context::{self, Process};

use super::base::run_on;
use super::{CPUS, lock, machine};

const SV_ILP32: c_uint = 0x100;
const PSL_I: c_ulong = 0x200;

#[repr(C)]
struct VmSpace {
    heap: *mut c_char,
    map: [c_long; 4],
}

#[repr(C)]
struct SysentVec {
    flags: c_uint,
}

#[repr(C)]
struct Ucred {
    uid: u32,
    real_uid: u32,
    real_gid: u32,
    in_jail: c_int,
}

#[repr(C)]
struct Proc {
    pid: c_int,
    space: *mut VmSpace,
    sysent: *const SysentVec,
}

#[repr(C)]
struct Thread {
    cred: *const Ucred,
    process: *const Proc,
    critical: c_uint,
    interrupts: c_int,
    owes_preemption: u8,
}

/// The structures of a process, for ever: nobody may find them used again by accident.
struct Structures {
    space: VmSpace,
    sysent: SysentVec,
    cred: Ucred,
    process: Proc,
}

/// By process id.
static STRUCTURES: Mutex<BTreeMap<u32, usize>> = Mutex::new(BTreeMap::new());

fn structures(process: &Process) -> *mut Structures {
    let mut all = lock(&STRUCTURES);
    *all.entry(process.pid).or_insert_with(|| {
        let made = Box::leak(Box::new(Structures {
            space: VmSpace { heap: core::ptr::without_provenance_mut(0x10_0000), map: [0; 4] },
            sysent: SysentVec { flags: if process.is_32bit { SV_ILP32 } else { 0x200 } },
            cred: Ucred {
                uid: process.effective_uid,
                real_uid: process.real_uid,
                real_gid: process.real_gid,
                in_jail: process.jailed.into(),
            },
            process: Proc { pid: process.pid.cast_signed(), space: null_mut(), sysent: null_mut() },
        }));
        made.process.space = &raw mut made.space;
        made.process.sysent = &raw const made.sysent;
        core::ptr::from_mut(made) as usize
    }) as *mut Structures
}

/// The map of a process, inside of its address space.
pub fn map_of(process: &Process) -> usize {
    unsafe { &raw mut (*structures(process)).space.map as usize }
}

thread_local! {
    static THREAD: UnsafeCell<Thread> = const {
        UnsafeCell::new(Thread {
            cred: null_mut(),
            process: null_mut(),
            critical: 0,
            interrupts: 0,
            owes_preemption: 0,
        })
    };
}

/// The `struct thread` of the current thread, as it is now.
pub fn current_thread() -> *mut c_void {
    let structures = structures(&context::process());
    THREAD.with(|thread| unsafe {
        thread.get().write(Thread {
            cred: &raw const (*structures).cred,
            process: &raw const (*structures).process,
            critical: context::is_pinned().into(),
            interrupts: context::is_interrupt().into(),
            owes_preemption: 0,
        });
        thread.get().cast()
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn freebsd_curthread() -> *mut c_void {
    current_thread()
}

/// The loader's environment.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn freebsd_tunable_int_fetch(name: *const c_char, value: *mut c_int) {
    let settings = *lock(&machine().settings);
    value.write(match CStr::from_ptr(name).to_bytes() {
        b"hw.vboxdrv.hardened" => settings.hardened.into(),
        b"hw.vboxdrv.force_async_tsc" => settings.force_async_tsc.into(),
        _ => fakekernel::violation("a tunable that nobody documented"),
    });
}

#[unsafe(no_mangle)]
pub extern "C" fn freebsd_curcpu() -> c_uint {
    context::cpu()
}

#[unsafe(no_mangle)]
pub extern "C" fn freebsd_cpu_absent(cpu: c_uint) -> c_int {
    (cpu >= CPUS).into()
}

/// `cpuset_t`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct CpuSet([c_long; 16]);

type Action = unsafe extern "C" fn(*mut c_void);

#[unsafe(no_mangle)]
pub unsafe extern "C" fn freebsd_smp_rendezvous_cpus(
    set: CpuSet,
    setup: Action,
    action: Action,
    teardown: Action,
    argument: *mut c_void,
) {
    let barrier = super::base::freebsd_smp_no_rendezvous_barrier as *const () as usize;
    assert_eq!((setup as usize, teardown as usize), (barrier, barrier));
    let [first, rest @ ..] = set.0;
    assert!(first >> CPUS == 0 && rest == [0; 15], "a set of CPUs that don't exist");
    for cpu in (0..CPUS).filter(|cpu| first >> cpu & 1 != 0) {
        run_on(cpu, action, argument);
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn freebsd_read_rflags() -> c_ulong {
    if context::are_irqs_off() { 0 } else { PSL_I }
}

#[unsafe(no_mangle)]
pub extern "C" fn freebsd_intr_disable() -> c_ulong {
    let before = freebsd_read_rflags();
    context::irqs_off(1);
    before
}

#[unsafe(no_mangle)]
pub extern "C" fn freebsd_intr_restore(flags: c_ulong) {
    context::irqs_off(-1);
    assert_eq!(flags, freebsd_read_rflags(), "interrupt states nest");
}

#[unsafe(no_mangle)]
pub extern "C" fn freebsd_rdmsr(msr: c_uint) -> u64 {
    match msr {
        0xc000_0080 => 0xd01,
        0x3a => 5,
        0xc001_0114 => 0,
        0x480..=0x491 => u64::MAX,
        other => fakekernel::violation(&format!("the register {other:#x} doesn't exist")),
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn freebsd_rcr0() -> c_ulong {
    0x8005_0033
}

#[unsafe(no_mangle)]
pub extern "C" fn freebsd_rcr4() -> c_ulong {
    0x0006_06f0
}

/// The host's, but for the APIC id: CPU n has id n.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn freebsd_cpuid_count(leaf: u32, subleaf: u32, registers: *mut [u32; 4]) {
    let real = core::arch::x86_64::__cpuid_count(leaf, subleaf);
    let ebx = if leaf == 1 { real.ebx & 0x00ff_ffff | context::cpu() << 24 } else { real.ebx };
    registers.write([real.eax, ebx, real.ecx, real.edx]);
}
