//! The interfaces that exist outside this project: constants and layouts, no behaviour.
//!
//! [`ioctl`] and [`requests`] are what ring-3 speaks, [`idc`] is what sibling drivers speak, [`published`] is what C code in
//! ring-0 sees of the core's objects, [`status`] are the codes that all of them return. Every structure carries its C layout for both pointer widths
//! ([`layout`]): the width that is compiled for is proved at compile time, both are compared with golden data in the tests.
#![forbid(unsafe_code)]

pub mod constants;
pub mod gip;
pub mod idc;
pub mod ioctl;
pub mod layout;
pub mod packets;
pub mod published;
pub mod requests;
pub mod status;

pub use status::Status;

use layout::{Constant, Part, StructLayout};

/// The layouts of all structures, by module.
pub const LAYOUTS: &[&[StructLayout]] = &[published::LAYOUTS, requests::LAYOUTS, gip::LAYOUTS, idc::LAYOUTS];

/// The C members without Rust members of their own, by module.
pub const PARTS: &[&[Part]] = &[published::PARTS, requests::PARTS, gip::PARTS, idc::PARTS];

/// The constants that C has too, by module.
pub const CONSTANTS: &[&[Constant]] =
    &[ioctl::CONSTANTS, gip::CONSTANTS, idc::CONSTANTS, constants::CONSTANTS];
