//! Build, demo and test automation: `cargo xtask help`.

mod bench;
mod book;
mod coverage;
mod cross;
mod darwin;
mod demo;
mod endings;
mod freebsd;
mod images;
mod kernel;
mod legacy;
mod linux;
mod os2;
mod panics;
mod qemu;
mod report;
mod solaris;
mod test;
mod tools;
mod windows;

use std::process::ExitCode;

use report::Result;

const HELP: &str = "\
usage: cargo xtask COMMAND

  demo                 builds the Linux driver, boots a kernel in QEMU and shows the driver at work
  test [FILTER…]       everything that CI checks; with filters only the steps whose names contain one of them
  build ARTEFACT       builds one artefact and prints its path as the last line:
                         linux   vboxdrv.ko for the newest installed 6.1 kernel headers
                         supctl  the client, statically linked
                         images  ring-0 images for Linux that check the driver's runtime; the last one's path
                         freebsd vboxdrv.ko for FreeBSD 14 and 15; the newer one's path
                         solaris vboxdrv, a kernel module for illumos on amd64
                         windows VBoxDrv.sys for x64
                         darwin  VBoxDrv.kext for Intel Macs, 10.7 and later
                         os2     VBoxDrv.sys for OS/2, with its objects and what links them elsewhere
                         book    this project's documentation, by mdBook; its first page
                         supctl-windows  the client for Windows
                         legacy --target T   libsupdrv_core.a for C drivers; T is linux, windows, darwin, freebsd, solaris,
                                 freebsd-dtrace, solaris-dtrace, os2, or x86_64 or i686 for programs in user mode; --all for all of them
  panics               counts the panicking paths in the core's release builds; fails if there are any
  coverage             runs the core's tests and prints which lines they reach
  bench                instructions that requests and services cost on the host, and whether that grows with what is open
  bench --kernel       instructions that requests cost in the kernel, counted in QEMU

Missing Debian packages are installed with apt-get, after saying so. Everything is built and cached under target/.";

fn build(artefact: &str) -> Result<()> {
    let path = match artefact {
        "linux" => linux::build(&kernel::Kernel::newest()?)?,
        "supctl" => linux::build_supctl()?,
        "images" => images::build()?.pop().ok_or("there are no images")?,
        "freebsd" => freebsd::build()?,
        "solaris" => solaris::build()?,
        "windows" => windows::build()?,
        "darwin" => darwin::build()?,
        "os2" => os2::build()?,
        "book" => book::build()?,
        "supctl-windows" => windows::build_supctl()?,
        other => return Err(format!("no artefact is called {other:?}; see `cargo xtask help`").into()),
    };
    println!("{}", path.display());
    Ok(())
}

/// The library for one target, or for all of them.
fn build_legacy(arguments: &[&str]) -> Result<()> {
    let path = match arguments {
        ["--target", name] => legacy::build(legacy::find(name)?)?,
        ["--all"] => legacy::build_all()?,
        _ => return Err("usage: cargo xtask build legacy --target TARGET | --all".into()),
    };
    println!("{}", path.display());
    Ok(())
}

fn run(arguments: &[&str]) -> Result<()> {
    match arguments {
        ["demo"] => demo::run(),
        ["panics"] => panics::run(),
        ["coverage"] => coverage::run(),
        ["test", filters @ ..] => test::run(filters),
        ["build", "legacy", rest @ ..] => build_legacy(rest),
        ["build", artefact] => build(artefact),
        ["bench"] => bench::run_all(),
        ["bench", "--kernel"] => demo::costs(),
        [] | ["help" | "--help" | "-h"] => {
            println!("{HELP}");
            Ok(())
        }
        other => Err(format!("unknown command {:?}\n\n{HELP}", other.join(" ")).into()),
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::FAILURE
        }
    }
}
