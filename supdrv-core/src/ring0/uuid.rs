//! UUIDs: `RTUuid*`.

use core::cmp::Ordering;
use core::ffi::c_char;

use super::types::Uuid;
use crate::abi::Status;
use crate::abi::status::{VERR_INVALID_PARAMETER, VERR_INVALID_UUID_FORMAT, VINF_SUCCESS};

/// Characters of the text form.
pub(super) const TEXT_BYTES: usize = 36;

/// Positions of the hyphens.
const HYPHENS: [usize; 4] = [8, 13, 18, 23];

/// The position in memory of each byte of the text form: the first three fields are numbers, most significant byte first in text.
const PLACES: [usize; 16] = if cfg!(target_endian = "little") {
    [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15]
} else {
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]
};

impl Uuid {
    fn in_text_order(&self) -> [u8; 16] {
        PLACES.map(|place| self.0.get(place).copied().unwrap_or(0))
    }

    /// The text form, in lower case.
    pub(super) fn text(&self) -> [u8; TEXT_BYTES] {
        let mut text = [b'-'; TEXT_BYTES];
        let digits = self.in_text_order().into_iter().flat_map(|byte| [byte >> 4, byte & 15]);
        let places = text.iter_mut().enumerate().filter(|(at, _)| !HYPHENS.contains(at));
        for ((_, to), digit) in places.zip(digits) {
            *to = b"0123456789abcdef".get(usize::from(digit)).copied().unwrap_or(b'?');
        }
        text
    }

    /// Parses exactly the text form.
    fn parse(text: &[u8]) -> Option<Self> {
        if text.len() != TEXT_BYTES {
            return None;
        }
        let mut uuid = Self::default();
        let mut nibble = 0;
        for (at, byte) in text.iter().enumerate() {
            if HYPHENS.contains(&at) {
                if *byte != b'-' {
                    return None;
                }
                continue;
            }
            let digit = (*byte as char).to_digit(16)? as u8;
            let place = uuid.0.get_mut(*PLACES.get(nibble / 2)?)?;
            *place = *place << 4 | digit;
            nibble += 1;
        }
        Some(uuid)
    }
}

/// Reads a UUID from a C string that may be in braces.
///
/// # Safety
/// The string is readable up to its NUL.
unsafe fn parse_c(text: *const c_char) -> Option<Uuid> {
    let mut copy = [0; TEXT_BYTES + 3];
    let mut length = 0;
    loop {
        // SAFETY: no NUL was read yet (condition of the function).
        let byte = unsafe { text.add(length).read() } as u8;
        if byte == 0 {
            break;
        }
        *copy.get_mut(length)? = byte;
        length += 1;
    }
    let text = copy.get(..length)?;
    match text.strip_prefix(b"{") {
        Some(rest) => Uuid::parse(rest.strip_suffix(b"}")?),
        None => Uuid::parse(text),
    }
}

fn compare_uuids(a: &Uuid, b: &Uuid) -> i32 {
    // Field by field is byte by byte in the order of the text.
    match a.in_text_order().cmp(&b.in_text_order()) {
        Ordering::Less => -1,
        Ordering::Equal => 0,
        Ordering::Greater => 1,
    }
}

/// Parses a UUID, in braces or not. Any context, as everything here. 0, `VERR_INVALID_PARAMETER` (null), `VERR_INVALID_UUID_FORMAT`.
pub unsafe fn from_str(uuid: *mut Uuid, text: *const c_char) -> i32 {
    if uuid.is_null() || text.is_null() {
        return VERR_INVALID_PARAMETER.0;
    }
    // SAFETY: the caller keeps the contract of the C function.
    let (status, parsed): (Status, _) = match unsafe { parse_c(text) } {
        Some(parsed) => (VINF_SUCCESS, parsed),
        None => return VERR_INVALID_UUID_FORMAT.0,
    };
    // SAFETY: as above; modules may place it anywhere.
    unsafe { uuid.write_unaligned(parsed) };
    status.0
}

/// # Safety
/// `uuid` is null or readable.
unsafe fn value_of(uuid: *const Uuid) -> Uuid {
    if uuid.is_null() {
        return Uuid::default();
    }
    // SAFETY: condition of the function.
    unsafe { uuid.read_unaligned() }
}

/// -1, 0 or 1; null is the nil UUID.
pub unsafe fn compare(a: *const Uuid, b: *const Uuid) -> i32 {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { compare_uuids(&value_of(a), &value_of(b)) }
}

/// As [`compare`] with a text; a null UUID is less, a null or bad text is less than every UUID.
pub unsafe fn compare_str(a: *const Uuid, text: *const c_char) -> i32 {
    if a.is_null() {
        return -1;
    }
    if text.is_null() {
        return 1;
    }
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { parse_c(text).map_or(1, |b| compare_uuids(&value_of(a), &b)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &core::ffi::CStr) -> (i32, Uuid) {
        let mut uuid = Uuid([0xee; 16]);
        // SAFETY: valid arguments.
        (unsafe { from_str(&raw mut uuid, text.as_ptr()) }, uuid)
    }

    #[test]
    fn the_first_three_fields_are_numbers_in_memory() {
        let (status, uuid) = parse(c"00112233-4455-6677-8899-AABBccddeeff");
        assert_eq!(status, 0);
        assert_eq!(uuid.0[..8], [0x33, 0x22, 0x11, 0x00, 0x55, 0x44, 0x77, 0x66]);
        assert_eq!(uuid.0[8..], [0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff]);
        assert_eq!(&uuid.text(), b"00112233-4455-6677-8899-aabbccddeeff");
    }

    #[test]
    fn braces_come_in_pairs() {
        assert_eq!(parse(c"{00112233-4455-6677-8899-aabbccddeeff}").0, 0);
        assert_eq!(parse(c"{00112233-4455-6677-8899-aabbccddeeff").0, -49);
        assert_eq!(parse(c"00112233-4455-6677-8899-aabbccddeeff}").0, -49);
    }

    #[test]
    fn anything_else_is_refused_and_changes_nothing() {
        for text in [
            c"",
            c"00112233-4455-6677-8899-aabbccddeef",
            c"00112233-4455-6677-8899-aabbccddeeff0",
            c"00112233445566778899aabbccddeeff0000",
            c"0011223g-4455-6677-8899-aabbccddeeff",
            c" 0112233-4455-6677-8899-aabbccddeeff",
        ] {
            assert_eq!(parse(text), (-49, Uuid([0xee; 16])), "{text:?}");
        }
        // SAFETY: null is checked.
        assert_eq!(unsafe { from_str(core::ptr::null_mut(), c"x".as_ptr()) }, -2);
    }

    #[test]
    fn order_is_by_field_not_by_memory() {
        let low = parse(c"00000001-0000-0000-0000-000000000000").1;
        let high = parse(c"01000000-0000-0000-0000-000000000000").1;
        let null = core::ptr::null();
        // SAFETY: valid or null arguments.
        unsafe {
            assert_eq!(
                (compare(&raw const low, &raw const high), compare(&raw const high, &raw const low)),
                (-1, 1)
            );
            assert_eq!((compare(null, &raw const low), compare(null, null)), (-1, 0));
            assert_eq!(compare_str(&raw const low, c"{00000001-0000-0000-0000-000000000000}".as_ptr()), 0);
            assert_eq!(
                (compare_str(&raw const low, c"x".as_ptr()), compare_str(&raw const low, core::ptr::null())),
                (1, 1)
            );
            assert_eq!(compare_str(null, core::ptr::null()), -1);
        }
    }
}
