//! Several processes, and processes that are killed.

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

use supdrv_core::abi::Status;
use supdrv_core::abi::ioctl::Function;
use supdrv_core::abi::requests as r;
use supdrv_core::abi::status::{VERR_ACCESS_DENIED, VERR_NOT_SUPPORTED, VINF_SUCCESS};

use super::probe::{Kind, Probe};
use super::{Case, Check, Ctx, Need, Stop, case, ensure, fail, joined, not_available, same, zeroed};
use crate::client::{Client, EventType};
use crate::packet::Packet;
use crate::pages::PAGE_BYTES;
use crate::transport::{Node, Transport};

const GROUP: &str = "processes";

/// The argument that makes the program hold everything, see [`hold_everything`].
pub const HOLD_ARGUMENT: &str = "hold";

pub(super) const CASES: &[Case] = &[
    case(GROUP, "another process may not allocate in a session", OTHER, no_allocation_elsewhere),
    case(GROUP, "another process may not free in a session", OTHER, no_freeing_elsewhere),
    case(GROUP, "another process may do what has nothing to do with memory", OTHER, harmless_elsewhere),
    case(GROUP, "a process is released by a signal from another one", OTHER, released_elsewhere),
    case(GROUP, "another process signals for this one", OTHER, signalled_elsewhere),
    case(GROUP, "a killed process leaves nothing behind", &[Need::Programs], killed),
    case(
        GROUP,
        "processes that are killed while they work leave nothing behind",
        &[Need::Programs],
        killed_busy,
    ),
];

const OTHER: &[Need] = &[Need::OtherProcess];

/// Passes a packet from another process; its status.
fn elsewhere(client: &Client, packet: &mut Packet) -> Check<Status> {
    let code = packet.code();
    match client.device().ioctl_from_other_process(code, packet.bytes_mut()) {
        None => not_available("no other process could be started"),
        Some(Err(refused)) => fail(format!("{}: {refused}", packet.function().c_name())),
        Some(Ok(())) => Ok(packet.status()),
    }
}

fn denied(client: &Client, mut packet: Packet) -> Check {
    let name = packet.function().c_name();
    same(&format!("{name} from another process"), elsewhere(client, &mut packet)?, VERR_ACCESS_DENIED)
}

fn no_allocation_elsewhere(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    let page = ctx.user_pages(1)?;
    let allocate = r::PageAllocExIn { pages: 1, kernel_mapping: 1, user_mapping: 1, ..zeroed() };
    let out_bytes = size_of::<r::PageAllocExOut>() + 8;
    denied(&client, ctx.packet(Function::PageAllocEx, &allocate, out_bytes))?;
    let low = r::LowAllocIn { pages: 1, ..zeroed() };
    denied(&client, ctx.packet(Function::LowAlloc, &low, size_of::<r::LowAllocOut>() + 8))?;
    let contiguous = r::ContAllocIn { pages: 1, ..zeroed() };
    denied(&client, ctx.packet(Function::ContAlloc, &contiguous, size_of::<r::ContAllocOut>()))?;
    let lock = r::PageLockIn { r3: page.address(), pages: 1, ..zeroed() };
    denied(&client, ctx.packet(Function::PageLock, &lock, size_of::<r::PageLockOut>() + 8))
}

fn no_freeing_elsewhere(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    let (pages, low, contiguous) = (client.pages(1, true)?, client.low(1)?, client.contiguous(1)?);
    for (function, r3) in [
        (Function::PageFree, pages.r3()),
        (Function::LowFree, low.r3()),
        (Function::ContFree, contiguous.r3()),
    ] {
        denied(&client, ctx.packet(function, &r::PageFreeIn { r3, ..zeroed() }, r::HEADER_BYTES))?;
    }
    let map = r::PageMapKernelIn { r3: pages.r3(), size_bytes: PAGE_BYTES as u32, ..zeroed() };
    denied(&client, ctx.packet(Function::PageMapKernel, &map, size_of::<r::PageMapKernelOut>()))?;
    pages.write(0, &[1]);
    pages.free()?;
    low.free()?;
    Ok(contiguous.free()?)
}

fn harmless_elsewhere(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    let mut packet = ctx.bare(Function::GetPagingMode, size_of::<r::GetPagingModeOut>());
    same("the status", elsewhere(&client, &mut packet)?, VINF_SUCCESS)?;
    let mode = packet.view::<r::GetPagingModeOut>().mode;
    same("the paging mode", mode, client.paging_mode()?.0)
}

fn sem_packet(ctx: &Ctx<'_>, handle: u32, operation: u32, arg: u64) -> Packet {
    let input = r::SemOp2In { handle, operation, arg, ..zeroed() };
    ctx.packet(Function::SemOp2, &input, r::HEADER_BYTES)
}

fn released_elsewhere(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    let event = client.sem_create(EventType::Single)?;
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| elsewhere(&client, &mut sem_packet(ctx, event, 0, u32::MAX.into())));
        ctx.transport.settle(1);
        client.sem_signal(EventType::Single, event)?;
        ctx.until(|| waiter.is_finished());
        same("the wait of the other process", joined(waiter.join())??, VINF_SUCCESS)
    })
}

fn signalled_elsewhere(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    let event = client.sem_create(EventType::Single)?;
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| client.sem_wait_ms(EventType::Single, event, u32::MAX));
        ctx.transport.settle(1);
        let signal = elsewhere(&client, &mut sem_packet(ctx, event, 3, 0));
        if signal.is_err() {
            client.sem_signal(EventType::Single, event)?;
        }
        ctx.until(|| waiter.is_finished());
        joined(waiter.join())??;
        same("the signal of the other process", signal?, VINF_SUCCESS)
    })
}

/// Starts this program again, holding everything, and kills it when it says so.
pub(super) fn hold_and_kill(ctx: &Ctx<'_>, busy: bool) -> Check {
    let Some(mut command) = ctx.transport.helper() else {
        return not_available("this program can't be started again");
    };
    command.arg(HOLD_ARGUMENT).stdin(Stdio::null()).stdout(Stdio::piped());
    if busy {
        command.arg("--busy");
    }
    let mut child =
        command.spawn().map_err(|error| Stop::NotAvailable(format!("no second program: {error}")))?;
    let mut line = String::new();
    let read = child.stdout.take().map(|stdout| BufReader::new(stdout).read_line(&mut line));
    if busy {
        ctx.transport.pass_time(core::time::Duration::from_millis(30));
    }
    let seen = ctx.transport.counters();
    let _may_be_gone = child.kill();
    let _reaped = child.wait();
    ensure(matches!(read, Some(Ok(1..))) && line.starts_with("holding"), || {
        format!("the other program said {line:?}")
    })?;
    ensure(seen.is_none_or(|seen| seen.sessions >= 1 && seen.memory_refs >= 4), || {
        format!("the other program held {seen:?}")
    })
}

fn killed(ctx: &Ctx<'_>) -> Check {
    hold_and_kill(ctx, false)
}

fn killed_busy(ctx: &Ctx<'_>) -> Check {
    for _ in 0..5 {
        hold_and_kill(ctx, true)?;
    }
    Ok(())
}

/// Opens a session and holds one of everything: pages of every kind, a kernel mapping, the global info page, semaphores with
/// threads waiting for them, a loaded image, a module with tracepoints. Says so in one line on standard output, and then waits to be killed; if `busy`, it
/// goes on allocating and freeing meanwhile.
///
/// # Errors
/// What couldn't be had.
pub fn hold_everything(transport: &dyn Transport, busy: bool) -> Result<(), String> {
    hold(transport, busy).map_err(|stop| match stop {
        Stop::Fail(reason) | Stop::NotAvailable(reason) => reason,
    })
}

fn hold(transport: &dyn Transport, busy: bool) -> Check {
    let ctx = Ctx { transport };
    let client = Client::open(transport, Node::Unrestricted)?;
    let pages = client.pages(16, true)?;
    let low = client.low(4)?;
    let contiguous = client.contiguous(4)?;
    let own = ctx.user_pages(8)?;
    match client.page_lock(own.address(), 8) {
        Err(error) if !(transport.is_emulated() && error.status() == Some(VERR_NOT_SUPPORTED)) => {
            return Err(error.into());
        }
        _ => {}
    }
    match client.page_map_kernel(own.address(), 0, 8 * PAGE_BYTES as u32) {
        Err(error) if !transport.is_emulated() && error.status() != Some(VERR_NOT_SUPPORTED) => {
            return Err(error.into());
        }
        _ => {}
    }
    let gip = client.gip()?;
    let _module = super::tracer::hold_module(&ctx, &client)?;
    let image = match Probe::new(&ctx, "hold", Kind::Service) {
        Ok(probe) => Some(probe.load(&client)?),
        Err(Stop::NotAvailable(_)) => None,
        Err(stop) => return Err(stop),
    };
    let events =
        [EventType::Single, EventType::Multi].map(|kind| client.sem_create(kind).map(|event| (kind, event)));
    std::thread::scope(|scope| {
        for event in events {
            let (kind, event) = event?;
            for ms in [u32::MAX, 600_000] {
                let client = &client;
                scope.spawn(move || client.sem_wait_ms(kind, event, ms));
            }
        }
        println!(
            "holding {} bytes in 4 kinds of memory, the page at {:#x}, 2 semaphores with 4 threads, {} image",
            pages.size_bytes() + low.size_bytes() + contiguous.size_bytes() + own.count() * PAGE_BYTES,
            gip.addresses().r3,
            usize::from(image.is_some()),
        );
        let _closed_if_nobody_listens = std::io::stdout().flush();
        loop {
            if busy {
                let more = [client.pages(3, true)?, client.low(2)?, client.contiguous(2)?];
                for pages in more {
                    pages.free()?;
                }
                client.sem_close(EventType::Single, client.sem_create(EventType::Single)?)?;
            } else {
                std::thread::sleep(core::time::Duration::from_secs(60));
            }
        }
    })
}
