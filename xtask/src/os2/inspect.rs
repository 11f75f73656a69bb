//! What can be said about the two objects without linking them.

use std::collections::BTreeSet;
use std::path::Path;

use object::read::elf::{ElfFile32, FileHeader as _};
use object::{Object as _, ObjectSymbol as _};

use super::omf::{FLAT, Fixup, Frame, Module, Place, Target};
use super::symbols::Symbols;
use super::{Objects, RUST_GLOBALS, read};
use crate::cross::Inspection;
use crate::report::{Result, Tally};
use crate::tools::{command, need, run};

/// Segments in the order in which they are linked: name, class, 32 bits.
const SEGMENTS: [(&str, &str, bool); 7] = [
    ("DATA16", "FAR_DATA", false),
    ("DATA16_INIT", "FAR_DATA", false),
    ("CODE16", "FAR_CODE", false),
    ("CODE16_INIT", "FAR_CODE", false),
    ("CODE32", "CODE", true),
    ("DATA32", "DATA", true),
    ("BSS32", "BSS", true),
];

pub fn inspect(objects: &Objects) -> Result<Tally> {
    let (shell, rust) = (Module::parse(&read(&objects.shell)?)?, Module::parse(&read(&objects.rust)?)?);
    let symbols = Symbols::read()?;
    let mut tally = inspect_elf(&objects.elf)?;

    let mut inspection = Inspection::of(&objects.rust)?;
    inspect_names(&mut inspection, &rust, &shell, &symbols);
    let publics: BTreeSet<String> = RUST_GLOBALS.iter().map(|name| format!("_{name}")).collect();
    let found = publics_of(&rust);
    inspection
        .check(&format!("has no other public names than the driver's entries {found:?}"), found == publics);
    inspection.check("has the three 32-bit segments", are_segments(&rust, &SEGMENTS[4..]));
    let flat = rust.group(FLAT).map(Frame::Group);
    let is_flat = |fixup: &Fixup| fixup.place == Place::Offset32 && Some(fixup.frame) == flat;
    inspection.check(
        &format!("has only 32-bit flat fixups, {} of them", rust.fixups.len()),
        rust.fixups.len() > 100 && rust.fixups.iter().all(is_flat),
    );
    tally.add(inspection.result());

    let mut inspection = Inspection::of(&objects.shell)?;
    inspect_names(&mut inspection, &shell, &rust, &symbols);
    inspection.check("has all segments, in the order of the driver", are_segments(&shell, &SEGMENTS));
    let groups = [("DATA16_GROUP", vec![0, 1]), ("CODE16_GROUP", vec![2, 3]), (FLAT, Vec::new())];
    let as_meant = groups
        .iter()
        .all(|(name, members)| shell.groups.iter().any(|it| it.name == *name && it.segments == *members));
    inspection.check("has its 16-bit segments in a group for code and one for data", as_meant);
    inspection.check("begins with the header of vboxdrv$", is_header(&shell, &HEADERS[0]));
    inspection.check("has the header of vboxdr1$ behind it", is_header(&shell, &HEADERS[1]));
    let init = shell.segment("CODE16_INIT");
    let own_selector = |fixup: &&Fixup| {
        Some(fixup.segment) == init
            && fixup.place == Place::Selector
            && !matches!(fixup.target, Target::External(_))
    };
    let selectors = shell.fixups.iter().filter(own_selector).count();
    inspection.check("loads no selectors of ring 0 in its INIT, which is in ring 3", selectors == 0);
    tally.add(inspection.result());
    Ok(tally)
}

fn publics_of(module: &Module) -> BTreeSet<String> {
    module.publics.iter().map(|public| public.name.clone()).collect()
}

/// Externals are the other's publics and the imports; imports are what every kernel has.
fn inspect_names(inspection: &mut Inspection, module: &Module, other: &Module, symbols: &Symbols) {
    let imports: BTreeSet<&str> = module.imports.iter().map(|import| import.name.as_str()).collect();
    let strangers: Vec<_> = module
        .imports
        .iter()
        .filter(|import| !symbols.allows(&import.name, &import.library, import.ordinal))
        .collect();
    inspection.check(
        &format!("imports {} services by the ordinals that every kernel has {strangers:?}", imports.len()),
        strangers.is_empty() && !imports.is_empty(),
    );
    let externals: BTreeSet<&str> = module.externals.iter().map(String::as_str).collect();
    let unused: Vec<_> = imports.difference(&externals).collect();
    inspection.check(&format!("uses all that it imports {unused:?}"), unused.is_empty());
    let wanted: BTreeSet<String> = externals.difference(&imports).map(|name| (*name).to_owned()).collect();
    let given = publics_of(other);
    let differences: Vec<_> = wanted.symmetric_difference(&given).collect();
    inspection.check(
        &format!("asks the other half for {} names, all that it has {differences:?}", wanted.len()),
        differences.is_empty(),
    );
}

fn are_segments(module: &Module, expected: &[(&str, &str, bool)]) -> bool {
    module
        .segments
        .iter()
        .map(|it| (it.name.as_str(), it.class.as_str(), it.use32))
        .eq(expected.iter().copied())
}

/// A device header as the kernel reads it.
struct Header {
    at: u32,
    /// Where the next header is, in the same segment.
    next: Option<u32>,
    attributes: u16,
    name: &'static [u8; 8],
    /// Whether other drivers may call it.
    has_idc: bool,
}

/// 0x80: opened and closed; 0x100: capability bits; 0x800 and 0x8000: a character device with names; 0x4000: other drivers may call it.
const HEADERS: [Header; 2] = [
    Header { at: 0, next: Some(0x20), attributes: 0xc980, name: b"vboxdrv$", has_idc: true },
    Header { at: 0x20, next: None, attributes: 0x8980, name: b"vboxdr1$", has_idc: false },
];

fn is_header(shell: &Module, header: &Header) -> bool {
    let Some(bytes) = shell.segments[0].bytes.get(header.at as usize..header.at as usize + 0x1e) else {
        return false;
    };
    let word = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
    let pointer = |at: u32, place: Place, target: &str| {
        let at = header.at + at;
        shell.fixups.iter().any(|fixup| {
            let segment = shell.segment(target).map(Target::Segment);
            let group = shell.group(target).map(Target::Group);
            (fixup.segment, fixup.offset, fixup.place, fixup.self_relative) == (0, at, place, false)
                && (Some(fixup.target) == segment || Some(fixup.target) == group)
                && fixup.displacement == 0
        })
    };
    let next = match header.next {
        Some(next) => {
            u32::from(word(0)) == next
                && pointer(0, Place::Offset16, "DATA16")
                && pointer(2, Place::Selector, "DATA16_GROUP")
        }
        None => word(0) == 0xffff && word(2) == 0xffff,
    };
    let entry = |at| pointer(at, Place::Offset16, "CODE16");
    let inside = shell
        .fixups
        .iter()
        .filter(|fixup| fixup.segment == 0 && fixup.offset >= header.at && fixup.offset < header.at + 0x1e);
    next && word(4) == header.attributes
        && entry(6)
        && (entry(8) || word(8) == 0)
        && entry(8) == header.has_idc
        && &bytes[0xa..0x12] == header.name
        && bytes[0x12..0x1a] == [0; 8]
        && bytes[0x1a..] == [3, 0, 0, 0]
        && inside.count() == 1 + usize::from(header.has_idc) + if header.next.is_some() { 2 } else { 0 }
}

/// The linked driver, as other tools see it.
pub fn inspect_driver(driver: &Path) -> Result<Tally> {
    need(&["file"])?;
    let mut inspection = Inspection::of(driver)?;
    let kind = run(command("file", &["--brief"]).arg(driver))?;
    inspection
        .check(&format!("is, to others, {}", kind.trim()), kind.contains("LX for OS/2 (device driver)"));
    Ok(inspection.result())
}

/// Before the conversion: what the code does, and doesn't.
fn inspect_elf(path: &Path) -> Result<Tally> {
    let mut inspection = Inspection::of(path)?;
    let bytes = read(path)?;
    let elf = ElfFile32::<object::Endianness>::parse(&*bytes)?;
    let (header, endian) = (elf.elf_header(), elf.endian());
    let is_object =
        header.e_type(endian) == object::elf::ET_REL && header.e_machine(endian) == object::elf::EM_386;
    inspection.check("is a relocatable object for i386", is_object);
    let mut panics = Vec::new();
    for symbol in elf.symbols() {
        let name = symbol.name()?;
        if name.contains("core9panicking") && !name.ends_with("panic_fmt") {
            panics.push(name.to_owned());
        }
    }
    inspection.check(&format!("can't panic {panics:?}"), panics.is_empty());
    inspection.check_instructions()?;
    Ok(inspection.result())
}
