//! Shim of the support driver for windows: not implemented yet, the crate only fixes its place in the workspace.
#![no_std]
