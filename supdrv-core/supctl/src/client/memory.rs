//! Requests of the memory services, and owners of memory.

use supdrv_core::abi::ioctl::{FLAGS_EXTRA_OUT, Function};
use supdrv_core::abi::requests as r;
use supdrv_core::os::PAGE_SIZE;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use super::Client;
use crate::error::{Error, Result};

/// Pages that the driver has allocated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allocation {
    /// Where they are in this process.
    pub r3: usize,
    /// Where they are in the kernel; 0 if they aren't mapped there.
    pub r0: usize,
    /// Physical address of each page.
    pub phys: Vec<u64>,
}

/// Physically contiguous pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContiguousAllocation {
    /// Where they are in this process.
    pub r3: usize,
    /// Where they are in the kernel.
    pub r0: usize,
    /// Physical address of the first page.
    pub phys: u64,
}

/// Which service allocated pages, and must free them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageKind {
    /// Anywhere.
    Page,
    /// Below 4 GiB.
    Low,
    /// Below 4 GiB, physically contiguous.
    Contiguous,
}

/// What may be done with pages; any combination of the three.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Protection {
    /// Reading.
    pub read: bool,
    /// Writing.
    pub write: bool,
    /// Executing.
    pub execute: bool,
}

impl Protection {
    const fn bits(self) -> u32 {
        self.read as u32 | (self.write as u32) << 1 | (self.execute as u32) << 2
    }
}

fn addresses(tail: &[u8], pages: usize) -> Vec<u64> {
    let words = tail.chunks_exact(8).take(pages);
    words.filter_map(|word| word.try_into().ok()).map(u64::from_le_bytes).collect()
}

impl Client {
    /// A request with a table of page addresses as the variable part of its answer.
    fn ask_pages<T, U>(&self, function: Function, input: &T, pages: u32) -> Result<(U, Vec<u64>)>
    where
        T: IntoBytes + Immutable,
        U: FromBytes + KnownLayout + Immutable,
    {
        let pages = pages as usize;
        let out_bytes = pages.checked_mul(8).and_then(|bytes| bytes.checked_add(size_of::<U>()));
        let out_bytes = out_bytes.filter(|bytes| u32::try_from(*bytes).is_ok());
        let out_bytes = out_bytes.ok_or_else(|| Error::invalid(function, "too many pages"))?;
        let mut packet = self.packet(function, input, &[], out_bytes);
        packet.header_mut().flags |= FLAGS_EXTRA_OUT;
        self.send(&mut packet)?;
        Ok((packet.view(), addresses(packet.tail::<U>(), pages)))
    }

    /// `LOW_ALLOC`: 1 to 255 pages below 4 GiB, mapped here and in the kernel.
    ///
    /// # Errors
    /// `VERR_PAGE_COUNT_OUT_OF_RANGE`, `VERR_NO_LOW_MEMORY`, `VERR_MAP_FAILED`, `VERR_ACCESS_DENIED` (another process).
    pub fn low_alloc(&self, pages: u32) -> Result<Allocation> {
        let input = r::LowAllocIn { pages, ..FromZeros::new_zeroed() };
        let (at, phys): (r::LowAllocOut, _) = self.ask_pages(Function::LowAlloc, &input, pages)?;
        Ok(Allocation { r3: at.r3, r0: at.r0, phys })
    }

    /// `LOW_FREE`.
    ///
    /// # Errors
    /// `VERR_INVALID_PARAMETER`: no such block.
    pub fn low_free(&self, address: usize) -> Result<()> {
        self.free(Function::LowFree, address)
    }

    /// `PAGE_ALLOC_EX`: 1 to 65536 pages, mapped here, and in the kernel if asked for.
    ///
    /// # Errors
    /// `VERR_PAGE_COUNT_OUT_OF_RANGE`, `VERR_NO_MEMORY`, `VERR_NOT_SUPPORTED` (only with the kernel mapping on this system),
    /// `VERR_MAP_FAILED`, `VERR_ACCESS_DENIED` (another process).
    pub fn page_alloc(&self, pages: u32, kernel_mapping: bool) -> Result<Allocation> {
        let input = r::PageAllocExIn {
            pages,
            kernel_mapping: u8::from(kernel_mapping),
            user_mapping: 1,
            ..FromZeros::new_zeroed()
        };
        let (at, phys): (r::PageAllocExOut, _) = self.ask_pages(Function::PageAllocEx, &input, pages)?;
        Ok(Allocation { r3: at.r3, r0: at.r0, phys })
    }

    /// `PAGE_FREE`.
    ///
    /// # Errors
    /// `VERR_INVALID_PARAMETER`: no such block.
    pub fn page_free(&self, address: usize) -> Result<()> {
        self.free(Function::PageFree, address)
    }

    /// `PAGE_MAP_KERNEL`: maps a part of an allocation, or of a locked range, into the kernel, for as long as that lives.
    ///
    /// # Errors
    /// `VERR_INVALID_PARAMETER`: no such block, or not inside it; `VERR_NOT_SUPPORTED`: not in parts on this system.
    pub fn page_map_kernel(&self, r3: usize, offset_bytes: u32, size_bytes: u32) -> Result<usize> {
        let input = r::PageMapKernelIn { r3, offset_bytes, size_bytes, ..FromZeros::new_zeroed() };
        let answer: r::PageMapKernelOut = self.ask(Function::PageMapKernel, &input)?;
        Ok(answer.r0)
    }

    /// `PAGE_PROTECT`: changes what may be done with a part of a page allocation, through the mapping here and through the one in
    /// the kernel; an address of 0 leaves that mapping alone.
    ///
    /// # Errors
    /// `VERR_INVALID_PARAMETER`: no such block, or not inside it; `VERR_NOT_SUPPORTED`.
    pub fn page_protect(
        &self,
        r3: usize,
        r0: usize,
        offset_bytes: u32,
        size_bytes: u32,
        protection: Protection,
    ) -> Result<()> {
        let input = r::PageProtectIn {
            r3,
            r0,
            offset_bytes,
            size_bytes,
            prot: protection.bits(),
            ..FromZeros::new_zeroed()
        };
        let answer: Result<r::PageProtectIn> = self.ask(Function::PageProtect, &input);
        answer.map(drop)
    }

    /// `PAGE_LOCK`: keeps pages of this process in place, and tells their physical addresses.
    ///
    /// # Errors
    /// `VERR_INVALID_PARAMETER`: not page aligned; `VERR_LOCK_FAILED`: no such memory; `VERR_ACCESS_DENIED` (another process).
    pub fn page_lock(&self, r3: usize, pages: u32) -> Result<Vec<u64>> {
        let input = r::PageLockIn { r3, pages, ..FromZeros::new_zeroed() };
        let (_, phys): (r::PageLockOut, _) = self.ask_pages(Function::PageLock, &input, pages)?;
        Ok(phys)
    }

    /// `PAGE_UNLOCK`.
    ///
    /// # Errors
    /// `VERR_INVALID_PARAMETER`: no such range.
    pub fn page_unlock(&self, address: usize) -> Result<()> {
        self.free(Function::PageUnlock, address)
    }

    /// `CONT_ALLOC`: 1 to 255 physically contiguous pages below 4 GiB, mapped here and in the kernel.
    ///
    /// # Errors
    /// `VERR_PAGE_COUNT_OUT_OF_RANGE`, `VERR_NO_CONT_MEMORY`, `VERR_MAP_FAILED`, `VERR_ACCESS_DENIED` (another process).
    pub fn cont_alloc(&self, pages: u32) -> Result<ContiguousAllocation> {
        let input = r::ContAllocIn { pages, ..FromZeros::new_zeroed() };
        let at: r::ContAllocOut = self.ask(Function::ContAlloc, &input)?;
        Ok(ContiguousAllocation { r3: at.r3, r0: at.r0, phys: at.phys })
    }

    /// `CONT_FREE`.
    ///
    /// # Errors
    /// `VERR_INVALID_PARAMETER`: no such block.
    pub fn cont_free(&self, address: usize) -> Result<()> {
        self.free(Function::ContFree, address)
    }

    /// All requests that free have the same packet.
    pub(crate) fn free(&self, function: Function, r3: usize) -> Result<()> {
        self.order(function, &r::PageFreeIn { r3, ..FromZeros::new_zeroed() }).map(drop)
    }

    fn own(&self, kind: PageKind, r3: usize, r0: usize, phys: Vec<u64>) -> Result<OwnedPages<'_>> {
        if r3 == 0 || !r3.is_multiple_of(PAGE_SIZE) {
            return Err(Error::invalid(kind.alloc_function(), format!("pages at {r3:#x} make no sense")));
        }
        Ok(OwnedPages { client: self, kind, r3, r0, phys })
    }

    /// Pages that are freed when they are dropped. See [`page_alloc`](Self::page_alloc).
    ///
    /// # Errors
    /// As there.
    pub fn pages(&self, pages: u32, kernel_mapping: bool) -> Result<OwnedPages<'_>> {
        let at = self.page_alloc(pages, kernel_mapping)?;
        self.own(PageKind::Page, at.r3, at.r0, at.phys)
    }

    /// Pages below 4 GiB that are freed when they are dropped. See [`low_alloc`](Self::low_alloc).
    ///
    /// # Errors
    /// As there.
    pub fn low(&self, pages: u32) -> Result<OwnedPages<'_>> {
        let at = self.low_alloc(pages)?;
        self.own(PageKind::Low, at.r3, at.r0, at.phys)
    }

    /// Contiguous pages that are freed when they are dropped. See [`cont_alloc`](Self::cont_alloc).
    ///
    /// # Errors
    /// As there.
    pub fn contiguous(&self, pages: u32) -> Result<OwnedPages<'_>> {
        let at = self.cont_alloc(pages)?;
        let phys = (0..u64::from(pages)).map(|page| at.phys.wrapping_add(page * PAGE_SIZE as u64)).collect();
        self.own(PageKind::Contiguous, at.r3, at.r0, phys)
    }
}

impl PageKind {
    const fn alloc_function(self) -> Function {
        match self {
            Self::Page => Function::PageAllocEx,
            Self::Low => Function::LowAlloc,
            Self::Contiguous => Function::ContAlloc,
        }
    }

    const fn free_function(self) -> Function {
        match self {
            Self::Page => Function::PageFree,
            Self::Low => Function::LowFree,
            Self::Contiguous => Function::ContFree,
        }
    }
}

/// Pages of the driver, mapped into this process; freed on drop.
pub struct OwnedPages<'c> {
    client: &'c Client,
    kind: PageKind,
    r3: usize,
    r0: usize,
    phys: Vec<u64>,
}

impl OwnedPages<'_> {
    /// Where they are in this process.
    #[must_use]
    pub const fn r3(&self) -> usize {
        self.r3
    }

    /// Where they are in the kernel; 0 if they aren't mapped there.
    #[must_use]
    pub const fn r0(&self) -> usize {
        self.r0
    }

    /// Physical address of each page.
    #[must_use]
    pub fn phys(&self) -> &[u64] {
        &self.phys
    }

    /// Size in bytes.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.phys.len() * PAGE_SIZE
    }

    /// Copies as much as fits into the pages, from `offset` on. Others may be using them: nothing is assumed about what is there.
    pub fn write(&self, offset: usize, bytes: &[u8]) {
        for (index, byte) in (offset..self.size_bytes()).zip(bytes) {
            let at = core::ptr::with_exposed_provenance_mut::<u8>(self.r3 + index);
            // SAFETY: inside the mapping, which lives as long as this value.
            unsafe { at.write_volatile(*byte) };
        }
    }

    /// Copies as much as there is out of the pages, from `offset` on.
    pub fn read(&self, offset: usize, bytes: &mut [u8]) {
        for (index, byte) in (offset..self.size_bytes()).zip(bytes) {
            let at = core::ptr::with_exposed_provenance::<u8>(self.r3 + index);
            // SAFETY: inside the mapping, which lives as long as this value.
            *byte = unsafe { at.read_volatile() };
        }
    }

    /// Frees them now, and says whether that worked.
    ///
    /// # Errors
    /// As for the request.
    pub fn free(self) -> Result<()> {
        let (client, kind, r3) = (self.client, self.kind, self.r3);
        core::mem::forget(self);
        client.free(kind.free_function(), r3)
    }
}

impl Drop for OwnedPages<'_> {
    fn drop(&mut self) {
        let _gone_with_the_session_otherwise = self.client.free(self.kind.free_function(), self.r3);
    }
}
