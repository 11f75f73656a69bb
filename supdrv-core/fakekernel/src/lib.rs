//! What the fake kernels of the shims have in common. For tests only; Linux hosts only.
//!
//! A shim's test links the shim against functions with the names and contracts of its kernel, made from these parts:
//!
//! | module | what |
//! | --- | --- |
//! | [`ram`] | physical memory: real pages that can be mapped at several addresses, executable if need be |
//! | [`context`] | what the current thread may do: sleep or not, which CPU, in which process |
//! | [`user`] | copies from and to addresses that may be bad |
//! | [`ledger`] | what exists, by kind: all zero when the driver is gone |
//! | [`faults`] | the n-th call that may fail, fails |
//! | [`locks`] | locks that know their owner |
//! | [`nodes`] | the device nodes of a fake kernel as a way for the conformance suite |
//! | [`suite`] | the tests that every shim has, through its own entry points |
//! | [`ticker`] | one interrupt thread for each CPU, for timers |
//!
//! A broken contract (a call that may sleep under a spinlock, a block freed twice) ends the test program with a message: there is a C
//! frame in between, which nothing may unwind.

#![cfg(target_os = "linux")]

pub mod context;
pub mod faults;
pub mod ledger;
pub mod locks;
pub mod nodes;
pub mod ram;
pub mod suite;
pub mod ticker;
pub mod user;

/// Ends the test program: the driver broke a rule of its kernel.
pub fn violation(what: &str) -> ! {
    let backtrace = std::backtrace::Backtrace::force_capture();
    eprintln!("FAKE KERNEL: {what}\n{backtrace}");
    std::process::abort();
}
