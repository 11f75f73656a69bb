//! Memory for ring-0 images, and the system's own loader where images go through it.

use core::ptr::NonNull;

use crate::abi::published::ImageView;
use crate::abi::status::{Result, VERR_NOT_SUPPORTED};

/// An image that the system's loader placed.
#[derive(Debug)]
pub struct NativeImage<T> {
    /// What the system needs to find it again.
    pub handle: T,
    /// Its load address.
    pub base: NonNull<u8>,
}

/// The addresses that ring-3 uploaded for a native image; [`OsImage::native_load`] may correct them.
#[derive(Clone, Copy, Debug, Default)]
pub struct NativeEntryPoints {
    /// ModuleInit or 0.
    pub init: usize,
    /// ModuleTerm or 0.
    pub term: usize,
    /// VMMR0EntryInt, VMMR0EntryFast, VMMR0EntryEx; all 0 unless the image is a VMMR0 one.
    pub vmmr0: [usize; 3],
    /// Service request handler; 0 unless the image is a service.
    pub service: usize,
}

/// Image memory and native loading.
pub trait OsImage {
    /// Memory that ring-0 code runs in. Dropping it makes the range inaccessible, then frees it, and what was in it can't be read by
    /// whoever gets the pages next (class T).
    type ExecMem: Send + Sync;
    /// What the system keeps for a natively loaded image. Dropping it unloads the image (class T).
    type Native: Send + Sync;

    /// Allocates zero-filled, page-aligned, page-exclusive memory for an image of `size_bytes`, within reach of 32-bit
    /// signed references to the driver where images need that. Class T, may block.
    ///
    /// # Errors
    /// `VERR_NO_EXEC_MEMORY`.
    fn exec_alloc(&self, size_bytes: usize) -> Result<Self::ExecMem>;

    /// Address of the memory. Class I.
    fn exec_base(&self, memory: &Self::ExecMem) -> NonNull<u8>;

    /// Address of what was allocated for the memory, for the published view: at or before its start. Class I.
    fn exec_allocation(&self, memory: &Self::ExecMem) -> usize {
        self.exec_base(memory).as_ptr() as usize
    }

    /// Copies an image's bits to the start of its memory and makes it executable. Class T. It comes again if a load fails later on.
    ///
    /// # Errors
    /// `VERR_NO_EXEC_MEMORY` if the system refuses executable memory; `VERR_INVALID_PARAMETER` if `bits` is larger than
    /// what was allocated.
    fn exec_load(&self, memory: &Self::ExecMem, bits: &[u8]) -> Result<()>;

    /// Offers the file to the system's loader; seed hook `supdrvOSLdrOpen`. Class T, loader mutex held. `file_name` is
    /// UTF-8 without NUL. The image keeps its address, which is the module handle, until it has been unloaded; the
    /// implementation may note an allocation of its own in it.
    ///
    /// # Errors
    /// `VERR_NOT_SUPPORTED`: the core uses [`exec_alloc`](Self::exec_alloc). Any other status fails the open with it.
    #[doc(alias = "supdrvOSLdrOpen")]
    fn native_open(&self, _image: &ImageView, _file_name: &[u8]) -> Result<NativeImage<Self::Native>> {
        Err(VERR_NOT_SUPPORTED)
    }

    /// Tells that an image was opened for the first time; seed hook `supdrvOSLdrNotifyOpened`. Class T, loader mutex held.
    #[doc(alias = "supdrvOSLdrNotifyOpened")]
    fn image_opened(&self, _image: &ImageView) {}

    /// Checks an entry point of a native image, after the range check; seed hook `supdrvOSLdrValidatePointer`. Class T.
    ///
    /// # Errors
    /// The status that the load request fails with.
    #[doc(alias = "supdrvOSLdrValidatePointer")]
    fn native_validate(
        &self,
        _native: &Self::Native,
        _image: &ImageView,
        _address: usize,
        _bits: &[u8],
    ) -> Result<()> {
        Err(VERR_NOT_SUPPORTED)
    }

    /// Completes the load of a native image; seed hook `supdrvOSLdrLoad`. It may compare the bits and correct the entry
    /// points. Class T, loader mutex held.
    ///
    /// # Errors
    /// The status that the load request fails with.
    #[doc(alias = "supdrvOSLdrLoad")]
    fn native_load(
        &self,
        _native: &Self::Native,
        _image: &ImageView,
        _bits: &[u8],
        _entry_points: &mut NativeEntryPoints,
    ) -> Result<()> {
        Err(VERR_NOT_SUPPORTED)
    }
}
