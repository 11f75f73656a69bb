//! An object file, laid out as an image.
//!
//! Relocatable objects (`ET_REL`): the sections that are loaded follow each other in the order of the file, aligned as they ask.
//! Shared objects (`ET_DYN`): the segments as they are linked. Behind either come, for what the code wants to reach through them, a
//! table of addresses and short jumps, so that calls and references to far away symbols reach.

use std::collections::{BTreeMap, HashMap};

use object::elf;
use object::{
    Architecture, File, Object, ObjectKind, ObjectSection, ObjectSegment, ObjectSymbol, Relocation,
    RelocationFlags, RelocationTarget, SectionFlags, SectionIndex, SectionKind, SymbolIndex, SymbolSection,
};

use super::error::LinkError;

type Result<T> = core::result::Result<T, LinkError>;

/// Largest image that the driver takes, tables included.
pub(super) const MAX_BYTES: u64 = 0x00ff_ffff;

const SLOT_BYTES: u64 = size_of::<usize>() as u64;
const JUMP_BYTES: u64 = 16;
const IS_64BIT: bool = cfg!(target_pointer_width = "64");

/// What a symbol is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Definition {
    /// At an offset in the image.
    Inside(u64),
    /// A number.
    Absolute(u64),
    /// Somebody else's; 0 if it is weak and nobody has it.
    Import {
        /// Whether nobody needs to have it.
        weak: bool,
    },
}

/// A symbol of the object.
#[derive(Clone, Debug)]
pub(super) struct Symbol {
    pub name: String,
    pub definition: Definition,
}

/// How a reference is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// 64-bit address.
    Word64,
    /// 32-bit address that is zero-extended.
    Word32,
    /// 32-bit address that is sign-extended.
    Signed32,
    /// 64-bit distance.
    Distance64,
    /// 32-bit distance.
    Distance32,
    /// 32-bit distance of a call: may go through a jump.
    Call32,
    /// 32-bit distance of the symbol's slot in the table of addresses.
    Slot32,
}

/// A reference from the image to a symbol.
#[derive(Clone, Debug)]
pub(super) struct Reference {
    /// Where, from the image's base.
    pub place: u64,
    pub form: Form,
    /// Index in [`Module::symbols`]; none: the image itself.
    pub symbol: Option<usize>,
    pub addend: i64,
}

/// Something that others can use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exported {
    /// Its name.
    pub name: String,
    /// Offset from the image's base.
    pub offset: u32,
}

/// An object file, laid out, with all references known and none resolved.
#[derive(Clone, Debug)]
pub struct Module {
    /// For messages.
    pub(super) name: String,
    pub(super) bits: Vec<u8>,
    pub(super) symbols: Vec<Symbol>,
    pub(super) references: Vec<Reference>,
    /// Slots of symbols in the table of addresses, by symbol index.
    pub(super) slots: BTreeMap<usize, u64>,
    /// Jumps to symbols, by symbol index.
    pub(super) jumps: BTreeMap<usize, u64>,
    exports: Vec<Exported>,
}

/// Makes room for something aligned at the end; returns where it is.
fn append(bits: &mut Vec<u8>, align: u64, bytes: u64) -> Result<u64> {
    let at = (bits.len() as u64).checked_next_multiple_of(align.max(1));
    let end = at.and_then(|at| at.checked_add(bytes)).filter(|end| *end <= MAX_BYTES);
    match (at, end) {
        (Some(at), Some(end)) => {
            bits.resize(end as usize, 0);
            Ok(at)
        }
        _ => Err(LinkError::TooLarge(format!("an image must be smaller than {MAX_BYTES} bytes"))),
    }
}

fn store(bits: &mut [u8], at: u64, bytes: &[u8]) {
    let room = bits.get_mut(at as usize..).unwrap_or_default();
    for (to, from) in room.iter_mut().zip(bytes) {
        *to = *from;
    }
}

fn is_loaded(flags: SectionFlags) -> bool {
    matches!(flags, SectionFlags::Elf { sh_flags, .. } if sh_flags.0 & elf::SHF_ALLOC.0 != 0)
}

/// The form of a relocation; `None` for kinds that do nothing.
fn form_of(kind: elf::RelocationType) -> core::result::Result<Option<Form>, u32> {
    if IS_64BIT {
        Ok(Some(match kind {
            elf::R_X86_64_NONE => return Ok(None),
            elf::R_X86_64_64 | elf::R_X86_64_GLOB_DAT | elf::R_X86_64_JUMP_SLOT | elf::R_X86_64_RELATIVE => {
                Form::Word64
            }
            elf::R_X86_64_32 => Form::Word32,
            elf::R_X86_64_32S => Form::Signed32,
            elf::R_X86_64_PC64 => Form::Distance64,
            elf::R_X86_64_PC32 => Form::Distance32,
            elf::R_X86_64_PLT32 => Form::Call32,
            elf::R_X86_64_GOTPCREL | elf::R_X86_64_GOTPCRELX | elf::R_X86_64_REX_GOTPCRELX => Form::Slot32,
            other => return Err(other.0),
        }))
    } else {
        Ok(Some(match kind {
            elf::R_386_NONE => return Ok(None),
            elf::R_386_32 | elf::R_386_GLOB_DAT | elf::R_386_JMP_SLOT | elf::R_386_RELATIVE => Form::Word32,
            elf::R_386_PC32 | elf::R_386_PLT32 => Form::Distance32,
            other => return Err(other.0),
        }))
    }
}

impl Form {
    /// Size of what is written, in bytes.
    pub(super) const fn bytes(self) -> u64 {
        match self {
            Self::Word64 | Self::Distance64 => 8,
            _ => 4,
        }
    }
}

/// What is being read.
struct Builder<'data, 'file> {
    file: &'file File<'data>,
    module: Module,
    /// Where the sections of a relocatable object went.
    sections: HashMap<SectionIndex, u64>,
    /// Symbols of the table that references use, by their index there.
    indices: HashMap<SymbolIndex, usize>,
}

impl Module {
    /// Reads an object file and lays it out. `name` is for messages.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(name: &str, bytes: &[u8]) -> Result<Self> {
        let file = File::parse(bytes)?;
        let machine = match file.architecture() {
            Architecture::X86_64 if IS_64BIT && file.is_64() => true,
            Architecture::I386 if !IS_64BIT => true,
            _ => false,
        };
        if !machine {
            let width = usize::BITS;
            return Err(LinkError::OtherMachine(format!(
                "{name} is for {:?}, this client loads images for {width}-bit x86",
                file.architecture()
            )));
        }
        let module = Self {
            name: name.to_owned(),
            bits: Vec::new(),
            symbols: Vec::new(),
            references: Vec::new(),
            slots: BTreeMap::new(),
            jumps: BTreeMap::new(),
            exports: Vec::new(),
        };
        let mut builder = Builder { file: &file, module, sections: HashMap::new(), indices: HashMap::new() };
        match file.kind() {
            ObjectKind::Relocatable => builder.relocatable()?,
            ObjectKind::Dynamic => builder.shared()?,
            other => {
                return Err(LinkError::Malformed(format!(
                    "{name} is of kind {other:?}; relocatable and shared objects can be loaded"
                )));
            }
        }
        builder.reserve()?;
        let module = builder.module;
        if module.bits.is_empty() {
            return Err(LinkError::Malformed(format!("{name} has nothing to load")));
        }
        Ok(module)
    }

    /// Size of the image proper, in bytes.
    #[must_use]
    pub fn image_bytes(&self) -> usize {
        self.bits.len()
    }

    /// What others can use of it.
    #[must_use]
    pub fn exports(&self) -> &[Exported] {
        &self.exports
    }

    /// Offset of a global or weak symbol.
    #[must_use]
    pub fn offset_of(&self, name: &str) -> Option<u32> {
        self.exports.iter().find(|export| export.name == name).map(|export| export.offset).or_else(|| {
            self.symbols.iter().find_map(|symbol| match symbol.definition {
                Definition::Inside(offset) if symbol.name == name => u32::try_from(offset).ok(),
                _ => None,
            })
        })
    }

    /// Names of what it wants from others, each once.
    #[must_use]
    pub fn imports(&self) -> Vec<&str> {
        let wanted = self.references.iter().filter_map(|reference| self.symbols.get(reference.symbol?));
        let mut names: Vec<_> = wanted
            .filter(|symbol| matches!(symbol.definition, Definition::Import { .. }))
            .map(|symbol| symbol.name.as_str())
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Who is at an offset, for messages: the image and the nearest export before it.
    pub(super) fn place_name(&self, place: u64) -> String {
        let before = self.exports.iter().filter(|export| u64::from(export.offset) <= place);
        match before.max_by_key(|export| export.offset) {
            Some(export) => format!("{} (in {})", self.name, export.name),
            None => self.name.clone(),
        }
    }
}

impl<'data> Builder<'data, '_> {
    fn relocatable(&mut self) -> Result<()> {
        let file = self.file;
        for section in file.sections().filter(|section| is_loaded(section.flags())) {
            let at = append(&mut self.module.bits, section.align(), section.size())?;
            if section.kind() != SectionKind::UninitializedData {
                store(&mut self.module.bits, at, section.data()?);
            }
            self.sections.insert(section.index(), at);
        }
        for symbol in file.symbols() {
            self.add_symbol(&symbol)?;
        }
        for section in file.sections() {
            let Some(at) = self.sections.get(&section.index()).copied() else { continue };
            for (offset, relocation) in section.relocations() {
                self.add_reference(at + offset, &relocation)?;
            }
        }
        Ok(())
    }

    fn shared(&mut self) -> Result<()> {
        let file = self.file;
        for segment in file.segments() {
            let end = segment.address().checked_add(segment.size()).filter(|end| *end <= MAX_BYTES);
            let Some(end) = end else {
                return Err(LinkError::TooLarge(format!("an image must be smaller than {MAX_BYTES} bytes")));
            };
            if self.module.bits.len() < end as usize {
                self.module.bits.resize(end as usize, 0);
            }
            store(&mut self.module.bits, segment.address(), segment.data()?);
        }
        for symbol in file.dynamic_symbols() {
            self.add_symbol(&symbol)?;
        }
        for (place, relocation) in file.dynamic_relocations().into_iter().flatten() {
            self.add_reference(place, &relocation)?;
        }
        Ok(())
    }

    fn add_symbol<'a, S: ObjectSymbol<'a>>(&mut self, symbol: &S) -> Result<()> {
        let name = symbol.name()?.to_owned();
        let definition = match symbol.section() {
            SymbolSection::Section(section) => match self.sections.get(&section) {
                Some(at) => Definition::Inside(at + symbol.address()),
                None if self.file.kind() == ObjectKind::Dynamic => Definition::Inside(symbol.address()),
                // In a section that isn't loaded: nothing that is loaded can refer to it.
                None => return Ok(()),
            },
            SymbolSection::Absolute => Definition::Absolute(symbol.address()),
            SymbolSection::Common => return Err(LinkError::Common { symbol: name }),
            SymbolSection::Undefined => Definition::Import { weak: symbol.is_weak() },
            _ => return Ok(()),
        };
        if let Definition::Inside(offset) = definition
            && symbol.is_global()
            && !symbol.is_weak()
            && !name.is_empty()
            && offset <= self.module.bits.len() as u64
        {
            let offset = u32::try_from(offset).map_err(|_| LinkError::TooLarge(self.module.name.clone()))?;
            self.module.exports.push(Exported { name: name.clone(), offset });
        }
        self.indices.insert(symbol.index(), self.module.symbols.len());
        self.module.symbols.push(Symbol { name, definition });
        Ok(())
    }

    fn add_reference(&mut self, place: u64, relocation: &Relocation) -> Result<()> {
        let RelocationFlags::Elf { r_type } = relocation.flags() else {
            return Err(LinkError::Malformed("a relocation isn't ELF's".into()));
        };
        let form = form_of(r_type)
            .map_err(|kind| LinkError::Relocation { kind, wanted_by: self.module.place_name(place) })?;
        let Some(form) = form else { return Ok(()) };
        let end = place.checked_add(form.bytes());
        if end.is_none_or(|end| end > self.module.bits.len() as u64) {
            return Err(LinkError::Malformed(format!("a relocation at {place:#x} is outside of the image")));
        }
        let symbol = match relocation.target() {
            RelocationTarget::Symbol(index) => Some(self.indices.get(&index).copied().ok_or_else(|| {
                LinkError::Malformed(format!(
                    "the relocation at {place:#x} refers to a symbol that isn't loaded"
                ))
            })?),
            _ => None,
        };
        let implicit = if relocation.has_implicit_addend() { self.word_at(place) } else { 0 };
        let addend = relocation.addend().wrapping_add(implicit);
        self.module.references.push(Reference { place, form, symbol, addend });
        Ok(())
    }

    /// The 32-bit number in the image that an implicit addend is.
    fn word_at(&self, place: u64) -> i64 {
        let bytes = self.module.bits.get(place as usize..).and_then(|bytes| bytes.first_chunk::<4>());
        bytes.map_or(0, |bytes| i64::from(i32::from_le_bytes(*bytes)))
    }

    /// Reserves slots and jumps for the symbols that are reached through them.
    fn reserve(&mut self) -> Result<()> {
        let module = &mut self.module;
        let mut slots = Vec::new();
        let mut jumps = Vec::new();
        for reference in &module.references {
            let Some(symbol) = reference.symbol else { continue };
            let imported = module
                .symbols
                .get(symbol)
                .is_some_and(|symbol| !matches!(symbol.definition, Definition::Inside(_)));
            match reference.form {
                Form::Slot32 => slots.push(symbol),
                Form::Call32 if imported => {
                    slots.push(symbol);
                    jumps.push(symbol);
                }
                _ => {}
            }
        }
        for symbol in slots {
            if !module.slots.contains_key(&symbol) {
                let at = append(&mut module.bits, SLOT_BYTES, SLOT_BYTES)?;
                module.slots.insert(symbol, at);
            }
        }
        for symbol in jumps {
            if !module.jumps.contains_key(&symbol) {
                let at = append(&mut module.bits, JUMP_BYTES, JUMP_BYTES)?;
                module.jumps.insert(symbol, at);
            }
        }
        Ok(())
    }
}
