//! Memory of sessions: locked, contiguous, low, module and page memory; what is mapped where, and who may free it.

use supdrv_core::abi::status::*;
use supdrv_core::memory::{MemKind, PageMappings, PhysAddr};
use supdrv_core::mock::client::Pages;
use supdrv_core::mock::packet::zeroed;
use supdrv_core::mock::{Call, Client, Host, Kind, MockOs, Process, Request, replay};
use supdrv_core::os::{MemProt, PAGE_SIZE, SessionKind};

use supdrv_core::abi::ioctl::Function;
use supdrv_core::abi::requests as r;

const ALL: MemProt = MemProt::all();
const RW: MemProt = MemProt::READ.union(MemProt::WRITE);

/// Writes through one address and reads through the other, in every page; what was there before was zero.
fn assert_same_zeroed_pages(r3: usize, r0: usize, pages: usize) {
    for page in 0..pages {
        let (user, kernel) = ((r3 + page * PAGE_SIZE) as *mut u64, (r0 + page * PAGE_SIZE) as *mut u64);
        // SAFETY: both are mapped, page by page.
        unsafe {
            assert!((0..512).all(|word| kernel.add(word).read() == 0), "page {page} is not zero");
            user.write(0x1122_3344 + page as u64);
            assert_eq!(kernel.read(), 0x1122_3344 + page as u64);
            kernel.add(511).write(!(page as u64));
            assert_eq!(user.add(511).read(), !(page as u64));
        }
    }
}

/// The physical addresses lead to the same bytes.
fn assert_physical(os: &MockOs, r3: usize, phys: &[u64]) {
    for (page, phys) in phys.iter().enumerate() {
        // SAFETY: the pages are mapped.
        unsafe { ((r3 + page * PAGE_SIZE) as *mut u64).write(0xabcd_0000 + page as u64) };
        let mut bytes = [0; 8];
        os.read_physical(*phys, &mut bytes);
        assert_eq!(u64::from_ne_bytes(bytes), 0xabcd_0000 + page as u64);
    }
}

// Contiguous memory

#[test]
fn contiguous_memory_is_contiguous_low_and_zeroed() {
    let host = Host::new();
    let client = host.open();
    for pages in [1, 2, 255] {
        let memory = client.cont_alloc(pages).unwrap();
        let first = memory.phys[0];
        assert!(first.is_multiple_of(4096) && first + u64::from(pages) * 4096 <= 1 << 32);
        assert_same_zeroed_pages(memory.r3, memory.r0, pages as usize);
        let all: Vec<u64> = (0..u64::from(pages)).map(|page| first + page * 4096).collect();
        assert_physical(host.os(), memory.r3, &all);
        assert_eq!(host.os().user_protection(memory.r3), Some(ALL));
        client.cont_free(memory.r3).unwrap();
    }
}

#[test]
fn contiguous_and_low_memory_have_1_to_255_pages() {
    let host = Host::new();
    let client = host.open();
    for pages in [0, 256, 257, 65536, u32::MAX] {
        let request = Request::new(Function::ContAlloc)
            .input(&r::ContAllocIn { pages, ..zeroed() })
            .output::<r::ContAllocOut>();
        let reply = client.send(&request);
        assert_eq!((reply.call, reply.rc()), (Ok(()), VERR_PAGE_COUNT_OUT_OF_RANGE), "{pages}");
        assert_eq!(reply.out_bytes(), 24);
    }
    for pages in [0, 256, 300] {
        let request = Request::new(Function::LowAlloc)
            .input(&r::LowAllocIn { pages, ..zeroed() })
            .output_with::<r::LowAllocOut, u64>(pages as usize);
        let reply = client.send(&request);
        assert_eq!((reply.call, reply.rc()), (Ok(()), VERR_PAGE_COUNT_OUT_OF_RANGE), "{pages}");
        assert_eq!(reply.out_bytes(), 24);
    }
    assert_eq!(host.counters().memory_refs, 0);
}

#[test]
fn page_counts_that_wrap_are_bad_packets() {
    let host = Host::new();
    let client = host.open();
    let low = |pages, out| {
        client
            .send(
                &Request::new(Function::LowAlloc).input(&r::LowAllocIn { pages, ..zeroed() }).out_bytes(out),
            )
            .call
    };
    assert_eq!(low(0x2000_0000, 0x28), Err(VERR_INVALID_PARAMETER));
    assert_eq!(low(0x2000_0001, 0x30), Err(VERR_INVALID_PARAMETER));
    let lock = |pages, out| {
        let input = r::PageLockIn { r3: 0x10000, pages, ..zeroed() };
        client.send(&Request::new(Function::PageLock).input(&input).out_bytes(out)).call
    };
    assert_eq!(lock(0x2000_0001, 0x20), Err(VERR_INVALID_PARAMETER));
    let alloc = |pages, out| {
        let input = r::PageAllocExIn { pages, user_mapping: 1, ..zeroed() };
        client.send(&Request::new(Function::PageAllocEx).input(&input).out_bytes(out)).call
    };
    assert_eq!(alloc(0x2000_0001, 0x30), Err(VERR_INVALID_PARAMETER));
}

// Low memory

#[test]
fn low_memory_lies_below_4_gib_page_by_page() {
    let host = Host::new();
    let client = host.open();
    for pages in [1, 3, 255] {
        let memory = client.low_alloc(pages).unwrap();
        assert_eq!(memory.phys.len(), pages as usize);
        assert!(memory.phys.iter().all(|phys| phys.is_multiple_of(4096) && *phys <= 0xffff_f000));
        assert_same_zeroed_pages(memory.r3, memory.r0, pages as usize);
        assert_physical(host.os(), memory.r3, &memory.phys);
        client.low_free(memory.r3).unwrap();
    }
}

// Module memory: no request, but a service for modules

#[test]
fn module_memory_has_up_to_4_mib_and_tells_its_addresses() {
    let host = Host::new();
    let client = host.open();
    let session = client.session();
    assert_eq!(session.mem_alloc(0), Err(VERR_INVALID_PARAMETER));
    assert_eq!(session.mem_alloc(0x40_0000), Err(VERR_INVALID_PARAMETER));
    assert_eq!(session.mem_alloc(usize::MAX), Err(VERR_INVALID_PARAMETER));
    let at = session.mem_alloc(0x3f_ffff).unwrap();
    let physical = |address| {
        let mut all = Vec::new();
        session.mem_get_phys(address, |index, phys| all.push((index, phys))).map(|()| all)
    };
    let all = physical(at.user).unwrap();
    assert_eq!(all.len(), 1024);
    assert_eq!(physical(at.kernel), Ok(all.clone()));
    assert!(all.iter().enumerate().all(|(number, (index, _))| number == *index));
    let phys: Vec<u64> = all.into_iter().map(|(_, phys)| phys).collect();
    assert_physical(host.os(), at.user, &phys);
    assert_eq!(physical(0), Err(VERR_INVALID_PARAMETER));
    assert_eq!(physical(at.user + PAGE_SIZE), Err(VERR_INVALID_PARAMETER));
    let pages = client.page_alloc(1, true).unwrap();
    assert_eq!(physical(pages.r3), Err(VERR_INVALID_PARAMETER), "page memory isn't module memory");
    session.mem_free(MemKind::Mem, at.kernel).unwrap();
}

#[test]
fn small_module_memory_is_rounded_up_to_pages() {
    let host = Host::new();
    let client = host.open();
    for (bytes, pages) in [(1, 1), (4096, 1), (4097, 2)] {
        let at = client.session().mem_alloc(bytes).unwrap();
        let mut seen = 0;
        client.session().mem_get_phys(at.user, |_, _| seen += 1).unwrap();
        assert_eq!(seen, pages);
        assert_same_zeroed_pages(at.user, at.kernel, pages);
    }
}

// Page memory

#[test]
fn page_memory_comes_with_or_without_a_kernel_mapping() {
    let host = Host::new();
    let client = host.open();
    let both = client.page_alloc(5, true).unwrap();
    assert_same_zeroed_pages(both.r3, both.r0, 5);
    assert_physical(host.os(), both.r3, &both.phys);
    let user = client.page_alloc(5, false).unwrap();
    assert_eq!(user.r0, 0);
    assert_physical(host.os(), user.r3, &user.phys);
    for r3 in [both.r3, user.r3] {
        assert!(r3.is_multiple_of(PAGE_SIZE));
        assert_eq!(host.os().user_protection(r3), Some(ALL));
        client.page_free(r3).unwrap();
    }
}

#[test]
fn any_byte_but_zero_asks_for_a_mapping() {
    let host = Host::new();
    let client = host.open();
    let alloc = |kernel_mapping, user_mapping, reserved0, reserved1| {
        let input =
            r::PageAllocExIn { pages: 1, kernel_mapping, user_mapping, reserved0, reserved1, ..zeroed() };
        client
            .send(&Request::new(Function::PageAllocEx).input(&input).output_with::<r::PageAllocExOut, u64>(1))
    };
    for (kernel, user) in [(2, 2), (0x80, 0xff), (1, 0x10)] {
        let reply = alloc(kernel, user, 0, 0);
        assert_eq!((reply.call, reply.rc()), (Ok(()), VINF_SUCCESS));
        assert_ne!({ reply.output::<r::PageAllocExOut>().r0 }, 0);
    }
    for bad in [alloc(0, 0, 0, 0), alloc(1, 0, 0, 0), alloc(1, 1, 1, 0), alloc(1, 1, 0, 0x80)] {
        assert_eq!(bad.call, Err(VERR_INVALID_PARAMETER));
    }
}

#[test]
fn page_memory_has_1_to_65536_pages() {
    let host = Host::new();
    let client = host.open();
    for pages in [0, 65537] {
        let input = r::PageAllocExIn { pages, kernel_mapping: 1, user_mapping: 1, ..zeroed() };
        let request = Request::new(Function::PageAllocEx)
            .input(&input)
            .output_with::<r::PageAllocExOut, u64>(pages as usize);
        let reply = client.send(&request);
        assert_eq!((reply.rc(), reply.out_bytes()), (VERR_PAGE_COUNT_OUT_OF_RANGE, 24), "{pages}");
    }
    let most = client.page_alloc(65536, false).unwrap();
    assert_eq!(most.phys.len(), 65536);
    client.page_free(most.r3).unwrap();
    assert_eq!(host.os().frames_in_use(), 1, "all but the GIP is free again");
}

#[test]
fn clients_learn_when_pages_need_a_kernel_mapping() {
    let host = Host::new();
    host.os().set_unmapped_pages(false);
    let client = host.open();
    let input = r::PageAllocExIn { pages: 2, user_mapping: 1, ..zeroed() };
    let reply = client
        .send(&Request::new(Function::PageAllocEx).input(&input).output_with::<r::PageAllocExOut, u64>(2));
    assert_eq!((reply.rc(), reply.out_bytes()), (VERR_NOT_SUPPORTED, 24));
    assert_eq!(host.counters().memory_refs, 0);
    assert!(client.page_alloc(2, true).is_ok());
}

#[test]
fn kernel_only_pages_know_their_physical_addresses() {
    let host = Host::new();
    let client = host.open();
    let mut phys = [PhysAddr::new(u64::MAX); 3];
    let at = client.session().page_alloc(3, PageMappings::Kernel, &mut phys).unwrap();
    assert_eq!(at.user, 0);
    let phys: Vec<u64> = phys.iter().map(|phys| phys.get()).collect();
    assert!(phys.iter().all(|phys| phys.is_multiple_of(4096) && *phys != u64::MAX));
    assert_physical(host.os(), at.kernel, &phys);
    client.session().mem_free(MemKind::Page, at.kernel).unwrap();
}

// Freeing

/// One allocation of a kind, by its kind.
fn allocate(client: &Client<'_>, kind: MemKind) -> Pages {
    match kind {
        MemKind::Contiguous => client.cont_alloc(2).unwrap(),
        MemKind::Low => client.low_alloc(2).unwrap(),
        MemKind::Page => client.page_alloc(2, true).unwrap(),
        MemKind::Mem => {
            let at = client.session().mem_alloc(0x2000).unwrap();
            Pages { r3: at.user, r0: at.kernel, phys: vec![] }
        }
        MemKind::Locked => unreachable!("locked memory isn't allocated"),
    }
}

const ALLOCATED: [MemKind; 4] = [MemKind::Contiguous, MemKind::Low, MemKind::Mem, MemKind::Page];
const KINDS: [MemKind; 5] = [MemKind::Locked, MemKind::Contiguous, MemKind::Low, MemKind::Mem, MemKind::Page];

#[test]
fn memory_is_freed_once_by_either_address_and_by_its_own_kind() {
    let host = Host::new();
    let client = host.open();
    let free = |kind, address| client.session().mem_free(kind, address);
    for kind in ALLOCATED {
        for by_kernel_address in [false, true] {
            let memory = allocate(&client, kind);
            let at = if by_kernel_address { memory.r0 } else { memory.r3 };
            for other in KINDS.into_iter().filter(|other| *other != kind) {
                assert_eq!(free(other, at), Err(VERR_INVALID_PARAMETER), "{kind:?} freed as {other:?}");
            }
            assert_eq!(free(kind, at + PAGE_SIZE), Err(VERR_INVALID_PARAMETER), "not its start");
            assert_eq!(free(kind, 0), Err(VERR_INVALID_PARAMETER));
            assert_eq!(free(kind, at), Ok(()));
            assert_eq!(free(kind, at), Err(VERR_INVALID_PARAMETER), "twice");
            assert_eq!(host.counters().memory_refs, 0);
        }
    }
    assert_eq!((host.os().live(Kind::Memory), host.os().live(Kind::Mapping)), (1, 0), "only the GIP is left");
}

#[test]
fn requests_free_their_own_kind_only() {
    let host = Host::new();
    let client = host.open();
    let low = client.low_alloc(1).unwrap();
    let cont = client.cont_alloc(1).unwrap();
    let page = client.page_alloc(1, true).unwrap();
    assert_eq!(client.cont_free(low.r3), Err(VERR_INVALID_PARAMETER));
    assert_eq!(client.low_free(cont.r3), Err(VERR_INVALID_PARAMETER));
    assert_eq!(client.page_free(cont.r3), Err(VERR_INVALID_PARAMETER));
    assert_eq!(client.page_unlock(page.r3), Err(VERR_INVALID_PARAMETER));
    assert_eq!(client.cont_free(cont.r0), Ok(()));
    assert_eq!(client.page_free(page.r0), Ok(()));
    assert_eq!(client.low_free(low.r3), Ok(()));
    for free in [Client::page_free, Client::page_unlock, Client::low_free, Client::cont_free] {
        assert_eq!(free(&client, 0), Err(VERR_INVALID_PARAMETER));
        assert_eq!(free(&client, usize::MAX), Err(VERR_INVALID_PARAMETER));
    }
}

#[test]
fn another_session_does_not_know_the_memory() {
    let host = Host::new();
    let (one, other) = (host.open(), host.open());
    let memory = one.page_alloc(1, true).unwrap();
    assert_eq!(other.page_free(memory.r3), Err(VERR_INVALID_PARAMETER));
    assert_eq!(other.page_map_kernel(memory.r3, 0, 0x1000), Err(VERR_INVALID_PARAMETER));
    assert_eq!(other.page_protect(memory.r3, 0, 0, 0x1000, 1), Err(VERR_INVALID_PARAMETER));
    assert_eq!(one.page_free(memory.r3), Ok(()));
}

#[test]
fn tracking_does_not_grow_with_what_is_gone() {
    let host = Host::new();
    let client = host.open();
    client.page_alloc(1, true).and_then(|memory| client.page_free(memory.r3)).unwrap();
    let before = host.os().live_all();
    for _ in 0..200 {
        let memory = client.page_alloc(1, true).unwrap();
        client.page_free(memory.r3).unwrap();
    }
    assert_eq!(host.os().live_all(), before);
}

#[test]
fn many_allocations_are_freed_in_any_order() {
    let host = Host::new();
    let client = host.open();
    let mut memory: Vec<Pages> = (0..65).map(|_| client.page_alloc(1, true).unwrap()).collect();
    assert_eq!(host.counters().memory_refs, 65);
    let mut random = 12345usize;
    while !memory.is_empty() {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let chosen = memory.swap_remove((random >> 33) % memory.len());
        let at = if random & (1 << 40) == 0 { chosen.r3 } else { chosen.r0 };
        client.page_free(at).unwrap();
    }
    assert_eq!(host.counters().memory_refs, 0);
}

// Locking

#[test]
fn locked_memory_is_the_process_own() {
    let host = Host::new();
    let client = host.open();
    let mut memory = host.os().user_memory(3);
    let phys = client.page_lock(memory.address(), 3).unwrap();
    assert_eq!(phys, memory.physical());
    let kernel = client.page_map_kernel(memory.address(), 0, 0x3000).unwrap();
    memory[0x2fff] = 77;
    // SAFETY: a mapping of three pages.
    unsafe {
        assert_eq!(*((kernel + 0x2fff) as *const u8), 77);
        *(kernel as *mut u8) = 33;
    }
    assert_eq!(memory[0], 33);
    client.page_unlock(memory.address()).unwrap();
    assert_eq!(client.page_unlock(memory.address()), Err(VERR_INVALID_PARAMETER));
}

#[test]
fn a_range_can_be_locked_more_than_once() {
    let host = Host::new();
    let client = host.open();
    let memory = host.os().user_memory(2);
    client.page_lock(memory.address(), 2).unwrap();
    client.page_lock(memory.address(), 1).unwrap();
    client.page_unlock(memory.address()).unwrap();
    client.page_unlock(memory.address()).unwrap();
    assert_eq!(client.page_unlock(memory.address()), Err(VERR_INVALID_PARAMETER));
}

#[test]
fn what_cannot_be_locked_is_refused() {
    let host = Host::new();
    let client = host.open();
    let memory = host.os().user_memory(4);
    let at = memory.address();
    let reply = |r3, pages: u32| {
        let input = r::PageLockIn { r3, pages, ..zeroed() };
        client.send(
            &Request::new(Function::PageLock)
                .input(&input)
                .output_with::<r::PageLockOut, u64>(pages as usize),
        )
    };
    for (r3, pages) in [(at, 0), (0, 1), (0xfff, 1)] {
        assert_eq!(reply(r3, pages).call, Err(VERR_INVALID_PARAMETER), "{r3:#x} {pages}");
    }
    let failed = |r3, pages, status| {
        let reply = reply(r3, pages);
        assert_eq!((reply.call, reply.rc(), reply.out_bytes()), (Ok(()), status, 24), "{r3:#x} {pages}");
    };
    failed(at + 1, 1, VERR_INVALID_PARAMETER);
    failed(at + 0x800, 1, VERR_INVALID_PARAMETER);
    failed(usize::MAX & !0xfff, 2, VERR_INVALID_PARAMETER);
    failed(at, 5, VERR_LOCK_FAILED);
    failed(0x1000, 1, VERR_LOCK_FAILED);
    memory.protect(1, 1, MemProt::READ);
    failed(at, 2, VERR_LOCK_FAILED);
    memory.protect(1, 1, RW);
    memory.set_faults(3, true);
    failed(at, 4, VERR_LOCK_FAILED);
    memory.set_faults(3, false);
    assert_eq!(host.counters().memory_refs, 0);
    assert_eq!(reply(at, 4).rc(), VINF_SUCCESS);
    assert_eq!(client.session().mem_lock(at, &mut []), Err(VERR_INVALID_PARAMETER), "no pages");
}

#[test]
fn locked_pages_outlive_their_mapping() {
    let host = Host::new();
    let client = host.open();
    let memory = host.os().user_memory(1);
    let at = memory.address();
    let phys = client.page_lock(at, 1).unwrap();
    let kernel = client.page_map_kernel(at, 0, 0x1000).unwrap();
    let in_use = host.os().frames_in_use();
    drop(memory);
    assert_eq!(host.os().frames_in_use(), in_use, "the page is still pinned");
    // SAFETY: the kernel mapping is there until the memory is unlocked.
    unsafe { *(kernel as *mut u64) = 0x4242 };
    let mut bytes = [0; 8];
    host.os().read_physical(phys[0], &mut bytes);
    assert_eq!(u64::from_ne_bytes(bytes), 0x4242);
    client.page_unlock(at).unwrap();
    assert_eq!(host.os().frames_in_use(), in_use - 1);
}

// Kernel mappings

#[test]
fn parts_of_memory_are_mapped_into_the_kernel() {
    let host = Host::new();
    let client = host.open();
    let memory = client.page_alloc(4, false).unwrap();
    let part = client.page_map_kernel(memory.r3, 0x1000, 0x2000).unwrap();
    assert_same_zeroed_pages(memory.r3 + 0x1000, part, 2);
    let again = client.page_map_kernel(memory.r3, 0x1000, 0x1000).unwrap();
    assert_ne!(again, part, "each mapping is a new one");
    assert_eq!(host.os().live(Kind::Mapping), 3);
    assert_eq!(host.counters().memory_refs, 1, "mappings aren't memory");
    client.page_free(memory.r3).unwrap();
    assert_eq!(host.os().live(Kind::Mapping), 0, "they go with the memory");
}

#[test]
fn only_parts_that_exist_are_mapped() {
    let host = Host::new();
    let client = host.open();
    let memory = client.page_alloc(4, true).unwrap();
    let cont = client.cont_alloc(4).unwrap();
    let map = |r3, offset_bytes, size_bytes, flags| {
        let input = r::PageMapKernelIn { r3, offset_bytes, size_bytes, flags, ..zeroed() };
        client.send(&Request::new(Function::PageMapKernel).input(&input).output::<r::PageMapKernelOut>())
    };
    for (offset, size, flags) in
        [(0, 0, 0), (0x800, 0x1000, 0), (0, 0x1001, 0), (1, 0x1000, 0), (0, 0x1000, 1), (0, 0x1000, 1 << 31)]
    {
        assert_eq!(map(memory.r3, offset, size, flags).call, Err(VERR_INVALID_PARAMETER));
    }
    for (at, offset, size) in [
        (memory.r3 + 0x1000, 0, 0x1000),
        (memory.r0, 0, 0x1000),
        (cont.r3, 0, 0x1000),
        (0, 0, 0x1000),
        (memory.r3, 0x4000, 0x1000),
        (memory.r3, 0, 0x5000),
        (memory.r3, 0x3000, 0x2000),
        (memory.r3, 0xffff_f000, 0x2000),
        (memory.r3, 0x1000, 0xffff_f000),
    ] {
        let reply = map(at, offset, size, 0);
        assert_eq!(
            (reply.call, reply.rc(), reply.out_bytes()),
            (Ok(()), VERR_INVALID_PARAMETER, 24),
            "{at:#x} {offset:#x} {size:#x}"
        );
    }
    assert_eq!(host.os().live(Kind::Mapping), 2);
}

#[test]
fn systems_may_be_unable_to_map_locked_memory() {
    let host = Host::new();
    host.os().set_maps_locked(false);
    let client = host.open();
    let memory = host.os().user_memory(1);
    client.page_lock(memory.address(), 1).unwrap();
    assert_eq!(client.page_map_kernel(memory.address(), 0, 0x1000), Err(VERR_NOT_SUPPORTED));
}

// Protection

#[test]
fn protection_changes_where_it_is_asked_for() {
    let host = Host::new();
    let client = host.open();
    let memory = client.page_alloc(3, true).unwrap();
    let os = host.os();
    client.page_protect(memory.r3, 0, 0x1000, 0x1000, 1).unwrap();
    assert_eq!(os.user_protection(memory.r3), Some(ALL));
    assert_eq!(os.user_protection(memory.r3 + 0x1000), Some(MemProt::READ));
    assert_eq!(os.user_protection(memory.r3 + 0x2000), Some(ALL));
    client.page_protect(memory.r3, memory.r0, 0, 0x3000, 0).unwrap();
    assert_eq!(os.user_protection(memory.r3), Some(MemProt::empty()), "none is a protection too");
    client.page_protect(0, memory.r0, 0, 0x3000, 3).unwrap();
    assert_eq!(os.user_protection(memory.r3), Some(MemProt::empty()));
    // SAFETY: the kernel mapping is writable again.
    unsafe { *(memory.r0 as *mut u8) = 1 };
}

#[test]
fn only_protection_of_own_pages_changes() {
    let host = Host::new();
    let client = host.open();
    let memory = client.page_alloc(2, true).unwrap();
    let other = client.page_alloc(2, true).unwrap();
    let user_only = client.page_alloc(2, false).unwrap();
    let low = client.low_alloc(2).unwrap();
    let protect = |r3, r0, offset_bytes, size_bytes, prot| {
        let input = r::PageProtectIn { r3, r0, offset_bytes, size_bytes, prot, ..zeroed() };
        client.send(&Request::new(Function::PageProtect).input(&input).output::<r::PageProtectIn>())
    };
    for (offset, size, prot) in
        [(0, 0x1000, 8), (0, 0x1000, 1 << 31), (1, 0x1000, 1), (0, 0, 1), (0, 0x800, 1)]
    {
        assert_eq!(protect(memory.r3, 0, offset, size, prot).call, Err(VERR_INVALID_PARAMETER));
    }
    for (r3, r0, offset, size) in [
        (0, 0, 0, 0x1000),
        (memory.r3, other.r0, 0, 0x1000),
        (other.r3, memory.r0, 0, 0x1000),
        (memory.r3 + 0x1000, 0, 0, 0x1000),
        (low.r3, 0, 0, 0x1000),
        (0, low.r0, 0, 0x1000),
        (user_only.r3, memory.r0, 0, 0x1000),
        (memory.r3, 0, 0x2000, 0x1000),
        (memory.r3, 0, 0, 0x3000),
        (memory.r3, 0, 0xffff_f000, 0x2000),
    ] {
        let reply = protect(r3, r0, offset, size, 1);
        assert_eq!((reply.call, reply.rc()), (Ok(()), VERR_INVALID_PARAMETER), "{r3:#x} {r0:#x}");
        assert_eq!(reply.out_bytes(), 0x38, "the output isn't cut");
    }
    assert_eq!(host.os().user_protection(memory.r3), Some(ALL));
}

#[test]
fn the_kernel_mapping_is_left_alone_when_the_user_mapping_cannot_change() {
    let host = Host::new();
    let client = host.open();
    let memory = client.page_alloc(1, true).unwrap();
    host.os().fail_next(Call::MemProtect, VERR_NOT_SUPPORTED);
    host.os().start_trace();
    assert_eq!(client.page_protect(memory.r3, memory.r0, 0, 0x1000, 1), Err(VERR_NOT_SUPPORTED));
    let calls = host.os().take_trace().into_iter().filter(|call| *call == Call::MemProtect).count();
    assert_eq!(calls, 1);
}

// Processes

#[test]
fn another_process_may_do_nothing_with_memory() {
    let host = Host::new();
    let client = host.open();
    let memory = client.page_alloc(1, true).unwrap();
    let cont = client.cont_alloc(1).unwrap();
    let low = client.low_alloc(1).unwrap();
    let at = client.session().mem_alloc(1).unwrap();
    let locked = host.os().user_memory(1);
    client.page_lock(locked.address(), 1).unwrap();
    let before = (host.counters(), host.os().live_all());
    host.os().run_as(host.os().new_process(1000, 1000), || {
        let session = client.session();
        let denied = Err(VERR_ACCESS_DENIED);
        assert_eq!(client.page_alloc(1, true).map(|_| ()), denied);
        assert_eq!(client.page_alloc(1, false).map(|_| ()), denied);
        assert_eq!(client.cont_alloc(1).map(|_| ()), denied);
        assert_eq!(client.low_alloc(1).map(|_| ()), denied);
        assert_eq!(session.mem_alloc(1).map(|_| ()), denied);
        assert_eq!(session.mem_get_phys(at.user, |_, _| ()), denied);
        assert_eq!(client.page_lock(locked.address(), 1).map(|_| ()), denied);
        assert_eq!(client.page_map_kernel(memory.r3, 0, 0x1000).map(|_| ()), denied);
        assert_eq!(client.page_protect(memory.r3, 0, 0, 0x1000, 1), denied);
        assert_eq!(client.page_free(memory.r3), denied);
        assert_eq!(client.page_unlock(locked.address()), denied);
        assert_eq!(client.cont_free(cont.r3), denied);
        assert_eq!(client.low_free(low.r3), denied);
        assert_eq!(session.mem_free(MemKind::Mem, at.user), denied);
        assert_eq!(client.gip_map(), Err(VERR_ACCESS_DENIED));
    });
    assert_eq!((host.counters(), host.os().live_all()), before);
}

#[test]
fn memory_is_gone_after_a_close_from_elsewhere() {
    let host = Host::new();
    let os = host.os();
    let client = host.open();
    fill(&client);
    os.run_as(os.new_process(0, 0), || client.close());
    assert_eq!(os.user_mappings(Process::FIRST), 0);
    assert_eq!((os.live(Kind::Memory), os.live(Kind::Mapping)), (1, 0));
}

#[test]
fn a_process_may_die_before_its_session() {
    let host = Host::new();
    let os = host.os();
    let process = os.new_process(1, 1);
    let client = os.run_as(process, || {
        let client = host.open();
        fill(&client);
        client
    });
    os.process_exits(process);
    client.close();
    assert_eq!((os.live(Kind::Memory), os.live(Kind::Mapping), os.frames_in_use()), (1, 0, 1));
}

#[test]
fn kernel_sessions_use_memory_of_whoever_calls() {
    let host = Host::new();
    let client = host.open_as(SessionKind::Kernel).unwrap();
    let memory = client.page_alloc(1, true).unwrap();
    host.os().run_as(host.os().new_process(0, 0), || {
        let other = client.page_alloc(1, true).unwrap();
        assert_same_zeroed_pages(other.r3, other.r0, 1);
        client.page_free(other.r3).unwrap();
    });
    client.page_free(memory.r3).unwrap();
}

// Closing

/// One allocation of each kind, with two kernel mappings; nothing is freed.
fn fill(client: &Client<'_>) {
    client.cont_alloc(1).unwrap();
    client.low_alloc(1).unwrap();
    client.session().mem_alloc(1).unwrap();
    let pages = client.page_alloc(3, false).unwrap();
    client.page_map_kernel(pages.r3, 0, 0x1000).unwrap();
    client.page_map_kernel(pages.r3, 0x1000, 0x2000).unwrap();
    let memory = client.host().os().user_memory(2);
    client.page_lock(memory.address(), 2).unwrap();
    client.page_map_kernel(memory.address(), 0, 0x1000).unwrap();
}

#[test]
fn closing_frees_everything() {
    let host = Host::new();
    let client = host.open();
    fill(&client);
    assert_eq!(host.counters().memory_refs, 5);
    client.close();
    assert_eq!(host.counters().memory_refs, 0);
    assert_eq!((host.os().live(Kind::Memory), host.os().live(Kind::Mapping)), (1, 0));
}

#[test]
fn pages_that_cannot_be_unmapped_are_never_used_again() {
    for close in [false, true] {
        let host = Host::new();
        let os = host.os();
        let client = host.open();
        let memory = client.page_alloc(1, true).unwrap();
        let in_use = os.frames_in_use();
        os.fail_next(Call::MemFree, VERR_GENERAL_FAILURE);
        if close {
            client.close();
        } else {
            client.page_free(memory.r3).unwrap();
            assert_eq!(client.page_free(memory.r3), Err(VERR_INVALID_PARAMETER), "the slot is empty");
        }
        assert_eq!(os.user_protection(memory.r3), Some(ALL), "the process still reaches it");
        assert_eq!(os.frames_in_use(), in_use, "the page isn't free");
        assert!(os.log().iter().any(|line| line.contains("leaked")), "{:?}", os.log());
        os.forgive(Kind::Memory, 1);
        os.forgive(Kind::Mapping, 1);
    }
}

// Failures

#[test]
fn every_service_survives_every_failure() {
    let replayed = replay(|os| {
        let host = Host::on(os)?;
        let client = host.open_as(SessionKind::User)?;
        let memory = os.user_memory(2);
        let cont = host.step(|| client.cont_alloc(2));
        let low = host.step(|| client.low_alloc(2));
        let at = host.step(|| client.session().mem_alloc(0x2000));
        let pages = host.step(|| client.page_alloc(2, true));
        let user = host.step(|| client.page_alloc(2, false));
        host.step(|| client.page_lock(memory.address(), 2));
        host.step(|| client.page_map_kernel(pages.r3, 0x1000, 0x1000));
        host.step(|| client.page_map_kernel(memory.address(), 0, 0x2000));
        host.step(|| client.page_protect(pages.r3, pages.r0, 0, 0x2000, 3));
        host.step(|| client.session().mem_get_phys(at.user, |_, _| ()));
        assert_eq!(host.counters().memory_refs, 6);
        client.page_free(user.r3)?;
        client.cont_free(cont.r3)?;
        client.low_free(low.r0)?;
        Ok(())
    });
    assert!(replayed.calls > 30, "{replayed:?}");
}

#[test]
fn failures_of_the_system_reach_the_client_unchanged() {
    let host = Host::new();
    let client = host.open();
    let memory = host.os().user_memory(1);
    type Service<'a> = &'a dyn Fn() -> Result<()>;
    let services: [(Call, Service<'_>); 7] = [
        (Call::MemAlloc, &|| client.cont_alloc(1).map(drop)),
        (Call::MemMapUser, &|| client.cont_alloc(1).map(drop)),
        (Call::MemAlloc, &|| client.low_alloc(1).map(drop)),
        (Call::MemMapUser, &|| client.low_alloc(1).map(drop)),
        (Call::MemAlloc, &|| client.page_alloc(1, true).map(drop)),
        (Call::MemMapUser, &|| client.page_alloc(1, false).map(drop)),
        (Call::MemLockUser, &|| client.page_lock(memory.address(), 1).map(drop)),
    ];
    for (call, service) in services {
        for status in [VERR_NO_CONT_MEMORY, VERR_NO_LOW_MEMORY, VERR_NO_PAGE_MEMORY, VERR_OUT_OF_RANGE] {
            let before = host.os().live_all();
            host.os().fail_next(call, status);
            assert_eq!(service(), Err(status), "{call:?}");
            assert_eq!(host.os().live_all(), before, "{call:?}");
        }
    }
    assert_eq!(host.counters().memory_refs, 0);
}

#[test]
fn a_failed_allocation_sends_only_the_header_back() {
    let host = Host::new();
    let client = host.open();
    let input = r::PageAllocExIn { pages: 4, kernel_mapping: 1, user_mapping: 1, ..zeroed() };
    let request = Request::new(Function::PageAllocEx).input(&input).output_with::<r::PageAllocExOut, u64>(4);
    host.os().fail_next(Call::MemMapUser, VERR_MAP_FAILED);
    let reply = client.send(&request);
    assert_eq!((reply.call, reply.rc(), reply.out_bytes()), (Ok(()), VERR_MAP_FAILED, 24));
}

#[test]
fn physical_addresses_are_written_on_success_only() {
    let host = Host::new();
    let client = host.open();
    let mut phys = [PhysAddr::new(7); 3];
    for call in [Call::MemAlloc, Call::MemMapUser] {
        host.os().fail_next(call, VERR_NO_MEMORY);
        let result = client.session().page_alloc(3, PageMappings::UserAndKernel, &mut phys);
        assert_eq!(result, Err(VERR_NO_MEMORY));
        assert!(phys.iter().all(|phys| phys.get() == 7), "{call:?}");
    }
}

// Threads

#[test]
fn of_two_threads_that_free_the_same_memory_one_succeeds() {
    let host = Host::new();
    let client = host.open();
    for _ in 0..200 {
        let memory = client.page_alloc(1, true).unwrap();
        let mut results = std::thread::scope(|scope| {
            let threads = [0, 1].map(|_| scope.spawn(|| client.page_free(memory.r3)));
            threads.map(|thread| thread.join().unwrap())
        });
        results.sort();
        assert_eq!(results, [Ok(()), Err(VERR_INVALID_PARAMETER)]);
    }
}

#[test]
fn memory_in_use_by_one_thread_survives_being_freed_by_another() {
    let host = Host::new();
    let client = host.open();
    for _ in 0..200 {
        let memory = client.page_alloc(2, true).unwrap();
        std::thread::scope(|scope| {
            let mapper = scope.spawn(|| client.page_map_kernel(memory.r3, 0, 0x2000));
            let protector = scope.spawn(|| client.page_protect(memory.r3, memory.r0, 0, 0x2000, 3));
            client.page_free(memory.r3).unwrap();
            for result in [mapper.join().unwrap().map(drop), protector.join().unwrap()] {
                assert!(matches!(result, Ok(()) | Err(VERR_INVALID_PARAMETER)), "{result:?}");
            }
        });
        assert_eq!((host.os().live(Kind::Memory), host.os().live(Kind::Mapping)), (1, 0));
    }
}
