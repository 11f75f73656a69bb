//! The mock system keeps its own promises, and notices when others break theirs.

use core::alloc::Layout;
use core::ffi::c_void;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::Mutex;

use supdrv_core::abi::status::*;
use supdrv_core::mock::{Call, Class, Host, Kind, MockOs, Process, replay};
use supdrv_core::os::{
    AllocKind, EventKind, LockClass, MemProt, MpEvent, OsArch, OsCpu, OsEvent, OsHeap, OsIdentity, OsImage,
    OsLock, OsMemory, OsTime, OsTimer, OsUserCopy, PAGE_SIZE, Timeout, TimerSpec, TimerTarget, WaitMode,
};

/// Runs something that breaks one rule, and checks that it was noticed.
fn assert_breaks(what: &str, f: impl FnOnce(&MockOs)) {
    let os = MockOs::new();
    f(&os);
    let violations = os.take_violations();
    assert!(violations.iter().any(|text| text.contains(what)), "{what:?} isn't in {violations:?}");
}

#[test]
fn a_driver_comes_up_and_goes_away() {
    let host = Host::new();
    let client = host.open();
    assert_eq!({ client.cookie().unwrap().session }, client.session().key());
}

// Rules

#[test]
fn leaks_fail_the_test() {
    let os = MockOs::new();
    let lock = os.spinlock_create(LockClass::Device).unwrap();
    let result = std::panic::catch_unwind(core::panic::AssertUnwindSafe(|| os.assert_nothing_leaked()));
    let text = result.unwrap_err().downcast::<String>().unwrap();
    assert!(text.contains("SpinLock, 1"), "{text}");
    drop(lock);
    os.assert_nothing_leaked();
}

#[test]
fn an_owner_that_is_dropped_checks_for_leaks() {
    let result = std::panic::catch_unwind(|| {
        let os = MockOs::new();
        core::mem::forget(os.event_create(EventKind::SingleRelease).unwrap());
    });
    assert!(result.is_err());
}

#[test]
fn calls_outside_their_class_are_noticed() {
    let layout = Layout::new::<u64>();
    assert_breaks("HeapAlloc is class T, called in I", |os| {
        let block = os.with_irqs_off(|| os.heap_alloc_zeroed(layout)).unwrap();
        // SAFETY: just allocated.
        unsafe { os.heap_free(block, layout) };
    });
    assert_breaks("MutexAcquire is class T, called in D", |os| {
        let mutex = os.mutex_create(LockClass::Loader).unwrap();
        os.with_preemption_off(|| os.mutex_acquire(&mutex));
        // SAFETY: just acquired.
        unsafe { os.mutex_release(&mutex) };
    });
    assert_breaks("UserCopyFrom is class T, called in I holding", |os| {
        let lock = os.spinlock_create(LockClass::Device).unwrap();
        let state = os.spinlock_acquire_irq(&lock);
        let _ = os.user_copy_from(&mut [0], 0);
        // SAFETY: just acquired.
        unsafe { os.spinlock_release_irq(&lock, state) };
    });
    assert_breaks("SpinlockAcquire is class D, called in I", |os| {
        let lock = os.spinlock_create(LockClass::Session).unwrap();
        os.with_irqs_off(|| {
            os.spinlock_acquire(&lock);
            // SAFETY: just acquired.
            unsafe { os.spinlock_release(&lock) };
        });
    });
}

#[test]
fn locks_out_of_order_are_noticed() {
    assert_breaks("Loader is taken while Gip is held", |os| {
        let gip = os.mutex_create(LockClass::Gip).unwrap();
        let loader = os.mutex_create(LockClass::Loader).unwrap();
        os.mutex_acquire(&gip);
        os.mutex_acquire(&loader);
        // SAFETY: both just acquired.
        unsafe {
            os.mutex_release(&loader);
            os.mutex_release(&gip);
        }
    });
    assert_breaks("HandleTable is taken while HandleTable is held", |os| {
        let [one, two] = [0, 1].map(|_| os.spinlock_create(LockClass::HandleTable).unwrap());
        let outer = os.spinlock_acquire_irq(&one);
        let inner = os.spinlock_acquire_irq(&two);
        // SAFETY: both just acquired.
        unsafe {
            os.spinlock_release_irq(&two, inner);
            os.spinlock_release_irq(&one, outer);
        }
    });
}

#[test]
fn locks_of_modules_have_no_order() {
    let os = MockOs::new();
    let module = os.mutex_create(LockClass::ModuleMutex).unwrap();
    let loader = os.mutex_create(LockClass::Loader).unwrap();
    os.mutex_acquire(&module);
    os.mutex_acquire(&loader);
    // SAFETY: both just acquired.
    unsafe {
        os.mutex_release(&loader);
        os.mutex_release(&module);
    }
}

#[test]
fn wrong_frees_are_noticed() {
    let layout = Layout::new::<[u64; 4]>();
    assert_breaks("another layout", |os| {
        let block = os.heap_alloc_zeroed(layout).unwrap();
        // SAFETY: the machine refuses the wrong layout; the right one follows.
        unsafe {
            os.heap_free(block, Layout::new::<[u64; 5]>());
            os.heap_free(block, layout);
        }
    });
    assert_breaks("another machine", |os| {
        let other = MockOs::new();
        let block = other.heap_alloc_zeroed(layout).unwrap();
        // SAFETY: refused here, taken there.
        unsafe {
            os.heap_free(block, layout);
            other.heap_free(block, layout);
        }
    });
    assert_breaks("dropped, not freed", |os| {
        drop(os.mem_alloc(AllocKind::Page, PAGE_SIZE, MemProt::all()).unwrap());
        os.forgive(Kind::Memory, 1);
    });
    assert_breaks("freed while it is mapped", |os| {
        let parent = os.mem_alloc(AllocKind::Page, PAGE_SIZE, MemProt::all()).unwrap();
        let map = os.mem_map_kernel(&parent, 0, PAGE_SIZE, MemProt::READ).unwrap();
        os.mem_free(parent).map_err(drop).unwrap();
        os.mem_free(map).map_err(drop).unwrap();
    });
}

#[test]
fn a_lock_taken_twice_is_a_deadlock() {
    let os = MockOs::new();
    let mutex = os.mutex_create(LockClass::Loader).unwrap();
    os.mutex_acquire(&mutex);
    let again = std::panic::catch_unwind(core::panic::AssertUnwindSafe(|| os.mutex_acquire(&mutex)));
    assert!(again.is_err());
    // SAFETY: acquired once.
    unsafe { os.mutex_release(&mutex) };
}

#[test]
fn spinlocks_restore_the_interrupt_state_in_reverse() {
    let os = MockOs::new();
    let device = os.spinlock_create(LockClass::HandleTable).unwrap();
    let entries = os.spinlock_create(LockClass::GipEntries).unwrap();
    assert_eq!(os.current_class(), Class::T);
    let outer = os.spinlock_acquire_irq(&device);
    assert_eq!(os.current_class(), Class::I);
    let inner = os.spinlock_acquire_irq(&entries);
    // SAFETY: both just acquired.
    unsafe {
        os.spinlock_release_irq(&entries, inner);
        assert_eq!(os.current_class(), Class::I);
        os.spinlock_release_irq(&device, outer);
    }
    assert_eq!(os.current_class(), Class::T);
}

#[test]
fn preemption_nests() {
    let os = MockOs::new();
    let outer = os.preempt_disable();
    let inner = os.preempt_disable();
    assert!(!os.preemption_is_enabled());
    // SAFETY: in reverse order.
    unsafe {
        os.preempt_restore(inner);
        assert!(!os.preemption_is_enabled());
        os.preempt_restore(outer);
    }
    assert!(os.preemption_is_enabled());
}

#[test]
fn locks_exclude_threads() {
    let os = MockOs::new();
    let mutex = os.mutex_create(LockClass::Loader).unwrap();
    let lock = os.spinlock_create(LockClass::Session).unwrap();
    let (by_mutex, by_lock) = (AtomicU64::new(0), AtomicU64::new(0));
    let bump = |counter: &AtomicU64| {
        counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    };
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..2000 {
                    os.mutex_acquire(&mutex);
                    bump(&by_mutex);
                    // SAFETY: just acquired.
                    unsafe { os.mutex_release(&mutex) };
                    os.spinlock_acquire(&lock);
                    bump(&by_lock);
                    // SAFETY: just acquired.
                    unsafe { os.spinlock_release(&lock) };
                }
            });
        }
    });
    assert_eq!((by_mutex.into_inner(), by_lock.into_inner()), (8000, 8000));
}

// Failures

#[test]
fn failures_come_once_and_where_they_were_ordered() {
    let os = MockOs::new();
    os.fail_nth(2);
    assert!(os.spinlock_create(LockClass::Device).is_ok());
    assert_eq!(os.mutex_create(LockClass::Gip).map(drop), Err(VERR_NO_MEMORY));
    assert!(os.mutex_create(LockClass::Gip).is_ok());
    os.fail_later(Call::EventCreate, 1, VERR_OUT_OF_RANGE);
    assert!(os.event_create(EventKind::SingleRelease).is_ok());
    assert_eq!(os.event_create(EventKind::SingleRelease).map(drop), Err(VERR_OUT_OF_RANGE));
    assert!(os.event_create(EventKind::SingleRelease).is_ok());
    os.fail_next(Call::TimerStart, VERR_CPU_OFFLINE);
    os.fail_nth(100);
    assert_eq!(os.cancel_failures(), 2);
}

#[test]
fn a_replay_fails_every_call_once() {
    let tries = AtomicUsize::new(0);
    let replayed = replay(|os| {
        tries.fetch_add(1, Ordering::Relaxed);
        let _lock = os.spinlock_create(LockClass::Device)?;
        let _event = os.event_create(EventKind::MultiRelease).ok();
        Ok(())
    });
    // One undisturbed run; then two calls, each with two statuses; the event's failure is survived.
    assert_eq!((replayed.calls, replayed.survived, tries.into_inner()), (2, 2, 5));
}

#[test]
fn a_replay_finds_what_a_failure_leaves_behind() {
    let result = std::panic::catch_unwind(|| {
        replay(|os| {
            let lock = os.spinlock_create(LockClass::Device)?;
            match os.event_create(EventKind::MultiRelease) {
                Ok(_) => drop(lock),
                Err(_) => core::mem::forget(lock),
            }
            Ok(())
        })
    });
    assert!(result.is_err());
}

#[test]
fn a_step_finds_what_a_failure_leaves_behind() {
    let result = std::panic::catch_unwind(|| {
        let host = Host::new();
        let client = host.open();
        let mut tries = 0;
        host.step(|| {
            tries += 1;
            client.page_alloc(1, true)?;
            if tries == 1 { Err(VERR_NO_MEMORY) } else { Ok(()) }
        });
    });
    assert!(result.is_err());
}

// Time

/// Ticks of a timer: CPU, number, time.
struct Ticks<'a> {
    os: &'a MockOs,
    seen: Mutex<Vec<(usize, u64, u64)>>,
}

impl<'a> Ticks<'a> {
    const fn new(os: &'a MockOs) -> Self {
        Self { os, seen: Mutex::new(Vec::new()) }
    }

    fn timer(&self, interval_ns: u64, target: TimerTarget) -> Result<<MockOs as OsTimer>::Timer> {
        let context = core::ptr::from_ref(self).cast_mut().cast();
        self.os.timer_create(&TimerSpec { interval_ns, target, callback: on_tick, context })
    }

    fn take(&self) -> Vec<(usize, u64, u64)> {
        core::mem::take(&mut self.seen.lock().unwrap())
    }
}

unsafe extern "C" fn on_tick(_: *mut c_void, ticks: *mut c_void, number: u64) {
    // SAFETY: created with the address of the record, which outlives the timer.
    let ticks = unsafe { &*ticks.cast::<Ticks<'_>>() };
    assert_eq!(ticks.os.current_class(), Class::I);
    let now = ticks.os.system_nano_ts() - supdrv_core::mock::clock::BOOT_NS;
    ticks.seen.lock().unwrap().push((ticks.os.cpu_id() as usize, number, now));
}

#[test]
fn timers_fire_at_fixed_points_in_order() {
    let os = MockOs::new();
    let (fast, slow) = (Ticks::new(&os), Ticks::new(&os));
    let one = fast.timer(10, TimerTarget::Any).unwrap();
    let two = slow.timer(0, TimerTarget::Cpu(1)).unwrap();
    os.timer_start(&one, 5).unwrap();
    os.timer_start(&two, 17).unwrap();
    assert_eq!(os.timer_start(&one, 0), Err(VERR_TIMER_ACTIVE));
    os.advance(30);
    assert_eq!(fast.take(), [(0, 1, 5), (0, 2, 15), (0, 3, 25)]);
    assert_eq!(slow.take(), [(1, 1, 17)]);
    assert_eq!(os.timer_stop(&two), Err(VERR_TIMER_SUSPENDED), "one shot");
    os.jump(30);
    os.advance(6);
    assert_eq!(fast.take(), [(0, 4, 60), (0, 5, 65)], "missed ones are skipped");
    os.timer_stop(&one).unwrap();
    os.advance(100);
    assert_eq!(fast.take(), []);
    os.timer_start(&one, 1).unwrap();
    os.advance(1);
    assert_eq!(fast.take(), [(0, 1, 167)], "ticks start over");
}

#[test]
fn a_periodic_timer_does_not_drift() {
    let os = MockOs::new();
    let ticks = Ticks::new(&os);
    let timer = ticks.timer(10_000_000, TimerTarget::Any).unwrap();
    os.timer_start(&timer, 0).unwrap();
    for _ in 0..1000 {
        os.advance(1_000_001);
    }
    let seen = ticks.take();
    assert_eq!(seen.len(), 101);
    assert_eq!(seen.last().unwrap().1, 101);
}

#[test]
fn a_timer_on_all_cpus_follows_them() {
    let os = MockOs::with_cpus(4);
    let ticks = Ticks::new(&os);
    let timer = ticks.timer(10, TimerTarget::All).unwrap();
    os.timer_start(&timer, 10).unwrap();
    os.advance(50);
    let last = |cpu: usize, seen: &[(usize, u64, u64)]| {
        seen.iter().filter(|tick| tick.0 == cpu).map(|tick| tick.1).next_back()
    };
    let seen = ticks.take();
    assert_eq!([0, 1, 2, 3].map(|cpu| last(cpu, &seen)), [Some(5); 4]);
    os.set_online(2, false);
    os.advance(20);
    let seen = ticks.take();
    assert_eq!([0, 1, 2, 3].map(|cpu| last(cpu, &seen)), [Some(7), Some(7), None, Some(7)]);
    os.set_online(2, true);
    os.advance(10);
    let seen = ticks.take();
    assert_eq!([0, 1, 2, 3].map(|cpu| last(cpu, &seen)), [Some(8), Some(8), Some(1), Some(8)]);
}

#[test]
fn timers_are_refused_where_they_cannot_be() {
    let os = MockOs::new();
    let ticks = Ticks::new(&os);
    assert_eq!(ticks.timer(0, TimerTarget::All).map(drop), Err(VERR_NOT_SUPPORTED));
    assert_eq!(ticks.timer(10, TimerTarget::Cpu(300)).map(drop), Err(VERR_CPU_NOT_FOUND));
    let timer = ticks.timer(10, TimerTarget::Cpu(1)).unwrap();
    os.set_online(1, false);
    assert_eq!(os.timer_start(&timer, 0), Err(VERR_CPU_OFFLINE));
    drop(timer);
    os.set_cpu_timers(false);
    assert_eq!(ticks.timer(10, TimerTarget::All).map(drop), Err(VERR_NOT_SUPPORTED));
    assert!(ticks.timer(10, TimerTarget::Any).is_ok());
}

#[test]
fn sleeping_moves_the_clock() {
    let os = MockOs::new();
    let ticks = Ticks::new(&os);
    let timer = ticks.timer(1_000_000, TimerTarget::Any).unwrap();
    os.timer_start(&timer, 1_000_000).unwrap();
    os.sleep_ms(10);
    assert_eq!(ticks.take().len(), 10);
}

// Events

#[test]
fn an_event_remembers_one_signal() {
    let os = MockOs::new();
    let poll = |event| os.event_wait(event, Timeout::RelativeNs(0), WaitMode::Interruptible);
    let single = os.event_create(EventKind::SingleRelease).unwrap();
    assert_eq!(poll(&single), Err(VERR_TIMEOUT));
    os.event_signal(&single);
    os.event_signal(&single);
    assert_eq!((poll(&single), poll(&single)), (Ok(()), Err(VERR_TIMEOUT)));
    let multi = os.event_create(EventKind::MultiRelease).unwrap();
    os.event_signal(&multi);
    assert_eq!((poll(&multi), poll(&multi)), (Ok(()), Ok(())));
    os.event_reset(&multi);
    assert_eq!(poll(&multi), Err(VERR_TIMEOUT));
}

#[test]
fn a_signal_releases_one_waiter_or_all() {
    for (kind, released) in [(EventKind::SingleRelease, 1), (EventKind::MultiRelease, 3)] {
        let os = MockOs::new();
        let event = os.event_create(kind).unwrap();
        std::thread::scope(|scope| {
            let waiters: Vec<_> = (0..3)
                .map(|_| {
                    scope.spawn(|| os.event_wait(&event, Timeout::RelativeNs(1000), WaitMode::Interruptible))
                })
                .collect();
            os.wait_until_waiting(3);
            os.event_signal(&event);
            os.event_reset(&event);
            while os.waiting_threads() != 3 - released {
                std::thread::yield_now();
            }
            os.advance(1000);
            let good = waiters.into_iter().map(|waiter| waiter.join().unwrap());
            assert_eq!(good.filter(Result::is_ok).count(), released, "{kind:?}");
        });
    }
}

#[test]
fn interruption_ends_interruptible_waits_only() {
    let os = MockOs::new();
    let event = os.event_create(EventKind::SingleRelease).unwrap();
    std::thread::scope(|scope| {
        let soft = scope.spawn(|| os.event_wait(&event, Timeout::Forever, WaitMode::Interruptible));
        os.wait_until_waiting(1);
        os.interrupt_waiting();
        assert_eq!(soft.join().unwrap(), Err(VERR_INTERRUPTED));
        let hard = scope.spawn(|| os.event_wait(&event, Timeout::Forever, WaitMode::Uninterruptible));
        os.wait_until_waiting(1);
        os.interrupt_waiting();
        os.event_signal(&event);
        assert_eq!(hard.join().unwrap(), Ok(()));
    });
    os.interrupt_next_wait();
    os.event_signal(&event);
    assert_eq!(os.event_wait(&event, Timeout::Forever, WaitMode::Interruptible), Ok(()), "signals win");
    assert_eq!(os.event_wait(&event, Timeout::Forever, WaitMode::Interruptible), Err(VERR_INTERRUPTED));
}

#[test]
fn a_lonely_wait_can_move_the_clock() {
    let os = MockOs::new();
    os.set_waits_advance_clock(true);
    let event = os.event_create(EventKind::SingleRelease).unwrap();
    let before = os.now_ns();
    assert_eq!(os.event_wait(&event, Timeout::RelativeNs(5000), WaitMode::Interruptible), Err(VERR_TIMEOUT));
    assert_eq!(os.now_ns() - before, 5000);
}

// CPUs

#[derive(Default)]
struct Calls(Mutex<Vec<(u32, u32)>>);

unsafe extern "C" fn note_cpu(cpu_id: u32, calls: *mut c_void) {
    // SAFETY: called with the record of the test.
    let calls = unsafe { &*calls.cast::<(&MockOs, Calls)>() };
    assert_eq!(calls.0.current_class(), Class::I);
    calls.1.0.lock().unwrap().push((cpu_id, calls.0.cpu_id()));
}

unsafe extern "C" fn note_event(event: MpEvent, cpu_id: u32, calls: *mut c_void) {
    // SAFETY: registered with the record of the test.
    let calls = unsafe { &*calls.cast::<(&MockOs, Calls)>() };
    assert_eq!(calls.0.current_class(), Class::I);
    calls.1.0.lock().unwrap().push((event as u32, cpu_id));
}

#[test]
fn cross_calls_reach_every_online_cpu() {
    let os = MockOs::with_cpus(4);
    os.edit_cpu(3, |cpu| cpu.id = 70);
    os.set_online(1, false);
    let mut calls = (&os, Calls::default());
    let context: *mut c_void = (&raw mut calls).cast();
    // SAFETY: the record lives until the calls return.
    unsafe {
        os.mp_on_all(note_cpu, context).unwrap();
        assert_eq!(core::mem::take(&mut *calls.1.0.lock().unwrap()), [(0, 0), (2, 2), (70, 70)]);
        os.mp_on_cpu(70, note_cpu, context).unwrap();
        assert_eq!(os.mp_on_cpu(1, note_cpu, context), Err(VERR_CPU_OFFLINE));
        assert_eq!(os.mp_on_cpu(300, note_cpu, context), Err(VERR_CPU_NOT_FOUND));
        assert_eq!(*calls.1.0.lock().unwrap(), [(70, 70)]);
    }
    assert_eq!((os.cpu_max_id(), os.cpu_set_index(70), os.cpu_id_from_index(3)), (70, Some(3), Some(70)));
    assert_eq!(os.cpu_online_set().iter().collect::<Vec<_>>(), [0, 2, 3]);
}

#[test]
fn cpu_events_are_delivered_in_order() {
    let os = MockOs::with_cpus(2);
    let mut calls = (&os, Calls::default());
    let context: *mut c_void = (&raw mut calls).cast();
    // SAFETY: the record outlives the registration.
    let registration = unsafe { os.mp_register(note_event, context) }.unwrap();
    os.set_online(1, false);
    os.set_online(1, false);
    os.set_online(1, true);
    drop(registration);
    os.set_online(1, false);
    assert_eq!(*calls.1.0.lock().unwrap(), [(2, 1), (1, 1)]);
}

#[test]
fn every_cpu_has_its_own_registers() {
    let os = MockOs::with_cpus(256);
    os.edit_cpu(255, |cpu| {
        cpu.tsc_frozen = Some(42);
        cpu.cr4 = 0;
        _ = cpu.msrs.insert(0x10, 7);
    });
    let read = |cpu| {
        os.on_cpu(cpu, || {
            // SAFETY: registers of the mock.
            let msr = unsafe { os.rdmsr(0x3a) };
            (os.cpuid(1, 0).ebx >> 24, os.cr4(), msr)
        })
    };
    assert_eq!(read(0), (0, 0xa0, 5));
    assert_eq!(read(255), (255, 0, 5));
    assert_eq!(os.on_cpu(255, || (os.tsc(), os.tsc())), (42, 42));
    let (first, second) = (os.tsc(), os.tsc());
    assert!(first < second);
    assert_breaks("RDMSR", |os| {
        // SAFETY: reading what isn't there is what is tested.
        assert_eq!(unsafe { os.rdmsr(0x999) }, 0);
    });
}

// Memory

#[test]
fn user_copies_respect_the_page_table() {
    let os = MockOs::new();
    let mut memory = os.user_memory(2);
    let at = memory.address();
    memory[PAGE_SIZE - 1] = 1;
    memory[PAGE_SIZE] = 2;
    let mut bytes = [0; 2];
    assert_eq!(os.user_copy_from(&mut bytes, at + PAGE_SIZE - 1), Ok(()));
    assert_eq!(bytes, [1, 2]);
    let denied = Err(VERR_ACCESS_DENIED);
    assert_eq!(os.user_copy_from(&mut bytes, at + 2 * PAGE_SIZE - 1), denied, "behind the end");
    assert_eq!(os.user_copy_from(&mut bytes, 0), denied);
    assert_eq!(os.user_copy_from(&mut bytes, usize::MAX), denied, "wraps");
    assert_eq!(os.user_copy_from(&mut [], usize::MAX), Ok(()));
    let kernel = [0u8; 2];
    assert_eq!(os.user_copy_from(&mut bytes, kernel.as_ptr() as usize), denied, "not the process's");
    memory.protect(1, 1, MemProt::READ);
    assert_eq!(os.user_copy_to(at + PAGE_SIZE - 1, &bytes), denied);
    assert_eq!(os.user_copy_to(at, &bytes), Ok(()));
    memory.set_faults(0, true);
    assert_eq!(os.user_copy_from(&mut bytes, at), denied);
    memory.set_faults(0, false);
    let other = os.new_process(0, 0);
    assert_eq!(os.run_as(other, || os.user_copy_from(&mut bytes, at)), denied, "another process");
}

#[test]
fn physical_pages_are_used_again_and_zeroed() {
    let os = MockOs::new();
    let first = os.mem_alloc(AllocKind::Contiguous, 3 * PAGE_SIZE, MemProt::all()).unwrap();
    let phys = os.mem_page_phys(&first, 0).unwrap();
    // SAFETY: mapped for the kernel.
    unsafe { *(os.mem_address(&first) as *mut u64) = 0x55 };
    assert_eq!(os.mem_page_phys(&first, 3), None);
    os.mem_free(first).map_err(drop).unwrap();
    let second = os.mem_alloc(AllocKind::Contiguous, PAGE_SIZE, MemProt::all()).unwrap();
    assert_eq!(os.mem_page_phys(&second, 0), Some(phys));
    // SAFETY: as above.
    assert_eq!(unsafe { *(os.mem_address(&second) as *const u64) }, 0);
    os.mem_free(second).map_err(drop).unwrap();
    let scattered = os.mem_alloc(AllocKind::Page, 8 * PAGE_SIZE, MemProt::all()).unwrap();
    let pages: Vec<u64> = (0..8).map(|page| os.mem_page_phys(&scattered, page).unwrap()).collect();
    assert!(pages.windows(2).all(|pair| pair[0] + PAGE_SIZE as u64 != pair[1]), "{pages:x?}");
    os.mem_free(scattered).map_err(drop).unwrap();
    assert_eq!(os.frames_in_use(), 0);
}

#[test]
fn fictional_memory_is_not_mapped() {
    let os = MockOs::new();
    os.set_fictional_memory();
    let objects: Vec<_> =
        (0..100_000).map(|_| os.mem_alloc(AllocKind::Page, PAGE_SIZE, MemProt::all()).unwrap()).collect();
    assert_eq!(os.live(Kind::Memory), 100_000);
    for object in objects {
        os.mem_free(object).map_err(drop).unwrap();
    }
}

// Images

#[test]
fn loaded_code_runs() {
    let os = MockOs::new();
    let memory = os.exec_alloc(100).unwrap();
    // mov eax, 42; ret
    os.exec_load(&memory, &[0xb8, 42, 0, 0, 0, 0xc3]).unwrap();
    let entry = os.exec_base(&memory).as_ptr();
    // SAFETY: the code above is such a function.
    let answer = unsafe { core::mem::transmute::<*mut u8, extern "C" fn() -> i32>(entry)() };
    assert_eq!(answer, 42);
    assert_eq!(os.exec_load(&memory, &[0; 5000]), Err(VERR_INVALID_PARAMETER));
}

// Identity

#[test]
fn threads_and_processes_can_be_played() {
    let os = MockOs::new();
    let mine = os.thread_handle();
    assert_ne!(std::thread::scope(|scope| scope.spawn(|| os.thread_handle()).join().unwrap()), mine);
    assert_eq!(os.as_thread(77, || os.thread_handle()), 77);
    let process = os.new_process(5, 6);
    assert_eq!(os.run_as(process, || (os.real_uid(), os.real_gid(), os.process_id())), (5, 6, 1001));
    assert_eq!(os.process_handle(), Process::FIRST.handle());
    let panicked = std::panic::catch_unwind(core::panic::AssertUnwindSafe(|| {
        os.run_as(process, || panic!("a failed test"));
    }));
    assert!(panicked.is_err());
    assert_eq!(os.current_process(), Process::FIRST, "also when a test fails in between");
}
