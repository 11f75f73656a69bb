//! A tracer as a ring-0 image: a few hundred bytes of machine code that register it when they are loaded, and write down what it is called
//! with. What it enables is decided by the suite, which writes to its memory and to that of its providers.

#[cfg(target_arch = "x86_64")]
#[path = "amd64.rs"]
mod code;
#[cfg(target_arch = "x86")]
#[path = "x86.rs"]
mod code;

use core::mem::offset_of;

use supdrv_core::abi::ioctl::LDR_ENTRY_NOTHING;
use supdrv_core::abi::status::VERR_SUPDRV_TRACER_ALREADY_REGISTERED;
use supdrv_core::abi::tracer::{TRACER_MAGIC, TRACER_VERSION, TracerReg, UserContext};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use super::super::probe::Loaded as Probe;
use super::super::{Check, Ctx, Stop, not_available};
use crate::client::{Client, LoadParameters};
use crate::error::{Error, Result};
use crate::image::SymbolTables;

/// What registers it.
const REGISTER: &str = "SUPR0TracerRegisterImpl";

/// What the image begins with. The code knows where each member is. Addresses and the like have 64 bits on all systems.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct State {
    registration: [u8; 80],
    register: u64,
    /// What the driver gave to the tracer.
    pub helpers: u64,
    /// What opening it returns.
    pub open_status: i32,
    /// What registering a provider returns.
    pub register_status: i32,
    /// What deregistering a provider returns.
    pub deregister_status: i32,
    /// What deregistering a provider returns that was busy before.
    pub zombie_status: i32,
    /// How often a user probe fired.
    pub fired: u32,
    /// How often it was opened.
    pub opened: u32,
    /// How often it got a command.
    pub commands: u32,
    /// How often it was closed.
    pub closed: u32,
    /// How often a provider was registered.
    pub registered: u32,
    /// How often one was deregistered, or tried to.
    pub deregistered: u32,
    /// How often a busy one was tried again.
    pub zombies: u32,
    pad0: u32,
    /// The provider that was registered last.
    pub provider: u64,
    /// The provider that was deregistered last.
    pub gone_provider: u64,
    /// Session whose probe fired last.
    pub session: u64,
    /// Header of its module.
    pub header: u64,
    /// Its location.
    pub location: u64,
    /// What it was opened with last.
    pub cookie: u64,
    /// What else it was opened with last.
    pub arg: u64,
    /// What it had given to the session that closed it last.
    pub closed_data: u64,
    /// Context of the probe that fired last.
    pub context: UserContext,
}

const _: () = assert!(size_of::<State>() == 448 && offset_of!(State, context) == 208);

/// The labels of the code, as offsets from its beginning.
#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
mod labels {
    unsafe extern "C" {
        static supctl_tracer_start: u8;
        static supctl_tracer_end: u8;
        static supctl_tracer_init: u8;
        static supctl_tracer_fire_kernel: u8;
        static supctl_tracer_fire_user: u8;
        static supctl_tracer_open: u8;
        static supctl_tracer_ioctl: u8;
        static supctl_tracer_close: u8;
        static supctl_tracer_register: u8;
        static supctl_tracer_deregister: u8;
        static supctl_tracer_zombie: u8;
    }

    fn offset_of(label: *const u8) -> usize {
        label.addr() - (&raw const supctl_tracer_start).addr()
    }

    pub fn init() -> usize {
        offset_of(&raw const supctl_tracer_init)
    }

    /// In the order of the registration record.
    pub fn callbacks() -> [usize; 8] {
        [
            offset_of(&raw const supctl_tracer_fire_kernel),
            offset_of(&raw const supctl_tracer_fire_user),
            offset_of(&raw const supctl_tracer_open),
            offset_of(&raw const supctl_tracer_ioctl),
            offset_of(&raw const supctl_tracer_close),
            offset_of(&raw const supctl_tracer_register),
            offset_of(&raw const supctl_tracer_deregister),
            offset_of(&raw const supctl_tracer_zombie),
        ]
    }

    pub fn bits() -> &'static [u8] {
        let start = &raw const supctl_tracer_start;
        // SAFETY: the code between both labels, which is readable and never changes.
        unsafe { core::slice::from_raw_parts(start, offset_of(&raw const supctl_tracer_end)) }
    }
}

#[cfg(not(any(target_arch = "x86", target_arch = "x86_64")))]
mod labels {
    pub fn init() -> usize {
        0
    }

    pub fn callbacks() -> [usize; 8] {
        [0; 8]
    }

    pub fn bits() -> &'static [u8] {
        &[]
    }
}

fn registration(base: usize) -> TracerReg {
    let [
        fire_kernel,
        fire_user,
        open,
        ioctl,
        close,
        provider_register,
        provider_deregister,
        provider_deregister_zombie,
    ] = labels::callbacks().map(|offset| base + offset);
    TracerReg {
        magic: TRACER_MAGIC,
        version: TRACER_VERSION,
        fire_kernel,
        fire_user,
        open,
        ioctl,
        close,
        provider_register,
        provider_deregister,
        provider_deregister_zombie,
        end_magic: TRACER_MAGIC as usize,
    }
}

/// The address of the function that registers tracers; not available if the driver has none for modules.
fn register_function(client: &Client) -> Check<usize> {
    if labels::bits().is_empty() {
        return not_available("there is no test tracer for this CPU");
    }
    let functions = client.query_functions()?;
    match functions.iter().find(|function| function.name == REGISTER) {
        Some(function) => Ok(function.address),
        None => not_available("this driver has no tracer functions for modules"),
    }
}

/// The tracer in the kernel; unloaded on drop.
pub struct Tracer<'c> {
    client: &'c Client,
    base: usize,
}

impl<'c> Tracer<'c> {
    /// Loads it, by which it is registered. The outer error is for what has nothing to do with that.
    pub fn try_load(ctx: &Ctx<'_>, client: &'c Client, tag: &str) -> Check<Result<Self>> {
        let register = register_function(client)?;
        let mut image = labels::bits().to_vec();
        let tables = |image: &[u8]| SymbolTables::default().append_to(image);
        let name = ctx.image_name(tag);
        let opened = client.ldr_open(&name, tables(&image).bits.len() as u32, image.len() as u32, "")?;
        let tracer = Self { client, base: opened.base };
        let mut state = State { register: register as u64, ..State::new_zeroed() };
        for (to, from) in state.registration.iter_mut().zip(registration(opened.base).as_bytes()) {
            *to = *from;
        }
        for (to, from) in image.iter_mut().zip(state.as_bytes()) {
            *to = *from;
        }
        let all = tables(&image);
        let loaded = client.ldr_load(&LoadParameters {
            base: opened.base,
            init: opened.base + labels::init(),
            term: 0,
            entry_point_type: LDR_ENTRY_NOTHING,
            entry_points: [0; 4],
            image_bytes: image.len() as u32,
            symbols_offset: all.symbols_offset,
            symbol_count: all.symbol_count,
            strings_offset: all.strings_offset,
            strings_bytes: all.strings_bytes,
            bits: &all.bits,
        });
        Ok(loaded.map(|_| tracer))
    }

    /// Loads it; not available if the system has a tracer of its own.
    pub fn load(ctx: &Ctx<'_>, client: &'c Client, tag: &str) -> Check<Self> {
        match Self::try_load(ctx, client, tag)? {
            Err(Error::Failed { status: VERR_SUPDRV_TRACER_ALREADY_REGISTERED, .. }) => {
                not_available("another tracer is registered")
            }
            result => Ok(result?),
        }
    }

    /// What it has written down so far.
    pub fn state(&self, probe: &Probe<'_>) -> Check<State> {
        read(probe, self.base as u64)
    }

    /// Sets what registering and deregistering a provider returns, and what deregistering a busy one does.
    pub fn answer(&self, probe: &Probe<'_>, register: i32, deregister: i32, zombie: i32) -> Check {
        let pair = |low: i32, high: i32| u64::from(low as u32) | u64::from(high as u32) << 32;
        let at = self.base + offset_of!(State, open_status);
        probe.poke(at, pair(0, register))?;
        probe.poke(at + 8, pair(deregister, zombie))
    }

    /// Unloads it now.
    pub fn unload(self) -> Check {
        let (client, base) = (self.client, self.base);
        core::mem::forget(self);
        client.ldr_free(base).map_err(Stop::from)
    }
}

impl Drop for Tracer<'_> {
    fn drop(&mut self) {
        let _gone_with_the_session_otherwise = self.client.ldr_free(self.base);
    }
}

/// Reads something in kernel memory; up to seven bytes behind it are read too.
pub fn read<T: FromBytes + IntoBytes>(probe: &Probe<'_>, address: u64) -> Check<T> {
    let mut value = T::new_zeroed();
    for (index, bytes) in value.as_mut_bytes().chunks_mut(8).enumerate() {
        let word = probe.peek(address as usize + 8 * index)?.to_le_bytes();
        for (to, from) in bytes.iter_mut().zip(word) {
            *to = from;
        }
    }
    Ok(value)
}

/// Reads a text in kernel memory, up to 64 bytes of it.
pub fn read_text(probe: &Probe<'_>, address: usize) -> Check<String> {
    let mut text = Vec::new();
    for offset in 0..64 {
        // One byte at a time: nothing is known of what is behind the text, but eight bytes before its end belong to it or to the page.
        let at = address + offset;
        let aligned = at & !7;
        let byte = probe.peek(aligned)?.to_le_bytes().get(at - aligned).copied().unwrap_or(0);
        if byte == 0 {
            break;
        }
        text.push(byte);
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

#[cfg(all(test, any(target_arch = "x86", target_arch = "x86_64")))]
mod tests {
    use super::*;

    #[test]
    fn the_tracer_is_small_and_its_labels_are_behind_the_state() {
        let bits = labels::bits();
        let state = size_of::<State>();
        assert!(bits.len() < 1024 && bits.iter().take(state).all(|byte| *byte == 0), "{} bytes", bits.len());
        assert_eq!(labels::init(), state);
        assert!(labels::callbacks().iter().all(|offset| (state..bits.len()).contains(offset)));
    }
}
