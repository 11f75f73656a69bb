//! What crosses the boundary, and how it is buffered.

use std::sync::Arc;

use supctl::transport::Device;
use supdrv_core::abi::ioctl::{Function, IOCTL_FLAG, MAX_REQUEST_BYTES};
use supdrv_core::abi::requests::{HEADER_BYTES, VtCapsOut};

use super::{
    NAME_RESTRICTED, QUERY_FUNCS_BYTES, ShimUnderTest, call, client, loaded, open, query_funcs, root, unload,
    vt_caps,
};
use crate::context::Process;
use crate::nodes::Nodes;
use crate::ram::PAGE;

pub fn requests_that_the_driver_refuses_leave_the_callers_memory_alone<S: ShimUnderTest>() {
    let kernel = loaded::<S>();
    let process = root();
    let fd = open::<S>(&process);
    for mut packet in [vt_caps::<S>(), query_funcs::<S>(QUERY_FUNCS_BYTES)] {
        let good = packet.clone();
        packet.header_mut().session_cookie ^= 1;
        let before = packet.clone();
        assert_eq!(call::<S>(&fd, &process, packet.code(), packet.bytes_mut()), Err(S::EINVAL));
        assert_eq!(packet.bytes(), before.bytes());
        packet = good;
        packet.header_mut().flags = 0;
        let before = packet.clone();
        assert_eq!(call::<S>(&fd, &process, packet.code(), packet.bytes_mut()), Err(S::EINVAL));
        assert_eq!(packet.bytes(), before.bytes());
    }
    drop(fd);
    unload::<S>(kernel);
}

pub fn an_answer_touches_nothing_behind_the_packet<S: ShimUnderTest>() {
    const MARK: u8 = 0xa5;
    let kernel = loaded::<S>();
    let process = root();
    let fd = open::<S>(&process);
    let mut packet = vt_caps::<S>();
    let code = packet.code();
    let bytes = packet.bytes().len();
    let mut room = vec![MARK; bytes + 64];
    let (place, behind) = room.split_at_mut(bytes);
    place.copy_from_slice(packet.bytes_mut());
    assert_eq!(call::<S>(&fd, &process, code, place), Ok(0));
    assert!(behind.iter().all(|byte| *byte == MARK));
    assert_ne!(place, packet.bytes(), "there is an answer");
    drop(fd);
    unload::<S>(kernel);
}

pub fn packets_have_limits<S: ShimUnderTest>() {
    let kernel = loaded::<S>();
    let process = root();
    let fd = open::<S>(&process);
    let mut packet = query_funcs::<S>(HEADER_BYTES);
    let code = packet.code();
    let (too_much, too_little) = (MAX_REQUEST_BYTES as u32 + 1, HEADER_BYTES as u32 - 1);
    let header = HEADER_BYTES as u32;
    for (in_bytes, out_bytes) in [
        (too_much, header),
        (too_little, header),
        (header, too_little),
        (header, too_much),
        (u32::MAX, u32::MAX),
    ] {
        (packet.header_mut().in_bytes, packet.header_mut().out_bytes) = (in_bytes, out_bytes);
        let refused = call::<S>(&fd, &process, code, packet.bytes_mut());
        assert_eq!(refused, Err(S::EINVAL), "{in_bytes:#x}, {out_bytes:#x}");
    }
    drop(fd);
    unload::<S>(kernel);
}

pub fn packets_must_be_there<S: ShimUnderTest>() {
    let kernel = loaded::<S>();
    let process = root();
    let fd = open::<S>(&process);
    let code = query_funcs::<S>(HEADER_BYTES).code();
    // Nothing, almost nothing, around the end of the address space, and in the middle of the kernel's half.
    for address in [0, 8, usize::MAX - 8, !0 << (usize::BITS - 17)] {
        assert_eq!(S::ioctl(&fd, &process, code, address), Err(S::EFAULT), "{address:#x}");
    }
    drop(fd);
    unload::<S>(kernel);
}

pub fn a_fast_call_without_a_vm_has_the_specified_status<S: ShimUnderTest>() {
    let kernel = loaded::<S>();
    let process = root();
    let code = S::ENCODING.code(Function::FastDoNop, 0, IOCTL_FLAG);
    let device: Box<dyn Device> = Nodes::<S>::device(open::<S>(&process), process.clone());
    assert_eq!(device.fast(code, 0), Err(S::fast_refusal()));
    drop(device);
    unload::<S>(kernel);
}

pub fn a_fast_code_on_the_restricted_node_is_a_packet_that_is_not_there<S: ShimUnderTest>() {
    let kernel = loaded::<S>();
    let process = root();
    let code = S::ENCODING.code(Function::FastDoNop, 0, IOCTL_FLAG);
    let restricted = S::open(&process, NAME_RESTRICTED).expect("a restricted session");
    let refused = S::ioctl(&restricted, &process, code, 0);
    assert!(refused == Err(S::EINVAL) || refused == Err(S::EFAULT), "{refused:?}");
    drop(restricted);
    unload::<S>(kernel);
}

pub fn a_part_of_a_block_shows_the_pages_that_it_is_a_part_of<S: ShimUnderTest>() {
    let kernel = loaded::<S>();
    let client = client::<S>(&root());
    let pages = client.page_alloc(6, true).expect("pages");
    for page in 0..6 {
        // SAFETY: pages that the process got.
        unsafe { ((pages.r3 + page * PAGE) as *mut u8).write(page as u8 + 1) };
    }
    let part = client.page_map_kernel(pages.r3, 2 * PAGE as u32, 3 * PAGE as u32).expect("a part");
    for page in 0..3 {
        // SAFETY: the fake kernel's memory is the program's too.
        assert_eq!(unsafe { ((part + page * PAGE) as *const u8).read() }, page as u8 + 3);
    }
    drop(client);
    unload::<S>(kernel);
}

pub fn programs_of_32_bits_are_told_that_this_is_not_for_them<S: ShimUnderTest>() {
    let kernel = loaded::<S>();
    let small = Arc::new(Process::new(0).with_32bit_program());
    let fd = open::<S>(&small);
    for flag in [0, IOCTL_FLAG] {
        for function in [Function::VtCaps, Function::QueryFuncs, Function::FastDoNop] {
            let code = S::ENCODING.code(function, size_of::<VtCapsOut>() as u32, flag);
            let refused = call::<S>(&fd, &small, code, vt_caps::<S>().bytes_mut());
            assert_eq!(refused, Err(S::ENOTTY), "{code:#x}");
        }
    }
    // And a 64-bit program that uses their numbers is wrong.
    let process = root();
    let fd64 = open::<S>(&process);
    let code = S::ENCODING.code(Function::VtCaps, size_of::<VtCapsOut>() as u32, 0);
    assert_eq!(call::<S>(&fd64, &process, code, vt_caps::<S>().bytes_mut()), Err(S::EINVAL));
    drop((fd, fd64));
    unload::<S>(kernel);
}
