//! User-mode modules: registering, firing, deregistering.

mod tracer_support;
mod vtg_samples;

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use supdrv_core::abi::ioctl::Function;
use supdrv_core::abi::requests as r;
use supdrv_core::abi::status::*;
use supdrv_core::abi::tracer::{LocationState, ProviderCore};
use supdrv_core::abi::vtg::LOCATION_ENABLED;
use supdrv_core::mock::{Client, Host, Kind, Request, replay};
use supdrv_core::os::{OsIdentity, SessionKind};
use supdrv_core::tracer::TracerCounters;
use tracer_support::{Event, FakeTracer, UserModule, enable, fire, fire_r0, umod_deregister};
use vtg_samples::{Sample, named};

/// A driver with a tracer.
struct Setup {
    host: Host,
    tracer: &'static FakeTracer,
}

impl Setup {
    fn new() -> Self {
        Self { host: Host::new(), tracer: FakeTracer::new() }
    }

    /// A sibling driver's session that has registered the tracer.
    fn trace(&self) -> Client<'_> {
        let driver = self.host.open_as(SessionKind::Kernel).unwrap();
        self.tracer.register(&driver).unwrap();
        driver
    }

    fn place(&self, sample: &Sample) -> UserModule {
        UserModule::place(self.host.os(), sample)
    }

    fn counters(&self) -> TracerCounters {
        self.host.driver().tracer().counters()
    }
}

#[test]
fn the_process_gets_its_ids_and_loses_them_again() {
    let setup = Setup::new();
    let client = setup.host.open();
    for (name, record) in [("u32-valid", 16), ("u64-valid", 32)] {
        let module = setup.place(&named(name));
        assert_eq!(module.register(&client), Ok(VINF_SUCCESS));
        assert_eq!(module.ids(0x140, record, 3), [0, 1, 2]);
        let live = |kind| setup.host.os().live(kind);
        let driver_memory = (live(Kind::Memory), live(Kind::Mapping));
        assert_eq!(module.deregister(&client), Ok(VINF_SUCCESS));
        assert_eq!(module.ids(0x140, record, 3), [0, 0, 0]);
        assert_eq!((live(Kind::Memory) + 1, live(Kind::Mapping) + 1), driver_memory, "one lock, one mapping");
        assert_eq!(module.deregister(&client), Err(VERR_NOT_FOUND));
        assert_eq!(module.register(&client), Ok(VINF_SUCCESS), "again, in the same slot");
        assert_eq!(module.ids(0x140, record, 3), [0, 1, 2]);
        module.deregister(&client).unwrap();
    }
    assert_eq!(setup.counters(), TracerCounters::default());
}

#[test]
fn a_provider_is_named_after_its_process_and_points_to_where_it_should() {
    let setup = Setup::new();
    let _driver = setup.trace();
    for (name, bits, record) in [("u32-valid", 32, 16), ("u64-valid", 64, 32)] {
        let client = setup.host.open();
        let module = setup.place(&named(name));
        module.register(&client).unwrap();
        let seen = setup.tracer.seen(0);
        assert_eq!(seen.name, format!("vbxtest{}", setup.host.os().process_id()));
        assert_eq!(seen.module, "smpmod.so");
        assert_eq!((seen.core.bits, seen.core.enable_location_bytes, seen.core.is_umod), (bits, record, 1));
        assert_ne!(seen.core.header, module.header_r3(), "the driver's copy");
        assert_eq!(seen.core.locations, seen.core.header + 0x128, "right behind the object");
        assert_eq!(seen.core.locations_enable - seen.core.counters, 0x140 - 0x120, "the process's memory");
        assert!(seen.core.location_states != 0 && seen.core.probe_states != 0);
        module.deregister(&client).unwrap();
        assert!(setup.tracer.names().is_empty());
    }
}

#[test]
fn modules_of_a_session_have_slots() {
    let setup = Setup::new();
    let client = setup.host.open();
    let modules: Vec<_> = (0..3).map(|_| setup.place(&named("u32-valid"))).collect();
    for (slot, module) in modules.iter().enumerate() {
        module.register(&client).unwrap();
        let first = (slot as u32) << 24;
        assert_eq!(module.ids(0x140, 16, 3), [first, first | 1, first | 2]);
    }
    modules[1].deregister(&client).unwrap();
    assert_eq!(modules[1].register(&client), Ok(VINF_SUCCESS));
    assert_eq!(modules[1].ids(0x140, 16, 1), [0x0100_0000], "the lowest free one");
    assert_eq!(umod_deregister(&client, modules[1].header_r3() + 4), Err(VERR_NOT_FOUND));
    let other = setup.host.open();
    assert_eq!(modules[1].deregister(&other), Err(VERR_NOT_FOUND), "another session's");
}

#[test]
fn a_session_has_thirty_two_modules_and_no_more() {
    let setup = Setup::new();
    let client = setup.host.open();
    let sample = named("u32-valid");
    let modules: Vec<_> = (0..33).map(|_| setup.place(&sample)).collect();
    for module in &modules[..32] {
        assert_eq!(module.register(&client), Ok(VINF_SUCCESS));
    }
    assert_eq!(modules[32].register(&client), Err(VERR_SUPDRV_TRACER_TOO_MANY_PROVIDERS));
    assert_eq!(umod_deregister(&client, 0x1234), Err(VERR_NOT_FOUND), "not what is in the last slot");
    assert_eq!(modules[31].ids(0x140, 16, 1), [0x1f00_0000]);
    modules[31].deregister(&client).unwrap();
    assert_eq!(modules[32].register(&client), Ok(VINF_SUCCESS));
    assert_eq!(setup.counters().copies, 1, "all of them are the same thing");
}

#[test]
fn thirty_one_providers_and_two_more_are_allowed() {
    let setup = Setup::new();
    let client = setup.host.open();
    let modules: Vec<_> = (0..31).map(|_| setup.place(&named("u32-valid"))).collect();
    modules.iter().for_each(|module| assert!(module.register(&client).is_ok()));
    let two = setup.place(&named("u32-2-providers"));
    assert_eq!(two.register(&client), Ok(VINF_SUCCESS));
    assert_eq!(setup.counters().providers, 33);
}

#[test]
fn a_second_registration_of_a_module_leaves_the_first_alone() {
    let setup = Setup::new();
    let client = setup.host.open();
    for name in ["u32-valid", "u64-gap-0"] {
        let module = setup.place(&named(name));
        module.register(&client).unwrap();
        let before = module.memory.to_vec();
        assert_eq!(module.register(&client), Err(VERR_SUPDRV_VTG_ALREADY_REGISTERED));
        assert_eq!(module.memory[..], before[..], "ids are intact");
        module.deregister(&client).unwrap();
    }
}

#[test]
fn memory_of_the_process_is_read_once() {
    let setup = Setup::new();
    let client = setup.host.open();
    for name in ["u32-valid", "u64-valid", "u64-gap-0"] {
        let module = setup.place(&named(name));
        setup.host.os().watch_user_reads();
        module.register(&client).unwrap();
        let mut reads = setup.host.os().take_user_reads();
        assert!(reads.len() > 2, "the module and its strings are read: {reads:x?}");
        reads.sort_by_key(|range| range.start);
        let twice = reads.windows(2).find(|pair| pair[0].end > pair[1].start);
        assert_eq!(twice, None, "{name}: what the process changes in between would be seen");
        module.deregister(&client).unwrap();
    }
}

#[test]
fn copies_are_shared_by_content_and_not_by_uuid() {
    let setup = Setup::new();
    let _driver = setup.trace();
    let (first, second) = (setup.host.open(), setup.host.open());
    let sample = named("u64-valid");
    let (a, b) = (setup.place(&sample), setup.place(&sample));
    a.register(&first).unwrap();
    b.register(&second).unwrap();
    assert_eq!(setup.counters().copies, 1);
    assert_eq!(setup.tracer.seen(0).core.header, setup.tracer.seen(1).core.header);
    assert_ne!(setup.tracer.seen(0).core.location_states, setup.tracer.seen(1).core.location_states);
    // The same UUID over something else: a process can't choose the names another one is traced under.
    let mut other = sample.clone();
    other.memory[other.header_offset + 0x80] = b'V';
    let c = setup.place(&other);
    c.register(&second).unwrap();
    assert_eq!(setup.counters().copies, 2);
    assert!(setup.tracer.names()[2].starts_with("Vbxtest"));
    // The same object with other function names.
    let mut renamed = sample;
    renamed.user.strings[0] = b'Y';
    let d = setup.place(&renamed);
    d.register(&second).unwrap();
    assert_eq!(setup.counters().copies, 3);
    first.close();
    assert_eq!(setup.counters().copies, 3, "the second session still uses it");
    b.deregister(&second).unwrap();
    assert_eq!(setup.counters().copies, 2);
    second.close();
    assert_eq!(setup.counters().copies, 0);
}

#[test]
fn only_an_enabled_probe_fires_and_with_the_tracers_id() {
    let setup = Setup::new();
    let _driver = setup.trace();
    for (name, bits, other_bits, record) in [("u32-valid", 32, 64, 16), ("u64-valid", 64, 32, 32)] {
        let client = setup.host.open();
        let (unused, module) = (setup.place(&named(name)), setup.place(&named(name)));
        unused.register(&client).unwrap();
        module.register(&client).unwrap();
        setup.tracer.take_events();
        let id = module.ids(0x140, record, 3)[1];
        assert_eq!(id, 0x0100_0001);
        fire(&client, id, bits);
        assert_eq!(setup.tracer.take_events(), [], "disabled");
        enable(setup.tracer.seen(1).address, 1, 4242);
        assert_ne!(module.word(0x140 + record) & LOCATION_ENABLED, 0, "the process sees the hint");
        assert_eq!(module.word(0x124), 1);
        fire(&client, id, bits);
        fire_r0(client.session(), setup.host.os(), id, bits);
        let fired = Event::Fire { id: 4242, bits, line: 200 };
        assert_eq!(setup.tracer.take_events(), [fired.clone(), fired.clone()]);
        for (id, bits) in [
            (id, other_bits),
            (id, 16),
            (id - 1, bits),
            (0x0100_0003, bits),
            (0x0000_0001, bits),
            (0x0200_0001, bits),
            (0x2000_0000, bits),
            (u32::MAX, bits),
        ] {
            fire(&client, id, bits);
            assert_eq!(setup.tracer.take_events(), [], "{id:#x}, {bits} bits");
        }
        let stranger = setup.host.open();
        fire(&stranger, id, bits);
        assert_eq!(setup.tracer.take_events(), [], "another session");
        module.deregister(&client).unwrap();
        setup.tracer.take_events();
        fire(&client, id, bits);
        assert_eq!(setup.tracer.take_events(), [], "deregistered");
    }
}

/// What the process writes over its hints changes nothing.
#[test]
fn a_process_can_not_enable_probes_by_itself() {
    let setup = Setup::new();
    let _driver = setup.trace();
    let client = setup.host.open();
    let mut module = setup.place(&named("u64-valid"));
    module.register(&client).unwrap();
    setup.tracer.take_events();
    let at = module.header_offset;
    module.memory[at + 0x143] |= 0x80;
    module.memory[at + 0x120] = 9;
    fire(&client, 0, 64);
    assert_eq!(setup.tracer.take_events(), []);
    enable(setup.tracer.seen(0).address, 0, 1);
    module.memory[at + 0x140..at + 0x1a0].fill(0xff);
    fire(&client, 0, 64);
    let fired = setup.tracer.take_events();
    assert_eq!(fired, [Event::Fire { id: 1, bits: 64, line: 100 }], "the driver's copy");
}

#[test]
fn what_was_enabled_can_be_registered_again() {
    let setup = Setup::new();
    let driver = setup.trace();
    let client = setup.host.open();
    let module = setup.place(&named("u32-valid"));
    module.register(&client).unwrap();
    enable(setup.tracer.seen(0).address, 0, 1);
    enable(setup.tracer.seen(0).address, 2, 1);
    module.deregister(&client).unwrap();
    assert_eq!([module.word(0x120), module.word(0x124), module.word(0x140)], [0, 0, 100]);
    assert_eq!(module.register(&client), Ok(VINF_SUCCESS));
    // The same when the tracer goes: the next one starts from zero, and the process sees it.
    let core = setup.tracer.seen(0).core;
    enable(setup.tracer.seen(0).address, 1, 1);
    setup.tracer.remove(&driver).unwrap();
    assert_eq!([module.word(0x124), module.word(0x150)], [0, 200]);
    // SAFETY: the module is registered, so that its states exist.
    let state = unsafe { &*(core.location_states as *const LocationState).add(1) };
    assert_eq!((state.id.load(Ordering::Relaxed), state.enabled.load(Ordering::Relaxed)), (0, 0));
    assert_eq!(module.ids(0x140, 16, 3), [0, 1, 2], "the process's ids stay");
}

#[test]
fn memory_that_is_not_there_is_refused_and_nothing_stays() {
    let setup = Setup::new();
    let client = setup.host.open();
    let before = setup.host.os().live_all();
    for name in ["u32-valid", "u64-valid"] {
        let module = setup.place(&named(name));
        module.strings.set_faults(0, true);
        assert_eq!(module.register(&client), Err(VERR_ACCESS_DENIED), "names");
        module.strings.set_faults(0, false);
        module.memory.set_faults(0, true);
        assert_eq!(module.register(&client), Err(VERR_ACCESS_DENIED), "object");
        module.memory.set_faults(0, false);
        module.memory.protect(0, 1, supdrv_core::os::MemProt::READ);
        assert_eq!(module.register(&client), Err(VERR_LOCK_FAILED), "it must be writable");
        module.memory.protect(0, 1, supdrv_core::os::MemProt::READ | supdrv_core::os::MemProt::WRITE);
        setup.host.os().set_maps_locked(false);
        assert_eq!(module.register(&client), Err(VERR_NOT_SUPPORTED));
        setup.host.os().set_maps_locked(true);
        assert_eq!(setup.host.os().live_all(), before);
        assert_eq!(setup.counters(), TracerCounters::default());
    }
}

#[test]
fn another_process_has_no_modules_in_this_session() {
    let setup = Setup::new();
    let client = setup.host.open();
    let child = setup.host.os().new_process(1, 1);
    setup.host.os().run_as(child, || {
        let module = UserModule::place(setup.host.os(), &named("u32-valid"));
        assert_eq!(module.register(&client), Err(VERR_ACCESS_DENIED));
    });
}

/// The largest module that can be locked, and one location more.
#[test]
fn sixty_four_kib_are_locked_and_not_more() {
    let setup = Setup::new();
    let client = setup.host.open();
    let with_locations = |count: usize| {
        let mut sample = named("u32-valid");
        let end = sample.user.header_address as u32 + 0x140 + 16 * count as u32;
        let first = sample.header_offset + 0x140;
        let record: [u8; 16] = sample.memory[first..first + 16].try_into().unwrap();
        sample.memory.resize(first + 16 * count, 0);
        sample.memory[first..].chunks_exact_mut(16).for_each(|to| to.copy_from_slice(&record));
        let at = sample.header_offset + 0x58;
        sample.memory[at..at + 4].copy_from_slice(&end.to_le_bytes());
        sample
    };
    let module = setup.place(&with_locations(4074));
    assert_eq!(module.register(&client), Ok(VINF_SUCCESS));
    assert_eq!(module.ids(0x140, 16, 4074).last(), Some(&4073));
    let more = setup.place(&with_locations(4075));
    assert_eq!(more.register(&client), Err(VERR_SUPDRV_TRACER_UMOD_TOO_MANY_PROBES));
}

#[test]
fn a_name_without_end_is_refused_without_an_answer() {
    let setup = Setup::new();
    let client = setup.host.open();
    let mut module = setup.place(&named("u32-valid"));
    module.request.name = [b'x'; 64];
    let request = Request::new(Function::TracerUmodReg).input(&module.request);
    let reply = client.send(&request);
    assert_eq!(reply.status(), Err(VERR_INVALID_PARAMETER));
    assert_eq!(reply.rc().0, 0x5a5a_5a5a, "the header is as the client sent it");
    // The deregistration of client libraries of the era has the size of a registration.
    let odd = Request::new(Function::TracerUmodDereg).input(&r::TracerUmodRegIn { ..module.request });
    assert_eq!(client.send(&odd).status(), Err(VERR_INVALID_PARAMETER));
}

#[test]
fn a_refusing_tracer_undoes_the_registration() {
    let setup = Setup::new();
    let _driver = setup.trace();
    let client = setup.host.open();
    let before = setup.host.os().live_all();
    let module = setup.place(&named("u64-2-providers"));
    let bytes = module.memory.to_vec();
    setup.tracer.play().register.extend([0, VERR_INVALID_PARAMETER.0]);
    assert_eq!(module.register(&client), Err(VERR_INVALID_PARAMETER));
    assert_eq!(module.memory[..], bytes[..]);
    assert_eq!(setup.host.os().live_all(), before);
    assert_eq!(setup.counters(), TracerCounters::default());
    assert!(setup.tracer.names().is_empty());
}

#[test]
fn closing_with_a_busy_tracer_leaves_zombies_that_point_nowhere() {
    let setup = Setup::new();
    let driver = setup.trace();
    let client = setup.host.open();
    let modules = [setup.place(&named("u32-valid")), setup.place(&named("u64-valid"))];
    modules.iter().for_each(|module| assert!(module.register(&client).is_ok()));
    tracer_support::tracer_open(&client, 0, 0).unwrap();
    let cores: Vec<_> = (0..2).map(|index| setup.tracer.seen(index).address).collect();
    let memory = |kind| setup.host.os().live(kind);
    let before = (memory(Kind::Memory), memory(Kind::Mapping));
    setup.tracer.play().deregister.extend([VERR_TRY_AGAIN.0; 2]);
    client.close();
    assert_eq!((memory(Kind::Memory) + 2, memory(Kind::Mapping) + 2), before);
    assert_eq!(setup.counters(), TracerCounters { zombies: 2, ..Default::default() });
    for core in cores {
        // SAFETY: the cores of zombies stay.
        let core = unsafe { (core as *const ProviderCore).read() };
        let pointers = [
            core.header,
            core.desc,
            core.locations,
            core.locations_enable,
            core.counters,
            core.location_states,
            core.probe_states,
        ];
        assert_eq!(pointers, [0; 7]);
    }
    setup.tracer.remove(&driver).unwrap();
    assert_eq!(setup.counters(), TracerCounters::default());
}

#[test]
fn a_process_that_is_gone_leaves_nothing_behind() {
    let setup = Setup::new();
    let process = setup.host.os().new_process(1, 1);
    let client = setup.host.os().run_as(process, || setup.host.open());
    let module = setup.host.os().run_as(process, || {
        let module = UserModule::place(setup.host.os(), &named("u32-valid"));
        module.register(&client).unwrap();
        module
    });
    setup.host.os().process_exits(process);
    client.close();
    drop(module);
    assert_eq!(setup.counters(), TracerCounters::default());
}

/// Four threads fire while the module is taken away: once the request is done, nobody is in the tracer for it.
#[test]
fn no_probe_fires_after_its_module_was_deregistered() {
    let setup = Setup::new();
    let _driver = setup.trace();
    let client = setup.host.open();
    let inside = &*Box::leak(Box::new(AtomicU32::new(0)));
    let gone = &*Box::leak(Box::new(AtomicBool::new(false)));
    for _ in 0..50 {
        let module = setup.place(&named("u32-valid"));
        module.register(&client).unwrap();
        gone.store(false, Ordering::SeqCst);
        enable(setup.tracer.seen(0).address, 0, 1);
        setup.tracer.play().on_fire = Some(Box::new(|| {
            inside.fetch_add(1, Ordering::SeqCst);
            assert!(!gone.load(Ordering::SeqCst), "a probe of a deregistered module");
            inside.fetch_sub(1, Ordering::SeqCst);
        }));
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        fire(&client, 0, 32);
                    }
                });
            }
            while setup.tracer.play().events.len() < 20 {
                std::thread::yield_now();
            }
            module.deregister(&client).unwrap();
            gone.store(true, Ordering::SeqCst);
            assert_eq!(inside.load(Ordering::SeqCst), 0);
            stop.store(true, Ordering::Relaxed);
        });
        setup.tracer.take_events();
    }
}

/// Threads fire while the tracer comes and goes.
#[test]
fn no_probe_fires_into_a_tracer_that_was_removed() {
    let setup = Setup::new();
    let driver = setup.host.open_as(SessionKind::Kernel).unwrap();
    let client = setup.host.open();
    let module = setup.place(&named("u64-valid"));
    module.register(&client).unwrap();
    let stop = AtomicBool::new(false);
    let mut fired = 0;
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    fire(&client, 2, 64);
                    std::thread::yield_now();
                }
            });
        }
        for _ in 0..50 {
            let tracer = FakeTracer::new();
            tracer.register(&driver).unwrap();
            enable(tracer.seen(0).address, 2, 3);
            while !tracer.play().events.iter().any(|event| matches!(event, Event::Fire { .. })) {
                std::thread::yield_now();
            }
            tracer.remove(&driver).unwrap();
            fired += tracer.take_events().len();
            std::thread::yield_now();
            assert_eq!(tracer.take_events(), [], "removed");
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(fired >= 150);
}

/// Several threads register and deregister the same modules in one session.
#[test]
fn threads_that_register_and_deregister_the_same_modules_agree() {
    let setup = Setup::new();
    let _driver = setup.trace();
    let client = setup.host.open();
    let modules: Vec<_> = (0..2).map(|_| setup.place(&named("u32-valid"))).collect();
    let header = |index: usize| modules[index].request;
    let balance = AtomicU32::new(0);
    let requests = [header(0), header(1)];
    std::thread::scope(|scope| {
        for thread in 0..3_usize {
            let (client, balance) = (&client, &balance);
            scope.spawn(move || {
                for round in 0..200 {
                    let request = requests[(thread + round) % 2];
                    match client.send(&Request::new(Function::TracerUmodReg).input(&request)).status() {
                        Ok(_) => _ = balance.fetch_add(1, Ordering::SeqCst),
                        // The ids of a registration that is going are still in the process's memory.
                        Err(VERR_SUPDRV_VTG_ALREADY_REGISTERED | VERR_SUPDRV_VTG_BAD_PROBE_LOC) => {}
                        Err(status) => panic!("{status:?}"),
                    }
                    match umod_deregister(client, request.header_r3) {
                        Ok(_) => _ = balance.fetch_sub(1, Ordering::SeqCst),
                        Err(status) => assert_eq!(status, VERR_NOT_FOUND),
                    }
                }
            });
        }
    });
    assert_eq!(setup.counters().providers, balance.load(Ordering::SeqCst) as usize);
}

#[test]
fn registering_a_module_survives_every_failure() {
    let replayed = replay(|os| {
        let host = Host::on(os)?;
        let client = host.step(|| host.open_as(SessionKind::User));
        for name in ["u32-2-providers", "u64-valid"] {
            let module = UserModule::place(os, &named(name));
            let bytes = module.memory.to_vec();
            host.step(|| {
                let result = module.register(&client);
                assert!(result.is_ok() || module.memory[..] == bytes[..], "untouched");
                result
            });
            fire(&client, 0, 32);
            host.step(|| module.deregister(&client));
            assert_eq!(host.driver().tracer().counters(), TracerCounters::default());
        }
        Ok(())
    });
    assert!(replayed.calls > 30);
}
