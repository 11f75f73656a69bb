//! Requests of clients: create, cleanup, close, device control.
//!
//! Every request is completed exactly once, by [`complete`], and isn't touched afterwards.

use core::ffi::c_void;
use core::ptr::NonNull;

use supdrv_core::abi::ioctl::MAX_REQUEST_BYTES;
use supdrv_core::abi::requests::{HEADER_BYTES, RequestHeader};
use supdrv_core::abi::status::{Status, VERR_NO_MEMORY};
use supdrv_core::dispatch;
use supdrv_core::os::SessionKind;
use supdrv_core::tree::Node;
use zerocopy::FromBytes;

use crate::Windows;
use crate::nt::sys;
use crate::nt::{
    DeviceObject, FileObject, IoStackLocation, IoStatusBlock, Irp, KERNEL_MODE, NtStatus, SL_PENDING_RETURNED,
};
use crate::pending;
use crate::record::{Inside, Record};
use crate::state::{self, State};
use crate::status::to_nt;

const FILE_OPENED: usize = 1;
const FILE_DIRECTORY_FILE: u32 = 1;
const CREATE_OPTIONS: u32 = 0x00ff_ffff;
const METHOD_MASK: u32 = 3;
const METHOD_BUFFERED: u32 = 0;
const NO_BOOST: i8 = 0;

/// Completes a request: with the number that goes with success, or with a failure. At most DISPATCH.
pub fn complete(irp: *mut Irp, result: Result<usize, NtStatus>) -> NtStatus {
    let (status, information) = match result {
        Ok(information) => (NtStatus::SUCCESS, information),
        Err(status) => (status, 0),
    };
    // SAFETY: the request is ours until it is completed, here.
    unsafe {
        (&raw mut (*irp).io_status.status).write(status);
        (&raw mut (*irp).io_status.information).write(information);
        sys::IofCompleteRequest(irp, NO_BOOST);
    }
    status
}

/// What the request asks of this driver.
///
/// # Safety
/// A request that this driver got and hasn't completed.
pub unsafe fn stack<'a>(irp: *mut Irp) -> &'a IoStackLocation {
    // SAFETY: condition of the function; the kernel sets the location.
    unsafe { &*(*irp).current_stack_location }
}

/// Whether a device is the unrestricted one.
pub fn is_unrestricted(state: &State, device: *mut DeviceObject) -> bool {
    device == state.device.as_ptr()
}

/// `IRP_MJ_CREATE`. PASSIVE, in the opener's context.
pub unsafe extern "system" fn create(device: *mut DeviceObject, irp: *mut Irp) -> NtStatus {
    // SAFETY: the I/O manager passes a request.
    let (location, mode) = unsafe { (stack(irp), (*irp).requestor_mode) };
    // SAFETY: a create request has a file object.
    complete(irp, unsafe { open(device, location, mode) }.map(|()| FILE_OPENED))
}

/// # Safety
/// The stack location of a create request.
unsafe fn open(device: *mut DeviceObject, location: &IoStackLocation, mode: i8) -> Result<(), NtStatus> {
    let options = location.parameters[1] as u32 & CREATE_OPTIONS;
    if options & FILE_DIRECTORY_FILE != 0 {
        return Err(NtStatus::NOT_A_DIRECTORY);
    }
    let state = state::get().ok_or(NtStatus::INVALID_PARAMETER)?;
    let file = NonNull::new(location.file_object).ok_or(NtStatus::INVALID_PARAMETER)?;
    // SAFETY: the file that is being opened.
    if unsafe { file.as_ref() }.file_name.length != 0 {
        return Err(NtStatus::OBJECT_NAME_NOT_FOUND);
    }
    let unrestricted = is_unrestricted(state, device);
    let record = if mode == KERNEL_MODE {
        // A sibling driver: it connects later.
        if !unrestricted {
            return Err(NtStatus::ACCESS_DENIED);
        }
        Record::new(None).map_err(to_nt)?
    } else {
        let kind = if unrestricted { SessionKind::User } else { SessionKind::UserRestricted };
        let node = Node::new(&Windows, (0, 0), ()).map_err(to_nt)?;
        let session = state.driver.create_session(kind).map_err(to_nt)?;
        let process = session.process_handle();
        let record = Record::new(Some(session)).map_err(to_nt)?;
        state.add_file(node, process, record.as_ptr());
        record
    };
    // SAFETY: nobody else knows the file yet.
    unsafe { (&raw mut (*file.as_ptr()).fs_context).write(record.into_raw().as_ptr().cast()) };
    Ok(())
}

/// `IRP_MJ_CLEANUP`: the last handle is gone. PASSIVE, in the context of whoever closed it.
pub unsafe extern "system" fn cleanup(_device: *mut DeviceObject, irp: *mut Irp) -> NtStatus {
    // SAFETY: the I/O manager passes a request with a file object.
    if let Some(record) = unsafe { Record::of(stack(irp).file_object) }
        && record.session().is_some()
    {
        record.cleanup();
    }
    complete(irp, Ok(0))
}

/// `IRP_MJ_CLOSE`: the file object goes. PASSIVE, in any process.
pub unsafe extern "system" fn close(_device: *mut DeviceObject, irp: *mut Irp) -> NtStatus {
    // SAFETY: the I/O manager passes a request with a file object.
    let file = unsafe { stack(irp).file_object };
    // SAFETY: as above; nobody else uses the file any more.
    let record = unsafe { file.as_mut() }
        .and_then(|file| NonNull::new(core::mem::replace(&mut file.fs_context, core::ptr::null_mut())));
    if let Some(record) = record {
        let record = record.cast::<Record>();
        if let Some(state) = state::get() {
            // SAFETY: the record lives until it is closed, below.
            state.remove_file(unsafe { record.as_ref() }.process(), record);
        }
        Record::close(record);
    }
    complete(irp, Ok(0))
}

/// `IRP_MJ_READ` and `IRP_MJ_WRITE`.
pub unsafe extern "system" fn not_supported(_device: *mut DeviceObject, irp: *mut Irp) -> NtStatus {
    complete(irp, Err(NtStatus::NOT_SUPPORTED))
}

/// A device control with a buffer of the I/O manager's, which the client can't reach.
pub struct Control {
    irp: *mut Irp,
    /// The function code.
    pub code: u32,
    in_bytes: usize,
    out_bytes: usize,
}

impl Control {
    /// The request's parameters, as far as they make sense for the core.
    ///
    /// # Safety
    /// A buffered device control that isn't completed.
    unsafe fn new(irp: *mut Irp) -> Result<Self, NtStatus> {
        // SAFETY: condition of the function.
        let [out_bytes, in_bytes, code, _] = unsafe { stack(irp) }.parameters;
        let control = Self {
            irp,
            code: code as u32,
            in_bytes: in_bytes as u32 as usize,
            out_bytes: out_bytes as u32 as usize,
        };
        if control.in_bytes < HEADER_BYTES
            || control.out_bytes < HEADER_BYTES
            || control.in_bytes.max(control.out_bytes) > MAX_REQUEST_BYTES
        {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        let (header, _) =
            RequestHeader::read_from_prefix(control.input()).map_err(|_| NtStatus::INVALID_PARAMETER)?;
        let sizes = (header.in_bytes as usize, header.out_bytes as usize);
        if sizes == (control.in_bytes, control.out_bytes) {
            Ok(control)
        } else {
            Err(NtStatus::INVALID_PARAMETER)
        }
    }

    /// The request.
    pub const fn irp(&self) -> *mut Irp {
        self.irp
    }

    fn buffer(&self) -> *mut u8 {
        // SAFETY: the request isn't completed while this value exists.
        unsafe { (*self.irp).system_buffer.cast() }
    }

    /// What the client sent.
    pub fn input(&self) -> &[u8] {
        let buffer = self.buffer();
        if buffer.is_null() {
            return &[];
        }
        // SAFETY: the I/O manager's buffer has room for the larger of both directions; nobody writes to it before `handle`.
        unsafe { core::slice::from_raw_parts(buffer, self.in_bytes) }
    }

    /// Whether the I/O manager has cancelled the request.
    pub fn is_cancelled(&self) -> bool {
        // SAFETY: the request isn't completed while this value exists; the kernel may set the byte at any time.
        unsafe { (&raw const (*self.irp).cancel).read_volatile() != 0 }
    }

    /// The request will be completed later.
    pub fn mark_pending(&self) {
        // SAFETY: the request is this driver's.
        unsafe { (*(*self.irp).current_stack_location).control |= SL_PENDING_RETURNED };
    }

    /// Answers with the status of a request that failed; returns how many bytes travel back.
    fn refuse(&self, status: Status) -> Result<usize, NtStatus> {
        let malformed = NtStatus::INVALID_PARAMETER;
        let (mut header, _) = RequestHeader::read_from_prefix(self.input()).map_err(|_| malformed)?;
        (header.rc, header.out_bytes) = (status.0, HEADER_BYTES as u32);
        // SAFETY: the buffer has at least a header, and is this request's alone.
        unsafe { self.buffer().cast::<RequestHeader>().write_unaligned(header) };
        Ok(HEADER_BYTES)
    }

    /// Lets the core handle it; returns how many bytes travel back.
    ///
    /// # Errors
    /// What the request fails with.
    pub fn handle(&self, record: &Record) -> Result<usize, NtStatus> {
        let session = record.session().ok_or(NtStatus::INVALID_PARAMETER)?;
        // SAFETY: the I/O manager's buffer has room for the larger of both directions, and is this request's alone.
        let packet =
            unsafe { core::slice::from_raw_parts_mut(self.buffer(), self.in_bytes.max(self.out_bytes)) };
        // What the client didn't send is the pool's former content.
        if let Some(rest) = packet.get_mut(self.in_bytes..) {
            rest.fill(0);
        }
        dispatch::ioctl(session, self.code, packet).map_err(|_| NtStatus::INVALID_PARAMETER)?;
        // The header may say less now than the client asked for, never more.
        let answer =
            RequestHeader::read_from_prefix(packet).map_or(0, |(header, _)| header.out_bytes as usize);
        Ok(answer.clamp(HEADER_BYTES, self.out_bytes))
    }
}

/// `IRP_MJ_DEVICE_CONTROL`. PASSIVE or APC, in the client's context.
pub unsafe extern "system" fn device_control(_device: *mut DeviceObject, irp: *mut Irp) -> NtStatus {
    // SAFETY: the I/O manager passes a request with a file object.
    let (location, cpu_id) = unsafe { (stack(irp), (*irp).user_buffer as usize as u32) };
    let code = location.parameters[2] as u32;
    // SAFETY: as above.
    let record = unsafe { Record::of(location.file_object) };
    if let Some(result) = record.and_then(|record| fast(record, code, cpu_id)) {
        return complete(irp, result.map(|()| 0));
    }
    // SAFETY: as above.
    match unsafe { accept(irp, code, record) } {
        Err(status) => complete(irp, Err(status)),
        Ok((control, inside)) if pending::must_defer(&control) => match pending::defer(control, inside) {
            Ok(pending) => pending,
            Err((control, inside)) => {
                let result = control.refuse(VERR_NO_MEMORY);
                drop(inside);
                complete(irp, result)
            }
        },
        Ok((control, inside)) => handle_now(&control, inside),
    }
}

fn handle_now(control: &Control, inside: Inside) -> NtStatus {
    let result = control.handle(&inside);
    // The file may go as soon as the request is completed.
    drop(inside);
    complete(control.irp(), result)
}

/// A fast call of an unrestricted client: no buffer, and a number in place of an address. `None` if it isn't one.
fn fast(record: &Record, code: u32, cpu_id: u32) -> Option<Result<(), NtStatus>> {
    if !dispatch::is_fast::<Windows>(code) {
        return None;
    }
    let inside = record.begin()?;
    let session = inside.session().filter(|session| session.is_unrestricted())?;
    Some(dispatch::ioctl_fast(session, code, cpu_id).map_err(|_| NtStatus::INVALID_PARAMETER))
}

/// What is checked before the core sees anything, in the order that clients can observe.
///
/// # Safety
/// A device control that isn't completed.
unsafe fn accept(irp: *mut Irp, code: u32, record: Option<&Record>) -> Result<(Control, Inside), NtStatus> {
    // SAFETY: the request is this driver's.
    if usize::BITS == 64 && unsafe { sys::IoIs32bitProcess(irp) } != 0 {
        return Err(NtStatus::NOT_SUPPORTED);
    }
    let record = record.filter(|record| record.session().is_some()).ok_or(NtStatus::INVALID_PARAMETER)?;
    if code & METHOD_MASK != METHOD_BUFFERED {
        return Err(NtStatus::NOT_SUPPORTED);
    }
    // SAFETY: buffered, and not completed.
    let control = unsafe { Control::new(irp) }?;
    let inside = record.begin().ok_or(NtStatus::INVALID_PARAMETER)?;
    Ok((control, inside))
}

/// The hot path: fast calls without a request. Everything else is left to requests.
pub unsafe extern "system" fn fast_device_control(
    file: *mut FileObject,
    _wait: u8,
    _input: *mut c_void,
    _input_bytes: u32,
    output: *mut c_void,
    _output_bytes: u32,
    code: u32,
    status: *mut IoStatusBlock,
    _device: *mut DeviceObject,
) -> u8 {
    // SAFETY: the I/O manager passes an open file.
    let record = unsafe { Record::of(file) };
    let Some(result) = record.and_then(|record| fast(record, code, output as usize as u32)) else { return 0 };
    // SAFETY: the I/O manager passes a status block.
    unsafe {
        (&raw mut (*status).status).write(result.err().unwrap_or(NtStatus::SUCCESS));
        (&raw mut (*status).information).write(0);
    }
    1
}
