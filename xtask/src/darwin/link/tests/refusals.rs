use object::macho;

use super::builder::{Builder, LOCAL, To};
use super::{Input, Options, info, link, link_all, refusal};

#[track_caller]
fn assert_refused(object: &Builder, why: &str) {
    let message = refusal(object);
    assert!(message.contains(why), "{message:?} doesn't say {why:?}");
}

fn pointer_of(length: u8, to: To) -> Builder {
    let mut object = Builder::new();
    let data = object.data(&[0; 16]);
    object.global("_here", data, 8);
    object.relocation(data, 0, macho::X86_64_RELOC_UNSIGNED, to, length, false);
    object
}

#[test]
fn two_definitions_of_a_name_are_refused_and_both_are_named() {
    let mut object = Builder::new();
    let data = object.data(&[0; 8]);
    object.global("_kmod_info", data, 0);
    assert_refused(&object, "_kmod_info is defined in test.o and in test.o");
}

#[test]
fn pointers_of_32_bits_are_refused() {
    assert_refused(&pointer_of(2, To::Name("_here")), "has no 64 bits");
    assert_refused(&pointer_of(2, To::Name("_kernel_map")), "a pointer to _kernel_map has no 64 bits");
    assert_refused(&pointer_of(2, To::Section(1)), "has no 64 bits");
    assert_eq!(refusal(&pointer_of(3, To::Name("_here"))), "linked");
}

#[test]
fn pointers_in_code_are_refused() {
    let mut object = Builder::new();
    let text = object.text(&[0; 16]);
    object.absolute(text, 0, macho::X86_64_RELOC_UNSIGNED, To::Name("_kernel_map"));
    assert_refused(&object, "__TEXT,__text: an absolute pointer would have to be written into code");
}

#[test]
fn pointers_out_of_the_image_are_refused() {
    let mut object = pointer_of(3, To::Name("_here"));
    object.sections[0].set(0, &(-1_i64 << 40).to_le_bytes());
    assert_refused(&object, "points outside the image");
}

#[test]
fn relocations_that_make_no_sense_are_refused() {
    let with = |kind, to, length, relative| {
        let mut object = Builder::new();
        let text = object.text(&[0; 16]);
        object.relocation(text, 4, kind, to, length, relative);
        object
    };
    let name = To::Name("_kernel_map");
    assert_refused(&with(macho::X86_64_RELOC_BRANCH, name, 0, true), "has no 32 bits");
    assert_refused(&with(macho::X86_64_RELOC_BRANCH, name, 2, false), "has no 32 bits");
    assert_refused(&with(macho::X86_64_RELOC_GOT, name, 3, true), "has no 32 bits");
    assert_refused(&with(macho::X86_64_RELOC_GOT_LOAD, To::Section(1), 2, true), "has no name");
    assert_refused(&with(macho::X86_64_RELOC_TLV, name, 2, true), "isn't known");
    assert_refused(&with(macho::X86_64_RELOC_BRANCH, To::Section(9), 2, true), "doesn't exist");
    assert_refused(&with(macho::X86_64_RELOC_BRANCH, To::Section(0), 2, true), "doesn't exist");
    let mut beyond = Builder::new();
    let text = beyond.text(&[0; 16]);
    beyond.relative(text, 13, macho::X86_64_RELOC_BRANCH, name);
    assert_refused(&beyond, "outside its section");
    let mut twice = Builder::new();
    let data = twice.data(&[0; 16]);
    twice.absolute(data, 0, macho::X86_64_RELOC_UNSIGNED, name);
    twice.absolute(data, 0, macho::X86_64_RELOC_UNSIGNED, name);
    assert_refused(&twice, "relocated twice");
}

#[test]
fn differences_need_two_operands_of_our_own() {
    let with = |pair: &[(macho::RelocationType, To, u32)]| {
        let mut object = Builder::new();
        let data = object.data(&[0; 16]);
        object.global("_here", data, 8);
        for (kind, to, at) in pair {
            object.absolute(data, *at, *kind, *to);
        }
        object
    };
    let (minus, plus) = (macho::X86_64_RELOC_SUBTRACTOR, macho::X86_64_RELOC_UNSIGNED);
    let (here, there) = (To::Name("_here"), To::Name("_kernel_map"));
    assert_refused(&with(&[(minus, here, 0)]), "one operand only");
    assert_refused(&with(&[(minus, here, 0), (minus, here, 0)]), "don't fit together");
    assert_refused(&with(&[(minus, here, 0), (plus, here, 8)]), "don't fit together");
    assert_refused(&with(&[(minus, there, 0), (plus, here, 0)]), "address isn't known");
    assert_refused(&with(&[(minus, here, 0), (plus, there, 0)]), "address isn't known");
}

#[test]
fn references_to_what_is_left_out_are_refused() {
    let mut object = Builder::new();
    let data = object.data(&[0; 16]);
    let debug = object.section("__DWARF", "__debug_str", &[0; 16]);
    object.symbol("_debug", LOCAL, debug, 0);
    object.absolute(data, 0, macho::X86_64_RELOC_UNSIGNED, To::Name("_debug"));
    assert_refused(&object, "_debug is in a section that isn't loaded");
}

#[test]
fn symbols_that_kernel_extensions_cannot_have_are_refused() {
    let mut weak = pointer_of(3, To::Name("_maybe"));
    weak.symbols.iter_mut().find(|symbol| symbol.name == "_maybe").unwrap().description = macho::N_WEAK_REF.0;
    assert_refused(&weak, "_maybe may be missing");
    let mut absolute = pointer_of(3, To::Name("_number"));
    let symbol = absolute.symbols.iter_mut().find(|symbol| symbol.name == "_number").unwrap();
    symbol.kind = macho::N_ABS.0 | macho::N_EXT.0;
    assert_refused(&absolute, "_number has no place");
    let mut indirect = Builder::new();
    indirect.symbol("_alias", macho::N_INDR.0 | macho::N_EXT.0, 0, 1);
    assert_refused(&indirect, "_alias is a symbol of a kind");
    let mut lost = Builder::new();
    lost.global("_lost", 7, 0);
    assert_refused(&lost, "_lost is in a section that doesn't exist");
    let mut outside = Builder::new();
    let data = outside.data(&[0; 8]);
    outside.global("_outside", data, 9);
    assert_refused(&outside, "_outside is outside its section");
}

#[test]
fn sections_that_kernel_extensions_cannot_have_are_refused() {
    let with = |flags: u32, align: u32| {
        let mut object = Builder::new();
        object.data(&[0; 8]);
        object.sections[0].flags = flags;
        object.sections[0].align = align;
        object
    };
    assert_refused(&with(macho::S_THREAD_LOCAL_REGULAR.0.into(), 3), "of a kind (0x11)");
    assert_refused(&with(macho::S_LAZY_SYMBOL_POINTERS.0.into(), 3), "of a kind (0x7)");
    assert_refused(&with(0, 13), "more than a page");
    assert_refused(&with(0, u32::MAX), "more than a page");
    let mut huge = Builder::new();
    huge.zero_filled("__bss", u64::MAX / 2);
    assert_refused(&huge, "too large");
    let mut many = Builder::new();
    many.zero_filled("__bss", 40 << 20);
    many.zero_filled("__bss2", 40 << 20);
    assert_refused(&many, "too large");
    let mut foreign = Builder::new();
    foreign.section("__ELSE", "__else", &[0; 8]);
    assert_refused(&foreign, "segment __ELSE is unknown");
    let mut content = Builder::new();
    let zeros = content.zero_filled("__bss", 16);
    content.absolute(zeros, 0, macho::X86_64_RELOC_UNSIGNED, To::Name("_kernel_map"));
    assert_refused(&content, "has relocations, but no content");
    let mut constructors = info();
    for flags in [macho::S_MOD_INIT_FUNC_POINTERS, macho::S_REGULAR] {
        constructors.section("__DATA", "__mod_init_func", &[0; 8]);
        constructors.sections.last_mut().unwrap().flags = flags.0.into();
    }
    constructors.symbols.clear();
    assert_refused(&constructors, "of different kinds");
}

fn refusal_of(bytes: &[u8]) -> String {
    let options = Options { is_exported: &|_| true, required: &[], kernel: &[] };
    link(&[Input { name: "input.o", bytes }], &[], &options).unwrap_err().to_string()
}

#[test]
fn files_of_other_kinds_are_refused_by_name() {
    let mut object = info();
    object.cpu = macho::CPU_TYPE_ARM64.0;
    assert_eq!(refusal_of(&object.build()), "input.o: is not for x86-64");
    object.cpu = macho::CPU_TYPE_X86_64.0;
    object.file_type = macho::MH_DYLIB.0;
    assert_eq!(refusal_of(&object.build()), "input.o: is no object file, but of kind 0x6");
    for other in [&b"\x7fELF\x02\x01\x01"[..], b"", b"BC\xc0\xde", b"!<arch>\n", &[0xff; 200]] {
        assert_eq!(refusal_of(other), "input.o: is no Mach-O file for 64 bits");
    }
    let mut small = info();
    small.sections.clear();
    small.symbols.clear();
    let data = small.data(&[0; 100]);
    small.global("_kmod_info", data, 0);
    assert!(refusal_of(&small.build()).contains("no initialised data of 196 bytes"));
}

#[test]
fn libraries_of_other_kinds_are_refused() {
    for (bytes, why) in [
        (&b"\x7fELF\x02\x01\x01"[..], "library.a: "),
        (b"!<thin>\n", "holds no objects"),
        (b"!<arch>\nm.o/            0           0     0     644     4         `\nabcd", "is no Mach-O file"),
        (b"!<arch>\nm.o/            0           0     0     644     400       `\nabcd", "library.a: "),
    ] {
        let error = link_all(&[], &[bytes]).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
}

/// An object with everything that the linker looks at.
fn rich() -> Builder {
    let mut object = info();
    let text =
        object.text(&[0x48, 0x8b, 0x05, 0, 0, 0, 0, 0xe8, 0, 0, 0, 0, 0xc7, 0x05, 0, 0, 0, 0, 1, 0, 0, 0]);
    object.global("_function", text, 7);
    object.relative(text, 3, macho::X86_64_RELOC_GOT_LOAD, To::Name("_kernel_map"));
    object.relative(text, 8, macho::X86_64_RELOC_BRANCH, To::Name("_function"));
    object.relative(text, 14, macho::X86_64_RELOC_SIGNED_4, To::Section(1));
    let data = object.data(&[0; 24]);
    object.absolute(data, 0, macho::X86_64_RELOC_UNSIGNED, To::Name("_function"));
    object.absolute(data, 8, macho::X86_64_RELOC_SUBTRACTOR, To::Name("_function"));
    object.absolute(data, 8, macho::X86_64_RELOC_UNSIGNED, To::Name("_kmod_info"));
    object.absolute(data, 16, macho::X86_64_RELOC_UNSIGNED, To::Name("_common"));
    let zeros = object.zero_filled("__bss", 64);
    object.symbol("_zeros", LOCAL, zeros, 8);
    object.symbols.iter_mut().find(|symbol| symbol.name == "_common").unwrap().value = 24;
    object
}

#[test]
fn no_damage_to_a_file_makes_the_linker_panic() {
    let whole = rich().build();
    let options = Options { is_exported: &|_| true, required: &[], kernel: &[] };
    let attempt = |bytes: &[u8]| link(&[Input { name: "input.o", bytes }], &[], &options).is_ok();
    assert!(attempt(&whole));
    for length in 0..whole.len() {
        attempt(whole.get(..length).unwrap());
    }
    let (mut linked, mut refused) = (0, 0);
    let mut damaged = whole.clone();
    for at in 0..whole.len() {
        for value in [0, 1, 3, 0x0b, 0x7f, 0x80, 0xff] {
            damaged[at] = value;
            if attempt(&damaged) { linked += 1 } else { refused += 1 }
        }
        damaged[at] = whole[at];
    }
    // Most damage is to names and contents, which are anybody's; headers and tables are what gets refused.
    assert!(linked > 1000 && refused > 500, "{linked} {refused}");
}

#[test]
fn no_damage_to_numbers_makes_the_linker_panic() {
    let whole = rich().build();
    let options = Options { is_exported: &|_| true, required: &[], kernel: &[] };
    for at in (0..whole.len() - 8).step_by(4) {
        for value in [u64::MAX, 1 << 63, 0x7fff_ffff, 0xffff_ffff_0000_0000, 1 << 32, 0x0400_0000] {
            let mut damaged = whole.clone();
            damaged[at..at + 8].copy_from_slice(&value.to_le_bytes());
            let _ = link(&[Input { name: "input.o", bytes: &damaged }], &[], &options);
            let _ = link_all(&[], &[&damaged]);
        }
    }
}
