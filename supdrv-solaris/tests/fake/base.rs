//! Heap, locks, condition variables, clocks, threads, output.

use core::ffi::{CStr, c_char, c_int, c_long, c_ulong, c_void};
use std::alloc::{Layout, alloc, dealloc};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use fakekernel::locks::Word;
use fakekernel::{context, ticker, violation};

use super::{lock, machine};

const KM_SLEEP: c_int = 0;
const MUTEX_SPIN: c_int = 1;
const MUTEX_DRIVER: c_int = 4;
const LOCK_LEVEL: usize = 10;
const CE_CONT: c_int = 0;

// ---- heap ----

/// Multiples of 64 are aligned to 64, all else to 8.
fn heap_layout(bytes: usize) -> Layout {
    Layout::from_size_align(bytes, if bytes.is_multiple_of(64) { 64 } else { 8 }).expect("a layout")
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn solaris_kmem_zalloc(bytes: usize, flags: c_int) -> *mut c_void {
    match flags {
        KM_SLEEP => context::may_sleep("kmem_zalloc(KM_SLEEP)"),
        _ => context::may_take_locks("kmem_zalloc(KM_NOSLEEP)"),
    }
    assert!(bytes != 0);
    if flags != KM_SLEEP && (bytes > 64 << 20 || machine().faults.must_fail("kmem_zalloc")) {
        return core::ptr::null_mut();
    }
    let memory = alloc(heap_layout(bytes));
    assert!(!memory.is_null(), "the host has no memory");
    memory.write_bytes(0, bytes);
    machine().ledger.enter("heap blocks", memory as usize, bytes);
    memory.cast()
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn solaris_kmem_free(memory: *mut c_void, bytes: usize) {
    context::may_take_locks("kmem_free");
    let allocated = machine().ledger.leave("heap blocks", memory as usize);
    assert_eq!(allocated, bytes, "blocks are freed with the size that they were allocated with");
    memory.cast::<u8>().write_bytes(0xde, bytes);
    dealloc(memory.cast(), heap_layout(bytes));
}

// ---- locks ----

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Adaptive,
    /// May also be taken by interrupts up to the level of locks.
    AdaptiveInterrupt,
    Spin,
}

static MUTEXES: Mutex<BTreeMap<usize, Kind>> = Mutex::new(BTreeMap::new());

#[unsafe(no_mangle)]
pub static solaris_cpu_lock: Word = Word::new();

pub fn cpu_lock_is_mine() -> bool {
    solaris_cpu_lock.is_mine()
}

fn kind(mutex: *mut usize) -> Kind {
    if core::ptr::eq(mutex.cast(), &raw const solaris_cpu_lock) {
        return Kind::Adaptive;
    }
    match lock(&MUTEXES).get(&(mutex as usize)) {
        Some(kind) => *kind,
        None => violation("a mutex is used that doesn't exist"),
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn solaris_ipltospl(level: c_int) -> c_int {
    level
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn solaris_mutex_init(
    mutex: *mut usize,
    name: *const c_char,
    kind: c_int,
    cookie: *mut c_void,
) {
    assert!(!CStr::from_ptr(name).is_empty() && mutex.read() == 0);
    let kind = match (kind, cookie as usize) {
        (MUTEX_SPIN, level) if level > LOCK_LEVEL => Kind::Spin,
        (MUTEX_DRIVER, 0) => Kind::Adaptive,
        (MUTEX_DRIVER, 1..=LOCK_LEVEL) => Kind::AdaptiveInterrupt,
        _ => violation("a kind of mutex that isn't sound"),
    };
    if lock(&MUTEXES).insert(mutex as usize, kind).is_some() {
        violation("a mutex is initialised twice");
    }
    machine().ledger.add("mutexes", 1);
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn solaris_mutex_destroy(mutex: *mut usize) {
    if lock(&MUTEXES).remove(&(mutex as usize)).is_none() || Word::at(mutex).is_held() {
        violation("a mutex is destroyed that is held, or doesn't exist");
    }
    machine().ledger.add("mutexes", -1);
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn solaris_mutex_enter(mutex: *mut usize) {
    match kind(mutex) {
        Kind::Adaptive => context::may_sleep("mutex_enter of an adaptive mutex"),
        Kind::AdaptiveInterrupt if context::spinlocks() != 0 => {
            violation("an adaptive mutex under a spin lock")
        }
        Kind::AdaptiveInterrupt => {}
        Kind::Spin => {
            Word::at(mutex).acquire();
            context::spinlock(1);
            return;
        }
    }
    Word::at(mutex).acquire();
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn solaris_mutex_exit(mutex: *mut usize) {
    let kind = kind(mutex);
    Word::at(mutex).release();
    if kind == Kind::Spin {
        context::spinlock(-1);
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn solaris_intr_clear() -> c_ulong {
    let before = context::are_irqs_off();
    if !before {
        context::irqs_off(1);
    }
    if before { 0 } else { 0x200 }
}

#[unsafe(no_mangle)]
pub extern "C" fn solaris_intr_restore(flags: c_ulong) {
    if flags != 0 {
        context::irqs_off(-1);
    }
}

// ---- condition variables ----

#[derive(Default)]
struct Waiter {
    woken: Mutex<bool>,
    changed: Condvar,
}

type Queues = HashMap<usize, VecDeque<Arc<Waiter>>>;
static QUEUES: LazyLock<Mutex<Queues>> = LazyLock::new(Mutex::default);
static WAITS: AtomicUsize = AtomicUsize::new(0);
/// Every so many waits end for no reason.
const SPURIOUS: usize = 5;
const SLICE: Duration = Duration::from_millis(2);

#[unsafe(no_mangle)]
pub unsafe extern "C" fn solaris_cv_init(
    condition: *mut usize,
    _name: *const c_char,
    _kind: c_int,
    argument: *mut c_void,
) {
    assert!(argument.is_null());
    machine().ledger.enter("condition variables", condition as usize, 2);
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn solaris_cv_destroy(condition: *mut usize) {
    machine().ledger.leave("condition variables", condition as usize);
    if lock(&QUEUES).contains_key(&(condition as usize)) {
        violation("a condition variable is destroyed while somebody waits");
    }
}

#[derive(PartialEq, Eq)]
enum Wake {
    Woken,
    Expired,
    Signal,
}

unsafe fn wait(
    condition: *mut usize,
    mutex: *mut usize,
    deadline_ns: Option<u64>,
    interruptible: bool,
) -> Wake {
    if !Word::at(mutex).is_mine() || kind(mutex) == Kind::Spin {
        violation("a wait needs the mutex, which can't be a spin lock");
    }
    let waiter = Arc::new(Waiter::default());
    lock(&QUEUES).entry(condition as usize).or_default().push_back(waiter.clone());
    machine().ledger.add("sleepers", 1);
    solaris_mutex_exit(mutex);
    context::may_sleep("cv_wait");
    let result = block(condition as usize, &waiter, deadline_ns, interruptible);
    machine().ledger.add("sleepers", -1);
    solaris_mutex_enter(mutex);
    result
}

fn block(condition: usize, waiter: &Arc<Waiter>, deadline_ns: Option<u64>, interruptible: bool) -> Wake {
    let spurious = WAITS.fetch_add(1, Ordering::Relaxed) % SPURIOUS == SPURIOUS - 1;
    let mut woken = lock(&waiter.woken);
    let mut result = Wake::Woken;
    while !*woken {
        let now = ticker::now_ns();
        if interruptible && context::process().has_signal() {
            result = Wake::Signal;
            break;
        }
        if deadline_ns.is_some_and(|deadline| deadline <= now) {
            result = Wake::Expired;
            break;
        }
        let rest = deadline_ns.map_or(SLICE, |deadline| Duration::from_nanos(deadline - now).min(SLICE));
        woken = waiter.changed.wait_timeout(woken, rest).unwrap_or_else(PoisonError::into_inner).0;
        if spurious {
            break;
        }
    }
    drop(woken);
    let mut queues = lock(&QUEUES);
    if let Some(queue) = queues.get_mut(&condition) {
        queue.retain(|other| !Arc::ptr_eq(other, waiter));
        if queue.is_empty() {
            queues.remove(&condition);
        }
    }
    if *lock(&waiter.woken) { Wake::Woken } else { result }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn solaris_cv_wait(condition: *mut usize, mutex: *mut usize) {
    wait(condition, mutex, None, false);
}

fn sig_result(wake: Wake) -> c_int {
    match wake {
        Wake::Woken => 1,
        Wake::Expired => -1,
        Wake::Signal => 0,
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn solaris_cv_wait_sig(condition: *mut usize, mutex: *mut usize) -> c_int {
    sig_result(wait(condition, mutex, None, true))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn solaris_cv_timedwait_sig_hrtime(
    condition: *mut usize,
    mutex: *mut usize,
    deadline: i64,
) -> c_int {
    sig_result(wait(condition, mutex, Some(deadline as u64), true))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn solaris_cv_timedwait_hires(
    condition: *mut usize,
    mutex: *mut usize,
    time: i64,
    resolution: i64,
    flags: c_int,
) -> c_long {
    assert!(resolution > 0 && flags == 2, "an absolute time");
    sig_result(wait(condition, mutex, Some(time as u64), false)).into()
}

fn wake(condition: *mut usize, all: bool) {
    if context::spinlocks() != 0 {
        violation("waking somebody up under a spin lock");
    }
    let mut queues = lock(&QUEUES);
    if let Some(queue) = queues.get_mut(&(condition as usize)) {
        let count = if all { queue.len() } else { 1 };
        for waiter in queue.drain(..count.min(queue.len())) {
            *lock(&waiter.woken) = true;
            waiter.changed.notify_all();
        }
        if queue.is_empty() {
            queues.remove(&(condition as usize));
        }
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn solaris_cv_signal(condition: *mut usize) {
    wake(condition, false);
}

#[unsafe(no_mangle)]
pub extern "C" fn solaris_cv_broadcast(condition: *mut usize) {
    wake(condition, true);
}

// ---- clocks ----

#[unsafe(no_mangle)]
pub static solaris_nsec_per_tick: c_int = 1_000_000;

#[unsafe(no_mangle)]
pub extern "C" fn solaris_gethrtime() -> i64 {
    ticker::now_ns() as i64
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn solaris_gethrestime(time: *mut [i64; 2]) {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    time.write([now.as_secs() as i64, now.subsec_nanos().into()]);
}

#[unsafe(no_mangle)]
pub extern "C" fn solaris_drv_usectohz(microseconds: c_long) -> c_long {
    (microseconds + 999) / 1000
}

#[unsafe(no_mangle)]
pub extern "C" fn solaris_delay(ticks: c_long) {
    context::may_sleep("delay");
    std::thread::sleep(Duration::from_millis(ticks as u64));
}

#[unsafe(no_mangle)]
pub extern "C" fn solaris_delay_sig(ticks: c_long) -> c_int {
    context::may_sleep("delay_sig");
    let end = ticker::now_ns() + ticks as u64 * 1_000_000;
    while ticker::now_ns() < end {
        if context::process().has_signal() {
            return 4;
        }
        std::thread::sleep(SLICE);
    }
    0
}

// ---- threads, output ----

#[unsafe(no_mangle)]
pub static solaris_p0: [u64; 16] = [0; 16];
#[unsafe(no_mangle)]
pub static solaris_minclsyspri: i16 = 60;

#[unsafe(no_mangle)]
pub unsafe extern "C" fn solaris_thread_create(
    stack: *mut c_void,
    stack_bytes: usize,
    function: unsafe extern "C" fn(*mut c_void),
    argument: *mut c_void,
    length: usize,
    process: *const c_void,
    state: c_int,
    priority: i16,
) -> *mut c_void {
    context::may_sleep("thread_create");
    assert!(stack.is_null() && stack_bytes == 0 && length == 0 && state == 2 && priority == 60);
    assert_eq!(process, (&raw const solaris_p0).cast());
    machine().ledger.add("kernel threads", 1);
    let argument = argument as usize;
    std::thread::spawn(move || unsafe { function(argument as *mut c_void) });
    core::ptr::without_provenance_mut(0x1000)
}

#[unsafe(no_mangle)]
pub extern "C" fn solaris_thread_exit() -> ! {
    machine().ledger.add("kernel threads", -1);
    // Nothing may unwind through the driver.
    loop {
        std::thread::park();
    }
}

/// With the one format that the driver uses; in registers, variable arguments look like others.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn solaris_cmn_err(level: c_int, format: *const c_char, text: *const c_char) {
    if level != CE_CONT {
        violation(&format!("panic: {}", CStr::from_ptr(format).to_string_lossy()));
    }
    assert_eq!(CStr::from_ptr(format), c"%s\n");
    lock(&machine().log).push(CStr::from_ptr(text).to_string_lossy().into_owned() + "\n");
}
