//! Calls of images: services and VMMR0.

use supdrv_core::abi::Status;
use supdrv_core::abi::ioctl::Function;
use supdrv_core::abi::requests as r;
use supdrv_core::abi::status::{
    VERR_INVALID_HANDLE, VERR_INVALID_PARAMETER, VERR_SUPDRV_SERVICE_NOT_FOUND, VERR_WRONG_ORDER,
    VINF_SUCCESS,
};

use super::probe::{Kind, Operation, Probe, Vmmr0Operation};
use super::{Case, Check, Ctx, Need, case, fails_with, same, zeroed};
use crate::client::{Client, name_field};
use crate::packet::Packet;

const GROUP: &str = "images";
const CODE: &[Need] = &[Need::RunsCode];

pub(super) const CASES: &[Case] = &[
    case(GROUP, "a service is called with and without packet", CODE, service_packets),
    case(GROUP, "a service's packet travels both ways", CODE, service_payload),
    case(GROUP, "a service sees the session that calls it", CODE, service_session),
    case(GROUP, "services that aren't there aren't found", &[], no_service),
    case(GROUP, "malformed service calls are refused", &[], malformed_service_calls),
    case(GROUP, "without VMMR0 its calls come at the wrong time", &[], no_vmmr0),
    case(GROUP, "VMMR0 is called with all its arguments", CODE, vmmr0),
    case(GROUP, "VMMR0 takes small and large packets", CODE, vmmr0_packets),
    case(GROUP, "malformed VMMR0 calls are refused", &[], malformed_vmmr0_calls),
    case(GROUP, "VMMR0 can't be called by a session that didn't load it", CODE, vmmr0_foreign),
    case(GROUP, "freeing an image while it is called is safe", CODE, free_while_called),
];

fn service_packets(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    let loaded = Probe::new(ctx, "packets", Kind::Service)?.load(&client)?;
    same("without a packet", loaded.call(Operation::HasNoPacket, 0, None)?, Status(1))?;
    same("with an empty packet", loaded.call(Operation::HasNoPacket, 0, Some(&mut []))?, VINF_SUCCESS)?;
    same("with a packet", loaded.call(Operation::HasNoPacket, 0, Some(&mut [1, 2]))?, VINF_SUCCESS)
}

fn service_payload(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    let loaded = Probe::new(ctx, "payload", Kind::Service)?.load(&client)?;
    for length in [1, 2, 3, 8, 100, 1000, 4000] {
        let sent: Vec<u8> = (0..length).map(|index| index as u8).collect();
        let mut payload = sent.clone();
        loaded.call(Operation::Invert, 0, Some(&mut payload))?;
        let wrong = payload.iter().zip(&sent).position(|(is, was)| *is != !was);
        same("the first byte that wasn't inverted", wrong, None)?;
    }
    Ok(())
}

fn service_session(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    let loaded = Probe::new(ctx, "session", Kind::Service)?.load(&client)?;
    let mut payload = [0; 8];
    loaded.call(Operation::Session, 0, Some(&mut payload))?;
    same("the session", u64::from_le_bytes(payload), client.session().session as u64)
}

fn no_service(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    for name in ["", "scnothing", "sc nothing of this name"] {
        fails_with(client.call_service(name, 0, 0, None), VERR_SUPDRV_SERVICE_NOT_FOUND)?;
    }
    let loaded = Probe::new(ctx, "noservice", Kind::Nothing)?.load(&client)?;
    fails_with(loaded.call(Operation::Return85, 0, None), VERR_SUPDRV_SERVICE_NOT_FOUND)
}

/// Bends the inner header of a call with a packet, and wants it to be refused.
fn bent_calls(ctx: &Ctx<'_>, client: &Client, function: Function, fixed: &Packet, magic: u32) -> Check {
    let base = fixed.header().in_bytes;
    let call = |in_bytes: u32, out_bytes: u32, magic: u32, inner_bytes: u32| {
        let mut packet = fixed.clone();
        packet.resize(in_bytes.max(out_bytes) as usize);
        packet.put(base as usize, &magic.to_le_bytes());
        packet.put(base as usize + 4, &inner_bytes.to_le_bytes());
        packet.header_mut().in_bytes = in_bytes;
        packet.header_mut().out_bytes = out_bytes;
        packet
    };
    let both = |bytes, magic, inner_bytes| call(bytes, bytes, magic, inner_bytes);
    let mut wrong = vec![
        both(base + 16, magic ^ 1, 16),
        both(base + 16, magic, 15),
        both(base + 16, magic, 17),
        both(base + 16, magic, u32::MAX),
        both(base + 8, magic, 7),
        both(base + 8, magic, 0),
        both(base + 7, magic, 7),
        both(base + 1, magic, 1),
        call(base + 16, base + 24, magic, 16),
        call(base + 16, base, magic, 16),
        call(base + 16, 24, magic, 16),
        call(base, base + 8, magic, 8),
        call(base, 24, magic, 8),
        call(24, base, magic, 8),
    ];
    if function == Function::CallVmmr0Big {
        wrong.push(both(base, magic, 0));
    }
    wrong.iter_mut().try_for_each(|packet| ctx.refuses(client.device(), packet, VERR_INVALID_PARAMETER))
}

fn malformed_service_calls(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    let function = Function::CallService;
    let input = r::CallServiceIn { name: name_field(function, "scnothing")?, ..zeroed() };
    let fixed = ctx.packet(function, &input, size_of::<r::CallServiceIn>());
    bent_calls(ctx, &client, function, &fixed, supdrv_core::abi::ioctl::SERVICE_REQUEST_MAGIC)?;
    let endless = r::CallServiceIn { name: [b'a'; 28], ..zeroed() };
    let mut packet = ctx.packet(function, &endless, size_of::<r::CallServiceIn>());
    ctx.refuses(client.device(), &mut packet, VERR_INVALID_PARAMETER)
}

fn malformed_vmmr0_calls(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    for function in [Function::CallVmmr0, Function::CallVmmr0Big] {
        let fixed = ctx.packet(function, &zeroed::<r::CallVmmr0In>(), size_of::<r::CallVmmr0In>());
        bent_calls(ctx, &client, function, &fixed, supdrv_core::abi::ioctl::VMMR0_REQUEST_MAGIC)?;
    }
    Ok(())
}

fn no_vmmr0(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    let call = crate::client::Vmmr0Call::default();
    fails_with(client.call_vmmr0(call, None), VERR_WRONG_ORDER)?;
    fails_with(client.call_vmmr0(call, Some(&mut [0; 8])), VERR_WRONG_ORDER)?;
    fails_with(client.call_vmmr0(call, Some(&mut [0; 0x2000])), VERR_WRONG_ORDER)
}

fn vmmr0(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    let loaded = Probe::new(ctx, "vmmr0", Kind::Vmmr0)?.load(&client)?;
    same("what it returns", loaded.call_vmmr0(Vmmr0Operation::Return1234, 0, None)?, Status(1234))?;
    let vm = 0x0123_4567_89ab_c000_u64 as usize;
    let mut payload = [0; 32];
    loaded.call_vmmr0(Vmmr0Operation::Arguments, vm, Some(&mut payload))?;
    let words: Vec<u64> =
        payload.chunks_exact(8).filter_map(|word| word.try_into().ok()).map(u64::from_le_bytes).collect();
    let operation = u64::from(Vmmr0Operation::Arguments as u32);
    let session = client.session().session as u64;
    same("its arguments", words, vec![vm as u64, 7 | operation << 32, 0x1122_3344_5566_7788, session])
}

fn vmmr0_packets(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    let loaded = Probe::new(ctx, "vmmr0p", Kind::Vmmr0)?.load(&client)?;
    same("without a packet", loaded.call_vmmr0(Vmmr0Operation::HasNoPacket, 0, None)?, Status(1))?;
    for length in [0, 1, 64, 4000, 5000, 0x8_0000] {
        let sent: Vec<u8> = (0..length).map(|index| index as u8).collect();
        let mut payload = sent.clone();
        loaded.call_vmmr0(Vmmr0Operation::Invert, 0, Some(&mut payload))?;
        let wrong = payload.iter().zip(&sent).position(|(is, was)| *is != !was);
        same(&format!("the first of {length} bytes that wasn't inverted"), wrong, None)?;
    }
    Ok(())
}

fn vmmr0_foreign(ctx: &Ctx<'_>) -> Check {
    let (owner, other) = (ctx.client()?, ctx.client()?);
    let loaded = Probe::new(ctx, "vmmr0f", Kind::Vmmr0)?.load(&owner)?;
    fails_with(other.call_vmmr0(crate::client::Vmmr0Call::default(), None), VERR_WRONG_ORDER)?;
    loaded.free()?;
    fails_with(owner.call_vmmr0(crate::client::Vmmr0Call::default(), None), VERR_WRONG_ORDER)
}

fn free_while_called(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    for round in 0..10 {
        let probe = Probe::new(ctx, &format!("busy{round}"), Kind::Service)?;
        let loaded = probe.load(&client)?;
        let base = loaded.base;
        core::mem::forget(loaded);
        let spin = Operation::Spin as u32;
        let result = std::thread::scope(|scope| {
            let caller = scope.spawn(|| client.call_service(&probe.name, spin, 3_000_000, None));
            std::thread::yield_now();
            client.ldr_free(base)?;
            super::joined(caller.join())
        })?;
        match result {
            Ok(status) => same("what it returns", status, VINF_SUCCESS)?,
            // The image was gone before the call came.
            Err(error) => same("the status", error.status(), Some(VERR_SUPDRV_SERVICE_NOT_FOUND))?,
        }
        fails_with(client.ldr_free(base), VERR_INVALID_HANDLE)?;
    }
    Ok(())
}
