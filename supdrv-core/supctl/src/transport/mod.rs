//! How packets get to a driver.
//!
//! A [`Transport`] opens device nodes; a [`Device`] is one open node, that is one session of the driver. Everything above this
//! module (the typed client, the image linker, the conformance suite, the command line) speaks to these two traits only, so
//! that the same code drives a real kernel and a driver that lives in the test's own process.
//!
//! | transport | way to the driver |
//! | --- | --- |
//! | [`linux::DeviceNodes`] | `/dev/vboxdrv`, `/dev/vboxdrvu` |
//! | `windows::DeviceNodes` | `\\.\VBoxDrv`, `\\.\VBoxDrvU` |
//! | made by tests | a driver in this process; [`buffered`] stands in for the system's shell if it has none |
//!
//! # The contract of a device
//!
//! - A packet is passed whole: it is as long as the larger of both directions, begins with the request header, and its function
//!   code is complete (with the size, where the system's codes have one).
//! - `Ok` means that the system call succeeded; what the *request* did is in the header's status. On success the first
//!   `out_bytes` bytes of the packet are the driver's; the rest is as it was.
//! - On failure the packet is as it was.
//! - A device never lets a driver touch memory outside of the packet, even if the header claims more: such a packet is passed
//!   from a larger copy.
//! - Closing is dropping. Requests may be made from several threads at once.

use core::fmt;
use core::time::Duration;

use supdrv_core::abi::Status;
use supdrv_core::abi::ioctl::{Encoding, FLAGS_MAGIC, FLAGS_MAGIC_MASK, MAX_REQUEST_BYTES};
use supdrv_core::abi::requests::{HEADER_BYTES, RequestHeader};
use supdrv_core::abi::status::{VERR_INVALID_PARAMETER, VERR_NO_MEMORY, VERR_TOO_MUCH_DATA};
use supdrv_core::driver::Counters;
use zerocopy::FromBytes;

use crate::pages::Pages;

#[cfg(target_os = "linux")]
pub mod linux;
#[cfg(windows)]
pub mod windows;

/// Which device node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Node {
    /// For administrators: all requests.
    Unrestricted,
    /// For everybody: handshake and CPU capabilities.
    Restricted,
}

/// Why a device node can't be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpenError {
    /// There is no such node: the driver isn't loaded.
    NotFound {
        /// The node.
        node: String,
    },
    /// The caller may not open it.
    AccessDenied {
        /// The node.
        node: String,
    },
    /// Anything else, in the system's own words.
    Other {
        /// The node.
        node: String,
        /// What the system says.
        reason: String,
    },
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound { node } => write!(f, "{node} doesn't exist: the driver isn't loaded"),
            Self::AccessDenied { node } => {
                write!(f, "{node} may not be opened by this user: use the administrator's account")
            }
            Self::Other { node, reason } => write!(f, "{node}: {reason}"),
        }
    }
}

impl std::error::Error for OpenError {}

/// The system call itself failed. What of the driver's status is left depends on the way to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The driver's own status.
    Status(Status),
    /// The system's error number; the status is lost.
    Os(i32),
}

impl Refused {
    /// Whether this can be what became of a driver's `status`.
    #[must_use]
    pub fn may_be(self, status: Status) -> bool {
        match self {
            Self::Status(own) => own == status,
            Self::Os(_) => true,
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "refused with {status}"),
            Self::Os(number) => {
                write!(f, "refused by the system: {}", std::io::Error::from_raw_os_error(*number))
            }
        }
    }
}

impl std::error::Error for Refused {}

/// What is possible with a transport; conformance cases say what they need.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// A request can be made from another process than the one that opened the device
    /// ([`Device::ioctl_from_other_process`]).
    pub other_process: bool,
    /// Programs can be started that use the driver themselves, and killed ([`Transport::helper`]).
    pub programs: bool,
    /// What ring-3 writes to pages is what ring-0 reads from them: mappings are real.
    pub shared_pages: bool,
    /// Kernel addresses can be used by this process: the driver is inside it.
    pub kernel_addresses: bool,
    /// Machine code in images is executed.
    pub runs_code: bool,
    /// The fast calls exist.
    pub fast_calls: bool,
    /// Waits with a timeout end by themselves, and time passes by itself.
    pub real_time: bool,
}

/// A way to a driver.
pub trait Transport: Send + Sync {
    /// What it is, for people.
    fn describe(&self) -> String;

    /// What is possible with it.
    fn capabilities(&self) -> Capabilities;

    /// How the system on the other side makes function codes.
    fn encoding(&self) -> Encoding;

    /// What a client sees of a packet that driver or shell refuse with `status`: the status itself, or whatever the system makes
    /// of it.
    fn refusal(&self, status: Status) -> Refused {
        Refused::Status(status)
    }

    /// Whether there is a node for everybody besides the one for the administrator.
    fn has_restricted_node(&self) -> bool {
        true
    }

    /// Whether the driver's kernel can map locked pages of processes.
    fn maps_locked_pages(&self) -> bool {
        true
    }

    /// Whether the driver's kernel is an emulated one: a process that has neither the machine's registers nor its clients' memory.
    fn is_emulated(&self) -> bool {
        false
    }

    /// Opens a device node for the calling process.
    ///
    /// # Errors
    /// Why not.
    fn open(&self, node: Node) -> Result<Box<dyn Device>, OpenError>;

    /// Lets time pass for the driver: timers run, waits end. The calling thread may do nothing else meanwhile.
    fn pass_time(&self, duration: Duration) {
        std::thread::sleep(duration);
    }

    /// Lets threads that are about to wait in the driver get there: `waiting` of them in all. A way that can't see them gives them
    /// time.
    fn settle(&self, _waiting: usize) {
        self.pass_time(Duration::from_millis(20));
    }

    /// The monotonic clock that the driver publishes in the global info page, in nanoseconds.
    fn monotonic_ns(&self) -> u64 {
        host_monotonic_ns()
    }

    /// The time stamp counter that the driver reads.
    fn tsc(&self) -> u64 {
        host_tsc()
    }

    /// Initial APIC id of the calling thread's CPU.
    fn apic_id(&self) -> u8 {
        host_apic_id()
    }

    /// Zeroed pages of the process that opens devices, for the driver to lock; `None` if there is no memory.
    fn user_pages(&self, count: usize) -> Option<Pages> {
        Pages::new(count)
    }

    /// What exists in the driver now, if the way shows it.
    fn counters(&self) -> Option<Counters> {
        None
    }

    /// The command that starts this program again, with [`Capabilities::programs`].
    fn helper(&self) -> Option<std::process::Command> {
        None
    }
}

/// An open device node: a session. See the [module's contract](self).
pub trait Device: Send + Sync {
    /// Passes a request packet; blocks as long as the request does.
    ///
    /// # Errors
    /// The system call failed; the packet is as it was.
    fn ioctl(&self, code: u32, packet: &mut [u8]) -> Result<(), Refused>;

    /// Makes a fast call for a virtual CPU.
    ///
    /// # Errors
    /// The call failed.
    fn fast(&self, code: u32, cpu_id: u32) -> Result<(), Refused>;

    /// The system's own descriptor of the device, for measurements without anything in between; `None` where there is none.
    fn descriptor(&self) -> Option<i32> {
        None
    }

    /// Passes a packet by its address alone, which may be nonsense; `None` where that can't be done.
    ///
    /// # Safety
    /// If a request header is readable at `address`, memory of the size that it claims must be there and be writable, with
    /// nobody else using it, as long as the call runs.
    unsafe fn ioctl_at(&self, _code: u32, _address: usize) -> Option<Result<(), Refused>> {
        None
    }

    /// Passes a packet from another process than the one that opened the device, with [`Capabilities::other_process`]; `None`
    /// where that can't be done.
    fn ioctl_from_other_process(&self, _code: u32, _packet: &mut [u8]) -> Option<Result<(), Refused>> {
        None
    }
}

/// The header of a packet and the bytes that it claims; `None` if there is no header.
fn claims(packet: &[u8]) -> Option<(RequestHeader, usize)> {
    let (header, _) = RequestHeader::read_from_prefix(packet).ok()?;
    let bytes = header.in_bytes.max(header.out_bytes) as usize;
    Some((header, bytes))
}

/// A zeroed buffer with the alignment that the core asks for.
struct Scratch {
    words: Vec<u64>,
}

impl Scratch {
    fn new(bytes: usize) -> Self {
        Self { words: vec![0; bytes.div_ceil(8)] }
    }

    fn bytes(&mut self) -> &mut [u8] {
        zerocopy::IntoBytes::as_mut_bytes(self.words.as_mut_slice())
    }
}

/// Copies as much as both have.
fn copy_common(to: &mut [u8], from: &[u8]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = *from;
    }
}

/// Does what a system's shell does between a client's packet and the core: checks header and size, copies the input into a buffer
/// of its own, zeroes the rest, calls `dispatch`, copies the output back. For in-process transports to a driver without a shell.
///
/// # Errors
/// The header is malformed, or what `dispatch` fails with; the packet is as it was.
pub fn buffered(
    encoding: Encoding,
    code: u32,
    packet: &mut [u8],
    dispatch: impl FnOnce(&mut [u8]) -> Result<(), Status>,
) -> Result<(), Refused> {
    let refused = |status| Err(Refused::Status(status));
    let Some((header, bytes)) = claims(packet) else { return refused(VERR_INVALID_PARAMETER) };
    let in_bytes = header.in_bytes as usize;
    if header.flags & FLAGS_MAGIC_MASK != FLAGS_MAGIC || in_bytes < HEADER_BYTES {
        return refused(VERR_INVALID_PARAMETER);
    }
    if bytes > MAX_REQUEST_BYTES {
        return refused(VERR_TOO_MUCH_DATA);
    }
    let size_field = encoding.size_field(code) as usize;
    if encoding != Encoding::Solaris && size_field != 0 && size_field != bytes {
        return refused(VERR_INVALID_PARAMETER);
    }
    let mut scratch = Scratch::new(bytes);
    let Some(buffer) = scratch.bytes().get_mut(..bytes) else { return refused(VERR_NO_MEMORY) };
    let input = packet.get(..in_bytes).unwrap_or(packet);
    copy_common(buffer, input);
    dispatch(buffer).map_err(Refused::Status)?;
    let out_bytes = claims(buffer).map_or(0, |(header, _)| header.out_bytes as usize);
    copy_common(packet, buffer.get(..out_bytes).unwrap_or(buffer));
    Ok(())
}

#[cfg(unix)]
fn host_monotonic_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes a timespec.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    (now.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(now.tv_nsec as u64)
}

#[cfg(not(unix))]
fn host_monotonic_ns() -> u64 {
    use std::sync::OnceLock;
    use std::time::Instant;
    static START: OnceLock<Instant> = OnceLock::new();
    u64::try_from(START.get_or_init(Instant::now).elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// The TSC, read after everything before it.
#[cfg(target_arch = "x86_64")]
fn host_tsc() -> u64 {
    use core::arch::x86_64::{_mm_lfence, _rdtsc};
    // SAFETY: both instructions exist on every x86-64 CPU.
    unsafe {
        _mm_lfence();
        _rdtsc()
    }
}

#[cfg(target_arch = "x86")]
fn host_tsc() -> u64 {
    // CPUID serialises on every CPU; LFENCE came with SSE2.
    core::hint::black_box(core::arch::x86::__cpuid(0).eax);
    // SAFETY: exists since the Pentium.
    unsafe { core::arch::x86::_rdtsc() }
}

#[cfg(not(any(target_arch = "x86", target_arch = "x86_64")))]
fn host_tsc() -> u64 {
    0
}

#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
fn host_apic_id() -> u8 {
    #[cfg(target_arch = "x86")]
    use core::arch::x86::__cpuid;
    #[cfg(target_arch = "x86_64")]
    use core::arch::x86_64::__cpuid;
    #[allow(unused_unsafe, reason = "safe in newer compilers")]
    // SAFETY: CPUID exists on every CPU that runs this.
    let leaf = unsafe { __cpuid(1) };
    (leaf.ebx >> 24) as u8
}

#[cfg(not(any(target_arch = "x86", target_arch = "x86_64")))]
fn host_apic_id() -> u8 {
    0
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::IntoBytes;

    fn packet(in_bytes: u32, out_bytes: u32, len: usize) -> Vec<u8> {
        let header =
            RequestHeader { cookie: 1, session_cookie: 2, in_bytes, out_bytes, flags: FLAGS_MAGIC, rc: -225 };
        let mut packet = vec![0xcc; len];
        copy_common(&mut packet, header.as_bytes());
        packet
    }

    #[test]
    fn a_buffered_packet_hides_what_is_beyond_the_input_and_keeps_what_is_beyond_the_output() {
        let mut bytes = packet(28, 40, 48);
        buffered(Encoding::Os2, 1, &mut bytes, |kernel| {
            assert_eq!(kernel.len(), 40);
            assert_eq!(kernel[24..28], [0xcc; 4]);
            assert_eq!(kernel[28..], [0; 12]);
            kernel[24..40].fill(7);
            Ok(())
        })
        .unwrap();
        assert_eq!(bytes[24..40], [7; 16]);
        assert_eq!(bytes[40..], [0xcc; 8]);
    }

    #[test]
    fn a_refused_packet_comes_back_as_it_was() {
        let mut bytes = packet(28, 28, 28);
        let before = bytes.clone();
        let result = buffered(Encoding::Os2, 1, &mut bytes, |kernel| {
            kernel.fill(0);
            Err(VERR_INVALID_PARAMETER)
        });
        assert_eq!(result, Err(Refused::Status(VERR_INVALID_PARAMETER)));
        assert_eq!(bytes, before);
    }

    #[test]
    fn a_header_without_magic_or_with_absurd_sizes_never_reaches_the_driver() {
        let mut bytes = packet(24, 24, 24);
        bytes[16] ^= 1;
        assert!(buffered(Encoding::Os2, 1, &mut bytes, |_| panic!("reached the driver")).is_err());
        let mut bytes = packet(24, MAX_REQUEST_BYTES as u32 + 1, 24);
        let result = buffered(Encoding::Os2, 1, &mut bytes, |_| panic!("reached the driver"));
        assert_eq!(result, Err(Refused::Status(VERR_TOO_MUCH_DATA)));
    }

    #[test]
    fn the_host_clocks_move() {
        let (ns, tsc) = (host_monotonic_ns(), host_tsc());
        std::thread::sleep(Duration::from_millis(1));
        assert!(host_monotonic_ns() > ns);
        assert!(host_tsc() > tsc || !cfg!(any(target_arch = "x86", target_arch = "x86_64")));
    }
}
