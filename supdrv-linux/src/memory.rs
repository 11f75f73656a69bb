//! Memory objects, user memory, image memory.

use core::ptr::NonNull;

use supdrv_core::abi::Status;
use supdrv_core::abi::status::{Result, VERR_INVALID_PARAMETER, VERR_NO_EXEC_MEMORY, VERR_NOT_SUPPORTED};
use supdrv_core::os::{AllocKind, MemProt, OsIdentity, OsImage, OsMemory, OsUserCopy, ProcessHandle};

use crate::glue::{self, Opaque};
use crate::os::{Handle, Linux, check};

unsafe fn free_object(object: *mut Opaque) {
    // SAFETY: a `Handle` of a memory object passes it once, when it is dropped.
    unsafe { glue::supdrv_glue_mem_free(object) };
}

/// The object that a glue function creates through its out pointer.
pub(crate) fn created(create: impl FnOnce(*mut *mut Opaque) -> core::ffi::c_int) -> Result<Handle> {
    let mut object = core::ptr::null_mut();
    check(create(&raw mut object))?;
    Handle::new(object, free_object)
}

impl OsMemory for Linux {
    type MemObj = Handle;

    fn mem_alloc(&self, kind: AllocKind, size_bytes: usize, prot: MemProt) -> Result<Handle> {
        let kind = match kind {
            AllocKind::Page => 0,
            AllocKind::Low => 1,
            AllocKind::Contiguous => 2,
            AllocKind::Unmapped => 3,
        };
        // SAFETY: `created` has a place for the object.
        created(|object| unsafe { glue::supdrv_glue_mem_alloc(kind, size_bytes, prot.bits(), object) })
    }

    fn mem_lock_user(
        &self,
        address: usize,
        size_bytes: usize,
        access: MemProt,
        process: ProcessHandle,
    ) -> Result<Handle> {
        if process != self.process_handle() {
            return Err(VERR_NOT_SUPPORTED);
        }
        let write = access.contains(MemProt::WRITE);
        // SAFETY: `created` has a place for the object; C checks the range.
        created(|object| unsafe { glue::supdrv_glue_mem_lock(address, size_bytes, write, object) })
    }

    fn mem_map_kernel(
        &self,
        parent: &Handle,
        offset: usize,
        size_bytes: usize,
        _prot: MemProt,
    ) -> Result<Handle> {
        // SAFETY: the parent is a memory object, which outlives its mappings; `created` has a place for the new one.
        created(|object| unsafe {
            glue::supdrv_glue_mem_map_kernel(parent.raw(), offset, size_bytes, object)
        })
    }

    fn mem_map_user(&self, parent: &Handle, prot: MemProt, process: ProcessHandle) -> Result<Handle> {
        if process != self.process_handle() {
            return Err(VERR_NOT_SUPPORTED);
        }
        // SAFETY: the parent is a memory object, which outlives its mappings; `created` has a place for the new one.
        created(|object| unsafe { glue::supdrv_glue_mem_map_user(parent.raw(), prot.bits(), object) })
    }

    fn mem_protect(
        &self,
        _object: &Handle,
        _offset: usize,
        _size_bytes: usize,
        _prot: MemProt,
    ) -> Result<()> {
        Err(VERR_NOT_SUPPORTED)
    }

    fn mem_free(&self, object: Handle) -> core::result::Result<(), (Handle, Status)> {
        drop(object);
        Ok(())
    }

    fn mem_address(&self, object: &Handle) -> usize {
        // SAFETY: a memory object.
        unsafe { glue::supdrv_glue_mem_address(object.raw()) }
    }

    fn mem_address_user(&self, object: &Handle) -> usize {
        // SAFETY: a memory object.
        unsafe { glue::supdrv_glue_mem_address_user(object.raw()) }
    }

    fn mem_size(&self, object: &Handle) -> usize {
        // SAFETY: a memory object.
        unsafe { glue::supdrv_glue_mem_size(object.raw()) }
    }

    fn mem_page_phys(&self, object: &Handle, index: usize) -> Option<u64> {
        // SAFETY: a memory object; C checks the index.
        Some(unsafe { glue::supdrv_glue_mem_phys(object.raw(), index) }).filter(|phys| *phys != u64::MAX)
    }

    fn mem_handle(&self, object: &Handle) -> usize {
        object.raw() as usize
    }
}

impl OsUserCopy for Linux {
    fn user_copy_from(&self, to: &mut [u8], from: usize) -> Result<()> {
        // SAFETY: `to` is writable for its length; C takes any user address.
        check(unsafe { glue::supdrv_glue_copy_from_user(to.as_mut_ptr(), from, to.len()) })
    }

    fn user_copy_to(&self, to: usize, from: &[u8]) -> Result<()> {
        // SAFETY: `from` is readable for its length; C takes any user address.
        check(unsafe { glue::supdrv_glue_copy_to_user(to, from.as_ptr(), from.len()) })
    }
}

/// A part of the arena for images.
pub struct ExecMem {
    base: NonNull<u8>,
    bytes: usize,
}

// SAFETY: plain memory with one owner.
unsafe impl Send for ExecMem {}
// SAFETY: as above.
unsafe impl Sync for ExecMem {}

impl Drop for ExecMem {
    fn drop(&mut self) {
        // SAFETY: a part of the arena, ours until now.
        unsafe { glue::supdrv_glue_exec_free(self.base.as_ptr(), self.bytes) };
    }
}

/// There is no native loading on Linux: images aren't kernel modules.
pub enum Never {}

impl OsImage for Linux {
    type ExecMem = ExecMem;
    type Native = Never;

    fn exec_alloc(&self, size_bytes: usize) -> Result<ExecMem> {
        let base = NonNull::new(glue::supdrv_glue_exec_alloc(size_bytes));
        Ok(ExecMem { base: base.ok_or(VERR_NO_EXEC_MEMORY)?, bytes: size_bytes })
    }

    fn exec_base(&self, memory: &ExecMem) -> NonNull<u8> {
        memory.base
    }

    fn exec_load(&self, memory: &ExecMem, bits: &[u8]) -> Result<()> {
        if bits.len() > memory.bytes {
            return Err(VERR_INVALID_PARAMETER);
        }
        // SAFETY: a part of the arena, ours, and larger than the bits.
        check(unsafe {
            glue::supdrv_glue_exec_load(memory.base.as_ptr(), memory.bytes, bits.as_ptr(), bits.len())
        })
    }
}
