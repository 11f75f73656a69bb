//! Pages of this process, for those who lock them or take rights away from them.

use core::any::Any;

/// Page-aligned memory of this process' own, zeroed, of whole pages.
pub struct Pages {
    address: usize,
    count: usize,
    /// Whoever the pages are borrowed from; nobody if they are ours.
    owner: Option<Box<dyn Any + Send + Sync>>,
}

/// Size of a page in bytes.
pub const PAGE_BYTES: usize = 0x1000;

impl Pages {
    /// `count` pages, at least one; `None` if there is no memory.
    #[must_use]
    pub fn new(count: usize) -> Option<Self> {
        let count = count.max(1);
        Some(Self { address: imp::allocate(count.checked_mul(PAGE_BYTES)?)?, count, owner: None })
    }

    /// Pages of somebody else, who is dropped with them.
    ///
    /// # Safety
    /// `count` pages are at `address`, readable and writable, as long as `owner` lives, and nobody has references to them.
    #[must_use]
    pub unsafe fn of_owner(address: usize, count: usize, owner: Box<dyn Any + Send + Sync>) -> Self {
        Self { address, count, owner: Some(owner) }
    }

    /// Where they begin.
    #[must_use]
    pub const fn address(&self) -> usize {
        self.address
    }

    /// How many there are.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.count
    }

    /// Copies as much as fits into the pages.
    pub fn write(&self, offset: usize, bytes: &[u8]) {
        for (index, byte) in (offset..self.count * PAGE_BYTES).zip(bytes) {
            let at = core::ptr::with_exposed_provenance_mut::<u8>(self.address + index);
            // SAFETY: inside our pages; volatile, since a driver may share them.
            unsafe { at.write_volatile(*byte) };
        }
    }

    /// Copies as much as there is out of the pages.
    pub fn read(&self, offset: usize, bytes: &mut [u8]) {
        for (index, byte) in (offset..self.count * PAGE_BYTES).zip(bytes) {
            let at = core::ptr::with_exposed_provenance::<u8>(self.address + index);
            // SAFETY: inside our pages; volatile, since a driver may share them.
            *byte = unsafe { at.read_volatile() };
        }
    }

    /// Makes them read-only; writing to them is a fault from now on.
    #[cfg(unix)]
    pub fn protect_read_only(&self) {
        let at = core::ptr::with_exposed_provenance_mut(self.address);
        // SAFETY: our own pages.
        unsafe { libc::mprotect(at, self.count * PAGE_BYTES, libc::PROT_READ) };
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        if self.owner.is_some() {
            return;
        }
        imp::free(self.address, self.count * PAGE_BYTES);
    }
}

#[cfg(unix)]
mod imp {
    pub fn allocate(bytes: usize) -> Option<usize> {
        let (prot, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping at an address that the system chooses.
        let at = unsafe { libc::mmap(core::ptr::null_mut(), bytes, prot, flags, -1, 0) };
        (at != libc::MAP_FAILED).then(|| at.expose_provenance())
    }

    pub fn free(address: usize, bytes: usize) {
        // SAFETY: our own mapping, which nobody uses any more.
        unsafe { libc::munmap(core::ptr::with_exposed_provenance_mut(address), bytes) };
    }
}

#[cfg(not(unix))]
mod imp {
    use super::PAGE_BYTES;
    use std::alloc::{Layout, alloc_zeroed, dealloc};

    pub fn allocate(bytes: usize) -> Option<usize> {
        let layout = Layout::from_size_align(bytes, PAGE_BYTES).ok()?;
        // SAFETY: not of size zero.
        let at = unsafe { alloc_zeroed(layout) };
        (!at.is_null()).then(|| at.expose_provenance())
    }

    pub fn free(address: usize, bytes: usize) {
        if let Ok(layout) = Layout::from_size_align(bytes, PAGE_BYTES) {
            // SAFETY: allocated above with the same layout.
            unsafe { dealloc(core::ptr::with_exposed_provenance_mut(address), layout) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_zeroed_and_keep_what_is_written() {
        let pages = Pages::new(2).unwrap();
        assert_eq!(pages.address() % PAGE_BYTES, 0);
        let mut bytes = [1; 16];
        pages.read(PAGE_BYTES - 8, &mut bytes);
        assert_eq!(bytes, [0; 16]);
        pages.write(PAGE_BYTES - 8, &[7; 16]);
        pages.read(PAGE_BYTES - 8, &mut bytes);
        assert_eq!(bytes, [7; 16]);
    }
}
