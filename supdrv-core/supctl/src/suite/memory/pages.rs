//! Pages of all kinds: what they are, who sees them, which are refused.

use std::collections::BTreeSet;

use supdrv_core::abi::ioctl::Function;
use supdrv_core::abi::requests as r;
use supdrv_core::abi::status::{
    VERR_INVALID_PARAMETER, VERR_NOT_SUPPORTED, VERR_PAGE_COUNT_OUT_OF_RANGE, VINF_SUCCESS,
};

use super::{GROUP, header_only, table_packet};
use crate::client::{Client, OwnedPages};
use crate::error::Error;
use crate::packet::Packet;
use crate::pages::PAGE_BYTES;
use crate::suite::probe::{Kind, Probe};
use crate::suite::{Case, Check, Ctx, Need, case, ensure, same, zeroed};

const BELOW_4G: u64 = 1 << 32;

pub(in crate::suite) const CASES: &[Case] = &[
    case(GROUP, "pages are zero, and keep what is written", &[], pages_round_trip),
    case(GROUP, "low pages are zero, keep what is written, and are below 4 GiB", &[], low_round_trip),
    case(GROUP, "contiguous pages are zero, keep what is written, and are below 4 GiB", &[], cont_round_trip),
    case(GROUP, "the most pages of each kind can be had", &[], most_pages),
    case(GROUP, "no page is given out twice", &[], pages_are_distinct),
    case(GROUP, "ring-0 reads from pages what ring-3 writes", SHARED, ring0_reads_pages),
    case(GROUP, "ring-0 reads from low pages what ring-3 writes", SHARED, ring0_reads_low),
    case(GROUP, "ring-0 reads from contiguous pages what ring-3 writes", SHARED, ring0_reads_cont),
    case(GROUP, "ring-3 reads from pages what ring-0 writes", SHARED, ring3_reads),
    case(GROUP, "page counts out of range are an answer with a header only", &[], counts_out_of_range),
    case(GROUP, "sizes that don't fit the page count are refused", &[], wrong_sizes),
    case(GROUP, "huge page counts don't wrap around", &[], huge_counts),
    case(GROUP, "pages without a ring-3 mapping are refused", &[], user_mapping_wanted),
    case(GROUP, "reserved bytes of a page allocation must be zero", &[], reserved_bytes),
    case(GROUP, "every byte but zero is a flag that is set", &[], flag_bytes),
    case(GROUP, "pages without a kernel mapping have no kernel address", &[], no_kernel_mapping),
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
