//! Sizes and access rights of all requests.

use crate::abi::ioctl::Function;
use crate::abi::requests as r;
use crate::abi::tracer::TracerUmodFireProbeIn;

/// What a size in the header must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// Exactly this many bytes.
    Exact(usize),
    /// At least this many; the handler knows more.
    AtLeast(usize),
}

impl Size {
    pub const fn allows(self, bytes: u32) -> bool {
        match self {
            Self::Exact(size) => bytes as usize == size,
            Self::AtLeast(size) => bytes as usize >= size,
        }
    }
}

/// What the dispatcher checks before a handler is called.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    pub input: Size,
    pub output: Size,
    /// Whether restricted sessions may use it.
    pub restricted: bool,
}

const fn of<T>() -> Size {
    Size::Exact(size_of::<T>())
}

const fn from<T>() -> Size {
    Size::AtLeast(size_of::<T>())
}

const HEADER: Size = Size::Exact(r::HEADER_BYTES);
/// The handler checks everything.
const ANY: Size = Size::AtLeast(r::HEADER_BYTES);

/// The rule of a request with a packet; `None` for fast requests.
pub const fn rule(function: Function) -> Option<Rule> {
    use Function as F;
    let (input, output) = match function {
        F::Cookie => (of::<r::CookieIn>(), of::<r::CookieOut>()),
        F::QueryFuncs => (HEADER, ANY),
        F::LdrOpen => (of::<r::LdrOpenIn>(), of::<r::LdrOpenOut>()),
        F::LdrLoad => (from::<r::LdrLoadIn>(), HEADER),
        F::LdrFree => (of::<r::LdrFreeIn>(), HEADER),
        F::LdrGetSymbol => (of::<r::LdrGetSymbolIn>(), of::<r::LdrGetSymbolOut>()),
        F::CallVmmr0 | F::CallVmmr0Big => (from::<r::CallVmmr0In>(), from::<r::CallVmmr0In>()),
        F::LowAlloc => (of::<r::LowAllocIn>(), from::<r::LowAllocOut>()),
        F::LowFree => (of::<r::LowFreeIn>(), HEADER),
        F::PageAllocEx => (of::<r::PageAllocExIn>(), from::<r::PageAllocExOut>()),
        F::PageMapKernel => (of::<r::PageMapKernelIn>(), of::<r::PageMapKernelOut>()),
        F::PageProtect => (of::<r::PageProtectIn>(), of::<r::PageProtectIn>()),
        F::PageFree => (of::<r::PageFreeIn>(), HEADER),
        F::PageLock => (of::<r::PageLockIn>(), from::<r::PageLockOut>()),
        F::PageUnlock => (of::<r::PageUnlockIn>(), HEADER),
        F::ContAlloc => (of::<r::ContAllocIn>(), of::<r::ContAllocOut>()),
        F::ContFree => (of::<r::ContFreeIn>(), HEADER),
        F::GetPagingMode => (HEADER, of::<r::GetPagingModeOut>()),
        F::SetVmForFast => (of::<r::SetVmForFastIn>(), HEADER),
        F::GipMap => (HEADER, of::<r::GipMapOut>()),
        F::CallService => (from::<r::CallServiceIn>(), from::<r::CallServiceIn>()),
        F::LoggerSettings => (from::<r::LoggerSettingsIn>(), HEADER),
        F::SemOp2 => (of::<r::SemOp2In>(), HEADER),
        F::SemOp3 => (of::<r::SemOp3In>(), of::<r::SemOp3In>()),
        F::VtCaps => (HEADER, of::<r::VtCapsOut>()),
        F::TracerOpen => (of::<r::TracerOpenIn>(), HEADER),
        F::GipUnmap | F::TracerClose | F::ResumeSuspendedKbds => (HEADER, HEADER),
        F::TracerIoctl => (of::<r::TracerIoctlIn>(), of::<r::TracerIoctlOut>()),
        F::TracerUmodReg => (of::<r::TracerUmodRegIn>(), HEADER),
        F::TracerUmodDereg => (of::<r::TracerUmodDeregIn>(), HEADER),
        F::TracerUmodFireProbe => (of::<TracerUmodFireProbeIn>(), HEADER),
        F::MsrProber => (of::<r::MsrProberIn>(), of::<r::MsrProberIn>()),
        F::FastDoRawRun | F::FastDoHmRun | F::FastDoNop => return None,
    };
    Some(Rule { input, output, restricted: matches!(function, F::Cookie | F::VtCaps) })
}
