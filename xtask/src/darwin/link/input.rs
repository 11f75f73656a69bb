//! Object files, as the linker sees them.
//!
//! What is read here is untrusted: after [`Object::parse`] every section has its bytes, every symbol that is defined in a section names an
//! existing one, and no size or address exceeds [`MAX_IMAGE`], so that sums of a few of them can't overflow.

use object::LittleEndian as LE;
use object::macho::{self, MachHeader64, Nlist64, RelocationInfo, Section64};
use object::read::macho::{MachHeader as _, Nlist as _, Section as _, Segment as _};

use crate::report::Result;

/// More than a kernel extension ever has.
pub const MAX_IMAGE: u64 = 64 << 20;

/// Where a section goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Segment {
    Text,
    Data,
    /// Debug information, unwind tables, notes for link-time optimisation: nothing of it is loaded.
    Dropped,
}

pub struct Section {
    pub segment: Segment,
    pub name: String,
    /// In the object's own address space.
    pub address: u64,
    pub size: u64,
    /// A power of two.
    pub align: u64,
    pub flags: macho::SectionFlags,
    /// Empty if the section is zero-filled or dropped, else `size` bytes.
    pub data: Vec<u8>,
    pub relocations: Vec<RelocationInfo>,
}

impl Section {
    pub fn is_zero_filled(&self) -> bool {
        matches!(self.flags.typ(), macho::S_ZEROFILL | macho::S_GB_ZEROFILL)
    }

    /// `__SEGMENT,__section`, for messages.
    pub fn label(&self) -> String {
        let segment = match self.segment {
            Segment::Text => "__TEXT",
            Segment::Data => "__DATA",
            Segment::Dropped => "dropped",
        };
        format!("{segment},{}", self.name)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Undefined {
        weak: bool,
    },
    /// A tentative definition of C: whoever has the largest wins, unless somebody has a real one.
    Common {
        size: u64,
        align: u64,
    },
    /// By index into the object's sections.
    Section {
        index: usize,
        offset: u64,
    },
    Absolute,
}

pub struct Symbol {
    pub name: String,
    pub place: Place,
    /// Seen by other objects.
    pub global: bool,
    /// Not to be seen outside the linked image.
    pub private: bool,
    /// Others with the same name may exist, and mean the same.
    pub weak: bool,
}

pub struct Object {
    pub name: String,
    pub sections: Vec<Section>,
    pub symbols: Vec<Symbol>,
}

fn segment_of(segment: &[u8], section: &[u8]) -> Result<Segment> {
    match (segment, section) {
        (_, b"__eh_frame" | b"__compact_unwind") | (b"__DWARF" | b"__LD" | b"__LLVM", _) => {
            Ok(Segment::Dropped)
        }
        (b"__TEXT", _) => Ok(Segment::Text),
        (b"__DATA" | b"__DATA_CONST", _) => Ok(Segment::Data),
        (other, _) => Err(format!("segment {} is unknown", String::from_utf8_lossy(other)).into()),
    }
}

fn is_supported(kind: macho::SectionType) -> bool {
    matches!(
        kind,
        macho::S_REGULAR
            | macho::S_ZEROFILL
            | macho::S_GB_ZEROFILL
            | macho::S_CSTRING_LITERALS
            | macho::S_4BYTE_LITERALS
            | macho::S_8BYTE_LITERALS
            | macho::S_16BYTE_LITERALS
            | macho::S_LITERAL_POINTERS
            | macho::S_COALESCED
            | macho::S_MOD_INIT_FUNC_POINTERS
            | macho::S_MOD_TERM_FUNC_POINTERS
    )
}

impl Section {
    fn parse(section: &Section64<LE>, file: &[u8]) -> Result<Self> {
        let name = String::from_utf8_lossy(section.name()).into_owned();
        let segment = segment_of(section.segment_name(), section.name())?;
        let (address, size) = (section.addr.get(LE), section.size.get(LE));
        let align = section.align.get(LE);
        let mut parsed = Self {
            segment,
            name,
            address,
            size,
            align: 1_u64.checked_shl(align).unwrap_or(0),
            flags: section.flags(LE),
            data: Vec::new(),
            relocations: Vec::new(),
        };
        if parsed.segment == Segment::Dropped {
            return Ok(parsed);
        }
        let label = parsed.label();
        if address > MAX_IMAGE || size > MAX_IMAGE {
            return Err(format!("{label} is too large").into());
        }
        if align > 12 {
            return Err(format!("{label} is to be aligned to more than a page").into());
        }
        let kind = section.section_type(LE);
        if !is_supported(kind) {
            return Err(
                format!("{label} is of a kind ({:#x}) that kernel extensions can't have", kind.0).into()
            );
        }
        let relocations = section.relocations(LE, file)?;
        parsed.relocations = relocations.iter().map(|relocation| relocation.info(LE)).collect();
        if !parsed.is_zero_filled() {
            let data = section
                .data(LE, file, section.offset.get(LE).into())
                .map_err(|_| format!("{label} is not in the file"))?;
            if u64::try_from(data.len()) != Ok(size) {
                return Err(format!("{label} is not in the file").into());
            }
            parsed.data = data.to_vec();
        } else if !parsed.relocations.is_empty() {
            return Err(format!("{label} has relocations, but no content").into());
        }
        Ok(parsed)
    }
}

impl Symbol {
    fn parse(symbol: &Nlist64<LE>, name: &[u8], sections: &[Section]) -> Result<Option<Self>> {
        if symbol.is_stab() {
            return Ok(None);
        }
        let name = String::from_utf8_lossy(name).into_owned();
        let bits = symbol.n_type.0;
        let (value, description) = (symbol.n_value.get(LE), symbol.n_desc.get(LE).0);
        let place = match symbol.n_type.typ() {
            macho::N_UNDF if value == 0 => Place::Undefined { weak: description & macho::N_WEAK_REF.0 != 0 },
            macho::N_UNDF => {
                let align = 1_u64 << (description >> 8 & 15);
                if value > MAX_IMAGE || align > 4096 {
                    return Err(format!("{name} is too large").into());
                }
                Place::Common { size: value, align }
            }
            macho::N_SECT => {
                let index = usize::from(symbol.n_sect).checked_sub(1);
                let section = index.and_then(|index| sections.get(index));
                let (Some(index), Some(section)) = (index, section) else {
                    return Err(format!("{name} is in a section that doesn't exist").into());
                };
                let offset = value.checked_sub(section.address).filter(|offset| *offset <= section.size);
                let Some(offset) = offset else {
                    return Err(format!("{name} is outside its section").into());
                };
                Place::Section { index, offset }
            }
            macho::N_ABS => Place::Absolute,
            kind => {
                return Err(format!("{name} is a symbol of a kind ({:#x}) that isn't known", kind.0).into());
            }
        };
        Ok(Some(Self {
            name,
            place,
            global: bits & macho::N_EXT.0 != 0,
            private: bits & macho::N_PEXT.0 != 0,
            weak: description & macho::N_WEAK_DEF.0 != 0,
        }))
    }

    /// What stands for a debugger's entry, so that indices of symbols stay what they are.
    fn nothing() -> Self {
        Self { name: String::new(), place: Place::Absolute, global: false, private: false, weak: false }
    }
}

impl Object {
    /// Reads an x86-64 Mach-O object file.
    pub fn parse(name: &str, file: &[u8]) -> Result<Self> {
        Self::parse_unnamed(file)
            .map(|(sections, symbols)| Self { name: name.to_owned(), sections, symbols })
            .map_err(|error| format!("{name}: {error}").into())
    }

    fn parse_unnamed(file: &[u8]) -> Result<(Vec<Section>, Vec<Symbol>)> {
        let header = MachHeader64::<LE>::parse(file, 0).map_err(|_| "is no Mach-O file for 64 bits")?;
        if !header.is_little_endian() || header.cputype(LE) != macho::CPU_TYPE_X86_64 {
            return Err("is not for x86-64".into());
        }
        if header.filetype(LE) != macho::MH_OBJECT {
            return Err(format!("is no object file, but of kind {:#x}", header.filetype(LE).0).into());
        }
        let (mut sections, mut symbols) = (Vec::new(), Vec::new());
        let mut table = None;
        let mut commands = header.load_commands(LE, file, 0)?;
        while let Some(command) = commands.next()? {
            if let Some((segment, data)) = command.segment_64()? {
                for section in segment.sections(LE, data)? {
                    sections.push(Section::parse(section, file)?);
                }
            } else if let Some(found) = command.symtab()? {
                table = Some(found.symbols::<MachHeader64<LE>, _>(LE, file)?);
            }
        }
        let Some(table) = table else { return Ok((sections, symbols)) };
        for symbol in table.iter() {
            let name = symbol.name(LE, table.strings())?;
            symbols.push(Symbol::parse(symbol, name, &sections)?.unwrap_or_else(Symbol::nothing));
        }
        Ok((sections, symbols))
    }
}
