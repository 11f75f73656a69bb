//! Malformed packets: headers, codes, cookies, sizes.

use supdrv_core::abi::ioctl::{Encoding, Flavour, Function, INITIAL_COOKIE, IOCTL_FLAG, MAX_REQUEST_BYTES};
use supdrv_core::abi::requests as r;
use supdrv_core::abi::status::{
    VERR_GENERAL_FAILURE, VERR_INVALID_PARAMETER, VERR_INVALID_POINTER, VERR_TOO_MUCH_DATA, VINF_SUCCESS,
};

use super::{Case, Check, Ctx, PRESET, case, ensure, fail, not_available, same};
use crate::packet::Packet;
use crate::transport::{Device, Node};

const GROUP: &str = "malformed";

pub(super) const CASES: &[Case] = &[
    case(GROUP, "every request with a wrong magic is refused", &[], wrong_magic),
    case(GROUP, "every request with a wrong driver cookie is refused", &[], wrong_cookie),
    case(GROUP, "every request with a wrong session cookie is refused", &[], wrong_session_cookie),
    case(GROUP, "every request with less than a header of input is refused", &[], short_input),
    case(GROUP, "every request with less than a header of output is refused", &[], short_output),
    case(GROUP, "every request with a wrong input size is refused", &[], wrong_input_size),
    case(GROUP, "every request with a wrong output size is refused", &[], wrong_output_size),
    case(GROUP, "every request with more than 16 MiB is refused", &[], too_large),
    case(GROUP, "the limit of 16 MiB is inclusive", &[], limit_is_inclusive),
    case(GROUP, "unknown function numbers are refused", &[], unknown_numbers),
    case(GROUP, "wrong cookies win over unknown functions", &[], cookie_before_code),
    case(GROUP, "unknown functions win over wrong sizes", &[], code_before_sizes),
    case(GROUP, "codes of the other pointer width are refused", &[], other_width),
    case(GROUP, "the handshake's cookie is no good for anything else", &[], initial_cookie_elsewhere),
    case(GROUP, "a code without size is as good as one with it", &[], code_without_size),
    case(GROUP, "a code without direction is refused", &[], code_without_direction),
    case(GROUP, "a code whose size isn't the packet's is refused", &[], code_with_other_size),
    case(GROUP, "a packet at an address without memory is refused", &[], no_memory_there),
    case(GROUP, "a packet in memory that can't be written is refused", &[], unwritable),
    case(GROUP, "bytes behind the output are left alone", &[], behind_the_output),
    case(GROUP, "the status on input doesn't matter", &[], status_on_input),
];

/// Sizes of input and output that a request demands; for variable ones those without a variable part.
fn sizes(function: Function) -> (usize, usize) {
    use Function as F;
    const HEADER: usize = r::HEADER_BYTES;
    const fn both<T>() -> (usize, usize) {
        (size_of::<T>(), size_of::<T>())
    }
    const fn input<T>() -> (usize, usize) {
        (size_of::<T>(), HEADER)
    }
    const fn output<T>() -> (usize, usize) {
        (HEADER, size_of::<T>())
    }
    match function {
        F::Cookie => (size_of::<r::CookieIn>(), size_of::<r::CookieOut>()),
        F::QueryFuncs => output::<r::QueryFuncsOut>(),
        F::LdrOpen => (size_of::<r::LdrOpenIn>(), size_of::<r::LdrOpenOut>()),
        F::LdrLoad => (size_of::<r::LdrLoadIn>() + 4, HEADER),
        F::LdrFree => input::<r::LdrFreeIn>(),
        F::LdrGetSymbol => (size_of::<r::LdrGetSymbolIn>(), size_of::<r::LdrGetSymbolOut>()),
        F::CallVmmr0 | F::CallVmmr0Big => both::<r::CallVmmr0In>(),
        F::LowAlloc => (size_of::<r::LowAllocIn>(), size_of::<r::LowAllocOut>()),
        F::PageAllocEx => (size_of::<r::PageAllocExIn>(), size_of::<r::PageAllocExOut>()),
        F::LowFree | F::PageFree | F::PageUnlock | F::ContFree => input::<r::PageFreeIn>(),
        F::PageMapKernel => both::<r::PageMapKernelIn>(),
        F::PageProtect => both::<r::PageProtectIn>(),
        F::PageLock => input::<r::PageLockIn>(),
        F::ContAlloc => (size_of::<r::ContAllocIn>(), size_of::<r::ContAllocOut>()),
        F::GetPagingMode | F::VtCaps => output::<r::GetPagingModeOut>(),
        F::SetVmForFast => input::<r::SetVmForFastIn>(),
        F::GipMap => output::<r::GipMapOut>(),
        F::CallService => both::<r::CallServiceIn>(),
        F::LoggerSettings => (size_of::<r::LoggerSettingsIn>() + 1, HEADER),
        F::SemOp2 => input::<r::SemOp2In>(),
        F::SemOp3 => both::<r::SemOp3In>(),
        F::TracerOpen => input::<r::TracerOpenIn>(),
        F::TracerIoctl => (size_of::<r::TracerIoctlIn>(), size_of::<r::TracerIoctlOut>()),
        F::TracerUmodReg => input::<r::TracerUmodRegIn>(),
        F::TracerUmodDereg => input::<r::TracerUmodDeregIn>(),
        F::TracerUmodFireProbe => (0x108, HEADER),
        F::MsrProber => both::<r::MsrProberIn>(),
        F::GipUnmap | F::TracerClose | F::ResumeSuspendedKbds => (HEADER, HEADER),
        F::FastDoRawRun | F::FastDoHmRun | F::FastDoNop => (0, 0),
    }
}

/// A packet of a request with the right sizes and nothing else in it.
pub(super) fn well_sized(ctx: &Ctx<'_>, function: Function) -> Packet {
    let (in_bytes, out_bytes) = sizes(function);
    let mut packet = ctx.bare(function, out_bytes);
    packet.resize(in_bytes.max(out_bytes));
    packet.header_mut().in_bytes = in_bytes as u32;
    packet
}

/// The code of a function number, known or not, with the size of a header.
pub(super) fn code_of_number(encoding: Encoding, number: u32) -> u32 {
    let number = number | IOCTL_FLAG;
    match encoding {
        Encoding::Linux | Encoding::Bsd | Encoding::Solaris => 0xc018_5600 | number,
        Encoding::Windows => (0x22 << 16) | (2 << 14) | (number << 2),
        Encoding::Os2 => number,
    }
}

/// All requests that have a packet.
fn requests() -> impl Iterator<Item = Function> {
    Function::ALL.iter().copied().filter(|function| function.flavour() != Flavour::Fast)
}

fn every_request(ctx: &Ctx<'_>, mut check: impl FnMut(&dyn Device, Packet, Function) -> Check) -> Check {
    let device = ctx.device(Node::Unrestricted)?;
    requests().try_for_each(|function| check(&*device, well_sized(ctx, function), function))
}

fn wrong_magic(ctx: &Ctx<'_>) -> Check {
    every_request(ctx, |device, packet, _| {
        for flags in [0x4200_0041, 0x4300_0042, 0, u32::MAX] {
            let mut packet = packet.clone();
            packet.header_mut().flags = flags;
            ctx.refuses(device, &mut packet, VERR_INVALID_PARAMETER)?;
        }
        Ok(())
    })
}

fn wrong_cookie(ctx: &Ctx<'_>) -> Check {
    every_request(ctx, |device, mut packet, _| {
        packet.header_mut().cookie ^= 1;
        ctx.refuses(device, &mut packet, VERR_INVALID_PARAMETER)
    })
}

fn wrong_session_cookie(ctx: &Ctx<'_>) -> Check {
    every_request(ctx, |device, mut packet, function| {
        packet.header_mut().session_cookie ^= 1;
        if function == Function::Cookie {
            return Ok(());
        }
        ctx.refuses(device, &mut packet, VERR_INVALID_PARAMETER)
    })
}

fn short_input(ctx: &Ctx<'_>) -> Check {
    every_request(ctx, |device, packet, _| {
        for in_bytes in [0, 23] {
            let mut packet = packet.clone();
            packet.header_mut().in_bytes = in_bytes;
            ctx.refuses(device, &mut packet, VERR_INVALID_PARAMETER)?;
        }
        Ok(())
    })
}

fn short_output(ctx: &Ctx<'_>) -> Check {
    every_request(ctx, |device, packet, _| {
        for out_bytes in [0, 23] {
            let mut packet = packet.clone();
            packet.header_mut().out_bytes = out_bytes;
            ctx.refuses(device, &mut packet, VERR_INVALID_PARAMETER)?;
        }
        Ok(())
    })
}

fn wrong_input_size(ctx: &Ctx<'_>) -> Check {
    every_request(ctx, |device, packet, function| {
        let in_bytes = sizes(function).0 as u32;
        for wrong in [in_bytes - 1, in_bytes + 1, in_bytes + 0x100] {
            let mut packet = packet.clone();
            packet.resize(0x800);
            packet.header_mut().in_bytes = wrong;
            // A longer variable part doesn't match what is inside of it; but strings may well be followed by more NULs.
            if function == Function::LoggerSettings && wrong > in_bytes {
                continue;
            }
            ctx.refuses(device, &mut packet, VERR_INVALID_PARAMETER)?;
        }
        Ok(())
    })
}

fn wrong_output_size(ctx: &Ctx<'_>) -> Check {
    every_request(ctx, |device, packet, function| {
        let out_bytes = sizes(function).1 as u32;
        for wrong in [out_bytes - 1, out_bytes + 1, out_bytes + 0x100] {
            let mut packet = packet.clone();
            packet.resize(0x800);
            packet.header_mut().out_bytes = wrong;
            ctx.refuses(device, &mut packet, VERR_INVALID_PARAMETER)?;
        }
        Ok(())
    })
}

fn too_large(ctx: &Ctx<'_>) -> Check {
    if matches!(ctx.encoding(), Encoding::Windows) {
        return not_available("the I/O manager has no such limit");
    }
    every_request(ctx, |device, packet, function| {
        for (in_bytes, out_bytes) in [(MAX_REQUEST_BYTES + 1, 24), (24, MAX_REQUEST_BYTES + 1)] {
            let mut packet = packet.clone();
            let code = ctx.encoding().code(function, 0, IOCTL_FLAG);
            packet.set_code(code);
            packet.header_mut().in_bytes = in_bytes as u32;
            packet.header_mut().out_bytes = out_bytes as u32;
            ctx.refuses(device, &mut packet, VERR_TOO_MUCH_DATA)?;
        }
        Ok(())
    })
}

fn limit_is_inclusive(ctx: &Ctx<'_>) -> Check {
    let device = ctx.device(Node::Unrestricted)?;
    let mut packet = ctx.bare(Function::QueryFuncs, MAX_REQUEST_BYTES);
    // Far too much room for the functions: the dispatcher's refusal, not the shell's.
    ctx.refuses(&*device, &mut packet, VERR_INVALID_PARAMETER)
}

fn unknown_numbers(ctx: &Ctx<'_>) -> Check {
    let device = ctx.device(Node::Unrestricted)?;
    for number in [0, 36, 37, 48, 63, 67, 68, 100, 127] {
        let mut packet = ctx.bare(Function::GipUnmap, r::HEADER_BYTES);
        packet.set_code(code_of_number(ctx.encoding(), number));
        ctx.refuses(&*device, &mut packet, VERR_GENERAL_FAILURE)?;
    }
    Ok(())
}

fn cookie_before_code(ctx: &Ctx<'_>) -> Check {
    let device = ctx.device(Node::Unrestricted)?;
    let mut packet = ctx.bare(Function::GipUnmap, r::HEADER_BYTES);
    packet.set_code(code_of_number(ctx.encoding(), 36));
    packet.header_mut().cookie = 0;
    ctx.refuses(&*device, &mut packet, VERR_INVALID_PARAMETER)
}

fn code_before_sizes(ctx: &Ctx<'_>) -> Check {
    let client = ctx.restricted_client()?;
    let mut packet = ctx.bare(Function::GetPagingMode, r::HEADER_BYTES);
    ctx.refuses(client.device(), &mut packet, VERR_GENERAL_FAILURE)
}

fn other_width(ctx: &Ctx<'_>) -> Check {
    if ctx.encoding() == Encoding::Os2 {
        return not_available("codes have no width here");
    }
    let device = ctx.device(Node::Unrestricted)?;
    let mut packet = well_sized(ctx, Function::GetPagingMode);
    let code = ctx.encoding().code(Function::GetPagingMode, 0x1c, IOCTL_FLAG ^ 0x80);
    packet.set_code(code);
    ctx.refuses(&*device, &mut packet, VERR_GENERAL_FAILURE)
}

fn initial_cookie_elsewhere(ctx: &Ctx<'_>) -> Check {
    every_request(ctx, |device, mut packet, function| {
        packet.header_mut().cookie = INITIAL_COOKIE;
        if function == Function::Cookie {
            return Ok(());
        }
        ctx.refuses(device, &mut packet, VERR_INVALID_PARAMETER)
    })
}

fn code_without_size(ctx: &Ctx<'_>) -> Check {
    if ctx.encoding() != Encoding::Linux {
        return not_available("only Linux takes such codes");
    }
    let device = ctx.device(Node::Unrestricted)?;
    let mut packet = well_sized(ctx, Function::GetPagingMode);
    packet.set_code(Encoding::Linux.code(Function::GetPagingMode, 0, IOCTL_FLAG));
    ctx.answers(&*device, &mut packet, VINF_SUCCESS)
}

fn code_without_direction(ctx: &Ctx<'_>) -> Check {
    if ctx.encoding() != Encoding::Linux {
        return not_available("only Linux has such codes");
    }
    let device = ctx.device(Node::Unrestricted)?;
    let mut packet = well_sized(ctx, Function::GetPagingMode);
    packet.set_code(0x5600 | Function::GetPagingMode as u32 | IOCTL_FLAG);
    ctx.refuses(&*device, &mut packet, VERR_GENERAL_FAILURE)
}

fn code_with_other_size(ctx: &Ctx<'_>) -> Check {
    if !ctx.encoding_has_sizes() {
        return not_available("codes have no sizes here");
    }
    let device = ctx.device(Node::Unrestricted)?;
    let right = size_of::<r::GetPagingModeOut>() as u32;
    for size in [right - 1, right + 1, right * 2] {
        let mut packet = well_sized(ctx, Function::GetPagingMode);
        packet.set_code(ctx.encoding().code(Function::GetPagingMode, size, IOCTL_FLAG));
        ctx.refuses(&*device, &mut packet, VERR_INVALID_PARAMETER)?;
    }
    Ok(())
}

fn no_memory_there(ctx: &Ctx<'_>) -> Check {
    let device = ctx.device(Node::Unrestricted)?;
    let code = well_sized(ctx, Function::GetPagingMode).code();
    for address in [0, 8, 0x1000, usize::MAX - 4095, usize::MAX / 2 + 1] {
        // SAFETY: nothing can be read at these addresses, in the first pages and in the kernel's half.
        let Some(result) = (unsafe { device.ioctl_at(code, address) }) else {
            return not_available("packets can't be passed by address here");
        };
        let must_be = Err(ctx.transport.refusal(VERR_INVALID_POINTER));
        same(&format!("the call with a packet at {address:#x}"), result, must_be)?;
    }
    Ok(())
}

#[cfg(unix)]
fn unwritable(ctx: &Ctx<'_>) -> Check {
    let device = ctx.device(Node::Unrestricted)?;
    let mut packet = well_sized(ctx, Function::GetPagingMode);
    let code = packet.code();
    let page = crate::pages::Pages::new(1).ok_or_else(|| super::Stop::Fail("no memory".into()))?;
    page.write(0, packet.bytes_mut());
    page.protect_read_only();
    // SAFETY: the packet is there, complete; the page is ours. Not being writable is what is tried here.
    let Some(result) = (unsafe { device.ioctl_at(code, page.address()) }) else {
        return not_available("packets can't be passed by address here");
    };
    same("the call", result, Err(ctx.transport.refusal(VERR_INVALID_POINTER)))
}

#[cfg(not(unix))]
fn unwritable(_: &Ctx<'_>) -> Check {
    not_available("packets can't be passed by address here")
}

fn behind_the_output(ctx: &Ctx<'_>) -> Check {
    let device = ctx.device(Node::Unrestricted)?;
    let mut packet = well_sized(ctx, Function::GetPagingMode);
    let end = packet.bytes().len();
    packet.resize(end + 64);
    packet.put(end, &[0xcc; 64]);
    ctx.answers(&*device, &mut packet, VINF_SUCCESS)?;
    same("what is behind the output", packet.bytes().get(end..), Some(&[0xcc_u8; 64][..]))
}

fn status_on_input(ctx: &Ctx<'_>) -> Check {
    let device = ctx.device(Node::Unrestricted)?;
    for rc in [PRESET.0, 0, -1, 85, i32::MIN] {
        let mut packet = well_sized(ctx, Function::GetPagingMode);
        packet.header_mut().rc = rc;
        ctx.answers(&*device, &mut packet, VINF_SUCCESS)?;
        let mode = packet.view::<r::GetPagingModeOut>().mode;
        ensure(mode <= 10, || format!("paging mode {mode}"))?;
    }
    let mut unknown = ctx.bare(Function::GipUnmap, r::HEADER_BYTES);
    unknown.set_code(code_of_number(ctx.encoding(), 36));
    match unknown.send(&*device) {
        Ok(status) => fail(format!("an unknown request ended with {status}")),
        Err(_) => same("the status", unknown.status(), PRESET),
    }
}

impl Ctx<'_> {
    fn encoding_has_sizes(&self) -> bool {
        matches!(self.encoding(), Encoding::Linux | Encoding::Bsd)
    }
}
