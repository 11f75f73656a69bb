//! The system calls and the machine, for the tests that all shims have.

use core::ffi::c_void;
use std::sync::Arc;

use fakekernel::context::Process;
use fakekernel::nodes::SystemCalls;
use fakekernel::suite::ShimUnderTest;
use supdrv_core::abi::idc::IdcRequest;
use supdrv_core::abi::ioctl::Encoding;
use supdrv_core::driver::Counters;

use super::processes::{self, Fd};
use super::{Kernel, SUPDrvDarwinIDC, boot, iokit, machine};

/// This kernel's.
pub struct Calls;

impl SystemCalls for Calls {
    type Fd = Fd;
    const NAME: &'static str = "the Darwin kernel extension on a fake kernel";
    const ENCODING: Encoding = Encoding::Bsd;
    const SHARES_SESSIONS: bool = false;
    const SECOND_OPEN: Option<i32> = Some(processes::EEXIST);

    fn open(process: &Arc<Process>, node: &str) -> Result<Fd, i32> {
        Fd::connect_and_open(process, node)
    }

    fn ioctl(fd: &Fd, process: &Arc<Process>, code: u32, argument: usize) -> Result<i32, i32> {
        match fd.ioctl_by(process, code, argument) {
            0 => Ok(0),
            error => Err(error),
        }
    }

    fn counters() -> Option<Counters> {
        supdrv_darwin::counters()
    }
}

impl ShimUnderTest for Calls {
    type Kernel = Kernel;
    const EBUSY: i32 = 5;
    const HAS_UNMAPPED_PAGES: bool = false;
    const LOCKED_PAGES: &'static str = "wired user pages";
    const GONE_WITH_THE_SESSION: &'static [&'static str] =
        &["wired user pages", "user mappings", "kernel mappings", "IOMemoryMaps", "connections"];
    const MUST_HAVE_FAILED: &'static [&'static str] = &[
        "IOMalloc",
        "cdevsw_add",
        "copyin",
        "createMappingInTask",
        "devfs_make_node",
        "inTaskWithPhysicalMask",
        "lck_grp_alloc_init",
        "lck_mtx_alloc_init",
        "lck_spin_alloc_init",
        "prepare",
        "registerPrioritySleepWakeInterest",
        "sysctlbyname",
        "thread_call_allocate",
        "vm_protect",
        "withAddressRange",
    ];

    fakekernel::shim_machine!(Kernel, boot, machine);

    unsafe fn idc(request: IdcRequest, packet: *mut c_void) -> i32 {
        unsafe { SUPDrvDarwinIDC(request.code(Self::ENCODING), packet) }
    }

    fn inherit(fd: &Fd, child: &Arc<Process>) -> Fd {
        fd.inherit(child)
    }

    fn exit(process: &Arc<Process>) {
        processes::exit(process);
    }

    fn unmap(process: &Arc<Process>, address: usize, _bytes: usize) {
        iokit::munmap(process, address);
    }

    fn mappings(process: &Arc<Process>) -> usize {
        iokit::mapping_count(process)
    }
}
