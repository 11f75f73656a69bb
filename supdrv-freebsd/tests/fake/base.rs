//! Heap, locks, clocks, callouts, CPUs, threads, event handlers, output.

use core::ffi::{CStr, c_char, c_int, c_void};
use std::alloc::{Layout, alloc, dealloc};
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};

use fakekernel::locks::Word;
use fakekernel::{context, ticker, violation};

use super::{CPUS, lock, machine};

const M_NOWAIT: c_int = 1;
const M_WAITOK: c_int = 2;
const M_ZERO: c_int = 0x100;

#[unsafe(no_mangle)]
pub static freebsd_hz: c_int = 1000;
#[unsafe(no_mangle)]
pub static freebsd_mp_maxid: u32 = CPUS - 1;
#[unsafe(no_mangle)]
pub static freebsd_mp_ncpus: c_int = CPUS as c_int;
#[unsafe(no_mangle)]
pub static freebsd_tsc_freq: u64 = 2_000_000_000;
unsafe extern "C" {
    /// The C half defines it.
    static mut M_SUPDRV: [usize; 2];
}

// ---- heap ----

/// Powers of two up to a page are aligned to themselves, all else to 8.
fn heap_layout(bytes: usize) -> Layout {
    let align = if bytes.is_power_of_two() { bytes.clamp(8, 4096) } else { 8 };
    Layout::from_size_align(bytes.max(1), align).expect("a layout")
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn freebsd_malloc(bytes: usize, kind: *mut c_void, flags: c_int) -> *mut c_void {
    assert_eq!(kind, (&raw mut M_SUPDRV).cast(), "memory is accounted as the driver's");
    match flags & (M_NOWAIT | M_WAITOK) {
        M_WAITOK => context::may_sleep("malloc(M_WAITOK)"),
        M_NOWAIT => context::may_take_locks("malloc(M_NOWAIT)"),
        _ => violation("malloc wants one of M_NOWAIT and M_WAITOK"),
    }
    if flags & M_NOWAIT != 0 && (bytes > 64 << 20 || machine().faults.must_fail("malloc")) {
        return core::ptr::null_mut();
    }
    let layout = heap_layout(bytes);
    let memory = alloc(layout);
    assert!(!memory.is_null(), "the host has no memory");
    memory.write_bytes(if flags & M_ZERO != 0 { 0 } else { 0xa5 }, layout.size());
    machine().ledger.enter("heap blocks", memory as usize, bytes);
    memory.cast()
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn freebsd_free(memory: *mut c_void, kind: *mut c_void) {
    assert_eq!(kind, (&raw mut M_SUPDRV).cast(), "memory is accounted as the driver's");
    context::may_take_locks("free");
    if memory.is_null() {
        return;
    }
    let layout = heap_layout(machine().ledger.leave("heap blocks", memory as usize));
    if machine().ticker.is_active_in(memory as usize..memory as usize + layout.size()) {
        violation("memory is freed with an armed callout in it");
    }
    memory.cast::<u8>().write_bytes(0xde, layout.size());
    dealloc(memory.cast(), layout);
}

// ---- locks ----

/// Layout of a `struct mtx`: the lock word is the fourth.
const WORDS_BEFORE_LOCK: usize = 3;
const MTX_SPIN: c_int = 1;

unsafe fn is_zero(words: *const usize, count: usize) -> bool {
    (0..count).all(|i| words.add(i).read() == 0)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn freebsd__mtx_init(
    word: *mut usize,
    name: *const c_char,
    kind: *const c_char,
    options: c_int,
) {
    assert!(options & MTX_SPIN != 0 && kind.is_null() && !CStr::from_ptr(name).is_empty());
    let mutex = word.sub(WORDS_BEFORE_LOCK);
    assert!(is_zero(mutex, 4), "a mutex is initialised in zeroed memory");
    machine().ledger.enter("spin mutexes", word as usize, 32);
    mutex.write(name as usize);
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn freebsd__mtx_destroy(word: *mut usize) {
    machine().ledger.leave("spin mutexes", word as usize);
    if Word::at(word).is_held() {
        violation("a held mutex is destroyed");
    }
    word.sub(WORDS_BEFORE_LOCK).write(0xdead);
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn freebsd___mtx_lock_spin_flags(
    word: *mut usize,
    _options: c_int,
    _file: *const c_char,
    _line: c_int,
) {
    if word.sub(WORDS_BEFORE_LOCK).read() == 0xdead {
        violation("a destroyed mutex is locked");
    }
    context::irqs_off(1);
    Word::at(word).acquire();
    context::spinlock(1);
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn freebsd___mtx_unlock_spin_flags(
    word: *mut usize,
    _options: c_int,
    _file: *const c_char,
    _line: c_int,
) {
    Word::at(word).release();
    context::spinlock(-1);
    context::irqs_off(-1);
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn freebsd_sx_init_flags(sx: *mut usize, name: *const c_char, _options: c_int) {
    assert!(is_zero(sx, 4) && !CStr::from_ptr(name).is_empty());
    machine().ledger.enter("sx locks", sx as usize, 32);
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn freebsd_sx_destroy(sx: *mut usize) {
    machine().ledger.leave("sx locks", sx as usize);
    if Word::at(sx).is_held() {
        violation("a held sx lock is destroyed");
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn freebsd__sx_xlock(
    sx: *mut usize,
    _options: c_int,
    _file: *const c_char,
    _line: c_int,
) -> c_int {
    context::may_sleep("sx_xlock");
    if !machine().ledger.has("sx locks", sx as usize) {
        violation("an sx lock is taken that doesn't exist");
    }
    Word::at(sx).acquire();
    0
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn freebsd__sx_xunlock(sx: *mut usize, _file: *const c_char, _line: c_int) {
    Word::at(sx).release();
}

// ---- clocks and callouts ----

#[repr(C)]
pub struct Timespec {
    seconds: i64,
    nanoseconds: i64,
}

fn timespec(ns: u64) -> Timespec {
    Timespec { seconds: (ns / 1_000_000_000) as i64, nanoseconds: (ns % 1_000_000_000) as i64 }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn freebsd_nanouptime(time: *mut Timespec) {
    time.write(timespec(ticker::now_ns()));
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn freebsd_nanotime(time: *mut Timespec) {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    time.write(timespec(now.as_nanos() as u64));
}

/// Nanoseconds of fixed point seconds.
pub fn sbt_ns(sbt: i64) -> u64 {
    ((i128::from(sbt) * 1_000_000_000) >> 32).clamp(0, i128::from(u64::MAX)) as u64
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn freebsd_callout_init(callout: *mut u64, mpsafe: c_int) {
    assert_eq!(mpsafe, 1, "the kernel's big lock is of the past");
    callout.write(0xca11);
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn freebsd_callout_reset_sbt_on(
    callout: *mut u64,
    deadline: i64,
    precision: i64,
    function: unsafe extern "C" fn(*mut c_void),
    argument: *mut c_void,
    cpu: c_int,
    flags: c_int,
) -> c_int {
    const C_DIRECT_EXEC: c_int = 1;
    const C_ABSOLUTE: c_int = 0x200;
    assert_eq!((callout.read(), flags), (0xca11, C_DIRECT_EXEC | C_ABSOLUTE));
    assert!(precision >= 0 && cpu < CPUS as c_int);
    let cpu = u32::try_from(cpu).unwrap_or(0);
    machine().ticker.arm(callout as usize, sbt_ns(deadline), cpu, function, argument as usize).into()
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn freebsd_callout_stop(callout: *mut u64) -> c_int {
    assert_eq!(callout.read(), 0xca11);
    machine().ticker.disarm(callout as usize).into()
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn freebsd_callout_drain(callout: *mut u64) -> c_int {
    context::may_sleep("callout_drain");
    assert_eq!(callout.read(), 0xca11);
    machine().ticker.drain(callout as usize).into()
}

// ---- CPUs ----

pub type Action = unsafe extern "C" fn(*mut c_void);

#[unsafe(no_mangle)]
pub unsafe extern "C" fn freebsd_smp_no_rendezvous_barrier(_argument: *mut c_void) {
    violation("the marker for no barrier is not to be called");
}

fn run_action(cpu: u32, action: Action, argument: *mut c_void) {
    // As an action, the marker means that there is nothing to do.
    if action as usize != freebsd_smp_no_rendezvous_barrier as *const () as usize {
        context::in_interrupt(cpu, || unsafe { action(argument) });
    }
}

fn check_rendezvous() {
    if context::spinlocks() != 0 || context::are_irqs_off() {
        violation("a rendezvous with interrupts off or a spin lock held hangs the machine");
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn freebsd_smp_rendezvous(
    setup: Action,
    action: Action,
    teardown: Action,
    argument: *mut c_void,
) {
    let barrier = freebsd_smp_no_rendezvous_barrier as *const () as usize;
    assert_eq!((setup as usize, teardown as usize), (barrier, barrier));
    check_rendezvous();
    for cpu in 0..CPUS {
        run_action(cpu, action, argument);
    }
}

/// A rendezvous on one CPU.
pub fn run_on(cpu: u32, action: Action, argument: *mut c_void) {
    check_rendezvous();
    run_action(cpu, action, argument);
}

#[unsafe(no_mangle)]
pub extern "C" fn freebsd_critical_enter_KBI() {
    context::pin(1);
}

#[unsafe(no_mangle)]
pub extern "C" fn freebsd_critical_exit_KBI() {
    context::pin(-1);
}

// ---- threads ----

#[unsafe(no_mangle)]
pub unsafe extern "C" fn freebsd_kthread_add(
    function: Action,
    argument: *mut c_void,
    process: *mut c_void,
    thread: *mut *mut c_void,
    flags: c_int,
    pages: c_int,
    _format: *const c_char,
    name: *const c_char,
) -> c_int {
    context::may_sleep("kthread_add");
    assert!(process.is_null() && flags == 0 && pages == 0 && !CStr::from_ptr(name).is_empty());
    if machine().faults.must_fail("kthread_add") {
        return super::ENOMEM;
    }
    thread.write(core::ptr::without_provenance_mut(0x1000));
    machine().ledger.add("kernel threads", 1);
    let argument = argument as usize;
    std::thread::spawn(move || unsafe { function(argument as *mut c_void) });
    0
}

#[unsafe(no_mangle)]
pub extern "C" fn freebsd_kthread_exit() -> ! {
    machine().ledger.add("kernel threads", -1);
    // Nothing may unwind through the driver.
    loop {
        std::thread::park();
    }
}

// ---- event handlers, output ----

struct Handler {
    name: String,
    function: Action,
    argument: usize,
    tag: usize,
}

static HANDLERS: Mutex<Vec<Handler>> = Mutex::new(Vec::new());
const LISTS: usize = 0x4000;

#[unsafe(no_mangle)]
pub unsafe extern "C" fn freebsd_eventhandler_register(
    list: *mut c_void,
    name: *const c_char,
    function: Action,
    argument: *mut c_void,
    _priority: c_int,
) -> *mut c_void {
    context::may_sleep("eventhandler_register");
    assert!(list.is_null());
    machine().ledger.add("event handlers", 1);
    let mut handlers = lock(&HANDLERS);
    let tag = handlers.iter().map(|handler| handler.tag).max().unwrap_or(0x5000) + 1;
    let name = CStr::from_ptr(name).to_string_lossy().into_owned();
    handlers.push(Handler { name, function, argument: argument as usize, tag });
    core::ptr::without_provenance_mut(tag)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn freebsd_eventhandler_find_list(_name: *const c_char) -> *mut c_void {
    core::ptr::without_provenance_mut(LISTS)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn freebsd_eventhandler_deregister(list: *mut c_void, tag: *mut c_void) {
    context::may_sleep("eventhandler_deregister");
    assert_eq!(list as usize, LISTS);
    let mut handlers = lock(&HANDLERS);
    let before = handlers.len();
    handlers.retain(|handler| handler.tag != tag as usize);
    assert_eq!(handlers.len() + 1, before, "an event handler that isn't registered");
    machine().ledger.add("event handlers", -1);
}

/// An event happens.
pub fn run_handlers(name: &str) {
    let due: Vec<_> = lock(&HANDLERS)
        .iter()
        .filter(|handler| handler.name == name)
        .map(|handler| (handler.function, handler.argument))
        .collect();
    for (function, argument) in due {
        unsafe { function(argument as *mut c_void) };
    }
}

/// With the one format that the driver uses; in registers, variable arguments look like others.
/// Seconds, as far as rates are concerned.
static SECOND: AtomicI64 = AtomicI64::new(1);

/// The next second begins.
pub fn next_second() {
    SECOND.fetch_add(1, Ordering::Relaxed);
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn freebsd_ppsratecheck(last: *mut i64, events: *mut c_int, most: c_int) -> c_int {
    let second = SECOND.load(Ordering::Relaxed);
    if last.read() == second {
        events.write(events.read().saturating_add(1));
    } else {
        last.write(second);
        events.write(1);
    }
    (events.read() <= most).into()
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn freebsd_printf(
    format: *const c_char,
    bytes: c_int,
    text: *const u8,
    end: *const c_char,
) -> c_int {
    assert_eq!(CStr::from_ptr(format), c"%.*s%s");
    let text = core::slice::from_raw_parts(text, bytes as usize);
    let line = String::from_utf8_lossy(text).into_owned() + &CStr::from_ptr(end).to_string_lossy();
    assert!(line.ends_with('\n'));
    lock(&machine().log).push(line);
    bytes
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn freebsd_panic(format: *const c_char) -> ! {
    violation(&format!("panic: {}", CStr::from_ptr(format).to_string_lossy()));
}
