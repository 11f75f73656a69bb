//! Pages that are given back.

use std::sync::Barrier;

use supdrv_core::abi::ioctl::Function;
use supdrv_core::abi::status::{VERR_INVALID_PARAMETER, VERR_NOT_SUPPORTED};

use super::GROUP;
use crate::pages::PAGE_BYTES;
use crate::suite::{Case, Check, Ctx, case, ensure, fail, fails_with, joined, not_available, same};

pub(in crate::suite) const CASES: &[Case] = &[
    case(GROUP, "freeing twice fails", &[], free_twice),
    case(GROUP, "freeing what isn't there fails", &[], free_nothing),
    case(GROUP, "freeing another kind fails and frees nothing", &[], free_other_kind),
    case(GROUP, "freeing by kernel address works", &[], free_by_kernel_address),
    case(GROUP, "another session's pages can't be freed", &[], free_foreign),
    case(GROUP, "two threads that free the same pages: one does it", &[], free_race),
    case(GROUP, "many pages are freed in any order", &[], many),
    case(GROUP, "allocating and freeing can go on for ever", &[], over_and_over),
    case(GROUP, "closing frees everything", &[], close_frees),
];

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
            Ok::<_, crate::suite::Stop>([free(), joined(other.join())?])
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
