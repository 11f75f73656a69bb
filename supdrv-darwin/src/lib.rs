//! The Darwin shim: `SupdrvOs` over the kernel programming interfaces of XNU, and the entry points of the kernel extension.
//!
//! ```text
//!   module start and stop, cdevsw, I/O Kit client ──► entry ──► supdrv-core ──► os, events, timers, memory, module ──► kernel, glue
//!                                                       └─► clients
//! ```
//!
//! | module | what |
//! | --- | --- |
//! | `kernel` | the kernel's own functions, called directly |
//! | `glue` | the C++ half in `shell/`: memory descriptors, a virtual call |
//! | `base` | what exists before the driver: lock group, number of CPUs, pinning |
//! | `entry` | start, stop, open, close, ioctl, sleep and wake-up |
//! | `clients` | processes with an I/O Kit connection, and their sessions |
//!
//! On a development host the same code is linked against a fake kernel, in which every kernel function has a prefix: a host has a
//! `panic` of its own.
#![no_std]

mod base;
mod clients;
mod entry;
mod events;
mod glue;
mod kernel;
mod memory;
mod module;
mod os;
mod timers;

pub use entry::counters;
pub use os::Darwin;

#[cfg(feature = "kernel")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // SAFETY: a constant message; the call doesn't return.
    unsafe { kernel::panic(c"supdrv: impossible".as_ptr()) }
}
