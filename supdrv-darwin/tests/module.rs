//! The kernel extension on a fake kernel, through its entry points: start and stop, connections, nodes, requests.
#![cfg(target_os = "linux")]

mod fake;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::Duration;

use fakekernel::context::{Process, in_process};
use fakekernel::nodes::Nodes;
use fakekernel::ram::PAGE;
use fakekernel::suite::{
    NAME, NAME_RESTRICTED, QUERY_FUNCS_BYTES, client, hold_everything, life, loaded, open, query_funcs, root,
    sessions, unload, vt_caps,
};
use supctl::client::{Client, EventType, Vmmr0Call};
use supctl::error::Error;
use supctl::packet::Packet;
use supctl::transport::Refused;
use supdrv_core::abi::idc::{GetSymbolIn, IdcHeader, IdcRequest};
use supdrv_core::abi::ioctl::{COOKIE_MAGIC, Encoding, Function, IOC_VERSION, IOCTL_FLAG, MAX_REQUEST_BYTES};
use supdrv_core::abi::published::SessionView;
use supdrv_core::abi::requests::{self, CallVmmr0In, CookieIn, CookieOut, HEADER_BYTES, Vmmr0RequestHeader};
use supdrv_core::abi::status::{
    VERR_INTERNAL_ERROR, VERR_INVALID_PARAMETER, VERR_INVALID_POINTER, VERR_WRONG_ORDER,
};
use supdrv_core::os::NIL_HANDLE;
use zerocopy::{FromZeros, IntoBytes};

use fake::processes::{Connection, EACCES, EEXIST, EFAULT, EINVAL, EIO, ENXIO, Fd, exit};
use fake::shim::Calls;
use fake::{SUPDrvDarwinIDC, boot, devices, machine};

fakekernel::shim_suite!(Calls; common, unloading, restricted_node);

/// What a start or stop that fails returns.
const FAILURE: i32 = 5;

fn session_of(client: &Client) -> &SessionView {
    // SAFETY: the driver published it and keeps it while the session is open.
    unsafe { &*(client.session().session as *const SessionView) }
}

/// A client of a descriptor.
fn client_of(fd: Fd, process: &Arc<Process>) -> Client {
    Client::with_device(Nodes::<Calls>::device(fd, process.clone()), Encoding::Bsd).expect("a session")
}

// ---- start and stop ----

#[test]
fn a_start_makes_two_nodes_of_the_superuser_whose_modes_follow_the_build() {
    let kernel = boot();
    for (hardened, modes) in [(true, [0o600, 0o666]), (false, [0o666, 0o666])] {
        kernel.set(|settings| settings.hardened = hardened);
        assert_eq!(kernel.load(), 0);
        let nodes = devices::nodes();
        let found: Vec<_> =
            nodes.iter().map(|node| (node.name.as_str(), node.dev & 0xff_ffff, node.mode)).collect();
        assert_eq!(found, [(NAME, 0, modes[0]), (NAME_RESTRICTED, 1, modes[1])]);
        assert!(nodes.iter().all(|node| (node.uid, node.gid) == (0, 0)));
        assert_eq!(kernel.unload(), 0);
    }
}

#[test]
fn only_the_superuser_opens_the_unrestricted_node_of_a_hardened_driver() {
    let kernel = boot();
    for (hardened, answer) in [(true, Some(EACCES)), (false, None)] {
        kernel.set(|settings| settings.hardened = hardened);
        assert_eq!(kernel.load(), 0);
        let user = Arc::new(Process::new(501));
        assert_eq!(Fd::connect_and_open(&user, NAME).err(), answer);
        assert!(Fd::connect_and_open(&user, NAME_RESTRICTED).is_ok());
        assert_eq!(kernel.unload(), 0);
    }
}

#[test]
fn a_start_that_fails_at_any_step_fails_with_5_and_takes_back_what_it_did() {
    let kernel = boot();
    let steps = [
        "lck_grp_alloc_init",
        "sysctlbyname",
        "lck_spin_alloc_init",
        "IOMalloc",
        "cdevsw_add",
        "devfs_make_node",
    ];
    for step in steps {
        // Up to the first one that isn't called any more.
        for nth in 1.. {
            machine().faults.fail_nth_of(step, nth);
            let started = kernel.load();
            if machine().faults.stop().is_none() {
                assert!(started == 0 && nth > 1, "{step} was not tried");
                assert_eq!(kernel.unload(), 0);
                break;
            }
            // Some of what is allocated isn't necessary.
            assert!(started == FAILURE || (step == "IOMalloc" && kernel.unload() == 0), "{step}, {nth}");
            assert_eq!(kernel.leftovers(), [], "{step}, {nth}");
        }
    }
}

#[test]
fn a_start_without_notifications_of_sleep_succeeds_and_says_so() {
    let kernel = boot();
    machine().faults.fail_nth_of("registerPrioritySleepWakeInterest", 1);
    assert_eq!(kernel.load(), 0);
    assert!(machine().faults.stop().is_some());
    assert!(kernel.log_text().contains("no notifications of sleep"));
    unload::<Calls>(kernel);
}

#[test]
fn a_stop_is_refused_while_a_process_is_connected_and_changes_nothing() {
    let kernel = loaded::<Calls>();
    let process = root();
    let connection = Connection::open(&process).expect("a connection");
    assert_eq!(kernel.unload(), FAILURE);
    let fd = Fd::open(&process, NAME).expect("the node still works");
    assert_eq!(kernel.unload(), FAILURE);
    // The connection ends, and the session with it: what is left is an open node.
    in_process(&process, || connection.close());
    assert_eq!(sessions::<Calls>(), 0);
    assert_eq!(kernel.unload(), FAILURE);
    let another = client::<Calls>(&root());
    another.paging_mode().expect("the driver still works");
    drop((another, fd, connection));
    unload::<Calls>(kernel);
}

#[test]
fn the_service_refuses_to_terminate_while_it_is_used_or_linked_against() {
    let kernel = loaded::<Calls>();
    assert!(kernel.may_terminate(0));
    assert!(!kernel.may_terminate(1));
    let process = root();
    let connection = Connection::open(&process).expect("a connection");
    assert!(!kernel.may_terminate(0));
    drop(connection);
    let fd = open::<Calls>(&process);
    assert!(!kernel.may_terminate(0));
    drop(fd);
    assert!(kernel.may_terminate(0));
    unload::<Calls>(kernel);
}

// ---- connections ----

#[test]
fn a_process_connects_once_and_its_first_connection_survives_the_second_attempt() {
    let kernel = loaded::<Calls>();
    let process = root();
    let first = Connection::open(&process).expect("a connection");
    assert_eq!(Connection::open(&process).err(), Some(EEXIST));
    let fd = Fd::open(&process, NAME).expect("the first one counts");
    assert_eq!(Connection::open(&process).err(), Some(EEXIST));
    drop((fd, first));
    // And again, when it is gone.
    drop(open::<Calls>(&process));
    unload::<Calls>(kernel);
}

#[test]
fn a_process_that_dies_between_connecting_and_opening_leaves_nothing() {
    let kernel = loaded::<Calls>();
    let process = root();
    let connection = Connection::open(&process).expect("a connection");
    exit(&process);
    assert!(kernel.may_terminate(0), "the end of the process was the end of the connection");
    // It is closed once more when the last right to it goes.
    drop(connection);
    unload::<Calls>(kernel);
}

#[test]
fn a_connection_that_another_process_closes_ends_the_session_of_its_owner_and_no_other() {
    let kernel = loaded::<Calls>();
    let (parent, child) = (root(), root());
    let (theirs, mine) = (open::<Calls>(&parent), open::<Calls>(&child));
    assert_eq!(sessions::<Calls>(), 2);
    let sent = theirs.connection();
    in_process(&child, || sent.close());
    assert_eq!(sessions::<Calls>(), 1);
    let mut packet = vt_caps::<Calls>();
    assert_eq!(theirs.packet(packet.code(), packet.bytes_mut()), EINVAL);
    assert_eq!(mine.packet(packet.code(), packet.bytes_mut()), 0);
    drop((theirs, mine, sent));
    unload::<Calls>(kernel);
}

#[test]
fn a_connection_can_be_closed_any_number_of_times_and_by_several_at_once() {
    let kernel = loaded::<Calls>();
    for _ in 0..100 {
        let process = root();
        let fd = open::<Calls>(&process);
        let connection = fd.connection();
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| connection.close());
            }
            // The last close of the node comes at the same time.
            scope.spawn(|| drop(fd));
        });
        assert_eq!(sessions::<Calls>(), 0);
        in_process(&process, || connection.close());
        drop(connection);
    }
    unload::<Calls>(kernel);
}

#[test]
fn everything_a_process_had_is_gone_when_its_connection_is_closed() {
    let kernel = loaded::<Calls>();
    let process = root();
    let fd = open::<Calls>(&process);
    let connection = fd.connection();
    let client = client_of(fd, &process);
    let own = vec![0_u8; 3 * PAGE];
    hold_everything::<Calls>(&client, &own);
    // From a thread of the kernel, which has no process.
    connection.close();
    assert_eq!(sessions::<Calls>(), 0);
    for account in ["wired user pages", "user mappings", "kernel mappings", "descriptors"] {
        let left = machine().ledger.count(account);
        // The time page is the driver's.
        assert_eq!(left, i64::from(account == "descriptors"), "{account}");
    }
    // Now that nothing is wired, the process can end with its descriptor open.
    exit(&process);
    drop((client, connection));
    unload::<Calls>(kernel);
}

// ---- nodes ----

#[test]
fn a_node_is_opened_by_connected_processes_once() {
    let kernel = loaded::<Calls>();
    let process = root();
    assert_eq!(Fd::open(&process, NAME).err(), Some(EACCES));
    let connection = Connection::open(&process).expect("a connection");
    let fd = Fd::open(&process, NAME).expect("the node");
    for name in [NAME, NAME_RESTRICTED] {
        assert_eq!(Fd::open(&process, name).err(), Some(EEXIST));
    }
    assert_eq!(sessions::<Calls>(), 1);
    drop((fd, connection));
    unload::<Calls>(kernel);
}

#[test]
fn there_are_two_minor_numbers() {
    let kernel = loaded::<Calls>();
    let major = devices::nodes()[0].dev & !0xff_ffff;
    let process = root();
    let connection = Connection::open(&process).expect("a connection");
    for minor in [2, 3, 0xff_ffff] {
        assert_eq!(Fd::open_dev(&process, major | minor).err(), Some(EACCES));
    }
    drop(connection);
    unload::<Calls>(kernel);
}

#[test]
fn a_device_that_is_opened_on_behalf_of_another_process_is_not() {
    let kernel = loaded::<Calls>();
    let (process, other) = (root(), root());
    let connections = [&process, &other].map(|process| Connection::open(process).expect("a connection"));
    assert_eq!(devices::open_for(&process, &other), EIO);
    drop(connections);
    unload::<Calls>(kernel);
}

#[test]
fn a_child_has_the_descriptor_but_not_the_session() {
    let kernel = loaded::<Calls>();
    let (parent, child) = (root(), root());
    let fd = open::<Calls>(&parent);
    let inherited = fd.inherit(&child);
    let mut packet = vt_caps::<Calls>();
    assert_eq!(inherited.packet(packet.code(), packet.bytes_mut()), EINVAL);
    // Nor does it have one when it has a session of its own, on the other node.
    let connection = Connection::open(&child).expect("a connection");
    let restricted = Fd::open(&child, NAME_RESTRICTED).expect("a session");
    assert_eq!(inherited.packet(packet.code(), packet.bytes_mut()), EINVAL);
    assert_eq!(sessions::<Calls>(), 2);
    // The child closes last: its own session is on another node, and stays.
    drop(fd);
    assert_eq!(sessions::<Calls>(), 1);
    drop(inherited);
    assert_eq!(sessions::<Calls>(), 1);
    assert_eq!(restricted.packet(packet.code(), packet.bytes_mut()), 0);
    drop((restricted, connection));
    unload::<Calls>(kernel);
}

#[test]
fn a_session_belongs_to_the_real_user_of_its_process() {
    let kernel = loaded::<Calls>();
    let process = Arc::new(Process::new(0).with_real_ids(501, 20));
    let client = client::<Calls>(&process);
    let view = session_of(&client);
    assert_eq!((view.uid.load(Ordering::Relaxed), view.gid.load(Ordering::Relaxed)), (501, 20));
    assert_eq!(machine().ledger.count("credentials"), 0);
    drop(client);
    unload::<Calls>(kernel);
}

// ---- requests ----

#[test]
fn the_size_in_the_code_is_the_size_of_the_packet() {
    let kernel = loaded::<Calls>();
    let fd = open::<Calls>(&root());
    let input = CookieIn {
        magic: COOKIE_MAGIC,
        requested_version: IOC_VERSION,
        min_version: IOC_VERSION & 0xffff_0000,
        ..CookieIn::new_zeroed()
    };
    let mut packet = Packet::new(Encoding::Bsd, Function::Cookie, &input, &[], size_of::<CookieOut>());
    assert_eq!(packet.code(), 0xc038_5681);
    for size in [0x17, 0x18, 0x37, 0x39, 0x40] {
        packet.resize(0x40);
        assert_eq!(fd.packet(0xc000_5681 | size << 16, packet.bytes_mut()), EINVAL, "{size:#x}");
    }
    assert_eq!(fd.packet(0xc038_5681, packet.bytes_mut()), 0);
    drop(fd);
    unload::<Calls>(kernel);
}

#[test]
fn codes_of_other_shapes_are_refused() {
    let kernel = loaded::<Calls>();
    let fd = open::<Calls>(&root());
    let mut packet = vt_caps::<Calls>();
    let good = packet.code();
    let size = good & 0x1fff_0000;
    for code in [
        0x4000_5681,
        0x8000_5681,
        0x0000_5681,
        0x2000_0000 | size | good & 0xffff,
        0x4000_0000 | size | good & 0xffff,
        0x8000_0000 | size | good & 0xffff,
        0xc000_0000 | good & 0xffff,
        0xe000_0000 | size | good & 0xffff,
    ] {
        assert_eq!(fd.packet(code, packet.bytes_mut()), EINVAL, "{code:#x}");
    }
    assert_eq!(fd.packet(good, packet.bytes_mut()), 0);
    drop(fd);
    unload::<Calls>(kernel);
}

#[test]
fn big_packets_have_16_mib_and_not_a_byte_more() {
    let kernel = loaded::<Calls>();
    let client = client::<Calls>(&root());
    let mut payload = vec![0; MAX_REQUEST_BYTES - size_of::<CallVmmr0In>() - size_of::<Vmmr0RequestHeader>()];
    let answer = client.call_vmmr0(Vmmr0Call::default(), Some(&mut payload)).expect_err("no VMMR0");
    assert_eq!(answer.status(), Some(VERR_WRONG_ORDER), "the driver had a look at it");
    payload.push(0);
    let refused = client.call_vmmr0(Vmmr0Call::default(), Some(&mut payload)).expect_err("too much");
    assert!(matches!(refused, Error::Refused { refused: Refused::Os(EINVAL), .. }), "{refused:?}");
    drop(client);
    unload::<Calls>(kernel);
}

#[test]
fn big_packets_must_be_there() {
    let kernel = loaded::<Calls>();
    let fd = open::<Calls>(&root());
    let code = query_funcs::<Calls>(HEADER_BYTES).code();
    assert_eq!(code, 0x2000_5682);
    for address in [0, 0x1000, usize::MAX - 3, 0xffff_ff80_0000_0000] {
        assert_eq!(fd.ioctl(code, address), EFAULT, "{address:#x}");
    }
    drop(fd);
    unload::<Calls>(kernel);
}

#[test]
fn a_header_that_changes_while_it_is_read_is_taken_once() {
    let kernel = loaded::<Calls>();
    let functions = client::<Calls>(&root()).query_functions().expect("functions").len();
    let fd = open::<Calls>(&root());
    let packet = query_funcs::<Calls>(QUERY_FUNCS_BYTES + functions * size_of::<requests::Function>());
    let code = packet.code();
    // The claimed sizes are in the third and the fourth word of the header.
    let words: Vec<AtomicI32> = packet
        .bytes()
        .chunks_exact(4)
        .map(|word| AtomicI32::new(i32::from_ne_bytes([word[0], word[1], word[2], word[3]])))
        .chain((0..16).map(|_| AtomicI32::new(0x5a5a_5a5a)))
        .collect();
    let good = words[3].load(Ordering::Relaxed);
    let (stop, answers) = (AtomicBool::new(false), AtomicI32::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                for size in [0, 0x17, good, 0x0100_0000, -1, good] {
                    words[3].store(size, Ordering::Relaxed);
                }
            }
        });
        for _ in 0..2000 {
            words[2].store(HEADER_BYTES as i32, Ordering::Relaxed);
            match fd.ioctl(code, words.as_ptr() as usize) {
                0 => answers.fetch_add(1, Ordering::Relaxed),
                EINVAL | EFAULT => 0,
                error => panic!("error {error}"),
            };
        }
        stop.store(true, Ordering::Relaxed);
    });
    println!("{} of 2000 were answered", answers.load(Ordering::Relaxed));
    words[2].store(HEADER_BYTES as i32, Ordering::Relaxed);
    words[3].store(good, Ordering::Relaxed);
    assert_eq!(fd.ioctl(code, words.as_ptr() as usize), 0, "this can be answered");
    let behind = words.iter().skip(packet.bytes().len() / 4);
    assert!(behind.into_iter().all(|word| word.load(Ordering::Relaxed) == 0x5a5a_5a5a));
    drop(fd);
    unload::<Calls>(kernel);
}

#[test]
fn a_fast_call_without_a_vm_fails_with_the_status_itself() {
    let kernel = loaded::<Calls>();
    let fd = open::<Calls>(&root());
    let restricted = Fd::connect_and_open(&root(), NAME_RESTRICTED).expect("a restricted session");
    for function in [Function::FastDoRawRun, Function::FastDoHmRun, Function::FastDoNop] {
        let code = Encoding::Bsd.code(function, 0, IOCTL_FLAG);
        assert_eq!(fd.ioctl(code, 0), VERR_INTERNAL_ERROR.0);
        assert_eq!(restricted.ioctl(code, 0), EINVAL);
    }
    drop((fd, restricted));
    unload::<Calls>(kernel);
}

#[test]
fn programs_of_32_bits_are_refused_whatever_they_ask_for() {
    let kernel = loaded::<Calls>();
    let small = Arc::new(Process::new(0).with_32bit_program());
    let fd = open::<Calls>(&small);
    for flag in [0, IOCTL_FLAG] {
        for function in [Function::VtCaps, Function::QueryFuncs, Function::FastDoNop] {
            let mut packet = vt_caps::<Calls>();
            let size = if function == Function::VtCaps { packet.bytes().len() as u32 } else { 0 };
            let code = Encoding::Bsd.code(function, size, flag);
            assert_eq!(fd.packet(code, packet.bytes_mut()), EINVAL, "{code:#x}");
        }
    }
    drop(fd);
    unload::<Calls>(kernel);
}

#[test]
fn a_session_that_is_closed_while_a_thread_waits_in_it_ends_when_the_thread_comes_out() {
    let kernel = loaded::<Calls>();
    let process = root();
    let fd = open::<Calls>(&process);
    let connection = fd.connection();
    let client = client_of(fd, &process);
    let event = client.sem_create(EventType::Single).expect("a semaphore");
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| client.sem_wait_ms(EventType::Single, event, u32::MAX));
        while machine().ledger.count("sleepers") == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        in_process(&process, || connection.close());
        assert_eq!(sessions::<Calls>(), 1, "the waiter is still in there");
        assert!(client.paging_mode().is_err(), "but nobody else gets in");
        process.signal();
        assert!(waiter.join().expect("the waiter").is_err());
    });
    assert_eq!(sessions::<Calls>(), 0);
    drop((client, connection));
    unload::<Calls>(kernel);
}

#[test]
fn requests_after_the_end_of_the_driver_find_no_device() {
    let kernel = boot();
    assert_eq!(devices::ioctl(0, 0x2000_5682, core::ptr::null_mut()), ENXIO);
    assert_eq!(kernel.load(), 0);
    unload::<Calls>(kernel);
}

#[test]
fn keyboards_need_no_help_and_clients_hear_of_success() {
    let kernel = loaded::<Calls>();
    let client = client::<Calls>(&root());
    let mut packet = Packet::bare(Encoding::Bsd, Function::ResumeSuspendedKbds, HEADER_BYTES);
    let (cookie, session_cookie) = (client.session().cookie, client.session().session_cookie);
    (packet.header_mut().cookie, packet.header_mut().session_cookie) = (cookie, session_cookie);
    assert_eq!(packet.code(), 0xc018_56a3);
    assert_eq!(client.status_of(&mut packet).map(|status| status.0).ok(), Some(0));
    assert_eq!((packet.header().rc, packet.header().out_bytes as usize), (0, HEADER_BYTES));
    drop(client);
    let process = root();
    let restricted = Fd::connect_and_open(&process, NAME_RESTRICTED).expect("a restricted session");
    let restricted = client_of(restricted, &process);
    assert!(restricted.resume_suspended_keyboards().is_err());
    drop(restricted);
    unload::<Calls>(kernel);
}

// ---- sibling drivers ----

unsafe fn idc(request: IdcRequest, packet: *mut IdcHeader) -> i32 {
    // SAFETY: the caller's promise.
    unsafe { SUPDrvDarwinIDC(request.code(Encoding::Bsd), packet.cast()) }
}

#[test]
fn siblings_connect_once_and_a_session_of_a_client_is_none_of_theirs() {
    let kernel = loaded::<Calls>();
    assert_eq!(IdcRequest::Connect.code(Encoding::Bsd), 0xc0ff_ee01);
    // SAFETY: packets of their requests' sizes, or null, which is tested.
    unsafe {
        assert_eq!(idc(IdcRequest::GetSymbol, core::ptr::null_mut()), VERR_INVALID_POINTER.0);
        let mut symbol = GetSymbolIn::new_zeroed();
        symbol.hdr.bytes = size_of::<GetSymbolIn>() as u32;
        assert_eq!(
            idc(IdcRequest::GetSymbol, symbol.as_mut_bytes().as_mut_ptr().cast()),
            VERR_INVALID_PARAMETER.0
        );
        let client = client::<Calls>(&root());
        let bytes = size_of::<IdcHeader>() as u32;
        let mut theirs = IdcHeader { bytes, session: client.session().session, ..IdcHeader::new_zeroed() };
        assert_eq!(idc(IdcRequest::Disconnect, &raw mut theirs), VERR_INVALID_PARAMETER.0);
        client.paging_mode().expect("its session is untouched");
        drop(client);

        let sibling = life::connect_sibling::<Calls>();
        let view = &*(sibling.session as *const SessionView);
        assert_eq!(view.r0_process.load(Ordering::Relaxed), NIL_HANDLE);
        let mut again = IdcHeader { bytes, ..sibling };
        life::disconnect_sibling::<Calls>(sibling);
        assert_eq!(idc(IdcRequest::Disconnect, &raw mut again), VERR_INVALID_PARAMETER.0);
    }
    unload::<Calls>(kernel);
}
