//! Physical memory that is there already: memory of a device, or of somebody who keeps it.

use core::ffi::c_void;

use supdrv_core::abi::status::{Result, VERR_ADDRESS_TOO_BIG, VERR_MAP_FAILED};
use supdrv_core::os::{CachePolicy, PAGE_SHIFT};

use super::{Backing, MemObj};
use crate::nt::sys;

const NON_CACHED: u32 = 0;
const CACHED: u32 = 1;
/// Physical addresses have no more bits.
const ADDRESS_BITS: u32 = 52;

/// A range. Nothing was allocated for it.
pub struct Entered {
    phys: u64,
    cache: u32,
}

/// A kernel mapping of a part of one.
pub struct Mapped {
    phys: u64,
    address: *mut c_void,
    bytes: usize,
}

// SAFETY: addresses of the kernel, for any thread.
unsafe impl Send for Mapped {}
// SAFETY: as above.
unsafe impl Sync for Mapped {}

/// Describes a range.
///
/// # Errors
/// `VERR_ADDRESS_TOO_BIG`.
pub fn enter(phys: u64, bytes: usize, cache: CachePolicy) -> Result<MemObj> {
    let end = phys.checked_add(bytes as u64).filter(|end| (end - 1) >> ADDRESS_BITS == 0);
    end.ok_or(VERR_ADDRESS_TOO_BIG)?;
    let cache = if cache == CachePolicy::Mmio { NON_CACHED } else { CACHED };
    Ok(MemObj::new(Backing::Entered(Entered { phys, cache }), bytes, 0, 0))
}

impl Entered {
    pub(super) const fn phys(&self, index: usize) -> u64 {
        self.phys + ((index as u64) << PAGE_SHIFT)
    }

    pub(super) fn map_kernel(&self, offset: usize, bytes: usize) -> Result<MemObj> {
        let phys = self.phys + offset as u64;
        // SAFETY: PASSIVE (class T); whoever entered the range knows that it may be mapped in this way.
        let address = unsafe { sys::MmMapIoSpace(phys, bytes, self.cache) };
        if address.is_null() {
            return Err(VERR_MAP_FAILED);
        }
        let mapped = Mapped { phys, address, bytes };
        Ok(MemObj::new(Backing::EnteredMap(mapped), bytes, address as usize, 0))
    }
}

impl Mapped {
    pub(super) const fn phys(&self, index: usize) -> u64 {
        self.phys + ((index as u64) << PAGE_SHIFT)
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: mapped by `map_kernel`, with this size.
        unsafe { sys::MmUnmapIoSpace(self.address, self.bytes) };
    }
}
