//! What the core gets from the kernel, service by service, on a fake kernel.
#![cfg(target_os = "linux")]
#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "locks that the test holds, and functions that the driver handed out"
)]

mod fake;

use core::alloc::Layout;
use core::ffi::c_void;
use core::ptr::{NonNull, null_mut};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use fake::base::{are_interrupts_on, set_interrupts};
use fake::{Calls, boot, devhlp, machine, memory, tick};
use fakekernel::context::{self, Process};
use fakekernel::ram::PAGE;
use fakekernel::suite::{client, first_page, loaded, root, unload};
use supdrv_core::abi::ioctl::VtCaps;
use supdrv_core::abi::status::{
    VERR_ADDRESS_TOO_BIG, VERR_CPU_NOT_FOUND, VERR_INTERRUPTED, VERR_LOCK_FAILED, VERR_NO_PHYS_MEMORY,
    VERR_NOT_OWNER, VERR_NOT_SUPPORTED, VERR_TIMEOUT, VERR_TIMER_ACTIVE, VERR_TIMER_SUSPENDED,
};
use supdrv_core::os::{
    AllocKind, CachePolicy, EventKind, LockClass, MemProt, OsCpu, OsEvent, OsHeap, OsIdentity, OsLock,
    OsMemory, OsModule, OsTime, OsTimer, OsUserCopy, Timeout, TimerSpec, TimerTarget, WaitMode,
};
use supdrv_os2::Os2;

const READ_WRITE: MemProt = MemProt::READ.union(MemProt::WRITE);

/// A function that modules link against.
fn function<F: Copy>(name: &[u8]) -> F {
    let address = supdrv_os2::function(name).expect("a function");
    assert_eq!(size_of::<F>(), size_of::<usize>());
    unsafe { core::mem::transmute_copy(&address) }
}

// ---- locks ----

#[test]
fn a_spinlock_leaves_interrupts_as_they_were() {
    let kernel = loaded::<Calls>();
    let outer = Os2.spinlock_create(LockClass::Device).expect("a lock");
    let inner = Os2.spinlock_create(LockClass::Session).expect("a lock");
    for on in [false, true] {
        set_interrupts(on);
        let state = Os2.spinlock_acquire_irq(&outer);
        assert!(!are_interrupts_on());
        Os2.spinlock_acquire(&inner);
        unsafe { Os2.spinlock_release(&inner) };
        assert!(!are_interrupts_on(), "the outer lock is still held");
        unsafe { Os2.spinlock_release_irq(&outer, state) };
        assert_eq!(are_interrupts_on(), on);
    }
    drop((outer, inner));
    unload::<Calls>(kernel);
}

/// A counter that only a lock protects.
struct Counter(core::cell::UnsafeCell<u64>);

unsafe impl Sync for Counter {}

#[test]
fn a_mutex_lets_one_thread_in_at_a_time() {
    let kernel = loaded::<Calls>();
    let mutex = Os2.mutex_create(LockClass::Loader).expect("a mutex");
    let counter = Counter(0.into());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let counter = &counter;
                for _ in 0..100_000 {
                    Os2.mutex_acquire(&mutex);
                    unsafe {
                        *counter.0.get() += 1;
                        Os2.mutex_release(&mutex);
                    }
                }
            });
        }
    });
    assert_eq!(unsafe { *counter.0.get() }, 200_000);
    drop(mutex);
    unload::<Calls>(kernel);
}

#[test]
fn a_mutex_of_a_module_is_recursive_and_has_an_owner() {
    type Create = unsafe extern "C" fn(*mut usize) -> i32;
    type Use = unsafe extern "C" fn(usize) -> i32;
    type Request = unsafe extern "C" fn(usize, u32) -> i32;
    let kernel = loaded::<Calls>();
    let request: Request = function(b"RTSemMutexRequest");
    let release: Use = function(b"RTSemMutexRelease");
    let mut mutex = 0;
    unsafe {
        assert_eq!(function::<Create>(b"RTSemMutexCreate")(&raw mut mutex), 0);
        (0..3).for_each(|_| assert_eq!(request(mutex, 1000), 0));
    }
    let elsewhere = |run: &(dyn Fn() -> i32 + Sync)| {
        std::thread::scope(|scope| scope.spawn(run).join().expect("a thread"))
    };
    let others = elsewhere(&|| unsafe { release(mutex) });
    assert_eq!(others, VERR_NOT_OWNER.0);
    for held in [true, true, false] {
        assert_eq!(unsafe { release(mutex) }, 0);
        let tried = elsewhere(&|| unsafe {
            match request(mutex, 0) {
                0 => release(mutex),
                error => error,
            }
        });
        assert_eq!(tried, if held { VERR_TIMEOUT.0 } else { 0 });
    }
    assert_eq!(unsafe { release(mutex) }, VERR_NOT_OWNER.0);
    assert_eq!(unsafe { function::<Use>(b"RTSemMutexDestroy")(mutex) }, 0);
    unload::<Calls>(kernel);
}

// ---- events ----

#[test]
fn a_wait_ends_with_its_time_and_not_before() {
    let kernel = loaded::<Calls>();
    let event = Os2.event_create(EventKind::SingleRelease).expect("an event");
    let (started, began) = (Instant::now(), Os2.system_nano_ts());
    let ended = Os2.event_wait(&event, Timeout::RelativeNs(10_000_000), WaitMode::Interruptible);
    assert_eq!(ended, Err(VERR_TIMEOUT));
    // On the driver's clock, whose ticks are longer than that.
    assert!(Os2.system_nano_ts() - began >= 10_000_000);
    println!("10 ms took {:?}", started.elapsed());
    let short = Os2.event_wait(&event, Timeout::RelativeNs(1), WaitMode::Interruptible);
    assert_eq!(short, Err(VERR_TIMEOUT));
    for poll in [Timeout::RelativeNs(0), Timeout::DeadlineNs(began)] {
        assert_eq!(Os2.event_wait(&event, poll, WaitMode::Uninterruptible), Err(VERR_TIMEOUT));
    }
    assert_eq!(Os2.event_resolution_ns(), 32_000_000);
    drop(event);
    unload::<Calls>(kernel);
}

fn sleepers() -> i64 {
    machine().ledger.count("sleepers")
}

fn until(what: impl Fn() -> bool) {
    while !what() {
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_signal_releases_one_waiter_or_all_of_them() {
    let kernel = loaded::<Calls>();
    for (kind, released) in [(EventKind::SingleRelease, 1), (EventKind::MultiRelease, 3)] {
        let event = Os2.event_create(kind).expect("an event");
        let done = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    assert_eq!(Os2.event_wait(&event, Timeout::Forever, WaitMode::Uninterruptible), Ok(()));
                    done.fetch_add(1, Ordering::Relaxed);
                });
            }
            until(|| sleepers() == 3);
            // From an interrupt, as timers do.
            context::in_interrupt(0, || Os2.event_signal(&event));
            until(|| done.load(Ordering::Relaxed) == released);
            assert_eq!(sleepers(), 3 - released as i64);
            while done.load(Ordering::Relaxed) < 3 {
                Os2.event_signal(&event);
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        Os2.event_signal(&event);
        // The signal stays if nobody waits.
        assert_eq!(Os2.event_wait(&event, Timeout::RelativeNs(0), WaitMode::Interruptible), Ok(()));
        Os2.event_reset(&event);
        let again = Os2.event_wait(&event, Timeout::RelativeNs(0), WaitMode::Interruptible);
        assert_eq!(again, Err(VERR_TIMEOUT));
        drop(event);
    }
    unload::<Calls>(kernel);
}

// ---- timers ----

static CALLS: AtomicU64 = AtomicU64::new(0);

unsafe extern "C" fn count(_timer: *mut c_void, _context: *mut c_void, tick: u64) {
    assert!(context::is_interrupt());
    assert_eq!(CALLS.fetch_add(1, Ordering::Relaxed) + 1, tick);
}

fn spec(interval_ns: u64, callback: supdrv_core::os::TimerCallback, context: *mut c_void) -> TimerSpec {
    TimerSpec { interval_ns, target: TimerTarget::Any, callback, context }
}

/// Ticks of so many milliseconds in all, as the kernel makes them.
fn pass(milliseconds: u32) {
    let mut passed = 0;
    for number in 0.. {
        let step = if number % 4 == 0 { 32 } else { 31 };
        if passed + step > milliseconds {
            break;
        }
        passed += step;
        tick::advance(step);
    }
}

#[test]
fn a_timer_is_called_as_often_as_its_interval_says() {
    let kernel = loaded::<Calls>();
    tick::stop();
    CALLS.store(0, Ordering::Relaxed);
    let timer = Os2.timer_create(&spec(100_000_000, count, null_mut())).expect("a timer");
    pass(1000);
    assert_eq!(CALLS.load(Ordering::Relaxed), 0, "it isn't running");
    assert_eq!(Os2.timer_stop(&timer), Err(VERR_TIMER_SUSPENDED));
    assert_eq!(Os2.timer_start(&timer, 0), Ok(()));
    assert_eq!(Os2.timer_start(&timer, 0), Err(VERR_TIMER_ACTIVE));
    pass(10_000);
    assert!((99..=101).contains(&CALLS.load(Ordering::Relaxed)), "{CALLS:?}");
    assert_eq!(Os2.timer_stop(&timer), Ok(()));
    let stopped_at = CALLS.load(Ordering::Relaxed);
    pass(1000);
    assert_eq!(CALLS.load(Ordering::Relaxed), stopped_at);
    // Ticks that came late are skipped, and counting starts anew.
    CALLS.store(0, Ordering::Relaxed);
    assert_eq!(Os2.timer_start(&timer, 100_000_000), Ok(()));
    tick::advance(1000);
    assert_eq!(CALLS.load(Ordering::Relaxed), 1);
    tick::advance(99);
    assert_eq!(CALLS.load(Ordering::Relaxed), 1);
    tick::advance(1);
    assert_eq!(CALLS.load(Ordering::Relaxed), 2);
    drop(timer);
    pass(1000);
    assert_eq!(CALLS.load(Ordering::Relaxed), 2);
    assert_eq!(Os2.timer_granularity_ns(), 32_000_000);
    assert_eq!(Os2.timer_request_granularity(1_000_000), Err(VERR_NOT_SUPPORTED));
    for target in [TimerTarget::All, TimerTarget::Cpu(0)] {
        let spec = TimerSpec { target, ..spec(1_000_000, count, null_mut()) };
        assert_eq!(Os2.timer_create(&spec).err(), Some(VERR_NOT_SUPPORTED));
    }
    unload::<Calls>(kernel);
}

#[test]
fn a_one_shot_timer_comes_once_and_can_be_started_again() {
    let kernel = loaded::<Calls>();
    tick::stop();
    let timer = Os2.timer_create(&spec(0, count, null_mut())).expect("a timer");
    for _ in 0..2 {
        CALLS.store(0, Ordering::Relaxed);
        assert_eq!(Os2.timer_start(&timer, 50_000_000), Ok(()));
        tick::advance(49);
        assert_eq!(CALLS.load(Ordering::Relaxed), 0);
        pass(500);
        assert_eq!(CALLS.load(Ordering::Relaxed), 1);
        assert_eq!(Os2.timer_stop(&timer), Err(VERR_TIMER_SUSPENDED));
    }
    drop(timer);
    unload::<Calls>(kernel);
}

type ModuleTimer = unsafe extern "C" fn(timer: usize, user: *mut c_void, tick: u64);

unsafe extern "C" fn stop_itself(timer: usize, _user: *mut c_void, _tick: u64) {
    CALLS.fetch_add(1, Ordering::Relaxed);
    let stop: unsafe extern "C" fn(usize) -> i32 = function(b"RTTimerStop");
    assert_eq!(unsafe { stop(timer) }, 0);
}

#[test]
fn a_timer_can_be_stopped_by_its_own_callback() {
    type Create = unsafe extern "C" fn(*mut usize, u32, ModuleTimer, *mut c_void) -> i32;
    let kernel = loaded::<Calls>();
    tick::stop();
    CALLS.store(0, Ordering::Relaxed);
    let mut timer = 0;
    unsafe {
        assert_eq!(function::<Create>(b"RTTimerCreate")(&raw mut timer, 40, stop_itself, null_mut()), 0);
        // It may be running from its creation on.
        function::<unsafe extern "C" fn(usize, u64) -> i32>(b"RTTimerStart")(timer, 0);
    }
    pass(1000);
    assert_eq!(CALLS.load(Ordering::Relaxed), 1);
    assert_eq!(unsafe { function::<unsafe extern "C" fn(usize) -> i32>(b"RTTimerDestroy")(timer) }, 0);
    unload::<Calls>(kernel);
}

static INSIDE: AtomicUsize = AtomicUsize::new(0);

unsafe extern "C" fn linger(_timer: *mut c_void, _context: *mut c_void, _tick: u64) {
    INSIDE.store(1, Ordering::Release);
    std::thread::sleep(Duration::from_millis(50));
    INSIDE.store(2, Ordering::Release);
}

#[test]
fn the_end_of_a_timer_waits_for_its_callback() {
    let kernel = loaded::<Calls>();
    INSIDE.store(0, Ordering::Relaxed);
    let timer = Os2.timer_create(&spec(0, linger, null_mut())).expect("a timer");
    assert_eq!(Os2.timer_start(&timer, 0), Ok(()));
    until(|| INSIDE.load(Ordering::Acquire) != 0);
    drop(timer);
    assert_eq!(INSIDE.load(Ordering::Acquire), 2);
    unload::<Calls>(kernel);
}

// ---- time ----

#[test]
fn time_goes_on_when_the_kernels_counter_wraps() {
    let kernel = boot();
    tick::stop();
    tick::info().milliseconds.store(0xffff_fff0, Ordering::Relaxed);
    assert_eq!(kernel.load(), 0);
    let before = Os2.system_nano_ts();
    tick::info().milliseconds.store(0x10, Ordering::Relaxed);
    assert_eq!(Os2.system_nano_ts() - before, 32_000_000);
    unload::<Calls>(kernel);
}

#[test]
fn a_tick_sees_a_wrap_that_nobody_else_reads() {
    let kernel = boot();
    tick::stop();
    tick::info().milliseconds.store(0, Ordering::Relaxed);
    assert_eq!(kernel.load(), 0);
    let before = Os2.system_nano_ts();
    // 49.7 days and a bit, a tick a day.
    (0..50).for_each(|_| tick::advance(86_400_000));
    assert_eq!(Os2.system_nano_ts() - before, 50 * 86_400_000 * 1_000_000);
    unload::<Calls>(kernel);
}

#[test]
fn time_never_goes_backwards_on_any_thread() {
    let kernel = loaded::<Calls>();
    let latest = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..500_000 {
                    let seen = latest.load(Ordering::Acquire);
                    let now = Os2.system_nano_ts();
                    assert!(now >= seen);
                    latest.fetch_max(now, Ordering::AcqRel);
                }
            });
        }
    });
    unload::<Calls>(kernel);
}

#[test]
fn the_wall_clock_is_that_of_utc() {
    let kernel = loaded::<Calls>();
    tick::info().seconds.store(1_000_000_000, Ordering::Relaxed);
    tick::info().hundredths.store(25, Ordering::Relaxed);
    for (zone, seconds) in [(0, 1_000_000_000), (300, 1_000_018_000), (-60, 999_996_400), (-1, 1_000_000_000)]
    {
        tick::info().time_zone.store((zone as i16).cast_unsigned(), Ordering::Relaxed);
        assert_eq!(Os2.wall_clock_ns(), seconds * 1_000_000_000 + 250_000_000, "{zone}");
    }
    unload::<Calls>(kernel);
}

// ---- CPUs ----

unsafe extern "C" fn note_cpu(cpu_id: u32, context: *mut c_void) {
    unsafe { *context.cast::<u32>() += cpu_id + 1 };
}

#[test]
fn cross_calls_run_here_and_there_is_no_other_cpu() {
    let kernel = loaded::<Calls>();
    let mut calls = 0_u32;
    let context = (&raw mut calls).cast();
    unsafe {
        assert_eq!(Os2.mp_on_all(note_cpu, context), Ok(()));
        assert_eq!(Os2.mp_on_cpu(0, note_cpu, context), Ok(()));
        assert_eq!(Os2.mp_on_cpu(1, note_cpu, context), Err(VERR_CPU_NOT_FOUND));
    }
    assert_eq!((calls, Os2.mp_poke(0)), (2, Err(VERR_NOT_SUPPORTED)));
    unload::<Calls>(kernel);
}

#[test]
fn a_machine_with_several_cpus_does_not_virtualise() {
    let kernel = boot();
    let caps = || client::<Calls>(&root()).vt_caps();
    assert_eq!(kernel.load(), 0);
    let single = caps();
    assert_eq!(kernel.unload(), 0);
    fake::base::set_cpus(2);
    assert_eq!(kernel.load(), 0);
    assert_eq!(fake::shell::message(), "VBoxDrv.sys: ready, CPUs: 2\r\n");
    assert!(caps().is_err());
    assert_eq!(Os2.cpu_online_set().count(), 1);
    // On hosts of other vendors there is nothing to compare with.
    println!("with one CPU: {single:?}");
    if let Ok(single) = single {
        assert!(single.intersects(VtCaps::VT_X | VtCaps::AMD_V));
    }
    unload::<Calls>(kernel);
}

// ---- memory ----

#[test]
fn allocated_pages_are_zeroed_and_have_physical_addresses() {
    let kernel = loaded::<Calls>();
    let object = Os2.mem_alloc(AllocKind::Page, 3 * PAGE, READ_WRITE).expect("pages");
    assert_eq!(memory::last_flags(), 2, "fixed, and nothing else");
    let address = Os2.mem_address(&object);
    for index in 0..3 {
        let place = (address + index * PAGE) as *mut [u8; PAGE];
        assert!(unsafe { (*place).iter().all(|byte| *byte == 0) });
        unsafe { place.cast::<u32>().write(0x1234 + index as u32) };
        let phys = Os2.mem_page_phys(&object, index).expect("a frame");
        let mut bytes = [0; 4];
        machine().ram.read(phys, &mut bytes);
        assert_eq!(u32::from_le_bytes(bytes), 0x1234 + index as u32);
    }
    assert_eq!((Os2.mem_page_phys(&object, 3), Os2.mem_size(&object)), (None, 3 * PAGE));
    assert!(Os2.mem_free(object).is_ok());
    unload::<Calls>(kernel);
}

#[test]
fn contiguous_memory_is_contiguous_and_below_its_limit() {
    const CONTIG_FIXED: u32 = 8 | 2;
    let kernel = loaded::<Calls>();
    let object = Os2.mem_alloc(AllocKind::Contiguous, 4 * PAGE, READ_WRITE).expect("pages");
    let first = Os2.mem_page_phys(&object, 0).expect("a frame");
    for index in 1..4 {
        assert_eq!(Os2.mem_page_phys(&object, index), Some(first + (index * PAGE) as u64));
    }
    assert!(Os2.mem_free(object).is_ok());
    let object = Os2.mem_alloc_phys(2 * PAGE, u32::MAX.into(), PAGE).expect("pages");
    assert_eq!(memory::last_flags(), CONTIG_FIXED);
    assert!(Os2.mem_free(object).is_ok());
    // What isn't there below 16 MiB, and what the kernel can't be asked for.
    for limit in [(16 << 20) - 1, (16 << 20) + PAGE as u64 - 1] {
        let refused = Os2.mem_alloc_phys(2 * PAGE, limit, PAGE).err();
        assert_eq!(refused, Some(VERR_NO_PHYS_MEMORY));
    }
    for limit in [u64::from(u32::MAX), u64::MAX] {
        assert_eq!(Os2.mem_alloc_phys_nc(PAGE, limit).err(), Some(VERR_NOT_SUPPORTED));
    }
    unload::<Calls>(kernel);
}

#[test]
fn physical_memory_of_others_can_be_mapped_and_stays_theirs() {
    let kernel = loaded::<Calls>();
    let phys = machine().ram.alloc(3, u32::MAX.into(), PAGE as u64).expect("pages");
    machine().ram.write(phys + PAGE as u64, b"theirs");
    let object = Os2.mem_enter_phys(phys, 3 * PAGE, CachePolicy::Mmio).expect("an object");
    assert_eq!(Os2.mem_page_phys(&object, 2), Some(phys + 2 * PAGE as u64));
    assert_eq!(Os2.mem_page_phys(&object, 3), None);
    let mapping = Os2.mem_map_kernel(&object, PAGE, 2 * PAGE, READ_WRITE).expect("a mapping");
    assert_eq!(unsafe { (Os2.mem_address(&mapping) as *const [u8; 6]).read() }, *b"theirs");
    assert_eq!(Os2.mem_page_phys(&mapping, 0), Some(phys + PAGE as u64));
    assert!(Os2.mem_free(mapping).is_ok() && Os2.mem_free(object).is_ok());
    let beyond = Os2.mem_enter_phys(0xffff_f000, 2 * PAGE, CachePolicy::Default).err();
    assert_eq!(beyond, Some(VERR_ADDRESS_TOO_BIG));
    machine().ram.free(phys, 3);
    unload::<Calls>(kernel);
}

/// Pages of the test program that are never used again, since the machine gets to know them.
fn own_pages(count: usize) -> usize {
    first_page(Vec::leak(vec![0_u8; (count + 1) * PAGE]))
}

#[test]
fn locked_pages_of_a_process_are_told_page_by_page() {
    let kernel = loaded::<Calls>();
    let process = root();
    let address = own_pages(10);
    context::in_process(&process, || {
        let owner = Os2.process_handle();
        let object = Os2.mem_lock_user(address, 10 * PAGE, READ_WRITE, owner).expect("locked pages");
        for index in 0..10 {
            let expected = machine().ram.page_at(address + index * PAGE);
            assert!(expected.is_some() && Os2.mem_page_phys(&object, index) == expected);
        }
        assert_eq!(machine().ledger.count(memory::LOCKED_PAGES), 10);
        assert_eq!((Os2.mem_address(&object), Os2.mem_address_user(&object)), (0, address));
        assert_eq!(Os2.mem_map_kernel(&object, 0, PAGE, READ_WRITE).err(), Some(VERR_NOT_SUPPORTED));
        assert!(Os2.mem_free(object).is_ok());
        assert_eq!(machine().ledger.count(memory::LOCKED_PAGES), 0);
        let foreign = Os2.mem_lock_user(address, PAGE, READ_WRITE, owner + 1).err();
        assert_eq!(foreign, Some(VERR_NOT_SUPPORTED));
        let nowhere = Os2.mem_lock_user(PAGE, PAGE, MemProt::READ, owner).err();
        assert_eq!(nowhere, Some(VERR_LOCK_FAILED));
        let wraps = Os2.mem_lock_user(usize::MAX - PAGE + 1, 2 * PAGE, MemProt::READ, owner).err();
        assert_eq!(wraps, Some(VERR_LOCK_FAILED));
    });
    unload::<Calls>(kernel);
}

#[test]
fn a_range_that_is_fixed_anyway_counts_as_locked() {
    let kernel = loaded::<Calls>();
    let address = own_pages(2);
    memory::make_unlockable(address);
    let object = Os2.mem_lock_user(address, 2 * PAGE, READ_WRITE, Os2.process_handle()).expect("pages");
    assert_eq!(Os2.mem_page_phys(&object, 1), machine().ram.page_at(address + PAGE));
    assert_eq!(machine().ledger.count(memory::LOCKED_PAGES), 0);
    assert!(Os2.mem_free(object).is_ok());
    unload::<Calls>(kernel);
}

#[test]
fn a_mapping_is_taken_down_by_its_process_only() {
    let kernel = loaded::<Calls>();
    let (owner, other) = (root(), root());
    let pages = Os2.mem_alloc(AllocKind::Page, 2 * PAGE, READ_WRITE).expect("pages");
    let mapping = context::in_process(&owner, || {
        Os2.mem_map_user(&pages, READ_WRITE, Os2.process_handle()).expect("a mapping")
    });
    let refused = context::in_process(&other, || Os2.mem_free(mapping));
    let Err((mapping, _status)) = refused else { panic!("pages that a process still sees were freed") };
    assert_eq!(memory::mapping_count(&owner), 1);
    assert!(context::in_process(&owner, || Os2.mem_free(mapping)).is_ok());
    assert_eq!(memory::mapping_count(&owner), 0);
    assert!(Os2.mem_free(pages).is_ok());
    unload::<Calls>(kernel);
}

#[test]
fn a_mapping_without_write_access_cannot_be_written() {
    let kernel = loaded::<Calls>();
    let pages = Os2.mem_alloc(AllocKind::Page, PAGE, READ_WRITE).expect("pages");
    for (prot, writable) in [(MemProt::READ, false), (READ_WRITE, true)] {
        let mapping = Os2.mem_map_user(&pages, prot, Os2.process_handle()).expect("a mapping");
        let address = Os2.mem_address_user(&mapping);
        assert_eq!(fakekernel::user::has_access(address, true), writable);
        assert_eq!(Os2.user_copy_to(address, b"x").is_ok(), writable);
        assert_eq!(Os2.mem_protect(&mapping, 0, PAGE, prot), Err(VERR_NOT_SUPPORTED));
        assert!(Os2.mem_free(mapping).is_ok());
    }
    assert!(Os2.mem_free(pages).is_ok());
    unload::<Calls>(kernel);
}

// ---- heap ----

/// A generator of numbers that are the same each time.
struct Numbers(u32);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.0 >> 8) as usize % limit
    }
}

#[test]
fn the_heap_joins_what_comes_back_in_any_order() {
    let kernel = loaded::<Calls>();
    let (blocks_before, _) = supdrv_os2::heap_use();
    let mut numbers = Numbers(1);
    let mut blocks: Vec<(NonNull<u8>, Layout, u8)> = Vec::new();
    for number in 0..10_000_usize {
        let align = [1, 8, 16, 64][number % 4];
        let layout = Layout::from_size_align(1 + numbers.below(5000), align).expect("a layout");
        let block = Os2.heap_alloc_zeroed(layout).expect("a block");
        assert!((block.as_ptr() as usize).is_multiple_of(align.max(8)));
        let bytes = unsafe { core::slice::from_raw_parts_mut(block.as_ptr(), layout.size()) };
        assert!(bytes.iter().all(|byte| *byte == 0));
        bytes.fill(number as u8);
        blocks.push((block, layout, number as u8));
        // Some go before others come.
        if number % 3 == 2 {
            let (block, layout, mark) = blocks.swap_remove(numbers.below(blocks.len()));
            check_and_free(block, layout, mark);
        }
    }
    assert!(supdrv_os2::heap_use().1 > 10);
    while !blocks.is_empty() {
        let (block, layout, mark) = blocks.swap_remove(numbers.below(blocks.len()));
        check_and_free(block, layout, mark);
    }
    // The driver itself has all it needs in one chunk.
    assert_eq!(supdrv_os2::heap_use(), (blocks_before, 1));
    unload::<Calls>(kernel);
}

fn check_and_free(block: NonNull<u8>, layout: Layout, mark: u8) {
    unsafe {
        let bytes = core::slice::from_raw_parts(block.as_ptr(), layout.size());
        assert!(bytes.iter().all(|byte| *byte == mark), "somebody wrote over a block");
        Os2.heap_free(block, layout);
    }
}

#[test]
fn the_heap_refuses_what_cannot_be() {
    let kernel = loaded::<Calls>();
    let before = supdrv_os2::heap_use();
    for bytes in [u32::MAX as usize, (1 << 28) + 1, isize::MAX as usize - 63] {
        let layout = Layout::from_size_align(bytes, 64)
            .or_else(|_| Layout::from_size_align(isize::MAX as usize - 63, 64));
        assert_eq!(Os2.heap_alloc_zeroed(layout.expect("a layout")), None);
    }
    // Without the kernel, what is left of a chunk is all there is.
    let layout = Layout::from_size_align(1 << 20, 8).expect("a layout");
    let interrupted = context::in_interrupt(0, || Os2.heap_alloc_any_context(layout));
    assert!(interrupted.is_err());
    let small = Layout::from_size_align(100, 8).expect("a layout");
    context::in_interrupt(0, || {
        let block = Os2.heap_alloc_any_context(small).expect("a small block");
        unsafe { Os2.heap_free_any_context(block, small) };
    });
    assert_eq!(supdrv_os2::heap_use(), before);
    unload::<Calls>(kernel);
}

// ---- threads, processes, the rest ----

#[test]
fn a_sleep_takes_its_time_unless_the_process_is_killed() {
    let kernel = loaded::<Calls>();
    let sleep: unsafe extern "C" fn(u32) -> i32 = function(b"RTThreadSleep");
    let started = Instant::now();
    assert_eq!(unsafe { sleep(100) }, 0);
    assert!(started.elapsed() >= Duration::from_millis(96));
    let process = root();
    let status = std::thread::scope(|scope| {
        let sleeper = scope.spawn(|| context::in_process(&process, || unsafe { sleep(60_000) }));
        until(|| sleepers() == 1);
        process.signal();
        sleeper.join().expect("the sleeper")
    });
    assert_eq!(status, VERR_INTERRUPTED.0);
    unload::<Calls>(kernel);
}

#[test]
fn processes_and_threads_have_handles_of_their_own() {
    let kernel = loaded::<Calls>();
    let handles = |process: &std::sync::Arc<Process>| {
        context::in_process(process, || (Os2.process_handle(), Os2.thread_handle()))
    };
    let (first, second) = (root(), root());
    let ((p1, t1), (p2, t2)) = (handles(&first), handles(&second));
    assert!(p1 == first.pid as usize && p2 == second.pid as usize && p1 != p2 && t1 != t2);
    let elsewhere = std::thread::scope(|scope| scope.spawn(|| handles(&first)).join().expect("a thread"));
    assert!(elsewhere.0 == p1 && elsewhere.1 != t1);
    unload::<Calls>(kernel);
}

#[test]
fn the_cpu_is_given_up_only_if_somebody_waits_for_it() {
    let kernel = loaded::<Calls>();
    let before = devhlp::yields();
    Os2.sleep_ms(0);
    assert_eq!((devhlp::yields(), Os2.preempt_is_pending()), (before, false));
    fake::base::set_yield_flag(1);
    Os2.sleep_ms(0);
    assert_eq!((devhlp::yields(), Os2.preempt_is_pending()), (before + 1, true));
    assert!(Os2.preempt_is_pending_trusty() && !Os2.preempt_is_possible());
    fake::base::set_yield_flag(0);
    unload::<Calls>(kernel);
}

#[test]
fn preemption_is_on_when_everybody_has_given_it_back() {
    let kernel = loaded::<Calls>();
    assert!(Os2.preempt_is_enabled());
    let outer = Os2.preempt_disable();
    let inner = Os2.preempt_disable();
    let mut seen = vec![Os2.preempt_is_enabled()];
    for state in [inner, outer] {
        unsafe { Os2.preempt_restore(state) };
        seen.push(Os2.preempt_is_enabled());
    }
    assert_eq!(seen, [false, false, true]);
    set_interrupts(false);
    assert!(!Os2.preempt_is_enabled());
    set_interrupts(true);
    assert!(!Os2.is_in_interrupt() && context::in_interrupt(0, || Os2.is_in_interrupt()));
    unload::<Calls>(kernel);
}

#[test]
fn an_assertion_stops_the_machine_with_a_message() {
    let kernel = loaded::<Calls>();
    Os2.panic_system();
    assert_eq!(devhlp::last_words(), "supdrv: assertion of a module");
    unload::<Calls>(kernel);
}
