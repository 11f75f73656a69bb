//! What the assembly half and the kernel's file system do: the state of the initialisation, request packets, system file numbers.

use core::ffi::c_char;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicI8, Ordering};
use std::sync::{Arc, Mutex};

use fakekernel::context::{self, Process};

use super::devhlp::Far;
use super::lock;

pub const DONE: u16 = 0x0100;
pub const UNKNOWN_COMMAND: u16 = 0x8103;
pub const GENERAL_FAILURE: u16 = 0x810c;
/// The device isn't there.
pub const NOT_INITIALISED: u16 = 0x810f;
/// The second header's INIT failed, and has said why.
pub const QUIET_INIT_FAILURE: u16 = 0x8115;

unsafe extern "C" {
    fn supdrv_os2_init(arguments: *const c_char, message: *mut c_char, message_bytes: u32) -> u32;
    fn supdrv_os2_strategy(packet: *mut u8) -> u16;
    pub fn supdrv_os2_idc(code: u32, packet: *mut core::ffi::c_void) -> i32;
}

/// 0 before the first open, 1 while there is a driver, -1 if there never will be one.
static STATE: AtomicI8 = AtomicI8::new(0);
static MESSAGE: Mutex<String> = Mutex::new(String::new());
static NUMBERS: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
const MESSAGE_BYTES: usize = 512;

/// What the driver said at its start.
pub fn message() -> String {
    lock(&MESSAGE).clone()
}

pub fn is_running() -> bool {
    STATE.load(Ordering::Relaxed) == 1
}

/// The lowest system file number that is free.
pub fn take_number() -> u16 {
    let mut numbers = lock(&NUMBERS);
    let number = (1..).find(|number| !numbers.contains(number)).expect("a number");
    numbers.insert(number);
    number
}

pub fn give_number(number: u16) {
    lock(&NUMBERS).remove(&number);
}

/// A request packet: the header, and fields.
pub fn packet(command: u8, fields: &[&[u8]]) -> Vec<u8> {
    let mut packet = vec![0; 0x0d];
    packet[2] = command;
    packet.extend(fields.concat());
    packet[0] = packet.len() as u8;
    packet
}

/// The first header's strategy routine, in a process.
pub fn strategy(process: &Arc<Process>, packet: &mut [u8]) -> u16 {
    const OPEN: u8 = 0x0d;
    context::in_process(process, || {
        if STATE.load(Ordering::Relaxed) != 1 {
            if packet[2] != OPEN || STATE.swap(-1, Ordering::Relaxed) != 0 || !initialise() {
                return NOT_INITIALISED;
            }
            STATE.store(1, Ordering::Relaxed);
        }
        let status = unsafe { supdrv_os2_strategy(packet.as_mut_ptr()) };
        assert!(super::base::are_interrupts_on(), "interrupts are on after a request");
        status
    })
}

fn initialise() -> bool {
    let mut text = [0xa5_u8; MESSAGE_BYTES + 1];
    let failed = unsafe { supdrv_os2_init(c"/x".as_ptr(), text.as_mut_ptr().cast(), MESSAGE_BYTES as u32) };
    assert_eq!(text[MESSAGE_BYTES], 0xa5, "the message has room");
    let text = core::ffi::CStr::from_bytes_until_nul(&text).expect("a message");
    *lock(&MESSAGE) = text.to_string_lossy().into_owned();
    failed == 0
}

/// The second header's INIT: opens the device, and closes it.
pub fn start() -> i32 {
    let system = Arc::new(Process::new(0));
    let number = take_number();
    let opened = open(&system, number);
    if opened == DONE {
        assert_eq!(close(&system, number), DONE);
    }
    give_number(number);
    if is_running() {
        return 0;
    }
    // The system takes the driver's code away; the next test's machine has it again.
    STATE.store(0, Ordering::Relaxed);
    QUIET_INIT_FAILURE.into()
}

/// Everything static is as before the start; refused while somebody has a session.
pub fn power_off() -> i32 {
    const EBUSY: i32 = 16;
    if !supdrv_os2::power_off() {
        return EBUSY;
    }
    STATE.store(0, Ordering::Relaxed);
    0
}

pub fn open(process: &Arc<Process>, number: u16) -> u16 {
    strategy(process, &mut packet(0x0d, &[&number.to_le_bytes()]))
}

pub fn close(process: &Arc<Process>, number: u16) -> u16 {
    strategy(process, &mut packet(0x0e, &[&number.to_le_bytes()]))
}

/// An ioctl of a process.
#[derive(Clone, Copy)]
pub struct Ioctl {
    pub category: u8,
    pub function: u8,
    /// Flat; 0 is null.
    pub parameter: usize,
    pub parameter_bytes: u16,
    pub data: usize,
    pub data_bytes: u16,
}

impl Ioctl {
    /// An ordinary request.
    pub fn ordinary(function: u8, packet: usize) -> Self {
        Self { category: 0xc0, function, parameter: packet, parameter_bytes: 24, data: 0, data_bytes: 0 }
    }

    /// The status, and the two lengths afterwards.
    pub fn send(&self, process: &Arc<Process>, number: u16) -> (u16, u16, u16) {
        let (parameter, data) = (Far::to(self.parameter), Far::to(self.data));
        let fields: [&[u8]; 7] = [
            &[self.category],
            &[self.function],
            &parameter.0.to_le_bytes(),
            &data.0.to_le_bytes(),
            &number.to_le_bytes(),
            &self.parameter_bytes.to_le_bytes(),
            &self.data_bytes.to_le_bytes(),
        ];
        let mut packet = packet(0x10, &fields);
        let status = strategy(process, &mut packet);
        let word = |at: usize| u16::from_le_bytes([packet[at], packet[at + 1]]);
        (status, word(0x19), word(0x1b))
    }
}

/// A read of the log into physical memory: the status and the count.
pub fn read(process: &Arc<Process>, phys: u32, bytes: u16) -> (u16, u16) {
    let fields: [&[u8]; 5] = [&[0], &phys.to_le_bytes(), &bytes.to_le_bytes(), &[0; 4], &[0; 2]];
    let mut packet = packet(0x04, &fields);
    let status = strategy(process, &mut packet);
    (status, u16::from_le_bytes([packet[0x12], packet[0x13]]))
}
