//! The Linux shim: `SupdrvOs` over the kernel, and the module's entry points.
//!
//! Everything that needs a kernel macro, inline function or structure is in `shell/`, in C, behind plain functions (module `glue`).
//! Rust never sees a kernel structure. The module's file operations are C as well; they call the functions of module `entry`.
#![no_std]

mod entry;
mod glue;
mod memory;
pub mod module;
mod os;
mod time;

pub use os::Linux;

#[cfg(feature = "kernel")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // Nothing in a release build refers to this (checked by `cargo xtask panics`).
    loop {
        core::hint::spin_loop();
    }
}
