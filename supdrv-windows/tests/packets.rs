//! Requests that no honest client makes: sizes, methods, buffers and callers that are wrong; and the end of a driver that is in use.

use supdrv_core::abi::idc::{CONNECT_MAGIC, ConnectIn, IDC_VERSION, IdcRequest};
use supdrv_core::abi::ioctl::{Encoding, Function, IOCTL_FLAG};
use supdrv_windows::fake::{Account, Config, File, Loaded, Machine};
use supdrv_windows::nt::{KERNEL_MODE, NtStatus, USER_MODE, major};
use zerocopy::{FromZeros, IntoBytes};

const SYS: &str = "VBoxDrv";
const USR: &str = "VBoxDrvU";
const IDC: usize = major::INTERNAL_DEVICE_CONTROL;
/// A CONNECT packet.
const BYTES: u32 = 40;

fn with_driver(test: impl FnOnce(&Machine, &Loaded)) {
    let machine = Machine::new(Config::default());
    let driver = machine.load().unwrap();
    test(&machine, &driver);
    driver.unload();
    assert_eq!(machine.account(Account::left), "");
}

fn code(request: IdcRequest) -> u32 {
    request.code(Encoding::Windows)
}

fn connect_packet() -> Vec<u8> {
    let mut packet = ConnectIn::new_zeroed();
    packet.hdr.bytes = BYTES;
    packet.magic = CONNECT_MAGIC;
    packet.wanted_version = IDC_VERSION;
    packet.min_version = IDC_VERSION;
    let mut bytes = packet.as_bytes().to_vec();
    bytes.resize(BYTES as usize, 0);
    bytes
}

fn session_of(packet: &[u8]) -> usize {
    usize::from_le_bytes(packet[8..16].try_into().unwrap())
}

/// Connects with a buffer that many bytes behind an aligned address; the session.
fn connect(file: &File, shift: usize) -> Result<usize, NtStatus> {
    let mut packet = connect_packet();
    let back = file.control_at(IDC, code(IdcRequest::Connect), &mut packet, BYTES, BYTES, shift)?;
    assert_eq!((back, &packet[4..8]), (BYTES as usize, &[0; 4][..]));
    Ok(session_of(&packet))
}

/// A request of nothing but a header, and what it needs behind that.
fn request(file: &File, request: IdcRequest, session: usize, shift: usize) -> Result<usize, NtStatus> {
    let mut packet = vec![0; request.packet_bytes()];
    let bytes = packet.len() as u32;
    packet[0..4].copy_from_slice(&bytes.to_le_bytes());
    packet[8..16].copy_from_slice(&session.to_le_bytes());
    file.control_at(IDC, code(request), &mut packet, bytes, bytes, shift)
}

fn sibling(driver: &Loaded) -> File {
    driver.open_as(SYS, KERNEL_MODE, 0, "").unwrap()
}

#[test]
fn a_sibling_s_packet_has_the_size_that_it_says_in_both_directions() {
    with_driver(|_, driver| {
        let file = sibling(driver);
        for (told, input, output) in [
            (BYTES + 1, BYTES, BYTES),
            (BYTES, BYTES + 1, BYTES),
            (BYTES, BYTES, BYTES + 1),
            (BYTES, BYTES, 0),
            (BYTES, BYTES - 1, BYTES),
            (0, BYTES, BYTES),
            (u32::MAX, BYTES, BYTES),
            // As told, but not what the request has.
            (BYTES + 1, BYTES + 1, BYTES + 1),
            (16, 16, 16),
        ] {
            let mut packet = connect_packet();
            packet.resize(BYTES as usize + 8, 0);
            packet[0..4].copy_from_slice(&told.to_le_bytes());
            let before = packet.clone();
            let result = file.control_by(IDC, code(IdcRequest::Connect), &mut packet, input, output);
            assert_eq!(result, Err(NtStatus::INVALID_PARAMETER), "{told} {input} {output}");
            assert_eq!(packet, before, "nothing comes back");
        }
        for short in 0..16_u32 {
            let mut packet = connect_packet();
            packet[0..4].copy_from_slice(&short.to_le_bytes());
            let result = file.control_by(IDC, code(IdcRequest::Connect), &mut packet, short, short);
            assert_eq!(result, Err(NtStatus::INVALID_PARAMETER), "{short} bytes");
        }
        let session = connect(&file, 0).expect("nobody is connected by any of these");
        let disconnect = code(IdcRequest::Disconnect);
        let result = file.control_by(IDC, disconnect, &mut connect_packet(), BYTES, BYTES);
        assert_eq!(result, Err(NtStatus::INVALID_PARAMETER), "no session in the header");
        assert!(request(&file, IdcRequest::GetSymbol, session, 0).is_ok(), "it is still connected");
    });
}

#[test]
fn a_sibling_s_packet_is_buffered_and_there() {
    with_driver(|_, driver| {
        let file = sibling(driver);
        for method in 1..=3 {
            let result =
                file.control_by(IDC, code(IdcRequest::Connect) | method, &mut connect_packet(), BYTES, BYTES);
            assert_eq!(result, Err(NtStatus::NOT_SUPPORTED), "method {method}");
        }
        for (input, output) in [(0, 0), (BYTES, 0), (0, BYTES), (BYTES, BYTES), (u32::MAX, u32::MAX)] {
            let result = file.control_with(IDC, code(IdcRequest::Connect), None, input, output);
            assert_eq!(result, Err(NtStatus::INVALID_PARAMETER), "no buffer for {input} and {output} bytes");
        }
        let session = connect(&file, 0).unwrap();
        let unknown = code(IdcRequest::GetSymbol) + (0x40 << 2);
        let mut packet = connect_packet();
        packet[8..16].copy_from_slice(&session.to_le_bytes());
        let result = file.control_by(IDC, unknown, &mut packet, BYTES, BYTES);
        assert_eq!(result, Err(NtStatus::INVALID_PARAMETER), "an unknown request");
    });
}

#[test]
fn a_sibling_s_packet_may_be_at_any_address() {
    with_driver(|_, driver| {
        for shift in 0..8 {
            let file = sibling(driver);
            let session = connect(&file, shift).unwrap();
            assert_ne!(session, 0, "{shift}");
            assert!(request(&file, IdcRequest::GetSymbol, session, shift).is_ok(), "{shift}");
            assert!(request(&file, IdcRequest::Disconnect, session, shift).is_ok(), "{shift}");
        }
    });
}

#[test]
fn only_the_kernel_is_a_sibling_and_only_of_the_unrestricted_device() {
    with_driver(|_, driver| {
        for (name, mode) in [(SYS, USER_MODE), (USR, USER_MODE)] {
            let file = driver.open_as(name, mode, 0, "").unwrap();
            for wanted in [IdcRequest::Connect, IdcRequest::GetSymbol, IdcRequest::Disconnect] {
                let result = file.control_by(IDC, code(wanted), &mut connect_packet(), BYTES, BYTES);
                assert_eq!(result, Err(NtStatus::NOT_SUPPORTED), "{name}");
            }
            assert_eq!(connect(&file, 1), Err(NtStatus::NOT_SUPPORTED));
        }
        // A sibling has no session of a client's.
        let file = sibling(driver);
        connect(&file, 0).unwrap();
        let cookie = Encoding::Windows.code(Function::Cookie, 0, IOCTL_FLAG);
        let result = file.control(cookie, &mut [0; 56], 48, 56);
        assert_eq!(result, Err(NtStatus::INVALID_PARAMETER));
    });
}

#[test]
fn a_client_s_buffer_that_is_not_there_is_not_read() {
    with_driver(|machine, driver| {
        let fast = Encoding::Windows.code(Function::FastDoNop, 0, IOCTL_FLAG);
        let cookie = Encoding::Windows.code(Function::Cookie, 0, IOCTL_FLAG);
        for name in [SYS, USR] {
            let file = driver.open(name).unwrap();
            for (input, output) in [
                (0, 0),
                (48, 56),
                (24, 24),
                (0, 56),
                (48, 0),
                (24, u32::MAX),
                (u32::MAX, 24),
                (u32::MAX, u32::MAX),
            ] {
                let result = file.control_with(major::DEVICE_CONTROL, cookie, None, input, output);
                assert_eq!(result, Err(NtStatus::INVALID_PARAMETER), "{name}: {input} and {output} bytes");
            }
            // A fast call's address is a number, whatever it is.
            for address in [0, 1, 0xdead_beef, usize::MAX, 0xffff_8000_0000_0000] {
                let expected =
                    if name == SYS { NtStatus::INVALID_PARAMETER } else { NtStatus::NOT_SUPPORTED };
                assert_eq!(file.fast(fast, address), Err(expected), "{name}: {address:#x}");
            }
        }
        assert_eq!(machine.context(), (0, true));
    });
}

#[test]
fn a_driver_in_use_stops_with_its_last_file_and_nobody_opens_it_meanwhile() {
    let machine = Machine::new(Config::default());
    let driver = machine.load().unwrap();
    let (client, sibling) = (driver.open(SYS).unwrap(), sibling(&driver));
    let session = connect(&sibling, 0).unwrap();
    assert!(!driver.stop(), "it is in use");
    for (name, mode) in [(SYS, USER_MODE), (USR, USER_MODE), (SYS, KERNEL_MODE)] {
        assert_eq!(driver.open_as(name, mode, 0, "").map(drop), Err(NtStatus::NO_SUCH_DEVICE));
    }
    assert!(request(&sibling, IdcRequest::GetSymbol, session, 0).is_ok(), "who has it goes on using it");
    drop(client);
    assert_eq!(machine.account(|account| account.devices.len()), 2, "a sibling keeps it loaded");
    drop(sibling);
    assert_eq!(machine.account(Account::left), "");
}
