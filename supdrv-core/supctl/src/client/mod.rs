//! The typed client: one method per request, and owners for what has to be given back.
//!
//! [`Client::open`] opens a node and shakes hands. The methods that are named like requests take and return plain numbers, as the
//! driver does; [`Client::pages`], [`Client::contiguous`], [`Client::low`], [`Client::event`] and [`Client::gip`] return owners
//! that give back what they hold when they are dropped.
//!
//! A request names memory by its address, and frees it for good: giving back by number what an owner holds pulls the memory away
//! from under it, like `munmap` would.

mod loader;
mod memory;
mod semaphore;
mod tracer;

use supdrv_core::abi::Status;
use supdrv_core::abi::ioctl::{
    COOKIE_MAGIC, Encoding, Function, IOC_VERSION, IOCTL_FLAG, SERVICE_REQUEST_MAGIC, VMMR0_REQUEST_MAGIC,
    VtCaps,
};
use supdrv_core::abi::requests as r;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use crate::error::{Error, Result};
use crate::packet::{MAX_SIZED_BYTES, Packet};
use crate::transport::{Device, Node, Transport};

pub use loader::{LoadParameters, OpenedImage};
pub use memory::{Allocation, ContiguousAllocation, OwnedPages, PageKind, Protection};
pub use semaphore::{Close, EventHandle, EventType};
pub use tracer::UserModule;

pub(crate) use loader::name_field;

/// What the driver said in the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handshake {
    /// Cookie for the headers.
    pub cookie: u32,
    /// Session cookie for the headers.
    pub session_cookie: u32,
    /// Version of the session, `major << 16 | minor`.
    pub session_version: u32,
    /// Version of the driver.
    pub driver_version: u32,
    /// Number of functions that modules can link against; 0 for restricted sessions.
    pub function_count: u32,
    /// The session's kernel address.
    pub session: usize,
}

/// A function (or a number, for the first ten) that modules can link against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Export {
    /// Its name.
    pub name: String,
    /// Its kernel address.
    pub address: usize,
}

/// Where the global info page is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GipAddresses {
    /// Physical address.
    pub phys: u64,
    /// In this process, read-only.
    pub r3: usize,
    /// In the kernel.
    pub r0: usize,
}

/// Paging mode of a CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PagingMode(pub u32);

impl PagingMode {
    /// What it is, for people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self.0 {
            1 => "32-bit",
            2 => "32-bit with global pages",
            3 => "PAE",
            4 => "PAE with global pages",
            5 => "PAE with NX",
            6 => "PAE with global pages and NX",
            7 => "AMD64",
            8 => "AMD64 with global pages",
            9 => "AMD64 with NX",
            10 => "AMD64 with global pages and NX",
            _ => "unknown",
        }
    }
}

/// The fast calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FastCall {
    /// Run a virtual CPU in raw mode.
    RawRun,
    /// Run a virtual CPU with hardware virtualisation.
    HmRun,
    /// Do nothing in VMMR0.
    Nop,
}

impl FastCall {
    /// The request.
    #[must_use]
    pub const fn function(self) -> Function {
        match self {
            Self::RawRun => Function::FastDoRawRun,
            Self::HmRun => Function::FastDoHmRun,
            Self::Nop => Function::FastDoNop,
        }
    }
}

/// A call of the VMMR0 module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vmmr0Call {
    /// VM handle: a kernel address that the module understands.
    pub vm: usize,
    /// Virtual CPU.
    pub cpu_id: u32,
    /// What to do.
    pub operation: u32,
    /// Argument.
    pub arg: u64,
}

/// What [`Client::logger_settings`] does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum LoggerAction {
    /// Change the settings.
    Settings = 0,
    /// Create the logger.
    Create = 1,
    /// Destroy the logger.
    Destroy = 2,
}

/// An open session.
pub struct Client {
    device: Box<dyn Device>,
    encoding: Encoding,
    handshake: Handshake,
    gip_owners: std::sync::Mutex<usize>,
}

/// Shakes hands on an open device.
///
/// # Errors
/// [`Error::Failed`] with `VERR_VERSION_MISMATCH` if the driver doesn't speak at least version `minimum` of the same major.
pub fn handshake(device: &dyn Device, encoding: Encoding, requested: u32, minimum: u32) -> Result<Handshake> {
    let request = Function::Cookie;
    let input = r::CookieIn {
        magic: COOKIE_MAGIC,
        requested_version: requested,
        min_version: minimum,
        ..FromZeros::new_zeroed()
    };
    let mut packet = Packet::new(encoding, request, &input, &[], size_of::<r::CookieOut>());
    let status = packet.send(device).map_err(|refused| Error::Refused { request, refused })?;
    if status.is_failure() {
        return Err(Error::Failed { request, status });
    }
    let answer: r::CookieOut = packet.view();
    Ok(Handshake {
        cookie: answer.cookie,
        session_cookie: answer.session_cookie,
        session_version: answer.session_version,
        driver_version: answer.driver_version,
        function_count: answer.function_count,
        session: answer.session,
    })
}

/// Oldest version that this client can speak.
const MINIMUM_VERSION: u32 = IOC_VERSION & 0xffff_0000;

impl Client {
    /// Opens a node and shakes hands.
    ///
    /// # Errors
    /// The node can't be opened, or the driver speaks another version.
    ///
    /// ```no_run
    /// # #[cfg(target_os = "linux")] {
    /// use supctl::client::Client;
    /// use supctl::transport::{Node, linux::DeviceNodes};
    ///
    /// let client = Client::open(&DeviceNodes::default(), Node::Unrestricted)?;
    /// println!("paging: {}", client.paging_mode()?.name());
    /// # }
    /// # Ok::<(), supctl::error::Error>(())
    /// ```
    pub fn open(transport: &dyn Transport, node: Node) -> Result<Self> {
        let device = transport.open(node)?;
        Self::with_device(device, transport.encoding())
    }

    /// Shakes hands on a device that is open already.
    ///
    /// # Errors
    /// The driver speaks another version.
    pub fn with_device(device: Box<dyn Device>, encoding: Encoding) -> Result<Self> {
        let request = Function::Cookie;
        let handshake = handshake(&*device, encoding, IOC_VERSION, MINIMUM_VERSION)?;
        let version = handshake.session_version;
        if version < MINIMUM_VERSION || version >> 16 != IOC_VERSION >> 16 {
            return Err(Error::invalid(request, format!("the driver answered with version {version:#x}")));
        }
        Ok(Self { device, encoding, handshake, gip_owners: std::sync::Mutex::new(0) })
    }

    /// What the driver said in the handshake.
    #[must_use]
    pub const fn session(&self) -> &Handshake {
        &self.handshake
    }

    /// The device.
    #[must_use]
    pub fn device(&self) -> &dyn Device {
        &*self.device
    }

    /// How function codes are made.
    #[must_use]
    pub const fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// A well-formed packet for this session.
    #[must_use]
    pub fn packet<T: IntoBytes + Immutable>(
        &self,
        function: Function,
        input: &T,
        tail: &[u8],
        out_bytes: usize,
    ) -> Packet {
        let mut packet = Packet::new(self.encoding, function, input, tail, out_bytes);
        let header = packet.header_mut();
        header.cookie = self.handshake.cookie;
        header.session_cookie = self.handshake.session_cookie;
        packet
    }

    /// Sends a packet and returns its status, whatever it is.
    ///
    /// # Errors
    /// [`Error::Refused`].
    pub fn status_of(&self, packet: &mut Packet) -> Result<Status> {
        let request = packet.function();
        packet.send(&*self.device).map_err(|refused| Error::Refused { request, refused })
    }

    /// Sends a packet that must succeed; an informational status is the result.
    pub(crate) fn send(&self, packet: &mut Packet) -> Result<Status> {
        let (request, status) = (packet.function(), self.status_of(packet)?);
        if status.is_failure() { Err(Error::Failed { request, status }) } else { Ok(status) }
    }

    /// A request with a fixed input and a header as its answer.
    pub(crate) fn order<T: IntoBytes + Immutable>(&self, function: Function, input: &T) -> Result<Status> {
        self.send(&mut self.packet(function, input, &[], r::HEADER_BYTES))
    }

    /// A request with a fixed input and a fixed output.
    pub(crate) fn ask<T, U>(&self, function: Function, input: &T) -> Result<U>
    where
        T: IntoBytes + Immutable,
        U: FromBytes + KnownLayout + Immutable,
    {
        let mut packet = self.packet(function, input, &[], size_of::<U>());
        self.send(&mut packet)?;
        Ok(packet.view())
    }

    /// `QUERY_FUNCS`: everything that modules can link against, in the driver's order.
    ///
    /// # Errors
    /// As for every request.
    pub fn query_functions(&self) -> Result<Vec<Export>> {
        let count = self.handshake.function_count as usize;
        let out_bytes = size_of::<r::QueryFuncsOut>() + count * size_of::<r::Function>();
        let mut packet = self.packet(Function::QueryFuncs, &r::RequestHeader::new_zeroed(), &[], out_bytes);
        self.send(&mut packet)?;
        let entries = packet.tail::<r::QueryFuncsOut>().chunks_exact(size_of::<r::Function>());
        Ok(entries
            .filter_map(|entry| r::Function::read_from_bytes(entry).ok())
            .map(|entry| Export { name: text(&entry.name), address: entry.address })
            .collect())
    }

    /// `GET_PAGING_MODE`: of the CPU that happens to run this.
    ///
    /// # Errors
    /// As for every request.
    pub fn paging_mode(&self) -> Result<PagingMode> {
        let answer: r::GetPagingModeOut =
            self.ask(Function::GetPagingMode, &r::RequestHeader::new_zeroed())?;
        Ok(PagingMode(answer.mode))
    }

    /// `VT_CAPS`: what the CPU has for virtualisation.
    ///
    /// # Errors
    /// `VERR_UNSUPPORTED_CPU`, `VERR_VMX_NO_VMX`, `VERR_SVM_NO_SVM`, …: it has nothing, or firmware has disabled it.
    pub fn vt_caps(&self) -> Result<VtCaps> {
        let answer: r::VtCapsOut = self.ask(Function::VtCaps, &r::RequestHeader::new_zeroed())?;
        Ok(VtCaps::from_bits_retain(answer.caps))
    }

    /// `SET_VM_FOR_FAST`: the VM that the fast calls run, 0 for none.
    ///
    /// # Errors
    /// Refused: not a page-aligned kernel address.
    pub fn set_vm_for_fast(&self, vm: usize) -> Result<()> {
        self.order(Function::SetVmForFast, &r::SetVmForFastIn { vm, ..FromZeros::new_zeroed() }).map(drop)
    }

    /// A fast call for a virtual CPU of the session's VM.
    ///
    /// # Errors
    /// Refused: no VM is set, or no VMMR0 module is loaded.
    pub fn fast(&self, call: FastCall, cpu_id: u32) -> Result<()> {
        let request = call.function();
        let code = self.encoding.code(request, 0, IOCTL_FLAG);
        self.device.fast(code, cpu_id).map_err(|refused| Error::Refused { request, refused })
    }

    /// `GIP_MAP`: maps the global info page; again and again the same mapping.
    ///
    /// # Errors
    /// `VERR_GENERAL_FAILURE`: there is none; or mapping it failed.
    pub fn gip_map(&self) -> Result<GipAddresses> {
        let answer: r::GipMapOut = self.ask(Function::GipMap, &r::RequestHeader::new_zeroed())?;
        Ok(GipAddresses { phys: answer.phys, r3: answer.r3, r0: answer.r0 })
    }

    /// `GIP_UNMAP`: unmaps the global info page, however often it was mapped.
    ///
    /// # Errors
    /// As for every request.
    pub fn gip_unmap(&self) -> Result<()> {
        self.order(Function::GipUnmap, &r::RequestHeader::new_zeroed()).map(drop)
    }

    /// Counts the owners of the mapping, which the driver doesn't: maps with the first one.
    pub(crate) fn gip_acquire(&self) -> Result<GipAddresses> {
        let mut owners = self.gip_owners.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let addresses = self.gip_map()?;
        *owners += 1;
        Ok(addresses)
    }

    /// Unmaps with the last owner.
    pub(crate) fn gip_release(&self) {
        let mut owners = self.gip_owners.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *owners = owners.saturating_sub(1);
        if *owners == 0 {
            let _gone_with_the_session_otherwise = self.gip_unmap();
        }
    }

    /// `CALL_VMMR0`, or `CALL_VMMR0_BIG` for larger packets: calls the VMMR0 module of this session. `payload` is passed in both
    /// directions behind an 8-byte header. The result is what the module returns if that isn't negative.
    ///
    /// # Errors
    /// `VERR_WRONG_ORDER`: no VMMR0 module; or what the module returns.
    pub fn call_vmmr0(&self, call: Vmmr0Call, payload: Option<&mut [u8]>) -> Result<Status> {
        let input = r::CallVmmr0In {
            vm: call.vm,
            cpu_id: call.cpu_id,
            operation: call.operation,
            arg: call.arg,
            ..FromZeros::new_zeroed()
        };
        let fixed = size_of::<r::CallVmmr0In>() + size_of::<r::Vmmr0RequestHeader>();
        let big = payload.as_ref().is_some_and(|payload| fixed + payload.len() > MAX_SIZED_BYTES);
        let function = if big { Function::CallVmmr0Big } else { Function::CallVmmr0 };
        self.call_module(function, &input, VMMR0_REQUEST_MAGIC, payload)
    }

    /// `CALL_SERVICE`: calls a service module that this session has loaded. `payload` is passed in both directions behind an
    /// 8-byte header. The result is what the module returns if that isn't negative.
    ///
    /// # Errors
    /// `VERR_SUPDRV_SERVICE_NOT_FOUND`; or what the module returns.
    pub fn call_service(
        &self,
        name: &str,
        operation: u32,
        arg: u64,
        payload: Option<&mut [u8]>,
    ) -> Result<Status> {
        let function = Function::CallService;
        let name = name_field(function, name)?;
        let input = r::CallServiceIn { name, operation, arg, ..FromZeros::new_zeroed() };
        self.call_module(function, &input, SERVICE_REQUEST_MAGIC, payload)
    }

    fn call_module<T: IntoBytes + Immutable>(
        &self,
        function: Function,
        input: &T,
        magic: u32,
        payload: Option<&mut [u8]>,
    ) -> Result<Status> {
        const INNER: usize = size_of::<r::ServiceRequestHeader>();
        let mut tail = Vec::new();
        if let Some(payload) = &payload {
            let bytes = u32::try_from(INNER + payload.len())
                .map_err(|_| Error::invalid(function, "the payload is too large"))?;
            tail.extend_from_slice(r::ServiceRequestHeader { magic, bytes }.as_bytes());
            tail.extend_from_slice(payload);
        }
        let total = size_of::<T>() + tail.len();
        if function != Function::CallVmmr0Big && total > MAX_SIZED_BYTES {
            return Err(Error::invalid(function, format!("a packet of {total} bytes is too large")));
        }
        let mut packet = self.packet(function, input, &tail, total);
        let result = self.send(&mut packet);
        if let Some(payload) = payload {
            let back = packet.bytes().get(size_of::<T>() + INNER..).unwrap_or_default();
            for (to, from) in payload.iter_mut().zip(back) {
                *to = *from;
            }
        }
        result
    }

    /// `LOGGER_SETTINGS`: of the debug logger, or of the release logger.
    ///
    /// # Errors
    /// `VERR_NOT_FOUND`: no such logger; `VERR_ACCESS_DENIED`: the release logger can't be destroyed.
    pub fn logger_settings(
        &self,
        release: bool,
        action: LoggerAction,
        [flags, groups, destination]: [&str; 3],
    ) -> Result<()> {
        let mut strings = Vec::new();
        let mut add = |string: &str| {
            let offset = strings.len() as u32;
            strings.extend_from_slice(string.as_bytes());
            strings.push(0);
            offset
        };
        let input = r::LoggerSettingsIn {
            which: u32::from(release),
            what: action as u32,
            flags_offset: add(flags),
            groups_offset: add(groups),
            destination_offset: add(destination),
            ..FromZeros::new_zeroed()
        };
        let mut packet = self.packet(Function::LoggerSettings, &input, &strings, r::HEADER_BYTES);
        self.send(&mut packet).map(drop)
    }

    /// `MSR_PROBER`: a debugging aid that normal drivers lack; reads a model-specific register.
    ///
    /// # Errors
    /// `VERR_NOT_IMPLEMENTED`.
    pub fn msr_read(&self, msr: u32) -> Result<u64> {
        let input = r::MsrProberIn { operation: 1, msr, cpu_id: u32::MAX, ..FromZeros::new_zeroed() };
        let answer: r::MsrProberOut = self.ask(Function::MsrProber, &input)?;
        let [value, ..] = answer.results;
        Ok(value)
    }

    /// `RESUME_SUSPENDED_KBDS`: wakes keyboards that sleep after a suspend of the host.
    ///
    /// # Errors
    /// `VERR_NOT_IMPLEMENTED` everywhere but on Darwin.
    pub fn resume_suspended_keyboards(&self) -> Result<()> {
        self.order(Function::ResumeSuspendedKbds, &r::RequestHeader::new_zeroed()).map(drop)
    }
}

/// The text in a NUL-padded field.
pub(crate) fn text(field: &[u8]) -> String {
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    String::from_utf8_lossy(field.get(..end).unwrap_or(field)).into_owned()
}
