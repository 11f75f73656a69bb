//! The ring-0 runtime on the mock system, called as C calls it: by name.

mod c;
mod cost;
mod events;
mod failures;
mod format;
mod harness;
mod memory;
mod mp;
mod mutex;
mod net;
mod services;
mod table;
mod tables;
mod threads;
mod timers;
mod tracer;
#[path = "../tracer_support/mod.rs"]
mod tracer_support;
#[path = "../vtg_samples/mod.rs"]
mod vtg_samples;
