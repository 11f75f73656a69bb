//! What every shim must do, through the entry points of its own system: one set of tests for all of them.
//!
//! A shim's fake kernel implements [`ShimUnderTest`] (a way to load, unload, open, call, close and die, the accounts, the failures), and
//! one line in the shim's test program makes the tests:
//!
//! ```ignore
//! fakekernel::shim_suite!(fake::Calls; common, unloading, restricted_node, shared_files, foreign_programs);
//! ```
//!
//! | group | for |
//! | --- | --- |
//! | `common` | every system |
//! | `unloading` | systems that unload drivers; elsewhere `unload` stands for the end of the machine |
//! | `restricted_node` | systems with two nodes |
//! | `shared_files` | systems where a child inherits open files: one session until the last descriptor is closed |
//! | `foreign_programs` | 64-bit kernels that run 32-bit programs, which the driver sends away |
//!
//! A group that doesn't apply is left out of the line, so that no test passes without having tested anything. What only one system has
//! (modes of nodes, minor numbers, properties) is tested beside it, in the shim.
//!
//! Tests take the machine in turns ([`ShimUnderTest::boot`]); each leaves it as it was, or fails.

use core::ffi::c_void;
use std::sync::Arc;

use supctl::client::{Allocation, Client, EventType};
use supctl::packet::Packet;
use supctl::transport::{Node, Transport};
use supdrv_core::abi::idc::IdcRequest;
use supdrv_core::abi::ioctl::Function;
use supdrv_core::abi::requests::{QueryFuncsOut, VtCapsOut};
use supdrv_core::abi::status::VERR_NOT_SUPPORTED;

use crate::context::Process;
use crate::faults::Faults;
use crate::ledger::Ledger;
use crate::nodes::{Nodes, SystemCalls};
use crate::ram::PAGE;

#[allow(missing_docs, reason = "the names of the tests")]
pub mod failures;
#[allow(missing_docs, reason = "the names of the tests")]
pub mod life;
#[allow(missing_docs, reason = "the names of the tests")]
pub mod processes;
#[allow(missing_docs, reason = "the names of the tests")]
pub mod requests;

/// A shim on its fake kernel, with everything that [`SystemCalls`] doesn't already say.
pub trait ShimUnderTest: SystemCalls + Sized {
    /// The machine, for one test at a time. When it is dropped outside of a panic, it checks [`Self::leftovers`].
    type Kernel;

    /// The error number of an unload that is refused because the driver is in use.
    const EBUSY: i32 = 16;
    /// Error numbers of an open that comes while the driver is loaded or unloaded.
    const OPEN_WITHOUT_DRIVER: &'static [i32] = &[2, 6];
    /// Whether processes have users.
    const HAS_USERS: bool = true;
    /// Whether there are pages without a mapping in the kernel; if not, that is not supported.
    const HAS_UNMAPPED_PAGES: bool = true;
    /// Account of threads that sleep in the kernel.
    const SLEEPERS: &'static str = "sleepers";
    /// Account of pages of processes that the driver keeps from being paged out.
    const LOCKED_PAGES: &'static str;
    /// Accounts that are zero once every session is closed, before the process ends: no mapping of a process waits for its end.
    const GONE_WITH_THE_SESSION: &'static [&'static str];
    /// Functions of the kernel that must have failed once in the whole life of a driver: proof that injection reaches them.
    const MUST_HAVE_FAILED: &'static [&'static str];

    /// Waits for one's turn and starts from a clean state, without the driver.
    fn boot() -> Self::Kernel;

    /// Loads the driver and makes its nodes; 0 or the error number.
    fn load(kernel: &Self::Kernel) -> i32;

    /// Unloads it if it isn't in use; 0 or the error number.
    fn unload(kernel: &Self::Kernel) -> i32;

    /// What exists of the driver: kinds and numbers; empty when it is gone.
    fn leftovers(kernel: &Self::Kernel) -> Vec<(&'static str, i64)>;

    /// The machine's accounts.
    fn ledger() -> &'static Ledger;

    /// The machine's failures.
    fn faults() -> &'static Faults;

    /// The driver's entry for siblings; its status.
    ///
    /// # Safety
    /// The packet is null, or has as many bytes as it says and the request has.
    unsafe fn idc(request: IdcRequest, packet: *mut c_void) -> i32;

    /// The descriptor in a child; for the group `shared_files`.
    fn inherit(fd: &Self::Fd, child: &Arc<Process>) -> Self::Fd;

    /// The process ends; its descriptors are closed already.
    fn exit(process: &Arc<Process>);

    /// The process takes a mapping of its own down.
    fn unmap(process: &Arc<Process>, address: usize, bytes: usize);

    /// How many mappings of the driver's memory the process has.
    fn mappings(process: &Arc<Process>) -> usize;
}

/// The methods of [`ShimUnderTest`] that hand over to a kernel with methods of these names, and to its machine, inside of the
/// implementation: `$boot` makes the one, `$machine` gives the other.
#[macro_export]
macro_rules! shim_machine {
    ($kernel:ty, $boot:path, $machine:path) => {
        fn boot() -> $kernel {
            $boot()
        }

        fn load(kernel: &$kernel) -> i32 {
            kernel.load()
        }

        fn unload(kernel: &$kernel) -> i32 {
            kernel.unload()
        }

        fn leftovers(kernel: &$kernel) -> Vec<(&'static str, i64)> {
            kernel.leftovers()
        }

        fn ledger() -> &'static $crate::ledger::Ledger {
            &$machine().ledger
        }

        fn faults() -> &'static $crate::faults::Faults {
            &$machine().faults
        }
    };
}

/// Makes a `#[test]` of each behaviour of the named groups, for an implementation of [`ShimUnderTest`].
#[macro_export]
macro_rules! shim_suite {
    ($shim:ty; $($group:ident),+ $(,)?) => { $( $crate::shim_suite!(@group $group $shim); )+ };
    (@group common $shim:ty) => {
        $crate::shim_suite!(@tests $shim, life:
            the_driver_loads_and_unloads_fifty_times_without_a_trace,
            the_conformance_suite_passes_through_the_nodes,
            siblings_come_and_go,
            siblings_with_bad_packets_get_nothing,
            nodes_that_do_not_exist_cannot_be_opened,
        );
        $crate::shim_suite!(@tests $shim, requests:
            requests_that_the_driver_refuses_leave_the_callers_memory_alone,
            an_answer_touches_nothing_behind_the_packet,
            packets_have_limits,
            packets_must_be_there,
            a_fast_call_without_a_vm_has_the_specified_status,
            a_part_of_a_block_shows_the_pages_that_it_is_a_part_of,
        );
        $crate::shim_suite!(@tests $shim, processes:
            a_session_knows_its_process_and_the_real_ids_of_its_opener,
            files_opened_in_parallel_are_all_sessions_of_their_own,
            a_process_that_is_killed_leaves_nothing,
            a_process_that_is_killed_in_a_wait_leaves_nothing,
            memory_that_the_process_has_unmapped_itself_can_still_be_freed,
            a_signal_ends_a_wait_of_its_process,
        );
        $crate::shim_suite!(@tests $shim, failures:
            no_failure_while_it_loads_leaves_anything_behind,
            no_failure_of_an_open_leaves_anything_behind,
            no_failure_inside_a_request_leaves_anything_behind,
            no_failure_while_it_unloads_leaves_anything_behind,
            every_function_of_the_list_has_failed_once,
        );
    };
    (@group unloading $shim:ty) => {
        $crate::shim_suite!(@tests $shim, life:
            an_open_file_keeps_the_driver_loaded_and_working,
            a_sibling_driver_keeps_the_driver_loaded,
            opens_that_race_with_unloads_find_the_driver_or_no_driver,
        );
    };
    (@group restricted_node $shim:ty) => {
        $crate::shim_suite!(@tests $shim, requests:
            a_fast_code_on_the_restricted_node_is_a_packet_that_is_not_there,
        );
    };
    (@group shared_files $shim:ty) => {
        $crate::shim_suite!(@tests $shim, processes:
            a_file_that_two_processes_share_is_one_session_until_both_have_closed_it,
            a_process_can_end_while_another_one_still_has_its_session,
            pages_live_as_long_as_they_are_mapped_even_if_another_process_closes_last,
        );
    };
    (@group foreign_programs $shim:ty) => {
        $crate::shim_suite!(@tests $shim, requests:
            programs_of_32_bits_are_told_that_this_is_not_for_them,
        );
    };
    (@tests $shim:ty, $module:ident: $($name:ident),+ $(,)?) => {
        $( #[test] fn $name() { $crate::suite::$module::$name::<$shim>(); } )+
    };
}

/// A process of the superuser.
#[must_use]
pub fn root() -> Arc<Process> {
    Arc::new(Process::new(0))
}

/// A machine with the driver.
#[must_use]
pub fn loaded<S: ShimUnderTest>() -> S::Kernel {
    let kernel = S::boot();
    assert_eq!(S::load(&kernel), 0, "the driver loads");
    kernel
}

/// The end of a test: the driver goes, and the machine checks what is left.
pub fn unload<S: ShimUnderTest>(kernel: S::Kernel) {
    assert_eq!(S::unload(&kernel), 0, "the driver unloads");
    assert_eq!(S::leftovers(&kernel), [], "the driver left something behind");
    drop(kernel);
}

/// The unrestricted node, open.
#[must_use]
pub fn open<S: ShimUnderTest>(process: &Arc<Process>) -> S::Fd {
    S::open(process, NAME).unwrap_or_else(|error| panic!("error {error} of an open"))
}

/// A client with a session of the unrestricted node.
#[must_use]
pub fn client<S: ShimUnderTest>(process: &Arc<Process>) -> Client {
    try_client::<S>(process).unwrap_or_else(|| panic!("no session"))
}

/// The same, if there is one.
#[must_use]
pub fn try_client<S: ShimUnderTest>(process: &Arc<Process>) -> Option<Client> {
    Client::open(&Nodes::<S>::new(process.clone()), Node::Unrestricted).ok()
}

/// How many sessions the driver has.
#[must_use]
pub fn sessions<S: ShimUnderTest>() -> usize {
    S::counters().map_or(0, |counters| counters.sessions)
}

/// A request without input, with its size in the code.
#[must_use]
pub fn vt_caps<S: ShimUnderTest>() -> Packet {
    Packet::bare(S::ENCODING, Function::VtCaps, size_of::<VtCapsOut>())
}

/// A request whose size isn't in the code.
#[must_use]
pub fn query_funcs<S: ShimUnderTest>(out_bytes: usize) -> Packet {
    Packet::bare(S::ENCODING, Function::QueryFuncs, out_bytes)
}

/// Of a good one.
pub const QUERY_FUNCS_BYTES: usize = size_of::<QueryFuncsOut>();

/// The unrestricted node.
pub const NAME: &str = "vboxdrv";
/// The restricted one.
pub const NAME_RESTRICTED: &str = "vboxdrvu";

/// A request as a descriptor's own process makes it.
///
/// # Errors
/// The error number.
pub fn call<S: ShimUnderTest>(
    fd: &S::Fd,
    process: &Arc<Process>,
    code: u32,
    packet: &mut [u8],
) -> Result<i32, i32> {
    S::ioctl(fd, process, code, packet.as_mut_ptr() as usize)
}

/// One of everything that a session can own, `own` being pages of the process.
///
/// # Panics
/// If a request fails.
pub fn hold_everything<S: ShimUnderTest>(client: &Client, own: &[u8]) -> Allocation {
    let pages = client.page_alloc(4, true).expect("pages");
    let unmapped = client.page_alloc(4, false);
    if S::HAS_UNMAPPED_PAGES {
        unmapped.expect("pages");
    } else {
        assert_eq!(unmapped.expect_err("no unmapped pages").status(), Some(VERR_NOT_SUPPORTED));
    }
    client.low_alloc(3).expect("low pages");
    client.cont_alloc(2).expect("contiguous pages");
    client.gip_map().expect("the time page");
    client.sem_create(EventType::Single).expect("a semaphore");
    let first = first_page(own);
    assert_eq!(client.page_lock(first, 1).expect("locked pages").len(), 1);
    let mapped = client.page_map_kernel(first, 0, PAGE as u32);
    if S::MAPS_LOCKED_PAGES {
        mapped.expect("a mapping of locked pages");
    } else {
        assert_eq!(mapped.expect_err("no mapping of locked pages").status(), Some(VERR_NOT_SUPPORTED));
    }
    pages
}

/// Mappings in the process that [`hold_everything`] makes.
#[must_use]
pub fn expected_mappings<S: ShimUnderTest>() -> usize {
    4 + usize::from(S::HAS_UNMAPPED_PAGES)
}

/// The first whole page of a block.
#[must_use]
pub fn first_page(own: &[u8]) -> usize {
    (own.as_ptr() as usize).next_multiple_of(PAGE)
}

/// Runs the conformance suite; its tally, printed case by case.
pub fn conformance(transport: &dyn Transport) -> supctl::suite::Tally {
    use supctl::suite::{self, Outcome};
    let tally = suite::run(transport, "", &mut |case, outcome| match outcome {
        Outcome::Pass => println!("ok      {}", case.title()),
        Outcome::Fail(reason) => println!("FAILED  {}: {reason}", case.title()),
        Outcome::NotAvailable(reason) => println!("skipped {}: {reason}", case.title()),
    });
    println!("{tally}");
    tally
}
