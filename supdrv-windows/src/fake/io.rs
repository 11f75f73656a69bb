//! The I/O manager: devices, files, requests; and the other callbacks.

use core::ffi::c_void;
use std::boxed::Box;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::vec::Vec;

use super::exports::text;
use super::{PROCESS, at_most, bug_check, fails, with};
use crate::nt::sys::{CallbackFunction, ProcessNotify, WorkRoutine};
use crate::nt::{
    DISPATCH_LEVEL, DeviceObject, DriverObject, FileObject, IoStackLocation, IoStatusBlock, Irp, Mode,
    NtStatus, ObjectAttributes, PASSIVE_LEVEL, USER_MODE, UnicodeString, major,
};

#[unsafe(no_mangle)]
extern "system" fn IoCreateDevice(
    driver: *mut DriverObject,
    extension_bytes: u32,
    name: *const UnicodeString,
    device_type: u32,
    characteristics: u32,
    _exclusive: u8,
    device: *mut *mut DeviceObject,
) -> NtStatus {
    at_most(PASSIVE_LEVEL, "IoCreateDevice");
    if fails() {
        return NtStatus::INSUFFICIENT_RESOURCES;
    }
    let name = text(name);
    if with(|state| state.account.devices.contains_key(&name)) {
        return NtStatus::OBJECT_NAME_COLLISION;
    }
    let extension: Box<[u64]> = std::vec![0; extension_bytes as usize / 8 + 1].into();
    let mut object: Box<DeviceObject> = Box::new(unsafe { core::mem::zeroed() });
    object.driver_object = driver;
    object.device_type = device_type;
    object.characteristics = characteristics;
    object.device_extension = Box::leak(extension).as_mut_ptr().cast();
    let address = Box::into_raw(object);
    with(|state| state.account.devices.insert(name, address as usize));
    unsafe { *device = address };
    NtStatus::SUCCESS
}

#[unsafe(no_mangle)]
extern "system" fn IoDeleteDevice(device: *mut DeviceObject) {
    at_most(PASSIVE_LEVEL, "IoDeleteDevice");
    with(|state| {
        let before = state.account.devices.len();
        state.account.devices.retain(|_, address| *address != device as usize);
        if state.account.devices.len() + 1 != before {
            bug_check!("a device is deleted that isn't one");
        }
    });
}

#[unsafe(no_mangle)]
extern "system" fn IoCreateSymbolicLink(
    link: *const UnicodeString,
    target: *const UnicodeString,
) -> NtStatus {
    if fails() {
        return NtStatus::INSUFFICIENT_RESOURCES;
    }
    let (link, target) = (text(link), text(target));
    with(|state| match state.account.links.entry(link) {
        std::collections::btree_map::Entry::Occupied(_) => NtStatus::OBJECT_NAME_COLLISION,
        std::collections::btree_map::Entry::Vacant(entry) => {
            entry.insert(target);
            NtStatus::SUCCESS
        }
    })
}

#[unsafe(no_mangle)]
extern "system" fn IoDeleteSymbolicLink(link: *const UnicodeString) -> NtStatus {
    let link = text(link);
    if with(|state| state.account.links.remove(&link)).is_some() {
        NtStatus::SUCCESS
    } else {
        NtStatus::OBJECT_NAME_NOT_FOUND
    }
}

#[unsafe(no_mangle)]
extern "system" fn ExCreateCallback(
    callback: *mut *mut c_void,
    _attributes: *const ObjectAttributes,
    _create: u8,
    _multiple: u8,
) -> NtStatus {
    if fails() {
        return NtStatus::INSUFFICIENT_RESOURCES;
    }
    const OBJECT: usize = 0xffff_a000_0000_0000_u64 as usize;
    with(|state| *state.account.references.entry(OBJECT).or_default() += 1);
    unsafe { *callback = OBJECT as *mut c_void };
    NtStatus::SUCCESS
}

#[unsafe(no_mangle)]
extern "system" fn ExRegisterCallback(
    _callback: *mut c_void,
    function: CallbackFunction,
    _context: *mut c_void,
) -> *mut c_void {
    if fails() {
        return core::ptr::null_mut();
    }
    with(|state| state.account.callbacks.insert(0x6000, function as *const () as usize));
    0x6000 as *mut c_void
}

#[unsafe(no_mangle)]
extern "system" fn ExUnregisterCallback(registration: *mut c_void) {
    if with(|state| state.account.callbacks.remove(&(registration as usize))).is_none() {
        bug_check!("a callback is unregistered that isn't registered");
    }
}

#[unsafe(no_mangle)]
extern "system" fn PsSetCreateProcessNotifyRoutine(routine: ProcessNotify, remove: u8) -> NtStatus {
    if remove == 0 && fails() {
        return NtStatus::INVALID_PARAMETER;
    }
    let routine = routine as *const () as usize;
    with(|state| state.account.process_notify = (remove == 0).then_some(routine));
    NtStatus::SUCCESS
}

#[unsafe(no_mangle)]
extern "system" fn IoIs32bitProcess(_irp: *mut Irp) -> u8 {
    u8::from(with(|state| state.config.from_32bit))
}

#[unsafe(no_mangle)]
extern "system" fn IofCompleteRequest(irp: *mut Irp, _boost: i8) {
    at_most(DISPATCH_LEVEL, "IofCompleteRequest");
    with(|state| match state.account.irps.get_mut(&(irp as usize)) {
        Some(0) => {
            state.account.irps.insert(irp as usize, 1);
        }
        _ => bug_check!("a request is completed twice, or isn't one"),
    });
}

#[unsafe(no_mangle)]
extern "system" fn IoAllocateWorkItem(device: *mut DeviceObject) -> *mut c_void {
    at_most(DISPATCH_LEVEL, "IoAllocateWorkItem");
    if !with(|state| state.account.devices.values().any(|known| *known == device as usize)) {
        bug_check!("a work item of no device");
    }
    if fails() {
        return core::ptr::null_mut();
    }
    let item = Box::into_raw(Box::new(device));
    with(|state| state.account.work.insert(item as usize, false));
    item.cast()
}

#[unsafe(no_mangle)]
extern "system" fn IoQueueWorkItem(
    item: *mut c_void,
    routine: WorkRoutine,
    _queue: u32,
    context: *mut c_void,
) {
    at_most(DISPATCH_LEVEL, "IoQueueWorkItem");
    let (item, context) = (item as usize, context as usize);
    let delay = with(|state| {
        match state.account.work.get_mut(&item) {
            Some(queued) if !*queued => *queued = true,
            _ => bug_check!("a work item is queued twice, or isn't one"),
        }
        state.config.work_delay
    });
    std::thread::spawn(move || {
        std::thread::sleep(delay);
        let device = unsafe { *(item as *const usize) };
        with(|state| {
            state.account.work.insert(item, false);
            state.work_done += 1;
        });
        unsafe { routine(device as *mut DeviceObject, context as *mut c_void) };
        at_most(PASSIVE_LEVEL, "a work item's routine came back");
    });
}

#[unsafe(no_mangle)]
extern "system" fn IoFreeWorkItem(item: *mut c_void) {
    match with(|state| state.account.work.remove(&(item as usize))) {
        Some(false) => drop(unsafe { Box::from_raw(item.cast::<*mut DeviceObject>()) }),
        _ => bug_check!("a work item is freed that is queued, or isn't one"),
    }
}

/// How a request failed, or an open.
pub type Refusal = NtStatus;

/// A loaded driver.
#[derive(Clone)]
pub struct Loaded(Arc<Object>);

struct Object {
    driver: *mut DriverObject,
    stop: Mutex<Stop>,
}

/// A driver is unloaded when nobody uses its devices any more.
#[derive(Default)]
struct Stop {
    files: usize,
    wanted: bool,
}

unsafe impl Send for Object {}
unsafe impl Sync for Object {}

impl Loaded {
    pub(super) fn new() -> Result<Self, NtStatus> {
        let object: Box<DriverObject> = Box::new(unsafe { core::mem::zeroed() });
        let object = Box::into_raw(object);
        let path = crate::unicode!("\\Registry\\Machine\\System\\CurrentControlSet\\Services\\VBoxDrv");
        let status = unsafe { crate::entry::DriverEntry(object, path) };
        status.ok().map(|()| Self(Arc::new(Object { driver: object, stop: Mutex::default() })))
    }

    fn driver(&self) -> &DriverObject {
        unsafe { &*self.0.driver }
    }

    fn users(&self) -> MutexGuard<'_, Stop> {
        self.0.stop.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls the unload routine, whoever uses the devices: what the I/O manager doesn't do.
    pub fn unload_in_use(&self) {
        match self.driver().driver_unload {
            Some(unload) => unsafe { unload(self.0.driver) },
            None => bug_check!("no unload routine"),
        }
    }

    /// Stops the driver, or has it stop with the last file; whether it stopped. Nobody can open a device any more.
    #[must_use]
    pub fn stop(&self) -> bool {
        let mut users = self.users();
        users.wanted = true;
        if users.files == 0 {
            self.unload_in_use();
        }
        users.files == 0
    }

    /// Stops the driver, of which nobody has a file.
    pub fn unload(&self) {
        if !self.stop() {
            bug_check!("a test left files open");
        }
    }

    /// A file comes; whether it may.
    fn file_comes(&self) -> bool {
        let mut users = self.users();
        users.files += usize::from(!users.wanted);
        !users.wanted
    }

    /// A file went.
    fn file_went(&self) {
        let mut users = self.users();
        users.files -= 1;
        if users.files == 0 && users.wanted {
            self.unload_in_use();
        }
    }

    fn device(name: &str) -> Option<usize> {
        with(|state| {
            let target = state.account.links.get(&std::format!("\\DosDevices\\{name}"))?;
            state.account.devices.get(target).copied()
        })
    }

    /// Sends a request and returns its status block; waits for a pending one.
    fn send(&self, request: &mut Irp, location: &mut IoStackLocation) -> IoStatusBlock {
        let irp = &raw mut *request;
        request.current_stack_location = location;
        with(|state| state.account.irps.insert(irp as usize, 0));
        let function = usize::from(location.major_function);
        let Some(dispatch) = self.driver().major_function[function] else {
            with(|state| state.account.irps.remove(&(irp as usize)));
            return IoStatusBlock { status: NtStatus::INVALID_DEVICE_REQUEST, padding: 0, information: 0 };
        };
        let context = (super::IRQL.get(), super::INTERRUPTS.get());
        let status = unsafe { dispatch(location.device_object, irp) };
        if (super::IRQL.get(), super::INTERRUPTS.get()) != context {
            bug_check!("a dispatch routine changed IRQL or interrupts");
        }
        let completed = || with(|state| state.account.irps.get(&(irp as usize)) == Some(&1));
        if status == NtStatus::PENDING {
            if unsafe { (&raw const location.control).read_volatile() } & 1 == 0 {
                bug_check!("pending, but not marked so");
            }
            while !completed() {
                std::thread::sleep(core::time::Duration::from_micros(200));
            }
        } else if !completed() {
            bug_check!("a request came back with {status:?} and isn't completed");
        }
        with(|state| state.account.irps.remove(&(irp as usize)));
        let block = unsafe { (&raw const request.io_status).read_volatile() };
        if status != NtStatus::PENDING && block.status != status {
            bug_check!("a dispatch routine returned another status than its request has");
        }
        block
    }

    /// Opens a device by its link.
    ///
    /// # Errors
    /// The driver's.
    pub fn open(&self, name: &str) -> Result<File, Refusal> {
        self.open_as(name, USER_MODE, 0, "")
    }

    /// Opens a device with everything that a create request has.
    ///
    /// # Errors
    /// The driver's.
    pub fn open_as(&self, name: &str, mode: Mode, options: u32, trailing: &str) -> Result<File, Refusal> {
        let device = Self::device(name).ok_or(NtStatus::OBJECT_NAME_NOT_FOUND)?;
        if !self.file_comes() {
            return Err(NtStatus::NO_SUCH_DEVICE);
        }
        let rest: Vec<u16> = trailing.encode_utf16().collect();
        let mut object: Box<FileObject> = Box::new(unsafe { core::mem::zeroed() });
        object.device_object = device as *mut DeviceObject;
        object.file_name.length = (rest.len() * 2) as u16;
        object.file_name.buffer = rest.as_ptr();
        let file = File { driver: self.clone(), object: Box::into_raw(object), mode };
        let block = file.request(major::CREATE, [0, options as usize, 0, 0], core::ptr::null_mut(), 0);
        match block.status.ok() {
            Ok(()) if block.information == 1 => Ok(file),
            Ok(()) => bug_check!("an open without FILE_OPENED"),
            Err(status) => {
                if !unsafe { (*file.object).fs_context }.is_null() {
                    bug_check!("a failed open left something in the file");
                }
                core::mem::forget(file);
                self.file_went();
                Err(status)
            }
        }
    }
}

/// An open file. Dropping it closes the last handle, and then the file object.
pub struct File {
    driver: Loaded,
    object: *mut FileObject,
    mode: Mode,
}

unsafe impl Send for File {}
unsafe impl Sync for File {}

impl File {
    fn request(
        &self,
        function: usize,
        parameters: [usize; 4],
        buffer: *mut u8,
        user_buffer: usize,
    ) -> IoStatusBlock {
        let mut irp: Box<Irp> = Box::new(unsafe { core::mem::zeroed() });
        let mut location: Box<IoStackLocation> = Box::new(unsafe { core::mem::zeroed() });
        irp.requestor_mode = self.mode;
        irp.system_buffer = buffer.cast();
        irp.user_buffer = user_buffer as *mut c_void;
        location.major_function = function as u8;
        location.parameters = parameters;
        location.file_object = self.object;
        location.device_object = unsafe { (*self.object).device_object };
        self.driver.send(&mut irp, &mut location)
    }

    /// A device control as the I/O manager makes it: `packet` is input and output at once. Returns how many bytes came back.
    ///
    /// # Errors
    /// The request's status.
    pub fn control(
        &self,
        code: u32,
        packet: &mut [u8],
        in_bytes: u32,
        out_bytes: u32,
    ) -> Result<usize, Refusal> {
        self.control_by(major::DEVICE_CONTROL, code, packet, in_bytes, out_bytes)
    }

    /// The same with another major function.
    ///
    /// # Errors
    /// The request's status.
    pub fn control_by(
        &self,
        function: usize,
        code: u32,
        packet: &mut [u8],
        in_bytes: u32,
        out_bytes: u32,
    ) -> Result<usize, Refusal> {
        self.control_at(function, code, packet, in_bytes, out_bytes, 0)
    }

    /// The same with a buffer that begins that many bytes behind an aligned address, as another driver may send it.
    ///
    /// # Errors
    /// The request's status.
    pub fn control_at(
        &self,
        function: usize,
        code: u32,
        packet: &mut [u8],
        in_bytes: u32,
        out_bytes: u32,
        shift: usize,
    ) -> Result<usize, Refusal> {
        let room = in_bytes.max(out_bytes) as usize;
        // Kernel memory that isn't zero.
        let mut words: Vec<u64> = std::vec![0xa5a5_a5a5_a5a5_a5a5; (room + shift).div_ceil(8) + 1];
        let buffer = unsafe { words.as_mut_ptr().cast::<u8>().add(shift) };
        let input = packet.len().min(in_bytes as usize);
        unsafe { core::ptr::copy(packet.as_ptr(), buffer, input) };
        let buffer_or_null = if room == 0 { core::ptr::null_mut() } else { buffer };
        let parameters = [out_bytes as usize, in_bytes as usize, code as usize, 0];
        let block = self.request(function, parameters, buffer_or_null, 0);
        block.status.ok()?;
        if block.information > out_bytes as usize {
            bug_check!("more comes back than there is room for");
        }
        let output = packet.len().min(block.information);
        unsafe { core::ptr::copy(buffer, packet.as_mut_ptr(), output) };
        Ok(block.information)
    }

    /// A device control with a buffer of the caller's choice, in place of one with the sizes that it tells.
    ///
    /// # Errors
    /// The request's status.
    pub fn control_with(
        &self,
        function: usize,
        code: u32,
        buffer: Option<&mut [u64]>,
        in_bytes: u32,
        out_bytes: u32,
    ) -> Result<usize, Refusal> {
        let buffer = buffer.map_or(core::ptr::null_mut(), |words| words.as_mut_ptr().cast());
        let parameters = [out_bytes as usize, in_bytes as usize, code as usize, 0];
        let block = self.request(function, parameters, buffer, 0);
        block.status.ok().map(|()| block.information)
    }

    /// A fast call: a number in place of an address, and no bytes.
    ///
    /// # Errors
    /// The request's status.
    pub fn fast(&self, code: u32, argument: usize) -> Result<(), Refusal> {
        self.request(major::DEVICE_CONTROL, [0, 0, code as usize, 0], core::ptr::null_mut(), argument)
            .status
            .ok()
    }

    /// The fast I/O entry point; `None` if it leaves the call to a request.
    #[must_use]
    pub fn fast_io(&self, code: u32, argument: usize) -> Option<NtStatus> {
        let table = unsafe { self.driver.driver().fast_io_dispatch.as_ref() }?;
        let mut block = IoStatusBlock { status: NtStatus::PENDING, padding: 0, information: 7 };
        let (null, device) = (core::ptr::null_mut(), unsafe { (*self.object).device_object });
        let handled = unsafe {
            table.device_control?(
                self.object,
                1,
                null,
                0,
                argument as *mut c_void,
                0,
                code,
                &raw mut block,
                device,
            )
        };
        (handled != 0).then_some(block.status)
    }

    /// A read.
    ///
    /// # Errors
    /// The request's status.
    pub fn read(&self) -> Result<(), Refusal> {
        self.request(major::READ, [0; 4], core::ptr::null_mut(), 0).status.ok()
    }

    /// The last handle goes, while the file object stays.
    pub fn cleanup(&self) {
        self.request(major::CLEANUP, [0; 4], core::ptr::null_mut(), 0);
    }

    /// The file object goes without a cleanup, as some kernels do it.
    pub fn close_only(self) {
        self.close();
        core::mem::forget(self);
    }

    /// The process of the calling thread.
    #[must_use]
    pub fn process() -> usize {
        PROCESS.get()
    }
}

impl File {
    fn close(&self) {
        self.request(major::CLOSE, [0; 4], core::ptr::null_mut(), 0);
        self.driver.file_went();
    }
}

impl Drop for File {
    fn drop(&mut self) {
        self.cleanup();
        self.close();
    }
}
