//! The Darwin driver: the Rust half and the C++ half, linked into a kernel extension.

mod inspect;
mod link;
mod load;
mod plist;
mod run;
mod vtables;

use std::path::{Path, PathBuf};

use crate::cross::{build_rust, clang_headers, collect};
use crate::report::{Result, Tally};
use crate::tools::{command, root, target, write_if_changed};
use link::{Input, Options, link};

/// The extension's name among those of the system.
const IDENTIFIER: &str = "org.virtualbox.kext.VBoxDrv";
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What code in the kernel needs of the compiler. The oldest system is the one whose classes the headers declare.
const FLAGS: &[&str] = &[
    "--target=x86_64-apple-macosx10.6",
    "-nostdinc",
    "-O2",
    "-mkernel",
    "-ffreestanding",
    "-fno-builtin",
    "-fno-common",
    "-fno-strict-aliasing",
    "-fwrapv",
    "-mno-red-zone",
    "-mno-mmx",
    "-mno-sse",
    "-msoft-float",
    "-fno-stack-protector",
    "-fno-asynchronous-unwind-tables",
    "-fno-omit-frame-pointer",
    "-Wall",
    "-Wextra",
    "-Werror",
];

const C_FLAGS: &[&str] = &["-std=gnu99", "-Wmissing-prototypes"];

/// The kernel's own C++ interface. It runs the destructors that it finds in a section; the compiler would rather register them at run time.
const CXX_FLAGS: &[&str] = &[
    "-std=gnu++17",
    "-fapple-kext",
    "-fno-rtti",
    "-fno-exceptions",
    "-fcheck-new",
    "-mllvm",
    "-disable-atexit-based-global-dtor-lowering",
];

/// The C++ half.
const SOURCES: [&str; 3] = ["client.cpp", "memory.cpp", "kmod.c"];

/// Every kernel has these, faster than the compiler's library.
const KERNEL_MEMORY: &[&str] = &["_memcpy", "_memmove", "_memset", "_memcmp", "_bzero", "___bzero"];

/// What siblings and the kernel may see: the entry for siblings, the functions that loaded code calls, the description, the classes.
fn is_exported(name: &str) -> bool {
    const NAMES: [&str; 2] = ["_SUPDrvDarwinIDC", "_kmod_info"];
    const PREFIXES: [&str; 3] = ["_SUPR0", "_SUPSem", "_RT"];
    let class = name.starts_with("__Z") && name.contains("org_virtualbox_SupDrv");
    NAMES.contains(&name) || class || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

fn compile(source: &str, folder: &Path, flags: &[&str]) -> Result<PathBuf> {
    let object = folder.join(source).with_extension("o");
    let mut clang = command("clang-19", FLAGS);
    clang.args(if source.ends_with(".c") { C_FLAGS } else { CXX_FLAGS }).args(flags);
    clang.arg("-isystem").arg(clang_headers()?);
    clang.arg(format!("-DSUPDRV_IDENTIFIER=\"{IDENTIFIER}\"")).arg(format!("-DSUPDRV_VERSION=\"{VERSION}\""));
    clang.arg("-c").arg(root().join("supdrv-darwin/shell").join(source)).arg("-o").arg(&object);
    crate::tools::run(&mut clang)?;
    Ok(object)
}

fn compile_shell() -> Result<Vec<PathBuf>> {
    let folder = target("darwin/objects")?;
    SOURCES.iter().map(|source| compile(source, &folder, &[])).collect()
}

/// A file's content, and its name in messages.
fn read(path: &Path) -> Result<(String, Vec<u8>)> {
    let bytes = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok((path.file_name().unwrap_or_default().to_string_lossy().into_owned(), bytes))
}

/// Links objects and libraries into the file of an extension.
fn link_files(objects: &[PathBuf], libraries: &[PathBuf], required: &[&str]) -> Result<Vec<u8>> {
    let load = |paths: &[PathBuf]| paths.iter().map(|path| read(path)).collect::<Result<Vec<_>>>();
    let (objects, libraries) = (load(objects)?, load(libraries)?);
    fn inputs(files: &[(String, Vec<u8>)]) -> Vec<Input<'_>> {
        files.iter().map(|(name, bytes)| Input { name, bytes }).collect()
    }
    let options = Options { is_exported: &is_exported, required, kernel: KERNEL_MEMORY };
    link(&inputs(&objects), &inputs(&libraries), &options)
}

/// What the extension can't do without.
const REQUIRED: &[&str] = &["_SUPDrvDarwinIDC"];

/// Builds the bundle, and what installs it.
pub fn build() -> Result<PathBuf> {
    let library = build_rust("supdrv-darwin", "x86_64-darwin-kernel")?;
    let file = link_files(&compile_shell()?, &[library], REQUIRED)?;
    bundle(&file)
}

fn bundle(file: &[u8]) -> Result<PathBuf> {
    let bundle = target("darwin/package")?.join("VBoxDrv.kext");
    write_if_changed(&bundle.join("Contents/MacOS/VBoxDrv"), file)?;
    let packaging = root().join("supdrv-darwin/packaging");
    let template = std::fs::read_to_string(packaging.join("Info.plist.in"))?;
    let list = template.replace("@IDENTIFIER@", IDENTIFIER).replace("@VERSION@", VERSION);
    write_if_changed(&bundle.join("Contents/Info.plist"), list.as_bytes())?;
    let files = ["load.sh", "org.virtualbox.startup.plist", "INSTALL.md"];
    collect(&target("darwin/package")?, &files.map(|name| (packaging.join(name), name)))?;
    Ok(bundle)
}

/// Builds, and inspects what was built.
pub fn check() -> Result<Tally> {
    let bundle = build()?;
    let mut tally = inspect::bundle(&bundle)?;
    let first = std::fs::read(bundle.join("Contents/MacOS/VBoxDrv"))?;
    let again = std::fs::read(build()?.join("Contents/MacOS/VBoxDrv"))?;
    let same = first == again;
    println!(
        "{} VBoxDrv: is the same when it is compiled and linked again",
        if same { "ok    " } else { "FAILED" }
    );
    tally.add(Tally::one(same));
    Ok(tally)
}

/// Runs the whole extension.
pub fn run_module() -> Result<Tally> {
    let path = build()?.join("Contents/MacOS/VBoxDrv");
    run::scenario("module.c", &std::fs::read(path)?)
}

/// Runs the C++ half, linked by itself: the functions of Rust are among its imports.
pub fn run_shell() -> Result<Tally> {
    run::scenario("shell.c", &link_files(&compile_shell()?, &[], &[])?)
}
