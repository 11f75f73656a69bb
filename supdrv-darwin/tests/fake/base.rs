//! Heap, locks, clocks, threads, VT-x, output.

use core::ffi::{CStr, c_char, c_int, c_uint, c_ulong, c_void};
use std::alloc::{Layout, alloc, dealloc};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use fakekernel::locks::Word;
use fakekernel::{context, ticker, violation};

use super::{CPUS, cpus, lock, machine, must_fail, settings};

const KERN_SUCCESS: c_int = 0;
const KERN_RESOURCE_SHORTAGE: c_int = 6;

#[unsafe(no_mangle)]
pub static darwin_version_major: c_int = 17;

// ---- heap ----

/// Larger requests make the kernel panic.
const TOO_LARGE: usize = 1 << 31;

unsafe fn take(name: &'static str, account: &'static str, bytes: usize, align: usize) -> *mut c_void {
    context::may_sleep(name);
    if bytes == 0 || bytes > TOO_LARGE {
        violation(&format!("{name} of {bytes:#x} bytes"));
    }
    if must_fail(name) {
        return core::ptr::null_mut();
    }
    let layout = Layout::from_size_align(bytes, align).expect("a layout");
    let memory = alloc(layout);
    if memory.is_null() {
        return core::ptr::null_mut();
    }
    memory.write_bytes(0xa5, bytes);
    machine().ledger.enter(account, memory as usize, bytes);
    memory.cast()
}

unsafe fn give(name: &'static str, account: &'static str, memory: *mut c_void, bytes: usize, align: usize) {
    context::may_sleep(name);
    if machine().ledger.leave(account, memory as usize) != bytes {
        violation(&format!("{name} with another size"));
    }
    memory.cast::<u8>().write_bytes(0xde, bytes);
    dealloc(memory.cast(), Layout::from_size_align(bytes, align).expect("a layout"));
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn darwin_IOMalloc(bytes: usize) -> *mut c_void {
    take("IOMalloc", "heap blocks", bytes, 16)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn darwin_IOFree(memory: *mut c_void, bytes: usize) {
    give("IOFree", "heap blocks", memory, bytes, 16);
}

/// Every aligned block is aligned to a page here, so that nobody needs to remember its alignment.
const PAGE: usize = 4096;

#[unsafe(no_mangle)]
pub unsafe extern "C" fn darwin_IOMallocAligned(bytes: usize, align: usize) -> *mut c_void {
    assert!(align.is_power_of_two() && align <= PAGE);
    take("IOMallocAligned", "aligned heap blocks", bytes, PAGE)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn darwin_IOFreeAligned(memory: *mut c_void, bytes: usize) {
    give("IOFreeAligned", "aligned heap blocks", memory, bytes, PAGE);
}

// ---- locks ----

unsafe fn new_lock(name: &'static str, account: &'static str, group: *mut c_void) -> *mut Word {
    context::may_sleep(name);
    if !machine().ledger.has("lock groups", group as usize) {
        violation("a lock without a group");
    }
    if must_fail(name) {
        return core::ptr::null_mut();
    }
    let made = Box::into_raw(Box::new(Word::new()));
    machine().ledger.enter(account, made as usize, 8);
    made
}

unsafe fn free_lock(name: &'static str, account: &'static str, word: *mut Word, group: *mut c_void) {
    context::may_sleep(name);
    if !machine().ledger.has("lock groups", group as usize) {
        violation("the group of a lock is gone before the lock");
    }
    machine().ledger.leave(account, word as usize);
    if (*word).is_held() {
        violation("a held lock is freed");
    }
    drop(Box::from_raw(word));
}

fn check(account: &'static str, word: *mut Word) {
    if !machine().ledger.has(account, word as usize) {
        violation("a lock is used that doesn't exist");
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn darwin_lck_grp_alloc_init(
    name: *const c_char,
    attributes: *mut c_void,
) -> *mut c_void {
    context::may_sleep("lck_grp_alloc_init");
    assert!(attributes.is_null() && !CStr::from_ptr(name).is_empty());
    if must_fail("lck_grp_alloc_init") {
        return core::ptr::null_mut();
    }
    let group: *mut u64 = Box::into_raw(Box::new(0));
    machine().ledger.enter("lock groups", group as usize, 8);
    group.cast()
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn darwin_lck_grp_free(group: *mut c_void) {
    context::may_sleep("lck_grp_free");
    machine().ledger.leave("lock groups", group as usize);
    let locks = machine().ledger.count("spin locks") + machine().ledger.count("mutexes");
    if locks != 0 {
        violation("a group is freed before its locks");
    }
    drop(Box::from_raw(group.cast::<u64>()));
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn darwin_lck_spin_alloc_init(
    group: *mut c_void,
    _attributes: *mut c_void,
) -> *mut Word {
    new_lock("lck_spin_alloc_init", "spin locks", group)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn darwin_lck_spin_free(word: *mut Word, group: *mut c_void) {
    free_lock("lck_spin_free", "spin locks", word, group);
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn darwin_lck_spin_lock(word: *mut Word) {
    check("spin locks", word);
    cpus::before_spin_lock();
    (*word).acquire();
    context::spinlock(1);
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn darwin_lck_spin_unlock(word: *mut Word) {
    // The lock may be gone right after that.
    (*word).release();
    context::spinlock(-1);
    cpus::after_spin_lock();
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn darwin_lck_mtx_alloc_init(
    group: *mut c_void,
    _attributes: *mut c_void,
) -> *mut Word {
    new_lock("lck_mtx_alloc_init", "mutexes", group)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn darwin_lck_mtx_free(word: *mut Word, group: *mut c_void) {
    free_lock("lck_mtx_free", "mutexes", word, group);
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn darwin_lck_mtx_lock(word: *mut Word) {
    context::may_sleep("lck_mtx_lock");
    check("mutexes", word);
    (*word).acquire();
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn darwin_lck_mtx_unlock(word: *mut Word) {
    (*word).release();
}

// ---- clocks ----

/// Absolute time is finer than a nanosecond here, so that nobody takes one for the other.
const UNITS_PER_NS: u64 = 3;

/// Absolute time as the host's clock.
pub fn host_ns(absolute: u64) -> u64 {
    absolute / UNITS_PER_NS
}

#[unsafe(no_mangle)]
pub extern "C" fn darwin_mach_absolute_time() -> u64 {
    ticker::now_ns() * UNITS_PER_NS
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn darwin_absolutetime_to_nanoseconds(absolute: u64, ns: *mut u64) {
    ns.write(absolute / UNITS_PER_NS);
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn darwin_nanoseconds_to_absolutetime(ns: u64, absolute: *mut u64) {
    absolute.write(ns.saturating_mul(UNITS_PER_NS));
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn darwin_clock_get_calendar_nanotime(seconds: *mut c_ulong, ns: *mut c_uint) {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    seconds.write(now.as_secs());
    ns.write(now.subsec_nanos());
}

// ---- the machine ----

#[unsafe(no_mangle)]
pub unsafe extern "C" fn darwin_sysctlbyname(
    name: *const c_char,
    old: *mut c_void,
    old_bytes: *mut usize,
    new: *mut c_void,
    new_bytes: usize,
) -> c_int {
    context::may_sleep("sysctlbyname");
    assert_eq!((CStr::from_ptr(name), old_bytes.read(), new.is_null(), new_bytes), (c"hw.ncpu", 4, true, 0));
    if must_fail("sysctlbyname") {
        return 2;
    }
    old.cast::<u32>().write(CPUS);
    0
}

#[unsafe(no_mangle)]
pub extern "C" fn darwin_host_vmxon(exclusive: c_int) -> c_int {
    context::may_sleep("host_vmxon");
    assert_eq!(exclusive, 0, "VT-x is shared");
    let answer = settings().vmxon;
    if answer == 0 {
        machine().ledger.add("users of VT-x", 1);
    }
    answer
}

#[unsafe(no_mangle)]
pub extern "C" fn darwin_host_vmxoff() {
    context::may_sleep("host_vmxoff");
    machine().ledger.add("users of VT-x", -1);
}

// ---- threads ----

/// Threads that run the driver's code.
static RUNNING: AtomicU32 = AtomicU32::new(0);

/// Threads end a little after the driver knows.
pub fn wait_for_threads() {
    for _ in 0..1000 {
        if RUNNING.load(Ordering::Acquire) == 0 {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Where thread structures are; nobody looks into them.
const THREADS: usize = 0xffff_ff80_2000_0000;

#[unsafe(no_mangle)]
pub extern "C" fn darwin_current_thread() -> *mut c_void {
    core::ptr::without_provenance_mut(THREADS + context::thread_id() * 0x400)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn darwin_kernel_thread_start(
    function: unsafe extern "C" fn(*mut c_void, c_int),
    argument: *mut c_void,
    thread: *mut *mut c_void,
) -> c_int {
    context::may_sleep("kernel_thread_start");
    if must_fail("kernel_thread_start") {
        return KERN_RESOURCE_SHORTAGE;
    }
    machine().ledger.add("kernel threads", 1);
    machine().ledger.add("thread references", 1);
    RUNNING.fetch_add(1, Ordering::AcqRel);
    thread.write(core::ptr::without_provenance_mut(THREADS));
    let argument = argument as usize;
    let started = std::thread::Builder::new().stack_size(1 << 20).spawn(move || {
        function(argument as *mut c_void, 0);
        violation("a kernel thread returned");
    });
    started.map_or(KERN_RESOURCE_SHORTAGE, |_| KERN_SUCCESS)
}

#[unsafe(no_mangle)]
pub extern "C" fn darwin_thread_deallocate(_thread: *mut c_void) {
    context::may_sleep("thread_deallocate");
    machine().ledger.add("thread references", -1);
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn darwin_thread_policy_set(
    _thread: *mut c_void,
    flavor: c_int,
    policy: *mut c_int,
    words: c_uint,
) -> c_int {
    assert!(flavor == 3 && words == 1 && policy.read() != 0);
    if must_fail("thread_policy_set") { KERN_RESOURCE_SHORTAGE } else { KERN_SUCCESS }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn darwin_thread_terminate(thread: *mut c_void) -> c_int {
    assert_eq!(thread, darwin_current_thread());
    machine().ledger.add("kernel threads", -1);
    RUNNING.fetch_sub(1, Ordering::AcqRel);
    // Nothing may unwind through the driver: only the host's thread ends.
    libc::syscall(libc::SYS_exit, 0);
    violation("a terminated thread goes on");
}

// ---- output: with the formats that the driver uses; in registers, variable arguments look like others ----

#[unsafe(no_mangle)]
pub unsafe extern "C" fn darwin_printf(
    format: *const c_char,
    bytes: c_int,
    text: *const u8,
    end: *const c_char,
) -> c_int {
    context::may_take_locks("printf");
    assert_eq!(CStr::from_ptr(format), c"%.*s%s");
    let text = core::slice::from_raw_parts(text, bytes as usize);
    let line = String::from_utf8_lossy(text).into_owned() + &CStr::from_ptr(end).to_string_lossy();
    assert!(line.ends_with('\n'));
    lock(&machine().log).push(line);
    bytes
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn darwin_panic(format: *const c_char) -> ! {
    violation(&format!("panic: {}", CStr::from_ptr(format).to_string_lossy()));
}
