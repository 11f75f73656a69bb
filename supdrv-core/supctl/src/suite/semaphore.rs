//! The semaphore services.

use core::sync::atomic::{AtomicUsize, Ordering};
use core::time::Duration;

use supdrv_core::abi::ioctl::Function;
use supdrv_core::abi::requests as r;
use supdrv_core::abi::status::{
    VERR_INVALID_FUNCTION, VERR_INVALID_HANDLE, VERR_INVALID_PARAMETER, VERR_NO_MORE_HANDLES, VERR_TIMEOUT,
    VINF_SUCCESS,
};

use super::{Case, Check, Ctx, case, ensure, fails_with, joined, same, zeroed};
use crate::client::{Client, Close, EventType};
use crate::error::Error;
use crate::packet::Packet;

const GROUP: &str = "semaphores";
const KINDS: [EventType; 2] = [Single, Multi];
use EventType::{Multi, Single};

pub(super) const CASES: &[Case] = &[
    case(GROUP, "a session's first handles are 1 and 2", &[], first_handles),
    case(GROUP, "nobody is released by an event that wasn't signalled", &[], timeouts),
    case(GROUP, "a single-release signal releases one wait", &[], single_release),
    case(GROUP, "single-release signals don't add up", &[], signals_do_not_add_up),
    case(GROUP, "a multiple-release signal releases until it is reset", &[], multi_release),
    case(GROUP, "a signal is taken even if the deadline has passed", &[], signal_before_timeout),
    case(GROUP, "a deadline in the past ends at once", &[], past_deadline),
    case(GROUP, "a deadline in the future is waited for", &[], future_deadline),
    case(GROUP, "closing destroys, once", &[], close),
    case(GROUP, "closing handle 0 does nothing", &[], close_nothing),
    case(GROUP, "handles of the other kind are refused", &[], other_kind),
    case(GROUP, "handles that don't exist are refused", &[], no_handle),
    case(GROUP, "handles of another session are refused", &[], foreign),
    case(GROUP, "single-release events can't be reset", &[], no_reset),
    case(GROUP, "unknown kinds and operations are answered", &[], unknown),
    case(GROUP, "reserved fields must be zero", &[], reserved),
    case(GROUP, "creating with a handle is refused", &[], create_with_handle),
    case(GROUP, "the resolution is known", &[], resolution),
    case(GROUP, "a waiting thread is released by another one", &[], released_by_thread),
    case(GROUP, "a waiting thread is released for ever-long waits too", &[], released_for_ever),
    case(GROUP, "each single-release signal wakes one of many", &[], wakes_one),
    case(GROUP, "a multiple-release signal wakes all, even if it is reset at once", &[], wakes_all),
    case(GROUP, "an event that is closed while waited for lives on for the wait", &[], close_while_waiting),
    case(GROUP, "a session has 32768 handles, of both kinds together", &[], all_handles),
    case(GROUP, "closing the session closes its handles", &[], session_close),
];

fn first_handles(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    same("the first handle", client.sem_create(Single)?, 1)?;
    same("the second handle", client.sem_create(Multi)?, 2)
}

fn timeouts(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    for kind in KINDS {
        let event = client.sem_create(kind)?;
        fails_with(client.sem_wait_ms(kind, event, 0), VERR_TIMEOUT)?;
        fails_with(client.sem_wait_ns(kind, event, 0), VERR_TIMEOUT)?;
        for ms in [1, 2, 8, 20] {
            wait_meanwhile(ctx, || fails_with(client.sem_wait_ms(kind, event, ms), VERR_TIMEOUT))?;
            let ns = u64::from(ms) * 1_000_000;
            wait_meanwhile(ctx, || fails_with(client.sem_wait_ns(kind, event, ns), VERR_TIMEOUT))?;
        }
    }
    Ok(())
}

/// Runs something that blocks, letting time pass meanwhile.
fn wait_meanwhile(ctx: &Ctx<'_>, wait: impl Fn() -> Check + Send) -> Check {
    std::thread::scope(|scope| {
        let waiter = scope.spawn(wait);
        if !ctx.until(|| waiter.is_finished()) {
            // The scope would wait for it for ever.
            eprintln!("a wait that must have ended goes on");
        }
        joined(waiter.join())?
    })
}

fn single_release(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    let event = client.sem_create(Single)?;
    for _ in 0..3 {
        client.sem_signal(Single, event)?;
        client.sem_wait_ms(Single, event, 0)?;
        fails_with(client.sem_wait_ms(Single, event, 0), VERR_TIMEOUT)?;
    }
    Ok(())
}

fn signals_do_not_add_up(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    let event = client.sem_create(Single)?;
    client.sem_signal(Single, event)?;
    client.sem_signal(Single, event)?;
    client.sem_wait_ns(Single, event, 0)?;
    fails_with(client.sem_wait_ns(Single, event, 0), VERR_TIMEOUT)
}

fn multi_release(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    let event = client.sem_create(Multi)?;
    client.sem_signal(Multi, event)?;
    for _ in 0..3 {
        client.sem_wait_ms(Multi, event, 0)?;
    }
    client.sem_reset(Multi, event)?;
    fails_with(client.sem_wait_ms(Multi, event, 0), VERR_TIMEOUT)?;
    client.sem_signal(Multi, event)?;
    client.sem_signal(Multi, event)?;
    client.sem_reset(Multi, event)?;
    fails_with(client.sem_wait_ms(Multi, event, 0), VERR_TIMEOUT)
}

fn signal_before_timeout(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    for kind in KINDS {
        let event = client.sem_create(kind)?;
        client.sem_signal(kind, event)?;
        client.sem_wait_until_ns(kind, event, 1)?;
    }
    Ok(())
}

fn past_deadline(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    for kind in KINDS {
        let event = client.sem_create(kind)?;
        for deadline in [0, 1, ctx.transport.monotonic_ns().saturating_sub(1)] {
            fails_with(client.sem_wait_until_ns(kind, event, deadline), VERR_TIMEOUT)?;
        }
    }
    Ok(())
}

fn future_deadline(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    for kind in KINDS {
        let event = client.sem_create(kind)?;
        let deadline = ctx.transport.monotonic_ns() + 20_000_000;
        let wait = || fails_with(client.sem_wait_until_ns(kind, event, deadline), VERR_TIMEOUT);
        wait_meanwhile(ctx, wait)?;
        let now = ctx.transport.monotonic_ns();
        // A system's tick is the most that a wait may be short of its deadline.
        ensure(now + 20_000_000 > deadline, || format!("ended at {now}, before {deadline}"))?;
    }
    Ok(())
}

fn close(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    for kind in KINDS {
        let event = client.sem_create(kind)?;
        same("closing", client.sem_close(kind, event)?, Close::Destroyed)?;
        fails_with(client.sem_close(kind, event), VERR_INVALID_HANDLE)?;
        fails_with(client.sem_signal(kind, event), VERR_INVALID_HANDLE)?;
        fails_with(client.sem_wait_ms(kind, event, 0), VERR_INVALID_HANDLE)?;
    }
    Ok(())
}

fn close_nothing(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    for kind in KINDS {
        same("closing", client.sem_close(kind, 0)?, Close::InUse)?;
    }
    Ok(())
}

fn other_kind(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    for (own, other) in [(Single, Multi), (Multi, Single)] {
        let event = client.sem_create(own)?;
        fails_with(client.sem_signal(other, event), VERR_INVALID_HANDLE)?;
        fails_with(client.sem_wait_ms(other, event, 0), VERR_INVALID_HANDLE)?;
        fails_with(client.sem_wait_until_ns(other, event, 0), VERR_INVALID_HANDLE)?;
        fails_with(client.sem_close(other, event), VERR_INVALID_HANDLE)?;
        same("closing", client.sem_close(own, event)?, Close::Destroyed)?;
    }
    Ok(())
}

fn no_handle(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    for kind in KINDS {
        for handle in [0, 1, 2, 32768, 32769, 0x8000_0001, u32::MAX] {
            fails_with(client.sem_wait_ms(kind, handle, 0), VERR_INVALID_HANDLE)?;
            fails_with(client.sem_wait_ns(kind, handle, u64::MAX), VERR_INVALID_HANDLE)?;
            fails_with(client.sem_signal(kind, handle), VERR_INVALID_HANDLE)?;
        }
        fails_with(client.sem_close(kind, u32::MAX), VERR_INVALID_HANDLE)?;
    }
    Ok(())
}

fn foreign(ctx: &Ctx<'_>) -> Check {
    let (owner, other) = (ctx.client()?, ctx.client()?);
    for kind in KINDS {
        let event = owner.sem_create(kind)?;
        fails_with(other.sem_signal(kind, event), VERR_INVALID_HANDLE)?;
        fails_with(other.sem_wait_ms(kind, event, 0), VERR_INVALID_HANDLE)?;
        fails_with(other.sem_close(kind, event), VERR_INVALID_HANDLE)?;
        same("closing", owner.sem_close(kind, event)?, Close::Destroyed)?;
    }
    let (first, second) = (owner.sem_create(Single)?, other.sem_create(Single)?);
    other.sem_signal(Single, second)?;
    fails_with(owner.sem_wait_ms(Single, first, 0), VERR_TIMEOUT)
}

fn no_reset(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    let event = client.sem_create(Single)?;
    client.sem_signal(Single, event)?;
    fails_with(client.sem_reset(Single, event), VERR_INVALID_FUNCTION)?;
    client.sem_wait_ms(Single, event, 0)?;
    Ok(())
}

fn op2(ctx: &Ctx<'_>, input: r::SemOp2In) -> Packet {
    ctx.packet(Function::SemOp2, &input, r::HEADER_BYTES)
}

fn op3(ctx: &Ctx<'_>, input: r::SemOp3In) -> Packet {
    ctx.packet(Function::SemOp3, &input, size_of::<r::SemOp3In>())
}

fn unknown(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    let device = client.device();
    let handle = client.sem_create(Single)?;
    for sem_type in [2, 3, u32::MAX] {
        for operation in [0, 3, 5, 77] {
            let input = r::SemOp2In { sem_type, handle, operation, ..zeroed() };
            ctx.answers(device, &mut op2(ctx, input), VERR_INVALID_PARAMETER)?;
        }
        let input = r::SemOp3In { sem_type, ..zeroed() };
        ctx.answers(device, &mut op3(ctx, input), VERR_INVALID_PARAMETER)?;
    }
    for operation in [6, 7, u32::MAX] {
        let input = r::SemOp2In { handle, operation, ..zeroed() };
        ctx.answers(device, &mut op2(ctx, input), VERR_INVALID_FUNCTION)?;
    }
    for operation in [2, 3, u32::MAX] {
        let input = r::SemOp3In { operation, ..zeroed() };
        ctx.answers(device, &mut op3(ctx, input), VERR_INVALID_FUNCTION)?;
    }
    Ok(())
}

fn reserved(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    let device = client.device();
    let handle = client.sem_create(Single)?;
    let input = r::SemOp2In { handle, operation: 3, reserved: 1, ..zeroed() };
    ctx.refuses(device, &mut op2(ctx, input), VERR_INVALID_PARAMETER)?;
    fails_with(client.sem_wait_ms(Single, handle, 0), VERR_TIMEOUT)?;
    for input in [r::SemOp3In { reserved: 1, ..zeroed() }, r::SemOp3In { reserved64: 1 << 40, ..zeroed() }] {
        ctx.refuses(device, &mut op3(ctx, input), VERR_INVALID_PARAMETER)?;
    }
    same("the next handle", client.sem_create(Single)?, handle + 1)
}

fn create_with_handle(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    for operation in [0, 1] {
        let input = r::SemOp3In { handle: 5, operation, ..zeroed() };
        ctx.refuses(client.device(), &mut op3(ctx, input), VERR_INVALID_PARAMETER)?;
    }
    same("the first handle", client.sem_create(Single)?, 1)
}

fn resolution(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    let single = client.sem_resolution_ns(Single)?;
    ensure((1..=1_000_000_000).contains(&single), || format!("a resolution of {single} ns"))?;
    same("the resolution of the other kind", client.sem_resolution_ns(Multi)?, single)?;
    let mut packet = op3(ctx, r::SemOp3In { operation: 1, ..zeroed() });
    ctx.answers(client.device(), &mut packet, VINF_SUCCESS)
}

/// Starts a thread that waits, lets it get there, does something, and wants the wait to succeed.
fn released(ctx: &Ctx<'_>, wait: impl Fn() -> Check + Send, release: impl Fn() -> Check) -> Check {
    std::thread::scope(|scope| {
        let waiter = scope.spawn(wait);
        ctx.transport.settle(1);
        let waiting = !waiter.is_finished();
        let result = release();
        if !ctx.until(|| waiter.is_finished()) {
            eprintln!("a thread that must have been released waits on");
        }
        joined(waiter.join())??;
        result?;
        ensure(waiting, || "the wait ended before it was released".into())
    })
}

fn released_by_thread(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    for kind in KINDS {
        let event = client.sem_create(kind)?;
        let wait = || Ok(client.sem_wait_ms(kind, event, 600_000)?);
        released(ctx, wait, || Ok(client.sem_signal(kind, event)?))?;
    }
    Ok(())
}

fn released_for_ever(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    for kind in KINDS {
        let event = client.sem_create(kind)?;
        let signal = || Ok(client.sem_signal(kind, event)?);
        released(ctx, || Ok(client.sem_wait_ms(kind, event, u32::MAX)?), signal)?;
        if kind == Multi {
            client.sem_reset(kind, event)?;
        }
        released(ctx, || Ok(client.sem_wait_ns(kind, event, u64::MAX)?), signal)?;
        if kind == Multi {
            client.sem_reset(kind, event)?;
        }
        released(ctx, || Ok(client.sem_wait_until_ns(kind, event, u64::MAX)?), signal)?;
    }
    Ok(())
}

const WAITERS: usize = 6;

/// Threads that wait for an event, and count themselves when they are released.
fn waiters<'scope>(
    scope: &'scope std::thread::Scope<'scope, '_>,
    client: &'scope Client,
    kind: EventType,
    event: u32,
    released: &'scope AtomicUsize,
) -> Vec<std::thread::ScopedJoinHandle<'scope, Check>> {
    let wait = move || {
        client.sem_wait_ms(kind, event, u32::MAX)?;
        released.fetch_add(1, Ordering::SeqCst);
        Ok(())
    };
    (0..WAITERS).map(|_| scope.spawn(wait)).collect()
}

fn wakes_one(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    let event = client.sem_create(Single)?;
    let count = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let threads = waiters(scope, &client, Single, event, &count);
        ctx.transport.settle(WAITERS);
        let mut result = Ok(());
        for number in 1..=WAITERS {
            client.sem_signal(Single, event)?;
            let arrived = ctx.until(|| count.load(Ordering::SeqCst) >= number);
            ctx.transport.pass_time(Duration::from_millis(10));
            let released = count.load(Ordering::SeqCst);
            result = result.and(ensure(arrived && released == number, || {
                format!("{released} threads were released by {number} signals")
            }));
        }
        // Whatever went wrong, nobody may be left waiting.
        while !threads.iter().all(|thread| thread.is_finished()) {
            client.sem_signal(Single, event)?;
            ctx.transport.pass_time(Duration::from_millis(1));
        }
        threads.into_iter().try_for_each(|thread| joined(thread.join())?)?;
        result
    })
}

fn wakes_all(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    let event = client.sem_create(Multi)?;
    let count = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let threads = waiters(scope, &client, Multi, event, &count);
        ctx.transport.settle(WAITERS);
        client.sem_signal(Multi, event)?;
        client.sem_reset(Multi, event)?;
        let all = ctx.until(|| count.load(Ordering::SeqCst) == WAITERS);
        let released = count.load(Ordering::SeqCst);
        client.sem_signal(Multi, event)?;
        let ended = ctx.until(|| threads.iter().all(|thread| thread.is_finished()));
        if !ended {
            eprintln!("threads that must have been released wait on");
        }
        threads.into_iter().try_for_each(|thread| joined(thread.join())?)?;
        ensure(all, || format!("{released} of {WAITERS} threads were released"))
    })
}

/// What the wait ended with, and what closing did meanwhile.
fn closed_under_a_wait(ctx: &Ctx<'_>, client: &Client, kind: EventType) -> Check<(Result<(), Error>, Close)> {
    let event = client.sem_create(kind)?;
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| client.sem_wait_ms(kind, event, 300));
        ctx.transport.settle(1);
        let closed = client.sem_close(kind, event);
        let again = client.sem_signal(kind, event);
        ctx.until(|| waiter.is_finished());
        let waited = joined(waiter.join())?;
        fails_with(again, VERR_INVALID_HANDLE)?;
        Ok((waited, closed?))
    })
}

fn close_while_waiting(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    for kind in KINDS {
        for attempt in 0..20 {
            let (waited, closed) = closed_under_a_wait(ctx, &client, kind)?;
            // Where nobody can see who waits, a thread may come too late.
            let late = waited.as_ref().is_err_and(|error| error.status() == Some(VERR_INVALID_HANDLE));
            if late && attempt < 19 {
                continue;
            }
            fails_with(waited, VERR_TIMEOUT)?;
            same("closing", closed, Close::InUse)?;
            break;
        }
    }
    Ok(())
}

fn all_handles(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    for number in 1..=32768_u32 {
        let kind = if number.is_multiple_of(2) { Multi } else { Single };
        same("the handle", client.sem_create(kind)?, number)?;
    }
    for kind in KINDS {
        fails_with(client.sem_create(kind), VERR_NO_MORE_HANDLES)?;
    }
    client.sem_signal(Multi, 32768)?;
    client.sem_wait_ms(Multi, 32768, 0)?;
    client.sem_close(Single, 12345)?;
    same("the only free handle", client.sem_create(Multi)?, 12345)?;
    fails_with(client.sem_create(Single), VERR_NO_MORE_HANDLES)
}

fn session_close(ctx: &Ctx<'_>) -> Check {
    let Some(before) = ctx.transport.counters() else {
        return super::not_available("the driver's counters can't be seen");
    };
    let client = ctx.client()?;
    for kind in KINDS {
        for _ in 0..20 {
            client.sem_create(kind)?;
        }
    }
    let now = ctx.transport.counters().map_or(0, |counters| counters.objects);
    same("the number of objects", now, before.objects + 40)?;
    drop(client);
    ensure(ctx.until(|| ctx.transport.counters() == Some(before)), || "objects are left".into())
}
