//! Images: opening, uploading, symbols, freeing.

use supdrv_core::abi::ioctl::Function;
use supdrv_core::abi::requests as r;
use supdrv_core::abi::status::{
    VERR_ALREADY_LOADED, VERR_GENERAL_FAILURE, VERR_INVALID_HANDLE, VERR_INVALID_PARAMETER,
    VERR_LDR_MISMATCH_NATIVE, VERR_SUPDRV_SERVICE_NOT_FOUND, VERR_WRONG_ORDER,
};
use supdrv_core::abi::{Status, status};

use super::probe::{Kind, Operation, Probe, TERM_MARK, offset};
use super::{Case, Check, Ctx, Need, case, ensure, fails_with, same, zeroed};
use crate::client::{Client, LoadParameters, name_field};
use crate::packet::Packet;

const GROUP: &str = "images";
const CODE: &[Need] = &[Need::RunsCode];

pub(super) const CASES: &[Case] = &[
    case(GROUP, "the function table has the right length and begins as it must", &[], functions),
    case(GROUP, "the function table is all or nothing", &[], functions_sizes),
    case(GROUP, "an exported function can be called by its address", CODE, call_export),
    case(GROUP, "malformed names are refused", &[], names),
    case(GROUP, "malformed sizes are refused", &[], sizes),
    case(GROUP, "sizes up to the limit are taken", &[], largest),
    case(GROUP, "opening doesn't load, and is remembered", &[], open_does_not_load),
    case(GROUP, "opening with other sizes is refused", &[], open_other_sizes),
    case(GROUP, "an image is uploaded, initialised, called and unloaded", CODE, whole_life),
    case(GROUP, "the term function runs when the last user goes", TERM, term_runs),
    case(GROUP, "a second session finds the image loaded", CODE, second_session),
    case(GROUP, "loading twice is answered, and runs nothing", CODE, load_twice),
    case(GROUP, "a failing init function leaves the image unloaded", CODE, init_fails),
    case(GROUP, "an informational result of the init function is passed on", CODE, init_informs),
    case(GROUP, "malformed tables are refused", &[], malformed_tables),
    case(GROUP, "wrong bases and sizes are answered", &[], wrong_bases),
    case(GROUP, "entry points outside of the image are answered", &[], entry_points_outside),
    case(GROUP, "unknown entry point types are answered", &[], unknown_entry_point_type),
    case(GROUP, "reserved service entry points must be zero", &[], reserved_entry_points),
    case(GROUP, "tables at odd offsets are as good as any", CODE, odd_tables),
    case(GROUP, "symbols are found by their whole name", CODE, symbols),
    case(GROUP, "symbols of images that aren't loaded aren't found", &[], symbols_before_load),
    case(GROUP, "symbol names must end", &[], symbol_names),
    case(GROUP, "freeing needs a reference for each time", &[], free),
    case(GROUP, "another session's image can't be used", CODE, foreign),
    case(GROUP, "closing frees images, however often they were opened", &[], close_frees),
];

const TERM: &[Need] = &[Need::RunsCode, Need::SharedPages];

fn functions(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    let functions = client.query_functions()?;
    same("the number of functions", functions.len(), client.session().function_count as usize)?;
    let name = |index: usize| functions.get(index).map(|export| export.name.clone());
    same("the first name", name(0), Some("SUPR0AbsIs64bit".to_owned()))?;
    let is_64bit = functions.first().map(|export| export.address);
    same("its value", is_64bit, Some(usize::from(cfg!(target_pointer_width = "64"))))?;
    let odd = functions.iter().skip(10).find(|export| export.address == 0 || export.name.is_empty());
    same("a function without name or address", odd, None)
}

fn functions_sizes(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    let count = client.session().function_count as usize;
    for wrong in [0, 1, count - 1, count + 1] {
        let out_bytes = size_of::<r::QueryFuncsOut>() + wrong * size_of::<r::Function>();
        let mut packet = ctx.bare(Function::QueryFuncs, out_bytes);
        ctx.refuses(client.device(), &mut packet, VERR_INVALID_PARAMETER)?;
    }
    Ok(())
}

fn call_export(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    let functions = client.query_functions()?;
    let Some(export) = functions.iter().find(|export| export.name == "SUPR0GetPagingMode") else {
        return super::not_available("this driver doesn't export SUPR0GetPagingMode");
    };
    let probe = Probe::new(ctx, "export", Kind::Service)?.load(&client)?;
    let mode = probe.call(Operation::Call, export.address as u64, None)?;
    same("the paging mode", mode, Status(client.paging_mode()?.0.cast_signed()))
}

fn open_packet(ctx: &Ctx<'_>, with_tables: u32, bits: u32, name: [u8; 32], file_name: [u8; 260]) -> Packet {
    let input =
        r::LdrOpenIn { image_bytes_with_tables: with_tables, image_bytes: bits, name, file_name, ..zeroed() };
    ctx.packet(Function::LdrOpen, &input, size_of::<r::LdrOpenOut>())
}

fn names(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    let mut wrong = vec![[0; 32], [b'a'; 32]];
    for byte in *b";:()[]{}/\\|&*%#@!~`\"'" {
        let mut name = [0; 32];
        for (to, from) in name.iter_mut().zip([b'a', byte, b'b']) {
            *to = from;
        }
        wrong.push(name);
    }
    for name in wrong {
        let mut packet = open_packet(ctx, 0x2000, 0x1000, name, [0; 260]);
        ctx.refuses(client.device(), &mut packet, VERR_INVALID_PARAMETER)?;
    }
    let name = name_field(Function::LdrOpen, "scname")?;
    let mut packet = open_packet(ctx, 0x2000, 0x1000, name, [b'/'; 260]);
    ctx.refuses(client.device(), &mut packet, VERR_INVALID_PARAMETER)
}

fn sizes(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    let name = name_field(Function::LdrOpen, "scsizes")?;
    for (with_tables, bits) in [
        (0, 0),
        (0x1000, 0),
        (0x1000, 0x1000),
        (0x1000, 0x1001),
        (0, 0x1000),
        (0x100_0000, 0x1000),
        (u32::MAX, 0x1000),
        (u32::MAX, u32::MAX - 1),
    ] {
        let mut packet = open_packet(ctx, with_tables, bits, name, [0; 260]);
        ctx.refuses(client.device(), &mut packet, VERR_INVALID_PARAMETER)?;
    }
    Ok(())
}

fn largest(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    let opened = client.ldr_open(&ctx.image_name("large"), 0xff_ffff, 0x1_0000, "/nowhere/at/all")?;
    ensure(opened.needs_loading && opened.base != 0, || format!("{opened:?}"))?;
    Ok(client.ldr_free(opened.base)?)
}

fn open_does_not_load(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    let name = ctx.image_name("open");
    let first = client.ldr_open(&name, 0x2000, 0x1000, "")?;
    let second = client.ldr_open(&name, 0x2000, 0x1000, "")?;
    ensure(first.needs_loading && !first.native, || format!("{first:?}"))?;
    same("the second answer", second, first)?;
    client.ldr_free(first.base)?;
    Ok(client.ldr_free(first.base)?)
}

fn open_other_sizes(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    let probe = Probe::new(ctx, "resized", Kind::Nothing)?;
    let loaded = probe.load(&client)?;
    let (with_tables, bits) = (probe.all.bits.len() as u32, probe.image.len() as u32);
    for (with_tables, bits) in [(with_tables + 1, bits), (with_tables, bits - 1)] {
        let result = client.ldr_open(&probe.name, with_tables, bits, "");
        fails_with(result, VERR_LDR_MISMATCH_NATIVE)?;
    }
    loaded.free()
}

fn whole_life(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    let probe = Probe::new(ctx, "life", Kind::Service)?;
    let opened = probe.open(&client)?;
    ensure(opened.needs_loading, || "it was loaded already".into())?;
    ensure(client.ldr_load(&probe.parameters(opened.base))?, || "it was loaded already".into())?;
    let again = probe.open(&client)?;
    same("needs loading after it was loaded", again.needs_loading, false)?;
    same("the base", again.base, opened.base)?;
    client.ldr_free(again.base)?;
    let call = |operation: Operation, arg| client.call_service(&probe.name, operation as u32, arg, None);
    same("what it returns", call(Operation::Return85, 0)?, Status(85))?;
    same("what it returns", call(Operation::ReturnArgument, 0x1234_5678)?, Status(0x1234_5678))?;
    same("runs of init", call(Operation::InitCount, 0)?, Status(1))?;
    fails_with(call(Operation::ReturnArgument, u64::from((-22_i32).cast_unsigned())), VERR_WRONG_ORDER)?;
    client.ldr_free(opened.base)?;
    fails_with(call(Operation::Return85, 0), VERR_SUPDRV_SERVICE_NOT_FOUND)
}

fn term_runs(ctx: &Ctx<'_>) -> Check {
    let (client, other) = (ctx.client()?, ctx.client()?);
    let page = client.pages(1, true)?;
    let marked = || {
        let mut bytes = [0; 8];
        page.read(0, &mut bytes);
        u64::from_le_bytes(bytes)
    };
    let probe = Probe::new(ctx, "term", Kind::Service)?;
    let (first, second) = (probe.load(&client)?, probe.open(&other)?);
    first.call(Operation::SetTermTarget, page.r0() as u64, None)?;
    first.free()?;
    same("the mark while another session has the image", marked(), 0)?;
    other.ldr_free(second.base)?;
    same("the mark", marked(), TERM_MARK)
}

fn second_session(ctx: &Ctx<'_>) -> Check {
    let (client, other) = (ctx.client()?, ctx.client()?);
    let probe = Probe::new(ctx, "shared", Kind::Service)?;
    let loaded = probe.load(&client)?;
    let opened = probe.open(&other)?;
    same("needs loading", opened.needs_loading, false)?;
    same("the base", opened.base, loaded.base)?;
    same("what it returns", other.call_service(&probe.name, 0, 0, None)?, Status(85))?;
    loaded.free()?;
    same("runs of init", other.call_service(&probe.name, Operation::InitCount as u32, 0, None)?, Status(1))?;
    Ok(other.ldr_free(opened.base)?)
}

fn load_twice(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    let probe = Probe::new(ctx, "twice", Kind::Service)?;
    let loaded = probe.load(&client)?;
    let mut packet = client.ldr_load_packet(&probe.parameters(loaded.base));
    ctx.answers(client.device(), &mut packet, VERR_ALREADY_LOADED)?;
    same("runs of init", loaded.call(Operation::InitCount, 0, None)?, Status(1))
}

fn init_fails(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    let failing = Probe::new(ctx, "failing", Kind::Service)?.with_init_result(-38);
    let opened = failing.open(&client)?;
    let mut packet = client.ldr_load_packet(&failing.parameters(opened.base));
    ctx.answers(client.device(), &mut packet, status::VERR_ACCESS_DENIED)?;
    fails_with(client.ldr_symbol(opened.base, "ModuleInit"), VERR_ALREADY_LOADED)?;
    fails_with(client.call_service(&failing.name, 0, 0, None), VERR_SUPDRV_SERVICE_NOT_FOUND)?;
    same("needs loading", failing.open(&client)?.needs_loading, true)?;
    let working = failing.with_init_result(0);
    client.ldr_load(&working.parameters(opened.base))?;
    same("runs of init", client.call_service(&working.name, 5, 0, None)?, Status(1))?;
    client.ldr_free(opened.base)?;
    Ok(client.ldr_free(opened.base)?)
}

fn init_informs(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    let probe = Probe::new(ctx, "informing", Kind::Service)?.with_init_result(5);
    let opened = probe.open(&client)?;
    let mut packet = client.ldr_load_packet(&probe.parameters(opened.base));
    ctx.answers(client.device(), &mut packet, Status(5))?;
    same("what it returns", client.call_service(&probe.name, 0, 0, None)?, Status(85))?;
    Ok(client.ldr_free(opened.base)?)
}

/// Opens the probe, lets its parameters be bent, and wants the upload to be refused.
fn bent(
    ctx: &Ctx<'_>,
    client: &Client,
    probe: &Probe,
    base: usize,
    bend: impl FnOnce(&mut LoadParameters<'_>),
) -> Check {
    let mut parameters = probe.parameters(base);
    bend(&mut parameters);
    ctx.refuses(client.device(), &mut client.ldr_load_packet(&parameters), VERR_INVALID_PARAMETER)
}

fn malformed_tables(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    let probe = Probe::new(ctx, "tables", Kind::Service)?;
    let opened = probe.open(&client)?;
    let total = probe.all.bits.len() as u32;
    bent(ctx, &client, &probe, opened.base, |p| p.symbol_count = 16385)?;
    bent(ctx, &client, &probe, opened.base, |p| p.symbol_count = u32::MAX)?;
    bent(ctx, &client, &probe, opened.base, |p| p.symbols_offset = total)?;
    bent(ctx, &client, &probe, opened.base, |p| p.symbols_offset = total - 8 * p.symbol_count + 1)?;
    bent(ctx, &client, &probe, opened.base, |p| p.symbols_offset = u32::MAX)?;
    bent(ctx, &client, &probe, opened.base, |p| p.strings_offset = total)?;
    bent(ctx, &client, &probe, opened.base, |p| p.strings_offset += 1)?;
    bent(ctx, &client, &probe, opened.base, |p| p.strings_bytes = u32::MAX)?;
    bent(ctx, &client, &probe, opened.base, |p| p.strings_bytes = 0)?;
    bent(ctx, &client, &probe, opened.base, |p| p.strings_bytes -= 1)?;
    let mut bits = probe.all.bits.clone();
    for (to, from) in bits.iter_mut().skip(probe.all.symbols_offset as usize + 4).zip(total.to_le_bytes()) {
        *to = from;
    }
    let outside = LoadParameters { bits: &bits, ..probe.parameters(opened.base) };
    ctx.refuses(client.device(), &mut client.ldr_load_packet(&outside), VERR_INVALID_PARAMETER)?;
    let mut packet = client.ldr_load_packet(&probe.parameters(opened.base));
    packet.header_mut().in_bytes -= 1;
    ctx.refuses(client.device(), &mut packet, VERR_INVALID_PARAMETER)?;
    same("needs loading", probe.open(&client)?.needs_loading, true)?;
    client.ldr_free(opened.base)?;
    Ok(client.ldr_free(opened.base)?)
}

fn answered(ctx: &Ctx<'_>, client: &Client, parameters: &LoadParameters<'_>, status: Status) -> Check {
    ctx.answers(client.device(), &mut client.ldr_load_packet(parameters), status)
}

fn wrong_bases(ctx: &Ctx<'_>) -> Check {
    let (client, other) = (ctx.client()?, ctx.client()?);
    let probe = Probe::new(ctx, "bases", Kind::Nothing)?;
    let opened = probe.open(&client)?;
    let right = probe.parameters(opened.base);
    for base in [0, opened.base + 1, opened.base + 0x1000, usize::MAX] {
        answered(ctx, &client, &LoadParameters { base, ..right }, VERR_INVALID_HANDLE)?;
    }
    answered(ctx, &other, &right, VERR_INVALID_HANDLE)?;
    let image_bytes = right.image_bytes - 1;
    answered(ctx, &client, &LoadParameters { image_bytes, ..right }, VERR_INVALID_HANDLE)?;
    let mut bits = probe.all.bits.clone();
    bits.push(0);
    answered(ctx, &client, &LoadParameters { bits: &bits, ..right }, VERR_INVALID_HANDLE)?;
    Ok(client.ldr_free(opened.base)?)
}

fn entry_points_outside(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    for kind in [Kind::Service, Kind::Vmmr0] {
        let probe = Probe::new(ctx, "outside", kind)?;
        let opened = probe.open(&client)?;
        let right = probe.parameters(opened.base);
        let end = opened.base + probe.image.len();
        for wrong in [opened.base - 1, end, end + 0x1000, 1, usize::MAX] {
            let status = VERR_INVALID_PARAMETER;
            answered(ctx, &client, &LoadParameters { init: wrong, ..right }, status)?;
            answered(ctx, &client, &LoadParameters { term: wrong, ..right }, status)?;
            for index in 0..if kind == Kind::Vmmr0 { 4 } else { 1 } {
                let mut entry_points = right.entry_points;
                for (_, entry) in entry_points.iter_mut().enumerate().filter(|(at, _)| *at == index) {
                    *entry = wrong;
                }
                answered(ctx, &client, &LoadParameters { entry_points, ..right }, status)?;
            }
        }
        let none = LoadParameters { entry_points: [0; 4], ..right };
        answered(ctx, &client, &none, VERR_INVALID_PARAMETER)?;
        client.ldr_free(opened.base)?;
    }
    Ok(())
}

fn unknown_entry_point_type(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    let probe = Probe::new(ctx, "type", Kind::Nothing)?;
    let opened = probe.open(&client)?;
    for entry_point_type in [3, 4, 0x100, u32::MAX] {
        let wrong = LoadParameters { entry_point_type, ..probe.parameters(opened.base) };
        answered(ctx, &client, &wrong, VERR_INVALID_PARAMETER)?;
    }
    Ok(client.ldr_free(opened.base)?)
}

fn reserved_entry_points(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    let probe = Probe::new(ctx, "reserved", Kind::Service)?;
    let opened = probe.open(&client)?;
    let right = probe.parameters(opened.base);
    let [handler, ..] = right.entry_points;
    for wrong in [[handler, handler, 0, 0], [handler, 0, 1, 0], [handler, 0, 0, usize::MAX]] {
        let wrong = LoadParameters { entry_points: wrong, ..right };
        answered(ctx, &client, &wrong, VERR_INVALID_PARAMETER)?;
    }
    Ok(client.ldr_free(opened.base)?)
}

fn odd_tables(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    let mut probe = Probe::new(ctx, "odd", Kind::Service)?;
    let at = probe.all.symbols_offset as usize;
    probe.all.bits.insert(at, 0xcc);
    probe.all.symbols_offset += 1;
    probe.all.strings_offset += 1;
    let loaded = probe.load(&client)?;
    let address = client.ldr_symbol(loaded.base, "ProbeService")?;
    same("the address", address, loaded.base + offset("ProbeService"))
}

fn symbols(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    let loaded = Probe::new(ctx, "symbols", Kind::Nothing)?.load(&client)?;
    for name in ["ProbeData", "ModuleInit", "ModuleTerm", "ProbeService", "ProbeInitResult"] {
        same(name, client.ldr_symbol(loaded.base, name)?, loaded.base + offset(name))?;
    }
    for name in ["ProbeServic", "ProbeServiceX", "robeService", "probeservice", ""] {
        let input = r::LdrGetSymbolIn {
            image_base: loaded.base,
            symbol: name_field(Function::LdrGetSymbol, name)?,
            ..zeroed()
        };
        let mut packet = ctx.packet(Function::LdrGetSymbol, &input, size_of::<r::LdrGetSymbolOut>());
        ctx.answers(client.device(), &mut packet, VERR_GENERAL_FAILURE)?;
        same("the address", packet.view::<r::LdrGetSymbolOut>().address, 0)?;
    }
    fails_with(client.ldr_symbol(loaded.base + 1, "ModuleInit"), VERR_INVALID_HANDLE)
}

fn symbols_before_load(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    let probe = Probe::new(ctx, "early", Kind::Nothing)?;
    let opened = probe.open(&client)?;
    fails_with(client.ldr_symbol(opened.base, "ModuleInit"), VERR_ALREADY_LOADED)?;
    Ok(client.ldr_free(opened.base)?)
}

fn symbol_names(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    let input = r::LdrGetSymbolIn { symbol: [b'a'; 64], ..zeroed() };
    let mut packet = ctx.packet(Function::LdrGetSymbol, &input, size_of::<r::LdrGetSymbolOut>());
    ctx.refuses(client.device(), &mut packet, VERR_INVALID_PARAMETER)
}

fn free(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    for base in [0, 1, 0x1000, usize::MAX] {
        fails_with(client.ldr_free(base), VERR_INVALID_HANDLE)?;
    }
    let name = ctx.image_name("free");
    let base = client.ldr_open(&name, 0x2000, 0x1000, "")?.base;
    client.ldr_open(&name, 0x2000, 0x1000, "")?;
    client.ldr_free(base)?;
    client.ldr_free(base)?;
    fails_with(client.ldr_free(base), VERR_INVALID_HANDLE)
}

fn foreign(ctx: &Ctx<'_>) -> Check {
    let (owner, other) = (ctx.client()?, ctx.client()?);
    let loaded = Probe::new(ctx, "foreign", Kind::Service)?.load(&owner)?;
    fails_with(other.ldr_free(loaded.base), VERR_INVALID_HANDLE)?;
    fails_with(other.ldr_symbol(loaded.base, "ModuleInit"), VERR_INVALID_HANDLE)?;
    fails_with(other.call_service(&loaded.name, 0, 0, None), VERR_SUPDRV_SERVICE_NOT_FOUND)?;
    same("what it returns", loaded.call(Operation::Return85, 0, None)?, Status(85))
}

fn close_frees(ctx: &Ctx<'_>) -> Check {
    let Some(before) = ctx.transport.counters() else {
        return super::not_available("the driver's counters can't be seen");
    };
    let client = ctx.client()?;
    for tag in ["c1", "c2", "c3"] {
        for _ in 0..3 {
            client.ldr_open(&ctx.image_name(tag), 0x2000, 0x1000, "")?;
        }
    }
    let now = ctx.transport.counters().map_or(0, |counters| counters.images);
    same("the number of images", now, before.images + 3)?;
    drop(client);
    ensure(ctx.until(|| ctx.transport.counters() == Some(before)), || "images are left".into())
}
