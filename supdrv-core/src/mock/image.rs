//! Memory that images run in, and a native loader to switch on.
//!
//! Image memory is executable memory of the host: machine code that is loaded into it runs when the driver calls it.

use core::ptr::NonNull;
use std::collections::HashMap;
use std::string::String;
use std::sync::Arc;
use std::vec::Vec;

use super::{Call, Class, Codes, Kind, Machine, MockOs, locked};
use crate::abi::Status;
use crate::abi::published::ImageView;
use crate::abi::status::{Result, VERR_INVALID_PARAMETER, VERR_NO_EXEC_MEMORY, VERR_NOT_SUPPORTED};
use crate::os::{NativeEntryPoints, NativeImage, OsImage, PAGE_SIZE};

/// The native loader's files and answers.
#[derive(Default)]
pub(super) struct Images {
    /// Whether images go through it.
    native: bool,
    files: HashMap<String, Vec<u8>>,
    /// What files that it doesn't have are answered with.
    missing: Option<Status>,
    corrections: Option<NativeEntryPoints>,
    opened: Vec<String>,
}

/// Executable memory with an inaccessible page behind it.
#[derive(Debug)]
pub struct ExecMem {
    machine: Arc<Machine>,
    base: NonNull<u8>,
    bytes: usize,
    kind: Kind,
    is_fictional: bool,
}

// SAFETY: the memory belongs to this value; whoever runs in it follows the loader's rules.
unsafe impl Send for ExecMem {}
// SAFETY: as above.
unsafe impl Sync for ExecMem {}

impl ExecMem {
    fn new(machine: &Arc<Machine>, size_bytes: usize, kind: Kind) -> Result<Self> {
        let bytes = size_bytes.checked_next_multiple_of(PAGE_SIZE).ok_or(VERR_NO_EXEC_MEMORY)?;
        let reserved = bytes.checked_add(PAGE_SIZE).ok_or(VERR_NO_EXEC_MEMORY)?;
        if let Some(at) = locked(&machine.memory).fiction(reserved) {
            let base = NonNull::new(at as *mut u8).ok_or(VERR_NO_EXEC_MEMORY)?;
            machine.account.made(kind);
            return Ok(Self { machine: machine.clone(), base, bytes, kind, is_fictional: true });
        }
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: makes a fresh mapping.
        let base = unsafe { libc::mmap(core::ptr::null_mut(), reserved, libc::PROT_NONE, flags, -1, 0) };
        if base == libc::MAP_FAILED {
            return Err(VERR_NO_EXEC_MEMORY);
        }
        let base = NonNull::new(base.cast()).ok_or(VERR_NO_EXEC_MEMORY)?;
        machine.account.made(kind);
        let memory = Self { machine: machine.clone(), base, bytes, kind, is_fictional: false };
        memory.protect(libc::PROT_READ | libc::PROT_WRITE);
        Ok(memory)
    }

    fn protect(&self, prot: i32) {
        // SAFETY: the range was mapped by `new`.
        let result = unsafe { libc::mprotect(self.base.as_ptr().cast(), self.bytes, prot) };
        assert!(result == 0, "the host allows memory that is writable and executable");
    }

    fn load(&self, bits: &[u8]) {
        if self.is_fictional {
            return;
        }
        // SAFETY: the caller checked the size; the memory is writable and the image isn't running yet.
        unsafe { core::ptr::copy_nonoverlapping(bits.as_ptr(), self.base.as_ptr(), bits.len()) };
        self.protect(libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC);
    }
}

impl Drop for ExecMem {
    fn drop(&mut self) {
        let call = if self.kind == Kind::ExecMemory { Call::ExecFree } else { Call::NativeUnload };
        self.machine.require(Class::T, call);
        self.machine.account.gone(self.kind);
        if self.is_fictional {
            return;
        }
        // SAFETY: the range was mapped by `new`; its owner gives it up.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.bytes + PAGE_SIZE) };
    }
}

impl Machine {
    /// Makes images go through a native loader. Files that it wasn't given are answered with `missing`.
    pub fn set_native_loader(&self, missing: Status) {
        let mut images = locked(&self.images);
        (images.native, images.missing) = (true, Some(missing));
    }

    /// Gives the native loader a file: the bits of an image, as they lie in memory.
    pub fn add_native_file(&self, file_name: &str, bits: &[u8]) {
        locked(&self.images).files.insert(file_name.into(), bits.into());
    }

    /// Makes the native loader replace the entry points of images that it loads.
    pub fn set_native_entry_points(&self, corrections: NativeEntryPoints) {
        locked(&self.images).corrections = Some(corrections);
    }

    /// Names of the images that were opened for the first time, in order.
    #[must_use]
    pub fn images_opened(&self) -> Vec<String> {
        locked(&self.images).opened.clone()
    }
}

impl<E: Codes> OsImage for MockOs<E> {
    type ExecMem = ExecMem;
    type Native = ExecMem;

    fn exec_alloc(&self, size_bytes: usize) -> Result<ExecMem> {
        self.require(Class::T, Call::ExecAlloc);
        self.fallible(Call::ExecAlloc, VERR_NO_EXEC_MEMORY)?;
        ExecMem::new(self.machine(), size_bytes, Kind::ExecMemory)
    }

    fn exec_base(&self, memory: &ExecMem) -> NonNull<u8> {
        memory.base
    }

    fn exec_load(&self, memory: &ExecMem, bits: &[u8]) -> Result<()> {
        self.require(Class::T, Call::ExecLoad);
        self.fallible(Call::ExecLoad, VERR_NO_EXEC_MEMORY)?;
        if bits.len() > memory.bytes {
            return Err(VERR_INVALID_PARAMETER);
        }
        memory.load(bits);
        Ok(())
    }

    fn native_open(&self, _image: &ImageView, file_name: &[u8]) -> Result<NativeImage<ExecMem>> {
        self.require(Class::T, Call::NativeOpen);
        self.fallible(Call::NativeOpen, VERR_NOT_SUPPORTED)?;
        let bits = {
            let images = locked(&self.images);
            if !images.native {
                return Err(VERR_NOT_SUPPORTED);
            }
            let name = core::str::from_utf8(file_name).map_err(|_| VERR_INVALID_PARAMETER)?;
            images.files.get(name).cloned().ok_or(images.missing.unwrap_or(VERR_NOT_SUPPORTED))?
        };
        let handle = ExecMem::new(self.machine(), bits.len().max(1), Kind::NativeImage)?;
        handle.load(&bits);
        let base = handle.base;
        Ok(NativeImage { handle, base })
    }

    fn image_opened(&self, image: &ImageView) {
        self.require(Class::T, Call::ImageOpened);
        let name = image.name.split(|byte| *byte == 0).next().unwrap_or(&[]);
        locked(&self.images).opened.push(String::from_utf8_lossy(name).into_owned());
    }

    fn native_validate(
        &self,
        native: &ExecMem,
        _image: &ImageView,
        address: usize,
        _bits: &[u8],
    ) -> Result<()> {
        self.require(Class::T, Call::NativeValidate);
        self.fallible(Call::NativeValidate, VERR_INVALID_PARAMETER)?;
        let offset = address.wrapping_sub(native.base.as_ptr() as usize);
        if offset < native.bytes { Ok(()) } else { Err(VERR_INVALID_PARAMETER) }
    }

    fn native_load(
        &self,
        _native: &ExecMem,
        _image: &ImageView,
        _bits: &[u8],
        entry_points: &mut NativeEntryPoints,
    ) -> Result<()> {
        self.require(Class::T, Call::NativeLoad);
        self.fallible(Call::NativeLoad, VERR_INVALID_PARAMETER)?;
        if let Some(corrections) = locked(&self.images).corrections {
            *entry_points = corrections;
        }
        Ok(())
    }
}
