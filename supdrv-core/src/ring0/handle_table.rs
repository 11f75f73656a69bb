//! Handle tables: `RTHandleTable*`.
//!
//! As the session's table ([`crate::handle_table`]), with everything variable: first handle, size, a context per handle or none, the kind of lock or
//! none. Free entries form a queue: a number comes back as late as possible.

use core::cell::UnsafeCell;
use core::ffi::c_void;
use core::ptr::null_mut;

use zerocopy::{FromZeros, Immutable, KnownLayout};

use super::handle::{self, Kind};
use super::runtime::{Ring0, rc};
use super::types::{TableDelete, TableRetain};
use crate::abi::status::{
    Result, VERR_INVALID_FUNCTION, VERR_INVALID_HANDLE, VERR_INVALID_PARAMETER, VERR_INVALID_POINTER,
    VERR_NO_MORE_HANDLES,
};
use crate::heap::Array;
use crate::os::{IrqState, LockClass, SupdrvOs};

/// Entries that the table grows by.
const BLOCK_ENTRIES: u32 = 2048;
const NO_INDEX: u32 = u32::MAX;
/// What `create` makes.
const DEFAULT_MAX: u32 = 65534;

mod flags {
    pub const CONTEXT: u32 = 1;
    pub const LOCKED: u32 = 2;
    pub const LOCKED_IRQ_SAFE: u32 = 4;
    pub const ALL: u32 = 7;
}

/// Free when `object` is 0; then `context` is the next free index.
#[derive(FromZeros, KnownLayout, Immutable)]
#[repr(C)]
struct Entry {
    object: usize,
    context: usize,
}

struct Entries<O: SupdrvOs> {
    /// A pointer to each block of entries, null where there is none yet.
    blocks: Array<usize, O>,
    free_head: u32,
    free_tail: u32,
    /// Blocks that exist.
    grown: u32,
}

struct Table<O: SupdrvOs> {
    os: O,
    base: u32,
    max: u32,
    flags: u32,
    retain: Option<TableRetain>,
    user: *mut c_void,
    lock: Option<O::SpinLock>,
    entries: UnsafeCell<Entries<O>>,
}

impl<O: SupdrvOs> Kind for Table<O> {
    const MAGIC: u32 = 0x6861_6e64;
}

impl<O: SupdrvOs> Drop for Table<O> {
    fn drop(&mut self) {
        let entries = self.entries.get_mut();
        for block in entries.blocks.iter().filter(|block| **block != 0) {
            // SAFETY: blocks are arrays that `grow` turned into pointers.
            drop(unsafe { block_from_raw(&self.os, *block) });
        }
    }
}

type Block<O> = crate::heap::Box<[Entry; BLOCK_ENTRIES as usize], O>;

/// # Safety
/// `block` came from `into_raw` and is given back once.
unsafe fn block_from_raw<O: SupdrvOs>(os: &O, block: usize) -> Option<Block<O>> {
    // SAFETY: condition of the function.
    core::ptr::NonNull::new(block as *mut _).map(|block| unsafe { Block::from_raw(os, block) })
}

impl<O: SupdrvOs> Entries<O> {
    fn entry(&mut self, index: u32) -> Option<&mut Entry> {
        let block =
            *self.blocks.get((index / BLOCK_ENTRIES) as usize)? as *mut [Entry; BLOCK_ENTRIES as usize];
        // SAFETY: pointers in the table are null or blocks that live as long as it; it is borrowed exclusively.
        unsafe { block.as_mut() }?.get_mut((index % BLOCK_ENTRIES) as usize)
    }

    fn take_free(&mut self, object: usize, context: usize) -> Option<u32> {
        let index = self.free_head;
        let entry = self.entry(index)?;
        let next = entry.context as u32;
        *entry = Entry { object, context };
        self.free_head = next;
        if next == NO_INDEX {
            self.free_tail = NO_INDEX;
        }
        Some(index)
    }

    fn append_free(&mut self, index: u32) {
        if let Some(entry) = self.entry(index) {
            *entry = Entry { object: 0, context: NO_INDEX as usize };
        }
        match self.entry(self.free_tail) {
            Some(tail) => tail.context = index as usize,
            None => self.free_head = index,
        }
        self.free_tail = index;
    }

    /// Adds a block of free entries, unless there is no room.
    fn add_block(&mut self, block: Block<O>) -> Option<Block<O>> {
        let grown = self.grown;
        let Some(place) = self.blocks.get_mut(grown as usize) else { return Some(block) };
        *place = block.into_raw().as_ptr() as usize;
        self.grown += 1;
        let first = grown * BLOCK_ENTRIES;
        for index in first..first + BLOCK_ENTRIES {
            self.append_free(index);
        }
        None
    }
}

/// Holds the table's lock, if it has one.
struct Guard<'a, O: SupdrvOs> {
    table: &'a Table<O>,
    state: IrqState,
}

impl<O: SupdrvOs> Guard<'_, O> {
    fn entries(&mut self) -> &mut Entries<O> {
        // SAFETY: the lock is held, or the table's user serialises all calls; the guard is borrowed exclusively.
        unsafe { &mut *self.table.entries.get() }
    }
}

impl<O: SupdrvOs> Drop for Guard<'_, O> {
    fn drop(&mut self) {
        let Some(lock) = &self.table.lock else { return };
        // SAFETY: the guard holds the lock, and this is the state that its acquire returned.
        unsafe {
            if self.table.flags & flags::LOCKED_IRQ_SAFE != 0 {
                self.table.os.spinlock_release_irq(lock, self.state);
            } else {
                self.table.os.spinlock_release(lock);
            }
        }
    }
}

impl<O: SupdrvOs> Table<O> {
    fn new(
        os: &O,
        table_flags: u32,
        base: u32,
        max: u32,
        retain: Option<TableRetain>,
        user: *mut c_void,
    ) -> Result<Self> {
        let max = max.checked_next_multiple_of(BLOCK_ENTRIES).ok_or(VERR_INVALID_PARAMETER)?;
        if table_flags & !flags::ALL != 0 || max == 0 || base.checked_add(max).is_none() {
            return Err(VERR_INVALID_PARAMETER);
        }
        let class = match table_flags & (flags::LOCKED | flags::LOCKED_IRQ_SAFE) {
            0 => None,
            flags::LOCKED => Some(LockClass::ModuleSpin),
            _ => Some(LockClass::ModuleIrqSpin),
        };
        let lock = class.map(|class| os.spinlock_create(class)).transpose()?;
        let blocks = Array::new_zeroed(os, (max / BLOCK_ENTRIES) as usize)?;
        let entries = Entries { blocks, free_head: NO_INDEX, free_tail: NO_INDEX, grown: 0 };
        let entries = UnsafeCell::new(entries);
        Ok(Self { os: os.clone(), base, max, flags: table_flags, retain, user, lock, entries })
    }

    fn lock(&self) -> Guard<'_, O> {
        let state = match &self.lock {
            Some(lock) if self.flags & flags::LOCKED_IRQ_SAFE != 0 => self.os.spinlock_acquire_irq(lock),
            Some(lock) => {
                self.os.spinlock_acquire(lock);
                IrqState(0)
            }
            None => IrqState(0),
        };
        Guard { table: self, state }
    }

    fn allocate(&self, object: usize, context: usize) -> Result<u32> {
        loop {
            {
                let mut guard = self.lock();
                if let Some(index) = guard.entries().take_free(object, context) {
                    return Ok(self.base + index);
                }
                if guard.entries().grown >= self.max / BLOCK_ENTRIES {
                    return Err(VERR_NO_MORE_HANDLES);
                }
            }
            // SAFETY: zeros are valid entries, and the block is fresh.
            let block = Block::new_zeroed(&self.os)?;
            let surplus = self.lock().entries().add_block(block);
            drop(surplus);
        }
    }

    /// The object of a handle, retained; freed if that is wanted.
    fn find(&self, own_handle: usize, handle: u32, context: usize, free: bool) -> Option<usize> {
        let index = handle.checked_sub(self.base)?;
        let mut guard = self.lock();
        let entry = guard.entries().entry(index)?;
        if entry.object == 0 || entry.context != context {
            return None;
        }
        let object = entry.object;
        if let Some(retain) = self.retain {
            // SAFETY: the table's owner promised that its callback may be called so, under the lock.
            let status =
                unsafe { retain(own_handle, object as *mut c_void, context as *mut c_void, self.user) };
            if status < 0 {
                return None;
            }
        }
        if free {
            guard.entries().append_free(index);
        }
        Some(object)
    }
}

unsafe fn table_of<'a, R: Ring0>(table: usize, with_context: bool) -> Result<&'a Table<R::Os>> {
    // SAFETY: the caller keeps the contract of the C function.
    let table = unsafe { handle::get::<Table<R::Os>>(table)? };
    if with_context && table.flags & flags::CONTEXT == 0 {
        return Err(VERR_INVALID_FUNCTION);
    }
    Ok(table)
}

/// Creates a table: flags context 1, locked 2, locked and IRQ-safe 4; `max` is rounded up to a multiple of 2048. Class T. 0,
/// `VERR_INVALID_POINTER`, `VERR_INVALID_PARAMETER`, `VERR_NO_MEMORY`.
pub unsafe fn create_ex<R: Ring0>(
    out: *mut usize,
    flags: u32,
    base: u32,
    max: u32,
    retain: Option<TableRetain>,
    user: *mut c_void,
) -> i32 {
    if out.is_null() {
        return VERR_INVALID_POINTER.0;
    }
    let os = &R::os();
    let table = Table::new(os, flags, base, max, retain, user);
    let result = table.and_then(|table| handle::create(os, table)).map(handle::publish);
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { out.write(result.unwrap_or(0)) };
    rc(result.map(drop))
}

/// Creates a table: locked, handles from 1 to 65534 at least, no context, no callback. Class T. As [`create_ex`].
pub unsafe fn create<R: Ring0>(out: *mut usize) -> i32 {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { create_ex::<R>(out, flags::LOCKED, 1, DEFAULT_MAX, None, null_mut()) }
}

/// Destroys a table; the callback (may be null) gets every live handle, ascending, without the lock. Class T. 0 (also for NIL),
/// `VERR_INVALID_HANDLE`.
pub unsafe fn destroy<R: Ring0>(table: usize, delete: Option<TableDelete>, user: *mut c_void) -> i32 {
    if table == 0 {
        return 0;
    }
    // SAFETY: the caller keeps the contract of the C function.
    let object = match unsafe { handle::take::<Table<R::Os>, _>(&R::os(), table) } {
        Ok(object) => object,
        Err(status) => return status.0,
    };
    let value = &object.value;
    // Nobody else has the table any more, but the callback may still use what it has of it.
    for index in 0..value.max {
        let mut guard = value.lock();
        let Some(entry) = guard.entries().entry(index) else { break };
        let (found, context) = (entry.object, entry.context);
        if found == 0 {
            continue;
        }
        guard.entries().append_free(index);
        drop(guard);
        if let Some(delete) = delete {
            let context = if value.flags & flags::CONTEXT != 0 { context } else { 0 };
            // SAFETY: the caller promised that its callback may be called so.
            unsafe { delete(table, value.base + index, found as *mut c_void, context as *mut c_void, user) };
        }
    }
    0
}

/// Allocates a handle for an object and a context. Class T. 0, `VERR_INVALID_HANDLE`, `VERR_INVALID_FUNCTION` (no contexts here),
/// `VERR_INVALID_PARAMETER` (null, or not aligned to 4), `VERR_INVALID_POINTER`, `VERR_NO_MORE_HANDLES`, `VERR_NO_MEMORY`.
/// `*out` is the handle before the first one on failure.
pub unsafe fn alloc_with_ctx<R: Ring0>(
    table: usize,
    object: *mut c_void,
    context: *mut c_void,
    out: *mut u32,
) -> i32 {
    // SAFETY: the caller keeps the contract of the C function.
    let table = match unsafe { table_of::<R>(table, true) } {
        Ok(table) => table,
        Err(status) => return status.0,
    };
    if out.is_null() {
        return VERR_INVALID_POINTER.0;
    }
    let object = object as usize;
    let result = if object == 0 || object & 3 != 0 {
        Err(VERR_INVALID_PARAMETER)
    } else {
        table.allocate(object, context as usize)
    };
    // SAFETY: as above.
    unsafe { out.write(result.unwrap_or(table.base.wrapping_sub(1))) };
    rc(result.map(drop))
}

unsafe fn find<R: Ring0>(table: usize, number: u32, context: *mut c_void, free: bool) -> *mut c_void {
    // SAFETY: the caller keeps the contract of the C function.
    let found = unsafe { table_of::<R>(table, true) }
        .and_then(|value| value.find(table, number, context as usize, free).ok_or(VERR_INVALID_HANDLE));
    found.map_or(null_mut(), |object| object as *mut c_void)
}

/// The object of a handle with this context, retained; null if there is none. Class as the lock.
pub unsafe fn lookup_with_ctx<R: Ring0>(table: usize, number: u32, context: *mut c_void) -> *mut c_void {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { find::<R>(table, number, context, false) }
}

/// As [`lookup_with_ctx`], and the handle is free then.
pub unsafe fn free_with_ctx<R: Ring0>(table: usize, number: u32, context: *mut c_void) -> *mut c_void {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { find::<R>(table, number, context, true) }
}
