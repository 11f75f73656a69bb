//! Comparing an image as ring-3 relocated and linked it with what the kernel's loader made of the same file.
//!
//! Everything is read from the kernel's copy, every step is checked against its size, and anything odd is a difference.

use core::ops::Range;

/// Most import descriptors that are looked at.
const MAX_IMPORTS: usize = 16;
const DESCRIPTOR_BYTES: usize = 20;
const POINTER_BYTES: usize = size_of::<usize>();

fn u16_at(image: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(image.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

fn u32_at(image: &[u8], at: usize) -> Option<usize> {
    Some(u32::from_le_bytes(image.get(at..at.checked_add(4)?)?.try_into().ok()?) as usize)
}

/// Where the first difference is that the kernel's loader doesn't explain. Of an image that makes no sense it explains none.
#[must_use]
pub fn first_difference(loaded: &[u8], bits: &[u8]) -> Option<usize> {
    if loaded.len() != bits.len() {
        return Some(loaded.len().min(bits.len()));
    }
    if loaded == bits {
        return None;
    }
    // Loaders that bind imports may rewrite the lookup tables: these are left out.
    let Some(mut ranges) = lookup_tables(loaded) else { return difference(loaded, bits, 0..loaded.len()) };
    ranges.sort_unstable_by_key(|range| range.start);
    let mut from = 0;
    for range in ranges.into_iter().chain(core::iter::once(loaded.len()..loaded.len())) {
        if range.start > from
            && let Some(at) = difference(loaded, bits, from..range.start)
        {
            return Some(at);
        }
        from = from.max(range.end);
    }
    None
}

fn difference(left: &[u8], right: &[u8], range: Range<usize>) -> Option<usize> {
    let (left, right) = (left.get(range.clone())?, right.get(range.clone())?);
    left.iter().zip(right).position(|(left, right)| left != right).map(|at| range.start + at)
}

/// The import lookup tables of an image, empty ranges for those that aren't there; `None` if the image makes no sense.
fn lookup_tables(image: &[u8]) -> Option<[Range<usize>; MAX_IMPORTS]> {
    const MACHINE: u16 = if usize::BITS == 64 { 0x8664 } else { 0x14c };
    const MAGIC: u16 = if usize::BITS == 64 { 0x20b } else { 0x10b };
    const NT_HEADERS_BYTES: usize = if usize::BITS == 64 { 264 } else { 248 };
    const OPTIONAL: usize = 24;
    const DIRECTORIES: usize = OPTIONAL + if usize::BITS == 64 { 112 } else { 96 };
    let header = u32_at(image, 0x3c)?;
    if image.get(..2)? != b"MZ"
        || header < 0x40
        || header > image.len().checked_sub(NT_HEADERS_BYTES)?
        || image.get(header..header + 4)? != b"PE\0\0"
        || u16_at(image, header + 4)? != MACHINE
        || u16_at(image, header + OPTIONAL)? != MAGIC
        || u32_at(image, header + DIRECTORIES - 4)? <= 1
    {
        return None;
    }
    let (imports, bytes) =
        (u32_at(image, header + DIRECTORIES + 8)?, u32_at(image, header + DIRECTORIES + 12)?);
    let mut tables = [const { 0..0 }; MAX_IMPORTS];
    if imports == 0 {
        return Some(tables);
    }
    image.get(imports..imports.checked_add(bytes)?)?;
    for (count, at) in (imports..).step_by(DESCRIPTOR_BYTES).enumerate() {
        let descriptor = image.get(at..at.checked_add(DESCRIPTOR_BYTES)?)?;
        if descriptor.iter().all(|byte| *byte == 0) {
            return Some(tables);
        }
        let table = tables.get_mut(count)?;
        let start = u32_at(image, at)?;
        if start != 0 {
            *table = start..thunks_end(image, start)?;
        }
    }
    None
}

/// The end of a table of pointers: behind its zero.
fn thunks_end(image: &[u8], start: usize) -> Option<usize> {
    let mut at = start;
    loop {
        let end = at.checked_add(POINTER_BYTES)?;
        if image.get(at..end)?.iter().all(|byte| *byte == 0) {
            return Some(end);
        }
        at = end;
    }
}
