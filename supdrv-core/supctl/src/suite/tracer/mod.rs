//! User-mode tracepoint modules and a tracer that sees them: modules in this process's memory, a tracer as a ring-0 image.
//!
//! The tracer only writes down what it is called with. What a real one would do on its own, enabling probes, is done for it: the suite
//! writes to the kernel memory that the driver has handed to it.

mod image;
mod module;

use std::sync::atomic::{AtomicBool, Ordering};

use supdrv_core::abi::status::{
    VERR_ACCESS_DENIED, VERR_NOT_FOUND, VERR_NOT_IMPLEMENTED, VERR_NOT_SUPPORTED,
    VERR_SUPDRV_TRACER_ALREADY_OPENED, VERR_SUPDRV_TRACER_ALREADY_REGISTERED, VERR_SUPDRV_TRACER_NOT_OPENED,
    VERR_SUPDRV_TRACER_NOT_PRESENT, VERR_SUPDRV_VTG_ALREADY_REGISTERED, VERR_TRY_AGAIN,
};
use supdrv_core::abi::tracer::{HELPERS_VERSION, ProviderCore, TracerHelpers, UserContext};
use supdrv_core::abi::vtg::{LOCATION_ENABLED, NativeLocation};
use zerocopy::{FromZeros, IntoBytes};

use self::image::{State, Tracer, read, read_text};
use self::module::{LOCATIONS, Module, NAME, PROBES, PROVIDER, ids_in_slot};
use super::probe::{Kind, Loaded as Probe, Operation};
use super::{CANNOT_LOCK, Case, Check, Ctx, Need, case, ensure, fails_with, joined, not_available, same};
use crate::client::Client;
use crate::error::Error;

const GROUP: &str = "tracer";

const CODE: &[Need] = &[Need::RunsCode, Need::SharedPages];

pub(super) const CASES: &[Case] = &[
    case(GROUP, "an image registers a tracer, which clients open and command", CODE, opened_and_commanded),
    case(GROUP, "there is one tracer at a time", CODE, one_tracer),
    case(GROUP, "a module of a process gets ids for its locations", CODE, ids),
    case(GROUP, "the tracer sees the provider of a module with all it is made of", CODE, provider),
    case(GROUP, "a module that was there before the tracer is shown to it", CODE, module_first),
    case(GROUP, "a probe arrives with the tracer's id and everything that was fired", CODE, fired),
    case(GROUP, "a probe that isn't enabled doesn't arrive, whatever the process claims", CODE, not_fired),
    case(GROUP, "enabling and disabling shows in the memory of the process", CODE, enabled),
    case(GROUP, "a tracer that doesn't want a provider keeps its module out", CODE, unwanted),
    case(GROUP, "a module that is taken back is forgotten and can come again", CODE, taken_back),
    case(GROUP, "no probe arrives once its module is taken back, while threads fire", CODE, taken_back_busy),
    case(
        GROUP,
        "a tracer goes while a module is registered, and the next one starts anew",
        CODE,
        tracer_goes,
    ),
    case(GROUP, "a session that ends takes its modules along", CODE, session_ends),
    case(GROUP, "a provider that is busy is asked again until it isn't", CODE, busy_provider),
    case(GROUP, "a killed process takes its module along", KILLED, killed),
];

const KILLED: &[Need] = &[Need::RunsCode, Need::SharedPages, Need::Programs];

/// What the probes of a module are called by the tracer.
const TRACER_IDS: [u32; LOCATIONS.len()] = [0x1111, 0x2222, 0x3333];

fn load_probe<'c>(ctx: &Ctx<'_>, client: &'c Client) -> Check<Probe<'c>> {
    super::probe::Probe::new(ctx, "peek", Kind::Service)?.load(client)
}

/// A module of each width. Modules are made before the session that registers them: not every emulated kernel keeps their pages for itself.
fn modules(ctx: &Ctx<'_>) -> Check<[Module; 2]> {
    Ok([Module::new(ctx, 64)?, Module::new(ctx, 32)?])
}

/// Registers a module; not available where modules can't be.
fn register(ctx: &Ctx<'_>, client: &Client, module: &Module) -> Check {
    match module.register(client) {
        Err(Error::Failed { status: VERR_NOT_IMPLEMENTED, .. }) => {
            not_available("this driver was built without tracer")
        }
        Err(Error::Failed { status: VERR_NOT_SUPPORTED, .. }) if !ctx.transport.maps_locked_pages() => {
            not_available("this kernel can't map pages of processes")
        }
        Err(Error::Failed { status: VERR_ACCESS_DENIED, .. }) if ctx.transport.is_emulated() => {
            not_available(CANNOT_LOCK)
        }
        result => Ok(result?),
    }
}

/// The provider that the tracer has seen last.
fn seen_provider(probe: &Probe<'_>, state: &State) -> Check<ProviderCore> {
    ensure(state.provider != 0, || "no provider was shown to the tracer".into())?;
    read(probe, state.provider)
}

/// Does what a tracer does to enable or disable locations of a module.
fn enable(probe: &Probe<'_>, core: &ProviderCore, on: [bool; LOCATIONS.len()]) -> Check {
    let mut counts = [0_u32; PROBES];
    for (index, on) in on.into_iter().enumerate() {
        let id = TRACER_IDS.get(index).copied().unwrap_or(0);
        probe.poke(core.location_states + 8 * index, u64::from(id) | u64::from(on) << 32)?;
        let location = core.locations_enable + index * usize::from(core.enable_location_bytes);
        let flag = u64::from(LOCATION_ENABLED);
        let words = probe.peek(location)? & !flag;
        probe.poke(location, if on { words | flag } else { words })?;
        if let Some(count) = counts.get_mut(index.min(1)) {
            *count += u32::from(on);
        }
    }
    let [first, second] = counts.map(u64::from);
    probe.poke(core.probe_states, first | second << 32)?;
    probe.poke(core.counters, first | second << 32)
}

/// A context in which every byte behind its head is another one.
fn context() -> UserContext {
    let mut context = UserContext::new_zeroed();
    for (index, byte) in context.registers.as_mut_bytes().iter_mut().enumerate() {
        *byte = index as u8 ^ 0xa5;
    }
    context
}

fn fire(client: &Client, id: u32, bits: u8) -> Check {
    Ok(client.tracer_fire(id, bits, context().registers.as_bytes())?)
}

fn opened_and_commanded(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    let probe = load_probe(ctx, &client)?;
    let tracer = Tracer::load(ctx, &client, "trace")?;
    let helpers: TracerHelpers = read(&probe, tracer.state(&probe)?.helpers)?;
    same(
        "the helpers' versions",
        (helpers.version, helpers.end_version),
        (HELPERS_VERSION, HELPERS_VERSION),
    )?;
    let other = ctx.client()?;
    other.tracer_open(0x7e57, 0x1234)?;
    fails_with(other.tracer_open(1, 1), VERR_SUPDRV_TRACER_ALREADY_OPENED)?;
    same("the answer", other.tracer_ioctl(0x1_0000, 0x20_0000)?, 0x21_1235)?;
    let state = tracer.state(&probe)?;
    same("what it was opened with", (state.cookie, state.arg), (0x7e57, 0x1234))?;
    fails_with(client.tracer_ioctl(1, 1), VERR_SUPDRV_TRACER_NOT_OPENED)?;
    other.tracer_close()?;
    fails_with(other.tracer_close(), VERR_SUPDRV_TRACER_NOT_OPENED)?;
    let state = tracer.state(&probe)?;
    same("what it was closed with", state.closed_data, 0x1235)?;
    same("calls", [state.opened, state.commands, state.closed], [1, 1, 1])?;
    other.tracer_open(0, 7)?;
    drop(other);
    same("closes, with the session's end", tracer.state(&probe)?.closed, 2)?;
    tracer.unload()?;
    fails_with(client.tracer_open(1, 2), VERR_SUPDRV_TRACER_NOT_PRESENT)
}

fn one_tracer(ctx: &Ctx<'_>) -> Check {
    let client = ctx.client()?;
    let first = Tracer::load(ctx, &client, "first")?;
    let second = Tracer::try_load(ctx, &client, "second")?.map(drop);
    fails_with(second, VERR_SUPDRV_TRACER_ALREADY_REGISTERED)?;
    first.unload()?;
    Tracer::load(ctx, &client, "third")?.unload()
}

fn ids(ctx: &Ctx<'_>) -> Check {
    let modules = modules(ctx)?;
    let client = ctx.client()?;
    for (slot, module) in modules.iter().enumerate() {
        register(ctx, &client, module)?;
        same("its ids", module.ids(), ids_in_slot(slot))?;
        fails_with(module.register(&client), VERR_SUPDRV_VTG_ALREADY_REGISTERED)?;
        same("its ids after the second attempt", module.ids(), ids_in_slot(slot))?;
    }
    for module in &modules {
        client.tracer_deregister(module.header_r3())?;
        same("its ids when it is taken back", module.ids(), [0; LOCATIONS.len()])?;
    }
    Ok(())
}

/// What is in the provider's record, and behind it.
fn provider_is_right(ctx: &Ctx<'_>, probe: &Probe<'_>, core: &ProviderCore, module: &Module) -> Check {
    let name = read_text(probe, core.name)?;
    let digits = name.strip_prefix(PROVIDER).unwrap_or_default();
    ensure(digits.parse::<u32>().is_ok(), || format!("the provider's name is {name:?}"))?;
    if ctx.transport.capabilities().programs && !cfg!(windows) {
        same("the process in the name", digits, &std::process::id().to_string())?;
    }
    same("the module's name", read_text(probe, core.module_name)?.as_str(), NAME)?;
    same("its width", (core.bits, core.is_umod), (module.bits, 1))?;
    same("the size of a location", usize::from(core.enable_location_bytes), module.location_bytes())?;
    for (index, (line, function)) in LOCATIONS.into_iter().enumerate() {
        let at = core.locations + index * size_of::<NativeLocation>();
        let location: NativeLocation = read(probe, at as u64)?;
        same("a line", location.line, line)?;
        same("a function", read_text(probe, location.function)?.as_str(), function)?;
    }
    Ok(())
}

fn provider(ctx: &Ctx<'_>) -> Check {
    let modules = modules(ctx)?;
    let client = ctx.client()?;
    let probe = load_probe(ctx, &client)?;
    let tracer = Tracer::load(ctx, &client, "trace")?;
    for module in &modules {
        register(ctx, &client, module)?;
        let state = tracer.state(&probe)?;
        provider_is_right(ctx, &probe, &seen_provider(&probe, &state)?, module)?;
        client.tracer_deregister(module.header_r3())?;
        let after = tracer.state(&probe)?;
        same("the provider that is gone", after.gone_provider, state.provider)?;
    }
    let state = tracer.state(&probe)?;
    same("providers that came and went", [state.registered, state.deregistered, state.zombies], [2, 2, 0])
}

fn module_first(ctx: &Ctx<'_>) -> Check {
    let module = Module::new(ctx, 64)?;
    let client = ctx.client()?;
    let probe = load_probe(ctx, &client)?;
    register(ctx, &client, &module)?;
    let tracer = Tracer::load(ctx, &client, "trace")?;
    let state = tracer.state(&probe)?;
    same("providers", state.registered, 1)?;
    provider_is_right(ctx, &probe, &seen_provider(&probe, &state)?, &module)
}

fn fired(ctx: &Ctx<'_>) -> Check {
    let modules = modules(ctx)?;
    let client = ctx.client()?;
    let probe = load_probe(ctx, &client)?;
    let tracer = Tracer::load(ctx, &client, "trace")?;
    let mut session = [0; 8];
    probe.call(Operation::Session, 0, Some(&mut session))?;
    for module in &modules {
        register(ctx, &client, module)?;
        let core = seen_provider(&probe, &tracer.state(&probe)?)?;
        enable(&probe, &core, [true; LOCATIONS.len()])?;
        for (index, (id, tracer_id)) in module.ids().into_iter().zip(TRACER_IDS).enumerate() {
            let before = tracer.state(&probe)?.fired;
            fire(&client, id, module.bits)?;
            let state = tracer.state(&probe)?;
            same("probes that arrived", state.fired, before + 1)?;
            same("the id", state.context.id, tracer_id)?;
            same("the width", state.context.bits, module.bits)?;
            ensure(state.context.registers == context().registers, || {
                format!("location, arguments and registers arrived as {:x?}", state.context.registers)
            })?;
            same("the session", state.session, u64::from_le_bytes(session))?;
            same("the header", state.header, core.header as u64)?;
            let location = core.locations + index * size_of::<NativeLocation>();
            same("the location", state.location, location as u64)?;
        }
        client.tracer_deregister(module.header_r3())?;
    }
    Ok(())
}

fn not_fired(ctx: &Ctx<'_>) -> Check {
    let module = Module::new(ctx, 64)?;
    let client = ctx.client()?;
    let probe = load_probe(ctx, &client)?;
    let tracer = Tracer::load(ctx, &client, "trace")?;
    register(ctx, &client, &module)?;
    let core = seen_provider(&probe, &tracer.state(&probe)?)?;
    enable(&probe, &core, [false, true, false])?;
    let [first, second, third] = module.ids();
    let beyond = third + 1;
    let other_slot = second | 1 << 24;
    for (id, bits) in
        [(first, 64), (third, 64), (beyond, 64), (other_slot, 64), (second, 32), (second, 16), (u32::MAX, 64)]
    {
        fire(&client, id, bits)?;
        same(&format!("probes that arrived after {id:#x} with {bits} bits"), tracer.state(&probe)?.fired, 0)?;
    }
    let stranger = ctx.client()?;
    fire(&stranger, second, 64)?;
    same("probes that arrived from another session", tracer.state(&probe)?.fired, 0)?;
    fire(&client, second, 64)?;
    same("probes that arrived in the end", tracer.state(&probe)?.fired, 1)
}

fn enabled(ctx: &Ctx<'_>) -> Check {
    let modules = modules(ctx)?;
    let client = ctx.client()?;
    let probe = load_probe(ctx, &client)?;
    let tracer = Tracer::load(ctx, &client, "trace")?;
    for module in &modules {
        register(ctx, &client, module)?;
        same("at first", (module.enabled(), module.counters()), ([false; 3], [0; PROBES]))?;
        let core = seen_provider(&probe, &tracer.state(&probe)?)?;
        enable(&probe, &core, [true, true, true])?;
        same("all of them", (module.enabled(), module.counters()), ([true; 3], [1, 2]))?;
        enable(&probe, &core, [false, false, true])?;
        same("one of them", (module.enabled(), module.counters()), ([false, false, true], [0, 1]))?;
        same("ids", module.ids(), ids_in_slot(0))?;
        client.tracer_deregister(module.header_r3())?;
        same("in the end", (module.enabled(), module.counters()), ([false; 3], [0; PROBES]))?;
    }
    Ok(())
}

fn unwanted(ctx: &Ctx<'_>) -> Check {
    let module = Module::new(ctx, 64)?;
    let client = ctx.client()?;
    let probe = load_probe(ctx, &client)?;
    let tracer = Tracer::load(ctx, &client, "trace")?;
    register(ctx, &client, &module)?;
    client.tracer_deregister(module.header_r3())?;
    tracer.answer(&probe, VERR_NOT_SUPPORTED.0, 0, 0)?;
    fails_with(module.register(&client), VERR_NOT_SUPPORTED)?;
    same("the ids", module.ids(), [0; LOCATIONS.len()])?;
    fails_with(client.tracer_deregister(module.header_r3()), VERR_NOT_FOUND)?;
    tracer.answer(&probe, 0, 0, 0)?;
    Ok(module.register(&client)?)
}

fn taken_back(ctx: &Ctx<'_>) -> Check {
    let module = Module::new(ctx, 64)?;
    let client = ctx.client()?;
    let probe = load_probe(ctx, &client)?;
    let tracer = Tracer::load(ctx, &client, "trace")?;
    for round in 1..=3 {
        register(ctx, &client, &module)?;
        let core = seen_provider(&probe, &tracer.state(&probe)?)?;
        enable(&probe, &core, [true; LOCATIONS.len()])?;
        let [id, ..] = module.ids();
        client.tracer_deregister(module.header_r3())?;
        fails_with(client.tracer_deregister(module.header_r3()), VERR_NOT_FOUND)?;
        fire(&client, id, 64)?;
        let state = tracer.state(&probe)?;
        same("calls", [state.registered, state.deregistered, state.fired], [round, round, 0])?;
    }
    Ok(())
}

fn taken_back_busy(ctx: &Ctx<'_>) -> Check {
    let module = Module::new(ctx, 64)?;
    let client = ctx.client()?;
    let probe = load_probe(ctx, &client)?;
    let tracer = Tracer::load(ctx, &client, "trace")?;
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let fires = || -> Check {
            while !stop.load(Ordering::Relaxed) {
                for id in ids_in_slot(0) {
                    fire(&client, id, 64)?;
                }
            }
            Ok(())
        };
        let threads = [(); 3].map(|()| scope.spawn(fires));
        let result = (0..10).try_for_each(|_| {
            register(ctx, &client, &module)?;
            let core = seen_provider(&probe, &tracer.state(&probe)?)?;
            let before = tracer.state(&probe)?.fired;
            enable(&probe, &core, [true; LOCATIONS.len()])?;
            fire(&client, 0, 64)?;
            client.tracer_deregister(module.header_r3())?;
            let after = tracer.state(&probe)?.fired;
            ensure(after != before, || "no probe arrived before".into())?;
            fire(&client, 0, 64)?;
            same("probes that have arrived", tracer.state(&probe)?.fired, after)
        });
        stop.store(true, Ordering::Relaxed);
        for thread in threads {
            joined(thread.join())??;
        }
        result
    })
}

fn tracer_goes(ctx: &Ctx<'_>) -> Check {
    let modules = modules(ctx)?;
    let client = ctx.client()?;
    let probe = load_probe(ctx, &client)?;
    for module in &modules {
        let tracer = Tracer::load(ctx, &client, "trace")?;
        register(ctx, &client, module)?;
        let core = seen_provider(&probe, &tracer.state(&probe)?)?;
        enable(&probe, &core, [true; LOCATIONS.len()])?;
        tracer.unload()?;
        same("without a tracer", (module.enabled(), module.counters()), ([false; 3], [0; PROBES]))?;
        same("its ids", module.ids(), ids_in_slot(0))?;
        fire(&client, 0, module.bits)?;
        let next = Tracer::load(ctx, &client, "next")?;
        let state = next.state(&probe)?;
        same("providers that the next one sees", state.registered, 1)?;
        fire(&client, 0, module.bits)?;
        same("probes before the next one enables them", next.state(&probe)?.fired, 0)?;
        enable(&probe, &seen_provider(&probe, &state)?, [true; LOCATIONS.len()])?;
        fire(&client, 0, module.bits)?;
        same("probes after it", next.state(&probe)?.fired, 1)?;
        client.tracer_deregister(module.header_r3())?;
        next.unload()?;
    }
    Ok(())
}

fn session_ends(ctx: &Ctx<'_>) -> Check {
    let modules = modules(ctx)?;
    let client = ctx.client()?;
    let probe = load_probe(ctx, &client)?;
    let tracer = Tracer::load(ctx, &client, "trace")?;
    let other = ctx.client()?;
    for module in &modules {
        register(ctx, &other, module)?;
    }
    same("providers that came", tracer.state(&probe)?.registered, 2)?;
    drop(other);
    same("providers that went", tracer.state(&probe)?.deregistered, 2)
}

fn busy_provider(ctx: &Ctx<'_>) -> Check {
    let module = Module::new(ctx, 64)?;
    let client = ctx.client()?;
    let probe = load_probe(ctx, &client)?;
    let tracer = Tracer::load(ctx, &client, "trace")?;
    register(ctx, &client, &module)?;
    tracer.answer(&probe, 0, VERR_TRY_AGAIN.0, 0)?;
    client.tracer_deregister(module.header_r3())?;
    same("attempts", tracer.state(&probe)?.deregistered, 1)?;
    // What is left of it keeps nobody from registering again.
    register(ctx, &client, &module)?;
    tracer.answer(&probe, 0, 0, 0)?;
    client.tracer_deregister(module.header_r3())?;
    same("attempts in the end", tracer.state(&probe)?.deregistered, 2)?;
    tracer.unload()?;
    fails_with(client.tracer_open(1, 2), VERR_SUPDRV_TRACER_NOT_PRESENT)
}

fn killed(ctx: &Ctx<'_>) -> Check {
    let module = Module::new(ctx, 64)?;
    let client = ctx.client()?;
    let probe = load_probe(ctx, &client)?;
    let tracer = Tracer::load(ctx, &client, "trace")?;
    // Where this one can't be registered the other program has none either.
    register(ctx, &client, &module)?;
    super::process::hold_and_kill(ctx, false)?;
    let both = ctx.until(|| tracer.state(&probe).is_ok_and(|state| state.deregistered == 1));
    let state = tracer.state(&probe)?;
    ensure(both, || format!("{} of {} providers are gone", state.deregistered, state.registered))?;
    same("providers that came", state.registered, 2)?;
    client.tracer_deregister(module.header_r3())?;
    tracer.unload()
}

/// A module that is registered if that is possible here; for a process that is going to be killed.
pub(super) fn hold_module(ctx: &Ctx<'_>, client: &Client) -> Check<Option<impl Sized>> {
    let module = Module::new(ctx, 64)?;
    match register(ctx, client, &module) {
        Ok(()) => Ok(Some(module)),
        Err(super::Stop::NotAvailable(_)) => Ok(None),
        Err(stop) => Err(stop),
    }
}
