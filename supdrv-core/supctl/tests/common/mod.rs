//! The transport that tests use: a driver on the mock system, in this process.

use core::time::Duration;
use std::sync::Arc;

use supctl::pages::Pages;
use supctl::transport::{self, Capabilities, Device, Node, OpenError, Refused, Transport};
use supdrv_core::abi::ioctl::Encoding;
use supdrv_core::dispatch;
use supdrv_core::driver::Counters;
use supdrv_core::mock::{Codes, Host, MockOs, Process, seen};
use supdrv_core::os::{OsArch, SessionKind};
use supdrv_core::session::SessionRef;

const EFER: u32 = 0xc000_0080;

/// A driver on the mock system, and a second process that plays the other one.
pub struct InProcess<E: Codes> {
    pub host: Arc<Host<E>>,
    other: Process,
}

impl<E: Codes> InProcess<E> {
    pub fn new(os: &MockOs<E>) -> Self {
        os.set_tsc_step(1);
        if usize::BITS == 32 {
            // The machine's CPUs run a 64-bit kernel unless told otherwise: no long mode, but NX.
            os.edit_cpus(|cpu| _ = cpu.msrs.insert(EFER, 1 << 11));
        }
        let host = Arc::new(Host::on(os).expect("a driver"));
        Self { host, other: os.new_process(1000, 1000) }
    }
}

struct Open<E: Codes> {
    /// Before the driver.
    session: SessionRef<MockOs<E>>,
    host: Arc<Host<E>>,
    other: Process,
}

impl<E: Codes> Transport for InProcess<E> {
    fn describe(&self) -> String {
        format!("a driver on the mock system, with the codes of {:?}", E::ENCODING)
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            other_process: true,
            programs: false,
            shared_pages: true,
            kernel_addresses: true,
            runs_code: true,
            fast_calls: true,
            real_time: false,
        }
    }

    fn encoding(&self) -> Encoding {
        E::ENCODING
    }

    fn open(&self, node: Node) -> Result<Box<dyn Device>, OpenError> {
        let kind = match node {
            Node::Unrestricted => SessionKind::User,
            Node::Restricted => SessionKind::UserRestricted,
        };
        let session = self.host.driver().create_session(kind);
        let session =
            session.map_err(|status| OpenError::Other { node: "mock".into(), reason: status.to_string() })?;
        Ok(Box::new(Open { session, host: self.host.clone(), other: self.other }))
    }

    fn pass_time(&self, duration: Duration) {
        // Time of the machine, and a little of this host for the threads that wake up.
        self.host.os().advance(duration.as_nanos() as u64);
        std::thread::sleep(Duration::from_micros(50));
    }

    fn settle(&self, waiting: usize) {
        self.host.os().wait_until_waiting(waiting);
    }

    fn monotonic_ns(&self) -> u64 {
        self.host.os().now_ns()
    }

    fn tsc(&self) -> u64 {
        OsArch::tsc(self.host.os())
    }

    fn apic_id(&self) -> u8 {
        (self.host.os().cpuid(1, 0).ebx >> 24) as u8
    }

    fn user_pages(&self, count: usize) -> Option<Pages> {
        let memory = self.host.os().user_memory(count);
        // SAFETY: the memory is the owner's, and nobody else looks at it.
        Some(unsafe { Pages::of_owner(memory.address(), count, Box::new(memory)) })
    }

    fn counters(&self) -> Option<Counters> {
        Some(self.host.counters())
    }
}

impl<E: Codes> Device for Open<E> {
    fn ioctl(&self, code: u32, packet: &mut [u8]) -> Result<(), Refused> {
        transport::buffered(E::ENCODING, code, packet, |kernel| {
            let call = dispatch::ioctl(&self.session, code, kernel);
            seen::ioctl(E::ENCODING, code, call, kernel);
            call
        })
    }

    fn fast(&self, code: u32, cpu_id: u32) -> Result<(), Refused> {
        let call = dispatch::ioctl_fast(&self.session, code, cpu_id);
        seen::fast(E::ENCODING, code, call);
        call.map_err(Refused::Status)
    }

    fn ioctl_from_other_process(&self, code: u32, packet: &mut [u8]) -> Option<Result<(), Refused>> {
        Some(self.host.os().run_as(self.other, || self.ioctl(code, packet)))
    }
}
