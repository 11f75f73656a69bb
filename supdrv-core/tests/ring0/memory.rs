//! `RTMem*`, `RTR0MemObj*`, `RTR0Mem*`.

use std::ffi::c_void;
use std::ptr::{null, null_mut};

use supdrv_core::abi::status::{VERR_MAP_FAILED, VERR_NO_MEMORY};
use supdrv_core::mock::Call;

use crate::harness::{Machine, ok, replay};
use crate::import;

import! {
    fn RTMemAllocTag(bytes: usize, tag: *const i8) -> *mut u8;
    fn RTMemAllocZTag(bytes: usize, tag: *const i8) -> *mut u8;
    fn RTMemAllocVarTag(bytes: usize, tag: *const i8) -> *mut u8;
    fn RTMemAllocZVarTag(bytes: usize, tag: *const i8) -> *mut u8;
    fn RTMemReallocTag(old: *mut u8, bytes: usize, tag: *const i8) -> *mut u8;
    fn RTMemFree(block: *mut u8);
    fn RTMemAllocExTag(bytes: usize, align: usize, flags: u32, tag: *const i8, out: *mut *mut u8) -> i32;
    fn RTMemFreeEx(block: *mut u8, bytes: usize);
    fn RTMemDupTag(source: *const u8, bytes: usize, tag: *const i8) -> *mut u8;
    fn RTMemDupExTag(source: *const u8, bytes: usize, extra: usize, tag: *const i8) -> *mut u8;
    fn RTR0MemObjAllocPageTag(out: *mut usize, bytes: usize, executable: bool, tag: *const i8) -> i32;
    fn RTR0MemObjAllocLowTag(out: *mut usize, bytes: usize, executable: bool, tag: *const i8) -> i32;
    fn RTR0MemObjAllocContTag(out: *mut usize, bytes: usize, executable: bool, tag: *const i8) -> i32;
    fn RTR0MemObjAllocPhysTag(out: *mut usize, bytes: usize, highest: u64, tag: *const i8) -> i32;
    fn RTR0MemObjAllocPhysExTag(out: *mut usize, bytes: usize, highest: u64, align: usize, tag: *const i8) -> i32;
    fn RTR0MemObjAllocPhysNCTag(out: *mut usize, bytes: usize, highest: u64, tag: *const i8) -> i32;
    fn RTR0MemObjEnterPhysTag(out: *mut usize, phys: u64, bytes: usize, cache: u32, tag: *const i8) -> i32;
    fn RTR0MemObjLockUserTag(out: *mut usize, address: usize, bytes: usize, access: u32, process: usize, tag: *const i8) -> i32;
    fn RTR0MemObjMapKernelTag(out: *mut usize, parent: usize, fixed: usize, align: usize, prot: u32, tag: *const i8) -> i32;
    fn RTR0MemObjMapKernelExTag(out: *mut usize, parent: usize, fixed: usize, align: usize, prot: u32, offset: usize, bytes: usize, tag: *const i8) -> i32;
    fn RTR0MemObjMapUserTag(out: *mut usize, parent: usize, fixed: usize, align: usize, prot: u32, process: usize, tag: *const i8) -> i32;
    fn RTR0MemObjProtect(object: usize, offset: usize, bytes: usize, prot: u32) -> i32;
    fn RTR0MemObjFree(object: usize, mappings: bool) -> i32;
    fn RTR0MemObjAddress(object: usize) -> *mut u8;
    fn RTR0MemObjAddressR3(object: usize) -> usize;
    fn RTR0MemObjSize(object: usize) -> usize;
    fn RTR0MemObjIsMapping(object: usize) -> bool;
    fn RTR0MemObjGetPagePhysAddr(object: usize, index: usize) -> u64;
    fn RTR0MemUserCopyFrom(to: *mut c_void, from: usize, bytes: usize) -> i32;
    fn RTR0MemUserCopyTo(to: usize, from: *const c_void, bytes: usize) -> i32;
    fn RTR0MemUserIsValidAddr(address: usize) -> bool;
    fn RTR0MemKernelIsValidAddr(address: *mut c_void) -> bool;
    fn RTR0MemKernelCopyFrom(to: *mut c_void, from: usize, bytes: usize) -> i32;
    fn RTR0MemKernelCopyTo(to: usize, from: *const c_void, bytes: usize) -> i32;
    fn RTR0MemAreKrnlAndUsrDifferent() -> bool;
}

const ANY: usize = usize::MAX;
const PAGE: usize = 0x1000;

fn bytes(block: *const u8, count: usize) -> Vec<u8> {
    // SAFETY: the tests pass blocks of at least that size.
    unsafe { std::slice::from_raw_parts(block, count) }.to_vec()
}

fn pages(count: usize) -> usize {
    let mut object = 0;
    assert_eq!(RTR0MemObjAllocPageTag(&raw mut object, count * PAGE, false, null()), 0);
    object
}

#[test]
fn blocks_are_zeroed_aligned_and_unique() {
    let _machine = Machine::new();
    let (a, b) = (RTMemAllocTag(0, null()), RTMemAllocTag(0, null()));
    assert!(!a.is_null() && a != b);
    for allocate in [RTMemAllocZTag as fn(usize, *const i8) -> *mut u8, RTMemAllocZVarTag] {
        let block = allocate(100, c"tag".as_ptr());
        assert!((block as usize).is_multiple_of(16));
        assert_eq!(bytes(block, 100), [0; 100]);
        RTMemFree(block);
    }
    let odd = RTMemAllocVarTag(33, null());
    assert!(!odd.is_null());
    for block in [a, b, odd, null_mut()] {
        RTMemFree(block);
    }
    assert!(
        RTMemAllocTag(usize::MAX - 8, null()).is_null() && RTMemAllocVarTag(usize::MAX, null()).is_null()
    );
}

#[test]
fn reallocation_keeps_the_contents() {
    let _machine = Machine::new();
    let block = RTMemReallocTag(null_mut(), 16, null());
    // SAFETY: 16 bytes.
    unsafe { block.write_bytes(0xab, 16) };
    let grown = RTMemReallocTag(block, 400, null());
    assert_eq!(bytes(grown, 16), [0xab; 16]);
    assert_eq!(RTMemReallocTag(grown, 300, null()), grown, "a little too large is fine");
    let shrunk = RTMemReallocTag(grown, 8, null());
    assert_eq!(bytes(shrunk, 8), [0xab; 8]);
    assert!(RTMemReallocTag(shrunk, usize::MAX - 8, null()).is_null(), "the old block stays");
    assert_eq!(bytes(shrunk, 8), [0xab; 8]);
    assert!(RTMemReallocTag(shrunk, 0, null()).is_null());
}

#[test]
fn copies_have_what_was_asked_for() {
    let _machine = Machine::new();
    let copy = RTMemDupTag(b"hello".as_ptr(), 5, null());
    let longer = RTMemDupExTag(b"hello".as_ptr(), 5, 3, null());
    assert_eq!((bytes(copy, 5), bytes(longer, 8)), (b"hello".to_vec(), b"hello\0\0\0".to_vec()));
    assert!(RTMemDupExTag(b"x".as_ptr(), 1, usize::MAX, null()).is_null());
    RTMemFree(copy);
    RTMemFree(longer);
}

#[test]
fn requirements_are_checked_in_order() {
    let _machine = Machine::new();
    let mut block = null_mut();
    let mut alloc = |bytes, align, flags| RTMemAllocExTag(bytes, align, flags, null(), &raw mut block);
    assert_eq!(
        (alloc(8, 16, 0x10), alloc(8, 8, 0x10), alloc(8, 8, 2 | 4), alloc(8, 0, 2 | 8)),
        (-97, -2, -37, -37)
    );
    assert_eq!((alloc(usize::MAX - 8, 8, 0), alloc(usize::MAX - 8, 8, 2)), (-8, -96));
    assert_eq!(RTMemAllocExTag(8, 8, 0, null(), null_mut()), -6);
}

#[test]
fn memory_from_any_context_is_allocated_and_freed_there() {
    let machine = Machine::new();
    let mut block = null_mut();
    machine.with_irqs_off(|| {
        assert_eq!(RTMemAllocExTag(48, 8, 1 | 4 | 8, null(), &raw mut block), 0);
        assert_eq!(bytes(block, 48), [0; 48]);
        RTMemFreeEx(block, 48);
    });
}

#[cfg(target_arch = "x86_64")]
#[test]
fn executable_memory_runs() {
    let _machine = Machine::new();
    let mut block = null_mut::<u8>();
    assert_eq!(RTMemAllocExTag(64, 8, 1 | 2, null(), &raw mut block), 0);
    // mov eax, 0x1234; ret
    let code = [0xb8, 0x34, 0x12, 0, 0, 0xc3];
    // SAFETY: the block has room for the code, which is a function of this type.
    unsafe {
        block.copy_from_nonoverlapping(code.as_ptr(), code.len());
        assert_eq!(std::mem::transmute::<*mut u8, extern "C" fn() -> i32>(block)(), 0x1234);
    }
    RTMemFreeEx(block, 64);
}

#[test]
fn what_is_not_a_block_is_not_freed() {
    let machine = Machine::new();
    let block = RTMemAllocTag(64, null());
    // SAFETY: inside the block.
    RTMemFree(unsafe { block.add(32) });
    assert!(machine.log().iter().any(|line| line.contains("isn't a heap block")));
    RTMemFree(block);
}

#[test]
fn an_object_has_a_size_addresses_and_zeroed_pages() {
    let _machine = Machine::new();
    for allocate in [
        RTR0MemObjAllocPageTag as fn(*mut usize, usize, bool, *const i8) -> i32,
        RTR0MemObjAllocLowTag,
        RTR0MemObjAllocContTag,
    ] {
        let mut object = 0;
        assert_eq!(allocate(&raw mut object, 2 * PAGE + 1, true, null()), 0);
        assert_eq!(RTR0MemObjSize(object), 3 * PAGE);
        assert_eq!(bytes(RTR0MemObjAddress(object), 3 * PAGE), vec![0; 3 * PAGE]);
        assert_eq!((RTR0MemObjAddressR3(object), RTR0MemObjIsMapping(object)), (0, false));
        let phys: Vec<u64> = (0..4).map(|index| RTR0MemObjGetPagePhysAddr(object, index)).collect();
        assert!(phys[..3].iter().all(|phys| phys % PAGE as u64 == 0) && phys[3] == u64::MAX);
        assert_eq!(RTR0MemObjFree(object, false), 0);
    }
    let mut cont = 0;
    RTR0MemObjAllocContTag(&raw mut cont, 3 * PAGE, false, null());
    let first = RTR0MemObjGetPagePhysAddr(cont, 0);
    assert!((0..3).all(|index| RTR0MemObjGetPagePhysAddr(cont, index) == first + (index * PAGE) as u64));
    assert!(first < 1 << 32);
    RTR0MemObjFree(cont, false);
}

#[test]
fn handles_sizes_and_pointers_are_checked() {
    let _machine = Machine::new();
    let mut object = 77;
    assert_eq!(RTR0MemObjAllocPageTag(null_mut(), PAGE, false, null()), -6);
    assert_eq!((RTR0MemObjAllocPageTag(&raw mut object, 0, false, null()), object), (-2, 0));
    assert_eq!(RTR0MemObjAllocPageTag(&raw mut object, usize::MAX - 5, false, null()), -2);
    assert_eq!(
        (RTR0MemObjFree(0, true), RTR0MemObjSize(0), RTR0MemObjGetPagePhysAddr(0, 0)),
        (0, 0, u64::MAX)
    );
    assert!(RTR0MemObjAddress(0).is_null() && RTR0MemObjAddressR3(0) == 0 && !RTR0MemObjIsMapping(0));
    let pages = pages(1);
    assert_eq!(RTR0MemObjFree(pages, false), 0);
    assert_eq!(RTR0MemObjMapKernelTag(&raw mut object, 0, ANY, 0, 3, null()), -4);
}

#[test]
fn physical_allocations_check_limit_and_alignment() {
    let _machine = Machine::new();
    let mut object = 0;
    let mut alloc =
        |bytes, highest, align| RTR0MemObjAllocPhysExTag(&raw mut object, bytes, highest, align, null());
    assert_eq!((alloc(PAGE, 10, 0), alloc(PAGE, u64::MAX, 0x2000), alloc(0, u64::MAX, 0)), (-2, -2, -2));
    assert_eq!(alloc(PAGE, 0xffff, 0), -73, "nothing is that low");
    assert_eq!(RTR0MemObjAllocPhysNCTag(&raw mut object, PAGE, 0xffff, null()), -73);
    assert_eq!(RTR0MemObjEnterPhysTag(&raw mut object, 0xfee0_0000, PAGE, 2, null()), -2);
    assert_eq!(RTR0MemObjEnterPhysTag(&raw mut object, u64::MAX - 5, PAGE, 0, null()), -2);
    assert_eq!(RTR0MemObjEnterPhysTag(&raw mut object, 1 << 50, PAGE, 0, null()), -74);
}

#[test]
fn a_physical_block_is_below_its_limit_and_aligned() {
    const LARGE: usize = 0x20_0000;
    let machine = Machine::new();
    let mut object = 0;
    for (bytes, highest, align) in [
        (3 * PAGE, 0x4000_2fff, PAGE),
        (PAGE, u64::MAX, LARGE),
        (LARGE, 0x403f_ffff, LARGE),
        (PAGE, u64::MAX, 0),
    ] {
        assert_eq!(RTR0MemObjAllocPhysExTag(&raw mut object, bytes, highest, align, null()), 0);
        let first = RTR0MemObjGetPagePhysAddr(object, 0);
        assert!(first + bytes as u64 - 1 <= highest && first.is_multiple_of(align.max(PAGE) as u64));
        let last = bytes / PAGE - 1;
        assert_eq!(RTR0MemObjGetPagePhysAddr(object, last), first + (last * PAGE) as u64);
        assert!(RTR0MemObjAddress(object).is_null());
        assert_eq!(RTR0MemObjProtect(object, 0, 0, 1), -2, "no mapping that could be protected");
        assert_eq!(RTR0MemObjFree(object, false), 0);
    }
    assert_eq!(RTR0MemObjAllocPhysTag(&raw mut object, PAGE, u64::MAX, null()), 0);
    assert_eq!(RTR0MemObjFree(object, false), 0);
    for highest in [u64::MAX, 0xffff_ffff] {
        assert_eq!(RTR0MemObjAllocPhysNCTag(&raw mut object, 2 * PAGE, highest, null()), 0);
        assert!((0..2).all(|page| RTR0MemObjGetPagePhysAddr(object, page) < highest));
        assert_eq!(RTR0MemObjFree(object, false), 0);
    }
    assert_eq!(machine.frames_in_use(), 0);
}

#[test]
fn physical_memory_that_is_there_already_can_be_entered_and_stays_when_it_is_left() {
    let machine = Machine::new();
    let owner = pages(2);
    // SAFETY: the first byte of the second page.
    unsafe { RTR0MemObjAddress(owner).add(PAGE).write(0x77) };
    let phys = RTR0MemObjGetPagePhysAddr(owner, 1);
    let (mut entered, mut map) = (0, 0);
    // The range is rounded to pages.
    assert_eq!(RTR0MemObjEnterPhysTag(&raw mut entered, phys + 8, 16, 0, null()), 0);
    assert_eq!((RTR0MemObjSize(entered), RTR0MemObjGetPagePhysAddr(entered, 0)), (PAGE, phys));
    assert!(RTR0MemObjAddress(entered).is_null() && !RTR0MemObjIsMapping(entered));
    assert_eq!(RTR0MemObjMapKernelTag(&raw mut map, entered, ANY, 0, 3, null()), 0);
    assert_eq!(bytes(RTR0MemObjAddress(map), 1), [0x77]);
    // SAFETY: the mapping is one page.
    unsafe { RTR0MemObjAddress(map).write(0x78) };
    assert_eq!(RTR0MemObjFree(entered, true), 0);
    // SAFETY: still there.
    assert_eq!(bytes(unsafe { RTR0MemObjAddress(owner).add(PAGE) }, 1), [0x78]);
    assert_eq!(machine.frames_in_use(), 2);
    assert_eq!(RTR0MemObjEnterPhysTag(&raw mut entered, 0xfee0_0000, PAGE, 1, null()), 0, "a device");
    assert_eq!((RTR0MemObjFree(entered, false), RTR0MemObjFree(owner, false)), (0, 0));
}

#[test]
fn a_kernel_mapping_shows_the_pages_and_goes_first() {
    let _machine = Machine::new();
    let parent = pages(3);
    let (mut whole, mut part, mut none) = (0, 0, 0);
    assert_eq!(RTR0MemObjMapKernelTag(&raw mut whole, parent, ANY, PAGE, 3, null()), 0);
    assert_eq!(RTR0MemObjMapKernelExTag(&raw mut part, parent, ANY, 0, 3, PAGE, PAGE, null()), 0);
    // SAFETY: the parent's second page.
    unsafe { RTR0MemObjAddress(parent).add(PAGE).write(0x5a) };
    assert_eq!(bytes(RTR0MemObjAddress(part), 1), [0x5a]);
    // SAFETY: the second page of the mapping.
    assert_eq!(bytes(unsafe { RTR0MemObjAddress(whole).add(PAGE) }, 1), [0x5a]);
    assert!(RTR0MemObjIsMapping(part));
    assert_eq!((RTR0MemObjSize(whole), RTR0MemObjSize(part)), (3 * PAGE, PAGE));
    assert_eq!(RTR0MemObjGetPagePhysAddr(part, 0), RTR0MemObjGetPagePhysAddr(parent, 1));
    assert_eq!(RTR0MemObjMapKernelTag(&raw mut none, part, ANY, 0, 3, null()), -2, "a mapping of a mapping");
    assert_eq!(RTR0MemObjFree(parent, false), -67);
    assert_eq!(RTR0MemObjFree(part, false), 0);
    assert_eq!(RTR0MemObjFree(parent, true), 0);
}

#[test]
fn ranges_of_mappings_are_checked() {
    let _machine = Machine::new();
    let parent = pages(2);
    let mut map = 0;
    for (offset, size, status) in [
        (1, PAGE, -2),
        (0, 5, -2),
        (2 * PAGE, 0, -2),
        (PAGE, 2 * PAGE, -2),
        (usize::MAX - PAGE + 1, 2 * PAGE, -2),
    ] {
        assert_eq!(RTR0MemObjMapKernelExTag(&raw mut map, parent, ANY, 0, 3, offset, size, null()), status);
    }
    assert_eq!(RTR0MemObjMapKernelTag(&raw mut map, parent, ANY, 0, 0, null()), -2);
    assert_eq!(RTR0MemObjMapKernelTag(&raw mut map, parent, ANY, 0x20_0000, 3, null()), -37);
    assert_eq!(RTR0MemObjMapKernelTag(&raw mut map, parent, 0x1000, 0, 3, null()), -37);
    assert_eq!(RTR0MemObjProtect(parent, 0, 3 * PAGE, 1), -2);
    assert_eq!((RTR0MemObjProtect(parent, PAGE, PAGE, 1), RTR0MemObjProtect(parent, 0, 0, 9)), (0, -2));
    RTR0MemObjFree(parent, false);
}

#[test]
fn a_user_mapping_belongs_to_the_calling_process() {
    let machine = Machine::new();
    let parent = pages(1);
    let mut map = 0;
    assert_eq!(RTR0MemObjMapUserTag(&raw mut map, parent, ANY, 0, 3, usize::MAX, null()), 0);
    let user = RTR0MemObjAddressR3(map);
    assert!(machine.user_protection(user).is_some());
    assert!(RTR0MemUserIsValidAddr(user) && !RTR0MemKernelIsValidAddr(user as *mut c_void));
    assert_eq!(RTR0MemObjFree(parent, true), 0);
    assert!(machine.user_protection(user).is_none());
    assert!(RTR0MemAreKrnlAndUsrDifferent());
}

#[test]
fn user_memory_is_locked_from_page_to_page() {
    let machine = Machine::new();
    let memory = machine.user_memory(2);
    let mut object = 0;
    let mut lock = |address, bytes, access| {
        RTR0MemObjLockUserTag(&raw mut object, address, bytes, access, usize::MAX, null())
    };
    assert_eq!(
        (lock(memory.address(), 0, 3), lock(memory.address(), PAGE, 0), lock(memory.address(), PAGE, 4)),
        (-2, -2, -2)
    );
    assert_eq!(lock(memory.address() + 0x800, PAGE, 3), 0);
    assert_eq!((RTR0MemObjSize(object), RTR0MemObjAddressR3(object)), (2 * PAGE, memory.address()));
    assert_eq!(RTR0MemObjFree(object, false), 0);
    assert_eq!(RTR0MemObjLockUserTag(&raw mut object, 0x5000, PAGE, 3, usize::MAX, null()), -5);
}

#[test]
fn copies_do_not_fault() {
    let machine = Machine::new();
    let memory = machine.user_bytes(b"user data");
    let mut buffer = [0u8; 9];
    let to = buffer.as_mut_ptr().cast::<c_void>();
    assert_eq!((RTR0MemUserCopyFrom(to, memory.address(), 9), &buffer), (0, b"user data"));
    assert_eq!(RTR0MemUserCopyTo(memory.address(), b"USER".as_ptr().cast(), 4), 0);
    assert_eq!((RTR0MemUserCopyFrom(to, memory.address(), 9), &buffer), (0, b"USER data"));
    assert_eq!((RTR0MemUserCopyFrom(to, 0x5000, 9), RTR0MemUserCopyFrom(to, 0x5000, 0)), (-38, 0));
    let source = *b"kernel   ";
    assert_eq!((RTR0MemKernelCopyFrom(to, source.as_ptr() as usize, 9), &buffer), (0, b"kernel   "));
    assert_eq!(RTR0MemKernelCopyTo(to as usize, b"K".as_ptr().cast(), 1), 0);
    assert_eq!(&buffer, b"Kernel   ");
    assert_eq!((RTR0MemKernelCopyFrom(to, 0x10, 4), RTR0MemKernelCopyTo(0x10, to, 4)), (-38, -38));
}

#[test]
fn an_object_that_cannot_be_freed_stays() {
    let machine = Machine::new();
    let parent = pages(1);
    let mut map = 0;
    RTR0MemObjMapKernelTag(&raw mut map, parent, ANY, 0, 3, null());
    machine.fail_next(Call::MemFree, VERR_MAP_FAILED);
    assert_eq!(RTR0MemObjFree(parent, true), VERR_MAP_FAILED.0);
    assert_eq!((RTR0MemObjSize(map), RTR0MemObjSize(parent)), (PAGE, PAGE));
    machine.fail_next(Call::MemFree, VERR_NO_MEMORY);
    RTR0MemObjFree(map, false);
    assert_eq!(RTR0MemObjFree(parent, true), 0);
}

#[test]
fn failures_leave_nothing_behind() {
    replay(|_| {
        let (mut parent, mut kernel, mut user) = (0, 0, 0);
        let (mut block, mut scattered, mut entered) = (0, 0, 0);
        let physical = ok(RTR0MemObjAllocPhysTag(&raw mut block, PAGE, u64::MAX, null()))
            .and_then(|()| ok(RTR0MemObjAllocPhysNCTag(&raw mut scattered, PAGE, u64::MAX, null())))
            .and_then(|()| ok(RTR0MemObjEnterPhysTag(&raw mut entered, 0xfee0_0000, PAGE, 1, null())));
        for object in [block, scattered, entered] {
            if RTR0MemObjFree(object, true) != 0 {
                assert_eq!(RTR0MemObjFree(object, true), 0);
            }
        }
        physical?;
        let result = ok(RTR0MemObjAllocPageTag(&raw mut parent, PAGE, false, null()))
            .and_then(|()| ok(RTR0MemObjMapKernelTag(&raw mut kernel, parent, ANY, 0, 3, null())))
            .and_then(|()| ok(RTR0MemObjMapUserTag(&raw mut user, parent, ANY, 0, 3, usize::MAX, null())));
        // Freeing may fail as well: once.
        let freed = RTR0MemObjFree(parent, true);
        if freed != 0 {
            assert_eq!(RTR0MemObjFree(parent, true), 0);
        }
        result.and(ok(freed))
    });
}
