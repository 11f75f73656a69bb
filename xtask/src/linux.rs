//! The Linux driver: the Rust half as one relocatable object, the C half by the kernel's own build.

use std::path::{Path, PathBuf};

use crate::kernel::Kernel;
use crate::report::Result;
use crate::tools::{
    cargo_with_sources, command, copy_if_changed, long_step, need, root, run, say, target, write_if_changed,
};

/// What code in a kernel must look like: no relocation through a global offset table, and calls and returns as the kernel's
/// own code has them.
const RUSTFLAGS: &str = "-C code-model=kernel -C relocation-model=static -C relro-level=off -C force-unwind-tables=no \
    -C jump-tables=no -Z function-return=thunk-extern -Z retpoline-external-thunk -Z indirect-branch-cs-prefix \
    -Z cf-protection=branch";

/// Sections of one object instead of one for each function: each would become a file in sysfs.
const LINKER_SCRIPT: &str = "SECTIONS {
  .text 0 : { *(.text .text.*) }
  .rodata 0 : { *(.rodata .rodata.*) }
  .data.rel.ro 0 : { *(.data.rel.ro .data.rel.ro.*) }
  .data 0 : { *(.data .data.*) }
  .bss 0 : { *(.bss .bss.*) *(COMMON) }
  /DISCARD/ : { *(.eh_frame .eh_frame_hdr .comment .llvm_addrsig .llvmbc .llvmcmd .debug_gdb_scripts .note.GNU-stack) }
}
";

/// Names that the Rust half keeps for the C half: what C calls, and the ring-0 runtime, which C exports to sibling modules.
fn is_kept(symbol: &str) -> bool {
    ["supdrv_rust_", "SUP", "g_pSUP", "RT"].iter().any(|prefix| symbol.starts_with(prefix))
}

/// The name under which siblings know a function of the runtime: a kernel has one name space for all modules.
fn kernel_name(symbol: &str) -> Option<String> {
    symbol.starts_with("RT").then(|| format!("VBoxHost_{symbol}"))
}

/// Builds the Rust half as an archive.
pub fn build_rust_half() -> Result<PathBuf> {
    let mut cargo = cargo_with_sources()?;
    cargo.args(["rustc", "--quiet", "-p", "supdrv-linux", "--profile", "kern", "--features", "kernel"]);
    cargo.args(["--crate-type", "staticlib", "-Z", "build-std=core", "--target", "x86_64-unknown-none"]);
    cargo.env("RUSTFLAGS", RUSTFLAGS).arg("--target-dir").arg(target("linux-rust")?);
    long_step("building the Rust half for the kernel", &mut cargo)?;
    Ok(target("linux-rust")?.join("x86_64-unknown-none/kern/libsupdrv_linux.a"))
}

/// Links the archive into one object in which only the kept names are global.
fn link(archive: &Path, object: &Path) -> Result<()> {
    let folder = target("linux")?;
    let script = folder.join("rust.lds");
    write_if_changed(&script, LINKER_SCRIPT.as_bytes())?;
    let listing = run(command("nm", &["--defined-only", "--extern-only", "--format=posix"]).arg(archive))?;
    let kept: Vec<&str> =
        listing.lines().filter_map(|line| line.split(' ').next()).filter(|symbol| is_kept(symbol)).collect();
    if kept.is_empty() {
        return Err(format!("{} defines none of the functions that C calls", archive.display()).into());
    }
    let linked = folder.join("rust.tmp.o");
    let mut ld = command("ld", &["-r", "--gc-sections", "-e", "supdrv_rust_init"]);
    for symbol in &kept {
        ld.args(["-u", symbol]);
    }
    run(ld.arg("-T").arg(&script).arg("-o").arg(&linked).arg(archive))?;
    let mut objcopy = command("objcopy", &["--strip-debug"]);
    for symbol in &kept {
        let name = kernel_name(symbol);
        objcopy.arg(format!("--keep-global-symbol={}", name.as_deref().unwrap_or(symbol)));
        if let Some(name) = name {
            objcopy.arg(format!("--redefine-sym={symbol}={name}"));
        }
    }
    let localised = folder.join("rust.local.o");
    run(objcopy.arg(&linked).arg(&localised))?;
    copy_if_changed(&localised, object)
}

/// Builds `vboxdrv.ko` for a kernel.
pub fn build(kernel: &Kernel) -> Result<PathBuf> {
    need(&["gcc", "make", "binutils"])?;
    let build = target("linux")?.join(&kernel.release);
    copy_folder(&root().join("supdrv-linux/shell"), &build)?;
    link(&build_rust_half()?, &build.join("rust.o_prebuilt"))?;
    kbuild(kernel, &build, "building vboxdrv.ko")?;
    Ok(build.join("vboxdrv.ko"))
}

/// Brings the files of a folder to another one, where the kernel's build may leave what it makes.
fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    for entry in std::fs::read_dir(from)? {
        let path = entry?.path();
        if let Some(name) = path.file_name() {
            copy_if_changed(&path, &to.join(name))?;
        }
    }
    Ok(())
}

/// Builds the test module `module` from `supdrv-linux/tests/<folder>`, which needs the driver's symbols; returns its path.
pub fn build_test_module(kernel: &Kernel, folder: &str, module: &str) -> Result<PathBuf> {
    let driver = target("linux")?.join(&kernel.release);
    let build = target("linux")?.join(format!("{}-{folder}", kernel.release));
    copy_folder(&root().join("supdrv-linux/tests").join(folder), &build)?;
    let variables = [
        format!("SUPDRV_INCLUDE={}", root().join("supdrv-core/include").display()),
        format!("KBUILD_EXTRA_SYMBOLS={}", driver.join("Module.symvers").display()),
    ];
    run_kbuild(kernel, &build, &format!("building {module}.ko"), &variables)?;
    Ok(build.join(format!("{module}.ko")))
}

fn kbuild(kernel: &Kernel, folder: &Path, what: &str) -> Result<()> {
    run_kbuild(kernel, folder, what, &[])
}

/// Runs the kernel's build in a folder; what modpost and objtool complain about is an error.
fn run_kbuild(kernel: &Kernel, folder: &Path, what: &str, variables: &[String]) -> Result<()> {
    let mut make = command("make", &["-C"]);
    make.arg(&kernel.headers).arg(format!("M={}", folder.display())).args(variables);
    if kernel.is_old() {
        make.arg("CC=gcc");
    }
    // The second setting: Debian's headers lack the tool for it.
    make.args(["modules", "CONFIG_DEBUG_INFO_BTF_MODULES=", "W=", "-j2"]);
    make.env_remove("MAKEFLAGS").env_remove("MFLAGS");
    let log = folder.join("build.log");
    let file = std::fs::File::create(&log)?;
    make.stderr(file.try_clone()?).stdout(file);
    say(&format!("{what} for {} …", kernel.release));
    let status = make.status()?;
    let text = std::fs::read_to_string(&log)?;
    let complaints: Vec<&str> = text.lines().filter(|line| is_complaint(line)).collect();
    if status.success() && complaints.is_empty() {
        return Ok(());
    }
    let shown = if complaints.is_empty() { text } else { complaints.join("\n") };
    Err(format!("{what} failed ({status}), see {}:\n{shown}", log.display()).into())
}

fn is_complaint(line: &str) -> bool {
    let line = line.to_ascii_lowercase();
    // Says that it does the right thing.
    let harmless = line.contains("linked object detected");
    !harmless && (line.contains("warning") || line.contains("error:"))
}

/// Builds the 32-bit program that the driver must refuse.
pub fn build_client32() -> Result<PathBuf> {
    need(&["gcc", "gcc-multilib"])?;
    let program = target("supctl")?.join("client32");
    let mut gcc = command("gcc", &["-m32", "-static", "-O1", "-Wall", "-Wextra", "-Werror", "-o"]);
    run(gcc.arg(&program).arg(root().join("supdrv-linux/tests/client32.c")))?;
    Ok(program)
}

/// Builds the client, statically linked: it runs in an initrd without libraries.
pub fn build_supctl() -> Result<PathBuf> {
    let mut cargo = command(
        std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()),
        &["build", "--quiet", "--release", "-p", "supctl"],
    );
    cargo.args(["--target", "x86_64-unknown-linux-gnu"]).env("RUSTFLAGS", "-C target-feature=+crt-static");
    cargo.arg("--target-dir").arg(target("supctl")?).env_remove("CARGO_ENCODED_RUSTFLAGS");
    long_step("building supctl", &mut cargo)?;
    Ok(target("supctl")?.join("x86_64-unknown-linux-gnu/release/supctl"))
}
