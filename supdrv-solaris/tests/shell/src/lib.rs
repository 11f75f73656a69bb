//! The C half of the Solaris shim as a library of the host; what it calls is the fake kernel's.
#![no_std]
