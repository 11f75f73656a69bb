//! The OS/2 shim: `SupdrvOs` over the kernel's 32-bit services, and the entry points of the physical device driver.
//!
//! ```text
//!   strategy, tick, IDC (16-bit) ──► shell/ ──► entry ──► supdrv-core ──► os, time, timers, memory, module ──► kernel, devhlp ──► shell/
//! ```
//!
//! | module | what |
//! | --- | --- |
//! | `kernel` | the 32-bit services, called directly |
//! | `devhlp` | the 16-bit services, called through the assembly half |
//! | `entry` | initialisation, strategy requests, clock ticks, siblings |
//! | `files` | sessions by system file number |
//! | `heap` | small blocks out of the kernel's pages |
//! | `ring` | the log, as the driver's file gives it out |
//! | [`packet`] | the kernel's request packets, parsed once |
//! | [`clock`] | the kernel's 32-bit millisecond counter as nanoseconds that don't wrap |
//!
//! On a development host the same code is linked against a fake kernel, in which every kernel function has a prefix.
#![no_std]

#[forbid(unsafe_code)]
pub mod clock;
mod devhlp;
mod entry;
mod files;
mod heap;
mod kernel;
mod memory;
mod module;
mod os;
#[forbid(unsafe_code)]
pub mod packet;
mod ring;
mod spin;
mod time;
mod timers;

#[cfg(not(target_os = "none"))]
pub use entry::power_off;
pub use entry::{counters, function};
#[cfg(not(target_os = "none"))]
pub use heap::heap_use;
pub use os::Os2;

#[cfg(feature = "kernel")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {
        os::stop_machine(b"supdrv: impossible");
    }
}
