//! Memory of the kernel, of processes, and between them.

use core::ffi::c_void;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use fakekernel::context::{self, Process};
use fakekernel::ram::{Access, PAGE, Ram};
use fakekernel::{user, violation};

use super::{lock, machine};

/// Account of allocations.
pub const KERNEL_MEMORY: &str = "kernel memory";
/// Account of pages of processes.
pub const LOCKED_PAGES: &str = "locked user pages";
/// Account of what processes were shown.
pub const PROCESS_MAPPINGS: &str = "process mappings";

const VMDHA_16M: u32 = 1;
const VMDHA_FIXED: u32 = 2;
const VMDHA_CONTIG: u32 = 8;
const VMDHA_PHYS: u32 = 0x10;
const VMDHL_WRITE: u32 = 8;
const VMDHL_LONG: u32 = 0x10;
const VMGP_WRITE: u32 = 1;

const ERROR_NOT_ENOUGH_MEMORY: u32 = 8;
const ERROR_INVALID_ADDRESS: u32 = 487;
const ERROR_INVALID_ACCESS: u32 = 12;
const ERROR_UVIRTLOCK: u32 = 32801;
const ERROR_PROTECTION_VIOLATION: u32 = 115;

/// All memory of the machine is below this.
const HIGHEST: u64 = u32::MAX as u64;
const LOCK_MAGIC: [u32; 3] = [0x10c4, 0xed, 0x0052];

struct Allocation {
    pages: Vec<u64>,
    is_foreign: bool,
}

#[derive(Default)]
struct Vm {
    kernel: BTreeMap<usize, Allocation>,
    /// By process and address: pages.
    shown: BTreeMap<(u32, usize), Vec<u64>>,
    /// By the address of the handle: pages.
    locks: BTreeMap<usize, i64>,
    /// Ranges that are fixed mappings, and thus can't be locked.
    unlockable: Vec<usize>,
    /// Flags of the last allocation.
    last_flags: u32,
}

static VM: Mutex<Vm> = Mutex::new(Vm {
    kernel: BTreeMap::new(),
    shown: BTreeMap::new(),
    locks: BTreeMap::new(),
    unlockable: Vec::new(),
    last_flags: 0,
});

fn vm() -> MutexGuard<'static, Vm> {
    lock(&VM)
}

fn ram() -> &'static Ram {
    &machine().ram
}

/// Flags of the last allocation.
pub fn last_flags() -> u32 {
    vm().last_flags
}

/// Pages in use, without those of chunks of a heap.
pub fn pages_but_for(chunks: usize) -> i64 {
    // Chunks of more than one unit are rare, and gone with their block.
    let chunk_pages: usize = if chunks == 0 { 0 } else { chunks * 16 };
    ram().in_use() as i64 - chunk_pages as i64
}

fn take_pages(count: usize, flags: u32) -> Option<Vec<u64>> {
    let highest = if flags & VMDHA_16M != 0 { (16 << 20) - 1 } else { HIGHEST };
    if flags & VMDHA_CONTIG != 0 {
        let first = ram().alloc(count, highest, PAGE as u64)?;
        return Some((0..count).map(|page| first + (page * PAGE) as u64).collect());
    }
    let mut pages = Vec::new();
    for _ in 0..count {
        match ram().alloc(1, highest, PAGE as u64) {
            Some(page) => pages.push(page),
            None => {
                pages.into_iter().for_each(|page| ram().free(page, 1));
                return None;
            }
        }
    }
    Some(pages)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn os2_KernVMAlloc(
    bytes: usize,
    flags: u32,
    linear: *mut *mut c_void,
    phys: *mut *mut c_void,
    reserved: *mut *mut c_void,
) -> u32 {
    context::may_sleep("KernVMAlloc");
    assert!(bytes != 0 && reserved.is_null());
    if bytes > 1 << 30 || machine().faults.must_fail("KernVMAlloc") {
        return ERROR_NOT_ENOUGH_MEMORY;
    }
    let count = bytes.div_ceil(PAGE);
    let is_foreign = flags & VMDHA_PHYS != 0;
    let pages = if is_foreign {
        assert_eq!(flags, VMDHA_PHYS);
        let first = phys.read() as u64;
        Some((0..count).map(|page| first + (page * PAGE) as u64).collect())
    } else {
        assert!(flags & VMDHA_FIXED != 0 && flags & !(VMDHA_FIXED | VMDHA_CONTIG | VMDHA_16M) == 0);
        assert_eq!(phys as usize, usize::MAX, "nobody wants to know the physical address");
        take_pages(count, flags)
    };
    let Some(pages) = pages else { return ERROR_NOT_ENOUGH_MEMORY };
    let address = Ram::reserve(count * PAGE).expect("addresses");
    ram().map_at(address, &pages, Access::all());
    let mut vm = vm();
    vm.last_flags = flags;
    vm.kernel.insert(address, Allocation { pages, is_foreign });
    machine().ledger.add(KERNEL_MEMORY, 1);
    linear.write(address as *mut c_void);
    0
}

#[unsafe(no_mangle)]
pub extern "C" fn os2_KernVMFree(linear: *mut c_void) -> u32 {
    context::may_sleep("KernVMFree");
    let address = linear as usize;
    let Some(allocation) = vm().kernel.remove(&address) else {
        violation("memory is freed that isn't allocated");
    };
    ram().unmap(address, allocation.pages.len());
    ram().unreserve(address, allocation.pages.len() * PAGE);
    if !allocation.is_foreign {
        // Violates a rule if a process still sees it.
        allocation.pages.into_iter().for_each(|page| ram().free(page, 1));
    }
    machine().ledger.add(KERNEL_MEMORY, -1);
    0
}

/// `KernPageList_t`.
#[repr(C)]
pub struct PageRun {
    phys: u32,
    bytes: u32,
}

unsafe fn tell_runs(pages: &[u64], list: *mut PageRun, count: *mut u32) {
    let mut runs: Vec<PageRun> = Vec::new();
    for page in pages {
        let page = u32::try_from(*page).expect("memory of this machine");
        match runs.last_mut() {
            Some(run) if run.phys + run.bytes == page => run.bytes += PAGE as u32,
            _ => runs.push(PageRun { phys: page, bytes: PAGE as u32 }),
        }
    }
    assert!(runs.len() <= count.read() as usize, "no room for the runs");
    count.write(runs.len() as u32);
    for (index, run) in runs.into_iter().enumerate() {
        list.add(index).write(run);
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn os2_KernLinToPageList(
    linear: *mut c_void,
    bytes: usize,
    list: *mut PageRun,
    count: *mut u32,
) -> u32 {
    context::may_sleep("KernLinToPageList");
    if machine().faults.must_fail("KernLinToPageList") {
        return ERROR_INVALID_ADDRESS;
    }
    let pages: Option<Vec<u64>> =
        (0..bytes / PAGE).map(|page| ram().page_at(linear as usize + page * PAGE)).collect();
    let Some(pages) = pages else { return ERROR_INVALID_ADDRESS };
    tell_runs(&pages, list, count);
    0
}

/// The range at this address is a fixed mapping, which can't be locked.
pub fn make_unlockable(address: usize) {
    vm().unlockable.push(address);
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn os2_KernVMLock(
    flags: u32,
    linear: *mut c_void,
    bytes: usize,
    handle: *mut [u32; 3],
    list: *mut PageRun,
    count: *mut u32,
) -> u32 {
    context::may_sleep("KernVMLock");
    assert!(flags & !VMDHL_WRITE == VMDHL_LONG && bytes.is_multiple_of(PAGE));
    let first = linear as usize;
    assert!(first.is_multiple_of(PAGE));
    if machine().faults.must_fail("KernVMLock") {
        return ERROR_NOT_ENOUGH_MEMORY;
    }
    let places = || (0..bytes / PAGE).map(|page| first + page * PAGE);
    if places().any(|place| !user::has_access(place, flags & VMDHL_WRITE != 0)) {
        return ERROR_INVALID_ACCESS;
    }
    let pages: Vec<u64> = places().map(|place| ram().adopt_below(place, HIGHEST).expect("a page")).collect();
    if vm().unlockable.contains(&first) {
        return ERROR_UVIRTLOCK;
    }
    tell_runs(&pages, list, count);
    handle.write(LOCK_MAGIC);
    vm().locks.insert(handle as usize, pages.len() as i64);
    machine().ledger.add(LOCKED_PAGES, pages.len() as i64);
    0
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn os2_KernVMUnlock(handle: *mut [u32; 3]) -> u32 {
    context::may_sleep("KernVMUnlock");
    let pages = vm().locks.remove(&(handle as usize));
    let Some(pages) = pages.filter(|_| handle.read() == LOCK_MAGIC) else {
        violation("pages are unlocked that aren't locked by this handle");
    };
    handle.write([0; 3]);
    machine().ledger.add(LOCKED_PAGES, -pages);
    0
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn os2_KernCopyIn(to: *mut u8, from: usize, bytes: usize) -> u32 {
    context::may_sleep("KernCopyIn");
    if machine().faults.must_fail("KernCopyIn") || !user::copy_in(to, from, bytes) {
        return ERROR_PROTECTION_VIOLATION;
    }
    0
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn os2_KernCopyOut(to: usize, from: *const u8, bytes: usize) -> u32 {
    context::may_sleep("KernCopyOut");
    if machine().faults.must_fail("KernCopyOut") || !user::copy_out(to, from, bytes) {
        return ERROR_PROTECTION_VIOLATION;
    }
    0
}

/// VMGlobalToProcess.
pub fn show(flags: u32, linear: usize, bytes: usize) -> Result<usize, u32> {
    context::may_sleep("VMGlobalToProcess");
    assert!(flags & !VMGP_WRITE == 0 && bytes.is_multiple_of(PAGE) && linear.is_multiple_of(PAGE));
    if machine().faults.must_fail("VMGlobalToProcess") {
        return Err(ERROR_NOT_ENOUGH_MEMORY);
    }
    let pages: Vec<u64> = (0..bytes / PAGE)
        .map(|page| ram().page_at(linear + page * PAGE).unwrap_or_else(|| violation("no such memory")))
        .collect();
    let address = Ram::reserve(bytes).expect("addresses");
    let rights = if flags & VMGP_WRITE != 0 { 3 } else { 1 };
    ram().map_at(address, &pages, Access::from_bits(rights));
    vm().shown.insert((context::process().pid, address), pages);
    machine().ledger.add(PROCESS_MAPPINGS, 1);
    Ok(address)
}

/// VMFree.
pub fn hide(address: usize) -> u32 {
    context::may_sleep("VMFree");
    if hide_from(context::process().pid, address) { 0 } else { ERROR_INVALID_ADDRESS }
}

fn hide_from(pid: u32, address: usize) -> bool {
    let Some(pages) = vm().shown.remove(&(pid, address)) else { return false };
    ram().unmap(address, pages.len());
    ram().unreserve(address, pages.len() * PAGE);
    machine().ledger.add(PROCESS_MAPPINGS, -1);
    true
}

fn addresses(pid: u32) -> Vec<usize> {
    vm().shown.keys().filter(|(owner, _)| *owner == pid).map(|(_, address)| *address).collect()
}

/// The address space of a process ends.
pub fn exit(process: &Process) {
    for address in addresses(process.pid) {
        hide_from(process.pid, address);
    }
}

/// A process gives a mapping up itself.
pub fn unmap(process: &Process, address: usize) {
    assert!(hide_from(process.pid, address), "a mapping of the process");
}

/// How many mappings a process has.
pub fn mapping_count(process: &Process) -> usize {
    addresses(process.pid).len()
}
