//! From the compiler's 32-bit ELF object to an OMF module.
//!
//! Sections become shares of three segments of group FLAT: code, data (with what is constant) and zeros. C names get the underscore
//! that OS/2's linkers expect in front; the kernel's names don't have one.

#[cfg(test)]
pub mod tests;

use std::collections::HashMap;

use object::elf::{
    EM_386, ET_REL, R_386_32, R_386_PC32, R_386_PLT32, SHF_ALLOC, SHF_EXECINSTR, SHT_NOBITS, SHT_PROGBITS,
};
use object::read::elf::{ElfFile32, FileHeader as _, SectionHeader as _};
use object::{
    Object as _, ObjectSection as _, ObjectSymbol as _, Relocation, RelocationFlags, RelocationTarget,
    SectionIndex, SymbolIndex, SymbolSection,
};

use super::omf::{FLAT, Fixup, Frame, Group, Import, Module, Place, Public, Segment, Target};
use crate::report::Result;

/// Name, class.
const SEGMENTS: [(&str, &str); 3] = [("CODE32", "CODE"), ("DATA32", "DATA"), ("BSS32", "BSS")];
const CODE: usize = 0;
const DATA: usize = 1;
const ZEROS: usize = 2;
const FLAT_GROUP: usize = 0;

/// All that a driver may be; more is a damaged file.
const LARGEST: u64 = 16 << 20;
/// What the segments are aligned to, and sections at most.
const ALIGNMENT: u32 = 16;

type Elf<'a> = ElfFile32<'a>;

/// Where a section went.
#[derive(Clone, Copy)]
struct Home {
    segment: usize,
    offset: u32,
}

struct Converter<'a, 'n> {
    elf: &'a Elf<'a>,
    /// Names that aren't C names, and what library has them under which ordinal.
    kernel: &'n HashMap<String, (String, u16)>,
    module: Module,
    homes: HashMap<SectionIndex, Home>,
    externals: HashMap<SymbolIndex, usize>,
}

/// Converts a relocatable object. `kernel` says which undefined names are the kernel's: the library, and the ordinal in it.
///
/// # Errors
/// What isn't a relocatable object for i386, is damaged, or has what OMF can't express.
pub fn convert(name: &str, file: &[u8], kernel: &HashMap<String, (String, u16)>) -> Result<Module> {
    let elf = Elf::parse(file)?;
    let (header, endian) = (elf.elf_header(), elf.endian());
    if header.e_type(endian) != ET_REL || header.e_machine(endian) != EM_386 || !elf.is_little_endian() {
        return Err("not a relocatable ELF object for i386".into());
    }
    let segments = SEGMENTS.map(|(name, class)| Segment {
        name: name.to_owned(),
        class: class.to_owned(),
        align: ALIGNMENT,
        use32: true,
        size: 0,
        bytes: Vec::new(),
    });
    let module = Module {
        name: name.to_owned(),
        segments: segments.to_vec(),
        groups: vec![Group { name: FLAT.to_owned(), segments: Vec::new() }],
        ..Module::default()
    };
    let mut converter =
        Converter { elf: &elf, kernel, module, homes: HashMap::new(), externals: HashMap::new() };
    converter.sections()?;
    converter.symbols()?;
    converter.relocations()?;
    converter.module.fixups.sort_by_key(|fixup| (fixup.segment, fixup.offset));
    Ok(converter.module)
}

impl Converter<'_, '_> {
    fn sections(&mut self) -> Result<()> {
        let endian = self.elf.endian();
        for section in self.elf.sections() {
            let header = section.elf_section_header();
            let (flags, kind) = (header.sh_flags(endian), header.sh_type(endian));
            if !flags.contains(SHF_ALLOC) {
                continue;
            }
            let name = section.name()?;
            let segment = match kind {
                SHT_NOBITS => ZEROS,
                SHT_PROGBITS if flags.contains(SHF_EXECINSTR) => CODE,
                SHT_PROGBITS => DATA,
                _ => {
                    return Err(
                        format!("{name}: a section of type {kind:#x}, which a driver can't have").into()
                    );
                }
            };
            let align = u32::try_from(section.align().max(1))?;
            if !align.is_power_of_two() || align > ALIGNMENT {
                return Err(format!("{name}: aligned to {align} bytes").into());
            }
            let home = &mut self.module.segments[segment];
            let offset = home.size.next_multiple_of(align);
            let end = u64::from(offset).saturating_add(section.size());
            if end > LARGEST {
                return Err(format!("{name}: too large for a driver").into());
            }
            home.size = u32::try_from(end)?;
            if segment != ZEROS {
                home.bytes.resize(offset as usize, 0);
                home.bytes.extend(section.data()?);
            }
            self.homes.insert(section.index(), Home { segment, offset });
        }
        Ok(())
    }

    fn symbols(&mut self) -> Result<()> {
        for symbol in self.elf.symbols() {
            let name = symbol.name()?;
            if !symbol.is_global() || name.is_empty() {
                continue;
            }
            if symbol.is_undefined() {
                self.external(symbol.index(), name);
                continue;
            }
            let Some(home) = symbol.section_index().and_then(|index| self.homes.get(&index)) else {
                return Err(format!("{name}: defined outside all segments").into());
            };
            let (segment, offset) = (home.segment, place_in(*home, symbol.address(), &self.module)?);
            let name = format!("_{name}");
            self.module.publics.push(Public { name, group: Some(FLAT_GROUP), segment, offset });
        }
        Ok(())
    }

    fn external(&mut self, symbol: SymbolIndex, name: &str) {
        let external = match self.kernel.get(name) {
            Some((library, ordinal)) => {
                let (library, ordinal) = (library.clone(), *ordinal);
                self.module.imports.push(Import { name: name.to_owned(), library, ordinal });
                name.to_owned()
            }
            None => format!("_{name}"),
        };
        self.externals.insert(symbol, self.module.externals.len());
        self.module.externals.push(external);
    }

    fn relocations(&mut self) -> Result<()> {
        let elf = self.elf;
        for section in elf.sections() {
            let Some(home) = self.homes.get(&section.index()).copied() else { continue };
            for (offset, relocation) in section.relocations() {
                let at = format!("{}+{offset:#x}", section.name()?);
                let offset = place_in(home, offset, &self.module)?;
                self.relocation(home.segment, offset, &relocation)
                    .map_err(|error| format!("{at}: {error}"))?;
            }
        }
        Ok(())
    }

    fn relocation(&mut self, segment: usize, offset: u32, relocation: &Relocation) -> Result<()> {
        let RelocationFlags::Elf { r_type } = relocation.flags() else {
            return Err("a foreign relocation".into());
        };
        let self_relative = match r_type {
            R_386_32 => false,
            R_386_PC32 | R_386_PLT32 => true,
            other => return Err(format!("a relocation of type {other}").into()),
        };
        if !relocation.has_implicit_addend() {
            return Err("a relocation with an addend of its own".into());
        }
        let RelocationTarget::Symbol(index) = relocation.target() else { return Err("no symbol".into()) };
        let symbol = self.elf.symbol_by_index(index)?;
        let (target, value) = match symbol.section() {
            SymbolSection::Undefined => {
                let external =
                    self.externals.get(&index).ok_or("a symbol that is neither here nor elsewhere")?;
                (Target::External(*external), 0)
            }
            SymbolSection::Section(index) => {
                let home = self.homes.get(&index).ok_or("what it refers to is in no segment")?;
                (Target::Segment(home.segment), place_in(*home, symbol.address(), &self.module)?)
            }
            _ => return Err("neither here nor elsewhere".into()),
        };
        // What ELF has relative to the place's start, OMF has relative to its end.
        let correction = value.wrapping_add(if self_relative { 4 } else { 0 });
        let bytes = &mut self.module.segments[segment].bytes;
        let field = bytes.get_mut(offset as usize..).and_then(<[u8]>::first_chunk_mut::<4>);
        let field = field.ok_or("outside the section's contents")?;
        *field = u32::from_le_bytes(*field).wrapping_add(correction).to_le_bytes();
        let (place, frame) = (Place::Offset32, Frame::Group(FLAT_GROUP));
        self.module.fixups.push(Fixup {
            segment,
            offset,
            place,
            self_relative,
            frame,
            target,
            displacement: 0,
        });
        Ok(())
    }
}

/// The place in its segment of what is at `offset` in a section.
fn place_in(home: Home, offset: u64, module: &Module) -> Result<u32> {
    let place = u32::try_from(offset).ok().and_then(|offset| offset.checked_add(home.offset));
    let inside = place.filter(|place| *place <= module.segments[home.segment].size);
    inside.ok_or_else(|| "outside its section".into())
}
