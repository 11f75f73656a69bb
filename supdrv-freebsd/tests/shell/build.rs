//! Compiles `shell/*.c` against `freebsd-standin.h`, under the names of the headers that they include.

use std::collections::BTreeSet;
use std::path::Path;
use std::{env, fs};

/// The newest release that the shell knows.
const VERSION: &str = "1500068";

fn main() {
    if env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("linux") {
        return;
    }
    let here = env::var("CARGO_MANIFEST_DIR").expect("set by cargo");
    let out = env::var("OUT_DIR").expect("set by cargo");
    let shell = Path::new(&here).join("../../shell");
    let sources = ["shell.c", "memory.c"].map(|name| shell.join(name));
    let mut headers = BTreeSet::new();
    for source in &sources {
        println!("cargo::rerun-if-changed={}", source.display());
        let text = fs::read_to_string(source).expect("a source");
        headers.extend(
            text.lines()
                .filter_map(|line| Some(line.strip_prefix("#include <")?.split_once('>')?.0.to_owned())),
        );
    }
    println!("cargo::rerun-if-changed={}", shell.join("glue.h").display());
    println!("cargo::rerun-if-changed=freebsd-standin.h");
    for header in headers {
        let path = Path::new(&out).join("include").join(header);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, "#include \"freebsd-standin.h\"\n").expect("a header");
    }
    cc::Build::new()
        .files(&sources)
        .include(Path::new(&out).join("include"))
        .include(&here)
        .define("__FreeBSD_version", VERSION)
        .flag("-nostdinc")
        .flag("-ffreestanding")
        .std("c11")
        .flag("-Wno-unused-parameter")
        .warnings_into_errors(true)
        .compile("freebsd_shell");
}
