//! Ring-3 client of the support driver.
//!
//! - [`transport`] is the seam: how packets get to a driver. The device node of a real kernel is one way, a driver inside the
//!   same process (for tests) another.

pub mod transport;
