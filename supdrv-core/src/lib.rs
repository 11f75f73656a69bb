//! OS-agnostic core of the support driver.
#![no_std]

#[cfg(any(test, feature = "mock"))]
extern crate std;

pub mod abi;
pub mod capi;
pub mod component;
pub mod dispatch;
pub mod driver;
pub mod gip;
pub mod handle_table;
pub mod heap;
pub mod hwvirt;
pub mod idc;
pub mod idc_client;
#[cfg(feature = "legacy")]
pub mod legacy;
pub mod loader;
mod log;
pub mod memory;
#[cfg(any(test, feature = "mock"))]
pub mod mock;
pub mod object;
pub mod os;
pub mod ring0;
pub mod semaphore;
pub mod session;
pub mod shim;
pub mod sync;
pub mod tracer;
pub mod tree;
