//! The reader.

use super::{
    COMENT, EXTDEF, EXTENSION, FIXUPP, Fixup, Frame, GRPDEF, Group, IMPDEF, Import, LEDATA, LNAMES, MODEND,
    Module, PUBDEF, Place, Public, SEGDEF, Segment, THEADR, Target,
};
use crate::report::Result;

/// All that a driver may be; more is a damaged file.
const LARGEST: u32 = 16 << 20;

/// The rest of a record.
struct Fields<'a> {
    rest: &'a [u8],
    /// Whether offsets, lengths and displacements have 32 bits.
    wide: bool,
}

impl<'a> Fields<'a> {
    fn take(&mut self, bytes: usize) -> Result<&'a [u8]> {
        let (field, rest) = self.rest.split_at_checked(bytes).ok_or("an OMF record is cut short")?;
        self.rest = rest;
        Ok(field)
    }

    fn byte(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    fn word(&mut self) -> Result<u16> {
        let field = self.take(2)?;
        Ok(u16::from_le_bytes([field[0], field[1]]))
    }

    /// 16 or 32 bits.
    fn offset(&mut self) -> Result<u32> {
        let low = self.word()?;
        let high = if self.wide { self.word()? } else { 0 };
        Ok(u32::from(high) << 16 | u32::from(low))
    }

    /// Counted from zero; `None` for the index that means nothing.
    fn index(&mut self) -> Result<Option<usize>> {
        let first = self.byte()?;
        let number = match first & 0x80 {
            0 => usize::from(first),
            _ => usize::from(first & 0x7f) << 8 | usize::from(self.byte()?),
        };
        Ok(number.checked_sub(1))
    }

    /// The index of one of `count` things.
    fn index_below(&mut self, count: usize) -> Result<usize> {
        let index = self.index()?.filter(|index| *index < count);
        index.ok_or_else(|| "an OMF record names what isn't there".into())
    }

    fn name(&mut self) -> Result<String> {
        let length = self.byte()?;
        Ok(String::from_utf8(self.take(usize::from(length))?.to_vec())?)
    }
}

/// What the records so far said.
#[derive(Default)]
struct Reader {
    module: Module,
    names: Vec<String>,
    /// Segment, place and length of the last contents.
    last: Option<(usize, u32, u32)>,
}

impl Module {
    /// Reads an object file.
    ///
    /// # Errors
    /// What isn't an object file, is damaged, or has records that drivers don't need.
    pub fn parse(mut file: &[u8]) -> Result<Self> {
        let mut reader = Reader::default();
        let mut first = true;
        loop {
            let [kind, low, high, rest @ ..] = file else { return Err("an OMF file without an end".into()) };
            let length = usize::from(u16::from_le_bytes([*low, *high]));
            let (content, after) = rest.split_at_checked(length).ok_or("an OMF file that is cut short")?;
            let whole = &file[..length + 3];
            file = after;
            let (sum, content) = content.split_last().ok_or("an OMF record without a check sum")?;
            // A check sum of zero means that there is none.
            if *sum != 0 && whole.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)) != 0 {
                return Err(format!("an OMF record of type {kind:#x} with a wrong check sum").into());
            }
            if first != (*kind == THEADR) {
                return Err("an OMF file with its header elsewhere than at its start".into());
            }
            first = false;
            let fields = Fields { rest: content, wide: kind & 1 != 0 };
            if kind & !1 == MODEND {
                reader.module.fixups.sort_by_key(|fixup| (fixup.segment, fixup.offset));
                return Ok(reader.module);
            }
            reader.record(*kind, fields)?;
        }
    }
}

impl Reader {
    fn record(&mut self, kind: u8, mut fields: Fields<'_>) -> Result<()> {
        match kind & !1 {
            THEADR => self.module.name = fields.name()?,
            COMENT => self.comment(fields)?,
            LNAMES => {
                while !fields.rest.is_empty() {
                    self.names.push(fields.name()?);
                }
            }
            SEGDEF => self.segment(fields)?,
            GRPDEF => self.group(fields)?,
            EXTDEF => {
                while !fields.rest.is_empty() {
                    self.module.externals.push(fields.name()?);
                    fields.index()?;
                }
            }
            PUBDEF => self.publics(fields)?,
            LEDATA => self.contents(fields)?,
            FIXUPP => {
                while !fields.rest.is_empty() {
                    self.fixup(&mut fields)?;
                }
            }
            _ => return Err(format!("an OMF record of type {kind:#x}, which drivers don't need").into()),
        }
        Ok(())
    }

    fn comment(&mut self, mut fields: Fields<'_>) -> Result<()> {
        let _attributes = fields.byte()?;
        if fields.byte()? != EXTENSION || fields.byte()? != IMPDEF {
            return Ok(());
        }
        let by_ordinal = fields.byte()? != 0;
        let (name, library) = (fields.name()?, fields.name()?);
        if !by_ordinal {
            return Err(format!("{name} is imported by name").into());
        }
        self.module.imports.push(Import { name, library, ordinal: fields.word()? });
        Ok(())
    }

    fn listed_name(&self, fields: &mut Fields<'_>) -> Result<String> {
        let index = fields.index_below(self.names.len())?;
        Ok(self.names[index].clone())
    }

    fn segment(&mut self, mut fields: Fields<'_>) -> Result<()> {
        let attributes = fields.byte()?;
        let align = match attributes >> 5 {
            1 => 1,
            2 => 2,
            3 => 16,
            4 => 4096,
            5 => 4,
            other => return Err(format!("a segment with alignment {other}").into()),
        };
        if attributes >> 2 & 7 != 2 || attributes & 2 != 0 {
            return Err("a segment that isn't public, or fills 64 KiB or 4 GiB".into());
        }
        let size = fields.offset()?;
        if size > LARGEST {
            return Err(format!("a segment of {size:#x} bytes").into());
        }
        let (name, class) = (self.listed_name(&mut fields)?, self.listed_name(&mut fields)?);
        let use32 = attributes & 1 != 0;
        self.module.segments.push(Segment { name, class, align, use32, size, bytes: Vec::new() });
        Ok(())
    }

    fn group(&mut self, mut fields: Fields<'_>) -> Result<()> {
        let name = self.listed_name(&mut fields)?;
        let mut segments = Vec::new();
        while !fields.rest.is_empty() {
            if fields.byte()? != 0xff {
                return Err(format!("group {name} with other members than segments").into());
            }
            segments.push(fields.index_below(self.module.segments.len())?);
        }
        self.module.groups.push(Group { name, segments });
        Ok(())
    }

    fn publics(&mut self, mut fields: Fields<'_>) -> Result<()> {
        let group = fields.index()?;
        if group.is_some_and(|group| group >= self.module.groups.len()) {
            return Err("a public name in a group that isn't there".into());
        }
        let segment = fields.index_below(self.module.segments.len())?;
        while !fields.rest.is_empty() {
            let name = fields.name()?;
            let offset = fields.offset()?;
            fields.index()?;
            self.module.publics.push(Public { name, group, segment, offset });
        }
        Ok(())
    }

    fn contents(&mut self, mut fields: Fields<'_>) -> Result<()> {
        let index = fields.index_below(self.module.segments.len())?;
        let segment = &mut self.module.segments[index];
        let offset = fields.offset()?;
        let end = (offset as usize).saturating_add(fields.rest.len());
        if end > segment.size as usize {
            return Err(format!("{}: contents beyond the segment's end", segment.name).into());
        }
        if segment.bytes.len() < end {
            segment.bytes.resize(end, 0);
        }
        segment.bytes[offset as usize..end].copy_from_slice(fields.rest);
        self.last = Some((index, offset, u32::try_from(fields.rest.len())?));
        Ok(())
    }

    fn fixup(&mut self, fields: &mut Fields<'_>) -> Result<()> {
        let (segment, base, length) = self.last.ok_or("a fixup before any contents")?;
        let first = fields.byte()?;
        if first & 0x80 == 0 {
            return Err("threads of fixups, which no driver needs".into());
        }
        let kind = first >> 2 & 0xf;
        let place = Place::of(kind).ok_or_else(|| format!("a fixup of kind {kind}"))?;
        let within = u32::from(first & 3) << 8 | u32::from(fields.byte()?);
        if within + place.bytes() > length {
            return Err("a fixup beyond its contents".into());
        }
        let method = fields.byte()?;
        let (segments, groups) = (self.module.segments.len(), self.module.groups.len());
        let externals = self.module.externals.len();
        let frame = match method >> 4 {
            0 => Frame::Segment(fields.index_below(segments)?),
            1 => Frame::Group(fields.index_below(groups)?),
            2 => Frame::External(fields.index_below(externals)?),
            5 => Frame::OfTarget,
            other => return Err(format!("a fixup with frame method {other}").into()),
        };
        let target = match method & 0xb {
            0 => Target::Segment(fields.index_below(segments)?),
            1 => Target::Group(fields.index_below(groups)?),
            2 => Target::External(fields.index_below(externals)?),
            other => return Err(format!("a fixup with target method {other}").into()),
        };
        let displacement = if method & 4 != 0 { 0 } else { fields.offset()? };
        let self_relative = first & 0x40 == 0;
        let offset = base + within;
        let fixup = Fixup { segment, offset, place, self_relative, frame, target, displacement };
        self.module.fixups.push(fixup);
        Ok(())
    }
}
