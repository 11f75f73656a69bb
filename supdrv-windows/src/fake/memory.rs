//! Pool, MDLs, pages, sections.

use core::ffi::c_void;
use std::alloc::Layout;
use std::string::String;

use super::{IRQL, PROCESS, at_most, bug_check, fails, raise, with};
use crate::nt::{
    APC_LEVEL, CURRENT_PROCESS, DISPATCH_LEVEL, Handle, KERNEL_MODE, LoadImage, MDL_MAPPED_TO_SYSTEM_VA,
    MDL_PAGES_LOCKED, MDL_SOURCE_IS_NONPAGED_POOL, Mdl, Mode, NtStatus, ObjectAttributes, PASSIVE_LEVEL,
    USER_MODE,
};
use crate::os::POOL_TAG;

const PAGE: usize = 4096;

/// Pages behind an MDL of the kernel's.
#[derive(Clone, Copy, Debug)]
pub struct PagesOf {
    memory: usize,
    bytes: usize,
    freed: bool,
}

fn alloc(bytes: usize, align: usize) -> usize {
    let layout = Layout::from_size_align(bytes.max(1), align).expect("a size");
    unsafe { std::alloc::alloc_zeroed(layout) as usize }
}

fn free(address: usize, bytes: usize, align: usize) {
    let layout = Layout::from_size_align(bytes.max(1), align).expect("a size");
    unsafe { std::alloc::dealloc(address as *mut u8, layout) };
}

/// Whether the process has all of this memory.
pub fn is_mapped(address: usize, bytes: usize, write: bool) -> bool {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let mut at = address;
    for line in maps.lines() {
        let Some((range, rest)) = line.split_once(' ') else { continue };
        let Some((start, end)) = range.split_once('-') else { continue };
        let number = |text: &str| usize::from_str_radix(text, 16).unwrap_or(0);
        if (number(start)..number(end)).contains(&at) && rest.starts_with(if write { "rw" } else { "r" }) {
            at = number(end);
        }
    }
    at >= address.saturating_add(bytes)
}

/// Blocks of a page and more begin at a page.
fn pool_align(bytes: usize) -> usize {
    if bytes >= PAGE { PAGE } else { 16 }
}

#[unsafe(no_mangle)]
extern "system" fn ExAllocatePoolWithTag(pool: u32, bytes: usize, tag: u32) -> *mut c_void {
    at_most(DISPATCH_LEVEL, "ExAllocatePoolWithTag");
    if tag != POOL_TAG || bytes == 0 {
        bug_check!("a pool block of {bytes} bytes with tag {tag:#x}");
    }
    if fails() || bytes > 1 << 30 {
        return core::ptr::null_mut();
    }
    let memory = alloc(bytes, pool_align(bytes));
    // What was there before isn't zero.
    unsafe { (memory as *mut u8).write_bytes(0xa5, bytes) };
    if pool == 0 && bytes >= PAGE {
        // Code can run in this pool; the pages stay so when the block is freed.
        let all = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
        unsafe { libc::mprotect(memory as *mut c_void, bytes, all) };
    }
    with(|state| state.account.pool.insert(memory, bytes));
    memory as *mut c_void
}

#[unsafe(no_mangle)]
extern "system" fn ExFreePoolWithTag(memory: *mut c_void, _tag: u32) {
    at_most(DISPATCH_LEVEL, "ExFreePoolWithTag");
    let address = memory as usize;
    if let Some(bytes) = with(|state| state.account.pool.remove(&address)) {
        free(address, bytes, pool_align(bytes));
        return;
    }
    let pages = with(|state| state.account.pages.remove(&address));
    match pages {
        Some(pages) if pages.freed => free(address, mdl_bytes(pages.bytes / PAGE), 16),
        _ => bug_check!("a pool block is freed that isn't one, or an MDL before its pages"),
    }
}

fn mdl_bytes(pages: usize) -> usize {
    size_of::<Mdl>() + 8 * (pages + 1)
}

fn frames(mdl: *mut Mdl) -> *mut usize {
    unsafe { mdl.add(1).cast() }
}

fn new_mdl(address: usize, bytes: usize) -> *mut Mdl {
    let pages = (address % PAGE + bytes).div_ceil(PAGE);
    let mdl = alloc(mdl_bytes(pages), 16) as *mut Mdl;
    unsafe {
        (*mdl).start_va = (address - address % PAGE) as *mut c_void;
        (*mdl).byte_offset = (address % PAGE) as u32;
        (*mdl).byte_count = bytes as u32;
    }
    mdl
}

fn pages_of(mdl: *mut Mdl) -> usize {
    let mdl = unsafe { &*mdl };
    (mdl.byte_offset as usize + mdl.byte_count as usize).div_ceil(PAGE)
}

/// Numbers below 4 GiB that belong to a page of this process.
fn fill_frames(mdl: *mut Mdl, memory: usize) {
    for page in 0..pages_of(mdl) {
        unsafe { frames(mdl).add(page).write((memory / PAGE + page) & 0xf_ffff) };
    }
}

pub extern "system" fn allocate_pages_ex(
    _low: u64,
    _high: u64,
    _skip: u64,
    bytes: usize,
    _cache: u32,
    _flags: u32,
) -> *mut Mdl {
    at_most(APC_LEVEL, "MmAllocatePagesForMdlEx");
    if fails() {
        return core::ptr::null_mut();
    }
    let memory = alloc(bytes, PAGE);
    let mdl = new_mdl(0, bytes);
    fill_frames(mdl, memory);
    unsafe { (*mdl).flags = MDL_PAGES_LOCKED };
    let pages = PagesOf { memory, bytes, freed: false };
    with(|state| state.account.pages.insert(mdl as usize, pages));
    mdl
}

#[unsafe(no_mangle)]
extern "system" fn MmAllocatePagesForMdl(low: u64, high: u64, skip: u64, bytes: usize) -> *mut Mdl {
    if with(|state| state.config.emulated) {
        return core::ptr::null_mut();
    }
    allocate_pages_ex(low, high, skip, bytes, 1, 0)
}

#[unsafe(no_mangle)]
extern "system" fn MmFreePagesFromMdl(mdl: *mut Mdl) {
    at_most(APC_LEVEL, "MmFreePagesFromMdl");
    with(|state| {
        if state.account.mappings.iter().any(|mapping| mapping.0 == mdl as usize) {
            bug_check!("pages are freed while they are mapped");
        }
        match state.account.pages.get_mut(&(mdl as usize)) {
            Some(pages) if !pages.freed => {
                pages.freed = true;
                free(pages.memory, pages.bytes, PAGE);
            }
            _ => bug_check!("pages are freed twice"),
        }
    });
}

#[unsafe(no_mangle)]
extern "system" fn IoAllocateMdl(
    address: *mut c_void,
    bytes: u32,
    _s: u8,
    _q: u8,
    _irp: *mut crate::nt::Irp,
) -> *mut Mdl {
    at_most(DISPATCH_LEVEL, "IoAllocateMdl");
    if fails() {
        return core::ptr::null_mut();
    }
    let mdl = new_mdl(address as usize, bytes as usize);
    with(|state| state.account.mdls.insert(mdl as usize));
    mdl
}

#[unsafe(no_mangle)]
extern "system" fn IoFreeMdl(mdl: *mut Mdl) {
    with(|state| {
        if !state.account.mdls.remove(&(mdl as usize)) || state.account.locked.contains(&(mdl as usize)) {
            bug_check!("an MDL is freed twice, or while it is locked");
        }
        if state.account.mappings.iter().any(|mapping| mapping.0 == mdl as usize) {
            bug_check!("an MDL is freed while it is mapped");
        }
    });
    free(mdl as usize, mdl_bytes(pages_of(mdl)), 16);
}

#[unsafe(no_mangle)]
extern "system" fn IoBuildPartialMdl(source: *mut Mdl, target: *mut Mdl, address: *mut c_void, _bytes: u32) {
    let whole = unsafe { &*source };
    let first = (address as usize - whole.start_va as usize) / PAGE;
    for page in 0..pages_of(target) {
        unsafe { frames(target).add(page).write(frames(source).add(first + page).read()) };
    }
    let inherited = whole.flags & (MDL_MAPPED_TO_SYSTEM_VA | MDL_SOURCE_IS_NONPAGED_POOL);
    let memory = memory_of(source) + first * PAGE;
    with(|state| state.partial.insert(target as usize, memory));
    unsafe {
        (*target).flags |= inherited | MDL_PARTIAL;
        (*target).mapped_system_va = (whole.mapped_system_va as usize + first * PAGE) as *mut c_void;
    }
}

#[unsafe(no_mangle)]
extern "system" fn MmBuildMdlForNonPagedPool(mdl: *mut Mdl) {
    let memory = unsafe { (*mdl).start_va } as usize;
    fill_frames(mdl, memory);
    unsafe {
        (*mdl).flags |= MDL_SOURCE_IS_NONPAGED_POOL;
        (*mdl).mapped_system_va = memory as *mut c_void;
    }
}

/// Describes pages of another MDL.
const MDL_PARTIAL: u16 = 0x10;

/// Where the pages of an MDL are in this process.
fn memory_of(mdl: *mut Mdl) -> usize {
    if unsafe { (*mdl).flags } & MDL_PARTIAL != 0
        && let Some(memory) = with(|state| state.partial.get(&(mdl as usize)).copied())
    {
        return memory;
    }
    match with(|state| state.account.pages.get(&(mdl as usize)).map(|pages| pages.memory)) {
        Some(memory) => memory,
        None => unsafe { (*mdl).start_va as usize + (*mdl).byte_offset as usize },
    }
}

#[unsafe(no_mangle)]
extern "system" fn MmMapLockedPagesSpecifyCache(
    mdl: *mut Mdl,
    mode: Mode,
    _cache: u32,
    _address: *mut c_void,
    _bug_check: u32,
    _priority: u32,
) -> *mut c_void {
    at_most(if mode == USER_MODE { APC_LEVEL } else { DISPATCH_LEVEL }, "MmMapLockedPagesSpecifyCache");
    let flags = unsafe { (*mdl).flags };
    if flags & (MDL_PAGES_LOCKED | MDL_SOURCE_IS_NONPAGED_POOL | MDL_PARTIAL) == 0 {
        bug_check!("a mapping of pages that aren't locked");
    }
    if mode == KERNEL_MODE && flags & MDL_MAPPED_TO_SYSTEM_VA != 0 {
        bug_check!("a second kernel mapping of an MDL");
    }
    if fails() {
        if mode == USER_MODE {
            raise(NtStatus::INSUFFICIENT_RESOURCES);
        }
        return core::ptr::null_mut();
    }
    let address = memory_of(mdl);
    if mode == KERNEL_MODE {
        unsafe {
            (*mdl).flags |= MDL_MAPPED_TO_SYSTEM_VA;
            (*mdl).mapped_system_va = address as *mut c_void;
        }
    }
    with(|state| state.account.mappings.push((mdl as usize, address, mode, PROCESS.get())));
    address as *mut c_void
}

#[unsafe(no_mangle)]
extern "system" fn MmUnmapLockedPages(address: *mut c_void, mdl: *mut Mdl) {
    with(|state| {
        let mappings = &mut state.account.mappings;
        let found = mappings.iter().rposition(|(of, at, mode, process)| {
            (*of, *at) == (mdl as usize, address as usize)
                && (*mode == KERNEL_MODE || *process == PROCESS.get())
        });
        let Some(found) = found else {
            bug_check!("an unmapping of what isn't mapped, or in another process")
        };
        if mappings.swap_remove(found).2 == KERNEL_MODE {
            unsafe { (*mdl).flags &= !MDL_MAPPED_TO_SYSTEM_VA };
        }
    });
}

#[unsafe(no_mangle)]
extern "system" fn MmProbeAndLockPages(mdl: *mut Mdl, mode: Mode, operation: u32) {
    at_most(APC_LEVEL, "MmProbeAndLockPages");
    let (address, bytes) =
        unsafe { ((*mdl).start_va as usize + (*mdl).byte_offset as usize, (*mdl).byte_count as usize) };
    if fails() || (mode == USER_MODE && !is_mapped(address, bytes, operation != 0)) {
        raise(NtStatus(0xc000_0005));
        return;
    }
    fill_frames(mdl, unsafe { (*mdl).start_va as usize });
    unsafe { (*mdl).flags |= MDL_PAGES_LOCKED };
    if !with(|state| state.account.locked.insert(mdl as usize)) {
        bug_check!("an MDL is locked twice");
    }
}

#[unsafe(no_mangle)]
extern "system" fn MmUnlockPages(mdl: *mut Mdl) {
    if !with(|state| state.account.locked.remove(&(mdl as usize))) {
        bug_check!("an MDL is unlocked that isn't locked");
    }
    unsafe { (*mdl).flags &= !MDL_PAGES_LOCKED };
}

#[unsafe(no_mangle)]
extern "system" fn MmSecureVirtualMemory(_address: *mut c_void, _bytes: usize, _probe: u32) -> Handle {
    at_most(PASSIVE_LEVEL, "MmSecureVirtualMemory");
    if fails() {
        return core::ptr::null_mut();
    }
    with(|state| {
        let handle = state.account.secured.last().map_or(0x1000, |last| last + 8);
        state.account.secured.insert(handle);
        handle as Handle
    })
}

#[unsafe(no_mangle)]
extern "system" fn MmUnsecureVirtualMemory(secured: Handle) {
    if !with(|state| state.account.secured.remove(&(secured as usize))) {
        bug_check!("a range is unsecured that isn't secured");
    }
}

#[unsafe(no_mangle)]
extern "system" fn MmAllocateContiguousMemorySpecifyCache(
    bytes: usize,
    _low: u64,
    high: u64,
    _boundary: u64,
    _cache: u32,
) -> *mut c_void {
    at_most(DISPATCH_LEVEL, "MmAllocateContiguousMemorySpecifyCache");
    // The first MiB is used.
    if fails() || high < 0x10_0000 || with(|state| state.config.emulated) {
        return core::ptr::null_mut();
    }
    let memory = alloc(bytes, PAGE);
    unsafe { (memory as *mut u8).write_bytes(0xa5, bytes) };
    with(|state| state.account.contiguous.insert(memory, bytes));
    memory as *mut c_void
}

#[unsafe(no_mangle)]
extern "system" fn MmFreeContiguousMemory(memory: *mut c_void) {
    match with(|state| state.account.contiguous.remove(&(memory as usize))) {
        Some(bytes) => free(memory as usize, bytes, PAGE),
        None => bug_check!("a contiguous block is freed that isn't one"),
    }
}

/// Memory that plays a device's.
#[unsafe(no_mangle)]
extern "system" fn MmMapIoSpace(_phys: u64, bytes: usize, cache: u32) -> *mut c_void {
    at_most(DISPATCH_LEVEL, "MmMapIoSpace");
    if fails() || with(|state| state.config.emulated) {
        return core::ptr::null_mut();
    }
    if cache > 1 {
        bug_check!("MmMapIoSpace: cache type {cache}");
    }
    let memory = alloc(bytes, PAGE);
    with(|state| state.account.io.insert(memory, bytes));
    memory as *mut c_void
}

#[unsafe(no_mangle)]
extern "system" fn MmUnmapIoSpace(address: *mut c_void, bytes: usize) {
    match with(|state| state.account.io.remove(&(address as usize))) {
        Some(mapped) if mapped == bytes => free(address as usize, bytes, PAGE),
        _ => bug_check!("MmUnmapIoSpace: what isn't mapped, or another size"),
    }
}

// ---- sections, handles ----

/// A handle of the kernel's.
pub fn new_handle(value: usize) -> usize {
    with(|state| {
        let handle = state.account.handles.last_key_value().map_or(0x8000, |(last, _)| last + 4);
        state.account.handles.insert(handle, value);
        handle
    })
}

#[unsafe(no_mangle)]
extern "system" fn ZwCreateSection(
    section: *mut Handle,
    _access: u32,
    _attributes: *const ObjectAttributes,
    size: *const u64,
    _protection: u32,
    _allocation: u32,
    _file: Handle,
) -> NtStatus {
    at_most(PASSIVE_LEVEL, "ZwCreateSection");
    if fails() {
        return NtStatus::INSUFFICIENT_RESOURCES;
    }
    // Never freed: views and handles go in any order.
    let memory = alloc(unsafe { *size } as usize, PAGE);
    unsafe { *section = new_handle(memory) as Handle };
    NtStatus::SUCCESS
}

#[unsafe(no_mangle)]
extern "system" fn ZwMapViewOfSection(
    section: Handle,
    process: Handle,
    base: *mut *mut c_void,
    _zero_bits: usize,
    _commit: usize,
    _offset: *mut u64,
    _size: *mut usize,
    _inherit: u32,
    _allocation: u32,
    _protection: u32,
) -> NtStatus {
    at_most(PASSIVE_LEVEL, "ZwMapViewOfSection");
    if fails() {
        return NtStatus::INSUFFICIENT_RESOURCES;
    }
    let known =
        process == CURRENT_PROCESS || with(|state| state.account.handles.contains_key(&(process as usize)));
    let memory = with(|state| state.account.handles.get(&(section as usize)).copied());
    match memory {
        Some(memory) if known => {
            with(|state| *state.account.views.entry(memory).or_default() += 1);
            unsafe { *base = memory as *mut c_void };
            NtStatus::SUCCESS
        }
        _ => bug_check!("a view of a section, or in a process, that isn't one"),
    }
}

#[unsafe(no_mangle)]
extern "system" fn ZwUnmapViewOfSection(_process: Handle, base: *mut c_void) -> NtStatus {
    with(|state| match state.account.views.get_mut(&(base as usize)) {
        Some(1) => {
            state.account.views.remove(&(base as usize));
        }
        Some(count) => *count -= 1,
        None => bug_check!("a view is unmapped that isn't one"),
    });
    NtStatus::SUCCESS
}

#[unsafe(no_mangle)]
extern "system" fn ZwClose(handle: Handle) -> NtStatus {
    at_most(PASSIVE_LEVEL, "ZwClose");
    if with(|state| state.account.handles.remove(&(handle as usize))).is_none() {
        bug_check!("a handle is closed that isn't one");
    }
    NtStatus::SUCCESS
}

#[unsafe(no_mangle)]
extern "system" fn ObOpenObjectByPointer(
    object: *mut c_void,
    _attributes: u32,
    _state: *mut c_void,
    _access: u32,
    _kind: *mut c_void,
    _mode: Mode,
    handle: *mut Handle,
) -> NtStatus {
    at_most(PASSIVE_LEVEL, "ObOpenObjectByPointer");
    if fails() {
        return NtStatus::INSUFFICIENT_RESOURCES;
    }
    unsafe { *handle = new_handle(object as usize) as Handle };
    NtStatus::SUCCESS
}

#[unsafe(no_mangle)]
extern "system" fn ZwSetSecurityObject(
    _object: Handle,
    _information: u32,
    descriptor: *const c_void,
) -> NtStatus {
    let header = unsafe { core::slice::from_raw_parts(descriptor.cast::<u8>(), 24) };
    let list = u32::from_le_bytes([header[16], header[17], header[18], header[19]]) as usize;
    let bytes = unsafe { descriptor.cast::<u8>().add(list + 2).cast::<u16>().read_unaligned() };
    let all = unsafe { core::slice::from_raw_parts(descriptor.cast::<u8>(), list + usize::from(bytes)) };
    with(|state| state.security.push(all.to_vec()));
    NtStatus::SUCCESS
}

#[unsafe(no_mangle)]
extern "system" fn ZwOpenKey(
    key: *mut Handle,
    _access: u32,
    attributes: *const ObjectAttributes,
) -> NtStatus {
    let name: String = super::exports::text(unsafe { (*attributes).name });
    if fails() || (name == "Parameters" && with(|state| state.config.security.is_none())) {
        return NtStatus::OBJECT_NAME_NOT_FOUND;
    }
    unsafe { *key = new_handle(0) as Handle };
    NtStatus::SUCCESS
}

#[unsafe(no_mangle)]
extern "system" fn ZwQueryValueKey(
    _key: Handle,
    _name: *const crate::nt::UnicodeString,
    _class: u32,
    information: *mut c_void,
    bytes: u32,
    _needed: *mut u32,
) -> NtStatus {
    let Some(value) = with(|state| state.config.security.clone()) else {
        return NtStatus::OBJECT_NAME_NOT_FOUND;
    };
    if value.len() + 12 > bytes as usize {
        return NtStatus(0x8000_0005);
    }
    unsafe {
        information.cast::<[u32; 3]>().write([0, 3, value.len() as u32]);
        core::ptr::copy(value.as_ptr(), information.cast::<u8>().add(12), value.len());
    }
    NtStatus::SUCCESS
}

#[unsafe(no_mangle)]
extern "system" fn ZwSetSystemInformation(class: u32, information: *mut c_void, _bytes: u32) -> NtStatus {
    at_most(PASSIVE_LEVEL, "ZwSetSystemInformation");
    debug_assert_eq!(IRQL.get(), 0);
    if class == 27 {
        let section = unsafe { *information.cast::<usize>() };
        return with(|state| {
            state.unloads += 1;
            if !state.account.locked.is_empty() {
                bug_check!("an image is unloaded while it is locked");
            }
            let known = state.account.images.remove(&section).is_some();
            if known { NtStatus::SUCCESS } else { NtStatus::INVALID_PARAMETER }
        });
    }
    let request = unsafe { &mut *information.cast::<LoadImage>() };
    let path: std::vec::Vec<u16> = super::exports::text(&raw const request.name).encode_utf16().collect();
    with(|state| {
        state.native_path = path;
        let Some(load) = state.config.native.clone() else { return NtStatus::INVALID_INFO_CLASS };
        if load.status.is_ok() {
            request.address = load.address as *mut c_void;
            request.section = load.section as *mut c_void;
            request.length = load.length;
            if load.section != 0 {
                state.account.images.insert(load.section, load.address);
            }
        }
        load.status
    })
}
