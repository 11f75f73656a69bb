//! Ring-0 images for the kernel, from the sources in `supdrv-core/supctl/images`: what `supctl selftest --image` runs.

use std::path::{Path, PathBuf};

use crate::linux;
use crate::report::Result;
use crate::tools::{command, need, root, run, target};

/// As the kernel is compiled, as far as that matters to code that is loaded beside it.
const C_FLAGS: &[&str] = &[
    "-c",
    "-O2",
    "-ffreestanding",
    "-fno-pic",
    "-mcmodel=kernel",
    "-mno-red-zone",
    "-mgeneral-regs-only",
    "-fno-stack-protector",
    "-fno-common",
    "-fcf-protection=branch",
    "-Wall",
    "-Werror",
];

fn sources() -> PathBuf {
    root().join("supdrv-core/supctl/images")
}

fn from_c(source: &str, object: &Path) -> Result<()> {
    need(&["gcc"])?;
    run(command("gcc", C_FLAGS).arg("-o").arg(object).arg(sources().join(source))).map(drop)
}

/// A library of the compiler that the Rust half of the driver was built with.
fn library(name: &str) -> Result<PathBuf> {
    let folder = target("linux-rust")?.join("x86_64-unknown-none/kern/deps");
    let prefix = format!("lib{name}-");
    let mut found: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if file.starts_with(&prefix) && file.ends_with(".rlib") {
            found.push(path);
        }
    }
    let newest = found.into_iter().max_by_key(|path| path.metadata().and_then(|data| data.modified()).ok());
    newest.ok_or_else(|| format!("{name} was not built for the kernel").into())
}

/// The language's core library is the one that was built for the driver: compilers come without one for kernels.
fn from_rust(source: &str, object: &Path) -> Result<()> {
    linux::build_rust_half()?;
    let mut rustc = command("/usr/bin/rustc", &["--edition", "2024", "--emit", "obj", "-C", "opt-level=2"]);
    rustc.args(["--target", "x86_64-unknown-none", "-C", "panic=abort", "-Z", "unstable-options"]);
    rustc.args(["-C", "code-model=kernel", "-C", "relocation-model=static", "-C", "force-unwind-tables=no"]);
    rustc.args(["-Z", "cf-protection=branch", "-C", "codegen-units=1"]).env("RUSTC_BOOTSTRAP", "1");
    // The driver's branches go through thunks of the kernel, which images can't reach; nothing of the library is linked in.
    rustc.args([
        "-C",
        "unsafe-allow-abi-mismatch=retpoline,retpoline-external-thunk,indirect-branch-cs-prefix",
    ]);
    for name in ["core", "compiler_builtins"] {
        rustc.arg("--extern").arg(format!("noprelude:{name}={}", library(name)?.display()));
    }
    run(rustc.arg("-o").arg(object).arg(sources().join(source))).map(drop)
}

/// Builds all of them; their names are their files'.
pub fn build() -> Result<Vec<PathBuf>> {
    let folder = target("images")?;
    let names = ["exports.o", "VMMR0.r0.o", "rust.o", "tracer.o"];
    let [exports, vmmr0, rust, tracer] = names.map(|name| folder.join(name));
    from_c("exports.c", &exports)?;
    from_c("vmmr0.c", &vmmr0)?;
    from_rust("rust.rs", &rust)?;
    from_c("tracer.c", &tracer)?;
    Ok(vec![exports, vmmr0, rust, tracer])
}
