//! User memory: a page table per process, and copies from and to it.
//!
//! All processes live in the host process, so that a test can follow a ring-3 pointer; but each may touch only what its own page table
//! has. Nothing else is user memory: a pointer to an ordinary Rust variable is, for the driver, not a user address.

use std::collections::{BTreeMap, HashMap};
use std::ops::{Deref, DerefMut, Range};
use std::sync::Arc;
use std::vec::Vec;

use super::memory::Frame;
use super::{Call, Class, Codes, Machine, MockOs, Process, locked};
use crate::abi::status::{Result, VERR_ACCESS_DENIED};
use crate::os::{AllocKind, MemProt, OsIdentity, OsUserCopy, PAGE_SHIFT, PAGE_SIZE};

#[derive(Clone, Copy, Debug)]
struct Page {
    frame: Frame,
    prot: MemProt,
    faults: bool,
}

/// The page table of a process.
#[derive(Debug, Default)]
pub(super) struct Space {
    pages: HashMap<usize, Page>,
    /// Address and pages of each mapping.
    areas: BTreeMap<usize, usize>,
}

/// Numbers of the pages of a range; `None` if it wraps.
fn page_numbers(address: usize, bytes: usize) -> Option<core::ops::RangeInclusive<usize>> {
    let last = address.checked_add(bytes.checked_sub(1)?)?;
    Some(address >> PAGE_SHIFT..=last >> PAGE_SHIFT)
}

impl Space {
    pub fn insert(&mut self, address: usize, frames: &[Frame], prot: MemProt) {
        self.areas.insert(address, frames.len());
        for (index, frame) in frames.iter().enumerate() {
            self.pages.insert((address >> PAGE_SHIFT) + index, Page { frame: *frame, prot, faults: false });
        }
    }

    /// Removes a mapping; `false` if it isn't there any more.
    pub fn remove(&mut self, address: usize) -> bool {
        let Some(pages) = self.areas.remove(&address) else { return false };
        for index in 0..pages {
            self.pages.remove(&((address >> PAGE_SHIFT) + index));
        }
        true
    }

    pub fn protect(&mut self, address: usize, bytes: usize, prot: MemProt) {
        for number in page_numbers(address, bytes).into_iter().flatten() {
            if let Some(page) = self.pages.get_mut(&number) {
                page.prot = prot;
            }
        }
    }

    fn allows(&self, address: usize, bytes: usize, access: MemProt) -> bool {
        let page_allows = |number| {
            self.pages.get(&number).is_some_and(|page: &Page| !page.faults && page.prot.contains(access))
        };
        page_numbers(address, bytes).is_some_and(|mut numbers| numbers.all(page_allows))
    }

    /// The pages of a range, if each of them allows the access.
    pub fn frames(&self, address: usize, bytes: usize, access: MemProt) -> Option<Vec<Frame>> {
        if !self.allows(address, bytes, access) {
            return None;
        }
        page_numbers(address, bytes)?.map(|number| self.pages.get(&number).map(|page| page.frame)).collect()
    }
}

/// Memory of a process, that a test made. It derefs to its bytes.
#[derive(Debug)]
pub struct UserMemory {
    machine: Arc<Machine>,
    process: usize,
    address: usize,
    frames: Vec<Frame>,
}

impl UserMemory {
    /// Its address in the process.
    #[must_use]
    pub const fn address(&self) -> usize {
        self.address
    }

    /// Changes the protection of some pages, as the process can.
    pub fn protect(&self, first_page: usize, pages: usize, prot: MemProt) {
        let (at, bytes) = (self.address + (first_page << PAGE_SHIFT), pages << PAGE_SHIFT);
        let mut memory = locked(&self.machine.memory);
        memory.spaces.entry(self.process).or_default().protect(at, bytes, prot);
        memory.protect(at, bytes, prot);
    }

    /// Makes the driver's accesses to a page fault.
    pub fn set_faults(&self, page: usize, faults: bool) {
        let mut memory = locked(&self.machine.memory);
        let space = memory.spaces.entry(self.process).or_default();
        if let Some(page) = space.pages.get_mut(&((self.address >> PAGE_SHIFT) + page)) {
            page.faults = faults;
        }
    }

    /// Physical addresses of its pages.
    #[must_use]
    pub fn physical(&self) -> Vec<u64> {
        self.frames.iter().map(|frame| frame << PAGE_SHIFT).collect()
    }
}

impl Deref for UserMemory {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the mapping lives as long as this value; tests that look at it keep it readable.
        unsafe { core::slice::from_raw_parts(self.address as *const u8, self.frames.len() << PAGE_SHIFT) }
    }
}

impl DerefMut for UserMemory {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and writable; kernel mappings are used through raw pointers only.
        unsafe { core::slice::from_raw_parts_mut(self.address as *mut u8, self.frames.len() << PAGE_SHIFT) }
    }
}

impl Drop for UserMemory {
    fn drop(&mut self) {
        let mut memory = locked(&self.machine.memory);
        if memory.spaces.get_mut(&self.process).is_some_and(|space| space.remove(self.address)) {
            memory.unmap(self.address, self.frames.len() << PAGE_SHIFT);
        }
        memory.release(&self.frames);
    }
}

impl<E: Codes> MockOs<E> {
    /// Gives the current process zero-filled memory.
    ///
    /// # Panics
    /// If the machine has no memory left.
    #[must_use]
    pub fn user_memory(&self, pages: usize) -> UserMemory {
        let process = self.process_handle();
        let prot = MemProt::READ | MemProt::WRITE;
        let mut memory = locked(&self.memory);
        let frames = memory.allocate(AllocKind::Page, pages).expect("the machine has memory");
        let address = memory.map(&frames, prot).expect("the process has room");
        memory.spaces.entry(process).or_default().insert(address, &frames, prot);
        drop(memory);
        UserMemory { machine: self.machine().clone(), process, address, frames }
    }

    /// Gives the current process memory that holds `bytes`.
    #[must_use]
    pub fn user_bytes(&self, bytes: &[u8]) -> UserMemory {
        let mut memory = self.user_memory(bytes.len().div_ceil(PAGE_SIZE).max(1));
        memory[..bytes.len()].copy_from_slice(bytes);
        memory
    }
}

impl Machine {
    /// Protection of a page in the current process; `None` if there is nothing.
    #[must_use]
    pub fn user_protection(&self, address: usize) -> Option<MemProt> {
        let process = self.current_process().handle();
        let memory = locked(&self.memory);
        memory.spaces.get(&process)?.pages.get(&(address >> PAGE_SHIFT)).map(|page| page.prot)
    }

    /// Bytes that the driver read, or tried to read, of user memory so far.
    #[must_use]
    pub fn user_bytes_read(&self) -> usize {
        locked(&self.memory).user_bytes_read
    }

    /// Begins to record which user memory the driver reads.
    pub fn watch_user_reads(&self) {
        locked(&self.memory).user_reads = Some(Vec::new());
    }

    /// The addresses that the driver read, or tried to read, since watching began, in order; watching ends.
    pub fn take_user_reads(&self) -> Vec<Range<usize>> {
        locked(&self.memory).user_reads.take().unwrap_or_default()
    }

    /// Number of user mappings of a process.
    #[must_use]
    pub fn user_mappings(&self, process: Process) -> usize {
        locked(&self.memory).spaces.get(&process.handle()).map_or(0, |space| space.areas.len())
    }

    /// Lets a process die: its address space is gone, whatever the driver still holds.
    pub fn process_exits(&self, process: Process) {
        let mut memory = locked(&self.memory);
        let Some(space) = memory.spaces.remove(&process.handle()) else { return };
        for (address, pages) in space.areas {
            memory.unmap(address, pages << PAGE_SHIFT);
        }
    }
}

impl<E: Codes> OsUserCopy for MockOs<E> {
    fn user_copy_from(&self, to: &mut [u8], from: usize) -> Result<()> {
        self.require(Class::T, Call::UserCopyFrom);
        if to.is_empty() {
            return Ok(());
        }
        self.fallible(Call::UserCopyFrom, VERR_ACCESS_DENIED)?;
        let process = self.process_handle();
        let mut memory = locked(&self.memory);
        memory.user_bytes_read += to.len();
        if let Some(reads) = &mut memory.user_reads {
            reads.push(from..from.saturating_add(to.len()));
        }
        let readable =
            memory.spaces.get(&process).is_some_and(|space| space.allows(from, to.len(), MemProt::READ));
        if !readable {
            return Err(VERR_ACCESS_DENIED);
        }
        // SAFETY: mapped readable, and nobody unmaps it while the memory is locked.
        unsafe { core::ptr::copy_nonoverlapping(from as *const u8, to.as_mut_ptr(), to.len()) };
        Ok(())
    }

    fn user_copy_to(&self, to: usize, from: &[u8]) -> Result<()> {
        self.require(Class::T, Call::UserCopyTo);
        if from.is_empty() {
            return Ok(());
        }
        self.fallible(Call::UserCopyTo, VERR_ACCESS_DENIED)?;
        let process = self.process_handle();
        let memory = locked(&self.memory);
        let writable =
            memory.spaces.get(&process).is_some_and(|space| space.allows(to, from.len(), MemProt::WRITE));
        if !writable {
            return Err(VERR_ACCESS_DENIED);
        }
        // SAFETY: mapped writable, and nobody unmaps it while the memory is locked.
        unsafe { core::ptr::copy_nonoverlapping(from.as_ptr(), to as *mut u8, from.len()) };
        Ok(())
    }
}
