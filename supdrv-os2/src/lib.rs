//! Shim of the support driver for os2: not implemented yet, the crate only fixes its place in the workspace.
#![no_std]
