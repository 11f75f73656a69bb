//! Everything that isn't a service of its own: CPU, loggers, tracer, debugging aids.

use supdrv_core::abi::Status;
use supdrv_core::abi::ioctl::{Encoding, Function, VtCaps};
use supdrv_core::abi::requests as r;
use supdrv_core::abi::status::{
    VERR_ACCESS_DENIED, VERR_INVALID_PARAMETER, VERR_NOT_FOUND, VERR_NOT_IMPLEMENTED,
    VERR_SUPDRV_TRACER_NOT_OPENED, VERR_SUPDRV_TRACER_NOT_PRESENT, VINF_SUCCESS,
};

use super::{Case, Check, Ctx, case, ensure, fails_with, not_available, same, zeroed};
use crate::client::{LoggerAction, UserModule};
use crate::error::{Error, Result};
use crate::packet::Packet;

const GROUP: &str = "others";

pub(super) const CASES: &[Case] = &[
    case(GROUP, "the paging mode is one that a CPU can have", &[], paging_mode),
    case(GROUP, "the CPU's capabilities make sense, and don't change", &[], vt_caps),
    case(GROUP, "the debug logger can be destroyed when it isn't there", &[], destroy_debug_logger),
    case(GROUP, "the release logger can't be destroyed", &[], destroy_release_logger),
    case(GROUP, "destroying a logger takes no strings", &[], destroy_with_strings),
    case(GROUP, "settings of a logger that isn't there are not found", &[], settings_of_nothing),
    case(GROUP, "malformed logger settings are refused", &[], malformed_logger_settings),
    case(GROUP, "the MSR prober isn't there", &[], msr_prober),
    case(GROUP, "malformed MSR probes are refused", &[], malformed_msr_probes),
    case(GROUP, "keyboards sleep on Darwin only", &[], keyboards),
    case(GROUP, "without a tracer there is nothing to open", &[], tracer_open),
    case(GROUP, "a tracer that isn't opened can't be closed or commanded", &[], tracer_not_opened),
    case(GROUP, "a module that isn't registered can't be taken back", &[], tracer_deregister),
    case(GROUP, "probes that aren't there are fired without effect", &[], tracer_fire),
    case(GROUP, "malformed user modules are refused", &[], malformed_user_modules),
    case(GROUP, "the tracer's sizes of the era's client are refused", &[], client_library_sizes),
];

fn paging_mode(ctx: &Ctx<'_>) -> Check {
    let mode = ctx.client()?.paging_mode()?;
    if ctx.transport.is_emulated() && mode.0 == 0 {
        return not_available("an emulated kernel can't read the registers");
    }
    let possible = if cfg!(target_pointer_width = "64") { 7..=10 } else { 1..=6 };
    ensure(possible.contains(&mode.0), || format!("mode {} ({})", mode.0, mode.name()))
}

fn vt_caps(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    let answer = client.vt_caps();
    for _ in 0..3 {
        same("the answer", client.vt_caps(), answer.clone())?;
    }
    match answer {
        Ok(caps) => {
            let one = caps.contains(VtCaps::AMD_V) != caps.contains(VtCaps::VT_X);
            ensure(one && VtCaps::from_bits(caps.bits()).is_some(), || format!("capabilities {caps:?}"))
        }
        Err(Error::Failed { status, .. }) => {
            let known = status.name().is_some_and(|name| {
                name.starts_with("VERR_VMX_")
                    || name.starts_with("VERR_SVM_")
                    || name == "VERR_UNSUPPORTED_CPU"
            });
            ensure(known, || format!("ended with {status}"))?;
            let mut packet = ctx.bare(Function::VtCaps, size_of::<r::VtCapsOut>());
            ctx.answers(client.device(), &mut packet, status)?;
            same("the output size", packet.header().out_bytes as usize, r::HEADER_BYTES)
        }
        Err(error) => Err(error.into()),
    }
}

fn logger(ctx: &Ctx<'_>, release: bool, action: LoggerAction, strings: [&str; 3]) -> Check<Result<()>> {
    Ok(ctx.client()?.logger_settings(release, action, strings))
}

fn destroy_debug_logger(ctx: &Ctx<'_>) -> Check {
    Ok(logger(ctx, false, LoggerAction::Destroy, [""; 3])??)
}

fn destroy_release_logger(ctx: &Ctx<'_>) -> Check {
    fails_with(logger(ctx, true, LoggerAction::Destroy, [""; 3])?, VERR_ACCESS_DENIED)
}

fn destroy_with_strings(ctx: &Ctx<'_>) -> Check {
    for release in [false, true] {
        for strings in [["flags", "", ""], ["", "groups", ""], ["", "", "destination"]] {
            let result = logger(ctx, release, LoggerAction::Destroy, strings)?;
            fails_with(result, VERR_INVALID_PARAMETER)?;
        }
    }
    Ok(())
}

fn settings_of_nothing(ctx: &Ctx<'_>) -> Check {
    let result = logger(ctx, false, LoggerAction::Settings, ["enabled", "all", "stdout"])?;
    fails_with(result, VERR_NOT_FOUND)
}

fn malformed_logger_settings(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    let right = r::LoggerSettingsIn { what: 2, ..zeroed() };
    let refused = |input: r::LoggerSettingsIn, strings: &[u8], out_bytes: usize| {
        let mut packet = client.packet(Function::LoggerSettings, &input, strings, out_bytes);
        ctx.refuses(client.device(), &mut packet, VERR_INVALID_PARAMETER)
    };
    refused(r::LoggerSettingsIn { what: 3, ..right }, b"\0", 24)?;
    refused(r::LoggerSettingsIn { which: 2, ..right }, b"\0", 24)?;
    refused(right, b"x", 24)?;
    refused(right, b"\0x", 24)?;
    refused(right, b"", 24)?;
    refused(right, b"\0", 25)?;
    for offset in [1, 2, u32::MAX] {
        refused(r::LoggerSettingsIn { flags_offset: offset, ..right }, b"\0", 24)?;
        refused(r::LoggerSettingsIn { groups_offset: offset, ..right }, b"\0", 24)?;
        refused(r::LoggerSettingsIn { destination_offset: offset, ..right }, b"\0", 24)?;
    }
    Ok(())
}

fn msr_prober(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    fails_with(client.msr_read(0x10), VERR_NOT_IMPLEMENTED)?;
    for operation in 1..=4 {
        let input = r::MsrProberIn { operation, msr: 0x10, cpu_id: u32::MAX, ..zeroed() };
        let mut packet = ctx.packet(Function::MsrProber, &input, size_of::<r::MsrProberOut>());
        let body = packet.bytes().get(r::HEADER_BYTES..).map(<[u8]>::to_vec);
        ctx.answers(client.device(), &mut packet, VERR_NOT_IMPLEMENTED)?;
        same("the output", packet.bytes().get(r::HEADER_BYTES..).map(<[u8]>::to_vec), body)?;
    }
    Ok(())
}

fn malformed_msr_probes(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    for operation in [0, 5, u32::MAX] {
        let input = r::MsrProberIn { operation, ..zeroed() };
        let mut packet = ctx.packet(Function::MsrProber, &input, size_of::<r::MsrProberOut>());
        ctx.refuses(client.device(), &mut packet, VERR_INVALID_PARAMETER)?;
    }
    Ok(())
}

fn keyboards(ctx: &Ctx<'_>) -> Check {
    let result = ctx.client()?.resume_suspended_keyboards();
    match ctx.encoding() {
        Encoding::Bsd if result.is_ok() => Ok(()),
        _ => fails_with(result, VERR_NOT_IMPLEMENTED),
    }
}

/// The tracer's requests are part of the interface, but not of every build.
fn unless_missing<T: core::fmt::Debug>(result: Result<T>, status: Status) -> Check {
    match result {
        Err(Error::Failed { status: VERR_NOT_IMPLEMENTED, .. }) => {
            not_available("this driver was built without tracer")
        }
        result => fails_with(result, status),
    }
}

fn tracer_open(ctx: &Ctx<'_>) -> Check {
    unless_missing(ctx.client()?.tracer_open(1, 2), VERR_SUPDRV_TRACER_NOT_PRESENT)
}

fn tracer_not_opened(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    unless_missing(client.tracer_close(), VERR_SUPDRV_TRACER_NOT_OPENED)?;
    unless_missing(client.tracer_ioctl(1, 2), VERR_SUPDRV_TRACER_NOT_OPENED)
}

fn tracer_deregister(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    for address in [0, 0x1000, usize::MAX] {
        unless_missing(client.tracer_deregister(address), VERR_NOT_FOUND)?;
    }
    Ok(())
}

fn tracer_fire(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    for (probe, bits) in [(0, 64), (0, 32), (u32::MAX, 64), (0x0100_0000, 16), (7, 0)] {
        match client.tracer_fire(probe, bits, &[0xff; 32]) {
            Err(Error::Failed { status: VERR_NOT_IMPLEMENTED, .. }) => {
                return not_available("this driver was built without tracer");
            }
            result => result?,
        }
    }
    Ok(())
}

fn module_packet(ctx: &Ctx<'_>, input: &r::TracerUmodRegIn) -> Packet {
    ctx.packet(Function::TracerUmodReg, input, r::HEADER_BYTES)
}

fn malformed_user_modules(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    let endless = r::TracerUmodRegIn { name: [b'a'; 64], flags: 1, ..zeroed() };
    ctx.refuses(client.device(), &mut module_packet(ctx, &endless), VERR_INVALID_PARAMETER)?;
    let module = UserModule {
        name: "scmodule",
        header_address: 0x40_0000,
        header_r3: 0x1000,
        strings_r3: 0x2000,
        strings_bytes: 100,
        shared: false,
    };
    match client.tracer_register(&module) {
        Ok(()) => super::fail("a module without memory behind it was registered"),
        Err(Error::Failed { status: VERR_NOT_IMPLEMENTED, .. }) => {
            not_available("this driver was built without tracer")
        }
        Err(Error::Failed { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn client_library_sizes(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    let close = ctx.packet(Function::TracerClose, &zeroed::<r::TracerOpenIn>(), r::HEADER_BYTES);
    ctx.refuses(client.device(), &mut close.clone(), VERR_INVALID_PARAMETER)?;
    let deregister = ctx.packet(Function::TracerUmodDereg, &zeroed::<r::TracerUmodRegIn>(), r::HEADER_BYTES);
    ctx.refuses(client.device(), &mut deregister.clone(), VERR_INVALID_PARAMETER)?;
    let nothing = ctx.bare(Function::GipUnmap, r::HEADER_BYTES);
    ctx.answers(client.device(), &mut nothing.clone(), VINF_SUCCESS)
}
