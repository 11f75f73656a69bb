//! Address spaces: segments with the C half's operations, translations.
//!
//! Structures are those of `shell/illumos.h`.

use core::cell::Cell;
use core::ffi::{c_char, c_int, c_long, c_uint, c_ulong, c_void};
use core::ptr::null_mut;
use std::collections::BTreeMap;
use std::sync::Mutex;

use fakekernel::context::{self, Process};
use fakekernel::ram::{Access, PAGE, Ram};
use fakekernel::violation;

use super::vm::{ram, reclaim_locked};
use super::{lock, machine};

const EINVAL: c_int = 22;
const ENOMEM: c_int = 12;
const BAD: u64 = u64::MAX;
const PROT_USER: c_uint = 8;
const PROT_ALL: c_uint = 7;
const HAT_LOAD_LOCK: c_int = 1;
const HAT_UNLOAD_UNLOCK: c_uint = 4;

/// `struct as`: its translations are told by its own address.
#[repr(C)]
pub struct AddressSpace {
    contents: c_ulong,
    flags: [u8; 2],
    condition: u16,
    hat: usize,
}

#[repr(C)]
struct Proc {
    exec: usize,
    space: *mut AddressSpace,
}

#[repr(C)]
pub struct Segment {
    base: usize,
    bytes: usize,
    size_code: c_uint,
    flags: c_uint,
    space: *mut AddressSpace,
    tree: [usize; 3],
    ops: *const SegmentOps,
    data: *mut c_void,
}

type Any = unsafe extern "C" fn();

/// `struct seg_ops`, of which the fake calls some.
#[repr(C)]
pub struct SegmentOps {
    dup: unsafe extern "C" fn(*mut Segment, *mut Segment) -> c_int,
    unmap: unsafe extern "C" fn(*mut Segment, usize, usize) -> c_int,
    free: unsafe extern "C" fn(*mut Segment),
    fault: unsafe extern "C" fn(usize, *mut Segment, usize, usize, c_int, c_int) -> c_int,
    faulta: Any,
    setprot: unsafe extern "C" fn(*mut Segment, usize, usize, c_uint) -> c_int,
    checkprot: unsafe extern "C" fn(*mut Segment, usize, usize, c_uint) -> c_int,
    kluster: Any,
    swapout: Any,
    sync: Any,
    incore: unsafe extern "C" fn(*mut Segment, usize, usize, *mut c_char) -> usize,
    lockop: Any,
    getprot: unsafe extern "C" fn(*mut Segment, usize, usize, *mut c_uint) -> c_int,
}

const KERNEL_HAT: usize = 0xffff_fe00_0700_0000;

#[unsafe(no_mangle)]
pub static solaris_kas: AddressSpace =
    AddressSpace { contents: 0, flags: [0; 2], condition: 0, hat: KERNEL_HAT };

/// By process id: the structure of the process, for ever.
static PROCESSES: Mutex<BTreeMap<u32, usize>> = Mutex::new(BTreeMap::new());
/// By address: the segments of all processes.
static SEGMENTS: Mutex<BTreeMap<usize, usize>> = Mutex::new(BTreeMap::new());

thread_local! {
    /// The address space whose ranges the thread has locked.
    static RANGES: Cell<usize> = const { Cell::new(0) };
}

/// The structure of a process.
pub fn process_structure(process: &Process) -> usize {
    *lock(&PROCESSES).entry(process.pid).or_insert_with(|| {
        let space = Box::leak(Box::new(AddressSpace { contents: 0, flags: [0; 2], condition: 0, hat: 0 }));
        space.hat = core::ptr::from_mut(space) as usize;
        core::ptr::from_mut(Box::leak(Box::new(Proc { exec: 0, space }))) as usize
    })
}

fn space_of(process: &Process) -> usize {
    unsafe { (*(process_structure(process) as *const Proc)).space as usize }
}

// ---- translations ----

#[unsafe(no_mangle)]
pub extern "C" fn solaris_hat_getpfnum(hat: usize, address: usize) -> u64 {
    let found = if hat == KERNEL_HAT {
        ram().page_at(address)
    } else if machine().faults.must_fail("hat_getpfnum") {
        None
    } else {
        ram().adopt(address)
    };
    found.map_or(BAD, |phys| phys / PAGE as u64)
}

#[unsafe(no_mangle)]
pub extern "C" fn solaris_hat_devload(
    hat: usize,
    address: usize,
    bytes: usize,
    page: c_ulong,
    prot: c_uint,
    flags: c_int,
) {
    assert_eq!((bytes, flags), (PAGE, HAT_LOAD_LOCK));
    assert_eq!(prot & PROT_USER != 0, hat != KERNEL_HAT, "pages of users are for users");
    ram().map_at(address, &[page * PAGE as u64], Access::from_bits(prot & PROT_ALL));
}

#[unsafe(no_mangle)]
pub extern "C" fn solaris_hat_unload(_hat: usize, address: usize, bytes: usize, flags: c_uint) {
    assert_eq!(flags, HAT_UNLOAD_UNLOCK, "locked translations are unlocked");
    ram().unmap(address, bytes / PAGE);
}

// ---- segments ----

#[unsafe(no_mangle)]
pub extern "C" fn solaris_as_rangelock(space: usize) {
    context::may_sleep("as_rangelock");
    assert_eq!(RANGES.replace(space), 0);
}

#[unsafe(no_mangle)]
pub extern "C" fn solaris_as_rangeunlock(space: usize) {
    assert_eq!(RANGES.replace(0), space);
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn solaris_map_addr(
    place: *mut usize,
    bytes: usize,
    _offset: c_long,
    _align: c_int,
    _flags: c_uint,
) {
    assert_ne!(RANGES.get(), 0, "map_addr needs the lock of ranges");
    place.write(Ram::reserve(bytes).unwrap_or(0));
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn solaris_as_map(
    space: *mut AddressSpace,
    base: usize,
    bytes: usize,
    create: unsafe extern "C" fn(*mut Segment, *mut c_void) -> c_int,
    data: *mut c_void,
) -> c_int {
    context::may_sleep("as_map");
    if machine().faults.must_fail("as_map") {
        ram().unreserve(base, bytes);
        return ENOMEM;
    }
    let segment = Box::into_raw(Box::new(Segment {
        base,
        bytes,
        size_code: 0,
        flags: 0,
        space,
        tree: [0; 3],
        ops: core::ptr::null(),
        data: null_mut(),
    }));
    assert_eq!(create(segment, data), 0);
    lock(&SEGMENTS).insert(base, segment as usize);
    machine().ledger.add("segments", 1);
    0
}

/// Takes a segment out of its address space, and has it freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn solaris_seg_free(segment: *mut Segment) {
    let (base, bytes) = ((*segment).base, (*segment).bytes);
    if lock(&SEGMENTS).remove(&base) != Some(segment as usize) {
        violation("a segment that doesn't exist");
    }
    ((*(*segment).ops).free)(segment);
    ram().unreserve(base, bytes);
    machine().ledger.add("segments", -1);
    drop(Box::from_raw(segment));
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn solaris_as_unmap(space: *mut AddressSpace, address: usize, bytes: usize) -> c_int {
    context::may_sleep("as_unmap");
    let found = lock(&SEGMENTS).get(&address).copied();
    let Some(segment) = found.map(|segment| segment as *mut Segment) else { return EINVAL };
    if (*segment).space != space {
        return EINVAL;
    }
    ((*(*segment).ops).unmap)(segment, address, bytes)
}

/// The segments of a process.
fn segments(process: &Process) -> Vec<(usize, usize)> {
    let space = space_of(process) as *mut AddressSpace;
    let all: Vec<usize> = lock(&SEGMENTS).values().copied().collect();
    let all = all.into_iter().map(|segment| unsafe { &*(segment as *const Segment) });
    all.filter(|segment| segment.space == space).map(|segment| (segment.base, segment.bytes)).collect()
}

/// A process unmaps something of its own.
pub fn munmap(process: &Process, address: usize) {
    let mine = segments(process).into_iter().find(|(base, _)| *base == address);
    let (base, bytes) = mine.expect("a mapping of the process");
    let space = space_of(process) as *mut AddressSpace;
    assert_eq!(unsafe { solaris_as_unmap(space, base, bytes) }, 0);
}

/// How many mappings a process has.
pub fn mapping_count(process: &Process) -> usize {
    segments(process).len()
}

/// The address space of a process ends.
pub fn exit(process: &Process) {
    reclaim_locked(process_structure(process));
    segments(process).into_iter().for_each(|(base, _)| munmap(process, base));
}

/// What the operations of a mapping say: of the process, and of a child after `fork`.
pub fn check_mapping(process: &Process, address: usize, prot: c_uint) {
    const FC_NOMAP: c_int = 2;
    const FC_PROT: c_int = 3;
    const F_INVAL: c_int = 0;
    const F_PROT: c_int = 1;
    const S_READ: c_int = 1;
    const S_WRITE: c_int = 2;
    const EACCES: c_int = 13;
    let segment = lock(&SEGMENTS).get(&address).map(|segment| *segment as *mut Segment);
    let segment = segment.filter(|segment| unsafe { (**segment).space as usize } == space_of(process));
    let segment = segment.expect("a mapping of the process");
    unsafe {
        let (bytes, ops) = ((*segment).bytes, &*(*segment).ops);
        let fault = |segment, kind, access| (ops.fault)(0, segment, address, PAGE, kind, access);
        assert_eq!((ops.unmap)(segment, address, bytes - PAGE), EINVAL, "a part isn't unmapped");
        let writable = prot & 2 != 0;
        assert_eq!(fault(segment, F_INVAL, S_READ), 0);
        assert_eq!(fault(segment, F_INVAL, S_WRITE), if writable { 0 } else { FC_PROT });
        assert_eq!(fault(segment, F_PROT, S_READ), FC_PROT);
        assert_eq!((ops.setprot)(segment, address, bytes, PROT_ALL), EACCES);
        assert_eq!((ops.checkprot)(segment, address, bytes, prot), 0);
        assert_eq!((ops.checkprot)(segment, address, bytes, 2), if writable { 0 } else { EACCES });
        let (mut resident, mut protections) = ([0; 8], [0; 8]);
        assert_eq!((ops.incore)(segment, address, bytes, resident.as_mut_ptr()), bytes);
        assert_eq!((ops.getprot)(segment, address, bytes, protections.as_mut_ptr()), 0);
        let pages = bytes / PAGE;
        assert!(resident[..pages].iter().all(|page| *page == 1) && resident[pages..] == [0; 8][pages..]);
        assert!(
            protections[..pages].iter().all(|page| *page == prot) && protections[pages..] == [0; 8][pages..]
        );
        let mut child = Segment { ops: core::ptr::null(), data: null_mut(), ..core::ptr::read(segment) };
        assert_eq!((ops.dup)(segment, &raw mut child), 0);
        assert_eq!(fault(&raw mut child, F_INVAL, S_READ), FC_NOMAP);
        ((*child.ops).free)(&raw mut child);
    }
}
