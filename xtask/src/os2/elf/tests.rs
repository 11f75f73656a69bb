//! A compiler's object, converted and linked at some addresses, against the same object linked by its own relocations.

use std::collections::BTreeMap;

use object::RelocationFlags;

use super::*;
use crate::tools::{command, run, target};

/// Calls, tables of pointers, jumps by table, data that points to itself, zeros, constants, and names from outside of both kinds.
const SOURCE: &str = r#"
    extern int KernCall(const char *text, int *out), shell_call(void *);
    extern int KernData[4];
    static int zeros[100]; int shared = 7;
    static const char *const texts[] = { "one", "two", "three" };
    static int first(int x) { return KernCall(texts[x & 1], zeros + x); }
    int second(int x) { return shell_call(&shared) + first(x) + KernData[2]; }
    int (*const table[])(int) = { first, second };
    void *self[3] = { &self[2], zeros + 50, (char *)KernData + 5 };
    __attribute__((noinline)) int pick(int x) {
        switch (x) { case 0: return zeros[3]; case 1: return shared; case 2: return second(4); case 3: return x * 5;
                     case 4: return table[x & 1](x); case 5: return (int)self[x & 1]; case 6: return 99; }
        return pick(x - 1);
    }
"#;

pub fn compiled(name: &str, source: &str) -> Vec<u8> {
    let folder = target("os2/tests").unwrap();
    let (source_file, object) = (folder.join(format!("{name}.c")), folder.join(format!("{name}.o")));
    std::fs::write(&source_file, source).unwrap();
    let mut gcc = command("gcc", &["-m32", "-O1", "-ffreestanding", "-fno-pic", "-fno-builtin", "-w"]);
    gcc.args([
        "-fno-asynchronous-unwind-tables",
        "-fno-inline",
        "-fcf-protection=none",
        "-malign-data=abi",
        "-c",
    ]);
    run(gcc.arg(source_file).arg("-o").arg(&object)).unwrap();
    std::fs::read(object).unwrap()
}

fn kernel() -> HashMap<String, (String, u16)> {
    [("KernCall", 30), ("KernData", 91), ("KernUnused", 1)]
        .map(|(name, ordinal)| (name.to_owned(), ("KEE".to_owned(), ordinal)))
        .into()
}

const BASES: [u32; 3] = [0x1_0000, 0xfff2_0000, 0x8003_0000];

/// Where names from outside are.
fn outside(name: &str) -> u32 {
    match name.trim_start_matches('_') {
        "KernCall" => 0xffe0_1234,
        "KernData" => 0x0123_4560,
        "shell_call" => 0x0000_8001,
        other => panic!("{other} is in no library"),
    }
}

/// Links a module by its fixups.
fn linked(module: &Module) -> Vec<Vec<u8>> {
    let mut images: Vec<Vec<u8>> = module.segments.iter().map(|segment| segment.bytes.clone()).collect();
    for fixup in &module.fixups {
        assert_eq!((fixup.place, fixup.frame), (Place::Offset32, Frame::Group(0)));
        let target = match fixup.target {
            Target::Segment(index) => BASES[index],
            Target::External(index) => outside(&module.externals[index]),
            Target::Group(_) => panic!("the address of a group"),
        };
        let end = BASES[fixup.segment].wrapping_add(fixup.offset + 4);
        let field = &mut images[fixup.segment][fixup.offset as usize..][..4];
        let mut value = u32::from_le_bytes(field.try_into().unwrap()).wrapping_add(target);
        value = value.wrapping_add(fixup.displacement);
        if fixup.self_relative {
            value = value.wrapping_sub(end);
        }
        field.copy_from_slice(&value.to_le_bytes());
    }
    images
}

/// Links the object by its own relocations; its sections one after the other by kind, as the converter is said to.
fn linked_by_elf(file: &[u8]) -> Vec<Vec<u8>> {
    let elf = ElfFile32::<object::Endianness>::parse(file).unwrap();
    let mut images = vec![Vec::new(); 3];
    let mut zeros = 0_u64;
    let mut places = BTreeMap::new();
    for section in elf
        .sections()
        .filter(|section| section.elf_section_header().sh_flags(elf.endian()).contains(SHF_ALLOC))
    {
        let align = usize::try_from(section.align()).unwrap();
        let segment = match section.kind() {
            object::SectionKind::Text => 0,
            object::SectionKind::UninitializedData => {
                zeros = zeros.next_multiple_of(section.align());
                places.insert(section.index().0, (2, u32::try_from(zeros).unwrap()));
                zeros += section.size();
                continue;
            }
            _ => 1,
        };
        let image: &mut Vec<u8> = &mut images[segment];
        image.resize(image.len().next_multiple_of(align), 0);
        places.insert(section.index().0, (segment, u32::try_from(image.len()).unwrap()));
        image.extend(section.data().unwrap());
    }
    let address = |index: usize| BASES[places[&index].0].wrapping_add(places[&index].1);
    for section in elf.sections().filter(|section| places.contains_key(&section.index().0)) {
        let (segment, start) = places[&section.index().0];
        for (offset, relocation) in section.relocations() {
            let RelocationTarget::Symbol(symbol) = relocation.target() else { panic!("no symbol") };
            let symbol = elf.symbol_by_index(symbol).unwrap();
            let value = match symbol.section_index() {
                Some(section) => address(section.0).wrapping_add(u32::try_from(symbol.address()).unwrap()),
                None => outside(symbol.name().unwrap()),
            };
            let here = start + u32::try_from(offset).unwrap();
            let field = &mut images[segment][here as usize..][..4];
            let mut sum = u32::from_le_bytes(field.try_into().unwrap()).wrapping_add(value);
            let RelocationFlags::Elf { r_type } = relocation.flags() else { panic!("not ELF") };
            if r_type == R_386_PC32 || r_type == R_386_PLT32 {
                sum = sum.wrapping_sub(BASES[segment].wrapping_add(here));
            } else {
                assert_eq!(r_type, R_386_32);
            }
            field.copy_from_slice(&sum.to_le_bytes());
        }
    }
    images
}

#[test]
fn fixups_give_what_the_relocations_give() {
    let object = compiled("both", SOURCE);
    let converted = convert("both", &object, &kernel()).unwrap();
    let read_back = Module::parse(&converted.to_bytes().unwrap()).unwrap();
    assert_eq!(read_back, converted);
    let relative = converted.fixups.iter().filter(|fixup| fixup.self_relative).count();
    let to_zeros = converted.fixups.iter().filter(|fixup| fixup.target == Target::Segment(ZEROS)).count();
    assert!(relative >= 3 && to_zeros >= 3 && converted.fixups.len() >= 20, "{:#?}", converted.fixups);
    assert_eq!(linked(&read_back), linked_by_elf(&object));
}

#[test]
fn names_of_c_get_an_underscore_and_names_of_the_kernel_an_ordinal() {
    let module = convert("names", &compiled("names", SOURCE), &kernel()).unwrap();
    let mut publics: Vec<&str> = module.publics.iter().map(|public| public.name.as_str()).collect();
    publics.sort_unstable();
    assert_eq!(publics, ["_pick", "_second", "_self", "_shared", "_table"]);
    let mut externals = module.externals.clone();
    externals.sort_unstable();
    assert_eq!(externals, ["KernCall", "KernData", "_shell_call"]);
    let mut imports: Vec<(&str, u16)> =
        module.imports.iter().map(|import| (import.name.as_str(), import.ordinal)).collect();
    imports.sort_unstable();
    assert_eq!(imports, [("KernCall", 30), ("KernData", 91)]);
}

#[test]
fn there_are_three_flat_segments_and_zeros_take_no_room_in_the_file() {
    let module = convert("segments", &compiled("segments", SOURCE), &kernel()).unwrap();
    let names: Vec<_> = module.segments.iter().map(|one| (one.name.as_str(), one.class.as_str())).collect();
    assert_eq!(names, SEGMENTS);
    assert!(module.segments.iter().all(|segment| segment.use32 && segment.size > 0));
    assert!(module.segments[ZEROS].bytes.is_empty() && module.segments[ZEROS].size >= 400);
    assert_eq!(module.groups, [Group { name: FLAT.into(), segments: Vec::new() }]);
}

#[test]
fn what_is_not_an_object_for_i386_is_refused() {
    let refused = |file: &[u8]| convert("x", file, &kernel()).unwrap_err().to_string();
    assert!(!refused(b"").is_empty());
    assert!(!refused(b"\x7fELF").is_empty());
    let mut other = compiled("other", SOURCE);
    other[18] = 0x28;
    assert!(refused(&other).contains("i386"));
    other[18] = 3;
    other[16] = 2;
    assert!(refused(&other).contains("relocatable"));
}

#[test]
fn what_a_segment_cannot_hold_is_refused() {
    let refused = |name, source| convert(name, &compiled(name, source), &kernel()).unwrap_err().to_string();
    let aligned = "__attribute__((aligned(64))) int wide = 1;";
    assert!(refused("aligned", aligned).contains("aligned to 64"));
    assert!(refused("large", "char large[17 << 20];").contains("too large"));
    let odd = "__attribute__((section(\".init_array\"))) void *start = &start;";
    assert!(refused("odd", odd).contains("type"));
    // A 16-bit relocation.
    assert!(refused("word", "int x; __asm__(\".data\\n.word x\\n\");").contains("relocation of type 20"));
}

#[test]
fn a_cut_file_is_refused_and_a_changed_one_does_no_harm() {
    let object = compiled("hostile", SOURCE);
    for length in 0..object.len() {
        assert!(convert("cut", &object[..length], &kernel()).is_err(), "cut to {length} bytes");
    }
    for place in 0..object.len() {
        for value in [0, 1, 0x7f, 0xff] {
            let mut changed = object.clone();
            changed[place] = value;
            if let Ok(module) = convert("changed", &changed, &kernel()) {
                let _ = module.to_bytes();
            }
        }
    }
}
