//! Providers, tracers, and sessions that talk to them.

mod tracer_support;
mod vtg_samples;

use std::sync::atomic::Ordering;
use std::time::Duration;

use supdrv_core::abi::Status;
use supdrv_core::abi::ioctl::Function;
use supdrv_core::abi::requests as r;
use supdrv_core::abi::status::*;
use supdrv_core::abi::tracer::{HELPERS_VERSION, TracerReg};
use supdrv_core::mock::packet::zeroed;
use supdrv_core::mock::{Client, Host, MockOs, Request, replay};
use supdrv_core::os::{NIL_HANDLE, SessionKind};
use supdrv_core::tracer::{Registrant, TracerCounters};
use tracer_support::{
    Event, FakeImage, FakeTracer, KernelObject, UserModule, enable, register_record, tracer_close,
    tracer_ioctl, tracer_open,
};
use vtg_samples::named;

const KERNEL: &str = if cfg!(target_pointer_width = "64") { "64" } else { "32" };

fn image_object() -> KernelObject {
    KernelObject::place(&named(&format!("k{KERNEL}-valid")))
}

fn driver_object() -> KernelObject {
    KernelObject::place(&named(&format!("d{KERNEL}-valid")))
}

fn sibling(host: &Host) -> Client<'_> {
    host.open_as(SessionKind::Kernel).expect("a sibling driver can connect")
}

fn counters(host: &Host) -> TracerCounters {
    host.driver().tracer().counters()
}

fn counts(host: &Host) -> (usize, usize) {
    let counters = counters(host);
    (counters.providers, counters.zombies)
}

#[test]
fn a_new_driver_has_helpers_and_no_tracer() {
    let mut host = Host::new();
    for word in &host.view().tracer_helpers {
        assert_eq!(word.load(Ordering::Relaxed), HELPERS_VERSION);
    }
    assert_ne!(host.view().tracer_mutex.load(Ordering::Relaxed), 0);
    assert!(!host.driver().tracer().is_present());
    host.delete().unwrap();
    assert_eq!(host.view().tracer_mutex.load(Ordering::Relaxed), 0);
}

#[test]
fn a_tracer_must_introduce_itself_properly() {
    let host = Host::new();
    let driver = sibling(&host);
    let tracer = FakeTracer::new();
    let with = |edit: fn(&mut TracerReg)| {
        let mut reg = tracer.reg;
        edit(&mut reg);
        register_record(&driver, (&raw const reg) as usize).map(drop)
    };
    assert_eq!(register_record(&driver, 0).map(drop), Err(VERR_INVALID_HANDLE));
    assert_eq!(with(|reg| reg.magic += 1), Err(VERR_INVALID_MAGIC));
    assert_eq!(with(|reg| reg.version += 1), Err(VERR_VERSION_MISMATCH));
    assert_eq!(with(|reg| reg.end_magic += 1), Err(VERR_VERSION_MISMATCH));
    let callbacks: [fn(&mut TracerReg); 8] = [
        |reg| reg.fire_kernel = 0,
        |reg| reg.fire_user = 0,
        |reg| reg.open = 0,
        |reg| reg.ioctl = 0,
        |reg| reg.close = 0,
        |reg| reg.provider_register = 0xfff,
        |reg| reg.provider_deregister = usize::MAX,
        |reg| reg.provider_deregister_zombie = 0,
    ];
    for edit in callbacks {
        assert_eq!(with(edit), Err(VERR_INVALID_POINTER));
    }
    assert!(!host.driver().tracer().is_present());
    let user = host.open();
    assert_eq!(register_record(&user, tracer.address()).map(drop), Err(VERR_INVALID_PARAMETER));
    let helpers = tracer.register(&driver).expect("a good one is taken");
    assert_eq!(helpers.as_ptr() as usize, (&raw const host.view().tracer_helpers) as usize);
    assert_eq!(tracer.register(&driver).map(drop), Err(VERR_SUPDRV_TRACER_ALREADY_REGISTERED));
    let stranger = sibling(&host);
    assert_eq!(tracer.remove(&stranger), Err(VERR_SUPDRV_TRACER_NOT_REGISTERED));
    assert_eq!(tracer.remove(&driver), Ok(()));
    assert_eq!(tracer.remove(&driver), Err(VERR_SUPDRV_TRACER_NOT_REGISTERED));
}

#[test]
fn a_module_registers_a_tracer_only_from_its_init() {
    let host = Host::new();
    let object = image_object();
    let image = FakeImage::of(&object);
    let tracer = FakeTracer::new();
    let driver = host.driver();
    let register = |module: usize| {
        // SAFETY: the record is a tracer's, and is leaked.
        unsafe { driver.tracer().register_tracer(host.view(), Registrant::Module(module), tracer.address()) }
            .map(drop)
    };
    assert_eq!(register(image.handle()), Err(VERR_WRONG_ORDER), "before");
    image.in_init(&host, || {
        assert_eq!(register(0), Err(VERR_INVALID_POINTER));
        assert_eq!(register(image.handle() + 8), Err(VERR_WRONG_ORDER), "another handle");
        let other = host.os().as_thread(77, || register(image.handle()));
        assert_eq!(other, Err(VERR_WRONG_ORDER), "another thread");
        assert_eq!(register(image.handle()), Ok(()));
    });
    assert_eq!(register(image.handle()), Err(VERR_WRONG_ORDER), "afterwards");
    driver.tracer_module_unloading(image.handle());
    assert!(!driver.tracer().is_present(), "it goes with its module");
}

#[test]
fn objects_that_come_first_are_presented_once_and_in_order() {
    let host = Host::new();
    let driver = sibling(&host);
    let two = KernelObject::place(&named(&format!("k{KERNEL}-2-providers")));
    let one = driver_object();
    one.register_driver(&driver).unwrap();
    two.register_driver(&driver).unwrap();
    let tracer = FakeTracer::new();
    // The second one is refused: that is no failure, and nobody asks the tracer to forget it.
    tracer.play().register.extend([0, VERR_INVALID_PARAMETER.0]);
    tracer.register(&driver).unwrap();
    let seen = tracer.take_events();
    assert!(seen.iter().all(|event| matches!(event, Event::Register(name) if name == "vbxtest")));
    assert_eq!(seen.len(), 3);
    assert_eq!(tracer.names().len(), 2);
    let core = tracer.seen(0).core;
    assert_eq!((core.header, core.desc), (one.header, one.header + 0x100));
    assert_eq!((core.locations, core.counters), (one.header + 0x140, one.header + 0x120));
    assert_eq!(core.locations_enable, core.locations);
    assert_eq!(
        (core.bits, core.enable_location_bytes, core.is_umod),
        (usize::BITS as u8, [16, 32][usize::from(usize::BITS == 64)], 0)
    );
    assert_eq!((core.location_states, core.probe_states), (0, 0));
    assert_eq!(tracer.seen(0).module, "smpmod.r0");
    tracer.remove(&driver).unwrap();
    assert_eq!(tracer.take_events().len(), 2, "both that it took");
    assert_eq!(counts(&host), (3, 0), "they stay for the next tracer");
    tracer.register(&driver).unwrap();
    assert_eq!(tracer.names().len(), 3);
}

#[test]
fn providers_of_an_object_are_registered_from_the_last_and_all_or_none() {
    let host = Host::new();
    let driver = sibling(&host);
    let object = KernelObject::place(&named(&format!("k{KERNEL}-2-providers")));
    let tracer = FakeTracer::new();
    tracer.register(&driver).unwrap();
    object.register_driver(&driver).unwrap();
    let first = tracer.seen(0).core.desc;
    assert_eq!(first, tracer.seen(1).core.desc + 24, "index 1, then index 0");
    host.driver().tracer().deregister_driver(driver.session());
    assert_eq!(counts(&host), (0, 0));
    tracer.take_events();
    tracer.play().register.extend([0, VERR_NO_MEMORY.0]);
    assert_eq!(object.register_driver(&driver), Err(VERR_NO_MEMORY));
    let deregistered = tracer.take_events();
    assert_eq!(deregistered.last(), Some(&Event::Deregister("vbxtest".into())));
    assert_eq!(counts(&host), (0, 0));
    object.register_driver(&driver).unwrap();
}

#[test]
fn an_object_is_registered_once() {
    let host = Host::new();
    let driver = sibling(&host);
    let (object, copy) = (driver_object(), driver_object());
    assert_eq!(object.register_driver(&driver), Ok(()));
    assert_eq!(object.register_driver(&driver), Err(VERR_SUPDRV_VTG_ALREADY_REGISTERED));
    assert_eq!(copy.register_driver(&driver), Ok(()), "a sibling driver may have several");
    let user = host.open();
    assert_eq!(object.register_driver(&user), Err(VERR_INVALID_PARAMETER));
}

#[test]
fn an_image_registers_one_object_in_its_init() {
    let host = Host::new();
    let object = image_object();
    let image = FakeImage::of(&object);
    assert_eq!(image.register(&host, object.header), Err(VERR_WRONG_ORDER));
    image.in_init(&host, || {
        let driver = host.driver();
        assert_eq!(driver.tracer_register_module(0, object.header), Err(VERR_INVALID_HANDLE));
        assert_eq!(driver.tracer_register_module(image.handle(), 0), Err(VERR_INVALID_POINTER));
        let end = object.memory.address() + object.memory.size();
        assert_eq!(image.register(&host, end), Err(VERR_INVALID_PARAMETER), "behind the image");
        assert_eq!(image.register(&host, object.header), Ok(()));
        assert_eq!(image.register(&host, object.header), Err(VERR_SUPDRV_VTG_ALREADY_REGISTERED));
        assert_eq!([object.word(0x48), object.word(0x4c)], [0x140, 3 * if KERNEL == "64" { 32 } else { 16 }]);
    });
    assert_eq!(image.register(&host, object.header), Err(VERR_WRONG_ORDER));
    assert_eq!(counts(&host), (1, 0));
    host.driver().tracer_module_unloading(image.handle());
    assert_eq!(counts(&host), (0, 0));
}

/// A second, different object at another header of the same image.
#[test]
fn a_second_object_of_an_image_is_refused() {
    let host = Host::new();
    let mut sample = named(&format!("k{KERNEL}-valid"));
    let size = sample.memory.len();
    sample.memory.extend(sample.memory.clone());
    let moved: Vec<_> = sample.relocations.iter().map(|(at, width)| (at + size, *width)).collect();
    for (at, width) in &moved {
        let mut value = [0; 8];
        value[..*width].copy_from_slice(&sample.memory[*at..at + width]);
        let value = (u64::from_le_bytes(value) + size as u64).to_le_bytes();
        sample.memory[*at..at + width].copy_from_slice(&value[..*width]);
    }
    sample.relocations.extend(moved);
    let object = KernelObject::place(&sample);
    let image = FakeImage::of(&object);
    image.in_init(&host, || {
        assert_eq!(image.register(&host, object.header), Ok(()));
        assert_eq!(image.register(&host, object.header + size), Err(VERR_SUPDRV_VTG_ONLY_ONCE_PER_SESSION));
    });
    host.driver().tracer_module_unloading(image.handle());
}

#[test]
fn a_busy_provider_becomes_a_zombie_without_its_object_until_the_tracer_lets_go() {
    let host = Host::new();
    let driver = sibling(&host);
    let tracer = FakeTracer::new();
    tracer.register(&driver).unwrap();
    let object = image_object();
    let image = FakeImage::of(&object);
    image.in_init(&host, || image.register(&host, object.header)).unwrap();
    let core = tracer.seen(0).address;
    enable(core, 1, 55);
    assert_ne!(object.word(0x124), 0);
    // Busy when it is deregistered, and once more right after.
    tracer.be_busy(1);
    host.driver().tracer_module_unloading(image.handle());
    assert_eq!(counts(&host), (0, 1));
    // SAFETY: the core of a zombie stays.
    let zombie = unsafe { (core as *const supdrv_core::abi::tracer::ProviderCore).read() };
    assert_eq!((zombie.header, zombie.desc, zombie.locations, zombie.counters), (0, 0, 0, 0));
    assert_ne!((zombie.name, zombie.module_name), (0, 0), "names stay");
    assert_eq!(object.word(0x124), 0, "the object is as if nobody had ever enabled anything");
    object.memory.unmap();
    tracer.take_events();
    // The next registration by anybody tries again.
    let other = driver_object();
    other.register_driver(&driver).unwrap();
    assert_eq!(tracer.take_events().last(), Some(&Event::Zombie("vbxtest".into())));
    assert_eq!(counts(&host), (1, 0));
}

#[test]
fn the_next_tracer_starts_from_zero() {
    let host = Host::new();
    let driver = sibling(&host);
    let object = driver_object();
    object.register_driver(&driver).unwrap();
    let (first, second) = (FakeTracer::new(), FakeTracer::new());
    first.register(&driver).unwrap();
    let core = first.seen(0).address as *mut [u32; 4];
    enable(first.seen(0).address, 0, 7);
    enable(first.seen(0).address, 1, 8);
    // SAFETY: the tracer's own part of the core.
    unsafe { core.write([1, 2, 3, 4]) };
    first.remove(&driver).unwrap();
    assert_eq!([object.word(0x120), object.word(0x124), object.word(0x144)], [0; 3]);
    assert_eq!(object.word(0x140), 100, "not enabled, the line is as it was");
    second.register(&driver).unwrap();
    assert_eq!(second.seen(0).core.data.words, [0; 2]);
}

#[test]
fn removal_waits_for_busy_providers_and_tells_about_it() {
    let host = Host::new();
    let driver = sibling(&host);
    let object = driver_object();
    object.register_driver(&driver).unwrap();
    let tracer = FakeTracer::new();
    tracer.register(&driver).unwrap();
    tracer.take_events();
    tracer.be_busy(17);
    let before = host.os().now_ns();
    tracer.remove(&driver).unwrap();
    let seconds = (host.os().now_ns() - before) / 1_000_000_000;
    assert_eq!(seconds, 18, "once, and 17 times more");
    let events = tracer.take_events();
    assert_eq!(events.iter().filter(|event| matches!(event, Event::Deregister(_))).count(), 1);
    assert_eq!(events.iter().filter(|event| matches!(event, Event::Zombie(_))).count(), 18);
    assert_eq!(host.os().log().iter().filter(|line| line.contains("waiting for the tracer")).count(), 2);
    assert_eq!(counts(&host), (1, 0));
}

#[test]
fn the_end_of_the_driver_waits_for_zombies() {
    let tracer = FakeTracer::new();
    let os = MockOs::new();
    os.set_native_tracer(tracer.address());
    let object = driver_object();
    let mut host = Host::on(&os).unwrap();
    {
        let driver = sibling(&host);
        assert_eq!(FakeTracer::new().register(&driver).map(drop), Err(VERR_SUPDRV_TRACER_ALREADY_REGISTERED));
        object.register_driver(&driver).unwrap();
        tracer.be_busy(0);
    }
    assert_eq!(counts(&host), (0, 1), "the session left a zombie");
    tracer.play().zombie.extend([VERR_TRY_AGAIN.0; 2]);
    let before = os.now_ns();
    host.delete().unwrap();
    assert_eq!((os.now_ns() - before) / 1_000_000, 2000, "twice a second");
    assert!(tracer.names().is_empty(), "freed");
}

#[test]
fn a_tracer_that_is_no_good_is_not_taken_from_the_system() {
    let os = MockOs::new();
    let mut reg = FakeTracer::new().reg;
    reg.version = 0;
    os.set_native_tracer((&raw const reg) as usize);
    let host = Host::on(&os).unwrap();
    assert!(!host.driver().tracer().is_present());
}

#[test]
fn nothing_is_open_without_a_tracer() {
    let host = Host::new();
    let client = host.open();
    assert_eq!(tracer_open(&client, 1, 2), Err(VERR_SUPDRV_TRACER_NOT_PRESENT));
    assert_eq!(tracer_close(&client), Err(VERR_SUPDRV_TRACER_NOT_OPENED));
    assert_eq!(tracer_ioctl(&client, 1, 2), (Err(VERR_SUPDRV_TRACER_NOT_OPENED), 0));
    let restricted = host.open_restricted();
    assert_eq!(tracer_open(&restricted, 1, 2), Err(VERR_GENERAL_FAILURE));
    assert_eq!(tracer_close(&restricted), Err(VERR_GENERAL_FAILURE));
}

#[test]
fn a_session_opens_asks_and_closes_the_tracer() {
    let host = Host::new();
    let driver = sibling(&host);
    let tracer = FakeTracer::new();
    tracer.register(&driver).unwrap();
    assert_eq!(tracer_open(&driver, 1, 2), Err(VERR_SUPDRV_TRACER_CANNOT_OPEN_SELF));
    let client = host.open();
    assert_eq!(tracer_open(&client, 0x1234, 0x5678), Ok(Status(0)));
    // SAFETY: a live session's view.
    let view = unsafe { client.session().view().as_ref() };
    assert_eq!(view.tracer_data.load(Ordering::Relaxed), 0xdead, "C code sees it");
    assert_eq!(host.view().tracer_opens.load(Ordering::Relaxed), 1, "C code sees it");
    assert_eq!(tracer_open(&client, 1, 2), Err(VERR_SUPDRV_TRACER_ALREADY_OPENED));
    tracer.play().on_ioctl = Some(Box::new(|value| {
        *value = -7;
        3
    }));
    assert_eq!(tracer_ioctl(&client, usize::MAX, 77), (Ok(Status(3)), -7));
    // The closing requests of client libraries of the era have the size of another one.
    let odd = client.send(&Request::new(Function::TracerClose).input(&zeroed::<r::TracerOpenIn>()));
    assert_eq!((odd.status(), odd.rc()), (Err(VERR_INVALID_PARAMETER), VERR_INVALID_PARAMETER));
    assert_eq!(tracer_close(&client), Ok(Status(0)));
    assert_eq!(tracer_close(&client), Err(VERR_SUPDRV_TRACER_NOT_OPENED));
    let expected = [
        Event::Open { cookie: 0x1234, arg: 0x5678 },
        Event::Ioctl { data: 0xdead, command: usize::MAX, arg: 77 },
        Event::Close { data: 0xdead },
    ];
    assert_eq!(tracer.take_events(), expected);
    assert_eq!(host.view().tracer_opens.load(Ordering::Relaxed), 0);
    assert_eq!(view.tracer_data.load(Ordering::Relaxed), 0);
}

#[test]
fn a_failed_open_leaves_nothing_and_one_without_data_can_be_closed() {
    let host = Host::new();
    let driver = sibling(&host);
    let tracer = FakeTracer::new();
    tracer.register(&driver).unwrap();
    let client = host.open();
    tracer.play().on_open = Some(Box::new(|data| {
        *data = 5;
        VERR_INVALID_MAGIC.0
    }));
    assert_eq!(tracer_open(&client, 0, 0), Err(VERR_INVALID_MAGIC));
    assert_eq!(counters(&host).opens, 0);
    assert_eq!(tracer_close(&client), Err(VERR_SUPDRV_TRACER_NOT_OPENED));
    tracer.play().on_open = Some(Box::new(|data| {
        *data = 0;
        0
    }));
    assert_eq!(tracer_open(&client, 0, 0), Ok(Status(0)));
    assert_eq!(counters(&host).opens, 1);
    assert_eq!(tracer_close(&client), Ok(Status(0)));
    assert_eq!(tracer.take_events().last(), Some(&Event::Close { data: usize::MAX }));
}

/// A session, for a callback that calls the driver again.
struct Again(*const Client<'static>);
// SAFETY: used by the one thread of the test.
unsafe impl Send for Again {}

impl Again {
    fn client(&self) -> &Client<'static> {
        // SAFETY: the test keeps it alive.
        unsafe { &*self.0 }
    }
}

#[test]
fn a_tracer_can_not_be_entered_twice_for_a_session() {
    let host = Host::new();
    let driver = sibling(&host);
    let tracer = FakeTracer::new();
    tracer.register(&driver).unwrap();
    let client = host.open();
    let again = || Again((&raw const client).cast());
    let (in_open, in_ioctl) = (again(), again());
    tracer.play().on_open = Some(Box::new(move |data| {
        let client = in_open.client();
        assert_eq!(tracer_open(client, 0, 0), Err(VERR_SUPDRV_TRACER_ALREADY_OPENED));
        assert_eq!(tracer_ioctl(client, 0, 0).0, Err(VERR_SUPDRV_TRACER_SESSION_BUSY));
        assert_eq!(tracer_close(client), Err(VERR_SUPDRV_TRACER_SESSION_BUSY));
        *data = 1;
        0
    }));
    tracer_open(&client, 0, 0).unwrap();
    tracer.play().on_ioctl = Some(Box::new(move |_| {
        assert_eq!(tracer_ioctl(in_ioctl.client(), 0, 0).0, Err(VERR_SUPDRV_TRACER_SESSION_BUSY));
        0
    }));
    assert_eq!(tracer_ioctl(&client, 0, 0).0, Ok(Status(0)));
    let in_close = again();
    tracer.play().on_close = Some(Box::new(move || {
        assert_eq!(tracer_open(in_close.client(), 0, 0), Err(VERR_SUPDRV_TRACER_SESSION_BUSY));
        assert_eq!(tracer_ioctl(in_close.client(), 0, 0).0, Err(VERR_SUPDRV_TRACER_NOT_OPENED));
    }));
    tracer_close(&client).unwrap();
    assert_eq!(counters(&host).opens, 0);
}

#[test]
fn removal_waits_until_the_last_session_has_closed_and_refuses_new_ones() {
    let host = Host::new();
    let driver = sibling(&host);
    let tracer = FakeTracer::new();
    tracer.register(&driver).unwrap();
    let (client, late) = (host.open(), host.open());
    tracer_open(&client, 0, 0).unwrap();
    std::thread::scope(|scope| {
        let removal = scope.spawn(|| tracer.remove(&driver));
        while host.view().tracer_unloading.load(Ordering::Relaxed) == 0 {
            std::thread::yield_now();
        }
        assert_eq!(tracer_open(&late, 0, 0), Err(VERR_SUPDRV_TRACER_UNLOADING));
        assert_eq!(tracer_ioctl(&client, 0, 0).0, Err(VERR_SUPDRV_TRACER_UNLOADING));
        assert_eq!(FakeTracer::new().register(&driver).map(drop), Err(VERR_SUPDRV_TRACER_ALREADY_REGISTERED));
        let second = scope.spawn(|| tracer.remove(&driver));
        std::thread::sleep(Duration::from_millis(20));
        assert!(!removal.is_finished() && !second.is_finished());
        assert_eq!(tracer_close(&client), Ok(Status(0)));
        let results = [removal.join().unwrap(), second.join().unwrap()];
        assert!(results.contains(&Ok(())) && results.contains(&Err(VERR_SUPDRV_TRACER_NOT_REGISTERED)));
    });
    assert!(!host.driver().tracer().is_present());
    assert_eq!(host.view().tracer_unloading.load(Ordering::Relaxed), 0);
    assert_eq!(tracer_open(&late, 0, 0), Err(VERR_SUPDRV_TRACER_NOT_PRESENT));
}

#[test]
fn an_object_that_comes_while_the_tracer_goes_is_not_shown_to_it() {
    let host = Host::new();
    let driver = sibling(&host);
    let tracer = FakeTracer::new();
    tracer.register(&driver).unwrap();
    let client = host.open();
    tracer_open(&client, 0, 0).unwrap();
    let object = driver_object();
    std::thread::scope(|scope| {
        let removal = scope.spawn(|| tracer.remove(&driver));
        while host.view().tracer_unloading.load(Ordering::Relaxed) == 0 {
            std::thread::yield_now();
        }
        object.register_driver(&driver).unwrap();
        tracer_close(&client).unwrap();
        removal.join().unwrap().unwrap();
    });
    assert!(!tracer.take_events().iter().any(|event| matches!(event, Event::Register(_))));
    assert_eq!(counts(&host), (1, 0));
}

#[test]
fn a_closing_session_takes_everything_of_its_own_along() {
    let host = Host::new();
    let tracer = FakeTracer::new();
    let object = driver_object();
    {
        let driver = sibling(&host);
        tracer.register(&driver).unwrap();
        object.register_driver(&driver).unwrap();
        let client = host.open();
        tracer_open(&client, 0, 0).unwrap();
        client.close();
        assert_eq!(tracer.take_events().last(), Some(&Event::Close { data: 0xdead }));
        assert_eq!(counters(&host).opens, 0);
    }
    assert!(!host.driver().tracer().is_present(), "a sibling driver's tracer goes with it");
    assert_eq!(counters(&host), TracerCounters::default());
}

#[test]
fn the_tracers_own_tracepoints_go_with_its_module_and_those_of_others_stay() {
    let host = Host::new();
    let driver = sibling(&host);
    let tracer = FakeTracer::new();
    let (mine, other) = (image_object(), driver_object());
    other.register_driver(&driver).unwrap();
    let image = FakeImage::of(&mine);
    image.in_init(&host, || {
        let tracers = host.driver().tracer();
        // SAFETY: the record is a tracer's, and is leaked.
        unsafe { tracers.register_tracer(host.view(), Registrant::Module(image.handle()), tracer.address()) }
            .unwrap();
        image.register(&host, mine.header).unwrap();
    });
    assert_eq!(tracer.names().len(), 2);
    host.driver().tracer_module_unloading(image.handle());
    assert!(!host.driver().tracer().is_present());
    assert_eq!(counts(&host), (1, 0));
    tracer.take_events();
    host.driver().tracer().deregister_driver(driver.session());
    assert_eq!(tracer.take_events(), [], "nobody asks a tracer that isn't there");
}

#[test]
fn the_window_is_closed_when_no_module_is_initialised() {
    let host = Host::new();
    assert_eq!(host.view().init_image.load(Ordering::Relaxed), 0);
    assert_eq!(host.view().init_thread.load(Ordering::Relaxed), NIL_HANDLE);
}

#[test]
fn registering_survives_every_failure() {
    let replayed = replay(|os| {
        let host = Host::on(os)?;
        let driver = host.step(|| host.open_as(SessionKind::Kernel));
        let client = host.step(|| host.open_as(SessionKind::User));
        let object = KernelObject::place(&named(&format!("k{KERNEL}-2-providers")));
        let tracer = FakeTracer::new();
        host.step(|| tracer.register(&driver).map(drop));
        host.step(|| object.register_driver(&driver));
        assert_eq!(counts(&host), (2, 0));
        host.step(|| tracer_open(&client, 0, 0));
        host.step(|| tracer_ioctl(&client, 0, 0).0);
        host.step(|| tracer_close(&client));
        host.step(|| tracer.remove(&driver));
        let module = UserModule::place(host.os(), &named("u32-valid"));
        host.step(|| module.register(&client));
        host.step(|| module.deregister(&client));
        Ok(())
    });
    assert!(replayed.calls > 10);
}
