//! `RTStrFormatNumber`, `RTCrc32*`, `RTStr*`, `RTUuid*` under their names.

use std::ffi::{CStr, c_char, c_void};

use crate::import;

import! {
    fn RTStrFormatNumber(to: *mut c_char, value: u64, base: u32, width: i32, precision: i32, flags: u32) -> i32;
    fn RTStrCopy(to: *mut c_char, bytes: usize, from: *const c_char) -> i32;
    fn RTStrNCmp(a: *const c_char, b: *const c_char, max: usize) -> i32;
    fn RTCrc32(data: *const c_void, bytes: usize) -> u32;
    fn RTCrc32Start() -> u32;
    fn RTCrc32Process(crc: u32, data: *const c_void, bytes: usize) -> u32;
    fn RTCrc32Finish(crc: u32) -> u32;
    fn RTUuidFromStr(uuid: *mut [u64; 2], text: *const c_char) -> i32;
    fn RTUuidCompare(a: *const [u64; 2], b: *const [u64; 2]) -> i32;
    fn RTUuidCompareStr(a: *const [u64; 2], text: *const c_char) -> i32;
}

fn number(value: u64, base: u32, width: i32, precision: i32, flags: u32) -> String {
    let mut buffer = [0x7f as c_char; 128];
    let length = RTStrFormatNumber(buffer.as_mut_ptr(), value, base, width, precision, flags);
    // SAFETY: the result is terminated.
    let text = unsafe { CStr::from_ptr(buffer.as_ptr()) }.to_str().unwrap().to_owned();
    assert_eq!(length as usize, text.len());
    text
}

#[test]
fn numbers_follow_their_flags() {
    const CASES: &[(u64, u32, i32, i32, u32, &str)] = &[
        (0, 10, 0, 0, 0, "0"),
        (255, 16, 0, 0, 0x4000, "ff"),
        (255, 16, 0, 0, 0x4001, "FF"),
        (255, 16, 8, 0, 0x4000 | 0x8 | 0x4 | 0x80, "0x0000ff"),
        (255, 2, 0, 0, 0, "11111111"),
        (u64::MAX, 2, 0, 0, 0x4000, "1111111111111111111111111111111111111111111111111111111111111111"),
        (u64::MAX, 10, 0, 0, 0x4000 | 0x10, "-1"),
        (0xffff_ffff, 10, 0, 0, 0x2000 | 0x10, "-1"),
        (0xffff_ffff, 10, 0, 0, 0x2000, "4294967295"),
        (0x1_0000_0005, 10, 0, 0, 0x2000, "5"),
        (0xfff, 16, 0, 0, 0x0800, "ff"),
        (0x8000, 10, 0, 0, 0x1000 | 0x10, "-32768"),
        (5, 10, 4, 0, 0x80, "   5"),
        (5, 10, 4, 0, 0x82, "5   "),
        (5, 10, 0, 3, 0x100, "005"),
        (5, 10, 0, 0, 0x10 | 0x20, "+5"),
        (5, 10, 0, 0, 0x10 | 0x40, " 5"),
        (1_234_567, 10, 0, 0, 0x200, "1 234 567"),
        (0x8000_0000_0000_0000, 10, 0, 0, 0x4000 | 0x10, "-9223372036854775808"),
    ];
    for &(value, base, width, precision, flags, text) in CASES {
        assert_eq!(number(value, base, width, precision, flags), text, "{value:#x} {flags:#x}");
    }
    assert_eq!(RTStrFormatNumber(std::ptr::null_mut(), 1, 10, 0, 0, 0), 0);
    assert_eq!(RTStrFormatNumber([0; 4].as_mut_ptr(), 1, 1, 0, 0, 0), 0);
}

#[test]
fn pure_functions_are_there_under_their_names() {
    let text = b"123456789";
    assert_eq!(RTCrc32(text.as_ptr().cast(), 9), 0xcbf4_3926);
    let crc = RTCrc32Process(RTCrc32Start(), text.as_ptr().cast(), 4);
    assert_eq!(RTCrc32Finish(RTCrc32Process(crc, text[4..].as_ptr().cast(), 5)), 0xcbf4_3926);
    let mut buffer = [0x7f as c_char; 4];
    assert_eq!(RTStrCopy(buffer.as_mut_ptr(), 4, c"abcd".as_ptr()), -41);
    assert_eq!(RTStrNCmp(buffer.as_ptr(), c"abcd".as_ptr(), 3), 0);
    let (mut a, mut b) = ([0; 2], [0; 2]);
    assert_eq!(RTUuidFromStr(&raw mut a, c"{00000001-0002-0003-0405-060708090a0b}".as_ptr()), 0);
    assert_eq!(RTUuidFromStr(&raw mut b, c"00000001-0002-0003-0405-060708090a0b".as_ptr()), 0);
    assert_eq!((a, RTUuidCompare(&raw const a, &raw const b)), (b, 0));
    assert_eq!(RTUuidCompareStr(&raw const a, c"00000001-0002-0003-0405-060708090a0c".as_ptr()), -1);
}
