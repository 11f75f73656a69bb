//! The system calls and the machine, for the tests that all shims have.

use core::ffi::c_void;
use std::sync::Arc;

use fakekernel::context::Process;
use fakekernel::nodes::SystemCalls;
use fakekernel::suite::ShimUnderTest;
use supctl::transport::Refused;
use supdrv_core::abi::idc::IdcRequest;
use supdrv_core::abi::ioctl::Encoding;
use supdrv_core::driver::Counters;

use super::shell::{self, DONE, GENERAL_FAILURE, Ioctl, supdrv_os2_idc};
use super::{Kernel, boot, machine, memory};

/// This kernel's.
pub struct Calls;

/// An open file of a process. Dropping it closes it, in the context of the process.
pub struct Fd {
    pub process: Arc<Process>,
    pub number: u16,
}

impl Drop for Fd {
    fn drop(&mut self) {
        assert_eq!(shell::close(&self.process, self.number), DONE);
        shell::give_number(self.number);
    }
}

const FAILURE: i32 = GENERAL_FAILURE as i32;

impl SystemCalls for Calls {
    type Fd = Fd;
    const NAME: &'static str = "the OS/2 driver on a fake kernel";
    const ENCODING: Encoding = Encoding::Os2;
    const SHARES_SESSIONS: bool = false;
    const HAS_RESTRICTED_NODE: bool = false;
    const MAPS_LOCKED_PAGES: bool = false;
    const ENOMEM: i32 = FAILURE;
    const EFAULT: i32 = FAILURE;
    const EINVAL: i32 = FAILURE;

    /// There is one device.
    fn open(process: &Arc<Process>, node: &str) -> Result<Fd, i32> {
        if node != "vboxdrv" || !shell::is_running() {
            return Err(Self::ENOENT);
        }
        let number = shell::take_number();
        match shell::open(process, number) {
            DONE => Ok(Fd { process: process.clone(), number }),
            status => {
                shell::give_number(number);
                Err(status.into())
            }
        }
    }

    fn ioctl(fd: &Fd, process: &Arc<Process>, code: u32, argument: usize) -> Result<i32, i32> {
        let cpu_id = (argument as u32).to_le_bytes();
        let function = u8::try_from(code).expect("a function number");
        let ordinary = Ioctl::ordinary(function, argument);
        let request = match (function, argument) {
            (0x40..=0x42, 0) => Ioctl { category: 0xc1, parameter_bytes: 0, ..ordinary },
            (0x40..=0x42, _) => {
                Ioctl { category: 0xc1, parameter: cpu_id.as_ptr() as usize, parameter_bytes: 4, ..ordinary }
            }
            _ => ordinary,
        };
        match request.send(process, fd.number).0 {
            DONE => Ok(0),
            status => Err(status.into()),
        }
    }

    fn counters() -> Option<Counters> {
        supdrv_os2::counters()
    }

    /// No status gets through.
    fn fast_refusal() -> Refused {
        Refused::Os(FAILURE)
    }
}

impl ShimUnderTest for Calls {
    type Kernel = Kernel;
    const HAS_USERS: bool = false;
    const HAS_UNMAPPED_PAGES: bool = false;
    const LOCKED_PAGES: &'static str = memory::LOCKED_PAGES;
    const GONE_WITH_THE_SESSION: &'static [&'static str] = &[memory::LOCKED_PAGES, memory::PROCESS_MAPPINGS];
    const MUST_HAVE_FAILED: &'static [&'static str] = &[
        "a heap block",
        "KernVMAlloc",
        "KernVMLock",
        "KernLinToPageList",
        "KernCopyIn",
        "KernCopyOut",
        "VMGlobalToProcess",
        "VirtToLin",
        "SetTimer",
    ];

    fakekernel::shim_machine!(Kernel, boot, machine);

    unsafe fn idc(request: IdcRequest, packet: *mut c_void) -> i32 {
        unsafe { supdrv_os2_idc(request.code(Self::ENCODING), packet) }
    }

    fn inherit(_fd: &Fd, _child: &Arc<Process>) -> Fd {
        panic!("sessions belong to the process that opened the file")
    }

    fn exit(process: &Arc<Process>) {
        memory::exit(process);
    }

    fn unmap(process: &Arc<Process>, address: usize, _bytes: usize) {
        memory::unmap(process, address);
    }

    fn mappings(process: &Arc<Process>) -> usize {
        memory::mapping_count(process)
    }
}
