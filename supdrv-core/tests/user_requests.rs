//! Requests in the caller's memory: what is copied in, what travels back, and what never does.

use zerocopy::{FromBytes, IntoBytes};

use supdrv_core::abi::ioctl::{Encoding, Function, MAX_REQUEST_BYTES};
use supdrv_core::abi::requests::{self as r, RequestHeader};
use supdrv_core::abi::status::*;
use supdrv_core::dispatch::user::{Claim, Failure, ioctl_at};
use supdrv_core::mock::packet::zeroed;
use supdrv_core::mock::{Call, Client, Host, Request, UserMemory, replay};
use supdrv_core::os::{MemProt, PAGE_SIZE};

/// Puts a packet at the start of user memory that is otherwise full of a pattern.
fn place(client: &Client<'_>, request: &Request, pages: usize) -> UserMemory {
    let (words, bytes) = request.buffer();
    let mut memory = client.host().os().user_memory(pages);
    memory.fill(0xcc);
    let sent = (request.header().in_bytes as usize).min(bytes);
    memory[..sent].copy_from_slice(&words.as_bytes()[..sent]);
    memory
}

fn send(client: &Client<'_>, request: &Request, address: usize) -> core::result::Result<(), Failure> {
    ioctl_at(client.session(), request.code_for(Encoding::Linux), address)
}

fn paging_mode() -> Request {
    Request::new(Function::GetPagingMode).output::<r::GetPagingModeOut>()
}

#[test]
fn exactly_the_output_travels_back() {
    let host = Host::new();
    let client = host.open();
    let memory = place(&client, &paging_mode(), 1);
    assert_eq!(send(&client, &paging_mode(), memory.address()), Ok(()));
    let output = r::GetPagingModeOut::read_from_prefix(&memory).unwrap().0;
    assert_eq!(({ output.mode }, { output.hdr.rc }), (10, 0));
    assert!(memory[0x1c..].iter().all(|byte| *byte == 0xcc), "bytes behind the output were written");
}

#[test]
fn a_cut_answer_is_only_a_header() {
    let host = Host::new();
    let client = host.open();
    let input = r::ContAllocIn { pages: 0, ..zeroed() };
    let request = Request::new(Function::ContAlloc).input(&input).output::<r::ContAllocOut>();
    let memory = place(&client, &request, 1);
    assert_eq!(send(&client, &request, memory.address()), Ok(()));
    let header = RequestHeader::read_from_prefix(&memory).unwrap().0;
    assert_eq!(({ header.rc }, { header.out_bytes }), (VERR_PAGE_COUNT_OUT_OF_RANGE.0, 24));
    assert_eq!(memory[24..28], [0; 4], "the input is still there");
    assert!(memory[28..].iter().all(|byte| *byte == 0xcc));
}

#[test]
fn refused_and_bad_requests_leave_the_packet_alone() {
    let host = Host::new();
    let client = host.open();
    for (request, status) in [
        (paging_mode().cookies(1, 2), VERR_INVALID_PARAMETER),
        (paging_mode().code(0xc01c_5680), VERR_GENERAL_FAILURE),
        (paging_mode().out_bytes(0x18), VERR_INVALID_PARAMETER),
        (paging_mode().out_bytes(300), VERR_INVALID_PARAMETER),
    ] {
        let memory = place(&client, &request, 1);
        let before = memory.to_vec();
        assert_eq!(send(&client, &request, memory.address()), Err(Failure::Refused(status)));
        assert_eq!(before, *memory);
    }
}

#[test]
fn headers_that_contradict_themselves_are_malformed() {
    let host = Host::new();
    let client = host.open();
    for request in [
        paging_mode().flags(0),
        paging_mode().flags(0x4200_0043),
        paging_mode().in_bytes(23),
        paging_mode().out_bytes(23),
        paging_mode().out_bytes(0),
        paging_mode().in_bytes(MAX_REQUEST_BYTES as u32 + 1),
        paging_mode().out_bytes(MAX_REQUEST_BYTES as u32 + 1),
        paging_mode().out_bytes(u32::MAX),
    ] {
        let header = *request.header();
        let memory = place(&client, &request.clone().buffer_bytes(24), 1);
        assert_eq!(Claim::of(&header), None);
        assert_eq!(send(&client, &request, memory.address()), Err(Failure::Malformed), "{header:?}");
    }
}

#[test]
fn the_largest_packet_is_16_mib() {
    let host = Host::new();
    let client = host.open();
    let request = Request::new(Function::QueryFuncs).out_bytes(MAX_REQUEST_BYTES as u32);
    let memory = place(&client, &request, 1);
    let result = send(&client, &request, memory.address());
    assert_eq!(result, Err(Failure::Refused(VERR_INVALID_PARAMETER)), "it comes as far as the dispatcher");
}

#[test]
fn memory_that_is_not_there_faults() {
    let host = Host::new();
    let client = host.open();
    let request = Request::new(Function::PageFree).input(&r::PageFreeIn { r3: 1, ..zeroed() });
    let fault = Err(Failure::Fault);
    for address in [0, 0x1000, usize::MAX, usize::MAX - 8, usize::MAX - 24] {
        assert_eq!(send(&client, &request, address), fault, "{address:#x}");
    }
    let memory = place(&client, &request, 2);
    assert_eq!(send(&client, &request, memory.address() + 2 * PAGE_SIZE - 8), fault, "half a header");
    // The header is there, the rest of the input isn't.
    let mut memory = memory;
    let (words, _) = request.buffer();
    let at = 2 * PAGE_SIZE - 24;
    memory[at..].copy_from_slice(&words.as_bytes()[..24]);
    assert_eq!(send(&client, &request, memory.address() + at), fault);
    memory.set_faults(0, true);
    assert_eq!(send(&client, &request, memory.address()), fault);
    let other = host.os().new_process(1000, 1000);
    memory.set_faults(0, false);
    assert_eq!(
        host.os().run_as(other, || send(&client, &request, memory.address())),
        fault,
        "not its memory"
    );
}

#[test]
fn the_operation_stays_done_when_the_answer_cannot_travel() {
    let host = Host::new();
    let client = host.open();
    let input = r::ContAllocIn { pages: 1, ..zeroed() };
    let request = Request::new(Function::ContAlloc).input(&input).output::<r::ContAllocOut>();
    let memory = place(&client, &request, 1);
    memory.protect(0, 1, MemProt::READ);
    assert_eq!(send(&client, &request, memory.address()), Err(Failure::Fault));
    assert_eq!(host.counters().memory_refs, 1);
}

#[test]
fn what_the_driver_does_not_write_is_zero() {
    let host = Host::new();
    let client = host.open();
    // A large packet, so that it comes from the heap; all of the output travels, though nothing but the header is written.
    let functions = host.driver().functions().len();
    let request = Request::new(Function::QueryFuncs).output_with::<r::QueryFuncsOut, r::Function>(functions);
    let memory = place(&client, &request, 8);
    assert_eq!(send(&client, &request, memory.address()), Ok(()));
    assert_eq!(memory[0x1c..0x20], [0; 4], "padding");
    let mut zeros = 0;
    for function in memory[0x20..].chunks_exact(40).take(functions) {
        let end = function.iter().position(|byte| *byte == 0).unwrap();
        assert!(function[end..32].iter().all(|byte| *byte == 0), "behind a name");
        zeros += 32 - end;
    }
    assert!(zeros > 0);
}

#[test]
fn every_byte_of_a_request_is_read_once() {
    let host = Host::new();
    let client = host.open();
    let request = Request::new(Function::PageFree).input(&r::PageFreeIn { r3: 0x1000, ..zeroed() });
    let memory = place(&client, &request, 1);
    host.os().start_trace();
    assert_eq!(send(&client, &request, memory.address()), Ok(()));
    let copies: Vec<Call> = host
        .os()
        .take_trace()
        .into_iter()
        .filter(|call| matches!(call, Call::UserCopyFrom | Call::UserCopyTo))
        .collect();
    assert_eq!(copies, [Call::UserCopyFrom, Call::UserCopyFrom, Call::UserCopyTo], "header, rest, answer");
    assert_eq!(host.os().user_bytes_read(), size_of::<r::PageFreeIn>());
}

#[test]
fn small_packets_need_no_heap() {
    use supdrv_core::mock::Kind;
    let host = Host::new();
    let client = host.open();
    let memory = place(&client, &paging_mode(), 1);
    let before = host.os().made(Kind::Heap);
    assert_eq!(send(&client, &paging_mode(), memory.address()), Ok(()));
    assert_eq!(host.os().made(Kind::Heap), before);
}

#[test]
fn large_packets_survive_every_failure() {
    let replayed = replay(|os| {
        let host = Host::on(os)?;
        let client = host.open_as(supdrv_core::os::SessionKind::User)?;
        let input = r::LowAllocIn { pages: 100, ..zeroed() };
        let request = Request::new(Function::LowAlloc).input(&input).output_with::<r::LowAllocOut, u64>(100);
        let memory = place(&client, &request, 1);
        match send(&client, &request, memory.address()) {
            Ok(()) => Ok(()),
            Err(Failure::Fault) => Err(VERR_ACCESS_DENIED),
            Err(Failure::NoMemory) => Err(VERR_NO_MEMORY),
            Err(other) => panic!("{other:?}"),
        }
    });
    assert!(replayed.calls > 20, "{replayed:?}");
}
