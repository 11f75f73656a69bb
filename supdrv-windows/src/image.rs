//! Ring-0 images: the kernel's loader, or memory of our own.
//!
//! On x64 images go through the kernel's loader: it relocates and links them, tells debuggers and the unwinder about them, and checks
//! their signature. It is asked for that with the class of `ZwSetSystemInformation` that loads display drivers. Ring-3 uploads the same
//! bits afterwards, and [`pe`] makes sure that they are the same. Where that class doesn't exist (old x86
//! kernels, emulated ones) images are placed in executable pool memory.

use core::ffi::c_void;
use core::ptr::NonNull;

use supdrv_core::abi::published::ImageView;
use supdrv_core::abi::status::{
    Result, VERR_ALREADY_LOADED, VERR_INTERNAL_ERROR_4, VERR_INVALID_PARAMETER, VERR_LDR_GENERAL_FAILURE,
    VERR_LDR_IMAGE_HASH, VERR_LDR_IMPORTED_SYMBOL_NOT_FOUND, VERR_LDR_MISMATCH_NATIVE, VERR_LOCK_FAILED,
    VERR_MODULE_NOT_FOUND, VERR_NO_EXEC_MEMORY, VERR_NOT_IMPLEMENTED, VERR_NOT_SUPPORTED,
};
use supdrv_core::heap::Array;
use supdrv_core::os::{NativeEntryPoints, NativeImage, OsArch, OsImage, OsLog, PAGE_SIZE};

use crate::Windows;
use crate::kernel;
use crate::nt::sys;
use crate::nt::{KERNEL_MODE, LoadImage, MDL_PAGES_LOCKED, Mdl, NtStatus, UnicodeString, hw};
use crate::os::{pool_alloc_exec, pool_free};
use crate::pe;

const LOAD_IN_SYSTEM_SPACE: u32 = 54;
const UNLOAD: u32 = 27;
/// What a path of the kernel begins with.
const PREFIX: [u16; 4] = [b'\\' as u16, b'?' as u16, b'?' as u16, b'\\' as u16];

/// Executable pool memory with the pages of an image inside.
pub struct ExecMem {
    block: NonNull<u8>,
    base: NonNull<u8>,
    bytes: usize,
}

// SAFETY: plain memory with one owner.
unsafe impl Send for ExecMem {}
// SAFETY: as above.
unsafe impl Sync for ExecMem {}

impl Drop for ExecMem {
    fn drop(&mut self) {
        // SAFETY: from the pool, and no code of the image runs any more. What was in it isn't left for others.
        unsafe {
            self.base.write_bytes(0, self.bytes);
            pool_free(self.block);
        }
    }
}

/// An image that the kernel loaded. It is unloaded when this is dropped.
pub struct Native {
    section: *mut c_void,
    lock: Option<Resident>,
}

// SAFETY: objects of the kernel, for any thread.
unsafe impl Send for Native {}
// SAFETY: as above.
unsafe impl Sync for Native {}

impl Drop for Native {
    fn drop(&mut self) {
        drop(self.lock.take());
        // A timer of the image that its end stopped may still run.
        kernel::flush_dpcs();
        let bytes = size_of::<*mut c_void>() as u32;
        // SAFETY: PASSIVE (class T); nothing of the image runs any more.
        let status = unsafe { sys::ZwSetSystemInformation(UNLOAD, (&raw mut self.section).cast(), bytes) };
        if !status.is_ok() {
            Windows.log_write(b"supdrv: the kernel didn't unload an image\n");
        }
    }
}

/// Keeps the pages of a kernel range in memory.
struct Resident(NonNull<Mdl>);

impl Resident {
    fn lock(address: usize, bytes: usize) -> Result<Self> {
        const READ_ACCESS: usize = 0;
        let length = u32::try_from(bytes).map_err(|_| VERR_LOCK_FAILED)?;
        // SAFETY: only describes.
        let mdl = unsafe { sys::IoAllocateMdl(address as *mut c_void, length, 0, 0, core::ptr::null_mut()) };
        let mdl = NonNull::new(mdl).ok_or(VERR_LOCK_FAILED)?;
        let function = sys::MmProbeAndLockPages as *const () as usize;
        let arguments = [mdl.as_ptr() as usize, KERNEL_MODE.cast_unsigned().into(), READ_ACCESS, 0, 0, 0];
        // SAFETY: below DISPATCH (class T); the range is a loaded image.
        let locked = unsafe { hw::guarded_call(function, arguments) };
        // SAFETY: ours.
        if locked.is_err() || unsafe { mdl.as_ref() }.flags & MDL_PAGES_LOCKED == 0 {
            // SAFETY: nothing is locked.
            unsafe { sys::IoFreeMdl(mdl.as_ptr()) };
            return Err(VERR_LOCK_FAILED);
        }
        Ok(Self(mdl))
    }
}

impl Drop for Resident {
    fn drop(&mut self) {
        // SAFETY: locked by `lock`.
        unsafe {
            sys::MmUnlockPages(self.0.as_ptr());
            sys::IoFreeMdl(self.0.as_ptr());
        }
    }
}

/// A file name of ring-3 as a path of the kernel.
fn kernel_path(file_name: &[u8]) -> Result<Array<u16, Windows>> {
    const MAX_UNITS: usize = 65534 / 2;
    let text = core::str::from_utf8(file_name).map_err(|_| VERR_INVALID_PARAMETER)?;
    let units = PREFIX.len() + text.encode_utf16().count();
    if units > MAX_UNITS {
        return Err(VERR_INVALID_PARAMETER);
    }
    let mut path = Array::<u16, Windows>::new_zeroed(&Windows, units)?;
    let name = text.encode_utf16().map(|unit| if unit == u16::from(b'/') { u16::from(b'\\') } else { unit });
    for (to, from) in path.iter_mut().zip(PREFIX.into_iter().chain(name)) {
        *to = from;
    }
    Ok(path)
}

fn load_failure(status: NtStatus) -> supdrv_core::abi::Status {
    match status {
        NtStatus::INVALID_INFO_CLASS if usize::BITS == 32 => VERR_NOT_SUPPORTED,
        NtStatus::INVALID_INFO_CLASS => VERR_NOT_IMPLEMENTED,
        NtStatus::OBJECT_NAME_NOT_FOUND => VERR_MODULE_NOT_FOUND,
        NtStatus::DRIVER_ENTRYPOINT_NOT_FOUND => VERR_LDR_IMPORTED_SYMBOL_NOT_FOUND,
        NtStatus::INVALID_IMAGE_HASH => VERR_LDR_IMAGE_HASH,
        NtStatus::IMAGE_ALREADY_LOADED => VERR_ALREADY_LOADED,
        _ => VERR_LDR_GENERAL_FAILURE,
    }
}

fn hex<const N: usize>(number: u64) -> [u8; N] {
    core::array::from_fn(|digit| {
        let nibble = number.checked_shr(4 * (N - 1 - digit) as u32).unwrap_or(0) & 15;
        b"0123456789abcdef".get(nibble as usize).copied().unwrap_or(b'?')
    })
}

/// One line: what is known, as a number, and a name.
fn note(what: &[u8], number: u64, name: &[u8]) {
    log_line(&[what, b" 0x", &hex::<16>(number), b" ", name, b"\n"]);
}

fn log_line(parts: &[&[u8]]) {
    let mut line = [0; 256];
    let mut used = 0;
    for (to, from) in line.iter_mut().zip(parts.iter().copied().flatten()) {
        *to = *from;
        used += 1;
    }
    Windows.log_write(line.get(..used).unwrap_or(&[]));
}

/// Where an image differs, and what is there: of both sides, from the first difference on.
fn log_difference(loaded: &[u8], bits: &[u8], at: usize, name: &[u8]) {
    const SHOWN: usize = 16;
    note(b"supdrv: uploaded and loaded image differ at", at as u64, name);
    for (whose, side) in [(&b"supdrv: loaded:  "[..], loaded), (b"supdrv: uploaded:", bits)] {
        let mut text = [b' '; 3 * SHOWN];
        for (to, byte) in text.chunks_exact_mut(3).zip(side.iter().skip(at)) {
            if let [_, digits @ ..] = to {
                for (to, from) in digits.iter_mut().zip(hex::<2>((*byte).into())) {
                    *to = from;
                }
            }
        }
        log_line(&[whose, &text, b"\n"]);
    }
}

impl OsImage for Windows {
    type ExecMem = ExecMem;
    type Native = Native;

    fn exec_alloc(&self, size_bytes: usize) -> Result<ExecMem> {
        let bytes = size_bytes.checked_next_multiple_of(PAGE_SIZE).ok_or(VERR_NO_EXEC_MEMORY)?;
        // Pool memory isn't page aligned everywhere.
        let total = bytes.checked_add(PAGE_SIZE).ok_or(VERR_NO_EXEC_MEMORY)?;
        let block = pool_alloc_exec(total).ok_or(VERR_NO_EXEC_MEMORY)?;
        // SAFETY: fresh memory of that size.
        unsafe { block.write_bytes(0, total) };
        let address = block.as_ptr() as usize;
        let shift = address.next_multiple_of(PAGE_SIZE) - address;
        // SAFETY: less than a page from the start.
        Ok(ExecMem { block, base: unsafe { block.add(shift) }, bytes })
    }

    fn exec_base(&self, memory: &ExecMem) -> NonNull<u8> {
        memory.base
    }

    fn exec_allocation(&self, memory: &ExecMem) -> usize {
        memory.block.as_ptr() as usize
    }

    fn exec_load(&self, memory: &ExecMem, bits: &[u8]) -> Result<()> {
        if bits.len() > memory.bytes {
            return Err(VERR_INVALID_PARAMETER);
        }
        // SAFETY: the memory has room, and is ours alone: nothing runs in it yet.
        unsafe { memory.base.copy_from_nonoverlapping(NonNull::from(bits).cast(), bits.len()) };
        Ok(())
    }

    fn native_open(&self, image: &ImageView, file_name: &[u8]) -> Result<NativeImage<Native>> {
        // An emulated kernel says that it loads images, and doesn't.
        if kernel::is_emulated() {
            return Err(VERR_NOT_SUPPORTED);
        }
        let path = kernel_path(file_name)?;
        let length = u16::try_from(path.len() * 2).map_err(|_| VERR_INVALID_PARAMETER)?;
        let mut request = LoadImage {
            name: UnicodeString { length, maximum_length: length, buffer: path.as_ptr() },
            address: core::ptr::null_mut(),
            section: core::ptr::null_mut(),
            entry_point: core::ptr::null_mut(),
            exports: core::ptr::null_mut(),
            length: 0,
        };
        let bytes = size_of::<LoadImage>() as u32;
        // SAFETY: PASSIVE (class T), with a mutex that leaves I/O alone; the request is ours.
        let status =
            unsafe { sys::ZwSetSystemInformation(LOAD_IN_SYSTEM_SPACE, (&raw mut request).cast(), bytes) };
        if let Err(status) = status.ok() {
            note(b"supdrv: the kernel's loader failed:", status.0.into(), file_name);
            return Err(load_failure(status));
        }
        let section = NonNull::new(request.section).ok_or(VERR_LDR_GENERAL_FAILURE)?;
        let mut native = Native { section: section.as_ptr(), lock: None };
        let base = request.address as usize;
        if base == 0 || !base.is_multiple_of(PAGE_SIZE) || !self.is_plausible_address(base) {
            note(b"supdrv: address of the loaded image:", base as u64, file_name);
            return Err(VERR_LDR_GENERAL_FAILURE);
        }
        if request.length != image.image_bytes {
            note(b"supdrv: size of the loaded image:", request.length.into(), file_name);
            return Err(VERR_LDR_MISMATCH_NATIVE);
        }
        native.lock = Some(Resident::lock(base, request.length as usize)?);
        // For whoever debugs what is in it.
        note(b"supdrv: image loaded at", base as u64, file_name);
        let base = NonNull::new(request.address.cast()).ok_or(VERR_LDR_GENERAL_FAILURE)?;
        Ok(NativeImage { handle: native, base })
    }

    fn native_validate(
        &self,
        _native: &Native,
        _image: &ImageView,
        _address: usize,
        _bits: &[u8],
    ) -> Result<()> {
        // The core has checked the range.
        Ok(())
    }

    fn native_load(
        &self,
        native: &Native,
        image: &ImageView,
        bits: &[u8],
        _entry_points: &mut NativeEntryPoints,
    ) -> Result<()> {
        if native.lock.is_none() {
            return Err(VERR_INTERNAL_ERROR_4);
        }
        let base = image.base.load(core::sync::atomic::Ordering::Relaxed) as *const u8;
        // SAFETY: the kernel loaded that many bytes there, and they are locked.
        let loaded = unsafe { core::slice::from_raw_parts(base, image.image_bytes as usize) };
        match pe::first_difference(loaded, bits) {
            None => Ok(()),
            Some(at) => {
                let name = image.name.split(|byte| *byte == 0).next().unwrap_or(&[]);
                log_difference(loaded, bits, at, name);
                Err(VERR_LDR_MISMATCH_NATIVE)
            }
        }
    }
}
