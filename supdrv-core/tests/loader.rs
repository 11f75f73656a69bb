//! The image loader: opening, loading, symbols, freeing. Test images are machine code, and it runs.
#![cfg(target_arch = "x86_64")]

#[path = "common/code.rs"]
mod code;

use std::ffi::c_void;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;

use code::{Builder, Diary, counts, returns, writes};
use supdrv_core::abi::ioctl::Function;
use supdrv_core::abi::published::{DevExtView, ImageView};
use supdrv_core::abi::requests as r;
use supdrv_core::abi::status::{
    Status, VERR_ALREADY_LOADED, VERR_GENERAL_FAILURE, VERR_INTERNAL_ERROR_2, VERR_INTERNAL_ERROR_3,
    VERR_INTERNAL_ERROR_4, VERR_INTERNAL_ERROR_5, VERR_INVALID_HANDLE, VERR_INVALID_PARAMETER,
    VERR_LDR_GENERAL_FAILURE, VERR_LDR_MISMATCH_NATIVE, VERR_NO_EXEC_MEMORY, VERR_NO_MEMORY,
    VERR_NOT_SUPPORTED, VERR_PERMISSION_DENIED,
};
use supdrv_core::mock::client::Image;
use supdrv_core::mock::packet::zeroed;
use supdrv_core::mock::{Call, Client, Host, Kind, MockOs, Reply, Request, replay};
use supdrv_core::object::{Destructor, ObjectId, Registration, Released};
use supdrv_core::os::NIL_HANDLE;

/// The request isn't worth an answer: both the call and the packet say so.
fn is_rejected(reply: &Reply) -> bool {
    reply.call == Err(VERR_INVALID_PARAMETER) && reply.rc() == VERR_INVALID_PARAMETER
}

fn field<const N: usize>(text: &[u8]) -> [u8; N] {
    let mut field = [0; N];
    field[..text.len()].copy_from_slice(text);
    field
}

fn open_raw(client: &Client<'_>, with_tables: u32, bits: u32, name: [u8; 32], file: [u8; 260]) -> Reply {
    let input = r::LdrOpenIn {
        image_bytes_with_tables: with_tables,
        image_bytes: bits,
        name,
        file_name: file,
        ..zeroed()
    };
    client.send(&Request::new(Function::LdrOpen).input(&input).output::<r::LdrOpenOut>())
}

fn open_named(client: &Client<'_>, name: &[u8]) -> Reply {
    open_raw(client, 0x1010, 0x1000, field(name), field(b"/file"))
}

fn base_of(reply: &Reply) -> usize {
    assert_eq!(reply.status(), Ok(Status(0)));
    reply.output::<r::LdrOpenOut>().image_base
}

fn simple(name: &str) -> Image {
    Builder::new(name).symbol("f", &returns(1)).build()
}

// ---------------------------------------------------------------------------------------------- opening

#[test]
fn sizes_that_can_not_be_are_rejected() {
    let host = Host::new();
    let client = host.open();
    let open = |with_tables, bits| open_raw(&client, with_tables, bits, field(b"a"), field(b""));
    for with_tables in [0, 0x100_0000, u32::MAX] {
        assert!(is_rejected(&open(with_tables, 1)), "{with_tables:#x}");
    }
    assert!(is_rejected(&open(0x2000, 0)));
    assert!(is_rejected(&open(0x2000, 0x2000)));
    assert!(is_rejected(&open(0x2000, 0x2001)));
    assert!(base_of(&open(0x2000, 0x1fff)) != 0);
    // The largest there is.
    let largest = open_raw(&client, 0xff_ffff, 0xff_fffe, field(b"large"), field(b""));
    assert!(base_of(&largest) != 0);
}

#[test]
fn names_that_can_not_be_are_rejected() {
    let host = Host::new();
    let client = host.open();
    assert!(is_rejected(&open_raw(&client, 0x20, 0x10, [b'a'; 32], field(b""))), "no NUL");
    assert!(is_rejected(&open_named(&client, b"")));
    for byte in b";:()[]{}/\\|&*%#@!~`\"'" {
        assert!(is_rejected(&open_named(&client, &[b'a', *byte])), "{}", char::from(*byte));
    }
    assert!(is_rejected(&open_raw(&client, 0x20, 0x10, field(b"a"), [b'f'; 260])), "file without NUL");
    for name in [&[b'a'; 31][..], b"a.b-c_d e", b"$^=,<>?+", &[0x80, 0xff], &[1]] {
        assert!(base_of(&open_named(&client, name)) != 0, "{name:?}");
    }
    let forbidden = b";:()[]{}/\\|&*%#@!~`\"'".len();
    assert_eq!(forbidden, 21);
}

#[test]
fn packets_of_the_wrong_size_are_rejected() {
    let host = Host::new();
    let client = host.open();
    let good = Request::new(Function::LdrOpen)
        .input(&r::LdrOpenIn { image_bytes_with_tables: 2, image_bytes: 1, name: field(b"a"), ..zeroed() })
        .output::<r::LdrOpenOut>();
    let bytes = *good.header();
    for wrong in [good.clone().in_bytes(bytes.in_bytes - 4), good.clone().out_bytes(bytes.out_bytes + 8)] {
        assert!(is_rejected(&client.send(&wrong)));
    }
    let free = Request::new(Function::LdrFree).input(&zeroed::<r::LdrFreeIn>());
    assert!(is_rejected(&client.send(&free.out_bytes(0x20))));
    let symbol = Request::new(Function::LdrGetSymbol).input(&zeroed::<r::LdrGetSymbolIn>());
    assert!(is_rejected(&client.send(&symbol)));
    assert_eq!(host.counters().images, 0);
}

#[test]
fn sessions_share_an_image_by_its_name() {
    let host = Host::new();
    let (first, second) = (host.open(), host.open());
    let image = simple("shared.r0");
    let opened = first.ldr_open(&image, "").expect("opened");
    assert!(opened.needs_loading && !opened.native && opened.base % 0x1000 == 0);
    assert_eq!(second.ldr_open(&image, "").expect("opened"), opened, "it still needs loading");
    first.ldr_load(opened.base, &image).expect("loaded");
    let again = host.open().ldr_open(&image, "").expect("opened");
    assert_eq!((again.base, again.needs_loading), (opened.base, false));
    assert_eq!(host.counters().images, 1);
    assert_eq!(host.os().images_opened(), ["shared.r0"], "the system hears of the first open only");
}

#[test]
fn names_are_compared_byte_by_byte() {
    let host = Host::new();
    let client = host.open();
    let names: [&[u8]; 5] = [b"VMMR0.r0", b"vmmr0.r0", b"AB", b"ABC", b"A"];
    let bases: std::collections::BTreeSet<usize> =
        names.iter().map(|name| base_of(&open_named(&client, name))).collect();
    assert_eq!(bases.len(), 5);
}

#[test]
fn a_known_image_with_other_sizes_is_refused() {
    let host = Host::new();
    let client = host.open();
    base_of(&open_raw(&client, 0x2000, 0x1000, field(b"a"), field(b"")));
    for (with_tables, bits) in [(0x2008, 0x1000), (0x2000, 0x1008)] {
        let reply = open_raw(&client, with_tables, bits, field(b"a"), field(b""));
        assert_eq!(reply.status(), Err(VERR_LDR_MISMATCH_NATIVE));
    }
}

#[test]
fn a_failed_open_leaves_no_trace() {
    let host = Host::new();
    let client = host.open();
    host.os().fail_next(Call::ExecAlloc, VERR_NO_MEMORY);
    assert_eq!(open_named(&client, b"a").status(), Err(VERR_NO_EXEC_MEMORY));
    assert_eq!(host.counters().images, 0);
    // The usage record comes first, then the image's records.
    for (skip, status) in [
        (0, VERR_INTERNAL_ERROR_5),
        (1, VERR_INTERNAL_ERROR_5),
        (2, VERR_INTERNAL_ERROR_2),
        (3, VERR_INTERNAL_ERROR_2),
    ] {
        host.os().fail_later(Call::HeapAlloc, skip, VERR_NO_MEMORY);
        let before = host.os().live_all();
        assert_eq!(open_named(&client, b"a").status(), Err(status), "allocation {skip}");
        assert_eq!(host.os().live_all(), before);
    }
    base_of(&open_named(&client, b"a"));
}

#[test]
fn images_and_their_memory_are_limited() {
    let host = Host::new();
    let client = host.open();
    for number in 0..256 {
        base_of(&open_named(&client, format!("image{number}").as_bytes()));
    }
    assert_eq!(open_named(&client, b"one more").status(), Err(VERR_NO_EXEC_MEMORY));
    base_of(&open_named(&client, b"image0"));
    drop(client);
    let client = host.open();
    let large = |name: &[u8]| open_raw(&client, 0xff_ffff, 0xff_fff0, field(name), field(b""));
    for name in [b"a", b"b", b"c", b"d"] {
        base_of(&large(name));
    }
    assert_eq!(large(b"e").status(), Err(VERR_NO_EXEC_MEMORY), "64 MiB");
    client.ldr_free(base_of(&large(b"a"))).expect("one of two");
    client.ldr_free(base_of(&large(b"a"))).expect("one of two");
    client.ldr_free(base_of(&large(b"d")) + 1).expect_err("no such base");
}

// ---------------------------------------------------------------------------------------------- loading

fn load_raw(
    client: &Client<'_>,
    base: usize,
    image: &Image,
    edit: impl FnOnce(&mut r::LdrLoadIn, &mut Vec<u8>),
) -> Reply {
    let (mut upload, symbols_offset, strings_offset) = image.upload();
    let strings: usize = image.symbols.iter().map(|(name, _)| name.len() + 1).sum();
    let mut input = r::LdrLoadIn {
        image_base: base,
        image_bytes: image.bits.len() as u32,
        symbols_offset,
        symbol_count: image.symbols.len() as u32,
        strings_offset,
        strings_bytes: strings as u32,
        image_bytes_with_tables: upload.len() as u32,
        ..zeroed()
    };
    edit(&mut input, &mut upload);
    client.send(&Request::new(Function::LdrLoad).input(&input).tail(&upload))
}

#[test]
fn tables_that_do_not_fit_are_rejected() {
    let host = Host::new();
    let client = host.open();
    let image = Builder::new("a").symbol("first", &returns(1)).symbol("second", &returns(2)).build();
    let base = client.ldr_open(&image, "").expect("opened").base;
    let (upload, symbols_offset, strings_offset) = image.upload();
    let size = upload.len() as u32;
    let reject = |what: &str, edit: &dyn Fn(&mut r::LdrLoadIn, &mut Vec<u8>)| {
        assert!(is_rejected(&load_raw(&client, base, &image, edit)), "{what}");
    };
    reject("size off by one", &|input, _| input.image_bytes_with_tables -= 1);
    reject("no image", &|input, upload| {
        upload.clear();
        input.image_bytes_with_tables = 0;
    });
    reject("too many symbols", &|input, _| input.symbol_count = 16385);
    reject("symbols at the end", &|input, _| input.symbols_offset = size);
    reject("symbols beyond the end", &|input, _| input.symbols_offset = size - 8);
    reject("symbols that wrap", &|input, _| input.symbols_offset = u32::MAX - 7);
    reject("strings at the end", &|input, _| input.strings_offset = size);
    reject("strings beyond the end", &|input, _| input.strings_bytes = size);
    reject("strings that wrap", &|input, _| input.strings_bytes = u32::MAX);
    reject("symbols without strings", &|input, _| input.strings_bytes = 0);
    let symbol = |upload: &mut Vec<u8>, at: u32, value: u32| {
        let at = (symbols_offset + at) as usize;
        upload[at..at + 4].copy_from_slice(&value.to_le_bytes());
    };
    reject("a symbol outside", &|_, upload| symbol(upload, 4, size));
    reject("a symbol far outside", &|_, upload| symbol(upload, 12, u32::MAX));
    reject("a name at the end", &|input, upload| symbol(upload, 8, input.strings_bytes));
    reject("a name without end", &|input, upload| {
        let last = (strings_offset + input.strings_bytes) as usize - 1;
        upload[last] = b'x';
    });
    let wrong_output = client.load_request(base, &image).out_bytes(0x20);
    assert!(is_rejected(&client.send(&wrong_output)));
    let too_short = Request::new(Function::LdrLoad).input(&zeroed::<r::LdrLoadIn>()).tail(&[0; 2]);
    assert!(is_rejected(&client.send(&too_short)));
    // What is allowed, though odd: offsets up to the last byte of the upload, behind the bits too.
    let reply = load_raw(&client, base, &image, |_, upload| {
        symbol(upload, 4, size - 1);
        symbol(upload, 12, image.bits.len() as u32);
    });
    assert_eq!(reply.status(), Ok(Status(0)));
    assert_eq!(client.ldr_get_symbol(base, "first"), Ok(base + size as usize - 1));
}

#[test]
fn the_largest_symbol_table_works_and_is_searched_by_name() {
    let host = Host::new();
    let client = host.open();
    let mut image = Image::new("many", &[0xc3; 16]);
    image.symbols = (0..16384).map(|number| (format!("symbol{number}"), number % 16)).collect();
    let base = client.load(&image).expect("loaded");
    for number in [0, 1, 8191, 16383] {
        assert_eq!(client.ldr_get_symbol(base, &format!("symbol{number}")), Ok(base + number % 16));
    }
    assert_eq!(client.ldr_get_symbol(base, "symbol16384"), Err(VERR_GENERAL_FAILURE));
}

#[test]
fn only_the_opener_loads_and_only_once() {
    let host = Host::new();
    let (opener, stranger) = (host.open(), host.open());
    let image = simple("a");
    let base = opener.ldr_open(&image, "").expect("opened").base;
    assert_eq!(stranger.ldr_load(base, &image), Err(VERR_INVALID_HANDLE));
    assert_eq!(opener.ldr_load(base + 16, &image), Err(VERR_INVALID_HANDLE));
    let other_bits = load_raw(&opener, base, &image, |input, _| input.image_bytes -= 1);
    assert_eq!(other_bits.status(), Err(VERR_INVALID_HANDLE));
    let other_size = load_raw(&opener, base, &image, |input, upload| {
        input.image_bytes_with_tables += 8;
        upload.extend([0; 8]);
    });
    assert_eq!(other_size.status(), Err(VERR_INVALID_HANDLE));
    opener.ldr_load(base, &image).expect("loaded");
    assert_eq!(opener.ldr_load(base, &image), Err(VERR_ALREADY_LOADED));
}

#[test]
fn the_bits_arrive_and_nothing_else() {
    let host = Host::new();
    let client = host.open();
    let mut image = simple("a");
    image.bits = (0..=255).cycle().take(3 * 0x1000 + 5).collect();
    let base = client.load(&image).expect("loaded");
    // SAFETY: loaded, and rounded up to a page.
    let memory = unsafe { std::slice::from_raw_parts(base as *const u8, 4 * 0x1000) };
    assert!(memory[..image.bits.len()] == image.bits[..]);
    assert!(memory[image.bits.len()..].iter().all(|byte| *byte == 0), "tables are not part of it");
}

#[test]
fn entry_points_must_be_inside_the_image() {
    let host = Host::new();
    let client = host.open();
    let image = simple("a");
    let size = image.bits.len();
    let base = client.ldr_open(&image, "").expect("opened").base;
    let check =
        |edit: &dyn Fn(&mut r::LdrLoadIn)| load_raw(&client, base, &image, |input, _| edit(input)).status();
    for outside in [base + size, base - 1, usize::MAX, 1] {
        assert_eq!(check(&|input| input.module_init = outside), Err(VERR_INVALID_PARAMETER), "{outside:#x}");
        assert_eq!(check(&|input| input.module_term = outside), Err(VERR_INVALID_PARAMETER));
    }
    for kind in [3, 0x7fff_ffff, u32::MAX] {
        assert_eq!(check(&|input| input.entry_point_type = kind), Err(VERR_INVALID_PARAMETER));
    }
    let good = [base, base + 1, base + 2, base + 3];
    let set = |kind: u32, points: [usize; 4]| {
        check(&|input| (input.entry_point_type, input.entry_points) = (kind, points))
    };
    for wrong in 0..4 {
        for value in [0, base + size, base - 1] {
            let mut points = good;
            points[wrong] = value;
            assert_eq!(set(1, points), Err(VERR_INVALID_PARAMETER), "VMMR0 {wrong} {value:#x}");
        }
    }
    assert_eq!(set(1, [base + 1, base, base, base]), Err(VERR_INVALID_PARAMETER), "not the base");
    for points in [[0, 0, 0, 0], [base + size, 0, 0, 0], [base, 0, 0, 1], [base, 1, 0, 0]] {
        assert_eq!(set(2, points), Err(VERR_INVALID_PARAMETER), "service {points:?}");
    }
    assert_eq!(host.view().vmmr0.load(Relaxed), 0);
    assert_eq!(client.ldr_get_symbol(base, "f"), Err(VERR_ALREADY_LOADED), "nothing was loaded");
    // Without entry points the words are nobody's business.
    let reply = load_raw(&client, base, &image, |input, _| {
        input.entry_points = [1, 2, 3, 4];
        input.module_term = 0;
    });
    assert_eq!(reply.status(), Ok(Status(0)));
}

#[test]
fn the_last_byte_of_the_bits_is_inside() {
    let host = Host::new();
    let client = host.open();
    let mut image = simple("a");
    *image.bits.last_mut().expect("bits") = 0xc3;
    image.term = Some(image.bits.len() as u32 - 1);
    client.load(&image).expect("loaded");
}

#[test]
fn a_failing_init_undoes_the_load_and_it_can_be_tried_again() {
    let host = Host::new();
    let client = host.open();
    let (inits, terms) = (AtomicU32::new(0), AtomicU32::new(0));
    let make = |status| {
        Builder::new("a")
            .init(&counts(&inits, status))
            .term(&counts(&terms, 0))
            .symbol("f", &returns(1))
            .build()
    };
    let base = client.ldr_open(&make(0), "").expect("opened").base;
    assert_eq!(client.ldr_load(base, &make(-38)), Err(Status(-38)));
    assert_eq!(client.ldr_get_symbol(base, "f"), Err(VERR_ALREADY_LOADED));
    assert_eq!((inits.load(Relaxed), terms.load(Relaxed)), (1, 0));
    client.ldr_load(base, &make(0)).expect("the second attempt");
    assert!(client.ldr_get_symbol(base, "f").is_ok());
    client.ldr_free(base).expect("freed");
    assert_eq!((inits.load(Relaxed), terms.load(Relaxed)), (2, 1));
}

#[test]
fn an_informational_status_of_init_is_passed_on() {
    let host = Host::new();
    let client = host.open();
    let image = Builder::new("a").init(&returns(5)).symbol("f", &returns(1)).build();
    let base = client.ldr_open(&image, "").expect("opened").base;
    assert_eq!(client.send(&client.load_request(base, &image)).status(), Ok(Status(5)));
    assert!(client.ldr_get_symbol(base, "f").is_ok(), "it is loaded");
}

#[test]
fn tables_that_find_no_memory_have_statuses_of_their_own() {
    let host = Host::new();
    let client = host.open();
    let image = simple("a");
    let base = client.ldr_open(&image, "").expect("opened").base;
    for (skip, status) in [(0, VERR_INTERNAL_ERROR_3), (1, VERR_INTERNAL_ERROR_4)] {
        host.os().fail_later(Call::HeapAlloc, skip, VERR_NO_MEMORY);
        let before = host.os().live_all();
        assert_eq!(client.ldr_load(base, &image), Err(status));
        assert_eq!(host.os().live_all(), before);
    }
    host.os().fail_next(Call::ExecLoad, VERR_NO_EXEC_MEMORY);
    assert_eq!(client.ldr_load(base, &image), Err(VERR_NO_EXEC_MEMORY));
    client.ldr_load(base, &image).expect("loaded");
}

#[test]
fn an_administrator_can_forbid_uploads() {
    let host = Host::new();
    host.os().set_refuses_uploaded_code(true);
    let client = host.open();
    let image = simple("a");
    let base = client.ldr_open(&image, "").expect("opening is harmless").base;
    assert_eq!(client.ldr_load(base, &image), Err(VERR_PERMISSION_DENIED));
    host.os().set_refuses_uploaded_code(false);
    client.ldr_load(base, &image).expect("loaded");
}

/// What init sees of the driver while it runs.
struct InitWindow {
    view: *const DevExtView,
    module: usize,
    image: usize,
    thread: usize,
}

unsafe extern "C" fn look_at_window(module: *mut c_void, window: *mut InitWindow) -> i32 {
    // SAFETY: the test's code passes its own window.
    let (window, view) = unsafe { (&mut *window, &*(*window).view) };
    window.module = module as usize;
    window.image = view.init_image.load(Relaxed);
    window.thread = view.init_thread.load(Relaxed);
    0
}

#[test]
fn init_runs_in_a_window_that_names_its_image_and_thread() {
    let host = Host::new();
    let client = host.open();
    let mut window = InitWindow { view: host.view(), module: 0, image: 0, thread: 0 };
    let function: unsafe extern "C" fn(*mut c_void, *mut InitWindow) -> i32 = look_at_window;
    let code = code::continues(function as usize, 2, (&raw mut window) as usize);
    client.load(&Builder::new("a").init(&code).build()).expect("loaded");
    assert_ne!(window.module, 0);
    assert_eq!((window.image, window.thread), (window.module, host.os().thread()));
    assert_eq!(host.view().init_image.load(Relaxed), 0);
    assert_eq!(host.view().init_thread.load(Relaxed), NIL_HANDLE);
    // SAFETY: the module handle is the image's view, and the image is loaded.
    let view = unsafe { &*(window.module as *const ImageView) };
    assert_eq!((view.name[0], view.usage.load(Relaxed)), (b'a', 1));
}

// ---------------------------------------------------------------------------------------------- symbols

#[test]
fn symbols_are_found_by_exact_name() {
    let host = Host::new();
    let client = host.open();
    let long = "n".repeat(63);
    let image = Builder::new("a")
        .symbol("first", &returns(11))
        .symbol("twice", &returns(22))
        .symbol("twice", &returns(33))
        .symbol(&long, &returns(44))
        .build();
    let base = client.ldr_open(&image, "").expect("opened").base;
    assert_eq!(client.ldr_get_symbol(base, "first"), Err(VERR_ALREADY_LOADED), "not loaded yet");
    client.ldr_load(base, &image).expect("loaded");
    let call = |name: &str| {
        let address = client.ldr_get_symbol(base, name)?;
        // SAFETY: the symbol is a function of this type, in an image that is loaded.
        let function: extern "C" fn() -> i32 = unsafe { std::mem::transmute(address) };
        Ok::<i32, Status>(function())
    };
    assert_eq!(call("first"), Ok(11));
    assert_eq!(call("twice"), Ok(22), "the first of equal names");
    assert_eq!(call(&long), Ok(44));
    for unknown in ["", "fir", "first2", "First"] {
        assert_eq!(call(unknown), Err(VERR_GENERAL_FAILURE), "{unknown:?}");
    }
    assert_eq!(host.open().ldr_get_symbol(base, "first"), Err(VERR_INVALID_HANDLE));
    let unterminated = r::LdrGetSymbolIn { image_base: base, symbol: [b'n'; 64], ..zeroed() };
    let request = Request::new(Function::LdrGetSymbol).input(&unterminated).output::<r::LdrGetSymbolOut>();
    assert!(is_rejected(&client.send(&request)));
    let unknown = r::LdrGetSymbolIn { image_base: base, symbol: field(b"no"), ..zeroed() };
    let reply =
        client.send(&Request::new(Function::LdrGetSymbol).input(&unknown).output::<r::LdrGetSymbolOut>());
    assert_eq!({ reply.output::<r::LdrGetSymbolOut>().address }, 0, "no stale output");
}

#[test]
fn names_of_symbols_do_not_stay_in_memory_that_others_get() {
    let host = Host::new();
    let client = host.open();
    host.os().keep_secret(b"SecretOfTheModule");
    let image = Builder::new("a").symbol("SecretOfTheModule", &returns(1)).build();
    let base = client.load(&image).expect("loaded");
    assert!(client.ldr_get_symbol(base, "SecretOfTheModule").is_ok());
    client.ldr_free(base).expect("freed");
    assert_eq!(host.os().take_violations(), [] as [&str; 0]);
    // That this would be noticed:
    let block = supdrv_core::heap::Box::new(host.os(), *b"SecretOfTheModule").expect("a block");
    drop(block);
    assert_eq!(host.os().take_violations().len(), 1);
}

// ---------------------------------------------------------------------------------------------- freeing

#[test]
fn an_image_lives_as_long_as_it_is_referenced() {
    let host = Host::new();
    let client = host.open();
    let terms = AtomicU32::new(0);
    let image = Builder::new("a").term(&counts(&terms, 0)).symbol("f", &returns(1)).build();
    let base = client.load(&image).expect("loaded");
    for _ in 0..2 {
        assert!(!client.ldr_open(&image, "").expect("opened").needs_loading);
    }
    client.ldr_free(base).expect("freed");
    client.ldr_free(base).expect("freed");
    assert!(client.ldr_get_symbol(base, "f").is_ok());
    assert_eq!(terms.load(Relaxed), 0);
    client.ldr_free(base).expect("freed");
    assert_eq!(terms.load(Relaxed), 1);
    assert_eq!(client.ldr_free(base), Err(VERR_INVALID_HANDLE));
    assert!(client.ldr_open(&image, "").expect("opened").needs_loading);
    client.ldr_free(base).ok();
    assert_eq!(terms.load(Relaxed), 1, "what was only opened is not terminated");
}

#[test]
fn the_last_session_terminates_an_image() {
    let host = Host::new();
    let (first, second) = (host.open(), host.open());
    let terms = AtomicU32::new(0);
    let image = Builder::new("a").term(&counts(&terms, 0)).symbol("f", &returns(1)).build();
    let base = first.load(&image).expect("loaded");
    second.load(&image).expect("loaded");
    first.ldr_free(base).expect("freed");
    assert!(second.ldr_get_symbol(base, "f").is_ok());
    second.close();
    assert_eq!(terms.load(Relaxed), 1);
    assert_eq!(host.counters().images, 0);
}

#[test]
fn sessions_release_images_in_reverse_order_of_their_first_open() {
    let host = Host::new();
    let diary = Diary::default();
    let (x, y) = (diary.line("X"), diary.line("Y"));
    let image = |name: &str, line| Builder::new(name).term(&writes(line)).build();
    let client = host.open();
    client.load(&image("X", &x)).expect("loaded");
    client.load(&image("Y", &y)).expect("loaded");
    client.load(&image("X", &x)).expect("opened again");
    client.close();
    assert_eq!(diary.read(), ["Y", "X"]);
}

fn register(client: &Client<'_>, destructor: usize, user1: usize) -> ObjectId {
    let session = client.session();
    // SAFETY: the test passes addresses of functions.
    let destructor: Destructor = unsafe { std::mem::transmute(destructor) };
    let what =
        Registration { object_type: 2, destructor, user1: user1 as *mut c_void, user2: std::ptr::null_mut() };
    let objects = client.host().driver().objects();
    objects.register(session.key(), &session.creator(), session.ext(), &what).expect("registered")
}

#[test]
fn an_image_with_destructors_stays_until_the_session_is_closed() {
    let host = Host::new();
    let diary = Diary::default();
    let (destroyed, terminated) = (diary.line("destructor"), diary.line("term"));
    let image =
        Builder::new("a").symbol("destructor", &writes(&destroyed)).term(&writes(&terminated)).build();
    let client = host.open();
    let base = client.load(&image).expect("loaded");
    let destructor = client.ldr_get_symbol(base, "destructor").expect("a symbol");
    register(&client, destructor, 1);
    client.ldr_free(base).expect("success, whatever it means");
    assert!(client.ldr_get_symbol(base, "destructor").is_ok(), "it is still there");
    assert!(diary.read().is_empty());
    client.close();
    assert_eq!(diary.read(), ["destructor", "term"]);
}

#[test]
fn a_session_keeps_an_image_whose_destructors_it_uses_even_if_others_have_it_too() {
    let host = Host::new();
    let (mine, other) = (host.open(), host.open());
    let destroyed = AtomicU32::new(0);
    let image = Builder::new("a").symbol("destructor", &counts(&destroyed, 0)).build();
    let base = mine.load(&image).expect("loaded");
    other.load(&image).expect("opened");
    let destructor = mine.ldr_get_symbol(base, "destructor").expect("a symbol");
    register(&mine, destructor, 0);
    mine.ldr_free(base).expect("success, whatever it means");
    assert!(mine.ldr_get_symbol(base, "destructor").is_ok(), "it keeps its reference");
    other.ldr_free(base).expect("freed");
    assert_eq!(
        other.ldr_get_symbol(base, "destructor"),
        Err(VERR_INVALID_HANDLE),
        "it doesn't use the object"
    );
    mine.close();
    assert_eq!(destroyed.load(Relaxed), 1);
}

#[test]
fn destructors_in_an_image_that_is_gone_are_not_called() {
    let host = Host::new();
    let (owner, user) = (host.open(), host.open());
    let destroyed = AtomicU32::new(0);
    let image = Builder::new("gone").symbol("destructor", &counts(&destroyed, 0)).build();
    let base = owner.load(&image).expect("loaded");
    let destructor = owner.ldr_get_symbol(base, "destructor").expect("a symbol");
    let object = register(&user, destructor, 0);
    owner.close();
    assert_eq!(host.counters().images, 0);
    assert!(host.os().log().iter().any(|line| line.contains("gone")), "{:?}", host.os().log());
    // SAFETY: the user has a reference.
    let released = unsafe { host.driver().objects().release(user.session().key(), object) };
    assert_eq!(released, Ok(Released::Destroyed));
    assert_eq!(destroyed.load(Relaxed), 0);
}

struct TermContext {
    host: *const Host,
    destructor: usize,
    session: usize,
}

unsafe extern "C" fn register_in_term(_module: *mut c_void, context: *const TermContext) {
    // SAFETY: the test's code passes its own context.
    let (context, host) = unsafe { (&*context, &*(*context).host) };
    // SAFETY: the test passes the address of a function.
    let destructor: Destructor = unsafe { std::mem::transmute(context.destructor) };
    let what =
        Registration { object_type: 2, destructor, user1: std::ptr::null_mut(), user2: std::ptr::null_mut() };
    let session = host.open();
    let (creator, ext) = (session.session().creator(), session.session().ext());
    host.driver().objects().register(context.session, &creator, ext, &what).expect("registered");
    // Closing sessions takes the loader mutex, which is held here.
    std::mem::forget(session.reference());
    std::mem::forget(session);
}

#[test]
fn objects_that_term_registers_lose_their_destructors_too() {
    let host = Host::new();
    let (owner, user) = (host.open(), host.open());
    let destroyed = AtomicU32::new(0);
    let mut context = TermContext { host: &raw const host, destructor: 0, session: user.session().key() };
    let function: unsafe extern "C" fn(*mut c_void, *const TermContext) = register_in_term;
    let term = code::continues(function as usize, 2, (&raw const context) as usize);
    let image = Builder::new("a").symbol("destructor", &counts(&destroyed, 0)).term(&term).build();
    let base = owner.load(&image).expect("loaded");
    context.destructor = owner.ldr_get_symbol(base, "destructor").expect("a symbol");
    std::hint::black_box(&context);
    owner.close();
    user.close();
    assert_eq!(destroyed.load(Relaxed), 0);
    assert_eq!(host.counters().objects, 0);
    // The session that term opened.
    assert_eq!(host.counters().sessions, 1);
    std::mem::forget(host);
}

// ---------------------------------------------------------------------------------------------- native loader

fn native_host(image: &Image) -> (MockOs, Host) {
    let os = MockOs::new();
    os.set_native_loader(VERR_LDR_GENERAL_FAILURE);
    os.add_native_file("/native", &image.bits);
    let host = Host::on(&os).expect("a driver");
    (os, host)
}

#[test]
fn the_systems_loader_comes_first() {
    let diary = Diary::default();
    let line = diary.line("term");
    let image = Builder::new("a").symbol("f", &returns(7)).term(&writes(&line)).build();
    let (os, host) = native_host(&image);
    let client = host.open();
    let opened = client.ldr_open(&image, "/native").expect("opened");
    assert!(opened.native && opened.needs_loading);
    assert_eq!((os.live(Kind::NativeImage), os.live(Kind::ExecMemory)), (1, 0));
    client.ldr_load(opened.base, &image).expect("loaded");
    assert_eq!(client.ldr_get_symbol(opened.base, "f"), Ok(opened.base));
    os.start_trace();
    client.ldr_free(opened.base).expect("freed");
    assert_eq!(os.take_trace().iter().filter(|call| **call == Call::NativeUnload).count(), 1);
    assert_eq!((diary.read().len(), os.live(Kind::NativeImage)), (1, 0));
}

#[test]
fn what_the_systems_loader_refuses_is_not_loaded_otherwise() {
    let image = simple("a");
    let (os, host) = native_host(&image);
    let client = host.open();
    assert_eq!(client.ldr_open(&image, "/missing"), Err(VERR_LDR_GENERAL_FAILURE));
    assert_eq!((os.live(Kind::ExecMemory), os.made(Kind::ExecMemory)), (0, 0));
    os.fail_next(Call::NativeOpen, VERR_NOT_SUPPORTED);
    let opened = client.ldr_open(&image, "/native").expect("the driver's own memory");
    assert!(!opened.native);
}

#[test]
fn a_native_load_that_fails_can_be_tried_again() {
    let image = Builder::new("a").vmmr0(code::ENTRY_FAST, code::ENTRY_EX).build();
    let (os, host) = native_host(&image);
    let client = host.open();
    let base = client.ldr_open(&image, "/native").expect("opened").base;
    os.fail_later(Call::NativeValidate, 3, VERR_INVALID_PARAMETER);
    assert_eq!(client.ldr_load(base, &image), Err(VERR_INVALID_PARAMETER), "EntryEx");
    os.fail_next(Call::NativeLoad, VERR_LDR_MISMATCH_NATIVE);
    assert_eq!(client.ldr_load(base, &image), Err(VERR_LDR_MISMATCH_NATIVE));
    assert_eq!(host.view().vmmr0.load(Relaxed), 0);
    assert_eq!(os.live(Kind::NativeImage), 1, "unloaded only when it is freed");
    client.ldr_load(base, &image).expect("loaded");
    assert_eq!(host.view().vmmr0.load(Relaxed), base);
}

#[test]
fn the_systems_loader_may_correct_entry_points() {
    let (inits, wrong) = (AtomicU32::new(0), AtomicU32::new(0));
    let image = Builder::new("a").init(&counts(&wrong, 0)).symbol("right", &counts(&inits, 0)).build();
    let (os, host) = native_host(&image);
    let client = host.open();
    let base = client.ldr_open(&image, "/native").expect("opened").base;
    let right = base + image.symbols[0].1 as usize;
    os.set_native_entry_points(supdrv_core::os::NativeEntryPoints { init: right, ..Default::default() });
    client.ldr_load(base, &image).expect("loaded");
    assert_eq!((inits.load(Relaxed), wrong.load(Relaxed)), (1, 0));
}

// ---------------------------------------------------------------------------------------------- the whole

#[test]
fn every_failure_of_a_modules_life_is_survived() {
    let replayed = replay(|os| {
        let host = Host::on(os)?;
        let client = host.step(|| host.open_as(supdrv_core::os::SessionKind::User));
        let image = Builder::new("a").init(&returns(0)).symbol("f", &returns(1)).build();
        let opened = host.step(|| client.ldr_open(&image, ""));
        host.step(|| client.ldr_load(opened.base, &image));
        host.step(|| client.ldr_get_symbol(opened.base, "f"));
        let second = host.step(|| host.open_as(supdrv_core::os::SessionKind::User));
        host.step(|| second.ldr_open(&image, ""));
        host.step(|| client.ldr_free(opened.base));
        Ok(())
    });
    assert!(replayed.calls > 20 && replayed.survived > 15, "{replayed:?}");
}

#[test]
fn modules_terminate_with_their_last_session_before_the_driver_goes() {
    let terms = AtomicU32::new(0);
    let os = MockOs::new();
    let mut host = Host::on(&os).expect("a driver");
    let client = host.open();
    client.load(&Builder::new("a").term(&counts(&terms, 0)).build()).expect("loaded");
    assert!(host.counters().images == 1);
    client.close();
    host.delete().expect("deleted");
    assert_eq!(terms.load(Relaxed), 1);
}

#[test]
fn many_sessions_open_load_and_free_the_same_images_at_once() {
    let host = Host::new();
    let terms = AtomicU32::new(0);
    let inits = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let (host, inits, terms) = (&host, &inits, &terms);
            scope.spawn(move || {
                for round in 0..150 {
                    let client = host.open();
                    let name = format!("image{}", (round + thread) % 3);
                    let image = Builder::new(&name)
                        .init(&counts(inits, 0))
                        .term(&counts(terms, 0))
                        .symbol("f", &returns(3))
                        .build();
                    let opened = client.ldr_open(&image, "").expect("opened");
                    match client.ldr_load(opened.base, &image) {
                        Ok(()) | Err(VERR_ALREADY_LOADED) => {}
                        other => panic!("{other:?}"),
                    }
                    let address = client.ldr_get_symbol(opened.base, "f").expect("a symbol");
                    // SAFETY: a function of this type, in an image that this session holds.
                    let function: extern "C" fn() -> i32 = unsafe { std::mem::transmute(address) };
                    assert_eq!(function(), 3);
                    if round % 2 == 0 {
                        client.ldr_free(opened.base).expect("freed");
                    }
                }
            });
        }
    });
    assert_eq!(inits.load(Relaxed), terms.load(Relaxed));
    assert_eq!(host.counters().images, 0);
}
