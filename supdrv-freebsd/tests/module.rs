//! The module's life, its nodes and its files, on a fake kernel.
#![cfg(target_os = "linux")]
#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "addresses that the driver handed out, and its entry for siblings with good packets"
)]

mod fake;

use std::sync::Arc;

use fake::{
    Calls, EACCES, EBUSY, EEXIST, EFAULT, EINVAL, ENOENT, ENOTTY, EPERM, Fd, Kernel, RDWR, boot, exit,
    machine,
};
use fakekernel::context::Process;
use fakekernel::ram::PAGE;
use fakekernel::suite::{
    self, NAME, NAME_RESTRICTED, client, hold_everything, loaded, open, root, sessions, unload, vt_caps,
};
use supctl::packet::Packet;
use supdrv_core::abi::ioctl::{Encoding, Function};
use supdrv_core::abi::requests::{ContAllocIn, ContAllocOut, HEADER_BYTES};
use supdrv_core::os::OsLog;
use supdrv_freebsd::FreeBsd;
use zerocopy::FromZeros;

fakekernel::shim_suite!(Calls; common, unloading, restricted_node, shared_files, foreign_programs);

#[test]
fn other_events_of_modules_are_not_for_this_one() {
    const EOPNOTSUPP: i32 = 45;
    let kernel = loaded::<Calls>();
    assert_eq!(kernel.shutdown(), EOPNOTSUPP);
    unload::<Calls>(kernel);
}

#[test]
fn a_flood_of_log_lines_is_cut_off_until_the_next_second() {
    let _kernel = boot();
    let lines = || machine().log.lock().expect("the log").len();
    fake::next_second();
    let before = lines();
    (0..1000).for_each(|_| FreeBsd.log_write(b"much ado"));
    assert_eq!(lines() - before, 100);
    fake::next_second();
    FreeBsd.log_write(b"about nothing");
    assert_eq!(lines() - before, 101);
}

#[test]
fn an_unload_that_does_not_ask_is_refused_too_while_a_file_is_open() {
    let kernel = loaded::<Calls>();
    let fd = open::<Calls>(&root());
    assert_eq!(kernel.unload_forced(), EBUSY);
    drop(fd);
    assert_eq!(kernel.unload_forced(), 0);
}

#[test]
fn opens_that_race_with_unloads_that_do_not_ask_find_the_driver_or_no_driver() {
    suite::life::race_of_opens_and_unloads::<Calls>(Kernel::unload_forced);
}

#[test]
fn a_node_of_the_same_name_keeps_the_module_from_loading() {
    let kernel = boot();
    for name in [NAME, NAME_RESTRICTED] {
        fake::occupy(name);
        assert_eq!(kernel.load(), EEXIST);
        assert_eq!(kernel.leftovers(), []);
        fake::vacate();
    }
    assert_eq!(kernel.load(), 0);
    unload::<Calls>(kernel);
}

#[test]
fn files_are_opened_for_reading_and_writing_or_not_at_all() {
    let kernel = loaded::<Calls>();
    for flags in [0, 1, 2] {
        assert_eq!(Fd::open(&root(), NAME, flags).err(), Some(EINVAL));
    }
    assert_eq!(Fd::open(&root(), "vboxdrvx", RDWR).err(), Some(ENOENT));
    assert_eq!(sessions::<Calls>(), 0);
    unload::<Calls>(kernel);
}

#[test]
fn only_root_outside_of_jails_opens_the_unrestricted_node_of_a_hardened_driver() {
    let kernel = loaded::<Calls>();
    let user = Arc::new(Process::new(1001));
    let jailed = Arc::new(Process::new(0).jailed());
    assert_eq!(Fd::open(&user, NAME, RDWR).err(), Some(EACCES));
    assert_eq!(Fd::open(&jailed, NAME, RDWR).err(), Some(EPERM));
    for process in [&user, &jailed] {
        assert!(Fd::open(process, NAME_RESTRICTED, RDWR).is_ok());
    }
    unload::<Calls>(kernel);
}

#[test]
fn everybody_opens_the_nodes_of_a_driver_that_is_not_hardened() {
    let kernel = boot();
    kernel.set(|settings| settings.hardened = false);
    assert_eq!(kernel.load(), 0);
    assert!(Fd::open(&Arc::new(Process::new(1001)), NAME, RDWR).is_ok());
    unload::<Calls>(kernel);
}

#[test]
fn the_size_in_the_code_is_the_size_of_the_packet() {
    let kernel = loaded::<Calls>();
    let fd = open::<Calls>(&root());
    let good = vt_caps::<Calls>();
    let with_size = |size: u32| good.code() & !0x1fff_0000 | size << 16;
    let mut longer = good.clone();
    longer.resize(64);
    for size in [24, 27, 29, 64] {
        assert_eq!(fd.packet(with_size(size), longer.bytes_mut()), EINVAL, "{size}");
    }
    let mut too_much = longer.clone();
    too_much.header_mut().out_bytes += 1;
    assert_eq!(fd.packet(good.code(), too_much.bytes_mut()), EINVAL);
    for size in [1, 23] {
        assert_eq!(fd.packet(with_size(size), longer.bytes_mut()), EINVAL, "{size}");
    }
    // Without a size, or without a direction, it isn't this request.
    assert_eq!(fd.packet(good.code() & 0xffff | 0x2000_0000, longer.bytes_mut()), EINVAL);
    assert_eq!(fd.packet(with_size(0), longer.bytes_mut()), ENOTTY);
    assert_eq!(fd.packet(good.code() & 0xffff, longer.bytes_mut()), ENOTTY);
    assert_eq!(fd.packet(good.code(), longer.bytes_mut()), 0);
    drop(fd);
    unload::<Calls>(kernel);
}

#[test]
fn what_the_client_did_not_send_of_a_packet_is_zero_when_the_kernel_copies_all_of_it_back() {
    let kernel = loaded::<Calls>();
    let fd = open::<Calls>(&root());
    // No pages: a soft failure, of which only the header is the answer.
    let input = ContAllocIn::new_zeroed();
    let out = size_of::<ContAllocOut>();
    let mut packet = Packet::new(Encoding::Bsd, Function::ContAlloc, &input, &[], out);
    let code = packet.code();
    packet.bytes_mut()[size_of::<ContAllocIn>()..].fill(0xaa);
    assert_eq!(fd.packet(code, packet.bytes_mut()), 0);
    assert_eq!((packet.status().0, packet.header().out_bytes as usize), (-84, HEADER_BYTES));
    assert!(packet.bytes()[size_of::<ContAllocIn>()..].iter().all(|byte| *byte == 0));
    drop(fd);
    unload::<Calls>(kernel);
}

#[test]
fn a_fast_call_without_a_vm_fails_with_a_positive_number() {
    let kernel = loaded::<Calls>();
    let code = Encoding::Bsd.code(Function::FastDoNop, 0, 0x80);
    let fd = open::<Calls>(&root());
    assert_eq!(fd.ioctl(code, 0), 225);
    let restricted = Fd::open(&root(), NAME_RESTRICTED, RDWR).expect("a restricted session");
    // There it is a packet at address 0.
    assert_eq!(restricted.ioctl(code, 0), EFAULT);
    drop((fd, restricted));
    unload::<Calls>(kernel);
}

#[test]
fn children_do_not_get_the_mappings() {
    let kernel = loaded::<Calls>();
    let process = root();
    let client = client::<Calls>(&process);
    hold_everything::<Calls>(&client, &vec![0_u8; 3 * PAGE]);
    assert!(!fake::has_inherited_mappings(&process));
    drop(client);
    exit(&process, Vec::new());
    unload::<Calls>(kernel);
}

#[test]
fn a_wake_up_of_the_machine_reaches_the_driver() {
    let kernel = loaded::<Calls>();
    let client = client::<Calls>(&root());
    client.gip_map().expect("the time page");
    kernel.resume();
    client.gip_unmap().expect("unmapped");
    drop(client);
    unload::<Calls>(kernel);
}
