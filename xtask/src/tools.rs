//! Programs, packages and places.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::report::Result;

/// The workspace's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(PathBuf::new, Path::to_path_buf)
}

/// A folder under `target/`, created if it isn't there.
pub fn target(name: &str) -> Result<PathBuf> {
    let path = root().join("target").join(name);
    std::fs::create_dir_all(&path)?;
    Ok(path)
}

/// Says what is going on, on standard error: standard output is for results.
pub fn say(text: &str) {
    eprintln!("xtask: {text}");
}

/// A command, to be completed by the caller.
pub fn command(program: impl AsRef<OsStr>, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(root()).stdin(Stdio::null());
    command
}

/// Runs a command and returns what it printed on standard output.
///
/// A failure carries everything that it printed.
pub fn run(command: &mut Command) -> Result<String> {
    let output = command.output().map_err(|error| format!("{}: {error}", command.get_program().display()))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(text);
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    Err(format!("{command:?} failed ({})\n{text}{errors}", output.status).into())
}

/// Runs a command that may take long: says what it is for, and how long it took.
pub fn long_step(what: &str, command: &mut Command) -> Result<String> {
    say(&format!("{what} …"));
    let start = Instant::now();
    let output = run(command)?;
    say(&format!("{what}: {:.0} s", start.elapsed().as_secs_f32()));
    Ok(output)
}

/// The program of a cargo command that was asked for its messages.
pub fn executable(messages: &str) -> Result<PathBuf> {
    let found = messages.lines().rev().find_map(|line| {
        let path = line.split_once("\"executable\":\"")?.1.split_once('"')?.0;
        Some(PathBuf::from(path))
    });
    found.ok_or_else(|| "cargo doesn't say where the program is".into())
}

fn is_installed(package: &str) -> bool {
    let status = Command::new("dpkg-query").args(["-W", "-f=${db:Status-Status}", package]).output();
    status.is_ok_and(|output| output.stdout == b"installed")
}

/// Makes sure that Debian packages are installed.
pub fn need(packages: &[&str]) -> Result<()> {
    let missing: Vec<&str> = packages.iter().copied().filter(|package| !is_installed(package)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    say(&format!("missing Debian packages: {list}; installing them with apt-get"));
    let as_root = run(&mut command("id", &["-u"]))?.trim() == "0";
    let apt = |arguments: &[&str]| {
        let mut apt = if as_root { command("apt-get", &[]) } else { command("sudo", &["apt-get"]) };
        apt.args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
        apt
    };
    long_step("apt-get update", &mut apt(&["update"]))?;
    let mut install = apt(&["install", "-y", "--no-install-recommends"]);
    long_step(&format!("apt-get install {list}"), install.args(&missing))?;
    Ok(())
}

/// Copies a file if its content differs, so that time stamps only change with the content.
pub fn copy_if_changed(from: &Path, to: &Path) -> Result<()> {
    let content = std::fs::read(from).map_err(|error| format!("{}: {error}", from.display()))?;
    write_if_changed(to, &content)
}

/// Writes a file if its content differs.
pub fn write_if_changed(to: &Path, content: &[u8]) -> Result<()> {
    if std::fs::read(to).is_ok_and(|old| old == content) {
        return Ok(());
    }
    if let Some(parent) = to.parent() {
        std::fs::create_dir_all(parent)?;
    }
    std::fs::write(to, content).map_err(|error| format!("{}: {error}", to.display()).into())
}

/// A cargo that can build `core` from source: Debian's compiler with its library sources, allowed to use unstable options.
pub fn cargo_with_sources() -> Result<Command> {
    need(&["rustc-web", "cargo-web", "rust-web-src"])?;
    let mut cargo = command("/usr/bin/cargo", &[]);
    // A compiler of rustup earlier on the path has no sources of core.
    let path = std::env::var("PATH").unwrap_or_default();
    cargo.env("PATH", format!("/usr/bin:{path}")).env("RUSTC", "/usr/bin/rustc").env("RUSTC_BOOTSTRAP", "1");
    for inherited in ["CARGO", "RUSTUP_TOOLCHAIN", "RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS"] {
        cargo.env_remove(inherited);
    }
    Ok(cargo)
}
