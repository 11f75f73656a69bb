//! The functions of the assembly half.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use fakekernel::context;

use super::{base, lock, machine, memory, tick};

const ERROR: u32 = 1;

/// Segments by the index in their selectors.
static SEGMENTS: Mutex<Vec<Option<usize>>> = Mutex::new(Vec::new());

/// A 16:16 pointer to a flat address, while it lives; null for 0.
pub struct Far(pub u32);

impl Far {
    pub fn to(flat: usize) -> Self {
        if flat == 0 {
            return Self(0);
        }
        let mut segments = lock(&SEGMENTS);
        let free = segments.iter().position(Option::is_none);
        let index = free.unwrap_or_else(|| {
            segments.push(None);
            segments.len() - 1
        });
        // The offset counts too.
        segments[index] = Some(flat.wrapping_sub(0x10));
        Self((index as u32 + 1) << 19 | 7 << 16 | 0x10)
    }
}

impl Drop for Far {
    fn drop(&mut self) {
        if let Some(index) = (self.0 >> 19).checked_sub(1) {
            lock(&SEGMENTS)[index as usize] = None;
        }
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn supdrv_devhlp_virt_to_lin(far: u32, flat: *mut usize) -> u32 {
    if machine().faults.must_fail("VirtToLin") {
        return ERROR;
    }
    let index = (far >> 19).checked_sub(1);
    let base = index.and_then(|index| lock(&SEGMENTS).get(index as usize).copied().flatten());
    let Some(base) = base else { return ERROR };
    flat.write(base.wrapping_add((far & 0xffff) as usize));
    0
}

/// Where there is no memory.
const END_OF_MEMORY: u32 = 0xfff0_0000;

#[unsafe(no_mangle)]
pub unsafe extern "C" fn supdrv_devhlp_copy_to_phys(phys: u32, from: *const u8, bytes: u32) -> u32 {
    assert!(bytes != 0 && bytes <= 0xffff);
    if phys >= END_OF_MEMORY || machine().faults.must_fail("PhysToVirt") {
        return ERROR;
    }
    machine().ram.write(phys.into(), core::slice::from_raw_parts(from, bytes as usize));
    0
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn supdrv_devhlp_vm_global_to_process(
    flags: u32,
    linear: usize,
    bytes: usize,
    process_linear: *mut usize,
) -> u32 {
    match memory::show(flags, linear, bytes) {
        Ok(address) => {
            process_linear.write(address);
            0
        }
        Err(error) => error,
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn supdrv_devhlp_vm_free(linear: usize) -> u32 {
    memory::hide(linear)
}

#[unsafe(no_mangle)]
pub extern "C" fn supdrv_devhlp_set_timer(on: u32) -> u32 {
    tick::arm(on != 0)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn supdrv_devhlp_get_dos_var(index: u32, member: u32, flat: *mut usize) -> u32 {
    context::may_sleep("GetDOSVar");
    assert_eq!(member, 0);
    match base::variable(index) {
        Some(address) => {
            flat.write(address);
            0
        }
        None => ERROR,
    }
}

static YIELDS: AtomicU32 = AtomicU32::new(0);

/// How often the driver let others run.
pub fn yields() -> u32 {
    YIELDS.load(Ordering::Relaxed)
}

#[unsafe(no_mangle)]
pub extern "C" fn supdrv_devhlp_yield() -> u32 {
    context::may_sleep("Yield");
    YIELDS.fetch_add(1, Ordering::Relaxed);
    std::thread::yield_now();
    0
}

static LAST_WORDS: Mutex<String> = Mutex::new(String::new());

/// What the machine was stopped with.
pub fn last_words() -> String {
    lock(&LAST_WORDS).clone()
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn supdrv_devhlp_internal_error(text: *const u8, bytes: u32) {
    let text = core::slice::from_raw_parts(text, bytes as usize);
    *lock(&LAST_WORDS) = String::from_utf8_lossy(text).into_owned();
}
