//! Functions with variable arguments, called as C calls them, in the calling convention of the target that this is built for.
//!
//! The test is part of a crate without dependencies of its own, so that it can be built for other targets: `cargo xtask test variable` runs it as
//! a 64-bit and a 32-bit program, and as a Windows program.

use core::ffi::{CStr, c_char};
use std::cell::RefCell;

thread_local! {
    static SEEN: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

mod thunks {
    use core::ffi::{CStr, c_char};

    use supdrv_core::ring0::va::{Args, Copied, VaList};

    /// Reads what the letters of a format stand for: w a 32-bit number, l a 64-bit one, p a pointer.
    unsafe fn read(fixed: &[u64], format: *const c_char, args: VaList) -> usize {
        // SAFETY: the tests pass a string, and the arguments that it stands for.
        unsafe {
            let mut args = Args::new(args);
            let mut seen = fixed.to_vec();
            // What a callback gets is another way to the same arguments.
            let (pointer, mut copied) = (args.as_va_list_pointer(), Copied::default());
            for mut args in [Args::of_pointer(pointer, &mut copied), args] {
                for letter in CStr::from_ptr(format).to_bytes() {
                    seen.push(match letter {
                        b'w' => args.word() as u32 as u64,
                        b'l' => args.long(),
                        _ => args.pointer::<u8>() as u64,
                    });
                }
            }
            let count = seen.len();
            super::SEEN.set(seen);
            count
        }
    }

    unsafe extern "C" fn one_v(format: *const c_char, args: VaList) -> usize {
        // SAFETY: as C calls it.
        unsafe { read(&[], format, args) }
    }

    unsafe extern "C" fn three_v(a: usize, b: usize, format: *const c_char, args: VaList) -> usize {
        // SAFETY: as C calls it.
        unsafe { read(&[a as u64, b as u64], format, args) }
    }

    unsafe extern "C" fn five_v(
        a: usize,
        b: usize,
        c: usize,
        d: usize,
        format: *const c_char,
        args: VaList,
    ) -> usize {
        // SAFETY: as C calls it.
        unsafe { read(&[a as u64, b as u64, c as u64, d as u64], format, args) }
    }

    supdrv_core::__ring0_thunk! { [#[unsafe(no_mangle)]] supdrv_test_one 1 one_v }
    supdrv_core::__ring0_thunk! { [#[unsafe(no_mangle)]] supdrv_test_three 3 three_v }
    supdrv_core::__ring0_thunk! { [#[unsafe(no_mangle)]] supdrv_test_five 5 five_v }
}

unsafe extern "C" {
    fn supdrv_test_one(format: *const c_char, ...) -> usize;
    fn supdrv_test_three(a: usize, b: usize, format: *const c_char, ...) -> usize;
    fn supdrv_test_five(a: usize, b: usize, c: usize, d: usize, format: *const c_char, ...) -> usize;
}

const FORMAT: &CStr = c"wlpwwlwlllwp";

/// The arguments of `FORMAT`, as numbers.
const EXPECTED: [u64; 12] =
    [1, u64::MAX - 1, 0x1234, u32::MAX as u64, 5, 0x6000_0000_0006, 7, 8 << 40, 0, 10, 11, 0xffff_fff0];

/// What a function must have read: the fixed arguments, and the others twice.
fn seen(count: usize, fixed: &[u64]) {
    let expected = [fixed, &EXPECTED, &EXPECTED].concat();
    assert_eq!(SEEN.take(), expected);
    assert_eq!(count, expected.len());
}

macro_rules! call {
    ($function:ident($($fixed:expr),*)) => {
        // SAFETY: the arguments that the format stands for.
        unsafe {
            $function(
                $($fixed,)* FORMAT.as_ptr(), 1_u32, u64::MAX - 1, 0x1234 as *const u8, u32::MAX, 5_i32, 0x6000_0000_0006_u64, 7_u32,
                8_u64 << 40, 0_u64, 10_i64, 11_u32, 0xffff_fff0_usize as *const u8,
            )
        }
    };
}

#[test]
fn one_fixed_argument() {
    seen(call!(supdrv_test_one()), &[]);
}

#[test]
fn three_fixed_arguments() {
    seen(call!(supdrv_test_three(21, 22)), &[21, 22]);
}

#[test]
fn five_fixed_arguments() {
    seen(call!(supdrv_test_five(31, 32, 33, 34)), &[31, 32, 33, 34]);
}

#[test]
fn no_variable_argument() {
    // SAFETY: a format that stands for none.
    assert_eq!(unsafe { supdrv_test_three(1, 2, c"".as_ptr()) }, 2);
    assert_eq!(SEEN.take(), [1, 2]);
}
