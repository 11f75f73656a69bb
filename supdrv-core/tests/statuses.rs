//! Every status of the interface: its number, and that something produces it.
//!
//! `data/statuses.json` is the interface's table: names, numbers, and where a status comes from. What the core decides is asserted by name, or by
//! number, in a test of its service; what comes from a system, or from an error number of one, is made to come here.

use std::path::{Path, PathBuf};

use supdrv_core::abi::Status;
use supdrv_core::abi::status::*;
use supdrv_core::mock::client::Image;
use supdrv_core::mock::{Call, Host, MockOs};
use supdrv_core::object::Registration;
use supdrv_core::os::Errno;
use supdrv_core::ring0::errno::status_of;

/// What no driver of this interface version produces.
const ELSEWHERE: &[(&str, &str)] = &[
    ("VERR_NOT_A_DIRECTORY", "only ever turned into an error number"),
    ("VERR_SUPDRV_KERNEL_TOO_OLD_FOR_VTX", "the client library"),
    ("VERR_FILENAME_TOO_LONG", "the client library; the driver only by ENAMETOOLONG"),
    ("VERR_VMX_MSR_ALL_VMXON_DISABLED", "a later interface version splits the status"),
    ("VERR_VMX_MSR_VMXON_DISABLED", "a later interface version splits the status"),
];

struct Row {
    name: String,
    status: Status,
    origin: String,
}

impl Row {
    /// Whether one of its origins is one of these.
    fn comes_from(&self, origins: &[&str]) -> bool {
        let mut words = self.origin.split(|c: char| !c.is_alphanumeric());
        words.any(|word| origins.contains(&word))
    }

    fn is_elsewhere(&self) -> bool {
        ELSEWHERE.iter().any(|(name, _)| *name == self.name)
    }
}

fn rows() -> Vec<Row> {
    let all: Vec<serde_json::Value> = serde_json::from_str(include_str!("data/statuses.json")).unwrap();
    let text = |row: &serde_json::Value, key: &str| row[key].as_str().unwrap().to_owned();
    let row = |row: &serde_json::Value| Row {
        name: text(row, "name"),
        status: Status(row["number"].as_i64().unwrap() as i32),
        origin: text(row, "where"),
    };
    all.iter().map(row).collect()
}

/// Where the core itself decides.
const CORE: &[&str] = &["core", "sem", "gip", "tracer", "cap", "idc", "all"];

#[test]
fn names_and_numbers_are_those_of_the_interface() {
    let wrong = |row: &Row| row.status.name() != Some(row.name.as_str()) && !row.is_elsewhere();
    let wrong: Vec<String> = rows().iter().filter(|row| wrong(row)).map(|row| row.name.clone()).collect();
    assert_eq!(wrong, [] as [&str; 0]);
    assert!(Status(0).is_success() && Status(85).is_success());
    assert!(Status(-1).is_failure() && Status(i32::MIN).is_failure());
}

#[test]
fn what_the_system_says_reaches_the_client_unchanged() {
    let os = MockOs::new();
    let host = Host::on(&os).unwrap();
    let client = host.open();
    for row in rows().iter().filter(|row| row.comes_from(&["os", "shim"])) {
        os.fail_next(Call::MemAlloc, row.status);
        assert_eq!(client.page_alloc(1, true).map(drop), Err(row.status), "{}", row.name);
    }
}

#[test]
fn what_the_systems_loader_says_reaches_the_client_unchanged() {
    let os = MockOs::new();
    os.set_native_loader(VERR_LDR_GENERAL_FAILURE);
    let host = Host::on(&os).unwrap();
    let client = host.open();
    let image = Image::new("image", &[0xc3; 16]);
    for row in rows().iter().filter(|row| row.comes_from(&["native"])) {
        os.fail_next(Call::NativeOpen, row.status);
        let opened = client.ldr_open(&image, "/image").map(drop);
        // To the core this one means: use your own loader.
        let expected = if row.status == VERR_NOT_SUPPORTED { Ok(()) } else { Err(row.status) };
        assert_eq!(opened, expected, "{}", row.name);
    }
}

#[test]
fn every_error_number_becomes_its_status() {
    const SYSTEMS: [Errno; 5] =
        [Errno::Linux, Errno::FreeBsd, Errno::Darwin, Errno::Solaris, Errno::CRuntime];
    let comes = |status: Status| {
        SYSTEMS.iter().any(|system| (0..200).any(|native| status_of(*system, native) == status))
    };
    let never: Vec<String> = rows()
        .iter()
        .filter(|row| row.comes_from(&["errno"]) && !row.is_elsewhere() && !comes(row.status))
        .map(|row| row.name.clone())
        .collect();
    assert_eq!(never, [] as [&str; 0]);
}

/// The text of all tests of the core and of the conformance suite, without imports, and their data.
fn texts() -> Vec<String> {
    fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).expect("a folder of tests") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                collect(&path, found);
            } else {
                found.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in ["tests", "supctl/src/suite", "supctl/tests"] {
        collect(&root.join(folder), &mut files);
    }
    let is_asserting = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_text = name.ends_with(".rs") || name.ends_with(".c");
        (is_text && name != "statuses.rs") || name == "vtg-samples.json" || name == "gip-vectors.json"
    };
    files
        .iter()
        .filter(|path| is_asserting(path))
        .map(|path| {
            let text = std::fs::read_to_string(path).expect("a text");
            // Items end with a semicolon: what is imported isn't asserted.
            text.split("\nuse ").enumerate().fold(String::new(), |all, (index, part)| {
                let rest = if index == 0 { part } else { part.split_once(';').map_or("", |(_, rest)| rest) };
                all + rest
            })
        })
        .collect()
}

/// Whether a word is in a text, not as a part of another one.
fn has_word(text: &str, word: &str) -> bool {
    let is_word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    text.match_indices(word).any(|(at, _)| {
        !is_word(text[..at].chars().next_back()) && !is_word(text[at + word.len()..].chars().next())
    })
}

#[test]
fn every_status_of_the_core_is_asserted_by_a_test() {
    let texts = texts();
    assert!(texts.len() > 60, "the tests are elsewhere");
    let asserted = |row: &Row| {
        let number = row.status.0.to_string();
        texts.iter().any(|text| has_word(text, &row.name) || has_word(text, &number))
    };
    let missing: Vec<String> = rows()
        .iter()
        .filter(|row| row.comes_from(CORE) && !row.is_elsewhere())
        // Asserted below; and the time page only passes on what the system says of a CPU.
        .filter(|row| ![VERR_DANGLING_OBJECTS, VERR_INVALID_CPU_ID].contains(&row.status))
        .filter(|row| !asserted(row))
        .map(|row| row.name.clone())
        .collect();
    assert_eq!(missing, [] as [&str; 0]);
}

#[test]
fn every_status_has_an_origin_that_is_looked_at() {
    const ALL: &[&str] = &["os", "shim", "native", "errno"];
    let unknown = |row: &&Row| !row.comes_from(CORE) && !row.comes_from(ALL) && !row.is_elsewhere();
    let rows = rows();
    let unknown: Vec<&str> = rows.iter().filter(unknown).map(|row| row.name.as_str()).collect();
    assert_eq!(unknown, [] as [&str; 0]);
    assert!(rows.len() > 150 && ELSEWHERE.iter().all(|(name, _)| rows.iter().any(|row| row.name == *name)));
}

unsafe extern "C" fn never(_: *mut core::ffi::c_void, _: *mut core::ffi::c_void, _: *mut core::ffi::c_void) {}

#[test]
fn an_image_with_a_destructor_says_so_inside_the_driver_and_success_outside() {
    let host = Host::new();
    let client = host.open();
    let base = client.load(&Image::new("image", &[0xc3; 16])).unwrap();
    let session = client.session();
    // SAFETY: code of the image, a plain return.
    let destructor = unsafe { core::mem::transmute::<usize, supdrv_core::object::Destructor>(base) };
    let what = Registration {
        object_type: 1,
        destructor,
        user1: core::ptr::null_mut(),
        user2: core::ptr::null_mut(),
    };
    let objects = host.driver().objects();
    objects.register(session.key(), &session.creator(), session.ext(), &what).unwrap();
    assert_eq!(session.ldr_free(base), Err(VERR_DANGLING_OBJECTS));
    assert_eq!(client.ldr_free(base), Ok(()));
    assert_eq!(host.counters().images, 1);
    let elsewhere = Registration { destructor: never, ..what };
    assert!(objects.register(session.key(), &session.creator(), session.ext(), &elsewhere).is_ok());
}
