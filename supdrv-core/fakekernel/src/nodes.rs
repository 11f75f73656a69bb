//! The device nodes of a fake kernel as a [`Transport`]: the conformance suite comes in through the system calls.

use std::sync::Arc;

use supctl::pages::Pages;
use supctl::transport::{Capabilities, Device, Node, OpenError, Refused, Transport};
use supdrv_core::abi::Status;
use supdrv_core::abi::ioctl::Encoding;
use supdrv_core::abi::requests::RequestHeader;
use supdrv_core::abi::status::{VERR_INTERNAL_ERROR, VERR_INVALID_POINTER, VERR_NO_MEMORY};
use supdrv_core::driver::Counters;
use zerocopy::{FromBytes, IntoBytes};

use crate::context::{self, Process};

/// The system calls of a fake kernel.
pub trait SystemCalls: Send + Sync + 'static {
    /// A descriptor.
    type Fd: Send + Sync;

    /// What it is, for people.
    const NAME: &'static str;

    /// How function codes are made.
    const ENCODING: Encoding;

    /// The error number of a node that doesn't exist.
    const ENOENT: i32 = 2;
    /// The error number of a lack of memory.
    const ENOMEM: i32 = 12;
    /// The error number of memory that isn't there.
    const EFAULT: i32 = 14;
    /// The error number of a request that the driver refuses.
    const EINVAL: i32 = 22;
    /// The error number of a code that isn't for devices.
    const ENOTTY: i32 = 25;

    /// Opens a node for reading and writing.
    ///
    /// # Errors
    /// The error number.
    fn open(process: &Arc<Process>, node: &str) -> Result<Self::Fd, i32>;

    /// Makes the call; its value on success.
    ///
    /// # Errors
    /// The error number.
    fn ioctl(fd: &Self::Fd, process: &Arc<Process>, code: u32, argument: usize) -> Result<i32, i32>;

    /// What exists in the driver.
    fn counters() -> Option<Counters>;

    /// Whether processes that share a descriptor share its session.
    const SHARES_SESSIONS: bool = true;
    /// The error number of a second open in a process, where it can have one session only.
    const SECOND_OPEN: Option<i32> = None;
    /// Whether there is a restricted node.
    const HAS_RESTRICTED_NODE: bool = true;
    /// Whether the kernel can map locked pages of processes; if not, that is not supported.
    const MAPS_LOCKED_PAGES: bool = true;

    /// Who opens a node when the process has one open already: where it can have one session only, another one of the same user.
    #[must_use]
    fn second_opener(process: &Arc<Process>) -> Arc<Process> {
        if Self::SECOND_OPEN.is_none() {
            return process.clone();
        }
        Arc::new(Process::new(process.effective_uid).with_real_ids(process.real_uid, process.real_gid))
    }

    /// How a fast call ends that finds no VM.
    #[must_use]
    fn fast_refusal() -> Refused {
        Refused::Status(VERR_INTERNAL_ERROR)
    }
}

/// A machine's nodes, opened by a process of the superuser.
pub struct Nodes<S: SystemCalls> {
    process: Arc<Process>,
    _calls: core::marker::PhantomData<S>,
}

impl<S: SystemCalls> Nodes<S> {
    /// For a process.
    #[must_use]
    pub fn new(process: Arc<Process>) -> Self {
        Self { process, _calls: core::marker::PhantomData }
    }

    /// A descriptor that is open already, used by a process.
    #[must_use]
    pub fn device(fd: S::Fd, process: Arc<Process>) -> Box<dyn Device> {
        Box::new(OpenNode::<S> { fd, process })
    }
}

struct OpenNode<S: SystemCalls> {
    fd: S::Fd,
    process: Arc<Process>,
}

impl<S: SystemCalls> Transport for Nodes<S> {
    fn describe(&self) -> String {
        S::NAME.into()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            other_process: S::SHARES_SESSIONS,
            programs: false,
            shared_pages: true,
            kernel_addresses: true,
            runs_code: true,
            fast_calls: true,
            real_time: true,
        }
    }

    fn encoding(&self) -> Encoding {
        S::ENCODING
    }

    fn has_restricted_node(&self) -> bool {
        S::HAS_RESTRICTED_NODE
    }

    fn maps_locked_pages(&self) -> bool {
        S::MAPS_LOCKED_PAGES
    }

    fn refusal(&self, status: Status) -> Refused {
        Refused::Os(match status {
            VERR_INVALID_POINTER => S::EFAULT,
            VERR_NO_MEMORY => S::ENOMEM,
            _ => S::EINVAL,
        })
    }

    fn open(&self, node: Node) -> Result<Box<dyn Device>, OpenError> {
        let name = match node {
            Node::Unrestricted => "vboxdrv",
            Node::Restricted => "vboxdrvu",
        };
        let mut process = self.process.clone();
        let mut opened = S::open(&process, name);
        if opened.as_ref().err().is_some_and(|error| Some(*error) == S::SECOND_OPEN) {
            process = S::second_opener(&process);
            opened = S::open(&process, name);
        }
        match opened {
            Ok(fd) => Ok(Self::device(fd, process)),
            Err(error) if error == S::ENOENT => Err(OpenError::NotFound { node: name.into() }),
            Err(error) => Err(OpenError::Other { node: name.into(), reason: format!("error {error}") }),
        }
    }

    fn apic_id(&self) -> u8 {
        context::cpu() as u8
    }

    /// The machine knows pages of processes by their addresses, so that none is used again for others.
    fn user_pages(&self, count: usize) -> Option<Pages> {
        let pages = core::mem::ManuallyDrop::new(Pages::new(count)?);
        // SAFETY: the pages stay for ever, and nobody else has them.
        Some(unsafe { Pages::of_owner(pages.address(), pages.count(), Box::new(())) })
    }

    fn counters(&self) -> Option<Counters> {
        S::counters()
    }
}

/// Bytes that a system might touch for this code and packet.
fn reach<S: SystemCalls>(code: u32, packet: &[u8]) -> usize {
    let header = RequestHeader::read_from_prefix(packet).map(|(header, _)| header);
    let claimed = header.map_or(0, |header| header.in_bytes.max(header.out_bytes) as usize);
    // More than any shell takes: what lies behind isn't touched.
    let claimed = claimed.min(supdrv_core::abi::ioctl::MAX_REQUEST_BYTES);
    claimed.max(S::ENCODING.size_field(code) as usize).max(packet.len())
}

impl<S: SystemCalls> OpenNode<S> {
    fn call(&self, process: &Arc<Process>, code: u32, packet: &mut [u8]) -> Result<(), Refused> {
        let mut words = vec![0_u64; reach::<S>(code, packet).div_ceil(8)];
        let copy = words.as_mut_bytes();
        if let Some(place) = copy.get_mut(..packet.len()) {
            place.copy_from_slice(packet);
        }
        let refused = |error| match error {
            // What is left in a code of a size that has no room there: the system stops that before the driver sees it.
            error if error == S::ENOTTY && S::ENCODING.size_field(code) == 0 => Refused::Os(S::EINVAL),
            error => Refused::Os(error),
        };
        let value = S::ioctl(&self.fd, process, code, copy.as_ptr() as usize).map_err(refused)?;
        assert_eq!(value, 0, "requests return nothing but success");
        // A system may copy more than the answer back: that belongs to the caller's buffer, not to the answer.
        let answer = RequestHeader::read_from_prefix(copy).map_or(0, |(header, _)| header.out_bytes as usize);
        let answer = answer.min(packet.len());
        if let (Some(to), Some(from)) = (packet.get_mut(..answer), copy.get(..answer)) {
            to.copy_from_slice(from);
        }
        Ok(())
    }
}

impl<S: SystemCalls> Device for OpenNode<S> {
    fn ioctl(&self, code: u32, packet: &mut [u8]) -> Result<(), Refused> {
        self.call(&self.process, code, packet)
    }

    /// The status comes as the value of the call or as its error number, on most systems without the sign.
    fn fast(&self, code: u32, cpu_id: u32) -> Result<(), Refused> {
        match S::ioctl(&self.fd, &self.process, code, cpu_id as usize) {
            Ok(0) => Ok(()),
            Ok(value) => Err(Refused::Status(Status(value))),
            Err(error) if error.saturating_abs() == -VERR_INTERNAL_ERROR.0 => {
                Err(Refused::Status(VERR_INTERNAL_ERROR))
            }
            Err(error) => Err(Refused::Os(error)),
        }
    }

    unsafe fn ioctl_at(&self, code: u32, address: usize) -> Option<Result<(), Refused>> {
        Some(S::ioctl(&self.fd, &self.process, code, address).map(drop).map_err(Refused::Os))
    }

    fn ioctl_from_other_process(&self, code: u32, packet: &mut [u8]) -> Option<Result<(), Refused>> {
        Some(self.call(&Arc::new(Process::new(0)), code, packet))
    }
}
