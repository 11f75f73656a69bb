//! The library for C drivers, driven by C: `tests/c/` is a runtime of the era in user mode, a driver shell over it, and tests of what C
//! code sees. Here it is compiled and run, for both pointer widths, as it is and under AddressSanitizer and UndefinedBehaviorSanitizer.
//!
//! The library is the one that C drivers get: `cargo xtask build legacy` makes it, and installs what is missing for that.

use std::path::{Path, PathBuf};
use std::process::Command;

fn core() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Runs a command; what it prints is shown if it fails.
fn run(command: &mut Command, hint: &str) -> String {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}: {hint}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{text}\n{errors}\n{hint}", output.status);
    text
}

fn library(target: &str) -> PathBuf {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["xtask", "build", "legacy", "--target", target]).current_dir(core().join(".."));
    let printed = run(&mut cargo, "`cargo xtask build legacy` says what it needs");
    PathBuf::from(printed.lines().last().expect("the path of the library"))
}

fn test_program(target: &str, bits: &str, sanitizers: &[&str]) {
    let library = library(target);
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let program =
        folder.join(format!("c-abi{bits}{}", if sanitizers.is_empty() { "" } else { "-sanitized" }));
    let mut sources: Vec<PathBuf> = std::fs::read_dir(core().join("tests/c"))
        .expect("the C programs")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "c"))
        .collect();
    sources.sort();
    assert!(sources.len() >= 7, "C sources are missing: {sources:?}");
    let mut gcc = Command::new("gcc");
    gcc.args(["-std=gnu99", "-g", "-O1", "-Wall", "-Wextra", "-Werror", "-no-pie", "-DRT_OS_LINUX", bits]);
    gcc.args(sanitizers).arg("-I").arg(core().join("include")).args(&sources).arg(&library);
    run(gcc.args(["-lpthread", "-o"]).arg(&program), "apt-get install gcc gcc-multilib");
    let printed = run(&mut Command::new(&program), "");
    assert!(printed.ends_with("all passed\n"), "{printed}");
    print!("{printed}");
}

/// Every report ends the program.
const SANITIZERS: &[&str] = &["-fsanitize=address,undefined", "-fno-sanitize-recover=all"];

#[test]
fn c_sees_what_it_is_promised_on_64_bit_hosts() {
    test_program("x86_64", "-m64", &[]);
}

#[test]
fn c_sees_what_it_is_promised_on_32_bit_hosts() {
    test_program("i686", "-m32", &[]);
}

#[test]
fn sanitizers_find_nothing_on_64_bit_hosts() {
    test_program("x86_64", "-m64", SANITIZERS);
}

#[test]
fn sanitizers_find_nothing_on_32_bit_hosts() {
    test_program("i686", "-m32", SANITIZERS);
}
