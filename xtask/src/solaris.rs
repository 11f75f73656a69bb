//! The Solaris driver: the Rust half, the C half against declarations of our own, linked into a kernel module.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::cross::{
    Inspection, KERNEL_CFLAGS, build_rust, clang_headers, collect, is_shell_script, link_relocatable,
    symbol_list,
};
use crate::report::{Result, Tally};
use crate::tools::{command, root, run, target, write_if_changed};

/// What the kernel, administrators and sibling drivers look for.
const GLOBALS: [&str; 5] = ["SUPDrvSolarisIDC", "_fini", "_info", "_init", "supdrv_force_async_tsc"];

/// The C half.
const SOURCES: [&str; 2] = ["glue.c", "instructions.c"];

fn compile(source: &str, folder: &Path, flags: &[&str]) -> Result<PathBuf> {
    let object = folder.join(source).with_extension("o");
    let mut clang =
        command("clang-19", &["--target=x86_64-pc-solaris2.11", "-fno-builtin", "-fno-jump-tables"]);
    clang.args(KERNEL_CFLAGS).args(flags).arg("-c").arg(root().join("supdrv-solaris/shell").join(source));
    run(clang.arg("-o").arg(&object))?;
    Ok(object)
}

/// Builds the module.
pub fn build() -> Result<PathBuf> {
    let library = build_rust("supdrv-solaris", "x86_64-solaris-kernel")?;
    let folder = target("solaris")?;
    clang_headers()?;
    let [glue, instructions] = SOURCES;
    let objects = [compile(glue, &folder, &[])?, compile(instructions, &folder, &[])?];
    let module = folder.join("vboxdrv");
    link_relocatable("elf_x86_64", &objects, &library, &GLOBALS, &module)?;
    package(&module)?;
    Ok(module)
}

/// The module with everything that installs it.
fn package(module: &Path) -> Result<PathBuf> {
    let packaging = root().join("supdrv-solaris/packaging");
    let files = [
        "vboxdrv.conf",
        "install.sh",
        "svr4/pkginfo",
        "svr4/prototype",
        "svr4/postinstall",
        "svr4/preremove",
        "ips/supdrv.p5m",
    ];
    let mut list = vec![(module.to_path_buf(), "vboxdrv")];
    list.extend(files.map(|file| (packaging.join(file), file.rsplit('/').next().unwrap_or(file))));
    collect(&target("solaris/package")?, &list)
}

/// Builds, and inspects what was built.
pub fn check() -> Result<Tally> {
    let mut tally = inspect(&build()?)?;
    tally.add(check_branches(&[])?);
    tally.add(check_branches(&["-DSUPDRV_NO_SEG_SWAPOUT"])?);
    Ok(tally)
}

/// Compiles the branches for the target's headers, which can't be had here, against stand-ins.
fn check_branches(flags: &[&str]) -> Result<Tally> {
    let shell = root().join("supdrv-solaris/shell");
    let folder = target("solaris/stand-ins")?;
    for line in std::fs::read_to_string(shell.join("system.h"))?.lines() {
        let Some((header, _)) = line.strip_prefix("#include <").and_then(|rest| rest.split_once('>')) else {
            continue;
        };
        write_if_changed(&folder.join(header), b"#include \"illumos-standin.h\"\n")?;
    }
    let headers = folder.display().to_string();
    let stand_ins = root().join("supdrv-solaris/tests/shell").display().to_string();
    let mut all = vec!["-DSUPDRV_SYSTEM_HEADERS", "-nostdinc", "-I", &headers, "-I", &stand_ins];
    all.extend(flags);
    let mut calls = BTreeSet::new();
    for source in SOURCES {
        calls.extend(Inspection::of(&compile(source, &folder, &all)?)?.undefined()?);
    }
    let passed = calls.contains("servicing_interrupt");
    let outcome = if passed { "ok    " } else { "FAILED" };
    println!(
        "{outcome} the C half compiles with {flags:?} where it would use the target's headers, against stand-ins"
    );
    Ok(Tally::one(passed))
}

fn inspect(module: &Path) -> Result<Tally> {
    let data = root().join("supdrv-solaris/tests/data");
    let known = symbol_list(&data.join("symbols-solaris.json"))?;
    let supplement = symbol_list(&data.join("symbols-supplement.json"))?;
    let mut inspection = Inspection::of(module)?;
    inspection.check_module()?;
    inspection.check_imports(&[&known, &supplement])?;
    let globals = inspection.globals()?;
    inspection.check(
        &format!("has its entry points, and nothing else, among its globals {globals:?}"),
        globals.iter().eq(GLOBALS),
    );
    let calls = inspection.undefined()?;
    let linkage = ["mod_install", "mod_remove", "mod_info", "mod_driverops"];
    inspection.check(
        "links itself into the kernel, and out of it",
        linkage.iter().all(|name| calls.contains(*name)),
    );
    let pointers = inspection.pointers(".data")?;
    let tables = ["mod_driverops", "nodev", "nulldev", "nochpoll", "ddi_prop_op"];
    inspection.check(
        "has the kernel's own entry points in its writable tables",
        tables.iter().all(|name| pointers.iter().any(|pointer| pointer == name)),
    );
    let package = target("solaris/package")?;
    let scripts = ["install.sh", "postinstall", "preremove"];
    inspection.check(
        "comes with scripts that a shell can read",
        scripts.iter().all(|script| is_shell_script(&package.join(script))),
    );
    let prototype = std::fs::read_to_string(package.join("prototype"))?;
    let listed = prototype.lines().filter_map(|line| match line.split(' ').collect::<Vec<_>>()[..] {
        ["i", name] => Some(name),
        ["f", _, path, ..] => path.rsplit_once('=').map(|(_, name)| name),
        _ => None,
    });
    let missing: Vec<&str> = listed.filter(|name| !package.join(name).exists()).collect();
    inspection
        .check(&format!("comes with everything that its package lists {missing:?}"), missing.is_empty());
    Ok(inspection.result())
}
