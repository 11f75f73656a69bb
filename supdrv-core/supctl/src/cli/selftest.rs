//! `supctl selftest`.

use std::io::Write;
use std::path::Path;

use supctl::suite::{self, Outcome, Tally};
use supctl::transport::Transport;

use super::{Failure, Result, Words, open};

fn print(title: &str, outcome: &Outcome) {
    match outcome {
        Outcome::Pass => println!("pass  {title}"),
        Outcome::Fail(reason) => println!("FAIL  {title}\n      {reason}"),
        Outcome::NotAvailable(reason) => println!("skip  {title} (not available: {reason})"),
    }
    let _nobody_listens = std::io::stdout().flush();
}

/// Name in the driver and content of each image.
fn images(words: &mut Words) -> Result<Vec<(String, Vec<u8>)>> {
    let mut images = Vec::new();
    while let Some(path) = words.option("--image")? {
        let object = std::fs::read(&path).map_err(|error| Failure::Failed(format!("{path}: {error}")))?;
        let stem = Path::new(&path).file_stem().unwrap_or_default();
        images.push((stem.to_string_lossy().into_owned(), object));
    }
    Ok(images)
}

pub fn run(transport: &dyn Transport, mut words: Words) -> Result {
    let filter = words.option("--filter")?;
    let images = images(&mut words)?;
    let list = words.flag("--list");
    words.end()?;
    // With images only what is asked for is run besides them.
    let everything = filter.is_some() || images.is_empty();
    let filter = filter.unwrap_or_default();
    let wanted = || suite::cases().filter(|case| everything && case.title().contains(&filter));
    if list {
        wanted().for_each(|case| println!("{}", case.title()));
        return Ok(());
    }
    if everything && wanted().next().is_none() {
        return Err(Failure::Usage(format!("no case has {filter:?} in its title")));
    }
    drop(open(transport)?);
    println!("{}", transport.describe());
    let mut tally = Tally::default();
    if everything {
        tally = suite::run(transport, &filter, &mut |case, outcome| print(&case.title(), outcome));
    }
    for (name, object) in &images {
        tally =
            tally.and(suite::run_image(transport, name, object, &mut |title, outcome| print(title, outcome)));
    }
    println!("{tally}");
    if tally.failed == 0 { Ok(()) } else { Err(Failure::Silent) }
}
