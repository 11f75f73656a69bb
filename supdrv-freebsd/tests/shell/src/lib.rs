//! The C half of the FreeBSD shim as a library of the host; what it calls is the fake kernel's.
#![no_std]
