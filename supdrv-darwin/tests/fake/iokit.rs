//! What the C++ half does with I/O Kit's memory: descriptors and mappings, with references as they have them; protection of mappings.

use core::ffi::{c_int, c_void};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use fakekernel::context::{self, Process};
use fakekernel::ram::{Access, PAGE, Ram};
use fakekernel::{user, violation};

use super::processes::{darwin_current_task, darwin_get_task_map, task_of};
use super::{lock, machine, must_fail, settings};

/// Structures of the kernel; nobody looks into them.
pub const KERNEL_TASK: usize = 0xffff_ff80_1000_0000;

#[unsafe(no_mangle)]
pub static darwin_kernel_task: usize = KERNEL_TASK;
#[unsafe(no_mangle)]
pub static darwin_kernel_map: usize = KERNEL_TASK + 16;

const KERN_SUCCESS: c_int = 0;
const KERN_INVALID_ADDRESS: c_int = 1;
const KERN_PROTECTION_FAILURE: c_int = 2;

const OUT: u32 = 2;
const IN_OUT: u32 = 3;
const CONTIGUOUS: u32 = 0x10;
const MAPPER_NONE: u32 = 0x800;
const KERNEL_USER_SHARED: u32 = 0x1_0000;
const MAP_ANYWHERE_UNIQUE: u32 = 0x0400_0001;
const MAP_INHIBIT_CACHE: u32 = 0x100;
const MAP_READ_ONLY: u32 = 0x1000;

/// How far memory is from a page, where it isn't aligned.
const SHIFT: usize = 0x240;

enum Source {
    /// The kernel's own memory, at an address.
    Buffer(usize),
    /// Memory of a task.
    Task(usize),
    Physical,
}

struct Descriptor {
    source: Source,
    pages: Vec<u64>,
    /// Where its first byte is in the first page.
    shift: usize,
    /// Its own, and one for each mapping.
    references: u32,
}

struct Map {
    descriptor: usize,
    task: usize,
    address: usize,
    pages: usize,
    /// The task has taken it down.
    is_gone: bool,
}

#[derive(Default)]
struct IoKit {
    descriptors: BTreeMap<usize, Descriptor>,
    maps: BTreeMap<usize, Map>,
    last: usize,
}

static IO_KIT: Mutex<IoKit> =
    Mutex::new(IoKit { descriptors: BTreeMap::new(), maps: BTreeMap::new(), last: 0xffff_ff80_4000_0000 });

fn io_kit() -> MutexGuard<'static, IoKit> {
    lock(&IO_KIT)
}

fn ram() -> &'static Ram {
    &machine().ram
}

impl IoKit {
    fn next(&mut self) -> usize {
        self.last += 0x100;
        self.last
    }

    fn add(&mut self, source: Source, pages: Vec<u64>, shift: usize) -> *mut c_void {
        let at = self.next();
        self.descriptors.insert(at, Descriptor { source, pages, shift, references: 1 });
        machine().ledger.add("descriptors", 1);
        core::ptr::without_provenance_mut(at)
    }

    fn get(&mut self, descriptor: usize) -> &mut Descriptor {
        self.descriptors
            .get_mut(&descriptor)
            .unwrap_or_else(|| violation("a memory descriptor that doesn't exist"))
    }

    fn release(&mut self, at: usize) {
        let descriptor = self.get(at);
        descriptor.references -= 1;
        if descriptor.references != 0 {
            return;
        }
        let Some(descriptor) = self.descriptors.remove(&at) else { return };
        machine().ledger.add("descriptors", -1);
        if let Source::Buffer(address) = descriptor.source {
            ram().unmap(address, descriptor.pages.len());
            ram().unreserve(address, descriptor.pages.len() * PAGE);
            descriptor.pages.iter().for_each(|page| ram().free(*page, 1));
        }
    }

    fn unmap(&mut self, at: usize) {
        let map = self.maps.get_mut(&at).unwrap_or_else(|| violation("a mapping that doesn't exist"));
        if std::mem::replace(&mut map.is_gone, true) {
            return;
        }
        ram().unmap(map.address, map.pages);
        ram().unreserve(map.address, map.pages * PAGE);
        machine().ledger.add(if map.task == KERNEL_TASK { "kernel mappings" } else { "user mappings" }, -1);
    }
}

fn take_pages(count: usize, highest: u64, align: u64, contiguous: bool) -> Option<Vec<u64>> {
    if contiguous && !settings().scattered {
        let first = ram().alloc(count, highest, align)?;
        return Some((0..count).map(|page| first + (page * PAGE) as u64).collect());
    }
    let mut pages = Vec::new();
    for page in 0..count {
        match ram().alloc(1, highest, if page == 0 { align } else { PAGE as u64 }) {
            Some(phys) => pages.push(phys),
            None => {
                pages.into_iter().for_each(|page| ram().free(page, 1));
                return None;
            }
        }
    }
    if contiguous {
        // One by one they may happen to follow each other; the other way round they don't.
        pages.reverse();
    }
    Some(pages)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn supdrv_glue_alloc(
    options: u32,
    bytes: u64,
    mask: u64,
    address: *mut usize,
) -> *mut c_void {
    context::may_sleep("inTaskWithPhysicalMask");
    assert_eq!(options & !CONTIGUOUS, IN_OUT | MAPPER_NONE | KERNEL_USER_SHARED);
    assert!(mask != 0 && mask & (PAGE as u64 - 1) == 0 && bytes.is_multiple_of(PAGE as u64));
    // The upper bits are the limit and those below the alignment: all ones in between.
    let align = mask & mask.wrapping_neg();
    let highest = mask | (align - 1);
    assert!((highest + 1).is_power_of_two(), "the mask {mask:#x} has holes");
    if bytes > 1 << 30 || must_fail("inTaskWithPhysicalMask") || must_fail("prepare") {
        return core::ptr::null_mut();
    }
    let shift = if settings().unaligned { SHIFT } else { 0 };
    let count = (bytes as usize + shift).div_ceil(PAGE);
    let Some(pages) = take_pages(count, highest, align, options & CONTIGUOUS != 0) else {
        return core::ptr::null_mut();
    };
    let start = Ram::reserve(count * PAGE).expect("addresses");
    ram().map_at(start, &pages, Access::read_write());
    address.write(start + shift);
    io_kit().add(Source::Buffer(start), pages, shift)
}

#[unsafe(no_mangle)]
pub extern "C" fn supdrv_glue_describe(task: usize, address: u64, bytes: u64, options: u32) -> *mut c_void {
    context::may_sleep("withAddressRange");
    assert!(matches!(options, OUT | IN_OUT) && (address | bytes).is_multiple_of(PAGE as u64));
    if must_fail("withAddressRange") {
        return core::ptr::null_mut();
    }
    let count = bytes as usize / PAGE;
    if task == 0 {
        let pages = (0..count).map(|page| address + (page * PAGE) as u64).collect();
        return io_kit().add(Source::Physical, pages, 0);
    }
    assert_eq!(task, darwin_current_task(), "memory of another task");
    let Some(end) = (address as usize).checked_add(bytes as usize) else { return core::ptr::null_mut() };
    if must_fail("prepare") {
        return core::ptr::null_mut();
    }
    let mut pages = Vec::new();
    for page in (address as usize..end).step_by(PAGE) {
        if !user::has_access(page, options == IN_OUT) {
            return core::ptr::null_mut();
        }
        let Some(phys) = ram().adopt(page) else { return core::ptr::null_mut() };
        pages.push(phys);
    }
    machine().ledger.add("wired user pages", count as i64);
    io_kit().add(Source::Task(task), pages, 0)
}

#[unsafe(no_mangle)]
pub extern "C" fn supdrv_glue_phys(descriptor: usize, offset: u64) -> u64 {
    let mut io_kit = io_kit();
    let descriptor = io_kit.get(descriptor);
    let place = descriptor.shift + offset as usize;
    descriptor.pages.get(place / PAGE).map_or(0, |page| page + (place % PAGE) as u64)
}

#[unsafe(no_mangle)]
pub extern "C" fn supdrv_glue_free(at: usize) {
    context::may_sleep("IOMemoryDescriptor::complete");
    let mut io_kit = io_kit();
    let descriptor = io_kit.get(at);
    let wired = matches!(descriptor.source, Source::Task(_)).then_some(descriptor.pages.len());
    io_kit.release(at);
    machine().ledger.add("wired user pages", -(wired.unwrap_or(0) as i64));
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn supdrv_glue_map(
    at: usize,
    task: usize,
    options: u32,
    offset: u64,
    bytes: u64,
    address: *mut usize,
) -> *mut c_void {
    context::may_sleep("createMappingInTask");
    assert_eq!(options & !(MAP_INHIBIT_CACHE | MAP_READ_ONLY), MAP_ANYWHERE_UNIQUE);
    assert!(task == KERNEL_TASK || task == darwin_current_task());
    if must_fail("createMappingInTask") {
        return core::ptr::null_mut();
    }
    let mut io_kit = io_kit();
    let descriptor = io_kit.get(at);
    let (first, count) = ((descriptor.shift + offset as usize) / PAGE, bytes as usize / PAGE);
    assert!((descriptor.shift + offset as usize).is_multiple_of(PAGE), "pages are mapped, not parts of them");
    let pages = descriptor.pages.get(first..first + count).expect("a part of the memory").to_vec();
    descriptor.references += 1;
    let place = Ram::reserve(count * PAGE).expect("addresses");
    let access = Access::from_bits(if options & MAP_READ_ONLY != 0 { 1 } else { 3 });
    ram().map_at(place, &pages, access);
    address.write(place);
    let map = io_kit.next();
    io_kit.maps.insert(map, Map { descriptor: at, task, address: place, pages: count, is_gone: false });
    machine().ledger.add(if task == KERNEL_TASK { "kernel mappings" } else { "user mappings" }, 1);
    machine().ledger.add("IOMemoryMaps", 1);
    core::ptr::without_provenance_mut(map)
}

#[unsafe(no_mangle)]
pub extern "C" fn supdrv_glue_unmap(at: usize) {
    context::may_sleep("IOMemoryMap::release");
    let mut io_kit = io_kit();
    io_kit.unmap(at);
    if let Some(map) = io_kit.maps.remove(&at) {
        machine().ledger.add("IOMemoryMaps", -1);
        io_kit.release(map.descriptor);
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn supdrv_glue_hardened() -> c_int {
    settings().hardened.into()
}

#[unsafe(no_mangle)]
pub extern "C" fn darwin_vm_protect(
    map: usize,
    address: usize,
    bytes: usize,
    set_maximum: c_int,
    protection: c_int,
) -> c_int {
    context::may_sleep("vm_protect");
    assert!(set_maximum == 0 && protection & !7 == 0 && (address | bytes).is_multiple_of(PAGE));
    assert!(map == darwin_kernel_map || map == darwin_get_task_map(darwin_current_task()));
    if must_fail("vm_protect") {
        return KERN_PROTECTION_FAILURE;
    }
    if (address..address + bytes).step_by(PAGE).any(|page| ram().page_at(page).is_none()) {
        return KERN_INVALID_ADDRESS;
    }
    ram().protect(address, bytes / PAGE, Access::from_bits(protection as u32));
    KERN_SUCCESS
}

/// Pages of a process that are wired.
pub fn wired_pages(process: &Process) -> usize {
    let (task, io_kit) = (task_of(process), io_kit());
    let wired = io_kit.descriptors.values().filter(|d| matches!(d.source, Source::Task(t) if t == task));
    wired.map(|descriptor| descriptor.pages.len()).sum()
}

/// How many mappings a process has.
pub fn mapping_count(process: &Process) -> usize {
    let task = task_of(process);
    io_kit().maps.values().filter(|map| map.task == task && !map.is_gone).count()
}

/// The address space of a process ends.
pub fn exit(process: &Process) {
    let task = task_of(process);
    let mut io_kit = io_kit();
    let maps: Vec<usize> =
        io_kit.maps.iter().filter(|(_, map)| map.task == task).map(|(at, _)| *at).collect();
    maps.into_iter().for_each(|at| io_kit.unmap(at));
}

/// A process unmaps something of its own.
pub fn munmap(process: &Process, address: usize) {
    let task = task_of(process);
    let mut io_kit = io_kit();
    let found =
        io_kit.maps.iter().find(|(_, map)| map.task == task && map.address == address && !map.is_gone);
    let at = found.map(|(at, _)| *at).expect("a mapping");
    io_kit.unmap(at);
}
