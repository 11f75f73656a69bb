//! Object modules of OS/2's linkers (OMF), as they are linked into drivers: 16- and 32-bit segments, groups, names and fixups.
//!
//! [`Module`] is what such an object says. [`Module::to_bytes`] writes it, [`Module::parse`] reads it back and reads what the
//! assembler made. Records that neither needs (libraries, communal variables, debug information, threads of fixups) are refused.

mod read;
#[cfg(test)]
mod tests;
mod write;

/// What addresses are relative to in 32-bit code: the group of this name has no members, as all assemblers of OS/2 write it.
pub const FLAT: &str = "FLAT";

/// A segment, or this module's share of it: linkers put shares of one name and class together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    pub name: String,
    pub class: String,
    /// Bytes; 1, 2, 4, 16 or 4096.
    pub align: u32,
    pub use32: bool,
    /// Bytes with the part that has no contents.
    pub size: u32,
    /// Contents; what is missing up to `size` is zero.
    pub bytes: Vec<u8>,
}

/// Segments that share a frame, by index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    pub name: String,
    pub segments: Vec<usize>,
}

/// A name that other modules may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Public {
    pub name: String,
    pub group: Option<usize>,
    pub segment: usize,
    pub offset: u32,
}

/// A name that some library has under an ordinal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    pub name: String,
    pub library: String,
    pub ordinal: u16,
}

/// What is patched, by the number that OMF gives to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Offset16 = 1,
    Selector = 2,
    Far16 = 3,
    Offset32 = 9,
    Far32 = 11,
}

impl Place {
    fn of(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Offset16,
            2 => Self::Selector,
            3 => Self::Far16,
            9 => Self::Offset32,
            11 => Self::Far32,
            _ => return None,
        })
    }

    /// Bytes that are patched.
    pub fn bytes(self) -> u32 {
        match self {
            Self::Offset16 | Self::Selector => 2,
            Self::Far16 | Self::Offset32 => 4,
            Self::Far32 => 6,
        }
    }
}

/// What a fixup's address is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    Segment(usize),
    Group(usize),
    External(usize),
}

/// What a fixup's address is relative to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    Segment(usize),
    Group(usize),
    External(usize),
    /// Whatever the target is in.
    OfTarget,
}

/// A reference. The target's address is added to what is in the place, which is relative to the place's end if the reference is to itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fixup {
    pub segment: usize,
    pub offset: u32,
    pub place: Place,
    pub self_relative: bool,
    pub frame: Frame,
    pub target: Target,
    /// Added to the target's address.
    pub displacement: u32,
}

/// An object module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Module {
    pub name: String,
    pub segments: Vec<Segment>,
    pub groups: Vec<Group>,
    pub publics: Vec<Public>,
    pub externals: Vec<String>,
    pub imports: Vec<Import>,
    /// In the order of their segments and offsets.
    pub fixups: Vec<Fixup>,
}

impl Module {
    /// The index of a group, if there is one of this name.
    pub fn group(&self, name: &str) -> Option<usize> {
        self.groups.iter().position(|group| group.name == name)
    }

    /// The index of a segment, if there is one of this name.
    pub fn segment(&self, name: &str) -> Option<usize> {
        self.segments.iter().position(|segment| segment.name == name)
    }
}

// Types of records; those with 32-bit fields are odd.
const THEADR: u8 = 0x80;
const COMENT: u8 = 0x88;
const MODEND: u8 = 0x8a;
const EXTDEF: u8 = 0x8c;
const PUBDEF: u8 = 0x90;
const LNAMES: u8 = 0x96;
const SEGDEF: u8 = 0x98;
const GRPDEF: u8 = 0x9a;
const FIXUPP: u8 = 0x9c;
const LEDATA: u8 = 0xa0;

/// Class of a comment that extends the format; and the extension that says where an imported name is.
const EXTENSION: u8 = 0xa0;
const IMPDEF: u8 = 1;

/// Data bytes in one record at most, because places of fixups have 10 bits.
const CHUNK: usize = 1024;
