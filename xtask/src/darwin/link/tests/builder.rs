//! Builds object files, also ones that no compiler makes.

use object::macho::{self, RelocationInfo, RelocationType};

/// A section of an object that is being built.
pub struct Section {
    segment: &'static str,
    name: &'static str,
    pub flags: u32,
    /// As a power of two.
    pub align: u32,
    data: Vec<u8>,
    /// Only of zero-filled sections.
    zeros: u64,
    relocations: Vec<RelocationInfo>,
}

impl Section {
    /// Writes into the content.
    pub fn set(&mut self, at: usize, bytes: &[u8]) {
        self.data[at..at + bytes.len()].copy_from_slice(bytes);
    }
}

/// What a relocation refers to.
#[derive(Clone, Copy)]
pub enum To {
    /// By name: the name is added if the object doesn't have it.
    Name(&'static str),
    /// A section of the object, from 1.
    Section(u32),
}

#[derive(Clone)]
pub struct Symbol {
    pub name: &'static str,
    pub kind: u8,
    pub section: u8,
    pub description: u16,
    /// An offset into the section, if there is one.
    pub value: u64,
}

/// An object that is being built.
pub struct Builder {
    pub file_type: u32,
    pub cpu: u32,
    pub sections: Vec<Section>,
    pub symbols: Vec<Symbol>,
}

pub const GLOBAL: u8 = macho::N_SECT.0 | macho::N_EXT.0;
pub const LOCAL: u8 = macho::N_SECT.0;

impl Builder {
    pub fn new() -> Self {
        Self {
            file_type: macho::MH_OBJECT.0,
            cpu: macho::CPU_TYPE_X86_64.0,
            sections: Vec::new(),
            symbols: Vec::new(),
        }
    }

    /// Adds a section; returns its number, from 1.
    pub fn section(&mut self, segment: &'static str, name: &'static str, data: &[u8]) -> u8 {
        let (flags, align, zeros, relocations) = (0, 3, 0, Vec::new());
        self.sections.push(Section { segment, name, flags, align, data: data.to_vec(), zeros, relocations });
        u8::try_from(self.sections.len()).unwrap()
    }

    pub fn text(&mut self, code: &[u8]) -> u8 {
        self.section("__TEXT", "__text", code)
    }

    pub fn data(&mut self, data: &[u8]) -> u8 {
        self.section("__DATA", "__data", data)
    }

    pub fn zero_filled(&mut self, name: &'static str, size: u64) -> u8 {
        let number = self.section("__DATA", name, &[]);
        let section = self.sections.last_mut().unwrap();
        section.flags = u32::from(macho::S_ZEROFILL.0);
        section.zeros = size;
        number
    }

    pub fn symbol(&mut self, name: &'static str, kind: u8, section: u8, value: u64) -> &mut Symbol {
        self.symbols.push(Symbol { name, kind, section, description: 0, value });
        self.symbols.last_mut().unwrap()
    }

    pub fn global(&mut self, name: &'static str, section: u8, value: u64) {
        self.symbol(name, GLOBAL, section, value);
    }

    fn symbol_number(&mut self, name: &'static str) -> u32 {
        let found = self.symbols.iter().position(|symbol| symbol.name == name);
        let index = found.unwrap_or_else(|| {
            self.symbol(name, macho::N_EXT.0, 0, 0);
            self.symbols.len() - 1
        });
        u32::try_from(index).unwrap()
    }

    /// Adds a relocation of 32 bits, relative to the program counter.
    pub fn relative(&mut self, section: u8, at: u32, kind: RelocationType, to: To) {
        self.relocation(section, at, kind, to, 2, true);
    }

    /// Adds a relocation of 64 bits.
    pub fn absolute(&mut self, section: u8, at: u32, kind: RelocationType, to: To) {
        self.relocation(section, at, kind, to, 3, false);
    }

    pub fn relocation(
        &mut self,
        section: u8,
        at: u32,
        kind: RelocationType,
        to: To,
        length: u8,
        relative: bool,
    ) {
        let (number, named) = match to {
            To::Name(name) => (self.symbol_number(name), true),
            To::Section(number) => (number, false),
        };
        self.sections[usize::from(section) - 1].relocations.push(RelocationInfo {
            r_address: at,
            r_symbolnum: number,
            r_pcrel: relative,
            r_length: length,
            r_extern: named,
            r_type: kind,
        });
    }

    /// Where each section is in the object: one after the other.
    pub fn addresses(&self) -> Vec<u64> {
        let mut end = 0_u64;
        let sections = self.sections.iter().map(|section| {
            let start = end.next_multiple_of(1 << section.align.min(12));
            end = start + section.zeros + section.data.len() as u64;
            start
        });
        sections.collect()
    }

    pub fn build(&self) -> Vec<u8> {
        let addresses = self.addresses();
        let commands = 72 + 80 * self.sections.len() + 24;
        let mut content = Vec::new();
        let start = 32 + commands;
        let mut places = Vec::new();
        for section in &self.sections {
            let data = start + content.len();
            content.extend(&section.data);
            content.resize(content.len().next_multiple_of(8), 0);
            places.push((data, start + content.len()));
            for relocation in &section.relocations {
                let raw = relocation.relocation(object::LittleEndian);
                for word in [raw.r_word0, raw.r_word1] {
                    content.extend(word.get(object::LittleEndian).to_le_bytes());
                }
            }
        }
        let symbol_table = start + content.len();
        let mut strings = vec![0];
        for symbol in &self.symbols {
            content.extend((strings.len() as u32).to_le_bytes());
            strings.extend(symbol.name.bytes().chain([0]));
            content.extend([symbol.kind, symbol.section]);
            content.extend(symbol.description.to_le_bytes());
            let base = usize::from(symbol.section).checked_sub(1).and_then(|index| addresses.get(index));
            content.extend((symbol.value + base.copied().unwrap_or(0)).to_le_bytes());
        }
        let string_table = start + content.len();
        content.extend(&strings);

        let mut file = Vec::new();
        let mut put = |words: &[u32]| file.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        put(&[macho::MH_MAGIC_64, self.cpu, 3, self.file_type, 2, commands as u32, 0, 0]);
        put(&[macho::LC_SEGMENT_64.0, (72 + 80 * self.sections.len()) as u32, 0, 0, 0, 0]);
        put(&[0, 0, 0, 0, start as u32, 0, content.len() as u32, 0, 7, 7, self.sections.len() as u32, 0]);
        for ((section, place), address) in self.sections.iter().zip(places).zip(addresses) {
            let size = section.zeros + section.data.len() as u64;
            let mut names = [0; 32];
            names[..section.name.len()].copy_from_slice(section.name.as_bytes());
            names[16..16 + section.segment.len()].copy_from_slice(section.segment.as_bytes());
            file.extend(names);
            file.extend(address.to_le_bytes());
            file.extend(size.to_le_bytes());
            let count = section.relocations.len() as u32;
            let words = [place.0 as u32, section.align, place.1 as u32, count, section.flags, 0, 0, 0];
            file.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        }
        let words = [
            macho::LC_SYMTAB.0,
            24,
            symbol_table as u32,
            self.symbols.len() as u32,
            string_table as u32,
            strings.len() as u32,
        ];
        file.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        file.extend(content);
        file
    }
}
