//! The system calls that lead to the driver: open, ioctl, close, dup, exit.

use core::ffi::{c_int, c_ulong, c_void};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use fakekernel::context::{self, Process};
use fakekernel::user;

use super::devices::{devices, drop_private, enter};
use super::glue::current_thread;
use super::vm;

pub const EPERM: c_int = 1;
pub const ENOENT: c_int = 2;
pub const ENXIO: c_int = 6;
pub const ENOMEM: c_int = 12;
pub const EACCES: c_int = 13;
pub const EFAULT: c_int = 14;
pub const EBUSY: c_int = 16;
pub const EEXIST: c_int = 17;
pub const EINVAL: c_int = 22;
pub const ENOTTY: c_int = 25;

/// Open for reading and writing, as the kernel's own flags.
pub const RDWR: c_int = 3;

const IOCPARM_MAX: usize = 1 << 13;
const IOC_VOID: c_ulong = 0x2000_0000;
const IOC_OUT: c_ulong = 0x4000_0000;
const IOC_IN: c_ulong = 0x8000_0000;

/// An open file; all descriptors of it share it.
struct File {
    number: usize,
    node: usize,
}

impl Drop for File {
    fn drop(&mut self) {
        drop_private(self.number);
    }
}

/// A descriptor of a process. Dropping it closes it, in the context of the process.
pub struct Fd {
    process: Arc<Process>,
    file: Option<Arc<File>>,
}

static NEXT_FILE: AtomicUsize = AtomicUsize::new(1);

fn may_open(process: &Process, mode: c_int) -> bool {
    process.effective_uid == 0 || mode & 0o006 == 0o006
}

impl Fd {
    /// `open`.
    pub fn open(process: &Arc<Process>, name: &str, flags: c_int) -> Result<Self, c_int> {
        context::in_process(process, || {
            let node = {
                let devices = devices();
                let found = devices.nodes.iter().find(|(_, node)| node.name == name && !node.gone);
                let (address, node) = found.ok_or(ENOENT)?;
                if !may_open(process, node.mode) {
                    return Err(EACCES);
                }
                *address
            };
            let number = NEXT_FILE.fetch_add(1, Ordering::Relaxed);
            // Made first, so that private data goes even if open fails late.
            let file = Arc::new(File { number, node });
            let opened = enter(node, number, |devsw, node| unsafe {
                (devsw.open)(node, flags, 0x2000, current_thread())
            });
            match opened {
                None => Err(ENXIO),
                Some(0) => Ok(Self { process: process.clone(), file: Some(file) }),
                Some(error) => Err(error),
            }
        })
    }

    fn file(&self) -> &File {
        self.file.as_deref().expect("an open descriptor")
    }

    /// `ioctl` with an argument that is an address, or a number.
    pub fn ioctl(&self, code: u32, argument: usize) -> c_int {
        self.ioctl_by(&self.process, code, argument)
    }

    /// The same, from another process that has the descriptor too.
    pub fn ioctl_by(&self, process: &Arc<Process>, code: u32, argument: usize) -> c_int {
        context::in_process(process, || self.sys_ioctl(c_ulong::from(code), argument))
    }

    /// What the kernel does before and after the driver: it buffers what has a size.
    fn sys_ioctl(&self, code: c_ulong, argument: usize) -> c_int {
        let size = (code >> 16) as usize & (IOCPARM_MAX - 1);
        let direction = code & (IOC_VOID | IOC_OUT | IOC_IN);
        let odd_void = code & IOC_VOID != 0 && size > 0 && size != size_of::<c_int>();
        if direction == 0 || (code & (IOC_IN | IOC_OUT) != 0 && size == 0) || odd_void {
            return ENOTTY;
        }
        let mut words = vec![0_u64; size.div_ceil(8).max(1)];
        let data: *mut u8 = words.as_mut_ptr().cast();
        if size == 0 || code & IOC_VOID != 0 {
            words[0] = argument as u64;
        } else if code & IOC_IN != 0 && !unsafe { user::copy_in(data, argument, size) } {
            return EFAULT;
        }
        let file = self.file();
        let done = enter(file.node, file.number, |devsw, node| unsafe {
            (devsw.ioctl)(node, code, words.as_mut_ptr().cast(), RDWR, current_thread())
        });
        let Some(error) = done else { return ENXIO };
        if error == 0
            && code & IOC_OUT != 0
            && !unsafe { user::copy_out(argument, words.as_ptr().cast(), size) }
        {
            return EFAULT;
        }
        assert!(error >= 0, "negative errors mean something else to the kernel");
        error
    }

    /// `ioctl` with a packet.
    pub fn packet(&self, code: u32, packet: &mut [u8]) -> c_int {
        self.ioctl(code, packet.as_mut_ptr() as usize)
    }

    /// The descriptor in a child, after `fork`.
    pub fn inherit(&self, child: &Arc<Process>) -> Self {
        Self { process: child.clone(), file: self.file.clone() }
    }

    /// `close`, seen from a thread of the kernel instead of the process.
    pub fn close_elsewhere(mut self) {
        drop(self.file.take());
    }
}

impl Drop for Fd {
    fn drop(&mut self) {
        let file = self.file.take();
        context::in_process(&self.process, || drop(file));
    }
}

/// A process dies: files first, its address space afterwards.
pub fn exit(process: &Arc<Process>, descriptors: Vec<Fd>) {
    drop(descriptors);
    vm::exit(process);
}
