//! The memory services.

use std::collections::BTreeSet;
use std::sync::Barrier;

use supdrv_core::abi::Status;
use supdrv_core::abi::ioctl::Function;
use supdrv_core::abi::requests as r;
use supdrv_core::abi::status::{
    VERR_INVALID_PARAMETER, VERR_LOCK_FAILED, VERR_NOT_SUPPORTED, VERR_PAGE_COUNT_OUT_OF_RANGE, VINF_SUCCESS,
};
use zerocopy::{Immutable, IntoBytes};

use super::probe::{Kind, Probe};
use super::{Case, Check, Ctx, Need, case, ensure, fail, fails_with, joined, not_available, same, zeroed};
use crate::client::{Client, OwnedPages, Protection};
use crate::error::Error;
use crate::packet::Packet;
use crate::pages::PAGE_BYTES;

const GROUP: &str = "memory";
const BELOW_4G: u64 = 1 << 32;

pub(super) const CASES: &[Case] = &[
    case(GROUP, "pages are zero, and keep what is written", &[], pages_round_trip),
    case(GROUP, "low pages are zero, keep what is written, and are below 4 GiB", &[], low_round_trip),
    case(GROUP, "contiguous pages are zero, keep what is written, and are below 4 GiB", &[], cont_round_trip),
    case(GROUP, "the most pages of each kind can be had", &[], most_pages),
    case(GROUP, "no page is given out twice", &[], pages_are_distinct),
    case(GROUP, "ring-0 reads from pages what ring-3 writes", SHARED, ring0_reads_pages),
    case(GROUP, "ring-0 reads from low pages what ring-3 writes", SHARED, ring0_reads_low),
    case(GROUP, "ring-0 reads from contiguous pages what ring-3 writes", SHARED, ring0_reads_cont),
    case(GROUP, "ring-3 reads from pages what ring-0 writes", SHARED, ring3_reads),
    case(GROUP, "ring-0 reads from locked pages what ring-3 writes", SHARED, ring0_reads_locked),
    case(GROUP, "pages mapped into the kernel later are the same pages", SHARED, mapped_later),
    case(GROUP, "a part mapped into the kernel is that part", SHARED, mapped_in_part),
    case(GROUP, "page counts out of range are an answer with a header only", &[], counts_out_of_range),
    case(GROUP, "sizes that don't fit the page count are refused", &[], wrong_sizes),
    case(GROUP, "huge page counts don't wrap around", &[], huge_counts),
    case(GROUP, "pages without a ring-3 mapping are refused", &[], user_mapping_wanted),
    case(GROUP, "reserved bytes of a page allocation must be zero", &[], reserved_bytes),
    case(GROUP, "every byte but zero is a flag that is set", &[], flag_bytes),
    case(GROUP, "pages without a kernel mapping have no kernel address", &[], no_kernel_mapping),
    case(GROUP, "freeing twice fails", &[], free_twice),
    case(GROUP, "freeing what isn't there fails", &[], free_nothing),
    case(GROUP, "freeing another kind fails and frees nothing", &[], free_other_kind),
    case(GROUP, "freeing by kernel address works", &[], free_by_kernel_address),
    case(GROUP, "another session's pages can't be freed", &[], free_foreign),
    case(GROUP, "locking tells the pages' addresses", &[], lock),
    case(GROUP, "locking twice needs unlocking twice", &[], lock_twice),
    case(GROUP, "locking refuses no pages, and the first page", &[], lock_refused),
    case(GROUP, "locking at an odd address fails", &[], lock_unaligned),
    case(GROUP, "locking where no memory is fails", &[], lock_nothing),
    case(GROUP, "mapping into the kernel refuses malformed parts", &[], map_kernel_refused),
    case(GROUP, "mapping into the kernel fails beyond the end", &[], map_kernel_beyond),
    case(GROUP, "protecting refuses malformed arguments", &[], protect_refused),
    case(GROUP, "protecting nothing in particular fails", &[], protect_nothing),
    case(GROUP, "protecting changes or isn't supported, but does no harm", &[], protect),
    case(GROUP, "two threads that free the same pages: one does it", &[], free_race),
    case(GROUP, "many pages are freed in any order", &[], many),
    case(GROUP, "allocating and freeing can go on for ever", &[], over_and_over),
    case(GROUP, "closing frees everything", &[], close_frees),
];

const SHARED: &[Need] = &[Need::SharedPages, Need::RunsCode];

fn pattern(length: usize, seed: u8) -> Vec<u8> {
    (0..length).map(|index| (index as u8).wrapping_mul(31).wrapping_add((index >> 8) as u8) ^ seed).collect()
}

/// All zero at first, and then what was written.
fn round_trip(pages: &OwnedPages<'_>) -> Check {
    let mut bytes = vec![0xff; pages.size_bytes()];
    pages.read(0, &mut bytes);
    let dirty = bytes.iter().position(|byte| *byte != 0);
    same("the first byte that isn't zero", dirty, None)?;
    let written = pattern(pages.size_bytes(), 0x5a);
    pages.write(0, &written);
    pages.read(0, &mut bytes);
    let wrong = bytes.iter().zip(&written).position(|(is, must)| is != must);
    same("the first byte that isn't what was written", wrong, None)
}

fn check_addresses(pages: &OwnedPages<'_>, count: usize, limit: u64) -> Check {
    same("the number of pages", pages.phys().len(), count)?;
    ensure(pages.r3().is_multiple_of(PAGE_BYTES), || format!("ring-3 address {:#x}", pages.r3()))?;
    ensure(pages.r0().is_multiple_of(PAGE_BYTES), || format!("ring-0 address {:#x}", pages.r0()))?;
    for phys in pages.phys() {
        let aligned = phys.is_multiple_of(PAGE_BYTES as u64);
        ensure(aligned && *phys != 0 && *phys < limit, || format!("physical address {phys:#x}"))?;
    }
    Ok(())
}

fn pages_round_trip(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    for (count, kernel) in [(1, true), (3, true), (64, true), (5, false)] {
        let pages = match client.pages(count, kernel) {
            // Systems that can't do without a kernel mapping say so, and their clients lock pages of their own.
            Err(Error::Failed { status: VERR_NOT_SUPPORTED, .. }) if !kernel => continue,
            result => result?,
        };
        check_addresses(&pages, count as usize, u64::MAX)?;
        round_trip(&pages)?;
        pages.free()?;
    }
    Ok(())
}

fn low_round_trip(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    for count in [1, 7, 32] {
        let pages = client.low(count)?;
        check_addresses(&pages, count as usize, BELOW_4G)?;
        ensure(pages.r0() != 0, || "no kernel address".into())?;
        round_trip(&pages)?;
        pages.free()?;
    }
    Ok(())
}

fn cont_round_trip(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    for count in [1, 3, 16] {
        let pages = client.contiguous(count)?;
        check_addresses(&pages, count as usize, BELOW_4G)?;
        ensure(pages.r0() != 0, || "no kernel address".into())?;
        round_trip(&pages)?;
        pages.free()?;
    }
    Ok(())
}

fn most_pages(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    let low = client.low(255)?;
    check_addresses(&low, 255, BELOW_4G)?;
    low.write(254 * PAGE_BYTES, &[1]);
    low.free()?;
    let contiguous = client.contiguous(255)?;
    check_addresses(&contiguous, 255, BELOW_4G)?;
    contiguous.write(254 * PAGE_BYTES, &[1]);
    contiguous.free()?;
    let pages = client.pages(4096, true)?;
    check_addresses(&pages, 4096, u64::MAX)?;
    pages.write(4095 * PAGE_BYTES, &[1]);
    pages.free()?;
    Ok(())
}

fn pages_are_distinct(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    let held = [client.pages(40, true)?, client.low(20)?, client.contiguous(10)?, client.pages(30, true)?];
    let all: BTreeSet<u64> = held.iter().flat_map(|pages| pages.phys()).copied().collect();
    same("the number of different pages", all.len(), 100)?;
    let starts: BTreeSet<usize> = held.iter().map(OwnedPages::r3).collect();
    same("the number of different ring-3 addresses", starts.len(), 4)
}

/// Ring-0 finds in each page what ring-3 put there.
fn ring0_reads(ctx: &Ctx<'_>, client: &Client, pages: &OwnedPages<'_>) -> Check {
    let probe = Probe::new(ctx, "peek", Kind::Service)?.load(client)?;
    for page in 0..pages.phys().len() {
        for offset in [page * PAGE_BYTES, page * PAGE_BYTES + PAGE_BYTES - 8] {
            let value = 0x1234_5678_9abc_def0_u64 ^ offset as u64;
            pages.write(offset, &value.to_le_bytes());
            same(&format!("what ring-0 reads at {offset:#x}"), probe.peek(pages.r0() + offset)?, value)?;
        }
    }
    Ok(())
}

fn ring0_reads_pages(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    ring0_reads(ctx, &client, &client.pages(9, true)?)
}

fn ring0_reads_low(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    ring0_reads(ctx, &client, &client.low(9)?)
}

fn ring0_reads_cont(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    ring0_reads(ctx, &client, &client.contiguous(9)?)
}

fn ring3_reads(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    let probe = Probe::new(ctx, "poke", Kind::Service)?.load(&client)?;
    for pages in [client.pages(3, true)?, client.low(3)?, client.contiguous(3)?] {
        for offset in (0..pages.size_bytes()).step_by(1024) {
            let value = 0xfeed_face_0000_0000 | offset as u64;
            probe.poke(pages.r0() + offset, value)?;
            let mut bytes = [0; 8];
            pages.read(offset, &mut bytes);
            same(&format!("what ring-3 reads at {offset:#x}"), u64::from_le_bytes(bytes), value)?;
        }
    }
    Ok(())
}

fn ring0_reads_locked(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    let probe = Probe::new(ctx, "locked", Kind::Service)?.load(&client)?;
    let pages = ctx.user_pages(4)?;
    client.page_lock(pages.address(), 4)?;
    let r0 = match client.page_map_kernel(pages.address(), 0, 4 * PAGE_BYTES as u32) {
        Err(Error::Failed { status: VERR_NOT_SUPPORTED, .. }) => {
            client.page_unlock(pages.address())?;
            return not_available("this system doesn't map locked pages into the kernel");
        }
        result => result?,
    };
    for offset in (0..4 * PAGE_BYTES).step_by(2048) {
        let value = 0xabcd_0000_0000_0000 | offset as u64;
        pages.write(offset, &value.to_le_bytes());
        same(&format!("what ring-0 reads at {offset:#x}"), probe.peek(r0 + offset)?, value)?;
        probe.poke(r0 + offset, !value)?;
        let mut bytes = [0; 8];
        pages.read(offset, &mut bytes);
        same(&format!("what ring-3 reads at {offset:#x}"), u64::from_le_bytes(bytes), !value)?;
    }
    Ok(client.page_unlock(pages.address())?)
}

fn mapped_later(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    let probe = Probe::new(ctx, "later", Kind::Service)?.load(&client)?;
    let pages = match client.pages(3, false) {
        Err(Error::Failed { status: VERR_NOT_SUPPORTED, .. }) => client.pages(3, true)?,
        result => result?,
    };
    let first = client.page_map_kernel(pages.r3(), 0, 3 * PAGE_BYTES as u32)?;
    let second = client.page_map_kernel(pages.r3(), 0, 3 * PAGE_BYTES as u32)?;
    for page in 0..3 {
        let value = 0x1000 + page as u64;
        pages.write(page * PAGE_BYTES, &value.to_le_bytes());
        same("what ring-0 reads", probe.peek(first + page * PAGE_BYTES)?, value)?;
        probe.poke(first + page * PAGE_BYTES, value + 1)?;
        same("what ring-0 reads elsewhere", probe.peek(second + page * PAGE_BYTES)?, value + 1)?;
    }
    Ok(())
}

fn mapped_in_part(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    let probe = Probe::new(ctx, "part", Kind::Service)?.load(&client)?;
    let pages = client.pages(4, true)?;
    let r0 = match client.page_map_kernel(pages.r3(), PAGE_BYTES as u32, 2 * PAGE_BYTES as u32) {
        Err(Error::Failed { status: VERR_NOT_SUPPORTED, .. }) => {
            return not_available("this system doesn't map parts into the kernel");
        }
        result => result?,
    };
    for page in 0..2 {
        let value = 0x2000 + page as u64;
        pages.write((page + 1) * PAGE_BYTES, &value.to_le_bytes());
        same("what ring-0 reads", probe.peek(r0 + page * PAGE_BYTES)?, value)?;
    }
    Ok(())
}

/// A packet of an allocating request for `pages` pages with the right sizes for `sized_for` of them.
fn table_packet<I: IntoBytes + Immutable, O>(
    ctx: &Ctx<'_>,
    function: Function,
    input: &I,
    sized_for: u64,
) -> Packet {
    let out_bytes = size_of::<O>() as u64 + 8 * sized_for;
    ctx.packet(function, input, usize::try_from(out_bytes).unwrap_or(usize::MAX))
}

fn page_input(pages: u32) -> r::PageAllocExIn {
    r::PageAllocExIn { pages, kernel_mapping: 1, user_mapping: 1, ..zeroed() }
}

fn page_packet(ctx: &Ctx<'_>, input: &r::PageAllocExIn, sized_for: u64) -> Packet {
    table_packet::<_, r::PageAllocExOut>(ctx, Function::PageAllocEx, input, sized_for)
}

fn low_packet(ctx: &Ctx<'_>, pages: u32, sized_for: u64) -> Packet {
    let input = r::LowAllocIn { pages, ..zeroed() };
    table_packet::<_, r::LowAllocOut>(ctx, Function::LowAlloc, &input, sized_for)
}

/// Ends with a status, and nothing but the header comes back.
fn header_only(ctx: &Ctx<'_>, client: &Client, mut packet: Packet, status: Status) -> Check {
    let end = packet.bytes().len();
    let start = packet.header().in_bytes as usize;
    packet.put(start, &vec![0xcc; end.saturating_sub(start)]);
    let body = packet.bytes().get(r::HEADER_BYTES..).map(<[u8]>::to_vec);
    ctx.answers(client.device(), &mut packet, status)?;
    same("the output size", packet.header().out_bytes as usize, r::HEADER_BYTES)?;
    same("what follows the header", packet.bytes().get(r::HEADER_BYTES..).map(<[u8]>::to_vec), body)
}

fn counts_out_of_range(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    let status = VERR_PAGE_COUNT_OUT_OF_RANGE;
    for count in [0, 256, 1000] {
        header_only(ctx, &client, low_packet(ctx, count, count.into()), status)?;
        let input = r::ContAllocIn { pages: count, ..zeroed() };
        let packet = ctx.packet(Function::ContAlloc, &input, size_of::<r::ContAllocOut>());
        header_only(ctx, &client, packet, status)?;
    }
    for count in [0, 65537, 100_000] {
        header_only(ctx, &client, page_packet(ctx, &page_input(count), count.into()), status)?;
    }
    let huge = r::ContAllocIn { pages: u32::MAX, ..zeroed() };
    let packet = ctx.packet(Function::ContAlloc, &huge, size_of::<r::ContAllocOut>());
    header_only(ctx, &client, packet, status)
}

fn wrong_sizes(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    for (pages, sized_for) in [(1, 2), (2, 1), (3, 0), (0, 1)] {
        ctx.refuses(client.device(), &mut low_packet(ctx, pages, sized_for), VERR_INVALID_PARAMETER)?;
        let mut packet = page_packet(ctx, &page_input(pages), sized_for);
        ctx.refuses(client.device(), &mut packet, VERR_INVALID_PARAMETER)?;
        let input = r::PageLockIn { r3: 0x10_0000, pages, ..zeroed() };
        let mut packet = table_packet::<_, r::PageLockOut>(ctx, Function::PageLock, &input, sized_for);
        ctx.refuses(client.device(), &mut packet, VERR_INVALID_PARAMETER)?;
    }
    let mut packet = page_packet(ctx, &page_input(2), 2);
    packet.header_mut().out_bytes -= 4;
    ctx.refuses(client.device(), &mut packet, VERR_INVALID_PARAMETER)
}

fn huge_counts(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    for pages in [0x2000_0000, 0x2000_0001, 0x4000_0001, 0x8000_0000, 0xe000_0001, u32::MAX] {
        let sized_for = u64::from(pages & 0x1fff_ffff).min(1);
        ctx.refuses(client.device(), &mut low_packet(ctx, pages, sized_for), VERR_INVALID_PARAMETER)?;
        let mut packet = page_packet(ctx, &page_input(pages), sized_for);
        ctx.refuses(client.device(), &mut packet, VERR_INVALID_PARAMETER)?;
        let input = r::PageLockIn { r3: 0x10_0000, pages, ..zeroed() };
        let mut packet = table_packet::<_, r::PageLockOut>(ctx, Function::PageLock, &input, sized_for);
        ctx.refuses(client.device(), &mut packet, VERR_INVALID_PARAMETER)?;
    }
    Ok(())
}

fn user_mapping_wanted(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    for kernel_mapping in [0, 1] {
        let input = r::PageAllocExIn { kernel_mapping, user_mapping: 0, ..page_input(1) };
        ctx.refuses(client.device(), &mut page_packet(ctx, &input, 1), VERR_INVALID_PARAMETER)?;
    }
    Ok(())
}

fn reserved_bytes(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    for (reserved0, reserved1) in [(1, 0), (0, 1), (0x80, 0x80)] {
        let input = r::PageAllocExIn { reserved0, reserved1, ..page_input(1) };
        ctx.refuses(client.device(), &mut page_packet(ctx, &input, 1), VERR_INVALID_PARAMETER)?;
    }
    Ok(())
}

fn flag_bytes(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    let input = r::PageAllocExIn { kernel_mapping: 2, user_mapping: 0x80, ..page_input(1) };
    let mut packet = page_packet(ctx, &input, 1);
    ctx.answers(client.device(), &mut packet, VINF_SUCCESS)?;
    let answer: r::PageAllocExOut = packet.view();
    ensure(answer.r0 != 0, || "no kernel address".into())?;
    Ok(client.page_free(answer.r3)?)
}

fn no_kernel_mapping(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    match client.pages(2, false) {
        Err(Error::Failed { status: VERR_NOT_SUPPORTED, .. }) => Ok(()),
        result => {
            let pages = result?;
            same("the kernel address", pages.r0(), 0)
        }
    }
}

fn free_twice(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    let pages = client.page_alloc(1, true)?;
    client.page_free(pages.r3)?;
    fails_with(client.page_free(pages.r3), VERR_INVALID_PARAMETER)?;
    let low = client.low_alloc(1)?;
    client.low_free(low.r3)?;
    fails_with(client.low_free(low.r3), VERR_INVALID_PARAMETER)?;
    let contiguous = client.cont_alloc(1)?;
    client.cont_free(contiguous.r3)?;
    fails_with(client.cont_free(contiguous.r3), VERR_INVALID_PARAMETER)
}

const FREES: [Function; 4] =
    [Function::PageFree, Function::LowFree, Function::ContFree, Function::PageUnlock];

fn free_nothing(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    for function in FREES {
        for address in [0, 1, PAGE_BYTES, 0x7fff_0000, usize::MAX, usize::MAX - 4095] {
            fails_with(client.free(function, address), VERR_INVALID_PARAMETER)?;
        }
    }
    Ok(())
}

fn free_other_kind(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    let (pages, low, contiguous) = (client.pages(1, true)?, client.low(1)?, client.contiguous(1)?);
    let locked = ctx.user_pages(1)?;
    client.page_lock(locked.address(), 1)?;
    let held = [
        (pages.r3(), Function::PageFree),
        (low.r3(), Function::LowFree),
        (contiguous.r3(), Function::ContFree),
        (locked.address(), Function::PageUnlock),
    ];
    for (address, own) in held {
        for function in FREES.into_iter().filter(|function| *function != own) {
            fails_with(client.free(function, address), VERR_INVALID_PARAMETER)?;
        }
    }
    for pages in [&pages, &low, &contiguous] {
        pages.write(0, &[1, 2, 3]);
    }
    for (address, own) in held.into_iter().skip(3) {
        client.free(own, address)?;
    }
    pages.free()?;
    low.free()?;
    Ok(contiguous.free()?)
}

fn free_by_kernel_address(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    client.page_free(client.page_alloc(1, true)?.r0)?;
    client.low_free(client.low_alloc(1)?.r0)?;
    Ok(client.cont_free(client.cont_alloc(1)?.r0)?)
}

fn free_foreign(ctx: &Ctx<'_>) -> Check {
    let (owner, other) = (ctx.client()?, ctx.client()?);
    let pages = owner.pages(1, true)?;
    for address in [pages.r3(), pages.r0()] {
        fails_with(other.page_free(address), VERR_INVALID_PARAMETER)?;
    }
    fails_with(other.page_map_kernel(pages.r3(), 0, PAGE_BYTES as u32), VERR_INVALID_PARAMETER)?;
    pages.write(0, &[1]);
    Ok(pages.free()?)
}

fn lock(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    for count in [1, 2, 17] {
        let pages = ctx.user_pages(count)?;
        let phys = client.page_lock(pages.address(), count as u32)?;
        let distinct: BTreeSet<u64> = phys.iter().copied().collect();
        same("the number of different pages", distinct.len(), count)?;
        let odd = phys.iter().find(|phys| **phys == 0 || !phys.is_multiple_of(PAGE_BYTES as u64));
        same("an odd physical address", odd, None)?;
        client.page_unlock(pages.address())?;
        fails_with(client.page_unlock(pages.address()), VERR_INVALID_PARAMETER)?;
    }
    Ok(())
}

fn lock_twice(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    let pages = ctx.user_pages(2)?;
    let first = client.page_lock(pages.address(), 2)?;
    let second = client.page_lock(pages.address(), 2)?;
    same("the pages' addresses", &second, &first)?;
    client.page_unlock(pages.address())?;
    client.page_unlock(pages.address())?;
    fails_with(client.page_unlock(pages.address()), VERR_INVALID_PARAMETER)
}

fn lock_packet(ctx: &Ctx<'_>, r3: usize, pages: u32) -> Packet {
    let input = r::PageLockIn { r3, pages, ..zeroed() };
    table_packet::<_, r::PageLockOut>(ctx, Function::PageLock, &input, pages.into())
}

fn lock_refused(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    let pages = ctx.user_pages(1)?;
    for (r3, count) in [(pages.address(), 0), (0, 1), (0xfff, 1)] {
        ctx.refuses(client.device(), &mut lock_packet(ctx, r3, count), VERR_INVALID_PARAMETER)?;
    }
    Ok(())
}

fn lock_unaligned(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    let pages = ctx.user_pages(2)?;
    for r3 in [pages.address() + 1, pages.address() + 0x800, 0x1001] {
        header_only(ctx, &client, lock_packet(ctx, r3, 1), VERR_INVALID_PARAMETER)?;
    }
    Ok(())
}

fn lock_nothing(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    let pages = ctx.user_pages(1)?;
    let hole = pages.address();
    drop(pages);
    // The page just given back, and addresses that no process has.
    for r3 in [hole, 0x1000, usize::MAX / 2 + 1, usize::MAX - 4095] {
        let mut packet = lock_packet(ctx, r3, 1);
        let status =
            packet.send(client.device()).map_err(|refused| super::Stop::Fail(refused.to_string()))?;
        if r3 == hole && status.is_success() {
            // Another thread got that page meanwhile.
            client.page_unlock(r3)?;
            continue;
        }
        if super::cannot_lock(status) {
            return Err(super::Stop::NotAvailable(super::CANNOT_LOCK.into()));
        }
        ensure(status.is_failure(), || format!("locking {r3:#x} ended with {status}"))?;
        same("the output size", packet.header().out_bytes as usize, r::HEADER_BYTES)?;
        let known =
            [VERR_LOCK_FAILED, VERR_INVALID_PARAMETER, supdrv_core::abi::status::VERR_INVALID_POINTER];
        ensure(known.contains(&status), || format!("locking {r3:#x} ended with {status}"))?;
    }
    Ok(())
}

fn map_kernel_packet(ctx: &Ctx<'_>, r3: usize, offset_bytes: u32, size_bytes: u32, flags: u32) -> Packet {
    let input = r::PageMapKernelIn { r3, offset_bytes, size_bytes, flags, ..zeroed() };
    ctx.packet(Function::PageMapKernel, &input, size_of::<r::PageMapKernelOut>())
}

fn map_kernel_refused(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    let pages = client.pages(2, true)?;
    for (offset, size, flags) in
        [(0, 0, 0), (0x800, 0x1000, 0), (0, 0x800, 0), (0, 0x1000, 1), (1, 0x1000, 0), (0, 0x1001, 0)]
    {
        let mut packet = map_kernel_packet(ctx, pages.r3(), offset, size, flags);
        ctx.refuses(client.device(), &mut packet, VERR_INVALID_PARAMETER)?;
    }
    Ok(())
}

fn map_kernel_beyond(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    let pages = client.pages(2, true)?;
    let low = client.low(1)?;
    for (r3, offset, size) in [
        (pages.r3(), 0x2000, 0x1000),
        (pages.r3(), 0x1000, 0x2000),
        (pages.r3(), 0, 0x3000),
        (pages.r3(), 0xffff_f000, 0x2000),
        (pages.r3(), 0x1000, 0xffff_f000),
        (pages.r3() + PAGE_BYTES, 0, 0x1000),
        (low.r3(), 0, 0x1000),
        (0, 0, 0x1000),
    ] {
        let packet = map_kernel_packet(ctx, r3, offset, size, 0);
        header_only(ctx, &client, packet, VERR_INVALID_PARAMETER)?;
    }
    Ok(())
}

fn protect_packet(ctx: &Ctx<'_>, input: r::PageProtectIn) -> Packet {
    ctx.packet(Function::PageProtect, &input, size_of::<r::PageProtectIn>())
}

fn protect_refused(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    let pages = client.pages(1, true)?;
    let right = r::PageProtectIn { r3: pages.r3(), size_bytes: 0x1000, prot: 1, ..zeroed() };
    for wrong in [
        r::PageProtectIn { prot: 8, ..right },
        r::PageProtectIn { prot: u32::MAX, ..right },
        r::PageProtectIn { offset_bytes: 0x10, ..right },
        r::PageProtectIn { size_bytes: 0, ..right },
        r::PageProtectIn { size_bytes: 0x1008, ..right },
    ] {
        ctx.refuses(client.device(), &mut protect_packet(ctx, wrong), VERR_INVALID_PARAMETER)?;
    }
    Ok(())
}

fn protect_nothing(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    let pages = client.pages(1, true)?;
    let low = client.low(1)?;
    let read = Protection { read: true, ..Protection::default() };
    for (r3, r0, offset, size) in [
        (0, 0, 0, 0x1000),
        (pages.r3() + PAGE_BYTES, 0, 0, 0x1000),
        (pages.r3(), pages.r0() + PAGE_BYTES, 0, 0x1000),
        (low.r3(), 0, 0, 0x1000),
        (pages.r3(), 0, 0x1000, 0x1000),
        (pages.r3(), 0, 0, 0x2000),
        (pages.r3(), 0, 0xffff_f000, 0x1000),
    ] {
        fails_with(client.page_protect(r3, r0, offset, size, read), VERR_INVALID_PARAMETER)?;
    }
    Ok(())
}

fn protect(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    let pages = client.pages(2, true)?;
    let all = Protection { read: true, write: true, execute: true };
    let read = Protection { read: true, ..Protection::default() };
    pages.write(PAGE_BYTES, &[0x77]);
    for protection in [read, Protection::default(), all] {
        match client.page_protect(pages.r3(), 0, PAGE_BYTES as u32, PAGE_BYTES as u32, protection) {
            Err(Error::Failed { status: VERR_NOT_SUPPORTED, .. }) => {}
            result => result?,
        }
    }
    let mut byte = [0];
    pages.read(PAGE_BYTES, &mut byte);
    same("the byte", byte, [0x77])?;
    pages.write(PAGE_BYTES, &[0x78]);
    Ok(pages.free()?)
}

fn free_race(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    let barrier = Barrier::new(2);
    for _ in 0..100 {
        let r3 = client.page_alloc(1, true)?.r3;
        let free = || {
            barrier.wait();
            client.page_free(r3)
        };
        let results = std::thread::scope(|scope| {
            let other = scope.spawn(free);
            Ok::<_, super::Stop>([free(), joined(other.join())?])
        })?;
        let freed = results.iter().filter(|result| result.is_ok()).count();
        same("the number of threads that freed it", freed, 1)?;
        for result in results.into_iter().filter(Result::is_err) {
            fails_with(result, VERR_INVALID_PARAMETER)?;
        }
    }
    Ok(())
}

fn many(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    let mut held = Vec::new();
    for _ in 0..200 {
        held.push(client.page_alloc(1, true)?.r3);
    }
    // 77 and 200 have no common factor: every block once, in a scattered order.
    for step in 0..held.len() {
        match held.get(step * 77 % 200) {
            Some(r3) => client.page_free(*r3)?,
            None => return fail("a block is missing"),
        }
    }
    Ok(())
}

fn over_and_over(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    for _ in 0..300 {
        client.page_free(client.page_alloc(1, true)?.r3)?;
        client.low_free(client.low_alloc(1)?.r3)?;
        client.cont_free(client.cont_alloc(1)?.r3)?;
    }
    Ok(())
}

fn close_frees(ctx: &Ctx<'_>) -> Check {
    let Some(before) = ctx.transport.counters() else {
        return not_available("the driver's counters can't be seen");
    };
    let client = ctx.client()?;
    client.page_alloc(3, true)?;
    client.low_alloc(3)?;
    client.cont_alloc(3)?;
    let locked = ctx.user_pages(3)?;
    client.page_lock(locked.address(), 3)?;
    client
        .page_map_kernel(locked.address(), 0, 3 * PAGE_BYTES as u32)
        .map(drop)
        .or_else(|error| if error.status() == Some(VERR_NOT_SUPPORTED) { Ok(()) } else { Err(error) })?;
    let now = ctx.transport.counters().map_or(0, |counters| counters.memory_refs);
    same("the number of memory references", now, before.memory_refs + 4)?;
    drop(client);
    ensure(ctx.until(|| ctx.transport.counters() == Some(before)), || "closing left something behind".into())
}
