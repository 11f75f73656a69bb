//! The driver's life, its requests and its services, on a fake kernel.
#![cfg(target_os = "linux")]
#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "addresses that the driver handed out, and its entry for siblings with good packets"
)]

mod fake;

use fake::Calls;

fakekernel::shim_suite!(Calls; common);
