//! The Windows shim: `SupdrvOs` over the NT kernel, and the driver's entry points.
//!
//! The image is all Rust and has no C runtime: everything it imports is a function of `ntoskrnl.exe` that exists since Windows 2000 or XP
//! ([`nt::sys`]); newer ones are looked up at load time ([`kernel`]). What a kernel can't do is found out by trying, never by its name, with one
//! exception: a kernel that emulates NT in a process of its own ([`kernel::is_emulated`]).
//!
//! | module | what it does |
//! | --- | --- |
//! | [`entry`] | loading and unloading |
//! | `irp`, `record`, `pending` | requests of clients |
//! | `idc` | requests of sibling drivers |
//! | `power`, `poke`, `work` | suspend and resume, interrupts for other processors, work items |
//! | [`os`], [`cpu`], [`time`], [`timer`], [`memory`], [`image`] | the seam |
//! | [`module`] | what loaded modules can link against |
//! | [`nt`] | the kernel as this driver sees it |
//! | `fake` | a kernel for tests that checks its rules (feature `fake`) |
#![no_std]

#[cfg(feature = "fake")]
extern crate std;

pub mod cpu;
pub mod entry;
#[cfg(feature = "fake")]
pub mod fake;
mod idc;
pub mod image;
mod irp;
pub mod kernel;
pub mod memory;
pub mod module;
pub mod nt;
pub mod os;
pub mod pe;
mod pending;
mod poke;
mod power;
mod record;
pub mod security;
mod state;
pub mod status;
pub mod time;
pub mod timer;
mod work;

pub use os::Windows;

#[cfg(feature = "kernel")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    /// `SUPd`, so that a crash dump says who stopped the machine.
    const CODE: u32 = 0x5355_5064;
    supdrv_core::os::OsLog::log_write(&Windows, b"supdrv: panic\n");
    // SAFETY: stops the machine. Nothing in a release build gets here.
    unsafe { nt::sys::KeBugCheckEx(CODE, 0, 0, 0, 0) }
}
