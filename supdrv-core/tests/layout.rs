//! The C interface against golden data: every structure, member, constant, status, size and function code, for 64-bit and
//! 32-bit hosts. The definitions themselves are checked by the compiler of each host against their own tables; here the tables
//! are compared with what C compilers made of the original declarations.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use supdrv_core::abi::idc::IdcRequest;
use supdrv_core::abi::ioctl::{COOKIE_MAGIC, Encoding, Flavour, Function};
use supdrv_core::abi::layout::{ABSENT, Constant, StructLayout};
use supdrv_core::abi::packets::packet;
use supdrv_core::abi::{CONSTANTS, LAYOUTS};
use supdrv_core::capi::header::{c_struct_of, members};

/// Structures of C that have no Rust counterpart, and why.
const NO_STRUCT: &[(&str, &str)] = &[];

/// Constants of C that have no Rust counterpart, by prefix, and why.
const NO_CONSTANT: &[(&str, &str)] = &[];

const WIDTHS: [(usize, &str); 2] = [(0, "layout-amd64.json"), (1, "layout-i386.json")];

fn golden(name: &str) -> Value {
    let path = format!("{}/tests/data/{name}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn number(value: &Value) -> u64 {
    value
        .as_u64()
        .or_else(|| value.as_i64().map(|v| v as u64))
        .unwrap_or_else(|| panic!("{value} is no number"))
}

fn object(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().unwrap_or_else(|| panic!("{value} is no object")).iter()
}

fn layouts() -> impl Iterator<Item = &'static StructLayout> {
    LAYOUTS.iter().copied().flatten()
}

/// Offset and size of a C member by its path, also inside members that are structures.
fn find(c_struct: &str, member: &str, width: usize) -> Option<(usize, usize)> {
    let known = members(c_struct);
    if let Some(field) = known.get(member) {
        return Some((field.offset[width], field.size[width]));
    }
    member.match_indices('.').find_map(|(at, _)| {
        let outer = known.get(member[..at].trim_end_matches("[0]"))?;
        let (offset, size) = find(c_struct_of(outer.rust_type)?, &member[at + 1..], width)?;
        Some((outer.offset[width] + offset, size))
    })
}

/// Where a structure or union without a Rust type of its own begins, from what is in it.
fn start_of_children(c_struct: &str, member: &str, width: usize) -> Option<usize> {
    let inside = |path: &str| path.strip_prefix(member).is_some_and(|rest| rest.starts_with('.'));
    let fields = members(c_struct);
    fields.iter().filter(|(path, _)| inside(path)).map(|(_, field)| field.offset[width]).min()
}

fn excused(name: &str, list: &[(&str, &str)]) -> bool {
    list.iter().any(|(prefix, why)| name.starts_with(prefix) && !why.is_empty())
}

#[test]
fn every_member_of_every_structure_is_where_c_has_it() {
    let mut wrong = Vec::new();
    for (width, file) in WIDTHS {
        let golden = golden(file);
        for (c_struct, description) in object(&golden["structs"]) {
            if excused(c_struct, NO_STRUCT) {
                continue;
            }
            for (member, place) in object(&description["members"]) {
                let offset = number(&place["offset"]) as usize;
                let size = number(&place["size"]) as usize;
                let composed = matches!(place["kind"].as_str(), Some("struct" | "union"));
                let found = find(c_struct, member, width);
                let right = match found {
                    Some(found) => found == (offset, size),
                    None => composed && start_of_children(c_struct, member, width) == Some(offset),
                };
                if !right {
                    wrong.push(format!(
                        "{file}: {c_struct}::{member} at {offset}, size {size}: {found:?} in Rust"
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} members differ:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn every_structure_has_its_size() {
    let mut wrong = Vec::new();
    for (width, file) in WIDTHS {
        for (c_struct, description) in object(&golden(file)["structs"]) {
            if excused(c_struct, NO_STRUCT) {
                continue;
            }
            let align = number(&description["align"]) as usize;
            let views = layouts().filter(|layout| layout.c_name == c_struct).map(|layout| layout.size[width]);
            let here = members(c_struct).into_values().filter(|field| field.offset[width] != ABSENT);
            let ends = here.map(|field| field.offset[width] + field.size[width]);
            let size = views.chain(ends).max().map(|end| end.next_multiple_of(align));
            let expected = number(&description["size"]) as usize;
            if size != Some(expected) {
                wrong.push(format!("{file}: {c_struct} has {expected} bytes, in Rust {size:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn arrays_have_as_many_elements_as_in_c() {
    for (width, file) in WIDTHS {
        for (c_struct, description) in object(&golden(file)["structs"]) {
            for (member, field) in members(c_struct) {
                let place = &description["members"][&member];
                let rust_count = field.rust_type.strip_suffix(']').and_then(|ty| ty.rsplit("; ").next());
                if let (Some(count), Some(rust_count)) = (place["count"].as_u64(), rust_count) {
                    let rust_count: u64 = rust_count.trim().parse().expect("a literal length");
                    assert_eq!(rust_count, count, "{file}: {c_struct}::{member} at width {width}");
                }
            }
        }
    }
}

/// Rust may not invent members either: what a table names must exist.
#[test]
fn every_described_member_exists_in_c() {
    for (width, file) in WIDTHS {
        let golden = golden(file);
        for c_struct in layouts().map(|layout| layout.c_name).collect::<BTreeSet<_>>() {
            let description = &golden["structs"][c_struct];
            for (member, field) in &members(c_struct) {
                // A member without size is one that hosts of this width don't have.
                if field.offset[width] == ABSENT || field.size[width] == 0 {
                    continue;
                }
                // Paths into structures that C has as types of their own are listed under those.
                let nested = member
                    .rsplit_once('.')
                    .is_some_and(|(outer, _)| description["members"][outer].is_object());
                assert!(
                    description["members"][member].is_object() || nested,
                    "{file}: {c_struct} has no member {member}"
                );
            }
        }
    }
}

#[test]
fn every_constant_has_its_value() {
    let known: BTreeMap<&str, &Constant> =
        CONSTANTS.iter().copied().flatten().map(|c| (c.c_name, c)).collect();
    let mut wrong = Vec::new();
    for (width, file) in WIDTHS {
        let golden = golden(file);
        let enums = object(&golden["enums"]).flat_map(|(_, values)| object(values));
        for (name, value) in object(&golden["constants"]).chain(enums) {
            if name.contains("_SIZE") && name.starts_with("SUP_IOCTL_") || excused(name, NO_CONSTANT) {
                continue;
            }
            let found = known.get(name.as_str()).map(|constant| constant.value[width]);
            if found != Some(number(value)) {
                wrong.push(format!("{file}: {name} is {value}, in Rust {found:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} constants differ:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn constants_are_described_once() {
    let mut seen = BTreeSet::new();
    for constant in CONSTANTS.iter().copied().flatten() {
        assert!(seen.insert(constant.c_name), "{} twice", constant.c_name);
    }
}

#[test]
fn strings_are_the_same() {
    let golden = golden("layout-amd64.json");
    let magic = golden["strings"]["SUPCOOKIE_MAGIC"].as_str().expect("a string");
    assert_eq!(COOKIE_MAGIC[..], *[magic.as_bytes(), b"\0"].concat());
}

/// Sizes of packets: `SUP_IOCTL_…_SIZE`, `…_SIZE_IN`, `…_SIZE_OUT`, fixed ones and formulas.
#[test]
fn packets_have_the_sizes_of_c() {
    for (width, file) in WIDTHS {
        let golden = golden(file);
        let mut used = BTreeSet::new();
        for function in Function::ALL {
            let Some(packet) = packet(*function) else { continue };
            for (suffix, size) in [("IN", packet.input), ("OUT", packet.output)] {
                let name = format!("SUP_IOCTL_{}_SIZE_{suffix}", function.c_name());
                if size.is_variable() {
                    let formula = &golden["variable_sizes"][&name];
                    assert_eq!(number(&formula["base"]) as usize, size.base[width], "{file}: {name}");
                    assert_eq!(number(&formula["per_unit"]) as usize, size.unit[width], "{file}: {name}");
                } else {
                    assert_eq!(
                        number(&golden["constants"][&name]) as usize,
                        size.base[width],
                        "{file}: {name}"
                    );
                }
                used.insert(name);
            }
            let name = format!("SUP_IOCTL_{}_SIZE", function.c_name());
            let of = |units: usize| {
                let bytes =
                    |size: supdrv_core::abi::packets::Size| size.bytes(width, units).expect("no overflow");
                bytes(packet.input).max(bytes(packet.output))
            };
            if let Some(size) = golden["constants"][&name].as_u64() {
                assert_eq!(of(0), size as usize, "{file}: {name}");
            } else if let Some(points) = golden["variable_sizes"][&name]["at"].as_object() {
                for (units, size) in points {
                    assert_eq!(
                        of(units.parse().expect("a number")),
                        number(size) as usize,
                        "{file}: {name}({units})"
                    );
                }
            } else {
                let formula = &golden["variable_sizes"][&name];
                let (base, unit) = (number(&formula["base"]) as usize, number(&formula["per_unit"]) as usize);
                assert_eq!(of(1000), base + 1000 * unit, "{file}: {name}");
            }
            used.insert(name);
        }
        let all = object(&golden["constants"]).chain(object(&golden["variable_sizes"])).map(|(name, _)| name);
        for name in all.filter(|name| name.starts_with("SUP_IOCTL_") && name.contains("_SIZE")) {
            assert!(used.contains(name), "{file}: {name} belongs to no request");
        }
    }
}

#[test]
fn function_codes_are_the_same_on_every_system() {
    let systems = [
        ("linux", Encoding::Linux),
        ("windows", Encoding::Windows),
        ("darwin", Encoding::Bsd),
        ("freebsd", Encoding::Bsd),
        ("solaris", Encoding::Solaris),
        ("os2", Encoding::Os2),
    ];
    let hex = |value: &Value| {
        let text = value.as_str().expect("a string");
        u32::from_str_radix(text.trim_start_matches("0x"), 16).expect("a hexadecimal number")
    };
    for (width, file) in WIDTHS {
        let golden = golden(file);
        assert_eq!(golden["ioctls"].as_object().map(serde_json::Map::len), Some(systems.len()));
        let flag = number(&golden["constants"]["SUP_IOCTL_FLAG"]) as u32;
        for (system, encoding) in systems {
            let (codes, stripped) = (&golden["ioctls"][system], &golden["ioctls_match"][system]);
            let by_name = |codes: &Value, name: &str| {
                let value = [format!("SUP_IOCTL_{name}"), format!("SUP_IOCTL_{name}(0)")]
                    .iter()
                    .find_map(|name| codes.get(name).map(hex));
                value.unwrap_or_else(|| panic!("{file}: {system} has no {name}"))
            };
            for function in Function::ALL {
                let size = packet(*function).map_or(0, |p| p.input.base[width].max(p.output.base[width]));
                let code = encoding.code(*function, size as u32, flag);
                assert_eq!(code, by_name(codes, function.c_name()), "{file}: {system} {function:?}");
                assert_eq!(
                    encoding.strip(code),
                    by_name(stripped, function.c_name()),
                    "{file}: {system} {function:?} without size"
                );
                assert_eq!(
                    encoding.decode(code, flag),
                    Some(*function),
                    "{file}: {system} {function:?} decoded"
                );
                if encoding == Encoding::Linux && function.flavour() == Flavour::Sized {
                    assert_eq!(
                        encoding.size_field(code) as usize,
                        size,
                        "{file}: size in the code of {function:?}"
                    );
                }
            }
            assert_eq!(
                codes.as_object().map(serde_json::Map::len),
                Some(Function::ALL.len()),
                "{file}: {system}"
            );
        }
    }
}

#[test]
fn codes_of_sibling_drivers_are_the_same_on_every_system() {
    for (_, file) in WIDTHS {
        let golden = golden(file);
        for (system, encoding) in [("other", Encoding::Linux), ("windows", Encoding::Windows)] {
            let codes = object(&golden["idc"][system]);
            let codes: Vec<_> = codes.map(|(_, code)| code.as_str().expect("a string").to_owned()).collect();
            let ours: Vec<_> =
                IdcRequest::ALL.iter().map(|request| format!("{:#010x}", request.code(encoding))).collect();
            assert_eq!(BTreeSet::from_iter(codes), BTreeSet::from_iter(ours), "{file}: {system}");
        }
    }
}

#[test]
fn types_have_the_sizes_of_c() {
    let pointers = [
        "RTR0PTR",
        "RTR3PTR",
        "RTHCUINTPTR",
        "RTR0PROCESS",
        "RTNATIVETHREAD",
        "PVMR0",
        "RTR0MEMOBJ",
        "RTSPINLOCK",
        "RTSEMMUTEX",
        "RTSEMFASTMUTEX",
        "RTHANDLETABLE",
        "SUPSEMEVENT",
        "SUPSEMEVENTMULTI",
        "size_t",
        "PFNRT",
        "PFNR0MODULEINIT",
    ];
    for (width, file) in WIDTHS {
        for (name, size) in object(&golden(file)["type_sizes"]) {
            let expected = match name.as_str() {
                name if pointers.contains(&name) => [8, 4][width],
                "RTHCPHYS" | "RTUINTPTR" => 8,
                "RTPROCESS" | "RTUID" | "RTGID" | "RTCPUID" | "VMCPUID" => 4,
                "bool" => 1,
                "RTLISTANCHOR" => [16, 8][width],
                other => panic!("{file}: what is {other}?"),
            };
            assert_eq!(number(size), expected, "{file}: {name}");
        }
    }
}

/// The list of exceptions must not outlive its reasons.
#[test]
fn nothing_on_the_lists_of_exceptions_has_a_counterpart() {
    for (prefix, _) in NO_STRUCT {
        assert!(layouts().all(|layout| !layout.c_name.starts_with(prefix)), "{prefix} is in Rust now");
    }
    for (prefix, _) in NO_CONSTANT {
        let mut all = CONSTANTS.iter().copied().flatten();
        assert!(all.all(|constant| !constant.c_name.starts_with(prefix)), "{prefix} is in Rust now");
    }
}
