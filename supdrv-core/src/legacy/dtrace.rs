//! The host's own DTrace as the tracer of C drivers (feature `legacy-dtrace`, Solaris and FreeBSD).

use core::ptr::NonNull;

use super::Legacy;
use crate::abi::tracer::TracerReg;
use crate::os::Errno;
use crate::tracer::dtrace::Registration;
use crate::tracer::dtrace::linked::{Kernel, Linked};

unsafe extern "C" {
    /// The shell's: the address behind the current kernel stack, in which the given address is, or the end of the address's page if the stack
    /// isn't known. Called with interrupts off.
    fn supdrvOSDTraceStackEnd(from: usize) -> usize;
}

#[derive(Debug)]
struct Host;

impl Kernel for Host {
    type Os = Legacy;
    const ERRNO: Errno = if cfg!(feature = "legacy-solaris") { Errno::Solaris } else { Errno::FreeBsd };

    fn os() -> Legacy {
        Legacy
    }

    fn stack_end(from: usize) -> usize {
        // SAFETY: the shell's function takes any address of the current stack.
        unsafe { supdrvOSDTraceStackEnd(from) }
    }
}

static BRIDGE: Registration = Registration::new::<Linked<Host>>();

/// The bridge's record.
pub fn native_tracer() -> NonNull<TracerReg> {
    BRIDGE.as_tracer()
}

/// The record of the bridge to the host's DTrace, valid for ever; the driver takes it by itself when it is initialised. Class T.
#[unsafe(no_mangle)]
pub extern "C" fn supdrvDTraceInit() -> *const TracerReg {
    native_tracer().as_ptr()
}
