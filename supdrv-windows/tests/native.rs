//! Images that the kernel's own loader loads: what it is asked for, what it may answer, and that the uploaded bits are the loaded ones.

use std::alloc::{Layout, alloc_zeroed, dealloc};

use supctl::client::{Client, LoadParameters};
use supctl::error::Error;
use supctl::transport::Device;
use supdrv_core::abi::ioctl::Encoding;
use supdrv_core::abi::status::*;
use supdrv_windows::fake::{Account, Config, File, Loaded, Machine, NativeLoad};
use supdrv_windows::nt::NtStatus;

const BYTES: usize = 0x2000;
/// What ring-3 uploads behind the image.
const TABLES: usize = 64;
const SECTION: usize = 0x5ec0;

/// Memory that plays the loaded image.
struct Pages(*mut u8);

impl Pages {
    const LAYOUT: Layout = match Layout::from_size_align(BYTES, 0x1000) {
        Ok(layout) => layout,
        Err(_) => panic!("pages"),
    };

    fn new() -> Self {
        // SAFETY: a layout with a size.
        let pages = Self(unsafe { alloc_zeroed(Self::LAYOUT) });
        // SAFETY: that much memory.
        unsafe { pages.0.write_bytes(0xc3, BYTES) };
        pages
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout.
        unsafe { dealloc(self.0, Self::LAYOUT) };
    }
}

struct Handle(File);

impl Device for Handle {
    fn ioctl(&self, code: u32, packet: &mut [u8]) -> core::result::Result<(), supctl::transport::Refused> {
        let number = |at: usize| u32::from_le_bytes(packet[at..at + 4].try_into().expect("four bytes"));
        let (input, output) = (number(8), number(12));
        let result = self.0.control(code, packet, input, output);
        result.map(drop).map_err(|status| supctl::transport::Refused::Os(status.0.cast_signed()))
    }

    fn fast(&self, _code: u32, _cpu_id: u32) -> core::result::Result<(), supctl::transport::Refused> {
        unreachable!("no fast calls here")
    }
}

fn client(driver: &Loaded) -> Client {
    let file = driver.open("VBoxDrv").expect("the device opens");
    Client::with_device(Box::new(Handle(file)), Encoding::Windows).expect("a handshake")
}

/// Opens an image on a machine whose loader does this.
fn with_loader(load: Option<NativeLoad>, test: impl FnOnce(&Machine, &Client)) {
    let machine = Machine::new(Config { native: load, ..Config::default() });
    let driver = machine.load().expect("the driver loads");
    let client = client(&driver);
    test(&machine, &client);
    drop(client);
    driver.unload();
    assert_eq!(machine.account(Account::left), "");
}

fn good(pages: &Pages) -> NativeLoad {
    NativeLoad {
        status: NtStatus::SUCCESS,
        address: pages.0 as usize,
        section: SECTION,
        length: BYTES as u32,
    }
}

fn open(client: &Client) -> Result<usize> {
    match client.ldr_open("image.r0", BYTES as u32 + TABLES as u32, BYTES as u32, "C:/dir/image.r0") {
        Ok(opened) => {
            assert!(opened.native && opened.needs_loading);
            Ok(opened.base)
        }
        Err(Error::Failed { status, .. }) => Err(status),
        Err(other) => panic!("{other}"),
    }
}

fn upload(client: &Client, base: usize, bits: &[u8]) -> Result<()> {
    let bits = &[bits, &[0; TABLES]].concat()[..];
    let parameters = LoadParameters {
        base,
        init: 0,
        term: 0,
        entry_points: [0; 4],
        entry_point_type: 0,
        image_bytes: BYTES as u32,
        symbols_offset: 0,
        symbol_count: 0,
        strings_offset: 0,
        strings_bytes: 0,
        bits,
    };
    match client.ldr_load(&parameters) {
        Ok(loaded) => {
            assert!(loaded);
            Ok(())
        }
        Err(Error::Failed { status, .. }) => Err(status),
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn an_image_is_where_the_kernel_put_it_and_is_unloaded_once() {
    let pages = Pages::new();
    with_loader(Some(good(&pages)), |machine, client| {
        let base = open(client).unwrap();
        assert_eq!(base, pages.0 as usize);
        assert_eq!(machine.native_loader(), ("\\??\\C:\\dir\\image.r0".to_owned(), 0));
        let line = format!("supdrv: image loaded at 0x{base:016x} C:/dir/image.r0\n");
        assert!(machine.log().contains(&line), "{}", machine.log());
        upload(client, base, &[0xc3; BYTES]).unwrap();
        client.ldr_free(base).unwrap();
        assert_eq!(machine.native_loader().1, 1);
    });
}

#[test]
fn other_bits_than_the_loaded_ones_are_refused() {
    let pages = Pages::new();
    with_loader(Some(good(&pages)), |machine, client| {
        let base = open(client).unwrap();
        let mut bits = [0xc3; BYTES];
        bits[BYTES - 3] = 0xcc;
        assert_eq!(upload(client, base, &bits), Err(VERR_LDR_MISMATCH_NATIVE));
        let log = machine.log();
        for line in [
            format!("uploaded and loaded image differ at 0x{:016x} image.r0\n", BYTES - 3),
            // No more than there is.
            format!("supdrv: loaded:   c3 c3 c3{}\n", " ".repeat(39)),
            format!("supdrv: uploaded: cc c3 c3{}\n", " ".repeat(39)),
        ] {
            assert!(log.contains(&line), "{line:?} in {log}");
        }
        // It can still be loaded with the right ones, and goes with its session.
        upload(client, base, &[0xc3; BYTES]).unwrap();
    });
}

#[test]
fn what_the_loader_answers_is_told_and_leaves_nothing() {
    let failure = |status| Some(NativeLoad { status, address: 0, section: 0, length: 0 });
    for (load, expected) in [
        (None, VERR_NOT_IMPLEMENTED),
        (failure(NtStatus::OBJECT_NAME_NOT_FOUND), VERR_MODULE_NOT_FOUND),
        (failure(NtStatus::DRIVER_ENTRYPOINT_NOT_FOUND), VERR_LDR_IMPORTED_SYMBOL_NOT_FOUND),
        (failure(NtStatus::INVALID_IMAGE_HASH), VERR_LDR_IMAGE_HASH),
        (failure(NtStatus::IMAGE_ALREADY_LOADED), VERR_ALREADY_LOADED),
        (failure(NtStatus::ACCESS_DENIED), VERR_LDR_GENERAL_FAILURE),
    ] {
        with_loader(load, |machine, client| {
            assert_eq!(open(client), Err(expected));
            assert_eq!(machine.native_loader().1, 0, "nothing was loaded");
        });
    }
}

#[test]
fn an_answer_that_makes_no_sense_is_not_believed() {
    let pages = Pages::new();
    let right = good(&pages);
    let wrong_size = NativeLoad { length: BYTES as u32 + 0x1000, ..right.clone() };
    with_loader(Some(wrong_size), |machine, client| {
        assert_eq!(open(client), Err(VERR_LDR_MISMATCH_NATIVE));
        assert_eq!(machine.native_loader().1, 1, "it is unloaded again");
    });
    for address in [0, 0x123, right.address + 0x10] {
        with_loader(Some(NativeLoad { address, ..right.clone() }), |machine, client| {
            assert_eq!(open(client), Err(VERR_LDR_GENERAL_FAILURE), "{address:#x}");
            assert_eq!(machine.native_loader().1, 1, "it is unloaded again");
        });
    }
    with_loader(Some(NativeLoad { section: 0, ..right }), |machine, client| {
        assert_eq!(open(client), Err(VERR_LDR_GENERAL_FAILURE));
        assert_eq!(machine.native_loader().1, 0, "there is nothing to unload");
    });
}

#[test]
fn an_open_of_which_any_part_fails_leaves_no_image() {
    let pages = Pages::new();
    with_loader(Some(good(&pages)), |machine, client| {
        machine.fail(0);
        let base = open(client).unwrap();
        let calls = machine.fallible_calls();
        client.ldr_free(base).unwrap();
        assert!(calls >= 5, "{calls} calls");
        let held = |account: &Account| {
            (account.pool.len(), account.mdls.len(), account.locked.len(), account.images.len())
        };
        let before = machine.account(held);
        let mut after_loading = 0;
        for nth in 1..=calls {
            let unloads = machine.native_loader().1;
            machine.fail(nth.cast_signed());
            let result = open(client);
            machine.fail(0);
            assert!(result.is_err(), "call {nth} failed");
            assert_eq!(machine.account(held), before, "call {nth} failed");
            after_loading += machine.native_loader().1 - unloads;
        }
        assert!(after_loading >= 2, "its pages weren't locked, {after_loading} times");
        assert_eq!(open(client), Ok(base));
    });
}
