//! The inter-driver interface: packets as sibling drivers send them, and the Rust client on top of them.

use std::ffi::{CStr, CString};
use std::ptr::NonNull;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

use supdrv_core::abi::idc::{
    CONNECT_MAGIC, ConnectIn, ConnectOut, FactoryIn, GetSymbolIn, GetSymbolOut, IDC_VERSION, IdcHeader,
    IdcRequest, NO_VERSION,
};
use supdrv_core::abi::ioctl::Encoding;
use supdrv_core::abi::published::{DevExtView, Factory, SessionView};
use supdrv_core::abi::status::{
    Status, VERR_ALREADY_EXISTS, VERR_INTERNAL_ERROR_5, VERR_INVALID_PARAMETER, VERR_INVALID_POINTER,
    VERR_MODULE_NOT_FOUND, VERR_NO_MEMORY, VERR_NOT_FOUND, VERR_NOT_SUPPORTED,
    VERR_SUPDRV_COMPONENT_NOT_FOUND, VERR_SYMBOL_NOT_FOUND, VERR_VERSION_MISMATCH, VERR_WRONG_ORDER,
    VINF_SUCCESS,
};
use supdrv_core::idc_client::{Connection, Transport};
use supdrv_core::mock::client::Image;
use supdrv_core::mock::packet::zeroed;
use supdrv_core::mock::{Call, Host, MockOs, WindowsCodes, replay, seen};
use supdrv_core::os::{NIL_HANDLE, NIL_ID};
use supdrv_core::ring0::Export;
use supdrv_core::{capi, idc};

/// What a call returned, and the status in its packet.
type Answer = (Status, Status);

const fn answer(call: Status, rc: Status) -> Answer {
    (call, rc)
}

/// Done, with this status.
const fn done(rc: Status) -> Answer {
    answer(VINF_SUCCESS, rc)
}

/// Malformed, and the packet says so.
const MALFORMED: Answer = answer(VERR_INVALID_PARAMETER, VERR_INVALID_PARAMETER);
/// What packets hold before they are sent.
const UNTOUCHED: Status = VERR_WRONG_ORDER;
/// Malformed, and the packet wasn't touched.
const REFUSED: Answer = answer(VERR_INVALID_PARAMETER, UNTOUCHED);

fn header(bytes: usize, session: usize) -> IdcHeader {
    IdcHeader { bytes: bytes as u32, rc: UNTOUCHED.0, session, ..zeroed() }
}

fn send_code<T>(host: &Host, code: u32, packet: &mut T) -> Answer {
    let packet = std::ptr::from_mut(packet).cast::<IdcHeader>();
    // SAFETY: packets of these tests are as large as they say, or as the header of what they don't.
    let answer = unsafe {
        let call = idc::entry(host.driver(), code, packet);
        (call, Status((&raw const (*packet).rc).read_unaligned()))
    };
    if let Some(request) = IdcRequest::decode(Encoding::Linux, code) {
        seen::idc(request, answer.0, answer.1);
    }
    answer
}

fn send<T>(host: &Host, request: IdcRequest, packet: &mut T) -> Answer {
    send_code(host, request.code(Encoding::Linux), packet)
}

fn connect_packet(wanted_version: u32, min_version: u32) -> ConnectIn {
    ConnectIn {
        hdr: header(size_of::<ConnectIn>(), 0),
        magic: CONNECT_MAGIC,
        wanted_version,
        min_version,
        ..zeroed()
    }
}

fn connect_as(host: &Host, mut packet: ConnectIn) -> (Answer, ConnectOut) {
    let answer = send(host, IdcRequest::Connect, &mut packet);
    // SAFETY: both directions have the same size and are plain integers.
    (answer, unsafe { std::mem::transmute::<ConnectIn, ConnectOut>(packet) })
}

fn connect(host: &Host) -> usize {
    let (answer, out) = connect_as(host, connect_packet(IDC_VERSION, IDC_VERSION));
    assert_eq!(answer, done(VINF_SUCCESS));
    out.session
}

fn disconnect(host: &Host, session: usize) -> Answer {
    send(host, IdcRequest::Disconnect, &mut header(size_of::<IdcHeader>(), session))
}

fn symbol(host: &Host, session: usize, module: Option<&CStr>, name: &CStr) -> (Answer, usize) {
    let address = |text: &CStr| text.as_ptr() as usize;
    symbol_at(host, session, module.map_or(0, address), address(name))
}

fn symbol_at(host: &Host, session: usize, module: usize, symbol: usize) -> (Answer, usize) {
    let mut packet = GetSymbolIn { hdr: header(size_of::<GetSymbolIn>(), session), module, symbol };
    let answer = send(host, IdcRequest::GetSymbol, &mut packet);
    // SAFETY: both directions have the same size and are plain integers.
    (answer, unsafe { std::mem::transmute::<GetSymbolIn, GetSymbolOut>(packet) }.address)
}

unsafe extern "C" fn answers(
    factory: *const Factory,
    _: *mut SessionView,
    _: *const std::ffi::c_char,
) -> *mut std::ffi::c_void {
    factory.cast_mut().cast()
}

fn factory(name: &[u8]) -> Box<Factory> {
    let mut field = [0; 56];
    field[..name.len()].copy_from_slice(name);
    Box::new(Factory { name: field, query: answers as *const () as usize })
}

fn factory_request(host: &Host, request: IdcRequest, session: usize, factory: *const Factory) -> Answer {
    let mut packet = FactoryIn { hdr: header(size_of::<FactoryIn>(), session), factory: factory as usize };
    send(host, request, &mut packet)
}

static EXPORTS: &[Export] = &[
    Export::new("SUPR0ObjRegister", 0x1111_0000 as *const ()),
    Export::new("SUPR0Printf", 0x2222_0000 as *const ()),
    Export::new("SUPR0ComponentDeregisterFactory", 0x3333_0000 as *const ()),
];

fn host_with_exports(os: &MockOs) -> Host {
    os.set_exports(EXPORTS);
    Host::on(os).expect("a driver")
}

// ---------------------------------------------------------------------------------------------- connecting

#[test]
fn a_sibling_gets_a_kernel_session() {
    let host = Host::new();
    for wanted in [0x0001_0000, 0x0001_0005, 0x0001_ffff] {
        let (answer, out) = connect_as(&host, connect_packet(wanted, 0x0001_0000));
        assert_eq!(answer, done(VINF_SUCCESS));
        let versions = [out.session_version, out.driver_version, out.driver_revision];
        assert_eq!(versions, [IDC_VERSION, IDC_VERSION, 0]);
        assert_eq!({ out.session }, { out.hdr.session });
        // SAFETY: a live session's view.
        let view = unsafe { &*(out.session as *const SessionView) };
        assert_eq!(view.unrestricted, 1);
        assert_eq!([&view.uid, &view.gid, &view.process].map(|id| id.load(Relaxed)), [NIL_ID; 3]);
        assert_eq!((view.r0_process.load(Relaxed), view.refs.load(Relaxed)), (NIL_HANDLE, 1));
        assert_eq!(host.counters().sessions, 1);
        assert_eq!(disconnect(&host, out.session), done(VINF_SUCCESS));
        assert_eq!(host.counters().sessions, 0);
    }
}

#[test]
fn versions_that_do_not_fit_are_answered_with_the_drivers() {
    let host = Host::new();
    for version in [0x0001_0001, 0x0002_0000, 0, 0x0000_ffff] {
        let (answer, out) = connect_as(&host, connect_packet(version, version));
        assert_eq!(answer, done(VERR_VERSION_MISMATCH), "{version:#x}");
        let told = [out.session_version, out.driver_version, out.driver_revision];
        assert_eq!(told, [NO_VERSION, IDC_VERSION, 0]);
        assert_eq!(({ out.session }, { out.hdr.session }), (0, 0));
    }
    assert_eq!(host.counters().sessions, 0);
}

#[test]
fn malformed_connects_are_rejected() {
    let host = Host::new();
    let session = connect(&host);
    let good = connect_packet(IDC_VERSION, IDC_VERSION);
    let with_session = ConnectIn { hdr: header(size_of::<ConnectIn>(), session), ..good };
    let packets = [
        ConnectIn { magic: 0, ..good },
        ConnectIn { min_version: 0x0001_0002, wanted_version: 0x0001_0001, ..good },
        ConnectIn { min_version: 0x0001_0000, wanted_version: 0x0002_0000, ..good },
        ConnectIn { hdr: header(size_of::<ConnectIn>() - 4, 0), ..good },
        ConnectIn { hdr: header(size_of::<ConnectIn>() + 4, 0), ..good },
        ConnectIn { hdr: header(0, 0), ..good },
        with_session,
    ];
    for packet in packets {
        assert_eq!(connect_as(&host, packet).0, MALFORMED, "{packet:?}");
    }
    // Systems that know the session otherwise: the header says nothing, but there is one already.
    let mut packet = good;
    let at = std::ptr::from_mut(&mut packet).cast::<IdcHeader>();
    let code = IdcRequest::Connect.code(Encoding::Linux);
    // SAFETY: a packet of the right size.
    let call = unsafe { idc::call(host.driver(), code, session as *const SessionView, at) };
    assert_eq!((call, Status(packet.hdr.rc)), MALFORMED);
    assert_eq!(disconnect(&host, session), done(VINF_SUCCESS));
}

#[test]
fn a_connect_without_memory_tells_the_versions() {
    let host = Host::new();
    let mut failures = 0;
    for skip in 0.. {
        let live = host.os().live_all();
        host.os().fail_later(Call::HeapAlloc, skip, VERR_NO_MEMORY);
        let (answer, out) = connect_as(&host, connect_packet(IDC_VERSION, IDC_VERSION));
        if answer == done(VINF_SUCCESS) {
            host.os().cancel_failures();
            disconnect(&host, out.session);
            break;
        }
        assert_eq!((answer, host.os().live_all()), (done(VERR_NO_MEMORY), live));
        assert_eq!(({ out.session }, { out.session_version }), (0, IDC_VERSION));
        failures += 1;
    }
    assert!(failures >= 2);
}

// ---------------------------------------------------------------------------------------------- entry rules

#[test]
fn packets_that_can_not_be_are_refused() {
    let host = Host::new();
    for address in [0_usize, 0xfff, usize::MAX - 8, 0x8000_0000_0000_0000] {
        let code = IdcRequest::Connect.code(Encoding::Linux);
        // SAFETY: the addresses aren't plausible.
        let call = unsafe { idc::entry(host.driver(), code, address as *mut IdcHeader) };
        assert_eq!(call, VERR_INVALID_POINTER, "{address:#x}");
        seen::idc(IdcRequest::Connect, call, UNTOUCHED);
    }
}

#[test]
fn sessions_that_are_not_a_siblings_are_refused_untouched() {
    let host = Host::new();
    let (user, other_host) = (host.open(), Host::new());
    let foreign = connect(&other_host);
    let stale = connect(&host);
    disconnect(&host, stale);
    let (user_key, readable) = (user.session().key(), Box::new([0x5a_u8; 4096]));
    for session in [user_key, foreign, stale, readable.as_ptr() as usize, 1, 0xdead_0000, usize::MAX] {
        for request in IdcRequest::ALL.iter().skip(1) {
            let mut packet = [0_u64; 8];
            let hdr = header(request.packet_bytes(), session);
            // SAFETY: the buffer is larger than every packet.
            unsafe { packet.as_mut_ptr().cast::<IdcHeader>().write_unaligned(hdr) };
            assert_eq!(send(&host, *request, &mut packet), REFUSED, "{request:?} {session:#x}");
        }
    }
    assert_eq!(disconnect(&other_host, foreign), done(VINF_SUCCESS));
}

#[test]
fn requests_without_a_session_are_refused() {
    let host = Host::new();
    for request in IdcRequest::ALL.iter().skip(1) {
        let mut packet = [0_u64; 8];
        // SAFETY: the buffer is larger than every packet.
        unsafe { packet.as_mut_ptr().cast::<IdcHeader>().write_unaligned(header(request.packet_bytes(), 0)) };
        assert_eq!(send(&host, *request, &mut packet), REFUSED, "{request:?}");
    }
}

#[test]
fn unknown_requests_are_not_supported() {
    let host = Host::new();
    let session = connect(&host);
    for code in [0, 1, 0xc0ff_ee00, 0xc0ff_ee04, 0xc0ff_ee99, 0xc0ff_ef01, 0x0022_a7bc, u32::MAX] {
        let mut packet = header(size_of::<IdcHeader>(), session);
        assert_eq!(send_code(&host, code, &mut packet), answer(VERR_NOT_SUPPORTED, UNTOUCHED), "{code:#x}");
        let mut packet = header(size_of::<IdcHeader>(), 0);
        assert_eq!(send_code(&host, code, &mut packet), REFUSED, "{code:#x} without a session");
    }
    disconnect(&host, session);
}

#[test]
fn every_packet_must_have_its_exact_size() {
    let host = Host::new();
    let session = connect(&host);
    for request in IdcRequest::ALL {
        for bytes in [0, request.packet_bytes() - 4, request.packet_bytes() + 4, u32::MAX as usize] {
            let mut packet = [0_u64; 8];
            // SAFETY: the buffer is larger than every packet.
            unsafe { packet.as_mut_ptr().cast::<IdcHeader>().write_unaligned(header(bytes, session)) };
            assert_eq!(send(&host, *request, &mut packet), MALFORMED, "{request:?} {bytes}");
        }
    }
    assert_eq!(host.counters().sessions, 1, "it is still usable");
    assert_eq!(disconnect(&host, session), done(VINF_SUCCESS));
}

#[test]
fn other_systems_have_other_codes() {
    let os = MockOs::<WindowsCodes>::with_codes(1);
    let host = Host::on(&os).expect("a driver");
    let mut packet = connect_packet(IDC_VERSION, IDC_VERSION);
    let at = std::ptr::from_mut(&mut packet).cast::<IdcHeader>();
    // SAFETY: a packet of the right size.
    let (linux, windows) =
        unsafe { (idc::entry(host.driver(), 0xc0ff_ee01, at), idc::entry(host.driver(), 0x0022_a7bc, at)) };
    assert_eq!((linux, windows), (VERR_INVALID_PARAMETER, VINF_SUCCESS));
    let mut packet = header(size_of::<IdcHeader>(), packet.hdr.session);
    // SAFETY: a packet of the right size.
    let call = unsafe { idc::entry(host.driver(), 0x0022_a7c0, &raw mut packet) };
    assert_eq!((call, Status(packet.rc)), done(VINF_SUCCESS));
}

// ---------------------------------------------------------------------------------------------- disconnecting

#[test]
fn disconnecting_ends_everything_once() {
    let host = Host::new();
    let session = connect(&host);
    let record = factory(b"X");
    assert_eq!(
        factory_request(&host, IdcRequest::RegisterFactory, session, &raw const *record),
        done(VINF_SUCCESS)
    );
    assert_eq!((host.counters().sessions, host.counters().factories), (1, 1));
    assert_eq!(disconnect(&host, session), done(VINF_SUCCESS));
    assert_eq!((host.counters().sessions, host.counters().factories), (0, 0));
    assert_eq!(disconnect(&host, session), REFUSED);
    assert_eq!(factory_request(&host, IdcRequest::RegisterFactory, session, &raw const *record), REFUSED);
}

#[test]
fn a_second_disconnect_takes_nobody_elses_reference() {
    let host = Host::new();
    let session = connect(&host);
    // A call that is inside.
    let inside = host.driver().kernel_session(session).expect("a live session");
    assert_eq!(disconnect(&host, session), done(VINF_SUCCESS));
    assert_eq!(host.counters().sessions, 1, "the call keeps it");
    for _ in 0..3 {
        assert_eq!(disconnect(&host, session), REFUSED);
    }
    let new_call = symbol(&host, session, None, c"SUPR0AbsIs64bit").0;
    assert_eq!(new_call, REFUSED, "no new calls after it");
    assert_eq!(host.counters().sessions, 1);
    drop(inside);
    assert_eq!(host.counters().sessions, 0);
}

#[test]
fn connections_race() {
    let host = Host::new();
    let session = connect(&host);
    let disconnected = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..100 {
                    let own = connect(&host);
                    let answer = symbol(&host, session, None, c"SUPR0AbsIs64bit").0;
                    assert!([done(VINF_SUCCESS), REFUSED].contains(&answer), "{answer:?}");
                    assert_eq!(disconnect(&host, own), done(VINF_SUCCESS));
                }
                if disconnect(&host, session) == done(VINF_SUCCESS) {
                    disconnected.fetch_add(1, SeqCst);
                }
            });
        }
    });
    assert_eq!((disconnected.load(SeqCst), host.counters().sessions), (1, 0));
}

// ---------------------------------------------------------------------------------------------- symbols

#[test]
fn the_drivers_own_symbols_have_two_names_for_their_module() {
    let os = MockOs::new();
    let host = host_with_exports(&os);
    let session = connect(&host);
    let table = host.open().query_functions().expect("the table");
    for (name, address) in &table {
        let name = CString::new(name.as_str()).expect("a name");
        for module in [None, Some(c"SupDrv")] {
            assert_eq!(symbol(&host, session, module, &name), (done(VINF_SUCCESS), *address), "{name:?}");
        }
    }
    assert!(table.iter().any(|(name, address)| name == "SUPR0ObjRegister" && *address == 0x1111_0000));
    for unknown in [c"NoSuchThing", c"SUPR0ObjRegiste", c"SUPR0ObjRegister2", c"supr0ObjRegister", c""] {
        for module in [None, Some(c"SupDrv")] {
            assert_eq!(
                symbol(&host, session, module, unknown),
                (done(VERR_SYMBOL_NOT_FOUND), 0),
                "{unknown:?}"
            );
        }
    }
    for module in [c"supdrv", c"SupDrv2", c"SupDr", c"nope", c""] {
        let expected = (done(VERR_MODULE_NOT_FOUND), 0);
        assert_eq!(symbol(&host, session, Some(module), c"SUPR0ObjRegister"), expected, "{module:?}");
    }
    disconnect(&host, session);
}

#[test]
fn strings_are_checked() {
    let os = MockOs::new();
    let host = host_with_exports(&os);
    let session = connect(&host);
    let good = c"SUPR0Printf".as_ptr() as usize;
    let text = |length: usize| CString::new(vec![b'x'; length]).expect("text");
    for implausible in [0_usize, 8, usize::MAX] {
        assert_eq!(symbol_at(&host, session, 0, implausible), (done(VERR_INVALID_POINTER), 0));
        if implausible != 0 {
            assert_eq!(symbol_at(&host, session, implausible, good), (done(VERR_INVALID_POINTER), 0));
        }
    }
    assert_eq!(symbol_at(&host, session, 8, 8).0, done(VERR_INVALID_POINTER));
    assert_eq!(symbol(&host, session, None, &text(511)).0, done(VERR_SYMBOL_NOT_FOUND));
    assert_eq!(symbol(&host, session, None, &text(512)), (done(VERR_INVALID_PARAMETER), 0));
    assert_eq!(symbol(&host, session, Some(&text(63)), c"x").0, done(VERR_MODULE_NOT_FOUND));
    assert_eq!(symbol(&host, session, Some(&text(64)), c"x"), (done(VERR_INVALID_PARAMETER), 0));
    disconnect(&host, session);
}

fn module(name: &str) -> Image {
    let mut image = Image::new(name, &[0xc3; 16]);
    image.symbols = vec![("f".into(), 4)];
    image
}

#[test]
fn a_symbol_of_an_image_keeps_the_image() {
    let host = Host::new();
    let (user, session) = (host.open(), connect(&host));
    let name = "m".repeat(31);
    let (image, c_name) = (module(&name), CString::new(name).expect("a name"));
    let ask = |symbol_name| symbol(&host, session, Some(&c_name), symbol_name);
    assert_eq!(ask(c"f"), (done(VERR_MODULE_NOT_FOUND), 0));
    let base = user.ldr_open(&image, "").expect("opened").base;
    assert_eq!(ask(c"f"), (done(VERR_WRONG_ORDER), 0), "not loaded");
    user.ldr_load(base, &image).expect("loaded");
    assert_eq!(ask(c"g"), (done(VERR_SYMBOL_NOT_FOUND), 0));
    // A longer name isn't cut to this one.
    let longer = CString::new("m".repeat(32)).expect("a name");
    assert_eq!(symbol(&host, session, Some(&longer), c"f"), (done(VERR_MODULE_NOT_FOUND), 0));
    user.ldr_free(base).expect("freed");
    assert_eq!(host.counters().images, 0, "what was not found counts for nothing");

    let base = user.load(&image).expect("loaded");
    assert_eq!(ask(c"f"), (done(VINF_SUCCESS), base + 4));
    assert_eq!(ask(c"f"), (done(VINF_SUCCESS), base + 4));
    user.ldr_free(base).expect("freed");
    assert_eq!(host.counters().images, 1, "the sibling has it");
    // Another session that comes and goes doesn't take it away.
    let other = host.open();
    assert!(!other.ldr_open(&image, "").expect("opened").needs_loading);
    other.close();
    assert_eq!(host.counters().images, 1);
    disconnect(&host, session);
    assert_eq!(host.counters().images, 0);
}

#[test]
fn a_symbol_without_memory_for_its_usage_has_no_address() {
    let host = Host::new();
    let (user, session) = (host.open(), connect(&host));
    user.load(&module("m")).expect("loaded");
    host.os().fail_next(Call::HeapAlloc, VERR_NO_MEMORY);
    assert_eq!(symbol(&host, session, Some(c"m"), c"f"), (done(VERR_INTERNAL_ERROR_5), 0));
    user.close();
    assert_eq!(host.counters().images, 0);
    disconnect(&host, session);
}

// ---------------------------------------------------------------------------------------------- factories

#[test]
fn factories_are_registered_for_the_connection() {
    let host = Host::new();
    let (session, other) = (connect(&host), connect(&host));
    let record = factory(b"X");
    let register = |session| factory_request(&host, IdcRequest::RegisterFactory, session, &raw const *record);
    let deregister =
        |session| factory_request(&host, IdcRequest::DeregisterFactory, session, &raw const *record);
    assert_eq!(register(session), done(VINF_SUCCESS));
    assert_eq!(register(session), done(VERR_ALREADY_EXISTS));
    assert_eq!(register(other), done(VERR_ALREADY_EXISTS));
    assert_eq!(deregister(other), done(VERR_NOT_FOUND));
    assert_eq!(deregister(session), done(VINF_SUCCESS));
    assert_eq!(deregister(session), done(VERR_NOT_FOUND));
    let implausible = std::ptr::dangling::<Factory>();
    for request in [IdcRequest::RegisterFactory, IdcRequest::DeregisterFactory] {
        assert_eq!(factory_request(&host, request, session, implausible), done(VERR_INVALID_POINTER));
    }
    let unterminated = factory(&[b'n'; 56]);
    let answer = factory_request(&host, IdcRequest::RegisterFactory, session, &raw const *unterminated);
    assert_eq!(answer, done(VERR_INVALID_PARAMETER));
    disconnect(&host, session);
    disconnect(&host, other);
}

#[test]
fn every_failure_of_a_siblings_life_is_survived() {
    let replayed = replay(|os| {
        let host = Host::on(os)?;
        let record = factory(b"X");
        let checked = |answer: Answer| answer.0.into_result().and_then(|()| answer.1.into_result());
        let session = host.step(|| {
            let (answer, out) = connect_as(&host, connect_packet(IDC_VERSION, IDC_VERSION));
            checked(answer).map(|()| out.session)
        });
        host.step(|| {
            checked(factory_request(&host, IdcRequest::RegisterFactory, session, &raw const *record))
        });
        host.step(|| checked(symbol(&host, session, None, c"SUPR0AbsIs64bit").0));
        assert_eq!(disconnect(&host, session), done(VINF_SUCCESS));
        Ok(())
    });
    assert!(replayed.survived > 5, "{replayed:?}");
}

// ---------------------------------------------------------------------------------------------- C entry point

#[test]
fn the_c_entry_point_finds_the_driver_by_its_device_extension() {
    let host = Host::new();
    let code = IdcRequest::Connect.code(Encoding::Linux) as usize;
    let mut packet = connect_packet(IDC_VERSION, IDC_VERSION);
    let at = std::ptr::from_mut(&mut packet).cast::<IdcHeader>();
    let view = std::ptr::from_ref(host.view()).cast_mut();
    let mut dead = zeroed::<DevExtView>();
    // SAFETY: null, a dead device extension and a live one; a packet of the right size.
    let results = unsafe {
        [std::ptr::null_mut(), &raw mut dead, view]
            .map(|dev_ext| capi::idc::<MockOs>(code, dev_ext, std::ptr::null_mut(), at))
    };
    assert_eq!(results.map(Status), [VERR_INVALID_PARAMETER, VERR_INVALID_PARAMETER, VINF_SUCCESS]);
    disconnect(&host, packet.hdr.session);
}

// ---------------------------------------------------------------------------------------------- Rust client

/// Sends packets to a driver of this process; may pretend things about it.
struct Direct<'h> {
    host: &'h Host,
    session_version: Option<u32>,
    refuse_disconnect: bool,
    disconnects: &'h AtomicU32,
}

impl Transport for Direct<'_> {
    unsafe fn send(&self, request: IdcRequest, packet: NonNull<IdcHeader>) -> Status {
        if request == IdcRequest::Disconnect {
            self.disconnects.fetch_add(1, Relaxed);
            if self.refuse_disconnect {
                return VERR_NOT_SUPPORTED;
            }
        }
        // SAFETY: condition of the function.
        let status =
            unsafe { idc::entry(self.host.driver(), request.code(Encoding::Linux), packet.as_ptr()) };
        if let (IdcRequest::Connect, Some(version)) = (request, self.session_version) {
            // SAFETY: a connect packet.
            unsafe { (*packet.as_ptr().cast::<ConnectOut>()).session_version = version };
        }
        status
    }
}

fn direct<'h>(host: &'h Host, disconnects: &'h AtomicU32) -> Direct<'h> {
    Direct { host, session_version: None, refuse_disconnect: false, disconnects }
}

#[test]
fn a_rust_sibling_goes_through_its_life() {
    let os = MockOs::new();
    let host = host_with_exports(&os);
    let disconnects = AtomicU32::new(0);
    let connection = Connection::open(direct(&host, &disconnects), 0, 0).expect("connected");
    let versions = connection.versions();
    assert_eq!([versions.session, versions.driver, versions.revision], [IDC_VERSION, IDC_VERSION, 0]);
    assert_eq!(connection.symbol(None, c"SUPR0Printf"), Ok(0x2222_0000));
    assert_eq!(connection.symbol(None, c"SUPR0PrintfX"), Err(VERR_SYMBOL_NOT_FOUND));
    assert_eq!(connection.symbol(Some(c"nope"), c"x"), Err(VERR_MODULE_NOT_FOUND));
    let mut record = factory(b"X");
    let at = NonNull::from(&mut *record);
    let user = host.open();
    let query =
        || host.driver().components().query(user.session(), c"X", c"uuid").map(|found| found.as_ptr());
    // SAFETY: the record lives until the end of the test.
    unsafe { connection.register_factory(at) }.expect("registered");
    assert_eq!(query(), Ok(at.as_ptr().cast()));
    connection.deregister_factory(at).expect("deregistered");
    assert_eq!(query(), Err(VERR_SUPDRV_COMPONENT_NOT_FOUND));
    // Still busy: registered again at once.
    // SAFETY: as above.
    unsafe { connection.register_factory(at) }.expect("registered");
    connection.deregister_factory(at).expect("deregistered");
    assert_eq!(connection.deregister_factory(at), Err(VERR_NOT_FOUND));
    assert!(connection.close().is_ok());
    assert_eq!((disconnects.load(Relaxed), host.counters().sessions), (1, 1));
}

#[test]
fn the_client_checks_versions() {
    let host = Host::new();
    let disconnects = AtomicU32::new(0);
    let open = |wanted, least| Connection::open(direct(&host, &disconnects), wanted, least).map(drop);
    assert_eq!(open(0x0002_0000, 0), Err(VERR_INVALID_PARAMETER));
    assert_eq!(open(0, 0x0002_0000), Err(VERR_INVALID_PARAMETER));
    assert_eq!(open(0x0001_0001, 0x0001_0001), Err(VERR_VERSION_MISMATCH));
    assert_eq!(disconnects.load(Relaxed), 0);
    // A driver that answers with a version of another major is left again.
    let odd = Direct { session_version: Some(0x0002_0000), ..direct(&host, &disconnects) };
    assert_eq!(Connection::open(odd, 0, 0).map(drop), Err(VERR_VERSION_MISMATCH));
    assert_eq!((disconnects.load(Relaxed), host.counters().sessions), (1, 0));
}

#[test]
fn a_connection_that_can_not_be_closed_stays_open() {
    let host = Host::new();
    let disconnects = AtomicU32::new(0);
    let stubborn = Direct { refuse_disconnect: true, ..direct(&host, &disconnects) };
    let connection = Connection::open(stubborn, 0, 0).expect("connected");
    let (connection, status) = connection.close().expect_err("refused");
    assert_eq!(status, VERR_NOT_SUPPORTED);
    assert_eq!(connection.symbol(None, c"SUPR0AbsIs64bit"), Ok(1), "it still works");
    let session = connection.session().as_ptr() as usize;
    drop(connection);
    assert_eq!((disconnects.load(Relaxed), host.counters().sessions), (2, 1));
    assert_eq!(disconnect(&host, session), done(VINF_SUCCESS));
}

#[test]
fn dropping_a_connection_closes_it() {
    let host = Host::new();
    let disconnects = AtomicU32::new(0);
    drop(Connection::open(direct(&host, &disconnects), 0, 0).expect("connected"));
    assert_eq!((disconnects.load(Relaxed), host.counters().sessions), (1, 0));
}
