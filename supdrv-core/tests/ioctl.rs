//! What the dispatcher refuses and accepts, for all requests and all systems' function codes.
//!
//! A request ends in one of four ways: *refused* (R: the call fails, the packet is untouched), *bad* (B: the call fails, the header has the
//! status), *failed* (H: the call succeeds, the header has a failure), or it works.

use supdrv_core::abi::Status;
use supdrv_core::abi::ioctl::{
    DEVEXT_COOKIE, Encoding, FLAGS_MAGIC, Function, INITIAL_COOKIE, IOC_VERSION, IOCTL_FLAG, SESSION_COOKIE,
};
use supdrv_core::abi::requests::{self as r, RequestHeader};
use supdrv_core::abi::status::*;
use supdrv_core::mock::packet::zeroed;
use supdrv_core::mock::{
    BsdCodes, Client, Codes, Host, LinuxCodes, Os2Codes, Reply, Request, SolarisCodes, WindowsCodes,
};

/// What `rc` is before a request: the client's own value must survive a refusal.
const UNTOUCHED: i32 = 0x5a5a_5a5a;

/// Sends a packet and checks that it is refused without a trace.
fn assert_refused<E: Codes>(client: &Client<'_, E>, request: &Request, status: Status, why: &str) {
    let before = (client.host().counters(), client.host().os().live_all());
    let (sent, _) = request.buffer();
    let reply = client.send(request);
    let function = request.function();
    assert_eq!(reply.call, Err(status), "{function:?}: {why}");
    assert_eq!(
        reply.bytes(),
        Reply::new(Ok(()), sent).bytes(),
        "{function:?}: {why}: the packet was written to"
    );
    assert_eq!(before, (client.host().counters(), client.host().os().live_all()), "{function:?}: {why}");
}

/// Sends a packet and checks that it is bad, and that nothing but the status was written.
fn assert_bad<E: Codes>(client: &Client<'_, E>, request: &Request, why: &str) {
    let before = (client.host().counters(), client.host().os().live_all());
    let (sent, _) = request.buffer();
    let reply = client.send(request);
    let function = request.function();
    assert_eq!(reply.call, Err(VERR_INVALID_PARAMETER), "{function:?}: {why}");
    assert_eq!(reply.rc(), VERR_INVALID_PARAMETER, "{function:?}: {why}: the header doesn't say so");
    let expected = Reply::new(Ok(()), sent);
    assert_eq!(reply.bytes()[24..], expected.bytes()[24..], "{function:?}: {why}: output was written");
    assert_eq!(reply.bytes()[..20], expected.bytes()[..20], "{function:?}: {why}: the header was changed");
    assert_eq!(before, (client.host().counters(), client.host().os().live_all()), "{function:?}: {why}");
}

/// A request that the dispatcher accepts, and what its sizes must be.
struct Sample {
    request: Request,
    in_bytes: u32,
    out_bytes: u32,
    /// More input than this is a good packet too.
    more_input_is_fine: bool,
}

/// The sizes of the specification, for 64-bit drivers.
fn samples(functions: usize) -> Vec<Sample> {
    use Function as F;
    let sample = |request: Request, in_bytes, out_bytes| Sample {
        request,
        in_bytes,
        out_bytes,
        more_input_is_fine: false,
    };
    let name = |text: &[u8]| {
        let mut field = [0; 32];
        field[..text.len()].copy_from_slice(text);
        field
    };
    // No shorter table ends with a NUL.
    let mut strings = [b'x'; 80];
    (strings[0], strings[79]) = (0, 0);
    let logger = r::LoggerSettingsIn { what: 2, groups_offset: 1, ..zeroed() };
    let low = r::LowAllocIn { pages: 300, ..zeroed() };
    let pages = r::PageAllocExIn { pages: 0, user_mapping: 1, ..zeroed() };
    let lock = r::PageLockIn { r3: 0x1001, pages: 3, ..zeroed() };
    let load = r::LdrLoadIn { image_base: 0x1000, image_bytes: 4, image_bytes_with_tables: 8, ..zeroed() };
    let open = r::LdrOpenIn { image_bytes_with_tables: 0, name: name(b"x"), ..zeroed() };
    let vmmr0_packet = [0x11, 0x02, 0x73, 0x19, 8, 0, 0, 0];
    let request = Request::new;
    vec![
        sample(request(F::Cookie).input(&zeroed::<r::CookieIn>()).output::<r::CookieOut>(), 0x30, 0x38),
        sample(
            request(F::QueryFuncs).out_bytes(0x20 + 40 * functions as u32),
            0x18,
            0x20 + 40 * functions as u32,
        ),
        sample(request(F::LdrOpen).input(&open).output::<r::LdrOpenOut>(), 0x148, 0x28),
        sample(request(F::LdrLoad).input(&load).tail(&[0; 8]), 0x6c + 8, 0x18),
        sample(request(F::LdrFree).input(&zeroed::<r::LdrFreeIn>()), 0x20, 0x18),
        sample(
            request(F::LdrGetSymbol).input(&zeroed::<r::LdrGetSymbolIn>()).output::<r::LdrGetSymbolOut>(),
            0x60,
            0x20,
        ),
        sample(
            request(F::CallVmmr0).input(&zeroed::<r::CallVmmr0In>()).output::<r::CallVmmr0In>(),
            0x30,
            0x30,
        ),
        sample(
            request(F::CallVmmr0Big).input(&zeroed::<r::CallVmmr0In>()).tail(&vmmr0_packet).out_bytes(0x38),
            0x38,
            0x38,
        ),
        sample(
            request(F::LowAlloc).input(&low).output_with::<r::LowAllocOut, u64>(300),
            0x1c,
            0x28 + 8 * 300,
        ),
        sample(request(F::LowFree).input(&zeroed::<r::LowFreeIn>()), 0x20, 0x18),
        sample(request(F::PageAllocEx).input(&pages).output::<r::PageAllocExOut>(), 0x20, 0x28),
        sample(
            request(F::PageMapKernel)
                .input(&r::PageMapKernelIn { size_bytes: 0x1000, ..zeroed() })
                .output::<r::PageMapKernelOut>(),
            0x30,
            0x30,
        ),
        sample(
            request(F::PageProtect)
                .input(&r::PageProtectIn { size_bytes: 0x1000, ..zeroed() })
                .output::<r::PageProtectIn>(),
            0x38,
            0x38,
        ),
        sample(request(F::PageFree).input(&zeroed::<r::PageFreeIn>()), 0x20, 0x18),
        sample(request(F::PageLock).input(&lock).output_with::<r::PageLockOut, u64>(3), 0x28, 0x18 + 8 * 3),
        sample(request(F::PageUnlock).input(&zeroed::<r::PageUnlockIn>()), 0x20, 0x18),
        sample(
            request(F::ContAlloc).input(&zeroed::<r::ContAllocIn>()).output::<r::ContAllocOut>(),
            0x1c,
            0x30,
        ),
        sample(request(F::ContFree).input(&zeroed::<r::ContFreeIn>()), 0x20, 0x18),
        sample(request(F::GetPagingMode).output::<r::GetPagingModeOut>(), 0x18, 0x1c),
        sample(request(F::SetVmForFast).input(&zeroed::<r::SetVmForFastIn>()), 0x20, 0x18),
        sample(request(F::GipMap).output::<r::GipMapOut>(), 0x18, 0x30),
        sample(request(F::GipUnmap), 0x18, 0x18),
        sample(
            request(F::CallService).input(&zeroed::<r::CallServiceIn>()).output::<r::CallServiceIn>(),
            0x40,
            0x40,
        ),
        Sample {
            request: request(F::LoggerSettings).input(&logger).tail(&strings),
            in_bytes: 0x2c + 80,
            out_bytes: 0x18,
            more_input_is_fine: true,
        },
        sample(request(F::SemOp2).input(&r::SemOp2In { operation: 3, ..zeroed() }), 0x30, 0x18),
        sample(
            request(F::SemOp3).input(&r::SemOp3In { operation: 1, ..zeroed() }).output::<r::SemOp3Out>(),
            0x30,
            0x30,
        ),
        sample(request(F::VtCaps).output::<r::VtCapsOut>(), 0x18, 0x1c),
        sample(request(F::TracerOpen).input(&zeroed::<r::TracerOpenIn>()), 0x28, 0x18),
        sample(request(F::TracerClose), 0x18, 0x18),
        sample(
            request(F::TracerIoctl).input(&zeroed::<r::TracerIoctlIn>()).output::<r::TracerIoctlOut>(),
            0x28,
            0x1c,
        ),
        sample(request(F::TracerUmodReg).input(&zeroed::<r::TracerUmodRegIn>()), 0x78, 0x18),
        sample(request(F::TracerUmodDereg).input(&zeroed::<r::TracerUmodDeregIn>()), 0x20, 0x18),
        sample(request(F::TracerUmodFireProbe).tail(&[0; 0xf0]), 0x108, 0x18),
        sample(
            request(F::MsrProber)
                .input(&r::MsrProberIn { operation: 1, ..zeroed() })
                .output::<r::MsrProberIn>(),
            0x40,
            0x40,
        ),
        sample(request(F::ResumeSuspendedKbds), 0x18, 0x18),
    ]
}

/// Requests whose samples don't get past the checks of their contents.
fn is_bad_by_content(function: Function) -> bool {
    function == Function::LdrOpen
}

fn samples_for<E: Codes>(host: &Host<E>) -> Vec<Sample> {
    let samples = samples(host.driver().functions().len());
    let packets = Function::ALL.len() - 3;
    assert_eq!(samples.len(), packets, "there is a sample of every request");
    samples
}

/// Instantiates a test for every system's function codes.
macro_rules! for_all_codes {
    ($($test:ident)*) => {
        $(
            mod $test {
                use super::*;

                #[test]
                fn linux() {
                    super::$test::<LinuxCodes>();
                }

                #[test]
                fn bsd() {
                    super::$test::<BsdCodes>();
                }

                #[test]
                fn solaris() {
                    super::$test::<SolarisCodes>();
                }

                #[test]
                fn windows() {
                    super::$test::<WindowsCodes>();
                }

                #[test]
                fn os2() {
                    super::$test::<Os2Codes>();
                }
            }
        )*
    };
}

for_all_codes! {
    the_right_sizes_are_accepted
    every_other_size_is_bad
    implausible_headers_are_refused
    wrong_cookies_are_refused
    restricted_sessions_may_shake_hands_and_ask_for_capabilities
    unknown_codes_are_refused
}

fn the_right_sizes_are_accepted<E: Codes>() {
    let host = Host::<E>::with_codes(1);
    let client = host.open();
    for sample in samples_for(&host) {
        let (header, function) = (*sample.request.header(), sample.request.function());
        assert_eq!((header.in_bytes, header.out_bytes), (sample.in_bytes, sample.out_bytes), "{function:?}");
        let reply = client.send(&sample.request);
        if is_bad_by_content(function) {
            assert_eq!(reply.call, Err(VERR_INVALID_PARAMETER), "{function:?}");
        } else {
            assert_eq!(reply.call, Ok(()), "{function:?}");
            assert_ne!(reply.header().rc, UNTOUCHED, "{function:?}");
        }
    }
}

fn every_other_size_is_bad<E: Codes>() {
    let host = Host::<E>::with_codes(1);
    let client = host.open();
    for Sample { request, in_bytes, out_bytes, more_input_is_fine } in samples_for(&host) {
        let room = in_bytes.max(out_bytes) + 64;
        let sizes = |right: u32| {
            let near = [1, 2, 3, 4, 7, 8, 12, 16, 24, 40, 64];
            let below = near.into_iter().filter_map(move |by| right.checked_sub(by));
            below.chain(near.into_iter().map(move |by| right + by)).filter(|size| *size >= 24)
        };
        for wrong in sizes(in_bytes).filter(|wrong| !(more_input_is_fine && *wrong > in_bytes)) {
            // The code says what the packet would say, as an honest client's does.
            let code = request.code_for(E::ENCODING);
            let wrong_request = request.clone().in_bytes(wrong).buffer_bytes(room as usize).code(with_size(
                E::ENCODING,
                code,
                &request,
            ));
            assert_bad(&client, &wrong_request, &format!("input of {wrong} bytes instead of {in_bytes}"));
        }
        for wrong in sizes(out_bytes) {
            let code = request.code_for(E::ENCODING);
            let wrong_request = request.clone().out_bytes(wrong).buffer_bytes(room as usize).code(with_size(
                E::ENCODING,
                code,
                &request,
            ));
            assert_bad(&client, &wrong_request, &format!("output of {wrong} bytes instead of {out_bytes}"));
        }
    }
}

/// The core doesn't look at the size in a code, except that the handshake is recognised by its full code.
fn with_size(encoding: Encoding, code: u32, request: &Request) -> u32 {
    match (encoding, request.function()) {
        (Encoding::Linux | Encoding::Bsd, function) if function != Function::Cookie => encoding.strip(code),
        _ => code,
    }
}

fn implausible_headers_are_refused<E: Codes>() {
    let host = Host::<E>::with_codes(1);
    let client = host.open();
    for Sample { request, in_bytes, out_bytes, .. } in samples_for(&host) {
        let code = request.code_for(E::ENCODING);
        let buffer = in_bytes.max(out_bytes);
        let request = request.code(code).buffer_bytes(buffer as usize);
        let refused = |request: Request, why: &str| {
            assert_refused(&client, &request, VERR_INVALID_PARAMETER, why);
        };
        for bytes in [0, 1, 8, 23, buffer + 1, buffer + 4096, 0x8000_0000, u32::MAX] {
            refused(request.clone().in_bytes(bytes), "an input size that can't be");
            refused(request.clone().out_bytes(bytes), "an output size that can't be");
        }
        for bit in (0..8).chain(24..32) {
            refused(request.clone().flags(FLAGS_MAGIC ^ (1 << bit)), "the magic has a wrong bit");
        }
        refused(request.clone().flags(0), "no magic");
    }
}

#[test]
fn optional_flags_are_ignored() {
    let host = Host::new();
    let client = host.open();
    for flags in [0x42ff_ff42, 0x4200_0142, 0x4280_0042] {
        let request = Request::new(Function::GetPagingMode).output::<r::GetPagingModeOut>().flags(flags);
        let reply = client.send(&request);
        assert_eq!((reply.call, reply.rc()), (Ok(()), VINF_SUCCESS));
        assert_eq!({ reply.header().flags }, flags);
    }
}

#[test]
fn a_buffer_without_room_for_a_header_is_refused() {
    let host = Host::new();
    let client = host.open();
    for bytes in [0, 1, 4, 23] {
        let request = Request::new(Function::GipUnmap).buffer_bytes(bytes);
        assert_eq!(client.send(&request).call, Err(VERR_INVALID_PARAMETER), "{bytes} bytes");
    }
}

fn wrong_cookies_are_refused<E: Codes>() {
    let host = Host::<E>::with_codes(1);
    for client in [host.open(), host.open_restricted()] {
        for Sample { request, .. } in samples_for(&host) {
            let wrong: &[(u32, u32)] = if request.function() == Function::Cookie {
                &[(DEVEXT_COOKIE, SESSION_COOKIE), (0, 0), (INITIAL_COOKIE + 1, 0)]
            } else {
                &[
                    (INITIAL_COOKIE, SESSION_COOKIE),
                    (DEVEXT_COOKIE + 1, SESSION_COOKIE),
                    (DEVEXT_COOKIE, SESSION_COOKIE - 1),
                    (DEVEXT_COOKIE, 0),
                    (SESSION_COOKIE, DEVEXT_COOKIE),
                    (0, 0),
                ]
            };
            for &(cookie, session_cookie) in wrong {
                let request = request.clone().cookies(cookie, session_cookie);
                assert_refused(&client, &request, VERR_INVALID_PARAMETER, "wrong cookies");
            }
        }
    }
}

fn restricted_sessions_may_shake_hands_and_ask_for_capabilities<E: Codes>() {
    let host = Host::<E>::with_codes(1);
    let client = host.open_restricted();
    for Sample { request, .. } in samples_for(&host) {
        match request.function() {
            Function::Cookie | Function::VtCaps => assert_eq!(client.send(&request).call, Ok(())),
            _ => {
                assert_refused(&client, &request, VERR_GENERAL_FAILURE, "a restricted session");
                let code = request.code_for(E::ENCODING);
                let odd = request.in_bytes(24).out_bytes(24).code(code);
                assert_refused(&client, &odd, VERR_GENERAL_FAILURE, "access comes before sizes");
            }
        }
    }
    assert_eq!({ client.cookie().unwrap().function_count }, 0);
    assert_eq!({ client.cookie().unwrap().session }, client.session().key());
    for function in [Function::FastDoRawRun, Function::FastDoHmRun, Function::FastDoNop] {
        assert_eq!(client.fast(function, 0), Err(VERR_INTERNAL_ERROR));
        assert_refused(&client, &Request::new(function), VERR_GENERAL_FAILURE, "a fast code with a packet");
    }
}

fn unknown_codes_are_refused<E: Codes>() {
    let host = Host::<E>::with_codes(1);
    let client = host.open();
    let any = Request::new(Function::GetPagingMode).output::<r::GetPagingModeOut>();
    let good = any.code_for(E::ENCODING);
    let number_shift = if E::ENCODING == Encoding::Windows { 2 } else { 0 };
    let first = Function::GetPagingMode as u32;
    for number in [0u32].into_iter().chain(36..=127) {
        let code = good.wrapping_add(number.wrapping_sub(first) << number_shift);
        assert_refused(&client, &any.clone().code(code), VERR_GENERAL_FAILURE, &format!("function {number}"));
        let wrong_cookie = any.clone().code(code).cookies(1, 2);
        assert_refused(&client, &wrong_cookie, VERR_INVALID_PARAMETER, "cookies come before codes");
        let wrong_size = any.clone().code(code).in_bytes(25).out_bytes(24);
        assert_refused(&client, &wrong_size, VERR_GENERAL_FAILURE, "codes come before sizes");
    }
    // OS/2 has 32-bit drivers only, and no flag.
    if IOCTL_FLAG != 0 && E::ENCODING != Encoding::Os2 {
        for function in Function::ALL {
            let other_width = E::ENCODING.code(*function, 0x1c, 0);
            assert_refused(&client, &any.clone().code(other_width), VERR_GENERAL_FAILURE, "the other width");
        }
    }
}

/// Every system's codes lead back to their request, for both widths of drivers, and to nothing for the other width.
#[test]
fn codes_of_all_systems_and_widths_are_told_apart() {
    let encodings = [Encoding::Linux, Encoding::Bsd, Encoding::Solaris, Encoding::Windows, Encoding::Os2];
    for encoding in encodings {
        for flag in [0, 0x80] {
            let mut seen = std::collections::HashSet::new();
            for &function in Function::ALL {
                let code = encoding.code(function, 0x123, flag);
                assert_eq!(encoding.decode(code, flag), Some(function), "{encoding:?} {code:#x}");
                let other_width = (encoding == Encoding::Os2).then_some(function);
                assert_eq!(encoding.decode(code, flag ^ 0x80), other_width, "{encoding:?} {code:#x}");
                assert!(seen.insert(encoding.strip(code)), "{encoding:?} {code:#x} is not unique");
            }
        }
    }
}

#[test]
fn the_direction_in_a_code_counts_and_its_size_does_not() {
    let host = Host::new();
    let client = host.open();
    let request = Request::new(Function::GetPagingMode).output::<r::GetPagingModeOut>();
    for size in [0, 0x1c, 0x18, 0x3fff] {
        assert_eq!(client.send(&request.clone().code(0xc000_5692 | (size << 16))).call, Ok(()));
    }
    for code in [0x0000_5692, 0x4000_5692, 0x8000_5692, 0xc000_5592, 0xc000_5612] {
        assert_refused(&client, &request.clone().code(code), VERR_GENERAL_FAILURE, "another code");
    }
}

// COOKIE

#[test]
fn the_handshake_of_the_specification_byte_by_byte() {
    let host = Host::new();
    let client = host.open();
    let request: [u8; 48] = [
        0x74, 0x6f, 0x72, 0x69, 0x44, 0x33, 0x22, 0x11, 0x30, 0, 0, 0, 0x38, 0, 0, 0, //
        0x42, 0, 0, 0x42, 0x1f, 0xff, 0xff, 0xff, 0x54, 0x68, 0x65, 0x20, 0x4d, 0x61, 0x67, 0x69, //
        0x63, 0x20, 0x57, 0x6f, 0x72, 0x64, 0x21, 0, 7, 0, 0x1a, 0, 0, 0, 0x1a, 0,
    ];
    let mut packet = [0u64; 7];
    let bytes = zerocopy::IntoBytes::as_mut_bytes(&mut packet);
    bytes[..48].copy_from_slice(&request);
    let call = supdrv_core::dispatch::ioctl(client.session(), 0xc038_5681, bytes);
    assert_eq!(call, Ok(()));
    let mut expected = [0u8; 56];
    expected[..40].copy_from_slice(&[
        0x74, 0x6f, 0x72, 0x69, 0x44, 0x33, 0x22, 0x11, 0x30, 0, 0, 0, 0x38, 0, 0, 0, //
        0x42, 0, 0, 0x42, 0, 0, 0, 0, 0x62, 0x69, 0x72, 0x64, 0x64, 0x72, 0x69, 0x62, //
        7, 0, 0x1a, 0, 7, 0, 0x1a, 0,
    ]);
    expected[40..44].copy_from_slice(&(host.driver().functions().len() as u32).to_le_bytes());
    expected[44..48].copy_from_slice(&[0, 0, 0x1a, 0]);
    expected[48..].copy_from_slice(&client.session().key().to_le_bytes());
    assert_eq!(bytes, expected);
}

#[test]
fn versions_are_negotiated_by_the_minimum_alone() {
    let host = Host::new();
    for client in [host.open(), host.open_restricted()] {
        for (requested, minimum) in [
            (0x001a_0004, 0x001a_0000),
            (IOC_VERSION, IOC_VERSION),
            (0x0019_0000, 0x001a_0000),
            (0, 0x001a_0001),
        ] {
            let output = client.handshake(requested, minimum).unwrap();
            assert_eq!({ output.session_version }, IOC_VERSION);
            assert_eq!({ output.driver_version }, IOC_VERSION);
        }
        for minimum in [0x001a_0008, 0x0019_0003, 0x001b_0000, 0, 0x001a_ffff, u32::MAX] {
            let input = r::CookieIn {
                magic: *b"The Magic Word!\0",
                requested_version: minimum,
                min_version: minimum,
                ..zeroed()
            };
            let reply = client.send(&Request::new(Function::Cookie).input(&input).output::<r::CookieOut>());
            assert_eq!((reply.call, reply.rc()), (Ok(()), VERR_VERSION_MISMATCH), "{minimum:#x}");
            let output: r::CookieOut = reply.output();
            let cookies = [output.cookie, output.session_cookie, output.session_version];
            assert_eq!(cookies, [u32::MAX; 3]);
            assert_eq!(({ output.driver_version }, { output.function_count }), (IOC_VERSION, 0));
            assert_eq!(({ output.session }, reply.out_bytes()), (0, 0x38));
        }
    }
}

#[test]
fn the_magic_word_must_be_right_to_the_last_byte() {
    let host = Host::new();
    let client = host.open();
    for magic in [*b"The Magic Word?\0", *b"The Magic Word!X", *b"the Magic Word!\0", [0; 16]] {
        let input =
            r::CookieIn { magic, requested_version: IOC_VERSION, min_version: IOC_VERSION, ..zeroed() };
        let request = Request::new(Function::Cookie).input(&input).output::<r::CookieOut>();
        let reply = client.send(&request);
        assert_eq!((reply.call, reply.rc()), (Ok(()), VERR_INVALID_MAGIC));
        let sent = Reply::new(Ok(()), request.buffer().0);
        assert_eq!(reply.bytes()[24..], sent.bytes()[24..], "the output area is untouched");
    }
}

#[test]
fn the_handshake_can_be_repeated() {
    let host = Host::new();
    let client = host.open();
    let [first, second] = [client.cookie().unwrap(), client.cookie().unwrap()];
    assert_eq!(zerocopy::IntoBytes::as_bytes(&first), zerocopy::IntoBytes::as_bytes(&second));
}

#[test]
fn the_handshake_code_with_another_size_needs_valid_cookies() {
    let host = Host::new();
    let client = host.open();
    let input = r::CookieIn {
        magic: *b"The Magic Word!\0",
        requested_version: IOC_VERSION,
        min_version: IOC_VERSION,
        ..zeroed()
    };
    let request = Request::new(Function::Cookie).input(&input).output::<r::CookieOut>().code(0xc000_5681);
    assert_refused(&client, &request, VERR_INVALID_PARAMETER, "the initial cookie is for the full code only");
    let with_cookies = request.cookies(DEVEXT_COOKIE, SESSION_COOKIE);
    assert_eq!(client.send(&with_cookies).status(), Ok(VINF_SUCCESS));
}

// QUERY_FUNCS

#[test]
fn the_function_table_begins_with_the_ten_numbers() {
    let host = Host::new();
    let client = host.open();
    let functions = client.query_functions().unwrap();
    assert_eq!(functions[0], ("SUPR0AbsIs64bit".into(), 1));
    let names: Vec<&str> = functions.iter().take(10).map(|(name, _)| name.as_str()).collect();
    assert_eq!(names.len(), 10);
    assert!(names.iter().all(|name| name.starts_with("SUPR0Abs")), "{names:?}");
    assert_eq!(functions[4], ("SUPR0AbsKernelCS".into(), 0x10));
}

// GET_PAGING_MODE, VT_CAPS

#[test]
fn a_64_bit_machine_has_a_64_bit_paging_mode() {
    let host = Host::new();
    assert_eq!(host.open().paging_mode(), Ok(10));
}

#[test]
fn capabilities_are_cut_when_there_are_none() {
    let host = Host::new();
    for client in [host.open(), host.open_restricted()] {
        assert_eq!(client.vt_caps(), Ok(6));
    }
    host.os().set_cpuid(0, 0, Default::default());
    let client = host.open_restricted();
    let reply = client.send(&Request::new(Function::VtCaps).output::<r::VtCapsOut>());
    assert_eq!((reply.call, reply.rc(), reply.out_bytes()), (Ok(()), VERR_UNSUPPORTED_CPU, 24));
}

// SET_VM_FOR_FAST and the fast calls

#[test]
fn a_vm_is_a_page_aligned_kernel_address_or_none() {
    let host = Host::new();
    let client = host.open();
    for vm in [1, 0x800, 0x1001, 0xffff_ffff_ffff_f000, 0x0000_8000_0000_0000, 0xffff_7fff_ffff_f000] {
        let request = Request::new(Function::SetVmForFast).input(&r::SetVmForFastIn { vm, ..zeroed() });
        assert_bad(&client, &request, "no plausible VM");
    }
    for vm in [0x1000, 0xffff_f000, 0xffff_8000_0000_0000, 0x0000_7fff_ffff_f000, 0] {
        assert_eq!(client.set_vm(vm), Ok(()), "{vm:#x}");
    }
}

#[test]
fn wide_virtual_addresses_are_plausible_where_they_are_in_use() {
    let host = Host::new();
    host.os().edit_cpus(|cpu| cpu.cr4 |= 1 << 12);
    let client = host.open();
    assert_eq!(client.set_vm(0xff00_0000_0000_0000), Ok(()));
    assert_eq!(client.set_vm(0x0000_8000_0000_0000), Ok(()));
    let request = Request::new(Function::SetVmForFast)
        .input(&r::SetVmForFastIn { vm: 0x0100_0000_0000_0000, ..zeroed() });
    assert_bad(&client, &request, "beyond 57 bits");
}

#[test]
fn fast_calls_need_a_vm_and_an_image() {
    let host = Host::new();
    let client = host.open();
    for function in [Function::FastDoRawRun, Function::FastDoHmRun, Function::FastDoNop] {
        assert_eq!(client.fast(function, 0), Err(VERR_INTERNAL_ERROR), "no VM");
    }
    client.set_vm(0x10_0000).unwrap();
    for function in [Function::FastDoRawRun, Function::FastDoHmRun, Function::FastDoNop] {
        assert_eq!(client.fast(function, 0), Err(VERR_INTERNAL_ERROR), "no image");
    }
    assert_eq!(client.fast(Function::GetPagingMode, 0), Err(VERR_INTERNAL_ERROR), "not a fast code");
}

#[test]
fn calls_into_a_missing_vmmr0_come_in_the_wrong_order() {
    let host = Host::new();
    let client = host.open();
    let reply = client.call_vmmr0(0, 0, 0, 0, None);
    assert_eq!((reply.call, reply.rc()), (Ok(()), VERR_WRONG_ORDER));
    let reply = client.call_vmmr0(0, 0, 0, 0, Some(&[1, 2, 3]));
    assert_eq!((reply.call, reply.rc()), (Ok(()), VERR_WRONG_ORDER));
}

#[test]
fn packets_for_modules_must_be_as_long_as_they_say() {
    let host = Host::new();
    let client = host.open();
    let fixed = || Request::new(Function::CallVmmr0).input(&zeroed::<r::CallVmmr0In>());
    let header = |magic: u32, bytes: u32| [magic.to_ne_bytes(), bytes.to_ne_bytes()].concat();
    let sized = |request: Request| {
        let bytes = request.header().in_bytes;
        request.out_bytes(bytes)
    };
    assert_bad(&client, &sized(fixed().tail(&header(0x1973_0212, 8))), "wrong magic");
    assert_bad(&client, &sized(fixed().tail(&header(0x1973_0211, 7))), "shorter than its own header");
    assert_bad(&client, &sized(fixed().tail(&header(0x1973_0211, 9))), "one byte missing");
    assert_bad(&client, &sized(fixed().tail(&header(0x1973_0211, u32::MAX))), "all but endless");
    assert_bad(&client, &sized(fixed().tail(&[0; 7])), "no room for its header");
    assert_bad(&client, &fixed().out_bytes(0x38), "output for a packet that isn't there");
    let big = Request::new(Function::CallVmmr0Big).input(&zeroed::<r::CallVmmr0In>());
    assert_bad(&client, &sized(big), "no packet");
}

// CALL_SERVICE

#[test]
fn services_are_called_by_a_terminated_name() {
    let host = Host::new();
    let client = host.open();
    let call = |name: [u8; 28]| {
        Request::new(Function::CallService)
            .input(&r::CallServiceIn { name, ..zeroed() })
            .output::<r::CallServiceIn>()
    };
    assert_bad(&client, &call([b'a'; 28]), "no end");
    let mut name = [0; 28];
    name[..7].copy_from_slice(b"nothing");
    let reply = client.send(&call(name));
    assert_eq!((reply.call, reply.rc()), (Ok(()), VERR_SUPDRV_SERVICE_NOT_FOUND));
}

// LOGGER_SETTINGS

fn logger(which: u32, what: u32, offsets: [u32; 3], strings: &[u8]) -> Request {
    let [flags_offset, groups_offset, destination_offset] = offsets;
    let input =
        r::LoggerSettingsIn { which, what, flags_offset, groups_offset, destination_offset, ..zeroed() };
    Request::new(Function::LoggerSettings).input(&input).tail(strings)
}

#[test]
fn logger_settings_apply_to_loggers_that_are_not_there() {
    let host = Host::new();
    let client = host.open();
    let answer = |request: &Request| {
        let reply = client.send(request);
        assert_eq!(reply.call, Ok(()));
        reply.rc()
    };
    let empty = b"\0";
    assert_eq!(answer(&logger(0, 2, [0; 3], empty)), VINF_SUCCESS);
    assert_eq!(answer(&logger(1, 2, [0; 3], empty)), VERR_ACCESS_DENIED);
    assert_eq!(answer(&logger(0, 0, [0; 3], empty)), VERR_NOT_FOUND);
    assert_eq!(answer(&logger(1, 0, [0; 3], empty)), VERR_NOT_FOUND);
    assert_eq!(answer(&logger(0, 1, [0; 3], empty)), VERR_NOT_SUPPORTED);
    for offsets in [[1, 0, 0], [0, 1, 0], [0, 0, 1]] {
        assert_eq!(answer(&logger(0, 2, offsets, b"\0x\0")), VERR_INVALID_PARAMETER);
        assert_eq!(answer(&logger(1, 2, offsets, b"\0x\0")), VERR_INVALID_PARAMETER, "before access");
    }
}

#[test]
fn logger_strings_must_lie_in_their_table() {
    let host = Host::new();
    let client = host.open();
    for offsets in [[1, 0, 0], [0, 1, 0], [0, 0, 1], [u32::MAX, 0, 0]] {
        assert_bad(&client, &logger(0, 2, offsets, b"\0"), "beyond the table");
    }
    assert_bad(&client, &logger(0, 2, [0; 3], b""), "no table");
    assert_bad(&client, &logger(0, 2, [0; 3], b"\0x"), "no end");
    assert_bad(&client, &logger(2, 2, [0; 3], b"\0"), "no such logger");
    assert_bad(&client, &logger(0, 3, [0; 3], b"\0"), "no such operation");
}

// MSR_PROBER, RESUME_SUSPENDED_KBDS

#[test]
fn the_msr_prober_is_not_there() {
    let host = Host::new();
    let client = host.open();
    let probe = |operation| {
        Request::new(Function::MsrProber)
            .input(&r::MsrProberIn { operation, msr: 0x10, ..zeroed() })
            .output::<r::MsrProberOut>()
    };
    for operation in 1..=4 {
        let reply = client.send(&probe(operation));
        assert_eq!((reply.call, reply.rc()), (Ok(()), VERR_NOT_IMPLEMENTED));
        let sent = Reply::new(Ok(()), probe(operation).buffer().0);
        assert_eq!(reply.bytes()[24..], sent.bytes()[24..]);
    }
    for operation in [0, 5, u32::MAX] {
        assert_bad(&client, &probe(operation), "no such operation");
    }
}

#[test]
fn keyboards_are_the_systems_business() {
    let host = Host::new();
    let client = host.open();
    let request = Request::new(Function::ResumeSuspendedKbds);
    assert_eq!(client.send(&request).status(), Err(VERR_NOT_IMPLEMENTED));
    host.os().set_keyboards(VINF_SUCCESS);
    assert_eq!(client.send(&request).status(), Ok(VINF_SUCCESS));
}

// LDR_OPEN, LDR_LOAD, LDR_GET_SYMBOL: what is checked before the loader is asked

fn open_request(name: &[u8], file_name: &[u8], with_tables: u32, bits: u32) -> Request {
    let mut input = r::LdrOpenIn { image_bytes_with_tables: with_tables, image_bytes: bits, ..zeroed() };
    let (mut name_field, mut file_field) = ([0; 32], [0; 260]);
    name_field[..name.len()].copy_from_slice(name);
    file_field[..file_name.len()].copy_from_slice(file_name);
    (input.name, input.file_name) = (name_field, file_field);
    Request::new(Function::LdrOpen).input(&input).output::<r::LdrOpenOut>()
}

#[test]
fn image_names_and_sizes_must_be_sane() {
    let host = Host::new();
    let client = host.open();
    for byte in b";:()[]{}/\\|&*%#@!~`\"'" {
        assert_bad(
            &client,
            &open_request(&[b'a', *byte, b'b'], b"/x", 0x1001, 0x1000),
            "forbidden character",
        );
        assert_bad(&client, &open_request(&[*byte], b"/x", 0x1001, 0x1000), "forbidden character");
    }
    assert_bad(&client, &open_request(b"", b"/x", 0x1001, 0x1000), "no name");
    assert_bad(&client, &open_request(&[b'a'; 32], b"/x", 0x1001, 0x1000), "no end of the name");
    assert_bad(&client, &open_request(b"a", &[b'x'; 260], 0x1001, 0x1000), "no end of the file name");
    for (with_tables, bits) in [
        (0, 0),
        (0x1000, 0),
        (0, 0x1000),
        (0x1000, 0x1000),
        (0x1000, 0x1001),
        (0x100_0000, 0x1000),
        (u32::MAX, 0x1000),
    ] {
        assert_bad(&client, &open_request(b"a", b"/x", with_tables, bits), "sizes");
    }
    for request in [
        open_request(&[b'a'; 31], b"", 0x1001, 0x1000),
        open_request(b"+,-.<=>?^_ $", &[b'x'; 259], 0xff_ffff, 1),
    ] {
        assert_eq!(client.send(&request).status(), Ok(VINF_SUCCESS));
    }
}

fn load_request(input: r::LdrLoadIn, image: &[u8]) -> Request {
    let image_bytes_with_tables = image.len() as u32;
    Request::new(Function::LdrLoad).input(&r::LdrLoadIn { image_bytes_with_tables, ..input }).tail(image)
}

#[test]
fn tables_of_an_image_must_lie_inside_it() {
    let host = Host::new();
    let client = host.open();
    let symbol = |name: u32, offset: u32| [name.to_ne_bytes(), offset.to_ne_bytes()].concat();
    // 16 bytes of code, one symbol, 8 bytes of strings.
    let image = |symbol: Vec<u8>, strings: &[u8]| [&[0xc3; 16], &symbol[..], strings].concat();
    let good = image(symbol(0, 3), b"name\0aa\0");
    let input = r::LdrLoadIn {
        image_base: 0x1000,
        image_bytes: 16,
        symbols_offset: 16,
        symbol_count: 1,
        strings_offset: 24,
        strings_bytes: 8,
        ..zeroed()
    };
    let reply = client.send(&load_request(input, &good));
    assert_eq!((reply.call, reply.rc()), (Ok(()), VERR_INVALID_HANDLE), "well-formed, but not opened");

    let bad =
        |input: r::LdrLoadIn, image: &[u8], why: &str| assert_bad(&client, &load_request(input, image), why);
    bad(r::LdrLoadIn { symbol_count: 16385, ..input }, &good, "too many symbols");
    bad(r::LdrLoadIn { symbol_count: 3, ..input }, &good, "symbols end behind the image");
    bad(r::LdrLoadIn { symbols_offset: 25, ..input }, &good, "the symbol ends behind the image");
    bad(r::LdrLoadIn { symbols_offset: 32, ..input }, &good, "symbols begin behind the image");
    bad(r::LdrLoadIn { symbols_offset: u32::MAX, ..input }, &good, "symbols begin far behind the image");
    bad(r::LdrLoadIn { strings_bytes: 9, ..input }, &good, "strings end behind the image");
    bad(r::LdrLoadIn { strings_offset: 32, ..input }, &good, "strings begin behind the image");
    bad(r::LdrLoadIn { strings_offset: u32::MAX, ..input }, &good, "strings begin far behind the image");
    bad(r::LdrLoadIn { strings_bytes: u32::MAX, ..input }, &good, "strings without end");
    bad(r::LdrLoadIn { strings_bytes: 0, ..input }, &good, "a symbol without strings");
    bad(r::LdrLoadIn { strings_bytes: 4, ..input }, &good, "the name goes on behind the strings");
    bad(input, &image(symbol(8, 3), b"name\0aa\0"), "the name begins behind the strings");
    bad(input, &image(symbol(0, 32), b"name\0aa\0"), "the symbol is behind the image");
    bad(input, &image(symbol(0, 3), b"nameless"), "the name has no end");
    bad(r::LdrLoadIn { symbol_count: 0, strings_bytes: 0, ..input }, &[0; 3], "less than the C structure");
    let mut long = load_request(input, &good);
    long = long.tail(&[0]);
    assert_bad(&client, &long, "more bytes than the image has");

    let odd_offsets = r::LdrLoadIn { symbols_offset: 17, strings_offset: 25, strings_bytes: 7, ..input };
    let odd = [&[0xc3; 17], &symbol(0, 3)[..], b"odd\0ab\0"].concat();
    assert_eq!(client.send(&load_request(odd_offsets, &odd)).rc(), VERR_INVALID_HANDLE, "unaligned is fine");
    let no_tables = r::LdrLoadIn {
        symbol_count: 0,
        strings_bytes: 0,
        symbols_offset: u32::MAX,
        strings_offset: u32::MAX,
        ..input
    };
    assert_eq!(client.send(&load_request(no_tables, &good)).rc(), VERR_INVALID_HANDLE, "nothing is nowhere");
}

#[test]
fn symbols_are_asked_for_by_a_terminated_name() {
    let host = Host::new();
    let client = host.open();
    let get = |symbol: [u8; 64]| {
        Request::new(Function::LdrGetSymbol)
            .input(&r::LdrGetSymbolIn { image_base: 0x1000, symbol, ..zeroed() })
            .output::<r::LdrGetSymbolOut>()
    };
    assert_bad(&client, &get([b'a'; 64]), "no end");
    let reply = client.send(&get([0; 64]));
    assert_eq!((reply.call, reply.rc()), (Ok(()), VERR_INVALID_HANDLE));
    assert_eq!({ reply.output::<r::LdrGetSymbolOut>().address }, 0x1000, "the output is untouched");
}

// SEM_OP2, SEM_OP3: the order of the checks

#[test]
fn semaphore_requests_are_checked_in_order() {
    let host = Host::new();
    let client = host.open();
    let op3 = |sem_type, handle, operation, reserved, reserved64| {
        let input = r::SemOp3In { sem_type, handle, operation, reserved, reserved64, ..zeroed() };
        Request::new(Function::SemOp3).input(&input).output::<r::SemOp3Out>()
    };
    assert_bad(&client, &op3(0, 0, 0, 1, 0), "reserved");
    assert_bad(&client, &op3(0, 0, 0, 0, 1 << 63), "reserved");
    assert_bad(&client, &op3(9, 9, 9, 1, 0), "reserved comes first");
    assert_eq!(client.send(&op3(2, 9, 9, 0, 0)).status(), Err(VERR_INVALID_PARAMETER), "then the type");
    assert_eq!(client.send(&op3(1, 9, 2, 0, 0)).status(), Err(VERR_INVALID_FUNCTION), "then the operation");
    assert_bad(&client, &op3(1, 9, 1, 0, 0), "then the handle");
    let op2 = |sem_type, operation, reserved| {
        let input = r::SemOp2In { sem_type, handle: 77, operation, reserved, ..zeroed() };
        Request::new(Function::SemOp2).input(&input)
    };
    assert_bad(&client, &op2(9, 9, 1), "reserved comes first");
    assert_eq!(client.send(&op2(2, 9, 0)).status(), Err(VERR_INVALID_PARAMETER));
    assert_eq!(client.send(&op2(0, 6, 0)).status(), Err(VERR_INVALID_FUNCTION));
    assert_eq!(client.send(&op2(0, 4, 0)).status(), Err(VERR_INVALID_FUNCTION), "nothing to reset");
    for operation in [0, 1, 2, 3, 5] {
        assert_eq!(client.send(&op2(0, operation, 0)).status(), Err(VERR_INVALID_HANDLE));
    }
}

// TRACER_UMOD_REG

#[test]
fn a_tracer_module_without_end_of_name_is_refused_outright() {
    let host = Host::new();
    let client = host.open();
    let input = r::TracerUmodRegIn { name: [b'a'; 64], flags: 1, ..zeroed() };
    let request = Request::new(Function::TracerUmodReg).input(&input);
    assert_refused(&client, &request, VERR_INVALID_PARAMETER, "no end");
}

#[test]
fn a_header_in_the_reply_keeps_what_the_client_sent() {
    let host = Host::new();
    let client = host.open();
    let request = Request::new(Function::GetPagingMode).output::<r::GetPagingModeOut>();
    let sent = *request.header();
    let reply: RequestHeader = client.send(&request).header();
    assert_eq!(
        ({ reply.cookie }, { reply.session_cookie }, { reply.in_bytes }, { reply.out_bytes }, {
            reply.flags
        }),
        ({ sent.cookie }, { sent.session_cookie }, { sent.in_bytes }, { sent.out_bytes }, { sent.flags })
    );
    assert_eq!({ reply.rc }, 0);
}

/// No request with a small packet needs the heap to be dispatched.
#[test]
fn small_requests_allocate_nothing() {
    use supdrv_core::mock::Kind;
    let host = Host::new();
    let client = host.open();
    let handle = client.sem_op3(0, 0, 0).unwrap();
    client.gip_map().unwrap();
    let before = host.os().made(Kind::Heap);
    client.cookie().unwrap();
    client.query_functions().unwrap();
    client.paging_mode().unwrap();
    client.vt_caps().unwrap();
    client.set_vm(0x10_0000).unwrap();
    client.sem_op2(0, handle, 3, 0).unwrap();
    client.sem_op2(0, handle, 0, 0).unwrap();
    assert_eq!(client.sem_op2(0, handle, 0, 0), Err(VERR_TIMEOUT));
    assert_eq!(client.sem_op3(0, 0, 1), Ok(1000));
    assert_eq!(client.page_free(0x1000), Err(VERR_INVALID_PARAMETER));
    assert_eq!(client.ldr_free(0x1000), Err(VERR_INVALID_HANDLE));
    assert_eq!(client.call_vmmr0(0, 0, 0, 0, None).rc(), VERR_WRONG_ORDER);
    client.send(&logger(0, 2, [0; 3], b"\0"));
    assert_eq!(host.os().made(Kind::Heap), before, "something was allocated");
}
