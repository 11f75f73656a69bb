use object::macho;

use super::builder::{Builder, GLOBAL, LOCAL, To};
use super::{BASE, Loaded, info, link_all};
use crate::darwin::load::Kext;

fn sample() -> Builder {
    let mut object = Builder::new();
    let text = object.text(&[0xe8, 0, 0, 0, 0, 0xc3]);
    object.global("_exported_function", text, 0);
    object.global("_internal", text, 5);
    object.symbol("_hidden", LOCAL, text, 5);
    object.symbol("ltmp0", LOCAL, text, 0);
    object.symbol("_exported_but_private", GLOBAL | macho::N_PEXT.0, text, 5);
    object.relative(text, 1, macho::X86_64_RELOC_BRANCH, To::Name("_printf"));
    let data = object.data(&[0; 16]);
    object.global("_exported_table", data, 0);
    object.absolute(data, 0, macho::X86_64_RELOC_UNSIGNED, To::Name("_internal"));
    object.absolute(data, 8, macho::X86_64_RELOC_UNSIGNED, To::Name("_enodev"));
    let zeros = object.zero_filled("__bss", 100_000);
    object.global("_zeros", zeros, 0);
    object
}

/// An archive as `ar` makes it.
fn archive(members: &[&Builder]) -> Vec<u8> {
    let mut file = b"!<arch>\n".to_vec();
    for (index, member) in members.iter().enumerate() {
        let bytes = member.build();
        file.extend(
            format!(
                "{:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n",
                format!("m{index}.o/"),
                0,
                0,
                0,
                644,
                bytes.len()
            )
            .bytes(),
        );
        file.extend(&bytes);
        file.resize(file.len().next_multiple_of(2), b'\n');
    }
    file
}

#[test]
fn the_image_is_an_extension_of_whole_pages() {
    let loaded = Loaded::of(&[&sample()], &[("_printf", BASE), ("_enodev", BASE)]);
    let kext = loaded.kext();
    assert_eq!((kext.kind, kext.cpu), (macho::MH_KEXT_BUNDLE, macho::CPU_TYPE_X86_64));
    let names: Vec<&str> = kext.segments.iter().map(|segment| segment.name.as_str()).collect();
    assert_eq!(names, ["__TEXT", "__DATA", "__LINKEDIT"]);
    let mut end = 0;
    for segment in &kext.segments {
        assert_eq!(segment.address, end, "segments follow each other");
        assert_eq!(segment.size % 4096, 0);
        assert_eq!(segment.offset % 4096, 0);
        assert!(segment.protection & 6 != 6, "nothing is writable and executable");
        assert_eq!(segment.protection, segment.most);
        end += segment.size;
    }
    let last = &kext.segments[2];
    assert_eq!(last.offset + last.file_size, loaded.file.len() as u64);
    assert!(kext.segments[1].file_size < 100_000, "zeros aren't in the file");
    assert_eq!(loaded.pointer("_zeros", 99_992), 0);
    let mut end = 0;
    for section in &kext.sections {
        assert!(section.address >= end, "sections don't overlap");
        let zero_filled = section.flags.typ() == macho::S_ZEROFILL;
        assert_eq!(zero_filled, section.segment == "__DATA" && section.name == "__bss");
        end = section.address + section.size;
    }
}

#[test]
fn only_what_may_be_seen_is_exported_but_names_stay() {
    let loaded = Loaded::of(&[&sample()], &[("_printf", BASE), ("_enodev", BASE)]);
    let kext = loaded.kext();
    let names = |external| {
        let defined = kext.symbols.iter().filter(|s| s.address.is_some() && s.external == external);
        defined.map(|symbol| symbol.name.as_str()).collect::<Vec<_>>()
    };
    assert_eq!(names(true), ["_exported_function", "_exported_table", "_kmod_info"]);
    let mut locals = names(false);
    locals.sort_unstable();
    assert_eq!(locals, ["_exported_but_private", "_hidden", "_internal", "_zeros"]);
    assert_eq!(kext.undefined().collect::<Vec<_>>(), ["_enodev", "_printf"]);
}

#[test]
fn the_same_input_gives_the_same_bytes_and_other_content_another_identity() {
    let (one, again) = (link_all(&[&sample()], &[]).unwrap(), link_all(&[&sample()], &[]).unwrap());
    assert_eq!(one, again);
    let mut changed = sample();
    changed.sections[0].set(5, &[0x90]);
    let changed = link_all(&[&changed], &[]).unwrap();
    let identity = |file: &[u8]| Kext::parse(file).unwrap().identity.unwrap();
    assert_ne!(identity(&one), identity(&changed));
    assert_eq!((identity(&one)[6] >> 4, identity(&one)[8] >> 6), (8, 2), "a UUID of its own scheme");
}

#[test]
fn sections_of_one_name_are_joined_with_their_alignment() {
    let objects = [("_a", 0_u32), ("_b", 3), ("_c", 6)].map(|(name, align)| {
        let mut object = Builder::new();
        let section = object.section("__DATA", "__const", &[align as u8; 5]);
        object.sections[0].align = align;
        object.global(name, section, 0);
        object
    });
    let loaded = Loaded::of(&[&objects[0], &objects[1], &objects[2]], &[]);
    assert_eq!(loaded.kext().sections.iter().filter(|section| section.name == "__const").count(), 1);
    assert_eq!((loaded.address("_b") % 8, loaded.address("_c") % 64), (0, 0));
    assert_eq!(loaded.image.bytes(loaded.address("_c"), 5).unwrap(), [6; 5]);
}

#[test]
fn the_largest_common_symbol_wins_unless_somebody_defines_it() {
    let common = |size, align: u16| {
        let mut object = Builder::new();
        object.symbol("_common", macho::N_EXT.0, 0, size).description = align << 8;
        object
    };
    let (small, large) = (common(8, 6), common(5000, 3));
    let loaded = Loaded::of(&[&small, &large], &[]);
    let address = loaded.address("_common");
    assert_eq!(address % 64, 0);
    let kext = loaded.kext();
    let section = kext.sections.iter().find(|section| section.name == "__common").unwrap();
    assert_eq!(section.size, 5000);

    let mut real = Builder::new();
    let data = real.data(&[0xaa; 16]);
    real.global("_common", data, 8);
    let loaded = Loaded::of(&[&small, &real, &large], &[]);
    assert_eq!(loaded.pointer("_common", 0), 0xaaaa_aaaa_aaaa_aaaa);
    assert!(loaded.kext().sections.iter().all(|section| section.name != "__common"));
}

#[test]
fn weak_definitions_give_way() {
    let weak = |fill: u8| {
        let mut object = Builder::new();
        let data = object.data(&[fill; 8]);
        object.symbol("_shared", GLOBAL, data, 0).description = macho::N_WEAK_DEF.0;
        object
    };
    let mut user = Builder::new();
    let data = user.data(&[0; 8]);
    user.global("_user", data, 0);
    user.absolute(data, 0, macho::X86_64_RELOC_UNSIGNED, To::Name("_shared"));
    let mut strong = Builder::new();
    let data = strong.data(&[3; 8]);
    strong.global("_shared", data, 0);
    let value = |objects: &[&Builder]| {
        let loaded = Loaded::of(objects, &[]);
        loaded.image.pointer(loaded.pointer("_user", 0)).unwrap() as u8
    };
    assert_eq!(value(&[&user, &weak(1), &weak(2)]), 1);
    assert_eq!(value(&[&user, &weak(1), &strong, &weak(2)]), 3);
}

#[test]
fn libraries_give_what_is_needed_and_no_more() {
    let mut caller = Builder::new();
    let text = caller.text(&[0xe8, 0, 0, 0, 0, 0xe8, 0, 0, 0, 0]);
    caller.relative(text, 1, macho::X86_64_RELOC_BRANCH, To::Name("_first"));
    caller.relative(text, 6, macho::X86_64_RELOC_BRANCH, To::Name("_memcpy"));
    let member = |name, calls: Option<&'static str>| {
        let mut object = Builder::new();
        let text = object.text(&[0xe9, 0, 0, 0, 0]);
        object.global(name, text, 0);
        if let Some(callee) = calls {
            object.relative(text, 1, macho::X86_64_RELOC_BRANCH, To::Name(callee));
        }
        object
    };
    let library = archive(&[
        &member("_second", None),
        &member("_unused", Some("_nowhere")),
        &member("_first", Some("_second")),
        &member("_memcpy", None),
    ]);
    let file = link_all(&[&caller], &[&library]).unwrap();
    let kext = Kext::parse(&file).unwrap();
    assert!(kext.address("_first").is_some() && kext.address("_second").is_some());
    assert!(kext.address("_unused").is_none());
    assert_eq!(kext.undefined().collect::<Vec<_>>(), ["_memcpy"], "the kernel's own is preferred");
}

#[test]
fn debug_information_and_unwind_tables_are_left_out() {
    let mut object = sample();
    let code = object.section("__DWARF", "__debug_info", &[1; 16]);
    // Not even looked at: 32 bits would be refused elsewhere.
    object.relocation(code, 0, macho::X86_64_RELOC_UNSIGNED, To::Name("_internal"), 2, false);
    object.section("__LD", "__compact_unwind", &[1; 32]);
    object.section("__TEXT", "__eh_frame", &[1; 32]);
    object.section("__LLVM", "__bitcode", &[1; 32]);
    let plain = link_all(&[&sample()], &[]).unwrap();
    let file = link_all(&[&object], &[]).unwrap();
    assert_eq!(Kext::parse(&file).unwrap().sections.len(), Kext::parse(&plain).unwrap().sections.len());
    assert_eq!(file, plain);
}

#[test]
fn an_extension_may_consist_of_its_description_alone() {
    let file = link_all(&[], &[]).unwrap();
    let kext = Kext::parse(&file).unwrap();
    assert_eq!(kext.address("_kmod_info"), Some(kext.segments[1].address));
    assert!(
        super::link(&[], &[], &super::Options { is_exported: &|_| true, required: &[], kernel: &[] })
            .is_err()
    );
    let bytes = info().build();
    let input = [super::Input { name: "info.o", bytes: &bytes }];
    let options = super::Options { is_exported: &|_| true, required: &["_entry"], kernel: &[] };
    let error = super::link(&input, &[], &options).unwrap_err();
    assert!(error.to_string().contains("_entry isn't defined"));
}
