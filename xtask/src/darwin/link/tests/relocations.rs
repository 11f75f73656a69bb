use object::macho;

use super::builder::{Builder, LOCAL, To};
use super::{KERNEL, Loaded};

/// `call`, `lea`, `mov`: an instruction of five or seven bytes with a field for the distance.
const CALL: [u8; 5] = [0xe8, 0, 0, 0, 0];
const LEA: [u8; 7] = [0x48, 0x8d, 0x05, 0, 0, 0, 0];
const LOAD: [u8; 7] = [0x48, 0x8b, 0x05, 0, 0, 0, 0];

/// An object with a function `_function` of some code, whose section is the first.
fn function(code: &[u8]) -> Builder {
    let mut object = Builder::new();
    let text = object.text(code);
    object.global("_function", text, 0);
    object
}

/// Another object, with sections of other sizes in front of what it defines.
fn other() -> Builder {
    let mut object = Builder::new();
    let text = object.text(&[0x90; 64]);
    object.global("_callee", text, 16);
    let data = object.data(&[7; 40]);
    object.global("_variable", data, 24);
    object
}

#[test]
fn calls_between_objects_arrive() {
    let mut caller = function(&CALL);
    caller.relative(1, 1, macho::X86_64_RELOC_BRANCH, To::Name("_callee"));
    for objects in [[&caller, &other()], [&other(), &caller]] {
        let loaded = Loaded::of(&objects, &[]);
        assert_eq!(loaded.destination("_function", 1), loaded.address("_callee"));
        assert!(loaded.kext().externals.is_empty() && loaded.kext().locals.is_empty());
    }
}

#[test]
fn calls_to_the_kernel_are_left_to_its_linker() {
    let mut caller = function(&CALL);
    caller.relative(1, 1, macho::X86_64_RELOC_BRANCH, To::Name("_IOSleep"));
    let loaded = Loaded::of(&[&caller], &[("_IOSleep", KERNEL)]);
    assert_eq!(loaded.destination("_function", 1), KERNEL);
    assert_eq!(loaded.kext().undefined().collect::<Vec<_>>(), ["_IOSleep"]);
}

#[test]
fn what_is_added_to_an_address_is_kept() {
    let mut object = function(&[&LEA[..], &LEA[..]].concat());
    object.sections[0].set(3, &20_u32.to_le_bytes());
    object.sections[0].set(10, &(-3_i32).to_le_bytes());
    object.relative(1, 3, macho::X86_64_RELOC_SIGNED, To::Name("_variable"));
    object.relative(1, 10, macho::X86_64_RELOC_SIGNED, To::Name("_kernel_task"));
    let loaded = Loaded::of(&[&object, &other()], &[("_kernel_task", KERNEL)]);
    assert_eq!(loaded.destination("_function", 3), loaded.address("_variable") + 20);
    assert_eq!(loaded.destination("_function", 10), KERNEL - 3);
}

/// `movb $imm8`, `movw $imm16`, `movl $imm32` to memory: the instruction ends 1, 2, 4 bytes after the field.
#[test]
fn instructions_that_go_on_after_the_field_refer_to_the_same_place() {
    for (kind, after) in [
        (macho::X86_64_RELOC_SIGNED_1, 1_u8),
        (macho::X86_64_RELOC_SIGNED_2, 2),
        (macho::X86_64_RELOC_SIGNED_4, 4),
    ] {
        let mut code = vec![0xc7, 0x05, 0, 0, 0, 0];
        code.resize(6 + usize::from(after), 0x12);
        // By name: what is added, less what follows.
        let mut object = function(&code);
        object.sections[0].set(2, &(-i32::from(after)).to_le_bytes());
        object.relative(1, 2, kind, To::Name("_variable"));
        let loaded = Loaded::of(&[&object, &other()], &[]);
        let end_of_instruction = loaded.destination("_function", 2) + u64::from(after);
        assert_eq!(end_of_instruction, loaded.address("_variable"), "by name, {after} bytes");

        // In the kernel likewise.
        let loaded = Loaded::of(&[&object], &[("_variable", KERNEL)]);
        assert_eq!(loaded.destination("_function", 2) + u64::from(after), KERNEL);

        // By section: the distance in the object, as the processor takes it.
        let mut object = function(&code);
        let data = object.data(&[1; 32]);
        object.symbol("_hidden", LOCAL, data, 8);
        let distance = object.addresses()[1] + 8 - (6 + u64::from(after));
        object.sections[0].set(2, &(distance as u32).to_le_bytes());
        object.relative(1, 2, kind, To::Section(data.into()));
        let loaded = Loaded::of(&[&other(), &object], &[]);
        let reached = loaded.destination("_function", 2) + u64::from(after);
        assert_eq!(reached, loaded.address("_hidden"), "by section, {after} bytes");
    }
}

#[test]
fn distances_by_section_follow_both_ends() {
    let mut object = function(&LEA);
    let data = object.data(&[1; 32]);
    object.symbol("_hidden", LOCAL, data, 12);
    let distance = object.addresses()[1] + 12 - 7;
    object.sections[0].set(3, &(distance as u32).to_le_bytes());
    object.relative(1, 3, macho::X86_64_RELOC_SIGNED, To::Section(data.into()));
    let loaded = Loaded::of(&[&other(), &object], &[]);
    assert_eq!(loaded.destination("_function", 3), loaded.address("_hidden"));
}

#[test]
fn loads_of_own_addresses_become_computations() {
    let mut object = function(&LOAD);
    object.relative(1, 3, macho::X86_64_RELOC_GOT_LOAD, To::Name("_variable"));
    let loaded = Loaded::of(&[&object, &other()], &[]);
    let function = loaded.address("_function");
    assert_eq!(loaded.image.bytes(function, 3).unwrap(), &LEA[..3]);
    assert_eq!(loaded.destination("_function", 3), loaded.address("_variable"));
    assert!(loaded.kext().sections.iter().all(|section| section.name != "__got"));
}

#[test]
fn loads_of_kernel_addresses_go_through_a_table_of_our_own() {
    let mut object = function(&[LOAD, LOAD, LOAD].concat());
    for (at, name) in [(3, "_kernel_map"), (10, "_kernel_task"), (17, "_kernel_map")] {
        object.relative(1, at, macho::X86_64_RELOC_GOT_LOAD, To::Name(name));
    }
    let loaded = Loaded::of(&[&object], &[("_kernel_map", KERNEL), ("_kernel_task", KERNEL + 8)]);
    let slots = [3, 10, 17].map(|at| loaded.destination("_function", at));
    let values = slots.map(|slot| loaded.image.pointer(slot).unwrap());
    assert_eq!(values, [KERNEL, KERNEL + 8, KERNEL]);
    assert_eq!(slots[0], slots[2], "one name, one slot");
    assert_eq!(loaded.image.bytes(loaded.address("_function"), 3).unwrap(), &LOAD[..3], "still a load");
    assert_eq!(loaded.kext().externals.len(), 2);
}

/// `call *slot(%rip)`, `cmp slot(%rip), %rax`: not loads, so that the slot is needed for own functions too.
#[test]
fn other_uses_of_the_table_get_a_slot() {
    let mut object = function(&[0xff, 0x15, 0, 0, 0, 0, 0x48, 0x3b, 0x05, 0, 0, 0, 0]);
    object.relative(1, 2, macho::X86_64_RELOC_GOT, To::Name("_callee"));
    object.relative(1, 9, macho::X86_64_RELOC_GOT, To::Name("_panic"));
    let loaded = Loaded::of(&[&object, &other()], &[("_panic", KERNEL)]);
    let slots = [2, 9].map(|at| loaded.destination("_function", at));
    assert_eq!(loaded.image.pointer(slots[0]), Some(loaded.address("_callee")));
    assert_eq!(loaded.image.pointer(slots[1]), Some(KERNEL));
}

#[test]
fn pointers_move_with_the_image_or_are_the_kernels() {
    let mut object = Builder::new();
    let mut content = [0; 40];
    content[8] = 5;
    content[16] = 6;
    let data = object.data(&content);
    object.global("_table", data, 0);
    let hidden = object.section("__DATA", "__const", &[9; 16]);
    object.symbol("_hidden", LOCAL, hidden, 4);
    object.absolute(data, 0, macho::X86_64_RELOC_UNSIGNED, To::Name("_callee"));
    object.absolute(data, 8, macho::X86_64_RELOC_UNSIGNED, To::Name("_variable"));
    object.absolute(data, 16, macho::X86_64_RELOC_UNSIGNED, To::Name("_enodev"));
    let place = object.addresses()[1] + 4;
    object.sections[0].set(24, &place.to_le_bytes());
    object.absolute(data, 24, macho::X86_64_RELOC_UNSIGNED, To::Section(hidden.into()));
    let loaded = Loaded::of(&[&other(), &object], &[("_enodev", KERNEL)]);
    assert_eq!(loaded.pointer("_table", 0), loaded.address("_callee"));
    assert_eq!(loaded.pointer("_table", 8), loaded.address("_variable") + 5);
    assert_eq!(loaded.pointer("_table", 16), KERNEL + 6);
    assert_eq!(loaded.pointer("_table", 24), loaded.address("_hidden"));
    assert_eq!((loaded.kext().locals.len(), loaded.kext().externals.len()), (3, 1));
    // The kernel's linker moves a pointer with the section that is named.
    for relocation in &loaded.kext().locals {
        let value =
            loaded.image.pointer(super::BASE + u64::from(relocation.r_address)).unwrap() - super::BASE;
        let kext = loaded.kext();
        let section = &kext.sections[relocation.r_symbolnum as usize - 1];
        assert!((section.address..section.address + section.size).contains(&value));
    }
}

#[test]
fn differences_are_fixed() {
    let mut object = Builder::new();
    let data = object.data(&[0; 40]);
    object.global("_differences", data, 0);
    object.sections[0].set(0, &100_u64.to_le_bytes());
    object.sections[0].set(8, &(-4_i32).to_le_bytes());
    for (at, length) in [(0, 3), (8, 2)] {
        let minus = To::Name("_callee");
        object.relocation(data, at, macho::X86_64_RELOC_SUBTRACTOR, minus, length, false);
        object.relocation(data, at, macho::X86_64_RELOC_UNSIGNED, To::Name("_variable"), length, false);
    }
    // Both by section, as for tables of jumps: the place holds the difference in the object.
    let code = object.text(&[0x90; 32]);
    object.symbol("_label", LOCAL, code, 20);
    let (table, label) = (object.addresses()[0], object.addresses()[1] + 20);
    object.sections[0].set(16, &(label.wrapping_sub(table) as u32).to_le_bytes());
    object.relocation(data, 16, macho::X86_64_RELOC_SUBTRACTOR, To::Section(data.into()), 2, false);
    object.relocation(data, 16, macho::X86_64_RELOC_UNSIGNED, To::Section(code.into()), 2, false);
    let loaded = Loaded::of(&[&other(), &object], &[]);
    let distance = loaded.address("_variable") - loaded.address("_callee");
    assert_eq!(loaded.pointer("_differences", 0), distance + 100);
    let at = loaded.address("_differences");
    assert_eq!(loaded.image.displacement(at + 8), Some(distance as i32 - 4));
    let label = loaded.address("_label").wrapping_sub(at) as i32;
    assert_eq!(loaded.image.displacement(at + 16), Some(label));
    assert!(loaded.kext().locals.is_empty() && loaded.kext().externals.is_empty());
}
