//! Line coverage of the core by the tests that run on the host.

use std::path::{Path, PathBuf};

use crate::report::{Result, Tally};
use crate::tools::{command, long_step, need, run as run_command, target};

/// What the host tests must reach, in percent of lines.
const TARGET: f64 = 95.0;
/// Not the driver: the system for tests, tests themselves, other people's code, and the client.
const IGNORED: &str = r"(/src/mock/|/tests/|/supctl/|/\.cargo/|/rustc/|/rustlib/|/registry/|/xtask/)";

/// The major version of the compiler's LLVM, whose tools read what it writes.
fn llvm_version() -> Result<String> {
    let told = run_command(&mut command("rustc", &["-vV"]))?;
    let version = told.lines().find_map(|line| line.strip_prefix("LLVM version: "));
    let major = version.and_then(|version| version.split('.').next());
    Ok(major.ok_or("rustc doesn't tell its LLVM version")?.to_owned())
}

/// The programs that a build of tests made, from cargo's messages.
fn programs(messages: &str) -> Vec<PathBuf> {
    let executable = |line: &str| {
        let rest = line.split_once("\"executable\":\"")?.1;
        Some(PathBuf::from(rest.split('"').next()?))
    };
    messages.lines().filter_map(executable).collect()
}

/// Percentage of lines in the last line of a report.
fn line_percentage(report: &str) -> Option<f64> {
    let total = report.lines().rev().find(|line| line.starts_with("TOTAL"))?;
    // Regions, functions, lines: each with a total, those that were missed, and a percentage.
    let columns: Vec<&str> = total.split_whitespace().collect();
    columns.get(9)?.trim_end_matches('%').parse().ok()
}

fn cargo_test(folder: &Path, arguments: &[&str]) -> std::process::Command {
    let mut cargo = command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()), &["test"]);
    cargo.args(["--package", "supdrv-core", "--target-dir"]).arg(folder).args(arguments);
    cargo.env("RUSTFLAGS", "-C instrument-coverage");
    cargo.env("LLVM_PROFILE_FILE", folder.join("profiles/%p-%m.profraw"));
    cargo
}

/// `cargo xtask coverage`: runs the core's tests and prints which lines they reached, by file.
pub fn run() -> Result<()> {
    let reached = measure()?;
    if reached < TARGET { Err(format!("the target is {TARGET} %").into()) } else { Ok(()) }
}

/// Whether the tests reach as much as they must.
pub fn check() -> Result<Tally> {
    Ok(Tally::one(measure()? >= TARGET))
}

fn measure() -> Result<f64> {
    let version = llvm_version()?;
    need(&[&format!("llvm-{version}")])?;
    let folder = target("coverage")?;
    let profiles = folder.join("profiles");
    if profiles.exists() {
        std::fs::remove_dir_all(&profiles)?;
    }
    // What needs a library built for other targets measures nothing here.
    let tests = ["--lib", "--tests", "--no-fail-fast"];
    let mut build = cargo_test(&folder, &tests);
    let messages =
        long_step("building instrumented tests", build.args(["--no-run", "--message-format=json"]))?;
    let mut tests_run = cargo_test(&folder, &tests);
    long_step("running instrumented tests", tests_run.args(["--", "--skip", "c_sees_what_it_is_promised"]))?;
    let merged = folder.join("merged.profdata");
    let mut merge = command(format!("llvm-profdata-{version}"), &["merge", "--sparse", "--output"]);
    merge.arg(&merged);
    for entry in std::fs::read_dir(&profiles)? {
        merge.arg(entry?.path());
    }
    run_command(&mut merge)?;
    let mut report = command(format!("llvm-cov-{version}"), &["report", "--show-branch-summary=false"]);
    report
        .arg(format!("--ignore-filename-regex={IGNORED}"))
        .arg(format!("--instr-profile={}", merged.display()));
    for program in programs(&messages) {
        report.arg("--object").arg(program);
    }
    let report = run_command(&mut report)?;
    println!("{report}");
    let reached = line_percentage(&report).ok_or("the report has no sum")?;
    println!("line coverage of the core by host tests: {reached} %");
    Ok(reached)
}

#[cfg(test)]
mod tests {
    use super::{line_percentage, programs};

    #[test]
    fn the_sum_of_a_report_is_found() {
        let report = "Filename Regions\na.rs 1 0 100.00% 1 0 100.00% 1 0 100.00%\n\
            TOTAL   9000  800  91.11%   700  30  95.71%   6000  240  96.00%\n";
        assert_eq!(line_percentage(report), Some(96.0));
    }

    #[test]
    fn test_programs_are_found_in_cargos_messages() {
        let messages = "{\"reason\":\"compiler-artifact\",\"executable\":null}\n\
            {\"reason\":\"compiler-artifact\",\"executable\":\"/t/deps/gip-1\",\"fresh\":true}\n";
        assert_eq!(programs(messages), [std::path::PathBuf::from("/t/deps/gip-1")]);
    }
}
