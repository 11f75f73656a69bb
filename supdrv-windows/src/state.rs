//! What exists once per loaded driver, beside the core's driver itself.

use core::ffi::c_void;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicPtr, Ordering};

use supdrv_core::abi::status::Result;
use supdrv_core::driver::Driver;
use supdrv_core::heap::Box;
use supdrv_core::os::LockClass;
use supdrv_core::sync::SpinLock;
use supdrv_core::tree::{Node, Tree};

use crate::Windows;
use crate::nt::DeviceObject;
use crate::pending::Waiting;
use crate::power::Restart;
use crate::record::{Inside, Record};

/// A file in the list of files: its process, and its record.
pub type FileKey = (usize, usize);
/// An entry for that list, allocated before it is needed.
pub type FileNode = Node<FileKey, (), Windows>;

/// The driver.
pub struct State {
    /// The core's.
    pub driver: Box<Driver<Windows>, Windows>,
    /// The unrestricted device.
    pub device: NonNull<DeviceObject>,
    /// Files of clients, by process.
    files: SpinLock<Tree<FileKey, (), Windows>, Windows>,
    /// Requests that wait on a thread of the driver's.
    pub waiting: SpinLock<Waiting, Windows>,
    /// For resumes.
    pub restart: Restart,
}

static STATE: AtomicPtr<State> = AtomicPtr::new(core::ptr::null_mut());

/// The driver, while it is loaded.
#[must_use]
pub fn get() -> Option<&'static State> {
    // SAFETY: set while the driver is loaded; the kernel calls nothing of it before or after.
    unsafe { STATE.load(Ordering::Acquire).as_ref() }
}

impl State {
    /// # Errors
    /// `VERR_NO_MEMORY`; gives the driver back.
    pub fn new(
        device: NonNull<DeviceObject>,
        driver: Box<Driver<Windows>, Windows>,
    ) -> Result<Box<Self, Windows>> {
        let files = SpinLock::new(&Windows, LockClass::ModuleSpin, Tree::new())?;
        let waiting = SpinLock::new(&Windows, LockClass::ModuleSpin, Waiting::new())?;
        let restart = Restart::new(device)?;
        Box::new(&Windows, Self { driver, device, files, waiting, restart })
    }

    /// Notes a client's file. At most DISPATCH.
    pub fn add_file(&self, mut node: FileNode, process: usize, record: NonNull<Record>) {
        node.set_key((process, record.as_ptr() as usize));
        let new = self.files.lock().insert(node).is_ok();
        debug_assert!(new);
    }

    /// Forgets a client's file.
    pub fn remove_file(&self, process: usize, record: NonNull<Record>) {
        let node = self.files.lock().remove(&(process, record.as_ptr() as usize));
        drop(node);
    }

    /// The files of a process end, although others may have handles of them. PASSIVE, in the process.
    pub fn process_exits(&self, process: usize) {
        let mut from = 0;
        while let Some(file) = self.next_file(process, from) {
            from = core::ptr::from_ref::<Record>(&file) as usize + 1;
            file.cleanup();
        }
    }

    fn next_file(&self, process: usize, from: usize) -> Option<Inside> {
        let files = self.files.lock();
        let found = files.lower_bound(core::ops::Bound::Included(&(process, from)))?.0;
        let record = NonNull::new(found.1 as *mut Record).filter(|_| found.0 == process)?;
        // SAFETY: files leave the list, under this lock, before they are closed.
        Some(unsafe { Record::hold(record) })
    }
}

/// Makes the driver known. PASSIVE, at load time.
pub fn publish(state: Box<State, Windows>) {
    STATE.store(state.into_raw().as_ptr(), Ordering::Release);
}

/// Takes the driver back. PASSIVE, at unload time: nothing of it is called any more.
#[must_use]
pub fn withdraw() -> Option<Box<State, Windows>> {
    let state = NonNull::new(STATE.swap(core::ptr::null_mut(), Ordering::AcqRel))?;
    // SAFETY: it came from into_raw in `publish`.
    Some(unsafe { Box::from_raw(&Windows, state) })
}

/// A context pointer that nobody follows.
pub const NO_CONTEXT: *mut c_void = core::ptr::null_mut();
