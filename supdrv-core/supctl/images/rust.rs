// SPDX-License-Identifier: GPL-2.0-only OR CDDL-1.0
//! A ring-0 image in Rust: the protocol of `checks.h`, with imports, static data, destructors and closures; nothing of the language's library that would have to be linked in.
#![no_std]
#![crate_type = "lib"]

use core::ffi::{c_char, c_int, c_void};
use core::sync::atomic::{AtomicU32, Ordering};

type Handle = *mut c_void;

unsafe extern "C" {
    fn RTMemAllocZTag(bytes: usize, tag: *const c_char) -> *mut u8;
    fn RTMemFree(memory: *mut u8);
    fn RTCrc32(bytes: *const u8, count: usize) -> u32;
    fn RTTimeSystemNanoTS() -> u64;
    fn RTSpinlockCreate(lock: *mut Handle, flags: u32, name: *const c_char) -> c_int;
    fn RTSpinlockAcquire(lock: Handle);
    fn RTSpinlockRelease(lock: Handle);
    fn RTSpinlockDestroy(lock: Handle) -> c_int;
    fn RTMpOnAll(worker: extern "C" fn(u32, *mut c_void, *mut c_void), one: *mut c_void, two: *mut c_void) -> c_int;
    fn RTMpGetOnlineCount() -> u32;
}

/// A packet of a service call, with its text behind it.
#[repr(C)]
pub struct Packet {
    magic: u32,
    bytes: u32,
}

struct Check {
    name: &'static str,
    run: fn() -> bool,
}

/// Memory of the driver's heap.
struct Buffer {
    at: *mut u8,
    bytes: usize,
    used: usize,
}

impl Buffer {
    fn new(bytes: usize) -> Option<Self> {
        // SAFETY: any size may be asked for.
        let at = unsafe { RTMemAllocZTag(bytes, c"rust.rs".as_ptr()) };
        (!at.is_null()).then_some(Self { at, bytes, used: 0 })
    }

    fn text(&self) -> &[u8] {
        // SAFETY: that much is initialised.
        unsafe { core::slice::from_raw_parts(self.at, self.used) }
    }
}

impl Extend<u8> for Buffer {
    fn extend<I: IntoIterator<Item = u8>>(&mut self, bytes: I) {
        for byte in bytes {
            if self.used < self.bytes {
                // SAFETY: inside the allocation.
                unsafe { self.at.add(self.used).write(byte) };
                self.used += 1;
            }
        }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: allocated in `new`, freed once.
        unsafe { RTMemFree(self.at) };
    }
}

fn heap() -> bool {
    let Some(mut buffer) = Buffer::new(5) else { return false };
    buffer.extend((b'a'..=b'z').step_by(2));
    buffer.text().iter().eq(b"acegi")
}

fn checksums() -> bool {
    let digits = b"123456789";
    // SAFETY: as many bytes as there are.
    (unsafe { RTCrc32(digits.as_ptr(), digits.len()) }) == 0xcbf4_3926
}

fn clock() -> bool {
    // SAFETY: no conditions.
    let (first, second) = unsafe { (RTTimeSystemNanoTS(), RTTimeSystemNanoTS()) };
    first != 0 && second >= first
}

fn spinlock() -> bool {
    let mut lock = core::ptr::null_mut();
    // SAFETY: the lock is created, taken, released and destroyed in this order.
    unsafe {
        if RTSpinlockCreate(&mut lock, 2, c"rust.rs".as_ptr()) != 0 {
            return false;
        }
        RTSpinlockAcquire(lock);
        RTSpinlockRelease(lock);
        RTSpinlockDestroy(lock) == 0
    }
}

static CPUS: AtomicU32 = AtomicU32::new(0);

extern "C" fn count(_cpu: u32, _one: *mut c_void, _two: *mut c_void) {
    CPUS.fetch_add(1, Ordering::SeqCst);
}

fn cross_calls() -> bool {
    CPUS.store(0, Ordering::SeqCst);
    let nothing = core::ptr::null_mut();
    // SAFETY: the worker takes nothing from its arguments.
    let (result, online) = unsafe { (RTMpOnAll(count, nothing, nothing), RTMpGetOnlineCount()) };
    result == 0 && CPUS.load(Ordering::SeqCst) == online
}

fn closures() -> bool {
    let compose = |first: fn(u64) -> u64, second: fn(u64) -> u64| move |x| second(first(x));
    compose(|x| x + 1, |x| x * x)(6) == 49
}

static CHECKS: [Check; 6] = [
    Check { name: "heap", run: heap },
    Check { name: "checksums", run: checksums },
    Check { name: "clock", run: clock },
    Check { name: "spinlock", run: spinlock },
    Check { name: "cross calls", run: cross_calls },
    Check { name: "closures", run: closures },
];

/// Operation 0: the number of checks; operation 1: runs one.
///
/// # Safety
/// `packet` is NULL or a packet.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn CheckService(_session: Handle, operation: u32, arg: u64, packet: *mut Packet) -> c_int {
    if operation == 0 {
        return CHECKS.len() as c_int;
    }
    let check = CHECKS.get(arg as usize).filter(|_| operation == 1);
    let Some(check) = check else { return -36 };
    if !packet.is_null() {
        // SAFETY: a packet has as many bytes as it says.
        let room = unsafe { (*packet).bytes as usize } - size_of::<Packet>();
        for (index, byte) in check.name.bytes().take(room).enumerate() {
            // SAFETY: inside the packet.
            unsafe { packet.add(1).cast::<u8>().add(index).write(byte) };
        }
    }
    if (check.run)() { 0 } else { arg as c_int + 1 }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {
        core::hint::spin_loop();
    }
}
