//! The module's life, its nodes and its files, on a fake kernel.
#![cfg(target_os = "linux")]
#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "addresses that the driver handed out, and its entry for siblings with good packets"
)]

mod fake;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fake::{
    EACCES, EBUSY, EEXIST, EFAULT, EINVAL, ENOENT, ENOTTY, ENXIO, EPERM, Fd, Kernel, Nodes, RDWR, boot, exit,
    machine,
};
use fakekernel::context::Process;
use fakekernel::ram::PAGE;
use supctl::client::{Client, EventType, Protection};
use supctl::packet::Packet;
use supctl::transport::Node;
use supdrv_core::abi::idc::{ConnectIn, ConnectOut, IdcHeader};
use supdrv_core::abi::ioctl::{Encoding, Function};
use supdrv_core::abi::published::SessionView;
use supdrv_core::abi::requests::{ContAllocIn, ContAllocOut, HEADER_BYTES, QueryFuncsOut, VtCapsOut};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

const NAME: &str = "vboxdrv";
const NAME_RESTRICTED: &str = "vboxdrvu";

fn root() -> Arc<Process> {
    Arc::new(Process::new(0))
}

fn loaded() -> Kernel {
    let kernel = boot();
    assert_eq!(kernel.load(), 0);
    kernel
}

fn unload(kernel: Kernel) {
    assert_eq!(kernel.unload(), 0);
    drop(kernel);
}

fn open(process: &Arc<Process>) -> Fd {
    Fd::open(process, NAME, RDWR).expect("an open node")
}

fn client(process: &Arc<Process>) -> Client {
    Client::open(&Nodes::new(process.clone()), Node::Unrestricted).expect("a session")
}

/// A request without input, with its size in the code.
fn vt_caps() -> Packet {
    Packet::bare(Encoding::Bsd, Function::VtCaps, size_of::<VtCapsOut>())
}

fn sessions() -> usize {
    supdrv_freebsd::counters().map_or(0, |counters| counters.sessions)
}

#[test]
fn the_module_loads_and_unloads_a_hundred_times_without_a_trace() {
    let kernel = boot();
    for _ in 0..100 {
        assert_eq!(kernel.load(), 0);
        assert_eq!(kernel.unload(), 0);
        assert_eq!(kernel.leftovers(), []);
    }
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
    unload(kernel);
}

#[test]
fn an_open_file_keeps_the_module_loaded_and_working() {
    let kernel = loaded();
    let process = root();
    let fd = open(&process);
    assert_eq!(kernel.unload(), EBUSY);
    assert_eq!(kernel.unload_forced(), EBUSY);
    let mut packet = vt_caps();
    assert_eq!(fd.packet(packet.code(), packet.bytes_mut()), 0);
    let another = open(&process);
    assert_eq!(sessions(), 2);
    drop((fd, another));
    unload(kernel);
}

#[test]
fn a_sibling_driver_keeps_the_module_loaded() {
    let kernel = loaded();
    let mut connect = ConnectIn::new_zeroed();
    connect.hdr.bytes = size_of::<ConnectIn>() as u32;
    (connect.magic, connect.wanted_version, connect.min_version) = (0x6972_6f74, 0x1_0000, 0x1_0000);
    let packet = connect.as_mut_bytes();
    assert_eq!(unsafe { fake::SUPDrvFreeBSDIDC(0xc0ff_ee01, packet.as_mut_ptr().cast()) }, 0);
    let answer = ConnectOut::read_from_bytes(packet).expect("an answer");
    assert_eq!(answer.hdr.rc, 0);
    assert_eq!(kernel.unload(), EBUSY);
    assert_eq!(kernel.unload_forced(), EBUSY);
    let mut disconnect = IdcHeader { bytes: size_of::<IdcHeader>() as u32, ..answer.hdr };
    let packet = (&raw mut disconnect).cast();
    assert_eq!(unsafe { fake::SUPDrvFreeBSDIDC(0xc0ff_ee02, packet) }, 0);
    assert_eq!(unsafe { fake::SUPDrvFreeBSDIDC(0xc0ff_ee02, core::ptr::null_mut()) }, -6);
    unload(kernel);
}

#[test]
fn files_are_opened_for_reading_and_writing_or_not_at_all() {
    let kernel = loaded();
    for flags in [0, 1, 2] {
        assert_eq!(Fd::open(&root(), NAME, flags).err(), Some(EINVAL));
    }
    assert_eq!(Fd::open(&root(), "vboxdrvx", RDWR).err(), Some(ENOENT));
    assert_eq!(sessions(), 0);
    unload(kernel);
}

#[test]
fn only_root_outside_of_jails_opens_the_unrestricted_node_of_a_hardened_driver() {
    let kernel = loaded();
    let user = Arc::new(Process::new(1001));
    let jailed = Arc::new(Process::new(0).jailed());
    assert_eq!(Fd::open(&user, NAME, RDWR).err(), Some(EACCES));
    assert_eq!(Fd::open(&jailed, NAME, RDWR).err(), Some(EPERM));
    for process in [&user, &jailed] {
        assert!(Fd::open(process, NAME_RESTRICTED, RDWR).is_ok());
    }
    unload(kernel);
}

#[test]
fn everybody_opens_the_nodes_of_a_driver_that_is_not_hardened() {
    let kernel = boot();
    kernel.set(|settings| settings.hardened = false);
    assert_eq!(kernel.load(), 0);
    assert!(Fd::open(&Arc::new(Process::new(1001)), NAME, RDWR).is_ok());
    unload(kernel);
}

#[test]
fn a_session_knows_the_real_ids_of_its_opener() {
    let kernel = loaded();
    let process = Arc::new(Process::new(0).with_real_ids(1001, 1002));
    let client = client(&process);
    let view = unsafe { &*(client.session().session as *const SessionView) };
    assert_eq!(view.uid.load(Ordering::Relaxed), 1001);
    assert_eq!(view.gid.load(Ordering::Relaxed), 1002);
    assert_eq!(view.process.load(Ordering::Relaxed), process.pid);
    drop(client);
    unload(kernel);
}

#[test]
fn a_file_that_two_processes_share_is_one_session_until_both_have_closed_it() {
    let kernel = loaded();
    for parent_first in [false, true] {
        let (parent, child) = (root(), root());
        let mine = open(&parent);
        let inherited = mine.inherit(&child);
        assert_eq!(sessions(), 1);
        let (first, second) = if parent_first { (mine, inherited) } else { (inherited, mine) };
        drop(first);
        assert_eq!(sessions(), 1);
        drop(second);
        assert_eq!(sessions(), 0);
    }
    unload(kernel);
}

#[test]
fn the_size_in_the_code_is_the_size_of_the_packet() {
    let kernel = loaded();
    let fd = open(&root());
    let good = vt_caps();
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
    unload(kernel);
}

#[test]
fn what_the_client_did_not_send_of_a_packet_is_zero_when_the_kernel_copies_all_of_it_back() {
    let kernel = loaded();
    let fd = open(&root());
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
    unload(kernel);
}

#[test]
fn requests_that_the_driver_refuses_leave_the_callers_memory_alone() {
    let kernel = loaded();
    let fd = open(&root());
    let out = size_of::<QueryFuncsOut>();
    for mut packet in [vt_caps(), Packet::bare(Encoding::Bsd, Function::QueryFuncs, out)] {
        packet.header_mut().session_cookie ^= 1;
        let before = packet.clone();
        assert_eq!(fd.packet(packet.code(), packet.bytes_mut()), EINVAL);
        assert_eq!(packet.bytes(), before.bytes());
        packet = before;
        packet.header_mut().flags = 0;
        assert_eq!(fd.packet(packet.code(), packet.bytes_mut()), EINVAL);
    }
    drop(fd);
    unload(kernel);
}

#[test]
fn packets_without_a_size_in_the_code_have_limits_and_must_be_there() {
    let kernel = loaded();
    let fd = open(&root());
    let mut packet = Packet::bare(Encoding::Bsd, Function::QueryFuncs, HEADER_BYTES);
    let code = packet.code();
    packet.header_mut().in_bytes = 0x100_0001;
    assert_eq!(fd.packet(code, packet.bytes_mut()), EINVAL);
    packet.header_mut().in_bytes = 23;
    assert_eq!(fd.packet(code, packet.bytes_mut()), EINVAL);
    packet.header_mut().in_bytes = 24;
    packet.header_mut().out_bytes = 0x100_0001;
    assert_eq!(fd.packet(code, packet.bytes_mut()), EINVAL);
    for address in [0, 8, usize::MAX - 8, 0xffff_8000_0000_0000] {
        assert_eq!(fd.ioctl(code, address), EFAULT, "{address:#x}");
    }
    drop(fd);
    unload(kernel);
}

#[test]
fn programs_of_32_bits_are_told_that_this_is_not_for_them() {
    let kernel = loaded();
    let small = Arc::new(Process::new(0).with_32bit_program());
    let fd = open(&small);
    for flag in [0, 0x80] {
        for function in [Function::VtCaps, Function::QueryFuncs, Function::FastDoNop] {
            let code = Encoding::Bsd.code(function, size_of::<VtCapsOut>() as u32, flag);
            let mut packet = vt_caps();
            assert_eq!(fd.packet(code, packet.bytes_mut()), ENOTTY, "{code:#x}");
        }
    }
    // And a 64-bit program that uses their numbers is wrong.
    let fd64 = open(&root());
    let code = Encoding::Bsd.code(Function::VtCaps, size_of::<VtCapsOut>() as u32, 0);
    assert_eq!(fd64.packet(code, vt_caps().bytes_mut()), EINVAL);
    drop((fd, fd64));
    unload(kernel);
}

#[test]
fn a_fast_call_without_a_vm_fails_with_a_positive_number() {
    let kernel = loaded();
    let code = Encoding::Bsd.code(Function::FastDoNop, 0, 0x80);
    let fd = open(&root());
    assert_eq!(fd.ioctl(code, 0), 225);
    let restricted = Fd::open(&root(), NAME_RESTRICTED, RDWR).expect("a restricted session");
    // There it is a packet at address 0.
    assert_eq!(restricted.ioctl(code, 0), EFAULT);
    drop((fd, restricted));
    unload(kernel);
}

#[test]
fn a_process_that_is_killed_leaves_nothing() {
    let kernel = loaded();
    let process = root();
    let client = client(&process);
    let _pages = client.page_alloc(4, true).expect("pages");
    client.page_alloc(4, false).expect("pages");
    client.low_alloc(3).expect("low pages");
    client.cont_alloc(2).expect("contiguous pages");
    client.gip_map().expect("the time page");
    client.sem_create(EventType::Single).expect("a semaphore");
    let own = vec![0_u8; 3 * PAGE];
    let first = own.as_ptr() as usize & !(PAGE - 1);
    let locked = client.page_lock(first + PAGE, 1).expect("locked pages");
    assert_eq!(locked.len(), 1);
    client.page_map_kernel(first + PAGE, 0, PAGE as u32).expect("a mapping of locked pages");
    assert!(!fake::has_inherited_mappings(&process), "children don't get the mappings");
    assert_eq!(fake::mapping_count(&process), 5);
    assert_eq!(machine().ledger.count("wired user pages"), 1);
    drop(client);
    exit(&process, Vec::new());
    assert_eq!(fake::mapping_count(&process), 0);
    assert_eq!(machine().ledger.count("wired user pages"), 0);
    unload(kernel);
}

#[test]
fn pages_live_as_long_as_they_are_mapped_even_if_another_process_closes_last() {
    let kernel = loaded();
    let (owner, other) = (root(), root());
    let descriptor = open(&owner);
    let inherited = descriptor.inherit(&other);
    let device = Nodes::device(descriptor, owner.clone());
    let client = Client::with_device(device, Encoding::Bsd).expect("a session");
    let pages = client.page_alloc(2, true).expect("pages");
    let before = machine().ram.in_use();
    unsafe { (pages.r3 as *mut u8).write(0x77) };
    // The last reference goes away in a process that never had the mapping.
    drop(client);
    assert_eq!(sessions(), 1);
    drop(inherited);
    assert_eq!(sessions(), 0);
    assert_eq!(unsafe { (pages.r3 as *const u8).read() }, 0x77, "the owner still has its page");
    assert!(machine().ram.in_use() >= 2 && machine().ram.in_use() <= before);
    fake::munmap(&owner, pages.r3, 2 * PAGE);
    unload(kernel);
}

#[test]
fn memory_that_the_process_has_unmapped_itself_can_still_be_freed() {
    let kernel = loaded();
    let process = root();
    let client = client(&process);
    let pages = client.page_alloc(2, true).expect("pages");
    fake::munmap(&process, pages.r3, 2 * PAGE);
    client.page_free(pages.r3).expect("free");
    assert!(client.page_free(pages.r3).is_err());
    drop(client);
    unload(kernel);
}

#[test]
fn a_signal_ends_a_wait_of_its_process() {
    let kernel = loaded();
    let process = root();
    let client = client(&process);
    let event = client.sem_create(EventType::Single).expect("a semaphore");
    let interrupted = std::thread::scope(|scope| {
        let waiter = scope.spawn(|| client.sem_wait_ms(EventType::Single, event, u32::MAX));
        while machine().ledger.count("sleepers") == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        process.signal();
        waiter.join().expect("the waiter")
    });
    process.clear_signal();
    assert_eq!(
        interrupted.expect_err("no success").status(),
        Some(supdrv_core::abi::status::VERR_INTERRUPTED)
    );
    drop(client);
    unload(kernel);
}

#[test]
fn opens_that_race_with_unloads_find_the_driver_or_no_driver() {
    let kernel = boot();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let process = root();
                while !stop.load(Ordering::Relaxed) {
                    match Fd::open(&process, NAME_RESTRICTED, RDWR) {
                        Ok(fd) => assert_eq!(fd.packet(vt_caps().code(), vt_caps().bytes_mut()), 0),
                        Err(error) => assert!([ENOENT, ENXIO].contains(&error), "{error}"),
                    }
                }
            });
        }
        let mut refused = 0;
        for _ in 0..200 {
            assert_eq!(kernel.load(), 0);
            while kernel.unload_forced() != 0 {
                refused += 1;
                std::thread::yield_now();
            }
        }
        stop.store(true, Ordering::Relaxed);
        println!("{refused} unloads were refused");
    });
    drop(kernel);
}

#[test]
fn a_wake_up_of_the_machine_reaches_the_driver() {
    let kernel = loaded();
    let client = client(&root());
    client.gip_map().expect("the time page");
    kernel.resume();
    client.gip_unmap().expect("unmapped");
    drop(client);
    unload(kernel);
}

/// Everything that asks the kernel for something; failures are not looked at, what they leave behind is.
fn scenario(kernel: &Kernel) {
    if kernel.load() != 0 {
        return;
    }
    let process = root();
    if let Ok(client) = Client::open(&Nodes::new(process.clone()), Node::Unrestricted) {
        let own = vec![0_u8; 4 * PAGE];
        let first = (own.as_ptr() as usize & !(PAGE - 1)) + PAGE;
        if let Ok(pages) = client.page_alloc(3, true) {
            let _ = client.page_map_kernel(pages.r3, 0, PAGE as u32);
            let _ = client.page_protect(
                pages.r3,
                0,
                0,
                PAGE as u32,
                Protection { read: true, write: false, execute: false },
            );
            let _ = client.page_free(pages.r3);
        }
        let _ = client.page_alloc(2, false);
        let _ = client.page_alloc(600, true);
        let _ = client.low_alloc(2);
        let _ = client.cont_alloc(4);
        let _ = client.page_lock(first, 2);
        let _ = client.page_map_kernel(first, PAGE as u32, PAGE as u32);
        let _ = client.gip_map();
        let _ = client.sem_create(EventType::Multi);
    }
    let counts = ["wired user pages", "held pages", "map entries"].map(|kind| machine().ledger.count(kind));
    assert_eq!(counts, [0; 3], "a closed session leaves nothing to the end of its process");
    exit(&process, Vec::new());
    assert_eq!(kernel.unload(), 0);
}

#[test]
fn no_failure_of_the_kernel_leaves_anything_behind() {
    let kernel = boot();
    let mut failures = Vec::new();
    for nth in 1.. {
        machine().faults.fail_nth(nth);
        scenario(&kernel);
        let Some(failed) = machine().faults.stop() else { break };
        assert_eq!(kernel.leftovers(), [], "after failure {nth}, of {failed}");
        failures.push(failed);
    }
    failures.sort_unstable();
    failures.dedup();
    println!("functions that failed: {failures:?}");
    for expected in [
        "make_dev_s",
        "devfs_set_cdevpriv",
        "kva_alloc",
        "vm_map_find",
        "vm_map_wire",
        "vm_page_alloc_contig",
        "copyin",
    ] {
        assert!(failures.contains(&expected), "{expected} was not tried");
    }
}
