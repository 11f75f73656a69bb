//! The OS/2 shim, begun: the strategy requests and the clock. There is no driver yet; the README says what is missing.
//!
//! | module | what |
//! | --- | --- |
//! | [`packet`] | the kernel's 16-bit request packets, parsed once |
//! | [`clock`] | the kernel's 32-bit millisecond counter as nanoseconds that don't wrap |
#![no_std]
#![forbid(unsafe_code)]

pub mod clock;
pub mod packet;
