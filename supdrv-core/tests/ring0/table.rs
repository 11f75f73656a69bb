//! The table against the catalogue of the specification.

use std::collections::BTreeSet;

use supdrv_core::mock::Host;
use supdrv_core::ring0::catalogue::SIGNATURES;

use crate::harness::{Machine, exports};

pub struct Entry {
    pub name: String,
    pub prototype: String,
    pub kind: String,
}

/// The entries of the seed's era, in order.
pub fn catalogue() -> Vec<Entry> {
    let text = include_str!("../data/exports.json");
    let all: Vec<serde_json::Value> = serde_json::from_str(text).expect("the golden data is JSON");
    let mut entries: Vec<(u64, Entry)> = all
        .iter()
        .filter(|entry| entry["seed"] == true)
        .map(|entry| {
            let text = |key: &str| entry[key].as_str().expect("a string").to_owned();
            let index = entry["index"].as_u64().expect("entries of the seed have an index");
            (index, Entry { name: text("name"), prototype: text("prototype"), kind: text("kind") })
        })
        .collect();
    entries.sort_by_key(|(index, _)| *index);
    entries.into_iter().map(|(_, entry)| entry).collect()
}

#[test]
fn the_catalogue_has_255_entries_with_unique_names_of_at_most_31_bytes() {
    let entries = catalogue();
    assert_eq!(entries.len(), 255);
    assert!(entries.iter().all(|entry| entry.name.len() <= 31));
    assert_eq!(entries.iter().map(|entry| &entry.name).collect::<BTreeSet<_>>().len(), 255);
}

#[test]
fn every_entry_is_exported_in_order_and_none_is_null() {
    let entries = catalogue();
    let (numbers, functions) = entries.split_at(10);
    assert!(numbers.iter().all(|entry| entry.kind == "absolute"));
    let names: Vec<&str> = functions.iter().map(|entry| entry.name.as_str()).collect();
    let exported: Vec<&str> = exports::EXPORTS.iter().map(|export| export.name()).collect();
    assert_eq!(exported, names);
    let addresses: BTreeSet<usize> = exports::EXPORTS.iter().map(|export| export.address()).collect();
    assert!(!addresses.contains(&0));
}

#[test]
fn ring_3_gets_the_same_table() {
    let machine = Machine::new();
    machine.set_exports(exports::EXPORTS);
    let host = Host::on(&machine).expect("a driver can be initialised");
    let client = host.open();
    let functions = client.query_functions().expect("functions can be queried");
    let names: Vec<&str> = functions.iter().map(|(name, _)| name.as_str()).collect();
    let entries = catalogue();
    assert_eq!(names, entries.iter().map(|entry| entry.name.as_str()).collect::<Vec<_>>());
    for ((name, address), export) in functions.iter().skip(10).zip(exports::EXPORTS) {
        assert_eq!((name.as_str(), *address), (export.name(), export.address()));
    }
    client.close();
}

/// Rust's spelling of a C type. Handles are pointers that nobody follows: numbers of a pointer's size.
fn rust_types(c_type: &str) -> &'static [&'static str] {
    match c_type {
        "int" | "signed int" => &["i32"],
        "unsigned" | "unsigned int" | "uint32_t" | "RTCPUID" | "RTPROCESS" | "RTMSINTERVAL"
        | "RTTHREADTYPE" | "SUPDRVOBJTYPE" | "SUPPAGINGMODE" | "RTNETADDRIPV4" => &["u32"],
        "uint64_t" | "RTHCPHYS" => &["u64"],
        "uint16_t" => &["u16"],
        "uint8_t" => &["u8"],
        "bool" => &["CBool", "bool"],
        "size_t" | "uintptr_t" | "RTR3PTR" | "RTHCUINTPTR" | "RTR0PROCESS" | "RTNATIVETHREAD"
        | "RTSEMEVENT" | "RTSEMEVENTMULTI" | "RTSEMFASTMUTEX" | "RTSEMMUTEX" | "RTSPINLOCK"
        | "RTR0MEMOBJ" | "RTTHREAD" | "RTTHREADCTX" | "RTHANDLETABLE" | "SUPSEMEVENT"
        | "SUPSEMEVENTMULTI" | "PRTTIMER" | "PSUPGLOBALINFOPAGE" => &["usize"],
        "PRTR0PTR" | "PRTR3PTR" | "PRTSEMEVENT" | "PRTSEMEVENTMULTI" | "PRTSEMFASTMUTEX" | "PRTSEMMUTEX"
        | "PRTSPINLOCK" | "PRTR0MEMOBJ" | "PRTTHREAD" | "PRTTHREADCTX" | "PRTHANDLETABLE"
        | "PSUPSEMEVENT" | "PSUPSEMEVENTMULTI" | "PRTTIMER *" => &["*mut usize"],
        "PRTHCPHYS" => &["*mut u64"],
        "uint32_t *" => &["*mut u32"],
        "uint8_t *" => &["*mut u8"],
        "int *" => &["*mut i32"],
        "bool *" => &["*mut bool"],
        "PRTTIMESPEC" => &["*mut i64"],
        "const char *" => &["*const c_char"],
        "char *" => &["*mut c_char"],
        "void *" | "PRTLOGGER" | "struct VTGPROBELOC *" | "struct VTGOBJHDR *" | "PSUPDRVTRACERUSRCTX" => {
            &["*mut c_void"]
        }
        "void const *" | "const void *" | "PCSUPDRVTRACERREG" => &["*const c_void"],
        "void **" => &["*mut *mut c_void"],
        "PCSUPDRVTRACERHLP *" => &["*mut *const c_void"],
        "PSUPDRVSESSION" => &["*mut SessionView"],
        "PCSUPDRVFACTORY" => &["*mut Factory"],
        "PSUPPAGE" => &["*mut Page"],
        "PRTCPUSET" => &["*mut CpuSet"],
        "PRTTHREADPREEMPTSTATE" => &["*mut PreemptStateView"],
        "PCRTUUID" => &["*const Uuid"],
        "PRTUUID" => &["*mut Uuid"],
        "va_list" => &["VaList"],
        "PCRTNETTCP" | "PCRTNETUDP" | "PCRTNETIPV4" | "PCRTNETIPV6" | "PCRTNETADDRIPV6" | "PCRTNETBOOTP" => {
            &["*const u8"]
        }
        "PFNSUPDRVDESTRUCTOR" => &["Option<Destructor>"],
        "PFNRTHANDLETABLERETAIN" => &["Option<TableRetain>"],
        "PFNRTHANDLETABLEDELETE" => &["Option<TableDelete>"],
        "PFNRTMPWORKER" => &["Option<CpuWorker>"],
        "PFNRTMPNOTIFICATION" => &["Option<MpNotification>"],
        "PFNRTPOWERNOTIFICATION" => &["Option<PowerNotification>"],
        "PFNRTSTROUTPUT" => &["Option<StrOutput>"],
        "PFNSTRFORMAT" => &["Option<StrFormatExtension>"],
        "PFNRTSTRFORMATTYPE" => &["Option<StrFormatType>"],
        "PFNRTTHREAD" => &["Option<ThreadMain>"],
        "PFNRTTHREADCTXHOOK" => &["Option<ThreadCtxHook>"],
        "PFNRTTIMER" => &["Option<TimerMain>"],
        "void" => &[""],
        other => panic!("no Rust type is known for {other}"),
    }
}

/// A type as people write it: compilers differ in the spaces they leave.
fn spelled(rust_type: &str) -> String {
    rust_type.replace("* ", "*").replace(" < ", "<").replace(" >", ">")
}

/// Result and arguments of a prototype, without the arguments' names.
pub fn c_types(entry: &Entry) -> (String, Vec<String>) {
    let (before, after) = entry.prototype.split_once(&format!("{}(", entry.name)).expect("a prototype");
    let arguments = after.strip_suffix(')').expect("a prototype");
    let types = arguments.split(',').map(|argument| {
        let argument = argument.trim();
        let end = argument.rfind(|c: char| !(c.is_alphanumeric() || c == '_')).map_or(0, |at| at + 1);
        argument[..end].trim().to_owned()
    });
    let none = matches!(arguments, "void" | "");
    (before.trim().to_owned(), if none { Vec::new() } else { types.collect() })
}

#[test]
fn every_function_has_the_types_of_its_prototype() {
    let entries = catalogue();
    for (entry, signature) in entries.iter().skip(10).zip(SIGNATURES) {
        assert_eq!(entry.name, signature.name);
        match signature.kind {
            "var" => assert_eq!(entry.kind, "data"),
            "variadic" => assert_eq!(entry.kind, "function-variadic"),
            _ => {
                assert_eq!(entry.kind, "function");
                let (result, arguments) = c_types(entry);
                assert!(
                    rust_types(&result).contains(&spelled(signature.result).as_str()),
                    "{}: {result}",
                    entry.name
                );
                assert_eq!(arguments.len(), signature.arguments.len(), "{}", entry.name);
                for (c_type, rust_type) in arguments.iter().zip(signature.arguments) {
                    assert!(
                        rust_types(c_type).contains(&spelled(rust_type).as_str()),
                        "{}: {c_type} is {rust_type}",
                        entry.name
                    );
                }
            }
        }
    }
}

/// The tests' own text: the files in which exports are called, by name.
const CALLERS: &[&str] = &[
    include_str!("c.rs"),
    include_str!("events.rs"),
    include_str!("format.rs"),
    include_str!("memory.rs"),
    include_str!("mp.rs"),
    include_str!("mutex.rs"),
    include_str!("net.rs"),
    include_str!("services.rs"),
    include_str!("tables.rs"),
    include_str!("threads.rs"),
    include_str!("timers.rs"),
    include_str!("tracer.rs"),
];

/// Whether a text calls a function: besides the line that declares it, or from C by name.
fn calls(text: &str, name: &str) -> bool {
    let is_called = |at: usize| {
        let before = text[..at].chars().next_back();
        let after = text[at + name.len()..].chars().next();
        let is_word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        !is_word(before) && !is_word(after) && !text[..at].ends_with("fn ")
    };
    text.match_indices(name).any(|(at, _)| is_called(at))
}

#[test]
fn every_function_is_called_by_a_test() {
    let entries = catalogue();
    let functions = entries.iter().filter(|entry| entry.kind.starts_with("function"));
    let uncalled: Vec<&str> = functions
        .map(|entry| entry.name.as_str())
        .filter(|name| !CALLERS.iter().any(|text| calls(text, name)))
        .collect();
    assert_eq!(uncalled, [] as [&str; 0]);
}
