//! Calls into images: VMMR0 entry points, fast calls, services; and freeing an image while somebody is inside.
#![cfg(target_arch = "x86_64")]

#[path = "common/code.rs"]
mod code;

use std::ffi::c_void;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU32};

use code::{Builder, ENTRY_EX, ENTRY_FAST, SERVICE, continues, counts, returns};
use supdrv_core::abi::ioctl::{Function, SERVICE_REQUEST_MAGIC};
use supdrv_core::abi::requests as r;
use supdrv_core::abi::status::{
    Result, Status, VERR_GENERAL_FAILURE, VERR_INTERNAL_ERROR, VERR_INVALID_HANDLE, VERR_INVALID_PARAMETER,
    VERR_SUPDRV_SERVICE_NOT_FOUND, VERR_WRONG_ORDER,
};
use supdrv_core::mock::client::Image;
use supdrv_core::mock::packet::zeroed;
use supdrv_core::mock::{Client, Host, Reply, Request};
use zerocopy::IntoBytes;

fn vmmr0(name: &str) -> Image {
    Builder::new(name).vmmr0(ENTRY_FAST, ENTRY_EX).build()
}

fn slots(host: &Host) -> [usize; 4] {
    let view = host.view();
    [&view.vmmr0, &view.vmmr0_entry_int, &view.vmmr0_entry_fast, &view.vmmr0_entry_ex]
        .map(|slot| slot.load(Relaxed))
}

/// A page that plays a VM: each fast operation counts in it.
fn vm(client: &Client<'_>) -> usize {
    client.page_alloc(1, true).expect("a page").r0
}

fn is_rejected(reply: &Reply) -> bool {
    reply.call == Err(VERR_INVALID_PARAMETER) && reply.rc() == VERR_INVALID_PARAMETER
}

#[test]
fn the_entry_points_are_set_by_the_load_and_cleared_by_the_last_free() {
    let host = Host::new();
    let client = host.open();
    let image = vmmr0("VMMR0.r0");
    let base = client.ldr_open(&image, "").expect("opened").base;
    assert_eq!(slots(&host), [0; 4]);
    client.ldr_load(base, &image).expect("loaded");
    let expected = [base].into_iter().chain(image.entry_points.map(|offset| base + offset as usize));
    assert!(slots(&host).into_iter().eq(expected));
    client.ldr_free(base).expect("freed");
    assert_eq!(slots(&host), [0; 4]);
}

#[test]
fn there_is_one_vmmr0_image_at_a_time() {
    let host = Host::new();
    let client = host.open();
    let (first, second) = (vmmr0("A"), vmmr0("B"));
    let a = client.load(&first).expect("loaded");
    let b = client.ldr_open(&second, "").expect("opened").base;
    assert_eq!(client.ldr_load(b, &second), Err(VERR_INVALID_PARAMETER));
    assert_eq!(slots(&host)[0], a);
    assert!(client.ldr_open(&second, "").expect("opened").needs_loading, "B is as it was");
    client.ldr_free(a).expect("freed");
    assert_eq!(client.call_vmmr0(0, 0, 1, 1, None).rc(), VERR_WRONG_ORDER);
    client.ldr_load(b, &second).expect("loaded");
    assert_eq!(slots(&host)[0], b);
}

#[test]
fn a_refused_vmmr0_image_never_runs_its_init() {
    let host = Host::new();
    let client = host.open();
    client.load(&vmmr0("A")).expect("loaded");
    let inits = AtomicU32::new(0);
    let second = Builder::new("B").init(&counts(&inits, 0)).vmmr0(ENTRY_FAST, ENTRY_EX).build();
    assert_eq!(client.load(&second).map(drop), Err(VERR_INVALID_PARAMETER));
    assert_eq!(inits.load(Relaxed), 0);
}

#[test]
fn a_failing_init_publishes_no_entry_points() {
    let host = Host::new();
    let client = host.open();
    let image = Builder::new("A").init(&returns(-1)).vmmr0(ENTRY_FAST, ENTRY_EX).build();
    assert_eq!(client.load(&image).map(drop), Err(VERR_GENERAL_FAILURE));
    assert_eq!(slots(&host), [0; 4]);
}

struct SlotsInInit(*const Host, [usize; 4]);

unsafe extern "C" fn look_at_slots(_module: *mut c_void, seen: *mut SlotsInInit) -> i32 {
    // SAFETY: the test's code passes its own context.
    unsafe { (*seen).1 = slots(&*(*seen).0) };
    0
}

#[test]
fn nobody_can_enter_an_image_before_its_init_is_done() {
    let host = Host::new();
    let client = host.open();
    let mut seen = SlotsInInit(&raw const host, [1; 4]);
    let function: unsafe extern "C" fn(*mut c_void, *mut SlotsInInit) -> i32 = look_at_slots;
    let init = continues(function as usize, 2, (&raw mut seen) as usize);
    client.load(&Builder::new("A").init(&init).vmmr0(ENTRY_FAST, ENTRY_EX).build()).expect("loaded");
    assert_eq!(seen.1, [0; 4]);
    assert_ne!(slots(&host), [0; 4]);
}

#[test]
fn calls_reach_the_module_with_their_arguments() {
    let host = Host::new();
    let client = host.open();
    assert_eq!(client.call_vmmr0(0, 0, 1, 1, None).rc(), VERR_WRONG_ORDER, "nothing loaded");
    client.load(&vmmr0("VMMR0.r0")).expect("loaded");
    let reply = client.call_vmmr0(0, 0, 40, 2, None);
    assert_eq!((reply.call, reply.rc()), (Ok(()), Status(42)));
    let reply = client.call_vmmr0(0, 0, 0xffff_fff0, 6, Some(&[7, 0, 0, 0, 1, 2, 3, 4]));
    assert_eq!(reply.rc(), Status(-10), "the module's own failures are passed on");
    let packet = reply.items::<r::CallVmmr0In, u8>();
    assert_eq!(packet[8..], [8, 0, 0, 0, 1, 2, 3, 4], "what the module writes travels back");
    assert_eq!(reply.out_bytes(), size_of::<r::CallVmmr0In>() + 16);
}

#[test]
fn malformed_packets_for_the_module_are_rejected() {
    let host = Host::new();
    let client = host.open();
    client.load(&vmmr0("VMMR0.r0")).expect("loaded");
    for function in [Function::CallVmmr0, Function::CallVmmr0Big] {
        let fixed = size_of::<r::CallVmmr0In>() as u32;
        let send = |magic: u32, said: u32, tail: usize, out: u32| {
            let header = r::Vmmr0RequestHeader { magic, bytes: said };
            let request = Request::new(function).input(&zeroed::<r::CallVmmr0In>()).tail(header.as_bytes());
            client.send(&request.tail(&vec![0; tail]).out_bytes(out))
        };
        let good = supdrv_core::abi::ioctl::VMMR0_REQUEST_MAGIC;
        assert_eq!(send(good, 16, 8, fixed + 16).status(), Ok(Status(0)));
        assert!(is_rejected(&send(good + 1, 16, 8, fixed + 16)), "magic");
        assert!(is_rejected(&send(good, 15, 8, fixed + 16)), "size");
        assert!(is_rejected(&send(good, 24, 8, fixed + 24)), "more than was sent");
        assert!(is_rejected(&send(good, u32::MAX, 8, fixed + 16)), "wraps");
        assert!(is_rejected(&send(good, 16, 8, fixed)), "output");
        let cut =
            Request::new(function).input(&zeroed::<r::CallVmmr0In>()).tail(&[0; 4]).out_bytes(fixed + 4);
        assert!(is_rejected(&client.send(&cut)));
    }
    // Only the small form may come without a packet.
    let fixed = size_of::<r::CallVmmr0In>() as u32;
    let bare = |function| Request::new(function).input(&zeroed::<r::CallVmmr0In>()).out_bytes(fixed);
    assert_eq!(client.send(&bare(Function::CallVmmr0)).status(), Ok(Status(0)));
    assert!(is_rejected(&client.send(&bare(Function::CallVmmr0Big))));
    assert!(is_rejected(&client.send(&bare(Function::CallVmmr0).out_bytes(fixed + 8))));
}

#[test]
fn a_session_without_the_image_gets_what_it_would_get_without_any() {
    let host = Host::new();
    let (owner, stranger) = (host.open(), host.open());
    let image = vmmr0("VMMR0.r0");
    owner.load(&image).expect("loaded");
    assert_eq!(stranger.call_vmmr0(0, 0, 1, 1, None).rc(), VERR_WRONG_ORDER);
    stranger.set_vm(vm(&stranger)).expect("a VM");
    assert_eq!(stranger.fast(Function::FastDoNop, 0), Err(VERR_INTERNAL_ERROR));
    stranger.load(&image).expect("opened");
    assert_eq!(stranger.call_vmmr0(0, 0, 1, 1, None).rc(), Status(2));
    stranger.fast(Function::FastDoNop, 0).expect("allowed now");
    let base = slots(&host)[0];
    stranger.ldr_free(base).expect("freed");
    assert_eq!(stranger.call_vmmr0(0, 0, 1, 1, None).rc(), VERR_WRONG_ORDER);
    assert_eq!(stranger.fast(Function::FastDoNop, 0), Err(VERR_INTERNAL_ERROR));
    assert_eq!(owner.call_vmmr0(0, 0, 1, 1, None).rc(), Status(2));
}

#[test]
fn fast_calls_reach_the_module() {
    let host = Host::new();
    let client = host.open();
    assert_eq!(client.fast(Function::FastDoNop, 0), Err(VERR_INTERNAL_ERROR), "no VM");
    let vm = vm(&client);
    for wrong in [0x1001, vm + 1, 0x8000, 0x1234_5678_9abc_d000] {
        let request =
            Request::new(Function::SetVmForFast).input(&r::SetVmForFastIn { vm: wrong, ..zeroed() });
        let accepted = client.send(&request).status().is_ok();
        assert_eq!(accepted, wrong == 0x8000, "{wrong:#x}");
    }
    client.set_vm(vm).expect("a VM");
    assert_eq!(client.fast(Function::FastDoNop, 0), Err(VERR_INTERNAL_ERROR), "no module");
    client.load(&vmmr0("VMMR0.r0")).expect("loaded");
    for (function, times) in
        [(Function::FastDoRawRun, 1), (Function::FastDoHmRun, 2), (Function::FastDoNop, 3)]
    {
        (0..times).for_each(|_| client.fast(function, 0).expect("a fast call"));
    }
    // SAFETY: the page is mapped in ring-0 and nobody writes it now.
    let counted = unsafe { (vm as *const [u32; 3]).read() };
    assert_eq!(counted, [1, 2, 3]);
    assert_eq!(client.fast(Function::Cookie, 0), Err(VERR_INTERNAL_ERROR), "not a fast code");
    client.set_vm(0).expect("no VM");
    assert_eq!(client.fast(Function::FastDoNop, 0), Err(VERR_INTERNAL_ERROR));
}

#[test]
fn restricted_sessions_reach_no_module() {
    let host = Host::new();
    let owner = host.open();
    owner.load(&vmmr0("VMMR0.r0")).expect("loaded");
    let restricted = host.open_restricted();
    assert_eq!(restricted.call_vmmr0(0, 0, 1, 1, None).call, Err(VERR_GENERAL_FAILURE));
    assert_eq!(restricted.fast(Function::FastDoNop, 0), Err(VERR_INTERNAL_ERROR));
    assert_eq!(restricted.load(&vmmr0("VMMR0.r0")).map(drop), Err(VERR_GENERAL_FAILURE));
}

// ---------------------------------------------------------------------------------------------- services

fn call_service(client: &Client<'_>, name: &[u8], operation: u32, body: Option<&[u8]>) -> Reply {
    let mut field = [0; 28];
    field[..name.len()].copy_from_slice(name);
    let input = r::CallServiceIn { name: field, operation, ..zeroed() };
    let mut request = Request::new(Function::CallService).input(&input);
    if let Some(body) = body {
        let bytes = (size_of::<r::ServiceRequestHeader>() + body.len()) as u32;
        let header = r::ServiceRequestHeader { magic: SERVICE_REQUEST_MAGIC, bytes };
        request = request.tail(header.as_bytes()).tail(body);
    }
    let bytes = request.header().in_bytes;
    client.send(&request.out_bytes(bytes))
}

#[test]
fn services_answer_the_sessions_that_loaded_them() {
    let host = Host::new();
    let (owner, stranger) = (host.open(), host.open());
    let image = Builder::new("service").service(SERVICE).build();
    assert_eq!(call_service(&owner, b"service", 7, None).rc(), VERR_SUPDRV_SERVICE_NOT_FOUND);
    let base = owner.ldr_open(&image, "").expect("opened").base;
    assert_eq!(call_service(&owner, b"service", 7, None).rc(), VERR_SUPDRV_SERVICE_NOT_FOUND, "not loaded");
    owner.ldr_load(base, &image).expect("loaded");
    assert_eq!(call_service(&owner, b"service", 7, None).rc(), Status(7));
    assert_eq!(call_service(&owner, b"service", -4_i32 as u32, None).rc(), Status(-4));
    for other in [&b"servic"[..], b"service2", b"Service", b""] {
        assert_eq!(call_service(&owner, other, 7, None).rc(), VERR_SUPDRV_SERVICE_NOT_FOUND);
    }
    assert_eq!(call_service(&stranger, b"service", 7, None).rc(), VERR_SUPDRV_SERVICE_NOT_FOUND);
    let reply = call_service(&owner, b"service", 1, Some(&[1, 0, 0, 0]));
    assert_eq!(reply.rc(), Status(1));
    assert_eq!(reply.items::<r::CallServiceIn, u8>()[8..], [2, 0, 0, 0]);
}

#[test]
fn an_image_that_is_no_service_is_not_called_as_one() {
    let host = Host::new();
    let client = host.open();
    client.load(&vmmr0("module")).expect("loaded");
    assert_eq!(call_service(&client, b"module", 0, None).rc(), VERR_SUPDRV_SERVICE_NOT_FOUND);
}

#[test]
fn malformed_service_calls_are_rejected() {
    let host = Host::new();
    let client = host.open();
    client.load(&Builder::new("s").service(SERVICE).build()).expect("loaded");
    let good = r::CallServiceIn { name: [0; 28].map(|_: u8| b's'), ..zeroed() };
    let fixed = size_of::<r::CallServiceIn>() as u32;
    let unterminated = Request::new(Function::CallService).input(&good).out_bytes(fixed);
    assert!(is_rejected(&client.send(&unterminated)));
    let mut name = [0; 28];
    name[0] = b's';
    let good = r::CallServiceIn { name, ..zeroed() };
    let send = |magic: u32, said: u32, out: u32| {
        let header = r::ServiceRequestHeader { magic, bytes: said };
        let request = Request::new(Function::CallService).input(&good).tail(header.as_bytes()).tail(&[0; 4]);
        client.send(&request.out_bytes(out))
    };
    assert_eq!(send(SERVICE_REQUEST_MAGIC, 12, fixed + 12).status(), Ok(Status(0)));
    assert!(is_rejected(&send(0x1973_0211, 12, fixed + 12)), "another module's magic");
    assert!(is_rejected(&send(SERVICE_REQUEST_MAGIC, 16, fixed + 12)), "larger than sent");
    assert!(is_rejected(&send(SERVICE_REQUEST_MAGIC, 12, fixed)), "output");
    let bare = Request::new(Function::CallService).input(&good);
    assert!(is_rejected(&client.send(&bare.clone().out_bytes(fixed + 8))));
    assert_eq!(client.send(&bare.out_bytes(fixed)).status(), Ok(Status(0)));
}

// ---------------------------------------------------------------------------------------------- unload with live users

/// A call that stays inside until it is told to leave.
#[derive(Default)]
struct Gate {
    inside: AtomicBool,
    open: AtomicBool,
}

impl Gate {
    fn pass(&self) {
        self.inside.store(true, SeqCst);
        while !self.open.load(SeqCst) {
            std::thread::yield_now();
        }
    }

    fn wait_until_inside(&self) {
        while !self.inside.load(SeqCst) {
            std::thread::yield_now();
        }
    }

    fn leave(&self) {
        self.open.store(true, SeqCst);
    }
}

unsafe extern "C" fn service_at_gate(
    _session: *mut c_void,
    _operation: u32,
    _arg: u64,
    _request: *mut c_void,
    gate: *const Gate,
) -> i32 {
    // SAFETY: the test's code passes its own gate.
    unsafe { &*gate }.pass();
    9
}

unsafe extern "C" fn fast_at_gate(_vm: *mut c_void, _cpu: u32, _operation: u32, gate: *const Gate) {
    // SAFETY: the test's code passes its own gate.
    unsafe { &*gate }.pass();
}

#[test]
fn a_service_stays_until_its_last_call_is_out() {
    let host = Host::new();
    let (gate, terms) = (Gate::default(), AtomicU32::new(0));
    let function: unsafe extern "C" fn(*mut c_void, u32, u64, *mut c_void, *const Gate) -> i32 =
        service_at_gate;
    let handler = continues(function as usize, 5, (&raw const gate) as usize);
    let image = Builder::new("s").service(&handler).term(&counts(&terms, 0)).build();
    let client = host.open();
    let base = client.load(&image).expect("loaded");
    std::thread::scope(|scope| {
        let call = scope.spawn(|| call_service(&client, b"s", 0, None).rc());
        gate.wait_until_inside();
        client.ldr_free(base).expect("freed, as far as anybody can tell");
        assert_eq!(client.ldr_free(base), Err(VERR_INVALID_HANDLE));
        assert_eq!(client.ldr_get_symbol(base, "x"), Err(VERR_INVALID_HANDLE));
        assert_eq!(call_service(&client, b"s", 0, None).rc(), VERR_SUPDRV_SERVICE_NOT_FOUND);
        assert_eq!((terms.load(Relaxed), host.counters().images), (0, 1));
        gate.leave();
        assert_eq!(call.join().expect("the call"), Status(9));
    });
    assert_eq!((terms.load(Relaxed), host.counters().images), (1, 0));
}

#[test]
fn a_service_that_is_opened_again_during_its_last_call_stays() {
    let host = Host::new();
    let (gate, terms) = (Gate::default(), AtomicU32::new(0));
    let function: unsafe extern "C" fn(*mut c_void, u32, u64, *mut c_void, *const Gate) -> i32 =
        service_at_gate;
    let handler = continues(function as usize, 5, (&raw const gate) as usize);
    let image = Builder::new("s").service(&handler).term(&counts(&terms, 0)).build();
    let client = host.open();
    let base = client.load(&image).expect("loaded");
    std::thread::scope(|scope| {
        let call = scope.spawn(|| call_service(&client, b"s", 0, None).rc());
        gate.wait_until_inside();
        client.ldr_free(base).expect("freed");
        let again = client.ldr_open(&image, "").expect("opened");
        assert_eq!((again.base, again.needs_loading), (base, false));
        gate.leave();
        assert_eq!(call.join().expect("the call"), Status(9));
    });
    assert_eq!(terms.load(Relaxed), 0);
    client.ldr_free(base).expect("freed");
    assert_eq!(terms.load(Relaxed), 1);
}

#[test]
fn vmmr0_stays_until_the_sessions_last_call_is_out() {
    let host = Host::new();
    let (gate, terms) = (Gate::default(), AtomicU32::new(0));
    let function: unsafe extern "C" fn(*mut c_void, u32, u32, *const Gate) = fast_at_gate;
    let fast = continues(function as usize, 4, (&raw const gate) as usize);
    let image = Builder::new("VMMR0.r0").term(&counts(&terms, 0)).vmmr0(&fast, ENTRY_EX).build();
    let (client, other) = (host.open(), host.open());
    let base = client.load(&image).expect("loaded");
    client.set_vm(vm(&client)).expect("a VM");
    std::thread::scope(|scope| {
        let call = scope.spawn(|| client.fast(Function::FastDoHmRun, 0));
        gate.wait_until_inside();
        client.ldr_free(base).expect("freed, as far as anybody can tell");
        assert_eq!(client.call_vmmr0(0, 0, 1, 1, None).rc(), VERR_WRONG_ORDER);
        assert_eq!((terms.load(Relaxed), host.counters().images), (0, 1));
        // Others may come and go meanwhile.
        other.load(&image).expect("opened");
        assert_eq!(other.call_vmmr0(0, 0, 1, 1, None).rc(), Status(2));
        other.ldr_free(base).expect("freed");
        assert_eq!(terms.load(Relaxed), 0);
        gate.leave();
        call.join().expect("no panic").expect("the call");
    });
    assert_eq!((terms.load(Relaxed), host.counters().images), (1, 0));
    assert_eq!(slots(&host), [0; 4]);
    assert_eq!(client.call_vmmr0(0, 0, 1, 1, None).rc(), VERR_WRONG_ORDER);
    client.load(&vmmr0("VMMR0.r0")).expect("a new one can come");
    assert_eq!(client.call_vmmr0(0, 0, 1, 1, None).rc(), Status(2));
}

#[test]
fn closing_one_session_does_not_pull_the_code_from_under_another() {
    let host = Host::new();
    let gate = Gate::default();
    let function: unsafe extern "C" fn(*mut c_void, u32, u32, *const Gate) = fast_at_gate;
    let fast = continues(function as usize, 4, (&raw const gate) as usize);
    let image = Builder::new("VMMR0.r0").vmmr0(&fast, ENTRY_EX).build();
    let (loader, caller) = (host.open(), host.open());
    loader.load(&image).expect("loaded");
    caller.load(&image).expect("opened");
    caller.set_vm(vm(&caller)).expect("a VM");
    std::thread::scope(|scope| {
        let call = scope.spawn(|| caller.fast(Function::FastDoRawRun, 0));
        gate.wait_until_inside();
        loader.close();
        assert_eq!(host.counters().images, 1);
        gate.leave();
        call.join().expect("no panic").expect("the call");
    });
    assert_eq!(caller.call_vmmr0(0, 0, 20, 1, None).rc(), Status(21));
}

/// Loads, calls and frees from all sides; machine code in freed memory would crash the test.
#[test]
fn code_is_never_freed_under_a_call() {
    let host = Host::new();
    let image = vmmr0("VMMR0.r0");
    let service = Builder::new("s").service(SERVICE).build();
    let client = host.open();
    client.set_vm(vm(&client)).expect("a VM");
    let stop = AtomicBool::new(false);
    let calls = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut calls = 0;
                    while !stop.load(Relaxed) {
                        calls += u32::from(client.fast(Function::FastDoNop, 0).is_ok());
                        let rc = client.call_vmmr0(0, 0, 40, 2, None).rc();
                        assert!(rc == Status(42) || rc == VERR_WRONG_ORDER, "{rc:?}");
                        let rc = call_service(&client, b"s", 5, None).rc();
                        assert!(rc == Status(5) || rc == VERR_SUPDRV_SERVICE_NOT_FOUND, "{rc:?}");
                    }
                    calls
                })
            })
            .collect();
        for _ in 0..2000 {
            let bases = [&image, &service].map(|image| client.load(image).expect("loaded"));
            let freed: Result<()> = bases.into_iter().try_for_each(|base| client.ldr_free(base));
            freed.expect("freed");
        }
        stop.store(true, Relaxed);
        callers.into_iter().map(|caller| caller.join().expect("no panic")).sum::<u32>()
    });
    assert_eq!(host.counters().images, 0);
    println!("{calls} fast calls got in");
}
