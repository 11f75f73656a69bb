//! Driving a driver as ring-3 does: through the dispatcher, with packets.
//!
//! A [`Host`] is a driver on a machine; a [`Client`] is an open session. Each request has a method that builds the packet, sends it,
//! and returns what a client library would; [`Client::send`] sends any other packet.
//!
//! ```
//! use supdrv_core::mock::Host;
//!
//! let host = Host::new();
//! let client = host.open();
//! let pages = client.page_alloc(2, true).unwrap();
//! // SAFETY: both are mappings of the same two pages.
//! unsafe {
//!     (pages.r3 as *mut u32).write(0x1234);
//!     assert_eq!((pages.r0 as *const u32).read(), 0x1234);
//! }
//! client.page_free(pages.r3).unwrap();
//! ```

use core::ptr::NonNull;
use std::boxed::Box as StdBox;
use std::string::String;
use std::vec::Vec;

use zerocopy::{FromZeros, IntoBytes};

use super::packet::zeroed;
use super::{Codes, LinuxCodes, MockOs, Reply, Request};
use crate::abi::Status;
use crate::abi::ioctl::{COOKIE_MAGIC, Function, IOC_VERSION, IOCTL_FLAG, VMMR0_REQUEST_MAGIC};
use crate::abi::published::DevExtView;
use crate::abi::requests as r;
use crate::abi::status::{Result, VINF_SUCCESS};
use crate::dispatch;
use crate::driver::{Counters, Driver};
use crate::gip::Mapped;
use crate::heap::Box;
use crate::os::{OsPolicy, SessionKind};
use crate::session::{Session, SessionRef};

/// A driver on a machine. Dropping it takes the driver down; there must be no session then.
pub struct Host<E: Codes = LinuxCodes> {
    driver: Option<Box<Driver<MockOs<E>>, MockOs<E>>>,
    view: StdBox<DevExtView>,
    /// Last: an owner checks for leaks when it is dropped.
    os: MockOs<E>,
}

impl Host {
    /// A driver on a machine of its own, with two CPUs.
    ///
    /// # Panics
    /// If it can't be initialised.
    #[must_use]
    pub fn new() -> Self {
        Self::with_codes(2)
    }
}

impl Default for Host {
    fn default() -> Self {
        Self::new()
    }
}

impl<E: Codes> Host<E> {
    /// A driver on a machine of its own, with that many CPUs, that speaks the function codes of `E`.
    ///
    /// # Panics
    /// If it can't be initialised.
    #[must_use]
    pub fn with_codes(cpus: usize) -> Self {
        Self::build(MockOs::with_codes(cpus), 0).expect("a driver can be initialised")
    }

    /// A driver on a machine that the test has prepared.
    ///
    /// # Errors
    /// What initialisation fails with.
    pub fn on(os: &MockOs<E>) -> Result<Self> {
        Self::build(os.clone(), 0)
    }

    /// As [`on`](Self::on); the system's shell wants sessions of that many bytes.
    ///
    /// # Errors
    /// What initialisation fails with.
    pub fn with_session_bytes(os: &MockOs<E>, session_bytes: usize) -> Result<Self> {
        Self::build(os.clone(), session_bytes)
    }

    fn build(os: MockOs<E>, session_bytes: usize) -> Result<Self> {
        let mut view = StdBox::new(DevExtView::new_zeroed());
        // SAFETY: the view is on the heap, zeroed, and lives as long as the host, which deletes the driver first.
        let driver = unsafe { Driver::init(&os, NonNull::from(&mut *view), session_bytes) }?;
        Ok(Self { driver: Some(driver), view, os })
    }

    /// The machine.
    #[must_use]
    pub const fn os(&self) -> &MockOs<E> {
        &self.os
    }

    /// The driver.
    ///
    /// # Panics
    /// After [`delete`](Self::delete).
    #[must_use]
    pub fn driver(&self) -> &Driver<MockOs<E>> {
        self.driver.as_ref().expect("the driver is up")
    }

    /// The device extension, which outlives the driver.
    #[must_use]
    pub fn view(&self) -> &DevExtView {
        &self.view
    }

    /// What exists in the driver.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.driver().counters()
    }

    /// Takes the driver down.
    ///
    /// # Errors
    /// `VERR_RESOURCE_BUSY` while sessions exist: the driver stays up.
    pub fn delete(&mut self) -> Result<()> {
        let Some(driver) = self.driver.take() else { return Ok(()) };
        Driver::delete(driver).map_err(|(driver, status)| {
            self.driver = Some(driver);
            status
        })
    }

    /// Opens a session of the current process.
    ///
    /// # Panics
    /// If that fails.
    pub fn open(&self) -> Client<'_, E> {
        self.open_as(SessionKind::User).expect("a session can be opened")
    }

    /// Opens a restricted session of the current process.
    ///
    /// # Panics
    /// If that fails.
    pub fn open_restricted(&self) -> Client<'_, E> {
        self.open_as(SessionKind::UserRestricted).expect("a session can be opened")
    }

    /// Opens a session.
    ///
    /// # Errors
    /// What the driver fails with.
    pub fn open_as(&self, kind: SessionKind) -> Result<Client<'_, E>> {
        Ok(Client { session: self.driver().create_session(kind)?, host: self })
    }

    /// Does one thing that may fail. If it fails, nothing may have changed, in the driver or in the system, and the same thing must
    /// work the second time. For [`replay`](super::replay()), where every call fails once.
    ///
    /// # Panics
    /// If a failure left something behind, isn't a known status, or comes again.
    pub fn step<T>(&self, mut what: impl FnMut() -> Result<T>) -> T {
        let before = (self.counters(), self.os.live_all(), self.os.frames_in_use(), self.os.running_timers());
        match what() {
            Ok(value) => value,
            Err(status) => {
                let after =
                    (self.counters(), self.os.live_all(), self.os.frames_in_use(), self.os.running_timers());
                assert_eq!(before, after, "{status:?} left something behind");
                assert!(status.is_failure() && status.name().is_some(), "{status:?} is no proper error");
                what().expect("the same thing works when nothing fails")
            }
        }
    }
}

impl<E: Codes> Drop for Host<E> {
    fn drop(&mut self) {
        if let Err(status) = self.delete() {
            // A failed test may leave sessions; the driver must then outlive them.
            core::mem::forget(self.driver.take());
            assert!(std::thread::panicking(), "the driver can't be taken down: {status:?}");
        }
    }
}

/// A session. Dropping it closes it.
pub struct Client<'h, E: Codes = LinuxCodes> {
    session: SessionRef<MockOs<E>>,
    host: &'h Host<E>,
}

/// Memory that the driver allocated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pages {
    /// In ring-3; 0 without a mapping.
    pub r3: usize,
    /// In ring-0; 0 without a mapping.
    pub r0: usize,
    /// Physical address of each page.
    pub phys: Vec<u64>,
}

/// What LDR_OPEN returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenedImage {
    /// Where the image is.
    pub base: usize,
    /// Whether the client must load it.
    pub needs_loading: bool,
    /// Whether the system's loader placed it.
    pub native: bool,
}

/// An image as a client uploads it; offsets are from its base.
#[derive(Clone, Debug, Default)]
pub struct Image {
    /// Its name, the key under which it is shared.
    pub name: String,
    /// Code and data.
    pub bits: Vec<u8>,
    /// Names and offsets.
    pub symbols: Vec<(String, u32)>,
    /// ModuleInit.
    pub init: Option<u32>,
    /// ModuleTerm.
    pub term: Option<u32>,
    /// One of the `LDR_ENTRY_…` numbers.
    pub entry_point_type: u32,
    /// EntryInt, EntryFast, EntryEx; or the service's handler first.
    pub entry_points: [u32; 3],
}

impl Image {
    /// An image of code without symbols and entry points.
    #[must_use]
    pub fn new(name: &str, bits: &[u8]) -> Self {
        Self { name: name.into(), bits: bits.into(), ..Default::default() }
    }

    fn strings(&self) -> Vec<u8> {
        self.symbols.iter().flat_map(|(name, _)| name.bytes().chain([0])).collect()
    }

    fn symbol_table(&self) -> Vec<u8> {
        let mut name_offset = 0;
        let mut table = Vec::new();
        for (name, symbol_offset) in &self.symbols {
            let symbol = r::LdrSymbol { name_offset, symbol_offset: *symbol_offset };
            table.extend_from_slice(symbol.as_bytes());
            name_offset += name.len() as u32 + 1;
        }
        table
    }

    /// Bits, padding, symbol table, string table; and the offsets of the tables. There is always something behind the bits.
    #[must_use]
    pub fn upload(&self) -> (Vec<u8>, u32, u32) {
        let mut bytes = self.bits.clone();
        bytes.resize(bytes.len().next_multiple_of(8), 0xcc);
        let symbols_offset = bytes.len() as u32;
        bytes.extend(self.symbol_table());
        let strings_offset = bytes.len() as u32;
        bytes.extend(self.strings());
        bytes.resize(bytes.len() + 8, 0);
        (bytes, symbols_offset, strings_offset)
    }
}

fn padded<const N: usize>(text: &str) -> [u8; N] {
    let mut field = [0; N];
    field[..text.len()].copy_from_slice(text.as_bytes());
    field
}

impl<'h, E: Codes> Client<'h, E> {
    /// The session.
    #[must_use]
    pub fn session(&self) -> &Session<MockOs<E>> {
        &self.session
    }

    /// The driver's host.
    #[must_use]
    pub const fn host(&self) -> &'h Host<E> {
        self.host
    }

    /// Another reference to the session, as a shell takes one around a request.
    #[must_use]
    pub fn reference(&self) -> SessionRef<MockOs<E>> {
        self.session.clone()
    }

    /// Closes the session.
    pub fn close(self) {}

    /// Sends a packet.
    pub fn send(&self, request: &Request) -> Reply {
        let (mut words, bytes) = request.buffer();
        let code = request.code_for(<MockOs<E> as OsPolicy>::ENCODING);
        let call = dispatch::ioctl(&*self.session, code, &mut words.as_mut_bytes()[..bytes]);
        super::seen::ioctl(<MockOs<E> as OsPolicy>::ENCODING, code, call, words.as_bytes());
        Reply::new(call, words)
    }

    fn status(&self, request: &Request) -> Result<()> {
        self.send(request).status().map(|_| ())
    }

    /// COOKIE: the handshake.
    ///
    /// # Errors
    /// What the driver says.
    pub fn handshake(&self, requested_version: u32, min_version: u32) -> Result<r::CookieOut> {
        let input = r::CookieIn { magic: COOKIE_MAGIC, requested_version, min_version, ..zeroed() };
        let reply = self.send(&Request::new(Function::Cookie).input(&input).output::<r::CookieOut>());
        reply.status()?;
        Ok(reply.output())
    }

    /// COOKIE with this interface's version.
    ///
    /// # Errors
    /// What the driver says.
    pub fn cookie(&self) -> Result<r::CookieOut> {
        self.handshake(IOC_VERSION, IOC_VERSION & 0xffff_0000)
    }

    /// QUERY_FUNCS.
    ///
    /// # Errors
    /// What the driver says.
    pub fn query_functions(&self) -> Result<Vec<(String, usize)>> {
        let count = self.cookie()?.function_count as usize;
        let request = Request::new(Function::QueryFuncs).output_with::<r::QueryFuncsOut, r::Function>(count);
        let reply = self.send(&request);
        reply.status()?;
        let text = |name: [u8; 32]| {
            String::from_utf8_lossy(name.split(|byte| *byte == 0).next().unwrap_or(&[])).into_owned()
        };
        let functions = reply.items::<r::QueryFuncsOut, r::Function>();
        Ok(functions.into_iter().map(|function| (text(function.name), function.address)).collect())
    }

    /// PAGE_ALLOC_EX with a ring-3 mapping.
    ///
    /// # Errors
    /// What the driver says.
    pub fn page_alloc(&self, pages: u32, kernel_mapping: bool) -> Result<Pages> {
        let input =
            r::PageAllocExIn { pages, kernel_mapping: kernel_mapping.into(), user_mapping: 1, ..zeroed() };
        let request = Request::new(Function::PageAllocEx)
            .input(&input)
            .output_with::<r::PageAllocExOut, u64>(pages as usize);
        let reply = self.send(&request);
        reply.status()?;
        let output = reply.output::<r::PageAllocExOut>();
        Ok(Pages { r3: output.r3, r0: output.r0, phys: reply.items::<r::PageAllocExOut, u64>() })
    }

    /// PAGE_FREE.
    ///
    /// # Errors
    /// What the driver says.
    pub fn page_free(&self, r3: usize) -> Result<()> {
        self.status(&Request::new(Function::PageFree).input(&r::PageFreeIn { r3, ..zeroed() }))
    }

    /// PAGE_MAP_KERNEL; returns the kernel address.
    ///
    /// # Errors
    /// What the driver says.
    pub fn page_map_kernel(&self, r3: usize, offset_bytes: u32, size_bytes: u32) -> Result<usize> {
        let input = r::PageMapKernelIn { r3, offset_bytes, size_bytes, ..zeroed() };
        let request = Request::new(Function::PageMapKernel).input(&input).output::<r::PageMapKernelOut>();
        let reply = self.send(&request);
        reply.status()?;
        Ok(reply.output::<r::PageMapKernelOut>().r0)
    }

    /// PAGE_PROTECT.
    ///
    /// # Errors
    /// What the driver says.
    pub fn page_protect(
        &self,
        r3: usize,
        r0: usize,
        offset_bytes: u32,
        size_bytes: u32,
        prot: u32,
    ) -> Result<()> {
        let input = r::PageProtectIn { r3, r0, offset_bytes, size_bytes, prot, ..zeroed() };
        self.status(&Request::new(Function::PageProtect).input(&input).output::<r::PageProtectIn>())
    }

    /// PAGE_LOCK; returns physical addresses.
    ///
    /// # Errors
    /// What the driver says.
    pub fn page_lock(&self, r3: usize, pages: u32) -> Result<Vec<u64>> {
        let request = Request::new(Function::PageLock)
            .input(&r::PageLockIn { r3, pages, ..zeroed() })
            .output_with::<r::PageLockOut, u64>(pages as usize);
        let reply = self.send(&request);
        reply.status()?;
        Ok(reply.items::<r::PageLockOut, u64>())
    }

    /// PAGE_UNLOCK.
    ///
    /// # Errors
    /// What the driver says.
    pub fn page_unlock(&self, r3: usize) -> Result<()> {
        self.status(&Request::new(Function::PageUnlock).input(&r::PageUnlockIn { r3, ..zeroed() }))
    }

    /// LOW_ALLOC.
    ///
    /// # Errors
    /// What the driver says.
    pub fn low_alloc(&self, pages: u32) -> Result<Pages> {
        let request = Request::new(Function::LowAlloc)
            .input(&r::LowAllocIn { pages, ..zeroed() })
            .output_with::<r::LowAllocOut, u64>(pages as usize);
        let reply = self.send(&request);
        reply.status()?;
        let output = reply.output::<r::LowAllocOut>();
        Ok(Pages { r3: output.r3, r0: output.r0, phys: reply.items::<r::LowAllocOut, u64>() })
    }

    /// LOW_FREE.
    ///
    /// # Errors
    /// What the driver says.
    pub fn low_free(&self, r3: usize) -> Result<()> {
        self.status(&Request::new(Function::LowFree).input(&r::LowFreeIn { r3, ..zeroed() }))
    }

    /// CONT_ALLOC; `phys` has the first page's address.
    ///
    /// # Errors
    /// What the driver says.
    pub fn cont_alloc(&self, pages: u32) -> Result<Pages> {
        let request = Request::new(Function::ContAlloc)
            .input(&r::ContAllocIn { pages, ..zeroed() })
            .output::<r::ContAllocOut>();
        let reply = self.send(&request);
        reply.status()?;
        let output = reply.output::<r::ContAllocOut>();
        Ok(Pages { r3: output.r3, r0: output.r0, phys: std::vec![output.phys] })
    }

    /// CONT_FREE.
    ///
    /// # Errors
    /// What the driver says.
    pub fn cont_free(&self, r3: usize) -> Result<()> {
        self.status(&Request::new(Function::ContFree).input(&r::ContFreeIn { r3, ..zeroed() }))
    }

    /// GET_PAGING_MODE.
    ///
    /// # Errors
    /// What the driver says.
    pub fn paging_mode(&self) -> Result<u32> {
        let reply = self.send(&Request::new(Function::GetPagingMode).output::<r::GetPagingModeOut>());
        reply.status()?;
        Ok(reply.output::<r::GetPagingModeOut>().mode)
    }

    /// VT_CAPS.
    ///
    /// # Errors
    /// What the driver says.
    pub fn vt_caps(&self) -> Result<u32> {
        let reply = self.send(&Request::new(Function::VtCaps).output::<r::VtCapsOut>());
        reply.status()?;
        Ok(reply.output::<r::VtCapsOut>().caps)
    }

    /// GIP_MAP.
    ///
    /// # Errors
    /// What the driver says.
    pub fn gip_map(&self) -> Result<Mapped> {
        let reply = self.send(&Request::new(Function::GipMap).output::<r::GipMapOut>());
        reply.status()?;
        let output = reply.output::<r::GipMapOut>();
        Ok(Mapped { user: output.r3, kernel: output.r0, phys: output.phys })
    }

    /// GIP_UNMAP.
    ///
    /// # Errors
    /// What the driver says.
    pub fn gip_unmap(&self) -> Result<()> {
        self.status(&Request::new(Function::GipUnmap))
    }

    /// SEM_OP2; success may be informational.
    ///
    /// # Errors
    /// What the driver says.
    pub fn sem_op2(&self, sem_type: u32, handle: u32, operation: u32, arg: u64) -> Result<Status> {
        let input = r::SemOp2In { sem_type, handle, operation, arg, ..zeroed() };
        self.send(&Request::new(Function::SemOp2).input(&input)).status()
    }

    /// SEM_OP3.
    ///
    /// # Errors
    /// What the driver says.
    pub fn sem_op3(&self, sem_type: u32, handle: u32, operation: u32) -> Result<u32> {
        let input = r::SemOp3In { sem_type, handle, operation, ..zeroed() };
        let reply = self.send(&Request::new(Function::SemOp3).input(&input).output::<r::SemOp3Out>());
        reply.status()?;
        Ok(reply.output::<r::SemOp3Out>().value)
    }

    /// LDR_OPEN for an image that will be uploaded.
    ///
    /// # Errors
    /// What the driver says.
    pub fn ldr_open(&self, image: &Image, file_name: &str) -> Result<OpenedImage> {
        let input = r::LdrOpenIn {
            image_bytes_with_tables: image.upload().0.len() as u32,
            image_bytes: image.bits.len() as u32,
            name: padded(&image.name),
            file_name: padded(file_name),
            ..zeroed()
        };
        let reply = self.send(&Request::new(Function::LdrOpen).input(&input).output::<r::LdrOpenOut>());
        reply.status()?;
        let output = reply.output::<r::LdrOpenOut>();
        Ok(OpenedImage {
            base: output.image_base,
            needs_loading: output.needs_loading != 0,
            native: output.native_loader != 0,
        })
    }

    /// The LDR_LOAD packet of an image that was opened at `base`.
    #[must_use]
    pub fn load_request(&self, base: usize, image: &Image) -> Request {
        let (upload, symbols_offset, strings_offset) = image.upload();
        let at = |offset: u32| base + offset as usize;
        let mut entry_points = [0; 4];
        match image.entry_point_type {
            crate::abi::ioctl::LDR_ENTRY_VMMR0 => {
                let [int, fast, ex] = image.entry_points.map(at);
                entry_points = [base, int, fast, ex];
            }
            crate::abi::ioctl::LDR_ENTRY_SERVICE => entry_points[0] = at(image.entry_points[0]),
            _ => {}
        }
        let input = r::LdrLoadIn {
            module_init: image.init.map_or(0, at),
            module_term: image.term.map_or(0, at),
            entry_points,
            image_base: base,
            entry_point_type: image.entry_point_type,
            image_bytes: image.bits.len() as u32,
            symbols_offset,
            symbol_count: image.symbols.len() as u32,
            strings_offset,
            strings_bytes: image.strings().len() as u32,
            image_bytes_with_tables: upload.len() as u32,
            ..zeroed()
        };
        Request::new(Function::LdrLoad).input(&input).tail(&upload)
    }

    /// LDR_LOAD.
    ///
    /// # Errors
    /// What the driver, or ModuleInit, says.
    pub fn ldr_load(&self, base: usize, image: &Image) -> Result<()> {
        self.status(&self.load_request(base, image))
    }

    /// LDR_OPEN, and LDR_LOAD if that is needed; returns the base.
    ///
    /// # Errors
    /// What the driver says. The image is closed again if it can't be loaded.
    pub fn load(&self, image: &Image) -> Result<usize> {
        let opened = self.ldr_open(image, "/image")?;
        if opened.needs_loading
            && let Err(status) = self.ldr_load(opened.base, image)
        {
            self.ldr_free(opened.base)?;
            return Err(status);
        }
        Ok(opened.base)
    }

    /// LDR_FREE.
    ///
    /// # Errors
    /// What the driver says.
    pub fn ldr_free(&self, image_base: usize) -> Result<()> {
        self.status(&Request::new(Function::LdrFree).input(&r::LdrFreeIn { image_base, ..zeroed() }))
    }

    /// LDR_GET_SYMBOL.
    ///
    /// # Errors
    /// What the driver says.
    pub fn ldr_get_symbol(&self, image_base: usize, symbol: &str) -> Result<usize> {
        let input = r::LdrGetSymbolIn { image_base, symbol: padded(symbol), ..zeroed() };
        let request = Request::new(Function::LdrGetSymbol).input(&input).output::<r::LdrGetSymbolOut>();
        let reply = self.send(&request);
        reply.status()?;
        Ok(reply.output::<r::LdrGetSymbolOut>().address)
    }

    /// CALL_VMMR0 with a packet for the module, or without one; the reply's items are the packet.
    pub fn call_vmmr0(&self, vm: usize, cpu_id: u32, operation: u32, arg: u64, body: Option<&[u8]>) -> Reply {
        let input = r::CallVmmr0In { vm, cpu_id, operation, arg, ..zeroed() };
        let mut request = Request::new(Function::CallVmmr0).input(&input);
        if let Some(body) = body {
            let bytes = (size_of::<r::Vmmr0RequestHeader>() + body.len()) as u32;
            let header = r::Vmmr0RequestHeader { magic: VMMR0_REQUEST_MAGIC, bytes };
            request = request.tail(header.as_bytes()).tail(body);
        }
        let bytes = request.header().in_bytes;
        self.send(&request.out_bytes(bytes))
    }

    /// SET_VM_FOR_FAST.
    ///
    /// # Errors
    /// What the driver says.
    pub fn set_vm(&self, vm: usize) -> Result<()> {
        self.status(&Request::new(Function::SetVmForFast).input(&r::SetVmForFastIn { vm, ..zeroed() }))
    }

    /// One of the fast calls.
    ///
    /// # Errors
    /// What the driver says.
    pub fn fast(&self, function: Function, cpu_id: u32) -> Result<()> {
        let code = <MockOs<E> as OsPolicy>::ENCODING.code(function, 0, IOCTL_FLAG);
        dispatch::ioctl_fast(&*self.session, code, cpu_id)
    }
}

/// Success without information.
pub const SUCCESS: Result<Status> = Ok(VINF_SUCCESS);
