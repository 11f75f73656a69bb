//! Loads a kernel extension into a buffer as the kernel's linker does: by the tables in the file alone.
//!
//! It takes nothing from the linker in [`mod@super::link`], so that the two can be checked against each other.

use std::collections::BTreeMap;

use object::LittleEndian as LE;
use object::macho::{self, MachHeader64, RelocationInfo};
use object::read::macho::{MachHeader as _, Nlist as _, Segment as _};

use crate::report::Result;

/// A section, and where it is in an image at 0.
pub struct Section {
    pub segment: String,
    pub name: String,
    pub address: u64,
    pub size: u64,
    pub flags: macho::SectionFlags,
}

/// A segment: where it is in an image at 0, and who may do what with it.
pub struct Segment {
    pub name: String,
    pub address: u64,
    pub size: u64,
    pub offset: u64,
    pub file_size: u64,
    pub protection: u32,
    pub most: u32,
}

pub struct Symbol {
    pub name: String,
    /// In an image at 0; none if the kernel has it.
    pub address: Option<u64>,
    pub external: bool,
}

/// What the tables of an extension say.
pub struct Kext<'a> {
    file: &'a [u8],
    pub kind: macho::FileType,
    pub cpu: macho::CpuType,
    pub identity: Option<[u8; 16]>,
    pub segments: Vec<Segment>,
    pub sections: Vec<Section>,
    pub symbols: Vec<Symbol>,
    /// Pointers into the image.
    pub locals: Vec<RelocationInfo>,
    /// References to the kernel.
    pub externals: Vec<RelocationInfo>,
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn relocations(file: &[u8], offset: u32, count: u32) -> Result<Vec<RelocationInfo>> {
    let start = usize::try_from(offset)?;
    let size = usize::try_from(count)?.checked_mul(8);
    let table = size.and_then(|size| file.get(start..start.checked_add(size)?));
    let table = table.ok_or("relocations are outside the file")?;
    let word = |bytes: &[u8]| bytes.iter().rev().fold(0, |value, byte| value << 8 | u32::from(*byte));
    let entries = table.chunks_exact(8).map(|entry| {
        let (address, bits) = entry.split_at(4);
        let raw = macho::Relocation::<LE> {
            r_word0: object::U32::new(LE, word(address)),
            r_word1: object::U32::new(LE, word(bits)),
        };
        raw.info(LE)
    });
    Ok(entries.collect())
}

impl<'a> Kext<'a> {
    /// Reads an extension.
    pub fn parse(file: &'a [u8]) -> Result<Self> {
        let header = MachHeader64::<LE>::parse(file, 0)?;
        let mut kext = Self {
            file,
            kind: header.filetype(LE),
            cpu: header.cputype(LE),
            identity: None,
            segments: Vec::new(),
            sections: Vec::new(),
            symbols: Vec::new(),
            locals: Vec::new(),
            externals: Vec::new(),
        };
        let mut commands = header.load_commands(LE, file, 0)?;
        while let Some(command) = commands.next()? {
            if let Some((segment, data)) = command.segment_64()? {
                kext.segments.push(Segment {
                    name: text(segment.name()),
                    address: segment.vmaddr(LE),
                    size: segment.vmsize(LE),
                    offset: segment.fileoff(LE),
                    file_size: segment.filesize(LE),
                    protection: segment.initprot(LE).0,
                    most: segment.maxprot(LE).0,
                });
                for section in segment.sections(LE, data)? {
                    use object::read::macho::Section as _;
                    kext.sections.push(Section {
                        segment: text(section.segment_name()),
                        name: text(section.name()),
                        address: section.addr.get(LE),
                        size: section.size.get(LE),
                        flags: section.flags(LE),
                    });
                }
            } else if let Some(table) = command.symtab()? {
                let table = table.symbols::<MachHeader64<LE>, _>(LE, file)?;
                for symbol in table.iter() {
                    let defined = !symbol.is_undefined();
                    kext.symbols.push(Symbol {
                        name: text(symbol.name(LE, table.strings())?),
                        address: defined.then_some(symbol.n_value(LE)),
                        external: symbol.n_type().is_ext(),
                    });
                }
            } else if let Some(tables) = command.dysymtab()? {
                kext.locals = relocations(file, tables.locreloff.get(LE), tables.nlocrel.get(LE))?;
                kext.externals = relocations(file, tables.extreloff.get(LE), tables.nextrel.get(LE))?;
            } else if let Some(uuid) = command.uuid()? {
                kext.identity = Some(uuid.uuid);
            }
        }
        Ok(kext)
    }

    /// The address of a symbol in an image at 0.
    pub fn address(&self, name: &str) -> Option<u64> {
        self.symbols.iter().find(|symbol| symbol.name == name)?.address
    }

    /// The name that an external relocation refers to.
    pub fn import(&self, relocation: &RelocationInfo) -> Option<&str> {
        let symbol = self.symbols.get(usize::try_from(relocation.r_symbolnum).ok()?)?;
        (relocation.r_extern && symbol.address.is_none()).then_some(&symbol.name)
    }

    /// Names that the kernel must have.
    pub fn undefined(&self) -> impl Iterator<Item = &str> {
        self.symbols.iter().filter(|symbol| symbol.address.is_none()).map(|symbol| symbol.name.as_str())
    }

    /// The image at 0, with nothing applied.
    pub fn raw(&self) -> Result<Image> {
        let end = self.segments.iter().filter(|s| s.name != "__LINKEDIT").map(|s| s.address + s.size).max();
        let mut memory = vec![0; usize::try_from(end.unwrap_or(0))?];
        for segment in self.segments.iter().filter(|segment| segment.name != "__LINKEDIT") {
            let from = usize::try_from(segment.offset)?;
            let to = usize::try_from(segment.address)?;
            let size = usize::try_from(segment.file_size.min(segment.size))?;
            let content = self.file.get(from..from + size).ok_or("a segment is outside the file")?;
            memory.get_mut(to..to + size).ok_or("a segment is outside memory")?.copy_from_slice(content);
        }
        Ok(Image { base: 0, memory })
    }

    /// The image at `base`, bound to a kernel whose symbols are given.
    pub fn load(&self, base: u64, kernel: &BTreeMap<String, u64>) -> Result<Image> {
        let mut image = self.raw()?;
        image.base = base;
        for relocation in &self.locals {
            if relocation.r_extern || relocation.r_pcrel || relocation.r_length != 3 {
                return Err("a local relocation is no pointer".into());
            }
            let section = relocation.r_symbolnum.checked_sub(1).and_then(|n| usize::try_from(n).ok());
            section.and_then(|n| self.sections.get(n)).ok_or("a local relocation has no section")?;
            let at = base + u64::from(relocation.r_address);
            let value = image.pointer(at).ok_or("a local relocation is outside the image")?;
            image.put(at, &value.wrapping_add(base).to_le_bytes())?;
        }
        for relocation in &self.externals {
            let name = self.import(relocation).ok_or("an external relocation has no name")?;
            let target = *kernel.get(name).ok_or_else(|| format!("symbol not found: {name}"))?;
            image.bind(relocation, target).map_err(|error| format!("{name}: {error}"))?;
        }
        Ok(image)
    }
}

/// An image in memory.
pub struct Image {
    pub base: u64,
    pub memory: Vec<u8>,
}

impl Image {
    fn range(&self, address: u64, size: usize) -> Option<std::ops::Range<usize>> {
        let start = usize::try_from(address.checked_sub(self.base)?).ok()?;
        Some(start..start.checked_add(size)?)
    }

    /// Bytes at an address.
    pub fn bytes(&self, address: u64, size: usize) -> Option<&[u8]> {
        self.memory.get(self.range(address, size)?)
    }

    /// The pointer at an address.
    pub fn pointer(&self, address: u64) -> Option<u64> {
        Some(u64::from_le_bytes(self.bytes(address, 8)?.try_into().ok()?))
    }

    /// The distance at an address.
    pub fn displacement(&self, address: u64) -> Option<i32> {
        Some(i32::from_le_bytes(self.bytes(address, 4)?.try_into().ok()?))
    }

    /// Where a field that is relative to its own end leads.
    pub fn destination(&self, address: u64) -> Option<u64> {
        Some((address + 4).wrapping_add_signed(self.displacement(address)?.into()))
    }

    fn put(&mut self, address: u64, bytes: &[u8]) -> Result<()> {
        let range = self.range(address, bytes.len());
        let place = range.and_then(|range| self.memory.get_mut(range));
        place.ok_or("a relocation is outside the image")?.copy_from_slice(bytes);
        Ok(())
    }

    fn bind(&mut self, relocation: &RelocationInfo, target: u64) -> Result<()> {
        let at = self.base + u64::from(relocation.r_address);
        match (relocation.r_type, relocation.r_length, relocation.r_pcrel) {
            (macho::X86_64_RELOC_UNSIGNED, 3, false) => {
                let value = self.pointer(at).ok_or("outside the image")?;
                self.put(at, &value.wrapping_add(target).to_le_bytes())
            }
            (
                macho::X86_64_RELOC_BRANCH
                | macho::X86_64_RELOC_SIGNED
                | macho::X86_64_RELOC_SIGNED_1
                | macho::X86_64_RELOC_SIGNED_2
                | macho::X86_64_RELOC_SIGNED_4,
                2,
                true,
            ) => {
                let value = self.displacement(at).ok_or("outside the image")?;
                let distance = i64::from(value)
                    .wrapping_add(target.cast_signed())
                    .wrapping_sub(at.wrapping_add(4).cast_signed());
                let distance = i32::try_from(distance).map_err(|_| "too far away")?;
                self.put(at, &distance.to_le_bytes())
            }
            // No kernel since 10.7 makes tables of pointers.
            _ => Err("a relocation that kernels don't know".into()),
        }
    }
}
