//! Virtual memory: objects with references, maps of the kernel and of processes, pinned pages.

use core::cell::Cell;
use core::ffi::{c_int, c_ulong, c_void};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard};

use fakekernel::ram::{Access, PAGE, Ram};
use fakekernel::{context, user, violation};

use super::glue::map_of;
use super::{lock, machine};

const KERN_SUCCESS: c_int = 0;
const KERN_INVALID_ADDRESS: c_int = 1;
const KERN_PROTECTION_FAILURE: c_int = 2;
const KERN_NO_SPACE: c_int = 3;
const VM_MAP_WIRE_USER: c_int = 1;
const VM_MAP_WIRE_HOLESOK: c_int = 2;
const VM_MAP_WIRE_WRITE: c_int = 4;
const VM_INHERIT_NONE: c_int = 2;

/// Where the kernel's structures are; nobody looks into them.
const KERNEL_MAP: usize = 0xffff_ffff_8200_0000;
const OBJECTS: usize = 0xffff_f800_0400_0000;
const PAGES: usize = 0xffff_fe00_0000_0000;
const PAGE_STRUCTURE: usize = 104;

#[derive(Default)]
struct Object {
    references: u32,
    bytes: usize,
    /// By index: the page, and whether it is wired.
    pages: BTreeMap<usize, (u64, bool)>,
}

#[derive(Clone)]
struct Entry {
    end: usize,
    object: usize,
    max_protection: c_int,
    inherited: bool,
    is_mapped: bool,
}

#[derive(Default)]
struct Vm {
    objects: BTreeMap<usize, Object>,
    maps: BTreeMap<usize, BTreeMap<usize, Entry>>,
    /// Pages of processes that the system has wired, by map and address.
    wired: BTreeSet<(usize, usize)>,
    held: BTreeMap<usize, u32>,
}

static VM: Mutex<Vm> = Mutex::new(Vm {
    objects: BTreeMap::new(),
    maps: BTreeMap::new(),
    wired: BTreeSet::new(),
    held: BTreeMap::new(),
});

fn vm() -> MutexGuard<'static, Vm> {
    lock(&VM)
}

fn ram() -> &'static Ram {
    &machine().ram
}

fn page_of(phys: u64) -> usize {
    PAGES + (phys as usize / PAGE) * PAGE_STRUCTURE
}

fn phys_of(page: usize) -> u64 {
    let offset = page.checked_sub(PAGES).filter(|offset| offset.is_multiple_of(PAGE_STRUCTURE));
    let Some(offset) = offset else { violation(&format!("{page:#x} is no page")) };
    (offset / PAGE_STRUCTURE * PAGE) as u64
}

impl Vm {
    fn object(&mut self, object: usize) -> &mut Object {
        self.objects.get_mut(&object).unwrap_or_else(|| violation("an object that doesn't exist"))
    }

    fn release(&mut self, address: usize) {
        let object = self.object(address);
        object.references -= 1;
        if object.references != 0 {
            return;
        }
        if let Some(object) = self.objects.remove(&address) {
            machine().ledger.add("objects", -1);
            // Wired pages are somebody else's from now on: lost.
            for (phys, _) in object.pages.into_values().filter(|(_, wired)| !wired) {
                ram().free(phys, 1);
            }
        }
    }

    /// Removes the entries within a range.
    fn remove(&mut self, map: usize, start: usize, end: usize) {
        let entries = self.maps.entry(map).or_default();
        let inside: Vec<(usize, Entry)> =
            entries.range(start..end).map(|(at, entry)| (*at, entry.clone())).collect();
        for (at, entry) in inside {
            if entry.end > end {
                violation("part of a mapping is removed");
            }
            if let Some(entries) = self.maps.get_mut(&map) {
                entries.remove(&at);
            }
            if entry.is_mapped {
                ram().unmap(at, (entry.end - at) / PAGE);
            }
            ram().unreserve(at, entry.end - at);
            if map == KERNEL_MAP {
                for (_, wired) in self.object(entry.object).pages.values_mut() {
                    *wired = false;
                }
            }
            machine().ledger.add("map entries", -1);
            self.release(entry.object);
        }
    }
}

/// The address space of a process ends.
pub fn exit(process: &context::Process) {
    let map = map_of(process);
    let mut vm = vm();
    vm.remove(map, 0, usize::MAX);
    vm.maps.remove(&map);
    let wired = vm.wired.len();
    vm.wired.retain(|(owner, _)| *owner != map);
    machine().ledger.add("wired user pages", vm.wired.len() as i64 - wired as i64);
}

/// A process unmaps something of its own.
pub fn munmap(process: &context::Process, address: usize, bytes: usize) {
    vm().remove(map_of(process), address, address + bytes);
}

/// Whether a process has a mapping that its children would have too.
pub fn has_inherited_mappings(process: &context::Process) -> bool {
    vm().maps.get(&map_of(process)).is_some_and(|entries| entries.values().any(|entry| entry.inherited))
}

/// How many mappings a process has.
pub fn mapping_count(process: &context::Process) -> usize {
    vm().maps.get(&map_of(process)).map_or(0, BTreeMap::len)
}

// ---- the C half ----

fn new_object(bytes: usize) -> usize {
    let mut vm = vm();
    let address = vm.objects.keys().max().copied().unwrap_or(OBJECTS) + 0x100;
    vm.objects.insert(address, Object { references: 1, bytes, ..Object::default() });
    machine().ledger.add("objects", 1);
    address
}

#[unsafe(no_mangle)]
pub extern "C" fn freebsd_vm_pager_allocate(
    kind: c_int,
    _handle: usize,
    bytes: usize,
    protection: c_int,
    offset: i64,
    _cred: usize,
) -> usize {
    const OBJT_PHYS: c_int = 4;
    context::may_sleep("vm_pager_allocate");
    assert_eq!((kind, protection, offset), (OBJT_PHYS, 7, 0));
    if machine().faults.must_fail("vm_pager_allocate") {
        return 0;
    }
    new_object(bytes)
}

thread_local! {
    /// The object whose lock the thread has.
    static LOCKED: Cell<usize> = const { Cell::new(0) };
    /// Of an allocation of pages that is to fail: attempts so far.
    static ATTEMPTS: Cell<u32> = const { Cell::new(0) };
    /// What a lookup shows.
    static FOUND: Cell<MapEntry> = const { Cell::new(MapEntry { start: 0, end: 0, flags: 0, object: 0 }) };
}

/// The lock of an object; one at a time is all that is needed.
#[unsafe(no_mangle)]
pub extern "C" fn freebsd_vm_object_lock(object: usize, by: c_int) {
    context::may_take_locks("VM_OBJECT_WLOCK");
    let (before, after) = if by > 0 { (0, object) } else { (object, 0) };
    assert_eq!(LOCKED.replace(after), before, "object locks pair");
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn freebsd_vm_page_alloc_contig(
    object: usize,
    first: c_ulong,
    request: c_int,
    count: c_ulong,
    low: u64,
    high: u64,
    align: c_ulong,
    boundary: u64,
    attribute: c_int,
) -> usize {
    assert_eq!(LOCKED.get(), object, "pages are put into a locked object");
    assert_eq!((request, low, boundary, attribute), (0x20, 0, 0, 6));
    assert!(align as usize >= PAGE && align.is_power_of_two() && count > 0);
    // A failure lasts for the four attempts of one allocation.
    if ATTEMPTS.get() > 0 || machine().faults.must_fail("vm_page_alloc_contig") {
        ATTEMPTS.set((ATTEMPTS.get() + 1) % 4);
        return 0;
    }
    let Some(phys) = ram().alloc(count as usize, high, align) else { return 0 };
    let mut vm = vm();
    for i in 0..count as usize {
        let page = phys + (i * PAGE) as u64;
        ram().fill(page, 0xa5);
        let object = vm.object(object);
        let index = first as usize + i;
        assert!(index < object.bytes / PAGE, "a page beyond the end of its object");
        let old = object.pages.insert(index, (page, true));
        assert!(old.is_none(), "an object has one page at each place");
    }
    page_of(phys)
}

#[unsafe(no_mangle)]
pub extern "C" fn freebsd_vm_page_reclaim_contig(
    _request: c_int,
    _count: c_ulong,
    _low: u64,
    _high: u64,
    _align: c_ulong,
    _boundary: u64,
) -> c_int {
    context::may_sleep("vm_page_reclaim_contig");
    assert_eq!(LOCKED.get(), 0, "pages are moved without locks of objects");
    0
}

#[unsafe(no_mangle)]
pub extern "C" fn freebsd_pmap_zero_page(page: usize) {
    ram().fill(phys_of(page), 0);
}

#[unsafe(no_mangle)]
pub extern "C" fn freebsd_vm_page_valid(page: usize) {
    assert_ne!(LOCKED.get(), 0, "{page:#x} is made valid in a locked object");
}

#[unsafe(no_mangle)]
pub extern "C" fn freebsd_vm_page_xunbusy(page: usize) {
    let _is_a_page = phys_of(page);
}

#[unsafe(no_mangle)]
pub extern "C" fn freebsd_vm_page_unwire_noq(page: usize) -> bool {
    let (phys, object) = (phys_of(page), LOCKED.get());
    let mut vm = vm();
    match vm.object(object).pages.values_mut().find(|(page, _)| *page == phys) {
        Some((_, wired)) if *wired => *wired = false,
        _ => violation("a page is unwired that isn't wired"),
    }
    true
}

#[unsafe(no_mangle)]
pub extern "C" fn freebsd_vm_page_to_phys(page: usize) -> u64 {
    phys_of(page)
}

#[unsafe(no_mangle)]
pub extern "C" fn freebsd_kernel_map() -> usize {
    KERNEL_MAP
}

#[unsafe(no_mangle)]
pub extern "C" fn freebsd_vm_map_lock_read(_map: usize, _by: c_int) {
    context::may_sleep("vm_map_lock_read");
}

/// `struct vm_map_entry`, as in `freebsd-standin.h`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct MapEntry {
    start: usize,
    end: usize,
    flags: u32,
    object: usize,
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn freebsd_vm_map_lookup_entry(
    map: usize,
    address: usize,
    found: *mut *const MapEntry,
) -> c_int {
    let vm = vm();
    let entry = vm.maps.get(&map).and_then(|entries| entries.range(..=address).next_back());
    let Some((start, entry)) = entry.filter(|(_, entry)| address < entry.end) else { return 0 };
    FOUND.set(MapEntry { start: *start, end: entry.end, flags: 0, object: entry.object });
    found.write(FOUND.with(|found| found.as_ptr().cast_const()));
    1
}

#[unsafe(no_mangle)]
pub extern "C" fn freebsd_vm_map_protect(
    map: usize,
    start: usize,
    end: usize,
    protection: c_int,
    _maximum: c_int,
    flags: c_int,
) -> c_int {
    const VM_MAP_PROTECT_SET_PROT: c_int = 1;
    context::may_sleep("vm_map_protect");
    assert_eq!(flags, VM_MAP_PROTECT_SET_PROT);
    let vm = vm();
    let found = vm.maps.get(&map).and_then(|entries| entries.range(..=start).next_back());
    let Some((_, entry)) = found.filter(|(_, entry)| end <= entry.end) else { return KERN_INVALID_ADDRESS };
    if machine().faults.must_fail("vm_map_protect") || protection & !entry.max_protection != 0 {
        return KERN_PROTECTION_FAILURE;
    }
    ram().protect(start, (end - start) / PAGE, Access::from_bits(protection as u32));
    KERN_SUCCESS
}

#[unsafe(no_mangle)]
pub extern "C" fn freebsd_pmap_protect(_pmap: usize, start: usize, end: usize, protection: c_int) {
    ram().protect(start, (end - start) / PAGE, Access::from_bits(protection as u32));
}

#[unsafe(no_mangle)]
pub extern "C" fn freebsd_pmap_mapdev_attr(phys: u64, bytes: usize, _attribute: c_int) -> *mut c_void {
    context::may_sleep("pmap_mapdev_attr");
    let Some(address) = Ram::reserve(bytes) else { return core::ptr::null_mut() };
    let pages: Vec<u64> = (0..bytes / PAGE).map(|i| phys + (i * PAGE) as u64).collect();
    ram().map_at(address, &pages, Access::read_write());
    machine().ledger.add("device mappings", 1);
    address as *mut c_void
}

#[unsafe(no_mangle)]
pub extern "C" fn freebsd_pmap_unmapdev(address: usize, bytes: usize) {
    ram().unmap(address, bytes / PAGE);
    ram().unreserve(address, bytes);
    machine().ledger.add("device mappings", -1);
}

// ---- kernel addresses ----

#[unsafe(no_mangle)]
pub extern "C" fn freebsd_kva_alloc(bytes: usize) -> usize {
    context::may_sleep("kva_alloc");
    if machine().faults.must_fail("kva_alloc") {
        return 0;
    }
    let Some(address) = Ram::reserve(bytes) else { return 0 };
    machine().ledger.enter("kernel address ranges", address, bytes);
    address
}

#[unsafe(no_mangle)]
pub extern "C" fn freebsd_kva_free(address: usize, bytes: usize) {
    context::may_sleep("kva_free");
    assert_eq!(machine().ledger.leave("kernel address ranges", address), bytes);
    ram().unreserve(address, bytes);
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn freebsd_pmap_qenter(address: usize, pages: *const usize, count: c_int) {
    let pages: Vec<u64> = (0..count as usize).map(|i| phys_of(pages.add(i).read())).collect();
    ram().map_at(address, &pages, Access::read_write());
}

#[unsafe(no_mangle)]
pub extern "C" fn freebsd_pmap_qremove(address: usize, count: c_int) {
    ram().unmap(address, count as usize);
}

// ---- maps ----

#[unsafe(no_mangle)]
pub extern "C" fn freebsd_vm_object_reference(object: usize) {
    vm().object(object).references += 1;
}

#[unsafe(no_mangle)]
pub extern "C" fn freebsd_vm_object_deallocate(object: usize) {
    context::may_sleep("vm_object_deallocate");
    vm().release(object);
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn freebsd_vm_map_find(
    map: usize,
    object: usize,
    offset: i64,
    address: *mut usize,
    bytes: usize,
    max_address: usize,
    find_space: c_int,
    protection: c_int,
    max_protection: c_int,
    _flags: c_int,
) -> c_int {
    context::may_sleep("vm_map_find");
    assert!(offset == 0 && max_address == 0 && find_space == 1 && protection & !max_protection == 0);
    if machine().faults.must_fail("vm_map_find") {
        return KERN_NO_SPACE;
    }
    let mut vm = vm();
    let pages: Vec<u64> = vm.object(object).pages.values().map(|(page, _)| *page).collect();
    let Some(place) = Ram::reserve(bytes) else { return KERN_NO_SPACE };
    let is_mapped = !pages.is_empty();
    if is_mapped {
        assert_eq!(pages.len(), bytes / PAGE, "a whole object is mapped");
        ram().map_at(place, &pages, Access::from_bits(protection as u32));
    }
    let entry = Entry { end: place + bytes, object, max_protection, inherited: true, is_mapped };
    vm.maps.entry(map).or_default().insert(place, entry);
    machine().ledger.add("map entries", 1);
    address.write(place);
    KERN_SUCCESS
}

#[unsafe(no_mangle)]
pub extern "C" fn freebsd_vm_map_remove(map: usize, start: usize, end: usize) -> c_int {
    context::may_sleep("vm_map_remove");
    vm().remove(map, start, end);
    KERN_SUCCESS
}

#[unsafe(no_mangle)]
pub extern "C" fn freebsd_vm_map_inherit(map: usize, start: usize, end: usize, inheritance: c_int) -> c_int {
    context::may_sleep("vm_map_inherit");
    if machine().faults.must_fail("vm_map_inherit") {
        return KERN_INVALID_ADDRESS;
    }
    let mut vm = vm();
    let entry =
        vm.maps.get_mut(&map).and_then(|entries| entries.get_mut(&start)).filter(|entry| entry.end == end);
    let Some(entry) = entry else { return KERN_INVALID_ADDRESS };
    entry.inherited = inheritance != VM_INHERIT_NONE;
    KERN_SUCCESS
}

/// The kernel's own map: the pager fills the object with zeroed pages. A process' map: its pages must be there.
#[unsafe(no_mangle)]
pub extern "C" fn freebsd_vm_map_wire(map: usize, start: usize, end: usize, flags: c_int) -> c_int {
    context::may_sleep("vm_map_wire");
    assert_eq!(flags & (VM_MAP_WIRE_USER | VM_MAP_WIRE_HOLESOK), 0);
    if machine().faults.must_fail("vm_map_wire") {
        return KERN_INVALID_ADDRESS;
    }
    let mut vm = vm();
    if map == KERNEL_MAP {
        let Some(entry) = vm.maps.get_mut(&map).and_then(|entries| entries.get_mut(&start)) else {
            return KERN_INVALID_ADDRESS;
        };
        assert_eq!(entry.end, end);
        entry.is_mapped = true;
        let object = entry.object;
        let mut pages = Vec::new();
        for index in 0..(end - start) / PAGE {
            let Some(page) = ram().alloc(1, u64::MAX, PAGE as u64) else { return KERN_NO_SPACE };
            ram().fill(page, 0);
            vm.object(object).pages.insert(index, (page, true));
            pages.push(page);
        }
        ram().map_at(start, &pages, Access::all());
        return KERN_SUCCESS;
    }
    let write = flags & VM_MAP_WIRE_WRITE != 0;
    let pages = || (start..end).step_by(PAGE);
    if !start.is_multiple_of(PAGE) || !pages().all(|page| user::has_access(page, write)) {
        return KERN_INVALID_ADDRESS;
    }
    let before = vm.wired.len();
    vm.wired.extend(pages().map(|page| (map, page)));
    machine().ledger.add("wired user pages", (vm.wired.len() - before) as i64);
    KERN_SUCCESS
}

#[unsafe(no_mangle)]
pub extern "C" fn freebsd_vm_map_unwire(map: usize, start: usize, end: usize, flags: c_int) -> c_int {
    context::may_sleep("vm_map_unwire");
    assert_eq!(flags & VM_MAP_WIRE_USER, 0);
    let mut vm = vm();
    let before = vm.wired.len();
    vm.wired.retain(|(owner, page)| *owner != map || !(start..end).contains(page));
    machine().ledger.add("wired user pages", vm.wired.len() as i64 - before as i64);
    KERN_SUCCESS
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn freebsd_vm_fault_quick_hold_pages(
    map: usize,
    address: usize,
    bytes: usize,
    _protection: c_int,
    pages: *mut usize,
    max_count: c_int,
) -> c_int {
    context::may_sleep("vm_fault_quick_hold_pages");
    assert_eq!(map, map_of(&context::process()));
    let count = bytes.div_ceil(PAGE);
    assert!(count <= max_count as usize);
    if machine().faults.must_fail("vm_fault_quick_hold_pages") {
        return -1;
    }
    let mut vm = vm();
    for i in 0..count {
        let Some(phys) = ram().adopt(address + i * PAGE) else { violation("a wired page isn't there") };
        *vm.held.entry(page_of(phys)).or_default() += 1;
        pages.add(i).write(page_of(phys));
    }
    machine().ledger.add("held pages", count as i64);
    count as c_int
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn freebsd_vm_page_unhold_pages(pages: *const usize, count: c_int) {
    context::may_sleep("vm_page_unhold_pages");
    let mut vm = vm();
    for i in 0..count as usize {
        let page = pages.add(i).read();
        match vm.held.get_mut(&page).filter(|holds| **holds != 0) {
            Some(holds) => *holds -= 1,
            None => violation("a page is let go that isn't held"),
        }
    }
    machine().ledger.add("held pages", -i64::from(count));
}
