//! CPUs, cross calls, cyclics, and the current CPU and thread, and what `instructions.c` does in a kernel.

use core::ffi::{c_int, c_void};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use fakekernel::{context, ticker, violation};

use super::base::{cpu_lock_is_mine, solaris_cpu_lock, solaris_mutex_enter, solaris_mutex_exit};
use super::{CPUS, lock, machine};

const CPU_ON: c_int = 3;
const CPU_OFF: c_int = 4;
const CY_LOCK_LEVEL: u16 = 1;
const CY_INFINITY: i64 = i64::MAX;

#[unsafe(no_mangle)]
pub static solaris_ncpus: c_int = CPUS as c_int;
#[unsafe(no_mangle)]
pub static solaris_max_cpuid: c_int = CPUS as c_int - 1;

/// A `cpu_t`: its id comes first.
#[repr(C)]
pub struct Cpu {
    id: u32,
    rest: [u32; 15],
}

static CPU_STRUCTURES: [Cpu; CPUS as usize] = {
    let mut cpus = [const { Cpu { id: 0, rest: [0; 15] } }; CPUS as usize];
    let mut id = 0;
    while id < CPUS {
        cpus[id as usize].id = id;
        id += 1;
    }
    cpus
};

static ONLINE: AtomicU64 = AtomicU64::new((1 << CPUS) - 1);

fn is_online(cpu: u32) -> bool {
    ONLINE.load(Ordering::Acquire) & (1 << cpu) != 0
}

fn structure(cpu: u32) -> *const Cpu {
    &raw const CPU_STRUCTURES[cpu as usize]
}

fn check_cpu_lock(what: &str) {
    if !cpu_lock_is_mine() {
        violation(&format!("{what} needs cpu_lock"));
    }
}

// ---- the current thread and CPU ----

#[unsafe(no_mangle)]
pub extern "C" fn solaris_fake_thread() -> *mut c_void {
    core::ptr::without_provenance_mut(0xffff_fe00_0200_0000 + context::thread_id() * 0x400)
}

#[unsafe(no_mangle)]
pub extern "C" fn solaris_fake_cpu() -> *const c_void {
    structure(context::cpu()).cast()
}

#[unsafe(no_mangle)]
pub extern "C" fn supdrv_glue_context() -> u32 {
    u32::from(context::is_pinned())
        | u32::from(context::are_irqs_off()) << 1
        | u32::from(context::is_interrupt()) << 2
}

#[unsafe(no_mangle)]
pub extern "C" fn solaris_kpreempt_disable() {
    context::pin(1);
}

#[unsafe(no_mangle)]
pub extern "C" fn solaris_kpreempt_enable() {
    context::pin(-1);
}

/// The host's, but for the APIC id: CPU n has id n; and VT-x is there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn supdrv_glue_cpuid(leaf: u32, subleaf: u32, registers: *mut [u32; 4]) {
    let real = core::arch::x86_64::__cpuid_count(leaf, subleaf);
    let (ebx, ecx) = match leaf {
        1 => (real.ebx & 0x00ff_ffff | context::cpu() << 24, real.ecx | 1 << 5),
        _ => (real.ebx, real.ecx),
    };
    registers.write([real.eax, ebx, ecx, real.edx]);
}

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

#[unsafe(no_mangle)]
pub extern "C" fn supdrv_glue_cr4() -> usize {
    0x0006_06f0
}

// ---- CPUs ----

type SetupFunction = unsafe extern "C" fn(c_int, c_int, *mut c_void) -> c_int;
static SETUP: Mutex<Vec<(SetupFunction, usize)>> = Mutex::new(Vec::new());

#[unsafe(no_mangle)]
pub extern "C" fn solaris_cpu_get(id: c_int) -> *const c_void {
    check_cpu_lock("cpu_get");
    match u32::try_from(id) {
        Ok(id) if id < CPUS => structure(id).cast(),
        _ => core::ptr::null(),
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn solaris_cpu_is_online(cpu: *const Cpu) -> c_int {
    check_cpu_lock("cpu_is_online");
    is_online((*cpu).id).into()
}

#[unsafe(no_mangle)]
pub extern "C" fn solaris_register_cpu_setup_func(function: SetupFunction, argument: *mut c_void) {
    check_cpu_lock("register_cpu_setup_func");
    lock(&SETUP).push((function, argument as usize));
    machine().ledger.add("CPU callbacks", 1);
}

#[unsafe(no_mangle)]
pub extern "C" fn solaris_unregister_cpu_setup_func(function: SetupFunction, argument: *mut c_void) {
    check_cpu_lock("unregister_cpu_setup_func");
    let mut setup = lock(&SETUP);
    let place = setup.iter().position(|(f, a)| *f as usize == function as usize && *a == argument as usize);
    setup.remove(place.unwrap_or_else(|| violation("a CPU callback that isn't registered")));
    machine().ledger.add("CPU callbacks", -1);
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn solaris_xc_call(
    first: usize,
    second: usize,
    third: usize,
    set: *const [u64; 4],
    function: unsafe extern "C" fn(usize, usize, usize) -> c_int,
) {
    if context::spinlocks() != 0 || context::are_irqs_off() || !context::is_pinned() {
        violation("a cross call needs a pinned caller with interrupts on and without spin locks");
    }
    for (index, word) in set.read().into_iter().enumerate() {
        for bit in (0..64).filter(|bit| word & (1 << bit) != 0) {
            let cpu = index as u32 * 64 + bit;
            assert!(cpu < CPUS, "a cross call to CPU {cpu}, which doesn't exist");
            if is_online(cpu) {
                context::in_interrupt(cpu, || function(first, second, third));
            }
        }
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn solaris_poke_cpu(id: c_int) {
    assert!((0..CPUS as c_int).contains(&id));
}

/// `psradm`: a CPU goes off-line, or comes back.
pub fn set_online(cpu: u32, online: bool) {
    let lock_word = (&raw const solaris_cpu_lock).cast_mut().cast();
    unsafe { solaris_mutex_enter(lock_word) };
    if online {
        ONLINE.fetch_or(1 << cpu, Ordering::AcqRel);
        cyclics_online(cpu);
    } else {
        cyclics_offline(cpu);
        ONLINE.fetch_and(!(1 << cpu), Ordering::AcqRel);
    }
    let functions = lock(&SETUP).clone();
    // Other events come as well.
    for what in [1, if online { CPU_ON } else { CPU_OFF }, 7] {
        for (function, argument) in &functions {
            unsafe { function(what, cpu as c_int, *argument as *mut c_void) };
        }
    }
    unsafe { solaris_mutex_exit(lock_word) };
}

// ---- cyclics ----

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Handler {
    function: Option<unsafe extern "C" fn(*mut c_void)>,
    argument: *mut c_void,
    level: u16,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Time {
    when: i64,
    interval: i64,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Omni {
    online: unsafe extern "C" fn(*mut c_void, *const Cpu, *mut Handler, *mut Time),
    offline: unsafe extern "C" fn(*mut c_void, *const Cpu, *mut c_void),
    argument: *mut c_void,
}

/// What runs on one CPU.
struct Slot {
    handler: Handler,
    interval: i64,
    next: AtomicU64,
    cpu: u32,
}

struct Cyclic {
    omni: Option<Omni>,
    slots: BTreeMap<u32, Box<Slot>>,
}

// SAFETY: the pointers are the driver's, which promised that they may be used anywhere.
unsafe impl Send for Cyclic {}

static CYCLICS: Mutex<BTreeMap<usize, Cyclic>> = Mutex::new(BTreeMap::new());
static NEXT: AtomicUsize = AtomicUsize::new(1);

unsafe extern "C" fn fire(slot: *mut c_void) {
    let slot = &*slot.cast::<Slot>();
    if let Some(function) = slot.handler.function {
        function(slot.handler.argument);
    }
    if slot.interval != CY_INFINITY {
        let next = slot.next.fetch_add(slot.interval as u64, Ordering::Relaxed) + slot.interval as u64;
        arm(slot, next);
    }
}

fn arm(slot: &Slot, when: u64) {
    let key = core::ptr::from_ref(slot) as usize;
    machine().ticker.arm(key, when, slot.cpu, fire, key);
}

fn new_slot(handler: Handler, when: Time, cpu: u32) -> Box<Slot> {
    assert!(handler.level == CY_LOCK_LEVEL && when.interval > 0 && when.when > 0);
    let slot =
        Box::new(Slot { handler, interval: when.interval, next: AtomicU64::new(when.when as u64), cpu });
    arm(&slot, when.when as u64);
    slot
}

fn omni_slot(omni: &Omni, cpu: u32) -> Box<Slot> {
    let mut handler = Handler { function: None, argument: core::ptr::null_mut(), level: u16::MAX };
    let mut when = Time { when: 0, interval: 0 };
    unsafe { (omni.online)(omni.argument, structure(cpu), &raw mut handler, &raw mut when) };
    assert!(handler.function.is_some());
    new_slot(handler, when, cpu)
}

#[allow(clippy::boxed_local, reason = "the box is the timer's identity")]
fn drop_slot(slot: Box<Slot>) {
    machine().ticker.drain(core::ptr::from_ref(&*slot) as usize);
}

fn register(cyclic: Cyclic) -> usize {
    let id = NEXT.fetch_add(1, Ordering::Relaxed);
    lock(&CYCLICS).insert(id, cyclic);
    machine().ledger.add("cyclics", 1);
    id
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn solaris_cyclic_add(handler: *const Handler, when: *const Time) -> usize {
    check_cpu_lock("cyclic_add");
    register(Cyclic { omni: None, slots: BTreeMap::from([(0, new_slot(handler.read(), when.read(), 0))]) })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn solaris_cyclic_add_omni(omni: *const Omni) -> usize {
    check_cpu_lock("cyclic_add_omni");
    let omni = omni.read();
    let slots = (0..CPUS).filter(|cpu| is_online(*cpu)).map(|cpu| (cpu, omni_slot(&omni, cpu)));
    register(Cyclic { omni: Some(omni), slots: slots.collect() })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn solaris_cyclic_bind(cyclic: usize, cpu: *const Cpu, partition: *mut c_void) {
    check_cpu_lock("cyclic_bind");
    assert!(partition.is_null() && is_online((*cpu).id));
    let mut cyclics = lock(&CYCLICS);
    let cyclic = cyclics.get_mut(&cyclic).unwrap_or_else(|| violation("a cyclic that doesn't exist"));
    let Some((_, slot)) = cyclic.slots.pop_first() else { violation("a cyclic without a handler") };
    let moved = Time { when: slot.next.load(Ordering::Relaxed) as i64, interval: slot.interval };
    let handler = slot.handler;
    drop_slot(slot);
    cyclic.slots.insert((*cpu).id, new_slot(handler, moved, (*cpu).id));
}

#[unsafe(no_mangle)]
pub extern "C" fn solaris_cyclic_remove(cyclic: usize) {
    check_cpu_lock("cyclic_remove");
    context::may_sleep("cyclic_remove");
    let Some(cyclic) = lock(&CYCLICS).remove(&cyclic) else { violation("a cyclic that doesn't exist") };
    cyclic.slots.into_values().for_each(drop_slot);
    machine().ledger.add("cyclics", -1);
}

fn cyclics_online(cpu: u32) {
    for cyclic in lock(&CYCLICS).values_mut() {
        if let Some(omni) = cyclic.omni {
            cyclic.slots.insert(cpu, omni_slot(&omni, cpu));
        }
    }
}

fn cyclics_offline(cpu: u32) {
    for cyclic in lock(&CYCLICS).values_mut() {
        let Some(omni) = cyclic.omni else { continue };
        if let Some(slot) = cyclic.slots.remove(&cpu) {
            drop_slot(slot);
            unsafe { (omni.offline)(omni.argument, structure(cpu), core::ptr::null_mut()) };
        }
    }
}

/// Nanoseconds, for those who wait.
pub fn now_ns() -> u64 {
    ticker::now_ns()
}
