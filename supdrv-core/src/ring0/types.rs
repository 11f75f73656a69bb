//! The types that cross the boundary between the driver and modules.

pub use core::ffi::{c_char, c_void};

pub use super::va::VaList;
pub use crate::abi::published::{Factory, Page, SessionView};
pub use crate::object::Destructor;
pub use crate::os::CpuSet;

/// A C `bool` as an argument: whatever isn't 0 is true, since nobody promises that callers pass only 0 and 1.
pub type CBool = u8;

/// `RTUUID`: in memory order; the first three fields are numbers in the CPU's order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(8))]
pub struct Uuid(pub [u8; 16]);

/// `RTTHREADPREEMPTSTATE`: 8 bytes of the caller's, which are the driver's between disable and restore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct PreemptStateView {
    /// The CPU, for debugging.
    pub cpu_id: u32,
    /// What the system wants back.
    pub state: u32,
}

/// `PFNRTMPWORKER`: class I, never blocks.
pub type CpuWorker = unsafe extern "C" fn(cpu_id: u32, user1: *mut c_void, user2: *mut c_void);
/// `PFNRTMPNOTIFICATION`: event 1 on-line, 2 off-line; class I.
pub type MpNotification = unsafe extern "C" fn(event: u32, cpu_id: u32, user: *mut c_void);
/// `PFNRTPOWERNOTIFICATION`: event 1 suspend, 2 resume; class T or D.
pub type PowerNotification = unsafe extern "C" fn(event: u32, user: *mut c_void);
/// `PFNRTTIMER`: class D or I.
pub type TimerMain = unsafe extern "C" fn(timer: *mut c_void, user: *mut c_void, tick: u64);
/// `PFNRTTHREAD`.
pub type ThreadMain = unsafe extern "C" fn(thread: usize, user: *mut c_void) -> i32;
/// `PFNRTTHREADCTXHOOK`: event 0 preempting, 1 resumed; in the scheduler.
pub type ThreadCtxHook = unsafe extern "C" fn(event: u32, user: *mut c_void);
/// `PFNRTHANDLETABLERETAIN`: called under the table's lock; a failure makes the lookup fail.
pub type TableRetain =
    unsafe extern "C" fn(table: usize, object: *mut c_void, context: *mut c_void, user: *mut c_void) -> i32;
/// `PFNRTHANDLETABLEDELETE`: called without locks for each handle that is live when its table is destroyed.
pub type TableDelete = unsafe extern "C" fn(
    table: usize,
    handle: u32,
    object: *mut c_void,
    context: *mut c_void,
    user: *mut c_void,
);
/// `PFNRTSTROUTPUT`: takes characters, returns how many it took; null and 0 at the end.
pub type StrOutput = unsafe extern "C" fn(arg: *mut c_void, chars: *const c_char, count: usize) -> usize;
/// `PFNSTRFORMAT`: formats a specifier that the formatter doesn't know. `*format` points to the specifier and is moved behind it.
pub type StrFormatExtension = unsafe extern "C" fn(
    arg: *mut c_void,
    output: StrOutput,
    output_arg: *mut c_void,
    format: *mut *const c_char,
    args: *mut c_void,
    width: i32,
    precision: i32,
    flags: u32,
    size: c_char,
) -> usize;
/// `PFNRTSTRFORMATTYPE`: formats a value of a registered type, `%R[type]`.
pub type StrFormatType = unsafe extern "C" fn(
    output: StrOutput,
    output_arg: *mut c_void,
    name: *const c_char,
    value: *const c_void,
    width: i32,
    precision: i32,
    flags: u32,
    user: *mut c_void,
) -> usize;

const _: () = assert!(size_of::<Uuid>() == 16 && size_of::<PreemptStateView>() == 8);
const _: () = assert!(size_of::<CpuSet>() == 32);
