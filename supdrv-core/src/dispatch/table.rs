//! Sizes and access rights of all requests.

use core::marker::PhantomData;

use crate::abi::ioctl::{Function, IOCTL_FLAG};
use crate::abi::requests as r;
use crate::abi::tracer::TracerUmodFireProbeIn;
use crate::os::OsPolicy;

/// What a size in the header must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    bytes: u32,
    /// How much more it may be; the handler knows better.
    more: u32,
}

impl Size {
    const fn exactly(bytes: usize) -> Self {
        Self { bytes: bytes as u32, more: 0 }
    }

    const fn at_least(bytes: usize) -> Self {
        Self { bytes: bytes as u32, more: u32::MAX - bytes as u32 }
    }

    /// One comparison: what is less than `bytes` wraps to something that is more than `more`.
    pub const fn allows(self, bytes: u32) -> bool {
        bytes.wrapping_sub(self.bytes) <= self.more
    }
}

/// What the dispatcher checks before a handler is called.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    pub function: Function,
    /// Its function code without the size.
    code: u32,
    pub input: Size,
    pub output: Size,
    /// Whether restricted sessions may use it.
    pub restricted: bool,
}

const fn of<T>() -> Size {
    Size::exactly(size_of::<T>())
}

const fn from<T>() -> Size {
    Size::at_least(size_of::<T>())
}

const HEADER: Size = Size::exactly(r::HEADER_BYTES);
/// The handler checks everything.
const ANY: Size = Size::at_least(r::HEADER_BYTES);

impl Rule {
    /// For a number that no request has: no code has all bits set.
    const NONE: Self = Self {
        function: Function::Cookie,
        code: u32::MAX,
        input: Size::exactly(0),
        output: Size::exactly(0),
        restricted: false,
    };
}

/// One more than the highest number of a request with a packet.
const NUMBERS: usize = 36;

/// The rules for systems with one way to encode requests, by function number.
struct Rules<O>(PhantomData<O>);

impl<O: OsPolicy> Rules<O> {
    const ALL: [Rule; NUMBERS] = {
        let mut rules = [Rule::NONE; NUMBERS];
        let mut at = 0;
        while at < Function::ALL.len() {
            let function = Function::ALL[at];
            if let Some((input, output)) = sizes(function) {
                let code = O::ENCODING.strip(O::ENCODING.code(function, 0, IOCTL_FLAG));
                let restricted = matches!(function, Function::Cookie | Function::VtCaps);
                rules[function as usize] = Rule { function, code, input, output, restricted };
            }
            at += 1;
        }
        rules
    };
}

/// The rule of a request with a packet, by its function code; `None` for all other codes.
pub fn rule<O: OsPolicy>(code: u32) -> Option<&'static Rule> {
    let number = O::ENCODING.number(code, IOCTL_FLAG)?;
    let rule = const { &Rules::<O>::ALL }.get(number as usize)?;
    (rule.code == O::ENCODING.strip(code)).then_some(rule)
}

/// Sizes of input and output; `None` for fast requests.
const fn sizes(function: Function) -> Option<(Size, Size)> {
    use Function as F;
    Some(match function {
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
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mock::MockOs;

    #[test]
    fn every_request_with_a_packet_is_found_by_its_code_and_by_no_other() {
        let encoding = MockOs::<crate::mock::LinuxCodes>::ENCODING;
        for &function in Function::ALL {
            let code = encoding.code(function, 0, IOCTL_FLAG);
            let found = rule::<MockOs>(code);
            let Some(sizes) = sizes(function) else {
                assert!(found.is_none(), "{function:?} has no packet");
                continue;
            };
            let found = found.expect("a rule");
            assert_eq!((found.function, found.input, found.output), (function, sizes.0, sizes.1));
            for bit in 0..32 {
                // The size isn't a part of what tells requests apart, and neighbours are other requests.
                let other = rule::<MockOs>(code ^ 1 << bit);
                assert!(bit < 7 || (16..30).contains(&bit) || other.is_none(), "{function:?} {bit}");
                assert!(bit >= 7 || other.is_none_or(|rule| rule.function != function));
            }
        }
    }

    #[test]
    fn sizes_are_exact_or_have_a_minimum() {
        let (exact, open) = (Size::exactly(28), Size::at_least(28));
        assert_eq!(
            [0, 27, 28, 29, u32::MAX].map(|bytes| exact.allows(bytes)),
            [false, false, true, false, false]
        );
        assert_eq!(
            [0, 27, 28, 29, u32::MAX].map(|bytes| open.allows(bytes)),
            [false, false, true, true, true]
        );
    }
}
