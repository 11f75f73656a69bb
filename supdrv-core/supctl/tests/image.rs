//! Linking and loading images that a C compiler made, executed on the mock system.
#![cfg(all(target_arch = "x86_64", target_os = "linux"))]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, PoisonError};

use common::InProcess;
use supctl::client::{Client, Vmmr0Call};
use supctl::image::{EntryPoints, LinkError, Loader, Module, Progress};
use supctl::transport::{Node, Transport};
use supdrv_core::abi::Status;
use supdrv_core::abi::status::{VERR_ACCESS_DENIED, VERR_INVALID_PARAMETER};
use supdrv_core::mock::{LinuxCodes, MockOs};
use supdrv_core::ring0::{Ring0, events};

/// For images anywhere.
const LARGE: &[&str] = &["-fno-pic", "-mcmodel=large"];
/// For images in the upper 2 GiB.
const KERNEL: &[&str] = &["-fno-pic", "-mcmodel=kernel"];
/// As compilers like it best.
const PIC: &[&str] = &["-fPIC"];

/// Compiles C to an object file. There must be a C compiler: without one these tests fail.
fn compile(name: &str, source: &str, flags: &[&str]) -> Vec<u8> {
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let (c_file, object) = (directory.join(format!("{name}.c")), directory.join(format!("{name}.o")));
    std::fs::write(&c_file, source).expect("a source file can be written");
    let common = ["-O1", "-ffreestanding", "-fno-stack-protector", "-mno-red-zone", "-nostdlib", "-w"];
    let mut cc = Command::new("cc");
    cc.args(common).args(flags).arg("-o").arg(&object).arg(&c_file);
    if !flags.contains(&"-shared") {
        cc.arg("-c");
    }
    let output = cc.output().expect("these tests need a C compiler, named cc");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    std::fs::read(Path::new(&object)).expect("the object can be read")
}

/// A service with data of all kinds, and pointers between them.
const SERVICE: &str = r#"
    typedef unsigned int u32;
    typedef unsigned long long u64;
    struct packet { u32 magic, bytes; unsigned char payload[]; };
    static u32 inits = 0;
    u32 counter = 7;
    static u32 zeroed[1000];
    static const char text[] = "ring-0";
    const char *pointer = text + 5;
    static u32 twice(u32 x) { return 2 * x; }
    u32 thrice(u32 x) { return 3 * x; }
    u32 (*table[2])(u32) = { twice, thrice };
    int ModuleInit(void *image) { inits++; return image ? 0 : -1; }
    void ModuleTerm(void *image) { counter = 0; }
    int Handler(void *session, u32 operation, u64 arg, struct packet *packet) {
        switch (operation) {
            case 0: return inits;
            case 1: return counter++;
            case 2: return zeroed[arg % 1000]++;
            case 3: return *pointer;
            case 4: return table[0](arg) + table[1](arg);
            case 5: for (u32 i = 8; i < packet->bytes; i++) packet->payload[i - 8] ^= text[i % 6]; return 0;
        }
        return -36;
    }
"#;

mod exports {
    supdrv_core::ring0_exports!(supdrv_core::mock::MockOs, super::current());
}

static CURRENT: Mutex<Option<MockOs>> = Mutex::new(None);
static ALONE: Mutex<()> = Mutex::new(());

/// Locks what a failed test may have left.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The machine whose runtime the exports are: they know no other than the current one.
fn current() -> MockOs {
    locked(&CURRENT).clone().expect("a machine is current")
}

/// Runs the checks of an image from `supctl/images` on a machine that exports the whole runtime.
fn checks_pass(name: &str, object: &[u8], at_least: usize) {
    let _alone = locked(&ALONE);
    let os = MockOs::<LinuxCodes>::with_codes(3);
    os.set_exports(exports::EXPORTS);
    os.set_tracer_globals(<exports::Runtime as Ring0>::tracer_globals());
    *locked(&CURRENT) = Some(os.clone());
    let mut wrong = Vec::new();
    let transport = InProcess::new(&os);
    let gip = transport.host.driver().published().gip.load(Ordering::Relaxed);
    events::gip_published::<exports::Runtime>(gip);
    let tally = supctl::suite::run_image(&transport, name, object, &mut |title, outcome| {
        if *outcome != supctl::suite::Outcome::Pass {
            wrong.push(format!("{title}: {outcome:?}"));
        }
    });
    events::gip_published::<exports::Runtime>(0);
    drop(transport);
    *locked(&CURRENT) = None;
    assert!(wrong.is_empty() && tally.passed >= at_least, "{tally}\n{}", wrong.join("\n"));
}

fn image_source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("images").join(name)
}

fn c_image(name: &str) -> Vec<u8> {
    let include = format!("-I{}", image_source("").display());
    let source = std::fs::read_to_string(image_source(name)).expect("the source is there");
    compile(&format!("image-{name}"), &source, &["-fPIC", "-mgeneral-regs-only", &include])
}

#[test]
fn an_image_in_c_uses_the_whole_runtime() {
    checks_pass("exports", &c_image("exports.c"), 30);
}

#[test]
fn an_image_in_c_is_a_tracer_with_tracepoints_of_its_own() {
    checks_pass("tracer", &c_image("tracer.c"), 11);
}

#[test]
fn an_image_that_stands_in_for_vmmr0_is_called_through_its_three_entries() {
    checks_pass("VMMR0.r0", &c_image("vmmr0.c"), 7);
}

#[test]
fn an_image_in_rust_runs() {
    let object = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("rust-image.o");
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let mut rustc = Command::new(rustc);
    rustc.args(["--edition", "2024", "--emit", "obj", "-C", "opt-level=2", "-C", "panic=abort"]);
    rustc.args(["-C", "relocation-model=pic", "-o"]).arg(&object).arg(image_source("rust.rs"));
    let output = rustc.output().expect("rustc runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    checks_pass("rust", &std::fs::read(&object).expect("the object can be read"), 8);
}

fn with_client<T>(test: impl FnOnce(&Client, &InProcess<LinuxCodes>) -> T) -> T {
    let os = MockOs::<LinuxCodes>::with_codes(2);
    let transport = InProcess::new(&os);
    let client = Client::open(&transport, Node::Unrestricted).expect("a session");
    test(&client, &transport)
}

/// Whether a service image does all that [`SERVICE`] says.
fn serves(object: &[u8]) {
    with_client(|client, transport| {
        let mut steps = Vec::new();
        let mut loader = Loader::new(client).unwrap().with_progress(|step| steps.push(step));
        let image = loader.load("service", object, EntryPoints::Service("Handler")).unwrap();
        let call = |operation, arg| image.call(operation, arg, None).unwrap();
        assert_eq!(call(0, 0), Status(1));
        assert_eq!((call(1, 0), call(1, 0)), (Status(7), Status(8)));
        assert_eq!((call(2, 999), call(2, 999)), (Status(0), Status(1)));
        assert_eq!(call(3, 0), Status(i32::from(b'0')));
        assert_eq!(call(4, 10), Status(50));
        let mut payload = [0; 7];
        image.call(5, 0, Some(&mut payload)).unwrap();
        assert_eq!(payload, *b"ng-0rin");
        assert_eq!(image.call(99, 0, None).unwrap_err().status(), Some(Status(-36)));
        let thrice = image.base() + image.module().offset_of("thrice").unwrap() as usize;
        assert_eq!(image.symbol("thrice").unwrap(), thrice);
        assert!(image.symbol("twice").is_err(), "static functions aren't exported");
        image.free().unwrap();
        drop(loader);
        assert_eq!(transport.counters().unwrap().images, 0);
        assert!(matches!(
            steps[..],
            [
                Progress::Parsed { imports: 0, .. },
                Progress::Opened { needs_loading: true, .. },
                Progress::Linked { references: 1.. },
                Progress::Loaded { by_other: false }
            ]
        ));
    });
}

#[test]
fn an_object_for_any_address_is_linked_and_runs() {
    serves(&compile("large", SERVICE, LARGE));
}

#[test]
fn a_position_independent_object_is_linked_and_runs() {
    serves(&compile("pic", SERVICE, PIC));
}

#[test]
fn a_shared_object_is_linked_and_runs() {
    serves(&compile("shared", SERVICE, &["-fPIC", "-shared"]));
}

#[test]
fn an_object_for_the_kernel_is_linked_for_the_upper_two_gigabytes_only() {
    let module = Module::parse("kernel.o", &compile("kernel", SERVICE, KERNEL)).unwrap();
    let base = 0xffff_ffff_a000_0000;
    let bits = module.relocate(base, &|_| None).unwrap();
    let table = module.offset_of("table").unwrap() as usize;
    let thrice = u64::from_le_bytes(bits[table + 8..table + 16].try_into().unwrap());
    assert_eq!(thrice, base + u64::from(module.offset_of("thrice").unwrap()));
    let far = module.relocate(0x7f00_0000_0000, &|_| None).unwrap_err();
    assert!(matches!(&far, LinkError::OutOfReach { .. }), "{far}");
    assert!(far.to_string().contains("kernel.o") && far.to_string().contains("too far away"), "{far}");
}

const USER: &str = r#"
    extern unsigned triple(unsigned x);
    extern unsigned value;
    extern int optional(void) __attribute__((weak));
    int Handler(void *session, unsigned operation, unsigned long long arg, void *packet) {
        if (operation == 0) return triple(arg) + value;
        return optional ? optional() : 77;
    }
"#;

const LIBRARY: &str = "unsigned value = 1000; unsigned triple(unsigned x) { return 3 * x; }";

#[test]
fn an_image_links_against_an_earlier_one() {
    for (name, flags) in [("l", LARGE), ("p", PIC)] {
        let library = compile(&format!("library-{name}"), LIBRARY, flags);
        let user = compile(&format!("user-{name}"), USER, flags);
        with_client(|client, _| {
            let mut loader = Loader::new(client).unwrap();
            let library = loader.load("library", &library, EntryPoints::Nothing).unwrap();
            loader.link_against(&library);
            let image = loader.load("user", &user, EntryPoints::Service("Handler")).unwrap();
            assert_eq!(image.call(0, 5, None).unwrap(), Status(1015));
            assert_eq!(image.call(1, 0, None).unwrap(), Status(77), "weak symbols may be missing");
        });
    }
}

#[test]
fn undefined_symbols_are_all_named_with_who_wants_them() {
    let user = compile("lonely", USER, LARGE);
    with_client(|client, transport| {
        let Err(error) = Loader::new(client).unwrap().load("lonely", &user, EntryPoints::Nothing) else {
            panic!("linked")
        };
        let text = error.to_string();
        assert!(text.contains("undefined symbol triple wanted by lonely (in Handler)"), "{text}");
        assert!(text.contains("undefined symbol value wanted by lonely"), "{text}");
        assert!(!text.contains("optional"), "{text}");
        assert_eq!(transport.counters().unwrap().images, 0, "the image isn't left behind");
    });
}

#[test]
fn a_call_that_does_not_reach_goes_through_a_jump() {
    let module = Module::parse("user.o", &compile("jumping", USER, PIC)).unwrap();
    let far = |name: &str| (name != "optional").then_some(0x7fff_0000_1000);
    let bits = module.relocate(0x10_0000, &far).unwrap();
    let jumps =
        (0..bits.len() - 10).filter(|at| bits[*at..].starts_with(&[0xf3, 0x0f, 0x1e, 0xfa, 0xff, 0x25]));
    let targets: Vec<u64> = jumps
        .map(|jump| {
            let distance = i32::from_le_bytes(bits[jump + 6..jump + 10].try_into().unwrap());
            let slot = (jump as i64 + 10 + i64::from(distance)) as usize;
            u64::from_le_bytes(bits[slot..slot + 8].try_into().unwrap())
        })
        .collect();
    assert!(targets.contains(&0x7fff_0000_1000), "{targets:x?}");
}

#[test]
fn the_drivers_functions_and_numbers_can_be_imported() {
    let source = r#"
        extern char SUPR0AbsIs64bit[], SUPR0$SUPR0Abs64bitKernelCS[];
        int Handler(void *s, unsigned operation, unsigned long long a, void *p) {
            return operation ? (int)(long)SUPR0$SUPR0Abs64bitKernelCS : (int)(long)SUPR0AbsIs64bit;
        }
    "#;
    let object = compile("absolute", source, LARGE);
    with_client(|client, _| {
        let functions = client.query_functions().unwrap();
        let kernel_cs = functions.iter().find(|export| export.name == "SUPR0Abs64bitKernelCS").unwrap();
        let mut loader = Loader::new(client).unwrap();
        let image = loader.load("absolute", &object, EntryPoints::Service("Handler")).unwrap();
        assert_eq!(image.call(0, 0, None).unwrap(), Status(1));
        assert_eq!(image.call(1, 0, None).unwrap(), Status(kernel_cs.address as i32));
    });
}

#[test]
fn the_global_info_page_can_be_imported() {
    let source = r#"
        extern unsigned g_SUPGlobalInfoPage[];
        int Handler(void *s, unsigned o, unsigned long long a, void *p) { return g_SUPGlobalInfoPage[0]; }
    "#;
    let object = compile("page", source, LARGE);
    with_client(|client, transport| {
        let mut loader = Loader::new(client).unwrap();
        let image = loader.load("page", &object, EntryPoints::Service("Handler")).unwrap();
        assert_eq!(image.call(0, 0, None).unwrap(), Status(0x1959_0106));
        assert_eq!(transport.counters().unwrap().gip_users, 1);
        drop(image);
        assert_eq!(transport.counters().unwrap().gip_users, 0);
    });
}

#[test]
fn a_vmmr0_stand_in_is_called_through_all_its_entries() {
    let source = r#"
        typedef unsigned int u32;
        static void *vm_seen; static u32 cpu_seen, operation_seen;
        int VMMR0EntryInt(void *vm, u32 operation, void *arg) { return 0; }
        void VMMR0EntryFast(void *vm, u32 cpu, u32 operation) { vm_seen = vm; cpu_seen = cpu; operation_seen = operation; }
        int VMMR0EntryEx(void *vm, u32 cpu, u32 operation, u32 *packet, unsigned long long arg, void *session) {
            if (packet) { packet[2] = cpu_seen; packet[3] = operation_seen; }
            return cpu + operation + (int)arg + (session != 0);
        }
    "#;
    let object = compile("vmmr0", source, LARGE);
    with_client(|client, _| {
        let image = Loader::new(client).unwrap().load("VMMR0.r0", &object, EntryPoints::Vmmr0).unwrap();
        let call = Vmmr0Call { vm: 0x1000, cpu_id: 20, operation: 300, arg: 4000 };
        assert_eq!(image.call_vmmr0(call, None).unwrap(), Status(4321));
        let vm = client.pages(1, true).unwrap();
        client.set_vm_for_fast(vm.r0()).unwrap();
        client.fast(supctl::client::FastCall::HmRun, 9).unwrap();
        let mut payload = [0; 8];
        image.call_vmmr0(call, Some(&mut payload)).unwrap();
        assert_eq!(payload, [9, 0, 0, 0, 1, 0, 0, 0]);
        client.set_vm_for_fast(0).unwrap();
    });
}

#[test]
fn a_missing_entry_point_is_told_before_the_driver_is_asked() {
    let object = compile("entry", LIBRARY, LARGE);
    with_client(|client, _| {
        let mut loader = Loader::new(client).unwrap();
        let error = loader.load("entry", &object, EntryPoints::Vmmr0).err().expect("not loaded");
        assert_eq!(error.to_string(), "entry has no entry point VMMR0EntryInt");
        let error = loader.load("entry", &object, EntryPoints::Service("Handler")).err().expect("not loaded");
        assert_eq!(error.to_string(), "entry has no entry point Handler");
    });
}

#[test]
fn a_failing_init_function_is_told_and_leaves_nothing() {
    let object = compile("failing", "int ModuleInit(void *image) { return -38; }", LARGE);
    with_client(|client, transport| {
        let mut loader = Loader::new(client).unwrap();
        match loader.load("failing", &object, EntryPoints::Nothing).err() {
            Some(LinkError::Driver(error)) => assert_eq!(error.status(), Some(VERR_ACCESS_DENIED)),
            other => panic!("{other:?}"),
        }
        assert_eq!(transport.counters().unwrap().images, 0);
    });
}

#[test]
fn a_second_session_uses_the_image_of_the_first() {
    let object = compile("both", SERVICE, LARGE);
    with_client(|client, transport| {
        let other = Client::open(transport, Node::Unrestricted).unwrap();
        let service = EntryPoints::Service("Handler");
        let first = Loader::new(client).unwrap().load("both", &object, service).unwrap();
        let second = Loader::new(&other).unwrap().load("both", &object, service).unwrap();
        assert_eq!(first.base(), second.base());
        assert_eq!(
            (first.call(1, 0, None).unwrap(), second.call(1, 0, None).unwrap()),
            (Status(7), Status(8))
        );
    });
}

#[test]
fn objects_that_can_not_be_loaded_say_why() {
    let common =
        compile("common", "int shared; int *get(void) { return &shared; }", &["-fcommon", "-mcmodel=large"]);
    let error = Module::parse("common.o", &common).unwrap_err();
    assert_eq!(error, LinkError::Common { symbol: "shared".into() });
    let narrow = compile("narrow", LIBRARY, &["-m32", "-fno-pic"]);
    let error = Module::parse("narrow.o", &narrow).unwrap_err();
    assert!(error.to_string().contains("narrow.o is for I386"), "{error}");
    let thread_local = "static __thread int x; int *get(void) { return &x; }";
    let error = Module::parse("tls.o", &compile("tls", thread_local, &["-fPIC"])).unwrap_err();
    assert!(matches!(error, LinkError::Relocation { .. }), "{error}");
    let large = compile("huge", "char data[20 << 20]; char *get(void) { return data; }", LARGE);
    assert!(matches!(Module::parse("huge.o", &large), Err(LinkError::TooLarge(_))));
    for garbage in [&b""[..], b"hello", &[0; 100], b"\x7fELF"] {
        assert!(Module::parse("garbage", garbage).is_err());
    }
}

#[test]
fn damaged_objects_never_harm_the_linker() {
    let object = compile("damaged", USER, PIC);
    for length in (0..object.len()).step_by(7) {
        let _either_way = Module::parse("cut", &object[..length]);
    }
    let mut seed = 12345_u64;
    let mut random = move |limit: usize| {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (seed >> 33) as usize % limit
    };
    let mut linked = 0;
    for _ in 0..3000 {
        let mut bytes = object.clone();
        for _ in 0..=random(4) {
            let at = random(bytes.len());
            bytes[at] = random(256) as u8;
        }
        if let Ok(module) = Module::parse("damaged", &bytes) {
            linked += usize::from(module.relocate(0x10_0000, &|_| Some(0x20_0000)).is_ok());
        }
    }
    assert!(linked > 0, "some damage doesn't matter");
}

#[test]
fn names_that_do_not_fit_are_refused_by_the_client() {
    let object = compile("named", LIBRARY, LARGE);
    with_client(|client, _| {
        let mut loader = Loader::new(client).unwrap();
        let long = "a-name-that-is-longer-than-31-bytes";
        assert!(loader.load(long, &object, EntryPoints::Nothing).is_err());
        match loader.load("a/b", &object, EntryPoints::Nothing).err() {
            Some(LinkError::Driver(error)) => assert_eq!(error.status(), Some(VERR_INVALID_PARAMETER)),
            other => panic!("{other:?}"),
        }
    });
}
