//! Which endings of requests a run of tests has seen.
//!
//! If the environment variable `SUPDRV_SEEN` names a folder, each ending leaves an empty file there, `REQUEST.END.STATUS`. An ending is one of
//!
//! | end | the call | the status in the packet |
//! | --- | --- | --- |
//! | `R` | failed with it | as the caller left it |
//! | `B` | failed with it | the same |
//! | `H` | succeeded | this one |
//!
//! `tests/data/endings.txt` lists what must have been seen; `cargo xtask test "host tests"` compares.

use core::fmt::Debug;
use std::collections::BTreeSet;
use std::format;
use std::string::String;
use std::sync::Mutex;

use zerocopy::FromBytes;

use super::locked;
use crate::abi::Status;
use crate::abi::idc::IdcRequest;
use crate::abi::ioctl::{Encoding, IOCTL_FLAG};
use crate::abi::requests::RequestHeader;
use crate::abi::status::Result;

/// The variable with the folder's name.
const FOLDER: &str = "SUPDRV_SEEN";

/// What this process has noted already.
static NOTED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

fn note(request: &dyn Debug, call: Status, packet: Status) {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let (end, status) = match call {
        Status(0) => ('H', packet),
        call if call == packet => ('B', call),
        call => ('R', call),
    };
    let status = status.name().map_or_else(|| format!("{}", status.0), String::from);
    let name = format!("{request:?}.{end}.{status}");
    if locked(&NOTED).insert(name.clone()) {
        std::fs::write(std::path::Path::new(&folder).join(&name), "").expect("the folder of endings");
    }
}

fn status(call: Result<()>) -> Status {
    call.map_or_else(|status| status, |()| Status(0))
}

/// A request of ring-3 with a packet ended.
pub fn ioctl(encoding: Encoding, code: u32, call: Result<()>, packet: &[u8]) {
    let function = encoding.decode(code, IOCTL_FLAG);
    if let (Some(function), Ok((header, _))) = (function, RequestHeader::read_from_prefix(packet)) {
        note(&function, status(call), Status(header.rc));
    }
}

/// A fast request of ring-3 ended: its status is that of the call.
pub fn fast(encoding: Encoding, code: u32, call: Result<()>) {
    if let Some(function) = encoding.decode(code, IOCTL_FLAG) {
        note(&function, Status(0), status(call));
    }
}

/// A request of a sibling driver ended.
pub fn idc(request: IdcRequest, call: Status, packet: Status) {
    note(&format_args!("Idc{request:?}"), call, packet);
}
