//! The root of `libsupdrv_core.a`: takes the core into a static library, and says what happens if it should panic.
//!
//! `cargo xtask build legacy --target TARGET` builds it; everything is in `supdrv_core::legacy`.
#![no_std]

#[cfg(feature = "kernel")]
pub use supdrv_core::legacy::Legacy;

// The compiler likes to call this function, which not every kernel has; whoever has it is preferred. Comparing more than equality is fine.
#[cfg(all(feature = "kernel", target_os = "none"))]
core::arch::global_asm!(".weak bcmp", "bcmp:", "jmp memcmp");

#[cfg(feature = "kernel")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // Nothing in a release build refers to this: `cargo xtask build legacy` checks it.
    loop {
        core::hint::spin_loop();
    }
}
