//! The services of the kernel extension on a fake kernel: what modules and the core get from the system.
#![cfg(target_os = "linux")]

mod fake;

use core::ffi::c_void;
use std::alloc::Layout;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use fakekernel::context::{self, in_process};
use fakekernel::ram::PAGE;
use fakekernel::suite::{client, loaded, root, unload};
use fakekernel::user;
use supdrv_core::abi::status::{
    Result, VERR_CPU_NOT_FOUND, VERR_INTERRUPTED, VERR_INVALID_PARAMETER, VERR_LOCK_FAILED,
    VERR_NO_CONT_MEMORY, VERR_NO_LOW_MEMORY, VERR_NO_PHYS_MEMORY, VERR_NOT_SUPPORTED, VERR_TIMEOUT,
    VERR_TIMER_ACTIVE, VERR_TIMER_SUSPENDED, VERR_UNRESOLVED_ERROR, VERR_VMX_IN_VMX_ROOT_MODE,
    VERR_VMX_NO_VMX,
};
use supdrv_core::os::{
    AllocKind, CachePolicy, EventKind, LockClass, MemProt, OsArch, OsCpu, OsEvent, OsHeap, OsHwVirt,
    OsIdentity, OsImage, OsLock, OsLog, OsMemory, OsModule, OsTime, OsTimer, ThreadPriority, Timeout,
    TimerSpec, TimerTarget, WaitMode,
};
use supdrv_darwin::Darwin;

use fake::shim::Calls;
use fake::{CPUS, Kernel, devices, machine};

const RW: MemProt = MemProt::READ.union(MemProt::WRITE);

// Modules find these by name.
unsafe extern "C" {
    fn RTPowerNotificationRegister(
        callback: unsafe extern "C" fn(u32, *mut c_void),
        user: *mut c_void,
    ) -> i32;
    fn RTPowerNotificationDeregister(
        callback: unsafe extern "C" fn(u32, *mut c_void),
        user: *mut c_void,
    ) -> i32;
}

fn wait_until(what: impl Fn() -> bool) {
    while !what() {
        std::thread::sleep(Duration::from_millis(1));
    }
}

// ---- sleep and wake-up ----

const WILL_SLEEP: u32 = 0xe000_0280;
const WILL_POWER_ON: u32 = 0xe000_0320;
const HAS_POWERED_ON: u32 = 0xe000_0300;
const UNSUPPORTED: u32 = 0xe000_02c7;

/// Suspends in the lower half, resumes in the upper one.
unsafe extern "C" fn count_power(event: u32, count: *mut c_void) {
    let add = match event {
        1 => 1,
        2 => 1 << 32,
        other => panic!("event {other}"),
    };
    // SAFETY: the test's own.
    unsafe { &*count.cast::<AtomicU64>() }.fetch_add(add, Ordering::Relaxed);
}

#[test]
fn modules_know_of_sleep_before_the_machine_sleeps_and_of_nothing_else_but_the_wake_up() {
    let kernel = loaded::<Calls>();
    let client = client::<Calls>(&root());
    client.gip_map().expect("the time page");
    let counts = [AtomicU64::new(0), AtomicU64::new(0)];
    let all = || counts.each_ref().map(|count| count.load(Ordering::Relaxed));
    let user = |index: usize| (&raw const counts[index]).cast_mut().cast();
    for index in [0, 1] {
        // SAFETY: removed below.
        assert_eq!(unsafe { RTPowerNotificationRegister(count_power, user(index)) }, 0);
    }
    // Handled synchronously: the machine needn't wait.
    assert_eq!(devices::notify(WILL_SLEEP), (0, 0));
    assert_eq!(all(), [1, 1]);
    assert_eq!(devices::notify(WILL_POWER_ON).0, UNSUPPORTED);
    assert_eq!(all(), [1, 1]);
    assert_eq!(devices::notify(HAS_POWERED_ON), (0, 0));
    assert_eq!(all(), [1 << 32 | 1, 1 << 32 | 1]);
    assert_eq!(devices::notify(0xe000_0270).0, UNSUPPORTED);
    for index in [0, 1] {
        // SAFETY: as above.
        assert_eq!(unsafe { RTPowerNotificationDeregister(count_power, user(index)) }, 0);
    }
    drop(client);
    unload::<Calls>(kernel);
}

// ---- VT-x ----

#[test]
fn vt_x_is_the_kernels_and_shared() {
    let kernel = loaded::<Calls>();
    for (answer, status) in [
        (1, VERR_VMX_NO_VMX),
        (2, VERR_VMX_IN_VMX_ROOT_MODE),
        (3, VERR_UNRESOLVED_ERROR),
        (-1, VERR_UNRESOLVED_ERROR),
    ] {
        kernel.set(|settings| settings.vmxon = answer);
        assert_eq!(Darwin.enable_vtx(true), Err(status));
    }
    kernel.set(|settings| settings.vmxon = 0);
    assert_eq!((Darwin.enable_vtx(true), Darwin.enable_vtx(true)), (Ok(()), Ok(())));
    assert_eq!(machine().ledger.count("users of VT-x"), 2);
    assert_eq!((Darwin.enable_vtx(false), Darwin.enable_vtx(false)), (Ok(()), Ok(())));
    // Raw mode isn't for this system.
    assert!(!Darwin.suspend_vtx_on_cpu());
    unload::<Calls>(kernel);
}

// ---- CPUs ----

/// Sets the bit of its CPU, and checks where it is.
unsafe extern "C" fn note_cpu(cpu_id: u32, seen: *mut c_void) {
    assert!(context::are_irqs_off() && cpu_id == Darwin.cpu_id());
    // SAFETY: the test's own.
    let before = unsafe { &*seen.cast::<AtomicU64>() }.fetch_add(1 << (8 * cpu_id), Ordering::Relaxed);
    assert_eq!(before >> (8 * cpu_id) & 0xff, 0, "once");
}

#[test]
fn a_call_for_all_cpus_runs_once_on_each_with_interrupts_off() {
    let kernel = loaded::<Calls>();
    let seen = AtomicU64::new(0);
    // SAFETY: the worker runs until this returns.
    let called = unsafe { Darwin.mp_on_all(note_cpu, (&raw const seen).cast_mut().cast()) };
    assert_eq!((called, seen.load(Ordering::Relaxed)), (Ok(()), 0x0101_0101));
    unload::<Calls>(kernel);
}

#[test]
fn a_call_for_one_cpu_runs_there_and_nowhere_else() {
    let kernel = loaded::<Calls>();
    // Whichever CPU the thread happens to be on, one of them is that.
    for cpu_id in 0..CPUS {
        let seen = AtomicU64::new(0);
        // SAFETY: the worker runs until this returns.
        let called = unsafe { Darwin.mp_on_cpu(cpu_id, note_cpu, (&raw const seen).cast_mut().cast()) };
        assert_eq!((called, seen.load(Ordering::Relaxed)), (Ok(()), 1 << (8 * cpu_id)));
    }
    for cpu_id in [CPUS, 99, u32::MAX] {
        let seen = AtomicU64::new(0);
        // SAFETY: as above.
        let called = unsafe { Darwin.mp_on_cpu(cpu_id, note_cpu, (&raw const seen).cast_mut().cast()) };
        assert_eq!((called, seen.load(Ordering::Relaxed)), (Err(VERR_CPU_NOT_FOUND), 0));
    }
    assert_eq!(Darwin.mp_poke(0), Err(VERR_NOT_SUPPORTED));
    unload::<Calls>(kernel);
}

#[test]
fn all_cpus_are_there_and_stay_there() {
    let kernel = loaded::<Calls>();
    let set = Darwin.cpu_online_set();
    assert!(set.iter().eq(0..CPUS as usize));
    assert_eq!(set, Darwin.cpu_possible_set());
    assert_eq!((Darwin.cpu_max_id(), Darwin.cpu_present_count()), (CPUS - 1, CPUS as usize));
    unload::<Calls>(kernel);
}

#[test]
fn pinning_nests_and_leaves_interrupts_as_they_are() {
    let kernel = loaded::<Calls>();
    assert!(Darwin.preempt_is_enabled());
    let outer = Darwin.preempt_disable();
    let cpu = Darwin.cpu_id();
    assert!(!Darwin.preempt_is_enabled() && !context::are_irqs_off());
    let inner = Darwin.preempt_disable();
    let flags = Darwin.irq_save();
    assert!(context::are_irqs_off());
    // SAFETY: what was disabled above, the other way round.
    unsafe {
        Darwin.irq_restore(flags);
        Darwin.preempt_restore(inner);
    }
    assert!(!Darwin.preempt_is_enabled() && !context::are_irqs_off());
    assert_eq!(Darwin.cpu_id(), cpu);
    // SAFETY: as above.
    unsafe { Darwin.preempt_restore(outer) };
    assert!(Darwin.preempt_is_enabled());
    unload::<Calls>(kernel);
}

#[test]
fn many_threads_pin_themselves_at_once() {
    let kernel = loaded::<Calls>();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..500 {
                    let state = Darwin.preempt_disable();
                    let cpu = Darwin.cpu_id();
                    std::thread::yield_now();
                    assert_eq!(cpu, Darwin.cpu_id());
                    // SAFETY: disabled above.
                    unsafe { Darwin.preempt_restore(state) };
                }
            });
        }
    });
    unload::<Calls>(kernel);
}

// ---- locks, heap, log ----

#[test]
fn a_spin_lock_of_the_second_kind_gives_the_interrupts_back_as_they_were() {
    let kernel = loaded::<Calls>();
    let lock = Darwin.spinlock_create(LockClass::ModuleIrqSpin).expect("a lock");
    let flags = Darwin.irq_save();
    let state = Darwin.spinlock_acquire_irq(&lock);
    // SAFETY: acquired above.
    unsafe { Darwin.spinlock_release_irq(&lock, state) };
    assert!(context::are_irqs_off(), "they were off before");
    // SAFETY: saved above.
    unsafe { Darwin.irq_restore(flags) };
    let state = Darwin.spinlock_acquire_irq(&lock);
    assert!(context::are_irqs_off());
    // SAFETY: acquired above.
    unsafe { Darwin.spinlock_release_irq(&lock, state) };
    assert!(!context::are_irqs_off());
    drop(lock);
    unload::<Calls>(kernel);
}

#[test]
fn heap_blocks_are_zero_aligned_and_bounded() {
    let kernel = loaded::<Calls>();
    for (bytes, align) in [(1, 1), (24, 8), (40, 16), (100, 64), (5000, 64), (8 << 20, 8)] {
        let layout = Layout::from_size_align(bytes, align).expect("a layout");
        let block = Darwin.heap_alloc_zeroed(layout).expect("memory");
        // SAFETY: just allocated.
        let content = unsafe { core::slice::from_raw_parts(block.as_ptr(), bytes) };
        assert!(content.iter().all(|byte| *byte == 0) && (block.as_ptr() as usize).is_multiple_of(align));
        // SAFETY: allocated above with this layout.
        unsafe { Darwin.heap_free(block, layout) };
    }
    // The kernel would panic.
    let huge = Layout::from_size_align(1 << 40, 8).expect("a layout");
    assert!(Darwin.heap_alloc_zeroed(huge).is_none());
    let small = Layout::new::<u64>();
    assert_eq!(Darwin.heap_alloc_any_context(small).err(), Some(VERR_NOT_SUPPORTED));
    unload::<Calls>(kernel);
}

#[test]
fn lines_of_the_log_come_out_whole_but_not_where_output_cannot_be_had() {
    let kernel = loaded::<Calls>();
    Darwin.log_write(b"first");
    Darwin.log_write(b"second %s\n");
    let state = Darwin.preempt_disable();
    Darwin.log_write(b"third");
    // SAFETY: disabled above.
    unsafe { Darwin.preempt_restore(state) };
    assert_eq!(kernel.log_text(), "first\nsecond %s\n");
    unload::<Calls>(kernel);
}

// ---- events ----

#[test]
fn an_event_is_signalled_with_interrupts_off() {
    let kernel = loaded::<Calls>();
    for kind in [EventKind::SingleRelease, EventKind::MultiRelease] {
        let event = Darwin.event_create(kind).expect("an event");
        std::thread::scope(|scope| {
            let waiter =
                scope.spawn(|| Darwin.event_wait(&event, Timeout::Forever, WaitMode::Uninterruptible));
            wait_until(|| machine().ledger.count("sleepers") != 0);
            let flags = Darwin.irq_save();
            Darwin.event_signal(&event);
            // SAFETY: saved above.
            unsafe { Darwin.irq_restore(flags) };
            assert_eq!(waiter.join().expect("the waiter"), Ok(()));
        });
    }
    unload::<Calls>(kernel);
}

#[test]
fn a_signal_that_races_with_a_timeout_is_taken_or_kept_but_never_lost() {
    let kernel = loaded::<Calls>();
    let event = Darwin.event_create(EventKind::SingleRelease).expect("an event");
    let mut timeouts = 0;
    for _ in 0..1000 {
        std::thread::scope(|scope| {
            let waiter =
                scope.spawn(|| Darwin.event_wait(&event, Timeout::RelativeNs(1000), WaitMode::Interruptible));
            Darwin.event_signal(&event);
            match waiter.join().expect("the waiter") {
                Ok(()) => {}
                Err(status) => {
                    assert_eq!(status, VERR_TIMEOUT);
                    timeouts += 1;
                    assert_eq!(poll(&event), Ok(()), "it is still there");
                }
            }
        });
        assert_eq!(poll(&event), Err(VERR_TIMEOUT), "it was taken once");
    }
    println!("{timeouts} of 1000 timed out");
    drop(event);
    unload::<Calls>(kernel);
}

fn poll(event: &<Darwin as OsEvent>::Event) -> Result<()> {
    Darwin.event_wait(event, Timeout::RelativeNs(0), WaitMode::Interruptible)
}

#[test]
fn waits_end_with_their_process_or_their_deadline_and_resolution_is_never_0() {
    let kernel = loaded::<Calls>();
    let event = Darwin.event_create(EventKind::SingleRelease).expect("an event");
    assert_eq!(
        Darwin.event_wait(&event, Timeout::DeadlineNs(1), WaitMode::Interruptible),
        Err(VERR_TIMEOUT),
        "long ago"
    );
    let before = Darwin.system_nano_ts();
    let soon = Timeout::RelativeNs(3_000_000);
    assert_eq!(Darwin.event_wait(&event, soon, WaitMode::Uninterruptible), Err(VERR_TIMEOUT));
    assert!(Darwin.system_nano_ts() - before >= 3_000_000);
    let process = root();
    process.signal();
    in_process(&process, || {
        assert_eq!(
            Darwin.event_wait(&event, Timeout::Forever, WaitMode::Interruptible),
            Err(VERR_INTERRUPTED)
        );
        assert_eq!(Darwin.event_wait(&event, soon, WaitMode::Uninterruptible), Err(VERR_TIMEOUT));
        assert_eq!(Darwin.sleep_interruptible_ms(60_000), Err(VERR_INTERRUPTED));
    });
    assert_eq!(Darwin.sleep_interruptible_ms(1), Ok(()));
    // The kernel's unit is a third of a nanosecond here.
    assert_eq!(Darwin.event_resolution_ns(), 1);
    drop(event);
    unload::<Calls>(kernel);
}

// ---- timers ----

/// What a callback does and sees.
#[derive(Default)]
struct Ticks {
    count: AtomicU64,
    last: AtomicU64,
    inside: AtomicBool,
    /// How long it takes, in milliseconds.
    slow_ms: AtomicU64,
    /// A timer that it destroys, or starts again.
    destroys: AtomicUsize,
    restarts: AtomicUsize,
}

type Timer = <Darwin as OsTimer>::Timer;

unsafe extern "C" fn tick(_timer: *mut c_void, ticks: *mut c_void, tick: u64) {
    // SAFETY: the test's own.
    let ticks = unsafe { &*ticks.cast::<Ticks>() };
    assert!(!ticks.inside.swap(true, Ordering::AcqRel), "callbacks overlap");
    std::thread::sleep(Duration::from_millis(ticks.slow_ms.load(Ordering::Relaxed)));
    ticks.last.store(tick, Ordering::Relaxed);
    let timer = ticks.restarts.swap(0, Ordering::Relaxed);
    if timer != 0 {
        // SAFETY: the test has put it there.
        assert_eq!(Darwin.timer_start(unsafe { &*(timer as *const Timer) }, 0), Ok(()));
    }
    ticks.inside.store(false, Ordering::Release);
    let timer = ticks.destroys.swap(0, Ordering::Relaxed);
    if timer != 0 {
        // SAFETY: the test has put it there, and given it away.
        drop(unsafe { Box::from_raw(timer as *mut Timer) });
    }
    ticks.count.fetch_add(1, Ordering::Release);
}

fn timer(ticks: &Ticks, interval_ns: u64) -> Timer {
    let context = core::ptr::from_ref(ticks).cast_mut().cast();
    let spec = TimerSpec { interval_ns, target: TimerTarget::Any, callback: tick, context };
    Darwin.timer_create(&spec).expect("a timer")
}

fn counted(ticks: &Ticks) -> u64 {
    ticks.count.load(Ordering::Acquire)
}

#[test]
fn a_timer_ticks_until_it_is_stopped_and_counts_anew_when_it_is_started_again() {
    let kernel = loaded::<Calls>();
    let ticks = Ticks::default();
    let timer = timer(&ticks, 1_000_000);
    for _ in 0..3 {
        assert_eq!(Darwin.timer_start(&timer, 0), Ok(()));
        assert_eq!(Darwin.timer_start(&timer, 0), Err(VERR_TIMER_ACTIVE));
        let before = counted(&ticks);
        wait_until(|| counted(&ticks) >= before + 5);
        assert_eq!(Darwin.timer_stop(&timer), Ok(()));
        assert_eq!(Darwin.timer_stop(&timer), Err(VERR_TIMER_SUSPENDED));
        let last = ticks.last.load(Ordering::Relaxed);
        assert!((5..=counted(&ticks) - before + 1).contains(&last), "{last}");
    }
    drop(timer);
    let after = counted(&ticks);
    std::thread::sleep(Duration::from_millis(5));
    assert_eq!(counted(&ticks), after);
    unload::<Calls>(kernel);
}

#[test]
fn callbacks_never_overlap_whoever_starts_and_stops_the_timer_meanwhile() {
    let kernel = loaded::<Calls>();
    let ticks = Ticks::default();
    ticks.slow_ms.store(1, Ordering::Relaxed);
    let timer = timer(&ticks, 100_000);
    for round in 0..300 {
        let _running_or_not = Darwin.timer_start(&timer, 0);
        std::thread::sleep(Duration::from_micros(round * 10));
        let _running_or_not = Darwin.timer_stop(&timer);
    }
    drop(timer);
    assert!(!ticks.inside.load(Ordering::Acquire) && counted(&ticks) != 0);
    unload::<Calls>(kernel);
}

#[test]
fn the_end_of_a_timer_waits_for_its_callback() {
    let kernel = loaded::<Calls>();
    let ticks = Ticks::default();
    ticks.slow_ms.store(20, Ordering::Relaxed);
    let timer = timer(&ticks, 0);
    assert_eq!(Darwin.timer_start(&timer, 0), Ok(()));
    wait_until(|| ticks.inside.load(Ordering::Acquire));
    drop(timer);
    assert!(!ticks.inside.load(Ordering::Acquire) && counted(&ticks) == 1);
    unload::<Calls>(kernel);
}

#[test]
fn a_one_shot_fires_once_and_may_start_itself_again() {
    let kernel = loaded::<Calls>();
    let ticks = Ticks::default();
    let timer = timer(&ticks, 0);
    ticks.restarts.store(&raw const timer as usize, Ordering::Relaxed);
    assert_eq!(Darwin.timer_start(&timer, 1_000_000), Ok(()));
    wait_until(|| counted(&ticks) == 2);
    std::thread::sleep(Duration::from_millis(3));
    assert_eq!((counted(&ticks), Darwin.timer_stop(&timer)), (2, Err(VERR_TIMER_SUSPENDED)));
    drop(timer);
    unload::<Calls>(kernel);
}

#[test]
fn a_timer_may_be_destroyed_by_its_own_callback() {
    let kernel = loaded::<Calls>();
    for interval_ns in [0, 100_000] {
        let ticks = Ticks::default();
        let timer = Box::leak(Box::new(timer(&ticks, interval_ns)));
        ticks.destroys.store(&raw const *timer as usize, Ordering::Relaxed);
        assert_eq!(Darwin.timer_start(timer, 0), Ok(()));
        // The time page has one, too.
        wait_until(|| counted(&ticks) == 1 && machine().ledger.count("thread calls") <= 1);
    }
    unload::<Calls>(kernel);
}

#[test]
fn timers_of_certain_cpus_cannot_be_had() {
    let kernel = loaded::<Calls>();
    for target in [TimerTarget::Cpu(0), TimerTarget::All] {
        let spec = TimerSpec { interval_ns: 1, target, callback: tick, context: core::ptr::null_mut() };
        assert_eq!(Darwin.timer_create(&spec).err(), Some(VERR_NOT_SUPPORTED));
    }
    assert_eq!(Darwin.timer_request_granularity(1), Err(VERR_NOT_SUPPORTED));
    unload::<Calls>(kernel);
}

// ---- memory ----

fn phys(object: &<Darwin as OsMemory>::MemObj) -> Vec<u64> {
    (0..).map_while(|index| Darwin.mem_page_phys(object, index)).collect()
}

fn is_consecutive(pages: &[u64]) -> bool {
    pages.windows(2).all(|pair| pair[1] == pair[0] + PAGE as u64)
}

#[test]
fn low_and_contiguous_memory_is_where_it_is_asked_for_on_kernels_that_align_and_that_do_not() {
    let kernel = loaded::<Calls>();
    for unaligned in [false, true] {
        kernel.set(|settings| settings.unaligned = unaligned);
        let low = Darwin.mem_alloc(AllocKind::Low, 64 * PAGE, RW).expect("low memory");
        assert!(phys(&low).iter().all(|page| *page <= 0xffff_f000));
        let contiguous = Darwin.mem_alloc(AllocKind::Contiguous, 255 * PAGE, RW);
        if unaligned {
            // What begins inside of a page isn't made of pages.
            continue;
        }
        let contiguous = contiguous.expect("contiguous memory");
        assert!(is_consecutive(&phys(&contiguous)) && phys(&contiguous).len() == 255);
        assert!(phys(&contiguous).iter().all(|page| *page <= 0xffff_f000));
    }
    unload::<Calls>(kernel);
}

#[test]
fn memory_of_a_kernel_that_does_not_align_it_begins_with_a_page_wherever_it_is_mapped() {
    let kernel = loaded::<Calls>();
    kernel.set(|settings| settings.unaligned = true);
    let block = Darwin.mem_alloc(AllocKind::Page, 3 * PAGE, RW).expect("memory");
    let address = Darwin.mem_address(&block);
    assert!(address.is_multiple_of(PAGE) && phys(&block).len() == 3);
    for page in 0..3 {
        // SAFETY: memory of the object.
        unsafe { ((address + page * PAGE) as *mut u8).write(page as u8 + 1) };
    }
    let part = Darwin.mem_map_kernel(&block, PAGE, PAGE, RW).expect("a part");
    // SAFETY: as above.
    assert_eq!(unsafe { (Darwin.mem_address(&part) as *const u8).read() }, 2);
    let mut byte = [0];
    machine().ram.read(phys(&block)[1], &mut byte);
    assert_eq!((byte, phys(&part)), ([2], vec![phys(&block)[1]]));
    drop((part, block));
    unload::<Calls>(kernel);
}

#[test]
fn contiguous_memory_that_is_not_is_given_back() {
    let kernel = loaded::<Calls>();
    kernel.set(|settings| settings.scattered = true);
    let got = Darwin.mem_alloc(AllocKind::Contiguous, 4 * PAGE, RW);
    assert_eq!(got.err(), Some(VERR_NO_CONT_MEMORY));
    kernel.set(|settings| settings.scattered = false);
    unload::<Calls>(kernel);
}

#[test]
fn memory_below_a_limit_ends_there_and_is_aligned() {
    let kernel = loaded::<Calls>();
    for (highest, align) in
        [(u64::MAX, PAGE), (0xffff_ffff, 1 << 20), (0x0800_0000, PAGE), (0x07ff_ffff, 1 << 16)]
    {
        let block = Darwin.mem_alloc_phys(16 * PAGE, highest, align).expect("memory");
        let pages = phys(&block);
        assert!(is_consecutive(&pages) && pages[0].is_multiple_of(align as u64), "{highest:#x}, {align:#x}");
        assert!(pages[15] + PAGE as u64 - 1 <= highest);
    }
    // There is no memory there.
    assert_eq!(Darwin.mem_alloc_phys(PAGE, 0xf_ffff, PAGE).err(), Some(VERR_NO_PHYS_MEMORY));
    // Nor any that the kernel doesn't map.
    assert_eq!(Darwin.mem_alloc(AllocKind::Unmapped, PAGE, RW).err(), Some(VERR_NOT_SUPPORTED));
    assert_eq!(Darwin.mem_alloc_phys_nc(PAGE, u64::MAX).err(), Some(VERR_NOT_SUPPORTED));
    unload::<Calls>(kernel);
}

#[test]
fn the_time_page_cannot_be_written_by_processes() {
    let kernel = loaded::<Calls>();
    let client = client::<Calls>(&root());
    let gip = client.gip_map().expect("the time page");
    assert!(user::has_access(gip.r3, false) && !user::has_access(gip.r3, true));
    drop(client);
    unload::<Calls>(kernel);
}

#[test]
fn pages_that_are_not_there_or_not_writable_cannot_be_locked() {
    let kernel = loaded::<Calls>();
    let process = root();
    let client = client::<Calls>(&process);
    let gip = client.gip_map().expect("the time page");
    in_process(&process, || {
        let me = Darwin.process_handle();
        let lock = |address, access| Darwin.mem_lock_user(address, PAGE, access, me).err();
        assert_eq!(lock(0x1000, MemProt::READ), Some(VERR_LOCK_FAILED));
        assert_eq!(lock(gip.r3, RW), Some(VERR_LOCK_FAILED));
        assert_eq!(lock(gip.r3, MemProt::READ), None);
        assert_eq!(Darwin.mem_lock_user(gip.r3, PAGE, MemProt::READ, me + 1).err(), Some(VERR_NOT_SUPPORTED));
    });
    drop(client);
    unload::<Calls>(kernel);
}

#[test]
fn a_thousand_rounds_of_memory_leave_the_accounts_as_they_were() {
    let kernel = loaded::<Calls>();
    let process = root();
    let before = kernel.leftovers();
    in_process(&process, || {
        for _ in 0..1000 {
            let block = Darwin.mem_alloc(AllocKind::Page, 2 * PAGE, RW).expect("memory");
            let mapping =
                Darwin.mem_map_user(&block, MemProt::READ, Darwin.process_handle()).expect("a mapping");
            assert!(!user::has_access(Darwin.mem_address_user(&mapping), true));
            // The mapping has the pages, whoever frees what first.
            assert!(Darwin.mem_free(block).is_ok() && Darwin.mem_free(mapping).is_ok());
        }
    });
    assert_eq!(kernel.leftovers(), before);
    unload::<Calls>(kernel);
}

#[test]
fn pages_outlive_their_object_as_long_as_they_are_mapped() {
    let kernel = loaded::<Calls>();
    let process = root();
    in_process(&process, || {
        let block = Darwin.mem_alloc(AllocKind::Page, PAGE, RW).expect("memory");
        let mapping = Darwin.mem_map_user(&block, RW, Darwin.process_handle()).expect("a mapping");
        assert!(Darwin.mem_free(block).is_ok());
        // SAFETY: the mapping is there, which is what is tested.
        unsafe { (Darwin.mem_address_user(&mapping) as *mut u8).write(1) };
        drop(mapping);
    });
    unload::<Calls>(kernel);
}

#[test]
fn mappings_are_protected_and_touched_again() {
    let kernel = loaded::<Calls>();
    let block = Darwin.mem_alloc(AllocKind::Page, 3 * PAGE, RW).expect("memory");
    let address = Darwin.mem_address(&block);
    assert_eq!(Darwin.mem_protect(&block, PAGE, PAGE, MemProt::READ), Ok(()));
    let writable = |page: usize| user::has_access(address + page * PAGE, true);
    assert_eq!([0, 1, 2].map(writable), [true, false, true]);
    assert_eq!(Darwin.mem_protect(&block, PAGE, PAGE, RW), Ok(()));
    assert!(writable(1));
    drop(block);
    unload::<Calls>(kernel);
}

#[test]
fn memory_that_exists_already_is_mapped_where_it_is() {
    let kernel = loaded::<Calls>();
    let page = machine().ram.alloc(1, u64::MAX, PAGE as u64).expect("a page");
    machine().ram.write(page, b"registers");
    for cache in [CachePolicy::Default, CachePolicy::Mmio] {
        let object = Darwin.mem_enter_phys(page, PAGE, cache).expect("an object");
        assert_eq!((phys(&object), Darwin.mem_address(&object)), (vec![page], 0));
        let mapping = Darwin.mem_map_kernel(&object, 0, PAGE, RW).expect("a mapping");
        // SAFETY: mapped.
        let content = unsafe { core::slice::from_raw_parts(Darwin.mem_address(&mapping) as *const u8, 9) };
        assert_eq!(content, b"registers");
    }
    machine().ram.free(page, 1);
    unload::<Calls>(kernel);
}

#[test]
fn image_memory_is_made_by_a_thread_of_the_kernel_and_nothing_is_left_in_it() {
    let kernel = loaded::<Calls>();
    let process = root();
    in_process(&process, || {
        let before = kernel.leftovers();
        let memory = Darwin.exec_alloc(PAGE + 1).expect("memory");
        let base = Darwin.exec_base(&memory);
        // mov eax, 42; ret
        let code = [0xb8, 42, 0, 0, 0, 0xc3];
        assert_eq!(Darwin.exec_load(&memory, &[0x90; 2 * PAGE + 1]), Err(VERR_INVALID_PARAMETER));
        assert_eq!(Darwin.exec_load(&memory, &code), Ok(()));
        // SAFETY: the code above.
        let run: unsafe extern "C" fn() -> i32 = unsafe { core::mem::transmute(base) };
        // SAFETY: as above.
        assert_eq!(unsafe { run() }, 42);
        let page = machine().ram.page_at(base.as_ptr() as usize).expect("a page");
        drop(memory);
        let mut content = [1; 6];
        machine().ram.read(page, &mut content);
        assert_eq!(content, [0; 6]);
        assert_eq!(kernel.leftovers(), before);
    });
    unload::<Calls>(kernel);
}

#[test]
fn executable_memory_of_modules_can_be_had_and_its_failure_leaves_nothing() {
    let kernel = loaded::<Calls>();
    let before = kernel.leftovers();
    let block = Darwin.mem_alloc(AllocKind::Page, PAGE, MemProt::all()).expect("memory");
    drop(block);
    for call in ["kernel_thread_start", "inTaskWithPhysicalMask", "vm_protect"] {
        // The second attempt is for kernels that don't align.
        machine().faults.fail_nth_of(call, 1);
        let got = Darwin.mem_alloc(AllocKind::Low, PAGE, MemProt::all());
        assert!(machine().faults.stop().is_some(), "{call}");
        assert!(got.map_or_else(|status| status == VERR_NO_LOW_MEMORY, |_block| true), "{call}");
        assert_eq!(kernel.leftovers(), before, "{call}");
    }
    unload::<Calls>(kernel);
}

// ---- threads ----

unsafe extern "C" fn raise(flag: *mut c_void) {
    // SAFETY: the test's own.
    unsafe { &*flag.cast::<AtomicBool>() }.store(true, Ordering::Release);
}

#[test]
fn a_thread_of_a_module_runs_at_any_priority_and_is_waited_for() {
    let kernel = loaded::<Calls>();
    for priority in [ThreadPriority::InfrequentPoller, ThreadPriority::Default, ThreadPriority::Timer] {
        let ran = AtomicBool::new(false);
        // SAFETY: waited for below.
        let started =
            unsafe { Darwin.thread_spawn(raise, (&raw const ran).cast_mut().cast(), priority, c"test") };
        assert_eq!(started, Ok(()));
        wait_until(|| ran.load(Ordering::Acquire));
    }
    wait_for_end(&kernel);
    unload::<Calls>(kernel);
}

fn wait_for_end(kernel: &Kernel) {
    let _settled = kernel.leftovers();
    assert_eq!(machine().ledger.count("kernel threads"), 0);
    assert_eq!(machine().ledger.count("thread references"), 0);
}

#[test]
fn clocks_agree_with_those_of_the_host() {
    let kernel = loaded::<Calls>();
    let (before, now, after) =
        (fakekernel::ticker::now_ns(), Darwin.system_nano_ts(), fakekernel::ticker::now_ns());
    assert!((before..=after).contains(&now));
    let epoch =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock").as_nanos();
    let wall = Darwin.wall_clock_ns();
    assert!(u128::from(wall.cast_unsigned()) >= epoch);
    Darwin.sleep_ms(0);
    Darwin.sleep_ms(2);
    assert!(Darwin.system_nano_ts() >= now + 2_000_000);
    unload::<Calls>(kernel);
}
