//! Pages of the process itself, mappings into the kernel, and rights.

use std::collections::BTreeSet;

use supdrv_core::abi::ioctl::Function;
use supdrv_core::abi::requests as r;
use supdrv_core::abi::status::{VERR_INVALID_PARAMETER, VERR_LOCK_FAILED, VERR_NOT_SUPPORTED};

use super::{GROUP, header_only, table_packet};
use crate::client::Protection;
use crate::error::Error;
use crate::packet::Packet;
use crate::pages::PAGE_BYTES;
use crate::suite::probe::{Kind, Probe};
use crate::suite::{Case, Check, Ctx, Need, case, ensure, fails_with, not_available, same, zeroed};

pub(in crate::suite) const CASES: &[Case] = &[
    case(GROUP, "ring-0 reads from locked pages what ring-3 writes", SHARED, ring0_reads_locked),
    case(GROUP, "pages mapped into the kernel later are the same pages", SHARED, mapped_later),
    case(GROUP, "a part mapped into the kernel is that part", SHARED, mapped_in_part),
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
];

const SHARED: &[Need] = &[Need::SharedPages, Need::RunsCode];

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
            packet.send(client.device()).map_err(|refused| crate::suite::Stop::Fail(refused.to_string()))?;
        if r3 == hole && status.is_success() {
            // Another thread got that page meanwhile.
            client.page_unlock(r3)?;
            continue;
        }
        if crate::suite::cannot_lock(status) {
            return Err(crate::suite::Stop::NotAvailable(crate::suite::CANNOT_LOCK.into()));
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
    let mut changed = 0;
    for protection in [read, Protection::default(), all] {
        match client.page_protect(pages.r3(), 0, PAGE_BYTES as u32, PAGE_BYTES as u32, protection) {
            Err(Error::Failed { status: VERR_NOT_SUPPORTED, .. }) => {}
            result => {
                result?;
                changed += 1;
            }
        }
    }
    // Or else looking at the page would end this program.
    ensure(changed == 0 || changed == 3, || "protection can be changed, but not always".into())?;
    let mut byte = [0];
    pages.read(PAGE_BYTES, &mut byte);
    same("the byte", byte, [0x77])?;
    pages.write(PAGE_BYTES, &[0x78]);
    Ok(pages.free()?)
}
