//! The client side of the inter-driver interface, for sibling drivers in Rust. `include/supdrv_idc.h` is the same for C.
//!
//! A [`Connection`] is open from [`Connection::open`] until [`Connection::close`] or until it is dropped; what was registered
//! through it goes with it. All of it is class T and may block; nothing in here needs the rest of the core.

use core::ffi::CStr;
use core::ptr::NonNull;

use crate::abi::Status;
use crate::abi::idc::{
    CONNECT_MAGIC, ConnectIn, ConnectOut, FactoryIn, GetSymbolIn, GetSymbolOut, IDC_VERSION, IdcHeader,
    IdcRequest,
};
use crate::abi::ioctl::Encoding;
use crate::abi::published::{Factory, SessionView};
use crate::abi::status::{
    Result, VERR_INVALID_PARAMETER, VERR_NOT_SUPPORTED, VERR_VERSION_MISMATCH, VERR_WRONG_ORDER,
};

/// How packets get to the driver.
pub trait Transport {
    /// Sends a packet; 0 if it holds the request's own status then.
    ///
    /// # Safety
    /// `packet` is one of this request, of the size that its header tells, and nobody else uses it.
    unsafe fn send(&self, request: IdcRequest, packet: NonNull<IdcHeader>) -> Status;
}

/// The function that the driver exports on systems where siblings call it.
pub type EntryPoint = unsafe extern "C" fn(code: u32, packet: *mut IdcHeader) -> i32;

impl Transport for EntryPoint {
    unsafe fn send(&self, request: IdcRequest, packet: NonNull<IdcHeader>) -> Status {
        // Systems whose siblings call a function all have the same codes.
        // SAFETY: condition of the function.
        Status(unsafe { self(request.code(Encoding::Linux), packet.as_ptr()) })
    }
}

/// What a client asks for, and what it got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    /// Of the session: the one that counts.
    pub session: u32,
    /// Of the driver.
    pub driver: u32,
    /// Build of the driver, 0 if unknown.
    pub revision: u32,
}

/// An open connection.
#[derive(Debug)]
pub struct Connection<T: Transport> {
    transport: T,
    session: NonNull<SessionView>,
    versions: Versions,
}

// SAFETY: the session is only an address here, and the driver serves its kernel sessions from any thread.
unsafe impl<T: Transport + Send> Send for Connection<T> {}
// SAFETY: as above.
unsafe impl<T: Transport + Sync> Sync for Connection<T> {}

fn header(bytes: usize, session: usize) -> IdcHeader {
    IdcHeader { bytes: bytes as u32, rc: VERR_WRONG_ORDER.0, session, pad0: Default::default() }
}

/// A packet on its way: what is sent and what comes back are in the same bytes.
#[repr(C)]
union Exchange<I: Copy, R: Copy> {
    sent: I,
    received: R,
}

/// Sends a packet; returns what came back if both the call and the request succeeded.
///
/// # Safety
/// `I` and `R` are the two directions of `request`, beginning with the header; pointers inside `packet` are what the request wants.
unsafe fn exchange<T: Transport, I: Copy, R: Copy>(
    transport: &T,
    request: IdcRequest,
    packet: I,
) -> Result<R> {
    const { assert!(size_of::<I>() == size_of::<R>()) };
    let mut packet = Exchange::<I, R> { sent: packet };
    // SAFETY: the packet begins with its header and is of the right size (condition of the function).
    unsafe { transport.send(request, NonNull::from(&mut packet).cast()) }.into_result()?;
    // SAFETY: both directions begin with the header (condition of the function), at any alignment.
    let header = unsafe { (&raw const packet).cast::<IdcHeader>().read_unaligned() };
    Status(header.rc).into_result()?;
    // SAFETY: packets are plain integers: any bytes are valid.
    Ok(unsafe { packet.received })
}

impl<T: Transport> Connection<T> {
    /// Connects. A version of 0 means this one's, [`IDC_VERSION`].
    ///
    /// # Errors
    /// `VERR_INVALID_PARAMETER` (a version of another major), `VERR_VERSION_MISMATCH`, or what the driver answers.
    #[doc(alias = "SUPR0IdcOpen")]
    pub fn open(transport: T, wanted_version: u32, min_version: u32) -> Result<Self> {
        let is_foreign = |version: u32| version != 0 && version >> 16 != IDC_VERSION >> 16;
        if is_foreign(wanted_version) || is_foreign(min_version) {
            return Err(VERR_INVALID_PARAMETER);
        }
        let least = min_version.max(IDC_VERSION);
        let packet = ConnectIn {
            hdr: header(size_of::<ConnectIn>(), 0),
            magic: CONNECT_MAGIC,
            wanted_version: wanted_version.max(IDC_VERSION),
            min_version: least,
            pad0: Default::default(),
        };
        // SAFETY: the two directions of this request; no pointers.
        let out: ConnectOut = unsafe { exchange(&transport, IdcRequest::Connect, packet) }?;
        let session = NonNull::new(out.session as *mut SessionView).ok_or(VERR_VERSION_MISMATCH)?;
        let versions = Versions {
            session: out.session_version,
            driver: out.driver_version,
            revision: out.driver_revision,
        };
        let connection = Self { transport, session, versions };
        if versions.session < least || versions.session >> 16 != IDC_VERSION >> 16 {
            // Dropping it disconnects.
            return Err(VERR_VERSION_MISMATCH);
        }
        Ok(connection)
    }

    /// The versions that were agreed on.
    pub const fn versions(&self) -> Versions {
        self.versions
    }

    /// The session, as the ring-0 API knows it.
    #[doc(alias = "SUPR0IdcGetSession")]
    pub const fn session(&self) -> NonNull<SessionView> {
        self.session
    }

    fn disconnect(&self) -> Result<()> {
        let packet = header(size_of::<IdcHeader>(), self.session.as_ptr() as usize);
        // SAFETY: this request's packet is the header.
        unsafe { exchange::<_, _, IdcHeader>(&self.transport, IdcRequest::Disconnect, packet) }.map(drop)
    }

    /// Disconnects.
    ///
    /// # Errors
    /// What the driver answers; the connection stays open then.
    #[doc(alias = "SUPR0IdcClose")]
    pub fn close(self) -> core::result::Result<(), (Self, Status)> {
        let connection = core::mem::ManuallyDrop::new(self);
        match connection.disconnect() {
            Ok(()) => {
                let mut connection = connection;
                // SAFETY: the connection is never dropped, so that its transport is dropped once, here.
                unsafe { core::ptr::drop_in_place(&raw mut connection.transport) };
                Ok(())
            }
            Err(status) => Err((core::mem::ManuallyDrop::into_inner(connection), status)),
        }
    }

    /// Address of an export of the driver (no module), or of a loaded image, which stays loaded until the connection is closed.
    ///
    /// # Errors
    /// `VERR_NOT_SUPPORTED` (the driver knows no such symbol and says so by a null address), or what the driver answers.
    pub fn symbol(&self, module: Option<&CStr>, symbol: &CStr) -> Result<usize> {
        let packet = GetSymbolIn {
            hdr: header(size_of::<GetSymbolIn>(), self.session.as_ptr() as usize),
            module: module.map_or(0, |module| module.as_ptr() as usize),
            symbol: symbol.as_ptr() as usize,
        };
        // SAFETY: the two directions of this request; both strings live during the call.
        let out: GetSymbolOut = unsafe { exchange(&self.transport, IdcRequest::GetSymbol, packet) }?;
        if out.address == 0 { Err(VERR_NOT_SUPPORTED) } else { Ok(out.address) }
    }

    fn factory(&self, request: IdcRequest, factory: *const Factory) -> Result<()> {
        let hdr = header(size_of::<FactoryIn>(), self.session.as_ptr() as usize);
        let packet = FactoryIn { hdr, factory: factory as usize };
        // SAFETY: the packet of both factory requests; the record is valid by the contract of `register_factory`.
        unsafe { exchange::<_, _, FactoryIn>(&self.transport, request, packet) }.map(drop)
    }

    /// Registers a factory.
    ///
    /// # Errors
    /// `VERR_ALREADY_EXISTS`, `VERR_INVALID_PARAMETER`, `VERR_NO_MEMORY`.
    ///
    /// # Safety
    /// The record stays valid and unchanged, and its callback callable, until it is deregistered or the connection is closed.
    #[doc(alias = "SUPR0IdcComponentRegisterFactory")]
    pub unsafe fn register_factory(&self, factory: NonNull<Factory>) -> Result<()> {
        self.factory(IdcRequest::RegisterFactory, factory.as_ptr())
    }

    /// Deregisters a factory: no query is inside it when this returns.
    ///
    /// # Errors
    /// `VERR_NOT_FOUND`.
    #[doc(alias = "SUPR0IdcComponentDeregisterFactory")]
    pub fn deregister_factory(&self, factory: NonNull<Factory>) -> Result<()> {
        self.factory(IdcRequest::DeregisterFactory, factory.as_ptr())
    }
}

impl<T: Transport> Drop for Connection<T> {
    fn drop(&mut self) {
        // A driver that refuses to disconnect keeps the session until it is unloaded; there is nobody to tell.
        let _ = self.disconnect();
    }
}
