//! The catalogue in C: the header for modules, and what C compilers say about it.

use std::ffi::{CStr, c_char, c_void};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{Machine, address};
use crate::table::{Entry, c_types, catalogue};

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package is in a workspace").to_owned()
}

/// The prototype with the calling convention that 32-bit C needs to be told.
fn declaration(entry: &Entry) -> String {
    let (result, _) = c_types(entry);
    let rest =
        entry.prototype.strip_prefix(&result).expect("a prototype begins with its result").trim_start();
    format!("{result} VBOXCALL {rest}")
}

fn header() -> String {
    let mut text = include_str!("preamble.h").to_owned();
    let entries = catalogue();
    text.push_str("/*\n * Numbers: the address of the symbol is the value.\n */\n");
    for entry in entries.iter().filter(|entry| entry.kind == "absolute") {
        let _infallible = writeln!(text, "extern const char {}[];", entry.name);
    }
    text.push_str("\n/*\n * Functions, and the address of the global info page.\n */\n");
    for entry in entries.iter().filter(|entry| entry.kind != "absolute") {
        let _infallible = match entry.kind.as_str() {
            "data" => writeln!(text, "extern {};", entry.prototype),
            _ => writeln!(text, "{};", declaration(entry)),
        };
    }
    text.push_str("\n#ifdef __cplusplus\n}\n#endif\n\n#endif\n");
    text
}

/// The name of an export among the kernel's symbols: those of the runtime get a prefix there.
fn kernel_name(name: &str) -> String {
    if name.starts_with("RT") { format!("VBoxHost_{name}") } else { name.to_owned() }
}

/// A C type without the types of the runtime: kernel code includes none of our headers.
fn plain(c_type: &str) -> &str {
    match c_type {
        "void" | "int" | "unsigned" | "bool" | "size_t" | "va_list" | "char *" | "const char *"
        | "void *" => c_type,
        "signed int" => "int",
        "unsigned int" | "uint32_t" | "RTCPUID" | "RTPROCESS" | "RTMSINTERVAL" | "RTTHREADTYPE"
        | "SUPDRVOBJTYPE" | "SUPPAGINGMODE" | "RTNETADDRIPV4" => "u32",
        "uint64_t" | "RTHCPHYS" => "u64",
        "uint16_t" => "u16",
        "uint8_t" => "u8",
        "uintptr_t" | "RTR3PTR" | "RTHCUINTPTR" | "RTR0PROCESS" | "RTNATIVETHREAD" => "unsigned long",
        // Handles, structures and callbacks.
        _ => "void *",
    }
}

/// What makes the driver's functions kernel symbols for its sibling modules.
fn kernel_exports() -> String {
    let mut text = String::from(
        "// SPDX-License-Identifier: GPL-2.0-only OR CDDL-1.0\n\
         /*\n * The functions of the ring-0 runtime as kernel symbols, for sibling modules. Printed by supdrv-core/tests/ring0/c.rs: do not edit.\n \
         *\n * The build gives those of the runtime the prefix; the prototypes are for the symbols' checksums.\n */\n\
         #include <linux/export.h>\n#include <linux/kernel.h>\n#include <linux/types.h>\n\n",
    );
    let entries = catalogue();
    let exported = || entries.iter().filter(|entry| entry.kind != "absolute");
    for entry in exported() {
        let name = kernel_name(&entry.name);
        if entry.kind == "data" {
            let _infallible = writeln!(text, "extern void *{name};");
            continue;
        }
        let (result, arguments) = c_types(entry);
        let variadic = entry.kind == "function-variadic";
        let mut types: Vec<&str> = arguments.iter().map(|c_type| plain(c_type)).collect();
        if variadic {
            // The last "type" is the dots themselves.
            types.pop();
            types.push("...");
        }
        let list = if types.is_empty() { "void".to_owned() } else { types.join(", ") };
        let result = plain(&result);
        let space = if result.ends_with('*') { "" } else { " " };
        let _infallible = writeln!(text, "{result}{space}{name}({list});");
    }
    text.push('\n');
    for entry in exported() {
        let _infallible = writeln!(text, "EXPORT_SYMBOL({});", kernel_name(&entry.name));
    }
    text
}

/// Compares a file of the project with what it should be; with `SUPDRV_BLESS=1` in the environment it is written instead.
fn is_fresh(file: &str, text: &str) {
    let path = project().join(file);
    if std::env::var_os("SUPDRV_BLESS").is_some() {
        std::fs::write(&path, text).expect("the file can be written");
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == text, "{file} is stale: run SUPDRV_BLESS=1 cargo test -p supdrv-core --test ring0");
}

#[test]
fn the_generated_files_are_fresh() {
    is_fresh("supdrv-core/include/supdrv_ring0.h", &header());
    is_fresh("supdrv-linux/shell/exports.c", &kernel_exports());
}

/// Compiles C to `output` with the project's headers; there must be a compiler.
fn compile(source: &str, name: &str, flags: &[&str]) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let (c_file, output) = (folder.join(format!("ring0_{name}.c")), folder.join(format!("ring0_{name}.out")));
    std::fs::write(&c_file, source).expect("a source file can be written");
    let mut cc = Command::new("cc");
    cc.args(["-std=c11", "-Wall", "-Wextra", "-Werror"]).args(flags);
    cc.arg("-I").arg(project().join("supdrv-core/include")).arg("-o").arg(&output).arg(&c_file);
    let result = cc.output().expect("these tests need a C compiler, named cc");
    assert!(result.status.success(), "{}", String::from_utf8_lossy(&result.stderr));
    output
}

/// Assigns every declared function to a pointer of the catalogue's prototype.
#[test]
fn every_declaration_has_the_type_of_its_prototype() {
    let mut source = String::from("#include \"supdrv_ring0.h\"\n");
    for entry in catalogue().iter().filter(|entry| entry.kind.starts_with("function")) {
        let (result, _) = c_types(entry);
        let arguments = entry.prototype.split_once('(').expect("a prototype").1;
        let _infallible = writeln!(source, "{result} (VBOXCALL *p_{0})({arguments} = {0};", entry.name);
    }
    compile(&source, "prototypes64", &["-c"]);
    compile(&source, "prototypes32", &["-c", "-m32", "-ffreestanding"]);
}

/// C code that prints, as a library that the test can load.
const VARIADIC: &str = r#"
    #include "supdrv_ring0.h"
    typedef void *(*RESOLVE)(const char *);
    typedef size_t (*PRINT)(char *, size_t, const char *, ...);
    typedef size_t (*PRINT_EX)(PFNSTRFORMAT, void *, char *, size_t, const char *, ...);
    typedef size_t (*FORMAT)(PFNRTSTROUTPUT, void *, PFNSTRFORMAT, void *, const char *, ...);
    typedef int (*LOG)(const char *, ...);

    static size_t nested(PRINT print, char *buf, size_t size, const char *fmt, ...)
    {
        va_list va;
        size_t count;
        va_start(va, fmt);
        count = print(buf, size, "<%N>%d", fmt, &va, 5);
        va_end(va);
        return count;
    }

    static size_t extension(void *arg, PFNRTSTROUTPUT output, void *output_arg, const char **format, va_list *args,
                            int width, int precision, unsigned flags, char size)
    {
        char text[8] = { **format, (char)('0' + va_arg(*args, int)), (char)('0' + width), (char)('0' + precision), flags & 0x80 ? 'w' : '-', size ? size : '-', *(char *)arg };
        (*format)++;
        return output(output_arg, text, 7);
    }

    static size_t counted(void *arg, const char *chars, size_t n)
    {
        if (!chars)
            *(int *)arg += 1000;
        else
            *(int *)arg += (int)n;
        return n;
    }

    static size_t custom(PFNRTSTROUTPUT output, void *output_arg, const char *type, const void *value, int width, int precision,
                         unsigned flags, void *user)
    {
        (void)width; (void)precision; (void)flags;
        return output(output_arg, type, 2) + output(output_arg, value, 3) + output(output_arg, user, 1);
    }

    static int through_list(RESOLVE resolve, const char *name, const char *fmt, ...)
    {
        va_list va;
        va_start(va, fmt);
        if (name[2] == 'A')
            ((void (*)(const char *, va_list))resolve(name))(fmt, va);
        else if (name[5] == 'P')
            ((void (*)(const char *, va_list))resolve(name))(fmt, va);
        else
            ((void (*)(PRTLOGGER, unsigned, unsigned, const char *, va_list))resolve(name))((PRTLOGGER)8, 1, 2, fmt, va);
        va_end(va);
        return 0;
    }

    static size_t print_list(RESOLVE resolve, const char *name, char *buf, size_t size, const char *fmt, ...)
    {
        va_list va;
        size_t count;
        int length = 0;
        va_start(va, fmt);
        if (name[5] == 'F') {
            ((size_t (*)(PFNRTSTROUTPUT, void *, PFNSTRFORMAT, void *, const char *, va_list))resolve(name))(counted, &length, 0, 0, fmt, va);
            count = (size_t)length;
        } else if (name[11] == 'E')
            count = ((size_t (*)(PFNSTRFORMAT, void *, char *, size_t, const char *, va_list))resolve(name))(extension, "!", buf, size, fmt, va);
        else
            count = ((size_t (*)(char *, size_t, const char *, va_list))resolve(name))(buf, size, fmt, va);
        va_end(va);
        return count;
    }

    size_t run(int which, RESOLVE resolve, char *buf, size_t size)
    {
        PRINT print = (PRINT)resolve("RTStrPrintf");
        PRINT_EX print_ex = (PRINT_EX)resolve("RTStrPrintfEx");
        FORMAT format = (FORMAT)resolve("RTStrFormat");
        static const uint8_t mac[] = { 8, 0, 0x27, 1, 0xab, 0xff };
        static const uint8_t ipv6[] = { 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1 };
        static const uint8_t uuid[] = { 0x33, 0x22, 0x11, 0, 0x55, 0x44, 0x77, 0x66, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff };
        static const uint16_t utf16[] = { 'w', 0xe4, 0xd83d, 0xde00, 0 };
        int count = 0;

        switch (which) {
        case 0: return print(buf, size, "%u %s", 7, "x");
        case 1: return print(buf, size, "abcdef");
        case 2: return print(buf, size, "%d|%i|%5d|%-5d|%05d|%+d|% d|%x|%X|%#x|%o|%#o|%.4d|%'u", -1, 2, 3, 4, 5, 6, 7, 0xbeef, 0xbeef, 0xbeef, 8, 8, 9, 1234567);
        case 3: return print(buf, size, "%lld %llx %hd %hhu %lu %zu %I64d", -1LL, 0x123456789abcdefULL, 0x12345, 0x1ff, 5UL, (size_t)6, 7LL);
        case 4: return print(buf, size, "%p %#p %s %10s|%-4s|%.2s|%c|%*d|%.*s|%%", (void *)0x1234, (void *)0x1234, (char *)0, "right", "l", "cut", 'c', 4, 5, 1, "ab");
        case 5: return print(buf, size, "%RX8 %RU16 %RI32 %RX64 %RU64 %RI64", 0x1ff, 0x1ffff, -5, 0xfeedULL, 1ULL << 63, -1LL);
        case 6: return print(buf, size, "%RGv %RGp %RHp %RCv %RTptr %RTsel %RTiop %RTbool %RTbool", 0x1ULL, 0x2ULL, 0x3ULL, 4, (void *)5, 6, 7, 1, 0);
        case 7: return print(buf, size, "%Rrc %Rra %Rrc %Rrs", -2, -8, -123456, 0);
        case 8: return print(buf, size, "%RTmac %RTnaipv4 %RTnaipv6 %RTuuid", mac, *(const uint32_t *)"\xc0\xa8\x00\x01", ipv6, uuid);
        case 9: return print(buf, size, "%.3Rhxs|%Rfn|%Rbn", mac, "f(int)", "/a/b.c");
        case 10: return nested(print, buf, size, "%s-%d-%llu-%d-%d-%d-%d", "a", 1, 2ULL, 3, 4, 5, 6);
        case 11: return print(buf, size, "%M!", "%d,%d,%d,%d", 1, 2, 3, 4);
        case 12: return print(buf, size, "%ls|%.1ls|%5ls", utf16, utf16, utf16);
        case 13: return print_ex(extension, "!", buf, size, "%3.4lQ%d", 7, 8);
        case 14:
            format(counted, &count, 0, 0, "%s%d%s%d%s%d%s", "abc", 1, "de", 2, "f", 3, "g");
            return (size_t)count;
        case 15: {
            int (*reg)(const char *, PFNRTSTRFORMATTYPE, void *) = (int (*)(const char *, PFNRTSTRFORMATTYPE, void *))resolve("RTStrFormatTypeRegister");
            int (*dereg)(const char *) = (int (*)(const char *))resolve("RTStrFormatTypeDeregister");
            int (*set_user)(const char *, void *) = (int (*)(const char *, void *))resolve("RTStrFormatTypeSetUser");
            if (reg("mytype", custom, "!") || reg("mytype", custom, "!") != -105 || set_user("mytype", "?") || set_user("other", "?") != -78)
                return 9999;
            count = (int)print(buf, size, "%R[mytype]%d%R[none]", "value", 3, "x");
            return dereg("mytype") || dereg("mytype") != -78 ? 9998 : (size_t)count;
        }
        case 16: ((LOG)resolve("SUPR0Printf"))("%s: %d %d %d %d %d %d %Rrc\n", "log", 1, 2, 3, 4, 5, 6, -1); return 0;
        case 17: return print(buf, size, "%.20Rhxd", "0123456789abcdefghij");
        case 18: return (size_t)through_list(resolve, "RTAssertMsg2V", "value is %d and %s\n", 5, "six");
        case 19: return (size_t)through_list(resolve, "RTAssertMsg2AddV", "also %RX16\n", 0xabcd);
        case 20: return (size_t)through_list(resolve, "RTLogPrintfV", "%s", (char *)1);
        case 22: return print_list(resolve, "RTStrPrintfV", buf, size, "%d%s", 1, "a");
        case 23: return print_list(resolve, "RTStrPrintfExV", buf, size, "%d%s%lQ", 2, "b", 7);
        case 24: return print_list(resolve, "RTStrFormatV", buf, size, "%d%s", 3, "cde");
        case 21: return (size_t)through_list(resolve, "RTLogLoggerExV", "%s", (char *)1);
        }
        return 0;
    }
"#;

type Run = unsafe extern "C" fn(
    i32,
    unsafe extern "C" fn(*const c_char) -> *const c_void,
    *mut c_char,
    usize,
) -> usize;

unsafe extern "C" fn resolve(name: *const c_char) -> *const c_void {
    // SAFETY: the C code passes names.
    let name = unsafe { CStr::from_ptr(name) };
    address(name.to_str().expect("an ASCII name")) as *const c_void
}

fn load() -> Run {
    let library = compile(VARIADIC, "variadic", &["-shared", "-fPIC", "-O2", "-Wno-unused-function"]);
    let path = std::ffi::CString::new(library.to_str().expect("a path")).expect("a path");
    // SAFETY: the library was just made; it stays loaded.
    unsafe {
        let handle = libc::dlopen(path.as_ptr(), libc::RTLD_NOW);
        assert!(!handle.is_null(), "the library can be loaded");
        let run = libc::dlsym(handle, c"run".as_ptr());
        assert!(!run.is_null());
        std::mem::transmute::<*mut c_void, Run>(run)
    }
}

#[test]
fn c_code_prints_through_variable_arguments() {
    let machine = Machine::new();
    let run = load();
    let print = |which, size: usize| {
        let mut buffer = [0x7f as c_char; 600];
        // SAFETY: the C code writes at most `size` bytes.
        let count = unsafe { run(which, resolve, buffer.as_mut_ptr(), size) };
        let text = buffer.map(|c| c as u8);
        let end = text.iter().position(|byte| *byte == 0).unwrap_or(0);
        (count, String::from_utf8_lossy(&text[..end]).into_owned())
    };
    let expected = [
        (0, "7 x"),
        (1, "abcdef"),
        (2, "-1|2|    3|4    |00005|+6| 7|beef|BEEF|0xbeef|10|010|0009|1 234 567"),
        (3, "-1 123456789abcdef 9029 255 5 6 7"),
        (4, "0000000000001234 0x0000000000001234 <NULL>      right|l   |cu|c|   5|a|%"),
        (5, "ff 65535 -5 feed 9223372036854775808 -1"),
        (
            6,
            "0000000000000001 0000000000000002 0000000000000003 00000004 0000000000000005 0006 0007 true false",
        ),
        (7, "VERR_INVALID_PARAMETER VERR_NO_MEMORY (-8) -123456 VINF_SUCCESS"),
        (8, "08:00:27:01:ab:ff 192.168.0.1 2001:db8::1 00112233-4455-6677-8899-aabbccddeeff"),
        (9, "08 00 27|f|b.c"),
        (10, "<a-1-2-3-4-5-6>5"),
        (11, "1,2,3,4!"),
        (12, "wä😀|w|  wä😀"),
        (13, "Q734wl!8"),
        (15, "myval?3<unknown:none>"),
    ];
    for (which, text) in expected {
        let (count, found) = print(which, 600);
        assert_eq!((found.as_str(), count), (text, text.len()), "case {which}");
    }
    assert_eq!(print(1, 4), (3, "abc".to_owned()));
    assert_eq!(print(1, 1), (0, String::new()));
    assert_eq!(print(1, 0).0, 0);
    assert_eq!(print(14, 600).0, 1010, "all characters, and one last call");
    print(16, 0);
    assert_eq!(machine.log(), ["log: 1 2 3 4 5 6 VERR_GENERAL_FAILURE"]);
    assert_eq!(print(22, 600), (2, "1a".into()));
    assert_eq!(print(23, 600).1, "2bQ7//-l!", "a width and a precision of -1");
    assert_eq!(print(24, 600).0, 1004);
    // Assertions speak to the log; loggers belong to modules, and the driver writes to none: the arguments aren't even looked at.
    for which in 18..=21 {
        print(which, 0);
    }
    assert_eq!(machine.log()[1..], ["value is 5 and six", "also abcd"]);
    let (_, dump) = print(17, 600);
    let lines: Vec<&str> = dump.lines().collect();
    assert!(
        lines[0].ends_with("/0000: 30 31 32 33 34 35 36 37-38 39 61 62 63 64 65 66 0123456789abcdef"),
        "{dump}"
    );
    assert!(lines[1].contains("/0010: 67 68 69 6a ") && lines[1].ends_with(" ghij"), "{dump}");
}
