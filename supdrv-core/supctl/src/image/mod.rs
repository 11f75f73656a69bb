//! Ring-0 images: linking and loading them.

mod tables;

pub use tables::{BitsWithTables, MAX_SYMBOLS, SymbolTables};
