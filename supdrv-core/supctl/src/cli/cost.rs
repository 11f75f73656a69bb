//! `supctl cost`: what single requests cost, by the time stamp counter.

use supctl::transport::Transport;

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
use super::Failure;
use super::{Result, Words};

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
pub fn run(_: &dyn Transport, _: Words) -> Result {
    Err(Failure::Failed("costs are only counted on 64-bit Linux".into()))
}

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub fn run(transport: &dyn Transport, words: Words) -> Result {
    words.end()?;
    imp::run(transport)
}

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod imp {
    use core::arch::asm;
    use core::arch::x86_64::_rdtsc;
    use supctl::packet::Packet;
    use supctl::transport::linux::OpenNode;
    use supctl::transport::{Device, Node, Transport};
    use supdrv_core::abi::ioctl::{COOKIE_MAGIC, Encoding, Function, IOC_VERSION};
    use supdrv_core::abi::requests as r;
    use zerocopy::FromZeros;

    use super::Result;

    const SAMPLES: usize = 2000;
    const IOCTL: i64 = libc::SYS_ioctl;

    /// One raw system call.
    ///
    /// # Safety
    /// Whatever the device does with the argument must be all right.
    #[inline(always)]
    unsafe fn ioctl(fd: i32, code: u32, argument: usize) -> i64 {
        let mut result = IOCTL;
        // SAFETY: the caller's promise; the kernel changes rcx and r11.
        unsafe {
            asm!(
                "syscall",
                inlateout("rax") result,
                in("rdi") i64::from(fd),
                in("rsi") u64::from(code),
                in("rdx") argument,
                lateout("rcx") _,
                lateout("r11") _,
                options(nostack)
            );
        }
        result
    }

    fn tsc() -> u64 {
        // SAFETY: exists on every x86-64 CPU.
        unsafe { _rdtsc() }
    }

    /// Median of a few thousand ticks, and how many of them were the same.
    fn median(mut ticks: Vec<u64>) -> (u64, usize) {
        ticks.sort_unstable();
        let median = ticks.get(ticks.len() / 2).copied().unwrap_or(0);
        (median, ticks.iter().filter(|tick| **tick == median).count())
    }

    fn empty_pair() -> u64 {
        let ticks = (0..SAMPLES).map(|_| {
            let start = tsc();
            tsc().wrapping_sub(start)
        });
        median(ticks.collect()).0
    }

    struct Row {
        ticks: u64,
        equal: usize,
        result: i64,
    }

    fn measure(fd: i32, packet: &Packet, empty: u64) -> Row {
        let (code, fresh) = (packet.code(), packet.bytes().to_vec());
        let mut work = packet.clone();
        let mut result = 0;
        let ticks = (0..SAMPLES).map(|_| {
            work.put(0, &fresh);
            let address = work.bytes_mut().as_mut_ptr().addr();
            let start = tsc();
            // SAFETY: the packet is ours and as large as it claims.
            result = unsafe { ioctl(fd, code, address) };
            tsc().wrapping_sub(start)
        });
        let (ticks, equal) = median(ticks.collect());
        Row { ticks: ticks.saturating_sub(empty), equal, result }
    }

    fn outcome(result: i64) -> String {
        match i32::try_from(-result) {
            Ok(0) => "ok".into(),
            Ok(error) if error > 0 => std::io::Error::from_raw_os_error(error).to_string(),
            _ => result.to_string(),
        }
    }

    fn handshake_packet() -> Packet {
        let input = r::CookieIn {
            magic: COOKIE_MAGIC,
            requested_version: IOC_VERSION,
            min_version: IOC_VERSION & 0xffff_0000,
            ..r::CookieIn::new_zeroed()
        };
        Packet::new(Encoding::Linux, Function::Cookie, &input, &[], size_of::<r::CookieOut>())
    }

    pub fn run(transport: &dyn Transport) -> Result {
        drop(super::super::open(transport)?);
        let device = transport.open(Node::Unrestricted)?;
        let null = OpenNode::open("/dev/null")?;
        let mode = Packet::bare(Encoding::Linux, Function::GetPagingMode, size_of::<r::GetPagingModeOut>());
        let caps = Packet::bare(Encoding::Linux, Function::VtCaps, size_of::<r::VtCapsOut>());
        let mut bad_header = mode.clone();
        bad_header.header_mut().flags ^= 1;
        let mut bad_cookie = mode.clone();
        bad_cookie.header_mut().cookie ^= 1;
        let empty = empty_pair();
        println!("{:<44} {:>8} {:>12}  result", "system call", "ticks", "equal");
        println!("{:<44} {empty:>8}", "(an empty pair of readings, subtracted below)");
        let print = |name: &str, device: &dyn Device, packet: &Packet| {
            let row = measure(device.descriptor().unwrap_or(-1), packet, empty);
            let equal = format!("{}/{SAMPLES}", row.equal);
            println!("{name:<44} {:>8} {equal:>12}  {}", row.ticks, outcome(row.result));
        };
        print("ioctl on /dev/null", &null, &mode);
        match OpenNode::open("/dev/supdrv_empty") {
            Ok(empty_module) => print("ioctl on a module that does nothing", &empty_module, &mode),
            Err(_) => println!("{:<44} {:>8}", "ioctl on a module that does nothing", "(not there)"),
        }
        print("COOKIE", &*device, &handshake_packet());
        print("GET_PAGING_MODE", &*device, &mode);
        print("VT_CAPS", &*device, &caps);
        print("bad header", &*device, &bad_header);
        print("bad cookie", &*device, &bad_cookie);
        Ok(())
    }
}
