//! Prints `include/supdrv.h`, the one header that C drivers include, from the Rust definitions.
//!
//! Where members are, and how large, comes from the layouts in [`crate::abi`]; so do constants, statuses, sizes and function codes. What
//! Rust doesn't know is how C spells a type: by the rules in [`types`], which follow the prefixes of C's names, with a table of exceptions.
//! Text that has no counterpart in Rust (the forward declarations, the entry points) is in [`text`].
//!
//! The header checks itself: a compiler whose layout differs refuses it.

mod text;
mod tree;
mod types;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::string::String;
use std::vec::Vec;

use self::tree::Node;
use crate::abi::ioctl::{Flavour, Function, SESSION_COOKIE_DEAD};
use crate::abi::layout::{Constant, Field, StructLayout};
use crate::abi::packets::{Size, packet};
use crate::abi::{CONSTANTS, LAYOUTS, PARTS, idc, status};

/// All layouts.
fn layouts() -> impl Iterator<Item = &'static StructLayout> {
    LAYOUTS.iter().copied().flatten()
}

/// All members of a C structure, by path.
#[must_use]
pub fn members(c_struct: &str) -> BTreeMap<String, Field> {
    let views = layouts().filter(|layout| layout.c_name == c_struct).flat_map(|layout| {
        layout.fields.iter().map(|field| {
            let path = match field.c_name.strip_prefix('^') {
                Some(name) => name.into(),
                None => std::format!("{}{}", layout.prefix, field.c_name),
            };
            (path, *field)
        })
    });
    let parts = PARTS.iter().copied().flatten().filter(|part| part.c_struct == c_struct);
    views.chain(parts.map(|part| (part.field.c_name.into(), part.field))).collect()
}

/// The C structure behind a Rust type as it is written: `Name` or `[Name; N]`.
#[must_use]
pub fn c_struct_of(rust_type: &str) -> Option<&'static str> {
    let name = rust_type.trim_start_matches('[').split(';').next()?.trim();
    layouts().find(|layout| layout.rust_name == name).map(|layout| layout.c_name)
}

struct Printer {
    text: String,
}

impl Printer {
    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        let _infallible = self.text.write_fmt(line);
        self.text.push('\n');
    }

    fn heading(&mut self, text: &str) {
        self.line(format_args!("\n/*\n * {text}\n */"));
    }

    /// A definition that depends on the host's width if `value` does.
    fn define(&mut self, name: &str, [value64, value32]: [String; 2]) {
        if value64 == value32 {
            self.line(format_args!("#define {name} {value64}"));
        } else {
            self.line(format_args!("#if SUPDRV_HOST_BITS == 64\n# define {name} {value64}"));
            self.line(format_args!("#else\n# define {name} {value32}\n#endif"));
        }
    }

    fn statuses(&mut self) {
        self.heading("Status codes: negative for failures.");
        for (name, code) in status::ALL {
            let value = code.0;
            self.line(format_args!("#define {name} ({value})"));
        }
    }

    fn constants(&mut self) {
        self.heading("Constants.");
        let all: Vec<&Constant> = CONSTANTS.iter().copied().flatten().collect();
        for (tag, prefix) in types::ENUMS {
            self.line(format_args!("typedef enum {tag}\n{{"));
            let values = all.iter().filter(|constant| constant.c_name.starts_with(prefix));
            let mut values: Vec<_> = values.map(|constant| (constant.value[0], constant.c_name)).collect();
            values.sort_unstable();
            let lines: Vec<_> =
                values.iter().map(|(value, name)| std::format!("    {name} = {value:#x}")).collect();
            self.line(format_args!("{}\n}} {tag};", lines.join(",\n")));
        }
        for constant in all {
            if types::ENUMS.iter().any(|(_, prefix)| constant.c_name.starts_with(prefix)) {
                continue;
            }
            self.define(constant.c_name, constant.value.map(literal));
        }
        self.line(format_args!("#define SUPCOOKIE_MAGIC \"The Magic Word!\""));
        self.line(format_args!("#define SUPDRV_SESSION_COOKIE_DEAD UINT32_C({SESSION_COOKIE_DEAD:#x})"));
        self.text.push_str(text::CONSTANTS);
    }

    fn structures(&mut self) {
        self.heading("Structures.");
        self.line(format_args!(
            "#if SUPDRV_HOST_BITS == 64\n# pragma pack(push, 8)\n#else\n# pragma pack(push, 4)\n#endif"
        ));
        let mut done = BTreeSet::new();
        let names: BTreeSet<&'static str> =
            LAYOUTS.iter().copied().flatten().map(|layout| layout.c_name).collect();
        let parts = PARTS.iter().copied().flatten().map(|part| part.c_struct);
        for name in names.into_iter().chain(parts) {
            self.structure(name, &mut done);
        }
        self.line(format_args!("#pragma pack(pop)"));
    }

    /// A structure, after those that are in it.
    fn structure(&mut self, name: &'static str, done: &mut BTreeSet<&'static str>) {
        if !done.insert(name) {
            return;
        }
        let members = members(name);
        for inner in members.iter().filter_map(|(path, field)| types::embedded(name, path, field)) {
            self.structure(inner, done);
        }
        let tree = Node::of(name, &members);
        let kind = if tree.is_union() { "union" } else { "struct" };
        let packed = types::PACKED.contains(&name);
        if packed {
            self.line(format_args!("#pragma pack(push, 4)"));
        }
        self.line(format_args!("{kind} {name}\n{{"));
        let mut body = String::new();
        tree.print_members(name, 1, &mut body);
        self.text.push_str(&body);
        self.text.push_str(text::tail_of(name));
        self.line(format_args!("}};"));
        if packed {
            self.line(format_args!("#pragma pack(pop)"));
        }
        self.line(format_args!(""));
    }

    /// What makes a compiler with other layouts refuse the header.
    fn checks(&mut self) {
        self.heading("A compiler that lays out structures differently stops here.");
        for layout in layouts().filter(|layout| layout.prefix.is_empty()) {
            let name = layout.c_name;
            let fixed = PARTS.iter().copied().flatten().all(|part| part.c_struct != name);
            let varies = !text::tail_of(name).is_empty() || !text::before(name, "fNative").is_empty();
            if !fixed || varies {
                continue;
            }
            let [size64, size32] = layout.size;
            self.line(format_args!(
                "typedef char supdrv_check_{name}[sizeof({name}) == (SUPDRV_HOST_BITS == 64 ? {size64} : {size32}) ? 1 : -1];"
            ));
        }
    }

    fn requests(&mut self) {
        self.heading("Requests: sizes of the packets, and function codes.");
        for function in Function::ALL {
            let Some(packet) = packet(*function) else { continue };
            let name = function.c_name();
            let one = |size: Size| [0, 1].map(|width| expression(size, width));
            for (suffix, size) in [("_SIZE_IN", packet.input), ("_SIZE_OUT", packet.output)] {
                let parameters = if size.is_variable() { "(cUnits)" } else { "" };
                self.define(&std::format!("SUP_IOCTL_{name}{suffix}{parameters}"), one(size));
            }
            let variable = packet.input.is_variable() || packet.output.is_variable();
            let parameters = if variable { "(cUnits)" } else { "" };
            let both = [0, 1].map(|width| larger(packet.input, packet.output, width));
            self.define(&std::format!("SUP_IOCTL_{name}_SIZE{parameters}"), both);
        }
        self.text.push_str(text::ENCODINGS);
        for function in Function::ALL {
            let (name, number) = (function.c_name(), *function as u32);
            let variable = packet(*function).is_some_and(|p| p.input.is_variable() || p.output.is_variable());
            match function.flavour() {
                Flavour::Sized if variable => self.line(format_args!(
                    "#define SUP_IOCTL_{name}(cUnits) SUP_CTL_CODE_SIZE({number}, SUP_IOCTL_{name}_SIZE(cUnits))"
                )),
                Flavour::Sized => self.line(format_args!(
                    "#define SUP_IOCTL_{name} SUP_CTL_CODE_SIZE({number}, SUP_IOCTL_{name}_SIZE)"
                )),
                Flavour::Big => self.line(format_args!("#define SUP_IOCTL_{name} SUP_CTL_CODE_BIG({number})")),
                Flavour::Fast => self.line(format_args!("#define SUP_IOCTL_{name} SUP_CTL_CODE_FAST({number})")),
            }
        }
        self.line(format_args!("#define SUP_IOCTL_FAST_DO_HWACC_RUN SUP_IOCTL_FAST_DO_HM_RUN"));
        for request in idc::IdcRequest::ALL {
            let (name, number) = (types::idc_name(*request), *request as u32);
            self.line(format_args!("#define SUPDRV_IDC_REQ_{name} SUP_IDC_CODE({number})"));
        }
    }
}

/// A number as C writes it.
fn literal(value: u64) -> String {
    match value {
        0..=9 => std::format!("{value}"),
        10..=0x7fff_ffff => std::format!("{value:#x}"),
        0x8000_0000..=0xffff_ffff => std::format!("UINT32_C({value:#x})"),
        _ => std::format!("UINT64_C({value:#x})"),
    }
}

/// A size as an expression of `cUnits`, if it has a variable part.
fn expression(size: Size, width: usize) -> String {
    match (size.base[width], size.unit[width]) {
        (base, 0) => std::format!("{base}"),
        (base, unit) => std::format!("({base} + {unit} * (cUnits))"),
    }
}

/// The larger of both directions.
fn larger(input: Size, output: Size, width: usize) -> String {
    let (a, b) = (expression(input, width), expression(output, width));
    match (input.is_variable(), output.is_variable()) {
        (false, false) => std::format!("{}", input.base[width].max(output.base[width])),
        // One that starts larger and grows as fast always is.
        _ if input.unit[width] >= output.unit[width] && input.base[width] >= output.base[width] => a,
        _ if output.unit[width] >= input.unit[width] && output.base[width] >= input.base[width] => b,
        _ => std::format!("({a} > {b} ? {a} : {b})"),
    }
}

/// The text of the header.
#[must_use]
pub fn print() -> String {
    let mut printer = Printer { text: text::PROLOGUE.into() };
    printer.statuses();
    printer.constants();
    let structures: BTreeSet<&str> = layouts().map(|layout| layout.c_name).collect();
    let parts = PARTS.iter().copied().flatten().map(|part| part.c_struct);
    printer.heading("Names of structures, and pointers to them.");
    for name in structures.into_iter().chain(parts).collect::<BTreeSet<_>>() {
        let kind = if Node::of(name, &members(name)).is_union() { "union" } else { "struct" };
        printer.line(format_args!(
            "typedef {kind} {name} {name};\ntypedef {name} *P{name};\ntypedef const {name} *PC{name};"
        ));
    }
    printer.text.push_str(text::CALLBACKS);
    printer.structures();
    printer.checks();
    printer.requests();
    printer.text.push_str(text::FUNCTIONS);
    printer.text
}
