//! Ring-0 images: linking and loading them.
//!
//! The driver takes images that are relocated already: for the address that it gives when an image is opened, with every import
//! resolved, and with a table of symbols behind the bits. Making that out of an ELF object is the client's work:
//!
//! ```text
//!   object file ──parse──► Module ──LDR_OPEN──► base address ──relocate──► bits ──LDR_LOAD──► image that runs
//!                            │                                   ▲
//!                            └ imports ─► earlier images, QUERY_FUNCS, global info page
//! ```
//!
//! [`Loader`] does all of it. Objects are relocatable (`cc -c`) or shared ones; on 64-bit systems they are best compiled for the
//! kernel: `-ffreestanding -fno-pic -mcmodel=kernel -mno-red-zone -fno-common`, or with `-mcmodel=large` where images aren't near
//! the driver. Global symbols are exported; `ModuleInit` and `ModuleTerm` are called if they exist.

mod error;
mod link;
mod load;
mod module;
mod tables;

pub use error::LinkError;
pub use load::{EntryPoints, LoadedImage, Loader, Progress};
pub use module::{Exported, Module};
pub use tables::{BitsWithTables, MAX_SYMBOLS, SymbolTables};
