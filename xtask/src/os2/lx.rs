//! Images as OS/2 loads them: 32-bit linear executables (LX), physical device drivers.

use super::link::{Destination, Image, Object, Reference};
use super::omf::Place;
use crate::report::Result;

#[cfg(test)]
mod tests;

const PAGE: u32 = 4096;
/// Pages begin at multiples of this in the file.
const PAGE_SHIFT: u32 = 9;
const HEADER_BYTES: u32 = 0xc4;
/// Where the header is: behind what DOS sees.
const HEADER_AT: u32 = 0x80;
/// Where objects ask to be: 64 KiB apart, so that each can have 16-bit selectors.
const BASE: u32 = 0x1_0000;

/// Module flags: a physical device driver.
const DRIVER: u32 = 0x2_0000;

// Flags of objects.
const READABLE: u32 = 1;
const WRITABLE: u32 = 2;
const EXECUTABLE: u32 = 4;
const PRELOAD: u32 = 0x40;
/// Has selectors for 16-bit code.
const ALIAS: u32 = 0x1000;
const BIG: u32 = 0x2000;

// Sources of fixups.
const SELECTOR: u8 = 2;
const FAR16: u8 = 3;
const FAR32: u8 = 6;
const OFFSET32: u8 = 7;
const SELF_RELATIVE32: u8 = 8;
/// The selector is that of the 16-bit alias; always said of 16:16 pointers, of imports too.
const TO_ALIAS: u8 = 0x10;

// Targets of fixups.
const INTERNAL: u8 = 0;
const BY_ORDINAL: u8 = 1;
const ADDITIVE: u8 = 4;
const WIDE_OFFSET: u8 = 0x10;
const WIDE_ADDEND: u8 = 0x20;

/// What DOS says of the file: it prints a line and ends.
const DOS_PROGRAM: &[u8] =
    b"\x0e\x1f\xba\x0e\x00\xb4\x09\xcd\x21\xb8\x01\x4c\xcd\x21This is a driver for OS/2.\r\n$";

/// How the module presents itself.
pub struct Names<'a> {
    /// The module's name.
    pub module: &'a str,
    /// Vendor, version and text in the form that `bldlevel` shows.
    pub description: &'a str,
}

/// A file under construction.
#[derive(Default)]
struct Bytes(Vec<u8>);

impl Bytes {
    fn word(&mut self, value: u16) {
        self.0.extend(value.to_le_bytes());
    }

    fn dword(&mut self, value: u32) {
        self.0.extend(value.to_le_bytes());
    }

    fn name(&mut self, name: &str) -> Result<()> {
        self.0.push(u8::try_from(name.len()).map_err(|_| format!("{name:?} is too long"))?);
        self.0.extend(name.as_bytes());
        Ok(())
    }

    /// A name in a table of names with ordinals, and the table's end.
    fn only_name(name: &str) -> Result<Self> {
        let mut table = Self::default();
        table.name(name)?;
        table.word(0);
        table.0.push(0);
        Ok(table)
    }

    fn len(&self) -> u32 {
        u32::try_from(self.0.len()).unwrap_or(u32::MAX)
    }
}

/// Pages of an object with contents; what is behind them is zero and not in the file.
fn pages(object: &Object) -> u32 {
    u32::try_from(object.bytes.len()).unwrap_or(u32::MAX).div_ceil(PAGE)
}

/// The image as a file.
///
/// # Errors
/// References that the format, or a loader, doesn't have.
pub fn write(image: &Image, names: &Names<'_>) -> Result<Vec<u8>> {
    let (fixup_pages, fixups, libraries) = fixup_tables(image)?;
    let page_count: u32 = image.objects.iter().map(pages).sum();
    let resident = Bytes::only_name(names.module)?;
    let mut imports = Bytes::default();
    for library in &libraries {
        imports.name(library)?;
    }
    let object_count = u32::try_from(image.objects.len())?;

    // Offsets from the header.
    let objects_at = HEADER_BYTES;
    let pages_at = objects_at + object_count * 24;
    let resident_at = pages_at + page_count * 8;
    let entries_at = resident_at + resident.len();
    let fixup_pages_at = entries_at + 1;
    let fixups_at = fixup_pages_at + fixup_pages.len();
    let imports_at = fixups_at + fixups.len();
    let procedures_at = imports_at + imports.len();
    let loader_end = procedures_at + 1;
    // Offsets from the file's start.
    let data_at = (HEADER_AT + loader_end).next_multiple_of(1 << PAGE_SHIFT);
    let data = page_data(image);
    let nonresident_at = data_at + data.len();
    let nonresident = Bytes::only_name(names.description)?;

    let mut file = dos_part();
    let mut header = Header::new();
    header.set(0x10, DRIVER).set(0x14, page_count).set(0x28, PAGE).set(0x2c, PAGE_SHIFT);
    header.set(0x30, loader_end - fixup_pages_at).set(0x38, fixup_pages_at - objects_at);
    header.set(0x40, objects_at).set(0x44, object_count).set(0x48, pages_at);
    // There are no resources.
    header.set(0x50, resident_at);
    header.set(0x58, resident_at).set(0x5c, entries_at);
    header.set(0x68, fixup_pages_at).set(0x6c, fixups_at);
    header.set(0x70, imports_at).set(0x74, u32::try_from(libraries.len())?).set(0x78, procedures_at);
    header.set(0x80, data_at);
    header.set(0x88, nonresident_at).set(0x8c, nonresident.len());
    file.0.extend(header.0);
    write_objects(image, &mut file);
    write_pages(image, &mut file);
    file.0.extend(resident.0);
    file.0.push(0);
    for table in [fixup_pages, fixups, imports] {
        file.0.extend(table.0);
    }
    file.0.push(0);
    file.0.resize(data_at as usize, 0);
    file.0.extend(data.0);
    file.0.extend(nonresident.0);
    Ok(file.0)
}

fn dos_part() -> Bytes {
    let mut file = Bytes(b"MZ".to_vec());
    // Bytes in the last page, pages, relocations, header paragraphs, memory wanted: least and most, SS, SP, check sum, IP, CS, relocations.
    for word in [0x80, 1, 0, 4, 0, 0xffff, 0, 0xb8, 0, 0, 0, 0x40] {
        file.word(word);
    }
    file.0.resize(0x3c, 0);
    file.dword(HEADER_AT);
    file.0.extend(DOS_PROGRAM);
    file.0.resize(HEADER_AT as usize, 0);
    file
}

struct Header(Vec<u8>);

impl Header {
    fn new() -> Self {
        let mut bytes = vec![0; HEADER_BYTES as usize];
        bytes[..2].copy_from_slice(b"LX");
        // For a 386, of OS/2.
        bytes[8] = 2;
        bytes[0xa] = 1;
        Self(bytes)
    }

    fn set(&mut self, at: usize, value: u32) -> &mut Self {
        self.0[at..at + 4].copy_from_slice(&value.to_le_bytes());
        self
    }
}

fn write_objects(image: &Image, file: &mut Bytes) {
    let mut first_page = 1;
    for (object, base) in image.objects.iter().zip(bases(image)) {
        let rights = if object.is_code { READABLE | EXECUTABLE } else { READABLE | WRITABLE };
        let width = if object.use32 { BIG } else { ALIAS };
        for field in [object.size, base, rights | width | PRELOAD, first_page, pages(object), 0] {
            file.dword(field);
        }
        first_page += pages(object);
    }
}

/// Where objects ask to be.
fn bases(image: &Image) -> Vec<u32> {
    let mut next = BASE;
    let place = |object: &Object| {
        let base = next;
        next = base + object.size.max(1).next_multiple_of(BASE);
        base
    };
    image.objects.iter().map(place).collect()
}

fn write_pages(image: &Image, file: &mut Bytes) {
    let mut at = 0;
    for object in &image.objects {
        for page in object.bytes.chunks(PAGE as usize) {
            let bytes = u16::try_from(page.len()).unwrap_or(u16::MAX);
            file.dword(at >> PAGE_SHIFT);
            file.word(bytes);
            file.word(0);
            at += u32::from(bytes).next_multiple_of(1 << PAGE_SHIFT);
        }
    }
}

fn page_data(image: &Image) -> Bytes {
    let mut data = Bytes::default();
    for page in image.objects.iter().flat_map(|object| object.bytes.chunks(PAGE as usize)) {
        data.0.extend(page);
        data.0.resize(data.0.len().next_multiple_of(1 << PAGE_SHIFT), 0);
    }
    data
}

/// For each page where its fixups begin, and one more for the end; the fixups; the libraries that they name.
fn fixup_tables(image: &Image) -> Result<(Bytes, Bytes, Vec<String>)> {
    let (mut index, mut records) = (Bytes::default(), Bytes::default());
    let mut libraries = Vec::new();
    for (number, object) in image.objects.iter().enumerate() {
        let here: Vec<&Reference> =
            image.references.iter().filter(|reference| reference.object == number).collect();
        for page in 0..pages(object) {
            index.dword(records.len());
            let (start, end) = (page * PAGE, (page + 1) * PAGE);
            // What reaches into the next page is in the lists of both.
            for reference in &here {
                if reference.offset < end && reference.offset + reference.place.bytes() > start {
                    let within = reference.offset.wrapping_sub(start) & 0xffff;
                    write_fixup(image, reference, u16::try_from(within)?, &mut records, &mut libraries)?;
                }
            }
        }
    }
    index.dword(records.len());
    Ok((index, records, libraries))
}

fn write_fixup(
    image: &Image,
    reference: &Reference,
    within: u16,
    records: &mut Bytes,
    libraries: &mut Vec<String>,
) -> Result<()> {
    let source = match reference.place {
        Place::Selector => SELECTOR,
        Place::Far16 => FAR16,
        Place::Far32 => FAR32,
        Place::Offset32 if reference.self_relative => SELF_RELATIVE32,
        Place::Offset32 => OFFSET32,
        Place::Offset16 => return Err("16 bits of an address, which loaders don't know".into()),
    };
    match &reference.to {
        Destination::Internal { object, offset } => {
            let use32 = image.objects[*object].use32;
            let has_selector = matches!(source, SELECTOR | FAR16 | FAR32);
            if use32 && source == FAR16 || !use32 && source == FAR32 {
                return Err(
                    format!("a far pointer of the wrong size to {}", image.objects[*object].name).into()
                );
            }
            let alias = if has_selector && !use32 { TO_ALIAS } else { 0 };
            let wide = source != SELECTOR && *offset > 0xffff;
            records.0.extend([source | alias, INTERNAL | if wide { WIDE_OFFSET } else { 0 }]);
            records.word(within);
            records.0.push(u8::try_from(object + 1)?);
            match source {
                SELECTOR => {}
                _ if wide => records.dword(*offset),
                _ => records.word(u16::try_from(*offset)?),
            }
        }
        Destination::Import { library, ordinal, addend } => {
            let found = libraries.iter().position(|known| known == library);
            let number = found.unwrap_or(libraries.len());
            if found.is_none() {
                libraries.push(library.clone());
            }
            let additive = if *addend == 0 { 0 } else { ADDITIVE | WIDE_ADDEND };
            let alias = if source == FAR16 { TO_ALIAS } else { 0 };
            records.0.extend([source | alias, BY_ORDINAL | additive]);
            records.word(within);
            records.0.push(u8::try_from(number + 1)?);
            records.word(*ordinal);
            if *addend != 0 {
                records.dword(*addend);
            }
        }
    }
    Ok(())
}
