//! Request packets of the strategy routine.
//!
//! What is parsed is a copy of the packet, so that nothing is read twice. What the driver doesn't serve, and what is too short
//! for its command, is an unknown command to the kernel.

/// The request was served.
pub const DONE: u16 = 0x0100;
/// The driver doesn't know the command.
pub const UNKNOWN_COMMAND: u16 = 0x8103;
/// Everything else that fails.
pub const GENERAL_FAILURE: u16 = 0x810c;

/// Ioctl category of the ordinary requests.
pub const CATEGORY_ORDINARY: u8 = 0xc0;
/// Ioctl category of the fast requests.
pub const CATEGORY_FAST: u8 = 0xc1;

/// Parameter bytes of an ordinary ioctl: clients announce the request's header only.
pub const PARAMETER_BYTES: u16 = 24;

/// No packet of a request that is served has fields beyond this.
pub const MAX_PACKET_BYTES: usize = 0x1d;
/// Where an ioctl's packet has the bytes of the parameter packet, followed by those of the data packet.
pub const IOCTL_LENGTHS: usize = 0x19;
/// Where a read's packet has the number of bytes.
pub const READ_COUNT: usize = 0x12;

const COMMAND: usize = 2;
const FIELDS: usize = 0x0d;
const OPEN: u8 = 0x0d;
const CLOSE: u8 = 0x0e;
const IOCTL: u8 = 0x10;
const READ: u8 = 0x04;
const SHUTDOWN: u8 = 0x1c;
/// Selectors up to this one are null.
const LAST_NULL_SELECTOR: u16 = 3;

/// A 16:16 pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FarPointer {
    /// Offset in the segment, in bytes.
    pub offset: u16,
    /// Selector of the segment.
    pub selector: u16,
}

impl FarPointer {
    /// As one number, the selector in its upper half.
    #[must_use]
    pub const fn word(self) -> u32 {
        (self.selector as u32) << 16 | self.offset as u32
    }

    /// Whether it points nowhere.
    #[must_use]
    pub const fn is_null(self) -> bool {
        self.selector <= LAST_NULL_SELECTOR
    }
}

/// An ioctl as the kernel describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ioctl {
    /// Category, see [`CATEGORY_ORDINARY`] and [`CATEGORY_FAST`].
    pub category: u8,
    /// Function of the category.
    pub function: u8,
    /// The caller's parameter packet.
    pub parameter: FarPointer,
    /// The caller's data packet.
    pub data: FarPointer,
    /// System file number.
    pub sfn: u16,
    /// Bytes of the parameter packet.
    pub parameter_bytes: u16,
    /// Bytes of the data packet.
    pub data_bytes: u16,
}

impl Ioctl {
    /// Checks what an ordinary request's packet has to look like. Class I.
    ///
    /// # Errors
    /// [`UNKNOWN_COMMAND`] for another category; [`GENERAL_FAILURE`] for a null parameter packet, one of other than
    /// [`PARAMETER_BYTES`], or a data packet.
    pub const fn check_ordinary(&self) -> Result<(), u16> {
        if self.category != CATEGORY_ORDINARY {
            return Err(UNKNOWN_COMMAND);
        }
        if self.parameter.is_null() || self.parameter_bytes != PARAMETER_BYTES || !self.data.is_null() {
            return Err(GENERAL_FAILURE);
        }
        Ok(())
    }

    /// Checks what a fast request's packet has to look like: none, or one of `bytes`. Class I.
    ///
    /// # Errors
    /// [`GENERAL_FAILURE`].
    pub fn check_fast(&self, bytes: usize) -> Result<(), u16> {
        let fits = self.parameter.is_null() || usize::from(self.parameter_bytes) == bytes;
        if fits && self.data.is_null() { Ok(()) } else { Err(GENERAL_FAILURE) }
    }
}

/// What the kernel wants in ring 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// A file was opened, with this system file number.
    Open(u16),
    /// A file was closed.
    Close(u16),
    /// An ioctl.
    Ioctl(Ioctl),
    /// The driver's log is wanted: physical address of the buffer, and its bytes.
    Read {
        /// Physical address.
        phys: u32,
        /// Bytes.
        bytes: u16,
    },
    /// The machine goes down.
    Shutdown,
}

impl Request {
    /// Parses a request packet. Class I.
    ///
    /// # Errors
    /// [`UNKNOWN_COMMAND`] for a command that isn't served in ring 0, and for a packet without room for its command's fields.
    pub fn parse(packet: &[u8]) -> Result<Self, u16> {
        Self::fields(packet).ok_or(UNKNOWN_COMMAND)
    }

    fn fields(packet: &[u8]) -> Option<Self> {
        let command = *packet.get(COMMAND)?;
        let mut rest = Reader(packet.get(FIELDS..)?);
        Some(match command {
            OPEN => Self::Open(rest.word()?),
            CLOSE => Self::Close(rest.word()?),
            IOCTL => Self::Ioctl(Ioctl {
                category: rest.byte()?,
                function: rest.byte()?,
                parameter: rest.far()?,
                data: rest.far()?,
                sfn: rest.word()?,
                parameter_bytes: rest.word()?,
                data_bytes: rest.word()?,
            }),
            READ => {
                let _media = rest.byte()?;
                let (low, high) = (rest.word()?, rest.word()?);
                Self::Read { phys: (u32::from(high) << 16) | u32::from(low), bytes: rest.word()? }
            }
            SHUTDOWN => Self::Shutdown,
            _ => return None,
        })
    }
}

/// Little-endian fields, one after the other.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn word(&mut self) -> Option<u16> {
        Some(u16::from_le_bytes([self.byte()?, self.byte()?]))
    }

    fn far(&mut self) -> Option<FarPointer> {
        Some(FarPointer { offset: self.word()?, selector: self.word()? })
    }
}
