//! The interfaces that exist outside this project: constants and layouts, no behaviour.
//!
//! [`ioctl`] and [`requests`] are what ring-3 speaks, [`idc`] is what sibling drivers speak, [`published`] is what C code in
//! ring-0 sees of the core's objects, [`tracer`] and [`vtg`] are what tracer modules share with the driver, [`status`] are the
//! codes that all of them return. Every structure carries its C layout for both pointer widths ([`layout`]): the width that is
//! compiled for is proved at compile time, both are compared with golden data in the tests.
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
pub mod tracer;
pub mod vtg;

pub use status::Status;

use layout::{Constant, Part, StructLayout};

/// The layouts of all structures, by module.
pub const LAYOUTS: &[&[StructLayout]] =
    &[published::LAYOUTS, requests::LAYOUTS, gip::LAYOUTS, idc::LAYOUTS, tracer::LAYOUTS, vtg::LAYOUTS];

/// The C members without Rust members of their own, by module.
pub const PARTS: &[&[Part]] =
    &[published::PARTS, requests::PARTS, gip::PARTS, idc::PARTS, tracer::PARTS, vtg::PARTS];

/// The constants that C has too, by module.
pub const CONSTANTS: &[&[Constant]] = &[
    ioctl::CONSTANTS,
    gip::CONSTANTS,
    idc::CONSTANTS,
    tracer::CONSTANTS,
    vtg::CONSTANTS,
    constants::CONSTANTS,
];
