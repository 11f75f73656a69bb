//! Where everything lies in the image: three segments, of whole pages, from address 0.

use object::macho;

use super::input::{MAX_IMAGE, Object, Section, Segment};
use crate::report::Result;

pub const PAGE: u64 = 4096;

/// The header, and load commands: segments, sections, symbol tables, identity.
const FIXED_COMMANDS: u64 = 32 + 3 * 72 + 24 + 80 + 24;
const SECTION_COMMAND: u64 = 80;

/// A section of the image, made of those with its name.
#[derive(Debug)]
pub struct Output {
    pub segment: Segment,
    pub name: String,
    pub address: u64,
    pub size: u64,
    pub align: u64,
    pub flags: macho::SectionFlags,
    pub zero_filled: bool,
}

/// What became of a section of an object.
#[derive(Clone, Copy, Debug)]
pub struct Placed {
    pub address: u64,
    /// From 1, as relocations and symbols count.
    pub ordinal: u32,
}

#[derive(Debug)]
pub struct Layout {
    pub outputs: Vec<Output>,
    /// By object and section; none if it was dropped.
    placed: Vec<Vec<Option<Placed>>>,
    /// The size of the text segment, and the data segment's address.
    pub text: u64,
    /// Bytes of the data segment in the file.
    pub data_in_file: u64,
    /// Bytes of the data segment in memory.
    pub data: u64,
}

pub fn align_up(value: u64, align: u64) -> u64 {
    value.next_multiple_of(align.max(1))
}

/// A kind that all members of a section of the image can have: constants needn't be told apart, since nothing is merged.
fn common_type(one: macho::SectionType, other: macho::SectionType) -> Option<macho::SectionType> {
    let plain = |kind| {
        matches!(
            kind,
            macho::S_REGULAR
                | macho::S_CSTRING_LITERALS
                | macho::S_4BYTE_LITERALS
                | macho::S_8BYTE_LITERALS
                | macho::S_16BYTE_LITERALS
                | macho::S_LITERAL_POINTERS
                | macho::S_COALESCED
        )
    };
    match one == other {
        true => Some(one),
        false => (plain(one) && plain(other)).then_some(macho::S_REGULAR),
    }
}

/// Code first, then data with content, then zero-filled data.
fn rank(section: &Section) -> (Segment, bool) {
    (section.segment, section.is_zero_filled())
}

impl Layout {
    pub fn of(objects: &[Object]) -> Result<Self> {
        let mut layout = Self {
            outputs: Vec::new(),
            placed: objects.iter().map(|object| vec![None; object.sections.len()]).collect(),
            text: 0,
            data_in_file: 0,
            data: 0,
        };
        layout.collect(objects)?;
        let mut end = FIXED_COMMANDS + SECTION_COMMAND * u64::try_from(layout.outputs.len())?;
        for ordinal in 0..layout.outputs.len() {
            let starts_data =
                layout.outputs.get(ordinal).is_some_and(|output| output.segment == Segment::Data);
            if starts_data && layout.text == 0 {
                layout.text = align_up(end, PAGE);
                end = layout.text;
            }
            end = layout.place(ordinal, end, objects)?;
            let Some(output) = layout.outputs.get(ordinal) else { break };
            if output.segment == Segment::Data && !output.zero_filled {
                layout.data_in_file = align_up(end - layout.text, PAGE);
            }
        }
        if layout.text == 0 {
            layout.text = align_up(end, PAGE);
            end = layout.text;
        }
        layout.data = align_up(end - layout.text, PAGE);
        Ok(layout)
    }

    /// Finds the sections of the image, in their order.
    fn collect(&mut self, objects: &[Object]) -> Result<()> {
        let mut sections: Vec<&Section> = objects.iter().flat_map(|object| &object.sections).collect();
        sections.retain(|section| section.segment != Segment::Dropped);
        sections.sort_by_key(|section| rank(section));
        for section in sections {
            let Some(output) = self.outputs.iter_mut().find(|output| output.takes(section)) else {
                self.outputs.push(Output {
                    segment: section.segment,
                    name: section.name.clone(),
                    address: 0,
                    size: 0,
                    align: section.align,
                    flags: section.flags,
                    zero_filled: section.is_zero_filled(),
                });
                continue;
            };
            let (one, other) = (output.flags.typ(), section.flags.typ());
            let kind = common_type(one, other)
                .ok_or_else(|| format!("there are sections {} of different kinds", section.label()))?;
            output.align = output.align.max(section.align);
            output.flags = macho::SectionFlags(output.flags.0 | section.flags.0).with_type(kind);
        }
        Ok(())
    }

    /// Places all members of a section of the image, from `end`; returns the new end.
    fn place(&mut self, ordinal: usize, end: u64, objects: &[Object]) -> Result<u64> {
        let Some(output) = self.outputs.get_mut(ordinal) else { return Ok(end) };
        output.address = align_up(end, output.align);
        let mut end = output.address;
        for (object, places) in objects.iter().zip(&mut self.placed) {
            for (section, place) in object.sections.iter().zip(places) {
                if section.segment == Segment::Dropped || !output.takes(section) {
                    continue;
                }
                let address = align_up(end, section.align);
                *place = Some(Placed { address, ordinal: u32::try_from(ordinal)?.saturating_add(1) });
                end = address + section.size;
                if end > MAX_IMAGE {
                    return Err("the image is too large".into());
                }
            }
        }
        output.size = end - output.address;
        Ok(end)
    }

    pub fn placed(&self, object: usize, section: usize) -> Option<Placed> {
        *self.placed.get(object)?.get(section)?
    }

    /// The place in the file of an address that has content.
    pub fn file_offset(&self, address: u64) -> Option<usize> {
        // Both segments are as large in the file as in memory, up to where zero-filled data begins.
        (address < self.text + self.data_in_file).then(|| usize::try_from(address).ok()).flatten()
    }

    pub fn link_edit(&self) -> u64 {
        self.text + self.data
    }
}

impl Output {
    fn takes(&self, section: &Section) -> bool {
        self.segment == section.segment
            && self.zero_filled == section.is_zero_filled()
            && self.name == section.name
    }
}
