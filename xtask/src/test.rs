//! Everything that CI checks.

use std::time::Instant;

use crate::report::{Result, Tally};
use crate::tools::{command, need, say};
use crate::{book, coverage, darwin, demo, endings, freebsd, legacy, os2, panics, solaris, windows};

struct Step {
    name: &'static str,
    run: fn() -> Result<Tally>,
}

const STEPS: &[Step] = &[
    Step { name: "format", run: || cargo_ok(&["fmt", "--all", "--check"]) },
    Step { name: "clippy", run: clippy },
    Step { name: "host tests", run: host_tests },
    Step { name: "coverage of the core", run: coverage::check },
    Step { name: "documentation", run: documentation },
    Step { name: "book", run: book::check },
    Step { name: "no panicking path", run: panics::check },
    Step { name: "freebsd module", run: freebsd::check },
    Step { name: "solaris module", run: solaris::check },
    Step { name: "darwin extension", run: darwin::check },
    Step { name: "darwin classes on the host", run: darwin::run_shell },
    Step { name: "os2 driver", run: os2::check },
    Step { name: "os2 driver in a machine", run: os2::test },
    Step { name: "darwin extension on the host", run: darwin::run_module },
    Step { name: "windows image", run: windows::check },
    Step { name: "windows driver in wine", run: windows::test },
    Step { name: "C libraries for all targets", run: || legacy::build_all().map(|_| Tally::one(true)) },
    Step { name: "suite on 32-bit", run: legacy::suite_on_32_bit },
    Step { name: "linux in a real kernel", run: demo::in_kernel },
    Step { name: "linux: siblings and events", run: demo::events_in_kernel },
    Step { name: "linux: a newer kernel", run: demo::in_newer_kernel },
    Step { name: "linux: an older kernel", run: demo::in_older_kernel },
    Step { name: "linux: a real-time kernel", run: demo::in_real_time_kernel },
    Step { name: "linux: cost of requests", run: demo::check_costs },
];

fn cargo(arguments: &[&str]) -> std::process::Command {
    command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()), arguments)
}

/// A cargo command whose exit status is the result; its output is shown as it comes.
fn cargo_ok(arguments: &[&str]) -> Result<Tally> {
    let status = cargo(arguments).status()?;
    Ok(Tally::one(status.success()))
}

fn clippy() -> Result<Tally> {
    cargo_ok(&["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"])
}

fn documentation() -> Result<Tally> {
    let status = cargo(&["doc", "--quiet", "--workspace", "--no-deps", "--document-private-items"])
        .env("RUSTDOCFLAGS", "-D warnings")
        .status()?;
    Ok(Tally::one(status.success()))
}

/// What the tests call besides cargo: C compilers for both widths, and the compiler that builds the C library for 32-bit hosts.
const TEST_TOOLS: &[&str] = &[
    "gcc",
    "g++",
    "g++-mingw-w64-x86-64",
    "gcc-multilib",
    "nasm",
    "g++-multilib",
    "clang",
    "llvm-19",
    "binutils",
    "rustc-web",
    "cargo-web",
    "rust-web-src",
];

fn host_tests() -> Result<Tally> {
    need(TEST_TOOLS)?;
    let folder = endings::folder()?;
    let output = cargo(&["test", "--workspace", "--no-fail-fast"])
        .env(endings::VARIABLE, &folder)
        .stderr(std::process::Stdio::inherit())
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    println!("{text}");
    let mut tally = Tally::of_cargo_test(&text);
    // A test binary that died, or didn't build, has no result line.
    if !output.status.success() && tally.failed == 0 {
        tally.failed = 1;
    }
    tally.add(endings::check(&folder)?);
    Ok(tally)
}

/// `cargo xtask test`: runs all steps, or those whose names contain one of the filters; the last line is the sum.
pub fn run(filters: &[&str]) -> Result<()> {
    let mut sum = Tally::default();
    let mut lines = Vec::new();
    for step in STEPS
        .iter()
        .filter(|step| filters.is_empty() || filters.iter().any(|filter| step.name.contains(filter)))
    {
        say(&format!("=== {} ===", step.name));
        let start = Instant::now();
        let tally = (step.run)().unwrap_or_else(|error| {
            println!("{error}");
            Tally::one(false)
        });
        sum.add(tally);
        lines.push(format!("{:>5.0} s  {:<30} {tally}", start.elapsed().as_secs_f32(), step.name));
    }
    println!("\n{}\n", lines.join("\n"));
    println!("{sum}");
    if sum.passed == 0 && sum.failed == 0 {
        return Err("no step has such a name".into());
    }
    if sum.failed == 0 { Ok(()) } else { Err("there are failures".into()) }
}
