//! How large the packet of each request is, in both directions and for both pointer widths.

use super::ioctl::Function;
use super::layout::CSize;
use super::requests as r;
use super::tracer::TracerUmodFireProbeIn;

/// One direction of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// The fixed part in bytes, on 64-bit and on 32-bit hosts.
    pub base: [usize; 2],
    /// What each unit of the variable part adds; 0 where there is none.
    pub unit: [usize; 2],
}

impl Size {
    const fn fixed<T: CSize>() -> Self {
        Self { base: T::BYTES, unit: [0, 0] }
    }

    const fn with<T: CSize, U: CSize>() -> Self {
        Self { base: T::BYTES, unit: U::BYTES }
    }

    /// Whether there is a variable part.
    #[must_use]
    pub const fn is_variable(self) -> bool {
        self.unit[0] != 0
    }

    /// Bytes on hosts of a width (index as in [`WIDTH`](super::layout::WIDTH)) with `units` in the variable part; `None` if
    /// that is no size.
    #[must_use]
    pub fn bytes(self, width: usize, units: usize) -> Option<usize> {
        self.unit.get(width)?.checked_mul(units)?.checked_add(*self.base.get(width)?)
    }
}

/// Both directions of a request's packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// What the client sends.
    pub input: Size,
    /// What it receives.
    pub output: Size,
}

const HEADER: Size = Size::fixed::<r::RequestHeader>();

/// The packet of a request; `None` for fast requests.
#[must_use]
pub const fn packet(function: Function) -> Option<Packet> {
    use Function as F;
    let (input, output) = match function {
        F::Cookie => (Size::fixed::<r::CookieIn>(), Size::fixed::<r::CookieOut>()),
        F::QueryFuncs => (HEADER, Size::with::<r::QueryFuncsOut, r::Function>()),
        F::LdrOpen => (Size::fixed::<r::LdrOpenIn>(), Size::fixed::<r::LdrOpenOut>()),
        F::LdrLoad => (Size::with::<r::LdrLoadIn, u8>(), HEADER),
        F::LdrFree => (Size::fixed::<r::LdrFreeIn>(), HEADER),
        F::LdrGetSymbol => (Size::fixed::<r::LdrGetSymbolIn>(), Size::fixed::<r::LdrGetSymbolOut>()),
        F::CallVmmr0 | F::CallVmmr0Big => both(Size::with::<r::CallVmmr0In, u8>()),
        F::LowAlloc => (Size::fixed::<r::LowAllocIn>(), Size::with::<r::LowAllocOut, u64>()),
        F::LowFree => (Size::fixed::<r::LowFreeIn>(), HEADER),
        F::PageAllocEx => (Size::fixed::<r::PageAllocExIn>(), Size::with::<r::PageAllocExOut, u64>()),
        F::PageMapKernel => (Size::fixed::<r::PageMapKernelIn>(), Size::fixed::<r::PageMapKernelOut>()),
        F::PageProtect => both(Size::fixed::<r::PageProtectIn>()),
        F::PageFree => (Size::fixed::<r::PageFreeIn>(), HEADER),
        F::PageLock => (Size::fixed::<r::PageLockIn>(), Size::with::<r::PageLockOut, u64>()),
        F::PageUnlock => (Size::fixed::<r::PageUnlockIn>(), HEADER),
        F::ContAlloc => (Size::fixed::<r::ContAllocIn>(), Size::fixed::<r::ContAllocOut>()),
        F::ContFree => (Size::fixed::<r::ContFreeIn>(), HEADER),
        F::GetPagingMode => (HEADER, Size::fixed::<r::GetPagingModeOut>()),
        F::SetVmForFast => (Size::fixed::<r::SetVmForFastIn>(), HEADER),
        F::GipMap => (HEADER, Size::fixed::<r::GipMapOut>()),
        F::CallService => both(Size::with::<r::CallServiceIn, u8>()),
        F::LoggerSettings => (Size::with::<r::LoggerSettingsIn, u8>(), HEADER),
        F::SemOp2 => (Size::fixed::<r::SemOp2In>(), HEADER),
        F::SemOp3 => both(Size::fixed::<r::SemOp3In>()),
        F::VtCaps => (HEADER, Size::fixed::<r::VtCapsOut>()),
        F::TracerOpen => (Size::fixed::<r::TracerOpenIn>(), HEADER),
        F::GipUnmap | F::TracerClose | F::ResumeSuspendedKbds => (HEADER, HEADER),
        F::TracerIoctl => (Size::fixed::<r::TracerIoctlIn>(), Size::fixed::<r::TracerIoctlOut>()),
        F::TracerUmodReg => (Size::fixed::<r::TracerUmodRegIn>(), HEADER),
        F::TracerUmodDereg => (Size::fixed::<r::TracerUmodDeregIn>(), HEADER),
        F::TracerUmodFireProbe => (Size::fixed::<TracerUmodFireProbeIn>(), HEADER),
        F::MsrProber => both(Size::fixed::<r::MsrProberIn>()),
        F::FastDoRawRun | F::FastDoHmRun | F::FastDoNop => return None,
    };
    Some(Packet { input, output })
}

const fn both(size: Size) -> (Size, Size) {
    (size, size)
}
