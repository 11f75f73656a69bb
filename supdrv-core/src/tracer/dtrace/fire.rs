//! Probes fire, and what their arguments are.
//!
//! The host takes five arguments. For the others it asks while it works on the probe, with interrupts off, on the same stack: so a
//! [`Record`] on the stack says where they are, and the answer is found by going up the stack from where it is asked for. That holds for any
//! nesting of threads and interrupts, and nothing is shared.

use core::mem::offset_of;

use zerocopy::{FromBytes, IntoBytes};

use super::DtraceHost;
use super::provider::argument_of;
use crate::abi::published::SessionView;
use crate::abi::tracer::{TracerReg, UserContext, UserContext32, UserContext64};
use crate::abi::vtg::{ArgFlags, NativeLocation, ObjectHeader, ProbeDesc};

/// Arguments that the host takes.
const PASSED: usize = 5;
/// Arguments that a probe can have.
const ARGS: usize = 20;
/// `SUPDDTrc`, as two words.
const MAGIC: u64 = 0x6372_5444_4450_5553;
/// Records are at multiples of this.
const ALIGN: usize = 32;
/// How far up a record is looked for.
const SEARCH_BYTES: usize = 16 * 1024;
/// No probe's data is in the first page.
const LOWEST_ADDRESS: usize = 4096;

/// Kernel code; [`Record::address`] is where its sixth argument is.
const KERNEL: u8 = 1;
/// 32-bit user code; [`Record::address`] is its [`UserContext32`].
const USER_32: u8 = 2;
/// 64-bit user code; [`Record::address`] is its [`UserContext64`].
const USER_64: u8 = 3;

/// What a probe that fires leaves on the stack.
#[derive(Clone, Copy)]
#[repr(C, align(32))]
struct Record {
    /// [`MAGIC`] as long as the probe is worked on.
    magic: u64,
    /// The record's own address.
    this: usize,
    /// Who fires.
    kind: u8,
    /// Words that the first five arguments take beyond one each.
    displacement: u8,
    /// Arguments that take two words, a bit each.
    large: u32,
    /// Where the arguments are.
    address: usize,
}

const _: () = assert!(
    size_of::<Record>() == ALIGN && offset_of!(Record, kind) == 16 && offset_of!(Record, address) == 24
);

/// Fires a kernel probe. Class I; any context that a probe can be in.
///
/// In assembly, so that there is one frame between the probed function and the host, and since only so the arguments on the stack can be found: the
/// host gets the caller's registers as they are.
///
/// # Safety
/// The tracer's callback: a probe's location, and its arguments.
#[unsafe(naked)]
pub unsafe extern "C" fn fire_kernel<H: DtraceHost>(
    location: *const NativeLocation,
    a0: usize,
    a1: usize,
    a2: usize,
    a3: usize,
    a4: usize,
) {
    // The id goes when the probe does, also under somebody who has already seen the flag.
    core::arch::naked_asm!(
        "endbr64",
        "cmp rdi, {lowest}",
        "jb 2f",
        "cmp qword ptr [rdi + {function}], {lowest}",
        "jb 2f",
        "cmp qword ptr [rdi + {probe}], {lowest}",
        "jb 2f",
        "mov edi, [rdi + {id}]",
        "test edi, edi",
        "jz 2f",
        "push rbp",
        "mov rbp, rsp",
        "sub rsp, {size}",
        "and rsp, -{size}",
        "mov rax, {magic}",
        "mov [rsp], rax",
        "mov [rsp + 8], rsp",
        "mov qword ptr [rsp + 16], {kernel}",
        // Above the saved frame pointer and the return address.
        "lea rax, [rbp + 16]",
        "mov [rsp + 24], rax",
        "call {host}",
        "mov qword ptr [rsp], 0",
        "leave",
        "2:",
        crate::__ring0_return!(),
        lowest = const LOWEST_ADDRESS,
        function = const offset_of!(NativeLocation, function),
        probe = const offset_of!(NativeLocation, probe),
        id = const offset_of!(NativeLocation, id),
        size = const ALIGN,
        magic = const MAGIC,
        kernel = const KERNEL,
        host = sym H::probe,
    )
}

/// A record that is seen from further down the stack, and wiped in the end.
struct Left(Record);

impl Left {
    fn publish(&mut self) {
        self.0.this = (&raw const self.0).expose_provenance();
        // SAFETY: its own; volatile, since nobody seems to read it.
        unsafe { (&raw mut self.0.magic).write_volatile(MAGIC) };
    }
}

impl Drop for Left {
    fn drop(&mut self) {
        // SAFETY: its own; volatile, since nobody seems to read it.
        unsafe { (&raw mut self.0.magic).write_volatile(0) };
    }
}

/// Which arguments of a probe take two words of 32-bit code.
fn large_arguments(header: *const ObjectHeader, location: &NativeLocation) -> u32 {
    // SAFETY: the driver's copy of a validated object.
    let raw = unsafe { header.read_unaligned() };
    let first = header.addr().wrapping_add(raw.probes_offset as usize);
    let index = location.probe.wrapping_sub(first) / size_of::<ProbeDesc>();
    (0..ARGS).fold(0, |large, number| {
        // SAFETY: as above; the location is one of the object's, so its probe is too.
        let argument = unsafe { argument_of(header, &raw, index, number) };
        let is_large = argument.is_some_and(|argument| {
            let flags = ArgFlags::from_bits_retain(argument.flags);
            flags.contains(ArgFlags::FIXED_SIZED) && argument.flags & ArgFlags::SIZE.bits() > 4
        });
        large | u32::from(is_large) << number
    })
}

/// An argument among the words of 32-bit code, large ones being two words each; and how many words it takes.
fn word_argument(words: &[u32; ARGS], slot: usize, is_large: bool) -> (Option<u64>, usize) {
    let word = |slot: usize| words.get(slot).map(|word| u64::from(*word));
    let low = word(slot);
    if !is_large {
        return (low, 1);
    }
    (low.zip(word(slot + 1)).map(|(low, high)| low | high << 32), 2)
}

const fn is_large(large: u32, number: usize) -> bool {
    number < ARGS && large >> number & 1 != 0
}

/// Fires a user-mode probe: the tracer's callback. Class I.
///
/// # Safety
/// The driver's context, object and location, valid during the call.
pub unsafe extern "C" fn fire_user<H: DtraceHost>(
    _reg: *const TracerReg,
    _session: *mut SessionView,
    context: *const UserContext,
    header: *const ObjectHeader,
    location: *const NativeLocation,
) {
    // SAFETY: valid during the call (condition of the function).
    let (seen, location) = unsafe { (&*context, &*location) };
    if seen.id == 0 {
        return;
    }
    let address = context.expose_provenance();
    let mut left = Left(Record { magic: 0, this: 0, kind: USER_64, displacement: 0, large: 0, address });
    let [a0, a1, a2, a3, a4] = if seen.bits == 32 {
        let Ok(words) = UserContext32::read_from_bytes(seen.as_bytes()) else { return };
        let large = large_arguments(header, location);
        let mut slot = 0;
        let args: [u64; PASSED] = core::array::from_fn(|number| {
            let (value, words) = word_argument(&words.args, slot, is_large(large, number));
            slot += words;
            value.unwrap_or(u64::MAX)
        });
        left.0 = Record { kind: USER_32, displacement: slot.saturating_sub(PASSED) as u8, large, ..left.0 };
        args
    } else {
        let Ok(words) = UserContext64::read_from_bytes(seen.as_bytes()) else { return };
        let [a0, a1, a2, a3, a4, ..] = words.args;
        [a0, a1, a2, a3, a4]
    };
    left.publish();
    // SAFETY: the id of a probe that the host made.
    unsafe { H::probe(seen.id, a0, a1, a2, a3, a4) };
}

/// The record of the probe that is being worked on, above `from` on a stack that ends at `end`.
fn find(from: usize, end: usize) -> Option<Record> {
    let last = from.saturating_add(SEARCH_BYTES).min(end).checked_sub(size_of::<Record>())?;
    let mut at = from.checked_next_multiple_of(ALIGN)?;
    while at <= last {
        // SAFETY: on the current stack, between its pointer and its end: mapped, and any bytes are a record.
        let record = unsafe { core::ptr::with_exposed_provenance::<Record>(at).read_volatile() };
        if record.magic == MAGIC && record.this == at {
            return Some(record);
        }
        at = at.checked_add(ALIGN)?;
    }
    None
}

/// An argument beyond the fifth of the probe that is being worked on; `None` if it has none or it isn't known. Class I.
pub fn argument<H: DtraceHost>(number: usize) -> Option<u64> {
    let rest = number.checked_sub(PASSED)?;
    if number >= ARGS {
        return None;
    }
    let here = 0_usize;
    let from = (&raw const here).expose_provenance();
    let end = H::stack_end(from);
    let record = find(from, end)?;
    let context = core::ptr::with_exposed_provenance::<UserContext>(record.address);
    match record.kind {
        KERNEL => {
            let at = record.address.checked_add(rest.checked_mul(size_of::<u64>())?)?;
            if at.checked_add(size_of::<u64>())? > end {
                return None;
            }
            // SAFETY: on the current stack, below its end.
            Some(unsafe { core::ptr::with_exposed_provenance::<u64>(at).read_volatile() })
        }
        USER_32 => {
            // SAFETY: of the call that left the record and hasn't returned yet.
            let words = UserContext32::read_from_bytes(unsafe { context.read() }.as_bytes()).ok()?;
            let before = (PASSED..number).filter(|number| is_large(record.large, *number)).count();
            let slot = number + usize::from(record.displacement) + before;
            word_argument(&words.args, slot, is_large(record.large, number)).0
        }
        USER_64 => {
            // SAFETY: of the call that left the record and hasn't returned yet.
            let words = UserContext64::read_from_bytes(unsafe { context.read() }.as_bytes()).ok()?;
            let args = words.args;
            args.get(number).copied()
        }
        _ => None,
    }
}
