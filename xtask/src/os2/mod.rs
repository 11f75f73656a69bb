//! The OS/2 driver: the Rust half, converted to the object format of OS/2's linkers, and the assembly half.

mod elf;
mod inspect;
mod omf;
mod symbols;

use std::path::{Path, PathBuf};

use crate::cross::{build_rust, collect, link_relocatable};
use crate::report::{Result, Tally};
use crate::tools::{command, need, root, run, target};
use symbols::Symbols;

/// What the assembly half and sibling drivers call.
const RUST_GLOBALS: [&str; 4] =
    ["supdrv_os2_idc", "supdrv_os2_init", "supdrv_os2_strategy", "supdrv_os2_tick"];

fn shim() -> PathBuf {
    root().join("supdrv-os2")
}

/// The two objects that a driver is linked from, in the order of the link.
struct Objects {
    shell: PathBuf,
    rust: PathBuf,
    /// The Rust half before its conversion.
    elf: PathBuf,
}

fn assemble(folder: &Path) -> Result<PathBuf> {
    need(&["nasm"])?;
    let (sources, object) = (shim().join("shell"), folder.join("shell.obj"));
    let mut nasm = command("nasm", &["-f", "obj", "-Wall", "-Werror"]);
    // The assembler puts folders and file names together as they are.
    nasm.arg("-i").arg(format!("{}/", sources.display())).arg("-o").arg(&object);
    run(nasm.arg(sources.join("shell.asm")))?;
    Ok(object)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()).into())
}

fn build_objects() -> Result<Objects> {
    let folder = target("os2")?;
    let shell = assemble(&folder)?;
    let library = build_rust("supdrv-os2", "i586-os2-kernel")?;
    let (elf, rust) = (folder.join("supdrv_os2.o"), folder.join("supdrv.obj"));
    link_relocatable("elf_i386", &[], &library, &RUST_GLOBALS, &elf)?;
    let module = elf::convert("supdrv", &read(&elf)?, &Symbols::read()?.kernel_imports())?;
    std::fs::write(&rust, module.to_bytes()?)?;
    Ok(Objects { shell, rust, elf })
}

/// Builds the objects and what links them on a machine that has a linker for OS/2; returns the folder.
pub fn build() -> Result<PathBuf> {
    package(&build_objects()?)
}

fn package(objects: &Objects) -> Result<PathBuf> {
    let packaging = shim().join("packaging");
    collect(
        &target("os2/kit")?,
        &[
            (objects.shell.clone(), "shell.obj"),
            (objects.rust.clone(), "supdrv.obj"),
            (packaging.join("vboxdrv.def"), "vboxdrv.def"),
            (packaging.join("vboxdrv.lnk"), "vboxdrv.lnk"),
            (packaging.join("config.sys"), "config.sys"),
            (packaging.join("README"), "README"),
        ],
    )
}

/// Builds, and inspects what was built.
pub fn check() -> Result<Tally> {
    let objects = build_objects()?;
    package(&objects)?;
    inspect::inspect(&objects)
}
