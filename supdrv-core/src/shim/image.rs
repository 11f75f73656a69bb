//! Memory for images as one flat, writable and executable block.

use core::marker::PhantomData;
use core::ptr::NonNull;

use crate::abi::status::{Result, VERR_INVALID_PARAMETER};

/// Gives such blocks back.
pub trait FlatMemory {
    /// Class T.
    ///
    /// # Safety
    /// The block was allocated with this size in bytes; nobody executes or reads it any more.
    unsafe fn free(base: NonNull<u8>, bytes: usize);
}

/// A block; dropping it gives it back.
#[derive(Debug)]
pub struct FlatImage<M: FlatMemory> {
    base: NonNull<u8>,
    bytes: usize,
    _memory: PhantomData<fn() -> M>,
}

// SAFETY: plain memory with one owner.
unsafe impl<M: FlatMemory> Send for FlatImage<M> {}
// SAFETY: as above.
unsafe impl<M: FlatMemory> Sync for FlatImage<M> {}

impl<M: FlatMemory> Drop for FlatImage<M> {
    fn drop(&mut self) {
        // SAFETY: its maker said so, and this was the owner.
        unsafe { M::free(self.base, self.bytes) };
    }
}

impl<M: FlatMemory> FlatImage<M> {
    /// Owns a block from here on.
    ///
    /// # Safety
    /// The block has that many bytes, is writable, and is what [`FlatMemory::free`] gives back.
    pub const unsafe fn new(base: NonNull<u8>, bytes: usize) -> Self {
        Self { base, bytes, _memory: PhantomData }
    }

    /// Its address. Class I.
    #[must_use]
    pub const fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Puts an image into it. Class T.
    ///
    /// # Errors
    /// VERR_INVALID_PARAMETER: the image is larger.
    pub fn load(&self, bits: &[u8]) -> Result<()> {
        if bits.len() > self.bytes {
            return Err(VERR_INVALID_PARAMETER);
        }
        // SAFETY: within the block, which is ours; nothing executes it yet.
        unsafe { self.base.as_ptr().copy_from_nonoverlapping(bits.as_ptr(), bits.len()) };
        Ok(())
    }
}

/// The handle of native images on systems that have none.
#[derive(Debug)]
pub enum Never {}

#[cfg(test)]
mod tests {
    use core::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    static FREED: AtomicUsize = AtomicUsize::new(0);

    struct Memory;

    impl FlatMemory for Memory {
        unsafe fn free(_base: NonNull<u8>, bytes: usize) {
            FREED.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    #[test]
    fn an_image_that_is_too_large_is_refused_and_the_block_goes_back_once() {
        let mut block = [0_u8; 8];
        // SAFETY: the test's own memory, which outlives it.
        let image = unsafe { FlatImage::<Memory>::new(NonNull::from(&mut block).cast(), 8) };
        assert_eq!(image.load(&[1; 9]), Err(VERR_INVALID_PARAMETER));
        assert_eq!(image.load(&[7; 3]), Ok(()));
        drop(image);
        assert_eq!((block, FREED.load(Ordering::Relaxed)), ([7, 7, 7, 0, 0, 0, 0, 0], 8));
    }
}
