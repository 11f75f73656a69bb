//! Kernel objects of other systems: what their builds and the inspection of their artefacts have in common.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use object::read::elf::{ElfFile64, FileHeader as _};
use object::{Object as _, ObjectSection as _, ObjectSymbol as _, RelocationTarget};

use crate::report::{Result, Tally};
use crate::tools::{
    cargo_with_sources, command, copy_if_changed, long_step, need, root, run, say, target, write_if_changed,
};

/// Builds a shim's Rust half as a static library for `targets/TRIPLE.json`.
pub fn build_rust(package: &str, triple: &str) -> Result<PathBuf> {
    let file = root().join("targets").join(triple).with_extension("json");
    let folder = target("cross")?;
    let mut cargo = cargo_with_sources()?;
    cargo.args(["rustc", "--quiet", "-p", package, "--profile", "kern", "--features", "kernel"]);
    cargo.args(["--crate-type", "staticlib", "-Z", "json-target-spec"]);
    cargo.args(["-Z", "build-std=core,alloc,compiler_builtins"]);
    cargo.args(["-Z", "build-std-features=compiler-builtins-mem"]);
    cargo.arg("--target").arg(&file).arg("--target-dir").arg(&folder);
    if triple.contains("darwin") {
        // Tables of jumps would be among the code there, and nothing could tell them from instructions.
        cargo.env("MACOSX_DEPLOYMENT_TARGET", "10.12").env("RUSTFLAGS", "-C jump-tables=off");
    }
    long_step(&format!("building {package} for {triple}"), &mut cargo)?;
    Ok(folder.join(triple).join("kern").join(format!("lib{}.a", package.replace('-', "_"))))
}

/// A release of a package from PyPI that carries the C headers of other systems.
pub struct HeaderPackage {
    /// As PyPI names it: `name==version`.
    pub requirement: &'static str,
    /// SHA-256 of the file for x86-64 Linux.
    pub sha256: &'static str,
    /// Which of its folders are wanted, as a pattern.
    pub pattern: &'static str,
}

impl HeaderPackage {
    /// The folder with the headers; downloaded once.
    pub fn folder(&self) -> Result<PathBuf> {
        let name = self.requirement.replace("==", "-");
        let folder = target("headers")?.join(&name);
        let done = folder.join(".complete");
        if done.exists() {
            return Ok(folder);
        }
        need(&["python3", "unzip"])?;
        if run(&mut command("python3", &["-m", "pip", "--version"])).is_err() {
            need(&["python3-pip"])?;
        }
        std::fs::create_dir_all(&folder)?;
        let list = folder.join("requirements.txt");
        write_if_changed(&list, format!("{} --hash=sha256:{}\n", self.requirement, self.sha256).as_bytes())?;
        let mut pip = command("python3", &["-m", "pip", "download", "--quiet", "--no-deps"]);
        pip.args(["--require-hashes", "--only-binary", ":all:", "-r"]).arg(&list).arg("-d").arg(&folder);
        long_step(&format!("downloading the C headers in {}", self.requirement), &mut pip)?;
        let wheel = std::fs::read_dir(&folder)?
            .filter_map(std::result::Result::ok)
            .map(|entry| entry.path())
            .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
            .ok_or("pip downloaded nothing")?;
        run(command("unzip", &["-q", "-o"]).arg(&wheel).arg(self.pattern).arg("-d").arg(&folder))?;
        std::fs::remove_file(&wheel)?;
        std::fs::write(&done, "")?;
        Ok(folder)
    }
}

/// What C code in an x86-64 kernel needs of every compiler.
pub const KERNEL_CFLAGS: &[&str] = &[
    "-std=gnu99",
    "-O2",
    "-g",
    "-ffreestanding",
    "-fno-common",
    "-fno-strict-aliasing",
    "-fwrapv",
    "-mcmodel=kernel",
    "-mno-red-zone",
    "-mno-mmx",
    "-mno-sse",
    "-msoft-float",
    "-fno-asynchronous-unwind-tables",
    "-fno-omit-frame-pointer",
    "-fno-stack-protector",
    "-Wall",
    "-Wextra",
    "-Wno-unused-parameter",
    "-Wmissing-prototypes",
    "-Werror",
];

/// The compiler's own headers.
pub fn clang_headers() -> Result<PathBuf> {
    need(&["clang-19", "lld-19", "llvm-19"])?;
    let folder = run(&mut command("clang-19", &["-print-resource-dir"]))?;
    Ok(Path::new(folder.trim()).join("include"))
}

/// Output sections of a module: the compiler makes one of each function.
const LINKER_SCRIPT: &str = "SECTIONS {
  .text 0 : { *(.text .text.*) }
  .rodata 0 : { *(.rodata .rodata.*) }
  .data 0 : { *(.data .data.*) }
  .bss 0 : { *(.bss .bss.*) *(COMMON) }
  /DISCARD/ : { *(.eh_frame .eh_frame_hdr .comment .llvm_addrsig .llvmbc .llvmcmd .debug_gdb_scripts .note.GNU-stack) }
}
";

/// Links objects and what they need of a static library into one relocatable object, in which only `kept` is global.
pub fn link_relocatable(
    emulation: &str,
    objects: &[PathBuf],
    library: &Path,
    kept: &[&str],
    output: &Path,
) -> Result<()> {
    need(&["lld-19", "llvm-19"])?;
    let script = target("cross")?.join("module.lds");
    write_if_changed(&script, LINKER_SCRIPT.as_bytes())?;
    let linked = output.with_extension("linked.o");
    let mut ld = command("ld.lld-19", &["-m", emulation, "-r", "-d"]);
    for symbol in kept {
        ld.args(["-u", symbol]);
    }
    run(ld.arg("-T").arg(&script).arg("-o").arg(&linked).args(objects).arg(library))?;
    let mut objcopy = command("llvm-objcopy-19", &["--strip-debug"]);
    for symbol in kept {
        objcopy.arg(format!("--keep-global-symbol={symbol}"));
    }
    run(objcopy.arg(&linked).arg(output))?;
    std::fs::remove_file(&linked)?;
    Ok(())
}

/// Copies files into a folder that is ready to be carried to the target; returns the folder.
pub fn collect(folder: &Path, files: &[(PathBuf, &str)]) -> Result<PathBuf> {
    for (from, to) in files {
        copy_if_changed(from, &folder.join(to))?;
        let permissions = std::fs::metadata(from)?.permissions();
        std::fs::set_permissions(folder.join(to), permissions)?;
    }
    Ok(folder.to_path_buf())
}

/// Whether a shell can read a script.
pub fn is_shell_script(path: &Path) -> bool {
    run(command("sh", &["-n"]).arg(path)).is_ok()
}

/// The names in a symbol list of `tests/data/`: `"symbol": "a / b"` is two.
pub fn symbol_list(path: &Path) -> Result<BTreeSet<String>> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let values = text.split("\"symbol\": \"").skip(1).filter_map(|rest| rest.split_once('"'));
    let names: BTreeSet<String> =
        values.flat_map(|(value, _)| value.split(" / ")).map(|name| name.trim().to_owned()).collect();
    if names.is_empty() {
        return Err(format!("{} can't be read", path.display()).into());
    }
    Ok(names)
}

/// Checks of one artefact, printed as they are made.
pub struct Inspection {
    name: String,
    path: PathBuf,
    bytes: Vec<u8>,
    tally: Tally,
}

impl Inspection {
    /// Reads an artefact.
    pub fn of(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { name, path: path.to_path_buf(), bytes, tally: Tally::default() })
    }

    /// Adds the result of a check.
    pub fn check(&mut self, what: &str, passed: bool) {
        println!("{} {}: {what}", if passed { "ok    " } else { "FAILED" }, self.name);
        self.tally.add(Tally::one(passed));
    }

    /// The artefact as a 64-bit ELF file.
    pub fn elf(&self) -> Result<ElfFile64<'_>> {
        Ok(ElfFile64::parse(&*self.bytes)?)
    }

    /// What every x86-64 ELF module must be: relocatable, for this machine, with sane sections, with no relocations that kernel linkers
    /// refuse, no floating point and no red zone.
    pub fn check_module(&mut self) -> Result<()> {
        let elf = self.elf()?;
        let endian = elf.endian();
        let header = elf.elf_header();
        let is_module = header.e_type(endian) == object::elf::ET_REL
            && header.e_machine(endian) == object::elf::EM_X86_64;
        let mut relocations = BTreeSet::new();
        let (mut misaligned, mut empty_text) = (Vec::new(), true);
        let mut unwind = false;
        for section in elf.sections() {
            let name = section.name()?;
            empty_text &= !(name == ".text" && section.size() > 0);
            unwind |= name.starts_with(".eh_frame") || name == ".interp" || name == ".dynamic";
            if !section.align().is_power_of_two() && section.align() != 0 || section.align() > 4096 {
                misaligned.push(name.to_owned());
            }
            for (_, relocation) in section.relocations() {
                if let object::RelocationFlags::Elf { r_type } = relocation.flags() {
                    relocations.insert(r_type);
                }
            }
        }
        self.check("is a relocatable object for x86-64", is_module);
        self.check("has code, and neither unwind tables nor dynamic sections", !empty_text && !unwind);
        self.check(
            &format!("aligns its sections to powers of two up to a page {misaligned:?}"),
            misaligned.is_empty(),
        );
        use object::elf::{R_X86_64_32S, R_X86_64_64, R_X86_64_PC32, R_X86_64_PLT32};
        let allowed = [R_X86_64_64, R_X86_64_32S, R_X86_64_PC32, R_X86_64_PLT32];
        let foreign: Vec<_> = relocations.iter().filter(|kind| !allowed.contains(kind)).collect();
        self.check(
            &format!("has only relocations that the kernel's linker knows {foreign:?}"),
            foreign.is_empty() && !relocations.is_empty(),
        );
        self.check_panics()?;
        self.check_instructions()
    }

    /// Checks that there are no floating point instructions, and no stores below the stack pointer.
    pub fn check_instructions(&mut self) -> Result<()> {
        let code = run(command("llvm-objdump-19", &["-d", "--no-show-raw-insn"]).arg(&self.path))?;
        let floating = code
            .lines()
            .find(|line| ["%xmm", "%ymm", "%zmm", "%mm0", "%st("].iter().any(|r| line.contains(r)));
        self.check(
            &format!("has no floating point or vector instructions {}", floating.unwrap_or("")),
            floating.is_none(),
        );
        let red_zone = code.lines().find(|line| is_red_zone_access(line));
        self.check(&format!("has no red zone {}", red_zone.unwrap_or("")), red_zone.is_none());
        let frame = code.lines().filter_map(frame_bytes).max().unwrap_or(0);
        self.check(
            &format!("needs at most {frame} bytes of stack in a function ({MAX_FRAME_BYTES} allowed)"),
            (1..=MAX_FRAME_BYTES).contains(&frame),
        );
        self.check("was disassembled", code.lines().count() > 1000);
        Ok(())
    }

    /// Names of undefined symbols.
    pub fn undefined(&self) -> Result<BTreeSet<String>> {
        let elf = self.elf()?;
        let mut names = BTreeSet::new();
        for symbol in elf.symbols().filter(|symbol| symbol.is_undefined()) {
            let name = symbol.name()?;
            if !name.is_empty() {
                names.insert(name.to_owned());
            }
        }
        Ok(names)
    }

    /// Names of defined global symbols.
    pub fn globals(&self) -> Result<BTreeSet<String>> {
        let elf = self.elf()?;
        let mut names = BTreeSet::new();
        for symbol in elf.symbols().filter(|symbol| symbol.is_global() && !symbol.is_undefined()) {
            names.insert(symbol.name()?.to_owned());
        }
        Ok(names)
    }

    /// Checks that no panic of the core library is left in it, but for the handler's own way in.
    pub fn check_panics(&mut self) -> Result<()> {
        let elf = self.elf()?;
        let mut panics = Vec::new();
        for symbol in elf.symbols() {
            let name = symbol.name()?;
            if name.contains("core9panicking") && !name.ends_with("panic_fmt") {
                panics.push(name.to_owned());
            }
        }
        self.check(&format!("can't panic {panics:?}"), panics.is_empty());
        Ok(())
    }

    /// Checks that nothing but what is in the lists is imported.
    pub fn check_imports(&mut self, allowed: &[&BTreeSet<String>]) -> Result<()> {
        let undefined = self.undefined()?;
        let strangers: Vec<_> =
            undefined.iter().filter(|name| !allowed.iter().any(|list| list.contains(*name))).collect();
        self.check(
            &format!("imports {} symbols, all of them on the lists {strangers:?}", undefined.len()),
            strangers.is_empty() && undefined.len() > 20,
        );
        Ok(())
    }

    /// The pointers in a section of pointers: what each points to, by symbol.
    pub fn pointers(&self, section: &str) -> Result<Vec<String>> {
        let elf = self.elf()?;
        let Some(section) = elf.section_by_name(section) else { return Ok(Vec::new()) };
        let mut names = Vec::new();
        for (_, relocation) in section.relocations() {
            let RelocationTarget::Symbol(index) = relocation.target() else { continue };
            let symbol = elf.symbol_by_index(index)?;
            let name = symbol.name()?;
            if !name.is_empty() {
                names.push(name.to_owned());
                continue;
            }
            // A section symbol: the addend is the place in it.
            let place = relocation.addend().cast_unsigned();
            let found = elf.symbols().find(|other| {
                other.section_index() == symbol.section_index()
                    && other.address() == place
                    && other.name().is_ok_and(|name| !name.is_empty())
            });
            names.push(match found {
                Some(found) => found.name()?.to_owned(),
                None => format!("unknown+{place:#x}"),
            });
        }
        Ok(names)
    }

    /// What was found.
    pub fn result(self) -> Tally {
        say(&format!("{}: {}", self.path.display(), self.tally));
        self.tally
    }
}

/// What a function may take of a kernel's stack; compilers of kernels warn above this.
const MAX_FRAME_BYTES: u64 = 2048;

/// How many bytes of stack an instruction takes at once.
fn frame_bytes(line: &str) -> Option<u64> {
    let (instruction, operands) = line.split_once("$0x")?;
    let (bytes, register) = operands.split_once(", ")?;
    let takes = instruction.trim_end().ends_with("subq") || instruction.trim_end().ends_with("subl");
    let is_stack = register.starts_with("%rsp") || register.starts_with("%esp");
    if takes && is_stack { u64::from_str_radix(bytes, 16).ok() } else { None }
}

/// A store below the stack pointer.
fn is_red_zone_access(line: &str) -> bool {
    line.contains("mov")
        && line.split(", ").any(|operand| operand.trim().starts_with("-0x") && operand.contains("(%rsp)"))
}

#[cfg(test)]
mod tests {
    use super::{frame_bytes, is_red_zone_access};

    #[test]
    fn frames_are_what_is_taken_of_the_stack_at_once() {
        assert_eq!(frame_bytes("    1234: \tsubq\t$0x7d8, %rsp          # imm = 0x7D8"), Some(0x7d8));
        assert_eq!(frame_bytes("    1234: \tsubl\t$0x40, %esp"), Some(0x40));
        assert_eq!(frame_bytes("    1234: \taddq\t$0x40, %rsp"), None);
        assert_eq!(frame_bytes("    1234: \tsubq\t$0x40, %rax"), None);
    }

    #[test]
    fn stores_below_the_stack_pointer_are_found() {
        assert!(is_red_zone_access("  10: \tmovq\t%rax, -0x8(%rsp)"));
        assert!(!is_red_zone_access("  10: \tmovq\t%rax, 0x8(%rsp)"));
        assert!(!is_red_zone_access("  10: \tmovq\t%rax, -0x8(%rbp)"));
    }
}
