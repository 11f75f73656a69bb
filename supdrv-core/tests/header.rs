//! The C header: is it what the Rust definitions print, and do C and C++ compilers lay out what it declares like the golden data?

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

fn core() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// With `SUPDRV_BLESS=1` in the environment the header is written instead.
#[test]
fn the_header_is_what_the_definitions_print() {
    let printed = supdrv_core::capi::header::print();
    let header = core().join("include/supdrv.h");
    if std::env::var_os("SUPDRV_BLESS").is_some() {
        std::fs::write(&header, &printed).expect("the header can be written");
    }
    let on_disk = std::fs::read_to_string(&header).unwrap_or_default();
    assert!(
        printed == on_disk,
        "include/supdrv.h is stale: run SUPDRV_BLESS=1 cargo test -p supdrv-core --test header"
    );
}

const BITS: [(&str, &str); 2] = [("-m64", "layout-amd64.json"), ("-m32", "layout-i386.json")];

fn golden(name: &str) -> Value {
    let text = std::fs::read_to_string(core().join("tests/data").join(name)).expect("golden data");
    serde_json::from_str(&text).expect("JSON")
}

fn object(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().unwrap_or_else(|| panic!("{value} is no object")).iter()
}

fn number(value: &Value) -> u64 {
    value.as_u64().or_else(|| value.as_i64().map(|v| v as u64)).expect("a number")
}

/// The beginning of a program: `CHECK` stops the compiler, in every language.
const PROLOGUE: &str = r#"
#include "supdrv.h"
#ifdef __cplusplus
# define CHECK(id, condition) static_assert(condition, "check failed")
#elif __STDC_VERSION__ >= 201112L
# define CHECK(id, condition) _Static_assert(condition, "check failed")
#else
# define CHECK(id, condition) typedef char check_##id[(condition) ? 1 : -1]
#endif
"#;

struct Program {
    text: String,
    checks: usize,
}

impl Program {
    fn new() -> Self {
        Self { text: PROLOGUE.to_owned(), checks: 0 }
    }

    fn check(&mut self, condition: &str) {
        self.checks += 1;
        writeln!(self.text, "CHECK({}, {condition});", self.checks).expect("text can be appended");
    }

    fn structure(&mut self, name: &str, description: &Value) {
        self.check(&format!("sizeof({name}) == {}", description["size"]));
        for (member, place) in object(&description["members"]) {
            // Nobody can take the offset of bits.
            if place["bit_size"].is_u64() {
                continue;
            }
            let (offset, size) = (&place["offset"], &place["size"]);
            self.check(&format!(
                "offsetof({name}, {member}) == {offset} && sizeof((({name} *)0)->{member}) == {size}"
            ));
            if let Some(count) = place["count"].as_u64() {
                self.check(&format!("sizeof((({name} *)0)->{member}[0]) * {count} == {size}"));
            }
        }
    }

    /// Everything that doesn't depend on the system.
    fn common(golden: &Value) -> Self {
        let mut program = Self::new();
        for (name, description) in object(&golden["structs"]) {
            program.structure(name, description);
        }
        let enums = object(&golden["enums"]).flat_map(|(_, values)| object(values));
        for (name, value) in object(&golden["constants"]).chain(enums) {
            program.check(&format!("(uint64_t)({name}) == UINT64_C({})", number(value)));
        }
        for (name, formula) in object(&golden["variable_sizes"]) {
            match formula["at"].as_object() {
                Some(points) => points
                    .iter()
                    .for_each(|(units, size)| program.check(&format!("{name}({units}) == {size}"))),
                None => {
                    let (base, unit) = (number(&formula["base"]), number(&formula["per_unit"]));
                    program.check(&format!("{name}(0) == {base} && {name}(7) == {}", base + 7 * unit));
                }
            }
        }
        for (name, size) in object(&golden["type_sizes"]) {
            program.check(&format!("sizeof({name}) == {size}"));
        }
        let magic = golden["strings"]["SUPCOOKIE_MAGIC"].as_str().expect("a string");
        program.check(&format!("sizeof(SUPCOOKIE_MAGIC) == {}", magic.len() + 1));
        program
    }

    /// Function codes of one system, and the structures that it changes.
    fn of_system(golden: &Value, system: &str, variant: &str) -> Self {
        let mut program = Self::new();
        for (name, code) in object(&golden["ioctls"][system]) {
            program.check(&format!("{name} == {}U", code.as_str().expect("a code")));
        }
        for (name, code) in object(&golden["ioctls_match"][system]) {
            program.check(&format!("SUP_CTL_CODE_NO_SIZE({name}) == {}U", code.as_str().expect("a code")));
        }
        let idc = &golden["idc"][if system == "windows" { "windows" } else { "other" }];
        for (name, code) in object(idc) {
            program.check(&format!("{name} == {}U", code.as_str().expect("a code")));
        }
        for (name, description) in object(&golden["variants"][variant]) {
            // What Windows changes by aligning 64-bit numbers differently is not visible with another system's compiler.
            if ["SUPDRVSESSION", "SUPDRVLDRIMAGE", "SUPDRVDEVEXT"].contains(&name.as_str()) {
                program.structure(name, description);
            }
        }
        program
    }
}

/// Whatever clang there is.
fn clang(name: &str) -> String {
    let versions = ["-19", "", "-14"].map(|version| format!("{name}{version}"));
    let works = |compiler: &&String| {
        Command::new(compiler).arg("--version").output().is_ok_and(|o| o.status.success())
    };
    versions.iter().find(works).cloned().unwrap_or_else(|| panic!("no {name} here: apt-get install clang-19"))
}

fn compile(program: &Program, file: &str, compiler: &str, flags: &[&str]) {
    assert!(program.checks > 30, "{file} checks next to nothing");
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let source = folder.join(file);
    std::fs::write(&source, &program.text).expect("the program can be written");
    let output = Command::new(compiler)
        .args(["-Wall", "-Wextra", "-Werror", "-pedantic", "-fsyntax-only", "-I"])
        .arg(core().join("include"))
        .args(flags)
        .arg(&source)
        .output()
        .unwrap_or_else(|e| panic!("{compiler}: {e}: apt-get install gcc-multilib g++-multilib clang-19"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{compiler} {flags:?} refuses {}:\n{errors}", source.display());
}

#[test]
fn c_and_cpp_compilers_agree_with_the_golden_layouts() {
    for (bits, file) in BITS {
        let program = Program::common(&golden(file));
        assert!(program.checks > 1400, "{file}: {} checks only", program.checks);
        for (compiler, standard, extension) in [
            ("gcc".to_owned(), "-std=c99", "c"),
            ("gcc".to_owned(), "-std=c11", "c"),
            ("g++".to_owned(), "-std=c++11", "cc"),
            (clang("clang"), "-std=c99", "c"),
            (clang("clang"), "-std=c11", "c"),
            (clang("clang++"), "-std=c++11", "cc"),
        ] {
            let name = format!("layout{bits}{standard}-{compiler}.{extension}").replace("++", "pp");
            compile(&program, &name, &compiler, &[bits, standard]);
        }
    }
}

#[test]
fn each_system_has_its_codes_and_its_own_members() {
    let systems = [
        ("linux", "RT_OS_LINUX", "", ""),
        ("windows", "RT_OS_WINDOWS", "windows_native", ""),
        ("darwin", "RT_OS_DARWIN", "darwin_native", ""),
        ("freebsd", "RT_OS_FREEBSD", "", ""),
        ("solaris", "RT_OS_SOLARIS", "solaris_native", ""),
        ("solaris", "RT_OS_SOLARIS", "solaris_native_native_loader", "-DVBOX_WITH_NATIVE_SOLARIS_LOADING"),
        ("os2", "RT_OS_OS2", "os2_native", ""),
    ];
    for (bits, file) in BITS {
        let golden = golden(file);
        for (system, define, variant, more) in systems {
            // OS/2 is a 32-bit system.
            if system == "os2" && bits == "-m64" {
                continue;
            }
            let variant = if variant.is_empty() { "freebsd_native" } else { variant };
            let program = Program::of_system(&golden, system, variant);
            let define = format!("-D{define}");
            let mut flags = vec![bits, "-std=c99", define.as_str()];
            flags.extend((!more.is_empty()).then_some(more));
            compile(&program, &format!("system{bits}-{system}{more}.c"), "gcc", &flags);
        }
    }
}

/// A client of the header needs no other one, and including it twice is fine.
#[test]
fn the_header_stands_alone() {
    let mut program = Program::new();
    program.text = format!(
        "{}#include \"supdrv.h\"\nint supdrv_used(void) {{ return VERR_NO_MEMORY; }}\n",
        program.text
    );
    program.checks = 1000;
    for (compiler, flags) in [
        ("gcc", ["-std=c99", "-Wmissing-prototypes", "-x", "c"]),
        ("g++", ["-std=c++17", "-Wall", "-x", "c++"]),
    ] {
        program.text =
            program.text.replace("int supdrv_used(void) {", "int supdrv_used(void); int supdrv_used(void) {");
        compile(&program, &format!("alone-{}.c", compiler.replace("++", "pp")), compiler, &flags);
    }
}

/// What the core offers to C by name is declared, all of it.
#[test]
fn every_service_of_the_core_is_declared() {
    let text = std::fs::read_to_string(core().join("include/supdrv.h")).expect("the header");
    let services =
        supdrv_core::ring0::catalogue::SIGNATURES.iter().filter(|function| function.name.starts_with("SUP"));
    let services: Vec<&str> =
        services.filter(|function| function.kind == "fn").map(|function| function.name).collect();
    assert!(services.len() > 40, "{services:?}");
    for name in services {
        assert!(text.contains(&format!("VBOXCALL {name}(")), "{name} isn't declared");
    }
}
