//! The kernel, as this driver sees it: types, imported functions, instructions.
//!
//! | module | what it has |
//! | --- | --- |
//! | [`types`] | structures and status codes |
//! | [`sys`] | what the image imports: every name exists on the oldest supported kernel |
//! | [`hw`] | instructions and memory that no function gives access to |
//!
//! On the development host the same names are defined by a fake kernel.

pub mod hw;
pub mod sys;
pub mod types;

pub use types::*;
