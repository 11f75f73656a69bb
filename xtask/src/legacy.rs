//! `libsupdrv_core.a`: the core for C drivers of the era, for every system whose shell might link it.
//!
//! The library asks its users for the C runtime of the era and nothing else; that is checked here, with the list that C drivers'
//! owners have (`supdrv-core/tests/data/legacy-imports.json`).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::report::{Result, Tally};
use crate::tools::{cargo_with_sources, command, long_step, need, root, run, say, target};

/// What a library is built for.
pub struct Target {
    /// Its name on the command line.
    pub name: &'static str,
    /// What the compiler calls it: a built-in target, or a file in `targets/`.
    triple: &'static str,
    /// Features of the crate.
    features: &'static str,
    /// How code in that kernel must look.
    rustflags: &'static str,
    /// Whether C names begin with an underscore.
    underscore: bool,
    /// What else is there: the C library of test programs.
    surroundings: &'static [&'static str],
}

const KERNEL_CODE: &str = "-C code-model=kernel -C relocation-model=static -C relro-level=off \
    -C force-unwind-tables=no -C jump-tables=no";
const USER_CODE: &str = "-C relocation-model=pic -C force-unwind-tables=yes";

/// The host's DTrace, and the shell's function for it.
const DTRACE: &[&str] = &[
    "dtrace_invalidate",
    "dtrace_probe",
    "dtrace_probe_create",
    "dtrace_probe_lookup",
    "dtrace_register",
    "dtrace_unregister",
    "supdrvOSDTraceStackEnd",
];

/// All targets. Compilers for Darwin zero memory with a function of the kernel's libkern. The last two are for programs that test the library in user mode.
pub const TARGETS: &[Target] = &[
    Target {
        name: "linux",
        triple: "x86_64-unknown-none",
        features: "kernel",
        rustflags: KERNEL_CODE,
        underscore: false,
        surroundings: &[],
    },
    Target {
        name: "windows",
        triple: "x86_64-winkernel",
        features: "windows,image-words",
        rustflags: "",
        underscore: false,
        surroundings: &[],
    },
    Target {
        name: "darwin",
        triple: "x86_64-darwin-kernel",
        features: "darwin",
        rustflags: "",
        underscore: true,
        surroundings: &["__bzero"],
    },
    Target {
        name: "freebsd",
        triple: "x86_64-freebsd-kernel",
        features: "bsd",
        rustflags: "",
        underscore: false,
        surroundings: &[],
    },
    Target {
        name: "solaris",
        triple: "x86_64-solaris-kernel",
        features: "solaris,image-words",
        rustflags: "",
        underscore: false,
        surroundings: &[],
    },
    Target {
        name: "freebsd-dtrace",
        triple: "x86_64-freebsd-kernel",
        features: "bsd,dtrace",
        rustflags: "",
        underscore: false,
        surroundings: DTRACE,
    },
    Target {
        name: "solaris-dtrace",
        triple: "x86_64-solaris-kernel",
        features: "solaris,image-words,dtrace",
        rustflags: "",
        underscore: false,
        surroundings: DTRACE,
    },
    Target {
        name: "os2",
        triple: "i586-os2-kernel",
        features: "os2",
        rustflags: "",
        underscore: false,
        surroundings: &[],
    },
    Target {
        name: "x86_64",
        triple: "x86_64-unknown-linux-gnu",
        features: "kernel",
        rustflags: USER_CODE,
        underscore: false,
        surroundings: &["bcmp"],
    },
    Target {
        name: "i686",
        triple: "i686-unknown-linux-gnu",
        features: "kernel",
        rustflags: USER_CODE,
        underscore: false,
        surroundings: &["bcmp", "_GLOBAL_OFFSET_TABLE_"],
    },
];

/// The target with a name, the system's or the compiler's.
pub fn find(name: &str) -> Result<&'static Target> {
    let found = TARGETS.iter().find(|target| target.name == name || target.triple == name);
    found.ok_or_else(|| {
        let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
        format!("no target is called {name:?}; there are {}", names.join(", ")).into()
    })
}

/// Builds the library and checks what it imports.
pub fn build(what: &Target) -> Result<PathBuf> {
    let file = root().join("targets").join(what.triple).with_extension("json");
    let mut cargo = cargo_with_sources()?;
    cargo.args(["rustc", "--quiet", "-p", "supdrv-legacy", "--profile", "kern", "--features", what.features]);
    cargo.args([
        "--crate-type",
        "staticlib",
        "-Z",
        "build-std=core,alloc,compiler_builtins",
        "-Z",
        "json-target-spec",
    ]);
    match file.exists() {
        true => cargo.arg("--target").arg(&file),
        false => cargo.args(["--target", what.triple]),
    };
    cargo.env("RUSTFLAGS", what.rustflags).env("MACOSX_DEPLOYMENT_TARGET", "10.12");
    let folder = target("legacy")?;
    long_step(
        &format!("building libsupdrv_core.a for {}", what.name),
        cargo.arg("--target-dir").arg(&folder),
    )?;
    let output = folder.join(what.triple).join("kern");
    // The names that the compiler gives to static libraries differ.
    let built = ["libsupdrv_legacy.a", "supdrv_legacy.lib", "supdrv_legacy.a"].map(|name| output.join(name));
    let built = built.iter().find(|path| path.exists()).ok_or("the compiler made no library")?;
    let library = target(&format!("legacy/{}", what.name))?.join("libsupdrv_core.a");
    // The compiler's own notes for link-time optimisation are of no use to anybody else, and confuse older tools.
    need(&["llvm-19"])?;
    let mut strip = command("llvm-objcopy-19", &[]);
    for section in [".llvmbc", ".llvmcmd", "__LLVM,__bitcode", "__LLVM,__cmdline"] {
        if section.starts_with("__") == what.underscore {
            strip.arg("-R").arg(section);
        }
    }
    run(strip.arg(built).arg(&library))?;
    check_imports(what, &library)?;
    check_panics(&library)?;
    Ok(library)
}

/// Builds all of them; returns the folder they are in.
pub fn build_all() -> Result<PathBuf> {
    for what in TARGETS {
        build(what)?;
    }
    target("legacy")
}

/// The conformance suite as a 32-bit program: on the mock system, and through a C shell. Hosts have no 32-bit standard library: it is built from source.
pub fn suite_on_32_bit() -> Result<Tally> {
    need(&["gcc-multilib"])?;
    let library = build(find("i686")?)?;
    let mut cargo = test_on("i686-unknown-linux-gnu", &["-p", "supctl", "--test", "c_shell"])?;
    let output = long_step("the suite through a 32-bit C shell", cargo.env("SUPDRV_CORE_LIBRARY", library))?;
    println!("{output}");
    let mut tally = Tally::of_cargo_test(&output);
    for (what, test) in [
        ("the suite on a 32-bit mock system", &["-p", "supctl", "--test", "mock"][..]),
        ("variable arguments on 32-bit", VARIADIC_TEST),
        ("the OS/2 shim on a 32-bit fake kernel", &["-p", "supdrv-os2"]),
    ] {
        let output = long_step(what, &mut test_on("i686-unknown-linux-gnu", test)?)?;
        println!("{output}");
        tally.add(Tally::of_cargo_test(&output));
    }
    Ok(tally)
}

/// The test of functions with variable arguments, which each calling convention has to pass.
pub const VARIADIC_TEST: &[&str] = &["-p", "supdrv-legacy", "--test", "variadic"];

/// A test for a target whose standard library is built from source.
pub fn test_on(triple: &str, test: &[&str]) -> Result<Command> {
    let mut cargo = cargo_with_sources()?;
    cargo.args(["test", "--quiet", "--target", triple]).args(test);
    cargo.args(["-Z", "build-std=std,panic_unwind", "--target-dir"]).arg(target(&format!("{triple}-tests"))?);
    Ok(cargo)
}

fn names(library: &Path, filter: &str) -> Result<BTreeSet<String>> {
    let mut nm = command("llvm-nm-19", &["--extern-only", "--format=posix", "--quiet", filter]);
    let listing = run(nm.arg(library))?;
    Ok(listing.lines().filter_map(|line| line.split_once(' ')).map(|(name, _)| name.to_owned()).collect())
}

/// Nothing of ours may reach the panic machinery. (The compiler's own helpers could, for code that nobody calls.)
fn check_panics(library: &Path) -> Result<()> {
    let listing = run(command("llvm-nm-19", &["--print-file-name", "--quiet"]).arg(library))?;
    let ours = listing.lines().filter(|line| line.contains("supdrv_legacy"));
    let panics: Vec<&str> = ours.filter(|line| line.contains("9panicking")).collect();
    if panics.is_empty() {
        return Ok(());
    }
    Err(format!("{}: code that may panic:\n{}", library.display(), panics.join("\n")).into())
}

/// Undefined symbols of the library that a C driver's runtime doesn't have.
fn check_imports(what: &Target, library: &Path) -> Result<()> {
    let (undefined, defined) = (names(library, "--undefined-only")?, names(library, "--defined-only")?);
    let text = std::fs::read_to_string(root().join("supdrv-core/tests/data/legacy-imports.json"))?;
    let allowed: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("\"name\": \"")?.strip_suffix("\","))
        .collect();
    if allowed.len() < 200 {
        return Err("the list of permitted imports can't be read".into());
    }
    let c_name = |symbol: &str| match what.underscore {
        true => symbol.strip_prefix('_').unwrap_or(symbol).to_owned(),
        false => symbol.to_owned(),
    };
    let imports: BTreeSet<String> =
        undefined.iter().filter(|symbol| !defined.contains(*symbol)).map(|symbol| c_name(symbol)).collect();
    let known = |symbol: &str| allowed.contains(symbol) || what.surroundings.contains(&symbol);
    let missing: Vec<&str> = imports.iter().map(String::as_str).filter(|symbol| !known(symbol)).collect();
    if !missing.is_empty() {
        return Err(
            format!("{}: imports that no C driver has: {}", library.display(), missing.join(", ")).into()
        );
    }
    say(&format!(
        "{}: imports {} symbols, all of them on the list of {}",
        what.name,
        imports.len(),
        allowed.len()
    ));
    Ok(())
}
