//! Reading VTG objects: untrusted bytes in, owned descriptions out.
//!
//! An object describes the tracepoints of one binary ([`crate::abi::vtg`] has its layout). It comes from code that is trusted only as
//! far as that it may be run, or from a process, which is not trusted at all. Two steps, both without `unsafe`, turn it into
//! something to rely on:
//!
//! 1. [`Header::parse`] looks at the 128 bytes of the header alone. A [`Header`] says: the five areas are inside the object, in
//!    order, of whole records and within their limits; the locations are where the header says, and overlap nothing.
//! 2. [`Object::parse`] looks at all of the object and at its locations. An [`Object`] says: every index and offset in it leads to
//!    something of the right kind, every string ends inside the string table and has only characters that names may have, nothing
//!    is enabled. What is needed later is copied out of it; the bytes are not looked at again for any decision.
//!
//! Failures are reported in the order that clients know: header rules as they are numbered there, then providers, probes, counters and
//! locations, each **from the last to the first**.
//!
//! All address arithmetic is in 64 bits, whatever the host, so that nothing wraps that shouldn't.
#![forbid(unsafe_code)]

mod content;
mod header;

pub use content::{Object, Provider};
pub use header::{Area, Bitness, Bounds, Header, Host, Origin};
