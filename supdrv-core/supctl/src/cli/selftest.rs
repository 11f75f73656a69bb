//! `supctl selftest`.

use std::io::Write;

use supctl::suite::{self, Outcome};
use supctl::transport::Transport;

use super::{Failure, Result, Words, open};

pub fn run(transport: &dyn Transport, mut words: Words) -> Result {
    let filter = words.option("--filter")?.unwrap_or_default();
    let list = words.flag("--list");
    words.end()?;
    if list {
        suite::cases()
            .filter(|case| case.title().contains(&filter))
            .for_each(|case| println!("{}", case.title()));
        return Ok(());
    }
    if suite::cases().all(|case| !case.title().contains(&filter)) {
        return Err(Failure::Usage(format!("no case has {filter:?} in its title")));
    }
    drop(open(transport)?);
    println!("{}", transport.describe());
    let tally = suite::run(transport, &filter, &mut |case, outcome| {
        match outcome {
            Outcome::Pass => println!("pass  {}", case.title()),
            Outcome::Fail(reason) => println!("FAIL  {}\n      {reason}", case.title()),
            Outcome::NotAvailable(reason) => println!("skip  {} (not available: {reason})", case.title()),
        }
        let _nobody_listens = std::io::stdout().flush();
    });
    println!("{tally}");
    if tally.failed == 0 { Ok(()) } else { Err(Failure::Silent) }
}
