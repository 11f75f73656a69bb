//! Memory objects: real pages in a memory file, mapped wherever they are wanted.
//!
//! The machine's physical memory is a sparse file, and a physical address is an offset into it. A kernel mapping and a user mapping
//! of the same page are two mappings of the same part of the file, at different host addresses: what is written through one is read
//! through the other, and through [`Machine::read_physical`].
//!
//! | physical | what is there |
//! | --- | --- |
//! | `0x0100_0000`… | pages below 4 GiB, one by one |
//! | `0x4000_0000`… | contiguous blocks |
//! | `0x1_0000_0000`… | all others, never two neighbours (in large allocations: runs of 16) |
//!
//! Freed pages are zeroed, and mapped nowhere. With [`Machine::set_fictional_memory`], objects have addresses but no pages behind them:
//! a host maps only some ten thousand areas in a process.

use core::sync::atomic::{AtomicUsize, Ordering};
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::os::fd::FromRawFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::vec::Vec;

use super::user::Space;
use super::{Call, Class, Codes, Kind, Machine, MockOs, locked};
use crate::abi::Status;
use crate::abi::status::{
    Result, VERR_ACCESS_DENIED, VERR_ADDRESS_TOO_BIG, VERR_INVALID_PARAMETER, VERR_LOCK_FAILED,
    VERR_MAP_FAILED, VERR_NO_CONT_MEMORY, VERR_NO_LOW_MEMORY, VERR_NO_MEMORY, VERR_NO_PHYS_MEMORY,
    VERR_NOT_SUPPORTED,
};
use crate::os::{AllocKind, MemProt, OsIdentity, OsMemory, PAGE_SHIFT, PAGE_SIZE, ProcessHandle};

/// Size of the sparse file.
const PHYSICAL_BYTES: u64 = 1 << 40;
const LOW_FIRST: u64 = 0x0100_0000 >> PAGE_SHIFT;
const CONTIGUOUS_FIRST: u64 = 0x4000_0000 >> PAGE_SHIFT;
const CONTIGUOUS_END: u64 = 0xf000_0000 >> PAGE_SHIFT;
const HIGH_FIRST: u64 = 0x1_0000_0000 >> PAGE_SHIFT;
/// Allocations above this many pages come in runs.
const SCATTERED_PAGES: usize = 64;
const RUN_PAGES: usize = 16;

/// Number of a physical page.
pub(super) type Frame = u64;

/// Physical memory and address spaces.
pub(super) struct Memory {
    file: File,
    references: HashMap<Frame, u32>,
    low: Pool,
    high: Pool,
    /// Free blocks: first frame and length.
    contiguous: BTreeMap<Frame, u64>,
    fictional: bool,
    next_fiction: usize,
    pub spaces: HashMap<usize, Space>,
    pub user_bytes_read: usize,
    /// Reads of user memory, while they are watched.
    pub user_reads: Option<Vec<core::ops::Range<usize>>>,
    unmapped: bool,
    maps_locked: bool,
}

/// Where addresses begin that nothing is behind.
const FIRST_FICTION: u64 = if usize::BITS == 64 { 0x2000_0000_0000 } else { 0x4000_0000 };

/// Single pages; freed ones are used again when no new one is left.
struct Pool {
    next: Frame,
    end: Frame,
    free: Vec<Frame>,
}

impl Pool {
    const fn new(next: Frame, end: Frame) -> Self {
        Self { next, end, free: Vec::new() }
    }

    fn take(&mut self, gap: u64) -> Option<Frame> {
        if self.next >= self.end {
            return self.free.pop();
        }
        let frame = self.next;
        self.next += 1 + gap;
        Some(frame)
    }
}

fn host_prot(prot: MemProt) -> i32 {
    [(MemProt::READ, libc::PROT_READ), (MemProt::WRITE, libc::PROT_WRITE), (MemProt::EXEC, libc::PROT_EXEC)]
        .into_iter()
        .filter(|(bit, _)| prot.contains(*bit))
        .fold(libc::PROT_NONE, |host, (_, bit)| host | bit)
}

impl Memory {
    pub fn new() -> Self {
        // SAFETY: the name is a C string; the result is checked.
        let fd = unsafe { libc::memfd_create(c"supdrv-mock".as_ptr(), libc::MFD_CLOEXEC) };
        assert!(fd >= 0, "the host has no memory files");
        // SAFETY: the descriptor is fresh and owned by nobody else.
        let file = unsafe { File::from_raw_fd(fd) };
        file.set_len(PHYSICAL_BYTES).expect("memory files can be sparse");
        Self {
            file,
            references: HashMap::new(),
            low: Pool::new(LOW_FIRST, CONTIGUOUS_FIRST),
            high: Pool::new(HIGH_FIRST, PHYSICAL_BYTES >> PAGE_SHIFT),
            contiguous: BTreeMap::from([(CONTIGUOUS_FIRST, CONTIGUOUS_END - CONTIGUOUS_FIRST)]),
            fictional: false,
            next_fiction: FIRST_FICTION as usize,
            spaces: HashMap::new(),
            user_bytes_read: 0,
            user_reads: None,
            unmapped: true,
            maps_locked: true,
        }
    }

    /// A block that begins at a multiple of `align` frames and ends below `end`.
    fn take_contiguous(&mut self, pages: u64, align: u64, end: Frame) -> Option<Frame> {
        let fits = |(&free, &len): (&Frame, &u64)| {
            let first = free.next_multiple_of(align);
            (first + pages <= (free + len).min(end)).then_some((free, len, first))
        };
        let (free, len, first) = self.contiguous.iter().find_map(fits)?;
        self.contiguous.remove(&free);
        for (rest, rest_end) in [(free, first), (first + pages, free + len)] {
            if rest < rest_end {
                self.contiguous.insert(rest, rest_end - rest);
            }
        }
        Some(first)
    }

    /// A block of pages below `end`.
    fn allocate_block(&mut self, pages: u64, align: u64, end: Frame) -> Option<Vec<Frame>> {
        let first = self.take_contiguous(pages, align, end)?;
        let frames: Vec<Frame> = (first..first + pages).collect();
        self.retain(&frames);
        Some(frames)
    }

    fn give_contiguous(&mut self, frame: Frame) {
        let (mut first, mut len) = (frame, 1);
        if let Some((&before, &before_len)) = self.contiguous.range(..frame).next_back()
            && before + before_len == frame
        {
            (first, len) = (before, before_len + 1);
        }
        if let Some(after_len) = self.contiguous.remove(&(frame + 1)) {
            len += after_len;
        }
        self.contiguous.insert(first, len);
    }

    pub fn allocate(&mut self, kind: AllocKind, pages: usize) -> Result<Vec<Frame>> {
        let frames: Option<Vec<Frame>> = match kind {
            AllocKind::Contiguous => {
                return self.allocate_block(pages as u64, 1, HIGH_FIRST).ok_or(VERR_NO_CONT_MEMORY);
            }
            AllocKind::Low => (0..pages).map(|_| self.low.take(1)).collect(),
            AllocKind::Page | AllocKind::Unmapped => (0..pages)
                .map(|page| {
                    let in_run = pages > SCATTERED_PAGES && page % RUN_PAGES != RUN_PAGES - 1;
                    self.high.take(u64::from(!in_run))
                })
                .collect(),
        };
        let frames = frames.ok_or(match kind {
            AllocKind::Contiguous => VERR_NO_CONT_MEMORY,
            AllocKind::Low => VERR_NO_LOW_MEMORY,
            AllocKind::Page | AllocKind::Unmapped => VERR_NO_MEMORY,
        })?;
        for frame in &frames {
            self.references.insert(*frame, 1);
        }
        Ok(frames)
    }

    pub fn retain(&mut self, frames: &[Frame]) {
        for frame in frames {
            *self.references.entry(*frame).or_insert(0) += 1;
        }
    }

    pub fn release(&mut self, frames: &[Frame]) {
        let mut dead: Vec<Frame> = Vec::new();
        for frame in frames {
            let Some(count) = self.references.get_mut(frame) else { continue };
            *count -= 1;
            if *count == 0 {
                self.references.remove(frame);
                dead.push(*frame);
            }
        }
        for run in dead.chunk_by(|a, b| a + 1 == *b) {
            self.zero(run[0], run.len());
        }
        for frame in dead {
            match frame {
                ..CONTIGUOUS_FIRST => self.low.free.push(frame),
                CONTIGUOUS_FIRST..HIGH_FIRST => self.give_contiguous(frame),
                _ => {}
            }
        }
    }

    fn zero(&self, first: Frame, pages: usize) {
        use std::os::fd::AsRawFd;
        if self.fictional {
            return;
        }
        let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        let (offset, len) = ((first << PAGE_SHIFT).cast_signed(), (pages << PAGE_SHIFT) as i64);
        // SAFETY: punches a hole into a file of ours.
        let result = unsafe { libc::fallocate64(self.file.as_raw_fd(), mode, offset, len) };
        assert!(result == 0, "a hole can be punched");
    }

    /// A range of addresses with nothing behind it, if memory is fictional.
    pub fn fiction(&mut self, bytes: usize) -> Option<usize> {
        if !self.fictional {
            return None;
        }
        let at = self.next_fiction;
        self.next_fiction += bytes;
        Some(at)
    }

    /// Maps frames side by side, with an inaccessible page behind them.
    pub fn map(&mut self, frames: &[Frame], prot: MemProt) -> Result<usize> {
        use std::os::fd::AsRawFd;
        let bytes = frames.len() << PAGE_SHIFT;
        if let Some(at) = self.fiction(bytes + PAGE_SIZE) {
            return Ok(at);
        }
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: reserves a fresh range of addresses.
        let base =
            unsafe { libc::mmap(core::ptr::null_mut(), bytes + PAGE_SIZE, libc::PROT_NONE, flags, -1, 0) };
        if base == libc::MAP_FAILED {
            return Err(VERR_MAP_FAILED);
        }
        let mut at = base.cast::<u8>();
        for run in frames.chunk_by(|a, b| a + 1 == *b) {
            let (run_bytes, offset) = (run.len() << PAGE_SHIFT, (run[0] << PAGE_SHIFT).cast_signed());
            let flags = libc::MAP_SHARED | libc::MAP_FIXED;
            // SAFETY: replaces part of the range that was reserved above.
            let mapped = unsafe {
                libc::mmap64(at.cast(), run_bytes, host_prot(prot), flags, self.file.as_raw_fd(), offset)
            };
            if mapped == libc::MAP_FAILED {
                self.unmap(base as usize, bytes);
                return Err(VERR_MAP_FAILED);
            }
            at = at.wrapping_add(run_bytes);
        }
        Ok(base as usize)
    }

    /// Removes what [`map`](Self::map) made.
    pub fn unmap(&self, at: usize, bytes: usize) {
        if !self.fictional {
            // SAFETY: the range was made by `map`, and its owner gives it up.
            unsafe { libc::munmap(at as *mut _, bytes + PAGE_SIZE) };
        }
    }

    pub fn protect(&self, at: usize, bytes: usize, prot: MemProt) {
        if !self.fictional {
            // SAFETY: the range is inside one that `map` made.
            let result = unsafe { libc::mprotect(at as *mut _, bytes, host_prot(prot)) };
            assert!(result == 0, "the host can change protection");
        }
    }
}

#[derive(Debug)]
enum Role {
    /// Pages of its own.
    Pages,
    /// Pages of a process.
    Locked { address: usize },
    /// Shown to the kernel.
    KernelMap,
    /// Shown to a process.
    UserMap { process: usize },
}

/// A memory object.
#[derive(Debug)]
pub struct MemObj {
    machine: Arc<Machine>,
    role: Role,
    /// Where this object is mapped; 0 if it isn't.
    address: usize,
    frames: Vec<Frame>,
    /// Mappings of a primary object; shared with them.
    mappings: Arc<AtomicUsize>,
    /// Whether the pages live as long as the object: not if they were there before.
    keeps: bool,
    freed: bool,
}

impl MemObj {
    const fn kind(&self) -> Kind {
        match self.role {
            Role::Pages | Role::Locked { .. } => Kind::Memory,
            Role::KernelMap | Role::UserMap { .. } => Kind::Mapping,
        }
    }

    fn bytes(&self) -> usize {
        self.frames.len() << PAGE_SHIFT
    }

    /// Part of the object; the core has checked that it is one.
    fn part(&self, offset: usize, bytes: usize) -> Result<&[Frame]> {
        let aligned = (offset | bytes).is_multiple_of(PAGE_SIZE) && bytes != 0;
        let end = offset.checked_add(bytes).filter(|_| aligned);
        let part = end.and_then(|end| self.frames.get(offset >> PAGE_SHIFT..end >> PAGE_SHIFT));
        part.ok_or_else(|| {
            self.machine.violation("something is asked of a part that a memory object doesn't have");
            VERR_INVALID_PARAMETER
        })
    }

    fn new(machine: &Arc<Machine>, role: Role, address: usize, frames: Vec<Frame>) -> Self {
        let object = Self {
            machine: machine.clone(),
            role,
            address,
            frames,
            mappings: Arc::default(),
            keeps: true,
            freed: false,
        };
        machine.account.made(object.kind());
        object
    }

    fn mapping_of(parent: &Self, role: Role, address: usize, frames: Vec<Frame>) -> Self {
        parent.mappings.fetch_add(1, Ordering::Relaxed);
        let mut mapping = Self::new(&parent.machine, role, address, frames);
        mapping.mappings = parent.mappings.clone();
        mapping.keeps = parent.keeps;
        mapping
    }
}

impl Drop for MemObj {
    fn drop(&mut self) {
        if !self.freed {
            self.machine.violation("a memory object is dropped, not freed");
        }
    }
}

impl Machine {
    /// Gives later memory objects and images addresses without pages: for more of them than the host can map. The driver must be up
    /// already: it uses the GIP's page.
    pub fn set_fictional_memory(&self) {
        locked(&self.memory).fictional = true;
    }

    /// Whether the system can allocate pages without a kernel mapping; it can at first.
    pub fn set_unmapped_pages(&self, supported: bool) {
        locked(&self.memory).unmapped = supported;
    }

    /// Whether the system can map locked memory into the kernel; it can at first.
    pub fn set_maps_locked(&self, supported: bool) {
        locked(&self.memory).maps_locked = supported;
    }

    /// Reads physical memory.
    pub fn read_physical(&self, address: u64, to: &mut [u8]) {
        locked(&self.memory).file.read_exact_at(to, address).expect("physical memory can be read");
    }

    /// Number of physical pages that somebody owns.
    #[must_use]
    pub fn frames_in_use(&self) -> usize {
        locked(&self.memory).references.len()
    }
}

/// What modules alone ask for.
impl<E: Codes> MockOs<E> {
    pub(super) fn alloc_phys(&self, bytes: usize, highest: u64, align: usize) -> Result<MemObj> {
        self.require(Class::T, Call::MemAlloc);
        self.fallible(Call::MemAlloc, VERR_NO_PHYS_MEMORY)?;
        self.check_size(bytes);
        let (pages, align) = ((bytes >> PAGE_SHIFT) as u64, (align >> PAGE_SHIFT) as u64);
        let frames =
            locked(&self.memory).allocate_block(pages, align, highest.saturating_add(1) >> PAGE_SHIFT);
        let frames = frames.ok_or(VERR_NO_PHYS_MEMORY)?;
        Ok(MemObj::new(self.machine(), Role::Pages, 0, frames))
    }

    pub(super) fn alloc_phys_nc(&self, bytes: usize, highest: u64) -> Result<MemObj> {
        self.require(Class::T, Call::MemAlloc);
        self.fallible(Call::MemAlloc, VERR_NO_PHYS_MEMORY)?;
        self.check_size(bytes);
        let mut memory = locked(&self.memory);
        if !memory.unmapped {
            return Err(VERR_NOT_SUPPORTED);
        }
        let kind = if highest == u64::MAX { AllocKind::Unmapped } else { AllocKind::Low };
        let frames = memory.allocate(kind, bytes >> PAGE_SHIFT).map_err(|_| VERR_NO_PHYS_MEMORY)?;
        if frames.iter().any(|frame| (frame + 1) << PAGE_SHIFT > highest.saturating_add(1)) {
            memory.release(&frames);
            return Err(VERR_NO_PHYS_MEMORY);
        }
        drop(memory);
        Ok(MemObj::new(self.machine(), Role::Pages, 0, frames))
    }

    /// Memory that is there already: nobody owns it by this.
    pub(super) fn enter_phys(&self, phys: u64, bytes: usize) -> Result<MemObj> {
        self.require(Class::T, Call::MemEnterPhys);
        self.fallible(Call::MemEnterPhys, VERR_NO_MEMORY)?;
        self.check_size(bytes);
        let end = phys
            .checked_add(bytes as u64)
            .filter(|end| *end <= PHYSICAL_BYTES)
            .ok_or(VERR_ADDRESS_TOO_BIG)?;
        let frames = (phys >> PAGE_SHIFT..end >> PAGE_SHIFT).collect();
        let mut object = MemObj::new(self.machine(), Role::Pages, 0, frames);
        object.keeps = false;
        Ok(object)
    }
}

fn typical(kind: AllocKind) -> Status {
    match kind {
        AllocKind::Low => VERR_NO_LOW_MEMORY,
        AllocKind::Contiguous => VERR_NO_CONT_MEMORY,
        AllocKind::Page | AllocKind::Unmapped => VERR_NO_MEMORY,
    }
}

impl<E: Codes> MockOs<E> {
    fn check_size(&self, bytes: usize) {
        if bytes == 0 || !bytes.is_multiple_of(PAGE_SIZE) {
            self.violation("a memory object of a size that isn't a multiple of the page size");
        }
    }
}

impl<E: Codes> OsMemory for MockOs<E> {
    type MemObj = MemObj;

    fn mem_alloc(&self, kind: AllocKind, size_bytes: usize, prot: MemProt) -> Result<MemObj> {
        self.require(Class::T, Call::MemAlloc);
        self.fallible(Call::MemAlloc, typical(kind))?;
        self.check_size(size_bytes);
        let mut memory = locked(&self.memory);
        if kind == AllocKind::Unmapped && !memory.unmapped {
            return Err(VERR_NOT_SUPPORTED);
        }
        let frames = memory.allocate(kind, size_bytes >> PAGE_SHIFT)?;
        let address = if kind == AllocKind::Unmapped {
            0
        } else {
            memory.map(&frames, prot).inspect_err(|_| memory.release(&frames))?
        };
        drop(memory);
        Ok(MemObj::new(self.machine(), Role::Pages, address, frames))
    }

    fn mem_lock_user(
        &self,
        address: usize,
        size_bytes: usize,
        access: MemProt,
        process: ProcessHandle,
    ) -> Result<MemObj> {
        self.require(Class::T, Call::MemLockUser);
        self.fallible(Call::MemLockUser, VERR_LOCK_FAILED)?;
        self.check_size(size_bytes);
        if process != self.process_handle() {
            return Err(VERR_NOT_SUPPORTED);
        }
        let mut memory = locked(&self.memory);
        let space = memory.spaces.entry(process).or_default();
        let frames = space.frames(address, size_bytes, access).ok_or(VERR_LOCK_FAILED)?;
        memory.retain(&frames);
        drop(memory);
        Ok(MemObj::new(self.machine(), Role::Locked { address }, 0, frames))
    }

    fn mem_map_kernel(
        &self,
        parent: &MemObj,
        offset_bytes: usize,
        size_bytes: usize,
        prot: MemProt,
    ) -> Result<MemObj> {
        self.require(Class::T, Call::MemMapKernel);
        self.fallible(Call::MemMapKernel, VERR_MAP_FAILED)?;
        let mut memory = locked(&self.memory);
        if matches!(parent.role, Role::Locked { .. }) && !memory.maps_locked {
            return Err(VERR_NOT_SUPPORTED);
        }
        let frames = parent.part(offset_bytes, size_bytes)?.to_vec();
        let address = memory.map(&frames, prot)?;
        if parent.keeps {
            memory.retain(&frames);
        }
        drop(memory);
        Ok(MemObj::mapping_of(parent, Role::KernelMap, address, frames))
    }

    fn mem_map_user(&self, parent: &MemObj, prot: MemProt, process: ProcessHandle) -> Result<MemObj> {
        self.require(Class::T, Call::MemMapUser);
        self.fallible(Call::MemMapUser, VERR_MAP_FAILED)?;
        if process != self.process_handle() {
            return Err(VERR_NOT_SUPPORTED);
        }
        let mut memory = locked(&self.memory);
        let address = memory.map(&parent.frames, prot)?;
        if parent.keeps {
            memory.retain(&parent.frames);
        }
        memory.spaces.entry(process).or_default().insert(address, &parent.frames, prot);
        drop(memory);
        Ok(MemObj::mapping_of(parent, Role::UserMap { process }, address, parent.frames.clone()))
    }

    fn mem_protect(
        &self,
        object: &MemObj,
        offset_bytes: usize,
        size_bytes: usize,
        prot: MemProt,
    ) -> Result<()> {
        self.require(Class::T, Call::MemProtect);
        self.fallible(Call::MemProtect, VERR_NOT_SUPPORTED)?;
        object.part(offset_bytes, size_bytes)?;
        if object.address == 0 {
            return Err(VERR_NOT_SUPPORTED);
        }
        let at = object.address + offset_bytes;
        let mut memory = locked(&self.memory);
        if let Role::UserMap { process } = object.role {
            if process != self.process_handle() {
                return Err(VERR_ACCESS_DENIED);
            }
            memory.spaces.entry(process).or_default().protect(at, size_bytes, prot);
        }
        memory.protect(at, size_bytes, prot);
        Ok(())
    }

    fn mem_free(&self, mut object: MemObj) -> core::result::Result<(), (MemObj, Status)> {
        self.require(Class::T, Call::MemFree);
        if let Err(status) = self.fails_if_targeted(Call::MemFree) {
            return Err((object, status));
        }
        let is_mapping = object.kind() == Kind::Mapping;
        if is_mapping {
            object.mappings.fetch_sub(1, Ordering::Relaxed);
        } else if object.mappings.load(Ordering::Relaxed) != 0 {
            self.violation("a memory object is freed while it is mapped");
        }
        let mut memory = locked(&self.memory);
        let gone_already = match object.role {
            Role::UserMap { process } => {
                !memory.spaces.get_mut(&process).is_some_and(|space| space.remove(object.address))
            }
            _ => false,
        };
        if object.address != 0 && !gone_already {
            memory.unmap(object.address, object.bytes());
        }
        if object.keeps {
            memory.release(&object.frames);
        }
        drop(memory);
        object.freed = true;
        self.account.gone(object.kind());
        Ok(())
    }

    fn mem_address(&self, object: &MemObj) -> usize {
        match object.role {
            Role::Pages | Role::KernelMap => object.address,
            Role::Locked { .. } | Role::UserMap { .. } => 0,
        }
    }

    fn mem_address_user(&self, object: &MemObj) -> usize {
        match object.role {
            Role::UserMap { .. } => object.address,
            Role::Locked { address } => address,
            Role::Pages | Role::KernelMap => 0,
        }
    }

    fn mem_size(&self, object: &MemObj) -> usize {
        object.bytes()
    }

    fn mem_page_phys(&self, object: &MemObj, index: usize) -> Option<u64> {
        object.frames.get(index).map(|frame| frame << PAGE_SHIFT)
    }

    fn mem_handle(&self, object: &MemObj) -> usize {
        object.frames.as_ptr() as usize
    }
}
