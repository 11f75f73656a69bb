//! Panicking paths in what is linked into kernels, by name.
//!
//! A release build of the core has none. The two libraries that hold all of it are disassembled here, and every call of the
//! panic machinery is reported with the function that it is in.

use std::collections::BTreeMap;
use std::path::Path;

use crate::report::{Result, Tally};
use crate::tools::{command, need, run as run_command, say};
use crate::{legacy, linux};

/// Parts of mangled names that belong to the panic machinery.
const MACHINERY: &[&str] = &[
    "core9panicking",
    "unwrap_failed",
    "expect_failed",
    "slice_error_fail",
    "_index_fail",
    "_len_fail",
    "_overflow_fail",
    "len_mismatch_fail",
    "rust_begin_unwind",
    "handle_alloc_error",
];

fn is_machinery(symbol: &str) -> bool {
    MACHINERY.iter().any(|part| symbol.contains(part))
}

/// Functions that call the panic machinery, each with what it calls, from the output of a disassembler.
fn callers(disassembly: &str) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let (mut object, mut function) = ("", "");
    for line in disassembly.lines() {
        if let Some((name, _)) = line.split_once(":\tfile format") {
            object = name;
        } else if let Some(name) = line.strip_suffix(">:").and_then(|line| line.split_once('<')) {
            function = name.1;
        } else if let Some((_, target)) = line.split_once("R_X86_64_") {
            let target = target.split_whitespace().nth(1).unwrap_or("");
            // The compiler's own runtime comes with its panics; linkers drop what nobody calls.
            let ours = !object.contains("compiler_builtins") && !is_machinery(function);
            if ours && is_machinery(target) {
                found.entry(function.to_owned()).or_default().push(target.to_owned());
            }
        }
    }
    found
}

fn readable(symbol: &str) -> Result<String> {
    let name = symbol.trim_start_matches(".text.").trim_start_matches("unlikely.");
    let name = name.split(['-', '+']).next().unwrap_or(name);
    Ok(run_command(command("llvm-cxxfilt-19", &[]).arg(name))?.trim().to_owned())
}

/// Prints the panicking paths of a library; returns how many there are.
fn count(what: &str, library: &Path) -> Result<usize> {
    let mut objdump = command("llvm-objdump-19", &["--disassemble", "--reloc", "--no-show-raw-insn"]);
    let disassembly = run_command(objdump.arg(library))?;
    let functions = disassembly.lines().filter(|line| line.ends_with(">:")).count();
    if functions < 100 {
        return Err(format!("{}: only {functions} functions were disassembled", library.display()).into());
    }
    let found = callers(&disassembly);
    for (function, targets) in &found {
        println!("{what}: {}", readable(function)?);
        for target in targets {
            println!("    calls {}", readable(target)?);
        }
    }
    let paths = found.values().map(Vec::len).sum();
    println!("{what}: {paths} panicking paths in {functions} functions");
    Ok(paths)
}

/// As a step of all tests.
pub fn check() -> Result<Tally> {
    need(&["llvm-19"])?;
    let libraries = [
        ("core for C drivers", legacy::build(legacy::find("linux")?)?),
        ("core for Linux", linux::build_rust_half()?),
    ];
    let mut tally = Tally::default();
    for (what, library) in libraries {
        tally.add(Tally::one(count(what, &library)? == 0));
    }
    Ok(tally)
}

/// `cargo xtask panics`.
pub fn run() -> Result<()> {
    let tally = check()?;
    say(&format!("{tally}"));
    if tally.failed == 0 { Ok(()) } else { Err("there are panicking paths".into()) }
}

#[cfg(test)]
mod tests {
    use super::callers;

    #[test]
    fn calls_of_the_panic_machinery_are_found_by_caller() {
        let text = "lib.a(a.o):\tfile format elf64-x86-64\n\
            0000000000000000 <_RNv3abc>:\n\
            \t10: callq\t0x15\n\
            \t\t\t0000000000000011:  R_X86_64_PLT32\t_RNvNtCs_4core9panicking9panic_fmt-0x4\n\
            \t\t\t0000000000000021:  R_X86_64_PLT32\tmemcpy-0x4\n\
            0000000000000000 <_RNvNtCs_4core9panicking5panic>:\n\
            \t\t\t0000000000000011:  R_X86_64_PLT32\t_RNvNtCs_4core9panicking9panic_fmt-0x4\n\
            lib.a(compiler_builtins-1.o):\tfile format elf64-x86-64\n\
            0000000000000000 <__udivti3>:\n\
            \t\t\t0000000000000011:  R_X86_64_PLT32\t_RNvNtCs_4core9panicking9panic_fmt-0x4\n";
        let found = callers(text);
        assert_eq!(found.keys().collect::<Vec<_>>(), ["_RNv3abc"]);
        assert_eq!(found["_RNv3abc"].len(), 1);
    }
}
