//! `RTHandleTable*`.

use std::ffi::c_void;
use std::ptr::null_mut;
use std::sync::Mutex;

use crate::harness::{Machine, ok, replay};
use crate::import;

type Retain = unsafe extern "C" fn(usize, *mut c_void, *mut c_void, *mut c_void) -> i32;
type Delete = unsafe extern "C" fn(usize, u32, *mut c_void, *mut c_void, *mut c_void);

import! {
    fn RTHandleTableCreate(out: *mut usize) -> i32;
    fn RTHandleTableCreateEx(out: *mut usize, flags: u32, base: u32, max: u32, retain: Option<Retain>, user: *mut c_void) -> i32;
    fn RTHandleTableDestroy(table: usize, delete: Option<Delete>, user: *mut c_void) -> i32;
    fn RTHandleTableAllocWithCtx(table: usize, object: *mut c_void, context: *mut c_void, out: *mut u32) -> i32;
    fn RTHandleTableLookupWithCtx(table: usize, handle: u32, context: *mut c_void) -> *mut c_void;
    fn RTHandleTableFreeWithCtx(table: usize, handle: u32, context: *mut c_void) -> *mut c_void;
}

const CONTEXT: u32 = 1;

fn pointer(number: usize) -> *mut c_void {
    number as *mut c_void
}

fn table(flags: u32, base: u32, max: u32) -> usize {
    let mut table = 0;
    assert_eq!(RTHandleTableCreateEx(&raw mut table, flags, base, max, None, null_mut()), 0);
    table
}

fn alloc(table: usize, object: usize, context: usize) -> Result<u32, (i32, u32)> {
    let mut handle = 0xdead;
    match RTHandleTableAllocWithCtx(table, pointer(object), pointer(context), &raw mut handle) {
        0 => Ok(handle),
        status => Err((status, handle)),
    }
}

#[test]
fn arguments_are_checked() {
    let _machine = Machine::new();
    let mut table = 5;
    assert_eq!(RTHandleTableCreateEx(&raw mut table, 8, 1, 100, None, null_mut()), -2);
    assert_eq!((RTHandleTableCreateEx(&raw mut table, 1, 1, 0, None, null_mut()), table), (-2, 0));
    assert_eq!(RTHandleTableCreateEx(null_mut(), 1, 1, 5, None, null_mut()), -6);
    assert_eq!(
        (RTHandleTableDestroy(0, None, null_mut()), RTHandleTableDestroy(0x5000_0000_0001, None, null_mut())),
        (0, -4)
    );
    assert_eq!(alloc(0, 8, 0), Err((-4, 0xdead)));
    assert!(RTHandleTableLookupWithCtx(0, 1, null_mut()).is_null());
    assert_eq!(RTHandleTableCreate(&raw mut table), 0);
    assert_eq!(alloc(table, 8, 0), Err((-36, 0xdead)), "the default table has no contexts");
    assert!(RTHandleTableLookupWithCtx(table, 1, null_mut()).is_null());
    assert_eq!(RTHandleTableDestroy(table, None, null_mut()), 0);
}

#[test]
fn handles_count_from_the_base_and_come_back_late() {
    let _machine = Machine::new();
    for flags in [CONTEXT, CONTEXT | 2, CONTEXT | 4] {
        let table = table(flags, 1000, 4);
        assert_eq!(
            (0..3).map(|n| alloc(table, 8 * (n + 1), 7)).collect::<Vec<_>>(),
            [Ok(1000), Ok(1001), Ok(1002)]
        );
        assert_eq!(RTHandleTableFreeWithCtx(table, 1001, pointer(7)), pointer(16));
        assert_eq!(alloc(table, 64, 7), Ok(1003));
        assert_eq!((alloc(table, 0, 7), alloc(table, 7, 7)), (Err((-2, 999)), Err((-2, 999))));
        assert_eq!(RTHandleTableLookupWithCtx(table, 1002, pointer(7)), pointer(24));
        for (handle, context) in [(1002, 8), (1001, 7), (999, 7), (0, 7), (1004, 7), (u32::MAX, 7)] {
            assert!(
                RTHandleTableLookupWithCtx(table, handle, pointer(context)).is_null(),
                "{handle} {context}"
            );
            assert!(
                RTHandleTableFreeWithCtx(table, handle, pointer(context)).is_null(),
                "{handle} {context}"
            );
        }
        assert_eq!(RTHandleTableDestroy(table, None, null_mut()), 0);
    }
}

#[test]
fn the_maximum_is_rounded_up_and_then_final() {
    let _machine = Machine::new();
    let table = table(CONTEXT | 2, 1, 2049);
    for n in 1..=4096 {
        assert_eq!(alloc(table, 8, 0), Ok(n));
    }
    assert_eq!(alloc(table, 8, 0), Err((-81, 0)));
    assert!(!RTHandleTableFreeWithCtx(table, 77, null_mut()).is_null());
    assert_eq!((alloc(table, 8, 0), alloc(table, 8, 0)), (Ok(77), Err((-81, 0))));
    RTHandleTableDestroy(table, None, null_mut());
}

static CALLS: Mutex<Vec<(u32, usize, usize)>> = Mutex::new(Vec::new());

unsafe extern "C" fn deleted(
    _table: usize,
    handle: u32,
    object: *mut c_void,
    context: *mut c_void,
    user: *mut c_void,
) {
    assert_eq!(user, pointer(3));
    CALLS.lock().unwrap().push((handle, object as usize, context as usize));
}

#[test]
fn destruction_visits_live_handles_in_order() {
    let _machine = Machine::new();
    let table = table(CONTEXT | 4, 1, 100);
    let handles: Vec<u32> = (0..9).map(|n| alloc(table, 8 * (n + 1), n).unwrap()).collect();
    for handle in [2, 3, 4, 6, 7, 8] {
        assert!(!RTHandleTableFreeWithCtx(table, handle, pointer(handle as usize - 1)).is_null());
    }
    assert_eq!(handles, (1..=9).collect::<Vec<_>>());
    assert_eq!(RTHandleTableDestroy(table, Some(deleted), pointer(3)), 0);
    assert_eq!(std::mem::take(&mut *CALLS.lock().unwrap()), [(1, 8, 0), (5, 40, 4), (9, 72, 8)]);
}

unsafe extern "C" fn retained(
    _table: usize,
    object: *mut c_void,
    context: *mut c_void,
    user: *mut c_void,
) -> i32 {
    assert_eq!((context, user), (pointer(1), pointer(2)));
    if object as usize == 16 { -1 } else { 0 }
}

#[test]
fn a_lookup_that_cannot_retain_fails() {
    let _machine = Machine::new();
    let mut table = 0;
    RTHandleTableCreateEx(&raw mut table, CONTEXT | 4, 1, 10, Some(retained), pointer(2));
    assert_eq!((alloc(table, 8, 1), alloc(table, 16, 1)), (Ok(1), Ok(2)));
    assert_eq!(RTHandleTableLookupWithCtx(table, 1, pointer(1)), pointer(8));
    assert!(RTHandleTableLookupWithCtx(table, 2, pointer(1)).is_null());
    assert!(RTHandleTableFreeWithCtx(table, 2, pointer(1)).is_null());
    RTHandleTableDestroy(table, None, null_mut());
}

#[test]
fn growing_fails_cleanly() {
    replay(|_| {
        let (mut table, mut handle) = (0, 0);
        let result = ok(RTHandleTableCreateEx(&raw mut table, CONTEXT | 4, 1, 5000, None, null_mut()))
            .and_then(|()| ok(RTHandleTableAllocWithCtx(table, pointer(8), null_mut(), &raw mut handle)));
        RTHandleTableDestroy(table, None, null_mut());
        result
    });
}
