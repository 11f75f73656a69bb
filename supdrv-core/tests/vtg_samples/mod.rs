//! The VTG sample images: what they are, where they go, what must come of them.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::sync::OnceLock;

use serde_json::Value;

/// Where an object is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// By a loaded image from its ModuleInit: the memory is the image.
    KernelImage,
    /// By a sibling driver.
    KernelDriver,
    /// By a process.
    UserModule,
}

/// Parameters of a user-mode registration.
#[derive(Clone, Debug, Default)]
pub struct User {
    pub header_r3: u64,
    pub header_address: u64,
    pub strings_r3: u64,
    pub strings: Vec<u8>,
    pub strings_bytes: u32,
    pub flags: u32,
    pub name: String,
    pub kernel_session: bool,
}

/// One sample.
#[derive(Clone, Debug)]
pub struct Sample {
    pub name: String,
    pub entry: Entry,
    pub base: u64,
    pub header_offset: usize,
    pub memory: Vec<u8>,
    pub relocations: Vec<(usize, usize)>,
    pub user: User,
    pub module_name: String,
    expect: Value,
}

impl Sample {
    /// The status on a host ("amd64" or "i386"), if it is defined there.
    pub fn expected(&self, host: &str) -> Option<i32> {
        self.expect[host][1].as_i64().map(|code| code as i32)
    }

    pub fn header_address(&self) -> u64 {
        self.base + self.header_offset as u64
    }

    /// Adds to every address that is stored in the memory, as a loader would that places it elsewhere.
    pub fn relocate(&mut self, delta: u64) {
        for (at, width) in &self.relocations {
            let bytes = &mut self.memory[*at..*at + *width];
            let mut value = [0; 8];
            value[..*width].copy_from_slice(bytes);
            let value = u64::from_le_bytes(value).wrapping_add(delta).to_le_bytes();
            bytes.copy_from_slice(&value[..*width]);
        }
    }
}

fn address(value: &Value) -> u64 {
    let text = value.as_str().expect("an address");
    u64::from_str_radix(text.trim_start_matches("0x"), 16).expect("a hexadecimal address")
}

fn bytes(hex: &Value, size: usize) -> Vec<u8> {
    let hex = hex.as_str().expect("bytes");
    let digits = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("two hexadecimal digits");
    let mut bytes: Vec<u8> = (0..hex.len()).step_by(2).map(digits).collect();
    assert!(bytes.len() <= size);
    bytes.resize(size, 0);
    bytes
}

fn number(value: &Value) -> usize {
    value.as_u64().expect("a number") as usize
}

fn sample(case: &Value) -> Sample {
    let (memory, user) = (&case["mem"], &case["user"]);
    let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
    let entry = match case["entry"].as_str() {
        Some("kernel-image") => Entry::KernelImage,
        Some("kernel-driver") => Entry::KernelDriver,
        Some("user-module") => Entry::UserModule,
        other => panic!("what is {other:?}?"),
    };
    let user = if entry == Entry::UserModule {
        let strings_bytes = number(&user["cb_strtab"]);
        let given = user["strtab_hex"].as_str().expect("bytes").len() / 2;
        User {
            header_r3: address(&user["r3_vtg_hdr"]),
            header_address: address(&user["vtg_hdr_addr"]),
            strings_r3: address(&user["r3_strtab"]),
            strings: bytes(&user["strtab_hex"], strings_bytes.max(given)),
            strings_bytes: strings_bytes as u32,
            flags: number(&user["flags"]) as u32,
            name: text(&user["mod_name"]),
            kernel_session: user["kernel_session"].as_bool().expect("a bool"),
        }
    } else {
        User::default()
    };
    let relocations = memory["relocs"].as_array().expect("relocations");
    Sample {
        name: text(&case["name"]),
        entry,
        base: address(&memory["base"]),
        header_offset: number(&memory["hdr_off"]),
        memory: bytes(&memory["hex"], number(&memory["size"])),
        relocations: relocations.iter().map(|pair| (number(&pair[0]), number(&pair[1]))).collect(),
        user,
        module_name: text(&case["mod_name"]),
        expect: case["expect"].clone(),
    }
}

fn read() -> Vec<Sample> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/vtg-samples.json");
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{path}: {e}"));
    let file: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{path}: {e}"));
    let samples: Vec<Sample> = file["cases"].as_array().expect("cases").iter().map(sample).collect();
    assert_eq!(samples.len(), 413, "the file has that many cases");
    samples
}

/// All samples.
pub fn all() -> &'static [Sample] {
    static ALL: OnceLock<Vec<Sample>> = OnceLock::new();
    ALL.get_or_init(read)
}

/// The sample of this name.
pub fn named(name: &str) -> Sample {
    let found = all().iter().find(|sample| sample.name == name);
    found.unwrap_or_else(|| panic!("no sample {name}")).clone()
}
