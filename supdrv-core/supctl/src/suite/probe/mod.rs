//! A ring-0 image for the suite: a few hundred bytes of machine code that work wherever they are put.
//!
//! It is service and VMMR0 module at once. As a service it does what its operation says ([`Operation`]); as VMMR0 it remembers
//! what it was called with ([`Vmmr0Operation`]).

#[cfg(target_arch = "x86_64")]
mod amd64;
#[cfg(target_arch = "x86")]
mod x86;

use supdrv_core::abi::Status;
use supdrv_core::abi::ioctl::{LDR_ENTRY_NOTHING, LDR_ENTRY_SERVICE, LDR_ENTRY_VMMR0};

use super::{Check, Ctx, Stop};
use crate::client::{Client, LoadParameters, Vmmr0Call};
use crate::error::Error;
use crate::image::{BitsWithTables, SymbolTables};

/// What the probe does as a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Operation {
    /// Returns 85.
    Return85 = 0,
    /// Returns the low half of the argument.
    ReturnArgument = 1,
    /// Inverts the bytes of the payload.
    Invert = 2,
    /// Reads eight bytes at the kernel address in the argument, into the payload.
    Peek = 3,
    /// Writes eight bytes of the payload to the kernel address in the argument.
    Poke = 4,
    /// Returns how often the init function ran.
    InitCount = 5,
    /// Puts the session's address into the payload.
    Session = 6,
    /// Has the term function write [`TERM_MARK`] to the kernel address in the argument.
    SetTermTarget = 7,
    /// Returns 1 if there is no packet, else 0.
    HasNoPacket = 8,
    /// Counts down from the argument.
    Spin = 9,
    /// Calls the function in the argument, which takes no arguments, and returns what it returns.
    Call = 10,
}

/// What the probe does as VMMR0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Vmmr0Operation {
    /// Returns 1234.
    Return1234 = 0,
    /// Puts the arguments of the last fast call into the payload: VM, CPU, operation, count.
    LastFast = 1,
    /// Inverts the bytes of the payload.
    Invert = 2,
    /// Puts its own arguments into the payload: VM, CPU and operation, argument, session.
    Arguments = 3,
    /// Returns 1 if there is no packet, else 0.
    HasNoPacket = 4,
}

/// What the term function leaves behind.
pub(super) const TERM_MARK: u64 = 0x6d72_6574_6d72_6574;

/// What a load of the probe is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Nothing,
    Service,
    Vmmr0,
}

/// The labels of the code, as offsets from its beginning.
#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
mod labels {
    unsafe extern "C" {
        static supctl_probe_start: u8;
        static supctl_probe_end: u8;
        static supctl_probe_init: u8;
        static supctl_probe_term: u8;
        static supctl_probe_service: u8;
        static supctl_probe_int: u8;
        static supctl_probe_fast: u8;
        static supctl_probe_ex: u8;
        static supctl_probe_result: u8;
        static supctl_probe_data: u8;
    }

    fn offset_of(label: *const u8) -> usize {
        label.addr() - (&raw const supctl_probe_start).addr()
    }

    pub fn symbols() -> [(&'static str, usize); 8] {
        [
            ("ProbeData", offset_of(&raw const supctl_probe_data)),
            ("ModuleInit", offset_of(&raw const supctl_probe_init)),
            ("ModuleTerm", offset_of(&raw const supctl_probe_term)),
            ("ProbeService", offset_of(&raw const supctl_probe_service)),
            ("ProbeEntryInt", offset_of(&raw const supctl_probe_int)),
            ("ProbeEntryFast", offset_of(&raw const supctl_probe_fast)),
            ("ProbeEntryEx", offset_of(&raw const supctl_probe_ex)),
            ("ProbeInitResult", offset_of(&raw const supctl_probe_result)),
        ]
    }

    pub fn bits() -> &'static [u8] {
        let start = &raw const supctl_probe_start;
        let bytes = offset_of(&raw const supctl_probe_end);
        // SAFETY: the code between both labels, which is readable and never changes.
        unsafe { core::slice::from_raw_parts(start, bytes) }
    }
}

#[cfg(not(any(target_arch = "x86", target_arch = "x86_64")))]
mod labels {
    pub fn symbols() -> [(&'static str, usize); 8] {
        [("", 0); 8]
    }

    pub fn bits() -> &'static [u8] {
        &[]
    }
}

/// The probe, ready to be opened and uploaded.
#[derive(Clone, Debug)]
pub(super) struct Probe {
    pub name: String,
    pub kind: Kind,
    pub image: Vec<u8>,
    pub all: BitsWithTables,
}

impl Probe {
    /// `tag` tells images of one case apart.
    pub fn new(ctx: &Ctx<'_>, tag: &str, kind: Kind) -> Check<Self> {
        if labels::bits().is_empty() {
            return super::not_available("there is no test image for this CPU");
        }
        let image = labels::bits().to_vec();
        let all = tables().append_to(&image);
        Ok(Self { name: ctx.image_name(tag), kind, image, all })
    }

    /// Has the init function return something else.
    pub fn with_init_result(mut self, result: i32) -> Self {
        let offset = offset("ProbeInitResult");
        for (to, from) in self.image.iter_mut().skip(offset).zip(result.to_le_bytes()) {
            *to = from;
        }
        self.all = tables().append_to(&self.image);
        self
    }

    pub fn open(&self, client: &Client) -> Result<crate::client::OpenedImage, Error> {
        client.ldr_open(&self.name, self.all.bits.len() as u32, self.image.len() as u32, "")
    }

    /// What to upload at a base.
    pub fn parameters(&self, base: usize) -> LoadParameters<'_> {
        let at = |name| base + offset(name);
        let (entry_point_type, entry_points) = match self.kind {
            Kind::Nothing => (LDR_ENTRY_NOTHING, [0; 4]),
            Kind::Service => (LDR_ENTRY_SERVICE, [at("ProbeService"), 0, 0, 0]),
            Kind::Vmmr0 => {
                (LDR_ENTRY_VMMR0, [base, at("ProbeEntryInt"), at("ProbeEntryFast"), at("ProbeEntryEx")])
            }
        };
        LoadParameters {
            base,
            init: at("ModuleInit"),
            term: at("ModuleTerm"),
            entry_point_type,
            entry_points,
            image_bytes: self.image.len() as u32,
            symbols_offset: self.all.symbols_offset,
            symbol_count: self.all.symbol_count,
            strings_offset: self.all.strings_offset,
            strings_bytes: self.all.strings_bytes,
            bits: &self.all.bits,
        }
    }

    /// Opens and uploads; the image is freed with the result.
    pub fn load<'c>(&self, client: &'c Client) -> Check<Loaded<'c>> {
        let opened = self.open(client)?;
        let loaded = Loaded { client, name: self.name.clone(), base: opened.base };
        client.ldr_load(&self.parameters(opened.base))?;
        Ok(loaded)
    }
}

fn tables() -> SymbolTables {
    let mut tables = SymbolTables::default();
    for (name, offset) in labels::symbols() {
        tables.add(name, offset as u32);
    }
    tables
}

/// Offset of one of the probe's symbols.
pub(super) fn offset(name: &str) -> usize {
    labels::symbols().iter().find(|(symbol, _)| *symbol == name).map_or(0, |(_, offset)| *offset)
}

/// The probe in the kernel; freed on drop.
pub(super) struct Loaded<'c> {
    client: &'c Client,
    pub name: String,
    pub base: usize,
}

impl Loaded<'_> {
    /// Calls it as a service, with up to 64 bytes of payload.
    pub fn call(&self, operation: Operation, arg: u64, payload: Option<&mut [u8]>) -> Result<Status, Error> {
        self.client.call_service(&self.name, operation as u32, arg, payload)
    }

    /// Reads eight bytes of kernel memory.
    pub fn peek(&self, address: usize) -> Check<u64> {
        let mut payload = [0; 8];
        self.call(Operation::Peek, address as u64, Some(&mut payload))?;
        Ok(u64::from_le_bytes(payload))
    }

    /// Writes eight bytes of kernel memory.
    pub fn poke(&self, address: usize, value: u64) -> Check {
        self.call(Operation::Poke, address as u64, Some(&mut value.to_le_bytes()))?;
        Ok(())
    }

    /// Calls it as VMMR0.
    pub fn call_vmmr0(
        &self,
        operation: Vmmr0Operation,
        vm: usize,
        payload: Option<&mut [u8]>,
    ) -> Result<Status, Error> {
        let call = Vmmr0Call { vm, cpu_id: 7, operation: operation as u32, arg: 0x1122_3344_5566_7788 };
        self.client.call_vmmr0(call, payload)
    }

    /// Frees it now, and says whether that worked.
    pub fn free(self) -> Check {
        let (client, base) = (self.client, self.base);
        core::mem::forget(self);
        client.ldr_free(base).map_err(Stop::from)
    }
}

impl Drop for Loaded<'_> {
    fn drop(&mut self) {
        let _gone_with_the_session_otherwise = self.client.ldr_free(self.base);
    }
}

#[cfg(all(test, any(target_arch = "x86", target_arch = "x86_64")))]
mod tests {
    use super::*;

    #[test]
    fn the_probe_is_small_and_its_labels_are_inside() {
        let bits = labels::bits();
        assert!(bits.starts_with(b"supctl probe\0") && bits.len() < 1024, "{} bytes", bits.len());
        assert!(labels::symbols().iter().all(|(_, offset)| *offset < bits.len()));
        assert_eq!(offset("ProbeInitResult"), 16);
    }
}
