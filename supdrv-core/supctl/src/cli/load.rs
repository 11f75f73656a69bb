//! `supctl load`.

use std::path::Path;

use supctl::image::{EntryPoints, LinkError, Loader, Progress};
use supctl::transport::Transport;

use super::{Failure, Result, Words, open};

fn report(progress: Progress) {
    match progress {
        Progress::Parsed { bytes, imports, exports } => {
            println!("parsed    {bytes} bytes, {imports} imports, {exports} exports");
        }
        Progress::Opened { base, needs_loading: true } => println!("opened    at {base:#x}"),
        Progress::Opened { base, needs_loading: false } => println!("opened    at {base:#x}, loaded already"),
        Progress::Linked { references } => println!("linked    {references} references"),
        Progress::Loaded { by_other: false } => println!("loaded    and initialised"),
        Progress::Loaded { by_other: true } => println!("loaded    by another client"),
    }
}

pub fn run(transport: &dyn Transport, mut words: Words) -> Result {
    let name = words.option("--name")?;
    let service = words.option("--service")?;
    let call = words.number("--call")?;
    let is_vmmr0 = words.flag("--vmmr0");
    let Some(path) = words.operand() else { return Err(Failure::Usage("load needs an image".into())) };
    words.end()?;
    let stem = Path::new(&path).file_stem().map(|stem| stem.to_string_lossy().into_owned());
    let name = name.or(stem).unwrap_or_default();
    let object = std::fs::read(&path).map_err(|error| Failure::Failed(format!("{path}: {error}")))?;
    let client = open(transport)?;
    let entry_points = match service.as_deref() {
        Some(handler) => EntryPoints::Service(handler),
        None if is_vmmr0 => EntryPoints::Vmmr0,
        None => EntryPoints::Nothing,
    };
    let mut loader = Loader::new(&client)?.with_progress(report);
    let image = loader.load(&name, &object, entry_points).map_err(|error| match error {
        LinkError::Driver(error) => Failure::Failed(error.to_string()),
        error => Failure::Failed(format!("{path}: {error}")),
    })?;
    let mut symbols: Vec<_> = image.module().exports().iter().collect();
    symbols.sort_by_key(|export| export.offset);
    for export in symbols {
        println!("  {:#018x} {}", image.symbol(&export.name)?, export.name);
    }
    if let Some(operation) = call {
        let operation = u32::try_from(operation).map_err(|_| Failure::Usage("--call is too large".into()))?;
        println!("called    it returned {}", image.call(operation, 0, None)?);
    }
    image.free()?;
    println!("freed");
    Ok(())
}
