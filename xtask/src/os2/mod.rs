//! The OS/2 driver: the Rust half, converted to the object format of OS/2's linkers, and the assembly half.

mod elf;
mod inspect;
mod link;
mod lx;
mod machine;
mod omf;
mod symbols;

use std::path::{Path, PathBuf};

use crate::cross::{build_rust, link_relocatable};
use crate::report::{Result, Tally};
use crate::tools::{command, copy_if_changed, need, root, run, target, write_if_changed};
use omf::Module;
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

/// As `bldlevel` wants it.
fn description() -> String {
    format!("@#supdrv:{}#@ Host support driver", env!("CARGO_PKG_VERSION"))
}

/// Links the driver, and puts it together with what installs it and what links it elsewhere; returns the driver.
fn package(objects: &Objects) -> Result<PathBuf> {
    let modules = [Module::parse(&read(&objects.shell)?)?, Module::parse(&read(&objects.rust)?)?];
    let names = lx::Names { module: "VBOXDRV", description: &description() };
    let folder = target("os2/package")?;
    let driver = folder.join("VBoxDrv.sys");
    write_if_changed(&driver, &lx::write(&link::link(&modules)?, &names)?)?;
    for (object, name) in [(&objects.shell, "shell.obj"), (&objects.rust, "supdrv.obj")] {
        copy_if_changed(object, &folder.join(name))?;
    }
    for name in ["vboxdrv.def", "vboxdrv.lnk", "config.sys", "readme"] {
        let text = String::from_utf8(read(&shim().join("packaging").join(name))?)?;
        // Lines end as they do there.
        let text = text.replace("@DESCRIPTION@", &description()).replace('\n', "\r\n");
        write_if_changed(&folder.join(name), text.as_bytes())?;
    }
    Ok(driver)
}

/// Builds `VBoxDrv.sys`; beside it are the objects and what links them on OS/2.
pub fn build() -> Result<PathBuf> {
    package(&build_objects()?)
}

/// Builds, and inspects what was built.
pub fn check() -> Result<Tally> {
    let objects = build_objects()?;
    let driver = package(&objects)?;
    let mut tally = inspect::inspect(&objects)?;
    tally.add(inspect::inspect_driver(&driver)?);
    Ok(tally)
}

/// Builds, and runs what was built in an emulated machine.
pub fn test() -> Result<Tally> {
    machine::test(&build()?)
}
