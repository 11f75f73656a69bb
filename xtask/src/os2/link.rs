//! Links object modules into the objects of an image: what the loader puts into memory as a whole.
//!
//! A group of 16-bit segments is an object, because one selector reaches all of it; 32-bit code is one, 32-bit data with zeros at
//! its end is one. References that don't depend on where the loader puts things are resolved here; the rest is left to it.

use std::collections::HashMap;

use super::omf::{FLAT, Fixup, Frame, Module, Place, Target};
use crate::report::Result;

/// What the loader puts into memory as a whole.
#[derive(Debug, PartialEq, Eq)]
pub struct Object {
    /// The group's or segment's.
    pub name: String,
    pub use32: bool,
    pub is_code: bool,
    /// Bytes in memory; what is more than the contents is zero.
    pub size: u32,
    pub bytes: Vec<u8>,
}

/// Where a reference leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    Internal { object: usize, offset: u32 },
    Import { library: String, ordinal: u16, addend: u32 },
}

/// What is left to the loader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    pub object: usize,
    pub offset: u32,
    pub place: Place,
    /// To the end of the place.
    pub self_relative: bool,
    pub to: Destination,
}

/// Objects in the order of their segments, references in the order of their places.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Image {
    pub objects: Vec<Object>,
    pub references: Vec<Reference>,
}

/// Where something is: object, offset in it.
type At = (usize, u32);

struct Linker<'a> {
    modules: &'a [Module],
    image: Image,
    /// For each segment of each module.
    places: Vec<Vec<At>>,
    publics: HashMap<&'a str, At>,
    imports: HashMap<&'a str, (&'a str, u16)>,
}

/// Links modules, in this order.
///
/// # Errors
/// Names that are in no module or in two, and references that the loader couldn't resolve.
pub fn link(modules: &[Module]) -> Result<Image> {
    let mut linker = Linker {
        modules,
        image: Image::default(),
        places: modules.iter().map(|module| vec![(0, 0); module.segments.len()]).collect(),
        publics: HashMap::new(),
        imports: HashMap::new(),
    };
    linker.place_segments()?;
    linker.collect_names()?;
    let mut references = Vec::new();
    for (index, module) in modules.iter().enumerate() {
        for fixup in &module.fixups {
            references.extend(linker.resolve(index, fixup)?);
        }
    }
    references.sort_by_key(|reference| (reference.object, reference.offset));
    linker.image.references = join_far_pointers(references)?;
    Ok(linker.image)
}

/// The object that a segment belongs to.
fn object_name(module: &Module, segment: usize) -> &str {
    let group = module.groups.iter().find(|group| group.name != FLAT && group.segments.contains(&segment));
    let segment = &module.segments[segment];
    match (group, segment.class.as_str()) {
        (Some(group), _) => &group.name,
        // Zeros are the end of the data.
        (None, "BSS") => "DATA32",
        (None, _) => &segment.name,
    }
}

impl<'a> Linker<'a> {
    /// Shares of a segment come together, and segments of an object, in the order in which they appear first.
    fn place_segments(&mut self) -> Result<()> {
        let mut order: Vec<(&str, &str)> = Vec::new();
        for module in self.modules {
            for (index, segment) in module.segments.iter().enumerate() {
                let key = (object_name(module, index), segment.name.as_str());
                if !order.contains(&key) {
                    order.push(key);
                }
            }
        }
        for (object, name) in order {
            for (number, module) in self.modules.iter().enumerate() {
                for (index, segment) in module.segments.iter().enumerate() {
                    if (object_name(module, index), segment.name.as_str()) == (object, name) {
                        self.places[number][index] = self.append(object, segment)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn append(&mut self, name: &str, segment: &super::omf::Segment) -> Result<At> {
        let found = self.image.objects.iter().position(|object| object.name == name);
        let index = found.unwrap_or(self.image.objects.len());
        if found.is_none() {
            self.image.objects.push(Object {
                name: name.to_owned(),
                use32: segment.use32,
                is_code: segment.class.ends_with("CODE"),
                size: 0,
                bytes: Vec::new(),
            });
        }
        let object = &mut self.image.objects[index];
        let start = object.size.next_multiple_of(segment.align);
        object.size = start.checked_add(segment.size).ok_or("an object of more than 4 GiB")?;
        if !segment.bytes.is_empty() {
            object.bytes.resize(start as usize, 0);
            object.bytes.extend(&segment.bytes);
        }
        let is_code = segment.class.ends_with("CODE");
        if (object.use32, object.is_code) != (segment.use32, is_code) {
            return Err(format!("{name}: segments of different kinds").into());
        }
        if !object.use32 && object.size > 0x1_0000 {
            return Err(format!("{name}: more than 64 KiB in 16-bit segments").into());
        }
        Ok((index, start))
    }

    fn collect_names(&mut self) -> Result<()> {
        let modules = self.modules;
        for (number, module) in modules.iter().enumerate() {
            for public in &module.publics {
                let (object, start) = self.places[number][public.segment];
                if self.publics.insert(&public.name, (object, start.wrapping_add(public.offset))).is_some() {
                    return Err(format!("{} is defined twice", public.name).into());
                }
            }
            for import in &module.imports {
                self.imports.insert(&import.name, (&import.library, import.ordinal));
            }
        }
        Ok(())
    }

    fn destination(&self, number: usize, fixup: &Fixup) -> Result<Destination> {
        let module = &self.modules[number];
        let at = match fixup.target {
            Target::Segment(index) => self.places[number][index],
            Target::Group(index) => {
                let first = module.groups[index].segments.first();
                let first = first.ok_or("a reference to the flat group itself")?;
                (self.places[number][*first].0, 0)
            }
            Target::External(index) => {
                let name = module.externals[index].as_str();
                match (self.publics.get(name), self.imports.get(name)) {
                    (Some(at), _) => *at,
                    (None, Some((library, ordinal))) => {
                        let (library, ordinal) = ((*library).to_owned(), *ordinal);
                        return Ok(Destination::Import { library, ordinal, addend: fixup.displacement });
                    }
                    (None, None) => return Err(format!("{name} is nowhere").into()),
                }
            }
        };
        Ok(Destination::Internal { object: at.0, offset: at.1.wrapping_add(fixup.displacement) })
    }

    /// Resolves a fixup, or says what the loader has to do.
    fn resolve(&mut self, number: usize, fixup: &Fixup) -> Result<Option<Reference>> {
        let (object, start) = self.places[number][fixup.segment];
        let offset = start + fixup.offset;
        let end = offset + fixup.place.bytes();
        let mut to = self.destination(number, fixup)?;
        let bytes = &mut self.image.objects[object].bytes;
        let field = bytes.get_mut(offset as usize..end as usize).ok_or("a fixup outside the contents")?;
        let here = || format!("{} at {offset:#x}", fixup_name(fixup));
        let content = match fixup.place {
            Place::Selector if field != [0; 2] => {
                return Err(format!("{}: an offset from a selector", here()).into());
            }
            Place::Selector => 0,
            Place::Offset16 | Place::Far16 => u32::from(u16::from_le_bytes([field[0], field[1]])),
            Place::Offset32 | Place::Far32 => u32::from_le_bytes([field[0], field[1], field[2], field[3]]),
        };
        match &mut to {
            Destination::Internal { offset, .. } => *offset = offset.wrapping_add(content),
            Destination::Import { addend, .. } => *addend = addend.wrapping_add(content),
        }
        if let Destination::Internal { object: target, offset: place } = to {
            let resolved = match (fixup.place, fixup.self_relative) {
                (Place::Offset16 | Place::Offset32, true) if target == object => {
                    Some(place.wrapping_sub(end))
                }
                (Place::Offset32 | Place::Far32, false) if !self.is_flat(number, fixup, target) => {
                    return Err(format!("{}: 32 bits that aren't a flat address", here()).into());
                }
                (Place::Offset16, false) => {
                    self.check_frame(number, fixup, target)
                        .map_err(|error| format!("{}: {error}", here()))?;
                    Some(place)
                }
                _ => None,
            };
            let bytes = &mut self.image.objects[object].bytes;
            if let Some(value) = resolved {
                let length = fixup.place.bytes() as usize;
                bytes[offset as usize..end as usize].copy_from_slice(&value.to_le_bytes()[..length]);
                // Offsets of far pointers are needed once more, when their selectors are.
                if fixup.self_relative {
                    return Ok(None);
                }
            }
        }
        let (place, self_relative) = (fixup.place, fixup.self_relative);
        if self_relative && place != Place::Offset32 {
            return Err(format!("{}: a short way to another object", here()).into());
        }
        Ok(Some(Reference { object, offset, place, self_relative, to }))
    }

    fn is_flat(&self, number: usize, fixup: &Fixup, target: usize) -> bool {
        match fixup.frame {
            Frame::Group(index) => self.modules[number].groups[index].name == FLAT,
            _ => self.image.objects[target].use32,
        }
    }

    /// 16-bit offsets are right in the object's frame only.
    fn check_frame(&self, number: usize, fixup: &Fixup, target: usize) -> Result<()> {
        let module = &self.modules[number];
        let at = match (fixup.frame, fixup.target) {
            (Frame::Group(index), _) if !module.groups[index].segments.is_empty() => {
                (self.places[number][module.groups[index].segments[0]].0, 0)
            }
            (Frame::Segment(index), _) | (Frame::OfTarget, Target::Segment(index)) => {
                self.places[number][index]
            }
            _ => return Err("16 bits of a flat address".into()),
        };
        match at == (target, 0) && !self.image.objects[target].use32 {
            true => Ok(()),
            false => Err("an offset in another frame than its object's".into()),
        }
    }
}

fn fixup_name(fixup: &Fixup) -> String {
    format!("{:?} in segment {}", fixup.place, fixup.segment)
}

/// An offset and the selector behind it, as assemblers write far pointers, become one reference; other 16-bit offsets are resolved already.
fn join_far_pointers(references: Vec<Reference>) -> Result<Vec<Reference>> {
    let mut joined = Vec::new();
    let mut rest = references.into_iter().peekable();
    while let Some(mut reference) = rest.next() {
        let far = match reference.place {
            Place::Offset16 => Some(Place::Far16),
            Place::Offset32 if !reference.self_relative => Some(Place::Far32),
            _ => None,
        };
        let behind = (reference.object, reference.offset + reference.place.bytes());
        let selector = rest.next_if(|next| {
            far.is_some()
                && (next.object, next.offset) == behind
                && next.place == Place::Selector
                && is_same_place(&next.to, &reference.to)
        });
        match (selector, far) {
            (Some(_), Some(far)) => reference.place = far,
            _ if reference.place == Place::Offset16 => {
                if let Destination::Import { ordinal, .. } = reference.to {
                    return Err(format!("16 bits of the address of import {ordinal}").into());
                }
                continue;
            }
            _ => {}
        }
        joined.push(reference);
    }
    Ok(joined)
}

/// Whether a selector is that of what an offset refers to.
fn is_same_place(selector: &Destination, offset: &Destination) -> bool {
    match (selector, offset) {
        (Destination::Internal { object: left, .. }, Destination::Internal { object: right, .. }) => {
            left == right
        }
        (
            Destination::Import { library: left, ordinal: one, .. },
            Destination::Import { library: right, ordinal: other, .. },
        ) => (left, one) == (right, other),
        _ => false,
    }
}
