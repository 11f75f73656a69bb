//! The interfaces that exist outside this project: constants and layouts, no behaviour.
#![forbid(unsafe_code)]

pub mod published;
pub mod status;

pub use status::Status;
