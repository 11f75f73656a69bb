//! Processes, and the ways from them to the driver: the connection of I/O Kit, open, ioctl, close, exit.

use core::ffi::{c_int, c_ulong, c_void};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};

use fakekernel::context::{self, Process};
use fakekernel::{user, violation};

use super::{
    devices, iokit, lock, machine, must_fail, supdrv_darwin_client_close, supdrv_darwin_client_start,
};

pub const ENOENT: c_int = 2;
pub const EIO: c_int = 5;
pub const ENXIO: c_int = 6;
pub const EACCES: c_int = 13;
pub const EFAULT: c_int = 14;
pub const EEXIST: c_int = 17;
pub const EINVAL: c_int = 22;

/// The structures of a process, for ever: nobody may find them used again by accident.
#[repr(C)]
struct Structures {
    task: [u64; 2],
    map: [u64; 2],
    process: Process,
}

/// By process id.
static STRUCTURES: Mutex<BTreeMap<u32, usize>> = Mutex::new(BTreeMap::new());

fn structures(process: &Process) -> &'static Structures {
    let mut all = lock(&STRUCTURES);
    let place = *all.entry(process.pid).or_insert_with(|| {
        let mut copy = Process::new(process.effective_uid).with_real_ids(process.real_uid, process.real_gid);
        (copy.pid, copy.is_32bit) = (process.pid, process.is_32bit);
        Box::leak(Box::new(Structures { task: [0; 2], map: [0; 2], process: copy })) as *const _ as usize
    });
    unsafe { &*(place as *const Structures) }
}

/// The `proc_t` of the current process.
pub fn current_proc() -> *mut c_void {
    (&raw const structures(&context::process()).process).cast_mut().cast()
}

/// The task of a process.
pub fn task_of(process: &Process) -> usize {
    &raw const structures(process).task as usize
}

unsafe fn process_of(proc: *mut c_void) -> &'static Process {
    &*proc.cast::<Process>()
}

#[unsafe(no_mangle)]
pub extern "C" fn darwin_proc_selfpid() -> c_int {
    context::process().pid.cast_signed()
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn darwin_proc_pid(proc: *mut c_void) -> c_int {
    process_of(proc).pid.cast_signed()
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn darwin_proc_is64bit(proc: *mut c_void) -> c_int {
    (!process_of(proc).is_32bit).into()
}

#[unsafe(no_mangle)]
pub extern "C" fn darwin_current_task() -> usize {
    let process = context::process();
    if process.pid == 0 { iokit::KERNEL_TASK } else { task_of(&process) }
}

#[unsafe(no_mangle)]
pub extern "C" fn darwin_get_task_map(task: usize) -> usize {
    task + core::mem::offset_of!(Structures, map)
}

#[unsafe(no_mangle)]
pub extern "C" fn darwin_kauth_cred_proc_ref(proc: *mut c_void) -> *mut c_void {
    context::may_sleep("kauth_cred_proc_ref");
    machine().ledger.add("credentials", 1);
    proc
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn darwin_kauth_cred_unref(credential: *mut *mut c_void) {
    context::may_sleep("kauth_cred_unref");
    machine().ledger.add("credentials", -1);
    credential.write(core::ptr::null_mut());
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn darwin_kauth_cred_getruid(credential: *mut c_void) -> u32 {
    process_of(credential).real_uid
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn darwin_kauth_cred_getrgid(credential: *mut c_void) -> u32 {
    process_of(credential).real_gid
}

#[unsafe(no_mangle)]
pub extern "C" fn darwin_kauth_getruid() -> u32 {
    context::process().real_uid
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn darwin_copyin(from: usize, to: *mut u8, bytes: usize) -> c_int {
    context::may_sleep("copyin");
    if must_fail("copyin") || !user::copy_in(to, from, bytes) { EFAULT } else { 0 }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn darwin_copyout(from: *const u8, to: usize, bytes: usize) -> c_int {
    context::may_sleep("copyout");
    if must_fail("copyout") || !user::copy_out(to, from, bytes) { EFAULT } else { 0 }
}

// ---- I/O Kit connections ----

static SERVICE: AtomicBool = AtomicBool::new(false);

/// The service appears, or goes.
pub fn publish(there: bool) {
    SERVICE.store(there, Ordering::Release);
}

static NEXT_CLIENT: AtomicUsize = AtomicUsize::new(0xffff_ff80_3000_0000);
/// All connections, for the end of their processes.
static CONNECTIONS: Mutex<Vec<(u32, Weak<Connection>)>> = Mutex::new(Vec::new());

/// An instance of the user client. When the last right to it is gone, it is closed, by whoever had it.
pub struct Connection {
    client: usize,
}

impl Connection {
    /// `IOServiceOpen`, in a process.
    pub fn open(process: &Arc<Process>) -> Result<Arc<Self>, c_int> {
        if !SERVICE.load(Ordering::Acquire) {
            return Err(ENOENT);
        }
        let client = NEXT_CLIENT.fetch_add(0x200, Ordering::Relaxed);
        let error =
            context::in_process(process, || unsafe { supdrv_darwin_client_start(client as *mut c_void) });
        if error != 0 {
            return Err(error);
        }
        machine().ledger.add("connections", 1);
        let connection = Arc::new(Self { client });
        let mut all = lock(&CONNECTIONS);
        all.retain(|(_, connection)| connection.strong_count() != 0);
        all.push((process.pid, Arc::downgrade(&connection)));
        Ok(connection)
    }

    /// `IOServiceClose`, by the current process.
    pub fn close(&self) {
        unsafe { supdrv_darwin_client_close(self.client as *mut c_void) };
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.close();
        machine().ledger.add("connections", -1);
    }
}

// ---- files ----

/// An open file; all descriptors of it share it.
struct File {
    dev: c_int,
}

impl Drop for File {
    fn drop(&mut self) {
        devices::close(self.dev);
    }
}

/// A descriptor of a process, and the connection that it needed. Dropping it closes both, the descriptor first, in the context of the process.
pub struct Fd {
    process: Arc<Process>,
    file: Option<Arc<File>>,
    connection: Option<Arc<Connection>>,
}

const IOC_VOID: c_ulong = 0x2000_0000;
const IOC_OUT: c_ulong = 0x4000_0000;
const IOC_IN: c_ulong = 0x8000_0000;

impl Fd {
    /// `open`, without a connection.
    pub fn open(process: &Arc<Process>, name: &str) -> Result<Self, c_int> {
        let node = devices::nodes().into_iter().find(|node| node.name == name).ok_or(ENOENT)?;
        if process.effective_uid != 0 && node.mode & 0o006 != 0o006 {
            return Err(EACCES);
        }
        Self::open_dev(process, node.dev)
    }

    /// The same, for a device number.
    pub fn open_dev(process: &Arc<Process>, dev: c_int) -> Result<Self, c_int> {
        match context::in_process(process, || devices::open(dev)) {
            0 => Ok(Self { process: process.clone(), file: Some(Arc::new(File { dev })), connection: None }),
            error => Err(error),
        }
    }

    /// `IOServiceOpen`, and then `open`, as clients do it.
    pub fn connect_and_open(process: &Arc<Process>, name: &str) -> Result<Self, c_int> {
        let connection = Connection::open(process)?;
        let mut opened = Self::open(process, name);
        match &mut opened {
            Ok(fd) => fd.connection = Some(connection),
            Err(_) => context::in_process(process, || drop(connection)),
        }
        opened
    }

    fn dev(&self) -> c_int {
        self.file.as_ref().expect("an open descriptor").dev
    }

    /// `ioctl` of the descriptor's process.
    pub fn ioctl(&self, code: u32, argument: usize) -> c_int {
        self.ioctl_by(&self.process, code, argument)
    }

    /// The same, from another process that has the descriptor too.
    pub fn ioctl_by(&self, process: &Arc<Process>, code: u32, argument: usize) -> c_int {
        context::in_process(process, || self.sys_ioctl(c_ulong::from(code), argument, process.is_32bit))
    }

    /// What the kernel does before and after the driver: it buffers what has a size.
    fn sys_ioctl(&self, code: c_ulong, argument: usize, is_32bit: bool) -> c_int {
        let size = (code >> 16) as usize & 0x1fff;
        let mut words = vec![0xa5a5_a5a5_a5a5_a5a5_u64; size.div_ceil(8).max(1)];
        let data: *mut u8 = words.as_mut_ptr().cast();
        if code & IOC_IN != 0 && size != 0 {
            if !unsafe { user::copy_in(data, argument, size) } {
                return EFAULT;
            }
        } else if code & IOC_OUT != 0 && size != 0 {
            words.fill(0);
        } else if is_32bit {
            unsafe { data.cast::<u32>().write(argument as u32) };
        } else if code & (IOC_IN | IOC_VOID) != 0 {
            words[0] = argument as u64;
        }
        let error = devices::ioctl(self.dev(), code, words.as_mut_ptr().cast());
        if error == 0
            && code & IOC_OUT != 0
            && size != 0
            && !unsafe { user::copy_out(argument, words.as_ptr().cast(), size) }
        {
            return EFAULT;
        }
        error
    }

    /// `ioctl` with a packet.
    pub fn packet(&self, code: u32, packet: &mut [u8]) -> c_int {
        self.ioctl(code, packet.as_mut_ptr() as usize)
    }

    /// The descriptor in a child, after `fork`: connections aren't inherited.
    pub fn inherit(&self, child: &Arc<Process>) -> Self {
        Self { process: child.clone(), file: self.file.clone(), connection: None }
    }

    /// The connection, to be given to another process.
    pub fn connection(&self) -> Arc<Connection> {
        self.connection.clone().expect("a connection")
    }
}

impl Drop for Fd {
    fn drop(&mut self) {
        let (file, connection) = (self.file.take(), self.connection.take());
        context::in_process(&self.process, || {
            drop(file);
            drop(connection);
        });
    }
}

/// A process dies, its descriptors being closed: its connections, and then its address space.
pub fn exit(process: &Arc<Process>) {
    let mine: Vec<_> = lock(&CONNECTIONS)
        .iter()
        .filter(|(pid, _)| *pid == process.pid)
        .filter_map(|(_, connection)| connection.upgrade())
        .collect();
    context::in_process(process, || mine.iter().for_each(|connection| connection.close()));
    if iokit::wired_pages(process) != 0 {
        violation("the exit of a process waits for its wired pages, for ever");
    }
    iokit::exit(process);
}
