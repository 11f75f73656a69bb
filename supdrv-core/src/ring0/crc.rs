//! CRC-32: `RTCrc32*`. IEEE 802.3, reflected.

use core::ffi::c_void;

const POLYNOMIAL: u32 = 0xedb8_8320;

const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        let mut value = i as u32;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 != 0 { value >> 1 ^ POLYNOMIAL } else { value >> 1 };
            bit += 1;
        }
        table[i] = value;
        i += 1;
    }
    table
};

fn process(crc: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(crc, |crc, byte| {
        // The index is a byte.
        let entry = TABLE.get(((crc ^ u32::from(*byte)) & 0xff) as usize);
        crc >> 8 ^ entry.copied().unwrap_or(0)
    })
}

/// The start value. Any context, as everything here.
pub unsafe fn crc32_start() -> u32 {
    u32::MAX
}

/// Continues with `bytes` at `data`.
pub unsafe fn crc32_process(crc: u32, data: *const c_void, bytes: usize) -> u32 {
    if bytes == 0 {
        return crc;
    }
    // SAFETY: the caller keeps the contract of the C function.
    process(crc, unsafe { core::slice::from_raw_parts(data.cast(), bytes) })
}

/// The end value.
pub unsafe fn crc32_finish(crc: u32) -> u32 {
    !crc
}

/// The CRC of `bytes` at `data`.
pub unsafe fn crc32(data: *const c_void, bytes: usize) -> u32 {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { crc32_finish(crc32_process(crc32_start(), data, bytes)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values() {
        for (text, crc) in [
            ("", 0),
            ("123456789", 0xcbf4_3926),
            ("a", 0xe8b7_be43),
            ("The quick brown fox jumps over the lazy dog", 0x414f_a339),
        ] {
            // SAFETY: the pointer and length are those of a slice.
            assert_eq!(unsafe { crc32(text.as_ptr().cast(), text.len()) }, crc, "{text}");
        }
    }

    #[test]
    fn pieces_give_the_same_as_the_whole() {
        let data: std::vec::Vec<u8> = (0..=255).collect();
        // SAFETY: the pointers and lengths are those of slices.
        unsafe {
            let whole = crc32(data.as_ptr().cast(), data.len());
            let first = crc32_process(crc32_start(), data.as_ptr().cast(), 100);
            assert_eq!(crc32_finish(crc32_process(first, data[100..].as_ptr().cast(), 156)), whole);
        }
    }
}
