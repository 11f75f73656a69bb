//! Request 1: magic, versions, cookies.

use supdrv_core::abi::ioctl::{COOKIE_MAGIC, DEVEXT_COOKIE, Function, IOC_VERSION, SESSION_COOKIE};
use supdrv_core::abi::requests::{CookieIn, CookieOut, GetPagingModeOut, HEADER_BYTES};
use supdrv_core::abi::status::{
    VERR_INVALID_MAGIC, VERR_INVALID_PARAMETER, VERR_VERSION_MISMATCH, VINF_SUCCESS,
};
use zerocopy::IntoBytes;

use super::{Case, Check, Ctx, case, ensure, same, zeroed};
use crate::client::handshake;
use crate::error::Error;
use crate::packet::Packet;
use crate::transport::Node;

const GROUP: &str = "handshake";

pub(super) const CASES: &[Case] = &[
    case(GROUP, "answers with version, cookies and the number of functions", &[], answers),
    case(GROUP, "accepts every minimum of its own major up to its own minor", &[], accepts_minimums),
    case(GROUP, "refuses newer minors and other majors", &[], refuses_versions),
    case(GROUP, "says what it speaks when versions don't fit", &[], says_its_version),
    case(GROUP, "ignores the requested version", &[], ignores_requested),
    case(GROUP, "wants the initial cookie", &[], wants_initial_cookie),
    case(GROUP, "wants the magic string with its NUL", &[], wants_magic),
    case(GROUP, "leaves the packet's output alone when the magic is wrong", &[], wrong_magic_output),
    case(GROUP, "can be repeated, with the same answer", &[], can_be_repeated),
    case(GROUP, "takes any session cookie and doesn't touch it", &[], any_session_cookie),
    case(GROUP, "accepts all optional header flags", &[], optional_flags),
    case(GROUP, "refuses wrong sizes", &[], wrong_sizes),
    case(GROUP, "isn't needed by a client that knows the cookies", &[], not_needed),
    case(GROUP, "gives restricted sessions no functions", &[], restricted),
    case(GROUP, "gives each session an address of its own", &[], sessions_differ),
];

fn input(requested: u32, minimum: u32) -> CookieIn {
    CookieIn { magic: COOKIE_MAGIC, requested_version: requested, min_version: minimum, ..zeroed() }
}

fn packet(ctx: &Ctx<'_>, input: &CookieIn) -> Packet {
    ctx.packet(Function::Cookie, input, size_of::<CookieOut>())
}

fn answers(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    let answer = client.session();
    same("driver cookie", answer.cookie, DEVEXT_COOKIE)?;
    same("session cookie", answer.session_cookie, SESSION_COOKIE)?;
    same("session version", answer.session_version, IOC_VERSION)?;
    same("driver version", answer.driver_version, IOC_VERSION)?;
    ensure(answer.function_count >= 10, || format!("only {} functions", answer.function_count))?;
    ensure(answer.session != 0, || "no session address".into())
}

fn accepts_minimums(ctx: &Ctx<'_>) -> Check {
    let device = ctx.device(Node::Unrestricted)?;
    for minimum in 0x001a_0000..=IOC_VERSION {
        let answer = handshake(&*device, ctx.encoding(), IOC_VERSION, minimum)?;
        same("session version", answer.session_version, IOC_VERSION)?;
    }
    Ok(())
}

fn refuses_versions(ctx: &Ctx<'_>) -> Check {
    let device = ctx.device(Node::Unrestricted)?;
    for minimum in [0, 1, 0x0019_0003, 0x0019_ffff, 0x001a_0008, 0x001a_ffff, 0x001b_0000, u32::MAX] {
        let mut packet = packet(ctx, &input(IOC_VERSION, minimum));
        ctx.answers(&*device, &mut packet, VERR_VERSION_MISMATCH)?;
    }
    Ok(())
}

fn says_its_version(ctx: &Ctx<'_>) -> Check {
    let device = ctx.device(Node::Unrestricted)?;
    let mut packet = packet(ctx, &input(0x001b_0000, 0x001b_0000));
    ctx.answers(&*device, &mut packet, VERR_VERSION_MISMATCH)?;
    let answer: CookieOut = packet.view();
    same("output size", packet.header().out_bytes as usize, size_of::<CookieOut>())?;
    same("driver cookie", answer.cookie, u32::MAX)?;
    same("session cookie", answer.session_cookie, u32::MAX)?;
    same("session version", answer.session_version, u32::MAX)?;
    same("driver version", answer.driver_version, IOC_VERSION)?;
    same("function count", answer.function_count, 0)?;
    same("session address", answer.session, 0)
}

fn ignores_requested(ctx: &Ctx<'_>) -> Check {
    let device = ctx.device(Node::Unrestricted)?;
    for requested in [0, 0x0019_0000, 0x001a_0004, 0x001b_0000, u32::MAX] {
        let answer = handshake(&*device, ctx.encoding(), requested, 0x001a_0000)?;
        same("session version", answer.session_version, IOC_VERSION)?;
    }
    Ok(())
}

fn wants_initial_cookie(ctx: &Ctx<'_>) -> Check {
    let device = ctx.device(Node::Unrestricted)?;
    for cookie in [DEVEXT_COOKIE, 0, 0x6972_6f75] {
        let mut packet = packet(ctx, &input(IOC_VERSION, IOC_VERSION));
        packet.header_mut().cookie = cookie;
        ctx.refuses(&*device, &mut packet, VERR_INVALID_PARAMETER)?;
    }
    Ok(())
}

fn wants_magic(ctx: &Ctx<'_>) -> Check {
    let device = ctx.device(Node::Unrestricted)?;
    for magic in [*b"The Magic Word?\0", *b"The Magic Word!X", [0; 16], *b"the Magic Word!\0"] {
        let mut packet = packet(ctx, &CookieIn { magic, ..input(IOC_VERSION, IOC_VERSION) });
        ctx.answers(&*device, &mut packet, VERR_INVALID_MAGIC)?;
    }
    Ok(())
}

fn wrong_magic_output(ctx: &Ctx<'_>) -> Check {
    let device = ctx.device(Node::Unrestricted)?;
    let sent = CookieIn { magic: *b"Open, Sesame!!!\0", ..input(IOC_VERSION, IOC_VERSION) };
    let mut packet = packet(ctx, &sent);
    ctx.answers(&*device, &mut packet, VERR_INVALID_MAGIC)?;
    let body = HEADER_BYTES..size_of::<CookieIn>();
    same("the input", packet.bytes().get(body.clone()), sent.as_bytes().get(body))
}

fn can_be_repeated(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    for _ in 0..3 {
        let again = handshake(client.device(), ctx.encoding(), IOC_VERSION, 0x001a_0000)?;
        same("the answer", again, *client.session())?;
    }
    client.paging_mode()?;
    Ok(())
}

fn any_session_cookie(ctx: &Ctx<'_>) -> Check {
    let device = ctx.device(Node::Unrestricted)?;
    for cookie in [0, 0x1122_3344, u32::MAX] {
        let mut packet = packet(ctx, &input(IOC_VERSION, 0x001a_0000));
        packet.header_mut().session_cookie = cookie;
        let before = packet.header();
        ctx.answers(&*device, &mut packet, VINF_SUCCESS)?;
        let header = packet.header();
        same("driver cookie in the header", header.cookie, before.cookie)?;
        same("session cookie in the header", header.session_cookie, cookie)?;
        same("flags in the header", header.flags, before.flags)?;
        same("input size in the header", header.in_bytes, before.in_bytes)?;
        same("output size in the header", header.out_bytes, before.out_bytes)?;
    }
    Ok(())
}

fn optional_flags(ctx: &Ctx<'_>) -> Check {
    let device = ctx.device(Node::Unrestricted)?;
    let mut packet = packet(ctx, &input(IOC_VERSION, 0x001a_0000));
    packet.header_mut().flags = 0x42ff_ff42;
    ctx.answers(&*device, &mut packet, VINF_SUCCESS)
}

fn wrong_sizes(ctx: &Ctx<'_>) -> Check {
    let device = ctx.device(Node::Unrestricted)?;
    let right = (size_of::<CookieIn>() as u32, size_of::<CookieOut>() as u32);
    for (in_bytes, out_bytes) in [
        (right.0 - 1, right.1),
        (right.0 + 1, right.1),
        (right.0, right.1 - 1),
        (right.0, right.1 + 1),
        (24, right.1),
        (right.0, 24),
    ] {
        let mut packet = packet(ctx, &input(IOC_VERSION, 0x001a_0000));
        packet.resize(0x80);
        packet.header_mut().in_bytes = in_bytes;
        packet.header_mut().out_bytes = out_bytes;
        ctx.refuses(&*device, &mut packet, VERR_INVALID_PARAMETER)?;
    }
    Ok(())
}

fn not_needed(ctx: &Ctx<'_>) -> Check {
    let device = ctx.device(Node::Unrestricted)?;
    let mut packet = ctx.bare(Function::GetPagingMode, size_of::<GetPagingModeOut>());
    ctx.answers(&*device, &mut packet, VINF_SUCCESS)
}

fn restricted(ctx: &Ctx<'_>) -> Check {
    let client = ctx.restricted_client()?;
    let answer = client.session();
    same("function count", answer.function_count, 0)?;
    same("session version", answer.session_version, IOC_VERSION)?;
    same("driver cookie", answer.cookie, DEVEXT_COOKIE)?;
    ensure(answer.session != 0, || "no session address".into())?;
    match handshake(client.device(), ctx.encoding(), IOC_VERSION, 0x001b_0000) {
        Err(Error::Failed { status: VERR_VERSION_MISMATCH, .. }) => Ok(()),
        other => super::fail(format!("a newer major ended with {other:?}")),
    }
}

fn sessions_differ(ctx: &Ctx<'_>) -> Check {
    let (one, other) = (ctx.client()?, ctx.client()?);
    let (one, other) = (one.session().session, other.session().session);
    ensure(one != other, || format!("both sessions are at {one:#x}"))
}
