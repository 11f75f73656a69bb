//! The conformance suite, through the module's nodes on a fake kernel.
#![cfg(target_os = "linux")]

mod fake;

use std::sync::Arc;

use fakekernel::context::Process;
use supctl::suite::{self, Outcome};

#[test]
fn the_conformance_suite_passes_through_the_nodes() {
    let kernel = fake::boot();
    assert_eq!(kernel.load(), 0);
    let nodes = fake::Nodes::new(Arc::new(Process::new(0)));
    let tally = suite::run(&nodes, "", &mut |case, outcome| match outcome {
        Outcome::Pass => println!("ok      {}", case.title()),
        Outcome::Fail(reason) => println!("FAILED  {}: {reason}", case.title()),
        Outcome::NotAvailable(reason) => println!("skipped {}: {reason}", case.title()),
    });
    println!("{tally}");
    assert_eq!(tally.failed, 0);
    assert!(tally.passed > 100);
    assert_eq!(kernel.unload(), 0);
}
