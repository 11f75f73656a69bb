//! The driver's shell and a compiler's object, linked, loaded at several places, and compared with what their own fixups say.

use std::collections::HashMap;

use super::super::elf::{convert, tests::compiled};
use super::super::link::link;
use super::super::omf::{FLAT, Frame, Module, Target};
use super::super::symbols::Symbols;
use super::super::{assemble, read};
use super::*;
use crate::tools::target;

/// Stands for the Rust half: it has what the shell calls, calls what the shell has, and is longer than a page.
const OTHER_HALF: &str = r#"
    extern char KernSISData[64], KernKEEVersion[1];
    extern int KernVMFree(void *), KernBlock(unsigned, unsigned, unsigned, void *, void *);
    extern int supdrv_devhlp_yield(void), supdrv_devhlp_vm_free(void *), supdrv_devhlp_set_timer(int);
    static int zeros[3000]; int counter = 5;
    int supdrv_os2_init(const char *a, char *m, unsigned n) { counter = (int)KernKEEVersion; return zeros[n]; }
    int supdrv_os2_strategy(void *packet) { return KernVMFree(packet) + KernSISData[4] + supdrv_devhlp_vm_free(zeros); }
    void supdrv_os2_tick(void) { zeros[7]++; supdrv_devhlp_yield(); }
    int supdrv_os2_idc(int code, void *packet) { return KernBlock(code, 1, 2, packet, &counter) + supdrv_devhlp_set_timer(0); }
    struct __attribute__((packed)) { char odd; void *pointers[2500]; } table = { 1, { [0 ... 2499] = zeros + 9 } };
    void *last = supdrv_os2_tick;
"#;

fn halves(name: &str) -> [Module; 2] {
    let folder = target(&format!("os2/tests/{name}")).unwrap();
    let shell = Module::parse(&read(&assemble(&folder).unwrap()).unwrap()).unwrap();
    let kernel = Symbols::read().unwrap().kernel_imports();
    [shell, convert("other", &compiled(name, OTHER_HALF), &kernel).unwrap()]
}

const NAMES: Names<'_> = Names { module: "VBOXDRV", description: "@#supdrv:1#@ test" };

/// As the loader of OS/2 has them: the flat selectors, and one for each 16-bit object.
const FLAT_CODE: u16 = 0x170;
const FLAT_DATA: u16 = 0x168;

fn alias(object: usize) -> u16 {
    0x400 + 8 * u16::try_from(object).unwrap()
}

/// Where the kernel has an imported function: flat, and 16:16.
fn imported(library: &str, ordinal: u16) -> (u32, u16, u16) {
    let salt = u32::try_from(library.len()).unwrap();
    (0xfff0_0000 + salt * 0x1_0000 + u32::from(ordinal) * 16, 0x900 + ordinal * 8, ordinal * 3)
}

fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().unwrap())
}

fn dword(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

struct Loaded {
    flags: Vec<u32>,
    memory: Vec<Vec<u8>>,
    fixups: usize,
}

/// A loader: it knows the file only.
fn load(file: &[u8], bases: &[u32]) -> Loaded {
    let start = dword(file, 0x3c) as usize;
    let lx = &file[start..];
    assert_eq!(&lx[..2], b"LX");
    assert_eq!((dword(lx, 0x28), dword(lx, 0x10)), (4096, 0x2_0000));
    let at = |field: usize| dword(lx, field) as usize;
    let objects: Vec<&[u8]> = (0..at(0x44)).map(|number| &lx[at(0x40) + number * 24..][..24]).collect();
    assert_eq!(objects.len(), bases.len());
    let mut loaded = Loaded { flags: Vec::new(), memory: Vec::new(), fixups: 0 };
    for object in &objects {
        let mut memory = Vec::new();
        for page in 0..dword(object, 16) {
            let entry = &lx[at(0x48) + (dword(object, 12) + page - 1) as usize * 8..][..8];
            assert_eq!(word(entry, 6), 0, "a page of the file");
            let data = at(0x80) + ((dword(entry, 0) as usize) << at(0x2c));
            memory.resize(page as usize * 4096, 0);
            memory.extend(&file[data..data + usize::from(word(entry, 4))]);
        }
        assert!(memory.len() <= dword(object, 0) as usize);
        memory.resize(dword(object, 0) as usize, 0);
        loaded.memory.push(memory);
        loaded.flags.push(dword(object, 8));
    }
    let mut libraries = Vec::new();
    let mut rest = &lx[at(0x70)..];
    for _ in 0..at(0x74) {
        let (name, after) = rest[1..].split_at(usize::from(rest[0]));
        libraries.push(String::from_utf8(name.to_vec()).unwrap());
        rest = after;
    }
    for (number, object) in objects.iter().enumerate() {
        for page in 0..dword(object, 16) as usize {
            let index = at(0x68) + (dword(object, 12) as usize + page - 1) * 4;
            let mut records = &lx[at(0x6c)..][dword(lx, index) as usize..dword(lx, index + 4) as usize];
            while !records.is_empty() {
                records = loaded.fix(number, page, records, bases, &libraries);
                loaded.fixups += 1;
            }
        }
    }
    loaded
}

impl Loaded {
    /// Applies the first fixup; returns the others.
    fn fix<'a>(
        &mut self,
        object: usize,
        page: usize,
        record: &'a [u8],
        bases: &[u32],
        libraries: &[String],
    ) -> &'a [u8] {
        let (source, flags) = (record[0], record[1]);
        let within = i32::from(word(record, 2).cast_signed());
        let place = i32::try_from(page * 4096).unwrap() + within;
        assert_eq!(flags & 0xc0, 0);
        let (flat, selector, offset, used) = if flags & 3 == 0 {
            let target = usize::from(record[4]) - 1;
            let has_offset = source & 0xf != 2;
            let (offset, used) = match flags & 0x10 {
                _ if !has_offset => (0, 5),
                0 => (u32::from(word(record, 5)), 7),
                _ => (dword(record, 5), 9),
            };
            let is_16_bit = self.flags[target] & 0x2000 == 0;
            assert_eq!(is_16_bit, self.flags[target] & 0x1000 != 0);
            // Offsets alone are flat, even in 16-bit objects.
            assert!(source & 0x10 == 0 || is_16_bit);
            let selector = match (source & 0x10, self.flags[target] & 4) {
                (0x10, _) => alias(target),
                (_, 0) => FLAT_DATA,
                _ => FLAT_CODE,
            };
            (bases[target].wrapping_add(offset), selector, offset, used)
        } else {
            assert_eq!(flags & 3, 1);
            let (flat, selector, offset) = imported(&libraries[usize::from(record[4]) - 1], word(record, 5));
            assert_eq!(source & 0x10 != 0, source & 0xf == 3, "16:16 pointers have the flag, others don't");
            match flags & 0x24 {
                0 => (flat, selector, u32::from(offset), 7),
                _ => (flat.wrapping_add(dword(record, 7)), selector, u32::from(offset), 11),
            }
        };
        let here = bases[object].wrapping_add_signed(place);
        let value = match source & 0xf {
            2 => selector.to_le_bytes().to_vec(),
            3 => [u16::try_from(offset).unwrap().to_le_bytes(), selector.to_le_bytes()].concat(),
            6 => [&flat.to_le_bytes()[..], &selector.to_le_bytes()].concat(),
            7 => flat.to_le_bytes().to_vec(),
            8 => flat.wrapping_sub(here + 4).to_le_bytes().to_vec(),
            other => panic!("a fixup of type {other}"),
        };
        // Each page's list is for that page's bytes.
        for (number, byte) in value.iter().enumerate() {
            let at = usize::try_from(place).map_or_else(
                |_| (page * 4096 + number).checked_add_signed(within as isize),
                |place| Some(place + number),
            );
            match at {
                Some(at) if at / 4096 == page => self.memory[object][at] = *byte,
                _ => {}
            }
        }
        &record[used..]
    }
}

/// The objects of the driver, and what is in each.
const OBJECTS: [&[&str]; 4] =
    [&["DATA16", "DATA16_INIT"], &["CODE16", "CODE16_INIT"], &["CODE32"], &["DATA32", "BSS32"]];

/// What memory must look like: from the modules and their fixups alone.
fn expected(modules: &[Module], bases: &[u32]) -> Vec<Vec<u8>> {
    let mut memory: Vec<Vec<u8>> = vec![Vec::new(); OBJECTS.len()];
    let mut places = HashMap::new();
    for (object, names) in OBJECTS.iter().enumerate() {
        for name in *names {
            for (number, module) in modules.iter().enumerate() {
                let Some(index) = module.segment(name) else { continue };
                let segment = &module.segments[index];
                let start = memory[object].len().next_multiple_of(segment.align as usize);
                memory[object].resize(start + segment.size as usize, 0);
                memory[object][start..start + segment.bytes.len()].copy_from_slice(&segment.bytes);
                places.insert((number, index), (object, u32::try_from(start).unwrap()));
            }
        }
    }
    for (number, module) in modules.iter().enumerate() {
        for fixup in &module.fixups {
            let (object, start) = places[&(number, fixup.segment)];
            let at = (start + fixup.offset) as usize;
            let external = |name: &str| {
                modules.iter().enumerate().find_map(|(number, module)| {
                    let public = module.publics.iter().find(|public| public.name == name)?;
                    let (object, start) = places[&(number, public.segment)];
                    Some((object, start + public.offset))
                })
            };
            let target = match fixup.target {
                Target::Segment(index) => Some(places[&(number, index)]),
                Target::Group(index) => Some((places[&(number, module.groups[index].segments[0])].0, 0)),
                Target::External(index) => external(&module.externals[index]),
            };
            let (flat, selector, offset) = match (target, fixup.target) {
                (Some((target, offset)), _) => {
                    let selector = [alias(0), alias(1), FLAT_CODE, FLAT_DATA][target];
                    (bases[target].wrapping_add(offset), selector, offset)
                }
                (None, Target::External(index)) => {
                    let import = module.imports.iter().find(|import| import.name == module.externals[index]);
                    let import = import.unwrap();
                    let (flat, selector, offset) = imported(&import.library, import.ordinal);
                    (flat, selector, u32::from(offset))
                }
                _ => panic!("a target that is nowhere"),
            };
            let is_flat = matches!(fixup.frame, Frame::Group(group) if module.groups[group].name == FLAT);
            let field = &mut memory[object][at..];
            match (fixup.place, fixup.self_relative) {
                (Place::Selector, false) => field[..2].copy_from_slice(&selector.to_le_bytes()),
                (Place::Offset16, false) => {
                    assert!(!is_flat);
                    let value = word(field, 0).wrapping_add(u16::try_from(offset).unwrap());
                    field[..2].copy_from_slice(&value.to_le_bytes());
                }
                (Place::Offset16, true) => {
                    let end = u16::try_from(at + 2).unwrap();
                    let value = word(field, 0).wrapping_add(u16::try_from(offset).unwrap()).wrapping_sub(end);
                    field[..2].copy_from_slice(&value.to_le_bytes());
                }
                (Place::Offset32, relative) => {
                    let end = bases[object].wrapping_add(u32::try_from(at).unwrap() + 4);
                    let value =
                        dword(field, 0).wrapping_add(flat).wrapping_sub(if relative { end } else { 0 });
                    field[..4].copy_from_slice(&value.to_le_bytes());
                }
                other => panic!("the assembler doesn't write {other:?}"),
            }
        }
    }
    memory
}

#[test]
fn a_loaded_driver_is_what_its_modules_say_wherever_it_is() {
    let modules = halves("loaded");
    let image = link(&modules).unwrap();
    let file = write(&image, &NAMES).unwrap();
    for bases in [
        [0x1_0000, 0x2_0000, 0x3_0000, 0x4_0000],
        [0xff20_0000, 0xff81_0000, 0xffc0_0000, 0xf900_0000],
        [0x8000_0000, 0x7fff_0000, 0x1000, 0xfff0_0000],
    ] {
        let loaded = load(&file, &bases);
        let expected = expected(&modules, &bases);
        for (object, names) in OBJECTS.iter().enumerate() {
            assert_eq!(loaded.memory[object].len(), expected[object].len(), "{names:?}");
            let differs =
                loaded.memory[object].iter().zip(&expected[object]).position(|(one, other)| one != other);
            assert_eq!(differs, None, "{names:?} at {:x?}", bases[object]);
        }
        assert!(loaded.fixups > 2500);
    }
}

#[test]
fn a_reference_across_pages_is_in_the_lists_of_both() {
    let image = link(&halves("across")).unwrap();
    let across = image
        .references
        .iter()
        .filter(|one| one.offset / PAGE != (one.offset + one.place.bytes() - 1) / PAGE);
    let across = across.count();
    assert!(across >= 2, "the table of pointers lies odd");
    let file = write(&image, &NAMES).unwrap();
    let loaded = load(&file, &[BASE, 2 * BASE, 3 * BASE, 4 * BASE]);
    assert_eq!(loaded.fixups, image.references.len() + across);
}

#[test]
fn objects_have_the_rights_and_widths_of_their_segments() {
    let file = write(&link(&halves("rights")).unwrap(), &NAMES).unwrap();
    let loaded = load(&file, &[BASE, 2 * BASE, 3 * BASE, 4 * BASE]);
    // Preloaded; 16-bit ones with selectors: data that can be written, code that can be read and run.
    assert_eq!(loaded.flags, [0x1043, 0x1045, 0x2045, 0x2043]);
}

#[test]
fn only_what_depends_on_the_loader_is_left_to_it() {
    let image = link(&halves("left")).unwrap();
    for reference in &image.references {
        let same_object =
            matches!(reference.to, Destination::Internal { object, .. } if object == reference.object);
        assert!(!(reference.self_relative && same_object), "{reference:?}");
        assert_ne!(reference.place, Place::Offset16);
    }
    let far: Vec<&Reference> = image.references.iter().filter(|one| one.place == Place::Far16).collect();
    let to_imports = far.iter().filter(|one| matches!(one.to, Destination::Import { .. })).count();
    assert_eq!(to_imports, 3, "DosOpen, DosClose, DosWrite");
    assert!(image.references.iter().any(|one| one.place == Place::Far32));
}

#[test]
fn the_module_has_a_name_and_a_description() {
    let file = write(&link(&halves("names")).unwrap(), &NAMES).unwrap();
    let lx = &file[dword(&file, 0x3c) as usize..];
    let resident = &lx[dword(lx, 0x58) as usize..];
    assert_eq!(&resident[..11], b"\x07VBOXDRV\0\0\0");
    let description = &file[dword(lx, 0x88) as usize..];
    assert_eq!(description.len(), dword(lx, 0x8c) as usize);
    assert_eq!(description, b"\x11@#supdrv:1#@ test\0\0\0");
}

#[test]
fn what_cannot_be_linked_is_refused() {
    let refused = |name: &str, change: fn(&mut [Module; 2])| {
        let mut modules = halves(name);
        change(&mut modules);
        let image = match link(&modules) {
            Ok(image) => image,
            Err(error) => return error.to_string(),
        };
        write(&image, &NAMES).unwrap_err().to_string()
    };
    let nowhere = refused("nowhere", |modules| modules[1].publics.clear());
    assert!(nowhere.contains("_supdrv_os2_") && nowhere.contains("nowhere"), "{nowhere}");
    assert!(refused("twice", |modules| modules[0] = modules[1].clone()).contains("twice"));
    assert!(refused("large", |modules| modules[0].segments[0].size = 0x1_0000).contains("64 KiB"));
    assert!(refused("kinds", |modules| modules[1].segments[0].use32 = false).contains("different kinds"));
    let selector = |modules: &mut [Module; 2]| {
        let fixup = modules[0].fixups.iter().find(|fixup| fixup.place == Place::Selector).unwrap();
        modules[0].segments[fixup.segment].bytes[fixup.offset as usize] = 1;
    };
    assert!(refused("selector", selector).contains("selector"));
    let far = |modules: &mut [Module; 2]| {
        let code = modules[0].segment("CODE32").unwrap();
        let flat = modules[0].fixups.iter_mut().find(|it| it.target == Target::Segment(code)).unwrap();
        flat.place = Place::Far16;
    };
    assert!(refused("far", far).contains("wrong size"));
}
