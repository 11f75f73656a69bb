//! The Windows driver: an image of Rust alone, inspected, and driven by a Windows client in Wine's kernel host.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use object::pe;
use object::read::pe::{Import, PeFile64};
use object::{LittleEndian as LE, Object as _};

use crate::cross::{build_rust, symbol_list};
use crate::legacy;
use crate::report::{Result, Tally};
use crate::tools::{
    cargo_with_sources, command, executable, long_step, need, root, run, say, target, write_if_changed,
};

const TRIPLE: &str = "x86_64-winkernel";
const CLIENT_TRIPLE: &str = "x86_64-pc-windows-gnu";
const COMPILER: &str = "x86_64-w64-mingw32-gcc";
/// The name that modules and sibling drivers import from.
const IMAGE: &str = "VBoxDrv.sys";

/// How the image is linked.
const LINK: &[&str] = &[
    "-nostdlib",
    "-nostartfiles",
    "-Wl,--subsystem,native",
    "-Wl,--entry,DriverEntry",
    "-Wl,--image-base,0x140000000",
    "-Wl,--dynamicbase",
    "-Wl,--nxcompat",
    "-Wl,--no-insert-timestamp",
    "-Wl,--file-alignment,0x200",
    "-Wl,--section-alignment,0x1000",
    "-Wl,--major-os-version,6",
    "-Wl,--major-subsystem-version,6",
    "-Wl,--gc-sections",
    "-Wl,--strip-all",
];

/// Builds the driver image.
pub fn build() -> Result<PathBuf> {
    need(&["gcc-mingw-w64-x86-64", "binutils-mingw-w64-x86-64"])?;
    let library = build_rust("supdrv-windows", TRIPLE)?;
    let folder = target("windows")?;
    let image = folder.join(IMAGE);
    link(&library, &folder, &image)?;
    Ok(image)
}

fn link(library: &Path, folder: &Path, image: &Path) -> Result<()> {
    let exports = folder.join("exports.def");
    write_if_changed(&exports, export_list(library)?.as_bytes())?;
    let version = folder.join("version.o");
    let mut windres = command("x86_64-w64-mingw32-windres", &["-O", "coff"]);
    for (name, value) in ["MAJOR", "MINOR", "PATCH"].iter().zip(env!("CARGO_PKG_VERSION").split('.')) {
        windres.arg(format!("-DSUPDRV_{name}={value}"));
    }
    run(windres.arg(root().join("supdrv-windows/packaging/version.rc")).arg(&version))?;
    let mut gcc = command(COMPILER, LINK);
    gcc.arg("-o").arg(image).arg(&exports).arg(library).arg(&version).arg("-lntoskrnl");
    run(&mut gcc)?;
    Ok(())
}

/// The module definition: everything of the library that has a name of the published interface.
fn export_list(library: &Path) -> Result<String> {
    let symbols = run(command("x86_64-w64-mingw32-nm", &["--defined-only", "--extern-only"]).arg(library))?;
    let mut names: BTreeSet<(&str, bool)> = BTreeSet::new();
    for line in symbols.lines() {
        let mut words = line.split_whitespace().skip(1);
        let (Some(kind), Some(name)) = (words.next(), words.next()) else { continue };
        let published = ["SUPR0", "SUPSem", "RT", "SUPGet", "SUPTracer", "g_"];
        if published.iter().any(|start| name.starts_with(start)) {
            names.insert((name, kind != "T"));
        }
    }
    let lines: String = names
        .iter()
        .map(|(name, data)| format!("    {name}{}\n", if *data { " DATA" } else { "" }))
        .collect();
    Ok(format!("LIBRARY \"{IMAGE}\"\nEXPORTS\n{lines}"))
}

struct Checks(Tally);

impl Checks {
    fn check(&mut self, what: &str, passed: bool) {
        println!("{} {IMAGE}: {what}", if passed { "ok    " } else { "FAILED" });
        self.0.add(Tally::one(passed));
    }
}

/// The image from a copy of the sources with another path, compiled from nothing.
fn build_elsewhere() -> Result<Vec<u8>> {
    let place = target("elsewhere")?.join("a longer path");
    if place.exists() {
        std::fs::remove_dir_all(&place)?;
    }
    copy_sources(&root(), &place)?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = command(cargo, &["xtask", "build", "windows"]);
    long_step("building the image in another place", build.current_dir(&place))?;
    let image = std::fs::read(place.join("target/windows").join(IMAGE))?;
    std::fs::remove_dir_all(&place)?;
    Ok(image)
}

/// Copies a folder without what isn't source: build products, and hidden files but cargo's settings.
fn copy_sources(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let (name, kind) = (entry.file_name(), entry.file_type()?);
        let text = name.to_string_lossy();
        if text == "target" || (text.starts_with('.') && text != ".cargo") {
            continue;
        }
        if kind.is_dir() {
            copy_sources(&entry.path(), &to.join(&name))?;
        } else if kind.is_file() {
            std::fs::copy(entry.path(), to.join(&name))?;
        }
    }
    Ok(())
}

/// Builds the image again, and inspects it.
pub fn check() -> Result<Tally> {
    let image = build()?;
    let mut checks = Checks(Tally::default());
    let bytes = std::fs::read(&image)?;
    let folder = target("windows")?;
    let again = folder.join("again.sys");
    let library = target("cross")?.join(TRIPLE).join("kern/libsupdrv_windows.a");
    link(&library, &folder, &again)?;
    checks.check("is the same when it is linked again", std::fs::read(&again)? == bytes);
    std::fs::remove_file(&again)?;
    checks.check("is the same when its sources are in another place", build_elsewhere()? == bytes);
    inspect(&bytes, &mut checks)?;
    println!("{}: {} bytes", image.display(), bytes.len());
    Ok(checks.0)
}

fn inspect(bytes: &[u8], checks: &mut Checks) -> Result<()> {
    let file = PeFile64::parse(bytes)?;
    let headers = file.nt_headers();
    let optional = &headers.optional_header;
    let characteristics = optional.dll_characteristics.get(LE);
    checks.check("is for the native subsystem", optional.subsystem.get(LE) == pe::IMAGE_SUBSYSTEM_NATIVE);
    let flags = pe::IMAGE_DLLCHARACTERISTICS_DYNAMIC_BASE | pe::IMAGE_DLLCHARACTERISTICS_NX_COMPAT;
    checks.check("says that it may be moved and needs no executable data", characteristics & flags == flags);
    let directory = |index: usize| file.data_directory(index).is_some_and(|d| d.size.get(LE) > 8);
    checks.check(
        "has relocations",
        directory(pe::IMAGE_DIRECTORY_ENTRY_BASERELOC)
            && !headers.file_header.characteristics.get(LE).contains(pe::IMAGE_FILE_RELOCS_STRIPPED),
    );
    checks.check("has unwind tables", directory(pe::IMAGE_DIRECTORY_ENTRY_EXCEPTION));
    checks.check("has a version resource", directory(pe::IMAGE_DIRECTORY_ENTRY_RESOURCE));
    checks.check("has no time stamp", headers.file_header.time_date_stamp.get(LE) == 0);
    checks.check("aligns its sections to pages", optional.section_alignment.get(LE) == 0x1000);
    let both = pe::IMAGE_SCN_MEM_WRITE | pe::IMAGE_SCN_MEM_EXECUTE;
    let open: Vec<_> = file
        .section_table()
        .iter()
        .filter(|section| section.characteristics.get(LE) & both == both)
        .map(|section| String::from_utf8_lossy(section.raw_name()).into_owned())
        .collect();
    checks.check(&format!("has no section that is writable and executable {open:?}"), open.is_empty());
    checks.check(
        "carries its checksum, which the kernel checks",
        optional.check_sum.get(LE)
            == checksum(bytes, file.dos_header().nt_headers_offset() as usize + 24 + 64),
    );
    check_imports(&file, checks)?;
    check_exports(&file, checks)?;
    Ok(())
}

/// The image's checksum: the sum of its words, folded, without the field itself, plus its size.
fn checksum(bytes: &[u8], field: usize) -> u32 {
    let mut sum: u32 = 0;
    for (index, pair) in bytes.chunks(2).enumerate() {
        let at = index * 2;
        if at == field || at == field + 2 {
            continue;
        }
        sum += u32::from(u16::from_le_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (sum & 0xffff) + (sum >> 16) + bytes.len() as u32
}

fn check_imports(file: &PeFile64<'_>, checks: &mut Checks) -> Result<()> {
    let known = symbol_list(&root().join("supdrv-windows/tests/data/symbols-windows.json"))?;
    let (mut names, mut libraries) = (BTreeSet::new(), BTreeSet::new());
    if let Some(table) = file.import_table()? {
        let mut descriptors = table.descriptors()?;
        while let Some(descriptor) = descriptors.next()? {
            libraries.insert(String::from_utf8_lossy(table.name(descriptor.name.get(LE))?).to_lowercase());
            let mut thunks = table.thunks(descriptor.original_first_thunk.get(LE))?;
            while let Some(thunk) = thunks.next::<pe::ImageNtHeaders64>()? {
                match table.import::<pe::ImageNtHeaders64>(thunk)? {
                    Import::Name(_, name) => names.insert(String::from_utf8_lossy(name).into_owned()),
                    Import::Ordinal(number) => names.insert(format!("#{number}")),
                };
            }
        }
    }
    let kernel: BTreeSet<String> = ["ntoskrnl.exe", "hal.dll"].map(String::from).into();
    checks.check(
        &format!("imports from the kernel only {libraries:?}"),
        !libraries.is_empty() && libraries.is_subset(&kernel),
    );
    let strangers: Vec<_> = names.difference(&known).collect();
    checks.check(
        &format!("imports {} functions, all of them on the list {strangers:?}", names.len()),
        strangers.is_empty() && names.len() > 40,
    );
    Ok(())
}

fn check_exports(file: &PeFile64<'_>, checks: &mut Checks) -> Result<()> {
    let mut names = BTreeSet::new();
    for export in file.exports()? {
        if let object::NameOrOrdinal::Name(name) = export?.name() {
            names.insert(String::from_utf8_lossy(name).into_owned());
        }
    }
    let wanted =
        ["SUPR0ObjRegister", "SUPR0Printf", "SUPSemEventCreate", "RTMemAllocTag", "g_pSUPGlobalInfoPage"];
    let missing: Vec<_> = wanted.iter().filter(|name| !names.contains(**name)).collect();
    checks.check(
        &format!("exports {} names for modules, undecorated {missing:?}", names.len()),
        missing.is_empty() && names.len() > 200,
    );
    Ok(())
}

/// Builds the client for Windows.
pub fn build_supctl() -> Result<PathBuf> {
    need(&["gcc-mingw-w64-x86-64"])?;
    let folder = target("supctl-windows")?;
    let mut cargo = cargo_with_sources()?;
    cargo.args(["build", "--quiet", "--release", "-p", "supctl", "--target", CLIENT_TRIPLE]);
    // There is no package with a library for this target and this compiler.
    cargo.args(["-Z", "build-std=std,panic_unwind"]);
    cargo.arg("--target-dir").arg(&folder);
    long_step("building supctl for Windows", &mut cargo)?;
    Ok(folder.join(CLIENT_TRIPLE).join("release/supctl.exe"))
}

/// The test of functions with variable arguments, as a Windows program.
fn build_variadic_test() -> Result<PathBuf> {
    let mut cargo = legacy::test_on(CLIENT_TRIPLE, legacy::VARIADIC_TEST)?;
    cargo.args(["--no-run", "--message-format", "json"]);
    let messages = long_step("building a test for Windows", &mut cargo)?;
    executable(&messages)
}

/// A Windows system without a Windows kernel.
struct Wine {
    prefix: PathBuf,
    loader: PathBuf,
    server: PathBuf,
    /// Keeps the system's services from being shut down.
    keeper: Option<Child>,
}

impl Wine {
    fn new() -> Result<Self> {
        need(&["wine64", "wine"])?;
        let prefix = target("wine")?.join("prefix");
        let place = Path::new("/usr/lib/wine");
        let wine =
            Self { prefix, loader: place.join("wine64"), server: place.join("wineserver"), keeper: None };
        if !wine.prefix.join("system.reg").exists() {
            let mut boot = wine.command(&["wineboot", "-i"]);
            boot.env("WINEDLLOVERRIDES", "mscoree,mshtml=");
            long_step("creating a Windows system for Wine", &mut boot)?;
            wine.wait_for_server();
        }
        Ok(wine)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = command(&self.loader, arguments);
        command.env("WINEPREFIX", &self.prefix).env("WINEDEBUG", "-all").env_remove("DISPLAY");
        command
    }

    fn wait_for_server(&self) {
        let _gone_already = Command::new(&self.server).arg("-w").env("WINEPREFIX", &self.prefix).status();
    }

    fn driver_folder(&self) -> PathBuf {
        self.prefix.join("drive_c/windows/system32/drivers")
    }

    /// Compiles a C file of `xtask/src/wine/` into this system.
    fn compile(&self, source: &str, output: &Path, more: &[&str]) -> Result<()> {
        let mut gcc = command(COMPILER, &["-O2", "-o"]);
        run(gcc.arg(output).arg(root().join("xtask/src/wine").join(source)).args(more))?;
        Ok(())
    }

    /// Starts the program that keeps the services alive.
    fn keep_alive(&mut self) -> Result<()> {
        let program = self.prefix.join("drive_c/keep.exe");
        self.compile("keep.c", &program, &[])?;
        let mut keeper = self.command(&[&program.to_string_lossy()]);
        self.keeper = Some(keeper.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?);
        std::thread::sleep(Duration::from_secs(3));
        Ok(())
    }

    /// A command that should work; what it printed.
    fn try_run(&self, arguments: &[&str]) -> (bool, String) {
        match self.command(arguments).output() {
            Ok(output) => (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned()),
            Err(error) => (false, error.to_string()),
        }
    }
}

impl Wine {
    /// Whether a process that is killed while memory is mapped into it lets its mapper go on: found out by a Windows program that has
    /// nothing to do with the driver.
    fn survives_killed_clients(&self) -> Result<bool> {
        let program = self.prefix.join("drive_c/map_and_kill.exe");
        self.compile("map_and_kill.c", &program, &["-Wall", "-lntdll"])?;
        let (_, text) = self.try_run(&["C:\\map_and_kill.exe"]);
        match text.trim() {
            "returns" => Ok(true),
            "hangs" => Ok(false),
            other => Err(format!("map_and_kill.exe: {other:?}").into()),
        }
    }

    /// Runs one group of the suite; one that doesn't end has failed.
    fn run_group(&self, client: &str, filter: &str) -> Tally {
        let loader = self.loader.to_string_lossy().into_owned();
        let arguments = ["-k", "5", GROUP_SECONDS, &loader, client, "selftest", "--filter", filter];
        let mut command = command("timeout", &arguments);
        command.env("WINEPREFIX", &self.prefix).env("WINEDEBUG", "-all").env_remove("DISPLAY");
        let text = match command.output() {
            Ok(output) => String::from_utf8_lossy(&output.stdout).into_owned(),
            Err(error) => error.to_string(),
        };
        println!("{text}");
        Tally::last_in(&text).unwrap_or_else(|| {
            let done = |start: &str| text.lines().filter(|line| line.starts_with(start)).count() as u32;
            println!("FAILED Wine: the cases {filter:?} didn't end within {GROUP_SECONDS} s");
            Tally { passed: done("pass "), failed: done("FAIL ") + 1, skipped: done("skip ") }
        })
    }
}

impl Drop for Wine {
    fn drop(&mut self) {
        let _gone_already = Command::new(&self.server).arg("-k").env("WINEPREFIX", &self.prefix).status();
        if let Some(keeper) = &mut self.keeper {
            let _gone_already = keeper.kill();
            let _reaped = keeper.wait();
        }
    }
}

/// The suite's groups, each of which has its own time: a request takes a thousand times longer here than on Windows.
const GROUPS: &[&str] = &[
    "handshake: ",
    "malformed: ",
    "restricted: ",
    "fast calls: ",
    "memory: ",
    "gip: ",
    "semaphores: ",
    "images: ",
    "others: ",
    "tracer: ",
    "concurrency: ",
    "processes: a killed process",
];
const GROUP_SECONDS: &str = "150";
/// Needs a system that [survives](Wine::survives_killed_clients) it.
const KILLED_AT_WORK: &str = "processes: processes that are killed while they work leave nothing behind";

/// The driver in Wine's kernel host: loaded, driven by a Windows client, unloaded, loaded again.
pub fn test() -> Result<Tally> {
    let (image, client) = (build()?, build_supctl()?);
    let mut wine = Wine::new()?;
    let mut tally = Tally::default();
    let mut check = |what: &str, passed: bool, output: &str| {
        println!("{} Wine: {what}", if passed { "ok    " } else { "FAILED" });
        if !passed {
            println!("{output}");
        }
        tally.add(Tally::one(passed));
        passed
    };
    std::fs::create_dir_all(wine.driver_folder())?;
    std::fs::copy(&image, wine.driver_folder().join(IMAGE))?;
    let place = wine.prefix.join("drive_c");
    std::fs::copy(&client, place.join("supctl.exe"))?;
    wine.compile("bcryptprimitives.c", &place.join("bcryptprimitives.dll"), &["-shared", "-ladvapi32"])?;
    let client = "C:\\supctl.exe";
    wine.keep_alive()?;
    std::fs::copy(build_variadic_test()?, place.join("variadic.exe"))?;
    let (_, text) = wine.try_run(&["C:\\variadic.exe"]);
    let variadic = Tally::of_cargo_test(&text);
    check("variable arguments in Microsoft's convention", variadic.passed > 0 && variadic.failed == 0, &text);
    let path = format!("C:\\windows\\system32\\drivers\\{IMAGE}");
    // A former run may have left it.
    wine.try_run(&["sc", "delete", "VBoxDrv"]);
    let (ok, text) =
        wine.try_run(&["sc", "create", "VBoxDrv", "type=", "kernel", "start=", "demand", "binPath=", &path]);
    check("the service is created", ok, &text);
    let (ok, text) = wine.try_run(&["net", "start", "VBoxDrv"]);
    if !check("the driver loads", ok, &text) {
        return Ok(tally);
    }
    let mut suite = Tally::default();
    for group in GROUPS {
        suite.add(wine.run_group(client, group));
    }
    match wine.survives_killed_clients()? {
        true => suite.add(wine.run_group(client, KILLED_AT_WORK)),
        false => {
            println!(
                "skip   Wine: {KILLED_AT_WORK}: not available here (map_and_kill.exe: a process that is killed while memory is mapped \
                into it leaves its mapper waiting in NtMapViewOfSection)"
            );
            suite.skipped += 1;
        }
    }
    for (what, command) in
        [("the driver unloads", "stop"), ("it loads again", "start"), ("it unloads again", "stop")]
    {
        let (ok, text) = wine.try_run(&["net", command, "VBoxDrv"]);
        check(what, ok, &text);
        let (opens, _) = wine.try_run(&[client, "info"]);
        check("clients find it exactly when it is loaded", opens == (command == "start"), "");
    }
    let (ok, text) = wine.try_run(&["sc", "delete", "VBoxDrv"]);
    check("the service is deleted", ok, &text);
    tally.add(suite);
    say(&format!("Windows driver in Wine: {tally}"));
    Ok(tally)
}
