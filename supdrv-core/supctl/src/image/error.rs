//! Why an image can't be linked or loaded.

use core::fmt;

use crate::error::Error;

/// Why an image can't be linked or loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkError {
    /// The file isn't an object that can be linked.
    Malformed(String),
    /// It is for another machine than this client.
    OtherMachine(String),
    /// It has uninitialised data that no section holds.
    Common {
        /// The symbol.
        symbol: String,
    },
    /// Symbols that nobody has; not empty.
    Undefined {
        /// Name of each, and who wants it.
        symbols: Vec<(String, String)>,
    },
    /// A reference needs more bits than it has.
    OutOfReach {
        /// What is referred to.
        symbol: String,
        /// Who refers to it.
        wanted_by: String,
    },
    /// A kind of reference that ring-0 images can't have.
    Relocation {
        /// Number of the kind.
        kind: u32,
        /// Who has it.
        wanted_by: String,
    },
    /// An entry point isn't there.
    NoEntryPoint {
        /// Its name.
        symbol: String,
        /// The image.
        image: String,
    },
    /// The image, or a part of it, is larger than the driver takes.
    TooLarge(String),
    /// The driver didn't do its part.
    Driver(Error),
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(reason) => write!(f, "not an object that can be linked: {reason}"),
            Self::OtherMachine(reason) => write!(f, "for another machine: {reason}"),
            Self::Common { symbol } => write!(f, "{symbol} is a common symbol: compile with -fno-common"),
            Self::Undefined { symbols } => {
                for (index, (symbol, wanted_by)) in symbols.iter().enumerate() {
                    let separator = if index == 0 { "" } else { "\n" };
                    write!(f, "{separator}undefined symbol {symbol} wanted by {wanted_by}")?;
                }
                Ok(())
            }
            Self::OutOfReach { symbol, wanted_by } => {
                write!(f, "{symbol} is too far away from {wanted_by}: compile with -mcmodel=large")
            }
            Self::Relocation { kind, wanted_by } => {
                write!(
                    f,
                    "{wanted_by} has a relocation of kind {kind}: compile for the kernel, without position-independent code"
                )
            }
            Self::NoEntryPoint { symbol, image } => write!(f, "{image} has no entry point {symbol}"),
            Self::TooLarge(reason) => f.write_str(reason),
            Self::Driver(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for LinkError {}

impl From<Error> for LinkError {
    fn from(error: Error) -> Self {
        Self::Driver(error)
    }
}

impl From<object::Error> for LinkError {
    fn from(error: object::Error) -> Self {
        Self::Malformed(error.to_string())
    }
}
