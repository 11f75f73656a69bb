//! Which objects take part, and whose symbol a name means.

use std::collections::{BTreeMap, BTreeSet};

use object::macho;

use super::input::{Object, Place, Section, Segment, Symbol};
use crate::report::Result;

/// Where a name is defined: the object, its section, and the place in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Definition {
    pub object: usize,
    pub section: usize,
    pub offset: u64,
    pub private: bool,
    weak: bool,
}

/// The objects that take part, and their global names.
pub struct Symbols {
    pub objects: Vec<Object>,
    pub defined: BTreeMap<String, Definition>,
}

fn defines(object: &Object) -> impl Iterator<Item = &Symbol> {
    object.symbols.iter().filter(|symbol| symbol.global && !matches!(symbol.place, Place::Undefined { .. }))
}

fn lacks(object: &Object) -> impl Iterator<Item = &str> {
    let undefined = object.symbols.iter().filter(|s| s.global && matches!(s.place, Place::Undefined { .. }));
    undefined.map(|symbol| symbol.name.as_str())
}

/// Adds the members of libraries that define what the objects lack, as often as that brings something.
pub fn select(mut objects: Vec<Object>, library: Vec<Object>, kernel: &[&str]) -> Vec<Object> {
    let mut have: BTreeSet<String> =
        objects.iter().flat_map(defines).map(|symbol| symbol.name.clone()).collect();
    let mut wanted: Vec<String> = objects.iter().flat_map(lacks).map(str::to_owned).collect();
    let mut members: Vec<Option<Object>> = library.into_iter().map(Some).collect();
    // The first member that defines a name is the one that is taken.
    let mut index = BTreeMap::new();
    for (position, member) in members.iter().enumerate() {
        for symbol in member.iter().flat_map(defines) {
            index.entry(symbol.name.clone()).or_insert(position);
        }
    }
    while let Some(name) = wanted.pop() {
        if have.contains(&name) || kernel.contains(&name.as_str()) {
            continue;
        }
        let member = index.get(&name).and_then(|position| members.get_mut(*position)).and_then(Option::take);
        let Some(member) = member else { continue };
        have.extend(defines(&member).map(|symbol| symbol.name.clone()));
        wanted.extend(lacks(&member).map(str::to_owned));
        objects.push(member);
    }
    objects
}

/// A zero-filled section that holds one tentative definition.
fn common(name: &str, size: u64, align: u64) -> (Section, Symbol) {
    let section = Section {
        segment: Segment::Data,
        name: "__common".to_owned(),
        address: 0,
        size,
        align,
        flags: macho::SectionFlags(u32::from(macho::S_ZEROFILL.0)),
        data: Vec::new(),
        relocations: Vec::new(),
    };
    let symbol = Symbol {
        name: name.to_owned(),
        place: Place::Section { index: 0, offset: 0 },
        global: true,
        private: false,
        weak: false,
    };
    (section, symbol)
}

impl Symbols {
    /// Gives every global name its one definition.
    pub fn resolve(objects: Vec<Object>) -> Result<Self> {
        let mut symbols = Self { objects: Vec::new(), defined: BTreeMap::new() };
        let mut commons: BTreeMap<String, (u64, u64)> = BTreeMap::new();
        for object in objects {
            symbols.add(object, &mut commons)?;
        }
        let mut object =
            Object { name: "common symbols".to_owned(), sections: Vec::new(), symbols: Vec::new() };
        for (name, (size, align)) in commons {
            if symbols.defined.contains_key(&name) {
                continue;
            }
            let (section, mut symbol) = common(&name, size, align);
            symbol.place = Place::Section { index: object.sections.len(), offset: 0 };
            object.sections.push(section);
            object.symbols.push(symbol);
        }
        symbols.add(object, &mut BTreeMap::new())?;
        Ok(symbols)
    }

    fn add(&mut self, object: Object, commons: &mut BTreeMap<String, (u64, u64)>) -> Result<()> {
        for symbol in defines(&object) {
            let (section, offset) = match symbol.place {
                Place::Section { index, offset } => (index, offset),
                Place::Common { size, align } => {
                    let largest = commons.entry(symbol.name.clone()).or_insert((0, 1));
                    *largest = (largest.0.max(size), largest.1.max(align));
                    continue;
                }
                Place::Undefined { .. } | Place::Absolute => continue,
            };
            let new = Definition {
                object: self.objects.len(),
                section,
                offset,
                private: symbol.private,
                weak: symbol.weak,
            };
            match self.defined.get(&symbol.name) {
                Some(old) if !old.weak && !new.weak => {
                    let other = self.objects.get(old.object).map_or("itself", |other| &other.name);
                    return Err(
                        format!("{} is defined in {} and in {other}", symbol.name, object.name).into()
                    );
                }
                Some(old) if !old.weak || new.weak => {}
                _ => {
                    self.defined.insert(symbol.name.clone(), new);
                }
            }
        }
        self.objects.push(object);
        Ok(())
    }

    /// What a symbol of an object means: its definition, or none if the kernel has it.
    pub fn meaning(&self, object: usize, symbol: &Symbol) -> Result<Option<Definition>> {
        if symbol.global
            && let Some(definition) = self.defined.get(&symbol.name)
        {
            return Ok(Some(*definition));
        }
        match symbol.place {
            Place::Section { index, offset } => Ok(Some(Definition {
                object,
                section: index,
                offset,
                private: symbol.private,
                weak: symbol.weak,
            })),
            Place::Undefined { weak: false } if symbol.global => Ok(None),
            Place::Undefined { .. } => {
                Err(format!("{} may be missing, which the kernel's linker doesn't allow", symbol.name).into())
            }
            Place::Common { .. } | Place::Absolute => {
                Err(format!("{} has no place in the image", symbol.name).into())
            }
        }
    }
}
