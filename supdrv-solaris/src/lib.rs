//! The shim for Solaris and illumos: `SupdrvOs` over the kernel, and the driver's entry points.
//!
//! ```text
//!   _init, dev_ops, cb_ops ──► linkage ──► entry ──► supdrv-core ──► os, events, timers, memory, module ──► kernel, glue
//! ```
//!
//! | module | what |
//! | --- | --- |
//! | `kernel` | the kernel's own functions and structures |
//! | `glue` | the C half in `shell/`: what only the target's headers know |
//! | `linkage` | the tables that the kernel finds the driver by |
//! | `entry` | load, attach, open, ioctl, close |
//!
//! On a development host the same code is linked against a fake kernel, in which every kernel function has a prefix.
#![no_std]

mod entry;
mod events;
mod glue;
mod kernel;
mod linkage;
mod memory;
mod module;
mod os;
mod timers;

pub use entry::counters;
pub use os::Solaris;

#[cfg(feature = "kernel")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {
        // SAFETY: a constant message; the call doesn't return at this level.
        unsafe { kernel::cmn_err(kernel::CE_PANIC, c"supdrv: impossible".as_ptr()) };
    }
}
