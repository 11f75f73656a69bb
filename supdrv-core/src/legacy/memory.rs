//! Memory objects and user copies.

use core::ffi::c_void;
use core::ptr::{NonNull, null_mut};

use super::ffi::{self, TAG};
use super::{Legacy, check, created};
use crate::abi::Status;
use crate::abi::status::{Result, VERR_NOT_SUPPORTED};
use crate::os::{AllocKind, MemProt, OsMemory, OsUserCopy, ProcessHandle};

/// Anywhere in an address space.
const ANYWHERE: usize = usize::MAX;
/// Anywhere in physical memory.
const ANY_PHYS: u64 = u64::MAX;

/// An `RTR0MEMOBJ`.
pub struct MemObj(NonNull<c_void>);

// SAFETY: the runtime's memory objects may be used from any thread.
unsafe impl Send for MemObj {}
// SAFETY: as above.
unsafe impl Sync for MemObj {}

impl MemObj {
    fn raw(&self) -> ffi::MemObj {
        self.0.as_ptr()
    }

    fn size(&self) -> usize {
        // SAFETY: the handle lives as long as this value.
        unsafe { ffi::RTR0MemObjSize(self.raw()) }
    }

    fn address(&self) -> *mut c_void {
        // SAFETY: as above.
        unsafe { ffi::RTR0MemObjAddress(self.raw()) }
    }

    /// Gives it back to the runtime, which may refuse.
    fn free(self, mappings: bool) -> core::result::Result<(), (Self, Status)> {
        // SAFETY: the handle is this value's. Nobody else has it, and it is gone if the runtime agrees.
        check(unsafe { ffi::RTR0MemObjFree(self.raw(), mappings) }).map_err(|status| (self, status))
    }
}

/// The runtime doesn't promise zeroed pages; whoever sees them next is ring-3.
fn zero(object: &MemObj) -> Result<()> {
    let bytes = object.size();
    match NonNull::new(object.address()) {
        // SAFETY: the object's kernel mapping, which nobody else knows yet.
        Some(address) => unsafe { address.cast::<u8>().write_bytes(0, bytes) },
        None => {
            let map = map_kernel(object, 0, bytes, MemProt::READ | MemProt::WRITE)?;
            let address = NonNull::new(map.address());
            if let Some(address) = address {
                // SAFETY: as above.
                unsafe { address.cast::<u8>().write_bytes(0, bytes) };
            }
            map.free(false).map_err(|(_, status)| status)?;
            address.ok_or(VERR_NOT_SUPPORTED)?;
        }
    }
    Ok(())
}

fn map_kernel(parent: &MemObj, offset_bytes: usize, size_bytes: usize, prot: MemProt) -> Result<MemObj> {
    let mut handle = null_mut();
    let (to, fixed) = (&raw mut handle, ANYWHERE as *mut c_void);
    // Runtimes that can't map parts have the whole all the same.
    let whole = offset_bytes == 0 && size_bytes == parent.size();
    // SAFETY: the parent's handle lives as long as its value, and `handle` is there to be written.
    let status = unsafe {
        if whole {
            ffi::RTR0MemObjMapKernelTag(to, parent.raw(), fixed, 0, prot.bits(), TAG)
        } else {
            ffi::RTR0MemObjMapKernelExTag(
                to,
                parent.raw(),
                fixed,
                0,
                prot.bits(),
                offset_bytes,
                size_bytes,
                TAG,
            )
        }
    };
    created(status, handle).map(MemObj)
}

impl OsMemory for Legacy {
    type MemObj = MemObj;

    fn mem_alloc(&self, kind: AllocKind, size_bytes: usize, prot: MemProt) -> Result<MemObj> {
        let mut handle = null_mut();
        let (to, exec) = (&mut handle, prot.contains(MemProt::EXEC));
        let status = match kind {
            AllocKind::Page => ffi::RTR0MemObjAllocPageTag(to, size_bytes, exec, TAG),
            AllocKind::Low => ffi::RTR0MemObjAllocLowTag(to, size_bytes, exec, TAG),
            AllocKind::Contiguous => ffi::RTR0MemObjAllocContTag(to, size_bytes, exec, TAG),
            AllocKind::Unmapped => ffi::RTR0MemObjAllocPhysNCTag(to, size_bytes, ANY_PHYS, TAG),
        };
        let object = MemObj(created(status, handle)?);
        if zero(&object).is_err() {
            let _freed = object.free(true);
            return Err(VERR_NOT_SUPPORTED);
        }
        Ok(object)
    }

    fn mem_lock_user(
        &self,
        address: usize,
        size_bytes: usize,
        access: MemProt,
        process: ProcessHandle,
    ) -> Result<MemObj> {
        let mut handle = null_mut();
        // SAFETY: `process` is the calling one, so that it lives; the runtime checks the address range.
        let status = unsafe {
            ffi::RTR0MemObjLockUserTag(&raw mut handle, address, size_bytes, access.bits(), process, TAG)
        };
        created(status, handle).map(MemObj)
    }

    fn mem_map_kernel(
        &self,
        parent: &MemObj,
        offset_bytes: usize,
        size_bytes: usize,
        prot: MemProt,
    ) -> Result<MemObj> {
        map_kernel(parent, offset_bytes, size_bytes, prot)
    }

    fn mem_map_user(&self, parent: &MemObj, prot: MemProt, process: ProcessHandle) -> Result<MemObj> {
        let mut handle = null_mut();
        // SAFETY: the parent's handle lives as long as its value; `process` is the calling one.
        let status = unsafe {
            ffi::RTR0MemObjMapUserTag(&raw mut handle, parent.raw(), ANYWHERE, 0, prot.bits(), process, TAG)
        };
        created(status, handle).map(MemObj)
    }

    fn mem_protect(
        &self,
        object: &MemObj,
        offset_bytes: usize,
        size_bytes: usize,
        prot: MemProt,
    ) -> Result<()> {
        // SAFETY: the handle lives as long as the object; the runtime checks the range.
        check(unsafe { ffi::RTR0MemObjProtect(object.raw(), offset_bytes, size_bytes, prot.bits()) })
    }

    fn mem_free(&self, object: MemObj) -> core::result::Result<(), (MemObj, Status)> {
        object.free(false)
    }

    fn mem_address(&self, object: &MemObj) -> usize {
        object.address() as usize
    }

    fn mem_address_user(&self, object: &MemObj) -> usize {
        // SAFETY: the handle lives as long as the object.
        unsafe { ffi::RTR0MemObjAddressR3(object.raw()) }
    }

    fn mem_size(&self, object: &MemObj) -> usize {
        object.size()
    }

    fn mem_page_phys(&self, object: &MemObj, index: usize) -> Option<u64> {
        // SAFETY: the handle lives as long as the object; the runtime checks the index.
        let phys = unsafe { ffi::RTR0MemObjGetPagePhysAddr(object.raw(), index) };
        (phys != ANY_PHYS).then_some(phys)
    }

    fn mem_handle(&self, object: &MemObj) -> usize {
        object.raw() as usize
    }
}

impl OsUserCopy for Legacy {
    fn user_copy_from(&self, to: &mut [u8], from: usize) -> Result<()> {
        if to.is_empty() {
            return Ok(());
        }
        // SAFETY: `to` has room for that many bytes; the runtime takes any user address.
        check(unsafe { ffi::RTR0MemUserCopyFrom(to.as_mut_ptr().cast(), from, to.len()) })
    }

    fn user_copy_to(&self, to: usize, from: &[u8]) -> Result<()> {
        if from.is_empty() {
            return Ok(());
        }
        // SAFETY: `from` has that many bytes; the runtime takes any user address.
        check(unsafe { ffi::RTR0MemUserCopyTo(to, from.as_ptr().cast(), from.len()) })
    }
}
