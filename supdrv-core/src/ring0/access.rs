//! Addresses and copies: `RTR0Mem*` without the memory objects.

use core::ffi::c_void;

use super::runtime::{Ring0, rc};
use crate::os::{OsModule, OsUserCopy};

/// The bytes at a kernel address; none if there is nothing to do.
///
/// # Safety
/// `bytes` at `address` are the caller's and writable.
unsafe fn bytes_mut<'a>(address: *mut c_void, bytes: usize) -> &'a mut [u8] {
    if bytes == 0 {
        return &mut [];
    }
    // SAFETY: condition of the function.
    unsafe { core::slice::from_raw_parts_mut(address.cast(), bytes) }
}

/// As [`bytes_mut`], to read.
///
/// # Safety
/// `bytes` at `address` are readable.
unsafe fn bytes_at<'a>(address: *const c_void, bytes: usize) -> &'a [u8] {
    if bytes == 0 {
        return &[];
    }
    // SAFETY: condition of the function.
    unsafe { core::slice::from_raw_parts(address.cast(), bytes) }
}

/// Whether kernel and user addresses have nothing in common. Class I.
pub unsafe fn are_krnl_and_usr_different<R: Ring0>() -> bool {
    R::os().kernel_and_user_differ()
}

/// Whether an address is in the kernel's range, mapped or not. Class I.
pub unsafe fn kernel_is_valid_addr<R: Ring0>(address: *mut c_void) -> bool {
    R::os().is_kernel_address(address as usize)
}

/// Whether an address is in the user's range, mapped or not. Class I.
pub unsafe fn user_is_valid_addr<R: Ring0>(address: usize) -> bool {
    R::os().is_user_address(address)
}

/// Copies from a doubtful kernel address. Class D. 0, `VERR_ACCESS_DENIED`, `VERR_NOT_SUPPORTED`.
pub unsafe fn kernel_copy_from<R: Ring0>(to: *mut c_void, from: *const c_void, bytes: usize) -> i32 {
    // SAFETY: the caller vouches for its own buffer.
    rc(R::os().kernel_copy_from(unsafe { bytes_mut(to, bytes) }, from as usize))
}

/// Copies to a doubtful kernel address. Class D. 0, `VERR_ACCESS_DENIED`, `VERR_NOT_SUPPORTED`.
pub unsafe fn kernel_copy_to<R: Ring0>(to: *mut c_void, from: *const c_void, bytes: usize) -> i32 {
    // SAFETY: the caller vouches for its own buffer.
    rc(R::os().kernel_copy_to(to as usize, unsafe { bytes_at(from, bytes) }))
}

/// Copies from the calling process. Class T. 0, `VERR_ACCESS_DENIED`.
pub unsafe fn user_copy_from<R: Ring0>(to: *mut c_void, from: usize, bytes: usize) -> i32 {
    // SAFETY: the caller vouches for its own buffer.
    rc(R::os().user_copy_from(unsafe { bytes_mut(to, bytes) }, from))
}

/// Copies to the calling process. Class T. 0, `VERR_ACCESS_DENIED`.
pub unsafe fn user_copy_to<R: Ring0>(to: usize, from: *const c_void, bytes: usize) -> i32 {
    // SAFETY: the caller vouches for its own buffer.
    rc(R::os().user_copy_to(to, unsafe { bytes_at(from, bytes) }))
}
