//! The FreeBSD shim: `SupdrvOs` over the kernel, and the module's entry points.
//!
//! ```text
//!   module events, cdevsw ──► entry ──► supdrv-core ──► os, events, timers, memory, module ──► kernel, glue
//! ```
//!
//! | module | what |
//! | --- | --- |
//! | `kernel` | the kernel's own functions, called directly |
//! | `glue` | the C half in `shell/`: macros, inline functions, fields of structures |
//! | `entry` | load, unload, open, ioctl, close |
//!
//! On a development host the same code is linked against a fake kernel, in which every kernel function has a prefix: a host has a
//! `malloc` of its own.
#![no_std]

mod entry;
mod events;
mod glue;
mod kernel;
mod memory;
mod module;
mod os;
mod timers;

pub use entry::counters;
pub use os::FreeBsd;

#[cfg(feature = "kernel")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // SAFETY: a constant message; the call doesn't return.
    unsafe { kernel::panic(c"supdrv: impossible".as_ptr()) }
}
