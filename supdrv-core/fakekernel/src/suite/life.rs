//! The driver comes and goes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use supdrv_core::abi::idc::{ConnectIn, ConnectOut, IdcHeader, IdcRequest};
use supdrv_core::abi::status::VERR_INVALID_POINTER;
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use super::{
    NAME, NAME_RESTRICTED, ShimUnderTest, call, conformance, loaded, open, root, sessions, unload, vt_caps,
};
use crate::nodes::Nodes;

/// What a sibling says who knows the driver.
const MAGIC: u32 = 0x6972_6f74;
const VERSION: u32 = 0x1_0000;

pub fn the_driver_loads_and_unloads_fifty_times_without_a_trace<S: ShimUnderTest>() {
    let kernel = S::boot();
    for _ in 0..50 {
        assert_eq!(S::load(&kernel), 0);
        assert_eq!(S::unload(&kernel), 0);
        assert_eq!(S::leftovers(&kernel), []);
    }
}

pub fn the_conformance_suite_passes_through_the_nodes<S: ShimUnderTest>() {
    let kernel = loaded::<S>();
    let tally = conformance(&Nodes::<S>::new(root()));
    assert_eq!(tally.failed, 0);
    assert!(tally.passed > 100);
    unload::<S>(kernel);
}

pub fn an_open_file_keeps_the_driver_loaded_and_working<S: ShimUnderTest>() {
    let kernel = loaded::<S>();
    let process = root();
    let fd = open::<S>(&process);
    assert_eq!(S::unload(&kernel), S::EBUSY);
    let mut packet = vt_caps::<S>();
    assert_eq!(call::<S>(&fd, &process, packet.code(), packet.bytes_mut()), Ok(0));
    let another = open::<S>(&S::second_opener(&process));
    assert_eq!(sessions::<S>(), 2);
    drop(fd);
    assert_eq!(S::unload(&kernel), S::EBUSY);
    drop(another);
    assert_eq!(sessions::<S>(), 0);
    unload::<S>(kernel);
}

fn connect_packet() -> ConnectIn {
    let mut connect = ConnectIn::new_zeroed();
    connect.hdr.bytes = size_of::<ConnectIn>() as u32;
    (connect.magic, connect.wanted_version, connect.min_version) = (MAGIC, VERSION, VERSION);
    connect
}

/// A sibling connects: what it needs to go again.
pub fn connect_sibling<S: ShimUnderTest>() -> IdcHeader {
    let mut connect = connect_packet();
    let packet = connect.as_mut_bytes();
    // SAFETY: a packet of the request's size.
    assert_eq!(unsafe { S::idc(IdcRequest::Connect, packet.as_mut_ptr().cast()) }, 0);
    let answer = ConnectOut::read_from_bytes(packet).expect("an answer");
    assert_eq!(answer.hdr.rc, 0);
    answer.hdr
}

/// It goes.
pub fn disconnect_sibling<S: ShimUnderTest>(sibling: IdcHeader) {
    let mut disconnect = IdcHeader { bytes: size_of::<IdcHeader>() as u32, ..sibling };
    // SAFETY: a packet of the request's size.
    assert_eq!(unsafe { S::idc(IdcRequest::Disconnect, (&raw mut disconnect).cast()) }, 0);
}

pub fn a_sibling_driver_keeps_the_driver_loaded<S: ShimUnderTest>() {
    let kernel = loaded::<S>();
    let sibling = connect_sibling::<S>();
    assert_eq!(sessions::<S>(), 1);
    assert_eq!(S::unload(&kernel), S::EBUSY);
    disconnect_sibling::<S>(sibling);
    assert_eq!(sessions::<S>(), 0);
    unload::<S>(kernel);
}

pub fn siblings_come_and_go<S: ShimUnderTest>() {
    let kernel = loaded::<S>();
    let siblings = [connect_sibling::<S>(), connect_sibling::<S>()];
    assert_eq!(sessions::<S>(), 2);
    siblings.into_iter().for_each(disconnect_sibling::<S>);
    assert_eq!(sessions::<S>(), 0);
    unload::<S>(kernel);
}

pub fn siblings_with_bad_packets_get_nothing<S: ShimUnderTest>() {
    let kernel = loaded::<S>();
    for request in [IdcRequest::Connect, IdcRequest::Disconnect] {
        // SAFETY: null is what is tested.
        let status = unsafe { S::idc(request, core::ptr::null_mut()) };
        assert_eq!(status, VERR_INVALID_POINTER.0, "{request:?}");
    }
    let mut connect = connect_packet();
    connect.magic ^= 1;
    // SAFETY: a packet of the request's size.
    let status = unsafe { S::idc(IdcRequest::Connect, connect.as_mut_bytes().as_mut_ptr().cast()) };
    let refused = IdcHeader::read_from_prefix(connect.as_bytes()).map_or(0, |(header, _)| header.rc);
    assert!(status != 0 || refused != 0, "a stranger was let in");
    assert_eq!(sessions::<S>(), 0);
    unload::<S>(kernel);
}

pub fn nodes_that_do_not_exist_cannot_be_opened<S: ShimUnderTest>() {
    let kernel = S::boot();
    for name in [NAME, NAME_RESTRICTED] {
        assert_eq!(S::open(&root(), name).err(), Some(S::ENOENT), "{name} without the driver");
    }
    assert_eq!(S::load(&kernel), 0);
    assert_eq!(S::open(&root(), "vboxdrvx").err(), Some(S::ENOENT));
    assert_eq!(sessions::<S>(), 0);
    unload::<S>(kernel);
}

pub fn opens_that_race_with_unloads_find_the_driver_or_no_driver<S: ShimUnderTest>() {
    race_of_opens_and_unloads::<S>(S::unload);
}

/// Opens race with loads and a kind of unload.
pub fn race_of_opens_and_unloads<S: ShimUnderTest>(unload: impl Fn(&S::Kernel) -> i32) {
    let kernel = S::boot();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| open_until::<S>(&stop));
        }
        let mut refused = 0;
        for _ in 0..100 {
            assert_eq!(S::load(&kernel), 0);
            while unload(&kernel) != 0 {
                refused += 1;
                std::thread::yield_now();
            }
        }
        stop.store(true, Ordering::Relaxed);
        println!("{refused} unloads were refused");
    });
    assert_eq!(S::leftovers(&kernel), []);
}

fn open_until<S: ShimUnderTest>(stop: &AtomicBool) {
    let process = root();
    while !stop.load(Ordering::Relaxed) {
        match S::open(&process, NAME_RESTRICTED) {
            Ok(fd) => {
                let mut packet = vt_caps::<S>();
                assert_eq!(call::<S>(&fd, &process, packet.code(), packet.bytes_mut()), Ok(0));
                drop(fd);
                // Systems that open and close one after the other would have somebody inside all the time.
                std::thread::sleep(Duration::from_micros(100));
            }
            Err(error) => assert!(S::OPEN_WITHOUT_DRIVER.contains(&error), "{error}"),
        }
    }
}
