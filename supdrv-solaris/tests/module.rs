//! The driver's life, its nodes and its files, on a fake kernel.
#![cfg(target_os = "linux")]
#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "addresses that the driver handed out, and its entry for siblings with good packets"
)]

mod fake;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use fake::{Calls, EACCES, EBUSY, EINVAL, ENOENT, ENXIO, EPERM, Fd, boot, machine};
use fakekernel::context::Process;
use fakekernel::suite::{self, NAME, NAME_RESTRICTED, client, loaded, open, root, sessions, unload, vt_caps};
use supdrv_core::abi::ioctl::{Encoding, Function};
use supdrv_core::abi::status::{VERR_NOT_SUPPORTED, VERR_VMX_IN_VMX_ROOT_MODE};
use supdrv_core::os::OsHwVirt;
use supdrv_solaris::Solaris;

fakekernel::shim_suite!(Calls; common, unloading, restricted_node, shared_files, foreign_programs);

#[test]
fn a_refused_detach_says_why() {
    let kernel = loaded::<Calls>();
    let sibling = suite::life::connect_sibling::<Calls>();
    assert_eq!(kernel.unload(), EBUSY);
    assert!(kernel.log_text().contains("in use"));
    suite::life::disconnect_sibling::<Calls>(sibling);
    unload::<Calls>(kernel);
}

#[test]
fn a_mapping_is_all_or_nothing_and_a_child_gets_it_without_pages() {
    let kernel = loaded::<Calls>();
    let process = root();
    let client = client::<Calls>(&process);
    let pages = client.page_alloc(3, true).expect("pages");
    fake::check_mapping(&process, pages.r3, 7);
    let time_page = client.gip_map().expect("the time page");
    fake::check_mapping(&process, time_page.r3, 1);
    drop(client);
    unload::<Calls>(kernel);
}

#[test]
fn only_the_two_nodes_can_be_opened_and_only_as_character_devices() {
    let kernel = loaded::<Calls>();
    const BLOCK: i32 = 0;
    const CHARACTER: i32 = 2;
    for minor in [2, 3, 4097, 4098, u32::MAX] {
        assert_eq!(Fd::open_dev(&root(), minor, CHARACTER).err(), Some(EINVAL), "{minor}");
    }
    assert_eq!(Fd::open_dev(&root(), 0, BLOCK).err(), Some(EINVAL));
    assert_eq!(Fd::open(&root(), "vboxdrvx").err(), Some(ENOENT));
    assert_eq!(sessions::<Calls>(), 0);
    unload::<Calls>(kernel);
}

#[test]
fn every_open_file_has_a_minor_number_of_its_own_and_there_are_4096() {
    let kernel = loaded::<Calls>();
    let process = root();
    let files: Vec<Fd> = (0..4096).map(|_| Fd::open(&process, NAME_RESTRICTED).expect("a session")).collect();
    let minors: BTreeSet<u32> = files.iter().map(Fd::minor).collect();
    assert_eq!((minors.len(), minors.first(), minors.last()), (4096, Some(&2), Some(&4097)));
    assert_eq!(Fd::open(&process, NAME_RESTRICTED).err(), Some(ENXIO));
    // Opening a number that is in use isn't opening the file.
    assert_eq!(Fd::open_dev(&process, 2, 2).err(), Some(EINVAL));
    drop(files);
    assert!(Fd::open(&process, NAME_RESTRICTED).is_ok());
    unload::<Calls>(kernel);
}

#[test]
fn only_root_of_the_global_zone_opens_the_unrestricted_node_of_a_hardened_driver() {
    let kernel = loaded::<Calls>();
    let (user, zoned) = (Arc::new(Process::new(1001)), Arc::new(Process::new(0).jailed()));
    assert_eq!(Fd::open(&user, NAME).err(), Some(EACCES));
    // Whatever the node's mode has become.
    assert_eq!(Fd::open_dev(&user, 0, 2).err(), Some(EPERM));
    assert_eq!(Fd::open(&zoned, NAME).err(), Some(EPERM));
    for process in [&user, &zoned] {
        assert!(Fd::open(process, NAME_RESTRICTED).is_ok());
    }
    unload::<Calls>(kernel);
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
    unload::<Calls>(kernel);
}

#[test]
fn codes_carry_the_size_of_the_header_and_nothing_else() {
    let kernel = loaded::<Calls>();
    let fd = open::<Calls>(&root());
    let mut packet = vt_caps::<Calls>();
    let code = packet.code();
    for size in [0_u32, 23, 25, 28] {
        let wrong = code & !0x00ff_0000 | size << 16;
        assert_eq!(fd.packet(wrong, packet.bytes_mut()), Err(EINVAL), "{size}");
    }
    assert_eq!(fd.packet(code, packet.bytes_mut()), Ok(0));
    drop(fd);
    unload::<Calls>(kernel);
}

#[test]
fn callers_in_the_kernel_are_told_that_this_is_not_for_them() {
    let kernel = loaded::<Calls>();
    let process = root();
    let fd = open::<Calls>(&process);
    let mut packet = vt_caps::<Calls>();
    let kernel_mode = 0x8020_0003_u32 as i32;
    let address = packet.bytes_mut().as_ptr() as usize;
    assert_eq!(fd.ioctl_with_mode(&process, packet.code(), address, kernel_mode), Err(EPERM));
    drop(fd);
    unload::<Calls>(kernel);
}

#[test]
fn a_fast_call_without_a_vm_returns_the_status_as_its_value() {
    let kernel = loaded::<Calls>();
    let code = Encoding::Solaris.code(Function::FastDoNop, 0, 0x80);
    let fd = open::<Calls>(&root());
    assert_eq!(fd.ioctl(code, 0), Ok(-225));
    let restricted = Fd::open(&root(), NAME_RESTRICTED).expect("a restricted session");
    assert_eq!(restricted.ioctl(code, 0), Err(EINVAL));
    drop((fd, restricted));
    unload::<Calls>(kernel);
}

#[test]
fn cpus_that_go_and_come_back_are_followed() {
    let kernel = loaded::<Calls>();
    let client = client::<Calls>(&root());
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
    unload::<Calls>(kernel);
}

#[test]
fn the_machine_sleeps_and_wakes_up() {
    let kernel = loaded::<Calls>();
    let client = client::<Calls>(&root());
    client.gip_map().expect("the time page");
    fake::suspend();
    fake::resume();
    client.gip_unmap().expect("unmapped");
    drop(client);
    unload::<Calls>(kernel);
}

#[test]
fn vt_x_is_asked_for_where_the_kernel_arbitrates_it() {
    let kernel = loaded::<Calls>();
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
    unload::<Calls>(kernel);
}
