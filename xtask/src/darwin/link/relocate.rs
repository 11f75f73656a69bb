//! Fills in addresses: what can be known now is written into the image, what can't is left to the kernel's linker.

use std::collections::{BTreeMap, BTreeSet};

use object::macho::{self, RelocationInfo};

use super::input::{Object, Place, Section, Segment, Symbol};
use super::layout::{Layout, Placed};
use super::symbols::{Definition, Symbols};
use crate::report::Result;

/// A pointer into the image that moves with it.
#[derive(Clone, Copy, Debug)]
pub struct Local {
    pub address: u64,
    /// Of the section that it points into.
    pub ordinal: u32,
}

/// A place that gets the address of something in the kernel.
#[derive(Clone, Debug)]
pub struct Import {
    pub address: u64,
    pub name: String,
    pub kind: macho::RelocationType,
    pub pc_relative: bool,
    /// Its size as a power of two.
    pub length: u8,
}

/// Pointers that code loads, where it can't use the address itself.
///
/// Kernel linkers since 10.7 make no such table for an extension, so the image brings its own.
pub struct PointerTable {
    /// The table as an object with one section.
    pub object: Object,
    /// Where in it each name's pointer is.
    pub slots: BTreeMap<String, u64>,
}

/// Whether an instruction loads a pointer from the table into a register: REX.W, `mov`, an operand relative to the program counter.
fn is_load(section: &Section, at: u64) -> bool {
    let Ok(at) = usize::try_from(at) else { return false };
    let bytes = at.checked_sub(3).and_then(|start| section.data.get(start..at));
    matches!(bytes, Some([0x48 | 0x4c, 0x8b, modrm]) if modrm & 0xc7 == 0x05)
}

fn is_got(kind: macho::RelocationType) -> bool {
    matches!(kind, macho::X86_64_RELOC_GOT | macho::X86_64_RELOC_GOT_LOAD)
}

/// Whether a load from the table can become the computation of an address.
fn relaxes(section: &Section, relocation: &RelocationInfo) -> bool {
    relocation.r_type == macho::X86_64_RELOC_GOT_LOAD && is_load(section, relocation.r_address.into())
}

fn symbol_of<'a>(object: &'a Object, relocation: &RelocationInfo) -> Result<&'a Symbol> {
    if !relocation.r_extern {
        return Err("a reference to the table of pointers has no name".into());
    }
    let symbol = usize::try_from(relocation.r_symbolnum).ok().and_then(|index| object.symbols.get(index));
    symbol.ok_or_else(|| "a relocation has no symbol".into())
}

impl PointerTable {
    /// The table that the objects' code needs.
    pub fn of(symbols: &Symbols) -> Result<Self> {
        let mut names = BTreeSet::new();
        for (index, object) in symbols.objects.iter().enumerate() {
            for section in &object.sections {
                for relocation in section.relocations.iter().filter(|relocation| is_got(relocation.r_type)) {
                    let symbol = symbol_of(object, relocation)
                        .map_err(|error| format!("{}, {}: {error}", object.name, section.label()))?;
                    let ours = symbols.meaning(index, symbol)?.is_some();
                    if ours && relaxes(section, relocation) {
                        continue;
                    }
                    if !symbol.global {
                        return Err(format!("{} has no place in the table of pointers", symbol.name).into());
                    }
                    names.insert(symbol.name.clone());
                }
            }
        }
        Self::with(names)
    }

    fn with(names: BTreeSet<String>) -> Result<Self> {
        let size = 8 * names.len();
        let mut section = Section {
            segment: Segment::Data,
            name: "__got".to_owned(),
            address: 0,
            size: u64::try_from(size)?,
            align: 8,
            flags: macho::SectionFlags(0),
            data: vec![0; size],
            relocations: Vec::new(),
        };
        let (mut symbols, mut slots) = (Vec::new(), BTreeMap::new());
        for name in names {
            let number = u32::try_from(symbols.len())?;
            section.relocations.push(RelocationInfo {
                r_address: 8 * number,
                r_symbolnum: number,
                r_pcrel: false,
                r_length: 3,
                r_extern: true,
                r_type: macho::X86_64_RELOC_UNSIGNED,
            });
            slots.insert(name.clone(), u64::from(8 * number));
            let place = Place::Undefined { weak: false };
            symbols.push(Symbol { name, place, global: true, private: false, weak: false });
        }
        let sections = if slots.is_empty() { Vec::new() } else { vec![section] };
        Ok(Self { object: Object { name: "table of pointers".to_owned(), sections, symbols }, slots })
    }
}

/// What a relocation refers to.
enum Target {
    Ours {
        ordinal: u32,
        address: u64,
        /// How far it moved, for relocations whose place in the object holds its old address.
        moved: i64,
        named: bool,
    },
    Kernel(String),
}

/// A place in the image that is being filled in.
struct Spot<'a> {
    section: &'a Section,
    placed: Placed,
    relocation: RelocationInfo,
}

impl Spot<'_> {
    fn address(&self) -> u64 {
        self.placed.address + u64::from(self.relocation.r_address)
    }

    fn length(&self) -> u64 {
        1 << self.relocation.r_length
    }
}

pub struct Relocator<'a> {
    symbols: &'a Symbols,
    layout: &'a Layout,
    /// The table's number among the objects.
    table: usize,
    slots: &'a BTreeMap<String, u64>,
    pub image: Vec<u8>,
    pub locals: Vec<Local>,
    pub imports: Vec<Import>,
}

fn signed(value: u64) -> i64 {
    value.cast_signed()
}

impl<'a> Relocator<'a> {
    /// An image with the contents of all sections. `table` is the pointer table's number among the objects.
    pub fn new(
        symbols: &'a Symbols,
        layout: &'a Layout,
        table: usize,
        slots: &'a BTreeMap<String, u64>,
    ) -> Result<Self> {
        let mut image = vec![0; usize::try_from(layout.text + layout.data_in_file)?];
        for (index, object) in symbols.objects.iter().enumerate() {
            for (number, section) in object.sections.iter().enumerate() {
                let Some(placed) = layout.placed(index, number) else { continue };
                if section.data.is_empty() {
                    continue;
                }
                let start = layout.file_offset(placed.address);
                let range = start.and_then(|start| image.get_mut(start..start + section.data.len()));
                range.ok_or("a section is outside the image")?.copy_from_slice(&section.data);
            }
        }
        Ok(Self { symbols, layout, table, slots, image, locals: Vec::new(), imports: Vec::new() })
    }

    /// Applies all relocations.
    pub fn run(&mut self) -> Result<()> {
        for (index, object) in self.symbols.objects.iter().enumerate() {
            for (number, section) in object.sections.iter().enumerate() {
                let Some(placed) = self.layout.placed(index, number) else { continue };
                self.section(index, object, section, placed)
                    .map_err(|error| format!("{}, {}: {error}", object.name, section.label()))?;
            }
        }
        self.locals.sort_by_key(|local| local.address);
        self.imports.sort_by_key(|import| import.address);
        let places: Vec<u64> = self.locals.iter().map(|local| local.address).collect();
        let imports = self.imports.iter().map(|import| import.address);
        let mut all: Vec<u64> = places.into_iter().chain(imports).collect();
        all.sort_unstable();
        if all.windows(2).any(|pair| matches!(pair, [one, other] if one == other)) {
            return Err("a place is relocated twice".into());
        }
        Ok(())
    }

    fn section(&mut self, index: usize, object: &Object, section: &Section, placed: Placed) -> Result<()> {
        let mut relocations = section.relocations.iter();
        while let Some(relocation) = relocations.next() {
            let spot = Spot { section, placed, relocation: *relocation };
            if u64::from(relocation.r_address) + spot.length() > section.size {
                return Err("a relocation is outside its section".into());
            }
            match relocation.r_type {
                macho::X86_64_RELOC_SUBTRACTOR => {
                    let pair = relocations.next().ok_or("a difference has one operand only")?;
                    self.difference(index, object, &spot, pair)?;
                }
                macho::X86_64_RELOC_UNSIGNED => self.pointer(index, object, &spot)?,
                macho::X86_64_RELOC_GOT | macho::X86_64_RELOC_GOT_LOAD => {
                    self.table_entry(index, object, &spot)?;
                }
                macho::X86_64_RELOC_BRANCH
                | macho::X86_64_RELOC_SIGNED
                | macho::X86_64_RELOC_SIGNED_1
                | macho::X86_64_RELOC_SIGNED_2
                | macho::X86_64_RELOC_SIGNED_4 => self.relative(index, object, &spot)?,
                other => {
                    return Err(format!("a relocation is of a kind ({}) that isn't known", other.0).into());
                }
            }
        }
        Ok(())
    }

    fn ours(&self, definition: Definition, name: &str) -> Result<(u32, u64)> {
        let placed = self.layout.placed(definition.object, definition.section);
        let placed = placed.ok_or_else(|| format!("{name} is in a section that isn't loaded"))?;
        Ok((placed.ordinal, placed.address + definition.offset))
    }

    fn target(&self, index: usize, object: &Object, relocation: &RelocationInfo) -> Result<Target> {
        if relocation.r_extern {
            let symbol = symbol_of(object, relocation)?;
            let Some(definition) = self.symbols.meaning(index, symbol)? else {
                return Ok(Target::Kernel(symbol.name.clone()));
            };
            let (ordinal, address) = self.ours(definition, &symbol.name)?;
            return Ok(Target::Ours { ordinal, address, moved: 0, named: true });
        }
        let number = usize::try_from(relocation.r_symbolnum)?.checked_sub(1);
        let section = number.and_then(|number| Some((number, object.sections.get(number)?)));
        let (number, section) = section.ok_or("a relocation refers to a section that doesn't exist")?;
        let placed = self.layout.placed(index, number).ok_or("a relocation refers to what isn't loaded")?;
        let moved = signed(placed.address) - signed(section.address);
        Ok(Target::Ours { ordinal: placed.ordinal, address: placed.address, moved, named: false })
    }

    /// What is added to in place: the address, or how far it moved.
    fn contribution(target: &Target) -> Result<i64> {
        match target {
            Target::Ours { address, named: true, .. } => Ok(signed(*address)),
            Target::Ours { moved, .. } => Ok(*moved),
            Target::Kernel(name) => {
                Err(format!("a difference with {name}, whose address isn't known").into())
            }
        }
    }

    /// An absolute pointer.
    fn pointer(&mut self, index: usize, object: &Object, spot: &Spot<'_>) -> Result<()> {
        let target = self.target(index, object, &spot.relocation)?;
        if spot.relocation.r_length != 3 || spot.relocation.r_pcrel {
            let what = match target {
                Target::Kernel(name) => name,
                Target::Ours { .. } => "the image".to_owned(),
            };
            return Err(
                format!("a pointer to {what} has no 64 bits: code must be position independent").into()
            );
        }
        if spot.section.segment == Segment::Text {
            return Err("an absolute pointer would have to be written into code".into());
        }
        let address = spot.address();
        match target {
            Target::Kernel(name) => {
                self.import(spot, name);
                return Ok(());
            }
            Target::Ours { ordinal, .. } => self.locals.push(Local { address, ordinal }),
        }
        let value = self.read(spot)?.wrapping_add(Self::contribution(&target)?);
        if u64::try_from(value).map_or(true, |value| value > self.layout.link_edit()) {
            return Err("a pointer points outside the image".into());
        }
        self.write(spot, value)
    }

    /// A distance between two places, which doesn't change when the image moves.
    fn difference(
        &mut self,
        index: usize,
        object: &Object,
        spot: &Spot<'_>,
        pair: &RelocationInfo,
    ) -> Result<()> {
        let first = &spot.relocation;
        if pair.r_type != macho::X86_64_RELOC_UNSIGNED
            || (pair.r_address, pair.r_length) != (first.r_address, first.r_length)
            || first.r_pcrel
            || pair.r_pcrel
            || first.r_length < 2
        {
            return Err("a difference has operands that don't fit together".into());
        }
        let minus = Self::contribution(&self.target(index, object, first)?)?;
        let plus = Self::contribution(&self.target(index, object, pair)?)?;
        let value = self.read(spot)?.wrapping_add(plus).wrapping_sub(minus);
        self.write(spot, value)
    }

    /// A reference relative to the program counter.
    fn relative(&mut self, index: usize, object: &Object, spot: &Spot<'_>) -> Result<()> {
        Self::check_relative(spot)?;
        match self.target(index, object, &spot.relocation)? {
            Target::Kernel(name) => {
                self.import(spot, name);
                Ok(())
            }
            // What is in place counts from the end of the field, wherever the instruction ends.
            Target::Ours { address, named: true, .. } => self.displace(spot, address),
            Target::Ours { moved, .. } => {
                let itself = signed(spot.placed.address) - signed(spot.section.address);
                let value = self.read(spot)?.wrapping_add(moved).wrapping_sub(itself);
                self.write(spot, value)
            }
        }
    }

    /// A reference to a slot of the table of pointers.
    fn table_entry(&mut self, index: usize, object: &Object, spot: &Spot<'_>) -> Result<()> {
        Self::check_relative(spot)?;
        let symbol = symbol_of(object, &spot.relocation)?;
        if let Some(definition) = self.symbols.meaning(index, symbol)?
            && relaxes(spot.section, &spot.relocation)
        {
            let (_, address) = self.ours(definition, &symbol.name)?;
            // `mov` from the slot becomes `lea` of what the slot would hold.
            let opcode = self.layout.file_offset(spot.address() - 2);
            *opcode.and_then(|at| self.image.get_mut(at)).ok_or("an instruction isn't in the image")? = 0x8d;
            return self.displace(spot, address);
        }
        let slot = self.slots.get(&symbol.name).ok_or("a pointer isn't in the table")?;
        let table = self.layout.placed(self.table, 0).ok_or("there is no table of pointers")?;
        self.displace(spot, table.address + slot)
    }

    fn check_relative(spot: &Spot<'_>) -> Result<()> {
        match (spot.relocation.r_pcrel, spot.relocation.r_length) {
            (true, 2) => Ok(()),
            _ => Err("a relative reference has no 32 bits".into()),
        }
    }

    /// Writes the distance from the end of the field to an address, plus what is in place.
    fn displace(&mut self, spot: &Spot<'_>, address: u64) -> Result<()> {
        let value = self.read(spot)?.wrapping_add(signed(address)).wrapping_sub(signed(spot.address() + 4));
        self.write(spot, value)
    }

    fn import(&mut self, spot: &Spot<'_>, name: String) {
        self.imports.push(Import {
            address: spot.address(),
            name,
            kind: spot.relocation.r_type,
            pc_relative: spot.relocation.r_pcrel,
            length: spot.relocation.r_length,
        });
    }

    fn field(&mut self, spot: &Spot<'_>) -> Result<&mut [u8]> {
        let start = self.layout.file_offset(spot.address());
        let length = usize::try_from(spot.length())?;
        start
            .and_then(|start| self.image.get_mut(start..start + length))
            .ok_or_else(|| "a relocation is outside the image".into())
    }

    fn read(&mut self, spot: &Spot<'_>) -> Result<i64> {
        let field = self.field(spot)?;
        match *field {
            [a, b, c, d] => Ok(i32::from_le_bytes([a, b, c, d]).into()),
            [a, b, c, d, e, f, g, h] => Ok(i64::from_le_bytes([a, b, c, d, e, f, g, h])),
            _ => Err("a relocation is neither of 32 nor of 64 bits".into()),
        }
    }

    fn write(&mut self, spot: &Spot<'_>, value: i64) -> Result<()> {
        let field = self.field(spot)?;
        if field.len() == 8 {
            field.copy_from_slice(&value.to_le_bytes());
        } else {
            let value = i32::try_from(value).map_err(|_| "a distance doesn't fit into 32 bits")?;
            field.copy_from_slice(&value.to_le_bytes());
        }
        Ok(())
    }
}
