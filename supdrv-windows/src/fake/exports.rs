//! The kernel's other functions, and its instructions.

use core::ffi::{CStr, c_void};
use std::string::String;
use std::sync::OnceLock;
use std::time::Instant;

use super::{
    EXCEPTION, FIRST_PROCESS, GUARDS, INTERRUPTS, IRQL, PROCESS, at_most, bug_check, fails, waits, with,
};
use crate::kernel::IpiWorker;
use crate::nt::sys::DpcRoutine;
use crate::nt::{
    APC_LEVEL, DISPATCH_LEVEL, Handle, Irql, KApcState, KDpc, Mdl, NtStatus, PASSIVE_LEVEL, ProcessorChange,
    ProcessorNumber, UnicodeString, VersionInfo,
};

/// Processors of a group.
const GROUP: u32 = 64;

/// Processors that are there.
fn processors() -> u32 {
    with(|state| state.config.processors.max(2))
}

/// Where an index is.
fn processor_number(index: u32) -> ProcessorNumber {
    ProcessorNumber { group: (index / GROUP) as u16, number: (index % GROUP) as u8, reserved: 0 }
}

fn index_of(number: ProcessorNumber) -> u32 {
    u32::from(number.group) * GROUP + u32::from(number.number)
}

const IF: usize = 1 << 9;

pub fn text(string: *const UnicodeString) -> String {
    let string = unsafe { &*string };
    let units = unsafe { core::slice::from_raw_parts(string.buffer, usize::from(string.length) / 2) };
    String::from_utf16_lossy(units)
}

pub fn thread() -> *mut c_void {
    std::thread_local! { static ME: u8 = const { 0 }; }
    ME.with(|me| core::ptr::from_ref(me).cast_mut().cast())
}

// ---- instructions ----

#[unsafe(no_mangle)]
fn supdrv_fake_irql() -> Irql {
    IRQL.get()
}

#[unsafe(no_mangle)]
fn supdrv_fake_flags() -> usize {
    if INTERRUPTS.get() { IF } else { 0 }
}

#[unsafe(no_mangle)]
fn supdrv_fake_irq_save() -> usize {
    if INTERRUPTS.replace(false) { IF } else { 0 }
}

#[unsafe(no_mangle)]
fn supdrv_fake_irq_restore(flags: usize) {
    INTERRUPTS.set(flags & IF != 0);
}

#[unsafe(no_mangle)]
fn supdrv_fake_interrupt_time() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    // Not zero at boot.
    1_000_000 + (START.get_or_init(Instant::now).elapsed().as_nanos() / 100) as u64
}

#[unsafe(no_mangle)]
fn supdrv_fake_system_time() -> u64 {
    133_000_000_000_000_000 + supdrv_fake_interrupt_time()
}

std::thread_local! {
    /// The calling thread's processor.
    pub static CPU: core::cell::Cell<u32> = const { core::cell::Cell::new(0) };
}

#[unsafe(no_mangle)]
fn supdrv_fake_processor_number() -> u32 {
    CPU.get()
}

#[unsafe(no_mangle)]
fn supdrv_fake_rdmsr(msr: u32) -> u64 {
    const EFER: u32 = 0xc000_0080;
    // Long mode, no-execute.
    if msr == EFER { 0xd01 } else { 0 }
}

#[unsafe(no_mangle)]
fn supdrv_fake_control_register(number: u32) -> usize {
    const LONG_MODE: [(u32, usize); 2] = [(0, 0x8000_0011), (4, 0xa0)];
    LONG_MODE.into_iter().find(|(register, _)| *register == number).map_or(0, |(_, value)| value)
}

#[unsafe(no_mangle)]
extern "system" fn supdrv_guarded_call(
    function: usize,
    arguments: *const [usize; 6],
    result: *mut usize,
) -> u32 {
    type Six = unsafe extern "system" fn(usize, usize, usize, usize, usize, usize) -> usize;
    let function: Six = unsafe { core::mem::transmute(function) };
    let [a, b, c, d, e, f] = unsafe { *arguments };
    GUARDS.set(GUARDS.get() + 1);
    let outer = EXCEPTION.replace(0);
    let returned = unsafe { function(a, b, c, d, e, f) };
    GUARDS.set(GUARDS.get() - 1);
    let raised = EXCEPTION.replace(outer);
    if raised == 0 {
        unsafe { *result = returned };
    }
    raised
}

#[unsafe(no_mangle)]
extern "system" fn supdrv_plain_copy(to: *mut u8, from: *const u8, bytes: usize) {
    if !super::memory::is_mapped(to as usize, bytes, true)
        || !super::memory::is_mapped(from as usize, bytes, false)
    {
        super::raise(NtStatus(0xc000_0005));
        return;
    }
    unsafe { core::ptr::copy(from, to, bytes) };
}

// ---- routines that are looked up ----

extern "system" fn ipi_generic_call(worker: IpiWorker, context: usize) -> usize {
    let irql = IRQL.replace(14);
    let before = CPU.get();
    for cpu in 0..processors() {
        CPU.set(cpu);
        unsafe { worker(context) };
    }
    CPU.set(before);
    IRQL.set(irql);
    0
}

extern "system" fn generic_call_dpc(routine: DpcRoutine, context: *mut c_void) {
    at_most(APC_LEVEL, "KeGenericCallDpc");
    let irql = IRQL.replace(DISPATCH_LEVEL);
    let before = CPU.get();
    let mut dpc = KDpc::NEW;
    let mut done = 0_usize;
    for cpu in 0..processors() {
        CPU.set(cpu);
        unsafe { routine(&raw mut dpc, context, (&raw mut done).cast(), core::ptr::null_mut()) };
    }
    if done != processors() as usize {
        bug_check!("KeGenericCallDpc: {done} processors signalled");
    }
    CPU.set(before);
    IRQL.set(irql);
}

extern "system" fn signal_call_dpc_done(done: *mut c_void) {
    unsafe { *done.cast::<usize>() += 1 };
}

extern "system" fn register_processor_change(
    function: usize,
    context: *mut c_void,
    _flags: u32,
) -> *mut c_void {
    if fails() {
        return core::ptr::null_mut();
    }
    with(|state| {
        state.registrations += 1;
        let handle = 0x5000 + 8 * state.registrations;
        state.account.processor_changes.insert(handle, (function, context as usize));
        handle as *mut c_void
    })
}

extern "system" fn deregister_processor_change(handle: *mut c_void) {
    at_most(PASSIVE_LEVEL, "KeDeregisterProcessorChangeCallback");
    if with(|state| state.account.processor_changes.remove(&(handle as usize))).is_none() {
        bug_check!("deregistration of what isn't registered");
    }
}

/// One more processor: all who registered are told, while it comes and when it is there.
pub fn add_processor() {
    const COMING: u32 = 0;
    const ADDED: u32 = 1;
    let index = processors();
    for state_now in [COMING, ADDED] {
        if state_now == ADDED {
            with(|state| state.config.processors = index + 1);
        }
        let number = processor_number(index);
        let change =
            ProcessorChange { state: state_now, nt_number: index, status: NtStatus::SUCCESS, number };
        let registered: std::vec::Vec<(usize, usize)> =
            with(|state| state.account.processor_changes.values().copied().collect());
        for (function, context) in registered {
            let function: crate::kernel::ProcessorCallback = unsafe { core::mem::transmute(function) };
            let mut status = NtStatus::SUCCESS;
            unsafe { function(context as *mut c_void, &raw const change, &raw mut status) };
        }
    }
}

extern "system" fn current_processor_number_ex(number: *mut ProcessorNumber) -> u32 {
    if let Some(number) = unsafe { number.as_mut() } {
        *number = processor_number(CPU.get());
    }
    CPU.get()
}

extern "system" fn processor_number_from_index(index: u32, number: *mut ProcessorNumber) -> NtStatus {
    if index >= maximum() {
        return NtStatus::INVALID_PARAMETER;
    }
    unsafe { *number = processor_number(index) };
    NtStatus::SUCCESS
}

/// Processors that there can be: room for two more.
fn maximum() -> u32 {
    processors() + 2
}

extern "system" fn processor_count(_group: u16) -> u32 {
    processors()
}

extern "system" fn maximum_count(_group: u16) -> u32 {
    maximum()
}

extern "system" fn set_target_processor(dpc: *mut KDpc, number: *const ProcessorNumber) -> NtStatus {
    unsafe { waits::set_target(dpc, index_of(*number)) };
    NtStatus::SUCCESS
}

extern "system" fn set_group_affinity(
    wanted: *const crate::nt::GroupAffinity,
    before: *mut crate::nt::GroupAffinity,
) {
    at_most(APC_LEVEL, "KeSetSystemGroupAffinityThread");
    let number = processor_number(CPU.get());
    unsafe { ((*before).mask, (*before).group) = (1 << number.number, number.group) };
    CPU.set(affinity_index(unsafe { &*wanted }));
}

fn affinity_index(affinity: &crate::nt::GroupAffinity) -> u32 {
    let index = u32::from(affinity.group) * GROUP + affinity.mask.trailing_zeros();
    if index >= processors() {
        bug_check!("a thread is sent to processor {index}");
    }
    index
}

extern "system" fn revert_group_affinity(before: *const crate::nt::GroupAffinity) {
    CPU.set(affinity_index(unsafe { &*before }));
}

extern "system" fn protect_mdl(_mdl: *mut Mdl, _protection: u32) -> NtStatus {
    NtStatus::SUCCESS
}

extern "system" fn query_timer_resolution(coarsest: *mut u32, finest: *mut u32, current: *mut u32) {
    unsafe { (*coarsest, *finest, *current) = (156_250, 5_000, 10_000) };
}

#[unsafe(no_mangle)]
extern "system" fn MmGetSystemRoutineAddress(name: *const UnicodeString) -> *mut c_void {
    at_most(PASSIVE_LEVEL, "MmGetSystemRoutineAddress");
    let name = text(name);
    let (hidden, emulated) =
        with(|state| (state.config.missing.contains(name.as_str()), state.config.emulated));
    if hidden {
        return core::ptr::null_mut();
    }
    let address = match name.as_str() {
        "wine_ntoskrnl_main_loop" if emulated => thread as *const (),
        "KeIpiGenericCall" => ipi_generic_call as *const (),
        "KeGenericCallDpc" => generic_call_dpc as *const (),
        "KeSignalCallDpcDone" => signal_call_dpc_done as *const (),
        "KeRegisterProcessorChangeCallback" => register_processor_change as *const (),
        "KeDeregisterProcessorChangeCallback" => deregister_processor_change as *const (),
        "KeGetCurrentProcessorNumberEx" => current_processor_number_ex as *const (),
        "KeGetProcessorNumberFromIndex" => processor_number_from_index as *const (),
        "KeQueryMaximumProcessorCountEx" => maximum_count as *const (),
        "KeQueryActiveProcessorCountEx" => processor_count as *const (),
        "KeSetTargetProcessorDpcEx" => set_target_processor as *const (),
        "KeSetSystemGroupAffinityThread" => set_group_affinity as *const (),
        "KeRevertToUserGroupAffinityThread" => revert_group_affinity as *const (),
        "MmAllocatePagesForMdlEx" if !emulated => super::memory::allocate_pages_ex as *const (),
        "MmProtectMdlSystemAddress" => protect_mdl as *const (),
        "ExQueryTimerResolution" => query_timer_resolution as *const (),
        "ExAllocateTimer" => waits::allocate_timer as *const (),
        "ExSetTimer" => waits::set_timer as *const (),
        "ExCancelTimer" => waits::cancel_timer as *const (),
        "ExDeleteTimer" => waits::delete_timer as *const (),
        "KeFlushQueuedDpcs" => waits::flush_queued_dpcs as *const (),
        _ => core::ptr::null(),
    };
    address.cast_mut().cast()
}

// ---- the rest ----

#[unsafe(no_mangle)]
extern "system" fn KeBugCheckEx(code: u32, p1: usize, _p2: usize, _p3: usize, _p4: usize) -> ! {
    bug_check!("KeBugCheckEx({code:#x}, {p1:#x})")
}

#[unsafe(no_mangle)]
extern "C" fn DbgPrintEx(_component: u32, _level: u32, _format: *const u8, text: *const u8) -> u32 {
    if !INTERRUPTS.get() {
        bug_check!("DbgPrintEx with interrupts off");
    }
    let text = unsafe { CStr::from_ptr(text.cast()) }.to_string_lossy().into_owned();
    with(|state| state.log += &text);
    0
}

#[unsafe(no_mangle)]
extern "system" fn RtlGetVersion(info: *mut VersionInfo) -> NtStatus {
    unsafe { ((*info).major, (*info).minor, (*info).build) = (10, 0, 19045) };
    NtStatus::SUCCESS
}

#[unsafe(no_mangle)]
extern "system" fn PsGetCurrentProcessId() -> Handle {
    ((PROCESS.get() - FIRST_PROCESS) / 0x1000 + 100) as Handle
}

#[unsafe(no_mangle)]
extern "system" fn IoGetCurrentProcess() -> *mut c_void {
    PROCESS.get() as *mut c_void
}

#[unsafe(no_mangle)]
extern "system" fn PsGetCurrentThread() -> *mut c_void {
    thread()
}

#[unsafe(no_mangle)]
extern "system" fn ObfReferenceObject(object: *mut c_void) -> isize {
    with(|state| *state.account.references.entry(object as usize).or_default() += 1);
    1
}

#[unsafe(no_mangle)]
extern "system" fn ObfDereferenceObject(object: *mut c_void) -> isize {
    with(|state| {
        let count = state.account.references.entry(object as usize).or_default();
        *count -= 1;
        if *count < 0 {
            bug_check!("an object is dereferenced too often");
        }
    });
    1
}

#[unsafe(no_mangle)]
extern "system" fn KeStackAttachProcess(process: *mut c_void, state: *mut KApcState) {
    at_most(APC_LEVEL, "KeStackAttachProcess");
    unsafe { (*state).0[0] = PROCESS.replace(process as usize) };
}

#[unsafe(no_mangle)]
extern "system" fn KeUnstackDetachProcess(state: *mut KApcState) {
    PROCESS.set(unsafe { (*state).0[0] });
}

#[unsafe(no_mangle)]
extern "system" fn KeQueryTimeIncrement() -> u32 {
    156_250
}

#[unsafe(no_mangle)]
extern "system" fn ExSetTimerResolution(desired: u32, set: u8) -> u32 {
    at_most(APC_LEVEL, "ExSetTimerResolution");
    with(|state| state.account.resolution += if set != 0 { 1 } else { -1 });
    desired.max(5_000)
}

#[unsafe(no_mangle)]
extern "system" fn KeQueryActiveProcessors() -> usize {
    usize::MAX >> (64 - processors().min(GROUP))
}

#[unsafe(no_mangle)]
extern "system" fn KeSetSystemAffinityThread(affinity: usize) {
    CPU.set(affinity.trailing_zeros());
}

#[unsafe(no_mangle)]
extern "system" fn KeRevertToUserAffinityThread() {
    CPU.set(0);
}

#[unsafe(no_mangle)]
extern "system" fn PsCreateSystemThread(
    thread: *mut Handle,
    _access: u32,
    _attributes: *const crate::nt::ObjectAttributes,
    _process: Handle,
    _client: *mut c_void,
    start: crate::nt::sys::StartRoutine,
    context: *mut c_void,
) -> NtStatus {
    at_most(PASSIVE_LEVEL, "PsCreateSystemThread");
    if fails() {
        return NtStatus::INSUFFICIENT_RESOURCES;
    }
    let context = context as usize;
    std::thread::spawn(move || unsafe { start(context as *mut c_void) });
    unsafe { *thread = super::memory::new_handle(0) as Handle };
    NtStatus::SUCCESS
}
