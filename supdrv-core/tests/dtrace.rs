//! The bridge to a host's DTrace, on a DTrace that only remembers.

mod tracer_support;
mod vtg_samples;

use std::ffi::{CStr, c_int, c_void};
use std::ptr::{NonNull, null, null_mut};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use supdrv_core::abi::status::*;
use supdrv_core::abi::tracer::{TracerReg, UserContext, UserContext32, UserContext64};
use supdrv_core::abi::vtg::LOCATION_ENABLED;
use supdrv_core::mock::{Host, MockOs};
use supdrv_core::os::SessionKind;
use supdrv_core::tracer::dtrace::{ArgDescription, DtraceHost, HostAttribute, ProviderOps, Registration};
use tracer_support::{
    KernelObject, UserModule, fire, register_record, tracer_close, tracer_ioctl, tracer_open,
};
use vtg_samples::{Sample, named};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

/// A registered provider.
struct Registered {
    name: String,
    attributes: [HostAttribute; 5],
    ops: &'static ProviderOps,
    arg: usize,
}

#[derive(Default)]
struct Remembered {
    providers: Vec<Option<Registered>>,
    /// Module, function, name, frames, location; the id is the index + 1.
    probes: Vec<(String, String, String, c_int, usize)>,
    fired: Vec<(u32, [u64; 5])>,
    /// Arguments from the sixth on, as the host got them while it worked on a probe.
    asked: Vec<u64>,
    busy: u32,
    invalidated: u32,
    refuse: bool,
}

static REMEMBERED: Mutex<Option<Remembered>> = Mutex::new(None);
static ALONE: Mutex<()> = Mutex::new(());
static LOCK: Mutex<()> = Mutex::new(());

fn remembered<T>(what: impl FnOnce(&mut Remembered) -> T) -> T {
    what(REMEMBERED.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_default())
}

struct Fake;

static BRIDGE: Registration = Registration::new::<Fake>();

// SAFETY: it remembers, and calls nobody.
unsafe impl DtraceHost for Fake {
    fn locked(what: impl FnOnce()) {
        let _lock = LOCK.lock().unwrap_or_else(PoisonError::into_inner);
        what();
    }

    fn stack_end(_from: usize) -> usize {
        // SAFETY: attributes of this thread, which are initialised by the call and destroyed once.
        unsafe {
            let mut attributes = std::mem::zeroed();
            assert_eq!(libc::pthread_getattr_np(libc::pthread_self(), &raw mut attributes), 0);
            let (mut low, mut bytes) = (null_mut(), 0);
            assert_eq!(libc::pthread_attr_getstack(&raw const attributes, &raw mut low, &raw mut bytes), 0);
            libc::pthread_attr_destroy(&raw mut attributes);
            low as usize + bytes
        }
    }

    fn register(
        name: &CStr,
        attributes: &[HostAttribute; 5],
        ops: &'static ProviderOps,
        arg: NonNull<c_void>,
        id: &AtomicUsize,
    ) -> Result<()> {
        remembered(|host| {
            if host.refuse {
                return Err(VERR_INVALID_PARAMETER);
            }
            let (name, arg) = (name.to_str().unwrap().to_owned(), arg.as_ptr() as usize);
            host.providers.push(Some(Registered { name, attributes: *attributes, ops, arg }));
            id.store(host.providers.len(), Ordering::SeqCst);
            Ok(())
        })
    }

    fn invalidate(_id: usize) {
        remembered(|host| host.invalidated += 1);
    }

    fn unregister(id: usize) -> bool {
        remembered(|host| {
            if host.busy > 0 {
                host.busy -= 1;
                return false;
            }
            host.providers[id - 1] = None;
            true
        })
    }

    fn probe_create(
        _provider: usize,
        module: &CStr,
        function: &CStr,
        name: &CStr,
        frames: c_int,
        arg: usize,
    ) -> u32 {
        let text = |text: &CStr| text.to_str().unwrap().to_owned();
        remembered(|host| {
            host.probes.push((text(module), text(function), text(name), frames, arg));
            host.probes.len() as u32
        })
    }

    fn probe_lookup(_provider: usize, module: &CStr, function: &CStr, name: &CStr) -> u32 {
        let wanted = [module, function, name].map(|text| text.to_str().unwrap().to_owned());
        let is_it = |probe: &(String, String, String, c_int, usize)| {
            [&probe.0, &probe.1, &probe.2] == wanted.each_ref()
        };
        remembered(|host| host.probes.iter().position(is_it).map_or(0, |index| index as u32 + 1))
    }

    unsafe extern "C" fn probe(id: u32, a0: u64, a1: u64, a2: u64, a3: u64, a4: u64) {
        remembered(|host| host.fired.push((id, [a0, a1, a2, a3, a4])));
        // All providers have the same function, and the arguments are found without them.
        let (ops, arg) = provider(0);
        let value = ops.arg_value.unwrap();
        // SAFETY: as the host calls it.
        let asked = (5..22).map(|number| unsafe { value(arg, id, null_mut(), number, 0) }).collect();
        remembered(|host| host.asked = asked);
    }
}

/// A machine with DTrace.
struct Setup {
    os: MockOs,
    reg: &'static TracerReg,
    _alone: MutexGuard<'static, ()>,
}

impl Setup {
    fn new() -> Self {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        *REMEMBERED.lock().unwrap_or_else(PoisonError::into_inner) = None;
        // SAFETY: the record, which lives for ever.
        let reg = unsafe { BRIDGE.as_tracer().as_ref() };
        let os = MockOs::new();
        os.set_native_tracer((&raw const *reg) as usize);
        Self { os, reg, _alone: alone }
    }
}

fn provider(index: usize) -> (&'static ProviderOps, *mut c_void) {
    remembered(|host| {
        let provider = host.providers[index].as_ref().expect("a provider");
        (provider.ops, provider.arg as *mut c_void)
    })
}

fn provide(index: usize, desc: *const c_void) {
    let (ops, arg) = provider(index);
    // SAFETY: as the host calls it.
    unsafe { ops.provide.unwrap()(arg, desc) };
}

fn set(index: usize, location: usize, enabled: bool) {
    let (ops, arg) = provider(index);
    let location = location as *mut c_void;
    // SAFETY: as the host calls it.
    unsafe {
        if enabled {
            assert_eq!(ops.enable.unwrap()(arg, 0, location), 0);
        } else {
            ops.disable.unwrap()(arg, 0, location);
        }
    }
}

fn describe(index: usize, location: usize, argument: c_int) -> (String, c_int) {
    let (ops, arg) = provider(index);
    let mut description =
        ArgDescription { id: 0, index: argument, mapping: 0, native: [0; 128], translated: [0; 128] };
    // SAFETY: as the host calls it.
    unsafe { ops.arg_description.unwrap()(arg, 0, location as *mut c_void, &raw mut description) };
    let text = CStr::from_bytes_until_nul(&description.native).unwrap();
    (text.to_str().unwrap().to_owned(), description.index)
}

fn probe_names() -> Vec<(String, String)> {
    remembered(|host| host.probes.iter().map(|probe| (probe.1.clone(), probe.2.clone())).collect())
}

fn text(names: &[(&str, &str)]) -> Vec<(String, String)> {
    names.iter().map(|(function, name)| ((*function).to_owned(), (*name).to_owned())).collect()
}

#[test]
fn an_object_becomes_a_provider_with_a_probe_per_location() {
    let setup = Setup::new();
    let host = Host::on(&setup.os).unwrap();
    let driver = host.open_as(SessionKind::Kernel).unwrap();
    let object = KernelObject::place(&named("k64-valid"));
    object.register_driver(&driver).unwrap();
    remembered(|host| {
        let provider = host.providers[0].as_ref().unwrap();
        assert_eq!(provider.name, "vbxtest");
        assert_eq!(provider.attributes, [[5; 3], [1, 1, 0], [1, 1, 0], [5; 3], [5; 3]]);
    });
    provide(0, std::ptr::dangling());
    assert_eq!(probe_names(), [], "a request for one probe");
    provide(0, null());
    let expected =
        [("MyFuncOne", "probe-one"), ("SomeClass::myFuncTwo", "probe-two"), ("MyFuncOne", "probe-two")];
    assert_eq!(probe_names(), text(&expected));
    remembered(|host| {
        assert!(
            host.probes
                .iter()
                .enumerate()
                .all(|(index, probe)| probe.0 == "smpmod.r0" && (probe.3, probe.4) == (1, index))
        );
    });
    assert_eq!([object.word(0x144), object.word(0x164), object.word(0x184)], [1, 2, 3]);
    provide(0, null());
    assert_eq!(probe_names().len(), 3, "nothing new");
    assert_eq!(describe(0, 1, 1), ("uint64_t".into(), 1));
    assert_eq!(describe(0, 1, 2), (String::new(), -1));
    assert_eq!(describe(0, 1, -5), (String::new(), -1));
    for (location, enabled, counter) in
        [(1, true, 1), (2, true, 2), (2, true, 2), (2, false, 1), (1, false, 0), (1, false, 0)]
    {
        set(0, location, enabled);
        assert_eq!(object.word(0x124), counter);
        assert_eq!(object.word(0x140 + 32 * location) & LOCATION_ENABLED != 0, enabled);
    }
    // SAFETY: as the host calls it.
    unsafe { provider(0).0.destroy.unwrap()(provider(0).1, 1, null_mut()) };
    assert_eq!([object.word(0x144), object.word(0x164)], [0, 2]);
}

#[test]
fn names_that_are_taken_get_a_suffix_and_odd_ones_a_substitute() {
    let setup = Setup::new();
    let host = Host::on(&setup.os).unwrap();
    let driver = host.open_as(SessionKind::Kernel).unwrap();
    let mut sample = named("k64-valid");
    let at = sample.header_offset;
    // All three locations are of one probe, in one function, two at the same line.
    let (name, probe) =
        (sample.memory[at + 0x148..at + 0x150].to_vec(), sample.memory[at + 0x150..at + 0x158].to_vec());
    for (location, line) in [(0x160, 200_u32), (0x180, 200)] {
        sample.memory[at + location..at + location + 4].copy_from_slice(&line.to_le_bytes());
        sample.memory[at + location + 8..at + location + 16].copy_from_slice(&name);
        sample.memory[at + location + 16..at + location + 24].copy_from_slice(&probe);
    }
    KernelObject::place(&sample).register_driver(&driver).unwrap();
    provide(0, null());
    let expected = ["MyFuncOne", "MyFuncOne-200", "MyFuncOne-200-2"].map(|function| (function, "probe-one"));
    assert_eq!(probe_names(), text(&expected));
    // A name that begins with a parenthesis.
    let mut odd = named("k64-valid");
    odd.memory[at + 0x1a0] = b'(';
    KernelObject::place(&odd).register_driver(&driver).unwrap();
    provide(1, null());
    assert_eq!(probe_names()[3].0, "unknown");
}

#[test]
fn both_providers_of_an_object_get_their_probes() {
    let setup = Setup::new();
    let host = Host::on(&setup.os).unwrap();
    let driver = host.open_as(SessionKind::Kernel).unwrap();
    let mut sample = named("k64-2-providers");
    // The second provider has the second probe.
    let at = sample.header_offset;
    let header = |offset: usize| {
        u32::from_le_bytes(sample.memory[at + offset..at + offset + 4].try_into().unwrap()) as usize
    };
    let (probes, providers) = (header(0x30), header(0x38));
    sample.memory[at + probes + 16 + 10] = 1;
    sample.memory[at + providers + 24 + 4] = 1;
    sample.memory[at + providers + 24 + 6] = 1;
    KernelObject::place(&sample).register_driver(&driver).unwrap();
    provide(1, null());
    assert_eq!(probe_names(), text(&[("MyFuncOne", "probe-one")]), "index 0, registered last");
    provide(0, null());
    assert_eq!(probe_names().len(), 3);
}

fn counts(host: &Host) -> (usize, usize) {
    let counters = host.driver().tracer().counters();
    (counters.providers, counters.zombies)
}

#[test]
fn a_busy_provider_is_left_alone_until_the_host_lets_go() {
    let setup = Setup::new();
    let host = Host::on(&setup.os).unwrap();
    let driver = host.open_as(SessionKind::Kernel).unwrap();
    let object = KernelObject::place(&named("k64-valid"));
    object.register_driver(&driver).unwrap();
    provide(0, null());
    set(0, 1, true);
    // Once when it is deregistered, once more right after.
    remembered(|host| host.busy = 2);
    host.driver().tracer().deregister_driver(driver.session());
    assert_eq!(counts(&host), (0, 1));
    assert_eq!(object.word(0x124), 0);
    object.memory.unmap();
    // The host may still call: nothing of the object is touched.
    set(0, 1, false);
    provide(0, null());
    assert_eq!(describe(0, 1, 0), (String::new(), -1));
    // SAFETY: as the host calls it.
    unsafe { provider(0).0.destroy.unwrap()(provider(0).1, 1, null_mut()) };
    KernelObject::place(&named("k64-valid")).register_driver(&driver).unwrap();
    assert_eq!(counts(&host), (1, 0));
    remembered(|host| assert_eq!((host.invalidated, host.providers[0].is_none()), (1, true)));
}

#[test]
fn nobody_opens_dtrace_through_the_driver_and_no_other_tracer_comes() {
    let setup = Setup::new();
    let host = Host::on(&setup.os).unwrap();
    let (client, driver) = (host.open(), host.open_as(SessionKind::Kernel).unwrap());
    assert_eq!(tracer_open(&client, 0, 0), Err(VERR_NOT_SUPPORTED));
    assert_eq!(tracer_ioctl(&client, 0, 0).0, Err(VERR_SUPDRV_TRACER_NOT_OPENED));
    assert_eq!(tracer_close(&client), Err(VERR_SUPDRV_TRACER_NOT_OPENED));
    let other = Registration::new::<Fake>();
    let status = register_record(&driver, (&raw const other) as usize).map(drop);
    assert_eq!(status, Err(VERR_SUPDRV_TRACER_ALREADY_REGISTERED));
    remembered(|host| host.refuse = true);
    let object = KernelObject::place(&named("k64-valid"));
    assert_eq!(object.register_driver(&driver), Err(VERR_INVALID_PARAMETER), "names that the host refuses");
}

#[test]
fn user_mode_probes_keep_their_state_in_the_driver_and_fire_with_the_hosts_id() {
    let setup = Setup::new();
    let host = Host::on(&setup.os).unwrap();
    let client = host.open();
    let mut module = UserModule::place(&setup.os, &named("u64-valid"));
    module.register(&client).unwrap();
    provide(0, null());
    set(0, 1, true);
    set(0, 2, true);
    assert_eq!((module.word(0x124), module.word(0x160) & LOCATION_ENABLED), (2, LOCATION_ENABLED));
    // The process scribbles: the driver's state is what counts.
    let at = module.header_offset;
    module.memory[at + 0x124] = 77;
    module.memory[at + 0x163] = 0;
    set(0, 2, false);
    assert_eq!(module.word(0x124), 1);
    fire(&client, 1, 64);
    fire(&client, 2, 64);
    remembered(|host| assert_eq!(host.fired, [(2, [0; 5])]));
    set(0, 1, false);
    assert_eq!(module.word(0x124), 0);
}

/// A 32-bit module whose second probe has the arguments {u32, u64, u32, u32, u64, u32, u64}.
fn with_large_arguments() -> Sample {
    let mut sample = named("u32-valid");
    let at = sample.header_offset;
    let list_at = 0xc0 + 12;
    let (u32_arg, u64_arg) = ((28_u32, 0x4000_0104_u32), (44_u32, 0x4000_0108_u32));
    let args = [u32_arg, u64_arg, u32_arg, u32_arg, u64_arg, u32_arg, u64_arg];
    // The areas behind the argument lists move.
    let moved = 40_u32;
    let tail = sample.memory.split_off(at + 0xe0);
    sample.memory.resize(at + 0xe0 + moved as usize, 0);
    sample.memory.extend(tail);
    let mut put = |offset: usize, value: u32| {
        sample.memory[at + offset..at + offset + 4].copy_from_slice(&value.to_le_bytes())
    };
    put(0x1c, 0x128 + moved);
    put(0x2c, 12 + 4 + 8 * 7);
    put(0x30, 0xe0 + moved);
    put(0x38, 0x100 + moved);
    put(0x40, 0x120 + moved);
    put(0x50, 0x2000_0160 + moved);
    put(0x58, 0x2000_0190 + moved);
    put(list_at, 0x0000_0107);
    for (index, (name, flags)) in args.into_iter().enumerate() {
        put(list_at + 4 + 8 * index, name);
        put(list_at + 8 + 8 * index, flags);
    }
    for probe in [0xe0 + moved, 0xf0 + moved] {
        put(probe as usize + 12, probe.wrapping_neg());
    }
    for (location, probe) in [(0x140, 0xe0), (0x150, 0xf0), (0x160, 0xf0)] {
        put(location + moved as usize + 12, 0x2000_0020 + probe + moved);
    }
    sample
}

#[test]
fn large_arguments_of_32_bit_code_are_put_together() {
    let setup = Setup::new();
    let host = Host::on(&setup.os).unwrap();
    let client = host.open();
    let module = UserModule::place(&setup.os, &with_large_arguments());
    module.register(&client).unwrap();
    provide(0, null());
    set(0, 1, true);
    let mut words = UserContext32::new_zeroed();
    (words.id, words.bits) = (1, 32);
    words.args = std::array::from_fn(|index| 0x10 + index as u32);
    let mut context = UserContext::read_from_bytes(words.as_bytes()).unwrap();
    client.session().tracer_umod_fire(&mut context);
    remembered(|host| {
        assert_eq!(host.fired, [(2, [0x10, 0x12_0000_0011, 0x13, 0x14, 0x16_0000_0015])]);
        assert_eq!(host.asked[..2], [0x17, 0x19_0000_0018]);
        // The words behind the listed arguments, each for itself, as far as there are any.
        let rest: Vec<u64> = (0x1a..0x24).chain(std::iter::repeat(u64::MAX)).take(15).collect();
        assert_eq!(host.asked[2..], rest);
    });
}

#[test]
fn arguments_of_64_bit_code_are_as_many_as_it_sends() {
    let setup = Setup::new();
    let host = Host::on(&setup.os).unwrap();
    let client = host.open();
    let module = UserModule::place(&setup.os, &named("u64-valid"));
    module.register(&client).unwrap();
    provide(0, null());
    set(0, 1, true);
    let mut words = UserContext64::new_zeroed();
    (words.id, words.bits) = (1, 64);
    words.args = std::array::from_fn(|index| 0x1_0000_0010 + index as u64);
    let mut context = UserContext::read_from_bytes(words.as_bytes()).unwrap();
    client.session().tracer_umod_fire(&mut context);
    remembered(|host| {
        assert_eq!(host.fired, [(2, std::array::from_fn(|index| 0x1_0000_0010 + index as u64))]);
        let rest: Vec<u64> =
            (0x1_0000_0015..0x1_0000_001a).chain(std::iter::repeat(u64::MAX)).take(17).collect();
        assert_eq!(host.asked, rest);
    });
}

type FireKernel = unsafe extern "C" fn(
    usize,
    usize,
    usize,
    usize,
    usize,
    usize,
    u64,
    u64,
    u64,
    u64,
    u64,
    u64,
    u64,
    u64,
    u64,
    u64,
    u64,
    u64,
    u64,
    u64,
    u64,
);

#[test]
fn a_kernel_probe_fires_with_its_id_and_one_without_does_not() {
    let setup = Setup::new();
    let host = Host::on(&setup.os).unwrap();
    let driver = host.open_as(SessionKind::Kernel).unwrap();
    let object = KernelObject::place(&named("k64-valid"));
    object.register_driver(&driver).unwrap();
    // SAFETY: the callback has this signature, and leaves alone what is behind the arguments that it knows.
    let fire_kernel = unsafe { std::mem::transmute::<usize, FireKernel>(setup.reg.fire_kernel) };
    let fire = |location: usize| {
        // SAFETY: a location, or an address that isn't looked at.
        unsafe {
            fire_kernel(
                location,
                1,
                2,
                3,
                4,
                usize::MAX,
                105,
                106,
                107,
                108,
                109,
                110,
                111,
                112,
                113,
                114,
                115,
                116,
                117,
                118,
                119,
            );
        }
        remembered(|host| std::mem::take(&mut host.fired))
    };
    let location = object.header + 0x160;
    assert_eq!(fire(location), [], "no probe was made yet");
    provide(0, null());
    assert_eq!(fire(location), [(2, [1, 2, 3, 4, u64::MAX])]);
    remembered(|host| {
        let expected: Vec<u64> = (105..120).chain([u64::MAX; 2]).collect();
        assert_eq!(host.asked, expected);
    });
    assert_eq!([fire(0), fire(8)], [[], []], "no location");
    let (ops, arg) = provider(0);
    let value = ops.arg_value.unwrap();
    // SAFETY: as the host calls it.
    let value = |number| unsafe { value(arg, 2, null_mut(), number, 0) };
    assert_eq!([-1, 0, 4, 5, 19, 20].map(value), [u64::MAX; 6], "no probe is being worked on");
}

#[test]
fn an_argument_is_not_looked_for_in_a_provider_that_is_going() {
    let setup = Setup::new();
    let host = Host::on(&setup.os).unwrap();
    let driver = host.open_as(SessionKind::Kernel).unwrap();
    let object = KernelObject::place(&named("k64-valid"));
    object.register_driver(&driver).unwrap();
    provide(0, null());
    remembered(|host| host.busy = 2);
    let location = object.header + 0x160;
    // SAFETY: the id of the location, which nobody else uses now.
    let id = unsafe { &*((location + 4) as *const AtomicU32) };
    let old = id.load(Ordering::SeqCst);
    host.driver().tracer().deregister_driver(driver.session());
    assert_eq!(id.swap(old, Ordering::SeqCst), 0);
    // SAFETY: the callback has this signature.
    let fire_kernel = unsafe { std::mem::transmute::<usize, FireKernel>(setup.reg.fire_kernel) };
    // SAFETY: a location, whose probe the host hasn't forgotten.
    unsafe {
        fire_kernel(
            object.header + 0x160,
            1,
            2,
            3,
            4,
            5,
            6,
            7,
            8,
            9,
            10,
            11,
            12,
            13,
            14,
            15,
            16,
            17,
            18,
            19,
            20,
        )
    };
    remembered(|host| assert_eq!(host.asked, [u64::MAX; 17]));
}
