//! Copies from and to addresses of the test program that may be bad.

/// End of the addresses that processes may use.
pub const USER_END: usize = if usize::BITS == 64 { usize::MAX >> 17 } else { usize::MAX } & !0xfff;

fn is_user_range(address: usize, bytes: usize) -> bool {
    address.checked_add(bytes).is_some_and(|end| end <= USER_END)
}

fn transfer(kernel: *mut u8, user: usize, bytes: usize, write: bool) -> bool {
    if bytes == 0 {
        return true;
    }
    if !is_user_range(user, bytes) {
        return false;
    }
    let local = libc::iovec { iov_base: kernel.cast(), iov_len: bytes };
    let remote = libc::iovec { iov_base: user as *mut libc::c_void, iov_len: bytes };
    // SAFETY: the kernel's side is memory of the caller; the other one is checked by the system, which is the point.
    let moved = unsafe {
        let me = libc::getpid();
        if write {
            libc::process_vm_writev(me, &raw const local, 1, &raw const remote, 1, 0)
        } else {
            libc::process_vm_readv(me, &raw const local, 1, &raw const remote, 1, 0)
        }
    };
    usize::try_from(moved) == Ok(bytes)
}

/// Copies in; `false` on any fault.
///
/// # Safety
/// `to` is writable.
pub unsafe fn copy_in(to: *mut u8, from: usize, bytes: usize) -> bool {
    transfer(to, from, bytes, false)
}

/// Copies out; `false` on any fault.
///
/// # Safety
/// `from` is readable. Whatever is at `to` and can be written may be overwritten.
pub unsafe fn copy_out(to: usize, from: *const u8, bytes: usize) -> bool {
    transfer(from.cast_mut(), to, bytes, true)
}

/// Whether the page at an address can be read, and written if that is wanted.
#[must_use]
pub fn has_access(page: usize, write: bool) -> bool {
    let mut byte = 0_u8;
    transfer(&raw mut byte, page, 1, false) && (!write || transfer(&raw mut byte, page, 1, true))
}
