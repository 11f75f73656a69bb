//! What the ring-0 runtime costs a loaded module, called through the addresses that it is linked against.

use core::ffi::{c_char, c_void};
use core::ptr::{null, null_mut};
use std::sync::OnceLock;

use supdrv_core::mock::MockOs;

use super::{Meter, spread};

mod exports {
    supdrv_core::ring0_exports!(supdrv_core::mock::MockOs, super::machine());
}

/// The machine of this process.
fn machine() -> MockOs {
    static MACHINE: OnceLock<MockOs> = OnceLock::new();
    MACHINE.get_or_init(MockOs::new).clone()
}

/// An export with its C signature.
macro_rules! import {
    ($name:ident: fn($($arg:ty),*) $(-> $ret:ty)?) => {{
        let found = exports::EXPORTS.iter().find(|export| export.name() == stringify!($name));
        let address = found.expect("an export").address();
        // SAFETY: the export has this signature: the tests compare them with the prototypes of C.
        unsafe { core::mem::transmute::<usize, unsafe extern "C" fn($($arg),*) $(-> $ret)?>(address) }
    }};
}

/// Calls exports; the cases keep their contracts.
macro_rules! call {
    ($($function:ident($($arg:expr),*)),+) => {
        // SAFETY: handles that were created here, and memory that outlives the call.
        unsafe { ($($function($($arg),*)),+) }
    };
}

pub fn spinlock(_: usize) {
    let create = import!(RTSpinlockCreate: fn(*mut usize, u32, *const c_char) -> i32);
    let (acquire, release) = (import!(RTSpinlockAcquire: fn(usize)), import!(RTSpinlockRelease: fn(usize)));
    let mut lock = 0;
    assert_eq!(call!(create(&raw mut lock, 2, null())), 0);
    Meter::count(|_| {
        call!(acquire(lock), release(lock));
    });
}

pub fn event(_: usize) {
    let create = import!(RTSemEventCreate: fn(*mut usize) -> i32);
    let signal = import!(RTSemEventSignal: fn(usize) -> i32);
    let wait = import!(RTSemEventWait: fn(usize, u32) -> i32);
    let mut event = 0;
    assert_eq!(call!(create(&raw mut event)), 0);
    Meter::count(|_| assert_eq!(call!(signal(event), wait(event, 1)), (0, 0)));
}

pub fn map_object(size: usize) {
    type Map = unsafe extern "C" fn(*mut usize, usize, usize, usize, u32, *const c_char) -> i32;
    machine().set_fictional_memory();
    let alloc = import!(RTR0MemObjAllocPageTag: fn(*mut usize, usize, bool, *const c_char) -> i32);
    let map: Map =
        import!(RTR0MemObjMapKernelTag: fn(*mut usize, usize, usize, usize, u32, *const c_char) -> i32);
    let free = import!(RTR0MemObjFree: fn(usize, bool) -> i32);
    let new = || {
        let mut object = 0;
        assert_eq!(call!(alloc(&raw mut object, 0x1000, false, null())), 0);
        object
    };
    let objects: Vec<usize> = (0..size).map(|_| new()).collect();
    let at = spread(size);
    Meter::count(|number| {
        let mut mapping = 0;
        assert_eq!(call!(map(&raw mut mapping, objects[at(number)], usize::MAX, 0, 3, null())), 0);
        assert_eq!(call!(free(mapping, false)), 0);
    });
}

unsafe extern "C" fn tick(_timer: usize, _user: *mut c_void, _tick: u64) {}

pub fn timer(_: usize) {
    type Tick = unsafe extern "C" fn(usize, *mut c_void, u64);
    let create = import!(RTTimerCreateEx: fn(*mut usize, u64, u32, Tick, *mut c_void) -> i32);
    let (start, stop) =
        (import!(RTTimerStart: fn(usize, u64) -> i32), import!(RTTimerStop: fn(usize) -> i32));
    let mut timer = 0;
    assert_eq!(call!(create(&raw mut timer, 1_000_000, 0, tick, null_mut())), 0);
    Meter::count(|_| assert_eq!(call!(start(timer, 0), stop(timer)), (0, 0)));
}

pub fn handle(size: usize) {
    type Retain = Option<unsafe extern "C" fn(usize, *mut c_void, *mut c_void, *mut c_void) -> i32>;
    type Alloc = unsafe extern "C" fn(usize, *mut c_void, *mut c_void, *mut u32) -> i32;
    let create = import!(RTHandleTableCreateEx: fn(*mut usize, u32, u32, u32, Retain, *mut c_void) -> i32);
    let alloc: Alloc =
        import!(RTHandleTableAllocWithCtx: fn(usize, *mut c_void, *mut c_void, *mut u32) -> i32);
    let lookup = import!(RTHandleTableLookupWithCtx: fn(usize, u32, *mut c_void) -> *mut c_void);
    const CONTEXT: u32 = 1;
    let (mut table, context) = (0, null_mut::<c_void>().with_addr(8));
    assert_eq!(call!(create(&raw mut table, CONTEXT, 1, 1_048_576, None, null_mut())), 0);
    let new = |number: usize| {
        let mut handle = 0;
        let object = null_mut::<c_void>().with_addr(0x1000 + 8 * number);
        assert_eq!(call!(alloc(table, object, context, &raw mut handle)), 0);
        handle
    };
    let handles: Vec<u32> = (0..size).map(new).collect();
    let at = spread(size);
    Meter::count(|number| assert!(!call!(lookup(table, handles[at(number)], context)).is_null()));
}
