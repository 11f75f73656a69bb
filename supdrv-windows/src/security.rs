//! Who may open the devices.
//!
//! Both get an explicit list: System and administrators everything, everybody read and write, restricted code read. An administrator
//! can put another descriptor for the unrestricted device into the registry: `Parameters\SysSecurity` under the service's key,
//! self-relative and binary. It is checked before it is used; one that makes no sense counts as absent.

use core::ptr::NonNull;

use supdrv_core::heap::Array;
use supdrv_core::os::OsLog;

use crate::Windows;
use crate::nt::sys;
use crate::nt::{
    DeviceObject, Handle, KERNEL_MODE, OBJ_CASE_INSENSITIVE, OBJ_KERNEL_HANDLE, ObjectAttributes,
    UnicodeString,
};
use crate::unicode;

const DACL_SECURITY_INFORMATION: u32 = 4;
const WRITE_DAC: u32 = 0x4_0000;
const KEY_READ: u32 = 0x2_0019;
const REG_BINARY: u32 = 3;
const PARTIAL_INFORMATION: u32 = 2;
const PARTIAL_HEADER: usize = 12;
/// Larger descriptors aren't looked at.
const MAX_DESCRIPTOR_BYTES: usize = 1024;

const GENERIC_ALL: u32 = 0x1000_0000;
const GENERIC_READ: u32 = 0x8000_0000;
const GENERIC_WRITE: u32 = 0x4000_0000;

/// Authority and relative ids of an account.
struct Account(u8, &'static [u32]);

/// `D:P(A;;GA;;;SY)(A;;GA;;;BA)(A;;GRGW;;;WD)(A;;GR;;;RC)`
const DEFAULT: [(u32, Account); 4] = [
    (GENERIC_ALL, Account(5, &[18])),
    (GENERIC_ALL, Account(5, &[32, 544])),
    (GENERIC_READ | GENERIC_WRITE, Account(1, &[0])),
    (GENERIC_READ, Account(5, &[12])),
];
const HEADER_BYTES: usize = 20;
const DEFAULT_BYTES: usize = HEADER_BYTES + 8 + 20 + 24 + 20 + 20;

const fn put<const N: usize>(to: &mut [u8; N], at: usize, bytes: &[u8]) -> usize {
    let mut index = 0;
    while index < bytes.len() {
        to[at + index] = bytes[index];
        index += 1;
    }
    at + bytes.len()
}

const fn default_descriptor() -> [u8; DEFAULT_BYTES] {
    const PRESENT_PROTECTED_SELF_RELATIVE: u16 = 0x4 | 0x1000 | 0x8000;
    let mut d = [0; DEFAULT_BYTES];
    d[0] = 1;
    put(&mut d, 2, &PRESENT_PROTECTED_SELF_RELATIVE.to_le_bytes());
    put(&mut d, 16, &(HEADER_BYTES as u32).to_le_bytes());
    d[HEADER_BYTES] = 2;
    put(&mut d, HEADER_BYTES + 2, &((DEFAULT_BYTES - HEADER_BYTES) as u16).to_le_bytes());
    put(&mut d, HEADER_BYTES + 4, &(DEFAULT.len() as u16).to_le_bytes());
    let mut at = HEADER_BYTES + 8;
    let mut entry = 0;
    while entry < DEFAULT.len() {
        let (mask, Account(authority, ids)) = &DEFAULT[entry];
        let bytes = 16 + 4 * ids.len();
        put(&mut d, at + 2, &(bytes as u16).to_le_bytes());
        put(&mut d, at + 4, &mask.to_le_bytes());
        d[at + 8] = 1;
        d[at + 9] = ids.len() as u8;
        d[at + 15] = *authority;
        let mut id = 0;
        while id < ids.len() {
            put(&mut d, at + 16 + 4 * id, &ids[id].to_le_bytes());
            id += 1;
        }
        at += bytes;
        entry += 1;
    }
    assert!(at == DEFAULT_BYTES);
    d
}

/// The default, self-relative.
pub static DEFAULT_DESCRIPTOR: [u8; DEFAULT_BYTES] = default_descriptor();

fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

/// Whether bytes are a self-relative descriptor with a discretionary list whose entries are all inside.
#[must_use]
pub fn is_descriptor(bytes: &[u8]) -> bool {
    check(bytes).is_some()
}

fn check(bytes: &[u8]) -> Option<()> {
    const PRESENT_AND_SELF_RELATIVE: u16 = 0x4 | 0x8000;
    const ALLOWED_OR_DENIED: u8 = 1;
    let control = u16::from_le_bytes(number(bytes, 2)?);
    let list = u32::from_le_bytes(number(bytes, 16)?) as usize;
    if bytes.first() != Some(&1)
        || control & PRESENT_AND_SELF_RELATIVE != PRESENT_AND_SELF_RELATIVE
        || list < HEADER_BYTES
    {
        return None;
    }
    // Owner and group aren't used, and may not be there.
    if number(bytes, 4)? != [0; 8] {
        return None;
    }
    let list_bytes = usize::from(u16::from_le_bytes(number(bytes, list.checked_add(2)?)?));
    let count = u16::from_le_bytes(number(bytes, list + 4)?);
    let list = bytes.get(list..list.checked_add(list_bytes)?)?;
    if !matches!(list.first(), Some(2 | 4)) {
        return None;
    }
    let mut at = 8;
    for _ in 0..count {
        let entry_bytes = usize::from(u16::from_le_bytes(number(list, at + 2)?));
        let entry = list.get(at..at.checked_add(entry_bytes)?)?;
        let ids = usize::from(*entry.get(9)?);
        if *entry.first()? > ALLOWED_OR_DENIED
            || entry.get(8) != Some(&1)
            || ids > 15
            || entry_bytes < 16 + 4 * ids
        {
            return None;
        }
        at += entry_bytes;
    }
    Some(())
}

/// Sets the lists. PASSIVE, before anybody can open the devices. What fails is logged: the kernel's default then holds.
pub fn apply(
    unrestricted: NonNull<DeviceObject>,
    restricted: NonNull<DeviceObject>,
    registry_path: *const UnicodeString,
) {
    let configured = from_registry(registry_path);
    let ok = set(unrestricted, configured.as_deref().unwrap_or(&DEFAULT_DESCRIPTOR));
    if !(set(restricted, &DEFAULT_DESCRIPTOR) && ok) {
        Windows.log_write(b"supdrv: the devices keep the kernel's default security\n");
    }
}

fn set(device: NonNull<DeviceObject>, descriptor: &[u8]) -> bool {
    let mut handle: Handle = core::ptr::null_mut();
    // SAFETY: PASSIVE; our own device, and a descriptor that was checked.
    unsafe {
        let opened = sys::ObOpenObjectByPointer(
            device.as_ptr().cast(),
            OBJ_KERNEL_HANDLE,
            core::ptr::null_mut(),
            WRITE_DAC,
            core::ptr::null_mut(),
            KERNEL_MODE,
            &raw mut handle,
        );
        if !opened.is_ok() {
            return false;
        }
        let set = sys::ZwSetSecurityObject(handle, DACL_SECURITY_INFORMATION, descriptor.as_ptr().cast());
        sys::ZwClose(handle);
        set.is_ok()
    }
}

fn open_key(root: Handle, name: &UnicodeString) -> Option<Handle> {
    let mut attributes = ObjectAttributes::new(name, OBJ_CASE_INSENSITIVE | OBJ_KERNEL_HANDLE);
    attributes.root = root;
    let mut key: Handle = core::ptr::null_mut();
    // SAFETY: PASSIVE; everything passed is ours.
    unsafe { sys::ZwOpenKey(&raw mut key, KEY_READ, &raw const attributes) }.is_ok().then_some(key)
}

fn from_registry(registry_path: *const UnicodeString) -> Option<Array<u8, Windows>> {
    // SAFETY: null or the path that the kernel passed.
    let service = open_key(core::ptr::null_mut(), unsafe { registry_path.as_ref() }?)?;
    let parameters = open_key(service, unicode!("Parameters"));
    let value = parameters.and_then(read_value);
    for key in parameters.into_iter().chain([service]) {
        // SAFETY: opened above.
        unsafe { sys::ZwClose(key) };
    }
    let descriptor = value?;
    if is_descriptor(&descriptor) {
        return Some(descriptor);
    }
    Windows.log_write(b"supdrv: Parameters\\SysSecurity is no usable security descriptor\n");
    None
}

fn read_value(key: Handle) -> Option<Array<u8, Windows>> {
    let mut information =
        Array::<u32, Windows>::new_zeroed(&Windows, (PARTIAL_HEADER + MAX_DESCRIPTOR_BYTES) / 4).ok()?;
    let mut bytes = 0;
    // SAFETY: the buffer has the size that is passed.
    let status = unsafe {
        sys::ZwQueryValueKey(
            key,
            unicode!("SysSecurity"),
            PARTIAL_INFORMATION,
            information.as_mut_ptr().cast(),
            (information.len() * 4) as u32,
            &raw mut bytes,
        )
    };
    // Title index, type, length, data.
    let [_, kind, length, ..] = *information else { return None };
    if !status.is_ok() || kind != REG_BINARY {
        return None;
    }
    let data = zerocopy::IntoBytes::as_bytes(&*information);
    let end = PARTIAL_HEADER.checked_add(length as usize)?;
    Array::copy_of(&Windows, data.get(PARTIAL_HEADER..end)?).ok()
}
