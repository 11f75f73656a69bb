//! The global info page, mapped into this process: time without system calls.
//!
//! ```no_run
//! # #[cfg(target_os = "linux")] {
//! use supctl::client::Client;
//! use supctl::transport::{Node, linux::DeviceNodes};
//!
//! let nodes = DeviceNodes::default();
//! let client = Client::open(&nodes, Node::Unrestricted)?;
//! let gip = client.gip()?;
//! if let Some(now) = gip.now_ns(&nodes) {
//!     println!("{now} ns, mode {}", gip.mode_name());
//! }
//! # }
//! # Ok::<(), supctl::error::Error>(())
//! ```

use core::sync::atomic::Ordering;

use supdrv_core::abi::gip::{GIP_MAGIC, GIP_VERSION, GipCpu, GipHeader, MODE_ASYNC, MODE_SYNC};
use supdrv_core::abi::ioctl::Function;
use supdrv_core::gip::reader::{Reader, Statistics};

use crate::client::{Client, GipAddresses};
use crate::error::{Error, Result};
use crate::transport::Transport;

/// Highest number of CPUs that a page can describe.
const MAX_CPUS: usize = 256;

/// The page, mapped for as long as this value lives.
pub struct Gip<'c> {
    client: &'c Client,
    addresses: GipAddresses,
    reader: Reader,
}

impl Client {
    /// Maps the global info page.
    ///
    /// # Errors
    /// The driver has none, or one that this client doesn't understand.
    pub fn gip(&self) -> Result<Gip<'_>> {
        let addresses = self.gip_acquire()?;
        let gip = Gip { client: self, addresses, reader: Reader::new() };
        let request = Function::GipMap;
        if addresses.r3 == 0 || !addresses.r3.is_multiple_of(align_of::<GipHeader>()) {
            return Err(Error::invalid(request, format!("a page at {:#x} makes no sense", addresses.r3)));
        }
        let (magic, version) =
            (gip.header().magic.load(Ordering::Relaxed), gip.header().version.load(Ordering::Relaxed));
        if magic != GIP_MAGIC || version < GIP_VERSION {
            return Err(Error::invalid(
                request,
                format!("magic {magic:#x} or version {version:#x} isn't what this client knows"),
            ));
        }
        Ok(gip)
    }
}

impl Gip<'_> {
    /// Where it is.
    #[must_use]
    pub const fn addresses(&self) -> GipAddresses {
        self.addresses
    }

    /// The page's header.
    #[must_use]
    pub fn header(&self) -> &GipHeader {
        let at = core::ptr::with_exposed_provenance::<GipHeader>(self.addresses.r3);
        // SAFETY: the driver maps at least a header, which consists of atomics, for as long as this value lives.
        unsafe { &*at }
    }

    /// The CPUs' entries.
    #[must_use]
    pub fn cpus(&self) -> &[GipCpu] {
        let count = usize::from(self.header().cpus.load(Ordering::Relaxed)).min(MAX_CPUS);
        let at = core::ptr::with_exposed_provenance::<GipCpu>(self.addresses.r3 + size_of::<GipHeader>());
        // SAFETY: the driver maps as many entries as it says, behind the header.
        unsafe { core::slice::from_raw_parts(at, count) }
    }

    /// 1: all CPUs share the first entry; 2: each CPU has its own.
    #[must_use]
    pub fn mode(&self) -> u32 {
        self.header().mode.load(Ordering::Relaxed)
    }

    /// What the mode is called.
    #[must_use]
    pub fn mode_name(&self) -> &'static str {
        match self.mode() {
            MODE_SYNC => "synchronous TSCs",
            MODE_ASYNC => "asynchronous TSCs",
            _ => "unknown",
        }
    }

    /// Time of the driver's monotonic clock in nanoseconds: strictly later with every call, by any thread. `None` if the page is
    /// gone or of an unknown mode.
    #[must_use]
    pub fn now_ns(&self, transport: &dyn Transport) -> Option<u64> {
        self.reader.now_ns(self.header(), self.cpus(), || transport.apic_id(), || transport.tsc())
    }

    /// What happened while reading the time.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        self.reader.statistics()
    }

    /// Waits until the clock runs: until the first entry in use was updated `updates` times, or `false` after a second of the
    /// driver's time.
    #[must_use]
    pub fn wait_for_updates(&self, transport: &dyn Transport, updates: u32) -> bool {
        const STEP: core::time::Duration = core::time::Duration::from_millis(5);
        let Some(entry) = self.cpus().first() else { return false };
        let first = entry.transaction_id.load(Ordering::Acquire);
        for _ in 0..200 {
            if entry.transaction_id.load(Ordering::Acquire).wrapping_sub(first) >= 2 * updates {
                return true;
            }
            transport.pass_time(STEP);
        }
        false
    }
}

impl Drop for Gip<'_> {
    fn drop(&mut self) {
        self.client.gip_release();
    }
}
