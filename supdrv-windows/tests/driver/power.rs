//! Sleep and wake-up: who is told, when, and at which level.

use super::*;
use std::ffi::c_void;
use std::sync::Mutex;
use supdrv_core::ring0::notify::{power_notification_deregister, power_notification_register};
use supdrv_windows::module::Runtime;
use supdrv_windows::nt::hw;

const STATE_LOCK: usize = 3;
const SUSPEND: u32 = 1;
const RESUME: u32 = 2;

/// What a listener heard, and at which IRQL.
#[derive(Default)]
struct Listener {
    heard: Mutex<Vec<(u32, u8)>>,
    leaves: bool,
}

impl Listener {
    fn context(&self) -> *mut c_void {
        std::ptr::from_ref(self).cast_mut().cast()
    }

    fn register(&self) {
        // SAFETY: deregistered before the listener goes.
        assert_eq!(unsafe { power_notification_register::<Runtime>(Some(listen), self.context()) }, 0);
    }

    fn deregister(&self) -> i32 {
        // SAFETY: any argument will do.
        unsafe { power_notification_deregister::<Runtime>(Some(listen), self.context()) }
    }

    fn take(&self) -> Vec<(u32, u8)> {
        std::mem::take(&mut self.heard.lock().unwrap())
    }
}

unsafe extern "C" fn listen(event: u32, listener: *mut c_void) {
    // SAFETY: registered with a listener.
    let listener = unsafe { &*listener.cast::<Listener>() };
    listener.heard.lock().unwrap().push((event, hw::irql()));
    if listener.leaves {
        assert_eq!(listener.deregister(), 0);
    }
}

#[test]
fn events_reach_each_listener_once_at_the_level_they_come_at_and_strangers_reach_none() {
    with_driver(|machine, _| {
        let listeners = [const { Listener { heard: Mutex::new(Vec::new()), leaves: false } }; 3];
        listeners.iter().for_each(Listener::register);
        for irql in [0, 1, 2] {
            machine.set_context(irql, true);
            for (what, entering) in [(0, 0), (1, 1), (3, 7), (usize::MAX, 0)] {
                machine.power(what, entering);
            }
            for entering in [0, 1, 0, 1] {
                machine.power(STATE_LOCK, entering);
            }
            machine.set_context(0, true);
            for listener in &listeners {
                // All of it is there when the kernel's callback has returned.
                assert_eq!(listener.take(), [SUSPEND, RESUME, SUSPEND, RESUME].map(|event| (event, irql)));
            }
        }
        assert!(listeners.iter().all(|listener| listener.deregister() == 0));
        machine.power(STATE_LOCK, 0);
        assert!(listeners.iter().all(|listener| listener.take().is_empty()));
    });
}

#[test]
fn a_listener_that_leaves_while_it_listens_keeps_nobody_from_hearing() {
    with_driver(|machine, _| {
        let leaves = Listener { leaves: true, ..Listener::default() };
        let [before, after] = [(); 2].map(|()| Listener::default());
        [&before, &leaves, &after].into_iter().for_each(Listener::register);
        machine.power(STATE_LOCK, 0);
        machine.power(STATE_LOCK, 1);
        assert_eq!(leaves.take(), [(SUSPEND, 0)]);
        for listener in [&before, &after] {
            assert_eq!(listener.take(), [(SUSPEND, 0), (RESUME, 0)]);
            assert_eq!(listener.deregister(), 0);
        }
    });
}

#[test]
fn what_can_not_be_done_at_dispatch_is_done_later_and_unloading_waits_for_it() {
    let work_delay = std::time::Duration::from_millis(100);
    let machine = Machine::new(Config { work_delay, ..Config::default() });
    let driver = machine.load().unwrap();
    machine.power(STATE_LOCK, 0);
    machine.power(STATE_LOCK, 1);
    assert_eq!(machine.work_done(), 0, "PASSIVE needs nobody else");
    machine.set_context(2, true);
    for entering in [0, 1, 0, 1] {
        machine.power(STATE_LOCK, entering);
    }
    machine.set_context(0, true);
    assert_eq!(machine.work_done(), 0, "the thread doesn't run yet");
    driver.unload();
    assert_eq!(machine.work_done(), 1, "two resumes, and one restart behind both");
    assert_clean(&machine);
}
