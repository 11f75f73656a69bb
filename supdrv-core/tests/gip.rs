//! The global info page: creation, users, CPUs that come and go, suspend, teardown.

#[path = "common/gip_page.rs"]
mod gip_page;

use std::sync::atomic::Ordering::Relaxed;

use gip_page::{assert_consistent, bytes, page};
use supdrv_core::abi::gip::{CPU_HZ_UNKNOWN, GIP_MAGIC, GIP_VERSION, MODE_ASYNC, MODE_SYNC};
use supdrv_core::abi::status::{
    VERR_ACCESS_DENIED, VERR_GENERAL_FAILURE, VERR_MAP_FAILED, VERR_MEMORY_BUSY, VERR_NO_CONT_MEMORY,
    VERR_NO_MEMORY, VERR_NOT_SUPPORTED, VERR_TIMER_ACTIVE, VERR_TOO_MANY_CPUS,
};
use supdrv_core::mock::replay::replay_on;
use supdrv_core::mock::{Call, Host, Kind, MockOs, replay};
use supdrv_core::os::{MemProt, MpEvent, SessionKind};

const INTERVAL_NS: u64 = 10_000_000;

fn async_machine(cpus: usize) -> MockOs {
    let os = MockOs::with_cpus(cpus);
    os.set_forced_async_tsc(true);
    os
}

fn users(host: &Host) -> (usize, u32, usize) {
    (host.counters().gip_users, host.view().gip_users.load(Relaxed), host.os().running_timers())
}

#[test]
fn a_new_page_is_complete_and_stands_still() {
    let os = MockOs::with_cpus(3);
    let host = Host::on(&os).expect("a driver");
    let (header, entries) = page(&host);
    assert_eq!((header.magic.load(Relaxed), header.version.load(Relaxed)), (GIP_MAGIC, GIP_VERSION));
    assert_eq!((header.mode.load(Relaxed), header.cpus.load(Relaxed)), (MODE_SYNC, 3));
    assert_eq!(header.last_update_hz_nano_ts.load(Relaxed), 0);
    assert_eq!([0, 1, 2, 3].map(|i| header.online_set[i].load(Relaxed)), [7, 0, 0, 0]);
    assert_eq!([0, 1, 2, 3].map(|i| header.present_set[i].load(Relaxed)), [7, 0, 0, 0]);
    assert_eq!([0, 1, 2, 3].map(|i| header.possible_set[i].load(Relaxed)), [7, 0, 0, 0]);
    let counts = [&header.online_count, &header.present_count, &header.possible_count];
    assert_eq!(counts.map(|count| count.load(Relaxed)), [3, 3, 3]);
    assert_eq!(header.max_cpu_id.load(Relaxed), 2);
    assert_eq!(header.cpu_from_apic_id[3].load(Relaxed), 0, "readers use unused slots unchecked");
    assert_eq!(header.cpu_from_set_index[3].load(Relaxed), 0xffff);
    for entry in entries {
        assert_eq!((entry.transaction_id.load(Relaxed), entry.cpu_hz.load(Relaxed)), (2, CPU_HZ_UNKNOWN));
    }
    let used = 0x500 + 3 * 0x80;
    assert!(bytes(&host)[used..].iter().all(|byte| *byte == 0), "nothing behind the last entry");
    assert_consistent(&host);
    assert_eq!(users(&host), (0, 0, 0));
}

#[test]
fn entries_that_no_cpu_has_are_marked_as_nobodys() {
    let os = MockOs::with_cpus(4);
    os.edit_cpu(2, |cpu| cpu.online = false);
    os.edit_cpu(3, |cpu| cpu.online = false);
    let host = Host::on(&os).expect("a driver");
    let (_, entries) = page(&host);
    for entry in &entries[2..] {
        assert_eq!((entry.state.load(Relaxed), entry.cpu_id.load(Relaxed)), (0, u32::MAX));
        assert_eq!((entry.set_index.load(Relaxed), entry.apic_id.load(Relaxed)), (u16::MAX, u16::MAX));
        assert_eq!(entry.interval_tsc.load(Relaxed), 42_949_672);
    }
    assert_consistent(&host);
}

/// While nobody uses the page, the driver does nothing to it, however much time passes.
#[test]
fn nothing_changes_the_page_while_nobody_uses_it() {
    for os in [MockOs::new(), async_machine(2)] {
        let host = Host::on(&os).expect("a driver");
        let before = bytes(&host);
        os.advance(10_000_000_000);
        assert!(bytes(&host) == before, "before the first user");
        let client = host.open();
        client.gip_map().expect("a mapping");
        os.advance(100 * INTERVAL_NS);
        assert!(bytes(&host) != before, "updates run for a user");
        client.gip_unmap().expect("no user any more");
        let after = bytes(&host);
        os.advance(10_000_000_000);
        assert!(bytes(&host) == after, "after the last user");
    }
}

#[test]
fn mapping_twice_is_mapping_once() {
    let host = Host::new();
    let client = host.open();
    let first = client.gip_map().expect("a mapping");
    assert_eq!(client.gip_map(), Ok(first));
    assert_eq!(users(&host), (1, 1, 1));
    assert_eq!(first.kernel, host.driver().gip().address());
    assert_eq!(first.phys % 0x1000, 0);
    client.gip_unmap().expect("unmapped");
    assert_eq!(users(&host), (0, 0, 0));
    client.gip_unmap().expect("unmapping nothing is fine");
}

#[test]
fn the_mapping_is_read_only_and_shows_the_page() {
    let host = Host::new();
    let client = host.open();
    let mapped = client.gip_map().expect("a mapping");
    assert_eq!(host.os().user_protection(mapped.user), Some(MemProt::READ));
    // SAFETY: mapped, readable, and as large as the page.
    let seen = unsafe { std::slice::from_raw_parts(mapped.user as *const u8, 0x1000) };
    assert!(seen == bytes(&host));
    let mut physical = vec![0; 0x1000];
    host.os().read_physical(mapped.phys, &mut physical);
    assert!(physical == seen);
}

#[test]
fn the_pages_of_a_large_page_are_contiguous() {
    let host: Host = Host::with_codes(256);
    let client = host.open();
    let mapped = client.gip_map().expect("a mapping");
    let expected = bytes(&host);
    assert_eq!(expected.len(), 9 * 0x1000);
    let mut physical = vec![0; expected.len()];
    host.os().read_physical(mapped.phys, &mut physical);
    assert!(physical == expected);
}

#[test]
fn updates_run_from_the_first_user_to_the_last() {
    let host = Host::new();
    let (first, second) = (host.open(), host.open());
    first.gip_map().expect("a mapping");
    second.gip_map().expect("a mapping");
    assert_eq!(users(&host), (2, 2, 1));
    first.gip_unmap().expect("unmapped");
    assert_eq!(users(&host), (1, 1, 1));
    // Closing is as good as unmapping.
    second.close();
    assert_eq!(users(&host), (0, 0, 0));
}

#[test]
fn a_user_without_a_mapping_counts_until_it_is_closed() {
    let host = Host::new();
    let kernel = host.open_as(SessionKind::Kernel).expect("a session");
    let mapped = host.driver().gip().map(kernel.session()).expect("a kernel session may use the page");
    assert_eq!(mapped.user, 0);
    assert_eq!(users(&host), (1, 1, 1));
    kernel.close();
    assert_eq!(users(&host), (0, 0, 0));

    let client = host.open();
    assert_eq!(host.driver().gip().hold(client.session()).expect("physical only").user, 0);
    assert_eq!(users(&host), (1, 1, 1));
    assert_ne!(client.gip_map().expect("a mapping after all").user, 0);
    assert_eq!(users(&host), (1, 1, 1));
    client.close();
    assert_eq!(users(&host), (0, 0, 0));
}

#[test]
fn only_the_sessions_own_process_gets_a_mapping() {
    let host = Host::new();
    let client = host.open();
    let stranger = host.os().new_process(1, 1);
    host.os().run_as(stranger, || assert_eq!(client.gip_map(), Err(VERR_ACCESS_DENIED)));
    assert_eq!(users(&host), (0, 0, 0));
}

#[test]
fn restricted_sessions_have_no_page() {
    let host = Host::new();
    assert_eq!(host.open_restricted().gip_map(), Err(VERR_GENERAL_FAILURE));
}

#[test]
fn a_failed_mapping_leaves_no_user() {
    let host = Host::new();
    let client = host.open();
    let request = supdrv_core::mock::Request::new(supdrv_core::abi::ioctl::Function::GipMap)
        .output::<supdrv_core::abi::requests::GipMapOut>();
    host.os().fail_next(Call::MemMapUser, VERR_MAP_FAILED);
    let reply = client.send(&request);
    assert_eq!((reply.call, reply.rc()), (Ok(()), VERR_MAP_FAILED));
    let output: supdrv_core::abi::requests::GipMapOut = reply.output();
    assert_eq!(({ output.r3 }, { output.r0 }, { output.phys }), (0, 0, u64::MAX));
    assert_eq!(users(&host), (0, 0, 0));
    assert_eq!(host.os().live(Kind::Mapping), 0);
    client.gip_map().expect("the next one works");
}

#[test]
fn a_timer_that_does_not_start_leaves_no_user_and_no_grant() {
    let os = MockOs::new();
    os.set_timer_granularity_ns(1_000_000, 500_000);
    let host = Host::on(&os).expect("a driver");
    let client = host.open();
    os.fail_next(Call::TimerStart, VERR_NO_MEMORY);
    assert_eq!(client.gip_map(), Err(VERR_NO_MEMORY));
    assert_eq!(users(&host), (0, 0, 0));
    assert_eq!((os.live(Kind::Granularity), os.live(Kind::Mapping)), (0, 0));
    client.gip_map().expect("the next one works");
    assert_eq!(users(&host), (1, 1, 1));
}

#[test]
fn a_timer_that_the_shell_has_started_already_is_fine() {
    let host = Host::new();
    let client = host.open();
    host.os().fail_next(Call::TimerStart, VERR_TIMER_ACTIVE);
    client.gip_map().expect("a mapping");
    assert_eq!(host.counters().gip_users, 1);
}

#[test]
fn a_mapping_that_can_not_be_removed_keeps_its_user() {
    let host = Host::new();
    let client = host.open();
    let mapped = client.gip_map().expect("a mapping");
    host.os().fail_next(Call::MemFree, VERR_MEMORY_BUSY);
    assert_eq!(client.gip_unmap(), Err(VERR_MEMORY_BUSY));
    assert_eq!(users(&host), (1, 1, 1));
    assert_eq!(client.gip_map(), Ok(mapped), "it is still there");
    client.gip_unmap().expect("the second attempt works");
    assert_eq!(users(&host), (0, 0, 0));
}

#[test]
fn a_closing_session_stops_counting_even_if_its_mapping_can_not_be_removed() {
    let host = Host::new();
    let client = host.open();
    client.gip_map().expect("a mapping");
    host.os().fail_next(Call::MemFree, VERR_MEMORY_BUSY);
    // The process can still see the pages: neither they nor the mapping may be freed any more.
    host.os().forgive(Kind::Mapping, 1);
    host.os().forgive(Kind::Memory, 1);
    client.close();
    assert_eq!(users(&host), (0, 0, 0));
}

#[test]
fn finer_timers_are_wanted_while_updates_run() {
    for (finest, granted) in [(900_000, 976_563), (1_000_000, 1_000_000), (0, 0)] {
        let os = MockOs::new();
        os.set_timer_granularity_ns(1_000_000, finest);
        let host = Host::on(&os).expect("a driver");
        let client = host.open();
        client.gip_map().expect("a mapping");
        assert_eq!(host.view().timer_granularity_grant.load(Relaxed), granted);
        client.close();
        assert_eq!(host.view().timer_granularity_grant.load(Relaxed), 0);
        assert_eq!(os.live(Kind::Granularity), 0);
    }
}

#[test]
fn a_restart_continues_at_the_next_multiple_of_4096() {
    let host = Host::new();
    let client = host.open();
    client.gip_map().expect("a mapping");
    for _ in 0..6 {
        host.os().advance(INTERVAL_NS);
    }
    let (_, entries) = page(&host);
    let id = entries[0].transaction_id.load(Relaxed);
    assert!(id > 2 && id < 0x1000 && id % 2 == 0, "{id}");
    client.gip_unmap().expect("unmapped");
    assert_eq!(entries[0].transaction_id.load(Relaxed), id);
    client.gip_map().expect("a mapping");
    assert_eq!(entries[0].transaction_id.load(Relaxed), 0x1000);
}

#[test]
fn the_frequency_is_known_by_the_third_tick() {
    for (os, entries_in_use) in [(MockOs::with_cpus(2), 1), (async_machine(2), 2)] {
        os.set_tsc_step(0);
        os.edit_cpus(|cpu| cpu.tsc_hz = 2_400_000_000);
        let host = Host::on(&os).expect("a driver");
        let client = host.open();
        client.gip_map().expect("a mapping");
        os.advance(0);
        os.advance(INTERVAL_NS);
        os.advance(INTERVAL_NS);
        for entry in &page(&host).1[..entries_in_use] {
            assert_eq!(entry.cpu_hz.load(Relaxed), 2_400_000_000);
            assert_eq!(entry.interval_tsc.load(Relaxed), 24_187_500);
        }
    }
}

#[test]
fn a_machine_with_more_than_256_possible_cpus_is_fine_if_its_tscs_run_in_step() {
    let os = MockOs::new();
    os.set_cpu_array_size(257);
    let host = Host::on(&os).expect("a driver");
    assert_eq!(page(&host).0.cpus.load(Relaxed), 256);
    assert_eq!(page(&host).0.mode.load(Relaxed), MODE_SYNC);
    drop(host);

    let os = async_machine(2);
    os.set_cpu_array_size(257);
    assert_eq!(Host::on(&os).map(drop), Err(VERR_TOO_MANY_CPUS));
    os.set_cpu_array_size(256);
    assert!(Host::on(&os).is_ok());
}

#[test]
fn without_timers_for_all_cpus_the_mode_is_synchronous() {
    let os = async_machine(2);
    assert_eq!(page(&Host::on(&os).expect("a driver")).0.mode.load(Relaxed), MODE_ASYNC);
    os.set_cpu_timers(false);
    assert_eq!(page(&Host::on(&os).expect("a driver")).0.mode.load(Relaxed), MODE_SYNC);
}

#[test]
fn cpus_that_readers_can_not_tell_apart_make_the_mode_synchronous() {
    let os = async_machine(3);
    os.edit_cpu(2, |cpu| cpu.apic_id = 0);
    let host = Host::on(&os).expect("a driver");
    assert_eq!(page(&host).0.mode.load(Relaxed), MODE_SYNC);
    assert!(os.log().iter().any(|line| line.contains("APIC")), "{:?}", os.log());
}

#[test]
fn the_kernels_own_opinion_of_the_tsc_counts() {
    let skewed = || {
        let os = MockOs::new();
        os.edit_cpu(1, |cpu| cpu.tsc_frozen = Some(1));
        os
    };
    let mode = |os: &MockOs| page(&Host::on(os).expect("a driver")).0.mode.load(Relaxed);
    let os = skewed();
    assert_eq!(mode(&os), MODE_ASYNC, "measured");
    os.set_tsc_trusted(Some(true));
    assert_eq!(mode(&os), MODE_SYNC, "invariant and trusted: not measured");
    let os = MockOs::new();
    os.set_tsc_trusted(Some(false));
    assert_eq!(mode(&os), MODE_ASYNC, "declared unfit");
}

#[test]
fn cpus_that_are_off_line_do_not_count_in_the_measurement() {
    let os = MockOs::with_cpus(3);
    os.edit_cpu(1, |cpu| (cpu.online, cpu.tsc_frozen) = (false, Some(1)));
    assert_eq!(page(&Host::on(&os).expect("a driver")).0.mode.load(Relaxed), MODE_SYNC);
}

#[test]
fn creation_fails_with_the_status_of_what_failed_and_leaves_nothing() {
    let cases = [
        (Call::MemAlloc, VERR_NO_CONT_MEMORY),
        (Call::TimerCreate, VERR_NO_MEMORY),
        (Call::MpRegister, VERR_NO_MEMORY),
        (Call::MpOnAll, VERR_NOT_SUPPORTED),
    ];
    for (call, status) in cases {
        let os = MockOs::new();
        os.fail_next(call, status);
        assert_eq!(Host::on(&os).map(drop), Err(status), "{call:?}");
        os.assert_nothing_leaked();
        assert!(Host::on(&os).is_ok(), "the next attempt works");
    }
}

#[test]
fn cpus_get_their_entries_back() {
    let os = async_machine(4);
    let host = Host::on(&os).expect("a driver");
    let client = host.open();
    client.gip_map().expect("a mapping");
    os.advance(5 * INTERVAL_NS);
    os.set_online(2, false);
    let (header, entries) = page(&host);
    let entry = usize::from(header.cpu_from_set_index[2].load(Relaxed));
    assert_eq!((entries[entry].state.load(Relaxed), entries[entry].cpu_id.load(Relaxed)), (2, 2));
    assert_eq!(header.present_set[0].load(Relaxed), 0xf, "it is still present");
    assert_consistent(&host);
    let id = entries[entry].transaction_id.load(Relaxed);
    os.advance(5 * INTERVAL_NS);
    assert_eq!(entries[entry].transaction_id.load(Relaxed), id, "nobody updates it");
    os.set_online(2, true);
    assert_eq!(usize::from(header.cpu_from_set_index[2].load(Relaxed)), entry);
    assert_eq!(entries[entry].cpu_hz.load(Relaxed), CPU_HZ_UNKNOWN);
    assert_consistent(&host);
    os.advance(5 * INTERVAL_NS);
    assert_ne!(entries[entry].cpu_hz.load(Relaxed), CPU_HZ_UNKNOWN);
}

#[test]
fn the_lowest_on_line_cpu_succeeds_the_master() {
    let os = async_machine(4);
    os.edit_cpu(0, |cpu| cpu.online = false);
    let host = Host::on(&os).expect("a driver");
    let master = || host.view().gip_master.load(Relaxed);
    assert_eq!(master(), 1, "the lowest that is on-line");
    os.set_online(0, true);
    assert_eq!(master(), 1, "nobody takes over without need");
    os.set_online(1, false);
    assert_eq!(master(), 0);
    os.set_online(2, false);
    assert_eq!(master(), 0);
    os.set_online(3, false);
    // The last one: nobody is left.
    os.deliver_event(MpEvent::Offline, 0);
    assert_eq!(master(), u32::MAX);
    os.set_online(3, true);
    assert_eq!(master(), 3, "whoever comes first");
}

/// A master that comes back counts its updates from the beginning: what it began to measure before is no measurement.
#[test]
fn half_a_measurement_is_none() {
    let os = async_machine(2);
    os.set_tsc_step(0);
    let host = Host::on(&os).expect("a driver");
    let client = host.open();
    client.gip_map().expect("a mapping");
    let (header, _) = page(&host);
    // To the middle of the first measurement.
    for _ in 0..2048 + 1000 {
        os.advance(INTERVAL_NS);
    }
    assert_ne!(header.last_update_hz_nano_ts.load(Relaxed), 0, "it runs");
    // An attempt to take the master off-line fails.
    os.deliver_event(MpEvent::Online, 0);
    for _ in 0..2 * 2048 + 100 {
        os.advance(INTERVAL_NS);
        let told = (header.update_hz.load(Relaxed), header.update_interval_ns.load(Relaxed));
        assert_eq!(told, (100, 10_000_000));
    }
}

#[test]
fn only_the_master_measures() {
    let os = async_machine(3);
    let host = Host::on(&os).expect("a driver");
    let client = host.open();
    client.gip_map().expect("a mapping");
    os.set_online(0, false);
    let (header, _) = page(&host);
    for _ in 0..2050 {
        os.fire_timers_on(2);
    }
    assert_eq!(header.last_update_hz_nano_ts.load(Relaxed), 0);
    for _ in 0..2050 {
        os.fire_timers_on(1);
    }
    assert_ne!(header.last_update_hz_nano_ts.load(Relaxed), 0);
}

#[test]
fn an_unknown_cpu_going_off_line_changes_nothing() {
    let os = async_machine(3);
    os.edit_cpu(2, |cpu| cpu.online = false);
    let host = Host::on(&os).expect("a driver");
    let before = bytes(&host);
    os.deliver_event(MpEvent::Offline, 2);
    assert!(bytes(&host) == before);
    // And the lock isn't left held.
    os.set_online(2, true);
    assert_consistent(&host);
}

#[test]
fn a_tick_may_come_before_its_cpu_is_announced() {
    let os = async_machine(2);
    os.edit_cpu(1, |cpu| cpu.online = false);
    let host = Host::on(&os).expect("a driver");
    let client = host.open();
    client.gip_map().expect("a mapping");
    os.edit_cpu(1, |cpu| cpu.online = true);
    os.fire_timers_on(1);
    assert_consistent(&host);
    assert_eq!(page(&host).1[1].transaction_id.load(Relaxed), 4);
}

#[test]
fn all_256_cpus_have_entries() {
    let os = async_machine(256);
    let host = Host::on(&os).expect("a driver");
    assert_consistent(&host);
    let client = host.open();
    client.gip_map().expect("a mapping");
    os.advance(5 * INTERVAL_NS);
    assert!(page(&host).1.iter().all(|entry| entry.cpu_hz.load(Relaxed) != CPU_HZ_UNKNOWN));
    for index in (1..256).step_by(2) {
        os.set_online(index, false);
    }
    assert_consistent(&host);
    for index in (1..256).rev().step_by(2) {
        os.set_online(index, true);
    }
    assert_consistent(&host);
    os.advance(5 * INTERVAL_NS);
    assert_consistent(&host);
}

/// All CPUs come at once, on threads of their own.
#[test]
fn cpus_that_come_together_get_different_entries() {
    const CPUS: usize = 64;
    let os = async_machine(CPUS);
    (1..CPUS).for_each(|index| os.edit_cpu(index, |cpu| cpu.online = false));
    let host = Host::on(&os).expect("a driver");
    for _ in 0..8 {
        std::thread::scope(|scope| {
            for index in 1..CPUS {
                let os = &os;
                scope.spawn(move || os.set_online(index, true));
            }
        });
        assert_consistent(&host);
        std::thread::scope(|scope| {
            for index in 1..CPUS {
                let os = &os;
                scope.spawn(move || os.set_online(index, false));
            }
        });
        assert_consistent(&host);
        assert_eq!(host.view().gip_master.load(Relaxed), 0);
    }
}

#[test]
fn a_cpu_beyond_the_tables_takes_no_entry_from_the_others() {
    let os = async_machine(4);
    let host = Host::on(&os).expect("a driver");
    assert_consistent(&host);
    // Its number changes: there is no entry left for the new one.
    os.set_online(3, false);
    os.edit_cpu(3, |cpu| cpu.id = 1000);
    os.set_online(3, true);
    assert!(os.log().iter().any(|line| line.contains("no entry")), "{:?}", os.log());
    os.advance(3 * INTERVAL_NS);
}

#[test]
fn a_synchronous_page_survives_its_first_cpu() {
    let os = MockOs::with_cpus(2);
    os.set_tsc_trusted(Some(true));
    os.set_tsc_step(0);
    let host = Host::on(&os).expect("a driver");
    let client = host.open();
    client.gip_map().expect("a mapping");
    os.advance(10 * INTERVAL_NS);
    let clock = || {
        let entry = &page(&host).1[0];
        [entry.nano_ts.load(Relaxed), entry.tsc.load(Relaxed), entry.cpu_hz.load(Relaxed)]
    };
    let before = clock();
    os.set_online(0, false);
    os.set_online(0, true);
    assert_eq!(clock(), before, "everybody reads it");
    os.advance(10 * INTERVAL_NS);
    assert_eq!(page(&host).1[0].cpu_hz.load(Relaxed), 2_000_000_000);
    assert_consistent(&host);
}

#[test]
fn the_page_recovers_from_a_host_suspend_at_once() {
    for (os, entries_in_use) in [(MockOs::with_cpus(2), 1), (async_machine(2), 2)] {
        os.set_tsc_step(0);
        let host = Host::on(&os).expect("a driver");
        let client = host.open();
        client.gip_map().expect("a mapping");
        os.advance(10 * INTERVAL_NS);
        // The TSCs start over; the clock stood still.
        let now = os.now_ns();
        os.edit_cpus(|cpu| cpu.tsc_offset = -((now * 2) as i64));
        host.driver().gip().resumed();
        os.advance(5 * INTERVAL_NS);
        let (header, entries) = page(&host);
        for entry in &entries[..entries_in_use] {
            assert_eq!(entry.errors.load(Relaxed), 0);
            assert_eq!(entry.cpu_hz.load(Relaxed), 2_000_000_000);
            assert!(entry.transaction_id.load(Relaxed) > 0x1000);
        }
        assert_eq!(header.last_update_hz_nano_ts.load(Relaxed) % INTERVAL_NS, 0);
        assert_eq!(users(&host), (1, 1, 1));
    }
    let host = Host::new();
    let before = bytes(&host);
    host.driver().gip().resumed();
    assert!(bytes(&host) == before, "nothing to do without users");
}

#[test]
fn a_timer_that_does_not_restart_after_a_suspend_is_reported() {
    let host = Host::new();
    let client = host.open();
    client.gip_map().expect("a mapping");
    host.os().fail_next(Call::TimerStart, VERR_NO_MEMORY);
    host.driver().gip().resumed();
    assert!(host.os().log().iter().any(|line| line.contains("restarted")), "{:?}", host.os().log());
}

#[test]
fn teardown_silences_everything_before_the_page_goes() {
    let os = MockOs::new();
    let mut host = Host::on(&os).expect("a driver");
    assert_ne!(host.view().gip.load(Relaxed), 0);
    os.start_trace();
    host.delete().expect("no sessions");
    let trace = os.take_trace();
    let position = |call: Call| trace.iter().position(|other| *other == call).expect("it happened");
    assert!(position(Call::MpDeregister) < position(Call::TimerDestroy));
    assert!(position(Call::TimerDestroy) < position(Call::MemFree));
    assert_eq!(host.view().gip.load(Relaxed), 0);
    assert_eq!(host.view().gip_users.load(Relaxed), 0);
}

#[test]
fn every_failure_of_creation_and_use_is_survived() {
    for prepare in [MockOs::new, || async_machine(2)] {
        let replayed = replay_on(prepare, |os| {
            os.set_timer_granularity_ns(1_000_000, 500_000);
            let host = Host::on(os)?;
            let client = host.step(|| host.open_as(SessionKind::User));
            host.step(|| client.gip_map());
            os.advance(3 * INTERVAL_NS);
            host.step(|| client.gip_unmap());
            host.step(|| client.gip_map());
            Ok(())
        });
        assert!(replayed.calls > 15, "{replayed:?}");
    }
    let replayed = replay(|os| {
        let host = Host::on(os)?;
        let kernel = host.step(|| host.open_as(SessionKind::Kernel));
        host.step(|| host.driver().gip().map(kernel.session()));
        host.driver().gip().resumed();
        Ok(())
    });
    assert!(replayed.survived > 0, "{replayed:?}");
}

#[test]
fn map_and_unmap_race_without_losing_a_user() {
    let host = Host::new();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..200 {
                    let client = host.open();
                    client.gip_map().expect("a mapping");
                    client.gip_unmap().expect("unmapped");
                    client.gip_map().expect("a mapping");
                }
            });
        }
        scope.spawn(|| {
            for _ in 0..500 {
                host.os().advance(INTERVAL_NS);
            }
        });
    });
    assert_eq!(users(&host), (0, 0, 0));
}
