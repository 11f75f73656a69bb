//! A session's handle table: 32-bit numbers for objects, as ring-3 sees them.
//!
//! Handles start at 1; at most [`MAX_HANDLES`] are live. Free entries form a queue, so that a freed number comes back only
//! after every other free entry of the blocks allocated so far: that is a guard against use after close, and clients see it.
//! Every entry carries a *context*, the kind of object it is for; a handle used with another context isn't found.
//!
//! The table grows in blocks of [`BLOCK_ENTRIES`] entries, allocated outside the lock; lookups cost O(1).

use zerocopy::{FromZeros, Immutable, KnownLayout};

use crate::abi::status::{Result, VERR_NO_MORE_HANDLES};
use crate::heap::Array;
use crate::os::{OsHeap, OsLock};
use crate::sync::IrqSpinLock;

/// Live handles of one session.
pub const MAX_HANDLES: u32 = 32768;
/// Entries per block.
pub const BLOCK_ENTRIES: u32 = 2048;
const BLOCKS: usize = (MAX_HANDLES / BLOCK_ENTRIES) as usize;
/// The handle of index 0.
const BASE: u32 = 1;
const NO_INDEX: u32 = u32::MAX;

/// Free when `object` is 0; then `link` is the next free index.
#[derive(FromZeros, KnownLayout, Immutable)]
#[repr(C)]
struct Entry {
    object: usize,
    context: u32,
    link: u32,
}

/// The entries; protected by the table's lock.
pub struct Entries<O: OsHeap> {
    blocks: [Option<Array<Entry, O>>; BLOCKS],
    free_head: u32,
    free_tail: u32,
}

impl<O: OsHeap> Entries<O> {
    /// A table without entries.
    #[must_use]
    pub const fn new() -> Self {
        Self { blocks: [const { None }; BLOCKS], free_head: NO_INDEX, free_tail: NO_INDEX }
    }

    fn entry(&mut self, index: u32) -> Option<&mut Entry> {
        let block = self.blocks.get_mut((index / BLOCK_ENTRIES) as usize)?.as_mut()?;
        block.get_mut((index % BLOCK_ENTRIES) as usize)
    }

    fn is_full(&self) -> bool {
        self.free_head == NO_INDEX && self.blocks.iter().all(Option::is_some)
    }

    fn take_free(&mut self, object: usize, context: u32) -> Option<u32> {
        let index = self.free_head;
        let entry = self.entry(index)?;
        (entry.object, entry.context) = (object, context);
        let next = entry.link;
        self.free_head = next;
        if next == NO_INDEX {
            self.free_tail = NO_INDEX;
        }
        Some(index + BASE)
    }

    fn append_free(&mut self, index: u32) {
        if let Some(entry) = self.entry(index) {
            (entry.object, entry.context, entry.link) = (0, 0, NO_INDEX);
        }
        match self.entry(self.free_tail) {
            Some(tail) => tail.link = index,
            None => self.free_head = index,
        }
        self.free_tail = index;
    }

    /// Adds a block of free entries. Gives it back if there is no room (two threads grew the table at once).
    fn add_block(&mut self, block: Array<Entry, O>) -> Option<Array<Entry, O>> {
        let Some(slot) = self.blocks.iter().position(Option::is_none) else { return Some(block) };
        if let Some(place) = self.blocks.get_mut(slot) {
            *place = Some(block);
        }
        let first = slot as u32 * BLOCK_ENTRIES;
        for index in first..first + BLOCK_ENTRIES {
            self.append_free(index);
        }
        None
    }

    /// The object of a handle of this context.
    pub fn lookup(&mut self, handle: u32, context: u32) -> Option<usize> {
        let entry = self.entry(handle.checked_sub(BASE)?)?;
        (entry.object != 0 && entry.context == context).then_some(entry.object)
    }

    /// Frees a handle of this context.
    pub fn remove(&mut self, handle: u32, context: u32) -> Option<usize> {
        let object = self.lookup(handle, context)?;
        self.append_free(handle.checked_sub(BASE)?);
        Some(object)
    }

    /// Frees the live handle with the lowest number at or after `*from`, which moves behind it.
    pub fn drain_next(&mut self, from: &mut u32) -> Option<(usize, u32)> {
        while *from < MAX_HANDLES {
            let index = *from;
            let Some(block) = self.blocks.get((index / BLOCK_ENTRIES) as usize).and_then(Option::as_ref)
            else {
                *from = MAX_HANDLES;
                return None;
            };
            *from = index + 1;
            let Some(entry) = block.get((index % BLOCK_ENTRIES) as usize) else { continue };
            if entry.object != 0 {
                let found = (entry.object, entry.context);
                self.append_free(index);
                return Some(found);
            }
        }
        None
    }
}

impl<O: OsHeap> Default for Entries<O> {
    fn default() -> Self {
        Self::new()
    }
}

/// Allocates a handle for an object. Class T, may block.
///
/// # Errors
/// `VERR_NO_MORE_HANDLES` when all are in use, `VERR_NO_MEMORY`.
pub fn allocate<O: OsHeap + OsLock + Clone>(
    table: &IrqSpinLock<Entries<O>, O>,
    os: &O,
    object: usize,
    context: u32,
) -> Result<u32> {
    loop {
        {
            let mut entries = table.lock();
            if let Some(handle) = entries.take_free(object, context) {
                return Ok(handle);
            }
            if entries.is_full() {
                return Err(VERR_NO_MORE_HANDLES);
            }
        }
        let block = Array::new_zeroed(os, BLOCK_ENTRIES as usize)?;
        let surplus = table.lock().add_block(block);
        drop(surplus);
    }
}
