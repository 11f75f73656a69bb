//! Inspection of the bundle: whether the kernel's linker would take the extension, and find in it what it looks for.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use object::macho;

use super::load::{Image, Kext, Section, Segment};
use super::plist::Value;
use super::{IDENTIFIER, VERSION, vtables};
use crate::cross::{Inspection, is_shell_script};
use crate::report::{Result, Tally};
use crate::tools::{root, target};

/// A symbol of the kernel that the driver may use, and the interfaces that export it.
pub struct Known {
    /// By name: what the list says of the interface.
    modules: BTreeMap<String, String>,
    /// By name: the first release of the kernel for this processor that has it, if that isn't the first one of all.
    since: BTreeMap<String, u32>,
}

/// What every class derived from the kernel's calls: constructors and destructors of the classes above it.
const CLASS_SYMBOLS: [(&str, &str); 6] = [
    ("__ZN9IOServiceC2EPK11OSMetaClass", "com.apple.kpi.iokit"),
    ("__ZN9IOServiceD2Ev", "com.apple.kpi.iokit"),
    ("__ZN12IOUserClientC2EPK11OSMetaClass", "com.apple.kpi.iokit"),
    ("__ZN12IOUserClientD2Ev", "com.apple.kpi.iokit"),
    ("__ZN8OSObjectnwEm", "com.apple.kpi.libkern"),
    ("__ZN8OSObjectdlEPvm", "com.apple.kpi.libkern"),
];

impl Known {
    /// Reads the list; what must be avoided isn't known.
    pub fn read() -> Result<Self> {
        let path = root().join("supdrv-darwin/tests/data/symbols-darwin.json");
        let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let mut modules: BTreeMap<String, String> = BTreeMap::new();
        let mut since = BTreeMap::new();
        for entry in text.split("\"symbol\": \"").skip(1) {
            let field = |name: &str| {
                let rest = entry.split_once(&format!("\"{name}\": \""))?.1;
                Some(rest.split_once('"')?.0)
            };
            let (Some((name, _)), Some(module)) = (entry.split_once('"'), field("module")) else { continue };
            if let Some(minor) = field("versions").and_then(first_release) {
                // 10.6 is release 10 of the kernel.
                since.extend(name.split(" / ").map(|name| (name.trim().to_owned(), minor + 4)));
            }
            if field("use") != Some("avoid") {
                modules.extend(name.split(" / ").map(|name| (name.trim().to_owned(), module.to_owned())));
            }
        }
        if modules.len() < 80 {
            return Err(format!("{} can't be read", path.display()).into());
        }
        modules.extend(CLASS_SYMBOLS.map(|(name, module)| (name.to_owned(), module.to_owned())));
        Ok(Self { modules, since })
    }

    /// The interface that a symbol is in.
    fn module(&self, name: &str) -> Option<&str> {
        self.modules.get(name).map(String::as_str)
    }
}

/// The first system that has a symbol which the oldest one hasn't: `10.5+: not exported; 10.MINOR+: …`.
fn first_release(versions: &str) -> Option<u32> {
    let (minor, _) = versions.split_once("not exported; 10.")?.1.split_once('+')?;
    minor.parse().ok()
}

/// The bundle, inspected.
pub fn bundle(bundle: &Path) -> Result<Tally> {
    let path = bundle.join("Contents/MacOS/VBoxDrv");
    let file = std::fs::read(&path)?;
    let kext = Kext::parse(&file)?;
    let mut inspection = Inspection::of(&path)?;
    segments(&mut inspection, &kext);
    relocations(&mut inspection, &kext)?;
    description(&mut inspection, &kext)?;
    panics(&mut inspection, &kext);
    inspection.check_instructions()?;
    let known = Known::read()?;
    imports(&mut inspection, &kext, &known)?;
    exports(&mut inspection, &kext);
    constructors(&mut inspection, &kext)?;
    vtables::check(&mut inspection, &kext)?;
    applied(&mut inspection, &kext)?;
    property_list(&mut inspection, &kext, &known, bundle)?;
    let package = target("darwin/package")?;
    inspection.check("comes with a script that a shell can read", is_shell_script(&package.join("load.sh")));
    Ok(inspection.result())
}

fn segments(inspection: &mut Inspection, kext: &Kext<'_>) {
    inspection.check(
        "is an extension of a kernel for x86-64",
        kext.kind == macho::MH_KEXT_BUNDLE && kext.cpu == macho::CPU_TYPE_X86_64,
    );
    let names: Vec<&str> = kext.segments.iter().map(|segment| segment.name.as_str()).collect();
    let aligned = |segment: &Segment| {
        [segment.address, segment.size, segment.offset].iter().all(|place| place.is_multiple_of(4096))
    };
    let follow = kext.segments.windows(2).all(|pair| match pair {
        [one, next] => one.address + one.size == next.address && one.offset + one.file_size == next.offset,
        _ => false,
    });
    inspection.check(
        &format!("has segments of whole pages, one after the other {names:?}"),
        names == ["__TEXT", "__DATA", "__LINKEDIT"] && follow && kext.segments.iter().all(aligned),
    );
    let both = macho::VM_PROT_WRITE.0 | macho::VM_PROT_EXECUTE.0;
    inspection.check(
        "has no segment that is writable and executable",
        kext.segments.iter().all(|segment| segment.protection & both != both && segment.most & both != both),
    );
    let inside = |section: &Section| {
        kext.segments.iter().any(|segment| {
            segment.name == section.segment
                && (segment.address..=segment.address + segment.size).contains(&section.address)
                && section.address + section.size <= segment.address + segment.size
        })
    };
    let names: Vec<&str> = kext.sections.iter().map(|section| section.name.as_str()).collect();
    inspection.check(
        &format!("has its sections inside its segments {names:?}"),
        kext.sections.iter().all(inside) && !names.is_empty(),
    );
    inspection.check("has an identity", kext.identity.is_some_and(|id| id != [0; 16]));
}

/// The data segment's part that is in the file.
fn data(kext: &Kext<'_>) -> Result<std::ops::Range<u64>> {
    let segment = kext.segments.iter().find(|segment| segment.name == "__DATA").ok_or("no data segment")?;
    Ok(segment.address..segment.address + segment.file_size)
}

fn relocations(inspection: &mut Inspection, kext: &Kext<'_>) -> Result<()> {
    let (image, data) = (kext.raw()?, data(kext)?);
    let writable = |at: u32| data.contains(&at.into()) && data.contains(&(u64::from(at) + 7));
    let points_right = |relocation: &macho::RelocationInfo| {
        let number = usize::try_from(relocation.r_symbolnum).ok().and_then(|number| number.checked_sub(1));
        let section = number.and_then(|number| kext.sections.get(number));
        let value = image.pointer(relocation.r_address.into());
        let inside = section.zip(value).is_some_and(|(section, value)| {
            (section.address..=section.address + section.size).contains(&value)
        });
        inside && writable(relocation.r_address) && !relocation.r_extern && relocation.r_length == 3
    };
    let wrong = kext.locals.iter().filter(|relocation| !points_right(relocation)).count();
    inspection.check(
        &format!(
            "has {} pointers into itself, in its data, each into the section that it names",
            kext.locals.len()
        ),
        wrong == 0 && kext.locals.len() > 20,
    );
    let text = kext.segments.first().map_or(0, |segment| segment.size);
    let understood = |relocation: &macho::RelocationInfo| match relocation.r_type {
        macho::X86_64_RELOC_UNSIGNED => relocation.r_length == 3 && writable(relocation.r_address),
        macho::X86_64_RELOC_BRANCH => {
            relocation.r_length == 2 && relocation.r_pcrel && u64::from(relocation.r_address) + 4 <= text
        }
        _ => false,
    };
    let foreign = kext.externals.iter().filter(|relocation| !understood(relocation)).count();
    let nameless = kext.externals.iter().filter(|relocation| kext.import(relocation).is_none()).count();
    inspection.check(
        &format!("has {} references to the kernel: calls in code, pointers in data", kext.externals.len()),
        foreign == 0 && nameless == 0 && kext.externals.len() > 500,
    );
    Ok(())
}

/// The text of a field of `kmod_info`.
fn field(image: &Image, address: u64) -> Option<String> {
    let bytes = image.bytes(address, 64)?;
    Some(String::from_utf8_lossy(bytes.split(|byte| *byte == 0).next()?).into_owned())
}

fn description(inspection: &mut Inspection, kext: &Kext<'_>) -> Result<()> {
    let places: Vec<u64> = kext
        .symbols
        .iter()
        .filter(|symbol| symbol.name == "_kmod_info")
        .filter_map(|symbol| symbol.address)
        .collect();
    let [info] = places[..] else {
        inspection.check("has exactly one kmod_info", false);
        return Ok(());
    };
    let (image, data) = (kext.raw()?, data(kext)?);
    let name = field(&image, info + 0x10);
    inspection.check(
        &format!("has one kmod_info, in its data, with its name {name:?} and version {VERSION}"),
        data.contains(&info)
            && name.as_deref() == Some(IDENTIFIER)
            && field(&image, info + 0x50).as_deref() == Some(VERSION),
    );
    let numbers = [0, 8, 0xc, 0x90, 0x94, 0x9c, 0xa4, 0xac].map(|offset| image.displacement(info + offset));
    inspection.check(
        "has the numbers in it that the kernel expects",
        numbers == [Some(0), Some(1), Some(-1), Some(-1), Some(0), Some(0), Some(0), Some(0)],
    );
    let routine = |offset: u64, name: &str| {
        let place = info + offset;
        let relocated = kext.locals.iter().any(|relocation| u64::from(relocation.r_address) == place);
        relocated && image.pointer(place).is_some() && image.pointer(place) == kext.address(name)
    };
    inspection
        .check("has its start and stop routines in it", routine(0xb4, "__start") && routine(0xbc, "__stop"));
    Ok(())
}

fn panics(inspection: &mut Inspection, kext: &Kext<'_>) {
    let names = kext.symbols.iter().map(|symbol| symbol.name.as_str());
    let panics: Vec<&str> =
        names.filter(|name| name.contains("9panicking") && !name.ends_with("panic_fmt")).collect();
    inspection.check(&format!("can't panic {panics:?}"), panics.is_empty());
    // Names of functions are left in: without them the check above would always succeed.
    let rust = kext.symbols.iter().filter(|symbol| symbol.name.contains("supdrv_core")).count();
    inspection.check(&format!("has names of {rust} functions of the core"), rust > 100);
}

fn imports(inspection: &mut Inspection, kext: &Kext<'_>, known: &Known) -> Result<()> {
    let classes = vtables::sections_of_classes(kext);
    let in_class = |address: u32| classes.iter().any(|range| range.contains(&u64::from(address)));
    // Names that are used anywhere but in the tables of the two classes.
    let mut outside = BTreeSet::new();
    for relocation in kext.externals.iter().filter(|relocation| !in_class(relocation.r_address)) {
        outside.extend(kext.import(relocation));
    }
    let strangers: Vec<&&str> = outside.iter().filter(|name| known.module(name).is_none()).collect();
    inspection.check(
        &format!("imports {} symbols in code and data, all of them on the list {strangers:?}", outside.len()),
        strangers.is_empty() && outside.len() > 20,
    );
    let inherited: Vec<&str> = kext.undefined().filter(|name| !outside.contains(name)).collect();
    let strangers: Vec<&&str> = inherited.iter().filter(|name| !vtables::is_inherited(name)).collect();
    inspection.check(
        &format!(
            "imports {} symbols in the tables of its classes, all of them functions of the classes above {strangers:?}",
            inherited.len()
        ),
        strangers.is_empty() && inherited.len() > 250,
    );
    Ok(())
}

fn exports(inspection: &mut Inspection, kext: &Kext<'_>) {
    let exported: Vec<&str> = kext
        .symbols
        .iter()
        .filter(|symbol| symbol.external && symbol.address.is_some())
        .map(|symbol| symbol.name.as_str())
        .collect();
    let unexpected: Vec<&&str> = exported.iter().filter(|name| !super::is_exported(name)).collect();
    inspection.check(
        &format!("exports {} symbols, for siblings and as classes {unexpected:?}", exported.len()),
        unexpected.is_empty(),
    );
    let needed = ["_SUPDrvDarwinIDC", "_kmod_info", "__ZTV21org_virtualbox_SupDrv"];
    inspection.check(&format!("exports {needed:?}"), needed.iter().all(|name| exported.contains(name)));
}

/// The kernel runs what these sections point to.
fn constructors(inspection: &mut Inspection, kext: &Kext<'_>) -> Result<()> {
    let image = kext.raw()?;
    let text = kext.sections.iter().find(|section| section.name == "__text").ok_or("no code")?;
    for (name, kind) in [
        ("__mod_init_func", macho::S_MOD_INIT_FUNC_POINTERS),
        ("__mod_term_func", macho::S_MOD_TERM_FUNC_POINTERS),
    ] {
        let section = kext.sections.iter().find(|section| section.name == name);
        let points_to_code = |section: &Section| {
            let places = (section.address..section.address + section.size).step_by(8);
            places.into_iter().all(|place| {
                let relocated = kext.locals.iter().any(|local| u64::from(local.r_address) == place);
                let code = text.address..text.address + text.size;
                relocated && image.pointer(place).is_some_and(|value| code.contains(&value))
            })
        };
        inspection.check(
            &format!("has one function in {name}"),
            section.is_some_and(|section| {
                section.size == 8 && section.flags.typ() == kind && points_to_code(section)
            }),
        );
    }
    Ok(())
}

/// Loads the image twice, and compares.
fn applied(inspection: &mut Inspection, kext: &Kext<'_>) -> Result<()> {
    const ONE: u64 = 0xffff_ff7f_8123_4000;
    const OTHER: u64 = ONE + 0x0abc_d000;
    let names: BTreeSet<&str> = kext.undefined().collect();
    let kernel: BTreeMap<String, u64> = names
        .iter()
        .zip((0xffff_ff80_0020_0000_u64..).step_by(16))
        .map(|(name, address)| ((*name).to_owned(), address))
        .collect();
    let (raw, one, other) = (kext.raw()?, kext.load(ONE, &kernel)?, kext.load(OTHER, &kernel)?);
    let moved = kext.locals.iter().all(|local| {
        let at = u64::from(local.r_address);
        let values = [raw.pointer(at), one.pointer(ONE + at), other.pointer(OTHER + at)];
        matches!(values, [Some(raw), Some(one), Some(other)] if one == raw + ONE && other == raw + OTHER)
    });
    inspection.check("has all its own pointers moved with it, when it is loaded", moved);
    let bound = |image: &Image, relocation: &macho::RelocationInfo| {
        let at = image.base + u64::from(relocation.r_address);
        let target = kext.import(relocation).and_then(|name| kernel.get(name)).copied();
        match relocation.r_type {
            macho::X86_64_RELOC_UNSIGNED => image.pointer(at) == target,
            _ => image.destination(at) == target,
        }
    };
    inspection.check(
        "has all its references to the kernel bound, wherever it is loaded",
        kext.externals.iter().all(|relocation| bound(&one, relocation) && bound(&other, relocation)),
    );
    // Nothing else changes.
    let mut touched = vec![false; raw.memory.len()];
    for relocation in kext.locals.iter().chain(&kext.externals) {
        let start = usize::try_from(relocation.r_address)?;
        if let Some(place) = touched.get_mut(start..start + (1 << relocation.r_length)) {
            place.fill(true);
        }
    }
    let same = |image: &Image| {
        let bytes = raw.memory.iter().zip(&image.memory).zip(&touched);
        bytes.filter(|(_, touched)| !**touched).all(|((raw, loaded), _)| raw == loaded)
    };
    inspection.check("is otherwise the same wherever it is", same(&one) && same(&other));
    Ok(())
}

fn property_list(inspection: &mut Inspection, kext: &Kext<'_>, known: &Known, bundle: &Path) -> Result<()> {
    let list = Value::parse(&std::fs::read_to_string(bundle.join("Contents/Info.plist"))?)?;
    let says = |value: &Value, entries: &[(&str, &str)]| {
        entries.iter().all(|(key, text)| value.get(key).and_then(Value::text) == Some(text))
    };
    inspection.check(
        "has a property list that says what it is",
        says(
            &list,
            &[
                ("CFBundleIdentifier", IDENTIFIER),
                ("CFBundleExecutable", "VBoxDrv"),
                ("CFBundlePackageType", "KEXT"),
                ("CFBundleVersion", VERSION),
                ("OSBundleCompatibleVersion", VERSION),
            ],
        ),
    );
    inspection.check("has a version that the system can read", is_kext_version(VERSION));
    let personalities: Vec<&Value> =
        list.get("IOKitPersonalities").into_iter().flat_map(Value::entries).map(|(_, value)| value).collect();
    let matches = personalities.len() == 1
        && personalities.iter().all(|personality| {
            says(
                personality,
                &[
                    ("CFBundleIdentifier", IDENTIFIER),
                    ("IOClass", "org_virtualbox_SupDrv"),
                    ("IOMatchCategory", "org_virtualbox_SupDrv"),
                    ("IOProviderClass", "IOResources"),
                    ("IOResourceMatch", "IOKit"),
                    ("IOUserClientClass", "org_virtualbox_SupDrvClient"),
                ],
            )
        });
    let classes = ["org_virtualbox_SupDrv", "org_virtualbox_SupDrvClient"];
    let defined = classes.iter().all(|class| kext.address(&format!("__ZTV{}{class}", class.len())).is_some());
    inspection.check("has one personality, of classes that it defines", matches && defined);
    let declared: BTreeSet<&str> =
        list.get("OSBundleLibraries").into_iter().flat_map(Value::entries).map(|(name, _)| name).collect();
    let mut needed = BTreeSet::new();
    let mut missing = Vec::new();
    for name in kext.undefined() {
        // A symbol may be in several interfaces; the first one of those that are declared serves.
        let of = known.module(name).unwrap_or(vtables::module(name));
        match declared.iter().find(|declared| of.contains(*declared)) {
            Some(declared) => needed.insert(*declared),
            None => {
                missing.push((name, of));
                true
            }
        };
    }
    inspection.check(
        &format!("declares the interfaces that have its imports, and no other {declared:?} {missing:?}"),
        missing.is_empty() && declared == needed,
    );
    let mut wanted: BTreeMap<&str, u32> = declared.iter().map(|name| (*name, 10)).collect();
    for name in kext.undefined() {
        let of = known.module(name).unwrap_or(vtables::module(name));
        let since = known.since.get(name).copied().unwrap_or(10);
        if let Some((_, oldest)) = wanted.iter_mut().find(|(declared, _)| of.contains(**declared)) {
            *oldest = since.max(*oldest);
        }
    }
    let libraries = list.get("OSBundleLibraries").into_iter().flat_map(Value::entries);
    let as_wanted = libraries.into_iter().all(|(name, version)| {
        wanted.get(name).is_some_and(|oldest| version.text() == Some(&format!("{oldest}.0.0")))
    });
    inspection.check(
        &format!("asks of the interfaces the first release that has what it imports {wanted:?}"),
        as_wanted,
    );
    Ok(())
}

/// Whether a version is of the form that the system compares: up to four digits, then up to two numbers of two digits.
fn is_kext_version(version: &str) -> bool {
    let parts: Vec<&str> = version.split('.').collect();
    let is_number = |part: &str, digits| {
        (1..=digits).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit())
    };
    matches!(parts[..], [major, ref rest @ ..] if is_number(major, 4) && rest.len() <= 2 && rest.iter().all(|part| is_number(part, 2)))
        && parts.iter().any(|part| part.bytes().any(|digit| digit != b'0'))
}

#[cfg(test)]
mod tests {
    use super::{first_release, is_kext_version};

    #[test]
    fn the_first_release_with_a_symbol_is_read_from_the_list() {
        assert_eq!(first_release("10.5+: not exported; 10.7+: com.apple.kpi.bsd"), Some(7));
        assert_eq!(first_release("10.5+: com.apple.kpi.bsd"), None);
    }

    #[test]
    fn versions_of_extensions_are_three_small_numbers() {
        assert!(["1", "0.1.0", "4.3.40", "1234.56.78"].iter().all(|version| is_kext_version(version)));
        assert!(
            ["", "0.0.0", "1.2.3.4", "1.100.0", "12345", "1.2-rc", "1..2"]
                .iter()
                .all(|v| !is_kext_version(v))
        );
    }
}
