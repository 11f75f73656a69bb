//! The driver's life and its requests, on a fake kernel.
#![cfg(target_os = "linux")]
#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "addresses that the driver handed out, and its entry for siblings with good packets"
)]

mod fake;

use std::ffi::c_void;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use fake::calls::Fd;
use fake::shell::{
    self, DONE, GENERAL_FAILURE, Ioctl, QUIET_INIT_FAILURE, UNKNOWN_COMMAND, packet, supdrv_os2_idc,
};
use fake::{Calls, boot, machine, tick};
use fakekernel::context::Process;
use fakekernel::ram::PAGE;
use fakekernel::suite::{self, client, loaded, open, root, sessions, unload, vt_caps};
use supctl::client::Client;
use supctl::packet::Packet;
use supdrv_core::abi::idc::{GetSymbolIn, GetSymbolOut, IdcRequest};
use supdrv_core::abi::ioctl::{Encoding, Function};
use supdrv_core::abi::published::SessionView;
use supdrv_core::abi::requests::HEADER_BYTES;
use supdrv_core::os::OsLog;
use supdrv_os2::Os2;
use zerocopy::{FromBytes, FromZeros, IntoBytes};

fakekernel::shim_suite!(Calls; common);

/// A session without the system file number's own life.
fn open_number(process: &Arc<Process>, number: u16) {
    assert_eq!(shell::open(process, number), DONE);
}

/// An ordinary request of a process: the status, and the lengths afterwards.
fn send(process: &Arc<Process>, number: u16, packet: &mut Packet) -> (u16, u16, u16) {
    let function = u8::try_from(packet.code()).expect("a function number");
    Ioctl::ordinary(function, packet.bytes_mut().as_mut_ptr() as usize).send(process, number)
}

// ---- initialisation ----

#[test]
fn the_first_open_initialises_and_says_so_once() {
    let kernel = boot();
    assert_eq!(kernel.load(), 0);
    assert_eq!(shell::message(), "VBoxDrv.sys: ready, CPUs: 1\r\n");
    assert!(tick::is_armed());
    open_number(&root(), 70);
    assert_eq!(sessions::<Calls>(), 1);
    // A machine that goes off asks nobody; for the test, somebody closes.
    assert_eq!(kernel.unload(), 16);
    let process = root();
    open_number(&process, 70);
    assert_eq!(shell::close(&process, 70), DONE);
    unload::<Calls>(kernel);
}

#[test]
fn a_failed_initialisation_says_why_and_leaves_nothing() {
    let kernel = boot();
    for (what, message) in [
        ("a heap block", "VBoxDrv.sys: not loaded, status -8\r\n"),
        ("SetTimer", "VBoxDrv.sys: not loaded, status -37\r\n"),
    ] {
        machine().faults.fail_nth_of(what, 1);
        assert_eq!(kernel.load(), i32::from(QUIET_INIT_FAILURE));
        assert_eq!(machine().faults.stop(), Some(what));
        assert_eq!(shell::message(), message);
        assert_eq!(kernel.leftovers(), []);
        assert!(!tick::is_armed());
    }
}

// ---- open and close ----

#[test]
fn a_close_ends_the_session_of_its_file_only() {
    let kernel = loaded::<Calls>();
    let process = root();
    open_number(&process, 5);
    open_number(&process, 6);
    assert_eq!(sessions::<Calls>(), 2);
    assert_eq!(shell::close(&process, 5), DONE);
    assert_eq!(sessions::<Calls>(), 1);
    assert_eq!(send(&process, 5, &mut vt_caps::<Calls>()).0, GENERAL_FAILURE);
    assert_eq!(send(&process, 6, &mut vt_caps::<Calls>()), (DONE, 24, 0));
    assert_eq!(shell::close(&process, 6), DONE);
    // There is nothing left to close.
    assert_eq!(shell::close(&process, 6), DONE);
    unload::<Calls>(kernel);
}

#[test]
fn files_whose_numbers_are_alike_have_sessions_of_their_own() {
    let kernel = loaded::<Calls>();
    let processes = [root(), root()];
    open_number(&processes[0], 5);
    open_number(&processes[1], 24);
    let sessions = [(0, 5), (1, 24)].map(|(index, number): (usize, u16)| {
        let fd = Fd { process: processes[index].clone(), number };
        let device = fakekernel::nodes::Nodes::<Calls>::device(fd, processes[index].clone());
        Client::with_device(device, Encoding::Os2).expect("a session")
    });
    for (client, process) in sessions.iter().zip(&processes) {
        let view = unsafe { &*(client.session().session as *const SessionView) };
        assert_eq!(view.process.load(Ordering::Relaxed), process.pid);
    }
    drop(sessions);
    unload::<Calls>(kernel);
}

#[test]
fn a_file_belongs_to_the_process_that_opened_it() {
    let kernel = loaded::<Calls>();
    let (owner, other) = (root(), root());
    open_number(&owner, 5);
    assert_eq!(send(&other, 5, &mut vt_caps::<Calls>()).0, GENERAL_FAILURE);
    let nop = Ioctl { category: 0xc1, parameter_bytes: 0, ..Ioctl::ordinary(0x42, 0) };
    assert_eq!(nop.send(&other, 5).0, GENERAL_FAILURE);
    assert_eq!(shell::close(&other, 5), DONE);
    assert_eq!(sessions::<Calls>(), 1, "a close of somebody else changes nothing");
    assert_eq!(send(&owner, 5, &mut vt_caps::<Calls>()).0, DONE);
    assert_eq!(shell::close(&owner, 5), DONE);
    unload::<Calls>(kernel);
}

#[test]
fn a_number_that_is_used_again_after_a_close_that_was_lost_is_a_new_session() {
    let kernel = loaded::<Calls>();
    let (first, second) = (root(), root());
    open_number(&first, 5);
    open_number(&second, 5);
    assert_eq!(sessions::<Calls>(), 1);
    assert_eq!(send(&first, 5, &mut vt_caps::<Calls>()).0, GENERAL_FAILURE);
    assert_eq!(send(&second, 5, &mut vt_caps::<Calls>()).0, DONE);
    assert_eq!(shell::close(&second, 5), DONE);
    unload::<Calls>(kernel);
}

#[test]
fn an_open_that_finds_no_memory_fails_and_leaves_the_old_session() {
    let kernel = loaded::<Calls>();
    let process = root();
    open_number(&process, 5);
    for nth in 1.. {
        machine().faults.fail_nth_of("a heap block", nth);
        let status = shell::open(&process, 5);
        if machine().faults.stop().is_none() {
            assert_eq!(status, DONE);
            break;
        }
        assert_eq!((status, sessions::<Calls>()), (GENERAL_FAILURE, 1));
    }
    assert_eq!(sessions::<Calls>(), 1);
    assert_eq!(shell::close(&process, 5), DONE);
    unload::<Calls>(kernel);
}

// ---- ioctls ----

#[test]
fn an_ordinary_ioctl_has_a_header_as_its_parameter_and_no_data() {
    let kernel = loaded::<Calls>();
    let process = root();
    open_number(&process, 5);
    let mut cookie = vt_caps::<Calls>();
    let good = Ioctl::ordinary(cookie.code() as u8, cookie.bytes_mut().as_mut_ptr() as usize);
    for parameter_bytes in [0, 23, 25, 28] {
        assert_eq!(Ioctl { parameter_bytes, ..good }.send(&process, 5).0, GENERAL_FAILURE);
    }
    assert_eq!(Ioctl { data: good.parameter, ..good }.send(&process, 5).0, GENERAL_FAILURE);
    assert_eq!(Ioctl { parameter: 0, ..good }.send(&process, 5).0, GENERAL_FAILURE);
    for category in [0x00, 0xbf, 0xc2] {
        assert_eq!(Ioctl { category, ..good }.send(&process, 5).0, UNKNOWN_COMMAND);
    }
    // Whatever the kernel says about data that isn't there.
    assert_eq!(Ioctl { data_bytes: 77, ..good }.send(&process, 5), (DONE, 24, 0));
    machine().faults.fail_nth_of("VirtToLin", 1);
    assert_eq!(good.send(&process, 5).0, GENERAL_FAILURE);
    assert_eq!(machine().faults.stop(), Some("VirtToLin"));
    assert_eq!(shell::close(&process, 5), DONE);
    unload::<Calls>(kernel);
}

#[test]
fn the_function_numbers_are_the_codes() {
    let kernel = loaded::<Calls>();
    let process = root();
    let fd = open::<Calls>(&process);
    // The handshake is function 1 of the ordinary category, and a fast one isn't in there.
    assert_eq!(Encoding::Os2.code(Function::Cookie, 48, 0x80), 1);
    let client = Client::open(
        &fakekernel::nodes::Nodes::<Calls>::new(process.clone()),
        supctl::transport::Node::Unrestricted,
    );
    assert!(client.is_ok());
    let mut packet = vt_caps::<Calls>();
    let address = packet.bytes_mut().as_mut_ptr() as usize;
    for function in [0, 0x24, 0x40, 0x42, 0x81, 0xff] {
        let status = Ioctl::ordinary(function, address).send(&process, fd.number).0;
        assert_eq!(status, GENERAL_FAILURE, "{function:#x}");
    }
    drop((fd, client));
    unload::<Calls>(kernel);
}

#[test]
fn packets_that_are_too_large_are_refused_before_anything_is_allocated() {
    let kernel = loaded::<Calls>();
    let process = root();
    open_number(&process, 5);
    let mut packet = suite::query_funcs::<Calls>(HEADER_BYTES);
    packet.header_mut().out_bytes = 0x100_0001;
    assert_eq!(send(&process, 5, &mut packet).0, GENERAL_FAILURE);
    packet.header_mut().out_bytes = 0x100_0000;
    machine().faults.fail_nth_of("a heap block", 1);
    assert_eq!(send(&process, 5, &mut packet).0, GENERAL_FAILURE);
    assert_eq!(machine().faults.stop(), Some("a heap block"), "the largest packet has a buffer");
    assert_eq!(shell::close(&process, 5), DONE);
    unload::<Calls>(kernel);
}

#[test]
fn fast_requests_take_no_packet_or_the_number_of_a_cpu() {
    let kernel = loaded::<Calls>();
    let process = root();
    open_number(&process, 5);
    let cpu_id = 3_u64;
    let nop = Ioctl { category: 0xc1, parameter_bytes: 0, ..Ioctl::ordinary(0x42, 0) };
    // Without a VM there is nothing to run.
    for function in 0x3f..=0x43 {
        assert_eq!(Ioctl { function, ..nop }.send(&process, 5).0, GENERAL_FAILURE);
    }
    let copies = |request: Ioctl| {
        machine().faults.fail_nth_of("KernCopyIn", 1);
        assert_eq!(request.send(&process, 5).0, GENERAL_FAILURE);
        machine().faults.stop().is_some()
    };
    let parameter = (&raw const cpu_id) as usize;
    assert!(!copies(nop) && copies(Ioctl { parameter, parameter_bytes: 4, ..nop }));
    // Others aren't even looked at.
    assert!(!copies(Ioctl { parameter, parameter_bytes: 5, ..nop }));
    assert!(!copies(Ioctl { parameter, parameter_bytes: 4, data: parameter, ..nop }));
    assert_eq!(shell::close(&process, 5), DONE);
    unload::<Calls>(kernel);
}

#[test]
fn a_thousand_ioctls_later_the_session_has_one_reference() {
    let kernel = loaded::<Calls>();
    let client = client::<Calls>(&root());
    let view = unsafe { &*(client.session().session as *const SessionView) };
    for _ in 0..500 {
        client.paging_mode().expect("a mode");
        assert!(client.msr_read(0xffff_ffff).is_err());
    }
    assert_eq!(view.refs.load(Ordering::Relaxed), 1);
    drop(client);
    unload::<Calls>(kernel);
}

// ---- others ----

#[test]
fn commands_that_are_not_for_this_device_are_unknown() {
    let kernel = loaded::<Calls>();
    let process = root();
    for command in [0x00, 0x05, 0x06, 0x08, 0x09, 0x0a, 0x1f, 0xff] {
        assert_eq!(shell::strategy(&process, &mut packet(command, &[&[0; 20]])), UNKNOWN_COMMAND);
    }
    // Too short for its command, or for what it says.
    assert_eq!(shell::strategy(&process, &mut packet(0x0d, &[&[5]])), UNKNOWN_COMMAND);
    let mut open = packet(0x0d, &[&[5, 0]]);
    open[0] = 0x0e;
    assert_eq!(shell::strategy(&process, &mut open), UNKNOWN_COMMAND);
    assert_eq!(sessions::<Calls>(), 0);
    unload::<Calls>(kernel);
}

#[test]
fn a_read_gives_out_what_there_is_of_the_log() {
    let kernel = loaded::<Calls>();
    let process = root();
    let page = machine().ram.alloc(1, u32::MAX.into(), PAGE as u64).expect("a page");
    let phys = page as u32;
    while shell::read(&process, phys, 4096) != (DONE, 0) {}
    let line = [b'x'; 39];
    Os2.log_write(&line);
    machine().ram.fill(page, 0xa5);
    assert_eq!(shell::read(&process, phys, 100), (DONE, 40));
    let mut text = [0; 41];
    machine().ram.read(page, &mut text);
    assert_eq!((&text[..39], text[39], text[40]), (&line[..], b'\n', 0xa5));
    assert_eq!(shell::read(&process, phys, 100), (DONE, 0));
    assert_eq!(shell::read(&process, 0xffff_0000, 100), (DONE, 0), "nothing is copied");
    Os2.log_write(b"lost");
    assert_eq!(shell::read(&process, 0xffff_0000, 100).0, GENERAL_FAILURE);
    machine().ram.free(page, 1);
    unload::<Calls>(kernel);
}

#[test]
fn a_log_that_wraps_is_never_read_beyond_what_was_asked_for() {
    let kernel = loaded::<Calls>();
    let process = root();
    let pages = machine().ram.alloc(5, u32::MAX.into(), PAGE as u64).expect("pages");
    let phys = pages as u32;
    while shell::read(&process, phys, 4096) != (DONE, 0) {}
    let mut expected = Vec::new();
    let mut got = Vec::new();
    for round in 0..2000_u32 {
        let line = format!("line {round} {}", "y".repeat((round % 50) as usize));
        Os2.log_write(line.as_bytes());
        expected.extend(line.bytes().chain([b'\n']));
        if round % 5 == 4 {
            let asked = 100 + (round % 400) as u16;
            machine().ram.fill(pages, 0xa5);
            let (status, count) = shell::read(&process, phys, asked);
            assert!(status == DONE && count <= asked);
            let mut text = vec![0; usize::from(count) + 1];
            machine().ram.read(pages, &mut text);
            assert_eq!(text.pop(), Some(0xa5));
            got.extend(text);
        }
    }
    while got.len() < expected.len() {
        let (_, count) = shell::read(&process, phys, 4096);
        let mut text = vec![0; usize::from(count)];
        machine().ram.read(pages, &mut text);
        got.extend(text);
        if count == 0 {
            break;
        }
    }
    assert!(expected.starts_with(&got[..100]) && got.len() <= expected.len());
    machine().ram.free(pages, 5);
    unload::<Calls>(kernel);
}

#[test]
fn a_full_log_drops_what_comes_and_keeps_what_was() {
    let kernel = loaded::<Calls>();
    let process = root();
    let pages = machine().ram.alloc(5, u32::MAX.into(), PAGE as u64).expect("pages");
    while shell::read(&process, pages as u32, 4096) != (DONE, 0) {}
    Os2.log_write(b"first");
    (0..1000).for_each(|_| Os2.log_write(&[b'z'; 99]));
    // One byte of the ring stays empty.
    assert_eq!(shell::read(&process, pages as u32, u16::MAX), (DONE, 16383));
    let mut text = [0; 6];
    machine().ram.read(pages, &mut text);
    assert_eq!(&text, b"first\n");
    Os2.log_write(b"again");
    assert_eq!(shell::read(&process, pages as u32, u16::MAX), (DONE, 6));
    machine().ram.free(pages, 5);
    unload::<Calls>(kernel);
}

static POWER_EVENTS: AtomicU32 = AtomicU32::new(0);

unsafe extern "C" fn power_event(event: u32, _user: *mut c_void) {
    POWER_EVENTS.fetch_add(event, Ordering::Relaxed);
}

type PowerRegistration = unsafe extern "C" fn(unsafe extern "C" fn(u32, *mut c_void), *mut c_void) -> i32;

#[test]
fn modules_hear_of_the_shutdown_of_the_machine() {
    let kernel = loaded::<Calls>();
    let registration = |name: &[u8]| -> PowerRegistration {
        unsafe { core::mem::transmute(supdrv_os2::function(name).expect("a function")) }
    };
    let (register, deregister) =
        (registration(b"RTPowerNotificationRegister"), registration(b"RTPowerNotificationDeregister"));
    assert_eq!(unsafe { register(power_event, core::ptr::null_mut()) }, 0);
    assert_eq!(shell::strategy(&root(), &mut packet(0x1c, &[])), DONE);
    assert_eq!(POWER_EVENTS.load(Ordering::Relaxed), 1);
    assert_eq!(unsafe { deregister(power_event, core::ptr::null_mut()) }, 0);
    unload::<Calls>(kernel);
}

// ---- siblings ----

#[test]
fn a_sibling_gets_the_symbols_of_the_driver_with_its_session_only() {
    const VERR_INVALID_PARAMETER: i32 = -2;
    let kernel = loaded::<Calls>();
    let sibling = suite::life::connect_sibling::<Calls>();
    let mut ask = GetSymbolIn::new_zeroed();
    (ask.hdr, ask.symbol) = (sibling, c"RTSemEventCreate".as_ptr() as usize);
    ask.hdr.bytes = size_of::<GetSymbolIn>() as u32;
    let code = IdcRequest::GetSymbol.code(Encoding::Os2);
    assert_eq!(code, 0xc0ff_ee03);
    let mut stranger = ask;
    let packet = ask.as_mut_bytes();
    assert_eq!(unsafe { supdrv_os2_idc(code, packet.as_mut_ptr().cast()) }, 0);
    let answer = GetSymbolOut::read_from_bytes(packet).expect("an answer");
    assert_eq!((answer.hdr.rc, Some(answer.address)), (0, supdrv_os2::function(b"RTSemEventCreate")));
    stranger.hdr.session = 0;
    let refused = unsafe { supdrv_os2_idc(code, stranger.as_mut_bytes().as_mut_ptr().cast()) };
    assert_eq!(refused, VERR_INVALID_PARAMETER);
    suite::life::disconnect_sibling::<Calls>(sibling);
    unload::<Calls>(kernel);
}
