//! The kernel extension on a fake kernel, through its entry points.
#![cfg(target_os = "linux")]

mod fake;

use fake::shim::Calls;

fakekernel::shim_suite!(Calls; common, unloading, restricted_node);
