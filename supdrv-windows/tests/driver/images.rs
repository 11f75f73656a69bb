//! Images that the kernel loads, compared with what a client uploads.

use super::pe::first_difference;

const IMPORTS: usize = 0x400;
const LOOKUP: usize = 0x800;

/// An image with that many imports, each with a lookup table of two entries.
fn image(imports: usize) -> Vec<u8> {
    let mut image = vec![0_u8; 0x2000];
    let put32 =
        |image: &mut Vec<u8>, at: usize, value: u32| image[at..at + 4].copy_from_slice(&value.to_le_bytes());
    image[..2].copy_from_slice(b"MZ");
    put32(&mut image, 0x3c, 0x80);
    image[0x80..0x84].copy_from_slice(b"PE\0\0");
    image[0x84..0x86].copy_from_slice(&0x8664_u16.to_le_bytes());
    image[0x98..0x9a].copy_from_slice(&0x20b_u16.to_le_bytes());
    put32(&mut image, 0x98 + 108, 16);
    put32(&mut image, 0x98 + 120, IMPORTS as u32);
    put32(&mut image, 0x98 + 124, ((imports + 1) * 20) as u32);
    for import in 0..imports {
        let table = LOOKUP + import * 24;
        put32(&mut image, IMPORTS + import * 20, table as u32);
        put32(&mut image, IMPORTS + import * 20 + 12, 0x1800);
        image[table] = 1;
        image[table + 8] = 2;
    }
    image
}

#[test]
fn equal_images_have_no_difference() {
    assert_eq!(first_difference(&image(3), &image(3)), None);
    assert_eq!(first_difference(&[1; 8], &[1; 8]), None);
}

#[test]
fn a_byte_of_code_is_a_difference_and_one_of_a_lookup_table_is_not() {
    let mut other = image(16);
    other[LOOKUP + 8] ^= 1;
    assert_eq!(first_difference(&image(16), &other), None);
    other[0x1c00] ^= 1;
    assert_eq!(first_difference(&image(16), &other), Some(0x1c00));
}

#[test]
fn more_than_sixteen_imports_are_too_many() {
    let mut other = image(17);
    other[LOOKUP + 8] ^= 1;
    assert!(first_difference(&image(17), &other).is_some());
}

#[test]
fn headers_that_make_no_sense_are_a_difference() {
    for (at, value) in
        [(0, 0), (0x3f, 0xff), (0x80, 0), (0x84, 0), (0x98, 0), (0x98 + 108, 1), (0x98 + 123, 0xff)]
    {
        let mut loaded = image(1);
        loaded[at] = value;
        let mut bits = loaded.clone();
        bits[LOOKUP + 8] ^= 1;
        assert!(first_difference(&loaded, &bits).is_some(), "byte {at:#x}");
    }
}

#[test]
fn a_wild_header_offset_in_the_uploaded_bits_is_not_followed() {
    let mut bits = image(1);
    bits[0x3c..0x40].copy_from_slice(&0xffff_fff0_u32.to_le_bytes());
    assert_eq!(first_difference(&image(1), &bits), Some(0x3c));
}
