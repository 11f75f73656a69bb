//! Ring-3 client of the support driver.
//!
//! | module | what it is for |
//! | --- | --- |
//! | [`client`] | a session: one method per request, owners for what has to be given back |
//! | [`gip`] | the global info page: time without system calls |
//! | [`transport`] | the seam: how packets get to a driver, in a kernel or in the same process |
//! | [`image`] | ring-0 images: linking and loading them |
//! | [`packet`] | request packets, for those who want to bend them |
//! | [`pages`] | pages of this process, to be locked |
//! | [`error`] | what can go wrong, in words |
//! | [`suite`] | the conformance suite that every way to a driver must pass |

pub mod client;
pub mod error;
pub mod gip;
pub mod image;
pub mod packet;
pub mod pages;
pub mod suite;
pub mod transport;
