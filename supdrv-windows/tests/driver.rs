//! The driver's entry points on the fake kernel.

use supdrv_core::abi::idc::{CONNECT_MAGIC, ConnectIn, IDC_VERSION, IdcRequest};
use supdrv_core::abi::ioctl::{COOKIE_MAGIC, Encoding, Function, INITIAL_COOKIE, IOCTL_FLAG};
use supdrv_core::abi::requests::{CookieIn, CookieOut, RequestHeader, SemOp2In, SemOp3In, SemOp3Out};
use supdrv_windows::fake::{Config, File, Loaded, Machine};
use supdrv_windows::nt::{KERNEL_MODE, NtStatus, USER_MODE, major};
use supdrv_windows::{pe, security};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

const SYS: &str = "VBoxDrv";
const USR: &str = "VBoxDrvU";

fn machine() -> Machine {
    Machine::new(Config::default())
}

fn emulated() -> Machine {
    Machine::new(Config { emulated: true, ..Config::default() })
}

fn assert_clean(machine: &Machine) {
    assert_eq!(machine.account(supdrv_windows::fake::Account::left), "");
    assert_eq!(machine.context(), (0, true));
}

fn cookie() -> Vec<u8> {
    let mut packet = CookieIn::new_zeroed();
    packet.hdr.cookie = INITIAL_COOKIE;
    packet.hdr.in_bytes = size_of::<CookieIn>() as u32;
    packet.hdr.out_bytes = size_of::<CookieOut>() as u32;
    packet.hdr.flags = 0x4200_0042;
    packet.hdr.rc = -225;
    packet.magic = COOKIE_MAGIC;
    packet.requested_version = 0x001a_0007;
    packet.min_version = 0x001a_0000;
    let mut bytes = packet.as_bytes().to_vec();
    bytes.resize(size_of::<CookieOut>(), 0xcc);
    bytes
}

fn code(function: Function) -> u32 {
    Encoding::Windows.code(function, 0, IOCTL_FLAG)
}

fn shake_hands(file: &File) -> Result<CookieOut, NtStatus> {
    let mut packet = cookie();
    let back = file.control(code(Function::Cookie), &mut packet, 48, 56)?;
    assert_eq!(back, 56);
    Ok(CookieOut::read_from_bytes(&packet).unwrap())
}

fn with_driver(test: impl FnOnce(&Machine, &Loaded)) {
    let machine = machine();
    let driver = machine.load().unwrap();
    test(&machine, &driver);
    driver.unload();
    assert_clean(&machine);
}

#[test]
fn loading_makes_both_devices_with_links_and_unloading_leaves_nothing() {
    let machine = machine();
    for _ in 0..20 {
        let driver = machine.load().unwrap();
        machine.account(|account| {
            assert_eq!(
                account.devices.keys().collect::<Vec<_>>(),
                ["\\Device\\VBoxDrv", "\\Device\\VBoxDrvU"]
            );
            assert_eq!(account.links.len(), 2);
            assert!(account.process_notify.is_some() && account.callbacks.len() == 1);
        });
        driver.unload();
        assert_clean(&machine);
    }
}

#[test]
fn a_second_copy_does_not_load_and_leaves_the_first_alone() {
    with_driver(|machine, driver| {
        assert_eq!(machine.load().err(), Some(NtStatus::OBJECT_NAME_COLLISION));
        assert_eq!(shake_hands(&driver.open(SYS).unwrap()).unwrap().hdr.rc, 0);
    });
}

#[test]
fn a_load_that_fails_anywhere_leaves_nothing() {
    for config in [Config::default(), Config { emulated: true, ..Config::default() }] {
        let machine = Machine::new(config);
        machine.fail(0);
        machine.load().unwrap().unload();
        let calls = machine.fallible_calls();
        assert!(calls > 30, "{calls} calls");
        let mut failed = 0;
        for nth in 1..=calls {
            machine.fail(nth.cast_signed());
            match machine.load() {
                // Some steps are optional.
                Ok(driver) => driver.unload(),
                Err(_) => failed += 1,
            }
            machine.fail(0);
            assert_eq!(machine.account(supdrv_windows::fake::Account::left), "", "call {nth} failed");
        }
        assert!(failed > 20, "only {failed} of {calls} failures mattered");
    }
}

#[test]
fn a_kernel_without_any_newer_routine_is_good_enough() {
    let missing =
        supdrv_windows::kernel::LOOKED_UP.iter().copied().filter(|name| *name != "KeFlushQueuedDpcs");
    let machine = Machine::new(Config { missing: missing.collect(), ..Config::default() });
    let driver = machine.load().unwrap();
    assert_eq!(shake_hands(&driver.open(SYS).unwrap()).unwrap().hdr.rc, 0);
    driver.unload();
    assert_clean(&machine);
}

#[test]
fn the_device_decides_whether_a_session_is_restricted() {
    with_driver(|_, driver| {
        for (name, functions) in [(SYS, true), (USR, false)] {
            let file = driver.open(name).unwrap();
            let answer = shake_hands(&file).unwrap();
            assert_eq!((answer.hdr.rc, answer.function_count > 0), (0, functions), "{name}");
        }
    });
}

#[test]
fn opens_of_directories_of_paths_below_and_of_the_kernel() {
    with_driver(|_, driver| {
        let open = |name, mode, options, rest| driver.open_as(name, mode, options, rest).map(drop);
        assert_eq!(open(SYS, USER_MODE, 1, ""), Err(NtStatus::NOT_A_DIRECTORY));
        assert_eq!(open(SYS, USER_MODE, 0x0100_0000, ""), Ok(()), "the disposition isn't an option");
        assert_eq!(open(SYS, USER_MODE, 0, "\\x"), Err(NtStatus::OBJECT_NAME_NOT_FOUND));
        assert_eq!(open(USR, KERNEL_MODE, 0, ""), Err(NtStatus::ACCESS_DENIED));
        assert_eq!(open(SYS, KERNEL_MODE, 0, ""), Ok(()));
    });
}

#[test]
fn an_open_that_fails_anywhere_leaves_nothing() {
    with_driver(|machine, driver| {
        let before = machine.account(|account| account.pool.len());
        machine.fail(0);
        drop(driver.open(SYS).unwrap());
        for nth in 1..=machine.fallible_calls() {
            machine.fail(nth.cast_signed());
            let result = driver.open(SYS).map(drop);
            machine.fail(0);
            assert!(result.is_err(), "call {nth}");
            assert_eq!(machine.account(|account| account.pool.len()), before);
        }
    });
}

#[test]
fn a_close_without_a_cleanup_ends_the_session() {
    with_driver(|_, driver| driver.open(SYS).unwrap().close_only());
}

#[test]
fn requests_after_the_last_handle_is_gone_are_refused() {
    with_driver(|_, driver| {
        let file = driver.open(SYS).unwrap();
        file.cleanup();
        assert_eq!(shake_hands(&file).err(), Some(NtStatus::INVALID_PARAMETER));
        file.cleanup();
    });
}

#[test]
fn reads_are_not_supported() {
    with_driver(|_, driver| assert_eq!(driver.open(SYS).unwrap().read(), Err(NtStatus::NOT_SUPPORTED)));
}

#[test]
fn sizes_that_disagree_with_the_header_are_refused() {
    with_driver(|_, driver| {
        let file = driver.open(SYS).unwrap();
        for (in_bytes, out_bytes) in
            [(0, 0), (23, 56), (48, 23), (47, 56), (49, 56), (48, 57), (48, 0), (0, 56)]
        {
            let mut packet = cookie();
            let before = packet.clone();
            let result = file.control(code(Function::Cookie), &mut packet, in_bytes, out_bytes);
            assert_eq!(result, Err(NtStatus::INVALID_PARAMETER), "{in_bytes} {out_bytes}");
            assert_eq!(packet, before);
        }
        let huge: u32 = (16 << 20) + 1;
        let mut packet = cookie();
        packet[8..12].copy_from_slice(&huge.to_le_bytes());
        assert_eq!(
            file.control(code(Function::Cookie), &mut packet, huge, 56),
            Err(NtStatus::INVALID_PARAMETER)
        );
    });
}

#[test]
fn codes_with_another_method_are_refused() {
    with_driver(|_, driver| {
        let file = driver.open(SYS).unwrap();
        for method in 1..=3 {
            let result = file.control(code(Function::Cookie) | method, &mut cookie(), 48, 56);
            assert_eq!(result, Err(NtStatus::NOT_SUPPORTED));
        }
        let unknown = file.control(0x0022_81fc | 0x8000, &mut cookie(), 48, 56);
        assert_eq!(unknown, Err(NtStatus::INVALID_PARAMETER));
    });
}

#[test]
fn requests_of_32_bit_processes_are_refused() {
    with_driver(|machine, driver| {
        let file = driver.open(SYS).unwrap();
        machine.configure(|config| config.from_32bit = true);
        assert_eq!(shake_hands(&file).err(), Some(NtStatus::NOT_SUPPORTED));
    });
}

#[test]
fn a_fast_call_takes_a_number_for_an_address_and_needs_an_unrestricted_session() {
    with_driver(|_, driver| {
        let nop = code(Function::FastDoNop);
        assert_eq!(nop, 0x0022_830b);
        let file = driver.open(SYS).unwrap();
        // There is no VM, so it fails, but as a fast call.
        assert_eq!(file.fast(nop, 0x1_0000_0003), Err(NtStatus::INVALID_PARAMETER));
        assert_eq!(file.fast_io(nop, 3), Some(NtStatus::INVALID_PARAMETER));
        assert_eq!(file.fast_io(code(Function::Cookie), 0), None);
        let restricted = driver.open(USR).unwrap();
        assert_eq!(restricted.fast(nop, 0), Err(NtStatus::NOT_SUPPORTED));
        assert_eq!(restricted.fast_io(nop, 0), None);
    });
}

#[test]
fn ring_3_can_not_make_internal_requests() {
    with_driver(|_, driver| {
        let file = driver.open(SYS).unwrap();
        let connect = IdcRequest::Connect.code(Encoding::Windows);
        let result = file.control_by(major::INTERNAL_DEVICE_CONTROL, connect, &mut [0; 40], 40, 40);
        assert_eq!(result, Err(NtStatus::NOT_SUPPORTED));
    });
}

fn connect(file: &File) -> Result<(usize, i32), NtStatus> {
    let mut packet = ConnectIn::new_zeroed();
    packet.hdr.bytes = 40;
    packet.magic = CONNECT_MAGIC;
    packet.wanted_version = IDC_VERSION;
    packet.min_version = IDC_VERSION;
    let mut bytes = packet.as_bytes().to_vec();
    let connect = IdcRequest::Connect.code(Encoding::Windows);
    let back = file.control_by(major::INTERNAL_DEVICE_CONTROL, connect, &mut bytes, 40, 40)?;
    assert_eq!(back, 40);
    let rc = i32::from_le_bytes(bytes[4..8].try_into().unwrap());
    Ok((usize::from_le_bytes(bytes[8..16].try_into().unwrap()), rc))
}

fn header(request: IdcRequest, file: &File, session: usize) -> Result<usize, NtStatus> {
    let mut bytes = vec![0; request.packet_bytes()];
    let size = bytes.len() as u32;
    bytes[0..4].copy_from_slice(&size.to_le_bytes());
    bytes[8..16].copy_from_slice(&session.to_le_bytes());
    file.control_by(major::INTERNAL_DEVICE_CONTROL, request.code(Encoding::Windows), &mut bytes, size, size)
}

#[test]
fn a_sibling_connects_once_and_disconnects_once() {
    with_driver(|_, driver| {
        let file = driver.open_as(SYS, KERNEL_MODE, 0, "").unwrap();
        assert_eq!(header(IdcRequest::GetSymbol, &file, 0), Err(NtStatus::NOT_SUPPORTED));
        let (session, rc) = connect(&file).unwrap();
        assert!(session != 0 && rc == 0);
        assert_eq!(connect(&file), Err(NtStatus::NOT_SUPPORTED));
        assert_eq!(header(IdcRequest::GetSymbol, &file, session + 8), Err(NtStatus::INVALID_PARAMETER));
        assert!(header(IdcRequest::GetSymbol, &file, session).is_ok());
        assert!(header(IdcRequest::Disconnect, &file, session).is_ok());
        assert_eq!(header(IdcRequest::Disconnect, &file, session), Err(NtStatus::NOT_SUPPORTED));
        // And again.
        assert_eq!(connect(&file).unwrap().1, 0);
    });
}

#[test]
fn requests_of_a_sibling_that_disconnects_meanwhile_succeed_or_find_no_session() {
    with_driver(|_, driver| {
        let file = driver.open_as(SYS, KERNEL_MODE, 0, "").unwrap();
        for _ in 0..300 {
            let session = connect(&file).unwrap().0;
            let start = std::sync::Barrier::new(6);
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        start.wait();
                        for _ in 0..20 {
                            let result = header(IdcRequest::GetSymbol, &file, session);
                            assert!(matches!(result, Ok(_) | Err(NtStatus::NOT_SUPPORTED)), "{result:?}");
                        }
                    });
                }
                let disconnects = [0, 1].map(|_| {
                    scope.spawn(|| {
                        start.wait();
                        header(IdcRequest::Disconnect, &file, session)
                    })
                });
                let results = disconnects.map(|thread| thread.join().unwrap());
                assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1, "{results:?}");
                assert!(results.contains(&Err(NtStatus::NOT_SUPPORTED)), "{results:?}");
            });
        }
    });
}

#[test]
fn a_sibling_that_forgets_to_disconnect_loses_its_session_with_its_file() {
    with_driver(|_, driver| {
        let file = driver.open_as(SYS, KERNEL_MODE, 0, "").unwrap();
        connect(&file).unwrap();
        file.cleanup();
        assert!(header(IdcRequest::GetSymbol, &file, 0).is_err());
    });
}

#[test]
fn files_of_a_process_end_with_it_although_another_has_a_handle() {
    with_driver(|machine, driver| {
        machine.switch_to(1);
        let file = driver.open(SYS).unwrap();
        let kept = driver.open(SYS).unwrap();
        machine.switch_to(2);
        let other = driver.open(SYS).unwrap();
        machine.switch_to(1);
        machine.process_exits();
        machine.switch_to(2);
        assert!(shake_hands(&file).is_err() && shake_hands(&kept).is_err());
        assert!(shake_hands(&other).is_ok());
    });
}

#[test]
fn both_devices_get_the_default_list_and_administrators_can_have_another() {
    let machine = machine();
    machine.load().unwrap().unload();
    assert_eq!(machine.security(), vec![security::DEFAULT_DESCRIPTOR.to_vec(); 2]);
    let mut own = security::DEFAULT_DESCRIPTOR.to_vec();
    own[32] ^= 1;
    for (value, applied) in [(own.clone(), own.clone()), (vec![1; 60], security::DEFAULT_DESCRIPTOR.to_vec())]
    {
        let machine_state = value.clone();
        machine.configure(|config| config.security = Some(machine_state));
        machine.load().unwrap().unload();
        assert_eq!(machine.security().iter().rev().nth(1), Some(&applied));
        assert_clean(&machine);
    }
}

#[test]
fn descriptors_are_checked_at_every_byte() {
    let good = security::DEFAULT_DESCRIPTOR;
    assert!(security::is_descriptor(&good));
    for length in 0..good.len() {
        assert!(!security::is_descriptor(&good[..length]), "cut at {length}");
    }
    for at in [0, 4, 8, 16, 20, 22, 30, 37] {
        let mut bad = good;
        bad[at] = 0xff;
        assert!(!security::is_descriptor(&bad), "byte {at}");
    }
}

mod power {
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
                    assert_eq!(
                        listener.take(),
                        [SUSPEND, RESUME, SUSPEND, RESUME].map(|event| (event, irql))
                    );
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
}

/// A packet with the session's cookies, as large as its larger half.
fn packet<T: IntoBytes + zerocopy::Immutable>(
    input: &mut T,
    cookies: &CookieOut,
    out_bytes: usize,
) -> Vec<u8> {
    let in_bytes = size_of::<T>();
    let mut bytes = input.as_bytes().to_vec();
    bytes.resize(in_bytes.max(out_bytes), 0);
    let header = RequestHeader {
        cookie: cookies.cookie,
        session_cookie: cookies.session_cookie,
        in_bytes: in_bytes as u32,
        out_bytes: out_bytes as u32,
        flags: 0x4200_0042,
        rc: -225,
    };
    bytes[..24].copy_from_slice(header.as_bytes());
    bytes
}

/// Creates a semaphore.
fn semaphore(file: &File, cookies: &CookieOut) -> u32 {
    let mut request = packet(&mut SemOp3In::new_zeroed(), cookies, size_of::<SemOp3Out>());
    let (input, output) = (size_of::<SemOp3In>() as u32, size_of::<SemOp3Out>() as u32);
    file.control(code(Function::SemOp3), &mut request, input, output).unwrap();
    let reply = SemOp3Out::read_from_prefix(&request).unwrap().0;
    assert_eq!(reply.hdr.rc, 0);
    reply.value
}

/// Does something with it; what the request says.
fn operation(
    file: &File,
    cookies: &CookieOut,
    handle: u32,
    operation: u32,
    arg: u64,
) -> Result<i32, NtStatus> {
    let mut input = SemOp2In { handle, operation, arg, ..SemOp2In::new_zeroed() };
    let mut request = packet(&mut input, cookies, 24);
    file.control(code(Function::SemOp2), &mut request, size_of::<SemOp2In>() as u32, 24)?;
    Ok(RequestHeader::read_from_prefix(&request).unwrap().0.rc)
}

/// Waits for it without limit.
fn wait(file: &File, cookies: &CookieOut, handle: u32) -> Result<i32, NtStatus> {
    operation(file, cookies, handle, 0, u32::MAX.into())
}

#[test]
fn a_wait_ends_when_the_last_handle_goes() {
    const INTERRUPTED: i32 = -39;
    let machine = emulated();
    let driver = machine.load().unwrap();
    let file = driver.open(SYS).unwrap();
    let cookies = shake_hands(&file).unwrap();
    let handles = [semaphore(&file, &cookies), semaphore(&file, &cookies)];
    let (shared, cookies) = (&file, &cookies);
    std::thread::scope(|scope| {
        let waits = handles.map(|handle| scope.spawn(move || wait(shared, cookies, handle)));
        std::thread::sleep(std::time::Duration::from_millis(100));
        assert!(waits.iter().all(|wait| !wait.is_finished()), "nobody signals");
        // A client that is killed: its handles go while its requests are inside.
        file.cleanup();
        for wait in waits {
            assert_eq!(wait.join().unwrap(), Ok(INTERRUPTED));
        }
    });
    assert!(shake_hands(&file).is_err());
    drop(file);
    driver.unload();
    assert_clean(&machine);
}

mod waits {
    use super::*;
    use std::thread::{Scope, ScopedJoinHandle, sleep};
    use std::time::Duration;

    const INTERRUPTED: i32 = -39;
    const TIMEOUT: i32 = -40;
    const SIGNAL: u32 = 3;

    type Wait<'scope> = (ScopedJoinHandle<'scope, Result<i32, NtStatus>>, usize);

    /// Threads that wait for one semaphore, as the kernel knows them.
    fn wait_all<'scope, 'env, const N: usize>(
        scope: &'scope Scope<'scope, 'env>,
        file: &'env File,
        cookies: &'env CookieOut,
        handle: u32,
    ) -> [Wait<'scope>; N] {
        let threads = [(); N].map(|()| {
            let (sender, thread) = std::sync::mpsc::channel();
            let wait = scope.spawn(move || {
                sender.send(Machine::thread()).unwrap();
                wait(file, cookies, handle)
            });
            (wait, thread.recv().unwrap())
        });
        sleep(Duration::from_millis(50));
        assert!(threads.iter().all(|(wait, _)| !wait.is_finished()), "nobody signals");
        threads
    }

    #[test]
    fn of_a_thread_that_is_ended_are_over_and_those_of_others_are_not() {
        with_driver(|machine, driver| {
            let file = driver.open(SYS).unwrap();
            let cookies = shake_hands(&file).unwrap();
            let handle = semaphore(&file, &cookies);
            std::thread::scope(|scope| {
                let [first, second, third] = wait_all(scope, &file, &cookies, handle);
                machine.end_thread(second.1);
                assert_eq!(second.0.join().unwrap(), Ok(INTERRUPTED));
                sleep(Duration::from_millis(50));
                assert!(!first.0.is_finished() && !third.0.is_finished(), "nobody signals");
                // Each signal is for one of them, however fast they come.
                for _ in 0..2 {
                    assert_eq!(operation(&file, &cookies, handle, SIGNAL, 0), Ok(0));
                }
                for (wait, _) in [first, third] {
                    assert_eq!(wait.join().unwrap(), Ok(0));
                }
            });
        });
    }

    #[test]
    fn of_a_killed_client_are_over_and_leave_nothing() {
        with_driver(|machine, driver| {
            let file = driver.open(SYS).unwrap();
            let cookies = shake_hands(&file).unwrap();
            let handle = semaphore(&file, &cookies);
            std::thread::scope(|scope| {
                let waits: [_; 4] = wait_all(scope, &file, &cookies, handle);
                // Its threads end one by one, while its address space and its handles go.
                machine.end_thread(waits[0].1);
                machine.process_exits();
                file.cleanup();
                waits[1..].iter().for_each(|(_, thread)| machine.end_thread(*thread));
                for (wait, _) in waits {
                    assert_eq!(wait.join().unwrap(), Ok(INTERRUPTED));
                }
            });
            assert!(shake_hands(&file).is_err());
        });
    }

    #[test]
    fn go_on_when_another_thread_closes_the_last_handle_and_the_session_ends_after_them() {
        const WAIT_MS: u32 = 0;
        with_driver(|machine, driver| {
            let file = driver.open(SYS).unwrap();
            let cookies = shake_hands(&file).unwrap();
            let handle = semaphore(&file, &cookies);
            std::thread::scope(|scope| {
                let wait = scope.spawn(|| operation(&file, &cookies, handle, WAIT_MS, 200));
                sleep(Duration::from_millis(50));
                file.cleanup();
                let of_session = |machine: &Machine| {
                    machine.account(|account| account.references.values().filter(|count| **count > 0).count())
                };
                let before = of_session(machine);
                assert_eq!(wait.join().unwrap(), Ok(TIMEOUT));
                assert_eq!(of_session(machine) + 1, before, "the session's reference to its process");
            });
        });
    }

    #[test]
    fn that_can_not_be_put_off_for_want_of_memory_fail_and_keep_nobody_waiting() {
        const NO_MEMORY: i32 = -8;
        let machine = emulated();
        let driver = machine.load().unwrap();
        let file = driver.open(SYS).unwrap();
        let cookies = shake_hands(&file).unwrap();
        let handle = semaphore(&file, &cookies);
        // Two blocks and the work item.
        for nth in 1..=3 {
            machine.fail(nth);
            assert_eq!(wait(&file, &cookies, handle), Ok(NO_MEMORY), "call {nth}");
            machine.fail(0);
        }
        assert_eq!(operation(&file, &cookies, handle, SIGNAL, 0), Ok(0));
        assert_eq!(wait(&file, &cookies, handle), Ok(0));
        drop(file);
        driver.unload();
        assert_clean(&machine);
    }
}

#[test]
fn files_are_opened_used_and_closed_by_many_threads_at_once() {
    for config in [Config::default(), Config { emulated: true, ..Config::default() }] {
        let machine = Machine::new(config);
        let driver = machine.load().unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..40 {
                        let file = driver.open(SYS).unwrap();
                        let cookies = shake_hands(&file).unwrap();
                        semaphore(&file, &cookies);
                        let kernel = driver.open_as(SYS, KERNEL_MODE, 0, "").unwrap();
                        assert!(connect(&kernel).is_ok());
                    }
                });
            }
        });
        driver.unload();
        assert_clean(&machine);
    }
}

#[test]
fn an_emulated_kernel_is_served_with_sections() {
    let machine = emulated();
    let driver = machine.load().unwrap();
    machine.account(|account| assert!(account.pages.is_empty() && !account.views.is_empty()));
    assert_eq!(shake_hands(&driver.open(SYS).unwrap()).unwrap().hdr.rc, 0);
    driver.unload();
    assert_clean(&machine);
}

mod images {
    use super::pe::first_difference;

    const IMPORTS: usize = 0x400;
    const LOOKUP: usize = 0x800;

    /// An image with that many imports, each with a lookup table of two entries.
    fn image(imports: usize) -> Vec<u8> {
        let mut image = vec![0_u8; 0x2000];
        let put32 = |image: &mut Vec<u8>, at: usize, value: u32| {
            image[at..at + 4].copy_from_slice(&value.to_le_bytes())
        };
        image[..2].copy_from_slice(b"MZ");
        put32(&mut image, 0x3c, 0x80);
        image[0x80..0x84].copy_from_slice(b"PE\0\0");
        image[0x84..0x86].copy_from_slice(&0x8664_u16.to_le_bytes());
        image[0x98..0x9a].copy_from_slice(&0x20b_u16.to_le_bytes());
        put32(&mut image, 0x98 + 108, 16);
        put32(&mut image, 0x98 + 120, IMPORTS as u32);
        put32(&mut image, 0x98 + 124, ((imports + 1) * 20) as u32);
        for import in 0..imports {
            let table = LOOKUP + import * 24;
            put32(&mut image, IMPORTS + import * 20, table as u32);
            put32(&mut image, IMPORTS + import * 20 + 12, 0x1800);
            image[table] = 1;
            image[table + 8] = 2;
        }
        image
    }

    #[test]
    fn equal_images_have_no_difference() {
        assert_eq!(first_difference(&image(3), &image(3)), None);
        assert_eq!(first_difference(&[1; 8], &[1; 8]), None);
    }

    #[test]
    fn a_byte_of_code_is_a_difference_and_one_of_a_lookup_table_is_not() {
        let mut other = image(16);
        other[LOOKUP + 8] ^= 1;
        assert_eq!(first_difference(&image(16), &other), None);
        other[0x1c00] ^= 1;
        assert_eq!(first_difference(&image(16), &other), Some(0x1c00));
    }

    #[test]
    fn more_than_sixteen_imports_are_too_many() {
        let mut other = image(17);
        other[LOOKUP + 8] ^= 1;
        assert!(first_difference(&image(17), &other).is_some());
    }

    #[test]
    fn headers_that_make_no_sense_are_a_difference() {
        for (at, value) in
            [(0, 0), (0x3f, 0xff), (0x80, 0), (0x84, 0), (0x98, 0), (0x98 + 108, 1), (0x98 + 123, 0xff)]
        {
            let mut loaded = image(1);
            loaded[at] = value;
            let mut bits = loaded.clone();
            bits[LOOKUP + 8] ^= 1;
            assert!(first_difference(&loaded, &bits).is_some(), "byte {at:#x}");
        }
    }

    #[test]
    fn a_wild_header_offset_in_the_uploaded_bits_is_not_followed() {
        let mut bits = image(1);
        bits[0x3c..0x40].copy_from_slice(&0xffff_fff0_u32.to_le_bytes());
        assert_eq!(first_difference(&image(1), &bits), Some(0x3c));
    }
}

mod processors {
    use super::*;
    use std::ffi::c_void;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::{Duration, Instant};

    use supdrv_core::abi::status::{VERR_CPU_NOT_FOUND, VERR_CPU_OFFLINE};
    use supdrv_core::os::{OsCpu, OsModule, OsTimer, TimerSpec, TimerTarget};
    use supdrv_windows::Windows;

    /// How often something ran on each processor.
    struct Seen([AtomicU32; 96]);

    impl Seen {
        const fn new() -> Self {
            Self([const { AtomicU32::new(0) }; 96])
        }

        fn note(&self) {
            self.0[Windows.cpu_id() as usize].fetch_add(1, Ordering::SeqCst);
        }

        fn count(&self, cpu: usize) -> u32 {
            self.0[cpu].load(Ordering::SeqCst)
        }

        fn context(&self) -> *mut c_void {
            std::ptr::from_ref(self).cast_mut().cast()
        }
    }

    unsafe extern "C" fn note(_cpu: u32, seen: *mut c_void) {
        // SAFETY: the tests pass one that outlives the call.
        unsafe { &*seen.cast::<Seen>() }.note();
    }

    unsafe extern "C" fn tick(_timer: *mut c_void, seen: *mut c_void, _tick: u64) {
        // SAFETY: the tests pass one that outlives the timer.
        unsafe { &*seen.cast::<Seen>() }.note();
    }

    fn with_processors(processors: u32, test: impl FnOnce(&Machine)) {
        let machine = Machine::new(Config { processors, ..Config::default() });
        let driver = machine.load().unwrap();
        test(&machine);
        driver.unload();
        assert_clean(&machine);
    }

    #[test]
    fn others_are_interrupted_one_by_one_and_strangers_are_not() {
        with_processors(80, |machine| {
            for _ in 0..2 {
                for cpu in (0..80).chain(0..80) {
                    assert_eq!(Windows.mp_poke(cpu), Ok(()), "{cpu}");
                }
                // The second interrupt is the first one, which is still on its way; the caller's processor needs none.
                assert_eq!(machine.take_interrupts(), Vec::from_iter(1..80));
                machine.run_dpcs();
            }
            assert_eq!(Windows.mp_poke(5_000), Err(VERR_CPU_NOT_FOUND));
            for (irql, interrupts) in [(2, true), (13, true), (2, false)] {
                machine.set_context(irql, interrupts);
                assert_eq!(Windows.mp_poke(70), Ok(()));
                machine.set_context(0, true);
                assert_eq!(machine.take_interrupts(), [70], "at any level");
                machine.run_dpcs();
            }
        });
    }

    #[test]
    fn of_all_groups_are_reached() {
        with_processors(80, |_| {
            let seen = Seen::new();
            assert_eq!((Windows.cpu_present_count(), Windows.cpu_online_set().count()), (80, 80));
            // SAFETY: the worker takes a `Seen`.
            unsafe { Windows.mp_on_all(note, seen.context()) }.unwrap();
            assert!((0..80).all(|cpu| seen.count(cpu) == 1));
            // SAFETY: as above.
            unsafe { Windows.mp_on_cpu(70, note, seen.context()) }.unwrap();
            assert_eq!((seen.count(70), seen.count(6)), (2, 1), "in the second group");
            // SAFETY: as above.
            let (offline, unknown) = unsafe {
                (Windows.mp_on_cpu(81, note, seen.context()), Windows.mp_on_cpu(90, note, seen.context()))
            };
            assert_eq!((offline, unknown), (Err(VERR_CPU_OFFLINE), Err(VERR_CPU_NOT_FOUND)));
        });
    }

    #[test]
    fn that_are_added_get_their_ticks_of_running_timers() {
        with_processors(64, |machine| {
            let seen = Seen::new();
            let until = |cpu: usize, more: u32| {
                let (begin, start) = (seen.count(cpu), Instant::now());
                while seen.count(cpu) < begin + more {
                    assert!(start.elapsed() < Duration::from_secs(20), "no ticks on processor {cpu}");
                    std::thread::sleep(Duration::from_millis(1));
                }
            };
            let spec = TimerSpec {
                target: TimerTarget::All,
                interval_ns: 2_000_000,
                callback: tick,
                context: seen.context(),
            };
            let timer = Windows.timer_create(&spec).unwrap();
            machine.add_processor();
            assert_eq!(seen.count(64), 0, "it doesn't run");
            Windows.timer_start(&timer, 0).unwrap();
            until(0, 3);
            until(64, 3);
            // The first one of the second group was there at the start, this one wasn't.
            machine.add_processor();
            until(65, 3);
            Windows.timer_stop(&timer).unwrap();
            drop(timer);
            machine.add_processor();
        });
    }
}

mod physical {
    use super::*;
    use supdrv_core::abi::status::{VERR_ADDRESS_TOO_BIG, VERR_NO_PHYS_MEMORY, VERR_NOT_SUPPORTED};
    use supdrv_core::os::{CachePolicy, MemProt, OsIdentity, OsMemory, OsModule};
    use supdrv_windows::Windows;

    const PAGE: usize = 0x1000;
    const PROT: MemProt = MemProt::READ.union(MemProt::WRITE);

    fn free(object: <Windows as OsMemory>::MemObj) {
        assert!(Windows.mem_free(object).is_ok());
    }

    #[test]
    fn blocks_and_pages_have_no_mapping_until_they_are_mapped() {
        with_driver(|_, _| {
            for object in [
                Windows.mem_alloc_phys(3 * PAGE, u64::MAX, PAGE).unwrap(),
                Windows.mem_alloc_phys_nc(3 * PAGE, 0xffff_ffff).unwrap(),
            ] {
                assert_eq!((Windows.mem_address(&object), Windows.mem_size(&object)), (0, 3 * PAGE));
                assert!(
                    Windows.mem_page_phys(&object, 2).is_some_and(|phys| phys.is_multiple_of(PAGE as u64))
                );
                let map = Windows.mem_map_kernel(&object, PAGE, PAGE, PROT).unwrap();
                let at = Windows.mem_address(&map) as *mut u8;
                // SAFETY: a mapped page.
                assert!((0..PAGE).all(|byte| unsafe { at.add(byte).read() } == 0));
                assert_eq!(Windows.mem_page_phys(&map, 0), Windows.mem_page_phys(&object, 1));
                free(map);
                free(object);
            }
            assert_eq!(Windows.mem_alloc_phys(PAGE, 0xffff, PAGE).err(), Some(VERR_NO_PHYS_MEMORY));
            assert_eq!(Windows.mem_alloc_phys(PAGE, u64::MAX, 0x20_0000).err(), Some(VERR_NOT_SUPPORTED));
        });
    }

    #[test]
    fn memory_of_a_device_is_entered_and_mapped_into_the_kernel_only() {
        with_driver(|_, _| {
            let object = Windows.mem_enter_phys(0xfee0_0000, 2 * PAGE, CachePolicy::Mmio).unwrap();
            assert_eq!(Windows.mem_page_phys(&object, 1), Some(0xfee0_1000));
            assert_eq!(Windows.mem_page_phys(&object, 2), None);
            let map = Windows.mem_map_kernel(&object, PAGE, PAGE, PROT).unwrap();
            assert_eq!(Windows.mem_page_phys(&map, 0), Some(0xfee0_1000));
            assert_ne!(Windows.mem_address(&map), 0);
            let user = Windows.mem_map_user(&object, PROT, Windows.process_handle());
            assert_eq!(user.err(), Some(VERR_NOT_SUPPORTED));
            free(map);
            free(object);
            let beyond = Windows.mem_enter_phys(1 << 52, PAGE, CachePolicy::Default);
            assert_eq!(beyond.err(), Some(VERR_ADDRESS_TOO_BIG));
        });
    }

    #[test]
    fn an_emulated_kernel_has_none() {
        let machine = emulated();
        let driver = machine.load().unwrap();
        assert_eq!(Windows.mem_alloc_phys(PAGE, u64::MAX, PAGE).err(), Some(VERR_NOT_SUPPORTED));
        assert_eq!(Windows.mem_enter_phys(0, PAGE, CachePolicy::Default).err(), Some(VERR_NOT_SUPPORTED));
        driver.unload();
        assert_clean(&machine);
    }
}

#[test]
fn a_thread_of_a_module_ends_before_the_driver_does() {
    use std::ffi::c_void;
    use std::sync::atomic::{AtomicBool, Ordering};
    use supdrv_core::os::{OsModule, ThreadPriority};
    use supdrv_windows::Windows;

    unsafe extern "C" fn late(ended: *mut c_void) {
        std::thread::sleep(std::time::Duration::from_millis(120));
        // SAFETY: the test's own.
        unsafe { &*ended.cast::<AtomicBool>() }.store(true, Ordering::SeqCst);
    }

    let ended = AtomicBool::new(false);
    let spawn = || {
        let context = std::ptr::from_ref(&ended).cast_mut().cast();
        // SAFETY: the flag outlives the driver, which waits for the thread.
        unsafe { Windows.thread_spawn(late, context, ThreadPriority::Default, c"late") }
    };
    with_driver(|machine, _| {
        // The first allocation, and then the thread itself.
        for nth in 1..=2 {
            machine.fail(nth);
            assert!(spawn().is_err(), "call {nth} failed");
            machine.fail(0);
        }
        spawn().unwrap();
        assert!(!ended.load(Ordering::SeqCst));
    });
    assert!(ended.load(Ordering::SeqCst), "unloading waits");
}

#[test]
fn a_buffer_that_is_not_aligned_as_the_kernel_aligns_them_is_refused() {
    with_driver(|_, driver| {
        let file = driver.open(SYS).unwrap();
        for shift in [1, 2, 3, 5, 6, 7] {
            let (mut packet, code) = (cookie(), code(Function::Cookie));
            let result = file.control_at(major::DEVICE_CONTROL, code, &mut packet, 48, 56, shift);
            assert_eq!(result, Err(NtStatus::INVALID_PARAMETER), "{shift}");
            assert_eq!(packet, cookie(), "nothing comes back");
        }
        assert!(shake_hands(&file).is_ok());
    });
}

#[test]
fn wrong_cookies_and_foreign_handles_change_nothing() {
    const INVALID_HANDLE: i32 = -4;
    let machine = emulated();
    let driver = machine.load().unwrap();
    let (mine, other) = (driver.open(SYS).unwrap(), driver.open(SYS).unwrap());
    let (cookies, others) = (shake_hands(&mine).unwrap(), shake_hands(&other).unwrap());
    let handle = semaphore(&mine, &cookies);
    assert_eq!(wait(&other, &others, handle), Ok(INVALID_HANDLE), "another session's");
    assert_eq!(wait(&mine, &cookies, handle + 1), Ok(INVALID_HANDLE), "nobody's");
    let wrong =
        CookieOut { cookie: cookies.cookie ^ 1, ..CookieOut::read_from_bytes(cookies.as_bytes()).unwrap() };
    assert!(wait(&mine, &wrong, handle).is_err());
    drop((mine, other));
    driver.unload();
    assert_clean(&machine);
}
