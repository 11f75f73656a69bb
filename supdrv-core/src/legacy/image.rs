//! Image memory, and the native loader behind the seed's hooks.

use core::ffi::c_void;
use core::ptr::NonNull;
use core::sync::atomic::Ordering;

use zerocopy::FromZeros;

use super::ffi::{self, TAG};
use super::{Legacy, check};
use crate::abi::ioctl::{LDR_ENTRY_NOTHING, LDR_ENTRY_SERVICE, LDR_ENTRY_VMMR0};
use crate::abi::published::{DevExtView, ImageView};
use crate::abi::requests::LdrLoadIn;
use crate::abi::status::{
    Result, VERR_FILENAME_TOO_LONG, VERR_INVALID_PARAMETER, VERR_LDR_GENERAL_FAILURE, VERR_NO_EXEC_MEMORY,
};
use crate::os::{NativeEntryPoints, NativeImage, OsImage, PAGE_SIZE};

/// Executable memory: whole pages of an allocation that may begin anywhere.
pub struct ExecMem {
    allocation: NonNull<c_void>,
    allocated_bytes: usize,
    base: NonNull<u8>,
    bytes: usize,
}

// SAFETY: plain memory; who writes it is the loader's business.
unsafe impl Send for ExecMem {}
// SAFETY: as above.
unsafe impl Sync for ExecMem {}

impl Drop for ExecMem {
    fn drop(&mut self) {
        // The bits may hold secrets.
        // SAFETY: the memory is this value's, and nobody runs in it any more.
        unsafe { self.base.write_bytes(0, self.bytes) };
        // SAFETY: the allocation and its size, which are this value's.
        unsafe { ffi::RTMemExecFree(self.allocation.as_ptr(), self.allocated_bytes) };
    }
}

/// An image that `supdrvOSLdrOpen` accepted. The hooks know it by its published view.
pub struct Native(NonNull<ImageView>);

// SAFETY: the view consists of atomics as far as it changes.
unsafe impl Send for Native {}
// SAFETY: as above.
unsafe impl Sync for Native {}

impl Drop for Native {
    fn drop(&mut self) {
        // SAFETY: the core frees the view after the placement of the image.
        let dev_ext = dev_ext_of(unsafe { self.0.as_ref() });
        // SAFETY: the views live until after this call; the image was opened and nobody runs in it any more.
        unsafe { ffi::supdrvOSLdrUnload(dev_ext, self.0.as_ptr()) };
    }
}

fn dev_ext_of(image: &ImageView) -> *mut DevExtView {
    image.dev_ext.load(Ordering::Relaxed)
}

fn raw(image: &ImageView) -> *mut ImageView {
    core::ptr::from_ref(image).cast_mut()
}

impl OsImage for Legacy {
    type ExecMem = ExecMem;
    type Native = Native;

    fn exec_alloc(&self, size_bytes: usize) -> Result<ExecMem> {
        let bytes = size_bytes.checked_next_multiple_of(PAGE_SIZE).ok_or(VERR_NO_EXEC_MEMORY)?;
        let allocated_bytes = bytes.checked_add(PAGE_SIZE - 1).ok_or(VERR_NO_EXEC_MEMORY)?;
        let allocation = NonNull::new(ffi::RTMemExecAllocTag(allocated_bytes, TAG));
        let allocation = allocation.ok_or(VERR_NO_EXEC_MEMORY)?;
        let start = allocation.cast::<u8>();
        // SAFETY: less than a page further in, which the allocation has room for.
        let base = unsafe { start.add(start.align_offset(PAGE_SIZE)) };
        // SAFETY: fresh memory of that size.
        unsafe { base.write_bytes(0, bytes) };
        Ok(ExecMem { allocation, allocated_bytes, base, bytes })
    }

    fn exec_base(&self, memory: &ExecMem) -> NonNull<u8> {
        memory.base
    }

    fn exec_allocation(&self, memory: &ExecMem) -> usize {
        memory.allocation.as_ptr() as usize
    }

    fn exec_load(&self, memory: &ExecMem, bits: &[u8]) -> Result<()> {
        if bits.len() > memory.bytes {
            return Err(VERR_INVALID_PARAMETER);
        }
        // SAFETY: the memory is large enough, and nobody runs in it yet.
        unsafe { memory.base.as_ptr().copy_from_nonoverlapping(bits.as_ptr(), bits.len()) };
        Ok(())
    }

    fn native_open(&self, image: &ImageView, file_name: &[u8]) -> Result<NativeImage<Native>> {
        let mut name = [0_u8; 260];
        let (text, terminator) = name.split_at_mut_checked(file_name.len()).ok_or(VERR_FILENAME_TOO_LONG)?;
        if terminator.is_empty() {
            return Err(VERR_FILENAME_TOO_LONG);
        }
        text.copy_from_slice(file_name);
        // SAFETY: the views live during the call, and the rest of `name` is zero: a C string.
        check(unsafe { ffi::supdrvOSLdrOpen(dev_ext_of(image), raw(image), name.as_ptr().cast()) })?;
        let handle = Native(NonNull::from(image));
        let base = NonNull::new(image.base.load(Ordering::Relaxed) as *mut u8);
        Ok(NativeImage { handle, base: base.ok_or(VERR_LDR_GENERAL_FAILURE)? })
    }

    fn image_opened(&self, image: &ImageView) {
        // SAFETY: the views live during the call.
        unsafe { ffi::supdrvOSLdrNotifyOpened(dev_ext_of(image), raw(image)) };
    }

    fn native_validate(
        &self,
        _native: &Native,
        image: &ImageView,
        address: usize,
        bits: &[u8],
    ) -> Result<()> {
        let address = address as *mut c_void;
        // SAFETY: the views live during the call; the hook compares the addresses with the image's.
        check(unsafe {
            ffi::supdrvOSLdrValidatePointer(dev_ext_of(image), raw(image), address, bits.as_ptr())
        })
    }

    /// The hook gets the fixed part of a request packet like the one that ring-3 sent. It corrects callbacks in the image and
    /// VMMR0's entry points in the packet.
    fn native_load(
        &self,
        _native: &Native,
        image: &ImageView,
        bits: &[u8],
        entry_points: &mut NativeEntryPoints,
    ) -> Result<()> {
        let mut request = request_for(image, entry_points);
        // SAFETY: the views live during the call, `bits` has as many bytes as the request says, and the request is this function's.
        check(unsafe {
            ffi::supdrvOSLdrLoad(dev_ext_of(image), raw(image), bits.as_ptr(), &raw mut request)
        })?;
        entry_points.init = image.module_init.load(Ordering::Relaxed);
        entry_points.term = image.module_term.load(Ordering::Relaxed);
        let [first, int, fast, ex] = request.entry_points;
        match request.entry_point_type {
            LDR_ENTRY_VMMR0 => entry_points.vmmr0 = [int, fast, ex],
            LDR_ENTRY_SERVICE => entry_points.service = first,
            _ => {}
        }
        Ok(())
    }
}

fn request_for(image: &ImageView, entry_points: &NativeEntryPoints) -> LdrLoadIn {
    let mut request = LdrLoadIn::new_zeroed();
    request.module_init = entry_points.init;
    request.module_term = entry_points.term;
    request.image_base = image.base.load(Ordering::Relaxed);
    request.image_bytes = image.image_bytes;
    request.image_bytes_with_tables = image.image_bytes_with_tables;
    request.symbol_count = image.symbol_count.load(Ordering::Relaxed);
    request.strings_bytes = image.strings_bytes.load(Ordering::Relaxed);
    let [int, fast, ex] = entry_points.vmmr0;
    (request.entry_point_type, request.entry_points) = if entry_points.vmmr0 != [0; 3] {
        (LDR_ENTRY_VMMR0, [request.image_base, int, fast, ex])
    } else if entry_points.service != 0 {
        (LDR_ENTRY_SERVICE, [entry_points.service, 0, 0, 0])
    } else {
        (LDR_ENTRY_NOTHING, [0; 4])
    };
    request
}
