//! The writer.

use super::{
    CHUNK, COMENT, EXTDEF, EXTENSION, FIXUPP, Fixup, Frame, GRPDEF, IMPDEF, LEDATA, LNAMES, MODEND, Module,
    PUBDEF, SEGDEF, Segment, THEADR, Target,
};
use crate::report::Result;

/// The records that have 32-bit fields instead of 16-bit ones.
const WIDE: u8 = 1;

/// A record that is being written.
struct Record {
    kind: u8,
    content: Vec<u8>,
}

impl Record {
    fn new(kind: u8) -> Self {
        Self { kind, content: Vec::new() }
    }

    fn byte(mut self, value: u8) -> Self {
        self.content.push(value);
        self
    }

    fn word(mut self, value: u16) -> Self {
        self.content.extend(value.to_le_bytes());
        self
    }

    fn dword(mut self, value: u32) -> Self {
        self.content.extend(value.to_le_bytes());
        self
    }

    fn name(mut self, name: &str) -> Result<Self> {
        let length = u8::try_from(name.len()).map_err(|_| format!("{name:?} is too long a name for OMF"))?;
        self.content.push(length);
        self.content.extend(name.as_bytes());
        Ok(self)
    }

    /// An index counted from zero here and from one there.
    fn index(self, index: usize) -> Result<Self> {
        match index.checked_add(1) {
            Some(number @ 1..=0x7f) => Ok(self.byte(u8::try_from(number)?)),
            Some(number @ 0x80..=0x7fff) => {
                let [high, low] = u16::try_from(number)?.to_be_bytes();
                Ok(self.byte(high | 0x80).byte(low))
            }
            _ => Err("too many names, segments or groups for OMF".into()),
        }
    }

    /// Appends the record with its length and check sum to a file.
    fn end(self, file: &mut Vec<u8>) -> Result<()> {
        let length = u16::try_from(self.content.len() + 1).map_err(|_| "an OMF record is too long")?;
        let [low, high] = length.to_le_bytes();
        let sum = self.content.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
        let sum = sum.wrapping_add(self.kind).wrapping_add(low).wrapping_add(high);
        file.extend([self.kind, low, high]);
        file.extend(self.content);
        file.push(sum.wrapping_neg());
        Ok(())
    }
}

impl Module {
    /// The object file.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut file = Vec::new();
        Record::new(THEADR).name(&self.name)?.end(&mut file)?;
        for import in &self.imports {
            // 0x80: other tools shall keep the comment; 1: by ordinal.
            let record = Record::new(COMENT).byte(0x80).byte(EXTENSION).byte(IMPDEF).byte(1);
            record.name(&import.name)?.name(&import.library)?.word(import.ordinal).end(&mut file)?;
        }
        self.write_segments(&mut file)?;
        for public in &self.publics {
            let record = Record::new(PUBDEF | WIDE);
            let record = match public.group {
                Some(group) => record.index(group)?,
                None => record.byte(0),
            };
            record.index(public.segment)?.name(&public.name)?.dword(public.offset).byte(0).end(&mut file)?;
        }
        for external in &self.externals {
            Record::new(EXTDEF).name(external)?.byte(0).end(&mut file)?;
        }
        for index in 0..self.segments.len() {
            self.write_contents(index, &mut file)?;
        }
        Record::new(MODEND).byte(0).end(&mut file)?;
        Ok(file)
    }

    fn write_segments(&self, file: &mut Vec<u8>) -> Result<()> {
        let mut names = vec![""];
        for segment in &self.segments {
            names.extend([segment.name.as_str(), segment.class.as_str()]);
        }
        names.extend(self.groups.iter().map(|group| group.name.as_str()));
        for name in &names {
            Record::new(LNAMES).name(name)?.end(file)?;
        }
        let name = |wanted: &str| names.iter().position(|name| *name == wanted).unwrap_or(0);
        for segment in &self.segments {
            let record = Record::new(SEGDEF | WIDE).byte(attributes(segment)?).dword(segment.size);
            record.index(name(&segment.name))?.index(name(&segment.class))?.index(0)?.end(file)?;
        }
        for group in &self.groups {
            let mut record = Record::new(GRPDEF).index(name(&group.name))?;
            for segment in &group.segments {
                record = record.byte(0xff).index(*segment)?;
            }
            record.end(file)?;
        }
        Ok(())
    }

    /// Contents in pieces that no fixup straddles, each followed by its fixups.
    fn write_contents(&self, index: usize, file: &mut Vec<u8>) -> Result<()> {
        let segment = &self.segments[index];
        let mut fixups: Vec<&Fixup> = self.fixups.iter().filter(|fixup| fixup.segment == index).collect();
        fixups.sort_by_key(|fixup| fixup.offset);
        let mut fixups = fixups.into_iter().peekable();
        let mut start = 0;
        while start < segment.bytes.len() {
            let mut end = segment.bytes.len().min(start + CHUNK);
            let mut here = Vec::new();
            while let Some(fixup) = fixups.peek() {
                let offset = fixup.offset as usize;
                let after = offset + fixup.place.bytes() as usize;
                if offset >= end {
                    break;
                }
                if after > end {
                    end = offset;
                    break;
                }
                here.extend(fixups.next());
            }
            if end <= start || end > segment.bytes.len() {
                return Err(format!("{}: fixups overlap, or reach beyond the end", segment.name).into());
            }
            let mut record = Record::new(LEDATA | WIDE).index(index)?.dword(u32::try_from(start)?);
            record.content.extend(&segment.bytes[start..end]);
            record.end(file)?;
            for pack in here.chunks(CHUNK / 16) {
                let mut record = Record::new(FIXUPP | WIDE);
                for fixup in pack {
                    record = write_fixup(record, fixup, fixup.offset as usize - start)?;
                }
                record.end(file)?;
            }
            start = end;
        }
        match fixups.next() {
            Some(fixup) => {
                Err(format!("{}: a fixup at {:#x}, where no contents are", segment.name, fixup.offset).into())
            }
            None => Ok(()),
        }
    }
}

/// Alignment, combination (public) and width.
fn attributes(segment: &Segment) -> Result<u8> {
    let align = match segment.align {
        1 => 1,
        2 => 2,
        4 => 5,
        16 => 3,
        4096 => 4,
        other => return Err(format!("{}: OMF can't align to {other} bytes", segment.name).into()),
    };
    if segment.bytes.len() > segment.size as usize {
        return Err(format!("{}: more contents than the segment is long", segment.name).into());
    }
    Ok(align << 5 | 2 << 2 | u8::from(segment.use32))
}

fn write_fixup(record: Record, fixup: &Fixup, offset: usize) -> Result<Record> {
    let [high, low] = u16::try_from(offset)?.to_be_bytes();
    let mode = if fixup.self_relative { 0 } else { 0x40 };
    let record = record.byte(0x80 | mode | (fixup.place as u8) << 2 | high).byte(low);
    let (frame, frame_index) = match fixup.frame {
        Frame::Segment(index) => (0, Some(index)),
        Frame::Group(index) => (1, Some(index)),
        Frame::External(index) => (2, Some(index)),
        Frame::OfTarget => (5, None),
    };
    let (target, target_index) = match fixup.target {
        Target::Segment(index) => (0, index),
        Target::Group(index) => (1, index),
        Target::External(index) => (2, index),
    };
    let no_displacement = if fixup.displacement == 0 { 4 } else { 0 };
    let mut record = record.byte(frame << 4 | no_displacement | target);
    if let Some(index) = frame_index {
        record = record.index(index)?;
    }
    let record = record.index(target_index)?;
    Ok(if fixup.displacement == 0 { record } else { record.dword(fixup.displacement) })
}
