//! The conformance suite through the driver's own entry points, on the fake kernel: on one with pages, and on an emulated one.

use std::time::Duration;

use supctl::suite::{self, Outcome};
use supctl::transport::{Capabilities, Device, Node, OpenError, Refused, Transport};
use supdrv_core::abi::Status;
use supdrv_core::abi::ioctl::Encoding;
use supdrv_windows::fake::{Account, Config, File, Loaded, Machine};
use supdrv_windows::nt::{NtStatus, hw};

/// A driver, and whether images are in memory of its own, where their code can run.
struct Driver(Loaded, bool);

struct Handle(File);

impl Transport for Driver {
    fn describe(&self) -> String {
        "the driver's entry points on a fake kernel".into()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            other_process: false,
            programs: false,
            shared_pages: true,
            kernel_addresses: true,
            runs_code: self.1,
            fast_calls: true,
            real_time: true,
        }
    }

    fn encoding(&self) -> Encoding {
        Encoding::Windows
    }

    fn open(&self, node: Node) -> Result<Box<dyn Device>, OpenError> {
        let name = match node {
            Node::Unrestricted => "VBoxDrv",
            Node::Restricted => "VBoxDrvU",
        };
        match self.0.open(name) {
            Ok(file) => Ok(Box::new(Handle(file))),
            Err(status) => Err(OpenError::Other { node: name.into(), reason: format!("{status:?}") }),
        }
    }

    fn refusal(&self, _status: Status) -> Refused {
        refused(NtStatus::INVALID_PARAMETER)
    }

    fn pass_time(&self, duration: Duration) {
        std::thread::sleep(duration);
    }

    fn monotonic_ns(&self) -> u64 {
        hw::interrupt_time() * 100
    }
}

/// What Win32 makes of the status.
fn refused(status: NtStatus) -> Refused {
    const ERROR_INVALID_PARAMETER: i32 = 87;
    const ERROR_NOT_SUPPORTED: i32 = 50;
    Refused::Os(match status {
        NtStatus::INVALID_PARAMETER => ERROR_INVALID_PARAMETER,
        NtStatus::NOT_SUPPORTED => ERROR_NOT_SUPPORTED,
        status => panic!("requests don't fail with {status:?}"),
    })
}

impl Device for Handle {
    fn ioctl(&self, code: u32, packet: &mut [u8]) -> Result<(), Refused> {
        let number = |at: usize| {
            packet
                .get(at..at + 4)
                .map_or(0, |bytes| u32::from_le_bytes(bytes.try_into().expect("four bytes")))
        };
        let (in_bytes, out_bytes) = (number(8), number(12));
        let limit = (16 << 20) + 64;
        let result = self.0.control(code, packet, in_bytes.min(limit), out_bytes.min(limit));
        result.map(drop).map_err(refused)
    }

    fn fast(&self, code: u32, cpu_id: u32) -> Result<(), Refused> {
        self.0.fast(code, cpu_id as usize).map_err(refused)
    }
}

fn conforms(config: Config, except: &[(&str, &str)]) {
    let own_images = config.emulated;
    let machine = Machine::new(config);
    let driver = machine.load().expect("the driver loads");
    let transport = Driver(driver.clone(), own_images);
    let mut failures = Vec::new();
    let tally = suite::run(&transport, "", &mut |case, outcome| match outcome {
        Outcome::Fail(reason) => {
            let line = format!("{}: {reason}", case.title());
            match except.iter().find(|(part, _)| line.contains(part)) {
                Some((_, why)) => println!("skip {line}: {why}"),
                None => failures.push(line),
            }
        }
        Outcome::NotAvailable(reason) => println!("skip {}: {reason}", case.title()),
        _ => {}
    });
    println!("{tally}");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(tally.passed > 60, "{tally}");
    driver.unload();
    assert_eq!(machine.account(Account::left), "");
}

/// The fake kernel maps pages where they are.
const ONE_ADDRESS: (&str, &str) =
    ("both sessions share one mapping", "the fake kernel has one address for a page");

#[test]
fn the_driver_conforms_with_pages() {
    let no_loader = ("LDR_OPEN: VERR_NOT_IMPLEMENTED", "the fake kernel's loader reads no files");
    conforms(Config::default(), &[ONE_ADDRESS, no_loader]);
}

#[test]
fn the_driver_conforms_on_an_emulated_kernel() {
    let no_locks = ("VERR_NOT_SUPPORTED (-37)", "an emulated kernel doesn't see its clients' memory");
    let no_modules = ("TRACER_UMOD_REG: VERR_ACCESS_DENIED (-38)", no_locks.1);
    conforms(Config { emulated: true, ..Config::default() }, &[ONE_ADDRESS, no_locks, no_modules]);
}

/// Calls of a case that fail in turn: the first ones, and some of the others.
fn places(calls: u64) -> impl Iterator<Item = u64> {
    const ALL_UP_TO: u64 = 150;
    let rest = calls.saturating_sub(ALL_UP_TO);
    (1..=calls.min(ALL_UP_TO)).chain((1..=rest).step_by((rest / 6).max(1) as usize).map(|n| ALL_UP_TO + n))
}

/// Each case again with the first call of the kernel that may fail failing, then the second one, and so on: the case may fail, but when
/// its client is gone and the driver is unloaded nothing is left, and no rule of the kernel was broken.
fn survives_failures(config: &Config) {
    let run = |case: &suite::Case, nth: u64| {
        let machine = Machine::new(config.clone());
        let driver = machine.load().expect("the driver loads");
        let transport = Driver(driver.clone(), config.emulated);
        machine.fail(nth.cast_signed());
        let outcome = case.run(&transport);
        let calls = machine.fallible_calls();
        machine.fail(0);
        drop(transport);
        driver.unload();
        let left = machine.account(Account::left);
        assert_eq!(left, "", "{}: call {nth} failed, {outcome:?}", case.title());
        (outcome, calls)
    };
    let (mut cases, mut failures) = (0, 0);
    for case in suite::cases().filter(|case| !["concurrency", "processes"].contains(&case.group)) {
        let (Outcome::Pass, calls) = run(case, 0) else { continue };
        cases += 1;
        // When a wait of one of many threads fails, the others wait as long as they may.
        let step = if config.emulated && case.title().contains("signal wakes") { 9 } else { 1 };
        for nth in places(calls).step_by(step) {
            run(case, nth);
            failures += 1;
        }
    }
    println!("{cases} cases, {failures} failures");
    assert!(cases > 60 && failures > 500, "{cases} cases, {failures} failures");
}

#[test]
fn nothing_is_left_when_a_call_of_the_kernel_fails() {
    survives_failures(&Config::default());
}

#[test]
fn nothing_is_left_when_a_call_of_an_emulated_kernel_fails() {
    survives_failures(&Config { emulated: true, ..Config::default() });
}
