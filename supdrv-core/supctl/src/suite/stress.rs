//! Several threads at once.

use core::sync::atomic::{AtomicBool, Ordering};

use supdrv_core::abi::ioctl::Function;
use supdrv_core::abi::requests as r;

use super::probe::{Kind, Probe};
use super::{Case, Check, Ctx, Need, case, joined, same};
use crate::client::{Client, Close, EventType};
use crate::pages::PAGE_BYTES;

const GROUP: &str = "concurrency";

pub(super) const CASES: &[Case] = &[
    case(GROUP, "threads allocate, use and free in one session", &[], memory),
    case(GROUP, "threads create, signal and close in one session", &[], semaphores),
    case(GROUP, "threads open and free images of the same name", &[], images),
    case(GROUP, "sessions load, call and free the same image", &[Need::RunsCode], sessions_share_image),
    case(GROUP, "sessions come and go", &[], sessions),
    case(GROUP, "malformed packets don't disturb the others", &[], malformed_meanwhile),
    case(GROUP, "sizes that change under the driver's eyes do no harm", &[Need::RealTime], racing_header),
    case(GROUP, "two threads pass signals to and fro", &[], ping_pong),
];

const THREADS: usize = 4;

/// Runs something in several threads at once; it gets the thread's number.
fn in_threads(work: impl Fn(usize) -> Check + Sync) -> Check {
    std::thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = (0..THREADS).map(|number| scope.spawn(move || work(number))).collect();
        let results: Vec<_> = threads.into_iter().map(|thread| joined(thread.join())?).collect();
        results.into_iter().collect()
    })
}

fn memory(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    in_threads(|number| {
        let own = ctx.user_pages(2)?;
        for round in 0..60_usize {
            let pages = client.pages(1 + (round % 5) as u32, true)?;
            let low = client.low(1)?;
            let contiguous = client.contiguous(2)?;
            client.page_lock(own.address(), 2)?;
            for (index, pages) in [&pages, &low, &contiguous].into_iter().enumerate() {
                let mark = [number as u8, round as u8, index as u8];
                pages.write(PAGE_BYTES - 3, &mark);
                let mut read = [0; 3];
                pages.read(PAGE_BYTES - 3, &mut read);
                same("what was written", read, mark)?;
            }
            client.page_unlock(own.address())?;
            contiguous.free()?;
            pages.free()?;
            low.free()?;
        }
        Ok(())
    })
}

fn semaphores(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    in_threads(|number| {
        let kind = if number % 2 == 0 { EventType::Single } else { EventType::Multi };
        for _ in 0..500 {
            let event = client.sem_create(kind)?;
            client.sem_signal(kind, event)?;
            client.sem_wait_ms(kind, event, 0)?;
            same("closing", client.sem_close(kind, event)?, Close::Destroyed)?;
        }
        Ok(())
    })
}

fn images(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    let name = ctx.image_name("race");
    in_threads(|_| {
        for _ in 0..100 {
            let opened = client.ldr_open(&name, 0x3000, 0x2000, "")?;
            client.ldr_free(opened.base)?;
        }
        Ok(())
    })
}

fn sessions_share_image(ctx: &Ctx<'_>) -> Check {
    let probe = Probe::new(ctx, "share", Kind::Service)?;
    in_threads(|_| {
        for _ in 0..40 {
            let client = ctx.client()?;
            let loaded = probe.load(&client)?;
            for value in [1, 2, 3] {
                let returned = loaded.call(super::probe::Operation::ReturnArgument, value, None)?;
                same("what it returns", returned.0 as u64, value)?;
            }
            if value_is_even(loaded.base) {
                loaded.free()?;
            }
        }
        Ok(())
    })
}

/// Half of the images are freed by themselves, the rest with their session.
fn value_is_even(base: usize) -> bool {
    (base >> 12).is_multiple_of(2)
}

fn sessions(ctx: &Ctx<'_>) -> Check {
    in_threads(|_| {
        for _ in 0..100 {
            let client = ctx.client()?;
            client.gip_map()?;
            client.page_alloc(1, true)?;
            client.sem_create(EventType::Single)?;
            drop(client);
            if ctx.transport.has_restricted_node() {
                let restricted = ctx.restricted_client()?;
                drop(restricted);
            }
        }
        Ok(())
    })
}

fn hammer(ctx: &Ctx<'_>, client: &Client, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        for &function in Function::ALL {
            if function as u32 > 35 {
                continue;
            }
            let mut packet = ctx.bare(function, r::HEADER_BYTES);
            packet.header_mut().in_bytes = 25;
            packet.resize(64);
            let _refused = packet.send(client.device());
            packet.header_mut().cookie ^= 1;
            let _refused = packet.send(client.device());
        }
    }
}

fn malformed_meanwhile(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let vandals: Vec<_> = (0..2).map(|_| scope.spawn(|| hammer(ctx, &client, &stop))).collect();
        let work = || {
            for round in 0..200_u32 {
                let pages = client.pages(1, true)?;
                pages.write(0, &round.to_le_bytes());
                let event = client.sem_create(EventType::Single)?;
                client.sem_signal(EventType::Single, event)?;
                client.sem_wait_ms(EventType::Single, event, 0)?;
                client.sem_close(EventType::Single, event)?;
                let mut bytes = [0; 4];
                pages.read(0, &mut bytes);
                same("what was written", u32::from_le_bytes(bytes), round)?;
            }
            Ok(())
        };
        let result = work();
        stop.store(true, Ordering::Relaxed);
        vandals.into_iter().try_for_each(|vandal| joined(vandal.join()))?;
        result
    })
}

/// One thread sends a packet over and over while another one changes the sizes in its header.
fn racing_header(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    let mut packet = ctx.bare(Function::GetPagingMode, size_of::<r::GetPagingModeOut>());
    let code = packet.code();
    let page = ctx.user_pages(1)?;
    page.write(0, packet.bytes_mut());
    let out_bytes_at = core::mem::offset_of!(r::RequestHeader, out_bytes);
    let stop = AtomicBool::new(false);
    let available = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut sizes = [0x1c_u32, u32::MAX, 0x18, 0x0100_0000].iter().cycle();
            while !stop.load(Ordering::Relaxed) {
                if let Some(size) = sizes.next() {
                    page.write(out_bytes_at, &size.to_le_bytes());
                }
            }
        });
        let mut available = true;
        for _ in 0..20_000 {
            // SAFETY: a page is ours, and a driver that honours its contract writes no more than the size in its code.
            available = unsafe { client.device().ioctl_at(code, page.address()) }.is_some();
            if !available {
                break;
            }
        }
        stop.store(true, Ordering::Relaxed);
        available
    });
    if !available {
        return super::not_available("packets can't be passed by address here");
    }
    client.paging_mode()?;
    Ok(())
}

fn ping_pong(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    let (ping, pong) = (client.sem_create(EventType::Single)?, client.sem_create(EventType::Single)?);
    let kind = EventType::Single;
    std::thread::scope(|scope| {
        let other = scope.spawn(|| -> Check {
            for _ in 0..300 {
                client.sem_wait_ms(kind, ping, u32::MAX)?;
                client.sem_signal(kind, pong)?;
            }
            Ok(())
        });
        for _ in 0..300 {
            client.sem_signal(kind, ping)?;
            client.sem_wait_ms(kind, pong, u32::MAX)?;
        }
        joined(other.join())?
    })
}
