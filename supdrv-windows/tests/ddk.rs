//! What the driver believes of the kernel, against the headers of the driver kit (mingw-w64's): each imported function and each one that is
//! looked up at run time by its number of parameters, the size of each, and how many pointers deep it is, structures by size and offsets, constants by value.
//!
//! The compiler decides: a C++ file of static assertions is printed from the declarations in `src/nt` and compiled for x64. There is nothing to run.
#![cfg(target_pointer_width = "64")]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Write as _;
use std::mem::{offset_of, size_of};
use std::process::{Command, Stdio};

use supdrv_windows::nt::*;

/// Declared by no header of mingw-w64; their prototypes are those of Microsoft's documentation, or of the systems' own sources.
const NOT_IN_HEADERS: &[&str] = &[
    "ExQueryTimerResolution",
    "KeGenericCallDpc",
    "KeQueryInterruptTimePrecise",
    "KeShouldYieldProcessor",
    "KeSignalCallDpcDone",
    "MmCopyMemory",
    "ZwSetSystemInformation",
];

/// A function as the driver declares it: the [`kind`]s of the result and of the parameters.
struct Function {
    name: String,
    kinds: Vec<usize>,
}

/// What each pointer adds to a kind.
const POINTER: usize = 100;

/// The size of a Rust type as it is written in the declarations, and how deep a pointer it is.
fn kind(rust: &str) -> usize {
    match rust.trim() {
        "" | "()" | "!" => 0,
        "u8" | "i8" | "Irql" | "Mode" => 1,
        "u16" => 2,
        "u32" | "i32" | "NtStatus" => 4,
        "u64" | "i64" | "usize" | "isize" => 8,
        // Pointers to nothing that anybody knows.
        "Handle" => POINTER + 8,
        // Routines are passed by address.
        "DpcRoutine" | "CallbackFunction" | "ProcessNotify" | "WorkRoutine" | "StartRoutine"
        | "ProcessorCallback" | "IpiWorker" | "FineCallback" => POINTER + 8,
        other => {
            let target = other.strip_prefix("*mut ").or_else(|| other.strip_prefix("*const "));
            POINTER + 8 + POINTER * pointers(target.unwrap_or_else(|| panic!("what is {other:?}?")))
        }
    }
}

/// How deep a pointer a type is.
fn pointers(rust: &str) -> usize {
    match rust.strip_prefix("*mut ").or_else(|| rust.strip_prefix("*const ")) {
        Some(target) => 1 + pointers(target),
        None => usize::from(rust == "Handle"),
    }
}

/// What the image imports.
fn imported(convention: &str) -> Vec<Function> {
    let text = include_str!("../src/nt/sys.rs");
    let (_, block) = text.split_once(&format!("unsafe extern \"{convention}\" {{")).expect("the imports");
    let (block, _) = block.split_once("\n}").expect("their end");
    let functions = block.split("pub fn ").skip(1).map(|function| {
        let (name, rest) = function.split_once('(').expect("parameters");
        let (parameters, rest) = rest.split_once(')').expect("their end");
        let (result, _) = rest.split_once(';').expect("the end");
        let result = result.trim().strip_prefix("->").unwrap_or_default();
        let types = parameters.split(',').filter_map(|parameter| parameter.split_once(':'));
        let kinds = std::iter::once(result).chain(types.map(|(_, rust)| rust)).map(kind).collect();
        Function { name: name.into(), kinds }
    });
    functions.collect()
}

/// What is looked up at run time.
fn looked_up() -> Vec<Function> {
    let text = include_str!("../src/kernel.rs");
    let (_, block) = text.split_once("\nroutines! {").expect("the routines");
    let (block, _) = block.split_once("\n}").expect("their end");
    let lines = block.lines().filter_map(|line| line.split_once(": \""));
    let functions = lines.map(|(_, rest)| {
        let (name, rest) = rest.split_once("\" (").expect("a name");
        let (parameters, result) = rest.split_once(") -> ").expect("a result");
        let parameters = parameters.split(',').filter(|rust| !rust.trim().is_empty());
        // `crate::nt::KDpc` and the like are behind pointers.
        let kinds = std::iter::once(result.trim_end_matches(';')).chain(parameters).map(kind).collect();
        Function { name: name.into(), kinds }
    });
    functions.collect()
}

const PRELUDE: &str = "
#include <stddef.h>
#include <intrin.h>
/* The kit's header defines once more what the compiler's has. */
#define InterlockedBitTestAndSet ddk_InterlockedBitTestAndSet
#define InterlockedBitTestAndReset ddk_InterlockedBitTestAndReset
extern \"C\" {
#include <ntifs.h>
#include <ntddk.h>
}
template <class T> constexpr size_t pointers = 0;
template <class T> constexpr size_t pointers<T *> = 1 + pointers<T>;
template <class T> constexpr size_t pointers<T *const> = 1 + pointers<T>;
template <class T> constexpr size_t kind() { return sizeof(T) + 100 * pointers<T>; }
template <> constexpr size_t kind<void>() { return 0; }
template <class F> struct signature;
template <class R, class... A> struct signature<R(A...)> {
    static constexpr size_t kinds[] = { kind<R>(), kind<A>()... };
    static constexpr size_t count = 1 + sizeof...(A);
    static constexpr bool variadic = false;
};
template <class R, class... A> struct signature<R(A..., ...)> : signature<R(A...)> {
    static constexpr bool variadic = true;
};
template <class F, size_t... S> constexpr bool is()
{
    constexpr size_t expected[] = { S... };
    if (signature<F>::count != sizeof...(S))
        return false;
    for (size_t i = 0; i < sizeof...(S); i++)
        if (signature<F>::kinds[i] != expected[i])
            return false;
    return true;
}
";

/// Compiles a file; what the compiler says if it refuses.
fn compile(source: &str) -> Result<(), String> {
    let mut compiler = Command::new("x86_64-w64-mingw32-g++")
        .args(["-x", "c++", "-std=c++17", "-fsyntax-only", "-w", "-D_WIN32_WINNT=0x0603"])
        .args(["-DNTDDI_VERSION=0x06030000", "-I/usr/x86_64-w64-mingw32/include/ddk", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the package g++-mingw-w64-x86-64 is installed");
    compiler.stdin.take().expect("a pipe").write_all(source.as_bytes()).expect("the compiler reads");
    let output = compiler.wait_with_output().expect("the compiler ends");
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

fn list(kinds: &[usize]) -> String {
    kinds.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")
}

#[test]
fn functions_with_variable_arguments_have_them_where_the_headers_say() {
    let functions = imported("C");
    assert_eq!(functions.iter().map(|function| &*function.name).collect::<Vec<_>>(), ["DbgPrintEx"]);
    for Function { name, kinds } in functions {
        // The driver's declaration has one variable argument, for the format that it passes.
        let (_, fixed) = kinds.split_last().expect("a variable argument");
        let check = |fixed: &[usize]| {
            let fixed = list(fixed);
            compile(&format!(
                "{PRELUDE}\nstatic_assert(signature<decltype({name})>::variadic && is<decltype({name}), {fixed}>());"
            ))
        };
        if let Err(errors) = check(fixed) {
            panic!("{errors}");
        }
        assert!(check(&kinds).is_err(), "it isn't fixed");
    }
}

#[test]
fn functions_have_the_parameters_that_the_headers_say() {
    let functions: Vec<Function> = imported("system").into_iter().chain(looked_up()).collect();
    assert!(functions.len() > 90, "{} declarations were found", functions.len());
    let missing: BTreeSet<&str> = NOT_IN_HEADERS.iter().copied().collect();
    let mut source = PRELUDE.to_owned();
    for Function { name, kinds } in functions.iter().filter(|function| !missing.contains(&*function.name)) {
        writeln!(source, "static_assert(is<decltype({name}), {}>(), \"{name}\");", list(kinds)).unwrap();
        writeln!(source, "static_assert(!signature<decltype({name})>::variadic, \"{name}\");").unwrap();
    }
    if let Err(errors) = compile(&source) {
        panic!("{errors}");
    }
}

#[test]
fn what_no_header_declares_is_known_by_name() {
    for name in NOT_IN_HEADERS {
        assert!(
            compile(&format!("{PRELUDE}\nauto function = &{name};")).is_err(),
            "{name} is declared after all"
        );
    }
}

#[test]
fn a_wrong_belief_is_found() {
    assert!(compile(&format!("{PRELUDE}\nstatic_assert(is<decltype(KeSetEvent), 4, 108, 4, 1>());")).is_ok());
    for wrong in ["4, 108, 4, 4", "4, 108, 4", "0, 108, 4, 1", "4, 8, 4, 1", "4, 208, 4, 1"] {
        let source = format!("{PRELUDE}\nstatic_assert(is<decltype(KeSetEvent), {wrong}>());");
        assert!(compile(&source).is_err(), "{wrong}");
    }
}

macro_rules! offsets {
    ($source:ident; $($rust:ident $c:literal $(exact $exact:tt)? { $($field:ident $c_field:literal),* })*) => {
        $(
            $(let _: &str = $exact; writeln!($source, "static_assert(sizeof({}) == {}, \"{}\");", $c, size_of::<$rust>(), $c).unwrap();)?
            $(writeln!($source, "static_assert(offsetof({}, {}) == {}, \"{}.{}\");", $c, $c_field, offset_of!($rust, $field), $c, $c_field).unwrap();)*
        )*
    };
}

#[test]
fn structures_have_the_layout_that_the_headers_say() {
    let mut source = PRELUDE.to_owned();
    offsets! { source;
        UnicodeString "UNICODE_STRING" exact "" { length "Length", maximum_length "MaximumLength", buffer "Buffer" }
        ObjectAttributes "OBJECT_ATTRIBUTES" exact "" { name "ObjectName", attributes "Attributes", security "SecurityDescriptor" }
        DriverObject "DRIVER_OBJECT" exact "" {
            device_object "DeviceObject", driver_start "DriverStart", driver_size "DriverSize", driver_name "DriverName",
            fast_io_dispatch "FastIoDispatch", driver_unload "DriverUnload", major_function "MajorFunction"
        }
        FastIoDispatch "FAST_IO_DISPATCH" exact "" { device_control "FastIoDeviceControl" }
        DeviceObject "DEVICE_OBJECT" {
            reference_count "ReferenceCount", driver_object "DriverObject", next_device "NextDevice", flags "Flags",
            characteristics "Characteristics", device_extension "DeviceExtension", device_type "DeviceType", stack_size "StackSize"
        }
        IoStatusBlock "IO_STATUS_BLOCK" exact "" { status "Status", information "Information" }
        Irp "IRP" exact "" {
            mdl_address "MdlAddress", flags "Flags", system_buffer "AssociatedIrp", io_status "IoStatus", requestor_mode "RequestorMode",
            pending_returned "PendingReturned", stack_count "StackCount", current_location "CurrentLocation", cancel "Cancel",
            cancel_irql "CancelIrql", user_iosb "UserIosb", user_event "UserEvent", cancel_routine "CancelRoutine",
            user_buffer "UserBuffer", driver_context "Tail.Overlay.DriverContext", thread "Tail.Overlay.Thread",
            list_entry "Tail.Overlay.ListEntry", current_stack_location "Tail.Overlay.CurrentStackLocation"
        }
        IoStackLocation "IO_STACK_LOCATION" exact "" {
            major_function "MajorFunction", minor_function "MinorFunction", control "Control",
            parameters "Parameters", device_object "DeviceObject", file_object "FileObject", completion_routine "CompletionRoutine",
            context "Context"
        }
        FileObject "FILE_OBJECT" {
            device_object "DeviceObject", fs_context "FsContext", fs_context2 "FsContext2", flags "Flags", file_name "FileName"
        }
        Mdl "MDL" exact "" {
            next "Next", size "Size", flags "MdlFlags", process "Process", mapped_system_va "MappedSystemVa", start_va "StartVa",
            byte_count "ByteCount", byte_offset "ByteOffset"
        }
        KEvent "KEVENT" exact "" { }
        KDpc "KDPC" exact "" { }
        FastMutex "FAST_MUTEX" exact "" { count "Count", owner "Owner", contention "Contention", event "Event", old_irql "OldIrql" }
        ProcessorNumber "PROCESSOR_NUMBER" exact "" { group "Group", number "Number" }
        GroupAffinity "GROUP_AFFINITY" exact "" { mask "Mask", group "Group" }
        ProcessorChange "KE_PROCESSOR_CHANGE_NOTIFY_CONTEXT" exact "" { state "State", nt_number "NtNumber", status "Status", number "ProcNumber" }
        VersionInfo "RTL_OSVERSIONINFOW" exact "" { size "dwOSVersionInfoSize", major "dwMajorVersion", build "dwBuildNumber" }
        KApcState "KAPC_STATE" exact "" { }
    }
    // The driver's storage may be larger, and 32-bit parameters are the low halves of four slots.
    writeln!(source, "static_assert(sizeof(KTIMER) <= {}, \"KTIMER\");", size_of::<KTimer>()).unwrap();
    for (index, field) in
        ["OutputBufferLength", "InputBufferLength", "IoControlCode", "Type3InputBuffer"].iter().enumerate()
    {
        let at = offset_of!(IoStackLocation, parameters) + 8 * index;
        let path = format!("Parameters.DeviceIoControl.{field}");
        writeln!(source, "static_assert(offsetof(IO_STACK_LOCATION, {path}) == {at}, \"{path}\");").unwrap();
    }
    if let Err(errors) = compile(&source) {
        panic!("{errors}");
    }
}

#[test]
fn numbers_are_those_of_the_headers() {
    let mut source = PRELUDE.to_owned();
    let mut number = |name: &str, value: u64| {
        writeln!(
            source,
            "static_assert((unsigned long long)(unsigned int)({name}) == {value}ull, \"{name}\");"
        )
        .unwrap();
    };
    for (name, status) in [
        ("STATUS_SUCCESS", NtStatus::SUCCESS),
        ("STATUS_USER_APC", NtStatus::USER_APC),
        ("STATUS_ALERTED", NtStatus::ALERTED),
        ("STATUS_TIMEOUT", NtStatus::TIMEOUT),
        ("STATUS_PENDING", NtStatus::PENDING),
        ("STATUS_NO_YIELD_PERFORMED", NtStatus::NO_YIELD_PERFORMED),
        ("STATUS_UNSUCCESSFUL", NtStatus::UNSUCCESSFUL),
        ("STATUS_INVALID_INFO_CLASS", NtStatus::INVALID_INFO_CLASS),
        ("STATUS_INVALID_HANDLE", NtStatus::INVALID_HANDLE),
        ("STATUS_INVALID_PARAMETER", NtStatus::INVALID_PARAMETER),
        ("STATUS_NO_SUCH_DEVICE", NtStatus::NO_SUCH_DEVICE),
        ("STATUS_INVALID_DEVICE_REQUEST", NtStatus::INVALID_DEVICE_REQUEST),
        ("STATUS_ACCESS_DENIED", NtStatus::ACCESS_DENIED),
        ("STATUS_NOT_LOCKED", NtStatus::NOT_LOCKED),
        ("STATUS_OBJECT_NAME_NOT_FOUND", NtStatus::OBJECT_NAME_NOT_FOUND),
        ("STATUS_OBJECT_NAME_COLLISION", NtStatus::OBJECT_NAME_COLLISION),
        ("STATUS_UNKNOWN_REVISION", NtStatus::UNKNOWN_REVISION),
        ("STATUS_REVISION_MISMATCH", NtStatus::REVISION_MISMATCH),
        ("STATUS_INSUFFICIENT_RESOURCES", NtStatus::INSUFFICIENT_RESOURCES),
        ("STATUS_NOT_SUPPORTED", NtStatus::NOT_SUPPORTED),
        ("STATUS_NOT_A_DIRECTORY", NtStatus::NOT_A_DIRECTORY),
        ("STATUS_IMAGE_ALREADY_LOADED", NtStatus::IMAGE_ALREADY_LOADED),
        ("STATUS_INVALID_ADDRESS", NtStatus::INVALID_ADDRESS),
        ("STATUS_DRIVER_ENTRYPOINT_NOT_FOUND", NtStatus::DRIVER_ENTRYPOINT_NOT_FOUND),
        ("STATUS_INVALID_IMAGE_HASH", NtStatus::INVALID_IMAGE_HASH),
    ] {
        number(name, status.0.into());
    }
    for (name, value) in [
        ("OBJ_CASE_INSENSITIVE", OBJ_CASE_INSENSITIVE),
        ("OBJ_KERNEL_HANDLE", OBJ_KERNEL_HANDLE),
        ("SL_PENDING_RETURNED", SL_PENDING_RETURNED.into()),
        ("MDL_MAPPED_TO_SYSTEM_VA", MDL_MAPPED_TO_SYSTEM_VA.into()),
        ("MDL_PAGES_LOCKED", MDL_PAGES_LOCKED.into()),
        ("MDL_SOURCE_IS_NONPAGED_POOL", MDL_SOURCE_IS_NONPAGED_POOL.into()),
        ("PASSIVE_LEVEL", PASSIVE_LEVEL.into()),
        ("APC_LEVEL", APC_LEVEL.into()),
        ("DISPATCH_LEVEL", DISPATCH_LEVEL.into()),
        ("IRP_MJ_CREATE", major::CREATE as u32),
        ("IRP_MJ_CLOSE", major::CLOSE as u32),
        ("IRP_MJ_READ", major::READ as u32),
        ("IRP_MJ_WRITE", major::WRITE as u32),
        ("IRP_MJ_DEVICE_CONTROL", major::DEVICE_CONTROL as u32),
        ("IRP_MJ_INTERNAL_DEVICE_CONTROL", major::INTERNAL_DEVICE_CONTROL as u32),
        ("IRP_MJ_CLEANUP", major::CLEANUP as u32),
    ] {
        number(name, value.into());
    }
    if let Err(errors) = compile(&source) {
        panic!("{errors}");
    }
}
