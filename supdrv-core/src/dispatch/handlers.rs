//! One handler per request: input out of the packet, service, output into it.

use crate::abi::Status;
use crate::abi::ioctl::{
    COOKIE_MAGIC, DEVEXT_COOKIE, Function, IOC_VERSION, SEM_TYPE_EVENT, SEM_TYPE_EVENT_MULTI,
    SERVICE_REQUEST_MAGIC, SESSION_COOKIE, VMMR0_REQUEST_MAGIC,
};
use crate::abi::requests as r;
use crate::abi::status::{
    Result, VERR_ACCESS_DENIED, VERR_DANGLING_OBJECTS, VERR_GENERAL_FAILURE, VERR_INVALID_FUNCTION,
    VERR_INVALID_MAGIC, VERR_INVALID_PARAMETER, VERR_NOT_FOUND, VERR_NOT_IMPLEMENTED, VERR_NOT_SUPPORTED,
    VERR_VERSION_MISMATCH, VINF_OBJECT_DESTROYED, VINF_SUCCESS,
};
use crate::abi::tracer::TracerUmodFireProbeIn;
use crate::dispatch::{Handled, MALFORMED, Packet, Reject};
use crate::hwvirt;
use crate::loader::call::Vmmr0Call;
use crate::loader::{LoadRequest, Sizes, normalised};
use crate::memory::{Addresses, MemKind, PageMappings, PhysAddr};
use crate::object::Released;
use crate::os::{EventKind, MemProt, PAGE_SIZE, SupdrvOs, WaitMode};
use crate::semaphore::{deadline_ns, timeout_ms, timeout_ns};
use crate::session::Session;
use crate::tracer::UmodRequest;

/// Inlined: it has one caller, and small requests feel the difference.
#[inline(always)]
pub fn handle<O: SupdrvOs>(session: &Session<O>, function: Function, packet: &mut Packet<'_>) -> Handled {
    use Function as F;
    match function {
        F::Cookie => cookie(session, packet),
        F::QueryFuncs => query_functions(session, packet),
        F::LdrOpen => ldr_open(session, packet),
        F::LdrLoad => ldr_load(session, packet),
        F::LdrFree => ldr_free(session, packet),
        F::LdrGetSymbol => ldr_get_symbol(session, packet),
        F::CallVmmr0 => call_vmmr0(session, packet, true),
        F::CallVmmr0Big => call_vmmr0(session, packet, false),
        F::LowAlloc => low_alloc(session, packet),
        F::LowFree => free(session, packet, MemKind::Low),
        F::PageAllocEx => page_alloc(session, packet),
        F::PageMapKernel => page_map_kernel(session, packet),
        F::PageProtect => page_protect(session, packet),
        F::PageFree => free(session, packet, MemKind::Page),
        F::PageLock => page_lock(session, packet),
        F::PageUnlock => free(session, packet, MemKind::Locked),
        F::ContAlloc => cont_alloc(session, packet),
        F::ContFree => free(session, packet, MemKind::Contiguous),
        F::GetPagingMode => {
            packet.output::<r::GetPagingModeOut>()?.mode = hwvirt::paging_mode(session.driver().os());
            Ok(VINF_SUCCESS)
        }
        F::SetVmForFast => set_vm(session, packet),
        F::GipMap => gip_map(session, packet),
        F::GipUnmap => Ok(Status::of(session.driver().gip().unmap(session))),
        F::CallService => call_service(session, packet),
        F::LoggerSettings => logger_settings(packet),
        F::SemOp2 => sem_op2(session, packet),
        F::SemOp3 => sem_op3(session, packet),
        F::VtCaps => vt_caps(session, packet),
        F::TracerOpen => {
            let input: r::TracerOpenIn = packet.input()?;
            Ok(session.tracer_open(input.cookie, input.arg).unwrap_or_else(|status| status))
        }
        F::TracerClose => Ok(Status::of(session.tracer_close())),
        F::TracerIoctl => tracer_ioctl(session, packet),
        F::TracerUmodReg => tracer_umod_register(session, packet),
        F::TracerUmodDereg => {
            let input: r::TracerUmodDeregIn = packet.input()?;
            Ok(Status::of(session.tracer_umod_deregister(input.header_r3)))
        }
        F::TracerUmodFireProbe => {
            let mut context = packet.input::<TracerUmodFireProbeIn>()?.context;
            session.tracer_umod_fire(&mut context);
            Ok(VINF_SUCCESS)
        }
        F::MsrProber => match packet.input::<r::MsrProberIn>()?.operation {
            1..=4 => Ok(VERR_NOT_IMPLEMENTED),
            _ => Err(MALFORMED),
        },
        F::ResumeSuspendedKbds => Ok(Status::of(session.driver().os().resume_suspended_keyboards())),
        F::FastDoRawRun | F::FastDoHmRun | F::FastDoNop => Err(Reject::Request(VERR_GENERAL_FAILURE)),
    }
}

/// A failed request whose output must not travel back.
fn cut(packet: &mut Packet<'_>, status: Status) -> Handled {
    packet.cut_output();
    Ok(status)
}

#[inline(always)]
fn cookie<O: SupdrvOs>(session: &Session<O>, packet: &mut Packet<'_>) -> Handled {
    let input: r::CookieIn = packet.input()?;
    if input.magic != COOKIE_MAGIC {
        return Ok(VERR_INVALID_MAGIC);
    }
    let accepted = input.min_version <= IOC_VERSION && input.min_version >> 16 == IOC_VERSION >> 16;
    let output = packet.output::<r::CookieOut>()?;
    output.driver_version = IOC_VERSION;
    if !accepted {
        (output.cookie, output.session_cookie, output.session_version) = (u32::MAX, u32::MAX, u32::MAX);
        (output.function_count, output.session) = (0, 0);
        return Ok(VERR_VERSION_MISMATCH);
    }
    (output.cookie, output.session_cookie, output.session_version) =
        (DEVEXT_COOKIE, SESSION_COOKIE, IOC_VERSION);
    output.function_count =
        if session.is_unrestricted() { session.driver().functions().len() as u32 } else { 0 };
    output.session = session.key();
    Ok(VINF_SUCCESS)
}

fn query_functions<O: SupdrvOs>(session: &Session<O>, packet: &mut Packet<'_>) -> Handled {
    let functions = session.driver().functions();
    let size = size_of::<r::QueryFuncsOut>() + size_of_val(functions);
    if packet.header().out_bytes as usize != size {
        return Err(MALFORMED);
    }
    let (output, to) = packet.output_tail::<r::QueryFuncsOut, r::Function>(functions.len())?;
    output.function_count = functions.len() as u32;
    to.copy_from_slice_checked(functions)?;
    Ok(VINF_SUCCESS)
}

/// Copies between slices whose lengths were made equal.
trait CopyChecked<T> {
    fn copy_from_slice_checked(&mut self, from: &[T]) -> core::result::Result<(), Reject>;
}

impl<T: Copy> CopyChecked<T> for [T] {
    fn copy_from_slice_checked(&mut self, from: &[T]) -> core::result::Result<(), Reject> {
        if self.len() != from.len() {
            return Err(MALFORMED);
        }
        for (to, from) in self.iter_mut().zip(from) {
            *to = *from;
        }
        Ok(())
    }
}

fn is_forbidden_in_name(byte: u8) -> bool {
    b";:()[]{}/\\|&*%#@!~`\"'".contains(&byte)
}

/// The text before the NUL, which must be there.
fn terminated(field: &[u8]) -> core::result::Result<&[u8], Reject> {
    let end = field.iter().position(|byte| *byte == 0).ok_or(MALFORMED)?;
    field.get(..end).ok_or(MALFORMED)
}

fn ldr_open<O: SupdrvOs>(session: &Session<O>, packet: &mut Packet<'_>) -> Handled {
    let input: r::LdrOpenIn = packet.input()?;
    let sizes = Sizes { with_tables: input.image_bytes_with_tables, bits: input.image_bytes };
    if !(1..0x100_0000).contains(&sizes.with_tables) || !(1..sizes.with_tables).contains(&sizes.bits) {
        return Err(MALFORMED);
    }
    let name = terminated(&input.name)?;
    if name.is_empty() || name.iter().copied().any(is_forbidden_in_name) {
        return Err(MALFORMED);
    }
    let file_name = terminated(&input.file_name)?;
    match session.ldr_open(&normalised(name), sizes, file_name) {
        Ok(opened) => {
            let output = packet.output::<r::LdrOpenOut>()?;
            output.image_base = opened.base;
            output.needs_loading = u8::from(opened.needs_loading);
            output.native_loader = u8::from(opened.native);
            Ok(VINF_SUCCESS)
        }
        Err(status) => Ok(status),
    }
}

/// `count` items of `item_bytes` at `offset`, inside `image`; nothing if there are none.
fn area(image: &[u8], offset: u32, count: u32, item_bytes: u64) -> core::result::Result<&[u8], Reject> {
    if count == 0 {
        return Ok(&[]);
    }
    let end = u64::from(offset) + u64::from(count) * item_bytes;
    let end = usize::try_from(end).map_err(|_| MALFORMED)?;
    image.get(offset as usize..end).ok_or(MALFORMED)
}

const MAX_SYMBOLS: u32 = 16384;

fn ldr_load<O: SupdrvOs>(session: &Session<O>, packet: &mut Packet<'_>) -> Handled {
    use zerocopy::FromBytes;
    let input: r::LdrLoadIn = packet.input()?;
    let image = packet.input_tail::<r::LdrLoadIn>()?;
    // The C structure ends with padding behind its first image byte, and the client must have sent all of it.
    let least = size_of::<r::LdrLoadIn>() + 4;
    if (packet.header().in_bytes as usize) < least || image.len() != input.image_bytes_with_tables as usize {
        return Err(MALFORMED);
    }
    if input.symbol_count > MAX_SYMBOLS {
        return Err(MALFORMED);
    }
    let symbols = area(image, input.symbols_offset, input.symbol_count, size_of::<r::LdrSymbol>() as u64)?;
    let strings = area(image, input.strings_offset, input.strings_bytes, 1)?;
    for symbol in symbols.chunks_exact(size_of::<r::LdrSymbol>()) {
        let symbol = r::LdrSymbol::read_from_bytes(symbol).map_err(|_| MALFORMED)?;
        if symbol.symbol_offset >= input.image_bytes_with_tables {
            return Err(MALFORMED);
        }
        let rest = strings.get(symbol.name_offset as usize..).ok_or(MALFORMED)?;
        terminated(rest)?;
    }
    let request = LoadRequest {
        base: input.image_base,
        image_bytes: input.image_bytes,
        init: input.module_init,
        term: input.module_term,
        entry_point_type: input.entry_point_type,
        entry_points: input.entry_points,
        image,
        symbols,
        strings,
    };
    Ok(session.ldr_load(&request).unwrap_or_else(|status| status))
}

fn ldr_free<O: SupdrvOs>(session: &Session<O>, packet: &Packet<'_>) -> Handled {
    match session.ldr_free(packet.input::<r::LdrFreeIn>()?.image_base) {
        // The reference stays until the session is closed; clients are told that all is well.
        Err(VERR_DANGLING_OBJECTS) => Ok(VINF_SUCCESS),
        result => Ok(Status::of(result)),
    }
}

fn ldr_get_symbol<O: SupdrvOs>(session: &Session<O>, packet: &mut Packet<'_>) -> Handled {
    let input: r::LdrGetSymbolIn = packet.input()?;
    match session.ldr_symbol(input.image_base, terminated(&input.symbol)?) {
        Ok(address) => {
            packet.output::<r::LdrGetSymbolOut>()?.address = address;
            Ok(VINF_SUCCESS)
        }
        Err(status) => {
            if status == VERR_GENERAL_FAILURE {
                packet.output::<r::LdrGetSymbolOut>()?.address = 0;
            }
            Ok(status)
        }
    }
}

/// Checks the packet for a module that follows a fixed part `T`; `false` if there is none, which is allowed if `optional`.
fn module_packet<T>(packet: &Packet<'_>, magic: u32, optional: bool) -> core::result::Result<bool, Reject> {
    let (fixed, header) = (size_of::<T>(), packet.header());
    let (in_bytes, out_bytes) = (header.in_bytes as usize, header.out_bytes as usize);
    if optional && in_bytes == fixed {
        return if out_bytes == fixed { Ok(false) } else { Err(MALFORMED) };
    }
    use zerocopy::FromBytes;
    let (inner, _) =
        r::Vmmr0RequestHeader::read_from_prefix(packet.input_tail::<T>()?).map_err(|_| MALFORMED)?;
    let size = fixed as u64 + u64::from(inner.bytes);
    if inner.magic != magic || in_bytes as u64 != size || out_bytes as u64 != size {
        return Err(MALFORMED);
    }
    Ok(true)
}

fn call_vmmr0<O: SupdrvOs>(session: &Session<O>, packet: &mut Packet<'_>, optional: bool) -> Handled {
    let input: r::CallVmmr0In = packet.input()?;
    let has_packet = module_packet::<r::CallVmmr0In>(packet, VMMR0_REQUEST_MAGIC, optional)?;
    let call = Vmmr0Call { vm: input.vm, cpu_id: input.cpu_id, operation: input.operation, arg: input.arg };
    let inner = if has_packet { Some(packet.tail_mut::<r::CallVmmr0In>()?) } else { None };
    Ok(session.call_vmmr0(call, inner).unwrap_or_else(|status| status))
}

fn call_service<O: SupdrvOs>(session: &Session<O>, packet: &mut Packet<'_>) -> Handled {
    let input: r::CallServiceIn = packet.input()?;
    let has_packet = module_packet::<r::CallServiceIn>(packet, SERVICE_REQUEST_MAGIC, true)?;
    let name = terminated(&input.name)?;
    let inner = if has_packet { Some(packet.tail_mut::<r::CallServiceIn>()?) } else { None };
    Ok(session.call_service(name, input.operation, input.arg, inner).unwrap_or_else(|status| status))
}

/// Whether the output size in the header is right for `pages` addresses after a fixed part `T`.
fn has_pages<T>(packet: &Packet<'_>, pages: u32) -> bool {
    u64::from(packet.header().out_bytes) == size_of::<T>() as u64 + 8 * u64::from(pages)
}

fn low_alloc<O: SupdrvOs>(session: &Session<O>, packet: &mut Packet<'_>) -> Handled {
    let pages = packet.input::<r::LowAllocIn>()?.pages;
    if !has_pages::<r::LowAllocOut>(packet, pages) {
        return Err(MALFORMED);
    }
    let (output, phys) = packet.output_tail::<r::LowAllocOut, PhysAddr>(pages as usize)?;
    match session.mem_alloc_low(phys) {
        Ok(at) => {
            (output.r3, output.r0) = (at.user, at.kernel);
            Ok(VINF_SUCCESS)
        }
        Err(status) => cut(packet, status),
    }
}

fn page_alloc<O: SupdrvOs>(session: &Session<O>, packet: &mut Packet<'_>) -> Handled {
    let input: r::PageAllocExIn = packet.input()?;
    let reserved = (input.reserved0 | input.reserved1) != 0;
    if !has_pages::<r::PageAllocExOut>(packet, input.pages) || input.user_mapping == 0 || reserved {
        return Err(MALFORMED);
    }
    let mappings = if input.kernel_mapping == 0 { PageMappings::User } else { PageMappings::UserAndKernel };
    let (output, phys) = packet.output_tail::<r::PageAllocExOut, PhysAddr>(input.pages as usize)?;
    match session.page_alloc(input.pages, mappings, phys) {
        Ok(at) => {
            (output.r3, output.r0) = (at.user, at.kernel);
            Ok(VINF_SUCCESS)
        }
        Err(status) => cut(packet, status),
    }
}

fn page_lock<O: SupdrvOs>(session: &Session<O>, packet: &mut Packet<'_>) -> Handled {
    let input: r::PageLockIn = packet.input()?;
    if !has_pages::<r::PageLockOut>(packet, input.pages) || input.pages == 0 || input.r3 < PAGE_SIZE {
        return Err(MALFORMED);
    }
    let (_, phys) = packet.output_tail::<r::PageLockOut, PhysAddr>(input.pages as usize)?;
    match session.mem_lock(input.r3, phys) {
        Ok(()) => Ok(VINF_SUCCESS),
        Err(status) => cut(packet, status),
    }
}

fn cont_alloc<O: SupdrvOs>(session: &Session<O>, packet: &mut Packet<'_>) -> Handled {
    match session.mem_alloc_contiguous(packet.input::<r::ContAllocIn>()?.pages) {
        Ok((at, phys)) => {
            let output = packet.output::<r::ContAllocOut>()?;
            (output.r3, output.r0, output.phys) = (at.user, at.kernel, phys);
            Ok(VINF_SUCCESS)
        }
        Err(status) => cut(packet, status),
    }
}

/// All freeing requests have the same packet: one address.
fn free<O: SupdrvOs>(session: &Session<O>, packet: &Packet<'_>, kind: MemKind) -> Handled {
    Ok(Status::of(session.mem_free(kind, packet.input::<r::PageFreeIn>()?.r3)))
}

fn check_sub_range(offset: u32, size: u32) -> core::result::Result<(), Reject> {
    let aligned = ((offset | size) as usize).is_multiple_of(PAGE_SIZE) && size != 0;
    if aligned { Ok(()) } else { Err(MALFORMED) }
}

fn page_map_kernel<O: SupdrvOs>(session: &Session<O>, packet: &mut Packet<'_>) -> Handled {
    let input: r::PageMapKernelIn = packet.input()?;
    if input.flags != 0 {
        return Err(MALFORMED);
    }
    check_sub_range(input.offset_bytes, input.size_bytes)?;
    match session.page_map_kernel(input.r3, input.offset_bytes as usize, input.size_bytes as usize) {
        Ok(address) => {
            packet.output::<r::PageMapKernelOut>()?.r0 = address;
            Ok(VINF_SUCCESS)
        }
        Err(status) => cut(packet, status),
    }
}

fn page_protect<O: SupdrvOs>(session: &Session<O>, packet: &Packet<'_>) -> Handled {
    let input: r::PageProtectIn = packet.input()?;
    let prot = MemProt::from_bits(input.prot).ok_or(MALFORMED)?;
    check_sub_range(input.offset_bytes, input.size_bytes)?;
    let at = Addresses { user: input.r3, kernel: input.r0 };
    Ok(Status::of(session.page_protect(at, input.offset_bytes as usize, input.size_bytes as usize, prot)))
}

fn set_vm<O: SupdrvOs>(session: &Session<O>, packet: &Packet<'_>) -> Handled {
    let vm = packet.input::<r::SetVmForFastIn>()?.vm;
    if vm != 0 && (!vm.is_multiple_of(PAGE_SIZE) || !session.driver().os().is_plausible_address(vm)) {
        return Err(MALFORMED);
    }
    session.set_vm(vm);
    Ok(VINF_SUCCESS)
}

fn gip_map<O: SupdrvOs>(session: &Session<O>, packet: &mut Packet<'_>) -> Handled {
    let result = session.driver().gip().map(session);
    let output = packet.output::<r::GipMapOut>()?;
    match result {
        Ok(gip) => {
            (output.phys, output.r3, output.r0) = (gip.phys, gip.user, gip.kernel);
            Ok(VINF_SUCCESS)
        }
        Err(status) => {
            (output.phys, output.r3, output.r0) = (u64::MAX, 0, 0);
            Ok(status)
        }
    }
}

#[inline(always)]
fn vt_caps<O: SupdrvOs>(session: &Session<O>, packet: &mut Packet<'_>) -> Handled {
    match hwvirt::vt_caps(session.driver().os()) {
        Ok(caps) => {
            packet.output::<r::VtCapsOut>()?.caps = caps.bits();
            Ok(VINF_SUCCESS)
        }
        Err(status) => cut(packet, status),
    }
}

/// This driver has no loggers: what applies to one that isn't there is what remains.
fn logger_settings(packet: &Packet<'_>) -> Handled {
    const SETTINGS: u32 = 0;
    const DESTROY: u32 = 2;
    const RELEASE: u32 = 1;
    let input: r::LoggerSettingsIn = packet.input()?;
    let strings = packet.input_tail::<r::LoggerSettingsIn>()?;
    let string =
        |offset: u32| strings.get(offset as usize..).filter(|rest| !rest.is_empty()).ok_or(MALFORMED);
    let parts =
        [string(input.groups_offset)?, string(input.flags_offset)?, string(input.destination_offset)?];
    if strings.last() != Some(&0) || input.which > RELEASE || input.what > DESTROY {
        return Err(MALFORMED);
    }
    let any_text = parts.iter().any(|part| part.first() != Some(&0));
    Ok(match input.what {
        DESTROY if any_text => VERR_INVALID_PARAMETER,
        DESTROY if input.which == RELEASE => VERR_ACCESS_DENIED,
        DESTROY => VINF_SUCCESS,
        SETTINGS => VERR_NOT_FOUND,
        _ => VERR_NOT_SUPPORTED,
    })
}

fn tracer_ioctl<O: SupdrvOs>(session: &Session<O>, packet: &mut Packet<'_>) -> Handled {
    let input: r::TracerIoctlIn = packet.input()?;
    let (status, value) = session.tracer_ioctl(input.command, input.arg).unwrap_or_else(|status| (status, 0));
    packet.output::<r::TracerIoctlOut>()?.return_value = value;
    Ok(status)
}

fn tracer_umod_register<O: SupdrvOs>(session: &Session<O>, packet: &Packet<'_>) -> Handled {
    let input: r::TracerUmodRegIn = packet.input()?;
    let name = terminated(&input.name).map_err(|_| Reject::Request(VERR_INVALID_PARAMETER))?;
    let request = UmodRequest {
        header_r3: input.header_r3,
        header_address: input.header_address,
        strings_r3: input.strings_r3,
        strings_bytes: input.strings_bytes,
        name,
        flags: input.flags,
    };
    Ok(Status::of(session.tracer_umod_register(&request)))
}

fn sem_kind(sem_type: u32) -> Option<EventKind> {
    match sem_type {
        SEM_TYPE_EVENT => Some(EventKind::SingleRelease),
        SEM_TYPE_EVENT_MULTI => Some(EventKind::MultiRelease),
        _ => None,
    }
}

fn sem_op2<O: SupdrvOs>(session: &Session<O>, packet: &Packet<'_>) -> Handled {
    let input: r::SemOp2In = packet.input()?;
    if input.reserved != 0 {
        return Err(MALFORMED);
    }
    let Some(kind) = sem_kind(input.sem_type) else { return Ok(VERR_INVALID_PARAMETER) };
    let (handle, arg) = (input.handle, input.arg);
    let wait = |timeout| session.sem_wait(handle, kind, timeout, WaitMode::Interruptible);
    let result: Result<()> = match (input.operation, kind) {
        (0, _) => wait(timeout_ms(arg as u32)),
        (1, _) => wait(deadline_ns(arg)),
        (2, _) => wait(timeout_ns(arg)),
        (3, _) => session.sem_signal(handle, kind),
        (4, EventKind::MultiRelease) => session.sem_reset(handle),
        (5, _) => {
            return Ok(match session.sem_close(handle, kind) {
                Ok(Released::Alive) => VINF_SUCCESS,
                Ok(Released::Destroyed) => VINF_OBJECT_DESTROYED,
                Err(status) => status,
            });
        }
        _ => Err(VERR_INVALID_FUNCTION),
    };
    session.driver().objects().bury();
    Ok(Status::of(result))
}

fn sem_op3<O: SupdrvOs>(session: &Session<O>, packet: &mut Packet<'_>) -> Handled {
    let input: r::SemOp3In = packet.input()?;
    if input.reserved != 0 || input.reserved64 != 0 {
        return Err(MALFORMED);
    }
    let Some(kind) = sem_kind(input.sem_type) else { return Ok(VERR_INVALID_PARAMETER) };
    if input.operation > 1 {
        return Ok(VERR_INVALID_FUNCTION);
    }
    if input.handle != 0 {
        return Err(MALFORMED);
    }
    let result = match input.operation {
        0 => session.sem_create(kind),
        _ => Ok(session.driver().os().event_resolution_ns()),
    };
    let output = packet.output::<r::SemOp3Out>()?;
    output.value = result.unwrap_or(0);
    Ok(result.map_or_else(|status| status, |_| VINF_SUCCESS))
}
