//! The device framework, which finds the driver through its tables, and the system calls.

use core::ffi::{CStr, c_char, c_int, c_long, c_void};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use fakekernel::context::{self, Process};
use fakekernel::nodes::SystemCalls;
use fakekernel::{user, violation};
use supdrv_core::abi::ioctl::Encoding;
use supdrv_core::driver::Counters;

use super::{lock, machine, space};

pub const EPERM: c_int = 1;
pub const ENOENT: c_int = 2;
pub const ENXIO: c_int = 6;
pub const EACCES: c_int = 13;
pub const EFAULT: c_int = 14;
pub const EBUSY: c_int = 16;
pub const EINVAL: c_int = 22;
pub const ENOTTY: c_int = 25;

const MAJOR: u32 = 250;
const OTYP_CHR: c_int = 2;
const FREAD_FWRITE: c_int = 3;
const MODEL_ILP32: u32 = 0x10_0000;
const MODEL_LP64: u32 = 0x20_0000;

unsafe extern "C" {
    fn solaris_module_init() -> c_int;
    fn solaris_module_fini() -> c_int;
    fn solaris_module_info(info: *mut c_void) -> c_int;
    pub fn SUPDrvSolarisIDC(code: u32, packet: *mut c_void) -> c_int;
}

// ---- the driver's tables, as the kernel lays them out ----

type OpenEntry = unsafe extern "C" fn(*mut u64, c_int, c_int, *const Process) -> c_int;
type CloseEntry = unsafe extern "C" fn(u64, c_int, c_int, *const Process) -> c_int;
type IoctlEntry = unsafe extern "C" fn(u64, c_int, isize, c_int, *const Process, *mut c_int) -> c_int;
type Attach = unsafe extern "C" fn(usize, c_int) -> c_int;

#[repr(C)]
pub struct CbOps {
    open: OpenEntry,
    close: CloseEntry,
    strategy: usize,
    print: usize,
    dump: usize,
    read: usize,
    write: usize,
    ioctl: IoctlEntry,
    devmap: usize,
    mmap: usize,
    segmap: usize,
    chpoll: usize,
    prop_op: usize,
    stream: usize,
    flags: c_int,
    revision: c_int,
    aread: usize,
    awrite: usize,
}

#[repr(C)]
pub struct DevOps {
    revision: c_int,
    references: c_int,
    getinfo: usize,
    identify: usize,
    probe: usize,
    attach: Attach,
    detach: Attach,
    reset: usize,
    cb_ops: *const CbOps,
    bus_ops: usize,
    power: usize,
    quiesce: unsafe extern "C" fn(usize) -> c_int,
}

#[repr(C)]
pub struct Modldrv {
    operations: *const c_void,
    description: *const c_char,
    dev_ops: *const DevOps,
}

#[repr(C)]
pub struct Modlinkage {
    revision: c_int,
    linkage: [*const Modldrv; 7],
}

#[derive(Clone)]
struct Minor {
    name: String,
    minor: u32,
    mode: u32,
}

#[derive(Default)]
struct Framework {
    dev_ops: Option<usize>,
    attached: bool,
    minors: Vec<Minor>,
    properties: BTreeSet<String>,
    opens: u32,
}

static FRAMEWORK: Mutex<Framework> = Mutex::new(Framework {
    dev_ops: None,
    attached: false,
    minors: Vec::new(),
    properties: BTreeSet::new(),
    opens: 0,
});
/// Loading, unloading, and the first part of an open exclude each other.
static CHANGES: Mutex<()> = Mutex::new(());
/// The device's structure.
const DIP: usize = 0xffff_fe00_0700_0000;

fn framework() -> std::sync::MutexGuard<'static, Framework> {
    lock(&FRAMEWORK)
}

fn dev_ops() -> Option<&'static DevOps> {
    framework().dev_ops.map(|address| unsafe { &*(address as *const DevOps) })
}

#[unsafe(no_mangle)]
pub static solaris_mod_driverops: u64 = 0;

#[unsafe(no_mangle)]
pub unsafe extern "C" fn solaris_mod_install(linkage: *const Modlinkage) -> c_int {
    context::may_sleep("mod_install");
    if machine().faults.must_fail("mod_install") {
        return EINVAL;
    }
    assert!((*linkage).revision == 1 && (*linkage).linkage[1].is_null());
    let driver = &*(*linkage).linkage[0];
    assert_eq!(driver.operations, (&raw const solaris_mod_driverops).cast());
    assert!(!CStr::from_ptr(driver.description).is_empty());
    let (ops, cb) = (&*driver.dev_ops, &*(*driver.dev_ops).cb_ops);
    assert_eq!((ops.revision, ops.references, cb.flags, cb.revision), (4, 0, 0x20, 1));
    assert!(ops.bus_ops == 0 && cb.stream == 0);
    framework().dev_ops = Some(driver.dev_ops as usize);
    machine().ledger.add("modules", 1);
    0
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn solaris_mod_remove(_linkage: *const Modlinkage) -> c_int {
    context::may_sleep("mod_remove");
    let mut framework = framework();
    if framework.attached || framework.opens != 0 {
        return EBUSY;
    }
    if framework.dev_ops.take().is_none() {
        violation("a module is removed that isn't installed");
    }
    machine().ledger.add("modules", -1);
    0
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn solaris_mod_info(_linkage: *const Modlinkage, info: *mut c_int) -> c_int {
    info.write(1);
    1
}

macro_rules! stubs {
    ($($name:ident)*) => {
        $(
            #[unsafe(no_mangle)]
            pub extern "C" fn $name() -> c_int {
                ENXIO
            }
        )*
    };
}
stubs! { solaris_nodev solaris_nulldev solaris_nochpoll solaris_ddi_prop_op }

/// `modload`: the driver is loaded, then its device attached.
pub fn load() -> c_int {
    let _change = lock(&CHANGES);
    let failed = unsafe { solaris_module_init() };
    if failed != 0 {
        return failed;
    }
    let mut info = 0_i32;
    assert!(unsafe { solaris_module_info((&raw mut info).cast()) } == 1 && info == 1);
    let ops = dev_ops().expect("an installed driver");
    if unsafe { (ops.attach)(DIP, 0) } != 0 {
        assert_eq!(unsafe { solaris_module_fini() }, 0);
        return ENXIO;
    }
    framework().attached = true;
    0
}

/// `modunload`: open devices are busy, others are detached first.
pub fn unload() -> c_int {
    let _change = lock(&CHANGES);
    if framework().opens != 0 {
        // Asked all the same, it must say no.
        assert_eq!(unsafe { solaris_module_fini() }, EBUSY);
        return EBUSY;
    }
    let Some(ops) = dev_ops() else { return EINVAL };
    if framework().attached {
        if unsafe { (ops.detach)(DIP, 0) } != 0 {
            return EBUSY;
        }
        framework().attached = false;
    }
    unsafe { solaris_module_fini() }
}

/// The system goes to sleep.
pub fn suspend() {
    assert!(framework().properties.contains("pm-hardware-state"), "nobody would tell the driver");
    assert_eq!(unsafe { (dev_ops().expect("a driver").detach)(DIP, 1) }, 0);
}

/// The system wakes up.
pub fn resume() {
    assert_eq!(unsafe { (dev_ops().expect("a driver").attach)(DIP, 1) }, 0);
}

// ---- services for drivers ----

unsafe fn text(string: *const c_char) -> String {
    CStr::from_ptr(string).to_string_lossy().into_owned()
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn solaris_ddi_create_priv_minor_node(
    dip: usize,
    name: *const c_char,
    kind: c_int,
    minor: u32,
    _node_type: *const c_char,
    flag: c_int,
    _read: *const c_char,
    _write: *const c_char,
    mode: u32,
) -> c_int {
    context::may_sleep("ddi_create_priv_minor_node");
    assert_eq!((dip, kind, flag), (DIP, 0x2000, 0));
    let name = text(name);
    let mut framework = framework();
    if machine().faults.must_fail("ddi_create_priv_minor_node")
        || framework.minors.iter().any(|other| other.name == name)
    {
        return -1;
    }
    framework.minors.push(Minor { name, minor, mode });
    machine().ledger.add("minor nodes", 1);
    0
}

#[unsafe(no_mangle)]
pub extern "C" fn solaris_ddi_remove_minor_node(dip: usize, name: *const c_char) {
    assert!(dip == DIP && name.is_null());
    let removed = core::mem::take(&mut framework().minors);
    machine().ledger.add("minor nodes", -(removed.len() as i64));
}

#[unsafe(no_mangle)]
pub extern "C" fn solaris_ddi_report_dev(dip: usize) {
    assert_eq!(dip, DIP);
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn solaris_ddi_prop_update_string(
    dev: u64,
    dip: usize,
    name: *const c_char,
    value: *const c_char,
) -> c_int {
    assert!(dev == u64::MAX && dip == DIP && text(value) == "needs-suspend-resume");
    if machine().faults.must_fail("ddi_prop_update_string") {
        return -1;
    }
    if framework().properties.insert(text(name)) {
        machine().ledger.add("properties", 1);
    }
    0
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn solaris_ddi_prop_remove(_dev: u64, dip: usize, name: *const c_char) -> c_int {
    assert_eq!(dip, DIP);
    if !framework().properties.remove(&text(name)) {
        return -1;
    }
    machine().ledger.add("properties", -1);
    0
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn solaris_ddi_prop_get_int(
    dev: u64,
    dip: usize,
    flags: u32,
    name: *const c_char,
    default: c_int,
) -> c_int {
    assert!(dev == u64::MAX - 1 && dip == DIP && flags == 1);
    let settings = *lock(&machine().settings);
    match text(name).as_str() {
        "hardened" => settings.hardened.into(),
        "allow-zones" => settings.allow_zones.into(),
        _ => default,
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn solaris_ddi_get_instance(dip: usize) -> c_int {
    assert_eq!(dip, DIP);
    0
}

static IDS: Mutex<Option<(c_int, c_int, BTreeSet<c_int>)>> = Mutex::new(None);
const ID_SPACE: usize = 0xffff_fe00_0800_0000;

#[unsafe(no_mangle)]
pub extern "C" fn solaris_id_space_create(_name: *const c_char, low: c_int, high: c_int) -> usize {
    context::may_sleep("id_space_create");
    machine().ledger.add("id spaces", 1);
    *lock(&IDS) = Some((low, high, BTreeSet::new()));
    ID_SPACE
}

#[unsafe(no_mangle)]
pub extern "C" fn solaris_id_space_destroy(space: usize) {
    assert_eq!(space, ID_SPACE);
    let ids = lock(&IDS).take();
    assert!(ids.is_some_and(|(_, _, used)| used.is_empty()), "an id space is destroyed while ids are in use");
    machine().ledger.add("id spaces", -1);
}

#[unsafe(no_mangle)]
pub extern "C" fn solaris_id_alloc_nosleep(space: usize) -> c_int {
    assert_eq!(space, ID_SPACE);
    if machine().faults.must_fail("id_alloc_nosleep") {
        return -1;
    }
    let mut ids = lock(&IDS);
    let Some((low, high, used)) = &mut *ids else { violation("no id space") };
    let free = (*low..*high).find(|id| !used.contains(id));
    free.inspect(|id| assert!(used.insert(*id))).unwrap_or(-1)
}

#[unsafe(no_mangle)]
pub extern "C" fn solaris_id_free(space: usize, id: c_int) {
    assert_eq!(space, ID_SPACE);
    let mut ids = lock(&IDS);
    if !ids.as_mut().is_some_and(|(_, _, used)| used.remove(&id)) {
        violation("an id is freed twice");
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn solaris_getminor(dev: u64) -> u32 {
    dev as u32
}

#[unsafe(no_mangle)]
pub extern "C" fn solaris_getmajor(dev: u64) -> u32 {
    (dev >> 32) as u32
}

#[unsafe(no_mangle)]
pub extern "C" fn solaris_makedevice(major: u32, minor: u32) -> u64 {
    u64::from(major) << 32 | u64::from(minor)
}

#[unsafe(no_mangle)]
pub extern "C" fn solaris_ddi_model_convert_from(model: u32) -> u32 {
    if model == MODEL_LP64 { 0 } else { model }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn solaris_crgetruid(cred: *const Process) -> u32 {
    (*cred).real_uid
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn solaris_crgetrgid(cred: *const Process) -> u32 {
    (*cred).real_gid
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn solaris_drv_priv(cred: *const Process) -> c_int {
    if (*cred).effective_uid == 0 { 0 } else { EPERM }
}

#[unsafe(no_mangle)]
pub extern "C" fn solaris_getzoneid() -> c_int {
    if context::process().jailed { 5 } else { 0 }
}

#[unsafe(no_mangle)]
pub extern "C" fn solaris_ddi_get_pid() -> u32 {
    context::process().pid
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn solaris_drv_getparm(parameter: u32, value: *mut usize) -> c_int {
    assert_eq!(parameter, 2);
    value.write(space::process_structure(&context::process()));
    0
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn solaris_ddi_copyin(from: usize, to: *mut u8, bytes: usize, mode: c_int) -> c_int {
    context::may_sleep("ddi_copyin");
    assert_eq!(mode, 0);
    if machine().faults.must_fail("ddi_copyin") || !user::copy_in(to, from, bytes) { -1 } else { 0 }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn solaris_ddi_copyout(from: *const u8, to: usize, bytes: usize, mode: c_int) -> c_int {
    context::may_sleep("ddi_copyout");
    assert_eq!(mode, 0);
    if machine().faults.must_fail("ddi_copyout") || !user::copy_out(to, from, bytes) { -1 } else { 0 }
}

// ---- arbitration of VT-x ----

unsafe extern "C" fn hma_register_exclusive(_name: *const c_char) -> *mut c_void {
    if lock(&machine().settings).vtx_is_taken {
        return core::ptr::null_mut();
    }
    machine().ledger.add("users of VT-x", 1);
    core::ptr::without_provenance_mut(0x2000)
}

unsafe extern "C" fn hma_unregister(registration: *mut c_void) {
    assert_eq!(registration as usize, 0x2000);
    machine().ledger.add("users of VT-x", -1);
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn solaris_modgetsymvalue(name: *const c_char, _kmem: c_int) -> usize {
    match text(name).as_str() {
        _ if !lock(&machine().settings).arbitration => 0,
        "hma_register_exclusive" => hma_register_exclusive as *const () as usize,
        "hma_unregister" => hma_unregister as *const () as usize,
        _ => 0,
    }
}

// ---- system calls ----

/// An open file; all descriptors of it share it.
struct File {
    dev: u64,
}

impl Drop for File {
    fn drop(&mut self) {
        let ops = dev_ops().expect("a driver that isn't unloaded under an open file");
        let process = context::process();
        let failed =
            unsafe { ((*ops.cb_ops).close)(self.dev, FREAD_FWRITE, OTYP_CHR, Arc::as_ptr(&process)) };
        assert_eq!(failed, 0, "close");
        framework().opens -= 1;
    }
}

/// A descriptor of a process. Dropping it closes it, in the context of the process.
pub struct Fd {
    process: Arc<Process>,
    file: Option<Arc<File>>,
}

impl Fd {
    /// `open` for reading and writing.
    pub fn open(process: &Arc<Process>, name: &str) -> Result<Self, c_int> {
        let minor = {
            let framework = framework();
            framework.minors.iter().find(|minor| minor.name == name).cloned().ok_or(ENOENT)?
        };
        if process.effective_uid != 0 && minor.mode & 0o006 != 0o006 {
            return Err(EACCES);
        }
        Self::open_dev(process, minor.minor, OTYP_CHR)
    }

    /// `open` of a node that somebody made with `mknod`.
    pub fn open_dev(process: &Arc<Process>, minor: u32, kind: c_int) -> Result<Self, c_int> {
        context::in_process(process, || {
            {
                let _change = lock(&CHANGES);
                let mut framework = framework();
                if !framework.attached {
                    return Err(ENXIO);
                }
                framework.opens += 1;
            }
            let ops = dev_ops().expect("an attached driver");
            let mut dev = solaris_makedevice(MAJOR, minor);
            let failed =
                unsafe { ((*ops.cb_ops).open)(&raw mut dev, FREAD_FWRITE, kind, Arc::as_ptr(process)) };
            if failed != 0 {
                framework().opens -= 1;
                return Err(failed);
            }
            Ok(Self { process: process.clone(), file: Some(Arc::new(File { dev })) })
        })
    }

    /// Its minor number.
    pub fn minor(&self) -> u32 {
        solaris_getminor(self.dev())
    }

    fn dev(&self) -> u64 {
        self.file.as_ref().expect("an open descriptor").dev
    }

    /// `ioctl`: its value, or the error number.
    pub fn ioctl(&self, code: u32, argument: usize) -> Result<c_int, c_int> {
        self.ioctl_by(&self.process, code, argument)
    }

    /// The same, from another process that has the descriptor too.
    pub fn ioctl_by(&self, process: &Arc<Process>, code: u32, argument: usize) -> Result<c_int, c_int> {
        let model = if process.is_32bit { MODEL_ILP32 } else { MODEL_LP64 };
        self.ioctl_with_mode(process, code, argument, FREAD_FWRITE | model as c_int)
    }

    /// The same, with a mode of one's own.
    pub fn ioctl_with_mode(
        &self,
        process: &Arc<Process>,
        code: u32,
        argument: usize,
        mode: c_int,
    ) -> Result<c_int, c_int> {
        let ops = dev_ops().expect("a driver");
        let mut value = 0;
        let error = context::in_process(process, || unsafe {
            let cred = Arc::as_ptr(process);
            ((*ops.cb_ops).ioctl)(self.dev(), code as c_int, argument as isize, mode, cred, &raw mut value)
        });
        if error == 0 { Ok(value) } else { Err(error) }
    }

    /// `ioctl` with a packet.
    pub fn packet(&self, code: u32, packet: &mut [u8]) -> Result<c_int, c_int> {
        self.ioctl(code, packet.as_mut_ptr() as usize)
    }

    /// The descriptor in a child, after `fork`.
    pub fn inherit(&self, child: &Arc<Process>) -> Self {
        Self { process: child.clone(), file: self.file.clone() }
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
    context::in_process(process, || space::exit(process));
}
