//! The driver's life, its nodes and its files, on a fake kernel.
#![cfg(target_os = "linux")]
#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "addresses that the driver handed out, and its entry for siblings with good packets"
)]

mod fake;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fake::{
    EACCES, EBUSY, EFAULT, EINVAL, ENOENT, ENOTTY, ENXIO, EPERM, Fd, Kernel, Nodes, boot, exit, machine,
};
use fakekernel::context::Process;
use fakekernel::ram::PAGE;
use supctl::client::{Client, EventType};
use supctl::packet::Packet;
use supctl::transport::Node;
use supdrv_core::abi::idc::{ConnectIn, ConnectOut, IdcHeader};
use supdrv_core::abi::ioctl::{Encoding, Function};
use supdrv_core::abi::published::SessionView;
use supdrv_core::abi::requests::{HEADER_BYTES, QueryFuncsOut, VtCapsOut};
use supdrv_core::abi::status::{VERR_INTERRUPTED, VERR_NOT_SUPPORTED, VERR_VMX_IN_VMX_ROOT_MODE};
use supdrv_core::os::OsHwVirt;
use supdrv_solaris::Solaris;
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
    Fd::open(process, NAME).expect("an open node")
}

fn client(process: &Arc<Process>) -> Client {
    Client::open(&Nodes::new(process.clone()), Node::Unrestricted).expect("a session")
}

fn vt_caps() -> Packet {
    Packet::bare(Encoding::Solaris, Function::VtCaps, size_of::<VtCapsOut>())
}

fn sessions() -> usize {
    supdrv_solaris::counters().map_or(0, |counters| counters.sessions)
}

#[test]
fn the_driver_loads_and_unloads_fifty_times_without_a_trace() {
    let kernel = boot();
    for _ in 0..50 {
        assert_eq!(kernel.load(), 0);
        assert_eq!(kernel.unload(), 0);
        assert_eq!(kernel.leftovers(), []);
    }
}

#[test]
fn an_open_file_keeps_the_driver_loaded_and_working() {
    let kernel = loaded();
    let process = root();
    let fd = open(&process);
    assert_eq!(kernel.unload(), EBUSY);
    let mut packet = vt_caps();
    assert_eq!(fd.packet(packet.code(), packet.bytes_mut()), Ok(0));
    drop(fd);
    unload(kernel);
}

#[test]
fn a_sibling_driver_keeps_the_driver_attached() {
    let kernel = loaded();
    let mut connect = ConnectIn::new_zeroed();
    connect.hdr.bytes = size_of::<ConnectIn>() as u32;
    (connect.magic, connect.wanted_version, connect.min_version) = (0x6972_6f74, 0x1_0000, 0x1_0000);
    let packet = connect.as_mut_bytes();
    assert_eq!(unsafe { fake::SUPDrvSolarisIDC(0xc0ff_ee01, packet.as_mut_ptr().cast()) }, 0);
    let answer = ConnectOut::read_from_bytes(packet).expect("an answer");
    assert_eq!(answer.hdr.rc, 0);
    assert_eq!(kernel.unload(), EBUSY);
    assert!(kernel.log_text().contains("in use"));
    let mut disconnect = IdcHeader { bytes: size_of::<IdcHeader>() as u32, ..answer.hdr };
    assert_eq!(unsafe { fake::SUPDrvSolarisIDC(0xc0ff_ee02, (&raw mut disconnect).cast()) }, 0);
    unload(kernel);
}

#[test]
fn only_the_two_nodes_can_be_opened_and_only_as_character_devices() {
    let kernel = loaded();
    const BLOCK: i32 = 0;
    const CHARACTER: i32 = 2;
    for minor in [2, 3, 4097, 4098, u32::MAX] {
        assert_eq!(Fd::open_dev(&root(), minor, CHARACTER).err(), Some(EINVAL), "{minor}");
    }
    assert_eq!(Fd::open_dev(&root(), 0, BLOCK).err(), Some(EINVAL));
    assert_eq!(Fd::open(&root(), "vboxdrvx").err(), Some(ENOENT));
    assert_eq!(sessions(), 0);
    unload(kernel);
}

#[test]
fn every_open_file_has_a_minor_number_of_its_own_and_there_are_4096() {
    let kernel = loaded();
    let process = root();
    let files: Vec<Fd> = (0..4096).map(|_| Fd::open(&process, NAME_RESTRICTED).expect("a session")).collect();
    let minors: BTreeSet<u32> = files.iter().map(Fd::minor).collect();
    assert_eq!((minors.len(), minors.first(), minors.last()), (4096, Some(&2), Some(&4097)));
    assert_eq!(Fd::open(&process, NAME_RESTRICTED).err(), Some(ENXIO));
    // Opening a number that is in use isn't opening the file.
    assert_eq!(Fd::open_dev(&process, 2, 2).err(), Some(EINVAL));
    drop(files);
    assert!(Fd::open(&process, NAME_RESTRICTED).is_ok());
    unload(kernel);
}

#[test]
fn files_opened_in_parallel_are_all_different() {
    let kernel = loaded();
    let files: Vec<Fd> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..8).map(|_| scope.spawn(|| (0..100).map(|_| open(&root())).collect::<Vec<_>>())).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("a thread")).collect()
    });
    let minors: BTreeSet<u32> = files.iter().map(Fd::minor).collect();
    assert_eq!(minors.len(), 800);
    drop(files);
    unload(kernel);
}

#[test]
fn only_root_of_the_global_zone_opens_the_unrestricted_node_of_a_hardened_driver() {
    let kernel = loaded();
    let (user, zoned) = (Arc::new(Process::new(1001)), Arc::new(Process::new(0).jailed()));
    assert_eq!(Fd::open(&user, NAME).err(), Some(EACCES));
    // Whatever the node's mode has become.
    assert_eq!(Fd::open_dev(&user, 0, 2).err(), Some(EPERM));
    assert_eq!(Fd::open(&zoned, NAME).err(), Some(EPERM));
    for process in [&user, &zoned] {
        assert!(Fd::open(process, NAME_RESTRICTED).is_ok());
    }
    unload(kernel);
}

#[test]
fn driver_conf_lets_zones_and_users_in() {
    let kernel = boot();
    kernel.set(|settings| settings.allow_zones = true);
    assert_eq!(kernel.load(), 0);
    assert!(Fd::open(&Arc::new(Process::new(0).jailed()), NAME).is_ok());
    assert_eq!(kernel.unload(), 0);
    kernel.set(|settings| settings.hardened = false);
    assert_eq!(kernel.load(), 0);
    assert!(Fd::open(&Arc::new(Process::new(1001)), NAME).is_ok());
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
        let (first, second) = if parent_first { (mine, inherited) } else { (inherited, mine) };
        drop(first);
        assert_eq!(sessions(), 1);
        drop(second);
        assert_eq!(sessions(), 0);
    }
    unload(kernel);
}

#[test]
fn codes_carry_the_size_of_the_header_and_nothing_else() {
    let kernel = loaded();
    let fd = open(&root());
    let mut packet = vt_caps();
    let code = packet.code();
    for size in [0_u32, 23, 25, 28] {
        let wrong = code & !0x00ff_0000 | size << 16;
        assert_eq!(fd.packet(wrong, packet.bytes_mut()), Err(EINVAL), "{size}");
    }
    assert_eq!(fd.packet(code, packet.bytes_mut()), Ok(0));
    drop(fd);
    unload(kernel);
}

#[test]
fn requests_that_the_driver_refuses_leave_the_callers_memory_alone() {
    let kernel = loaded();
    let fd = open(&root());
    let out = size_of::<QueryFuncsOut>();
    for mut packet in [vt_caps(), Packet::bare(Encoding::Solaris, Function::QueryFuncs, out)] {
        packet.header_mut().session_cookie ^= 1;
        let before = packet.clone();
        assert_eq!(fd.packet(packet.code(), packet.bytes_mut()), Err(EINVAL));
        assert_eq!(packet.bytes(), before.bytes());
        packet.header_mut().flags = 0;
        assert_eq!(fd.packet(packet.code(), packet.bytes_mut()), Err(EINVAL));
    }
    drop(fd);
    unload(kernel);
}

#[test]
fn packets_have_limits_and_must_be_there() {
    let kernel = loaded();
    let fd = open(&root());
    let mut packet = Packet::bare(Encoding::Solaris, Function::QueryFuncs, HEADER_BYTES);
    let code = packet.code();
    for (in_bytes, out_bytes) in [(0x100_0001, 24), (23, 24), (24, 23), (24, 0x100_0001)] {
        (packet.header_mut().in_bytes, packet.header_mut().out_bytes) = (in_bytes, out_bytes);
        assert_eq!(fd.packet(code, packet.bytes_mut()), Err(EINVAL), "{in_bytes:#x}, {out_bytes:#x}");
    }
    for address in [0, 8, usize::MAX - 8, 0xffff_8000_0000_0000] {
        assert_eq!(fd.ioctl(code, address), Err(EFAULT), "{address:#x}");
    }
    drop(fd);
    unload(kernel);
}

#[test]
fn programs_of_32_bits_and_callers_in_the_kernel_are_told_that_this_is_not_for_them() {
    let kernel = loaded();
    let small = Arc::new(Process::new(0).with_32bit_program());
    let fd = open(&small);
    for flag in [0, 0x80] {
        for function in [Function::VtCaps, Function::QueryFuncs, Function::FastDoNop] {
            let code = Encoding::Solaris.code(function, 0, flag);
            assert_eq!(fd.packet(code, vt_caps().bytes_mut()), Err(ENOTTY), "{code:#x}");
        }
    }
    let process = root();
    let fd64 = open(&process);
    // A 64-bit program that uses their numbers is wrong.
    let code = Encoding::Solaris.code(Function::VtCaps, 0, 0);
    assert_eq!(fd64.packet(code, vt_caps().bytes_mut()), Err(EINVAL));
    let mut packet = vt_caps();
    let kernel_mode = 0x8020_0003_u32 as i32;
    let address = packet.bytes_mut().as_ptr() as usize;
    assert_eq!(fd64.ioctl_with_mode(&process, vt_caps().code(), address, kernel_mode), Err(EPERM));
    drop((fd, fd64));
    unload(kernel);
}

#[test]
fn a_fast_call_without_a_vm_returns_the_status_as_its_value() {
    let kernel = loaded();
    let code = Encoding::Solaris.code(Function::FastDoNop, 0, 0x80);
    let fd = open(&root());
    assert_eq!(fd.ioctl(code, 0), Ok(-225));
    let restricted = Fd::open(&root(), NAME_RESTRICTED).expect("a restricted session");
    assert_eq!(restricted.ioctl(code, 0), Err(EINVAL));
    drop((fd, restricted));
    unload(kernel);
}

fn hold_everything(client: &Client, own: &[u8]) {
    client.page_alloc(4, true).expect("pages");
    client.page_alloc(4, false).expect("pages");
    client.low_alloc(3).expect("low pages");
    client.cont_alloc(2).expect("contiguous pages");
    client.gip_map().expect("the time page");
    client.sem_create(EventType::Single).expect("a semaphore");
    let first = (own.as_ptr() as usize & !(PAGE - 1)) + PAGE;
    client.page_lock(first, 1).expect("locked pages");
    client.page_map_kernel(first, 0, PAGE as u32).expect("a mapping of locked pages");
}

#[test]
fn a_process_that_is_killed_leaves_nothing() {
    let kernel = loaded();
    let process = root();
    let client = client(&process);
    let own = vec![0_u8; 3 * PAGE];
    hold_everything(&client, &own);
    assert_eq!(fake::mapping_count(&process), 5);
    assert_eq!(machine().ledger.count("locked pages"), 1);
    drop(client);
    exit(&process, Vec::new());
    assert_eq!(fake::mapping_count(&process), 0);
    unload(kernel);
}

#[test]
fn a_process_can_end_while_another_one_still_has_its_session() {
    let kernel = loaded();
    let (owner, other) = (root(), root());
    let descriptor = open(&owner);
    let inherited = descriptor.inherit(&other);
    let client = Client::with_device(Nodes::device(descriptor, owner.clone()), Encoding::Solaris);
    let client = client.expect("a session");
    let own = vec![0_u8; 3 * PAGE];
    hold_everything(&client, &own);
    drop(client);
    assert_eq!(sessions(), 1);
    // The kernel wants the locked page back, and the driver's mapping of it must be gone first.
    exit(&owner, Vec::new());
    assert_eq!(machine().ledger.count("locked pages"), 0);
    drop(inherited);
    unload(kernel);
}

#[test]
fn pages_live_as_long_as_they_are_mapped_even_if_another_process_closes_last() {
    let kernel = loaded();
    let (owner, other) = (root(), root());
    let descriptor = open(&owner);
    let inherited = descriptor.inherit(&other);
    let client = Client::with_device(Nodes::device(descriptor, owner.clone()), Encoding::Solaris);
    let client = client.expect("a session");
    let pages = client.page_alloc(2, true).expect("pages");
    unsafe { (pages.r3 as *mut u8).write(0x77) };
    drop(client);
    drop(inherited);
    assert_eq!(sessions(), 0);
    assert_eq!(unsafe { (pages.r3 as *const u8).read() }, 0x77, "the owner still has its page");
    fake::munmap(&owner, pages.r3);
    unload(kernel);
}

#[test]
fn memory_that_the_process_has_unmapped_itself_can_still_be_freed() {
    let kernel = loaded();
    let process = root();
    let client = client(&process);
    let pages = client.page_alloc(2, true).expect("pages");
    fake::munmap(&process, pages.r3);
    client.page_free(pages.r3).expect("free");
    assert!(client.page_free(pages.r3).is_err());
    drop(client);
    unload(kernel);
}

#[test]
fn a_part_of_a_block_shows_the_pages_that_it_is_a_part_of() {
    let kernel = loaded();
    let client = client(&root());
    let pages = client.page_alloc(6, true).expect("pages");
    for page in 0..6 {
        unsafe { ((pages.r3 + page * PAGE) as *mut u8).write(page as u8 + 1) };
    }
    let part = client.page_map_kernel(pages.r3, 2 * PAGE as u32, 3 * PAGE as u32).expect("a part");
    for page in 0..3 {
        assert_eq!(unsafe { ((part + page * PAGE) as *const u8).read() }, page as u8 + 3);
    }
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
    assert_eq!(interrupted.expect_err("no success").status(), Some(VERR_INTERRUPTED));
    drop(client);
    unload(kernel);
}

#[test]
fn cpus_that_go_and_come_back_are_followed() {
    let kernel = loaded();
    let client = client(&root());
    let gip = client.gip().expect("the time page");
    let online = || gip.header().online_count.load(Ordering::Relaxed);
    assert_eq!(online(), 4);
    for cpu in [3, 1] {
        fake::set_online(cpu, false);
        assert_eq!(online(), 3);
        fake::set_online(cpu, true);
        assert_eq!(online(), 4);
    }
    drop(gip);
    drop(client);
    unload(kernel);
}

#[test]
fn the_machine_sleeps_and_wakes_up() {
    let kernel = loaded();
    let client = client(&root());
    client.gip_map().expect("the time page");
    fake::suspend();
    fake::resume();
    client.gip_unmap().expect("unmapped");
    drop(client);
    unload(kernel);
}

#[test]
fn vt_x_is_asked_for_where_the_kernel_arbitrates_it() {
    let kernel = loaded();
    kernel.set(|settings| settings.arbitration = false);
    assert_eq!(Solaris.enable_vtx(true), Err(VERR_NOT_SUPPORTED));
    kernel.set(|settings| settings.arbitration = true);
    kernel.set(|settings| settings.vtx_is_taken = true);
    assert_eq!(Solaris.enable_vtx(true), Err(VERR_VMX_IN_VMX_ROOT_MODE));
    kernel.set(|settings| settings.vtx_is_taken = false);
    assert_eq!((Solaris.enable_vtx(true), Solaris.enable_vtx(true)), (Ok(()), Ok(())));
    assert_eq!(machine().ledger.count("users of VT-x"), 1);
    assert_eq!(Solaris.enable_vtx(false), Ok(()));
    assert_eq!(machine().ledger.count("users of VT-x"), 1);
    assert_eq!(Solaris.enable_vtx(false), Ok(()));
    assert_eq!(machine().ledger.count("users of VT-x"), 0);
    assert_eq!(Solaris.enable_vtx(false), Ok(()));
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
                    match Fd::open(&process, NAME_RESTRICTED) {
                        Ok(fd) => assert_eq!(fd.packet(vt_caps().code(), vt_caps().bytes_mut()), Ok(0)),
                        Err(error) => assert!([ENOENT, ENXIO].contains(&error), "{error}"),
                    }
                }
            });
        }
        for _ in 0..100 {
            assert_eq!(kernel.load(), 0);
            while kernel.unload() != 0 {
                std::thread::yield_now();
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    drop(kernel);
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
            let _ = client.page_free(pages.r3);
        }
        let _ = client.page_alloc(2, false);
        let _ = client.low_alloc(2);
        let _ = client.cont_alloc(4);
        let _ = client.page_lock(first, 2);
        let _ = client.page_map_kernel(first, PAGE as u32, PAGE as u32);
        let _ = client.gip_map();
        let _ = client.sem_create(EventType::Multi);
    }
    let counts = ["locked pages", "segments"].map(|kind| machine().ledger.count(kind));
    assert_eq!(counts, [0; 2], "a closed session leaves nothing to the end of its process");
    exit(&process, Vec::new());
    assert_eq!(kernel.unload(), 0);
}

#[test]
fn no_failure_of_the_kernel_leaves_anything_behind() {
    let kernel = boot();
    let mut failures = BTreeSet::new();
    for nth in 1.. {
        machine().faults.fail_nth(nth);
        scenario(&kernel);
        let Some(failed) = machine().faults.stop() else { break };
        assert_eq!(kernel.leftovers(), [], "after failure {nth}, of {failed}");
        failures.insert(failed);
    }
    println!("functions that failed: {failures:?}");
    for expected in [
        "mod_install",
        "ddi_create_priv_minor_node",
        "ddi_umem_alloc",
        "contig_alloc",
        "vmem_alloc",
        "as_map",
        "umem_lockmemory",
        "hat_getpfnum",
        "ddi_copyin",
    ] {
        assert!(failures.contains(expected), "{expected} was not tried");
    }
}
