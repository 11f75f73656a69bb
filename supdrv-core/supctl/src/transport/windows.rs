//! Device nodes of Windows: `\\.\VBoxDrv` and `\\.\VBoxDrvU`, through `DeviceIoControl`.

use core::ffi::c_void;
use core::ptr::null_mut;
use std::io;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle, RawHandle};
use std::process::Command;

use supdrv_core::abi::Status;
use supdrv_core::abi::ioctl::Encoding;
use supdrv_core::abi::requests::HEADER_BYTES;

use super::{Capabilities, Device, Node, OpenError, Refused, Scratch, Transport, claims, copy_common};

const GENERIC_READ_WRITE: u32 = 0xc000_0000;
const SHARE_READ_WRITE: u32 = 3;
const OPEN_EXISTING: u32 = 3;
const FILE_ATTRIBUTE_NORMAL: u32 = 0x80;
const INVALID_HANDLE: RawHandle = usize::MAX as RawHandle;
const ERROR_FILE_NOT_FOUND: i32 = 2;
const ERROR_PATH_NOT_FOUND: i32 = 3;
const ERROR_ACCESS_DENIED: i32 = 5;
const ERROR_INVALID_PARAMETER: i32 = 87;

#[link(name = "kernel32")]
unsafe extern "system" {
    fn CreateFileW(
        name: *const u16,
        access: u32,
        share: u32,
        security: *const c_void,
        disposition: u32,
        flags: u32,
        template: RawHandle,
    ) -> RawHandle;
    fn DeviceIoControl(
        device: RawHandle,
        code: u32,
        input: *const c_void,
        input_bytes: u32,
        output: *mut c_void,
        output_bytes: u32,
        returned: *mut u32,
        overlapped: *mut c_void,
    ) -> i32;
    fn GetModuleHandleA(name: *const u8) -> *mut c_void;
    fn GetProcAddress(module: *mut c_void, name: *const u8) -> *const c_void;
}

/// The device nodes of the running system.
#[derive(Clone, Copy, Debug, Default)]
pub struct DeviceNodes;

impl DeviceNodes {
    /// The path of a node.
    #[must_use]
    pub const fn path(self, node: Node) -> &'static str {
        match node {
            Node::Unrestricted => r"\\.\VBoxDrv",
            Node::Restricted => r"\\.\VBoxDrvU",
        }
    }
}

impl Transport for DeviceNodes {
    fn describe(&self) -> String {
        format!("Windows devices {} and {}", self.path(Node::Unrestricted), self.path(Node::Restricted))
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            other_process: false,
            programs: true,
            shared_pages: true,
            kernel_addresses: false,
            runs_code: true,
            fast_calls: true,
            real_time: true,
        }
    }

    fn encoding(&self) -> Encoding {
        Encoding::Windows
    }

    fn refusal(&self, _status: Status) -> Refused {
        Refused::Os(ERROR_INVALID_PARAMETER)
    }

    fn open(&self, node: Node) -> Result<Box<dyn Device>, OpenError> {
        Ok(Box::new(OpenNode::open(self.path(node))?))
    }

    /// The kernel's interrupt time, from the page that it shares with all processes.
    fn monotonic_ns(&self) -> u64 {
        const INTERRUPT_TIME: usize = 0x7ffe_0008;
        let word = |index: usize| {
            // SAFETY: every process has this page, readable, at this address.
            unsafe { (INTERRUPT_TIME as *const u32).add(index).read_volatile() }
        };
        loop {
            let (high, low) = (word(1), word(0));
            if high == word(2) {
                return (u64::from(high) << 32 | u64::from(low)).wrapping_mul(100);
            }
        }
    }

    /// Wine says so itself, by a function that no Windows has.
    fn is_emulated(&self) -> bool {
        // SAFETY: NUL-terminated names; every process has this module.
        unsafe {
            !GetProcAddress(
                GetModuleHandleA(c"ntdll.dll".as_ptr().cast()),
                c"wine_get_version".as_ptr().cast(),
            )
            .is_null()
        }
    }

    fn helper(&self) -> Option<Command> {
        std::env::current_exe().ok().map(Command::new)
    }
}

/// An open node.
#[derive(Debug)]
pub struct OpenNode {
    handle: OwnedHandle,
}

impl OpenNode {
    /// Opens a node for reading and writing.
    ///
    /// # Errors
    /// Why not.
    pub fn open(path: &str) -> Result<Self, OpenError> {
        let wide: Vec<u16> = path.encode_utf16().chain([0]).collect();
        // SAFETY: a NUL-terminated name; everything else is plain.
        let handle = unsafe {
            CreateFileW(
                wide.as_ptr(),
                GENERIC_READ_WRITE,
                SHARE_READ_WRITE,
                null_mut(),
                OPEN_EXISTING,
                FILE_ATTRIBUTE_NORMAL,
                null_mut(),
            )
        };
        if handle != INVALID_HANDLE {
            // SAFETY: a new handle that nobody else has.
            return Ok(Self { handle: unsafe { OwnedHandle::from_raw_handle(handle) } });
        }
        let (node, error) = (path.to_owned(), io::Error::last_os_error());
        Err(match error.raw_os_error() {
            Some(ERROR_FILE_NOT_FOUND | ERROR_PATH_NOT_FOUND) => OpenError::NotFound { node },
            Some(ERROR_ACCESS_DENIED) => OpenError::AccessDenied { node },
            _ => OpenError::Other { node, reason: error.to_string() },
        })
    }

    /// The call itself.
    ///
    /// # Safety
    /// The driver may read and write what the sizes say.
    unsafe fn call(&self, code: u32, input: (usize, u32), output: (usize, u32)) -> Result<(), Refused> {
        let mut returned = 0;
        // SAFETY: the caller's promise.
        let ok = unsafe {
            DeviceIoControl(
                self.handle.as_raw_handle(),
                code,
                input.0 as *const c_void,
                input.1,
                output.0 as *mut c_void,
                output.1,
                &raw mut returned,
                null_mut(),
            )
        };
        if ok != 0 {
            return Ok(());
        }
        Err(Refused::Os(io::Error::last_os_error().raw_os_error().unwrap_or(0)))
    }
}

impl Device for OpenNode {
    fn ioctl(&self, code: u32, packet: &mut [u8]) -> Result<(), Refused> {
        let header = claims(packet).map(|(header, _)| (header.in_bytes, header.out_bytes));
        let (in_bytes, out_bytes) = header.unwrap_or((HEADER_BYTES as u32, HEADER_BYTES as u32));
        // The I/O manager copies what it is told to: never more than there is.
        let room = in_bytes.max(out_bytes).min(supdrv_core::abi::ioctl::MAX_REQUEST_BYTES as u32 + 1);
        let mut copy = Scratch::new((room as usize).max(packet.len()));
        copy_common(copy.bytes(), packet);
        let address = copy.bytes().as_mut_ptr().addr();
        // SAFETY: both directions are inside the copy, which is ours.
        unsafe { self.call(code, (address, in_bytes.min(room)), (address, out_bytes.min(room))) }?;
        copy_common(packet, copy.bytes());
        Ok(())
    }

    fn fast(&self, code: u32, cpu_id: u32) -> Result<(), Refused> {
        // SAFETY: the "output address" of a fast call is a number, and there are no bytes behind it.
        unsafe { self.call(code, (0, 0), (cpu_id as usize, 0)) }
    }
}
