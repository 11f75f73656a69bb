//! Strings: `RTStrCopy`, `RTStrDup`, `RTStrFree`, `RTStrNCmp`.

use core::ffi::{c_char, c_void};
use core::ptr::null_mut;

use super::heap;
use super::runtime::Ring0;
use crate::abi::status::{VERR_BUFFER_OVERFLOW, VINF_SUCCESS};

/// Length of a C string.
///
/// # Safety
/// It is readable up to its NUL.
pub(super) unsafe fn length(text: *const c_char) -> usize {
    let mut length = 0;
    // SAFETY: no NUL was read yet (condition of the function).
    while unsafe { text.add(length).read() } != 0 {
        length += 1;
    }
    length
}

/// Copies a string into a buffer of `bytes`, always terminated unless `bytes` is 0. Any context. 0, `VERR_BUFFER_OVERFLOW` (cut).
pub unsafe fn copy(to: *mut c_char, bytes: usize, from: *const c_char) -> i32 {
    for index in 0..bytes {
        // SAFETY: the caller keeps the contract of the C function; reading stops at the NUL.
        unsafe {
            let byte = from.add(index).read();
            let last = index + 1 == bytes;
            to.add(index).write(if last { 0 } else { byte });
            if byte == 0 {
                return VINF_SUCCESS.0;
            }
        }
    }
    VERR_BUFFER_OVERFLOW.0
}

/// Compares at most `max` characters; null is less than any string. Any context.
pub unsafe fn n_cmp(a: *const c_char, b: *const c_char, max: usize) -> i32 {
    if a == b || max == 0 {
        return 0;
    }
    if a.is_null() || b.is_null() {
        return if a.is_null() { -1 } else { 1 };
    }
    for index in 0..max {
        // SAFETY: the caller keeps the contract of the C function; reading stops at the first NUL or difference.
        let (a, b) = unsafe { (a.add(index).read() as u8, b.add(index).read() as u8) };
        if a != b || a == 0 {
            return i32::from(a) - i32::from(b);
        }
    }
    0
}

/// A copy on the heap. Class T. Null: null was given, or no memory.
pub unsafe fn dup_tag<R: Ring0>(text: *const c_char, tag: *const c_char) -> *mut c_char {
    if text.is_null() {
        return null_mut();
    }
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { heap::dup_tag::<R>(text.cast::<c_void>(), length(text) + 1, tag).cast() }
}

/// Frees such a copy; null is fine. Class T.
pub unsafe fn free<R: Ring0>(text: *mut c_char) {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { heap::free::<R>(text.cast()) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_are_cut_and_terminated() {
        let mut buffer = [0x7f as c_char; 4];
        // SAFETY: valid arguments.
        unsafe {
            assert_eq!(copy(buffer.as_mut_ptr(), 4, c"abcd".as_ptr()), -41);
            assert_eq!(buffer.map(|c| c as u8), *b"abc\0");
            assert_eq!(copy(buffer.as_mut_ptr(), 4, c"xyz".as_ptr()), 0);
            assert_eq!(buffer.map(|c| c as u8), *b"xyz\0");
            assert_eq!(copy(buffer.as_mut_ptr(), 0, c"q".as_ptr()), -41);
            assert_eq!(buffer.map(|c| c as u8), *b"xyz\0");
            assert_eq!(copy(buffer.as_mut_ptr(), 1, c"".as_ptr()), 0);
        }
    }

    #[test]
    fn comparison_is_bounded_and_knows_null() {
        let null = core::ptr::null();
        // SAFETY: valid or null arguments.
        unsafe {
            assert_eq!(n_cmp(c"abc".as_ptr(), c"abd".as_ptr(), 2), 0);
            assert!(n_cmp(c"abc".as_ptr(), c"abd".as_ptr(), 3) < 0);
            assert!(n_cmp(c"\xff".as_ptr(), c"a".as_ptr(), 9) > 0);
            assert!(n_cmp(c"ab".as_ptr(), c"a".as_ptr(), 9) > 0);
            assert_eq!(n_cmp(null, null, 5), 0);
            assert!(n_cmp(null, c"".as_ptr(), 5) < 0 && n_cmp(c"".as_ptr(), null, 5) > 0);
        }
    }
}
