//! What the assembly half calls: initialisation, strategy requests, clock ticks; and the entry of sibling drivers.
//!
//! The first open of the device, which comes from the driver's own second header, initialises; it goes on as an open like any other. The
//! system never unloads drivers.

use core::ffi::c_char;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, Ordering};

use supdrv_core::abi::idc::IdcHeader;
use supdrv_core::abi::published::SessionView;
use supdrv_core::abi::status::{Result, VERR_INVALID_PARAMETER, VERR_NOT_SUPPORTED};
use supdrv_core::dispatch::{self, user};
use supdrv_core::driver::{Counters, Driver, DriverSlot};
use supdrv_core::heap::{Array, Box};
use supdrv_core::idc;
use supdrv_core::os::OsUserCopy;
use supdrv_core::shim::power;

use crate::devhlp;
use crate::files::Files;
use crate::module::Runtime;
use crate::os::{self, Os2};
use crate::packet::{
    CATEGORY_FAST, DONE, FarPointer, GENERAL_FAILURE, IOCTL_LENGTHS, Ioctl, MAX_PACKET_BYTES,
    PARAMETER_BYTES, READ_COUNT, Request,
};
use crate::{heap, ring, time, timers};

static DRIVER: DriverSlot<Os2> = DriverSlot::new();
static FILES: AtomicPtr<Files> = AtomicPtr::new(null_mut());

/// There is a driver from a successful initialisation on, for ever.
fn driver() -> Option<&'static Driver<Os2>> {
    // SAFETY: never deleted, but by a failed initialisation and at the end of a test, with nobody inside.
    unsafe { DRIVER.get() }
}

fn files() -> Option<&'static Files> {
    // SAFETY: as the driver.
    unsafe { FILES.load(Ordering::Acquire).as_ref() }
}

/// Where initialisation says how it went; always ends with a NUL.
struct Message {
    place: *mut u8,
    room: usize,
}

impl Message {
    fn add(&mut self, text: &[u8]) {
        let count = text.len().min(self.room.saturating_sub(1));
        // SAFETY: `count` is less than the room that is left, and the place moves on with it.
        unsafe {
            self.place.copy_from_nonoverlapping(text.as_ptr(), count);
            self.place = self.place.add(count);
            self.room -= count;
            if self.room != 0 {
                self.place.write(0);
            }
        }
    }

    fn add_number(&mut self, number: u32) {
        let digit = |power: u32| b'0' + (number.checked_div(power).unwrap_or(0) % 10) as u8;
        let powers = [1_000_000_000, 100_000_000, 10_000_000, 1_000_000, 100_000, 10_000, 1000, 100, 10, 1];
        for power in powers.into_iter().filter(|power| *power == 1 || number >= *power) {
            self.add(&[digit(power)]);
        }
    }
}

fn build() -> Result<()> {
    // SAFETY: the assembly half's tick entry lives as long as the driver.
    if unsafe { devhlp::supdrv_devhlp_set_timer(1) } != 0 {
        return Err(VERR_NOT_SUPPORTED);
    }
    let built = DRIVER.build(&Os2, size_of::<SessionView>()).and_then(|()| {
        let files = Box::new(&Os2, Files::new()?)?;
        FILES.store(files.into_raw().as_ptr(), Ordering::Release);
        Ok(())
    });
    if built.is_err() {
        take_down();
    }
    built
}

/// Undoes what [`build`] did, as far as it came. There are no sessions.
fn take_down() {
    let files = FILES.swap(null_mut(), Ordering::AcqRel);
    if let Some(files) = core::ptr::NonNull::new(files) {
        // SAFETY: it came from `into_raw` in `build`, and nobody is inside.
        drop(unsafe { Box::from_raw(&Os2, files) });
    }
    let _said_in_the_log = DRIVER.delete(&Os2);
    // SAFETY: registered by `build`, or not at all, which the system tells.
    unsafe { devhlp::supdrv_devhlp_set_timer(0) };
}

fn init_statics() {
    heap::init();
    ring::init();
    time::init();
    timers::init();
    os::learn();
}

fn deinit_statics() {
    timers::deinit();
    time::deinit();
    ring::deinit();
    heap::deinit();
}

/// Initialises the driver; once, before all other entries. 0, or it failed, and the driver isn't there. Class T.
///
/// `arguments` is the line of CONFIG.SYS behind the name, of which nothing is used. The message is a string for the screen.
///
/// # Safety
/// `message` has room for so many bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn supdrv_os2_init(
    _arguments: *const c_char,
    message: *mut c_char,
    message_bytes: u32,
) -> u32 {
    let mut message = Message { place: message.cast(), room: message_bytes as usize };
    init_statics();
    let result = build();
    match result {
        Ok(()) => {
            message.add(b"VBoxDrv.sys: ready, CPUs: ");
            message.add_number(os::cpus());
        }
        Err(status) => {
            message.add(b"VBoxDrv.sys: not loaded, status -");
            message.add_number(status.0.unsigned_abs());
            deinit_statics();
        }
    }
    message.add(b"\r\n");
    u32::from(result.is_err())
}

/// The machine goes off, for tests: everything must be gone afterwards. `false`, and nothing done, while there are sessions.
#[cfg(not(target_os = "none"))]
#[must_use]
pub fn power_off() -> bool {
    if driver().is_none_or(|driver| driver.session_count() != 0) {
        return false;
    }
    take_down();
    deinit_statics();
    true
}

/// Serves a request packet of the first device header; the status for the packet. Class T.
///
/// # Safety
/// `packet` is a request packet of the kernel, of as many bytes as it says.
#[unsafe(no_mangle)]
unsafe extern "C" fn supdrv_os2_strategy(packet: *mut u8) -> u16 {
    let mut copy = [0; MAX_PACKET_BYTES];
    // SAFETY: a packet has at least its length byte (condition of the function).
    let bytes = usize::from(unsafe { packet.read() }).min(MAX_PACKET_BYTES);
    // SAFETY: the packet has as many bytes as it says, and the copy has room for them.
    unsafe { copy.as_mut_ptr().copy_from_nonoverlapping(packet, bytes) };
    let served = Request::parse(copy.get(..bytes).unwrap_or(&[])).and_then(|request| match request {
        Request::Open(sfn) => open(sfn),
        Request::Close(sfn) => {
            close(sfn);
            Ok(())
        }
        Request::Ioctl(request) => {
            let lengths = ioctl(&request)?;
            // SAFETY: a packet that was parsed as an ioctl has the fields of one.
            unsafe { packet.add(IOCTL_LENGTHS).cast::<[u16; 2]>().write_unaligned(lengths) };
            Ok(())
        }
        Request::Read { phys, bytes } => {
            let count = read(phys, bytes)?;
            // SAFETY: a packet that was parsed as a read has the fields of one.
            unsafe { packet.add(READ_COUNT).cast::<u16>().write_unaligned(count) };
            Ok(())
        }
        Request::Shutdown => {
            power::suspending::<Runtime>();
            Ok(())
        }
    });
    served.map_or_else(|status| status, |()| DONE)
}

/// What the kernel is told of all failures that no table names.
fn failed<E>(_error: E) -> u16 {
    GENERAL_FAILURE
}

fn open(sfn: u16) -> core::result::Result<(), u16> {
    let (Some(driver), Some(files)) = (driver(), files()) else { return Err(GENERAL_FAILURE) };
    files.open(driver, sfn).map_err(failed)
}

fn close(sfn: u16) {
    if let Some(files) = files() {
        files.close(sfn);
    }
}

/// The flat address of a pointer of the caller.
fn flat(pointer: FarPointer) -> core::result::Result<usize, u16> {
    let mut flat = 0;
    // SAFETY: any far pointer may be asked about; the result is ours.
    match unsafe { devhlp::supdrv_devhlp_virt_to_lin(pointer.word(), &raw mut flat) } {
        0 => Ok(flat),
        error => Err(failed(error)),
    }
}

/// Serves an ioctl: the bytes of the parameter and the data packet that are the answer.
fn ioctl(request: &Ioctl) -> core::result::Result<[u16; 2], u16> {
    if request.category == CATEGORY_FAST {
        return fast(request).map(|()| [0; 2]);
    }
    request.check_ordinary()?;
    let session = files().ok_or(GENERAL_FAILURE)?.session(request.sfn).map_err(failed)?;
    let address = flat(request.parameter)?;
    user::ioctl_at(&session, u32::from(request.function), address).map_err(failed)?;
    Ok([PARAMETER_BYTES, 0])
}

/// A fast request: without a packet it is for CPU 0, else for the one whose number is the packet.
fn fast(request: &Ioctl) -> core::result::Result<(), u16> {
    let mut cpu_id = [0; 4];
    request.check_fast(cpu_id.len())?;
    let session = files().ok_or(GENERAL_FAILURE)?.session(request.sfn).map_err(failed)?;
    if !request.parameter.is_null() {
        Os2.user_copy_from(&mut cpu_id, flat(request.parameter)?).map_err(failed)?;
    }
    let code = u32::from(request.function);
    dispatch::ioctl_fast(&session, code, u32::from_le_bytes(cpu_id)).map_err(failed)
}

/// Takes text from the log; how much there was.
fn read(phys: u32, bytes: u16) -> core::result::Result<u16, u16> {
    let wanted = usize::from(bytes).min(ring::available());
    let mut text = Array::<u8, Os2>::new_zeroed(&Os2, wanted).map_err(failed)?;
    let count = u16::try_from(ring::read(&mut text)).map_err(failed)?;
    if count == 0 {
        return Ok(0);
    }
    // SAFETY: the text has that many bytes; where it goes to is the kernel's own request.
    match unsafe { devhlp::supdrv_devhlp_copy_to_phys(phys, text.as_ptr(), u32::from(count)) } {
        0 => Ok(count),
        error => Err(failed(error)),
    }
}

/// The kernel's clock ticked. Class I.
#[unsafe(no_mangle)]
extern "C" fn supdrv_os2_tick() {
    timers::tick();
}

/// The entry of sibling drivers, in the table that the assembly half hands out. Class T.
///
/// # Safety
/// As for [`idc::entry`].
#[unsafe(no_mangle)]
unsafe extern "C" fn supdrv_os2_idc(code: u32, packet: *mut IdcHeader) -> i32 {
    let Some(driver) = driver() else { return VERR_INVALID_PARAMETER.0 };
    // SAFETY: conditions of the function.
    unsafe { idc::entry(driver, code, packet) }.0
}

/// What exists in the driver. Class I.
#[must_use]
pub fn counters() -> Option<Counters> {
    driver().map(Driver::counters)
}

/// A function that modules can link against. Class I.
#[must_use]
pub fn function(name: &[u8]) -> Option<usize> {
    driver()?.function(name)
}
