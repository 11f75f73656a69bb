//! Assertions: `RTAssert*`.

use core::ffi::c_char;
use core::sync::atomic::Ordering;

use super::format::print_to_log;
use super::runtime::Ring0;
use super::types::{CBool, VaList};
use crate::log::log;
use crate::os::OsModule;

/// Whether assertions print nothing. Class I.
pub unsafe fn assert_are_quiet<R: Ring0>() -> bool {
    R::state().quiet.load(Ordering::Relaxed)
}

/// Makes assertions print nothing, or print again; what they did before. Class I.
pub unsafe fn assert_set_quiet<R: Ring0>(quiet: CBool) -> bool {
    R::state().quiet.swap(quiet != 0, Ordering::Relaxed)
}

/// Whether a failed assertion may stop the machine. Class I.
pub unsafe fn assert_may_panic<R: Ring0>() -> bool {
    R::state().may_panic.load(Ordering::Relaxed)
}

/// Allows a failed assertion to stop the machine, or forbids it; what was before. Class I.
pub unsafe fn assert_set_may_panic<R: Ring0>(may_panic: CBool) -> bool {
    R::state().may_panic.swap(may_panic != 0, Ordering::Relaxed)
}

/// # Safety
/// `text` is null or a C string.
unsafe fn bytes<'a>(text: *const c_char) -> &'a [u8] {
    if text.is_null() {
        return b"<null>";
    }
    // SAFETY: condition of the function.
    unsafe { core::ffi::CStr::from_ptr(text) }.to_bytes()
}

/// A number in decimal.
fn decimal(number: u32, buffer: &mut [u8; 10]) -> &[u8] {
    let mut rest = number;
    let mut start = buffer.len();
    for place in buffer.iter_mut().rev() {
        *place = b'0' + (rest % 10) as u8;
        start -= 1;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    buffer.get(start..).unwrap_or(&[])
}

/// Begins an assertion's message: what, and where. Class I. Any argument may be null.
pub unsafe fn assert_msg1<R: Ring0>(
    expression: *const c_char,
    line: u32,
    file: *const c_char,
    function: *const c_char,
) {
    // SAFETY: a plain load.
    if unsafe { assert_are_quiet::<R>() } {
        return;
    }
    let (os, mut number) = (R::os(), [0; 10]);
    // SAFETY: the caller keeps the contract of the C function.
    unsafe {
        log(&os, &[b"!!Assertion Failed!!"]);
        log(&os, &[b"Expression: ", bytes(expression)]);
        log(&os, &[b"Location  : ", bytes(file), b"(", decimal(line, &mut number), b") ", bytes(function)]);
    }
}

/// Continues an assertion's message. Class I.
pub unsafe fn assert_msg2_v<R: Ring0>(format: *const c_char, args: VaList) {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe {
        if !assert_are_quiet::<R>() {
            print_to_log::<R>(format, args);
        }
    }
}

/// As [`assert_msg2_v`].
pub unsafe fn assert_msg2_add_v<R: Ring0>(format: *const c_char, args: VaList) {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { assert_msg2_v::<R>(format, args) };
}

/// Stops the machine, after an assertion that may. Class I. Doesn't return normally.
pub unsafe fn r0_assert_panic_system<R: Ring0>() {
    R::os().panic_system();
}
