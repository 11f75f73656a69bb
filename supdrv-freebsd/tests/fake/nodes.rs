//! The system calls, for the conformance suite.

use std::sync::Arc;

use fakekernel::context::Process;
use fakekernel::nodes::SystemCalls;
use supdrv_core::abi::ioctl::Encoding;
use supdrv_core::driver::Counters;

use super::syscalls::{Fd, RDWR};

/// This kernel's.
pub struct Calls;

impl SystemCalls for Calls {
    type Fd = Fd;
    const NAME: &'static str = "the FreeBSD module on a fake kernel";
    const ENCODING: Encoding = Encoding::Bsd;

    fn open(process: &Arc<Process>, node: &str) -> Result<Fd, i32> {
        Fd::open(process, node, RDWR)
    }

    fn ioctl(fd: &Fd, process: &Arc<Process>, code: u32, argument: usize) -> Result<i32, i32> {
        match fd.ioctl_by(process, code, argument) {
            0 => Ok(0),
            error => Err(error),
        }
    }

    fn counters() -> Option<Counters> {
        supdrv_freebsd::counters()
    }
}

/// The way to the driver through its nodes.
pub type Nodes = fakekernel::nodes::Nodes<Calls>;
