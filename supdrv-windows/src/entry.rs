//! Loading and unloading.
//!
//! ```text
//!   look at the kernel ► choose memory ► devices ► core ► entry points ► callbacks ► links        unload: the same backwards
//! ```
//!
//! The links come last, so that no client reaches a half-built driver. Each step undoes all former ones when it fails.

use core::ffi::c_void;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicPtr, Ordering};

use supdrv_core::abi::published::{DevExtView, SessionView};
use supdrv_core::driver::Driver;
use supdrv_core::heap::Box;
use supdrv_core::os::OsLog;

use crate::nt::sys;
use crate::nt::{
    DeviceObject, DriverObject, FastIoDispatch, Handle, NtStatus, OBJ_CASE_INSENSITIVE, ObjectAttributes,
    UnicodeString, major,
};
use crate::state::{self, State};
use crate::status::to_nt;
use crate::{Windows, idc, irp, kernel, memory, security, unicode};

const FILE_DEVICE_UNKNOWN: u32 = 0x22;
const FILE_DEVICE_SECURE_OPEN: u32 = 0x100;

/// Device and link of each node.
fn names(restricted: bool) -> (&'static UnicodeString, &'static UnicodeString) {
    if restricted {
        (unicode!("\\Device\\VBoxDrvU"), unicode!("\\DosDevices\\VBoxDrvU"))
    } else {
        (unicode!("\\Device\\VBoxDrv"), unicode!("\\DosDevices\\VBoxDrv"))
    }
}

/// A device; deleted when it is dropped.
struct Device(NonNull<DeviceObject>);

impl Device {
    fn new(driver: *mut DriverObject, restricted: bool, extension_bytes: usize) -> Result<Self, NtStatus> {
        let mut device = core::ptr::null_mut();
        // SAFETY: PASSIVE; the result is ours.
        unsafe {
            sys::IoCreateDevice(
                driver,
                extension_bytes as u32,
                names(restricted).0,
                FILE_DEVICE_UNKNOWN,
                FILE_DEVICE_SECURE_OPEN,
                0,
                &raw mut device,
            )
        }
        .ok()?;
        NonNull::new(device).map(Self).ok_or(NtStatus::UNSUCCESSFUL)
    }

    fn extension(&self) -> *mut c_void {
        // SAFETY: the device exists.
        unsafe { self.0.as_ref() }.device_extension
    }

    fn into_raw(self) -> NonNull<DeviceObject> {
        let device = self.0;
        core::mem::forget(self);
        device
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // SAFETY: our own device, without open files.
        unsafe { sys::IoDeleteDevice(self.0.as_ptr()) };
    }
}

/// A name for clients; removed when it is dropped.
struct Link(&'static UnicodeString);

impl Link {
    fn new(restricted: bool) -> Result<Self, NtStatus> {
        let (device, link) = names(restricted);
        // SAFETY: PASSIVE.
        let create = || unsafe { sys::IoCreateSymbolicLink(link, device) };
        let mut status = create();
        if status == NtStatus::OBJECT_NAME_COLLISION {
            // Left behind by an instance that crashed: the devices' own names were free.
            // SAFETY: PASSIVE.
            unsafe { sys::IoDeleteSymbolicLink(link) };
            status = create();
        }
        status.ok().map(|()| Self(link))
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // SAFETY: PASSIVE.
        unsafe { sys::IoDeleteSymbolicLink(self.0) };
    }
}

/// Notifications of the kernel's: power, and the end of processes. Both are optional.
struct Notifications {
    callback: *mut c_void,
    registration: *mut c_void,
    processes: bool,
}

impl Notifications {
    fn new() -> Self {
        let attributes = ObjectAttributes::new(unicode!("\\Callback\\PowerState"), OBJ_CASE_INSENSITIVE);
        let (mut callback, mut registration) = (core::ptr::null_mut(), core::ptr::null_mut());
        // SAFETY: PASSIVE; the result is ours.
        let created = unsafe { sys::ExCreateCallback(&raw mut callback, &raw const attributes, 1, 1) };
        if created.is_ok() && !callback.is_null() {
            // SAFETY: the callback's object; the function stays until it is unregistered.
            registration = unsafe { sys::ExRegisterCallback(callback, on_power, state::NO_CONTEXT) };
        } else {
            callback = core::ptr::null_mut();
        }
        if registration.is_null() {
            Windows.log_write(b"supdrv: no power notifications\n");
        }
        // SAFETY: PASSIVE; the function stays until it is removed.
        let processes = unsafe { sys::PsSetCreateProcessNotifyRoutine(on_process, 0) }.is_ok();
        Self { callback, registration, processes }
    }
}

impl Drop for Notifications {
    fn drop(&mut self) {
        // SAFETY: undoes what `new` did.
        unsafe {
            if !self.registration.is_null() {
                sys::ExUnregisterCallback(self.registration);
            }
            if !self.callback.is_null() {
                sys::ObfDereferenceObject(self.callback);
            }
            if self.processes {
                sys::PsSetCreateProcessNotifyRoutine(on_process, 1);
            }
        }
    }
}

unsafe extern "system" fn on_power(_context: *mut c_void, what: *mut c_void, entering: *mut c_void) {
    const SYSTEM_STATE_LOCK: usize = 3;
    if what as usize == SYSTEM_STATE_LOCK
        && let Some(state) = state::get()
    {
        match entering as usize {
            0 => crate::power::suspending(),
            1 => crate::power::resumed(state),
            _ => {}
        }
    }
}

unsafe extern "system" fn on_process(_parent: Handle, _process: Handle, starts: u8) {
    if starts == 0
        && let Some(state) = state::get()
    {
        use supdrv_core::os::OsIdentity;
        // Runs in the process that ends, whose address space is still there.
        state.process_exits(Windows.process_handle());
    }
}

/// Everything that unload has to undo.
struct Loaded {
    links: [Link; 2],
    notifications: Notifications,
    restricted: Device,
    unrestricted: Device,
}

static LOADED: AtomicPtr<Loaded> = AtomicPtr::new(core::ptr::null_mut());

const fn fast_io() -> FastIoDispatch {
    FastIoDispatch {
        size: size_of::<FastIoDispatch>() as u32,
        before: [0; 9],
        device_control: Some(irp::fast_device_control),
        after: [0; 17],
    }
}

static FAST_IO: FastIoDispatch = fast_io();

fn load(driver: *mut DriverObject, registry_path: *const UnicodeString) -> Result<(), NtStatus> {
    kernel::init();
    memory::init().map_err(to_nt)?;
    let unrestricted = Device::new(driver, false, size_of::<DevExtView>())?;
    let restricted = Device::new(driver, true, 0)?;
    security::apply(unrestricted.0, restricted.0, registry_path);
    let view = NonNull::new(unrestricted.extension().cast::<DevExtView>()).ok_or(NtStatus::UNSUCCESSFUL)?;
    // SAFETY: the device's extension, zeroed, which stays until the device is deleted.
    let core = unsafe { Driver::init(&Windows, view, size_of::<SessionView>()) }.map_err(to_nt)?;
    let state = State::new(unrestricted.0, core).map_err(to_nt)?;
    state::publish(state);
    let rest = enter(driver).and_then(|(links, notifications)| {
        Box::new(&Windows, Loaded { links, notifications, restricted, unrestricted }).map_err(to_nt)
    });
    match rest {
        Ok(loaded) => {
            LOADED.store(loaded.into_raw().as_ptr(), Ordering::Release);
            Ok(())
        }
        Err(status) => {
            delete_core();
            Err(status)
        }
    }
}

/// Entry points, callbacks and links.
fn enter(driver: *mut DriverObject) -> Result<([Link; 2], Notifications), NtStatus> {
    // SAFETY: the kernel's driver object, which it looks at when this driver has loaded.
    let object = unsafe { &mut *driver };
    object.driver_unload = Some(unload);
    object.fast_io_dispatch = &raw const FAST_IO;
    let entry_points: [(usize, crate::nt::Dispatch); 7] = [
        (major::CREATE, irp::create),
        (major::CLEANUP, irp::cleanup),
        (major::CLOSE, irp::close),
        (major::DEVICE_CONTROL, irp::device_control),
        (major::INTERNAL_DEVICE_CONTROL, idc::internal_device_control),
        (major::READ, irp::not_supported),
        (major::WRITE, irp::not_supported),
    ];
    for (function, entry_point) in entry_points {
        if let Some(slot) = object.major_function.get_mut(function) {
            *slot = Some(entry_point);
        }
    }
    let notifications = Notifications::new();
    let links = [Link::new(false)?, Link::new(true)?];
    Ok((links, notifications))
}

/// Takes the core down; leaks it if sessions are left, which the kernel doesn't let happen.
fn delete_core() -> bool {
    let Some(state) = state::withdraw() else { return true };
    match Driver::delete(state.into_inner().driver) {
        Ok(()) => true,
        Err((driver, _busy)) => {
            Windows.log_write(b"supdrv: sessions at unload; leaking the driver\n");
            core::mem::forget(driver);
            false
        }
    }
}

/// `DriverUnload`. PASSIVE; no file is open.
unsafe extern "system" fn unload(_driver: *mut DriverObject) {
    let Some(loaded) = NonNull::new(LOADED.swap(core::ptr::null_mut(), Ordering::AcqRel)) else { return };
    // SAFETY: it came from into_raw in `load`.
    let loaded = unsafe { Box::from_raw(&Windows, loaded) };
    let Loaded { links, notifications, restricted, unrestricted } = loaded.into_inner();
    drop(links);
    drop(notifications);
    crate::work::wait();
    let gone = delete_core();
    crate::module::THREADS.wait(&Windows);
    kernel::flush_dpcs();
    drop(restricted);
    if gone {
        drop(unrestricted);
    } else {
        let _leaked = unrestricted.into_raw();
    }
}

/// The image's entry point. PASSIVE, in the System process.
///
/// # Safety
/// Called by the kernel.
#[unsafe(no_mangle)]
#[allow(non_snake_case, reason = "the name that the linker is told")]
pub unsafe extern "system" fn DriverEntry(
    driver: *mut DriverObject,
    registry_path: *const UnicodeString,
) -> NtStatus {
    match load(driver, registry_path) {
        Ok(()) => NtStatus::SUCCESS,
        Err(status) => status,
    }
}
