//! Compiles `shell/glue.c` with the names of the fake kernel. What is in `shell/instructions.c` only a kernel may do.

use std::env;
use std::path::Path;

fn main() {
    if env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("linux") {
        return;
    }
    let here = env::var("CARGO_MANIFEST_DIR").expect("set by cargo");
    let shell = Path::new(&here).join("../../shell");
    for file in ["glue.c", "glue.h", "system.h", "illumos.h"] {
        println!("cargo::rerun-if-changed={}", shell.join(file).display());
    }
    println!("cargo::rerun-if-changed=illumos-fake.h");
    cc::Build::new()
        .file(shell.join("glue.c"))
        .flag("-include")
        .flag(Path::new(&here).join("illumos-fake.h").to_string_lossy().as_ref())
        .flag("-nostdinc")
        .flag("-ffreestanding")
        .flag("-Wno-unused-parameter")
        .std("c11")
        .warnings_into_errors(true)
        .compile("solaris_shell");
}
