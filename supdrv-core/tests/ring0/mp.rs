//! `RTMp*` and `RTPowerNotification*`.

use std::ffi::c_void;
use std::ptr::null_mut;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use supdrv_core::mock::{Call, Class, Host, MockOs};
use supdrv_core::os::CpuSet;
use supdrv_core::ring0::events::power_event;
use supdrv_core::shim::power;

use crate::harness::{Machine, current, exports::Runtime, ok, replay};
use crate::import;

type Worker = unsafe extern "C" fn(u32, *mut c_void, *mut c_void);
type MpCallback = unsafe extern "C" fn(u32, u32, *mut c_void);
type PowerCallback = unsafe extern "C" fn(u32, *mut c_void);

import! {
    fn RTMpCpuId() -> u32;
    fn RTMpCpuIdFromSetIndex(index: i32) -> u32;
    fn RTMpCpuIdToSetIndex(cpu_id: u32) -> i32;
    fn RTMpGetArraySize() -> u32;
    fn RTMpGetCount() -> u32;
    fn RTMpGetMaxCpuId() -> u32;
    fn RTMpGetOnlineCount() -> u32;
    fn RTMpGetOnlineSet(set: *mut CpuSet) -> *mut CpuSet;
    fn RTMpGetSet(set: *mut CpuSet) -> *mut CpuSet;
    fn RTMpIsCpuOnline(cpu_id: u32) -> bool;
    fn RTMpIsCpuPossible(cpu_id: u32) -> bool;
    fn RTMpIsCpuWorkPending() -> bool;
    fn RTMpOnAll(worker: Option<Worker>, user1: *mut c_void, user2: *mut c_void) -> i32;
    fn RTMpOnOthers(worker: Option<Worker>, user1: *mut c_void, user2: *mut c_void) -> i32;
    fn RTMpOnSpecific(cpu_id: u32, worker: Option<Worker>, user1: *mut c_void, user2: *mut c_void) -> i32;
    fn RTMpPokeCpu(cpu_id: u32) -> i32;
    fn RTMpNotificationRegister(callback: Option<MpCallback>, user: *mut c_void) -> i32;
    fn RTMpNotificationDeregister(callback: Option<MpCallback>, user: *mut c_void) -> i32;
    fn RTPowerNotificationRegister(callback: Option<PowerCallback>, user: *mut c_void) -> i32;
    fn RTPowerNotificationDeregister(callback: Option<PowerCallback>, user: *mut c_void) -> i32;
}

/// What happened, in order.
static SEEN: Mutex<Vec<(usize, u32, u32)>> = Mutex::new(Vec::new());

fn take_seen() -> Vec<(usize, u32, u32)> {
    std::mem::take(&mut *SEEN.lock().unwrap())
}

fn mark(number: usize) -> *mut c_void {
    number as *mut c_void
}

unsafe extern "C" fn worker(cpu_id: u32, user1: *mut c_void, user2: *mut c_void) {
    assert_ne!(current().current_class(), Class::T);
    SEEN.lock().unwrap().push((user1 as usize, cpu_id, user2 as usize as u32));
}

unsafe extern "C" fn cpu_changed(event: u32, cpu_id: u32, user: *mut c_void) {
    assert_ne!(current().current_class(), Class::T);
    SEEN.lock().unwrap().push((user as usize, event, cpu_id));
}

unsafe extern "C" fn power_changed(event: u32, user: *mut c_void) {
    SEEN.lock().unwrap().push((user as usize, event, 0));
}

#[test]
fn cpus_are_enumerated() {
    let machine = Machine::with_cpus(4);
    machine.set_online(2, false);
    let ids: Vec<u32> = (0..4).map(RTMpCpuIdFromSetIndex).collect();
    assert!(ids.iter().enumerate().all(|(index, id)| RTMpCpuIdToSetIndex(*id) == index as i32));
    assert_eq!(
        (RTMpCpuIdFromSetIndex(-1), RTMpCpuIdFromSetIndex(300), RTMpCpuIdToSetIndex(0xdead)),
        (u32::MAX, u32::MAX, -1)
    );
    assert_eq!((RTMpGetCount(), RTMpGetOnlineCount()), (4, 3));
    assert!(RTMpGetArraySize() >= 4 && RTMpGetMaxCpuId() >= *ids.iter().max().unwrap());
    assert!(
        !RTMpIsCpuOnline(ids[2])
            && RTMpIsCpuPossible(ids[2])
            && RTMpIsCpuOnline(ids[1])
            && !RTMpIsCpuPossible(0xdead)
    );
    let mut set = CpuSet::default();
    assert_eq!(RTMpGetOnlineSet(&raw mut set), &raw mut set);
    assert_eq!(set.iter().collect::<Vec<_>>(), [0, 1, 3]);
    RTMpGetSet(&raw mut set);
    assert_eq!(set.count(), 4);
    assert!(ids.contains(&RTMpCpuId()) && !RTMpIsCpuWorkPending());
}

#[test]
fn workers_run_once_on_each_cpu_that_is_meant() {
    let machine = Machine::with_cpus(4);
    take_seen();
    assert_eq!(RTMpOnAll(Some(worker), mark(1), mark(2)), 0);
    let mut cpus: Vec<u32> = take_seen().iter().map(|seen| seen.1).collect();
    cpus.sort_unstable();
    cpus.dedup();
    assert_eq!(cpus.len(), 4);
    let here = machine.on_cpu(1, || {
        assert_eq!(RTMpOnOthers(Some(worker), mark(1), mark(2)), 0);
        RTMpCpuId()
    });
    let others = take_seen();
    assert!(others.len() == 3 && others.iter().all(|seen| seen.1 != here));
    for index in [0, 3] {
        let id = RTMpCpuIdFromSetIndex(index);
        assert_eq!(RTMpOnSpecific(id, Some(worker), mark(5), mark(6)), 0);
        assert_eq!(take_seen(), [(5, id, 6)]);
    }
    machine.set_online(3, false);
    let gone = RTMpCpuIdFromSetIndex(3);
    assert_eq!(
        (
            RTMpOnSpecific(gone, Some(worker), mark(0), mark(0)),
            RTMpOnSpecific(3000, Some(worker), mark(0), mark(0))
        ),
        (-800, -801)
    );
    assert_eq!((RTMpOnAll(None, mark(0), mark(0)), RTMpOnOthers(None, mark(0), mark(0))), (-6, -6));
    let poked = RTMpCpuIdFromSetIndex(1);
    assert_eq!((RTMpPokeCpu(poked), RTMpPokeCpu(gone), RTMpPokeCpu(3000)), (0, -800, -801));
    assert_eq!(machine.pokes(), [poked]);
}

#[test]
fn the_only_cpu_has_no_others() {
    let _machine = Machine::with_cpus(1);
    take_seen();
    assert_eq!(RTMpOnOthers(Some(worker), mark(0), mark(0)), 0);
    assert_eq!(take_seen(), []);
}

#[test]
fn registrations_are_unique_and_called_in_order() {
    let machine = Machine::with_cpus(3);
    take_seen();
    assert_eq!(
        (RTMpNotificationRegister(None, mark(1)), RTMpNotificationDeregister(None, mark(1))),
        (-6, -6)
    );
    assert_eq!(RTMpNotificationDeregister(Some(cpu_changed), mark(1)), -78);
    assert_eq!(
        (
            RTMpNotificationRegister(Some(cpu_changed), mark(2)),
            RTMpNotificationRegister(Some(cpu_changed), mark(1))
        ),
        (0, 0)
    );
    assert_eq!(RTMpNotificationRegister(Some(cpu_changed), mark(2)), -105);
    let id = RTMpCpuIdFromSetIndex(2);
    machine.set_online(2, false);
    machine.set_online(2, true);
    assert_eq!(take_seen(), [(2, 2, id), (1, 2, id), (2, 1, id), (1, 1, id)]);
    assert_eq!(RTMpNotificationDeregister(Some(cpu_changed), mark(2)), 0);
    machine.set_online(2, false);
    assert_eq!(take_seen(), [(1, 2, id)]);
    assert_eq!(
        (
            RTMpNotificationDeregister(Some(cpu_changed), mark(1)),
            RTMpNotificationDeregister(Some(cpu_changed), mark(1))
        ),
        (0, -78)
    );
}

#[test]
fn what_a_module_leaves_registered_goes_with_the_driver() {
    let _machine = Machine::new();
    assert_eq!(
        (
            RTMpNotificationRegister(Some(cpu_changed), mark(1)),
            RTPowerNotificationRegister(Some(power_changed), mark(1))
        ),
        (0, 0)
    );
}

unsafe extern "C" fn leaves(event: u32, user: *mut c_void) {
    // SAFETY: any arguments are fine.
    unsafe { power_changed(event, user) };
    assert_eq!(RTPowerNotificationDeregister(Some(leaves), user), 0);
    assert_eq!(RTPowerNotificationDeregister(Some(leaves), user), -78);
}

#[test]
fn power_events_reach_all_callbacks_in_order_before_the_call_returns() {
    let _machine = Machine::new();
    take_seen();
    power_event::<Runtime>(1);
    for number in [1, 2] {
        assert_eq!(RTPowerNotificationRegister(Some(power_changed), mark(number)), 0);
    }
    assert_eq!(RTPowerNotificationRegister(Some(leaves), mark(3)), 0);
    power_event::<Runtime>(1);
    power_event::<Runtime>(2);
    assert_eq!(take_seen(), [(1, 1, 0), (2, 1, 0), (3, 1, 0), (1, 2, 0), (2, 2, 0)]);
    assert_eq!(RTPowerNotificationRegister(Some(leaves), mark(3)), 0, "it may come back");
    for (callback, number) in [(leaves as PowerCallback, 3), (power_changed, 1), (power_changed, 2)] {
        assert_eq!(RTPowerNotificationDeregister(Some(callback), mark(number)), 0);
    }
}

#[test]
fn a_machine_that_wakes_up_starts_the_time_page_anew_and_tells_modules() {
    let machine = Machine::new();
    take_seen();
    assert_eq!(RTPowerNotificationRegister(Some(power_changed), mark(1)), 0);
    let host = Host::on(&machine).unwrap();
    let client = host.open();
    client.gip_map().unwrap();
    machine.start_trace();
    power::suspending::<Runtime>();
    assert_eq!((take_seen(), machine.take_trace().contains(&Call::TimerStart)), (vec![(1, 1, 0)], false));
    machine.start_trace();
    power::resumed::<Runtime, MockOs>(Some(host.driver()));
    assert_eq!((take_seen(), machine.take_trace().contains(&Call::TimerStart)), (vec![(1, 2, 0)], true));
    client.close();
    drop(host);
    power::resumed::<Runtime, MockOs>(None);
    assert_eq!(take_seen(), [(1, 2, 0)], "without a driver too");
    assert_eq!(RTPowerNotificationDeregister(Some(power_changed), mark(1)), 0);
}

static INSIDE: Mutex<Option<std::sync::mpsc::Receiver<()>>> = Mutex::new(None);

unsafe extern "C" fn lingers(event: u32, user: *mut c_void) {
    // SAFETY: any arguments are fine.
    unsafe { power_changed(event, user) };
    let receiver = INSIDE.lock().unwrap().take();
    if let Some(receiver) = receiver {
        receiver.recv().unwrap();
    }
    // SAFETY: as above.
    unsafe { power_changed(event + 10, user) };
}

#[test]
fn deregistration_waits_for_a_running_callback() {
    let _machine = Machine::new();
    take_seen();
    let (sender, receiver) = std::sync::mpsc::channel();
    *INSIDE.lock().unwrap() = Some(receiver);
    RTPowerNotificationRegister(Some(lingers), null_mut());
    thread::scope(|scope| {
        scope.spawn(|| power_event::<Runtime>(1));
        while take_seen().is_empty() {
            thread::yield_now();
        }
        let remover = scope.spawn(|| RTPowerNotificationDeregister(Some(lingers), null_mut()));
        thread::sleep(Duration::from_millis(20));
        assert!(!remover.is_finished());
        sender.send(()).unwrap();
        assert_eq!(remover.join().unwrap(), 0);
        assert_eq!(take_seen(), [(0, 11, 0)]);
    });
}

#[test]
fn registration_fails_cleanly() {
    replay(|_| {
        let result = ok(RTMpNotificationRegister(Some(cpu_changed), mark(1)))
            .and_then(|()| ok(RTPowerNotificationRegister(Some(power_changed), mark(1))))
            .and_then(|()| ok(RTPowerNotificationDeregister(Some(power_changed), mark(1))));
        // Without memory even removal fails; the end of the driver takes what is left.
        result.and_then(|()| ok(RTMpNotificationDeregister(Some(cpu_changed), mark(1))))
    });
}
