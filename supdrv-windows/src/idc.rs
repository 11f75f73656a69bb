//! Requests of sibling drivers: `IRP_MJ_INTERNAL_DEVICE_CONTROL`, which ring-3 can't make.

use core::ptr::NonNull;

use supdrv_core::abi::idc::{IdcHeader, IdcRequest};
use supdrv_core::abi::ioctl::Encoding;
use supdrv_core::abi::published::SessionView;
use supdrv_core::idc;
use zerocopy::FromZeros;

use crate::irp::{complete, is_unrestricted, stack};
use crate::nt::{DeviceObject, IoStackLocation, Irp, KERNEL_MODE, NtStatus};
use crate::record::Record;
use crate::state::{self, State};

/// `IRP_MJ_INTERNAL_DEVICE_CONTROL`. PASSIVE, in any context.
pub unsafe extern "system" fn internal_device_control(device: *mut DeviceObject, irp: *mut Irp) -> NtStatus {
    // SAFETY: the I/O manager passes a request.
    let (location, mode, buffer) = unsafe { (stack(irp), (*irp).requestor_mode, (*irp).system_buffer) };
    let result = match state::get() {
        Some(state) if mode == KERNEL_MODE && is_unrestricted(state, device) => {
            // SAFETY: a device control's location, and its buffer.
            unsafe { handle(state, location, buffer.cast()) }
        }
        _ => Err(NtStatus::NOT_SUPPORTED),
    };
    complete(irp, result)
}

/// # Safety
/// The location of an internal device control, and its buffer.
unsafe fn handle(
    state: &State,
    location: &IoStackLocation,
    buffer: *mut IdcHeader,
) -> Result<usize, NtStatus> {
    let [out_bytes, in_bytes, code, _] = location.parameters.map(|number| number as u32);
    if code & 3 != 0 {
        return Err(NtStatus::NOT_SUPPORTED);
    }
    if (in_bytes as usize) < size_of::<IdcHeader>() || buffer.is_null() {
        return Err(NtStatus::INVALID_PARAMETER);
    }
    // SAFETY: the buffer has `in_bytes`.
    let header = unsafe { buffer.read_unaligned() };
    if header.bytes != in_bytes || header.bytes != out_bytes {
        return Err(NtStatus::INVALID_PARAMETER);
    }
    // SAFETY: a device control has a file object, which its client references.
    let record = unsafe { Record::of(location.file_object) }.ok_or(NtStatus::NOT_SUPPORTED)?;
    let call = |session: usize| {
        // SAFETY: the buffer is this request's alone, and has what the header tells; the client is a driver and keeps the contract.
        unsafe { idc::call(&state.driver, code, session as *const SessionView, buffer) }
            .into_result()
            .map_err(|_| NtStatus::INVALID_PARAMETER)
    };
    match IdcRequest::decode(Encoding::Windows, code) {
        Some(IdcRequest::Connect) => {
            if !record.sibling_connecting() {
                return Err(NtStatus::NOT_SUPPORTED);
            }
            let result = call(0);
            // SAFETY: as above.
            let answer = unsafe { buffer.read_unaligned() };
            let connected = result.is_ok() && answer.rc == 0;
            record.sibling_is(if connected { answer.session } else { 0 });
            result?;
        }
        request => {
            let session = record.sibling().ok_or(NtStatus::NOT_SUPPORTED)?;
            if header.session != session {
                return Err(NtStatus::INVALID_PARAMETER);
            }
            if request == Some(IdcRequest::Disconnect) {
                if !record.sibling_disconnecting(session) {
                    return Err(NtStatus::NOT_SUPPORTED);
                }
                let result = call(session);
                record.sibling_is(if result.is_ok() { 0 } else { session });
                result?;
            } else {
                // Another thread may disconnect meanwhile: then there is no session, whatever else is wrong.
                let is_connected = || record.sibling() == Some(session);
                call(session)
                    .map_err(|status| if is_connected() { status } else { NtStatus::NOT_SUPPORTED })?;
            }
        }
    }
    Ok(header.bytes as usize)
}

/// Ends the session of a sibling that went without a word. PASSIVE.
pub fn disconnect(session: usize) {
    let Some(state) = state::get() else { return };
    let request = IdcRequest::Disconnect;
    let mut header = IdcHeader::new_zeroed();
    (header.bytes, header.session) = (request.packet_bytes() as u32, session);
    let code = request.code(Encoding::Windows);
    let packet = NonNull::from(&mut header).as_ptr();
    // SAFETY: a packet of our own; the session is looked up before it is used.
    unsafe { idc::call(&state.driver, code, session as *const SessionView, packet) };
}
