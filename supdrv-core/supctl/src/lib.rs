//! Ring-3 client of the support driver.
//!
//! | module | what it is for |
//! | --- | --- |
//! | [`client`] | a session: one method per request, owners for what has to be given back |
//! | [`gip`] | the global info page: time without system calls |
//! | [`transport`] | the seam: how packets get to a driver, in a kernel or in the same process |
//! | [`packet`] | request packets, for those who want to bend them |
//! | [`error`] | what can go wrong, in words |

pub mod client;
pub mod error;
pub mod gip;
pub mod packet;
pub mod transport;
