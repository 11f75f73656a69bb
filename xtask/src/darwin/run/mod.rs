//! Runs the extension's own machine code in a process on the host, whose processor and calling convention are the same: the image is loaded
//! at a fixed address as the kernel would, and what it imports is bound to stand-ins in a small C program.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::load::Kext;
use crate::report::{Result, Tally};
use crate::tools::{command, need, root, run, target};

/// Where images are loaded: nothing else is there in a process.
const BASE: u64 = 0x2_0000_0000;
const PAGE: u64 = 4096;

/// A jump through a pointer, with its own number in a register for whoever catches unexpected calls.
const THUNK_SIZE: u64 = 32;
const THUNK_TARGET: u64 = 16;

fn is_data(name: &str) -> bool {
    const NAMES: [&str; 3] = ["_kernel_map", "_kernel_task", "_version_major"];
    NAMES.contains(&name) || name.starts_with("__ZTV") || name.ends_with("10gMetaClassE")
}

/// `mov $number, %r11d; jmp *THUNK_TARGET(thunk)`.
fn thunk(number: u32) -> [u8; 12] {
    let [a, b, c, d] = number.to_le_bytes();
    [0x41, 0xbb, a, b, c, d, 0xff, 0x25, 4, 0, 0, 0]
}

/// An image with thunks and data after it, ready to be mapped at [`BASE`], and a list of what is where.
struct Prepared {
    memory: Vec<u8>,
    list: String,
}

fn prepare(kext: &Kext<'_>) -> Result<Prepared> {
    let size = u64::try_from(kext.raw()?.memory.len())?.next_multiple_of(PAGE);
    let mut list = format!("base {BASE:#x}\n");
    let names: Vec<&str> = kext.undefined().collect();
    let thunks = BASE + size;
    let data = (thunks + THUNK_SIZE * u64::try_from(names.len())?).next_multiple_of(PAGE);
    let (mut kernel, mut code, mut end) = (BTreeMap::new(), Vec::new(), data);
    for (number, name) in names.iter().enumerate() {
        let address = if is_data(name) { end } else { thunks + THUNK_SIZE * u64::try_from(number)? };
        if is_data(name) {
            end += PAGE;
            writeln!(list, "data {address:#x} {name}")?;
        } else {
            writeln!(list, "thunk {:#x} {name}", address + THUNK_TARGET)?;
        }
        code.extend(thunk(u32::try_from(number)?));
        code.resize(code.len() + usize::try_from(THUNK_SIZE)? - 12, 0);
        kernel.insert((*name).to_owned(), address);
    }
    for symbol in &kext.symbols {
        if let Some(address) = symbol.address {
            writeln!(list, "symbol {:#x} {}", BASE + address, symbol.name)?;
        }
    }
    for section in &kext.sections {
        writeln!(list, "section {:#x} {} {}", BASE + section.address, section.size, section.name)?;
    }
    let mut memory = kext.load(BASE, &kernel)?.memory;
    memory.resize(usize::try_from(size)?, 0);
    memory.extend(code);
    memory.resize(usize::try_from(end - BASE)?, 0);
    Ok(Prepared { memory, list })
}

fn build_program(source: &str) -> Result<PathBuf> {
    need(&["gcc"])?;
    let folder = root().join("xtask/src/darwin/run");
    let program = target("darwin/run")?.join(source).with_extension("");
    let mut gcc = command("gcc", &["-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-pthread"]);
    run(gcc.arg(folder.join(source)).arg("-o").arg(&program))?;
    Ok(program)
}

/// Runs the program of `source` on an extension; its last line is the result.
pub fn scenario(source: &str, file: &[u8]) -> Result<Tally> {
    let program = build_program(source)?;
    let prepared = prepare(&Kext::parse(file)?)?;
    let folder = target("darwin/run")?;
    let (memory, list) = (program.with_extension("image"), program.with_extension("list"));
    std::fs::write(&memory, &prepared.memory)?;
    std::fs::write(&list, &prepared.list)?;
    run_program(&program, &memory, &list, &folder)
}

fn run_program(program: &Path, memory: &Path, list: &Path, folder: &Path) -> Result<Tally> {
    let output = command(program, &[]).arg(memory).arg(list).current_dir(folder).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    print!("{text}{}", String::from_utf8_lossy(&output.stderr));
    let mut tally = Tally::last_in(&text).unwrap_or(Tally::one(false));
    if !output.status.success() && tally.failed == 0 {
        println!("FAILED {} ended with {}", program.display(), output.status);
        tally.failed = 1;
    }
    Ok(tally)
}
