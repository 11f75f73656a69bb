//! Device nodes of Linux: `/dev/vboxdrv` and `/dev/vboxdrvu`.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::process::Command;

use supdrv_core::abi::Status;
use supdrv_core::abi::ioctl::Encoding;
use supdrv_core::abi::requests::HEADER_BYTES;
use supdrv_core::abi::status::{
    VERR_INTERNAL_ERROR, VERR_INVALID_POINTER, VERR_NO_MEMORY, VERR_TOO_MUCH_DATA,
};
use supdrv_core::driver::Counters;

use super::{Capabilities, Device, Node, OpenError, Refused, Transport, claims, copy_common};

/// What the module shows to the administrator about itself.
const COUNTERS: &str = "/sys/kernel/debug/vboxdrv/counters";

/// The device nodes of the running kernel.
#[derive(Clone, Debug)]
pub struct DeviceNodes {
    unrestricted: String,
    restricted: String,
}

impl Default for DeviceNodes {
    fn default() -> Self {
        Self { unrestricted: "/dev/vboxdrv".into(), restricted: "/dev/vboxdrvu".into() }
    }
}

impl DeviceNodes {
    /// Nodes in other places.
    #[must_use]
    pub fn at(unrestricted: &str, restricted: &str) -> Self {
        Self { unrestricted: unrestricted.into(), restricted: restricted.into() }
    }

    /// The path of a node.
    #[must_use]
    pub fn path(&self, node: Node) -> &str {
        match node {
            Node::Unrestricted => &self.unrestricted,
            Node::Restricted => &self.restricted,
        }
    }
}

impl Transport for DeviceNodes {
    fn describe(&self) -> String {
        format!("Linux device nodes {} and {}", self.unrestricted, self.restricted)
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            other_process: true,
            programs: true,
            shared_pages: true,
            kernel_addresses: false,
            runs_code: true,
            fast_calls: true,
            real_time: true,
        }
    }

    fn encoding(&self) -> Encoding {
        Encoding::Linux
    }

    fn refusal(&self, status: Status) -> Refused {
        Refused::Os(match status {
            VERR_TOO_MUCH_DATA => libc::E2BIG,
            VERR_INVALID_POINTER => libc::EFAULT,
            VERR_NO_MEMORY => libc::ENOMEM,
            _ => libc::EINVAL,
        })
    }

    fn open(&self, node: Node) -> Result<Box<dyn Device>, OpenError> {
        Ok(Box::new(OpenNode::open(self.path(node))?))
    }

    fn counters(&self) -> Option<Counters> {
        parse_counters(&fs::read_to_string(COUNTERS).ok()?)
    }

    fn helper(&self) -> Option<Command> {
        std::env::current_exe().ok().map(Command::new)
    }
}

/// Reads lines of `name=number`; names that aren't known are left alone.
fn parse_counters(text: &str) -> Option<Counters> {
    let get = |name: &str| {
        text.lines()
            .filter_map(|line| line.split_once('='))
            .find(|(key, _)| key.trim() == name)
            .and_then(|(_, value)| value.trim().parse().ok())
    };
    Some(Counters {
        sessions: get("sessions")?,
        objects: get("objects")?,
        memory_refs: get("memory_refs")?,
        images: get("images")?,
        factories: get("factories")?,
        gip_users: get("gip_users")?,
    })
}

/// An open node.
#[derive(Debug)]
pub struct OpenNode {
    file: OwnedFd,
}

impl OpenNode {
    /// Opens a node for reading and writing.
    ///
    /// # Errors
    /// Why not.
    pub fn open(path: &str) -> Result<Self, OpenError> {
        let node = path.to_owned();
        let Ok(c_path) = CString::new(path) else {
            return Err(OpenError::Other { node, reason: "a path can't have a NUL".into() });
        };
        // SAFETY: a C string.
        let fd = unsafe { libc::open(c_path.as_ptr(), libc::O_RDWR | libc::O_CLOEXEC) };
        if fd >= 0 {
            // SAFETY: a new descriptor that nobody else has.
            return Ok(Self { file: unsafe { OwnedFd::from_raw_fd(fd) } });
        }
        let error = io::Error::last_os_error();
        Err(match error.raw_os_error() {
            Some(libc::ENOENT | libc::ENXIO | libc::ENODEV) => OpenError::NotFound { node },
            Some(libc::EACCES | libc::EPERM) => OpenError::AccessDenied { node },
            _ => OpenError::Other { node, reason: error.to_string() },
        })
    }

    /// The call itself.
    ///
    /// # Safety
    /// As for [`Device::ioctl_at`].
    unsafe fn call(&self, code: u32, argument: usize) -> Result<(), i32> {
        // SAFETY: whatever the driver does with the argument is the caller's business.
        let result = unsafe { libc::ioctl(self.file.as_raw_fd(), code as _, argument) };
        if result == 0 { Ok(()) } else { Err(errno()) }
    }

    /// Passes a packet that claims no more bytes than it has.
    fn call_exact(&self, code: u32, packet: &mut [u8]) -> Result<(), i32> {
        // SAFETY: the packet is ours alone, and no shorter than it claims (or than a header, which is read first).
        unsafe { self.call(code, packet.as_mut_ptr().addr()) }
    }

    fn pass(&self, code: u32, packet: &mut [u8]) -> Result<(), i32> {
        let claimed = claims(packet).map_or(HEADER_BYTES, |(_, bytes)| bytes);
        if claimed <= packet.len() {
            return self.call_exact(code, packet);
        }
        let Some(mut copy) = Reserved::new(claimed) else { return Err(libc::ENOMEM) };
        copy_common(copy.bytes(), packet);
        self.call_exact(code, copy.bytes())?;
        copy_common(packet, copy.bytes());
        Ok(())
    }
}

fn errno() -> i32 {
    io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

impl Device for OpenNode {
    fn ioctl(&self, code: u32, packet: &mut [u8]) -> Result<(), Refused> {
        self.pass(code, packet).map_err(Refused::Os)
    }

    fn fast(&self, code: u32, cpu_id: u32) -> Result<(), Refused> {
        // SAFETY: the argument of a fast call is a number. Where it is taken for an address, it is one of the first pages, or of
        // nothing that this process has: a header isn't there.
        unsafe { self.call(code, cpu_id as usize) }.map_err(|error| {
            if error == -VERR_INTERNAL_ERROR.0 { Refused::Status(Status(-error)) } else { Refused::Os(error) }
        })
    }

    fn descriptor(&self) -> Option<i32> {
        Some(self.file.as_raw_fd())
    }

    unsafe fn ioctl_at(&self, code: u32, address: usize) -> Option<Result<(), Refused>> {
        // SAFETY: the caller's promise.
        Some(unsafe { self.call(code, address) }.map_err(Refused::Os))
    }

    fn ioctl_from_other_process(&self, code: u32, packet: &mut [u8]) -> Option<Result<(), Refused>> {
        let claimed = claims(packet).map_or(HEADER_BYTES, |(_, bytes)| bytes).max(packet.len());
        let mut shared = Reserved::new(claimed)?;
        copy_common(shared.bytes(), packet);
        // SAFETY: the child makes one system call and ends; it touches no lock, no heap and no file of this process.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let result = self.call_exact(code, shared.bytes());
            // SAFETY: ends the child without anything of this process' own clean-up.
            unsafe { libc::_exit(result.err().unwrap_or(0)) };
        }
        if child < 0 {
            return None;
        }
        let mut status = 0;
        loop {
            // SAFETY: writes the status of our child.
            let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
            if waited == child {
                break;
            }
            if errno() != libc::EINTR {
                return None;
            }
        }
        if !libc::WIFEXITED(status) {
            return None;
        }
        Some(match libc::WEXITSTATUS(status) {
            0 => {
                copy_common(packet, shared.bytes());
                Ok(())
            }
            error => Err(Refused::Os(error)),
        })
    }
}

/// Zeroed memory that forked children share, and that costs only what is touched.
struct Reserved {
    start: *mut u8,
    bytes: usize,
}

impl Reserved {
    fn new(bytes: usize) -> Option<Self> {
        let bytes = bytes.max(1);
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a new mapping at an address that the system chooses.
        let start = unsafe {
            libc::mmap(core::ptr::null_mut(), bytes, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0)
        };
        (start != libc::MAP_FAILED).then_some(Self { start: start.cast(), bytes })
    }

    fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: the mapping has that many bytes, is ours, and zero is a byte.
        unsafe { core::slice::from_raw_parts_mut(self.start, self.bytes) }
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        // SAFETY: our own mapping, which nobody borrows any more.
        unsafe { libc::munmap(self.start.cast(), self.bytes) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_node_says_that_the_driver_is_not_loaded() {
        let nodes = DeviceNodes::at("/dev/no-such-device", "/dev/no-such-device-either");
        let Err(error) = nodes.open(Node::Unrestricted) else { panic!("opened") };
        assert_eq!(error, OpenError::NotFound { node: "/dev/no-such-device".into() });
        assert!(error.to_string().contains("isn't loaded"));
    }

    #[test]
    fn a_device_without_ioctls_refuses_and_leaves_the_packet_alone() {
        let device = OpenNode::open("/dev/null").unwrap();
        let mut packet = [0x55; 24];
        assert_eq!(device.ioctl(0xc018_5695, &mut packet), Err(Refused::Os(libc::ENOTTY)));
        assert_eq!(packet, [0x55; 24]);
        assert_eq!(
            device.ioctl_from_other_process(0xc018_5695, &mut packet),
            Some(Err(Refused::Os(libc::ENOTTY)))
        );
        assert_eq!(packet, [0x55; 24]);
    }

    #[test]
    fn counters_are_read_by_name() {
        let text = "sessions=1\nobjects=2\nmemory_refs=3\nimages=4\nfactories=5\ngip_users=6\npages=9\n";
        let counters = parse_counters(text).unwrap();
        assert_eq!((counters.sessions, counters.gip_users), (1, 6));
        assert_eq!(parse_counters("sessions=1\n"), None);
    }
}
