//! The conformance suite over a driver on the mock system, in this process.

mod common;

use std::sync::OnceLock;

use common::InProcess;
use supctl::suite::{self, Outcome};
use supctl::transport::Transport;
use supdrv_core::mock::{BsdCodes, Codes, LinuxCodes, MockOs, Os2Codes, SolarisCodes, WindowsCodes};
use supdrv_core::ring0::Ring0;

fn run<E: Codes>(os: &MockOs<E>) {
    let filter = std::env::var("SUPCTL_FILTER").unwrap_or_default();
    let mut failures = Vec::new();
    let transport = InProcess::new(os);
    let tally = suite::run(&transport, &filter, &mut |case, outcome| match outcome {
        Outcome::Pass => println!("pass  {}", case.title()),
        Outcome::NotAvailable(reason) => println!("skip  {} ({reason})", case.title()),
        Outcome::Fail(reason) => failures.push(format!("{}: {reason}", case.title())),
    });
    println!("{}: {tally}", transport.describe());
    assert!(failures.is_empty(), "{tally}\n{}", failures.join("\n"));
    assert!(tally.passed >= 80 || !filter.is_empty(), "{tally}");
}

mod exports {
    supdrv_core::ring0_exports!(supdrv_core::mock::MockOs, super::machine(), private);
}

/// The one machine whose driver has functions for modules: they know no other.
fn machine() -> MockOs {
    static MACHINE: OnceLock<MockOs> = OnceLock::new();
    MACHINE.get_or_init(|| MockOs::with_codes(2)).clone()
}

#[test]
fn the_suite_passes_on_the_mock_system_with_linux_codes() {
    let os = machine();
    os.set_exports(exports::EXPORTS);
    os.set_tracer_globals(<exports::Runtime as Ring0>::tracer_globals());
    run::<LinuxCodes>(&os);
}

#[test]
fn the_suite_passes_on_the_mock_system_with_bsd_codes() {
    run::<BsdCodes>(&MockOs::with_codes(1));
}

#[test]
fn the_suite_passes_on_the_mock_system_with_solaris_codes() {
    run::<SolarisCodes>(&MockOs::with_codes(4));
}

#[test]
fn the_suite_passes_on_the_mock_system_with_windows_codes() {
    run::<WindowsCodes>(&MockOs::with_codes(3));
}

#[test]
fn the_suite_passes_on_the_mock_system_with_os2_codes() {
    run::<Os2Codes>(&MockOs::with_codes(2));
}

#[test]
fn the_suite_passes_on_the_mock_system_with_asynchronous_tscs() {
    let os = MockOs::<LinuxCodes>::with_codes(3);
    os.edit_cpu(1, |cpu| cpu.tsc_offset = -5_000_000_000);
    run(&os);
}
