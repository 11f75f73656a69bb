//! The tables of virtual functions of the driver's classes, as the kernel's linker reads and completes them.
//!
//! That linker finds each class by the pointer to the class above (`superClass`), then the two tables of the class by name: its own, and that
//! of its MetaClass. It reads a table from its third word on until a word that is neither filled nor relocated. Every slot that holds
//! a function of the kernel is replaced by what the running kernel has in that slot of the class above; so only the number of slots and the
//! places of our own functions have to be right. The numbers here are those of 64-bit kernels from 10.6 on. They have been compared with
//! what is known of the tables of later kernels: 272 slots of `IOService` on arm64, where there are six more reserved ones.

use std::collections::BTreeMap;
use std::ops::Range;

use super::load::{Image, Kext};
use crate::cross::Inspection;
use crate::report::Result;

/// A class of the driver's: what it fills itself of the table that it inherits.
struct Class {
    name: &'static str,
    super_name: &'static str,
    slots: usize,
    /// By slot: how the mangled name goes on after the class.
    own: &'static [(usize, &'static str)],
}

const CLASSES: [Class; 2] = [
    Class {
        name: "org_virtualbox_SupDrv",
        super_name: "IOService",
        slots: 266,
        own: &[
            (0, "D1Ev"),
            (1, "D0Ev"),
            (7, "12getMetaClassEv"),
            (184, "5startEP9IOService"),
            (192, "9terminateEj"),
        ],
    },
    Class {
        name: "org_virtualbox_SupDrvClient",
        super_name: "IOUserClient",
        slots: 300,
        own: &[
            (0, "D1Ev"),
            (1, "D0Ev"),
            (7, "12getMetaClassEv"),
            (18, "4freeEv"),
            (184, "5startEP9IOService"),
            (285, "12initWithTaskEP4taskPvj"),
            (286, "11clientCloseEv"),
        ],
    },
];

const META_SLOTS: usize = 26;
const META_OWN: &[(usize, &str)] = &[(0, "D1Ev"), (1, "D0Ev"), (17, "5allocEv")];

/// Classes that ours inherit from, as they are mangled.
const ABOVE: [&str; 6] =
    ["11OSMetaClass", "15OSMetaClassBase", "8OSObject", "15IORegistryEntry", "9IOService", "12IOUserClient"];

/// Whether a name is a function of one of the classes above, or its MetaClass.
pub fn is_inherited(name: &str) -> bool {
    let rest = name.strip_prefix("__ZNK").or_else(|| name.strip_prefix("__ZN"));
    let rest = rest.and_then(|rest| ABOVE.iter().find_map(|class| rest.strip_prefix(class)));
    rest.is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
}

/// The interface that has a function of one of the classes above.
pub fn module(name: &str) -> &'static str {
    let of_runtime = ABOVE.iter().take(3).any(|class| {
        name.strip_prefix("__ZNK").or_else(|| name.strip_prefix("__ZN")).is_some_and(|n| n.starts_with(class))
    });
    match (is_inherited(name), of_runtime) {
        (true, true) => "com.apple.kpi.libkern",
        (true, false) => "com.apple.kpi.iokit",
        (false, _) => "unknown",
    }
}

impl Class {
    fn mangled(&self) -> String {
        format!("{}{}", self.name.len(), self.name)
    }

    fn table(&self) -> String {
        format!("__ZTV{}", self.mangled())
    }

    fn meta_table(&self) -> String {
        format!("__ZTVN{}9MetaClassE", self.mangled())
    }

    fn super_pointer(&self) -> String {
        format!("__ZN{}10superClassE", self.mangled())
    }
}

/// Where the tables and the pointers to the classes above are: there, and only there, functions of the kernel may be named that aren't
/// on the list.
pub fn sections_of_classes(kext: &Kext<'_>) -> Vec<Range<u64>> {
    let mut ranges = Vec::new();
    for class in &CLASSES {
        let tables = [(class.table(), class.slots + 3), (class.meta_table(), META_SLOTS + 3)];
        for (name, words) in tables.into_iter().chain([(class.super_pointer(), 1)]) {
            if let Some(start) = kext.address(&name) {
                ranges.push(start..start + 8 * words as u64);
            }
        }
    }
    ranges
}

/// What a slot holds.
#[derive(Debug, PartialEq, Eq)]
enum Slot<'a> {
    Own(&'a str),
    Kernel(&'a str),
}

/// Names that are looked up as the kernel's linker does.
struct Names<'a> {
    image: Image,
    imports: BTreeMap<u64, &'a str>,
    functions: BTreeMap<u64, Vec<&'a str>>,
}

impl<'a> Names<'a> {
    fn of(kext: &'a Kext<'a>) -> Result<Self> {
        let mut imports = BTreeMap::new();
        for relocation in &kext.externals {
            if let Some(name) = kext.import(relocation) {
                imports.insert(u64::from(relocation.r_address), name);
            }
        }
        let mut functions: BTreeMap<u64, Vec<&str>> = BTreeMap::new();
        for symbol in kext.symbols.iter().filter(|symbol| symbol.name.starts_with("__Z")) {
            if let Some(address) = symbol.address {
                functions.entry(address).or_default().push(&symbol.name);
            }
        }
        Ok(Self { image: kext.raw()?, imports, functions })
    }

    /// The slots of a table: up to the first word that is neither filled nor relocated.
    fn slots(&self, table: u64, own: &str) -> Vec<Slot<'a>> {
        let mut slots = Vec::new();
        let mut place = table + 16;
        loop {
            let value = self.image.pointer(place).unwrap_or(0);
            let slot = match (value, self.imports.get(&place)) {
                (0, None) => return slots,
                (0, Some(name)) => Slot::Kernel(name),
                (address, _) => {
                    let names = self.functions.get(&address).map_or(&[][..], Vec::as_slice);
                    // Functions with the same code may share it.
                    Slot::Own(names.iter().find(|name| name.contains(own)).copied().unwrap_or("unknown"))
                }
            };
            slots.push(slot);
            place += 8;
        }
    }
}

/// How a method is called, whoever implements it: the mangled name after the class.
fn method<'a>(slot: &Slot<'a>) -> &'a str {
    let (Slot::Own(name) | Slot::Kernel(name)) = slot;
    let rest = name.trim_start_matches("__ZNK").trim_start_matches("__ZN");
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(0);
    let (length, rest) = rest.split_at(digits);
    length.parse().ok().and_then(|length: usize| rest.get(length..)).unwrap_or("")
}

fn check_own(slots: &[Slot<'_>], class: &str, own: &[(usize, &str)]) -> bool {
    slots.iter().enumerate().all(|(number, slot)| {
        let expected = own.iter().find(|(place, _)| *place == number).map(|(_, method)| method);
        match (slot, expected) {
            (Slot::Own(name), Some(method)) => {
                [format!("__ZN{class}{method}"), format!("__ZNK{class}{method}")].iter().any(|n| n == name)
            }
            (Slot::Kernel(name), None) => is_inherited(name),
            _ => false,
        }
    })
}

/// Checks the tables of all classes.
pub fn check(inspection: &mut Inspection, kext: &Kext<'_>) -> Result<()> {
    let names = Names::of(kext)?;
    let found: Vec<&str> = kext
        .symbols
        .iter()
        .filter(|symbol| symbol.address.is_some() && symbol.name.ends_with("10superClassE"))
        .map(|symbol| symbol.name.as_str())
        .collect();
    inspection.check(
        &format!("has two classes, which the kernel's linker finds by {found:?}"),
        found.len() == CLASSES.len()
            && CLASSES.iter().all(|class| found.contains(&class.super_pointer().as_str())),
    );
    let mut tables = Vec::new();
    for class in &CLASSES {
        let pointer = kext.address(&class.super_pointer()).and_then(|place| names.imports.get(&place));
        let expected = format!("__ZN{}{}10gMetaClassE", class.super_name.len(), class.super_name);
        inspection.check(
            &format!("has {} below {}", class.name, class.super_name),
            pointer.copied() == Some(expected.as_str()),
        );
        let mangled = class.mangled();
        let slots =
            kext.address(&class.table()).map(|table| names.slots(table, &mangled)).unwrap_or_default();
        inspection.check(
            &format!("has a table of {} slots for {}, of {}", slots.len(), class.name, class.slots),
            slots.len() == class.slots,
        );
        inspection.check(
            &format!("fills {:?} of them itself, and leaves the others to the kernel", class.own),
            check_own(&slots, &mangled, class.own),
        );
        let meta =
            kext.address(&class.meta_table()).map(|table| names.slots(table, &mangled)).unwrap_or_default();
        let meta_class = format!("{mangled}9MetaClass");
        inspection.check(
            &format!("has a table of {} slots for its MetaClass", meta.len()),
            meta.len() == META_SLOTS && check_own(&meta, &meta_class, META_OWN),
        );
        tables.push(slots);
    }
    let [service, client] = &tables[..] else { return Ok(()) };
    let differ = service.iter().zip(client).position(|(one, other)| method(one) != method(other));
    inspection.check(
        &format!("has the same methods in the slots that both classes inherit from IOService {differ:?}"),
        differ.is_none() && !service.is_empty(),
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Slot, is_inherited, method, module};

    #[test]
    fn functions_of_classes_above_are_told_from_others() {
        assert!(is_inherited("__ZN9IOService5startEPS_"));
        assert!(is_inherited("__ZNK8OSObject6retainEv"));
        assert!(is_inherited("__ZN12IOUserClient10gMetaClassE"));
        assert!(!is_inherited("__ZN9IOServiceC2EPK11OSMetaClass"), "not in tables");
        assert!(!is_inherited("__ZN10IOWorkLoop4initEv"));
        assert!(!is_inherited("_IOSleep"));
        assert_eq!(module("__ZNK8OSObject6retainEv"), "com.apple.kpi.libkern");
        assert_eq!(module("__ZN9IOService5startEPS_"), "com.apple.kpi.iokit");
    }

    #[test]
    fn methods_are_compared_without_their_class() {
        let (one, other) = (Slot::Kernel("__ZNK8OSObject6retainEv"), Slot::Own("__ZNK3Own6retainEv"));
        assert_eq!(method(&one), "6retainEv");
        assert_eq!(method(&one), method(&other));
    }
}
