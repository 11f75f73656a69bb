//! The linker, checked by loading what it makes as the kernel would.

mod builder;
mod refusals;
mod relocations;
mod structure;

use std::collections::BTreeMap;

use builder::Builder;

use super::{Input, KMOD_INFO_SIZE, Options, link};
use crate::darwin::load::{Image, Kext};
use crate::report::Result;

/// Where the tests load images, and where their kernel has what: within reach, as with real ones.
const BASE: u64 = 0xffff_ff7f_8123_4000;
const KERNEL: u64 = 0xffff_ff80_0020_0000;

/// An object with what every extension needs.
fn info() -> Builder {
    let mut object = Builder::new();
    let section = object.section("__DATA", "__kmod", &vec![0; KMOD_INFO_SIZE as usize]);
    object.global("_kmod_info", section, 0);
    object
}

fn link_all(objects: &[&Builder], libraries: &[&[u8]]) -> Result<Vec<u8>> {
    let mut files = vec![info().build()];
    files.extend(objects.iter().map(|object| object.build()));
    let objects: Vec<Input<'_>> = files.iter().map(|bytes| Input { name: "test.o", bytes }).collect();
    let libraries: Vec<Input<'_>> =
        libraries.iter().map(|bytes| Input { name: "library.a", bytes }).collect();
    let options = Options {
        is_exported: &|name| name.starts_with("_exported") || name == "_kmod_info",
        required: &[],
        kernel: &["_memcpy"],
    };
    link(&objects, &libraries, &options)
}

fn refusal(object: &Builder) -> String {
    link_all(&[object], &[]).err().map_or_else(|| "linked".to_owned(), |error| error.to_string())
}

/// A linked and loaded extension.
struct Loaded {
    file: Vec<u8>,
    image: Image,
    addresses: BTreeMap<String, u64>,
}

impl Loaded {
    fn of(objects: &[&Builder], kernel: &[(&str, u64)]) -> Self {
        let file = link_all(objects, &[]).unwrap();
        let kext = Kext::parse(&file).unwrap();
        let kernel = kernel.iter().map(|(name, address)| ((*name).to_owned(), *address)).collect();
        let image = kext.load(BASE, &kernel).unwrap();
        let defined =
            kext.symbols.iter().filter_map(|symbol| Some((symbol.name.clone(), BASE + symbol.address?)));
        let addresses = defined.collect();
        Self { file, image, addresses }
    }

    fn kext(&self) -> Kext<'_> {
        Kext::parse(&self.file).unwrap()
    }

    fn address(&self, name: &str) -> u64 {
        *self.addresses.get(name).unwrap_or_else(|| panic!("no symbol {name}"))
    }

    /// Where the field at an offset from a symbol leads, counted from its end.
    fn destination(&self, name: &str, offset: u64) -> u64 {
        self.image.destination(self.address(name) + offset).unwrap()
    }

    fn pointer(&self, name: &str, offset: u64) -> u64 {
        self.image.pointer(self.address(name) + offset).unwrap()
    }
}
