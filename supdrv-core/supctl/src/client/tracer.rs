//! Requests of the tracer.

use supdrv_core::abi::ioctl::Function;
use supdrv_core::abi::requests as r;
use zerocopy::FromZeros;

use super::{Client, name_field};
use crate::error::Result;

/// A module of this process with tracepoints.
#[derive(Clone, Copy, Debug)]
pub struct UserModule<'a> {
    /// Its name.
    pub name: &'a str,
    /// Address that the module's header is linked or loaded at.
    pub header_address: u64,
    /// Where the header is in this process.
    pub header_r3: usize,
    /// Where the names of functions are in this process.
    pub strings_r3: usize,
    /// Their size in bytes.
    pub strings_bytes: u32,
    /// Whether it is a shared object; the executable otherwise.
    pub shared: bool,
}

impl Client {
    /// `TRACER_OPEN`: begins to trace.
    ///
    /// # Errors
    /// `VERR_SUPDRV_TRACER_NOT_PRESENT`, `VERR_SUPDRV_TRACER_ALREADY_OPENED`; or what the tracer fails with.
    pub fn tracer_open(&self, cookie: u32, arg: usize) -> Result<()> {
        let input = r::TracerOpenIn { cookie, arg, ..FromZeros::new_zeroed() };
        self.order(Function::TracerOpen, &input).map(drop)
    }

    /// `TRACER_CLOSE`: ends it.
    ///
    /// # Errors
    /// `VERR_SUPDRV_TRACER_NOT_OPENED`.
    pub fn tracer_close(&self) -> Result<()> {
        self.order(Function::TracerClose, &r::RequestHeader::new_zeroed()).map(drop)
    }

    /// `TRACER_IOCTL`: a command for the tracer, which returns a number.
    ///
    /// # Errors
    /// `VERR_SUPDRV_TRACER_NOT_OPENED`; or what the tracer fails with.
    pub fn tracer_ioctl(&self, command: usize, arg: usize) -> Result<i32> {
        let input = r::TracerIoctlIn { command, arg, ..FromZeros::new_zeroed() };
        let answer: r::TracerIoctlOut = self.ask(Function::TracerIoctl, &input)?;
        Ok(answer.return_value)
    }

    /// `TRACER_UMOD_REG`: registers a module of this process.
    ///
    /// # Errors
    /// `VERR_SUPDRV_VTG_…`: the header is malformed; `VERR_SUPDRV_TRACER_TOO_MANY_PROVIDERS`.
    pub fn tracer_register(&self, module: &UserModule<'_>) -> Result<()> {
        let request = Function::TracerUmodReg;
        let input = r::TracerUmodRegIn {
            header_address: module.header_address,
            header_r3: module.header_r3,
            strings_r3: module.strings_r3,
            strings_bytes: module.strings_bytes,
            flags: if module.shared { 2 } else { 1 },
            name: name_field(request, module.name)?,
            ..FromZeros::new_zeroed()
        };
        self.order(request, &input).map(drop)
    }

    /// `TRACER_UMOD_DEREG`: takes a module back, named by the address of its header in this process.
    ///
    /// # Errors
    /// `VERR_NOT_FOUND`.
    pub fn tracer_deregister(&self, header_r3: usize) -> Result<()> {
        let input = r::TracerUmodDeregIn { header_r3, ..FromZeros::new_zeroed() };
        self.order(Function::TracerUmodDereg, &input).map(drop)
    }

    /// `TRACER_UMOD_FIRE_PROBE`: fires a probe. `context` is what follows the probe's id and width: the registers and arguments.
    ///
    /// # Errors
    /// As for every request: an unknown probe is nothing special.
    pub fn tracer_fire(&self, probe: u32, bits: u8, context: &[u8]) -> Result<()> {
        const CONTEXT: usize = 0x108 - 0x20;
        let mut tail = Vec::with_capacity(8 + CONTEXT);
        tail.extend_from_slice(&probe.to_le_bytes());
        tail.extend_from_slice(&[bits, 0, 0, 0]);
        tail.extend_from_slice(context.get(..CONTEXT).unwrap_or(context));
        tail.resize(8 + CONTEXT, 0);
        let header = r::RequestHeader::new_zeroed();
        let mut packet = self.packet(Function::TracerUmodFireProbe, &header, &tail, r::HEADER_BYTES);
        self.send(&mut packet).map(drop)
    }
}
