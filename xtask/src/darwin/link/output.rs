//! The file: header, load commands, segments, symbols, relocations.

use object::macho;

use super::Options;
use super::input::{Place, Segment};
use super::layout::{Layout, Output, PAGE, align_up};
use super::relocate::{Import, Local, Relocator};
use super::symbols::Symbols;
use crate::report::Result;

/// A growing little-endian file.
#[derive(Default)]
struct Bytes(Vec<u8>);

impl Bytes {
    fn u32s<const N: usize>(&mut self, values: [u32; N]) {
        self.0.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    }

    fn u64s<const N: usize>(&mut self, values: [u64; N]) {
        self.0.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    }

    /// A name of 16 bytes.
    fn name(&mut self, name: &str) {
        let mut field = [0; 16];
        for (to, from) in field.iter_mut().zip(name.bytes()) {
            *to = from;
        }
        self.0.extend(field);
    }

    fn position(&self) -> Result<u32> {
        Ok(u32::try_from(self.0.len())?)
    }
}

/// A symbol of the image.
struct Entry {
    name: String,
    kind: u8,
    ordinal: u32,
    value: u64,
}

/// The symbol table, in the order that the format wants: local ones, exports, imports.
struct Table {
    locals: Vec<Entry>,
    exports: Vec<Entry>,
    imports: Vec<String>,
}

/// Whether a name is one that the compiler made up.
fn is_temporary(name: &str) -> bool {
    name.is_empty() || name.starts_with('L') || name.starts_with('l')
}

impl Table {
    fn of(symbols: &Symbols, layout: &Layout, options: &Options<'_>, imports: &[Import]) -> Result<Self> {
        let mut table = Self { locals: Vec::new(), exports: Vec::new(), imports: Vec::new() };
        for (name, definition) in &symbols.defined {
            let Some(placed) = layout.placed(definition.object, definition.section) else { continue };
            let exported = !definition.private && (options.is_exported)(name);
            let kind = macho::N_SECT.0 | if exported { macho::N_EXT.0 } else { 0 };
            let value = placed.address + definition.offset;
            let entry = Entry { name: name.clone(), kind, ordinal: placed.ordinal, value };
            if exported { &mut table.exports } else { &mut table.locals }.push(entry);
        }
        for (index, object) in symbols.objects.iter().enumerate() {
            for symbol in object.symbols.iter().filter(|symbol| !symbol.global && !is_temporary(&symbol.name))
            {
                let Place::Section { index: section, offset } = symbol.place else { continue };
                let Some(placed) = layout.placed(index, section) else { continue };
                table.locals.push(Entry {
                    name: symbol.name.clone(),
                    kind: macho::N_SECT.0,
                    ordinal: placed.ordinal,
                    value: placed.address + offset,
                });
            }
        }
        table.locals.sort_by(|one, other| (one.value, &one.name).cmp(&(other.value, &other.name)));
        table.imports = imports.iter().map(|import| import.name.clone()).collect();
        table.imports.sort();
        table.imports.dedup();
        Ok(table)
    }

    fn write(&self, out: &mut Bytes, strings: &mut Vec<u8>) -> Result<()> {
        for entry in self.locals.iter().chain(&self.exports) {
            Self::write_entry(out, strings, &entry.name, entry.kind, entry.ordinal, entry.value)?;
        }
        for name in &self.imports {
            Self::write_entry(out, strings, name, macho::N_UNDF.0 | macho::N_EXT.0, 0, 0)?;
        }
        Ok(())
    }

    fn write_entry(
        out: &mut Bytes,
        strings: &mut Vec<u8>,
        name: &str,
        kind: u8,
        ordinal: u32,
        value: u64,
    ) -> Result<()> {
        out.u32s([u32::try_from(strings.len())?]);
        strings.extend(name.bytes());
        strings.push(0);
        out.0.extend([kind, u8::try_from(ordinal)?, 0, 0]);
        out.u64s([value]);
        Ok(())
    }

    /// The numbers of a symbol table's three parts: first index and count of each.
    fn parts(&self) -> Result<[u32; 6]> {
        let [locals, exports, imports] =
            [self.locals.len(), self.exports.len(), self.imports.len()].map(u32::try_from);
        let (locals, exports, imports) = (locals?, exports?, imports?);
        Ok([0, locals, locals, exports, locals + exports, imports])
    }
}

fn relocation(address: u64, word: u32) -> Result<[u32; 2]> {
    Ok([u32::try_from(address)?, word])
}

fn local(local: &Local) -> Result<[u32; 2]> {
    relocation(local.address, local.ordinal | 3 << 25)
}

fn import(import: &Import, table: &Table, first: u32) -> Result<[u32; 2]> {
    let index = table.imports.binary_search(&import.name).map_err(|_| "an import has no symbol")?;
    let bits = u32::from(import.pc_relative) << 24
        | u32::from(import.length) << 25
        | 1 << 27
        | u32::from(import.kind.0) << 28;
    relocation(import.address, (first + u32::try_from(index)?) | bits)
}

struct SegmentCommand<'a> {
    name: &'a str,
    /// Address and size in memory, place and size in the file.
    ranges: [u64; 4],
    protection: u32,
    sections: &'a [&'a Output],
}

impl SegmentCommand<'_> {
    fn write(&self, out: &mut Bytes) -> Result<()> {
        let count = u32::try_from(self.sections.len())?;
        out.u32s([macho::LC_SEGMENT_64.0, 72 + 80 * count]);
        out.name(self.name);
        out.u64s(self.ranges);
        out.u32s([self.protection, self.protection, count, 0]);
        for section in self.sections {
            out.name(&section.name);
            out.name(self.name);
            out.u64s([section.address, section.size]);
            // Both segments begin in the file where they do in memory.
            let offset = if section.zero_filled { 0 } else { u32::try_from(section.address)? };
            out.u32s([offset, section.align.trailing_zeros(), 0, 0, section.flags.0, 0, 0, 0]);
        }
        Ok(())
    }
}

const READ: u32 = 1;
const READ_WRITE: u32 = 3;
const READ_EXECUTE: u32 = 5;

/// An identity of the content: 128 bits of FNV-1a, marked as a UUID that follows no scheme but its own (RFC 9562, version 8).
fn identity(content: &[u8]) -> [u8; 16] {
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    const BASIS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    let hash = content.iter().fold(BASIS, |hash, byte| (hash ^ u128::from(*byte)).wrapping_mul(PRIME));
    let version = hash & !(0xf000_u128 << 64) | 0x8000_u128 << 64;
    (version & !(0xc_u128 << 60) | 0x8_u128 << 60).to_be_bytes()
}

/// Writes the whole file.
pub fn write(
    symbols: &Symbols,
    layout: &Layout,
    options: &Options<'_>,
    done: Relocator<'_>,
) -> Result<Vec<u8>> {
    let table = Table::of(symbols, layout, options, &done.imports)?;
    let parts = table.parts()?;
    let [.., first_import, _] = parts;
    let mut out = Bytes(done.image);
    let start = out.position()?;
    let mut strings = vec![0];
    table.write(&mut out, &mut strings)?;
    let external = out.position()?;
    for entry in &done.imports {
        out.u32s(import(entry, &table, first_import)?);
    }
    let internal = out.position()?;
    for entry in &done.locals {
        out.u32s(local(entry)?);
    }
    let string_table = out.position()?;
    strings.resize(strings.len().next_multiple_of(8), 0);
    out.0.extend(&strings);
    let size = u64::from(out.position()? - start);
    let text: Vec<&Output> = layout.outputs.iter().filter(|o| o.segment == Segment::Text).collect();
    let data: Vec<&Output> = layout.outputs.iter().filter(|o| o.segment == Segment::Data).collect();
    let mut commands = Bytes::default();
    let segments = [
        SegmentCommand {
            name: "__TEXT",
            ranges: [0, layout.text, 0, layout.text],
            protection: READ_EXECUTE,
            sections: &text,
        },
        SegmentCommand {
            name: "__DATA",
            ranges: [layout.text, layout.data, layout.text, layout.data_in_file],
            protection: READ_WRITE,
            sections: &data,
        },
        SegmentCommand {
            name: "__LINKEDIT",
            ranges: [layout.link_edit(), align_up(size, PAGE), start.into(), size],
            protection: READ,
            sections: &[],
        },
    ];
    for segment in &segments {
        segment.write(&mut commands)?;
    }
    let count = parts.iter().skip(1).step_by(2).sum();
    commands.u32s([macho::LC_SYMTAB.0, 24, start, count, string_table, u32::try_from(strings.len())?]);
    commands.u32s([macho::LC_DYSYMTAB.0, 80]);
    commands.u32s(parts);
    commands.u32s([0; 8]);
    commands.u32s([
        external,
        u32::try_from(done.imports.len())?,
        internal,
        u32::try_from(done.locals.len())?,
    ]);
    let mut header = Bytes::default();
    header.u32s([macho::MH_MAGIC_64, macho::CPU_TYPE_X86_64.0, 3, macho::MH_KEXT_BUNDLE.0]);
    header.u32s([6, commands.position()? + 24, FLAGS, 0]);
    header.0.append(&mut commands.0);
    place(&mut out.0, 0, &header.0)?;
    let id = identity(&out.0);
    header.u32s([macho::LC_UUID.0, 24]);
    header.0.extend(id);
    place(&mut out.0, 0, &header.0)?;
    Ok(out.0)
}

/// What linkers of the platform say of extensions: there is nothing that may be missing.
const FLAGS: u32 = macho::MH_NOUNDEFS.0 | macho::MH_TWOLEVEL.0;

fn place(file: &mut [u8], at: usize, bytes: &[u8]) -> Result<()> {
    let target = file.get_mut(at..at + bytes.len());
    target.ok_or("the load commands are larger than planned")?.copy_from_slice(bytes);
    Ok(())
}
