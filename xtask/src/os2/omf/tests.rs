//! The writer against known bytes and against the reader; the converter against the relocations that it replaces.

use super::*;

fn segment(name: &str, size: u32) -> Segment {
    let bytes = (0..size).map(|at| at as u8).collect();
    Segment { name: name.into(), class: "DATA".into(), align: 4, use32: true, size, bytes }
}

fn module() -> Module {
    Module {
        name: "m".into(),
        segments: vec![segment("A", 3000), Segment { bytes: Vec::new(), ..segment("Z", 64) }],
        groups: vec![
            Group { name: FLAT.into(), segments: Vec::new() },
            Group { name: "G".into(), segments: vec![0, 1] },
        ],
        ..Module::default()
    }
}

fn fixup(offset: u32) -> Fixup {
    Fixup {
        segment: 0,
        offset,
        place: Place::Offset32,
        self_relative: false,
        frame: Frame::Group(0),
        target: Target::Segment(1),
        displacement: 0,
    }
}

/// The records of a file, each with its type, without check sums.
fn records(file: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut rest = file;
    let mut records = Vec::new();
    while let [kind, low, high, after @ ..] = rest {
        let length = usize::from(u16::from_le_bytes([*low, *high]));
        let (content, next) = after.split_at(length);
        let sum = rest[..length + 3].iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
        assert_eq!(sum, 0, "check sum of a record of type {kind:#x}");
        records.push((*kind, content[..length - 1].to_vec()));
        rest = next;
    }
    records
}

fn of_kind(module: &Module, wanted: u8) -> Vec<Vec<u8>> {
    let records = records(&module.to_bytes().unwrap());
    records.into_iter().filter(|(kind, _)| *kind == wanted).map(|(_, content)| content).collect()
}

#[test]
fn a_file_begins_with_its_name_and_ends_without_a_start_address() {
    let records = records(&module().to_bytes().unwrap());
    assert_eq!(records.first().unwrap(), &(THEADR, b"\x01m".to_vec()));
    assert_eq!(records.last().unwrap(), &(MODEND, vec![0]));
}

#[test]
fn names_are_listed_once_for_each_use_after_the_empty_one() {
    let names = of_kind(&module(), LNAMES);
    let expected: [&[u8]; 7] = [b"\0", b"\x01A", b"\x04DATA", b"\x01Z", b"\x04DATA", b"\x04FLAT", b"\x01G"];
    assert_eq!(names, expected);
}

#[test]
fn segments_are_public_and_say_their_width_alignment_length_and_names() {
    // Alignment 5 (4 bytes), combination 2 (public), 32 bits.
    let expected = [vec![0xa9, 0xb8, 0x0b, 0, 0, 2, 3, 1], vec![0xa9, 64, 0, 0, 0, 4, 3, 1]];
    assert_eq!(of_kind(&module(), SEGDEF | 1), expected);
    let alignments = [(1, 0x29), (2, 0x49), (16, 0x69), (4096, 0x89)];
    for (align, attributes) in alignments {
        let mut module = module();
        module.segments[0].align = align;
        assert_eq!(of_kind(&module, SEGDEF | 1)[0][0], attributes);
    }
    let mut module = module();
    module.segments[0].use32 = false;
    assert_eq!(of_kind(&module, SEGDEF | 1)[0][0], 0xa8);
}

#[test]
fn the_flat_group_has_no_members_and_others_list_theirs() {
    assert_eq!(of_kind(&module(), GRPDEF), [vec![6], vec![7, 0xff, 1, 0xff, 2]]);
}

#[test]
fn publics_say_group_segment_name_and_offset() {
    let mut module = module();
    module.publics.push(Public { name: "_p".into(), group: Some(1), segment: 1, offset: 0x1234_5678 });
    module.publics.push(Public { name: "q".into(), group: None, segment: 0, offset: 1 });
    let expected = [vec![2, 2, 2, b'_', b'p', 0x78, 0x56, 0x34, 0x12, 0], vec![0, 1, 1, b'q', 1, 0, 0, 0, 0]];
    assert_eq!(of_kind(&module, PUBDEF | 1), expected);
}

#[test]
fn externals_have_names_and_imports_an_ordinal_in_a_library() {
    let mut module = module();
    module.externals.push("Kern".into());
    module.imports.push(Import { name: "Kern".into(), library: "KEE".into(), ordinal: 66 });
    assert_eq!(of_kind(&module, EXTDEF), [b"\x04Kern\0"]);
    assert_eq!(of_kind(&module, COMENT), [b"\x80\xa0\x01\x01\x04Kern\x03KEE\x42\0"]);
}

#[test]
fn contents_come_in_pieces_of_a_kilobyte_with_their_places() {
    let pieces = of_kind(&module(), LEDATA | 1);
    let lengths: Vec<usize> = pieces.iter().map(|piece| piece.len() - 5).collect();
    assert_eq!(lengths, [1024, 1024, 952]);
    assert_eq!(pieces[1][..7], [1, 0, 4, 0, 0, 0, 1]);
}

#[test]
fn fixups_say_place_frame_target_and_displacement() {
    let mut module = module();
    module.externals.push("x".into());
    module.fixups = vec![
        fixup(0x208),
        Fixup { self_relative: true, target: Target::External(0), ..fixup(0x300) },
        Fixup { place: Place::Selector, frame: Frame::OfTarget, target: Target::Group(1), ..fixup(0x310) },
        Fixup { place: Place::Far32, frame: Frame::Segment(1), displacement: 0x102, ..fixup(0x320) },
        Fixup { place: Place::Far16, frame: Frame::External(0), ..fixup(0x330) },
    ];
    let expected = [
        &[0xe6, 0x08, 0x14, 1, 2][..],
        &[0xa7, 0x00, 0x16, 1, 1],
        &[0xcb, 0x10, 0x55, 2],
        &[0xef, 0x20, 0x00, 2, 2, 2, 1, 0, 0],
        &[0xcf, 0x30, 0x24, 1, 2],
    ];
    assert_eq!(of_kind(&module, FIXUPP | 1), [expected.concat()]);
}

#[test]
fn no_fixup_straddles_two_pieces_of_contents() {
    let mut module = module();
    module.fixups = (0..700).map(|at| fixup(at * 4 + 2)).collect();
    let pieces = of_kind(&module, LEDATA | 1);
    let lengths: Vec<usize> = pieces.iter().map(|piece| piece.len() - 5).collect();
    assert_eq!(lengths, [1022, 1024, 954]);
    assert_eq!(Module::parse(&module.to_bytes().unwrap()).unwrap(), module);
}

#[test]
fn indices_from_128_on_take_two_bytes() {
    let mut module = module();
    module.externals = (0..300).map(|number| format!("x{number}")).collect();
    module.fixups = vec![Fixup { target: Target::External(299), ..fixup(0) }];
    assert_eq!(of_kind(&module, FIXUPP | 1), [[0xe4, 0, 0x16, 1, 0x81, 0x2c]]);
    assert_eq!(Module::parse(&module.to_bytes().unwrap()).unwrap(), module);
}

#[test]
fn what_the_format_cannot_express_is_refused() {
    let refused = |change: fn(&mut Module)| {
        let mut module = module();
        change(&mut module);
        module.to_bytes().unwrap_err().to_string()
    };
    assert!(refused(|m| m.segments[0].align = 64).contains("align"));
    assert!(refused(|m| m.segments[0].size = 1).contains("more contents"));
    assert!(refused(|m| m.name = "n".repeat(256)).contains("too long"));
    assert!(refused(|m| m.fixups = vec![fixup(2997)]).contains("beyond"));
    assert!(refused(|m| m.fixups = vec![Fixup { segment: 1, ..fixup(0) }]).contains("no contents"));
}

#[test]
fn a_cut_or_changed_file_is_refused() {
    let mut module = module();
    module.externals.push("x".into());
    module.publics.push(Public { name: "_p".into(), group: Some(1), segment: 1, offset: 3 });
    module.fixups = vec![fixup(16), fixup(1500)];
    let file = module.to_bytes().unwrap();
    assert_eq!(Module::parse(&file).unwrap(), module);
    for length in 0..file.len() {
        assert!(Module::parse(&file[..length]).is_err(), "cut to {length} bytes");
    }
    for place in 3..file.len() {
        let mut changed = file.clone();
        changed[place] ^= 0x41;
        assert!(Module::parse(&changed).is_err(), "changed at {place:#x}");
    }
}

/// Damage that check sums don't tell of: whatever it says, it may only be refused or understood.
#[test]
fn records_that_lie_do_no_harm() {
    let mut module = module();
    module.segments[0].bytes.truncate(40);
    module.externals.push("x".into());
    module.fixups = vec![fixup(16), Fixup { target: Target::External(0), ..fixup(24) }];
    let file = module.to_bytes().unwrap();
    let mut starts = vec![0];
    while let Some(start) = starts.last().filter(|start| **start < file.len()) {
        starts.push(start + 3 + usize::from(u16::from_le_bytes([file[start + 1], file[start + 2]])));
    }
    for record in starts.windows(2) {
        for place in record[0]..record[1] - 1 {
            for value in [0, 1, 2, 0x7f, 0x80, 0xff] {
                let mut changed = file.clone();
                changed[place] = value;
                changed[record[1] - 1] = 0;
                let _ = Module::parse(&changed);
            }
        }
    }
}
