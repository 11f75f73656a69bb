//! The driver at work: in an emulated machine, where a stand-in for OS/2's kernel loads it and calls its 16-bit entries.
//!
//! Everything in `VBoxDrv.sys` really runs: headers, thunks, services and the Rust half. The kernel around it is this project's own
//! (`supdrv-os2/tests/machine/`), so that this says nothing about OS/2's loader and services being as they are described.

use std::path::{Path, PathBuf};

use super::omf::Module;
use super::symbols::Symbols;
use super::{elf, link, lx, read, shim};
use crate::report::{Result, Tally};
use crate::tools::{command, need, run, say, target};

const SOURCES: [&str; 3] = ["kernel", "load", "tests"];
const CFLAGS: &[&str] = &[
    "-m32",
    "-std=gnu11",
    "-O1",
    "-ffreestanding",
    "-fno-pic",
    "-fno-builtin",
    "-fno-stack-protector",
    "-fno-asynchronous-unwind-tables",
    "-fcf-protection=none",
    "-mgeneral-regs-only",
    "-malign-data=abi",
    "-march=pentium",
    "-Wall",
    "-Wextra",
    "-Werror",
];
/// Whatever hangs is ended after this many seconds.
const LIMIT: &str = "60";

fn compile(source: &str, folder: &Path) -> Result<PathBuf> {
    let (path, object) = (shim().join("tests/machine").join(source), folder.join(source));
    let object = object.with_extension("o");
    run(command("gcc", CFLAGS).arg("-c").arg(path.with_extension("c")).arg("-o").arg(&object))?;
    Ok(object)
}

/// A driver of the shell and a C half that calls its services one by one.
fn build_probe() -> Result<PathBuf> {
    let folder = target("os2/machine")?;
    let shell = Module::parse(&read(&super::assemble(&folder)?)?)?;
    let probe =
        elf::convert("probe", &read(&compile("probe", &folder)?)?, &Symbols::read()?.kernel_imports())?;
    let names = lx::Names { module: "PROBE", description: "@#supdrv:0#@ For tests" };
    let driver = folder.join("probe.sys");
    std::fs::write(&driver, lx::write(&link::link(&[shell, probe])?, &names)?)?;
    Ok(driver)
}

fn build() -> Result<PathBuf> {
    need(&["gcc", "nasm", "lld-19"])?;
    let (sources, folder) = (shim().join("tests/machine"), target("os2/machine")?);
    let mut objects = vec![folder.join("start.o")];
    let mut nasm = command("nasm", &["-f", "elf32", "-Wall", "-Werror", "-o"]);
    run(nasm.arg(&objects[0]).arg(sources.join("start.asm")))?;
    for source in SOURCES {
        objects.push(compile(source, &folder)?);
    }
    let kernel = folder.join("kernel.elf");
    let mut ld = command("ld.lld-19", &["-m", "elf_i386", "-e", "_start", "--image-base=0x100000", "-o"]);
    run(ld.arg(&kernel).args(objects))?;
    Ok(kernel)
}

/// Boots the stand-in with the driver; what it counted.
pub fn test(driver: &Path) -> Result<Tally> {
    let kernel = build()?;
    need(&["qemu-system-x86"])?;
    say("loading the driver in QEMU …");
    let mut qemu =
        command("timeout", &[LIMIT, "qemu-system-i386", "-accel", "tcg", "-m", "1024", "-cpu", "pentium"]);
    qemu.args(["-nographic", "-nodefaults", "-no-reboot", "-serial", "stdio", "-monitor", "none"]);
    qemu.args(["-device", "isa-debug-exit,iobase=0xf4"]);
    let modules = format!("{},{}", driver.display(), build_probe()?.display());
    let output = qemu.arg("-kernel").arg(kernel).args(["-initrd", &modules]).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    println!("{text}");
    Tally::last_in(&text).ok_or_else(|| {
        let errors = String::from_utf8_lossy(&output.stderr);
        format!("the machine didn't get to the end of the tests ({})\n{errors}", output.status).into()
    })
}
