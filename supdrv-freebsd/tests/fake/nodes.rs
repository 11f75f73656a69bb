//! The system calls and the machine, for the tests that all shims have.

use core::ffi::c_void;
use std::sync::Arc;

use fakekernel::context::Process;
use fakekernel::nodes::SystemCalls;
use fakekernel::suite::ShimUnderTest;
use supdrv_core::abi::idc::IdcRequest;
use supdrv_core::abi::ioctl::Encoding;
use supdrv_core::driver::Counters;

use super::syscalls::{self, Fd, RDWR};
use super::{Kernel, SUPDrvFreeBSDIDC, boot, machine, vm};

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

impl ShimUnderTest for Calls {
    type Kernel = Kernel;
    const LOCKED_PAGES: &'static str = "wired user pages";
    const GONE_WITH_THE_SESSION: &'static [&'static str] = &["wired user pages", "held pages", "map entries"];
    const MUST_HAVE_FAILED: &'static [&'static str] = &[
        "make_dev_s",
        "devfs_set_cdevpriv",
        "kva_alloc",
        "vm_map_find",
        "vm_map_wire",
        "vm_page_alloc_contig",
        "copyin",
    ];

    fakekernel::shim_machine!(Kernel, boot, machine);

    unsafe fn idc(request: IdcRequest, packet: *mut c_void) -> i32 {
        unsafe { SUPDrvFreeBSDIDC(request.code(Self::ENCODING), packet) }
    }

    fn inherit(fd: &Fd, child: &Arc<Process>) -> Fd {
        fd.inherit(child)
    }

    fn exit(process: &Arc<Process>) {
        syscalls::exit(process, Vec::new());
    }

    fn unmap(process: &Arc<Process>, address: usize, bytes: usize) {
        vm::munmap(process, address, bytes);
    }

    fn mappings(process: &Arc<Process>) -> usize {
        vm::mapping_count(process)
    }
}

/// The way to the driver through its nodes.
pub type Nodes = fakekernel::nodes::Nodes<Calls>;
