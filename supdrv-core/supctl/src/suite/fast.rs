//! Fast calls.

use supdrv_core::abi::ioctl::Function;
use supdrv_core::abi::requests as r;
use supdrv_core::abi::status::{VERR_INTERNAL_ERROR, VERR_INVALID_PARAMETER, VINF_SUCCESS};

use super::probe::{Kind, Loaded, Probe, Vmmr0Operation};
use super::{Case, Check, Ctx, Need, case, ensure, fail, not_available, same, zeroed};
use crate::client::{Client, FastCall};
use crate::error::Error;
use crate::transport::Refused;

const GROUP: &str = "fast calls";
const FAST: &[Need] = &[Need::FastCalls];
const CODE: &[Need] = &[Need::FastCalls, Need::RunsCode];
const CALLS: [FastCall; 3] = [FastCall::RawRun, FastCall::HmRun, FastCall::Nop];

pub(super) const CASES: &[Case] = &[
    case(GROUP, "fail without a VM", FAST, without_vm),
    case(GROUP, "fail with a VM but without VMMR0", FAST, without_vmmr0),
    case(GROUP, "refuse VM addresses that can't be", &[], impossible_vms),
    case(GROUP, "reach VMMR0 with VM, CPU and operation", CODE, reach_vmmr0),
    case(GROUP, "fail again when the VM is taken back", CODE, vm_taken_back),
    case(GROUP, "are for the session that loaded VMMR0", CODE, foreign),
];

fn must_fail(client: &Client) -> Check {
    for call in CALLS {
        match client.fast(call, 0) {
            Ok(()) => return fail(format!("{call:?} succeeded")),
            Err(Error::Refused { refused: Refused::Status(status), .. }) => {
                same("the status", status, VERR_INTERNAL_ERROR)?;
            }
            Err(_) => {}
        }
    }
    Ok(())
}

/// A page that can stand for a VM.
const VM_PAGES: u32 = 1;

fn without_vm(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    must_fail(&client)?;
    client.set_vm_for_fast(0)?;
    must_fail(&client)
}

fn without_vmmr0(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    let vm = client.pages(VM_PAGES, true)?;
    client.set_vm_for_fast(vm.r0())?;
    must_fail(&client)?;
    Ok(client.set_vm_for_fast(0)?)
}

fn impossible_vms(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    let mut wrong = vec![0x1001, 0x800, 1, usize::MAX, usize::MAX - 4095, 0x123];
    if cfg!(target_pointer_width = "64") {
        wrong.push(0x8000_0000_0000_0000_u64 as usize);
    }
    for vm in wrong {
        let input = r::SetVmForFastIn { vm, ..zeroed() };
        let mut packet = ctx.packet(Function::SetVmForFast, &input, r::HEADER_BYTES);
        ctx.refuses(client.device(), &mut packet, VERR_INVALID_PARAMETER)?;
    }
    let none = ctx.packet(Function::SetVmForFast, &zeroed::<r::SetVmForFastIn>(), r::HEADER_BYTES);
    ctx.answers(client.device(), &mut none.clone(), VINF_SUCCESS)
}

/// VM, CPU, operation and number of the last fast call.
fn last_call(loaded: &Loaded<'_>) -> Check<Vec<u64>> {
    let mut payload = [0; 32];
    loaded.call_vmmr0(Vmmr0Operation::LastFast, 0, Some(&mut payload))?;
    Ok(payload.chunks_exact(8).filter_map(|word| word.try_into().ok()).map(u64::from_le_bytes).collect())
}

fn reach_vmmr0(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    let loaded = Probe::new(ctx, "fast", Kind::Vmmr0)?.load(&client)?;
    let vm = client.pages(VM_PAGES, true)?;
    client.set_vm_for_fast(vm.r0())?;
    for (index, call) in CALLS.into_iter().enumerate() {
        let cpu_id = 3 + index as u32;
        client.fast(call, cpu_id)?;
        let must_be = vec![vm.r0() as u64, cpu_id.into(), index as u64, index as u64 + 1];
        let got = last_call(&loaded)?;
        if ctx.transport.is_emulated() && got.get(1) == Some(&0) {
            return not_available("an emulated kernel loses the CPU's number");
        }
        same("VM, CPU, operation and number of the call", got, must_be)?;
    }
    Ok(client.set_vm_for_fast(0)?)
}

fn vm_taken_back(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    let loaded = Probe::new(ctx, "fastvm", Kind::Vmmr0)?.load(&client)?;
    let vm = client.pages(VM_PAGES, true)?;
    client.set_vm_for_fast(vm.r0())?;
    client.fast(FastCall::Nop, 0)?;
    client.set_vm_for_fast(0)?;
    must_fail(&client)?;
    let count = last_call(&loaded)?.last().copied();
    same("the number of calls", count, Some(1))?;
    client.set_vm_for_fast(vm.r0())?;
    loaded.free()?;
    must_fail(&client)
}

fn foreign(ctx: &Ctx<'_>) -> Check {
    let (owner, other) = (ctx.client()?, ctx.client()?);
    let loaded = Probe::new(ctx, "fastown", Kind::Vmmr0)?.load(&owner)?;
    let vm = other.pages(VM_PAGES, true)?;
    other.set_vm_for_fast(vm.r0())?;
    must_fail(&other)?;
    ensure(last_call(&loaded)?.last() == Some(&0), || "VMMR0 was entered".into())
}
