//! OS-agnostic core of the support driver.
#![no_std]

#[cfg(any(test, feature = "mock"))]
extern crate std;

pub mod abi;
pub mod heap;
pub mod os;
pub mod sync;
pub mod tree;
