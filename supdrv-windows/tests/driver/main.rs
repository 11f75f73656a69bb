//! The driver's entry points on the fake kernel.

mod images;
mod physical;
mod power;
mod processors;
mod waits;

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
