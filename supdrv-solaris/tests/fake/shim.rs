//! The system calls and the machine, for the tests that all shims have.

use core::ffi::c_void;
use std::sync::Arc;

use fakekernel::context::Process;
use fakekernel::nodes::SystemCalls;
use fakekernel::suite::ShimUnderTest;
use supdrv_core::abi::idc::IdcRequest;
use supdrv_core::abi::ioctl::Encoding;
use supdrv_core::driver::Counters;

use super::framework::{self, Fd, SUPDrvSolarisIDC};
use super::{Kernel, boot, machine, space};

/// The system calls, for the conformance suite.
pub struct Calls;

impl SystemCalls for Calls {
    type Fd = Fd;
    const NAME: &'static str = "the Solaris driver on a fake kernel";
    const ENCODING: Encoding = Encoding::Solaris;

    fn open(process: &Arc<Process>, node: &str) -> Result<Fd, i32> {
        Fd::open(process, node)
    }

    fn ioctl(fd: &Fd, process: &Arc<Process>, code: u32, argument: usize) -> Result<i32, i32> {
        fd.ioctl_by(process, code, argument)
    }

    fn counters() -> Option<Counters> {
        supdrv_solaris::counters()
    }
}

impl ShimUnderTest for Calls {
    type Kernel = Kernel;
    const LOCKED_PAGES: &'static str = "locked pages";
    const GONE_WITH_THE_SESSION: &'static [&'static str] = &["locked pages", "segments"];
    const MUST_HAVE_FAILED: &'static [&'static str] = &[
        "mod_install",
        "ddi_create_priv_minor_node",
        "id_alloc_nosleep",
        "ddi_umem_alloc",
        "contig_alloc",
        "vmem_alloc",
        "as_map",
        "umem_lockmemory",
        "hat_getpfnum",
        "ddi_copyin",
    ];

    fakekernel::shim_machine!(Kernel, boot, machine);

    unsafe fn idc(request: IdcRequest, packet: *mut c_void) -> i32 {
        unsafe { SUPDrvSolarisIDC(request.code(Self::ENCODING), packet) }
    }

    fn inherit(fd: &Fd, child: &Arc<Process>) -> Fd {
        fd.inherit(child)
    }

    fn exit(process: &Arc<Process>) {
        framework::exit(process, Vec::new());
    }

    fn unmap(process: &Arc<Process>, address: usize, _bytes: usize) {
        space::munmap(process, address);
    }

    fn mappings(process: &Arc<Process>) -> usize {
        space::mapping_count(process)
    }
}

/// The way to the driver through its nodes.
pub type Nodes = fakekernel::nodes::Nodes<Calls>;
