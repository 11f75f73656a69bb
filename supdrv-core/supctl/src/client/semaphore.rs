//! Requests of the semaphore services.

use core::time::Duration;

use supdrv_core::abi::ioctl::{Function, SEM_TYPE_EVENT, SEM_TYPE_EVENT_MULTI};
use supdrv_core::abi::requests as r;
use supdrv_core::abi::status::VINF_OBJECT_DESTROYED;
use zerocopy::FromZeros;

use super::Client;
use crate::error::Result;

/// The kinds of semaphores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventType {
    /// A signal releases one wait.
    Single,
    /// A signal releases all waits, until the event is reset.
    Multi,
}

impl EventType {
    /// Its number in packets.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::Single => SEM_TYPE_EVENT,
            Self::Multi => SEM_TYPE_EVENT_MULTI,
        }
    }
}

/// What closing did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Close {
    /// The semaphore is gone.
    Destroyed,
    /// Somebody still uses it, for instance waits for it.
    InUse,
}

const WAIT_MS: u32 = 0;
const WAIT_UNTIL_NS: u32 = 1;
const WAIT_NS: u32 = 2;
const SIGNAL: u32 = 3;
const RESET: u32 = 4;
const CLOSE: u32 = 5;

const CREATE: u32 = 0;
const GET_RESOLUTION: u32 = 1;

impl Client {
    fn sem_op(
        &self,
        kind: EventType,
        handle: u32,
        operation: u32,
        arg: u64,
    ) -> Result<supdrv_core::abi::Status> {
        let input =
            r::SemOp2In { sem_type: kind.number(), handle, operation, arg, ..FromZeros::new_zeroed() };
        self.order(Function::SemOp2, &input)
    }

    fn sem_ask(&self, kind: EventType, operation: u32) -> Result<u32> {
        let input = r::SemOp3In { sem_type: kind.number(), operation, ..FromZeros::new_zeroed() };
        let answer: r::SemOp3Out = self.ask(Function::SemOp3, &input)?;
        Ok(answer.value)
    }

    /// `SEM_OP3`, create: a handle of this session, 1 to 32768; not signalled.
    ///
    /// # Errors
    /// `VERR_NO_MEMORY`, `VERR_NO_MORE_HANDLES`.
    pub fn sem_create(&self, kind: EventType) -> Result<u32> {
        self.sem_ask(kind, CREATE)
    }

    /// `SEM_OP3`, get resolution: of waits, in nanoseconds.
    ///
    /// # Errors
    /// As for every request.
    pub fn sem_resolution_ns(&self, kind: EventType) -> Result<u32> {
        self.sem_ask(kind, GET_RESOLUTION)
    }

    /// `SEM_OP2`, wait: for a number of milliseconds, for ever if it is `u32::MAX`.
    ///
    /// # Errors
    /// `VERR_TIMEOUT`, `VERR_INTERRUPTED` (a signal of the system arrived), `VERR_INVALID_HANDLE`.
    pub fn sem_wait_ms(&self, kind: EventType, handle: u32, ms: u32) -> Result<()> {
        self.sem_op(kind, handle, WAIT_MS, ms.into()).map(drop)
    }

    /// `SEM_OP2`, wait: until the driver's monotonic clock shows `deadline_ns`, for ever if it is `u64::MAX`.
    ///
    /// # Errors
    /// As for [`sem_wait_ms`](Self::sem_wait_ms).
    pub fn sem_wait_until_ns(&self, kind: EventType, handle: u32, deadline_ns: u64) -> Result<()> {
        self.sem_op(kind, handle, WAIT_UNTIL_NS, deadline_ns).map(drop)
    }

    /// `SEM_OP2`, wait: for a number of nanoseconds, for ever if it is `u64::MAX`.
    ///
    /// # Errors
    /// As for [`sem_wait_ms`](Self::sem_wait_ms).
    pub fn sem_wait_ns(&self, kind: EventType, handle: u32, ns: u64) -> Result<()> {
        self.sem_op(kind, handle, WAIT_NS, ns).map(drop)
    }

    /// `SEM_OP2`, signal.
    ///
    /// # Errors
    /// `VERR_INVALID_HANDLE`.
    pub fn sem_signal(&self, kind: EventType, handle: u32) -> Result<()> {
        self.sem_op(kind, handle, SIGNAL, 0).map(drop)
    }

    /// `SEM_OP2`, reset: of a multiple-release semaphore.
    ///
    /// # Errors
    /// `VERR_INVALID_HANDLE`; `VERR_INVALID_FUNCTION` for a single-release one.
    pub fn sem_reset(&self, kind: EventType, handle: u32) -> Result<()> {
        self.sem_op(kind, handle, RESET, 0).map(drop)
    }

    /// `SEM_OP2`, close. Closing handle 0 does nothing.
    ///
    /// # Errors
    /// `VERR_INVALID_HANDLE`.
    pub fn sem_close(&self, kind: EventType, handle: u32) -> Result<Close> {
        let status = self.sem_op(kind, handle, CLOSE, 0)?;
        Ok(if status == VINF_OBJECT_DESTROYED { Close::Destroyed } else { Close::InUse })
    }

    /// A semaphore that is closed when it is dropped.
    ///
    /// # Errors
    /// As for [`sem_create`](Self::sem_create).
    pub fn event(&self, kind: EventType) -> Result<EventHandle<'_>> {
        Ok(EventHandle { client: self, kind, handle: self.sem_create(kind)? })
    }
}

/// A semaphore of a session; closed on drop.
pub struct EventHandle<'c> {
    client: &'c Client,
    kind: EventType,
    handle: u32,
}

impl EventHandle<'_> {
    /// Its number in the session.
    #[must_use]
    pub const fn handle(&self) -> u32 {
        self.handle
    }

    /// Waits for a signal.
    ///
    /// # Errors
    /// `VERR_TIMEOUT`, `VERR_INTERRUPTED`.
    pub fn wait(&self, timeout: Duration) -> Result<()> {
        let ns = u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX);
        self.client.sem_wait_ns(self.kind, self.handle, ns)
    }

    /// Signals.
    ///
    /// # Errors
    /// As for every request.
    pub fn signal(&self) -> Result<()> {
        self.client.sem_signal(self.kind, self.handle)
    }

    /// Takes the signal back; for multiple-release semaphores.
    ///
    /// # Errors
    /// `VERR_INVALID_FUNCTION` for a single-release one.
    pub fn reset(&self) -> Result<()> {
        self.client.sem_reset(self.kind, self.handle)
    }
}

impl Drop for EventHandle<'_> {
    fn drop(&mut self) {
        let _gone_with_the_session_otherwise = self.client.sem_close(self.kind, self.handle);
    }
}
