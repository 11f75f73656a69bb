//! The FreeBSD driver: the Rust half, the C half against the headers of a release, linked into `vboxdrv.ko`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::cross::{
    HeaderPackage, Inspection, KERNEL_CFLAGS, build_rust, clang_headers, collect, is_shell_script,
    link_relocatable, symbol_list,
};
use crate::report::{Result, Tally};
use crate::tools::{command, root, run, target, write_if_changed};

/// A release whose headers can be had.
struct Release {
    name: &'static str,
    /// `__FreeBSD_version`.
    version: &'static str,
    headers: HeaderPackage,
}

const PATTERN: &str = "ziglang/lib/libc/include/*freebsd*";

const RELEASES: [Release; 2] = [
    Release {
        name: "14",
        version: "1403000",
        headers: HeaderPackage {
            requirement: "ziglang==0.15.2",
            sha256: "806316453d1ede7174ed3fefb8e5348154629089c3bb5fe812dfd0e172fac130",
            pattern: PATTERN,
        },
    },
    Release {
        name: "15",
        version: "1500068",
        headers: HeaderPackage {
            requirement: "ziglang==0.17.1",
            sha256: "ea6cc5d87b033cf0aedfbc8f9549a908cae6c50ac31f1698188fa48a74524b54",
            pattern: PATTERN,
        },
    },
];

/// The C half.
const SOURCES: [&str; 2] = ["shell.c", "memory.c"];

/// What a kernel's build generates; nothing in it is needed.
const GENERATED: [&str; 1] = ["opt_global.h"];

fn compile(release: &Release, source: &str, folder: &Path) -> Result<PathBuf> {
    let headers = release.headers.folder()?.join("ziglang/lib/libc/include");
    let generated = folder.join("generated");
    for name in GENERATED {
        write_if_changed(&generated.join(name), b"")?;
    }
    let object = folder.join(source).with_extension("o");
    let mut clang = command("clang-19", &["--target=x86_64-unknown-freebsd", "-nostdinc"]);
    clang.args(KERNEL_CFLAGS).args(["-D_KERNEL", "-DKLD_MODULE", "-DHAVE_KERNEL_OPTION_HEADERS"]);
    clang.arg(format!("-D__FreeBSD_version={}", release.version));
    clang.arg("-I").arg(&generated).args(["-include", "opt_global.h"]);
    for system in [clang_headers()?, headers.join("x86_64-freebsd-none"), headers.join("generic-freebsd")] {
        clang.arg("-isystem").arg(system);
    }
    run(clang.arg("-c").arg(root().join("supdrv-freebsd/shell").join(source)).arg("-o").arg(&object))?;
    Ok(object)
}

/// A release whose headers can't be had: its branches are compiled against the stand-ins of the tests.
struct Branches {
    name: &'static str,
    version: &'static str,
    /// Functions that the objects call only in the branches of such releases, and only in those of later ones.
    calls: &'static [&'static str],
    avoids: &'static [&'static str],
}

const STAND_INS: [Branches; 5] = [
    Branches { name: "12.0", version: "1200086", calls: &["kick_proc0"], avoids: &["vm_page_valid"] },
    Branches { name: "12.4", version: "1204000", calls: &["kick_proc0"], avoids: &["vm_page_valid"] },
    Branches { name: "13.0", version: "1300139", calls: &["kick_proc0", "vm_page_valid"], avoids: &[] },
    Branches { name: "13.5", version: "1305000", calls: &["kick_proc0", "vm_page_valid"], avoids: &[] },
    // Where the real headers say the same, so that the stand-ins are known to.
    Branches { name: "15", version: "1500068", calls: &["vm_page_valid"], avoids: &["kick_proc0"] },
];

/// The names of the stand-ins' functions begin with this.
const PREFIX: &str = "freebsd_";

/// Compiles the C half for a release with stand-ins of its headers; the kernel's functions that it calls.
fn compile_branches(branches: &Branches) -> Result<BTreeSet<String>> {
    let shim = root().join("supdrv-freebsd");
    let folder = target("freebsd/stand-ins")?.join(branches.name);
    let mut called = BTreeSet::new();
    for source in SOURCES {
        let path = shim.join("shell").join(source);
        for line in std::fs::read_to_string(&path)?.lines() {
            let Some((header, _)) = line.strip_prefix("#include <").and_then(|rest| rest.split_once('>'))
            else {
                continue;
            };
            write_if_changed(&folder.join(header), b"#include \"freebsd-standin.h\"\n")?;
        }
        let object = folder.join(source).with_extension("o");
        let mut clang = command("clang-19", &["--target=x86_64-unknown-freebsd", "-nostdinc"]);
        clang.args(KERNEL_CFLAGS).arg(format!("-D__FreeBSD_version={}", branches.version));
        clang.arg("-I").arg(&folder).arg("-I").arg(shim.join("tests/shell"));
        run(clang.arg("-c").arg(path).arg("-o").arg(&object))?;
        called.extend(Inspection::of(&object)?.undefined()?);
    }
    Ok(called)
}

fn check_branches(branches: &Branches) -> Result<Tally> {
    let called = compile_branches(branches)?;
    let calls = |name: &&str| called.contains(&format!("{PREFIX}{name}"));
    let as_meant = branches.calls.iter().all(calls) && !branches.avoids.iter().any(calls);
    println!(
        "{} the C half compiles for {} against stand-ins, and calls {:?} but not {:?}",
        if as_meant { "ok    " } else { "FAILED" },
        branches.name,
        branches.calls,
        branches.avoids
    );
    Ok(Tally::one(as_meant))
}

fn build_for(release: &Release, library: &Path) -> Result<PathBuf> {
    let folder = target("freebsd")?.join(release.name);
    std::fs::create_dir_all(&folder)?;
    let objects = [compile(release, SOURCES[0], &folder)?, compile(release, SOURCES[1], &folder)?];
    let module = folder.join("vboxdrv.ko");
    link_relocatable("elf_x86_64_fbsd", &objects, library, &["SUPDrvFreeBSDIDC"], &module)?;
    Ok(module)
}

/// What C calls, and what siblings call.
const RUST_GLOBALS: [&str; 6] = [
    "SUPDrvFreeBSDIDC",
    "supdrv_freebsd_ioctl",
    "supdrv_freebsd_load",
    "supdrv_freebsd_open",
    "supdrv_freebsd_quiesce",
    "supdrv_freebsd_unload",
];

/// What a FreeBSD machine of any release builds its own module from: the Rust half as an object, the C half as source.
fn kit(library: &Path) -> Result<PathBuf> {
    let object = target("freebsd")?.join("supdrv_rust.o");
    link_relocatable("elf_x86_64_fbsd", &[], library, &RUST_GLOBALS, &object)?;
    let shim = root().join("supdrv-freebsd");
    let (shell, packaging) = (shim.join("shell"), shim.join("packaging"));
    collect(
        &target("freebsd/kit")?,
        &[
            (object, "supdrv_rust.o.prebuilt"),
            (shell.join("shell.c"), "shell/shell.c"),
            (shell.join("memory.c"), "shell/memory.c"),
            (shell.join("glue.h"), "shell/glue.h"),
            (packaging.join("kmod/Makefile"), "Makefile"),
            (packaging.join("port/files/devfs.rules"), "devfs.rules"),
            (packaging.join("port/files/vboxdrv.in"), "vboxdrv.rc"),
        ],
    )
}

fn build_all() -> Result<Vec<PathBuf>> {
    let library = build_rust("supdrv-freebsd", "x86_64-freebsd-kernel")?;
    kit(&library)?;
    RELEASES.iter().map(|release| build_for(release, &library)).collect()
}

/// Builds `vboxdrv.ko` for all releases, and the kit for building it on FreeBSD; returns the newest release's module.
pub fn build() -> Result<PathBuf> {
    build_all()?.pop().ok_or_else(|| "no release".into())
}

/// Builds, and inspects what was built.
pub fn check() -> Result<Tally> {
    let mut tally = Tally::default();
    for module in build_all()? {
        tally.add(inspect(&module)?);
    }
    tally.add(inspect_kit()?);
    for branches in &STAND_INS {
        tally.add(check_branches(branches)?);
    }
    Ok(tally)
}

fn inspect_kit() -> Result<Tally> {
    let kit = target("freebsd/kit")?;
    let mut inspection = Inspection::of(&kit.join("supdrv_rust.o.prebuilt"))?;
    let globals = inspection.globals()?;
    inspection.check(&format!("defines what C calls {globals:?}"), globals.iter().eq(RUST_GLOBALS));
    let (mut known, mut behind_macros) = lists()?;
    known.append(&mut behind_macros);
    let undefined = inspection.undefined()?;
    let foreign: Vec<_> = undefined
        .iter()
        .filter(|name| !known.contains(*name) && !name.starts_with("supdrv_glue_") && *name != "M_SUPDRV")
        .collect();
    inspection.check(&format!("asks for the kernel and the C half only {foreign:?}"), foreign.is_empty());
    inspection
        .check("comes with a start script that a shell can read", is_shell_script(&kit.join("vboxdrv.rc")));
    Ok(inspection.result())
}

/// The kernel's functions that may be used, and what is behind those of them that are macros.
fn lists() -> Result<(BTreeSet<String>, BTreeSet<String>)> {
    let data = root().join("supdrv-freebsd/tests/data");
    let list = |name: &str| symbol_list(&data.join(name));
    Ok((list("symbols-freebsd.json")?, list("symbols-behind-macros.json")?))
}

fn inspect(module: &Path) -> Result<Tally> {
    let (known, behind_macros) = lists()?;
    let mut inspection = Inspection::of(module)?;
    inspection.check_module()?;
    inspection.check_imports(&[&known, &behind_macros])?;
    let globals = inspection.globals()?;
    inspection.check(
        &format!("exports its entry for siblings alone {globals:?}"),
        globals.iter().eq(["SUPDrvFreeBSDIDC"]),
    );
    let metadata = inspection.pointers("set_modmetadata_set")?;
    let has = |what: &str| metadata.iter().filter(|name| name.contains(what)).count();
    inspection.check(
        &format!("declares a module, its version, and the kernel it depends on {metadata:?}"),
        metadata.len() == 3 && has("vboxdrv") == 3 && has("_on_kernel") == 1 && has("_version") == 1,
    );
    let (up, down) = (inspection.pointers("set_sysinit_set")?, inspection.pointers("set_sysuninit_set")?);
    inspection.check(
        &format!("registers its module and its heap at load {up:?}, and ends the heap at unload {down:?}"),
        up.iter().any(|name| name.starts_with("vboxdrv")) && up.len() == 2 && down.len() == 1,
    );
    let sysctls = inspection.pointers("set_sysctl_set")?;
    inspection.check(&format!("shows its tunables {sysctls:?}"), sysctls.len() == 3);
    Ok(inspection.result())
}
