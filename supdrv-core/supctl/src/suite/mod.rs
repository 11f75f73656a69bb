//! The conformance suite: what every driver must do, whatever the way to it.
//!
//! The same table of cases runs over a device node in a real kernel, over a system's shell on a fake kernel, and over a driver in
//! the test's own process. A case says what it needs of the way; where that is missing it is reported as not available, never as
//! passed. After each case the driver must hold what it held before, as far as the way shows its counters.
//!
//! ```no_run
//! # #[cfg(target_os = "linux")] {
//! use supctl::{suite, transport::linux::DeviceNodes};
//!
//! let tally = suite::run(&DeviceNodes::default(), "", &mut |case, outcome| {
//!     println!("{}: {outcome:?}", case.title());
//! });
//! assert_eq!(tally.failed, 0);
//! # }
//! ```

mod calls;
mod dispatch;
mod fast;
mod gip;
mod handshake;
mod images;
mod loader;
mod memory;
mod misc;
mod probe;
mod process;
mod restricted;
mod semaphore;
mod stress;
mod tracer;

use core::fmt::{self, Debug};
use core::time::Duration;
use std::panic::{AssertUnwindSafe, catch_unwind};

use supdrv_core::abi::Status;
use supdrv_core::abi::ioctl::{Encoding, Function};
use supdrv_core::abi::status::{VERR_INTERNAL_ERROR, VERR_NOT_SUPPORTED};
use zerocopy::{FromZeros, Immutable, IntoBytes};

use crate::client::Client;
use crate::error::Error;
use crate::packet::Packet;
use crate::pages::Pages;
use crate::transport::{Capabilities, Device, Node, Transport};

pub use images::run_image;
pub use process::{HOLD_ARGUMENT, hold_everything};

/// How a case ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The driver does what it must.
    Pass,
    /// It doesn't; what is wrong.
    Fail(String),
    /// The case can't be tried here; why.
    NotAvailable(String),
}

/// Why a case ended early.
#[derive(Clone, Debug)]
enum Stop {
    Fail(String),
    NotAvailable(String),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        match error {
            Error::Failed { request: Function::PageLock, status } if cannot_lock(status) => {
                Self::NotAvailable(CANNOT_LOCK.into())
            }
            error => Self::Fail(error.to_string()),
        }
    }
}

/// An emulated Windows kernel is a process that doesn't see its clients' memory; the driver says so. A real one never does.
fn cannot_lock(status: Status) -> bool {
    cfg!(windows) && status == VERR_NOT_SUPPORTED
}

const CANNOT_LOCK: &str = "an emulated kernel doesn't see its clients' memory";

impl From<crate::transport::OpenError> for Stop {
    fn from(error: crate::transport::OpenError) -> Self {
        Self::Fail(error.to_string())
    }
}

/// What a case returns.
type Check<T = ()> = Result<T, Stop>;

/// What a case needs of the way to the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    OtherProcess,
    Programs,
    SharedPages,
    RunsCode,
    FastCalls,
    RealTime,
}

impl Need {
    fn is_met(self, capabilities: &Capabilities) -> bool {
        match self {
            Self::OtherProcess => capabilities.other_process,
            Self::Programs => capabilities.programs,
            Self::SharedPages => capabilities.shared_pages,
            Self::RunsCode => capabilities.runs_code,
            Self::FastCalls => capabilities.fast_calls,
            Self::RealTime => capabilities.real_time,
        }
    }

    const fn description(self) -> &'static str {
        match self {
            Self::OtherProcess => "requests from another process can't be made here",
            Self::Programs => "other programs can't use this driver",
            Self::SharedPages => "pages aren't really shared between the rings here",
            Self::RunsCode => "code of images isn't executed here",
            Self::FastCalls => "there are no fast calls here",
            Self::RealTime => "time doesn't pass by itself here",
        }
    }
}

/// One thing that a driver must do.
#[derive(Debug)]
pub struct Case {
    /// What it is about.
    pub group: &'static str,
    /// What must be so.
    pub name: &'static str,
    needs: &'static [Need],
    run: fn(&Ctx<'_>) -> Check,
}

const fn case(
    group: &'static str,
    name: &'static str,
    needs: &'static [Need],
    run: fn(&Ctx<'_>) -> Check,
) -> Case {
    Case { group, name, needs, run }
}

impl Case {
    /// Group and name in one line.
    #[must_use]
    pub fn title(&self) -> String {
        format!("{}: {}", self.group, self.name)
    }

    /// Tries it. A panic is a failure of the case.
    #[must_use]
    pub fn run(&self, transport: &dyn Transport) -> Outcome {
        let capabilities = transport.capabilities();
        if let Some(missing) = self.needs.iter().find(|need| !need.is_met(&capabilities)) {
            return Outcome::NotAvailable(missing.description().into());
        }
        let ctx = Ctx { transport };
        let before = transport.counters();
        let result = catch_unwind(AssertUnwindSafe(|| (self.run)(&ctx)));
        match result {
            Err(panic) => Outcome::Fail(panic_text(&*panic)),
            Ok(Err(Stop::Fail(reason))) => Outcome::Fail(reason),
            Ok(Err(Stop::NotAvailable(reason))) => Outcome::NotAvailable(reason),
            Ok(Ok(())) if ctx.until(|| transport.counters() == before) => Outcome::Pass,
            Ok(Ok(())) => {
                Outcome::Fail(format!("left something behind: {before:?}, now {:?}", transport.counters()))
            }
        }
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    format!("panicked: {}", text.unwrap_or_default())
}

/// All cases, group by group.
pub fn cases() -> impl Iterator<Item = &'static Case> {
    [
        handshake::CASES,
        dispatch::CASES,
        restricted::CASES,
        memory::pages::CASES,
        memory::freeing::CASES,
        memory::mapping::CASES,
        gip::CASES,
        semaphore::CASES,
        loader::CASES,
        calls::CASES,
        fast::CASES,
        misc::CASES,
        tracer::CASES,
        process::CASES,
        stress::CASES,
    ]
    .into_iter()
    .flatten()
}

/// How many cases ended in which way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Passed.
    pub passed: usize,
    /// Failed.
    pub failed: usize,
    /// Not available here.
    pub skipped: usize,
}

impl Tally {
    /// Counts one more.
    pub fn add(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Pass => self.passed += 1,
            Outcome::Fail(_) => self.failed += 1,
            Outcome::NotAvailable(_) => self.skipped += 1,
        }
    }

    /// Both together.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self {
            passed: self.passed + other.passed,
            failed: self.failed + other.failed,
            skipped: self.skipped + other.skipped,
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)?;
        if self.skipped != 0 {
            write!(f, ", {} skipped", self.skipped)?;
        }
        Ok(())
    }
}

/// Runs all cases whose title contains `filter`, and reports each as it ends.
pub fn run(transport: &dyn Transport, filter: &str, report: &mut dyn FnMut(&Case, &Outcome)) -> Tally {
    let mut tally = Tally::default();
    for case in cases().filter(|case| case.title().contains(filter)) {
        let outcome = case.run(transport);
        tally.add(&outcome);
        report(case, &outcome);
    }
    tally
}

/// What a case works with.
struct Ctx<'a> {
    transport: &'a dyn Transport,
}

impl Ctx<'_> {
    fn client(&self) -> Check<Client> {
        Ok(Client::open(self.transport, Node::Unrestricted)?)
    }

    fn restricted_client(&self) -> Check<Client> {
        self.needs_node(Node::Restricted)?;
        Ok(Client::open(self.transport, Node::Restricted)?)
    }

    fn needs_node(&self, node: Node) -> Check {
        if node == Node::Restricted && !self.transport.has_restricted_node() {
            return not_available("there is no restricted node here");
        }
        Ok(())
    }

    fn device(&self, node: Node) -> Check<Box<dyn Device>> {
        self.needs_node(node)?;
        Ok(self.transport.open(node)?)
    }

    fn encoding(&self) -> Encoding {
        self.transport.encoding()
    }

    /// A packet that is nothing but a header.
    fn bare(&self, function: Function, out_bytes: usize) -> Packet {
        Packet::bare(self.encoding(), function, out_bytes)
    }

    /// A packet with a fixed input.
    fn packet<T: IntoBytes + Immutable>(&self, function: Function, input: &T, out_bytes: usize) -> Packet {
        Packet::new(self.encoding(), function, input, &[], out_bytes)
    }

    /// The driver refuses the packet with this status, and leaves it alone.
    fn refuses(&self, device: &dyn Device, packet: &mut Packet, status: Status) -> Check {
        let before = packet.bytes().to_vec();
        let name = packet.function().c_name();
        match packet.send(device) {
            Ok(rc) => fail(format!("{name} was accepted (status {rc}), must be refused with {status}")),
            Err(refused) if refused != self.transport.refusal(status) => {
                fail(format!("{name} was {refused}, must be refused with {status}"))
            }
            Err(_) => {
                ensure(packet.bytes() == before, || format!("{name} was refused, but changed the packet"))
            }
        }
    }

    /// The driver carries the packet out with this status in its header.
    fn answers(&self, device: &dyn Device, packet: &mut Packet, status: Status) -> Check {
        let name = packet.function().c_name();
        match packet.send(device) {
            Err(refused) => fail(format!("{name} was {refused}, must end with {status}")),
            Ok(rc) => same(name, rc, status),
        }
    }

    /// Lets time pass until something is so; `false` if it isn't after a long while.
    fn until(&self, condition: impl Fn() -> bool) -> bool {
        for _ in 0..5000 {
            if condition() {
                return true;
            }
            self.transport.pass_time(Duration::from_millis(1));
        }
        condition()
    }

    /// Pages of this process that the driver can lock.
    fn user_pages(&self, count: usize) -> Check<Pages> {
        let pages = self.transport.user_pages(count);
        pages.ok_or_else(|| Stop::NotAvailable("this process has no memory left".into()))
    }

    /// A name for an image that no other client of the driver uses.
    fn image_name(&self, tag: &str) -> String {
        format!("sc{}-{tag}", std::process::id())
    }
}

fn fail<T>(reason: impl Into<String>) -> Check<T> {
    Err(Stop::Fail(reason.into()))
}

fn not_available<T>(reason: impl Into<String>) -> Check<T> {
    Err(Stop::NotAvailable(reason.into()))
}

fn ensure(condition: bool, reason: impl FnOnce() -> String) -> Check {
    if condition { Ok(()) } else { fail(reason()) }
}

fn same<T: PartialEq + Debug>(what: &str, is: T, must_be: T) -> Check {
    ensure(is == must_be, || format!("{what} is {is:?}, must be {must_be:?}"))
}

/// A client's call failed with this status, in the header.
fn fails_with<T: Debug>(result: Result<T, Error>, status: Status) -> Check {
    match result {
        Err(Error::Failed { status: is, .. }) if is == status => Ok(()),
        Err(error) => fail(format!("{error}; must end with {status}")),
        Ok(value) => fail(format!("succeeded with {value:?}, must end with {status}")),
    }
}

/// The thread of a case has ended; its result.
fn joined<T>(result: std::thread::Result<T>) -> Check<T> {
    result.map_err(|panic| Stop::Fail(panic_text(&*panic)))
}

/// A packet's input, all zero.
fn zeroed<T: FromZeros>() -> T {
    T::new_zeroed()
}

/// What clients put into the status before a call.
const PRESET: Status = VERR_INTERNAL_ERROR;

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn titles_are_unique_and_there_are_many() {
        let titles: BTreeSet<_> = cases().map(Case::title).collect();
        assert_eq!(titles.len(), cases().count());
        assert!(titles.len() >= 80, "{} cases", titles.len());
    }

    #[test]
    fn a_tally_speaks_of_skipped_cases_only_if_there_are_any() {
        let mut tally = Tally { passed: 3, failed: 1, skipped: 0 };
        assert_eq!(tally.to_string(), "3 passed, 1 failed");
        tally.skipped = 2;
        assert_eq!(tally.to_string(), "3 passed, 1 failed, 2 skipped");
    }
}
