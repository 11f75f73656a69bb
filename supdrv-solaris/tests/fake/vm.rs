//! Memory: the kernel's blocks and addresses, locked memory of processes.

use core::ffi::{c_int, c_void};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};

use fakekernel::ram::{Access, PAGE, Ram};
use fakekernel::{context, user, violation};

use super::space::process_structure;
use super::{lock, machine};

const EFAULT: c_int = 14;
const ENOMEM: c_int = 12;
const ANYWHERE: u64 = u64::MAX;

/// The arenas' addresses; nobody looks into them.
#[repr(transparent)]
pub struct Arena(usize);

#[unsafe(no_mangle)]
pub static solaris_heap_arena: Arena = Arena(0xffff_fe00_0500_0000);
#[unsafe(no_mangle)]
pub static solaris_heaptext_arena: Arena = Arena(0xffff_fe00_0500_1000);

/// Pages with a kernel address.
struct Block {
    bytes: usize,
    pages: Vec<u64>,
    contiguous: bool,
}

type Cleanup = unsafe extern "C" fn(usize);

struct LockedMemory {
    process: usize,
    pages: usize,
    cleanup: Cleanup,
}

#[derive(Default)]
struct Vm {
    blocks: BTreeMap<usize, Block>,
    /// Cookies of blocks.
    cookies: BTreeMap<usize, usize>,
    locked: BTreeMap<usize, LockedMemory>,
}

static VM: Mutex<Vm> =
    Mutex::new(Vm { blocks: BTreeMap::new(), cookies: BTreeMap::new(), locked: BTreeMap::new() });
static NEXT_COOKIE: AtomicUsize = AtomicUsize::new(0xffff_fe00_0600_0000);

fn vm() -> MutexGuard<'static, Vm> {
    lock(&VM)
}

pub fn ram() -> &'static Ram {
    &machine().ram
}

fn cookie() -> usize {
    NEXT_COOKIE.fetch_add(0x100, Ordering::Relaxed)
}

// ---- the kernel's blocks ----

fn new_block(bytes: usize, pages: Vec<u64>, contiguous: bool, access: Access) -> usize {
    let address = Ram::reserve(bytes).expect("addresses of the host");
    ram().map_at(address, &pages, access);
    machine().ledger.add("kernel blocks", 1);
    vm().blocks.insert(address, Block { bytes, pages, contiguous });
    address
}

fn free_block(address: usize, bytes: Option<usize>) {
    let Some(block) = vm().blocks.remove(&address) else { violation("a block that doesn't exist is freed") };
    assert!(bytes.is_none_or(|bytes| bytes == block.bytes), "the size of a block");
    ram().unmap(address, block.pages.len());
    ram().unreserve(address, block.bytes);
    match (block.contiguous, block.pages.first()) {
        (true, Some(first)) => ram().free(*first, block.pages.len()),
        _ => block.pages.iter().for_each(|page| ram().free(*page, 1)),
    }
    machine().ledger.add("kernel blocks", -1);
}

fn scattered(count: usize) -> Vec<u64> {
    (0..count).map(|_| ram().alloc(1, ANYWHERE, PAGE as u64).expect("pages of the machine")).collect()
}

/// The kernel zeroes these, too.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn solaris_ddi_umem_alloc(bytes: usize, _flags: c_int, out: *mut usize) -> *mut c_void {
    context::may_sleep("ddi_umem_alloc");
    if machine().faults.must_fail("ddi_umem_alloc") {
        return core::ptr::null_mut();
    }
    let address = new_block(bytes, scattered(bytes / PAGE), false, Access::all());
    let cookie = cookie();
    vm().cookies.insert(cookie, address);
    out.write(cookie);
    address as *mut c_void
}

#[unsafe(no_mangle)]
pub extern "C" fn solaris_ddi_umem_free(cookie: usize) {
    context::may_sleep("ddi_umem_free");
    let Some(address) = vm().cookies.remove(&cookie) else { violation("a cookie that doesn't exist") };
    free_block(address, None);
}

/// The part of `ddi_dma_attr_t` that counts here.
#[repr(C)]
pub struct DmaAttr {
    version: u32,
    low: u64,
    high: u64,
    count_max: u64,
    align: u64,
    burst_sizes: u32,
    min_transfer: u32,
    max_transfer: u64,
    segment: u64,
    list_length: c_int,
    granularity: u32,
    flags: u32,
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn solaris_contig_alloc(
    bytes: usize,
    attributes: *const DmaAttr,
    align: usize,
    can_sleep: c_int,
) -> *mut c_void {
    context::may_sleep("contig_alloc");
    let attributes = attributes.read();
    assert!(
        attributes.version == 0
            && attributes.list_length == 1
            && attributes.align == align as u64
            && can_sleep == 1
    );
    if machine().faults.must_fail("contig_alloc") {
        return core::ptr::null_mut();
    }
    let count = bytes / PAGE;
    let Some(first) = ram().alloc(count, attributes.high, align as u64) else { return core::ptr::null_mut() };
    let pages = (0..count).map(|i| first + (i * PAGE) as u64).collect();
    new_block(bytes, pages, true, Access::all()) as *mut c_void
}

#[unsafe(no_mangle)]
pub extern "C" fn solaris_contig_free(memory: usize, bytes: usize) {
    context::may_sleep("contig_free");
    free_block(memory, Some(bytes));
}

#[unsafe(no_mangle)]
pub extern "C" fn solaris_segkmem_alloc(arena: usize, bytes: usize, flags: c_int) -> *mut c_void {
    context::may_sleep("segkmem_alloc");
    assert!(arena == solaris_heaptext_arena.0 && flags == 0 && bytes.is_multiple_of(PAGE));
    if machine().faults.must_fail("segkmem_alloc") {
        return core::ptr::null_mut();
    }
    new_block(bytes, scattered(bytes / PAGE), false, Access::all()) as *mut c_void
}

#[unsafe(no_mangle)]
pub extern "C" fn solaris_segkmem_free(arena: usize, memory: usize, bytes: usize) {
    context::may_sleep("segkmem_free");
    assert_eq!(arena, solaris_heaptext_arena.0);
    free_block(memory, Some(bytes));
}

#[unsafe(no_mangle)]
pub extern "C" fn solaris_vmem_alloc(arena: usize, bytes: usize, flags: c_int) -> *mut c_void {
    context::may_sleep("vmem_alloc");
    assert!(arena == solaris_heap_arena.0 && flags == 0);
    if machine().faults.must_fail("vmem_alloc") {
        return core::ptr::null_mut();
    }
    let Some(address) = Ram::reserve(bytes) else { return core::ptr::null_mut() };
    machine().ledger.enter("kernel address ranges", address, bytes);
    address as *mut c_void
}

#[unsafe(no_mangle)]
pub extern "C" fn solaris_vmem_free(arena: usize, memory: usize, bytes: usize) {
    context::may_sleep("vmem_free");
    assert_eq!(
        (arena, machine().ledger.leave("kernel address ranges", memory)),
        (solaris_heap_arena.0, bytes)
    );
    ram().unreserve(memory, bytes);
}

// ---- locked memory ----

#[repr(C)]
pub struct Callbacks {
    version: c_int,
    cleanup: Cleanup,
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn solaris_umem_lockmemory(
    address: usize,
    bytes: usize,
    flags: c_int,
    out: *mut usize,
    callbacks: *const Callbacks,
    process: usize,
) -> c_int {
    const READ: c_int = 1;
    const WRITE: c_int = 2;
    const LONGTERM: c_int = 4;
    context::may_sleep("umem_lockmemory");
    let callbacks = callbacks.read();
    assert!(
        flags & !WRITE == READ | LONGTERM
            && callbacks.version == 1
            && process == process_structure(&context::process())
    );
    if machine().faults.must_fail("umem_lockmemory") {
        return ENOMEM;
    }
    let mut pages = (address..address.saturating_add(bytes)).step_by(PAGE);
    if !address.is_multiple_of(PAGE) || !pages.all(|page| user::has_access(page, flags & WRITE != 0)) {
        return EFAULT;
    }
    let cookie = cookie();
    let locked = LockedMemory { process, pages: bytes / PAGE, cleanup: callbacks.cleanup };
    machine().ledger.add("locked pages", locked.pages as i64);
    vm().locked.insert(cookie, locked);
    out.write(cookie);
    0
}

#[unsafe(no_mangle)]
pub extern "C" fn solaris_ddi_umem_unlock(cookie: usize) {
    context::may_sleep("ddi_umem_unlock");
    let Some(locked) = vm().locked.remove(&cookie) else { violation("memory is unlocked that isn't locked") };
    machine().ledger.add("locked pages", -(locked.pages as i64));
}

/// The kernel asks for the locked memory of a process that ends.
pub fn reclaim_locked(process: usize) {
    let mine: Vec<_> = vm()
        .locked
        .iter()
        .filter(|(_, locked)| locked.process == process)
        .map(|(cookie, locked)| (*cookie, locked.cleanup))
        .collect();
    for (cookie, cleanup) in mine {
        unsafe { cleanup(cookie) };
        if vm().locked.contains_key(&cookie) {
            violation("a process can't end: its memory is still locked");
        }
    }
}
