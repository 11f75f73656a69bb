//! Tracepoints.
pub mod vtg;
