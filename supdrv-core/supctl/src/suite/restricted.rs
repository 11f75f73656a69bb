//! What everybody may do.

use supdrv_core::abi::ioctl::{Flavour, Function};
use supdrv_core::abi::requests::VtCapsOut;
use supdrv_core::abi::status::{VERR_GENERAL_FAILURE, VERR_INVALID_PARAMETER};

use super::{Case, Check, Ctx, Need, case, fail, same};
use crate::client::FastCall;
use crate::transport::Node;

const GROUP: &str = "restricted";

pub(super) const CASES: &[Case] = &[
    case(GROUP, "may ask for the CPU's capabilities, with the same answer", &[], vt_caps),
    case(GROUP, "needs the cookies for that", &[], vt_caps_without_cookies),
    case(GROUP, "may do nothing else", &[], nothing_else),
    case(GROUP, "is told the same about forbidden and about unknown requests", &[], forbidden_is_unknown),
    case(GROUP, "has no fast calls", &[Need::FastCalls], no_fast_calls),
];

fn vt_caps(ctx: &Ctx<'_>) -> Check {
    let (client, administrator) = (ctx.restricted_client()?, ctx.client()?);
    same("the answer", client.vt_caps(), administrator.vt_caps())
}

fn vt_caps_without_cookies(ctx: &Ctx<'_>) -> Check {
    let device = ctx.device(Node::Restricted)?;
    let mut packet = ctx.bare(Function::VtCaps, size_of::<VtCapsOut>());
    packet.header_mut().session_cookie = 0;
    ctx.refuses(&*device, &mut packet, VERR_INVALID_PARAMETER)
}

fn nothing_else(ctx: &Ctx<'_>) -> Check {
    let client = ctx.restricted_client()?;
    for &function in Function::ALL {
        if matches!(function, Function::Cookie | Function::VtCaps) || function.flavour() == Flavour::Fast {
            continue;
        }
        let mut packet = super::dispatch::well_sized(ctx, function);
        ctx.refuses(client.device(), &mut packet, VERR_GENERAL_FAILURE)?;
    }
    Ok(())
}

fn forbidden_is_unknown(ctx: &Ctx<'_>) -> Check {
    let client = ctx.restricted_client()?;
    let mut forbidden = ctx.bare(Function::GipUnmap, 24);
    let mut unknown = forbidden.clone();
    unknown.set_code(super::dispatch::code_of_number(ctx.encoding(), 36));
    same("the refusal", forbidden.send(client.device()), unknown.send(client.device()))
}

fn no_fast_calls(ctx: &Ctx<'_>) -> Check {
    let client = ctx.restricted_client()?;
    for call in [FastCall::RawRun, FastCall::HmRun, FastCall::Nop] {
        if client.fast(call, 0).is_ok() {
            return fail(format!("{call:?} was accepted"));
        }
    }
    Ok(())
}
